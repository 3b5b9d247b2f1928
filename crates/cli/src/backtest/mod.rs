//! `flareshift backtest`: replays prices, difficulty, gas and jobs over a fleet, strategy by strategy, and compares them.
//!
//! The model is the pure crate `backtest`; here files are read ([`inputs`]), strategies run side by side on threads, and tables,
//! CSV ([`csv`]) and plots ([`svg`]) written. Nothing here changes what comes out: the same flags and files give the same bytes.

mod csv;
mod inputs;
mod svg;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ::backtest::{Comparison, Kind, Outcome, Strategy, World};

use crate::args::{BacktestArgs, Output};
use crate::operator::failure::Error;
use crate::output::{self, backtest as view};

pub use inputs::Told;

/// Runs the command to its end.
pub fn run(args: &BacktestArgs, output: Output) -> Result<(), Error> {
    let inputs = inputs::read(args).map_err(usage)?;
    let outcomes = replay(&inputs.world, &strategies(args))?;
    let compared = Comparison::of(outcomes);
    if let Some(path) = &args.csv {
        write(path, &csv::days(&compared))?;
    }
    if let Some(path) = &args.svg {
        write(path, &svg::plot(&compared))?;
    }
    let view = view::Backtest::new(&inputs.world, &inputs.told, &compared);
    output::print(&output::text(&view, output)).map(drop).map_err(Error::Print)
}

/// Those that were asked for, or all.
fn strategies(args: &BacktestArgs) -> Vec<Strategy> {
    let all = Kind::ALL.into_iter();
    let asked = all.filter(|kind| args.strategy.is_empty() || args.strategy.contains(kind));
    let strategy = |kind| Strategy {
        kind,
        split_permille: (args.split * 1_000.0).round() as i64,
        check_every: args.check_every,
    };
    asked.map(strategy).collect()
}

/// Runs strategies on as many threads as there are processors. Their order is that of `strategies`, whoever is done first.
fn replay(world: &World, strategies: &[Strategy]) -> Result<Vec<Outcome>, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(strategies.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(strategy) = strategies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = ::backtest::run(world, strategy);
                    eprintln!("flareshift: {}: {} days replayed", strategy.kind, world.days);
                    let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    done.push((strategy.kind, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(kind, _)| *kind);
    done.into_iter().map(|(_, outcome)| outcome.map_err(usage)).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text)
        .map_err(|error| Error::Usage(format!("{} cannot be written: {error}", path.display())))
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}
