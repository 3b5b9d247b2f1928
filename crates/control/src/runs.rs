//! Runs: brings what the runtime does to what the directive assigns, so that nothing ever runs twice.
//!
//! It assumes that a start is idempotent per incarnation and that the controller raises the incarnation whenever it wants a
//! workload to start again. A run that ended is therefore never restarted here. The proof against running twice is
//! `keep_without_link`: an agent out of touch for so long has ended the run, whatever else happened.
//!
//! A directive may hold runs to less power ([`model::cap`]): that is told at once, and lifted within the headroom like any other
//! up-move. The run's own meter shows whether it follows; one that does not is told again.

use std::collections::{BTreeMap, BTreeSet};

use model::envelope::{Assignment, Directive};
use model::module::Module;
use model::report::{EnvelopeState, RunPhase, RunReport, Switch};
use model::workload::Tier;
use model::{MicroDollars, Span, Watts, WorkloadId};

use crate::envelope::Standing;
use crate::estimate::{Busy, Headroom};
use crate::port::Command;

/// A command that shows no effect is repeated after this.
const AGAIN: Span = Span::secs(5);
/// A cap acts within about a second, and its run's meter shows it a second later.
pub(crate) const CAP_ACTS: Span = Span::secs(3);
/// A run that draws so much more than its cap does not follow: 5 %, above what meters err and a swing overshoots.
const CAP_SLACK_PERMILLE: i64 = 50;
/// A stop for lack of a link begins so much before its checkpoint must be saved.
const SAVE_MARGIN: Span = Span::secs(10);
/// A link that is silent for less stops nothing, however long saving takes.
const SILENT: Span = Span::minutes(1);

/// What runs are reconciled with.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The module.
    pub module: &'a Module,
    /// What the runtime says.
    pub reports: &'a BTreeMap<WorkloadId, RunReport>,
    /// What each run draws, as far as it is metered.
    pub drawn: &'a BTreeMap<WorkloadId, Watts>,
    /// What is held, in force or not.
    pub directive: Option<&'a Directive>,
    /// Where the envelope stands.
    pub standing: Standing,
    /// The local switch.
    pub switch: Switch,
    /// Boot time.
    pub at: Span,
    /// Starts each run a second time (sabotage only).
    pub double: bool,
}

/// What is remembered of the runs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    known: BTreeMap<WorkloadId, Known>,
    doubled: BTreeSet<WorkloadId>,
}

/// One workload. Kept while it is assigned or reported.
#[derive(Clone, Debug)]
struct Known {
    assignment: Assignment,
    // The runtime has shown this incarnation.
    seen: bool,
    // It gave way to the ceiling: not started in this incarnation.
    gave_way: bool,
    started: Option<Span>,
    ended: Option<(Span, Verdict)>,
    // The cap it was told by this process, and when. Before, it may have any.
    told: Option<(Option<Watts>, Span)>,
}

/// A run that gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenWay {
    /// The stop.
    pub command: Command,
    /// What it drew at most.
    pub watts: Watts,
    /// Until it has stopped.
    pub within: Span,
}

/// What to do about a run that the runtime reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    Stop,
    Kill,
}

impl Runs {
    /// Takes in what is assigned and reported. Call it first in each second.
    pub fn observe(&mut self, view: View<'_>) {
        if let Some(directive) = view.directive {
            for (id, assignment) in &directive.runs {
                let old = self.known.get_mut(id);
                match old {
                    Some(known)
                        if known.assignment.placement.incarnation == assignment.placement.incarnation =>
                    {
                        known.assignment = assignment.clone();
                    }
                    _ => {
                        self.known.insert(id.clone(), Known::of(assignment));
                    }
                }
            }
        }
        for (id, report) in view.reports {
            if let Some(known) = self.known.get_mut(id) {
                known.seen |= report.incarnation >= known.assignment.placement.incarnation;
            }
        }
        let assigned = |id: &WorkloadId| view.directive.is_some_and(|held| held.runs.contains_key(id));
        self.known.retain(|id, _| assigned(id) || view.reports.contains_key(id));
        self.doubled.retain(|id| view.reports.contains_key(id));
    }

    /// Ends what must not run: stale incarnations at once, what is not assigned with a checkpoint, everything when the module is
    /// switched off, and what has been without a link for too long.
    pub fn end(&mut self, view: View<'_>) -> Vec<Command> {
        let mut commands = Vec::new();
        for (id, report) in view.reports.iter().filter(|(_, report)| is_active(report)) {
            let gave_way = self.known.get(id).is_some_and(|known| known.gave_way);
            let verdict = match verdict(view, id, report) {
                Verdict::Leave if gave_way => Verdict::Stop,
                verdict => verdict,
            };
            let command = match verdict {
                Verdict::Leave => continue,
                Verdict::Stop if report.phase == RunPhase::Stopping => continue,
                Verdict::Stop => Command::StopRun { workload: id.clone() },
                Verdict::Kill => Command::KillRun { workload: id.clone() },
            };
            let recent = self.known.get_mut(id).is_some_and(|known| !known.end(view.at, verdict));
            if !recent {
                commands.push(command);
            }
        }
        commands
    }

    /// Holds runs to the caps of the directive; lower ones only. What they then give shows within [`CAP_ACTS`].
    pub fn slow(&mut self, view: View<'_>) -> Vec<GivenWay> {
        let mut given = Vec::new();
        let directive = view.directive.filter(|_| view.switch == Switch::Remote);
        for (id, &cap) in directive.iter().flat_map(|held| &held.slowed) {
            let active = view.reports.get(id).is_some_and(is_active);
            let Some(known) = self.known.get_mut(id).filter(|_| active) else { continue };
            let least = cap + cap.fraction(CAP_SLACK_PERMILLE, 1_000);
            let deaf = view.drawn.get(id).is_some_and(|drawn| *drawn > least);
            let (lower, since) = match known.told {
                Some((Some(told), at)) => (cap < told, Some(at)),
                Some((None, _)) | None => (true, None),
            };
            let again = since.is_some_and(|at| deaf && view.at - at >= AGAIN);
            if !lower && !again {
                continue;
            }
            let before = known.draw(view.module, known.told.and_then(|(cap, _)| cap));
            let watts = if lower { before - known.draw(view.module, Some(cap)) } else { Watts::ZERO };
            known.told = Some((Some(cap), view.at));
            let command = Command::CapRun { workload: id.clone(), cap: Some(cap) };
            given.push(GivenWay { command, watts: watts.at_least_zero(), within: CAP_ACTS });
        }
        given
    }

    /// Lifts caps as far as the directive says and the headroom goes. A cap never told by this process may be anything that the pool
    /// knows, so it is told once.
    pub fn lift(&mut self, view: View<'_>, headroom: &mut Headroom) -> Vec<Command> {
        let Some(directive) = view.directive.filter(|_| view.switch == Switch::Remote) else {
            return Vec::new();
        };
        let mut commands = Vec::new();
        for (id, known) in &mut self.known {
            let pool = view.module.pools.get(&known.assignment.placement.pool);
            let Some(pool) = pool.filter(|pool| !pool.curve.is_empty()) else { continue };
            let wanted = directive.slowed.get(id).copied();
            let active = view.reports.get(id).is_some_and(is_active) && directive.runs.contains_key(id);
            if !active || known.told.is_some_and(|(told, _)| told == wanted) {
                continue;
            }
            let gpus = gpus(&known.assignment);
            let least = pool.cap(gpus, pool.least(Some(model::Pace::ZERO)));
            let from = known.told.map_or(Some(least), |(told, _)| told);
            let more = (known.draw(view.module, wanted) - known.draw(view.module, from)).at_least_zero();
            if headroom.open && (more == Watts::ZERO || headroom.admits_run(view.module, more)) {
                headroom.take_run(view.module, more);
                known.told = Some((wanted, view.at));
                commands.push(Command::CapRun { workload: id.clone(), cap: wanted });
            }
        }
        commands
    }

    /// Starts what is assigned, under a valid envelope only and as far as the headroom goes; firm runs first.
    pub fn start(&mut self, view: View<'_>, headroom: &mut Headroom) -> Vec<Command> {
        let Some(directive) = view.directive else { return Vec::new() };
        if view.standing.state != EnvelopeState::Valid || view.switch != Switch::Remote {
            return Vec::new();
        }
        let mut wanted: Vec<_> = directive.runs.iter().collect();
        wanted.sort_by_key(|(id, assignment)| (assignment.tier, *id));
        let mut commands = Vec::new();
        for (id, assignment) in wanted {
            if view.double {
                commands.extend(self.second(view, id, assignment));
            }
            let Some(known) = self.known.get_mut(id) else { continue };
            let may = known.may_start(view, id) && link(view, assignment) == Verdict::Leave;
            let cap = directive.slowed.get(id).copied();
            let load = known.draw(view.module, cap);
            let repeated = known.started.is_some();
            if may && (repeated || headroom.admits_run(view.module, load)) {
                if !repeated {
                    headroom.take_run(view.module, load);
                }
                known.started = Some(view.at);
                known.told = Some((cap, view.at));
                commands.push(Command::StartRun { workload: id.clone(), assignment: assignment.clone() });
                let cap = cap.map(|cap| Command::CapRun { workload: id.clone(), cap: Some(cap) });
                commands.extend(cap);
            }
        }
        commands
    }

    /// Picks runs that give way for `short` watts behind the loss: spot, then on-demand, the cheapest first, and firm ones only
    /// when the ceiling lies below the AI floor.
    pub fn give_way(&mut self, view: View<'_>, short: Watts, firm_too: bool) -> Vec<GivenWay> {
        let mut order: Vec<(std::cmp::Reverse<Tier>, MicroDollars, WorkloadId)> = view
            .reports
            .iter()
            .filter(|(_, report)| matches!(report.phase, RunPhase::Starting | RunPhase::Running))
            .filter_map(|(id, _)| self.known.get(id).map(|known| (id, known)))
            .filter(|(_, known)| !known.gave_way && (firm_too || known.assignment.tier != Tier::Firm))
            .map(|(id, known)| (std::cmp::Reverse(known.assignment.tier), known.assignment.price, id.clone()))
            .collect();
        order.sort();
        let (mut left, mut given) = (short, Vec::new());
        for (_, _, id) in order {
            if left <= Watts::ZERO {
                break;
            }
            let Some(known) = self.known.get_mut(&id) else { continue };
            known.gave_way = true;
            known.ended = Some((view.at, Verdict::Stop));
            let watts = known.draw(view.module, known.told.and_then(|(cap, _)| cap));
            let within = known.assignment.save + SAVE_MARGIN;
            left -= watts;
            given.push(GivenWay { command: Command::StopRun { workload: id }, watts, within });
        }
        given
    }

    /// GPUs in each pool: of the runs that hold some or were told to start, and those plus what is assigned and may start.
    pub fn busy(&self, view: View<'_>) -> (Busy, Busy) {
        let (mut active, mut assigned) = (Busy::default(), Busy::default());
        for (id, known) in &self.known {
            let placement = &known.assignment.placement;
            let gpus = gpus(&known.assignment);
            let holds = match view.reports.get(id) {
                Some(report) => is_active(report),
                None => known.started.is_some() && !known.seen,
            };
            let waits = known.may_ever_start(view, id);
            let spared = |cap| known.draw(view.module, None) - known.draw(view.module, cap);
            if holds {
                let acts = known.told.filter(|(_, at)| view.at - *at >= CAP_ACTS);
                active.add(&placement.pool, gpus, spared(acts.and_then(|(cap, _)| cap)));
            }
            if holds || waits {
                let wanted = view.directive.and_then(|held| held.slowed.get(id)).copied();
                assigned.add(&placement.pool, gpus, spared(wanted));
            }
        }
        (active, assigned)
    }

    /// The sabotage: a second incarnation beside the one that runs.
    fn second(&mut self, view: View<'_>, id: &WorkloadId, assignment: &Assignment) -> Option<Command> {
        let running = view.reports.get(id).is_some_and(|report| report.phase == RunPhase::Running);
        if !running || !self.doubled.insert(id.clone()) {
            return None;
        }
        let mut assignment = assignment.clone();
        assignment.placement.incarnation += 1;
        Some(Command::StartRun { workload: id.clone(), assignment })
    }
}

impl Known {
    fn of(assignment: &Assignment) -> Self {
        Self {
            assignment: assignment.clone(),
            seen: false,
            gave_way: false,
            started: None,
            ended: None,
            told: None,
        }
    }

    /// What it adds to the idle draw of its pool at most, under a cap, behind the loss.
    fn draw(&self, module: &Module, cap: Option<Watts>) -> Watts {
        let pool = module.pools.get(&self.assignment.placement.pool);
        pool.map_or(Watts::ZERO, |pool| pool.run_draw(gpus(&self.assignment), cap))
    }

    /// Notes that an end is told; false when the same was told just before. A kill does not wait for an earlier stop.
    fn end(&mut self, at: Span, verdict: Verdict) -> bool {
        if self.ended.is_some_and(|(since, told)| told == verdict && at - since < AGAIN) {
            return false;
        }
        self.ended = Some((at, verdict));
        true
    }

    /// Whether this incarnation is still to be started, at some time.
    fn may_ever_start(&self, view: View<'_>, id: &WorkloadId) -> bool {
        let assigned = view.directive.and_then(|held| held.runs.get(id));
        let same = assigned
            .is_some_and(|assigned| assigned.placement.incarnation == self.assignment.placement.incarnation);
        let free = match view.reports.get(id) {
            None => true,
            // An older incarnation must have ended; one that completed leaves nothing to do.
            Some(report) => report.phase != RunPhase::Completed,
        };
        same && free && !self.seen && !self.gave_way
    }

    /// Whether it may be told to start now.
    fn may_start(&self, view: View<'_>, id: &WorkloadId) -> bool {
        let gone = view.reports.get(id).is_none_or(|report| report.phase == RunPhase::Stopped);
        let quiet = self.started.is_none_or(|started| view.at - started >= AGAIN);
        self.may_ever_start(view, id) && gone && quiet
    }
}

/// GPUs that an assignment takes.
fn gpus(assignment: &Assignment) -> u32 {
    assignment.placement.servers.iter().map(|(_, gpus)| gpus).sum()
}

fn is_active(report: &RunReport) -> bool {
    matches!(report.phase, RunPhase::Starting | RunPhase::Running | RunPhase::Stopping)
}

fn verdict(view: View<'_>, id: &WorkloadId, report: &RunReport) -> Verdict {
    if matches!(view.switch, Switch::Off | Switch::EmergencyStop) {
        return Verdict::Stop;
    }
    let assigned = view.directive.and_then(|held| held.runs.get(id));
    match assigned {
        Some(assigned) if report.incarnation < assigned.placement.incarnation => Verdict::Kill,
        Some(assigned) => link(view, assigned),
        // With the switch on local a person decides what goes on.
        None if view.switch == Switch::Local => Verdict::Leave,
        None => Verdict::Stop,
    }
}

/// What the lack of a link demands of a run: a checkpoint in time, and an end at `keep_without_link` in any case. Across a
/// reboot the time without a link is unknown, so it is over.
fn link(view: View<'_>, assignment: &Assignment) -> Verdict {
    let Some(age) = view.standing.age else {
        return if view.at >= assignment.save { Verdict::Kill } else { Verdict::Stop };
    };
    let stop = (assignment.keep_without_link - assignment.save - SAVE_MARGIN).max(SILENT);
    if age >= assignment.keep_without_link {
        Verdict::Kill
    } else if age >= stop {
        Verdict::Stop
    } else {
        Verdict::Leave
    }
}

#[cfg(test)]
mod tests;
