//! The service is asked to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{directory, drained, setting};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::{Launch, Service};

/// Longer than the grace time and a request's handling time together.
const STOP: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_and_with_a_stuck_client_ends_by_itself_and_loses_nothing() {
    let stops: u32 = setting("RUVVECTOR_TEST_STOPS", 3);
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    for _ in 0..stops {
        let mut service = launch.start().await;
        load.aim(&service);
        let stuck = half_a_request(&service).await;
        service.until_events_are_stored().await;
        service.signal(Signal::TERM);
        let status = service.ended(STOP).await;
        assert!(status.success(), "{status}");
        drop(stuck);
    }

    let _service = drained(&launch, load).await;
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once_and_loses_nothing_acknowledged() {
    let cluster = Cluster::start();
    cluster.stop("fast");
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &cluster.url());
    // Nothing can be written, so that a first SIGTERM alone would wait for all of its grace time.
    let patient = launch.clone().with("RUVVECTOR_SHUTDOWN_GRACE", "300s");
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    let mut service = patient.start().await;
    load.aim(&service);
    service
        .until("events wait in the journal", async |service: &Service| {
            service.metrics().await.sum("ruvvector_queue_events") > 0.0
        })
        .await;
    service.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!service.has_ended(), "it waits for the database");
    service.signal(Signal::TERM);
    service.ended(Duration::from_secs(10)).await;

    cluster.resume();
    let _service = drained(&launch, load).await;
    ledger.assert_stored_in_postgres(&cluster.url()).await;
}

/// Reported by the first operator: after a stop `telemetry.db` was 4 KiB, and every row was in `telemetry.db-wal`.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_the_embedded_store_is_one_whole_file() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let mut other = None;
    for life in 1..=2 {
        let mut service = launch.start().await;
        for _ in 0..3 {
            one_event_stored(&service).await;
        }
        let found = service.get("/query?integration=shop").await;
        assert_eq!(found.status, 200, "{}", found.text());
        // In its second run another process has the file open, to which SQLite alone would leave the WAL.
        if life == 2 {
            other = Some(open(&launch.sqlite_file()).await);
        }
        service.signal(Signal::TERM);
        let status = service.ended(STOP).await;
        assert!(status.success(), "{status}");
        assert_eq!(wal_bytes(&launch), 0, "{}", service.lines());
        assert_eq!(rows_of_a_copy(&launch).await, life * 3);
    }
    drop(other);

    let migrated = directory();
    let launch = Launch::sqlite(migrated.path());
    let mut process = launch.clone().command(&["migrate"]).spawn();
    let status = process.ended(STOP).await;
    assert!(status.success(), "{}", process.lines());
    assert_eq!(wal_bytes(&launch), 0);
    assert_eq!(rows_of_a_copy(&launch).await, 0);
}

/// Reported by the first operator of SQLite; PostgreSQL's log named the connections that were closed without a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_the_connections_to_the_database_and_never_waits_for_one_that_hangs() {
    let cluster = Cluster::start();
    let mut sql = PgConnection::connect(&cluster.url())
        .await
        .expect("it answers");
    for statement in [
        "ALTER SYSTEM SET log_min_messages = 'debug1'",
        "SELECT pg_reload_conf()",
    ] {
        sqlx::query(statement)
            .execute(&mut sql)
            .await
            .expect("a superuser may");
    }
    sql.close().await.expect("closed");
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &cluster.url());
    // A fifth of the grace is for the goodbye: with the default, a loaded machine needs more than that.
    let patient = launch.clone().with("RUVVECTOR_SHUTDOWN_GRACE", "25s");
    for _ in 0..3 {
        let mut service = patient.start().await;
        // In any step of maintenance.
        one_event_stored(&service).await;
        let found = service.get("/query?integration=shop").await;
        assert_eq!(found.status, 200, "{}", found.text());
        service.signal(Signal::TERM);
        let status = service.ended(STOP).await;
        assert!(status.success(), "{status}");
    }
    let journal = cluster.log();
    let complaints: Vec<_> = journal
        .lines()
        .filter(|line| line.contains("unexpected EOF") || line.contains("could not receive"))
        .collect();
    assert!(
        journal.contains("DEBUG") && complaints.is_empty(),
        "{complaints:?}"
    );

    let mut service = launch.with("RUVVECTOR_SHUTDOWN_GRACE", "5s").start().await;
    one_event_stored(&service).await;
    cluster.hang();
    let began = Instant::now();
    service.signal(Signal::TERM);
    service.ended(STOP).await;
    let took = began.elapsed();
    cluster.go_on();
    // The grace, and the additional time of a loaded machine.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

async fn one_event_stored(service: &Service) {
    let event = r#"{"correlationId":"c","integration":"shop","eventType":"e"}"#;
    let url = service.url("/ingest?wait=stored");
    let answer = service
        .http
        .post(&url, "application/json", event)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn wal_bytes(launch: &Launch) -> u64 {
    let wal = launch.sqlite_file().with_extension("db-wal");
    std::fs::metadata(wal).map_or(0, |found| found.len())
}

async fn open(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .expect("it opens");
    sqlx::query("SELECT count(*) FROM telemetry_events")
        .execute(&mut connection)
        .await
        .expect("it reads");
    connection
}

/// Rows of the one file, copied without the files beside it.
async fn rows_of_a_copy(launch: &Launch) -> i64 {
    let dir = directory();
    let copy = dir.path().join("copy.db");
    std::fs::copy(launch.sqlite_file(), &copy).expect("copied");
    sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
        .fetch_one(&mut open(&copy).await)
        .await
        .expect("counted")
}

/// A client that sends the head and a part of the body, and then nothing.
async fn half_a_request(service: &Service) -> TcpStream {
    let address = service.url("");
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(b"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .expect("it reads");
    stream
}
