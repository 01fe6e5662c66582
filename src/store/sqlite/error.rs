//! Runs statements with a deadline, classifies SQLite's errors, and advises the operator.
//!
//! **Invariant:** only a constraint, a size or a type can be a row's own fault; every other error is tried again.

use std::future::Future;
use std::time::Duration;

use crate::store::sqlite::Sqlite;
use crate::store::{FailureClass, StoreError};

/// SQLITE_CANTOPEN_NOTEMPDIR and SQLITE_IOERR_GETTEMPPATH.
const NO_TEMPORARY_DIRECTORY: i32 = 14 | 1 << 8;
const NO_TEMPORARY_PATH: i32 = 10 | 25 << 8;

/// SQLITE_FULL.
const FULL: &str = "13";

/// Bytes that a slow disk syncs within one statement's time.
const TIMED_BYTES: usize = 16 << 20;

/// Returns whether the volume lacked room for the writes of a statement.
pub(super) fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Retry { sqlstate: Some(code), .. } if code == FULL)
}

impl Sqlite {
    /// Runs a statement within the statement timeout.
    pub(super) async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.within_limit(self.shared.options.statement_timeout, statement)
            .await
    }

    /// Runs a statement that writes or syncs this many bytes at once, within the statement timeout for each
    /// [`TIMED_BYTES`].
    pub(super) async fn within_time_of<T>(
        &self,
        bytes: usize,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let times = u32::try_from(bytes.div_ceil(TIMED_BYTES)).unwrap_or(u32::MAX);
        let limit = self
            .shared
            .options
            .statement_timeout
            .saturating_mul(times.max(1));
        self.within_limit(limit, statement).await
    }

    pub(super) async fn within_limit<T>(
        &self,
        limit: Duration,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let text = match tokio::time::timeout(limit, statement).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(sqlx::Error::Database(error))) => return Err(self.database_error(&*error)),
            Ok(Err(sqlx::Error::PoolTimedOut)) => {
                format!(
                    "another statement of this process has had the file for {limit:?}; look for a slow disk"
                )
            }
            Ok(Err(error)) => return Err(self.retry(FailureClass::Connection, &error.to_string())),
            Err(_) => format!("did not answer within {limit:?}; look for a slow disk"),
        };
        Err(self.retry(FailureClass::Timeout, &text))
    }

    /// Converts an error of making or opening the file itself.
    pub(super) fn io_error(&self, error: &std::io::Error) -> StoreError {
        let class = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                FailureClass::Permission
            }
            std::io::ErrorKind::StorageFull => FailureClass::Resources,
            _ => FailureClass::Connection,
        };
        let advice =
            "check that its directory exists on a disk with space and may be written by this user";
        self.retry(class, &format!("{error}; {advice}"))
    }

    fn database_error(&self, error: &dyn sqlx::error::DatabaseError) -> StoreError {
        let code = error.code().unwrap_or_default().into_owned();
        let extended = code.parse::<i32>().unwrap_or_default();
        let primary = extended & 0xff;
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
        if let 18..=20 = primary {
            return StoreError::Refused {
                sqlstate: code,
                row: None,
                message: error.message().to_owned(),
                detail: None,
            };
        }
        let (class, text) = if matches!(extended, NO_TEMPORARY_DIRECTORY | NO_TEMPORARY_PATH) {
            let text = format!(
                "SQLite finds no directory for temporary files (code {code}); make /var/tmp or /tmp writable, or set \
                 SQLITE_TMPDIR"
            );
            (FailureClass::Resources, text)
        } else {
            let (class, advice) = class_and_advice(primary);
            (
                class,
                format!("{} (code {code}); {advice}", error.message()),
            )
        };
        StoreError::Retry {
            class,
            sqlstate: Some(code),
            message: self.about_file(&text),
        }
    }

    pub(super) fn retry(&self, class: FailureClass, message: &str) -> StoreError {
        StoreError::retry(class, self.about_file(message))
    }

    pub(super) fn about_file(&self, message: &str) -> String {
        format!("{}: {message}", self.shared.path.display())
    }
}

/// Returns the class and the advice for a primary result code.
const fn class_and_advice(primary: i32) -> (FailureClass, &'static str) {
    match primary {
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
    }
}
