//! `journal drain`: a data directory whose service is gone is emptied into the store.
//!
//! **Invariant:** the ledger or every row of the table decides, never only the command's own report.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{Journal, Options};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::service::{Launch, Service};

/// Draining while others run, when killed, when stopped, and again.
mod orphan;

/// Dead letters, directories that cannot be drained, the embedded store.
mod special;

/// Longer than any drain of these tests takes.
const LONG: Duration = Duration::from_secs(120);

/// The URL of a database on a port where nobody listens.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

/// The query of the alert's runbook.
const UNDRAINED: &str = "SELECT count(*) FROM ingest_streams
    WHERE released IS NULL AND appended > 0 AND oldest IS NOT NULL AND heartbeat < now() - interval '5 minutes'
      AND NOT stored_positions @> int8range(1, appended + 1)";

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-drain")
        .tempdir()
        .expect("a temporary directory")
}

fn drain(launch: &Launch) -> Launch {
    launch.clone().command(&["journal", "drain"])
}

/// Runs it to its end, and returns exit code and output.
async fn ended(launch: &Launch) -> (Option<i32>, String) {
    let mut process = launch.spawn();
    let status = process.ended(LONG).await;
    (status.code(), process.lines())
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut database = PgConnection::connect(url)
        .await
        .expect("PostgreSQL answers");
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut database)
        .await
        .expect("a number")
}

async fn execute(url: &str, sql: &str) {
    let mut database = PgConnection::connect(url)
        .await
        .expect("PostgreSQL answers");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut database)
        .await
        .expect("the statement runs");
}

/// The first report of a running collector; nothing before its first round of maintenance.
async fn undrained(service: &Service) -> Option<f64> {
    let page = service.get("/metrics").await.text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("ruvvector_streams_undrained "));
    line.map(|value| value.parse().expect("a number"))
}

/// The names of the files of a data directory's journal.
fn files(data: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(data.join("journal"))
        .expect("the directory is there")
        .map(|file| {
            file.expect("read")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// The streams of a data directory, each with its last position.
fn streams(data: &Path) -> Vec<(String, u64)> {
    let options = Options {
        dir: data.join("journal"),
        budget_bytes: None,
        segment_bytes: Some(64 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..Options::default()
    };
    let reports = Journal::inspect(Arc::new(OsDisk), &options).expect("the journal can be read");
    let mut streams: Vec<(String, u64)> = Vec::new();
    for report in reports {
        streams.push((report.stream.to_string(), report.last));
    }
    streams
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp runs").success());
}

/// Sends a request of these events.
async fn send(service: &Service, events: &serde_json::Value) {
    let answer = service
        .http
        .post(
            &service.url("/ingest"),
            "application/json",
            events.to_string(),
        )
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn event(id: &str, integration: &str) -> serde_json::Value {
    json!([{ "correlationId": id, "integration": integration, "eventType": "drained" }])
}

/// A data directory with these requests in its journal, killed; it never had a database.
async fn orphan(launch: &Launch, requests: &[serde_json::Value]) {
    let mut service = launch
        .clone()
        .with("RUVVECTOR_STORE", "postgres")
        .with("DATABASE_URL", NOWHERE)
        .start()
        .await;
    for request in requests {
        send(&service, request).await;
    }
    service.kill();
}
