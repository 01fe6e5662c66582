//! Traces of the service's own work, from the real binary to the real binary.
//!
//! **Invariant:** every assertion on a span uses the receiver's `/traces` and `/query`, or its store.

use std::time::Duration;

use axum::http::Method;
use serde_json::Value;

use crate::support::ports::free_port;
use crate::support::service::{Launch, Service};

/// The spans, and their parents and links.
mod tree;

/// Log lines with their trace.
mod lines;

/// A service that exports to itself, and two that export to each other.
mod loops;

/// Endpoints that are unavailable, slow, or invalid; and variables of the environment.
mod endpoint;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// The longest that a span waits for others before it is exported.
const INTERVAL: Duration = Duration::from_secs(1);

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-own")
        .tempdir()
        .expect("a temporary directory")
}

/// A request's `traceparent`.
fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

/// Sends one event with that `traceparent`.
async fn ingest(service: &Service, traceparent: &str) {
    let event = r#"{"correlationId":"own-1","integration":"shop","eventType":"order"}"#;
    let headers = [("traceparent", traceparent)];
    let answer = service
        .http
        .send(
            Method::POST,
            &service.url("/ingest?wait=stored"),
            &headers,
            event,
        )
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The spans of a trace, once there are at least that many.
async fn spans(service: &Service, trace: &str, least: usize) -> Vec<Value> {
    let path = format!("/traces/{trace}");
    service
        .until("the spans are there", async |service: &Service| {
            of(service, &path).await.len() >= least
        })
        .await;
    of(service, &path).await
}

/// The array in the answer of a path.
async fn of(service: &Service, path: &str) -> Vec<Value> {
    let answer = service.get(path).await;
    let events = answer.json();
    events.as_array().cloned().unwrap_or_default()
}

/// All own spans that are stored.
async fn all(service: &Service) -> Vec<Value> {
    of(
        service,
        "/query?integration=ruvvector-service&eventType=span&limit=10000",
    )
    .await
}

/// Waits until the database can be asked.
async fn until_well(service: &Service) {
    service
        .until("the service is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
}

/// The one span of that name.
fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found: Vec<_> = spans.iter().filter(|span| span["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    &span["metadata"]["attributes"][key]
}

/// Exports to `endpoint`, and traces only the requests whose caller asks for it.
fn tracing_to(launch: Launch, endpoint: &str) -> Launch {
    launch
        .with("RUVVECTOR_TRACES_ENDPOINT", endpoint)
        .with("RUVVECTOR_TRACES_SAMPLE_RATIO", "0")
}
