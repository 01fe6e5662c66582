//! Bytes to events, pure and synchronous.
//!
//! A request is decoded twice: [`check`] before it is logged decides what is accepted and answers the client;
//! [`events`] after it is logged makes the rows. Both walk the same way.
//!
//! **Invariant:** for the same bytes and the same [`Source`], `events` yields exactly the items that `check` counted
//! as accepted, and no tree of a whole request is ever built.

use crate::event::{Encoding, Event, Position, Resource, Signal, StreamId};
use crate::event::{Sanitized, Source};

use otlp::{
    item, json_metric, json_request, log_record, metric, protobuf_request, row_builder, span,
};

/// The version of the mapping from bytes to rows; kept in every record, so that a later decoder maps it as it was accepted.
pub const VERSION: u16 = 2;

/// Takes the rows of a record, in the order of the request.
pub trait Sink {
    /// Returns whether the resource that the next event refers to should be made. It takes about that many bytes.
    fn wants_resource(&mut self, _about_bytes: usize) -> bool {
        true
    }
    /// Called before the first event that refers to it; may be called again for the same one.
    fn resource(&mut self, resource: Resource);
    fn event(&mut self, event: &Event<'_>);
    /// Takes an event whose metadata is long. That of `event` is empty.
    fn large_event(&mut self, event: &Event<'_>, metadata: &LargeMetadata<'_>) {
        self.event(&metadata.of(event));
    }
    /// Returns whether the walk should go on. It is called after each event; `false` ends the walk with an error.
    fn wants_more(&self) -> bool {
        true
    }
}

/// The error of a walk that its sink ended.
const SINK_IS_FULL: &str = "the sink takes no more events";

pub use large_metadata::LargeMetadata;

/// What a request's bytes hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DecodeReport {
    pub accepted: u32,
    pub rejected: u32,
    /// The first few rejections (at most 20), for the answer.
    pub rejections: Vec<Rejection>,
    pub sanitized: Sanitized,
    pub unknown: UnknownMemberReport,
    /// The latest time that an accepted event gave for itself, in Unix nanoseconds; `None` where none did.
    pub latest_unix_nano: Option<i64>,
    /// Of a request in OTLP's JSON in which no item was found: the first name in it that is not known, escaped and at most
    /// 64 characters.
    pub unknown_name: Option<String>,
}

/// One item that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The item's number in the request, from 0; for NDJSON the line's number, from 1.
    pub index: u32,
    /// The field at fault, by its JSON name.
    pub field: Option<String>,
    /// A sentence; what it echoes of the input is escaped and at most 64 characters.
    pub reason: String,
}

/// Members of accepted native events that are no fields of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UnknownMemberReport {
    /// The first few distinct ones (at most 10), for the answer.
    pub names: Vec<UnknownName>,
    /// Number of members that joined the metadata of their event.
    pub kept: u32,
    /// Number that did not: the metadata has that key already, or they exceed its limits.
    pub left_out: u32,
}

/// The name of a member that is no field.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// Escaped, at most 64 characters.
    pub name: String,
    /// The field that was probably meant.
    pub meant: Option<&'static str>,
    /// The fate of the last member of that name that stayed out, if any did.
    pub fate: UnknownMemberFate,
}

/// The fate of a member that is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnknownMemberFate {
    /// It is a member of the metadata.
    Kept,
    LeftOut,
}

/// Why a request as a whole is refused; always the client's fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Not JSON, not protobuf, cut short.
    #[error("{message}")]
    Malformed {
        message: String,
        offset: Option<usize>,
    },
    /// Well formed, but nothing of it can be taken: a native batch with an invalid event, an OTLP request in which
    /// every item is invalid.
    #[error("{} of {} items are invalid", .0.rejected, .0.rejected + .0.accepted)]
    Invalid(Box<DecodeReport>),
    #[error("more than {limit} events in one request")]
    TooManyEvents { limit: u32 },
}

/// Decides what of a request is taken, without making rows.
///
/// # Errors
/// When nothing of it is.
pub fn check(body: &[u8], source: &Source) -> Result<DecodeReport, DecodeError> {
    let nowhere = Position {
        stream: StreamId([0; 16]),
        n: 0,
    };
    decode(body, source, nowhere, None)
}

/// Makes the rows of what [`check`] accepted. `position` derives the correlation id of a log record that has none.
///
/// # Errors
/// As [`check`]; on a record from the log that means the record is not what was written.
pub fn events(
    body: &[u8],
    source: &Source,
    position: Position,
    sink: &mut dyn Sink,
) -> Result<DecodeReport, DecodeError> {
    decode(body, source, position, Some(sink))
}

fn decode(
    body: &[u8],
    source: &Source,
    position: Position,
    sink: Option<&mut dyn Sink>,
) -> Result<DecodeReport, DecodeError> {
    match (source.signal, source.encoding) {
        (Signal::Event, Encoding::Json) => native::batch(body, source, sink),
        (Signal::Event, Encoding::NdJson) => native::lines(body, source, sink),
        (Signal::Span, Encoding::Protobuf | Encoding::Json) => {
            let rows = row_builder::RowBuilder::new(source, position, sink);
            decode_items(body, source, &json_request::SPANS, span::SpanItems, rows)
        }
        (Signal::Log, Encoding::Protobuf | Encoding::Json) => {
            let rows = row_builder::RowBuilder::new(source, position, sink);
            let lists = &json_request::LOG_RECORDS;
            decode_items(body, source, lists, log_record::LogRecordItems, rows)
        }
        (Signal::Metric, Encoding::Protobuf | Encoding::Json) => {
            let rows = row_builder::RowBuilder::new(source, position, sink);
            decode_metrics(body, source, metric::PointVisitor::new(rows, source))
        }
        (signal, encoding) => Err(DecodeError::Malformed {
            message: format!("a {} cannot be read from {encoding:?}", signal.as_str()),
            offset: None,
        }),
    }
}

/// Walks a request whose items stand right in its scopes.
fn decode_items<'a, K: item::ItemKind>(
    body: &'a [u8],
    source: &'a Source,
    lists: &'static json_request::RequestSchema,
    kind: K,
    rows: row_builder::RowBuilder<'a, '_>,
) -> Result<DecodeReport, DecodeError> {
    let mut items = row_builder::ItemVisitor { kind, rows };
    match source.encoding {
        Encoding::Protobuf => protobuf_request::walk(body, source, &mut items)?,
        Encoding::Json | Encoding::NdJson => {
            json_request::walk(body, lists, source, &mut items)?;
        }
    }
    items.rows.finish()
}

/// Walks a request of metrics, whose items stand in them.
fn decode_metrics<'a>(
    body: &'a [u8],
    source: &'a Source,
    mut points: metric::PointVisitor<'a, '_>,
) -> Result<DecodeReport, DecodeError> {
    match source.encoding {
        Encoding::Protobuf => protobuf_request::walk(body, source, &mut points)?,
        Encoding::Json | Encoding::NdJson => {
            json_metric::walk(body, source, &mut points)?;
        }
    }
    points.into_rows().finish()
}

/// OTLP requests: protobuf and JSON to validated items, and items to rows.
mod otlp;

/// JSON, read by pulling and written in one form, without a tree.
mod json;

/// Undoes a content encoding within limits.
pub mod decompress;

/// Rows back to OTLP.
pub mod export;

/// Native events.
mod native;

/// Metadata of an event that is too long to be held several times.
mod large_metadata;

/// The mapping's rules, by version.
mod rules;

/// Protobuf's wire format.
mod protobuf;

/// The time of a native event.
pub(crate) mod timestamp;

/// What was taken, and what was not.
mod decode_report;

#[cfg(test)]
mod tests;
