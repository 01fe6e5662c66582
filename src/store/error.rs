//! The errors of both stores.
//!
//! **Invariant:** only [`StoreError::Refused`] blames a row. After every other error no part of the batch is stored and
//! the writer builds it again, or another collector has stored it.

use crate::telemetry::own_traces::SpanError;

/// The reason why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unavailable, slow, full or misconfigured. The writer tries again without limit.
    #[error("{message}")]
    Retry {
        class: FailureClass,
        sqlstate: Option<String>,
        message: String,
    },
    /// The row itself may be at fault (`postgres/error.rs` and `sqlite/error.rs` list the codes).
    #[error("{message}")]
    Refused {
        sqlstate: String,
        /// The row's index in the batch, if the database named it.
        row: Option<usize>,
        /// Holds no values of the row, so that a log line may quote it.
        message: String,
        /// Quotes the row (`Failing row contains …`). Used only in the dead letter, which holds the row anyway.
        detail: Option<String>,
    },
    /// Some of these positions are stored already. The caller has to read the stored positions again.
    #[error("some of the positions of the batch are stored already")]
    AlreadyStored,
    /// The schema is newer than this binary or of an unknown shape, or the database's encoding is not UTF8. Nothing is
    /// written until an operator acts; the sentence advises how.
    #[error("{0}")]
    Schema(String),
}

impl StoreError {
    /// Returns a [`StoreError::Retry`] that no code of the database describes.
    pub(crate) const fn retry(class: FailureClass, message: String) -> Self {
        Self::Retry {
            class,
            sqlstate: None,
            message,
        }
    }

    /// Returns the class under which the failure is counted.
    pub(crate) const fn class(&self) -> FailureClass {
        match self {
            Self::Retry { class, .. } => *class,
            Self::Refused { .. } => FailureClass::Other,
            Self::AlreadyStored => FailureClass::Conflict,
            Self::Schema(_) => FailureClass::Schema,
        }
    }

    /// Returns whether SQLite lacked memory in this process: SQLITE_NOMEM or SQLITE_IOERR_NOMEM. (PostgreSQL's codes
    /// have five characters.)
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Retry { sqlstate: Some(code), .. } if matches!(code.as_str(), "7" | "3082"))
    }

    /// Replaces the index of the refused row, if the database refused one.
    pub(in crate::store) fn with_row(
        mut self,
        row_from: impl FnOnce(Option<usize>) -> Option<usize>,
    ) -> Self {
        if let Self::Refused { row, .. } = &mut self {
            *row = row_from(*row);
        }
        self
    }
}

impl SpanError for StoreError {
    fn error_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused { .. } => "refused",
            _ => self.class().as_str(),
        })
    }
}

/// The classes of failures, the label of `ruvvector_write_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    Connection,
    Timeout,
    Resources,
    Permission,
    /// The tables do not fit the statements.
    Schema,
    /// Another transaction did the same work, or a part of it.
    Conflict,
    /// The database reported another number of rows than were sent.
    Count,
    Other,
}

impl FailureClass {
    pub const ALL: [Self; 8] = [
        Self::Connection,
        Self::Timeout,
        Self::Resources,
        Self::Permission,
        Self::Schema,
        Self::Conflict,
        Self::Count,
        Self::Other,
    ];

    /// Returns the label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Resources => "resources",
            Self::Permission => "permission",
            Self::Schema => "schema",
            Self::Conflict => "conflict",
            Self::Count => "count",
            Self::Other => "other",
        }
    }
}
