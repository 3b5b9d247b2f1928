//! What is expected of gas, price and demand, from what has been seen: three small traits, three baselines, and the truth for an oracle.
//!
//! A forecaster is given what has passed and nothing else, so that nothing of the future can leak into it; only [`Perfect`] holds the
//! truth. Gas goes to the planner (`Input.forecast`); price and demand are scored, but the planner does not ask for them yet. Read
//! next: [`baseline`] for the arithmetic, [`score`] for how good they are.

pub mod baseline;
pub mod score;

use std::fmt;
use std::str::FromStr;

use model::market::Market;
use model::site::GasFlow;
use model::workload::GpuTime;
use model::{SiteId, Span, Time};
use planner::GasStep;
use serde::{Serialize, Serializer};

use crate::chance::{Chance, Purpose, place};
use baseline::Series;

/// A value and its spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Band {
    /// Undercut in one case of ten.
    pub p10: i64,
    /// Undercut every other time.
    pub p50: i64,
    /// Undercut in nine cases of ten.
    pub p90: i64,
}

/// What has been seen of a series: evenly spaced, oldest first, up to now.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a, T> {
    /// The values.
    pub values: &'a [T],
    /// When the first one began.
    pub first: Time,
    /// How long each of them lasted.
    pub each: Span,
}

/// Expects the gas of one site.
pub trait Gas {
    /// The flow in each of the next `steps`, the first one now. Empty where nothing is known.
    fn gas(&self, past: Past<'_, GasFlow>, steps: usize) -> Vec<GasStep>;
}

/// Expects the price of a bitcoin.
pub trait Price {
    /// Micro-dollars `ahead` days after the last one that is known.
    fn price(&self, past: Past<'_, Market>, ahead: usize) -> Option<Band>;
}

/// Expects what tenants ask for.
pub trait Demand {
    /// GPU-milliseconds asked for in the hour `ahead` after the last one that is known.
    fn demand(&self, past: Past<'_, GpuTime>, ahead: usize) -> Option<Band>;
}

/// How the future is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// It stays as it is now.
    #[default]
    Persistence,
    /// As it was at this hour of the week.
    Seasonal,
    /// As now, with the changes that it was seen to make.
    Quantile,
    /// It is known.
    Perfect,
    /// It is known but for noise that grows with the square root of time: no forecaster, a sensitivity.
    Noisy,
}

/// No method is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no forecast is called {0:?}; there are persistence, seasonal, quantile, perfect, noisy")]
pub struct Unknown(String);

/// The truth of one site's gas, from the same beginning as the past that it is asked with.
#[derive(Clone, Copy, Debug)]
pub struct Perfect<'w>(pub &'w [GasFlow]);

/// The truth with noise: k steps ahead it is off by a normal share of standard deviation [`NOISE`] × √k, a walk of k draws.
#[derive(Clone, Copy, Debug)]
pub struct Noisy<'w> {
    truth: &'w [GasFlow],
    seed: u64,
    place: u64,
}

/// Standard deviation of the noise one step ahead, as a share of the flow.
pub const NOISE: f64 = 0.05;
/// A normal variable lies so many deviations below its mean in one case of ten.
const TENTH: f64 = 1.2816;

impl<'w> Noisy<'w> {
    /// Of one site's truth. The noise is drawn by the site's name and the gas itself: another world has other noise.
    pub(crate) fn new(site: &SiteId, truth: &'w [GasFlow]) -> Self {
        let mix = |sum: u64, flow: &GasFlow| sum.wrapping_mul(31).wrapping_add(flow.get().cast_unsigned());
        Self { truth, seed: truth.iter().fold(0, mix), place: place(site.as_str()) }
    }
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 5] =
        [Method::Persistence, Method::Seasonal, Method::Quantile, Method::Perfect, Method::Noisy];
    /// Those that know the past only.
    pub const BASELINES: [Method; 3] = [Method::Persistence, Method::Seasonal, Method::Quantile];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Persistence => "persistence",
            Method::Seasonal => "seasonal",
            Method::Quantile => "quantile",
            Method::Perfect => "perfect",
            Method::Noisy => "noisy",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Method {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

// Without the truth at hand a perfect or a noisy forecast is none, and persistence stands in for it.
impl Gas for Method {
    fn gas(&self, past: Past<'_, GasFlow>, steps: usize) -> Vec<GasStep> {
        let series = Series::of(past, |flow| flow.get());
        let flow = |amount: i64| GasFlow::new(amount).at_least_zero();
        let step = |band: Band| GasStep { p10: flow(band.p10.min(band.p50)), p50: flow(band.p50) };
        series.bands(*self, steps).into_iter().map(step).collect()
    }
}

impl Price for Method {
    fn price(&self, past: Past<'_, Market>, ahead: usize) -> Option<Band> {
        Series::of(past, |market| market.price.get()).band(*self, ahead)
    }
}

impl Demand for Method {
    fn demand(&self, past: Past<'_, GpuTime>, ahead: usize) -> Option<Band> {
        Series::of(past, |time| time.get()).band(*self, ahead)
    }
}

impl Gas for Noisy<'_> {
    fn gas(&self, past: Past<'_, GasFlow>, steps: usize) -> Vec<GasStep> {
        let now = past.values.len();
        let mut chance = Chance::new(self.seed, Purpose::Noise, [self.place, now as u64]);
        let mut error = 0.0;
        let step = |(ahead, flow): (usize, &GasFlow)| {
            error += NOISE * chance.normal();
            let deviation = NOISE * ((ahead + 1) as f64).sqrt();
            let p50 = flow.as_f64() * (1.0_f64 + error).max(0.0);
            let p10 = p50 * (1.0 - TENTH * deviation).max(0.0);
            GasStep { p10: GasFlow::from_f64(p10), p50: GasFlow::from_f64(p50) }
        };
        self.truth.iter().skip(now).take(steps).enumerate().map(step).collect()
    }
}

impl Gas for Perfect<'_> {
    fn gas(&self, past: Past<'_, GasFlow>, steps: usize) -> Vec<GasStep> {
        let ahead = self.0.iter().skip(past.values.len()).take(steps);
        ahead.map(|flow| GasStep { p10: *flow, p50: *flow }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_read_as_they_are_written_and_others_are_refused() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        let error = "oracle".parse::<Method>().expect_err("no method");
        assert!(error.to_string().contains("\"oracle\"; there are persistence, seasonal"), "{error}");
    }

    #[test]
    fn noise_grows_with_the_square_root_of_time_and_is_the_same_again() {
        let truth = vec![GasFlow::mcf(200); 4_000];
        let site = SiteId::new("well-7").expect("a name");
        let noisy = Noisy::new(&site, &truth);
        let of = |seen: usize| {
            noisy.gas(Past { values: &truth[..seen], first: Time(0), each: Span::minutes(5) }, 16)
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8), "each step has noise of its own");
        for (ahead, expected) in [(1, 0.05), (4, 0.10), (16, 0.20)] {
            let square = |seen: usize| (of(seen)[ahead - 1].p50.as_f64() / 200_000.0 - 1.0).powi(2);
            let deviation = ((0..3_900).map(square).sum::<f64>() / 3_900.0).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.1, "{ahead} ahead: {deviation}");
        }
        let last = of(3_999);
        assert!(last.len() == 1 && last[0].p10 < last[0].p50, "it knows no more than there is: {last:?}");
    }

    #[test]
    fn the_truth_begins_where_the_past_ends() {
        let truth: Vec<GasFlow> = (0..5).map(GasFlow::mcf).collect();
        let past = |seen: usize| Past { values: &truth[..seen], first: Time(0), each: Span::minutes(5) };
        let found: Vec<i64> =
            Perfect(&truth).gas(past(2), 9).iter().map(|step| step.p50.get() / 1_000).collect();
        assert_eq!(found, vec![2, 3, 4]);
        assert!(Perfect(&truth).gas(past(5), 9).is_empty());
    }
}
