//! Tests of log records: the mapping to rows, and back.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::decode::tests::spans::{START, pair, text, value};
use crate::decode::tests::{generate_logs, *};
use crate::event::EventFlags;

pub(super) const START_I64: i64 = START.cast_signed();

pub(super) fn protobuf() -> Source {
    source(Signal::Log, Encoding::Protobuf)
}

pub(super) fn json() -> Source {
    source(Signal::Log, Encoding::Json)
}

pub(super) fn record() -> LogRecord {
    LogRecord {
        time_unix_nano: START,
        severity_number: 9,
        body: Some(text("hello")),
        ..LogRecord::default()
    }
}

pub(super) fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let resource = ProtoResource {
        attributes: vec![
            pair("service.name", text("shop")),
            pair("cloud.provider", text("aws")),
        ],
        ..ProtoResource::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

pub(super) fn rows(records: Vec<LogRecord>) -> (DecodeReport, Rows) {
    decode(&request(records).encode_to_vec(), &protobuf()).expect("accepted")
}

pub(super) fn one(record: LogRecord) -> Event<'static> {
    let (checked, rows) = rows(vec![record]);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one row")
}

pub(super) fn metadata(event: &Event<'_>) -> Value {
    serde_json::from_str(&event.metadata).expect("valid JSON")
}

#[test]
fn a_log_record_fills_the_columns() {
    let event = one(LogRecord {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        event_name: "order.paid".to_owned(),
        ..record()
    });
    assert_eq!(event.correlation_id, "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(event.trace_id.as_deref(), Some(&*event.correlation_id));
    assert_eq!(event.span_id.as_deref(), Some("0102030405060708"));
    assert_eq!(event.integration, "shop");
    assert_eq!(event.provider.as_deref(), Some("aws"));
    assert_eq!(event.event_type, "log");
    assert_eq!(event.name.as_deref(), Some("order.paid"));
    assert_eq!(event.timestamp_ms, 1_799_999_999_123);
    assert_eq!(event.time_unix_nano, Some(START_I64));
    assert_eq!(event.kind, Some(9));
    assert_eq!(event.status.as_deref(), Some("INFO"));
    assert_eq!((event.duration_ns, &event.parent_span_id), (None, &None));
    assert_eq!(event.metadata, r#"{"body": "hello"}"#);
    assert!(event.flags.is_empty());
}

#[test]
fn metadata_holds_what_has_no_column_under_protobufs_json_names() {
    let event = one(LogRecord {
        observed_time_unix_nano: START + 1,
        severity_text: "Information".to_owned(),
        attributes: vec![pair("a", value(Any::IntValue(1)))],
        dropped_attributes_count: 2,
        flags: 0x8000_0001,
        ..record()
    });
    assert_eq!(
        event.metadata,
        format!(
            "{{\"body\": \"hello\", \"flags\": 2147483649, \"attributes\": {{\"a\": 1}}, \
             \"severityText\": \"Information\", \"observedTimeUnixNano\": \"{}\", \
             \"droppedAttributesCount\": 2}}",
            START + 1
        )
    );
}

#[test]
fn the_status_is_the_short_name_of_the_severitys_range() {
    for (number, name) in [
        (1, "TRACE"),
        (4, "TRACE"),
        (5, "DEBUG"),
        (9, "INFO"),
        (16, "WARN"),
        (17, "ERROR"),
        (20, "ERROR"),
        (21, "FATAL"),
        (24, "FATAL"),
    ] {
        let event = one(LogRecord {
            severity_number: number,
            ..record()
        });
        assert_eq!(event.status.as_deref(), Some(name), "{number}");
    }
    for number in [0, -1, 25, i32::MIN] {
        let event = one(LogRecord {
            severity_number: number,
            ..record()
        });
        assert_eq!((event.kind, event.status), (Some(number), None));
    }
}

#[test]
fn an_absent_body_an_empty_value_and_an_empty_string_differ() {
    for (body, expected) in [
        (None, "{}"),
        (Some(AnyValue::default()), r#"{"body": {"$empty": true}}"#),
        (Some(text("")), r#"{"body": ""}"#),
        (
            Some(value(Any::ArrayValue(ArrayValue::default()))),
            r#"{"body": []}"#,
        ),
        (
            Some(value(Any::KvlistValue(KeyValueList {
                values: vec![pair("k", value(Any::BytesValue(vec![0xff])))],
            }))),
            r#"{"body": {"k": {"$bytes": "/w=="}}}"#,
        ),
    ] {
        assert_eq!(one(LogRecord { body, ..record() }).metadata, expected);
    }
    for (body, expected) in [
        ("null", "{}"),
        ("{}", r#"{"body": {"$empty": true}}"#),
        (r#"{"stringValue":null}"#, r#"{"body": {"$empty": true}}"#),
        (r#"{"stringValue":""}"#, r#"{"body": ""}"#),
        (r#"{"kvlistValue":{}}"#, r#"{"body": {}}"#),
    ] {
        let body = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{START}","body":{body}}}]}}]}}]}}"#
        );
        let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
        assert_eq!(rows.events[0].metadata, expected, "{body}");
    }
}

#[test]
fn limits_cut_attributes_and_never_the_body() {
    let mut source = protobuf();
    source.limits.value_bytes = 3;
    let long = LogRecord {
        body: Some(value(Any::ArrayValue(ArrayValue {
            values: vec![text("a long line")],
        }))),
        ..record()
    };
    let (checked, whole) =
        decode(&request(vec![long.clone()]).encode_to_vec(), &source).expect("accepted");
    assert_eq!(whole.events[0].metadata, r#"{"body": ["a long line"]}"#);
    assert_eq!(checked.sanitized.cut, 0);
    assert!(whole.events[0].flags.is_empty());

    let cut = LogRecord {
        attributes: vec![pair("a", text("abcd"))],
        ..long
    };
    let (checked, cut) = decode(&request(vec![cut]).encode_to_vec(), &source).expect("accepted");
    assert_eq!(
        cut.events[0].metadata,
        r#"{"body": ["a long line"], "attributes": {"a": "abc"}}"#
    );
    assert_eq!(checked.sanitized.cut, 1);
    assert_eq!(cut.events[0].flags, EventFlags::CUT);
}

#[test]
fn a_long_event_name_is_cut_in_the_column_and_whole_in_metadata() {
    let name = "é".repeat(256);
    let event = one(LogRecord {
        event_name: name.clone(),
        ..record()
    });
    assert_eq!(event.name.as_deref(), Some("é".repeat(255)).as_deref());
    assert_eq!(metadata(&event)["eventName"], *name);
    let event = one(LogRecord {
        event_name: "é".repeat(255),
        ..record()
    });
    assert_eq!(event.metadata, r#"{"body": "hello"}"#);
    assert_eq!(one(record()).name, None);
}

#[test]
fn the_correlation_id_is_the_attribute_else_the_trace_else_one_of_its_own() {
    let named = LogRecord {
        attributes: vec![pair("correlation.id", text("order-7"))],
        trace_id: vec![1; 16],
        ..record()
    };
    let event = one(named);
    assert_eq!(event.correlation_id, "order-7");
    assert_eq!(event.trace_id.as_deref(), Some(&*"01".repeat(16)));

    let body = request(vec![record(), record()]).encode_to_vec();
    let ids = |stream: u8, n: u64| {
        let mut rows = Rows::default();
        let position = Position {
            stream: StreamId([stream; 16]),
            n,
        };
        events(&body, &protobuf(), position, &mut rows).expect("accepted");
        assert!(rows.events.iter().all(|event| event.trace_id.is_none()));
        rows.events
            .into_iter()
            .map(|event| event.correlation_id.into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(7, 1), ids(7, 1), "decoding again gives the same");
    let all: BTreeSet<_> = [ids(7, 1), ids(7, 2), ids(8, 1)]
        .concat()
        .into_iter()
        .collect();
    assert_eq!(all.len(), 6, "no two records share one");
    for id in all {
        assert!(
            id.len() == 32
                && id
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        );
    }
}

/// Returns the scalar fields of the record that a row was made of, by the documented rules of the mapping.
fn record_of(event: &Event<'_>) -> LogRecord {
    // Values stay raw, because serde_json finds the largest double in plain digits out of range.
    let metadata: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(&event.metadata).expect("valid JSON");
    let text = |key: &str| {
        let text = metadata.get(key)?;
        Some(serde_json::from_str::<String>(text.get()).expect("a text"))
    };
    let time = |key: &str| text(key).map(|time| time.parse().expect("a time"));
    let number = |key: &str| {
        metadata
            .get(key)
            .map_or(0, |n| n.get().parse().expect("32 bits"))
    };
    let id = |hex: &Option<Cow<'_, str>>| {
        let hex = hex.as_deref().unwrap_or_default();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    LogRecord {
        time_unix_nano: time("timeUnixNano")
            .unwrap_or_else(|| event.time_unix_nano.unwrap_or(0).cast_unsigned()),
        observed_time_unix_nano: time("observedTimeUnixNano").unwrap_or(0),
        severity_number: event.kind.expect("always given"),
        severity_text: text("severityText").unwrap_or_default(),
        event_name: text("eventName")
            .or(event.name.as_deref().map(str::to_owned))
            .unwrap_or_default(),
        dropped_attributes_count: number("droppedAttributesCount"),
        flags: number("flags"),
        trace_id: id(&event.trace_id),
        span_id: id(&event.span_id),
        body: metadata.get("body").map(|_| AnyValue::default()),
        attributes: Vec::<KeyValue>::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_gives_back_the_fields_of_its_record(record in generate_logs::log_record()) {
        let event = one(record.clone());
        let is_id = |id: &[u8], len| id.len() == len && id.iter().any(|byte| *byte != 0);
        let clean = |text: String| text.replace('\0', "\u{fffd}");
        let expected = LogRecord {
            body: record.body.map(|_| AnyValue::default()),
            attributes: vec![],
            severity_text: clean(record.severity_text),
            event_name: clean(record.event_name),
            trace_id: if is_id(&record.trace_id, 16) { record.trace_id } else { vec![] },
            span_id: if is_id(&record.span_id, 8) { record.span_id } else { vec![] },
            ..record
        };
        prop_assert_eq!(record_of(&event), expected);
    }
}
