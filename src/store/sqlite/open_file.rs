//! Checks that the file at the store's path is the one that the connections have open.
//!
//! SQLite continues to write to a file that was renamed or removed, where its rows would be lost.
//!
//! **Invariant:** no statement begins on the write connection while another file, or none, is at the path.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::store::sqlite::{Sqlite, now_us, schema};
use crate::store::{FailureClass, StoreError, lock};

/// The device and the inode of a file.
type FileIdentity = (u64, u64);

/// The file that the connections have open.
#[derive(Default)]
pub(super) struct OpenFile(Mutex<OpenFileState>);

#[derive(Default)]
struct OpenFileState {
    /// `None` until the first contact has opened the file.
    known: Option<FileIdentity>,
    /// Connections that were opened before this time have another file open.
    since: Option<Instant>,
}

impl OpenFile {
    /// Returns whether a connection of this age has the current file open.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        let since = lock(&self.0).since;
        since.is_none_or(|since| age <= since.elapsed())
    }

    fn known(&self) -> Option<FileIdentity> {
        lock(&self.0).known
    }
}

impl Sqlite {
    /// Prepares the first contact: creates the file if this process has not opened one yet. If another file has its
    /// path, abandons the earlier one, unless that one has left a WAL.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if such a WAL is left, or the file cannot be created or read.
    pub(super) fn settle_file(&self) -> Result<(), StoreError> {
        let path = &self.shared.path;
        match self.shared.open_file.known() {
            None => set_wal_aside(path)
                .and_then(|()| schema::create_file(path))
                .map_err(|error| self.io_error(&error))?,
            Some(known) if self.file_identity()? == known => return Ok(()),
            Some(_) if file_bytes(&wal(path)) > 0 => {
                return Err(self.retry(FailureClass::Connection, WAL_OF_ANOTHER));
            }
            Some(_) => {}
        }
        *lock(&self.shared.open_file.0) = OpenFileState {
            known: None,
            since: Some(Instant::now()),
        };
        Ok(())
    }

    /// Notes the identity of the file after the write connection was opened, which may change the inode of a file in a
    /// container's image.
    pub(super) fn learn_file(&self) -> Result<(), StoreError> {
        let found = self.file_identity()?;
        lock(&self.shared.open_file.0).known.get_or_insert(found);
        Ok(())
    }

    /// Checks that the file at the path is the one that is open.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if another file, or none, is at the path.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        match self.shared.open_file.known() {
            Some(known) if self.file_identity()? != known => {
                Err(self.retry(FailureClass::Connection, ANOTHER))
            }
            _ => Ok(()),
        }
    }

    fn file_identity(&self) -> Result<FileIdentity, StoreError> {
        match std::fs::metadata(&self.shared.path) {
            Ok(found) => Ok((found.dev(), found.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(self.retry(FailureClass::Connection, GONE))
            }
            Err(error) => Err(self.io_error(&error)),
        }
    }
}

const GONE: &str = "the file was renamed or removed while it was open; put it back, or start the service again, which makes a \
                    new file and writes into it what the journal holds";
const ANOTHER: &str = "another file was put in the place of the one that was open";
const WAL_OF_ANOTHER: &str = "another file was put in the place of the one that was open, and the file beside it that ends in \
                              -wal belongs to the one before; stop the service, remove what ends in -wal and -shm, and start it \
                              again";

/// Renames a WAL whose file is missing, for instance after a rename of the file alone. Otherwise SQLite would remove
/// the WAL beside a new, empty file, and its rows with it.
fn set_wal_aside(path: &Path) -> io::Result<()> {
    let from = wal(path);
    if file_bytes(path) > 0 || file_bytes(&from) == 0 {
        return Ok(());
    }
    let mut to = from.clone().into_os_string();
    to.push(format!(".{}", now_us()));
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

/// Returns the length of a file; 0 if there is none.
pub(super) fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}
