//! How good forecasts are: the mean pinball loss at each quantile and horizon, as a share of the series' mean.
//!
//! The loss of a quantile q is q × (value − forecast) where the value came out higher, else (1 − q) × (forecast − value): the mean is
//! least for the true quantile (Koenker and Bassett 1978). Forecasts are made about once an hour of gas and demand and once a day of
//! prices, with what was seen until then. Read next: [`super`].

use model::plan::STEP;
use model::site::GasFlow;
use model::workload::GpuTime;
use model::{Span, Time};
use serde::Serialize;

use super::{Band, Demand, Gas, Method, Past, Price};
use crate::world::{Order, World};

/// Steps ahead for which gas is scored: five minutes, half an hour, two hours.
const GAS_AHEAD: [usize; 3] = [1, 6, 24];
/// Hours ahead for which demand is scored.
const DEMAND_AHEAD: [usize; 3] = [1, 6, 24];
/// Days ahead for which prices are scored.
const PRICE_AHEAD: [usize; 2] = [1, 7];
/// Steps from one forecast of gas to the next: about an hour, and no divisor of one, so that slugs are met in all of their phases.
const EVERY: usize = 13;
const HOUR: Span = Span::hours(1);
const DAY: Span = Span::hours(24);

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Gas of a site.
    Gas,
    /// GPU time asked for in an hour.
    Demand,
    /// Price of a bitcoin.
    Price,
}

/// One method on one subject at one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Of what.
    pub subject: Subject,
    /// Who expected it.
    pub method: Method,
    /// How long before.
    #[serde(rename = "horizon_milliseconds")]
    pub horizon: Span,
    /// Forecasts that were scored.
    pub forecasts: u64,
    /// Mean losses at p10, p50 and p90, as shares of the mean value.
    pub losses: [f64; 3],
}

/// Scores every baseline on everything that a world holds. What nobody could expect yet is left out.
pub fn scores(world: &World) -> Vec<Score> {
    let mut scores = Vec::new();
    for method in Method::BASELINES {
        scores.extend(GAS_AHEAD.iter().map(|ahead| gas(world, method, *ahead)));
        scores.extend(DEMAND_AHEAD.iter().map(|ahead| demand(world, method, *ahead)));
        scores.extend(PRICE_AHEAD.iter().map(|ahead| price(world, method, *ahead)));
    }
    scores.retain(|score| score.forecasts > 0);
    scores.sort_by_key(|score| (score.subject, score.horizon, score.method));
    scores
}

/// The loss of one forecast at p10, p50, p90.
pub fn pinball(band: Band, value: i64) -> [f64; 3] {
    [(band.p10, 0.1), (band.p50, 0.5), (band.p90, 0.9)].map(|(forecast, share)| {
        let missed = value as f64 - forecast as f64;
        (share * missed).max((share - 1.0) * missed)
    })
}

/// Sums of losses and values.
#[derive(Default)]
struct Sums {
    forecasts: u64,
    losses: [f64; 3],
    values: f64,
}

impl Sums {
    fn add(&mut self, band: Option<Band>, value: i64) {
        let Some(band) = band else { return };
        self.forecasts += 1;
        self.values += value as f64;
        for (sum, loss) in self.losses.iter_mut().zip(pinball(band, value)) {
            *sum += loss;
        }
    }

    fn score(self, subject: Subject, method: Method, horizon: Span) -> Score {
        let whole = self.values.max(f64::MIN_POSITIVE);
        Score {
            subject,
            method,
            horizon,
            forecasts: self.forecasts,
            losses: self.losses.map(|loss| loss / whole),
        }
    }
}

fn span(each: Span, ahead: usize) -> Span {
    each.times(i64::try_from(ahead).unwrap_or(i64::MAX))
}

fn gas(world: &World, method: Method, ahead: usize) -> Score {
    let mut sums = Sums::default();
    for site in &world.fleet.sites {
        let (flows, seen) = world.flows(&site.id);
        let first = world.start - span(STEP, seen);
        for now in (seen..flows.len()).step_by(EVERY).filter(|now| now + ahead <= flows.len()) {
            let past = Past { values: &flows[..now], first, each: STEP };
            let expected = method.gas(past, ahead).last().map(|step| (step.p10, step.p50));
            let band = expected.and_then(|(p10, p50)| {
                // The planner is told p10 and p50; p90 is the baseline's own.
                let own = super::Series::of(past, |flow: &GasFlow| flow.get()).band(method, ahead)?;
                Some(Band { p10: p10.get(), p50: p50.get(), p90: own.p90 })
            });
            sums.add(band, flows[now + ahead - 1].get());
        }
    }
    sums.score(Subject::Gas, method, span(STEP, ahead))
}

fn demand(world: &World, method: Method, ahead: usize) -> Score {
    let mut sums = Sums::default();
    let before = &world.before.orders;
    let first = before.first().map_or(world.start, |order| hour(order.at, world.start));
    let asked = hourly(before.iter().chain(&world.orders), first, world.start + world.span());
    let seen = usize::try_from(world.start.since(first).whole_times(HOUR)).unwrap_or(0);
    for now in (seen..asked.len()).filter(|now| now + ahead <= asked.len()) {
        let band = method.demand(Past { values: &asked[..now], first, each: HOUR }, ahead);
        sums.add(band, asked[now + ahead - 1].get());
    }
    sums.score(Subject::Demand, method, span(HOUR, ahead))
}

/// The begin of the hour of `at`, counted from `start`.
fn hour(at: Time, start: Time) -> Time {
    let hours = (at - start).get().div_euclid(HOUR.get());
    start + HOUR.times(hours)
}

/// GPU time asked for in each hour.
fn hourly<'a>(orders: impl Iterator<Item = &'a Order>, first: Time, end: Time) -> Vec<GpuTime> {
    let hours = usize::try_from(end.since(first).whole_times(HOUR)).unwrap_or(0);
    let mut asked = vec![GpuTime::ZERO; hours];
    for order in orders {
        let at = usize::try_from(order.at.since(first).get().div_euclid(HOUR.get())).ok();
        if let Some(sum) = at.and_then(|at| asked.get_mut(at)) {
            *sum += order.amount;
        }
    }
    asked
}

fn price(world: &World, method: Method, ahead: usize) -> Score {
    let mut sums = Sums::default();
    let before = &world.before.markets;
    let markets: Vec<_> = before.iter().chain(world.markets.iter().take(world.days)).copied().collect();
    let first = world.start - span(DAY, before.len());
    for now in (before.len().max(1)..markets.len()).filter(|now| now + ahead <= markets.len()) {
        let band = method.price(Past { values: &markets[..now], first, each: DAY }, ahead);
        sums.add(band, markets[now + ahead - 1].price.get());
    }
    sums.score(Subject::Price, method, span(DAY, ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(forecast: i64, value: i64, expected: [f64; 3]) {
        let found = pinball(Band { p10: forecast, p50: forecast, p90: forecast }, value);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {expected:?}");
    }

    #[test]
    fn a_quantile_pays_for_the_side_that_it_should_not_be_on() {
        check(100, 100, [0.0, 0.0, 0.0]);
        check(100, 110, [1.0, 5.0, 9.0]);
        check(100, 90, [9.0, 5.0, 1.0]);
    }

    #[test]
    fn losses_are_shares_of_the_mean_value() {
        let mut sums = Sums::default();
        let band = Some(Band { p10: 80, p50: 100, p90: 120 });
        for value in [90, 110] {
            sums.add(band, value);
        }
        sums.add(None, 10_000);
        let score = sums.score(Subject::Gas, Method::Quantile, HOUR);
        assert_eq!(score.forecasts, 2);
        // (1 + 3) ÷ 200, (5 + 5) ÷ 200, (3 + 1) ÷ 200.
        for (found, expected) in score.losses.iter().zip([0.02, 0.05, 0.02]) {
            assert!((found - expected).abs() < 1e-9, "{:?}", score.losses);
        }
    }
}
