//! One request from its body to the journal, whatever protocol it arrives by.
//!
//! **Invariant:** no success is answered before the sync.

/// The whole path of a request: read, decode, append.
pub(in crate::receive) mod pipeline;

/// Reading a body under limits of size, memory and time.
pub(in crate::receive) mod body;

/// Admission by origin and bearer token.
pub(in crate::receive) mod admission;

/// Recognition of requests that were accepted recently.
pub(in crate::receive) mod dedup;

/// The identity of a request, by which its retry is recognised.
pub(in crate::receive) mod dedup_key;

/// The counters of an endpoint and of each request.
pub(in crate::receive) mod request_metrics;
