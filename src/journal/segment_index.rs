//! A segment of the directory in memory: its header, its totals, and an index of its records.
//!
//! **Invariant:** its contents are synced records only; its index takes a fixed share of its length.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::journal::disk::{Disk, DiskFile};
use crate::journal::format::record::RecordClass;
use crate::journal::format::scan::{ScannedRecord, SegmentScan};
use crate::journal::format::segment::{BLOCK_BYTES, SegmentContents, SegmentHeader};
use crate::journal::lock;
use crate::journal::recovery::segment_files::HeaderSource;
use crate::position_set::PositionSet;

/// Distance of two index entries in the file, in bytes, about.
const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

/// The number of events, and the bytes, of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Totals {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Subtracts, down to zero: counts from a header that was lost are in the totals of the segment only.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
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

/// A record that was appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendedRecord {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) events: u32,
    pub(super) received_unix_nano: i64,
}

/// One segment.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) identity: HeaderSource,
    state: Mutex<SegmentState>,
}

/// The state of a segment that changes.
pub(super) struct SegmentState {
    pub(super) contents: SegmentContents,
    pub(super) sealed: bool,
    /// Damaged positions that were counted and logged.
    pub(super) reported: PositionSet,
    /// A copy for inspection was made, or is not needed.
    pub(super) set_aside: bool,
    index: Vec<IndexEntry>,
    /// The entry that was found last: the next batch begins where the last one ended.
    last_lookup: IndexEntry,
}

impl Segment {
    pub(super) fn new(
        path: PathBuf,
        header: SegmentHeader,
        sealed: Option<SegmentContents>,
    ) -> Self {
        let first = IndexEntry {
            position: header.first_position,
            offset: BLOCK_BYTES,
            received_unix_nano: sealed.map_or(0, |contents| contents.first_received_unix_nano),
            ..IndexEntry::default()
        };
        Self {
            path,
            header,
            identity: HeaderSource::FirstBlock,
            state: Mutex::new(SegmentState {
                contents: sealed.unwrap_or(SegmentContents {
                    last_position: header.first_position - 1,
                    end: BLOCK_BYTES,
                    ..SegmentContents::default()
                }),
                sealed: sealed.is_some(),
                reported: PositionSet::default(),
                set_aside: false,
                index: vec![first],
                last_lookup: first,
            }),
        }
    }

    /// A segment as it was found at the opening.
    pub(super) fn found(
        path: PathBuf,
        header: SegmentHeader,
        identity: HeaderSource,
        contents: SegmentContents,
    ) -> Self {
        Self {
            identity,
            ..Self::new(path, header, Some(contents))
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SegmentState> {
        lock(&self.state)
    }

    pub(super) fn contents(&self) -> SegmentContents {
        self.state().contents
    }

    /// Returns the highest position; the first position less one if there is none.
    pub(super) fn last(&self) -> u64 {
        self.state().contents.last_position
    }

    /// Returns the totals of all records before position `n`, and the receive time of the record at `n`. If the disk
    /// cannot be read, returns those of the nearest index entry before.
    pub(super) fn totals_before(&self, disk: &dyn Disk, n: u64) -> IndexEntry {
        let contents = self.contents();
        if n > contents.last_position {
            return IndexEntry {
                position: n,
                offset: contents.end,
                totals: contents.totals(),
                received_unix_nano: 0,
            };
        }
        let near = self.state().index_entry(n);
        if near.position == n {
            return near;
        }
        let walked = disk.open(&self.path).and_then(|file| {
            let mut walk = IndexedScan::new(self, file, n, INDEX_INTERVAL_BYTES);
            while let Some((found, here)) = walk.next()? {
                if found.header.position >= n {
                    return Ok(Some(here));
                }
            }
            Ok(None)
        });
        match walked {
            Ok(Some(found)) => {
                self.state().last_lookup = found;
                found
            }
            Ok(None) => near,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a journal segment cannot be read");
                near
            }
        }
    }
}

impl SegmentState {
    /// Adds synced records, in order; their group ends at offset `end`.
    pub(super) fn append(&mut self, appended: &[AppendedRecord], end: u64) {
        for record in appended {
            let contents = &mut self.contents;
            if contents.records == 0 {
                contents.first_received_unix_nano = record.received_unix_nano;
            }
            contents.last_position += 1;
            let here = IndexEntry {
                position: contents.last_position,
                offset: record.offset,
                totals: contents.totals(),
                received_unix_nano: record.received_unix_nano,
            };
            contents.records += 1;
            contents.events += u64::from(record.events);
            contents.bytes += record.bytes;
            if here.position == self.index[0].position {
                self.index = vec![here];
                self.last_lookup = here;
            } else {
                self.pass(here);
            }
        }
        self.contents.end = end;
    }

    /// Adds a hole: positions that were never written, in a first group of their own.
    pub(super) fn begin_with_hole(&mut self, positions: u64, bytes: u64, end: u64, now: i64) {
        self.contents.last_position += positions;
        self.contents.bytes += bytes;
        self.contents.end = end;
        self.contents.first_received_unix_nano = now;
        self.index[0].received_unix_nano = now;
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
        let after = self
            .index
            .partition_point(|waypoint| waypoint.position <= n);
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
        window_bytes: u64,
    ) -> Self {
        let facts = segment.state();
        let start = facts.index_entry(n);
        let window = usize::try_from(window_bytes).unwrap_or(usize::MAX);
        Self {
            segment,
            scan: SegmentScan::new(
                file,
                segment.header.nonce,
                (start.position, start.offset),
                facts.contents.end,
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
            self.totals = self.totals.and(Totals {
                events: u64::from(found.header.accepted),
                bytes: found.header.total_bytes(),
            });
            return Ok(Some((found, here)));
        }
        Ok(None)
    }
}
