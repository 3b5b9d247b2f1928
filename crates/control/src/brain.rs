//! The control thread's whole mind: readings in, commands out.
//!
//! It assumes one call of [`Brain::tick`] for each tick of the plant, and that a directive was persisted before it is adopted.
//! The order of a second is: protect, end, settle down, start, raise; so nothing goes up before everything that must come down
//! was told to. Read [`crate::reflex`] and [`crate::regulation`] next.

use std::collections::{BTreeMap, VecDeque};

use model::envelope::{Directive, Grant, RungLoad};
use model::module::Module;
use model::plan::GroupTarget;
use model::report::{
    EnvelopeReport, EnvelopeState, Finding, GensetState, GroupReport, MAX_FINDINGS, Report, STALE_AFTER,
    Switch, Verified,
};
use model::site::Frequency;
use model::{BootStamp, GensetId, MinerGroupId, Span, Time, Watts};

use crate::envelope::{self, Accepted, Bounds, Holder, Standing};
use crate::estimate::Busy;
use crate::island::Island;
use crate::lead::Lead;
use crate::meters::Meters;
use crate::port::{Command, Fast, Readings, Slow};
use crate::reflex::{Cause, Reflex, Shed, View};
use crate::regulation::{Regulation, Situation};
use crate::runs::{self, Runs};
use crate::sabotage::{Sabotage, Sabotages};
use crate::unpaid::{self, Unpaid};

/// Nothing goes up for so long after the last shed or a dark island: sets recover within 10 s (ISO 8528-5, class G1).
const RECOVERY: Span = Span::secs(10);
/// Frequency may stand off by so much while something goes up, and by less where the first rung is near.
const CALM: Frequency = Frequency::new(500);
/// Distance that frequency keeps from the first rung while something goes up.
const CLEAR_OF_RUNG: Frequency = Frequency::new(300);
/// A request to the genset controller is repeated after this.
const ASK_AGAIN: Span = Span::secs(10);
/// An agent that comes up on a new boot without any envelope leaves its devices as it found them for so long: a controller that
/// is there answers the first report within seconds, and dropping a warm island's load to wait for it would be a load rejection.
const BUMPLESS: Span = Span::secs(15);
/// Most sheds kept until they are taken: 16 groups and pools in four bursts.
const MAX_SHEDS: usize = 64;

/// How an agent is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The module it serves.
    pub module: Module,
    /// The island the module stands on.
    pub island: Island,
    /// Longest envelope validity it accepts, usually [`envelope::MAX_VALIDITY`].
    pub validity: Span,
    /// Whether the reflex acts.
    pub reflex: bool,
    /// Faults built in on purpose.
    pub sabotage: Sabotages,
}

/// What an agent decides on its own.
#[derive(Debug)]
pub struct Brain {
    config: Config,
    holder: Holder,
    restored: Option<String>,
    reflex: Reflex,
    regulation: Option<Regulation>,
    runs: Runs,
    meters: Meters,
    proven: BTreeMap<MinerGroupId, (Option<Verified>, u32)>,
    last: Option<Last>,
    slow: Option<(Span, Slow)>,
    drawn: BTreeMap<MinerGroupId, Watts>,
    disturbed: Option<Span>,
    /// When the first second was read.
    began: Option<Span>,
    asked: BTreeMap<GensetId, Span>,
    storage: Lead,
    import: Lead,
    /// Every pool has been away for long.
    is_unpaid: bool,
    unpaid: Unpaid,
    refused: Option<String>,
    found: Vec<Finding>,
    sheds: VecDeque<Shed>,
}

/// The last tick, for reports.
#[derive(Clone, Debug)]
struct Last {
    now: Time,
    boot: BootStamp,
    fast: Fast,
}

impl Brain {
    /// Starts, or goes on with the directive that was persisted. After a restart within one boot miners may have been reversed
    /// just before, so that they are left as they are for one dwell; protection is exempt.
    pub fn new(mut config: Config, restored: Option<Directive>) -> Self {
        config.module = config.sabotage.module(config.module);
        let bounds = Bounds { module: config.module.id.clone(), validity: config.validity };
        let reflex = if config.reflex { Reflex::new } else { Reflex::disabled };
        Self {
            restored: restored.as_ref().map(|held| held.envelope.answers.boot_id.clone()),
            holder: Holder::new(bounds, restored),
            reflex: reflex(config.island.clone()),
            regulation: None,
            runs: Runs::default(),
            meters: Meters::default(),
            proven: BTreeMap::new(),
            last: None,
            slow: None,
            drawn: BTreeMap::new(),
            disturbed: None,
            began: None,
            asked: BTreeMap::new(),
            storage: Lead::default(),
            import: Lead::default(),
            is_unpaid: false,
            unpaid: Unpaid::default(),
            refused: None,
            found: Vec::new(),
            sheds: VecDeque::new(),
            config,
        }
    }

    /// Takes a directive, or says why not. Persist it before this call, after [`envelope::accept`] took it.
    pub fn adopt(&mut self, directive: Directive, now: &BootStamp) -> Result<Accepted, envelope::Error> {
        let outcome = self.holder.offer(directive, now);
        self.refused = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    /// The directive that is held, in force or not.
    pub fn held(&self) -> Option<&Directive> {
        self.holder.held()
    }

    /// Takes the proxy's estimates: for each group the verified hash rate (scaled) and the connections it has.
    pub fn verified(&mut self, proven: BTreeMap<MinerGroupId, (Option<Verified>, u32)>) {
        self.proven = proven;
    }

    /// Takes the proxy's word on whether every pool has been away for so long that miners may come down.
    pub fn unpaid(&mut self, is_unpaid: bool) {
        self.is_unpaid = is_unpaid;
    }

    /// One tick: what to command now.
    pub fn tick(&mut self, readings: &Readings) -> Vec<Command> {
        let at = readings.boot.at;
        let mut commands = self.react(readings);
        if let Some(slow) = &readings.slow {
            commands.extend(self.second(readings, slow));
            let drawn = slow.groups.iter().filter_map(|(id, group)| Some((id.clone(), group.power?)));
            self.drawn = drawn.collect();
            self.slow = Some((at, slow.clone()));
        }
        self.last =
            Some(Last { now: readings.now, boot: readings.boot.clone(), fast: readings.fast.clone() });
        commands
    }

    /// Where the envelope stands at `now`.
    pub fn standing(&self, now: &BootStamp) -> Standing {
        let standing = self.holder.standing(now, self.config.module.base_draw());
        match self.holder.held() {
            Some(held) if self.config.sabotage.has(Sabotage::IgnoreExpiry) => Standing {
                state: EnvelopeState::Valid,
                ceiling: held.envelope.grant.ceiling,
                age: Some(Span::ZERO),
            },
            _ => standing,
        }
    }

    /// What was shed since the last call, oldest first.
    pub fn take_sheds(&mut self) -> Vec<Shed> {
        self.sheds.drain(..).collect()
    }

    /// What to tell the controller, once a first tick was read. The caller counts `sequence`.
    pub fn report(&self, sequence: u64) -> Option<Report> {
        let last = self.last.as_ref()?;
        let fresh = self.slow.as_ref().filter(|(at, _)| last.boot.at - *at < STALE_AFTER);
        let slow = fresh.map(|(_, slow)| slow.clone()).unwrap_or_default();
        let standing = self.standing(&last.boot);
        let (fence, generation) =
            self.holder.held().map(|held| held.envelope.precedence()).unwrap_or_default();
        let mut findings = self.found.clone();
        findings.truncate(MAX_FINDINGS);
        Some(Report {
            module: self.config.module.id.clone(),
            sequence,
            stamp: last.boot.clone(),
            at: last.now,
            meter: slow.meter,
            switch: last.fast.switch,
            groups: self.group_reports(last, &slow),
            pools: slow.pools,
            runs: slow.runs,
            envelope: EnvelopeReport {
                fence,
                generation,
                state: standing.state,
                ceiling: standing.ceiling,
                refused: self.refused.clone(),
            },
            site: slow.site.filter(|_| self.config.module.wired),
            findings,
        })
    }

    fn group_reports(&self, last: &Last, slow: &Slow) -> BTreeMap<MinerGroupId, GroupReport> {
        let report = |(id, reading): (&MinerGroupId, &crate::port::GroupReading)| {
            let feeder = *last.fast.feeders.get(id)?;
            let (verified, connections) = self.proven.get(id).copied().unwrap_or((None, 0));
            // Miners come and go within the window: only a mean over the same time can be compared with what shares prove.
            let mean = verified.and_then(|it| self.meters.claimed(id, it.window, last.boot.at));
            let report = GroupReport {
                feeder,
                awake: reading.awake,
                point: reading.point,
                power: reading.power,
                claimed: mean.or(reading.claimed),
                verified,
                connections,
            };
            Some((id.clone(), report))
        };
        slow.groups.iter().filter_map(report).collect()
    }

    /// The reflex, every tick.
    fn react(&mut self, readings: &Readings) -> Vec<Command> {
        let grant = self.holder.held().map(|held| &held.envelope.grant);
        let module = &self.config.module;
        let storage = (module.wired && self.has_storage()).then(|| self.storage.told());
        let actions = self.reflex.tick(View { readings, grant, module, drawn: &self.drawn, storage });
        if !actions.is_empty() || self.reflex.is_dark() {
            self.disturbed = Some(readings.boot.at);
        }
        let mut commands = Vec::new();
        for (command, shed) in actions {
            if let Command::SetStorage(power) = &command {
                self.storage.called(*power, readings.boot.at);
            }
            if let Some(regulation) = &mut self.regulation {
                regulation.dropped(&self.config.module, &command, readings.boot.at);
            }
            self.record(shed);
            commands.push(command);
        }
        commands
    }

    /// Regulation, runs and meters, once a second.
    fn second(&mut self, readings: &Readings, slow: &Slow) -> Vec<Command> {
        let at = readings.boot.at;
        self.meters.listen(slow, &self.proven, at);
        let began = *self.began.get_or_insert(at);
        let standing = self.standing(&readings.boot);
        if standing.state == EnvelopeState::None && at - began < BUMPLESS {
            return Vec::new();
        }
        let directive = self.holder.held().cloned();
        let mut orders = self.orders(directive.as_ref(), readings, standing);
        let mut runs = std::mem::take(&mut self.runs);
        let same_boot = self.restored.as_ref() == Some(&readings.boot.boot_id);
        let mut regulation =
            self.regulation.take().unwrap_or_else(|| Regulation::new(same_boot.then_some(at)));
        if self.is_unpaid {
            orders.targets = self.hold_back(&orders, directive.as_ref(), readings, &regulation);
        } else {
            self.unpaid = Unpaid::default();
        }
        let view = runs::View {
            module: &self.config.module,
            reports: &slow.runs,
            drawn: &slow.drawn,
            directive: directive.as_ref(),
            standing,
            switch: readings.fast.switch,
            at,
            double: self.config.sabotage.has(Sabotage::DoubleStart),
        };
        runs.observe(view);
        let (active, assigned) = runs.busy(view);
        let situation = orders.situation(&self.config.module, readings, slow, &active, &assigned);
        let (mut commands, mut findings) = regulation.observe(situation);
        let protected = regulate(&mut regulation, &mut runs, situation, view, &orders);
        commands.extend(protected.commands);
        commands.extend(self.ask_gensets(directive.as_ref(), standing, readings, slow));
        commands.extend(self.lead_converters(directive.as_ref(), standing, readings, slow));
        self.meters.observe(&self.config.module, slow, regulation.groups(), &self.proven, at);
        if !self.config.sabotage.has(Sabotage::NoFlag) {
            findings.extend(self.meters.findings());
        }
        findings.extend(self.unpaid_finding());
        for group in protected.opened {
            let load = RungLoad::Miners(group);
            self.record(Shed { at: readings.now, cause: Cause::Ceiling, load, rung: None });
        }
        self.found = findings;
        self.runs = runs;
        self.regulation = Some(regulation);
        commands
    }

    /// What is to be done in this second, after sabotage.
    fn orders(&self, directive: Option<&Directive>, readings: &Readings, standing: Standing) -> Orders {
        let sabotage = &self.config.sabotage;
        let grant = directive.map(|held| &held.envelope.grant);
        let miners = directive.map(|held| held.miners.clone()).unwrap_or_default();
        let share = (!sabotage.has(Sabotage::IgnoreShare))
            .then(|| grant.map(|grant| grant.share).unwrap_or_default());
        let ignored = sabotage.has(Sabotage::IgnoreCeiling);
        Orders {
            ceiling: if ignored { self.config.module.most() } else { standing.ceiling },
            ai_floor: grant.map_or(Watts::ZERO, |grant| grant.ai_floor),
            share,
            targets: sabotage.targets(miners, &self.config.module, readings.now),
            caps: directive.map(|held| held.caps.clone()).unwrap_or_default(),
            follow: readings.fast.switch == Switch::Remote,
            calm: self.is_calm(grant, readings.boot.at),
        }
    }

    /// The targets of miners whose work nobody pays. What follows no target is held by nothing.
    fn hold_back(
        &mut self,
        orders: &Orders,
        directive: Option<&Directive>,
        readings: &Readings,
        regulation: &Regulation,
    ) -> BTreeMap<MinerGroupId, GroupTarget> {
        self.unpaid.second(unpaid::View {
            module: &self.config.module,
            island: &self.config.island,
            gensets: &readings.fast.gensets,
            grant: directive.map(|held| &held.envelope.grant),
            targets: &orders.targets,
            groups: regulation.groups(),
            calm: orders.calm && orders.follow,
            now: readings.now,
            at: readings.boot.at,
        })
    }

    fn unpaid_finding(&self) -> Option<Finding> {
        self.is_unpaid.then(|| Finding {
            code: "work-unpaid".into(),
            subject: format!("module {}", self.config.module.id),
            message: format!(
                "every mining pool is away; miners of {} sleep for it, those awake are ballast or reserve or come down in \
                 steps: see to the pools and the way to them",
                self.unpaid.held()
            ),
        })
    }

    /// Whether the island is at rest: frequency known, near what is expected and clear of the first rung, and nothing was shed
    /// and nothing dark for a while.
    fn is_calm(&self, grant: Option<&Grant>, at: Span) -> bool {
        let first = grant.and_then(|grant| grant.ladder.iter().map(|rung| rung.below).min());
        let band = first.map_or(CALM, |below| (below - CLEAR_OF_RUNG).clamp(CALM.fraction(1, 5), CALM));
        let near = self.reflex.deviation().is_some_and(|deviation| deviation.abs() <= band);
        near && self.disturbed.is_none_or(|since| at - since >= RECOVERY)
    }

    /// Asks the genset controller for what the directive says; the wired module alone, under a valid envelope alone.
    fn ask_gensets(
        &mut self,
        directive: Option<&Directive>,
        standing: Standing,
        readings: &Readings,
        slow: &Slow,
    ) -> Vec<Command> {
        let (Some(directive), Some(site)) = (directive, &slow.site) else { return Vec::new() };
        let acts = self.config.module.wired
            && standing.state == EnvelopeState::Valid
            && readings.fast.switch == Switch::Remote;
        if !acts {
            return Vec::new();
        }
        let at = readings.boot.at;
        self.asked.retain(|_, since| at - *since < ASK_AGAIN);
        let mut commands = Vec::new();
        for (id, run) in &directive.gensets {
            let state = site.gensets.get(id).map(|set| set.state);
            let command = match (run, state) {
                (true, Some(GensetState::Off)) => Command::StartGenset(id.clone()),
                (false, Some(GensetState::Online | GensetState::Starting)) => Command::StopGenset(id.clone()),
                _ => continue,
            };
            if !self.asked.contains_key(id) {
                self.asked.insert(id.clone(), at);
                commands.push(command);
            }
        }
        commands
    }

    /// Storage and grid tie follow their targets under a valid envelope, and come to rest without; the wired module alone.
    fn lead_converters(
        &mut self,
        directive: Option<&Directive>,
        standing: Standing,
        readings: &Readings,
        slow: &Slow,
    ) -> Vec<Command> {
        if !self.config.module.wired {
            return Vec::new();
        }
        let at = readings.boot.at;
        let calm = self.is_calm(directive.map(|held| &held.envelope.grant), at);
        let follows = standing.state == EnvelopeState::Valid && readings.fast.switch == Switch::Remote;
        let directive = directive.filter(|_| follows);
        let site = slow.site.as_ref();
        let stored = directive.and_then(|held| held.storage).map(Into::into);
        let said = site.and_then(|site| site.storage).map(Into::into);
        let stored = self.storage.second(stored, said, calm, at);
        let imported = directive.and_then(|held| held.import).map(Into::into);
        let said = site.and_then(|site| site.grid).map(Into::into);
        let imported = self.import.second(imported, said, calm, at);
        stored.map(Command::SetStorage).into_iter().chain(imported.map(Command::SetImport)).collect()
    }

    /// Whether the site's storage was there and ready when it was last read.
    fn has_storage(&self) -> bool {
        let site = self.slow.as_ref().and_then(|(_, slow)| slow.site.as_ref());
        site.and_then(|site| site.storage).is_some_and(|storage| storage.ready)
    }

    fn record(&mut self, shed: Shed) {
        if self.sheds.len() == MAX_SHEDS {
            self.sheds.pop_front();
        }
        self.sheds.push_back(shed);
    }
}

/// What is to be done in one second.
struct Orders {
    ceiling: Watts,
    ai_floor: Watts,
    share: Option<model::envelope::Share>,
    targets: BTreeMap<MinerGroupId, GroupTarget>,
    caps: BTreeMap<model::PoolId, Watts>,
    follow: bool,
    calm: bool,
}

impl Orders {
    fn situation<'a>(
        &'a self,
        module: &'a Module,
        readings: &'a Readings,
        slow: &'a Slow,
        active: &'a Busy,
        assigned: &'a Busy,
    ) -> Situation<'a> {
        Situation {
            module,
            slow,
            feeders: &readings.fast.feeders,
            at: readings.boot.at,
            now: readings.now,
            ceiling: self.ceiling,
            share: self.share,
            targets: &self.targets,
            caps: &self.caps,
            follow: self.follow,
            calm: self.calm,
            active,
            assigned,
        }
    }
}

/// What one second of regulation came to.
struct Regulated {
    commands: Vec<Command>,
    opened: Vec<MinerGroupId>,
}

/// One second: slow, protect, end, settle down, start, raise. A second in which the ceiling demanded something raises nothing.
fn regulate(
    regulation: &mut Regulation,
    runs: &mut Runs,
    situation: Situation<'_>,
    view: runs::View<'_>,
    orders: &Orders,
) -> Regulated {
    let mut commands = Vec::new();
    for given in runs.slow(view) {
        regulation.relieved(given.watts, given.within, view.at);
        commands.push(given.command);
    }
    let protection = regulation.protect(situation);
    let protects = !protection.commands.is_empty() || protection.short > Watts::ZERO;
    commands.extend(protection.commands);
    for given in runs.give_way(view, protection.short, orders.ceiling < orders.ai_floor) {
        regulation.relieved(given.watts, given.within, view.at);
        commands.push(given.command);
    }
    commands.extend(runs.end(view));
    if !protects {
        commands.extend(regulation.settle_down(situation));
        let mut headroom = regulation.headroom(situation);
        commands.extend(runs.start(view, &mut headroom));
        commands.extend(runs.lift(view, &mut headroom));
        commands.extend(regulation.raise(situation, &mut headroom));
    }
    Regulated { commands, opened: protection.opened }
}

#[cfg(test)]
mod tests;
