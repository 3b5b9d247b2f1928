//! What `backtest` prints: strategies side by side, as tables for people and exact integers for programs.
//!
//! Read next: docs/backtest.md, which says what each figure means.

use std::fmt::Write as _;

use ::backtest::forecast::score::{Score, Subject};
use ::backtest::{Comparison, Method, Scored, Tally, World};
use model::Span;
use model::market::Market;
use model::workload::Tier;
use serde::Serialize;

use super::View;
use super::replay::{self, ReplayRow};
use super::show::{count, gas_held, gpu_time, maybe, money};
use super::table::{pairs, titled};
use crate::backtest::Told;
use crate::dev::scenario::day;

/// A back-test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backtest {
    /// The first day.
    pub from: String,
    /// Days replayed.
    pub days: usize,
    /// Sites, modules and GPUs of the fleet.
    pub sites: usize,
    /// Its modules.
    pub modules: usize,
    /// Its GPUs.
    pub gpus: u32,
    /// How the world was made.
    pub inputs: Told,
    /// Micro-dollars for a GPU-hour: firm, on demand, spot; `null` for what is not sold.
    pub price_micro_dollars_per_gpu_hour: [Option<i64>; 3],
    /// Micro-dollars for 10^21 hashes on the first and on the last day.
    pub hashprice_micro_dollars_per_zettahash: [i64; 2],
    /// What CO2e rests on.
    pub co2e_basis: String,
    /// The strategy with the most net money.
    pub best: Option<String>,
    /// Each strategy.
    pub strategies: Vec<Row>,
    /// How good each baseline would have been, whichever was used.
    pub forecasts: Vec<Score>,
    /// Events of each strategy in steps of 10 ms, where any were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<ReplayRow>,
}

/// One strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub strategy: String,
    /// What is left of revenue.
    pub net_micro_dollars: i64,
    /// What it left on the table against the best.
    pub regret_micro_dollars: i64,
    /// Revenue by source.
    pub mining_micro_dollars: i64,
    /// Firm work.
    pub firm_micro_dollars: i64,
    /// On-demand work.
    pub on_demand_micro_dollars: i64,
    /// Spot work.
    pub spot_micro_dollars: i64,
    /// Credits for missed firm time.
    pub credits_micro_dollars: i64,
    /// Gas, sets, wear.
    pub costs_micro_dollars: i64,
    /// Share of revenue outside mining.
    pub outside_mining_permille: Option<i64>,
    /// Orders that came, were completed, were withdrawn.
    pub orders_offered: u64,
    /// Done.
    pub orders_completed: u64,
    /// Waited too long, or not for sale.
    pub orders_withdrawn: u64,
    /// Runs stopped for work that is worth more.
    pub preempted: u64,
    /// Runs the planner stopped as power fell short.
    pub power_stopped: u64,
    /// Runs that lost power without notice.
    pub cut_off: u64,
    /// GPU time that made progress.
    pub productive_gpu_milliseconds: i64,
    /// GPU time that was lost.
    pub wasted_gpu_milliseconds: i64,
    /// Time firm work should have been up and was not.
    pub firm_missed_milliseconds: i64,
    /// Share of firm time that was up.
    pub firm_up_ppm: Option<i64>,
    /// Energy at the sets' terminals, all and by use.
    pub energy_watt_seconds: i64,
    /// Of that, miners.
    pub mining_watt_seconds: i64,
    /// Of that, busy GPUs.
    pub ai_watt_seconds: i64,
    /// Of that, load banks.
    pub dumped_watt_seconds: i64,
    /// Hashes mined, as decimal text.
    pub work_hashes: String,
    /// Gas that came.
    pub gas_supplied_scf: i64,
    /// Gas in sets.
    pub gas_burnt_scf: i64,
    /// Gas flared.
    pub gas_flared_scf: i64,
    /// Share flared.
    pub flared_permille: Option<i64>,
    /// CO2e that burning in sets avoided against flaring all of it.
    pub co2e_avoided_kg: i64,
    /// Starts of sets.
    pub set_starts: u64,
    /// Sets that broke down under load.
    pub trips: u64,
    /// Trips that took an island down.
    pub blackouts: u64,
    /// Five-minute steps in which an island was dark.
    pub dark_steps: u64,
    /// Miner groups lowered within their dwell after they were raised.
    pub reversals: u64,
    /// Plans made, checked, refused.
    pub plans_made: u64,
    /// Of those, checked.
    pub plans_checked: u64,
    /// Of those, refused.
    pub plans_refused: u64,
    /// The first refusal.
    pub refusal: Option<String>,
}

impl Backtest {
    /// The view of a comparison on its world.
    pub fn new(world: &World, told: &Told, compared: &Comparison, scores: &[Score]) -> Self {
        let price = |tier| world.prices.get(&tier).map(|price| price.get());
        let hashprice =
            |market: Option<&Market>| market.map_or(0, |market| market.hashprice().per_zettahash.get());
        let methane = &world.terms.methane;
        Self {
            from: day(world.start),
            days: world.days,
            sites: world.fleet.sites.len(),
            modules: world.fleet.modules.len(),
            gpus: ::backtest::world::gpus(&world.fleet).0,
            inputs: told.clone(),
            price_micro_dollars_per_gpu_hour: [Tier::Firm, Tier::OnDemand, Tier::Spot].map(price),
            hashprice_micro_dollars_per_zettahash: [
                hashprice(world.markets.first()),
                hashprice(world.markets.last()),
            ],
            co2e_basis: format!(
                "{} CH4, {} destroyed in sets against {} in the flare, GWP {}",
                methane.fraction, methane.sets, methane.flare, methane.gwp
            ),
            best: compared.best.map(|kind| kind.to_string()),
            strategies: compared.strategies.iter().map(|scored| Row::new(world, scored)).collect(),
            forecasts: scores.to_vec(),
            replays: Vec::new(),
        }
    }

    /// The same with replayed events.
    pub fn replayed(self, replays: Vec<ReplayRow>) -> Self {
        Self { replays, ..self }
    }
}

impl Row {
    fn new(world: &World, scored: &Scored) -> Self {
        let Tally { money, energy, gas, service, plant, plans, work } = &scored.outcome.total;
        Self {
            strategy: scored.outcome.strategy.to_string(),
            net_micro_dollars: money.net().get(),
            regret_micro_dollars: scored.regret.get(),
            mining_micro_dollars: money.mining.get(),
            firm_micro_dollars: money.firm.get(),
            on_demand_micro_dollars: money.on_demand.get(),
            spot_micro_dollars: money.spot.get(),
            credits_micro_dollars: money.credits.get(),
            costs_micro_dollars: money.costs().get(),
            outside_mining_permille: scored.outside_mining_permille,
            orders_offered: service.offered,
            orders_completed: service.completed,
            orders_withdrawn: service.withdrawn,
            preempted: service.preempted,
            power_stopped: service.power_stopped,
            cut_off: service.cut_off,
            productive_gpu_milliseconds: service.productive.get(),
            wasted_gpu_milliseconds: service.wasted.get(),
            firm_missed_milliseconds: service.firm_missed.get(),
            firm_up_ppm: scored.firm_up_ppm,
            energy_watt_seconds: energy.generated().get(),
            mining_watt_seconds: energy.mining.get(),
            ai_watt_seconds: energy.ai.get(),
            dumped_watt_seconds: energy.dumped.get(),
            work_hashes: work.0.to_string(),
            gas_supplied_scf: gas.supplied.get(),
            gas_burnt_scf: gas.burnt.get(),
            gas_flared_scf: gas.flared.get(),
            flared_permille: scored.flared_permille,
            co2e_avoided_kg: world.terms.methane.avoided_kg(gas.burnt).round() as i64,
            set_starts: plant.set_starts,
            trips: plant.trips,
            blackouts: plant.blackouts,
            dark_steps: plant.dark_steps,
            reversals: plant.reversals,
            plans_made: plans.made,
            plans_checked: plans.checked,
            plans_refused: plans.refused,
            refusal: scored.outcome.refusal.clone(),
        }
    }

    fn money(&self) -> Vec<String> {
        vec![
            self.strategy.clone(),
            dollars(self.net_micro_dollars),
            dollars(self.regret_micro_dollars),
            dollars(self.mining_micro_dollars),
            dollars(self.firm_micro_dollars),
            dollars(self.on_demand_micro_dollars),
            dollars(self.spot_micro_dollars),
            dollars(self.credits_micro_dollars),
            dollars(self.costs_micro_dollars),
            maybe(self.outside_mining_permille, permille),
        ]
    }

    fn service(&self) -> Vec<String> {
        vec![
            self.strategy.clone(),
            self.orders_offered.to_string(),
            self.orders_completed.to_string(),
            self.orders_withdrawn.to_string(),
            self.preempted.to_string(),
            self.power_stopped.to_string(),
            self.cut_off.to_string(),
            gpu_time(self.productive_gpu_milliseconds),
            gpu_time(self.wasted_gpu_milliseconds),
            format!("{} min", self.firm_missed_milliseconds / 60_000),
            maybe(self.firm_up_ppm, |ppm| format!("{}.{:03} %", ppm / 10_000, ppm % 10_000 / 10)),
        ]
    }

    fn plant(&self) -> Vec<String> {
        vec![
            self.strategy.clone(),
            megawatt_hours(self.energy_watt_seconds),
            megawatt_hours(self.mining_watt_seconds),
            megawatt_hours(self.ai_watt_seconds),
            gas_held(self.gas_burnt_scf),
            maybe(self.flared_permille, permille),
            format!("{} t", self.co2e_avoided_kg / 1_000),
            self.set_starts.to_string(),
            format!("{}/{}", self.blackouts, self.trips),
            self.dark_steps.to_string(),
            self.reversals.to_string(),
        ]
    }
}

impl Backtest {
    /// What was replayed.
    fn head(&self) -> String {
        let Told { prices, difficulty, jobs, seed, load, forecast, .. } = &self.inputs;
        let of = |index: usize| maybe(self.price_micro_dollars_per_gpu_hour[index], money);
        pairs(&[
            ("Replayed", format!("{} from {}", count(self.days, "day"), self.from)),
            (
                "Fleet",
                format!(
                    "{}, {}, {} GPUs",
                    count(self.sites, "site"),
                    count(self.modules, "module"),
                    self.gpus
                ),
            ),
            ("Price", prices.clone()),
            ("Difficulty", difficulty.clone()),
            ("Jobs", format!("{jobs}, load {load}, seed {seed}")),
            ("Forecast", forecast.clone()),
            ("GPU-hour", format!("firm {}, on demand {}, spot {}", of(0), of(1), of(2))),
            ("CO2e", self.co2e_basis.clone()),
        ])
    }
}

impl Backtest {
    /// Losses of the baselines: a line a subject and horizon, p10, p50 and p90 of each method.
    fn forecasts(&self) -> String {
        const LOSSES: [&str; 5] = ["PINBALL LOSS", ">AHEAD", ">PERSISTENCE", ">SEASONAL", ">QUANTILE"];
        let mut lines: Vec<(Subject, Span)> =
            self.forecasts.iter().map(|score| (score.subject, score.horizon)).collect();
        lines.dedup();
        let row = |(subject, horizon): (Subject, Span)| {
            let name = match subject {
                Subject::Gas => "gas",
                Subject::Demand => "demand an hour",
                Subject::Price => "price",
            };
            let of = |method: Method| {
                let found = self
                    .forecasts
                    .iter()
                    .find(|score| (score.subject, score.horizon, score.method) == (subject, horizon, method));
                maybe(found, |score| {
                    let percent = score.losses.map(|loss| format!("{:.2}", 100.0 * loss));
                    format!("{} %", percent.join(" / "))
                })
            };
            let ahead = crate::duration::show(horizon);
            [vec![name.to_owned(), ahead], Method::BASELINES.map(of).to_vec()].concat()
        };
        titled(
            "Forecasts, p10 / p50 / p90 in percent of the mean",
            &LOSSES,
            lines.into_iter().map(row).collect(),
        )
    }
}

impl View for Backtest {
    fn table(&self) -> String {
        const MONEY: [&str; 10] = [
            "STRATEGY",
            ">NET",
            ">REGRET",
            ">MINING",
            ">FIRM",
            ">ON DEMAND",
            ">SPOT",
            ">CREDITS",
            ">COSTS",
            ">NOT MINED",
        ];
        const SERVICE: [&str; 11] = [
            "STRATEGY",
            ">ORDERS",
            ">DONE",
            ">WITHDRAWN",
            ">PREEMPTED",
            ">STOPPED",
            ">CUT OFF",
            ">GPU TIME",
            ">WASTED",
            ">FIRM MISSED",
            ">FIRM UP",
        ];
        const PLANT: [&str; 11] = [
            "STRATEGY",
            ">ENERGY",
            ">MINING",
            ">AI",
            ">GAS BURNT",
            ">FLARED",
            ">CO2e AVOIDED",
            ">SET STARTS",
            ">BLACKOUTS/TRIPS",
            ">DARK STEPS",
            ">REVERSALS",
        ];
        let rows = |row: fn(&Row) -> Vec<String>| self.strategies.iter().map(row).collect();
        let mut text = self.head();
        text += &titled("Money", &MONEY, rows(Row::money));
        text += &titled("Tenants", &SERVICE, rows(Row::service));
        text += &titled("Plant", &PLANT, rows(Row::plant));
        text += &replay::section(&self.replays);
        text += &self.forecasts();
        let sum = |of: fn(&Row) -> u64| self.strategies.iter().map(of).sum::<u64>();
        let (made, checked, refused) =
            (sum(|row| row.plans_made), sum(|row| row.plans_checked), sum(|row| row.plans_refused));
        let _ = writeln!(text, "\n{made} plans, {checked} of them checked, {refused} refused.");
        for row in &self.strategies {
            if let Some(refusal) = &row.refusal {
                let _ = writeln!(text, "{}: first refusal: {}", row.strategy, super::table::clean(refusal));
            }
        }
        text
    }
}

/// Whole dollars.
fn dollars(micro_dollars: i64) -> String {
    format!("${}", micro_dollars / 1_000_000)
}

fn permille(permille: i64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn megawatt_hours(watt_seconds: i64) -> String {
    format!("{} MWh", watt_seconds / 3_600_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ::backtest::{Before, Kind, Outcome, Terms};
    use model::site::GasVolume;
    use model::workload::GpuTime;
    use model::{MicroDollars, Time, WattSeconds};
    use std::collections::BTreeMap;

    use super::*;

    fn sample() -> Backtest {
        let world = World {
            start: Time(1_770_854_400_000),
            days: 1,
            fleet: sim::reference::fleet(),
            gas: BTreeMap::new(),
            outages: Vec::new(),
            markets: Vec::new(),
            orders: Vec::new(),
            prices: [(Tier::Firm, MicroDollars::cents(235))].into(),
            terms: Terms::default(),
            before: Before::default(),
        };
        let outcome = |strategy, mining, firm| {
            let mut total = Tally::default();
            total.money.mining = MicroDollars::dollars(mining);
            total.money.firm = MicroDollars::dollars(firm);
            total.energy.mining = WattSeconds::kilowatt_hours(19_000);
            total.gas.supplied = GasVolume::new(200_000);
            total.gas.burnt = GasVolume::new(190_000);
            total.gas.flared = GasVolume::new(10_000);
            total.service.productive = GpuTime::of(8, Span::hours(3));
            total.service.firm_up = Span::minutes(1_998);
            total.service.firm_missed = Span::minutes(2);
            total.plans.made = 288;
            Outcome { strategy, start: world.start, total, days: Vec::new(), refusal: None }
        };
        let compared =
            Comparison::of(vec![outcome(Kind::MiningOnly, 1_400, 0), outcome(Kind::Flareshift, 1_100, 900)]);
        let score = |method, loss| Score {
            subject: Subject::Gas,
            method,
            horizon: Span::minutes(30),
            forecasts: 24,
            losses: [loss, 2.0 * loss, loss],
        };
        let scores = [score(Method::Persistence, 0.01), score(Method::Quantile, 0.005)];
        Backtest::new(&world, &Told::default(), &compared, &scores)
    }

    #[test]
    fn strategies_stand_side_by_side() {
        let table = sample().table();
        let line = |name: &str, nth: usize| {
            let found = table.lines().filter(|line| line.starts_with(name)).nth(nth).unwrap();
            found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("mining-only", 0)[1..4], ["$1400", "$600", "$1400"]);
        assert_eq!(line("flareshift", 0)[1..5], ["$2000", "$0", "$1100", "$900"]);
        assert_eq!(line("flareshift", 0).last().map(String::as_str), Some("%"), "{table}");
        assert!(table.contains("99.900 %") && table.contains("2 min") && table.contains("5.0 %"), "{table}");
        // 190 MCF at 34.2 kg are 6 t.
        assert!(table.contains("6 t") && table.contains("19 MWh"), "{table}");
        assert_eq!(
            line("gas", 0),
            ["gas", "30m", "1.00", "/", "2.00", "/", "1.00", "%", "-", "0.50", "/", "1.00", "/", "0.50", "%"]
        );
        assert!(table.contains("576 plans, 0 of them checked, 0 refused."), "{table}");
        assert!(table.lines().all(|line| line.trim_end() == line), "spaces end a line");
    }

    #[test]
    fn json_has_exact_integers_with_units_and_null_for_what_is_unknown() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["best"], "flareshift");
        assert_eq!(json["strategies"][1]["net_micro_dollars"], 2_000_000_000i64);
        assert_eq!(json["strategies"][1]["outside_mining_permille"], 450);
        assert_eq!(json["strategies"][0]["productive_gpu_milliseconds"], 8 * 3 * 3_600_000);
        assert_eq!(json["price_micro_dollars_per_gpu_hour"], serde_json::json!([2_350_000, null, null]));
    }
}
