//! Settings of the journal.
//!
//! **Invariant:** no value of them makes an acknowledged event less durable.

use std::path::PathBuf;

use crate::config::settings::{Setting, put};
use crate::config::value::{auto, duration, one_of, size};
use crate::journal::IoSetting;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "data_dir",
        "PATH",
        "./data",
        "Directory of the journal and of SQLite's file; it must survive a restart",
        |raw, text| put(&mut raw.data_dir, Ok(PathBuf::from(text))),
    )
    .common(),
    Setting::new(
        "journal_max_bytes",
        "SIZE",
        "auto",
        "Size of the journal above which requests are refused, at least 64KiB. `auto`: 4GiB, or 80 % of the volume if that is less",
        |raw, text| put(&mut raw.journal.budget_bytes, auto(text, segment)),
    )
    .common(),
    Setting::new(
        "journal_segment_bytes",
        "SIZE",
        "auto",
        "Size of one file of the journal, at least 64KiB; a sixteenth of journal_max_bytes if that is less. `auto`: 64MiB, or a thirty-second of the volume if that is less",
        |raw, text| put(&mut raw.journal.segment_bytes, auto(text, segment)),
    ),
    Setting::new(
        "journal_free_floor_bytes",
        "SIZE",
        "auto",
        "Space on the volume that the journal leaves free. `auto`: 256MiB, or an eighth of the volume if that is less",
        |raw, text| put(&mut raw.journal.free_floor_bytes, auto(text, size)),
    ),
    Setting::new(
        "journal_keep_stored",
        "DURATION",
        "1h",
        "Time for which the journal keeps stored events, in case a failover of the database loses commits",
        |raw, text| put(&mut raw.journal.keep_stored, duration(text)),
    ),
    Setting::new(
        "journal_io",
        "MODE",
        "auto",
        "Way in which the journal's files are read and written. `direct`: past the page cache, at less CPU, or not at all; `buffered`: through it; `auto`: direct where that works",
        |raw, text| put(&mut raw.journal.io, one_of(text, &IO_SETTINGS)),
    ),
];

const IO_SETTINGS: [(&str, IoSetting); 3] = [
    ("auto", IoSetting::Auto),
    ("direct", IoSetting::Direct),
    ("buffered", IoSetting::Buffered),
];

/// The least size of the journal, and of one of its files: less holds little more than headers.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;

fn segment(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < SEGMENT_MIN_BYTES => {
            Err("is less than 64KiB, the least that works".to_owned())
        }
        bytes => Ok(bytes),
    }
}
