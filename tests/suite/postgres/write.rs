//! Exactly once.

use std::time::Duration;

use ruvvector_service::event::{ContentEncoding, Encoding, Resource, ResourceId, Signal};
use ruvvector_service::store::row_encoding::EncodedRows;
use ruvvector_service::store::{
    DeadLetter, DeadLetterKind, DeadLetterReason, Store, StoreError, StoredPositions,
};

use super::{
    DAY_NANO, Database, batch, begun, class, count, event, execute, facts, new_stream,
    now_unix_nano, number, options, partitions_with_rows, prepared, rows,
};

#[tokio::test]
async fn a_batch_is_stored_with_its_positions_and_only_once() {
    let (database, store) = prepared().await;
    let stream = new_stream();
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::default()
    );
    store.write_resources(facts(stream), &[]).await.unwrap();

    store.write(&batch(stream, 1..=3, rows(100))).await.unwrap();
    let again = store.write(&batch(stream, 1..=3, rows(100))).await;
    assert!(matches!(again, Err(StoreError::AlreadyStored)), "{again:?}");
    let overlapping = store.write(&batch(stream, 3..=4, rows(5))).await;
    assert!(matches!(overlapping, Err(StoreError::AlreadyStored)));

    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 7..=7, rows(1))).await.unwrap();
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([1..=3, 7..=7])
    );
    assert_eq!(count(&mut database.connect().await).await, 101);
}

#[tokio::test]
async fn of_two_overlapping_batches_at_once_one_is_stored() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    for round in 0..10 {
        let first = round * 10 + 1;
        let (one, two) = (
            batch(stream, first..=first + 4, rows(50)),
            batch(stream, first + 4..=first + 9, rows(50)),
        );
        let (one, two) = tokio::join!(store.write(&one), store.write(&two));
        let stored = [&one, &two].iter().filter(|result| result.is_ok()).count();
        assert_eq!(stored, 1, "{one:?} {two:?}");
        store.write_resources(facts(stream), &[]).await.unwrap();
    }
    assert_eq!(count(&mut database.connect().await).await, 500);
}

#[tokio::test]
async fn disjoint_batches_commit_at_once_in_any_order() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let (late, early) = (
        batch(stream, 4..=6, rows(30)),
        batch(stream, 1..=3, rows(30)),
    );
    let (late, early) = tokio::join!(store.write(&late), store.write(&early));
    late.unwrap();
    early.unwrap();
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([1..=6])
    );
    assert_eq!(count(&mut database.connect().await).await, 60);
}

#[tokio::test]
async fn without_the_streams_row_nothing_is_stored_until_it_is_made_again() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    execute(&mut sql, "DELETE FROM ingest_streams").await;
    let result = store.write(&batch(stream, 1..=1, rows(1))).await;
    assert!(matches!(result, Err(StoreError::AlreadyStored)));
    assert_eq!(count(&mut sql).await, 0);
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
    assert_eq!(count(&mut sql).await, 1);
}

#[tokio::test]
async fn fewer_rows_counted_than_sent_is_an_error_and_nothing_is_stored() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    execute(
        &mut sql,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER swallow BEFORE INSERT ON telemetry_events FOR EACH ROW \
         WHEN (new.correlation_id = 'c-7') EXECUTE FUNCTION swallow()",
    )
    .await;
    let error = store
        .write(&batch(stream, 1..=1, rows(10)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "count");
    assert_eq!(count(&mut sql).await, 0);
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::default()
    );
}

/// Position, item, events, kind, SQLSTATE, message, payload, time of receipt.
type KeptLetter = (
    i64,
    Option<i32>,
    i32,
    String,
    Option<String>,
    String,
    Vec<u8>,
    String,
);

#[tokio::test]
async fn dead_letters_commit_with_the_positions_and_alone() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let mut only_letters = batch(stream, 5..=5, EncodedRows::default());
    only_letters.dead_letters = vec![
        DeadLetter {
            position: 5,
            item: None,
            events: 12,
            kind: DeadLetterKind::Record(Signal::Span, Encoding::Protobuf),
            content_encoding: ContentEncoding::Gzip,
            decoder: 1,
            received_unix_nano: 1_700_000_000_123_456_789,
            reason: DeadLetterReason::Undecodable,
            sqlstate: None,
            message: "a NUL \0 in it".into(),
            payload: vec![0, 255, 1].into(),
        },
        DeadLetter {
            position: 5,
            item: Some(3),
            events: 1,
            kind: DeadLetterKind::Row,
            content_encoding: ContentEncoding::Identity,
            decoder: 1,
            received_unix_nano: 0,
            reason: DeadLetterReason::Refused,
            sqlstate: Some("22P02".into()),
            message: "bad".into(),
            payload: b"{}".to_vec().into(),
        },
    ];
    store.write(&only_letters).await.unwrap();
    let mut sql = database.connect().await;
    let kept: Vec<KeptLetter> = sqlx::query_as(
        "SELECT position, item, events, kind, sqlstate, message, payload, \
                    to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') \
             FROM telemetry_dead_letters ORDER BY id",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    assert_eq!(
        kept,
        [
            (
                5,
                None,
                12,
                "span/protobuf".to_owned(),
                None,
                "a NUL \u{fffd} in it".to_owned(),
                vec![0, 255, 1],
                "2023-11-14 22:13:20.123456".to_owned()
            ),
            (
                5,
                Some(3),
                1,
                "row".to_owned(),
                Some("22P02".to_owned()),
                "bad".to_owned(),
                b"{}".to_vec(),
                "1970-01-01 00:00:00.000000".to_owned()
            ),
        ]
    );
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([5..=5])
    );

    only_letters.rows = rows(1);
    let again = store.write(&only_letters).await;
    assert!(matches!(again, Err(StoreError::AlreadyStored)));
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM telemetry_dead_letters").await,
        2
    );
}

#[tokio::test]
async fn positions_without_rows_are_stored() {
    let (_database, store) = prepared().await;
    let stream = begun(&store).await;
    store
        .write(&batch(stream, 1..=40, EncodedRows::default()))
        .await
        .unwrap();
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([1..=40])
    );
}

#[tokio::test]
async fn resources_are_stored_once_whoever_brings_them() {
    let (database, store) = prepared().await;
    let other = Store::new(&options(database.options()));
    other.prepare().await.unwrap();
    let resource = |n: u8| Resource {
        id: ResourceId([n; 16]),
        resource: format!(r#"{{"attributes": {{"n": {n}}}}}"#),
        scope: "{}".into(),
    };
    let up: Vec<_> = (0..100).map(resource).collect();
    let down: Vec<_> = (0..100).rev().chain(0..100).map(resource).collect();
    let (up, down): (Vec<_>, Vec<_>) = (up.iter().collect(), down.iter().collect());
    let (one, two) = tokio::join!(
        store.write_resources(facts(new_stream()), &up),
        other.write_resources(facts(new_stream()), &down)
    );
    one.unwrap();
    two.unwrap();
    let mut sql = database.connect().await;
    assert_eq!(
        number(
            &mut sql,
            "SELECT count(*) FROM telemetry_resources WHERE get_byte(id, 0) = (resource #>> '{attributes,n}')::int"
        )
        .await,
        100
    );
}

#[tokio::test]
async fn an_implausible_time_of_receipt_becomes_the_databases_and_is_flagged() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let now = now_unix_nano();
    let mut mixed = EncodedRows::default();
    mixed.push(&event("now"), now);
    mixed.push(&event("1970"), 0);
    mixed.push(&event("two days ahead"), now + 2 * DAY_NANO);
    mixed.push(&event("399 days ago"), now - 399 * DAY_NANO);
    mixed.push(&event("401 days ago"), now - 401 * DAY_NANO);
    store.write(&batch(stream, 1..=1, mixed)).await.unwrap();
    let stored: Vec<(String, Option<i16>, bool)> = sqlx::query_as(
        "SELECT correlation_id, flags, created_at BETWEEN now() - interval '1 hour' AND now() \
         FROM telemetry_events ORDER BY id",
    )
    .fetch_all(&mut database.connect().await)
    .await
    .unwrap();
    let expected = [
        ("now", None, true),
        ("1970", Some(8), true),
        ("two days ahead", Some(8), true),
        ("399 days ago", None, false),
        ("401 days ago", Some(8), true),
    ];
    assert_eq!(
        stored,
        expected.map(|(id, flags, recent)| (id.to_owned(), flags, recent))
    );
}

#[tokio::test]
async fn old_rows_make_the_partitions_that_they_need() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let mut old = EncodedRows::default();
    for days in [0, 3, 40, 41, 300] {
        old.push(&event("old"), now_unix_nano() - days * DAY_NANO);
    }
    store.write(&batch(stream, 1..=1, old)).await.unwrap();
    let mut sql = database.connect().await;
    assert_eq!(count(&mut sql).await, 5);
    assert_eq!(partitions_with_rows(&mut sql).await, 5);
}

#[tokio::test]
async fn a_partition_that_was_removed_is_made_again() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT tableoid::regclass::text FROM telemetry_events")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    execute(&mut sql, &format!("DROP TABLE {name}")).await;

    let error = store
        .write(&batch(stream, 2..=2, rows(1)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "schema");
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 2..=2, rows(1))).await.unwrap();
    assert_eq!(count(&mut sql).await, 1);
}

#[tokio::test]
async fn a_probe_passes_on_a_sound_database_and_leaves_nothing() {
    let database = Database::new().await;
    for retention_days in [None, Some(7), Some(36_500)] {
        let mut settings = options(database.options());
        settings.retention_days = retention_days;
        let store = Store::new(&settings);
        store.prepare().await.unwrap();
        store.probe().await.unwrap();
        assert_eq!(count(&mut database.connect().await).await, 0);
    }
}

#[tokio::test]
async fn a_cancelled_write_leaves_nothing_and_its_connection_is_closed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    // Held, so that the writer waits in its last statement when it is cancelled.
    execute(&mut sql, "BEGIN; SELECT FROM ingest_streams FOR UPDATE").await;
    let waiting = batch(stream, 1..=1, rows(10));
    let write = tokio::time::timeout(Duration::from_millis(300), store.write(&waiting)).await;
    assert!(write.is_err(), "the row is locked");
    execute(&mut sql, "COMMIT").await;
    store.write(&batch(stream, 1..=1, rows(10))).await.unwrap();
    assert_eq!(count(&mut sql).await, 10);
}

#[tokio::test]
async fn an_error_at_commit_leaves_nothing() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    execute(
        &mut sql,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON ingest_streams DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let error = store
        .write(&batch(stream, 1..=1, rows(10)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "other");
    assert_eq!(count(&mut sql).await, 0);
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::default()
    );
}

#[tokio::test]
async fn after_a_commit_whose_answer_was_lost_only_the_stored_positions_show_its_outcome() {
    let (database, store) = prepared().await;
    let (mut sql, mut gate) = (database.connect().await, database.connect().await);
    let stream = begun(&store).await;
    execute(
        &mut sql,
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'; \
         CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON ingest_streams DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .await;
    execute(&mut gate, "BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    let lost = batch(stream, 1..=1, rows(10));
    let commits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' \
                   AND state = 'active'";
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' \
                   AND wait_event = 'advisory'";
    // Returns while the server waits in its COMMIT; then the writer is dropped with its connection.
    let waits_in_commit = async {
        while number(&mut sql, waiting).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = store.write(&lost) => panic!("the gate is closed: {result:?}"),
        () = waits_in_commit => {}
    }
    execute(&mut gate, "COMMIT").await;
    while number(&mut sql, commits).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([1..=1])
    );
    let again = store.write(&lost).await;
    assert!(matches!(again, Err(StoreError::AlreadyStored)), "{again:?}");
    assert_eq!(count(&mut sql).await, 10);
}
