//! A walk that follows a message's table field by field, beside which validation and the places of fields are tested.

use std::borrow::Cow;

use proptest::prelude::*;
use prost::Message as _;

use crate::decode::otlp::schema::metric::{
    EXPONENTIAL_POINT, HISTOGRAM_POINT, METRIC, NUMBER_POINT, SUMMARY_POINT,
};
use crate::decode::otlp::schema::{
    ANY_VALUE, FieldType, KEY_VALUE, LOG_RECORD, MessageSchema, RESOURCE, SCOPE, SPAN,
};
use crate::decode::otlp::validate::{Invalid, ValidItem, repair};
use crate::decode::protobuf::{FieldValue, ProtobufReader, WRONG_TYPE, packed_fixed64};
use crate::decode::tests::{generate, generate_logs, generate_metrics, source};
use crate::event::{Encoding, Limits, Sanitized, Signal};

/// The measurements of one message.
#[derive(Debug, PartialEq)]
struct Measured {
    repairs: Sanitized,
    longest_value_bytes: usize,
    /// Names of numbers, and control characters; not digits of doubles and not empty values.
    expansion_bytes: usize,
    nodes: usize,
    repaired: Vec<u8>,
}

/// Measures a message and the messages in it.
fn walk(
    whole: &[u8],
    bytes: &[u8],
    schema: &'static MessageSchema,
    level: u16,
    limits: &Limits,
    seen: &mut Measured,
) -> Result<(), Invalid> {
    let count = |seen: &mut Measured, nodes: usize| {
        seen.nodes += nodes;
        if seen.nodes > usize::try_from(limits.nodes).expect("small") {
            return Err(Invalid::TooManyNodes);
        }
        Ok(())
    };
    count(seen, 1)?;
    let level = level + u16::from(schema.is_value);
    if level > limits.depth.into() {
        return Err(Invalid::TooDeep);
    }
    let mut attributes = 0;
    let mut reader = ProtobufReader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        let Some(field) = schema.fields.iter().find(|field| field.number == number) else {
            continue;
        };
        if let (FieldType::Text | FieldType::Bytes, FieldValue::Bytes(value), true) =
            (field.kind, value, schema.is_value)
        {
            let limit = usize::try_from(limits.value_bytes).expect("small");
            seen.longest_value_bytes = seen.longest_value_bytes.max(value.len());
            seen.repairs.cut += u32::from(limit != 0 && value.len() > limit);
        }
        match (field.kind, value) {
            (FieldType::Text, FieldValue::Bytes(text)) => {
                seen.repairs.nul += u32::from(text.contains(&0));
                let escapes = text.iter().map(|byte| match byte {
                    b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
                    0 => 2,
                    1..=0x1f => 5,
                    _ => 0,
                });
                seen.expansion_bytes += escapes.sum::<usize>();
                if std::str::from_utf8(text).is_err() {
                    seen.repairs.utf8 += 1;
                    let at = text.as_ptr().addr() - whole.as_ptr().addr();
                    repair(&mut seen.repaired[at..at + text.len()]);
                }
            }
            (FieldType::Message(inner), FieldValue::Bytes(bytes)) => {
                let (cut, longest) = (seen.repairs.cut, seen.longest_value_bytes);
                walk(whole, bytes, inner, level, limits, seen)?;
                match field.name {
                    "body" => (seen.repairs.cut, seen.longest_value_bytes) = (cut, longest),
                    "attributes" => {
                        attributes += 1;
                        let is_cut = limits.attributes != 0 && attributes > limits.attributes;
                        seen.repairs.cut += u32::from(is_cut);
                    }
                    _ => {}
                }
            }
            (FieldType::Double | FieldType::Fixed64, FieldValue::Bytes(packed))
                if field.repeated =>
            {
                count(seen, packed_fixed64(packed)?.len())?;
            }
            (FieldType::Uint64, FieldValue::Bytes(packed)) if field.repeated => {
                let mut numbers = ProtobufReader::new(packed);
                while numbers.packed_varint()?.is_some() {
                    count(seen, 1)?;
                }
            }
            (FieldType::Double | FieldType::Fixed64, FieldValue::Fixed64(_))
            | (FieldType::Uint64, FieldValue::Varint(_)) => {
                count(seen, usize::from(field.repeated))?;
            }
            (FieldType::StringReference, FieldValue::Varint(_)) => {
                seen.repairs.string_reference += 1;
            }
            (FieldType::Uint32, FieldValue::Varint(_)) => seen.expansion_bytes += field.name.len(),
            (FieldType::Bytes | FieldType::Id, FieldValue::Bytes(_))
            | (
                FieldType::Bool | FieldType::Int64 { .. } | FieldType::Sint32 | FieldType::Enum(_),
                FieldValue::Varint(_),
            )
            | (FieldType::Sfixed64 { .. }, FieldValue::Fixed64(_))
            | (FieldType::Fixed32, FieldValue::Fixed32(_)) => {}
            _ => return Err(WRONG_TYPE.into()),
        }
    }
    Ok(())
}

/// Asserts that validation agrees with the walk on a message of that type.
fn assert_agrees(message: &[u8], schema: &'static MessageSchema, limits: Limits) {
    let mut source = source(Signal::Span, Encoding::Protobuf);
    source.limits = limits;
    source.version = 1; // which merges no pieces
    let mut expected = Measured {
        repairs: Sanitized::default(),
        longest_value_bytes: 0,
        expansion_bytes: 0,
        nodes: 0,
        repaired: message.to_vec(),
    };
    let walked = walk(message, message, schema, 0, &limits, &mut expected);
    let valid = match (ValidItem::of(message, schema, &source), walked) {
        (Ok(valid), Ok(())) => valid,
        (valid, walked) => return assert_eq!(valid.err(), walked.err()),
    };
    assert_eq!(valid.repairs, expected.repairs);
    assert_eq!(valid.longest_value_bytes, expected.longest_value_bytes);
    assert!(valid.expansion_bytes >= expected.expansion_bytes);
    assert_eq!(valid.item, Cow::Borrowed(&expected.repaired[..]));
}

const SCHEMAS: [&MessageSchema; 11] = [
    &SPAN,
    &LOG_RECORD,
    &NUMBER_POINT,
    &HISTOGRAM_POINT,
    &EXPONENTIAL_POINT,
    &SUMMARY_POINT,
    &METRIC,
    &RESOURCE,
    &SCOPE,
    &KEY_VALUE,
    &ANY_VALUE,
];

/// Returns the messages of all depths in a request, which are those of its length-delimited fields.
fn messages_in(message: &[u8]) -> Vec<&[u8]> {
    let mut found = vec![message];
    let mut reader = ProtobufReader::new(message);
    while let Ok(Some((_, value))) = reader.field() {
        if let FieldValue::Bytes(bytes) = value {
            found.extend(messages_in(bytes));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn validation_agrees_with_a_walk_by_the_schema(
        spans in generate::request(),
        logs in generate_logs::request(),
        metrics in generate_metrics::request(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        (nodes, depth, attributes, value_bytes) in (1..60u32, 0..6u8, 0..3u32, 0..5u32),
        is_limited in any::<bool>(),
    ) {
        let mut limits = Limits::default();
        if is_limited {
            limits = Limits { nodes, depth, attributes, value_bytes, ..limits };
        }
        for mut body in [spans.encode_to_vec(), logs.encode_to_vec(), metrics.encode_to_vec()] {
            for (at, byte) in &flips {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
            }
            for message in messages_in(&body) {
                for schema in SCHEMAS {
                    assert_agrees(message, schema, limits);
                }
            }
        }
    }
}

/// Asserts agreement on an attribute with that key and that value.
fn assert_pair_agrees(key: &[u8], value: &[u8]) {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        crate::decode::protobuf::put_varint(&mut out, bytes.len() as u64);
        [out, bytes.to_vec()].concat()
    };
    let pair = [field(1, key), field(2, value)].concat();
    for (nodes, depth, value_bytes) in [(9, 9, 0), (2, 1, 0), (1, 1, 0), (9, 0, 0), (9, 9, 3)] {
        let limits = Limits {
            nodes,
            depth,
            value_bytes,
            ..Limits::default()
        };
        for end in 0..=pair.len() {
            assert_agrees(&pair[..end], &KEY_VALUE, limits);
            let nodes = nodes + 1;
            let limits = Limits { nodes, ..limits };
            assert_agrees(&field(9, &pair[..end]), &SPAN, limits);
        }
        // Lengths that are too long or too short by one are among these.
        for (at, step) in (0..pair.len()).flat_map(|at| [(at, 1), (at, u8::MAX)]) {
            let mut odd = pair.clone();
            odd[at] = odd[at].wrapping_add(step);
            assert_agrees(&odd, &KEY_VALUE, limits);
            assert_agrees(&field(9, &odd), &SPAN, limits);
        }
        assert_agrees(&[&pair[..], &[0x18, 1]].concat(), &KEY_VALUE, limits);
        assert_agrees(&field(9, &[&pair[..], &pair].concat()), &SPAN, limits);
        // Attributes that follow each other, and another field among them.
        let plain = field(9, &[field(1, b"k"), field(2, &[0x18, 5])].concat());
        let name = field(5, b"name");
        for nodes in nodes..nodes + 8 {
            for attributes in [0, 1, 2] {
                let limits = Limits {
                    nodes,
                    attributes,
                    ..limits
                };
                let all = [&plain[..], &field(9, &pair), &plain, &name, &plain, &[0x4a]].concat();
                for end in [all.len() - 1, all.len()] {
                    assert_agrees(&all[..end], &SPAN, limits);
                }
            }
        }
    }
}

#[test]
fn an_attribute_is_validated_alike_whatever_its_key_and_value() {
    let text = |text: &[u8]| [&[0x0a, u8::try_from(text.len()).expect("short")], text].concat();
    let values = [
        text(b""),
        text(b"plain"),
        text(b"n\0l"),
        text(&[0xff]),
        text("é".as_bytes()),
        text(&[b'x'; 127]),
        [&[0x0a, 0x80, 1][..], &[b'x'; 128]].concat(),
        [&[0x0a, 0x85, 0][..], b"12345"].concat(),
        vec![0x0a, 3, b'x'],
        vec![0x0a, 1, b'x', b'y'],
        vec![0x18, 5],
        vec![0x18, 5, 5],
        vec![0x18, 0x80, 0x80],
        [&[0x18][..], &[0xff; 9], &[1]].concat(),
        [&[0x18][..], &[0xff; 9], &[2]].concat(),
        vec![0x18],
        vec![0x10, 1],
        vec![],
        vec![0x22, 0],
    ];
    for key in [&b"key"[..], b"", b"\n", &[0xc3], &[b'k'; 130]] {
        for value in &values {
            assert_pair_agrees(key, value);
        }
    }
}
