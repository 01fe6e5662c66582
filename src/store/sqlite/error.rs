//! Classifies SQLite's errors, and advises the operator.
//!
//! **Invariant:** only a constraint, a size or a type can be a row's own fault; every other error is tried again.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use crate::store::{FailureClass, StoreError};

/// SQLITE_CANTOPEN_NOTEMPDIR and SQLITE_IOERR_GETTEMPPATH.
const NO_TEMPORARY_DIRECTORY: i32 = 14 | 1 << 8;
const NO_TEMPORARY_PATH: i32 = 10 | 25 << 8;

/// SQLITE_FULL.
const FULL: &str = "13";

/// Returns whether the volume lacked room for the writes of a statement.
pub(super) fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Retry { sqlstate: Some(code), .. } if code == FULL)
}

/// The file and the deadline of a statement.
#[derive(Clone, Copy)]
pub(super) struct ErrorContext<'a> {
    pub(super) path: &'a Path,
    pub(super) deadline: Duration,
}

/// Bytes that a slow disk syncs within one statement's time.
const TIMED_BYTES: usize = 16 << 20;

impl ErrorContext<'_> {
    /// Returns the context of a commit of `bytes` of rows, which are synced together.
    pub(super) fn for_bytes(self, bytes: usize) -> Self {
        let times = u32::try_from(bytes.div_ceil(TIMED_BYTES)).unwrap_or(u32::MAX);
        Self {
            deadline: self.deadline.saturating_mul(times.max(1)),
            ..self
        }
    }

    /// Runs one statement with the deadline.
    pub(super) async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline, statement).await {
            Ok(done) => done.map_err(|error| self.of(&error)),
            Err(_) => Err(self.retry(
                FailureClass::Timeout,
                None,
                &format!(
                    "did not answer within {:?}; look for a slow disk",
                    self.deadline
                ),
            )),
        }
    }

    /// Converts an error of making or opening the file itself.
    pub(super) fn io(&self, error: &std::io::Error) -> StoreError {
        let class = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                FailureClass::Permission
            }
            std::io::ErrorKind::StorageFull => FailureClass::Resources,
            _ => FailureClass::Connection,
        };
        let advice =
            "check that its directory exists on a disk with space and may be written by this user";
        self.retry(class, None, &format!("{error}; {advice}"))
    }

    pub(super) fn of(&self, error: &sqlx::Error) -> StoreError {
        let database = match error {
            sqlx::Error::Database(database) => database,
            sqlx::Error::PoolTimedOut => {
                let text = format!(
                    "another statement of this process has had the file for {:?}; look for a slow disk",
                    self.deadline
                );
                return self.retry(FailureClass::Timeout, None, &text);
            }
            _ => return self.retry(FailureClass::Connection, None, &error.to_string()),
        };
        let code = database.code().unwrap_or_default().into_owned();
        let extended = code.parse::<i32>().unwrap_or_default();
        let primary = extended & 0xff;
        let message = database.message();
        if matches!(extended, NO_TEMPORARY_DIRECTORY | NO_TEMPORARY_PATH) {
            let text = format!(
                "SQLite finds no directory for temporary files (code {code}); make /var/tmp or /tmp writable, or set \
                 SQLITE_TMPDIR"
            );
            return self.retry(FailureClass::Resources, Some(code), &text);
        }
        let (class, advice) = match primary {
            // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
            18..=20 => {
                return StoreError::Refused {
                    sqlstate: code,
                    row: None,
                    message: message.to_owned(),
                    detail: None,
                };
            }
            // SQLITE_ERROR, SQLITE_SCHEMA, SQLITE_RANGE: the statement does not fit the tables
            1 | 17 | 25 => (
                FailureClass::Schema,
                "the tables are not those of this version; restore them, or move the file aside",
            ),
            // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL
            5 | 6 | 15 => (
                FailureClass::Timeout,
                "another process holds the file's lock; end it, or let it finish",
            ),
            // SQLITE_PERM, SQLITE_READONLY, SQLITE_AUTH
            3 | 8 | 23 => (
                FailureClass::Permission,
                "this user may not write the file or its directory; make both writable",
            ),
            // SQLITE_CANTOPEN
            14 => (
                FailureClass::Permission,
                "check that its directory exists and may be written by this user",
            ),
            // SQLITE_NOMEM
            7 => (
                FailureClass::Resources,
                "memory ran out; give the process more, and set RUVVECTOR_MEMORY_BYTES to what it may use",
            ),
            // SQLITE_FULL
            13 => (
                FailureClass::Resources,
                "the disk is full; free space on its volume, or shorten the retention: new rows use the space of removed ones",
            ),
            // SQLITE_IOERR
            10 => (
                FailureClass::Resources,
                "the disk failed; look at the kernel's log, and free space if it is full",
            ),
            // SQLITE_CORRUPT, SQLITE_NOTADB
            11 | 26 => (
                FailureClass::Schema,
                "the file is damaged or not a database; move it aside and restore a copy, the journal keeps what is not stored",
            ),
            _ => (
                FailureClass::Other,
                "look the code up among SQLite's result codes",
            ),
        };
        self.retry(
            class,
            Some(code.clone()),
            &format!("{message} (code {code}); {advice}"),
        )
    }

    /// The error if the volume lacks room for the removal of even one row.
    pub(super) fn no_room_to_remove(&self) -> StoreError {
        self.retry(
            FailureClass::Resources,
            Some(FULL.to_owned()),
            "the disk is so full that not one row past its retention can be removed; free space on its volume",
        )
    }

    pub(super) fn retry(
        &self,
        class: FailureClass,
        sqlstate: Option<String>,
        message: &str,
    ) -> StoreError {
        StoreError::Retry {
            class,
            sqlstate,
            message: format!("{}: {message}", self.path.display()),
        }
    }
}
