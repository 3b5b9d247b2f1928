//! Storage under invariants 2 and 6: it holds no energy that nobody put in, stays within its rating, and by choice is not emptied
//! below what its rung counts on.
//!
//! Judged by what is described (efficiency, energy, rating) and by the true power, added up second by second: never by the
//! storage's own counters. What it does while the island is disturbed answers a loss, and so does what it hands back after
//! that. Read next: [`super::security`].

use std::collections::BTreeMap;

use model::site::Storage as Config;
use model::{SiteId, WattSeconds, Watts};

use super::View;
use super::book::{Book, Edge, Fault, Invariant};
use crate::truth::StorageTruth;

/// A slew within a second is not seen between two samples: the whole rating for a tenth of a second, twice a second.
const SLEW_PERMILLE: i64 = 200;
/// The books may differ from the samples by so much of what went through, thousandths.
const FLOW_PERMILLE: i64 = 10;
/// Rating may be exceeded by so much, thousandths.
const RATING_PERMILLE: i64 = 1_020;
/// Of the energy that the rung counts on this much must be left, thousandths: plans know it a step before.
const KEPT_PERMILLE: i64 = 950;
/// Less than this is no discharge.
const NOISE: Watts = Watts::new(1_000);
/// Frequency further from nominal than this is not calm, thousandths: until then a bridge is held.
const CALM_PERMILLE: i64 = 5;

#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    islands: BTreeMap<SiteId, State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    before: Option<StorageTruth>,
    /// By how much it holds more than it could, added up.
    surplus: WattSeconds,
    conjured: Edge,
    over: Edge,
    spent: Edge,
}

impl Storage {
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        let (Some(config), Some(now)) = (&view.island.site.storage, view.truth.storage) else { return };
        let state = self.islands.entry(view.island.site.id.clone()).or_default();
        if let Some(before) = state.before.replace(now) {
            state.judge(view, config, before, now, book);
        }
    }
}

impl State {
    fn judge(
        &mut self,
        view: View<'_>,
        config: &Config,
        before: StorageTruth,
        now: StorageTruth,
        book: &mut Book,
    ) {
        let at = view.truth.now;
        let fault = |what| Fault::new(format!("site {} storage", view.island.site.id), what);
        self.follow(config, before, now);
        let conjured = now.held > config.energy || now.held < WattSeconds::ZERO || self.is_conjured(config);
        let what = || format!("holds {}, {} more than was ever put in", now.held, self.surplus);
        let found = self.conjured.rises(conjured).then(|| fault(what()));
        book.check(Invariant::Energy, at, found);
        let over = now.power.abs() > config.power.fraction(RATING_PERMILLE, 1_000);
        let what = || format!("delivers {}; it is rated {}", now.power, config.power);
        book.check(Invariant::Power, at, self.over.rises(over).then(|| fault(what())));
        let kept = config.reserved().fraction(KEPT_PERMILLE, 1_000);
        let delivers = now.power > NOISE;
        let spent = is_calm(view) && now.held < kept && delivers && now.power >= before.power;
        let what =
            || format!("goes on to deliver {} and holds {}; its rung counts on {kept}", now.power, now.held);
        let found = self.spent.rises(spent).then(|| fault(what()));
        // One at rest proves nothing.
        if delivers {
            book.check(Invariant::Security, at, found);
        }
    }

    /// Adds up what it holds beyond what the power of two samples explains.
    fn follow(&mut self, config: &Config, before: StorageTruth, now: StorageTruth) {
        let second = model::Span::secs(1);
        let flow = |power: Watts| {
            let taken = (-power).at_least_zero().for_span(second);
            config.kept_of(taken) - power.at_least_zero().for_span(second)
        };
        let (first, last) = (flow(before.power), flow(now.power));
        let gained = first.max(last);
        let tolerance = gained.abs().fraction(FLOW_PERMILLE, 1_000)
            + if first == last {
                WattSeconds::new(1)
            } else {
                config.power.for_span(second).fraction(SLEW_PERMILLE, 1_000)
            };
        self.surplus = (self.surplus + (now.held - before.held) - gained - tolerance).at_least_zero();
    }

    /// More than a second of the whole rating is no error of sampling.
    fn is_conjured(&self, config: &Config) -> bool {
        self.surplus > config.power.for_span(model::Span::secs(1))
    }
}

/// Nothing was lost of late and frequency is near nominal, so that whatever storage does is a choice.
fn is_calm(view: View<'_>) -> bool {
    let nominal = view.island.site.nominal;
    let near = |now: model::site::Frequency| (now - nominal).abs() <= nominal.fraction(CALM_PERMILLE, 1_000);
    !view.island.is_disturbed(view.truth.now) && view.truth.frequency.is_some_and(near)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::{MicroDollars, Span};

    use super::super::testing::*;
    use super::super::{Options, Witness};
    use super::*;

    /// 100 kW, 20 kWh, of which its rung counts on 100 kW for five minutes: 8.3 kWh.
    fn config() -> Config {
        Config {
            power: Watts::kilo(100),
            energy: WattSeconds::kilowatt_hours(20),
            efficiency_permille: 900,
            response: Some(Span::new(100)),
            reserve: Span::minutes(5),
            wear: MicroDollars::ZERO,
        }
    }

    /// Sixty seconds of a storage that is at this power and gains so many Ws a second, from so many kWh.
    fn run(kwh: i64, kilowatts: impl Fn(i64) -> i64, gains: i64, trips: bool) -> super::super::Summary {
        let mut fleet = fleet();
        fleet.sites[0].storage = Some(config());
        let mut witness = Witness::new(&fleet, Options::default());
        for second in 0..=60 {
            let mut truth = truth(second);
            truth.storage = Some(StorageTruth {
                ready: true,
                power: Watts::kilo(kilowatts(second)),
                held: WattSeconds::kilowatt_hours(kwh) + WattSeconds::new(gains).times(second),
                delivered: WattSeconds::ZERO,
                taken: WattSeconds::ZERO,
                lost: WattSeconds::ZERO,
            });
            let events = if trips && second == 30 { vec![trip(30, "g1")] } else { Vec::new() };
            witness.second(&site_id(), &truth, &events);
        }
        witness.finish()
    }

    const STORAGE: &str = "site well-7 storage";

    #[test]
    fn honest_storage_passes() {
        check(&run(15, |_| 0, 0, false), 6, &[]);
        check(&run(15, |_| 50, -50_000, false), 6, &[]);
        check(&run(15, |_| -50, 45_000, false), 6, &[]);
        check(&run(15, |second| if second > 20 { 90 } else { -90 }, -90_000, false), 6, &[]);
    }

    #[test]
    fn energy_that_nobody_put_in_fires_once() {
        check(&run(15, |_| 50, 0, false), 6, &[STORAGE]);
        check(&run(15, |_| -50, 50_000, false), 6, &[STORAGE]);
        check(&run(15, |_| 0, 3_000, false), 6, &[STORAGE]);
        check(&run(21, |_| 0, 0, false), 6, &[STORAGE]);
    }

    #[test]
    fn more_than_its_rating_fires() {
        check(&run(15, |_| 105, -105_000, false), 1, &[STORAGE]);
    }

    #[test]
    fn a_reserve_that_is_spent_by_choice_fires_and_a_bridge_does_not() {
        check(&run(7, |_| 50, -50_000, false), 2, &[STORAGE]);
        check(&run(15, |_| 50, -50_000, false), 2, &[]);
        // From the trip at 30 s on it bridges; 21 s later the island counts as calm, and it is handed back.
        let bridge = |second: i64| if second < 30 { 0 } else { 80 - second };
        check(&run(7, bridge, -20_000, true), 2, &[]);
    }
}
