//! Stored values to AnyValues in OTLP's JSON: the table of [`crate::decode::otlp::any_value`], read from right to left.
//!
//! **Invariant:** texts and numbers are copied as they are written, so nothing is rounded.

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_writer;

/// The most levels of values; no setting lets so many in.
pub(super) const LEVELS: u8 = 255;

/// Writes the next value as an AnyValue, which stands below so many others.
///
/// # Errors
/// When what is stored is no value.
pub(super) fn any_value(
    scanner: &mut JsonReader<'_>,
    above: u8,
    out: &mut String,
) -> Result<(), SyntaxError> {
    match scanner.peek()? {
        JsonType::Text => typed(out, "stringValue", scanner.skip()?.0),
        JsonType::Bool => typed(out, "boolValue", scanner.skip()?.0),
        JsonType::Number => match scanner.number()? {
            double if double.contains('.') => typed(out, "doubleValue", double),
            int => typed(out, "intValue", &format!("\"{int}\"")),
        },
        JsonType::Null => {
            scanner.null()?;
            out.push_str("{}");
        }
        JsonType::Array => {
            let level = below(scanner, above)?;
            out.push_str("{\"arrayValue\": {\"values\": [");
            scanner.array()?;
            let mut is_first = true;
            while scanner.next_element(&mut is_first)? {
                json_writer::separate(out);
                any_value(scanner, level, out)?;
            }
            out.push_str("]}}");
        }
        JsonType::Object => match tagged(scanner)? {
            Some(("$bytes", bytes)) => typed(out, "bytesValue", bytes),
            Some(("$double", double)) => typed(out, "doubleValue", special(double)),
            Some(_) => out.push_str("{}"),
            None => {
                let level = below(scanner, above)?;
                out.push_str("{\"kvlistValue\": {\"values\": ");
                key_values(scanner, level, out)?;
                out.push_str("}}");
            }
        },
    }
    Ok(())
}

/// Writes the next value, an object, as a list of Pairs.
///
/// # Errors
/// When it is none, or holds what is no value.
pub(super) fn key_values(
    scanner: &mut JsonReader<'_>,
    above: u8,
    out: &mut String,
) -> Result<(), SyntaxError> {
    out.push('[');
    scanner.object()?;
    let mut is_first = true;
    while let Some(key) = scanner.next_key(&mut is_first)? {
        json_writer::separate(out);
        // Of the client's own leading dollar one more was stored.
        let key = key.written().strip_prefix('$').unwrap_or(key.written());
        out.push_str("{\"key\": \"");
        out.push_str(key);
        out.push_str("\", \"value\": ");
        any_value(scanner, above, out)?;
        out.push('}');
    }
    out.push(']');
    Ok(())
}

/// Writes the next value as a double: a number, or one that JSON has no number for.
///
/// # Errors
/// When it is neither.
pub(super) fn double(scanner: &mut JsonReader<'_>, out: &mut String) -> Result<(), SyntaxError> {
    out.push_str(match scanner.peek()? {
        JsonType::Number => scanner.number()?,
        _ => match tagged(scanner)? {
            Some(("$double", double)) => special(double),
            _ => return Err(scanner.error("a double is expected")),
        },
    });
    Ok(())
}

fn typed(out: &mut String, name: &str, value: &str) {
    out.push('{');
    json_writer::key(out, name);
    out.push_str(value);
    out.push('}');
}

/// What a double's tag stands for; JSON has a number for one of them, though JSONB has not.
fn special(tag: &str) -> &str {
    match tag {
        "\"-0.0\"" => "-0.0",
        other => other,
    }
}

/// Takes the next value, an object, if it is a tag: its name, and the JSON that it holds.
fn tagged<'a>(scanner: &mut JsonReader<'a>) -> Result<Option<(&'a str, &'a str)>, SyntaxError> {
    let mut ahead = *scanner;
    ahead.object()?;
    let mut is_first = true;
    match ahead.next_key(&mut is_first)? {
        Some(name) if name.written().starts_with('$') && !name.written().starts_with("$$") => {
            let (value, _) = ahead.skip()?;
            if ahead.next_key(&mut is_first)?.is_some() {
                return Err(ahead.error("the end of a tagged value is expected"));
            }
            *scanner = ahead;
            Ok(Some((name.written(), value)))
        }
        _ => Ok(None),
    }
}

fn below(scanner: &JsonReader<'_>, above: u8) -> Result<u8, SyntaxError> {
    match above.checked_add(1) {
        Some(level) if level < LEVELS => Ok(level),
        _ => Err(scanner.error("values are nested too deep")),
    }
}
