//! Reads numbers as clients write them: as a JSON number or as a string that holds one; whole numbers also as `42.0` or
//! `1e3`; NaN and the infinities by name; enums as numbers or by name.
//!
//! **Invariant:** a number that does not fit is an error or, if its field allows that, becomes a double; it never
//! wraps.

use std::borrow::Cow;

use crate::decode::json::json_writer;
use crate::decode::otlp::json_to_protobuf::{Json, JsonReader, SyntaxError};
use crate::decode::otlp::schema::EnumNames;

/// Reads a JSON number, or a string that holds one, and returns its text.
fn number_text<'a>(reader: &mut JsonReader<'a>) -> Result<Cow<'a, str>, SyntaxError> {
    let expected = reader.error("a number is expected");
    match reader.peek()? {
        Json::Number => reader.number().map(Cow::Borrowed),
        Json::Text => {
            let text = reader.text()?.decode();
            let mut inner = JsonReader::new(&text);
            match inner.number().and_then(|_| inner.end()) {
                Ok(()) => Ok(text),
                Err(_) => Err(expected),
            }
        }
        _ => Err(expected),
    }
}

/// Reads a whole number of few digits, as most are; `None`, and nothing is read, if something else follows.
fn short<T: TryFrom<u64>>(reader: &mut JsonReader<'_>) -> Option<T> {
    let mut ahead = *reader;
    let value = T::try_from(ahead.short_number()?).ok()?;
    *reader = ahead;
    Some(value)
}

pub(super) enum JsonNumber {
    Integer(i64),
    Double(f64),
}

pub(super) fn integer_or_double(reader: &mut JsonReader<'_>) -> Result<JsonNumber, SyntaxError> {
    if let Some(value) = short::<i64>(reader) {
        return Ok(JsonNumber::Integer(value));
    }
    let out_of_range = reader.error("the number is out of range");
    let text = number_text(reader)?;
    if let Ok(value) = text.trim_ascii().parse() {
        return Ok(JsonNumber::Integer(value));
    }
    if let Some((whole, fraction)) = plain(&text)
        && is_zero(&fraction)
        && let Ok(value) = whole.parse()
    {
        return Ok(JsonNumber::Integer(value));
    }
    finite(&text).map(JsonNumber::Double).ok_or(out_of_range)
}

pub(super) fn unsigned<T: std::str::FromStr + TryFrom<u64>>(
    reader: &mut JsonReader<'_>,
) -> Result<T, SyntaxError> {
    if let Some(value) = short(reader) {
        return Ok(value);
    }
    let out_of_range = reader.error("the number is out of range or not a whole number");
    let text = number_text(reader)?;
    if let Ok(value) = text.trim_ascii().parse() {
        return Ok(value);
    }
    plain(&text)
        .filter(|(_, fraction)| is_zero(fraction))
        .and_then(|(whole, _)| whole.parse().ok())
        .ok_or(out_of_range)
}

/// Returns a number's plain digits before and after the point.
fn plain(number: &str) -> Option<(String, String)> {
    let plain = json_writer::plain_digits(number.trim_ascii())?;
    Some(match plain.split_once('.') {
        Some((whole, fraction)) => (whole.to_owned(), fraction.to_owned()),
        None => (plain, String::new()),
    })
}

fn is_zero(fraction: &str) -> bool {
    fraction.bytes().all(|byte| byte == b'0')
}

pub(super) fn double(reader: &mut JsonReader<'_>) -> Result<f64, SyntaxError> {
    let out_of_range = reader.error("the number is out of range");
    if reader.peek()? == Json::Text {
        let mut ahead = *reader;
        let special = match &*ahead.text()?.decode() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        if let Some(value) = special {
            *reader = ahead;
            return Ok(value);
        }
    }
    finite(&number_text(reader)?).ok_or(out_of_range)
}

fn finite(number: &str) -> Option<f64> {
    let value: f64 = number.trim_ascii().parse().ok()?;
    value.is_finite().then_some(value)
}

pub(super) fn enumeration(
    reader: &mut JsonReader<'_>,
    names: &EnumNames,
) -> Result<i32, SyntaxError> {
    let unknown = reader.error(names.expected);
    if reader.peek()? == Json::Text {
        let mut ahead = *reader;
        let name = ahead.text()?.decode();
        if let Some(index) = names.known.iter().position(|known| *known == name) {
            *reader = ahead;
            return i32::try_from(index).map_err(|_| unknown);
        }
    }
    match integer_or_double(reader) {
        Ok(JsonNumber::Integer(value)) => i32::try_from(value).map_err(|_| unknown),
        Ok(JsonNumber::Double(_)) | Err(_) => Err(unknown),
    }
}
