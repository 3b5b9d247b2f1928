//! Invariant 6, energy: the ledger's lines and `unattributed` equal the meter exactly, unattributed stays small, the meter is the
//! truth's register, no second is billed twice, and each tenant's line is within 1 % of what its runs truly drew.
//!
//! After a restart of its agent a module's lines go on where they ended, or a gap line says that nobody knows. The time in which
//! the agent did not run may stand in a line of its own, beside a gap line of the same interval: then nothing of it need be
//! attributed. Whatever is, is judged like the rest.
//!
//! The truth is sampled once a second and kept for ten minutes. An interval that does not begin or end on a sample is bounded by the
//! samples around it, which is exact. A line older than the samples is judged without them. Read next: [`samples`].

mod samples;

use std::collections::{BTreeMap, VecDeque};

use model::ledger::{Energy as EnergyLine, Gap, Line, Segment, Use};
use model::{ModuleId, Time, WattSeconds, WorkloadId};

use super::View;
use super::book::{Book, Fault, Invariant};
use super::scene::Scene;
use samples::{Range, Samples};

/// Most that may stay unattributed, of the meter in thousandths.
const UNATTRIBUTED_PERMILLE: i64 = 20;
/// Most by which the lines may exceed the meter, of the meter in thousandths.
const OVER_PERMILLE: i64 = 5;
/// A tenant's line may differ from the truth by so much of it, thousandths.
const TENANT_PERMILLE: i64 = 10;
/// And by so much whatever its size. Starts and stops fall between readings a second apart: a server of 8 kW swing for a quarter
/// of a second.
const FLOOR: WattSeconds = WattSeconds::new(2_000);
/// The meter's register and the truth's are cut to whole watt-seconds at both ends of an interval.
const ROUNDING: WattSeconds = WattSeconds::new(2);
/// Ends of an agent that are remembered: a segment is told within a minute, and an agent takes seconds to start.
const MAX_DOWNS: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Energy {
    modules: BTreeMap<ModuleId, State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    samples: Samples,
    billed: Option<Time>,
    /// Up to when a gap line reaches that begins where billing ended.
    told_unknown: Option<Time>,
    /// When the agent ended, the last times.
    downs: VecDeque<Time>,
}

impl Energy {
    pub(super) fn second(&mut self, view: View<'_>) {
        for (id, module) in &view.truth.modules {
            self.modules.entry(id.clone()).or_default().samples.take(view.truth.now, module);
        }
    }

    /// An agent starts or ends.
    pub(super) fn agent(&mut self, module: &ModuleId, at: Time, up: bool) {
        let state = self.modules.entry(module.clone()).or_default();
        if !up {
            state.downs.push_back(at);
        }
        if state.downs.len() > MAX_DOWNS {
            state.downs.pop_front();
        }
    }

    /// A segment that was not told before.
    pub(super) fn segment(&mut self, segment: &Segment, scene: &Scene, book: &mut Book) {
        if !scene.modules.contains_key(&segment.module) {
            return;
        }
        let state = self.modules.entry(segment.module.clone()).or_default();
        let gaps: Vec<&Gap> = segment
            .lines
            .iter()
            .filter_map(|line| match line {
                Line::Gap(gap) => Some(gap),
                _ => None,
            })
            .collect();
        for line in &segment.lines {
            match line {
                Line::Gap(gap) => state.gap(gap),
                Line::Energy(line) => state.take(line, &gaps, &segment.module, book),
                _ => {}
            }
        }
    }
}

impl State {
    fn gap(&mut self, gap: &Gap) {
        // Without a begin it says that nothing is known of all the time before.
        let reaches = gap.from.is_none_or(|from| self.billed.is_none_or(|billed| from <= billed));
        if reaches {
            self.told_unknown = self.told_unknown.max(Some(gap.to));
        }
    }

    fn take(&mut self, line: &EnergyLine, gaps: &[&Gap], module: &ModuleId, book: &mut Book) {
        let is_unread =
            self.was_down_in(line) && gaps.iter().any(|gap| gap.from == Some(line.from) && gap.to == line.to);
        for what in self.judge(line, is_unread) {
            let subject = format!("module {module} energy");
            book.check(Invariant::Energy, line.to, what.map(|what| Fault::new(subject, what)));
        }
        for (workload, fault) in tenants(line, &self.samples, is_unread) {
            let fault = fault.map(|what| Fault::new(format!("workload {workload} energy"), what));
            book.check(Invariant::Energy, line.to, fault);
        }
        self.billed = self.billed.max(Some(line.to));
    }

    fn was_down_in(&self, line: &EnergyLine) -> bool {
        self.downs.iter().any(|down| (line.from..=line.to).contains(down))
    }

    fn judge(&self, line: &EnergyLine, is_unread: bool) -> [Option<String>; 5] {
        let unattributed = if is_unread { None } else { unattributed(line) };
        [total(line), unattributed, self.overlap(line), self.missing(line), self.meter(line)]
    }

    /// What was drawn while the agent was down must not be left out in silence.
    fn missing(&self, line: &EnergyLine) -> Option<String> {
        let billed = self.billed.filter(|billed| *billed < line.from)?;
        let restarted = self.downs.iter().any(|down| (billed..=line.from).contains(down));
        let is_told = self.told_unknown.is_some_and(|told| told >= line.from);
        (restarted && !is_told).then(|| {
            format!(
                "after a restart of the agent nothing is billed from {billed} to {}, and no gap says so",
                line.from
            )
        })
    }

    fn overlap(&self, line: &EnergyLine) -> Option<String> {
        let billed = self.billed.filter(|billed| line.from < *billed || line.to <= line.from)?;
        Some(format!(
            "the interval from {} to {} overlaps what was billed up to {billed}",
            line.from, line.to
        ))
    }

    fn meter(&self, line: &EnergyLine) -> Option<String> {
        let truth = self.samples.metered(line.from, line.to)?;
        let widened = Range { least: truth.least - ROUNDING, most: truth.most + ROUNDING };
        (!widened.contains(line.meter)).then(|| {
            format!("its meter says {} from {} to {}; the truth is {truth}", line.meter, line.from, line.to)
        })
    }
}

fn total(line: &EnergyLine) -> Option<String> {
    (line.total() != line.meter)
        .then(|| format!("the lines to {} add up to {}, the meter to {}", line.to, line.total(), line.meter))
}

fn unattributed(line: &EnergyLine) -> Option<String> {
    let most = line.meter.fraction(UNATTRIBUTED_PERMILLE, 1_000).at_least_zero() + FLOOR;
    let least = -(line.meter.fraction(OVER_PERMILLE, 1_000).at_least_zero() + FLOOR);
    let fits = (least..=most).contains(&line.unattributed);
    (!fits).then(|| format!("{} of {} to {} is unattributed", line.unattributed, line.meter, line.to))
}

/// Every workload that is billed or drew something, and what is wrong with its line. Of a time that nobody read only what is
/// billed is looked at.
fn tenants(line: &EnergyLine, samples: &Samples, is_unread: bool) -> Vec<(WorkloadId, Option<String>)> {
    let drawing = samples.workloads().filter(|_| !is_unread);
    let mut billed: BTreeMap<&WorkloadId, WattSeconds> =
        drawing.map(|workload| (workload, WattSeconds::ZERO)).collect();
    for (usage, energy) in &line.uses {
        if let Use::Workload { workload, .. } = usage {
            *billed.entry(workload).or_default() += *energy;
        }
    }
    let judge = |(workload, energy): (&WorkloadId, WattSeconds)| {
        let truth = samples.drawn(workload, line.from, line.to)?;
        let tolerance = |truth: WattSeconds| truth.fraction(TENANT_PERMILLE, 1_000) + FLOOR;
        let (least, most) = (truth.least - tolerance(truth.least), truth.most + tolerance(truth.most));
        let fault = (!(least..=most).contains(&energy))
            .then(|| format!("is billed {energy} from {} to {}; it drew {truth}", line.from, line.to));
        Some((workload.clone(), fault))
    };
    billed.into_iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests;
