//! A controller under test, a clock driven by hand, and an agent that does as it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::agent::agent_message::Kind as Up;
use api::agent::agent_service_client::AgentServiceClient;
use api::agent::controller_message::Kind as Down;
use api::agent::{self as wire};
use api::operator::operator_service_client::OperatorServiceClient;
use controller::config::parse_fleet;
use controller::live::Live;
use controller::run::{Handle, Options, start};
use model::envelope::{Directive, Fence};
use model::fleet::Fleet;
use model::market::Market;
use model::report::{
    EnvelopeReport, EnvelopeState, GensetReport, GensetState, Report, RunPhase, RunReport, SiteReport, Switch,
};
use model::site::{Frequency, GasFlow, GasVolume};
use model::time::{Clock, Sleep};
use model::workload::GpuTime;
use model::{BootStamp, GensetId, MicroDollars, ModuleId, Span, Time, Watts};
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

/// Nothing in these tests takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that stands still until a test moves it, and counts who goes to sleep on it.
#[derive(Clone)]
pub struct HandClock(watch::Sender<Time>, Arc<AtomicU64>);

impl HandClock {
    pub fn new() -> Self {
        Self(watch::Sender::new(Time(1_770_854_400_000)), Arc::default())
    }

    pub fn slept(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }

    pub fn advance(&self, span: Span) {
        self.0.send_modify(|now| *now = *now + span);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: Time) -> Sleep {
        self.1.fetch_add(1, Ordering::SeqCst);
        let mut now = self.0.subscribe();
        Box::pin(async move {
            let _ = now.wait_for(|now| *now >= at).await;
        })
    }
}

/// A directory that is removed at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("controller-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn fleet() -> Fleet {
    let text = include_str!("../src/testing/fleet.toml");
    parse_fleet(std::path::Path::new("fleet.toml"), text, true).unwrap()
}

pub fn market() -> Market {
    Market {
        price: MicroDollars::dollars(66_222),
        difficulty: 125.86e12,
        subsidy: 312_500_000,
        fees_ppm: 6_300,
        pool_fee_ppm: 10_000,
    }
}

/// One controller.
pub struct Controller {
    pub clock: HandClock,
    pub grpc: String,
    pub rest: String,
    pub store: Store,
    pub live: watch::Receiver<Live>,
    pub handle: Handle,
    pub cancel: CancellationToken,
    _market: watch::Sender<Market>,
}

impl Controller {
    /// Starts a controller on a store; `adjust` may change its options.
    pub async fn start(dir: &Dir, store: Store, clock: HandClock, adjust: impl FnOnce(&mut Options)) -> Self {
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_at, rest_at) = (grpc.local_addr().unwrap(), rest.local_addr().unwrap());
        let (market_in, market) = watch::channel(market());
        let ledger = dir.join(&format!("ledger-{}", grpc_at.port()));
        let mut options = Options::new(Arc::new(clock.clone()), store.clone(), market, grpc, rest, ledger);
        options.fleet = fleet();
        options.accept_simulated = true;
        adjust(&mut options);
        let cancel = CancellationToken::new();
        let handle = start(options, cancel.clone()).await.unwrap();
        let live = handle.live();
        Self {
            clock,
            grpc: format!("http://{grpc_at}"),
            rest: format!("http://{rest_at}"),
            store,
            live,
            handle,
            cancel,
            _market: market_in,
        }
    }

    /// One controller on a store of its own that leads and knows the fleet.
    pub async fn leading(dir: &Dir) -> Self {
        let store = store::embedded::open(&dir.join("store")).unwrap();
        let controller = Self::start(dir, store, HandClock::new(), |_| {}).await;
        controller.knows_the_fleet().await;
        controller
    }

    /// Waits until it leads and has loaded the fleet.
    pub async fn knows_the_fleet(&self) {
        self.until(|live| live.term.is_some()).await;
        let mut cache = self.handle.context().cache.clone();
        let loaded = cache.wait_for(|cache| cache.modules.len() == 2 && cache.offerings.len() == 2);
        tokio::time::timeout(PATIENCE, loaded).await.expect("the fleet is loaded").unwrap();
    }

    /// Waits for the leader's knowledge.
    pub async fn until(&self, what: impl FnMut(&Live) -> bool) {
        let mut live = self.live.clone();
        let waited = tokio::time::timeout(PATIENCE, live.wait_for(what)).await;
        if waited.is_err() {
            panic!("never came true; the leader knows {:#?}", self.live.borrow().events);
        }
    }

    pub async fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::connect(self.grpc.clone()).await.unwrap()
    }

    /// Makes a tenant and answers its key.
    pub async fn tenant(&self, id: &str, gpu_quota: u32) -> String {
        let request =
            api::operator::CreateTenantRequest { tenant: id.into(), gpu_quota, ..Default::default() };
        self.operator().await.create_tenant(request).await.unwrap().into_inner().api_key
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.handle.join()).await.expect("it ends").unwrap();
    }
}

/// A simulated agent: it persists what it is told, starts what it shall run, and reports it.
pub struct Agent {
    pub module: ModuleId,
    wired: bool,
    up: mpsc::Sender<wire::AgentMessage>,
    down: Streaming<wire::ControllerMessage>,
    sequence: u64,
    start: Time,
    pub directive: Option<Directive>,
    pub meter: Watts,
}

impl Agent {
    /// Opens a session and says hello once it leads.
    pub async fn connect(controller: &Controller, module: &str) -> Self {
        let mut office = controller.handle.context().office.clone();
        tokio::time::timeout(PATIENCE, office.wait_for(Option::is_some)).await.unwrap().unwrap();
        let (up, down) = open(controller, module, true).await;
        let start = controller.clock.now() - Span::minutes(10);
        let meter = Watts::kilo(30);
        let (module, wired) = (ModuleId::new(module).unwrap(), module == "m1");
        let mut agent = Self { module, wired, up, down, sequence: 0, start, directive: None, meter };
        let Some(Down::Welcome(_)) = agent.next().await else { panic!("not welcome") };
        agent
    }

    pub async fn send(&self, kind: Up) {
        self.up.send(wire::AgentMessage { kind: Some(kind) }).await.unwrap();
    }

    /// Sends a message of a kind that nobody knows.
    pub async fn send_unknown(&self) {
        self.up.send(wire::AgentMessage { kind: None }).await.unwrap();
    }

    /// The next message from the controller; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Down> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("a message in time");
        message.unwrap().and_then(|message| message.kind)
    }

    /// Sends a report and takes in directives until it is acknowledged.
    pub async fn report(&mut self, clock: &HandClock) {
        self.sequence += 1;
        let report = self.compose(clock.now());
        self.send(Up::Report(report.into())).await;
        loop {
            match self.next().await {
                Some(Down::ReportAck(ack)) if ack.sequence == self.sequence => return,
                Some(Down::Directive(directive)) => self.directive = Some(directive.try_into().unwrap()),
                Some(Down::ReportAck(_) | Down::LedgerAck(_)) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn compose(&self, now: Time) -> Report {
        let told = self.directive.as_ref();
        let envelope = told.map_or(
            EnvelopeReport {
                fence: Fence::default(),
                generation: 0,
                state: EnvelopeState::None,
                ceiling: Watts::ZERO,
                refused: None,
            },
            |told| EnvelopeReport {
                fence: told.envelope.fence,
                generation: told.envelope.generation,
                state: EnvelopeState::Valid,
                ceiling: told.envelope.grant.ceiling,
                refused: None,
            },
        );
        let runs = told.into_iter().flat_map(|told| &told.runs).map(|(id, run)| {
            let report = RunReport {
                incarnation: run.placement.incarnation,
                phase: RunPhase::Running,
                progress: run.start_from + GpuTime::new(5_000),
                saved: run.start_from,
                held: GpuTime::new(5_000),
            };
            (id.clone(), report)
        });
        Report {
            module: self.module.clone(),
            sequence: self.sequence,
            stamp: BootStamp { boot_id: "boot".into(), at: now - self.start },
            at: now,
            meter: Some(self.meter),
            switch: Switch::Remote,
            groups: Default::default(),
            pools: Default::default(),
            runs: runs.collect(),
            envelope,
            site: self.wired.then(site_report),
            findings: Vec::new(),
        }
    }
}

/// Opens a session and sends a hello, without reading the answer.
pub async fn open(
    controller: &Controller,
    module: &str,
    simulated: bool,
) -> (mpsc::Sender<wire::AgentMessage>, Streaming<wire::ControllerMessage>) {
    let client = AgentServiceClient::connect(controller.grpc.clone()).await.unwrap();
    hello(client, module, simulated).await.unwrap()
}

/// Opens a session by a client and sends a hello, without reading the answer.
pub async fn hello(
    mut client: AgentServiceClient<Channel>,
    module: &str,
    simulated: bool,
) -> Result<(mpsc::Sender<wire::AgentMessage>, Streaming<wire::ControllerMessage>), tonic::Status> {
    let (up, outbound) = mpsc::channel(16);
    let hello = wire::Hello {
        module: module.into(),
        agent_version: "test".into(),
        boot: Some(BootStamp { boot_id: "boot".into(), at: Span::ZERO }.into()),
        fence: Some(Fence::default().into()),
        acknowledged_ledger_sequence: 0,
        simulated,
        stratum_address: None,
    };
    up.send(wire::AgentMessage { kind: Some(Up::Hello(hello)) }).await.unwrap();
    let down = client.session(ReceiverStream::new(outbound)).await?.into_inner();
    Ok((up, down))
}

fn site_report() -> SiteReport {
    let set =
        GensetReport { state: GensetState::Online, power: Some(Watts::kilo(100)), for_span: Span::hours(3) };
    let gensets = ["g1", "g2", "g3"].map(|id| (GensetId::new(id).unwrap(), set));
    SiteReport {
        frequency: Some(Frequency::new(60_000)),
        gas: Some(GasFlow::mcf(600)),
        buffer: Some(GasVolume::new(150_000)),
        flared: Some(GasFlow::ZERO),
        load: Some(Watts::kilo(80)),
        unmanaged: Some(Watts::kilo(20)),
        gensets: gensets.into(),
        storage: None,
        grid: None,
    }
}

/// Lets both agents report every second until `what` holds for the leader's knowledge.
pub async fn drive(controller: &Controller, agents: &mut [Agent], mut what: impl FnMut(&Live) -> bool) {
    for _ in 0..240 {
        if what(&controller.live.borrow()) {
            return;
        }
        controller.clock.advance(Span::secs(1));
        for agent in agents.iter_mut() {
            agent.report(&controller.clock).await;
            // The acknowledgement says that it was taken; time goes on when the leader has acted on it, and made the plan it makes.
            let (module, sequence) = (agent.module.clone(), agent.sequence);
            let known = |live: &Live| live.tracker.report(&module).is_some_and(|it| it.sequence >= sequence);
            controller.until(|live| live.planning.is_none() && known(live)).await;
        }
    }
    panic!("never came true; the leader knows {:#?}", controller.live.borrow().events);
}
