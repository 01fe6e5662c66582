//! Converts a log record's message to a row.
//!
//! `metadata` holds the fields that have no column or do not fit it, under their protobuf JSON names, without defaults:
//!
//! | key | holds |
//! | --- | --- |
//! | `attributes` | an object, as for every item |
//! | `body` | any value, in the form of an attribute's; left out only if the record has none: `{"$empty": true}` is a body that is an empty value, `""` one that is an empty string |
//! | `severityText`, `flags`, `droppedAttributesCount` | the same field |
//! | `observedTimeUnixNano` | the same field, even if the column has its value too |
//! | `timeUnixNano` | the same field, if the column does not have it: it is too large for the column, or it is `"0"` (absent) and the column has the observed time |
//! | `eventName` | the whole name, if the column holds only its beginning |
//!
//! The other fields are columns: `kind` is the severity number as sent (0 = none given), `name` the event name (NULL =
//! none; the protocol does not distinguish none from an empty one), `trace_id` and `span_id` (NULL = none, or no valid
//! one). `correlation_id` and `status` are derived from other values. So the time as sent is `timeUnixNano` of
//! `metadata`, else the column `time_unix_nano`, else 0.
//!
//! **Invariant:** with its resource, the row gives back the record as it was sent, but for the order of attributes,
//! duplicate keys (the last wins), ids that are not ids, and sanitised text.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle};
use crate::decode::otlp::column_keys::correlation_id;
use crate::decode::otlp::item::{
    FieldRange, Hex, IdTexts, ItemContext, ItemKind, OtlpItem, RowMemory, TakeRow, column_time,
    is_id, long_name_member, low32, time_member, time_text,
};
use crate::decode::otlp::key_values::KeyValues;
use crate::decode::otlp::schema::{self, MessageSchema};
use crate::decode::protobuf::{
    self, FIXED32, FIXED64, LENGTH_DELIMITED, Malformed, ProtobufReader, VARINT, key,
};
use crate::event::{Event, Position, Signal};

/// The kind of log records.
#[derive(Debug)]
pub(in crate::decode) struct LogRecordItems;

impl ItemKind for LogRecordItems {
    type Item<'m> = OtlpLogRecord<'m>;

    fn schema(&self) -> &'static MessageSchema {
        &schema::LOG_RECORD
    }

    fn read<'m>(&'m self, message: &'m [u8]) -> Result<OtlpLogRecord<'m>, Malformed> {
        OtlpLogRecord::read(message)
    }
}

// The keys of a log record's fields.
const TIME: u32 = key(1, FIXED64);
const SEVERITY_NUMBER: u32 = key(2, VARINT);
const SEVERITY_TEXT: u32 = key(3, LENGTH_DELIMITED);
const BODY: u32 = key(5, LENGTH_DELIMITED);
const ATTRIBUTE: u32 = key(6, LENGTH_DELIMITED);
const DROPPED_ATTRIBUTES: u32 = key(7, VARINT);
const FLAGS: u32 = key(8, FIXED32);
const TRACE_ID: u32 = key(9, LENGTH_DELIMITED);
const SPAN_ID: u32 = key(10, LENGTH_DELIMITED);
const OBSERVED_TIME: u32 = key(11, FIXED64);
const EVENT_NAME: u32 = key(12, LENGTH_DELIMITED);

/// The plain fields of a log record and the range of its attributes.
#[derive(Debug, Default)]
pub(in crate::decode) struct OtlpLogRecord<'a> {
    attributes: FieldRange<'a>,
    body: Option<&'a [u8]>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
    severity_text: &'a [u8],
    severity_number: i32,
    /// Unix time of the event in nanoseconds; 0 = not given.
    occurred: u64,
    /// Unix time at which the event was observed, in nanoseconds; 0 = not given.
    observed: u64,
    flags: u32,
    dropped_attributes: u32,
}

impl<'a> OtlpLogRecord<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut record = Self::default();
        let mut reader = ProtobufReader::new(message);
        loop {
            let before = reader.rest();
            match reader.key()? {
                protobuf::END => return Ok(record),
                TIME => record.occurred = reader.fixed64()?,
                SEVERITY_NUMBER => record.severity_number = low32(reader.varint()?).cast_signed(),
                SEVERITY_TEXT => record.severity_text = reader.bytes()?,
                BODY => record.body = Some(reader.bytes()?),
                ATTRIBUTE => {
                    reader.bytes()?;
                    record.attributes.extend(before, reader.rest());
                }
                DROPPED_ATTRIBUTES => record.dropped_attributes = low32(reader.varint()?),
                FLAGS => record.flags = reader.fixed32()?,
                TRACE_ID => record.trace_id = reader.bytes()?,
                SPAN_ID => record.span_id = reader.bytes()?,
                OBSERVED_TIME => record.observed = reader.fixed64()?,
                EVENT_NAME => record.event_name = reader.bytes()?,
                key => drop(reader.value(key)?),
            }
        }
    }

    /// Writes the members in JSONB's order of keys; `column` is the value of the column `time_unix_nano`.
    fn write_metadata(
        &self,
        attributes: &KeyValues<'_>,
        column: Option<i64>,
        style: &ValueStyle,
        out: &mut JsonText<'_>,
    ) {
        out.push('{');
        if let Some(body) = self.body {
            json_writer::key(out, "body");
            // The limits are those of attributes.
            let whole = ValueStyle {
                value_bytes: 0,
                ..*style
            };
            any_value::any_value(out, body, &whole);
        }
        json_writer::number_member(out, "flags", self.flags.into());
        long_name_member(out, "eventName", self.event_name);
        any_value::object_member(out, "attributes", attributes, style);
        json_writer::text_member(out, "severityText", self.severity_text);
        if column.unwrap_or(0).cast_unsigned() != self.occurred {
            json_writer::key(out, "timeUnixNano");
            time_text(out, self.occurred);
        }
        time_member(out, "observedTimeUnixNano", self.observed);
        json_writer::number_member(
            out,
            "droppedAttributesCount",
            self.dropped_attributes.into(),
        );
        out.push('}');
    }
}

impl OtlpItem for OtlpLogRecord<'_> {
    /// Finds no fault: a record without time, ids and body is valid.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Returns the time of the event, otherwise the time of its observation (logs.proto, `observed_time_unix_nano`).
    fn time(&self) -> u64 {
        match self.occurred {
            0 => self.observed,
            time => time,
        }
    }

    fn name(&self) -> &[u8] {
        self.event_name
    }

    fn attributes(&self) -> (&[u8], u32) {
        (self.attributes.bytes(), 6)
    }

    fn row(&self, place: &ItemContext<'_>, memory: &mut RowMemory, take: &mut TakeRow<'_>) {
        let (bytes, limit) = (self.attributes.bytes(), place.style.attributes);
        let attributes =
            KeyValues::read_into(&mut memory.attributes, bytes, 6, limit, place.style.order);
        let sent = column_time(self.time());
        let write = |out: &mut JsonText<'_>| {
            self.write_metadata(&attributes, sent, &place.style, out);
        };

        let ids = IdTexts::of(self.trace_id, self.span_id, &[]);
        let [trace_id, span_id, _] = ids.texts();
        let trace_id = is_id::<16>(self.trace_id).then_some(Cow::Borrowed(trace_id));
        let span_id = is_id::<8>(self.span_id).then_some(Cow::Borrowed(span_id));
        let correlation_id = correlation_id(&attributes)
            .or_else(|| trace_id.clone())
            .unwrap_or_else(|| Cow::Owned(derived_id(place.position, place.index)));
        let row = Event {
            correlation_id,
            trace_id,
            span_id,
            name: (!place.name.is_empty()).then_some(Cow::Borrowed(&place.name)),
            time_unix_nano: sent,
            kind: Some(self.severity_number),
            status: severity(self.severity_number).map(Cow::Borrowed),
            ..place.event(Signal::Log, &attributes)
        };
        take(&row, &write);
        drop(row);
        attributes.give_back(&mut memory.attributes);
    }
}

/// Returns the short name of a severity number's range (OpenTelemetry, Logs Data Model, "Field: `SeverityNumber`").
const fn severity(number: i32) -> Option<&'static str> {
    Some(match number {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        21..=24 => "FATAL",
        _ => return None,
    })
}

/// Derives the correlation id of a log record that names none and belongs to no trace. No other row has it, and
/// decoding the record again gives the same id. It is the first 16 bytes, in hex, of SHA-256 over the byte 1, the
/// stream, the position and the index, with integers in big-endian.
fn derived_id(position: Position, index: u32) -> String {
    let digest = Sha256::new()
        .chain_update([1])
        .chain_update(position.stream.0)
        .chain_update(position.n.to_be_bytes())
        .chain_update(index.to_be_bytes())
        .finalize();
    Hex::<32>::of(&digest[..16]).as_str().to_owned()
}
