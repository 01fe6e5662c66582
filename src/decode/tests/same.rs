//! Requests in one form, so that what was sent and what is exported can be compared.
//!
//! **Invariant:** two requests have the same form exactly when they differ in nothing but what the mapping gives up: the
//! order of items and attributes, earlier values of a key, ids that are not ids, NULs, which NaN it is, and whether a
//! message that says nothing is there.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// What stands around an item.
#[derive(Debug)]
struct Around {
    resource: Resource,
    resource_schema_url: String,
    scope: InstrumentationScope,
    scope_schema_url: String,
}

/// A request's items, each with what stands around it: as bytes, which compare, and as texts to look at.
pub(super) type Form = BTreeMap<Vec<u8>, Vec<String>>;

pub(super) fn spans(request: ExportTraceServiceRequest) -> Form {
    let mut form = Form::new();
    for resource_spans in request.resource_spans {
        let resource = resource(resource_spans.resource);
        for scope_spans in resource_spans.scope_spans {
            let around = Around {
                resource: resource.clone(),
                resource_schema_url: text(&resource_spans.schema_url),
                scope: scope(scope_spans.scope),
                scope_schema_url: text(&scope_spans.schema_url),
            };
            for span in scope_spans.spans {
                if is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) {
                    around.add(&span_form(span), &mut form);
                }
            }
        }
    }
    form
}

impl Around {
    fn add(&self, item: &(impl prost::Message + std::fmt::Debug), form: &mut Form) {
        let mut bytes = Vec::new();
        for part in [
            self.resource.encode_to_vec(),
            self.resource_schema_url.clone().into_bytes(),
            self.scope.encode_to_vec(),
            self.scope_schema_url.clone().into_bytes(),
            item.encode_to_vec(),
        ] {
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend(part);
        }
        let shown = format!("{item:?} in {self:?}");
        form.entry(bytes).or_default().push(shown);
    }
}

fn resource(resource: Option<Resource>) -> Resource {
    let mut resource = resource.unwrap_or_default();
    attributes(&mut resource.attributes);
    for entity in &mut resource.entity_refs {
        entity.schema_url = text(&entity.schema_url);
        entity.r#type = text(&entity.r#type);
        for key in entity
            .id_keys
            .iter_mut()
            .chain(&mut entity.description_keys)
        {
            *key = text(key);
        }
    }
    resource
}

fn scope(scope: Option<InstrumentationScope>) -> InstrumentationScope {
    let mut scope = scope.unwrap_or_default();
    scope.name = text(&scope.name);
    scope.version = text(&scope.version);
    attributes(&mut scope.attributes);
    scope
}

fn span_form(mut span: Span) -> Span {
    id(&mut span.parent_span_id, 8);
    span.trace_state = text(&span.trace_state);
    span.name = text(&span.name);
    attributes(&mut span.attributes);
    for event in &mut span.events {
        event.name = text(&event.name);
        attributes(&mut event.attributes);
    }
    for link in &mut span.links {
        id(&mut link.trace_id, 16);
        id(&mut link.span_id, 8);
        link.trace_state = text(&link.trace_state);
        attributes(&mut link.attributes);
    }
    let mut status = span.status.unwrap_or_default();
    status.message = text(&status.message);
    span.status = Some(status);
    span
}

fn attributes(pairs: &mut Vec<KeyValue>) {
    let mut last = BTreeMap::new();
    for pair in pairs.drain(..) {
        last.insert(text(&pair.key), value(pair.value.unwrap_or_default()));
    }
    pairs.extend(last.into_iter().map(|(key, value)| KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    }));
}

fn value(mut value: AnyValue) -> AnyValue {
    match &mut value.value {
        Some(Any::StringValue(held)) => *held = text(held),
        Some(Any::DoubleValue(double)) if double.is_nan() => *double = f64::NAN,
        Some(Any::ArrayValue(array)) => {
            for held in &mut array.values {
                *held = self::value(std::mem::take(held));
            }
        }
        Some(Any::KvlistValue(list)) => attributes(&mut list.values),
        _ => {}
    }
    value
}

fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn is_id(id: &[u8], len: usize) -> bool {
    id.len() == len && id.iter().any(|byte| *byte != 0)
}

fn id(id: &mut Vec<u8>, len: usize) {
    if !is_id(id, len) {
        id.clear();
    }
}
