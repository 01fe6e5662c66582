//! Requests of every signal, each in both of OTLP's encodings.
//!
//! **Invariant:** both encodings of a message have the same content.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};

const TIME: u64 = 1_700_000_000_123_456_789;

/// Deeper than a value may be nested.
const TOO_DEEP: usize = 30;

#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Span,
    Log,
    Metric,
}

impl Signal {
    pub(super) const ALL: [Self; 3] = [Self::Span, Self::Log, Self::Metric];

    /// As metrics name it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Log => "log",
            Self::Metric => "metric",
        }
    }

    pub(super) const fn http_path(self) -> &'static str {
        match self {
            Self::Span => "/v1/traces",
            Self::Log => "/v1/logs",
            Self::Metric => "/v1/metrics",
        }
    }

    pub(super) const fn grpc_path(self) -> &'static str {
        match self {
            Self::Span => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Log => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metric => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// One request, in both encodings.
pub(super) struct Message {
    pub(super) protobuf: Vec<u8>,
    pub(super) json: Vec<u8>,
}

/// A request of that many accepted items, followed by that many rejected ones; `name` distinguishes it from others.
pub(super) fn message(signal: Signal, name: &str, good: u8, bad: u8) -> Message {
    let items: Vec<u8> = (1..=good + bad).collect();
    let is_good = |number: u8| number <= good;
    let (protobuf, json) = match signal {
        Signal::Span => spans(name, &items, is_good),
        Signal::Log => log_records(name, &items, is_good),
        Signal::Metric => data_points(name, &items, is_good),
    };
    Message {
        protobuf,
        json: json.to_string().into_bytes(),
    }
}

/// The rejected spans have a trace id of zeros.
fn spans(name: &str, items: &[u8], is_good: impl Fn(u8) -> bool) -> (Vec<u8>, Value) {
    let id = |number| if is_good(number) { number } else { 0 };
    let spans = items.iter().map(|&number| Span {
        trace_id: vec![id(number); 16],
        span_id: vec![0xcd; 8],
        name: name.to_owned(),
        kind: 3,
        start_time_unix_nano: TIME,
        end_time_unix_nano: TIME + 1,
        attributes: attributes(number),
        ..Span::default()
    });
    let in_json = items.iter().map(|&number| {
        json!({
            "traceId": format!("{:02x}", id(number)).repeat(16),
            "spanId": "CD".repeat(8),
            "name": name,
            "kind": "SPAN_KIND_CLIENT",
            "startTimeUnixNano": TIME.to_string(),
            "endTimeUnixNano": TIME + 1,
            "attributes": attributes_json(number),
        })
    });
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let spans: Vec<Value> = in_json.collect();
    let scoped = json!({ "scope": scope_json(), "spans": spans });
    let json =
        json!({ "resourceSpans": [{ "resource": resource_json(), "scopeSpans": [scoped] }] });
    (request.encode_to_vec(), json)
}

/// The rejected records have a body of too many levels.
fn log_records(name: &str, items: &[u8], is_good: impl Fn(u8) -> bool) -> (Vec<u8>, Value) {
    let deep = (0..TOO_DEEP).fold(AnyValue::default(), |inner, _| AnyValue {
        value: Some(Any::ArrayValue(ArrayValue {
            values: vec![inner],
        })),
    });
    let deep_json = (0..TOO_DEEP).fold(
        json!({}),
        |inner, _| json!({ "arrayValue": { "values": [inner] } }),
    );
    let records = items.iter().map(|&number| LogRecord {
        time_unix_nano: TIME,
        severity_number: 17,
        body: Some(if is_good(number) {
            text(name)
        } else {
            deep.clone()
        }),
        attributes: attributes(number),
        trace_id: vec![0xab; 16],
        ..LogRecord::default()
    });
    let in_json = items.iter().map(|&number| {
        let body = if is_good(number) {
            json!({ "stringValue": name })
        } else {
            deep_json.clone()
        };
        json!({
            "timeUnixNano": TIME.to_string(),
            "severityNumber": 17,
            "body": body,
            "attributes": attributes_json(number),
            "traceId": "AB".repeat(16),
        })
    });
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let records: Vec<Value> = in_json.collect();
    let scoped = json!({ "scope": scope_json(), "logRecords": records });
    let json = json!({ "resourceLogs": [{ "resource": resource_json(), "scopeLogs": [scoped] }] });
    (request.encode_to_vec(), json)
}

/// The rejected points have no time.
fn data_points(name: &str, items: &[u8], is_good: impl Fn(u8) -> bool) -> (Vec<u8>, Value) {
    let time = |number| if is_good(number) { TIME } else { 0 };
    let points = items.iter().map(|&number| NumberDataPoint {
        time_unix_nano: time(number),
        value: Some(Number::AsInt(number.into())),
        attributes: attributes(number),
        ..NumberDataPoint::default()
    });
    let in_json = items.iter().map(|&number| {
        json!({
            "timeUnixNano": time(number).to_string(),
            "asInt": number.to_string(),
            "attributes": attributes_json(number),
        })
    });
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: vec![Metric {
                    name: name.to_owned(),
                    unit: "1".to_owned(),
                    data: Some(Data::Gauge(Gauge {
                        data_points: points.collect(),
                    })),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let points: Vec<Value> = in_json.collect();
    let metric = json!({ "name": name, "unit": "1", "gauge": { "dataPoints": points } });
    let scoped = json!({ "scope": scope_json(), "metrics": [metric] });
    let json =
        json!({ "resourceMetrics": [{ "resource": resource_json(), "scopeMetrics": [scoped] }] });
    (request.encode_to_vec(), json)
}

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Any::StringValue(text.to_owned())),
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn attributes(number: u8) -> Vec<KeyValue> {
    vec![
        pair("number", Any::IntValue(number.into())),
        pair("ratio", Any::DoubleValue(0.1)),
        pair("bytes", Any::BytesValue(vec![0xfb, 0xff])),
        pair("text", Any::StringValue("ä".to_owned())),
        pair("yes", Any::BoolValue(true)),
    ]
}

fn attributes_json(number: u8) -> Value {
    json!([
        { "key": "number", "value": { "intValue": number.to_string() } },
        { "key": "ratio", "value": { "doubleValue": 0.1 } },
        { "key": "bytes", "value": { "bytesValue": "+/8=" } },
        { "key": "text", "value": { "stringValue": "ä" } },
        { "key": "yes", "value": { "boolValue": true } },
    ])
}

fn resource() -> Resource {
    Resource {
        attributes: vec![pair("service.name", Any::StringValue("till".to_owned()))],
        ..Resource::default()
    }
}

fn resource_json() -> Value {
    json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "till" } }] })
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "card".to_owned(),
        version: "1.2".to_owned(),
        ..InstrumentationScope::default()
    }
}

fn scope_json() -> Value {
    json!({ "name": "card", "version": "1.2" })
}
