//! The state of the process for those who run it: `/health`, `/metrics`, systemd.
//!
//! **Invariant:** nothing here changes the state that it reports.

use axum::Router;
use axum::routing::get;

/// `GET /metrics`.
mod metrics_page;

/// Whether the service takes events, how the database is, and what somebody should do.
mod routes;

/// The facts behind an answer, and its JSON.
mod health_report;

/// The sources of those facts, kept fresh in the background.
mod monitor;

/// What systemd is told.
mod systemd;

pub use monitor::{HealthMonitor, HealthSources};
pub use systemd::Systemd;

/// `GET /health`, `/health/live`, `/health/ready` and `/metrics`.
pub fn router(watch: HealthMonitor) -> Router {
    Router::new()
        .route("/health", get(routes::health))
        .route("/health/live", get(routes::live))
        .route("/health/ready", get(routes::ready))
        .route("/metrics", get(metrics_page::metrics))
        .with_state(watch)
}
