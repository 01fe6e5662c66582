//! Exactly once, or not at all.

use ruvvector_service::event::{Event, EventFlags, StreamId};
use ruvvector_service::store::row_encoding::EncodedRows;
use ruvvector_service::store::{Batch, StoreError, StoredPositions};
use sqlx::Row;

use super::{File, HOUR_NANO, STREAM, batch, count, event, letter, now_nano, rows};

#[tokio::test]
async fn rows_dead_letters_and_positions_are_stored_as_they_are() {
    let file = File::new();
    let store = file.store().await;
    let received = now_nano() / 1_000 * 1_000;
    let mut sent = EncodedRows::default();
    let mut flagged = event("first");
    flagged.flags = EventFlags::CUT;
    sent.push(&flagged, received);
    let bare = Event {
        correlation_id: "second".into(),
        integration: "orders".into(),
        event_type: "order".into(),
        ..Event::EMPTY
    };
    sent.push(&bare, received);
    let sent = Batch {
        dead_letters: vec![letter(2)],
        ..batch(1..=2, sent)
    };
    store.write(&sent).await.expect("the batch is stored");

    let mut connection = file.connect().await;
    let stored = sqlx::query("SELECT * FROM telemetry_events ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .expect("the rows are there");
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].get::<String, _>("correlation_id"), "first");
    assert_eq!(stored[0].get::<i64, _>("timestamp"), 1_700_000_000_123);
    assert_eq!(
        stored[0].get::<i64, _>("time_unix_nano"),
        1_700_000_000_123_456_789
    );
    assert_eq!(stored[0].get::<i64, _>("created_at"), received / 1_000);
    assert_eq!(
        stored[0].get::<i64, _>("flags"),
        i64::from(EventFlags::CUT.0)
    );
    assert_eq!(stored[0].get::<i64, _>("kind"), 2);
    assert_eq!(stored[0].get::<String, _>("status"), "OK");
    assert_eq!(stored[0].get::<Vec<u8>, _>("resource_id"), [9; 16]);
    assert_eq!(
        stored[0].get::<String, _>("metadata"),
        r#"{"attributes":{"é":1}}"#
    );
    assert_eq!(stored[1].get::<String, _>("integration"), "orders");
    for absent in [
        "provider",
        "trace_id",
        "span_id",
        "parent_span_id",
        "name",
        "status",
    ] {
        assert_eq!(stored[1].get::<Option<String>, _>(absent), None);
    }
    for absent in ["time_unix_nano", "duration_ns", "kind", "flags"] {
        assert_eq!(stored[1].get::<Option<i64>, _>(absent), None);
    }
    let dead = sqlx::query("SELECT * FROM telemetry_dead_letters")
        .fetch_one(&mut connection)
        .await
        .expect("the dead letter is there");
    assert_eq!(dead.get::<Vec<u8>, _>("payload"), b"{\0}");
    assert_eq!(dead.get::<i64, _>("item"), 3);
    assert_eq!(dead.get::<i64, _>("received_at"), 1_700_000_000_123_456);
    let stored_positions = store
        .stored_positions(STREAM)
        .await
        .expect("the positions are read");
    assert_eq!(stored_positions, StoredPositions::new([1..=2]));
}

#[tokio::test]
async fn a_batch_that_overlaps_stored_positions_stores_nothing() {
    let file = File::new();
    let store = file.store().await;
    store.write(&batch(5..=8, rows(3))).await.expect("stored");
    store
        .write(&batch(1..=2, rows(1)))
        .await
        .expect("stored, though before");
    for overlap in [8..=9, 4..=5, 6..=7, 1..=10] {
        let again = store.write(&batch(overlap, rows(2))).await;
        assert!(matches!(again, Err(StoreError::AlreadyStored)), "{again:?}");
    }
    assert_eq!(count(&file, "telemetry_events").await, 4);
    store
        .write(&batch(3..=4, EncodedRows::default()))
        .await
        .expect("a hole joins");
    let stored_positions = store
        .stored_positions(STREAM)
        .await
        .expect("the positions are read");
    assert_eq!(stored_positions, StoredPositions::new([1..=8]));
    let other = store
        .stored_positions(StreamId([1; 16]))
        .await
        .expect("unknown streams are empty");
    assert_eq!(other, StoredPositions::default());
}

#[tokio::test]
async fn the_row_that_is_refused_is_named_and_nothing_of_its_batch_stays() {
    let file = File::new();
    let store = file.store().await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events WHEN NEW.correlation_id LIKE 'bad%'
                   BEGIN SELECT RAISE(ABORT, 'not that one'); END";
    sqlx::query(trigger)
        .execute(&mut file.connect().await)
        .await
        .expect("the trigger is made");
    // The first and the last row of a statement of each size, and one between them.
    for bad in [0, 77, 127, 128, 256, 271, 272, 287, 288, 299] {
        let mut sent = rows(bad);
        sent.push(&event("bad"), now_nano());
        for n in bad + 1..300 {
            sent.push(&event(&format!("c{n}")), now_nano());
        }
        let first = bad as u64 * 10 + 1;
        let mut sent = batch(first..=first + 3, sent);
        let refused = store.write(&sent).await;
        let Err(StoreError::Refused {
            row,
            sqlstate,
            message,
            ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((row, sqlstate.as_str()), (Some(bad), "1811"));
        assert!(message.contains("not that one"));
        assert_eq!(count(&file, "telemetry_events").await % 299, 0);
        sent.rows.remove(bad);
        store.write(&sent).await.expect("the rest is stored");
    }
    assert_eq!(count(&file, "telemetry_events").await, 10 * 299);
    store.probe().await.expect("good rows are taken");
    assert_eq!(count(&file, "telemetry_events").await, 10 * 299);
}

/// `RAISE(FAIL)` leaves the rows that its statement inserted before: to insert all of them again, one by one, doubled those.
#[tokio::test]
async fn a_refusal_that_no_single_row_repeats_refuses_the_batch() {
    let file = File::new();
    let store = file.store().await;
    let mut sql = file.connect().await;
    for statement in [
        "CREATE TABLE seen (n INTEGER)",
        "INSERT INTO seen VALUES (0)",
        "CREATE TRIGGER sixth BEFORE INSERT ON telemetry_events
         BEGIN UPDATE seen SET n = n + 1; SELECT RAISE(FAIL, 'the sixth') FROM seen WHERE n = 6; END",
    ] {
        let made = sqlx::query(statement).execute(&mut sql).await;
        made.expect("the trigger is made");
    }
    let refused = store.write(&batch(1..=4, rows(40))).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { row: None, .. })),
        "{refused:?}"
    );
    assert_eq!(count(&file, "telemetry_events").await, 0);
}

#[tokio::test]
async fn a_time_of_receipt_that_cannot_be_is_replaced_and_flagged() {
    let file = File::new();
    let store = file.store().await;
    let mut sent = EncodedRows::default();
    for received in [
        0,
        now_nano() - 8 * 24 * HOUR_NANO,
        now_nano() + 25 * HOUR_NANO,
    ] {
        sent.push(&event("wrong"), received);
    }
    for received in [now_nano() - 6 * 24 * HOUR_NANO, now_nano() + 23 * HOUR_NANO] {
        sent.push(&event("right"), received);
    }
    let before = now_nano() / 1_000;
    store.write(&batch(1..=1, sent)).await.expect("stored");
    let mut connection = file.connect().await;
    let replaced = "SELECT count(*) FROM telemetry_events
                    WHERE correlation_id = 'wrong' AND flags = 8 AND created_at BETWEEN ? AND ?";
    let replaced: i64 = sqlx::query_scalar(replaced)
        .bind(before)
        .bind(now_nano() / 1_000)
        .fetch_one(&mut connection)
        .await
        .expect("counts");
    let kept =
        "SELECT count(*) FROM telemetry_events WHERE correlation_id = 'right' AND flags IS NULL";
    let kept: i64 = sqlx::query_scalar(kept)
        .fetch_one(&mut connection)
        .await
        .expect("counts");
    assert_eq!((replaced, kept), (3, 2));
}
