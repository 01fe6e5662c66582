//! A share of the process's memory, granted piece by piece before a piece is held.
//!
//! **Invariant:** the bytes of all [`Reservation`]s never exceed the budget, and dropping one gives all of it back.

use std::sync::Arc;

use metrics::Gauge;
use tokio::sync::Semaphore;

/// What a stage may hold, in bytes.
pub(crate) struct Budget {
    total_bytes: usize,
    most_bytes: usize,
    /// One permit is one byte.
    free: Semaphore,
    gauge: Gauge,
}

/// Why no more bytes were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Others hold too much just now.
    NoRoom,
    /// More than one reservation may ever hold.
    NeverFits { limit_bytes: usize },
}

impl Budget {
    /// `total_bytes` for all reservations together, of which one may have `most_bytes`; `gauge` shows what is granted.
    pub(crate) fn new(total_bytes: usize, most_bytes: usize, gauge: Gauge) -> Self {
        let total_bytes = total_bytes.min(Semaphore::MAX_PERMITS);
        Self {
            total_bytes,
            most_bytes: most_bytes.min(total_bytes),
            free: Semaphore::new(total_bytes),
            gauge,
        }
    }

    /// The most that one reservation may hold.
    pub(crate) const fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// An empty reservation.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Bytes that are granted.
    fn used_bytes(&self) -> usize {
        self.total_bytes - self.free.available_permits()
    }
}

/// What one request or one query holds.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Adds `bytes`, if they are free now.
    ///
    /// # Errors
    /// [`Refused`]; what was held before stays.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let permits = self.permits(bytes)?;
        let granted = self.budget.free.try_acquire_many(permits);
        granted.map_err(|_| Refused::NoRoom)?.forget();
        self.add(bytes);
        Ok(())
    }

    /// Gives back what is above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        self.budget.free.add_permits(freed);
        self.show();
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn permits(&self, bytes: usize) -> Result<u32, Refused> {
        let limit_bytes = self.budget.most_bytes;
        if bytes > limit_bytes - self.bytes {
            return Err(Refused::NeverFits { limit_bytes });
        }
        u32::try_from(bytes).map_err(|_| Refused::NeverFits { limit_bytes })
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.show();
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge; the budget is far below 2^53"
    )]
    fn show(&self) {
        self.budget.gauge.set(self.budget.used_bytes() as f64);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Budget, Gauge, Refused};

    fn budget(total_bytes: usize, most_bytes: usize) -> Arc<Budget> {
        Arc::new(Budget::new(total_bytes, most_bytes, Gauge::noop()))
    }

    #[test]
    fn one_request_gets_its_most_and_all_together_no_more_than_the_whole() {
        let budget = budget(100, 50);
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
        assert_eq!(budget.used_bytes(), 0);
    }
}
