//! Checks that the file at the store's path is the one that the connections have open.
//!
//! SQLite continues to write to a file that was renamed or removed, where its rows would be lost.
//!
//! **Invariant:** no statement begins on the write connection while another file, or none, is at the path.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::schema;
use crate::store::{FailureClass, StoreError};

/// The device and the inode of a file.
type FileIdentity = (u64, u64);

/// The file that the connections have open.
#[derive(Default)]
pub(super) struct OpenFile {
    state: Mutex<OpenFileState>,
}

#[derive(Clone, Copy, Default)]
struct OpenFileState {
    /// `None` until the first contact has opened the file.
    known: Option<FileIdentity>,
    /// Connections that were opened before this time have another file open.
    since: Option<Instant>,
}

impl OpenFile {
    /// Prepares the first contact: creates the file if this process has not opened one yet. If another file has its
    /// path, abandons the earlier one, unless that one has left a WAL.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if such a WAL is left, or the file cannot be created or read.
    pub(super) fn settle(&self, path: &Path, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
        let known = self.lock().known;
        match known {
            None => set_wal_aside(path)
                .and_then(|()| schema::create_file(path))
                .map_err(|error| fault.io(&error))?,
            Some(known) if identity(path, fault)? == known => return Ok(()),
            Some(_) if has_wal(path) => {
                return Err(fault.retry(FailureClass::Connection, None, WAL_OF_ANOTHER));
            }
            Some(_) => {}
        }
        *self.lock() = OpenFileState {
            known: None,
            since: Some(Instant::now()),
        };
        Ok(())
    }

    /// Notes the identity of the file after the write connection was opened, which may change the inode of a file in a
    /// container's image.
    pub(super) fn learn(&self, path: &Path, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
        let found = identity(path, fault)?;
        self.lock().known.get_or_insert(found);
        Ok(())
    }

    /// Checks that the file at the path is the one that is open.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if another file, or none, is at the path.
    pub(super) fn check(&self, path: &Path, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
        let Some(known) = self.lock().known else {
            return Ok(());
        };
        if identity(path, fault)? == known {
            return Ok(());
        }
        Err(fault.retry(FailureClass::Connection, None, ANOTHER))
    }

    /// Returns whether a connection of this age has the current file open.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        let since = self.lock().since;
        since.is_none_or(|since| age <= since.elapsed())
    }

    /// Locks the state. It is consistent after every statement, so a panic elsewhere does no harm.
    fn lock(&self) -> MutexGuard<'_, OpenFileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const GONE: &str = "the file was renamed or removed while it was open; put it back, or start the service again, which makes a \
                    new file and writes into it what the journal holds";
const ANOTHER: &str = "another file was put in the place of the one that was open";
const WAL_OF_ANOTHER: &str = "another file was put in the place of the one that was open, and the file beside it that ends in \
                              -wal belongs to the one before; stop the service, remove what ends in -wal and -shm, and start it \
                              again";

fn identity(path: &Path, fault: &ErrorContext<'_>) -> Result<FileIdentity, StoreError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(fault.retry(FailureClass::Connection, None, GONE))
        }
        Err(error) => Err(fault.io(&error)),
    }
}

/// Renames a WAL whose file is missing, for instance after a rename of the file alone. Otherwise SQLite would remove
/// the WAL beside a new, empty file, and its rows with it.
fn set_wal_aside(path: &Path) -> io::Result<()> {
    let has_pages = std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
    if has_pages || !has_wal(path) {
        return Ok(());
    }
    let (from, mut to) = (wal(path), wal(path).into_os_string());
    to.push(format!(".{}", crate::store::sqlite::now_us()));
    std::fs::rename(&from, &to)?;
    tracing::warn!(
        kept = %PathBuf::from(to).display(),
        "{} is missing and left rows in its WAL, which is kept under another name: to have these rows again, stop the service and \
         put the file back, with this beside it as {}",
        path.display(),
        from.display()
    );
    Ok(())
}

/// Returns the path of the WAL of the file at `path`.
pub(super) fn wal(path: &Path) -> PathBuf {
    let mut wal = path.to_owned().into_os_string();
    wal.push("-wal");
    wal.into()
}

fn has_wal(path: &Path) -> bool {
    std::fs::metadata(wal(path)).is_ok_and(|found| found.len() > 0)
}
