//! A client that sends a request again, to the real binary with the embedded store.
//!
//! **Invariant:** the final checks use the store's rows and the balance of the counters.

use std::path::Path;

use futures_util::future::join_all;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::otlp::{request, span};
use super::{EVENT, head};
use crate::support::client::Answer;
use crate::support::http::Raw;
use crate::support::service::{Launch, Service};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Three spans, one of which is invalid: a partial success.
fn spans(name: &str) -> Vec<u8> {
    let spans = [[1; 16], [2; 16], [0; 16]].map(|trace_id| Span {
        name: name.to_owned(),
        ..span(&trace_id)
    });
    request(spans.to_vec()).encode_to_vec()
}

/// Two equal lines with the same time.
fn lines(time_unix_nano: u64) -> Vec<u8> {
    let line = LogRecord {
        time_unix_nano,
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![line.clone(), line],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

impl Service {
    async fn export(&self, path: &str, body: Vec<u8>) -> Answer {
        let url = self.url(path);
        let answer = self.http.post(&url, PROTOBUF, body).await;
        answer.expect("an answer")
    }

    async fn ingest_under(&self, key: &str, query: &str, body: &'static str) -> Answer {
        let url = self.url(&format!("/ingest{query}"));
        let headers = [("content-type", JSON), ("idempotency-key", key)];
        let post = axum::http::Method::POST;
        let answer = self.http.send(post, &url, &headers, body).await;
        answer.expect("an answer")
    }

    /// Waits until all is stored, and returns the rows in the store and the requests of that outcome.
    async fn rows_and(&self, outcome: &str) -> (usize, f64) {
        self.until_drained().await;
        let page = self.metrics().await;
        page.assert_balance();
        let label = format!("outcome=\"{outcome}\"");
        let rows = self.get("/query?limit=1000").await.json();
        (
            rows.as_array().expect("an array").len(),
            page.sum_where("ruvvector_receive_requests_total", &label),
        )
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn start(dir: &Path, settings: &[(&str, &str)]) -> Service {
    let launch = Launch::sqlite(dir);
    let launch = settings
        .iter()
        .fold(launch, |launch, (name, value)| launch.with(name, value));
    launch.start().await
}

#[tokio::test]
async fn g14_a_request_sent_again_gets_the_same_answer_and_is_stored_once() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    let first = service.export("/v1/traces", spans("a")).await;
    assert_eq!(first.status, 200);
    assert!(first.text().contains("1 of 3 items were rejected"));
    for _ in 0..3 {
        let again = service.export("/v1/traces", spans("a")).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
    }
    // Another byte is another request.
    assert_eq!(service.export("/v1/traces", spans("b")).await.status, 200);
    assert_eq!(service.rows_and("duplicate").await, (4, 3.0));
    let page = service.metrics().await;
    let events = |label| page.sum_where("ruvvector_receive_events_total", label);
    assert_eq!(events(r#"outcome="rejected""#), 2.0, "of the first of each");
    let duplicates = page.sum_where("ruvvector_duplicates_total", r#"signal="span""#);
    assert_eq!(duplicates, 6.0);
}

#[tokio::test]
async fn a_retry_of_a_client_that_got_no_answer_is_stored_once() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    let body = spans("a");
    let mut lost = Raw::connect(service.address()).await;
    let head = head(
        "/v1/traces",
        &format!("Content-Type: {PROTOBUF}\r\n"),
        body.len(),
    );
    lost.send([head.as_bytes(), &body].concat()).await;
    service
        .until("the request has come in", async |service: &Service| {
            let page = service.metrics().await;
            page.sum_where("ruvvector_receive_events_total", r#"outcome="accepted""#) == 2.0
        })
        .await;
    // Not before: a client that disconnects while the request is read may have it dropped.
    drop(lost);
    assert_eq!(service.export("/v1/traces", body).await.status, 200);
    assert_eq!(service.rows_and("duplicate").await, (2, 1.0));
}

#[tokio::test]
async fn a_retry_after_a_kill_and_a_new_start_is_stored_once() {
    let dir = directory();
    let mut service = start(dir.path(), &[]).await;
    let first = service.export("/v1/traces", spans("a")).await;
    assert_eq!(service.ingest_under("k1", "", EVENT).await.status, 200);
    // Twice: with drained and undrained records, and with sealed and torn segments.
    for round in 1..=2 {
        service.kill();
        service = start(dir.path(), &[]).await;
        let again = service.export("/v1/traces", spans("a")).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(service.ingest_under("k1", "", EVENT).await.status, 200);
        assert_eq!(service.ingest_under("k1", "", "[]").await.status, 200);
        let other = service
            .ingest_under(
                "k1",
                "",
                r#"{"correlationId":"d","integration":"shop","eventType":"order"}"#,
            )
            .await;
        assert_eq!(other.status, 422, "{}", other.text());
        assert_eq!(service.rows_and("duplicate").await, (3, 2.0), "{round}");
    }
}

#[tokio::test]
async fn of_equal_requests_at_once_one_is_stored_and_all_are_answered() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    let all = join_all((0..40).map(|_| service.export("/v1/traces", spans("a")))).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert!(all.iter().all(|answer| answer.body == all[0].body));
    assert_eq!(service.rows_and("duplicate").await, (2, 39.0));
}

#[tokio::test]
async fn past_the_window_and_where_it_is_off_a_request_is_stored_again() {
    for window in ["1ms", "off"] {
        let dir = directory();
        let service = start(dir.path(), &[("RUVVECTOR_DUPLICATE_WINDOW", window)]).await;
        for _ in 0..2 {
            assert_eq!(service.export("/v1/traces", spans("a")).await.status, 200);
            assert_eq!(service.ingest_under("k", "", EVENT).await.status, 200);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(service.rows_and("duplicate").await, (6, 0.0), "{window}");
    }
}

#[tokio::test]
async fn two_equal_log_lines_are_two_unless_a_setting_and_their_times_say_otherwise() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    for _ in 0..2 {
        let answer = service
            .export("/v1/logs", lines(1_700_000_000_000_000_000))
            .await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(service.rows_and("duplicate").await, (4, 0.0));

    let dir = directory();
    let signals = [("RUVVECTOR_DUPLICATE_SIGNALS", "traces, logs, metrics")];
    let service = start(dir.path(), &signals).await;
    for time in [1_700_000_000_000_000_000, 0] {
        for _ in 0..2 {
            let answer = service.export("/v1/logs", lines(time)).await;
            assert_eq!(answer.status, 200);
        }
    }
    assert_eq!(service.rows_and("duplicate").await, (6, 1.0));
    let page = service.metrics().await;
    let duplicates = page.sum_where("ruvvector_duplicates_total", r#"signal="log""#);
    assert_eq!(duplicates, 2.0);
}

#[tokio::test]
async fn native_events_are_known_by_their_idempotency_key_alone() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    for _ in 0..2 {
        let answer = service
            .http
            .post(&service.url("/ingest"), JSON, EVENT)
            .await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    for key in ["k", "\"k\"", "k"] {
        let answer = service.ingest_under(key, "?wait=stored", EVENT).await;
        assert_eq!(
            answer.text(),
            r#"{"accepted":1,"rejected":0,"stored":true}"#
        );
    }
    assert_eq!(service.ingest_under("l", "", EVENT).await.status, 200);
    assert_eq!(service.rows_and("duplicate").await, (4, 2.0));

    let longest = "x".repeat(255);
    assert_eq!(service.ingest_under(&longest, "", EVENT).await.status, 200);
    let longer = "x".repeat(256);
    for refused in [longer.as_str(), "", "\"\""] {
        let answer = service.ingest_under(refused, "", EVENT).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("Idempotency-Key"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_key_of_a_request_that_was_refused_can_be_used_again() {
    let dir = directory();
    let service = start(dir.path(), &[]).await;
    assert_eq!(service.ingest_under("k", "", "{}").await.status, 400);
    assert_eq!(service.ingest_under("k", "", EVENT).await.status, 200);
    assert_eq!(service.rows_and("duplicate").await, (1, 0.0));
}
