//! Converts one message of OTLP's JSON to protobuf by the schema, so that both encodings have one mapping.
//!
//! Accepts the forms that the specification defines and those that clients send: ids in hex of either case; enums as
//! numbers or names; keys in lowerCamelCase, and in snake_case unless that is forbidden (camelCase wins); 64-bit and
//! 32-bit numbers as numbers or strings, also `42.0`; a double in `intValue` if it does not fit an integer; `null` for
//! unset; base64 of either alphabet, padded or not. (OTLP 1.11, JSON Protobuf Encoding.) Half of a surrogate pair, and
//! a sequence that is not UTF-8, becomes U+FFFD.
//!
//! **Invariant:** the output is no longer than a small multiple of the JSON, and no deeper than one level beyond the
//! limit, at which validation rejects it.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};

use crate::decode::json::json_reader::{JsonReader, JsonType as Json, SyntaxError};
use crate::decode::json::string::JsonString;
use crate::decode::otlp::schema::{FieldSchema, FieldType, KEY_VALUE, MessageSchema};
use crate::decode::protobuf::{FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, put_varint as varint};
use crate::event::Source;
use number::{JsonNumber, double, enumeration, integer_or_double, unsigned};
use plain_pair::plain_pairs;
use spelling::{NamesSeen, Spelling, WrittenField};

/// Attributes in their usual form.
mod plain_pair;

/// Numbers and enums in all accepted forms.
mod number;

/// Keys in camelCase and in snake_case.
mod spelling;

/// Standard base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The error for a value that cannot be mapped: it is not JSON, or not of its member's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) struct Unmapped {
    error: SyntaxError,
    /// The member at fault, and the outermost member that contains it.
    keys: Option<(&'static str, &'static str)>,
}

impl Unmapped {
    /// Returns the member at fault, if known.
    pub(in crate::decode) const fn key(&self) -> Option<&'static str> {
        match self.keys {
            Some((key, _)) => Some(key),
            None => None,
        }
    }

    /// Returns the expected type and the byte offset.
    pub(in crate::decode) const fn error(&self) -> SyntaxError {
        self.error
    }

    /// Returns the same error in a member of that name.
    pub(in crate::decode) const fn within(self, outer: &'static str) -> Self {
        let key = match self.keys {
            Some((key, _)) => key,
            None => outer,
        };
        Self {
            keys: Some((key, outer)),
            ..self
        }
    }
}

impl From<SyntaxError> for Unmapped {
    fn from(error: SyntaxError) -> Self {
        Self { error, keys: None }
    }
}

impl std::fmt::Display for Unmapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SyntaxError { what, at } = self.error;
        write!(f, "{what} at byte {at}")?;
        match self.keys {
            Some((key, outer)) if key != outer => write!(f, ", in {outer}"),
            _ => Ok(()),
        }
    }
}

/// Appends the next value of `reader`, an object or `null`, as a protobuf message; returns the number of repaired
/// texts.
///
/// # Errors
/// [`Unmapped`] if a value is not of its field's type.
pub(in crate::decode) fn message(
    reader: &mut JsonReader<'_>,
    schema: &'static MessageSchema,
    source: &Source,
    out: &mut Vec<u8>,
) -> Result<u32, Unmapped> {
    let mut bounds = TextLimits::of(source);
    nested(reader, schema, &mut bounds, 0, out)?;
    Ok(bounds.repaired)
}

/// Appends the next value of `reader`, which is not `null`, as one field of a message; a list as all of its elements.
/// Returns the number of repaired texts.
///
/// # Errors
/// [`Unmapped`] if the value is not of the field's type.
pub(in crate::decode) fn member(
    reader: &mut JsonReader<'_>,
    field: &FieldSchema,
    source: &Source,
    out: &mut Vec<u8>,
) -> Result<u32, Unmapped> {
    let mut bounds = TextLimits::of(source);
    let read = if field.repeated {
        list(reader, field, &mut bounds, 0, out)
    } else {
        value(reader, field, &mut bounds, 0, out)
    };
    read.map_err(|fault| fault.within(field.name))?;
    Ok(bounds.repaired)
}

/// Appends the next value of `reader`, a string; returns the number of repaired texts, 0 or 1.
///
/// # Errors
/// [`Unmapped`] if it is not a string.
pub(in crate::decode) fn text(
    reader: &mut JsonReader<'_>,
    source: &Source,
    out: &mut Vec<u8>,
) -> Result<u32, Unmapped> {
    let mut bounds = TextLimits::of(source);
    bounds.append(reader.text()?, out);
    Ok(bounds.repaired)
}

/// The limits of one message's output, and the number of texts repaired in it.
struct TextLimits<'a> {
    source: &'a Source,
    repaired: u32,
    /// Number of elements of lists of numbers that may still be written. Two characters of such a list become up to
    /// nine bytes, so the output has no more elements than validation needs to reject the item.
    numbers_left: u32,
}

impl<'a> TextLimits<'a> {
    fn of(source: &'a Source) -> Self {
        Self {
            source,
            repaired: 0,
            numbers_left: source.limits.nodes.saturating_add(1),
        }
    }
}

impl TextLimits<'_> {
    /// Appends a text, repaired by the rules.
    fn append(&mut self, text: JsonString<'_>, out: &mut Vec<u8>) {
        if self.source.replaces_half_surrogates() {
            self.repaired += u32::from(text.decode_repaired(out));
        } else {
            text.decode_bytes(out);
        }
    }
}

fn nested(
    reader: &mut JsonReader<'_>,
    schema: &'static MessageSchema,
    bounds: &mut TextLimits<'_>,
    level: u16,
    out: &mut Vec<u8>,
) -> Result<(), Unmapped> {
    if reader.peek()? == Json::Null {
        return Ok(reader.null()?);
    }
    let level = level + u16::from(schema.is_value);
    if level > bounds.source.limits.depth.into() {
        // The value becomes an empty one, which is already a level too deep.
        reader.skip()?;
        return Ok(());
    }
    let (mut names, mut next) = (NamesSeen::default(), 0);
    reader.object()?;
    while reader.next_member()? {
        let strict = bounds.source.limits.strict_json;
        let Some((field, spelling)) = schema.read_key(reader, strict, &mut next)? else {
            reader.skip()?;
            continue;
        };
        if reader.peek()? == Json::Null {
            reader.null()?;
            continue;
        }
        if !names.counts(field, spelling, bounds, out) {
            reader.skip()?;
            continue;
        }
        let (start, numbers_left) = (out.len(), bounds.numbers_left);
        let read = if field.repeated {
            list(reader, field, bounds, level, out)
        } else {
            value(reader, field, bounds, level, out)
        };
        if let Err(fault) = read {
            return Err(fault.within(field.name));
        }
        if spelling == Spelling::Snake {
            names.written_in_snake_case(field, || WrittenField {
                number: field.number,
                range: start..out.len(),
                numbers: numbers_left - bounds.numbers_left,
            });
        }
    }
    Ok(())
}

/// Appends all elements of a list.
fn list(
    reader: &mut JsonReader<'_>,
    field: &FieldSchema,
    bounds: &mut TextLimits<'_>,
    level: u16,
    out: &mut Vec<u8>,
) -> Result<(), Unmapped> {
    let is_numbers = matches!(
        field.kind,
        FieldType::Double | FieldType::Fixed64 | FieldType::Uint64
    );
    reader.array()?;
    if let FieldType::Message(schema) = field.kind
        && std::ptr::eq(schema, &raw const KEY_VALUE)
        && level < bounds.source.limits.depth.into()
    {
        plain_pairs(reader, field.number, out);
    }
    while reader.next_element()? {
        if is_numbers {
            let Some(left) = bounds.numbers_left.checked_sub(1) else {
                reader.skip()?;
                continue;
            };
            bounds.numbers_left = left;
        }
        value(reader, field, bounds, level, out)?;
    }
    Ok(())
}

fn value(
    reader: &mut JsonReader<'_>,
    field: &FieldSchema,
    bounds: &mut TextLimits<'_>,
    level: u16,
    out: &mut Vec<u8>,
) -> Result<(), Unmapped> {
    let number = field.number;
    match field.kind {
        FieldType::Message(schema) => {
            tag(out, number, LENGTH_DELIMITED);
            length_delimited(out, |out| nested(reader, schema, bounds, level, out))?;
        }
        FieldType::Text => {
            let text = reader.text()?;
            tag(out, number, LENGTH_DELIMITED);
            length_delimited(out, |out| {
                bounds.append(text, out);
                Ok(())
            })?;
        }
        FieldType::Id => {
            let text = reader.text()?;
            tag(out, number, LENGTH_DELIMITED);
            length_delimited(out, |out| {
                append_id(text, out);
                Ok(())
            })?;
        }
        FieldType::Bytes => {
            let not_base64 = reader.error("a string of base64 is expected");
            if reader.peek()? != Json::Text {
                return Err(not_base64.into());
            }
            let standard = reader.text()?.decode().replace('-', "+").replace('_', "/");
            tag(out, number, LENGTH_DELIMITED);
            length_delimited(out, |out| {
                let decoded = BASE64.decode_vec(standard, out);
                decoded.map_err(|_| Unmapped::from(not_base64))
            })?;
        }
        FieldType::Bool => {
            if reader.peek()? != Json::Bool {
                let what = "true or false is expected, without quotes";
                return Err(reader.error(what).into());
            }
            varint_field(out, number, reader.bool()?.into());
        }
        FieldType::Int64 { double } => match integer_or_double(reader)? {
            JsonNumber::Integer(value) => varint_field(out, number, value.cast_unsigned()),
            JsonNumber::Double(value) => fixed64_field(out, double, value.to_bits()),
        },
        FieldType::Sfixed64 { double } => match integer_or_double(reader)? {
            JsonNumber::Integer(value) => fixed64_field(out, number, value.cast_unsigned()),
            JsonNumber::Double(value) => fixed64_field(out, double, value.to_bits()),
        },
        FieldType::Double => fixed64_field(out, number, double(reader)?.to_bits()),
        FieldType::Enum(names) => {
            let value = enumeration(reader, names)?;
            varint_field(out, number, i64::from(value).cast_unsigned());
        }
        FieldType::Uint32 => varint_field(out, number, unsigned::<u32>(reader)?.into()),
        FieldType::Uint64 => varint_field(out, number, unsigned(reader)?),
        FieldType::Sint32 => {
            let out_of_range = reader.error("the number is out of range");
            let value = match integer_or_double(reader)? {
                JsonNumber::Integer(value) => i32::try_from(value).map_err(|_| out_of_range)?,
                JsonNumber::Double(_) => return Err(out_of_range.into()),
            };
            let zigzag = ((value << 1) ^ (value >> 31)).cast_unsigned();
            varint_field(out, number, zigzag.into());
        }
        FieldType::StringReference => {
            let value: u32 = unsigned(reader)?;
            if value != 0 {
                varint_field(out, number, value.into());
            }
        }
        FieldType::Fixed32 => {
            let value: u32 = unsigned(reader)?;
            tag(out, number, FIXED32);
            out.extend_from_slice(&value.to_le_bytes());
        }
        FieldType::Fixed64 => fixed64_field(out, number, unsigned(reader)?),
    }
    Ok(())
}

/// Appends the bytes of an id in hex; if the text is not hex, a single zero, which is not a valid id.
fn append_id(text: JsonString<'_>, out: &mut Vec<u8>) {
    let (start, text) = (out.len(), text.decode());
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let mut all_digits = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (digit(*high), digit(*low));
        all_digits |= high | low;
        high << 4 | low
    }));
    if all_digits >= NO_DIGIT || !odd.is_empty() {
        out.truncate(start);
        out.push(0);
    }
}

/// Greater than the value of each hex digit, which has four bits.
const NO_DIGIT: u8 = 0x10;

/// Returns the value of a hex digit; [`NO_DIGIT`] for another byte.
const fn digit(byte: u8) -> u8 {
    const DIGITS: [u8; 256] = {
        let mut digits = [NO_DIGIT; 256];
        let mut value = 0;
        while value < 16 {
            let [lower, upper] = [b"0123456789abcdef", b"0123456789ABCDEF"];
            digits[lower[value as usize] as usize] = value;
            digits[upper[value as usize] as usize] = value;
            value += 1;
        }
        digits
    };
    DIGITS[byte as usize]
}

fn tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    varint(out, u64::from(number << 3 | u32::from(wire_type)));
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, VARINT);
    varint(out, value);
}

fn fixed64_field(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the output of `write`, with its length before it.
fn length_delimited(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unmapped>,
) -> Result<(), Unmapped> {
    let at = out.len();
    // Reserves one byte, which is enough for most lengths; a longer one is inserted below.
    out.push(0);
    write(out)?;
    let len = out.len() - at - 1;
    match u8::try_from(len) {
        Ok(len) if len < 0x80 => out[at] = len,
        _ => {
            let mut prefix = Vec::with_capacity(10);
            varint(&mut prefix, len as u64);
            out.splice(at..=at, prefix);
        }
    }
    Ok(())
}
