//! The command line of `flareshift-agent`, and the fleet file that it names.
//!
//! Read next: `main.rs`; `model/src/fleet_file.rs` for how the file is parsed.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use model::fleet::Fleet;
use model::fleet_file::{self, Error, MAX_BYTES};
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

impl Config {
    /// The fleet description, checked.
    pub fn read_fleet(&self) -> Result<Fleet, Error> {
        let text = File::open(&self.fleet).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
        let text = text.map_err(|source| Error::Unreadable { path: self.fleet.clone(), source })?;
        fleet_file::parse(&self.fleet, &text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(arguments: &str) -> Result<Config, String> {
        Config::try_parse_from(arguments.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_flag_that_is_wrong() {
        let check = |arguments: &str, expected: &str| {
            let error = parse(&format!("flareshift-agent {arguments}")).unwrap_err();
            assert!(error.contains(expected), "{arguments}: {error}");
        };
        check("--module m", "--fleet <FILE>");
        check("--fleet f", "--module <ID>");
        check("--fleet f --site s", "--simulate");
        check("--fleet f --module m --site s --simulate", "cannot be used with");
        check("--fleet f --module m --seed 2", "--simulate");
        check("--fleet f --module M!", "--module <ID>");
    }

    #[test]
    fn the_fleet_is_the_controllers_file_and_a_missing_one_is_named() {
        let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/fleet.toml");
        let read = |path: &str| {
            parse(&format!("flareshift-agent --fleet {path} --module well-7-mine")).unwrap().read_fleet()
        };
        assert_eq!(read(fleet).unwrap().sites.len(), 2);
        let error = read("/nowhere/f.toml").unwrap_err().to_string();
        assert!(error.contains("cannot read the fleet file /nowhere/f.toml"), "{error}");
    }
}
