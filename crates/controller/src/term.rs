//! One term of the leader: the only task that changes the leader's knowledge, plans, and sends directives.
//!
//! Everything arrives here in one order: what agents say, what changes in the store, and time. So two decisions never race.
//! It sends nothing once the lease may be gone. Assumes a bounded inbox and that the cache has seen the leader's own key.
//! Read next: `term/settle.rs` (workloads), `term/send.rs` (directives), `term/touch.rs` (what an event touched), `term/certify.rs`
//! (bounds), `cycle.rs` (plans).

mod certify;
mod note;
mod send;
mod settle;
mod touch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use model::envelope::{Directive, Fence};
use model::plan::Plan;
use model::report::{EnvelopeState, Report};
use model::{ModuleId, SiteId, Span, Time, WorkloadId};
use store::{Compare, Leadership, Op, Revision, Txn, key};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::commit::{self, InForce, KEEP_PLANS, call, prunable};
use crate::context::Context;
use crate::cycle::{self, Order, Planner};
use crate::events;
use crate::evict::Evictions;
use crate::grants::{Heard, Offer};
use crate::history::History;
use crate::latest::Latest;
use crate::live::{Agent, Live};
use crate::metrics::{Outcome, Phase};
use crate::observe;
use crate::records::LostRecord;
use crate::sabotage::{Sabotage, fence};
use crate::tracker::{Freshness, SessionId, Taken};
use certify::Certifier;

/// A plan for the whole fleet is made at least this often.
pub const ROUND: Span = Span::secs(30);
/// Events within this time of the first are answered by one plan.
pub const DEBOUNCE: Span = Span::new(200);
/// After a failed round the next one waits this long: a store that elects a new leader takes 1.6 s.
const RETRY: Span = Span::secs(2);
/// Modules whose loss is stored in one transaction, of the store's 128 operations.
const LOSSES: usize = 100;
/// A new leader waits this long for all known modules to report before it plans: three reports.
const GATHER: Span = Span::secs(3);

/// What happens outside and is told to the leader.
#[derive(Debug)]
pub enum Event {
    /// An agent said hello.
    Opened {
        /// Whose.
        module: ModuleId,
        /// This session.
        session: SessionId,
        /// Who the agent is.
        agent: Agent,
        /// Where its directives go: the latest wins. Dropped when a newer session takes over.
        slot: watch::Sender<Option<Arc<Directive>>>,
    },
    /// An agent reported.
    Report {
        /// By which session.
        session: SessionId,
        /// Where its newest report is to be taken.
        latest: Latest,
    },
    /// A session ended.
    Closed {
        /// Whose.
        module: ModuleId,
        /// Which.
        session: SessionId,
    },
    /// A service did something that operators should hear of.
    Told {
        /// To what, e.g. `workload w-1`.
        subject: String,
        /// What, and why.
        what: String,
    },
}

/// A committed plan with its input, for whoever wants to plan again and compare.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Who committed it.
    pub fence: Fence,
    /// What the planner was given.
    pub round: Arc<crate::live::Round>,
}

/// Where the directives of each module go; a slot that drops ends its session.
pub(crate) type Slots = BTreeMap<ModuleId, watch::Sender<Option<Arc<Directive>>>>;

/// How a term is run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// When a link counts as what.
    pub freshness: Freshness,
    /// Makes plans.
    pub planner: Planner,
    /// A defect on request.
    pub sabotage: Option<Sabotage>,
}

/// Why a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The office is lost.
    Lost,
    /// The process ends.
    Cancelled,
}

/// A term in progress.
pub(crate) struct Term {
    context: Context,
    rules: Rules,
    leadership: Leadership,
    lease_clock: store::Clock,
    fence: Fence,
    live: watch::Sender<Live>,
    commits: broadcast::Sender<Committed>,
    slots: Slots,
    /// Store revisions of the workloads in `live`.
    revisions: BTreeMap<WorkloadId, Revision>,
    /// When the next round is due.
    due: Time,
    /// No link changes by age alone before this.
    look: Time,
    /// When the next plan for the whole fleet is due: until then events are answered by repairs.
    whole: Time,
    /// The cache's count of changes that ask for a plan, as of the last round.
    asked: u64,
    /// Why the next round comes early.
    why: Option<String>,
    history: History,
    certifier: Certifier,
    evictions: Evictions,
}

impl Term {
    /// Begins a term: re-adopts the plan in force and counts every stored ceiling as granted.
    pub(crate) async fn begin(
        context: Context,
        rules: Rules,
        leadership: Leadership,
        epoch: u64,
        live: watch::Sender<Live>,
        commits: broadcast::Sender<Committed>,
    ) -> Result<Self, commit::Error> {
        let in_force = commit::load(&context.store).await?;
        let now = clock::begin_term(&*context.clock, in_force.as_ref());
        let fence = Fence { epoch, leader: leadership.create_revision().0, plan: 0 };
        let fresh = inherit(&context, &rules, fence, in_force, now);
        let asked = context.cache.borrow().asked;
        live.send_replace(fresh);
        let mut term = Self {
            context,
            rules,
            leadership,
            lease_clock: store::Clock::boot(),
            fence,
            live,
            commits,
            slots: BTreeMap::new(),
            revisions: BTreeMap::new(),
            due: now + GATHER,
            look: now,
            whole: now + GATHER,
            asked,
            why: Some("a new leader".into()),
            history: History::default(),
            certifier: Certifier::default(),
            evictions: Evictions::default(),
        };
        term.sync_workloads();
        Ok(term)
    }

    /// The condition of each write in this term.
    pub(crate) fn fence_compare(&self) -> Compare {
        self.leadership.fence_compare()
    }

    /// The same for this task's own writes, unless it is sabotaged.
    fn fence(&self) -> Option<Compare> {
        fence(self.fence_compare(), self.rules.sabotage)
    }

    /// An empty transaction under the fence.
    fn txn(&self) -> Txn {
        Txn { compares: self.fence().into_iter().collect(), ..Txn::new() }
    }

    /// Whether the lease may be gone, so that nothing must be sent.
    fn is_deposed(&self) -> bool {
        self.fence().is_some() && self.leadership.may_be_gone(self.lease_clock.now())
    }

    /// Leads until the office is lost or the process ends. What it answers beside is to be kept until everybody can see that the
    /// office is vacant: a session whose slot goes before takes itself for superseded, and names no leader to its agent.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        cancel: &CancellationToken,
    ) -> (Ended, Slots) {
        let mut cache = self.context.cache.clone();
        let fenced = self.fence().is_some();
        let ended = loop {
            let wake = self.wake();
            let outcome = tokio::select! {
                () = cancel.cancelled() => break Ended::Cancelled,
                () = lost(fenced, &self.leadership) => break Ended::Lost,
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event).await,
                    None => break Ended::Cancelled,
                },
                changed = cache.changed() => match changed {
                    Ok(()) => self.on_store().await,
                    Err(_) => break Ended::Cancelled,
                },
                bound = self.certifier.done() => self.certified(bound),
                () = self.context.clock.sleep_until(wake) => self.on_time(cancel).await,
            };
            if let Err(error) = outcome {
                if matches!(error, commit::Error::NotLeader) {
                    break Ended::Lost;
                }
                self.context.counts.store_error(&error);
                tracing::warn!(error = &error as &dyn std::error::Error, "a write was put off");
            }
        };
        if ended == Ended::Cancelled {
            events::hand_over(&self.context).await;
        }
        let now = self.context.clock.now();
        self.live.send_replace(Live::new(self.rules.freshness, self.context.settings.validity, now));
        if ended == Ended::Cancelled
            && let Err(error) = self.leadership.resign().await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the office was not vacated; its lease runs out"
            );
        }
        (ended, self.slots)
    }

    /// When to look at links or plan next. All links are looked through when the last answer's time has come, not for each event:
    /// reports only put changes off, and a link that is not looked at yet does not age before `Freshness::online`.
    fn wake(&mut self) -> Time {
        let now = self.context.clock.now();
        if self.look <= now {
            let soonest = now + self.rules.freshness.online + Span::new(1);
            let change = self.live.borrow().tracker.next_change(now);
            self.look = change.map_or(soonest, |change| change.min(soonest));
        }
        self.look.min(self.due)
    }

    async fn on_event(&mut self, event: Event) -> Result<(), commit::Error> {
        match event {
            Event::Opened { module, session, agent, slot } => {
                self.open(&module, session, agent);
                // The old session's slot drops here, which ends it.
                self.slots.insert(module, slot);
                Ok(())
            }
            Event::Closed { module, session } => {
                let now = self.context.clock.now();
                self.live.send_modify(|live| {
                    live.tracker.closed(&module, session);
                    live.tell(now, format!("module {module}"), "its agent's session ended");
                });
                Ok(())
            }
            Event::Report { session, latest } => match latest.take() {
                Some(report) => self.on_report(session, report).await,
                None => Ok(()),
            },
            Event::Told { subject, what } => {
                let now = self.context.clock.now();
                self.live.send_modify(|live| live.tell(now, subject, what));
                Ok(())
            }
        }
    }

    fn open(&mut self, module: &ModuleId, session: SessionId, agent: Agent) {
        // The session may have seen a module in the cache before this task has.
        if self.live.borrow().tracker.seen(module).is_none() {
            self.register();
        }
        let now = self.context.clock.now();
        self.live.send_modify(|live| {
            live.tracker.opened(module, session);
            live.tell(now, format!("module {module}"), format!("its agent {} said hello", agent.version));
            live.agents.insert(module.clone(), agent);
        });
    }

    async fn on_report(&mut self, session: SessionId, report: Report) -> Result<(), commit::Error> {
        let now = self.context.clock.now();
        let module = report.module.clone();
        let Some(site) = self.site_of(&module) else { return Ok(()) };
        let urgent = self.urgent(&site, &report);
        let news = self.news(&site, &report, now);
        let mut taken = Taken::Outdated;
        self.live.send_modify(|live| taken = take(live, session, report, now));
        let Taken::Accepted { returned, rebooted } = taken else { return Ok(()) };
        self.note_heard(&module, news, (returned, rebooted), now);
        self.confirm_silent(&site, now);
        if let Some(why) = urgent {
            self.hurry(why);
        }
        if returned {
            self.hurry(format!("module {module} is back in touch"));
            let txn = self.txn().delete(key::lost(&module));
            self.fenced(txn).await?;
        }
        self.settle(Some(&module)).await?;
        self.send(&[site]).await
    }

    async fn on_store(&mut self) -> Result<(), commit::Error> {
        self.register();
        self.sync_workloads();
        let asked = self.context.cache.borrow().asked;
        if asked != self.asked {
            self.asked = asked;
            self.hurry("workloads, modules or sites changed".into());
            self.settle(None).await?;
        }
        Ok(())
    }

    async fn on_time(&mut self, cancel: &CancellationToken) -> Result<(), commit::Error> {
        let now = self.context.clock.now();
        let mut lost = Vec::new();
        self.live.send_if_modified(|live| {
            lost = live.tracker.find_lost(now);
            for module in &lost {
                live.tell(now, format!("module {module}"), "its link is lost");
            }
            !lost.is_empty()
        });
        for module in &lost {
            self.hurry(format!("module {module} is out of touch"));
            self.note_lost(module, now);
        }
        for batch in lost.chunks(LOSSES) {
            let put = |module| commit::put(key::lost(module), &LostRecord { since: now });
            let puts = batch.iter().map(put).collect::<Result<Vec<Op>, store::Error>>()?;
            self.fenced(Txn { then: puts, ..self.txn() }).await?;
        }
        self.settle(None).await?;
        if now < self.due || (self.live.borrow().rounds.is_empty() && self.gathering(now)) {
            return Ok(());
        }
        self.round(now, cancel).await
    }

    /// The first plan of a term waits a little for modules that have not reported yet.
    fn gathering(&mut self, now: Time) -> bool {
        let live = self.live.borrow();
        let waiting = now < live.since + GATHER && !live.tracker.complete();
        if waiting {
            self.due = live.since + GATHER;
        }
        waiting
    }

    /// Asks for a plan soon; more reasons within the debounce make no second one.
    fn hurry(&mut self, why: String) {
        let soon = self.context.clock.now() + DEBOUNCE;
        if soon < self.due {
            self.due = soon;
            self.why = Some(why);
        }
    }

    /// One round of planning; a failed one leaves the old plan in force. A process that ends waits for no plan: its successor makes
    /// a newer one sooner. What is being committed is committed.
    async fn round(&mut self, now: Time, cancel: &CancellationToken) -> Result<(), commit::Error> {
        self.due = now + ROUND;
        let why = self.why.take();
        let order = self.order(why.is_some() && now < self.whole, now);
        let parent = self.live.borrow().in_force.clone();
        let deciding = cycle::decide(order, self.rules.planner, self.rules.sabotage);
        let checked = match cancel.run_until_cancelled(deciding).await {
            Some(Ok(checked)) => checked,
            Some(Err(error)) => return self.refused(error, now),
            None => return Ok(()),
        };
        let prune = prunable(&self.context.cache.borrow(), KEEP_PLANS);
        let counts = self.context.counts.clone();
        counts.phase(Phase::Plan, checked.took.plan);
        counts.phase(Phase::Check, checked.took.check);
        let began = Instant::now();
        match cycle::commit(&self.context.store, self.fence(), parent.as_ref(), &checked, prune).await {
            Ok(in_force) => {
                counts.phase(Phase::Commit, began.elapsed());
                self.in_force(checked.round, in_force, why, now).await
            }
            Err(cycle::Error::Commit(commit::Error::Outrun)) => self.outrun(now).await,
            Err(error) => self.refused(error, now),
        }
    }

    async fn in_force(
        &mut self,
        round: crate::live::Round,
        in_force: InForce,
        why: Option<String>,
        now: Time,
    ) -> Result<(), commit::Error> {
        let generation = in_force.plan.generation;
        let target = in_force.target;
        let on_event = why.is_some();
        let repaired = round.input.touched.as_ref().map(|touched| touched.len());
        match repaired {
            // A repair does not put the next whole plan off.
            Some(_) => self.due = self.due.min(self.whole),
            None => self.whole = now + ROUND,
        }
        self.context.counts.round(if repaired.is_some() { Outcome::Repair } else { Outcome::Whole });
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
        if let Some(round) = round {
            self.certify(&round, on_event, now);
            // Nobody listening is no error.
            let _ = self.commits.send(Committed { fence: self.fence, round });
        }
        self.settle(None).await?;
        let sites: Vec<SiteId> = self.context.cache.borrow().sites.keys().cloned().collect();
        self.send(&sites).await?;
        self.compact(now, target).await;
        Ok(())
    }

    fn refused(&mut self, error: cycle::Error, now: Time) -> Result<(), commit::Error> {
        match error {
            cycle::Error::Commit(error) => {
                self.due = now + RETRY;
                self.context.counts.round(Outcome::PutOff);
                Err(error)
            }
            cycle::Error::Refused { generation, findings } => {
                let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
                self.context.counts.round(Outcome::Refused);
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
                self.context.counts.round(Outcome::Failed);
                self.live.send_modify(|live| live.refused += 1);
                Ok(())
            }
        }
    }

    /// The plan in force is not the one this leader knew: an import replaced it, or a commit whose answer never came took place
    /// after all. It is read again, and planned upon.
    async fn outrun(&mut self, now: Time) -> Result<(), commit::Error> {
        self.due = now + RETRY;
        self.context.counts.round(Outcome::Outrun);
        let in_force = commit::load(&self.context.store).await?;
        let generation = in_force.as_ref().map_or(0, |in_force| in_force.plan.generation);
        tracing::warn!(generation, "the plan in force was replaced, it is planned upon");
        self.fence.plan = generation;
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

    /// What to plan: on an event what it touched, else everything.
    fn order(&self, on_event: bool, now: Time) -> Order {
        let input = self.input(now);
        let live = self.live.borrow();
        let generation = live.in_force.as_ref().map(|in_force| in_force.plan.generation);
        let before = live.round().filter(|round| on_event && Some(round.plan.generation) == generation);
        match before {
            Some(before) => touch::order(before, input),
            None => Order::whole(input),
        }
    }

    fn input(&self, now: Time) -> planner::Input {
        let cache = self.context.cache.borrow();
        let live = self.live.borrow();
        let parent = live
            .in_force
            .as_ref()
            .map(|in_force| Plan { bound: live.last_bound(), ..Plan::clone(&in_force.plan) });
        let market = *self.context.market.borrow();
        observe::input(&cache, &live.tracker, &live.workloads, parent, market, now)
    }

    fn urgent(&self, site: &SiteId, report: &Report) -> Option<String> {
        if self.live.borrow().was_planned_blind(&report.module) {
            return Some(format!("module {} reports for the first time", report.module));
        }
        let now = report.site.as_ref()?;
        let cache = self.context.cache.borrow();
        let config = &cache.sites.get(site)?.value;
        let live = self.live.borrow();
        let planned = live.round().and_then(|round| round.input.sites.get(site)?.report.clone());
        observe::urgent(config, planned.as_ref(), now)
    }

    fn site_of(&self, module: &ModuleId) -> Option<SiteId> {
        self.context.cache.borrow().modules.get(module).map(|stored| stored.value.module.site.clone())
    }

    /// Makes modules known that were configured since.
    fn register(&mut self) {
        let cache = self.context.cache.borrow();
        self.live.send_modify(|live| register(live, &cache));
    }

    /// Runs a transaction; a failed fence means that somebody else leads.
    async fn fenced(&self, txn: Txn) -> Result<Revision, commit::Error> {
        let outcome = call(&self.context.store, txn).await?;
        if outcome.succeeded { Ok(outcome.revision) } else { Err(commit::Error::NotLeader) }
    }
}

/// Returns once the office is lost; never for one that skips its fence.
async fn lost(fenced: bool, leadership: &Leadership) {
    match fenced {
        true => leadership.lost().await,
        false => std::future::pending().await,
    }
}

fn inherit(context: &Context, rules: &Rules, fence: Fence, in_force: Option<InForce>, now: Time) -> Live {
    let cache = context.cache.borrow();
    let mut live = Live::new(rules.freshness, context.settings.validity, now);
    live.term = Some(fence);
    live.restored = restored_at(fence.epoch);
    live.in_force = in_force;
    register(&mut live, &cache);
    for (module, grant) in &cache.grants {
        let offers: Vec<Offer> = grant
            .outstanding
            .iter()
            .map(|o| Offer { generation: o.generation, ceiling: o.ceiling, fallback: o.fallback })
            .collect();
        live.book.inherit(module, &offers, now);
    }
    live.tell(now, "controller", "leads");
    live
}

/// When the store was restored or imported, by its epoch: the first one is 1, every later one the seconds since 1970 or more
/// (`maintenance.rs`).
fn restored_at(epoch: u64) -> Option<Time> {
    (epoch > 1).then(|| Time(i64::try_from(epoch).unwrap_or(i64::MAX).saturating_mul(1_000)))
}

fn register(live: &mut Live, cache: &crate::cache::Cache) {
    for (id, stored) in &cache.modules {
        let module = &stored.value.module;
        live.book.register(id, &module.site, module.base_draw());
        live.tracker.register(id, cache.grants.contains_key(id), cache.lost.get(id).copied());
    }
}

/// Takes in a report: link, acknowledgement, meter.
fn take(live: &mut Live, session: SessionId, report: Report, now: Time) -> Taken {
    let mut heard = Heard {
        generation: report.envelope.generation,
        ceiling: report.envelope.ceiling,
        valid: report.envelope.state == EnvelopeState::Valid,
        meter: report.meter,
        stamp: report.stamp.at,
        rebooted: false,
        received: now,
    };
    let module = report.module.clone();
    let taken = live.tracker.reported(session, report, now);
    if let Taken::Accepted { rebooted, .. } = taken {
        heard.rebooted = rebooted;
        live.book.heard(&module, &heard);
        let Live { tracker, strays, drifts, published, workloads, .. } = live;
        if let Some(report) = tracker.report(&module) {
            strays.note(report, workloads, now);
            drifts.note(published.get(&module), report, now);
        }
    }
    taken
}
