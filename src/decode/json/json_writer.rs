//! Writes JSON as PostgreSQL prints JSONB: `{"a": 1, "b": [1, 2]}`, keys by length and then by bytes, plain numbers.
//!
//! **Invariant:** the output is valid JSON without a NUL, and PostgreSQL prints it from JSONB as the same text.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::decode::json::json_number::{double, signed, unsigned};
use crate::decode::json::json_text::{InvalidText, JsonText};
use crate::decode::json::string::{is_plain_ascii, plain_end};

/// Compares keys in JSONB's order: shorter keys first, then by bytes.
pub(in crate::decode) fn key_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Appends a comma if one is needed before the next member or element.
#[inline]
pub(in crate::decode) fn separate(out: &mut JsonText<'_>) {
    // A text ends with its quote, so only a newly opened object or array ends with `{` or `[`.
    if !matches!(out.last_byte(), Some(b'{' | b'[')) {
        out.push_str(", ");
    }
}

/// Writes the key of the next member of an object; its value follows.
pub(in crate::decode) fn key(out: &mut JsonText<'_>, key: &str) {
    separate(out);
    text(out, key.as_bytes());
    out.push_str(": ");
}

/// Writes a member with a number; leaves it out if that is 0, the default.
pub(in crate::decode) fn number_member(out: &mut JsonText<'_>, name: &str, number: u64) {
    if number != 0 {
        key(out, name);
        unsigned(out, number);
    }
}

/// Writes a member with a signed number; leaves it out if that is 0, the default.
pub(in crate::decode) fn integer_member(out: &mut JsonText<'_>, name: &str, number: i32) {
    if number != 0 {
        key(out, name);
        signed(out, number.into());
    }
}

/// Writes a member with a double; leaves it out if that is 0, the default, but not if it is -0.
pub(in crate::decode) fn double_member(out: &mut JsonText<'_>, name: &str, value: f64) {
    if value.to_bits() != 0 {
        key(out, name);
        double(out, value);
    }
}

/// Writes a member with a text; leaves it out if that is empty, the default.
pub(in crate::decode) fn text_member(out: &mut JsonText<'_>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        key(out, name);
        text(out, value);
    }
}

/// Writes a member with an array; leaves it out if that is empty.
pub(in crate::decode) fn array_member<T>(
    out: &mut JsonText<'_>,
    name: &str,
    elements: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut JsonText<'_>, T),
) {
    let mut elements = elements.peekable();
    if elements.peek().is_none() {
        return;
    }
    key(out, name);
    out.push('[');
    for element in elements {
        separate(out);
        write(out, element);
    }
    out.push(']');
}

/// Writes a value whose `Display` is JSON.
pub(in crate::decode) fn display(out: &mut JsonText<'_>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a string cannot fail");
}

/// Writes a string; a NUL becomes U+FFFD, because neither store accepts it. If the text is not UTF-8, writes an empty
/// string and marks the whole JSON text.
#[inline]
pub(in crate::decode) fn text(out: &mut JsonText<'_>, text: &[u8]) {
    out.push('"');
    if is_plain_ascii(text) {
        out.push_utf8(text);
    } else {
        match std::str::from_utf8(text) {
            Ok(text) => push_escaped(out, text),
            Err(_) => out.mark_invalid(),
        }
    }
    out.push('"');
}

/// Appends the JSON of a key, with the colon behind it.
///
/// # Errors
/// [`InvalidText`] if the key is not UTF-8; an empty one is appended instead.
pub(in crate::decode) fn append_key(json: &mut Vec<u8>, key: &[u8]) -> Result<(), InvalidText> {
    let mut out = JsonText::appending(json);
    text(&mut out, key);
    out.push_str(": ");
    out.finish()
}

/// Writes a key of which [`append_key`] made the JSON; its value follows.
#[inline]
pub(in crate::decode) fn json_key(out: &mut JsonText<'_>, json: &[u8]) {
    separate(out);
    out.push_utf8(json);
}

/// Writes a member with such a key and a text that was found to be plain ([`is_plain_ascii`]).
#[inline]
pub(in crate::decode) fn plain_member(out: &mut JsonText<'_>, json: &[u8], text: &[u8]) {
    separate(out);
    out.push_all([json, b"\"", text, b"\""]);
}

fn push_escaped(out: &mut JsonText<'_>, text: &str) {
    let mut rest = text;
    loop {
        let end = plain_end(rest.as_bytes(), 0);
        out.push_str(&rest[..end]);
        let Some(byte) = rest.as_bytes().get(end) else {
            return;
        };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            0 => out.push('\u{fffd}'),
            control => push_escape(out, *control),
        }
        rest = &rest[end + 1..];
    }
}

/// A control character as `\u0002`: a text of nothing else is six times as long.
fn push_escape(out: &mut JsonText<'_>, control: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value & 15)];
    let escape = [b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control)];
    out.push_utf8(&escape);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::json_text::json_string;

    #[test]
    fn a_text_that_is_not_utf8_is_left_out_and_reported() {
        let mut bytes = Vec::new();
        let mut out = JsonText::appending(&mut bytes);
        text(&mut out, "é".as_bytes());
        text(&mut out, b"a\xff");
        assert_eq!(out.finish(), Err(InvalidText));
        assert_eq!(bytes, "\"é\"\"\"".as_bytes());
    }

    #[test]
    fn texts_are_escaped_as_jsonb_escapes_them() {
        let sent = "a\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é\0\u{1f600}";
        assert_eq!(
            json_string(|out| text(out, sent.as_bytes())),
            "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}é\u{fffd}\u{1f600}\""
        );
    }
}
