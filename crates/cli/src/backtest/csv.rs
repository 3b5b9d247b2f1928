//! The days of a back-test as CSV: one line a day and strategy, exact integers, units in the names.

use std::fmt::Write as _;

use ::backtest::{Comparison, Tally};
use model::{Span, Time};

use crate::dev::scenario::day;

const HEADER: &str = "date,strategy,mining_micro_dollars,firm_micro_dollars,on_demand_micro_dollars,spot_micro_dollars,\
credits_micro_dollars,gas_micro_dollars,set_starts_micro_dollars,set_hours_micro_dollars,wear_micro_dollars,mining_watt_seconds,\
ai_watt_seconds,base_watt_seconds,unmanaged_watt_seconds,dumped_watt_seconds,gas_supplied_scf,gas_burnt_scf,gas_flared_scf,\
offered,completed,withdrawn,preempted,power_stopped,cut_off,productive_gpu_milliseconds,wasted_gpu_milliseconds,set_starts,trips,blackouts,\
reversals\n";

/// All days of all strategies.
pub fn days(compared: &Comparison) -> String {
    let mut text = HEADER.to_owned();
    for scored in &compared.strategies {
        let outcome = &scored.outcome;
        for (index, tally) in outcome.days.iter().enumerate() {
            let date = day(midnight(outcome.start, index));
            let numbers = numbers(tally).map(|number| number.to_string()).join(",");
            let _ = writeln!(text, "{date},{},{numbers}", outcome.strategy);
        }
    }
    text
}

/// The begin of a day.
pub fn midnight(start: Time, index: usize) -> Time {
    start + Span::hours(24).times(i64::try_from(index).unwrap_or(i64::MAX))
}

fn numbers(tally: &Tally) -> [i128; 29] {
    let Tally { money, energy, gas, service, plant, .. } = tally;
    [
        money.mining.get().into(),
        money.firm.get().into(),
        money.on_demand.get().into(),
        money.spot.get().into(),
        money.credits.get().into(),
        money.gas.get().into(),
        money.set_starts.get().into(),
        money.set_hours.get().into(),
        money.wear.get().into(),
        energy.mining.get().into(),
        energy.ai.get().into(),
        energy.base.get().into(),
        energy.unmanaged.get().into(),
        energy.dumped.get().into(),
        gas.supplied.get().into(),
        gas.burnt.get().into(),
        gas.flared.get().into(),
        service.offered.into(),
        service.completed.into(),
        service.withdrawn.into(),
        service.preempted.into(),
        service.power_stopped.into(),
        service.cut_off.into(),
        service.productive.get().into(),
        service.wasted.get().into(),
        plant.set_starts.into(),
        plant.trips.into(),
        plant.blackouts.into(),
        plant.reversals.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::backtest::{Kind, Outcome};
    use model::MicroDollars;

    #[test]
    fn each_day_is_a_line_under_the_header() {
        let mut first = Tally::default();
        first.money.mining = MicroDollars::dollars(3);
        let outcome = Outcome {
            strategy: Kind::MiningOnly,
            start: Time(1_770_854_400_000),
            total: first.clone(),
            days: vec![first, Tally::default()],
            refusal: None,
        };
        let text = days(&Comparison::of(vec![outcome]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let columns = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{text}");
        assert!(lines[1].starts_with("2026-02-12,mining-only,3000000,0,"), "{}", lines[1]);
        assert!(lines[2].starts_with("2026-02-13,mining-only,0,"), "{}", lines[2]);
    }
}
