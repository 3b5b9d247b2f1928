//! What is run: fleet, series, faults, begin; checked before anything starts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent::simulated::{self, scaled};
use anyhow::{Context, bail};
use model::fleet::Fleet;
use model::market::{Market, subsidy_at};
use model::{MicroDollars, Span, Time};
use sim::fault::{Fault, Kind};
use sim::reference;
use sim::series::daily::{self, Daily};
use sim::series::jobs::{self, Jobs};

use super::resume;
use super::sabotage::Sabotage;
use super::scratch::Scratch;
use crate::args::DevArgs;

/// Where simulated time begins when no series says otherwise: 2026-02-12T00:00:00Z, the day of [`PRICE`] and [`DIFFICULTY`].
pub const BEGIN: Time = Time(1_770_854_400_000);
/// Price of a bitcoin on that day.
pub const PRICE: MicroDollars = MicroDollars::dollars(66_222);
/// Network difficulty on that day.
pub const DIFFICULTY: f64 = 125.86e12;
/// Fees over a year were 0.63 % of the subsidy; pools take about 1 %.
const FEES_PPM: u32 = 6_300;
const POOL_FEE_PPM: u32 = 10_000;
/// Share of the sets' rating that the sites carry when they are found, in thousandths. A first run takes over a warm site; one
/// that carries on finds it on its fallback programme.
const LOADED_PERMILLE: (u32, u32) = (900, 350);

/// A checked scenario.
pub struct Scenario {
    /// What was asked.
    pub args: DevArgs,
    /// The sites, their groups' scales set.
    pub fleet: Fleet,
    /// The directory of everything that is kept; a temporary one goes with this value.
    pub data: PathBuf,
    /// Simulated time at which this run begins.
    pub start: Time,
    /// Simulated time at which the first run on this directory began.
    pub origin: Time,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
    /// Jobs to replay, if any.
    pub jobs: Option<Replay>,
    prices: Option<Daily<MicroDollars>>,
    difficulty: Option<Daily<f64>>,
    /// When the process began it, on wall time.
    pub begun: Instant,
    _scratch: Scratch,
    _lock: File,
}

/// Jobs to replay from a day of their trace.
pub struct Replay {
    /// The trace.
    pub jobs: Jobs,
    /// The day's begin, from the trace's start.
    pub from: Span,
}

impl Scenario {
    /// Reads every file and checks every value.
    pub fn new(args: DevArgs) -> anyhow::Result<Self> {
        let fleet = match (&args.fleet, args.sites) {
            (Some(path), _) => sim::fleet_file::load(path)?,
            (None, 1) => reference::one_module(),
            (None, _) => reference::fleet(),
        };
        let fleet = scaled(fleet, args.speed, args.hash_budget);
        let prices = args.prices.as_deref().map(daily::prices).transpose()?;
        let difficulty = args.difficulty.as_deref().map(daily::difficulty).transpose()?;
        let jobs = args.jobs.as_deref().map(|path| jobs::jobs(path, args.seed)).transpose()?;
        let sabotage = args.sabotage.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let asked = begin(&args, prices.as_ref(), difficulty.as_ref())?;
        let jobs = jobs.map(|jobs| replay(jobs, args.from.as_deref())).transpose()?;
        known_modules(&args.fault, &fleet)?;
        let scratch = Scratch::new(args.data.as_deref())?;
        let data = scratch.path().to_owned();
        let lock = lock(&data)?;
        let (origin, start) = resume::begin(&data, asked, args.seed)?;
        Ok(Self {
            args,
            fleet,
            data,
            start,
            origin,
            sabotage,
            jobs,
            prices,
            difficulty,
            begun: Instant::now(),
            _scratch: scratch,
            _lock: lock,
        })
    }

    /// The world to simulate.
    pub fn world(&self) -> simulated::Config {
        let physical = |fault: &&Fault| fault.kind.is_physical();
        simulated::Config {
            fleet: self.fleet.clone(),
            sites: self.fleet.sites.iter().map(|site| site.id.clone()).collect(),
            start: self.start,
            speed: self.args.speed,
            budget: self.args.hash_budget,
            seed: self.args.seed,
            mark: 0,
            gas_variability: self.args.gas_variability,
            load_permille: if self.start == self.origin { LOADED_PERMILLE.0 } else { LOADED_PERMILLE.1 },
            faults: self.args.fault.iter().filter(physical).cloned().collect(),
            until: self.args.for_.map(|span| self.start + span),
        }
    }

    /// What mining pays at a time.
    pub fn market_at(&self, at: Time) -> Market {
        Market {
            price: self.prices.as_ref().map_or(PRICE, |series| series.at(at)),
            difficulty: self.difficulty.as_ref().map_or(DIFFICULTY, |series| series.at(at)),
            subsidy: subsidy_at(at),
            fees_ppm: FEES_PPM,
            pool_fee_ppm: POOL_FEE_PPM,
        }
    }

    /// Whether a fault takes the office of leader away, so that somebody has to stand by for it.
    pub fn loses_leader(&self) -> bool {
        self.args.fault.iter().any(|fault| fault.kind == Kind::LeaderLoss)
    }
}

/// Refuses faults that name a module nobody knows: they would strike nothing, silently.
fn known_modules(faults: &[Fault], fleet: &Fleet) -> anyhow::Result<()> {
    for fault in faults {
        let (Kind::FeederStuck(id, _)
        | Kind::MinerLiar(id, _)
        | Kind::MinerErrors(id, _)
        | Kind::MeterDead(id)
        | Kind::LinkLoss(id, _)
        | Kind::AgentKill(id)) = &fault.kind
        else {
            continue;
        };
        if !fleet.modules.iter().any(|module| module.id == *id) {
            let names: Vec<&str> = fleet.modules.iter().map(|module| module.id.as_str()).collect();
            bail!("--fault: no module is called {id}; there are {}", names.join(", "));
        }
    }
    Ok(())
}

/// When simulated time begins: the date asked for, else the last day that all series cover.
fn begin(
    args: &DevArgs,
    prices: Option<&Daily<MicroDollars>>,
    difficulty: Option<&Daily<f64>>,
) -> anyhow::Result<Time> {
    let asked = match args.from.as_deref() {
        Some(text) if text.contains('-') => Some(date(text)?),
        _ => None,
    };
    let last = [prices.map(|series| series.span().1), difficulty.map(|series| series.span().1)];
    let at = asked.unwrap_or_else(|| last.into_iter().flatten().min().unwrap_or(BEGIN));
    let covered = |covers: Option<bool>| covers.unwrap_or(true);
    if !covered(prices.map(|series| series.covers(at)))
        || !covered(difficulty.map(|series| series.covers(at)))
    {
        bail!(
            "{} lies outside the series; choose a day that both files have, with --from YYYY-MM-DD",
            day(at)
        );
    }
    Ok(at)
}

/// A date as `2026-02-12`.
pub fn day(at: Time) -> String {
    let text = jiff::Timestamp::from_millisecond(at.millis()).map(|at| at.strftime("%F").to_string());
    text.unwrap_or_else(|_| at.to_string())
}

/// The date that `--from` names.
pub fn date(text: &str) -> anyhow::Result<Time> {
    let date: jiff::civil::Date =
        text.parse().with_context(|| format!("--from {text} is no date; write YYYY-MM-DD"))?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::UTC)?;
    Ok(Time(zoned.timestamp().as_millisecond()))
}

fn replay(jobs: Jobs, from: Option<&str>) -> anyhow::Result<Replay> {
    let day = match from.filter(|text| !text.contains('-')) {
        Some(text) => text
            .parse()
            .with_context(|| format!("--from {text} is neither a date nor the number of a day"))?,
        None => jobs
            .busiest_day()
            .map(|(day, _)| day)
            .context("the jobs ask for no GPUs at all; give another file")?,
    };
    Ok(Replay { jobs, from: Span::hours(24 * day) })
}

fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("LOCK");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "{} is in use by another flareshift dev; stop that one, or choose another directory with --data",
            data.display()
        ),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
