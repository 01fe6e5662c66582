//! Settings of the process.
//!
//! **Invariant:** none of them changes what is stored.

use crate::config::log_filter::log_filter;
use crate::config::settings::{Setting, put};
use crate::config::value::{auto, duration, memory, one_of};
use crate::telemetry::logging::LogFormat;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "config",
        "PATH",
        "",
        "A TOML file of settings, one `key = value` a line; every key is a flag's name with _ for -",
        |_, _| Ok(()),
    )
    .common(),
    Setting::new(
        "memory_bytes",
        "SIZE",
        "auto",
        "Memory that the process may use; requests, the way to the database and answers have shares of it. `auto`: the \
         least of what is installed, the control group's limit and the address space's",
        |draft, text| {
            let bytes = auto(text, memory).map(|bytes| bytes.map(|bytes| bytes as u64));
            put(&mut draft.memory_bytes, bytes)
        },
    ),
    Setting::new(
        "log_level",
        "FILTER",
        "info",
        "What it says of itself on standard error: error, warn, info, debug, or a filter by module",
        |draft, text| put(&mut draft.log_filter, log_filter(text)),
    )
    .common(),
    Setting::new(
        "log_format",
        "auto|json|text",
        "auto",
        "How it says so. `auto`: text on a terminal, else one JSON object a line",
        |draft, text| {
            let names = [
                ("auto", LogFormat::Auto),
                ("json", LogFormat::Json),
                ("text", LogFormat::Text),
            ];
            put(&mut draft.log_format, one_of(text, &names))
        },
    ),
    Setting::new(
        "shutdown_delay",
        "DURATION",
        "0s",
        "After SIGTERM, how long requests are still taken while load balancers learn of it",
        |draft, text| put(&mut draft.shutdown_delay, duration(text)),
    ),
    Setting::new(
        "shutdown_grace",
        "DURATION",
        "5s",
        "How long a stop goes on writing to the database; the rest waits in the journal for the next start",
        |draft, text| put(&mut draft.grace, duration(text)),
    ),
];
