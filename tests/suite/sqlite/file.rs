//! The file itself: its readers, refused rows, retries.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ruvvector_service::store::{MaintenanceReport, Options, Store, StoreError, StoreTarget};

use super::{File, batch, count, rows};

#[tokio::test]
async fn the_file_is_for_its_owner_alone_and_survives_a_second_first_contact() {
    let file = File::new();
    let store = file.store().await;
    store.write(&batch(1..=1, rows(3))).await.expect("stored");
    for name in ["ruvvector.db", "ruvvector.db-wal"] {
        let found = std::fs::metadata(file.dir.path().join(name)).expect("the file is there");
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let again = file.store().await;
    assert_eq!(count(&file, "telemetry_events").await, 3);
    let pulse = again.check_liveness(Duration::from_secs(10)).await;
    assert!(pulse.database.is_some() && !pulse.replica_unavailable);
    assert!(again.pools()[0].max == 1 && again.pools()[1].max == 2);
}

#[tokio::test]
async fn a_schema_that_is_newer_foreign_or_incomplete_is_refused_with_a_sentence() {
    let newer = File::new();
    newer.store().await;
    sqlx::query("INSERT INTO ruvvector_migrations VALUES (99, 'later', 0)")
        .execute(&mut newer.connect().await)
        .await
        .expect("noted");
    let foreign = File::new();
    sqlx::query("CREATE TABLE telemetry_events (id INTEGER PRIMARY KEY)")
        .execute(&mut foreign.connect().await)
        .await
        .expect("made");
    let lacking = File::new();
    lacking.store().await;
    sqlx::raw_sql("DROP VIEW telemetry_spans; ALTER TABLE telemetry_events DROP COLUMN status")
        .execute(&mut lacking.connect().await)
        .await
        .expect("dropped");
    let unreleased = File::new();
    unreleased.store().await;
    sqlx::raw_sql(
        "ALTER TABLE ingest_streams RENAME COLUMN stored_positions TO done; DROP TABLE ruvvector_retention",
    )
    .execute(&mut unreleased.connect().await)
    .await
    .expect("renamed");
    for (file, what) in [
        (unreleased, "before the first release"),
        (newer, "newer version"),
        (foreign, "did not make"),
        (lacking, "lacks the columns status"),
    ] {
        let refused = Store::new(&file.options()).prepare().await;
        let Err(StoreError::Schema(sentence)) = refused else {
            panic!("{what}: {refused:?}");
        };
        assert!(sentence.contains(what), "{sentence}");
        let retention = "SELECT count(*) FROM sqlite_schema WHERE name = 'ruvvector_retention'";
        let made: i64 = sqlx::query_scalar(retention)
            .fetch_one(&mut file.connect().await)
            .await
            .expect("counted");
        assert_eq!(
            made == 0,
            what != "newer version" && what != "lacks the columns status",
            "{what}"
        );
    }
    let empty = File::new();
    let unmigrated = Store::new(&Options {
        migrate: false,
        ..empty.options()
    });
    let refused = unmigrated.prepare().await;
    assert!(matches!(refused, Err(StoreError::Schema(_))), "{refused:?}");
}

/// Reported by the first operator of PostgreSQL: a newer version migrates, and the older one that runs writes on.
#[tokio::test]
async fn a_schema_that_becomes_too_new_stops_the_very_next_transaction() {
    let file = File::new();
    let store = file.store().await;
    store.write(&batch(1..=1, rows(3))).await.expect("stored");
    sqlx::query("INSERT INTO ruvvector_migrations VALUES (99, 'later', 0)")
        .execute(&mut file.connect().await)
        .await
        .expect("noted");
    for refused in [
        store.write(&batch(2..=2, rows(3))).await,
        store.heartbeat(&[], &[]).await,
        store.probe().await,
        store
            .maintain(None)
            .await
            .and_then(MaintenanceReport::done)
            .map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Schema(_))), "{refused:?}");
    }
    assert_eq!(count(&file, "telemetry_events").await, 3);
}

#[tokio::test]
async fn a_lock_a_damaged_file_and_a_missing_directory_are_tried_again_and_say_what_to_do() {
    let locked = File::new();
    locked.store().await;
    let mut other = locked.connect().await;
    sqlx::raw_sql("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .expect("locked");
    let impatient = Store::new(&Options {
        statement_timeout: Duration::from_millis(200),
        ..locked.options()
    });
    let error = impatient.write(&batch(1..=1, rows(1))).await;
    assert_retry(&error, "timeout", "");
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut other)
        .await
        .expect("unlocked");
    let freed = locked.store().await;
    freed.write(&batch(1..=1, rows(1))).await.expect("stored");

    let damaged = File::new();
    std::fs::write(damaged.path(), vec![b'x'; 8192]).expect("written");
    let error = Store::new(&damaged.options()).prepare().await;
    assert_retry(&error, "schema", "move it aside");

    let missing = File::new();
    let nowhere = Store::new(&Options {
        target: StoreTarget::Sqlite {
            path: missing.dir.path().join("absent").join("file.db"),
        },
        ..missing.options()
    });
    assert_retry(
        &nowhere.prepare().await,
        "connection",
        "check that its directory exists",
    );
}

fn assert_retry<T: std::fmt::Debug>(done: &Result<T, StoreError>, expected: &str, advice: &str) {
    let Err(StoreError::Retry { class, message, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(class.as_str(), expected, "{message}");
    assert!(message.contains(advice), "{message}");
}
