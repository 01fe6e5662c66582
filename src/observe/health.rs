//! `/health`, `/health/live`, `/health/ready`.
//!
//! **Invariant:** a full log or an absent database leaves the service ready: with no endpoint at all clients would see
//! refused connections, which some exporters do not try again.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::readiness::Phase;
use super::report::Status;
use super::watch::Watch;

/// `GET /health`: 503 only when events are not taken at all.
pub(super) async fn health(State(watch): State<Watch>) -> Response {
    let body = watch.report().await.body();
    let status = match body.status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &body)
}

/// `GET /health/live`: the process answers, nothing else.
pub(super) async fn live() -> Response {
    json(StatusCode::OK, &Word { status: "live" })
}

/// `GET /health/ready`: whether clients should be sent here.
pub(super) async fn ready(State(watch): State<Watch>) -> Response {
    let phase = watch.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining | Phase::Broken => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(
        status,
        &Word {
            status: phase.as_str(),
        },
    )
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("plain structs of numbers and texts serialise");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text).into_response()
}

#[derive(Serialize)]
struct Word {
    status: &'static str,
}
