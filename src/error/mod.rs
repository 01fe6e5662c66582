//! The errors of ingestion and of request heads, as HTTP and gRPC answer them. Queries have their own
//! (`query/error.rs`).
//!
//! **Invariant:** each error has one row of facts, and none is 500: a failure of this process is 503, so that a client
//! keeps its data and retries. An answer asks for a retry if its status is 503, and only then.

use axum::http::StatusCode;
use tonic::Code;

use crate::decode::{DecodeError, DecodeReport};
use crate::telemetry::RequestOutcome;
use crate::telemetry::own_traces::SpanError;

/// The wait that refused clients are asked for.
pub mod retry_after;

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
    /// 408: the body arrives too slowly.
    #[error("the body took too long to arrive")]
    SlowBody,
    /// 503: the body of an OTLP request arrives too slowly. OTLP clients drop the data of a request that is answered
    /// 408 (OTLP 1.11, "Retryable Response Codes").
    #[error("the body took too long to arrive")]
    SlowExport,
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
    /// 503: no event of the request was stored, and it may be sent again.
    #[error("{reason}")]
    Unavailable { reason: String },
    /// 503 with `Ruvvector-Outcome: unknown`: the request may have reached the journal, so its events may be stored or
    /// not.
    #[error("the request was handed to the journal; it is unknown if its events are stored")]
    Unknown,
}

/// The properties of an error that its answer, the metrics and the service's own traces read.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// The code of `google.rpc.Status` (google/rpc/code.proto), which is also gRPC's status code.
    pub rpc_code: Code,
    /// The outcome as which the request is counted: invalid if the body, a parameter or a header has a mistake; denied
    /// if the sender, the path, the method, the content type or the coding is wrong; else refused, which reads as lost
    /// events.
    pub counted_as: RequestOutcome,
    /// The answer has `Retry-After`: the same request may succeed later.
    pub is_retryable: bool,
    /// `error.type` of the span of a step that failed so; `None` if the step did not fail.
    pub error_type: Option<&'static str>,
}

impl Facts {
    /// An error that the same request would meet again.
    const fn lasting(status: u16, rpc_code: Code, counted_as: RequestOutcome) -> Self {
        let Ok(status) = StatusCode::from_u16(status) else {
            panic!("every status of the table has three digits");
        };
        Self {
            status,
            rpc_code,
            counted_as,
            is_retryable: false,
            error_type: None,
        }
    }

    /// An error of which the same request may be free later.
    const fn passing(counted_as: RequestOutcome, error_type: Option<&'static str>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            rpc_code: Code::Unavailable,
            counted_as,
            is_retryable: true,
            error_type,
        }
    }
}

impl Error {
    /// Returns the properties of this error.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        use Code::{
            DeadlineExceeded, InvalidArgument, PermissionDenied, ResourceExhausted,
            Unauthenticated, Unimplemented,
        };
        use RequestOutcome::{Denied, Invalid, Refused};
        match self {
            Self::Malformed { .. } => Facts::lasting(400, InvalidArgument, Invalid),
            Self::Invalid(_) => Facts::lasting(400, InvalidArgument, Invalid),
            Self::Parameter { .. } => Facts::lasting(400, InvalidArgument, Invalid),
            Self::IdempotencyKey => Facts::lasting(400, InvalidArgument, Invalid),
            Self::HostHeader { .. } => Facts::lasting(400, InvalidArgument, Invalid),
            Self::HostValue => Facts::lasting(400, InvalidArgument, Invalid),
            Self::Unauthenticated => Facts::lasting(401, Unauthenticated, Denied),
            Self::ForeignOrigin => Facts::lasting(403, PermissionDenied, Denied),
            // gRPC's mapping of HTTP 404.
            Self::NotFound(_) => Facts::lasting(404, Unimplemented, Denied),
            Self::Method { .. } => Facts::lasting(405, Unimplemented, Denied),
            Self::SlowBody => Facts::lasting(408, DeadlineExceeded, Refused),
            Self::SlowExport => Facts::passing(Refused, None),
            Self::TooLarge { .. } => Facts::lasting(413, ResourceExhausted, Refused),
            Self::TooManyEvents { .. } => Facts::lasting(413, ResourceExhausted, Invalid),
            Self::LongTarget { .. } => Facts::lasting(414, InvalidArgument, Invalid),
            Self::ContentType { .. } => Facts::lasting(415, InvalidArgument, Denied),
            // gRPC's rule for an unsupported compression.
            Self::ContentEncoding => Facts::lasting(415, Unimplemented, Denied),
            Self::ForeignHost { .. } => Facts::lasting(421, PermissionDenied, Denied),
            Self::KeyReused => Facts::lasting(422, InvalidArgument, Invalid),
            Self::LargeHeaders { .. } => Facts::lasting(431, InvalidArgument, Invalid),
            Self::TransferCoding => Facts::lasting(501, Unimplemented, Denied),
            Self::Unavailable { .. } => Facts::passing(Refused, Some("unavailable")),
            Self::Unknown => Facts::passing(RequestOutcome::Unknown, Some("unknown")),
        }
    }

    /// Makes [`Error::Malformed`] without an offset.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Malformed {
            message,
            offset: None,
        }
    }

    /// Makes [`Error::Unavailable`].
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Unavailable { reason }
    }
}

impl SpanError for Error {
    fn error_type(&self) -> Option<&'static str> {
        self.facts().error_type
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
    use super::{Error, RequestOutcome};

    #[test]
    fn only_what_may_pass_when_sent_again_has_a_retryable_status() {
        let retryable = [
            Error::unavailable("full"),
            Error::Unknown,
            Error::SlowExport,
        ];
        let last = [
            Error::malformed(""),
            Error::Invalid(Box::default()),
            Error::SlowBody,
            Error::TooLarge { limit_bytes: 1 },
            Error::NotFound(""),
            Error::ContentEncoding,
        ];
        for error in retryable {
            assert!(error.facts().is_retryable && error.facts().status == 503);
        }
        for error in last {
            assert!(!error.facts().is_retryable && error.facts().status.is_client_error());
        }
    }

    /// A misspelt parameter and a key that is too long counted as refused, which alerts and documents read as lost
    /// events.
    #[test]
    fn a_mistake_of_the_client_is_never_refused() {
        let parameter = Error::Parameter {
            name: "wiat".to_owned(),
            reason: String::new(),
        };
        for (error, outcome) in [
            (parameter, RequestOutcome::Invalid),
            (Error::IdempotencyKey, RequestOutcome::Invalid),
            (
                Error::LongTarget { limit_bytes: 1 },
                RequestOutcome::Invalid,
            ),
            (
                Error::LargeHeaders { limit_bytes: 1 },
                RequestOutcome::Invalid,
            ),
            (Error::HostHeader { named: 2 }, RequestOutcome::Invalid),
            (Error::NotFound(""), RequestOutcome::Denied),
            (Error::TransferCoding, RequestOutcome::Denied),
            (Error::TooLarge { limit_bytes: 1 }, RequestOutcome::Refused),
            (Error::SlowBody, RequestOutcome::Refused),
        ] {
            assert_eq!(error.facts().counted_as, outcome, "{error}");
        }
    }
}
