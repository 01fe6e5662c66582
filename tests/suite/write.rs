//! The writer between a real journal and real databases, with failures in between.
//!
//! **Invariant:** after the drain every accepted event is in the table or the dead letters, once.

/// A journal, a writer and a database.
mod bench;

/// Ordinary operation: restarts, idle times, stops.
mod ordinary;

/// Files that a version freed with zeros alone, or that only look so.
mod freed;

/// Records whose rows are too many to be held together.
mod large;

/// Rows that the database refuses, and records that cannot be decoded again.
mod refused;

/// A database that is unavailable, hangs, loses answers or is set back in time.
mod outages;
