//! `flareshift backtest`: replays prices, difficulty, gas and jobs over a fleet, strategy by strategy, and compares them.
//!
//! The model is the pure crate `backtest`; here files are read ([`inputs`]), strategies run side by side on threads, and tables,
//! CSV ([`csv`]) and plots ([`svg`]) written. Sampled events are replayed in steps of 10 ms by
//! [`mod@replay`]. `backtest oracle` is [`oracle`], `backtest horizon` is [`horizon`], `backtest years` is [`years`]. Nothing here changes what comes out: the same flags and files give the same bytes.

mod args;
mod csv;
mod horizon;
mod inputs;
mod oracle;
mod replay;
mod svg;
mod years;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ::backtest::{Comparison, Kind, Outcome, Strategy, World, forecast};

use crate::args::Output;
use crate::operator::failure::Error;
use crate::output::replay::ReplayRow;
use crate::output::{self, backtest as view};

use args::BacktestCommand;

pub use args::BacktestArgs;
pub use inputs::Told;
pub use replay::Replays;

/// Runs the command to its end.
pub fn run(args: &BacktestArgs, output: Output) -> Result<(), Error> {
    match &args.command {
        Some(BacktestCommand::Oracle(asked)) => return oracle::run(asked, output),
        Some(BacktestCommand::Horizon(asked)) => return horizon::run(asked, output),
        Some(BacktestCommand::Years(asked)) => return years::run(asked, output),
        None => {}
    }
    let inputs = inputs::read(&args.given, args.days.into()).map_err(usage)?;
    let strategies = strategies(args);
    let (outcomes, replays) = replay(&inputs.world, &strategies, args)?;
    let compared = Comparison::of(outcomes);
    if let Some(path) = &args.csv {
        write(path, &csv::days(&compared))?;
    }
    if let Some(path) = &args.svg {
        write(path, &svg::plot(&compared))?;
    }
    let scores = forecast::score::scores(&inputs.world);
    let rows = strategies
        .iter()
        .zip(&replays)
        .filter_map(|(strategy, replays)| Some(ReplayRow::new(strategy.kind.as_str(), replays.as_ref()?)));
    let view = view::Backtest::new(&inputs.world, &inputs.told, &compared, &scores).replayed(rows.collect());
    output::print(&output::text(&view, output)).map(drop).map_err(Error::Print)?;
    match replays.iter().flatten().map(|replays| replays.broken).sum() {
        0 => Ok(()),
        events => Err(Error::Broken { events }),
    }
}

/// Those that were asked for, or all.
fn strategies(args: &BacktestArgs) -> Vec<Strategy> {
    let all = Kind::ALL.into_iter();
    let asked = all.filter(|kind| args.strategy.is_empty() || args.strategy.contains(kind));
    let strategy = |kind| Strategy {
        kind,
        split_permille: (args.split * 1_000.0).round() as i64,
        check_every: args.given.check_every,
        forecast: args.given.forecast,
    };
    asked.map(strategy).collect()
}

/// Runs strategies side by side, with the events of each that were asked for.
fn replay(
    world: &World,
    strategies: &[Strategy],
    args: &BacktestArgs,
) -> Result<(Vec<Outcome>, Vec<Option<Replays>>), Error> {
    let agents = replay::Agents { reflex: !args.replay_no_reflex, sabotage: Default::default() };
    let asked = replay::Asked { events: args.replay.into(), seed: args.given.seed, agents };
    let ran = side_by_side(strategies, |strategy| {
        let ran = match asked.events {
            0 => ::backtest::run(world, strategy).map(|outcome| (outcome, None)).map_err(usage),
            _ => replay::run(world, strategy, &asked)
                .map(|(outcome, replays)| (outcome, Some(replays)))
                .map_err(usage),
        };
        eprintln!("flareshift: {}: {} days replayed", strategy.kind, world.days);
        ran
    })?;
    Ok(ran.into_iter().unzip())
}

/// Does something with each of `items` on as many threads as there are processors. Answers stand in the order of the items,
/// whichever is done first.
fn side_by_side<T: Sync, A: Send>(
    items: &[T],
    of: impl Fn(&T) -> Result<A, Error> + Sync,
) -> Result<Vec<A>, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(nth) else { break };
                    let answer = of(item);
                    let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    done.push((nth, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, answer)| answer).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text)
        .map_err(|error| Error::Usage(format!("{} cannot be written: {error}", path.display())))
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}
