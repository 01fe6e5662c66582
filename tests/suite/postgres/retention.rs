//! Days, and rows of streams, that retention removes or keeps.

use std::time::Duration;

use ruvvector_service::event::StreamId;
use ruvvector_service::store::{Store, StreamHeartbeat};

use super::{
    DAY_NANO, ages_left, batch, begun, count, execute, facts, new_stream, now_unix_nano, number,
    options, prepared, rows, write_ages,
};
use crate::support::postgres::Database;

/// A stream of four records.
const fn appended(stream: StreamId) -> StreamHeartbeat {
    StreamHeartbeat {
        stream,
        appended: 4,
        oldest_unix_nano: None,
        contested: false,
    }
}

/// The same, with a record that has waited for 40 days.
fn waiting(stream: StreamId) -> StreamHeartbeat {
    StreamHeartbeat {
        oldest_unix_nano: Some(now_unix_nano() - 40 * DAY_NANO),
        ..appended(stream)
    }
}

fn keeping(database: &Database, days: u32) -> Store {
    let mut settings = options(database.options());
    settings.retention_days = Some(days);
    Store::new(&settings)
}

#[tokio::test]
async fn only_whole_days_past_the_retention_are_removed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 5, 6, 8, 9, 60]).await;
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "5", "6", "8", "9", "60"]);

    let keeping = keeping(&database, 7);
    keeping.prepare().await.unwrap();
    let found = keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "5", "6"]);
    assert_eq!(found.retention_overdue_days(), Some(0));
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'telemetry_events_2%'").await,
        number(&mut sql, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_events'::regclass").await
    );
}

#[tokio::test]
async fn a_day_that_any_log_still_holds_stays_and_is_overdue() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30, 40]).await;
    let keeping = keeping(&database, 7);
    keeping.prepare().await.unwrap();

    let held = now_unix_nano() - 30 * DAY_NANO;
    let found = keeping.maintain(Some(held)).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "20", "30"]);
    assert!(
        (Some(22)..=Some(23)).contains(&found.retention_overdue_days()),
        "{found:?}"
    );

    // Another collector's.
    let stream = new_stream();
    let silent = StreamHeartbeat {
        stream,
        appended: 9,
        oldest_unix_nano: Some(now_unix_nano() - 20 * DAY_NANO),
        contested: false,
    };
    store.heartbeat(&[silent], &[]).await.unwrap();
    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "20"]);
    store.heartbeat(&[], &[stream]).await.unwrap();
    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0"]);
}

#[tokio::test]
async fn a_detach_that_was_cut_short_is_finished_and_the_table_dropped() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    let mut settings = options(database.options());
    settings.retention_days = Some(7);
    settings.statement_timeout = Duration::from_secs(2);
    let keeping = Store::new(&settings);
    keeping.prepare().await.unwrap();

    // A reader delays the detach until the server is told to cancel it.
    let mut reader = database.connect().await;
    execute(&mut reader, "BEGIN; SELECT count(*) FROM telemetry_events").await;
    let cancel = async {
        loop {
            let cancelled = number(
                &mut sql,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity, pg_inherits \
                 WHERE datname = current_database() AND query LIKE '%CONCURRENTLY' AND state = 'active' \
                   AND inhdetachpending",
            )
            .await;
            if cancelled > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (_, ()) = tokio::join!(keeping.maintain(None), cancel);
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(number(&mut sql, pending).await, 1);
    execute(&mut reader, "COMMIT").await;

    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(number(&mut sql, pending).await, 0);
    assert_eq!(ages_left(&mut sql).await, ["0"]);
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'telemetry_events_2%' \
                  AND NOT relispartition";
    assert_eq!(number(&mut sql, tables).await, 0);
}

#[tokio::test]
async fn removal_does_not_stop_writing() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20]).await;
    let mut settings = options(database.options());
    settings.retention_days = Some(7);
    settings.statement_timeout = Duration::from_secs(3);
    let keeping = Store::new(&settings);
    keeping.prepare().await.unwrap();
    // As long as this reads, the detach waits; writing must not.
    let mut reader = database.connect().await;
    execute(&mut reader, "BEGIN; SELECT count(*) FROM telemetry_events").await;
    let stream = begun(&store).await;
    let write = async {
        loop {
            let waiting = number(
                &mut sql,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%CONCURRENTLY' \
                 AND wait_event_type = 'Lock'",
            )
            .await;
            if waiting > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        store.write(&batch(stream, 1..=1, rows(100))).await.unwrap();
        let waiting = number(
            &mut sql,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%CONCURRENTLY'",
        )
        .await;
        execute(&mut reader, "COMMIT").await;
        waiting
    };
    let (maintained, still_waiting) = tokio::join!(keeping.maintain(None), write);
    maintained.unwrap();
    assert!(still_waiting > 0, "written while the detach waited");
    assert_eq!(count(&mut sql).await, 101);
}

/// Found by reading: a collector that had stored all, stopped, and never came back, kept its last `oldest` for ever,
/// and so every later partition.
#[tokio::test]
async fn a_stream_that_is_stored_holds_no_day_back_though_its_collector_never_comes_again() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = write_ages(&store, &[0, 40]).await;
    let held = StreamHeartbeat {
        stream,
        appended: 1,
        oldest_unix_nano: Some(now_unix_nano() - 40 * DAY_NANO),
        contested: false,
    };
    store.heartbeat(&[held], &[]).await.unwrap();
    keeping(&database, 30)
        .maintain(None)
        .await
        .unwrap()
        .done()
        .unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0"]);
}

#[tokio::test]
async fn a_streams_row_goes_a_month_after_its_release_and_never_before() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let (released, held) = (new_stream(), new_stream());
    store
        .heartbeat(&[appended(released), appended(held)], &[released])
        .await
        .unwrap();
    execute(
        &mut sql,
        "UPDATE ingest_streams SET released = released - interval '29 days', heartbeat = heartbeat - interval '29 days'",
    )
    .await;
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM ingest_streams").await,
        2
    );
    execute(
        &mut sql,
        "UPDATE ingest_streams SET released = released - interval '2 days', heartbeat = heartbeat - interval '2 days'",
    )
    .await;
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM ingest_streams").await,
        1
    );
}

#[tokio::test]
async fn a_silent_stream_that_is_not_drained_is_counted() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let (drained, left) = (new_stream(), new_stream());
    store.write_resources(appended(drained), &[]).await.unwrap();
    store
        .heartbeat(&[waiting(drained), waiting(left)], &[])
        .await
        .unwrap();
    store.write(&batch(drained, 1..=4, rows(1))).await.unwrap();
    store.write(&batch(left, 2..=4, rows(1))).await.unwrap();
    assert_eq!(
        store
            .maintain(None)
            .await
            .unwrap()
            .done()
            .unwrap()
            .undrained_streams,
        Some(0)
    );
    execute(
        &mut sql,
        "UPDATE ingest_streams SET heartbeat = now() - interval '1 hour'",
    )
    .await;
    assert_eq!(
        store
            .maintain(None)
            .await
            .unwrap()
            .done()
            .unwrap()
            .undrained_streams,
        Some(1)
    );
}

/// Found by reading: a collector on a copy of a data directory released the stream to which the original was still
/// appending. A month later its row was deleted, and the original, finding no stored positions, would have stored all
/// its records again.
#[tokio::test]
async fn a_stream_that_a_copy_released_is_kept_while_the_origin_beats() {
    let (database, origin) = prepared().await;
    let mut sql = database.connect().await;
    let stream = new_stream();
    let copy = Store::new(&options(database.options()));
    copy.prepare().await.unwrap();
    origin.heartbeat(&[appended(stream)], &[]).await.unwrap();
    origin.write(&batch(stream, 1..=4, rows(1))).await.unwrap();
    copy.heartbeat(&[], &[stream]).await.unwrap();
    execute(
        &mut sql,
        "UPDATE ingest_streams SET released = released - interval '31 days'",
    )
    .await;
    copy.maintain(None).await.unwrap().done().unwrap();
    origin.heartbeat(&[appended(stream)], &[]).await.unwrap();
    // Silent for long, but no longer released.
    execute(
        &mut sql,
        "UPDATE ingest_streams SET heartbeat = heartbeat - interval '31 days'",
    )
    .await;
    copy.maintain(None).await.unwrap().done().unwrap();
    let stored_positions = origin.stored_positions(stream).await.unwrap();
    assert_eq!(stored_positions.ranges(), [1..=4]);
}

/// Found by reading: each start that accepted nothing left a row that nobody ever released.
#[tokio::test]
async fn an_opening_that_took_nothing_leaves_no_row() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    store.heartbeat(&[facts(new_stream())], &[]).await.unwrap();
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM ingest_streams").await,
        0
    );
}

/// Reported by the first operator: a stream with a gap, which the database had lost and the journal had recycled,
/// counted as undrained for ever once its instance had stopped, and kept every day from being removed.
#[tokio::test]
async fn a_gap_that_nobody_can_fill_is_not_undrained_and_a_copy_that_says_it_can_is() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 35]).await;
    let keeping = keeping(&database, 30);
    let stream = new_stream();
    store.heartbeat(&[waiting(stream)], &[]).await.unwrap();
    // 1 is the gap.
    store.write(&batch(stream, 2..=4, rows(1))).await.unwrap();
    let silent = "UPDATE ingest_streams SET heartbeat = now() - interval '1 hour'";

    // Its last report was that it holds some, so it may.
    execute(&mut sql, silent).await;
    let found = store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.undrained_streams, Some(1));
    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await.len(), 3);
    // Another collector, on a copy without them, cannot revoke that.
    let mut settings = options(database.options());
    settings.collector = "copy".into();
    let copy = Store::new(&settings);
    copy.prepare().await.unwrap();
    copy.heartbeat(&[appended(stream)], &[]).await.unwrap();
    copy.heartbeat(&[appended(stream)], &[]).await.unwrap();
    execute(&mut sql, silent).await;
    let found = store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.undrained_streams, Some(1));

    store.heartbeat(&[appended(stream)], &[]).await.unwrap();
    execute(&mut sql, silent).await;
    let found = store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.undrained_streams, Some(0));
    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await.len(), 2);
}
