//! Tests of requests whose rows are made without a second validation.

use prost::Message as _;

use crate::decode::tests::log_records::{record, request as logs};
use crate::decode::tests::metric_points::{gauge, point, request as metrics};
use crate::decode::tests::spans::{pair, request as spans, span, text};
use crate::decode::tests::*;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

fn is_clean(signal: Signal, body: &[u8]) -> bool {
    let (checked, _) = decode(body, &source(signal, Encoding::Protobuf)).expect("accepted");
    checked.is_clean
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("short");
    assert!(len < 0x80);
    [&[number << 3 | 2, len], bytes].concat()
}

#[test]
fn a_request_that_is_stored_as_it_was_sent_is_clean() {
    let mut with_texts = span();
    with_texts.name = "é\u{1f600}\"\\\n".to_owned();
    with_texts.attributes = vec![pair("ключ", text("значение")), pair("$a", text("b"))];
    for (signal, body) in [
        (
            Signal::Span,
            spans(vec![span(), with_texts]).encode_to_vec(),
        ),
        (Signal::Log, logs(vec![record()]).encode_to_vec()),
        (
            Signal::Metric,
            metrics(vec![gauge(vec![point()])]).encode_to_vec(),
        ),
    ] {
        assert!(is_clean(signal, &body), "{signal:?}");
    }
    let json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
        "spanId":"0102030405060708","startTimeUnixNano":"1799999999000000000","name":"a"}]}]}]}"#;
    let (checked, _) = decode(json, &source(Signal::Span, Encoding::Json)).expect("accepted");
    assert!(checked.is_clean);
    let native = br#"{"correlationId":"c","integration":"i","eventType":"e"}"#;
    let (checked, _) = decode(native, &source(Signal::Event, Encoding::Json)).expect("accepted");
    assert!(!checked.is_clean, "native events are always validated");
}

#[test]
fn a_request_of_which_anything_was_changed_or_rejected_is_not_clean() {
    let of = |change: &dyn Fn(&mut _)| {
        let mut changed = span();
        change(&mut changed);
        spans(vec![span(), changed]).encode_to_vec()
    };
    let double = |value| AnyValue {
        value: Some(Any::DoubleValue(value)),
    };
    let spans_of = |resource: &[u8], scope: &[u8], item: &[u8]| {
        let scope_spans = [field(1, scope), field(2, item)].concat();
        field(1, &[field(1, resource), field(2, &scope_spans)].concat())
    };
    let ids = [
        field(1, &[1; 16]),
        field(2, &[2; 8]),
        [&[0x39][..], &1_799_999_999_000_000_000_u64.to_le_bytes()].concat(),
    ]
    .concat();
    assert!(is_clean(Signal::Span, &spans_of(b"", b"", &ids)));
    let in_pieces = |number: u8| [field(number, b""), field(number, b"")].concat();
    let (no_text, nul) = (field(1, b"\xff"), field(1, b"a\0"));
    for (change, body) in [
        ("a rejected span", of(&|span| span.trace_id.clear())),
        ("no time", of(&|span| span.start_time_unix_nano = 0)),
        ("a NUL", of(&|span| span.name = "a\0".to_owned())),
        ("a cut name", of(&|span| span.name = "n".repeat(256))),
        (
            "a double of many digits",
            of(&|span| {
                span.attributes = (0..20).map(|_| pair("k", double(1e300))).collect();
            }),
        ),
        ("a scope's text", spans_of(b"", &no_text, &ids)),
        ("a scope's NUL", spans_of(b"", &nul, &ids)),
        (
            "a resource's attribute in pieces",
            spans_of(&field(1, &in_pieces(2)), b"", &ids),
        ),
        (
            "a status in pieces",
            spans_of(b"", b"", &[&ids[..], &in_pieces(15)].concat()),
        ),
        (
            "a status that is no text",
            spans_of(
                b"",
                b"",
                &[&ids[..], &field(15, &field(2, b"\xff"))].concat(),
            ),
        ),
    ] {
        assert!(!is_clean(Signal::Span, &body), "{change}");
    }
}

/// The flag comes from a file. A wrong one must not bring into a row what a store refuses.
#[test]
fn bytes_that_are_not_clean_end_in_an_error_or_in_rows_that_can_be_stored() {
    let deep = (0..2_000).fold(vec![], |value: Vec<u8>, _| {
        let mut outer = vec![0x2a];
        let element = [&[0x0a][..], &varint(value.len()), &value].concat();
        outer.extend(varint(element.len()));
        outer.extend(element);
        outer
    });
    let deep_pair = [
        field(1, b"k"),
        [&[0x12][..], &varint(deep.len()), &deep].concat(),
    ]
    .concat();
    let ids = [field(1, &[1; 16]), field(2, &[2; 8])].concat();
    for item in [
        field(5, b"\xff"),
        field(9, &[field(1, b"\xff"), field(2, &field(1, b"v"))].concat()),
        field(9, &[field(1, b"k"), field(2, &field(1, b"\xc3"))].concat()),
        field(11, &field(2, b"\xf0\x9f")),
        field(15, &field(2, b"\xff")),
        [&[0x4a][..], &varint(deep_pair.len()), &deep_pair].concat(),
    ] {
        let item = [&ids[..], &item].concat();
        let spans = [&[0x12][..], &varint(item.len()), &item].concat();
        let scope = [&[0x12][..], &varint(spans.len()), &spans].concat();
        let body = [&[0x0a][..], &varint(scope.len()), &scope].concat();
        let source = source(Signal::Span, Encoding::Protobuf);
        let position = Position {
            stream: StreamId([7; 16]),
            n: 1,
        };
        let unvalidated = clean_events(&body, &source, position, &mut Rows::default());
        assert!(unvalidated.is_err(), "{item:?}");
    }
}

fn varint(value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    crate::decode::protobuf::put_varint(&mut out, value as u64);
    out
}
