//! Settings of the log.
//!
//! **Invariant:** none of them makes an acknowledged event less safe.

use std::path::PathBuf;

use super::{Setting, put};
use crate::config::value::{auto, duration, size};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "data_dir",
        "PATH",
        "./data",
        "The directory of the log, and of SQLite's file; on a disk that survives",
        |draft, text| put(&mut draft.data_dir, Ok(PathBuf::from(text))),
    )
    .common(),
    Setting::new(
        "log_max_bytes",
        "SIZE",
        "auto",
        "What the log may fill before requests are refused, at least 64KiB. `auto`: 4GiB, or 80 % of the volume if that is less",
        |draft, text| put(&mut draft.log.budget_bytes, auto(text, segment)),
    )
    .common(),
    Setting::new(
        "log_segment_bytes",
        "SIZE",
        "auto",
        "One file of the log, at least 64KiB; a sixteenth of log_max_bytes if that is less. `auto`: 64MiB, or a thirty-second of the volume if that is less",
        |draft, text| put(&mut draft.log.segment_bytes, auto(text, segment)),
    ),
    Setting::new(
        "log_free_floor_bytes",
        "SIZE",
        "auto",
        "Space on the volume that the log leaves free. `auto`: 256MiB, or an eighth of the volume if that is less",
        |draft, text| put(&mut draft.log.free_floor_bytes, auto(text, size)),
    ),
    Setting::new(
        "log_keep_stored",
        "DURATION",
        "1h",
        "How long the log keeps what the database has, against a failover that loses commits",
        |draft, text| put(&mut draft.log.keep_stored, duration(text)),
    ),
];

/// The smallest log, or file of it, that holds more than its own headers.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;

fn segment(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < SEGMENT_MIN_BYTES => {
            Err("is less than 64KiB, the least that can work".to_owned())
        }
        bytes => Ok(bytes),
    }
}
