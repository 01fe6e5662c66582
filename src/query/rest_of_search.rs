//! A search that several statements answer: the page so far, and the search for the events that it lacks.
//!
//! **Invariant:** the page has every matching event that precedes those of the rest.

use crate::query::cursor::{PageKey, SortOrder};
use crate::query::days::Days;
use crate::query::page::ResultPage;
use crate::query::search::Search;

/// Number of events found from which their density is a guide.
const FEW: usize = 4;

/// A page, and the search for the events that it lacks.
pub(super) struct RestOfSearch {
    pub(super) page: ResultPage,
    pub(super) search: Search,
    /// Number of events of a full page.
    pub(super) wanted: usize,
}

impl RestOfSearch {
    pub(super) fn new(search: &Search) -> Self {
        Self {
            page: ResultPage::default(),
            search: search.clone(),
            wanted: search.limit as usize + 1,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.page.more || self.page.events.len() >= self.wanted
    }

    /// Returns the key of the page's last event.
    pub(super) fn floor(&self) -> Option<PageKey> {
        self.page.events.last().map(|event| event.key)
    }

    /// Restricts the search to events after the page's last one. The page must have every event before that.
    pub(super) fn begin_after_page(&mut self) {
        if let Some(last) = self.page.events.last() {
            self.search.after = Some(last.key);
        }
    }

    /// Returns the time to which a search for the newest events has to go back if the missing events follow at the
    /// density of those found; `None` if too few are found.
    pub(super) fn probable_end(&self) -> Option<i64> {
        let found = &self.page.events;
        if self.search.order == SortOrder::OldestFirst || found.len() < FEW {
            return None;
        }
        let (newest, oldest) = (found.first()?.key.timestamp, found.last()?.key.timestamp);
        let missing = as_rows(self.wanted.saturating_sub(found.len()));
        let span = newest.saturating_sub(oldest).checked_mul(missing)? / as_rows(found.len() - 1);
        // Half as much more, as another statement costs more than the events read in vain.
        oldest.checked_sub(span.checked_add(span / 2 + 1)?)
    }
}

/// The number of matches in the last range of days.
pub(super) struct MatchDensity {
    days: i64,
    matches: i64,
}

impl MatchDensity {
    pub(super) const NONE: Self = Self {
        days: 0,
        matches: 0,
    };

    pub(super) fn begin(&mut self, days: Days) {
        self.matches = 0;
        self.days = days.len().unwrap_or(1);
    }

    pub(super) fn add(&mut self, matches: usize) {
        self.matches = self.matches.saturating_add(as_rows(matches));
    }

    /// Returns the number of days that probably have this number of matches.
    pub(super) fn days_with(&self, matches: usize) -> i64 {
        let days = as_rows(matches).saturating_mul(self.days);
        // A quarter more, as another statement costs more than the events read in vain.
        (days + days / 4)
            .checked_div(self.matches)
            .unwrap_or(i64::MAX)
    }
}

fn as_rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::MatchDensity;
    use crate::query::days::Days;

    #[test]
    fn the_next_range_has_the_days_that_the_missing_events_need_at_the_density_so_far() {
        const DAY_US: i64 = 86_400_000_000;
        let mut density = MatchDensity::NONE;
        assert_eq!(density.days_with(100), i64::MAX);
        density.begin(Days {
            from: Some(0),
            to: Some(2 * DAY_US),
        });
        density.add(30);
        density.add(10);
        assert_eq!(density.days_with(80), 5);
        assert_eq!(density.days_with(1), 0);
        density.begin(Days::ALL);
        assert_eq!(density.days_with(1), i64::MAX);
    }
}
