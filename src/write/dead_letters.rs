//! Makes the writer's dead letters: a whole record, as the client sent it, or one of its rows.
//!
//! **Invariant:** the payload of a whole record is never copied; its dead letter shares the record's bytes.

use bytes::Bytes;

use crate::event::ContentEncoding;
use crate::journal::Record;
use crate::store::row_encoding::EncodedRow;
use crate::store::{DeadLetter, DeadLetterKind, DeadLetterReason};

/// The reason why a record becomes a dead letter as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DecodeFault {
    pub(super) reason: DeadLetterReason,
    pub(super) sqlstate: Option<String>,
    pub(super) message: String,
}

/// Returns a dead letter that holds the client's bytes unchanged.
pub(super) fn whole(record: &Record, fault: DecodeFault) -> DeadLetter {
    DeadLetter {
        position: record.position.n,
        item: None,
        events: record.accepted,
        kind: DeadLetterKind::Record(record.source.signal, record.source.encoding),
        content_encoding: record.content_encoding,
        decoder: record.source.version,
        received_unix_nano: record.source.received_unix_nano,
        reason: fault.reason,
        sqlstate: fault.sqlstate,
        message: fault.message,
        payload: record.payload.clone(),
    }
}

/// Returns a dead letter for a synced record that the journal can no longer read. `accepted` is set if its header
/// survived.
pub(super) fn damaged(n: u64, accepted: Option<u32>, bytes: Bytes, reason: String) -> DeadLetter {
    DeadLetter {
        position: n,
        item: None,
        events: accepted.unwrap_or(0),
        kind: DeadLetterKind::Unknown,
        content_encoding: ContentEncoding::Identity,
        decoder: 0,
        received_unix_nano: 0,
        reason: DeadLetterReason::Damaged,
        sqlstate: None,
        message: reason,
        payload: bytes,
    }
}

/// Returns one dead letter for all records of a range of which no bytes are left, whatever their number.
pub(super) fn missing(first: u64, last: u64) -> DeadLetter {
    let records = last - first + 1;
    let reason = format!(
        "{records} acknowledged records, positions {first} to {last}, are lost: no file of the journal holds anything of them"
    );
    damaged(first, None, Bytes::new(), reason)
}

/// Returns a dead letter for one row that the database refused.
pub(super) fn row(
    record: &Record,
    index: u32,
    row: EncodedRow<'_>,
    sqlstate: String,
    message: String,
) -> DeadLetter {
    DeadLetter {
        position: record.position.n,
        item: Some(index),
        events: 1,
        kind: DeadLetterKind::Row,
        content_encoding: ContentEncoding::Identity,
        decoder: record.source.version,
        received_unix_nano: record.source.received_unix_nano,
        reason: DeadLetterReason::Refused,
        sqlstate: Some(sqlstate),
        message,
        payload: row.to_json().into(),
    }
}
