//! The service refuses for some time, as its journal is full, and every SDK sends all of it again later.
//!
//! **Invariant:** the refusals are the service's own, and each signal has had one before the service accepts more.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::Connection;

use super::{Protocol, Sent, assert_stored, directory, send};
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const COUNT: usize = 50;

/// Sends events until not even a small one is accepted.
async fn fill(service: &Service) {
    for bytes in [100_000, 500] {
        let metadata = json!({"filler": "x".repeat(bytes)});
        let event = json!({
            "correlationId": "full", "integration": "filler", "eventType": "filler", "metadata": metadata,
        });
        loop {
            let url = service.url("/ingest");
            let sent = service
                .http
                .post(&url, "application/json", event.to_string());
            let answer = sent.await.expect("an answer");
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                let wait = answer
                    .header("retry-after")
                    .expect("it says when to come again");
                assert!(
                    (1..=5).contains(&wait.parse::<u8>().expect("seconds")),
                    "{wait}"
                );
                break;
            }
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
    }
}

/// True if a request of each signal was refused.
async fn has_refused_all(service: &Service) -> bool {
    let page = service.metrics().await;
    ["span", "log", "metric"].iter().all(|signal| {
        let label = format!("signal=\"{signal}\",outcome=\"refused\"");
        page.sum_where("ruvvector_receive_requests_total", &label) >= 1.0
    })
}

/// A service that refused a program until all three signals were refused, and then accepted more.
struct Refused {
    service: Service,
    database: Database,
    sent: Sent,
    _dir: tempfile::TempDir,
}

impl Refused {
    async fn once(language: &str, protocol: Protocol) -> Self {
        let (database, dir) = (Database::new().await, directory());
        let launch = Launch::postgres(dir.path(), &database.url)
            .with("RUVVECTOR_JOURNAL_MAX_BYTES", "2MiB")
            .with("RUVVECTOR_OTLP_WIRE_BYTES", "1MiB")
            .with("RUVVECTOR_INGEST_WIRE_BYTES", "1MiB")
            .with("RUVVECTOR_RETRY_MAX", "500ms");
        let service = launch.start().await;
        service
            .until("the table is there", async |service: &Service| {
                service.health().await["status"] == "ok"
            })
            .await;
        let mut holder = database.connect().await;
        let mut held = holder.begin().await.expect("a transaction");
        sqlx::query("LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *held)
            .await
            .expect("the table can be locked");
        fill(&service).await;

        let endpoint = protocol.endpoint(&service);
        let release = async {
            let refused = async |service: &Service| has_refused_all(service).await;
            service.until("each signal was refused", refused).await;
            held.rollback().await.expect("the lock is let go");
        };
        let (sent, ()) = tokio::join!(send(language, protocol, &endpoint, COUNT), release);
        Self {
            service,
            database,
            sent,
            _dir: dir,
        }
    }
}

/// All that a program sent is stored once in the end.
pub(super) async fn arrives_later(language: &str, protocol: Protocol) {
    let refused = Refused::once(language, protocol).await;
    assert_stored(
        &refused.service,
        &refused.database,
        language,
        COUNT,
        &refused.sent,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_grpc_comes_again_and_nothing_is_missing() {
    arrives_later("python", Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_in_protobuf_over_http_comes_again_and_nothing_is_missing() {
    arrives_later("python", Protocol::HttpProtobuf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_in_json_comes_again_and_nothing_is_missing() {
    arrives_later("python", Protocol::HttpJson).await;
}

// JavaScript's exporter over gRPC tries only once, whatever the answer, and reports the failure: a fact of that SDK,
// which docs/sdks.md has for its users. When a later version tries again, this is to be `arrives_later`.
#[tokio::test(flavor = "multi_thread")]
async fn javascript_over_grpc_reports_what_was_not_accepted() {
    let refused = Refused::once("javascript", Protocol::Grpc).await;
    assert_ne!(refused.sent.failures, Vec::<String>::new());
    refused.service.until_drained().await;
    let path = "/query?integration=sdk-javascript";
    assert_eq!(refused.service.get(path).await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_in_protobuf_over_http_comes_again_and_nothing_is_missing() {
    arrives_later("javascript", Protocol::HttpProtobuf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_in_json_comes_again_and_nothing_is_missing() {
    arrives_later("javascript", Protocol::HttpJson).await;
}
