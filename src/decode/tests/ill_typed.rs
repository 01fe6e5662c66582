//! Tests of OTLP's JSON whose values are not of their members' types: the rejections and their reasons.

use crate::decode::tests::*;
use crate::event::EventFlags;

/// Returns a signal's request around items, with further members of the resource and of the scope.
fn request(signal: Signal, resource: &str, scope: &str, items: &[&str]) -> String {
    let (resources, scopes, list, open, close) = match signal {
        Signal::Span => ("resourceSpans", "scopeSpans", "spans", "", ""),
        Signal::Log => ("resourceLogs", "scopeLogs", "logRecords", "", ""),
        Signal::Event | Signal::Metric => (
            "resourceMetrics",
            "scopeMetrics",
            "metrics",
            r#"{"name":"m","gauge":{"dataPoints":["#,
            "]}}",
        ),
    };
    let items = items.join(",");
    format!(
        r#"{{"{resources}":[{{{resource}"{scopes}":[{{{scope}"{list}":[{open}{items}{close}]}}]}}]}}"#
    )
}

/// Returns a valid item with further members, which begin with a comma.
fn item(more: &str) -> String {
    let ids = r#""traceId":"c2b1f7a40d3e4f5896a7b8c9d0e1f2a3","spanId":"d0e1f2a3b4c5d6e7""#;
    format!(
        r#"{{{ids},"timeUnixNano":"1799999999000000000","startTimeUnixNano":"1799999999000000000","endTimeUnixNano":"1799999999000000001"{more}}}"#
    )
}

fn decoded(signal: Signal, body: &str) -> Result<(DecodeReport, Rows), DecodeError> {
    decode(body.as_bytes(), &source(signal, Encoding::Json))
}

fn partly(signal: Signal, body: &str) -> DecodeReport {
    decoded(signal, body).expect(body).0
}

/// One attribute `{"doubleValue":{}}` lost the 2,000 log records around it: the answer was 400 for the whole request,
/// which an exporter drops.
#[test]
fn an_ill_typed_value_costs_its_own_item_and_is_named() {
    let value = |value: &str| format!(r#","attributes":[{{"key":"k","value":{value}}}]"#);
    let mut odd = vec![
        (value(r#"{"doubleValue":{}}"#), "doubleValue"),
        (value(r#"{"intValue":""}"#), "intValue"),
        (value(r#"{"boolValue":"true"}"#), "boolValue"),
        (
            value(r#"{"bytesValue":{"type":"Buffer","data":[1]}}"#),
            "bytesValue",
        ),
        (value(r#"{"bytesValue":"%"}"#), "bytesValue"),
        (value(r#"{"stringValue":5}"#), "stringValue"),
        (value(r#"{"arrayValue":[1]}"#), "arrayValue"),
        (value(r#"{"arrayValue":{"values":{}}}"#), "values"),
        (value(r#"{"kvlistValue":{"values":[{"key":1}]}}"#), "key"),
        (value("[]"), "value"),
        (r#","attributes":{"k":"v"}"#.to_owned(), "attributes"),
        (r#","attributes":["k"]"#.to_owned(), "attributes"),
        (r#","flags":-1"#.to_owned(), "flags"),
        (r#","flags":4294967296"#.to_owned(), "flags"),
        (
            r#","startTimeUnixNano":1.5,"timeUnixNano":1.5"#.to_owned(),
            "startTimeUnixNano",
        ),
    ];
    for signal in Signal::OTLP {
        let kind = if signal == Signal::Span {
            "kind"
        } else {
            "severityNumber"
        };
        if signal != Signal::Metric {
            for name in [
                r#""CLIENT""#,
                r#""INFO""#,
                "{}",
                "true",
                "1.5",
                "2147483648",
            ] {
                odd.push((format!(r#","{kind}":{name}"#), kind));
            }
        }
        for (more, key) in &odd {
            let good = item("");
            let body = request(signal, "", "", &[&good, &item(more), &good]);
            if decoded(signal, &body).is_ok_and(|(checked, _)| checked.rejected == 0) {
                // Only another signal's items have this member.
                continue;
            }
            let checked = partly(signal, &body);
            assert_eq!((checked.accepted, checked.rejected), (2, 1), "{body}");
            let [rejection] = &checked.rejections[..] else {
                panic!("{:?}", checked.rejections);
            };
            let field = rejection.field.as_deref();
            assert_eq!(rejection.index, 1, "{body}");
            assert!(
                field == Some(key) || field == Some("timeUnixNano"),
                "{rejection:?} {body}"
            );

            let alone = decoded(signal, &request(signal, "", "", &[&item(more)]));
            assert!(matches!(alone, Err(DecodeError::Invalid(_))), "{body}");
        }
        odd.truncate(15);
        let body = request(signal, "", "", &[&item(""), "5", "[]", &item("")]);
        let checked = partly(signal, &body);
        assert_eq!((checked.accepted, checked.rejected), (2, 2), "{body}");
    }
}

#[test]
fn the_reason_names_the_cure() {
    for (more, reason) in [
        (
            r#","attributes":[{"value":{"boolValue":"true"}}]"#,
            "without quotes at byte",
        ),
        (r#","kind":"CLIENT""#, "such as SPAN_KIND_CLIENT"),
        (
            r#","attributes":[{"value":{"doubleValue":{}}}]"#,
            "a number is expected",
        ),
        (
            r#","attributes":[{"value":{"doubleValue":{}}}]"#,
            ", in attributes",
        ),
    ] {
        let checked = partly(
            Signal::Span,
            &request(Signal::Span, "", "", &[&item(""), &item(more)]),
        );
        let told = &checked.rejections[0].reason;
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn a_member_around_items_that_cannot_be_mapped_rejects_the_items_below_it() {
    let good = item("");
    for signal in Signal::OTLP {
        let bad = [
            (r#""resource":5,"#, "", "resource"),
            (r#""resource":{"attributes":{}},"#, "", "attributes"),
            (r#""resource":{},"resource":{},"#, "", "resource"),
            (r#""schemaUrl":[],"#, "", "schemaUrl"),
            ("", r#""scope":"name","#, "scope"),
            ("", r#""scope":{"name":1},"#, "name"),
            ("", r#""scope":{},"scope":null,"scope":{},"#, "scope"),
            ("", r#""schemaUrl":1,"#, "schemaUrl"),
        ];
        let whole = request(signal, "", "", &[&good]);
        for (resource, scope, key) in bad {
            let below = request(signal, resource, scope, &[&good, &good, &good]);
            let both = |first: &str, second: &str| {
                let first = first.strip_suffix("]}").expect("a list");
                let (_, second) = second.split_once(":[").expect("a list");
                format!("{first},{second}")
            };
            for (body, index) in [(both(&whole, &below), 1), (both(&below, &whole), 0)] {
                let checked = partly(signal, &body);
                assert_eq!((checked.accepted, checked.rejected), (1, 3), "{body}");
                let [rejection] = &checked.rejections[..] else {
                    panic!("{:?}", checked.rejections);
                };
                assert_eq!(
                    (rejection.index, rejection.field.as_deref()),
                    (index, Some(key))
                );
            }
        }
    }
}

#[test]
fn a_metrics_envelope_that_cannot_be_mapped_rejects_its_points() {
    let point = item("");
    let metrics = |odd: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"before","gauge":{{"dataPoints":[{point}]}}}},
            {odd},{{"name":"after","sum":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
        )
    };
    for (odd, rejected, key) in [
        (
            format!(r#"{{"name":5,"gauge":{{"dataPoints":[{point},{point}]}}}}"#),
            2,
            "name",
        ),
        (
            format!(r#"{{"unit":{{}},"sum":{{"dataPoints":[{point}]}}}}"#),
            1,
            "unit",
        ),
        (
            format!(
                r#"{{"sum":{{"aggregationTemporality":"DELTA","dataPoints":[{point},{point}]}}}}"#
            ),
            2,
            "aggregationTemporality",
        ),
        (
            format!(r#"{{"sum":{{"isMonotonic":"true","dataPoints":[{point}]}}}}"#),
            1,
            "isMonotonic",
        ),
        (
            format!(r#"{{"sum":{{"dataPoints":{point}}}}}"#),
            1,
            "dataPoints",
        ),
        (
            format!(r#"{{"gauge":{{"dataPoints":[{point}],"dataPoints":[{point}]}}}}"#),
            2,
            "dataPoints",
        ),
        (r#"{"gauge":[]}"#.to_owned(), 1, "gauge"),
        ("7".to_owned(), 1, "item"),
    ] {
        let checked = partly(Signal::Metric, &metrics(&odd));
        assert_eq!((checked.accepted, checked.rejected), (2, rejected), "{odd}");
        let field = checked.rejections[0].field.as_deref().unwrap_or("item");
        assert_eq!(field, key);
    }
}

#[test]
fn a_syntax_error_in_any_place_refuses_the_request() {
    for signal in Signal::OTLP {
        let good = item("");
        for bad in [
            r#"{"attributes":[{"value":{"doubleValue":{}}}],"x":}"#,
            r#"{"attributes":{},"attributes":[}"#,
            r#"{"attributes":[{"value":{"doubleValue":NaN}}]}"#,
        ] {
            let body = request(signal, "", "", &[&good, bad, &good]);
            let error = decoded(signal, &body).expect_err("not JSON");
            assert!(matches!(error, DecodeError::Malformed { .. }), "{body}");
        }
    }
}

/// A log library cut lines at a byte limit, in the middle of a character. Each such line lost the whole request, though
/// README promised a repair.
#[test]
fn what_is_not_utf8_becomes_one_replacement_a_sequence_and_is_flagged() {
    for (sent, stored) in [
        (&b"cut \xf0\x9f\x98"[..], "cut \u{fffd}"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        (b"\xe2\x82 \xc3\xa9", "\u{fffd} \u{e9}"),
        (b"\xed\xa0\xbd", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\\n\xc3\\u00e9", "\n\u{fffd}\u{e9}"),
        (b"half \\ud83d", "half \u{fffd}"),
        (b"\\ud83d\xff\\ude00", "\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        let around = |marked: &str| {
            let at = marked.find('@').expect("a mark");
            [&marked.as_bytes()[..at], sent, &marked.as_bytes()[at + 1..]].concat()
        };
        for (signal, column) in [
            (Signal::Span, r#","name":"@""#),
            (Signal::Log, r#","eventName":"@""#),
            (
                Signal::Metric,
                r#","attributes":[{"key":"correlation_id","value":{"stringValue":"@"}}]"#,
            ),
        ] {
            let body = around(&request(signal, "", "", &[&item(""), &item(column)]));
            let (checked, rows) = decode(&body, &source(signal, Encoding::Json)).expect("accepted");
            assert_eq!((checked.accepted, checked.sanitized.utf8), (2, 1));
            assert_eq!(rows.events[0].flags, EventFlags::default());
            let event = &rows.events[1];
            let text = match signal {
                Signal::Metric => &event.correlation_id,
                _ => event.name.as_ref().expect("a name"),
            };
            assert_eq!((&**text, event.flags), (stored, EventFlags::TEXT_REPAIRED));

            let resource = r#""resource":{"attributes":[{"key":"service.name","value":{"stringValue":"@"}}]},"#;
            let body = around(&request(signal, resource, "", &[&item("")]));
            let (checked, rows) = decode(&body, &source(signal, Encoding::Json)).expect("accepted");
            let event = &rows.events[0];
            assert_eq!(
                (&*event.integration, event.flags),
                (stored, EventFlags::TEXT_REPAIRED)
            );
            assert_eq!(checked.sanitized.utf8, 1);
            // In a member that is not stored, invalid UTF-8 changes nothing.
            let body = around(&request(
                signal,
                r#""note":"@","#,
                "",
                &[&item(r#","@":"x""#.replace('@', "n").as_str())],
            ));
            let (checked, rows) = decode(&body, &source(signal, Encoding::Json)).expect("accepted");
            assert_eq!(
                (checked.sanitized.utf8, rows.events[0].flags),
                (0, EventFlags::default())
            );
        }
    }
}

#[test]
fn half_a_surrogate_pair_of_a_record_of_version_1_stays_three_question_marks() {
    let body = request(
        Signal::Log,
        "",
        "",
        &[&item(r#","eventName":"cut \ud83d""#)],
    );
    let first = Source {
        version: 1,
        ..source(Signal::Log, Encoding::Json)
    };
    let (_, rows) = decode(body.as_bytes(), &first).expect("accepted");
    assert_eq!(rows.events[0].name.as_deref(), Some("cut ???"));
}

/// A client posted `{"message": "hello"}`, got 200 and looked for its line for an hour.
#[test]
fn a_request_without_items_names_the_first_member_that_is_not_known() {
    for (body, name) in [
        (r#"{"message":"hello","level":1}"#, Some("message")),
        (
            r#"{"resourceLogs":[{"scopelogs":[{"logRecords":[{}]}]}]}"#,
            Some("scopelogs"),
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"records":[{}]}]}]}"#,
            Some("records"),
        ),
        (r#"{"resourceLogs":[],"extra":1}"#, Some("extra")),
        (r#"{"resourceLogs":[]}"#, None),
        ("{}", None),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}],"extra":1}]}],"extra":1}"#,
            None,
        ),
    ] {
        let checked = partly(Signal::Log, body);
        assert_eq!(
            (checked.unknown_name.as_deref(), checked.rejected),
            (name, 0),
            "{body}"
        );
    }
    for body in ["", "\n "] {
        let error = decoded(Signal::Log, body).expect_err("not JSON");
        assert!(
            error.to_string().starts_with("the body is empty"),
            "{error}"
        );
    }
}

#[test]
fn scopes_by_their_old_name_are_mapped_if_there_are_no_others() {
    for (signal, list) in [
        (Signal::Span, "Spans"),
        (Signal::Log, "Logs"),
        (Signal::Metric, "Metrics"),
    ] {
        let new = request(signal, "", r#""scope":{"name":"lib"},"#, &[&item("")]);
        let (new_name, old_name) = (
            format!("scope{list}"),
            format!("instrumentationLibrary{list}"),
        );
        let old = new
            .replace(&new_name, &old_name)
            .replace("\"scope\"", "\"instrumentationLibrary\"");
        let empty = old.replacen('{', r#"{"more":[],"#, 1).replace(
            &format!("\"{old_name}\""),
            &format!("\"{new_name}\":[],\"{old_name}\""),
        );
        for body in [&old, &empty] {
            let (checked, rows) = decoded(signal, body).expect(body);
            assert_eq!(checked.accepted, 1, "{body}");
            assert_eq!(rows.resources[0].scope, r#"{"name": "lib"}"#);
        }
        // Beside scopes under the current name, those under the old name are ignored (OTLP 0.15).
        let both = new.replace(
            &format!("\"{new_name}\""),
            &format!("\"{old_name}\":[{{\"spans\":[{{}}]}}],\"{new_name}\""),
        );
        assert_eq!(partly(signal, &both).accepted, 1);
        let first = Source {
            version: 1,
            ..source(signal, Encoding::Json)
        };
        let (checked, _) = decode(old.as_bytes(), &first).expect("nothing known");
        assert_eq!(checked.accepted, 0);
    }
}
