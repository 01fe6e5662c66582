//! The streams of the journal: their segments, and the positions that the database has stored.
//!
//! **Invariant:** a segment is removed from its stream only when every position of it is stored and nobody reads it.
//! Files that an older version perhaps freed are the exception (see [`StreamTable::forget_perhaps_freed`]).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::event::StreamId;
use crate::journal::disk::Space;
use crate::journal::recovery::segment_files::HeaderSource;
use crate::journal::segment_index::{AppendedRecord, Segment, Totals};
use crate::position_set::PositionSet;

/// One stream of the directory.
///
/// A position of the live stream is first appended ([`StreamTable::appended`]), then synced (`last`), read (`read`),
/// stored (`stored`), and recycled (in no segment any more). So every position in `stored` is at most `last`, and
/// `last` is at most `appended`. Of an older stream, nothing more is appended, and positions that an earlier process
/// read and stored are in `stored` alone. `stored` may have gaps. It keeps the positions of recycled segments.
#[derive(Default)]
pub(super) struct StreamState {
    pub(super) id: StreamId,
    pub(super) live: bool,
    /// As [`Stream::from_copy`](crate::journal::Stream::from_copy).
    pub(super) from_copy: bool,
    /// The number of the opening that began it.
    pub(super) epoch: u64,
    /// In the order of their positions.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) stored: PositionSet,
    /// The positions that were read in this life of the process.
    pub(super) read: PositionSet,
    /// The highest synced position that this stream ever had; 0 if there is none.
    pub(super) last: u64,
    /// A segment that was recycled may still be on the disk, as its file could not be freed.
    pub(super) keeps_note: bool,
    /// Positions that should have been in a file at the opening and were in none: lost, unless the database holds them.
    pub(super) missing: PositionSet,
    /// Those of `missing` that were counted and logged.
    pub(super) reported: PositionSet,
}

/// The segment, or the missing positions, at or after a position.
pub(super) enum NextSegment {
    Segment(Arc<Segment>),
    Missing(RangeInclusive<u64>),
}

/// The streams, and the counts that go with them: the state that the journal's threads and callers share.
#[derive(Default)]
pub(super) struct StreamTable {
    /// Oldest first; the live one is the last.
    pub(super) streams: Vec<StreamState>,
    pub(super) backlog_at_start_events: u64,
    pub(super) damaged_records: u64,
    pub(super) cut_segments: u64,
    pub(super) missing_records: u64,
    pub(super) appended: u64,
    pub(super) volume: Space,
}

impl StreamState {
    /// Returns the positions that are missing and that the database has neither as rows nor as dead letters.
    pub(super) fn undecided(&self) -> PositionSet {
        self.missing.without(&self.stored)
    }

    pub(super) fn hold(&mut self, segment: Segment) {
        self.last = self.last.max(segment.last());
        self.segments.push(Arc::new(segment));
    }

    /// Adds synced records of `segment`, the newest, whose group ends at offset `end`.
    pub(super) fn append(&mut self, segment: &Arc<Segment>, appended: &[AppendedRecord], end: u64) {
        segment.append(appended, end);
        let newest = self.segments.last();
        if newest.is_none_or(|newest| !Arc::ptr_eq(newest, segment)) {
            self.segments.push(segment.clone());
        }
        self.last = segment.last();
    }

    /// Returns the lowest position that a segment holds or that is missing, else the one after the last.
    pub(super) fn first(&self) -> u64 {
        let held = self.segments.first();
        let held = held.map(|segment| segment.header.first_position);
        let missing = self.missing.ranges().first().map(|range| *range.start());
        let first = held.into_iter().chain(missing).min();
        first.unwrap_or(self.last + 1)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.segments.iter().all(|segment| segment.is_stored()) && self.undecided().is_empty()
    }

    /// Returns the parts of `ranges` that segments hold, segment by segment.
    pub(super) fn held_segments(
        &self,
        ranges: &[RangeInclusive<u64>],
    ) -> Vec<(Arc<Segment>, RangeInclusive<u64>)> {
        let parts = |range: &RangeInclusive<u64>| {
            let (from, to) = (*range.start(), *range.end());
            self.segments.iter().filter_map(move |segment| {
                let first = segment.header.first_position.max(from);
                let last = segment.last().min(to);
                (first <= last).then(|| (segment.clone(), first..=last))
            })
        };
        ranges.iter().flat_map(parts).collect()
    }

    /// Returns the positions that segments hold.
    pub(super) fn held(&self) -> PositionSet {
        let held = self.segments.iter();
        PositionSet::new(held.map(|segment| segment.header.first_position..=segment.last()))
    }

    /// Returns the stream's segments if an older version perhaps freed them all and no position is missing; else none.
    pub(super) fn only_freed(&self) -> Vec<Arc<Segment>> {
        let freed = |held: &Arc<Segment>| held.header_source == HeaderSource::PerhapsFreed;
        if self.segments.iter().all(freed) && self.missing.is_empty() {
            self.segments.clone()
        } else {
            Vec::new()
        }
    }

    /// Notes for each segment with positions of `range` whether it is now wholly stored, and so may be recycled. Called
    /// under the same lock as each change of `stored`. Returns the other segments and their stored positions: their
    /// stored records are to be counted.
    #[must_use]
    pub(super) fn note_stored(
        &self,
        range: &RangeInclusive<u64>,
    ) -> Vec<(Arc<Segment>, PositionSet)> {
        let mut partly = Vec::new();
        for (segment, _) in self.held_segments(std::slice::from_ref(range)) {
            let all = segment.header.first_position..=segment.last();
            let stored = PositionSet::new(self.stored.within(&all));
            if stored.ranges() == [all] {
                segment.note_stored();
            } else {
                segment.note_waiting();
                partly.push((segment, stored));
            }
        }
        partly
    }
}

impl StreamTable {
    pub(super) fn stream(&mut self, id: StreamId) -> Option<&mut StreamState> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    pub(super) fn live(&mut self) -> &mut StreamState {
        self.streams
            .last_mut()
            .expect("an open journal has a live stream, and it is the last")
    }

    /// Returns all segments, the newest last.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.streams.iter().flat_map(|stream| &stream.segments)
    }

    /// Returns the totals of all records that are not stored.
    pub(super) fn waiting(&self) -> Totals {
        self.segments().map(|segment| segment.waiting()).sum()
    }

    /// Returns the number of records that are in no file and of which it is not known yet whether the database holds
    /// them.
    pub(super) fn undecided_records(&self) -> u64 {
        let streams = self.streams.iter();
        streams
            .map(|stream| stream.undecided().without(&stream.reported).count())
            .sum()
    }

    /// Returns the receive time of the oldest record that is not stored.
    pub(super) fn oldest_waiting(&self) -> Option<i64> {
        self.segments()
            .find(|segment| !segment.is_stored())
            .map(|segment| segment.oldest_received_unix_nano())
    }

    /// Returns the receive time of the oldest stored record that a segment still holds.
    pub(super) fn oldest_stored(&self) -> Option<i64> {
        self.segments()
            .find(|segment| segment.is_partly_stored())
            .map(|segment| segment.contents().first_received_unix_nano)
    }

    /// Returns the segment that holds position `n` of a stream or the first one after it, or the missing positions
    /// before that.
    pub(super) fn next_at(&mut self, id: StreamId, n: u64) -> Option<NextSegment> {
        let stream = self.stream(id)?;
        let segment = stream.segments.iter().find(|segment| segment.last() >= n);
        let mut missing = stream.missing.ranges().iter();
        let missing = missing.find(|range| *range.end() >= n).filter(|range| {
            segment.is_none_or(|segment| *range.start() <= segment.header.first_position)
        });
        match missing {
            Some(range) => Some(NextSegment::Missing(n.max(*range.start())..=*range.end())),
            None => segment.cloned().map(NextSegment::Segment),
        }
    }

    /// Removes and returns the oldest recyclable segment that nobody reads (see [`Segment::is_recyclable`]).
    pub(super) fn take_recyclable(&mut self, kept: Duration) -> Option<Arc<Segment>> {
        for stream in &mut self.streams {
            let is_free = |segment: &Arc<Segment>| {
                segment.is_recyclable(kept) && Arc::strong_count(segment) == 1
            };
            if let Some(at) = stream.segments.iter().position(is_free) {
                return Some(stream.segments.remove(at));
            }
        }
        None
    }

    /// Removes all segments of a stream of which nothing was stored; their files stay.
    pub(super) fn forget_perhaps_freed(&mut self, id: StreamId) {
        if let Some(stream) = self.stream(id) {
            let left = std::mem::take(&mut stream.segments);
            let waited: Totals = left.iter().map(|segment| segment.waiting()).sum();
            self.backlog_at_start_events =
                self.backlog_at_start_events.saturating_sub(waited.events);
        }
        self.remove_empty_streams();
    }

    /// Drops old streams that hold nothing more. Called once the removal of their segments is durable.
    pub(super) fn remove_empty_streams(&mut self) {
        self.streams.retain(|stream| {
            stream.live
                || stream.keeps_note
                || !stream.segments.is_empty()
                || !stream.undecided().is_empty()
        });
    }
}
