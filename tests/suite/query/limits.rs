//! Slots, deadlines, unavailable databases.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use ruvvector_service::query::{Options, Queries};
use ruvvector_service::router::reads;
use ruvvector_service::store::{Store, StoreTarget};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::stores::{Both, Event, get, postgres, reading};
use crate::support::postgres::Database;

/// Blocks all reads of the events until it is dropped or committed.
async fn lock(database: &Database) -> PgConnection {
    let mut connection = database.connect().await;
    let lock = "BEGIN; LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE";
    connection.execute(lock).await.expect("a lock");
    connection
}

/// Waits until that many statements of the API wait for the lock.
async fn until_waiting(database: &Database, count: i64) {
    let mut connection = database.connect().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let row = connection.fetch_one(waiting).await.expect("a count");
        if row.get::<i64, _>(0) == count {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "never {count} waiting"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn two_at_once() -> Options {
    Options {
        concurrency: 2,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_query_too_many_is_refused_until_a_slot_is_free_again() {
    let both = Both::with(&[Event::default()]).await;
    let router = reads(Queries::new(both.postgres.clone(), two_at_once()));
    let held = lock(&both.database).await;
    let ask = |router: Router| tokio::spawn(async move { get(&router, "/query").await });
    let (first, second) = (ask(router.clone()), ask(router.clone()));
    until_waiting(&both.database, 2).await;
    for uri in ["/query", "/query/1", "/traces/t"] {
        let refused = get(&router, uri).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{uri}");
        assert!((1..=5).contains(&refused.retry_after.expect("a time to wait")));
        let error = refused.json()["error"].to_string();
        assert!(error.contains("2 queries are running"), "{error}");
    }
    // An invalid request still gets its error.
    let bad = get(&router, "/query?limit=0").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    held.close().await.expect("the lock is released");
    assert_eq!(first.await.expect("an answer").ids(), [1]);
    assert_eq!(second.await.expect("an answer").ids(), [1]);
    assert_eq!(get(&router, "/query").await.ids(), [1]);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_slot_back_and_its_query_ends() {
    let both = Both::with(&[Event::default()]).await;
    let router = reads(Queries::new(both.postgres.clone(), two_at_once()));
    let held = lock(&both.database).await;
    for _ in 0..3 {
        let ask = || {
            let router = router.clone();
            tokio::spawn(async move { get(&router, "/query").await })
        };
        let asked = [ask(), ask()];
        until_waiting(&both.database, 2).await;
        for asked in &asked {
            asked.abort();
        }
        // The server notices that its client has disconnected and ends the statement; the lock is still held.
        until_waiting(&both.database, 0).await;
    }
    held.close().await.expect("the lock is released");
    assert_eq!(get(&router, "/query").await.ids(), [1]);
}

#[tokio::test]
async fn a_query_over_its_time_is_answered_504_and_ends_in_both_stores() {
    let events: Vec<_> = (0..20_000).map(|_| Event::default()).collect();
    let both = Both::with(&events).await;
    let impatient = |timeout| Options {
        timeout,
        ..Options::default()
    };

    let held = lock(&both.database).await;
    let hurried = reads(Queries::new(
        both.postgres.clone(),
        impatient(Duration::from_millis(200)),
    ));
    for uri in ["/query", "/query/1", "/traces/t"] {
        let answer = get(&hurried, uri).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{uri}");
        let error = answer.json()["error"].to_string();
        assert!(error.contains("longer than 200ms"), "{error}");
    }
    until_waiting(&both.database, 0).await;
    held.close().await.expect("the lock is released");

    // No machine reads the JSON of 20,000 rows in 1 ms.
    let hurried = reads(Queries::new(
        both.sqlite.clone(),
        impatient(Duration::from_millis(1)),
    ));
    for _ in 0..20 {
        let answer = get(&hurried, "/query?metadata.absent=1").await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    }
    for store in [&both.postgres, &both.sqlite] {
        let patient = reads(Queries::new(store.clone(), Options::default()));
        assert_eq!(get(&patient, "/query?limit=1").await.ids(), [20_000]);
        assert_eq!(
            get(&patient, "/query?metadata.absent=1").await.ids(),
            [0; 0]
        );
    }
}

#[tokio::test]
async fn an_unavailable_database_or_one_without_tables_is_answered_503() {
    let nobody = PgConnectOptions::new()
        .host("127.0.0.1")
        .port(1)
        .username("x");
    let empty = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let no_file = StoreTarget::Sqlite {
        path: dir.path().join("none.sqlite"),
    };
    let no_tables = dir.path().join("empty.sqlite");
    std::fs::write(&no_tables, b"").expect("an empty file");
    let no_tables = StoreTarget::Sqlite { path: no_tables };
    for (store, sentence) in [
        (postgres(nobody), "the database does not answer"),
        (postgres(empty.options()), "the database is not set up yet"),
        (
            Store::new(&reading(no_file)),
            "the database does not answer",
        ),
        (
            Store::new(&reading(no_tables)),
            "the database is not set up yet",
        ),
    ] {
        let router = reads(Queries::new(store, Options::default()));
        for uri in ["/query", "/query/1", "/traces/t", "/query?resource.a=b"] {
            let answer = get(&router, uri).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{uri}");
            assert!((1..=5).contains(&answer.retry_after.expect("a time to wait")));
            let error = answer.json()["error"].to_string();
            assert!(error.contains(sentence), "{uri}: {error}");
        }
    }
}

#[tokio::test]
async fn each_route_records_its_time_under_its_own_name() {
    let both = Both::with(&[Event::default()]).await;
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let router = reads(Queries::new(both.sqlite.clone(), Options::default()));
    for uri in [
        "/query?limit=5",
        "/query?name=x",
        "/query/1",
        "/query/7",
        "/traces/t",
    ] {
        get(&router, uri).await;
    }
    let rendered = recorder.handle().render();
    for (route, count) in [("/query", 2), ("/query/{id}", 2), ("/traces/{traceId}", 1)] {
        let line = format!("ruvvector_query_seconds_count{{route=\"{route}\"}} {count}");
        assert!(rendered.contains(&line), "{rendered}");
    }
    assert!(
        rendered.contains("ruvvector_db_pool_wait_seconds_count{pool=\"read\"} 5"),
        "{rendered}"
    );
}
