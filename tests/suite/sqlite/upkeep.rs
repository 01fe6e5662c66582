//! Retention, resources, streams.

use ruvvector_service::event::{Resource, ResourceId};
use ruvvector_service::store::{Options, Store, StreamHeartbeat};

use super::{File, STREAM, batch, count, event, now_nano, rows};

#[tokio::test]
async fn retention_removes_what_is_due_and_nothing_else() {
    let file = File::new();
    let store = file.store().await;
    store
        .write(&batch(1..=1, rows(5_000)))
        .await
        .expect("stored");
    let age =
        "UPDATE telemetry_events SET created_at = created_at - 8 * 86400000000 WHERE id <= 4500";
    sqlx::query(age)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    let maintained = store
        .maintain(None)
        .await
        .expect("maintained")
        .done()
        .expect("maintained");
    assert_eq!(maintained.retention_overdue_days(), Some(0));
    assert_eq!(count(&file, "telemetry_events").await, 500);

    let for_ever = Store::new(&Options {
        retention_days: None,
        ..file.options()
    });
    let age = "UPDATE telemetry_events SET created_at = created_at - 800 * 86400000000";
    sqlx::query(age)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    for_ever.maintain(None).await.expect("maintained");
    assert_eq!(count(&file, "telemetry_events").await, 500);
}

/// SQLite leaves the bytes of a deleted row in its file, where anybody who copies the file finds them.
#[tokio::test]
async fn of_what_retention_has_removed_no_byte_is_left() {
    let file = File::new();
    let store = file.store().await;
    let mut sent = rows(2_000);
    sent.push(&event("zebra-7f3a91-person"), now_nano());
    store.write(&batch(1..=1, sent)).await.expect("stored");
    let is_there = || {
        let content = std::fs::read(file.path()).expect("the file is read");
        content
            .windows(19)
            .any(|bytes| bytes == b"zebra-7f3a91-person")
    };
    let mut connection = file.connect().await;
    for sql in [
        "UPDATE telemetry_events SET created_at = created_at - 8 * 86400000000 WHERE id > 1000",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        sqlx::query(sql)
            .execute(&mut connection)
            .await
            .expect("valid");
    }
    assert!(is_there());
    let maintained = store.maintain(None).await.expect("maintained");
    maintained.done().expect("maintained");
    assert_eq!(count(&file, "telemetry_events").await, 1_000);
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await
        .expect("valid");
    assert!(!is_there());
}

#[tokio::test]
async fn a_resource_is_stored_once_and_a_silent_stream_is_seen_by_others() {
    let file = File::new();
    let store = file.store().await;
    let facts = StreamHeartbeat {
        stream: STREAM,
        appended: 9,
        oldest_unix_nano: Some(now_nano()),
        contested: false,
    };
    let resource = Resource {
        id: ResourceId([9; 16]),
        resource: r#"{"attributes":{"service.name":"orders"}}"#.to_owned(),
        scope: "{}".to_owned(),
    };
    for _ in 0..2 {
        let resources = [&resource];
        store
            .write_resources(facts, &resources)
            .await
            .expect("stored");
    }
    assert_eq!(count(&file, "telemetry_resources").await, 1);
    store.write(&batch(1..=4, rows(1))).await.expect("stored");
    store
        .heartbeat(&[facts], &[])
        .await
        .expect("the heart beats");

    let silent = "UPDATE ingest_streams SET heartbeat = heartbeat - 3600000000";
    sqlx::query(silent)
        .execute(&mut file.connect().await)
        .await
        .expect("silenced");
    let other = Store::new(&Options {
        collector: "other".to_owned(),
        ..file.options()
    });
    assert_eq!(
        store
            .maintain(None)
            .await
            .expect("maintained")
            .gauges
            .undrained_streams,
        Some(0)
    );
    assert_eq!(
        other
            .maintain(None)
            .await
            .expect("maintained")
            .gauges
            .undrained_streams,
        Some(1)
    );
    store.write(&batch(5..=9, rows(1))).await.expect("stored");
    assert_eq!(
        other
            .maintain(None)
            .await
            .expect("maintained")
            .gauges
            .undrained_streams,
        Some(0)
    );

    store.heartbeat(&[], &[STREAM]).await.expect("released");
    assert_eq!(count(&file, "ingest_streams").await, 1);
    // A copy of the directory released it while its original goes on: it is no longer released.
    let long_ago = "UPDATE ingest_streams SET released = released - 31 * 86400000000, heartbeat = heartbeat - 31 * 86400000000";
    sqlx::query(long_ago)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    store
        .heartbeat(&[facts], &[])
        .await
        .expect("the heart beats");
    assert_eq!(count(&file, "ingest_streams").await, 1);
    store.heartbeat(&[], &[STREAM]).await.expect("released");
    sqlx::query(long_ago)
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
    store.heartbeat(&[], &[]).await.expect("the heart beats");
    assert_eq!(count(&file, "ingest_streams").await, 0);
}
