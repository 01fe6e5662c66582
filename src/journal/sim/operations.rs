//! The operations of the test disk, with the injected faults.
//!
//! **Invariant:** a handle made before a power cut does nothing after it.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::disk::{Disk, DiskFile, Listed, LockGuard, Space};
use crate::journal::sim::image::Image;
use crate::journal::sim::{DirectRefusal, Fault, SimDisk};

struct SimFile {
    disk: SimDisk,
    id: u64,
    /// Returns whether injected faults count and meet its writes and syncs.
    is_segment: bool,
    cache: PageCache,
}

/// The part that the page cache has in the reads and writes of a handle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageCache {
    Used,
    Bypassed,
}

/// Bytes to which each address, offset and length of direct I/O is aligned.
const ALIGN: u64 = 4096;

/// A short direct write ends with a sector.
const SECTOR: usize = 512;

impl SimFile {
    /// Refuses direct reads and writes that are not aligned, as file systems do.
    fn check_aligned(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let length = bytes.len() as u64;
        let unaligned = |n: u64| !n.is_multiple_of(ALIGN);
        if self.cache == PageCache::Bypassed
            && (unaligned(bytes.as_ptr().addr() as u64) || unaligned(length) || unaligned(offset))
        {
            return Err(rustix::io::Errno::INVAL.into());
        }
        Ok(())
    }

    /// Returns the bytes of a write that is cut short after `bytes`.
    fn short(&self, bytes: usize) -> usize {
        match self.cache {
            PageCache::Used => bytes,
            PageCache::Bypassed => bytes / SECTOR * SECTOR,
        }
    }

    fn refuse_direct(&self, at: DirectRefusal) -> io::Result<()> {
        let refusal = self.disk.inner().direct_refusal;
        if self.cache == PageCache::Bypassed && refusal == Some(at) {
            return Err(rustix::io::Errno::INVAL.into());
        }
        Ok(())
    }
}

impl SimDisk {
    fn open_with(&self, path: &Path, cache: PageCache) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.alive()?;
        if inner.starved {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let id = *inner.live.get(path).ok_or(ErrorKind::NotFound)?;
        if cache == PageCache::Bypassed && inner.direct_refusal == Some(DirectRefusal::Open) {
            return Err(rustix::io::Errno::INVAL.into());
        }
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            is_segment: is_segment(path),
            cache,
        }))
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "seg")
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.cuts == self.disk.born {
            inner.locked.remove(&self.path);
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut inner = self.alive()?;
        if !inner.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        // Another process has nothing in flight, and drops the pages that it finds.
        inner.written_directly.clear();
        drop(inner);
        Ok(Some(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
        })))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let inner = self.alive()?;
        Ok(inner
            .live
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, id)| Listed {
                path: path.clone(),
                bytes: inner.files[id].live.len() as u64,
            })
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.changing()?;
        if inner.starved {
            return Err(rustix::io::Errno::MFILE.into());
        }
        if inner.live.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(id, Image::default());
        inner.live.insert(path.to_owned(), id);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            is_segment: is_segment(path),
            cache: PageCache::Used,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, PageCache::Used)
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, PageCache::Bypassed)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.changing()?;
        if inner.unremovable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        inner
            .live
            .remove(path)
            .map(drop)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.changing()?;
        let live = inner.live.clone();
        inner.durable.retain(|path, _| path.parent() != Some(dir));
        inner.durable.extend(live);
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        Ok(self.alive()?.space)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_aligned(buffer, offset)?;
        self.refuse_direct(DirectRefusal::FirstRead)?;
        let mut inner = self.disk.alive()?;
        if self.cache == PageCache::Used && inner.written_directly.contains(&self.id) {
            return Err(io::Error::other(
                "a file that was written directly is read through the page cache",
            ));
        }
        let live = &inner.files[&self.id].live;
        let from = usize::try_from(offset).unwrap().min(live.len());
        let length = buffer.len().min(live.len() - from);
        buffer[..length].copy_from_slice(&live[from..from + length]);
        inner.reads += 1;
        if inner.misread_every > 0 && inner.reads.is_multiple_of(inner.misread_every) && length > 0
        {
            // At another place each time.
            let at = usize::try_from(inner.reads.wrapping_mul(0x9e37_79b9) >> 3).unwrap() % length;
            buffer[at] ^= 0x10;
        }
        if let Some((file, at, times)) = &mut inner.misread_byte
            && *file == self.id
            && *times > 0
            && (from..from + length).contains(at)
        {
            buffer[*at - from] ^= 0x10;
            *times -= 1;
        }
        Ok(length)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.refuse_direct(DirectRefusal::FirstWrite)?;
        let mut inner = self.disk.changing()?;
        if self.cache == PageCache::Bypassed {
            for slice in slices {
                self.check_aligned(slice, offset)?;
            }
            inner.written_directly.insert(self.id);
            inner.direct_writes += 1;
        } else if inner.written_directly.contains(&self.id) {
            return Err(io::Error::other(
                "a file that was written directly is written through the page cache",
            ));
        }
        inner.writes += u64::from(self.is_segment);
        let k = if self.is_segment { inner.writes } else { 0 };
        if inner.failed.contains(&self.id) {
            inner
                .after_failure
                .push(format!("write {} at {offset}", self.id));
        }
        let mut bytes = Vec::new();
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        if inner.faults.contains(&Fault::InterruptedWrite(k)) {
            return Err(ErrorKind::Interrupted.into());
        }
        if inner.faults.contains(&Fault::FullWrite(k)) {
            return Err(ErrorKind::StorageFull.into());
        }
        if inner.faults.contains(&Fault::ShortWrite(k)) {
            bytes.truncate(self.short((bytes.len() / 3).max(1)));
        }
        if let Some(room) = inner.room {
            if room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let left = self.short(room.min(bytes.len()));
            if left == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            bytes.truncate(left);
            inner.room = Some(room - bytes.len());
        }
        let written = bytes.len();
        inner.largest_write = inner.largest_write.max(written);
        let image = inner.files.get_mut(&self.id).unwrap();
        image.write(bytes, usize::try_from(offset).unwrap());
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.changing()?;
        if inner.syncs_held {
            inner.syncs_waiting += 1;
            self.disk.inner.1.notify_all();
            inner = self
                .disk
                .inner
                .1
                .wait_while(inner, |inner| inner.syncs_held)
                .unwrap();
            inner.syncs_waiting -= 1;
            if inner.cuts != self.disk.born {
                return Err(io::Error::other("the power was cut"));
            }
        }
        inner.syncs += 1;
        inner.segment_syncs += u64::from(self.is_segment);
        let k = if self.is_segment {
            inner.segment_syncs
        } else {
            0
        };
        if inner.failed.contains(&self.id) {
            inner.after_failure.push(format!("sync {}", self.id));
        }
        if inner.faults.contains(&Fault::Panic(k)) {
            drop(inner);
            panic!("the test disk panics");
        }
        if inner.faults.contains(&Fault::Sync(k)) {
            inner.failed.insert(self.id);
            // Like Linux: the pages count as clean now, and are not on the disk.
            inner.files.get_mut(&self.id).unwrap().dirty.clear();
            return Err(io::Error::other("the disk failed"));
        }
        inner.files.get_mut(&self.id).unwrap().sync();
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.disk.changing()?;
        if inner.files[&self.id].live.len() as u64 >= bytes {
            return Ok(());
        }
        if inner.room == Some(0) {
            return Err(ErrorKind::StorageFull.into());
        }
        inner.allocations += 1;
        let k = inner.allocations;
        if inner.faults.contains(&Fault::FullAllocation(k)) {
            return Err(ErrorKind::StorageFull.into());
        }
        let image = inner.files.get_mut(&self.id).unwrap();
        image.live.resize(usize::try_from(bytes).unwrap(), 0);
        Ok(())
    }
}
