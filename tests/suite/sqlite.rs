//! The SQLite store on a real file.
//!
//! **Invariant:** after an error nothing of a batch is in the file; after `Ok` all of it is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ruvvector_service::event::{Event, Flags, Resource, ResourceId};
use ruvvector_service::log::StreamId;
use ruvvector_service::store::copy::Rows;
use ruvvector_service::store::{
    Account, Batch, DeadLetter, Options, Store, StoreError, StreamFacts, Target,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};

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
            target: Target::Sqlite { path: self.path() },
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
        flags: Flags::default(),
    }
}

fn rows(count: usize) -> Rows {
    let mut rows = Rows::default();
    for n in 0..count {
        rows.push(&event(&format!("c{n}")), now_nano());
    }
    rows
}

fn batch(positions: std::ops::RangeInclusive<u64>, rows: Rows) -> Batch {
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
        kind: "row",
        content_encoding: "identity",
        decoder: 1,
        received_unix_nano: 1_700_000_000_123_456_789,
        reason: "refused",
        sqlstate: Some("1811".to_owned()),
        message: "no".to_owned(),
        payload: b"{\0}".to_vec(),
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

#[tokio::test]
async fn rows_dead_letters_and_positions_are_stored_as_they_are() {
    let file = File::new();
    let store = file.store().await;
    let received = now_nano() / 1_000 * 1_000;
    let mut sent = Rows::default();
    let mut flagged = event("first");
    flagged.flags = Flags::CUT;
    sent.push(&flagged, received);
    let bare = Event {
        provider: None,
        trace_id: None,
        span_id: None,
        name: None,
        time_unix_nano: None,
        duration_ns: None,
        kind: None,
        status: None,
        resource_id: None,
        ..event("second")
    };
    sent.push(&bare, received);
    let sent = Batch {
        dead_letters: vec![letter(2)],
        ..batch(1..=2, sent)
    };
    store.write(&sent).await.expect("the batch is stored");

    let mut connection = file.connect().await;
    let stored = sqlx::query("SELECT * FROM telemetry_events ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .expect("the rows are there");
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].get::<String, _>("correlation_id"), "first");
    assert_eq!(stored[0].get::<i64, _>("timestamp"), 1_700_000_000_123);
    assert_eq!(
        stored[0].get::<i64, _>("time_unix_nano"),
        1_700_000_000_123_456_789
    );
    assert_eq!(stored[0].get::<i64, _>("created_at"), received / 1_000);
    assert_eq!(stored[0].get::<i64, _>("flags"), i64::from(Flags::CUT.0));
    assert_eq!(stored[0].get::<i64, _>("kind"), 2);
    assert_eq!(stored[0].get::<String, _>("status"), "OK");
    assert_eq!(stored[0].get::<Vec<u8>, _>("resource_id"), [9; 16]);
    assert_eq!(
        stored[0].get::<String, _>("metadata"),
        r#"{"attributes":{"é":1}}"#
    );
    assert_eq!(stored[1].get::<String, _>("integration"), "orders");
    for absent in [
        "provider",
        "trace_id",
        "span_id",
        "parent_span_id",
        "name",
        "status",
    ] {
        assert_eq!(stored[1].get::<Option<String>, _>(absent), None);
    }
    for absent in ["time_unix_nano", "duration_ns", "kind", "flags"] {
        assert_eq!(stored[1].get::<Option<i64>, _>(absent), None);
    }
    let dead = sqlx::query("SELECT * FROM telemetry_dead_letters")
        .fetch_one(&mut connection)
        .await
        .expect("the dead letter is there");
    assert_eq!(dead.get::<Vec<u8>, _>("payload"), b"{\0}");
    assert_eq!(dead.get::<i64, _>("item"), 3);
    assert_eq!(dead.get::<i64, _>("received_at"), 1_700_000_000_123_456);
    let account = store.account(STREAM).await.expect("the account is read");
    assert_eq!(account, Account::new([1..=2]));
}

#[tokio::test]
async fn a_batch_that_overlaps_the_account_stores_nothing() {
    let file = File::new();
    let store = file.store().await;
    store.write(&batch(5..=8, rows(3))).await.expect("stored");
    store
        .write(&batch(1..=2, rows(1)))
        .await
        .expect("stored, though before");
    for overlap in [8..=9, 4..=5, 6..=7, 1..=10] {
        let again = store.write(&batch(overlap, rows(2))).await;
        assert!(matches!(again, Err(StoreError::AlreadyStored)), "{again:?}");
    }
    assert_eq!(count(&file, "telemetry_events").await, 4);
    store
        .write(&batch(3..=4, Rows::default()))
        .await
        .expect("a hole joins");
    let account = store.account(STREAM).await.expect("the account is read");
    assert_eq!(account, Account::new([1..=8]));
    let other = store
        .account(StreamId([1; 16]))
        .await
        .expect("unknown streams are empty");
    assert_eq!(other, Account::default());
}

#[tokio::test]
async fn the_row_that_is_refused_is_named_and_nothing_of_its_batch_stays() {
    let file = File::new();
    let store = file.store().await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events WHEN NEW.correlation_id LIKE 'bad%'
                   BEGIN SELECT RAISE(ABORT, 'not that one'); END";
    sqlx::query(trigger)
        .execute(&mut file.connect().await)
        .await
        .expect("the trigger is made");
    for bad in [0, 31, 32, 40, 99] {
        let mut sent = rows(bad);
        sent.push(&event("bad"), now_nano());
        for n in bad + 1..100 {
            sent.push(&event(&format!("c{n}")), now_nano());
        }
        let first = bad as u64 * 10 + 1;
        let mut sent = batch(first..=first + 3, sent);
        let refused = store.write(&sent).await;
        let Err(StoreError::Refused {
            row,
            sqlstate,
            message,
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((row, sqlstate.as_str()), (Some(bad), "1811"));
        assert!(message.contains("not that one"));
        assert_eq!(count(&file, "telemetry_events").await % 99, 0);
        sent.rows.remove(bad);
        store.write(&sent).await.expect("the rest is stored");
    }
    assert_eq!(count(&file, "telemetry_events").await, 5 * 99);
    store.probe().await.expect("good rows are taken");
    assert_eq!(count(&file, "telemetry_events").await, 5 * 99);
}

#[tokio::test]
async fn a_time_of_receipt_that_cannot_be_is_replaced_and_flagged() {
    let file = File::new();
    let store = file.store().await;
    let mut sent = Rows::default();
    for received in [
        0,
        now_nano() - 8 * 24 * HOUR_NANO,
        now_nano() + 25 * HOUR_NANO,
    ] {
        sent.push(&event("wrong"), received);
    }
    for received in [now_nano() - 6 * 24 * HOUR_NANO, now_nano() + 23 * HOUR_NANO] {
        sent.push(&event("right"), received);
    }
    let before = now_nano() / 1_000;
    store.write(&batch(1..=1, sent)).await.expect("stored");
    let mut connection = file.connect().await;
    let replaced = "SELECT count(*) FROM telemetry_events
                    WHERE correlation_id = 'wrong' AND flags = 8 AND created_at BETWEEN ? AND ?";
    let replaced: i64 = sqlx::query_scalar(replaced)
        .bind(before)
        .bind(now_nano() / 1_000)
        .fetch_one(&mut connection)
        .await
        .expect("counts");
    let kept =
        "SELECT count(*) FROM telemetry_events WHERE correlation_id = 'right' AND flags IS NULL";
    let kept: i64 = sqlx::query_scalar(kept)
        .fetch_one(&mut connection)
        .await
        .expect("counts");
    assert_eq!((replaced, kept), (3, 2));
}

#[tokio::test]
async fn retention_removes_what_is_due_and_nothing_else() {
    let file = File::new();
    let store = file.store().await;
    store
        .write(&batch(1..=1, rows(5_000)))
        .await
        .expect("stored");
    let age =
        "UPDATE telemetry_events SET created_at = created_at - 8 * 86400000000 WHERE id <= 4500";
    sqlx::query(age)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    let maintained = store.maintain(None).await.expect("maintained");
    assert_eq!(maintained.retention_overdue_days, 0);
    assert_eq!(count(&file, "telemetry_events").await, 500);

    let for_ever = Store::new(&Options {
        retention_days: None,
        ..file.options()
    });
    let age = "UPDATE telemetry_events SET created_at = created_at - 800 * 86400000000";
    sqlx::query(age)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    for_ever.maintain(None).await.expect("maintained");
    assert_eq!(count(&file, "telemetry_events").await, 500);
}

#[tokio::test]
async fn a_resource_is_stored_once_and_a_silent_stream_is_seen_by_others() {
    let file = File::new();
    let store = file.store().await;
    let facts = StreamFacts {
        stream: STREAM,
        appended: 9,
        oldest_unix_nano: Some(now_nano()),
    };
    let resource = Resource {
        id: ResourceId([9; 16]),
        resource: r#"{"attributes":{"service.name":"orders"}}"#.to_owned(),
        scope: "{}".to_owned(),
    };
    for _ in 0..2 {
        let resources = [resource.clone()];
        store
            .write_resources(facts, &resources)
            .await
            .expect("stored");
    }
    assert_eq!(count(&file, "telemetry_resources").await, 1);
    store.write(&batch(1..=4, rows(1))).await.expect("stored");
    store
        .heartbeat(&[facts], &[])
        .await
        .expect("the heart beats");

    let silent = "UPDATE ingest_streams SET heartbeat = heartbeat - 3600000000";
    sqlx::query(silent)
        .execute(&mut file.connect().await)
        .await
        .expect("silenced");
    let other = Store::new(&Options {
        collector: "other".to_owned(),
        ..file.options()
    });
    assert_eq!(
        store
            .maintain(None)
            .await
            .expect("maintained")
            .undrained_streams,
        0
    );
    assert_eq!(
        other
            .maintain(None)
            .await
            .expect("maintained")
            .undrained_streams,
        1
    );
    store.write(&batch(5..=9, rows(1))).await.expect("stored");
    assert_eq!(
        other
            .maintain(None)
            .await
            .expect("maintained")
            .undrained_streams,
        0
    );

    store.heartbeat(&[], &[STREAM]).await.expect("released");
    assert_eq!(count(&file, "ingest_streams").await, 1);
    // A copy of the directory released it while its origin goes on: no more is it released.
    let long_ago = "UPDATE ingest_streams SET released = released - 31 * 86400000000, heartbeat = heartbeat - 31 * 86400000000";
    sqlx::query(long_ago)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    store
        .heartbeat(&[facts], &[])
        .await
        .expect("the heart beats");
    assert_eq!(count(&file, "ingest_streams").await, 1);
    store.heartbeat(&[], &[STREAM]).await.expect("released");
    sqlx::query(long_ago)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    store.heartbeat(&[], &[]).await.expect("the heart beats");
    assert_eq!(count(&file, "ingest_streams").await, 0);
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone_and_survives_a_second_first_contact() {
    let file = File::new();
    let store = file.store().await;
    store.write(&batch(1..=1, rows(3))).await.expect("stored");
    for name in ["ruvvector.db", "ruvvector.db-wal"] {
        let found = std::fs::metadata(file.dir.path().join(name)).expect("the file is there");
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let again = file.store().await;
    assert_eq!(count(&file, "telemetry_events").await, 3);
    assert!(again.ping().await.is_ok());
    assert!(again.pools()[0].max == 1 && again.pools()[1].max == 2);
}

#[tokio::test]
async fn a_schema_that_is_newer_foreign_or_incomplete_is_refused_with_a_sentence() {
    let newer = File::new();
    newer.store().await;
    sqlx::query("INSERT INTO ruvvector_migrations VALUES (99, 'later', 0)")
        .execute(&mut newer.connect().await)
        .await
        .expect("noted");
    let foreign = File::new();
    sqlx::query("CREATE TABLE telemetry_events (id INTEGER PRIMARY KEY)")
        .execute(&mut foreign.connect().await)
        .await
        .expect("made");
    let lacking = File::new();
    lacking.store().await;
    sqlx::raw_sql("DROP VIEW telemetry_spans; ALTER TABLE telemetry_events DROP COLUMN status")
        .execute(&mut lacking.connect().await)
        .await
        .expect("dropped");
    for (file, what) in [
        (newer, "newer version"),
        (foreign, "did not make"),
        (lacking, "lacks the columns status"),
    ] {
        let refused = Store::new(&file.options()).prepare().await;
        let Err(StoreError::Schema(sentence)) = refused else {
            panic!("{what}: {refused:?}");
        };
        assert!(sentence.contains(what), "{sentence}");
    }
    let empty = File::new();
    let unmigrated = Store::new(&Options {
        migrate: false,
        ..empty.options()
    });
    let refused = unmigrated.prepare().await;
    assert!(matches!(refused, Err(StoreError::Schema(_))), "{refused:?}");
}

#[tokio::test]
async fn a_lock_a_damaged_file_and_a_missing_directory_are_tried_again_and_say_what_to_do() {
    let locked = File::new();
    locked.store().await;
    let mut other = locked.connect().await;
    sqlx::raw_sql("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .expect("locked");
    let impatient = Store::new(&Options {
        statement_timeout: Duration::from_millis(200),
        ..locked.options()
    });
    let error = impatient.write(&batch(1..=1, rows(1))).await;
    assert_retry(&error, "timeout", "");
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut other)
        .await
        .expect("unlocked");
    let freed = locked.store().await;
    freed.write(&batch(1..=1, rows(1))).await.expect("stored");

    let damaged = File::new();
    std::fs::write(damaged.path(), vec![b'x'; 8192]).expect("written");
    let error = Store::new(&damaged.options()).prepare().await;
    assert_retry(&error, "schema", "move it aside");

    let missing = File::new();
    let nowhere = Store::new(&Options {
        target: Target::Sqlite {
            path: missing.dir.path().join("absent").join("file.db"),
        },
        ..missing.options()
    });
    assert_retry(
        &nowhere.prepare().await,
        "connection",
        "check that its directory exists",
    );
}

fn assert_retry<T: std::fmt::Debug>(done: &Result<T, StoreError>, expected: &str, advice: &str) {
    let Err(StoreError::Retry { class, message, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(*class, expected, "{message}");
    assert!(message.contains(advice), "{message}");
}
