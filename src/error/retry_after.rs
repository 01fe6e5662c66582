//! The number of seconds in `Retry-After` for refused clients.
//!
//! **Invariant:** always 2 or 3 whole seconds. Longer waits exceed the patience of SDKs, which then drop the batch at
//! once; shorter ones use up the few attempts that they have.

use std::hash::{BuildHasher, RandomState};

// Measured against a server that refuses every request. At 1 s, Java's SDK has used up its five attempts after 4.1 s,
// and Rust's its four after 4.3 s. At 4 s, Rust's SDK, which doubles each wait within ten seconds in all, has used up
// two attempts after 4.0 s. At 2 s, Java's lasts 8 s and Rust's 6 s; at 3 s, both last 9 s. Go's ignores the value.
const SHORTEST_S: u8 = 2;
const LONGEST_S: u8 = 3;

/// The share of the backlog that should be drained before clients retry.
const SHARE: f64 = 0.01;

/// Returns the wait for a condition that ends without a backlog to drain: 2 or 3 seconds, at random.
pub(crate) fn retry_after_s() -> u8 {
    seconds(f64::from(SHORTEST_S), jitter())
}

/// Returns the wait until 1 % of `backlog_events` is drained at `events_per_second`, within 2 to 3 seconds; 3 if
/// nothing drains.
pub(crate) fn after_backlog(backlog_events: u64, events_per_second: f64) -> u8 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let backlog = backlog_events as f64;
    let estimate = if events_per_second > 0.0 {
        SHARE * backlog / events_per_second
    } else {
        f64::from(LONGEST_S)
    };
    seconds(estimate, jitter())
}

/// Adds `jitter` of a second, so that clients refused together do not return together, but never exceeds the longest
/// wait.
fn seconds(estimate: f64, jitter: f64) -> u8 {
    let latest = f64::from(LONGEST_S) - jitter;
    let wait = (estimate.min(latest) + jitter).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what a byte holds"
    )]
    let seconds = wait.clamp(f64::from(SHORTEST_S), f64::from(LONGEST_S)) as u8;
    seconds
}

/// Returns a random number in `0.0..1.0` that no client can predict.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{after_backlog, jitter, retry_after_s, seconds};

    #[test]
    fn the_wait_is_always_two_or_three_seconds() {
        for (estimate, jitter, expected) in [
            (0.0, 0.0, 2),
            (0.0, 0.9, 2),
            (2.0, 0.0, 2),
            (2.0, 0.9, 3),
            (1e9, 0.0, 3),
            (1e9, 0.9, 3),
            (f64::INFINITY, 0.5, 3),
        ] {
            assert_eq!(seconds(estimate, jitter), expected, "{estimate} {jitter}");
        }
        for _ in 0..100 {
            assert!((2..=3).contains(&retry_after_s()));
            assert!((2..=3).contains(&after_backlog(u64::MAX, 0.0)));
            assert!((2..=3).contains(&after_backlog(u64::MAX, 1e-9)));
            assert!((0.0..1.0).contains(&jitter()));
        }
        assert_eq!(after_backlog(0, 0.0), 3, "nothing drains");
    }
}
