//! Ready-made OTLP requests: eight attributes a span, five a resource, ten spans a trace.
//!
//! **Invariant:** every span of a run has a different id, so that rows can be counted.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

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

/// Spreads a counter over 64 bits, as random ids are spread (SplitMix64).
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn span(n: u64, now_unix_nano: u64) -> Span {
    // From 1: an id of zeros is invalid.
    let trace = scatter(n / 10 + 1);
    let mut trace_id = trace.to_be_bytes().to_vec();
    trace_id.extend(scatter(trace).to_be_bytes());
    Span {
        trace_id,
        span_id: scatter(n | 1 << 63).to_be_bytes().to_vec(),
        parent_span_id: if n.is_multiple_of(10) {
            Vec::new()
        } else {
            scatter((n / 10 * 10) | 1 << 63).to_be_bytes().to_vec()
        },
        name: [
            "GET /orders",
            "POST /orders",
            "SELECT orders",
            "publish",
            "charge",
        ][usize::try_from(n % 5).expect("below five")]
        .to_owned(),
        kind: 2,
        start_time_unix_nano: now_unix_nano + n,
        end_time_unix_nano: now_unix_nano + n + 1_000 * (n % 1_000),
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

/// One request with the spans `first..first + count`.
pub(crate) fn request(first: u64, count: u64, now_unix_nano: u64) -> Vec<u8> {
    let service = format!("service-{}", first / count % 20);
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", &service),
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
                spans: (first..first + count)
                    .map(|n| span(n, now_unix_nano))
                    .collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}
