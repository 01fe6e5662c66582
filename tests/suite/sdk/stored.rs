//! Comparison of what a program sent with the columns of the table and with the answers.
//!
//! **Invariant:** each item is stored once, with every column of the mapping, and nothing else is stored.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnection;

use super::Sent;
use crate::support::service::Service;

/// A row of the table.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    correlation_id: String,
    provider: Option<String>,
    timestamp: i64,
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_span_id: Option<String>,
    name: Option<String>,
    time_unix_nano: Option<i64>,
    duration_ns: Option<i64>,
    kind: Option<i32>,
    status: Option<String>,
    flags: Option<i16>,
    metadata: Value,
    resource: Value,
    scope: Value,
}

/// All rows of a kind that are not the SDK's own, in the order of their attribute `number`.
async fn rows(sql: &mut PgConnection, integration: &str, event_type: &str) -> Vec<Row> {
    sqlx::query_as(
        "SELECT correlation_id, provider, timestamp, trace_id, span_id, parent_span_id, name, time_unix_nano,
                duration_ns, kind, status, flags, metadata, resource, scope
         FROM telemetry_events e JOIN telemetry_resources r ON r.id = e.resource_id
         WHERE integration = $1 AND event_type = $2 AND scope ->> 'name' = 'contract'
         ORDER BY (metadata #>> '{attributes,number}')::int",
    )
    .bind(integration)
    .bind(event_type)
    .fetch_all(sql)
    .await
    .expect("the table can be read")
}

/// Each span once, with all its columns.
pub(super) async fn assert_spans(
    sql: &mut PgConnection,
    service: &Service,
    language: &str,
    sent: &Sent,
) {
    let integration = format!("sdk-{language}");
    let rows = rows(sql, &integration, "span").await;
    assert_eq!(rows.len(), sent.spans.len(), "{language}");
    for (number, (row, span)) in rows.iter().zip(&sent.spans).enumerate() {
        let shown = format!("{language}, span {number}: {row:?}");
        assert_eq!(row.trace_id.as_ref(), Some(&sent.trace_id), "{shown}");
        assert_eq!(row.span_id.as_ref(), Some(&span.span_id), "{shown}");
        let parent = (number > 0).then_some(&sent.spans[0].span_id);
        assert_eq!(row.parent_span_id.as_ref(), parent, "{shown}");
        assert_eq!(row.name.as_ref(), Some(&span.name), "{shown}");
        assert_eq!(row.kind, Some(span.kind), "{shown}");
        assert_eq!(row.status.as_ref(), Some(&span.status), "{shown}");
        assert_eq!(row.flags, None, "{shown}");
        let (correlation_id, provider) = match number {
            1 => ("order-4711", "postgresql"),
            _ => (sent.trace_id.as_str(), "aws"),
        };
        assert_eq!(row.correlation_id, correlation_id, "{shown}");
        assert_eq!(row.provider.as_deref(), Some(provider), "{shown}");
        let nanos = row.time_unix_nano.expect("a span has its time");
        assert_eq!(row.timestamp, nanos / 1_000_000, "{shown}");
        if let Some(start) = &span.start {
            assert_eq!(nanos.to_string(), *start, "{shown}");
        }
        assert!(row.duration_ns.is_some_and(|ns| ns >= 0), "{shown}");
        if span.duration.is_some() {
            assert_eq!(row.duration_ns, span.duration, "{shown}");
        }
        assert_eq!(
            row.metadata["attributes"],
            attributes(number, sent),
            "{shown}"
        );
        let message = (number % 5 == 1).then(|| json!("deadlock detected"));
        assert_eq!(
            row.metadata.pointer("/status/message"),
            message.as_ref(),
            "{shown}"
        );
        assert_origin(row, &integration);
    }
    assert_event_and_link(&rows, sent);
    assert_answers(service, &integration, sent).await;
}

/// The attributes of a span, by the contract.
fn attributes(number: usize, sent: &Sent) -> Value {
    let mut attributes = match number {
        0 => json!({
            "text": "Grüße \u{1F980}", "blank": "", "int": 9_007_199_254_740_991_i64, "double": 0.1, "yes": true,
            "texts": ["a", "b"], "ints": [1, -2], "doubles": [1.5, -0.5], "bools": [true, false],
        }),
        1 => json!({"correlation.id": "order-4711", "db.system.name": "postgresql"}),
        _ => Value::Object(Map::new()),
    };
    attributes["number"] = json!(number);
    if number == 0 && sent.has("long") {
        attributes["long"] = json!(i64::MIN);
    }
    attributes
}

fn assert_origin(row: &Row, integration: &str) {
    let resource = &row.resource["attributes"];
    assert_eq!(resource["service.name"], *integration, "{resource}");
    assert_eq!(resource["cloud.provider"], "aws", "{resource}");
    assert_eq!(row.scope["name"], "contract", "{}", row.scope);
    assert_eq!(row.scope["version"], "1.2.3", "{}", row.scope);
}

fn assert_event_and_link(rows: &[Row], sent: &Sent) {
    let events = &rows[0].metadata["events"];
    assert_eq!(events.as_array().map(Vec::len), Some(1), "{events}");
    assert_eq!(events[0]["name"], "received", "{events}");
    assert_eq!(events[0]["attributes"], json!({"items": 3}), "{events}");
    let links = &rows[1].metadata["links"];
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
    assert_eq!(links[0]["traceId"], sent.trace_id, "{links}");
    assert_eq!(links[0]["spanId"], sent.spans[0].span_id, "{links}");
    assert_eq!(
        links[0]["attributes"],
        json!({"why": "contract"}),
        "{links}"
    );
}

/// The trace by its id, the span by its correlation id, and all by the service's name.
async fn assert_answers(service: &Service, integration: &str, sent: &Sent) {
    let trace = array(service, &format!("/traces/{}", sent.trace_id)).await;
    let ids: HashSet<_> = trace
        .iter()
        .filter(|event| event["eventType"] == "span")
        .filter_map(|span| span["spanId"].as_str())
        .collect();
    let expected: HashSet<_> = sent.spans.iter().map(|span| &*span.span_id).collect();
    assert_eq!(ids, expected);
    let root = trace.iter().find(|event| event["name"] == "root");
    let root = root.expect("the root is in its trace");
    assert_eq!(root["resource"]["attributes"]["service.name"], *integration);
    assert_eq!(root["scope"]["name"], "contract");

    let by_id = array(service, "/query?correlationId=order-4711").await;
    assert_eq!(by_id.len(), 1, "{by_id:?}");
    assert_eq!(by_id[0]["spanId"], sent.spans[1].span_id);
    assert_eq!(by_id[0]["parentSpanId"], sent.spans[0].span_id);

    let path = format!("/query?integration={integration}&eventType=span&limit=1000");
    assert_eq!(array(service, &path).await.len(), sent.spans.len());
    let path =
        format!("/query?integration={integration}&attributes.text=Gr%C3%BC%C3%9Fe%20%F0%9F%A6%80");
    assert_eq!(array(service, &path).await.len(), 1);
}

/// Each log record once, with all its columns.
pub(super) async fn assert_logs(
    sql: &mut PgConnection,
    service: &Service,
    language: &str,
    sent: &Sent,
) {
    let integration = format!("sdk-{language}");
    let rows = rows(sql, &integration, "log").await;
    assert_eq!(rows.len(), sent.logs, "{language}");
    let severities = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    for (number, row) in rows.iter().enumerate() {
        let shown = format!("{language}, log record {number}: {row:?}");
        let of_trace = number % 2 == 0;
        let (trace_id, span_id) = (&sent.trace_id, &sent.spans[0].span_id);
        assert_eq!(
            row.trace_id.as_ref(),
            of_trace.then_some(trace_id),
            "{shown}"
        );
        assert_eq!(row.span_id.as_ref(), of_trace.then_some(span_id), "{shown}");
        assert_eq!(row.correlation_id == *trace_id, of_trace, "{shown}");
        assert_eq!(row.parent_span_id, None, "{shown}");
        let happened = number == 1 && sent.has("event name");
        let name = happened.then_some("contract.happened");
        assert_eq!(row.name.as_deref(), name, "{shown}");
        let severity = i32::try_from(number % 6).expect("under six");
        assert_eq!(row.kind, Some(severity * 4 + 1), "{shown}");
        let severity = severities[number % 6];
        assert_eq!(row.status.as_deref(), Some(severity), "{shown}");
        assert_eq!(row.metadata["severityText"], severity, "{shown}");
        assert_eq!(row.provider.as_deref(), Some("aws"), "{shown}");
        assert_eq!((row.flags, row.duration_ns), (None, None), "{shown}");
        let nanos = row.time_unix_nano.expect("a log record has its time");
        assert_eq!(row.timestamp, nanos / 1_000_000, "{shown}");
        let body = match number {
            2 if sent.has("map body") => json!({"text": "a", "n": 1, "list": [1, "b"]}),
            _ => json!(format!("log {number}")),
        };
        assert_eq!(row.metadata["body"], body, "{shown}");
        let attributes = json!({"number": number});
        assert_eq!(row.metadata["attributes"], attributes, "{shown}");
        assert_origin(row, &integration);
    }
    let ids: HashSet<_> = rows.iter().map(|row| &row.correlation_id).collect();
    assert_eq!(
        ids.len(),
        1 + sent.logs / 2,
        "{language}: each in no trace has an id of its own"
    );

    let path = format!("/query?integration={integration}&eventType=log&limit=1000");
    assert_eq!(array(service, &path).await.len(), sent.logs);
    let trace = array(service, &format!("/traces/{}", sent.trace_id)).await;
    let logs = trace.iter().filter(|event| event["eventType"] == "log");
    assert_eq!(logs.count(), sent.logs.div_ceil(2));
}

/// Each metric point once, with all its columns.
pub(super) async fn assert_points(
    sql: &mut PgConnection,
    service: &Service,
    language: &str,
    sent: &Sent,
) {
    let integration = format!("sdk-{language}");
    let rows = rows(sql, &integration, "metric").await;
    let mut by_name: HashMap<&str, Vec<&Row>> = HashMap::new();
    let mut series = HashSet::new();
    for row in &rows {
        let shown = format!("{language}, metric point: {row:?}");
        assert_eq!((&row.trace_id, &row.span_id), (&None, &None), "{shown}");
        assert_eq!((row.flags, row.duration_ns), (None, None), "{shown}");
        assert_eq!(row.provider.as_deref(), Some("aws"), "{shown}");
        let nanos = row.time_unix_nano.expect("a point has its time");
        assert_eq!(row.timestamp, nanos / 1_000_000, "{shown}");
        assert_eq!(row.correlation_id.len(), 32, "{shown}");
        assert!(series.insert(&row.correlation_id), "{shown}");
        assert_origin(row, &integration);
        let name = row.name.as_deref().expect("a metric has a name");
        by_name.entry(name).or_default().push(row);
    }
    let counts: HashMap<_, _> = by_name
        .iter()
        .map(|(name, rows)| ((*name).to_owned(), rows.len()))
        .collect();
    assert_eq!(counts, sent.points, "{language}");

    let values: HashSet<_> = by_name["contract.requests"]
        .iter()
        .map(|row| {
            assert_point(row, "sum", "{request}");
            assert_eq!(row.metadata["isMonotonic"], true, "{row:?}");
            let series = row.metadata["attributes"]["series"].as_u64();
            (series.expect("a number"), row.metadata["asInt"].as_u64())
        })
        .collect();
    let points = u64::try_from(sent.points["contract.requests"]).expect("few");
    assert_eq!(
        values,
        (0..points)
            .map(|series| (series, Some(series + 1)))
            .collect()
    );

    let in_flight = by_name["contract.in_flight"][0];
    assert_point(in_flight, "sum", "{request}");
    assert_eq!(in_flight.metadata["asInt"], -2);
    assert_eq!(in_flight.metadata.get("isMonotonic"), None);
    let temperature = by_name["contract.temperature"][0];
    assert_point(temperature, "gauge", "Cel");
    assert_eq!(temperature.metadata["asDouble"], 21.5);
    let latency = by_name["contract.latency"][0];
    assert_point(latency, "histogram", "ms");
    assert_distribution(latency, 111.5, [1.0, 100.5]);
    let size = by_name["contract.size"][0];
    let exponential = sent.has("exponential histogram");
    let data = ["histogram", "exponentialHistogram"][usize::from(exponential)];
    assert_point(size, data, "By");
    assert_distribution(size, 7.0, [1.0, 4.0]);

    let path =
        format!("/query?integration={integration}&name=contract.requests&attributes.series=7");
    assert_eq!(array(service, &path).await.len(), 1);
}

fn assert_point(row: &Row, data: &str, unit: &str) {
    let kinds = ["gauge", "sum", "histogram", "exponentialHistogram"]
        .iter()
        .zip([5, 7, 9, 10]);
    let kind = kinds
        .clone()
        .find(|(known, _)| **known == data)
        .map(|(_, kind)| kind);
    assert_eq!(row.kind, kind, "{row:?}");
    assert_eq!(row.status.as_deref(), Some(data), "{row:?}");
    assert_eq!(row.metadata["unit"], unit, "{row:?}");
    let temporality = (data != "gauge").then(|| json!(2));
    assert_eq!(
        row.metadata.get("aggregationTemporality"),
        temporality.as_ref(),
        "{row:?}"
    );
}

/// The last of three values.
fn assert_distribution(row: &Row, sum: f64, range: [f64; 2]) {
    let metadata = &row.metadata;
    assert_eq!(metadata["count"], 3, "{row:?}");
    assert_eq!(metadata["sum"], sum, "{row:?}");
    for (key, value) in ["min", "max"].iter().zip(range) {
        assert!(
            metadata.get(key).is_none_or(|known| *known == value),
            "{row:?}"
        );
    }
    let buckets = metadata
        .get("bucketCounts")
        .or(metadata.pointer("/positive/bucketCounts"));
    let buckets = buckets.and_then(Value::as_array).expect("buckets");
    let counted: Option<u64> = buckets.iter().map(Value::as_u64).sum();
    assert_eq!(counted, Some(3), "{row:?}");
}

async fn array(service: &Service, path: &str) -> Vec<Value> {
    match service.get(path).await.json() {
        Value::Array(events) => events,
        other => panic!("GET {path}: {other}"),
    }
}
