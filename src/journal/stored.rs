//! The positions that the database holds, as the writer reports them to the journal.
//!
//! **Invariant:** each record counts as waiting from its sync until it is marked stored. A total that could not be read
//! when a part of a segment was marked is corrected when more of that segment is marked.

use std::ops::RangeInclusive;
use std::time::Instant;

use crate::telemetry::metrics::{JOURNAL_DAMAGED_RECORDS_TOTAL, STORED_GAPS_TOTAL};

use crate::event::StreamId;
use crate::journal::segment_index::{Segment, Totals};
use crate::journal::streams::StreamState;
use crate::journal::{Shared, lock};
use crate::position_set::PositionSet;

impl Shared {
    pub(super) fn mark_stored(&self, id: StreamId, range: &RangeInclusive<u64>) -> u64 {
        let _marking = lock(&self.stored_lock);
        let (new, unread, decided) = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return 0;
            };
            let new = stream.stored.missing(range);
            let undecided = |stream: &StreamState| !stream.undecided().ranges().is_empty();
            let was_undecided = undecided(stream);
            stream.stored.insert(range.clone());
            let decided = was_undecided && !undecided(stream);
            let unread: Vec<_> = if stream.live {
                Vec::new()
            } else {
                // Positions that nobody read in this life of the process were stored in an earlier one: they never were
                // its backlog.
                new.iter()
                    .flat_map(|part| stream.read.missing(part))
                    .collect()
            };
            (new, unread, decided)
        };
        let waited = self.sums_held(id, &new).events;
        let never_waited = self.sums_held(id, &unread).events;
        {
            let mut state = lock(&self.state);
            let backlog = &mut state.backlog_at_start_events;
            *backlog = backlog.saturating_sub(never_waited);
        }
        self.settle(id, range);
        if decided {
            // Nothing may be left of the stream. Only the recycler thread drops it: callers do not wait for the lock of
            // `pool`, which is held while files are synced.
            self.wake_recycler();
        }
        waited.saturating_sub(never_waited)
    }

    /// Returns the positions that should be in a file and are in none: lost, unless the database holds them.
    pub(super) fn absent(&self, id: StreamId) -> PositionSet {
        let mut state = lock(&self.state);
        let stream = state.stream(id);
        stream.map_or_else(PositionSet::default, |stream| stream.missing.clone())
    }

    /// Counts and logs positions that are neither in a file nor in the database, each once.
    pub(super) fn report_missing(&self, id: StreamId, lost: &PositionSet) {
        let mut state = lock(&self.state);
        let Some(stream) = state.stream(id) else {
            return;
        };
        let known = &stream.reported;
        let new: Vec<_> = lost
            .ranges()
            .iter()
            .flat_map(|range| known.missing(range))
            .collect();
        for range in &new {
            stream.reported.insert(range.clone());
        }
        for range in new {
            let (first, last) = range.into_inner();
            let records = last - first + 1;
            state.damaged_records += records;
            state.missing_records += records;
            metrics::counter!(JOURNAL_DAMAGED_RECORDS_TOTAL).increment(records);
            tracing::error!(
                stream = %id, first, last, records, dir = %self.settings.dir.display(),
                "acknowledged records are in no file of the journal and not in the database: a file was removed, emptied or cut \
                 short. Stop the service and put the file back from a backup of the directory, if there is one; until then \
                 one dead letter stands for them"
            );
        }
    }

    /// Removes the segments of a stream that an older version perhaps freed, and leaves their files unchanged. Does so
    /// only if the stream has nothing else, and the newest record was received outside `doubtless`. Returns whether it
    /// did.
    pub(super) fn leave_freed(&self, id: StreamId, doubtless: &RangeInclusive<i64>) -> bool {
        let _marking = lock(&self.stored_lock);
        let freed = {
            let mut state = lock(&self.state);
            let files = state.stream(id).map(|stream| stream.only_freed());
            files.unwrap_or_default()
        };
        let received = |segment: &Segment| {
            segment
                .totals_before(&*self.disk, segment.last())
                .received_unix_nano
        };
        let newest = freed.iter().map(|segment| received(segment)).max();
        if newest.is_none_or(|newest| doubtless.contains(&newest)) {
            return false;
        }
        {
            // While a file is freed, `pool` is locked.
            let _pool = lock(&self.pool);
            lock(&self.state).forget_perhaps_freed(id);
        }
        self.note_positions();
        for segment in freed {
            tracing::warn!(
                stream = %id, path = %segment.path.display(), first = segment.header.first_position, last = segment.last(),
                "the first block of this journal segment is zeros, and the database does not know its stream: an older version \
                 freed it more than a month ago, or it is damaged and was never stored. Its records are not written, and it is \
                 left alone; remove it once all events are in the database"
            );
        }
        true
    }

    pub(super) fn mark_unstored(&self, id: StreamId, range: &RangeInclusive<u64>) {
        let _marking = lock(&self.stored_lock);
        let (back, gaps) = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return;
            };
            let mut held = PositionSet::default();
            for (_, part) in stream.held_segments(range) {
                held.insert(part);
            }
            let gaps = held.missing(&(*range.start()..=*range.end().min(&stream.last)));
            let back = stream.stored.within(range);
            stream.stored.remove(range);
            stream.read.remove(range);
            (back, gaps)
        };
        for gap in &gaps {
            metrics::counter!(STORED_GAPS_TOTAL).increment(1);
            tracing::error!(
                stream = %id, first = gap.start(), last = gap.end(),
                "the database lost records that the journal no longer holds: restore them from a backup of the database"
            );
        }
        let waits_again = self.sums_held(id, &back).events;
        lock(&self.state).backlog_at_start_events += waits_again;
        self.settle(id, range);
    }

    /// Updates the segments of `range` after a change of the stream's stored positions.
    fn settle(&self, id: StreamId, range: &RangeInclusive<u64>) {
        let partial = lock(&self.state)
            .stream(id)
            .map(|stream| stream.note_stored(range, Instant::now()))
            .unwrap_or_default();
        for part in partial {
            let stored = part.stored.iter().fold(Totals::default(), |sums, range| {
                sums.and(self.sums(&part.segment, range))
            });
            let oldest = part.segment.totals_before(&*self.disk, part.first_missing);
            if let Some(stream) = lock(&self.state).stream(id) {
                stream.settle(&part.segment, stored, oldest.received_unix_nano);
            }
        }
    }

    /// Returns the totals of those records of `parts` that segments hold.
    fn sums_held(&self, id: StreamId, parts: &[RangeInclusive<u64>]) -> Totals {
        let held: Vec<_> = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return Totals::default();
            };
            parts
                .iter()
                .flat_map(|part| stream.held_segments(part))
                .collect()
        };
        held.iter()
            .fold(Totals::default(), |sums, (segment, part)| {
                sums.and(self.sums(segment, part))
            })
    }

    fn sums(&self, segment: &Segment, range: &RangeInclusive<u64>) -> Totals {
        let before = segment.totals_before(&*self.disk, *range.start());
        let after = segment.totals_before(&*self.disk, range.end().saturating_add(1));
        after.totals.less(before.totals)
    }
}
