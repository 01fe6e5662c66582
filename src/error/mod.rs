//! The errors that HTTP and gRPC requests are answered with.
//!
//! **Invariant:** the match to a status is total, and no variant is 500: a failure of this process is 503, so that a
//! client keeps its data and retries.

use axum::http::StatusCode;

use crate::decode::{DecodeError, DecodeReport};
use crate::telemetry::own_traces::SpanError;

/// The reason for which a request is not answered with success. Each variant names the HTTP status that it becomes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the body does not match its content type or content encoding, or is cut short. `offset` is the byte of the
    /// decompressed body at which decoding failed, if known; `message` names it.
    #[error("{message}")]
    Malformed {
        message: String,
        offset: Option<usize>,
    },
    /// 400: well formed, but no item of it is accepted.
    #[error("{} of {} items are invalid", .0.rejected, .0.rejected.saturating_add(.0.accepted))]
    Invalid(Box<DecodeReport>),
    /// 400: a query parameter is unknown, repeated, or has an invalid value.
    #[error("{reason}")]
    Parameter { name: String, reason: String },
    /// 400: the `Idempotency-Key` is repeated, empty, longer than 255 bytes, or not printable ASCII.
    #[error("Idempotency-Key must be given once, with 1 to 255 printable ASCII characters")]
    IdempotencyKey,
    /// 400: an HTTP/1.1 request without exactly one `Host` (RFC 9112, section 3.2); `named` is how many it has.
    #[error("this request has {named} Host headers; exactly one is needed")]
    HostHeader { named: usize },
    /// 400: the value of `Host` is not a host (RFC 9112, section 3.2).
    #[error("the value of Host is not a host name or address, with or without a port")]
    HostValue,
    /// 401: no bearer token, or one that is not accepted (RFC 6750, section 3.1).
    #[error("a valid bearer token is required in the Authorization header")]
    Unauthenticated,
    /// 403: a browser's page of an origin that is not on the list.
    #[error("this Origin may not send here; to allow it, add it to RUVVECTOR_CORS_ORIGINS")]
    ForeignOrigin,
    /// 404: nothing is served under this path or id.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405: the path accepts only the methods in `allow`.
    #[error("this path accepts {allow} and no other method")]
    Method { allow: &'static str },
    /// The body arrives too slowly. With `retry_after_s`, 503 and `Retry-After`: OTLP clients drop the data of a
    /// request that is answered 408 (OTLP 1.11, "Retryable Response Codes"). Without it, as on `/ingest`, 408.
    #[error("the body took too long to arrive")]
    SlowBody { retry_after_s: Option<u8> },
    /// 413: larger than any request may be, so that a retry is of no use.
    #[error("the request is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    /// 413: more native events than one request may hold.
    #[error("more than {limit} events in one request")]
    TooManyEvents { limit: u32 },
    /// 414: the request's target is too long.
    #[error("the request's target is longer than {limit_bytes} bytes")]
    LongTarget { limit_bytes: usize },
    /// 415: a content type that the path does not accept.
    #[error("this Content-Type is not accepted here; use {takes}")]
    ContentType { takes: &'static str },
    /// 415, with the accepted encodings in the answer: an unknown content encoding, or a chain of several.
    #[error("this Content-Encoding is not accepted; use gzip, zstd, deflate or identity")]
    ContentEncoding,
    /// 421: no token is required, and a request reaches a loopback address under a host name that another site could
    /// point there.
    #[error(
        "the host name {host} is not one of this service's: add it to RUVVECTOR_HOSTS, or require tokens with \
         RUVVECTOR_AUTH_TOKENS"
    )]
    ForeignHost { host: String },
    /// 422: an earlier request had the same `Idempotency-Key` and another body.
    #[error(
        "this Idempotency-Key was used with another body before; a new request needs a new key"
    )]
    KeyReused,
    /// 431: the headers together are larger than the setting allows.
    #[error("the headers are larger than {limit_bytes} bytes")]
    LargeHeaders { limit_bytes: usize },
    /// 501: a transfer coding other than chunked (RFC 9112, section 6.1).
    #[error(
        "this Transfer-Encoding is not supported; use chunked, and Content-Encoding to compress a body"
    )]
    TransferCoding,
    /// 503 with `Retry-After`: no event of the request was stored, and it may be sent again.
    #[error("{reason}")]
    Unavailable { reason: String, retry_after_s: u8 },
    /// 503 with `Retry-After` and `Ruvvector-Outcome: unknown`: the request may have reached the journal, so its events
    /// may be stored or not.
    #[error("the request was handed to the journal; it is unknown if its events are stored")]
    Unknown { retry_after_s: u8 },
}

impl Error {
    /// Returns the HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. }
            | Self::Invalid(_)
            | Self::Parameter { .. }
            | Self::HostHeader { .. }
            | Self::HostValue
            | Self::IdempotencyKey => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody {
                retry_after_s: None,
            } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::TooManyEvents { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LongTarget { .. } => StatusCode::URI_TOO_LONG,
            Self::ContentType { .. } | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ForeignHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::LargeHeaders { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::SlowBody {
                retry_after_s: Some(_),
            }
            | Self::Unavailable { .. }
            | Self::Unknown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the code of `google.rpc.Status` (google/rpc/code.proto), which is also gRPC's status code.
    #[must_use]
    pub const fn rpc_code(&self) -> i32 {
        match self {
            Self::Malformed { .. }
            | Self::Invalid(_)
            | Self::Parameter { .. }
            | Self::IdempotencyKey
            | Self::KeyReused
            | Self::HostHeader { .. }
            | Self::HostValue
            | Self::LongTarget { .. }
            | Self::ContentType { .. }
            | Self::LargeHeaders { .. } => 3, // INVALID_ARGUMENT
            Self::SlowBody {
                retry_after_s: None,
            } => 4, // DEADLINE_EXCEEDED
            Self::ForeignOrigin | Self::ForeignHost { .. } => 7, // PERMISSION_DENIED
            Self::TooLarge { .. } | Self::TooManyEvents { .. } => 8, // RESOURCE_EXHAUSTED
            // gRPC's mapping of HTTP 404, and its rule for an unsupported compression.
            Self::NotFound(_)
            | Self::Method { .. }
            | Self::ContentEncoding
            | Self::TransferCoding => 12, // UNIMPLEMENTED
            Self::SlowBody {
                retry_after_s: Some(_),
            }
            | Self::Unavailable { .. }
            | Self::Unknown { .. } => 14, // UNAVAILABLE
            Self::Unauthenticated => 16, // UNAUTHENTICATED
        }
    }

    /// Returns the seconds after which the request may be sent again; `None` if a retry is of no use.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u8> {
        match self {
            Self::Unavailable { retry_after_s, .. } | Self::Unknown { retry_after_s } => {
                Some(*retry_after_s)
            }
            Self::SlowBody { retry_after_s } => *retry_after_s,
            Self::Malformed { .. }
            | Self::Invalid(_)
            | Self::Parameter { .. }
            | Self::IdempotencyKey
            | Self::KeyReused
            | Self::Unauthenticated
            | Self::ForeignOrigin
            | Self::ForeignHost { .. }
            | Self::HostHeader { .. }
            | Self::HostValue
            | Self::TransferCoding
            | Self::NotFound(_)
            | Self::Method { .. }
            | Self::TooLarge { .. }
            | Self::TooManyEvents { .. }
            | Self::LongTarget { .. }
            | Self::ContentType { .. }
            | Self::ContentEncoding
            | Self::LargeHeaders { .. } => None,
        }
    }
}

impl SpanError for Error {
    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable { .. } => Some("unavailable"),
            Self::Unknown { .. } => Some("unknown"),
            _ => None,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed { message, offset } => Self::Malformed { message, offset },
            DecodeError::Invalid(checked) => Self::Invalid(checked),
            DecodeError::TooManyEvents { limit } => Self::TooManyEvents { limit },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn only_what_may_pass_when_sent_again_has_a_retryable_status() {
        let retryable = [
            Error::Unavailable {
                reason: "full".to_owned(),
                retry_after_s: 1,
            },
            Error::Unknown { retry_after_s: 1 },
            Error::SlowBody {
                retry_after_s: Some(1),
            },
        ];
        let last = [
            Error::Malformed {
                message: String::new(),
                offset: None,
            },
            Error::SlowBody {
                retry_after_s: None,
            },
            Error::TooLarge { limit_bytes: 1 },
            Error::NotFound(""),
            Error::ContentEncoding,
        ];
        assert!(retryable.iter().all(|error| error.status() == 503));
        assert!(last.iter().all(|error| error.status().is_client_error()));
    }
}
/// The wait that refused clients are asked for.
pub mod retry_after;
