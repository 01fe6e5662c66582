//! Settings of the writer.
//!
//! **Invariant:** they change when something is written, never whether.

use crate::config::settings::{Setting, put};
use crate::config::value::{count, duration, memory, timeout};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "batch_rows",
        "NUMBER",
        "10000",
        "Rows in one transaction; a larger request is a transaction of its own",
        |draft, text| put(&mut draft.write.batch_rows, count(text, 1)),
    ),
    Setting::new(
        "batch_bytes",
        "SIZE",
        "8MiB",
        "Bytes in one transaction; a larger request is a transaction of its own",
        |draft, text| put(&mut draft.write.batch_bytes, memory(text)),
    ),
    Setting::new(
        "batch_wait",
        "DURATION",
        "200ms",
        "The longest that a batch waits for more under load; an idle writer never waits",
        |draft, text| put(&mut draft.write.batch_wait, duration(text)),
    ),
    Setting::new(
        "retry_min",
        "DURATION",
        "500ms",
        "The first wait after the database failed; doubles, with jitter, without end",
        |draft, text| put(&mut draft.write.retry_min, timeout(text)),
    ),
    Setting::new(
        "retry_max",
        "DURATION",
        "30s",
        "The longest wait between two tries",
        |draft, text| put(&mut draft.write.retry_max, timeout(text)),
    ),
    Setting::new(
        "maintenance_interval",
        "DURATION",
        "30s",
        "Between two rounds of summaries, partitions and retention",
        |draft, text| put(&mut draft.write.maintenance_interval, timeout(text)),
    ),
];
