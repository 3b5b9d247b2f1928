//! Invariant 8, lost link: without a link a module stays under its envelope and then under its fallback programme; nothing starts
//! there meanwhile; and no workload ever holds GPUs twice at the same time.
//!
//! Seconds of different sites are compared only when they are of the same time. Read next: [`super::power`] for the draw.

use std::collections::BTreeMap;

use model::report::RunPhase;
use model::{ModuleId, Span, Time, WorkloadId};

use super::View;
use super::book::{Book, Edge, Fault, Invariant};
use super::power;
use super::standing::Rule;
use crate::truth::RunTruth;

/// A workload that was not seen twice for so long is told again.
const TELL_AGAIN: Span = Span::secs(5);

/// A start of a workload: its number.
type Incarnation = u64;

#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    modules: BTreeMap<ModuleId, State>,
    /// Workloads seen twice of late: one that goes on is told once.
    told: BTreeMap<WorkloadId, Time>,
}

/// One module as of its last second.
#[derive(Clone, Debug)]
struct State {
    at: Time,
    rule: Rule,
    over: Edge,
    /// In order of workload and incarnation, as the truth has them.
    holding: Vec<(WorkloadId, Incarnation)>,
}

impl Link {
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        for id in view.truth.modules.keys() {
            self.module(view, id, book);
        }
        self.twice(view, book);
    }

    fn module(&mut self, view: View<'_>, id: &ModuleId, book: &mut Book) {
        let Some((truth, standing)) = view.truth.modules.get(id).zip(view.scene.modules.get(id)) else {
            return;
        };
        let now = view.truth.now;
        let rule = standing.rule(now);
        let before = self.modules.get(id);
        let holding: Vec<(WorkloadId, Incarnation)> =
            truth.runs.iter().filter(|(_, run)| holds(run)).map(|(key, _)| key.clone()).collect();
        // What was there when the witness came was started by nobody knows whom.
        if let Some(before) = before.filter(|before| stands_alone(before.rule) && stands_alone(rule)) {
            let new = holding.iter().find(|key| before.holding.binary_search(key).is_err());
            let fault = new.map(|(workload, incarnation)| {
                let what =
                    format!("incarnation {incarnation} started on module {id} without an envelope in force");
                Fault::new(format!("workload {workload}"), what)
            });
            book.check(Invariant::Link, now, fault);
        }
        let mut over = before.map(|before| before.over).unwrap_or_default();
        if !standing.link {
            let excess = power::excess(view, id);
            let fault = excess.filter(|_| over.rises(excess.is_some()));
            book.check(Invariant::Link, now, fault.map(|excess| power::overdrawn(view, id, excess)));
        }
        if standing.link || power::excess(view, id).is_none() {
            over = Edge::default();
        }
        self.modules.insert(id.clone(), State { at: now, rule, over, holding });
    }

    fn twice(&mut self, view: View<'_>, book: &mut Book) {
        let now = view.truth.now;
        let mut first: BTreeMap<&WorkloadId, (&ModuleId, Incarnation)> = BTreeMap::new();
        let mut twice: BTreeMap<WorkloadId, String> = BTreeMap::new();
        for (id, state) in self.modules.iter().filter(|(_, state)| state.at == now) {
            for (workload, incarnation) in &state.holding {
                if let Some((module, earlier)) = first.insert(workload, (id, *incarnation)) {
                    let what =
                        format!("incarnation {earlier} holds GPUs on {module} and {incarnation} on {id}");
                    twice.insert(workload.clone(), what);
                }
            }
        }
        book.check(Invariant::Link, now, None);
        self.told.retain(|_, at| now - *at < TELL_AGAIN);
        for (workload, what) in twice {
            if self.told.insert(workload.clone(), now).is_none() {
                let fault = Fault::new(format!("workload {workload}"), what);
                book.check(Invariant::Link, now, Some(fault));
            }
        }
    }
}

/// Whether the module follows no envelope in force, so that nothing may start.
fn stands_alone(rule: Rule) -> bool {
    matches!(rule, Rule::Fallback | Rule::Nothing)
}

/// Whether a run occupies GPUs.
pub(super) fn holds(run: &RunTruth) -> bool {
    matches!(run.report.phase, RunPhase::Starting | RunPhase::Running | RunPhase::Stopping)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Summary, Witness};
    use super::*;
    use crate::truth::Truth;
    use model::Watts;

    fn with_run(truth: &mut Truth, name: &str, incarnation: u64, phase: RunPhase) {
        let key = (workload_id(name), incarnation);
        module_of(truth).runs.insert(key, run(incarnation, phase, (0, 0)));
    }

    /// The link is lost at 30 s; the last envelope answers the report of 30 s, so that it expires at 150 s.
    fn cut_off(change: impl Fn(i64, &mut Truth)) -> Summary {
        let mut witness = settled();
        feed(&mut witness, 1..=30, |_, _| {});
        witness.link(&module_id(), at(30), false);
        for second in 31..=240 {
            let mut truth = truth(second);
            change(second, &mut truth);
            witness.second(&site_id(), &truth, &[]);
        }
        witness.finish()
    }

    fn fall_to(kilowatts: i64, from: i64) -> impl Fn(i64, &mut Truth) {
        move |second, truth| {
            if second >= from {
                module_of(truth).total.power = Watts::kilo(kilowatts);
            }
        }
    }

    #[test]
    fn a_module_that_falls_back_in_time_passes() {
        check(&cut_off(fall_to(95, 158)), 8, &[]);
    }

    #[test]
    fn a_module_that_goes_on_after_expiry_breaks_power_and_link() {
        for from in [161, 999] {
            let summary = cut_off(fall_to(95, from));
            let broken: Vec<(u8, u64)> = summary
                .verdicts
                .iter()
                .filter(|v| v.violations > 0)
                .map(|v| (v.invariant, v.violations))
                .collect();
            assert_eq!(broken, [(1, 1), (8, 1)]);
            assert_eq!(summary.verdicts[7].first[0].subject, format!("module {}", module_id()));
        }
    }

    #[test]
    fn nothing_starts_under_fallback() {
        let start = |second: i64| {
            cut_off(move |now, truth| {
                fall_to(95, 158)(now, truth);
                if now >= second {
                    with_run(truth, "w1", 1, RunPhase::Running);
                }
            })
        };
        check(&start(149), 8, &[]);
        check(&start(150), 8, &[]);
        check(&start(170), 8, &["workload w1"]);
    }

    #[test]
    fn a_workload_that_holds_gpus_twice_fires_once() {
        let run = |phase: RunPhase| {
            let mut witness: Witness = settled();
            feed(&mut witness, 1..=20, |_, truth| {
                with_run(truth, "w1", 1, phase);
                with_run(truth, "w1", 2, RunPhase::Running);
            });
            witness.finish()
        };
        check(&run(RunPhase::Stopped), 8, &[]);
        check(&run(RunPhase::Running), 8, &["workload w1"]);
        check(&run(RunPhase::Stopping), 8, &["workload w1"]);
    }

    #[test]
    fn two_sites_are_compared_when_they_are_of_the_same_second() {
        let fleet = crate::reference::fleet();
        for (delay, broken) in [(0, 1), (1, 0)] {
            let mut witness = Witness::new(&fleet, super::super::Options::default());
            for (index, site) in fleet.sites.iter().enumerate() {
                let mut truth = truth(60 + if index == 1 { delay } else { 0 });
                let mut module = module_of(&mut truth).clone();
                module.runs.insert((workload_id("w1"), 1), run(1, RunPhase::Running, (0, 0)));
                let own = fleet.modules_of(&site.id).next().map(|module| module.id.clone());
                truth.modules = own.into_iter().map(|id| (id, module.clone())).collect();
                witness.second(&site.id, &truth, &[]);
            }
            assert_eq!(witness.finish().violations(), broken);
        }
    }
}
