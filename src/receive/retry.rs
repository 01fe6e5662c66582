//! How long a refused client is asked to wait.
//!
//! **Invariant:** always 1 to 5 whole seconds: SDKs drop a batch at once when the wait exceeds their own patience.

use std::hash::{BuildHasher, RandomState};

const SHORTEST_S: u8 = 1;
const LONGEST_S: u8 = 5;

/// The share of the backlog that should be drained before clients come again.
const SHARE: f64 = 0.01;

/// A second or two: for what passes by itself.
pub(crate) fn soon() -> u8 {
    seconds(1.0, jitter())
}

/// Until a little of `backlog_events` is drained at `events_per_second`; the longest when nothing drains.
pub(super) fn after_backlog(backlog_events: u64, events_per_second: f64) -> u8 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let backlog = backlog_events as f64;
    let estimate = if events_per_second > 0.0 {
        SHARE * backlog / events_per_second
    } else {
        f64::from(LONGEST_S)
    };
    seconds(estimate, jitter())
}

/// Up to a second more, so that clients refused together do not come back together, but never past the longest.
fn seconds(estimate: f64, jitter: f64) -> u8 {
    let latest = f64::from(LONGEST_S) - jitter;
    let wait = (estimate.min(latest) + jitter).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=5"
    )]
    let seconds = wait.clamp(f64::from(SHORTEST_S), f64::from(LONGEST_S)) as u8;
    seconds
}

/// A number from 0 to below 1 that no client can foresee.
pub(super) fn jitter() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{after_backlog, jitter, seconds, soon};

    #[test]
    fn the_wait_is_always_from_one_to_five_seconds() {
        for (estimate, jitter, expected) in [
            (0.0, 0.0, 1),
            (0.0, 0.9, 1),
            (2.0, 0.0, 2),
            (2.0, 0.9, 3),
            (1e9, 0.0, 5),
            (1e9, 0.9, 5),
            (f64::INFINITY, 0.5, 5),
        ] {
            assert_eq!(seconds(estimate, jitter), expected, "{estimate} {jitter}");
        }
        for _ in 0..100 {
            assert!((1..=5).contains(&soon()));
            assert!((1..=5).contains(&after_backlog(u64::MAX, 0.0)));
            assert!((1..=5).contains(&after_backlog(u64::MAX, 1e-9)));
            assert!((0.0..1.0).contains(&jitter()));
        }
        assert_eq!(after_backlog(0, 0.0), 5, "nothing drains");
    }
}
