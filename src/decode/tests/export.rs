//! Tests that an export equals the request, in either encoding of both.

use opentelemetry_proto::tonic::metrics::v1::{MetricsData, metric};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use crate::decode::export::{AddOutcome, Export, ExportEncoding, signal};
use crate::decode::tests::{generate, generate_logs, generate_metrics, same, *};

/// Returns an event in the form of `/query`.
fn answered(event: &Event<'_>, rows: &Rows) -> String {
    let resource = rows
        .resources
        .iter()
        .find(|resource| Some(resource.id) == event.resource_id)
        .expect("what is referred to was handed over");
    let mut members = json!({
        "id": 1,
        "correlationId": event.correlation_id,
        "integration": event.integration,
        "provider": event.provider,
        "eventType": event.event_type,
        "timestamp": event.timestamp_ms,
        "metadata": 0,
        "traceId": event.trace_id,
        "spanId": event.span_id,
        "createdAt": "2027-01-15T08:00:00Z",
        "resource": 0,
        "scope": 0,
    });
    let optional = [
        (
            "parentSpanId",
            event.parent_span_id.as_deref().map(Value::from),
        ),
        ("name", event.name.as_deref().map(Value::from)),
        (
            "timeUnixNano",
            event.time_unix_nano.map(|ns| ns.to_string().into()),
        ),
        ("durationNs", event.duration_ns.map(Value::from)),
        ("kind", event.kind.map(Value::from)),
        ("status", event.status.as_deref().map(Value::from)),
        (
            "flags",
            Some(event.flags.0.into()).filter(|_| !event.flags.is_empty()),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            members[name] = value;
        }
    }
    // The stored JSON is inserted as text, because serde_json's values would round its numbers.
    members
        .to_string()
        .replace(
            "\"metadata\":0",
            &format!("\"metadata\":{}", event.metadata),
        )
        .replace(
            "\"resource\":0",
            &format!("\"resource\":{}", resource.resource),
        )
        .replace("\"scope\":0", &format!("\"scope\":{}", resource.scope))
}

fn exported(rows: &Rows, of: Signal, form: ExportEncoding) -> Vec<u8> {
    let mut export = Export::new(of, usize::MAX);
    for event in &rows.events {
        let event = answered(event, rows);
        assert_eq!(signal(&event), Ok(Some(of)));
        assert_eq!(export.take(&event), Ok(AddOutcome::Yes));
    }
    export.finish(form).expect("stored events can be exported")
}

/// Asserts that the export, in both encodings, equals the request, sent in both encodings.
fn assert_lossless(
    signal: Signal,
    protobuf: Vec<u8>,
    json: &Value,
    form: fn(&[u8]) -> same::Form,
) -> Result<(), TestCaseError> {
    let sent = form(&protobuf);
    let bodies = [
        (Encoding::Protobuf, protobuf),
        (Encoding::Json, json.to_string().into_bytes()),
    ];
    for (encoding, body) in bodies {
        let Ok((_, rows)) = decode(&body, &source(signal, encoding)) else {
            prop_assert!(sent.is_empty(), "only what is all invalid is refused");
            continue;
        };
        let protobuf = exported(&rows, signal, ExportEncoding::Protobuf);
        prop_assert_eq!(form(&protobuf), sent.clone());
        // A client may send the exported JSON.
        let json = exported(&rows, signal, ExportEncoding::Json);
        let (_, again) = decode(&json, &source(signal, Encoding::Json)).expect("OTLP's JSON");
        prop_assert_eq!(exported(&again, signal, ExportEncoding::Protobuf), protobuf);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exported_spans_are_what_came_in(request in generate::request()) {
        let json = generate::to_json(&request);
        assert_lossless(Signal::Span, request.encode_to_vec(), &json, same::spans)?;
    }

    #[test]
    fn exported_log_records_are_what_came_in(request in generate_logs::request()) {
        let json = generate_logs::to_json(&request);
        assert_lossless(Signal::Log, request.encode_to_vec(), &json, same::logs)?;
    }

    #[test]
    fn exported_points_are_what_came_in(request in generate_metrics::request()) {
        let json = generate_metrics::to_json(&request);
        assert_lossless(Signal::Metric, request.encode_to_vec(), &json, same::metrics)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_that_was_changed_anyhow_never_panics(
        request in generate_metrics::request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\":,0$ea]"), 1..4),
    ) {
        let source = source(Signal::Metric, Encoding::Protobuf);
        let Ok((_, rows)) = decode(&request.encode_to_vec(), &source) else {
            return Ok(());
        };
        let mut export = Export::new(Signal::Metric, usize::MAX);
        for event in &rows.events {
            let mut event: Vec<char> = answered(event, &rows).chars().collect();
            for (at, change) in &changes {
                let at = at.index(event.len());
                event.splice(at..=at, change.chars());
            }
            let _ = export.take(&String::from_iter(event));
        }
        let _ = export.finish(ExportEncoding::Protobuf);
    }
}

/// Returns an event in the form of `/query`, with that type, status and metadata.
fn event(event_type: &str, status: &str, metadata: &str) -> String {
    format!(
        r#"{{"id":1,"eventType":"{event_type}","metadata":{metadata},"status":"{status}","resource":{{}},"scope":{{}}}}"#
    )
}

fn json_of(events: &[String]) -> Value {
    let first = events.first().expect("an event");
    let signal = signal(first).expect("an event").expect("of OTLP");
    let mut export = Export::new(signal, usize::MAX);
    for event in events {
        assert_eq!(export.take(event), Ok(AddOutcome::Yes));
    }
    let json = export.finish(ExportEncoding::Json).expect("it is written");
    serde_json::from_slice(&json).expect("JSON")
}

#[test]
fn json_is_written_as_the_specification_asks() {
    let metadata = r#"{"flags": 1, "links": [{"spanId": "00000000000000b1"}], "events": [{"name": "e", "timeUnixNano": "5"}],
        "status": {"message": "m"}, "attributes": {"i": 7, "$$k": 1.0, "b": {"$bytes": "AAE="}, "n": {"$double": "NaN"},
        "z": {"$double": "-0.0"}, "e": {"$empty": true}, "a": [true, "t"], "o": {"$$empty": {}}}, "endTimeUnixNano": "9"}"#;
    let spans = &json_of(&[event("span", "ERROR", metadata)])["resourceSpans"][0]["scopeSpans"][0];
    let pair = |key: &str, value: Value| json!({"key": key, "value": value});
    let inner = pair("$empty", json!({"kvlistValue": {"values": []}}));
    assert_eq!(
        spans["spans"][0],
        json!({
            "flags": 1,
            "links": [{"spanId": "00000000000000b1"}],
            "events": [{"name": "e", "timeUnixNano": "5"}],
            "status": {"message": "m", "code": 2},
            "attributes": [
                pair("i", json!({"intValue": "7"})),
                pair("$k", json!({"doubleValue": 1.0})),
                pair("b", json!({"bytesValue": "AAE="})),
                pair("n", json!({"doubleValue": "NaN"})),
                pair("z", json!({"doubleValue": -0.0})),
                pair("e", json!({})),
                pair("a", json!({"arrayValue": {"values": [{"boolValue": true}, {"stringValue": "t"}]}})),
                pair("o", json!({"kvlistValue": {"values": [inner]}})),
            ],
            "endTimeUnixNano": "9",
        })
    );
}

#[test]
fn points_of_one_metric_come_back_in_one_metric() {
    let point = |rest: &str| {
        event(
            "metric",
            "sum",
            &format!(r#"{{"name": "m", "unit": "s", {rest}}}"#),
        )
    };
    let json = json_of(&[
        point(r#""asInt": 3, "isMonotonic": true, "aggregationTemporality": 2"#),
        point(r#""asDouble": 0.5"#),
        point(r#""asInt": 4, "isMonotonic": true, "aggregationTemporality": 2"#),
    ]);
    let metrics = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    assert_eq!(
        *metrics,
        json!([
            {"name": "m", "unit": "s", "sum": {"dataPoints": [{"asDouble": 0.5}]}},
            {"name": "m", "unit": "s", "sum": {
                "isMonotonic": true, "aggregationTemporality": 2,
                "dataPoints": [{"asInt": "3"}, {"asInt": "4"}],
            }},
        ])
    );
}

#[test]
fn an_export_takes_one_event_and_as_many_more_as_there_is_room_for() {
    let event = event("log", "INFO", r#"{"body": "a body"}"#);
    let length = |taken: usize| {
        let mut export = Export::new(Signal::Log, usize::MAX);
        for _ in 0..taken {
            assert_eq!(export.take(&event), Ok(AddOutcome::Yes));
        }
        export
            .finish(ExportEncoding::Json)
            .expect("it is written")
            .len()
    };
    for room in [0, length(1), length(3), length(10)] {
        let mut export = Export::new(Signal::Log, room);
        let mut taken = 0;
        while export.take(&event) == Ok(AddOutcome::Yes) {
            taken += 1;
        }
        assert!(taken >= 1);
        assert!(
            taken == 1 || length(taken) <= room + length(1),
            "{taken} in {room}"
        );
        assert!(length(taken + 2) > room, "{taken} in {room}");
    }
}

/// A page of histograms was exported in protobuf without the numbers of the later ones: the limit of one item was
/// applied to the whole export.
#[test]
fn an_export_has_all_numbers_however_many_items_have_them() {
    let numbers = usize::try_from(Limits::default().nodes).expect("small") / 2;
    let counts = vec!["1"; numbers].join(", ");
    let event = event(
        "metric",
        "histogram",
        &format!(r#"{{"bucketCounts": [{counts}]}}"#),
    );
    let mut export = Export::new(Signal::Metric, usize::MAX);
    for _ in 0..3 {
        assert_eq!(export.take(&event), Ok(AddOutcome::Yes));
    }
    let protobuf = export
        .finish(ExportEncoding::Protobuf)
        .expect("it is written");
    let all = MetricsData::decode(&*protobuf).expect("OTLP");
    let metric = &all.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(metric::Data::Histogram(histogram)) = &metric.data else {
        panic!("a histogram");
    };
    let lengths: Vec<_> = histogram
        .data_points
        .iter()
        .map(|point| point.bucket_counts.len())
        .collect();
    assert_eq!(lengths, [numbers; 3]);
}

#[test]
fn a_row_that_was_changed_is_an_error() {
    let deep = format!(r#"{{"body": {}1{}}}"#, "[".repeat(300), "]".repeat(300));
    for event in [
        event("log", "", "[]"),
        event("log", "", r#"{"attributes": []}"#),
        event("log", "", r#"{"body": {"$bytes": "", "x": 1}}"#),
        event("log", "", &deep),
        event("span", "", r#"{"events": {}}"#),
        event("metric", "name", "{}"),
        event("metric", "metadata", "{}"),
        event("metric", "histogram", r#"{"sum": "much"}"#),
        "{".to_owned(),
    ] {
        let taken = match signal(&event) {
            Ok(signal) => Export::new(signal.expect("of OTLP"), usize::MAX).take(&event),
            Err(error) => Err(error),
        };
        assert!(taken.is_err(), "{event}");
    }
    // A number that JSON can hold but protobuf cannot.
    let mut export = Export::new(Signal::Log, usize::MAX);
    let event = event("log", "", r#"{"droppedAttributesCount": 99999999999}"#);
    assert_eq!(export.take(&event), Ok(AddOutcome::Yes));
    assert!(export.finish(ExportEncoding::Protobuf).is_err());
}
