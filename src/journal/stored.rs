//! The positions that the database holds, as the writer reports them to the journal.
//!
//! **Invariant:** each record counts as waiting from its sync until it is marked stored. A segment may be recycled only
//! from the moment all of its positions are stored until one of them is not. A total that could not be read when a part
//! of a segment was marked is corrected when more of that segment is marked.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::telemetry::metrics::{JOURNAL_DAMAGED_RECORDS_TOTAL, STORED_GAPS_TOTAL};

use crate::event::StreamId;
use crate::journal::recovery::segment_files::HeaderSource;
use crate::journal::segment_index::{Segment, Totals};
use crate::journal::{Journal, Shared, lock};
use crate::position_set::PositionSet;

impl Journal {
    /// Reports to the journal that the database has committed these positions: their segments may be recycled. A
    /// repeated report changes nothing. If it marks a part of a segment, it may read up to 64 KiB of that segment, of
    /// the part that was read last.
    ///
    /// Returns the number of events that were waiting and no longer are. Events that an earlier process stored and
    /// nobody read in this one never waited.
    pub fn mark_stored(&self, stream: StreamId, first: u64, last: u64) -> u64 {
        let shared = &self.shared;
        let _marking = lock(&shared.stored_lock);
        let (waited, never_waited, partly_stored, decided) = {
            let mut state = lock(&shared.state);
            let Some(stream) = state.stream(stream) else {
                return 0;
            };
            let range = first..=last;
            let new = stream.stored.missing(&range);
            let unread: Vec<_> = if stream.live {
                Vec::new()
            } else {
                // Positions that nobody read in this life of the process were stored in an earlier one: they never were
                // its backlog.
                let unread = new.iter().flat_map(|part| stream.read.missing(part));
                unread.collect()
            };
            let was_decided = stream.undecided().is_empty();
            stream.stored.insert(range.clone());
            (
                stream.held_segments(&new),
                stream.held_segments(&unread),
                stream.note_stored(&range),
                !was_decided && stream.undecided().is_empty(),
            )
        };
        let waited = shared.totals(&waited).events;
        let never_waited = shared.totals(&never_waited).events;
        {
            let mut state = lock(&shared.state);
            let backlog = &mut state.backlog_at_start_events;
            *backlog = backlog.saturating_sub(never_waited);
        }
        shared.count_stored(&partly_stored);
        if decided {
            // Nothing may be left of the stream. Only the recycler thread drops it: callers do not wait for the lock of
            // `pool`, which is held while files are synced.
            shared.wake_recycler();
        }
        waited.saturating_sub(never_waited)
    }

    /// Reports to the journal that the database no longer has these positions: they are read again. Positions that no
    /// segment holds any more are a gap: counted and logged.
    pub fn mark_unstored(&self, stream: StreamId, first: u64, last: u64) {
        let shared = &self.shared;
        let _marking = lock(&shared.stored_lock);
        let (waits_again, gaps, partly_stored) = {
            let mut state = lock(&shared.state);
            let Some(stream) = state.stream(stream) else {
                return;
            };
            let range = first..=last;
            let waits_again = stream.held_segments(&stream.stored.within(&range));
            stream.stored.remove(&range);
            stream.read.remove(&range);
            let gaps = stream.held().missing(&(first..=last.min(stream.last)));
            (waits_again, gaps, stream.note_stored(&range))
        };
        for gap in &gaps {
            metrics::counter!(STORED_GAPS_TOTAL).increment(1);
            tracing::error!(
                stream = %stream, first = gap.start(), last = gap.end(),
                "the database lost records that the journal no longer holds: restore them from a backup of the database"
            );
        }
        let waits_again = shared.totals(&waits_again).events;
        lock(&shared.state).backlog_at_start_events += waits_again;
        shared.count_stored(&partly_stored);
    }

    /// Returns the positions of `stream` that should be in a file and are in none: lost, unless the database holds
    /// them.
    #[must_use]
    pub fn missing_positions(&self, stream: StreamId) -> PositionSet {
        let mut state = lock(&self.shared.state);
        let stream = state.stream(stream);
        stream.map_or_else(PositionSet::default, |stream| stream.missing.clone())
    }

    /// Reports to the journal that the database does not hold these of the [`Journal::missing_positions`]: each is
    /// counted and logged once.
    pub fn report_missing(&self, stream: StreamId, lost: &PositionSet) {
        let mut state = lock(&self.shared.state);
        let Some(state_of_stream) = state.stream(stream) else {
            return;
        };
        let new = lost.without(&state_of_stream.reported);
        state_of_stream.reported.extend(new.ranges());
        state.damaged_records += new.count();
        state.missing_records += new.count();
        metrics::counter!(JOURNAL_DAMAGED_RECORDS_TOTAL).increment(new.count());
        for range in new.ranges() {
            let (first, last) = (*range.start(), *range.end());
            tracing::error!(
                %stream, first, last, records = last - first + 1, dir = %self.dir().display(),
                "acknowledged records are in no file of the journal and not in the database: a file was removed, emptied or cut \
                 short. Stop the service and put the file back from a backup of the directory, if there is one; until then \
                 one dead letter stands for them"
            );
        }
    }

    /// Returns whether an older version seems to have freed files of `stream` that are not known to be stored.
    #[must_use]
    pub fn may_have_freed(&self, stream: StreamId) -> bool {
        let mut state = lock(&self.shared.state);
        let segments = state.stream(stream).map(|stream| &stream.segments);
        segments.into_iter().flatten().any(|segment| {
            segment.header_source == HeaderSource::PerhapsFreed && !segment.is_stored()
        })
    }

    /// Reports to the journal that the database has no row of `stream`, and that it keeps the rows of streams of which
    /// a record was received in `doubtless`, Unix nanoseconds. If the stream has only files that an older version
    /// perhaps freed, and their newest record was received outside `doubtless`, the files are left unchanged and not
    /// read. Returns whether that is so.
    pub async fn leave_freed(&self, stream: StreamId, doubtless: RangeInclusive<i64>) -> bool {
        let shared = self.shared.clone();
        let left = tokio::task::spawn_blocking(move || shared.leave_freed(stream, &doubtless));
        // Fails only if the async runtime ends.
        left.await.unwrap_or(false)
    }
}

impl Shared {
    /// Implements [`Journal::leave_freed`].
    fn leave_freed(&self, id: StreamId, doubtless: &RangeInclusive<i64>) -> bool {
        let _marking = lock(&self.stored_lock);
        let freed = {
            let mut state = lock(&self.state);
            let files = state.stream(id).map(|stream| stream.only_freed());
            files.unwrap_or_default()
        };
        let received = |segment: &Arc<Segment>| {
            let newest = segment.totals_before(&*self.disk, segment.last());
            newest.received_unix_nano
        };
        let newest = freed.iter().map(received).max();
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

    /// Counts the stored records of segments that are stored in part.
    fn count_stored(&self, partly_stored: &[(Arc<Segment>, PositionSet)]) {
        for (segment, stored) in partly_stored {
            segment.count_stored(&*self.disk, stored);
        }
    }

    /// Returns the totals of the records at these positions.
    fn totals(&self, held: &[(Arc<Segment>, RangeInclusive<u64>)]) -> Totals {
        let totals = |(segment, part): &(Arc<Segment>, _)| segment.totals_of(&*self.disk, part);
        held.iter().map(totals).sum()
    }
}
