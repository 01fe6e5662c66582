//! The released SDKs, as their users have them, against the service and its store.
//!
//! **Invariant:** the program itself reports what was sent; SQL, `/query` and `/traces` show what arrived.

use std::collections::HashMap;

use serde::Deserialize;

use crate::support::postgres::Database;
use crate::support::programs::{brought, run};
use crate::support::service::{Launch, Service};

/// The comparison with the table and the answers.
mod stored;

/// Python's.
mod python;

/// JavaScript's, in Node.
mod javascript;

/// JavaScript's, in a browser.
mod browser;

/// Java's.
mod java;

/// Go's.
mod go;

/// Rust's.
mod rust;

/// All of them, refused for some time.
mod refusals;

/// The protocols of a program.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    fn endpoint(self, service: &Service) -> String {
        match self {
            Self::Grpc => service.otlp_grpc(),
            Self::HttpProtobuf | Self::HttpJson => service.otlp_http(),
        }
    }
}

/// A program's report of what it sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    trace_id: String,
    spans: Vec<Span>,
    logs: usize,
    /// By the metric's name.
    points: HashMap<String, usize>,
    has: Vec<String>,
    failures: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    span_id: String,
    name: String,
    kind: i32,
    status: String,
    start: Option<String>,
    duration: Option<i64>,
}

/// Runs the program of `tests/sdk/<language>` until it has ended by itself.
async fn send(language: &str, protocol: Protocol, endpoint: &str, count: usize) -> Sent {
    let mut command = brought(&format!("target/sdk/{language}/run"));
    command
        .args([protocol.name(), &count.to_string()])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let done = run(command).await;
    let said = String::from_utf8_lossy(&done.stdout);
    let complained = String::from_utf8_lossy(&done.stderr);
    let sent: Sent = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {language} said {said:?}\n{complained}"));
    assert_eq!(
        done.status.success(),
        sent.failures.is_empty(),
        "{language}: {}\n{complained}",
        done.status
    );
    sent
}

impl Sent {
    /// True if the program's SDK can send that.
    fn has(&self, what: &str) -> bool {
        self.has.iter().any(|known| known == what)
    }
}

/// A test's directory, which is removed with it.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-sdk")
        .tempdir()
        .expect("a temporary directory")
}

/// A program's telemetry reaches the table and the answers, each piece once.
async fn arrives(language: &str, protocol: Protocol, count: usize) {
    let (database, dir) = (Database::new().await, directory());
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    let sent = send(language, protocol, &protocol.endpoint(&service), count).await;
    assert_stored(&service, &database, language, count, &sent).await;
}

/// All that a program sends for that count is stored once, and can be queried.
async fn assert_stored(
    service: &Service,
    database: &Database,
    language: &str,
    count: usize,
    sent: &Sent,
) {
    assert_eq!(sent.failures, Vec::<String>::new());
    assert_eq!((sent.spans.len(), sent.logs), (count, count));
    assert_eq!(sent.points["contract.requests"], count);
    service.until_drained().await;
    service.metrics().await.assert_balance();
    let mut sql = database.connect().await;
    stored::assert_spans(&mut sql, service, language, sent).await;
    stored::assert_logs(&mut sql, service, language, sent).await;
    stored::assert_points(&mut sql, service, language, sent).await;
}
