//! The file is renamed, removed or replaced while the service runs.
//!
//! **Invariant:** in the end each event that was acknowledged meanwhile is once in the file at the path.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use crate::support::service::{Launch, Service};

async fn accept(service: &Service, id: &str) {
    let body = format!(r#"{{"correlationId":"{id}","integration":"shop","eventType":"order"}}"#);
    let answer = service
        .http
        .post(&service.url("/ingest"), "application/json", body)
        .await
        .expect("an answer");
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// Waits until `/health` names the file with that text.
async fn until_named(service: &Service, launch: &Launch, part: &str) {
    let path = launch.sqlite_file().display().to_string();
    service
        .until("health names the file", async |service: &Service| {
            let health = service.health().await;
            let problems = health["problems"].to_string();
            health["status"] == "degraded" && problems.contains(&path) && problems.contains(part)
        })
        .await;
}

async fn ids(launch: &Launch) -> Vec<String> {
    let mut connection = open(&launch.sqlite_file()).await;
    sqlx::query_scalar("SELECT correlation_id FROM telemetry_events ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .expect("readable")
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options)
        .await
        .expect("the file opens")
}

/// All files of the store are moved there, as a wrong backup would do.
fn move_away(launch: &Launch) -> Vec<(PathBuf, PathBuf)> {
    let mut moved = Vec::new();
    for end in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{end}", launch.sqlite_file().display()));
        let to = PathBuf::from(format!("{}.away{end}", launch.sqlite_file().display()));
        if from.exists() {
            std::fs::rename(&from, &to).expect("renamed");
            moved.push((from, to));
        }
    }
    moved
}

/// The file was renamed, and the service stayed `ok` for ever: it wrote on into a file that nobody would find.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_renamed_is_named_and_written_to_once_it_is_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let service = launch.start().await;
    accept(&service, "before").await;
    service.until_drained().await;
    let moved = move_away(&launch);
    accept(&service, "during").await;
    until_named(&service, &launch, "put it back").await;
    accept(&service, "later").await;
    assert!(service.metrics().await.sum("ruvvector_queue_events") >= 1.0);
    for (from, to) in moved {
        std::fs::rename(to, from).expect("renamed back");
    }
    service.until_drained().await;
    service
        .until("all is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
    assert_eq!(ids(&launch).await, ["before", "during", "later"]);
    assert!(
        service
            .lines()
            .contains("writing to the database works again")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_is_noticed_without_events_and_made_again_by_the_next_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let mut service = launch.start().await;
    accept(&service, "before").await;
    service.until_drained().await;
    for (_, to) in move_away(&launch) {
        std::fs::remove_file(to).expect("removed");
    }
    // Nothing arrives: a heartbeat finds it.
    until_named(&service, &launch, "start the service again").await;
    accept(&service, "during").await;
    service.kill();
    let service = launch.start().await;
    service.until_drained().await;
    assert_eq!(
        ids(&launch).await,
        ["before", "during"],
        "what the journal kept, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_in_its_place_is_used_unless_a_wal_of_the_first_is_left() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let service = launch.start().await;
    accept(&service, "one").await;
    service.until_drained().await;
    let path = launch.sqlite_file();
    let backup = dir.path().join("backup.db");
    let mut connection = open(&path).await;
    sqlx::query("VACUUM INTO ?")
        .bind(backup.to_str())
        .execute(&mut connection)
        .await
        .expect("backed up");
    drop(connection);
    accept(&service, "two").await;
    service.until_drained().await;

    // The WAL that stays belongs to the earlier file.
    std::fs::rename(&backup, &path).expect("replaced");
    accept(&service, "three").await;
    until_named(&service, &launch, "belongs to the one before").await;
    for end in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", path.display())).expect("removed");
    }
    service.until_drained().await;
    // Events that the backup lacks are written again from the journal.
    assert_eq!(ids(&launch).await, ["one", "two", "three"]);
}

/// The file was renamed without its WAL. The next start made a new file, and SQLite removed the WAL, whose rows the
/// renamed file lacked.
#[tokio::test(flavor = "multi_thread")]
async fn a_wal_whose_file_is_missing_is_kept() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let mut service = launch.start().await;
    accept(&service, "before").await;
    service.until_drained().await;
    service.kill();
    let file = launch.sqlite_file();
    let away = dir.path().join("away.db");
    std::fs::rename(&file, &away).expect("renamed");
    let mut service = launch.start().await;
    service.until_drained().await;
    service.kill();
    let kept = std::fs::read_dir(launch.data_dir())
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .find(|path| path.display().to_string().contains("telemetry.db-wal."))
        .expect("the WAL is kept");
    assert!(service.lines().contains(&kept.display().to_string()));
    std::fs::rename(kept, dir.path().join("away.db-wal")).expect("renamed");
    let count = "SELECT count(*) FROM telemetry_events WHERE correlation_id = 'before'";
    let rows: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut open(&away).await)
        .await
        .expect("readable");
    assert_eq!(rows, 1);
}
