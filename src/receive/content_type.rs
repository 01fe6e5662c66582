//! Content type and content encoding of a request's body, read from its headers.
//!
//! **Invariant:** names are case-insensitive, and parameters such as `; charset=utf-8` are ignored, as decoding checks
//! that every text is UTF-8.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};

use crate::error::Error;
use crate::event::ContentEncoding;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const GRPC: &str = "application/grpc";

/// The content types that endpoints distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    NdJson,
    Protobuf,
    /// `application/grpc`, or the same with `+proto`.
    Grpc,
    /// `text/plain`.
    Text,
    /// `application/x-www-form-urlencoded`, which curl sends with `-d`.
    Form,
    Missing,
    Other,
}

impl MediaType {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            return Self::Missing;
        };
        let essence = value.as_bytes().split(|byte| *byte == b';').next();
        let essence = essence.unwrap_or_default().trim_ascii();
        let named = [
            (JSON, Self::Json),
            (PROTOBUF, Self::Protobuf),
            (GRPC, Self::Grpc),
            ("application/grpc+proto", Self::Grpc),
            ("application/x-ndjson", Self::NdJson),
            ("text/plain", Self::Text),
            ("application/x-www-form-urlencoded", Self::Form),
            ("", Self::Missing),
        ];
        named
            .into_iter()
            .find(|(name, _)| essence.eq_ignore_ascii_case(name.as_bytes()))
            .map_or(Self::Other, |(_, media)| media)
    }
}

/// Returns the content encoding in the header `name`. `zlib` is an alias of deflate, `x-gzip` of gzip (RFC 9110,
/// section 8.4.1).
///
/// # Errors
/// [`Error::ContentEncoding`] if the encoding is unknown, or there is more than one.
pub(crate) fn content_encoding(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<ContentEncoding, Error> {
    let mut values = headers.get_all(name).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(ContentEncoding::Identity),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(Error::ContentEncoding),
    };
    let named: [(&[u8], _); 7] = [
        (b"", ContentEncoding::Identity),
        (b"identity", ContentEncoding::Identity),
        (b"gzip", ContentEncoding::Gzip),
        (b"x-gzip", ContentEncoding::Gzip),
        (b"zstd", ContentEncoding::Zstd),
        (b"deflate", ContentEncoding::Deflate),
        (b"zlib", ContentEncoding::Deflate),
    ];
    let name = value.as_bytes().trim_ascii();
    named
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, encoding)| encoding)
        .ok_or(Error::ContentEncoding)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_ENCODING;

    use super::{CONTENT_TYPE, ContentEncoding, HeaderMap, MediaType, content_encoding};

    #[test]
    fn content_types_are_known_in_any_case_and_with_parameters() {
        for (value, media) in [
            ("application/json", MediaType::Json),
            ("Application/JSON; charset=UTF-8", MediaType::Json),
            (" application/x-protobuf ;x=y", MediaType::Protobuf),
            ("application/x-ndjson", MediaType::NdJson),
            ("application/grpc", MediaType::Grpc),
            ("application/grpc+proto; charset=utf-8", MediaType::Grpc),
            ("application/grpc+json", MediaType::Other),
            ("application/grpc-web", MediaType::Other),
            ("application/jsonp", MediaType::Other),
            ("; charset=utf-8", MediaType::Missing),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(MediaType::of(&headers), media, "{value}");
        }
        assert_eq!(MediaType::of(&HeaderMap::new()), MediaType::Missing);
    }

    #[test]
    fn one_known_content_encoding_is_accepted_and_no_chain() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            content_encoding(&headers, &CONTENT_ENCODING).ok()
        };
        assert_eq!(read(&[]), Some(ContentEncoding::Identity));
        assert_eq!(read(&["GZIP"]), Some(ContentEncoding::Gzip));
        assert_eq!(read(&["zlib"]), Some(ContentEncoding::Deflate));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["gzi"]] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }
}
