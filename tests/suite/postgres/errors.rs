//! Errors that are not a row's fault.

use std::time::Duration;

use ruvvector_service::store::{Store, StoreError, StoredPositions};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{
    batch, begun, class, count, event, execute, facts, now_unix_nano, number, options, postgres,
    prepared, rows,
};
use crate::support::postgres::{Cluster, Database};

/// The error's SQLSTATE, class and sentence.
fn parts(error: &StoreError) -> (Option<&str>, &'static str, &str) {
    match error {
        StoreError::Retry {
            class,
            sqlstate,
            message,
        } => (sqlstate.as_deref(), class.as_str(), message),
        other => panic!("not a Retry: {other:?}"),
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_what_to_grant() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
    let role = format!("reader_{}", database.options().get_database().unwrap());
    execute(
        &mut sql,
        &format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT INSERT, UPDATE ON ingest_streams, telemetry_resources TO {role}"
        ),
    )
    .await;
    let reader = Store::new(&options(database.options().username(&role)));
    reader.prepare().await.unwrap();
    let error = reader
        .write(&batch(stream, 2..=2, rows(1)))
        .await
        .unwrap_err();
    let (sqlstate, class, message) = parts(&error);
    assert_eq!((sqlstate, class), (Some("42501"), "permission"));
    assert!(message.contains("grant"), "{message}");
    execute(&mut sql, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_lock_that_somebody_holds_ends_the_attempt_and_not_the_writer() {
    let (database, _) = prepared().await;
    let mut settings = options(database.options());
    settings.statement_timeout = Duration::from_secs(1);
    let store = Store::new(&settings);
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "BEGIN; LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE",
    )
    .await;
    let error = store
        .write(&batch(stream, 1..=1, rows(1)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "timeout");
    execute(&mut sql, "ROLLBACK").await;
    store.write_resources(facts(stream), &[]).await.unwrap();
    // A slow machine may need more than one attempt within the short timeout.
    for _ in 0..20 {
        if store.write(&batch(stream, 1..=1, rows(1))).await.is_ok() {
            break;
        }
        let _ = store.write_resources(facts(stream), &[]).await;
    }
    assert_eq!(count(&mut sql).await, 1);
}

#[tokio::test]
async fn a_missing_database_a_wrong_user_and_a_closed_port_are_distinguished() {
    let database = Database::new().await;
    let mut cases = Vec::new();
    let missing = options(database.options().database("no_such_database"));
    cases.push((missing, Some("3D000"), "permission", "create the database"));
    let stranger = options(database.options().username("nobody_here"));
    cases.push((stranger, Some("28000"), "permission", "the user"));
    let mut closed = options(database.options().port(1));
    closed.connect_timeout = Duration::from_millis(500);
    cases.push((closed, None, "connection", "can be reached"));
    for (settings, sqlstate, class, advice) in cases {
        let error = Store::new(&settings).prepare().await.unwrap_err();
        let found = parts(&error);
        assert_eq!((found.0, found.1), (sqlstate, class), "{error}");
        assert!(found.2.contains(advice), "{error}");
    }
}

#[tokio::test]
async fn connections_that_are_all_in_use_are_named() {
    let (database, _) = prepared().await;
    let mut settings = options(database.options());
    settings.write_connections = 1;
    settings.connect_timeout = Duration::from_secs(2);
    let store = Store::new(&settings);
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    let mut sql = database.connect().await;
    execute(&mut sql, "BEGIN; SELECT FROM ingest_streams FOR UPDATE").await;
    let held = batch(stream, 1..=1, rows(1));
    let (_, waiting) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(4), store.write(&held)),
        store.stored_positions(stream)
    );
    assert_eq!(class(&waiting.unwrap_err()), "resources");
}

/// Ends the backend that copies, as soon as there is one.
async fn end_the_copy(sql: &mut PgConnection) {
    loop {
        let ended = number(
            sql,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'COPY telemetry_events%' AND state = 'active'",
        )
        .await;
        if ended > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_in_the_middle_of_a_copy_leaves_nothing() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    // A trigger that takes its time, so that the copy is interrupted in its middle.
    execute(
        &mut sql,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'; \
         CREATE TRIGGER slow BEFORE INSERT ON telemetry_events FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    .await;
    let large = batch(stream, 1..=1, rows(2_000));
    let (error, ()) = tokio::join!(store.write(&large), end_the_copy(&mut sql));
    assert_eq!(class(&error.unwrap_err()), "connection");
    assert_eq!(count(&mut sql).await, 0);
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::default()
    );

    execute(&mut sql, "DROP TRIGGER slow ON telemetry_events").await;
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&large).await.unwrap();
    assert_eq!(count(&mut sql).await, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_and_comes_back_is_noticed_and_the_stored_positions_are_read_again() {
    let cluster = Cluster::start();
    let target: sqlx::postgres::PgConnectOptions = cluster.url().parse().unwrap();
    let mut settings = options(target);
    settings.connect_timeout = Duration::from_secs(3);
    let store = Store::new(&settings);
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(10))).await.unwrap();

    cluster.stop("immediate");
    let error = store
        .write(&batch(stream, 2..=2, rows(10)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "connection");
    let limit = Duration::from_secs(10);
    assert!(store.check_liveness(limit).await.database.is_none());

    cluster.resume();
    // Without a new first contact nothing is written: the server may be another one.
    let error = store
        .write(&batch(stream, 2..=2, rows(10)))
        .await
        .unwrap_err();
    assert_eq!(class(&error), "connection");
    store.prepare().await.unwrap();
    assert_eq!(
        store.stored_positions(stream).await.unwrap(),
        StoredPositions::new([1..=1])
    );
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 2..=2, rows(10))).await.unwrap();
    assert!(store.check_liveness(limit).await.database.is_some());
    let mut sql = PgConnection::connect(&cluster.url()).await.unwrap();
    assert_eq!(count(&mut sql).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_no_more_than_the_deadline() {
    let cluster = Cluster::start();
    let target: sqlx::postgres::PgConnectOptions = cluster.url().parse().unwrap();
    let mut settings = options(target);
    settings.connect_timeout = Duration::from_secs(2);
    settings.statement_timeout = Duration::from_secs(2);
    let store = Store::new(&settings);
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    let processes = server_processes(cluster.pid());
    signal(&processes, rustix::process::Signal::STOP);
    let hung = tokio::time::timeout(
        Duration::from_secs(120),
        store.write(&batch(stream, 1..=1, rows(10))),
    )
    .await;
    signal(&processes, rustix::process::Signal::CONT);
    let error = hung.expect("a deadline ends it").unwrap_err();
    assert!(
        matches!(class(&error), "timeout" | "connection" | "resources"),
        "{error:?}"
    );
}

/// The postmaster and its children.
fn server_processes(postmaster: i32) -> Vec<i32> {
    let mut processes = vec![postmaster];
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(postmaster) {
            processes.push(pid);
        }
    }
    processes
}

fn signal(processes: &[i32], signal: rustix::process::Signal) {
    for pid in processes {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            // One may have ended already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

#[tokio::test]
async fn queries_have_a_pool_of_their_own() {
    let (database, _) = prepared().await;
    let mut settings = options(database.options());
    settings.write_connections = 1;
    settings.read_connections = 3;
    let store = Store::new(&settings);
    assert_eq!(
        store.pools().map(|pool| (pool.max, pool.size)),
        [(1, 0), (3, 0)]
    );
    store.prepare().await.unwrap();
    let one = postgres(&store).read_pool.acquire().await.unwrap();
    let [write, read] = store.pools();
    assert_eq!((write.size, read.size, read.idle), (1, 1, 0));
    drop(one);
    let _ = (event("c"), now_unix_nano());
}
