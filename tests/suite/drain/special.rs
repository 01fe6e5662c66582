//! Dead letters, directories that cannot be drained, the embedded store.

use std::path::Path;
use std::process::Command;

use sqlx::Connection;

use super::{directory, drain, ended, event, execute, files, number, orphan, send};
use crate::support::postgres::Database;
use crate::support::service::Launch;

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
        .map(|name| launch.data_dir().join("journal").join(name))
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
    assert!(
        said.contains("records of the journal are damaged"),
        "{said}"
    );
    assert!(
        said.contains(
            ": 18 events of 19 records written, 0 stored before; 2 dead letters (2 events,"
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

// From a copy that had run out of space, a drain wrote the present records, did not mention the rest, and ended with 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_its_end_is_no_success() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let requests: Vec<_> = (0..20).map(|n| event(&format!("e{n}"), "good")).collect();
    orphan(&launch, &requests).await;
    let journal = launch.data_dir().join("journal");
    for name in files(&launch.data_dir()) {
        let content = std::fs::read(journal.join(&name)).expect("read");
        // The existing records begin behind the header's block.
        if name.ends_with(".seg") && content[4096..].iter().any(|byte| *byte != 0) {
            std::fs::write(journal.join(&name), &content[..8192]).expect("cut");
        }
    }
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is cut short"), "{said}");
    assert!(
        said.contains("1 file of the journal had lost its end"),
        "{said}"
    );
    let kept = files(&launch.data_dir());
    assert!(
        kept.iter().any(|name| name.ends_with(".damaged")),
        "{kept:?}"
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
    std::fs::create_dir_all(other.join("journal")).expect("made");
    std::fs::write(other.join("journal").join("syslog"), "no journal of ours").expect("written");
    let (code, said) = ended(&at(&other)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no journal here"), "{said}");
    assert_eq!(files(&other), ["syslog"]);

    let mut running = launch.start().await;
    send(&running, &event("e1", "good")).await;
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("in use by another process") && said.contains("stop that service first"),
        "{said}"
    );
    running.until_drained().await;
    running.kill();
    let (code, said) = ended(&at(&launch.data_dir().join("journal"))).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the directory above journal/"), "{said}");

    // A file that cannot be identified as a segment may hold records: it stays, and the drain does not count as a
    // success.
    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    let name = "00000000000000ff.seg";
    std::fs::write(launch.data_dir().join("journal").join(name), [0xaa; 65_536]).expect("written");
    for _ in 0..2 {
        let (code, said) = ended(&drain(&launch)).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("all that can be read is stored, but not"),
            "{said}"
        );
        assert!(said.contains(name), "{said}");
        assert!(files(&launch.data_dir()).iter().any(|file| file == name));
    }
}

/// In a wrong directory `journal list` gave only the system's error, and not the setting to change.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_wrong_directory_says_what_a_drain_of_it_says() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    for command in [["journal", "list"], ["journal", "verify"]] {
        for (wrong, expected) in [
            (
                "misspelt",
                "there is no such directory; --data-dir, or RUVVECTOR_DATA_DIR, must name",
            ),
            (
                "data",
                "there is no journal here; --data-dir, or RUVVECTOR_DATA_DIR, must name",
            ),
        ] {
            let path = dir.path().join(wrong);
            let launch = launch
                .clone()
                .with("RUVVECTOR_DATA_DIR", path.to_str().expect("UTF-8"))
                .command(&command);
            let (code, said) = ended(&launch).await;
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
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
    assert!(said.contains("the store is not named"), "{said}");
    assert!(!launch.sqlite_file().exists());

    let (code, said) = ended(&drain(&launch)).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(count(&launch.sqlite_file()).await, 2);
    assert_eq!(files(&launch.data_dir()), ["lock"]);

    // The next one writes to the file of a running collector.
    orphan(&launch, &[event("e3", "good")]).await;
    let beside = directory();
    let running = Launch::sqlite(beside.path());
    let service = running.start().await;
    send(&service, &event("e4", "good")).await;
    let file = running.sqlite_file();
    let elsewhere = drain(&launch).with("RUVVECTOR_SQLITE_PATH", file.to_str().expect("UTF-8"));
    let (code, said) = ended(&elsewhere).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stays unchanged"), "{said}");
    service.until_drained().await;
    assert_eq!(count(&file).await, 2);
    assert_eq!(count(&launch.sqlite_file()).await, 2);
    assert_eq!(files(&launch.data_dir()), ["lock"]);
}
