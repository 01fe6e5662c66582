//! The memory that requests in flight may hold together.
//!
//! **Invariant:** the bytes of all [`Reservation`]s never exceed the budget, and dropping one gives all of it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Gauge;

use crate::observe::metrics::RECEIVE_INFLIGHT_BYTES;

/// What the whole process may hold, in bytes; one request may use half of it.
pub(super) struct Budget {
    total_bytes: usize,
    used_bytes: AtomicUsize,
    gauge: Gauge,
}

/// Why no more bytes were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Others hold too much just now.
    NoRoom,
    /// More than one request may ever hold.
    NeverFits { limit_bytes: usize },
}

impl Budget {
    pub(super) fn new(total_bytes: usize) -> Self {
        Self {
            total_bytes,
            used_bytes: AtomicUsize::new(0),
            gauge: metrics::gauge!(RECEIVE_INFLIGHT_BYTES),
        }
    }

    /// What one request may hold.
    pub(super) const fn share_bytes(&self) -> usize {
        self.total_bytes / 2
    }

    /// An empty reservation.
    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// What one request holds.
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// When they are not to be had; what was held before stays.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let limit_bytes = self.budget.share_bytes();
        if bytes > limit_bytes - self.bytes {
            return Err(Refused::NeverFits { limit_bytes });
        }
        let total = self.budget.total_bytes;
        let grant = |used: usize| used.checked_add(bytes).filter(|used| *used <= total);
        self.budget
            .used_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, grant)
            .map_err(|_| Refused::NoRoom)?;
        self.bytes += bytes;
        self.show();
        Ok(())
    }

    /// Gives back what is above `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.budget.used_bytes.fetch_sub(freed, Ordering::AcqRel);
        self.bytes -= freed;
        self.show();
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge; the budget is far below 2^53"
    )]
    fn show(&self) {
        let used = self.budget.used_bytes.load(Ordering::Acquire);
        self.budget.gauge.set(used as f64);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Budget, Ordering, Refused};

    #[test]
    fn one_request_gets_half_and_all_together_no_more_than_the_whole() {
        let budget = Arc::new(Budget::new(100));
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        let mut third = budget.reservation();
        assert_eq!(first.grow(50), Ok(()));
        assert_eq!(first.grow(1), Err(Refused::NeverFits { limit_bytes: 50 }));
        assert_eq!(second.grow(40), Ok(()));
        assert_eq!(third.grow(11), Err(Refused::NoRoom));
        first.shrink_to(49);
        assert_eq!(third.grow(11), Ok(()));
        drop((first, second, third));
        assert_eq!(budget.used_bytes.load(Ordering::Acquire), 0);
    }
}
