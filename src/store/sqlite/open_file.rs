//! The file at the store's path is the one that its connections have open.
//!
//! SQLite goes on writing to a file that was renamed or removed, and nobody finds what it wrote.
//!
//! **Invariant:** nothing is begun on the write connection while another file, or none, is at the path.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::StoreError;
use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::schema;

/// Device and inode.
type FileIdentity = (u64, u64);

/// The file that the connections have open.
#[derive(Default)]
pub(super) struct OpenFile {
    state: Mutex<OpenFileState>,
}

#[derive(Clone, Copy, Default)]
struct OpenFileState {
    /// `None` until first contact has opened it.
    known: Option<FileIdentity>,
    /// Connections opened before this have another file open.
    since: Option<Instant>,
}

impl OpenFile {
    /// Prepares first contact: creates the file if this process has not opened one yet. Abandons the earlier file if another
    /// one has its path, unless a WAL of the earlier one is left.
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
                return Err(fault.retry("connection", None, WAL_OF_ANOTHER));
            }
            Some(_) => {}
        }
        *self.lock() = OpenFileState {
            known: None,
            since: Some(Instant::now()),
        };
        Ok(())
    }

    /// After the write connection was opened, which may change the inode of a file in a container's image.
    pub(super) fn learn(&self, path: &Path, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
        let found = identity(path, fault)?;
        self.lock().known.get_or_insert(found);
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Retry`] if another file, or none, is at the path.
    pub(super) fn check(&self, path: &Path, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
        let Some(known) = self.lock().known else {
            return Ok(());
        };
        if identity(path, fault)? == known {
            return Ok(());
        }
        Err(fault.retry("connection", None, ANOTHER))
    }

    /// Reports whether a connection of that age has the present file open.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        let since = self.lock().since;
        since.is_none_or(|since| age <= since.elapsed())
    }

    /// The state is whole after every statement, so a panic elsewhere does no harm.
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
            Err(fault.retry("connection", None, GONE))
        }
        Err(error) => Err(fault.io(&error)),
    }
}

/// Keeps a WAL whose file is missing, as after a rename of the file alone: SQLite would remove it beside a new, empty file, and
/// with it the rows that it holds.
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

/// The WAL of the file at `path`, whichever file that is.
pub(super) fn wal(path: &Path) -> PathBuf {
    let mut wal = path.to_owned().into_os_string();
    wal.push("-wal");
    wal.into()
}

fn has_wal(path: &Path) -> bool {
    std::fs::metadata(wal(path)).is_ok_and(|found| found.len() > 0)
}
