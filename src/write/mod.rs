//! Moves the journal's records into the database, each event once. [`run`](self::run()) has the loop.
//!
//! **Invariant:** a position is marked stored in the journal only after the database has committed it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::memory::MemoryShares;
use crate::store::Store;

/// Builds a batch from entries of the journal.
mod batch;

/// Notes the records that were being written when the process died.
mod attempts;

/// Decodes a record's bytes into events.
mod decode_record;

/// Dead letters for records and rows.
mod dead_letters;

/// Commits one batch and classifies each refusal.
mod commit;

/// Writes a record that is too large for a batch.
mod large_record;

/// The memory that a large record takes.
mod record_memory;

/// Walks over a large record.
mod large_record_walks;

/// The facts of a batch that are counted once it is stored.
mod batch_summary;

/// Marks batches stored, or decides how to try them again.
mod failure_policy;

/// Reads the stored positions at first contact and after every failure.
mod reconcile;

/// The writer's progress and its current problems.
mod progress;

/// Pauses between attempts.
mod backoff;

/// Reads the journal's entries that are not stored yet.
mod batch_reader;

/// Detects other collectors on the same streams.
mod copied_streams;

/// Heartbeats of the streams.
mod heartbeat;

/// Rounds of the store's maintenance.
mod maintenance_rounds;

/// The loop of the writer.
mod run;

use attempts::Attempts;
use batch_reader::BatchLimit;
use copied_streams::CopiedStreams;
use progress::ProblemTopic;
pub use progress::{Progress, Written};
pub use run::{Unfinished, drain_to_empty, run};

/// Settings of the writer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of rows, and of their bytes, in a batch. A larger record is written alone.
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// Maximum number of bytes of memory for one record that is written alone. A record that needs more becomes a dead
    /// letter.
    pub large_record_bytes: usize,
    /// Maximum time that a batch waits for more entries while they keep arriving. An idle writer commits immediately.
    pub batch_wait: Duration,
    /// The pause after a failure doubles from `retry_min` to `retry_max`, with full jitter.
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub maintenance_interval: Duration,
    /// If no other collector updates a stream's heartbeat for this long, the stream counts as this collector's alone.
    pub silence: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_rows: 10_000,
            batch_bytes: 8 << 20,
            large_record_bytes: MemoryShares::of(None).large_record_bytes,
            batch_wait: Duration::from_millis(200),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            maintenance_interval: Duration::from_secs(30),
            silence: Duration::from_secs(300),
        }
    }
}

/// Pieces of a large record for each batch: a piece has at most half the bytes of a batch, 4 MiB by default. Each piece
/// costs a statement, and three pieces are held at a time.
const PIECES_A_BATCH: usize = 2;

impl Options {
    const fn piece_bytes(&self) -> usize {
        self.batch_bytes / PIECES_A_BATCH
    }
}

/// The condition under which the writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunUntil {
    /// The writer is asked to stop, whatever problems there are.
    Stopped,
    /// The journal is empty, or the problem needs an operator.
    Empty,
}

/// The state that the writer's tasks share.
#[derive(Clone)]
struct WriteLoop {
    journal: Journal,
    store: Store,
    options: Arc<Options>,
    progress: Progress,
    stop: CancellationToken,
    /// Requests that the stored positions be read again.
    reconcile_requested: Arc<Notify>,
    /// Requests a round of maintenance before its time.
    maintenance_requested: Arc<Notify>,
    /// One permit for each batch that is being written, and for a heartbeat if it uses a connection of the batches.
    write_permits: Arc<Semaphore>,
    run_until: RunUntil,
    copied_streams: CopiedStreams,
    attempts: Attempts,
    /// Bounds the size of batches while one of them keeps failing.
    batch_limit: Arc<Mutex<Option<BatchLimit>>>,
}

impl WriteLoop {
    fn new(
        journal: Journal,
        store: Store,
        options: Options,
        progress: Progress,
        stop: CancellationToken,
        until: RunUntil,
    ) -> Self {
        Self {
            attempts: Attempts::open(journal.dir()),
            write_permits: Arc::new(Semaphore::new(store.batches_at_once())),
            journal,
            store,
            options: Arc::new(options),
            progress,
            stop,
            reconcile_requested: Arc::default(),
            maintenance_requested: Arc::default(),
            run_until: until,
            copied_streams: CopiedStreams::default(),
            batch_limit: Arc::default(),
        }
    }

    fn batch_limit(&self) -> Option<BatchLimit> {
        *self
            .batch_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_batch_limit(&self, cap: Option<BatchLimit>) {
        *self
            .batch_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = cap;
    }

    /// Returns whether the writer is to end once nothing is left to read.
    fn is_over(&self) -> bool {
        match self.run_until {
            RunUntil::Stopped => self.stop.is_cancelled(),
            RunUntil::Empty => self.journal.status().undrained_streams == 0,
        }
    }

    /// Waits until no write is in progress. No write begins while the permit is held.
    async fn all_write_permits(&self) -> SemaphorePermit<'_> {
        let all = u32::try_from(self.store.batches_at_once()).unwrap_or(u32::MAX);
        let turns = self.write_permits.acquire_many(all).await;
        turns.expect("the semaphore is never closed")
    }

    async fn write_permit(&self) -> SemaphorePermit<'_> {
        let turn = self.write_permits.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Returns a permit for a heartbeat. `None` if the store keeps a connection beside those of the batches, which may
    /// hang.
    async fn heartbeat_permit(&self) -> Option<SemaphorePermit<'_>> {
        if self.store.spares_a_connection() {
            None
        } else {
            Some(self.write_permit().await)
        }
    }

    /// Names in `/health` the records that are written alone.
    fn show_attempts(&self) {
        match self.attempts.problem() {
            Some(text) => self.progress.problem(ProblemTopic::Attempts, text),
            None => self.progress.solved(ProblemTopic::Attempts),
        }
    }

    fn is_reconcile_requested(&self) -> bool {
        self.reconcile_requested.notified().now_or_never().is_some()
    }
}
