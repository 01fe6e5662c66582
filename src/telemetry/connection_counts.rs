//! The number of open connections, and the time at which a connection last found no free slot.
//!
//! **Invariant:** only ordinary slots are counted, not those reserved for health and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Time for which `/health` reports that no slot was free.
const REPORTED_FOR: Duration = Duration::from_secs(60);

/// The counts of connections. Cheap to clone; clones share the counts.
#[derive(Clone, Debug)]
pub struct ConnectionCounts(Arc<SharedCounts>);

#[derive(Debug)]
struct SharedCounts {
    max: usize,
    /// A permit for each slot.
    slots: Arc<Semaphore>,
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
    /// Makes the counts of connections that each hold a permit of `slots`, which has `max` of them.
    #[must_use]
    pub fn new(max: usize, slots: Arc<Semaphore>) -> Self {
        Self(Arc::new(SharedCounts {
            max,
            slots,
            none_free_at: Mutex::default(),
        }))
    }

    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Records that a connection found no free slot.
    pub fn found_none_free(&self) {
        *self.none_free_at() = Some(Instant::now());
    }

    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let none_free_at = *self.none_free_at();
        ConnectionState {
            open: self.0.max - self.0.slots.available_permits(),
            max: self.0.max,
            is_short: none_free_at.is_some_and(|at| at.elapsed() < REPORTED_FOR),
        }
    }

    fn none_free_at(&self) -> MutexGuard<'_, Option<Instant>> {
        let lock = self.0.none_free_at.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}
