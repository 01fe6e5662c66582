//! The file at the store's path is the one that its connections have open.
//!
//! SQLite goes on writing to a file that was renamed or removed, and nobody finds what it wrote.
//!
//! **Invariant:** nothing is begun on the write connection while another file, or none, is at the path.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::Fault;
use super::schema;
use crate::store::StoreError;

/// Device and inode.
type Identity = (u64, u64);

/// The file that first contact found, and since when connections to it count.
#[derive(Default)]
pub(super) struct Presence {
    known: Mutex<Option<(Identity, Instant)>>,
}

impl Presence {
    /// First contact: makes the file if this process has not seen it yet, and goes over to another one that was put in its
    /// place, if nothing is left of the one before.
    pub(super) fn settle(&self, path: &Path, fault: &Fault<'_>) -> Result<(), StoreError> {
        let known = self.known();
        if known.is_none() {
            schema::create_file(path).map_err(|error| fault.io(&error))?;
        }
        let found = identity(path, fault)?;
        match known {
            Some((identity, _)) if identity == found => return Ok(()),
            Some(_) if has_wal(path) => {
                return Err(fault.retry("connection", None, WAL_OF_ANOTHER));
            }
            _ => {}
        }
        *self.lock() = Some((found, Instant::now()));
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Retry`] if another file, or none, is at the path.
    pub(super) fn check(&self, path: &Path, fault: &Fault<'_>) -> Result<(), StoreError> {
        let Some((known, _)) = self.known() else {
            return Ok(());
        };
        if identity(path, fault)? == known {
            return Ok(());
        }
        Err(fault.retry("connection", None, ANOTHER))
    }

    /// Reports whether a connection of that age has the present file open.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        self.known().is_none_or(|(_, since)| age <= since.elapsed())
    }

    fn known(&self) -> Option<(Identity, Instant)> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Identity, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const GONE: &str = "the file was renamed or removed while it was open; put it back, or start the service again, which makes a \
                    new file and writes into it what the log holds";
const ANOTHER: &str = "another file was put in the place of the one that was open";
const WAL_OF_ANOTHER: &str = "another file was put in the place of the one that was open, and the file beside it that ends in \
                              -wal belongs to the one before; stop the service, remove what ends in -wal and -shm, and start it \
                              again";

fn identity(path: &Path, fault: &Fault<'_>) -> Result<Identity, StoreError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(fault.retry("connection", None, GONE))
        }
        Err(error) => Err(fault.io(&error)),
    }
}

/// The WAL of the file at `path`, whichever file that is.
pub(super) fn wal(path: &Path) -> PathBuf {
    let mut wal = path.to_owned().into_os_string();
    wal.push("-wal");
    wal.into()
}

fn has_wal(path: &Path) -> bool {
    std::fs::metadata(wal(path)).is_ok_and(|found| found.len() > 0)
}
