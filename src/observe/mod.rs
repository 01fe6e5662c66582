//! What the service says of itself: `/health`, `/metrics`, log lines.

/// Every metric, declared once: name, labels, help.
pub mod metrics;
