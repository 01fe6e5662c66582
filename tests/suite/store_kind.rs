//! A data directory keeps its kind of store, unless a setting confirms the change.

use std::time::Duration;

use ruvvector_service::store::StoreKind;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::postgres::Database;
use crate::support::service::{Launch, PATIENCE, Service};

/// Without a setting of the store: SQLite, in the data directory.
fn nameless(dir: &tempfile::TempDir) -> Launch {
    Launch::sqlite(dir.path()).without("RUVVECTOR_STORE")
}

/// With the usual settings.
fn by_url(dir: &tempfile::TempDir, url: &str) -> Launch {
    nameless(dir).with("DATABASE_URL", url)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn store(service: &Service, id: &str) {
    let body = json!({"correlationId": id, "integration": "shop", "eventType": "order"});
    let answer = service
        .http
        .post(
            &service.url("/ingest?wait=stored"),
            "application/json",
            body.to_string(),
        )
        .await
        .expect("an answer");
    assert!(answer.status.is_success(), "{}", answer.text());
}

async fn stored(service: &Service) -> Vec<String> {
    let page = service.get("/query?order=asc").await.json();
    let events = page.as_array().expect("a page of events");
    events
        .iter()
        .map(|event| event["correlationId"].as_str().expect("an id").to_owned())
        .collect()
}

/// Starts, stores one event, and stops in order.
async fn serve(launch: &Launch, id: &str) {
    let mut service = launch.start().await;
    store(&service, id).await;
    stop(&mut service).await;
}

async fn stop(service: &mut Service) {
    service.signal(rustix::process::Signal::TERM);
    assert!(
        service.ended(PATIENCE).await.success(),
        "{}",
        service.lines()
    );
}

/// The error of a refused start, which `validate` reports as well. Both end like wrong settings: systemd's unit does
/// not restart a service that ends so.
async fn refused(launch: &Launch, before: StoreKind, kind: StoreKind) -> String {
    let validate = launch.clone().command(&["validate"]);
    let found = ended_by_settings(&validate).await;
    let error = ended_by_settings(launch).await;
    assert_eq!(found, error);
    let (before, kind) = (before.as_str(), kind.as_str());
    for part in [
        format!("served the store {before}"),
        format!("the settings lead to {kind}"),
        format!("RUVVECTOR_STORE={kind}"),
    ] {
        assert!(error.contains(&part), "{part}: {error}");
    }
    error
}

async fn ended_by_settings(launch: &Launch) -> String {
    let mut service = launch.spawn();
    let status = service.ended(Duration::from_secs(60)).await;
    let lines = service.lines();
    assert_eq!(status.code(), Some(2), "{lines}");
    let error = lines.lines().rfind(|line| line.starts_with("error: "));
    error.expect("the reason is the last line").to_owned()
}

/// The warning of a `validate` that finds no error.
async fn warned(launch: &Launch) -> Option<String> {
    let mut validate = launch.clone().command(&["validate"]).spawn();
    let status = validate.ended(Duration::from_secs(60)).await;
    let lines = validate.lines();
    assert!(status.success(), "{lines}");
    let warning = lines
        .lines()
        .find(|line| line.contains(" served the store "));
    warning.map(str::to_owned)
}

/// `DATABASE_URL` was once forgotten: SQLite was started on the directory, drained the journal into a new file, and
/// nobody noticed this or the way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_database_url_is_an_error_and_so_is_the_way_back_until_store_confirms_it() {
    let database = Database::new().await;
    let dir = directory();
    let postgres = by_url(&dir, &database.url);
    serve(&postgres, "one").await;

    let error = refused(&nameless(&dir), StoreKind::Postgres, StoreKind::Sqlite).await;
    assert!(
        error.contains("its journal holds 1 event ") && error.contains("set DATABASE_URL"),
        "{error}"
    );
    assert!(!nameless(&dir).sqlite_file().exists());
    serve(&postgres, "two").await;

    // A confirmed change is remembered. Its first start explains the consequence, as does `validate` before it, which
    // changes nothing.
    for _ in 0..2 {
        let warning = warned(&Launch::sqlite(dir.path())).await;
        assert!(warning.is_some_and(|warning| warning.starts_with("warning: ")));
    }
    let mut service = Launch::sqlite(dir.path()).start().await;
    let problems = service.health().await["problems"].to_string();
    assert!(
        problems.contains("served the store postgres until now"),
        "{problems}"
    );
    service.until_drained().await;
    store(&service, "three").await;
    stop(&mut service).await;
    let mut service = nameless(&dir).start().await;
    let problems = service.health().await["problems"].to_string();
    assert!(!problems.contains("served"), "{problems}");
    assert_eq!(warned(&nameless(&dir)).await, None);
    assert_eq!(
        stored(&service).await,
        ["one", "two", "three"],
        "what the journal kept, too"
    );
    stop(&mut service).await;

    let error = refused(&postgres, StoreKind::Sqlite, StoreKind::Postgres).await;
    assert!(error.contains("telemetry.db holds events"), "{error}");
    serve(&Launch::postgres(dir.path(), &database.url), "four").await;
    let mut service = postgres.start().await;
    assert_eq!(stored(&service).await, ["one", "two", "three", "four"]);
    stop(&mut service).await;
    refused(&nameless(&dir), StoreKind::Postgres, StoreKind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_an_earlier_version_shows_which_store_it_served() {
    let database = Database::new().await;
    let served_postgres = directory();
    serve(&by_url(&served_postgres, &database.url), "one").await;
    forget(&served_postgres);
    refused(
        &nameless(&served_postgres),
        StoreKind::Postgres,
        StoreKind::Sqlite,
    )
    .await;

    let served_sqlite = directory();
    serve(&nameless(&served_sqlite), "two").await;
    forget(&served_sqlite);
    let postgres = by_url(&served_sqlite, &database.url);
    refused(&postgres, StoreKind::Sqlite, StoreKind::Postgres).await;

    // A file of an old trial, whose streams are gone, does not indicate SQLite: the journal of a PostgreSQL was drained
    // into such a file.
    std::fs::copy(
        nameless(&served_sqlite).sqlite_file(),
        nameless(&served_postgres).sqlite_file(),
    )
    .expect("copied");
    refused(
        &nameless(&served_postgres),
        StoreKind::Postgres,
        StoreKind::Sqlite,
    )
    .await;
    serve(&by_url(&served_postgres, &database.url), "three").await;
}

/// Removes the note, which earlier versions did not write.
fn forget(dir: &tempfile::TempDir) {
    let note = dir.path().join("data/store");
    std::fs::remove_file(note).expect("the kind was noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_postgres_a_drain_and_an_empty_directory_are_no_errors() {
    let (one, other) = (Database::new().await, Database::new().await);
    let dir = directory();
    serve(&by_url(&dir, &one.url), "one").await;
    serve(&by_url(&dir, &other.url), "two").await;

    let drain = nameless(&dir)
        .with("RUVVECTOR_STORE", "sqlite")
        .command(&["journal", "drain"]);
    let mut drain = drain.spawn();
    assert!(drain.ended(PATIENCE).await.success(), "{}", drain.lines());
    drop(drain);
    std::fs::remove_file(nameless(&dir).sqlite_file()).expect("the drain made it");

    // Nothing could be stored twice or hidden; it is reported nevertheless.
    let mut service = nameless(&dir).start().await;
    let problems = service.health().await["problems"].to_string();
    assert!(
        problems.contains("served the store postgres until now"),
        "{problems}"
    );
    stop(&mut service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_cut_is_made_again() {
    let dir = directory();
    serve(&nameless(&dir), "one").await;
    let note = dir.path().join("data/store");
    for text in ["", "sql", "\0\0\0\0\0\0\0"] {
        std::fs::write(&note, text).expect("written");
        serve(&nameless(&dir), "more").await;
        let again = std::fs::read_to_string(&note).expect("there");
        assert_eq!(again, "sqlite\n", "{text:?}");
    }
}

/// With `DATABASE_URL` forgotten, `migrate` made a SQLite file in the directory of a service with PostgreSQL. `journal
/// drain`, which treats such a file as an indication, then moved acknowledged events into it.
#[tokio::test(flavor = "multi_thread")]
async fn commands_refuse_the_other_kind_of_store_as_a_start_does() {
    let database = Database::new().await;
    let dir = directory();
    serve(&by_url(&dir, &database.url), "one").await;
    let migrate = ["migrate"].as_slice();
    let confirm_clock = ["retention", "confirm-clock"].as_slice();
    let drain = ["journal", "drain"].as_slice();

    let expected = refused(&nameless(&dir), StoreKind::Postgres, StoreKind::Sqlite).await;
    for command in [migrate, confirm_clock] {
        let error = ended_by_settings(&nameless(&dir).command(command)).await;
        assert_eq!(error, expected, "{command:?}");
        assert!(!nameless(&dir).sqlite_file().exists(), "{command:?}");
    }
    // As an earlier version made it.
    let named = Launch::sqlite(dir.path()).command(migrate);
    let mut process = named.spawn();
    assert!(
        process.ended(PATIENCE).await.success(),
        "{}",
        process.lines()
    );
    drop(process);
    assert!(nameless(&dir).sqlite_file().exists());
    let error = ended_by_settings(&nameless(&dir).command(drain)).await;
    assert_eq!(error, expected);
    serve(&by_url(&dir, &database.url), "two").await;

    let other = directory();
    serve(&nameless(&other), "three").await;
    let postgres = by_url(&other, &database.url);
    let expected = refused(&postgres, StoreKind::Sqlite, StoreKind::Postgres).await;
    for command in [migrate, confirm_clock, drain] {
        let error = ended_by_settings(&postgres.clone().command(command)).await;
        assert_eq!(error, expected, "{command:?}");
    }
}

/// Outside the service's directory, without `DATABASE_URL`, each command ended with `unable to open database file`.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_database_setting_says_so() {
    let dir = directory();
    let elsewhere = dir.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().expect("UTF-8");
    for command in [["migrate"].as_slice(), &["retention", "confirm-clock"]] {
        let launch = nameless(&dir)
            .with("RUVVECTOR_DATA_DIR", elsewhere)
            .command(command);
        let mut process = launch.spawn();
        let status = process.ended(PATIENCE).await;
        let said = process.lines();
        assert_eq!(status.code(), Some(1), "{said}");
        let expected =
            format!("No database is set, so this is SQLite in {elsewhere}: set DATABASE_URL");
        assert!(said.contains(&expected), "{said}");
    }
}

/// `validate` showed `auto` for the journal's sizes that depend on the volume.
#[tokio::test(flavor = "multi_thread")]
async fn validate_shows_what_the_logs_sizes_come_to() {
    let dir = directory();
    let mut process = nameless(&dir).command(&["validate"]).spawn();
    assert!(process.ended(PATIENCE).await.success());
    let said = process.lines();
    for key in [
        "journal_max_bytes",
        "journal_segment_bytes",
        "journal_free_floor_bytes",
    ] {
        let line = said.lines().find(|line| line.starts_with(key));
        let (_, means) = line
            .and_then(|line| line.split_once("# default: "))
            .unwrap_or_else(|| panic!("{key}: {said}"));
        assert!(means.starts_with(|c: char| c.is_ascii_digit()), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_says_whether_the_clock_was_doubted() {
    let database = Database::new().await;
    let dir = directory();
    serve(&by_url(&dir, &database.url), "one").await;
    let confirm = by_url(&dir, &database.url).command(&["retention", "confirm-clock"]);
    let mut sql = PgConnection::connect(&database.url)
        .await
        .expect("it answers");
    for (reason, expected) in [
        ("NULL", "the clock was not doubted"),
        (
            "'differs'",
            "which ends this doubt: the clocks of the database and of a collector differ",
        ),
    ] {
        let row = format!(
            "DELETE FROM ruvvector_retention; INSERT INTO ruvvector_retention (reason, waited_us, began_us, confirmations)
             VALUES ({reason}, 0, 0, 0)"
        );
        sqlx::raw_sql(AssertSqlSafe(row))
            .execute(&mut sql)
            .await
            .expect("a row");
        let mut process = confirm.spawn();
        assert!(process.ended(PATIENCE).await.success());
        let said = process.lines();
        assert!(said.contains(expected), "{said}");
    }
}
