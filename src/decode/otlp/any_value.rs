//! Writes OTLP's attributes and values as JSON.
//!
//! | value | JSON |
//! | --- | --- |
//! | string, bool, int | the same |
//! | double | plain digits, always with a fraction; `{"$double": "NaN"}` (`Infinity`, `-Infinity`, `-0.0`) |
//! | bytes | `{"$bytes": "<base64>"}` |
//! | array, key-value list, attributes | an array, an object; a key `$x` of the client is `$$x` |
//! | no value | `{"$empty": true}` |
//!
//! **Invariant:** each row of the table can be distinguished from every other, so an export restores a value's type.

use std::borrow::Cow;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::protobuf::{FieldValue, ProtobufReader};
use crate::event::Limits;

/// The order and the limits that values are written with.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct ValueStyle {
    /// Order of an object's keys.
    pub(in crate::decode) order: fn(&str, &str) -> std::cmp::Ordering,
    /// Maximum number of attributes in one list; 0 = no limit.
    pub(in crate::decode) attributes: u32,
    /// Maximum number of bytes of an attribute's text or bytes value; 0 = no limit.
    pub(in crate::decode) value_bytes: u32,
}

impl ValueStyle {
    /// Returns the style of a row: JSONB's order of keys, and values cut by the limits.
    pub(in crate::decode) fn row(limits: &Limits) -> Self {
        Self {
            order: json_writer::key_order,
            attributes: limits.attributes,
            value_bytes: limits.value_bytes,
        }
    }
}

/// Sorted keys with the bytes of their values, each key once: the last of equal keys wins.
pub(in crate::decode) type KeyValues<'a> = Vec<(Cow<'a, str>, &'a [u8])>;

/// Returns a text of a valid item, which is UTF-8.
pub(in crate::decode) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Returns the values of a length-delimited field in their order, up to bytes that are not protobuf.
pub(in crate::decode) fn repeated(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    let mut reader = ProtobufReader::new(message);
    std::iter::from_fn(move || {
        while let Ok(Some((found, value))) = reader.field() {
            if let (true, FieldValue::Bytes(bytes)) = (found == number, value) {
                return Some(bytes);
            }
        }
        None
    })
}

/// Returns the key-value pairs of field `number`, of which the first `limit` count; 0 = all.
pub(in crate::decode) fn pairs<'a>(
    message: &'a [u8],
    number: u32,
    limit: u32,
    style: &ValueStyle,
) -> KeyValues<'a> {
    let limit = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let mut pairs: KeyValues<'a> = repeated(message, number)
        .take(limit)
        .map(key_and_value)
        .collect();
    // The sort is stable, so the last of equal keys stays last.
    pairs.sort_by(|a, b| (style.order)(&a.0, &b.0));
    if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
        pairs.reverse();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        pairs.reverse();
    }
    pairs
}

fn key_and_value(pair: &[u8]) -> (Cow<'_, str>, &[u8]) {
    let (mut key, mut value) = ("", &[][..]);
    let mut reader = ProtobufReader::new(pair);
    while let Ok(Some((number, found))) = reader.field() {
        match (number, found) {
            (1, FieldValue::Bytes(bytes)) => key = text(bytes),
            (2, FieldValue::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    (stored_key(key), value)
}

/// Returns a key as it is stored: without a NUL, and with one more dollar if it begins with one, as the tags do.
fn stored_key(key: &str) -> Cow<'_, str> {
    if key.starts_with('$') || key.contains('\0') {
        let dollar = if key.starts_with('$') { "$" } else { "" };
        Cow::Owned(format!("{dollar}{}", key.replace('\0', "\u{fffd}")))
    } else {
        Cow::Borrowed(key)
    }
}

/// Writes pairs as one object.
pub(in crate::decode) fn object(out: &mut JsonText<'_>, pairs: &KeyValues<'_>, style: &ValueStyle) {
    out.push('{');
    for (key, value) in pairs {
        json_writer::key(out, key);
        any_value(out, value, style);
    }
    out.push('}');
}

/// Writes a member with an object; leaves it out if that is empty.
pub(in crate::decode) fn object_member(
    out: &mut JsonText<'_>,
    name: &str,
    pairs: &KeyValues<'_>,
    style: &ValueStyle,
) {
    if !pairs.is_empty() {
        json_writer::key(out, name);
        object(out, pairs, style);
    }
}

/// Writes the member `attributes` from field `number` of a message; leaves it out if there are none.
pub(in crate::decode) fn attributes_member(
    out: &mut JsonText<'_>,
    message: &[u8],
    number: u32,
    style: &ValueStyle,
) {
    let pairs = pairs(message, number, style.attributes, style);
    object_member(out, "attributes", &pairs, style);
}

/// Writes one AnyValue.
pub(in crate::decode) fn any_value(out: &mut JsonText<'_>, message: &[u8], style: &ValueStyle) {
    match chosen(message) {
        Some((1, FieldValue::Bytes(bytes))) => {
            let value = text(bytes);
            json_writer::text(
                out,
                &value[..value.floor_char_boundary(cut(value.len(), style))],
            );
        }
        Some((2, FieldValue::Varint(value))) => {
            out.push_str(if value == 0 { "false" } else { "true" });
        }
        Some((3, FieldValue::Varint(value))) => json_writer::display(out, value.cast_signed()),
        Some((4, FieldValue::Fixed64(bits))) => json_writer::double(out, f64::from_bits(bits)),
        Some((5, FieldValue::Bytes(list))) => {
            out.push('[');
            for value in repeated(list, 1) {
                json_writer::separate(out);
                any_value(out, value, style);
            }
            out.push(']');
        }
        Some((6, FieldValue::Bytes(list))) => object(out, &pairs(list, 1, 0, style), style),
        Some((7, FieldValue::Bytes(bytes))) => {
            out.push_str("{\"$bytes\": \"");
            let bytes = &bytes[..cut(bytes.len(), style)];
            json_writer::display(out, Base64Display::new(bytes, &STANDARD));
            out.push_str("\"}");
        }
        _ => out.push_str("{\"$empty\": true}"),
    }
}

fn cut(len: usize, style: &ValueStyle) -> usize {
    match usize::try_from(style.value_bytes) {
        Ok(0) | Err(_) => len,
        Ok(limit) => len.min(limit),
    }
}

/// Returns the last member of AnyValue's `oneof`, which counts.
fn chosen(message: &[u8]) -> Option<(u32, FieldValue<'_>)> {
    let mut reader = ProtobufReader::new(message);
    let mut chosen = None;
    while let Ok(Some((number, value))) = reader.field() {
        if (1..=7).contains(&number) {
            chosen = Some((number, value));
        }
    }
    chosen
}

/// Returns the text of an attribute that can be a name: a string that is not empty, or a whole number.
pub(in crate::decode) fn name_of(message: &[u8]) -> Option<Cow<'_, str>> {
    match chosen(message)? {
        (1, FieldValue::Bytes(bytes)) if !bytes.is_empty() => Some(without_nul(text(bytes))),
        (3, FieldValue::Varint(value)) => Some(Cow::Owned(value.cast_signed().to_string())),
        _ => None,
    }
}

/// Replaces each NUL by U+FFFD, because no column accepts it.
pub(in crate::decode) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}
