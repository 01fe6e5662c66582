//! The operating system's disk, with slow syncs of files.
//!
//! **Invariant:** a sync takes at least the given time, and nothing else differs.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ruvvector_service::journal::disk::{Disk, DiskFile, Listed, LockGuard, OsDisk, Space};

/// The minimum duration of a sync.
#[derive(Clone, Copy, Debug)]
pub struct SlowDisk(pub Duration);

struct SlowFile {
    file: Arc<dyn DiskFile>,
    sync: Duration,
}

impl SlowDisk {
    fn slow(self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SlowFile { file, sync: self.0 })
    }
}

impl Disk for SlowDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        OsDisk.lock(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        OsDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.slow(OsDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.slow(OsDisk.open(path)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.slow(OsDisk.open_direct(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        OsDisk.space(dir)
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(slices, offset)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the journal syncs on a thread of its own"
    )]
    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.sync);
        self.file.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
}
