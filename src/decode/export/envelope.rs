//! What stands around items: resources, scopes and metrics, with the lists that hold them.
//!
//! **Invariant:** the tables are those of requests as a whole, which no request is read by.

use super::members::{Members, copy};
use super::message;
use crate::decode::scan::SyntaxError;
use crate::decode::schema::metric::{
    EXPONENTIAL_POINT, HISTOGRAM_POINT, NUMBER_POINT, SUMMARY_POINT, TEMPORALITIES,
};
use crate::decode::schema::{self, Field, Kind, Message, many, one};
use crate::event::Signal;

/// A list, and what closes each of its elements that is not an item.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) list: &'static str,
    pub(super) end: &'static str,
}

/// The message of an export, and its lists from the outermost in.
pub(super) fn of(signal: Signal) -> Option<(&'static Message, &'static [Level])> {
    Some(match signal {
        Signal::Event => return None,
        Signal::Span => (&TRACES_DATA, &TRACES),
        Signal::Log => (&LOGS_DATA, &LOGS),
        Signal::Metric => (&METRICS_DATA, &METRICS),
    })
}

/// What a resource has beside its scopes: an object, not closed yet.
///
/// # Errors
/// When what is stored is no resource.
pub(super) fn resource(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("resource", &schema::RESOURCE, row)
}

/// What a scope has beside its items, likewise.
///
/// # Errors
/// When what is stored is no scope.
pub(super) fn scope(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("scope", &schema::SCOPE, row)
}

/// The schema URL is stored within, and stands beside in OTLP.
fn own(name: &str, schema: &'static Message, row: &Members<'_>) -> Result<String, SyntaxError> {
    let stored = Members::of(row.find(name).unwrap_or("{}"))?;
    let mut out = format!("{{\"{name}\": {{");
    for (name, value) in stored.iter() {
        message::member(&mut out, schema, name, value)?;
    }
    out.push('}');
    copy(&mut out, "schemaUrl", stored.find("schemaUrl"));
    Ok(out)
}

/// The data of a point's metric, which the column `status` names: its name, its own message, and that of its points.
///
/// # Errors
/// When it names none.
pub(super) fn data(
    row: &Members<'_>,
) -> Result<(&'static str, &'static Message, &'static Message), SyntaxError> {
    let status = row.find("status").unwrap_or_default().trim_matches('"');
    let field = METRIC.fields.iter().find(|field| field.name == status);
    if let Some(Field {
        name,
        kind: Kind::Message(data),
        ..
    }) = field
        && let Some(Kind::Message(point)) = data.fields.first().map(|field| field.kind)
    {
        return Ok((name, data, point));
    }
    Err(SyntaxError {
        what: "a status that names a kind of data is expected",
        at: 0,
    })
}

const fn level(list: &'static str, end: &'static str) -> Level {
    Level { list, end }
}

static TRACES: [Level; 3] = [
    level("resourceSpans", "}"),
    level("scopeSpans", "}"),
    level("spans", ""),
];
static LOGS: [Level; 3] = [
    level("resourceLogs", "}"),
    level("scopeLogs", "}"),
    level("logRecords", ""),
];
static METRICS: [Level; 4] = [
    level("resourceMetrics", "}"),
    level("scopeMetrics", "}"),
    // The metric and its data.
    level("metrics", "}}"),
    level("dataPoints", ""),
];

const fn message(fields: &'static [Field]) -> Message {
    Message {
        is_value: false,
        fields,
    }
}

const fn list(number: u32, name: &'static str, schema: &'static Message) -> Field {
    many(number, name, name, Kind::Message(schema))
}

const fn single(number: u32, name: &'static str, kind: Kind) -> Field {
    one(number, name, name, kind)
}

const RESOURCE: Field = single(1, "resource", Kind::Message(&schema::RESOURCE));
const SCOPE: Field = single(1, "scope", Kind::Message(&schema::SCOPE));
const SCHEMA_URL: Field = single(3, "schemaUrl", Kind::Text);
const TEMPORALITY: Field = single(2, "aggregationTemporality", Kind::Enum(&TEMPORALITIES));

static TRACES_DATA: Message = message(&[list(1, "resourceSpans", &RESOURCE_SPANS)]);
static RESOURCE_SPANS: Message =
    message(&[RESOURCE, list(2, "scopeSpans", &SCOPE_SPANS), SCHEMA_URL]);
static SCOPE_SPANS: Message = message(&[SCOPE, list(2, "spans", &schema::SPAN), SCHEMA_URL]);

static LOGS_DATA: Message = message(&[list(1, "resourceLogs", &RESOURCE_LOGS)]);
static RESOURCE_LOGS: Message = message(&[RESOURCE, list(2, "scopeLogs", &SCOPE_LOGS), SCHEMA_URL]);
static SCOPE_LOGS: Message = message(&[
    SCOPE,
    list(2, "logRecords", &schema::LOG_RECORD),
    SCHEMA_URL,
]);

static METRICS_DATA: Message = message(&[list(1, "resourceMetrics", &RESOURCE_METRICS)]);
static RESOURCE_METRICS: Message = message(&[
    RESOURCE,
    list(2, "scopeMetrics", &SCOPE_METRICS),
    SCHEMA_URL,
]);
static SCOPE_METRICS: Message = message(&[SCOPE, list(2, "metrics", &METRIC), SCHEMA_URL]);
static METRIC: Message = message(&[
    single(1, "name", Kind::Text),
    single(2, "description", Kind::Text),
    single(3, "unit", Kind::Text),
    single(5, "gauge", Kind::Message(&GAUGE)),
    single(7, "sum", Kind::Message(&SUM)),
    single(9, "histogram", Kind::Message(&HISTOGRAM)),
    single(10, "exponentialHistogram", Kind::Message(&EXPONENTIAL)),
    single(11, "summary", Kind::Message(&SUMMARY)),
    list(12, "metadata", &schema::KEY_VALUE),
]);
static GAUGE: Message = message(&[list(1, "dataPoints", &NUMBER_POINT)]);
static SUM: Message = message(&[
    list(1, "dataPoints", &NUMBER_POINT),
    TEMPORALITY,
    single(3, "isMonotonic", Kind::Bool),
]);
static HISTOGRAM: Message = message(&[list(1, "dataPoints", &HISTOGRAM_POINT), TEMPORALITY]);
static EXPONENTIAL: Message = message(&[list(1, "dataPoints", &EXPONENTIAL_POINT), TEMPORALITY]);
static SUMMARY: Message = message(&[list(1, "dataPoints", &SUMMARY_POINT)]);
