//! What an island is asked to carry: what runs there, what could start there, and its miners.
//!
//! Who waits is counted on one island only, or every island with free GPUs would start a set for it: on the first whose running sets
//! carry it beside what runs, else on the one whose sets could carry most. Where it really starts is for the dispatch to say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::market::Hashprice;
use model::module::Module;
use model::workload::{Tier, Workload};
use model::{Hashrate, MicroDollars, ModuleId, SiteId, Span, Watts};

use super::{Sets, flow_now};
use crate::dispatch::pay;
use crate::input::{Input, Link, ModuleInput, SiteInput};
use crate::mining;
use crate::security::FAST;
use crate::slot::is_fast;
use crate::worth;

/// Islands looked at for each who waits.
const TRIES: usize = 16;

/// What an island is asked to carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked<'i> {
    /// What modules draw without runs and awake miners, and load that is not ours.
    pub(super) base: Watts,
    /// Load that is not ours.
    unmanaged: Watts,
    /// The most that each module can draw.
    modules: Vec<(&'i ModuleId, Watts)>,
    /// Where firm work runs or may come to run.
    firm: BTreeSet<&'i ModuleId>,
    /// What runs or could start, best a watt first.
    pub(super) work: Vec<Work>,
    /// Pieces of the miners' hulls and what an hour of them earns, best a watt first.
    pub(super) mining: Vec<(Watts, MicroDollars)>,
    /// Miners behind fast feeders, all awake.
    pub(super) fast: Watts,
    /// What whole miners may leave of that: one a group.
    pub(super) grain: Watts,
    /// Slowest of these feeders.
    pub(super) opens: Option<Span>,
}

/// A run, or somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) watts: Watts,
    /// What an hour of it is worth; firm work that is owed with the weight of a broken promise.
    pub(super) hourly: MicroDollars,
    pub(super) runs: bool,
    pub(super) firm: bool,
}

/// The modules of each island.
pub(crate) type Modules<'i> = BTreeMap<&'i SiteId, Vec<(&'i ModuleId, &'i ModuleInput)>>;

/// Free GPUs of a type, by island.
type Free<'i> = BTreeMap<&'i str, BTreeMap<&'i SiteId, i64>>;

/// What every island is asked to carry.
pub(crate) fn all<'i>(input: &'i Input, modules: &Modules<'i>) -> BTreeMap<&'i SiteId, Asked<'i>> {
    let hashprice = input.market.hashprice();
    let of = |(id, site): (&'i SiteId, &'i SiteInput)| {
        (id, Asked::of(site, modules.get(id).map_or(&[][..], Vec::as_slice), hashprice))
    };
    let mut asked: BTreeMap<&SiteId, Asked<'i>> = input.sites.iter().map(of).collect();
    let mut waiting = Waiting::of(input);
    let mut idle = Vec::new();
    for one in input.workloads.values().filter(|one| !one.cancel && !one.status.phase.is_final()) {
        match one.status.placement.as_ref().filter(|_| one.status.phase.holds()) {
            None => idle.push(one),
            Some(at) => {
                let Some(given) = input.modules.get(&at.module) else { continue };
                waiting.hold(one, &given.module.site);
                let work = Work::of(one, &given.module, true);
                let asked = asked.get_mut(&given.module.site).zip(work);
                asked.into_iter().for_each(|(asked, work)| asked.add(work, one, &given.module.id));
            }
        }
    }
    if waiting.some_could_start(&idle) {
        idle.sort_by_key(|one| (one.spec.tier, Reverse(one.spec.price), &one.id));
        waiting.rooms =
            input.sites.iter().filter_map(|(id, site)| Some((id, rooms(site, asked.get(id)?)))).collect();
        waiting.place(&idle, &mut asked);
    }
    asked.values_mut().for_each(Asked::sort);
    asked
}

/// What the sets that carry load, and all that could, carry beside what is asked of an island.
fn rooms(site: &SiteInput, asked: &Asked<'_>) -> [Watts; 2] {
    let sets = Sets::of(site);
    let fixed = asked.base + asked.work.iter().map(|work| work.watts).sum();
    let flow = flow_now(site);
    [sets.carrying(), sets.all()].map(|mask| {
        let choice = sets.choice(&site.site, mask, asked.opens);
        choice.secured(flow, asked) - fixed
    })
}

impl<'i> Asked<'i> {
    fn of(site: &SiteInput, modules: &[(&'i ModuleId, &'i ModuleInput)], price: Hashprice) -> Self {
        let unmanaged = site.report.as_ref().and_then(|report| report.unmanaged).unwrap_or(Watts::ZERO);
        let unmanaged = unmanaged.max(site.site.unmanaged);
        let mut asked = Self { base: unmanaged, unmanaged, ..Self::default() };
        for (_, given) in modules {
            asked.base += given.module.base_draw();
            asked.modules.push((&given.module.id, given.module.most().max(given.module.base_draw())));
            asked.miners(given, site.site.relay, price);
        }
        asked
    }

    /// The most that all of it can draw where no module may draw more than `rejected` beside firm work on another one.
    pub(super) fn most(&self, rejected: Watts) -> Watts {
        let alone = |module: &ModuleId| self.firm.iter().all(|firm| *firm == module);
        let of = |(id, most): &(&ModuleId, Watts)| if alone(id) { *most } else { (*most).min(rejected) };
        self.unmanaged + self.modules.iter().map(of).sum()
    }

    fn add(&mut self, work: Work, one: &Workload, module: &'i ModuleId) {
        if one.spec.tier == Tier::Firm {
            self.firm.insert(module);
        }
        self.work.push(work);
    }

    /// The miners of a module, as far as it may draw.
    fn miners(&mut self, given: &ModuleInput, relay: bool, price: Hashprice) {
        let module = &given.module;
        let mut room = (module.most() - module.base_draw()).at_least_zero();
        for group in module.groups.values() {
            for (nth, (watts, rate)) in mining::hull(group).into_iter().enumerate() {
                let metered = module.with_loss(watts);
                let taken = metered.min(room);
                let rate = Hashrate::new(rate.get()).fraction(taken.get(), metered.get().max(1));
                self.mining.push((taken, price.per_hour(rate)));
                room -= taken;
                if relay && is_fast(group) && given.link.is_in_touch() {
                    // Its pieces come one after the other.
                    self.grain += if nth == 0 { group.full().power } else { Watts::ZERO };
                    self.fast += module.behind_loss(taken).at_least_zero();
                    self.opens = self.opens.max(group.shed.opens.map(|opens| opens.min(FAST)));
                }
            }
        }
    }

    fn sort(&mut self) {
        // Stable: pieces of one group stand steepest first.
        self.mining.sort_by(|(a, earns), (b, more)| {
            let (first, second) = (i128::from(earns.get()), i128::from(more.get()));
            (second * i128::from(a.get())).cmp(&(first * i128::from(b.get())))
        });
        self.work.sort_by(|a, b| {
            let (first, second) = (i128::from(a.hourly.get()), i128::from(b.hourly.get()));
            (second * i128::from(a.watts.get())).cmp(&(first * i128::from(b.watts.get())))
        });
    }
}

impl Work {
    fn of(one: &Workload, module: &Module, runs: bool) -> Option<Self> {
        let watts = worth::run_watts(one, module)?;
        // No promise runs that could be broken where nothing was promised.
        let hourly = if pay::is_owed(one) {
            worth::run_per_hour(one)
        } else {
            one.spec.price.times(one.spec.gpus.into())
        };
        Some(Self { watts, hourly, runs, firm: one.spec.tier == Tier::Firm })
    }
}

/// Where those who wait are counted.
struct Waiting<'i> {
    free: Free<'i>,
    /// What the sets that run, and all that could run, carry beside what is asked of them so far.
    rooms: BTreeMap<&'i SiteId, [Watts; 2]>,
    /// A module of each island with such GPUs: what a GPU draws there.
    hosts: BTreeMap<(&'i SiteId, &'i str), &'i Module>,
}

impl<'i> Waiting<'i> {
    /// All GPUs that somebody could start on.
    fn of(input: &'i Input) -> Self {
        let (mut free, mut hosts): (Free<'i>, _) = (BTreeMap::new(), BTreeMap::new());
        let open = |given: &&ModuleInput| given.link == Link::Online && !given.cordoned && !given.draining;
        for given in input.modules.values().filter(open) {
            for (pool, config) in &given.module.pools {
                let report = given.report.as_ref().and_then(|report| report.pools.get(pool));
                let up = report.map_or(config.servers, |report| report.up.min(config.servers));
                let site = &given.module.site;
                *free.entry(config.gpu.as_str()).or_default().entry(site).or_default() +=
                    i64::from(up) * i64::from(config.gpus);
                hosts.entry((site, config.gpu.as_str())).or_insert(&given.module);
            }
        }
        Self { free, rooms: BTreeMap::new(), hosts }
    }

    /// Takes the GPUs that somebody holds.
    fn hold(&mut self, one: &Workload, site: &SiteId) {
        let free = self.free.get_mut(one.spec.gpu.as_str()).and_then(|free| free.get_mut(site));
        free.into_iter().for_each(|free| *free -= i64::from(one.spec.gpus));
    }

    fn some_could_start(&self, idle: &[&Workload]) -> bool {
        let most = |gpu: &str| self.free.get(gpu)?.values().max().copied();
        idle.iter().any(|one| most(&one.spec.gpu).is_some_and(|most| most >= i64::from(one.spec.gpus)))
    }

    fn place(&mut self, waiting: &[&'i Workload], asked: &mut BTreeMap<&'i SiteId, Asked<'i>>) {
        for one in waiting {
            let Some((site, work)) = self.seat(one) else { continue };
            let host = self.hosts.get(&(site, one.spec.gpu.as_str()));
            let Some((asked, host)) = asked.get_mut(site).zip(host) else { continue };
            asked.add(work, one, &host.id);
        }
    }

    /// An island with room for it, whose GPUs and watts are then taken.
    fn seat(&mut self, one: &'i Workload) -> Option<(&'i SiteId, Work)> {
        let gpus = i64::from(one.spec.gpus);
        let free = self.free.get(one.spec.gpu.as_str())?;
        let open = free.iter().filter(|(site, free)| **free >= gpus && one.may_run_on(site));
        let open: Vec<(&SiteId, Work)> = open
            .filter_map(|(site, _)| {
                let host = self.hosts.get(&(*site, one.spec.gpu.as_str()))?;
                Some((*site, Work::of(one, host, false)?))
            })
            .take(TRIES)
            .collect();
        let left = |site: &SiteId, which: usize| self.rooms.get(site).map_or(Watts::ZERO, |room| room[which]);
        let now = open.iter().find(|(site, work)| left(site, 0) >= work.watts);
        let most = open.iter().filter(|(site, work)| left(site, 1) >= work.watts);
        let found = now.or_else(|| most.max_by_key(|(site, _)| (left(site, 1), Reverse(*site))))?;
        let (site, work) = (found.0, found.1.clone());
        *self.free.get_mut(one.spec.gpu.as_str())?.get_mut(site)? -= gpus;
        for room in self.rooms.get_mut(site)? {
            *room -= work.watts;
        }
        Some((site, work))
    }
}
