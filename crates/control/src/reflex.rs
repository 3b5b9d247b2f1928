//! The reflex: what opens within one tick of 10 ms, with no network and no plan.
//!
//! Three causes, in this order: a person's switch, the armed table (a set's breaker opens and the envelope says which rungs
//! make up for it; storage delivers first) and, as a backup, frequency. A rung is a deviation from the frequency expected in the site's governor mode
//! and is judged by what frequency will be when the rung has acted. It assumes a tick each [`crate::port::TICK`]; what it drops
//! [`crate::regulation`] restores. Read [`model::envelope`] for ladder and arming.

use std::collections::{BTreeMap, VecDeque};

use model::envelope::{Arming, Grant, Rung, RungLoad};
use model::module::{Actuator, Module};
use model::report::{FeederState, Switch};
use model::site::Frequency;
use model::{ContingencyId, GensetId, MinerGroupId, Span, Time, Watts};

use crate::island::Island;
use crate::port::{Command, Readings};

/// This far below the expected frequency everything on the ladder goes at once. Sets trip 2,500 to 3,000 mHz below nominal,
/// and 500 mHz pass in about 100 ms at the rates that follow the loss of one of four sets.
pub const COLLAPSE: Frequency = Frequency::new(2_000);
/// Readings over which the slope of frequency is taken: 6 readings span 50 ms, three cycles of the waveform.
const TRACE: usize = 6;
/// What the trace spans.
const TRACE_SPAN: Span = Span::new(50);
/// The expected frequency follows the load no faster than this each tick (200 mHz/s), so that the overload which follows a trip
/// does not pass for a settled load.
const DRIFT: Frequency = Frequency::new(2);
/// A breaker that is unknown for up to so many ticks is taken for unchanged: 100 ms, less than a feeder needs to open.
const HOLD_UNKNOWN: u32 = 10;
/// All breakers must read open for so many ticks before the island counts as dark: 30 ms outlast a glitch.
const DARK_TICKS: u32 = 3;
/// A load that was dropped is not dropped again for so long beyond its actuation time; after that a stuck one is told again.
const RETRY: Span = Span::secs(1);

/// Why something was shed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A set's breaker opened, and this contingency was armed for it.
    Armed(ContingencyId),
    /// Frequency fell below what the rung waits for.
    Frequency,
    /// Frequency fell so far that everything goes at once.
    Collapse,
    /// A person switched the module off or pressed the emergency stop.
    Switch,
    /// The island is dark.
    Blackout,
    /// The meter stood above the ceiling and firmware did not bring it down.
    Ceiling,
}

/// One thing that was shed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// When it was commanded.
    pub at: Time,
    /// Why.
    pub cause: Cause,
    /// What.
    pub load: RungLoad,
    /// Its place in the ladder, where it stands in one.
    pub rung: Option<u32>,
}

/// What the reflex looks at in one tick.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// This tick's readings.
    pub readings: &'a Readings,
    /// What is granted, in force or expired: protection does not expire.
    pub grant: Option<&'a Grant>,
    /// The module.
    pub module: &'a Module,
    /// What each group drew when it was last read.
    pub drawn: &'a BTreeMap<MinerGroupId, Watts>,
    /// What the site's storage was told to deliver; the wired module's agent alone leads it.
    pub storage: Option<Watts>,
}

/// What a tick sheds: each command with its record.
pub type Action = (Command, Shed);

/// The reflex of one agent.
#[derive(Clone, Debug)]
pub struct Reflex {
    island: Island,
    enabled: bool,
    sets: BTreeMap<GensetId, Memory>,
    expected: Option<Frequency>,
    // Invariant: at most `TRACE` readings, oldest first, without a gap.
    trace: VecDeque<Frequency>,
    // The last rung is at work until then.
    waits: Option<Span>,
    // Loads told to drop, and until when they are not told again.
    told: BTreeMap<RungLoad, Span>,
    dark_ticks: u32,
}

/// What is remembered of a set.
#[derive(Clone, Copy, Debug)]
struct Memory {
    closed: bool,
    power: Option<Watts>,
    unknown: u32,
}

impl Reflex {
    /// A reflex that acts.
    pub fn new(island: Island) -> Self {
        Self {
            island,
            enabled: true,
            sets: BTreeMap::new(),
            expected: None,
            trace: VecDeque::new(),
            waits: None,
            told: BTreeMap::new(),
            dark_ticks: 0,
        }
    }

    /// A reflex that answers the local switch and a dark island only, neither the armed table nor frequency: it shows what the
    /// island would do without us.
    pub fn disabled(island: Island) -> Self {
        Self { enabled: false, ..Self::new(island) }
    }

    /// One tick: what to drop now.
    pub fn tick(&mut self, view: View<'_>) -> Vec<Action> {
        let at = view.readings.boot.at;
        self.told.retain(|_, until| *until > at);
        self.follow_frequency(view.readings);
        let tripped = self.follow_breakers(view.readings);
        if matches!(view.readings.fast.switch, Switch::Off | Switch::EmergencyStop) {
            return self.drop_feeders(view, &Cause::Switch);
        }
        if self.is_dark() {
            return self.drop_feeders(view, &Cause::Blackout);
        }
        if !self.enabled {
            return Vec::new();
        }
        let mut actions = self.armed(view, &tripped);
        actions.extend(self.by_frequency(view));
        actions
    }

    /// How far frequency stands below what is expected; negative above, `None` when unknown.
    pub fn deviation(&self) -> Option<Frequency> {
        Some(self.expected? - *self.trace.back()?)
    }

    /// Whether the island has no source or its frequency is below half of nominal.
    pub fn is_dark(&self) -> bool {
        let stalled = self.trace.back().is_some_and(|&now| now < self.island.nominal.fraction(1, 2));
        self.dark_ticks >= DARK_TICKS || stalled
    }

    /// Keeps the trace and the slow estimate of what to expect.
    fn follow_frequency(&mut self, readings: &Readings) {
        let Some(frequency) = readings.fast.frequency else {
            self.trace.clear();
            return;
        };
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(frequency);
        let settled = self.island.settled(&readings.fast.gensets);
        self.expected = Some(match self.expected {
            None => settled,
            Some(before) => before + (settled - before).clamp(-DRIFT, DRIFT),
        });
    }

    /// Updates what is known of each set and returns those whose breaker opened in this tick, with the power they last had.
    fn follow_breakers(&mut self, readings: &Readings) -> Vec<(GensetId, Option<Watts>)> {
        let gensets = &readings.fast.gensets;
        self.dark_ticks = if self.island.unfed(gensets) { self.dark_ticks.saturating_add(1) } else { 0 };
        let mut tripped = Vec::new();
        for (id, set) in gensets {
            let before = self.sets.get(id).copied();
            let next = match (set.closed, before) {
                (Some(true), _) => {
                    let power = set.power.or(before.and_then(|memory| memory.power));
                    Some(Memory { closed: true, power, unknown: 0 })
                }
                (Some(false), before) => {
                    if let Some(memory) = before.filter(|memory| memory.closed) {
                        tripped.push((id.clone(), memory.power));
                    }
                    Some(Memory { closed: false, power: None, unknown: 0 })
                }
                (None, Some(memory)) if memory.unknown < HOLD_UNKNOWN => {
                    Some(Memory { unknown: memory.unknown + 1, ..memory })
                }
                (None, _) => None,
            };
            match next {
                Some(memory) => self.sets.insert(id.clone(), memory),
                None => self.sets.remove(id),
            };
        }
        tripped
    }

    /// Opens every feeder that is not open, told about or not.
    fn drop_feeders(&mut self, view: View<'_>, cause: &Cause) -> Vec<Action> {
        let groups = view.module.groups.keys();
        groups
            .filter_map(|group| self.drop_load(view, &feeder_rung(view.module, group), None, cause))
            .collect()
    }

    /// What the armed table demands for the sets that tripped.
    fn armed(&mut self, view: View<'_>, tripped: &[(GensetId, Option<Watts>)]) -> Vec<Action> {
        let Some(grant) = view.grant else { return Vec::new() };
        let mut actions = Vec::new();
        for (set, lost) in tripped {
            for (contingency, arming) in grant.armed.iter().filter(|(_, arming)| arming.source == *set) {
                let cause = Cause::Armed(contingency.clone());
                actions.extend(self.call_storage(view, grant, arming, *lost, &cause));
                for index in rungs_for(arming, *lost, &grant.ladder, view.drawn) {
                    let rung = &grant.ladder[index as usize];
                    actions.extend(self.drop_load(view, rung, Some(index), &cause));
                }
            }
        }
        actions
    }

    /// Storage first, by what was lost: it drops nothing, and spares the governors their step.
    fn call_storage(
        &mut self,
        view: View<'_>,
        grant: &Grant,
        arming: &Arming,
        lost: Option<Watts>,
        cause: &Cause,
    ) -> Option<Action> {
        let armed = |index: &u32| grant.ladder.get(*index as usize).filter(|rung| is_storage(rung));
        let (index, rung) = arming.rungs.iter().find_map(|index| Some((*index, armed(index)?)))?;
        let part = Rung { watts: rung.watts.min(lost.unwrap_or(arming.lost)), ..rung.clone() };
        (part.watts > Watts::ZERO).then(|| self.drop_load(view, &part, Some(index), cause)).flatten()
    }

    /// The backup: the first rung still standing, if frequency will be below its threshold when it has acted; all of them when
    /// frequency collapses. None while frequency recovers by itself.
    fn by_frequency(&mut self, view: View<'_>) -> Vec<Action> {
        let (Some(grant), Some(deviation)) = (view.grant, self.deviation()) else { return Vec::new() };
        let fall = self.fall();
        let standing: Vec<u32> = (0..)
            .zip(&grant.ladder)
            .filter(|(_, rung)| self.stands(view, rung))
            .map(|(index, _)| index)
            .collect();
        if deviation >= COLLAPSE && fall >= Frequency::ZERO {
            let ladder = grant.ladder.iter();
            let all: Vec<(u32, Rung)> = (0..).zip(ladder.cloned()).collect();
            return all
                .into_iter()
                .filter(|(index, _)| standing.contains(index))
                .filter_map(|(index, rung)| self.drop_load(view, &rung, Some(index), &Cause::Collapse))
                .collect();
        }
        if self.waits.is_some_and(|until| view.readings.boot.at < until) {
            return Vec::new();
        }
        let Some(&index) = standing.first() else { return Vec::new() };
        let rung = &grant.ladder[index as usize];
        let ahead = deviation + fall.fraction(rung.opens.get(), TRACE_SPAN.get());
        // A rung without a threshold is for the armed table alone.
        let due =
            rung.below > Frequency::ZERO && ahead >= rung.below && deviation >= rung.below.fraction(1, 2);
        if due {
            self.drop_load(view, rung, Some(index), &Cause::Frequency).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// By how much frequency fell over [`TRACE_SPAN`]; zero until the trace is long enough.
    fn fall(&self) -> Frequency {
        match (self.trace.front(), self.trace.back()) {
            (Some(&first), Some(&last)) if self.trace.len() == TRACE => first - last,
            _ => Frequency::ZERO,
        }
    }

    /// Whether a rung still has something to drop.
    fn stands(&self, view: View<'_>, rung: &Rung) -> bool {
        let open = match (&rung.load, rung.actuator) {
            (RungLoad::Miners(group), Actuator::Feeder) => {
                view.readings.fast.feeders.get(group) == Some(&FeederState::Open)
            }
            _ => false,
        };
        !open && !self.told.contains_key(&rung.load) && command(view, rung).is_some()
    }

    /// Drops one load unless it is gone already.
    fn drop_load(
        &mut self,
        view: View<'_>,
        rung: &Rung,
        index: Option<u32>,
        cause: &Cause,
    ) -> Option<Action> {
        if !self.stands(view, rung) {
            return None;
        }
        let command = command(view, rung)?;
        let at = view.readings.boot.at;
        self.told.insert(rung.load.clone(), at + rung.opens + RETRY);
        // The slope must be measured after the rung has acted, hence the trace's span on top.
        let acted = at + rung.opens + TRACE_SPAN;
        self.waits = Some(self.waits.map_or(acted, |until| until.max(acted)));
        let shed = Shed { at: view.readings.now, cause: cause.clone(), load: rung.load.clone(), rung: index };
        Some((command, shed))
    }
}

/// The rungs that drop a load to answer the loss of `lost` watts: all of them for the loss that was armed for, and for a smaller one the
/// shortest prefix that covers this module's proportional part. Each module rounds up, so that the island sheds enough.
/// A rung counts what its group drew when last read, at most what was planned.
pub fn rungs_for(
    arming: &Arming,
    lost: Option<Watts>,
    ladder: &[Rung],
    drawn: &BTreeMap<MinerGroupId, Watts>,
) -> Vec<u32> {
    let drops = |index: &u32| ladder.get(*index as usize).is_some_and(|rung| !is_storage(rung));
    let rungs = || arming.rungs.iter().copied().filter(drops);
    let short = lost.unwrap_or(arming.lost) - arming.absorbed;
    if short <= Watts::ZERO {
        return Vec::new();
    }
    if short >= arming.island_shed {
        return rungs().collect();
    }
    let planned: Watts = rungs().map(|index| ladder[index as usize].watts).sum();
    let needed = planned.fraction(short.get(), arming.island_shed.get()) + Watts::new(1);
    let mut shed = Watts::ZERO;
    let mut chosen = Vec::new();
    for index in rungs() {
        if shed >= needed.min(planned) {
            break;
        }
        let rung = &ladder[index as usize];
        let now = match &rung.load {
            RungLoad::Miners(group) => drawn.get(group).copied().unwrap_or(rung.watts),
            RungLoad::Pool(_) | RungLoad::Storage => rung.watts,
        };
        shed += now.min(rung.watts);
        chosen.push(index);
    }
    chosen
}

/// Whether a rung calls on storage and drops nothing.
fn is_storage(rung: &Rung) -> bool {
    rung.load == RungLoad::Storage
}

/// The command behind a rung; `None` where this agent has no such device.
fn command(view: View<'_>, rung: &Rung) -> Option<Command> {
    let module = view.module;
    match (&rung.load, rung.actuator) {
        (RungLoad::Miners(group), Actuator::Feeder) => {
            module.groups.contains_key(group).then(|| Command::OpenFeeder(group.clone()))
        }
        (RungLoad::Miners(group), Actuator::Api) => module
            .groups
            .contains_key(group)
            .then(|| Command::SetMiners { group: group.clone(), awake: 0, point: 0 }),
        (RungLoad::Pool(pool), Actuator::Cap) => module.pools.get(pool).map(|found| Command::CapPool {
            pool: pool.clone(),
            cap: Some(found.cap_min.times(found.servers.into())),
        }),
        (RungLoad::Storage, Actuator::Storage) => {
            view.storage.map(|told| Command::SetStorage(told + rung.watts))
        }
        _ => None,
    }
}

/// A rung for a group's feeder, whether the ladder has one or not.
fn feeder_rung(module: &Module, group: &MinerGroupId) -> Rung {
    let found = module.groups.get(group);
    Rung {
        load: RungLoad::Miners(group.clone()),
        actuator: Actuator::Feeder,
        watts: found.map_or(Watts::ZERO, |group| group.draw_full()),
        opens: found.and_then(|group| group.shed.opens).unwrap_or(RETRY),
        below: Frequency::ZERO,
    }
}

#[cfg(test)]
mod tests;
