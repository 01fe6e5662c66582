//! OTLP over gRPC: `Export` of the three services (OTLP 1.11, "OTLP/gRPC"), and their health.
//!
//! The unary handler is our own: a generated server would build the tree of a whole request before any limit is
//! checked.
//!
//! **Invariant:** a journal record holds the message as sent, so that requests by gRPC and by HTTP are the same from
//! the journal on.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, Version};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, any, any_service};

use crate::error::Error;
use crate::event::{Encoding, Signal};
use crate::lifecycle::Lifecycle;
use crate::receive::Receiver;
use crate::receive::content_type::{self, MediaType};
use crate::receive::ingest::pipeline::{Framing, IngestRequest, WaitFor};
use crate::receive::ingest::request_metrics::IngestProtocol;
use crate::receive::protocol::endpoint::{Endpoint, Protocol, serve};
use crate::receive::protocol::grpc::deadline::deadline;
use crate::receive::protocol::grpc::health::GrpcHealth;
use crate::receive::protocol::otlp_http;
use crate::receive::response::{self, ResponseFormat};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The answer to another protocol, and to calls of unknown methods.
const NOWHERE: Error = Error::NotFound(
    "this port accepts OTLP over gRPC alone: Export of TraceService, LogsService and MetricsService, over HTTP/2; OTLP \
     over HTTP has a separate port, 4318",
);

/// gRPC's health service (`grpc.health.v1`).
pub(crate) fn health(receiver: &Arc<Receiver>, lifecycle: Lifecycle) -> MethodRouter {
    let health = GrpcHealth {
        journal: receiver.journal.clone(),
        lifecycle,
    };
    any_service(health.server())
}

/// `Export` of `signal`.
pub(crate) fn export(receiver: &Arc<Receiver>, signal: Signal) -> MethodRouter {
    let protocol = Protocol {
        intake: IngestProtocol::OtlpGrpc,
        read_head,
        success: otlp_http::success,
    };
    any(serve).with_state(Endpoint::new(receiver, protocol, signal))
}

fn read_head(endpoint: &Endpoint, parts: &Parts) -> Result<IngestRequest, Error> {
    if MediaType::of(&parts.headers) != MediaType::Grpc {
        return Err(Error::ContentType {
            takes: "application/grpc",
        });
    }
    Ok(IngestRequest {
        signal: endpoint.signal,
        encoding: Encoding::Protobuf,
        content_encoding: content_type::content_encoding(&parts.headers, &GRPC_ENCODING)?,
        framing: Framing::Message,
        partial: true,
        key: None,
        wait: WaitFor::Synced,
        deadline: deadline(&parts.headers),
    })
}

pub(crate) async fn http2_only(request: Request, next: Next) -> Response {
    if request.version() == Version::HTTP_2 {
        next.run(request).await
    } else {
        not_found(request).await
    }
}

pub(crate) async fn not_found(request: Request) -> Response {
    let form = ResponseFormat::of(request.version(), request.uri().path(), request.headers());
    response::error(&NOWHERE, form)
}
