//! Metrics, log lines, and the service's own traces.
//!
//! **Invariant:** this module knows no stage of the pipeline: every stage may report through it.

/// Every metric, declared once: name, kind, unit, help; and the recorder behind them.
pub mod metrics;

/// Log lines.
pub mod logging;

/// Traces of this service's work.
pub mod own_traces;

/// Counts of open connections.
pub mod connection_counts;

/// The outcomes of requests.
pub mod request_outcome;

/// A limit on log lines that clients or other systems can cause at any rate.
pub mod log_limit;

pub use connection_counts::ConnectionCounts;
pub use request_outcome::RequestOutcome;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source, if the build set it in `RUVVECTOR_REVISION`, else `unknown`.
pub const REVISION: &str = match option_env!("RUVVECTOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
