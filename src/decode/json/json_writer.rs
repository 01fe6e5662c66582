//! Writes JSON as PostgreSQL prints JSONB: `{"a": 1, "b": [1, 2]}`, keys by length and then by bytes, plain numbers.
//!
//! **Invariant:** the output is valid JSON without a NUL, and PostgreSQL prints it from JSONB as the same text.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::decode::json::json_text::{JsonText, json_string};
use crate::decode::json::string::{is_plain_ascii, plain_end};

/// Maximum number of characters of a number in plain digits. PostgreSQL accepts larger numbers and can then neither
/// print nor dump the row.
pub(in crate::decode) const NUMBER_CHARACTERS: usize = 400;

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

/// Writes a whole number.
pub(in crate::decode) fn unsigned(out: &mut JsonText<'_>, mut value: u64) {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[b'0'; 2]; 100];
        let (mut number, mut tens) = (0, b'0');
        while tens <= b'9' {
            let mut ones = b'0';
            while ones <= b'9' {
                pairs[number] = [tens, ones];
                number += 1;
                ones += 1;
            }
            tens += 1;
        }
        pairs
    };
    let pair = |value: u64| PAIRS[usize::try_from(value % 100).unwrap_or_default()];
    let mut digits = [0; 20];
    let mut start = digits.len();
    while value >= 10 {
        start -= 2;
        [digits[start], digits[start + 1]] = pair(value);
        value /= 100;
    }
    if value > 0 || start == digits.len() {
        start -= 1;
        digits[start] = pair(value)[1];
    }
    out.push_utf8(&digits[start..]);
}

/// Writes a whole number with its sign.
pub(in crate::decode) fn signed(out: &mut JsonText<'_>, value: i64) {
    if value < 0 {
        out.push('-');
    }
    unsigned(out, value.unsigned_abs());
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

/// Writes a string that was found to be plain ASCII ([`is_plain_ascii`]).
#[inline]
pub(in crate::decode) fn plain_text(out: &mut JsonText<'_>, text: &[u8]) {
    out.push('"');
    out.push_utf8(text);
    out.push('"');
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

/// Writes a double in the fewest plain digits that read back as the same value, always with a fraction. A value that
/// JSONB has no number for is tagged: `{"$double": "NaN"}`.
pub(in crate::decode) fn double(out: &mut JsonText<'_>, value: f64) {
    let tag = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "Infinity"
    } else if value == f64::NEG_INFINITY {
        "-Infinity"
    } else if value == 0.0 && value.is_sign_negative() {
        "-0.0"
    } else {
        display(out, value);
        // A whole number is displayed without a point, any other with one.
        if value.fract() == 0.0 {
            out.push_str(".0");
        }
        return;
    };
    out.push_str("{\"$double\": \"");
    out.push_str(tag);
    out.push_str("\"}");
}

/// Returns the number of characters of a JSON number in plain digits; `None` if it exceeds 400.
pub(in crate::decode) fn plain_len(number: &str) -> Option<usize> {
    if is_plain(number) {
        return Some(number.len());
    }
    PlainNumber::of(number).map(|plain| count(plain.characters))
}

/// Writes a JSON number in plain digits, as `numeric` prints it: `1e2` is 100, `1.50` stays, `-0` is 0.
/// Returns `None` and writes nothing if that takes more than 400 characters.
pub(in crate::decode) fn plain_number(out: &mut JsonText<'_>, number: &str) -> Option<()> {
    if is_plain(number) {
        out.push_str(number);
    } else {
        PlainNumber::of(number)?.write(out);
    }
    Some(())
}

/// Returns a JSON number in plain digits; `None` if it exceeds 400.
pub(in crate::decode) fn plain_digits(number: &str) -> Option<String> {
    let mut is_written = None;
    let digits = json_string(|out| is_written = plain_number(out, number));
    is_written.map(|()| digits)
}

/// Returns whether a JSON number is written in plain digits already, as most are.
fn is_plain(number: &str) -> bool {
    let is_plain_byte = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    number.len() <= NUMBER_CHARACTERS && number.bytes().all(is_plain_byte)
}

/// The parts of a JSON number.
#[derive(Debug)]
struct PlainNumber<'a> {
    is_negative: bool,
    /// Digits before the point, as written.
    whole: &'a str,
    /// Digits after the point, as written.
    fraction: &'a str,
    /// Index of the point in all the digits after the exponent has moved it; may lie outside of them.
    point: i64,
    /// Number of digits after the moved point.
    scale: i64,
    /// Index of the first digit that is not 0.
    first: Option<i64>,
    /// Number of characters of the output.
    characters: i64,
}

impl<'a> PlainNumber<'a> {
    fn of(number: &'a str) -> Option<Self> {
        let rest = number.strip_prefix('-').unwrap_or(number);
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, saturating_exponent(exponent)),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if mantissa.len() > NUMBER_CHARACTERS {
            return None;
        }
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let mut digits = whole.bytes().chain(fraction.bytes());
        let mut plain = Self {
            is_negative: rest.len() < number.len(),
            whole,
            fraction,
            point: signed(whole.len()).saturating_add(exponent),
            scale: signed(fraction.len()).saturating_sub(exponent).max(0),
            first: digits.position(|byte| byte != b'0').map(signed),
            characters: 0,
        };
        let sign = i64::from(plain.is_negative && plain.first.is_some());
        let leading = plain
            .first
            .map_or(1, |first| plain.point.saturating_sub(first).max(1));
        plain.characters = sign + leading + plain.scale + i64::from(plain.scale > 0);
        (plain.characters <= signed(NUMBER_CHARACTERS)).then_some(plain)
    }

    fn write(&self, out: &mut JsonText<'_>) {
        let Some(first) = self.first else {
            out.push('0');
            if self.scale > 0 {
                out.push('.');
                push_all(out, std::iter::repeat_n('0', count(self.scale)));
            }
            return;
        };
        if self.is_negative {
            out.push('-');
        }
        if first >= self.point {
            out.push('0');
        }
        push_all(out, self.digits(first, self.point - first));
        if self.scale > 0 {
            out.push('.');
            let zeros = (-self.point).clamp(0, self.scale);
            push_all(out, std::iter::repeat_n('0', count(zeros)));
            push_all(out, self.digits(self.point.max(0), self.scale - zeros));
        }
    }

    /// Returns `len` digits from index `from` on; zeros follow the last one.
    fn digits(&self, from: i64, len: i64) -> impl Iterator<Item = char> {
        let digits = self.whole.chars().chain(self.fraction.chars());
        digits
            .chain(std::iter::repeat('0'))
            .skip(count(from))
            .take(count(len))
    }
}

fn push_all(out: &mut JsonText<'_>, characters: impl Iterator<Item = char>) {
    for character in characters {
        out.push(character);
    }
}

/// Converts a count; a negative one becomes 0. Exponents that would make it large were refused before.
fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// Parses an exponent, clamped to ±2^32, which is far out of the range that is accepted.
fn saturating_exponent(exponent: &str) -> i64 {
    let limit = 1 << 32;
    match exponent.parse::<i64>() {
        Ok(value) => value.clamp(-limit, limit),
        Err(_) if exponent.starts_with('-') => -limit,
        Err(_) => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::json_text::InvalidText;

    #[test]
    fn numbers_are_printed_as_jsonb_prints_them() {
        for (number, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("0e5", "0"),
            ("0e999999999999999999999", "0"),
            ("0.00e1", "0.0"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("1.50", "1.50"),
            ("-1.5e1", "-15"),
            ("1.50e1", "15.0"),
            ("1.5e3", "1500"),
            ("15e-3", "0.015"),
            ("-15e-1", "-1.5"),
            ("0.5e1", "5"),
            ("0.05e1", "0.5"),
            ("0.05e3", "50"),
            ("0.0000", "0.0000"),
            ("9223372036854775808", "9223372036854775808"),
            (
                "123456789012345678901234567890.10",
                "123456789012345678901234567890.10",
            ),
        ] {
            assert_eq!(plain_digits(number).as_deref(), Some(expected), "{number}");
        }
    }

    #[test]
    fn a_number_of_more_than_400_plain_digits_is_refused() {
        assert_eq!(plain_digits("1e399").map(|text| text.len()), Some(400));
        assert_eq!(
            plain_digits(&"9".repeat(400)).map(|text| text.len()),
            Some(400)
        );
        for number in [
            "1e400",
            "1e131071",
            "1e-399",
            "0e-399",
            "1e99999999999999999999",
            "-1e399",
        ] {
            assert_eq!(plain_digits(number), None, "{number}");
        }
        assert_eq!(plain_digits(&"9".repeat(401)), None);
    }

    #[test]
    fn doubles_have_a_fraction_and_read_back_the_same() {
        for value in [
            1.0,
            -2.5,
            0.1,
            1e300,
            5e-324,
            f64::MAX,
            1e21,
            123_456_789.125,
        ] {
            let out = json_string(|out| double(out, value));
            assert!(out.contains('.') && !out.contains(['e', 'E']), "{out}");
            assert_eq!(out.parse(), Ok(value));
            assert!(plain_digits(&out).is_some());
        }
        for (value, expected) in [
            (f64::NAN, r#"{"$double": "NaN"}"#),
            (f64::INFINITY, r#"{"$double": "Infinity"}"#),
            (f64::NEG_INFINITY, r#"{"$double": "-Infinity"}"#),
            (-0.0, r#"{"$double": "-0.0"}"#),
            (0.0, "0.0"),
        ] {
            let out = json_string(|out| double(out, value));
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn whole_numbers_are_written_as_they_are_displayed() {
        let powers = (0..20).map(|digits| 10_u64.saturating_pow(digits));
        for value in powers.flat_map(|power| [power - 1, power, power + 7]) {
            assert_eq!(json_string(|out| unsigned(out, value)), value.to_string());
        }
        for value in [0, -1, 10, -100, i64::MIN, i64::MAX] {
            assert_eq!(json_string(|out| signed(out, value)), value.to_string());
        }
    }

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
