//! Validates one item in protobuf before it is mapped: counts its messages and levels, and checks its texts.
//!
//! **Invariant:** a valid item has at most the allowed nodes and levels, every known field has its own wire type, and
//! every text of `ValidItem::item` is valid UTF-8.

use std::borrow::Cow;
use std::ptr;

use crate::decode::otlp::pieces::merged;
use crate::decode::otlp::schema::{FieldSchema, FieldType, KEY_VALUE, KnownField, MessageSchema};
use crate::decode::plain_text::is_plain;
use crate::decode::protobuf::{
    LENGTH_DELIMITED, Malformed, ProtobufReader, VARINT, packed_fixed64,
};
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

    /// Takes a message that was found clean before, without looking at it.
    pub(in crate::decode) fn of_clean(bytes: &'a [u8], source: &'a Source) -> Self {
        Self {
            item: Cow::Borrowed(bytes),
            repairs: Sanitized::default(),
            longest_value_bytes: 0,
            expansion_bytes: bytes.len(),
            bytes,
            has_pieces: false,
            nodes_left: 0,
            limits: &source.limits,
        }
    }

    /// Returns whether nothing of the message was changed, and it expands to no more than its double.
    pub(in crate::decode) fn is_clean(&self) -> bool {
        self.repairs == Sanitized::default()
            && matches!(self.item, Cow::Borrowed(_))
            && self.expansion_bytes <= self.bytes.len()
    }

    /// Validates the item, or a message in it.
    fn message(
        &mut self,
        bytes: &[u8],
        schema: &'static MessageSchema,
        level: u16,
    ) -> Result<(), Invalid> {
        let mut message = self.open(bytes, schema, level)?;
        let mut reader = ProtobufReader::new(bytes);
        while let Some(field) = schema.next_field(&mut reader)? {
            self.value(&mut message, field, &mut reader)?;
        }
        Ok(())
    }

    /// Counts a message before its fields are validated.
    fn open(
        &mut self,
        bytes: &[u8],
        schema: &'static MessageSchema,
        outer_level: u16,
    ) -> Result<OpenMessage, Invalid> {
        self.count(1)?;
        let level = outer_level + u16::from(schema.is_value);
        if level > self.limits.depth.into() {
            return Err(Invalid::TooDeep);
        }
        if schema.is_value && bytes.is_empty() {
            self.expansion_bytes += EMPTY_BYTES;
        }
        Ok(OpenMessage {
            is_value: schema.is_value,
            level,
            attributes: 0,
            embedded: 0,
        })
    }

    /// Validates the value of a field, which `reader` is at.
    #[inline(always)]
    fn value(
        &mut self,
        message: &mut OpenMessage,
        field: KnownField,
        reader: &mut ProtobufReader<'_>,
    ) -> Result<(), Invalid> {
        let KnownField {
            schema: field,
            wire_type,
        } = field;
        match field.kind {
            FieldType::Message(inner) => {
                if let Some(rest) = self.plain_pairs(reader.rest(), field, message.level) {
                    *reader = ProtobufReader::new(rest);
                } else {
                    let bytes = reader.bytes()?;
                    if !field.repeated {
                        let bit = 1 << (field.number % 64);
                        self.has_pieces |= message.embedded & bit != 0;
                        message.embedded |= bit;
                    }
                    let (cut, longest) = (self.repairs.cut, self.longest_value_bytes);
                    self.message(bytes, inner, message.level)?;
                    if field.name == "body" {
                        // The limits are those of attributes: a log record's body is stored whole.
                        self.repairs.cut = cut;
                        self.longest_value_bytes = longest;
                    }
                }
                if self.limits.attributes != 0 && field.name == "attributes" {
                    message.attributes += 1;
                    self.repairs.cut += u32::from(message.attributes > self.limits.attributes);
                }
            }
            FieldType::Text => {
                let text = reader.bytes()?;
                self.text(text);
                self.measure(text, message);
            }
            FieldType::Bytes => self.measure(reader.bytes()?, message),
            FieldType::Id => {
                reader.bytes()?;
            }
            FieldType::Double | FieldType::Fixed64 if wire_type == LENGTH_DELIMITED => {
                let numbers = packed_fixed64(reader.bytes()?)?;
                self.count(numbers.len())?;
                if matches!(field.kind, FieldType::Double) {
                    self.expansion_bytes += numbers.map(zeros).sum::<usize>();
                }
            }
            FieldType::Uint64 if wire_type == LENGTH_DELIMITED => {
                let mut numbers = ProtobufReader::new(reader.bytes()?);
                while numbers.packed_varint()?.is_some() {
                    self.count(1)?;
                }
            }
            FieldType::Double => {
                let bits = u64::from_le_bytes(reader.array()?);
                self.count(usize::from(field.repeated))?;
                self.expansion_bytes += zeros(bits);
            }
            FieldType::Fixed64 => {
                reader.array::<8>()?;
                self.count(usize::from(field.repeated))?;
            }
            FieldType::Uint64 => {
                reader.varint()?;
                self.count(usize::from(field.repeated))?;
            }
            FieldType::StringReference => {
                reader.varint()?;
                self.repairs.string_reference += 1;
            }
            // A number of one byte is written with a name of about twenty characters.
            FieldType::Uint32 => {
                reader.varint()?;
                self.expansion_bytes += field.name.len();
            }
            FieldType::Bool | FieldType::Int64 { .. } | FieldType::Sint32 | FieldType::Enum(_) => {
                reader.varint()?;
            }
            FieldType::Sfixed64 { .. } => {
                reader.array::<8>()?;
            }
            FieldType::Fixed32 => {
                reader.array::<4>()?;
            }
        }
        Ok(())
    }

    /// Validates plain pairs ([`plain_pair`]), as most attributes are, that follow each other as values of `field`. `list`
    /// begins behind the first one's key; returns the bytes behind the last one, or `None` if the first one is no such pair.
    /// If attributes are limited, it is the only one.
    ///
    /// It does the same as [`Self::message`] in a fraction of the time.
    fn plain_pairs<'l>(
        &mut self,
        list: &'l [u8],
        field: &FieldSchema,
        level: u16,
    ) -> Option<&'l [u8]> {
        let is_pair = matches!(field.kind, FieldType::Message(schema) if ptr::eq(schema, &raw const KEY_VALUE));
        if !is_pair || level >= self.limits.depth.into() {
            return None;
        }
        let key = u8::try_from(field.number << 3 | u32::from(LENGTH_DELIMITED)).ok();
        let key = key.filter(|_| self.limits.attributes == 0);
        let (mut reader, mut end) = (ProtobufReader::new(list), None);
        while let Ok(pair) = reader.bytes()
            && let Some(nodes_left) = self.nodes_left.checked_sub(2)
            && let Some(text) = plain_pair(pair)
        {
            self.nodes_left = nodes_left;
            self.measure_value(text);
            end = Some(reader.rest());
            if key.is_none() || reader.peek() != key {
                break;
            }
            reader.skip_byte();
        }
        end
    }

    /// Counts messages, or elements of a list of numbers; fails beyond the limit.
    fn count(&mut self, nodes: usize) -> Result<(), Invalid> {
        let left = u32::try_from(nodes)
            .ok()
            .and_then(|nodes| self.nodes_left.checked_sub(nodes));
        self.nodes_left = left.ok_or(Invalid::TooManyNodes)?;
        Ok(())
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        if !is_plain(text) {
            self.odd_text(text);
        }
    }

    /// Counts the control characters of a text, and repairs it if it is not UTF-8.
    fn odd_text(&mut self, text: &[u8]) {
        if text.iter().any(|byte| *byte < b' ') {
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
    fn measure(&mut self, value: &[u8], message: &OpenMessage) {
        if message.is_value {
            self.measure_value(value);
        }
    }

    fn measure_value(&mut self, value: &[u8]) {
        self.longest_value_bytes = self.longest_value_bytes.max(value.len());
        let limit = usize::try_from(self.limits.value_bytes).unwrap_or(usize::MAX);
        self.repairs.cut += u32::from(limit != 0 && value.len() > limit);
    }
}

/// A message whose fields are being validated.
struct OpenMessage {
    is_value: bool,
    /// Number of values around its fields, itself included.
    level: u16,
    /// Number of its attributes so far, counted only if they are limited.
    attributes: u32,
    /// One bit for each embedded message that was found.
    embedded: u64,
}

/// Returns the text of a pair whose key is a plain text, and its value, too, or an integer, which has no text; `None` for any
/// other message.
#[inline(always)]
fn plain_pair(pair: &[u8]) -> Option<&[u8]> {
    let [PAIR_KEY, key_len, rest @ ..] = pair else {
        return None;
    };
    let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
    let (value_len, value_bytes, text) = match rest {
        [PAIR_VALUE, value_len, VALUE_TEXT, len, text @ ..] if usize::from(*len) == text.len() => {
            (*value_len, text.len() + 2, text)
        }
        [PAIR_VALUE, value_len, VALUE_INTEGER, number @ ..] if is_varint(number) => {
            (*value_len, number.len() + 1, &[][..])
        }
        _ => return None,
    };
    // A length of 128 bytes or more takes two bytes.
    if key_len | value_len >= 0x80 || usize::from(value_len) != value_bytes {
        return None;
    }
    (is_plain(key) && is_plain(text)).then_some(text)
}

/// The keys of the fields of `KeyValue` and `AnyValue` that a plain pair has.
const PAIR_KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const PAIR_VALUE: u8 = 2 << 3 | LENGTH_DELIMITED;
const VALUE_TEXT: u8 = 1 << 3 | LENGTH_DELIMITED;
const VALUE_INTEGER: u8 = 3 << 3 | VARINT;

/// Returns whether `bytes` are one varint.
fn is_varint(bytes: &[u8]) -> bool {
    let mut reader = ProtobufReader::new(bytes);
    reader.varint().is_ok() && reader.rest().is_empty()
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
mod tests;
