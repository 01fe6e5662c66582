//! Converts rows back to OTLP: the inverse of the mapping, beside it because the two change together.
//!
//! `an event as /query returns it -> its members -> one item of OTLP's JSON, in its scope's list -> JSON | protobuf`
//!
//! A row is OTLP's JSON with three differences: some fields are columns, attributes are plain objects, and values have
//! no types. An export reverses these and copies the rest, by the schema that also decodes requests. An export in
//! protobuf is made from that JSON, as from a client's. Defaults are left out.
//!
//! **Invariant:** an export has the items that were accepted, to the nanosecond and with the types of values, but for
//! the order of attributes, duplicate keys (the last won), ids that are not ids, and sanitised text.

use std::collections::BTreeMap;

use crate::decode::VERSION;
use crate::decode::json::json_reader::{JsonReader, SyntaxError};
use crate::decode::json::json_text::{JsonText, try_json_string};
use crate::decode::json::json_writer;
use crate::decode::otlp::json_to_protobuf::{self, Unmapped};
use crate::event::{Encoding, Limits, Signal, Source};

/// The objects around items: resources, scopes and metrics.
mod envelope;

/// Conversion of a row to its item.
mod item;

/// The members of a JSON object, as they are written.
mod members;

/// Conversion of a stored message to OTLP's JSON.
mod message;

/// Conversion of a stored value to an AnyValue.
mod value;

use members::Members;

/// The encoding of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportEncoding {
    Json,
    Protobuf,
}

/// The outcome of adding an event to an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// The export has the event.
    Yes,
    /// The event did not arrive over OTLP, or is of another signal.
    NotOtlp,
    /// The event would exceed the export's size limit.
    NoRoom,
}

/// The error for an event that is not what was stored: its row was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {}", .0.what, .0.at)]
pub struct Unreadable(SyntaxError);

impl From<Unmapped> for Unreadable {
    fn from(fault: Unmapped) -> Self {
        Self(fault.error())
    }
}

impl From<SyntaxError> for Unreadable {
    fn from(error: SyntaxError) -> Self {
        Self(error)
    }
}

/// Items of one signal, grouped by their resource, scope and metric.
#[derive(Debug)]
pub struct Export {
    signal: Signal,
    room_bytes: usize,
    used_bytes: usize,
    root: ExportPart,
}

/// The whole export, or one resource, scope or metric of it.
#[derive(Debug, Default)]
struct ExportPart {
    /// Parts by the JSON of their own fields: an object without its closing brace.
    parts: BTreeMap<String, ExportPart>,
    /// Items that are direct elements, separated by commas.
    items: String,
}

/// Returns the signal of an event in the form of `/query`; `None` if the event did not arrive over OTLP.
///
/// # Errors
/// [`Unreadable`] if the event is not what was stored.
pub fn signal(event: &str) -> Result<Option<Signal>, Unreadable> {
    Ok(signal_of(&Members::of(event)?))
}

fn signal_of(row: &Members<'_>) -> Option<Signal> {
    // Every event from OTLP has a resource, which may be empty.
    row.find("resource")?;
    let event_type = row.find("eventType")?.trim_matches('"');
    Signal::OTLP
        .into_iter()
        .find(|signal| signal.as_str() == event_type)
}

impl Export {
    /// Creates an empty export of at most `room_bytes` of JSON; protobuf takes less.
    #[must_use]
    pub fn new(signal: Signal, room_bytes: usize) -> Self {
        Self {
            signal,
            room_bytes,
            used_bytes: 0,
            root: ExportPart::default(),
        }
    }

    /// Adds an event in the form of `/query`. The first event is added whatever its size.
    ///
    /// # Errors
    /// [`Unreadable`] if the event is not what was stored.
    pub fn take(&mut self, event: &str) -> Result<AddOutcome, Unreadable> {
        let row = Members::of(event)?;
        if signal_of(&row) != Some(self.signal) {
            return Ok(AddOutcome::NotOtlp);
        }
        let metadata = Members::of(row.find("metadata").unwrap_or("{}"))?;
        let mut path = vec![envelope::resource(&row)?, envelope::scope(&row)?];
        if self.signal == Signal::Metric {
            path.push(item::metric(&row, &metadata)?);
        }
        let item = try_json_string(|out| match self.signal {
            Signal::Event => Ok(()),
            Signal::Span => item::span(&row, metadata, out),
            Signal::Log => item::log_record(&row, &metadata, out),
            Signal::Metric => item::data_point(&row, &metadata, out),
        })?;

        let mut bytes = item.len();
        let mut known = Some(&self.root);
        for own in &path {
            known = known.and_then(|part| part.parts.get(own));
            if known.is_none() {
                bytes += own.len();
            }
        }
        if self.used_bytes > 0 && self.used_bytes + bytes > self.room_bytes {
            return Ok(AddOutcome::NoRoom);
        }
        self.used_bytes += bytes;
        let mut part = &mut self.root;
        for own in path {
            part = part.parts.entry(own).or_default();
        }
        if !part.items.is_empty() {
            part.items.push_str(", ");
        }
        part.items.push_str(&item);
        Ok(AddOutcome::Yes)
    }

    /// Returns the whole message, `TracesData` for spans, which has the same fields as a client's export request.
    ///
    /// # Errors
    /// [`Unreadable`] if an event was not what was stored.
    pub fn finish(self, form: ExportEncoding) -> Result<Vec<u8>, Unreadable> {
        let Some((schema, levels)) = envelope::of(self.signal) else {
            return Ok(Vec::new());
        };
        let mut json = Vec::with_capacity(self.used_bytes);
        let mut out = JsonText::appending(&mut json);
        out.push('{');
        self.root.write(levels, &mut out);
        out.push('}');
        let json = String::from_utf8(json).expect("only UTF-8 is appended");
        match form {
            ExportEncoding::Json => Ok(json.into_bytes()),
            ExportEncoding::Protobuf => {
                // The limits are those of one item, but this message holds all items.
                let limits = Limits {
                    depth: value::LEVELS,
                    nodes: u32::MAX,
                    ..Limits::default()
                };
                let source = Source {
                    signal: self.signal,
                    encoding: Encoding::Json,
                    partial: false,
                    received_unix_nano: 0,
                    limits,
                    version: VERSION,
                };
                let mut protobuf = Vec::with_capacity(json.len() / 2);
                json_to_protobuf::message(
                    &mut JsonReader::new(&json),
                    schema,
                    &source,
                    &mut protobuf,
                )?;
                Ok(protobuf)
            }
        }
    }
}

impl ExportPart {
    /// Writes the list of this part's elements.
    fn write(self, levels: &[envelope::ListLevel], out: &mut JsonText<'_>) {
        let Some(((list, end), inner)) = levels.split_first() else {
            return;
        };
        json_writer::key(out, list);
        out.push('[');
        out.push_str(&self.items);
        for (own, part) in self.parts {
            json_writer::separate(out);
            out.push_str(&own);
            part.write(inner, out);
            out.push_str(end);
        }
        out.push(']');
    }
}
