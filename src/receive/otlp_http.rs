//! OTLP over HTTP: `POST /v1/traces` and its like, protobuf and JSON (OTLP 1.11, "OTLP/HTTP").
//!
//! **Invariant:** every answer, errors included, has the request's content type; only 503 asks for a retry.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;

use super::answers::{self, Form, Shape};
use super::media::{self, Media};
use super::status::{PartialSuccess, TEXT_BYTES, cut};
use super::take::{Taken, Wanted};
use super::tally::{Intake, Tally};
use super::{Endpoint, Receiver, body};
use crate::decode::{Checked, Limits};
use crate::error::Error;
use crate::event::{Encoding, Signal};

/// One line for each signal that is taken.
pub(super) fn routes(receiver: &Receiver) -> Router {
    Router::new()
        .merge(signal(receiver, "/v1/traces", Signal::Span))
        .merge(signal(receiver, "/v1/logs", Signal::Log))
}

fn signal(receiver: &Receiver, path: &str, signal: Signal) -> Router {
    let endpoint = Endpoint::new(receiver, Intake::OtlpHttp, signal);
    Router::new()
        .route(path, any(export))
        .route(&format!("{path}/"), any(export))
        .with_state(Arc::new(endpoint))
}

async fn export(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let admission = &endpoint.receiver.stage.admission;
    if let Some(answer) = admission.preflight(&parts) {
        return answer;
    }
    let form = Form::of(parts.uri.path(), &parts.headers);
    let mut tally = Tally::new(&endpoint.counters);
    let mut answer = match take(&endpoint, &parts, body, &mut tally).await {
        Ok(taken) => {
            tally.taken(&taken.checked);
            let limits = &endpoint.receiver.stage.options.decode;
            success(form, endpoint.signal, &taken.checked, limits)
        }
        Err(error) => {
            tally.failed(&error);
            answers::error(&error, form)
        }
    };
    admission.share(&parts.headers, answer.headers_mut());
    answer
}

async fn take(
    endpoint: &Endpoint,
    parts: &Parts,
    body: Body,
    tally: &mut Tally,
) -> Result<Taken, Error> {
    let receiver = &endpoint.receiver;
    match read_head(endpoint, parts) {
        Ok(wanted) => receiver.take(body, wanted, tally).await,
        Err(error) => {
            let limits = receiver.body_limits(endpoint.signal);
            body::discard(body, &parts.headers, &limits).await;
            Err(error)
        }
    }
}

fn read_head(endpoint: &Endpoint, parts: &Parts) -> Result<Wanted, Error> {
    if parts.method != Method::POST {
        return Err(Error::Method { allow: "POST" });
    }
    endpoint.receiver.stage.admission.check(&parts.headers)?;
    let encoding = match Media::of(&parts.headers) {
        Media::Protobuf => Encoding::Protobuf,
        Media::Json => Encoding::Json,
        Media::NdJson | Media::Text | Media::Form | Media::Missing | Media::Other => {
            return Err(Error::ContentType {
                takes: "application/x-protobuf or application/json",
            });
        }
    };
    Ok(Wanted {
        signal: endpoint.signal,
        encoding,
        content_encoding: media::content_encoding(&parts.headers)?,
        partial: true,
    })
}

/// An empty message when all was taken as it came; a partial success otherwise.
fn success(form: Form, signal: Signal, checked: &Checked, limits: &Limits) -> Response {
    let partial = partial_success(checked, limits);
    let body = match (&partial, form.shape) {
        (None, Shape::OtlpProtobuf) => Vec::new(),
        (None, _) => b"{}".to_vec(),
        (Some(partial), Shape::OtlpProtobuf) => partial.to_protobuf(),
        (Some(partial), _) => partial.to_json(signal).into_bytes(),
    };
    answers::success(form, body)
}

fn partial_success(checked: &Checked, limits: &Limits) -> Option<PartialSuccess> {
    let mut told = Vec::new();
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

/// Where nothing is served: says which path takes OTLP, to those who sent it elsewhere.
pub(super) async fn nowhere(State(receiver): State<Receiver>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let error = Error::NotFound(if path == "/" {
        "OTLP is taken on /v1/traces and /v1/logs: add the signal's path to the exporter's endpoint"
    } else if path.starts_with("/v1/") {
        "this signal is not taken here; OTLP is taken on /v1/traces and /v1/logs"
    } else {
        "nothing is served here"
    });
    let limits = receiver.body_limits(Signal::Span);
    body::discard(body, &parts.headers, &limits).await;
    answers::error(&error, Form::of(path, &parts.headers))
}

#[cfg(test)]
mod tests {
    use super::{Checked, Limits, partial_success};
    use crate::decode::Sanitized;

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
        assert!(partial_success(&checked, &Limits::default()).is_none());
        let cutting = Limits {
            value_bytes: 10,
            ..Limits::default()
        };
        let told = partial_success(&checked, &cutting).unwrap();
        assert_eq!(told.rejected, 0);
        assert!(told.error_message.contains("2 values"));
    }
}
