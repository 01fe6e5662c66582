//! The streams of the journal: their segments, and the positions that the database has stored.
//!
//! **Invariant:** a segment is removed from its stream only when every position of it is stored and nobody reads it.
//! Files that an older version perhaps freed are the exception (see [`StreamTable::forget_perhaps_freed`]).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::StreamId;
use crate::journal::disk::Space;
use crate::journal::positions_file::FoundPositions;
use crate::journal::recovery::segment_files::HeaderSource;
use crate::journal::segment_index::{AppendedRecord, Segment, Totals};
use crate::journal::{Stream, StreamPart};
use crate::position_set::PositionSet;

/// A segment of a stream.
pub(super) struct StreamSegment {
    pub(super) segment: Arc<Segment>,
    /// Time since which every position of it is stored.
    stored_since: Option<Instant>,
    /// The totals of its stored records.
    stored: Totals,
    /// Receive time of its first record that is not stored, Unix nanoseconds.
    oldest_received_unix_nano: i64,
}

impl StreamSegment {
    fn new(segment: Arc<Segment>) -> Self {
        Self {
            stored_since: None,
            stored: Totals::default(),
            oldest_received_unix_nano: segment.contents().first_received_unix_nano,
            segment,
        }
    }

    fn append(&mut self, appended: &[AppendedRecord], end: u64) {
        if let Some(first) = appended.first()
            && self.is_stored()
        {
            self.oldest_received_unix_nano = first.received_unix_nano;
            self.stored_since = None;
        }
        self.segment.state().append(appended, end);
    }

    /// Returns whether no position of it waits to be stored.
    fn is_stored(&self) -> bool {
        self.stored_since.is_some() || self.segment.last() < self.segment.header.first_position
    }

    fn waiting(&self) -> Totals {
        if self.is_stored() {
            Totals::default()
        } else {
            self.segment.contents().totals().less(self.stored)
        }
    }
}

/// A segment of which only some positions are stored.
pub(super) struct PartlyStored {
    pub(super) segment: Arc<Segment>,
    pub(super) stored: Vec<RangeInclusive<u64>>,
    pub(super) first_missing: u64,
}

/// One stream of the directory.
///
/// A position of the live stream is first appended ([`StreamTable::appended`]), then synced (`last`), read (`read`),
/// stored (`stored`), and recycled (in no segment any more). So every position in `stored` is at most `last`, and
/// `last` is at most `appended`. Of an older stream, nothing more is appended, and positions that an earlier process
/// read and stored are in `stored` alone. `stored` may have gaps. It keeps the positions of recycled segments.
pub(super) struct StreamState {
    pub(super) id: StreamId,
    pub(super) live: bool,
    /// As [`Stream::from_copy`].
    pub(super) from_copy: bool,
    /// The number of the opening that began it.
    pub(super) epoch: u64,
    /// In the order of their positions.
    pub(super) segments: Vec<StreamSegment>,
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
    pub(super) fn new(id: StreamId, live: bool, opening: u64) -> Self {
        Self {
            id,
            live,
            from_copy: false,
            epoch: opening,
            segments: Vec::new(),
            stored: PositionSet::default(),
            read: PositionSet::default(),
            last: 0,
            keeps_note: false,
            missing: PositionSet::default(),
            reported: PositionSet::default(),
        }
    }

    /// Returns the positions that are missing and that the database has neither as rows nor as dead letters.
    pub(super) fn undecided(&self) -> PositionSet {
        let ranges = self.missing.ranges().iter();
        PositionSet::new(ranges.flat_map(|range| self.stored.missing(range)))
    }

    pub(super) fn hold(&mut self, segment: Arc<Segment>) {
        self.last = self.last.max(segment.last());
        self.segments.push(StreamSegment::new(segment));
    }

    /// Adds synced records of `segment`, the newest, whose group ends at offset `end`.
    pub(super) fn append(&mut self, segment: &Arc<Segment>, appended: &[AppendedRecord], end: u64) {
        let newest = self.segments.last_mut();
        match newest.filter(|held| Arc::ptr_eq(&held.segment, segment)) {
            Some(held) => held.append(appended, end),
            None => {
                segment.state().append(appended, end);
                self.segments.push(StreamSegment::new(segment.clone()));
            }
        }
        self.last = segment.last();
    }

    /// Returns the lowest position that a segment holds or that is missing, else the one after the last.
    pub(super) fn first(&self) -> u64 {
        let held = self
            .segments
            .first()
            .map(|held| held.segment.header.first_position);
        let absent = self.missing.ranges().first().map(|range| *range.start());
        held.into_iter()
            .chain(absent)
            .min()
            .unwrap_or(self.last + 1)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.segments.iter().all(StreamSegment::is_stored) && self.undecided().ranges().is_empty()
    }

    /// Returns the parts of `range` that segments hold, segment by segment.
    pub(super) fn held_segments(
        &self,
        range: &RangeInclusive<u64>,
    ) -> Vec<(Arc<Segment>, RangeInclusive<u64>)> {
        self.segments
            .iter()
            .filter_map(|held| {
                let first = held.segment.header.first_position.max(*range.start());
                let last = held.segment.last().min(*range.end());
                (first <= last).then(|| (held.segment.clone(), first..=last))
            })
            .collect()
    }

    /// Returns the positions that files hold.
    pub(super) fn found_positions(&self) -> FoundPositions {
        let mut found = FoundPositions::default();
        for (segment, range) in self.held_segments(&(1..=self.last)) {
            let ranges = match segment.identity {
                HeaderSource::FirstBlock | HeaderSource::Restored => &mut found.sound,
                HeaderSource::PerhapsFreed => &mut found.perhaps_freed,
            };
            ranges.insert(range);
        }
        found
    }

    /// Returns whether a file that an older version perhaps freed waits for the database to be asked.
    pub(super) fn may_have_freed(&self) -> bool {
        let mut held = self.segments.iter();
        held.any(|held| held.segment.identity == HeaderSource::PerhapsFreed && !held.is_stored())
    }

    /// Returns the stream's segments if an older version perhaps freed them all and no position is missing; else none.
    pub(super) fn only_freed(&self) -> Vec<Arc<Segment>> {
        let freed = |held: &StreamSegment| held.segment.identity == HeaderSource::PerhapsFreed;
        if !self.segments.iter().all(freed) || !self.missing.ranges().is_empty() {
            return Vec::new();
        }
        let held = self.segments.iter();
        held.map(|held| held.segment.clone()).collect()
    }

    /// Returns the positions that segments hold, segment by segment.
    pub(super) fn parts(&self) -> Vec<StreamPart> {
        let held = self.held_segments(&(0..=self.last)).into_iter();
        held.map(|(segment, positions)| StreamPart {
            positions,
            first_received_unix_nano: segment.contents().first_received_unix_nano,
        })
        .collect()
    }

    /// Records which segments with positions of `range` are now wholly stored. Returns the others, whose stored totals
    /// must be read again.
    pub(super) fn note_stored(
        &mut self,
        range: &RangeInclusive<u64>,
        now: Instant,
    ) -> Vec<PartlyStored> {
        let mut partial = Vec::new();
        for held in &mut self.segments {
            let (base, last) = (held.segment.header.first_position, held.segment.last());
            if last < base || last < *range.start() || base > *range.end() {
                continue;
            }
            let first_missing = self.stored.first_missing(base);
            if first_missing > last {
                held.stored_since = held.stored_since.or(Some(now));
                held.stored = held.segment.contents().totals();
            } else {
                held.stored_since = None;
                partial.push(PartlyStored {
                    segment: held.segment.clone(),
                    stored: self.stored.within(&(base..=last)),
                    first_missing,
                });
            }
        }
        partial
    }

    /// Sets the stored totals of a partly stored segment, as they were read from its file.
    pub(super) fn settle(&mut self, segment: &Arc<Segment>, stored: Totals, oldest: i64) {
        let mut segments = self.segments.iter_mut();
        if let Some(held) = segments.find(|held| Arc::ptr_eq(&held.segment, segment)) {
            held.stored = stored;
            held.oldest_received_unix_nano = oldest;
        }
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

    pub(super) fn listed(&self) -> Vec<Stream> {
        self.streams
            .iter()
            .map(|stream| Stream {
                id: stream.id,
                first: stream.first(),
                last: stream.last,
                live: stream.live,
                from_copy: stream.from_copy,
            })
            .collect()
    }

    fn segments(&self) -> impl Iterator<Item = &StreamSegment> {
        self.streams.iter().flat_map(|stream| &stream.segments)
    }

    /// Returns the totals of all records that are not stored.
    pub(super) fn waiting(&self) -> Totals {
        self.segments()
            .fold(Totals::default(), |sums, held| sums.and(held.waiting()))
    }

    /// Returns the number of records that are in no file and of which it is not known yet whether the database holds
    /// them.
    pub(super) fn undecided_records(&self) -> u64 {
        let streams = self.streams.iter();
        let undecided = streams.map(|stream| {
            let ranges = stream.undecided();
            let reported = &stream.reported;
            let ranges = ranges
                .ranges()
                .iter()
                .flat_map(|range| reported.missing(range));
            ranges
                .map(|range| range.end() - range.start() + 1)
                .sum::<u64>()
        });
        undecided.sum()
    }

    /// Returns the receive time of the oldest record that is not stored.
    pub(super) fn oldest_waiting(&self) -> Option<i64> {
        self.segments()
            .find(|held| !held.is_stored())
            .map(|held| held.oldest_received_unix_nano)
    }

    /// Returns the receive time of the oldest stored record that a segment still holds.
    pub(super) fn oldest_stored(&self) -> Option<i64> {
        self.segments()
            .find(|held| held.stored_since.is_some() || held.stored.bytes > 0)
            .map(|held| held.segment.contents().first_received_unix_nano)
    }

    /// Returns the segment that holds position `n` of a stream or the first one after it, or the missing positions
    /// before that.
    pub(super) fn next_at(&mut self, id: StreamId, n: u64) -> Option<NextSegment> {
        let stream = self.stream(id)?;
        let segment = stream.segments.iter().find(|held| held.segment.last() >= n);
        let missing = stream
            .missing
            .ranges()
            .iter()
            .find(|range| *range.end() >= n);
        match (segment, missing) {
            (Some(held), Some(range)) if held.segment.header.first_position < *range.start() => {
                Some(NextSegment::Segment(held.segment.clone()))
            }
            (_, Some(range)) => Some(NextSegment::Missing(n.max(*range.start())..=*range.end())),
            (Some(held), None) => Some(NextSegment::Segment(held.segment.clone())),
            (None, None) => None,
        }
    }

    /// Removes and returns the oldest sealed segment that has been wholly stored for at least `kept` and that nobody
    /// reads. A file that an older version perhaps freed is not kept for that time.
    pub(super) fn next_recyclable(&mut self, kept: Duration) -> Option<Arc<Segment>> {
        for stream in &mut self.streams {
            let free = stream.segments.iter().position(|held| {
                held.stored_since.is_some_and(|since| {
                    held.segment.identity == HeaderSource::PerhapsFreed || since.elapsed() >= kept
                }) && held.segment.state().sealed
                    && Arc::strong_count(&held.segment) == 1
            });
            if let Some(at) = free {
                return Some(stream.segments.remove(at).segment);
            }
        }
        None
    }

    /// Removes all segments of a stream of which nothing was stored; their files stay.
    pub(super) fn forget_perhaps_freed(&mut self, id: StreamId) {
        if let Some(stream) = self.stream(id) {
            let held = std::mem::take(&mut stream.segments);
            let waited = held.iter().map(|held| held.waiting().events).sum();
            self.backlog_at_start_events = self.backlog_at_start_events.saturating_sub(waited);
        }
        self.remove_empty_streams();
    }

    /// Drops old streams that hold nothing more. Called once the removal of their segments is durable.
    pub(super) fn remove_empty_streams(&mut self) {
        self.streams.retain(|stream| {
            stream.live
                || stream.keeps_note
                || !stream.segments.is_empty()
                || !stream.undecided().ranges().is_empty()
        });
    }
}
