//! One request from its body to the journal, whatever protocol it arrives by.
//!
//! **Invariant:** no answer of success precedes the sync.

/// The whole way of a request: read, decode, append.
pub(in crate::receive) mod pipeline;

/// A body under limits.
pub(in crate::receive) mod body;

/// Origins and tokens.
pub(in crate::receive) mod admission;

/// What was accepted lately.
pub(in crate::receive) mod dedup;

/// What a retry is known by.
pub(in crate::receive) mod dedup_key;

/// What is counted.
pub(in crate::receive) mod request_metrics;
