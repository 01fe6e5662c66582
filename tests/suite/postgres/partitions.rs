//! Partitions and their summaries.

use std::time::{Duration, Instant};

use ruvvector_service::store::{MaintenanceStep, Store};

use super::{
    batch, begun, count, execute, number, options, partitions_with_rows, prepared, rows, write_ages,
};

#[tokio::test]
async fn partitions_are_made_a_week_ahead() {
    let (database, store) = prepared().await;
    let found = store.maintain(None).await.unwrap().done().unwrap();
    assert!(found.partitions_ahead_days() >= Some(7), "{found:?}");
    assert_eq!(found.retention_overdue_days(), Some(0));
    let mut sql = database.connect().await;
    let partitions =
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_events'::regclass";
    assert_eq!(number(&mut sql, partitions).await, 8);
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(number(&mut sql, partitions).await, 8);
    assert_eq!(
        number(
            &mut sql,
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_events_blocks'::regclass"
        )
        .await,
        8
    );
}

#[tokio::test]
async fn partitions_of_a_months_width_that_a_person_made_are_used_as_they_are() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "CREATE TABLE wide PARTITION OF telemetry_events FOR VALUES FROM (MINVALUE) TO ('2200-01-01 00:00:00+00')",
    )
    .await;
    write_ages(&store, &[0, 50]).await;
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(
        number(
            &mut sql,
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_events'::regclass"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn two_collectors_that_need_the_same_days_both_get_them() {
    let (database, store) = prepared().await;
    let other = Store::new(&options(database.options()));
    other.prepare().await.unwrap();
    let ages: Vec<i64> = (0..40).collect();
    tokio::join!(write_ages(&store, &ages), write_ages(&other, &ages));
    let mut sql = database.connect().await;
    assert_eq!(count(&mut sql).await, 80);
    assert_eq!(partitions_with_rows(&mut sql).await, 40);
}

#[tokio::test]
async fn a_separate_table_under_a_partitions_name_is_left_unchanged() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[10]).await;
    let name: String = sqlx::query_scalar("SELECT tableoid::regclass::text FROM telemetry_events")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    execute(
        &mut sql,
        &format!("ALTER TABLE telemetry_events DETACH PARTITION {name}"),
    )
    .await;
    store.prepare().await.unwrap();
    write_ages(&store, &[10]).await;
    assert_eq!(count(&mut sql).await, 1);
    let kept = format!("SELECT count(*) FROM {name}");
    let kept: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(kept))
        .fetch_one(&mut sql)
        .await
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn rows_that_were_written_are_in_the_summaries_after_a_round() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store
        .write(&batch(stream, 1..=1, rows(30_000)))
        .await
        .unwrap();
    // The remaining work of summarising, as the server sees it.
    let left = "SELECT sum(brin_summarize_new_values(c.oid))::bigint FROM pg_class c JOIN pg_am a ON a.oid = c.relam \
                WHERE a.amname = 'brin' AND c.relkind = 'i' AND c.relname LIKE 'telemetry_events_2%'";
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(number(&mut sql, left).await, 0);

    // Between the rounds, while rows are written.
    store
        .write(&batch(stream, 2..=2, rows(30_000)))
        .await
        .unwrap();
    store.summarise_written().await.unwrap();
    assert_eq!(number(&mut sql, left).await, 0);
}

/// A lock that autovacuum holds is not waited for: after `deadlock_timeout`, the server would end autovacuum.
#[tokio::test]
async fn a_summary_between_rounds_does_not_wait_for_the_servers_own_work() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(10))).await.unwrap();
    let today = "SELECT format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', tableoid::regclass) FROM telemetry_events LIMIT 1";
    let lock: String = sqlx::query_scalar(today).fetch_one(&mut sql).await.unwrap();
    execute(&mut sql, &format!("BEGIN; {lock}")).await;
    let asked = Instant::now();
    assert!(store.summarise_written().await.is_err());
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "it waited as long as a round"
    );
    execute(&mut sql, "ROLLBACK").await;
    store.summarise_written().await.unwrap();
}

#[tokio::test]
async fn a_new_partition_is_analysed_after_its_first_fifty_thousand_rows() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store
        .write(&batch(stream, 1..=1, rows(50_000)))
        .await
        .unwrap();
    // The server's counters follow the commit after a moment; before version 15 they may wait for the connection's next
    // transaction.
    let deadline = Instant::now() + Duration::from_secs(60);
    for n in 2.. {
        store.write(&batch(stream, n..=n, rows(1))).await.unwrap();
        store.maintain(None).await.unwrap().done().unwrap();
        let known = number(
            &mut sql,
            "SELECT count(*) FROM pg_stats WHERE tablename LIKE 'telemetry_events_2%' AND attname = 'integration'",
        )
        .await;
        if known > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "never analysed");
    }
}

#[tokio::test]
async fn one_collector_at_a_time_maintains() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "BEGIN; SELECT pg_advisory_xact_lock(x'727576760003'::bigint)",
    )
    .await;
    let partitions =
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_events'::regclass";
    let found = store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.partitions_ahead_days(), Some(0));
    assert_eq!(number(&mut sql, partitions).await, 0);
    execute(&mut sql, "COMMIT").await;
    store.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(number(&mut sql, partitions).await, 8);
}

/// Found by reading: the transaction that had waited in vain for the table's lock was left open and failed, so that
/// every later step of the round failed too.
#[tokio::test]
async fn partitions_that_cannot_be_made_now_keep_nothing_else_from_being_maintained() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let mut locking = database.connect().await;
    execute(
        &mut locking,
        "BEGIN; LOCK TABLE telemetry_events IN SHARE UPDATE EXCLUSIVE MODE",
    )
    .await;
    let found = store.maintain(None).await.expect("the rest is done");
    assert_eq!(found.gauges.partitions_ahead_days(), Some(0));
    let failed: Vec<_> = found.failures.iter().map(|failure| failure.step).collect();
    assert_eq!(
        failed,
        [MaintenanceStep::Partitions],
        "{:?}",
        found.failures
    );
    assert!(found.failures[0].is_busy(), "{:?}", found.failures);
    execute(&mut locking, "COMMIT").await;
    let found = store.maintain(None).await.expect("maintained");
    assert_eq!(found.gauges.partitions_ahead_days(), Some(7));
    assert_eq!(count(&mut sql).await, 0);
}
