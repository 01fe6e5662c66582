//! JSON strings: finds the end of their plain stretches and decodes their escapes.
//!
//! **Invariant:** a string keeps its escapes as they are written until it is decoded, so that half of a surrogate pair
//! is never lost unnoticed.

use std::borrow::Cow;

/// The part of a string between its quotes, as it is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct JsonString<'a> {
    pub(in crate::decode) raw: RawString<'a>,
    pub(in crate::decode) has_escapes: bool,
}

/// A part of a JSON text; `Err` with its bytes if they are not UTF-8.
pub(in crate::decode) type RawString<'a> = Result<&'a str, &'a [u8]>;

/// Returns the offset of the first quote, backslash or control character from `at` on, else the length.
#[inline]
pub(in crate::decode) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    let (words, _) = bytes.get(at..).unwrap_or_default().as_chunks();
    for word in words {
        let found = specials(u64::from_le_bytes(*word)) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            break;
        }
        at += 1;
    }
    at
}

/// Returns whether a text is ASCII without quotes, backslashes and control characters, as most are: its JSON is the
/// same text in quotes.
#[inline]
pub(in crate::decode) fn is_plain_ascii(text: &[u8]) -> bool {
    let eight = |bytes: &[u8; 8]| {
        // No byte from 0x80 on is plain, so a subtraction need not spare the high bits that are set.
        let v = u64::from_le_bytes(*bytes);
        let quote = (v ^ (ONES * 0x22)).wrapping_sub(ONES);
        let backslash = (v ^ (ONES * 0x5c)).wrapping_sub(ONES);
        v | v.wrapping_sub(ONES * 0x20) | quote | backslash
    };
    let found = match (
        text.last_chunk(),
        text.first_chunk(),
        text.last_chunk(),
        text,
    ) {
        (Some(last), ..) => {
            let (chunks, _) = text.as_chunks();
            chunks
                .iter()
                .fold(eight(last), |found, chunk| found | eight(chunk))
        }
        // The two halves overlap.
        (None, Some(&[a, b, c, d]), Some(&[e, f, g, h]), _) => eight(&[a, b, c, d, e, f, g, h]),
        (_, _, _, []) => 0,
        (_, _, _, &[first, .., last]) => {
            let middle = text[text.len() / 2];
            eight(&[first, middle, last, b' ', b' ', b' ', b' ', b' '])
        }
        (_, _, _, &[only]) => eight(&[only, b' ', b' ', b' ', b' ', b' ', b' ', b' ']),
    };
    found & HIGH == 0
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Sets the high bit of each byte that ends a plain stretch. If there is one, the high bits of later bytes may be set,
/// too; other bits have no meaning.
///
/// If a byte is below `n`, the high bit of that byte of `v.wrapping_sub(ONES * n) & !v` is set. A borrow can set only
/// bits of later bytes. With bit 1 inverted, a quote follows the control characters, and everything else stays above.
const fn specials(v: u64) -> u64 {
    let control_or_quote = (v ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (v ^ (ONES * 0x5c)).wrapping_sub(ONES);
    (control_or_quote | backslash) & !v
}

/// One decoded character of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringUnit {
    Char(char),
    LoneSurrogate(u16),
    /// A maximal sequence of bytes that begins no character (Unicode, 3.9, "U+FFFD Substitution of Maximal Subparts").
    IllFormed,
}

impl<'a> JsonString<'a> {
    /// Returns the text between the quotes, with its escapes unchanged; empty if it is not UTF-8.
    pub(in crate::decode) fn written(self) -> &'a str {
        self.raw.unwrap_or_default()
    }

    /// Returns the text if it has no escapes and is UTF-8.
    #[inline]
    pub(in crate::decode) fn plain(self) -> Option<&'a str> {
        self.raw.ok().filter(|_| !self.has_escapes)
    }

    /// Returns the decoded text; each lone surrogate and each ill-formed sequence becomes U+FFFD.
    #[inline]
    pub(in crate::decode) fn decode(self) -> Cow<'a, str> {
        match self.raw {
            Ok(plain) if !self.has_escapes => Cow::Borrowed(plain),
            _ => self.decode_odd(),
        }
    }

    /// Returns the decoded text without NULs, which only an escape can write.
    pub(in crate::decode) fn decode_without_nul(self) -> Cow<'a, str> {
        let text = self.decode();
        if self.has_escapes && text.contains('\0') {
            return Cow::Owned(text.replace('\0', "\u{fffd}"));
        }
        text
    }

    /// The decoded text of one with escapes, or for one that is not UTF-8.
    fn decode_odd(self) -> Cow<'a, str> {
        let len = self.raw.map_or_else(<[u8]>::len, str::len);
        let mut out = String::with_capacity(len);
        self.units(|unit| out.push(unit.repaired()));
        Cow::Owned(out)
    }

    /// Appends the same text; returns true if anything was replaced.
    pub(in crate::decode) fn decode_repaired(self, out: &mut Vec<u8>) -> bool {
        if let (Ok(plain), false) = (self.raw, self.has_escapes) {
            out.extend_from_slice(plain.as_bytes());
            return false;
        }
        self.decode_odd_repaired(out)
    }

    fn decode_odd_repaired(self, out: &mut Vec<u8>) -> bool {
        let mut is_repaired = false;
        self.units(|unit| {
            is_repaired |= !matches!(unit, StringUnit::Char(_));
            out.extend_from_slice(unit.repaired().encode_utf8(&mut [0; 4]).as_bytes());
        });
        is_repaired
    }

    /// Appends the decoded text; a lone surrogate becomes the three bytes of its code point, which are not valid UTF-8.
    pub(in crate::decode) fn decode_bytes(self, out: &mut Vec<u8>) {
        if let (Ok(plain), false) = (self.raw, self.has_escapes) {
            out.extend_from_slice(plain.as_bytes());
            return;
        }
        self.units(|unit| match unit {
            StringUnit::Char(_) | StringUnit::IllFormed => {
                out.extend_from_slice(unit.repaired().encode_utf8(&mut [0; 4]).as_bytes());
            }
            StringUnit::LoneSurrogate(unit) => {
                let [high, low] = unit.to_be_bytes();
                let middle = 0x80 | (high << 2 & 0x3c) | low >> 6;
                out.extend_from_slice(&[0xe0 | high >> 4, middle, 0x80 | low & 0x3f]);
            }
        });
    }

    /// Returns whether the text has a NUL, and whether it has a surrogate without its other half.
    #[inline]
    pub(in crate::decode) fn oddities(self) -> (bool, bool) {
        if self.has_escapes {
            self.oddities_of_escaped()
        } else {
            (false, false)
        }
    }

    fn oddities_of_escaped(self) -> (bool, bool) {
        let (mut nul, mut lone) = (false, false);
        self.units(|unit| match unit {
            StringUnit::Char('\0') => nul = true,
            StringUnit::Char(_) => {}
            StringUnit::LoneSurrogate(_) | StringUnit::IllFormed => lone = true,
        });
        (nul, lone)
    }

    fn units(self, mut take: impl FnMut(StringUnit)) {
        match self.raw {
            Ok(text) => units(text, &mut take),
            // Escapes are ASCII, so no escape extends over two chunks.
            Err(bytes) => {
                for chunk in bytes.utf8_chunks() {
                    units(chunk.valid(), &mut take);
                    if !chunk.invalid().is_empty() {
                        take(StringUnit::IllFormed);
                    }
                }
            }
        }
    }
}

impl StringUnit {
    const fn repaired(self) -> char {
        match self {
            Self::Char(character) => character,
            Self::LoneSurrogate(_) | Self::IllFormed => char::REPLACEMENT_CHARACTER,
        }
    }
}

fn units(text: &str, take: &mut impl FnMut(StringUnit)) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        rest[..at]
            .chars()
            .for_each(|character| take(StringUnit::Char(character)));
        let (unit, after) = unescape(&rest[at + 1..]);
        take(unit);
        rest = after;
    }
    rest.chars()
        .for_each(|character| take(StringUnit::Char(character)));
}

/// Decodes an escape without its backslash, which the reader has found to be well formed; returns the character and the
/// text after it.
fn unescape(escape: &str) -> (StringUnit, &str) {
    let mut rest = escape.chars();
    let character = match rest.next().unwrap_or_default() {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unescape_unicode(&escape[1..]),
        other => other,
    };
    (StringUnit::Char(character), rest.as_str())
}

fn unescape_unicode(digits: &str) -> (StringUnit, &str) {
    let unit = |digits: Option<&str>| u16::from_str_radix(digits?, 16).ok();
    let high = unit(digits.get(..4)).unwrap_or_default();
    let rest = digits.get(4..).unwrap_or_default();
    let low = rest
        .strip_prefix("\\u")
        .and_then(|low| unit(low.get(..4)))
        .filter(|low| (0xdc00..=0xdfff).contains(low));
    match (high, low) {
        (0xd800..=0xdbff, Some(low)) => {
            let point = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
            let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            (StringUnit::Char(character), &rest[6..])
        }
        (0xd800..=0xdfff, _) => (StringUnit::LoneSurrogate(high), rest),
        _ => {
            let character = char::from_u32(high.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
            (StringUnit::Char(character), rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::json_reader::JsonReader;

    #[test]
    fn the_end_of_a_plain_stretch_is_found_at_every_place() {
        for special in (0..=0x1f).chain([b'"', b'\\']) {
            for at in 0..20 {
                let mut bytes = [
                    b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, b'a', 0xa2, 0xdc,
                ]
                .repeat(2);
                bytes[at] = special;
                assert_eq!(plain_end(&bytes, 0), at);
                bytes.truncate(at);
                assert_eq!(plain_end(&bytes, 0), at);
            }
        }
    }

    #[test]
    fn a_plain_text_is_ascii_that_needs_no_escape() {
        for len in 0..40 {
            let mut text = vec![b'~'; len];
            assert!(is_plain_ascii(&text), "{len}");
            for at in 0..len {
                for byte in 0..=0xff {
                    text[at] = byte;
                    let is_plain = matches!(byte, 0x20..=0x7f) && !matches!(byte, b'"' | b'\\');
                    assert_eq!(is_plain_ascii(&text), is_plain, "{byte} at {at} of {len}");
                }
                text[at] = b' ';
            }
        }
    }

    #[test]
    fn escapes_are_undone() {
        let mut reader = JsonReader::new(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#);
        let text = reader.text().expect("a string");
        assert_eq!(text.decode(), "a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}z");
        assert_eq!(text.oddities(), (false, false));
    }

    #[test]
    fn a_lone_surrogate_is_seen_in_every_place() {
        for raw in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800\udc00""#,
        ] {
            let text = JsonReader::new(raw).text().expect("a string");
            assert_eq!(text.oddities(), (false, true), "{raw}");
            let mut bytes = vec![];
            text.decode_bytes(&mut bytes);
            assert!(std::str::from_utf8(&bytes).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_lone_surrogate_is_written_as_the_bytes_that_stand_for_it() {
        let mut bytes = vec![];
        let text = JsonReader::new(r#""\ud83d \udfff""#)
            .text()
            .expect("a string");
        text.decode_bytes(&mut bytes);
        assert_eq!(bytes, [0xed, 0xa0, 0xbd, b' ', 0xed, 0xbf, 0xbf]);
    }
}
