//! gRPC through the real binary, down to the rows.

use std::time::Instant;

use futures_util::future::join_all;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::super::MIB;
use super::super::otlp::{request, span};
use super::channel;
use crate::support::service::{Launch, PATIENCE, Service};

async fn start(settings: &[(&str, &str)]) -> (Service, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let launch = settings
        .iter()
        .fold(launch, |launch, (name, value)| launch.with(name, value));
    (launch.start().await, dir)
}

fn log_records() -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        severity_number: 17,
        body: text("", "it broke".to_owned()).value,
        attributes: vec![text("correlation_id", "order-1".to_owned())],
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![record],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn data_points() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        time_unix_nano: 1_700_000_000_000_000_000,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let metric = |name: &str, value| Metric {
        name: name.to_owned(),
        data: Some(metric::Data::Gauge(Gauge {
            data_points: vec![point(value)],
        })),
        ..Metric::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![
                    metric("whole", number_data_point::Value::AsInt(i64::MAX)),
                    metric("broken", number_data_point::Value::AsDouble(0.1)),
                ],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

async fn client(service: &Service) -> TraceServiceClient<Channel> {
    TraceServiceClient::new(channel(service.otlp_grpc()).await)
}

fn text(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

/// Spans of many traces, with attributes.
fn spans(count: u8) -> ExportTraceServiceRequest {
    let spans = (1..=count).map(|n| {
        let mut span = span(&[n; 16]);
        span.attributes = vec![
            text("number", n.to_string()),
            text("provider", "p".to_owned()),
        ];
        span
    });
    request(spans.collect())
}

/// The stored rows, without the columns that differ each time a row is stored.
async fn rows(service: &Service) -> Vec<Value> {
    service.until_drained().await;
    let Value::Array(mut rows) = service.get("/query?limit=1000").await.json() else {
        panic!("no array")
    };
    for row in &mut rows {
        let row = row.as_object_mut().expect("an object");
        assert!(row.remove("id").is_some() && row.remove("createdAt").is_some());
    }
    rows.sort_by_key(Value::to_string);
    rows
}

#[tokio::test]
async fn r1_rows_are_the_same_by_grpc_and_by_http() {
    let ((by_http, _a), (plain, _b), (zipped, _c)) =
        tokio::join!(start(&[]), start(&[]), start(&[]));
    let url = format!("{}/v1/traces", by_http.otlp_http());
    let body = spans(50).encode_to_vec();
    let answer = by_http
        .http
        .post(&url, "application/x-protobuf", body)
        .await;
    assert_eq!(answer.expect("an answer").status, 200);
    client(&plain).await.export(spans(50)).await.expect("taken");
    let mut zstd = client(&zipped)
        .await
        .send_compressed(CompressionEncoding::Zstd);
    zstd.export(spans(50)).await.expect("taken");

    let expected = rows(&by_http).await;
    assert_eq!(expected.len(), 50);
    assert_eq!(rows(&plain).await, expected);
    assert_eq!(rows(&zipped).await, expected);
}

#[tokio::test]
async fn r1_log_records_and_data_points_come_to_the_same_rows_too() {
    let ((by_http, _a), (by_grpc, _b)) = tokio::join!(start(&[]), start(&[]));
    let (logs, metrics) = (log_records(), data_points());
    for (path, body) in [
        ("/v1/logs", logs.encode_to_vec()),
        ("/v1/metrics", metrics.encode_to_vec()),
    ] {
        let url = format!("{}{path}", by_http.otlp_http());
        let answer = by_http
            .http
            .post(&url, "application/x-protobuf", body)
            .await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let channel = channel(by_grpc.otlp_grpc()).await;
    let mut client = LogsServiceClient::new(channel.clone());
    let taken = client.export(logs).await.expect("taken").into_inner();
    assert_eq!(taken.partial_success, None);
    let mut client = MetricsServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip);
    let taken = client.export(metrics).await.expect("taken").into_inner();
    assert_eq!(taken.partial_success, None);

    let expected = rows(&by_http).await;
    assert_eq!(expected.len(), 3);
    assert_eq!(rows(&by_grpc).await, expected);
    let page = by_grpc.metrics().await;
    page.assert_balance();
    for (signal, events) in [("log", 1.0), ("metric", 2.0)] {
        let label = format!(r#"source="otlp_grpc",signal="{signal}",outcome="accepted""#);
        let counted = page.sum_where("ruvvector_receive_events_total", &label);
        assert!((counted - events).abs() < 0.5, "{signal}: {counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_thousand_calls_at_once_are_all_accepted_once() {
    const CONNECTIONS: usize = 10;
    let (service, _dir) = start(&[]).await;
    let clients = join_all((0..CONNECTIONS).map(|_| client(&service))).await;
    let calls = (0..1000).map(|n| {
        let mut client = clients[n % CONNECTIONS].clone();
        // All of them are different.
        let mut spans = spans(20);
        spans.resource_spans[0]
            .resource
            .get_or_insert_default()
            .attributes = vec![text("call", n.to_string())];
        async move { client.export(spans).await }
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.expect("taken").into_inner().partial_success, None);
    }
    service.until_drained().await;
    let page = service.metrics().await;
    page.assert_balance();
    let source = r#"source="otlp_grpc",signal="span",outcome="accepted""#;
    for (metric, label, expected) in [
        ("ruvvector_receive_events_total", source, 20_000.0),
        ("ruvvector_receive_requests_total", source, 1000.0),
        ("ruvvector_write_events_total", "", 20_000.0),
        (
            "rpc_server_call_duration_seconds_count",
            r#"rpc_method="opentelemetry.proto.collector.trace.v1.TraceService/Export",rpc_response_status_code="OK""#,
            1000.0,
        ),
        ("ruvvector_receive_inflight_requests", "", 0.0),
        ("ruvvector_receive_inflight_bytes", "", 0.0),
    ] {
        let counted = page.sum_where(metric, label);
        assert!((counted - expected).abs() < 0.5, "{metric}: {counted}");
    }
}

/// A request of exactly that size.
fn of_bytes(bytes: usize) -> ExportTraceServiceRequest {
    let mut spans = request(
        (0..255)
            .map(|n| {
                let mut span = span(&[n + 1; 16]);
                span.attributes = vec![text("filler", "x".repeat(bytes / 256))];
                span
            })
            .collect(),
    );
    for _ in 0..3 {
        let missing = bytes - spans.encoded_len();
        if missing == 0 {
            return spans;
        }
        let last = &mut spans.resource_spans[0].scope_spans[0].spans[254];
        // The length may take another byte than before; the next round sees that.
        let missing = missing.saturating_sub(if last.name.len() < 128 { 4 } else { 0 });
        last.name.push_str(&"x".repeat(missing));
    }
    assert_eq!(spans.encoded_len(), bytes);
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_the_largest_request_is_accepted_and_one_byte_more_is_not() {
    let patience = [
        ("RUVVECTOR_BODY_TIMEOUT", "120s"),
        ("RUVVECTOR_HANDLING_TIMEOUT", "120s"),
        ("RUVVECTOR_INFLIGHT_BYTES", "256MiB"),
    ];
    let (service, _dir) = start(&patience).await;
    let mut client = client(&service).await;
    client.export(of_bytes(64 * MIB)).await.expect("taken");
    let refused = client.export(of_bytes(64 * MIB + 1)).await;
    let refused = refused.expect_err("too large");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(
        refused
            .metadata()
            .get_bin("google.rpc.retryinfo-bin")
            .is_none()
    );
    // The connection still works.
    client.export(spans(1)).await.expect("taken");
    service.until_drained().await;
    let page = service.metrics().await;
    page.assert_balance();
    let stored = page.sum("ruvvector_write_events_total");
    assert!((stored - 256.0).abs() < 0.5, "{stored}");
    let peak = service.peak_memory_bytes();
    assert!(peak < 768 * MIB as u64, "{} MiB", peak / MIB as u64);
}

/// Sends until there is an answer. tonic's client fails a call that finds its connection closing, although it was not
/// sent yet; calls that the server has received are answered.
async fn export_by_all_means(
    client: &TraceServiceClient<Channel>,
    spans: &ExportTraceServiceRequest,
) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = client.clone().export(spans.clone()).await {
        let from_the_server = std::error::Error::source(&error).is_none();
        assert!(!from_the_server && Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_or_stored_twice_by_a_connections_age() {
    let (mut service, _dir) = start(&[("RUVVECTOR_CONNECTION_AGE", "50ms")]).await;
    let client = client(&service).await;
    for round in 0..100 {
        let all = (0..8).map(|n| {
            let mut spans = spans(1);
            spans.resource_spans[0].scope_spans[0].spans[0].name = format!("{round}.{n}");
            spans
        });
        let all: Vec<_> = all.collect();
        join_all(all.iter().map(|spans| export_by_all_means(&client, spans))).await;
    }
    service.until_drained().await;
    let stored = service.metrics().await.sum("ruvvector_write_events_total");
    assert!((stored - 800.0).abs() < 0.5, "{stored}");
    service.signal(Signal::TERM);
    assert!(service.ended(PATIENCE).await.success());
}

#[tokio::test]
async fn a_used_port_names_the_setting_that_moves_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let launch = Launch::sqlite(dir.path()).with("RUVVECTOR_OTLP_GRPC_PORT", &port);
    let mut service = launch.spawn();
    assert!(!service.ended(PATIENCE).await.success());
    let said = service.lines();
    assert!(said.contains("RUVVECTOR_OTLP_GRPC_PORT moves"), "{said}");
}
