//! Events that were deleted from the store disappear from the data directory.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::directory;
use super::torn::number;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const MARKER: &str = "zebra-7f3a91-person";

/// Files below `dir` that hold the marker.
fn files_with_marker(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with_marker(&path));
        } else if let Ok(content) = std::fs::read(&path)
            && content
                .windows(MARKER.len())
                .any(|bytes| bytes == MARKER.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The procedure of `docs/operations.md`.
async fn delete(launch: &Launch, database: &Database, kind: &str) {
    let row = format!("DELETE FROM telemetry_events WHERE correlation_id = '{MARKER}'");
    if kind == "postgres" {
        let mut connection = database.connect().await;
        connection
            .execute(AssertSqlSafe(row))
            .await
            .expect("deleted");
        return;
    }
    let options = SqliteConnectOptions::new()
        .filename(launch.sqlite_file())
        .busy_timeout(Duration::from_secs(60));
    let mut connection = sqlx::SqliteConnection::connect_with(&options)
        .await
        .expect("opens");
    for sql in [row.as_str(), "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        connection
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .expect(sql);
    }
}

/// A deleted row's bytes stayed in the open segment of the journal for as long as little arrived.
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_deleted_event_leave_the_data_directory_while_little_arrives() {
    for kind in ["postgres", "sqlite"] {
        let dir = directory();
        let database = Database::new().await;
        let launch = match kind {
            "postgres" => Launch::postgres(dir.path(), &database.url),
            _ => Launch::sqlite(dir.path()),
        };
        let launch = launch
            .with("RUVVECTOR_JOURNAL_SEGMENT_BYTES", "1MiB")
            .with("RUVVECTOR_JOURNAL_KEEP_STORED", "2s");
        let service = launch.start().await;
        let url = service.url("/ingest?wait=stored");
        for id in ["before", MARKER, "after"] {
            let event =
                format!(r#"{{"correlationId":"{id}","integration":"shop","eventType":"x"}}"#);
            let sent = service.http.post(&url, "application/json", event).await;
            assert_eq!(sent.expect("an answer").status, 200);
        }
        assert!(!files_with_marker(dir.path()).is_empty());
        delete(&launch, &database, kind).await;
        service
            .until("no file holds it", async |_: &Service| {
                files_with_marker(dir.path()).is_empty()
            })
            .await;
        if kind == "postgres" {
            let left = "SELECT count(*) FROM telemetry_events";
            assert_eq!(number(&database, left).await, 2);
        }
    }
}
