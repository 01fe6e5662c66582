//! H1 to H4: the served paths, methods, versions of HTTP and content types, and the answers to all others.
//!
//! **Invariant:** an error's body is judged separately from its status: OTLP itself defines only one of the two.

use hyper::Method;

use super::{Check, Level};
use crate::case::{Case, HTTP, HTTP_TRACES, Signal, Way};
use crate::frames;
use crate::message::Message;
use crate::server::{Call, Server, Situation};
use crate::status::Status;
use crate::telemetry::{Mark, item, metrics_of_every_kind, request};
use crate::verdict::{Fault, Verdict, ensure};
use crate::wire::{Reply, Version};

const STATUS_BODY: &str = "OTLP/HTTP Response, Failures";

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "H1",
        rule: "the signal's default path takes it",
        level: Level::Must,
        source: "OTLP/HTTP Request",
        cases: HTTP,
        run: |server, case| {
            let mark = Mark::new();
            let items = whole(case.signal, &mark);
            let rows = items.len();
            let call = Call::of(case, &request(case.signal, items));
            server.takes(&call, &mark, rows)
        },
    },
    Check {
        row: "H1",
        rule: "the path of a signal that is not served is not found",
        level: Level::Wish,
        source: "RFC 9110, section 15.5.5",
        cases: HTTP_TRACES,
        run: |server, case| {
            let reply = unserved(server, case)?;
            ensure(reply.status == 404, || reply.seen())
        },
    },
    Check {
        row: "H1",
        rule: "the answer on the path of a signal that is not served has a Status for a body",
        level: Level::Must,
        source: STATUS_BODY,
        cases: HTTP_TRACES,
        run: |server, case| has_status(&unserved(server, case)?),
    },
    Check {
        row: "H2",
        rule: "HTTP/1.1 is served",
        level: Level::Should,
        source: "OTLP/HTTP: clients fall back to it",
        cases: HTTP,
        run: |server, case| accepted_as(server, case, |call| call.over(Version::Http1)),
    },
    Check {
        row: "H2",
        rule: "HTTP/2 without TLS is served on the same port",
        level: Level::Wish,
        source: "OTLP/HTTP: MAY",
        cases: HTTP,
        run: |server, case| {
            let url = server.url(case, Situation::Plain)?;
            server
                .block_on(frames::greet(&url))
                .map_err(|_| "HTTP/2 is not spoken there".to_owned())?;
            accepted_as(server, case, |call| call.over(Version::Http2))
        },
    },
    Check {
        row: "H2",
        rule: "protobuf and JSON are distinguished on one path by their content type",
        level: Level::Should,
        source: "OTLP/HTTP Connection",
        cases: HTTP,
        run: |server, case| {
            accepted_as(server, case, |call| call)?;
            // Neither body is a message of the other encoding.
            let other = match case.way {
                Way::Json => "application/x-protobuf",
                Way::Protobuf | Way::Grpc => "application/json",
            };
            let call = good(case, &Mark::new()).with_content_type(Some(other));
            let reply = server.reply(&call)?;
            ensure(reply.status >= 400, || {
                format!("the other's content type: {}", reply.seen())
            })
        },
    },
    Check {
        row: "H2",
        rule: "parameters of the content type are ignored",
        level: Level::Wish,
        source: "RFC 9110, section 8.3.1",
        cases: HTTP,
        run: |server, case| {
            let content_type = format!("{}; charset=utf-8", case.way.content_type());
            accepted_as(server, case, |call| {
                call.with_content_type(Some(&content_type))
            })
        },
    },
    Check {
        row: "H2",
        rule: "the content type is known in any case",
        level: Level::Must,
        source: "RFC 9110, section 8.3.1: case-insensitive",
        cases: HTTP,
        run: |server, case| {
            let content_type = case
                .way
                .content_type()
                .replace("application", "Application");
            let content_type = content_type.replace("json", "JSON");
            accepted_as(server, case, |call| {
                call.with_content_type(Some(&content_type))
            })
        },
    },
    Check {
        row: "H3",
        rule: "a success has the request's content type",
        level: Level::Must,
        source: "OTLP/HTTP Response",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&good(case, &Mark::new()))?;
            has_content_type(&reply, case, 200)
        },
    },
    Check {
        row: "H3",
        rule: "an error has the request's content type",
        level: Level::Must,
        source: "OTLP/HTTP Response",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&Call::raw(case, "\u{1}neither\u{7}"))?;
            has_content_type(&reply, case, 400)
        },
    },
    Check {
        row: "H4",
        rule: "another content type, or none, is refused with 415",
        level: Level::Wish,
        source: "RFC 9110, section 15.5.16",
        cases: HTTP_TRACES,
        run: |server, case| {
            for content_type in FOREIGN_TYPES {
                let reply = server.reply(&of_type(case, *content_type))?;
                ensure(reply.status == 415, || {
                    format!("{content_type:?}: {}", reply.seen())
                })?;
            }
            Ok(())
        },
    },
    Check {
        row: "H4",
        rule: "the answer to another content type has a Status for a body",
        level: Level::Must,
        source: STATUS_BODY,
        cases: HTTP_TRACES,
        run: |server, case| {
            FOREIGN_TYPES.iter().try_for_each(|content_type| {
                has_status(&server.reply(&of_type(case, *content_type))?)
            })
        },
    },
    Check {
        row: "H4",
        rule: "another method is refused with 405",
        level: Level::Wish,
        source: "RFC 9110, section 15.5.6",
        cases: HTTP,
        run: |server, case| {
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                let reply = server.reply(&by(case, &method))?;
                ensure(reply.status == 405, || {
                    format!("{method}: {}", reply.seen())
                })?;
            }
            Ok(())
        },
    },
    Check {
        row: "H4",
        rule: "a 405 says in Allow that POST is the method",
        level: Level::Must,
        source: "RFC 9110, section 15.5.6",
        cases: HTTP_TRACES,
        run: |server, case| {
            let reply = server.reply(&by(case, &Method::GET))?;
            let allow = reply.header("allow").unwrap_or_default();
            ensure(
                allow.split(',').any(|method| method.trim() == "POST"),
                || format!("HTTP {} with Allow {allow:?}", reply.status),
            )
        },
    },
    Check {
        row: "H4",
        rule: "the answer to another method has a Status for a body",
        level: Level::Must,
        source: STATUS_BODY,
        cases: HTTP_TRACES,
        run: |server, case| {
            has_status(&server.reply(&by(case, &Method::GET))?)?;
            // A request without a content type does not indicate an encoding.
            let bare = by(case, &Method::GET).with_content_type(None);
            has_status(&server.reply(&bare)?)
        },
    },
];

const FOREIGN_TYPES: &[Option<&str>] = &[Some("text/plain"), Some("application/xml"), None];

fn whole(signal: Signal, mark: &Mark) -> Vec<Message> {
    match signal {
        Signal::Metrics => metrics_of_every_kind(mark),
        Signal::Traces | Signal::Logs => vec![item(signal, mark, Vec::new())],
    }
}

pub(super) fn good(case: Case, mark: &Mark) -> Call {
    let items = vec![item(case.signal, mark, Vec::new())];
    Call::of(case, &request(case.signal, items))
}

fn accepted_as(server: &Server, case: Case, change: impl Fn(Call) -> Call) -> Verdict {
    let mark = Mark::new();
    server.takes(&change(good(case, &mark)), &mark, 1)
}

/// The answer on the path of profiles, OTLP's fourth signal, from a server that does not support it.
fn unserved(server: &Server, case: Case) -> Result<Reply, Fault> {
    let call = Call::of(case, &Message::default()).on("/v1development/profiles");
    let reply = server.reply(&call)?;
    if reply.status == 200 {
        return Err(Fault::NotJudged("it serves profiles".to_owned()));
    }
    Ok(reply)
}

fn of_type(case: Case, content_type: Option<&str>) -> Call {
    good(case, &Mark::new()).with_content_type(content_type)
}

fn by(case: Case, method: &Method) -> Call {
    Call::raw(case, "").with_method(method.clone())
}

pub(super) fn has_content_type(reply: &Reply, case: Case, status: u16) -> Verdict {
    let content_type = reply.header("content-type").unwrap_or("none");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_so = reply.status == status && essence == case.way.content_type();
    ensure(is_so, || {
        format!("HTTP {} of content type {content_type}", reply.status)
    })
}

/// An error whose body is a `google.rpc.Status`, in either encoding.
pub(super) fn has_status(reply: &Reply) -> Verdict {
    ensure(reply.status >= 400, || reply.seen())?;
    Status::of_body(reply)?;
    Ok(())
}
