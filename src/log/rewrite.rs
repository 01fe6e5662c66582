//! A segment without a footer: what of it is whole, and a second copy of that.
//!
//! **Invariant:** every record that verifies is in the copy, once; each position up to the last is accounted for as a
//! record, a hole or damage.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;

use super::disk::{DiskFile, write_all};
use super::pool::own_size;
use super::reader::LOST_BYTES;
use super::record::{self, Class, HEADER_BYTES};
use super::recovery::Surveyed;
use super::scan::{Found, Scan};
use super::segment::{BLOCK, BLOCK_BYTES, Contents, Footer, Header};

const WINDOW_BYTES: usize = 256 << 10;

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
                verifies: scan.verifies(&found)?,
            };
            let known = self.places.entry(record.n).or_insert(place);
            if known.rank() < place.rank() {
                *known = place;
            }
        }
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
        let last = until.unwrap_or_else(|| verified.unwrap_or(0).max(synced).max(self.base - 1));
        let mut plan = Plan {
            base: self.base,
            last,
            synced,
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

/// Writes the copy, synced and sealed.
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
    let mut copy = Copy {
        file,
        at: 0,
        buffer: header.encode().to_vec(),
        header,
        contents: Contents {
            last: plan.last,
            ..Contents::default()
        },
        received: None,
    };
    for step in &plan.steps {
        copy.step(step, files, plan.synced)?;
    }
    copy.finish()
}

struct Copy<'a> {
    file: &'a dyn DiskFile,
    /// Where the buffer belongs.
    at: u64,
    buffer: Vec<u8>,
    header: Header,
    contents: Contents,
    received: Option<i64>,
}

impl Copy<'_> {
    fn step(&mut self, step: &Step, files: &[(Header, Surveyed)], synced: u64) -> io::Result<()> {
        match *step {
            Step::Copy(place) => {
                let (mut scan, found) = find(place, files)?;
                let header = record::Header {
                    synced,
                    ..found.header
                };
                let from = found.offset + HEADER_BYTES as u64;
                self.record(&header, &mut scan, from)
            }
            Step::Damaged(place) => {
                let (mut scan, found) = find(place, files)?;
                let header = record::Header {
                    class: Class::Damaged,
                    synced,
                    payload_checksum: crc32c::crc32c(&scan.payload(&found)?),
                    ..found.header
                };
                let from = found.offset + HEADER_BYTES as u64;
                self.record(&header, &mut scan, from)
            }
            Step::Lost { n, file, from, to } => {
                let (header, file) = files.get(file).ok_or(io::ErrorKind::NotFound)?;
                let mut scan = scan_of(header, file, from);
                let bytes = scan.bytes(from, to)?;
                let header = record::Header {
                    payload_bytes: u32::try_from(bytes.len())
                        .map_err(|_| io::ErrorKind::FileTooLarge)?,
                    payload_checksum: crc32c::crc32c(&bytes),
                    header_lost: true,
                    ..record::Header::bare(Class::Damaged, n, n, synced)
                };
                self.record(&header, &mut scan, from)
            }
            Step::Hole { first, last } => {
                self.put(
                    &record::Header::bare(Class::Hole, first, last, synced)
                        .encode(self.header.nonce),
                )?;
                self.contents.bytes += record::total_bytes(0);
                Ok(())
            }
        }
    }

    /// Writes a record whose payload stands in another file at `from`.
    fn record(&mut self, header: &record::Header, scan: &mut Scan, from: u64) -> io::Result<()> {
        self.put(&header.encode(self.header.nonce))?;
        let end = from + u64::from(header.payload_bytes);
        let mut at = from;
        while at < end {
            let piece = scan.bytes(at, end.min(at + WINDOW_BYTES as u64))?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.put(&piece)?;
            at += piece.len() as u64;
        }
        let padding = header.total_bytes() - HEADER_BYTES as u64 - (end - from);
        self.put(&[0; 8][..usize::try_from(padding).unwrap_or(8)])?;
        self.contents.bytes += header.total_bytes();
        self.contents.events += u64::from(header.accepted);
        self.contents.records += u64::from(header.class == Class::Data);
        if !header.header_lost {
            self.received
                .get_or_insert(header.source.received_unix_nano);
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 4 * WINDOW_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all(self.file, &mut [IoSlice::new(&self.buffer)], self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Header, Contents)> {
        let written = self.at + self.buffer.len() as u64;
        let padding = written.next_multiple_of(BLOCK_BYTES) - written;
        self.put(&[0; BLOCK][..usize::try_from(padding).unwrap_or(BLOCK)])?;
        self.flush()?;
        self.contents.end = self.at;
        self.contents.first_received = self.received.unwrap_or(0);
        let footer = Footer {
            header: self.header,
            contents: self.contents,
        };
        // The footer vouches for all before it, so that comes first.
        self.file.sync_data()?;
        write_all(
            self.file,
            &mut [IoSlice::new(&footer.encode())],
            self.header.bytes - BLOCK_BYTES,
        )?;
        self.file.sync_data()?;
        Ok((self.header, self.contents))
    }
}

fn scan_of(header: &Header, file: &Surveyed, at: u64) -> Scan {
    let end = file.bytes.min(header.bytes.saturating_sub(BLOCK_BYTES));
    Scan::new(file.file.clone(), header.nonce, at, end, WINDOW_BYTES)
}

fn find(place: Place, files: &[(Header, Surveyed)]) -> io::Result<(Scan, Found)> {
    let (header, file) = files.get(place.file).ok_or(io::ErrorKind::NotFound)?;
    let scan = scan_of(header, file, place.offset);
    let block = scan.bytes(place.offset, place.offset + HEADER_BYTES as u64)?;
    let header = record::Header::decode(&block, header.nonce).ok_or(io::ErrorKind::InvalidData)?;
    Ok((
        scan,
        Found {
            header,
            offset: place.offset,
        },
    ))
}
