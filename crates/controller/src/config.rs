//! Flags of `flareshift-controller`, and what is checked before anything is opened.
//!
//! Read next: `config/place.rs`, `main.rs`.

mod place;
mod secure;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use model::fleet::Fleet;
use model::fleet_file::{self, MAX_BYTES};
use model::market::{Market, subsidy_at};
use model::report::Finding;
use model::{MicroDollars, Span, Time};
use service::traces::{self, Source};
use service::{log, monitor, tls};

pub use place::Place;
pub use secure::Tls;

use crate::context::Tuning;
use crate::evict::Cap;

/// What stands below `--help`.
const AFTER_HELP: &str = "Log lines go to standard error. SIGHUP reads the settings again: docs/configuration.md says which of them count at once.

Exit codes:
  0  after SIGTERM or SIGINT
  1  a failure while it ran
  2  flags or files that cannot be used
  store: 0 done, 1 failed, 2 a wrong address, flag or file, 3 no answer, 4 refused";

/// Observes the sites, plans, and tells agents what they may draw and shall run.
#[derive(Clone, Debug, Parser)]
#[command(name = "flareshift-controller", version, after_help = AFTER_HELP)]
pub struct Flags {
    /// Where decisions are kept.
    #[command(flatten)]
    pub place: Place,
    /// Sites, modules and offerings (TOML); what is new or changed is loaded into the store. Agents read the same file.
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Directory of the ledger; each controller has its own.
    #[arg(long, value_name = "DIR", default_value = "./data/ledger")]
    pub data: PathBuf,
    /// Where the ledger is also kept as Parquet: file:///DIR, or s3://BUCKET/PREFIX with the usual AWS_* variables. In a build with
    /// the feature `archive` (docs/ledger.md).
    #[arg(long, value_name = "URL", env = "FLARESHIFT_ARCHIVE", hide_env_values = true)]
    pub archive: Option<String>,
    /// gRPC for agents, operators and tenants; with TLS any address, else loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
    pub listen: SocketAddr,
    /// Where agents and operators reach this controller, as a URL: what standbys name while it leads. Where it listens, when left
    /// out. Agents follow only to what stands in their own --controller.
    #[arg(long, value_name = "URL", env = "FLARESHIFT_ADVERTISE", hide_env_values = true)]
    pub advertise: Option<String>,
    /// REST for tenants; with TLS any address, else loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7680")]
    pub rest: SocketAddr,
    /// Metrics and health for whoever watches this controller: /metrics, /healthz, /readyz; loopback only. Off when left
    /// out.
    #[arg(long, value_name = "ADDRESS", env = "FLARESHIFT_METRICS", hide_env_values = true)]
    pub metrics: Option<SocketAddr>,
    /// TLS.
    #[command(flatten)]
    pub tls: Tls,
    /// Take sites that exist only in a simulator, and miner groups with a scale above 1.
    #[arg(long)]
    pub accept_simulated: bool,
    /// Price of one bitcoin in dollars.
    #[arg(long, value_name = "DOLLARS", default_value_t = 66_222.0)]
    pub price_usd: f64,
    /// Network difficulty.
    #[arg(long, value_name = "NUMBER", default_value_t = 125.86e12)]
    pub difficulty: f64,
    /// Transaction fees as a share of the block subsidy, in parts per million.
    #[arg(long, value_name = "PPM", default_value_t = 6_300)]
    pub fees_ppm: u32,
    /// The pool's fee in parts per million of the revenue.
    #[arg(long, value_name = "PPM", default_value_t = 10_000)]
    pub pool_fee_ppm: u32,
    /// Seconds for which the office of leader is held without a sign of life, 2 to 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=60))]
    pub lease_ttl_seconds: u64,
    /// Seconds for which an agent may say nothing while its last report holds, 0 to 30: for links that cost by the megabyte. A
    /// link that is gone shows that much later (docs/sessions.md).
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=30))]
    pub quiet_seconds: i64,
    /// Of a hundred workloads that hold GPUs so many may be given up in a minute, to start anew elsewhere, while their modules are out
    /// of touch, 0 to 100 (docs/sessions.md).
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub evict_percent: u8,
    /// So many of them may be given up in a minute whatever the fleet's size, 1 to 1,000.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub evict_least: u16,
    /// What the log shows.
    #[command(flatten)]
    pub logging: log::Flags,
    /// Where traces are sent.
    #[command(flatten)]
    pub traces: traces::Flags,
    /// Settings in TOML: the long flags with _ for -. Flags and environment go before them (docs/configuration.md).
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Check all settings and the fleet file, and end: 0 where they can be used, 2 where they cannot.
    #[arg(long)]
    pub check_config: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub errand: Option<Errand>,
}

/// What to do instead of serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Errand {
    /// Exports, imports, migrates and checks what controllers keep, as `flareshift store` does; this program always knows etcd.
    Store {
        /// Answer in JSON.
        #[arg(long, global = true)]
        json: bool,
        /// What is done.
        #[command(subcommand)]
        command: crate::maintenance::Command,
    },
}

/// Why the flags or the fleet cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener would be open to the network.
    #[error(
        "--{flag} {address} is not on loopback, and speaks no TLS: anybody could give orders; give --tls-cert, --tls-key and --tls-client-ca (docs/tls.md), or use 127.0.0.1"
    )]
    NotLoopback {
        /// Which.
        flag: &'static str,
        /// What was given.
        address: SocketAddr,
    },
    /// Nobody elsewhere could find it.
    #[error(
        "--listen {address} does not say where others reach this controller; give --advertise https://HOST:PORT, as its certificate names it"
    )]
    NoAddress {
        /// What was given.
        address: SocketAddr,
    },
    /// TLS cannot be had as asked for.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Metrics would be open to the network.
    #[error(transparent)]
    Metrics(#[from] monitor::Error),
    /// Traces cannot be sent there, or by this build.
    #[error(transparent)]
    Traces(#[from] traces::Error),
    /// An address that nobody could follow to.
    #[error(
        "--advertise {address:?} is no address of a controller; write {scheme}://HOST:PORT, as agents and operators reach it"
    )]
    Advertise {
        /// With TLS or without.
        scheme: &'static str,
        /// What was given.
        address: String,
    },
    /// This build cannot archive.
    #[error(
        "--archive: this build has no archive; build it with `cargo build --release -p controller --features archive`"
    )]
    NoArchive,
    /// There can be no archive.
    #[cfg(feature = "archive")]
    #[error(transparent)]
    Archive(#[from] archive::place::Error),
    /// The fleet file cannot be used here.
    #[error(transparent)]
    Fleet(#[from] fleet_file::Error),
    /// A price that is no number, or below zero.
    #[error("--{flag} must be a number of zero or more, not {value}")]
    NotANumber {
        /// Which.
        flag: &'static str,
        /// What was given.
        value: f64,
    },
}

/// Settings that SIGHUP reads again; all others count from the next start on. Prices are what rounds of planning read anew each
/// time, and how long agents may be silent is what sessions are welcomed with. What leases, envelopes, links and sessions were begun
/// with stays.
pub const RELOADED: [&str; 8] = [
    "difficulty",
    "evict_least",
    "evict_percent",
    "fees_ppm",
    "log",
    "pool_fee_ppm",
    "price_usd",
    "quiet_seconds",
];

impl Flags {
    /// Refuses listeners that are open to the network without TLS, certificates that cannot be used, and what cannot be advertised.
    pub fn check(&self) -> Result<(), Error> {
        let [tls, rest_tls] = self.tls.read()?;
        for (flag, address, secure) in
            [("listen", self.listen, tls.is_some()), ("rest", self.rest, rest_tls.is_some())]
        {
            if !address.ip().is_loopback() && !secure {
                return Err(Error::NotLoopback { flag, address });
            }
        }
        self.metrics.map_or(Ok(()), monitor::check)?;
        self.traces.check("controller")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        match &self.advertise {
            Some(address) if !can_be_followed(address, scheme) => {
                return Err(Error::Advertise { scheme, address: address.clone() });
            }
            None if self.listen.ip().is_unspecified() => {
                return Err(Error::NoAddress { address: self.listen });
            }
            _ => {}
        }
        if self.archive.is_some() && !cfg!(feature = "archive") {
            return Err(Error::NoArchive);
        }
        #[cfg(feature = "archive")]
        self.archive.as_deref().map_or(Ok(()), archive::place::check)?;
        for (flag, value) in [("price-usd", self.price_usd), ("difficulty", self.difficulty)] {
            if !value.is_finite() || value < 0.0 {
                return Err(Error::NotANumber { flag, value });
            }
        }
        Ok(())
    }

    /// Whose traces they are.
    pub fn source(&self) -> Source {
        let instance = self.advertise.clone().unwrap_or_else(|| format!("http://{}", self.listen));
        Source { service: "flareshift-controller", instance, version: env!("CARGO_PKG_VERSION") }
    }

    /// How long the office is held.
    pub fn lease_ttl(&self) -> Duration {
        Duration::from_secs(self.lease_ttl_seconds)
    }

    /// What may change while it runs.
    pub fn tuning(&self) -> Tuning {
        Tuning {
            quiet: Span::secs(self.quiet_seconds),
            evictions: Cap { percent: self.evict_percent.into(), least: self.evict_least.into() },
        }
    }

    /// The market by the flags, at a time (which settles the subsidy).
    pub fn market(&self, at: Time) -> Market {
        Market {
            price: MicroDollars::from_f64(self.price_usd * 1e6),
            difficulty: self.difficulty,
            subsidy: subsidy_at(at),
            fees_ppm: self.fees_ppm,
            pool_fee_ppm: self.pool_fee_ppm,
        }
    }

    /// The fleet description; empty without a file.
    pub fn read_fleet(&self) -> Result<Fleet, Error> {
        let Some(path) = &self.fleet else { return Ok(Fleet::default()) };
        let text = File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
        let text = text.map_err(|source| fleet_file::Error::Unreadable { path: path.clone(), source })?;
        Ok(parse_fleet(path, &text, self.accept_simulated)?)
    }
}

/// Whether an address names a host and a port by this scheme, and nothing else.
fn can_be_followed(address: &str, scheme: &str) -> bool {
    let Ok(uri) = address.parse::<tonic::transport::Uri>() else { return false };
    let plain = uri.scheme_str() == Some(scheme) && uri.path() == "/" && uri.query().is_none();
    plain && uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some()
}

/// Parses a fleet description and refuses one that is unsound, or simulated where that is not wanted.
pub fn parse_fleet(path: &Path, text: &str, accept_simulated: bool) -> Result<Fleet, fleet_file::Error> {
    let fleet = fleet_file::parse(path, text)?;
    let findings: Vec<Finding> = if accept_simulated { Vec::new() } else { simulated(&fleet).collect() };
    if findings.is_empty() {
        Ok(fleet)
    } else {
        Err(fleet_file::Error::Unsound { path: path.to_owned(), findings })
    }
}

fn simulated(fleet: &Fleet) -> impl Iterator<Item = Finding> {
    const WHAT_TO_DO: &str = "start the controller with --accept-simulated, or leave it out";
    let finding = |code: &str, subject: String, message: String| Finding {
        code: code.into(),
        subject,
        message: format!("{message}; {WHAT_TO_DO}"),
    };
    let sites = fleet.sites.iter().filter(|site| site.simulated);
    let sites = sites.map(move |site| {
        finding("simulated", format!("site {}", site.id), "exists only in a simulator".into())
    });
    let groups = fleet.modules.iter().flat_map(move |module| {
        let scaled = module.groups.iter().filter(|(_, group)| group.scale > 1);
        scaled.map(move |(id, group)| {
            let message = format!("counts {} hashes for each one done", group.scale);
            finding("scale", format!("module {} group {id}", module.id), message)
        })
    });
    sites.chain(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::FLEET;

    fn flags(arguments: &[&str]) -> Result<Flags, String> {
        let arguments = ["flareshift-controller"].iter().chain(arguments);
        let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
        flags.check().map_err(|error| error.to_string())?;
        Ok(flags)
    }

    #[test]
    fn flags_have_defaults_and_bad_ones_say_what_to_do() {
        let market = flags(&[]).unwrap().market(Time(1_770_854_400_000));
        assert_eq!((market.price, market.subsidy), (MicroDollars::dollars(66_222), 312_500_000));
        let check = |arguments: &[&str], expected: &str| {
            let error = flags(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        };
        check(&["--listen", "0.0.0.0:7600"], "not on loopback, and speaks no TLS");
        check(&["--listen", "0.0.0.0:7600"], "give --tls-cert, --tls-key and --tls-client-ca");
        check(&["--tls-cert", "/nowhere/c.pem"], "--tls-cert is given without --tls-key");
        let lost = [
            "--tls-cert",
            "/nowhere/c.pem",
            "--tls-key",
            "/nowhere/k.pem",
            "--tls-client-ca",
            "/nowhere/a.pem",
        ];
        check(&lost, if tls::BUILT_IN { "--tls-cert: /nowhere/c.pem cannot be used" } else { "no TLS" });
        check(&["--rest", "[::]:80"], "--rest [::]:80 is not on loopback");
        check(&["--metrics", "0.0.0.0:9464"], "--metrics 0.0.0.0:9464 is not on loopback");
        check(&["--log-format", "xml"], "[possible values: text, json]");
        for wrong in ["10.0.0.1:7600", "http://host", "https://h:1", "http://h:1/path", "http://:1", "h t"] {
            check(&["--advertise", wrong], "write http://HOST:PORT");
        }
        assert!(flags(&["--advertise", "http://ten.example:7600"]).is_ok());
        let archive =
            if cfg!(feature = "archive") { "write file:///DIR or s3://BUCKET" } else { "build it with" };
        check(&["--archive", "gs://a"], archive);
        check(&["--stor", "x"], "--store");
        check(&["--lease-ttl-seconds", "1"], "2..=60");
        check(&["--difficulty", "NaN"], "--difficulty must be a number");
        check(&["store", "import"], "<FILE>");
        check(&["stor", "fsck"], "'store'");
        assert!(flags(&["--listen", "[::1]:7600"]).is_ok());
        let flags = flags(&["store", "fsck", "--store", "etcds://a:1", "--installation", "two", "--json"]);
        let flags = flags.unwrap();
        assert_eq!(flags.place.location().unwrap().to_string(), "etcds://a:1/two");
        assert!(matches!(flags.errand, Some(Errand::Store { json: true, .. })));
    }

    #[test]
    fn what_is_read_again_are_flags() {
        let command = <Flags as clap::CommandFactory>::command();
        let longs: Vec<String> =
            command.get_arguments().filter_map(|arg| Some(arg.get_long()?.replace('-', "_"))).collect();
        for key in RELOADED {
            assert!(longs.iter().any(|long| long == key), "{key}");
        }
        assert!(RELOADED.is_sorted());
    }

    #[test]
    fn a_fleet_file_that_cannot_be_used_says_where_and_why() {
        let check = |text: &str, accept: bool, expected: &str| {
            let error = parse_fleet(Path::new("fleet.toml"), text, accept).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("[[planet]]", true, "fleet.toml: line 1, column 3, at `[[planet]]`: unknown field `planet`");
        check(FLEET, false, "site well-7 [simulated]");
        check(&FLEET.replace("wired = true\n", ""), true, "wired");
        check(&FLEET.replace("shed =", "scale = 9\nshed ="), false, "counts 9 hashes for each one done");
        assert_eq!(parse_fleet(Path::new("f"), FLEET, true).unwrap().modules.len(), 2);
        let missing = flags(&["--fleet", "no-such-file.toml"]).unwrap().read_fleet().unwrap_err();
        assert!(missing.to_string().contains("cannot read the fleet file no-such-file.toml"));
    }
}
