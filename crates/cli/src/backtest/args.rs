//! The flags of `backtest` and of what stands below it.
//!
//! Read next: [`super::inputs`], which makes a world of them.

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::{factor, share};

/// What is replayed by `backtest`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BacktestArgs {
    /// Something other than strategies side by side.
    #[command(subcommand)]
    pub command: Option<BacktestCommand>,
    #[command(flatten)]
    pub given: Given,
    /// Days to replay.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub days: u16,
    /// Only this strategy: mining-only, ai-only, static-split, greedy or flareshift; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub strategy: Vec<backtest::Kind>,
    /// Share of the sets' rating that static-split gives to GPUs.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = share)]
    pub split: f64,
    /// Replay so many events of each strategy in steps of 10 ms, on simulated physics with the agents' own reflexes: sets trip,
    /// loads are lost, plans take over. A violation ends with exit code 1.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub replay: u16,
    /// Replay with agents whose reflex does nothing: what the island would do without them.
    #[arg(long, hide = true, requires = "replay")]
    pub replay_no_reflex: bool,
    /// Write every day of every strategy to this CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw revenue a day by source into this SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// What `backtest` does beside a comparison of strategies.
#[derive(Clone, Debug, Subcommand)]
pub enum BacktestCommand {
    /// Holds the planner against an oracle on seeded weeks: floor, ours, a planner that knows, and a bound on everything.
    Oracle(Box<OracleArgs>),
    /// Holds each way to expect gas against knowing it, on a suite of worlds: seeds, gas that varies little and much, three loads.
    Horizon(Box<HorizonArgs>),
    /// Reckons money over years: present value, payback, the share outside mining, a bust, a contract.
    Years(Box<YearsArgs>),
}

/// Flags of `backtest oracle`.
#[derive(Clone, Debug, clap::Args)]
pub struct OracleArgs {
    #[command(flatten)]
    pub given: Given,
    /// Weeks, drawn by the seed from all that the series cover; from a year without series.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=104))]
    pub weeks: u8,
    /// Days before each week on which the split of the floor is fitted.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=90))]
    pub fit_days: u8,
}

/// Flags of `backtest horizon`.
#[derive(Clone, Debug, clap::Args)]
pub struct HorizonArgs {
    #[command(flatten)]
    pub given: Given,
    /// Seeds, from --seed on. Load and variability of gas are the suite's own.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub seeds: u8,
    /// Days of each world.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=30))]
    pub days: u8,
}

/// Flags of `backtest years`.
#[derive(Clone, Debug, clap::Args)]
pub struct YearsArgs {
    #[command(flatten)]
    pub given: Given,
    /// Capital, build-out, AI prices and a bust in this TOML instead of the defaults (docs/backtest.md).
    #[arg(long, value_name = "FILE")]
    pub economics: Option<PathBuf>,
    /// Judge the contract in this TOML by running the planner with and without it.
    #[arg(long, value_name = "FILE")]
    pub contract: Option<PathBuf>,
    /// Days of each month that count; they stand for all of it.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=14))]
    pub days_per_month: u8,
    /// Days before them that fill the GPUs and count nothing.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=14))]
    pub warm_up: u8,
    /// Only this strategy; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub strategy: Vec<backtest::Kind>,
}

/// The world that is replayed.
#[derive(Clone, Debug, clap::Args)]
pub struct Given {
    /// Replay bitcoin prices from this CSV instead of a synthetic walk.
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Replay network difficulty from this CSV instead of holding one.
    #[arg(long, value_name = "FILE")]
    pub difficulty: Option<PathBuf>,
    /// Draw orders from the GPU jobs in this CSV instead of synthetic ones.
    #[arg(long, value_name = "FILE")]
    pub jobs: Option<PathBuf>,
    /// Replay over the fleet in this TOML file instead of the built-in one of two sites.
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// The first day; so that the last day is the last one of all series when left out.
    #[arg(long, value_name = "DATE")]
    pub from: Option<String>,
    /// GPU time that is asked for, as a share of what the fleet's GPUs have.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = load)]
    pub load: f64,
    /// Seed of everything that is drawn at random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How much the wells' gas varies: 0 is steady, 0.3 an ordinary shale pad, 1 the most.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    pub gas_variability: f64,
    /// How the gas of the next two hours is expected: persistence, seasonal, quantile, perfect, or noisy (the truth
    /// with noise: no forecaster, a sensitivity).
    #[arg(long, value_name = "METHOD", default_value_t = backtest::Method::Persistence)]
    pub forecast: backtest::Method,
    /// Dollars for a firm GPU-hour; the fleet's offering when left out. So for the next two.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub firm_price: Option<f64>,
    /// Dollars for an on-demand GPU-hour.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub on_demand_price: Option<f64>,
    /// Dollars for a spot GPU-hour.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub spot_price: Option<f64>,
    /// Transaction fees in percent of the block subsidy.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.63, value_parser = percent)]
    pub fees: f64,
    /// The pool's fee in percent of what mining earns.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    pub pool_fee: f64,
    /// Share of methane that the flare would have destroyed: 0.911 was measured, 0.98 is assumed by rule.
    #[arg(long, value_name = "SHARE", default_value_t = 0.911, value_parser = share)]
    pub flare_destruction: f64,
    /// Warming of methane against CO2: 28 over a hundred years, 82.5 over twenty.
    #[arg(long, value_name = "FACTOR", default_value_t = 28.0, value_parser = factor)]
    pub gwp: f64,
    /// Let every N-th plan pass the check; 1 checks all, 0 none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub check_every: u64,
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // Three decimals are kept, and ten times what a fleet has is a queue and no load.
        Ok(value) if (0.001..=10.0).contains(&value) => Ok(value),
        _ => Err("expected a share from 0.001 to 10, such as 0.9".to_owned()),
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1_000.0).contains(&value) => Ok(value),
        _ => Err("expected dollars from 0 to 1000, such as 2.95".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("expected a percentage from 0 to 100, such as 0.63".to_owned()),
    }
}
