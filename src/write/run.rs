//! # How a batch is written
//!
//! The writer moves records from the journal into the database. [`reconcile`] first reads from the database the stored
//! positions of each stream that the journal holds. [`batch_reader`] then reads the synced records whose positions are
//! not among them, decodes them again and collects their rows in batches. A record whose rows are too large for a batch
//! is written alone, a piece at a time ([`large_record`]).
//!
//! [`commit`] writes each batch in one database transaction: its rows, its dead letters and its positions. While
//! batches are being committed, at most as many at once as the store permits, the next one is decoded. Once the
//! database confirms the commit, the positions are marked stored in the journal. The journal then recycles each segment
//! whose positions are all stored.
//!
//! After any failure the writer pauses if the database caused it, reads the stored positions again and builds the
//! remaining batches again from the journal. Therefore no batch has to be kept across a failure, and no position is
//! stored twice. If the answer to a COMMIT was lost, the stored positions show the outcome. [`failure_policy`] holds
//! what is remembered from one failure to the next, and decides about the size of the batches that follow. Heartbeats
//! ([`heartbeat`]) and rounds of maintenance ([`maintenance_rounds`]) run beside the batches.
//!
//! **Invariant:** a position is marked stored in the journal only after the database has committed it.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;

use crate::store::{CLOSE_TIMEOUT, FailureClass, StoreError};
use crate::telemetry::metrics as names;
use crate::write::attempts::{Attempts, RemoveNoteOnDrop};
use crate::write::batch_reader::{BatchReader, NextWrite};
use crate::write::batch_summary::{BatchSummary, count};
use crate::write::commit::{self, CommitResult, Failure};
use crate::write::failure_policy::{FailurePolicy, Next};
use crate::write::problems::ProblemTopic;
use crate::write::reconcile::reconcile;
use crate::write::{RunUntil, WriteLoop, heartbeat, maintenance_rounds};

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

impl WriteLoop {
    /// Drains the journal into the store until `stop` is cancelled, and then what is left until `grace` has passed.
    /// Within the same time, reports to the database what the journal still holds, and closes the store. Never fails:
    /// it tries again without limit and reports each problem in [`WriteLoop::problems`].
    ///
    /// The future may be dropped at any time. A batch that is being committed at that moment is then stored as a whole
    /// or not at all; the process that opens the journal next reads which from the stored positions.
    pub async fn run(self, stop: CancellationToken, grace: Duration) {
        let shared = self.starting(stop, RunUntil::Stopped);
        let goodbye = (grace / 5).min(CLOSE_TIMEOUT);
        let over = CancellationToken::new();
        let work = Box::pin(async {
            let _over = over.clone().drop_guard();
            write_journal(&shared).await
        });
        let rounds = Box::pin(join(
            heartbeat::run_heartbeats(&shared, &over),
            maintenance_rounds::run_maintenance(&shared, &over),
        ));
        let out_of_time = async {
            shared.stop.cancelled().await;
            let waits = shared.journal.status().queue_events > 0;
            if waits {
                tokio::time::sleep(grace.saturating_sub(goodbye)).await;
            }
            match (waits, shared.problems.connected()) {
                // A round of maintenance may still end.
                (false, true)
                // The database may still return in time for the events.
                | (true, false) => tokio::time::sleep(goodbye).await,
                (true, true) | (false, false) => {}
            }
        };
        let working = async {
            tokio::select! {
                _ = join(work, rounds) => {}
                () = out_of_time => {}
            }
        };
        let end_of_grace = async {
            shared.stop.cancelled().await;
            Instant::now() + grace
        };
        let ((), end) = join(working, end_of_grace).await;
        let left = || end.saturating_duration_since(Instant::now()).min(goodbye);
        if shared.problems.connected() {
            let _ = tokio::time::timeout(left() / 2, heartbeat::send_heartbeat(&shared)).await;
        }
        shared.store.close(left()).await;
    }

    /// Drains the journal into the store until it is empty, recycles its segments, and marks its streams released.
    /// Tries again without limit and reports each problem in [`WriteLoop::problems`]. Once `stop` is cancelled, it
    /// begins nothing more, and batches that are being committed have `grace` to end. Nothing is removed before every
    /// position is stored and the stored positions, read once more, confirm it.
    ///
    /// The future may be dropped at any time, and the call repeated.
    ///
    /// # Errors
    /// [`Unfinished`] with the reason, if something may be left.
    pub async fn drain_to_empty(
        self,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), Unfinished> {
        let shared = self.starting(stop, RunUntil::Empty);
        let over = CancellationToken::new();
        let drained = async {
            let _over = over.clone().drop_guard();
            drain_and_release(&shared).await
        };
        let stopped = async {
            shared.stop.cancelled().await;
            // Without the database, no commit is in flight.
            if shared.problems.connected() {
                // The semaphore is fair: no other task gets a permit before this one has them all.
                let _ = tokio::time::timeout(grace, shared.all_write_permits()).await;
            }
        };
        tokio::select! {
            (done, ()) = join(drained, heartbeat::run_heartbeats(&shared, &over)) => done,
            () = stopped => Err(Unfinished::Stopped),
        }
    }

    fn starting(self, stop: CancellationToken, run_until: RunUntil) -> Self {
        Self {
            attempts: Attempts::open(self.journal.dir()),
            stop,
            run_until,
            ..self
        }
    }
}

async fn drain_and_release(shared: &WriteLoop) -> Result<(), Unfinished> {
    loop {
        write_journal(shared).await?;
        // A failover since the last commit may have lost stored positions.
        if heartbeat::send_until_accepted(shared)
            .await?
            .stored_positions_intact
        {
            break;
        }
    }
    let journal = shared.journal.clone();
    // It fails only if the runtime shuts down.
    let _ = tokio::task::spawn_blocking(move || journal.recycle_all_stored()).await;
    heartbeat::send_until_accepted(shared).await.map(drop)
}

/// Reconciles and writes batches in turn. Returns once the writer is to end and nothing is left to read.
///
/// # Errors
/// If the journal is to be emptied: [`Unfinished::Schema`], and [`Unfinished::Shared`] if the rest of the journal is
/// another collector's.
pub(super) async fn write_journal(shared: &WriteLoop) -> Result<(), Unfinished> {
    let _note = RemoveNoteOnDrop(&shared.attempts);
    let mut policy = FailurePolicy::default();
    loop {
        let began = Instant::now();
        let mut reader = match reconcile(shared, &mut policy).await {
            Ok(reader) => reader,
            Err(error @ StoreError::Schema(_)) if shared.run_until == RunUntil::Empty => {
                return Err(Unfinished::Schema(error));
            }
            Err(error) => {
                shared
                    .problems
                    .failed(ProblemTopic::Contact, &error, "", began);
                pause(shared, &mut policy, &error).await;
                continue;
            }
        };
        let written = write_batches(shared, &mut policy, &mut reader).await;
        shared.attempts.rest();
        match written {
            // Smaller batches are built at once.
            Err(Next::Shrink) => {}
            Err(Next::Reconcile) => {
                policy.failed_since = None;
                counter!(names::WRITE_FAILURES_TOTAL, "class" => FailureClass::Conflict.as_str())
                    .increment(1);
                tracing::info!(
                    "another collector stored some of these positions; reading the stored positions again"
                );
                pause(shared, &mut policy, &StoreError::AlreadyStored).await;
            }
            Err(Next::Retry(error)) => {
                let began = policy.failed_since.take().unwrap_or_else(Instant::now);
                let named = policy.name_of_lone_failure();
                let problems = &shared.problems;
                problems.failed(ProblemTopic::Write, &error, &named, began);
                pause(shared, &mut policy, &error).await;
            }
            // A requested reconciliation ended the batches early.
            Ok(()) if !reader.is_exhausted() => {}
            Ok(()) => match shared.run_until {
                RunUntil::Stopped if shared.stop.is_cancelled() => return Ok(()),
                RunUntil::Stopped => {}
                RunUntil::Empty if shared.journal.status().undrained_streams == 0 => return Ok(()),
                RunUntil::Empty => {
                    if let Some(text) = shared.copied_streams.contested_by_live_origin() {
                        return Err(Unfinished::Shared(text));
                    }
                }
            },
        }
    }
}

/// Commits the reader's batches until the reader is exhausted, a reconciliation is requested, or a batch fails. On
/// return, no commit is in flight.
///
/// # Errors
/// The reaction to the first failure.
async fn write_batches(
    shared: &WriteLoop,
    policy: &mut FailurePolicy,
    reader: &mut BatchReader<'_>,
) -> Result<(), Next> {
    let mut in_flight = FuturesUnordered::new();
    let mut outcome = Ok(());
    while outcome.is_ok()
        && shared
            .reconcile_requested
            .notified()
            .now_or_never()
            .is_none()
    {
        let idle = CancellationToken::new();
        let mut reading = pin!(reader.next(&idle, policy.batch_limit));
        let next = loop {
            if in_flight.is_empty() {
                idle.cancel();
            }
            tokio::select! {
                Some(ended) = in_flight.next() => {
                    outcome = on_ended(shared, policy, ended);
                    if outcome.is_err() {
                        break None;
                    }
                }
                next = &mut reading => break next,
            }
        };
        let Some(next) = next else { break };
        while outcome.is_ok()
            && in_flight.len() >= batches_at_once(shared, policy)
            && let Some(ended) = in_flight.next().await
        {
            outcome = on_ended(shared, policy, ended);
        }
        if outcome.is_err() {
            break;
        }
        let is_alone = !matches!(next, NextWrite::Batch(_));
        let commit = commit::write(shared, next);
        if is_alone {
            // Nothing else is read in the meantime: the next record may be as large, or the process may die.
            outcome = on_ended(shared, policy, commit.await);
        } else {
            in_flight.push(commit);
        }
    }
    while let Some(ended) = in_flight.next().await {
        outcome = outcome.and(on_ended(shared, policy, ended));
    }
    outcome
}

/// Returns the number of batches that may be in flight: one while something fails, so that the failing batch is known.
fn batches_at_once(shared: &WriteLoop, policy: &FailurePolicy) -> usize {
    if policy.is_failing() || shared.attempts.is_careful() {
        1
    } else {
        shared.store.batches_at_once()
    }
}

/// Marks a batch stored, or notes its failure.
///
/// # Errors
/// The reaction to the batch's failure.
fn on_ended(
    shared: &WriteLoop,
    policy: &mut FailurePolicy,
    ended: CommitResult,
) -> Result<(), Next> {
    let (batch, attempts) = (ended.summary, &shared.attempts);
    match ended.outcome {
        Ok(took) => {
            attempts.passed(batch.stream, &batch.positions);
            shared.show_attempts();
            on_committed(shared, policy, &batch);
            histogram!(names::WRITE_BATCH_SECONDS).record(took.as_secs_f64());
            Ok(())
        }
        Err(failure) => {
            attempts.failed(batch.stream, &batch.positions);
            if let Failure::Store(error) = &failure
                && error.is_out_of_memory()
                && batch.entries == 1
            {
                attempts.ran_out_of_memory(batch.stream, *batch.positions.start());
                shared.show_attempts();
            }
            Err(policy.on_failed(batch, ended.began, failure))
        }
    }
}

/// Marks a batch stored that the database has confirmed: first in the journal, then for clients that wait for it.
pub(super) fn on_committed(shared: &WriteLoop, policy: &mut FailurePolicy, batch: &BatchSummary) {
    works_again(shared, policy);
    let (first, last) = (*batch.positions.start(), *batch.positions.end());
    let waited = shared.journal.mark_stored(batch.stream, first, last);
    count(batch, waited);
    shared.progress.committed(batch);
    shared.problems.set_connected();
    policy.on_committed(batch);
}

/// Logs the end of an outage, once, with the number of events that wait at this moment.
pub(super) fn works_again(shared: &WriteLoop, policy: &mut FailurePolicy) {
    policy.failed_since = None;
    if let Some(outage) = shared.problems.works_again() {
        // The failures of the last round, named in `/health`, are tried again now.
        shared.maintenance_requested.notify_one();
        let events_waited = shared.journal.status().queue_events;
        tracing::info!(
            seconds = outage.as_secs(),
            events_waited,
            "writing to the database works again"
        );
    }
}

/// Waits before the next attempt. A stop interrupts the pause, since it leaves time for one more attempt.
async fn pause(shared: &WriteLoop, policy: &mut FailurePolicy, error: &StoreError) {
    let options = &shared.options;
    let pause = policy.backoff.pause(options.retry_min, options.retry_max);
    let pause = match error {
        StoreError::Schema(_) => options.retry_max,
        _ => pause,
    };
    let stop = &shared.stop;
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled(), if !stop.is_cancelled() => {}
    }
}

#[cfg(test)]
mod tests;
