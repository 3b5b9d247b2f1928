//! Simulated sites behind agents: the same assembly for `flareshift dev` and for `flareshift-agent --simulate`.
//!
//! A [`World`] is a clock, islands in lockstep, a hashing engine and a pool. Agents are real: they get a plant of the world, a
//! proxy of their own, and miners that connect to it over TCP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use control::sabotage::Sabotages;
use model::fleet::Fleet;
use model::module::Module;
use model::site::Site;
use model::{BootStamp, Hashrate, ModuleId, SiteId, Span, Time};
use service::tls::ClientFlags;
use sha2::{Digest, Sha256};
use sim::clock::SimClock;
use sim::fault::Fault;
use sim::hashing::{self, Engine};
use sim::island::{Island, Options as IslandOptions};
use sim::lockstep::{self, Observer};
use sim::miner_net::{self, MinerFleet};
use sim::pool::{self, Pool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::edge::Stratum;
use crate::outbox::OnSegment;
use crate::proxy;
use crate::run::{Options, Started};
use crate::session::Pace;
use crate::settings::Settings;

/// A report a second, and one more may be on its way: the controller calls readings older than 3 s stale.
const SESSION_SLACK: Span = Span::new(2_500);
/// The pool asks for the easiest shares there are, 4,096 expected hashes: the fleet does a million a second.
const POOL_DIFFICULTY: f64 = 1.0 / 1_048_576.0;
/// The simulated pool hands out a job and finds a block as often as a real one, on wall time.
const JOB_EVERY: Duration = Duration::from_secs(30);
const BLOCK_EVERY: Duration = Duration::from_secs(600);
/// Time waits for hashing when more than a second's budget is owed.
const BACKLOG_SECONDS: u64 = 1;
/// First part of every miner's name.
const ACCOUNT: &str = "flareshift";

/// A module's account at the simulated pool: each has its own, so that the pool's books speak of each module.
pub fn account(module: &ModuleId) -> String {
    format!("{ACCOUNT}.{module}")
}

/// Looks on at nothing.
pub struct Nobody;

impl Observer for Nobody {
    fn tenth(&mut self, _: &Island) {}
    fn second(&mut self, _: &Island) {}
}

/// What is simulated.
pub struct Config {
    /// Sites, modules and offerings; the scales of groups are set by [`scaled`].
    pub fleet: Fleet,
    /// Which sites of it.
    pub sites: Vec<SiteId>,
    /// Simulated time at the start.
    pub start: Time,
    /// Simulated seconds for each second of wall time, at most.
    pub speed: f64,
    /// Hashes a second of wall time for all miners.
    pub budget: u64,
    /// Fixes gas, faults and arrivals.
    pub seed: u64,
    /// Stands in every coinbase of its pool, see [`mark`].
    pub mark: u64,
    /// 0 = steady gas at nominal, 1 = the field's statistics.
    pub gas_variability: f64,
    /// Share of the sets' rating that is loaded at the start, in thousandths.
    pub load_permille: u32,
    /// Physical faults.
    pub faults: Vec<Fault>,
    /// When to stop; `None` = when told.
    pub until: Option<Time>,
}

/// A running world.
pub struct World {
    /// Its clock.
    pub clock: SimClock,
    /// Its pool.
    pub pool: pool::Handle,
    /// The hashing engine.
    pub engine: Arc<Engine>,
    fleet: Fleet,
    boot_id: String,
    seed: u64,
    lockstep: lockstep::Handle,
    thread: Mutex<Option<JoinHandle<Vec<Island>>>>,
    // Held for its life: dropping it ends the pool.
    _pool: Pool,
}

/// What tells this world's pool from that of another process with the same seed: the modules it has. Two modules whose miners found
/// the same headers would look as if one claimed the other's shares.
pub fn mark<'a>(modules: impl IntoIterator<Item = &'a ModuleId>) -> u64 {
    let mut hasher = Sha256::new();
    for module in modules {
        hasher.update(module.as_str());
        hasher.update([0]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

/// Derives the scale of every group from the fleet's nominal hash rate and the CPU budget, so that at full speed all simulated
/// hashing together keeps to the budget.
pub fn scaled(mut fleet: Fleet, speed: f64, budget: u64) -> Fleet {
    let rate = |module: &Module| -> Hashrate {
        module.groups.values().map(|group| group.full().rate.times(group.count.into())).sum()
    };
    let nominal: Hashrate = fleet.modules.iter().map(rate).sum();
    let scale = hashing::scale_for(nominal, speed, budget);
    fleet
        .modules
        .iter_mut()
        .flat_map(|module| module.groups.values_mut())
        .for_each(|group| group.scale = scale);
    fleet
}

impl World {
    /// Starts everything but the agents.
    pub async fn start(config: Config, observer: Box<dyn Observer>) -> anyhow::Result<World> {
        let clock = SimClock::new(config.start);
        let boot_id = format!("simulated-{}", config.start.millis());
        let islands = islands(&config, &boot_id)?;
        let engine = Arc::new(Engine::start().context("no hashing thread")?);
        let pool = Pool::start(pool::Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: config.seed,
            mark: config.mark,
            difficulty: POOL_DIFFICULTY,
            job_every: JOB_EVERY,
            block_every: BLOCK_EVERY,
        })
        .await?;
        clock.hold_at(config.start);
        let driven = lockstep::Config {
            clock: clock.clone(),
            islands,
            speed: config.speed,
            faults: config.faults,
            until: config.until,
            hashing: Some((engine.clone(), config.budget * BACKLOG_SECONDS)),
        };
        let (lockstep, thread) = lockstep::start(driven, observer).context("no lockstep thread")?;
        Ok(World {
            clock,
            pool: pool.handle(),
            engine,
            fleet: config.fleet,
            boot_id,
            seed: config.seed,
            lockstep,
            thread: Mutex::new(Some(thread)),
            _pool: pool,
        })
    }

    /// The options of a module's agent: its plant is this world's.
    pub fn agent(&self, id: &ModuleId, wiring: Wiring) -> anyhow::Result<Options> {
        let module = self.module(id)?.clone();
        let site = self.site(&module.site)?.clone();
        let stratum = (!module.groups.is_empty()).then(|| Stratum {
            settings: match wiring.settings {
                Some(settings) => Settings { listen: wiring.listen, ..settings },
                None => {
                    let pool = wiring.pool.unwrap_or_else(|| self.pool.address().to_string());
                    Settings::plain(wiring.listen, pool, account(id))
                }
            },
            sabotage: wiring.proxy_sabotage,
        });
        Ok(Options {
            plant: Box::new(self.lockstep.attach(id)),
            module,
            site,
            data: wiring.data,
            controllers: wiring.controllers,
            tls: wiring.tls,
            simulated: true,
            clock: Arc::new(self.clock.clone()),
            boot_id: self.boot_id.clone(),
            link: wiring.link,
            stratum,
            reflex: wiring.reflex,
            sabotage: wiring.sabotage,
            misattribute: wiring.misattribute,
            lose_segments: wiring.lose_segments,
            on_segment: wiring.on_segment,
            pace: Some(self.pace()),
            started: None,
        })
    }

    /// Simulated time waits for a session's acknowledgements: however fast it goes, reports are fresh when they arrive.
    fn pace(&self) -> Pace {
        let participant = self.clock.participant(SESSION_SLACK);
        Arc::new(move |acknowledged| match acknowledged {
            Some(at) => participant.done_up_to(at),
            None => participant.step_aside(),
        })
    }

    /// Connects a module's simulated miners to its agent's proxy, once that listens.
    pub fn attach_miners(&self, id: &ModuleId, started: &Started) -> anyhow::Result<()> {
        let module = self.module(id)?;
        let Some(proxy) = &started.proxy else { return Ok(()) };
        let groups = module.groups.iter().map(|(id, group)| {
            let group = miner_net::Group {
                count: group.count,
                nominal: group.full().rate,
                scale: group.scale,
                claim_permille: 1_000,
            };
            (id.clone(), group)
        });
        let config = miner_net::Config {
            proxy: proxy.address(),
            account: ACCOUNT.into(),
            module: id.clone(),
            groups: groups.collect::<BTreeMap<_, _>>(),
            seed: self.seed,
        };
        let fleet = MinerFleet::start(&config, &self.engine)?;
        self.lockstep.attach_miners(module, Arc::new(fleet));
        Ok(())
    }

    /// Lets time go. Until then it stands, so that controller and agents are there when it begins.
    pub fn release(&self) {
        self.clock.hold_at(Time(i64::MAX));
    }

    /// Whether simulated time has ended, by itself or because it was told.
    pub fn has_ended(&self) -> bool {
        self.lockstep.has_finished()
    }

    /// Ends the lockstep and waits for it. Agents' control threads end with it.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.lockstep.stop();
        self.release();
        let thread = self.thread().take();
        match thread.map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow::anyhow!("the simulation panicked; report this with the log")),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<Vec<Island>>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn module(&self, id: &ModuleId) -> anyhow::Result<&Module> {
        self.fleet
            .modules
            .iter()
            .find(|module| module.id == *id)
            .with_context(|| format!("no module is called {id}"))
    }

    fn site(&self, id: &SiteId) -> anyhow::Result<&Site> {
        self.fleet.sites.iter().find(|site| site.id == *id).with_context(|| format!("no site is called {id}"))
    }
}

/// What an agent on a world is wired to.
pub struct Wiring {
    /// Its directory.
    pub data: PathBuf,
    /// Controllers, as URLs.
    pub controllers: Vec<String>,
    /// Certificates towards them.
    pub tls: ClientFlags,
    /// Where its proxy listens.
    pub listen: SocketAddr,
    /// The pool, where it is not the world's own.
    pub pool: Option<String>,
    /// All settings of its proxy but where it listens, where they are not the usual ones.
    pub settings: Option<Settings>,
    /// False while the plug of the link is pulled.
    pub link: watch::Receiver<bool>,
    /// Whether the reflex acts.
    pub reflex: bool,
    /// Faults built into control on purpose.
    pub sabotage: Sabotages,
    /// Faults built into the proxy on purpose.
    pub proxy_sabotage: proxy::Sabotage,
    /// A defect on request: the ledger forgets half of what tenants drew.
    pub misattribute: bool,
    /// A defect on request: the outbox loses every second segment.
    pub lose_segments: bool,
    /// Is told each ledger segment when it is sealed.
    pub on_segment: Option<OnSegment>,
}

/// Runs the agent of one module of a world until cancelled.
pub async fn run_agent(
    world: Arc<World>,
    id: ModuleId,
    wiring: Wiring,
    started: impl FnOnce(Started) + Send,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let options = Options { started: Some(tell), ..world.agent(&id, wiring)? };
    let own = cancel.child_token();
    let agent = crate::run::run(options, own.clone());
    let attach = async {
        // An agent that does not start says why itself.
        let Ok(running) = told.await else { return Ok(()) };
        // Nobody waits for an agent whose miners cannot be there: it ends, and the reason is told now.
        world.attach_miners(&id, &running).inspect_err(|_| own.cancel())?;
        started(running);
        Ok::<(), anyhow::Error>(())
    };
    let (ended, attached) = tokio::join!(agent, attach);
    attached.and(ended)
}

fn islands(config: &Config, boot_id: &str) -> anyhow::Result<Vec<Island>> {
    let boot = BootStamp { boot_id: boot_id.to_owned(), at: Span::secs(60) };
    let options = IslandOptions {
        gas_variability: config.gas_variability,
        load_permille: config.load_permille,
        boot,
        ..IslandOptions::default()
    };
    let mut islands = Vec::new();
    for id in &config.sites {
        let site = config.fleet.sites.iter().find(|site| site.id == *id);
        let site =
            site.with_context(|| format!("no site is called {id}; the fleet file describes others"))?;
        islands.push(Island::new(site, &config.fleet.modules, config.seed, config.start, options.clone()));
    }
    Ok(islands)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn worlds_of_other_modules_have_other_marks() {
        let of = |ids: &[&str]| {
            let ids: Vec<ModuleId> = ids.iter().map(|id| ModuleId::new(id).unwrap()).collect();
            mark(&ids)
        };
        let marks = [&["m1"][..], &["m2"], &["m1", "m2"], &["m1m2"], &["m"], &[]].map(of);
        let distinct: std::collections::BTreeSet<u64> = marks.into_iter().collect();
        assert_eq!(distinct.len(), marks.len());
        assert_eq!(of(&["m1", "m2"]), of(&["m1", "m2"]));
    }
}
