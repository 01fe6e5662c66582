//! Whether a directory is the one that its streams were begun in, or a copy of that.
//!
//! The lock's file says what it is known by, and which opening of the journal was the first in it: the file of a copy is known
//! by something else. Where the system knows nothing of the kind, all is taken to be at home.
//!
//! **Invariant:** nothing hangs on it but how long positions that cannot be read wait before they are given up, and how far
//! the search for missing files goes: in a copy no further than its files do.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::journal::disk::{Disk, read_full, write_all};

/// So much is written, whatever was there.
const BYTES: usize = 128;

/// The first opening in this very directory: the streams of those before it came with a copy. `next` is the opening that
/// begins now.
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
        // Of an emptied journal the openings are counted anew.
        Some((there, first)) if there == here => first.min(next),
        // Also where nothing is noted: an older version's, or files that were copied without it.
        _ => next,
    };
    if noted != Some((&here, first)) {
        // Not synced: a note that a power cut takes makes a copy of what is none, which costs some minutes.
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
    fn only_what_was_begun_before_a_copy_was_made_is_away_from_home() {
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
        // All of the copy is stored and gone.
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
