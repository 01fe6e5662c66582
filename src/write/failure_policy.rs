//! Decides after each batch: marks it stored, or tries it again, smaller or after a pause.
//!
//! **Invariant:** a batch is marked stored in the journal only after the database has confirmed it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use metrics::{counter, histogram};

use crate::event::StreamId;
use crate::store::{FailureClass, StoreError, StoredPositions};
use crate::telemetry::metrics as names;
use crate::write::WriteLoop;
use crate::write::backoff::Backoff;
use crate::write::batch_reader::BatchLimit;
use crate::write::batch_summary::{BatchSummary, count};
use crate::write::commit::{CommitResult, Failure};
use crate::write::progress::ProblemTopic;

/// Failures of one batch after which smaller batches are tried.
const PATIENCE: u32 = 3;

/// A batch's stream, its first position, and the number of its failures.
type RepeatedFailure = (StreamId, u64, u32);

/// The writer's state across failures.
pub(super) struct FailurePolicy {
    pub(super) shared: WriteLoop,
    pub(super) backoff: Backoff,
    /// Positions that neither the database nor the journal holds, each reported once.
    pub(super) reported_gaps: HashMap<StreamId, StoredPositions>,
    /// The batch that failed last, until it passes.
    failing: Option<RepeatedFailure>,
    /// The time at which the first failed attempt began, until it is reported.
    failed_since: Option<Instant>,
    /// Batches whose COMMIT may have succeeded although its answer was lost.
    in_doubt: Vec<BatchSummary>,
}

impl FailurePolicy {
    pub(super) fn new(shared: WriteLoop) -> Self {
        Self {
            shared,
            backoff: Backoff::default(),
            reported_gaps: HashMap::new(),
            failing: None,
            failed_since: None,
            in_doubt: Vec::new(),
        }
    }

    /// Returns the number of batches that may be in flight: one while something fails, so that the failing batch is
    /// known.
    pub(super) fn batches_at_once(&self) -> usize {
        let attempts = &self.shared.attempts;
        if self.failing.is_some() || self.shared.batch_limit().is_some() || attempts.is_careful() {
            1
        } else {
            self.shared.store.batches_at_once()
        }
    }

    /// Handles the end of a batch: marks it stored, or notes its failure.
    ///
    /// # Errors
    /// The batch's own failure.
    pub(super) fn ended(&mut self, ended: CommitResult) -> Result<(), Failure> {
        let CommitResult {
            summary: tally,
            began,
            took,
        } = ended;
        match took {
            Ok(took) => {
                let attempts = &self.shared.attempts;
                attempts.passed(tally.stream, &tally.positions);
                self.shared.show_attempts();
                self.committed(&tally);
                histogram!(names::WRITE_BATCH_SECONDS).record(took.as_secs_f64());
                Ok(())
            }
            Err(failure) => {
                let attempts = &self.shared.attempts;
                attempts.failed(tally.stream, &tally.positions);
                if let Failure::Store(error) = &failure
                    && error.is_out_of_memory()
                    && tally.entries == 1
                {
                    attempts.ran_out_of_memory(tally.stream, *tally.positions.start());
                    self.shared.show_attempts();
                }
                self.failed(&tally, &failure);
                if matches!(failure, Failure::Store(_)) {
                    self.in_doubt.retain(|known| {
                        known.stream != tally.stream || known.positions != tally.positions
                    });
                    self.in_doubt.push(tally);
                }
                self.failed_since.get_or_insert(began);
                Err(failure)
            }
        }
    }

    fn committed(&mut self, tally: &BatchSummary) {
        let (first, last) = (*tally.positions.start(), *tally.positions.end());
        self.works_again();
        let waited = self.shared.journal.mark_stored(tally.stream, first, last);
        count(tally, waited);
        self.shared.progress.committed(tally.stream, first..=last);
        self.shared.progress.count(|written| {
            written.events += tally.rows;
            written.records += tally.records;
            written.dead_letters += tally.dead.len() as u64;
            written.dead_events += tally.dead_events();
        });
        // Two batches with a position in common are never both committed.
        self.in_doubt
            .retain(|other| !other.overlaps(tally.stream, &tally.positions));
        self.backoff.reset();
        let passed = |&mut (stream, n, _): &mut RepeatedFailure| {
            stream == tally.stream && tally.positions.contains(&n)
        };
        self.failing.take_if(passed);
        // The failure may have been the database's own. Therefore the batch limit doubles with each batch that is
        // committed.
        let cap = self
            .shared
            .batch_limit()
            .filter(|cap| cap.stream != tally.stream || last < cap.until)
            .map(|cap| BatchLimit {
                entries: cap.entries.saturating_mul(2),
                ..cap
            });
        self.shared.set_batch_limit(cap);
    }

    /// Logs the end of an outage, once, with the number of events that wait at this moment.
    pub(super) fn works_again(&mut self) {
        self.failed_since = None;
        if let Some(outage) = self.shared.progress.works_again() {
            // The failures of the last round, named in `/health`, are tried again now.
            self.shared.maintenance_requested.notify_one();
            let events_waited = self.shared.journal.status().queue_events;
            tracing::info!(
                seconds = outage.as_secs(),
                events_waited,
                "writing to the database works again"
            );
        }
    }

    /// Decides for each batch in doubt, once the stored positions were read after a failure, if it was committed after
    /// all.
    pub(super) fn settle_doubt(&mut self, stream: StreamId, account: &StoredPositions) {
        let mut doubtful: Vec<BatchSummary> = self
            .in_doubt
            .extract_if(.., |tally| tally.stream == stream)
            .collect();
        // If two batches that overlap are both stored, the one that contains the other was committed.
        doubtful.sort_by_key(|tally| Reverse(tally.length()));
        let mut settled = StoredPositions::default();
        for tally in doubtful {
            let missing = account.missing(&tally.positions);
            if missing.is_empty() {
                if settled.missing(&tally.positions) == [tally.positions.clone()] {
                    settled.insert(tally.positions.clone());
                    self.committed(&tally);
                }
            } else if missing == [tally.positions.clone()] {
                // Its COMMIT may still be in flight, however late.
                self.in_doubt.push(tally);
            }
        }
        // Another collector may have stored it.
        self.failing
            .take_if(|(failing, n, _)| *failing == stream && account.contains(*n));
    }

    /// Notes the failure of this batch. If it keeps failing, reduces the size of the next ones.
    fn failed(&mut self, tally: &BatchSummary, failure: &Failure) {
        let (stream, first) = (tally.stream, *tally.positions.start());
        let times = match self.failing {
            Some((s, n, times)) if s == stream && n == first => times + 1,
            _ => 1,
        };
        self.failing = Some((stream, first, times));
        let size_may_matter = match failure {
            Failure::Store(StoreError::Retry { class, .. }) => {
                !matches!(class, FailureClass::Permission | FailureClass::Schema)
            }
            _ => false,
        };
        let stubborn = times >= PATIENCE && size_may_matter;
        if !stubborn && !matches!(failure, Failure::Smaller) {
            return;
        }
        if tally.entries > 1 {
            let last = *tally.positions.end();
            let until = self
                .shared
                .batch_limit()
                .filter(|cap| cap.stream == stream)
                .map_or(last, |cap| cap.until.max(last));
            self.shared.set_batch_limit(Some(BatchLimit {
                stream,
                until,
                entries: tally.entries / 2,
            }));
        }
    }

    /// Reports a failure and waits before the next attempt.
    pub(super) async fn after(&mut self, failure: Failure) {
        match failure {
            Failure::Smaller => {}
            Failure::Store(error) => {
                let lone = self.failing.filter(|&(stream, first, times)| {
                    times > PATIENCE
                        && self.shared.batch_limit().is_none_or(|cap| {
                            cap.stream == stream && cap.entries == 1 && first <= cap.until
                        })
                });
                let named = lone.map_or_else(String::new, |(stream, n, times)| {
                    format!(" (the batch at record {n} of stream {stream}, {times} times)")
                });
                let began = self.failed_since.take().unwrap_or_else(Instant::now);
                self.pause(ProblemTopic::Write, &error, &named, began).await;
            }
        }
    }

    /// Counts a failed attempt that began at `began`, reports it as a problem, and waits before the next attempt.
    pub(super) async fn pause(
        &mut self,
        concern: ProblemTopic,
        error: &StoreError,
        named: &str,
        began: Instant,
    ) {
        let options = self.shared.options.clone();
        let class = error.class().as_str();
        counter!(names::WRITE_FAILURES_TOTAL, "class" => class).increment(1);
        match error {
            StoreError::Retry {
                class: FailureClass::Timeout,
                sqlstate: Some(_),
                ..
            } => self.shared.progress.timed_out(),
            // Nothing else is done in an unknown schema, either.
            StoreError::Retry {
                class: FailureClass::Connection | FailureClass::Timeout,
                ..
            }
            | StoreError::Schema(_) => self.shared.progress.set_connected(false),
            _ => {}
        }
        let mut pause = self.backoff.pause(options.retry_min, options.retry_max);
        match error {
            StoreError::AlreadyStored => {
                tracing::info!(
                    "another collector stored some of these positions; reading the account again"
                );
            }
            _ => {
                if matches!(error, StoreError::Schema(_)) {
                    pause = options.retry_max;
                }
                let text = format!(
                    "nothing is written{named}, and the journal keeps what is acknowledged: {error}"
                );
                tracing::warn!(class, "{text}");
                self.shared.progress.problem_since(concern, text, began);
            }
        }
        // A stop interrupts the pause, since it leaves time for one more attempt.
        let stop = &self.shared.stop;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests;
