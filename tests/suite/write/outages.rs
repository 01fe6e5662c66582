//! A database that is unavailable, hangs, loses answers or is set back in time.
//!
//! **Invariant:** whatever happened to the database in between, each event is in the table once.

use std::net::SocketAddr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::bench::{Bench, Db, until};
use crate::support::postgres::Cluster;
use crate::support::proxy::Proxy;

/// The database, reached through a proxy that can fail.
async fn behind_a_proxy(db: &Db) -> (Proxy, Db) {
    let Db::Postgres(direct) = db else {
        unreachable!("the proxy speaks PostgreSQL's protocol");
    };
    let server = SocketAddr::from(([127, 0, 0, 1], direct.get_port()));
    let proxy = Proxy::start(server).await;
    let options = PgConnectOptions::clone(direct)
        .host("127.0.0.1")
        .port(proxy.port)
        .ssl_mode(PgSslMode::Disable);
    (proxy, Db::Postgres(Box::new(options)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_unavailable_at_the_start_and_in_the_middle_costs_nothing() {
    let cluster = tokio::task::spawn_blocking(Cluster::start)
        .await
        .expect("started");
    let options: PgConnectOptions = cluster.url().parse().expect("the URL is valid");
    let db = Db::Postgres(Box::new(options));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    cluster.stop("fast");
    bench.start(&db.options());
    bench.accept(10).await;
    for mode in ["fast", "immediate"] {
        until("the absence is noticed", async || {
            !bench.problems.connected() && !bench.problems.sentences().is_empty()
        })
        .await;
        cluster.resume();
        bench.drained().await;
        until("the problem is over", async || {
            bench.problems.sentences().is_empty()
        })
        .await;
        assert!(bench.problems.connected());
        cluster.stop(mode);
        bench.accept(300).await;
    }
    cluster.resume();
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(610).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_lost_answers_to_commit_lose_and_double_nothing() {
    let db = Db::postgres().await;
    db.prepare().await;
    let (proxy, through) = behind_a_proxy(&db).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.options.batch_rows = 40;
    bench.options.retry_max = Duration::from_millis(20);
    bench.start(&through.options());
    for round in 1..=50 {
        // Not always the same one of a batch's COMMITs.
        until("the last answer was lost", async || {
            proxy.lost_commits() >= round - 1
        })
        .await;
        if round % 3 != 0 {
            bench.drained().await;
        }
        proxy.lose_commits(1);
        bench.accept(30).await;
        bench.accept(30).await;
    }
    until("the last answer was lost", async || {
        proxy.lost_commits() == 50
    })
    .await;
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(3_000).await;
    assert_eq!(db.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_slow_and_cut_at_any_byte_lose_and_double_nothing() {
    let db = Db::postgres().await;
    db.prepare().await;
    let (proxy, through) = behind_a_proxy(&db).await;
    proxy.delay(Duration::from_millis(1));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.options.retry_max = Duration::from_millis(20);
    bench.start(&through.options());
    // Cuts happen in the handshake, the statements and the rows.
    for round in 0..40_u32 {
        proxy.cut_after(round * round * 17 % 9_973);
        bench.accept(60).await;
        until("the cut was made", async || {
            proxy.has_cut() || bench.journal.status().queue_events == 0
        })
        .await;
    }
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(2_400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_left_and_tried_again() {
    let db = Db::postgres().await;
    db.prepare().await;
    let (proxy, through) = behind_a_proxy(&db).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    let mut options = through.options();
    options.connect_timeout = Duration::from_millis(500);
    options.statement_timeout = Duration::from_millis(500);
    bench.start(&options);
    for _ in 0..3 {
        bench.accept(10).await;
        bench.drained().await;
        proxy.stall();
        bench.accept(2_000).await;
        until("the silence is noticed", async || {
            !bench.problems.connected() && !bench.problems.sentences().is_empty()
        })
        .await;
        // It had hung for the whole deadline by then, and was reported to have hung "for 0 s".
        let problems = bench.problems.sentences();
        let first = problems
            .iter()
            .all(|problem| !problem.ends_with("(for 0 s)"));
        assert!(first, "{problems:?}");
        proxy.unstall();
        bench.drained().await;
    }
    bench.stop().await;
    db.assert_holds_exactly(3 * 2_010).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_put_back_in_time_has_lost_is_written_again() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        bench.start(&db.options());
        for _ in 0..10 {
            let position = bench.accept(20).await;
            bench.progress.stored(position).await;
        }
        // As after a failover to a replica that lagged: the last transactions are gone, both rows and stored positions.
        let stored_positions = match db {
            Db::Postgres(_) => "UPDATE ingest_streams SET stored_positions = '{[1,4)}'",
            Db::Sqlite(_) => "UPDATE ingest_streams SET stored_positions = '[[1,3]]'",
        };
        let rows =
            "DELETE FROM telemetry_events WHERE CAST(substr(correlation_id, 2) AS BIGINT) > 60";
        db.execute(&format!("BEGIN; {stored_positions}; {rows}; COMMIT"))
            .await;
        if let Db::Postgres(_) = db {
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        }
        bench.accept(5).await;
        until("all is there again", async || {
            db.number("SELECT count(*) FROM telemetry_events").await >= 205
        })
        .await;
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(205).await;
    }
}

/// Reported by the first operator: the database was set back by more than the journal keeps, and the stream counted as
/// undrained for ever once its instance had stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_a_gap_waits_for_nobody_and_records_of_the_journal_do() {
    let db = Db::postgres().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.start(&db.options());
    // More than a segment, which is recycled.
    let stream = bench.accept(2_000).await.stream;
    let first = async |bench: &Bench| {
        let held = bench.journal.streams();
        let held = held.iter().find(|held| held.id == stream);
        held.map_or(0, |held| held.first)
    };
    while first(&bench).await <= 1 {
        bench.accept(2_000).await;
        bench.drained().await;
        bench.journal.recycle_all_stored();
    }
    db.execute(
        "BEGIN; UPDATE ingest_streams SET stored_positions = '{}'; DELETE FROM telemetry_events; COMMIT; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    bench.accept(1).await;
    until("the gap is found", async || {
        bench.progress.written().gaps > 0
    })
    .await;
    bench.drained().await;
    bench.stop().await;
    let gap = "SELECT count(*) FROM ingest_streams WHERE NOT stored_positions @> int8range(1, appended + 1)";
    assert_eq!(db.number(gap).await, 1);
    let waits = "SELECT count(*) FROM ingest_streams WHERE oldest IS NOT NULL";
    assert_eq!(db.number(waits).await, 0);

    // Records of the journal that the database loses while no instance is connected are noticed by the next opening.
    bench.journal.close().await;
    let accepted = bench.accepted();
    drop(bench);
    db.execute("UPDATE ingest_streams SET stored_positions = '{}'")
        .await;
    db.execute("ALTER TABLE telemetry_events ADD CONSTRAINT none CHECK (false) NOT VALID")
        .await;
    let mut again = Bench::new(dir.path()).after(accepted);
    again.grace = Duration::from_secs(1);
    again.start(&db.options());
    until("the refusal is named", async || {
        !again.problems.sentences().is_empty()
    })
    .await;
    again.stop().await;
    assert_eq!(db.number(waits).await, 1);
}

/// Reported by the first operator: only the idle connections dropped, and the older version wrote on into the newer schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_stops_writing_though_the_pool_reconnects_by_itself() {
    let db = Db::postgres().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.start(&db.options());
    bench.accept(1).await;
    bench.drained().await;
    db.execute(
        "INSERT INTO ruvvector_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', true, '', 0); \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    bench.accept(1).await;
    until("the schema is refused", async || {
        let problems = bench.problems.sentences();
        problems
            .iter()
            .any(|problem| problem.contains("version 99"))
    })
    .await;
    assert!(!bench.problems.connected());
    db.assert_holds_exactly(1).await;
    db.execute("DELETE FROM ruvvector_migrations WHERE version = 99")
        .await;
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_pauses_while_the_schema_is_not_known() {
    let db = Db::postgres().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    let interval = Duration::from_millis(100);
    bench.options.maintenance_interval = interval;
    bench.start(&db.options());
    bench.accept(1).await;
    bench.drained().await;
    let ahead =
        "to_char(now() AT TIME ZONE 'UTC' + interval '5 days', '\"telemetry_events_\"YYYYMMDD')";
    let partition = format!("SELECT count(*) FROM pg_class WHERE relname = {ahead}");
    let is_there = async || db.number(&partition).await == 1;
    let remove = format!("DO $$ BEGIN EXECUTE 'DROP TABLE ' || {ahead}; END $$");
    until("a day ahead is made", is_there).await;
    // A round makes it again: so the looks below would see one.
    db.execute(&remove).await;
    until("a round makes it again", is_there).await;

    // In the state of a later version: the next batch fails, and first contact finds the cause.
    db.execute(
        "BEGIN; ALTER TABLE telemetry_events RENAME COLUMN status TO state; \
         INSERT INTO ruvvector_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', true, '', 0); COMMIT",
    )
    .await;
    bench.accept(1).await;
    until("the schema is refused", async || {
        bench
            .problems
            .sentences()
            .iter()
            .any(|problem| problem.contains("version 99"))
    })
    .await;
    assert!(!bench.problems.connected());
    // A round that was under way may end.
    tokio::time::sleep(10 * interval).await;
    db.execute(&remove).await;
    tokio::time::sleep(20 * interval).await;
    assert!(
        !is_there().await,
        "a partition was made in an unknown schema"
    );

    db.execute(
        "BEGIN; ALTER TABLE telemetry_events RENAME COLUMN state TO status; \
         DELETE FROM ruvvector_migrations WHERE version = 99; COMMIT",
    )
    .await;
    bench.drained().await;
    until("maintenance goes on", is_there).await;
    bench.stop().await;
    db.assert_holds_exactly(2).await;
}
