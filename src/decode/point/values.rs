//! What stands in a data point: lists of numbers, buckets, quantiles, exemplars.
//!
//! **Invariant:** a list of numbers reads the same packed and not, and in parts.

use super::super::item::{Hex, Stretch, is_id, low32, time_member};
use super::super::json;
use super::super::value::{self, Style, repeated};
use super::super::wire::{Reader, Value};

/// The value of a number point or an exemplar.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i64),
    Double(f64),
}

impl Number {
    pub(super) fn write(self, out: &mut String) {
        match self {
            Self::Integer(value) => {
                json::key(out, "asInt");
                json::display(out, value);
            }
            Self::Double(value) => {
                json::key(out, "asDouble");
                json::double(out, value);
            }
        }
    }
}

/// A repeated field, or a message that may be given in parts: its number, and where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List<'m> {
    pub(super) number: u32,
    pub(super) stretch: Stretch<'m>,
}

impl<'m> List<'m> {
    pub(super) const fn extend(&mut self, number: u32, before: &'m [u8], after: &[u8]) {
        self.number = number;
        self.stretch.extend(before, after);
    }

    /// The elements that are messages.
    pub(super) fn messages(self) -> impl Iterator<Item = &'m [u8]> {
        repeated(self.stretch.bytes(), self.number)
    }

    /// The elements that are 64-bit numbers.
    pub(super) fn fixed64s(self) -> impl Iterator<Item = u64> {
        fields(self.stretch.bytes(), self.number).flat_map(|value| {
            let (alone, packed) = match value {
                Value::Fixed64(number) => (Some(number), &[][..]),
                Value::Bytes(packed) => (None, packed.as_chunks::<8>().0),
                Value::Varint(_) | Value::Fixed32(_) => (None, &[][..]),
            };
            let packed = packed.iter().map(|bytes| u64::from_le_bytes(*bytes));
            alone.into_iter().chain(packed)
        })
    }
}

/// The elements of a repeated field that are varints.
fn varints(message: &[u8], number: u32) -> impl Iterator<Item = u64> {
    fields(message, number).flat_map(|value| {
        let (alone, packed) = match value {
            Value::Varint(number) => (Some(number), &[][..]),
            Value::Bytes(packed) => (None, packed),
            Value::Fixed64(_) | Value::Fixed32(_) => (None, &[][..]),
        };
        let mut packed = Reader::new(packed);
        let packed = std::iter::from_fn(move || packed.packed_varint().ok().flatten());
        alone.into_iter().chain(packed)
    })
}

/// All values of a field.
fn fields(message: &[u8], number: u32) -> impl Iterator<Item = Value<'_>> {
    let mut reader = Reader::new(message);
    std::iter::from_fn(move || {
        while let Ok(Some((found, value))) = reader.field() {
            if found == number {
                return Some(value);
            }
        }
        None
    })
}

/// A `sint32`.
pub(super) fn zigzag(value: u64) -> i32 {
    let value = low32(value);
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// A whole member with the buckets of one sign, left out if the message is absent.
pub(super) fn buckets_member(out: &mut String, name: &str, buckets: List<'_>) {
    if buckets.messages().next().is_none() {
        return;
    }
    json::key(out, name);
    out.push('{');
    let offset = buckets.messages().flat_map(|part| fields(part, 1)).last();
    if let Some(Value::Varint(offset)) = offset {
        json::integer_member(out, "offset", zigzag(offset));
    }
    let counts = buckets.messages().flat_map(|part| varints(part, 2));
    json::array_member(out, "bucketCounts", counts, json::display);
    out.push('}');
}

pub(super) fn write_quantile(out: &mut String, quantile_value: &[u8]) {
    out.push('{');
    for (name, number) in [("value", 2), ("quantile", 1)] {
        if let Some(Value::Fixed64(bits)) = fields(quantile_value, number).last() {
            json::double_member(out, name, f64::from_bits(bits));
        }
    }
    out.push('}');
}

pub(super) fn write_exemplar(out: &mut String, exemplar: &[u8], style: &Style) {
    let (mut time, mut value) = (0, None);
    let (mut span_id, mut trace_id) = (&[][..], &[][..]);
    let mut reader = Reader::new(exemplar);
    while let Ok(Some(field)) = reader.field() {
        match field {
            (2, Value::Fixed64(sent)) => time = sent,
            (3, Value::Fixed64(bits)) => value = Some(Number::Double(f64::from_bits(bits))),
            (4, Value::Bytes(id)) => span_id = id,
            (5, Value::Bytes(id)) => trace_id = id,
            (6, Value::Fixed64(sent)) => value = Some(Number::Integer(sent.cast_signed())),
            _ => {}
        }
    }
    out.push('{');
    if let Some(value @ Number::Integer(_)) = value {
        value.write(out);
    }
    if is_id::<8>(span_id) {
        json::text_member(out, "spanId", Hex::<16>::of(span_id).as_str());
    }
    if is_id::<16>(trace_id) {
        json::text_member(out, "traceId", Hex::<32>::of(trace_id).as_str());
    }
    if let Some(value @ Number::Double(_)) = value {
        value.write(out);
    }
    time_member(out, "timeUnixNano", time);
    let attributes = value::pairs(exemplar, 7, 0, style);
    value::object_member(out, "filteredAttributes", &attributes, style);
    out.push('}');
}
