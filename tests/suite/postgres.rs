//! The PostgreSQL store on a real server.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ruvvector_service::event::{Event, StreamId};

use ruvvector_service::store::postgres::Postgres;
use ruvvector_service::store::row_encoding::EncodedRows;
use ruvvector_service::store::{Batch, Options, Store, StoreError, StoreTarget, StreamHeartbeat};
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::support::postgres::Database;

/// First contact, migrations, foreign tables.
mod schema;

/// The original service's table.
mod import_v0;

/// Exactly once.
mod write;

/// Rows that the database refuses.
mod refused;

/// Partitions and their summaries.
mod partitions;

/// Days that retention removes, and days that it keeps.
mod retention;

/// Days that cannot be removed, or not yet.
mod obstacles;

/// Retention and a wrong clock.
mod clock;

/// A role with adverse settings for all of the service's SQL.
mod hostile;

/// The settings of the service's transactions.
mod session_settings;

/// Errors that are not a row's fault.
mod errors;

/// Each cause gets the advice that removes it.
mod causes;

/// All that decode accepts is stored and reads back equal.
mod random;

fn options(target: PgConnectOptions) -> Options {
    Options {
        target: StoreTarget::Postgres {
            options: Box::new(target),
            read: None,
        },
        migrate: true,
        retention_days: None,
        connect_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(60),
        write_connections: 2,
        read_connections: 2,
        collector: "test".into(),
    }
}

/// A store on a separate database, prepared.
async fn prepared() -> (Database, Store) {
    let database = Database::new().await;
    let store = Store::new(&options(database.options()));
    store
        .prepare()
        .await
        .expect("an empty database is prepared");
    (database, store)
}

fn postgres(store: &Store) -> &Postgres {
    match store {
        Store::Postgres(store) => store,
        Store::Sqlite(_) => panic!("made for PostgreSQL"),
    }
}

fn new_stream() -> StreamId {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    StreamId([NEXT.fetch_add(1, Ordering::Relaxed); 16])
}

fn facts(stream: StreamId) -> StreamHeartbeat {
    StreamHeartbeat {
        stream,
        appended: 0,
        oldest_unix_nano: None,
        contested: false,
    }
}

/// A stream with a row, so that batches of it can be written.
async fn begun(store: &Store) -> StreamId {
    let stream = new_stream();
    let done = store.write_resources(facts(stream), &[]).await;
    done.expect("the stream's row is written");
    stream
}

fn now_unix_nano() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_nanos()).expect("before 2262")
}

const DAY_NANO: i64 = 86_400_000_000_000;

fn event(correlation_id: &str) -> Event<'_> {
    Event {
        correlation_id: correlation_id.into(),
        integration: "shop".into(),
        event_type: "test".into(),
        timestamp_ms: 1_700_000_000_000,
        metadata: r#"{"n": 1}"#.into(),
        ..Event::EMPTY
    }
}

/// That many rows, received now, with correlation ids `c-0`, `c-1`, ….
fn rows(count: usize) -> EncodedRows {
    let mut rows = EncodedRows::default();
    for n in 0..count {
        rows.push(&event(&format!("c-{n}")), now_unix_nano());
    }
    rows
}

fn batch(stream: StreamId, positions: std::ops::RangeInclusive<u64>, rows: EncodedRows) -> Batch {
    Batch {
        stream,
        positions,
        rows,
        dead_letters: Vec::new(),
    }
}

/// Writes a row for each of these ages in days, without any retention.
async fn write_ages(store: &Store, ages: &[i64]) -> StreamId {
    let stream = new_stream();
    store
        .write_resources(facts(stream), &[])
        .await
        .expect("committed");
    let mut rows = EncodedRows::default();
    for age in ages {
        rows.push(&event(&format!("{age}")), now_unix_nano() - age * DAY_NANO);
    }
    store
        .write(&batch(stream, 1..=1, rows))
        .await
        .expect("committed");
    stream
}

/// The correlation ids of the stored rows, which are the ages that [`write_ages`] set, the youngest first.
async fn ages_left(sql: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("SELECT correlation_id FROM telemetry_events ORDER BY created_at DESC")
        .fetch_all(sql)
        .await
        .expect("the query is valid")
}

async fn count(connection: &mut PgConnection) -> i64 {
    number(connection, "SELECT count(*) FROM telemetry_events").await
}

async fn partitions_with_rows(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT count(DISTINCT tableoid) FROM telemetry_events";
    number(connection, sql).await
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .expect("the query is valid")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The class of an error after which the batch is tried again.
fn class(error: &StoreError) -> &'static str {
    match error {
        StoreError::Retry { class, .. } => class.as_str(),
        other => panic!("not a Retry: {other:?}"),
    }
}

/// The sentence of an error about the schema.
fn schema_sentence(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Schema(sentence)) => sentence,
        other => panic!("not a Schema error: {other:?}"),
    }
}
