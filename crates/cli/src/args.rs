//! The command line: every command, its flags and what `--help` says of them.
//!
//! Assumes nothing of a controller. Read next: `operator/mod.rs` for what the operator's commands do, `failure.rs` beside it
//! for the exit codes that the help promises.

mod affinity;
mod quote;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use model::Span;
use service::tls::ClientFlags;
use sim::fault::{FAULTS, Fault};

pub use self::affinity::AffinityArgs;
pub use self::quote::{QuoteArgs, SizeArgs, Tier};
use crate::backtest::BacktestArgs;
use crate::{duration, output};

/// Where a controller answers when nobody says otherwise.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7600";

/// What stands below every `--help` of the program itself.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the command failed: what was named is not there, an invariant of a run was broken, or a plan from a file breaks a rule
  2  the command line, a value in it or a file it names is wrong
  3  no controller answered, or none that leads
  4  the controller refused: a conflict, a quota, a missing permission, a state that does not allow it";

/// Operates a fleet of gas-powered sites that mine and serve AI, or runs a whole simulated one (`flareshift dev`).
#[derive(Clone, Debug, Parser)]
#[command(name = "flareshift", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Args {
    /// The controller's gRPC address.
    #[arg(
        long,
        global = true,
        env = "FLARESHIFT_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        default_value = DEFAULT_ENDPOINT,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub endpoint: String,
    /// TLS towards controllers.
    #[command(flatten)]
    pub tls: ClientFlags,
    /// Ask that controller alone. Where it stands by, show what it knows from the store and do not go on to the leader.
    #[arg(long, global = true)]
    pub no_follow: bool,
    /// How the answer is written on standard output.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people; may change between versions.
    #[default]
    Table,
    /// For programs: stable field names, units in the names.
    Json,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows the whole fleet at a glance.
    Status(StatusArgs),
    /// Shows sites: islands of gas, generator sets and load.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Shows modules (containers) and takes them out of service and back.
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Shows what the controller decided, and why; plans and judges files.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Shows what lies ahead for three days: GPUs for sale, when gangs would start, when to drain modules.
    Outlook {
        /// Only this site.
        site: Option<String>,
    },
    /// Prices a request and says how likely it is interrupted, and whether it can be promised. Orders nothing.
    Quote(QuoteArgs),
    /// Shows, submits and cancels workloads of any tenant.
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// Shows tenants and makes new ones.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Shows what is sold, and at what price.
    #[command(subcommand)]
    Offering(OfferingCommand),
    /// Shows what a Stratum proxy on this machine does.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Judges mining shares offline, as the proxy does.
    #[command(subcommand)]
    Share(ShareCommand),
    /// Exports, imports, migrates and checks what a controller keeps; mostly while none runs. Asks no controller.
    Store(Box<StoreArgs>),
    /// Prints what happens, line by line, until it is interrupted.
    Watch(WatchArgs),
    /// Shows the versions of this program and of the controller.
    Version(VersionArgs),
    /// Replays prices, gas and jobs over a fleet for days to years, and compares strategies. Needs no controller.
    Backtest(Box<BacktestArgs>),
    /// Runs a whole simulated fleet in this process: sites, agents, miners, pool and controller.
    Dev(Box<DevArgs>),
}

/// Flags of `status`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Most of the latest decisions to show, 0 to 200.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=200))]
    pub decisions: u8,
}

/// What `site` does.
#[derive(Clone, Debug, Subcommand)]
pub enum SiteCommand {
    /// Lists all sites.
    List,
    /// Shows one site: gas, capacity, load by use, generator sets, findings.
    Describe {
        /// The site's id.
        site: String,
    },
}

/// What `module` does.
#[derive(Clone, Debug, Subcommand)]
pub enum ModuleCommand {
    /// Lists modules.
    List {
        /// Only those of this site.
        #[arg(long, value_name = "ID")]
        site: Option<String>,
    },
    /// Shows one module: envelope, draw, miners, GPU pools, runs, findings.
    Describe {
        /// The module's id.
        module: String,
    },
    /// Places no new workload on a module; what runs there goes on.
    Cordon(ModuleChange),
    /// Lets workloads onto a module again; ends a drain too.
    Uncordon(ModuleChange),
    /// Stops the workloads of a module with a checkpoint and places no new ones there.
    Drain(ModuleChange),
}

/// Which module is changed, and on what condition.
#[derive(Clone, Debug, clap::Args)]
pub struct ModuleChange {
    /// The module's id.
    pub module: String,
    /// Change it only if it still has this etag (`module describe` shows it).
    #[arg(long, value_name = "ETAG")]
    pub etag: Option<String>,
    /// Who asks for it; stands in the history that `describe` shows.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub by: Option<String>,
    /// Why; stands in that history.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub why: Option<String>,
}

/// What `plan` does.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// Lists committed plans, newest first.
    List {
        /// Most plans to list.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Shows one plan: modules, the losses it answers, ladders of loads to drop, the horizon, decisions.
    Show {
        /// Its generation; the plan in force when left out.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        generation: Option<u64>,
    },
    /// Shows what differs between two plans.
    Diff {
        /// The older plan; the parent of the newer one when left out.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        from: Option<u64>,
        /// The newer plan; the plan in force when left out.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
    },
    /// Says why a plan treats a site, a module or a workload as it does.
    Explain(ExplainArgs),
    /// Plans the input in a file, without a controller: plan, report, bound.
    Solve {
        /// A planner's input as JSON (docs/planner-input.md).
        file: PathBuf,
    },
    /// Judges the plan in a file on the input beside it, without a controller.
    Check {
        /// Input and plan as JSON, as `plan solve FILE -o json` prints them.
        file: PathBuf,
    },
}

/// What `plan explain` is asked about.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "subject", required = true, multiple = false)]
pub struct ExplainArgs {
    /// Explain this site.
    #[arg(long, value_name = "ID", group = "subject")]
    pub site: Option<String>,
    /// Explain this module.
    #[arg(long, value_name = "ID", group = "subject")]
    pub module: Option<String>,
    /// Explain this workload.
    #[arg(long, value_name = "ID", group = "subject")]
    pub workload: Option<String>,
    /// The plan's generation; the plan in force when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub generation: Option<u64>,
}

/// What `workload` does.
#[derive(Clone, Debug, Subcommand)]
pub enum WorkloadCommand {
    /// Lists workloads.
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Completed and cancelled ones too.
        #[arg(long)]
        all: bool,
    },
    /// Shows one workload: what was ordered, where it stands and why.
    Describe {
        /// The workload's id.
        workload: String,
    },
    /// Orders a workload in the name of a tenant.
    Submit(Box<SubmitArgs>),
    /// Ends a workload. Ending it twice is no error.
    Cancel {
        /// The workload's id.
        workload: String,
        /// Who asks for it; stands in the history that `describe` shows.
        #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        by: Option<String>,
        /// Why; stands in that history.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        why: Option<String>,
    },
}

/// What is ordered by `workload submit`.
#[derive(Clone, Debug, clap::Args)]
pub struct SubmitArgs {
    /// The tenant who orders and pays.
    #[arg(long, value_name = "ID")]
    pub tenant: String,
    /// The offering to buy under; it settles tier, GPU type and price.
    #[arg(long, value_name = "ID")]
    pub offering: String,
    /// How many GPUs or kilowatts.
    #[command(flatten)]
    pub size: SizeArgs,
    /// How long all of them together run until it is complete; runs until it is cancelled when left out.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub run_for: Option<Span>,
    /// Time between checkpoints; the controller's choice when left out.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub checkpoint: Option<Span>,
    /// Time to save a checkpoint; the controller's choice when left out.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub save: Option<Span>,
    /// Time from start until progress resumes; the controller's choice when left out.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub restart: Option<Span>,
    /// Where it may run, and beside whom.
    #[command(flatten)]
    pub affinity: AffinityArgs,
    /// Makes the order repeatable: the same id again answers the workload made the first time.
    #[arg(long, value_name = "TEXT")]
    pub request_id: Option<String>,
    /// Gives the promise without asking whether it can be kept; says why, which is recorded.
    #[arg(long = "override", value_name = "WHY", requires = "by", value_parser = NonEmptyStringValueParser::new())]
    pub override_why: Option<String>,
    /// Who overrides, which is recorded.
    #[arg(long, value_name = "NAME", requires = "override_why", value_parser = NonEmptyStringValueParser::new())]
    pub by: Option<String>,
}

/// What `tenant` does.
#[derive(Clone, Debug, Subcommand)]
pub enum TenantCommand {
    /// Lists tenants.
    List,
    /// Makes a tenant and prints its API key, which is shown this once.
    Create {
        /// Its id: 1 to 63 of a-z, 0-9 and '-'.
        tenant: String,
        /// Its name, for people; the id when left out.
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// Most GPUs it may hold at once.
        #[arg(long, value_name = "N")]
        gpu_quota: u32,
        /// Most kilowatts of powered shell it may hold at once.
        #[arg(long, value_name = "N", default_value_t = 0)]
        kilowatt_quota: u32,
        /// Makes the call repeatable: the same id again makes nothing new and answers no key.
        #[arg(long, value_name = "TEXT")]
        request_id: Option<String>,
    },
}

/// What `offering` does.
#[derive(Clone, Debug, Subcommand)]
pub enum OfferingCommand {
    /// Lists offerings: tier, GPU type, price, notice before a preemption, promised availability.
    List,
}

/// What `proxy` does.
#[derive(Clone, Debug, Subcommand)]
pub enum ProxyCommand {
    /// Shows sessions, upstreams, workers, rejects by reason, and whether every share received has its one end.
    Stats {
        /// The directory of the agent (its --data); for a fleet's agent data/agent unless told otherwise.
        #[arg(long, value_name = "DIR", default_value = "data/proxy")]
        data: PathBuf,
    },
}

/// What stands below `share check --help`.
const SHARE_HELP: &str = "The file is one JSON object:
  job               the nine parameters of mining.notify, or the whole message
  extranonce1       what the pool (or proxy) gave at subscription, in hex
  extranonce2_size  bytes that are left to the miner
  version_mask      the negotiated mask in hex; null or left out without version rolling
  difficulty        what the share is held against
  share             the parameters of mining.submit, or the whole message
  received_unix_seconds  when it came; without it ntime may lie anywhere within 7000 s of the job's

Exit codes: 0 accepted, 1 rejected, 2 it cannot be judged. An example: docs/examples/share.json";

/// What `share` does.
#[derive(Clone, Debug, Subcommand)]
pub enum ShareCommand {
    /// Says of one share what it hashes to, which difficulty that is, and whether it counts.
    #[command(after_help = SHARE_HELP)]
    Check {
        /// The share and its job as JSON; `-` reads standard input.
        file: String,
    },
}

/// What stands below `store --help`.
const STORE_HELP: &str = "Exit codes:
  0  done; fsck: every record is sound
  1  it failed: nothing is stored there, records are broken
  2  the address, a flag or a file is wrong; nothing was changed
  3  the store did not answer
  4  refused: a controller leads or holds the directory, or records would be deleted

What the file of an export looks like, and when to raise the epoch: docs/store.md";

/// Which store, and what is done to it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = STORE_HELP)]
pub struct StoreArgs {
    /// Where it is.
    #[command(flatten)]
    pub place: controller::config::Place,
    /// What is done.
    #[command(subcommand)]
    pub command: controller::maintenance::Command,
}

/// Flags of `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    /// Leave out the status that comes from time to time.
    #[arg(long)]
    pub events_only: bool,
}

/// Flags of `version`.
#[derive(Clone, Debug, clap::Args)]
pub struct VersionArgs {
    /// Show this program's version only and ask no controller.
    #[arg(long)]
    pub client: bool,
}

/// What is simulated by `dev`, how fast and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// Replay bitcoin prices from this CSV instead of holding one price.
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Replay network difficulty from this CSV instead of holding one.
    #[arg(long, value_name = "FILE")]
    pub difficulty: Option<PathBuf>,
    /// Replay a trace of GPU jobs from this CSV instead of a few standing ones.
    #[arg(long, value_name = "FILE")]
    pub jobs: Option<PathBuf>,
    /// Where the replay begins: a date YYYY-MM-DD, or the number of a day of the jobs; their busiest day when left out.
    #[arg(long, value_name = "DATE|DAY")]
    pub from: Option<String>,
    /// Simulated seconds in a second, at most; it is slower when the machine is.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub speed: f64,
    /// Seed of everything that is drawn at random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// End after so much simulated time, such as 120s; runs until it is interrupted when left out.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub for_: Option<Span>,
    /// Let something fail: NAME@TIME or NAME@TIME:ARGUMENT, such as genset-trip@60s; may be repeated. `help` lists all.
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// List the faults there are, and end.
    #[arg(long)]
    pub list_faults: bool,
    /// Switch off the agents' reflex, to see what it is good for.
    #[arg(long)]
    pub no_reflex: bool,
    /// Break the named part on purpose, to see an invariant fire.
    #[arg(long, value_name = "NAME", hide = true)]
    pub sabotage: Option<String>,
    /// Draw no live table; print one summary at the end.
    #[arg(long)]
    pub headless: bool,
    /// Keep state here and carry on from what is there; a fresh temporary directory when left out.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Sites to simulate: 2 with three modules each, or 1 with a single hybrid module.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub sites: u8,
    /// How much the wells' gas varies: 0 is steady, 0.3 an ordinary shale pad, 1 the most.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    pub gas_variability: f64,
    /// Most hashes that all simulated miners together really do in a second.
    #[arg(long, value_name = "HASHES", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub hash_budget: u64,
    /// Simulate the fleet in this TOML file instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Where the controller listens for gRPC.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
    pub grpc: SocketAddr,
    /// Where the controller listens for the tenants' REST API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7680")]
    pub rest: SocketAddr,
    /// Metrics and health of controller and agents: /metrics, /healthz, /readyz; loopback only. Off when left out.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Write log lines here while the live table is shown; to `flareshift.log` in the data directory when left out.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How the summary is written: the global `-o`, filled in by [`Args::read`].
    #[arg(skip)]
    pub output: Output,
}

impl Args {
    /// Reads the process's command line. `Err` is the code to exit with: help, version, the list of faults or what is
    /// wrong was printed.
    pub fn read() -> Result<Self, ExitCode> {
        let args = match Self::try_parse() {
            Ok(args) => args.settle(),
            Err(error) if asks_for_faults(&error) => {
                return Err(list_faults());
            }
            Err(error) => {
                // A closed pipe is the reader's choice and no failure of ours.
                let _ = error.print();
                return Err(ExitCode::from(if error.use_stderr() { 2 } else { 0 }));
            }
        };
        if matches!(&args.command, Command::Dev(dev) if dev.list_faults) {
            return Err(list_faults());
        }
        Ok(args)
    }

    /// Hands the global output format to `dev`.
    fn settle(mut self) -> Self {
        if let Command::Dev(dev) = &mut self.command {
            dev.output = self.output;
        }
        self
    }
}

/// Prints the registry of faults.
fn list_faults() -> ExitCode {
    match output::print(&fault_list()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The registry of faults, one line each.
fn fault_list() -> String {
    let form = |entry: &sim::fault::Entry| {
        let argument = entry.argument;
        // An argument in brackets may be left out, and its colon with it.
        match argument.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => format!("{}@TIME[:{inner}]", entry.name),
            None if argument.is_empty() => format!("{}@TIME", entry.name),
            None => format!("{}@TIME:{argument}", entry.name),
        }
    };
    let width = FAULTS.iter().map(|entry| form(entry).len()).max().unwrap_or_default();
    FAULTS.iter().map(|entry| format!("{:width$}  {}\n", form(entry), entry.help)).collect()
}

/// Whether the command line failed only because somebody asked `--fault help`.
fn asks_for_faults(error: &Error) -> bool {
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    error.kind() == ErrorKind::ValueValidation
        && text(ContextKind::InvalidValue) == "help"
        && text(ContextKind::InvalidArg).starts_with("--fault")
}

/// A number above zero.
pub fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a number above 0, such as 60".to_owned()),
    }
}

/// A share from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1, such as 0.3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).map(Args::settle).unwrap()
    }

    fn dev(line: &str) -> DevArgs {
        match parse(line).command {
            Command::Dev(dev) => *dev,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn dev_runs_two_sites_at_the_speed_of_time_unless_told_otherwise() {
        let dev = dev("flareshift dev");
        assert_eq!((dev.sites, dev.speed, dev.seed, dev.hash_budget), (2, 1.0, 1, 1_000_000));
        assert_eq!((dev.gas_variability, dev.for_, dev.from.as_deref()), (0.3, None, None));
        assert_eq!(
            (dev.grpc.to_string(), dev.rest.to_string()),
            ("127.0.0.1:7600".into(), "127.0.0.1:7680".into())
        );
        assert_eq!(
            (dev.fault.len(), dev.no_reflex, dev.headless, dev.output),
            (0, false, false, Output::Table)
        );
    }

    #[test]
    fn dev_takes_faults_durations_and_the_global_output() {
        let dev = dev(
            "flareshift dev --fault genset-trip@60s:g1 --fault pool-loss@2m --for 120s --headless -o json --sabotage x",
        );
        let faults: Vec<Fault> = ["genset-trip@60s:g1", "pool-loss@2m"].map(|f| f.parse().unwrap()).into();
        assert_eq!((dev.fault, dev.for_, dev.output), (faults, Some(Span::secs(120)), Output::Json));
        assert_eq!((dev.headless, dev.sabotage.as_deref()), (true, Some("x")));
    }

    #[test]
    fn global_flags_may_stand_before_or_after_the_command() {
        for line in
            ["flareshift -o json --endpoint h:1 status", "flareshift status --endpoint h:1 --output json"]
        {
            let args = parse(line);
            assert_eq!((args.output, args.endpoint.as_str()), (Output::Json, "h:1"), "{line}");
        }
    }

    #[test]
    fn only_a_call_for_help_lists_the_faults() {
        let check = |line: &str, expected: bool| {
            let error = Args::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(asks_for_faults(&error), expected, "{line}");
        };
        check("flareshift dev --fault help", true);
        check("flareshift dev --fault helpless", false);
        check("flareshift dev --for help", false);
    }

    #[test]
    fn faults_are_listed_as_they_are_written() {
        let list = fault_list();
        for form in
            ["genset-trip@TIME[:[SITE/]GENSET] ", "gas-drop@TIME:[SITE/]PERCENT ", "leader-loss@TIME "]
        {
            assert!(list.contains(form), "{form} in {list}");
        }
        assert_eq!(list.lines().count(), FAULTS.len());
    }
}
