//! Records that are large, or become large in the table, under a limit that their rows do not fit into.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ruvvector_service::decode::VERSION;
use ruvvector_service::event::{ContentEncoding, Encoding, Limits, Signal, Source};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{self, Journal, NewRecord};

use super::directory;
use super::memory::field;
use crate::support::postgres::{Database, WAITING_TRIGGER};
use crate::support::service::{Launch, Service};

const MIB: u64 = 1 << 20;

fn now_unix_nano() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    i64::try_from(since.expect("after 1970").as_nanos()).expect("before 2262")
}

/// Points of one metric whose description is in each of their rows; doubles that have 300 digits in plain.
fn metrics(points: usize, description: usize) -> Vec<u8> {
    let attribute = field(
        7,
        &[field(1, b"a"), field(2, &field(1, &[b'x'; 95]))].concat(),
    );
    let mut point = vec![0x19];
    point.extend(now_unix_nano().to_le_bytes());
    point.push(0x21);
    point.extend(1.5e300_f64.to_le_bytes());
    point.extend(attribute);
    let points = field(1, &point).repeat(points);
    let metric = [
        field(1, b"m"),
        field(2, &vec![b'd'; description]),
        field(5, &points),
    ]
    .concat();
    field(1, &field(2, &field(2, &metric)))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(body).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn record(signal: Signal, encoding: Encoding, accepted: u32, payload: Vec<u8>) -> NewRecord {
    NewRecord {
        source: Source {
            signal,
            encoding,
            partial: false,
            received_unix_nano: now_unix_nano(),
            limits: Limits::default(),
            version: VERSION,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: u32::try_from(payload.len()).expect("below 4 GiB"),
        accepted,
        rejected: 0,
        digest: [0; 16],
        payload: Bytes::from(payload),
    }
}

/// A journal that an earlier run with more memory left.
async fn left_behind(launch: &Launch, records: Vec<NewRecord>) {
    let options = journal::Options {
        dir: launch.data_dir().join("journal"),
        budget_bytes: Some(1 << 30),
        segment_bytes: Some(16 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..journal::Options::default()
    };
    let journal = Journal::open(Arc::new(OsDisk), &options).expect("the journal opens");
    for record in records {
        journal.append(record).await.expect("appended");
    }
    journal.close().await;
}

// Ten requests of 200 KiB were acknowledged and then ended the process at each start: their rows are a thousand times
// larger, and were all held in memory.
#[tokio::test(flavor = "multi_thread")]
async fn rows_a_thousand_times_larger_than_their_request_are_written_in_little_memory() {
    const POINTS: usize = 40_000;
    let database = Database::new().await;
    let (in_postgres, in_sqlite) = (directory(), directory());
    let body = Bytes::from(gzip(&metrics(POINTS, 3300)));
    for launch in [
        Launch::postgres(in_postgres.path(), &database.url),
        Launch::sqlite(in_sqlite.path()),
    ] {
        let service = launch.start().await;
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
        ];
        let url = service.url("/v1/metrics");
        let answer = service
            .http
            .send(axum::http::Method::POST, &url, &headers, body.clone());
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        service.until_drained().await;
        let peak = service.peak_memory_bytes();
        assert!(peak < 110 * MIB, "{} MiB at the peak", peak / MIB);
        let metrics = service.metrics().await;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let points = POINTS as f64;
        assert!((metrics.sum("ruvvector_write_events_total") - points).abs() < 0.5);
        metrics.assert_balance();
    }
    let mut sql = database.connect().await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
        .fetch_one(&mut sql)
        .await
        .expect("counted");
    assert_eq!(rows, i64::try_from(POINTS).expect("small"));
}

// A journal that was written with more memory could not be drained with less.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_64_mib_are_drained_or_set_aside_in_less_than_256_mib() {
    const BYTES: usize = 60 << 20;
    let events = || {
        let event = |n: u32| {
            format!(
                r#"{{"correlationId":"e{n}","integration":"i","eventType":"e","metadata":{{"text":"{}"}}}}"#,
                "x".repeat(BYTES / 60)
            )
        };
        let events: Vec<String> = (0..60).map(event).collect();
        format!("[{}]", events.join(",")).into_bytes()
    };
    let database = Database::new().await;
    let (in_postgres, in_sqlite) = (directory(), directory());
    for launch in [
        Launch::postgres(in_postgres.path(), &database.url),
        Launch::sqlite(in_sqlite.path()),
    ] {
        let json = |accepted, payload| record(Signal::Event, Encoding::Json, accepted, payload);
        let small = || {
            json(
                1,
                br#"{"correlationId":"s","integration":"i","eventType":"e"}"#.to_vec(),
            )
        };
        let mut zipped = json(60, gzip(&events()));
        zipped.content_encoding = ContentEncoding::Gzip;
        zipped.decoded_bytes = json(60, events()).decoded_bytes;
        let records = vec![
            small(),
            json(60, events()),
            zipped,
            json(7, vec![b'#'; BYTES]),
            small(),
        ];
        left_behind(&launch, records).await;
        let service = launch.start().await;
        until_counted(&service, 129.0).await;
        let peak = service.peak_memory_bytes();
        assert!(peak < 200 * MIB, "{} MiB at the peak", peak / MIB);
        let metrics = service.metrics().await;
        metrics.assert_balance();
        let counted = [
            "ruvvector_write_events_total",
            "ruvvector_dead_letters_total",
        ]
        .map(|name| metrics.sum(name).to_string());
        assert_eq!(counted, ["122", "7"]);
    }
}

// A process that died in the middle of a large record left nothing of it, and the next one stored it once.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_large_record_loses_and_doubles_nothing() {
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut sql = waiting_table(&launch, &database).await;
    let text = "x".repeat(10_000);
    let event = |n: u32| {
        let integration = if n == 700 { "wait" } else { "i" };
        format!(
            r#"{{"correlationId":"e{n}","integration":"{integration}","eventType":"e","metadata":{{"text":"{text}"}}}}"#
        )
    };
    let events: Vec<String> = (0..1000).map(event).collect();
    let body = format!("[{}]", events.join(",")).into_bytes();
    let large = record(Signal::Event, Encoding::Json, 1000, body);
    left_behind(&launch, vec![large]).await;
    for _ in 0..3 {
        number(&mut sql, "SELECT 1::bigint FROM pg_advisory_lock(7)").await;
        let mut service = launch.start().await;
        until_waiting(&service, &mut sql).await;
        service.kill();
        number(&mut sql, "SELECT 1::bigint FROM pg_advisory_unlock(7)").await;
        let stored = number(&mut sql, "SELECT count(*) FROM telemetry_events").await;
        assert_eq!(stored, 0);
    }
    let service = launch.start().await;
    until_counted(&service, 1000.0).await;
    let stored = "SELECT count(DISTINCT correlation_id) * 10000 + count(*) FROM telemetry_events";
    assert_eq!(number(&mut sql, stored).await, 10_001_000);
}

// A record that ended the process each time it was written ended it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_six_deaths_in_a_row_name_is_a_dead_letter_and_its_neighbours_are_stored() {
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut sql = waiting_table(&launch, &database).await;
    let events = ["i", "wait", "i"].map(|integration| {
        let event =
            format!(r#"{{"correlationId":"c","integration":"{integration}","eventType":"e"}}"#);
        record(Signal::Event, Encoding::Json, 1, event.into_bytes())
    });
    left_behind(&launch, events.into()).await;
    number(&mut sql, "SELECT 1::bigint FROM pg_advisory_lock(7)").await;
    for death in 1..=6 {
        let mut service = launch.start().await;
        until_waiting(&service, &mut sql).await;
        let health = service.health().await.to_string();
        assert_eq!(
            health.contains("is written alone"),
            death > 3,
            "{death}: {health}"
        );
        assert!(
            death <= 3
                || health.contains("record 2 of stream")
                || health.contains("records 2 to 3"),
            "{health}"
        );
        service.kill();
        // The server may not have noticed it yet.
        until_none_waits(&mut sql).await;
    }
    let stored = "SELECT count(*) FROM telemetry_events";
    assert_eq!(number(&mut sql, stored).await, 1);
    let service = launch.start().await;
    until_counted(&service, 2.0).await;
    assert_eq!(number(&mut sql, stored).await, 2);
    let fatal = "SELECT count(*) FROM telemetry_dead_letters WHERE reason = 'fatal' AND position = 2 AND item IS NULL";
    assert_eq!(number(&mut sql, fatal).await, 1);
    let page = service.metrics().await;
    page.assert_balance();
    assert_eq!(
        page.sum_where("ruvvector_dead_letters_total", "reason=\"fatal\"")
            .to_string(),
        "1"
    );
    assert!(
        !service
            .health()
            .await
            .to_string()
            .contains("is written alone")
    );
    assert!(!launch.data_dir().join("journal/attempts").exists());
}

/// A table that can halt a COPY, and a connection to it.
async fn waiting_table(launch: &Launch, database: &Database) -> sqlx::PgConnection {
    let mut service = launch.start().await;
    service
        .until("the schema is there", async |service| {
            service.health().await["status"] == "ok"
        })
        .await;
    service.kill();
    let mut sql = database.connect().await;
    sqlx::raw_sql(WAITING_TRIGGER)
        .execute(&mut sql)
        .await
        .expect("made");
    sql
}

const WAITERS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";

async fn until_waiting(service: &Service, sql: &mut sqlx::PgConnection) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while number(sql, WAITERS).await == 0 {
        assert!(std::time::Instant::now() < deadline, "{}", service.lines());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server that waits for a lock does not notice that its client has disconnected.
async fn until_none_waits(sql: &mut sqlx::PgConnection) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while number(sql, end).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until that many events are rows or dead letters.
async fn until_counted(service: &Service, events: f64) {
    service
        .until("all is stored", async |service| {
            let page = service.metrics().await;
            let counted = [
                "ruvvector_write_events_total",
                "ruvvector_dead_letters_total",
            ];
            counted.iter().map(|name| page.sum(name)).sum::<f64>() >= events
        })
        .await;
}

async fn number(sql: &mut sqlx::PgConnection, query: &'static str) -> i64 {
    let number: Option<i64> = sqlx::query_scalar(query)
        .fetch_one(sql)
        .await
        .expect("answered");
    number.unwrap_or_default()
}
