//! The world of a back-test, from files and flags; what no file gives is synthetic.
//!
//! Series are read as `dev` reads them. Read next: `backtest::world`.

use std::collections::BTreeMap;
use std::ops::Range;

use ::backtest::demand::{self, Job, Wanted};
use ::backtest::world::STEPS_A_DAY;
use ::backtest::{Before, Methane, Order, Terms, World, outage, synthetic, world};
use anyhow::bail;
use model::fleet::Fleet;
use model::market::{Market, subsidy_at};
use model::plan::STEP;
use model::site::{GasFlow, Site};
use model::workload::Tier;
use model::{MicroDollars, SiteId, SoldBy, Span, Time};
use sim::gas::Supply;
use sim::reference;
use sim::series::daily::{self, Daily};
use sim::series::jobs;

use super::args::Given;
use crate::dev::scenario::{BEGIN, DIFFICULTY, PRICE, date, day};

/// Readings of a well that are averaged for a step: one a minute, since slugs take five minutes at least.
const SAMPLES: i64 = 5;
/// Days before the first one of which forecasters have seen gas and prices: the four weeks that seasonal looks back.
const BEFORE: i64 = 28;
/// Added to the seed for the orders of these days.
const SEED_BEFORE: u64 = 500_009;
/// A day.
const DAY: Span = Span::hours(24);

/// A world, and what is to be told of how it was made.
pub struct Inputs {
    /// To be replayed.
    pub world: World,
    /// For the head of the report.
    pub told: Told,
}

/// How a world was made.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Told {
    /// Where prices come from.
    pub prices: String,
    /// Where difficulty comes from.
    pub difficulty: String,
    /// How gas is expected.
    pub forecast: String,
    /// Where jobs come from.
    pub jobs: String,
    /// Jobs of the file without GPUs, dropped.
    pub jobs_dropped: usize,
    /// Jobs of the file whose fraction of a GPU was rounded up.
    pub jobs_rounded_up: usize,
    /// Jobs that were cut to seven days.
    pub jobs_cut: usize,
    /// Days of the trace that were drawn from.
    pub job_days: usize,
    /// Whether gang sizes were drawn.
    pub gangs_drawn: bool,
    /// Of every draw.
    pub seed: u64,
    /// GPU time asked for against the fleet's, as wanted.
    pub load: f64,
}

/// Everything that was read; worlds are made of it.
pub struct Source<'a> {
    given: &'a Given,
    fleet: Fleet,
    prices: Option<Daily<MicroDollars>>,
    difficulty: Option<Daily<f64>>,
    trace: Vec<Job>,
    told: Told,
}

/// Reads every file, checks every value, and makes the world of so many days.
pub fn read(given: &Given, days: usize) -> anyhow::Result<Inputs> {
    let source = Source::read(given)?;
    let start = source.begin(days)?;
    source.world(start, start, days)
}

impl<'a> Source<'a> {
    /// Reads every file.
    pub fn read(given: &'a Given) -> anyhow::Result<Self> {
        let mut fleet = match &given.fleet {
            Some(path) => sim::fleet_file::load(path)?,
            None => reference::fleet(),
        };
        without_shells(&mut fleet);
        let prices = given.prices.as_deref().map(daily::prices).transpose()?;
        let difficulty = given.difficulty.as_deref().map(daily::difficulty).transpose()?;
        let mut told = Told { seed: given.seed, load: given.load, ..Told::default() };
        let trace = trace(given, &mut told)?;
        told.forecast = given.forecast.to_string();
        told.prices = name(given.prices.as_deref(), "synthetic: a walk from $66,222");
        told.difficulty = name(given.difficulty.as_deref(), "125.86 T, steady");
        Ok(Self { given, fleet, prices, difficulty, trace, told })
    }

    /// The fleet that is replayed.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The world of so many days from `start`. Chance is counted from `origin`: worlds that begin elsewhere meet other days.
    pub fn world(&self, origin: Time, start: Time, days: usize) -> anyhow::Result<Inputs> {
        let (given, fleet) = (self.given, self.fleet.clone());
        let offset = usize::try_from(start.since(origin).whole_times(DAY))?;
        // The seed of the first world is the one that was given; a prime keeps the others apart.
        let seed = given.seed.wrapping_add(offset as u64 * 1_000_003);
        let wanted = Wanted {
            seed,
            load_permille: (given.load * 1_000.0).round() as i64,
            gpus: world::gpus(&fleet),
            start,
            days,
        };
        let demand = demand::orders(&self.trace, &wanted)?;
        let mut told = self.told.clone();
        (told.jobs_cut, told.job_days, told.gangs_drawn) = (demand.cut, demand.days, demand.gangs_drawn);
        let steps = i64::try_from(days * STEPS_A_DAY)?;
        let seen = BEFORE * STEPS_A_DAY as i64;
        let before = Before {
            gas: gas(&fleet, given, start, -seen..0),
            markets: self.markets_before(start),
            orders: self.orders_before(wanted)?,
        };
        let world = World {
            start,
            days,
            gas: gas(&fleet, given, start, 0..steps),
            outages: outage::draw(&fleet, seed, days),
            markets: self.markets(start, offset, days),
            orders: demand.orders,
            prices: tiers(&fleet, given),
            terms: terms(given),
            before,
            fleet,
        };
        world.check()?;
        Ok(Inputs { world, told })
    }

    /// The days that all series have in common, the first and the last; `None` without series.
    pub fn covered(&self) -> anyhow::Result<Option<(Time, Time)>> {
        let spans = [self.prices.as_ref().map(Daily::span), self.difficulty.as_ref().map(Daily::span)];
        let first = spans.iter().flatten().map(|span| span.0).max();
        let last = spans.iter().flatten().map(|span| span.1).min();
        let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
        if first > last {
            bail!(
                "prices and difficulty have no day in common: one begins on {}, the other ends on {}",
                day(first),
                day(last)
            );
        }
        Ok(Some((first, last)))
    }

    /// The first day: the one asked for, or so that the last day is the last one that all series have.
    pub fn begin(&self, days: usize) -> anyhow::Result<Time> {
        let length = DAY.times(i64::try_from(days)? - 1);
        let asked = self.given.from.as_deref().map(date).transpose()?;
        let Some((first, last)) = self.covered()? else { return Ok(asked.unwrap_or(BEGIN)) };
        let begins = asked.unwrap_or(last - length);
        if begins < first || begins + length > last {
            bail!(
                "{days} days from {} lie outside the series, which have {} to {} in common; choose --from and --days within",
                day(begins),
                day(first),
                day(last)
            );
        }
        Ok(begins)
    }

    fn markets(&self, start: Time, offset: usize, days: usize) -> Vec<Market> {
        let walk = synthetic::prices(PRICE, self.given.seed, offset + days);
        let of = |(index, walked): (usize, &MicroDollars)| {
            let at = start + DAY.times(index as i64);
            self.market(at, self.prices.as_ref().map_or(*walked, |series| series.at(at)))
        };
        walk.iter().skip(offset).enumerate().map(of).collect()
    }

    /// What a forecaster of demand has seen: four weeks of the same law, drawn by a seed of their own.
    fn orders_before(&self, wanted: Wanted) -> anyhow::Result<Vec<Order>> {
        let (seed, days) = (wanted.seed.wrapping_add(SEED_BEFORE), usize::try_from(BEFORE)?);
        let start = wanted.start - DAY.times(BEFORE);
        Ok(demand::orders(&self.trace, &Wanted { seed, start, days, ..wanted })?.orders)
    }

    /// What a forecaster of prices has seen: of series alone, a walk has no past.
    fn markets_before(&self, start: Time) -> Vec<Market> {
        let Some(prices) = &self.prices else { return Vec::new() };
        let days = (1..=BEFORE).rev().map(|back| start - DAY.times(back));
        days.filter(|at| prices.covers(*at)).map(|at| self.market(at, prices.at(at))).collect()
    }

    fn market(&self, at: Time, price: MicroDollars) -> Market {
        Market {
            price,
            difficulty: self.difficulty.as_ref().map_or(DIFFICULTY, |series| series.at(at)),
            subsidy: subsidy_at(at),
            fees_ppm: (self.given.fees * 1e4).round() as u32,
            pool_fee_ppm: (self.given.pool_fee * 1e4).round() as u32,
        }
    }
}

fn name(path: Option<&std::path::Path>, without: &str) -> String {
    let file = path.and_then(|path| path.file_name());
    file.map_or_else(|| without.to_owned(), |file| file.to_string_lossy().into_owned())
}

fn trace(given: &Given, told: &mut Told) -> anyhow::Result<Vec<Job>> {
    let Some(path) = given.jobs.as_deref() else {
        told.jobs = "synthetic".into();
        return Ok(synthetic::jobs(given.seed));
    };
    let read = jobs::jobs(path, given.seed)?;
    (told.jobs_dropped, told.jobs_rounded_up) = (read.dropped, read.rounded);
    told.jobs = name(Some(path), "");
    let job = |job: &jobs::Job| Job {
        at: job.created,
        gpus: job.gpus,
        length: Span::new(job.amount.get() / i64::from(job.gpus.max(1))),
        tier: job.tier,
    };
    Ok(read.jobs.iter().map(job).collect())
}

/// The mean flow of each site in some steps, counted from `start`.
fn gas(fleet: &Fleet, given: &Given, start: Time, steps: Range<i64>) -> BTreeMap<SiteId, Vec<GasFlow>> {
    let flows = |site: &Site| {
        let mut wells: Vec<(GasFlow, Supply)> = site
            .gas
            .iter()
            .map(|(id, source)| {
                let supply = Supply::new(id, site.id.as_str(), given.seed, given.gas_variability);
                (source.nominal, supply)
            })
            .collect();
        let flow = |step: i64| {
            let minute = |sample: i64| start + STEP.times(step) + Span::minutes(sample);
            let mut mean = |(nominal, supply): &mut (GasFlow, Supply)| {
                let shares: f64 = (0..SAMPLES).map(|sample| supply.share_at(minute(sample))).sum();
                GasFlow::from_f64(nominal.as_f64() * shares / SAMPLES as f64)
            };
            wells.iter_mut().map(&mut mean).sum()
        };
        steps.clone().map(flow).collect()
    };
    fleet.sites.iter().map(|site| (site.id.clone(), flows(site))).collect()
}

/// Jobs ask for GPUs, so what is sold by the kilowatt stays out of the replay.
fn without_shells(fleet: &mut Fleet) {
    let is_gpu = |kind: &str| SoldBy::of(kind) == SoldBy::Gpu;
    fleet.modules.iter_mut().for_each(|module| module.pools.retain(|_, pool| is_gpu(&pool.gpu)));
    fleet.offerings.retain(|offering| is_gpu(&offering.gpu));
}

/// What a GPU-hour pays: the fleet's offerings, or what was asked for.
fn tiers(fleet: &Fleet, given: &Given) -> BTreeMap<Tier, MicroDollars> {
    let mut tiers: BTreeMap<Tier, MicroDollars> =
        fleet.offerings.iter().rev().map(|offering| (offering.tier, offering.price)).collect();
    let asked = [
        (Tier::Firm, given.firm_price),
        (Tier::OnDemand, given.on_demand_price),
        (Tier::Spot, given.spot_price),
    ];
    for (tier, price) in asked {
        if let (Some(dollars), Some(price)) = (price, tiers.get_mut(&tier)) {
            *price = MicroDollars::from_f64(dollars * 1e6);
        }
    }
    tiers
}

fn terms(given: &Given) -> Terms {
    Terms {
        methane: Methane { flare: given.flare_destruction, gwp: given.gwp, ..Methane::default() },
        ..Terms::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};
    use crate::backtest::BacktestArgs;

    fn args(line: &str) -> BacktestArgs {
        let line = format!("flareshift backtest {line}");
        match Args::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Backtest(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    /// A file that goes when its test is done with it.
    struct Fixture(std::path::PathBuf);

    impl std::fmt::Display for Fixture {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.display().fmt(f)
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn file(name: &str, text: &str) -> Fixture {
        let path = std::env::temp_dir().join(format!("backtest-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Fixture(path)
    }

    fn built(args: &BacktestArgs) -> anyhow::Result<Inputs> {
        read(&args.given, args.days.into())
    }

    fn check_refused(line: &str, part: &str) {
        let error = built(&args(line)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{line}: {error}");
    }

    #[test]
    fn without_files_the_world_is_synthetic_and_whole() {
        let Inputs { world, told } = built(&args("--days 2 --seed 3 --load 1.2")).unwrap();
        assert_eq!((world.days, world.markets.len()), (2, 2));
        assert!(world.gas.values().all(|flows| flows.len() == 2 * STEPS_A_DAY));
        assert!(!world.orders.is_empty() && told.gangs_drawn && told.jobs == "synthetic");
        let again = built(&args("--days 2 --seed 3 --load 1.2")).unwrap();
        assert_eq!(world.orders, again.world.orders);
        assert_eq!(world.gas, again.world.gas);
        assert_eq!(world.outages, again.world.outages);
    }

    #[test]
    fn steady_wells_send_their_nominal_flow() {
        let world = built(&args("--days 1 --gas-variability 0")).unwrap().world;
        assert!(world.gas.values().flatten().all(|flow| *flow == GasFlow::mcf(240)));
    }

    #[test]
    fn prices_and_fees_are_those_of_the_flags() {
        let line = "--days 1 --firm-price 3.5 --spot-price 0.9 --fees 2 --pool-fee 0";
        let world = built(&args(line)).unwrap().world;
        let price = |tier| world.prices[&tier].get();
        assert_eq!(
            (price(Tier::Firm), price(Tier::OnDemand), price(Tier::Spot)),
            (3_500_000, 2_950_000, 900_000)
        );
        assert_eq!((world.markets[0].fees_ppm, world.markets[0].pool_fee_ppm), (20_000, 0));
    }

    #[test]
    fn series_set_the_begin_and_must_cover_the_days() {
        let prices = file("p.csv", "date,price_usd\n2024-05-01,100\n2024-05-02,200\n2024-05-03,300\n");
        let difficulty = file("d.csv", "date,difficulty\n2024-05-02,1e14\n2024-05-04,2e14\n");
        let later = file("l.csv", "date,difficulty\n2024-06-02,1e14\n");
        let both = format!("--prices {prices} --difficulty {difficulty}");
        let world = built(&args(&format!("{both} --days 2"))).unwrap().world;
        assert_eq!(day(world.start), "2024-05-02");
        let found: Vec<i64> = world.markets.iter().map(|market| market.price.get() / 1_000_000).collect();
        assert_eq!(found, vec![200, 300]);
        check_refused(&format!("{both} --days 3"), "outside the series, which have 2024-05-02 to 2024-05-03");
        check_refused(&format!("{both} --days 1 --from 2024-05-01"), "choose --from and --days within");
        check_refused(&format!("--prices {prices} --difficulty {later} --days 1"), "no day in common");
    }

    #[test]
    fn broken_files_are_refused_with_their_place() {
        let prices = file("broken.csv", "date,price_usd\n2024-05-01,100\n2024-05-02,cheap\n");
        let error = format!("--prices {prices} --days 1");
        check_refused(&error, "line 3, column 2 (price_usd): expected a price in dollars above zero");
        let jobs = file("jobs.csv", "name,num_gpu,gpu_milli,qos,creation_time,deletion_time\na,0,0,LS,0,9\n");
        check_refused(&format!("--jobs {jobs} --days 1"), "the jobs ask for no GPU time");
        check_refused("--days 1 --from yesterday", "yesterday is no date; write YYYY-MM-DD");
    }
}
