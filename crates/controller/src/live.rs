//! What only the leader knows, and only while it leads: links, reports, grants, progress, the plan in force and why.
//!
//! One task owns and changes it (`term.rs`); services read it through a `watch`. Nothing here is stored as such: a new leader
//! builds it from the store and from the agents' next reports. Read next: `status/`, which shows it to operators.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::envelope::Fence;
use model::plan::{Bound, Plan};
use model::report::Finding;
use model::workload::Workload;
use model::{ModuleId, Span, Time, WorkloadId};
use planner::Input;

use crate::commit::InForce;
use crate::drift::Drifts;
use crate::grants::Book;
use crate::lifecycle::KEEP_WITHOUT_LINK;
use crate::publish::Published;
use crate::strays::{Strays, may_be_hidden};
use crate::tracker::{Freshness, Tracker};

/// Rounds kept in memory with their inputs, so that plans can be made again and explained.
const MAX_ROUNDS: usize = 8;
/// And at most so many modules in all of them together, the newest round apart: a round takes 10 to 15 KiB a module (its input
/// holds the plan before), so that older ones take 30 MiB at most, however large the fleet.
const MAX_ROUND_MODULES: usize = 2_048;
/// Events kept for those who ask what happened lately.
const MAX_EVENTS: usize = 256;

/// The leader's knowledge.
#[derive(Clone, Debug)]
pub struct Live {
    /// Epoch and leader of this term; `None` while standing by.
    pub term: Option<Fence>,
    /// When this term began.
    pub since: Time,
    /// Links and reports.
    pub tracker: Tracker,
    /// Modules that do not do what they were told.
    pub drifts: Drifts,
    /// Runs that the store does not know of.
    pub strays: Strays,
    /// When the store was restored or imported, if it ever was: it may have forgotten what came after its copy was made.
    pub restored: Option<Time>,
    /// What modules may draw.
    pub book: Book,
    /// What modules were told last: one and the same as what their sessions make directives of.
    pub published: BTreeMap<ModuleId, Arc<Published>>,
    /// Who the agents are.
    pub agents: BTreeMap<ModuleId, Agent>,
    /// Workloads that are not final, with the progress last seen.
    pub workloads: BTreeMap<WorkloadId, Workload>,
    /// The plan in force.
    pub in_force: Option<InForce>,
    /// Since when the next one is being made, if it is; until it is committed and told, or dropped.
    pub planning: Option<Time>,
    /// The last upper bound that was computed beside the rounds in this term.
    pub bound: Option<Bound>,
    /// The latest rounds of planning, oldest first.
    pub rounds: VecDeque<Arc<Round>>,
    /// Plans refused by their check in this term.
    pub refused: u64,
    /// What is wrong with the last plan that was refused; empty once one passed.
    pub refusal: Vec<Finding>,
    /// What happened lately, oldest first.
    pub events: VecDeque<Event>,
}

/// One round of planning that was committed.
#[derive(Clone, Debug)]
pub struct Round {
    /// What the planner was given.
    pub input: Input,
    /// What it decided.
    pub plan: Arc<Plan>,
    /// Its view for operators.
    pub report: planner::Report,
    /// How long it took, on the wall clock.
    pub took: Span,
}

/// What an agent said in its hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its version.
    pub version: String,
    /// Where miners reach its proxy.
    pub stratum: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// To what, e.g. `module m1`.
    pub subject: String,
    /// What, and why.
    pub what: String,
}

impl Live {
    /// Nothing known yet.
    pub fn new(freshness: Freshness, validity: Span, since: Time) -> Self {
        Self {
            term: None,
            since,
            tracker: Tracker::new(freshness, since),
            drifts: Drifts::default(),
            strays: Strays::default(),
            restored: None,
            book: Book::new(validity),
            published: BTreeMap::new(),
            agents: BTreeMap::new(),
            workloads: BTreeMap::new(),
            in_force: None,
            planning: None,
            bound: None,
            rounds: VecDeque::new(),
            refused: 0,
            refusal: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Notes something that happened.
    pub fn tell(&mut self, at: Time, subject: impl Into<String>, what: impl Into<String>) {
        bounded(&mut self.events, Event { at, subject: subject.into(), what: what.into() }, MAX_EVENTS);
    }

    /// Takes a committed round into force.
    pub fn adopt(&mut self, round: Round, in_force: InForce) {
        self.rounds.push_back(Arc::new(round));
        let kept = kept(self.rounds.iter().rev().map(|round| round.input.modules.len()));
        self.rounds.drain(..self.rounds.len() - kept);
        self.in_force = Some(in_force);
        self.refusal.clear();
    }

    /// Whether the plan in force was made before this module or its site had ever reported: it keeps back what the module may
    /// need, and what it says of the module itself is a guess that would drop a warm container to its base load. Nothing is sent
    /// on it.
    pub fn was_planned_blind(&self, module: &ModuleId) -> bool {
        let generation = self.in_force.as_ref().map(|in_force| in_force.plan.generation);
        let round = self.round().filter(|round| Some(round.plan.generation) == generation);
        let Some(input) = round.map(|round| &round.input) else { return false };
        let Some(planned) = input.modules.get(module) else { return false };
        let site = input.sites.get(&planned.module.site);
        planned.report.is_none() || site.is_some_and(|site| site.report.is_none())
    }

    /// Whether the store was restored so lately that runs may go on of which nobody has said anything yet.
    pub fn hides_runs(&self, now: Time) -> bool {
        may_be_hidden(self.restored, self.since, self.tracker.all_heard(), KEEP_WITHOUT_LINK, now)
    }

    /// Whether it was restored so lately that one of these modules, which has not reported since, may act under an envelope that
    /// is not in the book.
    pub fn hides_grants<'a>(
        &self,
        mut modules: impl Iterator<Item = &'a ModuleId>,
        validity: Span,
        now: Time,
    ) -> bool {
        let heard = modules.all(|module| self.tracker.report(module).is_some());
        may_be_hidden(self.restored, self.since, heard, validity, now)
    }

    /// Whether a workload holds GPUs of a module.
    pub fn holds_runs(&self, module: &ModuleId) -> bool {
        let there = |workload: &Workload| {
            let placement = workload.status.placement.as_ref();
            workload.status.phase.holds() && placement.is_some_and(|placement| placement.module == *module)
        };
        self.workloads.values().any(there)
    }

    /// The newest bound there is: the one that the plan in force carries, or one that was computed since.
    pub fn last_bound(&self) -> Option<Bound> {
        let carried = self.in_force.as_ref().and_then(|in_force| in_force.plan.bound);
        carried.into_iter().chain(self.bound).max_by_key(|bound| bound.made)
    }

    /// The last committed round, if this term has made one.
    pub fn round(&self) -> Option<&Arc<Round>> {
        self.rounds.back()
    }
}

/// How many rounds are kept, of those with so many modules each, newest first.
fn kept(modules: impl Iterator<Item = usize>) -> usize {
    let mut older = 0;
    let fits = |(index, modules): &(usize, usize)| {
        older += if *index == 0 { 0 } else { *modules };
        older <= MAX_ROUND_MODULES
    };
    modules.take(MAX_ROUNDS).enumerate().take_while(fits).count()
}

fn bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    queue.push_back(item);
    if queue.len() > most {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_kept_within_bounds_newest_last() {
        let mut live = Live::new(Freshness::default(), Span::secs(120), Time(0));
        for count in 0..300 {
            live.tell(Time(count), "module m1", "came");
        }
        assert_eq!(live.events.len(), MAX_EVENTS);
        assert_eq!(live.events.back().map(|event| event.at), Some(Time(299)));
    }

    #[test]
    fn a_large_fleet_keeps_its_newest_round_and_a_small_one_eight() {
        let check = |modules: usize, expected: usize| {
            assert_eq!(kept(std::iter::repeat_n(modules, 20)), expected, "{modules} modules");
        };
        check(2, 8);
        check(292, 8);
        check(1_000, 3);
        check(2_049, 1);
        assert_eq!(kept([10_000, 4, 4].into_iter()), 3);
        assert_eq!(kept([4, 10_000, 4].into_iter()), 1);
        assert_eq!(kept(std::iter::empty()), 0);
    }
}
