//! Converts a row to its item: columns become the fields that they were decoded from, and the rest of `metadata`
//! follows.
//!
//! **Invariant:** a field in `metadata` wins over its column, which may hold only a part of it.

use crate::decode::export::members::{Members, copy, whole};
use crate::decode::export::{envelope, message};
use crate::decode::json::json_reader::SyntaxError;
use crate::decode::json::json_text::{JsonText, try_json_string};
use crate::decode::json::json_writer;
use crate::decode::otlp::schema::{self, MessageSchema};

/// A field, and the column that holds it unless `metadata` does.
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

/// Writes a span.
///
/// # Errors
/// [`SyntaxError`], here and below, if a value is not of its field's type.
pub(super) fn span(
    row: &Members<'_>,
    mut metadata: Members<'_>,
    out: &mut JsonText<'_>,
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

/// Writes a span's status, whose code is a column and whose message is in `metadata`.
fn put_status(out: &mut JsonText<'_>, column: Option<&str>, message: Option<&str>) {
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
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    out.push('{');
    fields(row, metadata, &schema::LOG_RECORD, &LOG_RECORD, out)?;
    out.push('}');
    Ok(())
}

/// Writes a metric without its points and without the braces that close its data and itself.
pub(super) fn metric(row: &Members<'_>, metadata: &Members<'_>) -> Result<String, SyntaxError> {
    let (name, data, _) = envelope::data(row)?;
    try_json_string(|out| {
        out.push('{');
        fields(row, metadata, &schema::metric::METRIC, &METRIC, out)?;
        json_writer::key(out, name);
        out.push('{');
        fields(row, metadata, data, &[], out)
    })
}

pub(super) fn data_point(
    row: &Members<'_>,
    metadata: &Members<'_>,
    out: &mut JsonText<'_>,
) -> Result<(), SyntaxError> {
    let (_, _, point) = envelope::data(row)?;
    out.push('{');
    fields(row, metadata, point, &DATA_POINT, out)?;
    out.push('}');
    Ok(())
}

/// Writes the fields of a message that are in columns, then those that are in `metadata`.
fn fields(
    row: &Members<'_>,
    metadata: &Members<'_>,
    schema: &MessageSchema,
    columns: &[ExportColumn],
    out: &mut JsonText<'_>,
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
