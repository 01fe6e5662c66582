//! Tests of the embedded store over a separate file.
//!
//! **Invariant:** each test has a private directory.

use std::path::Path;
use std::time::Duration;

use sqlx::Transaction;

use crate::event::StreamId;
use crate::store::probe::probe_row;
use crate::store::row_encoding::EncodedRows;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::wal::WAL_PAUSE;
use crate::store::{
    Batch, FailureClass, LargeRecord, Options, ProcessStart, RecordPiece, RecordPieces, StoreError,
    StoredPositions,
};

/// The first operator reported rows that a stop had left in the WAL. With readers that overlap, the WAL grew with every
/// batch, to 54 MB after 200,000 events, and was never reset.
#[tokio::test]
async fn the_wal_is_bounded_though_one_reader_comes_before_the_other_has_gone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = store(&dir.path().join("read.db"));
    store.prepare().await.expect("first contact");
    let mut written = 0;
    let mut reader = reads(&store).await;
    let mut last = 0;
    for _ in 0..20 {
        written += 1;
        store.write(&batch(written)).await.expect("stored");
        // The next reader begins before this one has ended.
        reader = reads(&store).await;
        assert!(store.wal_bytes() > last, "it grows");
        last = store.wal_bytes();
    }
    store.bound_wal(last).await.expect("nothing to do");
    assert_eq!(store.wal_bytes(), last);
    // A reader that stays open is waited for, but no longer than [`WAL_PAUSE`].
    store.bound_wal(last - 1).await.expect("busy is no error");
    assert!(store.wal_bytes() >= last);
    written += 1;
    store.write(&batch(written)).await.expect("writing goes on");

    let gone = async {
        tokio::time::sleep(WAL_PAUSE / 10).await;
        reader.rollback().await.expect("ended");
    };
    let (emptied, ()) = tokio::join!(store.bound_wal(last - 1), gone);
    emptied.expect("emptied");
    assert_eq!(store.wal_bytes(), 0);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
        .fetch_one(&store.read_pool)
        .await
        .expect("counted");
    assert_eq!(rows, 21 * 2_000);
}

/// If writing a record took longer than the connection's acquire timeout, each step of maintenance failed with `pool
/// timed out`, round after round, as if the file were defective.
#[tokio::test]
async fn maintenance_waits_its_turn_while_a_large_record_is_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Long enough for the first contact of a busy machine.
    let patience = Duration::from_secs(1);
    let options = Options {
        retention_days: Some(7),
        connect_timeout: patience,
        ..Options::sqlite_file(dir.path().join("large.db"))
    };
    let store = Sqlite::new(&options, &ProcessStart::default());
    store.prepare().await.expect("first contact");
    let record = LargeRecord {
        stream: StreamId([3; 16]),
        position: 1,
        received_unix_nano: 0,
    };
    let (sender, pieces) = RecordPieces::new();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.write_pieces(record, pieces).await }
    });
    // The second send ends only once the store has received the first piece.
    for _ in 0..2 {
        let rows = batch(1).rows;
        sender
            .send(RecordPiece::Rows(rows))
            .await
            .expect("it is read");
    }
    let mut round = Box::pin(store.maintain(None));
    let early = tokio::time::timeout(2 * patience, &mut round).await;
    assert!(early.is_err(), "{early:?}");
    sender.send(RecordPiece::End).await.expect("it is read");
    writing.await.expect("no panic").expect("stored");
    let maintained = round.await.expect("a round");
    assert!(maintained.failures.is_empty(), "{:?}", maintained.failures);
}

/// Begins a transaction and reads in it.
async fn reads(store: &Sqlite) -> Transaction<'static, sqlx::Sqlite> {
    let mut reader = store.read_pool.begin().await.expect("begun");
    sqlx::query("SELECT count(*) FROM telemetry_events")
        .execute(&mut *reader)
        .await
        .expect("read");
    reader
}

fn store(path: &Path) -> Sqlite {
    Sqlite::new(
        &Options::sqlite_file(path.to_owned()),
        &ProcessStart::default(),
    )
}

/// Returns a batch of one position with 2,000 rows.
fn batch(position: u64) -> Batch {
    let mut rows = EncodedRows::default();
    let good = probe_row();
    for _ in 0..2_000 {
        rows.push_row(good.row(0));
    }
    Batch {
        stream: StreamId([1; 16]),
        positions: position..=position,
        rows,
        dead_letters: Vec::new(),
    }
}

/// The pages that a round of retention had written stayed in the WAL, on a volume that the journal then found too full.
#[tokio::test]
async fn a_round_of_retention_gives_the_space_of_its_wal_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        retention_days: Some(7),
        ..Options::sqlite_file(dir.path().join("due.db"))
    };
    let store = Sqlite::new(&options, &ProcessStart::default());
    store.prepare().await.expect("first contact");
    let due = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300)
         INSERT INTO telemetry_events (timestamp, created_at, correlation_id, integration, event_type, metadata)
         SELECT 0, 0, n, 'shop', 'order', hex(zeroblob(50000)) FROM numbers";
    sqlx::query(due)
        .execute(&store.write_pool)
        .await
        .expect("inserted");
    store.empty_wal(WAL_PAUSE).await.expect("emptied");
    let maintained = store.maintain(None).await.expect("a round");
    assert!(maintained.failures.is_empty(), "{:?}", maintained.failures);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
        .fetch_one(&store.read_pool)
        .await
        .expect("counted");
    assert_eq!(rows, 0);
    assert!(store.wal_bytes() <= 8 << 20, "{}", store.wal_bytes());
}

/// A file at its maximum number of pages behaves like one on a full disk.
#[tokio::test]
async fn a_full_disk_stores_nothing_and_goes_on_once_there_is_space() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = store(&dir.path().join("full.db"));
    store.prepare().await.expect("first contact");
    sqlx::query("PRAGMA max_page_count = 20")
        .execute(&store.write_pool)
        .await
        .expect("limited");
    let batch = batch(1);
    let full = store.write(&batch).await;
    assert!(
        matches!(&full, Err(StoreError::Retry { class: FailureClass::Resources, message, .. }) if message.contains("free space")),
        "{full:?}"
    );
    // The connection was closed, which also ended the limit.
    assert_eq!(
        store.stored_positions(batch.stream).await.expect("read"),
        StoredPositions::default()
    );
    store.write(&batch).await.expect("there is space again");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_events")
        .fetch_one(&store.read_pool)
        .await
        .expect("counted");
    assert_eq!(rows, 2_000);
}
