//! The agents of the run, and the faults that strike links and processes instead of physics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::metrics::Watched;
use agent::proxy;
use agent::run::Started;
use agent::simulated::{self, Wiring, World};
use anyhow::Context;
use model::time::Clock;
use model::{ModuleId, Span};
use sim::clock::Participant;
use sim::fault::Kind;
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scenario::Scenario;
use super::witness::SharedWitness;
use super::{START_PATIENCE, controllers};

/// An agent that was killed is started again after this, in simulated time, as by a supervisor.
const RESTART_PAUSE: Span = Span::secs(4);
/// How far simulated time goes on while it starts: what a start takes depends on this machine's disk, what follows must not.
const RESTART_SLACK: Span = Span::secs(1);
/// Simulated time waits for a fault that is due, and for its end.
const STRIKE_SLACK: Span = Span::new(100);
/// A pool that is lost without a span is away this long, in simulated time.
const POOL_LOSS: Span = Span::hours(1);
/// Until it is told to come back: longer than any run, on wall time.
const FOR_GOOD: Duration = Duration::from_secs(30 * 86_400);

/// The running agents.
pub struct Agents {
    tasks: JoinSet<anyhow::Result<()>>,
    handles: Handles,
    cancel: CancellationToken,
}

/// One agent, for faults and for the summary. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    plug: watch::Sender<bool>,
    kill: Arc<Mutex<CancellationToken>>,
    proxy: Arc<Mutex<Option<proxy::Handle>>>,
}

/// All agents, by module.
pub type Handles = BTreeMap<ModuleId, Handle>;

/// What agents find around them.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Their plants, and the pool.
    pub world: &'a Arc<World>,
    /// Who checks them.
    pub witness: &'a SharedWitness,
    /// Controllers, as URLs.
    pub endpoints: &'a [String],
    /// Where they show how they stand.
    pub watched: &'a Watched,
}

/// Starts the agent of every module and waits until they are seated.
pub async fn start(
    scenario: &Scenario,
    around: Around<'_>,
    cancel: &CancellationToken,
) -> anyhow::Result<Agents> {
    let Around { world, witness, endpoints, watched } = around;
    let cancel = cancel.child_token();
    let mut agents = Agents { tasks: JoinSet::new(), handles: BTreeMap::new(), cancel: cancel.clone() };
    let (tell, mut told) = mpsc::channel(scenario.fleet.modules.len().max(1));
    for module in &scenario.fleet.modules {
        let handle = Handle { plug: watch::Sender::new(true), kill: Arc::default(), proxy: Arc::default() };
        agents.handles.insert(module.id.clone(), handle.clone());
        let agent = Agent {
            id: module.id.clone(),
            world: world.clone(),
            witness: witness.clone(),
            watched: watched.clone(),
            handle,
            wiring: Template::new(scenario, endpoints),
        };
        agents.tasks.spawn(agent.keep(tell.clone(), cancel.clone()));
    }
    drop(tell);
    let seated = async {
        for _ in &scenario.fleet.modules {
            if told.recv().await.is_none() {
                return;
            }
        }
    };
    tokio::select! {
        seated = tokio::time::timeout(START_PATIENCE, seated) => seated.context("the agents do not start; see the log")?,
        failed = agents.tasks.join_next() => {
            failed.context("there are no modules")?.context("an agent panicked")??;
        }
    }
    Ok(agents)
}

impl Agents {
    /// All agents, by module.
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// Resolves when an agent ends that was not told to: the world has ended, or something failed for good.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(ended) => ended.context("an agent panicked")?,
            None => Ok(()),
        }
    }

    /// Ends all agents and waits until each has sealed what it owes.
    pub async fn finish(&mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Handle {
    /// The proxy, once it runs.
    pub fn proxy(&self) -> Option<proxy::Handle> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kill(&self) {
        self.kill.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}

/// What every agent's wiring has in common.
#[derive(Clone)]
struct Template {
    data: std::path::PathBuf,
    controllers: Vec<String>,
    reflex: bool,
    sabotage: super::sabotage::Sabotage,
}

impl Template {
    fn new(scenario: &Scenario, controllers: &[String]) -> Self {
        Self {
            data: scenario.data.join("agent"),
            controllers: controllers.to_vec(),
            reflex: !scenario.args.no_reflex,
            sabotage: scenario.sabotage.clone(),
        }
    }
}

struct Agent {
    id: ModuleId,
    world: Arc<World>,
    witness: SharedWitness,
    watched: Watched,
    handle: Handle,
    wiring: Template,
}

impl Agent {
    /// Runs the agent, and again when it was killed, until cancelled.
    async fn keep(self, tell: mpsc::Sender<()>, cancel: CancellationToken) -> anyhow::Result<()> {
        let clock = self.world.clock.participant(RESTART_SLACK);
        loop {
            let kill = cancel.child_token();
            *self.handle.kill.lock().unwrap_or_else(PoisonError::into_inner) = kill.clone();
            let ended = self.once(tell.clone(), clock.clone(), kill.clone()).await;
            self.witness.agent(&self.id, self.world.clock.now(), false);
            if cancel.is_cancelled() || self.world.has_ended() || !kill.is_cancelled() {
                return ended.with_context(|| format!("the agent of {} ended", self.id));
            }
            // The dead agent's books hold its directory; the next one opens it.
            *self.handle.proxy.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.watched.remove(&self.id);
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = clock.sleep_until(clock.now() + RESTART_PAUSE) => {}
            }
        }
    }

    async fn once(
        &self,
        tell: mpsc::Sender<()>,
        restart: Participant,
        kill: CancellationToken,
    ) -> anyhow::Result<()> {
        let witness = self.witness.clone();
        let wiring = Wiring {
            data: self.wiring.data.join(self.id.as_str()),
            controllers: self.wiring.controllers.clone(),
            tls: Default::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pool: None,
            settings: None,
            link: self.handle.plug.subscribe(),
            reflex: self.wiring.reflex,
            sabotage: self.wiring.sabotage.control.clone(),
            proxy_sabotage: self.wiring.sabotage.proxy,
            misattribute: self.wiring.sabotage.misattribute,
            lose_segments: self.wiring.sabotage.lose_segments,
            on_segment: Some(Arc::new(move |segment| witness.ledger(segment))),
        };
        let (id, handle, witness) = (self.id.clone(), self.handle.clone(), self.witness.clone());
        let watched = self.watched.clone();
        let clock = self.world.clock.clone();
        let on_started = move |started: Started| {
            *handle.proxy.lock().unwrap_or_else(PoisonError::into_inner) = started.proxy.clone();
            watched.add(id.clone(), started.clone().into());
            restart.step_aside();
            witness.agent(&id, clock.now(), true);
            tokio::spawn(witness.watch_agent(id, clock, started));
            // Nobody waits for an agent that was started again.
            let _ = tell.try_send(());
        };
        simulated::run_agent(self.world.clone(), self.id.clone(), wiring, on_started, kill).await
    }
}

/// What faults strike beside the plant.
#[derive(Clone, Copy)]
pub struct Struck<'a> {
    /// Its clock, and the pool.
    pub world: &'a World,
    /// Is told of links.
    pub witness: &'a SharedWitness,
    /// Links and processes.
    pub agents: &'a Handles,
    /// Holds the office of leader.
    pub store: &'a Store,
}

/// Applies the faults that strike links, processes and the office of leader, each at its time. Ends only when cancelled.
pub async fn strike(scenario: &Scenario, struck: Struck<'_>, cancel: CancellationToken) {
    let Struck { world, witness, agents, store } = struck;
    let mut faults: Vec<_> = scenario.args.fault.iter().filter(|fault| !fault.kind.is_physical()).collect();
    faults.sort_by_key(|fault| fault.at);
    let mut healings = JoinSet::new();
    let clock = world.clock.participant(STRIKE_SLACK);
    for fault in faults {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep_until(scenario.start + fault.at) => {}
        }
        tracing::info!(fault = ?fault.kind, "a fault strikes");
        match &fault.kind {
            Kind::LinkLoss(module, span) => unplug(world, witness, agents, module, *span, &mut healings),
            Kind::AgentKill(module) => {
                if let Some(agent) = agents.get(module) {
                    agent.kill();
                }
            }
            Kind::PoolLoss(span) => lose_pool(world, *span, &mut healings),
            Kind::LeaderLoss => match controllers::lose_leader(store).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!("nobody leads, so nobody loses the office"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the office cannot be taken away"
                    );
                }
            },
            // The others are physical: the plants see to them.
            _ => {}
        }
    }
    clock.step_aside();
    cancel.cancelled().await;
}

fn unplug(
    world: &World,
    witness: &SharedWitness,
    agents: &Handles,
    module: &ModuleId,
    span: Option<Span>,
    healings: &mut JoinSet<()>,
) {
    let Some(agent) = agents.get(module).cloned() else { return };
    let (clock, witness, module) = (world.clock.clone(), witness.clone(), module.clone());
    agent.plug.send_replace(false);
    witness.link(&module, clock.now(), false);
    let Some(span) = span else { return };
    let until = clock.now() + span;
    let clock = clock.participant(STRIKE_SLACK);
    healings.spawn(async move {
        clock.sleep_until(until).await;
        agent.plug.send_replace(true);
        witness.link(&module, clock.now(), true);
    });
}

/// The pool goes, and comes back by simulated time, whatever speed that reaches.
fn lose_pool(world: &World, span: Option<Span>, healings: &mut JoinSet<()>) {
    let until = world.clock.now() + span.unwrap_or(POOL_LOSS);
    let (clock, pool) = (world.clock.participant(STRIKE_SLACK), world.pool.clone());
    pool.go_away(FOR_GOOD);
    healings.spawn(async move {
        clock.sleep_until(until).await;
        pool.come_back();
    });
}
