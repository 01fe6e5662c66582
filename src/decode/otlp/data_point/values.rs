//! Reads and writes the values of a data point: lists of numbers, buckets, quantiles, exemplars.
//!
//! **Invariant:** a list of numbers reads the same whether it is packed, unpacked or in parts.

use crate::decode::json::json_number;
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle, repeated};
use crate::decode::otlp::item::{FieldRange, Hex, is_id, low32, time_member};
use crate::decode::otlp::key_values::KeyValues;
use crate::decode::protobuf::{FieldValue, ProtobufReader};

/// The value of a number point or an exemplar.
#[derive(Clone, Copy, Debug)]
pub(super) enum PointNumber {
    Integer(i64),
    Double(f64),
}

impl PointNumber {
    pub(super) fn write(self, out: &mut JsonText<'_>) {
        match self {
            Self::Integer(value) => {
                json_writer::key(out, "asInt");
                json_number::signed(out, value);
            }
            Self::Double(value) => {
                json_writer::key(out, "asDouble");
                json_number::double(out, value);
            }
        }
    }
}

/// A repeated field, or a message that may be given in parts: its number and its range.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RepeatedField<'m> {
    pub(super) number: u32,
    pub(super) range: FieldRange<'m>,
}

impl<'m> RepeatedField<'m> {
    /// Returns the part of the message from the first to the last element.
    pub(super) fn bytes(self) -> &'m [u8] {
        self.range.bytes()
    }

    /// Returns the elements of a list of messages.
    pub(super) fn messages(self) -> impl Iterator<Item = &'m [u8]> {
        repeated(self.bytes(), self.number)
    }

    /// Returns the elements of a list of 64-bit numbers.
    pub(super) fn fixed64s(self) -> impl Iterator<Item = u64> {
        fields(self.bytes(), self.number).flat_map(|value| {
            let (alone, packed) = match value {
                FieldValue::Fixed64(number) => (Some(number), &[][..]),
                FieldValue::Bytes(packed) => (None, packed.as_chunks::<8>().0),
                FieldValue::Varint(_) | FieldValue::Fixed32(_) => (None, &[][..]),
            };
            let packed = packed.iter().map(|bytes| u64::from_le_bytes(*bytes));
            alone.into_iter().chain(packed)
        })
    }
}

/// Returns the elements of a list of varints.
fn varints(message: &[u8], number: u32) -> impl Iterator<Item = u64> {
    fields(message, number).flat_map(|value| {
        let (alone, packed) = match value {
            FieldValue::Varint(number) => (Some(number), &[][..]),
            FieldValue::Bytes(packed) => (None, packed),
            FieldValue::Fixed64(_) | FieldValue::Fixed32(_) => (None, &[][..]),
        };
        let mut packed = ProtobufReader::new(packed);
        let packed = std::iter::from_fn(move || packed.packed_varint().ok().flatten());
        alone.into_iter().chain(packed)
    })
}

/// Returns all values of a field.
fn fields(message: &[u8], number: u32) -> impl Iterator<Item = FieldValue<'_>> {
    let mut reader = ProtobufReader::new(message);
    std::iter::from_fn(move || {
        while let Ok(Some((found, value))) = reader.field() {
            if found == number {
                return Some(value);
            }
        }
        None
    })
}

/// Decodes a `sint32`.
pub(super) fn zigzag(value: u64) -> i32 {
    let value = low32(value);
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Writes a member with the buckets of one sign; leaves it out if the message is absent.
pub(super) fn buckets_member(out: &mut JsonText<'_>, name: &str, buckets: RepeatedField<'_>) {
    if buckets.messages().next().is_none() {
        return;
    }
    json_writer::key(out, name);
    out.push('{');
    let offset = buckets.messages().flat_map(|part| fields(part, 1)).last();
    if let Some(FieldValue::Varint(offset)) = offset {
        json_writer::integer_member(out, "offset", zigzag(offset));
    }
    let counts = buckets.messages().flat_map(|part| varints(part, 2));
    json_writer::array_member(out, "bucketCounts", counts, json_number::unsigned);
    out.push('}');
}

pub(super) fn write_quantile(out: &mut JsonText<'_>, quantile_value: &[u8]) {
    out.push('{');
    for (name, number) in [("value", 2), ("quantile", 1)] {
        if let Some(FieldValue::Fixed64(bits)) = fields(quantile_value, number).last() {
            json_writer::double_member(out, name, f64::from_bits(bits));
        }
    }
    out.push('}');
}

pub(super) fn write_exemplar(out: &mut JsonText<'_>, exemplar: &[u8], style: &ValueStyle) {
    let (mut time, mut value) = (0, None);
    let (mut span_id, mut trace_id) = (&[][..], &[][..]);
    let mut reader = ProtobufReader::new(exemplar);
    while let Ok(Some(field)) = reader.field() {
        match field {
            (2, FieldValue::Fixed64(sent)) => time = sent,
            (3, FieldValue::Fixed64(bits)) => {
                value = Some(PointNumber::Double(f64::from_bits(bits)));
            }
            (4, FieldValue::Bytes(id)) => span_id = id,
            (5, FieldValue::Bytes(id)) => trace_id = id,
            (6, FieldValue::Fixed64(sent)) => {
                value = Some(PointNumber::Integer(sent.cast_signed()));
            }
            _ => {}
        }
    }
    out.push('{');
    if let Some(value @ PointNumber::Integer(_)) = value {
        value.write(out);
    }
    if is_id::<8>(span_id) {
        json_writer::text_member(out, "spanId", Hex::<16>::of(span_id).as_bytes());
    }
    if is_id::<16>(trace_id) {
        json_writer::text_member(out, "traceId", Hex::<32>::of(trace_id).as_bytes());
    }
    if let Some(value @ PointNumber::Double(_)) = value {
        value.write(out);
    }
    time_member(out, "timeUnixNano", time);
    let attributes = KeyValues::read(exemplar, 7, 0, style.order);
    any_value::object_member(out, "filteredAttributes", &attributes, style);
    out.push('}');
}
