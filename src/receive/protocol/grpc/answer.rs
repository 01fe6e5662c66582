//! The answer to a gRPC call: a message and the status OK, or a status alone ("Responses": Trailers-Only).
//!
//! **Invariant:** the headers of an error fit into 8 KiB, the most that some clients accept as trailers.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::error::Error;
use crate::receive::content_type::GRPC;
use crate::receive::otlp_status::OtlpStatus;

pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `google.rpc.Status`, with details.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// `google.rpc.RetryInfo` alone, for clients that do not read details.
const RETRY_INFO: HeaderName = HeaderName::from_static("google.rpc.retryinfo-bin");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const OUTCOME: HeaderName = HeaderName::from_static("ruvvector-outcome");

/// Maximum length of `grpc-message` in its encoded form; the details hold more.
const MESSAGE_BYTES: usize = 1 << 10;

/// Returns an answer with this message, uncompressed, and the status OK.
pub(crate) fn success(message: &[u8]) -> Response {
    let length = u32::try_from(message.len()).expect("no answer is longer than 4 KiB");
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let frames = [Frame::data(framed.freeze()), Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, Infallible>));
    head(Body::new(StreamBody::new(frames)))
}

/// Returns an answer with the error's code, its message and its details, such as the time of a retry.
pub(crate) fn error(error: &Error, status: &OtlpStatus) -> Response {
    let mut answer = head(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(STATUS, (error.facts().rpc_code as i32).into());
    headers.insert(MESSAGE, percent_encoded(&error.to_string()));
    headers.insert(DETAILS, binary(&status.to_protobuf()));
    if let Some(retry_info) = status.retry_info() {
        headers.insert(RETRY_INFO, binary(&retry_info));
    }
    if matches!(error, Error::Unknown) {
        headers.insert(OUTCOME, HeaderValue::from_static("unknown"));
    }
    answer
}

fn head(body: Body) -> Response {
    let encodings = HeaderValue::from_static("identity,gzip,zstd,deflate");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(GRPC)),
        (ACCEPT_ENCODING, encodings),
    ];
    (headers, body).into_response()
}

/// Encodes a text ("Percent-Encoded"): printable ASCII except `%` is unchanged. A long text is cut between characters,
/// never within an escape.
fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::new();
    for character in text.chars() {
        let mut escaped = String::new();
        if matches!(character, ' '..='~') && character != '%' {
            escaped.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        if encoded.len() + escaped.len() > MESSAGE_BYTES {
            break;
        }
        encoded.push_str(&escaped);
    }
    HeaderValue::try_from(encoded).expect("printable ASCII is a header's value")
}

/// Encodes a binary header in base64 without padding ("Custom-Metadata": Binary-Header).
fn binary(message: &[u8]) -> HeaderValue {
    let encoded = Bytes::from(STANDARD_NO_PAD.encode(message));
    HeaderValue::from_maybe_shared(encoded).expect("base64 is a header's value")
}

#[cfg(test)]
mod tests {
    use super::{Error, HeaderMap, OtlpStatus, error, percent_encoded};
    use crate::decode::{DecodeReport, Rejection};

    fn bytes(headers: &HeaderMap) -> usize {
        // RFC 9113, section 6.5.2: 32 bytes per field in addition to name and value.
        let size = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            name.as_str().len() + value.len() + 32
        };
        headers.iter().map(size).sum()
    }

    #[test]
    fn a_message_is_printable_ascii_and_cut_between_escapes() {
        assert_eq!(percent_encoded("plain ~ text"), "plain ~ text");
        assert_eq!(percent_encoded("100 %\r\né"), "100 %25%0D%0A%C3%A9");
        let long = percent_encoded(&"é".repeat(2000));
        assert_eq!(long.len(), 1020);
        assert!(long.as_bytes().ends_with(b"%C3%A9"));
    }

    #[test]
    fn the_longest_status_fits_what_clients_take_of_trailers() {
        let rejections = (0..20)
            .map(|index| Rejection {
                index,
                field: Some("traceId".to_owned()),
                reason: "é".repeat(500),
            })
            .collect();
        let invalid = Error::Invalid(Box::new(DecodeReport {
            rejected: 20,
            rejections,
            ..DecodeReport::default()
        }));
        let malformed = Error::malformed("é".repeat(5000));
        for long in [invalid, malformed] {
            let answer = error(&long, &OtlpStatus::of(&long, None));
            assert!(bytes(answer.headers()) < 8 << 10, "{long:?}");
        }
    }
}
