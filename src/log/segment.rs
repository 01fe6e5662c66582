//! A segment's header and footer: values to bytes and back, pure.
//!
//! **Invariant:** one flipped bit never hides a header (it stands twice), and a footer counts only under its own
//! segment's nonce.

use super::StreamId;
use super::bytes_at::{array_at, i64_at, put, u16_at, u32_at, u64_at};

/// Groups start at multiples of this; header and footer take one such block each.
pub(super) const BLOCK_BYTES: u64 = 4096;
pub(super) const BLOCK: usize = 4096;

/// The format that this version writes, and the newest it reads.
pub(super) const FORMAT: u16 = 1;

const HEADER_MAGIC: &[u8; 8] = b"ruvvlog\n";
const FOOTER_MAGIC: &[u8; 8] = b"ruvvend\n";

/// A header or footer takes one sector, so that no power cut tears it.
const SECTOR: usize = 512;
const SECOND_COPY: usize = 2048;

/// What stands at the start of a segment, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Stands in every record of the segment; random.
    pub(super) nonce: u64,
    pub(super) stream: StreamId,
    /// Counts the openings of the log: orders streams.
    pub(super) opening: u64,
    /// Length of the file.
    pub(super) bytes: u64,
    /// The position of the segment's first record; all before it were synced when the segment was begun.
    pub(super) base: u64,
}

/// What the first block of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Segment(Header),
    /// All zero: never used, or freed.
    Spare,
    /// Of a format that this version does not know.
    Newer(u16),
    Unreadable,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut sector = [0; SECTOR];
        put(&mut sector, 0, HEADER_MAGIC);
        put(&mut sector, 8, &FORMAT.to_le_bytes());
        put(&mut sector, 16, &self.nonce.to_le_bytes());
        put(&mut sector, 24, &self.stream.0);
        put(&mut sector, 40, &self.opening.to_le_bytes());
        put(&mut sector, 48, &self.bytes.to_le_bytes());
        put(&mut sector, 56, &self.base.to_le_bytes());
        seal(&mut sector);
        let mut block = [0; BLOCK];
        put(&mut block, 0, &sector);
        put(&mut block, SECOND_COPY, &sector);
        block
    }

    /// Reads the first block of a file.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Begin {
        for at in [0, SECOND_COPY] {
            let sector: [u8; SECTOR] = array_at(block, at);
            if !is_sealed(&sector, HEADER_MAGIC) {
                continue;
            }
            let format = u16_at(&sector, 8);
            if format > FORMAT {
                return Begin::Newer(format);
            }
            return Begin::Segment(Self {
                nonce: u64_at(&sector, 16),
                stream: StreamId(array_at(&sector, 24)),
                opening: u64_at(&sector, 40),
                bytes: u64_at(&sector, 48),
                base: u64_at(&sector, 56),
            });
        }
        if block.iter().all(|byte| *byte == 0) {
            Begin::Spare
        } else {
            Begin::Unreadable
        }
    }
}

/// What a segment holds, written at its end once nothing more is appended to it; repeats the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) header: Header,
    pub(super) contents: Contents,
}

/// The sums of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The highest position; the base less one when there is none.
    pub(super) last: u64,
    /// Where the last group ends.
    pub(super) end: u64,
    /// Requests, without holes and what was found damaged.
    pub(super) records: u64,
    /// Events that they accepted.
    pub(super) events: u64,
    /// Bytes of the records, headers included.
    pub(super) bytes: u64,
    /// Receive time of the first record, Unix nanoseconds.
    pub(super) first_received: i64,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut sector = [0; SECTOR];
        put(&mut sector, 0, FOOTER_MAGIC);
        put(&mut sector, 8, &FORMAT.to_le_bytes());
        put(&mut sector, 16, &self.header.nonce.to_le_bytes());
        put(&mut sector, 24, &self.header.stream.0);
        put(&mut sector, 40, &self.header.opening.to_le_bytes());
        put(&mut sector, 48, &self.header.bytes.to_le_bytes());
        put(&mut sector, 56, &self.header.base.to_le_bytes());
        put(&mut sector, 64, &self.contents.last.to_le_bytes());
        put(&mut sector, 72, &self.contents.end.to_le_bytes());
        put(&mut sector, 80, &self.contents.records.to_le_bytes());
        put(&mut sector, 88, &self.contents.events.to_le_bytes());
        put(&mut sector, 96, &self.contents.bytes.to_le_bytes());
        put(
            &mut sector,
            104,
            &self.contents.first_received.to_le_bytes(),
        );
        seal(&mut sector);
        let mut block = [0; BLOCK];
        put(&mut block, 0, &sector);
        block
    }

    /// Reads the last block of a segment. `None` when it is no footer.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Option<Self> {
        let sector: [u8; SECTOR] = array_at(block, 0);
        if !is_sealed(&sector, FOOTER_MAGIC) || u16_at(&sector, 8) > FORMAT {
            return None;
        }
        Some(Self {
            header: Header {
                nonce: u64_at(&sector, 16),
                stream: StreamId(array_at(&sector, 24)),
                opening: u64_at(&sector, 40),
                bytes: u64_at(&sector, 48),
                base: u64_at(&sector, 56),
            },
            contents: Contents {
                last: u64_at(&sector, 64),
                end: u64_at(&sector, 72),
                records: u64_at(&sector, 80),
                events: u64_at(&sector, 88),
                bytes: u64_at(&sector, 96),
                first_received: i64_at(&sector, 104),
            },
        })
    }
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
