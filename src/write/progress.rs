//! The positions that are stored, for `?wait=stored` and for the writer itself, and counts of what was written.
//!
//! **Invariant:** a position counts as stored only once it is among the stored positions in the database.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::event::{Position, StreamId};
use crate::store::StoredPositions;
use crate::write::batch_summary::BatchSummary;

/// The writer's progress. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress {
    shared: Arc<SharedProgress>,
}

#[derive(Default)]
struct SharedProgress {
    state: Mutex<ProgressState>,
    /// Notified whenever positions are stored.
    changed: Notify,
}

#[derive(Default)]
struct ProgressState {
    stored: HashMap<StreamId, StoredPositions>,
    /// Streams that neither the journal nor the database needs any longer, since all of their positions are stored.
    gone: HashSet<StreamId>,
    /// Positions that neither the database nor the journal holds, each reported once.
    gaps: HashMap<StreamId, StoredPositions>,
    written: Written,
}

/// Counts what this process has committed, and the gaps that it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub events: u64,
    pub records: u64,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Number of events in those dead letters.
    pub dead_events: u64,
    /// Number of events that were stored already, without a commit of this process.
    pub stored_before: u64,
    /// Number of ranges of positions that neither the database nor the journal holds.
    pub gaps: u64,
}

impl Progress {
    /// Waits until the batch that holds `position` has been committed.
    pub async fn stored(&self, position: Position) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Registers before it checks, so that no notification is lost in between.
            changed.as_mut().enable();
            if self
                .not_stored(position.stream, &(position.n..=position.n))
                .is_empty()
            {
                return;
            }
            changed.await;
        }
    }

    #[must_use]
    pub fn written(&self) -> Written {
        self.state().written
    }

    /// Returns the parts of `range` that are not stored.
    pub(super) fn not_stored(
        &self,
        stream: StreamId,
        range: &RangeInclusive<u64>,
    ) -> Vec<RangeInclusive<u64>> {
        let state = self.state();
        match state.stored.get(&stream) {
            Some(stored) => stored.missing(range),
            None if state.gone.contains(&stream) => Vec::new(),
            None => vec![range.clone()],
        }
    }

    /// Returns the streams that have stored positions.
    pub(super) fn streams(&self) -> Vec<StreamId> {
        self.state().stored.keys().copied().collect()
    }

    pub(super) fn stored_of(&self, stream: StreamId) -> StoredPositions {
        let state = self.state();
        state.stored.get(&stream).cloned().unwrap_or_default()
    }

    /// Replaces a stream's stored positions by those that were read from the database. Others are no longer stored.
    pub(super) fn set_stored_positions(&self, stream: StreamId, stored: StoredPositions) {
        self.state().stored.insert(stream, stored);
        self.shared.changed.notify_waiters();
    }

    /// Forgets a stream that neither the journal nor the database needs any longer. All of its positions count as
    /// stored.
    pub(super) fn forget(&self, stream: StreamId) {
        let mut state = self.state();
        state.stored.remove(&stream);
        state.gone.insert(stream);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Adds a batch that was committed.
    pub(super) fn committed(&self, batch: &BatchSummary) {
        let mut state = self.state();
        let stored = state.stored.entry(batch.stream).or_default();
        stored.insert(batch.positions.clone());
        state.written.events += batch.rows;
        state.written.records += batch.records;
        state.written.dead_letters += batch.dead.len() as u64;
        state.written.dead_events += batch.dead_events();
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Counts events that were stored without a commit of this process.
    pub(super) fn add_stored_before(&self, events: u64) {
        self.state().written.stored_before += events;
    }

    /// Adds positions that neither the database nor the journal holds. Returns those that were not reported yet.
    pub(super) fn add_gap(
        &self,
        stream: StreamId,
        lost: RangeInclusive<u64>,
    ) -> Vec<RangeInclusive<u64>> {
        let mut state = self.state();
        let reported = state.gaps.entry(stream).or_default();
        let new = reported.missing(&lost);
        reported.insert(lost);
        state.written.gaps += new.len() as u64;
        new
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId([1; 16]);

    fn batch(positions: RangeInclusive<u64>) -> BatchSummary {
        BatchSummary {
            stream: STREAM,
            positions,
            entries: 1,
            rows: 0,
            records: 0,
            dead: Vec::new(),
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_position_is_woken_by_its_batch_and_no_other() {
        let progress = Progress::default();
        let stored = progress.stored(Position {
            stream: STREAM,
            n: 5,
        });
        tokio::pin!(stored);
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.committed(&batch(1..=4));
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.committed(&batch(5..=9));
        assert!(futures_util::poll!(&mut stored).is_ready());
        progress
            .stored(Position {
                stream: STREAM,
                n: 9,
            })
            .await;
    }

    /// A client may retry a request from before the start when its stream was drained long ago.
    #[tokio::test]
    async fn a_position_of_a_stream_that_is_gone_is_stored() {
        let progress = Progress::default();
        let position = Position {
            stream: STREAM,
            n: 5,
        };
        let stored = progress.stored(position);
        tokio::pin!(stored);
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.forget(STREAM);
        assert!(futures_util::poll!(&mut stored).is_ready());
        assert!(progress.streams().is_empty());
    }

    #[test]
    fn a_gap_is_reported_once() {
        let progress = Progress::default();
        assert_eq!(progress.add_gap(STREAM, 3..=5), [3..=5]);
        assert_eq!(progress.add_gap(STREAM, 1..=9), [1..=2, 6..=9]);
        assert!(progress.add_gap(STREAM, 1..=9).is_empty());
        assert_eq!(progress.written().gaps, 3);
    }
}
