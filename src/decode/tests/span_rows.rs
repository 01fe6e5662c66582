//! Tests of spans in protobuf: the protocol's requirements, and bad inputs.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use prost::Message as _;

use crate::decode::tests::spans::{
    START, around, field, one, pair, protobuf, request, rows, span, text, value, with_attributes,
};
use crate::decode::tests::*;
use crate::event::EventFlags;

#[test]
fn g2_g3_an_empty_request_and_empty_envelopes_are_a_success() {
    for body in [
        &b""[..],
        &field(1, b""),
        &field(1, &field(2, b"")),
        &request(vec![]).encode_to_vec(),
    ] {
        assert_eq!(
            decode(body, &protobuf()).expect("empty").0,
            DecodeReport::default()
        );
    }
    let json = source(Signal::Span, Encoding::Json);
    for body in [
        "{}",
        " {} ",
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[{}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#,
    ] {
        assert_eq!(
            decode(body.as_bytes(), &json).expect(body).0,
            DecodeReport::default()
        );
    }
}

#[test]
fn g4_unknown_fields_are_ignored_at_every_level() {
    let unknown = [
        field(15, b"\xff"),
        vec![0xf8, 0x07, 1],
        vec![0xf9, 0x07, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let unknown_in_span = [
        vec![0xf8, 0x07, 1],
        vec![0xf9, 0x07, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let add = |message: Vec<u8>, unknown: &[u8]| [unknown, &message[..], unknown].concat();
    let value = add(field(1, b"v"), &unknown);
    let pair = add([field(1, b"k"), field(2, &value)].concat(), &unknown);
    let status = add(field(2, b"m"), &unknown);
    let inner = [span().encode_to_vec(), field(9, &pair), field(15, &status)].concat();
    let inner = add(inner, &unknown_in_span);
    let resource = add(
        field(
            1,
            &[field(1, b"service.name"), field(2, &field(1, b"shop"))].concat(),
        ),
        &unknown,
    );
    let scope_spans = add([field(1, &unknown), field(2, &inner)].concat(), &unknown);
    let resource_spans = add(
        [field(1, &resource), field(2, &scope_spans)].concat(),
        &unknown,
    );
    let body = add(field(1, &resource_spans), &unknown);
    let (_, rows) = decode(&body, &protobuf()).expect("accepted");
    assert_eq!(
        rows.events[0].metadata,
        r#"{"status": {"message": "m"}, "attributes": {"k": "v"}}"#
    );
    assert_eq!(rows.events[0].integration, "shop");
}

#[test]
fn g5_every_kind_of_value_is_accepted_and_remains_distinct() {
    let list = |values| value(Any::KvlistValue(KeyValueList { values }));
    let array = |values| value(Any::ArrayValue(ArrayValue { values }));
    let event = one(with_attributes(vec![
        pair("a", AnyValue::default()),
        KeyValue {
            key: "b".to_owned(),
            ..KeyValue::default()
        },
        pair("c", value(Any::BytesValue(vec![0, 0xff]))),
        pair(
            "d",
            array(vec![
                text("x"),
                value(Any::IntValue(-1)),
                AnyValue::default(),
                array(vec![]),
            ]),
        ),
        pair(
            "e",
            list(vec![
                pair("y", value(Any::BoolValue(true))),
                pair("$z", list(vec![])),
            ]),
        ),
        pair("f", value(Any::DoubleValue(1.0))),
        pair("g", value(Any::DoubleValue(f64::NAN))),
        pair("h", value(Any::DoubleValue(-0.0))),
        pair("i", value(Any::IntValue(i64::MIN))),
        pair("$bytes", text("mine")),
        pair("j", value(Any::BoolValue(false))),
        pair("k", text("")),
    ]));
    assert_eq!(
        event.metadata,
        "{\"attributes\": {\"a\": {\"$empty\": true}, \"b\": {\"$empty\": true}, \"c\": {\"$bytes\": \"AP8=\"}, \
         \"d\": [\"x\", -1, {\"$empty\": true}, []], \"e\": {\"y\": true, \"$$z\": {}}, \"f\": 1.0, \
         \"g\": {\"$double\": \"NaN\"}, \"h\": {\"$double\": \"-0.0\"}, \"i\": -9223372036854775808, \
         \"j\": false, \"k\": \"\", \"$$bytes\": \"mine\"}}"
    );
}

#[test]
fn g6_string_references_are_as_if_absent_and_counted() {
    let attribute = [field(1, b"k"), field(2, &[0x40, 1]), vec![0x18, 1]].concat();
    let body = around(&[span().encode_to_vec(), field(9, &attribute)].concat());
    let (checked, rows) = decode(&body, &protobuf()).expect("accepted");
    assert_eq!(checked.sanitized.string_reference, 2);
    assert_eq!(
        rows.events[0].metadata,
        r#"{"attributes": {"k": {"$empty": true}}}"#
    );
}

#[test]
fn g7_a_span_with_an_invalid_id_is_rejected_alone_and_all_of_them_together() {
    let bad = |trace_id: Vec<u8>, span_id: Vec<u8>| Span {
        trace_id,
        span_id,
        ..span()
    };
    let spans = vec![
        bad(vec![], vec![1; 8]),
        span(),
        bad(vec![0; 16], vec![1; 8]),
        bad(vec![1; 15], vec![1; 8]),
        bad(vec![1; 16], vec![0; 8]),
        bad(vec![1; 16], vec![1; 9]),
    ];
    let (checked, rows) = rows(spans.clone());
    assert_eq!(
        (checked.accepted, checked.rejected, rows.events.len()),
        (1, 5, 1)
    );
    let told: Vec<_> = checked
        .rejections
        .iter()
        .map(|rejection| (rejection.index, rejection.field.as_deref()))
        .collect();
    let (trace, span_field) = (Some("traceId"), Some("spanId"));
    assert_eq!(
        told,
        [
            (0, trace),
            (2, trace),
            (3, trace),
            (4, span_field),
            (5, span_field)
        ]
    );

    let bad = request(spans.into_iter().skip(2).collect()).encode_to_vec();
    let Err(DecodeError::Invalid(checked)) = decode(&bad, &protobuf()) else {
        panic!("refused");
    };
    assert_eq!((checked.accepted, checked.rejected), (0, 4));
}

#[test]
fn g9_a_missing_status_is_unset_the_kind_is_kept_and_an_empty_name_too() {
    let event = one(Span {
        kind: 42,
        name: String::new(),
        ..span()
    });
    assert_eq!(event.status.as_deref(), Some("UNSET"));
    assert_eq!((event.kind, event.name.as_deref()), (Some(42), Some("")));
    let event = one(Span { kind: -1, ..span() });
    assert_eq!(event.kind, Some(-1));
}

#[test]
fn g10_flags_are_kept_whatever_their_upper_bits() {
    for flags in [0, 1, 0x100, 0x301, 0x8000_0000, u32::MAX] {
        let link = Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            flags,
            ..Link::default()
        };
        let event = one(Span {
            flags,
            links: vec![link],
            ..span()
        });
        let kept = event
            .metadata
            .matches(&format!("\"flags\": {flags}"))
            .count();
        assert_eq!(kept, if flags == 0 { 0 } else { 2 }, "{}", event.metadata);
    }
}

#[test]
fn g11_the_last_of_duplicate_keys_wins() {
    let event = one(with_attributes(vec![
        pair("a", text("1")),
        pair("correlation_id", text("x")),
        pair("a", text("2")),
        pair("correlation_id", text("y")),
    ]));
    assert_eq!(
        event.metadata,
        r#"{"attributes": {"a": "2", "correlation_id": "y"}}"#
    );
    assert_eq!(event.correlation_id, "y");
}

#[test]
fn g13_an_end_before_the_start_or_absent_is_flagged_and_kept() {
    for (end, metadata) in [
        (0, "{}"),
        (START - 1, r#"{"endTimeUnixNano": "1799999999123456788"}"#),
    ] {
        let event = one(Span {
            end_time_unix_nano: end,
            ..span()
        });
        assert_eq!(event.flags, EventFlags::END_INVALID);
        assert_eq!((event.duration_ns, &*event.metadata), (None, metadata));
    }
}

/// An exporter sent 2^64-1 as the end of spans that were still open. Their rows had no duration, and no flag said why.
#[test]
fn an_end_beyond_the_columns_range_is_flagged_and_kept() {
    for end in [u64::MAX, i64::MAX.cast_unsigned() + 1] {
        let body = request(vec![Span {
            end_time_unix_nano: end,
            ..span()
        }])
        .encode_to_vec();
        for (version, flags) in [
            (1, EventFlags::default()),
            (VERSION, EventFlags::END_INVALID),
        ] {
            let source = Source {
                version,
                ..protobuf()
            };
            let (_, rows) = decode(&body, &source).expect("accepted");
            let event = &rows.events[0];
            assert_eq!(event.flags, flags, "{end} under version {version}");
        }
    }
    let endless = one(Span {
        end_time_unix_nano: u64::MAX,
        ..span()
    });
    assert_eq!(endless.duration_ns, None);
    assert_eq!(
        endless.metadata,
        r#"{"endTimeUnixNano": "18446744073709551615"}"#
    );
}

#[test]
fn parents_and_links_without_valid_ids_have_none() {
    for id in [vec![], vec![0; 8], vec![1; 7], vec![1; 16]] {
        let event = one(Span {
            parent_span_id: id.clone(),
            links: vec![Link {
                trace_id: id.clone(),
                span_id: id.into_iter().take(7).collect(),
                ..Link::default()
            }],
            ..span()
        });
        assert_eq!(event.parent_span_id, None);
        assert!(
            event.metadata.starts_with(r#"{"links": [{"#),
            "{}",
            event.metadata
        );
        assert!(!event.metadata.contains("spanId"), "{}", event.metadata);
    }
}

#[test]
fn a_nul_and_invalid_utf8_are_repaired_counted_and_flagged() {
    let (checked, rows) = rows(vec![with_attributes(vec![pair("a\0", text("b\0c"))])]);
    assert_eq!(
        rows.events[0].metadata,
        "{\"attributes\": {\"a\u{fffd}\": \"b\u{fffd}c\"}}"
    );
    assert_eq!(
        (rows.events[0].flags, checked.sanitized.nul),
        (EventFlags::TEXT_REPAIRED, 2)
    );

    let attribute = [field(1, b"k\xff"), field(2, &field(1, b"a\xe2\x82b"))].concat();
    let body = around(&[span().encode_to_vec(), field(9, &attribute)].concat());
    let (checked, rows) = decode(&body, &protobuf()).expect("accepted");
    assert_eq!(rows.events[0].metadata, r#"{"attributes": {"k?": "a??b"}}"#);
    assert_eq!(
        (rows.events[0].flags, checked.sanitized.utf8),
        (EventFlags::TEXT_REPAIRED, 2)
    );
}

#[test]
fn a_value_nested_too_deep_rejects_its_span_alone() {
    let nested = |levels: usize| {
        (1..levels).fold(text("x"), |inner, _| {
            value(Any::ArrayValue(ArrayValue {
                values: vec![inner],
            }))
        })
    };
    let deep = |levels| with_attributes(vec![pair("a", nested(levels))]);
    let (checked, _) = rows(vec![deep(24), deep(25)]);
    assert_eq!((checked.accepted, checked.rejected), (1, 1));
    assert!(checked.rejections[0].reason.contains("24 levels"));
}

#[test]
fn an_item_of_too_many_nodes_is_rejected_alone() {
    let mut few = protobuf();
    few.limits.nodes = 10;
    let many = with_attributes(vec![pair("a", text("b")); 5]);
    let body = request(vec![span(), many]).encode_to_vec();
    let (checked, _) = decode(&body, &few).expect("accepted");
    assert_eq!((checked.accepted, checked.rejected), (1, 1));
}

#[test]
fn cutting_limits_cut_on_a_character_boundary_flag_and_count() {
    let mut cutting = protobuf();
    cutting.limits.attributes = 2;
    cutting.limits.value_bytes = 3;
    let span = with_attributes(vec![
        pair("a", text("éé")),
        pair("b", value(Any::BytesValue(vec![0; 4]))),
        pair("c", text("x")),
    ]);
    let (checked, rows) = decode(&request(vec![span]).encode_to_vec(), &cutting).expect("accepted");
    assert_eq!(
        rows.events[0].metadata,
        r#"{"attributes": {"a": "é", "b": {"$bytes": "AAAA"}}}"#
    );
    assert_eq!(
        (rows.events[0].flags, checked.sanitized.cut),
        (EventFlags::CUT, 3)
    );
    assert!(rows.resources[0].resource.contains("shop"));
}

#[test]
fn random_bytes_and_every_cut_of_a_request_are_refused_or_less_of_it() {
    assert!(matches!(
        decode(b"\xff\xff\xff", &protobuf()),
        Err(DecodeError::Malformed { .. })
    ));
    assert!(matches!(
        decode(&[0x08, 0x01], &protobuf()),
        Err(DecodeError::Malformed { .. })
    ));
    let whole = request(vec![with_attributes(vec![pair("a", text("b"))])]).encode_to_vec();
    for len in 1..whole.len() {
        let cut = decode(&whole[..len], &protobuf());
        assert!(
            matches!(cut, Err(DecodeError::Malformed { .. })),
            "cut at {len}"
        );
    }
}

#[test]
fn a_request_of_another_signal_is_refused_or_empty() {
    // A log record's attributes have the field number of a span's kind, which has another wire type.
    let log = [field(6, b"x"), field(5, b"body"), field(9, &[1; 16])].concat();
    let body = around(&log);
    assert!(decode(&body, &protobuf()).is_err());
}

#[test]
fn the_largest_depth_that_can_be_set_is_a_limit_too() {
    let nested = |levels: usize| {
        let value = (1..levels).fold(field(1, b"x"), |inner, _| field(5, &field(1, &inner)));
        let attribute = [field(1, b"k"), field(2, &value)].concat();
        around(&[span().encode_to_vec(), field(9, &attribute)].concat())
    };
    let mut deepest = protobuf();
    deepest.limits.depth = u8::MAX;
    assert!(decode(&nested(255), &deepest).is_ok());
    for levels in [256, 300, 5_000] {
        assert!(matches!(
            decode(&nested(levels), &deepest),
            Err(DecodeError::Invalid(_))
        ));
    }
}
