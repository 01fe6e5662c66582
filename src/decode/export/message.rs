//! Converts stored messages to OTLP's JSON field by field, by the schema that also decodes requests.
//!
//! **Invariant:** a member that is not in a message's schema is left out.

use crate::decode::export::value;
use crate::decode::json::json_reader::{JsonReader, JsonType as Json, SyntaxError};
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::otlp::schema::{self, FieldSchema, FieldType, MessageSchema};

/// Writes one stored member of a message, if the message has a field of its name.
///
/// # Errors
/// [`SyntaxError`] if the value is not of the field's type.
pub(super) fn member(
    out: &mut JsonText<'_>,
    schema: &MessageSchema,
    name: &str,
    stored: &str,
) -> Result<(), SyntaxError> {
    field(&mut JsonReader::new(stored), schema, name, out)
}

/// Writes the next value as the field of that name, or skips the value if there is no such field.
fn field(
    reader: &mut JsonReader<'_>,
    schema: &MessageSchema,
    name: &str,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    let Some(field) = schema.fields.iter().find(|field| field.name == name) else {
        return reader.skip().map(drop);
    };
    json_writer::key(out, name);
    match field.kind {
        // Attributes, under any name.
        FieldType::Message(pair) if field.repeated && std::ptr::eq(pair, &schema::KEY_VALUE) => {
            value::key_values(reader, 0, out)
        }
        _ if field.repeated => {
            out.push('[');
            reader.array()?;
            while reader.next_element()? {
                json_writer::separate(out);
                one(reader, field, out)?;
            }
            out.push(']');
            Ok(())
        }
        _ => one(reader, field, out),
    }
}

fn one(
    reader: &mut JsonReader<'_>,
    field: &FieldSchema,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    match field.kind {
        FieldType::Message(schema) if schema.is_value => return value::any_value(reader, 0, out),
        FieldType::Message(schema) => return object(reader, schema, out),
        FieldType::Double => return value::double(reader, out),
        // OTLP's JSON has 64-bit integers as strings, even those that are stored as numbers.
        FieldType::Int64 { .. }
        | FieldType::Sfixed64 { .. }
        | FieldType::Fixed64
        | FieldType::Uint64
            if reader.peek()? == Json::Number =>
        {
            out.push('"');
            out.push_str(reader.number()?);
            out.push('"');
        }
        _ => out.push_str(reader.skip()?.0),
    }
    Ok(())
}

fn object(
    reader: &mut JsonReader<'_>,
    schema: &MessageSchema,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    out.push('{');
    reader.object()?;
    while let Some(name) = reader.next_key()? {
        field(reader, schema, name.written(), out)?;
    }
    out.push('}');
    Ok(())
}
