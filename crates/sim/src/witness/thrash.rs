//! Invariant 7, no thrash: by choice no miner reverses within its dwell, and no workload is stopped twice without progress between.
//!
//! Of a group the truth shows only how many miners are awake, so each is given the best record it can have: the one that slept
//! longest is woken, the one that was awake longest is put to sleep. Downwards the following are protection, not choice: a disturbed
//! island, an open feeder, a ceiling just lowered, a draw at the ceiling, no envelope in force. Upwards nothing excuses. Operating
//! points are not in the truth and are not judged. A workload may also be stopped when gas or sets fell short. Read next:
//! [`super::standing`].

use std::collections::{BTreeMap, VecDeque};

use model::report::{FeederState, RunPhase};
use model::workload::GpuTime;
use model::{MinerGroupId, ModuleId, Span, Time, Watts, WorkloadId};

use super::View;
use super::book::{Book, Fault, Invariant};
use super::link::holds;
use super::standing::{Rule, Standing};
use crate::truth::{GroupTruth, ModuleTruth, RunTruth};

/// A change is seen up to a second after its command, and so is the one before.
const SEEN_LATE: Span = Span::secs(2);
/// A draw within so much of its ceiling, thousandths, may have to come down.
const AT_CEILING_PERMILLE: i64 = 980;
/// Batches of one direction: one a second over the longest usual dwell of 300 s, and room; the newest two merge beyond.
const MAX_BATCHES: usize = 400;
/// Workloads whose last stop is remembered; thousands a day, and only those that will start again matter.
const MAX_STOPS: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Thrash {
    groups: BTreeMap<(ModuleId, MinerGroupId), Group>,
    running: BTreeMap<ModuleId, BTreeMap<(WorkloadId, u64), RunPhase>>,
    /// What was saved when a workload was last stopped by choice.
    stops: BTreeMap<WorkloadId, GpuTime>,
}

/// The miners of one group, by when they last reversed.
#[derive(Clone, Debug, Default)]
struct Group {
    awake: u32,
    // Invariant: oldest first. Miners that nobody saw reverse stand in no batch and are the oldest of all.
    woken: VecDeque<(Time, u32)>,
    slept: VecDeque<(Time, u32)>,
}

impl Thrash {
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        for (id, module) in &view.truth.modules {
            let Some(standing) = view.scene.modules.get(id) else { continue };
            let protective = is_protective(view, standing, module);
            for (group, truth) in &module.groups {
                let Some(config) = standing.module.groups.get(group) else { continue };
                let dwell = (config.dwell - SEEN_LATE).at_least_zero();
                let excused = protective || truth.feeder != FeederState::Closed;
                let key = (id.clone(), group.clone());
                let fresh = || Group { awake: truth.awake, ..Group::default() };
                let seen = self.groups.entry(key).or_insert_with(fresh);
                let fault = seen.follow(truth, config.count, view.truth.now, (dwell, excused));
                let fault = fault.map(|what| Fault::new(format!("module {id} group {group}"), what));
                book.check(Invariant::Thrash, view.truth.now, fault);
            }
            self.runs(view, id, module, protective || view.island.has_fallen(), book);
        }
    }

    /// Stops by choice without progress since the last one.
    fn runs(
        &mut self,
        view: View<'_>,
        id: &ModuleId,
        module: &ModuleTruth,
        protective: bool,
        book: &mut Book,
    ) {
        let running = self.running.entry(id.clone()).or_default();
        let mut faults = Vec::new();
        for (key, run) in &module.runs {
            let before = running.insert(key.clone(), run.report.phase);
            let ended = !holds(run) && before.is_some_and(|phase| !is_over(phase));
            if !ended {
                continue;
            }
            let fault = judge_end(&mut self.stops, &key.0, run, protective);
            faults.push(fault.map(|what| Fault::new(format!("workload {}", key.0), what)));
        }
        running.retain(|key, _| module.runs.contains_key(key));
        while self.stops.len() > MAX_STOPS {
            self.stops.pop_first();
        }
        faults.into_iter().for_each(|fault| book.check(Invariant::Thrash, view.truth.now, fault));
    }
}

impl Group {
    /// Follows the count of those awake; `how` is the dwell, and whether something excuses a fall.
    fn follow(&mut self, truth: &GroupTruth, count: u32, now: Time, how: (Span, bool)) -> Option<String> {
        let (dwell, excused) = how;
        let before = std::mem::replace(&mut self.awake, truth.awake);
        let asleep = count.saturating_sub(before);
        let (moved, up) = (truth.awake.abs_diff(before), truth.awake > before);
        if moved == 0 {
            return None;
        }
        let (from, to, had) = if up {
            (&mut self.slept, &mut self.woken, asleep)
        } else {
            (&mut self.woken, &mut self.slept, before)
        };
        let early = take(from, moved, had, now - dwell);
        push(to, now, moved);
        if early == 0 || (!up && excused) {
            return None;
        }
        let (done, undone) = if up { ("woken", "put to sleep") } else { ("put to sleep", "woken") };
        Some(format!("{early} of {moved} miners were {done} within {dwell} of being {undone}, by choice"))
    }
}

/// Takes `moved` of `had` miners, those without a record first, then the oldest. Returns how many reversed after `since`.
fn take(from: &mut VecDeque<(Time, u32)>, moved: u32, had: u32, since: Time) -> u32 {
    let recorded: u32 = from.iter().map(|(_, count)| count).sum();
    let mut left = moved.saturating_sub(had.saturating_sub(recorded));
    let mut early = 0;
    while left > 0 {
        let Some((at, count)) = from.front_mut() else { break };
        let taken = left.min(*count);
        early += if *at > since { taken } else { 0 };
        *count -= taken;
        left -= taken;
        if *count == 0 {
            from.pop_front();
        }
    }
    early
}

fn push(to: &mut VecDeque<(Time, u32)>, now: Time, count: u32) {
    to.push_back((now, count));
    if to.len() > MAX_BATCHES
        && let Some((at, newest)) = to.pop_back()
        && let Some(last) = to.back_mut()
    {
        // At the older time: a doubt goes to whoever is watched.
        *last = (last.0.min(at), last.1 + newest);
    }
}

fn is_protective(view: View<'_>, standing: &Standing, module: &ModuleTruth) -> bool {
    let now = view.truth.now;
    let limit = standing.limit(now);
    let full = limit != Watts::MAX && module.total.power >= limit.fraction(AT_CEILING_PERMILLE, 1_000);
    let ruled = standing.rule(now) == Rule::Envelope;
    !ruled || full || standing.was_lowered(now) || view.island.is_disturbed(now)
}

fn is_over(phase: RunPhase) -> bool {
    matches!(phase, RunPhase::Stopped | RunPhase::Completed)
}

/// What is wrong with a run's end, given the last stop of its workload; remembers this one.
fn judge_end(
    stops: &mut BTreeMap<WorkloadId, GpuTime>,
    workload: &WorkloadId,
    run: &RunTruth,
    protective: bool,
) -> Option<String> {
    if run.report.phase == RunPhase::Completed {
        stops.remove(workload);
        return None;
    }
    if run.lost || protective {
        return None;
    }
    let before = stops.insert(workload.clone(), run.report.saved)?;
    (run.report.saved <= before).then(|| {
        format!(
            "was stopped by choice again without progress: {} saved, as at the stop before",
            run.report.saved
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Summary, Witness};
    use super::*;
    use crate::truth::Truth;

    fn group() -> String {
        format!("module {} group {}", module_id(), group_id())
    }

    /// Group a has as many miners awake as the last of (second, awake) says; 20 before.
    fn run_group(counts: &[(i64, u32)], change: impl Fn(i64, &mut Truth)) -> Summary {
        let mut witness = settled();
        feed(&mut witness, 1..=1_000, |second, truth| {
            let now = counts.iter().rev().find(|(from, _)| *from <= second);
            group_of(truth).awake = now.map_or(20, |(_, awake)| *awake);
            change(second, truth);
        });
        witness.finish()
    }

    #[test]
    fn reversals_outside_the_dwell_and_of_other_miners_pass() {
        check(&run_group(&[(100, 10), (400, 20), (700, 10)], |_, _| {}), 7, &[]);
        // Ten sleep, and ten others of the thirty wake: those that slept all along.
        check(&run_group(&[(100, 10), (150, 20)], |_, _| {}), 7, &[]);
        check(&run_group(&[(100, 15), (110, 10), (120, 5)], |_, _| {}), 7, &[]);
    }

    #[test]
    fn a_reversal_within_the_dwell_fires_in_both_directions() {
        check(&run_group(&[(100, 0), (150, 20)], |_, _| {}), 7, &[&group()]);
        check(&run_group(&[(100, 30), (150, 0)], |_, _| {}), 7, &[&group()]);
        check(&run_group(&[(100, 10), (150, 30), (200, 5)], |_, _| {}), 7, &[&group(), &group()]);
    }

    #[test]
    fn protection_excuses_downwards_and_restoring_is_never_excused() {
        let open = |second: i64, truth: &mut Truth| {
            if (150..180).contains(&second) {
                group_of(truth).feeder = FeederState::Open;
            }
        };
        check(&run_group(&[(100, 30), (150, 0)], open), 7, &[]);
        check(&run_group(&[(100, 30), (150, 0), (460, 20)], open), 7, &[]);
        check(&run_group(&[(100, 30), (150, 0), (200, 20)], open), 7, &[&group()]);
        let full = |second: i64, truth: &mut Truth| {
            if second == 150 {
                module_of(truth).total.power = Watts::kilo(299);
            }
        };
        check(&run_group(&[(100, 30), (150, 0)], full), 7, &[]);
    }

    #[test]
    fn a_lowered_ceiling_excuses_downwards() {
        let mut witness: Witness = settled();
        let module = module_id();
        for second in 1..=200 {
            if second == 145 {
                let lower = directive(&module, 2, (160, 100), second);
                witness.directive(&module, at(second), &boot(second), &lower);
            }
            let mut truth = truth(second);
            group_of(&mut truth).awake = match second {
                ..100 => 20,
                100..150 => 30,
                _ => 0,
            };
            module_of(&mut truth).total.power = Watts::kilo(100);
            if second == 90 {
                witness.directive(
                    &module,
                    at(second),
                    &boot(second),
                    &directive(&module, 1, (300, 100), second),
                );
            }
            witness.second(&site_id(), &truth, &[]);
        }
        check(&witness.finish(), 7, &[]);
    }

    /// Each (second, incarnation, phase, saved) is what the runtime shows of workload w1 from then on.
    fn run_work(steps: &[(i64, u64, RunPhase, i64)]) -> Summary {
        let mut witness = settled();
        feed(&mut witness, 1..=100, |second, truth| {
            for (_, incarnation, phase, saved) in steps.iter().filter(|(from, ..)| *from <= second) {
                let shown = run(*incarnation, *phase, (*saved, *saved));
                module_of(truth).runs.insert((workload_id("w1"), *incarnation), shown);
            }
        });
        witness.finish()
    }

    #[test]
    fn a_workload_is_stopped_again_only_after_progress() {
        use RunPhase::{Completed, Running, Starting, Stopped};
        let twice = |saved: i64, end: RunPhase| {
            [(10, 1, Running, 0), (20, 1, Stopped, 50), (40, 2, Starting, 50), (60, 2, end, saved)]
        };
        check(&run_work(&twice(80, Stopped)), 7, &[]);
        check(&run_work(&twice(50, Completed)), 7, &[]);
        check(&run_work(&twice(50, Stopped)), 7, &["workload w1"]);
    }

    #[test]
    fn batches_are_bounded() {
        let mut batches = VecDeque::new();
        for second in 0..1_000 {
            push(&mut batches, at(second), 1);
        }
        assert_eq!(batches.len(), MAX_BATCHES);
        assert_eq!(batches.iter().map(|(_, count)| count).sum::<u32>(), 1_000);
    }
}
