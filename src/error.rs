//! The error of HTTP and gRPC: why a request was not answered with success.
//!
//! **Invariant:** the match to a status is total, and no variant is 500: a failure of ours is 503, so that a client
//! keeps its data and tries again.

use axum::http::StatusCode;

use crate::decode::{DecodeError, DecodeReport};
use crate::telemetry::own_traces::SpanError;

/// Why a request was not answered with success. Each variant says the status it becomes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the body is not what its content type or content encoding says, or is cut short; `message` tells the offset.
    #[error("{message}")]
    Malformed {
        message: String,
        offset: Option<usize>,
    },
    /// 400: well formed, but nothing of it is taken.
    #[error("{} of {} items are invalid", .0.rejected, .0.rejected.saturating_add(.0.accepted))]
    Invalid(Box<DecodeReport>),
    /// 400: a query parameter that is unknown, given twice, or has a value it does not take.
    #[error("{reason}")]
    Parameter { name: String, reason: String },
    /// 400: an `Idempotency-Key` that is none.
    #[error("Idempotency-Key is not one text of 1 to 255 printable ASCII characters")]
    IdempotencyKey,
    /// 400: over HTTP/1.1 a request has one `Host` (RFC 9112, section 3.2).
    #[error("this request has {named} Host headers; exactly one is needed")]
    HostHeader { named: usize },
    /// 400: the value of `Host` is no host (RFC 9112, section 3.2).
    #[error("the value of Host is no host name or address, with or without a port")]
    HostValue,
    /// 401: no bearer token, or not one of ours (RFC 6750, section 3.1).
    #[error("a bearer token of this service is needed in Authorization")]
    Unauthenticated,
    /// 403: a browser's page of an origin that is not on the list.
    #[error("this Origin may not send here; allow it by the list of CORS origins")]
    ForeignOrigin,
    /// 404: nothing is served there.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405: the path takes only the methods named.
    #[error("this path takes {allow} and no other method")]
    Method { allow: &'static str },
    /// The body arrives too slowly. 503 with `Retry-After` on the paths of OTLP, whose clients drop what is answered 408
    /// (OTLP 1.11, "Retryable Response Codes"); 408 where no wait is given, as on `/ingest`.
    #[error("the body took too long to arrive")]
    SlowBody { retry_after_s: Option<u8> },
    /// 413: larger than any request may be; trying again is of no use.
    #[error("the request is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    /// 413: more native events than one request may hold.
    #[error("more than {limit} events in one request")]
    TooManyEvents { limit: u32 },
    /// 414: the request's target is too long.
    #[error("the request's target is longer than {limit_bytes} bytes")]
    LongTarget { limit_bytes: usize },
    /// 415: a content type that the path does not take.
    #[error("this Content-Type is not taken here; {takes} is")]
    ContentType { takes: &'static str },
    /// 415, with the encodings taken: a content encoding, or a chain of them, that is not known.
    #[error("this Content-Encoding is not taken; gzip, zstd, deflate and identity are")]
    ContentEncoding,
    /// 421: a loopback address is read under a name that a page of another site could have, and no token is asked for.
    #[error(
        "this service does not know itself by the name {host}: add it to RUVVECTOR_HOSTS, or ask for tokens with \
         RUVVECTOR_AUTH_TOKENS"
    )]
    ForeignHost { host: String },
    /// 422: the `Idempotency-Key` of an earlier request that had another body.
    #[error("this Idempotency-Key came with another body before; a new request needs a new key")]
    KeyReused,
    /// 431: the headers are larger, all together, than the settings allow.
    #[error("the headers are larger than {limit_bytes} bytes")]
    LargeHeaders { limit_bytes: usize },
    /// 501: a body in a transfer coding beside chunked (RFC 9112, section 6.1).
    #[error(
        "this Transfer-Encoding is not undone here; chunked alone is. Content-Encoding compresses a body"
    )]
    TransferCoding,
    /// 503 with `Retry-After`: nothing of the request was kept, and it may be sent again.
    #[error("{reason}")]
    Unavailable { reason: String, retry_after_s: u8 },
    /// 503 with `Retry-After` and `Ruvvector-Outcome: unknown`: it was handed to the log and may yet be stored.
    #[error("the request was handed to the log, but whether it is stored is not known")]
    Unknown { retry_after_s: u8 },
}

impl Error {
    /// The HTTP status.
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

    /// The code of `google.rpc.Status` (google/rpc/code.proto), and gRPC's status.
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
            // As gRPC's clients take a 404, and as its compression asks for an encoding that is not known.
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

    /// Seconds after which the request may be sent again; `None` when that is of no use.
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
/// How long a refused client waits.
pub mod retry_after;
