//! Events are exported as OTLP as they were sent: over all encodings, both stores, and in both forms.
//!
//! **Invariant:** OTLP's own messages are compared, as the OpenTelemetry project's crate reads them.

/// Requests of all shapes, the same as in the tests of decode.
#[path = "../../src/decode/tests/generate.rs"]
mod generate;

#[path = "../../src/decode/tests/generate_logs.rs"]
mod generate_logs;

#[path = "../../src/decode/tests/generate_metrics.rs"]
mod generate_metrics;

/// Equality of two requests' content.
#[path = "../../src/decode/tests/same.rs"]
mod same;

/// Requests for an export.
mod asked;

use std::path::Path;

use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use prost::Message;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::support::client::Answer;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// Requests of each signal.
const REQUESTS: usize = 150;

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-export")
        .tempdir()
        .expect("a temporary directory")
}

/// A signal as it is sent and exported.
struct Signal {
    path: &'static str,
    event_type: &'static str,
    form: fn(&[u8]) -> same::Form,
}

const SPANS: Signal = Signal {
    path: "/v1/traces",
    event_type: "span",
    form: same::spans,
};
const LOGS: Signal = Signal {
    path: "/v1/logs",
    event_type: "log",
    form: same::logs,
};
const METRICS: Signal = Signal {
    path: "/v1/metrics",
    event_type: "metric",
    form: same::metrics,
};

async fn post(service: &Service, path: &str, media: &str, body: Vec<u8>) -> Answer {
    let url = service.url(path);
    service
        .http
        .post(&url, media, body)
        .await
        .expect("an answer")
}

async fn channel(service: &Service) -> Channel {
    let endpoint = Endpoint::from_shared(service.otlp_grpc()).expect("a URL");
    endpoint.connect().await.expect("the listener is there")
}

/// Requests of all shapes, the same in every run.
fn requests<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..REQUESTS)
        .map(|_| {
            let tree = strategy.new_tree(&mut runner).expect("nothing is filtered");
            tree.current()
        })
        .collect()
}

/// Sends requests, one as protobuf, one as JSON, one over gRPC, and so on; returns their combined content, encoded.
async fn send<T: Message + Clone>(
    service: &Service,
    signal: &Signal,
    requests: Vec<T>,
    to_json: fn(&T) -> Value,
    mut grpc: impl AsyncFnMut(T) -> Result<(), tonic::Status>,
) -> Vec<u8> {
    let mut sent = Vec::new();
    for (index, request) in requests.into_iter().enumerate() {
        let protobuf = request.encode_to_vec();
        sent.extend_from_slice(&protobuf);
        let is_taken = match index % 3 {
            0 => {
                let answer = post(service, signal.path, PROTOBUF, protobuf.clone()).await;
                answer.status == StatusCode::OK
            }
            1 => {
                let json = to_json(&request).to_string().into_bytes();
                post(service, signal.path, JSON, json).await.status == StatusCode::OK
            }
            _ => grpc(request).await.is_ok(),
        };
        // If every item is invalid, the request is refused.
        assert!(is_taken || (signal.form)(&protobuf).is_empty());
    }
    sent
}

/// All pages of a signal's export.
async fn exported(service: &Service, signal: &Signal, accept: &str) -> Vec<Vec<u8>> {
    let event_type = signal.event_type;
    let mut path = format!("/query?eventType={event_type}&format=otlp&limit=40");
    let mut pages = Vec::new();
    loop {
        let answer = asked::get(service, &path, accept).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some(accept));
        pages.push(answer.body.to_vec());
        match asked::next(&answer) {
            Some(next) => path = next,
            None => return pages,
        }
    }
}

/// Protobuf's messages one after the other are one message that holds all their elements.
async fn assert_exports(service: &Service, signal: &Signal, sent: &[u8]) {
    let pages = exported(service, signal, PROTOBUF).await;
    assert!(pages.len() > 1, "more than a page");
    let (sent, exported) = ((signal.form)(sent), (signal.form)(&pages.concat()));
    for item in sent.keys().chain(exported.keys()) {
        assert_eq!(sent.get(item), exported.get(item), "{item}");
    }
}

/// An export as JSON is accepted by another collector as a client's request.
async fn send_on(from: &Service, to: &Service, signal: &Signal) {
    for page in exported(from, signal, JSON).await {
        let answer = post(to, signal.path, JSON, page).await;
        assert_eq!(answer.text(), "{}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_in_any_encoding_comes_back_from_both_stores_in_both_forms() {
    let database = Database::new().await;
    let (first, second) = (directory(), directory());
    let launch = |dir: &Path| Launch::postgres(dir, &database.url);
    let postgres = launch(first.path()).start().await;
    let sqlite = Launch::sqlite(second.path()).start().await;
    let channel = channel(&postgres).await;

    let mut client = TraceServiceClient::new(channel.clone());
    let spans = send(
        &postgres,
        &SPANS,
        requests(generate::request()),
        generate::to_json,
        async |request| client.export(request).await.map(drop),
    )
    .await;
    let mut client = LogsServiceClient::new(channel.clone());
    let logs = send(
        &postgres,
        &LOGS,
        requests(generate_logs::request()),
        generate_logs::to_json,
        async |request| client.export(request).await.map(drop),
    )
    .await;
    let mut client = MetricsServiceClient::new(channel);
    let metrics = send(
        &postgres,
        &METRICS,
        requests(generate_metrics::request()),
        generate_metrics::to_json,
        async |request| client.export(request).await.map(drop),
    )
    .await;
    postgres.until_drained().await;

    let all = [(&SPANS, spans), (&LOGS, logs), (&METRICS, metrics)];
    for (signal, sent) in &all {
        assert_exports(&postgres, signal, sent).await;
        send_on(&postgres, &sqlite, signal).await;
    }
    sqlite.until_drained().await;
    for (signal, sent) in &all {
        assert_exports(&sqlite, signal, sent).await;
    }
}
