//! Connections: listening, accepting, their limits, and the middleware that each request passes.
//!
//! **Invariant:** a connection ends in order: its client learns of the end before it comes.

/// The sockets.
pub mod listener;

/// The accept loop, and one connection's life.
pub(in crate::receive) mod accept;

/// The requests of one connection.
pub(in crate::receive) mod activity;

/// A connection's bytes and what it is doing.
pub(in crate::receive) mod tracked_stream;

/// How many connections the limit of open files leaves room for.
pub(in crate::receive) mod fd_limit;

/// The places for connections, and the choice of the one that makes room.
pub(in crate::receive) mod connection_limit;

/// Around every request: limits of its head, panics, its duration.
pub(in crate::receive) mod middleware;

/// A request's own span.
pub(in crate::receive) mod request_span;
