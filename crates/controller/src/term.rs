//! One term of the leader: the only task that changes the leader's knowledge, plans, and sends directives.
//!
//! Everything arrives here in one order: what agents say, what changes in the store, and time. So two decisions never race.
//! It sends nothing once the lease may be gone. Assumes a bounded inbox and that the cache has seen the leader's own key.
//! Plans are made beside it (`term/round.rs`), so that reports are taken in meanwhile. Read next: `term/settle.rs` (workloads),
//! `term/send.rs` (directives), `term/touch.rs` (what an event touched), `term/certify.rs` (bounds), `cycle.rs` (plans).

mod back;
mod certify;
mod decided;
mod note;
mod round;
mod send;
mod settle;
mod touch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::envelope::Fence;
use model::report::Report;
use model::time::Clock;
use model::{ModuleId, SiteId, Span, Time, WorkloadId};
use store::{Compare, Leadership, Op, Revision, Txn, key};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::commit::{self, InForce, call};
use crate::context::Context;
use crate::cycle::Planner;
use crate::events;
use crate::evict::Evictions;
use crate::grants::{Heard, Offer};
use crate::history::History;
use crate::latest::Latest;
use crate::live::{Agent, Live};
use crate::observe;
use crate::publish::Published;
use crate::records::LostRecord;
use crate::sabotage::{Sabotage, fence};
use crate::tracker::{Freshness, SessionId, Taken};
use back::Back;
use certify::Certifier;
use decided::Decided;
use round::Planning;
use settle::Holders;

/// A plan for the whole fleet is made at least this often.
pub const ROUND: Span = Span::secs(30);
/// Events within this time of the first are answered by one plan.
pub const DEBOUNCE: Span = Span::new(200);
/// Modules whose loss is stored in one transaction, of the store's 128 operations.
const LOSSES: usize = 100;
/// Modules that report for the first time wait for as long as it takes to plan a fleet twice: some 0.1 ms a module. A large fleet that
/// comes in would else keep a core planning.
const COMING_MICROS: usize = 200;
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
        /// How long it may say nothing.
        quiet: Span,
        /// Where its directives go: the latest wins. Dropped when a newer session takes over.
        slot: watch::Sender<Option<Arc<Published>>>,
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
pub(crate) type Slots = BTreeMap<ModuleId, watch::Sender<Option<Arc<Published>>>>;

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
    /// Which of them hold GPUs where.
    holders: Holders,
    /// What the plan in force says of workloads.
    decided: Decided,
    /// Islands whose agents have been told all there is to tell: until something changes there, only renewals.
    still: BTreeSet<SiteId>,
    /// When the next round is due.
    due: Time,
    /// No link changes by age alone before this.
    look: Time,
    /// When the next plan for the whole fleet is due: until then events are answered by repairs.
    whole: Time,
    /// The cache's counts of changes that ask for a plan, and of workloads written, as of the last look.
    asked: u64,
    written: u64,
    /// The plan that is being made.
    planning: Planning,
    /// Why the next round comes early.
    why: Option<String>,
    history: History,
    certifier: Certifier,
    evictions: Evictions,
    /// Modules that the store still has as lost.
    back: Back,
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
        let (asked, written) = counted(&context);
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
            holders: Holders::default(),
            decided: Decided::default(),
            still: BTreeSet::new(),
            due: now + GATHER,
            look: now,
            whole: now + GATHER,
            asked,
            written,
            planning: Planning::default(),
            why: Some("a new leader".into()),
            history: History::default(),
            certifier: Certifier::default(),
            evictions: Evictions::default(),
            back: Back::default(),
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
                made = self.planning.done() => self.made(made).await,
                // While a plan is made it does not sleep, so that simulated time waits for the plan (`PLANNER_SLACK` of `dev`). Links
                // are looked at as soon as it is there.
                () = sleep_until(&self.context.clock, wake), if !self.planning.is_busy() => self.on_time().await,
            };
            let outcome = match outcome {
                Ok(()) => self.forget_lost(inbox.len()).await,
                failed => failed,
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
            Event::Opened { module, session, agent, quiet, slot } => {
                self.open(&module, session, agent, quiet);
                self.stir(&module);
                // The old session's slot drops here, which ends it.
                self.slots.insert(module, slot);
                Ok(())
            }
            Event::Closed { module, session } => {
                let now = self.context.clock.now();
                self.stir(&module);
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

    fn open(&mut self, module: &ModuleId, session: SessionId, agent: Agent, quiet: Span) {
        // The session may have seen a module in the cache before this task has.
        if self.live.borrow().tracker.seen(module).is_none() {
            self.register();
        }
        let now = self.context.clock.now();
        self.live.send_modify(|live| {
            live.tracker.opened(module, session);
            live.tracker.allowed(module, quiet);
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
        let mut taken = (Taken::Outdated, false);
        self.live.send_modify(|live| taken = take(live, session, report, now));
        let (Taken::Accepted { returned, rebooted }, moved) = taken else { return Ok(()) };
        self.note_heard(&module, news, (returned, rebooted), now);
        if self.confirm_silent(&site, now) || moved || returned {
            self.still.remove(&site);
        }
        if let Some((why, within)) = urgent {
            self.hurry_within(why, within);
        }
        if returned {
            self.hurry(format!("module {module} is back in touch"));
            self.back.returned(module.clone(), now);
        }
        self.settle(Some(&module)).await?;
        if self.still.contains(&site) && !self.is_due(&module, now) {
            return Ok(());
        }
        self.send(&[site]).await
    }

    async fn on_store(&mut self) -> Result<(), commit::Error> {
        let (asked, written) = counted(&self.context);
        if written != self.written {
            self.written = written;
            self.sync_workloads();
        }
        if asked != self.asked {
            self.asked = asked;
            self.still.clear();
            self.register();
            self.hurry("workloads, modules or sites changed".into());
            self.settle(None).await?;
        }
        Ok(())
    }

    async fn on_time(&mut self) -> Result<(), commit::Error> {
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
            self.back.lost(module);
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
        self.plan(now);
        Ok(())
    }

    /// Takes modules that are back out of the store's list of lost ones, where as many events as these lie there still.
    async fn forget_lost(&mut self, queued: usize) -> Result<(), commit::Error> {
        while let Some(batch) = self.back.due(queued, self.context.clock.now()) {
            if let Err(error) = self.fenced(back::forget(self.txn(), &batch)).await {
                self.back.failed(self.context.clock.now());
                return Err(error);
            }
            self.back.done(&batch);
        }
        Ok(())
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
        self.hurry_within(why, DEBOUNCE);
    }

    fn hurry_within(&mut self, why: String, within: Span) {
        let soon = self.context.clock.now() + within;
        if soon < self.due {
            self.due = soon;
            self.why = Some(why);
        }
    }

    /// Why a report cannot wait for the next round, and how long it can; not what the plan that is being made knows already.
    fn urgent(&self, site: &SiteId, report: &Report) -> Option<(String, Span)> {
        let live = self.live.borrow();
        let asked = self.planning.asked();
        let blind = live.was_planned_blind(&report.module);
        if asked.map_or(blind, |asked| blind && asked.is_blind(&report.module)) {
            let modules = self.context.cache.borrow().modules.len();
            return Some((format!("module {} reports for the first time", report.module), coming(modules)));
        }
        let now = report.site.as_ref()?;
        let cache = self.context.cache.borrow();
        let config = &cache.sites.get(site)?.value;
        let planned = match asked {
            Some(asked) => asked.site(site),
            None => live.round().and_then(|round| round.input.sites.get(site)?.report.as_ref()),
        };
        observe::urgent(config, planned, now).map(|why| (why, DEBOUNCE))
    }

    /// Something changed for a module: its island is composed anew.
    fn stir(&mut self, module: &ModuleId) {
        if let Some(site) = self.site_of(module) {
            self.still.remove(&site);
        }
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

/// Sleeps from when it is polled, and not from when it is called: `select!` calls for branches that are disabled too.
async fn sleep_until(clock: &Arc<dyn Clock>, at: Time) {
    clock.sleep_until(at).await;
}

/// Returns once the office is lost; never for one that skips its fence.
async fn lost(fenced: bool, leadership: &Leadership) {
    match fenced {
        true => leadership.lost().await,
        false => std::future::pending().await,
    }
}

/// How long a fleet of so many modules waits for others of it to report for the first time too.
fn coming(modules: usize) -> Span {
    let millis = i64::try_from(modules.saturating_mul(COMING_MICROS) / 1_000).unwrap_or(i64::MAX);
    Span::new(millis).max(DEBOUNCE).min(GATHER)
}

/// How often changes asked for a plan, and workloads were written.
fn counted(context: &Context) -> (u64, u64) {
    let cache = context.cache.borrow();
    (cache.asked, cache.written)
}

fn inherit(context: &Context, rules: &Rules, fence: Fence, in_force: Option<InForce>, now: Time) -> Live {
    let cache = context.cache.borrow();
    let mut live = Live::new(rules.freshness, context.settings.validity, now);
    live.term = Some(fence);
    live.restored = restored_at(fence.epoch);
    live.in_force = in_force;
    live.tracker.presume(context.tuning.borrow().quiet);
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

/// Takes in a report: link, acknowledgement, meter. Also whether what may be offered on its island changed by it.
fn take(live: &mut Live, session: SessionId, report: Report, now: Time) -> (Taken, bool) {
    let mut heard = Heard::of(&report, now);
    let module = report.module.clone();
    let first = live.tracker.report(&module).is_none();
    let taken = live.tracker.reported(session, report, now);
    let mut moved = first;
    if let Taken::Accepted { rebooted, .. } = taken {
        heard.rebooted = rebooted;
        moved |= rebooted;
        moved |= live.book.heard(&module, &heard);
        let Live { tracker, strays, drifts, published, workloads, .. } = live;
        if let Some(report) = tracker.report(&module) {
            strays.note(report, workloads, now);
            drifts.note(published.get(&module).map(Arc::as_ref), report, now);
        }
    }
    (taken, moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_fleet_that_comes_in_is_planned_less_often_than_a_small_one() {
        for (modules, millis) in
            [(0, 200), (6, 200), (1_000, 200), (5_000, 1_000), (10_000, 2_000), (usize::MAX, 3_000)]
        {
            assert_eq!(coming(modules), Span::new(millis), "{modules} modules");
        }
    }
}
