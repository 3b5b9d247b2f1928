//! Rounds of planning, beside everything else: the plan is made on a thread of its own from what was known when it began, and the
//! leader goes on taking in reports. What is there then is judged against what came meanwhile, committed, and told.
//!
//! One plan at a time. What asks for another one meanwhile is remembered and answered by the next, which begins at once. What the
//! plan that is being made knows already asks for nothing. A plan that is made when the office is lost or the process ends is
//! dropped with its term: its successor makes a newer one sooner, and the fence would refuse it.
//!
//! Read next: `cycle.rs`, which plans and checks; `touch.rs`, for what an event asks to be planned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use model::plan::Plan;
use model::report::SiteReport;
use model::workload::Workload;
use model::{ModuleId, SiteId, Span, Time, WorkloadId};
use planner::Input;
use service::traces::TARGET;
use store::Revision;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use super::{Committed, ROUND, Rules, Term, touch};
use crate::commit::{self, InForce, kept, prunable};
use crate::cycle::{self, Checked, Order};
use crate::live::Round;
use crate::metrics::{Outcome, Phase};
use crate::observe;

/// After a failed round the next one waits this long: a store that elects a new leader takes 1.6 s.
const RETRY: Span = Span::secs(2);

/// The plan that is being made, if any.
#[derive(Default)]
pub(super) struct Planning {
    running: Option<(Arc<Asked>, Deciding)>,
    /// The last plan was dropped because it was overtaken: the next one is committed whatever came meanwhile.
    dropped: bool,
}

/// The thread that plans.
type Deciding = JoinHandle<Result<Checked, cycle::Error>>;

/// What is planned upon.
#[derive(Debug)]
pub(super) struct Asked {
    /// When it began.
    at: Time,
    /// Why it came early.
    why: Option<String>,
    /// The last word on each island, of those that have said one.
    sites: BTreeMap<SiteId, SiteReport>,
    /// Modules that it knows nothing of, or nothing of their island.
    blind: BTreeSet<ModuleId>,
    /// The round, as a trace: what it was asked for in.
    span: tracing::Span,
}

/// A plan that was made, or why there is none.
pub(super) struct Made {
    asked: Arc<Asked>,
    outcome: Result<Checked, cycle::Error>,
}

impl Asked {
    fn new(input: &Input, why: Option<String>) -> Self {
        let heard = |site: &SiteId| input.sites.get(site).is_some_and(|site| site.report.is_some());
        let is_blind = |module: &planner::ModuleInput| module.report.is_none() || !heard(&module.module.site);
        let blind = input.modules.iter().filter(|(_, module)| is_blind(module));
        let sites = input.sites.iter().filter_map(|(id, site)| Some((id.clone(), site.report.clone()?)));
        let (sites, blind) = (sites.collect(), blind.map(|(id, _)| id.clone()).collect());
        Self { at: input.now, why, sites, blind, span: tracing::Span::current() }
    }

    /// What it knows of an island.
    pub(super) fn site(&self, site: &SiteId) -> Option<&SiteReport> {
        self.sites.get(site)
    }

    /// Whether it knows nothing of a module.
    pub(super) fn is_blind(&self, module: &ModuleId) -> bool {
        self.blind.contains(module)
    }
}

impl Planning {
    /// Begins a plan; with `before`, one of what changed since that round. The current span is the round's.
    fn begin(&mut self, input: Input, before: Option<Arc<Round>>, why: Option<String>, rules: Rules) {
        let asked = Arc::new(Asked::new(&input, why));
        let span = asked.span.clone();
        let decide = move || {
            let order = match &before {
                Some(before) => touch::order(before, input),
                None => Order::whole(input),
            };
            cycle::decide(order, rules.planner, rules.sabotage)
        };
        let made = spawn_blocking(move || span.in_scope(decide));
        self.running = Some((asked, made));
    }

    /// Whether a plan is being made.
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// What the plan that is being made knows.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.running.as_ref().map(|(asked, _)| &**asked)
    }

    /// Returns once a plan is made; never while none is. Nothing is lost when this is dropped before.
    pub(super) async fn done(&mut self) -> Made {
        let Some((asked, running)) = &mut self.running else { return std::future::pending().await };
        let (asked, joined) = (Arc::clone(asked), running.await);
        self.running = None;
        let outcome = joined.unwrap_or_else(|error| Err(cycle::Error::Planner(error.to_string())));
        Made { asked, outcome }
    }

    /// Whether a plan is to be dropped for what became of workloads since it began: once, and not the next one as well, so that a
    /// fleet in which something always happens still gets its plans.
    fn drops(&mut self, plan: &Plan, workloads: &BTreeMap<WorkloadId, Workload>) -> bool {
        self.dropped = !self.dropped && is_overtaken(plan, workloads);
        self.dropped
    }
}

/// Whether a workload that the plan has start was meanwhile started somewhere else, under the same number or a higher one. To commit
/// it would stop that run for nothing. What only ended or was cancelled meanwhile takes no harm: nothing of it starts.
fn is_overtaken(plan: &Plan, workloads: &BTreeMap<WorkloadId, Workload>) -> bool {
    let elsewhere = |(id, planned): (&WorkloadId, &model::workload::Placement)| {
        let status = workloads.get(id).map(|workload| &workload.status);
        let held = status.filter(|status| status.phase.holds()).and_then(|status| status.placement.as_ref());
        held.is_some_and(|held| {
            planned.incarnation <= held.incarnation
                && (&planned.module, &planned.pool) != (&held.module, &held.pool)
        })
    };
    plan.placements().any(elsewhere)
}

impl Term {
    /// Begins a round of planning: on an event for what it touched, else for everything.
    pub(super) fn plan(&mut self, now: Time) {
        self.due = now + ROUND;
        let why = self.why.take();
        let on_event = why.is_some() && now < self.whole;
        let round = info_span!(
            target: TARGET,
            parent: None,
            "planning round",
            why,
            generation = Empty,
            sites = Empty,
            outcome = Empty,
            otel.status_code = Empty
        );
        let input = info_span!(target: TARGET, parent: &round, "snapshot").in_scope(|| self.input(now));
        let before = {
            let live = self.live.borrow();
            let generation = live.in_force.as_ref().map(|in_force| in_force.plan.generation);
            live.round().filter(|round| on_event && Some(round.plan.generation) == generation).cloned()
        };
        round.in_scope(|| self.planning.begin(input, before, why, self.rules));
        self.live.send_modify(|live| live.planning = Some(now));
    }

    /// Takes over what was planned; a failed round leaves the old plan in force.
    pub(super) async fn made(&mut self, made: Made) -> Result<(), commit::Error> {
        let span = made.asked.span.clone();
        let taken = self.take_over_plan(made).instrument(span).await;
        self.live.send_modify(|live| live.planning = None);
        taken
    }

    async fn take_over_plan(&mut self, Made { asked, outcome }: Made) -> Result<(), commit::Error> {
        let now = self.context.clock.now();
        let checked = match outcome {
            Ok(checked) => checked,
            Err(error) => return self.refused(error, now),
        };
        if self.is_deposed() {
            // It is about to learn that it has lost the office, or its lease is renewed after all.
            self.again(now + RETRY, asked.why.clone());
            return Ok(());
        }
        let (parent, overtaken) = {
            let live = self.live.borrow();
            (live.in_force.clone(), self.planning.drops(&checked.round.plan, &live.workloads))
        };
        if overtaken {
            self.ended(Outcome::Overtaken);
            self.again(now, Some("a run began elsewhere while a plan was made".into()));
            return Ok(());
        }
        let prune = {
            let cache = self.context.cache.borrow();
            prunable(&cache, kept(&cache))
        };
        let counts = self.context.counts.clone();
        counts.phase(Phase::Plan, checked.took.plan);
        counts.phase(Phase::Check, checked.took.check);
        let began = Instant::now();
        let commit = cycle::commit(&self.context.store, self.fence(), parent.as_ref(), &checked, prune);
        match commit.instrument(info_span!(target: TARGET, "commit")).await {
            Ok(in_force) => {
                counts.phase(Phase::Commit, began.elapsed());
                self.in_force(checked.round, in_force, asked).await
            }
            Err(cycle::Error::Commit(commit::Error::Outrun)) => self.outrun(now).await,
            Err(error) => self.refused(error, now),
        }
    }

    /// Counts how a round ended, and says so in its span, which is the current one.
    fn ended(&self, outcome: Outcome) {
        self.context.counts.round(outcome);
        let span = tracing::Span::current();
        span.record("outcome", outcome.word());
        if !matches!(outcome, Outcome::Whole | Outcome::Repair | Outcome::Overtaken) {
            span.record("otel.status_code", "ERROR");
        }
    }

    /// Has the next round begin by then; why it comes early, unless something newer says so.
    fn again(&mut self, by: Time, why: Option<String>) {
        self.due = self.due.min(by);
        self.why = self.why.take().or(why);
    }

    async fn in_force(
        &mut self,
        round: Round,
        in_force: InForce,
        asked: Arc<Asked>,
    ) -> Result<(), commit::Error> {
        let Asked { at, why, .. } = &*asked;
        let now = self.context.clock.now();
        let generation = in_force.plan.generation;
        let target = in_force.target;
        let on_event = why.is_some();
        let repaired = round.input.touched.as_ref().map(|touched| touched.len());
        match repaired {
            // A repair does not put the next whole plan off.
            Some(_) => self.due = self.due.min(self.whole),
            None => self.whole = *at + ROUND,
        }
        self.ended(if repaired.is_some() { Outcome::Repair } else { Outcome::Whole });
        let span = tracing::Span::current();
        span.record("generation", generation);
        repaired.map(|sites| span.record("sites", sites));
        let took_ms = round.took.millis();
        tracing::info!(generation, took_ms, why = why.as_deref(), repaired, "plan committed");
        self.live.send_modify(|live| {
            if let Some(why) = why {
                let scope = repaired.map_or(String::new(), |sites| format!(" for {sites} sites alone"));
                live.tell(now, format!("plan {generation}"), format!("made{scope} because of: {why}"));
            }
            live.adopt(round, in_force);
        });
        self.fence.plan = generation;
        let round = self.live.borrow().round().cloned();
        match round.as_ref().and_then(|round| round.input.touched.as_ref()) {
            // What a repair did not touch is told what it was told before.
            Some(touched) => self.still.retain(|site| !touched.contains(site)),
            None => self.still.clear(),
        }
        if let Some(round) = round {
            self.certify(&round, on_event, now);
            // Nobody listening is no error.
            let _ = self.commits.send(Committed { fence: self.fence, round });
        }
        self.settle(None).instrument(info_span!(target: TARGET, "settle")).await?;
        let sites: Vec<SiteId> = {
            let cache = self.context.cache.borrow();
            cache.sites.keys().filter(|site| !self.still.contains(*site)).cloned().collect()
        };
        self.send(&sites).instrument(info_span!(target: TARGET, "publish", sites = sites.len())).await?;
        self.compact(now, target).await;
        Ok(())
    }

    fn refused(&mut self, error: cycle::Error, now: Time) -> Result<(), commit::Error> {
        match error {
            cycle::Error::Commit(error) => {
                self.due = now + RETRY;
                self.ended(Outcome::PutOff);
                Err(error)
            }
            cycle::Error::Refused { generation, findings } => {
                let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
                self.ended(Outcome::Refused);
                tracing::error!(generation, findings = ?shown, "plan refused by its check; the old one stays");
                self.live.send_modify(|live| {
                    live.refused += 1;
                    live.tell(now, format!("plan {generation}"), format!("refused: {}", shown.join("; ")));
                    live.refusal = findings;
                });
                Ok(())
            }
            error @ cycle::Error::Planner(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "planning failed");
                self.ended(Outcome::Failed);
                self.live.send_modify(|live| live.refused += 1);
                Ok(())
            }
        }
    }

    /// The plan in force is not the one this leader knew: an import replaced it, or a commit whose answer never came took place
    /// after all. It is read again, and planned upon.
    async fn outrun(&mut self, now: Time) -> Result<(), commit::Error> {
        self.due = now + RETRY;
        self.ended(Outcome::Outrun);
        let in_force = commit::load(&self.context.store).await?;
        let generation = in_force.as_ref().map_or(0, |in_force| in_force.plan.generation);
        tracing::warn!(generation, "the plan in force was replaced, it is planned upon");
        self.fence.plan = generation;
        self.still.clear();
        self.why = Some("the plan in force was replaced".into());
        self.live.send_modify(|live| {
            live.tell(
                now,
                format!("plan {generation}"),
                "is in force, though this controller did not see it commit",
            );
            live.in_force = in_force;
        });
        Ok(())
    }

    /// Throws old history of the store away now and then. A failure costs disk and nothing else: the round stands.
    async fn compact(&mut self, now: Time, newest: Revision) {
        let Some(to) = self.history.note(now, newest) else { return };
        match tokio::time::timeout(commit::STORE_TIMEOUT, self.context.store.compact(to)).await {
            // Done by somebody else already: an earlier leader, or another installation in the same etcd.
            Ok(Ok(()) | Err(store::Error::Compacted { .. })) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %to, "old history was not thrown away, the next time is in ten minutes");
            }
            Err(_) => tracing::warn!(%to, "old history was not thrown away in time"),
        }
    }

    fn input(&self, now: Time) -> Input {
        let cache = self.context.cache.borrow();
        let live = self.live.borrow();
        let parent = live
            .in_force
            .as_ref()
            .map(|in_force| Plan { bound: live.last_bound(), ..Plan::clone(&in_force.plan) });
        let market = *self.context.market.borrow();
        observe::input(&cache, &live.tracker, &live.workloads, parent, market, now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::workload::{Phase, Placement, Status};

    use super::*;
    use crate::testing::{self, module_id, placement};
    use crate::tracker::{Freshness, SessionId, Tracker};

    const RULES: Rules = Rules {
        freshness: Freshness { online: Span::secs(3), stale: Span::secs(15), site: Span::secs(15) },
        planner: planner::plan,
        sabotage: None,
    };

    fn tracker(reported: &[&str]) -> Tracker {
        let mut tracker = Tracker::new(Freshness::default(), Time(0));
        for name in reported {
            let module = module_id(name);
            tracker.register(&module, true, None);
            tracker.opened(&module, SessionId(1));
            let mut report = testing::report(name, 1);
            let states = [model::report::GensetState::Online; 3];
            report.site =
                (*name == "m1").then(|| testing::site_report(states, model::site::GasFlow::mcf(400)));
            tracker.reported(SessionId(1), report, Time(1_000));
        }
        tracker
    }

    fn input(now: i64, reported: &[&str]) -> Input {
        let cache = testing::cache(&testing::fleet());
        observe::input(&cache, &tracker(reported), &BTreeMap::new(), None, testing::market(), Time(now))
    }

    #[tokio::test]
    async fn a_plan_is_made_beside_and_is_the_one_that_its_input_gives() {
        let mut planning = Planning::default();
        assert!(!planning.is_busy() && planning.asked().is_none());
        planning.begin(input(1_000, &["m1"]), None, Some("an event".into()), RULES);
        assert!(planning.is_busy());
        let Made { asked, outcome } = planning.done().await;
        assert!(!planning.is_busy(), "the next may begin");
        assert_eq!((asked.at, asked.why.as_deref()), (Time(1_000), Some("an event")));
        let round = outcome.unwrap().round;
        let again = planner::plan(&round.input).plan;
        assert_eq!(Plan { input: round.plan.input.clone(), ..again }, *round.plan);
        assert_eq!(round.input, input(1_000, &["m1"]));
    }

    #[tokio::test]
    async fn a_planner_that_panics_ends_the_round_and_nothing_else() {
        fn panics(_: &Input) -> planner::Planned {
            panic!("on purpose")
        }
        let mut planning = Planning::default();
        planning.begin(input(1_000, &[]), None, None, Rules { planner: panics, ..RULES });
        let made = planning.done().await;
        assert!(matches!(made.outcome.unwrap_err(), cycle::Error::Planner(_)));
        planning.begin(input(2_000, &[]), None, None, RULES);
        assert_eq!(planning.done().await.outcome.unwrap().round.plan.made, Time(2_000));
    }

    #[test]
    fn what_is_planned_upon_is_known_by_module_and_island() {
        let check = |reported: &[&str], blind: [bool; 2], island: bool| {
            let input = input(2_000, reported);
            let asked = Asked::new(&input, None);
            let found = ["m1", "m2"].map(|name| asked.is_blind(&module_id(name)));
            assert_eq!(found, blind, "{reported:?}");
            assert_eq!(asked.site(&input.modules[&module_id("m1")].module.site).is_some(), island);
        };
        check(&[], [true, true], false);
        // The wired module speaks for the island.
        check(&["m2"], [true, true], false);
        check(&["m1"], [false, true], true);
        check(&["m1", "m2"], [false, false], true);
    }

    fn id() -> WorkloadId {
        WorkloadId::new("w").unwrap()
    }

    fn known(phase: Phase, at: Option<Placement>) -> BTreeMap<WorkloadId, Workload> {
        let workload = testing::workload("w", "acme", 2);
        let status = Status { phase, placement: at, ..workload.status.clone() };
        BTreeMap::from([(id(), Workload { status, ..workload })])
    }

    #[test]
    fn a_plan_is_overtaken_by_a_start_elsewhere_and_by_nothing_else() {
        let plan = testing::plan_with(&id(), placement("m1", 2));
        let check = |phase: Phase, at: Option<(&str, u64)>, expected: bool| {
            let workloads = known(phase, at.map(|(module, number)| placement(module, number)));
            assert_eq!(is_overtaken(&plan, &workloads), expected, "{phase} {at:?}");
        };
        check(Phase::Pending, None, false);
        check(Phase::Starting, Some(("m1", 2)), false);
        check(Phase::Starting, Some(("m2", 2)), true);
        check(Phase::Running, Some(("m2", 3)), true);
        // It moves: the plan numbers the next start.
        check(Phase::Running, Some(("m2", 1)), false);
        // It ended meanwhile; a plan numbers the next start.
        check(Phase::Pending, Some(("m2", 2)), false);
        assert!(!is_overtaken(&plan, &BTreeMap::new()), "it is no more");
    }

    #[test]
    fn of_two_plans_in_a_row_one_is_dropped_at_most() {
        let plan = testing::plan_with(&id(), placement("m1", 2));
        let elsewhere = known(Phase::Running, Some(placement("m2", 2)));
        let mut planning = Planning::default();
        let dropped: Vec<bool> = (0..4).map(|_| planning.drops(&plan, &elsewhere)).collect();
        assert_eq!(dropped, [true, false, true, false]);
        assert!(!planning.drops(&plan, &BTreeMap::new()));
        assert!(planning.drops(&plan, &elsewhere));
    }
}
