//! A span's row to the span: what [`crate::decode::span`] put into columns goes back to its fields.
//!
//! **Invariant:** what `metadata` holds wins over a column, which has only what fits it.

use super::members::{Members, copy, whole};
use super::message;
use crate::decode::json;
use crate::decode::scan::SyntaxError;
use crate::decode::schema;

/// # Errors
/// When a value is not what its field holds.
pub(super) fn write(
    row: &Members<'_>,
    metadata: &Members<'_>,
    out: &mut String,
) -> Result<(), SyntaxError> {
    let sent = |name| metadata.find(name);
    out.push('{');
    copy(out, "traceId", row.find("traceId"));
    copy(out, "spanId", row.find("spanId"));
    copy(out, "parentSpanId", row.find("parentSpanId"));
    if sent("name").is_none() {
        copy(out, "name", row.find("name"));
    }
    copy(out, "kind", row.find("kind"));
    let start = sent("startTimeUnixNano").or(row.find("timeUnixNano"));
    if sent("startTimeUnixNano").is_none() {
        copy(out, "startTimeUnixNano", start);
    }
    let duration = row.find("durationNs").and_then(whole::<u64>);
    if let (Some(start), Some(duration)) = (start.and_then(whole::<u64>), duration) {
        json::key(out, "endTimeUnixNano");
        json::display(out, format_args!("\"{}\"", start.saturating_add(duration)));
    }
    let status = Members::of(sent("status").unwrap_or("{}"))?;
    write_status(out, row.find("status"), status.find("message"));
    for (name, value) in metadata.iter().filter(|(name, _)| *name != "status") {
        message::member(out, &schema::SPAN, name, value)?;
    }
    out.push('}');
    Ok(())
}

/// Puts the code, which has a column, and the message together again.
fn write_status(out: &mut String, column: Option<&str>, message: Option<&str>) {
    let code = match column {
        None | Some("\"UNSET\"") => None,
        Some("\"OK\"") => Some(1),
        Some("\"ERROR\"") => Some(2),
        Some(other) => whole::<i32>(other),
    };
    if code.is_none() && message.is_none() {
        return;
    }
    json::key(out, "status");
    out.push('{');
    copy(out, "message", message);
    if let Some(code) = code {
        json::key(out, "code");
        json::display(out, code);
    }
    out.push('}');
}
