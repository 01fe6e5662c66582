//! Detects whether this data directory is a copy of another one.
//!
//! The file `lock` holds its own identity (see [`Disk::identity`]) and the number of the first opening in its
//! directory. The lock of a copied directory has another identity than the one written in it. If the disk has no such
//! identity, every stream counts as begun here.
//!
//! **Invariant:** only two things depend on it: the time for which unreadable positions wait before they are abandoned,
//! and the end of the search for missing files, which in a copy is the last position of its files.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::journal::disk::{Disk, read_full, write_all};

/// Length of the note, in bytes, whatever was in the file before.
const BYTES: usize = 128;

/// Returns the number of the first opening in this very directory: streams of earlier openings came with a copy. `next`
/// is the number of the opening that begins now.
pub(in crate::journal) fn first_epoch_here(disk: &dyn Disk, lock: &Path, next: u64) -> u64 {
    try_first_epoch_here(disk, lock, next).unwrap_or_else(|error| {
        tracing::warn!(path = %lock.display(), %error, "it cannot be known whether this directory is a copy");
        0
    })
}

fn try_first_epoch_here(disk: &dyn Disk, lock: &Path, next: u64) -> io::Result<u64> {
    let Some(here) = disk.identity(lock)? else {
        return Ok(0);
    };
    let file = disk.open(lock)?;
    let mut bytes = [0; BYTES];
    let read = read_full(&*file, &mut bytes, 0)?;
    let noted = parse(&bytes[..read]);
    let first = match noted {
        // After a journal was emptied, the count of its openings begins again.
        Some((there, first)) if there == here => first.min(next),
        // Also if there is no note: the lock is an older version's, or the files were copied without it.
        _ => next,
    };
    if noted != Some((&here, first)) {
        // Not synced: if a power cut loses the note, this directory counts as a copy, which costs some minutes.
        let note = format!("{:<1$}\n", format!("{here} {first}"), BYTES - 1);
        if let Err(error) = write_all(&*file, &mut [IoSlice::new(note.as_bytes())], 0) {
            tracing::warn!(path = %lock.display(), %error, "it cannot be noted which directory this is");
        }
    }
    Ok(first)
}

fn parse(bytes: &[u8]) -> Option<(&str, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (identity, first) = text.trim_end().split_once(' ')?;
    Some((identity, first.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::OsDisk;

    #[test]
    fn only_streams_from_before_the_copy_count_as_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, copy) = (dir.path().join("lock"), dir.path().join("copy"));
        drop(OsDisk.lock(&lock).unwrap().unwrap());
        for next in [1, 2, 7] {
            assert_eq!(first_epoch_here(&OsDisk, &lock, next), 1);
        }
        std::fs::copy(&lock, &copy).unwrap();
        assert_eq!(first_epoch_here(&OsDisk, &copy, 8), 8);
        assert_eq!(first_epoch_here(&OsDisk, &copy, 9), 8);
        assert_eq!(first_epoch_here(&OsDisk, &lock, 9), 1);
        // All of the copy is stored and recycled.
        assert_eq!(first_epoch_here(&OsDisk, &copy, 1), 1);
        assert_eq!(first_epoch_here(&OsDisk, &copy, 2), 1);
        // Torn, or never there.
        for content in [&[0; 20][..], &[]] {
            std::fs::write(&lock, content).unwrap();
            assert_eq!(first_epoch_here(&OsDisk, &lock, 5), 5);
            assert_eq!(first_epoch_here(&OsDisk, &lock, 6), 5);
        }
        let moved = dir.path().join("moved");
        std::fs::rename(&lock, &moved).unwrap();
        assert_eq!(first_epoch_here(&OsDisk, &moved, 7), 5);
    }
}
