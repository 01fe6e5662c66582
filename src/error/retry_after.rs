//! The number of seconds in `Retry-After` for refused clients.
//!
//! **Invariant:** always 2 or 3 whole seconds. Longer waits exceed the patience of SDKs, which then drop the batch at
//! once; shorter ones use up the few attempts that they have.

use std::hash::{BuildHasher, RandomState};

// Measured against a server that refuses every request. At 1 s, Java's SDK has used up its five attempts after 4.1 s,
// and Rust's its four after 4.3 s. At 4 s, Rust's SDK, which doubles each wait within ten seconds in all, has used up
// two attempts after 4.0 s. At 2 s, Java's lasts 8 s and Rust's 6 s; at 3 s, both last 9 s. Go's ignores the value.
const SHORTEST_S: u8 = 2;

/// Returns 2 or 3 at random, so that clients that were refused together do not return together.
pub(crate) fn retry_after_s() -> u8 {
    SHORTEST_S + u8::from(random_share() < 0.5)
}

/// Returns a number from 0 to below 1 that no client can foresee.
pub(crate) fn random_share() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{random_share, retry_after_s};

    #[test]
    fn the_wait_is_two_or_three_seconds_at_random() {
        let mut waits = [0; 2];
        for _ in 0..1000 {
            waits[usize::from(retry_after_s() - 2)] += 1;
            assert!((0.0..1.0).contains(&random_share()));
        }
        assert!(waits.iter().all(|count| *count > 300), "{waits:?}");
    }
}
