//! `/health`, `/health/live`, `/health/ready`.
//!
//! **Invariant:** a full journal or an unavailable database leaves the service ready. Without an endpoint, clients
//! would meet refused connections, after which some exporters do not retry.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::health::health_report::HealthStatus;
use crate::health::monitor::HealthMonitor;
use crate::lifecycle::Phase;

/// `GET /health`: 503 only if the service accepts no events at all.
pub(crate) async fn health(State(monitor): State<HealthMonitor>) -> Response {
    let body = monitor.report().await.body();
    let status = match body.status {
        HealthStatus::Ok | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &body)
}

/// `GET /health/live`: 200 whenever the process answers.
pub(crate) async fn live() -> Response {
    json(StatusCode::OK, &json!({ "status": "live" }))
}

/// `GET /health/ready`: 200 if clients may be sent here, otherwise 503.
pub(crate) async fn ready(State(monitor): State<HealthMonitor>) -> Response {
    let phase = monitor.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &json!({ "status": phase.as_str() }))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("plain structs of numbers and texts serialise");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text).into_response()
}
