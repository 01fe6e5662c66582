//! The messages in OTLP's answers: `google.rpc.Status` and the partial success, in protobuf and in JSON.
//!
//! **Invariant:** both encodings have the same content, and neither is longer than [`ANSWER_BYTES`].

use crate::text::cut;
use prost::Message;
use serde::Serialize;
use serde_json::json;

use crate::decode::Rejection;
use crate::error::Error;
use crate::event::Signal;

/// Maximum length of an answer.
pub(crate) const ANSWER_BYTES: usize = 4 << 10;

/// Maximum length of a text in an answer.
pub(crate) const TEXT_BYTES: usize = 1 << 10;

/// Type URL of a `BadRequest` in the details of a `Status`.
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// Type URL of a `RetryInfo` in the details of a `Status`.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The `google.rpc.Status` of an error (OTLP 1.11, "Failures").
pub(crate) struct OtlpStatus {
    code: i32,
    message: String,
    violations: Vec<Violation>,
    /// Seconds after which the request may be sent again.
    retry_after_s: Option<u8>,
}

impl OtlpStatus {
    pub(crate) fn of(error: &Error, retry_after_s: Option<u8>) -> Self {
        let message = cut(&error.to_string(), TEXT_BYTES).to_owned();
        let violations = match error {
            Error::Malformed { .. } => vec![Violation {
                field: "body".to_owned(),
                description: message.clone(),
            }],
            Error::Invalid(checked) => fitting(&checked.rejections, Violation::of),
            _ => Vec::new(),
        };
        Self {
            code: error.facts().rpc_code as i32,
            message,
            violations,
            retry_after_s,
        }
    }

    pub(crate) fn to_protobuf(&self) -> Vec<u8> {
        let any = |type_url: &str, value| Any {
            type_url: type_url.to_owned(),
            value,
        };
        let bad_request = BadRequest {
            field_violations: self.violations.clone(),
        };
        let bad_request =
            (!self.violations.is_empty()).then(|| any(BAD_REQUEST, bad_request.encode_to_vec()));
        let retry_info = self.retry_info().map(|encoded| any(RETRY_INFO, encoded));
        RpcStatus {
            code: self.code,
            message: self.message.clone(),
            details: bad_request.into_iter().chain(retry_info).collect(),
        }
        .encode_to_vec()
    }

    pub(crate) fn to_json(&self) -> String {
        let mut status = json!({ "code": self.code, "message": self.message });
        if !self.violations.is_empty() {
            status["details"] =
                json!([{ "@type": BAD_REQUEST, "fieldViolations": self.violations }]);
        }
        if let Some(seconds) = self.retry_after_s {
            status["details"] =
                json!([{ "@type": RETRY_INFO, "retryDelay": format!("{seconds}s") }]);
        }
        status.to_string()
    }

    /// Returns the encoded `RetryInfo` alone, without the `Status` around it.
    pub(crate) fn retry_info(&self) -> Option<Vec<u8>> {
        let seconds = i64::from(self.retry_after_s?);
        let retry_delay = Some(Duration { seconds });
        Some(RetryInfo { retry_delay }.encode_to_vec())
    }
}

/// The report on items that were rejected, or accepted with a warning (OTLP 1.11, "Partial Success"):
/// `ExportTracePartialSuccess` of opentelemetry/proto/collector/trace/v1/trace_service.proto, and those of the other
/// signals.
#[derive(Clone, Message)]
pub(crate) struct PartialSuccess {
    /// Number of rejected items; 0 for a warning.
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

impl PartialSuccess {
    /// Encodes the `Export…ServiceResponse` around it: field 1, which has the same fields for every signal.
    pub(crate) fn response_to_protobuf(&self) -> Vec<u8> {
        ExportResponse {
            partial_success: Some(self.clone()),
        }
        .encode_to_vec()
    }

    pub(crate) fn response_to_json(&self, signal: Signal) -> String {
        let mut partial = json!({ "errorMessage": self.error_message });
        if self.rejected > 0 {
            let rejected = match signal {
                Signal::Event | Signal::Span => "rejectedSpans",
                Signal::Log => "rejectedLogRecords",
                Signal::Metric => "rejectedDataPoints",
            };
            // A 64-bit integer is a string in protobuf's JSON.
            partial[rejected] = json!(self.rejected.to_string());
        }
        json!({ "partialSuccess": partial }).to_string()
    }
}

/// Converts the first rejections with `make`, as many as fit into an answer.
pub(crate) fn fitting<T>(rejections: &[Rejection], make: impl Fn(&Rejection) -> T) -> Vec<T> {
    /// Bytes of a rejection besides its texts: names, punctuation, the index.
    const FRAME_BYTES: usize = 64;
    let mut left = ANSWER_BYTES - TEXT_BYTES;
    rejections
        .iter()
        .take_while(|rejection| {
            let field = rejection.field.as_ref().map_or(0, String::len);
            // JSON may escape a quote or a backslash to twice its length.
            let size = 2 * (field + rejection.reason.len().min(TEXT_BYTES)) + FRAME_BYTES;
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .map(make)
        .collect()
}

/// google/rpc/status.proto, `Status`.
#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// google/protobuf/any.proto, `Any`.
#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// google/rpc/error_details.proto, `BadRequest`.
#[derive(Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<Violation>,
}

/// google/rpc/error_details.proto, `BadRequest.FieldViolation`.
#[derive(Clone, Message, Serialize)]
struct Violation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// google/rpc/error_details.proto, `RetryInfo`.
#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

/// google/protobuf/duration.proto, `Duration`, in whole seconds.
#[derive(Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

impl Violation {
    fn of(rejection: &Rejection) -> Self {
        let index = rejection.index;
        Self {
            field: match &rejection.field {
                Some(field) => format!("[{index}].{field}"),
                None => format!("[{index}]"),
            },
            description: cut(&rejection.reason, TEXT_BYTES).to_owned(),
        }
    }
}

/// `ExportTraceServiceResponse`, and those of the other signals.
#[derive(Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    use prost::Message;
    use serde_json::{Value, json};

    use super::{ANSWER_BYTES, OtlpStatus, PartialSuccess, Signal};
    use crate::decode::{DecodeReport, Rejection};
    use crate::error::Error;
    use crate::text::cut;

    #[test]
    fn a_partial_success_reads_back_as_the_protocols_own_message() {
        let partial = PartialSuccess {
            rejected: 3,
            error_message: "why".to_owned(),
        };
        let read = ExportTraceServiceResponse::decode(&*partial.response_to_protobuf()).unwrap();
        let read = read.partial_success.unwrap();
        assert_eq!((read.rejected_spans, &*read.error_message), (3, "why"));
        let json: Value = serde_json::from_str(&partial.response_to_json(Signal::Log)).unwrap();
        assert_eq!(
            json,
            json!({"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "why"}})
        );
    }

    #[test]
    fn many_long_rejections_do_not_make_a_long_answer() {
        let rejections = (0..20)
            .map(|index| Rejection {
                index,
                field: Some("traceId".to_owned()),
                reason: "\"".repeat(500),
            })
            .collect();
        let report = DecodeReport {
            rejected: 20,
            rejections,
            ..DecodeReport::default()
        };
        let status = OtlpStatus::of(&Error::Invalid(Box::new(report)), None);
        assert!(!status.violations.is_empty());
        assert!(status.to_json().len() <= ANSWER_BYTES);
        assert!(status.to_protobuf().len() <= ANSWER_BYTES);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }
}
