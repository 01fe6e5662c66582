//! Generates requests of every shape, and their JSON as the specification writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

pub(super) fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans =
        (option::of(scope()), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| {
            ScopeSpans {
                scope,
                spans,
                schema_url,
            }
        });
    let resource_spans = (option::of(resource()), vec(scope_spans, 0..3), text()).prop_map(
        |(resource, scope_spans, schema_url)| ResourceSpans {
            resource,
            scope_spans,
            schema_url,
        },
    );
    vec(resource_spans, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

pub(super) fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), id(8), text());
    let plain = (text(), -1..8i32, time(), time());
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    let counts = (any::<u32>(), 0..2u32, 0..2u32, any::<u32>());
    let status = option::of((text(), -1..5i32));
    (ids, plain, lists, counts, status).prop_map(|(ids, plain, lists, counts, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        name: plain.0,
        kind: plain.1,
        start_time_unix_nano: plain.2,
        end_time_unix_nano: plain.3,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        dropped_attributes_count: counts.0,
        dropped_events_count: counts.1,
        dropped_links_count: counts.2,
        flags: counts.3,
        status: status.map(|(message, code)| Status { message, code }),
    })
}

fn event() -> impl Strategy<Value = Event> {
    (time(), text(), attributes(), 0..2u32).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), 0..2u32, 0..2u32).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

/// Generates mostly valid ids, and some that are empty, all zero or too long.
pub(super) fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => vec(1..=255u8, len),
        1 => Just(vec![]),
        1 => Just(vec![0; len]),
        1 => vec(any::<u8>(), len + 1),
    ]
}

pub(super) fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 1_799_000_000_000_000_000..1_800_000_000_000_000_000u64,
        1 => Just(0),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

/// Generates mostly short texts, with all characters that need an escape or a repair, and some long ones.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z.]{0,6}",
        2 => any::<String>(),
        2 => "[\"\\\\/\0\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}$é\u{1f600}]{0,6}",
        1 => "[é]{90,300}",
    ]
}

pub(super) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(value()), 0..5)
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    let key = prop_oneof![
        3 => text(),
        1 => prop::sample::select(vec![
            "correlation_id", "correlation.id", "correlationId", "provider", "db.system",
            "service.name", "cloud.provider", "$bytes", "$", "a", "a", "\0",
        ])
        .prop_map(str::to_owned),
    ];
    (key, option::of(value)).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..KeyValue::default()
    })
}

pub(super) fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Any::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Any::IntValue(value))),
        any::<f64>().prop_map(|value| Some(Any::DoubleValue(value))),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            5e-324,
            f64::MAX
        ])
        .prop_map(|value| Some(Any::DoubleValue(value))),
        vec(any::<u8>(), 0..6).prop_map(|bytes| Some(Any::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(6, 24, 4, |inner| {
        let array =
            vec(inner.clone(), 0..4).prop_map(|values| Any::ArrayValue(ArrayValue { values }));
        let list = vec(key_value(inner), 0..4)
            .prop_map(|values| Any::KvlistValue(KeyValueList { values }));
        prop_oneof![array, list].prop_map(|value| AnyValue { value: Some(value) })
    })
}

/// Returns a request in the JSON encoding of the specification.
pub(super) fn to_json(request: &ExportTraceServiceRequest) -> Value {
    let resources = list(&request.resource_spans, |resource| {
        let scopes = list(&resource.scope_spans, |scope| {
            object([
                (
                    "scope",
                    scope.scope.as_ref().map_or(Value::Null, scope_json),
                ),
                ("spans", list(&scope.spans, span_json)),
                ("schemaUrl", json!(scope.schema_url)),
            ])
        });
        object([
            ("scopeSpans", scopes),
            ("schemaUrl", json!(resource.schema_url)),
            (
                "resource",
                resource
                    .resource
                    .as_ref()
                    .map_or(Value::Null, resource_json),
            ),
        ])
    });
    json!({ "resourceSpans": resources })
}

pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.map(|(key, value)| (key.to_owned(), value));
    Value::Object(Map::from_iter(members))
}

pub(super) fn list<T>(items: &[T], json: impl FnMut(&T) -> Value) -> Value {
    Value::Array(items.iter().map(json).collect())
}

pub(super) fn hex(id: &[u8]) -> Value {
    let digits: String = id.iter().map(|byte| format!("{byte:02X}")).collect();
    Value::String(digits)
}

pub(super) fn resource_json(resource: &Resource) -> Value {
    let entities = list(&resource.entity_refs, |entity| {
        json!({
            "schemaUrl": entity.schema_url,
            "type": entity.r#type,
            "idKeys": entity.id_keys,
            "descriptionKeys": entity.description_keys,
        })
    });
    json!({
        "attributes": attributes_json(&resource.attributes),
        "droppedAttributesCount": resource.dropped_attributes_count,
        "entityRefs": entities,
    })
}

pub(super) fn scope_json(scope: &InstrumentationScope) -> Value {
    json!({
        "name": scope.name,
        "version": scope.version,
        "attributes": attributes_json(&scope.attributes),
        "droppedAttributesCount": scope.dropped_attributes_count,
    })
}

fn span_json(span: &Span) -> Value {
    let events = list(&span.events, |event| {
        json!({
            "timeUnixNano": event.time_unix_nano.to_string(),
            "name": event.name,
            "attributes": attributes_json(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })
    });
    let links = list(&span.links, |link| {
        json!({
            "traceId": hex(&link.trace_id),
            "spanId": hex(&link.span_id),
            "traceState": link.trace_state,
            "attributes": attributes_json(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count,
            "flags": link.flags,
        })
    });
    let status = span.status.as_ref().map_or(
        Value::Null,
        |status| json!({"message": status.message, "code": status.code}),
    );
    json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "parentSpanId": hex(&span.parent_span_id),
        "traceState": span.trace_state,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano,
        "attributes": attributes_json(&span.attributes),
        "events": events,
        "links": links,
        "droppedAttributesCount": span.dropped_attributes_count,
        "droppedEventsCount": span.dropped_events_count,
        "droppedLinksCount": span.dropped_links_count.to_string(),
        "flags": span.flags,
        "status": status,
    })
}

pub(super) fn attributes_json(attributes: &[KeyValue]) -> Value {
    list(attributes, |pair| {
        json!({
            "key": pair.key,
            "value": pair.value.as_ref().map_or(Value::Null, value_json),
        })
    })
}

pub(super) fn value_json(value: &AnyValue) -> Value {
    match &value.value {
        None | Some(Any::StringValueStrindex(_)) => json!({}),
        Some(Any::StringValue(text)) => json!({"stringValue": text}),
        Some(Any::BoolValue(value)) => json!({"boolValue": value}),
        Some(Any::IntValue(value)) => json!({"intValue": value.to_string()}),
        Some(Any::DoubleValue(value)) if value.is_nan() => json!({"doubleValue": "NaN"}),
        Some(Any::DoubleValue(value)) if value.is_infinite() => {
            json!({"doubleValue": if *value > 0.0 { "Infinity" } else { "-Infinity" }})
        }
        Some(Any::DoubleValue(value)) => json!({"doubleValue": value}),
        Some(Any::BytesValue(bytes)) => json!({"bytesValue": STANDARD.encode(bytes)}),
        Some(Any::ArrayValue(array)) => {
            json!({"arrayValue": {"values": list(&array.values, value_json)}})
        }
        Some(Any::KvlistValue(array)) => {
            json!({"kvlistValue": {"values": attributes_json(&array.values)}})
        }
    }
}
