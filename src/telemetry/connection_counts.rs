//! The number of open connections, and the time at which the last one found no place.
//!
//! **Invariant:** counts are of ordinary places; those that are reserved for health and metrics are not among them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which `/health` reports that no place was free.
const TOLD: Duration = Duration::from_secs(60);

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct ConnectionCounts(Arc<SharedCounts>);

#[derive(Debug, Default)]
struct SharedCounts {
    max: usize,
    open: AtomicUsize,
    none_free_at: Mutex<Option<Instant>>,
}

/// The counts of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    pub open: usize,
    pub max: usize,
    /// A connection found no place within the last minute.
    pub is_short: bool,
}

impl ConnectionCounts {
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(SharedCounts {
            max,
            ..SharedCounts::default()
        }))
    }

    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    pub fn opened(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    pub fn closed(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a connection found no place.
    pub fn found_none_free(&self) {
        *self.none_free_at() = Some(Instant::now());
    }

    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let none_free_at = *self.none_free_at();
        ConnectionState {
            open: self.0.open.load(Ordering::Relaxed),
            max: self.0.max,
            is_short: none_free_at.is_some_and(|at| at.elapsed() < TOLD),
        }
    }

    fn none_free_at(&self) -> MutexGuard<'_, Option<Instant>> {
        let lock = self.0.none_free_at.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}
