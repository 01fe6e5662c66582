//! What the tests share.

/// PostgreSQL: a database of one's own in the shared cluster, or a whole cluster that a test may stop and kill.
pub mod postgres;

/// A TCP proxy that cuts, stalls and loses answers.
pub mod proxy;
