//! R1 to R5: gRPC's services, sizes, calls at the same time, and refusals with their trailers.
//!
//! **Invariant:** the answers are read from HTTP/2 directly, including trailers; no gRPC library is involved.

use prost::Message as _;

use super::accepted::compress;
use super::routes::good;
use super::transport::{LARGE_BYTES, TOO_LARGE_BYTES, large};
use super::{Check, Level};
use crate::answer::{Answer, Outcome, Refusal};
use crate::case::{Case, GRPC, GRPC_TRACES, Signal};
use crate::frames::{self, Greeting};
use crate::server::{Call, Server, Situation};
use crate::status::{RetryInfo, Status, code_name, unbase64};
use crate::telemetry::{Mark, item, metrics_of_every_kind, request};
use crate::verdict::{Fault, Verdict, ensure};
use crate::wire::Connection;

const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;

const SIZES: &str = "the specification names no size; clients send up to 64 MiB";

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "R1",
        rule: "the signal's service takes an Export",
        level: Level::Must,
        source: "OTLP/gRPC Service and Protobuf Definitions",
        cases: GRPC,
        run: |server, case| {
            let mark = Mark::new();
            let items = match case.signal {
                Signal::Metrics => metrics_of_every_kind(&mark),
                signal => vec![item(signal, &mark, Vec::new())],
            };
            let rows = items.len();
            server.takes(&Call::of(case, &request(case.signal, items)), &mark, rows)
        },
    },
    Check {
        row: "R1",
        rule: "a method that no service has is unimplemented",
        level: Level::Wish,
        source: "gRPC's status codes",
        cases: GRPC,
        run: |server, case| {
            let method = case.signal.method().replace("Export", "Conform");
            let answer = server.answer(&good(case, &Mark::new()).on(&method))?;
            refused_with(&answer, UNIMPLEMENTED).map(|_| ())
        },
    },
    Check {
        row: "R1",
        rule: "the health service says that it is serving",
        level: Level::Wish,
        source: "gRPC's Health Checking Protocol",
        cases: GRPC_TRACES,
        run: |server, case| {
            let call = Call::raw(case, "").on("/grpc.health.v1.Health/Check");
            let reply = server.reply(&call)?;
            let code = status_code(&Answer::read_status(&reply)?);
            // HealthCheckResponse.status = SERVING.
            let is_serving = code == 0 && *reply.body == [0, 0, 0, 0, 2, 8, 1];
            ensure(is_serving, || {
                format!("{}, {:?}", code_name(code), reply.body)
            })
        },
    },
    Check {
        row: "R2",
        rule: "a message of 60 MiB once decompressed is accepted",
        level: Level::Wish,
        source: SIZES,
        cases: GRPC_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            let mark = Mark::new();
            let call = gzip(Call::of(case, &large(case.signal, &mark, LARGE_BYTES)));
            server.takes(&call, &mark, 1)
        },
    },
    Check {
        row: "R2",
        rule: "a message too large, compressed or not, is refused with RESOURCE_EXHAUSTED",
        level: Level::Wish,
        source: SIZES,
        cases: GRPC_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            for call in too_large(case) {
                refused_with(&server.answer(&call)?, RESOURCE_EXHAUSTED)?;
            }
            Ok(())
        },
    },
    Check {
        row: "R2",
        rule: "a message too large is refused with no code that clients retry",
        level: Level::Should,
        source: "OTLP/gRPC Response, Failures: it fails for ever",
        cases: GRPC_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            for call in too_large(case) {
                never_again(&server.answer(&call)?)?;
            }
            Ok(())
        },
    },
    Check {
        row: "R3",
        rule: "a hundred calls at once on one connection are all answered",
        level: Level::Should,
        source: "OTLP/gRPC Concurrent Requests",
        cases: GRPC,
        run: hundred,
    },
    Check {
        row: "R3",
        rule: "the server limits how many calls a connection has at once",
        level: Level::Wish,
        source: "RFC 9113, section 6.5.2, SETTINGS_MAX_CONCURRENT_STREAMS",
        cases: GRPC_TRACES,
        run: |server, case| is_set(server, case, frames::MAX_CONCURRENT_STREAMS),
    },
    Check {
        row: "R3",
        rule: "the server says how long a list of headers may be",
        level: Level::Wish,
        source: "RFC 9113, section 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE",
        cases: GRPC_TRACES,
        run: |server, case| is_set(server, case, frames::MAX_HEADER_LIST_SIZE),
    },
    Check {
        row: "R3",
        rule: "a client's keepalive ping is answered",
        level: Level::Must,
        source: "RFC 9113, section 6.7",
        cases: GRPC_TRACES,
        run: |server, case| {
            let greeting = greeting(server, case)?;
            ensure(greeting.ponged, || "no answer to a PING".to_owned())
        },
    },
    Check {
        row: "R4",
        rule: "a server that cannot take more answers UNAVAILABLE",
        level: Level::Should,
        source: "OTLP/gRPC Throttling",
        cases: GRPC,
        run: |server, case| {
            let answer = server.answer(&refused(case))?;
            refused_with(&answer, UNAVAILABLE).map(|_| ())
        },
    },
    Check {
        row: "R4",
        rule: "its details hold a RetryInfo of 1 to 5 seconds",
        level: Level::Wish,
        source: "OTLP/gRPC Throttling: MAY; SDKs drop at once what they would have to hold longer",
        cases: GRPC,
        run: |server, case| {
            let answer = server.answer(&refused(case))?;
            let status = refused_with(&answer, UNAVAILABLE)?;
            within_patience(status.retry_info())
        },
    },
    Check {
        row: "R4",
        rule: "the RetryInfo is also in the trailer google.rpc.retryinfo-bin",
        level: Level::Wish,
        source: "clients that read no details",
        cases: GRPC,
        run: |server, case| {
            let reply = server.reply(&refused(case))?;
            let name = "google.rpc.retryinfo-bin";
            let found = reply.trailers.get(name).or_else(|| reply.headers.get(name));
            let Some(text) = found.and_then(|value| value.to_str().ok()) else {
                return Err(Fault::Failed("no such trailer".to_owned()));
            };
            within_patience(RetryInfo::decode(&*unbase64(text)?).ok())
        },
    },
    Check {
        row: "R5",
        rule: "what cannot be decoded is refused with INVALID_ARGUMENT",
        level: Level::Should,
        source: "OTLP/gRPC Response, Failures: recommended",
        cases: GRPC,
        run: |server, case| {
            for (what, call) in super::answers::undecodable(case) {
                let answer = server.answer(&call)?;
                ensure(answer.is_bad_data(), || {
                    format!("{what}: {}", answer.seen())
                })?;
            }
            Ok(())
        },
    },
    Check {
        row: "R5",
        rule: "what cannot be decoded is refused with no code that clients retry",
        level: Level::Should,
        source: "OTLP/gRPC Response, Failures: it fails for ever",
        cases: GRPC,
        run: |server, case| {
            for (what, call) in super::answers::undecodable(case) {
                let answer = server.answer(&call)?;
                never_again(&answer).map_err(|fault| fault.of(what))?;
            }
            Ok(())
        },
    },
    Check {
        row: "R5",
        rule: "the refusal of bad data has a BadRequest among its details",
        level: Level::Wish,
        source: "OTLP/gRPC Response, Failures: MAY",
        cases: GRPC,
        run: |server, case| {
            let answer = server.answer(&Call::raw(case, "\u{1}neither\u{7}"))?;
            let status = refused_with(&answer, INVALID_ARGUMENT)?;
            let detail = status.detail("google.rpc.BadRequest");
            ensure(detail.is_some(), || answer.seen())
        },
    },
];

fn refused(case: Case) -> Call {
    good(case, &Mark::new()).at(Situation::Refusing)
}

fn gzip(mut call: Call) -> Call {
    call.body = compress(&call.body, "gzip").into();
    call.said_to_be("gzip")
}

fn too_large(case: Case) -> [Call; 2] {
    let plain = Call::of(case, &large(case.signal, &Mark::new(), TOO_LARGE_BYTES));
    [plain.clone(), gzip(plain)]
}

fn status_code(outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Refused(Refusal::Grpc(code, _)) => *code,
        Outcome::Refused(Refusal::Http(_)) | Outcome::Success { .. } => 0,
    }
}

fn refused_with(answer: &Answer, wanted: u32) -> Result<Status, Fault> {
    match &answer.outcome {
        Outcome::Refused(Refusal::Grpc(code, status)) if *code == wanted => Ok(status.clone()),
        _ => Err(Fault::Failed(answer.seen())),
    }
}

/// Expects a refusal after which no client sends the request again.
fn never_again(answer: &Answer) -> Verdict {
    let is_refused = matches!(answer.outcome, Outcome::Refused(_));
    ensure(is_refused && !answer.is_retryable(), || answer.seen())
}

fn within_patience(info: Option<RetryInfo>) -> Verdict {
    let Some(delay) = info.and_then(|info| info.retry_delay) else {
        return Err(Fault::Failed("no RetryInfo with a delay".to_owned()));
    };
    let is_patient = (1..=4).contains(&delay.seconds) || (delay.seconds, delay.nanos) == (5, 0);
    ensure(is_patient, || {
        format!("a delay of {} s and {} ns", delay.seconds, delay.nanos)
    })
}

fn hundred(server: &Server, case: Case) -> Verdict {
    let url = server.url(case, Situation::Plain)?;
    let replies = server.block_on(async {
        let first = good(case, &Mark::new());
        let connection = Connection::open(&url, first.version).await?;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut shared = connection.share().ok_or("HTTP/2 is not what is spoken")?;
            let request = good(case, &Mark::new()).request(&url);
            calls.spawn(async move { shared.send(request).await });
        }
        Ok::<_, String>(calls.join_all().await)
    })?;
    for reply in replies {
        let answer = Answer::read(reply?, case)?;
        ensure(answer.took_all(), || answer.seen())?;
    }
    Ok(())
}

fn greeting(server: &Server, case: Case) -> Result<Greeting, Fault> {
    let url = server.url(case, Situation::Plain)?;
    Ok(server.block_on(frames::greet(&url))?)
}

fn is_set(server: &Server, case: Case, setting: u16) -> Verdict {
    let settings = greeting(server, case)?.settings;
    let found = settings.iter().find(|(id, _)| *id == setting);
    ensure(found.is_some_and(|(_, value)| *value < u32::MAX), || {
        format!("its settings are {settings:?}")
    })
}
