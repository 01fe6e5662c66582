//! A segment without a footer: what of it is whole, and what becomes of each position.
//!
//! **Invariant:** every record that verifies is kept, once, unless the writer thread made a hole of its position; each
//! position up to the last is accounted for as a record, a hole or damage.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::core::now_unix_nano;
use super::disk::Disk;
use super::pool::own_size;
use super::reader::LOST_BYTES;
use super::record::{self, Class};
use super::scan::Scan;
use super::segment::{BLOCK_BYTES, Header};
use super::survey::Surveyed;

const WINDOW_BYTES: usize = 256 << 10;

/// Of what stands after the last record, so much is kept where a damaged one is missing.
const TAIL_BYTES: u64 = 64 << 10;

/// Where a record stands: the file's index and its place there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) offset: u64,
    end: u64,
    last: u64,
    class: Class,
    verifies: bool,
    received: i64,
}

impl Place {
    /// What is better when a position is found twice.
    fn rank(&self) -> u8 {
        match (self.class, self.verifies) {
            // The writer thread synced it in place of a group that found the volume full: readers may have seen it.
            (Class::Hole, true) => 4,
            (Class::Data, true) => 3,
            (Class::Damaged, true) => 2,
            (Class::Data, false) | (Class::Missing, _) => 1,
            (Class::Hole | Class::Mark | Class::Damaged, _) => 0,
        }
    }
}

/// The records of all files that have one base.
pub(super) struct Torn {
    base: u64,
    synced: u64,
    /// The highest position that the files have room for.
    most: u64,
    places: BTreeMap<u64, Place>,
}

/// What one position, or a run of them, becomes in the copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Copy(Place),
    /// The header is whole, the payload is not.
    Damaged(Place),
    /// Nothing is known; the bytes where it stood.
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
    /// Nothing is known of these, and nothing is left.
    Missing {
        first: u64,
        last: u64,
    },
}

/// What the copy will hold.
pub(super) struct Plan {
    pub(super) base: u64,
    pub(super) last: u64,
    pub(super) synced: u64,
    /// Receive time of the first record that has one, else now.
    pub(super) received: i64,
    pub(super) steps: Vec<Step>,
    pub(super) damaged: u64,
    pub(super) holes: u64,
}

impl Torn {
    /// Finds every record of the files.
    pub(super) fn scan(
        disk: &dyn Disk,
        files: &[(Header, Surveyed)],
    ) -> Result<Self, (PathBuf, io::Error)> {
        let mut torn = Self {
            base: files.first().map_or(1, |(header, _)| header.base),
            synced: 0,
            most: 0,
            places: BTreeMap::new(),
        };
        for (index, (header, file)) in files.iter().enumerate() {
            scan_of(disk, header, file, BLOCK_BYTES)
                .and_then(|scan| torn.scan_file(index, header, scan))
                .map_err(|error| (file.path.clone(), error))?;
        }
        Ok(torn)
    }

    fn scan_file(&mut self, index: usize, header: &Header, mut scan: Scan) -> io::Result<()> {
        let (mut last, mut end) = (self.base - 1, BLOCK_BYTES);
        while let Some(found) = scan.next()? {
            let record = &found.header;
            self.synced = self.synced.max(record.synced);
            if record.class == Class::Mark || record.n < self.base {
                continue;
            }
            let place = Place {
                file: index,
                offset: found.offset,
                end: found.end(),
                last: record.last,
                class: record.class,
                received: record.source.received_unix_nano,
                verifies: scan.verifies(&found)?,
            };
            (last, end) = (record.last, found.end());
            let known = self.places.entry(record.n).or_insert(place);
            if known.rank() < place.rank() {
                *known = place;
            }
        }
        let left = header.bytes.saturating_sub(BLOCK_BYTES + end) / record::total_bytes(0);
        self.most = self.most.max(last.saturating_add(left));
        Ok(())
    }

    /// The highest synced mark found.
    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// Settles each position: `synced` is the stream's highest mark, `until` the position before its next segment.
    pub(super) fn plan(&self, synced: u64, until: Option<u64>) -> Plan {
        let verified = self
            .places
            .values()
            .filter(|place| place.verifies)
            .map(|place| place.last)
            .max();
        // What follows may be long gone: the next segment that is held need not be the next there was.
        let last = until.map_or_else(
            || verified.unwrap_or(0).max(synced).max(self.base - 1),
            |until| until.min(self.most),
        );
        let mut received = self.places.values().map(|place| place.received);
        let mut plan = Plan {
            base: self.base,
            last,
            synced,
            received: received.find(|at| *at != 0).unwrap_or_else(now_unix_nano),
            steps: Vec::new(),
            damaged: 0,
            holes: 0,
        };
        let mut next = self.base;
        let mut before: Option<Place> = None;
        for (n, place) in &self.places {
            if *n > last {
                break;
            }
            if *n < next {
                continue;
            }
            plan.missing(next, n - 1, before, Some(place));
            match place.class {
                Class::Data | Class::Damaged if place.verifies => {
                    plan.steps.push(Step::Copy(*place));
                }
                Class::Data if *n <= synced => {
                    plan.damaged += 1;
                    plan.steps.push(Step::Damaged(*place));
                }
                Class::Hole => plan.hole(*n, place.last.min(last)),
                Class::Missing => plan.lost(*n, place.last.min(last)),
                Class::Data | Class::Damaged | Class::Mark => plan.missing(*n, *n, before, None),
            }
            next = place.last + 1;
            before = Some(*place);
        }
        plan.missing(next, last, before, None);
        plan
    }
}

impl Plan {
    /// Accounts for positions that were not found between two records.
    fn missing(&mut self, first: u64, last: u64, before: Option<Place>, after: Option<&Place>) {
        if first > last {
            return;
        }
        let lost_last = last.min(self.synced);
        let (file, from) = before.map_or((0, BLOCK_BYTES), |place| (place.file, place.end));
        let to = match after {
            Some(after) if after.file == file && after.offset >= from => {
                after.offset.min(from + LOST_BYTES)
            }
            _ => from + TAIL_BYTES,
        };
        if first <= lost_last {
            self.damaged += 1;
            self.steps.push(Step::Lost {
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
            self.steps.push(Step::Missing { first, last });
        }
    }

    fn hole(&mut self, first: u64, last: u64) {
        if first <= last {
            self.holes += last - first + 1;
            self.steps.push(Step::Hole { first, last });
        }
    }

    /// The length of the shortest segment that the copy fits in; `None` when there is nothing to copy.
    pub(super) fn segment_bytes(&self) -> Option<u64> {
        if self.steps.is_empty() {
            return None;
        }
        let bytes: u64 = self
            .steps
            .iter()
            .map(|step| match step {
                Step::Copy(place) | Step::Damaged(place) => place.end - place.offset,
                Step::Lost { from, to, .. } => record::total_bytes(to - from),
                Step::Hole { .. } | Step::Missing { .. } => record::total_bytes(0),
            })
            .sum();
        Some(own_size(bytes))
    }
}

pub(super) fn scan_of(
    disk: &dyn Disk,
    header: &Header,
    file: &Surveyed,
    at: u64,
) -> io::Result<Scan> {
    let end = file.bytes.min(header.bytes.saturating_sub(BLOCK_BYTES));
    Ok(Scan::new(
        file.open(disk)?,
        header.nonce,
        (header.base, at),
        end,
        WINDOW_BYTES,
    ))
}
