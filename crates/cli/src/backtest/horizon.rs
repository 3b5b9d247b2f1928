//! `flareshift backtest horizon`: what each way to expect gas nets against a planner that knows it, on a suite of worlds.
//!
//! The suite: so many seeds, each with gas that varies as on an ordinary pad and the most, each at three loads. Figures of the suite
//! are ratios of sums. `noisy` is the truth with noise and no forecaster. Read next: docs/backtest.md, *Forecasts*.

use ::backtest::{Kind, Method, Strategy, World};
use model::MicroDollars;
use serde::Serialize;

use super::args::{Given, HorizonArgs};
use super::{inputs, side_by_side, usage};
use crate::args::Output;
use crate::operator::failure::Error;
use crate::output::table::{columns, pairs};
use crate::output::{self, View};

/// How much the wells vary: as an ordinary shale pad, and the most.
const VARIABILITY: [f64; 2] = [0.3, 1.0];
/// GPU time asked for against the fleet's.
const LOADS: [f64; 3] = [0.6, 0.9, 1.2];
/// What is held against `perfect`.
const METHODS: [Method; 4] = [Method::Persistence, Method::Seasonal, Method::Quantile, Method::Noisy];

/// Runs the suite.
pub fn run(args: &HorizonArgs, output: Output) -> Result<(), Error> {
    let horizon = suite(args, &VARIABILITY, &LOADS)?;
    output::print(&output::text(&horizon, output)).map(drop).map_err(Error::Print)
}

/// The suite with these settings.
fn suite(args: &HorizonArgs, variability: &[f64], loads: &[f64]) -> Result<Horizon, Error> {
    let worlds = worlds(args, variability, loads)?;
    let methods = || [Method::Perfect].into_iter().chain(METHODS);
    let of =
        |(_, world): &'_ (Given, World)| methods().map(|method| (world.clone(), method)).collect::<Vec<_>>();
    let runs: Vec<(World, Method)> = worlds.iter().flat_map(of).collect();
    let check_every = args.given.check_every;
    let nets = side_by_side(&runs, |(world, forecast)| {
        let strategy = Strategy { forecast: *forecast, check_every, ..Strategy::new(Kind::Flareshift) };
        let outcome = ::backtest::run(world, &strategy).map_err(usage)?;
        Ok((outcome.total.money.net(), outcome.total.plans.refused))
    })?;
    let rows = worlds.iter().zip(nets.chunks(METHODS.len() + 1));
    Ok(Horizon::new(args.days, rows.map(|((given, _), nets)| Row::new(given, nets)).collect()))
}

/// Every seed with every setting.
fn worlds(args: &HorizonArgs, variability: &[f64], loads: &[f64]) -> Result<Vec<(Given, World)>, Error> {
    let mut worlds = Vec::new();
    for seed in (0..u64::from(args.seeds)).map(|nth| args.given.seed.wrapping_add(nth)) {
        for &gas_variability in variability {
            for &load in loads {
                let given = Given { seed, gas_variability, load, ..args.given.clone() };
                let world = inputs::read(&given, args.days.into()).map_err(usage)?.world;
                worlds.push((given, world));
            }
        }
    }
    Ok(worlds)
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Horizon {
    /// Days of each world.
    pub days: u8,
    /// Names of what is held against `perfect`; ratios stand in this order.
    pub methods: Vec<String>,
    /// World by world.
    pub worlds: Vec<Row>,
    /// Sum of each method's net ÷ sum of `perfect`'s, in parts per million.
    pub suite_ppm: Vec<Option<i64>>,
    /// The worst world of each method.
    pub worst_ppm: Vec<Option<i64>>,
    /// Plans that the check refused.
    pub plans_refused: u64,
}

/// One world.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Of every draw.
    pub seed: u64,
    /// How much the wells vary.
    pub gas_variability: f64,
    /// GPU time asked for against the fleet's.
    pub load: f64,
    /// Net money of the planner that knows.
    pub perfect_micro_dollars: i64,
    /// Net money of the others.
    pub net_micro_dollars: Vec<i64>,
    /// Net ÷ that of the planner that knows.
    pub net_ppm: Vec<Option<i64>>,
    /// Plans that the check refused.
    pub plans_refused: u64,
}

impl Row {
    /// Of the nets of `perfect` and [`METHODS`], in this order.
    fn new(given: &Given, nets: &[(MicroDollars, u64)]) -> Self {
        let perfect = nets.first().map_or(0, |(net, _)| net.get());
        let net: Vec<i64> = nets.iter().skip(1).map(|(net, _)| net.get()).collect();
        Self {
            seed: given.seed,
            gas_variability: given.gas_variability,
            load: given.load,
            perfect_micro_dollars: perfect,
            net_ppm: net.iter().map(|net| ratio(*net, perfect)).collect(),
            net_micro_dollars: net,
            plans_refused: nets.iter().map(|(_, refused)| refused).sum(),
        }
    }
}

impl Horizon {
    fn new(days: u8, worlds: Vec<Row>) -> Self {
        let perfect: i64 = worlds.iter().map(|row| row.perfect_micro_dollars).sum();
        let sum = |nth: usize| worlds.iter().filter_map(|row| row.net_micro_dollars.get(nth)).sum();
        let worst = |nth: usize| worlds.iter().filter_map(|row| *row.net_ppm.get(nth)?).min();
        let nths = || 0..METHODS.len();
        Self {
            days,
            methods: METHODS.map(|method| method.to_string()).to_vec(),
            suite_ppm: nths().map(|nth| ratio(sum(nth), perfect)).collect(),
            worst_ppm: nths().map(worst).collect(),
            plans_refused: worlds.iter().map(|row| row.plans_refused).sum(),
            worlds,
        }
    }
}

impl View for Horizon {
    fn table(&self) -> String {
        const HEAD: [&str; 8] =
            ["SEED", ">GAS VARIES", ">LOAD", ">PERFECT", ">PERSISTENCE", ">SEASONAL", ">QUANTILE", ">NOISY"];
        let percents = |all: &[Option<i64>]| all.iter().map(|ppm| percent(*ppm)).collect::<Vec<_>>();
        let row = |row: &Row| {
            let (varies, load) = (row.gas_variability.to_string(), row.load.to_string());
            let perfect = format!("${}", row.perfect_micro_dollars / 1_000_000);
            [vec![row.seed.to_string(), varies, load, perfect], percents(&row.net_ppm)].concat()
        };
        let last = |name: &str, all: &[Option<i64>]| {
            [[name, "", "", ""].map(str::to_owned).to_vec(), percents(all)].concat()
        };
        let mut rows: Vec<Vec<String>> = self.worlds.iter().map(row).collect();
        rows.push(last("all", &self.suite_ppm));
        rows.push(last("worst", &self.worst_ppm));
        let worlds = format!(
            "{} of {} days; net in percent of the planner that knows its gas",
            self.worlds.len(),
            self.days
        );
        let noisy = "the truth with noise of 5 % × √k, k steps ahead: a sensitivity, no forecaster";
        let notes = pairs(&[
            ("Worlds", worlds),
            ("Noisy", noisy.to_owned()),
            ("Plans refused", self.plans_refused.to_string()),
        ]);
        columns(&HEAD, rows) + "\n" + &notes
    }
}

fn ratio(part: i64, whole: i64) -> Option<i64> {
    (whole > 0).then(|| MicroDollars::new(part).fraction(1_000_000, whole).get())
}

fn percent(ppm: Option<i64>) -> String {
    ppm.map_or("-".to_owned(), |ppm| format!("{:.2} %", ppm as f64 / 10_000.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};
    use crate::backtest::args::BacktestCommand;

    fn args(line: &str) -> HorizonArgs {
        let line = format!("flareshift backtest horizon {line}");
        match Args::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Backtest(args) => match args.command {
                Some(BacktestCommand::Horizon(args)) => *args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_small_suite_holds_every_method_against_the_truth() {
        let horizon = suite(&args("--seeds 1 --days 1 --check-every 24"), &[1.0], &[0.9]).unwrap();
        assert_eq!((horizon.worlds.len(), horizon.plans_refused), (1, 0));
        let row = &horizon.worlds[0];
        assert!(row.perfect_micro_dollars > 0 && row.net_micro_dollars.len() == METHODS.len());
        assert_eq!(horizon.suite_ppm, row.net_ppm, "of one world the sum is the world");
        // Gas that is expected wrongly costs something, and not everything: the next plan knows better.
        assert!(row.net_ppm.iter().all(|ppm| (900_000..1_100_000).contains(&ppm.unwrap())), "{row:?}");
        let table = horizon.table();
        assert!(table.contains("NOISY") && table.lines().any(|line| line.starts_with("worst")), "{table}");
    }

    #[test]
    fn figures_of_the_suite_are_ratios_of_sums() {
        let given = args("").given;
        let row = |nets: [i64; 5]| Row::new(&given, &nets.map(|net| (MicroDollars::dollars(net), 1)));
        let horizon = Horizon::new(2, vec![row([100, 90, 80, 100, 99]), row([300, 300, 320, 0, 297])]);
        assert_eq!(horizon.suite_ppm, [975_000, 1_000_000, 250_000, 990_000].map(Some));
        assert_eq!(horizon.worst_ppm, [900_000, 800_000, 0, 990_000].map(Some));
        assert_eq!(horizon.plans_refused, 10);
        assert_eq!(Horizon::new(2, vec![row([0; 5])]).suite_ppm, [None; 4], "nothing of nothing is unknown");
    }
}
