//! Writes the objects around items: resources, scopes and metrics, with the lists that hold them.
//!
//! **Invariant:** the schemas here describe whole messages and serve exports alone; no request is decoded by them.

use crate::decode::export::members::{Members, copy};
use crate::decode::export::message as stored_message;
use crate::decode::json::json_reader::SyntaxError;
use crate::decode::json::json_text::try_json_string;
use crate::decode::json::json_writer;
use crate::decode::otlp::schema::metric::{
    EXPONENTIAL_POINT, HISTOGRAM_POINT, NUMBER_POINT, SUMMARY_POINT, TEMPORALITIES,
};
use crate::decode::otlp::schema::{
    self, FieldSchema, FieldType, MessageSchema, many, message, one,
};
use crate::event::Signal;

/// The JSON name of a list of resources, scopes, metrics or items, and the braces that close each element; no braces
/// for items, which are closed already.
pub(super) type ListLevel = (&'static str, &'static str);

/// Returns the message of an export and its lists, the outermost first; `None` for native events.
pub(super) fn of(signal: Signal) -> Option<(&'static MessageSchema, &'static [ListLevel])> {
    Some(match signal {
        Signal::Event => return None,
        Signal::Span => (&TRACES_DATA, &TRACES),
        Signal::Log => (&LOGS_DATA, &LOGS),
        Signal::Metric => (&METRICS_DATA, &METRICS),
    })
}

/// Writes the object around a resource and its scopes, without the scopes and the closing brace.
///
/// # Errors
/// [`SyntaxError`] if the stored value is not a resource.
pub(super) fn resource(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("resource", &schema::RESOURCE, row)
}

/// Writes the object around a scope and its items, without the items and the closing brace.
///
/// # Errors
/// [`SyntaxError`] if the stored value is not a scope.
pub(super) fn scope(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("scope", &schema::SCOPE, row)
}

/// Writes a resource or scope and, beside it as in OTLP, the schema URL that is stored in it.
fn own(
    name: &str,
    schema: &'static MessageSchema,
    row: &Members<'_>,
) -> Result<String, SyntaxError> {
    let stored = Members::of(row.find(name).unwrap_or("{}"))?;
    try_json_string(|out| {
        out.push('{');
        json_writer::key(out, name);
        out.push('{');
        for (name, value) in stored.iter() {
            stored_message::member(out, schema, name, value)?;
        }
        out.push('}');
        copy(out, "schemaUrl", stored.find("schemaUrl"));
        Ok(())
    })
}

/// Returns the kind of data that the column `status` of a data point names: its JSON name, its message, and the message
/// of its points.
///
/// # Errors
/// [`SyntaxError`] if `status` names no kind of data.
pub(super) fn data(
    row: &Members<'_>,
) -> Result<(&'static str, &'static MessageSchema, &'static MessageSchema), SyntaxError> {
    let status = row.find("status").unwrap_or_default().trim_matches('"');
    let field = METRIC.fields.iter().find(|field| field.name == status);
    if let Some(FieldSchema {
        name,
        kind: FieldType::Message(data),
        ..
    }) = field
        && let Some(FieldType::Message(point)) = data.fields.first().map(|field| field.kind)
    {
        return Ok((name, data, point));
    }
    Err(SyntaxError {
        what: "a status that names a kind of data is expected",
        at: 0,
    })
}

static TRACES: [ListLevel; 3] = [("resourceSpans", "}"), ("scopeSpans", "}"), ("spans", "")];
static LOGS: [ListLevel; 3] = [
    ("resourceLogs", "}"),
    ("scopeLogs", "}"),
    ("logRecords", ""),
];
static METRICS: [ListLevel; 4] = [
    ("resourceMetrics", "}"),
    ("scopeMetrics", "}"),
    // Closes the metric's data and the metric.
    ("metrics", "}}"),
    ("dataPoints", ""),
];

const fn list(number: u32, name: &'static str, schema: &'static MessageSchema) -> FieldSchema {
    many(number, name, FieldType::Message(schema))
}

const RESOURCE: FieldSchema = one(1, "resource", FieldType::Message(&schema::RESOURCE));
const SCOPE: FieldSchema = one(1, "scope", FieldType::Message(&schema::SCOPE));
const SCHEMA_URL: FieldSchema = one(3, "schemaUrl", FieldType::Text);
const TEMPORALITY: FieldSchema = one(2, "aggregationTemporality", FieldType::Enum(&TEMPORALITIES));

static TRACES_DATA: MessageSchema = message(&[list(1, "resourceSpans", &RESOURCE_SPANS)]);
static RESOURCE_SPANS: MessageSchema =
    message(&[RESOURCE, list(2, "scopeSpans", &SCOPE_SPANS), SCHEMA_URL]);
static SCOPE_SPANS: MessageSchema = message(&[SCOPE, list(2, "spans", &schema::SPAN), SCHEMA_URL]);

static LOGS_DATA: MessageSchema = message(&[list(1, "resourceLogs", &RESOURCE_LOGS)]);
static RESOURCE_LOGS: MessageSchema =
    message(&[RESOURCE, list(2, "scopeLogs", &SCOPE_LOGS), SCHEMA_URL]);
static SCOPE_LOGS: MessageSchema = message(&[
    SCOPE,
    list(2, "logRecords", &schema::LOG_RECORD),
    SCHEMA_URL,
]);

static METRICS_DATA: MessageSchema = message(&[list(1, "resourceMetrics", &RESOURCE_METRICS)]);
static RESOURCE_METRICS: MessageSchema = message(&[
    RESOURCE,
    list(2, "scopeMetrics", &SCOPE_METRICS),
    SCHEMA_URL,
]);
static SCOPE_METRICS: MessageSchema = message(&[SCOPE, list(2, "metrics", &METRIC), SCHEMA_URL]);
static METRIC: MessageSchema = message(&[
    one(1, "name", FieldType::Text),
    one(2, "description", FieldType::Text),
    one(3, "unit", FieldType::Text),
    one(5, "gauge", FieldType::Message(&GAUGE)),
    one(7, "sum", FieldType::Message(&SUM)),
    one(9, "histogram", FieldType::Message(&HISTOGRAM)),
    one(10, "exponentialHistogram", FieldType::Message(&EXPONENTIAL)),
    one(11, "summary", FieldType::Message(&SUMMARY)),
    list(12, "metadata", &schema::KEY_VALUE),
]);
static GAUGE: MessageSchema = message(&[list(1, "dataPoints", &NUMBER_POINT)]);
static SUM: MessageSchema = message(&[
    list(1, "dataPoints", &NUMBER_POINT),
    TEMPORALITY,
    one(3, "isMonotonic", FieldType::Bool),
]);
static HISTOGRAM: MessageSchema = message(&[list(1, "dataPoints", &HISTOGRAM_POINT), TEMPORALITY]);
static EXPONENTIAL: MessageSchema =
    message(&[list(1, "dataPoints", &EXPONENTIAL_POINT), TEMPORALITY]);
static SUMMARY: MessageSchema = message(&[list(1, "dataPoints", &SUMMARY_POINT)]);
