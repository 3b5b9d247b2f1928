//! True energy registers of one module over the last ten minutes, and what lies between two times.
//!
//! Registers only rise, so that at any time they lie between the samples around it. Runs are kept only when they changed: ended
//! ones cost nothing. [`super`] holds the ledger against it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use model::{Span, Time, WattSeconds, WorkloadId};

use crate::truth::ModuleTruth;

/// How long samples are kept.
const KEPT: Span = Span::minutes(10);
/// Most samples: one a second for [`KEPT`], and the one before.
const MAX_SAMPLES: usize = 602;

/// Energies over time; oldest first.
type Track = VecDeque<(Time, WattSeconds)>;

/// The samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    meter: Track,
    // Invariant: each begins with the last value before the oldest sample of `meter`, if there was one.
    runs: BTreeMap<WorkloadId, BTreeMap<u64, Track>>,
}

/// What an energy is at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: WattSeconds,
    pub(super) most: WattSeconds,
}

impl Range {
    pub(super) fn contains(&self, energy: WattSeconds) -> bool {
        (self.least..=self.most).contains(&energy)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most { self.least.fmt(f) } else { write!(f, "{} to {}", self.least, self.most) }
    }
}

impl Samples {
    /// Takes one second of the module.
    pub(super) fn take(&mut self, now: Time, module: &ModuleTruth) {
        self.meter.push_back((now, module.total.energy));
        let old = now - KEPT;
        while self.meter.front().is_some_and(|(at, _)| *at < old) || self.meter.len() > MAX_SAMPLES {
            self.meter.pop_front();
        }
        for ((workload, incarnation), run) in &module.runs {
            let energy = run.ai.energy;
            let known = self.runs.get_mut(workload).and_then(|runs| runs.get_mut(incarnation));
            match known {
                Some(track) if track.back().is_some_and(|(_, last)| *last == energy) => {}
                Some(track) => track.push_back((now, energy)),
                None => {
                    let track =
                        self.runs.entry(workload.clone()).or_default().entry(*incarnation).or_default();
                    track.push_back((now, energy));
                }
            }
        }
        // Once a minute is often enough to forget, and spares the other seconds the walk.
        if now.floor_to(Span::minutes(1)) == now || self.meter.len() == 1 {
            self.forget(old, module);
        }
    }

    /// Workloads with energy on record.
    pub(super) fn workloads(&self) -> impl Iterator<Item = &WorkloadId> {
        self.runs.keys()
    }

    /// What the module drew between two times; `None` outside the samples.
    pub(super) fn metered(&self, from: Time, to: Time) -> Option<Range> {
        let ((a, b), (c, d)) = (self.around(from)?, self.around(to)?);
        let at = |time| value(&self.meter, time);
        Some(Range { least: at(c) - at(b), most: at(d) - at(a) })
    }

    /// What a workload's runs drew between two times; `None` outside the samples.
    pub(super) fn drawn(&self, workload: &WorkloadId, from: Time, to: Time) -> Option<Range> {
        let ((a, b), (c, d)) = (self.around(from)?, self.around(to)?);
        let runs = || self.runs.get(workload).into_iter().flat_map(BTreeMap::values);
        let at = |time: Time| -> WattSeconds { runs().map(|track| value(track, time)).sum() };
        Some(Range { least: (at(c) - at(b)).at_least_zero(), most: at(d) - at(a) })
    }

    /// The times of the samples at or before, and at or after `time`.
    fn around(&self, time: Time) -> Option<(Time, Time)> {
        let after = self.meter.partition_point(|(at, _)| *at < time);
        let (next, _) = *self.meter.get(after)?;
        if next == time {
            return Some((time, time));
        }
        let (before, _) = *self.meter.get(after.checked_sub(1)?)?;
        Some((before, next))
    }

    /// Forgets what lies before `old`, but for the last value before it; and runs that ended before it and are shown no more.
    fn forget(&mut self, old: Time, module: &ModuleTruth) {
        for (workload, runs) in &mut self.runs {
            for track in runs.values_mut() {
                while track.get(1).is_some_and(|(at, _)| *at <= old) {
                    track.pop_front();
                }
            }
            let is_shown = |incarnation: u64| module.runs.contains_key(&(workload.clone(), incarnation));
            runs.retain(|incarnation, track| {
                track.back().is_some_and(|(at, _)| *at > old) || is_shown(*incarnation)
            });
        }
        self.runs.retain(|_, runs| !runs.is_empty());
    }
}

/// The last value at or before `time`; zero before the first: a run that begins has drawn nothing.
fn value(track: &Track, time: Time) -> WattSeconds {
    let after = track.partition_point(|(at, _)| *at <= time);
    let index = after.checked_sub(1);
    index.and_then(|index| track.get(index)).map_or(WattSeconds::ZERO, |(_, energy)| *energy)
}
