//! Settings of the process.
//!
//! **Invariant:** the memory limit decides only which records are too large to be written; no other value changes the
//! stored events.

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
        "Memory that the process may use; requests, the writer and answers each have a share of it. `auto`: the \
         least of installed memory, the control group's limit and the address space's limit",
        |raw, text| {
            let bytes = auto(text, memory).map(|bytes| bytes.map(|bytes| bytes as u64));
            put(&mut raw.memory_bytes, bytes)
        },
    ),
    Setting::new(
        "log_level",
        "FILTER",
        "info",
        "Minimum level of log lines on standard error: error, warn, info, debug, or a filter by module",
        |raw, text| put(&mut raw.log_filter, log_filter(text)),
    )
    .common(),
    Setting::new(
        "log_format",
        "auto|json|text",
        "auto",
        "Format of log lines. `auto`: text on a terminal, otherwise one JSON object a line",
        |raw, text| {
            let names = [
                ("auto", LogFormat::Auto),
                ("json", LogFormat::Json),
                ("text", LogFormat::Text),
            ];
            put(&mut raw.log_format, one_of(text, &names))
        },
    ),
    Setting::new(
        "shutdown_delay",
        "DURATION",
        "0s",
        "Time after SIGTERM for which requests are still accepted, while load balancers notice the stop",
        |raw, text| put(&mut raw.shutdown_delay, duration(text)),
    ),
    Setting::new(
        "shutdown_grace",
        "DURATION",
        "5s",
        "Time for which a stop continues to write to the database; the rest stays in the journal for the next start",
        |raw, text| put(&mut raw.grace, duration(text)),
    ),
];
