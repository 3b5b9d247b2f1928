//! Money over years: each month is replayed by a sample of its days, and what the samples earned becomes flows of money, from which
//! present value, payback and the rest follow.
//!
//! A sample begins with nothing running; its first days warm it up and count nothing ([`Month::of`]). Where long jobs fill the GPUs a
//! few days are not enough, and a month's worth is low; it is so for every strategy. Capital is paid when a module
//! is built, and what is not yet written off at the end counts as money then. Read next: [`crate::economics`] for the inputs.

use model::fleet::Fleet;
use model::module::Module;
use model::site::Site;
use model::workload::{GpuTime, Tier};
use model::{MicroDollars, Watts};
use serde::Serialize;

use crate::chance::{Chance, Purpose};
use crate::economics::{Capital, Contract, Economics, MONTHS};
use crate::outcome::Outcome;
use crate::queue::RESTART;
use crate::tally::Tally;
use crate::world::{Order, World};

/// Days of a month: 365.25 ÷ 12.
pub const DAYS_A_MONTH: f64 = 30.4375;

/// One month of one strategy: what its sample earned, and what that stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Month {
    /// The sample's books.
    pub tally: Tally,
    /// Days of it that count.
    pub days: usize,
    /// GPUs that stand there.
    pub gpus: u32,
}

/// What years come to, for one strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Years {
    /// All capital, as it is paid.
    pub capital_dollars: f64,
    /// Net money of all months, before capital, fixed costs taken off.
    pub earned_dollars: f64,
    /// Present value of everything, what is left of the capital included.
    pub npv_dollars: f64,
    /// The month at whose end the money that went is back, not discounted, nothing sold.
    pub payback_month: Option<u32>,
    /// Share of the GPUs' time that is sold and done.
    pub utilisation: Option<f64>,
    /// The share at which the present value would be zero, all else being equal.
    pub breakeven_utilisation: Option<f64>,
    /// Share of revenue outside mining, month by month; `None` without revenue.
    pub outside_mining: Vec<Option<f64>>,
    /// The same if the hash price had stayed as in the first month; plans stay as they were.
    pub outside_mining_at_first_hashprice: Vec<Option<f64>>,
    /// The first month from which on the target is kept.
    pub target_month: Option<u32>,
    /// The same at the first month's hash price.
    pub target_month_at_first_hashprice: Option<u32>,
}

/// What a contract would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Marginal {
    /// Present value with it less that without.
    pub npv_dollars: f64,
    /// Power that its GPUs take when all of them are busy, at the sets' terminals.
    pub firm_watts: i64,
    /// GPU time that was done in its months beyond that without it, in GPU-hours.
    pub gpu_hours: f64,
    /// What it was paid for: its own GPU-hours that were done.
    pub served_gpu_hours: f64,
    /// Share of its time that was served.
    pub served: Option<f64>,
    /// Credits with it less credits without, all months.
    pub credit_dollars: f64,
    /// The price of a GPU-hour at which it adds nothing; `None` where nothing of it was served.
    pub lowest_dollars_per_gpu_hour: Option<f64>,
}

/// The world of a month's sample: what is built by then, at the month's prices and demand, with the contract's orders.
pub fn month(
    world: &World,
    economics: &Economics,
    (month, bust): (u32, bool),
    contract: Option<&Contract>,
) -> World {
    let mut world = world.clone();
    world.fleet = built(&world.fleet, economics, month);
    let (price, demand) = economics.market(month, bust);
    world.prices.values_mut().for_each(|paid| *paid = MicroDollars::from_f64(paid.as_f64() * price));
    let mut nth = 0;
    world.orders.retain(|_| {
        nth += 1;
        // The same orders go first, whatever the month.
        Chance::new(u64::from(month), Purpose::Thin, [nth, 0]).unit() < demand
    });
    if let Some(contract) = contract.filter(|contract| contract.covers(month)) {
        let orders = std::iter::repeat_n(order(&world, contract), contract.gangs() as usize);
        world.orders.splice(0..0, orders.collect::<Vec<_>>());
    }
    world
}

/// One gang of a contract for the whole of a sample, less the restart that comes before any work.
fn order(world: &World, contract: &Contract) -> Order {
    let length = world.span() - RESTART;
    Order {
        at: world.start,
        tier: Tier::Firm,
        gpus: contract.gang,
        amount: GpuTime::of(contract.gang, length),
        price: Some(contract.price()),
    }
}

/// The modules that stand there by a month, and their sites. Where the wired one is still to come the first one is wired.
fn built(fleet: &Fleet, economics: &Economics, month: u32) -> Fleet {
    let mut fleet = fleet.clone();
    fleet.modules.retain(|module| economics.built(&module.id) <= month);
    fleet.sites.retain(|site| fleet.modules.iter().any(|module| module.site == site.id));
    for site in &fleet.sites {
        let here = || fleet.modules.iter().filter(|module| module.site == site.id);
        if here().any(|module| module.wired) {
            continue;
        }
        let first = here().map(|module| module.id.clone()).next();
        if let Some(module) = fleet.modules.iter_mut().find(|module| Some(&module.id) == first.as_ref()) {
            module.wired = true;
        }
    }
    fleet
}

/// Judges the months of one strategy that uses `fleet`.
pub fn judge(economics: &Economics, fleet: &Fleet, months: &[Month]) -> Years {
    let capital = outlays(economics, fleet, months.len());
    let net: Vec<f64> = months
        .iter()
        .zip(0..)
        .map(|(month, nth)| scaled(month, month.tally.money.net()) - fixed(economics, fleet, nth))
        .collect();
    let discount =
        |month: usize| (1.0 + economics.discount_percent / 100.0).powf(-(month as f64) / f64::from(MONTHS));
    let residual = residual(economics, fleet, months.len());
    let paid: f64 = capital.iter().enumerate().map(|(nth, paid)| paid * discount(nth)).sum();
    // A month's money is there at its end.
    let came: f64 = net.iter().enumerate().map(|(nth, net)| net * discount(nth + 1)).sum();
    let npv = came + residual * discount(months.len()) - paid;
    let margin: f64 = months
        .iter()
        .enumerate()
        .map(|(nth, month)| scaled_dollars(month, ai_margin(&month.tally)) * discount(nth + 1))
        .sum();
    let utilisation = utilisation(months);
    let outside = |hashprice: Option<f64>| -> Vec<Option<f64>> {
        months.iter().map(|month| outside(&month.tally, hashprice)).collect()
    };
    let first = months.first().and_then(|month| per_hash(&month.tally));
    let (outside_mining, at_first) = (outside(None), outside(first));
    Years {
        capital_dollars: capital.iter().sum(),
        earned_dollars: net.iter().sum(),
        npv_dollars: npv,
        payback_month: payback(&capital, &net),
        utilisation,
        breakeven_utilisation: utilisation
            .filter(|_| margin > 0.0)
            .map(|used| used * (1.0 - npv / margin).max(0.0)),
        target_month: kept(&outside_mining, economics.target_percent),
        target_month_at_first_hashprice: kept(&at_first, economics.target_percent),
        outside_mining,
        outside_mining_at_first_hashprice: at_first,
    }
}

/// What a contract adds to the whole planner's months.
pub fn marginal(
    economics: &Economics,
    fleet: &Fleet,
    contract: &Contract,
    (with, without): (&[Month], &[Month]),
) -> Marginal {
    let npv = |months: &[Month]| judge(economics, fleet, months).npv_dollars;
    let discount = |month: usize| {
        (1.0 + economics.discount_percent / 100.0).powf(-(month as f64 + 1.0) / f64::from(MONTHS))
    };
    let hours = |month: &Month, time: GpuTime| scale(month) * time.as_f64() / 3.6e6;
    let (mut gpu_hours, mut served, mut paid, mut wanted) = (0.0, 0.0, 0.0, 0.0);
    let mut credit_dollars = 0.0;
    for (nth, (with, without)) in with.iter().zip(without).enumerate() {
        gpu_hours +=
            hours(with, with.tally.service.productive) - hours(without, without.tally.service.productive);
        served += hours(with, with.tally.service.contracted);
        paid += hours(with, with.tally.service.contracted) * discount(nth);
        credit_dollars +=
            scaled(with, with.tally.money.credits) - scaled(without, without.tally.money.credits);
        if contract.covers(nth as u32) {
            wanted += f64::from(contract.gangs() * contract.gang) * DAYS_A_MONTH * 24.0;
        }
    }
    let npv_dollars = npv(with) - npv(without);
    Marginal {
        npv_dollars,
        firm_watts: firm_watts(fleet, contract).get(),
        gpu_hours,
        served_gpu_hours: served,
        served: (wanted > 0.0).then(|| served / wanted),
        credit_dollars,
        lowest_dollars_per_gpu_hour: (paid > 0.0)
            .then(|| (contract.dollars_per_gpu_hour - npv_dollars / paid).max(0.0)),
    }
}

/// Watts of a contract's GPUs on the fleet's hungriest pool, with the module's loss.
fn firm_watts(fleet: &Fleet, contract: &Contract) -> Watts {
    let of = |module: &Module| {
        let each =
            module.pools.values().map(|pool| pool.active.fraction(1, i64::from(pool.gpus.max(1)))).max();
        module.with_loss(each.unwrap_or(Watts::ZERO))
    };
    let each = fleet.modules.iter().map(of).max().unwrap_or(Watts::ZERO);
    each.times((contract.gangs() * contract.gang).into())
}

impl Month {
    /// The books of a sample without its first `warm_up` days.
    pub fn of(outcome: &Outcome, warm_up: usize, gpus: u32) -> Self {
        let counted = outcome.days.iter().skip(warm_up);
        let mut tally = Tally::default();
        counted.clone().for_each(|day| tally += day);
        Self { tally, days: counted.count(), gpus }
    }
}

/// What a sample stands for.
fn scale(month: &Month) -> f64 {
    DAYS_A_MONTH / month.days.max(1) as f64
}

fn scaled(month: &Month, money: MicroDollars) -> f64 {
    scaled_dollars(month, money.as_f64() / 1e6)
}

fn scaled_dollars(month: &Month, dollars: f64) -> f64 {
    dollars * scale(month)
}

/// Dollars for a hash.
fn per_hash(tally: &Tally) -> Option<f64> {
    (tally.work.0 > 0).then(|| tally.money.mining.as_f64() / 1e6 / tally.work.as_f64())
}

/// Share of revenue outside mining, at the day's own hash price or at another.
fn outside(tally: &Tally, per_hash: Option<f64>) -> Option<f64> {
    let ai = tally.money.ai().as_f64() / 1e6;
    let mining =
        per_hash.map_or(tally.money.mining.as_f64() / 1e6, |per_hash| per_hash * tally.work.as_f64());
    (ai + mining > 0.0).then(|| ai / (ai + mining))
}

/// What AI earned beyond what miners would have made of the same energy.
fn ai_margin(tally: &Tally) -> f64 {
    let (money, energy) = (&tally.money, &tally.energy);
    let mined = money.mining.as_f64() / energy.mining.as_f64().max(1.0);
    (money.ai() - money.credits).as_f64() / 1e6 - mined * energy.ai.as_f64() / 1e6
}

/// Done GPU time ÷ GPU time there was.
fn utilisation(months: &[Month]) -> Option<f64> {
    let there: f64 = months.iter().map(|month| f64::from(month.gpus) * month.days as f64 * 86.4e6).sum();
    let done: f64 = months.iter().map(|month| month.tally.service.productive.as_f64()).sum();
    (there > 0.0).then(|| done / there)
}

/// The first month from which on the target is kept to the end.
fn kept(shares: &[Option<f64>], percent: f64) -> Option<u32> {
    let misses = |share: &Option<f64>| share.is_none_or(|share| share * 100.0 < percent);
    let first = shares.iter().rposition(misses).map_or(0, |last| last + 1);
    u32::try_from(first).ok().filter(|first| (*first as usize) < shares.len())
}

fn payback(capital: &[f64], net: &[f64]) -> Option<u32> {
    let mut sum = 0.0;
    let balances = capital.iter().zip(net).map(|(paid, came)| {
        sum += came - paid;
        sum
    });
    // Later outlays may take it below zero again; the last time counts.
    let balances: Vec<f64> = balances.collect();
    let first = balances.iter().rposition(|balance| *balance < 0.0).map_or(0, |last| last + 1);
    u32::try_from(first).ok().filter(|first| (*first as usize) < balances.len())
}

/// Fixed costs of a month: of the sites that stand by then.
fn fixed(economics: &Economics, fleet: &Fleet, month: u32) -> f64 {
    let sites =
        fleet.sites.iter().filter(|site| begins(economics, fleet, site).is_some_and(|from| from <= month));
    let kilowatts: f64 = sites.map(|site| site.rating().as_f64() / 1e3).sum();
    kilowatts * economics.fixed_dollars_per_kilowatt_year / f64::from(MONTHS)
}

/// The month in which a site's first module is there.
fn begins(economics: &Economics, fleet: &Fleet, site: &Site) -> Option<u32> {
    fleet.modules_of(&site.id).map(|module| economics.built(&module.id)).min()
}

/// Each thing that is bought: its month, its price, the years it lasts.
fn purchases(economics: &Economics, fleet: &Fleet) -> Vec<(u32, f64, f64)> {
    let Capital {
        gpu_dollars,
        gpu_years,
        terahash_dollars,
        miner_years,
        kilowatt_dollars,
        module_dollars,
        plant_years,
    } = economics.capital;
    let mut bought = Vec::new();
    for site in &fleet.sites {
        let Some(month) = begins(economics, fleet, site) else { continue };
        bought.push((month, site.rating().as_f64() / 1e3 * kilowatt_dollars, plant_years));
    }
    for module in &fleet.modules {
        let month = economics.built(&module.id);
        let gpus: u32 = module.pools.values().map(|pool| pool.total_gpus()).sum();
        let terahashes =
            |group: &model::module::MinerGroup| group.full().rate.as_f64() / 1e12 * f64::from(group.count);
        let terahashes: f64 = module.groups.values().map(terahashes).sum();
        bought.push((month, f64::from(gpus) * gpu_dollars, gpu_years));
        bought.push((month, terahashes * terahash_dollars, miner_years));
        bought.push((month, module_dollars, plant_years));
    }
    bought
}

/// Capital by month.
fn outlays(economics: &Economics, fleet: &Fleet, months: usize) -> Vec<f64> {
    let mut outlays = vec![0.0; months];
    for (month, dollars, _) in purchases(economics, fleet) {
        if let Some(sum) = outlays.get_mut(month as usize) {
            *sum += dollars;
        }
    }
    outlays
}

/// What is not written off at the end.
fn residual(economics: &Economics, fleet: &Fleet, months: usize) -> f64 {
    let left = |(month, dollars, years): (u32, f64, f64)| {
        let age = (months as f64 - f64::from(month)) / f64::from(MONTHS);
        if age < 0.0 { 0.0 } else { dollars * (1.0 - age / years).max(0.0) }
    };
    purchases(economics, fleet).into_iter().map(left).sum()
}

/// GPUs that stood idle in a bust beyond those of the ordinary future: the overbuild, as a share of all GPUs, month by month.
pub fn stranded(ordinary: &[Month], bust: &[Month]) -> Vec<f64> {
    let used = |month: &Month| utilisation(std::slice::from_ref(month)).unwrap_or(0.0);
    ordinary.iter().zip(bust).map(|(ordinary, bust)| (used(ordinary) - used(bust)).max(0.0)).collect()
}
