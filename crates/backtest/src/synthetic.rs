//! Series for whoever has none: a price that walks and a trace of jobs, both seeded.
//!
//! They exist so that the first command works; no figure that matters should rest on them. Real files take their place one by one.
//! Read next: [`crate::demand`].

use model::workload::Tier;
use model::{MicroDollars, Span};

use crate::chance::{Chance, Purpose};
use crate::demand::Job;

/// Daily changes of the logarithm are 0.012 × e^(0.9 n) in size: bitcoin's had a median of 1.2 % and a 95th percentile of 5.3 %.
const CHANGE: (f64, f64) = (0.012, 0.9);
/// The walk is pulled back to where it began by this share a day, so that a year stays within a factor of about two.
const PULL: f64 = 0.01;
/// Days of the synthetic trace.
const DAYS: i64 = 28;
/// Jobs a day: enough for a day to be like the others.
const JOBS_A_DAY: usize = 160;
/// Half of the jobs are shorter than this many minutes, as in a public trace of 2023 …
const MEDIAN_MINUTES: f64 = 9.0;
/// … and their logarithm has this spread: one in twenty takes more than four and a half hours.
const SPREAD: f64 = 2.07;

/// A price for each day, beginning at `first`.
pub fn prices(first: MicroDollars, seed: u64, days: usize) -> Vec<MicroDollars> {
    let mut chance = Chance::new(seed, Purpose::Price, [0, 0]);
    let mut log = 0.0f64;
    let mut prices = Vec::with_capacity(days);
    for _ in 0..days {
        prices.push(MicroDollars::from_f64(first.as_f64() * log.exp()));
        let size = (CHANGE.0 * (CHANGE.1 * chance.normal()).exp()).min(0.2);
        log += if chance.unit() < 0.5 { size } else { -size } - PULL * log;
    }
    prices
}

/// A trace of four weeks: one job in two best effort, one in six firm, one GPU each, lengths log-normal.
pub fn jobs(seed: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    for day in 0..DAYS {
        let mut chance = Chance::new(seed, Purpose::Trace, [day.unsigned_abs(), 0]);
        for _ in 0..JOBS_A_DAY {
            let minutes = MEDIAN_MINUTES * (SPREAD * chance.normal()).exp();
            let tier = match chance.unit() {
                draw if draw < 0.5 => Tier::Spot,
                draw if draw < 5.0 / 6.0 => Tier::OnDemand,
                _ => Tier::Firm,
            };
            jobs.push(Job {
                at: Span::hours(24 * day) + Span::new((chance.unit() * 86_400_000.0) as i64),
                gpus: 1,
                length: Span::new((minutes * 60_000.0) as i64).max(Span::minutes(1)),
                tier,
            });
        }
    }
    jobs.sort_by_key(|job| job.at);
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_walks_as_bitcoin_does_and_stays_in_reach() {
        for seed in 1..=4 {
            let prices = prices(MicroDollars::dollars(50_000), seed, 2_000);
            assert_eq!(prices[0], MicroDollars::dollars(50_000));
            let mut changes: Vec<f64> =
                prices.windows(2).map(|pair| (pair[1].as_f64() / pair[0].as_f64() - 1.0).abs()).collect();
            changes.sort_by(f64::total_cmp);
            let (median, p95) = (changes[1_000], changes[1_900]);
            assert!((0.010..0.014).contains(&median) && (0.04..0.07).contains(&p95), "{median}, {p95}");
            assert!(prices.iter().all(|price| (5_000..500_000).contains(&(price.get() / 1_000_000))));
        }
    }

    #[test]
    fn the_trace_is_sorted_seeded_and_of_all_tiers() {
        let trace = jobs(3);
        assert_eq!(trace.len(), 28 * JOBS_A_DAY);
        assert!(trace.windows(2).all(|pair| pair[0].at <= pair[1].at));
        for tier in [Tier::Firm, Tier::OnDemand, Tier::Spot] {
            assert!(trace.iter().filter(|job| job.tier == tier).count() > 500, "{tier}");
        }
        assert_eq!(trace, jobs(3));
        assert_ne!(trace, jobs(4));
    }
}
