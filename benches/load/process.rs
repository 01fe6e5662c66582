//! The CPU time of a process, from `/proc` (proc_pid_stat(5)).
//!
//! **Invariant:** all threads count, also those that have ended.

use std::time::Duration;

/// `USER_HZ` of every Linux that this runs on.
const TICKS_A_SECOND: u64 = 100;

/// User and system time of another process together. Zero if it has ended.
pub(crate) fn cpu(pid: u32) -> Duration {
    cpu_of(&pid.to_string())
}

/// User and system time of this process together.
pub(crate) fn own_cpu() -> Duration {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
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
