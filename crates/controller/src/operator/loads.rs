//! Load by use and revenue, as reported: what a status shows of a module's and a site's watts and dollars.
//!
//! Assumes nothing: what was not reported is estimated from the configuration where the model says how, or left out. Pure.
//! Read next: `operator/status.rs`.

use api::operator as wire;
use model::market::Hashprice;
use model::module::Module;
use model::report::Report;
use model::workload::{Phase, Tier, Workload};
use model::{Hashrate, MicroDollars, Watts};

/// The load of a module by use; together with the loss the parts make up the meter's reading where there is one.
pub(crate) fn by_use(module: &Module, report: &Report, runs: &[&Workload]) -> wire::LoadByUse {
    let busy = |tier: Option<Tier>| -> Watts {
        let wanted = runs.iter().filter(|run| tier.is_none_or(|tier| run.spec.tier == tier));
        wanted.map(|run| gpu_watts(module, run)).sum()
    };
    let (mining, asleep) = mining(module, report);
    let pools: Watts = module
        .pools
        .iter()
        .map(|(id, pool)| report.pools.get(id).and_then(|pool| pool.power).unwrap_or_else(|| pool.draw(0)))
        .sum();
    let ai = busy(None).min(pools.max(busy(None)));
    let idle = (pools - ai).at_least_zero() + asleep;
    let known = ai + idle + mining;
    let auxiliary = report.meter.map_or(module.auxiliary, |meter| (meter - known).at_least_zero());
    wire::LoadByUse {
        ai_watts: ai.get(),
        firm_ai_watts: busy(Some(Tier::Firm)).get(),
        mining_watts: mining.get(),
        idle_watts: idle.get(),
        auxiliary_watts: auxiliary.get(),
        unmanaged_watts: 0,
        reserved_watts: 0,
    }
}

/// What a module earns an hour: by contract, and by verified hash rate.
pub(super) fn revenue(report: Option<&Report>, runs: &[&Workload], price: Hashprice) -> wire::Revenue {
    let paying = runs.iter().filter(|run| matches!(run.status.phase, Phase::Starting | Phase::Running));
    let ai: MicroDollars = paying.map(|run| run.spec.price.times(run.spec.gpus.into())).sum();
    let groups = report.into_iter().flat_map(|report| report.groups.values());
    let rate: Hashrate = groups.filter_map(|group| group.verified).map(|verified| verified.rate).sum();
    wire::Revenue {
        ai_micro_dollars_per_hour: ai.get(),
        mining_micro_dollars_per_hour: price.per_hour(rate).get(),
    }
}

/// Adds one load to another.
pub(crate) fn add(sum: &mut wire::LoadByUse, part: &wire::LoadByUse) {
    sum.ai_watts += part.ai_watts;
    sum.firm_ai_watts += part.firm_ai_watts;
    sum.mining_watts += part.mining_watts;
    sum.idle_watts += part.idle_watts;
    sum.auxiliary_watts += part.auxiliary_watts;
    sum.unmanaged_watts += part.unmanaged_watts;
    sum.reserved_watts += part.reserved_watts;
}

/// Watts of miners awake, and of those asleep.
fn mining(module: &Module, report: &Report) -> (Watts, Watts) {
    let mut sums = (Watts::ZERO, Watts::ZERO);
    for (id, group) in &module.groups {
        let Some(seen) = report.groups.get(id) else { continue };
        let asleep = group.standby.times(i64::from(group.count.saturating_sub(seen.awake)));
        let open = seen.feeder == model::report::FeederState::Open;
        let drawn = if open { Watts::ZERO } else { group.draw(seen.awake, seen.point.into()) };
        let power = seen.power.unwrap_or(drawn);
        sums.0 += (power - asleep).at_least_zero();
        sums.1 += asleep.min(power);
    }
    sums
}

fn gpu_watts(module: &Module, run: &Workload) -> Watts {
    let pool = run.status.placement.as_ref().and_then(|placement| module.pools.get(&placement.pool));
    pool.map_or(Watts::ZERO, |pool| pool.per_gpu().times(run.spec.gpus.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::MinerGroupId;
    use model::report::{FeederState, GroupReport, Verified};

    use super::*;
    use crate::testing;

    fn group(awake: u32, feeder: FeederState) -> GroupReport {
        let verified = Verified { rate: Hashrate::tera(200), shares: 100, window: model::Span::minutes(5) };
        GroupReport {
            feeder,
            awake,
            point: 1,
            power: None,
            claimed: None,
            verified: Some(verified),
            connections: awake,
        }
    }

    #[test]
    fn the_parts_make_up_the_meter() {
        let module = &testing::fleet().modules[0];
        let mut workload = testing::workload("w", "t", 8);
        workload.status.placement = Some(testing::placement("m1", 1));
        workload.status.phase = Phase::Running;
        let check = |feeder: FeederState, meter: i64, expected: [i64; 4]| {
            let groups = BTreeMap::from([(MinerGroupId::new("a").unwrap(), group(10, feeder))]);
            let report = Report { groups, meter: Some(Watts::new(meter)), ..testing::report("m1", 1) };
            let load = by_use(module, &report, &[&workload]);
            let found = [load.ai_watts, load.mining_watts, load.idle_watts, load.auxiliary_watts];
            assert_eq!(found, expected, "{load:?}");
        };
        // Ten miners at 3,500 W, 190 asleep at 25 W, eight GPUs at 1,025 W; eight idle servers draw 16 kW in all.
        check(FeederState::Closed, 70_000, [8_200, 35_000, 7_800 + 4_750, 14_250]);
        check(FeederState::Open, 30_000, [8_200, 0, 7_800, 14_000]);
    }

    #[test]
    fn revenue_is_by_contract_and_by_verified_hashes() {
        let groups = BTreeMap::from([(MinerGroupId::new("a").unwrap(), group(1, FeederState::Closed))]);
        let report = Report { groups, ..testing::report("m1", 1) };
        let mut running = testing::workload("w", "t", 8);
        running.status.phase = Phase::Running;
        let waiting = testing::workload("v", "t", 8);
        let earned = revenue(Some(&report), &[&running, &waiting], testing::market().hashprice());
        assert_eq!(earned.ai_micro_dollars_per_hour, MicroDollars::cents(295 * 8).get());
        // 200 TH/s at about 33.2 $ a PH/s a day.
        assert!((270_000..290_000).contains(&earned.mining_micro_dollars_per_hour), "{earned:?}");
    }
}
