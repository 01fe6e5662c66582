//! Reads a segment without footer and decides where it ends: the recovery step for each position, and the end of the
//! last undamaged record, behind which a torn tail is left out.
//!
//! **Invariant:** every record that verifies is kept, once, unless the append thread made a hole of its position. Each
//! position up to the last is accounted for as a record, a hole or damage.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::Disk;
use crate::journal::format::record::{self, RecordClass};
use crate::journal::format::scan::SegmentScan;
use crate::journal::format::segment::{BLOCK_BYTES, SegmentHeader};
use crate::journal::read::record_reader::LOST_BYTES;
use crate::journal::recovery::segment_files::SegmentFile;
use crate::journal::shared::now_unix_nano;
use crate::journal::space::own_size;

const WINDOW_BYTES: usize = 256 << 10;

/// Maximum number of bytes behind the last record that are kept as a damaged record, if one should follow it.
const DAMAGED_END_BYTES: u64 = 64 << 10;

/// The location of a record: the index of its file and its offset there.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct RecordLocation {
    pub(in crate::journal) file: usize,
    pub(in crate::journal) offset: u64,
    end: u64,
    last: u64,
    class: RecordClass,
    verifies: bool,
    received_unix_nano: i64,
}

impl RecordLocation {
    /// Returns the rank by which one of two records of the same position is chosen: the higher one is kept.
    fn rank(&self) -> u8 {
        match (self.class, self.verifies) {
            // The append thread synced it in place of a group that found the volume full: readers may have seen it.
            (RecordClass::Hole, true) => 4,
            (RecordClass::Data, true) => 3,
            (RecordClass::Damaged, true) => 2,
            (RecordClass::Data, false) | (RecordClass::Missing, _) => 1,
            (RecordClass::Hole | RecordClass::SyncMarker | RecordClass::Damaged, _) => 0,
        }
    }
}

/// The records of all files that have the same first position.
pub(in crate::journal) struct UnsealedSegment {
    first_position: u64,
    synced: u64,
    /// The highest position that the files have room for.
    max_position: u64,
    locations: BTreeMap<u64, RecordLocation>,
}

/// The recovery step for one position or a run of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) enum RecoveryStep {
    Copy(RecordLocation),
    /// The header is whole, the payload is not.
    Damaged(RecordLocation),
    /// The header is lost; `from` and `to` enclose the bytes where the record was.
    Lost {
        n: u64,
        file: usize,
        from: u64,
        to: u64,
    },
    Hole {
        first: u64,
        last: u64,
    },
    /// Neither headers nor bytes of these positions are left.
    Missing {
        first: u64,
        last: u64,
    },
}

/// The contents of the copy.
pub(in crate::journal) struct RewritePlan {
    pub(in crate::journal) first_position: u64,
    pub(in crate::journal) last: u64,
    pub(in crate::journal) synced: u64,
    /// Receive time of the first record that has one, else now.
    pub(in crate::journal) received_unix_nano: i64,
    pub(in crate::journal) steps: Vec<RecoveryStep>,
    pub(in crate::journal) damaged: u64,
    pub(in crate::journal) holes: u64,
}

impl UnsealedSegment {
    /// Finds every record of the files.
    pub(in crate::journal) fn scan(
        disk: &dyn Disk,
        files: &[(SegmentHeader, SegmentFile)],
    ) -> Result<Self, (PathBuf, io::Error)> {
        let mut unsealed = Self {
            first_position: files.first().map_or(1, |(header, _)| header.first_position),
            synced: 0,
            max_position: 0,
            locations: BTreeMap::new(),
        };
        for (index, (header, file)) in files.iter().enumerate() {
            scan_of(disk, header, file, BLOCK_BYTES)
                .and_then(|scan| unsealed.scan_file(index, header, scan))
                .map_err(|error| (file.path.clone(), error))?;
        }
        Ok(unsealed)
    }

    fn scan_file(
        &mut self,
        index: usize,
        header: &SegmentHeader,
        mut scan: SegmentScan,
    ) -> io::Result<()> {
        let (mut last, mut end) = (self.first_position - 1, BLOCK_BYTES);
        while let Some(found) = scan.next()? {
            let record = &found.header;
            self.synced = self.synced.max(record.synced_position);
            if record.class == RecordClass::SyncMarker || record.position < self.first_position {
                continue;
            }
            let location = RecordLocation {
                file: index,
                offset: found.offset,
                end: found.end(),
                last: record.last_position,
                class: record.class,
                received_unix_nano: record.source.received_unix_nano,
                verifies: scan.verifies(&found)?,
            };
            (last, end) = (record.last_position, found.end());
            let known = self.locations.entry(record.position).or_insert(location);
            if known.rank() < location.rank() {
                *known = location;
            }
        }
        let left = header.bytes.saturating_sub(BLOCK_BYTES + end) / record::total_bytes(0);
        self.max_position = self.max_position.max(last.saturating_add(left));
        Ok(())
    }

    /// Returns the highest synced position that the records state.
    pub(in crate::journal) fn synced(&self) -> u64 {
        self.synced
    }

    /// Returns the last position that is kept. The bytes behind it are the torn tail: they were never acknowledged.
    fn end_before_torn_tail(&self, synced: u64, until: Option<u64>) -> u64 {
        match until {
            // Later segments may have been recycled: the next segment that is held need not be the one that followed.
            Some(until) => until.min(self.max_position),
            None => {
                let verified = self.locations.values().filter(|location| location.verifies);
                let last = verified.map(|location| location.last).max();
                last.unwrap_or(0).max(synced).max(self.first_position - 1)
            }
        }
    }

    /// Decides on each position. `synced` is the highest synced position of the stream, `until` the position before its
    /// next segment.
    pub(in crate::journal) fn plan(&self, synced: u64, until: Option<u64>) -> RewritePlan {
        let locations = self.locations.values();
        let last = self.end_before_torn_tail(synced, until);
        let mut received = locations.map(|location| location.received_unix_nano);
        let mut plan = RewritePlan {
            first_position: self.first_position,
            last,
            synced,
            received_unix_nano: received.find(|at| *at != 0).unwrap_or_else(now_unix_nano),
            steps: Vec::new(),
            damaged: 0,
            holes: 0,
        };
        let mut next = self.first_position;
        let mut before: Option<RecordLocation> = None;
        for (n, location) in &self.locations {
            if *n > last {
                break;
            }
            if *n < next {
                continue;
            }
            plan.missing(next, n - 1, before, Some(location));
            match location.class {
                RecordClass::Data | RecordClass::Damaged if location.verifies => {
                    plan.steps.push(RecoveryStep::Copy(*location));
                }
                RecordClass::Data if *n <= synced => {
                    plan.damaged += 1;
                    plan.steps.push(RecoveryStep::Damaged(*location));
                }
                RecordClass::Hole => plan.hole(*n, location.last.min(last)),
                RecordClass::Missing => plan.lost(*n, location.last.min(last)),
                RecordClass::Data | RecordClass::Damaged | RecordClass::SyncMarker => {
                    plan.missing(*n, *n, before, None);
                }
            }
            next = location.last + 1;
            before = Some(*location);
        }
        plan.missing(next, last, before, None);
        plan
    }
}

impl RewritePlan {
    /// Accounts for positions that were not found between two records: damaged up to the synced position, holes above
    /// it.
    fn missing(
        &mut self,
        first: u64,
        last: u64,
        before: Option<RecordLocation>,
        after: Option<&RecordLocation>,
    ) {
        if first > last {
            return;
        }
        let lost_last = last.min(self.synced);
        let (file, from) =
            before.map_or((0, BLOCK_BYTES), |location| (location.file, location.end));
        let to = match after {
            Some(after) if after.file == file && after.offset >= from => {
                after.offset.min(from + LOST_BYTES)
            }
            _ => from + DAMAGED_END_BYTES,
        };
        if first <= lost_last {
            self.damaged += 1;
            self.steps.push(RecoveryStep::Lost {
                n: first,
                file,
                from,
                to,
            });
            self.lost(first + 1, lost_last);
        }
        self.hole(first.max(lost_last + 1), last);
    }

    fn lost(&mut self, first: u64, last: u64) {
        if first <= last {
            self.damaged += last - first + 1;
            self.steps.push(RecoveryStep::Missing { first, last });
        }
    }

    fn hole(&mut self, first: u64, last: u64) {
        if first <= last {
            self.holes += last - first + 1;
            self.steps.push(RecoveryStep::Hole { first, last });
        }
    }

    /// Returns the length of the shortest segment that the copy fits in; `None` if there is nothing to copy.
    pub(in crate::journal) fn segment_bytes(&self) -> Option<u64> {
        if self.steps.is_empty() {
            return None;
        }
        let bytes: u64 = self
            .steps
            .iter()
            .map(|step| match step {
                RecoveryStep::Copy(location) | RecoveryStep::Damaged(location) => {
                    location.end - location.offset
                }
                RecoveryStep::Lost { from, to, .. } => record::total_bytes(to - from),
                RecoveryStep::Hole { .. } | RecoveryStep::Missing { .. } => record::total_bytes(0),
            })
            .sum();
        Some(own_size(bytes))
    }
}

pub(in crate::journal) fn scan_of(
    disk: &dyn Disk,
    header: &SegmentHeader,
    file: &SegmentFile,
    at: u64,
) -> io::Result<SegmentScan> {
    let end = file.bytes.min(header.bytes.saturating_sub(BLOCK_BYTES));
    Ok(SegmentScan::new(
        disk.open(&file.path)?,
        header.nonce,
        (header.first_position, at),
        end,
        AlignedBuffer::zeroed(WINDOW_BYTES),
    ))
}
