//! G1 to G6: compressions, empty requests, unknown fields, every kind of value.
//!
//! **Invariant:** each request here is valid, so that anything but a full success breaks a rule.

use std::io::Write;

use super::{Check, Level};
use crate::case::{ALL, Case, HTTP, Signal};
use crate::message::{Message, Value};
use crate::server::{Call, Server};
use crate::telemetry::{Mark, attribute, gauge, item, request, string};
use crate::verdict::{Verdict, ensure};

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "G1",
        rule: "a request without compression is accepted",
        level: Level::Must,
        source: "Protocol Details",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            server.takes(&Call::of(case, &good(case, &mark)), &mark, 1)
        },
    },
    Check {
        row: "G1",
        rule: "a request in gzip is accepted",
        level: Level::Must,
        source: "Protocol Details",
        cases: ALL,
        run: |server, case| compressed(server, case, "gzip"),
    },
    Check {
        row: "G1",
        rule: "a request in zstd is accepted",
        level: Level::Wish,
        source: "clients offer it",
        cases: ALL,
        run: |server, case| compressed(server, case, "zstd"),
    },
    Check {
        row: "G1",
        rule: "a request in deflate is accepted",
        level: Level::Wish,
        source: "clients offer it",
        cases: HTTP,
        run: |server, case| compressed(server, case, "deflate"),
    },
    Check {
        row: "G2",
        rule: "an empty request is a success",
        level: Level::Should,
        source: "Full Success",
        cases: ALL,
        run: |server, case| succeeds(server, case, &Message::default()),
    },
    Check {
        row: "G3",
        rule: "a resource with nothing in it is a success",
        level: Level::Should,
        source: "Full Success; Empty Telemetry Envelopes",
        cases: ALL,
        run: |server, case| {
            let (resources, ..) = case.signal.lists();
            let bare = Message::default().many(1, resources, vec![Message::default()]);
            succeeds(server, case, &bare)
        },
    },
    Check {
        row: "G3",
        rule: "a scope with nothing in it is a success",
        level: Level::Should,
        source: "Full Success; Empty Telemetry Envelopes",
        cases: ALL,
        run: |server, case| {
            succeeds(server, case, &request(case.signal, Vec::new()))?;
            if case.signal == Signal::Metrics {
                succeeds(server, case, &request(case.signal, vec![gauge(Vec::new())]))?;
            }
            Ok(())
        },
    },
    Check {
        row: "G4",
        rule: "fields that no schema has are ignored at every level",
        level: Level::Must,
        source: "JSON Protobuf Encoding; Future Versions and Interoperability",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            let message = good(case, &mark).everywhere(unknown);
            server.takes(&Call::of(case, &message), &mark, 1)
        },
    },
    Check {
        row: "G5",
        rule: "a value of every kind is accepted, nested too",
        level: Level::Must,
        source: "Protobuf Definitions; common.proto, AnyValue",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            let item = item(case.signal, &mark, every_kind());
            let message = request(case.signal, vec![item]);
            server.takes(&Call::of(case, &message), &mark, 1)
        },
    },
    Check {
        row: "G6",
        rule: "references into a string table, which only profiles have, are no error",
        level: Level::Should,
        source: "common.proto, AnyValue and KeyValue",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            let reference = Message::default().with(8, "stringValueStrindex", Value::Varint(3));
            let attributes = vec![
                attribute("kept", string("beside")),
                attribute("referring", reference),
                string_key(),
            ];
            let item = item(case.signal, &mark, attributes);
            let message = request(case.signal, vec![item]);
            server.takes(&Call::of(case, &message), &mark, 1)
        },
    },
];

fn good(case: Case, mark: &Mark) -> Message {
    let attributes = vec![attribute("answer", string("yes"))];
    request(case.signal, vec![item(case.signal, mark, attributes)])
}

fn compressed(server: &Server, case: Case, coding: &str) -> Verdict {
    let mark = Mark::new();
    let mut call = Call::of(case, &good(case, &mark));
    call.body = compress(&call.body, coding).into();
    server.takes(&call.said_to_be(coding), &mark, 1)
}

pub(super) fn compress(bytes: &[u8], coding: &str) -> Vec<u8> {
    const MEMORY: &str = "memory takes all";
    match coding {
        "gzip" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        // RFC 9110, section 8.4.1.2: deflate is the zlib format.
        "deflate" => {
            let mut encoder =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        "zstd" => zstd::encode_all(bytes, 1).expect(MEMORY),
        other => unreachable!("{other} is not used here"),
    }
}

fn succeeds(server: &Server, case: Case, message: &Message) -> Verdict {
    let answer = server.answer(&Call::of(case, message))?;
    ensure(answer.took_all(), || answer.seen())
}

/// A field of each wire type, with unused field numbers.
fn unknown(message: Message) -> Message {
    let inner = Message::default().text(1, "deeper", "yes");
    message
        .with(20_001, "unknownNumber", Value::Varint(7))
        .with(20_002, "unknownFixed", Value::Fixed64(7))
        .with(20_003, "unknownSmall", Value::Fixed32(7))
        .text(20_004, "unknownText", "text")
        .one(20_005, "unknownObject", inner.clone())
        .many(20_006, "unknownList", vec![inner])
        .with(20_007, "unknownDouble", Value::Double(0.5))
        .with(20_008, "unknownBool", Value::Bool(true))
}

fn every_kind() -> Vec<Message> {
    let value = |number, name, value| Message::default().with(number, name, value);
    let array = |values| Message::default().one(5, "arrayValue", list(values));
    let pairs = |values| Message::default().one(6, "kvlistValue", list(values));
    vec![
        attribute("empty", Message::default()),
        Message::default().text(1, "key", "no value at all"),
        attribute("text", string("ünïcode \u{1f980} \" \\ \n")),
        attribute("empty text", string("")),
        attribute("true", value(2, "boolValue", Value::Bool(true))),
        attribute("false", value(2, "boolValue", Value::Bool(false))),
        attribute("least", value(3, "intValue", Value::Int64(i64::MIN))),
        attribute("most", value(3, "intValue", Value::Int64(i64::MAX))),
        attribute("double", value(4, "doubleValue", Value::Double(0.1))),
        attribute("tiny", value(4, "doubleValue", Value::Double(5e-324))),
        attribute("nan", value(4, "doubleValue", Value::Double(f64::NAN))),
        attribute("inf", value(4, "doubleValue", Value::Double(f64::INFINITY))),
        attribute(
            "bytes",
            value(7, "bytesValue", Value::Bytes(vec![0, 255, 128, 7])),
        ),
        attribute("empty array", array(Vec::new())),
        attribute("empty list", pairs(Vec::new())),
        attribute(
            "mixed",
            array(vec![
                string("text"),
                value(3, "intValue", Value::Int64(1)),
                Message::default(),
                array(vec![string("inner")]),
            ]),
        ),
        attribute(
            "nested",
            pairs(vec![attribute(
                "outer",
                pairs(vec![attribute("inner", array(vec![string("deep")]))]),
            )]),
        ),
    ]
}

fn list(values: Vec<Message>) -> Message {
    Message::default().many(1, "values", values)
}

/// `KeyValue` whose key is a reference.
fn string_key() -> Message {
    Message::default()
        .with(3, "keyStrindex", Value::Varint(2))
        .one(2, "value", string("of a key elsewhere"))
}
