//! Finds the records of a segment, one after the other, whatever stands between them.
//!
//! **Invariant:** a damaged record costs itself alone: the next one is found by the segment's nonce and its own
//! checksum. Memory is one window, whatever the lengths in the file say.

use std::io;
use std::sync::Arc;

use super::disk::{DiskFile, read_full};
use super::record::{ALIGN, HEADER_BYTES, Header};
use super::segment::{BLOCK, BLOCK_BYTES};

/// What most of a segment is that is not full.
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A record whose header is whole; its payload may not be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) offset: u64,
}

impl Found {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.header.total_bytes()
    }

    pub(super) fn payload_offset(&self) -> u64 {
        self.offset + HEADER_BYTES as u64
    }
}

/// A walk over a segment's bytes.
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    nonce: u64,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

impl Scan {
    /// From `at`, a multiple of [`ALIGN`], to `end`; `window_bytes` are read at a time.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        nonce: u64,
        at: u64,
        end: u64,
        window_bytes: usize,
    ) -> Self {
        Self {
            file,
            nonce,
            at,
            end,
            window: Vec::new(),
            window_at: 0,
            window_bytes,
        }
    }

    /// The next whole header; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
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
                self.at += searched.len() as u64 / ALIGN * ALIGN;
                continue;
            };
            let offset = at + word as u64 * ALIGN;
            self.at = offset + ALIGN;
            let (nonce, end) = (self.nonce, self.end);
            if let Some(header) = Header::decode(self.view(offset, HEADER_BYTES)?, nonce) {
                let found = Found { header, offset };
                if found.end() <= end {
                    self.at = found.end();
                    return Ok(Some(found));
                }
            }
        }
    }

    /// The record whose whole header stands at `offset`.
    pub(super) fn record_at(&mut self, offset: u64) -> io::Result<Option<Found>> {
        let nonce = self.nonce;
        let header = Header::decode(self.view(offset, HEADER_BYTES)?, nonce);
        Ok(header.map(|header| Found { header, offset }))
    }

    /// Whether the payload is what was written.
    pub(super) fn verifies(&mut self, found: &Found) -> io::Result<bool> {
        Ok(self.checksum(found)? == Some(found.header.payload_checksum))
    }

    /// The checksum of the payload as it is; `None` when the file ends before it does.
    pub(super) fn checksum(&mut self, found: &Found) -> io::Result<Option<u32>> {
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

    /// Some of the bytes from `from` to `to`; none when the file ends before.
    pub(super) fn piece(&mut self, from: u64, to: u64) -> io::Result<&[u8]> {
        let most = usize::try_from(to - from).unwrap_or(usize::MAX);
        let view = self.view(from, 1)?;
        Ok(&view[..view.len().min(most)])
    }

    /// The payload's bytes as they are; fewer when the file ends before.
    pub(super) fn payload(&mut self, found: &Found) -> io::Result<Vec<u8>> {
        let length = found.header.payload_bytes as usize;
        if HEADER_BYTES + length <= self.window_bytes {
            let view = self.view(found.offset, HEADER_BYTES + length)?;
            return Ok(view
                .get(HEADER_BYTES..HEADER_BYTES + length)
                .unwrap_or_default()
                .to_vec());
        }
        self.bytes(
            found.payload_offset(),
            found.payload_offset() + length as u64,
        )
    }

    /// The bytes from `from` to `to`; fewer when the walk or the file ends before.
    pub(super) fn bytes(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(to.min(self.end).saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = read_full(&*self.file, &mut bytes, from)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// What the window holds from `offset` on: at least `wanted` bytes, unless the end comes before.
    fn view(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted_end = (offset + wanted as u64).min(self.end);
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset > window_end || wanted_end > window_end {
            let length = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.window
                .resize(length.min(self.window_bytes.max(wanted)), 0);
            self.window_at = offset;
            let read = read_full(&*self.file, &mut self.window, offset)?;
            self.window.truncate(read);
        }
        let skip = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(skip..).unwrap_or_default())
    }
}
