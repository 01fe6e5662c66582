//! Answers in the format that the client expects, a success or an error.
//!
//! **Invariant:** an error has the format that a success would have had.

use std::io::Write;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::decode::{Rejection, UnknownMemberFate, UnknownMemberReport};
use crate::error::{Error, retry_after};
use crate::receive::content_type::{self, MediaType};
use crate::receive::otlp_status::{OtlpStatus, TEXT_BYTES, fitting};
use crate::receive::protocol::grpc;
use crate::text::cut;

/// Header with the value `unknown` if the events of a request that failed may be stored all the same.
const OUTCOME: HeaderName = HeaderName::from_static("ruvvector-outcome");

/// The format of the answer that a client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseFormat {
    pub(crate) shape: BodyFormat,
    /// The answer is compressed with gzip; only OTLP's answers are.
    gzip: bool,
}

/// The format of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    /// JSON: `{"error": …}`, with problems identified by the event's index.
    Native,
    /// The same for NDJSON, with problems identified by the line's number.
    NativeLines,
    OtlpProtobuf,
    OtlpJson,
    /// A gRPC message and its status in the trailers, or the status alone.
    Grpc,
}

impl ResponseFormat {
    /// Returns the format for a request with this version, path and headers.
    ///
    /// On OTLP's paths it is JSON if the content type names neither protobuf nor gRPC. gRPC needs HTTP/2.
    pub(crate) fn of(version: Version, path: &str, headers: &HeaderMap) -> Self {
        if path == "/" || is_of_a_signal(path) {
            return Self::otlp(version, headers);
        }
        let shape = match MediaType::of(headers) {
            MediaType::Grpc if version == Version::HTTP_2 => BodyFormat::Grpc,
            MediaType::Protobuf => BodyFormat::OtlpProtobuf,
            MediaType::NdJson => BodyFormat::NativeLines,
            _ => BodyFormat::Native,
        };
        Self { shape, gzip: false }
    }

    /// Returns the format for a request to a path or a port of OTLP.
    pub(crate) fn otlp(version: Version, headers: &HeaderMap) -> Self {
        let shape = match MediaType::of(headers) {
            MediaType::Grpc if version == Version::HTTP_2 => BodyFormat::Grpc,
            MediaType::Protobuf => BodyFormat::OtlpProtobuf,
            _ => BodyFormat::OtlpJson,
        };
        let gzip = accepts_gzip(headers);
        Self { shape, gzip }
    }

    pub(crate) const NATIVE: Self = Self {
        shape: BodyFormat::Native,
        gzip: false,
    };
}

/// Returns `true` if OTLP has a signal at this path, including profiles, which are still in development. Exporters
/// whose endpoint ends in a slash send to `//v1/…`.
pub(crate) fn is_of_a_signal(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    path.starts_with("v1/") || path.starts_with("v1development/")
}

/// Returns a success with this body; for gRPC, with this message.
pub(crate) fn success(form: ResponseFormat, body: impl Into<Bytes>) -> Response {
    match form.shape {
        BodyFormat::Grpc => grpc::answer::success(&body.into()),
        _ => answer(StatusCode::OK, form, body.into()),
    }
}

/// Returns the answer to an error: its status, its headers, and a body with the reason.
pub(crate) fn error(error: &Error, form: ResponseFormat) -> Response {
    let facts = error.facts();
    let retry_after_s = facts.is_retryable.then(retry_after::retry_after_s);
    let status = || OtlpStatus::of(error, retry_after_s);
    let body: Bytes = match form.shape {
        BodyFormat::OtlpProtobuf => status().to_protobuf().into(),
        BodyFormat::OtlpJson => status().to_json().into(),
        BodyFormat::Native | BodyFormat::NativeLines => native(error, form).into(),
        BodyFormat::Grpc => return grpc::answer::error(error, &status()),
    };
    let mut answer = answer(facts.status, form, body);
    let headers = answer.headers_mut();
    if let Some(seconds) = retry_after_s {
        headers.insert(RETRY_AFTER, u16::from(seconds).into());
    }
    let (name, value) = match error {
        Error::Unauthenticated => (WWW_AUTHENTICATE, "Bearer"),
        Error::Method { allow } => (ALLOW, *allow),
        Error::ContentEncoding => (ACCEPT_ENCODING, "gzip, zstd, deflate, identity"),
        Error::Unknown => (OUTCOME, "unknown"),
        // The rest of the request is not read, or cannot be distinguished from the next request.
        Error::SlowBody
        | Error::SlowExport
        | Error::TooLarge { .. }
        | Error::LargeHeaders { .. }
        | Error::HostHeader { .. }
        | Error::HostValue
        | Error::TransferCoding => (CONNECTION, "close"),
        _ => return answer,
    };
    headers.insert(name, HeaderValue::from_static(value));
    answer
}

/// Returns `{"error": …}`, with the numbers of events and the problems if the body was decoded.
fn native(error: &Error, form: ResponseFormat) -> String {
    let text = error.to_string();
    let text = cut(&text, TEXT_BYTES);
    let body = match error {
        Error::Malformed { .. } => {
            json!({ "error": text, "accepted": 0, "rejected": 0, "problems": [] })
        }
        Error::Invalid(checked) => json!({
            "error": text,
            "accepted": 0,
            "rejected": checked.accepted.saturating_add(checked.rejected),
            "problems": problems(&checked.rejections, form),
        }),
        Error::Parameter { name, .. } => json!({ "error": text, "parameter": name }),
        _ => json!({ "error": text }),
    };
    body.to_string()
}

/// Returns as many rejections as fit into an answer: `[{"index": n, "field": …, "reason": …}]`, for NDJSON with `line`
/// instead of `index`.
pub(crate) fn problems(rejections: &[Rejection], form: ResponseFormat) -> Value {
    let place = match form.shape {
        BodyFormat::NativeLines => "line",
        _ => "index",
    };
    fitting(rejections, |rejection| {
        let reason = cut(&rejection.reason, TEXT_BYTES);
        json!({ place: rejection.index, "field": rejection.field, "reason": reason })
    })
    .into()
}

/// Adds the names of unknown members, and a sentence about them, to the answer. Both are shorter if the answer also has
/// problems of `rejected` events.
pub(crate) fn add_unknown(answer: &mut Value, unknown: &UnknownMemberReport, rejected: u32) {
    let (names_bytes, message_bytes) = match rejected {
        0 => (2_000, 700),
        _ => (330, 250),
    };
    let mut left = names_bytes;
    let names = unknown.names.iter().map_while(|unknown| {
        let name = Value::from(unknown.name.as_str());
        left = usize::checked_sub(left, name.to_string().len() + 1)?;
        Some(name)
    });
    answer["unknown"] = names.collect();
    answer["message"] = cut(&unknown_message(unknown), message_bytes).into();
}

/// Describes the unknown members in a sentence, with the hints first, as the rest may be cut.
fn unknown_message(unknown: &UnknownMemberReport) -> String {
    let names = || unknown.names.iter();
    let hints: Vec<_> = names()
        .filter_map(|unknown| Some(format!("{} for {}", unknown.meant?, unknown.name)))
        .collect();
    let left_out: Vec<_> = names()
        .filter(|unknown| unknown.fate == UnknownMemberFate::LeftOut)
        .map(|unknown| unknown.name.as_str())
        .collect();
    let mut parts = Vec::new();
    if !hints.is_empty() {
        parts.push(format!("did you mean {}?", hints.join(", ")));
    }
    if unknown.kept > 0 {
        parts.push("Unknown fields are kept in metadata.".to_owned());
    }
    if !left_out.is_empty() {
        parts.push(format!(
            "Left out, as metadata has that key or has no room for it: {}.",
            left_out.join(", ")
        ));
    }
    parts.join(" ")
}

fn answer(status: StatusCode, form: ResponseFormat, body: Bytes) -> Response {
    let content_type = match form.shape {
        BodyFormat::OtlpProtobuf => content_type::PROTOBUF,
        _ => content_type::JSON,
    };
    let gzip = form.gzip && !body.is_empty();
    let body = if gzip { compress(&body) } else { body };
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static(content_type))];
    let mut answer = (status, content_type, Body::from(body)).into_response();
    if gzip {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Returns `true` if `Accept-Encoding` has gzip without `q=0` (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=");
            let never = weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32));
            name.trim().eq_ignore_ascii_case("gzip") && !never
        })
}

fn compress(body: &Bytes) -> Bytes {
    /// The compressed body of every full success in JSON.
    static EMPTY_OBJECT: LazyLock<Bytes> = LazyLock::new(|| gzip(b"{}"));
    if **body == *b"{}" {
        EMPTY_OBJECT.clone()
    } else {
        gzip(body)
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
        .into()
}

#[cfg(test)]
mod tests {
    use super::{ACCEPT_ENCODING, Error, HeaderMap, HeaderValue, ResponseFormat, accepts_gzip};

    #[test]
    fn gzip_is_used_only_when_asked_for() {
        for (value, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.clone())]);
            assert_eq!(accepts_gzip(&headers), accepted, "{value:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_may_pass_is_503_with_a_wait_and_only_the_unknown_is_marked_so() {
        let refused = |error: &Error| {
            let answer = super::error(error, ResponseFormat::NATIVE);
            let told = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
            let status = answer.status().as_u16();
            (status, told("retry-after"), told("ruvvector-outcome"))
        };
        let waits = ["2", "3"].map(|seconds| Some(seconds.to_owned()));
        let unknown = Some("unknown".to_owned());
        for (error, outcome) in [
            (Error::unavailable("full"), None),
            (Error::Unknown, unknown),
        ] {
            let (status, wait, told) = refused(&error);
            assert_eq!((status, told), (503, outcome));
            assert!(waits.contains(&wait), "{wait:?}");
        }
        let large = Error::TooLarge { limit_bytes: 1 };
        assert_eq!(refused(&large), (413, None, None));
        assert_eq!(refused(&Error::KeyReused), (422, None, None));
        assert_eq!(refused(&Error::IdempotencyKey), (400, None, None));
    }
}
