//! What an island can carry with the gas and the sets that it has now.
//!
//! Gas that arrives plus the buffer spread over [`BUFFER_SPAN`] bounds everything; mining may only take what is left of it above
//! half a buffer, so that a cushion stays for slugs and checkpoints. Which sets shall run says `commit`. Where the island is
//! silent nothing is raised. Read next: `security`.

use std::collections::BTreeMap;

use model::fuel::Fuel;
use model::plan::SitePlan;
use model::report::{GensetState, SiteReport};
use model::site::{GasFlow, GasVolume, Site};
use model::{GensetId, Span, Watts};

use crate::commit::{self, Asked, Schedule};
use crate::input::{GasStep, SiteInput};
use crate::security::{Security, Source};
use crate::storage::{self, Store};
use crate::tie::{self, Demand, Tie};

/// Kept back from what gas and sets sustain, for regulation and metering error: 3 %.
pub(crate) const MARGIN_PERMILLE: i64 = 30;
/// Over how long the buffer is spent when gas fails: three steps, long enough for every checkpoint.
const BUFFER_SPAN: Span = Span::minutes(15);

/// What an island can carry, and why no more.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// Load we do not manage: the larger of what is configured and what is metered.
    pub(crate) unmanaged: Watts,
    /// Gas that arrives now.
    pub(crate) flow: GasFlow,
    /// Power that gas sustains, buffer included.
    pub(crate) gas_power: Watts,
    /// Kept back.
    pub(crate) margin: Watts,
    /// What gas and sets carry by themselves: new work is started on that alone.
    pub(crate) own: Watts,
    /// What new work that is not firm is started on: with what may be imported for it.
    pub(crate) opened: Watts,
    /// What of that survives the loss of the largest set.
    pub(crate) secure: Watts,
    /// What the sets are rated for, less the margin: nothing goes beyond it, whatever storage and grid tie deliver.
    pub(crate) rated: Watts,
    /// What the ceilings and the unmanaged load must fit into: with what storage may lend and what may be imported for runs.
    pub(crate) total: Watts,
    /// What miners may fill up to: `total` less the buffer's cushion, and the nadir's limit.
    pub(crate) mining: Watts,
    /// What survives the loss of the largest set.
    pub(crate) firm: Watts,
    /// The sets that carry the load.
    pub(crate) security: Security,
    /// What the sets burn that turn now.
    pub(crate) fuel: Fuel,
    /// Which sets shall run, and when.
    pub(crate) schedule: Schedule,
    /// What keeps `total` from being larger.
    pub(crate) limit: Limit,
    /// Storage that follows commands.
    pub(crate) store: Option<Store>,
    /// A grid tie that follows commands, at a price that is known.
    pub(crate) tie: Option<Tie>,
}

/// What bounds an island.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The site never reported.
    Silent,
    /// Its last report is stale.
    Stale,
    /// No set carries load.
    NoSet,
    /// Gas.
    Gas,
    /// The ratings of the online sets.
    Sets,
    /// The frequency dip after the loss of a set.
    Nadir,
}

impl Capacity {
    /// Whether something new may be started or raised.
    pub(crate) fn may_raise(&self) -> bool {
        !matches!(self.limit, Limit::Silent | Limit::Stale | Limit::NoSet)
    }

    /// What miners may fill up to with what may be imported for them.
    pub(crate) fn mining_most(&self) -> Watts {
        let tie = self.tie.as_ref().filter(|tie| tie.mining);
        let imported = tie.map_or(Watts::ZERO, |tie| tie.most);
        (self.mining + imported).min(self.total).min(self.security.most_load())
    }

    /// The most load that N-1 lets run, mining included.
    pub(crate) fn secure_total(&self) -> Watts {
        self.total.min(self.security.most_load())
    }
}

/// The agents of an island, as far as they bear on what it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agents {
    /// The slowest opening of their fast feeders.
    pub(crate) opens: Option<Span>,
    /// The wired one is in touch, and leads storage and grid tie.
    pub(crate) wired: bool,
    /// A directive reaches the wired one.
    pub(crate) reached: bool,
    /// What AI would pay for import.
    pub(crate) demand: Demand,
}

/// The capacity of one island.
pub(crate) fn of(
    input: &SiteInput,
    parent: Option<&SitePlan>,
    agents: Agents,
    asked: &Asked<'_>,
) -> Capacity {
    let Agents { opens, wired, reached, demand } = agents;
    let site = &input.site;
    let Some(report) = &input.report else {
        return silent(input, parent);
    };
    let unmanaged = site.unmanaged.max(report.unmanaged.unwrap_or(Watts::ZERO));
    let gas = Gas::of(input, report);
    let schedule = if input.fresh { commit::schedule(input, asked) } else { hold(input, report, parent) };
    let (sources, fuel) = (carrying(site, report, &schedule.now), burning(site, report));
    let security = Security::new(site, sources, opens.filter(|_| site.relay));
    let power = gas.power(&fuel);
    let store = storage::of(input, &security.sources, wired, security.rating - power);
    let security = security.with_bridge(store.as_ref().and_then(|store| store.bridge));
    let limit = limit(input, &security, power);
    let held = if input.fresh { Watts::MAX } else { parent.map_or(Watts::ZERO, |parent| parent.capacity) };
    let kept = |power: Watts| {
        let power = power.min(security.rating);
        (power - power.fraction(MARGIN_PERMILLE, 1_000)).min(held)
    };
    let (lent, owed) = store.as_ref().map_or_else(Default::default, |store| (store.lent, store.owed));
    let own = kept(power);
    let tie = tie::of(input, parent, &security.sources, reached, demand, own);
    let (runs, starts) = tie.as_ref().map_or_else(Default::default, |tie| (tie.runs, tie.starts));
    let mining = (kept(gas.cushioned(&fuel)) - owed).at_least_zero().min(own).min(security.most_load());
    let survives = |power: Watts, most: Watts| {
        let power = power.min(security.remaining());
        (power - power.fraction(MARGIN_PERMILLE, 1_000)).min(most)
    };
    let (firm, opened) = (firm_gas(&fuel, &gas), kept(power + starts));
    Capacity {
        unmanaged,
        flow: gas.flow,
        gas_power: power,
        margin: power.min(security.rating).fraction(MARGIN_PERMILLE, 1_000),
        own,
        opened,
        secure: survives(firm + starts, opened),
        rated: kept(Watts::MAX),
        total: kept(power + lent + runs),
        mining,
        firm: survives(firm, own),
        security,
        fuel,
        schedule,
        limit,
        store,
        tie,
    }
}

/// Power from the gas that is counted on for firm promises. What storage lends is not among it.
fn firm_gas(fuel: &Fuel, gas: &Gas) -> Watts {
    fuel.electric(gas.firm + spread(gas.buffer))
}

fn limit(input: &SiteInput, security: &Security, gas: Watts) -> Limit {
    if !input.fresh {
        Limit::Stale
    } else if security.sources.is_empty() {
        Limit::NoSet
    } else if security.most_load() < gas.min(security.rating) {
        Limit::Nadir
    } else if gas < security.rating {
        Limit::Gas
    } else {
        Limit::Sets
    }
}

/// Nothing is known of the island, so nothing is granted and no set is stopped blindly.
fn silent(given: &SiteInput, parent: Option<&SitePlan>) -> Capacity {
    let site = &given.site;
    let wanted = |id: &GensetId| parent.and_then(|parent| parent.gensets.get(id)).copied().unwrap_or(true);
    Capacity {
        unmanaged: site.unmanaged,
        flow: GasFlow::ZERO,
        gas_power: Watts::ZERO,
        margin: Watts::ZERO,
        own: Watts::ZERO,
        opened: Watts::ZERO,
        secure: Watts::ZERO,
        rated: Watts::ZERO,
        total: Watts::ZERO,
        mining: Watts::ZERO,
        firm: Watts::ZERO,
        security: Security::new(site, Vec::new(), None),
        fuel: Fuel::of(site, []),
        schedule: Schedule::held(given, wanted),
        limit: Limit::Silent,
        store: None,
        tie: None,
    }
}

/// The gas of one island.
struct Gas {
    flow: GasFlow,
    /// What of it is counted on for firm promises.
    firm: GasFlow,
    buffer: GasVolume,
    half: GasVolume,
}

impl Gas {
    /// A missing reading is no zero: then the forecast counts, and without one what the sets now burn.
    fn of(input: &SiteInput, report: &SiteReport) -> Self {
        let GasStep { p10: firm, p50: flow } = commit::gas_ahead(input, commit::flow_now(input), 0);
        let capacity = input.site.buffer.capacity;
        let buffer = report.buffer.unwrap_or(GasVolume::ZERO).min(capacity).at_least_zero();
        Self { flow, firm, buffer, half: capacity.fraction(1, 2) }
    }

    fn power(&self, fuel: &Fuel) -> Watts {
        fuel.electric(self.flow + spread(self.buffer))
    }

    fn cushioned(&self, fuel: &Fuel) -> Watts {
        fuel.electric(self.flow + spread((self.buffer - self.half).at_least_zero()))
    }
}

/// The flow that empties `volume` in [`BUFFER_SPAN`].
fn spread(volume: GasVolume) -> GasFlow {
    GasFlow::new(volume.get()).fraction(Span::hours(24).get(), BUFFER_SPAN.get())
}

/// The sets that carry load and shall go on.
fn carrying(site: &Site, report: &SiteReport, gensets: &BTreeMap<GensetId, bool>) -> Vec<Source> {
    let carries = |id: &&GensetId| gensets.get(*id).copied().unwrap_or(false);
    let online = report.online().filter(carries);
    online.filter_map(|id| site.gensets.get(id).map(|set| Source::new(id, set))).collect()
}

/// What all sets burn that turn, also those that are to stop and those that only start: they burn without load until they have gone,
/// and from when they are there.
fn burning(site: &Site, report: &SiteReport) -> Fuel {
    let turns = |state| !matches!(state, GensetState::Off | GensetState::Tripped);
    let turning = report.gensets.iter().filter(|(_, set)| turns(set.state));
    Fuel::of(site, turning.filter_map(|(id, _)| site.gensets.get(id)))
}

/// Without news from the island every request stays as it was.
fn hold(given: &SiteInput, report: &SiteReport, parent: Option<&SitePlan>) -> Schedule {
    let runs = |id: &GensetId| {
        let state = report.gensets.get(id).map(|set| set.state);
        !matches!(state, Some(GensetState::Tripped | GensetState::Stopping | GensetState::Off))
    };
    let wanted = |id: &GensetId| parent.and_then(|parent| parent.gensets.get(id)).copied();
    Schedule::held(given, |id| wanted(id).unwrap_or_else(|| runs(id)))
}
