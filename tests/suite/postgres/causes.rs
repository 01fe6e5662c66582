//! Each cause of an outage gets the advice that removes it: the real cause, the advice, the remedy.

use std::time::Duration;

use ruvvector_service::store::{Store, StoreError};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::{batch, begun, execute, facts, new_stream, options, prepared, rows, schema_sentence};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::Launch;

fn sentence<T: std::fmt::Debug>(done: Result<T, StoreError>) -> (&'static str, String) {
    match done {
        Err(StoreError::Retry { class, message, .. }) => (class.as_str(), message),
        other => panic!("not a Retry: {other:?}"),
    }
}

async fn cluster() -> (Cluster, PgConnectOptions) {
    let cluster = tokio::task::spawn_blocking(Cluster::start)
        .await
        .expect("started");
    let target = cluster.url().parse().expect("the URL is valid");
    (cluster, target)
}

/// The standby was stopped: every COMMIT waited, "the database or the network to it hangs" was the advice, and then "another
/// transaction holds a lock", which was the service's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_that_is_missing_is_named() {
    let (_cluster, target) = cluster().await;
    let mut settings = options(target.clone());
    settings.statement_timeout = Duration::from_secs(1);
    let store = Store::new(&settings);
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    let mut sql = PgConnection::connect_with(&target).await.unwrap();
    execute(
        &mut sql,
        "ALTER SYSTEM SET synchronous_standby_names = 'the_other_one'",
    )
    .await;
    execute(&mut sql, "SELECT pg_reload_conf()").await;
    super::number(&mut sql, "SELECT 1::bigint").await;
    // The first waits for the standby, the second for the lock that the first holds.
    for _ in 0..2 {
        let (class, message) = sentence(store.write(&batch(stream, 1..=1, rows(1))).await);
        assert_eq!(class, "timeout", "{message}");
        assert!(
            message.contains(r#"synchronous_standby_names is "the_other_one""#)
                && message.contains("start the standby"),
            "{message}"
        );
    }
    execute(&mut sql, "ALTER SYSTEM RESET synchronous_standby_names").await;
    execute(&mut sql, "SELECT pg_reload_conf()").await;
    store.prepare().await.unwrap();
    // The waiting transaction was committed after all, or not at all.
    let done = store.write(&batch(stream, 1..=1, rows(1))).await;
    assert!(
        matches!(done, Ok(()) | Err(StoreError::AlreadyStored)),
        "{done:?}"
    );
}

/// A trigger's exception had no advice, and a deferred trigger's check violation was called a missing partition, which
/// "is made again".
#[tokio::test]
async fn what_a_trigger_raises_is_called_a_triggers() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let stream = begun(&store).await;
    for (kind, state) in [
        ("TRIGGER own BEFORE", "P0001"),
        ("TRIGGER own BEFORE", "23514"),
        ("CONSTRAINT TRIGGER own AFTER", "23514"),
    ] {
        let deferred = if kind.starts_with("CONSTRAINT") {
            "DEFERRABLE INITIALLY DEFERRED"
        } else {
            ""
        };
        execute(
            &mut sql,
            &format!(
                "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS \
                     $$BEGIN RAISE EXCEPTION 'not on Sundays' USING ERRCODE = '{state}'; END$$; \
                 CREATE {kind} INSERT ON telemetry_events {deferred} FOR EACH ROW EXECUTE FUNCTION own()"
            ),
        )
        .await;
        let (class, message) = sentence(store.write(&batch(stream, 1..=1, rows(1))).await);
        assert_eq!(class, "other", "{message}");
        assert!(
            message.contains("not on Sundays") && message.contains("trigger"),
            "{message}"
        );
        assert!(!message.contains("partition"), "{message}");
        execute(&mut sql, "DROP FUNCTION own CASCADE").await;
    }
    store.write_resources(facts(stream), &[]).await.unwrap();
    store.write(&batch(stream, 1..=1, rows(1))).await.unwrap();
}

/// When `max_connections` was reached, `/health` reported that the database does not answer, and advised to check the
/// network. For a role's own limit the advice was "raise max_connections".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_does_not_give_are_named_by_whose_limit_it_is() {
    let (_cluster, target) = cluster().await;
    let mut sql = PgConnection::connect_with(&target).await.unwrap();
    execute(&mut sql, "CREATE ROLE limited LOGIN").await;
    execute(&mut sql, "CREATE DATABASE small OWNER limited").await;
    let limited = target.clone().username("limited").database("small");
    let mut settings = options(limited.clone());
    settings.connect_timeout = Duration::from_secs(1);
    for (limit, free, advice) in [
        (
            "ALTER ROLE limited CONNECTION LIMIT 0",
            "ALTER ROLE limited CONNECTION LIMIT -1",
            "raise it by ALTER ROLE",
        ),
        (
            "ALTER DATABASE small CONNECTION LIMIT 0",
            "ALTER DATABASE small CONNECTION LIMIT -1",
            "raise it by ALTER DATABASE",
        ),
    ] {
        execute(&mut sql, limit).await;
        assert_refused(&Store::new(&settings), advice).await;
        execute(&mut sql, free).await;
    }
    // All connections that the server gives to roles other than superusers.
    let mut others = Vec::new();
    while let Ok(one) = PgConnection::connect_with(&limited).await {
        others.push(one);
    }
    let store = Store::new(&settings);
    assert_refused(&store, "raise max_connections").await;
    for one in others {
        let _ = one.close().await;
    }
    until_ok(async || store.prepare().await.is_ok()).await;
    let pulse = store.check_liveness(Duration::from_secs(10)).await;
    assert!(pulse.database.is_some() && pulse.refusal.is_none());
}

async fn assert_refused(store: &Store, advice: &str) {
    let (class, message) = sentence(store.prepare().await);
    assert_eq!(class, "resources", "{message}");
    assert!(message.contains(advice), "{message}");
    let pulse = store.check_liveness(Duration::from_secs(2)).await;
    assert!(pulse.database.is_none());
    assert!(
        pulse.refusal.is_some_and(|text| text.contains(advice)),
        "{pulse:?}"
    );
}

/// Polls until it is so: a backend ends shortly after its connection.
async fn until_ok(so: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came about");
}

/// A provider made the database read-only because its disk was nearly full, and the advice was to set the URL to the
/// primary, which it was.
#[tokio::test]
async fn a_read_only_primary_is_distinguished_from_a_standby() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    let name = database.options().get_database().unwrap().to_owned();
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    execute(&mut sql, &set).await;
    let fresh = Store::new(&options(database.options()));
    fresh.prepare().await.unwrap();
    let done = fresh.write_resources(facts(new_stream()), &[]).await;
    let (class, message) = sentence(done);
    assert_eq!(class, "permission", "{message}");
    assert!(
        message.contains("(source: database)") && message.contains("storage"),
        "{message}"
    );
    assert!(!message.contains("standby"), "{message}");
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    execute(&mut sql, &reset).await;
    let fresh = Store::new(&options(database.options()));
    fresh.prepare().await.unwrap();
    begun(&fresh).await;
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_distinguished_from_a_read_only_primary() {
    let (cluster, target) = cluster().await;
    Store::new(&options(target.clone()))
        .prepare()
        .await
        .unwrap();
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.stop("fast");
        cluster.become_standby();
        cluster.resume();
        cluster
    })
    .await
    .expect("a standby");
    let store = Store::new(&options(target));
    store.prepare().await.unwrap();
    let (class, message) = sentence(store.write_resources(facts(new_stream()), &[]).await);
    assert_eq!(class, "permission", "{message}");
    assert!(message.contains("is a standby"), "{message}");
    drop(cluster);
}

/// The advice for a `search_path` without a schema was "run `ruvvector-service migrate`", which failed in the same way.
#[tokio::test]
async fn a_search_path_without_a_schema_gets_advice_that_works() {
    let database = Database::new().await;
    let mut sql = database.connect().await;
    let role = format!("Pathless-{}", database.options().get_database().unwrap());
    execute(
        &mut sql,
        &format!(r#"CREATE ROLE "{role}" LOGIN; ALTER ROLE "{role}" SET search_path = nowhere"#),
    )
    .await;
    let store = || Store::new(&options(database.options().username(&role)));
    let message = schema_sentence(store().prepare().await);
    assert!(message.contains("search_path is 'nowhere'"), "{message}");
    let (_, advice) = message.split_once("lead the role there: ").expect(&message);
    let (advice, _) = advice.rsplit_once(';').expect(&message);
    execute(&mut sql, advice).await;
    store().prepare().await.unwrap();
    begun(&store_prepared(store()).await).await;
    execute(
        &mut sql,
        &format!(r#"DROP OWNED BY "{role}"; DROP ROLE "{role}""#),
    )
    .await;
}

async fn store_prepared(store: Store) -> Store {
    store.prepare().await.expect("first contact succeeds");
    store
}

/// A WARN line quoted PostgreSQL's "Failing row contains (…)", with all values that the client had sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_rows_values_are_in_its_dead_letter_and_in_no_line() {
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    let send = async |integration: &str| {
        let body = format!(
            r#"{{"correlationId":"c","integration":"{integration}","eventType":"e","metadata":{{"card":"4929-0000"}}}}"#
        );
        let url = service.url("/ingest?wait=stored");
        let answer = service.http.post(&url, "application/json", body).await;
        assert!(answer.expect("an answer").status.is_success());
    };
    send("shop").await;
    let mut sql = database.connect().await;
    execute(
        &mut sql,
        "ALTER TABLE telemetry_events ADD CONSTRAINT no_strangers CHECK (integration <> 'stranger')",
    )
    .await;
    send("stranger").await;
    let letters = "SELECT count(*) FROM telemetry_dead_letters WHERE message LIKE '%no_strangers%Failing row%4929-0000%'";
    assert_eq!(super::number(&mut sql, letters).await, 1);
    let said = format!("{}{}", service.lines(), service.health().await);
    assert!(said.contains("no_strangers"), "{said}");
    for secret in ["Failing row", "4929-0000"] {
        assert!(!said.contains(secret), "{said}");
    }
}
