//! The span of a request in our own traces, and the caller's trace id in its log lines.
//!
//! **Invariant:** the caller's sampling decision applies if it sends one. Otherwise a share of requests is traced, none
//! of them a probe or scrape.

use axum::extract::Request;
use axum::http::{StatusCode, Version};
use axum::response::Response;
use futures_util::future::Either;
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use opentelemetry::trace::TraceContextExt;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::receive::protocol::grpc::calls;
use crate::receive::response::{BodyFormat, ResponseFormat};
use crate::telemetry::own_traces::{TARGET, caller, draw, is_on, spans};
use crate::text::shown;

/// The routes of probes and scrapes, which are traced only if the caller asks for it.
const UNASKED: [&str; 6] = [
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// The tracing of one request.
pub(crate) enum RequestSpan {
    /// Not traced, and without a caller's trace.
    No,
    /// Not traced; its log lines still carry the caller's trace id.
    Caller(Context),
    /// Traced by this span.
    Span(Span),
}

impl RequestSpan {
    /// Decides from the head if the request is traced, and begins its span.
    pub(crate) fn begin(
        request: &Request,
        method: &'static str,
        route: Option<&str>,
        form: ResponseFormat,
    ) -> Self {
        let context = match caller::context(request.headers()) {
            Some(caller) => {
                let sampled = caller.is_sampled();
                let context = Context::new().with_remote_span_context(caller);
                if !sampled || !is_on() {
                    return Self::Caller(context);
                }
                context
            }
            None if draw() && !route.is_some_and(|route| UNASKED.contains(&route)) => {
                Context::new()
            }
            None => return Self::No,
        };
        let _parent = context.attach();
        Self::Span(match form.shape {
            BodyFormat::Grpc => call(route),
            _ => http(request, method, route),
        })
    }

    /// Runs `answer` within the request's span, or within the caller's context.
    pub(crate) fn within(
        &self,
        answer: impl Future<Output = Response>,
    ) -> impl Future<Output = Response> {
        // An async block would hold the answer's future twice.
        match self {
            Self::No => Either::Left(answer),
            Self::Caller(context) => {
                Either::Right(Either::Left(answer.with_context(context.clone())))
            }
            Self::Span(span) => Either::Right(Either::Right(answer.instrument(span.clone()))),
        }
    }

    /// Records the answer's status in the span.
    pub(crate) fn answered(&self, answer: &Response, form: ResponseFormat) {
        let Self::Span(span) = self else {
            return;
        };
        if form.shape == BodyFormat::Grpc {
            let code = calls::code_name(answer.headers());
            span.record("rpc.response.status_code", code);
            // OpenTelemetry semantic conventions for gRPC, "Status" of server spans.
            if matches!(
                code,
                "UNKNOWN"
                    | "DEADLINE_EXCEEDED"
                    | "UNIMPLEMENTED"
                    | "INTERNAL"
                    | "UNAVAILABLE"
                    | "DATA_LOSS"
            ) {
                spans::fail(span, code);
            }
            return;
        }
        let status: StatusCode = answer.status();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            spans::fail(span, status.as_str());
        }
    }
}

fn http(request: &Request, method: &'static str, route: Option<&str>) -> Span {
    let verb = if method == "_OTHER" { "HTTP" } else { method };
    let name = match route {
        Some(route) => format!("{verb} {route}"),
        None => verb.to_owned(),
    };
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    info_span!(target: TARGET, "request", otel.name = name, otel.kind = "server",
        http.request.method = method, http.route = route, url.scheme = "http", url.path = shown(request.uri().path()),
        network.protocol.version = version,
        http.response.status_code = Empty, error.type = Empty, otel.status_code = Empty)
}

fn call(route: Option<&str>) -> Span {
    let method = calls::method_name(route.unwrap_or_default());
    info_span!(target: TARGET, "call", otel.name = method, otel.kind = "server",
        rpc.system.name = "grpc", rpc.method = method,
        rpc.response.status_code = Empty, error.type = Empty, otel.status_code = Empty)
}
