//! Tests of log records: the protocol's requirements, and bad inputs.

use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;

use crate::decode::tests::log_records::{
    START_I64, json, metadata, one, protobuf, record, request, rows,
};
use crate::decode::tests::spans::{self, START, around, field, text, value};
use crate::decode::tests::*;
use crate::event::EventFlags;

const NOW: i64 = NOW_MS * 1_000_000;

#[test]
fn g4_unknown_fields_are_ignored_the_reserved_one_too() {
    let unknown = [field(4, b"\xff"), vec![0x20, 1], vec![0xf8, 0x07, 1]].concat();
    let inner = [&unknown, &record().encode_to_vec()[..], &unknown].concat();
    let (_, rows) = decode(&around(&inner), &protobuf()).expect("accepted");
    assert_eq!(rows.events[0].metadata, r#"{"body": "hello"}"#);
    assert_eq!(rows.events[0].time_unix_nano, Some(START_I64));
}

#[test]
fn g6_string_references_are_as_if_absent_and_counted() {
    let attribute = [field(1, b"k"), field(2, &[0x40, 1]), vec![0x18, 1]].concat();
    let message = [field(6, &attribute), field(5, &[0x40, 1])].concat();
    let (checked, rows) = decode(&around(&message), &protobuf()).expect("accepted");
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
    // If only one of the two ids is given, it is kept.
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
        (START, 0, Some(START), START_I64, EventFlags::default()),
        (START, seen, Some(START), START_I64, EventFlags::default()),
        (
            0,
            seen,
            Some(seen),
            seen.cast_signed(),
            EventFlags::default(),
        ),
        (0, 0, None, NOW, EventFlags::TIME_REPLACED),
        (far, seen, Some(far), NOW, EventFlags::TIME_REPLACED),
        (u64::MAX, seen, None, NOW, EventFlags::TIME_REPLACED),
        (0, u64::MAX, None, NOW, EventFlags::TIME_REPLACED),
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
    let (checked, rows) = decode(&around(b""), &protobuf()).expect("accepted");
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
    assert_eq!(event.flags, EventFlags::TEXT_REPAIRED);
    assert_eq!(event.name.as_deref(), Some("\u{fffd}"));
    assert_eq!(metadata(&event)["body"], "a\u{fffd}b");
    let bad = around(&field(5, &field(1, b"\xff")));
    let (_, rows) = decode(&bad, &protobuf()).expect("accepted");
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
        let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
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
        let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
        assert_eq!(rows.events[0].kind, Some(number), "{name}");
    }
}

#[test]
fn another_signals_body_is_refused_with_the_reason() {
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
    // If a signal's own list is present, another signal's is an unknown key like any other.
    let both = br#"{"resourceSpans":[{}],"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    let (checked, _) = decode(both, &json()).expect("accepted");
    assert_eq!(checked.accepted, 1);
}

/// An 8 MiB body with records of two bytes made a gigabyte of rows.
#[test]
fn no_more_records_of_a_request_are_accepted_than_their_rows_fit_into_memory() {
    struct Count(u32);
    impl Sink for Count {
        fn resource(&mut self, _: Resource) {}

        fn event(&mut self, _: &Event<'_>, _: &EventMetadata<'_>) {
            self.0 += 1;
        }
    }
    let body = field(1, &field(2, &field(2, b"").repeat(500_003)));
    let checked = check(&body, &protobuf()).expect("accepted");
    assert_eq!((checked.accepted, checked.rejected), (500_000, 3));
    assert_eq!(checked.rejections[0].index, 500_000);
    let position = Position {
        stream: StreamId([7; 16]),
        n: 1,
    };
    let mut count = Count(0);
    let again = events(&body, &protobuf(), position, &mut count).expect("accepted");
    assert_eq!((again, count.0), (checked, 500_000));
}
