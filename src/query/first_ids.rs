//! The first id of a day and all later days, from which the day of an event is guessed by its id.
//!
//! Ids grow in the order of storing, and events are stored in the order of their receipt, except for a backlog or an
//! import. So an event is nearly always in the day in whose range its id lies.
//!
//! **Invariant:** a guess decides only which day is searched first.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::query::days::{DAY_US, Days, day_start};

/// Number of days before today among which the day of an id is searched.
const DAYS_BACK: i64 = 400;

/// Time after which the ids are read again: the database may be another one, restored, or without days that it had.
const REREAD: Duration = Duration::from_secs(3600);

/// The cached ids, by the start of the day in Unix µs.
#[derive(Default)]
pub(super) struct FirstIds(Mutex<Option<KnownIds>>);

struct KnownIds {
    since: Instant,
    by_day: BTreeMap<i64, i64>,
}

impl FirstIds {
    /// Returns the first id of the day and all later days, if it was read in the last hour.
    pub(super) fn known(&self, day_us: i64) -> Option<i64> {
        self.fresh().as_ref()?.by_day.get(&day_us).copied()
    }

    /// Caches an id that was read.
    pub(super) fn learn(&self, day_us: i64, first_id: i64) {
        let mut fresh = self.fresh();
        let known = fresh.get_or_insert_with(|| KnownIds {
            since: Instant::now(),
            by_day: BTreeMap::new(),
        });
        known.by_day.insert(day_us, first_id);
    }

    /// Returns the ids, without those that are to be read again.
    fn fresh(&self) -> MutexGuard<'_, Option<KnownIds>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.take_if(|known| known.since.elapsed() > REREAD);
        known
    }
}

/// A search by halves for the day in whose range an id lies.
pub(super) struct DayOfId {
    id: i64,
    /// The first day that may be the id's, counted from the first day of the search.
    low: i64,
    /// The last one.
    high: i64,
    first_day_us: i64,
}

impl DayOfId {
    pub(super) fn new(id: i64, now_us: i64) -> Self {
        Self {
            id,
            low: 0,
            high: DAYS_BACK,
            first_day_us: day_start(now_us) - DAYS_BACK * DAY_US,
        }
    }

    /// Returns the start of the day whose first id is to be compared next; `None` if one day is left.
    pub(super) fn next(&self) -> Option<i64> {
        (self.low < self.high).then(|| self.start(self.middle()))
    }

    /// Narrows the search by the first id of the day that [`Self::next`] returned and all later days; `None` if no event
    /// was received since.
    pub(super) fn compare(&mut self, first_id: Option<i64>) {
        let middle = self.middle();
        if first_id.is_some_and(|first_id| first_id <= self.id) {
            self.low = middle;
        } else {
            self.high = middle - 1;
        }
    }

    /// Returns the day that is left. Today includes the future.
    pub(super) fn day(&self) -> Days {
        Days {
            from: Some(self.start(self.low)),
            to: (self.low < DAYS_BACK).then(|| self.start(self.low + 1)),
        }
    }

    fn middle(&self) -> i64 {
        (self.low + self.high + 1) / 2
    }

    fn start(&self, day: i64) -> i64 {
        self.first_day_us + day * DAY_US
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_US, DAYS_BACK, DayOfId, FirstIds};

    const NOW_US: i64 = 1_767_225_600_000_000 + 5;

    /// Ids of 30 days with a pause of two days; the last day is today.
    fn first_id(days_ago: i64) -> Option<i64> {
        match days_ago {
            0..=10 => Some(10_000 - days_ago * 100),
            11..=12 => Some(9_000),
            _ => Some(10_000 - days_ago.min(29) * 100),
        }
    }

    fn guess(id: i64) -> i64 {
        let mut search = DayOfId::new(id, NOW_US);
        let mut steps = 0;
        while let Some(day_us) = search.next() {
            search.compare(first_id((NOW_US - day_us) / DAY_US));
            steps += 1;
        }
        assert!(steps <= 9, "{steps}");
        (NOW_US - search.day().from.unwrap()) / DAY_US
    }

    #[test]
    fn an_id_lies_in_the_last_day_whose_first_id_is_not_above_it() {
        assert_eq!(guess(10_500), 0);
        assert_eq!(guess(10_000), 0);
        assert_eq!(guess(9_999), 1);
        assert_eq!(guess(9_000), 10);
        assert_eq!(guess(8_999), 13);
        assert_eq!(guess(7_250), 28);
        assert_eq!(guess(5), DAYS_BACK);
    }

    #[test]
    fn today_includes_the_future_and_no_other_day_does() {
        let mut search = DayOfId::new(1, NOW_US);
        while search.next().is_some() {
            search.compare(Some(1));
        }
        assert_eq!(search.day().to, None);
        let mut search = DayOfId::new(1, NOW_US);
        while search.next().is_some() {
            search.compare(None);
        }
        let day = search.day();
        assert_eq!(day.to.unwrap() - day.from.unwrap(), DAY_US);
    }

    #[test]
    fn ids_are_cached_by_day() {
        let ids = FirstIds::default();
        assert_eq!(ids.known(7), None);
        ids.learn(7, 70);
        assert_eq!(ids.known(7), Some(70));
        assert_eq!(ids.known(8), None);
    }
}
