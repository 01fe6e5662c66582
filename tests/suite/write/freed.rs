//! Segments whose first block is zeros, as versions before the spare's mark freed them, when the service is upgraded.
//!
//! **Invariant:** an old record is stored once, and none that was acknowledged is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ruvvector_service::event::StreamId;
use ruvvector_service::store::{Store, StreamHeartbeat};

use super::bench::{Bench, Db, json, open_log, record, until};

const DAY: Duration = Duration::from_secs(86_400);

/// Two sealed segments of one stream, with an event in each, of that age; returns the stream and the files.
async fn directory(dir: &Path, age: Duration) -> (StreamId, Vec<PathBuf>) {
    let journal = open_log(dir);
    let mut stream = None;
    for n in 1..=2 {
        // Each fills more than half of a segment.
        let padding = " ".repeat(700_000);
        let mut record = record(1, &format!("[{}]{padding}", json(n, "orders")));
        record.source.received_unix_nano -= i64::try_from(age.as_nanos()).expect("some days");
        stream = Some(journal.append(record).await.expect("taken").stream);
    }
    journal.close().await;
    drop(journal);
    // Those versions noted no positions.
    std::fs::remove_file(dir.join("positions")).expect("there was a note");
    let listed = std::fs::read_dir(dir).expect("the directory lists");
    let paths = listed.map(|file| file.expect("an entry").path());
    let mut sealed: Vec<PathBuf> = paths.filter(|path| footer(path).is_some()).collect();
    sealed.sort();
    assert_eq!(sealed.len(), 2);
    (stream.expect("two records"), sealed)
}

/// The file's bytes and the offset of its footer.
fn footer(path: &Path) -> Option<(Vec<u8>, usize)> {
    let content = std::fs::read(path).expect("the file is read");
    let at = content.len().checked_sub(4096)?;
    content[at..]
        .starts_with(b"ruvvend\n")
        .then_some((content, at))
}

/// Changes a segment as such a version changed a stored one, and as a lost first block changes any.
fn free_as_before(path: &Path) {
    let (mut content, at) = footer(path).expect("it is sealed");
    content[..4096].fill(0);
    content[at + 512..].fill(0);
    let footer = &mut content[at..at + 512];
    footer[10] = 0;
    footer[12..16].fill(0);
    let checksum = crc32c::crc32c(footer);
    footer[12..16].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(path, content).expect("written");
}

async fn both() -> [Db; 2] {
    [Db::postgres().await, Db::sqlite()]
}

async fn drained(dir: &Path, db: &Db) -> Bench {
    let mut bench = Bench::new(dir);
    bench.start(&db.options());
    until("contact", async || bench.progress.connected()).await;
    bench.drained().await;
    bench
}

/// PostgreSQL's row of the stream was gone, a month after it was released, and all records of a spare were stored
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_spare_whose_stream_the_database_forgot_are_not_stored_again() {
    for db in both().await {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (stream, files) = directory(dir.path(), 40 * DAY).await;
        for path in &files {
            free_as_before(path);
        }
        let before: Vec<_> = files.iter().map(|path| std::fs::read(path).ok()).collect();
        for _ in 0..2 {
            let mut bench = drained(dir.path(), &db).await;
            assert!(bench.journal.streams().iter().all(|held| held.id != stream));
            bench.stop().await;
            bench.journal.close().await;
            let after: Vec<_> = files.iter().map(|path| std::fs::read(path).ok()).collect();
            assert!(before == after, "the files are left alone");
        }
        db.assert_holds_exactly(0).await;
        assert_eq!(db.dead_letters().await, 0);
    }
}

/// SQLite's row of the stream existed, with no position in it, and a damaged segment's records were treated as stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_behind_a_lost_first_block_are_stored_where_the_database_knows_their_stream() {
    for db in both().await {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (stream, files) = directory(dir.path(), 40 * DAY).await;
        for path in &files {
            free_as_before(path);
        }
        let facts = StreamHeartbeat {
            stream,
            appended: 2,
            oldest_unix_nano: None,
            contested: false,
        };
        let store = Store::new(&db.options());
        store.prepare().await.expect("first contact succeeds");
        assert!(!store.has_stream_row(stream).await.expect("an answer"));
        let written = store.write_resources(facts, &[]).await;
        written.expect("the row is written");
        assert!(store.has_stream_row(stream).await.expect("an answer"));
        store.close(Duration::from_secs(5)).await;
        let mut bench = drained(dir.path(), &db).await;
        db.assert_holds_exactly(2).await;
        bench.stop().await;
        bench.journal.close().await;
    }
}

/// There had never been a database: a segment with a lost first block was treated as freed, and its records as stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_behind_a_lost_first_block_are_stored_where_no_row_was_ever_written() {
    // A row of a stream is kept for a month after its last segment. So a record of yesterday was never in a freed
    // segment, and neither was any of a stream of which a sound segment exists.
    for (age, harmed) in [(DAY, 2), (40 * DAY, 1)] {
        for db in both().await {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (_, files) = directory(dir.path(), age).await;
            for path in &files[..harmed] {
                free_as_before(path);
            }
            let mut bench = drained(dir.path(), &db).await;
            db.assert_holds_exactly(2).await;
            assert_eq!(db.dead_letters().await, 0);
            bench.stop().await;
            bench.journal.close().await;
        }
    }
}
