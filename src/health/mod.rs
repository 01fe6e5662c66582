//! The state of the process for those who run it: `/health`, `/metrics`, systemd.
//!
//! **Invariant:** nothing here changes the state that it reports.

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

pub(crate) use metrics_page::metrics;
pub use monitor::{HealthMonitor, HealthSources};
pub(crate) use routes::{health, live, ready};
pub use systemd::Systemd;
