//! H13, H15 and R6: browsers, tokens, exporters that were given an endpoint without a path.
//!
//! **Invariant:** each check tries what must be admitted beside what must be refused.

use hyper::Method;

use super::routes::good;
use super::{Check, Level};
use crate::answer::{Outcome, Refusal};
use crate::case::{ALL, Case, HTTP};
use crate::server::{Call, ORIGIN, Server, Situation, TOKEN};
use crate::status::Status;
use crate::telemetry::Mark;
use crate::verdict::{Verdict, ensure};
use crate::wire::Reply;

const BROWSERS: &str = "browsers keep to the Fetch standard; OTLP is silent";
const TOKENS: &str = "RFC 6750; gRPC's status codes; OTLP is silent";

pub(super) const CHECKS: &[Check] = &[
    Check {
        row: "H13",
        rule: "by default no page of another origin may send or read",
        level: Level::Wish,
        source: BROWSERS,
        cases: HTTP,
        run: |server, case| {
            for call in [preflight(case, ORIGIN), from(case, ORIGIN)] {
                let reply = server.reply(&call)?;
                ensure(allowed(&reply).is_empty(), || shared(&reply))?;
            }
            Ok(())
        },
    },
    Check {
        row: "H13",
        rule: "a page of a listed origin may send, asked without credentials",
        level: Level::Wish,
        source: BROWSERS,
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&preflight(case, ORIGIN).at(Situation::Cors))?;
            let headers = reply
                .header("access-control-allow-headers")
                .unwrap_or_default()
                .to_ascii_lowercase();
            let is_open = (200..300).contains(&reply.status)
                && [ORIGIN, "*"].contains(&allowed(&reply))
                && (headers.contains("content-type") || headers == "*");
            ensure(is_open, || shared(&reply))
        },
    },
    Check {
        row: "H13",
        rule: "a page of a listed origin may read the answer",
        level: Level::Wish,
        source: BROWSERS,
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&from(case, ORIGIN).at(Situation::Cors))?;
            let is_open = reply.status == 200 && [ORIGIN, "*"].contains(&allowed(&reply));
            ensure(is_open, || shared(&reply))
        },
    },
    Check {
        row: "H13",
        rule: "a page of an origin that is not listed may neither",
        level: Level::Wish,
        source: BROWSERS,
        cases: HTTP,
        run: |server, case| {
            const OTHER: &str = "http://other.example";
            for call in [preflight(case, OTHER), from(case, OTHER)] {
                let reply = server.reply(&call.at(Situation::Cors))?;
                ensure(allowed(&reply).is_empty(), || shared(&reply))?;
            }
            Ok(())
        },
    },
    Check {
        row: "H15",
        rule: "OTLP sent to / is answered with 404",
        level: Level::Wish,
        source: "SDKs that are given an endpoint without a path send there",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&good(case, &Mark::new()).on("/"))?;
            ensure(reply.status == 404, || reply.seen())
        },
    },
    Check {
        row: "H15",
        rule: "the answer on / says which path takes OTLP",
        level: Level::Wish,
        source: "SDKs that are given an endpoint without a path send there",
        cases: HTTP,
        run: |server, case| {
            let reply = server.reply(&good(case, &Mark::new()).on("/"))?;
            let status = Status::of_body(&reply)?;
            let message = &status.message;
            ensure(message.contains(case.signal.path()), || message.clone())
        },
    },
    Check {
        row: "R6",
        rule: "without its token a request is not authenticated",
        level: Level::Wish,
        source: TOKENS,
        cases: ALL,
        run: |server, case| {
            kept_out(server, &good(case, &Mark::new()))?;
            kept_out(server, &bearing(case, "another"))
        },
    },
    Check {
        row: "R6",
        rule: "with its token a request is accepted",
        level: Level::Wish,
        source: TOKENS,
        cases: ALL,
        run: |server, case| {
            let answer = server.answer(&bearing(case, TOKEN).at(Situation::Auth))?;
            ensure(answer.took_all(), || answer.seen())
        },
    },
];

fn preflight(case: Case, origin: &str) -> Call {
    Call::raw(case, "")
        .with_method(Method::OPTIONS)
        .with_content_type(None)
        .with_header("origin", origin)
        .with_header("access-control-request-method", "POST")
        .with_header(
            "access-control-request-headers",
            "authorization,content-type",
        )
}

fn from(case: Case, origin: &str) -> Call {
    bearing(case, TOKEN).with_header("origin", origin)
}

fn allowed(reply: &Reply) -> &str {
    reply
        .header("access-control-allow-origin")
        .unwrap_or_default()
}

fn shared(reply: &Reply) -> String {
    let of = |name| reply.header(name).unwrap_or("none");
    format!(
        "HTTP {}, Access-Control-Allow-Origin {}, -Headers {}",
        reply.status,
        of("access-control-allow-origin"),
        of("access-control-allow-headers")
    )
}

fn bearing(case: Case, token: &str) -> Call {
    good(case, &Mark::new()).with_header("authorization", &format!("Bearer {token}"))
}

fn kept_out(server: &Server, call: &Call) -> Verdict {
    let answer = server.answer(&call.clone().at(Situation::Auth))?;
    let is_out = matches!(
        answer.outcome,
        Outcome::Refused(Refusal::Http(401 | 403) | Refusal::Grpc(7 | 16, _))
    );
    ensure(is_out, || answer.seen())
}
