//! Makes the writer's dead letters: a whole record, as the client sent it, or one of its rows.
//!
//! **Invariant:** the payload of a whole record is never copied; its dead letter shares the record's bytes.

use bytes::Bytes;

use crate::event::{ContentEncoding, Encoding, Signal};
use crate::journal::Record;
use crate::store::DeadLetter;
use crate::store::row_encoding::EncodedRow;

/// The reason why a record becomes a dead letter as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DecodeFault {
    /// As [`DeadLetter::reason`].
    pub(super) reason: &'static str,
    pub(super) sqlstate: Option<String>,
    pub(super) message: String,
}

/// A row that the database refused, which is not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedRow {
    /// The row's number in its record, from 0.
    pub(super) index: u32,
    pub(super) sqlstate: String,
    pub(super) message: String,
}

impl DecodeFault {
    pub(super) const fn new(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            sqlstate: None,
            message,
        }
    }

    pub(super) const fn refused(sqlstate: String, message: String) -> Self {
        Self {
            reason: "refused",
            sqlstate: Some(sqlstate),
            message,
        }
    }
}

/// Returns a dead letter that holds the client's bytes unchanged.
pub(super) fn whole(record: &Record, fault: DecodeFault) -> DeadLetter {
    DeadLetter {
        position: record.position.n,
        item: None,
        events: record.accepted,
        kind: kind(record.source.signal, record.source.encoding),
        content_encoding: content_encoding(record.content_encoding),
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
        kind: "unknown",
        content_encoding: "identity",
        decoder: 0,
        received_unix_nano: 0,
        reason: "damaged",
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
pub(super) fn row(record: &Record, refused: RefusedRow, row: EncodedRow<'_>) -> DeadLetter {
    let fault = DecodeFault::refused(refused.sqlstate, refused.message);
    DeadLetter {
        item: Some(refused.index),
        events: 1,
        kind: "row",
        content_encoding: "identity",
        payload: row.to_json().into(),
        ..whole(record, fault)
    }
}

const fn kind(signal: Signal, encoding: Encoding) -> &'static str {
    match (signal, encoding) {
        (Signal::Event, Encoding::Json) => "event/json",
        (Signal::Event, Encoding::NdJson) => "event/ndjson",
        (Signal::Event, Encoding::Protobuf) => "event/protobuf",
        (Signal::Span, Encoding::Json) => "span/json",
        (Signal::Span, Encoding::NdJson) => "span/ndjson",
        (Signal::Span, Encoding::Protobuf) => "span/protobuf",
        (Signal::Log, Encoding::Json) => "log/json",
        (Signal::Log, Encoding::NdJson) => "log/ndjson",
        (Signal::Log, Encoding::Protobuf) => "log/protobuf",
        (Signal::Metric, Encoding::Json) => "metric/json",
        (Signal::Metric, Encoding::NdJson) => "metric/ndjson",
        (Signal::Metric, Encoding::Protobuf) => "metric/protobuf",
    }
}

const fn content_encoding(encoding: ContentEncoding) -> &'static str {
    match encoding {
        ContentEncoding::Identity => "identity",
        ContentEncoding::Gzip => "gzip",
        ContentEncoding::Zstd => "zstd",
        ContentEncoding::Deflate => "deflate",
    }
}
