//! The file operations that the journal uses, and their implementation by the operating system.
//!
//! **Invariant:** nothing else in the journal touches the file system.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::journal::aligned_buffer::{ALIGN, AlignedBuffer};

/// Holds the lock of a file until it is dropped.
pub type LockGuard = Box<dyn std::any::Any + Send + Sync>;

/// The space of a volume, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free for this process; the system may keep a further reserve for root.
    pub free_bytes: u64,
    pub size_bytes: u64,
}

/// A file in the journal's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: PathBuf,
    pub bytes: u64,
}

/// The file operations of the journal. The crash tests implement it by a disk that forgets unsynced writes.
pub trait Disk: Send + Sync + 'static {
    /// Creates the directory (mode 0700) and its missing parents. They are durable when this returns. A directory that
    /// exists is not an error.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks the file against every other opening, and creates it (mode 0600) if it is absent. Returns `None` if
    /// another opening holds the lock. The lock lasts until the guard is dropped.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Returns an identifier of the file without spaces, which no copy of the file shares. Returns `None` if the disk
    /// has no such identifier.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn identity(&self, _path: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// Returns the regular files of a directory, sorted by path. Files that vanish meanwhile are left out.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// Creates a file (mode 0600) and opens it to read and write. Its directory entry is durable only after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one; of kind `AlreadyExists` if the file exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file to read and write.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file to read and write past the page cache. The address, offset and length of each read and
    /// write must be multiples of 4096; a read may return less at the end of the file.
    ///
    /// # Errors
    /// [`io::Error`] of kind `Unsupported` if the file system states that it has no direct I/O, or none with this
    /// alignment; else the one that the operating system reports. A file system that states nothing may refuse the
    /// first read or write instead.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file. The removal is durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes all earlier creations and removals of files in the directory durable before it returns.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns the space of the volume that holds `dir`.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file of the journal. Any number of threads may call its operations at once.
pub trait DiskFile: Send + Sync {
    /// Reads at `offset` into the buffer, and returns the number of bytes read. It may be less than the buffer's
    /// length, and is 0 at the end of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Asks the system to drop its cached copy of these bytes, so that the next read comes from the disk. This is a
    /// hint: if it is ignored, only a second read is worth less.
    fn forget(&self, _offset: u64, _bytes: u64) {}

    /// Writes the slices one after the other at `offset`, and returns the number of bytes written. It may be less than
    /// their total length. The bytes are durable only after [`DiskFile::sync_data`].
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes all earlier writes to the file, and its length, durable before it returns: they survive a power cut.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one. Then all writes since the last successful sync may be lost,
    /// whatever a later sync reports.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets the length of the file to at least `bytes`, and reserves space on the volume for all of them. Bytes that
    /// were never written read as zeros. A file system that cannot allocate gets zeros written over all of these bytes:
    /// callers must not need the file's earlier contents.
    ///
    /// # Errors
    /// [`io::Error`] if the operating system reports one; of kind `StorageFull` if the volume lacks the space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
}

/// Writes all of `slices`, in as many writes as the system needs.
pub(super) fn write_all(
    file: &dyn DiskFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_at(slices, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut slices, written);
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends. Returns the number of bytes read.
pub(super) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Returns whether the error reports that the volume, or our quota on it, is used up.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Returns whether the error reports a shortage of the system (descriptors, memory) that may end soon.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        for made in missing {
            let parent = made.parent().filter(|path| !path.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn identity(&self, path: &Path) -> io::Result<Option<String>> {
        let metadata = std::fs::metadata(path)?;
        // Some file systems record no time of birth; there the inode alone identifies the file.
        let born = metadata.created().ok();
        let born = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let nanoseconds = born.unwrap_or_default().as_nanos();
        Ok(Some(format!("{}-{nanoseconds}", metadata.ino())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed since the listing: a running journal may be listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_file() {
                files.push(Listed {
                    path: entry.path(),
                    bytes: metadata.len(),
                });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(direct)
            .open(path)?;
        check_alignment(&file)?;
        Ok(Arc::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let volume = rustix::io::retry_on_intr(|| rustix::fs::statvfs(dir))?;
        Ok(Space {
            free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
            size_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
        })
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn forget(&self, offset: u64, bytes: u64) {
        let length = std::num::NonZeroU64::new(bytes);
        // The system keeps pages that were not written back yet: these cannot be wrong because of the disk.
        let _ = rustix::fs::fadvise(self, offset, length, rustix::fs::Advice::DontNeed);
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        /// The maximum number of slices in one call of Linux (IOV_MAX, limits.h).
        const MOST_SLICES: usize = 1024;
        let slices = &slices[..slices.len().min(MOST_SLICES)];
        Ok(rustix::io::pwritev(self, slices, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let allocate =
            || rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, bytes);
        match rustix::io::retry_on_intr(allocate) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                write_zeros(self, bytes)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Checks the alignment that the file system demands of direct I/O (statx(2), `STATX_DIOALIGN`, since Linux 6.1). One
/// that does not state it is tried instead.
fn check_alignment(file: &File) -> io::Result<()> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let Ok(stated) = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Ok(());
    };
    if stated.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Ok(());
    }
    let (memory, offset) = (stated.stx_dio_mem_align, stated.stx_dio_offset_align);
    let refusal = if memory == 0 || offset == 0 {
        "the file system has no direct I/O for this file".to_owned()
    } else if memory.max(offset) as usize > ALIGN {
        format!("the file system demands direct I/O in multiples of {memory} and {offset} bytes")
    } else {
        return Ok(());
    };
    Err(io::Error::new(ErrorKind::Unsupported, refusal))
}

/// Writes zeros instead, for file systems that cannot allocate.
fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = AlignedBuffer::zeroed(256 << 10);
    let mut at = 0;
    while at < bytes {
        let piece = usize::try_from(bytes - at)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        write_all(file, &mut [IoSlice::new(&zeros[..piece])], at)?;
        at += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_cannot_allocate_gets_the_zeros_written() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [0, 1, 256 << 10, (1 << 20) + 4096] {
            let path = dir.path().join(bytes.to_string());
            let file = OsDisk.create(&path).unwrap();
            write_zeros(&*file, bytes).unwrap();
            let content = std::fs::read(&path).unwrap();
            assert_eq!(content.len() as u64, bytes);
            assert!(content.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_is_allocated_reads_as_zeros_and_takes_space() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = OsDisk.create(&path).unwrap();
        file.allocate(1 << 20).unwrap();
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (metadata.len(), metadata.blocks() * 512),
            (1 << 20, 1 << 20)
        );
    }
}
