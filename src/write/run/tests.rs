//! Outcomes of batches, without a database.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_util::sync::CancellationToken;

use crate::decode;
use crate::event::{ContentEncoding, Encoding, Limits, Signal, Source, StreamId};
use crate::journal::disk::OsDisk;
use crate::journal::{self, Journal, NewRecord};
use crate::store::row_encoding::EncodedRows;
use crate::store::{self, Store, StoreTarget, StoredPositions};
use crate::write::Options;
use crate::write::batch::PendingBatch;
use crate::write::batch_reader::{BatchReader, NextWrite, StreamCursor};
use crate::write::run::*;

const EVENT: &str = r#"{"correlationId":"c","integration":"i","eventType":"e"}"#;

/// A writer, and its state across failures.
struct Bench {
    shared: WriteLoop,
    policy: FailurePolicy,
    stream: StreamId,
}

/// Opens a journal of two records, one of which cannot be decoded, and a writer whose store does not exist.
async fn writer(dir: &Path) -> Bench {
    let nowhere = StoreTarget::Postgres {
        options: Box::default(),
        read: None,
    };
    writer_to(dir, nowhere).await
}

/// As [`writer`], to another store.
async fn writer_to(dir: &Path, target: StoreTarget) -> Bench {
    let options = journal::Options {
        dir: dir.to_owned(),
        budget_bytes: Some(64 << 20),
        segment_bytes: Some(4 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..journal::Options::default()
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
    Bench {
        shared: WriteLoop::new(journal, store, Options::default()),
        policy: FailurePolicy::default(),
        stream: stream.unwrap(),
    }
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
        is_clean: false,
        digest: [0; 16],
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

impl Bench {
    /// Returns those records as a batch.
    async fn batch(&self, positions: RangeInclusive<u64>) -> PendingBatch {
        let read = self.shared.journal.read(self.stream, 1, 1 << 20).await;
        let mut batch = PendingBatch::new(self.stream, *positions.start(), EncodedRows::default());
        for (entry, n) in read.unwrap().into_iter().zip(1..) {
            if positions.contains(&n) {
                assert!(batch.add(entry, 1 << 20).is_none());
            }
        }
        assert_eq!(batch.batch.positions, positions);
        batch
    }

    /// Ends an attempt to commit those records.
    async fn end(&mut self, positions: RangeInclusive<u64>, outcome: Result<Duration, Failure>) {
        let fails = outcome.is_err();
        let ended = ended(&self.batch(positions).await, outcome);
        let next = on_ended(&self.shared, &mut self.policy, ended);
        assert_eq!(next.is_err(), fails);
    }

    /// Reads those stored positions from the database.
    fn read_stored(&mut self, stored: &StoredPositions) {
        for batch in self.policy.on_stored_positions(self.stream, stored) {
            on_committed(&self.shared, &mut self.policy, &batch);
        }
    }

    fn batches_at_once(&self) -> usize {
        batches_at_once(&self.shared, &self.policy)
    }
}

fn lost() -> Failure {
    Failure::Store(StoreError::retry(
        FailureClass::Timeout,
        "no answer".to_owned(),
    ))
}

fn ended(batch: &PendingBatch, outcome: Result<Duration, Failure>) -> CommitResult {
    CommitResult {
        summary: BatchSummary::of(batch),
        began: Instant::now(),
        outcome,
    }
}

/// A stop came in a pause while the database was available again, and the service ended 37 ms later with the journal
/// unchanged: the outage had also requested a reconciliation, which ended the last attempt before its first batch.
#[tokio::test]
async fn a_stop_writes_what_waits_though_the_stored_positions_are_to_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.db");
    let bench = writer_to(&dir.path().join("log"), StoreTarget::Sqlite { path }).await;
    let shared = bench.shared;
    shared.reconcile_requested.notify_one();
    shared.stop.cancel();
    write_journal(&shared).await.unwrap();
    assert_eq!(shared.journal.status().queue_events, 0);
}

#[tokio::test]
async fn after_a_failure_batches_go_alone_until_the_one_that_failed_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path()).await;
    assert_eq!(writer.batches_at_once(), 2);
    writer.end(1..=1, Err(lost())).await;
    assert_eq!(writer.batches_at_once(), 1);
    writer.end(2..=2, Ok(Duration::ZERO)).await;
    assert_eq!(writer.batches_at_once(), 1);
    writer.end(1..=2, Ok(Duration::ZERO)).await;
    assert_eq!(writer.batches_at_once(), 2);

    writer.end(1..=1, Err(lost())).await;
    let elsewhere = StreamId([0xee; 16]);
    let all = StoredPositions::new([1..=1]);
    assert!(
        writer
            .policy
            .on_stored_positions(elsewhere, &all)
            .is_empty()
    );
    writer.read_stored(&StoredPositions::new([2..=2]));
    assert_eq!(writer.batches_at_once(), 1);
    // Another collector stored it, on a copy of the journal.
    writer.read_stored(&StoredPositions::new([1..=1]));
    assert_eq!(writer.batches_at_once(), 2);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_counted_once_and_as_the_stored_positions_say() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let counted = |series: &str| recorder.handle().render().contains(series);
    let rows = "ruvvector_write_events_total 1\n";
    let dead = "ruvvector_dead_letters_total{reason=\"undecodable\"} 3\n";

    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path()).await;
    assert_eq!(writer.shared.journal.status().queue_events, 4);
    for stored in [StoredPositions::default(), StoredPositions::new([1..=1])] {
        writer.end(1..=2, Err(lost())).await;
        writer.read_stored(&stored);
        assert_eq!(writer.shared.journal.status().queue_events, 4);
        assert!(!counted(rows) && !counted(dead));
    }
    writer.end(1..=2, Err(lost())).await;
    for _ in 0..2 {
        writer.read_stored(&StoredPositions::new([1..=2]));
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
    let mut writer = writer(dir.path()).await;
    let refused = || Err(Failure::Store(StoreError::AlreadyStored));

    writer.end(2..=2, Err(lost())).await;
    writer.read_stored(&StoredPositions::default());
    writer.end(1..=2, refused()).await;
    writer.read_stored(&StoredPositions::new([2..=2]));
    let page = recorder.handle().render();
    assert!(
        page.contains("ruvvector_dead_letters_total{reason=\"undecodable\"} 3\n"),
        "{page}"
    );
    assert!(page.contains("ruvvector_write_events_total 0\n"), "{page}");

    // A batch whose positions another batch of this collector has committed is no longer in doubt.
    writer.end(1..=1, Err(lost())).await;
    writer.end(1..=1, Ok(Duration::ZERO)).await;
    writer.read_stored(&StoredPositions::new([1..=2]));
    let written = writer.shared.progress.written();
    assert_eq!((written.events, written.records), (1, 2));
    assert_eq!((written.dead_letters, written.dead_events), (1, 3));
}

#[tokio::test]
async fn batches_grow_again_as_they_pass_without_another_reconciliation() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path()).await;
    let stream = writer.stream;
    for _ in 0..6 {
        writer
            .shared
            .journal
            .append(record(EVENT, 1))
            .await
            .unwrap();
    }
    let refused = BatchSummary {
        stream,
        positions: 1..=9,
        entries: 2,
        rows: 9,
        records: 9,
        dead: Vec::new(),
    };
    let Bench { shared, policy, .. } = &mut writer;
    let _ = policy.on_failed(refused, Instant::now(), Failure::Smaller);
    let cursor = StreamCursor {
        stream,
        contested: false,
        live: true,
        next: 1,
    };
    let mut reader = BatchReader::new(shared, [cursor].into());
    let idle = CancellationToken::new();
    idle.cancel();
    for positions in [1..=1, 2..=3, 4..=7] {
        let next = reader.next(&idle, policy.batch_limit).await;
        let Some(NextWrite::Batch(batch)) = next else {
            panic!("a small record is part of a batch");
        };
        assert_eq!(batch.batch.positions, positions);
        on_ended(shared, policy, ended(&batch, Ok(Duration::ZERO))).unwrap();
    }
}
