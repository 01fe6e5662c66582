//! Spans, log records and metric points as a client would send them, and invalid ones.
//!
//! **Invariant:** every item has its request's mark, so that a server that can be asked shows which items it kept.

use crate::case::Signal;
use crate::message::{Message, Value, hex};

/// A time of any day, in Unix nanoseconds.
pub(crate) const TIME: u64 = 1_700_000_000_123_456_789;

/// The mark of one request's items: random, like the ids that are made from it.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    bytes: [u8; 16],
}

impl Mark {
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        // No id may be all zero, and in hex a letter tells upper case from lower.
        bytes[0] = 0xab;
        Self { bytes }
    }

    /// The value of the attribute `correlation_id`.
    pub(crate) fn text(&self) -> String {
        format!("conformance-{}", hex(&self.bytes))
    }

    pub(crate) fn trace_id(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    pub(crate) fn span_id(&self) -> Vec<u8> {
        self.bytes[..8].to_vec()
    }
}

/// `KeyValue`.
pub(crate) fn attribute(key: &str, value: Message) -> Message {
    Message::default()
        .text(1, "key", key)
        .one(2, "value", value)
}

/// `AnyValue` that is a string.
pub(crate) fn string(text: &str) -> Message {
    Message::default().text(1, "stringValue", text)
}

fn marked(mark: &Mark, attributes: Vec<Message>) -> Vec<Message> {
    let mut all = vec![attribute("correlation_id", string(&mark.text()))];
    all.extend(attributes);
    all
}

/// A good `Span`, `LogRecord` or `Metric` (a gauge of one point) with these attributes.
pub(crate) fn item(signal: Signal, mark: &Mark, attributes: Vec<Message>) -> Message {
    match signal {
        Signal::Traces => span(mark, attributes),
        Signal::Logs => log_record(mark, attributes),
        Signal::Metrics => gauge(vec![number_point(mark, attributes)]),
    }
}

pub(crate) fn span(mark: &Mark, attributes: Vec<Message>) -> Message {
    Message::default()
        .with(1, "traceId", Value::Id(mark.trace_id()))
        .with(2, "spanId", Value::Id(mark.span_id()))
        .text(5, "name", "work")
        .with(6, "kind", Value::Varint(2))
        .with(7, "startTimeUnixNano", Value::Fixed64(TIME))
        .with(8, "endTimeUnixNano", Value::Fixed64(TIME + 1_000))
        .many(9, "attributes", marked(mark, attributes))
        .one(
            15,
            "status",
            Message::default().with(3, "code", Value::Varint(1)),
        )
}

pub(crate) fn log_record(mark: &Mark, attributes: Vec<Message>) -> Message {
    Message::default()
        .with(1, "timeUnixNano", Value::Fixed64(TIME))
        .with(2, "severityNumber", Value::Varint(9))
        .text(3, "severityText", "INFO")
        .one(5, "body", string("something happened"))
        .many(6, "attributes", marked(mark, attributes))
        .with(9, "traceId", Value::Id(mark.trace_id()))
        .with(10, "spanId", Value::Id(mark.span_id()))
        .with(11, "observedTimeUnixNano", Value::Fixed64(TIME + 1))
}

/// `Metric`, a gauge of these `NumberDataPoint`s.
pub(crate) fn gauge(points: Vec<Message>) -> Message {
    metric().one(5, "gauge", Message::default().many(1, "dataPoints", points))
}

fn metric() -> Message {
    Message::default()
        .text(1, "name", "conformance.value")
        .text(3, "unit", "1")
}

/// `NumberDataPoint`.
pub(crate) fn number_point(mark: &Mark, attributes: Vec<Message>) -> Message {
    Message::default()
        .with(3, "timeUnixNano", Value::Fixed64(TIME))
        .with(4, "asDouble", Value::Double(1.5))
        .many(7, "attributes", marked(mark, attributes))
}

/// A `Metric` of each kind, with one data point each; a gauge and a sum are of either number.
pub(crate) fn metrics_of_every_kind(mark: &Mark) -> Vec<Message> {
    let temporality = |data: Message| data.with(2, "aggregationTemporality", Value::Varint(2));
    let points = |point: Message| Message::default().many(1, "dataPoints", vec![point]);
    let sum = Message::default()
        .with(2, "startTimeUnixNano", Value::Fixed64(TIME - 1_000))
        .with(3, "timeUnixNano", Value::Fixed64(TIME))
        .with(6, "asInt", Value::Int64Fixed(-7))
        .many(7, "attributes", marked(mark, Vec::new()));
    let histogram = Message::default()
        .with(3, "timeUnixNano", Value::Fixed64(TIME))
        .with(4, "count", Value::Fixed64(3))
        .with(5, "sum", Value::Double(6.25))
        .with(6, "bucketCounts", Value::Fixed64s(vec![1, 2]))
        .with(7, "explicitBounds", Value::Doubles(vec![2.5]))
        .many(9, "attributes", marked(mark, Vec::new()))
        .with(11, "min", Value::Double(0.5))
        .with(12, "max", Value::Double(4.0));
    let buckets = Message::default()
        .with(1, "offset", Value::Sint32(-3))
        .with(2, "bucketCounts", Value::Uint64s(vec![1, 300]));
    let exponential = Message::default()
        .many(1, "attributes", marked(mark, Vec::new()))
        .with(3, "timeUnixNano", Value::Fixed64(TIME))
        .with(4, "count", Value::Fixed64(301))
        .with(6, "scale", Value::Sint32(-1))
        .one(8, "positive", buckets);
    let summary = Message::default()
        .with(3, "timeUnixNano", Value::Fixed64(TIME))
        .with(4, "count", Value::Fixed64(2))
        .with(5, "sum", Value::Double(3.0))
        .many(
            6,
            "quantileValues",
            vec![
                Message::default()
                    .with(1, "quantile", Value::Double(0.5))
                    .with(2, "value", Value::Double(1.0)),
            ],
        )
        .many(7, "attributes", marked(mark, Vec::new()));
    vec![
        gauge(vec![number_point(mark, Vec::new())]),
        metric().one(
            7,
            "sum",
            temporality(points(sum)).with(3, "isMonotonic", Value::Bool(true)),
        ),
        metric().one(9, "histogram", temporality(points(histogram))),
        metric().one(10, "exponentialHistogram", temporality(points(exponential))),
        metric().one(11, "summary", points(summary)),
    ]
}

/// `Export…ServiceRequest` of these items, under one resource and one scope.
pub(crate) fn request(signal: Signal, items: Vec<Message>) -> Message {
    let (resources, scopes, list) = signal.lists();
    let resource = Message::default().many(
        1,
        "attributes",
        vec![attribute("service.name", string("conformance"))],
    );
    let scope = Message::default()
        .text(1, "name", "conformance")
        .text(2, "version", "1");
    let scope_items = Message::default()
        .one(1, "scope", scope)
        .many(2, list, items)
        .text(3, "schemaUrl", "https://example.org/scope");
    let resource_items = Message::default()
        .one(1, "resource", resource)
        .many(2, scopes, vec![scope_items])
        .text(3, "schemaUrl", "https://example.org/resource");
    Message::default().many(1, resources, vec![resource_items])
}
