//! Converts stored values to AnyValues in OTLP's JSON: the table of [`crate::decode::otlp::any_value`], read from right
//! to left.
//!
//! **Invariant:** texts and numbers are copied unchanged, so none is rounded.

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;

/// Limit of the levels of nested values, above every limit that requests are decoded with.
pub(super) const LEVELS: u8 = 255;

/// Writes the next value as an AnyValue; `above` is the number of values that it is nested in.
///
/// # Errors
/// [`SyntaxError`] if the stored JSON is not a value, or is nested too deep.
pub(super) fn any_value(
    reader: &mut JsonReader<'_>,
    above: u8,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    match reader.peek()? {
        JsonType::Text => typed(out, "stringValue", reader.skip()?.0),
        JsonType::Bool => typed(out, "boolValue", reader.skip()?.0),
        JsonType::Number => match reader.number()? {
            double if double.contains('.') => typed(out, "doubleValue", double),
            int => typed(out, "intValue", &format!("\"{int}\"")),
        },
        JsonType::Null => {
            reader.null()?;
            out.push_str("{}");
        }
        JsonType::Array => {
            let level = below(reader, above)?;
            out.push_str("{\"arrayValue\": {\"values\": [");
            reader.array()?;
            while reader.next_element()? {
                json_writer::separate(out);
                any_value(reader, level, out)?;
            }
            out.push_str("]}}");
        }
        JsonType::Object => match tagged(reader)? {
            Some(("$bytes", bytes)) => typed(out, "bytesValue", bytes),
            Some(("$double", double)) => typed(out, "doubleValue", special(double)),
            Some(_) => out.push_str("{}"),
            None => {
                let level = below(reader, above)?;
                out.push_str("{\"kvlistValue\": {\"values\": ");
                key_values(reader, level, out)?;
                out.push_str("}}");
            }
        },
    }
    Ok(())
}

/// Writes the next value, an object, as a list of OTLP's `KeyValue`.
///
/// # Errors
/// [`SyntaxError`] if it is not an object, or a member of it is not a value.
pub(super) fn key_values(
    reader: &mut JsonReader<'_>,
    above: u8,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    out.push('[');
    reader.object()?;
    while let Some(key) = reader.next_key()? {
        json_writer::separate(out);
        // If the client's key begins with a dollar, it is stored with one more.
        let key = key.written().strip_prefix('$').unwrap_or(key.written());
        out.push_str("{\"key\": \"");
        out.push_str(key);
        out.push_str("\", \"value\": ");
        any_value(reader, above, out)?;
        out.push('}');
    }
    out.push(']');
    Ok(())
}

/// Writes the next value, a number or a tagged double, as a double.
///
/// # Errors
/// [`SyntaxError`] if it is neither.
pub(super) fn double(
    reader: &mut JsonReader<'_>,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    out.push_str(match reader.peek()? {
        JsonType::Number => reader.number()?,
        _ => match tagged(reader)? {
            Some(("$double", double)) => special(double),
            _ => return Err(reader.error("a double is expected")),
        },
    });
    Ok(())
}

fn typed(out: &mut JsonText<'_>, name: &str, value: &str) {
    out.push('{');
    json_writer::key(out, name);
    out.push_str(value);
    out.push('}');
}

/// Returns the JSON of a tagged double. JSON has a number for -0, though JSONB does not.
fn special(tag: &str) -> &str {
    match tag {
        "\"-0.0\"" => "-0.0",
        other => other,
    }
}

/// Reads the next value, an object, if it is a tagged value; returns the tag and the JSON under it.
fn tagged<'a>(reader: &mut JsonReader<'a>) -> Result<Option<(&'a str, &'a str)>, SyntaxError> {
    let mut ahead = *reader;
    ahead.object()?;
    match ahead.next_key()? {
        Some(name) if name.written().starts_with('$') && !name.written().starts_with("$$") => {
            let (value, _) = ahead.skip()?;
            if ahead.next_key()?.is_some() {
                return Err(ahead.error("the end of a tagged value is expected"));
            }
            *reader = ahead;
            Ok(Some((name.written(), value)))
        }
        _ => Ok(None),
    }
}

fn below(reader: &JsonReader<'_>, above: u8) -> Result<u8, SyntaxError> {
    match above.checked_add(1) {
        Some(level) if level < LEVELS => Ok(level),
        _ => Err(reader.error("values are nested too deep")),
    }
}
