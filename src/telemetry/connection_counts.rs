//! The number of open connections, and the time at which a connection last found no free slot.
//!
//! **Invariant:** only ordinary slots are counted, not those reserved for health and metrics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which `/health` reports that no slot was free.
const REPORTED_FOR: Duration = Duration::from_secs(60);

/// The counts of connections. Cheap to clone; clones share the counts.
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
    /// Within the last minute, a connection found no free slot.
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

    /// Records that a connection found no free slot.
    pub fn found_none_free(&self) {
        *self.none_free_at() = Some(Instant::now());
    }

    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let none_free_at = *self.none_free_at();
        ConnectionState {
            open: self.0.open.load(Ordering::Relaxed),
            max: self.0.max,
            is_short: none_free_at.is_some_and(|at| at.elapsed() < REPORTED_FOR),
        }
    }

    fn none_free_at(&self) -> MutexGuard<'_, Option<Instant>> {
        let lock = self.0.none_free_at.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}
