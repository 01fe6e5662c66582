//! Ingestion, on real sockets and a real journal.
//!
//! **Invariant:** each test has a separate listener, journal and directory.

mod connections;
mod duplicates;
mod grpc;
mod head;
mod logs;
mod messages;
mod metrics;
mod native;
mod otlp;
mod places;
mod rest;
mod transport;
mod ways;
mod whole;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use bytes::Bytes;
use ruvvector_service::journal::disk::{Disk, OsDisk};
use ruvvector_service::journal::{self, Journal, JournalEntry};
use ruvvector_service::lifecycle::Lifecycle;
use ruvvector_service::receive::{ConnectionLimit, Options, Receiver, serve};
use ruvvector_service::write::Progress;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::client::{Answer, Http};
use crate::support::http::Raw;

const EVENT: &str = r#"{"correlationId":"c","integration":"shop","eventType":"order"}"#;
const MIB: usize = 1 << 20;

/// A running receiver.
struct Served {
    address: SocketAddr,
    journal: Journal,
    http: Http,
    lifecycle: Lifecycle,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    async fn start_with(options: Options) -> Self {
        let router = ruvvector_service::router::ingestion;
        Self::start_on(256 * MIB as u64, options, router).await
    }

    async fn start_on(
        log_bytes: u64,
        options: Options,
        router: impl FnOnce(Arc<Receiver>) -> Router,
    ) -> Self {
        Self::start_on_disk(Arc::new(OsDisk), log_bytes, options, router).await
    }

    async fn start_on_disk(
        disk: Arc<dyn Disk>,
        log_bytes: u64,
        options: Options,
        router: impl FnOnce(Arc<Receiver>) -> Router,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log_options = journal::Options {
            dir: dir.path().to_owned(),
            budget_bytes: Some(log_bytes),
            segment_bytes: Some(log_bytes / 16),
            free_floor_bytes: Some(0),
            keep_stored: Duration::ZERO,
            ..journal::Options::default()
        };
        let journal = Journal::open(disk, &log_options).expect("a new journal");
        let receiver = Receiver::new(journal.clone(), Progress::default(), options.clone());
        let router = router(receiver);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let lifecycle = Lifecycle::default();
        let server = {
            let limit = ConnectionLimit::new(&options);
            tokio::spawn(serve(listener, router, options, limit, lifecycle.clone()))
        };
        Self {
            address,
            journal,
            http: Http::default(),
            lifecycle,
            server,
            _dir: dir,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.http
            .send(method, &self.url(path), headers, body)
            .await
            .expect("an answer")
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, headers, body).await
    }

    async fn post_event(&self) -> Answer {
        self.post("/ingest", &[("content-type", "application/json")], EVENT)
            .await
    }

    /// The events that the journal holds.
    async fn logged_events(&self) -> u32 {
        let live = *self.journal.streams().last().expect("a live stream");
        let mut events = 0;
        let mut from = 1;
        loop {
            let entries = self
                .journal
                .read(live.id, from, MIB)
                .await
                .expect("readable");
            if entries.is_empty() {
                return events;
            }
            for entry in entries {
                let JournalEntry::Record(record) = entry else {
                    panic!("{entry:?} in a healthy log")
                };
                events += record.accepted;
                from = record.position.n + 1;
            }
        }
    }

    /// Asserts that a well-behaved client is served as usual, and that the journal holds `events` and its own.
    async fn assert_unharmed(&self, events: u32) {
        let answer = self.post_event().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.logged_events().await, events + 1);
    }
}

/// A request of HTTP/1.1 that announces a body of that length.
fn head(path: &str, headers: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
