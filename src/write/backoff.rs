//! Pauses between attempts: exponential, with full jitter, without a limit on their number.
//!
//! **Invariant:** no pause is longer than the maximum, whatever the number of failures.

use std::time::Duration;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the next pause: a random time between 0 and `min` doubled for each failure so far, at most `max`. The
    /// jitter keeps collectors that lost the same database from reconnecting at the same moment.
    pub(super) fn pause(&mut self, min: Duration, max: Duration) -> Duration {
        let most = min.saturating_mul(1 << self.failures.min(20)).min(max);
        self.failures = self.failures.saturating_add(1);
        // If the system has no randomness, there is no jitter, which does no harm.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        most.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn pauses_grow_to_the_longest_and_start_again_after_a_success() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            assert!(backoff.pause(min, max) <= min);
            for _ in 0..40 {
                longest = longest.max(backoff.pause(min, max));
            }
            backoff.reset();
            assert!(backoff.pause(min, max) <= min);
        }
        assert!(longest <= max && longest > max / 2);
    }
}
