//! Durations of gRPC calls by method and status (OpenTelemetry semantic conventions, `rpc.server.call.duration`).
//!
//! **Invariant:** methods and codes are closed sets: no text that a client chooses becomes a label.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::HeaderMap;
use metrics::Histogram;

use crate::receive::protocol::grpc::answer::STATUS;
use crate::telemetry::metrics::RPC_SERVER_CALL_DURATION_SECONDS;

/// The served methods, then the label of all others.
const METHODS: [&str; 6] = [
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "_OTHER",
];

/// The names of gRPC's codes, indexed by number (google/rpc/code.proto).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The histograms, each registered with the recorder once.
#[derive(Clone, Default)]
pub(crate) struct CallMetrics(Arc<[[OnceLock<Histogram>; CODES.len()]; METHODS.len()]>);

impl CallMetrics {
    /// Records the duration of a call to the method at `route`, answered with these headers.
    pub(crate) fn record(&self, route: &str, answer: &HeaderMap, took: Duration) {
        let method = method(route);
        let code = code(answer);
        self.0[method][code]
            .get_or_init(|| {
                metrics::histogram!(RPC_SERVER_CALL_DURATION_SECONDS,
                    "rpc_method" => METHODS[method],
                    "rpc_response_status_code" => CODES[code])
            })
            .record(took);
    }
}

/// Returns the name of the method at `route`, or `_OTHER`.
pub(crate) fn method_name(route: &str) -> &'static str {
    METHODS[method(route)]
}

/// Returns the name of the code in these headers.
pub(crate) fn code_name(answer: &HeaderMap) -> &'static str {
    CODES[code(answer)]
}

/// Returns the index of the method at `route` in [`METHODS`].
fn method(route: &str) -> usize {
    let name = route.strip_prefix('/').unwrap_or_default();
    let known = METHODS.iter().position(|method| *method == name);
    known.unwrap_or(METHODS.len() - 1)
}

/// Returns the index of the code in [`CODES`]. Without a status in the headers it is OK so far: the status follows in
/// the trailers.
fn code(answer: &HeaderMap) -> usize {
    let text = answer.get(STATUS).and_then(|value| value.to_str().ok());
    let number = text.map_or(Ok(0), str::parse::<usize>);
    number.ok().filter(|code| *code < CODES.len()).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::{CODES, METHODS, STATUS, code, method};
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn what_nobody_serves_is_one_label() {
        assert_eq!(
            METHODS[method("/grpc.health.v1.Health/Check")],
            "grpc.health.v1.Health/Check"
        );
        for route in [
            "",
            "/",
            "/v1/traces",
            "grpc.health.v1.Health/Check",
            "/_OTHER",
        ] {
            assert_eq!(METHODS[method(route)], "_OTHER", "{route}");
        }
    }

    #[test]
    fn a_code_stands_at_its_number() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static(text))]);
            CODES[code(&headers)]
        };
        assert_eq!(CODES[code(&HeaderMap::new())], "OK");
        for (number, name) in [
            ("0", "OK"),
            ("3", "INVALID_ARGUMENT"),
            ("14", "UNAVAILABLE"),
            ("16", "UNAUTHENTICATED"),
            ("17", "UNKNOWN"),
            ("x", "UNKNOWN"),
        ] {
            assert_eq!(of(number), name);
        }
    }
}
