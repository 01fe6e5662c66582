//! A budget of bytes, from which memory is reserved before it is allocated.
//!
//! **Invariant:** the bytes of all [`Reservation`]s never exceed the budget, and dropping one releases all of its
//! bytes.

use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::Semaphore;

/// The bytes that one stage may hold.
pub(crate) struct Budget {
    most_bytes: usize,
    /// One permit is one byte.
    free: Semaphore,
    gauge: Gauge,
}

/// The reason why no more bytes were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetRefusal {
    /// Other reservations hold too much at the moment.
    NoRoom,
    /// The reservation would exceed `limit_bytes`, the most that one may ever hold.
    NeverFits { limit_bytes: usize },
}

impl Budget {
    /// Makes a budget of `total_bytes` for all reservations together and `most_bytes` for each; `gauge` is the sum of
    /// the reserved bytes.
    pub(crate) fn new(total_bytes: usize, most_bytes: usize, gauge: Gauge) -> Self {
        let total_bytes = total_bytes.min(Semaphore::MAX_PERMITS);
        Self {
            most_bytes: most_bytes.min(total_bytes),
            free: Semaphore::new(total_bytes),
            gauge,
        }
    }

    /// Returns the most bytes that one reservation may hold.
    pub(crate) const fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Returns an empty reservation.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// The bytes that one request or query has reserved; dropping it releases them.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Adds `bytes`, if they are free now.
    ///
    /// # Errors
    /// [`BudgetRefusal::NoRoom`] if they are not, [`BudgetRefusal::NeverFits`] beyond the limit of one reservation. The
    /// bytes reserved before stay reserved.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), BudgetRefusal> {
        let permits = self.permits(bytes)?;
        let granted = self.budget.free.try_acquire_many(permits);
        granted.map_err(|_| BudgetRefusal::NoRoom)?.forget();
        self.add(bytes);
        Ok(())
    }

    /// Adds `bytes` as soon as they are free; callers are served in the order of their calls.
    ///
    /// # Errors
    /// [`BudgetRefusal::NoRoom`] after `patience`, [`BudgetRefusal::NeverFits`] at once. The bytes reserved before stay
    /// reserved.
    pub(crate) async fn grow_within(
        &mut self,
        bytes: usize,
        patience: Duration,
    ) -> Result<(), BudgetRefusal> {
        let permits = self.permits(bytes)?;
        let granting = self.budget.free.acquire_many(permits);
        match tokio::time::timeout(patience, granting).await {
            Ok(Ok(granted)) => granted.forget(),
            Ok(Err(_)) | Err(_) => return Err(BudgetRefusal::NoRoom),
        }
        self.add(bytes);
        Ok(())
    }

    /// Releases the bytes above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        self.budget.free.add_permits(freed);
        self.budget.gauge.decrement(as_gauge(freed));
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn permits(&self, bytes: usize) -> Result<u32, BudgetRefusal> {
        let limit_bytes = self.budget.most_bytes;
        if bytes > limit_bytes - self.bytes {
            return Err(BudgetRefusal::NeverFits { limit_bytes });
        }
        u32::try_from(bytes).map_err(|_| BudgetRefusal::NeverFits { limit_bytes })
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.gauge.increment(as_gauge(bytes));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge; the budget is far below 2^53"
)]
const fn as_gauge(bytes: usize) -> f64 {
    bytes as f64
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Budget, BudgetRefusal, Duration, Gauge};

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
        assert_eq!(
            first.grow(1),
            Err(BudgetRefusal::NeverFits { limit_bytes: 50 })
        );
        assert_eq!(second.grow(40), Ok(()));
        assert_eq!(third.grow(11), Err(BudgetRefusal::NoRoom));
        first.shrink_to(49);
        assert_eq!(third.grow(11), Ok(()));
        drop((first, second, third));
        assert_eq!(budget.free.available_permits(), 100);
    }

    #[tokio::test]
    async fn who_waits_is_served_when_another_gives_back_and_refused_when_nobody_does() {
        let budget = budget(100, 100);
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        first.grow(60).unwrap();
        let refused = second.grow_within(50, Duration::from_millis(1)).await;
        assert_eq!(refused, Err(BudgetRefusal::NoRoom));
        assert_eq!(second.bytes(), 0);
        let (granted, ()) = tokio::join!(second.grow_within(50, Duration::from_secs(60)), async {
            first.shrink_to(50);
        });
        assert_eq!(granted, Ok(()));
        drop((first, second));
        assert_eq!(budget.free.available_permits(), 100);
    }
}
