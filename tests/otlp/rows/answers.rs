//! H6 to H10, and the parts that gRPC shares: successes, partial successes, refusals.
//!
//! **Invariant:** a partial success is judged only if the server sends one: another rule requires that an item be
//! rejected.

use serde_json::Value as Json;

use super::routes::{good, has_status};
use super::{Check, Level};
use crate::answer::{Answer, Partial};
use crate::case::{ALL, Case, HTTP, JSON, Signal, Way};
use crate::message::{Message, Value};
use crate::server::{ATTRIBUTES, Call, Server, Situation};
use crate::status::Status;
use crate::telemetry::{
    Mark, attribute, gauge, item, log_record, number_point, request, span, string,
};
use crate::verdict::{Fault, Verdict, ensure};

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "H6",
        rule: "a full success is HTTP 200",
        level: Level::Must,
        source: "OTLP/HTTP Response, Full Success",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&good(case, &Mark::new()))?;
            ensure(reply.status == 200, || reply.seen())
        },
    },
    Check {
        row: "H6",
        rule: "a full success leaves partial_success unset",
        level: Level::Must,
        source: "OTLP/HTTP Response, Full Success",
        cases: HTTP,
        run: unset,
    },
    Check {
        row: "H7",
        rule: "a partial success is HTTP 200 and counts what was rejected",
        level: Level::Must,
        source: "OTLP/HTTP Response, Partial Success",
        cases: HTTP,
        run: counted,
    },
    Check {
        row: "H7",
        rule: "a partial success says why",
        level: Level::Should,
        source: "OTLP/HTTP Response, Partial Success",
        cases: HTTP,
        run: explained,
    },
    Check {
        row: "H8",
        rule: "an error's body is a Status",
        level: Level::Must,
        source: "OTLP/HTTP Response, Failures",
        cases: HTTP,
        run: status_bodies,
    },
    Check {
        row: "H8",
        rule: "an error's Status has a message",
        level: Level::Should,
        source: "OTLP/HTTP Response, Failures",
        cases: HTTP,
        run: |server, case| {
            let status = Status::of_body(&server.reply(&garbage(case))?)?;
            ensure(!status.message.is_empty(), || "no message".to_owned())
        },
    },
    Check {
        row: "H8",
        rule: "a 400 has a BadRequest among its details",
        level: Level::Should,
        source: "OTLP/HTTP Response, Bad Data",
        cases: HTTP,
        run: |server, case| {
            let status = Status::of_body(&server.reply(&garbage(case))?)?;
            ensure(status.detail("google.rpc.BadRequest").is_some(), || {
                format!("{} details", status.details.len())
            })
        },
    },
    Check {
        row: "H9",
        rule: "what cannot be decoded is refused with 400",
        level: Level::Must,
        source: "OTLP/HTTP Response, Bad Data",
        cases: HTTP,
        run: |server, case| {
            undecodable(case).iter().try_for_each(|(what, call)| {
                let reply = server.reply(call)?;
                ensure(reply.status == 400, || format!("{what}: {}", reply.seen()))
            })
        },
    },
    Check {
        row: "H9",
        rule: "a JSON value of another type than its field's is refused, or its item rejected",
        level: Level::Must,
        source: "OTLP/HTTP Response, Bad Data",
        cases: &[JSON[0]],
        run: super::json::wrong_types,
    },
    Check {
        row: "H9",
        rule: "JSON with anything after its one value is refused with 400",
        level: Level::Wish,
        source: "RFC 8259, section 2; whoever reads on loses what follows",
        cases: JSON,
        run: |server, case| {
            let mut body = sent_in(case).to_vec();
            body.extend(b" {}");
            let reply = server.reply(&Call::raw(case, body))?;
            ensure(reply.status == 400, || reply.seen())
        },
    },
    Check {
        row: "H9",
        rule: "an outage behind the server is answered with a code that clients retry",
        level: Level::Should,
        source: "OTLP/HTTP Response, Retryable Response Codes",
        cases: HTTP,
        run: |server, case| {
            let answer = server.answer(&refused(case))?;
            ensure(answer.is_retryable(), || answer.seen())
        },
    },
    Check {
        row: "H9",
        rule: "the answer in an outage has a Status for a body",
        level: Level::Must,
        source: "OTLP/HTTP Response, Failures",
        cases: HTTP,
        run: |server, case| has_status(&server.reply(&refused(case))?),
    },
    Check {
        row: "H10",
        rule: "a server that cannot take more answers 503 or 429",
        level: Level::Should,
        source: "OTLP/HTTP Throttling",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&refused(case))?;
            ensure(matches!(reply.status, 429 | 503), || reply.seen())
        },
    },
    Check {
        row: "H10",
        rule: "it says in Retry-After when to come again, in 1 to 5 whole seconds",
        level: Level::Wish,
        source: "OTLP/HTTP Throttling: MAY; SDKs drop at once what they would have to hold longer",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&refused(case))?;
            let wait = reply.header("retry-after").unwrap_or("none");
            ensure(matches!(wait.parse(), Ok(1..=5)), || {
                format!("HTTP {}, Retry-After {wait}", reply.status)
            })
        },
    },
    Check {
        row: "J4",
        rule: "64-bit integers are strings in an answer",
        level: Level::Must,
        source: "JSON Protobuf Encoding",
        cases: JSON,
        run: |server, case| {
            let (answer, _) = partial(server, case)?;
            let json: Json = serde_json::from_slice(&answer.reply.body)
                .map_err(|error| format!("no JSON: {error}"))?;
            let rejected = &json["partialSuccess"][case.signal.rejected()];
            ensure(rejected.is_string(), || rejected.to_string())
        },
    },
    Check {
        row: "R7",
        rule: "a full success over gRPC leaves partial_success unset",
        level: Level::Must,
        source: "OTLP/gRPC Response, Full Success",
        cases: crate::case::GRPC,
        run: unset,
    },
    Check {
        row: "R7",
        rule: "a partial success over gRPC is OK and counts what was rejected",
        level: Level::Must,
        source: "OTLP/gRPC Response, Partial Success",
        cases: crate::case::GRPC,
        run: counted,
    },
    Check {
        row: "R7",
        rule: "a partial success over gRPC says why",
        level: Level::Should,
        source: "OTLP/gRPC Response, Partial Success",
        cases: crate::case::GRPC,
        run: explained,
    },
    Check {
        row: "R7",
        rule: "a warning without a rejection has a message and rejects 0",
        level: Level::Must,
        source: "Partial Success: warnings and suggestions",
        cases: ALL,
        run: warning,
    },
];

/// Another rule requires that there be an error.
fn status_bodies(server: &Server, case: Case) -> Verdict {
    let mut errors = 0;
    for (what, call) in undecodable(case) {
        let reply = server.reply(&call)?;
        if reply.status >= 400 {
            errors += 1;
            has_status(&reply).map_err(|fault| fault.of(what))?;
        }
    }
    if errors == 0 {
        return Err(Fault::NotJudged("it refuses nothing".to_owned()));
    }
    Ok(())
}

fn unset(server: &Server, case: Case) -> Verdict {
    let answer = server.answer(&good(case, &Mark::new()))?;
    ensure(answer.took_all(), || answer.seen())?;
    ensure(answer.partial().is_none(), || {
        let body = &answer.reply.body;
        match case.way {
            Way::Json => format!("the field is set: {}", String::from_utf8_lossy(body)),
            Way::Protobuf | Way::Grpc => format!("the field is set, to an empty message: {body:?}"),
        }
    })
}

fn counted(server: &Server, case: Case) -> Verdict {
    let (answer, told) = partial(server, case)?;
    ensure(told.rejected == 1, || answer.seen())
}

fn explained(server: &Server, case: Case) -> Verdict {
    let (_, told) = partial(server, case)?;
    ensure(!told.message.is_empty(), || {
        "errorMessage is empty".to_owned()
    })
}

/// The answer to a request in which one item may be rejected. Our own server has to reject it.
fn partial(server: &Server, case: Case) -> Result<(Answer, Partial), Fault> {
    let mark = Mark::new();
    let good = item(case.signal, &mark, Vec::new());
    for faulty in [faulty(case.signal, &mark), too_deep(case.signal, &mark)] {
        let message = request(case.signal, vec![good.clone(), faulty]);
        let answer = server.answer(&Call::of(case, &message))?;
        let is_other_success = (201..300).contains(&answer.reply.status);
        ensure(!is_other_success, || answer.seen())?;
        if let Some(told) = answer.partial().filter(|told| told.rejected != 0).cloned() {
            return Ok((answer, told));
        }
    }
    let seen = "it rejects no item of those that we know";
    Err(if server.is_ours() {
        Fault::Failed(seen.to_owned())
    } else {
        Fault::NotJudged(seen.to_owned())
    })
}

/// An item that a server may reject for a missing id or time; a log record needs neither.
fn faulty(signal: Signal, mark: &Mark) -> Message {
    match signal {
        Signal::Traces => span(mark, Vec::new()).but("traceId", Value::Id(vec![0; 16])),
        Signal::Logs => too_deep(signal, mark),
        Signal::Metrics => gauge(vec![number_point(mark, Vec::new()).without("timeUnixNano")]),
    }
}

/// An item with a value that is nested more deeply than a server may be willing to follow.
fn too_deep(signal: Signal, mark: &Mark) -> Message {
    let nested = (0..40).fold(string("deep"), |value, _| {
        let array = Message::default().many(1, "values", vec![value]);
        Message::default().one(5, "arrayValue", array)
    });
    match signal {
        Signal::Logs => log_record(mark, Vec::new()).but("body", Value::Message(nested)),
        Signal::Traces | Signal::Metrics => item(signal, mark, vec![attribute("deep", nested)]),
    }
}

fn warning(server: &Server, case: Case) -> Verdict {
    let mark = Mark::new();
    let many = (0..4 * ATTRIBUTES).map(|n| attribute(&format!("key {n}"), string("value")));
    let message = request(case.signal, vec![item(case.signal, &mark, many.collect())]);
    let call = Call::of(case, &message).at(Situation::Cutting);
    let answer = server.answer(&call)?;
    let told = answer.partial();
    ensure(
        told.is_some_and(|told| told.rejected == 0 && !told.message.is_empty()),
        || answer.seen(),
    )
}

fn refused(case: Case) -> Call {
    good(case, &Mark::new()).at(Situation::Refusing)
}

fn garbage(case: Case) -> Call {
    Call::raw(case, "\u{1}neither\u{7}")
}

/// Bodies that contradict their content type and encoding, each with its name.
pub(super) fn undecodable(case: Case) -> Vec<(&'static str, Call)> {
    let good = good(case, &Mark::new());
    let cut = good.body.slice(..good.body.len() - 5);
    let mut calls = vec![
        ("random bytes", garbage(case)),
        ("a body cut short", Call::raw(case, cut)),
        (
            "a body that claims to be gzip",
            good.clone().said_to_be("gzip"),
        ),
        ("gzip cut short", {
            let gzip = super::accepted::compress(&good.body, "gzip");
            Call::raw(case, gzip[..gzip.len() / 2].to_vec()).said_to_be("gzip")
        }),
    ];
    let (resources, ..) = case.signal.lists();
    let protobuf = Case {
        way: Way::Protobuf,
        ..case
    };
    let json = Case {
        way: Way::Json,
        ..case
    };
    match case.way {
        Way::Json => calls.extend([
            ("protobuf", Call::raw(case, sent_in(protobuf))),
            ("an array for the request", Call::raw(case, "[]")),
            (
                "a text for a list",
                Call::raw(case, format!(r#"{{"{resources}":"none"}}"#)),
            ),
        ]),
        Way::Protobuf | Way::Grpc => calls.extend([
            ("JSON", Call::raw(case, sent_in(json))),
            ("an unknown wire type", Call::raw(case, vec![0x0f])),
            // Field 1 as a message whose first field number is 0.
            (
                "field number 0",
                Call::raw(case, vec![0x0a, 0x02, 0x00, 0x01]),
            ),
        ]),
    }
    calls
}

/// The body of a good request in that encoding.
fn sent_in(case: Case) -> bytes::Bytes {
    good(case, &Mark::new()).body
}
