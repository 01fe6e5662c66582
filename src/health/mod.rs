//! Reports the state of the process to its operator: `/health`, `/metrics`, systemd.
//!
//! **Invariant:** nothing here changes the state that it reports.

/// `GET /metrics`.
mod metrics_page;

/// `GET /health`, `/health/live` and `/health/ready`.
mod routes;

/// The facts behind an answer, and its JSON.
mod health_report;

/// Reads those facts, and keeps them fresh in the background.
mod monitor;

/// Reports the service's state to systemd.
mod systemd;

pub(crate) use metrics_page::metrics;
pub use monitor::{HealthMonitor, HealthSources};
pub(crate) use routes::{health, live, ready};
pub use systemd::Systemd;
