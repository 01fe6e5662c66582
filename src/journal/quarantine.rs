//! Copies damaged segments, so that people can inspect them.
//!
//! **Invariant:** a copy is never read as a segment, and the number of copies is bounded.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::journal::disk::{Disk, DiskFile, Listed, read_full, write_all};
use crate::journal::shared::JournalSettings;

/// Maximum number of copies.
const COPIES: usize = 4;

const SUFFIX: &str = "damaged";

/// Copies `segment` to the same name with another ending. Makes no copy if there is one already, if there are enough of
/// others, or if the volume would be at its floor.
pub(super) fn quarantine_copy(disk: &dyn Disk, settings: &JournalSettings, segment: &Path) {
    if let Err(error) = try_quarantine_copy(disk, settings, segment) {
        tracing::warn!(path = %segment.display(), %error, "a damaged journal segment cannot be copied aside");
    }
}

fn try_quarantine_copy(
    disk: &dyn Disk,
    settings: &JournalSettings,
    segment: &Path,
) -> io::Result<()> {
    let dir = &settings.dir;
    let copy = segment.with_extension(SUFFIX);
    let files = disk.list(dir)?;
    let is_copy = |file: &&Listed| file.path.extension().is_some_and(|suffix| suffix == SUFFIX);
    if files.iter().filter(is_copy).count() >= COPIES {
        return Ok(());
    }
    let original = files.iter().find(|file| file.path == segment);
    let bytes = original.map_or(0, |file| file.bytes);
    if disk.space(dir)?.free_bytes < settings.free_floor_bytes.saturating_add(bytes) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let from = disk.open(segment)?;
    let to = match disk.create(&copy) {
        Ok(to) => to,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let copied = copy_bytes(&*from, &*to).and_then(|()| disk.sync_dir(dir));
    if copied.is_err() {
        disk.remove(&copy)?;
    }
    copied
}

fn copy_bytes(from: &dyn DiskFile, to: &dyn DiskFile) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        let read = read_full(from, &mut piece, at)?;
        if read == 0 {
            return to.sync_data();
        }
        write_all(to, &mut [IoSlice::new(&piece[..read])], at)?;
        at += read as u64;
    }
}
