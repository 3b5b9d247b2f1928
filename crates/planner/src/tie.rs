//! The grid tie while a plan is being made: how much it may import, for whom, and what it shall do.
//!
//! Gas goes first; import carries what gas does not, as far as its price pays: for AI that runs, for AI that waits, and for mining,
//! each by what it earns a megawatt-hour. Nothing firm is promised on it. It imports no more than half the sets' block and never
//! unloads the sets below their minimum, and the sets are rated for everything, so that its loss is a step that they take without
//! help. An unknown price, or one below zero, buys nothing. On old news it may go on as it was told, and no more. Nothing is
//! exported, and storage is not charged from it. Read next: `capacity`.

use model::plan::{ImportTarget, SitePlan};
use model::report::SiteReport;
use model::site::{GridTie, Site};
use model::{MicroDollars, Span, WattSeconds, Watts, WattsPerSecond};

use crate::capacity::Capacity;
use crate::input::{Input, ModuleInput, SiteInput};
use crate::island::Island;
use crate::mining;
use crate::security::Source;
use crate::worth;

/// The sets keep so much above their minimum loads while it imports: 5 %.
const OVER_PERMILLE: i64 = 1_050;

/// A grid tie that follows commands, at a price that is known.
#[derive(Clone, Debug)]
pub(crate) struct Tie {
    /// Most it may import.
    pub(crate) most: Watts,
    /// Of a megawatt-hour.
    pub(crate) price: MicroDollars,
    /// Most that what runs may count on.
    pub(crate) runs: Watts,
    /// Most that what is started may count on.
    pub(crate) starts: Watts,
    /// The best miners of the island earn more than the price.
    pub(crate) mining: bool,
    /// Fastest change by choice: an eighth of the sets'.
    pub(crate) ramp: WattsPerSecond,
}

/// What AI of an island would pay for import.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// Base and unmanaged load, and runs that earn more than the price.
    pub(crate) paying: Watts,
    /// Every run earns more than the price.
    pub(crate) runs_pay: bool,
    /// So would everything that waits for a GPU type of the island.
    pub(crate) waiting_pay: bool,
}

/// The price of a megawatt-hour that holds at a site: what the grid's signal says, or else what is configured. `None` where nobody
/// knows it, or it is below zero and not believed.
pub(crate) fn price(input: &SiteInput) -> Option<MicroDollars> {
    let said = input.report.as_ref().and_then(|report| report.grid?.price);
    said.or(input.site.grid.as_ref()?.price).filter(|price| *price >= MicroDollars::ZERO)
}

/// The tie of an island whose load `sources` carry. `reached` tells whether a directive gets to the agent that leads it; `own` is what
/// gas and sets carry.
pub(crate) fn of(
    input: &SiteInput,
    parent: Option<&SitePlan>,
    sources: &[Source],
    reached: bool,
    demand: Demand,
    own: Watts,
) -> Option<Tie> {
    let config = input.site.grid.as_ref()?;
    let report = input.report.as_ref().filter(|_| reached && !sources.is_empty())?;
    report.grid.filter(|tie| tie.ready)?;
    let price = price(input)?;
    let told = parent.and_then(|parent| parent.import).map_or(Watts::ZERO, |target| target.power);
    let held = if input.fresh { Watts::MAX } else { told };
    let block: Watts = sources.iter().map(|source| source.step).sum::<Watts>().fraction(1, 2);
    let spare = report.load? - least(sources);
    let most = whole(config.import.min(block).min(spare)).min(held);
    let runs = if demand.runs_pay { most } else { (demand.paying - own).at_least_zero().min(most) };
    let ramps: WattsPerSecond = sources.iter().map(|source| source.ramp).sum();
    Some(Tie {
        most,
        price,
        runs,
        starts: if demand.runs_pay && demand.waiting_pay { most } else { Watts::ZERO },
        mining: false,
        ramp: ramps.fraction(1, 8),
    })
}

/// What the sets must carry themselves: their minimum, with a little to spare.
fn least(sources: &[Source]) -> Watts {
    let least: Watts = sources.iter().map(|source| source.min_load).sum();
    least.fraction(OVER_PERMILLE, 1_000)
}

/// Whole kilowatts, none for less: the load changes all the time, and a new directive shall not follow from each watt.
fn whole(watts: Watts) -> Watts {
    Watts::kilo(watts.at_least_zero().get() / 1_000)
}

impl Demand {
    /// What the modules of an island would have run, at the site's price; nothing is looked at where there is no tie.
    pub(crate) fn of(site: &SiteInput, modules: &[(&model::ModuleId, &ModuleInput)], input: &Input) -> Self {
        let Some(price) = site.site.grid.as_ref().and(price(site)) else { return Self::default() };
        let base: Watts = modules.iter().map(|(_, given)| given.module.base_draw()).sum();
        let mut demand = Self { paying: site.site.unmanaged + base, runs_pay: true, waiting_pay: true };
        let open = input.workloads.values().filter(|work| !work.cancel && !work.status.phase.is_final());
        for workload in open {
            let at = workload.status.placement.as_ref().filter(|_| workload.status.phase.holds());
            let here = |(id, _): &&(&model::ModuleId, &ModuleInput)| at.is_some_and(|at| at.module == **id);
            let home = modules.iter().find(here);
            if at.is_some() && home.is_none() {
                continue;
            }
            let hosts = modules.iter().filter(|(id, _)| home.is_none_or(|home| home.0 == *id));
            let Some(watts) = hosts.filter_map(|(_, given)| worth::run_watts(workload, &given.module)).max()
            else {
                continue;
            };
            let pays = worth::run_per_hour(workload) >= cost(price, watts);
            if at.is_none() {
                demand.waiting_pay &= pays;
                continue;
            }
            demand.runs_pay &= pays;
            demand.paying += if pays { watts } else { Watts::ZERO };
        }
        demand
    }
}

/// What importing `watts` for an hour costs.
pub(crate) fn cost(price: MicroDollars, watts: Watts) -> MicroDollars {
    let hour: WattSeconds = watts.for_span(Span::hours(1));
    GridTie::cost(price, hour)
}

impl Tie {
    /// Most that is imported by choice, and what gas carries before it: where everything on the margin pays, import spares the gas
    /// buffer; otherwise it carries only what could not go on without.
    fn bound(&self, capacity: &Capacity) -> (Watts, Watts) {
        if self.mining || self.runs == self.most {
            (self.most, capacity.mining)
        } else {
            (self.runs, capacity.own)
        }
    }

    /// What it shall import beside `load` where gas carries `gas`.
    fn wanted(&self, most: Watts, load: Watts, gas: Watts) -> Watts {
        let short = (load - gas).at_least_zero();
        // Up to a whole kilowatt, so that the loads always fit.
        Watts::kilo((short.get() + 999) / 1_000).min(most)
    }
}

/// What the tie shall import beside the loads now planned.
pub(crate) fn target(island: &Island<'_>) -> Option<ImportTarget> {
    let capacity = &island.capacity;
    let tie = capacity.tie.as_ref()?;
    let ceilings: Watts =
        island.slots.values().map(|slot| mining::ceiling(slot, island.leaving_counts)).sum();
    let load = capacity.unmanaged + ceilings;
    let (most, gas) = tie.bound(capacity);
    let spare = (load - least(&capacity.security.sources)).max(load - capacity.own).at_least_zero();
    let power = tie.wanted(most, load, gas).min(Watts::kilo((spare.get() + 999) / 1_000));
    Some(ImportTarget { power, ramp: tie.ramp })
}

/// What it would import in a later step, in which gas and sets carry `sustained` by themselves.
pub(crate) fn later(island: &Island<'_>, load: Watts, sustained: Watts) -> Watts {
    let Some(tie) = &island.capacity.tie else { return Watts::ZERO };
    let (most, _) = tie.bound(&island.capacity);
    tie.wanted(most, load, sustained)
}

/// What the next `power` costs an island in an hour: import where gas is used up, gas before that.
pub(crate) fn next_per_hour(island: &Island<'_>, power: Watts) -> MicroDollars {
    let fuel = worth::fuel_per_hour(&island.input.site, power);
    let imports = target(island).is_some_and(|target| target.power > Watts::ZERO);
    let tie = island.capacity.tie.as_ref().filter(|_| imports);
    tie.map_or(fuel, |tie| cost(tie.price, power).max(fuel))
}

/// What an island imports and what for, beside what binds it; `None` where it imports nothing.
pub(crate) fn words(island: &Island<'_>) -> Option<String> {
    let tie = island.capacity.tie.as_ref()?;
    let imported = target(island)?.power;
    (imported > Watts::ZERO)
        .then(|| format!("imports {imported} of {} at {} a MWh", tie.most, dollars(tie.price)))
}

/// What to say to an operator of a site with a tie.
pub(crate) fn hint(site: &Site, report: Option<&SiteReport>, island: &Island<'_>) -> Option<String> {
    let config = site.grid.as_ref()?;
    if !report.and_then(|report| report.grid).is_some_and(|tie| tie.ready) {
        return Some(
            "the grid tie does not answer, so nothing is imported: look whether the grid is there".into(),
        );
    }
    let Some(tie) = &island.capacity.tie else {
        let why = "no price that is known and not below zero, no metered load, or no wired module in touch";
        return Some(format!("nothing is imported: {why}"));
    };
    let pays = |pays: bool| if pays { "pays" } else { "does not pay" };
    Some(format!(
        "up to {} of the grid tie's {} may be imported at {} a MWh: mining {}, AI {}",
        tie.most,
        config.import,
        dollars(tie.price),
        pays(tie.mining),
        pays(tie.runs == tie.most),
    ))
}

fn dollars(price: MicroDollars) -> String {
    format!("${:.2}", price.as_f64() / 1e6)
}
