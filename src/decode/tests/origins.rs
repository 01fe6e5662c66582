//! Tests of resources and scopes: the flags of their items, and the limit of their bytes.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use prost::Message as _;

use crate::decode::tests::spans::{pair, protobuf, request, span, text, value};
use crate::decode::tests::*;
use crate::event::EventFlags;

#[test]
fn a_repaired_resource_or_scope_flags_its_items_and_no_others() {
    let mut resource = request(vec![span()]);
    resource.resource_spans[0].schema_url = "a\0b".to_owned();
    let mut scope = request(vec![span()]);
    let one = &mut scope.resource_spans[0].scope_spans[0];
    one.scope.as_mut().expect("it has one").name = "a\0b".to_owned();
    let mut all = request(vec![span()]);
    all.resource_spans.extend(resource.resource_spans);
    all.resource_spans.extend(scope.resource_spans);
    let (checked, rows) = decode(&all.encode_to_vec(), &protobuf()).expect("accepted");
    let flags: Vec<_> = rows.events.iter().map(|event| event.flags).collect();
    assert_eq!(
        flags,
        [
            EventFlags::default(),
            EventFlags::TEXT_REPAIRED,
            EventFlags::TEXT_REPAIRED
        ]
    );
    assert_eq!(checked.sanitized.nul, 2);
}

/// Returns a request with one resource with that attribute, and `count` scopes with a span each.
fn scopes(attribute: AnyValue, count: usize) -> ExportTraceServiceRequest {
    let mut request = request(vec![span()]);
    let all = &mut request.resource_spans[0];
    let resource = all.resource.as_mut().expect("it has one");
    resource.attributes = vec![pair("a", attribute)];
    all.scope_spans = vec![all.scope_spans[0].clone(); count];
    request
}

/// A resource is stored once for each of its scopes, and counts with the bytes of its stored form.
#[test]
fn a_large_resource_with_very_many_scopes_does_not_multiply() {
    let doubles = vec![value(Any::DoubleValue(5e-324)); 10_000];
    for (attribute, most) in [
        (text(&"x".repeat(1 << 20)), 64),
        (value(Any::ArrayValue(ArrayValue { values: doubles })), 24),
    ] {
        let body = scopes(attribute, 70).encode_to_vec();
        let checked = check(&body, &protobuf()).expect("some are accepted");
        let taken = checked.accepted;
        assert!((most - 4..=most).contains(&taken), "{taken} of {most}");
        assert_eq!(checked.accepted + checked.rejected, 70);
        assert_eq!(checked.rejections[0].field.as_deref(), Some("resource"));
    }
}
