//! Settings of the listeners.
//!
//! **Invariant:** without a setting, nothing listens beyond this machine.

use crate::config::settings::{Setting, put};
use crate::config::value::{addresses, port};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "service_port",
        "PORT",
        "3100",
        "Everything: /ingest, /v1/*, /query, /health, /metrics. `off` closes it, 0 takes a free port",
        |draft, text| put(&mut draft.service_port, port(text)),
    )
    .common(),
    Setting::new(
        "otlp_http_port",
        "PORT",
        "4318",
        "OTLP over HTTP alone, where SDKs look for it",
        |draft, text| put(&mut draft.otlp_http_port, port(text)),
    )
    .common(),
    Setting::new(
        "otlp_grpc_port",
        "PORT",
        "4317",
        "OTLP over gRPC, where SDKs look for it",
        |draft, text| put(&mut draft.otlp_grpc_port, port(text)),
    )
    .common(),
    Setting::new(
        "bind",
        "ADDRESSES",
        "127.0.0.1,::1",
        "Addresses to listen on, separated by commas; `[::]` is every address of the machine",
        |draft, text| put(&mut draft.bind, addresses(text)),
    )
    .common(),
];
