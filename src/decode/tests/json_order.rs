//! Requests in JSON in the usual order of members, which `check` walks once, beside the same with surprises, for which it
//! begins anew. `events` always walks them in any order, and `decode` compares the two.

use crate::decode::ItemValidation;
use crate::decode::json::json_reader::JsonReader;
use crate::decode::otlp::json_in_order::OrderedWalk;
use crate::decode::otlp::json_request::{SPANS, SkipMember};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::tests::*;

const SPAN: &str = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"a","kind":2,"startTimeUnixNano":"1799999999000000000","attributes":[{"key":"k","value":{"stringValue":"v"}},{"key":"n","value":{"intValue":"200"}}]}"#;

/// A span without a span id.
const INVALID: &str = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10"}"#;

/// A span whose name is not a text.
const ILL_TYPED: &str = r#"{"name":{}}"#;

fn json() -> Source {
    source(Signal::Span, Encoding::Json)
}

fn scope(members: &str) -> String {
    format!(r#"{{"scope":{{"name":"s"}},{members}}}"#)
}

fn request(resource: &str) -> String {
    format!(r#"{{"resourceSpans":[{resource}]}}"#)
}

/// Returns the number of items that the ordered walk passes on; `None` if it gives up.
fn in_order(body: &str) -> Option<usize> {
    let source = json();
    let nowhere = Position {
        stream: StreamId([0; 16]),
        n: 0,
    };
    let mut rows = RowBuilder::new(&source, nowhere, ItemValidation::Needed, None);
    let mut items = 0;
    let mut walk = OrderedWalk {
        lists: &SPANS,
        source: &source,
        rows: &mut rows,
        take: |item: &mut JsonReader<'_>, _: SkipMember<'_>, _: &mut RowBuilder<'_, '_>| {
            items += 1;
            Ok(item.skip().map(drop)?)
        },
    };
    walk.request(JsonReader::of_any_body(body.as_bytes()))?;
    Some(items)
}

#[test]
fn requests_as_encoders_write_them_are_walked_once() {
    let spans = format!(r#""spans":[{SPAN},{INVALID},{ILL_TYPED},{SPAN}]"#);
    for (resource, items) in [
        ("{}".to_owned(), 0),
        (r#"{"resource":{}}"#.to_owned(), 0),
        (format!(r#"{{"scopeSpans":[{{{spans}}}]}}"#), 4),
        (
            format!(
                r#"{{"resource":{{}},"schemaUrl":"u","scopeSpans":[{}]}}"#,
                scope(&spans)
            ),
            4,
        ),
        (
            format!(
                r#"{{"resource":{{"attributes":[]}},"scopeSpans":[{},{}],"schemaUrl":"u"}}"#,
                scope(&format!(
                    r#"{spans},"schemaUrl":"https://opentelemetry.io/schemas/1.4.0""#
                )),
                scope(&format!(r#""schemaUrl":"u",{spans}"#)),
            ),
            8,
        ),
    ] {
        for body in [
            request(&resource),
            request(&format!("{resource},{resource}")),
        ] {
            let twice = usize::from(body.len() > request(&resource).len()) + 1;
            assert_eq!(in_order(&body), Some(items * twice), "{body}");
            decode(body.as_bytes(), &json()).expect("some are valid");
        }
    }
}

#[test]
fn a_surprise_around_the_items_is_reported_as_by_the_walk_of_any_order() {
    let spans = format!(r#""spans":[{SPAN},{INVALID},{ILL_TYPED}]"#);
    let scopes = format!(r#""scopeSpans":[{}]"#, scope(&spans));
    let resource =
        r#""resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]}"#;
    let members = [
        format!("{scopes},{resource}"),
        format!("{resource},{resource},{scopes}"),
        format!("{resource},{scopes},{scopes}"),
        format!(r#"{resource},{scopes},"scope_spans":[]"#),
        format!(r#"{resource},{scopes},"instrumentationLibrarySpans":[]"#),
        format!(r#"{resource},"scope_spans":[{}]"#, scope(&spans)),
        format!(r#"{resource},{scopes},"unknown":1"#),
        format!(r#""unknown":1,{resource},{scopes}"#),
        format!(r#"{resource},{scopes},"schemaUrl":"\u0000""#),
        format!(r#"{resource},{scopes},"schemaUrl":null"#),
        format!(r#"{resource},{scopes},"schemaUrl":1"#),
        format!(r#"{resource},{scopes},"schemaUrl":"a","schemaUrl":"b""#),
        format!(r#""schemaUrl":"a",{resource},{scopes},"schemaUrl":"b""#),
        format!(r#""schemaUrl":1,{resource},{scopes}"#),
        format!(r#"{resource},"scope\u0053pans":[{}]"#, scope(&spans)),
        format!(r#"{resource},"scopeSpans":null"#),
        format!(r#"{resource},"scopeSpans":{}"#, scope(&spans)),
        format!(r#""resource":null,{scopes}"#),
        format!(r#""resource":null,{resource},{scopes}"#),
        format!(r#""resource":1,{scopes}"#),
        format!(r#""resource":{{"attributes":1}},{scopes}"#),
        format!(r#"{resource},"scopeSpans":[null,{}]"#, scope(&spans)),
        format!(
            r#"{resource},"scopeSpans":[{}]"#,
            scope(&format!("{spans},{spans}"))
        ),
        format!(
            r#"{resource},"scopeSpans":[{}]"#,
            scope(&format!(r#"{spans},"scope":{{}}"#))
        ),
        format!(r#"{resource},"scopeSpans":[{{{spans},"scope":{{}}}}]"#),
        format!(r#"{resource},"scopeSpans":[{{"scope":1,{spans}}}]"#),
        format!(r#"{resource},"scopeSpans":[{}]"#, scope(r#""spans":{}"#)),
        format!(
            r#"{resource},"scopeSpans":[{}]"#,
            scope(&format!(r#"{spans},"schemaUrl":1"#))
        ),
        format!(
            r#"{resource},"scopeSpans":[{}]"#,
            scope(&format!(r#"{spans},"x":1"#))
        ),
    ];
    for members in members {
        let body = request(&format!("{{{members}}}"));
        assert_eq!(in_order(&body), None, "{body}");
        drop(decode(body.as_bytes(), &json()));
    }
    let resource = format!("{{{resource},{scopes}}}");
    for body in [
        format!("{}]", request(&resource)),
        format!(r#"{{"resourceSpans":[{resource}],"resourceSpans":[]}}"#),
        format!(r#"{{"resourceSpans":[{resource}],"x":[]}}"#),
        format!(r#"{{"resource_spans":[{resource}]}}"#),
        format!(r#"{{"resourceSpans":{resource}}}"#),
        r#"{"resourceSpans":null}"#.to_owned(),
        r#"{"resourceSpans":[null]}"#.to_owned(),
        "[]".to_owned(),
    ] {
        assert_eq!(in_order(&body), None, "{body}");
        drop(decode(body.as_bytes(), &json()));
    }
}

#[test]
fn every_cut_and_every_other_byte_is_reported_as_by_the_walk_of_any_order() {
    let spans = format!(r#""spans":[{SPAN}],"schemaUrl":"u""#);
    let body = request(&format!(
        r#"{{"resource":{{"attributes":[]}},"scopeSpans":[{}],"schemaUrl":"u"}}"#,
        scope(&spans)
    ));
    assert_eq!(in_order(&body), Some(1));
    for at in 0..body.len() {
        decode(&body.as_bytes()[..at], &json()).expect_err("cut short");
        for byte in *b"\"}]{[,:\\ 0\x01\xff" {
            let mut body = body.clone().into_bytes();
            body[at] = byte;
            drop(decode(&body, &json()));
        }
    }
}

/// A resource is stored once for each of its scopes, and its schema URL with it.
#[test]
fn a_schema_url_behind_the_scopes_counts_once_for_each_of_them() {
    let scopes = vec![scope(&format!(r#""spans":[{SPAN}]"#)); 70].join(",");
    let url = "x".repeat(1 << 20);
    let resource = format!(r#"{{"scopeSpans":[{scopes}],"schemaUrl":"{url}"}}"#);
    let report = check(request(&resource).as_bytes(), &json()).expect("some are accepted");
    assert_eq!((report.accepted, report.rejected), (63, 7));
    let scope = scope(&format!(r#""spans":[{SPAN}],"schemaUrl":"{url}""#));
    let resource = format!(r#"{{"scopeSpans":[{}]}}"#, vec![scope; 65].join(","));
    let report = check(request(&resource).as_bytes(), &json()).expect("some are accepted");
    assert_eq!((report.accepted, report.rejected), (63, 2));
}
