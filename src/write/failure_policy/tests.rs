//! Outcomes of batches, without a database.

use crate::event::Source;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_util::sync::CancellationToken;

use crate::decode::{self};
use crate::event::{ContentEncoding, Encoding, Limits, Signal};
use crate::journal::disk::OsDisk;
use crate::journal::{self, Journal, NewRecord};
use crate::store::{self, Store, StoreTarget};
use crate::write::batch::PendingBatch;
use crate::write::batch_reader::{BatchReader, NextWrite, StreamCursor};
use crate::write::failure_policy::*;
use crate::write::{self, Progress, RunUntil};

const EVENT: &str = r#"{"correlationId":"c","integration":"i","eventType":"e"}"#;

/// Opens a journal of two records, one of which cannot be decoded, and a writer whose store does not exist.
async fn writer(dir: &Path) -> (FailurePolicy, StreamId) {
    let nowhere = StoreTarget::Postgres {
        options: Box::default(),
        read: None,
    };
    writer_to(dir, nowhere).await
}

/// As [`writer`], to another store.
async fn writer_to(dir: &Path, target: StoreTarget) -> (FailurePolicy, StreamId) {
    let options = journal::Options {
        dir: dir.to_owned(),
        budget_bytes: Some(64 << 20),
        segment_bytes: Some(4 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
    };
    let journal = Journal::open(Arc::new(OsDisk), &options).unwrap();
    let mut stream = None;
    for (payload, accepted) in [(EVENT, 1), ("{", 3)] {
        stream = Some(
            journal
                .append(record(payload, accepted))
                .await
                .unwrap()
                .stream,
        );
    }
    let store = Store::new(&store::Options {
        target,
        migrate: true,
        retention_days: None,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        write_connections: 4,
        read_connections: 1,
        collector: String::new(),
    });
    let shared = WriteLoop::new(
        journal,
        store,
        write::Options::default(),
        Progress::default(),
        CancellationToken::new(),
        RunUntil::Stopped,
    );
    (FailurePolicy::new(shared), stream.unwrap())
}

fn record(payload: &'static str, accepted: u32) -> NewRecord {
    NewRecord {
        source: Source {
            signal: Signal::Event,
            encoding: Encoding::Json,
            partial: false,
            received_unix_nano: 0,
            limits: Limits::default(),
            version: decode::VERSION,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: u32::try_from(payload.len()).unwrap(),
        accepted,
        rejected: 0,
        digest: [0; 16],
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

/// Returns those records as a batch.
async fn built(
    writer: &FailurePolicy,
    stream: StreamId,
    positions: RangeInclusive<u64>,
) -> PendingBatch {
    let entries = writer
        .shared
        .journal
        .read(stream, 1, 1 << 20)
        .await
        .unwrap();
    let mut built = PendingBatch::new(stream, *positions.start());
    for (entry, n) in entries.into_iter().zip(1..) {
        if positions.contains(&n) {
            built.add(entry, 1 << 20);
        }
    }
    assert_eq!(built.batch.positions, positions);
    built
}

fn lost() -> Failure {
    Failure::Store(StoreError::retry(
        FailureClass::Timeout,
        "no answer".to_owned(),
    ))
}

fn ended(built: &PendingBatch, took: Result<Duration, Failure>) -> CommitResult {
    CommitResult {
        summary: BatchSummary::of(built),
        began: Instant::now(),
        took,
    }
}

async fn end(
    writer: &mut FailurePolicy,
    stream: StreamId,
    positions: RangeInclusive<u64>,
    took: Result<Duration, Failure>,
) {
    let fails = took.is_err();
    let built = built(writer, stream, positions).await;
    let ended = ended(&built, took);
    assert_eq!(writer.ended(ended).is_err(), fails);
}

/// A stop came in a pause while the database was available again, and the service ended 37 ms later with the journal
/// unchanged: the outage had also requested a reconciliation, which ended the last attempt before its first batch.
#[tokio::test]
async fn a_stop_writes_what_waits_though_the_account_is_to_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.db");
    let (writer, _) = writer_to(&dir.path().join("log"), StoreTarget::Sqlite { path }).await;
    let shared = writer.shared;
    shared.reconcile_requested.notify_one();
    shared.stop.cancel();
    write::run_loop(&shared).await.unwrap();
    assert_eq!(shared.journal.status().queue_events, 0);
}

#[tokio::test]
async fn after_a_failure_batches_go_alone_until_the_one_that_failed_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, stream) = writer(dir.path()).await;
    assert_eq!(writer.batches_at_once(), 2);
    end(&mut writer, stream, 1..=1, Err(lost())).await;
    assert_eq!(writer.batches_at_once(), 1);
    end(&mut writer, stream, 2..=2, Ok(Duration::ZERO)).await;
    assert_eq!(writer.batches_at_once(), 1);
    end(&mut writer, stream, 1..=2, Ok(Duration::ZERO)).await;
    assert_eq!(writer.batches_at_once(), 2);

    end(&mut writer, stream, 1..=1, Err(lost())).await;
    let elsewhere = StreamId([0xee; 16]);
    writer.settle_doubt(elsewhere, &StoredPositions::new([1..=1]));
    writer.settle_doubt(stream, &StoredPositions::new([2..=2]));
    assert_eq!(writer.batches_at_once(), 1);
    // Another collector stored it, on a copy of the journal.
    writer.settle_doubt(stream, &StoredPositions::new([1..=1]));
    assert_eq!(writer.batches_at_once(), 2);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_counted_once_and_as_the_account_says() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let counted = |series: &str| recorder.handle().render().contains(series);
    let rows = "ruvvector_write_events_total 1\n";
    let dead = "ruvvector_dead_letters_total{reason=\"undecodable\"} 3\n";

    let dir = tempfile::tempdir().unwrap();
    let (mut writer, stream) = writer(dir.path()).await;
    assert_eq!(writer.shared.journal.status().queue_events, 4);
    for account in [StoredPositions::default(), StoredPositions::new([1..=1])] {
        end(&mut writer, stream, 1..=2, Err(lost())).await;
        writer.settle_doubt(stream, &account);
        assert_eq!(writer.shared.journal.status().queue_events, 4);
        assert!(!counted(rows) && !counted(dead));
    }
    end(&mut writer, stream, 1..=2, Err(lost())).await;
    for _ in 0..2 {
        writer.settle_doubt(stream, &StoredPositions::new([1..=2]));
        assert_eq!(writer.shared.journal.status().queue_events, 0);
        assert!(
            counted(rows) && counted(dead),
            "{}",
            recorder.handle().render()
        );
    }
}

/// A COMMIT whose answer was lost may succeed after the stored positions were read. The batch that follows begins at
/// the same position and ends at another.
#[tokio::test]
async fn a_commit_that_lands_late_is_counted_as_it_was_and_not_as_its_successor() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, stream) = writer(dir.path()).await;
    let refused = || Err(Failure::Store(StoreError::AlreadyStored));

    end(&mut writer, stream, 2..=2, Err(lost())).await;
    writer.settle_doubt(stream, &StoredPositions::default());
    end(&mut writer, stream, 1..=2, refused()).await;
    writer.settle_doubt(stream, &StoredPositions::new([2..=2]));
    let page = recorder.handle().render();
    assert!(
        page.contains("ruvvector_dead_letters_total{reason=\"undecodable\"} 3\n"),
        "{page}"
    );
    assert!(page.contains("ruvvector_write_events_total 0\n"), "{page}");

    // A batch whose positions another batch of this collector has committed is no longer in doubt.
    end(&mut writer, stream, 1..=1, Err(lost())).await;
    end(&mut writer, stream, 1..=1, Ok(Duration::ZERO)).await;
    writer.settle_doubt(stream, &StoredPositions::new([1..=2]));
    let written = writer.shared.progress.written();
    assert_eq!((written.events, written.records), (1, 2));
    assert_eq!((written.dead_letters, written.dead_events), (1, 3));
}

#[tokio::test]
async fn batches_grow_again_as_they_pass_without_another_look_at_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, stream) = writer(dir.path()).await;
    writer.shared.set_batch_limit(Some(BatchLimit {
        stream,
        until: 9,
        entries: 1,
    }));
    for _ in 0..6 {
        writer
            .shared
            .journal
            .append(record(EVENT, 1))
            .await
            .unwrap();
    }
    let cursor = StreamCursor {
        stream,
        shared: false,
        live: true,
        stored_positions: StoredPositions::default(),
        next: 1,
    };
    let mut source = BatchReader::new(writer.shared.clone(), [cursor].into());
    let idle = CancellationToken::new();
    idle.cancel();
    for positions in [1..=1, 2..=3, 4..=7] {
        let Some(NextWrite::Batch(built)) = source.next(&idle).await else {
            panic!("a small record is part of a batch");
        };
        assert_eq!(built.batch.positions, positions);
        let took = Ok(Duration::ZERO);
        writer.ended(ended(&built, took)).unwrap();
    }
}
