//! Whether the shares shown are as lucky as shares are: `hash ÷ target` is even between 0 and 1 for whoever was given the
//! target before the search. An agent that picks a harder target once it has seen the hash shows ratios near 1.
//!
//! Assumes positions drawn by work: the ratio does not depend on the work. Next: `../auditor.rs`.

use model::report::Finding;
use serde::{Deserialize, Serialize};

/// Ratios remembered; then the older half loses its weight, so that what changes shows within a day.
const MEMORY: f64 = 20_000.0;
/// Fewer say nothing.
const LEAST: f64 = 100.0;
/// Standard deviations: by chance in one test of 500 million, and a day has at most some 600 independent ones.
const FAR: f64 = 6.0;

/// The mean of many ratios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Luck {
    count: f64,
    sum: f64,
}

impl Luck {
    pub(super) fn record(&mut self, ratios: &[f64]) {
        self.count += ratios.len() as f64;
        self.sum += ratios.iter().sum::<f64>();
        if self.count > MEMORY {
            (self.count, self.sum) = (self.count / 2.0, self.sum / 2.0);
        }
    }

    /// Standard deviations from ½: that of one even draw is 1/√12.
    pub(super) fn deviation(&self) -> f64 {
        if self.count < LEAST {
            return 0.0;
        }
        (self.sum / self.count - 0.5) * (12.0 * self.count).sqrt()
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let deviation = self.deviation();
        (deviation.abs() > FAR).then(|| Finding {
            code: "share-luck".into(),
            subject: "share commitments".into(),
            message: format!(
                "the shares drawn are {:.2} of their targets on average, {:.1} standard deviations from 0.50: their targets were not \
                 set before they were found; hold the module's work against the pool's own books",
                self.sum / self.count,
                deviation.abs()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ratio: impl Fn(u32) -> f64, count: u32) -> Luck {
        let mut luck = Luck::default();
        luck.record(&(0..count).map(ratio).collect::<Vec<_>>());
        luck
    }

    #[test]
    fn even_ratios_are_honest_and_picked_ones_are_not() {
        let check = |luck: Luck, expected: bool| assert_eq!(luck.finding().is_some(), expected, "{luck:?}");
        let even = |i: u32| f64::from(i % 1_000) / 1_000.0;
        check(of(even, 5_000), false);
        check(of(|i| 0.5 + even(i) / 2.0, 1_000), true); // the hardest power of two that the hash still meets
        check(of(|i| 0.5 + even(i) / 2.0, 99), false); // too few to say
        check(of(|i| even(i) / 2.0, 1_000), true);
    }

    #[test]
    fn what_changed_shows_though_the_past_was_long() {
        let mut luck = of(|i| f64::from(i % 1_000) / 1_000.0, 19_000);
        for _ in 0..40 {
            luck.record(&[0.75; 64]);
        }
        assert!(luck.finding().is_some(), "{}", luck.deviation());
    }
}
