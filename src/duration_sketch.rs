//! A sketch of durations: exact counts, and percentiles within 1.6 %.
//!
//! Each duration counts in one of 1,920 buckets. Up to 63 ns, each number of nanoseconds has a bucket; from there on, each
//! doubling has 32 buckets of the same width, so that half a bucket is at most 1/64 of the durations in it. The sketch of a
//! whole is the sum of the sketches of its parts.
//!
//! **Invariant:** the bucket of a duration is the same in every version and in every store.

use std::collections::BTreeMap;

/// The greatest relative error of a percentile: half of a bucket's width, as a part of its least duration.
pub(crate) const RELATIVE_ERROR: f64 = 1.0 / 64.0;

/// The number of buckets of each doubling.
pub(crate) const BUCKETS_PER_DOUBLING: u64 = 32;

/// Durations below this many nanoseconds, twice [`BUCKETS_PER_DOUBLING`], have a bucket each.
pub(crate) const EXACT_BELOW_NS: u64 = 2 * BUCKETS_PER_DOUBLING;

/// Numbers of durations by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DurationSketch {
    buckets: BTreeMap<u16, u64>,
    count: u64,
}

/// Returns the bucket of a duration in nanoseconds, from 0 to 1,919.
pub(crate) const fn bucket(duration_ns: u64) -> u16 {
    let shift = shift(duration_ns);
    #[expect(clippy::cast_possible_truncation, reason = "at most 32 * 58 + 63")]
    let bucket = (BUCKETS_PER_DOUBLING * shift as u64 + (duration_ns >> shift)) as u16;
    bucket
}

/// Returns the number of low bits that the bucket of a duration does not distinguish.
const fn shift(duration_ns: u64) -> u32 {
    let exact_bits = EXACT_BELOW_NS.ilog2();
    (u64::BITS - duration_ns.leading_zeros()).saturating_sub(exact_bits)
}

/// Returns the duration in the middle of a bucket, in nanoseconds.
const fn middle(bucket: u16) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT_BELOW_NS {
        return bucket;
    }
    let shift = bucket / BUCKETS_PER_DOUBLING - 1;
    let least = (bucket % BUCKETS_PER_DOUBLING + BUCKETS_PER_DOUBLING) << shift;
    least + ((1 << shift) - 1) / 2
}

impl DurationSketch {
    /// Adds `count` durations of a bucket.
    pub(crate) fn add(&mut self, bucket: u16, count: u64) {
        if count > 0 {
            *self.buckets.entry(bucket).or_default() += count;
            self.count += count;
        }
    }

    /// Returns the number of buckets that have durations.
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the percentile by nearest rank, in nanoseconds; `None` if there are no durations.
    #[must_use]
    pub(crate) fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.count.saturating_mul(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let mut reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        let mut buckets = self.buckets.iter();
        let found = buckets.find(|(_, count)| reaches(count));
        found.map(|(bucket, _)| middle(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::{DurationSketch, RELATIVE_ERROR, bucket, middle};

    /// Each power of two with its neighbours, and durations between.
    fn durations() -> impl Iterator<Item = u64> {
        let powers = (0..64).map(|bit| 1_u64 << bit);
        let near = powers.flat_map(|power| {
            [
                power - 1,
                power,
                power + 1,
                power + power / 3,
                power + (power - 1),
            ]
        });
        near.chain(0..200)
    }

    #[test]
    fn the_middle_of_a_bucket_is_near_each_duration_in_it() {
        for duration in durations() {
            let found = middle(bucket(duration));
            #[expect(clippy::cast_precision_loss, reason = "an error of 1e-16")]
            let error = found.abs_diff(duration) as f64 / duration.max(1) as f64;
            assert!(error <= RELATIVE_ERROR, "{duration}: {found}");
            assert_eq!(bucket(found), bucket(duration));
        }
    }

    #[test]
    fn longer_durations_have_no_lower_bucket() {
        let mut all: Vec<u64> = durations().collect();
        all.sort_unstable();
        assert!(all.is_sorted_by_key(|duration| bucket(*duration)));
        assert_eq!((bucket(63), bucket(64), bucket(u64::MAX)), (63, 64, 1919));
    }

    #[test]
    fn a_percentile_is_the_duration_of_the_nearest_rank() {
        let mut sketch = DurationSketch::default();
        assert_eq!(sketch.percentile(50), None);
        sketch.add(bucket(7), 0);
        assert_eq!(sketch.percentile(50), None);
        for duration in 1..=40 {
            sketch.add(bucket(duration), 1);
        }
        for (percent, expected) in [(0, 1), (1, 1), (50, 20), (95, 38), (99, 40), (100, 40)] {
            assert_eq!(sketch.percentile(percent), Some(expected), "{percent}");
        }
    }
}
