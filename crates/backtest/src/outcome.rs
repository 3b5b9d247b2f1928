//! What came of a replay: one strategy's [`Outcome`], and all of them side by side.
//!
//! Read next: docs/backtest.md, which says what the figures mean.

use model::workload::Tier;
use model::{MicroDollars, Time};
use serde::Serialize;

use crate::strategy::Kind;
use crate::tally::Tally;

/// What came of one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Who decided.
    pub strategy: Kind,
    /// When it began.
    pub start: Time,
    /// The sum of all days.
    pub total: Tally,
    /// Day by day.
    pub days: Vec<Tally>,
    /// The first plan that the check refused, in words.
    pub refusal: Option<String>,
}

/// One outcome against the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The outcome.
    pub outcome: Outcome,
    /// What it left on the table against the best of the strategies.
    pub regret: MicroDollars,
    /// Share of revenue that is not from mining, in thousandths; `None` without revenue.
    pub outside_mining_permille: Option<i64>,
    /// Share of the gas that was flared, in thousandths; `None` without gas.
    pub flared_permille: Option<i64>,
    /// Share of firm time that was up, in parts per million; `None` where nothing firm ran.
    pub firm_up_ppm: Option<i64>,
}

/// All strategies on one world.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// In the order in which they were run.
    pub strategies: Vec<Scored>,
    /// The one with the most net money; the earliest of equals.
    pub best: Option<Kind>,
}

impl Outcome {
    /// What a tier earned.
    pub fn earned(&self, tier: Tier) -> MicroDollars {
        let money = &self.total.money;
        match tier {
            Tier::Firm => money.firm,
            Tier::OnDemand => money.on_demand,
            Tier::Spot => money.spot,
        }
    }
}

impl Comparison {
    /// Puts outcomes of the same world side by side.
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        let net = |outcome: &Outcome| outcome.total.money.net();
        // The last maximum of the reversed order is the earliest.
        let best = outcomes.iter().rev().max_by_key(|outcome| net(outcome));
        let most = best.map_or(MicroDollars::ZERO, net);
        let best = best.map(|outcome| outcome.strategy);
        let strategies = outcomes.into_iter().map(|outcome| {
            let total = &outcome.total;
            let (ai, all) = (total.money.ai(), total.money.ai() + total.money.mining);
            Scored {
                regret: most - net(&outcome),
                outside_mining_permille: share(ai.get(), all.get(), 1_000),
                flared_permille: share(total.gas.flared.get(), total.gas.supplied.get(), 1_000),
                firm_up_ppm: share(
                    total.service.firm_up.get(),
                    (total.service.firm_up + total.service.firm_missed).get(),
                    1_000_000,
                ),
                outcome,
            }
        });
        Self { strategies: strategies.collect(), best }
    }
}

/// `part ÷ whole` in so many parts; `None` without a whole.
fn share(part: i64, whole: i64, parts: i64) -> Option<i64> {
    (whole > 0).then(|| MicroDollars::new(part).fraction(parts, whole).get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::site::GasVolume;

    fn outcome(strategy: Kind, mining: i64, spot: i64) -> Outcome {
        let mut total = Tally::default();
        total.money.mining = MicroDollars::dollars(mining);
        total.money.spot = MicroDollars::dollars(spot);
        total.gas.supplied = GasVolume::new(1_000);
        total.gas.flared = GasVolume::new(25);
        Outcome { strategy, start: Time(0), total, days: Vec::new(), refusal: None }
    }

    #[test]
    fn regret_is_what_the_best_earned_more() {
        let compared = Comparison::of(vec![
            outcome(Kind::MiningOnly, 100, 0),
            outcome(Kind::AiOnly, 0, 140),
            outcome(Kind::Flareshift, 60, 80),
        ]);
        assert_eq!(compared.best, Some(Kind::AiOnly), "the earliest of equals");
        let found: Vec<(i64, Option<i64>)> = compared
            .strategies
            .iter()
            .map(|scored| (scored.regret.get() / 1_000_000, scored.outside_mining_permille))
            .collect();
        assert_eq!(found, vec![(40, Some(0)), (0, Some(1_000)), (0, Some(571))]);
        assert_eq!(compared.strategies[0].flared_permille, Some(25));
        assert_eq!(compared.strategies[0].firm_up_ppm, None);
    }

    #[test]
    fn nothing_compared_is_nothing() {
        let compared = Comparison::of(Vec::new());
        assert_eq!((compared.best, compared.strategies.len()), (None, 0));
        let idle = Comparison::of(vec![outcome(Kind::AiOnly, 0, 0)]);
        assert_eq!(idle.strategies[0].outside_mining_permille, None);
    }
}
