//! What a fleet costs and what is assumed of the years ahead: capital, build-out, price and demand of AI, a bust, a contract.
//!
//! Everything here is an input with a default (docs/backtest.md has the table), most of them engineering estimates that nobody
//! published; none is a law. It is read from TOML, and refused where it makes no sense. Read next: [`crate::years`], which applies it month by month.

use std::collections::BTreeMap;

use model::{MicroDollars, ModuleId};
use serde::{Deserialize, Serialize};

/// Longest time that may be asked for: as long as a world, ten years.
pub const MOST_YEARS: u32 = 10;
/// Months of a year.
pub const MONTHS: u32 = 12;

/// What makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number outside of what it may be.
    #[error("{key} is {found}; choose {least} to {most}")]
    Range {
        /// Which.
        key: &'static str,
        /// What was given.
        found: String,
        /// From.
        least: i64,
        /// To.
        most: i64,
    },
    /// A path whose months do not ascend.
    #[error("the months of {0} do not ascend; write [[0, 100], [12, 90]]")]
    Order(&'static str),
    /// A build-out of a module that is not there.
    #[error("build_out names module {0}, which the fleet does not have; remove it or correct its name")]
    Module(ModuleId),
}

/// The inputs of a calculation over years.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Economics {
    /// Years that are looked at.
    pub years: u32,
    /// What money costs a year, in percent.
    pub discount_percent: f64,
    /// Wanted share of revenue outside mining, in percent: half of it in four years is one operator's published goal.
    pub target_percent: f64,
    /// Dollars a year for each kilowatt of the sets' rating: people, land, insurance, network.
    pub fixed_dollars_per_kilowatt_year: f64,
    /// What things cost, and how long they last.
    pub capital: Capital,
    /// The month in which each module is there; 0 where it is not named.
    pub build_out: BTreeMap<ModuleId, u32>,
    /// Price of a GPU-hour in percent of today's: [month, percent], straight between, level after the last.
    pub ai_price: Vec<(u32, f64)>,
    /// Orders in percent of `--load`, 0 to 100.
    pub ai_demand: Vec<(u32, f64)>,
    /// A second future, in which demand and price fall.
    pub bust: Bust,
}

/// Capital.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capital {
    /// A GPU with its share of server, network and rack.
    pub gpu_dollars: f64,
    /// Years over which it is written off, straight.
    pub gpu_years: f64,
    /// A terahash a second of miners.
    pub terahash_dollars: f64,
    /// Years of miners.
    pub miner_years: f64,
    /// A kilowatt of generator sets with gas treatment and switchgear.
    pub kilowatt_dollars: f64,
    /// A module's shell, cooling and feeders.
    pub module_dollars: f64,
    /// Years of sets and shells.
    pub plant_years: f64,
}

/// Demand and price fall over some months and stay there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bust {
    /// The month in which it begins.
    pub from_month: u32,
    /// Months until it is complete.
    pub months: u32,
    /// What is left of demand, in percent.
    pub demand_percent: f64,
    /// What is left of prices, in percent.
    pub price_percent: f64,
}

/// A partner who would buy firm GPUs for some months.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// GPUs, all of the time.
    pub gpus: u32,
    /// GPUs that run together: the contract is filled by gangs of so many.
    pub gang: u32,
    /// Dollars for a GPU-hour.
    pub dollars_per_gpu_hour: f64,
    /// The first month.
    #[serde(default)]
    pub from_month: u32,
    /// How long.
    pub months: u32,
}

impl Default for Economics {
    fn default() -> Self {
        Self {
            years: 4,
            discount_percent: 10.0,
            target_percent: 50.0,
            fixed_dollars_per_kilowatt_year: 60.0,
            capital: Capital::default(),
            build_out: BTreeMap::new(),
            // An assumption, to be varied: a straight fall by two fifths in four years.
            ai_price: vec![(0, 100.0), (48, 60.0)],
            ai_demand: vec![(0, 100.0)],
            bust: Bust::default(),
        }
    }
}

impl Default for Capital {
    fn default() -> Self {
        Self {
            gpu_dollars: 32_000.0,
            gpu_years: 5.0,
            terahash_dollars: 14.0,
            miner_years: 4.0,
            kilowatt_dollars: 900.0,
            module_dollars: 180_000.0,
            plant_years: 12.0,
        }
    }
}

impl Default for Bust {
    fn default() -> Self {
        Self { from_month: 12, months: 9, demand_percent: 40.0, price_percent: 45.0 }
    }
}

impl Economics {
    /// Months that are looked at.
    pub fn months(&self) -> u32 {
        self.years * MONTHS
    }

    /// Refuses what makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        range("years", f64::from(self.years), 1, MOST_YEARS.into())?;
        range("discount_percent", self.discount_percent, 0, 100)?;
        range("target_percent", self.target_percent, 0, 100)?;
        range("fixed_dollars_per_kilowatt_year", self.fixed_dollars_per_kilowatt_year, 0, 10_000)?;
        let Capital {
            gpu_dollars,
            gpu_years,
            terahash_dollars,
            miner_years,
            kilowatt_dollars,
            module_dollars,
            plant_years,
        } = self.capital;
        range("capital.gpu_dollars", gpu_dollars, 0, 1_000_000)?;
        range("capital.terahash_dollars", terahash_dollars, 0, 10_000)?;
        range("capital.kilowatt_dollars", kilowatt_dollars, 0, 100_000)?;
        range("capital.module_dollars", module_dollars, 0, 100_000_000)?;
        for (key, years) in [
            ("capital.gpu_years", gpu_years),
            ("capital.miner_years", miner_years),
            ("capital.plant_years", plant_years),
        ] {
            range(key, years, 1, 50)?;
        }
        path("ai_price", &self.ai_price, 1_000)?;
        path("ai_demand", &self.ai_demand, 100)?;
        range("bust.demand_percent", self.bust.demand_percent, 0, 100)?;
        range("bust.price_percent", self.bust.price_percent, 0, 100)
    }

    /// Price and demand of a month as shares of today's; `bust` says in which future.
    pub fn market(&self, month: u32, bust: bool) -> (f64, f64) {
        let (price, demand) = (along(&self.ai_price, month), along(&self.ai_demand, month));
        let fallen = if bust { self.bust.done(month) } else { 0.0 };
        let left = |percent: f64| 1.0 - fallen * (1.0 - percent / 100.0);
        (price * left(self.bust.price_percent), demand * left(self.bust.demand_percent))
    }

    /// The month in which a module is there.
    pub fn built(&self, module: &ModuleId) -> u32 {
        self.build_out.get(module).copied().unwrap_or(0)
    }
}

impl Bust {
    /// How much of the fall has happened in the middle of a month, 0 to 1.
    fn done(&self, month: u32) -> f64 {
        let since = f64::from(month) + 0.5 - f64::from(self.from_month);
        (since / f64::from(self.months.max(1))).clamp(0.0, 1.0)
    }
}

impl Contract {
    /// Refuses what makes no sense; gangs must fit into the largest pool.
    pub fn check(&self, largest: u32) -> Result<(), Error> {
        range("gang", f64::from(self.gang), 1, largest.into())?;
        range("gpus", f64::from(self.gpus), self.gang.into(), 1_000_000)?;
        range("dollars_per_gpu_hour", self.dollars_per_gpu_hour, 0, 1_000)?;
        range("months", f64::from(self.months), 1, (MOST_YEARS * MONTHS).into())
    }

    /// What a GPU-hour pays.
    pub fn price(&self) -> MicroDollars {
        MicroDollars::from_f64(self.dollars_per_gpu_hour * 1e6)
    }

    /// Whether it runs in a month.
    pub fn covers(&self, month: u32) -> bool {
        (self.from_month..self.from_month.saturating_add(self.months)).contains(&month)
    }

    /// Gangs that fill it; what is left of the last one is not served.
    pub fn gangs(&self) -> u32 {
        self.gpus / self.gang.max(1)
    }
}

/// The share at a month, straight between its neighbours; 1 without a path.
fn along(path: &[(u32, f64)], month: u32) -> f64 {
    let after = path.partition_point(|(from, _)| *from <= month);
    let before = after.checked_sub(1).and_then(|nth| path.get(nth));
    let percent = match (before, path.get(after)) {
        (Some((from, a)), Some((to, b))) => {
            a + (b - a) * f64::from(month - from) / f64::from((to - from).max(1))
        }
        (Some((_, level)), None) | (None, Some((_, level))) => *level,
        (None, None) => 100.0,
    };
    percent / 100.0
}

fn range(key: &'static str, found: f64, least: i64, most: i64) -> Result<(), Error> {
    if found.is_finite() && found >= least as f64 && found <= most as f64 {
        return Ok(());
    }
    Err(Error::Range { key, found: found.to_string(), least, most })
}

fn path(key: &'static str, path: &[(u32, f64)], most: i64) -> Result<(), Error> {
    path.iter().try_for_each(|(_, percent)| range(key, *percent, 0, most))?;
    let ascends = path.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if ascends { Ok(()) } else { Err(Error::Order(key)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &[(u32, f64)], month: u32, expected: f64) {
        let found = along(path, month);
        assert!((found - expected).abs() < 1e-9, "{path:?} at {month}: {found}");
    }

    #[test]
    fn a_path_is_straight_between_its_months_and_level_outside() {
        let falling = [(6, 100.0), (18, 40.0)];
        check(&falling, 0, 1.0);
        check(&falling, 6, 1.0);
        check(&falling, 12, 0.7);
        check(&falling, 18, 0.4);
        check(&falling, 99, 0.4);
        check(&[], 5, 1.0);
    }

    #[test]
    fn a_bust_takes_its_months_and_stays() {
        let economics = Economics { ai_price: Vec::new(), ..Economics::default() };
        let check = |month, bust, expected: (f64, f64)| {
            let (price, demand) = economics.market(month, bust);
            let off = (price - expected.0).abs().max((demand - expected.1).abs());
            assert!(off < 1e-9, "month {month}: {price}, {demand}");
        };
        check(11, true, (1.0, 1.0));
        check(16, true, (0.725, 0.7));
        check(40, true, (0.45, 0.4));
        check(40, false, (1.0, 1.0));
    }

    fn check_refused(change: impl Fn(&mut Economics), part: &str) {
        let mut economics = Economics::default();
        assert_eq!(economics.check(), Ok(()));
        change(&mut economics);
        let error = economics.check().expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        check_refused(|economics| economics.years = 0, "years is 0; choose 1 to 10");
        check_refused(|economics| economics.discount_percent = f64::NAN, "discount_percent is NaN");
        check_refused(|economics| economics.capital.gpu_years = 0.0, "capital.gpu_years is 0");
        check_refused(
            |economics| economics.ai_demand = vec![(0, 120.0)],
            "ai_demand is 120; choose 0 to 100",
        );
        check_refused(|economics| economics.ai_price = vec![(5, 1.0), (5, 2.0)], "ai_price do not ascend");
        check_refused(|economics| economics.bust.price_percent = -1.0, "bust.price_percent is -1");
        let contract = Contract { gpus: 60, gang: 16, dollars_per_gpu_hour: 2.0, from_month: 2, months: 3 };
        assert_eq!((contract.check(64), contract.gangs()), (Ok(()), 3));
        assert!(contract.check(8).is_err() && Contract { gpus: 4, ..contract }.check(64).is_err());
        assert_eq!([1, 2, 4, 5].map(|month| contract.covers(month)), [false, true, true, false]);
    }
}
