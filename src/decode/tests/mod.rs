//! Tests of decoding: its promises one by one, and properties over generated requests.

use std::borrow::Cow;

use crate::decode::{
    DecodeError, DecodeReport, EventMetadata, Sink, VERSION, check, clean_events, events,
};
use crate::event::{Encoding, Event, Limits, Position, Resource, Signal, Source, StreamId};

/// Native events.
mod native;

/// Native events: members that are not fields.
mod native_unknown;

/// Spans in protobuf: the mapping.
mod spans;

/// Spans in protobuf: the protocol's requirements, and bad inputs.
mod span_rows;

/// Resources and scopes.
mod origins;

/// Log records: the mapping, and back.
mod log_records;

/// Log records: the protocol's requirements, and bad inputs.
mod log_rows;

/// Metric points: the mapping.
mod metric_points;

/// Metric points: their values.
mod metric_values;

/// The forms of metrics in JSON.
mod metric_json;

/// Metric points: the protocol's requirements, odd encodings, and bad inputs.
mod metric_rows;

/// The forms of OTLP's JSON.
mod json_rows;

/// JSON whose members are in the usual order, or not.
mod json_order;

/// JSON whose values are not of their members' types.
mod ill_typed;

/// Messages in pieces.
mod pieces;

/// Columns that do not hold the value that was sent.
mod flagged;

/// Generated requests: both encodings, both functions, one result.
mod property;

/// Validation beside a walk that follows the tables.
mod schema_walk;

/// Exports that equal the request.
mod export;

/// Generated requests, and their JSON.
mod generate;

/// Generated requests with log records, and their JSON.
mod generate_logs;

/// Generated requests with metrics, and their JSON.
mod generate_metrics;

/// Requests whose rows are made without a second validation.
mod clean;

/// A normal form of requests, for comparisons.
mod same;

/// 2027-01-15T08:00:00Z.
const NOW_MS: i64 = 1_800_000_000_000;

fn source(signal: Signal, encoding: Encoding) -> Source {
    Source {
        signal,
        encoding,
        partial: false,
        received_unix_nano: NOW_MS * 1_000_000,
        limits: Limits::default(),
        version: VERSION,
    }
}

/// A sink that keeps all rows.
#[derive(Debug, Default, PartialEq)]
struct Rows {
    events: Vec<Event<'static>>,
    resources: Vec<Resource>,
}

impl Sink for Rows {
    fn resource(&mut self, resource: Resource) {
        self.resources.push(resource);
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        if let Some(id) = event.resource_id {
            assert!(self.resources.iter().any(|resource| resource.id == id));
        }
        self.events.push(owned(&metadata.of(event)));
    }
}

fn owned(event: &Event<'_>) -> Event<'static> {
    fn text(text: &str) -> Cow<'static, str> {
        Cow::Owned(text.to_owned())
    }
    Event {
        correlation_id: text(&event.correlation_id),
        integration: text(&event.integration),
        provider: event.provider.as_deref().map(text),
        event_type: text(&event.event_type),
        timestamp_ms: event.timestamp_ms,
        metadata: text(&event.metadata),
        trace_id: event.trace_id.as_deref().map(text),
        span_id: event.span_id.as_deref().map(text),
        parent_span_id: event.parent_span_id.as_deref().map(text),
        name: event.name.as_deref().map(text),
        time_unix_nano: event.time_unix_nano,
        duration_ns: event.duration_ns,
        kind: event.kind,
        status: event.status.as_deref().map(text),
        resource_id: event.resource_id,
        flags: event.flags,
    }
}

/// Decodes with [`check`] and with [`events`], asserts that they agree, and returns the rows.
fn decode(body: &[u8], source: &Source) -> Result<(DecodeReport, Rows), DecodeError> {
    let checked = check(body, source);
    let mut rows = Rows::default();
    let position = Position {
        stream: StreamId([7; 16]),
        n: 1,
    };
    let again = events(body, source, position, &mut rows);
    assert_eq!(checked, again, "check and events agree");
    assert_clean(body, source, &checked, &rows);
    let checked = checked?;
    assert_eq!(
        rows.events.len(),
        usize::try_from(checked.accepted).expect("small")
    );
    for event in &rows.events {
        assert_storable(event);
    }
    for resource in &rows.resources {
        assert_json(&resource.resource);
        assert_json(&resource.scope);
    }
    Ok((checked, rows))
}

/// Asserts that a clean request has the same rows without a second validation, and that those of any other request are
/// UTF-8, or an error.
fn assert_clean(
    body: &[u8],
    source: &Source,
    checked: &Result<DecodeReport, DecodeError>,
    rows: &Rows,
) {
    let mut unvalidated = Rows::default();
    let position = Position {
        stream: StreamId([7; 16]),
        n: 1,
    };
    let again = clean_events(body, source, position, &mut unvalidated);
    if checked.as_ref().is_ok_and(|checked| checked.is_clean) {
        assert_eq!(&again, checked, "a clean request");
        assert_eq!(&unvalidated, rows, "a clean request");
    }
    for event in &unvalidated.events {
        if again.is_ok() {
            assert_storable(event);
        }
    }
}

/// Asserts that both stores accept an event: columns within their limits, no NUL, and JSON that is an object.
fn assert_storable(event: &Event<'_>) {
    let texts = [
        (Some(&event.correlation_id), 255),
        (Some(&event.integration), 100),
        (event.provider.as_ref(), 100),
        (Some(&event.event_type), 50),
        (event.trace_id.as_ref(), 64),
        (event.span_id.as_ref(), 32),
        (event.parent_span_id.as_ref(), 32),
        (event.name.as_ref(), 255),
        (event.status.as_ref(), 20),
    ];
    for (text, limit) in texts {
        let text = text.map_or("", |text| text);
        assert!(
            text.chars().count() <= limit && !text.contains('\0'),
            "{text:?}"
        );
    }
    assert!(event.timestamp_ms >= 0);
    assert_json(&event.metadata);
}

fn assert_json(text: &str) {
    assert!(
        !text.contains('\0') && !text.contains("\\u0000"),
        "{text:?}"
    );
    let value: &serde_json::value::RawValue = serde_json::from_str(text).expect("valid JSON");
    assert!(value.get().starts_with('{'));
}
