//! First contact, migrations, foreign tables.

use ruvvector_service::store::{Store, StoreError};

use super::{
    batch, begun, class, count, execute, facts, new_stream, number, options, prepared, rows,
    schema_sentence,
};
use crate::support::postgres::Database;

#[tokio::test]
async fn first_contact_again_changes_nothing() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let applied = "SELECT count(*) FROM ruvvector_migrations";
    let before = number(&mut sql, applied).await;
    store.prepare().await.unwrap();
    Store::new(&options(database.options()))
        .prepare()
        .await
        .unwrap();
    assert!(before > 0);
    assert_eq!(number(&mut sql, applied).await, before);
    assert_eq!(
        number(
            &mut sql,
            "SELECT count(*) FROM pg_class WHERE relname = '_sqlx_migrations'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn eight_collectors_at_once_migrate_one_database() {
    let database = Database::new().await;
    let contacts = (0..8).map(|_| {
        let store = Store::new(&options(database.options()));
        async move { store.prepare().await }
    });
    for result in futures_util::future::join_all(contacts).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn without_leave_to_migrate_the_sentence_says_what_to_run() {
    let database = Database::new().await;
    let mut settings = options(database.options());
    settings.migrate = false;
    let store = Store::new(&settings);
    let sentence = schema_sentence(store.prepare().await);
    assert!(
        sentence.contains("`ruvvector-service migrate`"),
        "{sentence}"
    );
    super::postgres(&store).migrate().await.unwrap();
    store.prepare().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_newer_than_the_binary_is_refused() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let newer = |version: i64| {
        format!(
            "INSERT INTO ruvvector_migrations (version, description, success, checksum, execution_time) \
             SELECT max(version) + {version}, 'later', true, '', 0 FROM ruvvector_migrations"
        )
    };
    // Each schema is compatible one version back.
    execute(&mut sql, &newer(1)).await;
    store.prepare().await.unwrap();
    execute(&mut sql, &newer(1)).await;
    let sentence = schema_sentence(store.prepare().await);
    assert!(sentence.contains("update it"), "{sentence}");
}

/// Builds before the first release had a migration of another text: writing on would fail at the first batch, and migrating
/// again would change tables that only those builds know.
#[tokio::test]
async fn tables_of_a_build_before_the_first_release_are_refused_and_not_changed() {
    let (database, _) = prepared().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "ALTER TABLE ingest_streams RENAME COLUMN stored_positions TO done; \
         UPDATE ruvvector_migrations SET checksum = decode('00', 'hex') WHERE version = 1",
    )
    .await;
    let sentence = schema_sentence(Store::new(&options(database.options())).prepare().await);
    for part in ["before the first release", "name an empty database"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    execute(&mut sql, "SELECT done FROM ingest_streams").await;
}

/// Reported by the first operator: after a newer version had migrated the database an older one wrote on, because its
/// pool had reconnected automatically and only first contact checked the schema.
#[tokio::test]
async fn a_schema_that_becomes_too_new_stops_the_very_next_transaction() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
    let migrate = "INSERT INTO ruvvector_migrations (version, description, success, checksum, execution_time) \
                   SELECT max(version) + 1, 'later', true, '', 0 FROM ruvvector_migrations";
    execute(&mut sql, migrate).await;
    // Compatible, and no reason for another contact.
    store.write(&batch(stream, 2..=2, rows(1))).await.unwrap();
    execute(&mut sql, migrate).await;
    let reconnected = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for idle_connections_drop in [false, true] {
        if idle_connections_drop {
            number(&mut sql, reconnected).await;
        }
        for refused in [
            store.write(&batch(stream, 3..=3, rows(1))).await,
            store.write_resources(facts(new_stream()), &[]).await,
            store.heartbeat(&[], &[]).await,
            store.probe().await,
            store.maintain(None).await.map(drop),
        ] {
            let sentence = schema_sentence(refused);
            assert!(sentence.contains("update it"), "{sentence}");
        }
    }
    assert_eq!(count(&mut sql).await, 2);
}

#[tokio::test]
async fn a_migration_that_was_applied_with_another_text_is_refused() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "UPDATE ruvvector_migrations SET checksum = 'x' WHERE version = 1",
    )
    .await;
    let sentence = schema_sentence(store.prepare().await);
    assert!(sentence.contains("migration 1"), "{sentence}");
}

#[tokio::test]
async fn a_table_of_an_unknown_shape_is_refused_with_the_difference_and_left_alone() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "CREATE TABLE telemetry_events (id SERIAL PRIMARY KEY, correlation_id TEXT, event_type VARCHAR(50), \
         timestamp BIGINT, metadata JSONB, trace_id VARCHAR(64), span_id VARCHAR(32), provider VARCHAR(100), \
         created_at TIMESTAMP, colour TEXT)",
    )
    .await;
    let sentence = schema_sentence(Store::new(&options(database.options())).prepare().await);
    for part in [
        "correlation_id is text",
        "integration is missing",
        "colour is unknown",
    ] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM pg_class WHERE relname IN ('ruvvector_migrations', 'ingest_streams')")
            .await,
        0
    );
}

#[tokio::test]
async fn a_column_that_was_changed_by_hand_is_named() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "DROP VIEW telemetry_spans; ALTER TABLE telemetry_events DROP COLUMN status; \
         ALTER TABLE telemetry_events ALTER COLUMN kind TYPE bigint",
    )
    .await;
    let sentence = schema_sentence(store.prepare().await);
    assert!(sentence.contains("column status is missing"), "{sentence}");
    assert!(
        sentence.contains("column kind is bigint, not integer"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_table_that_blocks_the_migration_is_named() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    execute(&mut sql, "CREATE TABLE telemetry_resources (id INT)").await;
    let sentence = schema_sentence(Store::new(&options(database.options())).prepare().await);
    assert!(sentence.contains("telemetry_resources"), "{sentence}");
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused() {
    let database = Database::new().await;
    let name = format!("{}_latin1", database.options().get_database().unwrap());
    execute(
        &mut database.connect().await,
        &format!("CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"),
    )
    .await;
    let store = Store::new(&options(database.options().database(&name)));
    let sentence = schema_sentence(store.prepare().await);
    assert!(sentence.contains("LATIN1"), "{sentence}");
}

#[tokio::test]
async fn stored_positions_set_back_in_time_are_noticed_before_anything_is_written() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
    execute(
        &mut sql,
        "CREATE TABLE restored AS TABLE ingest_streams; DROP TABLE ingest_streams; \
         ALTER TABLE restored ADD PRIMARY KEY (stream); ALTER TABLE restored RENAME TO ingest_streams",
    )
    .await;
    let error = store
        .write(&batch(stream, 2..=2, rows(1)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "connection");
    assert_eq!(count(&mut sql).await, 1);
    store.prepare().await.unwrap();
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 2..=2, rows(1))).await.unwrap();
    assert!(!matches!(
        store.write(&batch(stream, 2..=2, rows(1))).await,
        Ok(()) | Err(StoreError::Refused { .. })
    ));
}
