//! Joins the witness to what really happens: the physics, the agents' disks, the store, the pool's books.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::run::Started;
use agent::simulated::{self, World};
use agent::witnessed::edge_tally;
use controller::term::Committed;
use model::fleet::Fleet;
use model::ledger::Segment;
use model::time::Clock;
use model::{ModuleId, SiteId, Time};
use sim::clock::SimClock;
use sim::island::Island;
use sim::lockstep::Observer;
use sim::pool::Refusal;
use sim::witness::{CommitSeen, Options, PoolTally, Summary, Witness};
use store::{Store, key};
use stratum::account::Tally;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinSet;

use super::fleet::Agents;

/// Plans made again at once for one controller: planning keeps a core busy, and the other is the plant's.
const MAX_REPLANNING: usize = 2;

/// A witness that many threads tell what they see. Cheap to clone.
#[derive(Clone)]
pub struct SharedWitness {
    shared: Arc<Mutex<Witness>>,
}

impl SharedWitness {
    /// A witness of the fleet.
    pub fn new(fleet: &Fleet) -> Self {
        Self { shared: Arc::new(Mutex::new(Witness::new(fleet, Options::default()))) }
    }

    /// The lockstep's onlooker.
    pub fn onlooker(&self) -> Onlooker {
        Onlooker { witness: self.clone(), seen: BTreeMap::new(), losses: Arc::default() }
    }

    /// A sealed segment of a module's ledger.
    pub fn ledger(&self, segment: &Segment) {
        self.lock().ledger(segment);
    }

    /// An agent starts or ends.
    pub fn agent(&self, module: &ModuleId, at: Time, up: bool) {
        self.lock().agent(module, at, up);
    }

    /// An agent's link comes or goes.
    pub fn link(&self, module: &ModuleId, at: Time, up: bool) {
        self.lock().link(module, at, up);
    }

    /// Tells what an agent has persisted and what it found, for as long as it runs.
    pub async fn watch_agent(self, module: ModuleId, clock: SimClock, started: Started) {
        let Started { mut directive, mut reports, .. } = started;
        loop {
            tokio::select! {
                changed = directive.changed() => if changed.is_err() { return },
                changed = reports.changed() => if changed.is_err() { return },
            }
            let report = reports.borrow_and_update().clone();
            let Some(report) = report else { continue };
            if directive.has_changed().unwrap_or(false) || report.sequence == 0 {
                let held = directive.borrow_and_update().clone();
                if let Some(held) = held {
                    self.lock().directive(&module, clock.now(), &report.stamp, &held);
                }
            }
            self.lock().findings(&module, report.at, &report.findings);
        }
    }

    /// Reads each commit's place in the store, and plans its input again. Never ends by itself.
    pub async fn watch_commits(&self, commits: Vec<broadcast::Receiver<Committed>>, store: Store) {
        let mut watches = JoinSet::new();
        for commits in commits {
            watches.spawn(self.clone().watch_controller(commits, store.clone()));
        }
        while watches.join_next().await.is_some() {}
        std::future::pending().await
    }

    /// Tells commits as they come: what two controllers commit is put in order within ten simulated seconds. Planning again
    /// takes its time beside that.
    async fn watch_controller(self, mut commits: broadcast::Receiver<Committed>, store: Store) {
        let mut replanning = JoinSet::new();
        loop {
            match commits.recv().await {
                Ok(committed) => {
                    self.take_commit(&committed, &store).await;
                    if replanning.len() >= MAX_REPLANNING {
                        replanning.join_next().await;
                    }
                    replanning.spawn(self.clone().replan(committed.round));
                }
                // Told late, some commits are not replanned: the count of checks shows it.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
        while replanning.join_next().await.is_some() {}
    }

    async fn take_commit(&self, Committed { fence, round }: &Committed, store: &Store) {
        let generation = round.plan.generation;
        if let Ok(Some(entry)) = store.get(&key::plan(generation)).await {
            self.lock().commit(CommitSeen {
                generation,
                parent: round.plan.parent,
                leader: fence.leader,
                epoch: fence.epoch,
                store_revision: i64::try_from(entry.mod_revision.0).unwrap_or(i64::MAX),
                at: round.plan.made,
            });
        }
    }

    async fn replan(self, round: Arc<controller::live::Round>) {
        let (generation, at) = (round.plan.generation, round.plan.made);
        let again = tokio::task::spawn_blocking(move || difference(&round)).await;
        if let Ok(difference) = again {
            self.lock().replanned(generation, at, difference.is_none(), difference.as_deref().unwrap_or(""));
        }
    }

    /// Compares each module's shares as its edge and as the pool count them.
    pub fn settle_shares(&self, world: &World, agents: &Agents, at: Time) {
        let books = world.pool.books();
        let mut refused = books.refused.clone();
        for (module, handle) in agents.handles() {
            let Some(proxy) = handle.proxy() else { continue };
            let account = books.workers.get(&simulated::account(&module)).copied().unwrap_or_default();
            let accepted = Tally { shares: account.accepted, work: account.work };
            // The pool counts refusals by reason, not by account: they are told once.
            let refused = std::mem::take(&mut refused);
            let of = |reason| refused.get(&reason).copied().unwrap_or(0);
            let pool = PoolTally {
                accepted,
                duplicate: of(Refusal::Duplicate),
                low_difficulty: of(Refusal::LowDifficulty),
                malformed: of(Refusal::Malformed),
            };
            // Asked at the end only, when every agent has sealed what it owed.
            self.lock().shares(&module, at, edge_tally(&proxy.stats()), pool);
        }
    }

    /// What became of every invariant.
    pub fn finish(&self) -> Summary {
        self.lock().clone().finish()
    }

    fn lock(&self) -> MutexGuard<'_, Witness> {
        // A witness that panicked in one check has printed so; what it saw before still counts.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plans a committed input again; answers what differs.
fn difference(round: &controller::live::Round) -> Option<String> {
    let again = planner::plan(&round.input).plan;
    // The controller fills in the input's digest; all else is the planner's.
    let again = model::plan::Plan { input: round.plan.input.clone(), ..again };
    let bytes = |plan: &model::plan::Plan| serde_json::to_string(plan).unwrap_or_default();
    let (first, second) = (bytes(&round.plan), bytes(&again));
    if first == second {
        return None;
    }
    let at = first.bytes().zip(second.bytes()).take_while(|(left, right)| left == right).count();
    let near =
        |text: &str| text.get(at.saturating_sub(40)..(at + 40).min(text.len())).unwrap_or("").to_owned();
    Some(format!("…{} instead of …{}", near(&second), near(&first)))
}

/// Looks on at the physics.
pub struct Onlooker {
    witness: SharedWitness,
    /// The last event seen of each site.
    seen: BTreeMap<SiteId, u64>,
    losses: Arc<Mutex<Losses>>,
}

/// What each island has lost so far.
#[derive(Debug, Default)]
pub struct Losses {
    /// Blackouts, and firm runs that they ended.
    islands: BTreeMap<SiteId, (u64, u64)>,
}

impl Losses {
    /// Over all islands.
    pub fn total(&self) -> (u64, u64) {
        self.islands.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Onlooker {
    /// What is lost, as it is counted.
    pub fn losses(&self) -> Arc<Mutex<Losses>> {
        self.losses.clone()
    }
}

impl Observer for Onlooker {
    fn tenth(&mut self, island: &Island) {
        self.witness.lock().load(&island.site().id, island.now(), island.carried());
    }

    fn second(&mut self, island: &Island) {
        let seen = self.seen.entry(island.site().id.clone()).or_default();
        let events: Vec<_> = island.events_after(*seen).cloned().collect();
        *seen = events.last().map_or(*seen, |event| event.sequence);
        let truth = island.truth();
        let lost = (u64::from(truth.blackouts), u64::from(truth.firm_lost));
        self.losses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .islands
            .insert(island.site().id.clone(), lost);
        self.witness.lock().second(&island.site().id, &truth, &events);
    }
}
