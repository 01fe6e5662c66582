//! The database is unavailable, starts late, or crashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::{directory, setting};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::{Launch, PATIENCE, Service};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_go_on_while_the_database_is_unavailable_and_all_is_stored_after() {
    let outage = Duration::from_secs(setting("RUVVECTOR_TEST_OUTAGE_SECONDS", 120));
    let cluster = Cluster::start();
    let dir = directory();
    let service = Launch::postgres(dir.path(), &cluster.url()).start().await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    service.until_events_are_stored().await;
    service
        .until("the service is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;

    cluster.stop("fast");
    let end = Instant::now() + outage;
    service
        .until("health is degraded", async |service: &Service| {
            let health = service.health().await;
            health["status"] == "degraded" && health["database"]["connected"] == false
        })
        .await;
    let before = ledger.totals().acked;
    while Instant::now() < end {
        assert!(service.is_ready().await, "ready stays");
        let health = service.health().await;
        assert_eq!(health["accepting"], true, "{health}");
        assert_eq!(health["database"]["connected"], false, "{health}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let during = ledger.totals().acked - before;
    assert!(during > 0, "nothing was acknowledged without the database");
    let waiting = service.metrics().await.sum("ruvvector_queue_events");
    assert!(waiting > 0.0, "what was acknowledged waits in the journal");

    cluster.resume();
    load.stop().await;
    service.until_drained().await;
    service
        .until("the service is well again", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
    service.metrics().await.assert_balance();
    ledger.assert_stored_in_postgres(&cluster.url()).await;
    assert_end_is_reported_once(&service, outage);
}

/// No line reported the end of an outage: now one does, with its length and the number of events that waited.
fn assert_end_is_reported_once(service: &Service, outage: Duration) {
    let lines = service.lines();
    let mut reports = lines
        .lines()
        .filter(|line| line.contains("writing to the database works again"));
    let line = reports
        .next()
        .unwrap_or_else(|| panic!("no line reports the end: {lines}"));
    assert_eq!(reports.next(), None, "a second report");
    let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
    // The outage begins with the first attempt that fails.
    let least = outage.as_secs() / 2;
    assert!(line["seconds"].as_u64() >= Some(least), "{line}");
    assert!(line["events_waited"].as_u64() > Some(0), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_database_takes_events_and_stores_them_when_it_comes() {
    let cluster = Cluster::start();
    cluster.stop("fast");
    let dir = directory();
    let service = Launch::postgres(dir.path(), &cluster.url()).start().await;
    let health = service.health().await;
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["accepting"], true, "{health}");

    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.stop().await;
    assert!(ledger.totals().acked > 0, "{:?}", ledger.totals());

    cluster.resume();
    service.until_drained().await;
    ledger.assert_stored_in_postgres(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_in_the_middle_of_a_copy_costs_and_doubles_nothing() {
    let crashes: u32 = setting("RUVVECTOR_TEST_CRASHES", 3);
    let cluster = Cluster::start();
    let dir = directory();
    let service = Launch::postgres(dir.path(), &cluster.url()).start().await;
    let ledger = Arc::new(Ledger::default());
    let shape = Shape {
        events_per_request: 200,
        ..Shape::STEADY
    };
    let load = Load::start(&ledger, shape);
    load.aim(&service);

    for _ in 0..crashes {
        until_copying(&cluster).await;
        cluster.stop("immediate");
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume();
        let stored = service.metrics().await.sum("ruvvector_write_events_total");
        service
            .until("events are stored again", async |service: &Service| {
                service.metrics().await.sum("ruvvector_write_events_total") > stored
            })
            .await;
    }
    load.stop().await;
    service.until_drained().await;
    service.metrics().await.assert_balance();
    ledger.assert_stored_in_postgres(&cluster.url()).await;
}

/// While somebody held a lock on the table for minutes, the heartbeats ceased with the batches: the instance seemed
/// dead, and its row did not show the waiting events.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_on_while_batches_wait_for_a_lock() {
    let database = Database::new().await;
    let dir = directory();
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    service.until_events_are_stored().await;

    let mut holder = PgConnection::connect(&database.url)
        .await
        .expect("it answers");
    let lock = "BEGIN; LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock)
        .execute(&mut holder)
        .await
        .expect("locked");
    let mut reader = PgConnection::connect(&database.url)
        .await
        .expect("it answers");
    // The first batch that waits has noted the stream; a much later change is a heartbeat's.
    let later = "SELECT count(*) FROM ingest_streams WHERE heartbeat > $1::timestamptz + interval '30 seconds' AND appended > $2";
    let (locked, appended): (String, i64) =
        sqlx::query_as("SELECT now()::text, max(appended) FROM ingest_streams")
            .fetch_one(&mut reader)
            .await
            .expect("a row");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let beats: i64 = sqlx::query_scalar(later)
            .bind(&locked)
            .bind(appended)
            .fetch_one(&mut reader)
            .await
            .expect("a number");
        if beats == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", service.lines());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sqlx::raw_sql("COMMIT")
        .execute(&mut holder)
        .await
        .expect("released");
    load.stop().await;
    service.until_drained().await;
    ledger.assert_stored_in_postgres(&database.url).await;
}

/// Waits until some connection is seen to copy rows.
async fn until_copying(cluster: &Cluster) {
    let mut database = PgConnection::connect(&cluster.url())
        .await
        .expect("the cluster answers");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let copying: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY %'",
        )
        .fetch_one(&mut database)
        .await
        .expect("the activity can be read");
        if copying > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "no COPY within a minute");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
