//! Tests of embedded protobuf messages that arrive in several pieces.

use crate::decode::tests::spans::{field, span};
use crate::decode::tests::*;
use crate::event::EventFlags;
use prost::Message as _;

fn fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

fn array(texts: &[&str]) -> Vec<u8> {
    let elements = texts.iter().map(|element| field(1, &text(element)));
    field(5, &elements.collect::<Vec<_>>().concat())
}

fn pair(key: &str, pieces: &[Vec<u8>]) -> Vec<u8> {
    let pieces = pieces.iter().map(|piece| field(2, piece));
    [vec![field(1, key.as_bytes())], pieces.collect()]
        .concat()
        .concat()
}

fn of_version(version: u16, signal: Signal, body: &[u8]) -> Rows {
    let source = Source {
        version,
        ..source(signal, Encoding::Protobuf)
    };
    decode(body, &source).expect("accepted").1
}

const SIGNALS: [Signal; 3] = Signal::OTLP;

/// Returns an item with attributes, which are in the signal's own field.
fn item(signal: Signal, attributes: &[Vec<u8>]) -> Vec<u8> {
    let number = match signal {
        Signal::Span => 9,
        Signal::Log => 6,
        Signal::Event | Signal::Metric => 7,
    };
    let attributes = attributes.iter().map(|attribute| field(number, attribute));
    let attributes = attributes.collect::<Vec<_>>().concat();
    match signal {
        Signal::Span => [span().encode_to_vec(), attributes].concat(),
        Signal::Log => attributes,
        Signal::Event | Signal::Metric => {
            let point = [fixed64(3, 1_799_999_999_000_000_000), attributes].concat();
            [text("m"), field(5, &field(1, &point))].concat()
        }
    }
}

/// A collector that streams its requests sent a resource in two pieces, as protobuf allows. Only the last piece
/// counted, so the row's `integration` was `unknown_service`.
#[test]
fn a_resource_and_a_scope_in_pieces_are_one() {
    let named = |key: &str, value: &str| field(1, &pair(key, &[text(value)]));
    let scope = |number: u8, value: &str| field(1, &field(number, value.as_bytes()));
    for signal in SIGNALS {
        let scopes = field(
            2,
            &[
                scope(1, "lib"),
                field(2, &item(signal, &[])),
                scope(2, "1.0"),
            ]
            .concat(),
        );
        let resources = [
            field(1, &named("service.name", "pieces")),
            scopes,
            field(1, &[]),
            field(1, &named("x", "y")),
        ];
        let body = field(1, &resources.concat());
        let rows = of_version(VERSION, signal, &body);
        assert_eq!(rows.events[0].integration, "pieces");
        assert_eq!(
            rows.resources[0].resource,
            r#"{"attributes": {"x": "y", "service.name": "pieces"}}"#
        );
        assert_eq!(
            rows.resources[0].scope,
            r#"{"name": "lib", "version": "1.0"}"#
        );
        // A record that was accepted under version 1 is decoded as before.
        let rows = of_version(1, signal, &body);
        assert_eq!(rows.events[0].integration, "unknown_service");
        assert_eq!(rows.resources[0].scope, r#"{"version": "1.0"}"#);
    }
}

#[test]
fn values_in_pieces_are_merged_wherever_they_stand() {
    let list = |members: &[Vec<u8>]| {
        let members = members.iter().map(|member| field(1, member));
        field(6, &members.collect::<Vec<_>>().concat())
    };
    let attributes = [
        pair("array", &[array(&["a"]), array(&["b"])]),
        pair(
            "array in one value",
            &[[array(&["a"]), array(&["b"])].concat()],
        ),
        pair(
            "members",
            &[
                list(&[pair("a", &[text("1")])]),
                list(&[pair("b", &[array(&["x"]), array(&["y"])])]),
            ],
        ),
        pair("last", &[array(&["a"]), text("x"), array(&["b"])]),
        pair("text", &[array(&["a"]), text("x"), vec![]]),
    ];
    let expected = r#"{"last": ["b"], "text": "x", "array": ["a", "b"], "members": {"a": "1", "b": ["x", "y"]}, "array in one value": ["a", "b"]}"#;
    for signal in SIGNALS {
        let body = field(1, &field(2, &field(2, &item(signal, &attributes))));
        let rows = of_version(VERSION, signal, &body);
        let metadata = &rows.events[0].metadata;
        assert!(
            metadata.contains(&format!("\"attributes\": {expected}")),
            "{metadata}"
        );

        let attributes: Vec<u8> = attributes.iter().flat_map(|pair| field(1, pair)).collect();
        let body = [
            field(1, &attributes),
            field(2, &field(2, &item(signal, &[]))),
        ]
        .concat();
        let rows = of_version(VERSION, signal, &field(1, &body));
        assert_eq!(
            rows.resources[0].resource,
            format!("{{\"attributes\": {expected}}}")
        );
    }
    let twice = [array(&["a"]), array(&["b"])];
    let event = [field(2, b"e"), field(3, &pair("k", &twice))].concat();
    let more = [field(11, &event), field(13, &field(4, &pair("k", &twice)))].concat();
    let body = field(
        1,
        &field(2, &field(2, &[span().encode_to_vec(), more].concat())),
    );
    let rows = of_version(VERSION, Signal::Span, &body);
    let expected = r#"{"links": [{"attributes": {"k": ["a", "b"]}}], "events": [{"name": "e", "attributes": {"k": ["a", "b"]}}]}"#;
    assert_eq!(rows.events[0].metadata, expected);

    let exemplar = field(7, &pair("f", &twice));
    let point = [fixed64(3, 1_799_999_999_000_000_000), field(5, &exemplar)].concat();
    let metric = [
        text("m"),
        field(12, &pair("meta", &twice)),
        field(5, &field(1, &point)),
    ]
    .concat();
    let rows = of_version(
        VERSION,
        Signal::Metric,
        &field(1, &field(2, &field(2, &metric))),
    );
    let expected = r#"{"metadata": {"meta": ["a", "b"]}, "exemplars": [{"filteredAttributes": {"f": ["a", "b"]}}]}"#;
    assert_eq!(rows.events[0].metadata, expected);
}

#[test]
fn a_body_in_pieces_is_one_and_a_status_too() {
    let body = |pieces: &[Vec<u8>]| {
        let pieces: Vec<u8> = pieces.iter().flat_map(|piece| field(5, piece)).collect();
        let body = field(1, &field(2, &field(2, &pieces)));
        of_version(VERSION, Signal::Log, &body).events.remove(0)
    };
    let event = body(&[array(&["a"]), array(&["b\0"])]);
    assert_eq!(event.metadata, "{\"body\": [\"a\", \"b\u{fffd}\"]}");
    let mut flags = EventFlags::TIME_REPLACED;
    flags.insert(EventFlags::TEXT_REPAIRED);
    assert_eq!(event.flags, flags);
    assert_eq!(body(&[text("a"), vec![]]).metadata, r#"{"body": "a"}"#);

    let status = [field(15, &field(2, b"failed")), field(15, &[3 << 3, 2])].concat();
    let body = field(
        1,
        &field(2, &field(2, &[span().encode_to_vec(), status].concat())),
    );
    let rows = of_version(VERSION, Signal::Span, &body);
    assert_eq!(rows.events[0].status.as_deref(), Some("ERROR"));
    assert_eq!(
        rows.events[0].metadata,
        r#"{"status": {"message": "failed"}}"#
    );
}

#[test]
fn invalid_text_in_a_piece_is_repaired_in_the_whole() {
    let bad = field(1, b"bad \xff");
    let body = field(
        1,
        &field(
            2,
            &field(2, &[field(5, &array(&["a"])), field(5, &bad)].concat()),
        ),
    );
    let rows = of_version(VERSION, Signal::Log, &body);
    assert_eq!(rows.events[0].metadata, r#"{"body": "bad ?"}"#);
}

#[test]
fn as_many_pieces_as_an_item_may_have_nodes_are_merged_and_more_reject_it() {
    // The nodes are the record and, for each piece, the piece, its list and its element.
    for (pieces, is_accepted) in [(24_999, true), (33_334, false)] {
        let pieces = field(5, &array(&["x"])).repeat(pieces);
        let items = [field(2, &pieces), field(2, b"")].concat();
        let body = field(1, &field(2, &items));
        let source = source(Signal::Log, Encoding::Protobuf);
        let (checked, rows) = decode(&body, &source).expect("accepted");
        assert_eq!(checked.rejected == 0, is_accepted);
        if is_accepted {
            assert_eq!(rows.events[0].metadata.matches("\"x\"").count(), 24_999);
        }
    }
    let empty = field(1, &field(1, b"").repeat(500_000));
    assert!(decode(&empty, &source(Signal::Span, Encoding::Protobuf)).is_ok());
}

#[test]
fn scopes_in_field_1000_are_mapped_if_there_are_no_others() {
    fn old(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0xc2, 0x3e];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }
    for signal in SIGNALS {
        let scope = [field(1, &text("lib")), field(2, &item(signal, &[]))].concat();
        let alone = field(1, &old(&scope));
        let rows = of_version(VERSION, signal, &alone);
        assert_eq!(rows.resources[0].scope, r#"{"name": "lib"}"#);
        assert_eq!(rows.events.len(), 1);
        assert_eq!(of_version(1, signal, &alone).events.len(), 0);

        let both = field(1, &[old(&scope), field(2, &scope), old(&scope)].concat());
        assert_eq!(of_version(VERSION, signal, &both).events.len(), 1);
        // If one of these fields has another wire type, they are not scopes but unknown fields.
        let number = field(1, &[&[0xc0, 0x3e, 1][..], &old(&scope)].concat());
        assert_eq!(of_version(VERSION, signal, &number).events.len(), 0);
    }
}
