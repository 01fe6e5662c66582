//! Days that cannot be removed, or not yet: other days are removed, and the obstacle is named.

use std::time::Duration;

use ruvvector_service::store::{MaintenanceReport, MaintenanceStep, Store};
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::{execute, number, options, prepared, write_ages};
use crate::support::postgres::Database;

async fn keeping_a_week(target: PgConnectOptions) -> Store {
    let mut settings = options(target);
    settings.retention_days = Some(7);
    settings.migrate = false;
    settings.statement_timeout = Duration::from_secs(2);
    let store = Store::new(&settings);
    store.prepare().await.expect("the schema is there");
    store
}

/// The ages of the readable rows, youngest first.
async fn ages_left(sql: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("SELECT correlation_id FROM telemetry_events ORDER BY created_at DESC")
        .fetch_all(sql)
        .await
        .expect("the query is valid")
}

/// The partition that holds the row of that age.
async fn day_of(sql: &mut PgConnection, age: i64) -> String {
    sqlx::query_scalar(
        "SELECT tableoid::regclass::text FROM telemetry_events WHERE correlation_id = $1",
    )
    .bind(age.to_string())
    .fetch_one(sql)
    .await
    .expect("there is one row of that age")
}

/// A role of that name for this database alone.
fn role_name(database: &Database, name: &str) -> String {
    format!(
        "{name}_{}",
        database.options().get_database().expect("named")
    )
}

/// The sentences of all failures in the step.
fn failed(found: &MaintenanceReport, step: MaintenanceStep) -> String {
    let of_step = found.failures.iter().filter(|failure| failure.step == step);
    let texts: Vec<String> = of_step.map(|failure| failure.error.to_string()).collect();
    texts.join("\n")
}

/// A view that somebody had made on one day ended all retention: the day was detached, so that its rows were hidden,
/// but could not be dropped, and each round stopped there.
#[tokio::test]
async fn a_day_that_a_view_reads_stays_visible_and_the_others_are_removed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30, 40]).await;
    let day = day_of(&mut sql, 30).await;
    execute(
        &mut sql,
        &format!("CREATE VIEW \"my\u{1b}view\" AS SELECT * FROM {day}"),
    )
    .await;
    let keeping = keeping_a_week(database.options()).await;
    let found = keeping.maintain(None).await.unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "30"]);
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(
        said.contains("view \"my\\u{1b}view\" depends on it"),
        "{said}"
    );
    assert!(said.contains(&day), "{said}");
    let overdue = found.gauges.retention_overdue_days();
    assert!((Some(21)..=Some(23)).contains(&overdue), "{overdue:?}");

    execute(&mut sql, "DROP VIEW \"my\u{1b}view\"").await;
    let found = keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0"]);
    assert_eq!(found.retention_overdue_days(), Some(0));
}

#[tokio::test]
async fn a_table_that_has_a_day_for_a_type_or_refers_to_it_is_named() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30, 40]).await;
    let (typed, referred) = (day_of(&mut sql, 30).await, day_of(&mut sql, 20).await);
    execute(
        &mut sql,
        &format!(
            "CREATE TABLE picked (event {typed}); ALTER TABLE {referred} ADD UNIQUE (id); \
             CREATE TABLE notes (event bigint REFERENCES {referred} (id))"
        ),
    )
    .await;
    let keeping = keeping_a_week(database.options()).await;
    let found = keeping.maintain(None).await.unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "20", "30"]);
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(
        said.contains("table picked") && said.contains("table notes"),
        "{said}"
    );
}

/// A day that a restore had given to another role stopped retention for all.
#[tokio::test]
async fn a_day_of_another_owner_stays_and_the_others_are_removed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    let day = day_of(&mut sql, 30).await;
    let (writer, other) = (
        role_name(&database, "writer"),
        role_name(&database, "other"),
    );
    execute(
        &mut sql,
        &format!(
            "CREATE ROLE {writer} LOGIN; CREATE ROLE {other}; GRANT CREATE, USAGE ON SCHEMA public TO {writer}; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {writer}; ALTER TABLE telemetry_events OWNER TO {writer}; \
             DO $$ DECLARE day regclass; BEGIN FOR day IN SELECT inhrelid FROM pg_inherits \
               WHERE inhparent = 'telemetry_events'::regclass LOOP EXECUTE format('ALTER TABLE %s OWNER TO {writer}', day); \
             END LOOP; END $$; ALTER TABLE {day} OWNER TO {other}"
        ),
    )
    .await;
    let keeping = keeping_a_week(database.options().username(&writer)).await;
    let found = keeping.maintain(None).await.unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "30"]);
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(
        said.contains(&format!("belongs to the role {other}")),
        "{said}"
    );
    execute(
        &mut sql,
        &format!("DROP OWNED BY {writer}, {other} CASCADE; DROP ROLE {writer}, {other}"),
    )
    .await;
}

#[tokio::test]
async fn a_default_partition_is_named_and_hides_no_day() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    execute(
        &mut sql,
        "CREATE TABLE leftovers PARTITION OF telemetry_events DEFAULT",
    )
    .await;
    let keeping = keeping_a_week(database.options()).await;
    let found = keeping.maintain(None).await.unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0", "20", "30"]);
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(said.contains("the default partition leftovers"), "{said}");
    assert_eq!(found.gauges.partitions_ahead_days(), Some(7));
}

/// Somebody had moved a day to another server, as a foreign table: DROP TABLE refuses it, so a detach would only hide
/// it.
#[tokio::test]
async fn a_day_that_is_a_foreign_table_stays_and_the_others_are_removed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    let day = day_of(&mut sql, 30).await;
    // Nothing can be read from it, as its wrapper has no handler.
    execute(
        &mut sql,
        &format!(
            "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; \
             DO $$ DECLARE bounds text; BEGIN \
                 SELECT pg_get_expr(relpartbound, oid) INTO bounds FROM pg_class WHERE oid = '{day}'::regclass; \
                 DROP TABLE {day}; \
                 EXECUTE 'CREATE FOREIGN TABLE far PARTITION OF telemetry_events ' || bounds || ' SERVER nowhere'; \
             END $$"
        ),
    )
    .await;
    let keeping = keeping_a_week(database.options()).await;
    let found = keeping.maintain(None).await.unwrap();
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(said.contains("it is a foreign table"), "{said}");
    let attached = "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'far'::regclass AND NOT inhdetachpending";
    assert_eq!(number(&mut sql, attached).await, 1);
    execute(&mut sql, "DROP FOREIGN TABLE far").await;
    assert_eq!(ages_left(&mut sql).await, ["0"]);
}

/// An earlier version left a day detached, marked, and in use. It stopped every later round, and counted as removed.
#[tokio::test]
async fn a_detached_day_that_cannot_be_dropped_is_overdue_and_keeps_no_other() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    let day = day_of(&mut sql, 30).await;
    execute(
        &mut sql,
        &format!(
            "CREATE VIEW report AS SELECT * FROM {day}; COMMENT ON TABLE {day} IS 'ruvvector: removed by retention'; \
             ALTER TABLE telemetry_events DETACH PARTITION {day}"
        ),
    )
    .await;
    let keeping = keeping_a_week(database.options()).await;
    let found = keeping.maintain(None).await.unwrap();
    assert_eq!(ages_left(&mut sql).await, ["0"]);
    let said = failed(&found, MaintenanceStep::Retention);
    assert!(said.contains("view report depends on it"), "{said}");
    let overdue = found.gauges.retention_overdue_days();
    assert!((Some(21)..=Some(23)).contains(&overdue), "{overdue:?}");
    execute(&mut sql, "DROP VIEW report").await;
    let found = keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.retention_overdue_days(), Some(0));
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'telemetry_events_2%' \
                  AND NOT relispartition";
    assert_eq!(number(&mut sql, tables).await, 0);
}

/// One open transaction left a detach pending. From then on the only message was "already pending detach", about
/// another day, and a person had to guess which process to wait for.
#[tokio::test]
async fn the_transaction_that_a_detach_waits_for_is_named() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 20, 30]).await;
    let keeping = keeping_a_week(database.options()).await;
    let mut reader = database.connect().await;
    let pid = number(&mut reader, "SELECT pg_backend_pid()::bigint").await;
    execute(&mut reader, "BEGIN; SELECT count(*) FROM telemetry_events").await;
    let named = format!("SELECT pg_terminate_backend({pid})");
    // The first waits for the detach, the second for what the first left pending.
    for round in 1..=2 {
        let found = keeping.maintain(None).await.unwrap();
        let said = failed(&found, MaintenanceStep::Retention);
        assert!(said.contains(&named), "round {round}: {said}");
        assert!(
            said.contains("idle in transaction"),
            "round {round}: {said}"
        );
        assert!(!said.contains("already pending"), "round {round}: {said}");
        assert_eq!(found.failures.len(), 1, "round {round}: {said}");
    }
    execute(&mut reader, "COMMIT").await;
    // The server's own process may still hold what the first one left.
    let mut rounds = 0;
    while !ages_left(&mut sql).await.iter().eq(["0"]) {
        rounds += 1;
        assert!(rounds < 20, "the days are never removed");
        keeping.maintain(None).await.unwrap();
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'telemetry_events_2%' \
                  AND NOT relispartition";
    keeping.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(number(&mut sql, tables).await, 0);
}

/// The gauges kept an earlier round's values while rounds failed, so that no alert fired when the days ran out.
#[tokio::test]
async fn a_round_that_can_make_no_partition_says_how_many_are_left() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    store.maintain(None).await.unwrap().done().unwrap();
    let reader = role_name(&database, "reader");
    execute(
        &mut sql,
        &format!(
            "CREATE ROLE {reader} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {reader}"
        ),
    )
    .await;
    let poor = keeping_a_week(database.options().username(&reader)).await;
    let found = poor.maintain(None).await.unwrap().done().unwrap();
    assert_eq!(found.partitions_ahead_days(), Some(7));
    execute(
        &mut sql,
        "DO $$ DECLARE day regclass; BEGIN FOR day IN SELECT inhrelid FROM pg_inherits \
           WHERE inhparent = 'telemetry_events'::regclass ORDER BY inhrelid DESC LIMIT 5 LOOP \
           EXECUTE format('DROP TABLE %s', day); END LOOP; END $$",
    )
    .await;
    // The last known values say that all are there.
    poor.maintain(None).await.unwrap();
    let found = poor.maintain(None).await.unwrap();
    assert_eq!(found.gauges.partitions_ahead_days(), Some(2));
    assert_eq!(found.gauges.retention_overdue_days(), Some(0));
    let said = failed(&found, MaintenanceStep::Partitions);
    assert!(said.contains("(SQLSTATE 42501)"), "{said}");
    execute(
        &mut sql,
        &format!("DROP OWNED BY {reader}; DROP ROLE {reader}"),
    )
    .await;
}
