//! gRPC as unary calls need it (gRPC over HTTP/2, "gRPC/HTTP2 Mapping"): one message in, one message or a status out.
//!
//! **Invariant:** a status of gRPC is only ever sent to a client of gRPC, and never with another HTTP status than 200.

/// The message of a request's body.
pub(super) mod message;

/// Message and status of an answer.
pub(super) mod answer;

/// When the client gives up.
pub(super) mod deadline;

/// How long calls take.
pub(super) mod calls;

/// `grpc.health.v1.GrpcHealth`.
pub(super) mod health;
