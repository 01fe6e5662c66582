//! Dead letters: data that is kept apart from the rows, with the reason.
//!
//! **Invariant:** the payload is bytes, whatever it was before, so that the database cannot refuse it, too.

use std::fmt;

use bytes::Bytes;

use crate::event::{ContentEncoding, Encoding, Signal};

/// A row that the database refused, or a record that could not be decoded again, kept with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub position: u64,
    /// The row's number within its record, from 0; `None` = the whole record.
    pub item: Option<u32>,
    /// Number of events: 1 for a row, the header's accepted count for a record.
    pub events: u32,
    pub kind: DeadLetterKind,
    pub content_encoding: ContentEncoding,
    /// [`crate::decode::VERSION`] of the record.
    pub decoder: u16,
    pub received_unix_nano: i64,
    pub reason: DeadLetterReason,
    pub sqlstate: Option<String>,
    pub message: String,
    /// The client's bytes, or the row as one JSON object.
    pub payload: Bytes,
}

/// The format of a dead letter's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterKind {
    /// One row as a JSON object.
    Row,
    /// The client's bytes; displayed as `event/json`, `span/protobuf`, ….
    Record(Signal, Encoding),
    /// The remains of a damaged record.
    Unknown,
}

impl fmt::Display for DeadLetterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row => f.write_str("row"),
            Self::Record(signal, encoding) => {
                write!(f, "{}/{}", signal.as_str(), encoding.as_str())
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The reasons for dead letters, the label of `ruvvector_dead_letters_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterReason {
    /// The database refused a row.
    Refused,
    Undecodable,
    /// The second decoding found another number of events than the first.
    Miscounted,
    /// The journal can no longer read the record.
    Damaged,
    /// Writing the record would exhaust, or has exhausted, the process's memory.
    Fatal,
}

impl DeadLetterReason {
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Undecodable,
        Self::Miscounted,
        Self::Damaged,
        Self::Fatal,
    ];

    /// Returns the label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Undecodable => "undecodable",
            Self::Miscounted => "miscounted",
            Self::Damaged => "damaged",
            Self::Fatal => "fatal",
        }
    }
}
