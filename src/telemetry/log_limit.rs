//! A limit on log lines that clients or other systems can cause at any rate.
//!
//! **Invariant:** each such line is logged at most once per minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

/// The time at which a line was last logged.
#[derive(Debug, Default)]
pub(crate) struct OncePerMinute(Mutex<Option<Instant>>);

impl OncePerMinute {
    /// Returns `true` if the line may be logged now, and counts it as logged.
    pub(crate) fn ready(&self) -> bool {
        self.is_ready_at(Instant::now())
    }

    fn is_ready_at(&self, now: Instant) -> bool {
        let mut logged_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged_at.is_none_or(|at| now.duration_since(at) >= PAUSE);
        if is_due {
            *logged_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::{Instant, OncePerMinute, PAUSE};

    #[test]
    fn a_line_is_written_once_a_minute_however_often_it_is_caused() {
        let line = OncePerMinute::default();
        let now = Instant::now();
        assert!(line.is_ready_at(now));
        assert!(!line.is_ready_at(now));
        assert!(!line.is_ready_at(now + PAUSE / 2));
        assert!(line.is_ready_at(now + PAUSE));
        assert!(!line.is_ready_at(now + PAUSE));
    }
}
