//! Durations of gRPC calls by method and status (OpenTelemetry semantic conventions, `rpc.server.call.duration`).
//!
//! **Invariant:** methods and codes are closed sets: no text that a client chooses becomes a label.

use std::time::Duration;

use axum::http::HeaderMap;
use tonic::Code;

use crate::receive::protocol::grpc::answer::STATUS;
use crate::telemetry::metrics::RPC_SERVER_CALL_DURATION_SECONDS;

/// The served methods.
const METHODS: [&str; 5] = [
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
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

/// Records the duration of a call to the method at `route`, answered with these headers.
pub(crate) fn record_duration(route: &str, answer: &HeaderMap, took: Duration) {
    metrics::histogram!(RPC_SERVER_CALL_DURATION_SECONDS,
        "rpc_method" => method_name(route),
        "rpc_response_status_code" => code_name(answer))
    .record(took);
}

/// Returns the name of the method at `route`, or `_OTHER`.
pub(crate) fn method_name(route: &str) -> &'static str {
    let name = route.strip_prefix('/').unwrap_or_default();
    let known = METHODS.into_iter().find(|method| *method == name);
    known.unwrap_or("_OTHER")
}

/// Returns the name of the code in these headers. Without a status in them it is OK so far: the status follows in the
/// trailers.
pub(crate) fn code_name(answer: &HeaderMap) -> &'static str {
    let code = answer
        .get(STATUS)
        .map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()));
    CODES[code as usize]
}

#[cfg(test)]
mod tests {
    use super::{STATUS, code_name, method_name};
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn what_nobody_serves_is_one_label() {
        let check = "grpc.health.v1.Health/Check";
        assert_eq!(method_name(&format!("/{check}")), check);
        for route in [
            "",
            "/",
            "/v1/traces",
            "grpc.health.v1.Health/Check",
            "/_OTHER",
        ] {
            assert_eq!(method_name(route), "_OTHER", "{route}");
        }
    }

    #[test]
    fn a_code_has_its_number_as_index() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static(text))]);
            code_name(&headers)
        };
        assert_eq!(code_name(&HeaderMap::new()), "OK");
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
