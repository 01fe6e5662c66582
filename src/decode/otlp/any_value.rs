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

use crate::decode::json::json_number;
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::json::string::is_plain_ascii;
use crate::decode::otlp::key_layout::KeyOrder;
use crate::decode::otlp::key_values::KeyValues;
use crate::decode::protobuf::{self, FieldValue, LENGTH_DELIMITED, ProtobufReader};
use crate::event::Limits;

/// The order and the limits that values are written with.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct ValueStyle {
    /// Order of an object's keys.
    pub(in crate::decode) order: KeyOrder,
    /// Maximum number of attributes in one list; 0 = no limit.
    pub(in crate::decode) attributes: u32,
    /// Maximum number of bytes of an attribute's text or bytes value; 0 = no limit.
    pub(in crate::decode) value_bytes: u32,
}

impl ValueStyle {
    /// Returns the style of a row: JSONB's order of keys, and values cut by the limits.
    pub(in crate::decode) fn row(limits: &Limits) -> Self {
        Self {
            order: KeyOrder::Jsonb,
            attributes: limits.attributes,
            value_bytes: limits.value_bytes,
        }
    }
}

/// Returns a text of a valid item, which is UTF-8; an empty one for any other.
pub(in crate::decode) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Returns the values of a length-delimited field in their order, up to bytes that are not protobuf.
pub(in crate::decode) fn repeated(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    let mut values = Repeated::new(message, number);
    std::iter::from_fn(move || values.next())
}

/// The values of a length-delimited field, as of [`repeated`], for the loops that are run most often.
#[derive(Debug)]
pub(in crate::decode) struct Repeated<'a> {
    key: u32,
    reader: ProtobufReader<'a>,
}

impl<'a> Repeated<'a> {
    pub(in crate::decode) const fn new(message: &'a [u8], number: u32) -> Self {
        Self {
            key: protobuf::key(number, LENGTH_DELIMITED),
            reader: ProtobufReader::new(message),
        }
    }

    #[inline(always)]
    pub(in crate::decode) fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match self.reader.key().ok()? {
                protobuf::END => return None,
                key if key == self.key => return self.reader.bytes().ok(),
                key => drop(self.reader.value(key).ok()?),
            }
        }
    }
}

/// Writes pairs as one object.
pub(in crate::decode) fn object(out: &mut JsonText<'_>, pairs: &KeyValues<'_>, style: &ValueStyle) {
    object_at(out, pairs, style, LEVELS);
}

fn object_at(out: &mut JsonText<'_>, pairs: &KeyValues<'_>, style: &ValueStyle, levels: u8) {
    if pairs.have_invalid_key() {
        out.mark_invalid();
    }
    out.push('{');
    for (key, value) in pairs.members() {
        let text = text_of(value).map(|text| cut_text(text, style));
        match text {
            Some(text) if is_plain_ascii(text) => json_writer::plain_member(out, key, text),
            _ => {
                json_writer::json_key(out, key);
                value_at(out, value, style, levels);
            }
        }
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
    let pairs = KeyValues::read(message, number, style.attributes, style.order);
    object_member(out, "attributes", &pairs, style);
}

/// The key of a value's text.
const VALUE_TEXT: u8 = 1 << 3 | LENGTH_DELIMITED;

/// Maximum number of nested levels that are written. No limit of a request permits more.
const LEVELS: u8 = u8::MAX;

/// Writes one AnyValue.
pub(in crate::decode) fn any_value(out: &mut JsonText<'_>, message: &[u8], style: &ValueStyle) {
    value_at(out, message, style, LEVELS);
}

/// Writes a value within which `levels` more levels are written.
fn value_at(out: &mut JsonText<'_>, message: &[u8], style: &ValueStyle, levels: u8) {
    match chosen(message) {
        Some((1, FieldValue::Bytes(value))) => {
            json_writer::text(out, cut_text(value, style));
        }
        Some((2, FieldValue::Varint(value))) => {
            out.push_str(if value == 0 { "false" } else { "true" });
        }
        Some((3, FieldValue::Varint(value))) => json_number::signed(out, value.cast_signed()),
        Some((4, FieldValue::Fixed64(bits))) => json_number::double(out, f64::from_bits(bits)),
        Some((5 | 6, FieldValue::Bytes(_))) if levels == 0 => {
            out.mark_invalid();
            out.push_str("null");
        }
        Some((5, FieldValue::Bytes(list))) => {
            out.push('[');
            for value in repeated(list, 1) {
                json_writer::separate(out);
                value_at(out, value, style, levels - 1);
            }
            out.push(']');
        }
        Some((6, FieldValue::Bytes(list))) => {
            let pairs = KeyValues::read(list, 1, 0, style.order);
            object_at(out, &pairs, style, levels - 1);
        }
        Some((7, FieldValue::Bytes(bytes))) => {
            out.push_str("{\"$bytes\": \"");
            let bytes = &bytes[..cut(bytes.len(), style)];
            json_writer::display(out, Base64Display::new(bytes, &STANDARD));
            out.push_str("\"}");
        }
        _ => out.push_str("{\"$empty\": true}"),
    }
}

/// Returns the beginning of a text that the limit permits.
fn cut_text<'a>(value: &'a [u8], style: &ValueStyle) -> &'a [u8] {
    match cut(value.len(), style) {
        len if len == value.len() => value,
        len => &value[..text(value).floor_char_boundary(len)],
    }
}

fn cut(len: usize, style: &ValueStyle) -> usize {
    match usize::try_from(style.value_bytes) {
        Ok(0) | Err(_) => len,
        Ok(limit) => len.min(limit),
    }
}

/// Returns the text of a value that is one short text, as most are.
#[inline]
fn text_of(message: &[u8]) -> Option<&[u8]> {
    match message {
        [VALUE_TEXT, len @ ..0x80, text @ ..] if usize::from(*len) == text.len() => Some(text),
        _ => None,
    }
}

/// Returns the last member of AnyValue's `oneof`, which counts.
#[inline]
fn chosen(message: &[u8]) -> Option<(u32, FieldValue<'_>)> {
    if let Some(text) = text_of(message) {
        return Some((1, FieldValue::Bytes(text)));
    }
    chosen_of(message)
}

fn chosen_of(message: &[u8]) -> Option<(u32, FieldValue<'_>)> {
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
