//! Handles writes that find the volume full although the file has its space, as on a file system that copies
//! overwritten blocks.
//!
//! **Invariant:** after such a write its file is left unchanged or removed, and no record is written before a group
//! without records was synced in another file. A file is sealed, or known to the rest of the journal, only if it has a
//! position.

use std::io::{self, IoSlice};
use std::time::Instant;

use crate::journal::append::append_thread::{ActiveSegment, AppendThread, timed_sync};
use crate::journal::disk::{is_full, write_all};
use crate::journal::format::record::{RecordClass, RecordHeader};
use crate::journal::format::segment::{BLOCK, BLOCK_BYTES};
use crate::journal::shared::now_unix_nano;

/// The failure of a group's write.
pub(super) enum GroupError {
    /// The write found the volume full; the group was not synced.
    Full,
    Disk(io::Error),
}

impl From<io::Error> for GroupError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl AppendThread {
    /// Writes the first group of a segment without a record: the positions of the failed group, as a hole.
    pub(super) fn begin_with_hole(&mut self, positions: u64) -> Result<(), GroupError> {
        let active = self.active.as_mut().expect("a segment was just taken");
        let (first, last) = (self.synced + 1, self.synced + positions);
        let mut header = if positions > 0 {
            RecordHeader::bare(RecordClass::Hole, first, last, self.synced)
        } else {
            RecordHeader::bare(
                RecordClass::SyncMarker,
                self.synced,
                self.synced,
                self.synced,
            )
        };
        let now = now_unix_nano();
        header.source.received_unix_nano = now;
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&active.segment.header.encode());
        self.buffer
            .extend_from_slice(&header.encode(active.segment.header.nonce));
        self.buffer.resize(2 * BLOCK, 0);
        write_group_at(active, &mut [IoSlice::new(&self.buffer)], 0)?;
        timed_sync(&*active.file)?;
        active.has_group = true;
        active.end = 2 * BLOCK_BYTES;
        self.last_sync = Instant::now();
        self.synced = last;
        self.unwritten = None;
        if positions > 0 {
            let bytes = header.total_bytes();
            active
                .segment
                .state()
                .begin_with_hole(positions, bytes, active.end, now);
            self.appended.clear();
            self.publish();
        }
        Ok(())
    }

    /// Leaves the segment unchanged, without a footer, after a write that found the volume full. Removes it if no
    /// position in it was synced.
    pub(super) fn leave(&mut self, positions: u64) {
        self.core.note_writable(false);
        self.unwritten = Some(positions);
        self.marker_at = self.synced;
        let left = self.active.take();
        self.show_room();
        let Some(active) = left else {
            return;
        };
        if !active.is_empty() {
            // Nothing more is appended to it; the next opening writes it again.
            active.segment.state().sealed = true;
        } else {
            self.core.discard(&active.segment);
        }
    }
}

/// Writes a group. With the first one, writes the header's copy into the last block.
pub(super) fn write_group_at(
    active: &ActiveSegment,
    slices: &mut [IoSlice<'_>],
    at: u64,
) -> Result<(), GroupError> {
    let write = |slices: &mut [IoSlice<'_>], at| match write_all(&*active.file, slices, at) {
        Err(error) if is_full(&error) => Err(GroupError::Full),
        written => Ok(written?),
    };
    if !active.has_group {
        let header = &active.segment.header;
        let copy = header.encode_last();
        write(&mut [IoSlice::new(&copy)], header.bytes - BLOCK_BYTES)?;
    }
    write(slices, at)
}
