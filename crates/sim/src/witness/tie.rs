//! A grid tie under invariants 1 and 6: it stays within its limit and exports nothing, and every watt-second that it imports stands in
//! the ledger once, at what it cost.
//!
//! Judged by the true register and the true price, sampled once a second and kept for ten minutes; an interval that does not begin
//! or end on a sample is bounded by the samples around it. Its loss is judged in [`super::security`].

use std::collections::{BTreeMap, VecDeque};

use model::ledger::{Import, Line, Segment};
use model::site::GridTie;
use model::{MicroDollars, SiteId, Span, Time, WattSeconds, Watts};

use super::View;
use super::book::{Book, Edge, Fault, Invariant};

/// The limit may be exceeded by so much, thousandths.
const LIMIT_PERMILLE: i64 = 1_020;
/// Samples kept: ten minutes.
const KEPT: Span = Span::minutes(10);
/// What is imported stands in a sealed line after so long: 30 s of interval, 30 s until it is sealed, and a restart of the agent.
const TOLD_AFTER: Span = Span::minutes(3);
/// Both registers are cut to whole watt-seconds at both ends of an interval.
const ROUNDING: WattSeconds = WattSeconds::new(2);
/// Costs are cut to whole micro-dollars each second of an interval, of which there are 30; energy is off by [`ROUNDING`].
const CUTS: MicroDollars = MicroDollars::new(100);

#[derive(Clone, Debug, Default)]
pub(super) struct Tie {
    islands: BTreeMap<SiteId, State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    samples: VecDeque<Sample>,
    /// The end of the latest line.
    told: Option<Time>,
    over: Edge,
    untold: Edge,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    imported: WattSeconds,
    price: Option<MicroDollars>,
}

impl Tie {
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        let (Some(config), Some(now)) = (&view.island.site.grid, view.truth.grid) else { return };
        let (site, at) = (&view.island.site.id, view.truth.now);
        let state = self.islands.entry(site.clone()).or_default();
        state.samples.push_back(Sample { at, imported: now.imported, price: now.price });
        while state.samples.front().is_some_and(|sample| at - sample.at > KEPT) {
            state.samples.pop_front();
        }
        let fault = |what| Fault::new(format!("site {site} grid tie"), what);
        let over = now.power > config.import.fraction(LIMIT_PERMILLE, 1_000) || now.power < Watts::ZERO;
        let what =
            || format!("imports {}; its limit is {}, and nothing is exported", now.power, config.import);
        book.check(Invariant::Power, at, state.over.rises(over).then(|| fault(what())));
        let untold = state.untold(at);
        let rises = state.untold.rises(untold > ROUNDING);
        let what = || {
            format!(
                "{untold} were imported more than {} s ago and stand in no line",
                TOLD_AFTER.millis() / 1_000
            )
        };
        book.check(Invariant::Energy, at, rises.then(|| fault(what())));
    }

    /// A segment that was not told before.
    pub(super) fn segment(&mut self, segment: &Segment, book: &mut Book) {
        for line in &segment.lines {
            let Line::Import(line) = line else { continue };
            let state = self.islands.entry(line.site.clone()).or_default();
            for what in [state.overlap(line), state.energy(line), state.cost(line)] {
                let fault = what.map(|what| Fault::new(format!("site {} grid tie", line.site), what));
                book.check(Invariant::Energy, line.to, fault);
            }
            state.told = state.told.max(Some(line.to));
        }
    }
}

impl State {
    /// What was imported after the latest line and long enough ago to stand in one.
    fn untold(&self, now: Time) -> WattSeconds {
        let due = now - TOLD_AFTER;
        let last = self.samples.iter().rev().find(|sample| sample.at <= due);
        let from = self.told.and_then(|told| self.samples.iter().rev().find(|sample| sample.at <= told));
        let from = if self.told.is_some() { from } else { self.samples.front() };
        last.zip(from).map_or(WattSeconds::ZERO, |(last, from)| last.imported - from.imported)
    }

    fn overlap(&self, line: &Import) -> Option<String> {
        let told = self.told.filter(|told| line.from < *told || line.to <= line.from)?;
        Some(format!("the interval from {} to {} overlaps what was told up to {told}", line.from, line.to))
    }

    /// The samples around an interval, and those just inside of it.
    fn around(&self, line: &Import) -> Option<(Sample, Sample, Sample, Sample)> {
        let before = |at: Time| self.samples.iter().rev().find(|sample| sample.at <= at).copied();
        let after = |at: Time| self.samples.iter().find(|sample| sample.at >= at).copied();
        Some((before(line.from)?, after(line.from)?, before(line.to)?, after(line.to)?))
    }

    fn energy(&self, line: &Import) -> Option<String> {
        let (first, begin, end, last) = self.around(line)?;
        let least = (end.imported - begin.imported).at_least_zero() - ROUNDING;
        let most = last.imported - first.imported + ROUNDING;
        (!(least..=most).contains(&line.energy)).then(|| {
            format!(
                "its line from {} to {} says {}; between {least} and {most} were",
                line.from, line.to, line.energy
            )
        })
    }

    fn cost(&self, line: &Import) -> Option<String> {
        let (first, _, _, last) = self.around(line)?;
        let within = self.samples.iter().filter(|sample| (first.at..=last.at).contains(&sample.at));
        // Where nobody knew a price nobody knows the cost.
        let prices = within.map(|sample| sample.price).collect::<Option<Vec<_>>>()?;
        let (low, high) = (prices.iter().min()?, prices.iter().max()?);
        let least = GridTie::cost(*low, line.energy) - CUTS;
        let most = GridTie::cost(*high, line.energy) + CUTS;
        let fits = line.cost.is_some_and(|cost| (least..=most).contains(&cost));
        (!fits).then(|| {
            let said = line.cost.map_or("nothing".to_owned(), |cost| cost.to_string());
            format!("its line to {} says that it cost {said}; it was between {least} and {most}", line.to)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::*;
    use super::super::{Options, Summary, Witness};
    use super::*;
    use crate::truth::TieTruth;

    const SUBJECT: &str = "site well-7 grid tie";

    /// Five minutes of 36 kW imported at 100 dollars, of which lines of 30 s are told but for what `line` makes of them.
    fn run(kilowatts: i64, line: impl Fn(Import) -> Option<Import>) -> Summary {
        let mut fleet = fleet();
        let price = Some(MicroDollars::dollars(100));
        fleet.sites[0].grid = Some(GridTie { import: Watts::kilo(50), price });
        let mut witness = Witness::new(&fleet, Options::default());
        let mut sequence = 0;
        for second in 0..=300 {
            let mut truth = truth(second);
            let imported = Watts::kilo(36).for_span(Span::secs(second));
            truth.grid = Some(TieTruth { ready: true, power: Watts::kilo(kilowatts), imported, price });
            witness.second(&site_id(), &truth, &[]);
            if second == 0 || second % 30 != 0 {
                continue;
            }
            let (from, to) = (at(second - 30), at(second));
            let energy = Watts::kilo(36).for_span(Span::secs(30));
            let cost = Some(GridTie::cost(MicroDollars::dollars(100), energy));
            let import = line(Import { site: site_id(), from, to, energy, cost });
            if let Some(import) = import {
                sequence += 1;
                let lines = vec![Line::Import(import)];
                witness.ledger(&Segment { module: module_id(), sequence, from, to, lines });
            }
        }
        witness.finish()
    }

    #[test]
    fn honest_import_passes() {
        check(&run(36, Some), 1, &[]);
        check(&run(36, Some), 6, &[]);
    }

    #[test]
    fn more_than_the_limit_and_export_fire_once() {
        check(&run(52, Some), 1, &[SUBJECT]);
        check(&run(-1, Some), 1, &[SUBJECT]);
    }

    #[test]
    fn a_line_that_is_wrong_missing_or_told_twice_fires() {
        let first = |line: &Import| line.from == at(0);
        let energy = |line: Import| {
            let energy = if first(&line) { line.energy + WattSeconds::new(40_000) } else { line.energy };
            Some(Import { energy, ..line })
        };
        assert!(run(36, energy).verdict(6).unwrap().violations > 0);
        let free = |line: Import| Some(Import { cost: if first(&line) { None } else { line.cost }, ..line });
        check(&run(36, free), 6, &[SUBJECT]);
        let dear = |line: Import| {
            let cost = line.cost.map(|cost| if first(&line) { cost.times(2) } else { cost });
            Some(Import { cost, ..line })
        };
        check(&run(36, dear), 6, &[SUBJECT]);
        check(&run(36, |_| None), 6, &[SUBJECT]);
        let twice =
            |line: Import| Some(if line.from == at(30) { Import { from: at(0), ..line } } else { line });
        assert!(run(36, twice).verdict(6).unwrap().violations > 0);
    }
}
