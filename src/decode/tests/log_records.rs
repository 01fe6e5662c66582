//! Log records: the mapping to rows, what the protocol asks of a receiver, and bad inputs.

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

use super::generate_logs;
use super::spans::{self, START, around, field, pair, text, value};
use super::*;
use crate::event::Flags;

const START_I64: i64 = START.cast_signed();
const NOW: i64 = NOW_MS * 1_000_000;

fn protobuf() -> Source {
    source(Signal::Log, Encoding::Protobuf)
}

fn json() -> Source {
    source(Signal::Log, Encoding::Json)
}

fn record() -> LogRecord {
    LogRecord {
        time_unix_nano: START,
        severity_number: 9,
        body: Some(text("hello")),
        ..LogRecord::default()
    }
}

fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
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

fn rows(records: Vec<LogRecord>) -> (Checked, Rows) {
    decode(&request(records).encode_to_vec(), &protobuf()).expect("taken")
}

fn one(record: LogRecord) -> Event<'static> {
    let (checked, rows) = rows(vec![record]);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one row")
}

fn metadata(event: &Event<'_>) -> Value {
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
fn an_absent_body_an_empty_value_and_an_empty_string_are_told_apart() {
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
        let (_, rows) = decode(body.as_bytes(), &json()).expect("taken");
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
        decode(&request(vec![long.clone()]).encode_to_vec(), &source).expect("taken");
    assert_eq!(whole.events[0].metadata, r#"{"body": ["a long line"]}"#);
    assert_eq!(checked.sanitized.cut, 0);
    assert!(whole.events[0].flags.is_empty());

    let cut = LogRecord {
        attributes: vec![pair("a", text("abcd"))],
        ..long
    };
    let (checked, cut) = decode(&request(vec![cut]).encode_to_vec(), &source).expect("taken");
    assert_eq!(
        cut.events[0].metadata,
        r#"{"body": ["a long line"], "attributes": {"a": "abc"}}"#
    );
    assert_eq!(checked.sanitized.cut, 1);
    assert_eq!(cut.events[0].flags, Flags::CUT);
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
        events(&body, &protobuf(), position, &mut rows).expect("taken");
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

#[test]
fn g6_string_references_are_as_if_absent_and_counted() {
    let attribute = [field(1, b"k"), field(2, &[0x40, 1]), vec![0x18, 1]].concat();
    let message = [field(6, &attribute), field(5, &[0x40, 1])].concat();
    let (checked, rows) = decode(&around(&message), &protobuf()).expect("taken");
    assert_eq!(checked.sanitized.string_reference, 3);
    assert_eq!(
        rows.events[0].metadata,
        r#"{"body": {"$empty": true}, "attributes": {"k": {"$empty": true}}}"#
    );
}

#[test]
fn g8_a_record_without_a_valid_id_is_kept_and_has_none() {
    for (trace_id, span_id) in [
        (vec![], vec![]),
        (vec![0; 16], vec![0; 8]),
        (vec![1; 15], vec![1; 9]),
        (vec![1; 17], vec![1; 16]),
    ] {
        let event = one(LogRecord {
            trace_id,
            span_id,
            ..record()
        });
        assert_eq!((event.trace_id, event.span_id), (None, None));
    }
    // One of the two is enough to keep that one.
    let event = one(LogRecord {
        span_id: vec![2; 8],
        ..record()
    });
    assert_eq!(
        (event.trace_id, event.span_id.as_deref()),
        (None, Some("0202020202020202"))
    );
}

#[test]
fn g12_the_time_is_when_it_happened_else_when_it_was_seen_else_receipt() {
    let seen = START + 5_000_000;
    let far = (NOW + 90_000_000_000_000).cast_unsigned();
    for (occurred, observed, column, timestamp_ns, flags) in [
        (START, 0, Some(START), START_I64, Flags::default()),
        (START, seen, Some(START), START_I64, Flags::default()),
        (0, seen, Some(seen), seen.cast_signed(), Flags::default()),
        (0, 0, None, NOW, Flags::TIME_REPLACED),
        (far, seen, Some(far), NOW, Flags::TIME_REPLACED),
        (u64::MAX, seen, None, NOW, Flags::TIME_REPLACED),
        (0, u64::MAX, None, NOW, Flags::TIME_REPLACED),
    ] {
        let (checked, rows) = rows(vec![LogRecord {
            time_unix_nano: occurred,
            observed_time_unix_nano: observed,
            ..record()
        }]);
        let event = &rows.events[0];
        let case = format!("{occurred} {observed}");
        let column = column.map(u64::cast_signed);
        assert_eq!(event.time_unix_nano, column, "{case}");
        assert_eq!(event.timestamp_ms, timestamp_ns / 1_000_000, "{case}");
        assert_eq!(event.flags, flags, "{case}");
        assert_eq!(
            checked.sanitized.time,
            u32::from(!flags.is_empty()),
            "{case}"
        );
        assert_eq!(checked.latest_unix_nano, column, "{case}");
    }
}

#[test]
fn an_empty_record_is_a_record() {
    let (checked, rows) = decode(&around(b""), &protobuf()).expect("taken");
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    let event = &rows.events[0];
    assert_eq!(event.metadata, "{}");
    assert_eq!(event.integration, "unknown_service");
    assert_eq!(
        (event.kind, &event.status, &event.name),
        (Some(0), &None, &None)
    );
    assert_eq!(event.timestamp_ms, NOW_MS);
}

#[test]
fn a_body_nested_too_deep_rejects_its_record_alone() {
    let nested = |levels: usize| {
        (1..levels).fold(text("x"), |inner, _| {
            value(Any::ArrayValue(ArrayValue {
                values: vec![inner],
            }))
        })
    };
    let with = |levels| LogRecord {
        body: Some(nested(levels)),
        ..record()
    };
    let (checked, rows) = rows(vec![with(24), with(25), record()]);
    assert_eq!((checked.accepted, checked.rejected), (2, 1));
    assert_eq!(checked.rejections[0].index, 1);
    assert_eq!(rows.events.len(), 2);
}

#[test]
fn sanitised_text_is_flagged() {
    let event = one(LogRecord {
        body: Some(text("a\0b")),
        severity_text: "\0".to_owned(),
        event_name: "\0".to_owned(),
        ..record()
    });
    assert_eq!(event.flags, Flags::TEXT_REPAIRED);
    assert_eq!(event.name.as_deref(), Some("\u{fffd}"));
    assert_eq!(metadata(&event)["body"], "a\u{fffd}b");
    let bad = around(&field(5, &field(1, b"\xff")));
    let (_, rows) = decode(&bad, &protobuf()).expect("taken");
    assert_eq!(rows.events[0].metadata, r#"{"body": "?"}"#);
}

#[test]
fn j1_j2_j3_j4_ids_enums_names_and_numbers_are_read_as_in_every_json() {
    for body in [
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1799999999123456789",
            "observedTimeUnixNano":1799999999123456790,"severityNumber":"SEVERITY_NUMBER_ERROR2","traceId":"0A0B0C0D0E0F0102030405060708090A",
            "spanId":"0A0B0C0D0E0F0102","flags":"1","eventName":"e"}]}]}]}"#,
        r#"{"resource_logs":[{"scope_logs":[{"log_records":[{"time_unix_nano":"1799999999123456789",
            "observed_time_unix_nano":"1799999999123456790","severity_number":18,"trace_id":"0a0b0c0d0e0f0102030405060708090a",
            "span_id":"0a0b0c0d0e0f0102","flags":1,"event_name":"e"}]}]}]}"#,
    ] {
        let (_, rows) = decode(body.as_bytes(), &json()).expect("taken");
        let event = &rows.events[0];
        assert_eq!(event.time_unix_nano, Some(START_I64));
        assert_eq!(
            (event.kind, event.status.as_deref()),
            (Some(18), Some("ERROR"))
        );
        assert_eq!(
            event.trace_id.as_deref(),
            Some("0a0b0c0d0e0f0102030405060708090a")
        );
        assert_eq!(event.span_id.as_deref(), Some("0a0b0c0d0e0f0102"));
        assert_eq!(event.name.as_deref(), Some("e"));
        assert_eq!(
            event.metadata,
            r#"{"flags": 1, "observedTimeUnixNano": "1799999999123456790"}"#
        );
    }
    for (name, number) in [
        ("SEVERITY_NUMBER_UNSPECIFIED", 0),
        ("SEVERITY_NUMBER_TRACE", 1),
        ("SEVERITY_NUMBER_DEBUG4", 8),
        ("SEVERITY_NUMBER_FATAL4", 24),
    ] {
        let body = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"severityNumber":"{name}"}}]}}]}}]}}"#
        );
        let (_, rows) = decode(body.as_bytes(), &json()).expect("taken");
        assert_eq!(rows.events[0].kind, Some(number), "{name}");
    }
}

#[test]
fn another_signals_body_is_refused_and_it_is_said_why() {
    let spans_json = br#"{"x":1,"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}"#;
    let logs_json = br#"{"resource_logs":[{}]}"#;
    for (body, source, says) in [
        (
            spans::request(vec![spans::span()]).encode_to_vec(),
            protobuf(),
            "another signal's message",
        ),
        (
            request(vec![record()]).encode_to_vec(),
            spans::protobuf(),
            "another signal's message",
        ),
        (spans_json.to_vec(), json(), "/v1/traces"),
        (
            logs_json.to_vec(),
            source(Signal::Span, Encoding::Json),
            "/v1/logs",
        ),
    ] {
        match decode(&body, &source) {
            Err(DecodeError::Malformed { message, .. }) => {
                assert!(message.contains(says), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Beside its own list another signal's is an unknown key like any other.
    let both = br#"{"resourceSpans":[{}],"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    let (checked, _) = decode(both, &json()).expect("taken");
    assert_eq!(checked.accepted, 1);
}

/// The scalar fields of the record that a row was made of, by the rules that the mapping states.
fn record_of(event: &Event<'_>) -> LogRecord {
    // Not as values: serde_json finds the largest double in plain digits out of range.
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
