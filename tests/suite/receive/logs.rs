//! Log records from the wire to a row and an answer, in the real binary on both stores.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};

use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TIME: u64 = 1_700_000_000_123_456_789;

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    }
}

fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Any::StringValue(text.to_owned())),
    }
}

/// One record of a trace with every field, and one without any.
fn protobuf() -> Vec<u8> {
    let full = LogRecord {
        time_unix_nano: TIME,
        observed_time_unix_nano: TIME + 1,
        severity_number: 17,
        severity_text: "Error".to_owned(),
        body: Some(text("card refused")),
        attributes: vec![pair("card", "visa")],
        flags: 1,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        event_name: "payment.refused".to_owned(),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![pair("service.name", "till")],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: "card".to_owned(),
                    ..InstrumentationScope::default()
                }),
                log_records: vec![full, LogRecord::default()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

/// The same in JSON, with another name of the service.
const IN_JSON: &str = r#"{"resourceLogs":[{
    "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"kiosk"}}]},
    "scopeLogs":[{"scope":{"name":"card"},"logRecords":[
        {"timeUnixNano":"1700000000123456789","observedTimeUnixNano":"1700000000123456790",
         "severityNumber":"SEVERITY_NUMBER_ERROR","severityText":"Error","body":{"stringValue":"card refused"},
         "attributes":[{"key":"card","value":{"stringValue":"visa"}}],"flags":1,
         "traceId":"ABABABABABABABABABABABABABABABAB","spanId":"cdcdcdcdcdcdcdcd","eventName":"payment.refused"},
        {}]}]}]}"#;

async fn found(service: &Service, query: &str) -> Vec<Value> {
    let answer = service.get(query).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json().as_array().expect("an array").clone()
}

/// Sends both encodings, and queries them.
async fn assert_found(service: &Service) {
    for (content_type, body) in [(PROTOBUF, protobuf()), (JSON, IN_JSON.into())] {
        let url = service.url("/v1/logs");
        let answer = service.http.post(&url, content_type, body).await;
        let answer = answer.expect("an answer");
        let empty: &[u8] = if content_type == JSON { b"{}" } else { b"" };
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, empty));
    }
    service.until_drained().await;
    service.metrics().await.assert_balance();

    for name in ["till", "kiosk"] {
        let query = format!("/query?integration={name}&status=ERROR&attributes.card=visa");
        let found = found(service, &query).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let mut row = found[0].clone();
        for made in ["id", "createdAt"] {
            let made = row.as_object_mut().expect("an object").remove(made);
            assert!(made.is_some(), "{row}");
        }
        assert_eq!(
            row,
            json!({
                "correlationId": "ab".repeat(16),
                "integration": name,
                "provider": null,
                "eventType": "log",
                "timestamp": 1_700_000_000_123_u64,
                "metadata": {
                    "body": "card refused",
                    "flags": 1,
                    "attributes": {"card": "visa"},
                    "severityText": "Error",
                    "observedTimeUnixNano": "1700000000123456790",
                },
                "traceId": "ab".repeat(16),
                "spanId": "cd".repeat(8),
                "name": "payment.refused",
                "timeUnixNano": "1700000000123456789",
                "kind": 17,
                "status": "ERROR",
                "resource": {"attributes": {"service.name": name}},
                "scope": {"name": "card"},
            })
        );
    }
    let of_trace = found(service, &format!("/traces/{}", "AB".repeat(16))).await;
    assert_eq!(of_trace.len(), 2);
    let named = found(service, "/query?name=payment.refused&eventType=log").await;
    assert_eq!(named.len(), 2);
    let by_body = found(service, "/query?metadata.body=card%20refused").await;
    assert_eq!(by_body.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_of_both_encodings_are_found_by_query_and_by_sql_in_postgresql() {
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    assert_found(&service).await;

    let mut sql = database.connect().await;
    let of_nothing: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM telemetry_events
         WHERE event_type = 'log' AND integration IN ('till', 'kiosk') AND metadata::text = '{}' AND kind = 0
         AND flags = 1 AND length(correlation_id) = 32
         AND num_nulls(trace_id, span_id, parent_span_id, name, status, time_unix_nano, duration_ns) = 7",
    )
    .fetch_one(&mut sql)
    .await
    .expect("the table can be read");
    assert_eq!(of_nothing, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_of_both_encodings_are_found_by_query_in_sqlite() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::sqlite(dir.path()).start().await;
    assert_found(&service).await;
    let all = found(&service, "/query?eventType=log").await;
    let ids: BTreeSet<_> = all
        .iter()
        .map(|row| row["correlationId"].as_str().expect("a text"))
        .collect();
    assert_eq!((all.len(), ids.len()), (4, 3), "{all:?}");
}

#[tokio::test]
async fn a_body_of_spans_is_400_on_the_path_of_logs_and_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::sqlite(dir.path()).start().await;
    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}"#;
    let url = service.url("/v1/logs");
    let answer = service.http.post(&url, JSON, body).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].to_string();
    assert!(message.contains("/v1/traces"), "{message}");
}
