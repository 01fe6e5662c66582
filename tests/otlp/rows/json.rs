//! J1 to J7: JSON as the specification defines it, and as real clients write it.
//!
//! **Invariant:** our own server is judged by its rows; for a foreign server only acceptance can be seen.

/// Requests as text.
mod written;

use serde_json::{Value as Json, json};

pub(super) use self::written::with;
use self::written::{attribute, stored, written};
use super::{Check, Level};
use crate::case::{Case, HTTP_TRACES, JSON, METRICS, Signal};
use crate::message::{base64, hex};
use crate::server::{Call, Server, Situation};
use crate::telemetry::{Mark, TIME};
use crate::verdict::{Fault, Verdict, ensure};

const PROTO3: &str = "JSON Protobuf Encoding; proto3's JSON Mapping";

const TRACES: &[Case] = &[HTTP_TRACES[1]];
const POINTS: &[Case] = &[METRICS[1]];
const LOGS: &[Case] = &[JSON[1]];

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "J1",
        rule: "ids in hex are accepted, in either case",
        level: Level::Must,
        source: "JSON Protobuf Encoding",
        cases: &[TRACES[0], LOGS[0]],
        run: |server, case| {
            for is_upper in [false, true] {
                let mark = Mark::new();
                let cased = |id: &[u8]| match is_upper {
                    false => hex(id),
                    true => hex(id).to_uppercase(),
                };
                let ids = json!({
                    "traceId": cased(&mark.trace_id()),
                    "spanId": cased(&mark.span_id()),
                });
                let expected = json!({
                    "traceId": hex(&mark.trace_id()),
                    "spanId": hex(&mark.span_id()),
                });
                stored(server, case, &mark, ids, &expected)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J1",
        rule: "base64 is no id",
        level: Level::Must,
        source: "JSON Protobuf Encoding: not base64-encoded",
        cases: TRACES,
        run: |server, case| {
            let mark = Mark::new();
            let ids = json!({ "traceId": base64(&mark.trace_id()) });
            let answer = server.answer(&with(case, &mark, ids))?;
            ensure(answer.is_bad_data() || answer.rejected() == Some(1), || {
                answer.seen()
            })
        },
    },
    Check {
        row: "J2",
        rule: "enums are accepted as integers",
        level: Level::Must,
        source: "JSON Protobuf Encoding",
        cases: TRACES,
        run: |server, case| {
            let fields = json!({ "kind": 3, "status": { "code": 2 } });
            let expected = json!({ "kind": 3, "status": "ERROR" });
            stored(server, case, &Mark::new(), fields, &expected)
        },
    },
    Check {
        row: "J2",
        rule: "enums are accepted by name too",
        level: Level::Wish,
        source: "the specification forbids to send names; clients do",
        cases: TRACES,
        run: |server, case| {
            let fields = json!({
                "kind": "SPAN_KIND_CLIENT", "status": { "code": "STATUS_CODE_ERROR" },
            });
            let expected = json!({ "kind": 3, "status": "ERROR" });
            stored(server, case, &Mark::new(), fields, &expected)
        },
    },
    Check {
        row: "J3",
        rule: "keys in lowerCamelCase are accepted",
        level: Level::Must,
        source: "JSON Protobuf Encoding",
        cases: JSON,
        run: |server, case| {
            let mark = Mark::new();
            server.takes(&with(case, &mark, json!({})), &mark, 1)
        },
    },
    Check {
        row: "J3",
        rule: "keys in snake_case are read, not ignored in silence",
        level: Level::Wish,
        source: "deviates: the specification makes them unknown keys, whose data is lost",
        cases: JSON,
        run: snake_case,
    },
    Check {
        row: "J3",
        rule: "where reading is set to be strict, keys in snake_case are ignored as unknown",
        level: Level::Must,
        source: "JSON Protobuf Encoding: original names are not valid",
        cases: JSON,
        run: |server, case| {
            for body in not_lists(case) {
                let call = Call::raw(case, body.clone()).at(Situation::Strict);
                let answer = server.answer(&call)?;
                ensure(answer.took_all(), || format!("{body}: {}", answer.seen()))?;
            }
            Ok(())
        },
    },
    Check {
        row: "J3",
        rule: "beside a key in snake_case the one in lowerCamelCase counts",
        level: Level::Must,
        source: "JSON Protobuf Encoding: original names are not valid",
        cases: TRACES,
        run: |server, case| {
            let fields = json!({
                "start_time_unix_nano": (TIME + 5).to_string(),
                "startTimeUnixNano": TIME.to_string(),
                "endTimeUnixNano": (TIME + 9).to_string(),
                "end_time_unix_nano": (TIME + 10).to_string(),
            });
            let expected = json!({ "timeUnixNano": TIME.to_string(), "durationNs": 9 });
            stored(server, case, &Mark::new(), fields, &expected)?;
            server.shows_what_it_keeps()
        },
    },
    Check {
        row: "J4",
        rule: "64-bit integers are accepted as strings and as numbers",
        level: Level::Must,
        source: "JSON Protobuf Encoding",
        cases: TRACES,
        run: |server, case| {
            for time in [json!(TIME.to_string()), json!(TIME)] {
                let expected = json!({
                    "timeUnixNano": TIME.to_string(),
                    "metadata": { "attributes": { "n": -9_007_199_254_740_993_i64 } },
                });
                let n = match &time {
                    Json::String(_) => json!("-9007199254740993"),
                    _ => json!(-9_007_199_254_740_993_i64),
                };
                let mut fields = json!({ "startTimeUnixNano": time });
                fields["attributes"] = json!([{ "key": "n", "value": { "intValue": n } }]);
                stored(server, case, &Mark::new(), fields, &expected)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J4",
        rule: "32-bit integers are accepted as numbers and as strings",
        level: Level::Must,
        source: PROTO3,
        cases: TRACES,
        run: |server, case| {
            for count in [json!(4_000_000_000_u32), json!("4000000000")] {
                let fields = json!({ "droppedLinksCount": count });
                let expected = json!({ "metadata": { "droppedLinksCount": 4_000_000_000_u32 } });
                stored(server, case, &Mark::new(), fields, &expected)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J5",
        rule: "doubles are accepted as numbers and as numeric strings",
        level: Level::Must,
        source: PROTO3,
        cases: TRACES,
        run: |server, case| {
            for written in [json!(2.5), json!("2.5"), json!("25e-1")] {
                let expected = json!({ "metadata": { "attributes": { "v": 2.5 } } });
                attribute(server, case, &json!({ "doubleValue": written }), &expected)?;
            }
            let expected = json!({ "metadata": { "attributes": { "v": 3.0 } } });
            attribute(server, case, &json!({ "doubleValue": 3 }), &expected)
        },
    },
    Check {
        row: "J5",
        rule: "doubles that are no number are accepted by their names",
        level: Level::Must,
        source: PROTO3,
        cases: TRACES,
        run: |server, case| {
            for name in ["NaN", "Infinity", "-Infinity"] {
                let kept = json!({ "$double": name });
                let expected = json!({ "metadata": { "attributes": { "v": kept } } });
                attribute(server, case, &json!({ "doubleValue": name }), &expected)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J5",
        rule: "a metric's values are accepted as numbers, strings and names",
        level: Level::Must,
        source: PROTO3,
        cases: POINTS,
        run: |server, case| {
            for value in [json!(2.5), json!("2.5"), json!("NaN"), json!("-Infinity")] {
                let mark = Mark::new();
                let fields = json!({ "asDouble": value });
                server.takes(&with(case, &mark, fields), &mark, 1)?;
            }
            for value in [json!(-3), json!("-3")] {
                let mark = Mark::new();
                let call = with(case, &mark, json!({ "asDouble": value }));
                let text = String::from_utf8_lossy(&call.body).replace("asDouble", "asInt");
                server.takes(&Call::raw(case, text), &mark, 1)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J5",
        rule: "an integer written with a fraction of zero is one",
        level: Level::Wish,
        source: "JavaScript's numbers",
        cases: TRACES,
        run: |server, case| {
            let expected = json!({ "metadata": { "attributes": { "v": 42 } } });
            let raw = r#"{"intValue":42.0}"#;
            written(server, case, raw, &expected)?;
            written(server, case, r#"{"intValue":4.2e1}"#, &expected)
        },
    },
    Check {
        row: "J5",
        rule: "an integer beyond 64 bits is accepted",
        level: Level::Wish,
        source: "JavaScript's numbers",
        cases: TRACES,
        run: |server, case| written(server, case, r#"{"intValue":1e21}"#, &json!({})),
    },
    Check {
        row: "J6",
        rule: "null is as if absent",
        level: Level::Must,
        source: PROTO3,
        cases: JSON,
        run: nulls,
    },
    Check {
        row: "J6",
        rule: "fields left out have their defaults",
        level: Level::Must,
        source: PROTO3,
        cases: TRACES,
        run: |server, case| {
            for (value, kept) in [
                (json!({ "arrayValue": {} }), json!([])),
                (json!({ "kvlistValue": {} }), json!({})),
                (json!({}), json!({ "$empty": true })),
            ] {
                let expected = json!({ "metadata": { "attributes": { "v": kept } } });
                attribute(server, case, &value, &expected)?;
            }
            Ok(())
        },
    },
    Check {
        row: "J7",
        rule: "bytes are base64, standard or URL-safe, padded or not",
        level: Level::Must,
        source: PROTO3,
        cases: TRACES,
        run: |server, case| {
            // 0xfb 0xff 0xfe 0x01
            for written in ["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ"] {
                let kept = json!({ "$bytes": "+//+AQ==" });
                let expected = json!({ "metadata": { "attributes": { "v": kept } } });
                attribute(server, case, &json!({ "bytesValue": written }), &expected)?;
            }
            Ok(())
        },
    },
];

/// A type that is accepted with a valid value must be rejected with an invalid one.
pub(super) fn wrong_types(server: &Server, case: Case) -> Verdict {
    for fields in ill_typed() {
        let shown = fields.to_string();
        let answer = server.answer(&with(case, &Mark::new(), fields))?;
        let is_kept_out = answer.is_bad_data() || answer.rejected() == Some(1);
        ensure(is_kept_out, || format!("{shown}: {}", answer.seen()))?;
    }
    Ok(())
}

/// Fields of a span, each with a value of another type than its field's.
pub(super) fn ill_typed() -> Vec<Json> {
    let attribute = |value: Json| json!({ "attributes": [{ "key": "v", "value": value }] });
    vec![
        json!({ "traceId": "no hex digits, and as many as 32" }),
        json!({ "startTimeUnixNano": "soon" }),
        json!({ "kind": {} }),
        json!({ "name": 5 }),
        json!({ "droppedLinksCount": "many" }),
        json!({ "events": "none" }),
        attribute(json!({ "doubleValue": "half" })),
        attribute(json!({ "intValue": "one" })),
        attribute(json!({ "boolValue": "maybe" })),
        attribute(json!({ "bytesValue": "*" })),
        attribute(json!({ "arrayValue": 5 })),
    ]
}

/// A server that reads a key in snake_case notices that its value is no list; a server that ignores the key does not.
fn not_lists(case: Case) -> [String; 2] {
    let (resources, scopes, _) = case.signal.lists();
    [
        format!(r#"{{"{}":"no list"}}"#, snake(resources)),
        format!(r#"{{"{resources}":[{{"{}":"no list"}}]}}"#, snake(scopes)),
    ]
}

fn snake_case(server: &Server, case: Case) -> Verdict {
    for body in not_lists(case) {
        let answer = server.answer(&Call::raw(case, body.clone()))?;
        ensure(answer.is_bad_data(), || {
            format!("{body}: {}", answer.seen())
        })?;
    }
    let (resources, scopes, _) = case.signal.lists();
    let mark = Mark::new();
    let good = with(case, &mark, json!({}));
    let text = String::from_utf8_lossy(&good.body)
        .replace(resources, &snake(resources))
        .replace(scopes, &snake(scopes))
        .replace("timeUnixNano", "time_unix_nano")
        .replace("logRecords", "log_records");
    server.takes(&Call::raw(case, text), &mark, 1)
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

/// In every optional field of an item, one by one, and around it.
fn nulls(server: &Server, case: Case) -> Verdict {
    let fields: &[&str] = match case.signal {
        Signal::Traces => &[
            "traceState",
            "parentSpanId",
            "name",
            "kind",
            "endTimeUnixNano",
            "droppedAttributesCount",
            "events",
            "links",
            "status",
            "flags",
        ],
        Signal::Logs => &[
            "timeUnixNano",
            "severityNumber",
            "severityText",
            "body",
            "droppedAttributesCount",
            "flags",
            "traceId",
            "spanId",
            "eventName",
        ],
        Signal::Metrics => &["startTimeUnixNano", "exemplars", "flags"],
    };
    let mut refused = Vec::new();
    for field in fields {
        let mark = Mark::new();
        match server.takes(&with(case, &mark, json!({ *field: null })), &mark, 1) {
            Err(Fault::Failed(_)) => refused.push(*field),
            judged => judged?,
        }
    }
    for value in [r#"{"stringValue":null}"#, r#"{"intValue":null}"#, "null"] {
        if let Err(Fault::Failed(_)) = written(server, case, value, &json!({})) {
            refused.push(value);
        }
    }
    let (resources, scopes, items) = case.signal.lists();
    for (what, body) in [
        (resources, json!({ resources: null })),
        ("resource", json!({ resources: [{ "resource": null }] })),
        ("schemaUrl", json!({ resources: [{ "schemaUrl": null }] })),
        (scopes, json!({ resources: [{ scopes: null }] })),
        (
            "scope",
            json!({ resources: [{ scopes: [{ "scope": null }] }] }),
        ),
        (items, json!({ resources: [{ scopes: [{ items: null }] }] })),
    ] {
        if !server
            .answer(&Call::raw(case, body.to_string()))?
            .took_all()
        {
            refused.push(what);
        }
    }
    ensure(refused.is_empty(), || {
        format!("refused in {}", refused.join(", "))
    })
}
