//! G7 to G14: the treatment of invalid and incomplete items.
//!
//! **Invariant:** each invalid item is sent with a valid one, so that rejecting all differs from rejecting the one.

use serde_json::{Value as Json, json};

use super::{Check, Level};
use crate::case::{ALL, Case, LOGS, METRICS, TRACES};
use crate::message::{Message, Value};
use crate::server::{Call, Server, Situation};
use crate::telemetry::{
    Mark, TIME, attribute, gauge, item, log_record, number_point, request, span, string,
};
use crate::verdict::{Verdict, ensure};

const INVALID_ID: &str = "trace.proto calls it invalid, and leaves open what follows";

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "G7",
        rule: "a span with an all-zero trace id is rejected alone",
        level: Level::Wish,
        source: INVALID_ID,
        cases: TRACES,
        run: |server, case| rejected_alone(server, case, "traceId", vec![0; 16]),
    },
    Check {
        row: "G7",
        rule: "a span with a trace id of 15 bytes is rejected alone",
        level: Level::Wish,
        source: INVALID_ID,
        cases: TRACES,
        run: |server, case| rejected_alone(server, case, "traceId", vec![1; 15]),
    },
    Check {
        row: "G7",
        rule: "a span with an all-zero span id is rejected alone",
        level: Level::Wish,
        source: INVALID_ID,
        cases: TRACES,
        run: |server, case| rejected_alone(server, case, "spanId", vec![0; 8]),
    },
    Check {
        row: "G7",
        rule: "a span without a span id is rejected alone",
        level: Level::Wish,
        source: INVALID_ID,
        cases: TRACES,
        run: |server, case| rejected_alone(server, case, "spanId", Vec::new()),
    },
    Check {
        row: "G7",
        rule: "a request whose every span is invalid is refused as bad data",
        level: Level::Wish,
        source: INVALID_ID,
        cases: TRACES,
        run: |server, case| {
            let mark = Mark::new();
            let bad = span(&mark, Vec::new()).but("traceId", Value::Id(vec![0; 16]));
            let answer = server.answer(&Call::of(
                case,
                &request(case.signal, vec![bad.clone(), bad]),
            ))?;
            ensure(answer.is_bad_data(), || answer.seen())?;
            server.rows(Situation::Plain, &mark, 0).map(|_| ())
        },
    },
    Check {
        row: "G8",
        rule: "a log record without valid ids is accepted, as one of no trace",
        level: Level::Should,
        source: "logs.proto, LogRecord.trace_id and span_id",
        cases: LOGS,
        run: log_ids,
    },
    Check {
        row: "G9",
        rule: "a span without status, kind and name is accepted",
        level: Level::Must,
        source: "Protobuf Definitions; trace.proto: unset has a meaning",
        cases: TRACES,
        run: |server, case| {
            let span = |mark: &Mark| {
                span(mark, Vec::new())
                    .without("status")
                    .without("kind")
                    .but("name", Value::Text(String::new()))
            };
            let expected = json!({ "status": "UNSET", "kind": 0, "name": "" });
            one_row(server, case, span, &expected)
        },
    },
    Check {
        row: "G9",
        rule: "a span of a kind that is not known yet is accepted",
        level: Level::Must,
        source: "Future Versions and Interoperability",
        cases: TRACES,
        run: |server, case| {
            let span = |mark: &Mark| span(mark, Vec::new()).but("kind", Value::Varint(77));
            one_row(server, case, span, &json!({ "kind": 77, "status": "OK" }))
        },
    },
    Check {
        row: "G10",
        rule: "upper bits of flags may be set",
        level: Level::Must,
        source: "trace.proto, logs.proto: Readers MUST NOT assume that they are zero",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            let item = with_flags(case, &mark);
            let message = request(case.signal, vec![item]);
            server.takes(&Call::of(case, &message), &mark, 1)
        },
    },
    Check {
        row: "G11",
        rule: "of two attributes with the same key the last is kept",
        level: Level::Wish,
        source: "common.proto: duplicates are unpredictable",
        cases: ALL,
        run: |server, case| {
            let attributes = || {
                vec![
                    attribute("twice", string("first")),
                    attribute("between", string("yes")),
                    attribute("twice", string("last")),
                ]
            };
            let item = |mark: &Mark| item(case.signal, mark, attributes());
            let expected = json!({ "metadata": { "attributes": { "twice": "last" } } });
            one_row(server, case, item, &expected)?;
            server.shows_what_it_keeps()
        },
    },
    Check {
        row: "G12",
        rule: "a log record's time is its own, else the observed one, else that of receipt",
        level: Level::Should,
        source: "logs.proto, LogRecord.observed_time_unix_nano",
        cases: LOGS,
        run: log_times,
    },
    Check {
        row: "G12",
        rule: "a metric point without a time is rejected alone",
        level: Level::Wish,
        source: "metrics.proto: TimeUnixNano is required; what follows is left open",
        cases: METRICS,
        run: |server, case| {
            let mark = Mark::new();
            let good = number_point(&mark, Vec::new());
            let bad = good.clone().without("timeUnixNano");
            rejects_one(server, case, &mark, vec![gauge(vec![good, bad])])
        },
    },
    Check {
        row: "G13",
        rule: "a span that ends before it starts is accepted",
        level: Level::Wish,
        source: "trace.proto: expected, not required",
        cases: TRACES,
        run: |server, case| {
            let span = |mark: &Mark| {
                span(mark, Vec::new()).but("endTimeUnixNano", Value::Fixed64(TIME - 1))
            };
            one_row(server, case, span, &json!({ "flags": 2 }))
        },
    },
    Check {
        row: "G13",
        rule: "a span without an end is accepted",
        level: Level::Wish,
        source: "trace.proto: expected, not required",
        cases: TRACES,
        run: |server, case| {
            let span = |mark: &Mark| span(mark, Vec::new()).without("endTimeUnixNano");
            one_row(server, case, span, &json!({ "flags": 2 }))
        },
    },
    Check {
        row: "G14",
        rule: "a request sent again is a success again",
        level: Level::Should,
        source: "Duplicate Data; Full Success",
        cases: ALL,
        run: |server, case| {
            let mark = Mark::new();
            let message = request(case.signal, vec![item(case.signal, &mark, Vec::new())]);
            let call = Call::of(case, &message);
            for _ in 0..3 {
                let answer = server.answer(&call)?;
                ensure(answer.took_all(), || answer.seen())?;
            }
            Ok(())
        },
    },
];

fn rejected_alone(server: &Server, case: Case, field: &str, id: Vec<u8>) -> Verdict {
    let mark = Mark::new();
    let good = span(&mark, Vec::new());
    let bad = good.clone().but(field, Value::Id(id));
    rejects_one(server, case, &mark, vec![good, bad])
}

/// One of two items must be rejected, and the other kept.
fn rejects_one(server: &Server, case: Case, mark: &Mark, items: Vec<Message>) -> Verdict {
    let answer = server.answer(&Call::of(case, &request(case.signal, items)))?;
    ensure(answer.rejected() == Some(1), || answer.seen())?;
    server.rows(Situation::Plain, mark, 1).map(|_| ())
}

/// A request of the one item must be accepted, with the expected row.
fn one_row(
    server: &Server,
    case: Case,
    item: impl Fn(&Mark) -> Message,
    expected: &Json,
) -> Verdict {
    let mark = Mark::new();
    let message = request(case.signal, vec![item(&mark)]);
    let rows = server.kept(&Call::of(case, &message), &mark, 1)?;
    rows.iter().try_for_each(|row| has(row, expected))
}

/// True if all that is expected is present, regardless of other members.
pub(super) fn has(found: &Json, expected: &Json) -> Verdict {
    fn is_in(expected: &Json, found: &Json) -> bool {
        match expected {
            Json::Object(members) => members
                .iter()
                .all(|(key, value)| is_in(value, found.get(key).unwrap_or(&Json::Null))),
            other => other == found,
        }
    }
    ensure(is_in(expected, found), || {
        format!("{expected} should be in what is stored: {found}")
    })
}

fn log_ids(server: &Server, case: Case) -> Verdict {
    let ids = [
        (Vec::new(), Vec::new()),
        (vec![0; 16], vec![0; 8]),
        (vec![1; 15], vec![1; 9]),
    ];
    for (trace_id, span_id) in ids {
        let item = |mark: &Mark| {
            log_record(mark, Vec::new())
                .but("traceId", Value::Id(trace_id.clone()))
                .but("spanId", Value::Id(span_id.clone()))
        };
        let expected = json!({ "traceId": null, "spanId": null });
        let sent = format!("ids of {} and {} bytes", trace_id.len(), span_id.len());
        one_row(server, case, item, &expected).map_err(|fault| fault.of(&sent))?;
    }
    Ok(())
}

fn with_flags(case: Case, mark: &Mark) -> Message {
    use crate::case::Signal::{Logs, Metrics, Traces};
    match case.signal {
        Traces => {
            let link = Message::default()
                .with(1, "traceId", Value::Id(mark.trace_id()))
                .with(2, "spanId", Value::Id(mark.span_id()))
                .with(6, "flags", Value::Fixed32(u32::MAX));
            span(mark, Vec::new()).many(13, "links", vec![link]).with(
                16,
                "flags",
                Value::Fixed32(u32::MAX),
            )
        }
        Logs => log_record(mark, Vec::new()).with(8, "flags", Value::Fixed32(u32::MAX)),
        // Bit 1 would mean that no value was recorded.
        Metrics => gauge(vec![number_point(mark, Vec::new()).with(
            8,
            "flags",
            Value::Varint(u32::MAX - 1),
        )]),
    }
}

fn log_times(server: &Server, case: Case) -> Verdict {
    let own = |mark: &Mark| log_record(mark, Vec::new());
    let observed = |mark: &Mark| own(mark).without("timeUnixNano");
    let neither = |mark: &Mark| observed(mark).without("observedTimeUnixNano");
    let nanos = |time: u64| json!({ "timeUnixNano": time.to_string() });
    one_row(server, case, own, &nanos(TIME))?;
    one_row(server, case, observed, &nanos(TIME + 1))?;
    let mark = Mark::new();
    let message = request(case.signal, vec![neither(&mark)]);
    for row in server.kept(&Call::of(case, &message), &mark, 1)? {
        let ms = row["timestamp"].as_u64().unwrap_or_default();
        ensure(ms > TIME / 1_000_000, || format!("stored with time {ms}"))?;
    }
    server.shows_what_it_keeps()
}
