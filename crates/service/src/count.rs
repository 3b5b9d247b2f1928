//! What is counted between two looks at a page: counters by label, and histograms.
//!
//! A label is made of what stands in the code (an enum, a `&'static str`), never of what somebody sent: so the number of series is
//! bounded by construction. One short lock for each count; nothing here is on the way of a share or a tick. Next: [`crate::page`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts by label.
#[derive(Debug, Default)]
pub struct Counters<K>(Mutex<BTreeMap<K, u64>>);

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    observed: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    /// One for each bound, and one for what lies above the last.
    counts: Vec<u64>,
    sum: f64,
}

/// What a histogram has observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The upper bound of each bucket, infinity last, and what fell into it and into no lower one.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all observations.
    pub sum: f64,
}

impl<K: Ord + Copy + 'static> Counters<K> {
    /// Counters that begin at zero for these labels: a series that is there from the start shows its first increase.
    pub fn new(known: impl IntoIterator<Item = K>) -> Self {
        Self(Mutex::new(known.into_iter().map(|label| (label, 0)).collect()))
    }

    /// Counts one more.
    pub fn add(&self, label: K) {
        self.add_many(label, 1);
    }

    /// Counts some more.
    pub fn add_many(&self, label: K, count: u64) {
        *lock(&self.0).entry(label).or_default() += count;
    }

    /// All counts, in order of the labels.
    pub fn counts(&self) -> Vec<(K, u64)> {
        lock(&self.0).iter().map(|(label, count)| (*label, *count)).collect()
    }

    /// One count.
    pub fn get(&self, label: K) -> u64 {
        lock(&self.0).get(&label).copied().unwrap_or(0)
    }
}

impl Histogram {
    /// An empty histogram; `bounds` are the upper bounds of its buckets, ascending. One for all above them is added.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, observed: Mutex::new(Tally { counts: vec![0; bounds.len() + 1], sum: 0.0 }) }
    }

    /// Takes one observation in.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        let mut observed = lock(&self.observed);
        observed.counts[place] += 1;
        observed.sum += value;
    }

    /// What was observed so far.
    pub fn observed(&self) -> Observed {
        let observed = lock(&self.observed);
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        Observed { buckets: bounds.zip(observed.counts.iter().copied()).collect(), sum: observed.sum }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A count that a panic left half done is one count: the others are worth showing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_known_begin_at_zero_and_others_come_when_counted() {
        let counters = Counters::new(["ok", "failed"]);
        counters.add("ok");
        counters.add_many("ok", 2);
        counters.add("late");
        assert_eq!(counters.counts(), [("failed", 0), ("late", 1), ("ok", 3)]);
        assert_eq!((counters.get("ok"), counters.get("never")), (3, 0));
    }

    #[test]
    fn an_observation_falls_into_the_lowest_bucket_that_holds_it() {
        let check = |value: f64, bucket: usize| {
            let histogram = Histogram::new(&[1.0, 2.0]);
            histogram.observe(value);
            let observed = histogram.observed();
            let counts: Vec<u64> = observed.buckets.iter().map(|(_, count)| *count).collect();
            let mut expected = vec![0; 3];
            expected[bucket] = 1;
            assert_eq!((counts, observed.sum), (expected, value), "{value}");
        };
        check(0.0, 0);
        check(1.0, 0);
        check(1.1, 1);
        check(2.0, 1);
        check(1e9, 2);
    }
}
