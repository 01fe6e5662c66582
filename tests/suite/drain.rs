//! `log drain`: a data directory whose service is gone is emptied into the store.
//!
//! **Invariant:** what decides is the ledger, or every row of the table, never what the command says of itself alone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use ruvvector_service::log::disk::OsDisk;
use ruvvector_service::log::{Log, Options};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::{Launch, Service};

/// Longer than any drain of these tests takes.
const LONG: Duration = Duration::from_secs(120);

/// A database that nobody listens for.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

/// The query of the alert's runbook.
const UNDRAINED: &str = "SELECT count(*) FROM ingest_streams
    WHERE released IS NULL AND appended > 0 AND heartbeat < now() - interval '5 minutes'
      AND NOT done @> int8range(1, appended + 1)";

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-drain")
        .tempdir()
        .expect("a temporary directory")
}

fn drain(launch: &Launch) -> Launch {
    launch.clone().command(&["log", "drain"])
}

/// Runs it to its end: exit code and what it said.
async fn ended(launch: &Launch) -> (Option<i32>, String) {
    let mut process = launch.spawn();
    let status = process.ended(LONG).await;
    (status.code(), process.lines())
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut database = PgConnection::connect(url)
        .await
        .expect("PostgreSQL answers");
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut database)
        .await
        .expect("a number")
}

async fn execute(url: &str, sql: &str) {
    let mut database = PgConnection::connect(url)
        .await
        .expect("PostgreSQL answers");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut database)
        .await
        .expect("the statement runs");
}

/// What a running collector says; nothing before its first round of maintenance.
async fn undrained(service: &Service) -> Option<f64> {
    let page = service.get("/metrics").await.text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("ruvvector_streams_undrained "));
    line.map(|value| value.parse().expect("a number"))
}

/// The names of the files of a data directory's log.
fn files(data: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(data.join("log"))
        .expect("the directory is there")
        .map(|file| {
            file.expect("read")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// The streams of a data directory, each with its last position.
fn streams(data: &Path) -> Vec<(String, u64)> {
    let options = Options {
        dir: data.join("log"),
        budget_bytes: None,
        segment_bytes: 64 << 20,
        free_floor_bytes: 0,
        keep_stored: Duration::ZERO,
    };
    let reports = Log::inspect(Arc::new(OsDisk), &options).expect("the log can be read");
    let mut streams: Vec<(String, u64)> = Vec::new();
    for report in reports {
        streams.push((report.stream.to_string(), report.last));
    }
    streams
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp runs").success());
}

/// Sends a request of these events.
async fn send(service: &Service, events: &serde_json::Value) {
    let answer = service
        .http
        .post(
            &service.url("/ingest"),
            "application/json",
            events.to_string(),
        )
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn event(id: &str, integration: &str) -> serde_json::Value {
    json!([{ "correlationId": id, "integration": integration, "eventType": "drained" }])
}

/// A data directory with these requests in its log, killed; no database was ever there.
async fn orphan(launch: &Launch, requests: &[serde_json::Value]) {
    let mut service = launch
        .clone()
        .with("RUVVECTOR_STORE", "postgres")
        .with("DATABASE_URL", NOWHERE)
        .start()
        .await;
    for request in requests {
        send(&service, request).await;
    }
    service.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_drained_once_beside_a_running_collector_however_often_it_is_killed() {
    let cluster = Cluster::start();
    let url = cluster.url();
    let (gone, beside, copied) = (directory(), directory(), directory());
    let launch = Launch::postgres(gone.path(), &url);
    let ledger = Arc::new(Ledger::default());

    // Some of its log is stored, and most is not, when it dies.
    let mut service = launch.start().await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    service
        .until("events are stored", async |service: &Service| {
            service.metrics().await.sum("ruvvector_write_events_total") > 0.0
        })
        .await;
    cluster.stop("fast");
    tokio::time::sleep(Duration::from_secs(3)).await;
    service.kill();
    load.stop().await;
    copy(&launch.data_dir(), copied.path());

    cluster.resume();
    let running = Launch::postgres(beside.path(), &url)
        .with("RUVVECTOR_MAINTENANCE_INTERVAL", "1s")
        .start()
        .await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&running);
    // As if its last heartbeat, with all it held, had been a while ago.
    let held = streams(&launch.data_dir());
    assert_eq!(held.len(), 1, "{held:?}");
    let (stream, last) = &held[0];
    execute(
        &url,
        &format!(
            "UPDATE ingest_streams SET appended = {last}, heartbeat = now() - interval '10 minutes' \
             WHERE stream = '{stream}'"
        ),
    )
    .await;
    assert_eq!(number(&url, UNDRAINED).await, 1);
    running
        .until("it is noticed", async |service: &Service| {
            undrained(service)
                .await
                .is_some_and(|streams| streams > 0.5)
        })
        .await;

    let slow = drain(&launch).with("RUVVECTOR_BATCH_ROWS", "20");
    let done = format!(
        "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM ingest_streams, unnest(done) r WHERE stream = '{stream}'"
    );
    for _ in 0..3 {
        let before = number(&url, &done).await;
        let mut process = slow.spawn();
        let deadline = std::time::Instant::now() + LONG;
        while number(&url, &done).await < before + 5 {
            assert!(std::time::Instant::now() < deadline, "{}", process.lines());
            assert!(!process.has_ended(), "{}", process.lines());
        }
        process.kill();
        assert!(
            number(&url, &done).await < i64::try_from(*last).expect("small"),
            "killed in the middle"
        );
    }
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("; 0 dead letters; 0 gaps; the log is empty"),
        "{said}"
    );
    assert_eq!(files(&launch.data_dir()), ["lock"]);

    load.stop().await;
    running.until_drained().await;
    ledger.assert_stored_in_postgres(&url).await;
    let released = format!(
        "SELECT count(*) FROM ingest_streams WHERE stream = '{stream}' AND released IS NOT NULL AND oldest IS NULL"
    );
    assert_eq!(number(&url, &released).await, 1);
    // Its own openings, killed ones among them, left nothing that somebody would wait for.
    assert_eq!(
        number(
            &url,
            "SELECT count(*) FROM ingest_streams WHERE released IS NULL"
        )
        .await,
        1,
        "the running collector's alone"
    );
    assert_eq!(number(&url, UNDRAINED).await, 0);
    running
        .until("nothing is undrained", async |service: &Service| {
            undrained(service)
                .await
                .is_some_and(|streams| streams < 0.5)
        })
        .await;

    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to drain"), "{said}");

    // A copy that was made before is known by its streams.
    let copied = drain(&launch.moved(copied.path()));
    let (code, said) = ended(&copied).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(": 0 events of 0 records written"), "{said}");
    assert_eq!(files(&copied.data_dir()), ["lock"]);
    ledger.assert_stored_in_postgres(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_stopped_or_meets_a_newer_schema_ends_with_1_and_loses_nothing() {
    let dir = directory();
    let nowhere = Launch::postgres(dir.path(), NOWHERE)
        .with("RUVVECTOR_RETRY_MAX", "1s")
        .with("RUVVECTOR_CONNECT_TIMEOUT", "1s");
    let ledger = Arc::new(Ledger::default());
    let mut service = nowhere.start().await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.kill();
    load.stop().await;

    for signal in [Signal::TERM, Signal::INT] {
        let mut process = drain(&nowhere).spawn();
        let deadline = std::time::Instant::now() + LONG;
        while process.lines().matches("nothing is written").count() < 2 {
            assert!(std::time::Instant::now() < deadline, "{}", process.lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process.signal(signal);
        // Nothing is being committed that the grace time would be for.
        let status = process.ended(Duration::from_secs(4)).await;
        let said = process.lines();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("\"message\":\"draining;"), "{said}");
        assert!(said.contains(" events of 1 streams are left in"), "{said}");
    }

    let database = Database::new().await;
    execute(
        &database.url,
        "CREATE TABLE ruvvector_migrations (version bigint, checksum bytea, success boolean);
         INSERT INTO ruvvector_migrations VALUES (99, '', true)",
    )
    .await;
    let there = Launch::postgres(dir.path(), &database.url);
    let (code, said) = ended(&drain(&there)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("version 99") && said.contains("nothing is lost"),
        "{said}"
    );

    execute(&database.url, "DROP TABLE ruvvector_migrations").await;
    let (code, said) = ended(&drain(&there)).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(files(&there.data_dir()), ["lock"]);
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_damaged_becomes_a_dead_letter_and_is_counted() {
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let requests: Vec<_> = (0..20)
        .map(|n| match n {
            3 => event("e3", "refused"),
            7 => event("e7", "flipped"),
            n => event(&format!("e{n}"), "good"),
        })
        .collect();
    orphan(&launch, &requests).await;
    let segment = files(&launch.data_dir())
        .into_iter()
        .map(|name| launch.data_dir().join("log").join(name))
        .find(|path| {
            let content = std::fs::read(path).expect("read");
            content.windows(7).any(|bytes| bytes == b"flipped")
        })
        .expect("the record is in a segment");
    let mut content = std::fs::read(&segment).expect("read");
    let at = content
        .windows(7)
        .position(|bytes| bytes == b"flipped")
        .expect("found above");
    content[at] ^= 1;
    std::fs::write(&segment, content).expect("written");

    assert!(
        Command::new(env!("CARGO_BIN_EXE_ruvvector-service"))
            .env_clear()
            .env("DATABASE_URL", &database.url)
            .arg("migrate")
            .status()
            .expect("the binary runs")
            .success()
    );
    execute(
        &database.url,
        "ALTER TABLE telemetry_events ADD CHECK (integration <> 'refused')",
    )
    .await;
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("records of the log are damaged"), "{said}");
    assert!(
        said.contains(
            ": 18 events of 19 records written, 0 were stored before; 2 dead letters (2 events,"
        ),
        "{said}"
    );
    assert_eq!(
        number(
            &database.url,
            "SELECT count(DISTINCT correlation_id) FROM telemetry_events"
        )
        .await,
        18
    );
    for reason in ["refused", "damaged"] {
        let letters =
            format!("SELECT count(*) FROM telemetry_dead_letters WHERE reason = '{reason}'");
        assert_eq!(number(&database.url, &letters).await, 1, "{reason}");
    }
    assert!(
        files(&launch.data_dir())
            .iter()
            .all(|name| !name.ends_with(".seg")),
        "only the copy that was put aside stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_orphan_is_an_error_and_stays_as_it_is() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let at = |path: &Path| drain(&launch).with("RUVVECTOR_DATA_DIR", path.to_str().expect("UTF-8"));

    let missing = dir.path().join("misspelt");
    let (code, said) = ended(&at(&missing)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no such directory"), "{said}");
    assert!(!missing.exists());

    let other = dir.path().join("other");
    std::fs::create_dir_all(other.join("log")).expect("made");
    std::fs::write(other.join("log").join("syslog"), "no log of ours").expect("written");
    let (code, said) = ended(&at(&other)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no log here"), "{said}");
    assert_eq!(files(&other), ["syslog"]);

    let mut running = launch.start().await;
    send(&running, &event("e1", "good")).await;
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("in use by another process") && said.contains("stop that one first"),
        "{said}"
    );
    running.until_drained().await;
    running.kill();
    let (code, said) = ended(&at(&launch.data_dir().join("log"))).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the directory above log/"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_is_the_one_of_the_directory_unless_another_is_named() {
    let count = async |file: &Path| -> i64 {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut database = sqlx::SqliteConnection::connect_with(&options)
            .await
            .expect("the file opens");
        sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
            .fetch_one(&mut database)
            .await
            .expect("counted")
    };
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    orphan(&launch, &[event("e1", "good"), event("e2", "good")]).await;

    // A forgotten DATABASE_URL must not fill a new file.
    let unnamed = drain(&launch).with("RUVVECTOR_STORE", "");
    let (code, said) = ended(&unnamed).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("into which store?"), "{said}");
    assert!(!launch.sqlite_file().exists());

    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(count(&launch.sqlite_file()).await, 2);
    assert_eq!(files(&launch.data_dir()), ["lock"]);

    // The next one goes into the file of a running collector.
    orphan(&launch, &[event("e3", "good")]).await;
    let beside = directory();
    let running = Launch::sqlite(beside.path());
    let service = running.start().await;
    send(&service, &event("e4", "good")).await;
    let file = running.sqlite_file();
    let elsewhere = drain(&launch).with("RUVVECTOR_SQLITE_PATH", file.to_str().expect("UTF-8"));
    let (code, said) = ended(&elsewhere).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stays as it is"), "{said}");
    service.until_drained().await;
    assert_eq!(count(&file).await, 2);
    assert_eq!(count(&launch.sqlite_file()).await, 2);
    assert_eq!(files(&launch.data_dir()), ["lock"]);
}
