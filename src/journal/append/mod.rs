//! Appending: the queue of waiting requests, and the one thread that writes and syncs them.
//!
//! **Invariant:** a record is acknowledged only after the sync that covers it has returned.

/// Records on their way to the writer.
pub(in crate::journal) mod queue;

/// The thread that appends.
pub(in crate::journal) mod append_thread;
