//! Tests of native events: every rule of their fields and of the metadata.

use crate::decode::tests::*;
use crate::event::EventFlags;

fn json() -> Source {
    source(Signal::Event, Encoding::Json)
}

/// Returns an event with further members, which begin with a comma.
fn event(more: &str) -> String {
    format!(r#"{{"correlationId":"c","integration":"i","eventType":"e"{more}}}"#)
}

fn one(body: &str) -> Event<'static> {
    let (checked, rows) = decode(body.as_bytes(), &json()).expect(body);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one event")
}

/// Returns the field and the reason for which a single event is rejected.
fn refusal(body: &str) -> (String, String) {
    match decode(body.as_bytes(), &json()) {
        Err(DecodeError::Invalid(checked)) => {
            let first = &checked.rejections[0];
            (
                first.field.clone().unwrap_or_default(),
                first.reason.clone(),
            )
        }
        other => panic!("{body}: {other:?}"),
    }
}

fn malformed_at(body: &[u8]) -> Option<usize> {
    match decode(body, &json()) {
        Err(DecodeError::Malformed { offset, message }) => {
            assert!(message.len() < 200, "{message}");
            offset
        }
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(body)),
    }
}

#[test]
fn an_event_is_stored_as_it_is_given() {
    let event = one(
        r#"{"correlationId":"c-1","integration":"shop","provider":"stripe","eventType":"paid",
        "timestamp":1700000000000,"metadata":{"b":[1,true,null],"a":"é"},"traceId":"t","spanId":"s"}"#,
    );
    assert_eq!(event.correlation_id, "c-1");
    assert_eq!(event.integration, "shop");
    assert_eq!(event.provider.as_deref(), Some("stripe"));
    assert_eq!(event.event_type, "paid");
    assert_eq!(event.timestamp_ms, 1_700_000_000_000);
    assert_eq!(event.metadata, r#"{"a": "é", "b": [1, true, null]}"#);
    assert_eq!(event.trace_id.as_deref(), Some("t"));
    assert_eq!(event.span_id.as_deref(), Some("s"));
    assert_eq!(event.resource_id, None);
    assert!(event.flags.is_empty());
}

#[test]
fn what_is_not_json_is_refused_with_the_byte_offset() {
    let good = event("");
    let followed = format!("{good} x");
    for (body, offset) in [
        (&b""[..], 0),
        (b" \n", 2),
        (b"{", 1),
        (b"[", 1),
        (b"nonsense", 1),
        (followed.as_bytes(), good.len() + 1),
        (b"{\"correlationId\": NaN}", 18),
        (b"{\"correlationId\": \"\xff\"}", 19),
        (b"\xff\xfe{\0}\0", 0),
        (b"{\0}\0", 1),
        (b"\xef\xbb\xbf{}", 0),
        (b"[{}", 3),
    ] {
        let found = malformed_at(body);
        let is_word = body == b"nonsense";
        assert_eq!(found, Some(if is_word { 0 } else { offset }), "{body:?}");
    }
}

#[test]
fn an_empty_array_is_no_event_and_no_error() {
    let (checked, rows) = decode(b"[]", &json()).expect("empty");
    assert_eq!(checked, DecodeReport::default());
    assert!(rows.events.is_empty());
}

#[test]
fn a_nul_becomes_the_replacement_character_and_is_counted() {
    let body = event(r#","provider":"p\u0000","metadata":{"a\u0000b":"x\u0000y\u0000"}"#);
    let (checked, rows) = decode(body.as_bytes(), &json()).expect("accepted");
    assert_eq!(rows.events[0].provider.as_deref(), Some("p\u{fffd}"));
    assert_eq!(
        rows.events[0].metadata,
        "{\"a\u{fffd}b\": \"x\u{fffd}y\u{fffd}\"}"
    );
    assert_eq!(rows.events[0].flags, EventFlags::TEXT_REPAIRED);
    assert_eq!(checked.sanitized.nul, 3);
}

/// A batch of 500 events was refused whole because a client had cut one text in the middle of an emoji.
#[test]
fn half_of_a_surrogate_pair_becomes_one_replacement_character_flagged_and_counted() {
    let body = event(
        r#","provider":"p\ud83d","metadata":{"a\udc00b":"\ud83d\ude00 \ud83d","c":["\ud800\ud800"]}"#,
    );
    let (checked, rows) = decode(body.as_bytes(), &json()).expect("accepted");
    let event = &rows.events[0];
    assert_eq!(event.provider.as_deref(), Some("p\u{fffd}"));
    assert_eq!(
        event.metadata,
        "{\"c\": [\"\u{fffd}\u{fffd}\"], \"a\u{fffd}b\": \"\u{1f600} \u{fffd}\"}"
    );
    assert_eq!(event.flags, EventFlags::TEXT_REPAIRED);
    assert_eq!((checked.sanitized.utf8, checked.sanitized.nul), (4, 0));
    // Keys that are equal after the repair are one key.
    let body = crate::decode::tests::native::event(r#","metadata":{"\ud800":1,"\udfff":2}"#);
    assert_eq!(one(&body).metadata, "{\"\u{fffd}\": 2}");
}

/// Version 1 rejected the text that version 2 repairs, so a record of version 1 has it only if the client asked for
/// partial success.
#[test]
fn half_of_a_surrogate_pair_stays_a_rejection_in_a_record_of_version_1() {
    let source = Source {
        version: 1,
        partial: true,
        ..json()
    };
    for more in [
        r#","provider":"\ud800""#,
        r#","metadata":{"a":["\udc00"]}"#,
        r#","metadata":{"\ud800":1}"#,
    ] {
        let body = format!("[{},{}]", event(more), event(""));
        let (checked, rows) = decode(body.as_bytes(), &source).expect("accepted in part");
        assert_eq!((checked.accepted, checked.rejected), (1, 1), "{more}");
        assert!(rows.events[0].flags.is_empty());
    }
}

#[test]
fn depth_beyond_the_limit_is_refused_and_a_million_brackets_at_once() {
    let nested = |levels: usize| {
        event(&format!(
            r#","metadata":{{"a":{}{}}}"#,
            "[".repeat(levels - 2),
            "]".repeat(levels - 2)
        ))
    };
    one(&nested(32));
    assert_eq!(refusal(&nested(33)).0, "metadata");
    assert_eq!(
        malformed_at("[".repeat(1_000_000).as_bytes()),
        Some(1_000_000)
    );
    assert_eq!(
        malformed_at(r#"{"a":"#.repeat(200_000).as_bytes()),
        Some(1_000_000)
    );
}

#[test]
fn a_field_given_twice_is_refused_and_a_key_of_the_metadata_given_twice_counts_last() {
    for field in ["correlationId", "metadata", "timestamp", "provider"] {
        let body = event(&format!(r#","{field}":null,"{field}":null"#));
        assert_eq!(
            refusal(&body),
            (field.to_owned(), "is given twice".to_owned())
        );
    }
    assert_eq!(
        refusal(&event(r#","correlation\u0049d":"d""#)).0,
        "correlationId"
    );
    let event = one(&event(
        r#","metadata":{"a":1,"b":{"x":1,"x":2},"a":{"c":3},"\u0061":4}"#,
    ));
    assert_eq!(event.metadata, r#"{"a": 4, "b": {"x": 2}}"#);
}

#[test]
fn texts_are_required_or_optional_and_within_their_limits_in_characters() {
    for (field, limit, is_required) in [
        ("correlationId", 255, true),
        ("integration", 100, true),
        ("eventType", 50, true),
        ("provider", 100, false),
        ("traceId", 64, false),
        ("spanId", 32, false),
    ] {
        let body = |value: &str| {
            let others: String = ["correlationId", "integration", "eventType"]
                .iter()
                .filter(|other| **other != field)
                .map(|other| format!(r#""{other}":"x","#))
                .collect();
            format!(r#"{{{others}"{field}":{value}}}"#)
        };
        one(&body(&format!("\"{}\"", "é".repeat(limit))));
        one(&body(&format!("\"{}\"", r"\ud83d\ude00".repeat(limit))));
        for value in [
            "\"\"",
            "5",
            "{}",
            "[\"a\"]",
            "true",
            &format!("\"{}\"", "é".repeat(limit + 1)),
        ] {
            assert_eq!(refusal(&body(value)).0, field, "{value}");
        }
        if is_required {
            assert_eq!(refusal(&body("null")).0, field);
            assert_eq!(
                refusal(&body("1").replace(&format!(r#""{field}":1"#), r#""x":1"#)).0,
                field
            );
        } else {
            one(&body("null"));
        }
    }
}

#[test]
fn hex_ids_are_stored_in_lower_case_and_others_as_sent() {
    let upper = "ABCDEF0123456789";
    let event = one(&event(&format!(
        r#","traceId":"{upper}{upper}","spanId":"{upper}""#
    )));
    assert_eq!(
        event.trace_id.as_deref(),
        Some("abcdef0123456789abcdef0123456789")
    );
    assert_eq!(event.span_id.as_deref(), Some("abcdef0123456789"));
    let other = one(&crate::decode::tests::native::event(
        r#","traceId":"ABCDEF0123456789","spanId":"ABCDEF012345678G""#,
    ));
    assert_eq!(other.trace_id.as_deref(), Some("ABCDEF0123456789"));
    assert_eq!(other.span_id.as_deref(), Some("ABCDEF012345678G"));
}

#[test]
fn metadata_is_an_object_or_left_out() {
    assert_eq!(one(&event("")).metadata, "{}");
    assert_eq!(one(&event(r#","metadata":null"#)).metadata, "{}");
    assert_eq!(one(&event(r#","metadata":{}"#)).metadata, "{}");
    for metadata in ["[]", "1", "\"{}\"", "true"] {
        assert_eq!(
            refusal(&event(&format!(r#","metadata":{metadata}"#))).0,
            "metadata"
        );
    }
}

#[test]
fn a_time_is_milliseconds_or_rfc_3339_or_the_receive_time() {
    let time = |value: &str| one(&event(&format!(r#","timestamp":{value}"#))).timestamp_ms;
    assert_eq!(time("1700000000000.7"), 1_700_000_000_000);
    assert_eq!(time("\"2023-11-14T23:13:20+01:00\""), 1_700_000_000_000);
    assert_eq!(time("null"), NOW_MS);
    assert_eq!(one(&event("")).timestamp_ms, NOW_MS);
    for value in [
        "-1",
        "\"2026-02-30T00:00:00Z\"",
        "1700000000",
        "1.7e18",
        "1800086400001",
        "true",
        "[]",
    ] {
        assert_eq!(
            refusal(&event(&format!(r#","timestamp":{value}"#))).0,
            "timestamp",
            "{value}"
        );
    }
    let (_, reason) = refusal(&event(r#","timestamp":1700000000"#));
    assert!(reason.contains("looks like seconds"), "{reason}");
    let (_, reason) = refusal(&event(r#","timestamp":1700000000000000"#));
    assert!(reason.contains("looks like µs or ns"), "{reason}");
}

#[test]
fn numbers_are_kept_exactly_and_refused_beyond_400_digits() {
    let event_of = |number: &str| event(&format!(r#","metadata":{{"n":{number}}}"#));
    for (number, stored) in [
        ("9223372036854775808", "9223372036854775808"),
        (
            "-123456789012345678901234567890",
            "-123456789012345678901234567890",
        ),
        ("0.1000", "0.1000"),
        ("1e2", "100"),
        ("-0", "0"),
    ] {
        assert_eq!(
            one(&event_of(number)).metadata,
            format!(r#"{{"n": {stored}}}"#)
        );
    }
    for number in ["1e400", "1e131071", &"9".repeat(401)] {
        assert_eq!(refusal(&event_of(number)).0, "metadata");
    }
}

/// A body of 64 MiB could make rows of 4 GB: six bytes can have 400 plain digits.
#[test]
fn very_many_numbers_of_very_many_digits_do_not_multiply() {
    let numbers = vec!["1e399"; 99_000].join(",");
    let event = event(&format!(r#","metadata":{{"n":[{numbers}]}}"#));
    let source = Source {
        partial: true,
        ..json()
    };
    let body = format!("[{}]", vec![event; 5].join(","));
    let checked = check(body.as_bytes(), &source).expect("some are accepted");
    assert_eq!((checked.accepted, checked.rejected), (3, 2));
    assert_eq!(checked.rejections[0].field.as_deref(), Some("metadata"));
}

#[test]
fn odd_values_are_data() {
    let event = one(&event(
        r#","metadata":{"__proto__":{"a":1},"ansi":"\u001b[31m","lines":"a\r\nb"}"#,
    ));
    assert_eq!(
        event.metadata,
        r#"{"ansi": "\u001b[31m", "lines": "a\r\nb", "__proto__": {"a": 1}}"#
    );
}
