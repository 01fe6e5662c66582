//! Latencies, and the times at which an open loop's requests are due.
//!
//! **Invariant:** a request of an open loop is timed from when it was due, not from when it could be sent.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now_unix_nano() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    u64::try_from(now.as_nanos()).expect("until the year 2554")
}

/// Blocks the thread until `due`. Timers of the runtime have a resolution of a millisecond, which is too coarse here.
pub(crate) fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// In milliseconds; 0 of nothing. Sorts.
pub(crate) fn percentile_ms(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

/// Writes one latency a line, in microseconds, so that several runs can be evaluated together.
pub(crate) fn write_samples(file: &str, took: &[Duration]) {
    let mut text = String::new();
    for took in took {
        let _ = writeln!(text, "{}", took.as_micros());
    }
    std::fs::write(file, text).expect("the file can be written");
}
