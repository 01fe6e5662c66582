//! The SQLite store on a real file.
//!
//! **Invariant:** after an error no part of a batch is in the file; after `Ok` all of it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ruvvector_service::event::{ContentEncoding, Event, EventFlags, ResourceId, StreamId};
use ruvvector_service::store::row_encoding::EncodedRows;
use ruvvector_service::store::{
    Batch, DeadLetter, DeadLetterKind, DeadLetterReason, Options, Store, StoreTarget,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

/// Exactly once, or not at all.
mod write;

/// Retention, resources, streams.
mod upkeep;

/// Retention and a wrong clock.
mod clock;

/// Retention on a volume that is nearly full.
mod small_volume;

/// The file itself: its readers, refused rows, retries.
mod file;

/// The file is renamed, removed or replaced while the service runs.
mod presence;

const STREAM: StreamId = StreamId([7; 16]);

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ruvvector.db")
    }

    fn options(&self) -> Options {
        Options {
            target: StoreTarget::Sqlite { path: self.path() },
            migrate: true,
            retention_days: Some(7),
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            write_connections: 1,
            read_connections: 2,
            collector: "test".to_owned(),
        }
    }

    async fn store(&self) -> Store {
        let store = Store::new(&self.options());
        store.prepare().await.expect("first contact succeeds");
        store
    }

    async fn connect(&self) -> SqliteConnection {
        connect(&self.path()).await
    }
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    SqliteConnection::connect_with(&options)
        .await
        .expect("the file opens")
}

fn now_nano() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    i64::try_from(since.expect("after 1970").as_nanos()).expect("before 2262")
}

const HOUR_NANO: i64 = 3_600_000_000_000;

fn event(correlation_id: &str) -> Event<'_> {
    Event {
        correlation_id: correlation_id.into(),
        integration: "orders".into(),
        provider: Some("acme".into()),
        event_type: "span".into(),
        timestamp_ms: 1_700_000_000_123,
        metadata: r#"{"attributes":{"é":1}}"#.into(),
        trace_id: Some("0123456789abcdef0123456789abcdef".into()),
        span_id: Some("0123456789abcdef".into()),
        parent_span_id: None,
        name: Some("GET /".into()),
        time_unix_nano: Some(1_700_000_000_123_456_789),
        duration_ns: Some(42),
        kind: Some(2),
        status: Some("OK".into()),
        resource_id: Some(ResourceId([9; 16])),
        flags: EventFlags::default(),
    }
}

fn rows(count: usize) -> EncodedRows {
    let mut rows = EncodedRows::default();
    for n in 0..count {
        rows.push(&event(&format!("c{n}")), now_nano());
    }
    rows
}

fn batch(positions: std::ops::RangeInclusive<u64>, rows: EncodedRows) -> Batch {
    Batch {
        stream: STREAM,
        positions,
        rows,
        dead_letters: Vec::new(),
    }
}

fn letter(position: u64) -> DeadLetter {
    DeadLetter {
        position,
        item: Some(3),
        events: 1,
        kind: DeadLetterKind::Row,
        content_encoding: ContentEncoding::Identity,
        decoder: 1,
        received_unix_nano: 1_700_000_000_123_456_789,
        reason: DeadLetterReason::Refused,
        sqlstate: Some("1811".to_owned()),
        message: "no".to_owned(),
        payload: b"{\0}".to_vec().into(),
    }
}

async fn count(file: &File, table: &'static str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    let mut connection = file.connect().await;
    sqlx::query_scalar(sql)
        .fetch_one(&mut connection)
        .await
        .expect("the table is there")
}
