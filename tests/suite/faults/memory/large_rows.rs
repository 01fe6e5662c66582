//! One item of a request whose row is far larger than its bytes, under a memory limit that copies of it do not fit
//! into.

use axum::http::Method;
use bytes::Bytes;
use sqlx::PgConnection;

use super::super::directory;
use super::field;
use super::growing::{PROTOBUF, Request, plain_logs, request};
use super::limits::send;
use crate::support::memory_limit::MemoryLimit;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const LIMIT_MIB: u64 = 256;

const MIB: usize = 1 << 20;

/// Each becomes six characters of JSON.
fn controls(mib: usize) -> Vec<u8> {
    vec![2; mib * MIB]
}

/// One log record (2) with that text as its body (5).
fn log_body(text: &[u8]) -> Vec<u8> {
    let record = field(5, &field(1, text));
    field(1, &field(2, &field(2, &record)))
}

/// One empty log record of a resource (1) with an attribute (1) of that text.
fn resource_attribute(text: &[u8]) -> Vec<u8> {
    let value = field(2, &field(1, text));
    let resource = field(1, &[field(1, b"a"), value].concat());
    let scope = field(2, &field(2, &[]));
    field(1, &[field(1, &resource), scope].concat())
}

/// One point (1) of a gauge (5) under that description (2).
fn description(text: &[u8]) -> Vec<u8> {
    let time = 1_700_000_000_000_000_000_u64.to_le_bytes();
    let point = [&[3 << 3 | 1][..], &time].concat();
    let metric = [field(1, b"m"), field(2, text), field(5, &field(1, &point))];
    field(1, &field(2, &field(2, &metric.concat())))
}

/// About the maximum number for one event; each takes 400 digits, a comma and a space.
const NUMBERS: i32 = 99_000;

/// One event whose numbers are seventy times as long when they are stored, and whose keys are not in order.
fn numbers() -> Vec<u8> {
    let numbers = "1e399,".repeat(99_000);
    let metadata = format!(r#"{{"b":[{numbers}1],"a":1}}"#);
    format!(r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{metadata}}}"#)
        .into_bytes()
}

/// The destination of the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Row,
    /// For lack of memory.
    DeadLetter,
}

/// Sends `request` and one event after it, both under the limit, and waits until neither waits any more.
async fn sent_and_ended(launch: &Launch, request: &Request, fate: Fate) {
    let limit = MemoryLimit::of_mib(LIMIT_MIB);
    let mut service = limit.on(launch).start().await;
    send(&service, request).await;
    ended(&mut service, &limit, request.name, fate).await;
}

async fn ended(service: &mut Service, limit: &MemoryLimit, name: &str, fate: Fate) {
    let event = r#"{"correlationId":"after","integration":"i","eventType":"e"}"#;
    let url = service.url("/ingest");
    let headers = [("content-type", "application/json")];
    let sent = service
        .http
        .send(Method::POST, &url, &headers, Bytes::from(event));
    assert_eq!(sent.await.expect("an answer").status, 200);
    service.until_drained().await;
    limit.assert_kept(service, name);
    let page = service.metrics().await;
    page.assert_balance();
    let letters = page.sum_where("ruvvector_dead_letters_total", "reason=\"fatal\"");
    let expected = if fate == Fate::Row { "0" } else { "1" };
    assert_eq!(letters.to_string(), expected, "{name}");
    let found = service
        .get("/query?correlationId=after")
        .await
        .text()
        .to_owned();
    assert_eq!(
        found.matches(r#""correlationId""#).count(),
        1,
        "{name}: {found}"
    );
}

/// A request of 25 KB, one log record with 25 MiB of control characters, used 339 MiB with PostgreSQL and 643 with
/// SQLite. If these were not available, it was tried again for ever, and nothing behind it was stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_six_times_as_long_as_its_item_is_written_to_postgres_part_by_part() {
    let database = Database::new().await;
    let dir = directory();
    let mut sql = database.connect().await;
    for (request, column, bytes) in [
        (
            request("log body", "/v1/logs", PROTOBUF, &log_body(&controls(25))),
            "body",
            25 << 20,
        ),
        (
            request(
                "description",
                "/v1/metrics",
                PROTOBUF,
                &description(&controls(20)),
            ),
            "description",
            20 << 20,
        ),
        (
            request("numbers", "/ingest", "application/json", &numbers()),
            "b",
            NUMBERS * 402 + 3,
        ),
    ] {
        let launch = Launch::postgres(&dir.path().join(column), &database.url);
        sent_and_ended(&launch, &request, Fate::Row).await;
        assert_eq!(lengths(&mut sql, column).await, [bytes], "{}", request.name);
        let emptied = sqlx::raw_sql("TRUNCATE telemetry_events").execute(&mut sql);
        emptied.await.expect("emptied");
    }
}

/// The lengths of a member of the metadata, in the rows that have it.
async fn lengths(sql: &mut PgConnection, member: &str) -> Vec<i32> {
    let query = "SELECT octet_length(metadata->>$1) FROM telemetry_events WHERE metadata ? $1";
    let lengths = sqlx::query_scalar(query).bind(member).fetch_all(sql);
    lengths.await.expect("answered")
}

/// SQLite holds a row's text three times while it inserts it. Both stores hold a resource several times: one of 10 MiB
/// of control characters used 204 MiB with PostgreSQL and 267 with SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_needs_more_memory_than_there_is_is_a_dead_letter_and_the_next_is_stored() {
    let database = Database::new().await;
    let (in_postgres, in_sqlite) = (directory(), directory());
    let resource = || {
        let body = resource_attribute(&controls(10));
        request("resource attribute", "/v1/logs", PROTOBUF, &body)
    };
    let launch = Launch::postgres(in_postgres.path(), &database.url);
    sent_and_ended(&launch, &resource(), Fate::DeadLetter).await;
    for request in [
        request("log body", "/v1/logs", PROTOBUF, &log_body(&controls(25))),
        request(
            "description",
            "/v1/metrics",
            PROTOBUF,
            &description(&controls(20)),
        ),
        request("numbers", "/ingest", "application/json", &numbers()),
        resource(),
    ] {
        // Each is sent alone: only the event after it is to be stored.
        let dir = tempfile::tempdir_in(in_sqlite.path()).expect("a directory");
        sent_and_ended(&Launch::sqlite(dir.path()), &request, Fate::DeadLetter).await;
    }
    let fits = log_body(&vec![b'x'; 15 * MIB]);
    let fits = plain_logs("15 MiB of text", fits);
    sent_and_ended(&Launch::sqlite(in_sqlite.path()), &fits, Fate::Row).await;
}

/// A dead letter of one row holds all of it as JSON: of a large row it would be held whole again.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_row_that_the_database_refuses_is_a_dead_letter_with_its_record() {
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut sql = database.connect().await;
    // The first event makes the tables.
    let limit = MemoryLimit::of_mib(LIMIT_MIB);
    let mut service = launch.start().await;
    ended(&mut service, &limit, "an event", Fate::Row).await;
    let emptied = sqlx::raw_sql("TRUNCATE telemetry_events").execute(&mut sql);
    emptied.await.expect("emptied");
    drop(service);
    let refusing =
        "ALTER TABLE telemetry_events ADD CHECK (octet_length(metadata->>'body') < 1000)";
    sqlx::raw_sql(refusing)
        .execute(&mut sql)
        .await
        .expect("altered");
    let mut service = limit.on(&launch).start().await;
    let body = log_body(&controls(5));
    send(&service, &request("log body", "/v1/logs", PROTOBUF, &body)).await;
    ended(&mut service, &limit, "refused", Fate::Row).await;
    let letters =
        "SELECT reason, item IS NULL, octet_length(payload) < 10000 FROM telemetry_dead_letters";
    let letters: Vec<(String, bool, bool)> = sqlx::query_as(letters)
        .fetch_all(&mut sql)
        .await
        .expect("answered");
    assert_eq!(letters, [("refused".to_owned(), true, true)]);
}

/// The process had less memory than its setting said. SQLite answered "out of memory" for ever, and all that was acknowledged
/// after the record waited behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_for_which_sqlite_has_no_memory_is_a_dead_letter_after_six_attempts() {
    // The body, the text and SQLite's first copy of it fit beside threads and caches; its second one does not.
    const DATA_KIB: &str = "160000";
    let dir = directory();
    let shell = r#"ulimit -d "$0" && exec "$@""#;
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_MEMORY_BYTES", "4GiB")
        .under(&["sh", "-c", shell, DATA_KIB]);
    let mut service = launch.start().await;
    let body = log_body(&vec![b'x'; 40 * MIB]);
    send(&service, &request("log body", "/v1/logs", PROTOBUF, &body)).await;
    let is_named = async |service: &Service| {
        let health = service.health().await.to_string();
        health.contains("SQLite ran out of memory") && health.contains("is written alone")
    };
    service.until("/health names the record", is_named).await;
    let limit = MemoryLimit::of_mib(512);
    ended(
        &mut service,
        &limit,
        "no memory for SQLite",
        Fate::DeadLetter,
    )
    .await;
}

/// A text of 63 MiB was accepted under a limit of 1 GiB, which was then lowered: it took 203 MiB with PostgreSQL and 332 with
/// SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_63_mib_that_was_accepted_under_a_larger_limit_ends_under_256_mib() {
    let database = Database::new().await;
    let (in_postgres, in_sqlite) = (directory(), directory());
    let text = vec![b'x'; 63 * MIB];
    let request = plain_logs("63 MiB of text", log_body(&text));
    for (launch, fate) in [
        (
            Launch::postgres(in_postgres.path(), &database.url),
            Fate::Row,
        ),
        (Launch::sqlite(in_sqlite.path()), Fate::DeadLetter),
    ] {
        let url = "postgres://x@127.0.0.1:1/x";
        let away = launch
            .clone()
            .with("RUVVECTOR_STORE", "postgres")
            .with("DATABASE_URL", url);
        let larger = MemoryLimit::of_mib(1024);
        let mut service = larger.on(&away).start().await;
        send(&service, &request).await;
        service.kill();
        let limit = MemoryLimit::of_mib(LIMIT_MIB);
        let mut service = limit.on(&launch).start().await;
        ended(&mut service, &limit, request.name, fate).await;
    }
    let mut sql = database.connect().await;
    assert_eq!(lengths(&mut sql, "body").await, [63 << 20]);
}
