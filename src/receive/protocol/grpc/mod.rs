//! The part of gRPC that unary calls need (gRPC over HTTP/2, "gRPC/HTTP2 Mapping"): one message in, one message or a
//! status out.
//!
//! **Invariant:** a gRPC status is only ever sent to a gRPC client, and always with the HTTP status 200.

/// The message in a request's body.
pub(crate) mod message;

/// The message and status of an answer.
pub(crate) mod answer;

/// The time at which a client abandons its call.
pub(crate) mod deadline;

/// Durations of calls.
pub(crate) mod calls;

/// `grpc.health.v1.Health`.
pub(crate) mod health;
