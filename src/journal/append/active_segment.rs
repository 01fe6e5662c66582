//! The segment that the append thread appends to.
//!
//! **Invariant:** a segment's first group is written together with its header. A volume that is full is no failure of
//! the disk, but a failed sync always is, whatever its cause.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use crate::telemetry::metrics::JOURNAL_SYNC_SECONDS;

use crate::journal::disk::{DiskFile, is_full, write_all};
use crate::journal::format::segment::{BLOCK_BYTES, Footer};
use crate::journal::segment_index::Segment;

/// The segment that is appended to.
pub(super) struct ActiveSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn DiskFile>,
    /// Offset at which the next group starts.
    pub(super) end: u64,
    /// The file `positions` has a position of it.
    pub(super) is_noted: bool,
    /// The time of the next check of its age, after which it may be sealed; `None` = never.
    pub(super) seal_at: Option<Instant>,
}

/// The outcome of a write whose errors are only those of a failed disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Synced,
    /// The write found the volume full, as on a file system that copies overwritten blocks; nothing was synced.
    VolumeFull,
}

impl ActiveSegment {
    /// Returns the bytes that are left for groups.
    pub(super) fn room(&self) -> u64 {
        self.segment.header.bytes - BLOCK_BYTES - self.end
    }

    /// Writes a group at offset `at` and syncs it; with the first group goes the header's copy in the last block.
    pub(super) fn write_group(
        &self,
        slices: &mut [IoSlice<'_>],
        at: u64,
    ) -> io::Result<WriteOutcome> {
        let header = &self.segment.header;
        let written = if at == 0 {
            let copy = header.encode_last();
            let last_block = header.bytes - BLOCK_BYTES;
            write_all(&*self.file, &mut [IoSlice::new(&copy)], last_block)
        } else {
            Ok(())
        };
        self.sync_after(written.and_then(|()| write_all(&*self.file, slices, at)))
    }

    /// Writes the footer and syncs it.
    pub(super) fn write_footer(&self) -> io::Result<WriteOutcome> {
        let header = self.segment.header;
        let contents = self.segment.contents();
        let footer = Footer { header, contents }.encode();
        let last_block = header.bytes - BLOCK_BYTES;
        let footer = &mut [IoSlice::new(&footer)];
        self.sync_after(write_all(&*self.file, footer, last_block))
    }

    fn sync_after(&self, written: io::Result<()>) -> io::Result<WriteOutcome> {
        match written {
            Ok(()) => {
                let began = Instant::now();
                self.file.sync_data()?;
                metrics::histogram!(JOURNAL_SYNC_SECONDS).record(began.elapsed().as_secs_f64());
                Ok(WriteOutcome::Synced)
            }
            Err(error) if is_full(&error) => Ok(WriteOutcome::VolumeFull),
            Err(error) => Err(error),
        }
    }
}
