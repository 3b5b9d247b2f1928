//! Loads of one hour by module, and what an hour without one of them would lose.
//!
//! Runs are counted as if they could not move: their pay for the hour and the restart, and half a checkpoint interval of lost work,
//! firm ones eleven times as in the dispatch. Miners are counted only as far as no other module takes up the power that they leave:
//! where gas is short, an hour without a module of miners costs nothing. Read next: `price`.

use std::collections::BTreeMap;

use model::module::Module;
use model::site::Site;
use model::workload::{GpuTime, Tier, Workload};
use model::{Hashrate, MicroDollars, ModuleId, Span, Watts};

use super::Drain;
use crate::dispatch::pay::FIRM_WEIGHT;
use crate::input::Input;
use crate::worth;

/// The loads of an island in one hour, at the modules' meters.
pub(super) struct Loads {
    /// Load that is not ours.
    unmanaged: Watts,
    pub(super) modules: BTreeMap<ModuleId, Load>,
    /// Gas for a megawatt-hour.
    pub(super) fuel: MicroDollars,
}

/// One module.
pub(super) struct Load {
    /// All but its miners above standby.
    pub(super) fixed: Watts,
    /// What its miners could draw more.
    pub(super) miners: Watts,
    /// What its best miners make of a megawatt-hour, before gas.
    pub(super) earns: MicroDollars,
    /// What its runs would lose.
    pub(super) runs: MicroDollars,
}

impl Loads {
    /// The loads with the workloads of a snapshot.
    pub(super) fn of(input: &Input, site: &Site, unmanaged: Watts) -> Self {
        let mut runs: BTreeMap<&ModuleId, Vec<&Workload>> = BTreeMap::new();
        for run in input.workloads.values() {
            if let Some(placement) = &run.status.placement {
                runs.entry(&placement.module).or_default().push(run);
            }
        }
        let reached = input.modules.iter().filter(|(_, given)| given.link.is_in_touch());
        let modules = reached.map(|(id, given)| {
            let here = runs.get(id).map_or(&[][..], Vec::as_slice);
            (id.clone(), Load::of(&given.module, here, input))
        });
        Self { unmanaged, modules: modules.collect(), fuel: worth::fuel_per_hour(site, Watts::kilo(1_000)) }
    }

    /// What is left for miners of `power`, once all else is served; `without` one module if asked.
    pub(super) fn left(&self, power: Watts, without: Option<&ModuleId>) -> Watts {
        let others = self.modules.iter().filter(|(id, _)| Some(*id) != without);
        (power - self.unmanaged - others.map(|(_, load)| load.fixed).sum()).at_least_zero()
    }

    /// What miners could take, all or `without` one module.
    pub(super) fn wanted(&self, without: Option<&ModuleId>) -> Watts {
        self.modules.iter().filter(|(id, _)| Some(*id) != without).map(|(_, load)| load.miners).sum()
    }

    /// What the hour would lose without this module.
    fn loss(&self, id: &ModuleId, power: Watts) -> MicroDollars {
        let Some(load) = self.modules.get(id) else { return MicroDollars::ZERO };
        let mined = self.left(power, None).min(self.wanted(None));
        let others = self.left(power, Some(id)).min(self.wanted(Some(id)));
        let lost = (mined - others).at_least_zero();
        let each = (load.earns - self.fuel).at_least_zero();
        load.runs + each.fraction(lost.get(), 1_000_000)
    }
}

impl Load {
    fn of(module: &Module, runs: &[&Workload], input: &Input) -> Self {
        let standby: Watts = module.groups.values().map(|group| group.draw(0, 0)).sum();
        let full: Watts = module.groups.values().map(|group| group.draw_full()).sum();
        let servers: Watts = module.pools.values().map(|pool| pool.draw(0)).sum();
        let busy = runs.iter().filter_map(|run| {
            let pool = module.pools.get(&run.status.placement.as_ref()?.pool)?;
            Some(pool.per_gpu().times(run.spec.gpus.into()))
        });
        let load = module.auxiliary + standby + servers + busy.sum();
        let fixed = module.with_loss(load);
        let most = module.with_loss(load + (full - standby).at_least_zero()).min(module.most());
        let points = module.groups.values().flat_map(|group| {
            group.points.iter().map(move |point| (point.rate, (point.power - group.standby).get().max(1)))
        });
        // Behind the loss, so that a megawatt-hour at the meter is what counts.
        let best = points.map(|(rate, watts)| {
            rate.fraction(1_000_000, watts).fraction(1_000, 1_000 + i64::from(module.loss_permille))
        });
        let rate = best.max().unwrap_or(Hashrate::ZERO);
        Self {
            fixed,
            miners: (most - fixed).at_least_zero(),
            earns: input.market.hashprice().per_hour(rate),
            runs: runs.iter().map(|run| stopped(run)).sum(),
        }
    }
}

/// What an hour without a run loses.
fn stopped(run: &Workload) -> MicroDollars {
    let spec = &run.spec;
    let saved = Span::new(spec.checkpoint.get() / 2).at_least_zero();
    let span = Span::hours(1) + spec.restart.at_least_zero() + saved;
    let weight = if spec.tier == Tier::Firm { FIRM_WEIGHT } else { 1 };
    GpuTime::of(spec.gpus, span).cost(spec.price).times(weight)
}

/// For each module, what each hour without it loses at a power.
pub(super) fn drains<'l>(
    modules: impl Iterator<Item = &'l ModuleId>,
    hours: impl Iterator<Item = (&'l Loads, Watts)> + Clone,
) -> BTreeMap<ModuleId, Drain> {
    let drain = |id: &ModuleId| {
        let loss: Vec<MicroDollars> = hours.clone().map(|(loads, power)| loads.loss(id, power)).collect();
        let best = loss.iter().enumerate().min_by_key(|(nth, loss)| (**loss, *nth)).map_or(0, |(nth, _)| nth);
        Drain { loss, best: u32::try_from(best).unwrap_or(0) }
    };
    modules.map(|id| (id.clone(), drain(id))).collect()
}
