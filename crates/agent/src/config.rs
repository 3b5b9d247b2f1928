//! The command line of `flareshift-agent`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use model::{ModuleId, SiteId};

/// Runs one container: reads its devices, keeps inside its envelope, verifies mining shares, keeps the ledger.
#[derive(Clone, Debug, Parser)]
#[command(name = "flareshift-agent", version)]
pub struct Config {
    /// The fleet description, the same file that the controller reads.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_FLEET")]
    pub fleet: PathBuf,
    /// The module this agent serves.
    #[arg(long, value_name = "ID", required_unless_present = "site", conflicts_with = "site")]
    pub module: Option<ModuleId>,
    /// Serve every module of this site; only with --simulate.
    #[arg(long, value_name = "ID", requires = "simulate")]
    pub site: Option<SiteId>,
    /// Addresses of controllers, tried in turn.
    #[arg(
        long,
        value_name = "URL",
        env = "FLARESHIFT_CONTROLLER",
        default_value = "http://127.0.0.1:7600",
        value_delimiter = ','
    )]
    pub controller: Vec<String>,
    /// The agent's directory: outbox, directive. One process at a time.
    #[arg(long, value_name = "DIR", default_value = "data/agent")]
    pub data: PathBuf,
    /// Where miners connect. The proxy runs where this is given or miners are described; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3333")]
    pub stratum: SocketAddr,
    /// The mining pool, as host:port. With --simulate a pool of the simulation's own is the default.
    #[arg(long, value_name = "HOST:PORT")]
    pub pool: Option<String>,
    /// The account at the pool.
    #[arg(long, value_name = "NAME", default_value = "flareshift")]
    pub account: String,
    /// A simulated site behind the agent, with miners that really hash. At most half a core.
    #[arg(long)]
    pub simulate: bool,
    /// Fixes gas and faults of the simulated site.
    #[arg(long, default_value_t = 1, requires = "simulate")]
    pub seed: u64,
    /// Hashes a second for all simulated miners.
    #[arg(long, default_value_t = 500_000, requires = "simulate")]
    pub hash_budget: u64,
    /// Share of the described variability of gas, 0 to 1.
    #[arg(long, default_value_t = 1.0, requires = "simulate")]
    pub gas_variability: f64,
    /// Log lines as JSON.
    #[arg(long)]
    pub log_json: bool,
}
