//! gRPC as unary calls need it (gRPC over HTTP/2, "gRPC/HTTP2 Mapping"): one message in, one message or a status out.
//!
//! **Invariant:** a status of gRPC is only ever sent to a client of gRPC, and never with another HTTP status than 200.

/// The message of a request's body.
pub(in crate::receive) mod message;

/// Message and status of an answer.
pub(in crate::receive) mod answer;

/// When the client gives up.
pub(in crate::receive) mod deadline;

/// How long calls take.
pub(in crate::receive) mod calls;

/// `grpc.health.v1.GrpcHealth`.
pub(in crate::receive) mod health;
