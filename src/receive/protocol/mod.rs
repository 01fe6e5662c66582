//! The protocols: native JSON, OTLP over HTTP, OTLP over gRPC.
//!
//! **Invariant:** a protocol decides only the format of request and answer; `ingest` alone accepts and stores events.

/// The path of a request, the same for every protocol.
pub(crate) mod endpoint;

/// `POST /ingest`.
pub(crate) mod native;

/// `POST /v1/traces`, `POST /v1/logs`, `POST /v1/metrics`.
pub(crate) mod otlp_http;

/// `Export` over gRPC.
pub(crate) mod otlp_grpc;

/// Messages, statuses, timeouts and health of gRPC.
pub(crate) mod grpc;
