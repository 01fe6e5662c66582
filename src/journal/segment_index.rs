//! A segment of the directory in memory: its header, its totals, an index of its records, and how much of it is stored.
//!
//! **Invariant:** its contents are synced records only; its index takes a fixed share of its length.

use std::io;
use std::iter::Sum;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::format::record::{RecordClass, RecordHeader};
use crate::journal::format::scan::{ScannedRecord, SegmentScan};
use crate::journal::format::segment::{BLOCK_BYTES, SegmentContents, SegmentHeader};
use crate::journal::lock;
use crate::journal::recovery::segment_files::HeaderSource;
use crate::position_set::PositionSet;

/// Distance of two index entries in the file, in bytes, about.
const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

/// Bytes that are read at a time to find a record between two index entries.
const LOOKUP_BYTES: usize = 64 << 10;

/// The number of events, and the bytes, of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Totals {
    /// Subtracts, down to zero: counts from a header that was lost are in the totals of the segment only.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), |sum, next| Self {
            events: sum.events + next.events,
            bytes: sum.bytes + next.bytes,
        })
    }
}

impl SegmentContents {
    pub(super) fn totals(&self) -> Totals {
        Totals {
            events: self.events,
            bytes: self.bytes,
        }
    }
}

/// An index entry: the offset of a record, and the totals of all records before it in its segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IndexEntry {
    pub(super) position: u64,
    pub(super) offset: u64,
    pub(super) totals: Totals,
    /// Receive time of the record, Unix nanoseconds.
    pub(super) received_unix_nano: i64,
}

/// A record that was appended, or a hole.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendedRecord {
    last_position: u64,
    offset: u64,
    bytes: u64,
    events: u32,
    is_request: bool,
    received_unix_nano: i64,
}

impl AppendedRecord {
    pub(super) fn new(header: &RecordHeader, offset: u64) -> Self {
        Self {
            last_position: header.last_position,
            offset,
            bytes: header.total_bytes(),
            events: header.accepted,
            is_request: header.class == RecordClass::Data,
            received_unix_nano: header.source.received_unix_nano,
        }
    }
}

/// The number of damaged positions of a segment that were reported before, and of those that are new.
pub(super) struct DamageCount {
    pub(super) before: u64,
    pub(super) new: u64,
}

/// One segment. Its readers hold it too, so that it is not recycled.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) header_source: HeaderSource,
    state: Mutex<SegmentState>,
}

/// The state of a segment that changes.
struct SegmentState {
    contents: SegmentContents,
    /// Nothing more is appended to it.
    sealed: bool,
    /// Time since which every position of it is stored.
    stored_since: Option<Instant>,
    /// The totals of its stored records.
    stored: Totals,
    /// Receive time of its first record that is not stored, Unix nanoseconds.
    oldest_received_unix_nano: i64,
    /// Damaged positions that were counted and logged.
    reported_damage: PositionSet,
    index: Vec<IndexEntry>,
    /// The entry that was found last: the next batch begins where the last one ended.
    last_lookup: IndexEntry,
}

impl Segment {
    /// Makes a segment that holds nothing yet, or one with a footer that states `sealed`.
    pub(super) fn new(
        path: PathBuf,
        header: SegmentHeader,
        header_source: HeaderSource,
        sealed: Option<SegmentContents>,
    ) -> Self {
        let contents = sealed.unwrap_or(SegmentContents {
            last_position: header.first_position - 1,
            end: BLOCK_BYTES,
            ..SegmentContents::default()
        });
        let first = IndexEntry {
            position: header.first_position,
            offset: BLOCK_BYTES,
            totals: Totals::default(),
            received_unix_nano: contents.first_received_unix_nano,
        };
        Self {
            path,
            header,
            header_source,
            state: Mutex::new(SegmentState {
                contents,
                sealed: sealed.is_some(),
                stored_since: None,
                stored: Totals::default(),
                oldest_received_unix_nano: contents.first_received_unix_nano,
                reported_damage: PositionSet::default(),
                index: vec![first],
                last_lookup: first,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, SegmentState> {
        lock(&self.state)
    }

    pub(super) fn contents(&self) -> SegmentContents {
        self.state().contents
    }

    /// Returns the highest position; the first position less one if there is none.
    pub(super) fn last(&self) -> u64 {
        self.contents().last_position
    }

    /// Returns whether no position in it is synced: the next segment begins with the same position.
    pub(super) fn is_empty(&self) -> bool {
        self.last() < self.header.first_position
    }

    /// Adds synced records, in order; their group ends at offset `end`.
    pub(super) fn append(&self, appended: &[AppendedRecord], end: u64) {
        let state = &mut *self.state();
        if let Some(first) = appended.first()
            && state.is_stored()
        {
            state.oldest_received_unix_nano = first.received_unix_nano;
            state.stored_since = None;
        }
        for record in appended {
            state.append(record);
        }
        state.contents.end = end;
    }

    /// Notes that nothing more is appended to it.
    pub(super) fn seal(&self) {
        self.state().sealed = true;
    }

    /// Returns whether no position of it waits to be stored.
    pub(super) fn is_stored(&self) -> bool {
        self.state().is_stored()
    }

    /// Returns whether some of its records are stored.
    pub(super) fn is_partly_stored(&self) -> bool {
        let state = self.state();
        state.stored_since.is_some() || state.stored.bytes > 0
    }

    /// Returns whether it was sealed, and has been wholly stored for at least `kept`. A file that an older version
    /// perhaps freed is not kept for that time.
    pub(super) fn is_recyclable(&self, kept: Duration) -> bool {
        let state = self.state();
        let kept = match self.header_source {
            HeaderSource::PerhapsFreed => Duration::ZERO,
            HeaderSource::FirstBlock | HeaderSource::Restored => kept,
        };
        state.sealed && state.stored_since.is_some_and(|at| at.elapsed() >= kept)
    }

    /// Returns the totals of its records that are not stored.
    pub(super) fn waiting(&self) -> Totals {
        let state = self.state();
        if state.is_stored() {
            Totals::default()
        } else {
            state.contents.totals().less(state.stored)
        }
    }

    /// Returns the receive time of its first record that is not stored, Unix nanoseconds.
    pub(super) fn oldest_received_unix_nano(&self) -> i64 {
        self.state().oldest_received_unix_nano
    }

    /// Notes that all of its positions are stored.
    pub(super) fn note_stored(&self) {
        let mut state = self.state();
        state.stored_since.get_or_insert_with(Instant::now);
        state.stored = state.contents.totals();
    }

    /// Notes that some of its positions are not stored: it is not recycled.
    pub(super) fn note_waiting(&self) {
        self.state().stored_since = None;
    }

    /// Counts the records at these stored positions, and notes the first one that is not stored.
    pub(super) fn count_stored(&self, disk: &dyn Disk, stored: &PositionSet) {
        let ranges = stored.ranges().iter();
        let totals = ranges.map(|range| self.totals_of(disk, range)).sum();
        let first_waiting = stored.first_missing(self.header.first_position);
        let oldest = self.totals_before(disk, first_waiting).received_unix_nano;
        let mut state = self.state();
        state.stored = totals;
        state.oldest_received_unix_nano = oldest;
    }

    /// Notes damaged positions.
    pub(super) fn note_damage(&self, damaged: &[RangeInclusive<u64>]) -> DamageCount {
        let reported = &mut self.state().reported_damage;
        let before = reported.count();
        reported.extend(damaged);
        DamageCount {
            before,
            new: reported.count() - before,
        }
    }

    /// Returns the totals of the records at these positions.
    pub(super) fn totals_of(&self, disk: &dyn Disk, range: &RangeInclusive<u64>) -> Totals {
        let before = self.totals_before(disk, *range.start());
        let after = self.totals_before(disk, range.end().saturating_add(1));
        after.totals.less(before.totals)
    }

    /// Returns the totals of all records before position `n`, and the receive time of the record at `n`. If the disk
    /// cannot be read, returns those of the nearest index entry before.
    pub(super) fn totals_before(&self, disk: &dyn Disk, n: u64) -> IndexEntry {
        let near = {
            let state = self.state();
            let contents = &state.contents;
            if n > contents.last_position {
                return IndexEntry {
                    position: n,
                    offset: contents.end,
                    totals: contents.totals(),
                    received_unix_nano: 0,
                };
            }
            state.index_entry(n)
        };
        if near.position == n {
            return near;
        }
        let walked = disk.open(&self.path).and_then(|file| {
            let window = AlignedBuffer::zeroed(LOOKUP_BYTES);
            let mut walk = IndexedScan::new(self, file, n, window);
            while let Some((found, here)) = walk.next()? {
                if found.header.position >= n {
                    return Ok(here);
                }
            }
            Ok(near)
        });
        match walked {
            Ok(found) => {
                self.state().last_lookup = found;
                found
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a journal segment cannot be read");
                near
            }
        }
    }
}

impl SegmentState {
    fn is_stored(&self) -> bool {
        self.stored_since.is_some() || self.contents.last_position < self.index[0].position
    }

    fn append(&mut self, record: &AppendedRecord) {
        let contents = &mut self.contents;
        if contents.records == 0 {
            contents.first_received_unix_nano = record.received_unix_nano;
        }
        let here = IndexEntry {
            position: contents.last_position + 1,
            offset: record.offset,
            totals: contents.totals(),
            received_unix_nano: record.received_unix_nano,
        };
        contents.last_position = record.last_position;
        contents.records += u64::from(record.is_request);
        contents.events += u64::from(record.events);
        contents.bytes += record.bytes;
        if here.position == self.index[0].position {
            self.index[0] = here;
            self.last_lookup = here;
        } else {
            self.pass(here);
        }
    }

    /// Adds an index entry if it is far enough from the last one.
    fn pass(&mut self, here: IndexEntry) {
        let last = self.index[self.index.len() - 1];
        if here.position > last.position && here.offset >= last.offset + INDEX_INTERVAL_BYTES {
            self.index.push(here);
        }
    }

    /// Returns the nearest index entry at or before `n`.
    fn index_entry(&self, n: u64) -> IndexEntry {
        let after = self.index.partition_point(|entry| entry.position <= n);
        let near = self.index[after.saturating_sub(1)];
        if near.position < self.last_lookup.position && self.last_lookup.position <= n {
            self.last_lookup
        } else {
            near
        }
    }
}

/// A scan of a segment's synced records that sums their totals and adds index entries.
pub(super) struct IndexedScan<'a> {
    segment: &'a Segment,
    pub(super) scan: SegmentScan,
    /// Offset at which the scan began.
    pub(super) start: u64,
    totals: Totals,
}

impl<'a> IndexedScan<'a> {
    /// Starts at the index entry before position `n`.
    pub(super) fn new(
        segment: &'a Segment,
        file: Arc<dyn DiskFile>,
        n: u64,
        window: AlignedBuffer,
    ) -> Self {
        let state = segment.state();
        let start = state.index_entry(n);
        Self {
            segment,
            scan: SegmentScan::new(
                file,
                segment.header.nonce,
                (start.position, start.offset),
                state.contents.end,
                window,
            ),
            start: start.offset,
            totals: start.totals,
        }
    }

    /// Returns the next record that has a position, with the totals of all records before it.
    pub(super) fn next(&mut self) -> io::Result<Option<(ScannedRecord, IndexEntry)>> {
        while let Some(found) = self.scan.next()? {
            if found.header.class == RecordClass::SyncMarker {
                continue;
            }
            let here = IndexEntry {
                position: found.header.position,
                offset: found.offset,
                totals: self.totals,
                received_unix_nano: found.header.source.received_unix_nano,
            };
            self.segment.state().pass(here);
            self.totals.events += u64::from(found.header.accepted);
            self.totals.bytes += found.header.total_bytes();
            return Ok(Some((found, here)));
        }
        Ok(None)
    }
}
