//! Tests of spans in protobuf: the mapping to rows.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as SpanEvent, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use crate::decode::tests::*;
use crate::event::EventFlags;

pub(super) const START: u64 = 1_799_999_999_123_456_789;

pub(super) fn protobuf() -> Source {
    source(Signal::Span, Encoding::Protobuf)
}

pub(super) fn span() -> Span {
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

pub(super) fn value(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(super) fn text(text: &str) -> AnyValue {
    value(Any::StringValue(text.to_owned()))
}

pub(super) fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

pub(super) fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
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

pub(super) fn rows(spans: Vec<Span>) -> (DecodeReport, Rows) {
    decode(&request(spans).encode_to_vec(), &protobuf()).expect("accepted")
}

pub(super) fn one(span: Span) -> Event<'static> {
    let (checked, rows) = rows(vec![span]);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one row")
}

pub(super) fn with_attributes(attributes: Vec<KeyValue>) -> Span {
    Span {
        attributes,
        ..span()
    }
}

/// Returns a length-delimited field.
pub(super) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// Returns a request around one span's bytes.
pub(super) fn around(span: &[u8]) -> Vec<u8> {
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
        let mut flags = EventFlags::TIME_REPLACED;
        flags.insert(EventFlags::END_INVALID);
        assert_eq!(event.flags, flags);
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
    let (checked, rows) = decode(&request.encode_to_vec(), &protobuf()).expect("accepted");
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
    assert_eq!((checked.sanitized.cut, event.flags), (4, EventFlags::CUT));
}

#[test]
fn equal_resources_have_one_id_whatever_their_order() {
    let with = |attributes: Vec<KeyValue>| {
        let mut request = request(vec![span()]);
        request.resource_spans[0].resource = Some(ProtoResource {
            attributes,
            ..ProtoResource::default()
        });
        let (_, rows) = decode(&request.encode_to_vec(), &protobuf()).expect("accepted");
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
    // Every collector of this version derives the same id.
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
    let (_, rows) = decode(&around(&span().encode_to_vec()), &protobuf()).expect("accepted");
    assert_eq!(rows.events[0].integration, "unknown_service");
    assert_eq!(
        (&*rows.resources[0].resource, &*rows.resources[0].scope),
        ("{}", "{}")
    );
}

#[test]
fn a_resource_after_its_scopes_still_counts() {
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
    let (_, rows) = decode(&body, &protobuf()).expect("accepted");
    assert_eq!(rows.events[0].integration, "late");
    assert_eq!(rows.resources[0].scope, r#"{"name": "lib"}"#);
}

#[test]
fn a_resource_that_cannot_be_accepted_rejects_its_spans_alone() {
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
    let (checked, rows) = decode(&both.encode_to_vec(), &protobuf()).expect("accepted");
    assert_eq!(
        (checked.accepted, checked.rejected, rows.resources.len()),
        (1, 2, 1)
    );
    assert_eq!(checked.rejections[0].field.as_deref(), Some("resource"));
}
