//! The few file operations that the journal uses, and the real ones.
//!
//! **Invariant:** nothing else in the journal touches the file system.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Held as long as a lock is.
pub type LockGuard = Box<dyn std::any::Any + Send + Sync>;

/// Bytes of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free to us, which may be less than to root.
    pub free_bytes: u64,
    pub size_bytes: u64,
}

/// A file in the journal's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: PathBuf,
    pub bytes: u64,
}

/// The file operations of the journal; the crash tests bring a disk that forgets.
pub trait Disk: Send + Sync + 'static {
    /// Makes the directory (0700) and those above it, durably. No error when it is there.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks a file, made when absent, against every other opening. `None` when it is locked.
    ///
    /// # Errors
    /// The operating system's.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Returns an identifier of the file without spaces, which no copy of the file shares. Returns `None` if the disk
    /// has no such identifier.
    ///
    /// # Errors
    /// The operating system's.
    fn identity(&self, _path: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// The files of a directory, in the order of their names.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// Makes a new file (0600); its entry is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The operating system's; `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read and write.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file; durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes created and removed entries of a directory durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The space of the volume that holds `dir`.
    ///
    /// # Errors
    /// The operating system's.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file of the journal.
pub trait DiskFile: Send + Sync {
    /// Reads some bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Lets the system forget what it keeps of these bytes in memory, so that the next read asks the disk. A hint: nothing
    /// depends on it but the worth of a second read.
    fn forget(&self, _offset: u64, _bytes: u64) {}

    /// Writes some of the bytes, in the order of the slices.
    ///
    /// # Errors
    /// The operating system's.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Returns once all that was written, and the file's length, survive a power cut.
    ///
    /// # Errors
    /// The operating system's; what was written since the last sync may be lost then, whatever a later sync says.
    fn sync_data(&self) -> io::Result<()>;

    /// Gives a file its length, with the space to back it, and zeros where nothing was written.
    ///
    /// # Errors
    /// The operating system's; `StorageFull` when there is no such space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
}

/// Writes all of `slices`, however the system cuts it up.
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

/// Reads until `buffer` is full or the file ends; how much was read.
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
    const PASSING: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    PASSING
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The operating system's files.
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
            match made.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent)?,
                _ => self.sync_dir(Path::new("."))?,
            }
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
        // Some file systems know no time of birth; their inodes must do.
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
                // Gone since: a running journal is looked at.
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
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::options().read(true).write(true).open(path)?;
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
        // Pages that were not written back stay: they are not the disk's fault.
        let _ = rustix::fs::fadvise(self, offset, length, rustix::fs::Advice::DontNeed);
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        /// Linux takes no more slices in one call (IOV_MAX, limits.h).
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

/// For file systems that cannot allocate.
fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 256 << 10];
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
