//! A group: the records that one sync covers, laid out as one write.
//!
//! **Invariant:** a group starts and ends at a multiple of a block, and is padded with zeros. Large payloads are not
//! copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use crate::journal::append::queue::QueuedRecord;
use crate::journal::format::record::{HEADER_BYTES, RecordClass, RecordHeader};
use crate::journal::format::segment::{BLOCK_BYTES, SegmentHeader};
use crate::journal::segment_index::AppendedRecord;

/// Payloads up to this length are copied beside their headers; larger ones are written from the record's payload.
const COPIED_BYTES: usize = 4096;

/// Bytes of the buffer that are kept from group to group.
const KEPT_BYTES: usize = 1 << 20;

/// The group that is written next, or was written last.
#[derive(Default)]
pub(super) struct Group {
    nonce: u64,
    /// Offset in the file at which the group's write starts: the segment's header goes with the first group.
    pub(super) start: u64,
    /// Offset in the file at which the group ends, as far as it is laid out.
    pub(super) end: u64,
    /// Headers, small payloads and padding.
    buffer: Vec<u8>,
    /// Start of the part of `buffer` that is in no piece yet.
    unassigned: usize,
    pieces: Vec<GroupPiece>,
    /// Its records and holes.
    pub(super) appended: Vec<AppendedRecord>,
    /// Number of waiting records in it.
    pub(super) requests: usize,
}

/// A piece of a group, in the order of the file.
enum GroupPiece {
    /// A part of the buffer.
    Copied(Range<usize>),
    /// The payload of the waiting record of this index.
    Payload(usize),
}

impl Group {
    /// Begins a group at offset `at` of a segment.
    pub(super) fn begin(&mut self, segment: &SegmentHeader, at: u64) {
        self.nonce = segment.nonce;
        (self.start, self.end) = (at, at);
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.unassigned = 0;
        self.pieces.clear();
        self.appended.clear();
        self.requests = 0;
        if at == BLOCK_BYTES {
            self.start = 0;
            self.buffer.extend_from_slice(&segment.encode());
        }
    }

    /// Adds the waiting record of this index.
    pub(super) fn push_waiting(&mut self, header: &RecordHeader, payload: &[u8], index: usize) {
        self.push_header(header);
        self.requests += 1;
        if payload.len() <= COPIED_BYTES {
            self.buffer.extend_from_slice(payload);
        } else {
            self.assign_buffer();
            self.pieces.push(GroupPiece::Payload(index));
        }
        self.pad(header.total_bytes() - (HEADER_BYTES + payload.len()) as u64);
    }

    /// Adds a record without a payload.
    pub(super) fn push_header(&mut self, header: &RecordHeader) {
        self.buffer.extend_from_slice(&header.encode(self.nonce));
        if header.class != RecordClass::SyncMarker {
            self.appended.push(AppendedRecord::new(header, self.end));
        }
        self.end += header.total_bytes();
    }

    /// Ends the group.
    pub(super) fn finish(&mut self) {
        let end = self.end.next_multiple_of(BLOCK_BYTES);
        self.pad(end - self.end);
        self.end = end;
        self.assign_buffer();
    }

    /// Returns the bytes of the whole group. `waiting` holds the records that were added.
    pub(super) fn slices<'a>(&'a self, waiting: &'a VecDeque<QueuedRecord>) -> Vec<IoSlice<'a>> {
        let slice = |piece: &GroupPiece| match piece {
            GroupPiece::Copied(range) => IoSlice::new(&self.buffer[range.clone()]),
            GroupPiece::Payload(index) => IoSlice::new(&waiting[*index].record.payload),
        };
        self.pieces.iter().map(slice).collect()
    }

    fn assign_buffer(&mut self) {
        let end = self.buffer.len();
        self.pieces.push(GroupPiece::Copied(self.unassigned..end));
        self.unassigned = end;
    }

    fn pad(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).expect("padding is less than a block");
        self.buffer.resize(self.buffer.len() + bytes, 0);
    }
}
