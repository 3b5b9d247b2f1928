//! Events to be looked at in steps of 10 ms, since five minutes show neither load steps nor frequency: drawn by the seed from the
//! replayed time, one kind after the other.
//!
//! An event is drawn for a moment; where it cannot happen then (one set online, a plan that moves nothing) it waits for the next one
//! at which it can. Read next: [`crate::engine::watch`], which tells of each moment, and whoever replays the event on real physics.

use std::fmt;

use model::module::Actuator;
use model::plan::{Plan, SitePlan};
use model::report::GensetState;
use model::site::Site;
use model::{GensetId, MinerGroupId, ModuleId, SiteId, Watts, WorkloadId};
use planner::Input;
use serde::{Serialize, Serializer};

use crate::chance::{Chance, Purpose};

/// A step begins: what the planner was shown, and the plan that it made of it. The plan in force, under which the step before
/// has passed, is the input's parent.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Number of the step since the replay began.
    pub step: usize,
    /// What is known. Its reports are the plant as the step before left it.
    pub input: &'a Input,
    /// What takes over now.
    pub plan: &'a Plan,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The largest set that carries load trips.
    LargestSet,
    /// A new plan takes over.
    Move,
    /// Another set trips.
    OtherSet,
    /// The feeder or the gang that draws most is gone at once.
    Load,
    /// The main breaker of the module that draws most opens.
    Module,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A set trips.
    Set(GensetId),
    /// The feeder of a miner group opens.
    Feeder(ModuleId, MinerGroupId),
    /// A run ends without notice.
    Run(ModuleId, WorkloadId),
    /// The main breaker of a module opens.
    Module(ModuleId),
    /// The new plan takes over, and nothing breaks.
    Plan,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its kind.
    pub kind: Kind,
    /// Where.
    pub site: SiteId,
    /// What happens.
    pub strike: Strike,
}

/// Draws events; hand it every moment of a replay in order.
#[derive(Clone, Debug)]
pub struct Sampler {
    chance: Chance,
    /// Steps from which events are looked for, the last one first.
    waiting: Vec<(usize, Kind)>,
}

impl Kind {
    /// All of them, in the order in which they are drawn.
    pub const ALL: [Kind; 5] = [Kind::LargestSet, Kind::Move, Kind::OtherSet, Kind::Load, Kind::Module];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::LargestSet => "largest-set",
            Kind::Move => "move",
            Kind::OtherSet => "other-set",
            Kind::Load => "load",
            Kind::Module => "module",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { site, strike, .. } = self;
        match strike {
            Strike::Set(set) => write!(f, "site {site}: set {set} trips"),
            Strike::Feeder(module, group) => write!(f, "site {site}: the feeder of {module}/{group} opens"),
            Strike::Run(module, run) => write!(f, "site {site}: run {run} on {module} ends at once"),
            Strike::Module(module) => write!(f, "site {site}: the main breaker of {module} opens"),
            Strike::Plan => write!(f, "site {site}: the next plan takes over"),
        }
    }
}

impl Sampler {
    /// So many events over so many steps.
    pub fn new(seed: u64, steps: usize, events: usize) -> Self {
        let mut chance = Chance::new(seed, Purpose::Events, [0, 0]);
        let kinds = Kind::ALL.into_iter().cycle().take(events);
        // The first step has no plan in force before it.
        let mut waiting: Vec<(usize, Kind)> = kinds.map(|kind| (1 + chance.below(steps), kind)).collect();
        waiting.sort_by(|one, other| other.cmp(one));
        Self { chance, waiting }
    }

    /// The events of this moment.
    pub fn due(&mut self, moment: &Moment<'_>) -> Vec<Event> {
        let mut due = Vec::new();
        let mut later = Vec::new();
        while let Some((_, kind)) = self.waiting.pop_if(|(step, _)| *step <= moment.step) {
            match self.find(moment, kind) {
                Some(event) => due.push(event),
                None => later.push((moment.step + 1, kind)),
            }
        }
        later.reverse();
        self.waiting.extend(later);
        due
    }

    /// Events that were drawn and found no moment at which they could happen.
    pub fn left(&self) -> usize {
        self.waiting.len()
    }

    /// An event of this kind, at the first site from a drawn one on where it can happen.
    fn find(&mut self, moment: &Moment<'_>, kind: Kind) -> Option<Event> {
        let parent = moment.input.parent.as_ref()?;
        let sites: Vec<&SiteId> = moment.input.sites.keys().collect();
        let first = self.chance.below(sites.len());
        let pick = self.chance.unit();
        let mut order = sites.iter().cycle().skip(first).take(sites.len());
        order.find_map(|id| {
            let before = parent.sites.get(*id)?;
            let strike = match kind {
                Kind::LargestSet => largest(moment.input, id, before).map(Strike::Set),
                Kind::OtherSet => other(moment.input, id, before, pick).map(Strike::Set),
                Kind::Load => load(moment.input, id),
                Kind::Module => carrying(moment.input, id, before)
                    .and_then(|_| module(moment.input, id))
                    .map(Strike::Module),
                Kind::Move => moves(before, moment.plan.sites.get(*id)?).then_some(Strike::Plan),
            };
            Some(Event { kind, site: (*id).clone(), strike: strike? })
        })
    }
}

/// The sets that carry load, in an island where losing one is the first failure and leaves another.
fn online<'a>(input: &'a Input, id: &SiteId, plan: &SitePlan) -> Option<(&'a Site, Vec<&'a GensetId>)> {
    carrying(input, id, plan).filter(|(_, online)| online.len() >= 2)
}

/// The sets that carry load, in an island where no set that should run is broken: whatever is lost next is the first failure.
fn carrying<'a>(input: &'a Input, id: &SiteId, plan: &SitePlan) -> Option<(&'a Site, Vec<&'a GensetId>)> {
    let given = input.sites.get(id)?;
    let report = given.report.as_ref()?;
    let state = |set: &GensetId| report.gensets.get(set).map(|set| set.state);
    let wanted = plan.gensets.iter().filter(|(_, runs)| **runs).map(|(set, _)| set);
    let broken = |set: &GensetId| !matches!(state(set), Some(GensetState::Online | GensetState::Starting));
    let online: Vec<&GensetId> =
        given.site.gensets.keys().filter(|set| state(set) == Some(GensetState::Online)).collect();
    (!wanted.into_iter().any(broken)).then_some((&given.site, online))
}

/// Sets share load by rating, so the largest is the one with the largest rating; the first of equals.
fn largest(input: &Input, id: &SiteId, plan: &SitePlan) -> Option<GensetId> {
    let (site, online) = online(input, id, plan)?;
    let rating = |set: &GensetId| site.gensets.get(set).map_or(Watts::ZERO, |set| set.rating);
    online.into_iter().rev().max_by_key(|set| rating(set)).cloned()
}

fn other(input: &Input, id: &SiteId, plan: &SitePlan, pick: f64) -> Option<GensetId> {
    let largest = largest(input, id, plan)?;
    let others: Vec<&GensetId> =
        online(input, id, plan)?.1.into_iter().filter(|set| **set != largest).collect();
    // `pick` lies below one.
    others.get((pick * others.len() as f64) as usize).map(|set| (*set).clone())
}

/// What draws most of all that hangs on one feeder or runs as one gang.
fn load(input: &Input, id: &SiteId) -> Option<Strike> {
    let (feeders, gangs) = (feeders(input, id)?, gangs(input, id));
    let feeders = feeders
        .into_iter()
        .map(|(module, group, drawn)| (drawn, Strike::Feeder(module.clone(), group.clone())));
    let gangs =
        gangs.into_iter().map(|(module, run, drawn)| (drawn, Strike::Run(module.clone(), run.clone())));
    let all: Vec<(Watts, Strike)> = feeders.chain(gangs).filter(|(drawn, _)| *drawn > Watts::ZERO).collect();
    // The first of equals.
    all.into_iter().rev().max_by_key(|(drawn, _)| *drawn).map(|(_, strike)| strike)
}

/// The module that draws most: its least, and what its feeders and gangs add.
fn module(input: &Input, id: &SiteId) -> Option<ModuleId> {
    let (feeders, gangs) = (feeders(input, id)?, gangs(input, id));
    let here = input.modules.values().map(|given| &given.module).filter(|module| module.site == *id);
    let drawn = here.map(|module| {
        let miners = feeders.iter().filter(|(of, ..)| **of == module.id).map(|(.., drawn)| *drawn);
        let busy = gangs.iter().filter(|(of, ..)| **of == module.id).map(|(.., drawn)| *drawn);
        (module.auxiliary + miners.chain(busy).sum::<Watts>(), &module.id)
    });
    drawn.collect::<Vec<_>>().into_iter().rev().max_by_key(|(drawn, _)| *drawn).map(|(_, id)| id.clone())
}

/// What each feeder of a live island carries.
fn feeders<'a>(input: &'a Input, id: &SiteId) -> Option<Vec<(&'a ModuleId, &'a MinerGroupId, Watts)>> {
    let gensets = &input.sites.get(id)?.report.as_ref()?.gensets;
    if !gensets.values().any(|set| set.state == GensetState::Online) {
        return None;
    }
    let here = input.modules.values().filter(|given| given.module.site == *id);
    let feeders = here.flat_map(|given| {
        let module = &given.module;
        let groups = module.groups.iter().filter(|(_, group)| group.shed.actuator == Actuator::Feeder);
        groups.filter_map(|(group, _)| {
            Some((&module.id, group, given.report.as_ref()?.groups.get(group)?.power?))
        })
    });
    Some(feeders.collect())
}

/// What each gang of an island adds to its servers' idle draw.
fn gangs<'a>(input: &'a Input, id: &SiteId) -> Vec<(&'a ModuleId, &'a WorkloadId, Watts)> {
    let holding = input.workloads.values().filter(|work| work.status.phase.holds());
    let gangs = holding.filter_map(|work| {
        let placement = work.status.placement.as_ref()?;
        let module = &input.modules.get(&placement.module).filter(|given| given.module.site == *id)?.module;
        let drawn = module.pools.get(&placement.pool)?.per_gpu().times(work.spec.gpus.into());
        Some((&module.id, &work.id, drawn))
    });
    gangs.collect()
}

/// Whether the next plan has somebody do something else. A ceiling that follows gas alone moves nothing.
fn moves(before: &SitePlan, after: &SitePlan) -> bool {
    let of = |plan: &SitePlan| {
        let modules = plan.modules.iter();
        modules
            .map(|(id, module)| (id.clone(), (module.miners.clone(), module.runs.clone())))
            .collect::<Vec<_>>()
    };
    before.gensets != after.gensets || of(before) != of(after)
}
