//! Moves the journal's records into the database, each event once. The module `run` has the loop.
//!
//! **Invariant:** a position is marked stored in the journal only after the database has committed it.

use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::memory::MemoryShares;
use crate::store::Store;

/// The loop of the writer.
mod run;

/// Reads the stored positions at first contact and after every failure.
mod reconcile;

/// Reads the journal's entries that are not stored yet.
mod batch_reader;

/// Builds a batch from entries of the journal.
mod batch;

/// Decodes a record's bytes into events.
mod decode_record;

/// Dead letters for records and rows.
mod dead_letters;

/// Buffers for the rows of batches.
mod row_buffers;

/// Commits one batch and classifies each refusal.
mod commit;

/// Writes a record that is too large for a batch.
mod large_record;

/// Walks over a large record.
mod large_record_walks;

/// The memory that a large record takes.
mod record_memory;

/// The facts of a batch that are counted once it is stored.
mod batch_summary;

/// Decides how to continue after each batch.
mod failure_policy;

/// Pauses between attempts.
mod backoff;

/// The positions that are stored, and counts of what was written.
mod progress;

/// The current problems of the writer.
mod problems;

/// Notes the records that were being written when the process died.
mod attempts;

/// Detects other collectors on the same streams.
mod copied_streams;

/// Heartbeats of the streams.
mod heartbeat;

/// Rounds of the store's maintenance.
mod maintenance_rounds;

use attempts::Attempts;
use copied_streams::CopiedStreams;
use problems::ProblemTopic;
pub use problems::Problems;
pub use progress::{Progress, Written};
use row_buffers::RowBuffers;
pub use run::Unfinished;

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

/// The writer: [`WriteLoop::run`] or [`WriteLoop::drain_to_empty`] starts it. Holds the state that its tasks share. The
/// state that decides how to continue after a failure is in [`failure_policy`].
pub struct WriteLoop {
    journal: Journal,
    store: Store,
    options: Options,
    /// The positions that this writer knows to be stored.
    pub progress: Progress,
    /// The reasons why it cannot write at the moment.
    pub problems: Problems,
    stop: CancellationToken,
    run_until: RunUntil,
    /// Requests that the stored positions be read again.
    reconcile_requested: Notify,
    /// Requests a round of maintenance before its time.
    maintenance_requested: Notify,
    /// One permit for each batch that is being written, and for a heartbeat if it uses a connection of the batches.
    write_permits: Semaphore,
    copied_streams: CopiedStreams,
    attempts: Attempts,
    row_buffers: RowBuffers,
}

impl WriteLoop {
    #[must_use]
    pub fn new(journal: Journal, store: Store, options: Options) -> Self {
        Self {
            write_permits: Semaphore::new(store.batches_at_once()),
            journal,
            store,
            options,
            progress: Progress::default(),
            problems: Problems::default(),
            stop: CancellationToken::new(),
            run_until: RunUntil::Stopped,
            reconcile_requested: Notify::new(),
            maintenance_requested: Notify::new(),
            copied_streams: CopiedStreams::default(),
            attempts: Attempts::default(),
            row_buffers: RowBuffers::default(),
        }
    }

    /// Waits until no write is in progress. No write begins while the permit is held.
    async fn all_write_permits(&self) -> SemaphorePermit<'_> {
        let all = u32::try_from(self.store.batches_at_once()).unwrap_or(u32::MAX);
        let permits = self.write_permits.acquire_many(all).await;
        permits.expect("the semaphore is never closed")
    }

    async fn write_permit(&self) -> SemaphorePermit<'_> {
        let permit = self.write_permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    /// Names in `/health` the records that are written alone.
    fn show_attempts(&self) {
        self.problems
            .set(ProblemTopic::Attempts, self.attempts.problem());
    }
}
