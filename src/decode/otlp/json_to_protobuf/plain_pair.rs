//! Converts attributes in the form in which most of them arrive: `{"key":"…","value":{"stringValue":"…"}}`, without
//! spaces and escapes.
//!
//! **Invariant:** the output is that of the general conversion by the schema.

use crate::decode::json::json_reader::JsonReader;
use crate::decode::protobuf::LENGTH_DELIMITED;

/// The keys of `KeyValue.key`, `KeyValue.value` and `AnyValue.string_value`.
const KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const VALUE: u8 = 2 << 3 | LENGTH_DELIMITED;
const STRING_VALUE: u8 = 1 << 3 | LENGTH_DELIMITED;

/// Converts the next value if it is such an attribute, and its texts are short; otherwise returns false and reads
/// nothing.
pub(super) fn plain_pair(reader: &mut JsonReader<'_>, out: &mut Vec<u8>) -> bool {
    let mut ahead = *reader;
    let Some(key) = ahead.plain_text_after(b"{\"key\":") else {
        return false;
    };
    let Some(value) = ahead.plain_text_after(b",\"value\":{\"stringValue\":") else {
        return false;
    };
    if !ahead.take_all(b"}}") {
        return false;
    }
    // With these lengths, that of the value takes one byte, too.
    let (Some(key_len), Some(text_len)) = (short_len(key), short_len(value)) else {
        return false;
    };
    out.extend_from_slice(&[KEY, key_len]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[VALUE, text_len + 2, STRING_VALUE, text_len]);
    out.extend_from_slice(value.as_bytes());
    *reader = ahead;
    true
}

fn short_len(text: &str) -> Option<u8> {
    u8::try_from(text.len()).ok().filter(|len| *len < 0x7e)
}

#[cfg(test)]
mod tests {
    use crate::decode::json::json_reader::JsonReader;
    use crate::decode::otlp::json_to_protobuf::message;
    use crate::decode::otlp::schema::KEY_VALUE;
    use crate::event::{Encoding, Limits, Signal, Source};

    /// Converts an attribute; returns the message, the number of repaired texts, and the number of bytes read.
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
        let repaired = message(&mut reader, &KEY_VALUE, &source, &mut out).ok()?;
        Some((out, repaired, reader.at()))
    }

    #[test]
    fn an_attribute_is_converted_alike_with_and_without_a_space() {
        let long = |len: usize| "x".repeat(len).into_bytes();
        let mut texts: Vec<Vec<u8>> = (120..=130).map(long).collect();
        texts.extend([vec![], b"plain".to_vec(), "é".into(), vec![0xff, b'a']]);
        texts.extend([r"a\nb", r"\u0000", r"\ud800", r#"\""#, r"\x"].map(Into::into));
        for text in &texts {
            for key in [&b"key"[..], text] {
                for depth in [0, 1, 24] {
                    let compact = [
                        b"{\"key\":\"",
                        key,
                        b"\",\"value\":{\"stringValue\":\"",
                        text,
                        b"\"}}",
                    ];
                    let spaced = [&b"{ "[..], &compact.concat()[1..]].concat();
                    let expected = convert(&spaced, depth);
                    let found = convert(&compact.concat(), depth);
                    let found = found.map(|(out, repaired, at)| (out, repaired, at + 1));
                    assert_eq!(found, expected, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn every_cut_of_an_attribute_is_an_error() {
        let whole = br#"{"key":"k","value":{"stringValue":"v"}}"#;
        assert!(convert(whole, 24).is_some());
        for end in 0..whole.len() {
            assert_eq!(convert(&whole[..end], 24), None);
        }
    }
}
