//! Every route of the service, by port.
//!
//! **Invariant:** a path is served only if this table names it with its handler.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, map_response};
use axum::routing::get;

use crate::event::Signal;
use crate::health::{self, HealthMonitor};
use crate::lifecycle::Lifecycle;
use crate::query::{self, Queries};
use crate::receive::protocol::{native, otlp_grpc, otlp_http};
use crate::receive::{self, Receiver};

/// Returns the routes of the main port: ingestion, queries, health and metrics.
pub fn main_port(
    receiver: Arc<Receiver>,
    queries: Queries,
    health: HealthMonitor,
    options: &receive::Options,
) -> Router {
    ingestion(receiver)
        .merge(receive::authenticated(reads(queries), options))
        .merge(state(health))
        .method_not_allowed_fallback(receive::read_only)
}

/// Returns the routes of native events and OTLP over HTTP, with the answer to unknown paths.
pub fn ingestion(receiver: Arc<Receiver>) -> Router {
    let ingest = native::ingest(&receiver);
    Router::new()
        .route("/ingest", ingest.clone())
        .route("/ingest/", ingest)
        .merge(otlp_over_http(&receiver))
        .merge(
            Router::new()
                .fallback(otlp_http::not_found)
                .with_state(receiver),
        )
}

/// Returns the routes of the port for OTLP over HTTP.
pub fn otlp_http_port(receiver: Arc<Receiver>) -> Router {
    otlp_over_http(&receiver).merge(
        Router::new()
            .fallback(otlp_http::not_found_for_otlp)
            .with_state(receiver),
    )
}

fn otlp_over_http(receiver: &Arc<Receiver>) -> Router {
    [
        ("/v1/traces", Signal::Span),
        ("/v1/logs", Signal::Log),
        ("/v1/metrics", Signal::Metric),
    ]
    .into_iter()
    .fold(Router::new(), |router, (path, signal)| {
        let export = otlp_http::export(receiver, signal);
        router
            .route(path, export.clone())
            .route(&format!("{path}/"), export.clone())
            // An exporter whose endpoint ends in a slash sends to `//v1/…`.
            .route(&format!("/{path}"), export)
    })
}

/// Returns the routes of the port for OTLP over gRPC, with gRPC's health service. That reports the
/// phase of `lifecycle`, and its watches end when the port stops.
pub fn otlp_grpc_port(receiver: &Arc<Receiver>, lifecycle: Lifecycle) -> Router {
    let health = otlp_grpc::health(receiver, lifecycle);
    Router::new()
        .route(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            otlp_grpc::export(receiver, Signal::Span),
        )
        .route(
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            otlp_grpc::export(receiver, Signal::Log),
        )
        .route(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            otlp_grpc::export(receiver, Signal::Metric),
        )
        .route("/grpc.health.v1.Health/Check", health.clone())
        .route("/grpc.health.v1.Health/Watch", health)
        .fallback(otlp_grpc::not_found)
        .layer(from_fn(otlp_grpc::http2_only))
}

/// Returns the routes that read stored events, as our JSON or as OTLP.
pub fn reads(queries: Queries) -> Router {
    Router::new()
        .route("/query", get(query::events))
        .route("/query/{id}", get(query::event))
        .route("/aggregate", get(query::aggregate))
        .route("/traces/{traceId}", get(query::trace))
        .with_state(queries)
        .layer(map_response(query::vary_by_accept))
}

/// Returns the routes of the process's state.
fn state(health: HealthMonitor) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(health)
}
