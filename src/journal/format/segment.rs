//! The first and the last block of a segment file: values to bytes and back, pure.
//!
//! **Invariant:** no lost sector or block hides a header (the first block has it twice, the last block once), and a
//! footer counts only under its own segment's nonce.

use crate::event::StreamId;
use crate::journal::format::le_bytes::{array_at, i64_at, put, u16_at, u32_at, u64_at};

/// Groups start at multiples of this many bytes; header and footer take one such block each.
pub(in crate::journal) const BLOCK_BYTES: u64 = 4096;
pub(in crate::journal) const BLOCK: usize = 4096;

/// The format that this version writes, and the newest it reads.
pub(in crate::journal) const FORMAT: u16 = 1;

const HEADER_MAGIC: &[u8; 8] = b"ruvvlog\n";
const FOOTER_MAGIC: &[u8; 8] = b"ruvvend\n";
const SPARE_MAGIC: &[u8; 8] = b"ruvvspr\n";

/// The build that wrote this header frees a segment by a spare's mark, never by zeros alone.
const FREED_BY_MARK: u16 = 1;

/// A header or footer takes one sector, so that no power cut tears it.
const SECTOR: usize = 512;
const SECOND_COPY: usize = 2048;

/// The header of a segment, in its first block twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct SegmentHeader {
    /// A random number that every record of the segment repeats.
    pub(in crate::journal) nonce: u64,
    pub(in crate::journal) stream: StreamId,
    /// The number of the opening that began the stream; it orders streams.
    pub(in crate::journal) epoch: u64,
    /// Length of the file in bytes.
    pub(in crate::journal) bytes: u64,
    /// The position of the segment's first record; all before it were synced when the segment was begun.
    pub(in crate::journal) first_position: u64,
}

/// The contents of a file's first block.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::journal) enum FirstBlock {
    Segment(SegmentHeader),
    /// All zeros: a spare, or a segment whose first block is lost; the last block shows which.
    Zeros,
    /// Of a format that this version cannot read.
    Newer(u16),
    Unreadable,
}

impl SegmentHeader {
    fn write(&self, sector: &mut [u8; SECTOR], magic: &[u8; 8]) {
        put(sector, 0, magic);
        put(sector, 8, &FORMAT.to_le_bytes());
        put(sector, 10, &FREED_BY_MARK.to_le_bytes());
        put(sector, 16, &self.nonce.to_le_bytes());
        put(sector, 24, &self.stream.0);
        put(sector, 40, &self.epoch.to_le_bytes());
        put(sector, 48, &self.bytes.to_le_bytes());
        put(sector, 56, &self.first_position.to_le_bytes());
    }

    fn read(sector: &[u8; SECTOR]) -> Self {
        Self {
            nonce: u64_at(sector, 16),
            stream: StreamId(array_at(sector, 24)),
            epoch: u64_at(sector, 40),
            bytes: u64_at(sector, 48),
            first_position: u64_at(sector, 56),
        }
    }

    fn sector(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        self.write(&mut sector, HEADER_MAGIC);
        seal(&mut sector);
        sector
    }

    /// Encodes the last block of a segment that is appended to: nothing but the header's third copy.
    pub(in crate::journal) fn encode_last(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, SECOND_COPY, &self.sector());
        block
    }

    /// Encodes the first block.
    pub(in crate::journal) fn encode(&self) -> [u8; BLOCK] {
        let sector = self.sector();
        let mut block = [0; BLOCK];
        put(&mut block, 0, &sector);
        put(&mut block, SECOND_COPY, &sector);
        block
    }

    /// Decodes the first block of a file.
    pub(in crate::journal) fn decode(block: &[u8; BLOCK]) -> FirstBlock {
        for at in [0, SECOND_COPY] {
            let sector: [u8; SECTOR] = array_at(block, at);
            if !is_sealed(&sector, HEADER_MAGIC) {
                continue;
            }
            let format = u16_at(&sector, 8);
            if format > FORMAT {
                return FirstBlock::Newer(format);
            }
            return FirstBlock::Segment(Self::read(&sector));
        }
        if block.iter().all(|byte| *byte == 0) {
            FirstBlock::Zeros
        } else {
            FirstBlock::Unreadable
        }
    }
}

/// The footer, written at a segment's end once nothing more is appended to it; repeats the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Footer {
    pub(in crate::journal) header: SegmentHeader,
    pub(in crate::journal) contents: SegmentContents,
}

/// The totals of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct SegmentContents {
    /// The highest position; the first position less one if there is none.
    pub(in crate::journal) last_position: u64,
    /// Offset of the end of the last group.
    pub(in crate::journal) end: u64,
    /// Number of requests, without holes and without records that recovery found damaged.
    pub(in crate::journal) records: u64,
    /// Number of accepted events of all records, those of damaged records included if their header survived.
    pub(in crate::journal) events: u64,
    /// Bytes of the records, headers included.
    pub(in crate::journal) bytes: u64,
    /// Receive time of the first record, Unix nanoseconds.
    pub(in crate::journal) first_received_unix_nano: i64,
}

impl Footer {
    /// Encodes the last block of a segment that nothing more is appended to: the footer, and the header's third copy.
    pub(in crate::journal) fn encode(&self) -> [u8; BLOCK] {
        let mut sector = [0; SECTOR];
        self.header.write(&mut sector, FOOTER_MAGIC);
        let contents = &self.contents;
        let first_received = contents.first_received_unix_nano;
        put(&mut sector, 64, &contents.last_position.to_le_bytes());
        put(&mut sector, 72, &contents.end.to_le_bytes());
        put(&mut sector, 80, &contents.records.to_le_bytes());
        put(&mut sector, 88, &contents.events.to_le_bytes());
        put(&mut sector, 96, &contents.bytes.to_le_bytes());
        put(&mut sector, 104, &first_received.to_le_bytes());
        seal(&mut sector);
        let mut block = self.header.encode_last();
        put(&mut block, 0, &sector);
        block
    }
}

/// The contents of a file's last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum LastBlock {
    Sealed(Footer, FreedBy),
    /// The third copy of a header, without a footer.
    Open(SegmentHeader),
    /// The file has been a spare since the segment of this nonce was freed (0: it never was a segment).
    Spare {
        freed: u64,
    },
    /// Zeros, or anything else.
    Nothing,
}

/// The sign by which the build that wrote a segment frees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum FreedBy {
    /// A spare's mark in the last block, and zeros in the first.
    Mark,
    /// Zeros in the first block alone.
    Zeros,
}

impl LastBlock {
    pub(in crate::journal) fn decode(block: &[u8; BLOCK]) -> Self {
        let first: [u8; SECTOR] = array_at(block, 0);
        let second: [u8; SECTOR] = array_at(block, SECOND_COPY);
        let known = |sector: &[u8; SECTOR]| u16_at(sector, 8) <= FORMAT;
        if is_sealed(&first, FOOTER_MAGIC) && known(&first) {
            let contents = SegmentContents {
                last_position: u64_at(&first, 64),
                end: u64_at(&first, 72),
                records: u64_at(&first, 80),
                events: u64_at(&first, 88),
                bytes: u64_at(&first, 96),
                first_received_unix_nano: i64_at(&first, 104),
            };
            let header = SegmentHeader::read(&first);
            let freed_by = if u16_at(&first, 10) & FREED_BY_MARK == 0 {
                FreedBy::Zeros
            } else {
                FreedBy::Mark
            };
            return Self::Sealed(Footer { header, contents }, freed_by);
        }
        if is_sealed(&second, HEADER_MAGIC) && known(&second) {
            return Self::Open(SegmentHeader::read(&second));
        }
        for sector in [first, second] {
            if is_sealed(&sector, SPARE_MAGIC) && known(&sector) {
                return Self::Spare {
                    freed: u64_at(&sector, 24),
                };
            }
        }
        Self::Nothing
    }
}

/// Encodes the last block of a spare: a mark with its own nonce, twice. `freed` is the nonce of the segment that it
/// was.
pub(in crate::journal) fn spare_mark(nonce: u64, freed: u64) -> [u8; BLOCK] {
    let mut sector = [0; SECTOR];
    put(&mut sector, 0, SPARE_MAGIC);
    put(&mut sector, 8, &FORMAT.to_le_bytes());
    put(&mut sector, 16, &nonce.to_le_bytes());
    put(&mut sector, 24, &freed.to_le_bytes());
    seal(&mut sector);
    let mut block = [0; BLOCK];
    put(&mut block, 0, &sector);
    put(&mut block, SECOND_COPY, &sector);
    block
}

fn seal(sector: &mut [u8; SECTOR]) {
    let checksum = crc32c::crc32c(sector);
    put(sector, 12, &checksum.to_le_bytes());
}

fn is_sealed(sector: &[u8; SECTOR], magic: &[u8; 8]) -> bool {
    let mut unsealed = *sector;
    put(&mut unsealed, 12, &[0; 4]);
    sector.starts_with(magic) && u32_at(sector, 12) == crc32c::crc32c(&unsealed)
}
