//! Draining while others run, when killed, when stopped, and again.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::{
    LONG, NOWHERE, UNDRAINED, copy, directory, drain, ended, execute, files, number, streams,
    undrained,
};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::{Launch, Service};

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_drained_once_beside_a_running_collector_however_often_it_is_killed() {
    let cluster = Cluster::start();
    let url = cluster.url();
    let (gone, beside, copied) = (directory(), directory(), directory());
    let launch = Launch::postgres(gone.path(), &url);
    let ledger = Arc::new(Ledger::default());

    // Some of its journal is stored, and most is not, when it is killed.
    let mut service = launch.start().await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    service.until_events_are_stored().await;
    cluster.stop("fast");
    tokio::time::sleep(Duration::from_secs(3)).await;
    service.kill();
    load.stop().await;
    copy(&launch.data_dir(), copied.path());

    cluster.resume();
    let running = Launch::postgres(beside.path(), &url)
        .with("RUVVECTOR_MAINTENANCE_INTERVAL", "1s")
        .start()
        .await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&running);
    // As if its last heartbeat, with all it held, had been some time ago.
    let held = streams(&launch.data_dir());
    assert_eq!(held.len(), 1, "{held:?}");
    let (stream, last) = &held[0];
    execute(
        &url,
        &format!(
            "UPDATE ingest_streams SET appended = {last}, heartbeat = now() - interval '10 minutes' \
             WHERE stream = '{stream}'"
        ),
    )
    .await;
    assert_eq!(number(&url, UNDRAINED).await, 1);
    running
        .until("it is noticed", async |service: &Service| {
            undrained(service)
                .await
                .is_some_and(|streams| streams > 0.5)
        })
        .await;

    let slow = drain(&launch).with("RUVVECTOR_BATCH_ROWS", "20");
    let done = format!(
        "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM ingest_streams, unnest(stored_positions) r WHERE stream = '{stream}'"
    );
    for signal in [Signal::KILL, Signal::KILL, Signal::TERM] {
        let before = number(&url, &done).await;
        let mut process = slow.spawn();
        let deadline = std::time::Instant::now() + LONG;
        while number(&url, &done).await < before + 5 {
            assert!(std::time::Instant::now() < deadline, "{}", process.lines());
            assert!(!process.has_ended(), "{}", process.lines());
        }
        process.signal(signal);
        let status = process.ended(LONG).await;
        if signal == Signal::TERM {
            assert_eq!(status.code(), Some(1), "{}", process.lines());
            let left = format!(
                " events of 1 stream left in {}",
                launch.data_dir().display()
            );
            assert!(process.lines().contains(&left), "{}", process.lines());
        }
        assert!(
            number(&url, &done).await < i64::try_from(*last).expect("small"),
            "it ended in the middle"
        );
    }
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("; 0 dead letters; 0 gaps; the journal is empty"),
        "{said}"
    );
    assert_eq!(files(&launch.data_dir()), ["lock"]);

    load.stop().await;
    running.until_drained().await;
    ledger.assert_stored_in_postgres(&url).await;
    let released = format!(
        "SELECT count(*) FROM ingest_streams WHERE stream = '{stream}' AND released IS NOT NULL AND oldest IS NULL"
    );
    assert_eq!(number(&url, &released).await, 1);
    // Its own openings, including killed ones, left nothing that somebody would wait for.
    assert_eq!(
        number(
            &url,
            "SELECT count(*) FROM ingest_streams WHERE released IS NULL"
        )
        .await,
        1,
        "the running collector's alone"
    );
    assert_eq!(number(&url, UNDRAINED).await, 0);
    running
        .until("nothing is undrained", async |service: &Service| {
            undrained(service)
                .await
                .is_some_and(|streams| streams < 0.5)
        })
        .await;

    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to drain"), "{said}");

    // An earlier copy is recognised by its streams.
    let copied = drain(&launch.moved(copied.path()));
    let (code, said) = ended(&copied).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(": 0 events of 0 records written"), "{said}");
    assert_eq!(files(&copied.data_dir()), ["lock"]);
    ledger.assert_stored_in_postgres(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_stopped_or_meets_a_newer_schema_ends_with_1_and_loses_nothing() {
    let dir = directory();
    let nowhere = Launch::postgres(dir.path(), NOWHERE)
        .with("RUVVECTOR_RETRY_MAX", "1s")
        .with("RUVVECTOR_CONNECT_TIMEOUT", "1s");
    let ledger = Arc::new(Ledger::default());
    let mut service = nowhere.start().await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.kill();
    load.stop().await;

    for signal in [Signal::TERM, Signal::INT] {
        let mut process = drain(&nowhere).spawn();
        let deadline = std::time::Instant::now() + LONG;
        while process.lines().matches("nothing is written").count() < 2 {
            assert!(std::time::Instant::now() < deadline, "{}", process.lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process.signal(signal);
        // No commit is in progress for which the grace time would be needed.
        let status = process.ended(Duration::from_secs(4)).await;
        let said = process.lines();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("\"message\":\"draining;"), "{said}");
        assert!(said.contains(" events of 1 stream left in"), "{said}");
    }

    let database = Database::new().await;
    execute(
        &database.url,
        "CREATE TABLE ruvvector_migrations (version bigint, checksum bytea, success boolean);
         INSERT INTO ruvvector_migrations VALUES (99, '', true)",
    )
    .await;
    let there = Launch::postgres(dir.path(), &database.url);
    let (code, said) = ended(&drain(&there)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("version 99") && said.contains("nothing is lost"),
        "{said}"
    );

    execute(&database.url, "DROP TABLE ruvvector_migrations").await;
    let (code, said) = ended(&drain(&there)).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(files(&there.data_dir()), ["lock"]);
    ledger.assert_stored_in_postgres(&database.url).await;
}
