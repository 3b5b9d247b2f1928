//! The command line of `flareshift-agent`, and the fleet file that it names.
//!
//! Read next: `main.rs`; `model/src/fleet_file.rs` for how the file is parsed.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use model::fleet::Fleet;
use model::fleet_file::{self, Error, MAX_BYTES};
use model::{ModuleId, SiteId};
use service::tls::ClientFlags;
use service::traces::{self, Source};
use service::{log, monitor, tls};

use crate::settings::{self, Settings};

/// What stands below `--help`.
const AFTER_HELP: &str =
    "Log lines go to standard error; FLARESHIFT_LOG filters them, e.g. info,agent::proxy=debug.

Exit codes:
  0  after SIGTERM or SIGINT
  1  a failure, or a file or module that cannot be used
  2  the command line is wrong";

/// Runs one container: reads its devices, keeps inside its envelope, verifies mining shares, keeps the ledger.
#[derive(Clone, Debug, Parser)]
#[command(name = "flareshift-agent", version, after_help = AFTER_HELP, subcommand_negates_reqs = true)]
pub struct Config {
    /// What to run instead of a module's agent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The fleet description, the same file that the controller reads.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_FLEET", hide_env_values = true, required = true)]
    pub fleet: Option<PathBuf>,
    /// The module this agent serves.
    #[arg(long, value_name = "ID", required_unless_present = "site", conflicts_with = "site")]
    pub module: Option<ModuleId>,
    /// Serve every module of this site; only with --simulate.
    #[arg(long, value_name = "ID", requires = "simulate")]
    pub site: Option<SiteId>,
    /// Addresses of controllers, with commas between them, tried in turn.
    #[arg(
        long,
        value_name = "URL",
        env = "FLARESHIFT_CONTROLLER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7600",
        value_delimiter = ','
    )]
    pub controller: Vec<String>,
    /// TLS towards controllers.
    #[command(flatten)]
    pub tls: ClientFlags,
    /// The agent's directory: outbox, directive. One process at a time; with --site a directory in it for each module.
    #[arg(long, value_name = "DIR", default_value = "data/agent")]
    pub data: PathBuf,
    /// All settings of the Stratum proxy: accounts, pools, limits (docs/proxy.md).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stratum", "pool", "account"])]
    pub proxy: Option<PathBuf>,
    /// Where miners connect, on loopback; port 0 takes a free one, and so does each module of --site. The proxy runs where --pool
    /// or --proxy is given, and with --simulate for a module that has miners.
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
    #[arg(long, value_name = "N", default_value_t = 1, requires = "simulate")]
    pub seed: u64,
    /// Hashes a second for all simulated miners.
    #[arg(long, value_name = "HASHES", default_value_t = 500_000, requires = "simulate")]
    pub hash_budget: u64,
    /// How much the wells' gas varies: 0 is steady, 0.3 an ordinary shale pad, 1 the most.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, requires = "simulate", value_parser = share)]
    pub gas_variability: f64,
    /// What the simulation's own meters saw of the invariants is written here every second; for drills.
    #[arg(long, value_name = "FILE", requires = "simulate", hide = true)]
    pub witness: Option<PathBuf>,
    /// Metrics and health for whoever watches this agent: /metrics, /healthz, /readyz; loopback only. Off when left out.
    #[arg(long, global = true, value_name = "ADDRESS", env = "FLARESHIFT_METRICS", hide_env_values = true)]
    pub metrics: Option<SocketAddr>,
    /// Settings in TOML: the long flags with _ for -. Flags and environment go before them (docs/configuration.md).
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Check all settings, the fleet file and the proxy's settings, and end: 0 where they can be used.
    #[arg(long, global = true)]
    pub check_config: bool,
    /// What the log shows.
    #[command(flatten)]
    pub logging: log::Flags,
    /// Where traces are sent.
    #[command(flatten)]
    pub traces: traces::Flags,
}

/// What the program runs besides a module's agent.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the Stratum proxy alone: no fleet, no controller. Miners mine through it, and each share is verified and kept account of.
    Proxy(ProxyArgs),
}

/// Flags of the proxy alone.
#[derive(Clone, Debug, clap::Args)]
pub struct ProxyArgs {
    /// Its settings (docs/proxy.md). SIGHUP reads the accounts' weights from it again.
    pub file: PathBuf,
    /// Its directory: ledger, slices, the socket that `flareshift proxy stats` asks. One process at a time.
    #[arg(long, value_name = "DIR", default_value = "data/proxy")]
    pub data: PathBuf,
}

/// Settings that SIGHUP reads again; all others count from the next start on. The proxy's own file is read again too (docs/proxy.md).
pub const RELOADED: [&str; 1] = ["log"];

impl Config {
    /// The fleet description, checked.
    pub fn read_fleet(&self) -> Result<Fleet, Error> {
        let path = self.fleet_path();
        let text = File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
        let text = text.map_err(|source| Error::Unreadable { path: path.into(), source })?;
        fleet_file::parse(path, &text)
    }

    /// Where the fleet description is; the command line asks for it unless there is a command that needs none.
    pub fn fleet_path(&self) -> &Path {
        self.fleet.as_deref().unwrap_or(Path::new(""))
    }

    /// Whether the controllers can be reached with the certificates that are given, as they are now.
    pub fn check_tls(&self) -> Result<(), tls::Error> {
        self.tls.check(self.controller.iter().map(String::as_str))
    }

    /// Checks what can be checked without starting anything: listeners, certificates, the fleet and who is in it, the proxy's settings.
    pub fn check(&self) -> anyhow::Result<()> {
        self.metrics.map_or(Ok(()), monitor::check)?;
        self.traces.check("agent")?;
        if let Some(Command::Proxy(args)) = &self.command {
            return Ok(Settings::read(&args.file).map(drop)?);
        }
        self.check_tls()?;
        let fleet = self.read_fleet()?;
        let path = self.fleet_path().display();
        if let Some(id) = self.module.as_ref().filter(|id| fleet.modules.iter().all(|known| known.id != **id))
        {
            anyhow::bail!("{path} describes no module {id}; add it there, or correct --module");
        }
        if let Some(id) = self.site.as_ref().filter(|id| fleet.sites.iter().all(|known| known.id != **id)) {
            anyhow::bail!("{path} describes no site {id}; add it there, or correct --site");
        }
        Ok(self.settings().map(drop)?)
    }

    /// Whose traces they are: by the module, or the site of several, that it serves.
    pub fn source(&self) -> Source {
        let module = self.module.as_ref().map(ModuleId::to_string);
        let site = self.site.as_ref().map(SiteId::to_string);
        let instance = match self.command {
            Some(Command::Proxy(_)) => "proxy".to_owned(),
            None => module.or(site).unwrap_or_default(),
        };
        Source { service: "flareshift-agent", instance, version: env!("CARGO_PKG_VERSION") }
    }

    /// The settings of the proxy: from their file, else from the flags. `None` where neither says that there is one.
    pub fn settings(&self) -> Result<Option<Settings>, settings::Error> {
        let plain = |pool: &String| Settings::plain(self.stratum, pool.clone(), self.account.clone());
        match &self.proxy {
            Some(file) => Settings::read(file).map(Some),
            None => Ok(self.pool.as_ref().map(plain)),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1, such as 0.3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(arguments: &str) -> Result<Config, String> {
        Config::try_parse_from(arguments.split_whitespace()).map_err(|error| error.to_string())
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
        check("--fleet f --module m --proxy p --pool h:1", "cannot be used with");
        check("proxy", "<FILE>");
        check("--fleet f --module m --simulate --gas-variability 2", "expected a number from 0 to 1");
    }

    #[test]
    fn the_proxy_alone_needs_its_settings_and_nothing_else() {
        let Some(Command::Proxy(args)) =
            parse("flareshift-agent proxy farm.toml --log-format json").unwrap().command
        else {
            panic!("a command was given");
        };
        assert_eq!((args.file, args.data), ("farm.toml".into(), "data/proxy".into()));
    }

    #[test]
    fn a_check_looks_at_files_listeners_and_who_is_served() {
        let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/fleet.toml");
        let check = |arguments: &str, expected: Option<&str>| {
            let checked =
                parse(&format!("flareshift-agent {}", arguments.replace("FLEET", fleet))).unwrap().check();
            match (checked, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (checked, _) => panic!("{arguments}: {checked:?}"),
            }
        };
        check("--fleet FLEET --module well-7-mine", None);
        check("--fleet FLEET --simulate --site well-7", None);
        check("--fleet FLEET --module well-7-lost", Some("describes no module well-7-lost"));
        check("--fleet FLEET --simulate --site well-8", Some("describes no site well-8"));
        check("--fleet /nowhere/f.toml --module m", Some("/nowhere/f.toml"));
        check("--fleet FLEET --module well-7-mine --proxy /nowhere/p.toml", Some("/nowhere/p.toml"));
        check("--fleet FLEET --module well-7-mine --metrics 0.0.0.0:1", Some("not on loopback"));
        let secure = "--fleet FLEET --module well-7-mine --controller https://h:1";
        let missing = if tls::BUILT_IN { "only with --tls-ca, --tls-cert and" } else { "no TLS" };
        check(secure, Some(missing));
        check(&format!("{secure} --tls-cert c.pem"), Some("--tls-cert is given without --tls-ca"));
        let all = format!("{secure} --tls-ca /nowhere/a --tls-cert /nowhere/c --tls-key /nowhere/k");
        check(&all, Some(if tls::BUILT_IN { "--tls-ca: /nowhere/a cannot be used" } else { "no TLS" }));
        check("proxy /nowhere/p.toml", Some("/nowhere/p.toml"));
    }

    #[test]
    fn the_proxys_settings_come_from_a_file_or_from_flags() {
        let settings = |arguments: &str| {
            let config = parse(&format!("flareshift-agent --fleet f --module m {arguments}")).unwrap();
            config.settings().unwrap()
        };
        assert_eq!(settings(""), None);
        let plain = settings("--stratum 127.0.0.1:4 --pool p:1 --account a").unwrap();
        assert_eq!(plain, Settings::plain("127.0.0.1:4".parse().unwrap(), "p:1".into(), "a".into()));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/proxy.toml");
        assert_eq!(settings(&format!("--proxy {file}")).unwrap().accounts.len(), 2);
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
