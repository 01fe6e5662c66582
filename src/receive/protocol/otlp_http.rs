//! OTLP over HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, in protobuf and JSON (OTLP 1.11, "OTLP/HTTP").
//!
//! **Invariant:** every answer, errors included, has the request's content type; only a 503 asks for a retry.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{MethodRouter, any};

use crate::decode::DecodeReport;
use crate::error::Error;
use crate::event::{Encoding, Limits, Signal};
use crate::receive::Receiver;
use crate::receive::content_type::{self, MediaType};
use crate::receive::ingest::body;
use crate::receive::ingest::pipeline::{Framing, IngestOutcome, IngestRequest, WaitFor};
use crate::receive::ingest::request_metrics::IngestProtocol;
use crate::receive::otlp_status::{PartialSuccess, TEXT_BYTES};
use crate::receive::protocol::endpoint::{Endpoint, Protocol, serve};
use crate::receive::response::{self, BodyFormat, ResponseFormat};
use crate::text::cut;

/// `POST` of an export request of `signal`.
pub(crate) fn export(receiver: &Arc<Receiver>, signal: Signal) -> MethodRouter {
    let protocol = Protocol {
        intake: IngestProtocol::OtlpHttp,
        read_head,
        success,
    };
    any(serve).with_state(Endpoint::new(receiver, protocol, signal))
}

fn read_head(endpoint: &Endpoint, parts: &Parts) -> Result<IngestRequest, Error> {
    let encoding = match MediaType::of(&parts.headers) {
        MediaType::Protobuf => Encoding::Protobuf,
        MediaType::Json => Encoding::Json,
        _ => {
            return Err(Error::ContentType {
                takes: "application/x-protobuf or application/json",
            });
        }
    };
    Ok(IngestRequest {
        signal: endpoint.signal,
        encoding,
        content_encoding: content_type::content_encoding(&parts.headers, &CONTENT_ENCODING)?,
        framing: Framing::Whole,
        partial: true,
        key: None,
        wait: WaitFor::Synced,
        deadline: None,
    })
}

/// Answers with an empty message if all items were accepted unchanged, else with a partial success.
pub(crate) fn success(
    endpoint: &Endpoint,
    form: ResponseFormat,
    outcome: &IngestOutcome,
) -> Response {
    let limits = &endpoint.receiver.options.decode;
    let partial = partial_success(&outcome.checked, limits, endpoint.signal);
    let body = match (&partial, form.shape) {
        (None, BodyFormat::OtlpProtobuf | BodyFormat::Grpc) => Vec::new(),
        (None, _) => b"{}".to_vec(),
        (Some(partial), BodyFormat::OtlpProtobuf | BodyFormat::Grpc) => {
            partial.response_to_protobuf()
        }
        (Some(partial), _) => partial.response_to_json(endpoint.signal).into_bytes(),
    };
    response::success(form, body)
}

fn partial_success(
    checked: &DecodeReport,
    limits: &Limits,
    signal: Signal,
) -> Option<PartialSuccess> {
    let mut messages = Vec::new();
    if let Some(name) = &checked.unknown_name {
        let list = match signal {
            Signal::Span => "resourceSpans",
            Signal::Log => "resourceLogs",
            Signal::Event | Signal::Metric => "resourceMetrics",
        };
        messages.push(format!(
            "the request holds no items: the member \"{name}\" is not known here; items are expected in {list}"
        ));
    }
    if checked.rejected > 0 {
        let all = checked.accepted.saturating_add(checked.rejected);
        messages.push(format!("{} of {all} items were rejected", checked.rejected));
    }
    // Without configured limits, only copies of values in columns are cut; the values themselves are stored whole.
    if checked.sanitized.cut > 0 && (limits.attributes > 0 || limits.value_bytes > 0) {
        messages.push(format!(
            "{} values or attributes were cut to this service's limits",
            checked.sanitized.cut
        ));
    }
    if messages.is_empty() {
        return None;
    }
    for rejection in &checked.rejections {
        let field = rejection.field.as_deref().unwrap_or("item");
        messages.push(format!(
            "[{}].{field}: {}",
            rejection.index, rejection.reason
        ));
    }
    Some(PartialSuccess {
        rejected: checked.rejected.into(),
        error_message: cut(&messages.join("; "), TEXT_BYTES).to_owned(),
    })
}

/// Answers a path that nothing is served at, on a port that serves everything.
pub(crate) async fn not_found(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let form = ResponseFormat::of(request.version(), request.uri().path(), request.headers());
    answer_not_found(&receiver, request, form).await
}

/// Answers such a path on a port of OTLP alone: every client there reads a Status.
pub(crate) async fn not_found_for_otlp(
    State(receiver): State<Arc<Receiver>>,
    request: Request,
) -> Response {
    let form = ResponseFormat::otlp(request.version(), request.headers());
    answer_not_found(&receiver, request, form).await
}

/// Says which path takes OTLP, to those who sent it elsewhere.
async fn answer_not_found(
    receiver: &Arc<Receiver>,
    request: Request,
    form: ResponseFormat,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let error = Error::NotFound(if path == "/" && parts.method == Method::GET {
        "events are sent to /ingest and, as OTLP, to /v1/traces, /v1/logs and /v1/metrics, and read at /query and /traces/ID; \
         /health says how the service is. All but OTLP is served on the main port alone, RUVVECTOR_SERVICE_PORT (3100)"
    } else if matches!(path, "/ingest" | "/query" | "/health" | "/metrics") {
        "this port takes OTLP alone: this path is served on the main port, RUVVECTOR_SERVICE_PORT (3100)"
    } else if path == "/" {
        "OTLP is taken on /v1/traces, /v1/logs and /v1/metrics: add the signal's path to the exporter's endpoint"
    } else if response::is_of_a_signal(path) {
        "this signal is not accepted here; OTLP is accepted on /v1/traces, /v1/logs and /v1/metrics"
    } else if path.starts_with("/opentelemetry.proto.") {
        "OTLP over gRPC has a separate port, 4317"
    } else {
        "nothing is served here"
    });
    let limits = receiver.body_limits(Signal::Span);
    body::discard(body, &parts.headers, &limits).await;
    response::error(&error, form)
}

#[cfg(test)]
mod tests {
    use super::{DecodeReport, Limits, partial_success};
    use crate::event::{Sanitized, Signal};

    #[test]
    fn a_cut_is_reported_only_if_a_limit_dropped_something() {
        let checked = DecodeReport {
            accepted: 1,
            sanitized: Sanitized {
                cut: 2,
                ..Sanitized::default()
            },
            ..DecodeReport::default()
        };
        assert!(partial_success(&checked, &Limits::default(), Signal::Log).is_none());
        let cutting = Limits {
            value_bytes: 10,
            ..Limits::default()
        };
        let partial = partial_success(&checked, &cutting, Signal::Log).unwrap();
        assert_eq!(partial.rejected, 0);
        assert!(partial.error_message.contains("2 values"));
    }
}
