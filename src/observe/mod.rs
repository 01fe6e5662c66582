//! What the service says of itself: `/health`, `/metrics`, log lines, traces of its own work.
//!
//! **Invariant:** nothing here waits for the disk while somebody waits for the answer, and for the database only until its
//! first sign of life, in bounded time.

use axum::Router;
use axum::routing::get;

/// Every metric, declared once: name, kind, unit, help; and the page that shows them.
pub mod metrics;

/// Whether the service takes events, how the database is, and what somebody should do.
pub mod routes;

/// The facts behind an answer, and its JSON.
mod health_report;

/// The sources of those facts, kept fresh in the background.
mod monitor;

/// Connections that are open, and whether one more finds a place.
mod connection_counts;

/// The latch of the process's life.
pub mod readiness;

/// What about the set-up may lose or fill something, said at the start and in `/health`.
pub mod warnings;

/// What systemd is told.
pub mod systemd;

/// Log lines.
pub mod logging;

/// Traces of the service's own work.
pub mod own_traces;

pub use connection_counts::ConnectionCounts;
pub use monitor::{HealthMonitor, HealthSources};
pub use readiness::Readiness;
pub use systemd::Systemd;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source this was built from, where the build said it in `RUVVECTOR_REVISION`.
pub const REVISION: &str = match option_env!("RUVVECTOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// `GET /health`, `/health/live`, `/health/ready` and `/metrics`.
pub fn router(watch: HealthMonitor) -> Router {
    Router::new()
        .route("/health", get(routes::health))
        .route("/health/live", get(routes::live))
        .route("/health/ready", get(routes::ready))
        .route("/metrics", get(metrics::metrics_page::metrics))
        .with_state(watch)
}
