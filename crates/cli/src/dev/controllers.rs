//! The controllers of the run: one, or two on one store where a fault takes the office from whoever leads.
//!
//! The second stands by with ports and a ledger of its own, as on another machine. Nobody tells agents, orders and status who
//! leads: each asks the addresses it knows in turn. Read next: `controller/src/leader.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::simulated::World;
use anyhow::Context;
use api::operator::operator_service_client::OperatorServiceClient;
use api::operator::{FleetStatus, GetStatusRequest};
use controller::context::Office;
use controller::metrics::Monitor;
use controller::run::{Handle, Options};
use controller::term::Committed;
use model::Span;
use model::market::Market;
use model::time::Clock;
use sim::clock::Participant;
use store::{Store, key};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::START_PATIENCE;
use super::scenario::Scenario;

/// Simulated time waits when the planner is this far behind: its round of 30 s then still uses fresh readings.
const PLANNER_SLACK: Span = Span::secs(2);
/// The office of leader, on wall time: the shortest that etcd grants too.
const LEASE_TTL: Duration = Duration::from_secs(2);
/// How long a controller may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a controller may take to answer for its status.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// Decisions asked for with a status.
const DECISIONS: i32 = 8;

/// All controllers of this process, the first leader first.
pub struct Controllers {
    running: Vec<Running>,
}

/// One controller.
struct Running {
    handle: Handle,
    address: SocketAddr,
    cancel: CancellationToken,
    /// Has simulated time go on without a controller that stands by.
    _pace: JoinSet<()>,
}

/// Where one controller listens and keeps its ledger.
struct Place {
    grpc: SocketAddr,
    rest: SocketAddr,
    ledger: &'static str,
}

impl Controllers {
    /// Starts them on `store` and waits until the first leads and knows the fleet.
    pub async fn start(
        scenario: &Scenario,
        world: &World,
        store: &Store,
        market: &watch::Receiver<Market>,
    ) -> anyhow::Result<Self> {
        let place = Place { grpc: scenario.args.grpc, rest: scenario.args.rest, ledger: "ledger" };
        let first = Running::start(scenario, world, store.clone(), market.clone(), place).await?;
        first.wait_for_fleet(scenario.fleet.modules.len()).await?;
        let mut running = vec![first];
        if scenario.loses_leader() {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let place = Place { grpc: any, rest: any, ledger: "ledger-standby" };
            running.push(Running::start(scenario, world, store.clone(), market.clone(), place).await?);
        }
        Ok(Self { running })
    }

    /// Where they answer, as URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.running.iter().map(|running| format!("http://{}", running.address)).collect()
    }

    /// Each as it is watched.
    pub fn monitors(&self) -> Vec<Monitor> {
        self.running.iter().map(|running| Monitor(running.handle.context().clone())).collect()
    }

    /// What each of them commits from now on.
    pub fn commits(&self) -> Vec<broadcast::Receiver<Committed>> {
        self.running.iter().map(|running| running.handle.commits()).collect()
    }

    /// Ends all of them; whoever leads vacates the office, so that the next start leads at once.
    pub async fn stop(self) {
        for running in &self.running {
            running.cancel.cancel();
        }
        for running in self.running {
            if let Ok(Err(error)) = tokio::time::timeout(STOP_PATIENCE, running.handle.join()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the controller did not end in order"
                );
            }
        }
    }
}

impl Running {
    async fn start(
        scenario: &Scenario,
        world: &World,
        store: Store,
        market: watch::Receiver<Market>,
        place: Place,
    ) -> anyhow::Result<Self> {
        let grpc = listen(place.grpc, "--grpc").await?;
        let rest = listen(place.rest, "--rest").await?;
        let address = grpc.local_addr()?;
        let participant = world.clock.participant(PLANNER_SLACK);
        let clock: Arc<dyn Clock> = Arc::new(participant.clone());
        let ledger = scenario.data.join(place.ledger);
        let options = Options {
            fleet: scenario.fleet.clone(),
            accept_simulated: true,
            sabotage: scenario.sabotage.controller,
            lease_ttl: LEASE_TTL,
            ..Options::new(clock, store, market, grpc, rest, ledger)
        };
        let cancel = CancellationToken::new();
        let handle = controller::run::start(options, cancel.clone()).await?;
        let mut pace = JoinSet::new();
        pace.spawn(step_aside(participant, handle.context().office.clone()));
        Ok(Self { handle, address, cancel, _pace: pace })
    }

    /// Waits until the leader knows every module: an agent that comes earlier is turned away.
    async fn wait_for_fleet(&self, modules: usize) -> anyhow::Result<()> {
        // Without somebody in office nothing is answered: after a kill the old lease has to run out first.
        let mut office = self.handle.context().office.clone();
        let led = tokio::time::timeout(START_PATIENCE, office.wait_for(Option::is_some)).await;
        led.context("nobody takes the office of leader; see the log")?.context("the controller ended")?;
        let mut cache = self.handle.context().cache.clone();
        let loaded = cache.wait_for(|cache| cache.modules.len() >= modules);
        let loaded = tokio::time::timeout(START_PATIENCE, loaded).await;
        loaded
            .context("the controller does not load the fleet; see the log")?
            .context("the controller ended")?;
        Ok(())
    }
}

/// Whoever leads loses the office at once, as if the store had not heard of it for the length of its lease. True if somebody led.
pub async fn lose_leader(store: &Store) -> Result<bool, store::Error> {
    let leader = store.get(&key::leader()).await?;
    let Some(lease) = leader.and_then(|leader| leader.lease) else { return Ok(false) };
    match store.lease_revoke(lease).await {
        Ok(()) => Ok(true),
        // It ran out between the two calls.
        Err(store::Error::LeaseNotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The fleet's status from whichever controller leads; why there is none, in the words of the first that was asked.
pub async fn status(endpoints: &[String]) -> anyhow::Result<FleetStatus> {
    let mut refused = None;
    for endpoint in endpoints {
        match ask(endpoint).await {
            Ok(status) => return Ok(status),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| anyhow::anyhow!("there is no controller")))
}

async fn ask(endpoint: &str) -> anyhow::Result<FleetStatus> {
    let mut client = OperatorServiceClient::connect(endpoint.to_owned()).await?;
    let request = GetStatusRequest { decisions: DECISIONS };
    let status = tokio::time::timeout(STATUS_PATIENCE, client.get_status(request)).await??.into_inner();
    let leads = status.leadership.as_ref().is_some_and(|leadership| leadership.is_me);
    anyhow::ensure!(leads, "{endpoint} stands by: it knows no more than the store");
    Ok(status)
}

/// A leader paces simulated time by when it wants to wake; what a deposed one wanted last must hold nobody.
async fn step_aside(participant: Participant, mut office: watch::Receiver<Option<Office>>) {
    while office.wait_for(Option::is_none).await.is_ok() {
        participant.step_aside();
        if office.wait_for(Option::is_some).await.is_err() {
            return;
        }
    }
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{flag} {address} is not on loopback, and there is no TLS yet: anybody could give orders; use 127.0.0.1"
    );
    TcpListener::bind(address).await.with_context(|| {
        format!("{flag} {address} cannot be listened on; is another one running? Port 0 takes a free one")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::{Election, Txn};

    use super::*;

    #[tokio::test]
    async fn whoever_leads_loses_the_office_and_an_office_without_a_holder_loses_nothing() {
        let dir = std::env::temp_dir().join(format!("flareshift-leader-loss-{}", std::process::id()));
        let store = store::open(&format!("embedded:{}", dir.display())).await.unwrap();
        assert!(!lose_leader(&store).await.unwrap(), "nobody leads");
        let election = Election::new(store.clone(), key::leader(), store::Clock::boot());
        let first = election.campaign(b"one".to_vec(), LEASE_TTL).await.unwrap();
        assert!(lose_leader(&store).await.unwrap());
        let write = Txn::new().when(first.fence_compare()).put(key::target(), b"late".to_vec());
        assert!(!store.txn(write).await.unwrap().succeeded, "its fence no longer holds");
        let second = election.campaign(b"two".to_vec(), LEASE_TTL).await.unwrap();
        assert!(second.create_revision() > first.create_revision());
        let _ = std::fs::remove_dir_all(dir);
    }
}
