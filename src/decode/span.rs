//! A span's message to a row.
//!
//! `metadata` holds what has no column, or does not fit it, under its protobuf JSON name, defaults left out:
//! `attributes, events, links, traceState, flags, droppedAttributesCount, droppedEventsCount, droppedLinksCount`;
//! `status: {"message": …}`; `name` when the column holds only its beginning; `startTimeUnixNano` when it does not fit
//! the column; `endTimeUnixNano` when start and duration do not give it back.
//!
//! **Invariant:** with its resource, the row gives back the span as it was sent, but for the order of attributes,
//! duplicate keys (the last wins), ids that are not ids, and sanitised text.

use std::borrow::Cow;

use super::json;
use super::origin::{Origin, column, list_member};
use super::value::{self, Pairs, Style, attributes_member, text};
use super::wire::{Malformed, Reader, Value, WRONG_TYPE};
use crate::event::{Event, Flags};

const CORRELATION_ID_CHARACTERS: usize = 255;
const PROVIDER_CHARACTERS: usize = 100;
const NAME_CHARACTERS: usize = 255;
const NANOS_PER_MS: i64 = 1_000_000;
const DAY_NANOS: u64 = 86_400_000_000_000;

/// Attributes that name the correlation id, the first found wins.
const CORRELATION_ID_KEYS: [&str; 3] = ["correlation_id", "correlation.id", "correlationId"];

/// Attributes that name the provider, the first found wins.
const PROVIDER_KEYS: [&str; 7] = [
    "provider",
    "gen_ai.provider.name",
    "gen_ai.system",
    "db.system.name",
    "db.system",
    "messaging.system",
    "rpc.system",
];

/// The plain fields of a span; of its lists, where they stand.
#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    attributes: Stretch<'a>,
    events: Stretch<'a>,
    links: Stretch<'a>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start: u64,
    end: u64,
    flags: u32,
    dropped_attributes: u64,
    dropped_events: u64,
    dropped_links: u64,
    status_message: &'a [u8],
    status_code: i32,
}

/// The part of a message from the first to the last element of a list; other fields may stand between.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch<'a> {
    /// From the first element to the end of the message.
    from_first: &'a [u8],
    /// What follows the last element.
    bytes_after: usize,
}

impl<'a> Stretch<'a> {
    /// Takes in an element: what a reader had left before it, and after it.
    const fn extend(&mut self, before: &'a [u8], after: &[u8]) {
        if self.from_first.is_empty() {
            self.from_first = before;
        }
        self.bytes_after = after.len();
    }

    fn bytes(self) -> &'a [u8] {
        &self.from_first[..self.from_first.len() - self.bytes_after]
    }
}

/// The low 32 bits, as protobuf reads an enum or a 32-bit number.
fn low32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

impl<'a> Span<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut span = Self::default();
        let mut reader = Reader::new(message);
        loop {
            let before = reader.rest();
            let Some((number, value)) = reader.field()? else {
                return Ok(span);
            };
            match (number, value) {
                (1, Value::Bytes(id)) => span.trace_id = id,
                (2, Value::Bytes(id)) => span.span_id = id,
                (3, Value::Bytes(state)) => span.trace_state = state,
                (4, Value::Bytes(id)) => span.parent_span_id = id,
                (5, Value::Bytes(name)) => span.name = name,
                (6, Value::Varint(kind)) => span.kind = low32(kind).cast_signed(),
                (7, Value::Fixed64(start)) => span.start = start,
                (8, Value::Fixed64(end)) => span.end = end,
                (10, Value::Varint(count)) => span.dropped_attributes = low32(count).into(),
                (12, Value::Varint(count)) => span.dropped_events = low32(count).into(),
                (14, Value::Varint(count)) => span.dropped_links = low32(count).into(),
                (15, Value::Bytes(status)) => span.status(status)?,
                (16, Value::Fixed32(flags)) => span.flags = flags,
                (9, Value::Bytes(_)) => span.attributes.extend(before, reader.rest()),
                (11, Value::Bytes(_)) => span.events.extend(before, reader.rest()),
                (13, Value::Bytes(_)) => span.links.extend(before, reader.rest()),
                (17.., _) => {}
                _ => return Err(WRONG_TYPE),
            }
        }
    }

    fn status(&mut self, status: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(status);
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (2, Value::Bytes(message)) => self.status_message = message,
                (3, Value::Varint(code)) => self.status_code = low32(code).cast_signed(),
                _ => {}
            }
        }
        Ok(())
    }

    /// The field for whose sake the span is not taken, with the reason.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
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

    /// The start is absent, or more than 24 h after receipt: the receive time stands in.
    pub(super) fn is_start_replaced(&self, received_unix_nano: i64) -> bool {
        let received = u64::try_from(received_unix_nano).unwrap_or(0);
        self.start == 0 || self.start > received.saturating_add(DAY_NANOS)
    }

    /// The start as sent, in Unix nanoseconds, where there is one that fits.
    pub(super) fn start(&self) -> Option<i64> {
        i64::try_from(self.start).ok().filter(|start| *start != 0)
    }

    /// Hands the row to `take`; `metadata` is scratch space.
    pub(super) fn row(
        &self,
        origin: &Origin,
        received_unix_nano: i64,
        flags: Flags,
        style: &Style,
        metadata: &mut String,
        take: impl FnOnce(&Event<'_>),
    ) {
        let attributes = value::pairs(self.attributes.bytes(), 9, style.attributes, style);
        let mut flags = flags;
        let is_replaced = self.is_start_replaced(received_unix_nano);
        if is_replaced {
            flags.insert(Flags::TIME_REPLACED);
        }
        if self.end == 0 || self.end < self.start {
            flags.insert(Flags::END_INVALID);
        }
        let start = self.start();
        let time = if is_replaced { None } else { start }.unwrap_or(received_unix_nano);
        let duration = match self.start {
            0 | u64::MAX => None,
            start => self
                .end
                .checked_sub(start)
                .and_then(|ns| i64::try_from(ns).ok()),
        };
        metadata.clear();
        self.write_metadata(&attributes, start, duration, style, metadata);

        let trace_id = Hex::<32>::of(self.trace_id);
        let span_id = Hex::<16>::of(self.span_id);
        let parent_span_id = Hex::<16>::of(self.parent_span_id);
        let correlation_id = first_named(&attributes, &CORRELATION_ID_KEYS).map_or_else(
            || Cow::Borrowed(trace_id.as_str()),
            |id| value::cut_to(id, CORRELATION_ID_CHARACTERS),
        );
        let provider = first_named(&attributes, &PROVIDER_KEYS)
            .map(|provider| value::cut_to(provider, PROVIDER_CHARACTERS))
            .or(origin.provider.as_deref().map(Cow::Borrowed));
        take(&Event {
            correlation_id,
            integration: Cow::Borrowed(&origin.integration),
            provider,
            event_type: Cow::Borrowed("span"),
            timestamp_ms: (time / NANOS_PER_MS).max(0),
            metadata: Cow::Borrowed(metadata),
            trace_id: Some(Cow::Borrowed(trace_id.as_str())),
            span_id: Some(Cow::Borrowed(span_id.as_str())),
            parent_span_id: is_id::<8>(self.parent_span_id)
                .then(|| Cow::Borrowed(parent_span_id.as_str())),
            name: Some(column(self.name, NAME_CHARACTERS)),
            time_unix_nano: start,
            duration_ns: duration,
            kind: Some(self.kind),
            status: Some(match self.status_code {
                0 => Cow::Borrowed("UNSET"),
                1 => Cow::Borrowed("OK"),
                2 => Cow::Borrowed("ERROR"),
                code => Cow::Owned(code.to_string()),
            }),
            resource_id: Some(origin.id),
            flags,
        });
    }

    /// Writes the members in JSONB's order of keys.
    fn write_metadata(
        &self,
        attributes: &Pairs<'_>,
        start: Option<i64>,
        duration: Option<i64>,
        style: &Style,
        out: &mut String,
    ) {
        out.push('{');
        let name = text(self.name);
        if name.chars().nth(NAME_CHARACTERS).is_some() {
            json::text_member(out, "name", name);
        }
        json::number_member(out, "flags", self.flags.into());
        list_member(out, "links", self.links.bytes(), 13, |out, link| {
            write_link(out, link, style);
        });
        list_member(out, "events", self.events.bytes(), 11, |out, event| {
            write_event(out, event, style);
        });
        if !self.status_message.is_empty() {
            json::key(out, "status");
            out.push('{');
            json::text_member(out, "message", text(self.status_message));
            out.push('}');
        }
        if !attributes.is_empty() {
            json::key(out, "attributes");
            value::object(out, attributes, style);
        }
        json::text_member(out, "traceState", text(self.trace_state));
        if duration.is_none() {
            time_member(out, "endTimeUnixNano", self.end);
        }
        json::number_member(out, "droppedLinksCount", self.dropped_links);
        if start.is_none() {
            time_member(out, "startTimeUnixNano", self.start);
        }
        json::number_member(out, "droppedEventsCount", self.dropped_events);
        json::number_member(out, "droppedAttributesCount", self.dropped_attributes);
        out.push('}');
    }
}

fn write_event(out: &mut String, event: &[u8], style: &Style) {
    let (mut time, mut name, mut dropped) = (0, &[][..], 0);
    let mut reader = Reader::new(event);
    while let Ok(Some((number, value))) = reader.field() {
        match (number, value) {
            (1, Value::Fixed64(value)) => time = value,
            (2, Value::Bytes(value)) => name = value,
            (4, Value::Varint(value)) => dropped = low32(value),
            _ => {}
        }
    }
    out.push('{');
    json::text_member(out, "name", text(name));
    attributes_member(out, event, 3, style);
    time_member(out, "timeUnixNano", time);
    json::number_member(out, "droppedAttributesCount", dropped.into());
    out.push('}');
}

fn write_link(out: &mut String, link: &[u8], style: &Style) {
    let (mut trace_id, mut span_id, mut trace_state) = (&[][..], &[][..], &[][..]);
    let (mut dropped, mut flags) = (0, 0);
    let mut reader = Reader::new(link);
    while let Ok(Some((number, value))) = reader.field() {
        match (number, value) {
            (1, Value::Bytes(value)) => trace_id = value,
            (2, Value::Bytes(value)) => span_id = value,
            (3, Value::Bytes(value)) => trace_state = value,
            (5, Value::Varint(value)) => dropped = low32(value),
            (6, Value::Fixed32(value)) => flags = value,
            _ => {}
        }
    }
    out.push('{');
    json::number_member(out, "flags", flags.into());
    if is_id::<8>(span_id) {
        json::text_member(out, "spanId", Hex::<16>::of(span_id).as_str());
    }
    if is_id::<16>(trace_id) {
        json::text_member(out, "traceId", Hex::<32>::of(trace_id).as_str());
    }
    attributes_member(out, link, 4, style);
    json::text_member(out, "traceState", text(trace_state));
    json::number_member(out, "droppedAttributesCount", dropped.into());
    out.push('}');
}

/// A time as JSON has it, a string; left out if it is 0, the default.
fn time_member(out: &mut String, name: &str, time: u64) {
    if time != 0 {
        json::key(out, name);
        json::display(out, format_args!("\"{time}\""));
    }
}

/// The value of the first of `keys` that names something.
fn first_named<'a>(attributes: &Pairs<'a>, keys: &[&str]) -> Option<Cow<'a, str>> {
    keys.iter().find_map(|key| {
        let at = attributes
            .binary_search_by(|(found, _)| json::key_order(found, key))
            .ok()?;
        let (_, value) = attributes[at];
        value::name_of(value)
    })
}

/// An id as the protocol wants it: of its length, and not all zero.
fn is_id<const N: usize>(id: &[u8]) -> bool {
    id.len() == N && id.iter().any(|byte| *byte != 0)
}

/// An id's hex digits, without memory of their own.
#[derive(Debug)]
struct Hex<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> Hex<DIGITS> {
    fn of(id: &[u8]) -> Self {
        const LOWER: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; DIGITS];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id) {
            *pair = [LOWER[usize::from(byte >> 4)], LOWER[usize::from(byte & 15)]];
        }
        Self(digits)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
