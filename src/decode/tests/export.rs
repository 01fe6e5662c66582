//! What is exported is what came in, in either encoding of both.

use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use super::{generate, generate_logs, generate_metrics, same};
use crate::decode::export::{Export, Form, Taken, signal};

/// An event as `/query` answers it.
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
    // As it is stored, which serde_json's values would round.
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

fn exported(rows: &Rows, of: Signal, form: Form) -> Vec<u8> {
    let mut export = Export::new(of, usize::MAX);
    for event in &rows.events {
        let event = answered(event, rows);
        assert_eq!(signal(&event), Ok(Some(of)));
        assert_eq!(export.take(&event), Ok(Taken::Yes));
    }
    export.finish(form).expect("what was stored is written")
}

/// Holds what is exported, in both forms, against what was sent, in both encodings.
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
        let protobuf = exported(&rows, signal, Form::Protobuf);
        prop_assert_eq!(form(&protobuf), sent.clone());
        // OTLP's JSON is what a client may send.
        let json = exported(&rows, signal, Form::Json);
        let (_, again) = decode(&json, &source(signal, Encoding::Json)).expect("OTLP's JSON");
        prop_assert_eq!(exported(&again, signal, Form::Protobuf), protobuf);
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
