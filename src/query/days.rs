//! Ranges of days of receipt, by which the table is partitioned.
//!
//! **Invariant:** the ranges of one search cover all time without overlap, even if the clock is wrong.

pub(super) const DAY_US: i64 = 86_400_000_000;

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

    /// Returns the older and the newer half, in whole days; `None` for a range of at most one day or without a bound.
    pub(super) fn halves(self) -> Option<(Self, Self)> {
        let days = (self.to? - self.from?) / DAY_US;
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

/// Returns ranges for today and the future, then for 1, 4, 16, 64 and 256 days before, then for all time before. The
/// newest is the last element, so that popping begins with it.
pub(super) fn newest_first(now_micros: i64) -> Vec<Days> {
    let mut to = day_start(now_micros);
    let mut ranges = vec![Days {
        from: Some(to),
        to: None,
    }];
    for days in [1, 4, 16, 64, 256] {
        let from = to - days * DAY_US;
        ranges.push(Days {
            from: Some(from),
            to: Some(to),
        });
        to = from;
    }
    ranges.push(Days {
        from: None,
        to: Some(to),
    });
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::{DAY_US, Days, newest_first};

    #[test]
    fn the_ranges_cover_all_time_once_and_end_with_today() {
        let now = 1_767_225_600_000_000 + 5;
        let ranges = newest_first(now);
        assert_eq!(ranges.first().unwrap().from, None);
        let today = *ranges.last().unwrap();
        assert_eq!((today.from, today.to), (Some(now - 5), None));
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
            assert!(pair[0].to.is_some());
        }
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
}
