//! OTLP over HTTP: `POST /v1/traces` and its like, protobuf and JSON (OTLP 1.11, "OTLP/HTTP").
//!
//! **Invariant:** every answer, errors included, has the request's content type; only 503 asks for a retry.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;

use super::answers::{self, Form, Shape};
use super::endpoint::{Endpoint, Protocol, serve};
use super::media::{self, Media};
use super::status::{PartialSuccess, TEXT_BYTES, cut};
use super::take::{Framing, Taken, Wait, Wanted};
use super::tally::Intake;
use super::{Receiver, body};
use crate::decode::{Checked, Limits};
use crate::error::Error;
use crate::event::{Encoding, Signal};

/// One line for each signal that is taken.
pub(super) fn routes(receiver: &Receiver) -> Router {
    Router::new()
        .merge(signal(receiver, "/v1/traces", Signal::Span))
        .merge(signal(receiver, "/v1/logs", Signal::Log))
        .merge(signal(receiver, "/v1/metrics", Signal::Metric))
}

fn signal(receiver: &Receiver, path: &str, signal: Signal) -> Router {
    let protocol = Protocol {
        intake: Intake::OtlpHttp,
        read_head,
        success,
    };
    Router::new()
        .route(path, any(serve))
        .route(&format!("{path}/"), any(serve))
        // An exporter whose endpoint ends in a slash sends there.
        .route(&format!("/{path}"), any(serve))
        .with_state(Endpoint::new(receiver, protocol, signal))
}

fn read_head(endpoint: &Endpoint, parts: &Parts) -> Result<Wanted, Error> {
    let encoding = match Media::of(&parts.headers) {
        Media::Protobuf => Encoding::Protobuf,
        Media::Json => Encoding::Json,
        Media::Grpc | Media::NdJson | Media::Text | Media::Form | Media::Missing | Media::Other => {
            return Err(Error::ContentType {
                takes: "application/x-protobuf or application/json",
            });
        }
    };
    Ok(Wanted {
        signal: endpoint.signal,
        encoding,
        content_encoding: media::content_encoding(&parts.headers, &CONTENT_ENCODING)?,
        framing: Framing::Whole,
        partial: true,
        key: None,
        wait: Wait::Synced,
        deadline: None,
    })
}

/// An empty message when all was taken as it came; a partial success otherwise.
pub(super) fn success(endpoint: &Endpoint, form: Form, taken: &Taken) -> Response {
    let limits = &endpoint.receiver.stage.options.decode;
    let partial = partial_success(&taken.checked, limits, endpoint.signal);
    let body = match (&partial, form.shape) {
        (None, Shape::OtlpProtobuf | Shape::Grpc) => Vec::new(),
        (None, _) => b"{}".to_vec(),
        (Some(partial), Shape::OtlpProtobuf | Shape::Grpc) => partial.to_protobuf(),
        (Some(partial), _) => partial.to_json(endpoint.signal).into_bytes(),
    };
    answers::success(form, body)
}

fn partial_success(checked: &Checked, limits: &Limits, signal: Signal) -> Option<PartialSuccess> {
    let mut told = Vec::new();
    if let Some(name) = &checked.unknown_name {
        let list = match signal {
            Signal::Span => "resourceSpans",
            Signal::Log => "resourceLogs",
            Signal::Event | Signal::Metric => "resourceMetrics",
        };
        told.push(format!(
            "the request holds no items: the member \"{name}\" is not known here; items are expected in {list}"
        ));
    }
    if checked.rejected > 0 {
        let all = checked.accepted.saturating_add(checked.rejected);
        told.push(format!("{} of {all} items were rejected", checked.rejected));
    }
    // Without limits of its own the service cuts only copies of values that stay whole elsewhere.
    if checked.sanitized.cut > 0 && (limits.attributes > 0 || limits.value_bytes > 0) {
        told.push(format!(
            "{} values or attributes were cut to this service's limits",
            checked.sanitized.cut
        ));
    }
    if told.is_empty() {
        return None;
    }
    for rejection in &checked.rejections {
        let field = rejection.field.as_deref().unwrap_or("item");
        told.push(format!(
            "[{}].{field}: {}",
            rejection.index, rejection.reason
        ));
    }
    Some(PartialSuccess {
        rejected: checked.rejected,
        error_message: cut(&told.join("; "), TEXT_BYTES).to_owned(),
    })
}

/// Answers a path that nothing is served at, on a port that serves everything.
pub(super) async fn nowhere(State(receiver): State<Receiver>, request: Request) -> Response {
    let form = Form::of(request.version(), request.uri().path(), request.headers());
    not_found(&receiver, request, form).await
}

/// Answers such a path on a port of OTLP alone: every client there reads a Status.
pub(super) async fn nowhere_in_otlp(
    State(receiver): State<Receiver>,
    request: Request,
) -> Response {
    let form = Form::otlp(request.version(), request.headers());
    not_found(&receiver, request, form).await
}

/// Says which path takes OTLP, to those who sent it elsewhere.
async fn not_found(receiver: &Receiver, request: Request, form: Form) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let error = Error::NotFound(if path == "/" && parts.method == Method::GET {
        "events are sent to /ingest and, as OTLP, to /v1/traces, /v1/logs and /v1/metrics, and read at /query and /traces/ID; \
         /health says how the service is. All but OTLP is served on the main port alone, RUVVECTOR_SERVICE_PORT (3100)"
    } else if matches!(path, "/ingest" | "/query" | "/health" | "/metrics") {
        "this port takes OTLP alone: this path is served on the main port, RUVVECTOR_SERVICE_PORT (3100)"
    } else if path == "/" {
        "OTLP is taken on /v1/traces, /v1/logs and /v1/metrics: add the signal's path to the exporter's endpoint"
    } else if answers::is_of_a_signal(path) {
        "this signal is not taken here; OTLP is taken on /v1/traces, /v1/logs and /v1/metrics"
    } else if path.starts_with("/opentelemetry.proto.") {
        "OTLP over gRPC is taken on a port of its own, 4317"
    } else {
        "nothing is served here"
    });
    let limits = receiver.body_limits(Signal::Span);
    body::discard(body, &parts.headers, &limits).await;
    answers::error(&error, form)
}

#[cfg(test)]
mod tests {
    use super::{Checked, Limits, partial_success};
    use crate::decode::Sanitized;
    use crate::event::Signal;

    #[test]
    fn cutting_is_told_only_where_a_limit_of_ours_threw_something_away() {
        let checked = Checked {
            accepted: 1,
            sanitized: Sanitized {
                cut: 2,
                ..Sanitized::default()
            },
            ..Checked::default()
        };
        assert!(partial_success(&checked, &Limits::default(), Signal::Log).is_none());
        let cutting = Limits {
            value_bytes: 10,
            ..Limits::default()
        };
        let told = partial_success(&checked, &cutting, Signal::Log).unwrap();
        assert_eq!(told.rejected, 0);
        assert!(told.error_message.contains("2 values"));
    }
}
