//! An item's row to the item: columns go back to the fields that decode took them from, and the rest of `metadata` follows.
//!
//! **Invariant:** what `metadata` holds wins over a column, which has only what fits it.

use crate::decode::export::members::{Members, copy, whole};
use crate::decode::export::{envelope, message};
use crate::decode::json::json_reader::SyntaxError;
use crate::decode::json::json_writer;
use crate::decode::otlp::schema::{self, MessageSchema};

/// A field, and the column that it is found in unless `metadata` has it.
type ExportColumn = (&'static str, &'static str);

const SPAN: [ExportColumn; 6] = [
    ("traceId", "traceId"),
    ("spanId", "spanId"),
    ("parentSpanId", "parentSpanId"),
    ("name", "name"),
    ("kind", "kind"),
    ("startTimeUnixNano", "timeUnixNano"),
];

const LOG_RECORD: [ExportColumn; 5] = [
    ("timeUnixNano", "timeUnixNano"),
    ("severityNumber", "kind"),
    ("eventName", "name"),
    ("traceId", "traceId"),
    ("spanId", "spanId"),
];

const METRIC: [ExportColumn; 1] = [("name", "name")];

const DATA_POINT: [ExportColumn; 1] = [("timeUnixNano", "timeUnixNano")];

/// # Errors
/// As of all here: when a value is not what its field holds.
pub(super) fn span(
    row: &Members<'_>,
    mut metadata: Members<'_>,
    out: &mut String,
) -> Result<(), SyntaxError> {
    let status = Members::of(metadata.take("status").unwrap_or("{}"))?;
    let start = metadata.find("startTimeUnixNano");
    let start = start.or(row.find("timeUnixNano")).and_then(whole::<u64>);
    out.push('{');
    fields(row, &metadata, &schema::SPAN, &SPAN, out)?;
    let duration = row.find("durationNs").and_then(whole::<u64>);
    if let (Some(start), Some(duration)) = (start, duration) {
        json_writer::key(out, "endTimeUnixNano");
        json_writer::display(out, format_args!("\"{}\"", start.saturating_add(duration)));
    }
    put_status(out, row.find("status"), status.find("message"));
    out.push('}');
    Ok(())
}

/// The code of a span's status has a column, its message has not.
fn put_status(out: &mut String, column: Option<&str>, message: Option<&str>) {
    let code = match column {
        None | Some("\"UNSET\"") => None,
        Some("\"OK\"") => Some(1),
        Some("\"ERROR\"") => Some(2),
        Some(number) => whole::<i32>(number),
    };
    if code.is_none() && message.is_none() {
        return;
    }
    json_writer::key(out, "status");
    out.push('{');
    copy(out, "message", message);
    if let Some(code) = code {
        json_writer::key(out, "code");
        json_writer::display(out, code);
    }
    out.push('}');
}

pub(super) fn log_record(
    row: &Members<'_>,
    metadata: &Members<'_>,
    out: &mut String,
) -> Result<(), SyntaxError> {
    out.push('{');
    fields(row, metadata, &schema::LOG_RECORD, &LOG_RECORD, out)?;
    out.push('}');
    Ok(())
}

/// A metric up to its points: it and its data are left open.
pub(super) fn metric(row: &Members<'_>, metadata: &Members<'_>) -> Result<String, SyntaxError> {
    let (name, data, _) = envelope::data(row)?;
    let mut out = String::from("{");
    fields(row, metadata, &schema::metric::METRIC, &METRIC, &mut out)?;
    json_writer::key(&mut out, name);
    out.push('{');
    fields(row, metadata, data, &[], &mut out)?;
    Ok(out)
}

pub(super) fn data_point(
    row: &Members<'_>,
    metadata: &Members<'_>,
    out: &mut String,
) -> Result<(), SyntaxError> {
    let (_, _, point) = envelope::data(row)?;
    out.push('{');
    fields(row, metadata, point, &DATA_POINT, out)?;
    out.push('}');
    Ok(())
}

/// Writes the fields of a message that stand in columns, then those that stand in `metadata`.
fn fields(
    row: &Members<'_>,
    metadata: &Members<'_>,
    schema: &MessageSchema,
    columns: &[ExportColumn],
    out: &mut String,
) -> Result<(), SyntaxError> {
    for (field, column) in columns {
        if metadata.find(field).is_none() {
            copy(out, field, row.find(column));
        }
    }
    for (name, value) in metadata.iter() {
        message::member(out, schema, name, value)?;
    }
    Ok(())
}
