//! Plausible times of receipt. A machine with a wrong clock must neither keep rows for ever nor create partitions
//! without limit.
//!
//! **Invariant:** whatever a record contains, a row's `created_at` is within the retention and at most one day ahead.

use std::borrow::Cow;

use crate::store::row_encoding::EncodedRows;

/// A day, in microseconds.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// Maximum age of a time of receipt, in days, if events are never removed.
const OLDEST_DAYS: u32 = 400;

/// The range of plausible times at one moment, in microseconds since 2000-01-01 UTC. `now_us` replaces a time outside
/// it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlausibleTimes {
    now_us: i64,
    earliest_us: i64,
    latest_us: i64,
}

impl PlausibleTimes {
    pub(super) fn at(now_us: i64, retention_days: Option<u32>) -> Self {
        let days = i64::from(retention_days.unwrap_or(OLDEST_DAYS));
        Self {
            now_us,
            earliest_us: now_us - days * DAY_US,
            latest_us: now_us + DAY_US,
        }
    }

    const fn contains(self, created_at_us: i64) -> bool {
        self.earliest_us <= created_at_us && created_at_us <= self.latest_us
    }

    /// Returns the time if it is plausible, otherwise the present.
    pub(super) const fn or_now(self, created_at_us: i64) -> i64 {
        if self.contains(created_at_us) {
            created_at_us
        } else {
            self.now_us
        }
    }

    /// Returns the rows with plausible times of receipt. A row whose time was replaced has a flag for that.
    pub(super) fn apply(self, rows: &EncodedRows) -> Cow<'_, EncodedRows> {
        if rows.times_received_us().all(|time| self.contains(time)) {
            return Cow::Borrowed(rows);
        }
        let mut plausible = EncodedRows::default();
        for row in rows.iter() {
            if self.contains(row.created_at_us()) {
                plausible.push_row(row);
            } else {
                plausible.push_row_received(row, self.now_us);
            }
        }
        Cow::Owned(plausible)
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_US, PlausibleTimes};

    #[test]
    fn what_is_older_than_the_retention_or_over_a_day_ahead_is_not_believed() {
        let now_us = 1_000 * DAY_US;
        for (retention_days, oldest_days) in [(None, 400), (Some(7), 7)] {
            let window = PlausibleTimes::at(now_us, retention_days);
            let oldest_us = now_us - oldest_days * DAY_US;
            for (created_at_us, believed) in [
                (now_us, true),
                (oldest_us, true),
                (oldest_us - 1, false),
                (now_us + DAY_US, true),
                (now_us + DAY_US + 1, false),
            ] {
                assert_eq!(window.contains(created_at_us), believed, "{created_at_us}");
            }
        }
    }
}
