//! Spans: the mapping to rows, and the rows of the protocol that concern them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as SpanEvent, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::*;
use crate::event::Flags;

const START: u64 = 1_799_999_999_123_456_789;

fn protobuf() -> Source {
    source(Signal::Span, Encoding::Protobuf)
}

fn span() -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        name: "GET /".to_owned(),
        kind: 2,
        start_time_unix_nano: START,
        end_time_unix_nano: START + 1_500,
        ..Span::default()
    }
}

fn value(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn text(text: &str) -> AnyValue {
    value(Any::StringValue(text.to_owned()))
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = ProtoResource {
        attributes: vec![
            pair("service.name", text("shop")),
            pair("cloud.provider", text("aws")),
        ],
        ..ProtoResource::default()
    };
    let scope = InstrumentationScope {
        name: "lib".to_owned(),
        version: "1.0".to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                schema_url: String::new(),
            }],
            schema_url: "https://schema".to_owned(),
        }],
    }
}

fn rows(spans: Vec<Span>) -> (Checked, Rows) {
    decode(&request(spans).encode_to_vec(), &protobuf()).expect("taken")
}

fn one(span: Span) -> Event<'static> {
    let (checked, rows) = rows(vec![span]);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one row")
}

fn with_attributes(attributes: Vec<KeyValue>) -> Span {
    Span {
        attributes,
        ..span()
    }
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A request around one span's bytes.
fn around(span: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, span)))
}

#[test]
fn a_span_fills_the_columns() {
    let event = one(Span {
        parent_span_id: vec![0xab; 8],
        status: Some(Status {
            message: String::new(),
            code: 2,
        }),
        ..span()
    });
    assert_eq!(
        event.trace_id.as_deref(),
        Some("0102030405060708090a0b0c0d0e0f10")
    );
    assert_eq!(event.correlation_id, "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(event.span_id.as_deref(), Some("0102030405060708"));
    assert_eq!(event.parent_span_id.as_deref(), Some("abababababababab"));
    assert_eq!(event.integration, "shop");
    assert_eq!(event.provider.as_deref(), Some("aws"));
    assert_eq!(event.event_type, "span");
    assert_eq!(event.name.as_deref(), Some("GET /"));
    assert_eq!(event.timestamp_ms, 1_799_999_999_123);
    assert_eq!(event.time_unix_nano, Some(1_799_999_999_123_456_789));
    assert_eq!(event.duration_ns, Some(1_500));
    assert_eq!(event.kind, Some(2));
    assert_eq!(event.status.as_deref(), Some("ERROR"));
    assert_eq!(event.metadata, "{}");
    assert!(event.flags.is_empty());
}

#[test]
fn metadata_holds_what_has_no_column_under_protobufs_json_names() {
    let event = one(Span {
        trace_state: "a=b".to_owned(),
        flags: 0xffff_ff01,
        attributes: vec![pair("z", text("1")), pair("b", text("2"))],
        dropped_attributes_count: 1,
        events: vec![SpanEvent {
            time_unix_nano: 5,
            name: "e".to_owned(),
            attributes: vec![pair("k", text("v"))],
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: "c=d".to_owned(),
            attributes: vec![pair("l", text("w"))],
            dropped_attributes_count: 4,
            flags: 1,
        }],
        dropped_links_count: 5,
        status: Some(Status {
            message: "bad".to_owned(),
            code: 7,
        }),
        ..span()
    });
    assert_eq!(
        event.metadata,
        "{\"flags\": 4294967041, \
          \"links\": [{\"flags\": 1, \"spanId\": \"0202020202020202\", \"traceId\": \"01010101010101010101010101010101\", \
          \"attributes\": {\"l\": \"w\"}, \"traceState\": \"c=d\", \"droppedAttributesCount\": 4}], \
          \"events\": [{\"name\": \"e\", \"attributes\": {\"k\": \"v\"}, \"timeUnixNano\": \"5\", \"droppedAttributesCount\": 2}], \
          \"status\": {\"message\": \"bad\"}, \"attributes\": {\"b\": \"2\", \"z\": \"1\"}, \"traceState\": \"a=b\", \
          \"droppedLinksCount\": 5, \"droppedEventsCount\": 3, \"droppedAttributesCount\": 1}"
    );
    assert_eq!(event.status.as_deref(), Some("7"));
}

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
            Checked::default()
        );
    }
    let json = source(Signal::Span, Encoding::Json);
    for body in [
        "",
        "{}",
        " {} ",
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[{}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#,
    ] {
        assert_eq!(
            decode(body.as_bytes(), &json).expect(body).0,
            Checked::default()
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
    let (_, rows) = decode(&body, &protobuf()).expect("taken");
    assert_eq!(
        rows.events[0].metadata,
        r#"{"status": {"message": "m"}, "attributes": {"k": "v"}}"#
    );
    assert_eq!(rows.events[0].integration, "shop");
}

#[test]
fn g5_every_kind_of_value_is_taken_and_can_be_told_apart() {
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
    let (checked, rows) = decode(&body, &protobuf()).expect("taken");
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
        assert_eq!(event.flags, Flags::END_INVALID);
        assert_eq!((event.duration_ns, &*event.metadata), (None, metadata));
    }
}

#[test]
fn a_start_that_cannot_be_used_gives_way_to_the_receive_time() {
    let day = 86_400_000_000_000;
    let limit = u64::try_from(NOW_MS).expect("positive") * 1_000_000 + day;
    for (start, column, metadata) in [
        (0, None, format!(r#"{{"endTimeUnixNano": "{}"}}"#, u64::MAX)),
        (
            u64::MAX,
            None,
            format!(
                r#"{{"endTimeUnixNano": "{0}", "startTimeUnixNano": "{0}"}}"#,
                u64::MAX
            ),
        ),
        (
            limit + 1,
            i64::try_from(limit + 1).ok(),
            format!(r#"{{"endTimeUnixNano": "{}"}}"#, u64::MAX),
        ),
    ] {
        let (checked, rows) = rows(vec![Span {
            start_time_unix_nano: start,
            end_time_unix_nano: u64::MAX,
            ..span()
        }]);
        let event = &rows.events[0];
        assert_eq!(event.timestamp_ms, NOW_MS, "{start}");
        assert_eq!(event.flags, Flags::TIME_REPLACED);
        assert_eq!(
            (event.time_unix_nano, &*event.metadata),
            (column, &*metadata)
        );
        assert_eq!(checked.sanitized.time, 1);
    }
    let event = one(Span {
        start_time_unix_nano: limit,
        end_time_unix_nano: limit,
        ..span()
    });
    assert_eq!(
        (event.timestamp_ms, event.duration_ns),
        (NOW_MS + 86_400_000, Some(0))
    );
    assert!(event.flags.is_empty());
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
fn correlation_id_and_provider_are_looked_up_in_their_order() {
    let event = one(with_attributes(vec![
        pair("correlationId", text("third")),
        pair("correlation.id", text("second")),
        pair("correlation_id", text("")),
        pair("rpc.system", text("grpc")),
        pair("db.system", text("old")),
        pair("db.system.name", text("postgresql")),
    ]));
    assert_eq!(event.correlation_id, "second");
    assert_eq!(event.provider.as_deref(), Some("postgresql"));
    let event = one(with_attributes(vec![pair(
        "correlationId",
        value(Any::IntValue(42)),
    )]));
    assert_eq!(event.correlation_id, "42");
}

#[test]
fn long_values_are_cut_in_the_column_and_whole_beside_it() {
    let long = "é".repeat(300);
    let mut request = request(vec![Span {
        name: long.clone(),
        attributes: vec![
            pair("correlation_id", text(&long)),
            pair("provider", text(&long)),
        ],
        ..span()
    }]);
    request.resource_spans[0].resource = Some(ProtoResource {
        attributes: vec![pair("service.name", text(&long))],
        ..ProtoResource::default()
    });
    let (checked, rows) = decode(&request.encode_to_vec(), &protobuf()).expect("taken");
    let event = &rows.events[0];
    assert_eq!(event.name.as_deref(), Some(&*"é".repeat(255)));
    assert_eq!(event.correlation_id, "é".repeat(255));
    assert_eq!(event.provider.as_deref(), Some(&*"é".repeat(100)));
    assert_eq!(event.integration, "é".repeat(100));
    assert!(
        event
            .metadata
            .starts_with(&format!(r#"{{"name": "{long}""#))
    );
    assert!(
        event
            .metadata
            .contains(&format!(r#""correlation_id": "{long}""#))
    );
    assert!(rows.resources[0].resource.contains(&long));
    assert_eq!((checked.sanitized.cut, event.flags), (0, Flags::default()));
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
        (Flags::TEXT_REPAIRED, 2)
    );

    let attribute = [field(1, b"k\xff"), field(2, &field(1, b"a\xe2\x82b"))].concat();
    let body = around(&[span().encode_to_vec(), field(9, &attribute)].concat());
    let (checked, rows) = decode(&body, &protobuf()).expect("taken");
    assert_eq!(rows.events[0].metadata, r#"{"attributes": {"k?": "a??b"}}"#);
    assert_eq!(
        (rows.events[0].flags, checked.sanitized.utf8),
        (Flags::TEXT_REPAIRED, 2)
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
    let (checked, _) = decode(&body, &few).expect("taken");
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
    let (checked, rows) = decode(&request(vec![span]).encode_to_vec(), &cutting).expect("taken");
    assert_eq!(
        rows.events[0].metadata,
        r#"{"attributes": {"a": "é", "b": {"$bytes": "AAAA"}}}"#
    );
    assert_eq!(
        (rows.events[0].flags, checked.sanitized.cut),
        (Flags::CUT, 3)
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
    // An attribute of a log record stands where a span has its dropped count.
    let log = [field(6, b"x"), field(5, b"body"), field(9, &[1; 16])].concat();
    let body = around(&log);
    assert!(decode(&body, &protobuf()).is_err());
}

#[test]
fn equal_resources_have_one_id_whatever_their_order() {
    let with = |attributes: Vec<KeyValue>| {
        let mut request = request(vec![span()]);
        request.resource_spans[0].resource = Some(ProtoResource {
            attributes,
            ..ProtoResource::default()
        });
        let (_, rows) = decode(&request.encode_to_vec(), &protobuf()).expect("taken");
        rows.resources[0].id
    };
    let (a, b) = (pair("long.key", text("1")), pair("b", text("2")));
    assert_eq!(
        with(vec![a.clone(), b.clone()]),
        with(vec![b.clone(), a.clone()])
    );
    assert_ne!(with(vec![a.clone(), b]), with(vec![a]));
}

#[test]
fn a_resource_is_stored_with_its_scope_in_jsonb_order() {
    let (_, rows) = rows(vec![span(), span()]);
    assert_eq!(rows.resources.len(), 1);
    assert_eq!(
        rows.resources[0].resource,
        r#"{"schemaUrl": "https://schema", "attributes": {"service.name": "shop", "cloud.provider": "aws"}}"#
    );
    assert_eq!(
        rows.resources[0].scope,
        r#"{"name": "lib", "version": "1.0"}"#
    );
    // As every collector of this version derives it.
    let hex: String = rows.resources[0]
        .id
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, "05e1d2fdadc5c1947632bf181a411dbf");
}

#[test]
fn a_span_without_a_resource_belongs_to_an_unknown_service() {
    let (_, rows) = decode(&around(&span().encode_to_vec()), &protobuf()).expect("taken");
    assert_eq!(rows.events[0].integration, "unknown_service");
    assert_eq!(
        (&*rows.resources[0].resource, &*rows.resources[0].scope),
        ("{}", "{}")
    );
}

#[test]
fn a_resource_that_stands_after_its_scopes_still_counts() {
    let resource = field(
        1,
        &[field(1, b"service.name"), field(2, &field(1, b"late"))].concat(),
    );
    let scope_spans = [
        field(2, &span().encode_to_vec()),
        field(1, &field(1, b"lib")),
    ]
    .concat();
    let body = field(1, &[field(2, &scope_spans), field(1, &resource)].concat());
    let (_, rows) = decode(&body, &protobuf()).expect("taken");
    assert_eq!(rows.events[0].integration, "late");
    assert_eq!(rows.resources[0].scope, r#"{"name": "lib"}"#);
}

#[test]
fn a_resource_that_cannot_be_taken_rejects_its_spans_alone() {
    let deep = (1..30).fold(text("x"), |inner, _| {
        value(Any::ArrayValue(ArrayValue {
            values: vec![inner],
        }))
    });
    let mut both = request(vec![span()]);
    let mut bad = request(vec![span(), span()]);
    bad.resource_spans[0].resource = Some(ProtoResource {
        attributes: vec![pair("a", deep)],
        ..ProtoResource::default()
    });
    both.resource_spans.extend(bad.resource_spans);
    let (checked, rows) = decode(&both.encode_to_vec(), &protobuf()).expect("taken");
    assert_eq!(
        (checked.accepted, checked.rejected, rows.resources.len()),
        (1, 2, 1)
    );
    assert_eq!(checked.rejections[0].field.as_deref(), Some("resource"));
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
