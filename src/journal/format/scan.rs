//! Finds the records of a segment in order, whatever bytes lie between them.
//!
//! **Invariant:** a damaged record costs itself alone: the next one is found by the segment's nonce and its own
//! checksum. Nothing counts as damaged that one of [`READS`] reads finds whole. Memory is one window, whatever lengths
//! the file states.

use std::io;
use std::sync::Arc;

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::{DiskFile, read_full};
use crate::journal::format::record::{ALIGN, HEADER_BYTES, RecordClass, RecordHeader};
use crate::journal::format::segment::{BLOCK, BLOCK_BYTES};

/// A block of zeros, as in the unused rest of a segment.
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Reads of the same bytes before they count as damaged: disks, cables and memory return wrong bytes that the next read
/// returns right.
pub(in crate::journal) const READS: u32 = 8;

/// A record whose header is whole; its payload may not be.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct ScannedRecord {
    pub(in crate::journal) header: RecordHeader,
    pub(in crate::journal) offset: u64,
}

impl ScannedRecord {
    pub(in crate::journal) fn end(&self) -> u64 {
        self.offset + self.header.total_bytes()
    }

    /// Its position. For a sync marker: the position after those before it.
    fn first(&self) -> u64 {
        let is_marker = self.header.class == RecordClass::SyncMarker;
        self.header.position.saturating_add(u64::from(is_marker))
    }

    pub(in crate::journal) fn payload_offset(&self) -> u64 {
        self.offset + HEADER_BYTES as u64
    }
}

/// A payload that was read.
pub(in crate::journal) enum ScannedPayload {
    /// The bytes that were written.
    Whole(Vec<u8>),
    /// Other bytes, as the last read returned them; fewer if the file ends before.
    Damaged(Vec<u8>),
}

impl ScannedPayload {
    pub(in crate::journal) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) | Self::Damaged(bytes) => bytes,
        }
    }
}

/// A walk over a segment's bytes.
pub(in crate::journal) struct SegmentScan {
    file: Arc<dyn DiskFile>,
    nonce: u64,
    at: u64,
    end: u64,
    /// The position that the next record has, unless something before it is lost.
    expected_position: u64,
    /// The scan ignored bytes that are neither zeros nor a record.
    skipped_damage: bool,
    /// The first `filled` bytes are those of the file from `window_at` on; the others are of earlier reads.
    window: AlignedBuffer,
    window_at: u64,
    filled: usize,
}

impl SegmentScan {
    /// Starts at offset `at`, a multiple of [`ALIGN`], where the record of position `awaited` should be, and ends at
    /// offset `end`. The window is filled by each read, and has two or more whole blocks.
    pub(in crate::journal) fn new(
        file: Arc<dyn DiskFile>,
        nonce: u64,
        (awaited, at): (u64, u64),
        end: u64,
        window: AlignedBuffer,
    ) -> Self {
        Self {
            file,
            nonce,
            at,
            end,
            expected_position: awaited,
            skipped_damage: false,
            window,
            window_at: 0,
            filled: 0,
        }
    }

    /// Returns the next whole header; `None` at the end. If a record seems to be lost before it, that part is read
    /// again first.
    pub(in crate::journal) fn next(&mut self) -> io::Result<Option<ScannedRecord>> {
        let from = self.at;
        let mut reads = 1;
        loop {
            self.skipped_damage = false;
            let found = self.search()?;
            let (lost, most) = match &found {
                Some(found) => (found.first() > self.expected_position, READS),
                None => (self.skipped_damage, 2),
            };
            if !lost || reads == most {
                if let Some(found) = &found {
                    self.expected_position = self
                        .expected_position
                        .max(found.header.last_position.saturating_add(1));
                }
                return Ok(found);
            }
            reads += 1;
            self.forget(from, self.at);
            self.at = from;
        }
    }

    /// Drops these bytes from the window and from the system's memory.
    pub(in crate::journal) fn forget(&mut self, from: u64, to: u64) {
        self.filled = 0;
        self.file.forget(from, to.saturating_sub(from));
    }

    fn search(&mut self) -> io::Result<Option<ScannedRecord>> {
        let sought = self.nonce.to_le_bytes();
        loop {
            let at = self.at;
            let view = self.view(at, HEADER_BYTES)?;
            if view.len() < HEADER_BYTES {
                return Ok(None);
            }
            if let Some(first) = view.first_chunk::<BLOCK>()
                && *first == ZEROS
            {
                self.at += BLOCK_BYTES;
                continue;
            }
            let searched = &view[..view.len().min(BLOCK)];
            let mut words = searched.chunks_exact(sought.len());
            let Some(word) = words.position(|word| *word == sought) else {
                let step = searched.len() as u64 / ALIGN * ALIGN;
                self.skipped_damage |= searched.iter().any(|byte| *byte != 0);
                self.at += step;
                continue;
            };
            let offset = at + word as u64 * ALIGN;
            self.at = offset + ALIGN;
            self.skipped_damage = true;
            let (nonce, end) = (self.nonce, self.end);
            if let Some(header) = RecordHeader::decode(self.view(offset, HEADER_BYTES)?, nonce) {
                let found = ScannedRecord { header, offset };
                if found.end() <= end {
                    self.at = found.end();
                    return Ok(Some(found));
                }
            }
        }
    }

    /// Returns the record at `offset`, if its header is whole.
    pub(in crate::journal) fn record_at(
        &mut self,
        offset: u64,
    ) -> io::Result<Option<ScannedRecord>> {
        let nonce = self.nonce;
        for _ in 0..READS {
            let header = RecordHeader::decode(self.view(offset, HEADER_BYTES)?, nonce);
            if let Some(header) = header {
                return Ok(Some(ScannedRecord { header, offset }));
            }
            self.forget(offset, offset + HEADER_BYTES as u64);
        }
        Ok(None)
    }

    /// Returns whether one of [`READS`] reads finds the payload as it was written.
    pub(in crate::journal) fn verifies(&mut self, found: &ScannedRecord) -> io::Result<bool> {
        for _ in 0..READS {
            if self.checksum(found)? == Some(found.header.payload_checksum) {
                return Ok(true);
            }
            self.forget(found.offset, found.end());
        }
        Ok(false)
    }

    /// Returns the checksum of the payload as the disk returns it; `None` if the file ends within it.
    pub(in crate::journal) fn checksum(
        &mut self,
        found: &ScannedRecord,
    ) -> io::Result<Option<u32>> {
        let mut at = found.payload_offset();
        let end = at + u64::from(found.header.payload_bytes);
        let mut checksum = 0;
        while at < end {
            let piece = self.piece(at, end)?;
            if piece.is_empty() {
                return Ok(None);
            }
            checksum = crc32c::crc32c_append(checksum, piece);
            at += piece.len() as u64;
        }
        Ok(Some(checksum))
    }

    /// Returns some of the bytes from `from` to `to`; none if the file ends before.
    pub(in crate::journal) fn piece(&mut self, from: u64, to: u64) -> io::Result<&[u8]> {
        let most = usize::try_from(to - from).unwrap_or(usize::MAX);
        let view = self.view(from, 1)?;
        Ok(&view[..view.len().min(most)])
    }

    /// Reads the payload until a read returns it as it was written, at most [`READS`] times.
    pub(in crate::journal) fn payload(
        &mut self,
        found: &ScannedRecord,
    ) -> io::Result<ScannedPayload> {
        let mut payload = Vec::new();
        for _ in 0..READS {
            payload = self.payload_as_it_is(found)?;
            if crc32c::crc32c(&payload) == found.header.payload_checksum {
                return Ok(ScannedPayload::Whole(payload));
            }
            self.forget(found.offset, found.end());
        }
        Ok(ScannedPayload::Damaged(payload))
    }

    /// Copies what the window has of the payload, and reads the rest into its place. Returns fewer bytes if the file ends
    /// before.
    fn payload_as_it_is(&mut self, found: &ScannedRecord) -> io::Result<Vec<u8>> {
        let length = found.header.payload_bytes as usize;
        let view = self.view(found.offset, HEADER_BYTES)?;
        let held = view.get(HEADER_BYTES..).unwrap_or_default();
        if let Some(payload) = held.get(..length) {
            return Ok(payload.to_vec());
        }
        let mut payload = vec![0; length];
        let held_bytes = held.len();
        payload[..held_bytes].copy_from_slice(held);
        let rest = found.payload_offset() + held_bytes as u64;
        let read = read_full(&*self.file, &mut payload[held_bytes..], rest)?;
        payload.truncate(held_bytes + read);
        Ok(payload)
    }

    /// Returns the bytes from `from` to `to`; fewer if the walk or the file ends before.
    pub(in crate::journal) fn bytes(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(to.min(self.end).saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = read_full(&*self.file, &mut bytes, from)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Returns the window's bytes from `offset` on: at least `wanted` bytes, unless the walk or the file ends before.
    fn view(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted_end = (offset + wanted as u64).min(self.end);
        let window_end = self.window_at + self.filled as u64;
        if offset < self.window_at || offset > window_end || wanted_end > window_end {
            // Whole blocks come from the disk without a copy.
            self.filled = 0;
            self.window_at = offset / BLOCK_BYTES * BLOCK_BYTES;
            let left = usize::try_from(self.end.saturating_sub(self.window_at));
            let left = left.unwrap_or(usize::MAX);
            let length = self.window.len().min(left.next_multiple_of(BLOCK));
            let read = read_full(&*self.file, &mut self.window[..length], self.window_at)?;
            self.filled = read.min(left);
        }
        let skip = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window[..self.filled].get(skip..).unwrap_or_default())
    }

    /// Returns the memory of the window, for another walk.
    pub(in crate::journal) fn into_window(self) -> AlignedBuffer {
        self.window
    }
}

/// Returns the first record of a segment whose header is lost, and its nonce. Looks at the starts of groups only.
pub(in crate::journal) fn first_record(
    file: &dyn DiskFile,
    end: u64,
) -> io::Result<Option<(u64, RecordHeader)>> {
    let mut window = vec![0; 64 * BLOCK];
    let mut at = BLOCK_BYTES;
    while at < end {
        let read = read_full(file, &mut window, at)?;
        for block in window[..read].chunks(BLOCK) {
            let Some(nonce) = block.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
                continue;
            };
            if nonce == 0 || block.len() < HEADER_BYTES {
                continue;
            }
            if let Some(header) = RecordHeader::decode(block, nonce) {
                return Ok(Some((nonce, header)));
            }
        }
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    Ok(None)
}
