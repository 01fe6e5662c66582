//! Validates one item in protobuf before it is mapped: counts its messages and levels, and checks its texts.
//!
//! **Invariant:** a valid item has at most the allowed nodes and levels, every known field has its own wire type, and
//! every text of `ValidItem::item` is valid UTF-8.

use std::borrow::Cow;

use crate::decode::otlp::pieces::merged;
use crate::decode::otlp::schema::{FieldType, MessageSchema};
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader, WRONG_TYPE, packed_fixed64};
use crate::event::{Limits, Sanitized, Source};

/// The reason why an item is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum Invalid {
    /// The item is not protobuf, for which the whole request is refused.
    Malformed(Malformed),
    TooDeep,
    TooManyNodes,
}

impl From<Malformed> for Invalid {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A valid item and the measurements of its bytes.
#[derive(Debug)]
pub(in crate::decode) struct ValidItem<'a> {
    /// The item's message; a copy if a text was repaired or a message arrived in pieces.
    pub(in crate::decode) item: Cow<'a, [u8]>,
    /// Number of changes to the item, by reason.
    pub(in crate::decode) repairs: Sanitized,
    /// Length of the longest text or bytes value of an attribute.
    pub(in crate::decode) longest_value_bytes: usize,
    /// Number of bytes by which its row exceeds the message. Counts only values that grow to a multiple: digits of
    /// doubles, control characters, empty values, and small numbers with long names.
    pub(in crate::decode) expansion_bytes: usize,
    /// The message as received.
    bytes: &'a [u8],
    /// An embedded message is given in more than one piece.
    has_pieces: bool,
    nodes_left: u32,
    limits: &'a Limits,
}

impl<'a> ValidItem<'a> {
    /// Validates one message.
    ///
    /// # Errors
    /// [`Invalid`] with the reason.
    pub(in crate::decode) fn of(
        bytes: &'a [u8],
        schema: &'static MessageSchema,
        source: &'a Source,
    ) -> Result<Self, Invalid> {
        let limits = &source.limits;
        let mut valid = Self {
            item: Cow::Borrowed(bytes),
            repairs: Sanitized::default(),
            longest_value_bytes: 0,
            expansion_bytes: 0,
            bytes,
            has_pieces: false,
            nodes_left: limits.nodes,
            limits,
        };
        valid.message(bytes, schema, 0)?;
        if valid.has_pieces && source.merges_pieces() {
            valid.item = Cow::Owned(merged(&valid.item, schema)?);
        }
        Ok(valid)
    }

    fn message(
        &mut self,
        bytes: &[u8],
        schema: &'static MessageSchema,
        level: u16,
    ) -> Result<(), Invalid> {
        self.count(1)?;
        let level = level + u16::from(schema.is_value);
        if level > self.limits.depth.into() {
            return Err(Invalid::TooDeep);
        }
        if schema.is_value && bytes.is_empty() {
            self.expansion_bytes += EMPTY_BYTES;
        }
        let mut attributes = 0u32;
        // One bit for each embedded message that was found.
        let mut embedded = 0u64;
        let mut reader = ProtobufReader::new(bytes);
        while let Some((number, value)) = reader.field()? {
            let Some(field) = schema.field(number) else {
                continue;
            };
            match (field.kind, value) {
                (FieldType::Text, FieldValue::Bytes(text)) => {
                    self.text(text);
                    self.measure(text, schema);
                }
                (FieldType::Message(schema), FieldValue::Bytes(bytes)) => {
                    if !field.repeated {
                        let bit = 1 << (field.number % 64);
                        self.has_pieces |= embedded & bit != 0;
                        embedded |= bit;
                    }
                    let (cut, longest) = (self.repairs.cut, self.longest_value_bytes);
                    self.message(bytes, schema, level)?;
                    if field.name == "body" {
                        // The limits are those of attributes: a log record's body is stored whole.
                        self.repairs.cut = cut;
                        self.longest_value_bytes = longest;
                    }
                    if self.limits.attributes != 0 && field.name == "attributes" {
                        attributes += 1;
                        self.repairs.cut += u32::from(attributes > self.limits.attributes);
                    }
                }
                (FieldType::Bytes, FieldValue::Bytes(bytes)) => self.measure(bytes, schema),
                (FieldType::Double | FieldType::Fixed64, FieldValue::Bytes(packed))
                    if field.repeated =>
                {
                    let numbers = packed_fixed64(packed)?;
                    self.count(numbers.len())?;
                    if matches!(field.kind, FieldType::Double) {
                        self.expansion_bytes += numbers.map(zeros).sum::<usize>();
                    }
                }
                (FieldType::Uint64, FieldValue::Bytes(packed)) if field.repeated => {
                    let mut numbers = ProtobufReader::new(packed);
                    while numbers.packed_varint()?.is_some() {
                        self.count(1)?;
                    }
                }
                (FieldType::Double, FieldValue::Fixed64(bits)) => {
                    self.count(usize::from(field.repeated))?;
                    self.expansion_bytes += zeros(bits);
                }
                (FieldType::Fixed64, FieldValue::Fixed64(_))
                | (FieldType::Uint64, FieldValue::Varint(_)) => {
                    self.count(usize::from(field.repeated))?;
                }
                (FieldType::StringReference, FieldValue::Varint(_)) => {
                    self.repairs.string_reference += 1;
                }
                // A number of one byte is written with a name of about twenty characters.
                (FieldType::Uint32, FieldValue::Varint(_)) => {
                    self.expansion_bytes += field.name.len();
                }
                (FieldType::Id, FieldValue::Bytes(_))
                | (
                    FieldType::Bool
                    | FieldType::Int64 { .. }
                    | FieldType::Sint32
                    | FieldType::Enum(_),
                    FieldValue::Varint(_),
                )
                | (FieldType::Sfixed64 { .. }, FieldValue::Fixed64(_))
                | (FieldType::Fixed32, FieldValue::Fixed32(_)) => {}
                _ => return Err(WRONG_TYPE.into()),
            }
        }
        Ok(())
    }

    /// Counts messages, or elements of a list of numbers; fails beyond the limit.
    fn count(&mut self, nodes: usize) -> Result<(), Invalid> {
        let left = u32::try_from(nodes)
            .ok()
            .and_then(|nodes| self.nodes_left.checked_sub(nodes));
        self.nodes_left = left.ok_or(Invalid::TooManyNodes)?;
        Ok(())
    }

    fn text(&mut self, text: &[u8]) {
        // Tests all bytes without a branch, because most texts have no control characters.
        let has_controls = text
            .iter()
            .fold(false, |found, byte| found | (*byte < b' '));
        if has_controls {
            self.repairs.nul += u32::from(text.contains(&0));
            self.expansion_bytes += text.iter().map(escape).sum::<usize>();
        }
        if std::str::from_utf8(text).is_err() {
            self.repairs.utf8 += 1;
            let at = text.as_ptr().addr() - self.bytes.as_ptr().addr();
            repair(&mut self.item.to_mut()[at..at + text.len()]);
        }
    }

    /// Records the length of an attribute's value, and counts a value that will be cut.
    fn measure(&mut self, value: &[u8], schema: &MessageSchema) {
        if schema.is_value {
            self.longest_value_bytes = self.longest_value_bytes.max(value.len());
            let limit = usize::try_from(self.limits.value_bytes).unwrap_or(usize::MAX);
            self.repairs.cut += u32::from(limit != 0 && value.len() > limit);
        }
    }
}

/// Length of `{"$empty": true}`, which is written for a value of no bytes.
const EMPTY_BYTES: usize = 16;

/// Returns the number of bytes by which a byte of a text grows as a control character.
fn escape(byte: &u8) -> usize {
    match byte {
        0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 1,
        0 => 2,
        0x01..=0x1f => 5,
        _ => 0,
    }
}

/// Returns about the number of zeros that a double's plain digits have beyond its significant digits: at most 300.
fn zeros(bits: u64) -> usize {
    match usize::try_from(bits >> 52 & 0x7ff) {
        // NaN, the infinities and 0 have no such zeros.
        Ok(0x7ff) => 0,
        Ok(0) if bits << 1 == 0 => 0,
        // The decimal logarithm of 2 is 0.301.
        Ok(exponent) => (exponent.abs_diff(1023) * 3 / 10).saturating_sub(17),
        Err(_) => 0,
    }
}

/// Replaces each byte that is not UTF-8 by `?`.
pub(in crate::decode) fn repair(text: &mut [u8]) {
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(&text[at..]) {
        let bad = at + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |len| bad + len);
        text[bad..end].fill(b'?');
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::json_text::json_string;
    use crate::decode::otlp::any_value::{ValueStyle, any_value};
    use crate::decode::otlp::schema::{ANY_VALUE, KEY_VALUE};
    use crate::event::{Encoding, Signal};

    fn source() -> Source {
        Source {
            signal: Signal::Span,
            encoding: Encoding::Protobuf,
            partial: false,
            received_unix_nano: 0,
            limits: Limits::default(),
            version: crate::decode::VERSION,
        }
    }

    /// An AnyValue within `levels - 1` arrays.
    fn nested(levels: usize) -> Vec<u8> {
        let mut value = vec![];
        for _ in 1..levels {
            for _ in 0..2 {
                let mut outer = vec![0x0a];
                let mut len = value.len();
                while len >= 0x80 {
                    outer.push(u8::try_from(len & 0x7f).expect("seven bits") | 0x80);
                    len >>= 7;
                }
                outer.push(u8::try_from(len).expect("seven bits"));
                outer.extend_from_slice(&value);
                value = outer;
            }
            value[0] = 0x2a;
        }
        value
    }

    #[test]
    fn depth_counts_values_and_stops_at_the_limit() {
        let source = source();
        assert!(ValidItem::of(&nested(24), &ANY_VALUE, &source).is_ok());
        for levels in [25, 2_000] {
            let fault = ValidItem::of(&nested(levels), &ANY_VALUE, &source).expect_err("too deep");
            assert_eq!(fault, Invalid::TooDeep);
        }
    }

    #[test]
    fn nodes_are_counted_before_anything_is_made_of_them() {
        let mut source = source();
        source.limits.nodes = 3;
        // A key-value list of empty members: itself, its list, and each member.
        let list = |members: usize| {
            [
                &[0x32, u8::try_from(2 * members).expect("small")][..],
                &[0x0a, 0].repeat(members),
            ]
            .concat()
        };
        assert!(ValidItem::of(&list(1), &ANY_VALUE, &source).is_ok());
        let fault = ValidItem::of(&list(2), &ANY_VALUE, &source).expect_err("too many");
        assert_eq!(fault, Invalid::TooManyNodes);
    }

    #[test]
    fn what_is_written_is_a_few_times_as_long_but_for_what_swells() {
        let source = source();
        let style = ValueStyle::row(&source.limits);
        let array = |value: &[u8]| {
            let element = [&[0x0a, u8::try_from(value.len()).expect("short")], value].concat();
            [
                &[0x2a, u8::try_from(10 * element.len()).expect("short")][..],
                &element.repeat(10),
            ]
            .concat()
        };
        let double = |bits: u64| array(&[&[0x21][..], &bits.to_le_bytes()].concat());
        let mut values = vec![
            array(b""),
            array(&[0x10, 1]),
            double(0),
            double(f64::NAN.to_bits()),
        ];
        for byte in 0..=0x7f {
            values.push([&[0x0a, 100][..], &[byte; 100]].concat());
        }
        for exponent in 0..0x7ff {
            values.extend([0, 1, 0xf_3333_3333_3333].map(|digits| double(exponent << 52 | digits)));
        }
        for value in values {
            let valid = ValidItem::of(&value, &ANY_VALUE, &source).expect("a value");
            let out = json_string(|out| any_value(out, &value, &style));
            assert!(
                out.len() <= 5 * value.len() + valid.expansion_bytes,
                "{out}"
            );
            assert!(valid.expansion_bytes <= 5 * out.len(), "{out}");
        }
    }

    #[test]
    fn invalid_text_is_repaired_byte_for_byte_in_a_copy() {
        let source = source();
        let bytes = [0x0a, 5, b'a', 0xff, 0xe2, 0x82, b'b'];
        let valid = ValidItem::of(&bytes, &KEY_VALUE, &source).expect("a key");
        assert_eq!(&valid.item[..], [0x0a, 5, b'a', b'?', b'?', b'?', b'b']);
        assert_eq!(valid.repairs.utf8, 1);
    }

    #[test]
    fn a_known_field_of_another_wire_type_is_malformed_and_an_unknown_one_is_not() {
        let source = source();
        let fault = ValidItem::of(&[0x08, 1], &KEY_VALUE, &source).expect_err("a key is text");
        assert_eq!(fault, Invalid::Malformed(WRONG_TYPE));
        assert!(ValidItem::of(&[0x78, 1], &KEY_VALUE, &source).is_ok());
    }
}
