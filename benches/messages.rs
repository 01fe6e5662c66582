//! Requests of every kind that are decoded, always the same.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// Number of spans, log records or points in a request.
pub(crate) const ITEMS: usize = 500;
/// Number of events in a native batch.
pub(crate) const NATIVE_EVENTS: usize = 100;
const START: u64 = 1_799_999_999_000_000_000;

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Any::StringValue(value.to_owned()))
}

/// 500 spans of about 365 bytes, 8 attributes each, under a resource of 5 attributes.
pub(crate) fn request() -> ExportTraceServiceRequest {
    let span = |index: usize| {
        let id = index as u64 + 1;
        Span {
            trace_id: [
                id.to_be_bytes(),
                id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
            ]
            .concat(),
            span_id: id
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes()
                .to_vec(),
            parent_span_id: id.to_be_bytes().to_vec(),
            name: "GET /api/v1/orders/{id}".to_owned(),
            kind: 2,
            start_time_unix_nano: START + id * 1_000,
            end_time_unix_nano: START + id * 1_000 + 12_345_678,
            attributes: vec![
                text("http.request.method", "GET"),
                text("url.path", "/api/v1/orders/184467"),
                text("url.scheme", "https"),
                pair("http.response.status_code", Any::IntValue(200)),
                text("server.address", "orders.internal"),
                text("user_agent.original", "Mozilla/5.0 (X11)"),
                text("client.address", "10.12.34.56"),
                pair("network.peer.port", Any::IntValue(51_234)),
            ],
            status: Some(Status {
                message: String::new(),
                code: 1,
            }),
            flags: 257,
            ..Span::default()
        }
    };
    let resource = ProtoResource {
        attributes: vec![
            text("service.name", "orders"),
            text("service.version", "1.42.0"),
            text("deployment.environment.name", "production"),
            text("host.name", "node-17.example.internal"),
            text("telemetry.sdk.language", "rust"),
        ],
        ..ProtoResource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "http-server".to_owned(),
                    version: "0.9.1".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: (0..ITEMS).map(span).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// The same request in JSON, as the JavaScript SDK writes it: times as strings, the resource first.
pub(crate) fn request_json(request: &ExportTraceServiceRequest) -> String {
    fn attributes(out: &mut String, attributes: &[KeyValue]) {
        out.push_str("\"attributes\":[");
        for (index, pair) in attributes.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Any::StringValue(text)) => format!("{{\"stringValue\":\"{text}\"}}"),
                Some(Any::IntValue(value)) => format!("{{\"intValue\":{value}}}"),
                _ => "{}".to_owned(),
            };
            let _ = write!(out, "{comma}{{\"key\":\"{}\",\"value\":{value}}}", pair.key);
        }
        out.push(']');
    }
    let hex = |id: &[u8]| {
        id.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let resource_spans = &request.resource_spans[0];
    let mut out = String::from("{\"resourceSpans\":[{\"resource\":{");
    if let Some(resource) = &resource_spans.resource {
        attributes(&mut out, &resource.attributes);
    }
    out.push_str(
        "},\"scopeSpans\":[{\"scope\":{\"name\":\"http-server\",\"version\":\"0.9.1\"},\"spans\":[",
    );
    for (index, span) in resource_spans.scope_spans[0].spans.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            out,
            "{comma}{{\"traceId\":\"{}\",\"spanId\":\"{}\",\"parentSpanId\":\"{}\",\"name\":\"{}\",\"kind\":{},\
             \"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\",\"status\":{{\"code\":1}},\"flags\":{},",
            hex(&span.trace_id),
            hex(&span.span_id),
            hex(&span.parent_span_id),
            span.name,
            span.kind,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.flags,
        );
        attributes(&mut out, &span.attributes);
        out.push('}');
    }
    out.push_str("]}]}]}");
    out
}

/// As many log records, half of them without a trace, under the same resource and scope as the spans.
pub(crate) fn logs(spans: &ExportTraceServiceRequest) -> ExportLogsServiceRequest {
    let resource_spans = &spans.resource_spans[0];
    let scope_spans = &resource_spans.scope_spans[0];
    let record = |(index, span): (usize, &Span)| {
        let is_of_trace = index % 2 == 0;
        let id = |id: &[u8]| if is_of_trace { id.to_vec() } else { Vec::new() };
        LogRecord {
            time_unix_nano: span.start_time_unix_nano,
            observed_time_unix_nano: span.start_time_unix_nano + 1_000,
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            body: Some(AnyValue {
                value: Some(Any::StringValue(format!(
                    "order {index} was paid for by card and handed over to the warehouse"
                ))),
            }),
            attributes: span.attributes[..4].to_vec(),
            trace_id: id(&span.trace_id),
            span_id: id(&span.span_id),
            flags: 1,
            ..LogRecord::default()
        }
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource_spans.resource.clone(),
            scope_logs: vec![ScopeLogs {
                scope: scope_spans.scope.clone(),
                log_records: scope_spans.spans.iter().enumerate().map(record).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// Half as many gauges' points as spans and half as many histograms', 25 a metric, under the spans' resource and scope.
pub(crate) fn metrics(spans: &ExportTraceServiceRequest) -> ExportMetricsServiceRequest {
    let resource_spans = &spans.resource_spans[0];
    let scope_spans = &resource_spans.scope_spans[0];
    let metric = |name: &str, data| Metric {
        name: name.to_owned(),
        description: "Duration of HTTP server requests".to_owned(),
        unit: "s".to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    let metrics = scope_spans.spans.chunks(50).flat_map(|spans| {
        let (numbers, histograms) = spans.split_at(spans.len() / 2);
        let number = |span: &Span| NumberDataPoint {
            attributes: span.attributes[..4].to_vec(),
            start_time_unix_nano: START - 1,
            time_unix_nano: span.start_time_unix_nano,
            value: Some(number_data_point::Value::AsDouble(0.123_456)),
            ..NumberDataPoint::default()
        };
        let histogram = |span: &Span| HistogramDataPoint {
            attributes: span.attributes[..4].to_vec(),
            start_time_unix_nano: START - 1,
            time_unix_nano: span.start_time_unix_nano,
            count: 1_234,
            sum: Some(98.765),
            min: Some(0.001),
            max: Some(9.5),
            bucket_counts: (0..15).map(|count| count * 7).collect(),
            explicit_bounds: (0..14).map(|bound| 0.005 * f64::from(1 << bound)).collect(),
            ..HistogramDataPoint::default()
        };
        let gauge = Gauge {
            data_points: numbers.iter().map(number).collect(),
        };
        let histogram = Histogram {
            data_points: histograms.iter().map(histogram).collect(),
            aggregation_temporality: 2,
        };
        [
            metric("queue.depth", metric::Data::Gauge(gauge)),
            metric(
                "http.server.request.duration",
                metric::Data::Histogram(histogram),
            ),
        ]
    });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource_spans.resource.clone(),
            scope_metrics: vec![ScopeMetrics {
                scope: scope_spans.scope.clone(),
                metrics: metrics.collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// 100 events of about 450 bytes.
pub(crate) fn native_events() -> String {
    let event = |index: usize| {
        format!(
            "{{\"correlationId\":\"order-{index:08}\",\"integration\":\"shop\",\"provider\":\"stripe\",\
             \"eventType\":\"payment.captured\",\"timestamp\":{},\"traceId\":\"{:032x}\",\"spanId\":\"{:016x}\",\
             \"metadata\":{{\"amount\":{}.50,\"currency\":\"EUR\",\"customer\":{{\"id\":{index},\"country\":\"DE\",\
             \"segment\":\"returning\"}},\"items\":[{{\"sku\":\"A-1\",\"count\":2}},{{\"sku\":\"B-7\",\"count\":1}}],\
             \"retries\":0,\"live\":true,\"note\":\"captured after the second authorisation\",\"region\":\"eu-central-1\"}}}}",
            1_799_999_999_000u64 + index as u64,
            index + 1,
            index + 1,
            index * 3 + 10,
        )
    };
    let events: Vec<_> = (0..NATIVE_EVENTS).map(event).collect();
    format!("[{}]", events.join(","))
}
