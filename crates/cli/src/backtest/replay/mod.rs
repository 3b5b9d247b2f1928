//! `backtest --replay N`: events of the replayed time in steps of 10 ms, on the simulator's physics, with the agents' own minds.
//!
//! Which events: `backtest::events`. How one is played: [`stage`]; who says what its modules hold: [`desk`]; what counts as broken:
//! [`judge`]. What came of it is printed by `crate::output::replay`.

mod desk;
mod judge;
mod stage;

use std::collections::BTreeMap;

use ::backtest::events::{Event, Kind, Moment, Sampler};
use ::backtest::{Outcome, Strategy, World};
use model::Span;
use model::site::Frequency;

use crate::dev::scenario::day;

pub use stage::Agents;

/// Violations that are told in words; all are counted.
const TOLD: usize = 20;

/// Losses of a module that took the island but nothing firm with it, told in words: no plan guards against those.
const TOLD_BESIDE: usize = 3;

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Events of each strategy.
    pub events: usize,
    /// Draws them.
    pub seed: u64,
    /// Who acts in them.
    pub agents: Agents,
}

/// What came of a strategy's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replays {
    /// Replayed, by kind.
    pub events: BTreeMap<Kind, u64>,
    /// Drawn, and no moment was found at which they could happen.
    pub left: usize,
    /// Events in which something broke; of losses of a module those that ended firm runs of another one.
    pub broken: u64,
    /// Losses of a module that the island outlived.
    pub modules_outlived: u64,
    /// The first of the others in words.
    pub beside: Vec<String>,
    /// Events in which gas ran out of itself.
    pub starved: u64,
    /// The first violations in words, with their step and place.
    pub told: Vec<String>,
    /// Lowest and highest frequency of all.
    pub extremes: Option<(Frequency, Frequency)>,
    /// The longest time from a loss until the last armed feeder was open.
    pub shed: Option<Span>,
}

/// Replays a world under one strategy, and the sampled events of it beside.
pub fn run(world: &World, strategy: &Strategy, asked: &Asked) -> anyhow::Result<(Outcome, Replays)> {
    let mut sampler = Sampler::new(asked.seed, world.steps(), asked.events);
    let mut replays = Replays::default();
    let mut failed = None;
    let outcome = ::backtest::watch(world, strategy, &mut |moment| {
        for event in sampler.due(moment) {
            match stage::play(moment, &event, &asked.agents) {
                Ok(verdict) => replays.take(moment, &event, verdict),
                Err(error) => {
                    let at = place(moment, &event);
                    failed.get_or_insert_with(|| anyhow::anyhow!("{at}: {error}"));
                }
            }
        }
    })?;
    replays.left = sampler.left();
    match failed {
        Some(error) => Err(error),
        None => Ok((outcome, replays)),
    }
}

impl Replays {
    fn take(&mut self, moment: &Moment<'_>, event: &Event, verdict: judge::Verdict) {
        *self.events.entry(event.kind).or_default() += 1;
        if event.kind == Kind::Module && verdict.firm_lost == 0 {
            return self.take_module(moment, event, &verdict);
        }
        self.starved += u64::from(verdict.starved);
        self.shed = self.shed.max(verdict.shed);
        self.extremes = match (self.extremes, verdict.extremes) {
            (Some(so_far), Some(now)) => Some((so_far.0.min(now.0), so_far.1.max(now.1))),
            (so_far, now) => so_far.or(now),
        };
        if verdict.findings.is_empty() {
            return;
        }
        self.broken += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("{}: {}", place(moment, event), verdict.findings.join("; ")));
        }
    }

    /// What plans promise beside a lost module is that firm runs of the others go on; whether the island did is looked at, and stands
    /// beside.
    fn take_module(&mut self, moment: &Moment<'_>, event: &Event, verdict: &judge::Verdict) {
        if verdict.findings.is_empty() {
            self.modules_outlived += 1;
        } else if self.beside.len() < TOLD_BESIDE {
            self.beside.push(format!("{}: {}", place(moment, event), verdict.findings.join("; ")));
        }
    }
}

/// When and where, in words.
fn place(moment: &Moment<'_>, event: &Event) -> String {
    let now = moment.input.now;
    let minutes = now.millis().rem_euclid(86_400_000) / 60_000;
    format!("step {}, {} {:02}:{:02}, {event}", moment.step, day(now), minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests;
