//! Ranges of days of receipt, by which the table is partitioned, and parts of a day.
//!
//! **Invariant:** the ranges of one search cover all time without overlap, even if the clock is wrong.

use std::ops::RangeInclusive;

pub(super) const DAY_US: i64 = 86_400_000_000;

/// Time within which nearly all events are received after they happened.
const USUAL_DELAY_MS: i64 = 600_000;

/// The end of the year 9999.
const LATEST_MS: i64 = 253_402_300_799_999;

/// A half-open range of receive times in Unix µs; `None` = no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

impl Days {
    pub(super) const ALL: Self = Self {
        from: None,
        to: None,
    };

    /// Returns the days in which nearly all events of a time span in Unix ms are received.
    pub(super) fn of_span(span: &RangeInclusive<i64>) -> Self {
        let day = |ms: i64| day_start(ms.clamp(0, LATEST_MS) * 1000);
        let late_ms = span.end().saturating_add(USUAL_DELAY_MS);
        Self {
            from: Some(day(*span.start())),
            to: Some(day(late_ms) + DAY_US),
        }
    }

    /// Returns the number of days; `None` without a bound.
    pub(super) fn len(self) -> Option<i64> {
        Some((self.to? - self.from?) / DAY_US)
    }

    /// Returns the older and the newer half, in whole days; `None` for a range of at most one day or without a bound.
    pub(super) fn halves(self) -> Option<(Self, Self)> {
        let days = self.len()?;
        let middle = Some(self.from? + days / 2 * DAY_US);
        (days > 1).then_some((
            Self { to: middle, ..self },
            Self {
                from: middle,
                ..self
            },
        ))
    }
}

/// Returns the start of the day of a time in Unix µs.
pub(super) fn day_start(time_us: i64) -> i64 {
    time_us - time_us.rem_euclid(DAY_US)
}

/// The ranges of a search, newest first: today with the future, then the days before, in ranges that may widen.
///
/// After [`DAYS_BACK`] days, the last range is all time before.
pub(super) struct DayRanges {
    next: NextRange,
    today_us: i64,
    widest_days: i64,
}

#[derive(Clone, Copy)]
enum NextRange {
    All,
    Today,
    /// Days that end at this time.
    Before(i64),
    None,
}

/// Number of days after which the rest of the table is one range.
const DAYS_BACK: i64 = 400;

/// Factor by which a range may be wider than the last one.
const WIDER: i64 = 8;

impl DayRanges {
    /// Returns the ranges that begin with today.
    pub(super) fn newest_first(now_us: i64) -> Self {
        Self {
            next: NextRange::Today,
            today_us: day_start(now_us),
            widest_days: 1,
        }
    }

    /// Returns all time as one range.
    pub(super) fn all() -> Self {
        Self {
            next: NextRange::All,
            ..Self::newest_first(0)
        }
    }

    /// Returns the next range, back to the start of the day of a time, but at least one day.
    pub(super) fn next_back_to(&mut self, time_us: i64) -> Option<Days> {
        let (to, newest_us) = match self.next {
            NextRange::Today => (None, self.today_us),
            NextRange::Before(to) => (Some(to), to - DAY_US),
            NextRange::All | NextRange::None => return self.next(1),
        };
        let oldest_us = self.today_us - DAYS_BACK * DAY_US;
        if newest_us < oldest_us {
            return self.next(1);
        }
        let from = day_start(time_us.clamp(oldest_us, newest_us));
        self.widest_days = ((newest_us - from) / DAY_US + 1).saturating_mul(WIDER);
        self.next = NextRange::Before(from);
        Some(Days {
            from: Some(from),
            to,
        })
    }

    /// Returns a sequence without ranges.
    pub(super) fn none() -> Self {
        Self {
            next: NextRange::None,
            ..Self::newest_first(0)
        }
    }

    /// Returns the next range, of at most `days` days, which ends at the latest with the day of a time.
    pub(super) fn next_not_before(&mut self, time_us: i64, days: i64) -> Option<Days> {
        let left = match self.next {
            NextRange::Before(to) => (to - day_start(time_us.clamp(0, to))) / DAY_US,
            NextRange::All | NextRange::Today | NextRange::None => i64::MAX,
        };
        self.next(days.min(left))
    }

    /// Returns all time that no range has covered yet; `None` if there is none.
    pub(super) const fn rest(&self) -> Option<Days> {
        match self.next {
            NextRange::All | NextRange::Today => Some(Days::ALL),
            NextRange::Before(to) => Some(Days {
                from: None,
                to: Some(to),
            }),
            NextRange::None => None,
        }
    }

    /// Returns the next range, of at most `days` days, and at least one.
    pub(super) fn next(&mut self, days: i64) -> Option<Days> {
        let (range, next) = match self.next {
            NextRange::All => (Days::ALL, NextRange::None),
            NextRange::Today => {
                let from = self.today_us;
                let today = Days {
                    from: Some(from),
                    to: None,
                };
                (today, NextRange::Before(from))
            }
            NextRange::Before(to) if self.today_us - to >= DAYS_BACK * DAY_US => {
                let rest = Days {
                    from: None,
                    to: Some(to),
                };
                (rest, NextRange::None)
            }
            NextRange::Before(to) => {
                let days = days.clamp(1, self.widest_days);
                self.widest_days = days.saturating_mul(WIDER);
                let from = to - days * DAY_US;
                let range = Days {
                    from: Some(from),
                    to: Some(to),
                };
                (range, NextRange::Before(from))
            }
            NextRange::None => return None,
        };
        self.next = next;
        Some(range)
    }
}

/// A part of a search: the events received in a range of days whose own time is in a range of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) days: Days,
    /// The first millisecond; `None` = no bound.
    pub(super) from_ms: Option<i64>,
    /// The end, which is excluded; `None` = no bound.
    pub(super) to_ms: Option<i64>,
}

/// Slices are not split below twice this.
const SHORTEST_MS: i64 = 1_000;

impl Slice {
    pub(super) const fn of(days: Days) -> Self {
        Self {
            days,
            from_ms: None,
            to_ms: None,
        }
    }

    /// Returns `true` if the slice has only some of the events of its days.
    pub(super) const fn is_part_of_days(self) -> bool {
        self.from_ms.is_some() || self.to_ms.is_some()
    }

    /// Returns the events before a time and those from then on; `None` if the time is not within the slice.
    pub(super) fn split_at(self, time_ms: i64) -> Option<(Self, Self)> {
        let middle = Some(time_ms);
        let from_ms = self.from_ms.or(self.days.from.map(|from| from / 1000));
        let to_ms = self.to_ms.or(self.days.to.map(|to| to / 1000));
        let is_within =
            from_ms.is_none_or(|from| from < time_ms) && to_ms.is_none_or(|to| time_ms < to);
        is_within.then_some((
            Self {
                to_ms: middle,
                ..self
            },
            Self {
                from_ms: middle,
                ..self
            },
        ))
    }

    /// Returns the older and the newer half: of the days, or of a day's time. `None` if the slice is short, or has no lower
    /// bound.
    pub(super) fn split(self, now_us: i64) -> Option<(Self, Self)> {
        if let Some((older, newer)) = self.days.halves() {
            let part = |days| Self { days, ..self };
            return Some((part(older), part(newer)));
        }
        let from_ms = self.from_ms.or(Some(self.days.from? / 1000))?;
        let end_us = self.days.to.unwrap_or(now_us);
        let to_ms = self.to_ms.unwrap_or(end_us / 1000);
        let half_ms = to_ms.checked_sub(from_ms)? / 2;
        (half_ms >= SHORTEST_MS)
            .then(|| self.split_at(to_ms - half_ms))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_US, DayRanges, Days, Slice};

    const NOW_US: i64 = 1_767_225_600_000_000 + 5 * DAY_US / 8;

    #[test]
    fn the_ranges_cover_all_time_once_newest_first() {
        for days in [1, 3, i64::MAX] {
            let mut ranges = DayRanges::newest_first(NOW_US);
            let today = ranges.next(days).unwrap();
            assert_eq!(
                (today.from, today.to),
                (Some(NOW_US - 5 * DAY_US / 8), None)
            );
            let mut last = today;
            let mut widths = Vec::new();
            while let Some(range) = ranges.next(days) {
                assert_eq!(range.to, last.from);
                assert!(range.to.is_some());
                widths.extend(range.from.map(|from| (range.to.unwrap() - from) / DAY_US));
                last = range;
            }
            assert_eq!(last.from, None);
            let expected: &[i64] = match days {
                1 => &[1; 5],
                3 => &[1, 3, 3, 3, 3],
                _ => &[1, 8, 64, 512],
            };
            assert_eq!(widths[..expected.len()], *expected);
        }
        let mut all = DayRanges::all();
        assert_eq!((all.next(1), all.next(1)), (Some(Days::ALL), None));
    }

    #[test]
    fn a_range_is_halved_down_to_one_day() {
        let mut left = vec![Days {
            from: Some(0),
            to: Some(7 * DAY_US),
        }];
        let mut single = Vec::new();
        while let Some(days) = left.pop() {
            match days.halves() {
                Some((older, newer)) => left.extend([older, newer]),
                None => single.push((days.from.unwrap(), days.to.unwrap())),
            }
        }
        let expected: Vec<_> = (0..7)
            .rev()
            .map(|d| (d * DAY_US, (d + 1) * DAY_US))
            .collect();
        assert_eq!(single, expected);
        assert_eq!(Days::ALL.halves(), None);
    }

    #[test]
    fn a_day_is_split_into_parts_that_cover_all_times_once() {
        let today = DayRanges::newest_first(NOW_US).next(1).unwrap();
        let yesterday = Days {
            from: today.from.map(|from| from - DAY_US),
            to: today.from,
        };
        for day in [today, yesterday] {
            let mut left = vec![Slice::of(day)];
            let mut parts = Vec::new();
            while let Some(slice) = left.pop() {
                match slice.split(NOW_US) {
                    Some((older, newer)) => left.extend([older, newer]),
                    None => parts.push(slice),
                }
            }
            assert!(
                parts
                    .iter()
                    .all(|part| part.days == day && part.is_part_of_days())
            );
            assert_eq!(parts.first().unwrap().to_ms, None);
            assert_eq!(parts.last().unwrap().from_ms, None);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].from_ms, pair[1].to_ms);
                assert!(pair[1].to_ms.is_some());
            }
        }
        assert_eq!(Slice::of(Days::ALL).split(NOW_US), None);
    }
}
