//! One request from its body to the journal, whatever protocol it arrives by.
//!
//! **Invariant:** no success is answered before the sync of every accepted event.

/// The whole path of a request: read, decode, append.
pub(crate) mod pipeline;

/// Reading a body under limits of size, memory and time.
pub(crate) mod body;

/// Admission by origin and bearer token.
pub(crate) mod admission;

/// Recognition of requests that were accepted recently.
pub(crate) mod dedup;

/// The identity of a request, by which its retry is recognised.
pub(crate) mod dedup_key;

/// A future that outlives its caller.
mod uninterrupted;

/// The counters of an endpoint and of each request.
pub(crate) mod request_metrics;
