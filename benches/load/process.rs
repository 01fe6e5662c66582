//! The CPU time of another process, from `/proc` (proc_pid_stat(5)).
//!
//! **Invariant:** all threads count, also those that have ended.

use std::time::Duration;

/// `USER_HZ` of every Linux that this runs on.
const TICKS_A_SECOND: u64 = 100;

/// User and system time together. Zero if the process has ended.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th after it.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks: u64 = after
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
}
