//! The original service's table.

use sqlx::postgres::PgConnection;

use ruvvector_service::store::Store;

use super::{
    batch, count, execute, facts, new_stream, number, options, postgres, prepared, rows,
    schema_sentence,
};
use crate::support::postgres::Database;

/// The table as the original service made it, with rows of three days.
async fn original(sql: &mut PgConnection, time_type: &str, count: usize) {
    execute(
        sql,
        &format!(
            "CREATE TABLE telemetry_events ( \
                 id SERIAL PRIMARY KEY, correlation_id VARCHAR(255) NOT NULL, integration VARCHAR(100) NOT NULL, \
                 provider VARCHAR(100), event_type VARCHAR(50) NOT NULL, timestamp BIGINT NOT NULL, \
                 metadata JSONB DEFAULT '{{}}', trace_id VARCHAR(64), span_id VARCHAR(32), \
                 created_at {time_type} DEFAULT now(), CONSTRAINT positive CHECK (timestamp > 0)); \
             CREATE INDEX telemetry_events_correlation_id ON telemetry_events (correlation_id); \
             CREATE INDEX idx_timestamp ON telemetry_events (timestamp); \
             INSERT INTO telemetry_events (correlation_id, integration, event_type, timestamp, metadata, trace_id, \
                                           created_at) \
             SELECT 'old-' || n, 'shop', 'order', 1700000000000 + n, jsonb_build_object('n', n), \
                    'ABCDEF0123456789ABCDEF0123456789', \
                    '2024-02-28 23:59:59.5'::timestamp + n % 3 * interval '1 day' \
             FROM generate_series(1, {count}) n"
        ),
    )
    .await;
}

#[tokio::test]
async fn the_original_table_is_kept_aside_and_imported_with_ids_and_times() {
    for time_type in ["TIMESTAMP", "TIMESTAMPTZ"] {
        let database = Database::new().await;
        let mut sql = database.connect().await;
        execute(&mut sql, "SET TimeZone = 'UTC'").await;
        original(&mut sql, time_type, 25_000).await;
        let store = Store::new(&options(database.options()));
        store.prepare().await.unwrap();
        assert_eq!(count(&mut sql).await, 0);
        let found = store.maintain(None).await.unwrap().done().unwrap();
        assert_eq!(found.import_v0_pending, Some(true));

        let stream = new_stream();
        store.write_resources(facts(stream), &[]).await.unwrap();
        store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
        assert_eq!(
            number(&mut sql, "SELECT min(id) FROM telemetry_events").await,
            25_001
        );

        let mut chunks = Vec::new();
        let done = postgres(&store)
            .import_v0(|progress| chunks.push(progress))
            .await
            .unwrap();
        assert_eq!((done.rows, done.up_to_id), (25_000, 25_000));
        assert!(chunks.len() > 1 && chunks.last() == Some(&done));
        assert_eq!(
            number(
                &mut sql,
                "SELECT count(*) FROM telemetry_events e JOIN telemetry_events_v0 v ON v.id = e.id \
                 WHERE e.created_at = v.created_at::timestamptz AND e.correlation_id = v.correlation_id \
                   AND e.metadata = v.metadata AND e.timestamp = v.timestamp AND e.flags IS NULL \
                   AND e.trace_id = lower(v.trace_id)"
            )
            .await,
            25_000
        );
        let found = store.maintain(None).await.unwrap().done().unwrap();
        assert_eq!(found.import_v0_pending, Some(false));
        postgres(&store).import_v0(|_| ()).await.unwrap();
        assert_eq!(count(&mut sql).await, 25_001);
    }
}

#[tokio::test]
async fn an_import_that_was_cut_short_goes_on_where_it_was() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    original(&mut sql, "TIMESTAMP", 25_000).await;
    let store = Store::new(&options(database.options()));
    store.prepare().await.unwrap();
    // A row in the last chunk that the table refuses, so that the import fails there.
    execute(
        &mut sql,
        "ALTER TABLE telemetry_events ADD CONSTRAINT not_yet CHECK (correlation_id <> 'old-24000')",
    )
    .await;
    postgres(&store).import_v0(|_| ()).await.unwrap_err();
    assert_eq!(count(&mut sql).await, 20_000);
    execute(
        &mut sql,
        "ALTER TABLE telemetry_events DROP CONSTRAINT not_yet",
    )
    .await;
    let mut chunks = 0;
    postgres(&store).import_v0(|_| chunks += 1).await.unwrap();
    assert_eq!(chunks, 1);
    assert_eq!(count(&mut sql).await, 25_000);
}

#[tokio::test]
async fn the_original_tables_parts_all_give_their_names_up() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    original(&mut sql, "TIMESTAMP", 1).await;
    Store::new(&options(database.options()))
        .prepare()
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relname LIKE '%\\_v0' \
         UNION SELECT conname::text FROM pg_constraint WHERE conrelid = 'telemetry_events_v0'::regclass ORDER BY 1",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    for name in [
        "idx_timestamp_v0",
        "positive_v0",
        "telemetry_events_correlation_id_v0",
        "telemetry_events_id_seq_v0",
        "telemetry_events_pkey_v0",
        "telemetry_events_v0",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn a_time_that_no_partition_could_hold_becomes_now_and_is_flagged() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    original(&mut sql, "TIMESTAMP", 4).await;
    execute(
        &mut sql,
        "UPDATE telemetry_events SET created_at = 'infinity' WHERE id = 1; \
         UPDATE telemetry_events SET created_at = '0044-03-15 BC' WHERE id = 2; \
         UPDATE telemetry_events SET created_at = NULL, metadata = NULL WHERE id = 3",
    )
    .await;
    let store = Store::new(&options(database.options()));
    store.prepare().await.unwrap();
    postgres(&store).import_v0(|_| ()).await.unwrap();
    assert_eq!(
        number(
            &mut sql,
            "SELECT count(*) FROM telemetry_events WHERE flags = 8 AND created_at > now() - interval '1 hour'"
        )
        .await,
        3
    );
    assert_eq!(count(&mut sql).await, 4);
}

#[tokio::test]
async fn where_nothing_was_kept_aside_there_is_nothing_to_import() {
    let (_database, store) = prepared().await;
    let result = postgres(&store).import_v0(|_| ()).await.map(|_| ());
    let sentence = schema_sentence(result);
    assert!(sentence.contains("telemetry_events_v0"), "{sentence}");
}

#[tokio::test]
async fn two_imports_at_once_double_nothing() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    original(&mut sql, "TIMESTAMP", 25_000).await;
    let store = Store::new(&options(database.options()));
    store.prepare().await.unwrap();
    // Each may meet the other and stop; run again, the rest is imported.
    for _ in 0..2 {
        let _ = tokio::join!(
            postgres(&store).import_v0(|_| ()),
            postgres(&store).import_v0(|_| ())
        );
    }
    postgres(&store).import_v0(|_| ()).await.unwrap();
    assert_eq!(count(&mut sql).await, 25_000);
    let ids = "SELECT count(DISTINCT id) FROM telemetry_events";
    assert_eq!(number(&mut sql, ids).await, 25_000);
}
