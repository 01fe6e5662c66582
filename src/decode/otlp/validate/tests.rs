//! Tests of validation.

use super::*;
use crate::decode::json::json_text::json_string;
use crate::decode::otlp::any_value::{ValueStyle, any_value};
use crate::decode::otlp::schema::{ANY_VALUE, KEY_VALUE};
use crate::decode::protobuf::WRONG_TYPE;
use crate::event::{Encoding, Signal};

fn source() -> Source {
    Source {
        signal: Signal::Span,
        encoding: Encoding::Protobuf,
        partial: false,
        received_unix_nano: 0,
        limits: Limits::default(),
        version: crate::decode::VERSION,
    }
}

/// An AnyValue within `levels - 1` arrays.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = vec![];
    for _ in 1..levels {
        for _ in 0..2 {
            let mut outer = vec![0x0a];
            let mut len = value.len();
            while len >= 0x80 {
                outer.push(u8::try_from(len & 0x7f).expect("seven bits") | 0x80);
                len >>= 7;
            }
            outer.push(u8::try_from(len).expect("seven bits"));
            outer.extend_from_slice(&value);
            value = outer;
        }
        value[0] = 0x2a;
    }
    value
}

#[test]
fn depth_counts_values_and_stops_at_the_limit() {
    let source = source();
    assert!(ValidItem::of(&nested(24), &ANY_VALUE, &source).is_ok());
    for levels in [25, 2_000] {
        let fault = ValidItem::of(&nested(levels), &ANY_VALUE, &source).expect_err("too deep");
        assert_eq!(fault, Invalid::TooDeep);
    }
}

#[test]
fn nodes_are_counted_before_anything_is_made_of_them() {
    let mut source = source();
    source.limits.nodes = 3;
    // A key-value list of empty members: itself, its list, and each member.
    let list = |members: usize| {
        [
            &[0x32, u8::try_from(2 * members).expect("small")][..],
            &[0x0a, 0].repeat(members),
        ]
        .concat()
    };
    assert!(ValidItem::of(&list(1), &ANY_VALUE, &source).is_ok());
    let fault = ValidItem::of(&list(2), &ANY_VALUE, &source).expect_err("too many");
    assert_eq!(fault, Invalid::TooManyNodes);
}

#[test]
fn what_is_written_is_a_few_times_as_long_but_for_what_swells() {
    let source = source();
    let style = ValueStyle::row(&source.limits);
    let array = |value: &[u8]| {
        let element = [&[0x0a, u8::try_from(value.len()).expect("short")], value].concat();
        [
            &[0x2a, u8::try_from(10 * element.len()).expect("short")][..],
            &element.repeat(10),
        ]
        .concat()
    };
    let double = |bits: u64| array(&[&[0x21][..], &bits.to_le_bytes()].concat());
    let mut values = vec![
        array(b""),
        array(&[0x10, 1]),
        double(0),
        double(f64::NAN.to_bits()),
    ];
    for byte in 0..=0x7f {
        values.push([&[0x0a, 100][..], &[byte; 100]].concat());
    }
    for exponent in 0..0x7ff {
        values.extend([0, 1, 0xf_3333_3333_3333].map(|digits| double(exponent << 52 | digits)));
    }
    for value in values {
        let valid = ValidItem::of(&value, &ANY_VALUE, &source).expect("a value");
        let out = json_string(|out| any_value(out, &value, &style));
        assert!(
            out.len() <= 5 * value.len() + valid.expansion_bytes,
            "{out}"
        );
        assert!(valid.expansion_bytes <= 5 * out.len(), "{out}");
    }
}

#[test]
fn invalid_text_is_repaired_byte_for_byte_in_a_copy() {
    let source = source();
    let bytes = [0x0a, 5, b'a', 0xff, 0xe2, 0x82, b'b'];
    let valid = ValidItem::of(&bytes, &KEY_VALUE, &source).expect("a key");
    assert_eq!(&valid.item[..], [0x0a, 5, b'a', b'?', b'?', b'?', b'b']);
    assert_eq!(valid.repairs.utf8, 1);
}

#[test]
fn a_known_field_of_another_wire_type_is_malformed_and_an_unknown_one_is_not() {
    let source = source();
    let fault = ValidItem::of(&[0x08, 1], &KEY_VALUE, &source).expect_err("a key is text");
    assert_eq!(fault, Invalid::Malformed(WRONG_TYPE));
    assert!(ValidItem::of(&[0x78, 1], &KEY_VALUE, &source).is_ok());
}
