//! A disk whose segments are read and written past the system's page cache.
//!
//! Writing a segment through the page cache copies each byte into a page that is never read again. It costs several
//! times the CPU of a direct write, and crowds out pages that others need.
//!
//! **Invariant:** while this disk is in use, no segment is read or written through the page cache, where pages behind
//! the newest record may be older than the disk. All other files are small, and are.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::journal::aligned_buffer::{ALIGN, AlignedBuffer, is_aligned};
use crate::journal::disk::{Disk, DiskFile, Listed, LockGuard, Space};
use crate::journal::recovery::segment_files::number;
use crate::journal::shared::lock;

/// Maximum bytes of one write, and of one read at any offset.
const PIECE_BYTES: usize = 1 << 20;

/// Number of buffers that are kept: one for the append thread, one for all others.
const KEPT_BUFFERS: usize = 2;

/// Number of writes of the same bytes, if each is cut short before the end of the first block.
const TRIES: u32 = 8;

/// The disk; all of its files share the buffers.
pub(super) struct DirectDisk {
    disk: Arc<dyn Disk>,
    buffers: Arc<AlignedBuffers>,
}

/// A segment. Reads may begin and end anywhere; writes begin and end at multiples of [`ALIGN`].
struct DirectFile {
    file: Arc<dyn DiskFile>,
    buffers: Arc<AlignedBuffers>,
}

/// Buffers for the bytes on their way to or from the disk.
#[derive(Default)]
struct AlignedBuffers(Mutex<Vec<AlignedBuffer>>);

impl DirectDisk {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            buffers: Arc::default(),
        }
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(DirectFile {
            file: self.disk.open_direct(path)?,
            buffers: self.buffers.clone(),
        }))
    }
}

impl Disk for DirectDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.disk.lock(path)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<String>> {
        self.disk.identity(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let created = self.disk.create(path)?;
        if number(path).is_none() {
            return Ok(created);
        }
        let opened = self.open_segment(path);
        if opened.is_err() {
            // If it stays, the next opening removes it: it is empty.
            let _ = self.disk.remove(path);
        }
        opened
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match number(path) {
            Some(_) => self.open_segment(path),
            None => self.disk.open(path),
        }
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_direct(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
}

impl DiskFile for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // The disk's bytes need no copy.
        if is_aligned(buffer) && offset.is_multiple_of(ALIGN as u64) {
            return self.file.read_at(buffer, offset);
        }
        let before = usize::try_from(offset % ALIGN as u64).unwrap_or(0);
        let wanted = before.saturating_add(buffer.len());
        self.buffers.lend(|blocks| {
            let length = wanted.next_multiple_of(ALIGN).min(blocks.len());
            let read = self
                .file
                .read_at(&mut blocks[..length], offset - before as u64)?;
            let found = &blocks[before.min(read)..wanted.min(read)];
            buffer[..found.len()].copy_from_slice(found);
            Ok(found.len())
        })
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match slices {
            [blocks] if is_aligned(blocks) => self.write_blocks(blocks, offset),
            _ => self.buffers.lend(|blocks| {
                let length = gather(slices, &mut blocks[..PIECE_BYTES]);
                self.write_blocks(&blocks[..length], offset)
            }),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
}

impl DirectFile {
    /// Writes the first of these blocks, and returns the number of whole blocks written, in bytes. The part of a block
    /// that a short write ends with is written again by the next write.
    fn write_blocks(&self, blocks: &[u8], offset: u64) -> io::Result<usize> {
        for _ in 0..TRIES {
            let written = self.file.write_at(&[IoSlice::new(blocks)], offset)?;
            if written >= ALIGN || written == 0 {
                return Ok(written / ALIGN * ALIGN);
            }
        }
        Err(ErrorKind::WriteZero.into())
    }
}

impl AlignedBuffers {
    /// Calls `transfer` with a buffer for a piece that begins within a block.
    fn lend<T>(&self, transfer: impl FnOnce(&mut AlignedBuffer) -> T) -> T {
        let kept = lock(&self.0).pop();
        let mut buffer = kept.unwrap_or_else(|| AlignedBuffer::zeroed(PIECE_BYTES + ALIGN));
        let transferred = transfer(&mut buffer);
        let mut kept = lock(&self.0);
        if kept.len() < KEPT_BUFFERS {
            kept.push(buffer);
        }
        transferred
    }
}

/// Copies the slices one after the other until the buffer is full. Returns the number of bytes copied.
fn gather(slices: &[IoSlice<'_>], buffer: &mut [u8]) -> usize {
    let mut length = 0;
    for slice in slices {
        let left = &mut buffer[length..];
        let copied = slice.len().min(left.len());
        left[..copied].copy_from_slice(&slice[..copied]);
        length += copied;
    }
    length
}
