//! Metrics, log lines, and the service's own traces.
//!
//! **Invariant:** nothing here knows a stage of the pipeline: every stage may report, and none is reported about here.

/// Every metric, declared once: name, kind, unit, help; and the page that shows them.
pub mod metrics;

/// Log lines.
pub mod logging;

/// Traces of the service's own work.
pub mod own_traces;

/// Connections that are open, and whether one more finds a place.
pub mod connection_counts;

/// Log lines that somebody else can cause as often as they like.
pub mod log_limit;

pub use connection_counts::ConnectionCounts;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source this was built from, where the build said it in `RUVVECTOR_REVISION`.
pub const REVISION: &str = match option_env!("RUVVECTOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
