//! Rows back to OTLP: the mapping's inverse, beside it because the two change together.
//!
//! `an event as /query answers it -> its members -> one item of OTLP's JSON, in its scope's list -> JSON | protobuf`
//!
//! What is stored is OTLP's JSON but for the columns, attributes as plain objects, and values without their types: an
//! export puts those back and copies the rest, by the tables that requests are read by. Protobuf is that JSON, read as a
//! client's would be. Defaults are left out.
//!
//! **Invariant:** an export is what came in, to the nanosecond and with the types of values, but for the order of
//! attributes, duplicate keys (the last won), ids that are not ids, sanitised text, and what has no items.

use std::collections::BTreeMap;

use crate::decode::VERSION;
use crate::decode::json::json_reader::{JsonReader, SyntaxError};
use crate::decode::json::json_writer;
use crate::decode::otlp::json_to_protobuf::{self, Unmapped};
use crate::event::{Encoding, Limits, Signal, Source};

/// What stands around items.
mod envelope;

/// An item's row to the item.
mod item;

/// An object's members as they are written.
mod members;

/// A stored message to OTLP's JSON.
mod message;

/// A stored value to an AnyValue.
mod value;

use members::Members;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportEncoding {
    Json,
    Protobuf,
}

/// What becomes of an event that is to be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    Yes,
    /// It did not come over OTLP, or is of another signal.
    NotOtlp,
    /// The export is as large as it may be.
    NoRoom,
}

/// An event does not hold what was stored: its row was changed.
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

/// Items of one signal, by what stands around them.
#[derive(Debug)]
pub struct Export {
    signal: Signal,
    room_bytes: usize,
    used_bytes: usize,
    root: ExportPart,
    /// Scratch space.
    item: String,
}

/// The whole, a resource, a scope or a metric. What each has of its own, not closed yet, is its key.
#[derive(Debug, Default)]
struct ExportPart {
    parts: BTreeMap<String, ExportPart>,
    /// Items that stand right in it, commas between.
    items: String,
}

/// The signal of an event as `/query` answers it, where it came over OTLP.
///
/// # Errors
/// When the event is not what was stored.
pub fn signal(event: &str) -> Result<Option<Signal>, Unreadable> {
    Ok(signal_of(&Members::of(event)?))
}

fn signal_of(row: &Members<'_>) -> Option<Signal> {
    // Whatever came over OTLP has a resource, if only an empty one.
    row.find("resource")?;
    let event_type = row.find("eventType")?.trim_matches('"');
    Signal::OTLP
        .into_iter()
        .find(|signal| signal.as_str() == event_type)
}

impl Export {
    /// An empty one, which may grow to so many bytes of JSON; protobuf takes less.
    #[must_use]
    pub fn new(signal: Signal, room_bytes: usize) -> Self {
        Self {
            signal,
            room_bytes,
            used_bytes: 0,
            root: ExportPart::default(),
            item: String::new(),
        }
    }

    /// Takes an event as `/query` answers it; the first one however large it is.
    ///
    /// # Errors
    /// When the event is not what was stored.
    pub fn take(&mut self, event: &str) -> Result<AddOutcome, Unreadable> {
        let row = Members::of(event)?;
        if signal_of(&row) != Some(self.signal) {
            return Ok(AddOutcome::NotOtlp);
        }
        let metadata = Members::of(row.find("metadata").unwrap_or("{}"))?;
        let mut path = vec![envelope::resource(&row)?, envelope::scope(&row)?];
        self.item.clear();
        match self.signal {
            Signal::Event => return Ok(AddOutcome::NotOtlp),
            Signal::Span => item::span(&row, metadata, &mut self.item)?,
            Signal::Log => item::log_record(&row, &metadata, &mut self.item)?,
            Signal::Metric => {
                path.push(item::metric(&row, &metadata)?);
                item::data_point(&row, &metadata, &mut self.item)?;
            }
        }

        let mut bytes = self.item.len();
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
        part.items.push_str(&self.item);
        Ok(AddOutcome::Yes)
    }

    /// The whole message: `TracesData` and its like, which is also what a client exports.
    ///
    /// # Errors
    /// When an event was not what was stored.
    pub fn finish(self, form: ExportEncoding) -> Result<Vec<u8>, Unreadable> {
        let Some((schema, levels)) = envelope::of(self.signal) else {
            return Ok(Vec::new());
        };
        let mut json = String::with_capacity(self.used_bytes);
        json.push('{');
        self.root.write(levels, &mut json);
        json.push('}');
        match form {
            ExportEncoding::Json => Ok(json.into_bytes()),
            ExportEncoding::Protobuf => {
                // The limits are for an item, and this is all of them.
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
    /// Writes the list that this part is the parent of.
    fn write(self, levels: &[envelope::ListLevel], out: &mut String) {
        let Some((level, inner)) = levels.split_first() else {
            return;
        };
        json_writer::key(out, level.list);
        out.push('[');
        out.push_str(&self.items);
        for (own, part) in self.parts {
            json_writer::separate(out);
            out.push_str(&own);
            part.write(inner, out);
            out.push_str(level.end);
        }
        out.push(']');
    }
}
