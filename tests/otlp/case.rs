//! The cases of a check: three signals, each in protobuf and JSON over HTTP and over gRPC.
//!
//! **Invariant:** a check runs for every case that its rule concerns, and each is a separate test.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// OTLP/HTTP, `application/x-protobuf`.
    Protobuf,
    /// OTLP/HTTP, `application/json`.
    Json,
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub signal: Signal,
    pub way: Way,
}

use Signal::{Logs, Metrics, Traces};
use Way::{Grpc, Json, Protobuf};

const fn case(signal: Signal, way: Way) -> Case {
    Case { signal, way }
}

pub(crate) const ALL: &[Case] = &[
    case(Traces, Protobuf),
    case(Traces, Json),
    case(Traces, Grpc),
    case(Logs, Protobuf),
    case(Logs, Json),
    case(Logs, Grpc),
    case(Metrics, Protobuf),
    case(Metrics, Json),
    case(Metrics, Grpc),
];

pub(crate) const TRACES: &[Case] = &[
    case(Traces, Protobuf),
    case(Traces, Json),
    case(Traces, Grpc),
];

pub(crate) const LOGS: &[Case] = &[case(Logs, Protobuf), case(Logs, Json), case(Logs, Grpc)];

pub(crate) const METRICS: &[Case] = &[
    case(Metrics, Protobuf),
    case(Metrics, Json),
    case(Metrics, Grpc),
];

pub(crate) const HTTP: &[Case] = &[
    case(Traces, Protobuf),
    case(Traces, Json),
    case(Logs, Protobuf),
    case(Logs, Json),
    case(Metrics, Protobuf),
    case(Metrics, Json),
];

pub(crate) const JSON: &[Case] = &[case(Traces, Json), case(Logs, Json), case(Metrics, Json)];

pub(crate) const GRPC: &[Case] = &[case(Traces, Grpc), case(Logs, Grpc), case(Metrics, Grpc)];

/// For rules of the transport, which do not differ by signal.
pub(crate) const HTTP_TRACES: &[Case] = &[case(Traces, Protobuf), case(Traces, Json)];

pub(crate) const GRPC_TRACES: &[Case] = &[case(Traces, Grpc)];

impl Signal {
    /// The default path of OTLP/HTTP.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Traces => "/v1/traces",
            Logs => "/v1/logs",
            Metrics => "/v1/metrics",
        }
    }

    /// gRPC's path of the signal's `Export`.
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// The names of its lists, from the outermost to the items'.
    pub(crate) const fn lists(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Traces => ("resourceSpans", "scopeSpans", "spans"),
            Logs => ("resourceLogs", "scopeLogs", "logRecords"),
            Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        }
    }

    /// The name of a partial success's number of rejected items.
    pub(crate) const fn rejected(self) -> &'static str {
        match self {
            Traces => "rejectedSpans",
            Logs => "rejectedLogRecords",
            Metrics => "rejectedDataPoints",
        }
    }
}

impl Way {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Protobuf => "application/x-protobuf",
            Json => "application/json",
            Grpc => "application/grpc",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = match self.signal {
            Traces => "traces",
            Logs => "logs",
            Metrics => "metrics",
        };
        let way = match self.way {
            Protobuf => "HTTP protobuf",
            Json => "HTTP JSON",
            Grpc => "gRPC",
        };
        write!(out, "{signal} by {way}")
    }
}
