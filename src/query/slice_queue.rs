//! The slices of a search that are left, newest first.
//!
//! **Invariant:** every event is in exactly one of the slices that were returned or are left.

use crate::query::days::{DayRanges, Days, Slice};
use crate::query::rest_of_search::{MatchDensity, RestOfSearch};
use crate::query::search::Search;

/// Maximum number of slices whose length follows from the times of the events found, so that a search never creeps.
const GUESSED_SLICES: u32 = 3;

const DAY_MS: i64 = 86_400_000;

/// The slices that are left: parts of days already begun, and the days after that.
pub(super) struct SliceQueue {
    parts: Vec<Slice>,
    ranges: DayRanges,
    density: MatchDensity,
    guesses: u32,
    now_us: i64,
    /// The search's lower bound of event times. Few events before its day have such a time.
    earliest_ms: Option<i64>,
}

/// The next part of a search by slices.
pub(super) enum NextPart {
    Slice(Slice),
    /// All days that are left: they can have only few events of the search.
    Rest(Days),
}

impl SliceQueue {
    /// Begins with today; if the search has an upper bound of event times, with the days after that of the bound, which
    /// have few such events.
    pub(super) fn newest_first(search: &Search, now_us: i64) -> Self {
        let latest_ms = search.latest_ms().unwrap_or(i64::MAX);
        let after_latest_us = latest_ms.saturating_add(DAY_MS).saturating_mul(1000);
        let newest_us = after_latest_us.clamp(0, now_us.max(0));
        Self {
            earliest_ms: search.earliest_ms(),
            ..Self::of(DayRanges::newest_first(newest_us), now_us)
        }
    }

    /// Begins with all events as one slice.
    pub(super) fn all() -> Self {
        Self::of(DayRanges::all(), 0)
    }

    const fn of(ranges: DayRanges, now_us: i64) -> Self {
        Self {
            parts: Vec::new(),
            ranges,
            density: MatchDensity::NONE,
            guesses: GUESSED_SLICES,
            now_us,
            earliest_ms: None,
        }
    }

    /// Returns the next slice, which probably has the events that the page lacks; once the page is full, what may have
    /// events that belong into it.
    pub(super) fn next(&mut self, rest: &RestOfSearch) -> Option<NextPart> {
        if let Some(part) = self.parts.pop() {
            if rest.is_full() && !part.is_part_of_days() {
                self.parts.clear();
                let to = part.days.to;
                return Some(NextPart::Rest(Days { to, ..Days::ALL }));
            }
            return Some(NextPart::Slice(self.cut(part, self.probable_end_ms(rest))));
        }
        let left = self.ranges.rest()?;
        let is_before = |to: i64| self.earliest_ms.is_some_and(|ms| to / 1000 <= ms);
        if rest.is_full() || left.to.is_some_and(is_before) {
            self.ranges = DayRanges::none();
            return Some(NextPart::Rest(left));
        }
        let end_ms = self.probable_end_ms(rest);
        let days = match end_ms {
            Some(ms) => self.ranges.next_back_to(ms.saturating_mul(1000)),
            None => {
                let missing = rest.wanted.saturating_sub(rest.page.events.len());
                let earliest_ms = self.earliest_ms.unwrap_or(i64::MIN);
                let days = self.density.days_with(missing);
                let ranges = &mut self.ranges;
                ranges.next_not_before(earliest_ms.saturating_mul(1000), days)
            }
        }?;
        self.density.begin(days);
        Some(NextPart::Slice(self.cut(Slice::of(days), end_ms)))
    }

    fn probable_end_ms(&self, rest: &RestOfSearch) -> Option<i64> {
        let end_ms = rest
            .probable_end()?
            .max(self.earliest_ms.unwrap_or(i64::MIN));
        (self.guesses > 0 && !rest.is_full()).then_some(end_ms)
    }

    /// Returns the part of a slice from a time on, and keeps the part before it.
    fn cut(&mut self, slice: Slice, from_ms: Option<i64>) -> Slice {
        let from_ms = from_ms.filter(|ms| self.earliest_ms.is_none_or(|earliest| earliest < *ms));
        let Some((older, newer)) = from_ms.and_then(|ms| slice.split_at(ms)) else {
            return slice;
        };
        self.guesses -= 1;
        self.parts.push(older);
        newer
    }

    /// Notes the number of events found in the last slice.
    pub(super) fn note(&mut self, found: usize) {
        self.density.add(found);
    }

    /// Puts the parts of a slice back; returns `false` if it is too short for that.
    pub(super) fn split(&mut self, slice: Slice) -> bool {
        let Some((older, newer)) = slice.split(self.now_us) else {
            return false;
        };
        self.guesses = 0;
        self.parts.extend([older, newer]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{NextPart, SliceQueue};
    use crate::query::cursor::{PageKey, SortOrder};
    use crate::query::days::{DAY_US, Days, Slice};
    use crate::query::filter::{Filter, Quantity};
    use crate::query::page::FoundEvent;
    use crate::query::rest_of_search::RestOfSearch;
    use crate::query::search::Search;

    const NOW_US: i64 = 1_767_225_600_000_000 + 5 * DAY_US / 8;

    fn search(filters: Vec<Filter>) -> Search {
        Search {
            filters,
            order: SortOrder::NewestFirst,
            limit: 10,
            offset: 0,
            after: None,
        }
    }

    fn found(rest: &mut RestOfSearch, count: i64, every_ms: i64) {
        let event = |n: i64| {
            let timestamp = NOW_US / 1000 - n * every_ms;
            FoundEvent::of(PageKey { timestamp, id: n }, NOW_US)
        };
        rest.page.events = (0..count).map(event).collect();
    }

    fn holds(slice: Slice, received_us: i64, timestamp_ms: i64) -> bool {
        slice.days.from.is_none_or(|from| from <= received_us)
            && slice.days.to.is_none_or(|to| received_us < to)
            && slice.from_ms.is_none_or(|from| from <= timestamp_ms)
            && slice.to_ms.is_none_or(|to| timestamp_ms < to)
    }

    /// Receive times, with the events' own times: by right, late and wrong clocks.
    fn events() -> Vec<(i64, i64)> {
        let days = [-3, -1, 0, 1, 2, 3, 5, 9, 30, 200, 399, 400, 401, 900];
        let received = days.map(|days| NOW_US - days * DAY_US - 7);
        let skews = [0, 3_600_000, -3_600_000, 5 * 86_400_000, -5 * 86_400_000];
        received
            .iter()
            .flat_map(|us| skews.map(|skew| (*us, us / 1000 + skew)))
            .collect()
    }

    /// Takes all parts, of which some are split and others have matches; the page is full after `full_after` of them.
    fn parts(search: &Search, full_after: usize, every_ms: i64) -> Vec<Slice> {
        let mut rest = RestOfSearch::new(search);
        let mut queue = SliceQueue::newest_first(search, NOW_US);
        let mut parts = Vec::new();
        let mut taken = 0;
        loop {
            let matches = [0, 5, 6, 9][taken.min(3)];
            let full = taken >= full_after;
            found(&mut rest, if full { 11 } else { matches }, every_ms);
            let Some(part) = queue.next(&rest) else {
                return parts;
            };
            taken += 1;
            assert!(taken < 1000, "{parts:?}");
            match part {
                NextPart::Rest(days) => parts.push(Slice::of(days)),
                NextPart::Slice(slice) if taken % 3 == 1 && !full && queue.split(slice) => {}
                NextPart::Slice(slice) => {
                    queue.note(1);
                    parts.push(slice);
                }
            }
        }
    }

    #[test]
    fn every_event_is_in_exactly_one_part_whatever_was_found_before() {
        let bound = |days: i64| NOW_US / 1000 - days * 86_400_000;
        let unbounded = search(Vec::new());
        let from = search(vec![Filter::AtLeast(Quantity::Time, bound(6))]);
        let to = search(vec![Filter::AtMost(Quantity::Time, bound(4))]);
        let far = search(vec![
            Filter::AtLeast(Quantity::Time, i64::MIN),
            Filter::AtMost(Quantity::Time, i64::MAX),
        ]);
        let after = Search {
            after: Some(PageKey {
                timestamp: bound(2),
                id: 1,
            }),
            ..unbounded.clone()
        };
        for search in [unbounded, from, to, far, after] {
            for full_after in 0..12 {
                for every_ms in [1, 60_000, 7_200_000, 86_400_000_000] {
                    let parts = parts(&search, full_after, every_ms);
                    for (received_us, timestamp_ms) in events() {
                        let is_outside = search.earliest_ms().is_some_and(|ms| timestamp_ms < ms);
                        let within = parts.iter();
                        let within = within.filter(|part| holds(**part, received_us, timestamp_ms));
                        let count = within.count();
                        let context = (
                            &search.filters,
                            full_after,
                            every_ms,
                            received_us,
                            timestamp_ms,
                            &parts,
                        );
                        assert!(count == 1 || is_outside && count < 2, "{count} {context:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_slice_reaches_as_far_back_as_the_page_probably_does() {
        let search = search(Vec::new());
        let mut rest = RestOfSearch::new(&search);
        let mut queue = SliceQueue::newest_first(&search, NOW_US);
        found(&mut rest, 6, 3_600_000);
        let Some(NextPart::Slice(slice)) = queue.next(&rest) else {
            panic!("a slice");
        };
        // Five events are missing, one an hour, and half as many again.
        let end_ms = NOW_US / 1000 - 5 * 3_600_000 - 5 * 3_600_000 * 3 / 2 - 1;
        assert_eq!(slice.from_ms, Some(end_ms));
        assert_eq!((slice.to_ms, slice.days.to), (None, None));
    }

    #[test]
    fn the_days_after_an_upper_bound_are_one_slice_and_those_before_a_lower_bound_the_rest() {
        let noon = |days: i64| (NOW_US / DAY_US - days) * 86_400_000 + 43_200_000;
        let search = search(vec![
            Filter::AtLeast(Quantity::Time, noon(20)),
            Filter::AtMost(Quantity::Time, noon(10)),
        ]);
        let rest = RestOfSearch::new(&search);
        let mut queue = SliceQueue::newest_first(&search, NOW_US);
        let mut parts = Vec::new();
        while let Some(part) = queue.next(&rest) {
            parts.push(match part {
                NextPart::Slice(slice) => slice.days,
                NextPart::Rest(days) => days,
            });
        }
        let day = |days: i64| Some((NOW_US / DAY_US - days) * DAY_US);
        let expected = [(9, None), (10, Some(9)), (18, Some(10)), (20, Some(18))];
        let mut expected: Vec<_> = expected
            .map(|(from, to)| Days {
                from: day(from),
                to: to.and_then(day),
            })
            .into();
        expected.push(Days {
            from: None,
            to: day(20),
        });
        assert_eq!(parts, expected);
    }
}
