//! Rejects a part of a request in JSON that cannot be mapped, with all items in it.
//!
//! **Invariant:** the answer counts each item that was lost, and at least one.

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::otlp::json_to_protobuf::Unmapped;
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::otlp::schema::is_named;

/// Rejects the items of a value, at least one, so that the fault is always reported; returns the reader after the
/// value.
///
/// # Errors
/// [`SyntaxError`] if it is not JSON, because then no part of the request can be trusted.
pub(in crate::decode) fn reject<'a>(
    mut value: JsonReader<'a>,
    fault: &Unmapped,
    levels: &[&[&str]],
    rows: &mut RowBuilder<'a, '_>,
) -> Result<JsonReader<'a>, SyntaxError> {
    let items = count_items(&mut value, levels)?;
    rows.reject_unmapped(items.max(1), fault);
    Ok(value)
}

/// Skips a value and returns the number of items in it. If there are no levels, the value is an item itself.
fn count_items(value: &mut JsonReader<'_>, levels: &[&[&str]]) -> Result<u32, SyntaxError> {
    let kind = value.peek()?;
    let mut items = 0u32;
    match (kind, levels) {
        (JsonType::Object, [names, below @ ..]) => {
            value.object()?;
            while let Some(key) = value.next_key()? {
                let key = key.decode();
                if names.iter().any(|name| is_named(&key, name)) {
                    items = items.saturating_add(count_in_list(value, below)?);
                } else {
                    value.skip()?;
                }
            }
        }
        (JsonType::Array, [_, ..]) => items = count_in_list(value, levels)?,
        _ => {
            value.skip()?;
            items = u32::from(levels.is_empty());
        }
    }
    Ok(items)
}

fn count_in_list(value: &mut JsonReader<'_>, levels: &[&[&str]]) -> Result<u32, SyntaxError> {
    if value.peek()? != JsonType::Array {
        return count_items(value, levels);
    }
    let mut items = 0u32;
    value.array()?;
    while value.next_element()? {
        items = items.saturating_add(count_items(value, levels)?);
    }
    Ok(items)
}
