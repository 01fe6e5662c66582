//! Sets of positions, as ranges.
//!
//! **Invariant:** the ranges are sorted, disjoint and do not touch.

use std::ops::RangeInclusive;

/// A set of positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(super) fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return;
        }
        let from = self.0.partition_point(|r| r.1.saturating_add(1) < first);
        let to = self.0.partition_point(|r| r.0 <= last.saturating_add(1));
        if from < to {
            first = first.min(self.0[from].0);
            last = last.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, last)]);
    }

    pub(super) fn remove(&mut self, range: &RangeInclusive<u64>) {
        let (first, last) = (*range.start(), *range.end());
        if first > last {
            return;
        }
        let from = self.0.partition_point(|r| r.1 < first);
        let to = self.0.partition_point(|r| r.0 <= last);
        if from >= to {
            return;
        }
        let (left, right) = (self.0[from].0, self.0[to - 1].1);
        let mut rest = Vec::new();
        if left < first {
            rest.push((left, first - 1));
        }
        if right > last {
            rest.push((last + 1, right));
        }
        self.0.splice(from..to, rest);
    }

    /// The parts of `range` that are in the set.
    pub(super) fn within(&self, range: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let from = self.0.partition_point(|r| r.1 < *range.start());
        self.0[from..]
            .iter()
            .take_while(|r| r.0 <= *range.end())
            .map(|r| r.0.max(*range.start())..=r.1.min(*range.end()))
            .collect()
    }

    /// The parts of `range` that are not in the set.
    pub(super) fn missing(&self, range: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut missing = Vec::new();
        let mut next = *range.start();
        for part in self.within(range) {
            if next < *part.start() {
                missing.push(next..=part.start() - 1);
            }
            match part.end().checked_add(1) {
                Some(after) => next = after,
                None => return missing,
            }
        }
        if next <= *range.end() {
            missing.push(next..=*range.end());
        }
        missing
    }

    /// The lowest position at or above `n` that is not in the set.
    pub(super) fn first_missing(&self, n: u64) -> u64 {
        let from = self.0.partition_point(|r| r.1 < n);
        match self.0.get(from) {
            Some(r) if r.0 <= n => r.1.saturating_add(1),
            _ => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Ranges;

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_numbers(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..30),
            first in 0u64..45, length in 0u64..20,
        ) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (add, first, length) in steps {
                let range = first..=first + length;
                if add {
                    set.extend(range.clone());
                    ranges.insert(range);
                } else {
                    set.retain(|n| !range.contains(n));
                    ranges.remove(&range);
                }
            }
            let window = first..=first + length;
            let within: Vec<u64> = ranges.within(&window).into_iter().flatten().collect();
            let missing: Vec<u64> = ranges.missing(&window).into_iter().flatten().collect();
            prop_assert_eq!(within, window.clone().filter(|n| set.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(missing, window.clone().filter(|n| !set.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(ranges.first_missing(first), (first..).find(|n| !set.contains(n)).unwrap());
        }
    }
}
