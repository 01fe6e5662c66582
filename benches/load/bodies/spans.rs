//! OTLP requests in protobuf: spans of 365 bytes.
//!
//! **Invariant:** a place of ids and times is found by the bytes that the encoder wrote there, so that a renewed message is
//! as valid as its template.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::bodies::{name, scatter};

/// Offsets of one span's ids and times in the message.
pub(super) struct SpanPlace {
    trace_id: usize,
    span_id: usize,
    parent_span_id: Option<usize>,
    start: usize,
    end: usize,
    duration_ns: u64,
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn trace_id(trace: u64) -> [u8; 16] {
    let high = scatter(trace);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_be_bytes());
    id[8..].copy_from_slice(&scatter(high).to_be_bytes());
    id
}

/// Spans and traces are numbered by different halves of the numbers.
fn span_id(n: u64) -> [u8; 8] {
    scatter(n | 1 << 63).to_be_bytes()
}

fn span(n: u64, now_unix_nano: u64) -> Span {
    let is_root = n.is_multiple_of(10);
    Span {
        // From 1: an id of zeros is invalid.
        trace_id: trace_id(n / 10 + 1).to_vec(),
        span_id: span_id(n).to_vec(),
        parent_span_id: if is_root {
            Vec::new()
        } else {
            span_id(n / 10 * 10).to_vec()
        },
        name: name(n).to_owned(),
        kind: 2,
        start_time_unix_nano: now_unix_nano + n,
        end_time_unix_nano: now_unix_nano + n + duration_ns(n),
        attributes: vec![
            text("http.request.method", "GET"),
            text("url.path", &format!("/orders/{}", n % 100_000)),
            attribute("http.response.status_code", any_value::Value::IntValue(200)),
            text("server.address", "shop.internal"),
            attribute("server.port", any_value::Value::IntValue(8080)),
            text("user_agent.original", "okhttp/4.12.0"),
            text("client.address", &format!("10.0.{}.{}", n % 200, n % 250)),
            attribute("retry", any_value::Value::BoolValue(false)),
        ],
        ..Span::default()
    }
}

fn duration_ns(n: u64) -> u64 {
    1_000 * (n % 1_000)
}

/// The request of one service with the spans `first..first + count`, and the places of what differs.
pub(super) fn message(
    service: u64,
    first: u64,
    count: u64,
    now_unix_nano: u64,
) -> (Vec<u8>, Vec<SpanPlace>) {
    let spans: Vec<Span> = (first..first + count)
        .map(|n| span(n, now_unix_nano))
        .collect();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", &format!("service-{service}")),
                    text("service.version", "1.4.2"),
                    text("host.name", "node-17"),
                    text("deployment.environment.name", "production"),
                    text("telemetry.sdk.language", "go"),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "net/http".to_owned(),
                    version: "0.60.0".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: spans.clone(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let bytes = request.encode_to_vec();
    let mut from = 0;
    let mut find = |wanted: &[u8]| {
        let at = bytes[from..]
            .windows(wanted.len())
            .position(|window| window == wanted)
            .expect("it was encoded");
        from += at + wanted.len();
        from - wanted.len()
    };
    let places = spans.iter().map(|span| SpanPlace {
        trace_id: find(&span.trace_id),
        span_id: find(&span.span_id),
        parent_span_id: (!span.parent_span_id.is_empty()).then(|| find(&span.parent_span_id)),
        start: find(&span.start_time_unix_nano.to_le_bytes()),
        end: find(&span.end_time_unix_nano.to_le_bytes()),
        duration_ns: span.end_time_unix_nano - span.start_time_unix_nano,
    });
    let places = places.collect();
    (bytes, places)
}

/// Writes ids and times of the spans `first..` into a message; `trace_of` chooses the trace of each ten spans.
pub(super) fn renew(
    message: &mut [u8],
    places: &[SpanPlace],
    first: u64,
    now_unix_nano: u64,
    trace_of: impl Fn(u64) -> u64,
) {
    let mut start = now_unix_nano;
    for (index, place) in (0..).zip(places) {
        let n = first.wrapping_add(index);
        let trace = trace_id(trace_of(n / 10 + 1));
        message[place.trace_id..place.trace_id + 16].copy_from_slice(&trace);
        message[place.span_id..place.span_id + 8].copy_from_slice(&span_id(n));
        if let Some(at) = place.parent_span_id {
            message[at..at + 8].copy_from_slice(&span_id(n / 10 * 10));
        }
        message[place.start..place.start + 8].copy_from_slice(&start.to_le_bytes());
        let end = start + place.duration_ns;
        message[place.end..place.end + 8].copy_from_slice(&end.to_le_bytes());
        start += 1_000;
    }
}
