//! Settings of the service's own traces.
//!
//! **Invariant:** without an endpoint nothing is traced and nothing is sent anywhere, whatever else is set.

use super::{Secrecy, Setting, put};
use crate::config::value::{endpoint, headers, or_off, ratio};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "traces_endpoint",
        "URL or off",
        "off",
        "Where traces of its own work go, by OTLP over gRPC: http://host:4317, or https:// by the system's roots",
        |draft, text| put(&mut draft.traces_endpoint, or_off(text, endpoint)),
    ),
    Setting::new(
        "traces_sample_ratio",
        "RATIO",
        "0.01",
        "Which share of requests is traced, 0 to 1, where the caller's traceparent does not decide it",
        |draft, text| put(&mut draft.traces_sample_ratio, ratio(text)),
    ),
    Setting::new(
        "traces_headers",
        "HEADERS",
        "",
        "Headers of those exports, as authorization=Bearer …, separated by commas",
        |draft, text| put(&mut draft.traces_headers, headers(text)),
    )
    .secrecy(Secrecy::Secret),
];
