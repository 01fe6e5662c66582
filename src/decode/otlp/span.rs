//! Converts a span's message to a row.
//!
//! `metadata` holds the fields that have no column or do not fit it, under their protobuf JSON names, without defaults:
//! `attributes, events, links, traceState, flags, droppedAttributesCount, droppedEventsCount, droppedLinksCount`;
//! `status: {"message": …}`; `name` if the column holds only its beginning; `startTimeUnixNano` if it does not fit
//! the column; `endTimeUnixNano` if start and duration do not give it back.
//!
//! **Invariant:** with its resource, the row gives back the span as it was sent, but for the order of attributes,
//! duplicate keys (the last wins), ids that are not ids, and sanitised text.

use std::borrow::Cow;

use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle, attributes_member, repeated};
use crate::decode::otlp::column_keys::correlation_id;
use crate::decode::otlp::item::{
    FieldRange, Hex, IdTexts, ItemContext, ItemKind, OtlpItem, RowMemory, TakeRow, column_time,
    is_id, long_name_member, low32, time_member,
};
use crate::decode::otlp::key_values::KeyValues;
use crate::decode::otlp::schema::{self, MessageSchema};
use crate::decode::protobuf::{
    self, FIXED32, FIXED64, FieldValue, LENGTH_DELIMITED, Malformed, ProtobufReader, VARINT, key,
};
use crate::event::{Event, EventFlags, Signal};

/// The kind of spans.
#[derive(Debug)]
pub(in crate::decode) struct SpanItems;

impl ItemKind for SpanItems {
    type Item<'m> = OtlpSpan<'m>;

    fn schema(&self) -> &'static MessageSchema {
        &schema::SPAN
    }

    fn read<'m>(&'m self, message: &'m [u8]) -> Result<OtlpSpan<'m>, Malformed> {
        OtlpSpan::read(message)
    }
}

// The keys of a span's fields.
const TRACE_ID: u32 = key(1, LENGTH_DELIMITED);
const SPAN_ID: u32 = key(2, LENGTH_DELIMITED);
const TRACE_STATE: u32 = key(3, LENGTH_DELIMITED);
const PARENT_SPAN_ID: u32 = key(4, LENGTH_DELIMITED);
const NAME: u32 = key(5, LENGTH_DELIMITED);
const KIND: u32 = key(6, VARINT);
const START: u32 = key(7, FIXED64);
const END: u32 = key(8, FIXED64);
const ATTRIBUTE: u32 = key(9, LENGTH_DELIMITED);
const DROPPED_ATTRIBUTES: u32 = key(10, VARINT);
const EVENT: u32 = key(11, LENGTH_DELIMITED);
const DROPPED_EVENTS: u32 = key(12, VARINT);
const LINK: u32 = key(13, LENGTH_DELIMITED);
const DROPPED_LINKS: u32 = key(14, VARINT);
const STATUS: u32 = key(15, LENGTH_DELIMITED);
const FLAGS: u32 = key(16, FIXED32);

/// The plain fields of a span and the ranges of its lists.
#[derive(Debug, Default)]
pub(in crate::decode) struct OtlpSpan<'a> {
    attributes: FieldRange<'a>,
    events: FieldRange<'a>,
    links: FieldRange<'a>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    /// Unix time in nanoseconds; 0 = not given.
    start: u64,
    /// Unix time in nanoseconds; 0 = not given.
    end: u64,
    flags: u32,
    dropped_attributes: u64,
    dropped_events: u64,
    dropped_links: u64,
    status_message: &'a [u8],
    status_code: i32,
}

impl<'a> OtlpSpan<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut span = Self::default();
        let mut reader = ProtobufReader::new(message);
        loop {
            let before = reader.rest();
            match reader.key()? {
                protobuf::END => return Ok(span),
                TRACE_ID => span.trace_id = reader.bytes()?,
                SPAN_ID => span.span_id = reader.bytes()?,
                TRACE_STATE => span.trace_state = reader.bytes()?,
                PARENT_SPAN_ID => span.parent_span_id = reader.bytes()?,
                NAME => span.name = reader.bytes()?,
                KIND => span.kind = low32(reader.varint()?).cast_signed(),
                START => span.start = reader.fixed64()?,
                END => span.end = reader.fixed64()?,
                ATTRIBUTE => {
                    reader.bytes()?;
                    span.attributes.extend(before, reader.rest());
                }
                DROPPED_ATTRIBUTES => span.dropped_attributes = low32(reader.varint()?).into(),
                EVENT => {
                    reader.bytes()?;
                    span.events.extend(before, reader.rest());
                }
                DROPPED_EVENTS => span.dropped_events = low32(reader.varint()?).into(),
                LINK => {
                    reader.bytes()?;
                    span.links.extend(before, reader.rest());
                }
                DROPPED_LINKS => span.dropped_links = low32(reader.varint()?).into(),
                STATUS => span.status(reader.bytes()?),
                FLAGS => span.flags = reader.fixed32()?,
                key => drop(reader.value(key)?),
            }
        }
    }

    fn status(&mut self, status: &'a [u8]) {
        let mut reader = ProtobufReader::new(status);
        while let Ok(Some((number, value))) = reader.field() {
            match (number, value) {
                (2, FieldValue::Bytes(message)) => self.status_message = message,
                (3, FieldValue::Varint(code)) => self.status_code = low32(code).cast_signed(),
                _ => {}
            }
        }
    }

    /// Writes the members in JSONB's order of keys.
    fn write_metadata(
        &self,
        attributes: &KeyValues<'_>,
        start: Option<i64>,
        duration: Option<i64>,
        style: &ValueStyle,
        out: &mut JsonText<'_>,
    ) {
        out.push('{');
        long_name_member(out, "name", self.name);
        json_writer::number_member(out, "flags", self.flags.into());
        let links = repeated(self.links.bytes(), 13);
        json_writer::array_member(out, "links", links, |out, link| {
            write_link(out, link, style);
        });
        let events = repeated(self.events.bytes(), 11);
        json_writer::array_member(out, "events", events, |out, event| {
            write_event(out, event, style);
        });
        if !self.status_message.is_empty() {
            json_writer::key(out, "status");
            out.push('{');
            json_writer::text_member(out, "message", self.status_message);
            out.push('}');
        }
        any_value::object_member(out, "attributes", attributes, style);
        json_writer::text_member(out, "traceState", self.trace_state);
        if duration.is_none() {
            time_member(out, "endTimeUnixNano", self.end);
        }
        json_writer::number_member(out, "droppedLinksCount", self.dropped_links);
        if start.is_none() {
            time_member(out, "startTimeUnixNano", self.start);
        }
        json_writer::number_member(out, "droppedEventsCount", self.dropped_events);
        json_writer::number_member(out, "droppedAttributesCount", self.dropped_attributes);
        out.push('}');
    }
}

impl OtlpItem for OtlpSpan<'_> {
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        if !is_id::<16>(self.trace_id) {
            Some((
                "traceId",
                "a trace id is 16 bytes (32 hex digits), not all zero",
            ))
        } else if !is_id::<8>(self.span_id) {
            Some((
                "spanId",
                "a span id is 8 bytes (16 hex digits), not all zero",
            ))
        } else {
            None
        }
    }

    fn time(&self) -> u64 {
        self.start
    }

    fn name(&self) -> &[u8] {
        self.name
    }

    fn attributes(&self) -> (&[u8], u32) {
        (self.attributes.bytes(), 9)
    }

    fn row(&self, place: &ItemContext<'_>, memory: &mut RowMemory, take: &mut TakeRow<'_>) {
        let (bytes, limit) = (self.attributes.bytes(), place.style.attributes);
        let attributes =
            KeyValues::read_into(&mut memory.attributes, bytes, 9, limit, place.style.order);
        let mut flags = place.flags;
        let out_of_range =
            place.source.flags_ends_out_of_range() && column_time(self.end).is_none();
        if self.end == 0 || self.end < self.start || out_of_range {
            flags.insert(EventFlags::END_INVALID);
        }
        let start = column_time(self.start);
        let duration = match self.start {
            0 | u64::MAX => None,
            start => self
                .end
                .checked_sub(start)
                .and_then(|ns| i64::try_from(ns).ok()),
        };
        let write = |out: &mut JsonText<'_>| {
            self.write_metadata(&attributes, start, duration, &place.style, out);
        };

        let ids = IdTexts::of(self.trace_id, self.span_id, self.parent_span_id);
        let [trace_id, span_id, parent_span_id] = ids.texts();
        let has_parent = is_id::<8>(self.parent_span_id);
        let row = Event {
            correlation_id: correlation_id(&attributes).unwrap_or(Cow::Borrowed(trace_id)),
            trace_id: Some(Cow::Borrowed(trace_id)),
            span_id: Some(Cow::Borrowed(span_id)),
            parent_span_id: has_parent.then_some(Cow::Borrowed(parent_span_id)),
            name: Some(Cow::Borrowed(&place.name)),
            time_unix_nano: start,
            duration_ns: duration,
            kind: Some(self.kind),
            status: Some(match self.status_code {
                0 => Cow::Borrowed("UNSET"),
                1 => Cow::Borrowed("OK"),
                2 => Cow::Borrowed("ERROR"),
                code => Cow::Owned(code.to_string()),
            }),
            flags,
            ..place.event(Signal::Span, &attributes)
        };
        take(&row, &write);
        drop(row);
        attributes.give_back(&mut memory.attributes);
    }
}

fn write_event(out: &mut JsonText<'_>, event: &[u8], style: &ValueStyle) {
    let (mut time, mut name, mut dropped) = (0, &[][..], 0);
    let mut reader = ProtobufReader::new(event);
    while let Ok(Some((number, value))) = reader.field() {
        match (number, value) {
            (1, FieldValue::Fixed64(value)) => time = value,
            (2, FieldValue::Bytes(value)) => name = value,
            (4, FieldValue::Varint(value)) => dropped = low32(value),
            _ => {}
        }
    }
    out.push('{');
    json_writer::text_member(out, "name", name);
    attributes_member(out, event, 3, style);
    time_member(out, "timeUnixNano", time);
    json_writer::number_member(out, "droppedAttributesCount", dropped.into());
    out.push('}');
}

fn write_link(out: &mut JsonText<'_>, link: &[u8], style: &ValueStyle) {
    let (mut trace_id, mut span_id, mut trace_state) = (&[][..], &[][..], &[][..]);
    let (mut dropped, mut flags) = (0, 0);
    let mut reader = ProtobufReader::new(link);
    while let Ok(Some((number, value))) = reader.field() {
        match (number, value) {
            (1, FieldValue::Bytes(value)) => trace_id = value,
            (2, FieldValue::Bytes(value)) => span_id = value,
            (3, FieldValue::Bytes(value)) => trace_state = value,
            (5, FieldValue::Varint(value)) => dropped = low32(value),
            (6, FieldValue::Fixed32(value)) => flags = value,
            _ => {}
        }
    }
    out.push('{');
    json_writer::number_member(out, "flags", flags.into());
    if is_id::<8>(span_id) {
        json_writer::text_member(out, "spanId", Hex::<16>::of(span_id).as_bytes());
    }
    if is_id::<16>(trace_id) {
        json_writer::text_member(out, "traceId", Hex::<32>::of(trace_id).as_bytes());
    }
    attributes_member(out, link, 4, style);
    json_writer::text_member(out, "traceState", trace_state);
    json_writer::number_member(out, "droppedAttributesCount", dropped.into());
    out.push('}');
}
