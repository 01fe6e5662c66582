//! Connections: listening, accepting, their limits, and the middleware that each request passes.
//!
//! **Invariant:** unless its client is too slow or gone, a connection is closed in order: the close is announced before
//! it happens.

/// The sockets that the service listens on.
pub mod listener;

/// The accept loop, and the life of one connection.
pub(crate) mod accept;

/// The steps in which a connection is closed.
pub(crate) mod closing;

/// The requests of one connection.
pub(crate) mod activity;

/// A connection's stream, with the activity on it.
pub(crate) mod tracked_stream;

/// The number of connections that the limit of open files allows.
pub(crate) mod fd_limit;

/// The slots for connections, and the choice of the idle connection that makes room.
pub(crate) mod connection_limit;

/// Middleware around every request: limits on its head, panics, its duration.
pub(crate) mod middleware;

/// The span of a request, in our own traces.
pub(crate) mod request_span;
