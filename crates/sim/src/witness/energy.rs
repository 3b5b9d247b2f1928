//! Invariant 6, energy: the ledger's lines and `unattributed` equal the meter exactly, unattributed stays small, the meter is the
//! truth's register, no second is billed twice, and each tenant's line is within 1 % of what its runs truly drew.
//!
//! The truth is sampled once a second and kept for ten minutes. An interval that does not begin or end on a sample is bounded by the
//! samples around it, which is exact. A line older than the samples is judged without them. Read next: [`samples`].

mod samples;

use std::collections::BTreeMap;

use model::ledger::{Energy as EnergyLine, Line, Segment, Use};
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

#[derive(Clone, Debug, Default)]
pub(super) struct Energy {
    modules: BTreeMap<ModuleId, State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    samples: Samples,
    billed: Option<Time>,
}

impl Energy {
    pub(super) fn second(&mut self, view: View<'_>) {
        for (id, module) in &view.truth.modules {
            self.modules.entry(id.clone()).or_default().samples.take(view.truth.now, module);
        }
    }

    /// A segment that was not told before.
    pub(super) fn segment(&mut self, segment: &Segment, scene: &Scene, book: &mut Book) {
        if !scene.modules.contains_key(&segment.module) {
            return;
        }
        let state = self.modules.entry(segment.module.clone()).or_default();
        for line in &segment.lines {
            let Line::Energy(line) = line else { continue };
            for what in state.judge(line) {
                let subject = format!("module {} energy", segment.module);
                book.check(Invariant::Energy, line.to, what.map(|what| Fault::new(subject, what)));
            }
            for (workload, fault) in tenants(line, &state.samples) {
                let fault = fault.map(|what| Fault::new(format!("workload {workload} energy"), what));
                book.check(Invariant::Energy, line.to, fault);
            }
            state.billed = state.billed.max(Some(line.to));
        }
    }
}

impl State {
    fn judge(&self, line: &EnergyLine) -> [Option<String>; 4] {
        [total(line), unattributed(line), self.overlap(line), self.meter(line)]
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

/// Every workload that is billed or drew something, and what is wrong with its line.
fn tenants(line: &EnergyLine, samples: &Samples) -> Vec<(WorkloadId, Option<String>)> {
    let mut billed: BTreeMap<&WorkloadId, WattSeconds> =
        samples.workloads().map(|workload| (workload, WattSeconds::ZERO)).collect();
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
