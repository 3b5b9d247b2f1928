//! The look-ahead: what each island can carry and will do in each step of the next two hours.
//!
//! Gas follows the forecast's median, or persistence where there is none; sets follow the schedule and count once they can carry load.
//! The first step is the plan itself. Read next: `dispatch`, whose
//! limits ask what the steps ahead carry.

use model::cap::FULL;
use model::market::Market;
use model::plan::{STEP, STEPS, SiteStep, StorageTarget};
use model::site::{GasFlow, Site};
use model::workload::{GpuTime, Workload};
use model::{MicroDollars, Span, Watts};

use crate::capacity::MARGIN_PERMILLE;
use crate::commit::{self, Ahead};
use crate::input::Input;
use crate::island::Island;
use crate::mining;
use crate::storage;
use crate::tie;
use crate::worth;

/// What gas and sets sustain in one step by themselves, less the margin.
pub(crate) fn sustained(island: &Island<'_>, step: usize) -> Watts {
    let power = ahead(island, step).fuel.electric(flow(island, step)).min(rating(island, step));
    let ahead = power - power.fraction(MARGIN_PERMILLE, 1_000);
    if step == 0 { island.capacity.own } else { ahead }
}

/// The same with what may be imported for work that is started.
pub(crate) fn opened(island: &Island<'_>, step: usize) -> Watts {
    let capacity = &island.capacity;
    let starts = capacity.tie.as_ref().map_or(Watts::ZERO, |tie| tie.starts);
    let rated = rating(island, step);
    (sustained(island, step) + starts).min(rated - rated.fraction(MARGIN_PERMILLE, 1_000))
}

/// The steps of one island under the plan made so far.
pub(crate) fn steps(island: &Island<'_>, input: &Input) -> Vec<SiteStep> {
    let now = Now::of(island, input);
    (0..STEPS).map(|step| now.step(island, step)).collect()
}

fn flow(island: &Island<'_>, step: usize) -> GasFlow {
    commit::gas_ahead(island.input, island.capacity.flow, step).p50
}

/// Ratings of the sets that carry load in `step`. Now it is those that carry it already.
fn rating(island: &Island<'_>, step: usize) -> Watts {
    if step == 0 { island.capacity.security.rating } else { ahead(island, step).rating }
}

fn ahead<'i>(island: &'i Island<'_>, step: usize) -> &'i Ahead {
    &island.capacity.schedule.steps[step]
}

/// What the plan has an island do now, as far as the later steps follow from it.
struct Now {
    ai: Watts,
    mining: Watts,
    auxiliary: Watts,
    ai_earns: MicroDollars,
    mining_earns: MicroDollars,
    stored: Option<StorageTarget>,
    imported: Watts,
}

impl Now {
    fn of(island: &Island<'_>, input: &Input) -> Self {
        let slots = || island.slots.values();
        let busy: Watts = slots().flat_map(|slot| slot.busy.values()).copied().sum();
        let leaving: Watts = slots().map(|slot| slot.leaving).sum();
        let servers = slots().flat_map(|slot| slot.module().pools.values()).map(|pool| pool.draw(0)).sum();
        let miners: Watts = slots().map(|slot| slot.mining).sum();
        let ceilings: Watts = slots().map(|slot| mining::ceiling(slot, island.leaving_counts)).sum();
        let ai = busy + servers + if island.leaving_counts { leaving } else { Watts::ZERO };
        let earned = slots().flat_map(|slot| {
            let runs = slot.runs.keys().filter_map(|id| Some((id, input.workloads.get(id)?)));
            runs.map(|(id, run)| earns(run, STEP).fraction(slot.pace(id).get(), FULL.get()))
        });
        Self {
            ai,
            mining: miners,
            auxiliary: (ceilings - ai - miners).at_least_zero() + island.capacity.unmanaged,
            ai_earns: earned.sum(),
            mining_earns: mining_earns(island, &input.market),
            stored: storage::target(island),
            imported: tie::target(island).map_or(Watts::ZERO, |target| target.power),
        }
    }

    fn step(&self, island: &Island<'_>, step: usize) -> SiteStep {
        // What storage does later follows from what it then holds.
        let stored = self.stored.filter(|_| step == 0).map_or(Watts::ZERO, |target| target.power);
        let own = sustained(island, step) + stored.at_least_zero();
        let wanted = self.auxiliary + self.ai + self.mining;
        let most = if step == 0 { self.imported } else { tie::later(island, wanted, own) };
        let capacity = (own + most).min(rating(island, step).max(own));
        let auxiliary = self.auxiliary.min(capacity);
        let ai = self.ai.min(capacity - auxiliary);
        let mining = self.mining.min(capacity - auxiliary - ai);
        let site = &island.input.site;
        let load = auxiliary + ai + mining;
        let imported = if step == 0 { most.min(load) } else { most.min((load - own).at_least_zero()) };
        let burnt = (load - stored - imported).at_least_zero();
        let gas = ahead(island, step).fuel.gas_for(burnt);
        let fuel = per_step(worth::gas_per_hour(site, gas))
            + per_step(wear_per_hour(site, stored))
            + per_step(bought_per_hour(island, imported));
        let of =
            |money: MicroDollars, part: Watts, whole: Watts| money.fraction(part.get(), whole.get().max(1));
        let earned = of(self.ai_earns, ai, self.ai) + of(self.mining_earns, mining, self.mining);
        SiteStep {
            capacity,
            ai,
            mining,
            auxiliary,
            flared: (flow(island, step) - gas).at_least_zero(),
            worth: earned - fuel - per_step(ahead(island, step).hourly),
        }
    }
}

/// What storage wears by delivering so much for an hour.
fn wear_per_hour(site: &Site, delivered: Watts) -> MicroDollars {
    let wear = site.storage.as_ref().map_or(MicroDollars::ZERO, |storage| storage.wear);
    wear.fraction(delivered.at_least_zero().get(), 1_000_000)
}

/// What importing so much for an hour costs.
fn bought_per_hour(island: &Island<'_>, imported: Watts) -> MicroDollars {
    island.capacity.tie.as_ref().map_or(MicroDollars::ZERO, |tie| tie::cost(tie.price, imported))
}

/// What a run pays for `span` of all its GPUs.
fn earns(run: &Workload, span: Span) -> MicroDollars {
    GpuTime::of(run.spec.gpus, span).cost(run.spec.price)
}

fn mining_earns(island: &Island<'_>, market: &Market) -> MicroDollars {
    let of = |slot: &crate::slot::Slot<'_>| -> MicroDollars {
        let set = slot.miners.iter().filter_map(|(id, target)| Some((slot.module().groups.get(id)?, target)));
        set.map(|(group, target)| worth::group_per_hour(group, market, target.awake, target.point.into()))
            .sum()
    };
    per_step(island.slots.values().filter(|slot| slot.frozen.is_none()).map(of).sum())
}

fn per_step(hourly: MicroDollars) -> MicroDollars {
    hourly.fraction(STEP.get(), Span::hours(1).get())
}
