//! The way in which segments are read and written: directly, or through the system's page cache.
//!
//! **Invariant:** an opening decides it before it changes a segment, and nothing changes it later: an append that fails
//! is never tried in another way.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::journal::OpenError;
use crate::journal::aligned_buffer::{ALIGN, AlignedBuffer};
use crate::journal::direct_disk::DirectDisk;
use crate::journal::disk::{Disk, DiskFile, read_full, write_all};
use crate::journal::format::scan::READS;
use crate::journal::recovery::SMALLEST_SEGMENT;
use crate::journal::recovery::segment_files::{SegmentFileKind, number, read_ends, segment_path};

/// The way in which segments are read and written, as set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoSetting {
    /// Directly if that works, else through the page cache.
    #[default]
    Auto,
    /// Directly; an error if that does not work.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// The way in which segments are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    Direct,
    #[default]
    Buffered,
}

impl IoMode {
    /// Returns its name, as in the setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

/// Returns the disk of a journal that is opened, and its mode. Direct I/O is used if it can write, sync and read a block
/// of a spare.
///
/// # Errors
/// [`OpenError::NoDirectIo`] if direct I/O is demanded and does not work.
pub(super) fn choose(
    disk: Arc<dyn Disk>,
    dir: &Path,
    setting: IoSetting,
) -> Result<(Arc<dyn Disk>, IoMode), OpenError> {
    if setting == IoSetting::Buffered {
        return Ok((disk, IoMode::Buffered));
    }
    let direct = DirectDisk::new(disk.clone());
    match try_spare(&direct, dir) {
        Ok(()) => Ok((Arc::new(direct), IoMode::Direct)),
        Err(error) if setting == IoSetting::Auto => {
            tracing::info!(
                dir = %dir.display(), %error,
                "direct I/O does not work in this directory: the journal is read and written through the page cache, which \
                 costs more CPU"
            );
            Ok((disk, IoMode::Buffered))
        }
        Err(error) => Err(OpenError::NoDirectIo {
            dir: dir.to_owned(),
            error,
        }),
    }
}

/// Returns the disk of a journal that is only read, and may be in use: direct, unless the setting forbids it or a
/// segment cannot be read so.
pub(super) fn choose_to_read(disk: Arc<dyn Disk>, dir: &Path, setting: IoSetting) -> Arc<dyn Disk> {
    let direct = DirectDisk::new(disk.clone());
    if setting == IoSetting::Buffered || try_read(&direct, dir).is_err() {
        return disk;
    }
    Arc::new(direct)
}

/// Writes a block of a spare, or of a new file if there is no spare, and reads it.
fn try_spare(disk: &DirectDisk, dir: &Path) -> io::Result<()> {
    let mut next = 1;
    for file in disk.list(dir)?.iter().rev() {
        let Some(number) = number(&file.path) else {
            continue;
        };
        next = next.max(number + 1);
        if file.bytes < SMALLEST_SEGMENT {
            continue;
        }
        // A file that was written directly is not read in another way before this is decided.
        let found = read_ends(disk, &file.path, file.bytes)?;
        if found.kind == SegmentFileKind::Spare {
            return try_block(&*disk.open(&file.path)?);
        }
    }
    let path = segment_path(dir, next);
    let tried = disk.create(&path).and_then(|file| try_block(&*file));
    // If it stays, the opening that goes on removes it, as it is too short for a segment.
    let _ = disk.remove(&path);
    tried
}

/// Writes zeros over the first block of a spare, where a spare has zeros.
fn try_block(file: &dyn DiskFile) -> io::Result<()> {
    let mut block = AlignedBuffer::zeroed(ALIGN);
    write_all(file, &mut [io::IoSlice::new(&block)], 0)?;
    file.sync_data()?;
    for _ in 0..READS {
        block.fill(1);
        let read = read_full(file, &mut block, 0)?;
        if read == ALIGN && block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
    }
    Err(io::Error::other("a block is read that was not written"))
}

fn try_read(disk: &DirectDisk, dir: &Path) -> io::Result<()> {
    let files = disk.list(dir)?;
    match files.iter().find(|file| number(&file.path).is_some()) {
        Some(file) => read_full(&*disk.open(&file.path)?, &mut [0; ALIGN], 0).map(drop),
        None => Ok(()),
    }
}
