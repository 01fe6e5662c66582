//! H5, H11, H12, H14: sizes in and out, kept connections, compressed answers.
//!
//! **Invariant:** too large means far too large, and sizes that should fit are well within the limit: no check depends
//! on one byte.

use std::io::Read;

use super::accepted::compress;
use super::routes::{good, has_status};
use super::{Check, Level};
use crate::answer::shortened;
use crate::case::{Case, HTTP, HTTP_TRACES, Signal, Way};
use crate::message::{Message, Value};
use crate::server::{Call, Server, Situation};
use crate::status::Status;
use crate::telemetry::{Mark, attribute, item, request, span, string};
use crate::verdict::{Fault, Verdict, ensure};
use crate::wire::{Connection, Reply};

/// More than a server should accept, as one client's largest request is 64 MiB.
pub(super) const TOO_LARGE_BYTES: usize = 80 << 20;

/// A size that a server should accept.
pub(super) const LARGE_BYTES: usize = 60 << 20;

const ANSWER_BYTES: usize = 4 << 20;
const TEXT_BYTES: usize = 1 << 10;

const SIZES: &str = "the specification names no size; clients send up to 64 MiB";

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "H5",
        rule: "a body of 60 MiB once decompressed is accepted",
        level: Level::Wish,
        source: SIZES,
        cases: HTTP_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            let mark = Mark::new();
            let mut call = Call::of(case, &large(case.signal, &mark, LARGE_BYTES));
            call.body = compress(&call.body, "gzip").into();
            server.takes(&call.said_to_be("gzip"), &mark, 1)
        },
    },
    Check {
        row: "H5",
        rule: "a body too large on the wire is refused with 413",
        level: Level::Wish,
        source: SIZES,
        cases: HTTP_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            let call = Call::of(case, &large(case.signal, &Mark::new(), TOO_LARGE_BYTES));
            let reply = server.reply(&call)?;
            ensure(reply.status == 413, || reply.seen())
        },
    },
    Check {
        row: "H5",
        rule: "a body too large once decompressed is refused with 413",
        level: Level::Wish,
        source: SIZES,
        cases: HTTP_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            let reply = server.reply(&bomb(case))?;
            ensure(reply.status == 413, || reply.seen())
        },
    },
    Check {
        row: "H5",
        rule: "the answer to a body too large has a Status for a body",
        level: Level::Must,
        source: "OTLP/HTTP Response, Failures",
        cases: HTTP_TRACES,
        run: |server, case| {
            let _alone = server.alone();
            let reply = server.reply(&bomb(case))?;
            has_status(&reply)
        },
    },
    Check {
        row: "H11",
        rule: "an answer that rejects many items is short",
        level: Level::Wish,
        source: "clients give an answer 4 MiB",
        cases: HTTP_TRACES,
        run: many_rejected,
    },
    Check {
        row: "H11",
        rule: "an answer to a request with a huge error in it is short",
        level: Level::Wish,
        source: "clients give an answer 4 MiB",
        cases: HTTP,
        run: |server, case| {
            let mut body = b"{\"".to_vec();
            body.resize(8 << 20, b'x');
            let reply = server.reply(&Call::raw(case, body))?;
            ensure(reply.status >= 400, || reply.seen())?;
            is_short(&reply)?;
            let message = Status::of_body(&reply)?.message;
            ensure(message.len() <= TEXT_BYTES, || {
                format!("a message of {} bytes", message.len())
            })
        },
    },
    Check {
        row: "H12",
        rule: "a connection is kept from one request to the next",
        level: Level::Should,
        source: "OTLP/HTTP Connection; RFC 9112, section 9.3",
        cases: HTTP_TRACES,
        run: |server, case| in_one_connection(server, case, &[good(case, &Mark::new())], 200),
    },
    Check {
        row: "H12",
        rule: "a connection is kept after an error whose request was read",
        level: Level::Should,
        source: "RFC 9112, section 9.3",
        cases: HTTP_TRACES,
        run: |server, case| {
            let good = good(case, &Mark::new());
            let errors = [
                Call::raw(case, "\u{1}neither\u{7}"),
                good.clone().on("/v1/conformance"),
                good.clone().with_content_type(Some("text/plain")),
                good.clone().with_method(hyper::Method::PUT),
            ];
            in_one_connection(server, case, &errors, 400)
        },
    },
    Check {
        row: "H14",
        rule: "an answer is in gzip when Accept-Encoding asks for it",
        level: Level::Wish,
        source: "OTLP/HTTP Response: MAY",
        cases: HTTP,
        run: gzip_answer,
    },
    Check {
        row: "H14",
        rule: "an answer is not compressed unless that is asked for",
        level: Level::Wish,
        source: "OTLP/HTTP Response: only a client that sends the header can be expected to read it",
        cases: HTTP,
        run: |server, case| {
            for body in [
                good(case, &Mark::new()),
                Call::raw(case, "\u{1}neither\u{7}"),
            ] {
                let reply = server.reply(&body)?;
                let coding = reply.header("content-encoding").unwrap_or("identity");
                ensure(coding == "identity", || format!("an answer in {coding}"))?;
            }
            Ok(())
        },
    },
];

/// A request of that size, which is almost entirely one attribute of its one item.
pub(super) fn large(signal: Signal, mark: &Mark, bytes: usize) -> Message {
    let text = "large ".repeat(bytes / 6);
    let attributes = vec![attribute("large", string(&text))];
    request(signal, vec![item(signal, mark, attributes)])
}

fn bomb(case: Case) -> Call {
    let mut call = Call::of(case, &large(case.signal, &Mark::new(), TOO_LARGE_BYTES));
    call.body = compress(&call.body, "gzip").into();
    call.said_to_be("gzip")
}

fn is_short(reply: &Reply) -> Verdict {
    ensure(reply.body.len() <= ANSWER_BYTES, || {
        format!("an answer of {} bytes", reply.body.len())
    })
}

/// Thousands of items, all of which servers may reject.
fn many_rejected(server: &Server, case: Case) -> Verdict {
    let mark = Mark::new();
    let bad = span(&mark, Vec::new()).but("traceId", Value::Id(vec![0; 16]));
    let mut spans = vec![bad; 20_000];
    let all = server.answer(&Call::of(case, &request(case.signal, spans.clone())))?;
    is_short(&all.reply)?;
    spans.push(span(&mark, Vec::new()));
    let answer = server.answer(&Call::of(case, &request(case.signal, spans)))?;
    is_short(&answer.reply)?;
    if all.took_all() && answer.took_all() {
        return Err(Fault::NotJudged("it rejects none of 20,000".to_owned()));
    }
    let told = answer.partial().map_or(0, |partial| partial.message.len());
    ensure(told <= TEXT_BYTES, || {
        format!("an errorMessage of {told} bytes")
    })
}

/// After each of these requests, which are answered with `least` or above, a valid request is sent over the same
/// connection.
fn in_one_connection(server: &Server, case: Case, calls: &[Call], least: u16) -> Verdict {
    let url = server.url(case, Situation::Plain)?;
    for call in calls {
        let (first, second) = server.block_on(async {
            let mut connection = Connection::open(&url, call.version).await?;
            let first = connection.send(call.request(&url)).await?;
            let after = good(case, &Mark::new());
            let second = connection.send(after.request(&url)).await;
            Ok::<_, String>((first, second))
        })?;
        ensure(first.status >= least, || first.seen())?;
        let second = second.map_err(|error| format!("after HTTP {}: {error}", first.status))?;
        ensure(second.status == 200, || {
            format!("after HTTP {}: {}", first.status, second.seen())
        })?;
    }
    Ok(())
}

fn gzip_answer(server: &Server, case: Case) -> Verdict {
    let asking = |call: Call| call.with_header("accept-encoding", "gzip");
    let reply = server.reply(&asking(Call::raw(case, "\u{1}neither\u{7}")))?;
    let coding = reply.header("content-encoding").unwrap_or("identity");
    ensure(coding == "gzip", || format!("an error's body in {coding}"))?;
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&*reply.body)
        .take(1 << 20)
        .read_to_end(&mut body)
        .map_err(|error| format!("an error's body that is no gzip: {error}"))?;
    let is_json = matches!(case.way, Way::Json);
    ensure(!is_json || body.starts_with(b"{"), || {
        shortened(&String::from_utf8_lossy(&body))
    })?;
    let success = server.reply(&asking(good(case, &Mark::new())))?;
    ensure(success.status == 200, || success.seen())
}
