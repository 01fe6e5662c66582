//! The writer between a real log and real databases, with failures in between.
//!
//! **Invariant:** after the drain every accepted event is in the table or the dead letters, once.

/// A journal, a writer and a database.
mod bench;

/// Ordinary days: restarts, idleness, stopping.
mod ordinary;

/// Files that a version freed with zeros alone, or that only look so.
mod freed;

/// Records whose rows are too many to be held together.
mod large;

/// What the database refuses, and what cannot be decoded again.
mod refused;

/// A database that is away, hangs, loses answers or is put back in time.
mod outages;
