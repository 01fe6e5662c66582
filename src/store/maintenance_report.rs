//! The result of a round of maintenance: gauges, and the steps that failed.
//!
//! **Invariant:** a gauge is a function of facts of the store and of the time since they were read. Therefore it stays
//! true while the store cannot be read.

use std::time::Duration;

use crate::store::plausible_time::DAY_US;
use crate::store::{FailureClass, StoreError};

/// The steps of a round, which are the label of `ruvvector_maintenance_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaintenanceStep {
    /// Connecting, and becoming the collector whose turn it is.
    Turn,
    /// Partitions for the days ahead.
    Partitions,
    /// BRIN summaries, `ANALYZE`, SQLite's WAL.
    Statistics,
    /// Removal of what is older than the retention.
    Retention,
    /// Rows of streams and resources that are no longer used.
    Books,
    /// Reading the facts behind the gauges.
    Gauges,
}

impl MaintenanceStep {
    pub const ALL: [Self; 6] = [
        Self::Turn,
        Self::Partitions,
        Self::Statistics,
        Self::Retention,
        Self::Books,
        Self::Gauges,
    ];

    /// Returns the label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Partitions => "partitions",
            Self::Statistics => "statistics",
            Self::Retention => "retention",
            Self::Books => "books",
            Self::Gauges => "gauges",
        }
    }
}

/// A step, or a part of it, that failed. The round continued with the next.
#[derive(Debug)]
pub struct StepFailure {
    pub step: MaintenanceStep,
    pub error: StoreError,
}

impl StepFailure {
    /// Returns whether another transaction held a lock, or the server was too slow. The next round may succeed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(
            self.error,
            StoreError::Retry {
                class: FailureClass::Timeout | FailureClass::Conflict,
                sqlstate: Some(_),
                ..
            }
        )
    }
}

/// The facts behind the gauges, at the moment when they were read. `None` = not readable, or not in this store.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaintenanceGauges {
    /// Microseconds from now to the end of the last day in the unbroken run of days with partitions, today included.
    pub partitions_end_us: Option<i64>,
    /// Microseconds since the oldest day (attached or not), or SQLite's oldest row, passed the retention; negative
    /// before that.
    pub overdue_us: Option<Overdue>,
    /// Number of other collectors' streams that are silent and not drained.
    pub undrained_streams: Option<u64>,
    /// True if a `telemetry_events_v0` waits to be imported.
    pub import_v0_pending: Option<bool>,
}

/// The age of the store's oldest events, relative to the retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing is stored, or events are never removed.
    Never,
    /// Microseconds since they passed the retention; negative before that.
    By(i64),
}

impl MaintenanceGauges {
    /// Returns the same facts after the time `passed`.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        let passed_us = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        Self {
            partitions_end_us: self
                .partitions_end_us
                .map(|end_us| end_us.saturating_sub(passed_us)),
            overdue_us: self.overdue_us.map(|overdue| match overdue {
                Overdue::Never => Overdue::Never,
                Overdue::By(us) => Overdue::By(us.saturating_add(passed_us)),
            }),
            ..self
        }
    }

    /// Returns these facts, with those of `before` in place of each that could not be read.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            partitions_end_us: self.partitions_end_us.or(before.partitions_end_us),
            overdue_us: self.overdue_us.or(before.overdue_us),
            undrained_streams: self.undrained_streams.or(before.undrained_streams),
            import_v0_pending: self.import_v0_pending.or(before.import_v0_pending),
        }
    }

    /// Returns the number of whole days after today in the unbroken run of days with partitions; `None` if the store
    /// has no partitions.
    #[must_use]
    pub fn partitions_ahead_days(&self) -> Option<u32> {
        // A day that ends now has ended; the end of today is not a day ahead.
        let end_us = self.partitions_end_us?;
        Some(u32::try_from((end_us - 1).div_euclid(DAY_US)).unwrap_or(0))
    }

    /// Returns the number of whole days by which the store's oldest events have passed the retention.
    #[must_use]
    pub fn retention_overdue_days(&self) -> Option<u32> {
        Some(match self.overdue_us? {
            Overdue::Never => 0,
            Overdue::By(us) => u32::try_from(us.div_euclid(DAY_US)).unwrap_or(0),
        })
    }
}

/// The result of a round of maintenance.
#[derive(Debug, Default)]
pub struct MaintenanceReport {
    pub gauges: MaintenanceGauges,
    pub failures: Vec<StepFailure>,
    /// A sentence about the retention for the operator, shown in `/health`.
    pub notice: Option<String>,
}

impl MaintenanceReport {
    /// Adds a step that failed.
    pub(super) fn failed(&mut self, step: MaintenanceStep, error: StoreError) {
        self.failures.push(StepFailure { step, error });
    }

    /// Returns the gauges if no step failed.
    ///
    /// # Errors
    /// The error of the first step that failed.
    pub fn done(self) -> Result<MaintenanceGauges, StoreError> {
        match self.failures.into_iter().next() {
            Some(failure) => Err(failure.error),
            None => Ok(self.gauges),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DAY_US, MaintenanceGauges, Overdue};

    const HOUR_US: i64 = 3_600_000_000;

    /// The gauges kept their last value while rounds failed: seven days ahead on the day that had no partition any
    /// more.
    #[test]
    fn gauges_of_a_store_that_cannot_be_asked_follow_the_time() {
        let read = MaintenanceGauges {
            // At noon, with partitions for today and seven days more.
            partitions_end_us: Some(8 * DAY_US - 12 * HOUR_US),
            overdue_us: Some(Overdue::By(-DAY_US)),
            ..MaintenanceGauges::default()
        };
        for (hours, ahead, overdue) in [
            (0, 7, 0),
            (11, 7, 0),
            (12, 6, 0),
            (47, 5, 0),
            (48, 5, 1),
            (7 * 24, 0, 6),
            (30 * 24, 0, 29),
        ] {
            let now = read.after(Duration::from_secs(hours * 3600));
            assert_eq!(now.partitions_ahead_days(), Some(ahead), "after {hours} h");
            assert_eq!(
                now.retention_overdue_days(),
                Some(overdue),
                "after {hours} h"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_not_shown_and_nothing_stored_is_never_overdue() {
        let unknown = MaintenanceGauges::default().after(Duration::from_secs(1));
        assert_eq!(unknown.partitions_ahead_days(), None);
        assert_eq!(unknown.retention_overdue_days(), None);
        let empty = MaintenanceGauges {
            overdue_us: Some(Overdue::Never),
            ..MaintenanceGauges::default()
        };
        let later = empty.after(Duration::from_secs(1 << 40));
        assert_eq!(later.retention_overdue_days(), Some(0));
        assert_eq!(unknown.or(empty).overdue_us, Some(Overdue::Never));
    }
}
