//! Tests of properties over generated input. `PROPTEST_CASES` sets the number of cases.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;

use crate::decode::json::json_number;
use crate::decode::json::json_reader::JsonReader;
use crate::decode::json::json_text::json_string;
use crate::decode::json::json_writer;
use crate::decode::json::normalize::Normalizer;
use crate::decode::tests::generate::{request, to_json};
use crate::decode::tests::{generate_logs, generate_metrics, *};

fn normalised(text: &str) -> Option<String> {
    let mut reader = JsonReader::new(text);
    let (_, contents) = reader.skip().ok()?;
    if contents.has_long_number || contents.lone_surrogates > 0 || contents.depth > 100 {
        return None;
    }
    Some(json_string(|out| {
        Normalizer::default()
            .value(&mut JsonReader::new(text), out)
            .expect("what was skipped is written");
    }))
}

/// Asserts that the keys of objects are in JSONB's order, each once.
fn assert_ordered(value: &serde_json::value::RawValue) {
    let text = value.get();
    let mut reader = JsonReader::new(text);
    let mut keys: Vec<Cow<'_, str>> = Vec::new();
    reader.object().expect("an object");
    while let Some(key) = reader.next_key().expect("valid") {
        keys.push(key.decode());
        reader.skip().expect("valid");
    }
    assert!(
        keys.windows(2)
            .all(|two| json_writer::key_order(two[0].as_bytes(), two[1].as_bytes()).is_lt()),
        "{keys:?}"
    );
}

/// Asserts that a request's two encodings make the same rows, and that their JSON is normalised.
fn assert_same_rows(signal: Signal, protobuf: &[u8], json: &str) {
    let mut protobuf = decode(protobuf, &source(signal, Encoding::Protobuf));
    let json = decode(json.as_bytes(), &source(signal, Encoding::Json));
    // A request is clean only if its texts do not grow too much beside its own bytes, which differ between the encodings.
    if let (Ok((checked, _)), Ok((json_checked, _))) = (&mut protobuf, &json) {
        checked.is_clean = json_checked.is_clean;
    }
    let (Ok((checked, rows)), Ok((json_checked, json_rows))) = (&protobuf, &json) else {
        assert_eq!(protobuf, json);
        return;
    };
    assert_eq!(checked, json_checked);
    assert_eq!(rows.events, json_rows.events);
    assert_eq!(rows.resources, json_rows.resources);
    for event in &rows.events {
        assert_ordered(serde_json::from_str(&event.metadata).expect("valid JSON"));
        let again = normalised(&event.metadata);
        assert_eq!(again.as_deref(), Some(&*event.metadata));
    }
    for resource in &rows.resources {
        for text in [&resource.resource, &resource.scope] {
            assert_eq!(&normalised(text).expect("valid JSON"), text);
        }
    }
}

fn json_value() -> impl Strategy<Value = String> {
    let key = prop_oneof!["[ab]{0,3}", Just("\\u0000\\ud83d\\ude00\\n".to_owned())];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,10})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string")),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let member =
            (key.clone(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\" :{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5)
                .prop_map(|values| format!("[ {}]", values.join(" ,\n"))),
            prop::collection::vec(member, 0..6)
                .prop_map(|members| format!("{{{} }}", members.join(","))),
        ]
    })
}

proptest! {
    // A failure prints its smallest input; a file of seeds would change the working tree.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_encodings_of_a_request_give_the_same_rows(request in request()) {
        let json = to_json(&request).to_string();
        assert_same_rows(Signal::Span, &request.encode_to_vec(), &json);
    }

    #[test]
    fn both_encodings_of_a_request_with_logs_give_the_same_rows(request in generate_logs::request()) {
        let json = generate_logs::to_json(&request).to_string();
        assert_same_rows(Signal::Log, &request.encode_to_vec(), &json);
    }

    #[test]
    fn both_encodings_of_a_request_with_metrics_give_the_same_rows(request in generate_metrics::request()) {
        let json = generate_metrics::to_json(&request).to_string();
        assert_same_rows(Signal::Metric, &request.encode_to_vec(), &json);
    }

    #[test]
    fn messages_cut_into_pieces_give_the_same_rows(
        request in request(),
        logs in generate_logs::request(),
        metrics in generate_metrics::request(),
        seed in any::<u64>(),
    ) {
        for (signal, body) in [
            (Signal::Span, request.encode_to_vec()),
            (Signal::Log, logs.encode_to_vec()),
            (Signal::Metric, metrics.encode_to_vec()),
        ] {
            let whole = decode(&body, &source(signal, Encoding::Protobuf));
            let pieces = in_pieces(&body, shape_of(signal), &mut Dice(seed));
            let cut = decode(&pieces, &source(signal, Encoding::Protobuf));
            match (whole, cut) {
                (Ok((whole, rows)), Ok((cut, cut_rows))) => {
                    prop_assert_eq!((whole.accepted, whole.rejected), (cut.accepted, cut.rejected));
                    prop_assert_eq!(rows.events, cut_rows.events);
                    prop_assert_eq!(rows.resources, cut_rows.resources);
                }
                (whole, cut) => prop_assert_eq!(whole.is_err(), cut.is_err()),
            }
        }
    }

    #[test]
    fn an_ill_typed_value_costs_at_most_what_is_below_it(
        request in request(),
        logs in generate_logs::request(),
        metrics in generate_metrics::request(),
        at in any::<prop::sample::Index>(),
        odd in prop_oneof![Just("{}"), Just("[]"), Just("true"), Just("\"x\""), Just("-1"), Just("null"), Just("[[7]]")],
    ) {
        for (signal, json) in [
            (Signal::Span, to_json(&request)),
            (Signal::Log, generate_logs::to_json(&logs)),
            (Signal::Metric, generate_metrics::to_json(&metrics)),
        ] {
            let whole = decode(json.to_string().as_bytes(), &source(signal, Encoding::Json));
            let mut changed = json;
            let odd = serde_json::from_str(odd).expect("JSON");
            replace_nth(&mut changed, &mut at.index(200), &odd);
            let text = changed.to_string();
            match decode(text.as_bytes(), &source(signal, Encoding::Json)) {
                Ok((checked, rows)) => {
                    prop_assert_eq!(u32::try_from(rows.events.len()), Ok(checked.accepted));
                    if let Ok((whole, _)) = whole {
                        prop_assert!(checked.accepted <= whole.accepted + whole.rejected + 1);
                    }
                }
                Err(DecodeError::Invalid(checked)) => prop_assert!(checked.rejected > 0),
                Err(error) => prop_assert!(!changed.is_object(), "{} {}", error, text),
            }
        }
    }

    #[test]
    fn a_bit_flipped_anywhere_never_panics_and_both_functions_agree(
        request in request(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
    ) {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let mut body = match encoding {
                Encoding::Protobuf => request.encode_to_vec(),
                _ => to_json(&request).to_string().into_bytes(),
            };
            if body.is_empty() {
                continue;
            }
            for (at, bit) in &flips {
                let at = at.index(body.len());
                body[at] ^= 1 << bit;
            }
            let _ = decode(&body, &source(Signal::Span, encoding));
            // The body is another signal's request, or no longer a request.
            let _ = decode(&body, &source(Signal::Log, encoding));
            let _ = decode(&body, &source(Signal::Metric, encoding));
        }
    }

    #[test]
    fn a_bit_flipped_in_logs_never_panics_and_both_functions_agree(
        request in generate_logs::request(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut body = request.encode_to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let _ = decode(&body, &source(Signal::Log, Encoding::Protobuf));
        }
    }

    #[test]
    fn a_bit_flipped_in_metrics_never_panics_and_both_functions_agree(
        request in generate_metrics::request(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let json = generate_metrics::to_json(&request).to_string().into_bytes();
        for (encoding, mut body) in [
            (Encoding::Protobuf, request.encode_to_vec()),
            (Encoding::Json, json),
        ] {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] ^= 1 << bit;
                let _ = decode(&body, &source(Signal::Metric, encoding));
            }
        }
    }

    #[test]
    fn a_value_that_was_skipped_ends_where_it_ended_before(json in json_value()) {
        let (mut first, mut again) = (JsonReader::new(&json), JsonReader::new(&json));
        prop_assert!(first.skip().is_ok());
        prop_assert!(again.skip_valid().is_ok());
        prop_assert_eq!(first.at(), again.at());
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for (signal, encoding) in [
            (Signal::Span, Encoding::Protobuf),
            (Signal::Log, Encoding::Protobuf),
            (Signal::Metric, Encoding::Protobuf),
            (Signal::Span, Encoding::Json),
            (Signal::Log, Encoding::Json),
            (Signal::Metric, Encoding::Json),
            (Signal::Event, Encoding::Json),
            (Signal::Event, Encoding::NdJson),
        ] {
            let _ = decode(&body, &source(signal, encoding));
        }
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(body in "[\\[\\]{}\",:\\\\u0deE.+\\- a-c\n]{0,60}") {
        for (signal, encoding) in [
            (Signal::Span, Encoding::Json),
            (Signal::Log, Encoding::Json),
            (Signal::Metric, Encoding::Json),
            (Signal::Event, Encoding::Json),
            (Signal::Event, Encoding::NdJson),
        ] {
            let _ = decode(body.as_bytes(), &source(signal, encoding));
        }
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&body).is_ok();
        let mut reader = JsonReader::new(&body);
        let is_scanned = reader.skip().and_then(|_| reader.end()).is_ok();
        prop_assert_eq!(is_scanned, is_json);
    }

    #[test]
    fn a_number_in_plain_digits_is_the_same_number(
        number in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?",
    ) {
        if let Some(plain) = json_number::plain_digits(&number) {
            prop_assert!(plain.len() <= 400 && !plain.contains(['e', 'E']), "{}", plain);
            let value = |text: &str| text.parse::<f64>().map(|value| value + 0.0);
            prop_assert_eq!(value(&plain), value(&number));
        }
    }

    #[test]
    fn unknown_members_join_the_metadata_and_refuse_and_change_nothing(
        members in prop::collection::vec(("[a-d]{1,2}", json_value()), 0..6),
        metadata in json_value(),
    ) {
        let members: String = members
            .iter()
            .map(|(key, value)| format!(r#","{key}":{value}"#))
            .collect();
        let body = format!(
            r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{{"a":{metadata},"e":1}}{members}}}"#
        );
        let decoded = |version| {
            let source = Source { version, ..source(Signal::Event, Encoding::Json) };
            decode(body.as_bytes(), &source)
        };
        if let Ok((_, before)) = decoded(1) {
            let (_, after) = decoded(VERSION).expect("accepted as before");
            let (before, after) = (&before.events[0].metadata, &after.events[0].metadata);
            prop_assert_eq!(normalised(after), Some(after.to_string()));
            let after = top_level(after);
            for (key, value) in top_level(before) {
                prop_assert_eq!(after[&key].get(), value.get());
            }
        }
    }

    #[test]
    fn normalising_keeps_the_value_and_is_done_at_once(text in json_value()) {
        if let Some(once) = normalised(&text) {
            prop_assert_eq!(normalised(&once), Some(once.clone()));
            let before: serde_json::Value = serde_json::from_str(&text.replace("\\u0000", "\u{fffd}")).expect("valid");
            let after: serde_json::Value = serde_json::from_str(&once).expect("valid");
            prop_assert_eq!(without_numbers(before), without_numbers(after));
        }
    }
}

/// Returns the members of an object, as they are written.
fn top_level(object: &str) -> BTreeMap<String, Box<serde_json::value::RawValue>> {
    serde_json::from_str(object).expect("an object")
}

/// Replaces the n-th value, counted down by `left`, by `odd`. If there are fewer values, returns false with the rest in
/// `left`.
fn replace_nth(value: &mut serde_json::Value, left: &mut usize, odd: &serde_json::Value) -> bool {
    use serde_json::Value;
    let is_done = match value {
        Value::Array(values) => values.iter_mut().any(|value| replace_nth(value, left, odd)),
        Value::Object(members) => members
            .iter_mut()
            .any(|(_, value)| replace_nth(value, left, odd)),
        _ => false,
    };
    if is_done {
        return true;
    }
    if *left == 0 {
        *value = odd.clone();
        return true;
    }
    *left -= 1;
    false
}

/// A generator whose state is one number (Steele, Lea, Flood: `SplitMix64`).
struct Dice(u64);

impl Dice {
    fn is_even(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).count_ones().is_multiple_of(2)
    }
}

/// The type of a message, which determines the embedded messages that may be cut into pieces.
#[derive(Clone, Copy)]
enum Shape {
    Leaf,
    Request(Signal),
    Resources(Signal),
    Scopes(Signal),
    Known(&'static crate::decode::otlp::schema::MessageSchema),
}

const fn shape_of(signal: Signal) -> Shape {
    Shape::Request(signal)
}

impl Shape {
    /// Returns the shape of a field's contents, and whether the field occurs at most once.
    fn field(self, number: u32) -> (Self, bool) {
        use crate::decode::otlp::schema::{FieldType, LOG_RECORD, RESOURCE, SCOPE, SPAN};
        match (self, number) {
            (Self::Request(signal), 1) => (Self::Resources(signal), false),
            (Self::Resources(_), 1) => (Self::Known(&RESOURCE), true),
            (Self::Resources(signal), 2) => (Self::Scopes(signal), false),
            (Self::Scopes(_), 1) => (Self::Known(&SCOPE), true),
            (Self::Scopes(Signal::Span), 2) => (Self::Known(&SPAN), false),
            (Self::Scopes(Signal::Log), 2) => (Self::Known(&LOG_RECORD), false),
            (Self::Known(schema), number) => match schema.field(number) {
                Some(field) => match field.kind {
                    FieldType::Message(inner) => (Self::Known(inner), !field.repeated),
                    _ => (Self::Leaf, false),
                },
                None => (Self::Leaf, false),
            },
            _ => (Self::Leaf, false),
        }
    }
}

/// Returns the message with about half of its embedded messages in two pieces, each of which has some of the fields in
/// their order.
fn in_pieces(message: &[u8], shape: Shape, dice: &mut Dice) -> Vec<u8> {
    use crate::decode::protobuf::{FieldValue, ProtobufReader, put_varint};
    let mut out = Vec::new();
    let mut reader = ProtobufReader::new(message);
    loop {
        let before = reader.rest();
        let Some((number, value)) = reader.field().expect("protobuf") else {
            return out;
        };
        let (inner, is_single) = shape.field(number);
        let (FieldValue::Bytes(bytes), false) = (value, matches!(inner, Shape::Leaf)) else {
            out.extend_from_slice(&before[..before.len() - reader.rest().len()]);
            continue;
        };
        let whole = in_pieces(bytes, inner, dice);
        let mut fields = ProtobufReader::new(&whole);
        while is_single && dice.is_even() {
            fields.field().expect("protobuf");
        }
        let first = whole.len() - fields.rest().len();
        let cut = is_single && dice.is_even();
        let pieces = if cut {
            vec![&whole[..first], &whole[first..]]
        } else {
            vec![&whole[..]]
        };
        for piece in pieces {
            put_varint(&mut out, u64::from(number << 3 | 2));
            put_varint(&mut out, piece.len() as u64);
            out.extend_from_slice(piece);
        }
    }
}

/// Returns a value with each number replaced by the same text and each NUL by U+FFFD.
fn without_numbers(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(_) => Value::String("a number".to_owned()),
        Value::Array(values) => values.into_iter().map(without_numbers).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key.replace('\0', "\u{fffd}"), without_numbers(value)))
            .collect(),
        Value::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
        other => other,
    }
}
