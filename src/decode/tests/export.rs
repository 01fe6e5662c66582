//! What is exported is what came in, in either encoding of both.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::generate::{request, to_json};
use super::same;
use super::*;
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

/// OTLP's JSON read as a client's, by way of a second export.
fn reread(json: &[u8]) -> Vec<u8> {
    let (_, rows) = decode(json, &source(Signal::Span, Encoding::Json)).expect("OTLP's JSON");
    exported(&rows, Signal::Span, Form::Protobuf)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exported_spans_are_what_came_in(request in request()) {
        let bodies = [
            (Encoding::Protobuf, request.encode_to_vec()),
            (Encoding::Json, to_json(&request).to_string().into_bytes()),
        ];
        let sent = same::spans(request);
        for (encoding, body) in bodies {
            // All of it may be invalid.
            let Ok((_, rows)) = decode(&body, &source(Signal::Span, encoding)) else {
                prop_assert!(sent.is_empty());
                continue;
            };
            let protobuf = exported(&rows, Signal::Span, Form::Protobuf);
            let back = ExportTraceServiceRequest::decode(&*protobuf).expect("protobuf");
            prop_assert_eq!(same::spans(back), sent.clone());
            let json = exported(&rows, Signal::Span, Form::Json);
            prop_assert_eq!(reread(&json), protobuf);
        }
    }
}
