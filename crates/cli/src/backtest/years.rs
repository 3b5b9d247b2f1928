//! `flareshift backtest years`: money over years. Each month is a sample of its days, replayed for every strategy, in an ordinary
//! future and for two of them in a bust; a contract is judged by running the whole planner with and without it.
//!
//! What samples come to is `backtest::years`; inputs are `backtest::economics`, read from TOML. Read next: docs/backtest.md.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::backtest::economics::{Contract, Economics, Error as Refused};
use ::backtest::years::{self, DAYS_A_MONTH, Marginal, Month, Years};
use ::backtest::{Kind, Strategy, World, world};
use anyhow::{Context, bail};
use model::fleet::Fleet;
use model::{Span, toml_file};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::YearsArgs;
use super::inputs::Source;
use super::{side_by_side, usage};
use crate::args::Output;
use crate::dev::scenario::day;
use crate::operator::failure::Error;
use crate::output::show::{UNKNOWN, maybe, watts};
use crate::output::table::{pairs, titled};
use crate::output::{self, View};

/// Strategies that are shown in a bust: the one that has nothing but GPUs, and the one that mines with what they leave.
const IN_A_BUST: [Kind; 2] = [Kind::AiOnly, Kind::Flareshift];
const DAY: Span = Span::hours(24);

/// Runs the command to its end.
pub fn run(args: &YearsArgs, output: Output) -> Result<(), Error> {
    let asked = Asked::read(args).map_err(usage)?;
    let worlds = worlds(args, &asked.economics).map_err(usage)?;
    let runs = asked.runs(worlds.len());
    let done = AtomicUsize::new(0);
    let months = side_by_side(&runs, |run| {
        let month = asked.replay(&worlds, run).map_err(usage)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done * 20 / runs.len() != (done - 1) * 20 / runs.len() {
            eprintln!("flareshift: years: {done} of {} months replayed", runs.len());
        }
        Ok(month)
    })?;
    let view = asked.judge(args, &worlds, &runs, &months);
    output::print(&output::text(&view, output)).map(drop).map_err(Error::Print)
}

/// What was asked for, checked.
struct Asked {
    economics: Economics,
    contract: Option<Contract>,
    strategies: Vec<Strategy>,
    fleet: Fleet,
    /// Days of each sample that count nothing.
    warm_up: usize,
}

/// One month to be replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    strategy: Strategy,
    future: Future,
    month: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Future {
    Ordinary,
    Bust,
    Contract,
}

impl Asked {
    fn read(args: &YearsArgs) -> anyhow::Result<Self> {
        let economics: Economics = args.economics.as_deref().map(toml).transpose()?.unwrap_or_default();
        economics.check()?;
        let fleet = Source::read(&args.given)?.fleet().clone();
        if let Some(module) =
            economics.build_out.keys().find(|id| !fleet.modules.iter().any(|module| module.id == **id))
        {
            return Err(Refused::Module(module.clone()).into());
        }
        let contract: Option<Contract> = args.contract.as_deref().map(toml).transpose()?;
        contract.map(|contract| contract.check(world::gpus(&fleet).1)).transpose()?;
        let asked =
            Kind::ALL.into_iter().filter(|kind| args.strategy.is_empty() || args.strategy.contains(kind));
        let asked: Vec<Kind> = asked.collect();
        if contract.is_some() && !asked.contains(&Kind::Flareshift) {
            bail!(
                "a contract is judged by flareshift, which is not among the strategies; add --strategy flareshift"
            );
        }
        let strategy = |kind| Strategy {
            check_every: args.given.check_every,
            forecast: args.given.forecast,
            ..Strategy::new(kind)
        };
        Ok(Self {
            economics,
            contract,
            strategies: asked.into_iter().map(strategy).collect(),
            fleet,
            warm_up: args.warm_up.into(),
        })
    }

    fn runs(&self, months: usize) -> Vec<Run> {
        let mut of = Vec::new();
        for strategy in &self.strategies {
            of.push((*strategy, Future::Ordinary));
            if IN_A_BUST.contains(&strategy.kind) {
                of.push((*strategy, Future::Bust));
            }
            if strategy.kind == Kind::Flareshift && self.contract.is_some() {
                of.push((*strategy, Future::Contract));
            }
        }
        let months = || 0..u32::try_from(months).unwrap_or(u32::MAX);
        of.into_iter()
            .flat_map(|(strategy, future)| months().map(move |month| Run { strategy, future, month }))
            .collect()
    }

    fn replay(&self, worlds: &[World], run: &Run) -> Result<Month, world::Error> {
        let contract = self.contract.as_ref().filter(|_| run.future == Future::Contract);
        let month = (run.month, run.future == Future::Bust);
        let world = years::month(&worlds[run.month as usize], &self.economics, month, contract);
        let outcome = ::backtest::run(&world, &run.strategy)?;
        Ok(Month::of(&outcome, self.warm_up, world::gpus(&run.strategy.fleet(&world.fleet)).0))
    }

    fn judge(&self, args: &YearsArgs, worlds: &[World], runs: &[Run], months: &[Month]) -> Report {
        let of = |kind: Kind, future: Future| -> Vec<Month> {
            let found =
                runs.iter().zip(months).filter(|(run, _)| (run.strategy.kind, run.future) == (kind, future));
            found.map(|(_, month)| month.clone()).collect()
        };
        let row = |strategy: &Strategy| {
            let fleet = strategy.fleet(&self.fleet);
            let ordinary = of(strategy.kind, Future::Ordinary);
            let bust = of(strategy.kind, Future::Bust);
            let bust = (!bust.is_empty()).then(|| InABust {
                npv_dollars: years::judge(&self.economics, &fleet, &bust).npv_dollars,
                stranded: years::stranded(&ordinary, &bust),
            });
            Row {
                strategy: strategy.kind.to_string(),
                years: years::judge(&self.economics, &fleet, &ordinary),
                bust,
            }
        };
        let contract = self.contract.as_ref().map(|contract| {
            let (with, without) =
                (of(Kind::Flareshift, Future::Contract), of(Kind::Flareshift, Future::Ordinary));
            years::marginal(&self.economics, &self.fleet, contract, (&with, &without))
        });
        Report {
            from: worlds.first().map(|world| day(world.start)).unwrap_or_default(),
            days_a_month: args.days_per_month,
            warm_up_days: args.warm_up,
            economics: self.economics.clone(),
            strategies: self.strategies.iter().map(row).collect(),
            offered: self.contract.filter(|_| contract.is_some()),
            contract,
        }
    }
}

fn toml<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(toml_file::read(path, &text)?)
}

/// The sample of each month, before prices and demand of the years are laid over it.
fn worlds(args: &YearsArgs, economics: &Economics) -> anyhow::Result<Vec<World>> {
    let source = Source::read(&args.given)?;
    let sample = usize::from(args.warm_up) + usize::from(args.days_per_month);
    let day_of = |month: u32| (f64::from(month) * DAYS_A_MONTH).round() as i64;
    let all = usize::try_from(day_of(economics.months() - 1))? + sample;
    let origin = source.begin(all)?;
    let world = |month| Ok(source.world(origin, origin + DAY.times(day_of(month)), sample)?.world);
    (0..economics.months()).map(world).collect()
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Report {
    /// The first day.
    from: String,
    /// Days of each month that count, and days before them that do not.
    days_a_month: u8,
    warm_up_days: u8,
    /// Everything that was assumed.
    economics: Economics,
    /// Strategy by strategy.
    strategies: Vec<Row>,
    /// The contract that was asked about.
    offered: Option<Contract>,
    /// What it would do.
    contract: Option<Marginal>,
}

/// One strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    strategy: String,
    #[serde(flatten)]
    years: Years,
    bust: Option<InABust>,
}

/// One strategy in a bust.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct InABust {
    npv_dollars: f64,
    /// GPUs that stand idle beyond those of the ordinary future, as a share of all, month by month.
    stranded: Vec<f64>,
}

impl Row {
    fn money(&self) -> Vec<String> {
        let years = &self.years;
        vec![
            self.strategy.clone(),
            thousands(years.capital_dollars),
            thousands(years.earned_dollars),
            thousands(years.npv_dollars),
            month(years.payback_month),
            maybe(years.utilisation, percent),
            maybe(years.breakeven_utilisation, percent),
            month(years.target_month),
            month(years.target_month_at_first_hashprice),
        ]
    }

    /// Means of the years' shares outside mining.
    fn shares(&self) -> Vec<String> {
        let mean = |shares: &[Option<f64>]| {
            let known: Vec<f64> = shares.iter().copied().flatten().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let years = self.years.outside_mining.chunks(12).map(|year| maybe(mean(year), percent));
        std::iter::once(self.strategy.clone()).chain(years).collect()
    }

    fn in_a_bust(&self) -> Option<Vec<String>> {
        let bust = self.bust.as_ref()?;
        let last = bust.stranded.iter().rev().take(12);
        let mean = last.clone().sum::<f64>() / last.count().max(1) as f64;
        Some(vec![
            self.strategy.clone(),
            thousands(bust.npv_dollars),
            thousands(bust.npv_dollars - self.years.npv_dollars),
            percent(mean),
        ])
    }
}

impl View for Report {
    fn table(&self) -> String {
        const MONEY: [&str; 9] = [
            "STRATEGY",
            ">CAPITAL",
            ">EARNED",
            ">NPV",
            ">PAID BACK",
            ">GPUS USED",
            ">BREAKEVEN",
            ">TARGET MET",
            ">AT FIRST HASHPRICE",
        ];
        const BUST: [&str; 4] = ["STRATEGY", ">NPV", ">CHANGE", ">STRANDED GPUS, LAST YEAR"];
        let economics = &self.economics;
        let mut text = pairs(&[
            (
                "From",
                format!(
                    "{}, {} years, {} days of each month after {} to warm up",
                    self.from, economics.years, self.days_a_month, self.warm_up_days
                ),
            ),
            (
                "Assumed",
                format!(
                    "money costs {} % a year; target {} % outside mining",
                    economics.discount_percent, economics.target_percent
                ),
            ),
        ]);
        text += &titled("Money", &MONEY, self.strategies.iter().map(Row::money).collect());
        let years: Vec<String> = (1..=economics.years).map(|year| format!(">YEAR {year}")).collect();
        let shares: Vec<&str> = std::iter::once("STRATEGY").chain(years.iter().map(String::as_str)).collect();
        text += &titled(
            "Share of revenue outside mining",
            &shares,
            self.strategies.iter().map(Row::shares).collect(),
        );
        text += &titled("In a bust", &BUST, self.strategies.iter().filter_map(Row::in_a_bust).collect());
        if let Some((contract, offered)) = self.contract.as_ref().zip(self.offered) {
            text += "\nContract\n";
            text += &contract_pairs(contract, &offered);
        }
        text
    }
}

fn contract_pairs(contract: &Marginal, offered: &Contract) -> String {
    pairs(&[
        (
            "Offered",
            format!(
                "{} GPUs in gangs of {} at ${:.2} for {} months",
                offered.gpus, offered.gang, offered.dollars_per_gpu_hour, offered.months
            ),
        ),
        ("NPV it adds", thousands(contract.npv_dollars)),
        ("Firm power", watts(contract.firm_watts)),
        ("Served", maybe(contract.served, percent)),
        ("More GPU time", format!("{:.0} GPU-h", contract.gpu_hours)),
        ("Credits it costs", thousands(contract.credit_dollars)),
        (
            "Lowest price",
            maybe(contract.lowest_dollars_per_gpu_hour, |price| format!("${price:.2} a GPU-hour")),
        ),
    ])
}

/// Thousands of dollars.
fn thousands(dollars: f64) -> String {
    let rounded = (dollars / 1e3).round() as i64;
    let sign = if rounded < 0 { "-" } else { "" };
    format!("{sign}${}k", rounded.abs())
}

fn month(month: Option<u32>) -> String {
    month.map_or_else(|| UNKNOWN.to_owned(), |month| format!("month {}", month + 1))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};
    use crate::backtest::args::BacktestCommand;

    fn years(npv_dollars: f64) -> Years {
        Years {
            capital_dollars: 14e6,
            earned_dollars: 20e6,
            npv_dollars,
            payback_month: Some(34),
            utilisation: Some(0.71),
            breakeven_utilisation: Some(0.55),
            outside_mining: [vec![Some(0.4); 12], vec![Some(0.8); 12]].concat(),
            outside_mining_at_first_hashprice: vec![Some(0.5); 24],
            target_month: Some(12),
            target_month_at_first_hashprice: None,
        }
    }

    fn sample() -> Report {
        let bust = InABust { npv_dollars: 0.5e6, stranded: [vec![0.0; 12], vec![0.25; 12]].concat() };
        let contract = Contract { gpus: 64, gang: 16, dollars_per_gpu_hour: 2.1, from_month: 0, months: 24 };
        let marginal = Marginal {
            npv_dollars: 1.25e6,
            firm_watts: 81_600,
            gpu_hours: 900_000.0,
            served_gpu_hours: 950_000.0,
            served: Some(0.98),
            credit_dollars: 12_000.0,
            lowest_dollars_per_gpu_hour: Some(0.62),
        };
        Report {
            from: "2024-01-01".into(),
            days_a_month: 3,
            warm_up_days: 2,
            economics: Economics { years: 2, ..Economics::default() },
            strategies: vec![
                Row { strategy: "mining-only".into(), years: years(-1.2e6), bust: None },
                Row { strategy: "flareshift".into(), years: years(3.4e6), bust: Some(bust) },
            ],
            offered: Some(contract),
            contract: Some(marginal),
        }
    }

    #[test]
    fn the_tables_tell_money_shares_bust_and_contract() {
        let table = sample().table();
        let words = |start: &str, nth: usize| -> String {
            let line = table.lines().filter(|line| line.starts_with(start)).nth(nth).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words("mining-only", 0),
            "mining-only $14000k $20000k -$1200k month 35 71.0 % 55.0 % month 13 -"
        );
        assert_eq!(words("flareshift", 1), "flareshift 40.0 % 80.0 %");
        assert_eq!(words("flareshift", 2), "flareshift $500k -$2900k 25.0 %");
        assert_eq!(words("Offered", 0), "Offered: 64 GPUs in gangs of 16 at $2.10 for 24 months");
        assert_eq!(words("Lowest", 0), "Lowest price: $0.62 a GPU-hour");
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["strategies"][1]["npv_dollars"], 3.4e6);
        assert_eq!(json["economics"]["capital"]["gpu_years"], 5.0);
    }

    #[test]
    fn files_are_read_with_their_defaults_and_refused_with_their_place() {
        let path = std::env::temp_dir().join(format!("years-{}.toml", std::process::id()));
        let check = |text: &str| {
            fs::write(&path, text).unwrap();
            toml::<Economics>(&path)
        };
        let read =
            check("years = 2\nai_price = [[0, 100], [24, 50]]\n[capital]\ngpu_dollars = 25000\n").unwrap();
        assert_eq!((read.years, read.capital.gpu_dollars, read.capital.gpu_years), (2, 25_000.0, 5.0));
        assert_eq!(read.market(12, false).0, 0.75);
        let error = check("years = 2\ngpus = 4\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("gpus"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(toml::<Contract>(&path).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn the_examples_are_the_defaults_and_a_sound_contract() {
        let example =
            |name: &str| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples")).join(name);
        assert_eq!(toml::<Economics>(&example("years.toml")).unwrap(), Economics::default());
        let contract: Contract = toml(&example("partner.toml")).unwrap();
        let largest = world::gpus(&sim::reference::fleet()).1;
        assert_eq!((contract.check(largest), contract.gangs()), (Ok(()), 4));
    }

    #[test]
    fn what_cannot_be_judged_is_refused_before_anything_is_replayed() {
        let check = |line: &str, part: &str| {
            let line = format!("flareshift backtest years {line}");
            let Command::Backtest(args) = Args::try_parse_from(line.split_whitespace()).unwrap().command
            else {
                panic!("{line}")
            };
            let Some(BacktestCommand::Years(args)) = args.command else { panic!("{line}") };
            let error = Asked::read(&args).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{line}: {error}");
        };
        let partner = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/partner.toml");
        check(&format!("--contract {partner} --strategy greedy"), "add --strategy flareshift");
        let path = std::env::temp_dir().join(format!("years-refused-{}.toml", std::process::id()));
        fs::write(&path, "[build_out]\nnowhere = 3\n").unwrap();
        check(&format!("--economics {}", path.display()), "names module nowhere");
        fs::write(&path, "years = 11\n").unwrap();
        check(&format!("--economics {}", path.display()), "years is 11; choose 1 to 10");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn each_month_is_run_in_each_future_that_is_asked_about() {
        let asked = Asked {
            economics: Economics::default(),
            contract: Some(Contract {
                gpus: 8,
                gang: 8,
                dollars_per_gpu_hour: 2.0,
                from_month: 0,
                months: 2,
            }),
            strategies: Kind::ALL.map(Strategy::new).into(),
            fleet: sim::reference::fleet(),
            warm_up: 2,
        };
        let runs = asked.runs(2);
        let count = |future| runs.iter().filter(|run| run.future == future).count();
        assert_eq!([Future::Ordinary, Future::Bust, Future::Contract].map(count), [10, 4, 2]);
    }
}
