//! Record headers: values to bytes and back, pure.
//!
//! **Invariant:** [`RecordHeader::decode`] yields a header only for bytes that [`RecordHeader::encode`] made under the
//! same nonce.

use crate::event::{ContentEncoding, Encoding, Limits, Signal, Source};

use crate::journal::format::le_bytes::{array_at, i64_at, put, u16_at, u32_at, u64_at};

pub(in crate::journal) const HEADER_BYTES: usize = 128;

/// Records start at multiples of this many bytes.
pub(in crate::journal) const ALIGN: u64 = 8;

/// The class of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum RecordClass {
    /// A request.
    Data,
    /// A sync marker: only its synced position counts, and it has no position itself.
    SyncMarker,
    /// Made by recovery: these positions were never confirmed and cannot be read.
    Hole,
    /// Made by recovery: nothing is left of these confirmed positions.
    Missing,
    /// Made by recovery: this confirmed record cannot be read; the payload is the part of it that was left.
    Damaged,
}

/// The header of a record: all of it but the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct RecordHeader {
    pub(in crate::journal) class: RecordClass,
    pub(in crate::journal) position: u64,
    /// The last position of a hole or of missing records; else `position`.
    pub(in crate::journal) last_position: u64,
    /// The highest position that was synced when this record was written.
    pub(in crate::journal) synced_position: u64,
    pub(in crate::journal) payload_bytes: u32,
    pub(in crate::journal) payload_checksum: u32,
    pub(in crate::journal) decoded_bytes: u32,
    pub(in crate::journal) accepted: u32,
    pub(in crate::journal) rejected: u32,
    pub(in crate::journal) content_encoding: ContentEncoding,
    pub(in crate::journal) source: Source,
    pub(in crate::journal) digest: [u8; 16],
    /// As [`crate::journal::NewRecord::is_clean`].
    pub(in crate::journal) is_clean: bool,
    /// Of a damaged record: only its position is known.
    pub(in crate::journal) header_lost: bool,
}

const PARTIAL: u8 = 1;
const STRICT_JSON: u8 = 2;
const HEADER_LOST: u8 = 4;
/// Versions without this flag ignore it, and validate the record again.
const CLEAN: u8 = 8;

// The values of one byte: the first of a table is 1 in the header, the next 2, and so on.
const CLASSES: [RecordClass; 5] = [
    RecordClass::Data,
    RecordClass::SyncMarker,
    RecordClass::Hole,
    RecordClass::Damaged,
    RecordClass::Missing,
];
const SIGNALS: [Signal; 4] = [Signal::Event, Signal::Span, Signal::Log, Signal::Metric];
const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::NdJson, Encoding::Protobuf];
const CONTENT_ENCODINGS: [ContentEncoding; 4] = [
    ContentEncoding::Identity,
    ContentEncoding::Gzip,
    ContentEncoding::Zstd,
    ContentEncoding::Deflate,
];

fn code<T: Copy + PartialEq>(table: &[T], value: T) -> u8 {
    let codes = (1..).zip(table);
    let mut codes = codes.filter(|(_, known)| **known == value);
    codes.next().expect("the table holds every value").0
}

fn value<T: Copy>(table: &[T], code: u8) -> Option<T> {
    table.get(usize::from(code).checked_sub(1)?).copied()
}

impl RecordHeader {
    /// Returns a header of a class that holds no request.
    pub(in crate::journal) fn bare(class: RecordClass, n: u64, last: u64, synced: u64) -> Self {
        Self {
            class,
            position: n,
            last_position: last,
            synced_position: synced,
            payload_bytes: 0,
            payload_checksum: 0,
            decoded_bytes: 0,
            accepted: 0,
            rejected: 0,
            content_encoding: ContentEncoding::Identity,
            source: Source {
                signal: Signal::Event,
                encoding: Encoding::Json,
                partial: false,
                received_unix_nano: 0,
                limits: Limits::default(),
                version: 0,
            },
            digest: [0; 16],
            is_clean: false,
            header_lost: false,
        }
    }

    /// Returns the bytes from this record's start to where the next may start.
    pub(in crate::journal) fn total_bytes(&self) -> u64 {
        total_bytes(u64::from(self.payload_bytes))
    }

    pub(in crate::journal) fn encode(&self, nonce: u64) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        let source = &self.source;
        let limits = &source.limits;
        let mut flags = 0;
        for (set, flag) in [
            (source.partial, PARTIAL),
            (limits.strict_json, STRICT_JSON),
            (self.header_lost, HEADER_LOST),
            (self.is_clean, CLEAN),
        ] {
            if set {
                flags |= flag;
            }
        }
        put(&mut block, 0, &nonce.to_le_bytes());
        put(&mut block, 12, &self.payload_bytes.to_le_bytes());
        put(&mut block, 16, &self.position.to_le_bytes());
        put(&mut block, 24, &self.synced_position.to_le_bytes());
        put(&mut block, 32, &source.received_unix_nano.to_le_bytes());
        put(&mut block, 40, &self.decoded_bytes.to_le_bytes());
        put(&mut block, 44, &self.accepted.to_le_bytes());
        put(&mut block, 48, &self.rejected.to_le_bytes());
        put(&mut block, 52, &self.payload_checksum.to_le_bytes());
        block[56] = code(&CLASSES, self.class);
        block[57] = code(&SIGNALS, source.signal);
        block[58] = code(&ENCODINGS, source.encoding);
        block[59] = code(&CONTENT_ENCODINGS, self.content_encoding);
        block[60] = flags;
        block[61] = limits.depth;
        block[62] = limits.native_depth;
        put(&mut block, 64, &source.version.to_le_bytes());
        put(&mut block, 68, &limits.nodes.to_le_bytes());
        put(&mut block, 72, &limits.attributes.to_le_bytes());
        put(&mut block, 76, &limits.value_bytes.to_le_bytes());
        put(&mut block, 80, &limits.events.to_le_bytes());
        put(&mut block, 88, &self.digest);
        put(&mut block, 120, &self.last_position.to_le_bytes());
        let checksum = header_checksum(&block);
        put(&mut block, 8, &checksum.to_le_bytes());
        block
    }

    /// Decodes the header at the start of `block`, which holds at least [`HEADER_BYTES`]. Returns `None` if it is not a
    /// whole header written under `nonce`.
    pub(in crate::journal) fn decode(block: &[u8], nonce: u64) -> Option<Self> {
        let block: &[u8; HEADER_BYTES] = block.first_chunk()?;
        if u64_at(block, 0) != nonce || u32_at(block, 8) != header_checksum(block) {
            return None;
        }
        let flags = block[60];
        Some(Self {
            class: value(&CLASSES, block[56])?,
            position: u64_at(block, 16),
            last_position: u64_at(block, 120),
            synced_position: u64_at(block, 24),
            payload_bytes: u32_at(block, 12),
            payload_checksum: u32_at(block, 52),
            decoded_bytes: u32_at(block, 40),
            accepted: u32_at(block, 44),
            rejected: u32_at(block, 48),
            content_encoding: value(&CONTENT_ENCODINGS, block[59])?,
            source: Source {
                signal: value(&SIGNALS, block[57])?,
                encoding: value(&ENCODINGS, block[58])?,
                partial: flags & PARTIAL != 0,
                received_unix_nano: i64_at(block, 32),
                limits: Limits {
                    depth: block[61],
                    native_depth: block[62],
                    nodes: u32_at(block, 68),
                    attributes: u32_at(block, 72),
                    value_bytes: u32_at(block, 76),
                    events: u32_at(block, 80),
                    strict_json: flags & STRICT_JSON != 0,
                },
                version: u16_at(block, 64),
            },
            digest: array_at(block, 88),
            is_clean: flags & CLEAN != 0,
            header_lost: flags & HEADER_LOST != 0,
        })
    }
}

/// Returns the bytes that a record with such a payload takes.
pub(in crate::journal) const fn total_bytes(payload_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + payload_bytes).next_multiple_of(ALIGN)
}

/// Returns the checksum over all but the checksum's own four bytes.
fn header_checksum(block: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..8]), &block[12..])
}
