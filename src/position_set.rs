//! Sets of positions, as ranges.
//!
//! **Invariant:** the ranges are sorted, disjoint and do not touch.

use std::ops::RangeInclusive;

/// A set of positions of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionSet(Vec<RangeInclusive<u64>>);

impl PositionSet {
    /// Makes a set of ranges in any order, overlapping or not.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of positions.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|r| r.end() - r.start() + 1).sum()
    }

    #[must_use]
    pub fn ranges(&self) -> &[RangeInclusive<u64>] {
        &self.0
    }

    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= n);
        after > 0 && *self.0[after - 1].end() >= n
    }

    /// Adds a range, and joins it with the ranges that overlap or touch it.
    pub fn insert(&mut self, range: RangeInclusive<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut first, mut last) = range.into_inner();
        let from = self
            .0
            .partition_point(|r| r.end().saturating_add(1) < first);
        let to = self
            .0
            .partition_point(|r| *r.start() <= last.saturating_add(1));
        if from < to {
            first = first.min(*self.0[from].start());
            last = last.max(*self.0[to - 1].end());
        }
        self.0.splice(from..to, [first..=last]);
    }

    /// Adds several ranges.
    pub(crate) fn extend(&mut self, ranges: &[RangeInclusive<u64>]) {
        for range in ranges {
            self.insert(range.clone());
        }
    }

    /// Returns the positions that are not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|r| other.missing(r)).collect())
    }

    pub(crate) fn remove(&mut self, range: &RangeInclusive<u64>) {
        let (first, last) = (*range.start(), *range.end());
        if first > last {
            return;
        }
        let from = self.0.partition_point(|r| *r.end() < first);
        let to = self.0.partition_point(|r| *r.start() <= last);
        if from >= to {
            return;
        }
        let (left, right) = (*self.0[from].start(), *self.0[to - 1].end());
        let mut rest = Vec::new();
        if left < first {
            rest.push(left..=first - 1);
        }
        if right > last {
            rest.push(last + 1..=right);
        }
        self.0.splice(from..to, rest);
    }

    /// Returns the parts of `range` that are in the set.
    pub(crate) fn within(&self, range: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let from = self.0.partition_point(|r| r.end() < range.start());
        self.0[from..]
            .iter()
            .take_while(|r| r.start() <= range.end())
            .map(|r| *r.start().max(range.start())..=*r.end().min(range.end()))
            .collect()
    }

    /// Returns the parts of `range` that are not in the set.
    #[must_use]
    pub fn missing(&self, range: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
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

    /// Returns the lowest position at or above `n` that is not in the set.
    pub(crate) fn first_missing(&self, n: u64) -> u64 {
        let from = self.0.partition_point(|r| *r.end() < n);
        match self.0.get(from) {
            Some(r) if *r.start() <= n => r.end().saturating_add(1),
            _ => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::PositionSet;

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_numbers(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..30),
            first in 0u64..45, length in 0u64..20,
        ) {
            let mut ranges = PositionSet::default();
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
            prop_assert_eq!(ranges.count(), set.len() as u64);
            let left = PositionSet::new([window.clone()]).without(&ranges);
            prop_assert_eq!(left, PositionSet::new(ranges.missing(&window)));
            prop_assert_eq!(within, window.clone().filter(|n| set.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(missing, window.clone().filter(|n| !set.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(ranges.contains(first), set.contains(&first));
            prop_assert_eq!(ranges.first_missing(first), (first..).find(|n| !set.contains(n)).unwrap());
        }
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let set = PositionSet::new([5..=6, 1..=2, 3..=4, 10..=12, 11..=20]);
        assert_eq!(set.ranges(), &[1..=6, 10..=20]);
        assert!(set.contains(1) && set.contains(6) && set.contains(20));
        assert!(!set.contains(0) && !set.contains(7) && !set.contains(21));
    }

    #[test]
    fn what_the_set_lacks_of_a_range_is_found() {
        let set = PositionSet::new([3..=4, 8..=10]);
        assert_eq!(set.missing(&(1..=12)), [1..=2, 5..=7, 11..=12]);
        assert_eq!(set.missing(&(4..=8)), [5..=7]);
        assert_eq!(set.missing(&(3..=4)), []);
        assert_eq!(set.missing(&(11..=11)), [11..=11]);
        assert_eq!(PositionSet::default().missing(&(1..=2)), [1..=2]);
    }
}
