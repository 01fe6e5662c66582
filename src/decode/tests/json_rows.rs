//! Tests of the forms that OTLP's JSON may have.

use crate::decode::tests::*;

fn json() -> Source {
    source(Signal::Span, Encoding::Json)
}

/// Returns a request with one span that has further members, which begin with a comma.
fn request(more: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"C2B1F7A40D3E4F5896A7B8C9D0E1F2A3",
        "spanId":"d0e1f2a3b4c5d6e7","startTimeUnixNano":"1799999999000000000","endTimeUnixNano":"1799999999000000001"
        {more}}}]}}]}}]}}"#
    )
}

fn one(body: &str) -> Event<'static> {
    let (checked, rows) = decode(body.as_bytes(), &json()).expect(body);
    assert_eq!((checked.accepted, checked.rejected), (1, 0), "{body}");
    rows.events.into_iter().next().expect("one row")
}

/// Returns the stored attribute `a` of a span that is sent with this value.
fn value(json: &str) -> String {
    let event = one(&request(&format!(
        r#","attributes":[{{"key":"a","value":{json}}}]"#
    )));
    let start = r#"{"attributes": {"a": "#;
    let inner = event
        .metadata
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix("}}"));
    inner.expect("an attribute").to_owned()
}

/// Returns whether the body is JSON, and every item of it is rejected.
pub(super) fn is_rejected(body: &str) -> bool {
    matches!(
        decode(body.as_bytes(), &json()),
        Err(DecodeError::Invalid(_))
    )
}

fn is_malformed(body: &str) -> bool {
    match decode(body.as_bytes(), &json()) {
        Err(DecodeError::Malformed { offset, .. }) => offset.is_some_and(|at| at <= body.len()),
        _ => false,
    }
}

#[test]
fn j1_ids_are_hex_in_either_case() {
    let event = one(&request(r#","parentSpanId":"A1B2C3D4E5F60718""#));
    assert_eq!(
        event.trace_id.as_deref(),
        Some("c2b1f7a40d3e4f5896a7b8c9d0e1f2a3")
    );
    assert_eq!(event.span_id.as_deref(), Some("d0e1f2a3b4c5d6e7"));
    assert_eq!(event.parent_span_id.as_deref(), Some("a1b2c3d4e5f60718"));
    assert_eq!(one(&request(r#","parentSpanId":"""#)).parent_span_id, None);
    assert_eq!(
        one(&request(r#","parentSpanId":"not hex""#)).parent_span_id,
        None
    );
    // Base64, as a plain protobuf JSON library writes it, is not an id; the span is rejected alone.
    for id in [
        "W47/95gDgQPSabYzgT/GDA==",
        "5b8",
        "c2b1f7a40d3e4f5896a7b8c9d0e1f2a3ff",
    ] {
        let body = request("").replace("C2B1F7A40D3E4F5896A7B8C9D0E1F2A3", id);
        assert!(
            matches!(
                decode(body.as_bytes(), &json()),
                Err(DecodeError::Invalid(_))
            ),
            "{id}"
        );
    }
}

#[test]
fn j2_enums_are_numbers_or_names() {
    for kind in ["2", "\"2\"", "2.0", "\"SPAN_KIND_SERVER\""] {
        assert_eq!(
            one(&request(&format!(r#","kind":{kind}"#))).kind,
            Some(2),
            "{kind}"
        );
    }
    for code in ["2", "\"STATUS_CODE_ERROR\""] {
        let event = one(&request(&format!(r#","status":{{"code":{code}}}"#)));
        assert_eq!(event.status.as_deref(), Some("ERROR"));
    }
    assert_eq!(one(&request(r#","kind":99"#)).kind, Some(99));
    assert!(is_rejected(&request(r#","kind":"SPAN_KIND_OTHER""#)));
}

#[test]
fn j3_snake_case_is_accepted_camel_case_wins_and_strict_accepts_only_that() {
    let snake = r#"{"resource_spans":[{"schema_url":"u","scope_spans":[{"spans":[{"trace_id":"c2b1f7a40d3e4f5896a7b8c9d0e1f2a3",
        "span_id":"d0e1f2a3b4c5d6e7","start_time_unix_nano":1799999999000000000,"end_time_unix_nano":1799999999000000000,
        "attributes":[{"key":"a","value":{"array_value":{"values":[{"string_value":"x"}]}}}]}]}]}]}"#;
    assert_eq!(one(snake).metadata, r#"{"attributes": {"a": ["x"]}}"#);
    let mut strict = json();
    strict.limits.strict_json = true;
    assert_eq!(
        decode(snake.as_bytes(), &strict).expect("nothing known").0,
        DecodeReport {
            unknown_name: Some("resource_spans".to_owned()),
            ..DecodeReport::default()
        }
    );

    for more in [
        r#","traceState":"camel","trace_state":"snake""#,
        r#","trace_state":"snake","traceState":"camel""#,
    ] {
        assert_eq!(one(&request(more)).metadata, r#"{"traceState": "camel"}"#);
    }
    let camel = r#"{"scopeSpans":[]}"#;
    for body in [
        format!(
            r#"{{"resourceSpans":[{camel}],"resource_spans":[{{"scopeSpans":[{{"spans":[{{}}]}}]}}]}}"#
        ),
        format!(
            r#"{{"resource_spans":[{{"scopeSpans":[{{"spans":[{{}}]}}]}}],"resourceSpans":[{camel}]}}"#
        ),
    ] {
        assert_eq!(
            decode(body.as_bytes(), &json()).expect("camelCase wins").0,
            DecodeReport::default()
        );
    }
    assert_eq!(
        one(&request(r#","traceState":null,"trace_state":"snake""#)).metadata,
        r#"{"traceState": "snake"}"#
    );
}

#[test]
fn j3_of_lists_too_only_the_camel_case_one_counts_in_any_order() {
    let entities = |first: &str, second: &str| {
        let body = request("").replace(
            r#""scopeSpans""#,
            &format!(r#""resource":{{{first},{second},"droppedAttributesCount":1}},"scopeSpans""#),
        );
        let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
        rows.resources[0].resource.clone()
    };
    let snake = r#""entity_refs":[{"type":"snake"}]"#;
    let camel = r#""entityRefs":[{"type":"camel"}]"#;
    let expected = r#"{"entityRefs": [{"type": "camel"}], "droppedAttributesCount": 1}"#;
    assert_eq!(entities(snake, camel), expected);
    assert_eq!(entities(camel, snake), expected);
    assert!(entities(snake, r#""x":1"#).contains("snake"));
}

#[test]
fn j4_numbers_are_numbers_or_strings() {
    for time in ["\"1700000000000000001\"", "1700000000000000001"] {
        let body = request(&format!(r#","startTimeUnixNano":{time}"#));
        assert_eq!(one(&body).time_unix_nano, Some(1_700_000_000_000_000_001));
    }
    let event = one(&request(r#","startTimeUnixNano":1.7e18"#));
    assert_eq!(event.time_unix_nano, Some(1_700_000_000_000_000_000));
    for flags in ["257", "\"257\"", "257.0"] {
        assert_eq!(
            one(&request(&format!(r#","flags":{flags}"#))).metadata,
            r#"{"flags": 257}"#
        );
    }
    for flags in [
        "-1",
        "4294967296",
        "\"x\"",
        "true",
        "\"\"",
        "\"+1\"",
        "1.9",
        "\"257.1\"",
        "2571e-1",
    ] {
        assert!(
            is_rejected(&request(&format!(r#","flags":{flags}"#))),
            "{flags}"
        );
    }
}

#[test]
fn j5_doubles_and_integers_come_in_every_form_that_clients_send() {
    for (json, stored) in [
        (r#"{"doubleValue":1}"#, "1.0"),
        (r#"{"doubleValue":"2.50"}"#, "2.5"),
        (r#"{"doubleValue":1e21}"#, "1000000000000000000000.0"),
        (r#"{"doubleValue":"NaN"}"#, r#"{"$double": "NaN"}"#),
        (
            r#"{"doubleValue":"Infinity"}"#,
            r#"{"$double": "Infinity"}"#,
        ),
        (
            r#"{"doubleValue":"-Infinity"}"#,
            r#"{"$double": "-Infinity"}"#,
        ),
        (r#"{"doubleValue":-0.0}"#, r#"{"$double": "-0.0"}"#),
        (r#"{"intValue":"-42"}"#, "-42"),
        (r#"{"intValue":42}"#, "42"),
        (r#"{"intValue":42.0}"#, "42"),
        (
            r#"{"intValue":"9223372036854775807"}"#,
            "9223372036854775807",
        ),
        (
            r#"{"intValue":9223372036854775808}"#,
            "9223372036854776000.0",
        ),
        (r#"{"intValue":1e21}"#, "1000000000000000000000.0"),
        (r#"{"intValue":"1e21"}"#, "1000000000000000000000.0"),
        (r#"{"intValue":0.5}"#, "0.5"),
    ] {
        assert_eq!(value(json), stored, "{json}");
    }
    for json in [
        r#"{"intValue":"x"}"#,
        r#"{"intValue":1e999}"#,
        r#"{"doubleValue":"inf"}"#,
        r#"{"doubleValue":true}"#,
    ] {
        assert!(
            is_rejected(&request(&format!(
                r#","attributes":[{{"key":"a","value":{json}}}]"#
            ))),
            "{json}"
        );
    }
}

#[test]
fn j6_null_is_unset_and_what_is_left_out_has_its_default() {
    let event = one(&request(
        r#","name":null,"kind":null,"status":null,"attributes":null,"events":null,"links":null,"flags":null"#,
    ));
    assert_eq!(
        (event.kind, event.name.as_deref(), &*event.metadata),
        (Some(0), Some(""), "{}")
    );
    for (json, stored) in [
        (r#"{"arrayValue":{}}"#, "[]"),
        (r#"{"arrayValue":{"values":null}}"#, "[]"),
        (
            r#"{"arrayValue":{"values":[null,{}]}}"#,
            r#"[{"$empty": true}, {"$empty": true}]"#,
        ),
        (r#"{"kvlistValue":{}}"#, "{}"),
        (
            r#"{"kvlistValue":{"values":[{"key":"k"}]}}"#,
            r#"{"k": {"$empty": true}}"#,
        ),
        ("{}", r#"{"$empty": true}"#),
        ("null", r#"{"$empty": true}"#),
        (r#"{"stringValue":null}"#, r#"{"$empty": true}"#),
        (r#"{"stringValue":"a","unknown":{"x":[1]}}"#, "\"a\""),
    ] {
        assert_eq!(value(json), stored, "{json}");
    }
}

#[test]
fn j7_bytes_are_base64_of_either_alphabet_padded_or_not() {
    for base64 in ["+/8=", "-_8=", "+/8", "-_8"] {
        assert_eq!(
            value(&format!(r#"{{"bytesValue":"{base64}"}}"#)),
            r#"{"$bytes": "+/8="}"#,
            "{base64}"
        );
    }
    assert_eq!(value(r#"{"bytesValue":""}"#), r#"{"$bytes": ""}"#);
    assert!(is_rejected(&request(
        r#","attributes":[{"key":"a","value":{"bytesValue":"%"}}]"#
    )));
}

#[test]
fn keys_come_in_any_order_and_the_resource_may_come_last() {
    let span = r#"{"spanId":"d0e1f2a3b4c5d6e7","traceId":"c2b1f7a40d3e4f5896a7b8c9d0e1f2a3"}"#;
    let body = format!(
        r#"{{"resourceSpans":[{{"schemaUrl":"u","scopeSpans":[{{"spans":[{span}],"scope":{{"name":"lib"}}}}],
        "resource":{{"attributes":[{{"value":{{"stringValue":"late"}},"key":"service.name"}}]}}}}]}}"#
    );
    let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
    assert_eq!(rows.events[0].integration, "late");
    assert_eq!(rows.resources[0].scope, r#"{"name": "lib"}"#);
    assert_eq!(
        rows.resources[0].resource,
        r#"{"schemaUrl": "u", "attributes": {"service.name": "late"}}"#
    );
}

#[test]
fn what_is_no_request_is_refused_with_the_byte_offset() {
    for body in [
        "[]",
        "1",
        "{",
        "{} {}",
        "",
        " \n",
        &request(r#","name":NaN"#),
        &request(r#","name":5,"kind":"#),
    ] {
        assert!(is_malformed(body), "{body}");
    }
    let error = decode(b"{\"a\": \xff}", &json()).expect_err("not JSON");
    assert!(matches!(
        error,
        DecodeError::Malformed {
            offset: Some(6),
            ..
        }
    ));
}

#[test]
fn a_request_of_nothing_but_what_cannot_be_mapped_is_invalid() {
    for body in [
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[1]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[5]}]}]}"#,
        r#"{"resourceSpans":[],"resourceSpans":[]}"#,
        &request(r#","name":5"#),
        &request(r#","attributes":{}"#),
        &request(r#","status":[]"#),
    ] {
        assert!(is_rejected(body), "{body}");
    }
}

#[test]
fn a_nul_and_a_lone_surrogate_are_repaired_counted_and_flagged() {
    let (checked, rows) = decode(
        request(r#","name":"a\u0000b","traceState":"c\ud800d""#).as_bytes(),
        &json(),
    )
    .expect("accepted");
    assert_eq!(rows.events[0].name.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(rows.events[0].metadata, "{\"traceState\": \"c\u{fffd}d\"}");
    assert_eq!(
        rows.events[0].flags,
        crate::event::EventFlags::TEXT_REPAIRED
    );
    assert_eq!((checked.sanitized.nul, checked.sanitized.utf8), (1, 1));
}

#[test]
fn a_value_nested_too_deep_however_deep_rejects_its_span_alone() {
    let deep = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels - 1);
        let close = "]}}".repeat(levels - 1);
        format!(r#","attributes":[{{"key":"a","value":{open}{{"intValue":1}}{close}}}]"#)
    };
    one(&request(&deep(24)));
    for levels in [25, 26, 100_000] {
        let body = request(&deep(levels));
        let Err(DecodeError::Invalid(checked)) = decode(body.as_bytes(), &json()) else {
            panic!("{levels} levels");
        };
        assert!(checked.rejections[0].reason.contains("24 levels"));
    }
}

#[test]
fn a_request_as_a_person_would_write_it_is_accepted() {
    let body = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"till"}}]},
        "scopeSpans":[{"scope":{"name":"receipts","version":"2.1","attributes":[{"key":"team",
        "value":{"stringValue":"front"}}]},"spans":[{"traceId":"C2B1F7A40D3E4F5896A7B8C9D0E1F2A3",
        "spanId":"D0E1F2A3B4C5D6E7","parentSpanId":"A1B2C3D4E5F60718","name":"print a receipt",
        "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000001000000000","kind":2,
        "attributes":[{"key":"paper.mm","value":{"intValue":"80"}}]}]}]}]}"#;
    let event = one(body);
    assert_eq!(
        (event.kind, event.duration_ns),
        (Some(2), Some(1_000_000_000))
    );
    assert_eq!(event.integration, "till");
    assert_eq!(event.metadata, r#"{"attributes": {"paper.mm": 80}}"#);
}
