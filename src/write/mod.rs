//! # How a batch is written
//!
//! The writer moves records from the journal into the database. [`reconcile`] first reads from the database the stored
//! positions of each stream that the journal holds. [`batch_reader`] then reads the synced records whose positions are
//! not among them, decodes them again and collects their rows in batches. A record whose rows are too large for a batch
//! is written alone, a piece at a time ([`large_record`]).
//!
//! [`commit`] writes each batch in one database transaction: its rows, its dead letters and its positions. While
//! batches are being committed, at most as many at once as the store permits, the next one is decoded. Once the
//! database confirms the commit, [`failure_policy`] marks the positions stored in the journal. The journal then
//! recycles each segment whose positions are all stored.
//!
//! After any failure the writer pauses if the database caused it, reads the stored positions again and builds the
//! remaining batches again from the journal. Therefore no batch has to be kept across a failure, and no position is
//! stored twice. If the answer to a COMMIT was lost, the stored positions show the outcome. Heartbeats ([`heartbeat`])
//! and rounds of maintenance ([`maintenance_rounds`]) run beside the batches.
//!
//! **Invariant:** a position is marked stored in the journal only after the database has committed it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::memory::MemoryShares;
use crate::store::{CLOSE_TIMEOUT, Store};

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

/// Drains a journal until it is empty.
mod drain_to_empty;

use attempts::{Attempts, RemoveNoteOnDrop};
use batch_reader::{BatchLimit, BatchReader, NextWrite};
use commit::Failure;
use copied_streams::CopiedStreams;
pub use drain_to_empty::{Unfinished, drain_to_empty};
use failure_policy::FailurePolicy;
use progress::ProblemTopic;
pub use progress::{Progress, Written};

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

/// Drains the journal into the store until `stop` is cancelled, and then what is left until `grace` has passed. Within
/// the same time, reports to the database what the journal still holds, and closes the store. Never fails: it tries
/// again without limit and reports each problem in `progress`.
///
/// The future may be dropped at any time. A batch that is being committed at that moment is then stored as a whole or
/// not at all; the process that opens the journal next reads which from the stored positions.
pub async fn run(
    journal: Journal,
    store: Store,
    options: Options,
    progress: Progress,
    stop: CancellationToken,
    grace: Duration,
) {
    let shared = WriteLoop::new(
        journal,
        store,
        options,
        progress,
        stop.clone(),
        RunUntil::Stopped,
    );
    let goodbye = (grace / 5).min(CLOSE_TIMEOUT);
    let over = CancellationToken::new();
    let work = Box::pin(async {
        let _over = over.clone().drop_guard();
        run_loop(&shared).await
    });
    let rounds = Box::pin(join(
        heartbeat::run_heartbeats(&shared, &over),
        maintenance_rounds::run_maintenance(&shared, &over),
    ));
    let time_is_over = async {
        stop.cancelled().await;
        let waits = shared.journal.status().queue_events > 0;
        if waits {
            tokio::time::sleep(grace.saturating_sub(goodbye)).await;
        }
        // A round of maintenance may still end if the database is connected. If it is not, it may still return in time
        // for the queued events.
        if waits != shared.progress.connected() {
            tokio::time::sleep(goodbye).await;
        }
    };
    let working = async {
        tokio::select! {
            _ = join(work, rounds) => {}
            () = time_is_over => {}
        }
    };
    let end_of_grace = async {
        stop.cancelled().await;
        Instant::now() + grace
    };
    let ((), end) = join(working, end_of_grace).await;
    let left = || end.saturating_duration_since(Instant::now()).min(goodbye);
    if shared.progress.connected() {
        let _ = tokio::time::timeout(left() / 2, heartbeat::send_heartbeat(&shared)).await;
    }
    shared.store.close(left()).await;
}

/// Connects, reconciles and writes batches in turn. Returns once the writer is to end and nothing is left to read.
///
/// # Errors
/// [`Unfinished::Schema`] as [`reconcile::connect_and_reconcile`]. [`Unfinished::Shared`] if the journal is to be
/// emptied and the rest of it is another collector's.
async fn run_loop(shared: &WriteLoop) -> Result<(), Unfinished> {
    let _closing = RemoveNoteOnDrop(shared.attempts.clone());
    let mut writer = FailurePolicy::new(shared.clone());
    loop {
        let contacted = reconcile::connect_and_reconcile(&mut writer).await;
        let mut source = contacted.map_err(Unfinished::Schema)?;
        let ended = write_batches(&mut writer, &mut source).await;
        shared.attempts.rest();
        match ended {
            // A requested reconciliation ends the batches early, before the reader is exhausted.
            Ok(()) if shared.is_over() && source.is_exhausted() => return Ok(()),
            Ok(()) if shared.run_until == RunUntil::Empty && source.is_exhausted() => {
                if let Some(text) = shared.copied_streams.contested_by_live_origin() {
                    return Err(Unfinished::Shared(text));
                }
            }
            Ok(()) => {}
            Err(failure) => writer.after(failure).await,
        }
    }
}

/// Commits the reader's batches until the reader is exhausted, a reconciliation is requested, or a batch fails. On
/// return, no commit is in flight.
async fn write_batches(
    writer: &mut FailurePolicy,
    source: &mut BatchReader,
) -> Result<(), Failure> {
    let shared = writer.shared.clone();
    let mut begun = FuturesUnordered::new();
    let mut outcome = Ok(());
    while outcome.is_ok() && !shared.is_reconcile_requested() {
        let idle = CancellationToken::new();
        let mut next = pin!(source.next(&idle));
        let built = loop {
            if begun.is_empty() {
                idle.cancel();
            }
            tokio::select! {
                Some(ended) = begun.next() => {
                    outcome = writer.ended(ended);
                    if outcome.is_err() {
                        break None;
                    }
                }
                built = &mut next => break built,
            }
        };
        let Some(next) = built else { break };
        let is_alone = !matches!(next, NextWrite::Batch(_));
        let at_once = if is_alone {
            1
        } else {
            writer.batches_at_once()
        };
        while outcome.is_ok() && begun.len() >= at_once {
            let Some(ended) = begun.next().await else {
                break;
            };
            outcome = writer.ended(ended);
        }
        if outcome.is_ok() {
            begun.push(commit::write(shared.clone(), next));
        }
        if is_alone {
            // Nothing else is read in the meantime: the next record may be as large, or the process may die.
            while let Some(ended) = begun.next().await {
                outcome = outcome.and(writer.ended(ended));
            }
        }
    }
    while let Some(ended) = begun.next().await {
        outcome = outcome.and(writer.ended(ended));
    }
    outcome
}
