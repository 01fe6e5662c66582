//! The state of the writer from one failure to the next, and its decisions.
//!
//! Nothing fails: batches have their usual size, and several are in flight. After a failure, one batch is in flight
//! until the one that failed has passed. If it fails [`PATIENCE`] times, or the database refuses a part of it without
//! naming that, the batch limit halves its size, down to one record. The limit doubles with each batch that is
//! committed, and ends with the last position of the batch that failed. After each failure the stored positions are
//! read again; until they show the outcome, the batch is in doubt.
//!
//! **Invariant:** no I/O and no clock; only the length of a pause is random. A batch in doubt counts as committed only
//! once all of its positions are stored, and then once.

use std::cmp::Reverse;
use std::time::Instant;

use crate::event::StreamId;
use crate::store::{FailureClass, StoreError, StoredPositions};
use crate::write::backoff::Backoff;
use crate::write::batch_summary::BatchSummary;
use crate::write::commit::Failure;

/// Failures of one batch after which smaller batches are tried.
const PATIENCE: u32 = 3;

/// The reaction to a failure. After each of them, the stored positions are read again.
#[derive(Debug)]
pub(super) enum Next {
    /// Report the error and pause.
    Retry(StoreError),
    /// Build smaller batches at once.
    Shrink,
    /// Pause: another collector stored some of the positions.
    Reconcile,
}

/// The batch that failed last, until it passes.
#[derive(Clone, Copy)]
struct RepeatedFailure {
    stream: StreamId,
    /// The first position of the batch.
    first: u64,
    times: u32,
}

/// Bounds the size of batches up to a position, since one of them keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchLimit {
    pub(super) stream: StreamId,
    pub(super) until: u64,
    pub(super) entries: usize,
}

/// The writer's state across failures.
#[derive(Default)]
pub(super) struct FailurePolicy {
    failing: Option<RepeatedFailure>,
    pub(super) batch_limit: Option<BatchLimit>,
    /// Batches whose COMMIT may have succeeded although its answer was lost.
    in_doubt: Vec<BatchSummary>,
    /// The time at which the first failed attempt began, until it is reported.
    pub(super) failed_since: Option<Instant>,
    pub(super) backoff: Backoff,
}

impl FailurePolicy {
    /// Returns whether only one batch may be in flight.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing.is_some() || self.batch_limit.is_some()
    }

    /// Handles a batch that the database has committed.
    pub(super) fn on_committed(&mut self, batch: &BatchSummary) {
        self.backoff.reset();
        // Two batches with a position in common are never both committed.
        self.in_doubt.retain(|other| !other.overlaps(batch));
        self.failing.take_if(|failing| {
            failing.stream == batch.stream && batch.positions.contains(&failing.first)
        });
        // The failure may have been the database's own. Therefore the limit does not last.
        self.batch_limit
            .take_if(|limit| limit.stream == batch.stream && *batch.positions.end() >= limit.until);
        if let Some(limit) = &mut self.batch_limit {
            limit.entries = limit.entries.saturating_mul(2);
        }
    }

    /// Handles a batch that was not committed, as far as the attempt that began at `began` shows.
    pub(super) fn on_failed(
        &mut self,
        batch: BatchSummary,
        began: Instant,
        failure: Failure,
    ) -> Next {
        self.failed_since.get_or_insert(began);
        let (stream, (first, last)) = (batch.stream, batch.positions.clone().into_inner());
        let same = |failing: &RepeatedFailure| (failing.stream, failing.first) == (stream, first);
        let times = 1 + self.failing.filter(same).map_or(0, |failing| failing.times);
        self.failing = Some(RepeatedFailure {
            stream,
            first,
            times,
        });
        let size_may_matter = match &failure {
            Failure::Smaller => true,
            Failure::Store(StoreError::Retry { class, .. }) => {
                times >= PATIENCE
                    && !matches!(class, FailureClass::Permission | FailureClass::Schema)
            }
            Failure::Store(_) => false,
        };
        if size_may_matter && batch.entries > 1 {
            let limit = self.batch_limit.filter(|limit| limit.stream == stream);
            self.batch_limit = Some(BatchLimit {
                stream,
                until: limit.map_or(last, |limit| limit.until.max(last)),
                entries: batch.entries / 2,
            });
        }
        let Failure::Store(error) = failure else {
            return Next::Shrink;
        };
        self.in_doubt
            .retain(|other| (other.stream, &other.positions) != (stream, &batch.positions));
        self.in_doubt.push(batch);
        match error {
            StoreError::AlreadyStored => Next::Reconcile,
            error => Next::Retry(error),
        }
    }

    /// Handles the stored positions of a stream that were read after a failure. Returns the batches in doubt that were
    /// committed after all. Each of them is to be handled by [`Self::on_committed`].
    pub(super) fn on_stored_positions(
        &mut self,
        stream: StreamId,
        stored: &StoredPositions,
    ) -> Vec<BatchSummary> {
        // Another collector may have stored it.
        self.failing
            .take_if(|failing| failing.stream == stream && stored.contains(failing.first));
        // The COMMIT of a batch without any stored position may still be in flight, however late.
        let mut settled: Vec<_> = self
            .in_doubt
            .extract_if(.., |batch| {
                batch.stream == stream
                    && stored.missing(&batch.positions) != [batch.positions.clone()]
            })
            .filter(|batch| stored.missing(&batch.positions).is_empty())
            .collect();
        // If two batches that overlap are both stored, the one that contains the other was committed.
        settled.sort_by_key(|batch| Reverse(batch.positions.end() - batch.positions.start()));
        let mut committed: Vec<BatchSummary> = Vec::new();
        for batch in settled {
            if !committed.iter().any(|other| other.overlaps(&batch)) {
                committed.push(batch);
            }
        }
        committed
    }

    /// Names the batch that keeps failing, in parentheses for a sentence, once it cannot be made smaller. Empty before.
    pub(super) fn name_of_lone_failure(&self) -> String {
        match self.failing {
            Some(RepeatedFailure {
                stream,
                first,
                times,
            }) if times > PATIENCE
                && self.batch_limit.is_none_or(|limit| {
                    limit.stream == stream && limit.entries == 1 && first <= limit.until
                }) =>
            {
                format!(" (the batch at record {first} of stream {stream}, {times} times)")
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId([7; 16]);

    fn batch(positions: std::ops::RangeInclusive<u64>) -> BatchSummary {
        let entries = usize::try_from(positions.end() - positions.start() + 1).expect("few");
        BatchSummary {
            stream: STREAM,
            positions,
            entries,
            rows: 0,
            records: entries as u64,
            dead: Vec::new(),
        }
    }

    fn retry(class: FailureClass) -> Failure {
        Failure::Store(StoreError::retry(class, String::new()))
    }

    fn entries(policy: &FailurePolicy) -> Option<usize> {
        policy.batch_limit.map(|limit| limit.entries)
    }

    #[test]
    fn a_failure_is_retried_shrunk_or_reconciled_and_only_its_size_is_bounded() {
        // The failures of the batch at 1..=8, the last reaction, and the size of the next batch.
        for (failures, reaction, limit) in [
            (vec![retry(FailureClass::Timeout)], "Retry", None),
            (
                vec![retry(FailureClass::Timeout), retry(FailureClass::Count)],
                "Retry",
                None,
            ),
            (
                vec![
                    retry(FailureClass::Timeout),
                    retry(FailureClass::Count),
                    retry(FailureClass::Other),
                ],
                "Retry",
                Some(4),
            ),
            (
                vec![
                    retry(FailureClass::Schema),
                    retry(FailureClass::Schema),
                    retry(FailureClass::Schema),
                ],
                "Retry",
                None,
            ),
            (
                vec![
                    retry(FailureClass::Count),
                    retry(FailureClass::Count),
                    retry(FailureClass::Permission),
                ],
                "Retry",
                None,
            ),
            (vec![Failure::Smaller], "Shrink", Some(4)),
            (
                vec![Failure::Store(StoreError::AlreadyStored)],
                "Reconcile",
                None,
            ),
            (
                vec![Failure::Store(StoreError::Schema(String::new()))],
                "Retry",
                None,
            ),
        ] {
            let case = format!("{failures:?}");
            let mut policy = FailurePolicy::default();
            let mut last = String::new();
            for failure in failures {
                last = format!(
                    "{:?}",
                    policy.on_failed(batch(1..=8), Instant::now(), failure)
                );
            }
            assert!(last.starts_with(reaction), "{case}: {last}");
            assert_eq!(entries(&policy), limit, "{case}");
            assert!(
                policy.is_failing() && policy.failed_since.is_some(),
                "{case}"
            );
            policy.on_committed(&batch(1..=8));
            assert!(!policy.is_failing(), "{case}");
        }
    }

    #[test]
    fn a_limit_halves_down_to_one_record_that_is_named_and_doubles_until_its_end_has_passed() {
        let mut policy = FailurePolicy::default();
        for (last, limit) in [(8, Some(4)), (4, Some(2)), (2, Some(1)), (1, Some(1))] {
            let _ = policy.on_failed(batch(1..=last), Instant::now(), Failure::Smaller);
            assert_eq!(entries(&policy), limit, "1 to {last}");
        }
        assert!(policy.name_of_lone_failure().contains("record 1 of"));
        for (positions, limit) in [
            (1..=1, Some(2)),
            (2..=3, Some(4)),
            (4..=7, Some(8)),
            (8..=15, None),
        ] {
            assert!(policy.is_failing());
            policy.on_committed(&batch(positions.clone()));
            assert_eq!(entries(&policy), limit, "{positions:?}");
        }
        assert!(!policy.is_failing() && policy.name_of_lone_failure().is_empty());
    }

    #[test]
    fn the_stored_positions_settle_a_doubt_once_and_only_as_a_whole() {
        // The batches in doubt, the stored positions, and the batches that were committed.
        for (doubts, stored, committed) in [
            (vec![1..=4], vec![], vec![]),
            (vec![1..=4], vec![1..=9], vec![1..=4]),
            // Another collector stored a part of it, so this COMMIT failed.
            (vec![1..=4], vec![1..=3], vec![]),
            (vec![2..=2, 1..=4], vec![1..=4], vec![1..=4]),
            (vec![1..=2, 3..=4], vec![1..=4], vec![1..=2, 3..=4]),
            (vec![1..=2, 1..=4], vec![1..=2], vec![1..=2]),
        ] {
            let mut policy = FailurePolicy::default();
            for positions in &doubts {
                let _ = policy.on_failed(
                    batch(positions.clone()),
                    Instant::now(),
                    retry(FailureClass::Timeout),
                );
            }
            let elsewhere = StreamId([0xee; 16]);
            let all = StoredPositions::new([1..=9]);
            assert!(policy.on_stored_positions(elsewhere, &all).is_empty());
            let stored = StoredPositions::new(stored);
            let found = policy.on_stored_positions(STREAM, &stored);
            let found: Vec<_> = found.into_iter().map(|batch| batch.positions).collect();
            assert_eq!(found, committed, "{doubts:?} {stored:?}");
            assert_eq!(
                policy.in_doubt.len(),
                usize::from(stored.ranges().is_empty())
            );
            assert!(
                policy.on_stored_positions(STREAM, &stored).is_empty(),
                "{doubts:?}"
            );
        }
    }
}
