//! Converts attributes in the form in which most of them arrive, `{"key":"…","value":{"stringValue":"…"}}`, without
//! spaces and escapes, also with an `intValue` or a `boolValue`.
//!
//! **Invariant:** the output is that of the general conversion by the schema.

use crate::decode::json::digits::digits;
use crate::decode::json::json_reader::JsonReader;
use crate::decode::json::string::plain_end;
use crate::decode::protobuf::{LENGTH_DELIMITED, VARINT, put_varint};

/// The keys of `KeyValue.key` and `KeyValue.value`.
const KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const VALUE: u8 = 2 << 3 | LENGTH_DELIMITED;
/// The keys of `AnyValue.string_value`, `AnyValue.bool_value` and `AnyValue.int_value`.
const STRING_VALUE: u8 = 1 << 3 | LENGTH_DELIMITED;
const BOOL_VALUE: u8 = 2 << 3 | VARINT;
const INT_VALUE: u8 = 3 << 3 | VARINT;

/// Converts the attributes at the beginning of a list that was just opened, as far as they are such and short; each becomes
/// one field with this number.
pub(super) fn plain_pairs(reader: &mut JsonReader<'_>, number: u32, out: &mut Vec<u8>) {
    let Some(mut rest) = reader.rest_of_text() else {
        return;
    };
    loop {
        let start = out.len();
        put_varint(out, u64::from(number << 3 | u32::from(LENGTH_DELIMITED)));
        let Some(after) = pair(rest, out) else {
            // The next element is read again, after the comma before it.
            out.truncate(start);
            return;
        };
        reader.move_to(after);
        match after {
            [b',', after @ ..] => rest = after,
            _ => return,
        }
    }
}

/// Appends the attribute that `json` begins with, and its length before it; returns the JSON behind it.
fn pair<'a>(json: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (key, rest) = plain_text(json.strip_prefix(br#"{"key":""#)?)?;
    let rest = rest.strip_prefix(br#","value":{""#)?;
    if let Some(rest) = rest.strip_prefix(br#"stringValue":""#) {
        let (text, rest) = plain_text(rest)?;
        let len = short_len(text)?;
        put_key(key, len + 2, out)?;
        out.extend_from_slice(&[STRING_VALUE, len]);
        out.extend_from_slice(text);
        rest.strip_prefix(b"}}")
    } else if let Some(rest) = rest.strip_prefix(br#"intValue":"#) {
        let is_text = rest.first() == Some(&b'"');
        let (value, mut rest) = digits(&rest[usize::from(is_text)..])?;
        if is_text {
            rest = rest.strip_prefix(b"\"")?;
        }
        i64::try_from(value).ok()?;
        put_key(key, varint_len(value) + 1, out)?;
        out.push(INT_VALUE);
        put_varint(out, value);
        rest.strip_prefix(b"}}")
    } else {
        let rest = rest.strip_prefix(br#"boolValue":"#)?;
        let (value, rest) = match rest.strip_prefix(b"true") {
            Some(rest) => (1, rest),
            None => (0, rest.strip_prefix(b"false")?),
        };
        put_key(key, 2, out)?;
        out.extend_from_slice(&[BOOL_VALUE, value]);
        rest.strip_prefix(b"}}")
    }
}

/// Appends the length of a pair, its key, and the length of its value.
#[inline(always)]
fn put_key(key: &[u8], value_len: u8, out: &mut Vec<u8>) -> Option<()> {
    let key_len = short_len(key)?;
    put_varint(out, 4 + u64::from(key_len) + u64::from(value_len));
    out.extend_from_slice(&[KEY, key_len]);
    out.extend_from_slice(key);
    out.extend_from_slice(&[VALUE, value_len]);
    Some(())
}

/// Returns the number of bytes of a varint.
fn varint_len(value: u64) -> u8 {
    u8::try_from((value | 1).ilog2() / 7 + 1).unwrap_or_default()
}

/// Splits a text without escapes from its closing quote and the JSON behind that.
#[inline(always)]
fn plain_text(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, rest) = json.split_at_checked(plain_end(json, 0))?;
    Some((text, rest.strip_prefix(b"\"")?))
}

/// Returns the length of a text if a value of that text has a length of one byte, too.
fn short_len(text: &[u8]) -> Option<u8> {
    u8::try_from(text.len()).ok().filter(|len| *len < 0x7e)
}

#[cfg(test)]
mod tests {
    use crate::decode::json::json_reader::JsonReader;
    use crate::decode::otlp::json_to_protobuf::member;
    use crate::decode::otlp::schema::RESOURCE;
    use crate::event::{Encoding, Limits, Signal, Source};

    /// Converts a list of attributes; returns the message, the number of repaired texts, and the number of bytes read.
    fn convert(json: &[u8], depth: u8) -> Option<(Vec<u8>, u32, usize)> {
        let source = Source {
            signal: Signal::Span,
            encoding: Encoding::Json,
            partial: false,
            received_unix_nano: 0,
            limits: Limits {
                depth,
                ..Limits::default()
            },
            version: crate::decode::VERSION,
        };
        let mut reader = JsonReader::of_any_body(json);
        let mut out = vec![];
        let repaired = member(&mut reader, &RESOURCE.fields[0], &source, &mut out).ok()?;
        Some((out, repaired, reader.at()))
    }

    fn assert_alike(key: &[u8], value: &[u8]) {
        const PLAIN: &[u8] = br#"{"key":"k","value":{"boolValue":true}}"#;
        let pair = [b"{\"key\":\"", key, b"\",\"value\":{", value, b"}}"].concat();
        for (before, after) in [
            (vec![], vec![]),
            ([PLAIN, b","].concat(), [b",", PLAIN].concat()),
        ] {
            let compact = [b"[", &before[..], &pair, &after, b"]"].concat();
            let spaced = [b"[ ", &compact[1..]].concat();
            for depth in [0, 1, 24] {
                let expected = convert(&spaced, depth);
                let found = convert(&compact, depth);
                let found = found.map(|(out, repaired, at)| (out, repaired, at + 1));
                assert_eq!(found, expected, "{}", String::from_utf8_lossy(&compact));
            }
        }
    }

    #[test]
    fn an_attribute_is_converted_alike_with_and_without_a_space() {
        let long = |len: usize| "x".repeat(len).into_bytes();
        let mut texts: Vec<Vec<u8>> = (54..=66).chain(118..=130).map(long).collect();
        texts.extend([vec![], b"plain".to_vec(), "é".into(), vec![0xff, b'a']]);
        texts.extend([r"a\nb", r"\u0000", r"\ud800", r#"\""#, r"\x"].map(Into::into));
        for text in &texts {
            for key in [&b"key"[..], &long(64), text] {
                assert_alike(key, &[b"\"stringValue\":\"", &text[..], b"\""].concat());
            }
        }
        for number in [
            "0",
            "7",
            "127",
            "128",
            "16384",
            "9223372036854775807",
            "9223372036854775808",
            "1234567890123456789012",
            "-1",
            "00",
            "1.0",
            "1e3",
            "1x",
            "",
            "+1",
            " 1",
        ] {
            assert_alike(b"key", format!("\"intValue\":{number}").as_bytes());
            assert_alike(b"key", format!("\"intValue\":\"{number}\"").as_bytes());
            assert_alike(b"key", format!("\"intValue\":\"{number}").as_bytes());
        }
        for value in [
            "\"boolValue\":true",
            "\"boolValue\":false",
            "\"boolValue\":null",
            "\"boolValue\":tru",
            "\"doubleValue\":1.5",
            "\"bool_value\":true",
            "\"int_value\":1",
            "",
            "\"boolValue\":true,\"intValue\":\"1\"",
            "\"stringValue\":\"a\"}, \"key\":{",
        ] {
            assert_alike(b"key", value.as_bytes());
        }
    }

    #[test]
    fn every_cut_of_an_attribute_is_an_error() {
        for value in [
            r#""stringValue":"v""#,
            r#""intValue":"1""#,
            r#""boolValue":true"#,
        ] {
            let whole = format!(r#"[{{"key":"k","value":{{{value}}}}}]"#);
            assert!(convert(whole.as_bytes(), 24).is_some());
            for end in 0..whole.len() {
                assert_eq!(convert(&whole.as_bytes()[..end], 24), None);
            }
        }
    }
}
