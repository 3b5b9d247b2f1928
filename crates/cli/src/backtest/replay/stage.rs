//! One event in steps of 10 ms: the island as the back-test left it, an agent's mind in each module, the controller's pure half, and
//! the judge.
//!
//! Three seconds pass under the plan in force, then the event strikes, then a minute. The plan in force stays in force after a loss:
//! what holds the island is envelopes and reflex alone, as it must without a link. Read next: [`super::judge`].

use std::collections::BTreeMap;

use ::backtest::events::{Event, Moment, Strike};
use control::brain::{Brain, Config};
use control::envelope::MAX_VALIDITY;
use control::island::Island as Facts;
use control::port::Command;
use control::sabotage::Sabotages;
use model::envelope::Directive;
use model::fleet::Fleet;
use model::module::{MinerGroup, Module};
use model::plan::GroupTarget;
use model::report::GroupReport;
use model::site::Site;
use model::workload::Workload;
use model::{BootStamp, MinerGroupId, ModuleId, Span, Time, WorkloadId};
use planner::Input;
use sim::fault::{Fault, Kind};
use sim::island::{Found, Island};

use super::desk::{Desk, Order, committed};
use super::judge::{Judge, Verdict};

/// Seconds before the event: three readings of every meter.
const BEFORE: i64 = 3;
/// Seconds after it: a feeder rearms after 30 s, and miners that wake are at work half a minute later.
const AFTER: i64 = 60;
/// Ticks of a second.
const TICKS: i64 = 100;

/// Why an event could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The moment has no such site or no plan for it.
    #[error("nobody planned for site {0} at that moment; report this as a defect of the back-test")]
    Unplanned(model::SiteId),
    /// The plant's state is none that the simulator takes.
    #[error("the state of the plant does not fit the simulator: {0}")]
    Found(#[from] sim::island::Misfound),
    /// An agent refused what its plan wants it told.
    #[error("module {module} refuses its directive: {why}")]
    Refused { module: ModuleId, why: control::envelope::Error },
}

/// How the agents are set up.
#[derive(Clone, Debug)]
pub struct Agents {
    /// Their reflexes act.
    pub reflex: bool,
    /// Faults built in on purpose.
    pub sabotage: Sabotages,
}

/// Replays one event of a moment.
pub fn play(moment: &Moment<'_>, event: &Event, agents: &Agents) -> Result<Verdict, Error> {
    let unplanned = || Error::Unplanned(event.site.clone());
    let input = moment.input;
    let site = &input.sites.get(&event.site).ok_or_else(unplanned)?.site;
    let parent = input.parent.as_ref().ok_or_else(unplanned)?;
    let (before, after) =
        (parent.sites.get(&site.id).zip(moment.plan.sites.get(&site.id))).ok_or_else(unplanned)?;
    let modules: Vec<Module> = input
        .modules
        .values()
        .map(|given| &given.module)
        .filter(|module| module.site == site.id)
        .cloned()
        .collect();
    let fleet = Fleet { sites: vec![site.clone()], modules: modules.clone(), offerings: Vec::new() };
    let next: BTreeMap<WorkloadId, Workload> = committed(after, &input.workloads);
    let order = Order { generation: parent.generation, plan: before, workloads: &input.workloads };
    let start = begin(input.now);
    let desk = Desk::new(site, &modules, order, &boot(Span::ZERO), start);
    let found = found(input, event, &desk);
    let island = Island::found(site, &modules, moment.step as u64, start, &found)?;
    let held = desk.held();
    let judge = Judge::new(&fleet, site, &island, &held);
    let mut stage = Stage { island, minds: minds(site, &modules, agents), desk, judge };
    for directive in held.into_values() {
        stage.adopt(directive)?;
    }
    stage.seconds(BEFORE)?;
    match event.strike {
        Strike::Plan => {
            let order = Order { generation: moment.plan.generation, plan: after, workloads: &next };
            stage.desk.follow(order);
        }
        _ => stage.strike(event),
    }
    stage.seconds(AFTER)?;
    let Stage { island, judge, .. } = stage;
    Ok(judge.finish(&island))
}

/// Whole seconds, so that ticks and seconds of the island meet.
fn begin(now: Time) -> Time {
    now.floor_to(Span::secs(1))
}

/// What the agents' boot clocks read so long after the beginning: [`Island::found`] has the same.
fn boot(at: Span) -> BootStamp {
    BootStamp { boot_id: sim::island::Options::default().boot.boot_id, at }
}

fn minds(site: &Site, modules: &[Module], agents: &Agents) -> BTreeMap<ModuleId, Brain> {
    let mind = |module: &Module| {
        let config = Config {
            module: module.clone(),
            island: Facts::of(site),
            validity: MAX_VALIDITY,
            reflex: agents.reflex,
            sabotage: agents.sabotage.clone(),
        };
        (module.id.clone(), Brain::new(config, None))
    };
    modules.iter().map(mind).collect()
}

/// The plant as the step before left it.
fn found(input: &Input, event: &Event, desk: &Desk<'_>) -> Found {
    let report = input.sites.get(&event.site).and_then(|given| given.report.as_ref());
    let here = input.modules.values().filter(|given| given.module.site == event.site);
    let miners = here.flat_map(|given| {
        let groups = given.report.iter().flat_map(|report| &report.groups);
        groups.filter_map(|(id, group)| {
            let target = drawing(given.module.groups.get(id)?, group);
            Some(((given.module.id.clone(), id.clone()), target))
        })
    });
    let gensets = report.iter().flat_map(|report| &report.gensets);
    Found {
        gensets: gensets.map(|(id, set)| (id.clone(), (set.state, set.for_span))).collect(),
        flow: report.and_then(|report| report.gas).unwrap_or_default(),
        buffer: report.and_then(|report| report.buffer).unwrap_or_default(),
        miners: miners.collect::<BTreeMap<(ModuleId, MinerGroupId), GroupTarget>>(),
        runs: desk.runs(),
    }
}

/// What the miners of a group do: as they were set, or so many fewer as the plant shed.
fn drawing(config: &MinerGroup, report: &GroupReport) -> GroupTarget {
    let GroupReport { awake, point, power, .. } = *report;
    let told = GroupTarget { awake, point };
    let Some(power) = power.filter(|power| *power < config.draw(awake, point.into())) else { return told };
    let each = config.draw(1, point.into()) - config.draw(0, 0);
    let whole = (power - config.draw(0, 0)).at_least_zero().get().checked_div(each.get().max(1));
    GroupTarget { awake: whole.and_then(|whole| u32::try_from(whole).ok()).unwrap_or(0).min(awake), point }
}

/// An island, its agents, its controller and its judge.
struct Stage<'a> {
    island: Island,
    minds: BTreeMap<ModuleId, Brain>,
    desk: Desk<'a>,
    judge: Judge<'a>,
}

impl Stage<'_> {
    fn seconds(&mut self, seconds: i64) -> Result<(), Error> {
        for tick in 1..=seconds * TICKS {
            self.tick(tick % TICKS == 0);
            self.judge.tick(&self.island, self.island.now());
            if tick % TICKS == 0 {
                self.report()?;
            }
        }
        Ok(())
    }

    /// One step: physics, then every agent reads, then all act.
    fn tick(&mut self, slow: bool) {
        self.island.step();
        let mut acts: Vec<(ModuleId, Vec<Command>)> = Vec::new();
        for (module, mind) in &mut self.minds {
            let commands = mind.tick(&self.island.readings(module, slow));
            let sheds = mind.take_sheds();
            if let (false, Some(held)) = (sheds.is_empty(), mind.held()) {
                self.judge.shed(held, &sheds);
            }
            if !commands.is_empty() {
                acts.push((module.clone(), commands));
            }
        }
        for (module, commands) in acts {
            self.island.apply(&module, &commands);
        }
    }

    /// Agents report, and are told what is new.
    fn report(&mut self) -> Result<(), Error> {
        let now = self.island.now();
        for mind in self.minds.values() {
            if let Some(report) = mind.report(0) {
                self.desk.hear(&report, now);
            }
        }
        self.desk.tell(now).into_iter().try_for_each(|directive| self.adopt(directive))
    }

    fn adopt(&mut self, directive: Directive) -> Result<(), Error> {
        let module = directive.envelope.module.clone();
        let stamp = self.island.readings(&module, false).boot;
        if let Some(mind) = self.minds.get_mut(&module) {
            self.judge.adopted(&directive, &stamp, self.island.now());
            mind.adopt(directive, &stamp).map_err(|why| Error::Refused { module, why })?;
        }
        Ok(())
    }

    /// Something is lost.
    fn strike(&mut self, event: &Event) {
        let gone = match &event.strike {
            Strike::Module(module) => Some(module),
            _ => None,
        };
        self.judge.loses(self.island.now(), gone);
        match &event.strike {
            Strike::Set(set) => {
                let kind = Kind::GensetTrip(Some(set.clone()));
                self.island.fault(&Fault { at: Span::ZERO, site: None, kind });
            }
            Strike::Feeder(module, group) => {
                self.island.apply(module, &[Command::OpenFeeder(group.clone())]);
            }
            Strike::Run(module, run) => {
                self.island.apply(module, &[Command::KillRun { workload: run.clone() }]);
            }
            Strike::Module(module) => {
                self.island.lose_module(module);
            }
            Strike::Plan => {}
        }
    }
}
