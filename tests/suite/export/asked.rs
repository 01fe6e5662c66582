//! Requests for an export, and answers if there is nothing to export.

use axum::http::{Method, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Value, json};

use super::{JSON, PROTOBUF, directory, post, same};
use crate::support::client::Answer;
use crate::support::service::{Launch, Service};

const TRACE_ID: &str = "5b8efff798038103d269b633813fc60c";

pub(super) async fn get(service: &Service, path: &str, accept: &str) -> Answer {
    let headers = [("accept", accept)];
    service
        .http
        .send(Method::GET, &service.url(path), &headers, "")
        .await
        .expect("an answer")
}

/// The path of the next page.
pub(super) fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?.strip_prefix('<').expect("a link");
    let target = link.strip_suffix(">; rel=\"next\"").expect("a next link");
    Some(target.to_owned())
}

fn span(name: &str, span_id: &str) -> Value {
    json!({
        "traceId": TRACE_ID,
        "spanId": span_id,
        "name": name,
        "startTimeUnixNano": "1700000000000000001",
        "endTimeUnixNano": "1700000000000000003",
        "attributes": [
            {"key": "int", "value": {"intValue": "9223372036854775807"}},
            {"key": "double", "value": {"doubleValue": 1.0}},
        ],
    })
}

fn resource(service: &str) -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]})
}

fn spans_of(service: &str, spans: &[Value]) -> Value {
    json!({"resource": resource(service), "scopeSpans": [{"scope": {"name": "s"}, "spans": spans}]})
}

/// A trace over two services with a log record in it, and an event of the native API.
async fn start(dir: &std::path::Path) -> Service {
    let service = Launch::sqlite(dir).start().await;
    let (root, child) = (
        span("root", "00000000000000a1"),
        span("child", "00000000000000a2"),
    );
    let other = span("other", "00000000000000a3");
    let traces = json!({"resourceSpans": [
        spans_of("shop", &[root]),
        spans_of("bank", &[other]),
        spans_of("shop", &[child]),
    ]});
    let record = json!({
        "traceId": TRACE_ID,
        "timeUnixNano": "1700000000000000002",
        "severityNumber": 9,
        "body": {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AAE="}}]}},
    });
    let logs = json!({"resourceLogs": [
        {"resource": resource("shop"), "scopeLogs": [{"logRecords": [record]}]},
    ]});
    let event = json!({
        "correlationId": TRACE_ID, "integration": "shop", "eventType": "span", "timestamp": 1_600_000_000_000_u64,
        "traceId": TRACE_ID, "metadata": {},
    });
    for (path, body) in [
        ("/v1/traces", traces),
        ("/v1/logs", logs),
        ("/ingest", event),
    ] {
        let answer = post(&service, path, JSON, body.to_string().into_bytes()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    service.until_drained().await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_comes_back_as_its_spans_by_resource_and_scope() {
    let dir = directory();
    let service = start(dir.path()).await;
    let path = format!("/traces/{TRACE_ID}");

    let answer = get(&service, &format!("{path}?format=otlp"), "*/*").await;
    assert_eq!(answer.header("content-type"), Some(JSON));
    let json = answer.json();
    let of = |index: usize| {
        let resource = &json["resourceSpans"][index];
        let spans = resource["scopeSpans"][0]["spans"]
            .as_array()
            .expect("spans");
        let names: Vec<_> = spans.iter().map(|span| span["name"].clone()).collect();
        (resource["resource"].clone(), names)
    };
    assert_eq!(of(0), (resource("bank"), vec![json!("other")]));
    assert_eq!(
        of(1),
        (resource("shop"), vec![json!("root"), json!("child")])
    );
    assert_eq!(json["resourceSpans"].as_array().map(Vec::len), Some(2));

    for path in [path.clone(), format!("{path}?format=otlp")] {
        let answer = get(&service, &path, PROTOBUF).await;
        assert_eq!(answer.header("content-type"), Some(PROTOBUF));
        assert_eq!(same::spans(&answer.body).len(), 3);
    }
    let plain = get(&service, &path, JSON).await.json();
    assert_eq!(
        plain.as_array().map(Vec::len),
        Some(5),
        "all events: {plain}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_by_its_id_comes_back_alone_if_it_came_over_otlp() {
    let dir = directory();
    let service = start(dir.path()).await;
    let journal = get(&service, "/query?eventType=log", JSON).await.json();
    let path = format!("/query/{}?format=otlp", journal[0]["id"]);
    let json = get(&service, &path, JSON).await.json();
    let record = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(
        *record,
        json!({
            "traceId": TRACE_ID,
            "timeUnixNano": "1700000000000000002",
            "severityNumber": 9,
            "body": {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AAE="}}]}},
        })
    );

    let native = get(&service, "/query?to=1600000000000", JSON).await.json();
    let path = format!("/query/{}?format=otlp", native[0]["id"]);
    let answer = get(&service, &path, JSON).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["parameter"], "format");
    // Among other events it is ignored, although it calls itself a span.
    let path = "/query?eventType=span&format=otlp";
    let answer = get(&service, path, PROTOBUF).await;
    let spans = ExportTraceServiceRequest::decode(answer.body).expect("protobuf");
    assert_eq!(same::spans(&spans.encode_to_vec()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_as_otlp_is_refused_with_the_reason() {
    let dir = directory();
    let service = start(dir.path()).await;
    let trace = format!("/traces/{TRACE_ID}");
    for (path, accept, status, parameter) in [
        ("/query?format=otlp", JSON, 400, "eventType"),
        ("/query?format=otlp&eventType=event", JSON, 400, "eventType"),
        ("/query?format=xml", JSON, 400, "format"),
        ("/query/1?format=otlp&limit=1", JSON, 400, "limit"),
        (&*format!("{trace}?format=OTLP"), JSON, 400, "format"),
        (
            &*format!("{trace}?format=otlp&format=otlp"),
            JSON,
            400,
            "format",
        ),
        (&*format!("{trace}?format=otlp"), "text/html", 406, ""),
    ] {
        let answer = get(&service, path, accept).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        let named = answer.json()["parameter"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(named, parameter, "{path}");
    }
    let none = get(&service, "/traces/none?format=otlp", JSON).await;
    assert_eq!(none.json(), json!({"resourceSpans": []}));
    assert!(
        get(&service, "/traces/none", PROTOBUF)
            .await
            .body
            .is_empty()
    );
}
