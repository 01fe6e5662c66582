//! Appending: the queue of waiting requests, and the one thread that writes and syncs them.
//!
//! **Invariant:** a record is acknowledged only after the sync that covers it has returned.

/// The queue of records for the append thread.
pub(in crate::journal) mod queue;

/// The append thread.
pub(in crate::journal) mod append_thread;

/// The segment that the append thread appends to.
mod active_segment;

/// A group of records, laid out as one write.
mod group;
