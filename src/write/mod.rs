//! The journal to the store: reads what is synced and not stored, decodes it again, writes it in batches.
//!
//! While batches are committed, as many at once as the store has room for, the next is decoded. After any failure the
//! database's account is read again and the batches are built again from the journal, so nothing has to be remembered across
//! failures.
//!
//! **Invariant:** what is marked stored in the journal has been committed, with its positions, in the database's account.

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
use crate::store::{GOODBYE, Store};

/// Entries of the journal to one batch.
mod batch;

/// Records that the process may have died of.
mod attempts;

/// A record's bytes to events.
mod decode_record;

/// Records and rows that are set aside.
mod dead_letters;

/// One batch to the database, and what each refusal means.
mod commit;

/// A record that is too large for a batch.
mod large_record;

/// The memory that such a record takes.
mod record_memory;

/// Walks over such a record.
mod large_record_walks;

/// The facts of a batch that count once it is stored.
mod batch_summary;

/// What becomes of batches once they have ended.
mod failure_policy;

/// What the database holds: read at first contact and after every failure.
mod reconcile;

/// What the writer knows.
mod progress;

/// Waiting between attempts.
mod backoff;

/// What is to be written next.
mod batch_reader;

/// Other collectors on the same streams.
mod copied_streams;

/// Heartbeats.
mod heartbeat;

/// Rounds of the store's maintenance.
mod maintenance_rounds;

/// A journal that is to be empty.
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
    /// Rows and bytes that a batch holds at most; a larger record is a batch alone.
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// Memory that one record may take while it is written alone; one that needs more becomes a dead letter.
    pub large_record_bytes: usize,
    /// The longest that a batch waits for more while more keeps coming; an idle writer commits at once.
    pub batch_wait: Duration,
    /// The pause after a failure doubles from the one to the other, with full jitter.
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub maintenance_interval: Duration,
    /// After so long without a word of another collector on a stream, there is none.
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

/// A piece of a large record has half the bytes of a batch, 4 MiB: each costs a statement of its own, and three are held at
/// a time.
const PIECES_A_BATCH: usize = 2;

impl Options {
    const fn piece_bytes(&self) -> usize {
        self.batch_bytes / PIECES_A_BATCH
    }
}

/// Until when the journal is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunUntil {
    /// It is to stop, whatever stands in the way meanwhile.
    Stopped,
    /// Nothing of the journal is left, or nobody but a person can help.
    Empty,
}

/// What the writer's parts have in common.
#[derive(Clone)]
struct WriteLoop {
    journal: Journal,
    store: Store,
    options: Arc<Options>,
    progress: Progress,
    stop: CancellationToken,
    /// Says that the account is to be read again.
    reconcile_requested: Arc<Notify>,
    /// Asks for a round of maintenance before its time.
    maintenance_requested: Arc<Notify>,
    /// What writes takes its turn: batches, and heartbeats beside them.
    write_permits: Arc<Semaphore>,
    run_until: RunUntil,
    copied_streams: CopiedStreams,
    attempts: Attempts,
    /// Smaller batches, while one keeps failing.
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

    /// Whether nothing more is to be done once nothing more is to be read.
    fn is_over(&self) -> bool {
        match self.run_until {
            RunUntil::Stopped => self.stop.is_cancelled(),
            RunUntil::Empty => self.journal.status().undrained_streams == 0,
        }
    }

    /// Returns once nothing is being written any more; nothing begins while the permit lives.
    async fn all_write_permits(&self) -> SemaphorePermit<'_> {
        let all = u32::try_from(self.store.batches_at_once()).unwrap_or(u32::MAX);
        let turns = self.write_permits.acquire_many(all).await;
        turns.expect("the semaphore is never closed")
    }

    async fn write_permit(&self) -> SemaphorePermit<'_> {
        let turn = self.write_permits.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// A turn for a heartbeat; none is needed where the store has a connection beside those of the batches, which may hang.
    async fn heartbeat_permit(&self) -> Option<SemaphorePermit<'_>> {
        if self.store.spares_a_connection() {
            None
        } else {
            Some(self.write_permit().await)
        }
    }

    /// Makes `/health` name what is written alone.
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

/// Drains the journal into the store until `stop` is cancelled and then, while `grace` lasts, what is left; tells the database
/// what the journal still holds, and closes the store, within the same time. Never fails: it tries again, for ever, and says so
/// in `progress`.
///
/// May be dropped at any time: a batch that is then being committed is in the account or it is not, and whoever opens the
/// log next reads which.
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
    let goodbye = (grace / 5).min(GOODBYE);
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
        // A round of upkeep may end where the database is there; where it is not, it may yet come for what waits.
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

/// The whole way of the writer. Returns when it is over and nothing is left to read.
///
/// # Errors
/// As [`reconcile::contact`]; and where the journal is only to be emptied, when what is left of it is another collector's.
async fn run_loop(shared: &WriteLoop) -> Result<(), Unfinished> {
    let _closing = RemoveNoteOnDrop(shared.attempts.clone());
    let mut writer = FailurePolicy::new(shared.clone());
    loop {
        let contacted = reconcile::connect_and_reconcile(&mut writer).await;
        let mut source = contacted.map_err(Unfinished::Schema)?;
        let ended = write_batches(&mut writer, &mut source).await;
        shared.attempts.rest();
        match ended {
            // A look at the account that was asked for before ends the batches early.
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

/// Commits what the source gives until it gives nothing more, the account is to be read again, or a batch fails; then all
/// that was begun has ended.
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
            // Nothing more is read meanwhile: it may be another of its size, or the process may die.
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
