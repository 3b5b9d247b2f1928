//! What an island can carry: gas, sets, and which sets shall run.
//!
//! Gas that arrives plus the buffer spread over [`BUFFER_SPAN`] bounds everything; mining may only take what is left of it above
//! half a buffer, so that a cushion stays for slugs and checkpoints. Sets start and stop with hysteresis. Where the island is
//! silent nothing is raised. Read next: `security`.

use std::collections::BTreeMap;

use model::plan::SitePlan;
use model::report::{GensetReport, GensetState, SiteReport};
use model::site::{GasFlow, GasVolume, Site};
use model::{GensetId, Span, Watts};

use crate::input::SiteInput;
use crate::security::{Security, Source};
use crate::storage::{self, Store};
use crate::tie::{self, Demand, Tie};

/// Kept back from what gas and sets sustain, for regulation and metering error: 3 %.
pub(crate) const MARGIN_PERMILLE: i64 = 30;
/// Over how long the buffer is spent when gas fails: three steps, long enough for every checkpoint.
const BUFFER_SPAN: Span = Span::minutes(15);
/// A set is started only when its minimum load takes no more than this share of the power there is.
const START_PERMILLE: i64 = 800;
/// A running set that N-1 does not need is stopped only when the others cover so much more than the load.
const STOP_PERMILLE: i64 = 1_100;

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
    /// Sets that shall run.
    pub(crate) gensets: BTreeMap<GensetId, bool>,
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
    /// The most their modules could draw.
    pub(crate) potential: Watts,
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
pub(crate) fn of(input: &SiteInput, parent: Option<&SitePlan>, agents: Agents) -> Capacity {
    let Agents { potential, opens, wired, reached, demand } = agents;
    let site = &input.site;
    let Some(report) = &input.report else {
        return silent(site, parent);
    };
    let unmanaged = site.unmanaged.max(report.unmanaged.unwrap_or(Watts::ZERO));
    let gas = Gas::of(input, report);
    let gensets = if input.fresh {
        commit(site, report, gas.sustained(site), potential + unmanaged)
    } else {
        hold(site, report, parent)
    };
    let security = Security::new(site, carrying(site, report, &gensets), opens.filter(|_| site.relay));
    let power = gas.power(site);
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
    let mining = (kept(gas.cushioned(site)) - owed).at_least_zero().min(own).min(security.most_load());
    let survives = |power: Watts, most: Watts| {
        let power = power.min(security.remaining());
        (power - power.fraction(MARGIN_PERMILLE, 1_000)).min(most)
    };
    let (firm, opened) = (firm_gas(site, &gas), kept(power + starts));
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
        gensets,
        limit,
        store,
        tie,
    }
}

/// Power from the gas that is counted on for firm promises. What storage lends is not among it.
fn firm_gas(site: &Site, gas: &Gas) -> Watts {
    site.electric(gas.firm + spread(gas.buffer))
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
fn silent(site: &Site, parent: Option<&SitePlan>) -> Capacity {
    let wanted = |id| parent.and_then(|parent| parent.gensets.get(id)).copied().unwrap_or(true);
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
        gensets: site.gensets.keys().map(|id| (id.clone(), wanted(id))).collect(),
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
        let ahead = input.forecast.first();
        let burnt = input.site.gas_for(report.load.unwrap_or(Watts::ZERO));
        let flow = report.gas.or(ahead.map(|step| step.p50)).unwrap_or(burnt).at_least_zero();
        let firm = ahead.map_or(flow, |step| step.p10.min(flow)).at_least_zero();
        let capacity = input.site.buffer.capacity;
        let buffer = report.buffer.unwrap_or(GasVolume::ZERO).min(capacity).at_least_zero();
        Self { flow, firm, buffer, half: capacity.fraction(1, 2) }
    }

    fn power(&self, site: &Site) -> Watts {
        site.electric(self.flow + spread(self.buffer))
    }

    fn cushioned(&self, site: &Site) -> Watts {
        site.electric(self.flow + spread((self.buffer - self.half).at_least_zero()))
    }

    fn sustained(&self, site: &Site) -> Watts {
        site.electric(self.flow)
    }
}

/// The flow that empties `volume` in [`BUFFER_SPAN`].
fn spread(volume: GasVolume) -> GasFlow {
    GasFlow::new(volume.get()).fraction(Span::hours(24).get(), BUFFER_SPAN.get())
}

fn carrying(site: &Site, report: &SiteReport, gensets: &BTreeMap<GensetId, bool>) -> Vec<Source> {
    let carries = |id: &&GensetId| gensets.get(*id).copied().unwrap_or(false);
    let online = report.online().filter(carries);
    online.filter_map(|id| site.gensets.get(id).map(|set| Source::new(id, set))).collect()
}

/// Without news from the island every request stays as it was.
fn hold(site: &Site, report: &SiteReport, parent: Option<&SitePlan>) -> BTreeMap<GensetId, bool> {
    let runs = |id: &GensetId| {
        let state = report.gensets.get(id).map(|set| set.state);
        !matches!(state, Some(GensetState::Tripped | GensetState::Stopping | GensetState::Off))
    };
    let wanted = |id: &GensetId| parent.and_then(|parent| parent.gensets.get(id)).copied();
    site.gensets.keys().map(|id| (id.clone(), wanted(id).unwrap_or_else(|| runs(id)))).collect()
}

/// Which sets shall run: all whose minimum load the gas and the load can give, until the rest without the largest covers the load.
fn commit(site: &Site, report: &SiteReport, gas: Watts, potential: Watts) -> BTreeMap<GensetId, bool> {
    let load = gas.min(potential);
    let mut order: Vec<(u8, &GensetId)> =
        site.gensets.keys().map(|id| (rank(report.gensets.get(id)), id)).collect();
    order.sort();
    let mut chosen = Chosen::default();
    let mut wanted = BTreeMap::new();
    for (_, id) in order {
        let set = &site.gensets[id];
        let runs = match report.gensets.get(id) {
            Some(state) => decide(&chosen, set, state, load),
            None => false,
        };
        if runs {
            chosen.add(set.rating, set.min_load);
        }
        wanted.insert(id.clone(), runs);
    }
    wanted
}

#[derive(Default)]
struct Chosen {
    rating: Watts,
    largest: Watts,
    min_load: Watts,
}

impl Chosen {
    fn add(&mut self, rating: Watts, min_load: Watts) {
        self.rating += rating;
        self.largest = self.largest.max(rating);
        self.min_load += min_load;
    }
}

fn rank(set: Option<&GensetReport>) -> u8 {
    match set.map(|set| set.state) {
        Some(GensetState::Online) => 0,
        Some(GensetState::Starting) => 1,
        Some(GensetState::Off) => 2,
        Some(GensetState::Stopping | GensetState::Tripped) | None => 3,
    }
}

fn decide(chosen: &Chosen, set: &model::site::Genset, state: &GensetReport, load: Watts) -> bool {
    let least = chosen.min_load + set.min_load;
    let secure = chosen.rating - chosen.largest;
    match state.state {
        GensetState::Starting => true,
        GensetState::Online => {
            let first = chosen.rating == Watts::ZERO;
            let useful = least <= load && secure < load.fraction(STOP_PERMILLE, 1_000);
            first || useful || state.for_span < set.min_run
        }
        GensetState::Off => {
            let useful = least <= load.fraction(START_PERMILLE, 1_000) && secure < load;
            useful && state.for_span >= set.min_off
        }
        GensetState::Stopping | GensetState::Tripped => false,
    }
}
