//! Metric points from the wire to a row and an answer, in the real binary on both stores.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TIME: u64 = 1_700_000_000_123_456_789;

fn text(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(text.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: "1".to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn request(service: &str, metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![text("service.name", service)],
        ..Resource::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}

/// A point of each kind of data.
fn all_kinds() -> Vec<Metric> {
    let gauge = Data::Gauge(Gauge {
        data_points: vec![NumberDataPoint {
            attributes: vec![text("queue", "in")],
            time_unix_nano: TIME,
            value: Some(Number::AsDouble(f64::NAN)),
            ..NumberDataPoint::default()
        }],
    });
    let sum = Data::Sum(Sum {
        data_points: vec![NumberDataPoint {
            time_unix_nano: TIME,
            start_time_unix_nano: TIME - 1,
            value: Some(Number::AsInt(i64::MAX)),
            exemplars: vec![Exemplar {
                trace_id: vec![0xab; 16],
                span_id: vec![0xcd; 8],
                value: Some(exemplar::Value::AsInt(0)),
                ..Exemplar::default()
            }],
            ..NumberDataPoint::default()
        }],
        aggregation_temporality: 2,
        is_monotonic: true,
    });
    let histogram = Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            time_unix_nano: TIME,
            count: u64::MAX,
            sum: Some(0.0),
            bucket_counts: vec![0, u64::MAX],
            explicit_bounds: vec![0.25],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: 1,
    });
    let exponential = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![ExponentialHistogramDataPoint {
            time_unix_nano: TIME,
            scale: -3,
            positive: Some(Buckets {
                offset: -7,
                bucket_counts: vec![1, 300],
            }),
            negative: Some(Buckets::default()),
            ..ExponentialHistogramDataPoint::default()
        }],
        aggregation_temporality: 1,
    });
    let summary = Data::Summary(Summary {
        data_points: vec![SummaryDataPoint {
            time_unix_nano: TIME,
            count: 2,
            quantile_values: vec![ValueAtQuantile {
                quantile: 0.5,
                value: 1e21,
            }],
            ..SummaryDataPoint::default()
        }],
    });
    vec![
        metric("a.gauge", gauge),
        metric("a.sum", sum),
        metric("a.histogram", histogram),
        metric("an.exponential", exponential),
        metric("a.summary", summary),
    ]
}

/// The same in JSON.
const IN_JSON: &str = r#"{"resourceMetrics":[{
    "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"kiosk"}}]},
    "scopeMetrics":[{"metrics":[
        {"name":"a.gauge","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"1700000000123456789","asDouble":"NaN",
         "attributes":[{"key":"queue","value":{"stringValue":"in"}}]}]}},
        {"name":"a.sum","unit":"1","sum":{"isMonotonic":true,"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE",
         "dataPoints":[{"startTimeUnixNano":1700000000123456788,"timeUnixNano":"1700000000123456789",
         "asInt":"9223372036854775807","exemplars":[{"traceId":"ABABABABABABABABABABABABABABABAB",
         "spanId":"cdcdcdcdcdcdcdcd","asInt":0}]}]}},
        {"name":"a.histogram","unit":"1","histogram":{"aggregationTemporality":1,"dataPoints":[{
         "timeUnixNano":"1700000000123456789","count":"18446744073709551615","sum":0,
         "bucketCounts":["0","18446744073709551615"],"explicitBounds":[0.25]}]}},
        {"name":"an.exponential","unit":"1","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{
         "timeUnixNano":"1700000000123456789","scale":-3,"positive":{"offset":-7,"bucketCounts":["1","300"]},
         "negative":{}}]}},
        {"name":"a.summary","unit":"1","summary":{"dataPoints":[{"timeUnixNano":"1700000000123456789","count":"2",
         "quantileValues":[{"quantile":0.5,"value":1e21}]}]}}]}]}]}"#;

/// The rows of both, by their names.
fn expected() -> [(&'static str, i32, &'static str, &'static str); 5] {
    [
        (
            "a.gauge",
            5,
            "gauge",
            r#"{"unit": "1", "asDouble": {"$double": "NaN"}, "attributes": {"queue": "in"}}"#,
        ),
        (
            "a.histogram",
            9,
            "histogram",
            r#"{"sum": 0.0, "unit": "1", "count": 18446744073709551615, "bucketCounts": [0, 18446744073709551615], "explicitBounds": [0.25], "aggregationTemporality": 1}"#,
        ),
        (
            "a.sum",
            7,
            "sum",
            r#"{"unit": "1", "asInt": 9223372036854775807, "exemplars": [{"asInt": 0, "spanId": "cdcdcdcdcdcdcdcd", "traceId": "abababababababababababababababab"}], "isMonotonic": true, "startTimeUnixNano": "1700000000123456788", "aggregationTemporality": 2}"#,
        ),
        (
            "a.summary",
            11,
            "summary",
            r#"{"unit": "1", "count": 2, "quantileValues": [{"value": 1000000000000000000000.0, "quantile": 0.5}]}"#,
        ),
        (
            "an.exponential",
            10,
            "exponentialHistogram",
            r#"{"unit": "1", "scale": -3, "negative": {}, "positive": {"offset": -7, "bucketCounts": [1, 300]}, "aggregationTemporality": 1}"#,
        ),
    ]
}

async fn send(service: &Service, content_type: &str, body: impl Into<bytes::Bytes>) -> Vec<u8> {
    let url = service.url("/v1/metrics");
    let answer = service.http.post(&url, content_type, body).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body.to_vec()
}

async fn found(service: &Service, query: &str) -> Vec<Value> {
    let answer = service.get(query).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json().as_array().expect("an array").clone()
}

/// Sends both encodings, and queries them.
async fn assert_found(service: &Service) {
    let protobuf = request("till", all_kinds());
    assert_eq!(send(service, PROTOBUF, protobuf).await, b"");
    assert_eq!(send(service, JSON, IN_JSON).await, b"{}");
    service.until_drained().await;
    service.metrics().await.assert_balance();

    for name in ["till", "kiosk"] {
        for (metric, kind, status, metadata) in expected() {
            let query = format!("/query?integration={name}&name={metric}&status={status}");
            let found = found(service, &query).await;
            assert_eq!(found.len(), 1, "{found:?}");
            let mut row = found[0].clone();
            for made in ["id", "createdAt", "correlationId"] {
                let made = row.as_object_mut().expect("an object").remove(made);
                assert!(made.is_some(), "{row}");
            }
            let metadata: Value = serde_json::from_str(metadata).expect("JSON");
            assert_eq!(
                row,
                json!({
                    "integration": name,
                    "provider": null,
                    "eventType": "metric",
                    "timestamp": 1_700_000_000_123_u64,
                    "metadata": metadata,
                    "traceId": null,
                    "spanId": null,
                    "name": metric,
                    "timeUnixNano": "1700000000123456789",
                    "kind": kind,
                    "status": status,
                    "resource": {"attributes": {"service.name": name}},
                    "scope": {},
                })
            );
        }
    }
    let by_attribute = found(service, "/query?eventType=metric&attributes.queue=in").await;
    let [one, other] = &by_attribute[..] else {
        panic!("{by_attribute:?}");
    };
    assert_ne!(one["correlationId"], other["correlationId"]);
    let exact = "/query?metadata.asInt=9223372036854775807";
    assert_eq!(found(service, exact).await.len(), 2);
    let series = one["correlationId"].as_str().expect("a text");
    let of_series = found(service, &format!("/query?correlationId={series}")).await;
    assert_eq!(of_series, std::slice::from_ref(one));
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_points_of_both_encodings_are_found_by_query_and_by_sql_in_postgresql() {
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    assert_found(&service).await;

    let mut sql = database.connect().await;
    let rows: Vec<(String, i32, String, String)> = sqlx::query_as(
        "SELECT name, kind, status, metadata::text FROM telemetry_events
         WHERE event_type = 'metric' AND integration = 'till' AND length(correlation_id) = 32
         AND num_nulls(trace_id, span_id, parent_span_id, duration_ns, flags) = 5 ORDER BY name",
    )
    .fetch_all(&mut sql)
    .await
    .expect("the table can be read");
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, kind, status, metadata)| (&**name, *kind, &**status, &**metadata))
        .collect();
    assert_eq!(rows, expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_points_of_both_encodings_are_found_by_query_in_sqlite() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::sqlite(dir.path()).start().await;
    assert_found(&service).await;
}

#[tokio::test]
async fn g12_h7_a_point_without_a_time_is_rejected_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::sqlite(dir.path()).start().await;
    let at = |time_unix_nano| NumberDataPoint {
        time_unix_nano,
        ..NumberDataPoint::default()
    };
    let gauge = |times: [u64; 2]| {
        let data_points = times.map(at).to_vec();
        metric("a.gauge", Data::Gauge(Gauge { data_points }))
    };
    let body = request("till", vec![gauge([TIME, 0]), gauge([0, TIME])]);
    let answer = send(&service, PROTOBUF, body).await;
    let answer = ExportMetricsServiceResponse::decode(&*answer).expect("a response");
    let partial = answer.partial_success.expect("a partial success");
    assert_eq!(partial.rejected_data_points, 2);
    assert!(
        partial.error_message.contains("[1].timeUnixNano"),
        "{}",
        partial.error_message
    );
    service.until_drained().await;
    assert_eq!(found(&service, "/query?name=a.gauge").await.len(), 2);
}

/// The SQL of docs/otlp.md for metrics, run on the stored rows.
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_sql_finds_the_latest_value_of_a_gauge_and_the_rate_of_a_sum() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/otlp.md"));
    let document = document.expect("the document");
    let statements: Vec<&str> = document
        .split("```sql\n")
        .filter_map(|block| block.split("```").next())
        .flat_map(|block| block.split_inclusive(";\n"))
        .filter(|statement| statement.contains("event_type = 'metric'"))
        .collect();
    let [latest, rate] = statements[..] else {
        panic!("{statements:?}");
    };

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now = u64::try_from(now.as_nanos()).expect("before 2554");
    let second = 1_000_000_000;
    let point = |age: u64, value: Number| NumberDataPoint {
        time_unix_nano: now - age * second,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let gauge = vec![point(1, Number::AsDouble(2.5)), point(20, Number::AsInt(9))];
    // The process was restarted in between: 100 to 172, then 0 to 72.
    let counted = |age: u64, start: u64, value: i64| NumberDataPoint {
        start_time_unix_nano: start,
        ..point(age, Number::AsInt(value))
    };
    let sum = Sum {
        data_points: vec![
            counted(40, 1, 100),
            counted(30, 1, 172),
            counted(20, 2, 0),
            counted(10, 2, 72),
        ],
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let metrics = vec![
        metric("queue.depth", Data::Gauge(Gauge { data_points: gauge })),
        metric("http.requests", Data::Sum(sum)),
    ];
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    send(&service, PROTOBUF, request("till", metrics)).await;
    service.until_drained().await;

    let mut sql = database.connect().await;
    for (statement, column, expected) in [(latest, "value", 2.5), (rate, "per_second", 0.04)] {
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .fetch_all(&mut sql)
            .await
            .expect(statement);
        assert_eq!(rows.len(), 1, "{statement}");
        assert_eq!(rows[0].get::<String, _>("integration"), "till");
        assert!((rows[0].get::<f64, _>(column) - expected).abs() < 1e-9);
    }
}
