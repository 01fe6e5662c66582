//! Middleware around every request of every route: limits on its head, a guard against panics, its span and its
//! duration.
//!
//! **Invariant:** no text that a client chooses becomes a metric's label: methods and routes are closed sets.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures_util::FutureExt;

use crate::error::Error;
use crate::receive::connection::connection_limit::NoFreeSlot;
use crate::receive::connection::request_span::RequestSpan;
use crate::receive::local_host;
use crate::receive::protocol::grpc::calls;
use crate::receive::response::{self, BodyFormat, ResponseFormat};
use crate::telemetry::metrics::HTTP_SERVER_REQUEST_DURATION_SECONDS;

/// Maximum length of a request's target.
const TARGET_BYTES: usize = 8 << 10;

/// The label of every method and route outside the closed sets.
const OTHER: &str = "_OTHER";

/// Wraps all routes of `router`, and its fallback, in the middleware.
pub(crate) fn with_middleware(router: Router, header_bytes: usize) -> Router {
    router.layer(from_fn_with_state(header_bytes, guard))
}

async fn guard(State(header_bytes): State<usize>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let form = ResponseFormat::of(request.version(), request.uri().path(), request.headers());
    let route = route.as_ref().map(|route| route_label(route.as_str()));
    let traced = RequestSpan::begin(&request, method, route, form);
    let answering = async {
        match check_head(&request, header_bytes) {
            Ok(()) => AssertUnwindSafe(next.run(request))
                .catch_unwind()
                .await
                .unwrap_or_else(|_panic| {
                    tracing::error!(method, "answering a request panicked");
                    response::error(&after_panic(method), form)
                }),
            Err(error) => response::error(&error, form),
        }
    };
    let response = traced.within(answering).await;
    traced.answered(&response, form);
    let route = route.unwrap_or(OTHER);
    let took = begun.elapsed();
    match form.shape {
        BodyFormat::Grpc => calls::record_duration(route, response.headers(), took),
        _ => metrics::histogram!(HTTP_SERVER_REQUEST_DURATION_SECONDS,
            "http_request_method" => method,
            "http_route" => route.to_owned(),
            "http_response_status_code" => response.status().as_str().to_owned())
        .record(took),
    }
    response
}

/// Returns the answer after a panic; it is [`Error::Unknown`] for POST, whose events may have reached the journal.
fn after_panic(method: &str) -> Error {
    if method == "POST" {
        return Error::Unknown;
    }
    Error::unavailable("the service failed to answer; its log lines name the place")
}

/// Returns `true` for the paths that probes and scrapers request.
pub(crate) fn is_of_monitoring(path: &str) -> bool {
    matches!(path, "/health" | "/metrics") || path.starts_with("/health/")
}

fn check_head(request: &Request, header_bytes: usize) -> Result<(), Error> {
    if let Some(NoFreeSlot { connections }) = request.extensions().get() {
        return Err(Error::unavailable(format!(
            "all {connections} places for connections are taken"
        )));
    }
    local_host::check_host(request)?;
    local_host::check_transfer_coding(request.headers())?;
    let target = request.uri();
    let query_bytes = target.query().map_or(0, |query| 1 + query.len());
    if target.path().len() + query_bytes > TARGET_BYTES {
        return Err(Error::LongTarget {
            limit_bytes: TARGET_BYTES,
        });
    }
    let line_bytes = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    if request.headers().iter().map(line_bytes).sum::<usize>() > header_bytes {
        return Err(Error::LargeHeaders {
            limit_bytes: header_bytes,
        });
    }
    Ok(())
}

/// Removes repeated leading slashes and trailing ones from a route: `//v1/traces` and `/v1/traces/` become
/// `/v1/traces`.
fn route_label(route: &str) -> &str {
    let route = route.trim_end_matches('/');
    let slashes = route.len() - route.trim_start_matches('/').len();
    match route.get(slashes.saturating_sub(1)..) {
        None | Some("") => "/",
        Some(route) => route,
    }
}

/// Returns the method if it is in the standard set, else `_OTHER` (OpenTelemetry semantic conventions,
/// `http.request.method`).
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::{Method, method_label};

    #[test]
    fn a_method_of_nobodys_is_no_label() {
        assert_eq!(method_label(&Method::POST), "POST");
        let long = Method::from_bytes("X".repeat(8192).as_bytes()).unwrap();
        assert_eq!(method_label(&long), "_OTHER");
        assert_eq!(
            method_label(&Method::from_bytes(b"post").unwrap()),
            "_OTHER"
        );
    }
}
