//! Regulation: once a second it brings the module under its ceiling and to its targets, with miners as actuators.
//!
//! Down first: whatever the ceiling demands happens at once (miners, then GPU caps, then spot and on-demand runs). Up only in the
//! module's turn and share, within dwell, under the ceiling, on known meters and a calm island. It assumes that targets and
//! share come from a directive that passed [`crate::envelope::accept`]; runs are started by [`crate::runs`].

use std::collections::BTreeMap;

use model::envelope::Share;
use model::module::{MinerGroup, Module};
use model::plan::GroupTarget;
use model::report::{FeederState, Finding};
use model::{MinerGroupId, PoolId, Span, Time, Watts};

use crate::estimate::{Busy, Estimate, Headroom, Known};
use crate::group::{Group, MARGIN, setting};
use crate::port::{Command, GroupReading, Slow};
use crate::share::Budget;

/// A GPU cap acts within about a second; for so long its relief is counted although the meter does not show it yet.
const CAP_ACTS: Span = Span::secs(3);

/// What regulation decides on in one second.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The module.
    pub module: &'a Module,
    /// The readings.
    pub slow: &'a Slow,
    /// The feeders.
    pub feeders: &'a BTreeMap<MinerGroupId, FeederState>,
    /// Boot time.
    pub at: Span,
    /// Site time, for turns.
    pub now: Time,
    /// The ceiling in force.
    pub ceiling: Watts,
    /// The module's share; `None` lifts it (sabotage only).
    pub share: Option<Share>,
    /// What each group shall do; a group without a target sleeps.
    pub targets: &'a BTreeMap<MinerGroupId, GroupTarget>,
    /// Caps wanted.
    pub caps: &'a BTreeMap<PoolId, Watts>,
    /// A person or the lack of an envelope lets nothing follow a target.
    pub follow: bool,
    /// Frequency and the switch let things go up.
    pub calm: bool,
    /// GPUs of the runs that hold some.
    pub active: &'a Busy,
    /// The same with those assigned and not started yet.
    pub assigned: &'a Busy,
}

/// What the ceiling still demands when miners and caps have given all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Commands for miners and caps.
    pub commands: Vec<Command>,
    /// Feeders among them that were opened.
    pub opened: Vec<MinerGroupId>,
    /// Watts that runs must give.
    pub short: Watts,
}

/// Regulation's state.
#[derive(Clone, Debug)]
pub struct Regulation {
    groups: BTreeMap<MinerGroupId, Group>,
    caps: BTreeMap<PoolId, Option<Watts>>,
    budget: Budget,
    // Reliefs the meter does not show yet, and until when they count.
    relief: Vec<(Span, Watts)>,
    // Down-moves are at work until then; before, the meter alone demands nothing.
    settling: Span,
    // When the miners may have reversed last, for groups found from now on.
    since: Option<Span>,
}

impl Regulation {
    /// Starts. `since`: when miners may have reversed last, unless long ago.
    pub fn new(since: Option<Span>) -> Self {
        Self {
            groups: BTreeMap::new(),
            caps: BTreeMap::new(),
            budget: Budget::default(),
            relief: Vec::new(),
            settling: Span::new(i64::MIN),
            since,
        }
    }

    /// The groups' books.
    pub fn groups(&self) -> &BTreeMap<MinerGroupId, Group> {
        &self.groups
    }

    /// The reflex dropped a load.
    pub fn dropped(&mut self, module: &Module, command: &Command, at: Span) {
        match command {
            Command::OpenFeeder(id) => {
                self.groups.entry(id.clone()).and_modify(|group| group.dropped(at));
            }
            Command::SetMiners { group, .. } => {
                if let Some(found) = self.groups.get_mut(group) {
                    found.set(group, 0, found.point, at);
                }
            }
            Command::CapPool { pool, cap } if module.pools.contains_key(pool) => {
                self.caps.insert(pool.clone(), *cap);
            }
            _ => {}
        }
    }

    /// Follows the readings. Returns the commands that repeat what was not followed, and what was found.
    pub fn observe(&mut self, situation: Situation<'_>) -> (Vec<Command>, Vec<Finding>) {
        let Situation { module, slow, feeders, at, .. } = situation;
        self.relief.retain(|(until, _)| *until > at);
        let (mut commands, mut findings) = (Vec::new(), Vec::new());
        for (id, config) in &module.groups {
            let Some(reading) = slow.groups.get(id) else { continue };
            let group =
                self.groups.entry(id.clone()).or_insert_with(|| Group::found(config, reading, self.since));
            group.follow_feeder(feeders.get(id).copied(), at);
            commands.extend(group.read_back(id, config, reading, at));
            findings.extend(group.finding(id, reading));
        }
        (commands, findings)
    }

    /// What the ceiling demands, whatever dwell says.
    pub fn protect(&mut self, situation: Situation<'_>) -> Protection {
        let Situation { module, slow, at, ceiling, .. } = situation;
        let relief: Watts = self.relief.iter().map(|(_, watts)| *watts).sum();
        let ahead = excess(module, self.estimate(situation).settled - relief, ceiling);
        let metered = slow.meter.filter(|meter| at >= self.settling && *meter > ceiling);
        let mut need =
            ahead.max(metered.map_or(ahead, |meter| excess(module, module.behind_loss(meter), ceiling)));
        let mut protection = Protection::default();
        if need <= Watts::ZERO {
            return protection;
        }
        for (id, power) in self.open_deaf(situation) {
            protection.commands.push(Command::OpenFeeder(id.clone()));
            protection.opened.push(id);
            need -= power;
        }
        let (commands, left) = self.lower(situation, need, false);
        if !commands.is_empty() {
            let sleep = module.groups.values().map(|group| group.sleep).max().unwrap_or(Span::ZERO);
            self.settling = at + sleep + MARGIN;
        }
        protection.commands.extend(commands);
        let (commands, left) = self.cap_down(situation, left);
        protection.commands.extend(commands);
        protection.short = left.at_least_zero();
        protection
    }

    /// Runs were told to stop: `watts` of relief will show within `within`.
    pub fn relieved(&mut self, watts: Watts, within: Span, at: Span) {
        self.relief.push((at + within, watts));
        self.settling = self.settling.max(at + within);
    }

    /// Down-moves by choice: to the targets, and below them where assigned runs need the room.
    pub fn settle_down(&mut self, situation: Situation<'_>) -> Vec<Command> {
        let Situation { module, at, ceiling, targets, .. } = situation;
        if !situation.follow {
            return Vec::new();
        }
        let mut commands = self.cap_to_wanted(situation);
        for (id, config) in &module.groups {
            let Some(group) = self.groups.get_mut(id).filter(|group| group.is_fed()) else { continue };
            let target = target_of(targets, id, config, group);
            let point = if target.point < group.point && group.dwell.may_lower(at) {
                target.point
            } else {
                group.point
            };
            let fewer = group.awake.saturating_sub(target.awake).min(group.dwell.may_sleep(at));
            if fewer > 0 || point != group.point {
                commands.push(group.set(id, group.awake - fewer, point, at));
            }
        }
        let need = excess(module, self.estimate(situation).reserved, ceiling);
        commands.extend(self.lower(situation, need, true).0);
        commands
    }

    /// What may go up in this second.
    pub fn headroom(&mut self, situation: Situation<'_>) -> Headroom {
        let Situation { slow, at, now, ceiling, share, .. } = situation;
        let (budget, step) = match share {
            Some(share) => (self.budget.available(&share, now, at), share.step),
            None => (Watts::MAX, Watts::MAX),
        };
        let open = situation.follow && situation.calm && slow.meter.is_some();
        Headroom { open, ceiling, budget, step, estimate: self.estimate(situation), taken: Watts::ZERO }
    }

    /// Up-moves of caps, feeders and miners, in this order; what runs took is in `headroom` already.
    pub fn raise(&mut self, situation: Situation<'_>, headroom: &mut Headroom) -> Vec<Command> {
        let mut commands = self.lift_caps(situation, headroom);
        let closing = self.close_one(situation, headroom);
        if closing.is_empty() {
            for (id, config) in &situation.module.groups {
                let reading = situation.slow.groups.get(id);
                commands.extend(
                    reading.and_then(|reading| self.raise_group(situation, id, config, reading, headroom)),
                );
            }
        }
        commands.extend(closing);
        self.budget.spend(headroom.taken);
        commands
    }

    fn estimate(&self, situation: Situation<'_>) -> Estimate {
        let caps = self.caps.iter().filter_map(|(id, cap)| cap.map(|cap| (id.clone(), cap))).collect();
        Estimate::of(Known {
            module: situation.module,
            slow: situation.slow,
            groups: &self.groups,
            caps: &caps,
            active: situation.active,
            assigned: situation.assigned,
        })
    }

    /// Opens the feeders of groups that draw on although they were told to sleep.
    fn open_deaf(&mut self, situation: Situation<'_>) -> Vec<(MinerGroupId, Watts)> {
        let mut opened = Vec::new();
        for (id, config) in &situation.module.groups {
            let Some(group) = self.groups.get_mut(id).filter(|group| group.suspect && group.is_fed()) else {
                continue;
            };
            let power = situation.slow.groups.get(id).and_then(|reading| reading.power);
            let excess = power.unwrap_or(config.draw_full()) - group.draw(config);
            if excess > group.draw(config).fraction(1, 10) {
                group.dropped(situation.at);
                opened.push((id.clone(), excess));
            }
        }
        opened
    }

    /// Lowers miners by `need` watts behind the loss, the least efficient first. Returns what is still short.
    fn lower(&mut self, situation: Situation<'_>, need: Watts, choice: bool) -> (Vec<Command>, Watts) {
        let Situation { module, at, share, .. } = situation;
        let mut order: Vec<(&MinerGroupId, &MinerGroup)> = module.groups.iter().collect();
        order
            .sort_by_key(|(id, config)| (self.groups.get(*id).map(|group| -group.inefficiency(config)), *id));
        let step = share.map_or(Watts::MAX, |share| share.step);
        let (mut commands, mut need) = (Vec::new(), need);
        for (id, config) in order {
            let Some(group) = self.groups.get_mut(id).filter(|group| group.is_fed() && group.awake > 0)
            else {
                continue;
            };
            if need <= Watts::ZERO {
                break;
            }
            let before = group.draw(config);
            let point = trimmed(group, config, need, step, !choice || group.dwell.may_lower(at));
            let after_trim = config.draw(group.awake, point.into());
            let unit = (setting(config, point).power - config.standby).at_least_zero();
            let missing = (need - (before - after_trim)).at_least_zero();
            // Rounded up: a miner too many is a smaller fault than a watt too many.
            let wanted = (missing + unit - Watts::new(1)).whole_times(unit);
            let most = if choice { group.dwell.may_sleep(at) } else { group.awake };
            let fewer = u32::try_from(wanted).unwrap_or(u32::MAX).min(most).min(group.awake);
            if fewer > 0 || point != group.point {
                commands.push(group.set(id, group.awake - fewer, point, at));
            }
            need -= before - group.draw(config);
        }
        (commands, need)
    }

    /// Caps pools by `need` watts, down to their lowest caps. Returns what is still short.
    fn cap_down(&mut self, situation: Situation<'_>, need: Watts) -> (Vec<Command>, Watts) {
        let Situation { module, slow, at, active, .. } = situation;
        let (mut commands, mut need) = (Vec::new(), need);
        for (id, config) in &module.pools {
            if need <= Watts::ZERO {
                break;
            }
            let cap = self.caps.get(id).copied().flatten();
            let read = slow.pools.get(id).and_then(|pool| pool.power);
            let draw = read.unwrap_or(active.draw(module, id, cap));
            let draw = cap.map_or(draw, |cap| draw.min(cap));
            let lowest = config.cap_min.times(config.servers.into());
            let next = (draw - need).max(lowest);
            if next < draw {
                commands.push(Command::CapPool { pool: id.clone(), cap: Some(next) });
                self.caps.insert(id.clone(), Some(next));
                self.relief.push((at + CAP_ACTS, draw - next));
                need -= draw - next;
            }
        }
        (commands, need)
    }

    /// Lowers caps to what is wanted.
    fn cap_to_wanted(&mut self, situation: Situation<'_>) -> Vec<Command> {
        let mut commands = Vec::new();
        for (id, wanted) in situation.caps.iter().filter(|(id, _)| situation.module.pools.contains_key(id)) {
            let now = self.caps.get(id).copied().flatten();
            if now.is_none_or(|now| *wanted < now) {
                self.caps.insert(id.clone(), Some(*wanted));
                commands.push(Command::CapPool { pool: id.clone(), cap: Some(*wanted) });
            }
        }
        commands
    }

    /// Raises caps to what is wanted. A cap never set by this process may be anything, so it is set once.
    fn lift_caps(&mut self, situation: Situation<'_>, headroom: &mut Headroom) -> Vec<Command> {
        let Situation { module, active, .. } = situation;
        let mut commands = Vec::new();
        for (id, config) in &module.pools {
            let wanted = situation.caps.get(id).copied();
            let now = self.caps.get(id).copied();
            if now == Some(wanted) || !headroom.open {
                continue;
            }
            let from = now.flatten().unwrap_or(config.cap_min.times(config.servers.into()));
            let more = active.draw(module, id, wanted) - active.draw(module, id, Some(from));
            if more > Watts::ZERO && headroom.fits(module, more) == 0 {
                continue;
            }
            headroom.take(module, more.at_least_zero());
            self.caps.insert(id.clone(), wanted);
            commands.push(Command::CapPool { pool: id.clone(), cap: wanted });
        }
        commands
    }

    /// Closes one feeder at a time, its miners asleep: the next waits until this one has confirmed.
    fn close_one(&mut self, situation: Situation<'_>, headroom: &mut Headroom) -> Vec<Command> {
        let Situation { module, at, targets, .. } = situation;
        if self.groups.values().any(Group::is_closing) {
            return Vec::new();
        }
        for (id, config) in &module.groups {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let wanted = targets.get(id).is_some_and(|target| target.awake > 0);
            let standby = config.draw(0, 0);
            // Sleeping miners may draw nothing measurable; a watt keeps the ceiling in the question.
            let load = standby.max(Watts::new(1));
            let known = situation.feeders.get(id) == Some(&FeederState::Open);
            if wanted && known && group.may_close(config, at) && headroom.fits(module, load) > 0 {
                headroom.take(module, load);
                return group.close(id, at).to_vec();
            }
        }
        Vec::new()
    }

    /// Wakes miners of one group, or raises their operating point.
    fn raise_group(
        &mut self,
        situation: Situation<'_>,
        id: &MinerGroupId,
        config: &MinerGroup,
        reading: &GroupReading,
        headroom: &mut Headroom,
    ) -> Option<Command> {
        let Situation { module, at, targets, .. } = situation;
        let group = self.groups.get_mut(id)?;
        if group.suspect || !group.is_fed() || group.is_closing() {
            return None;
        }
        let target = target_of(targets, id, config, group);
        let mut point = if group.awake == 0 { target.point } else { group.point };
        if target.point > point && group.dwell.may_raise(at) {
            let more = config.draw(group.awake, target.point.into()) - config.draw(group.awake, point.into());
            if headroom.fits(module, more) > 0 {
                headroom.take(module, more);
                point = target.point;
            }
        }
        let unit = (setting(config, point).power - config.standby).at_least_zero();
        let wanted = target.awake.saturating_sub(group.awake).min(group.wakeable(reading, at));
        let more = wanted.min(headroom.fits(module, unit));
        headroom.take(module, unit.times(more.into()));
        let moves = more > 0 || (point != group.point && group.awake > 0);
        moves.then(|| group.set(id, group.awake + more, point, at))
    }
}

/// By how much a load behind the loss must fall to fit under a ceiling at the meter; zero if it fits.
fn excess(module: &Module, load: Watts, ceiling: Watts) -> Watts {
    if module.with_loss(load.at_least_zero()) <= ceiling {
        return Watts::ZERO;
    }
    (load - module.behind_loss(ceiling)).at_least_zero()
}

/// What a group shall do. Without a target it sleeps; a point that does not exist counts as the highest.
fn target_of(
    targets: &BTreeMap<MinerGroupId, GroupTarget>,
    id: &MinerGroupId,
    config: &MinerGroup,
    group: &Group,
) -> GroupTarget {
    let highest = u8::try_from(config.points.len().saturating_sub(1)).unwrap_or(u8::MAX);
    match targets.get(id) {
        Some(target) => {
            GroupTarget { awake: target.awake.min(config.count), point: target.point.min(highest) }
        }
        None => GroupTarget { awake: 0, point: group.point },
    }
}

/// The point to which a group is trimmed: as long as a whole step of it is needed and could be given back within the share.
fn trimmed(group: &Group, config: &MinerGroup, need: Watts, step: Watts, allowed: bool) -> u8 {
    let mut point = group.point;
    while allowed && point > 0 {
        let saved = group.draw(config) - config.draw(group.awake, usize::from(point - 1));
        let last = config.draw(group.awake, point.into()) - config.draw(group.awake, usize::from(point - 1));
        if saved > need || last > step {
            break;
        }
        point -= 1;
    }
    point
}
