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
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::store::{GOODBYE, Store, StoreError};
use crate::write::attempts::RemoveNoteOnDrop;
use crate::write::backoff::Backoff;
use crate::write::batch_reader::{BatchReader, NextWrite};
use crate::write::commit::{self, Failure};
use crate::write::failure_policy::FailurePolicy;
use crate::write::progress::Progress;
use crate::write::{Options, RunUntil, WriteLoop, heartbeat, maintenance_rounds, reconcile};

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
pub(super) async fn run_loop(shared: &WriteLoop) -> Result<(), Unfinished> {
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

/// The reason why a part of the journal is left.
#[derive(Debug)]
pub enum Unfinished {
    /// The caller cancelled `stop`.
    Stopped,
    /// [`StoreError::Schema`]: waiting does not help.
    Schema(StoreError),
    /// Another collector uses a stream with positions that cannot be read here. Holds a sentence.
    Shared(String),
}

/// Drains the journal into the store until it is empty, recycles its segments, and marks its streams released. Tries
/// again without limit and reports each problem in `progress`. Once `stop` is cancelled, it begins nothing more, and
/// batches that are being committed have `grace` to end.
///
/// The future may be dropped at any time, and the call repeated.
///
/// # Errors
/// [`Unfinished`] with the reason, if something may be left.
pub async fn drain_to_empty(
    journal: Journal,
    store: Store,
    options: Options,
    progress: Progress,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), Unfinished> {
    let shared = WriteLoop::new(journal, store, options, progress, stop, RunUntil::Empty);
    let stopped = async {
        shared.stop.cancelled().await;
        // Without the database, no commit is in flight.
        if shared.progress.connected() {
            // The semaphore is fair: no other task gets a permit before this one has them all.
            let _ = tokio::time::timeout(grace, shared.all_write_permits()).await;
        }
    };
    let over = CancellationToken::new();
    let emptied = async {
        let _over = over.clone().drop_guard();
        drain_and_release(&shared).await
    };
    tokio::select! {
        (done, ()) = join(emptied, heartbeat::run_heartbeats(&shared, &over)) => done,
        () = stopped => Err(Unfinished::Stopped),
    }
}

async fn drain_and_release(shared: &WriteLoop) -> Result<(), Unfinished> {
    loop {
        run_loop(shared).await?;
        // A failover since the last commit may have lost stored positions.
        if report_streams(shared).await? {
            break;
        }
    }
    let journal = shared.journal.clone();
    // It fails only if the runtime shuts down.
    let _ = tokio::task::spawn_blocking(move || journal.recycle_all_stored()).await;
    report_streams(shared).await.map(drop)
}

/// Sends heartbeats until the database has accepted one. Returns whether the database still holds all stored positions.
async fn report_streams(shared: &WriteLoop) -> Result<bool, Unfinished> {
    let mut backoff = Backoff::default();
    let mut told = heartbeat::send_heartbeat(shared).await;
    loop {
        let error = match told {
            Ok(sound) => return Ok(sound),
            Err(error @ StoreError::Schema(_)) => return Err(Unfinished::Schema(error)),
            Err(error) => error,
        };
        tracing::warn!(
            "all is written; the database has not heard yet what is held and what is gone: {error}"
        );
        let options = &shared.options;
        tokio::time::sleep(backoff.pause(options.retry_min, options.retry_max)).await;
        told = match shared.store.prepare().await {
            Ok(()) => heartbeat::send_heartbeat(shared).await,
            Err(error) => Err(error),
        };
    }
}
