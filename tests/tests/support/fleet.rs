//! Controller and agents as processes of their own, on the reference fleet.
//!
//! Read next: `../three_processes.rs`.

use std::path::PathBuf;

use serde_json::Value;

use super::certificates::Certificates;
use super::cli::{Cli, ids, text};
use super::process::Process;
use super::{PATIENCE, TempDir, free_address, repository, wait_for};

/// The sites of the reference fleet.
pub const SITES: [&str; 2] = ["well-7", "mesa-2"];
/// Modules of both together.
pub const MODULES: usize = 6;
/// Half a hundred thousand hashes a second is plenty of shares, and leaves the machine to the tests.
const HASH_BUDGET: &str = "50000";

/// Where one controller keeps its things and listens.
pub struct Place {
    pub dir: TempDir,
    pub store: String,
    pub grpc: String,
    pub rest: String,
    /// Where agents reach it, where that is not its own address.
    pub advertise: Option<String>,
    /// The certificates of everybody, where they speak TLS.
    pub certificates: Option<Certificates>,
}

impl Place {
    /// A fresh place with a store of this name.
    pub fn new(store: &str) -> Self {
        let dir = TempDir::new("fleet");
        let (grpc, rest) = (free_address(), free_address());
        Self { dir, store: store.to_owned(), grpc, rest, advertise: None, certificates: None }
    }

    /// A fresh place with an embedded store.
    pub fn embedded() -> Self {
        let mut place = Self::new("");
        place.store = format!("embedded:{}", place.dir.at("store"));
        place
    }

    /// The same, with everybody behind TLS.
    pub fn secure() -> Self {
        Self { certificates: Some(Certificates::new()), ..Self::embedded() }
    }

    pub fn cli(&self) -> Cli {
        self.cli_of("ada")
    }

    /// The command line of whoever holds this certificate.
    pub fn cli_of(&self, name: &str) -> Cli {
        Cli::at(&self.url(&self.grpc), &self.shown(name))
    }

    /// An address as agents and operators write it.
    pub fn url(&self, address: &str) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// The flags that name a certificate towards controllers.
    fn shown(&self, name: &str) -> Vec<String> {
        self.certificates.as_ref().map(|certificates| certificates.shown(name)).unwrap_or_default()
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub fn controller(&self) -> Process {
        self.controller_with(&[])
    }

    /// The same with more flags.
    pub fn controller_with(&self, more: &[&str]) -> Process {
        self.start_controller(more, &[])
    }

    /// The same with variables set.
    pub fn controller_under(&self, environment: &[(&str, &str)]) -> Process {
        self.start_controller(&[], environment)
    }

    fn start_controller(&self, more: &[&str], environment: &[(&str, &str)]) -> Process {
        let (fleet, ledger) = (repository("deploy/fleet.toml"), self.ledger());
        let args = ["--store", &self.store, "--fleet", text(&fleet), "--data", text(&ledger)];
        let listeners = ["--listen", &self.grpc, "--rest", &self.rest];
        let rules = ["--accept-simulated", "--lease-ttl-seconds", "2"];
        let advertise: Vec<&str> = self.advertise.iter().flat_map(|url| ["--advertise", url]).collect();
        let secure = self.certificates.as_ref().map(Certificates::served).unwrap_or_default();
        let secure: Vec<&str> = secure.iter().map(String::as_str).collect();
        let args = [&args[..], &listeners, &rules, &advertise, &secure, more].concat();
        Process::start_under("flareshift-controller", &args, environment, self.dir.path(), "controller")
    }

    /// The agents of one simulated site, in one process.
    pub fn agent(&self, site: &str) -> Process {
        self.agent_of(site, &[&self.grpc])
    }

    /// The same with more flags.
    pub fn agent_with(&self, site: &str, more: &[&str]) -> Process {
        self.start_agent(site, &[&self.grpc], more)
    }

    /// The same with several controllers to try.
    pub fn agent_of(&self, site: &str, controllers: &[&str]) -> Process {
        self.start_agent(site, controllers, &[])
    }

    /// The agents of one site with these flags of TLS.
    pub fn agent_showing(&self, site: &str, shown: &[&str]) -> Process {
        self.agent_as(site, &[&self.grpc], shown)
    }

    fn start_agent(&self, site: &str, controllers: &[&str], more: &[&str]) -> Process {
        let shown = self.shown(site);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        self.agent_as(site, controllers, &[&shown, more].concat())
    }

    fn agent_as(&self, site: &str, controllers: &[&str], more: &[&str]) -> Process {
        let (fleet, data) = (repository("deploy/fleet.toml"), self.agent_data(site));
        let (data, witness) = (text(&data), self.witness(site));
        let controllers: Vec<String> = controllers.iter().map(|grpc| self.url(grpc)).collect();
        let controller = controllers.join(",");
        let args = ["--fleet", text(&fleet), "--simulate", "--site", site, "--controller", &controller];
        let rest = ["--data", data, "--hash-budget", HASH_BUDGET, "--stratum", "127.0.0.1:0"];
        let args = [&args[..], &rest, &["--witness", text(&witness)], more].concat();
        Process::start("flareshift-agent", &args, self.dir.path(), &format!("agent-{site}"))
    }

    /// Where the agents of a site keep their things, one directory for each module.
    pub fn agent_data(&self, site: &str) -> PathBuf {
        self.dir.path().join(format!("agent-{site}"))
    }

    /// What the simulation's meters saw at that site.
    pub fn witness(&self, site: &str) -> PathBuf {
        self.dir.path().join(format!("witness-{site}.json"))
    }

    /// Waits until every module is online under a valid envelope and a plan newer than `after` is in force. Answers its
    /// generation.
    pub fn wait_until_whole(&self, after: u64) -> u64 {
        wait_for("the fleet is whole", 3 * PATIENCE, || self.whole(after))
    }

    /// Whether it is, as its controller says.
    pub fn whole(&self, after: u64) -> Result<u64, String> {
        whole(&self.cli().ask(&["status"])?, after)
    }
}

fn whole(status: &Value, after: u64) -> Result<u64, String> {
    let modules = status["modules"].as_array().ok_or("no modules")?;
    let bad =
        modules.iter().find(|module| module["link"] != "online" || module["envelope"]["state"] != "valid");
    if let Some(bad) = bad {
        return Err(format!("{} is {}, its envelope {}", bad["module"], bad["link"], bad["envelope"]));
    }
    if modules.len() != MODULES {
        return Err(format!("the modules are {:?}", ids(&status["modules"], "module")));
    }
    let generation = status["plan"]["generation"].as_u64().unwrap_or(0);
    if generation > after { Ok(generation) } else { Err(format!("plan {generation}, not above {after}")) }
}
