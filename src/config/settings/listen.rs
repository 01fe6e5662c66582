//! Settings of the listeners.
//!
//! **Invariant:** by default the service is reachable only from this machine.

use crate::config::settings::{Setting, put};
use crate::config::value::{addresses, port};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "service_port",
        "PORT",
        "3100",
        "Port of everything: /ingest, /v1/*, /query, /health, /metrics. `off` closes it, 0 is any free port",
        |raw, text| put(&mut raw.service_port, port(text)),
    )
    .common(),
    Setting::new(
        "otlp_http_port",
        "PORT",
        "4318",
        "Port of OTLP over HTTP alone; 4318 is the default of SDKs",
        |raw, text| put(&mut raw.otlp_http_port, port(text)),
    )
    .common(),
    Setting::new(
        "otlp_grpc_port",
        "PORT",
        "4317",
        "Port of OTLP over gRPC; 4317 is the default of SDKs",
        |raw, text| put(&mut raw.otlp_grpc_port, port(text)),
    )
    .common(),
    Setting::new(
        "bind",
        "ADDRESSES",
        "127.0.0.1,::1",
        "Addresses to listen on, separated by commas; `[::]` is every address of the machine",
        |raw, text| put(&mut raw.bind, addresses(text)),
    )
    .common(),
];
