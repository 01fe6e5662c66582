//! Ordinary operation: restarts, idle times, stops, copies of a data directory.
//!
//! **Invariant:** no test depends on the speed of the machine.

use std::time::{Duration, Instant};

use super::bench::{Bench, Db, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_stored_once_however_often_the_writer_dies() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut accepted = 0;
        for life in 0..4 {
            let mut bench = Bench::new(dir.path()).after(accepted);
            for death in 0..5_u64 {
                bench.start(&db.options());
                let mut last = None;
                for events in [1, 700, 3, 40] {
                    last = Some(bench.accept(events + death).await);
                }
                if death % 2 == 0 {
                    let last = last.expect("something was accepted");
                    tokio::time::timeout(
                        Duration::from_millis(3 * death + life),
                        bench.progress.stored(last),
                    )
                    .await
                    .ok();
                }
                bench.kill().await;
            }
            accepted = bench.accepted();
            bench.journal.close().await;
        }
        let mut bench = Bench::new(dir.path()).after(accepted);
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(accepted).await;
        assert_eq!(db.dead_letters().await, 0);
        bench.journal.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_writer_commits_at_once_and_says_which_positions_are_stored() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        // A writer that waited for its batch to fill would never come to an end here.
        bench.options.batch_wait = Duration::from_secs(3600);
        bench.start(&db.options());
        for _ in 0..20 {
            let position = bench.accept(1).await;
            tokio::time::timeout(Duration::from_secs(60), bench.progress.stored(position))
                .await
                .expect("a lone event is stored at once");
        }
        assert!(bench.problems.connected());
        assert!(bench.problems.sentences().is_empty());
        db.assert_holds_exactly(20).await;
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_keep_to_their_limits_and_a_larger_record_is_one_alone() {
    let db = Db::sqlite();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.options.batch_rows = 10;
    for events in [4, 4, 4, 25, 1, 1] {
        bench.accept(events).await;
    }
    db.prepare().await;
    // A batch is one transaction, and so one change of the stored positions.
    db.execute(
        "CREATE TABLE commits (rows INTEGER);
         CREATE TRIGGER note_insert AFTER INSERT ON ingest_streams WHEN NEW.stored_positions <> '[]'
             BEGIN INSERT INTO commits SELECT count(*) FROM telemetry_events; END;
         CREATE TRIGGER note_update AFTER UPDATE OF stored_positions ON ingest_streams
             BEGIN INSERT INTO commits SELECT count(*) FROM telemetry_events; END",
    )
    .await;
    bench.start(&db.options());
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(39).await;
    // 4 + 4, 4, 25, 1 + 1: each is noted with the rows before it.
    assert_eq!(db.number("SELECT count(*) FROM commits").await, 4);
    let totals = "SELECT count(*) FROM commits WHERE rows IN (0, 8, 12, 37)";
    assert_eq!(db.number(totals).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_batch_does_not_wait_for_the_first() {
    let db = Db::postgres().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.options.batch_rows = 10;
    for _ in 0..6 {
        bench.accept(10).await;
    }
    db.prepare().await;
    db.execute(
        "CREATE TABLE gate (is_open boolean);
         CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END $$;
         CREATE TRIGGER gate BEFORE INSERT ON telemetry_events FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()",
    )
    .await;
    let mut options = db.options();
    options.statement_timeout = Duration::from_secs(120);
    bench.start(&options);
    let copying = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY telemetry_events%'";
    until("two batches are copied at once", async || {
        db.number(copying).await == 2
    })
    .await;
    db.execute("INSERT INTO gate VALUES (true)").await;
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(60).await;
}

/// On one thread, so that the test's own recorder counts everything.
#[tokio::test]
async fn a_copied_data_directory_drained_twice_doubles_nothing_and_both_books_balance() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        for _ in 0..60 {
            bench.accept(50).await;
        }
        let accepted = bench.accepted();
        bench.journal.close().await;
        drop(bench);

        let copy = tempfile::tempdir().expect("a temporary directory");
        for file in std::fs::read_dir(dir.path()).expect("the directory lists") {
            let file = file.expect("an entry");
            if file.file_type().expect("a type").is_file() {
                std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
            }
        }
        let mut one = Bench::new(dir.path()).after(accepted);
        let mut other = Bench::new(copy.path()).after(accepted);
        one.options.batch_rows = 120;
        other.options.batch_rows = 170;
        one.start(&db.options());
        other.start(&db.options());
        one.accept(7).await;
        other.next_from(one.accepted());
        other.accept(9).await;
        let accepted = other.accepted();
        one.drained().await;
        other.drained().await;
        one.stop().await;
        other.stop().await;
        db.assert_holds_exactly(accepted).await;
        // Records of the copy that the other stored either never were a backlog of this one or count as stored here
        // too.
        let at_start = |bench: &Bench| bench.journal.status().backlog_at_start_events;
        let stored = at_start(&one) + at_start(&other) + 7 + 9;
        let line = format!("ruvvector_write_events_total {stored}\n");
        let page = recorder.handle().render();
        assert!(page.contains(&line), "{line} is not in {page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stops_drains_first_and_gives_up_when_the_grace_is_over() {
    let db = Db::sqlite();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.grace = Duration::from_secs(3600);
    for _ in 0..50 {
        bench.accept(100).await;
    }
    bench.start(&db.options());
    // Whatever the grace, it ends as soon as nothing is left.
    bench.stop().await;
    db.assert_holds_exactly(5_000).await;

    let nowhere = sqlx::postgres::PgConnectOptions::new()
        .host("127.0.0.1")
        .port(1)
        .username("nobody");
    let away = Db::Postgres(Box::new(nowhere));
    bench.grace = Duration::from_millis(200);
    bench.start(&away.options());
    bench.accept(1).await;
    until("the problem is named", async || {
        !bench.problems.sentences().is_empty()
    })
    .await;
    let began = Instant::now();
    bench.stop().await;
    assert!(began.elapsed() >= bench.grace);
    assert_eq!(bench.journal.status().queue_events, 1);
    assert!(!bench.problems.connected());
}

/// Missing records of a directory are decided immediately in the streams' original directory; in a copy, once no other
/// collector has sent a heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_positions_are_decided_at_once_in_the_original_and_in_a_copy_after_a_silence() {
    for is_copy in [false, true] {
        let db = Db::postgres().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        for _ in 0..10 {
            bench.accept(5).await;
        }
        bench.journal.close().await;
        drop(bench);
        let copy = tempfile::tempdir().expect("a temporary directory");
        let home = if is_copy { copy.path() } else { dir.path() };
        for file in std::fs::read_dir(dir.path()).expect("the directory lists") {
            let file = file.expect("an entry").path();
            let mut content = std::fs::read(&file).expect("read");
            let damaged = content
                .windows(12)
                .position(|bytes| bytes == b"integration\"");
            if let Some(at) = damaged {
                content[at] ^= 1;
            }
            let to = home.join(file.file_name().expect("a name"));
            std::fs::write(to, content).expect("written");
        }
        let mut bench = Bench::new(home);
        bench.options.silence = Duration::from_secs(5);
        let began = std::time::Instant::now();
        bench.start(&db.options());
        if is_copy {
            until("it says so", async || {
                let problems = bench.problems.sentences();
                problems
                    .iter()
                    .any(|text| text.contains("is a copy, or was moved"))
            })
            .await;
            assert_eq!(db.dead_letters().await, 0);
        }
        bench.drained().await;
        assert_eq!(db.dead_letters().await, 1);
        assert_eq!(is_copy, began.elapsed() > Duration::from_secs(5));
        assert!(bench.problems.sentences().is_empty());
        bench.stop().await;
    }
}
