//! J8, J9: JSON in which a value, or the whole request, is invalid.
//!
//! **Invariant:** an invalid item is sent beside a valid one wherever only the invalid one is to be rejected.

use serde_json::{Value as Json, json};

use super::json::{ill_typed, with};
use super::{Check, Level};
use crate::case::{Case, HTTP_TRACES, JSON};
use crate::server::{Call, Server, Situation};
use crate::telemetry::Mark;
use crate::verdict::{Verdict, ensure};

const TRACES: &[Case] = &[HTTP_TRACES[1]];

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "J8",
        rule: "an item with a value of another type than its field's is rejected alone",
        level: Level::Wish,
        source: "OTLP/HTTP Response, Partial Success; what is at fault is left open",
        cases: TRACES,
        run: |server, case| {
            let mut faults = ill_typed();
            // An unsigned integer with a fraction.
            faults.push(json!({ "droppedLinksCount": 1.5 }));
            for fields in faults {
                let shown = fields.to_string();
                alone(server, case, fields).map_err(|fault| fault.of(&shown))?;
            }
            Ok(())
        },
    },
    Check {
        row: "J9",
        rule: "a body of no bytes is no JSON, and refused with 400",
        level: Level::Must,
        source: "OTLP/HTTP Response, Bad Data; RFC 8259, section 2",
        cases: JSON,
        run: |server, case| {
            let reply = server.reply(&Call::raw(case, ""))?;
            ensure(reply.status == 400, || reply.seen())
        },
    },
    Check {
        row: "J9",
        rule: "a request of which no member is known is accepted",
        level: Level::Must,
        source: "JSON Protobuf Encoding: unknown fields are ignored",
        cases: JSON,
        run: |server, case| {
            let answer = server.answer(&Call::raw(case, UNKNOWN))?;
            ensure(answer.took_all(), || answer.seen())
        },
    },
    Check {
        row: "J9",
        rule: "its answer says that no member is known",
        level: Level::Wish,
        source: "OTLP/HTTP Response, Partial Success: warnings; whoever sends it loses all",
        cases: JSON,
        run: |server, case| {
            let answer = server.answer(&Call::raw(case, UNKNOWN))?;
            let is_named = |message: &str| message.contains("resource_sapns");
            let named = answer.partial().is_some_and(|told| is_named(&told.message));
            ensure(named, || answer.seen())
        },
    },
];

const UNKNOWN: &str = r#"{"resource_sapns":[{}]}"#;

/// The item with these fields must be rejected, and the request's other item kept.
fn alone(server: &Server, case: Case, fields: Json) -> Verdict {
    let mark = Mark::new();
    let body = |fields| -> Json {
        let call = with(case, &mark, fields);
        serde_json::from_slice(&call.body).expect("it was just written")
    };
    let (mut request, faulty) = (body(json!({})), body(fields));
    let (resources, scopes, items) = case.signal.lists();
    let faulty = faulty[resources][0][scopes][0][items][0].clone();
    let Json::Array(items) = &mut request[resources][0][scopes][0][items] else {
        unreachable!("the items of a request are a list")
    };
    items.push(faulty);
    let answer = server.answer(&Call::raw(case, request.to_string()))?;
    ensure(answer.rejected() == Some(1), || answer.seen())?;
    server.rows(Situation::Plain, &mark, 1).map(|_| ())
}
