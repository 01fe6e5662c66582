//! OTLP over gRPC: `Export` of the three services (OTLP 1.11, "OTLP/gRPC"), and their health.
//!
//! The unary handler is our own: a generated server would build the tree of a whole request before any limit is
//! checked.
//!
//! **Invariant:** a journal record holds the message as sent, so that requests by gRPC and by HTTP are the same from
//! the journal on.

use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, Version};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{any, any_service};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::event::{Encoding, Signal};
use crate::lifecycle::Readiness;
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

/// Returns the routes of `Export` for each signal, and of the health service.
pub(in crate::receive) fn routes(
    receiver: &Receiver,
    readiness: Readiness,
    stop: CancellationToken,
) -> Router {
    let health = GrpcHealth {
        journal: receiver.stage.journal.clone(),
        readiness,
        stop,
    };
    let health = any_service(health.server());
    Router::new()
        .merge(signal(receiver, "trace.v1.TraceService", Signal::Span))
        .merge(signal(receiver, "logs.v1.LogsService", Signal::Log))
        .merge(signal(
            receiver,
            "metrics.v1.MetricsService",
            Signal::Metric,
        ))
        .route("/grpc.health.v1.Health/Check", health.clone())
        .route("/grpc.health.v1.Health/Watch", health)
        .fallback(nowhere)
        .layer(from_fn(http2_only))
}

fn signal(receiver: &Receiver, service: &str, signal: Signal) -> Router {
    let protocol = Protocol {
        intake: IngestProtocol::OtlpGrpc,
        read_head,
        success: otlp_http::success,
    };
    let path = format!("/opentelemetry.proto.collector.{service}/Export");
    Router::new()
        .route(&path, any(serve))
        .with_state(Endpoint::new(receiver, protocol, signal))
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

async fn http2_only(request: Request, next: Next) -> Response {
    if request.version() == Version::HTTP_2 {
        next.run(request).await
    } else {
        nowhere(request).await
    }
}

async fn nowhere(request: Request) -> Response {
    let form = ResponseFormat::of(request.version(), request.uri().path(), request.headers());
    response::error(&NOWHERE, form)
}
