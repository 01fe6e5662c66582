//! A segment without a footer: what of it is whole, and a second copy of that.
//!
//! **Invariant:** every record that verifies is in the copy, once; each position up to the last is accounted for as a
//! record, a hole or damage.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;

use super::core::now_unix_nano;
use super::disk::{DiskFile, write_all};
use super::pool::own_size;
use super::reader::LOST_BYTES;
use super::record::{self, Class};
use super::scan::{Found, Scan};
use super::segment::{BLOCK_BYTES, Contents, Footer, Header};
use super::survey::Surveyed;

const WINDOW_BYTES: usize = 256 << 10;

/// The copy is written in pieces of at least this.
const FLUSHED_BYTES: usize = 1 << 20;

/// Of what stands after the last record, so much is kept where a damaged one is missing.
const TAIL_BYTES: u64 = 64 << 10;

/// Where a record stands: the file's index and its place there.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    offset: u64,
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
            (Class::Data, true) => 3,
            (Class::Damaged, true) => 2,
            (Class::Data, false) => 1,
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
enum Step {
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
}

/// What the copy will hold.
pub(super) struct Plan {
    base: u64,
    last: u64,
    synced: u64,
    /// Receive time of the first record that has one, else now.
    received: i64,
    steps: Vec<Step>,
    pub(super) damaged: u64,
    pub(super) holes: u64,
}

impl Torn {
    /// Finds every record of the files.
    pub(super) fn scan(files: &[(Header, Surveyed)]) -> Result<Self, (PathBuf, io::Error)> {
        let mut torn = Self {
            base: files.first().map_or(1, |(header, _)| header.base),
            synced: 0,
            most: 0,
            places: BTreeMap::new(),
        };
        for (index, (header, file)) in files.iter().enumerate() {
            torn.scan_file(index, header, file)
                .map_err(|error| (file.path.clone(), error))?;
        }
        Ok(torn)
    }

    fn scan_file(&mut self, index: usize, header: &Header, file: &Surveyed) -> io::Result<()> {
        let mut scan = scan_of(header, file, BLOCK_BYTES);
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
        for n in first..=lost_last {
            self.damaged += 1;
            let to = if n == first { to } else { from };
            self.steps.push(Step::Lost { n, file, from, to });
        }
        self.hole(first.max(lost_last + 1), last);
    }

    fn hole(&mut self, first: u64, last: u64) {
        if first <= last {
            self.holes += last - first + 1;
            self.steps.push(Step::Hole { first, last });
        }
    }

    /// The length of a segment that the copy fits in; `None` when there is nothing to copy.
    pub(super) fn segment_bytes(&self, usual: u64) -> Option<u64> {
        if self.steps.is_empty() {
            return None;
        }
        let bytes: u64 = self
            .steps
            .iter()
            .map(|step| match step {
                Step::Copy(place) | Step::Damaged(place) => place.end - place.offset,
                Step::Lost { from, to, .. } => record::total_bytes(to - from),
                Step::Hole { .. } => record::total_bytes(0),
            })
            .sum();
        Some(own_size(bytes).max(usual))
    }
}

/// Writes the copy, synced and sealed. Until its last step the file is a spare: a copy that was cut short leaves nothing.
pub(super) fn write(
    plan: &Plan,
    files: &[(Header, Surveyed)],
    file: &dyn DiskFile,
    bytes: u64,
) -> io::Result<(Header, Contents)> {
    let (original, _) = files.first().ok_or(io::ErrorKind::NotFound)?;
    let header = Header {
        nonce: getrandom::u64()?,
        bytes,
        base: plan.base,
        ..*original
    };
    let scans = files
        .iter()
        .map(|(header, file)| scan_of(header, file, BLOCK_BYTES));
    let mut copy = Copy {
        file,
        scans: scans.collect(),
        at: BLOCK_BYTES,
        buffer: Vec::new(),
        nonce: header.nonce,
        synced: plan.synced,
        received: plan.received,
        contents: Contents {
            last: plan.last,
            first_received: plan.received,
            ..Contents::default()
        },
    };
    for step in &plan.steps {
        copy.step(step)?;
    }
    let contents = copy.finish()?;
    let footer = Footer { header, contents }.encode();
    write_all(file, &mut [IoSlice::new(&footer)], bytes - BLOCK_BYTES)?;
    file.sync_data()?;
    begin(&header, file)?;
    Ok((header, contents))
}

/// Makes a segment of a file whose records and footer are durable.
pub(super) fn begin(header: &Header, file: &dyn DiskFile) -> io::Result<()> {
    write_all(file, &mut [IoSlice::new(&header.encode())], 0)?;
    file.sync_data()
}

struct Copy<'a> {
    file: &'a dyn DiskFile,
    /// Of the files that are copied from.
    scans: Vec<Scan>,
    /// Where the buffer belongs.
    at: u64,
    buffer: Vec<u8>,
    nonce: u64,
    synced: u64,
    /// Receive time of the record before: what is lost came about then.
    received: i64,
    contents: Contents,
}

impl Copy<'_> {
    fn step(&mut self, step: &Step) -> io::Result<()> {
        match *step {
            Step::Copy(place) => {
                let found = self.found(place)?;
                self.record(found.header, place.file, found.payload_offset())
            }
            Step::Damaged(place) => {
                let found = self.found(place)?;
                let checksum = self.scans[place.file].checksum(&found)?;
                let header = record::Header {
                    class: Class::Damaged,
                    payload_checksum: checksum.ok_or(io::ErrorKind::UnexpectedEof)?,
                    ..found.header
                };
                self.record(header, place.file, found.payload_offset())
            }
            Step::Lost { n, file, from, to } => {
                let bytes = self.scans[file].bytes(from, to)?;
                let mut header = self.bare(Class::Damaged, n, n);
                header.header_lost = true;
                header.payload_bytes =
                    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
                header.payload_checksum = crc32c::crc32c(&bytes);
                self.record(header, file, from)
            }
            Step::Hole { first, last } => {
                let header = self.bare(Class::Hole, first, last);
                self.record(header, 0, BLOCK_BYTES)
            }
        }
    }

    fn bare(&self, class: Class, n: u64, last: u64) -> record::Header {
        let mut header = record::Header::bare(class, n, last, self.synced);
        header.source.received_unix_nano = self.received;
        header
    }

    fn found(&mut self, place: Place) -> io::Result<Found> {
        let found = self.scans[place.file].record_at(place.offset)?;
        found.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes a record whose payload stands in one of the files at `from`.
    fn record(&mut self, header: record::Header, file: usize, from: u64) -> io::Result<()> {
        let header = record::Header {
            synced: self.synced,
            ..header
        };
        self.buffer.extend_from_slice(&header.encode(self.nonce));
        let end = from + u64::from(header.payload_bytes);
        let mut at = from;
        while at < end {
            let piece = self.scans[file].piece(at, end)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(piece);
            at += piece.len() as u64;
            self.flush(FLUSHED_BYTES)?;
        }
        self.pad(record::ALIGN);
        self.received = header.source.received_unix_nano;
        self.contents.bytes += header.total_bytes();
        self.contents.events += u64::from(header.accepted);
        self.contents.records += u64::from(header.class == Class::Data);
        self.flush(FLUSHED_BYTES)
    }

    /// Fills with zeros up to the next multiple of `align` in the file.
    fn pad(&mut self, align: u64) {
        let end = self.at + self.buffer.len() as u64;
        let padding = usize::try_from(end.next_multiple_of(align) - end);
        let padding = padding.expect("alignments are a block at most");
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    /// Writes the buffer once it holds at least so much.
    fn flush(&mut self, least: usize) -> io::Result<()> {
        if self.buffer.len() < least {
            return Ok(());
        }
        write_all(self.file, &mut [IoSlice::new(&self.buffer)], self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Contents> {
        self.pad(BLOCK_BYTES);
        self.flush(0)?;
        self.contents.end = self.at;
        Ok(self.contents)
    }
}

fn scan_of(header: &Header, file: &Surveyed, at: u64) -> Scan {
    let end = file.bytes.min(header.bytes.saturating_sub(BLOCK_BYTES));
    Scan::new(file.file.clone(), header.nonce, at, end, WINDOW_BYTES)
}
