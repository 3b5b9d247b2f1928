//! `flareshift backtest oracle`: seeded weeks, each replayed as floor, ours and oracle, with a bound above them all.
//!
//! Weeks run on threads; what is done is told on standard error run by run. The judgement is `backtest::oracle`. Read next:
//! docs/backtest.md.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::backtest::oracle::{self, SPLITS, Verdict, Week};
use ::backtest::{Kind, Strategy, World};
use anyhow::bail;
use model::{Span, Time};
use serde::Serialize;

use super::args::{Given, OracleArgs};
use super::inputs::Source;
use super::{side_by_side, usage};
use crate::args::Output;
use crate::dev::scenario::{BEGIN, day};
use crate::operator::failure::Error;
use crate::output::show::maybe;
use crate::output::table::{columns, pairs};
use crate::output::{self, View};

/// Days of a week.
const WEEK: usize = 7;
/// Days from which weeks are drawn where no series says how many there are.
const YEAR: usize = 365;
const DAY: Span = Span::hours(24);

/// Runs the command to its end.
pub fn run(args: &OracleArgs, output: Output) -> Result<(), Error> {
    let fit_days = usize::from(args.fit_days);
    let source = Source::read(&args.given).map_err(usage)?;
    let (origin, starts) = starts(&source, args).map_err(usage)?;
    let worlds: Result<Vec<World>, anyhow::Error> = starts
        .iter()
        .map(|start| Ok(source.world(origin, origin + DAY.times(*start as i64), fit_days + WEEK)?.world))
        .collect();
    let worlds = worlds.map_err(usage)?;
    let progress = Progress { done: AtomicUsize::new(0), all: worlds.len() * (SPLITS.len() + 3) };
    let ours = ours(&args.given);
    let weeks = side_by_side(&worlds, |world| {
        let tell = || progress.tell();
        let split = oracle::fit(&world.window(0, fit_days), &tell).map_err(usage)?;
        oracle::week(&world.window(fit_days, WEEK), &ours, split, &tell).map_err(usage)
    })?;
    let view = Bracket::new(args, &weeks);
    output::print(&output::text(&view, output)).map(drop).map_err(Error::Print)
}

fn ours(given: &Given) -> Strategy {
    Strategy { check_every: given.check_every, forecast: given.forecast, ..Strategy::new(Kind::Flareshift) }
}

/// The day that others are counted from, and how many days after it each world begins.
fn starts(source: &Source<'_>, args: &OracleArgs) -> anyhow::Result<(Time, Vec<usize>)> {
    let needed = usize::from(args.fit_days) + WEEK;
    let (origin, days) = match source.covered()? {
        Some((first, last)) => (first, usize::try_from((last - first).whole_times(DAY))? + 1),
        None => (BEGIN, YEAR + usize::from(args.fit_days)),
    };
    if args.given.from.is_some() {
        bail!("weeks are drawn by the seed from all that the series cover; leave out --from");
    }
    let starts = oracle::starts(args.given.seed, days, needed, usize::from(args.weeks));
    if starts.is_empty() {
        bail!(
            "the series have {days} days in common, and a week with its fit needs {needed}; lower --fit-days"
        );
    }
    Ok((origin, starts))
}

/// What is done, on standard error.
struct Progress {
    done: AtomicUsize,
    all: usize,
}

impl Progress {
    fn tell(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!(
            "flareshift: oracle: {done} of {} runs done ({} %)",
            self.all,
            done * 100 / self.all.max(1)
        );
    }
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bracket {
    /// How ours expects gas.
    pub forecast: String,
    /// GPU time asked for against the fleet's.
    pub load: f64,
    /// Of every draw.
    pub seed: u64,
    /// Days on which each floor was fitted.
    pub fit_days: u8,
    /// Week by week.
    pub weeks: Vec<Row>,
    /// All weeks.
    pub verdict: Verdict,
}

/// One week.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its first day.
    pub from: String,
    /// The split that was fitted.
    pub split_permille: i64,
    /// Net money of the fitted split.
    pub floor_micro_dollars: i64,
    /// Of ours.
    pub ours_micro_dollars: i64,
    /// Of the planner that knew gas and breakdowns.
    pub knowing_micro_dollars: i64,
    /// No strategy earns more.
    pub bound_micro_dollars: i64,
    /// (oracle − ours) ÷ oracle.
    pub total_ppm: Option<i64>,
    /// (oracle − ours) ÷ (oracle − floor); `null` where there is too little room to say.
    pub controllable_ppm: Option<i64>,
    /// (bound − ours) ÷ bound.
    pub to_bound_ppm: Option<i64>,
    /// Plans that the check refused.
    pub plans_refused: u64,
}

impl Bracket {
    fn new(args: &OracleArgs, weeks: &[Week]) -> Self {
        let row = |week: &Week| Row {
            from: day(week.start),
            split_permille: week.split_permille,
            floor_micro_dollars: week.floor.get(),
            ours_micro_dollars: week.ours.get(),
            knowing_micro_dollars: week.knowing.get(),
            bound_micro_dollars: week.bound.get(),
            total_ppm: week.total_ppm(),
            controllable_ppm: week.controllable_ppm(),
            to_bound_ppm: week.to_bound_ppm(),
            plans_refused: week.refused,
        };
        Self {
            forecast: args.given.forecast.to_string(),
            load: args.given.load,
            seed: args.given.seed,
            fit_days: args.fit_days,
            weeks: weeks.iter().map(row).collect(),
            verdict: Verdict::of(weeks),
        }
    }
}

impl View for Bracket {
    fn table(&self) -> String {
        const HEAD: [&str; 9] = [
            "WEEK FROM",
            ">SPLIT",
            ">FLOOR",
            ">OURS",
            ">KNOWING",
            ">BOUND",
            ">REGRET",
            ">CONTROLLABLE",
            ">TO BOUND",
        ];
        let dollars = |micro_dollars: i64| format!("${}", micro_dollars / 1_000_000);
        let row = |row: &Row| {
            vec![
                row.from.clone(),
                format!("{} %", row.split_permille / 10),
                dollars(row.floor_micro_dollars),
                dollars(row.ours_micro_dollars),
                dollars(row.knowing_micro_dollars),
                dollars(row.bound_micro_dollars),
                maybe(row.total_ppm, percent),
                maybe(row.controllable_ppm, percent),
                maybe(row.to_bound_ppm, percent),
            ]
        };
        let verdict = &self.verdict;
        let refused: u64 = self.weeks.iter().map(|week| week.plans_refused).sum();
        let summary = pairs(&[
            ("Forecast", format!("{}, load {}, seed {}", self.forecast, self.load, self.seed)),
            (
                "Regret",
                format!(
                    "median {}, worst week {}",
                    maybe(verdict.median_total_ppm, percent),
                    maybe(verdict.worst_total_ppm, percent)
                ),
            ),
            (
                "Controllable",
                format!(
                    "median {} of {} scored weeks; the floor is fitted on {} days before",
                    maybe(verdict.median_controllable_ppm, percent),
                    verdict.scored,
                    self.fit_days
                ),
            ),
            ("To the bound", format!("median {}", maybe(verdict.median_to_bound_ppm, percent))),
            ("Plans refused", refused.to_string()),
        ]);
        columns(&HEAD, self.weeks.iter().map(row).collect()) + "\n" + &summary
    }
}

fn percent(ppm: i64) -> String {
    format!("{:.2} %", ppm as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;
    use model::MicroDollars;

    use super::*;
    use crate::args::{Args, Command};
    use crate::backtest::args::BacktestCommand;

    fn args(line: &str) -> OracleArgs {
        let line = format!("flareshift backtest oracle {line}");
        match Args::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Backtest(args) => match args.command {
                Some(BacktestCommand::Oracle(args)) => *args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn week(ours: i64) -> Week {
        Week {
            start: BEGIN,
            split_permille: 400,
            floor: MicroDollars::dollars(800),
            ours: MicroDollars::dollars(ours),
            knowing: MicroDollars::dollars(1_000),
            bound: MicroDollars::dollars(1_250),
            revenue: MicroDollars::dollars(1_100),
            refused: 0,
        }
    }

    #[test]
    fn the_table_tells_weeks_and_medians_and_json_has_exact_integers() {
        let view = Bracket::new(&args("--weeks 2 --forecast quantile"), &[week(990), week(950)]);
        let table = view.table();
        let line: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(line[..7], ["2026-02-12", "40", "%", "$800", "$950", "$1000", "$1250"], "{table}");
        assert_eq!(line[7..], ["5.00", "%", "25.00", "%", "24.00", "%"], "{table}");
        assert!(table.contains("median 3.00 %, worst week 5.00 %"), "{table}");
        assert!(table.contains("quantile, load 0.9, seed 1"), "{table}");
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["weeks"][0]["controllable_ppm"], 50_000);
        assert_eq!(json["verdict"]["scored"], 2);
    }

    #[test]
    fn weeks_without_series_are_drawn_from_a_year_and_never_from_a_day_that_was_asked_for() {
        let asked = args("--weeks 3 --seed 5");
        let source = Source::read(&asked.given).unwrap();
        let (origin, found) = starts(&source, &asked).unwrap();
        assert_eq!((origin, found.len()), (BEGIN, 3));
        assert!(found.windows(2).all(|pair| pair[0] + WEEK <= pair[1]), "{found:?}");
        let asked = args("--from 2026-03-01");
        let error = starts(&Source::read(&asked.given).unwrap(), &asked).unwrap_err();
        assert!(error.to_string().contains("leave out --from"), "{error}");
    }

    #[test]
    fn flags_of_the_comparison_do_not_stand_before_oracle() {
        let line = "flareshift backtest --days 3 oracle";
        assert!(Args::try_parse_from(line.split_whitespace()).is_err());
    }
}
