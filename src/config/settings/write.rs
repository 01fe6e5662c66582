//! Settings of the writer.
//!
//! **Invariant:** they affect the time and the pieces in which events are written, and so the largest row that fits
//! into memory, but not the content of any row.

use crate::config::settings::{Setting, put};
use crate::config::value::{count, duration, memory, timeout};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "batch_rows",
        "NUMBER",
        "10000",
        "The most rows in one transaction; a larger request gets a separate transaction",
        |raw, text| put(&mut raw.write.batch_rows, count(text, 1)),
    ),
    Setting::new(
        "batch_bytes",
        "SIZE",
        "8MiB",
        "The most bytes in one transaction; a larger request gets a separate transaction",
        |raw, text| put(&mut raw.write.batch_bytes, memory(text)),
    ),
    Setting::new(
        "batch_wait",
        "DURATION",
        "200ms",
        "The longest time that a batch waits for more events under load; an idle writer never waits",
        |raw, text| put(&mut raw.write.batch_wait, duration(text)),
    ),
    Setting::new(
        "retry_min",
        "DURATION",
        "500ms",
        "The first pause after an error of the database; it doubles, with jitter, up to retry_max. Attempts never end",
        |raw, text| put(&mut raw.write.retry_min, timeout(text)),
    ),
    Setting::new(
        "retry_max",
        "DURATION",
        "30s",
        "The longest pause between two attempts",
        |raw, text| put(&mut raw.write.retry_max, timeout(text)),
    ),
    Setting::new(
        "maintenance_interval",
        "DURATION",
        "30s",
        "Interval between two rounds of summaries, partitions and retention",
        |raw, text| put(&mut raw.write.maintenance_interval, timeout(text)),
    ),
];
