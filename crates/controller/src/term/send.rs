//! Tells agents: composes what each module of a site is to be told, stores new generations, then sends.
//!
//! Order matters: an offer counts in the book before it is stored, and is stored before it is sent, so that no envelope ever
//! exists that a successor does not count. Transactions of different modules wait for no other. Read next: `publish.rs` and
//! `grants.rs`, the pure halves.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::report::Report;
use model::{BootStamp, ModuleId, SiteId, Span, Time, Watts};
use store::{Op, Txn, key};
use tokio::task::JoinSet;

use super::Term;
use crate::commit::{self, call, put};
use crate::grants::{Allowed, Desire, Limits};
use crate::live::Live;
use crate::publish::{self, Content, Published};
use crate::records::{GrantRecord, OfferRecord};
use crate::sabotage::Sabotage;

/// Grants in one transaction: within the store's 128 operations, the fence is one more.
const BATCH: usize = 100;
/// Transactions at once: both twins write those that come together in one go.
const AT_ONCE: usize = 8;

/// One directive to send.
struct Outgoing {
    module: ModuleId,
    published: Published,
    /// When the report that it answers was received.
    received: Time,
    /// Its content is new: store it first.
    fresh: bool,
}

impl Term {
    /// Tells the modules of these sites what changed for them, and renews what is due.
    pub(super) async fn send(&mut self, sites: &[SiteId]) -> Result<(), commit::Error> {
        if self.is_deposed() {
            return Ok(());
        }
        let now = self.context.clock.now();
        let outgoing = self.compose_all(sites, now);
        if outgoing.is_empty() {
            return Ok(());
        }
        // From here on they count, whether or not they ever arrive.
        self.live.send_modify(|live| {
            for Outgoing { module, published, received, .. } in &outgoing {
                live.book.record(module, published.content.offer(published.generation), *received);
            }
        });
        let (fresh, renewed): (Vec<Outgoing>, Vec<Outgoing>) =
            outgoing.into_iter().partition(|outgoing| outgoing.fresh);
        self.hand_out(renewed);
        self.store_and_hand_out(fresh).await
    }

    /// Whether a module whose island is still is to be told the same again.
    pub(super) fn is_due(&self, module: &ModuleId, now: Time) -> bool {
        let live = self.live.borrow();
        let known = live.published.get(module).zip(live.tracker.report(module));
        known.is_some_and(|(published, report)| self.is_again(&live, module, published, &report.stamp, now))
    }

    /// What is to be told to the modules of these sites. Where that is nothing, it stays nothing until something changes there.
    fn compose_all(&mut self, sites: &[SiteId], now: Time) -> Vec<Outgoing> {
        // For a while after a restore it depends on the time as well.
        let settles = self.live.borrow().restored.is_none();
        let mut all = Vec::new();
        for site in sites {
            let outgoing = self.compose(site, now);
            if settles && outgoing.is_empty() {
                self.still.insert(site.clone());
            }
            all.extend(outgoing);
        }
        all
    }

    /// Stores new grants, some transactions at a time, and hands out what is stored.
    async fn store_and_hand_out(&mut self, fresh: Vec<Outgoing>) -> Result<(), commit::Error> {
        let mut waiting = fresh.into_iter().peekable();
        let mut storing = JoinSet::new();
        loop {
            while storing.len() < AT_ONCE && waiting.peek().is_some() {
                let batch: Vec<Outgoing> = waiting.by_ref().take(BATCH).collect();
                let (store, txn) = (self.context.store.clone(), self.grants(&batch)?);
                storing.spawn(async move { (call(&store, txn).await, batch) });
            }
            let Some(stored) = storing.join_next().await else { return Ok(()) };
            let (outcome, batch) = stored.expect("a transaction does not panic");
            if !outcome?.succeeded {
                return Err(commit::Error::NotLeader);
            }
            if self.is_deposed() {
                return Ok(());
            }
            self.hand_out(batch);
        }
    }

    /// Puts directives where their sessions take them.
    fn hand_out(&mut self, outgoing: Vec<Outgoing>) {
        self.live.send_if_modified(|live| {
            let some = !outgoing.is_empty();
            for Outgoing { module, published, fresh, .. } in outgoing {
                self.note_drift(live, &module, published.sent);
                let published = Arc::new(published);
                live.drifts.told(&module, published.sent);
                if let Some(slot) = self.slots.get(&module) {
                    self.context.counts.envelope(fresh);
                    slot.send_replace(Some(Arc::clone(&published)));
                }
                live.published.insert(module, published);
            }
            some
        });
    }

    /// The transaction that stores what is granted to these modules.
    fn grants(&self, outgoing: &[Outgoing]) -> Result<Txn, commit::Error> {
        let live = self.live.borrow();
        let puts = outgoing.iter().map(|outgoing| grant(&live, &outgoing.module));
        Ok(Txn { then: puts.collect::<Result<Vec<Op>, store::Error>>()?, ..self.txn() })
    }

    /// Frees what expired envelopes of silent modules allowed, as far as the site's own meter bounds their draw.
    ///
    /// Not where agents need not say what changes little: their readings may be older than the site's.
    /// Answers whether there were any.
    pub(super) fn confirm_silent(&self, site: &SiteId, now: Time) -> bool {
        let cache = self.context.cache.borrow();
        if self.live.borrow().tracker.silence(modules_of(&cache, site)) > Span::ZERO {
            return false;
        }
        self.live.send_if_modified(|live| {
            let Some(bound) = silent_bound(live, &cache, site, now) else { return false };
            let silent: Vec<ModuleId> = modules_of(&cache, site)
                .filter(|module| !live.tracker.link(module, now).is_in_touch())
                .cloned()
                .collect();
            for module in &silent {
                live.book.confirmed_outside(module, bound, now);
            }
            !silent.is_empty()
        })
    }

    fn compose(&self, site: &SiteId, now: Time) -> Vec<Outgoing> {
        let cache = self.context.cache.borrow();
        let live = self.live.borrow();
        let plan = live.in_force.as_ref().and_then(|in_force| in_force.plan.sites.get(site));
        let Some((plan, config)) = plan.zip(cache.sites.get(site)) else { return Vec::new() };
        let seen = plan.modules.keys().filter(|id| !live.was_planned_blind(id));
        let heard: BTreeMap<&ModuleId, (&Report, Time)> =
            seen.filter_map(|id| Some((id, self.heard(&live, id)?))).collect();
        let desires: BTreeMap<ModuleId, Desire> =
            heard.keys().map(|id| ((*id).clone(), publish::desire(&plan.modules[*id]))).collect();
        let limits = Limits {
            capacity: plan.capacity,
            firm_capacity: plan.firm_capacity,
            unmanaged: config.value.unmanaged,
        };
        let allowed = match self.rules.sabotage {
            Some(Sabotage::OverGrant) => {
                desires.iter().map(|(id, desire)| (id.clone(), all(&cache, id, desire))).collect()
            }
            _ if live.hides_grants(modules_of(&cache, site), self.context.settings.validity, now) => {
                live.book.keep(site, &desires)
            }
            _ => live.book.offer(site, limits, &desires),
        };
        let compose = |(id, (report, received)): (&ModuleId, (&Report, Time))| {
            let module = plan.modules.get(id)?;
            let before = live.published.get(id);
            let told = before.map(|published| &published.content);
            let runs = publish::assignments(id, module, |workload| live.workloads.get(workload), told);
            let wired = cache.modules.get(id).is_some_and(|stored| stored.value.module.wired);
            let content = publish::compose(plan, module, wired, *allowed.get(id)?, runs);
            self.outgoing(&live, id, content, &report.stamp, received, now)
        };
        heard.into_iter().filter_map(compose).collect()
    }

    fn outgoing(
        &self,
        live: &Live,
        module: &ModuleId,
        content: Content,
        stamp: &BootStamp,
        received: Time,
        now: Time,
    ) -> Option<Outgoing> {
        let known = live.published.get(module).filter(|published| {
            published.content == content && published.generation == live.book.generation(module)
        });
        if known.is_some_and(|published| !self.is_again(live, module, published, stamp, now)) {
            return None;
        }
        let (fence, generation) = match known {
            Some(published) => (published.fence, published.generation),
            None => {
                let plan = live.in_force.as_ref().map_or(0, |in_force| in_force.plan.generation);
                (model::envelope::Fence { plan, ..self.fence }, live.book.generation(module) + 1)
            }
        };
        let published = Published { fence, generation, content, answered: stamp.clone(), sent: now };
        Some(Outgoing { module: module.clone(), published, received, fresh: known.is_none() })
    }

    /// Whether what a module was told is to be told again, in answer to a report with this stamp.
    fn is_again(
        &self,
        live: &Live,
        module: &ModuleId,
        published: &Published,
        stamp: &BootStamp,
        now: Time,
    ) -> bool {
        let validity = self.context.settings.validity;
        publish::renewal_due(published, stamp, validity, now) || live.drifts.is_due(module, now)
    }

    /// The last report of a module that can be answered: it has a session, and reported in this term.
    fn heard<'a>(&self, live: &'a Live, module: &ModuleId) -> Option<(&'a Report, Time)> {
        let seen = live.tracker.seen(module)?;
        seen.session.filter(|_| self.slots.contains_key(module))?;
        seen.last.as_ref().map(|(report, at)| (report, *at))
    }
}

fn grant(live: &Live, module: &ModuleId) -> Result<Op, store::Error> {
    let outstanding = live.book.outstanding(module).into_iter();
    let record = GrantRecord {
        generation: live.book.generation(module),
        outstanding: outstanding
            .map(|o| OfferRecord { generation: o.generation, ceiling: o.ceiling, fallback: o.fallback })
            .collect(),
    };
    put(key::grant(module), &record)
}

/// The sabotage: everything that the module's own breaker takes, whatever the island has.
fn all(cache: &crate::cache::Cache, module: &ModuleId, desire: &Desire) -> Allowed {
    let limit = cache.modules.get(module).map_or(desire.ceiling, |stored| stored.value.module.most());
    Allowed { ceiling: limit, fallback: desire.fallback }
}

fn modules_of<'a>(cache: &'a crate::cache::Cache, site: &'a SiteId) -> impl Iterator<Item = &'a ModuleId> {
    cache.modules_of(site).map(|(id, _)| id)
}

/// The most that all silent modules of a site draw together: the island's load less what the others certainly draw and the
/// unmanaged load. `None` where a reading is missing or old.
fn silent_bound(live: &Live, cache: &crate::cache::Cache, site: &SiteId, now: Time) -> Option<Watts> {
    let (report, at) = crate::observe::site_report(cache, &live.tracker, site)?;
    if now.since(at) > crate::observe::site_limit(cache, &live.tracker, site) {
        return None;
    }
    let drawn: Watts =
        modules_of(cache, site).filter_map(|module| live.tracker.least_draw(module, now)).sum();
    Some((report.load? - report.unmanaged.unwrap_or_default() - drawn).at_least_zero())
}
