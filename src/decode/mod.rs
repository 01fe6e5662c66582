//! Decodes the bytes of a request into events; pure and synchronous.
//!
//! Each request is decoded twice. `check` runs before the request is written to the journal: it decides which items
//! are accepted, for the answer to the client. `events` runs afterwards and makes the rows. Both share one walk, but for
//! OTLP's JSON in the usual order of members, of which `check` reads each item only once. If `check` found a request
//! clean, `clean_events` makes the same rows without validating the items again.
//!
//! **Invariant:** for the same bytes and the same `Source`, `events` yields exactly the items that `check` counted
//! as accepted, and no tree of a whole request is ever built.

use crate::event::{Encoding, Event, Position, Resource, Signal, StreamId};
use crate::event::{Sanitized, Source};

use otlp::json_request::{LOG_RECORDS, SPANS};
use otlp::log_record::LogRecordItems;
use otlp::metric::decode_metric;
use otlp::row_builder::RowBuilder;
use otlp::span::SpanItems;
use otlp::{json_metric, json_request, protobuf_request};

/// Version of the mapping from bytes to rows. Each record in the journal keeps it, so that a later decoder maps the
/// record as it was accepted.
pub const VERSION: u16 = 2;

/// Receives the rows of a record, in the order of the request.
pub trait Sink {
    /// Returns whether the resource that the next event refers to should be made. It takes about that many bytes.
    fn wants_resource(&mut self, _about_bytes: usize) -> bool {
        true
    }
    /// Receives a resource before the first event that refers to it; the same resource may arrive more than once.
    fn resource(&mut self, resource: Resource);
    /// Receives one row. The metadata of `event` is empty: it is written where it is needed.
    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>);
    /// Returns whether the walk should continue. It is called after each event; `false` ends the walk with an error.
    fn wants_more(&self) -> bool {
        true
    }
}

/// Message of the error of a walk that its sink ended.
const SINK_IS_FULL: &str = "the sink accepts no more events";

pub use event_metadata::EventMetadata;

/// The outcome of decoding a request: its accepted and rejected items.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DecodeReport {
    /// Number of accepted items.
    pub accepted: u32,
    /// Number of rejected items.
    pub rejected: u32,
    /// The first rejections (at most 20), for the answer.
    pub rejections: Vec<Rejection>,
    /// Number of texts and times changed so that they can be stored, by reason.
    pub sanitized: Sanitized,
    pub unknown: UnknownMemberReport,
    /// Latest time that an accepted item gives, in Unix nanoseconds; `None` if no item gives one.
    pub latest_unix_nano: Option<i64>,
    /// An OTLP request with items, of which nothing was rejected, sanitised or changed, so that [`clean_events`] makes
    /// its rows.
    pub is_clean: bool,
    /// The first unknown JSON name of an OTLP request in which no item was found; escaped, at most 64 characters.
    pub unknown_name: Option<String>,
}

/// One rejected item.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Number of the item in the request, from 0; for NDJSON the number of the line, from 1.
    pub index: u32,
    /// JSON name of the field at fault.
    pub field: Option<String>,
    /// A sentence. Each text in it from the request is escaped and at most 64 characters long.
    pub reason: String,
}

/// Members of accepted native events that are not fields of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UnknownMemberReport {
    /// The first distinct names (at most 10), for the answer.
    pub names: Vec<UnknownName>,
    /// Number of members that were added to the metadata of their event.
    pub kept: u32,
    /// Number of members that were left out: the metadata already has the key, or a limit would be exceeded.
    pub left_out: u32,
}

/// The name of a member that is not a field.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The name, escaped and at most 64 characters.
    pub name: String,
    /// The field that was probably meant.
    pub meant: Option<&'static str>,
    /// `LeftOut` if any member of that name was left out.
    pub fate: UnknownMemberFate,
}

/// The fate of a member that is not a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnknownMemberFate {
    /// It became a member of the metadata.
    Kept,
    LeftOut,
}

/// The reason for refusing a whole request; always the client's fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The body is not valid JSON or protobuf; `offset` is the byte of the fault, if known.
    #[error("{message}")]
    Malformed {
        message: String,
        offset: Option<usize>,
    },
    /// The body is well formed, but no item can be accepted: a native batch has an invalid event, or every item of an
    /// OTLP request is invalid.
    #[error("{} of {} items are invalid", .0.rejected, .0.rejected + .0.accepted)]
    Invalid(Box<DecodeReport>),
    #[error("more than {limit} events in one request")]
    TooManyEvents { limit: u32 },
}

/// Validates a request and counts its accepted and rejected items, without making rows.
///
/// # Errors
/// [`DecodeError::Malformed`] if the body is not valid in its encoding; [`DecodeError::Invalid`] if no item can be
/// accepted; [`DecodeError::TooManyEvents`] if a native batch exceeds the limit.
pub fn check(body: &[u8], source: &Source) -> Result<DecodeReport, DecodeError> {
    let nowhere = Position {
        stream: StreamId([0; 16]),
        n: 0,
    };
    decode(body, source, nowhere, ItemValidation::Needed, None)
}

/// Passes a row to `sink` for each item that [`check`] accepts. `position` is the record's position in the journal; a
/// log record that names no correlation id and no trace gets an id derived from it.
///
/// # Errors
/// As [`check`], and [`DecodeError::Malformed`] if the sink ends the walk. Any other error for a record of the journal
/// means that its bytes are not those that were accepted.
pub fn events(
    body: &[u8],
    source: &Source,
    position: Position,
    sink: &mut dyn Sink,
) -> Result<DecodeReport, DecodeError> {
    decode(body, source, position, ItemValidation::Needed, Some(sink))
}

/// Passes the same rows to `sink` as [`events`] does, without validating the items again, if the request was found
/// clean ([`DecodeReport::is_clean`]) by this version of the decoder. For any other bytes, the rows may differ from
/// those of [`events`], but are UTF-8 and within the columns' limits.
///
/// # Errors
/// As [`events`], and [`DecodeError::Malformed`] if a text is not UTF-8. The caller then drops the rows and asks
/// [`events`].
pub fn clean_events(
    body: &[u8],
    source: &Source,
    position: Position,
    sink: &mut dyn Sink,
) -> Result<DecodeReport, DecodeError> {
    decode(body, source, position, ItemValidation::Done, Some(sink))
}

/// Tells if the items of an OTLP request have to be validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemValidation {
    Needed,
    /// The request was found clean.
    Done,
}

fn decode(
    body: &[u8],
    source: &Source,
    position: Position,
    validation: ItemValidation,
    sink: Option<&mut dyn Sink>,
) -> Result<DecodeReport, DecodeError> {
    match (source.signal, source.encoding) {
        (Signal::Event, Encoding::Json) => return native::batch(body, source, sink),
        (Signal::Event, Encoding::NdJson) => return native::lines(body, source, sink),
        _ => {}
    }
    let mut rows = RowBuilder::new(source, position, validation, sink);
    match (source.signal, source.encoding) {
        (Signal::Span, Encoding::Protobuf) => {
            protobuf_request::walk(body, source, &mut rows, |item, rows| {
                rows.item(&SpanItems, item, 0)
            })?;
        }
        (Signal::Log, Encoding::Protobuf) => {
            protobuf_request::walk(body, source, &mut rows, |item, rows| {
                rows.item(&LogRecordItems, item, 0)
            })?;
        }
        (Signal::Metric, Encoding::Protobuf) => {
            protobuf_request::walk(body, source, &mut rows, |metric, rows| {
                decode_metric(metric, source, rows)
            })?;
        }
        (Signal::Span, Encoding::Json) => {
            json_request::walk(body, &SPANS, source, &mut rows, &SpanItems)?;
        }
        (Signal::Log, Encoding::Json) => {
            json_request::walk(body, &LOG_RECORDS, source, &mut rows, &LogRecordItems)?;
        }
        (Signal::Metric, Encoding::Json) => json_metric::walk(body, source, &mut rows)?,
        (signal, encoding) => {
            return Err(DecodeError::Malformed {
                message: format!("a {} cannot be read from {encoding:?}", signal.as_str()),
                offset: None,
            });
        }
    }
    rows.finish()
}

/// OTLP requests: protobuf and JSON to validated items, and items to rows.
mod otlp;

/// A pull reader of JSON, and a writer of one normal form, without a tree.
mod json;

/// Decompression of a body, within limits.
pub mod decompress;

/// Conversion of rows back to OTLP.
pub mod export;

/// Native events.
mod native;

/// The metadata of an event, written where its row is built.
mod event_metadata;

/// Rules of the mapping, by version.
mod rules;

/// Protobuf's wire format.
mod protobuf;

/// A test for texts that are neither checked nor escaped further.
mod plain_text;

/// Timestamps of native events.
pub(crate) mod timestamp;

/// Counts and descriptions of accepted and rejected items.
mod decode_report;

#[cfg(test)]
mod tests;
