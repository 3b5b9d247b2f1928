//! One interval of the book: what is added up between two readings of the register, and the lines it becomes.
//!
//! Plain data that can be written down, so that an interval survives the process that began it. Read next: [`super::tabs`].

use std::collections::BTreeMap;

use control::port::Slow;
use model::ledger::{Energy, Gas, Import, Line, Run, Use};
use model::report::SiteReport;
use model::site::{GasVolume, GridTie};
use model::workload::GpuTime;
use model::{MicroDollars, SiteId, Span, Time, WattSeconds, WorkloadId};
use serde::{Deserialize, Serialize};

use super::Owner;

/// GPU time of runs, by workload and incarnation: held, and progress.
pub type GpuTimes = BTreeMap<(WorkloadId, u64), (GpuTime, GpuTime)>;

/// What is being added up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Its begin.
    pub from: Time,
    /// The reading it has come to.
    pub to: Time,
    /// The meter's register at its begin.
    pub begin: Option<WattSeconds>,
    /// And at `to`.
    pub end: Option<WattSeconds>,
    #[serde(with = "pairs")]
    uses: BTreeMap<Use, WattSeconds>,
    #[serde(with = "pairs")]
    runs: GpuTimes,
    gas: Option<GasSums>,
    #[serde(default)]
    import: Option<ImportSums>,
}

/// What the grid tie of a site imported in an interval, where the module reads its meter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct ImportSums {
    begin: WattSeconds,
    end: WattSeconds,
    /// `None` once anything was imported at a price that nobody knew.
    cost: Option<MicroDollars>,
}

/// Gas of an interval, where the module reads the site.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct GasSums {
    supplied: GasVolume,
    flared: GasVolume,
    /// What the buffer held at the begin.
    begin: GasVolume,
    end: GasVolume,
}

impl Page {
    /// A page that begins with the readings of `from`.
    pub fn begin(from: Time, slow: &Slow) -> Self {
        Self {
            from,
            to: from,
            begin: slow.register,
            end: slow.register,
            uses: BTreeMap::new(),
            runs: BTreeMap::new(),
            gas: slow.site.as_ref().map(GasSums::begin),
            import: slow.site.as_ref().and_then(ImportSums::begin),
        }
    }

    /// Adds the energy of uses.
    pub fn add_uses(&mut self, uses: BTreeMap<Use, WattSeconds>) {
        uses.into_iter().for_each(|(usage, energy)| *self.uses.entry(usage).or_default() += energy);
    }

    /// Adds GPU time.
    pub fn add_runs(&mut self, runs: GpuTimes) {
        for (run, (held, progress)) in runs {
            let sums = self.runs.entry(run).or_default();
            sums.0 += held;
            sums.1 += progress;
        }
    }

    /// Goes on to the readings of `now`; `before` are those of `dt` ago.
    pub fn reach(&mut self, now: Time, slow: &Slow, before: &Slow, dt: Span) {
        (self.to, self.end) = (now, slow.register);
        if let Some(gas) = &mut self.gas {
            gas.add(before.site.as_ref(), slow.site.as_ref(), dt);
        }
        if let Some(import) = &mut self.import {
            import.add(before.site.as_ref(), slow.site.as_ref());
        } else {
            self.import = slow.site.as_ref().and_then(ImportSums::begin);
        }
    }

    /// A defect on request: forgets half of what tenants drew.
    pub fn forget_half_of_the_tenants(&mut self) {
        let tenants = self.uses.iter_mut().filter(|(usage, _)| matches!(usage, Use::Workload { .. }));
        tenants.for_each(|(_, energy)| *energy = energy.fraction(1, 2));
    }

    /// The lines of the interval; none of an empty one.
    pub fn close(self, site: &SiteId, owners: &BTreeMap<WorkloadId, Owner>) -> Vec<Line> {
        let Self { from, to, begin, end, uses, runs, gas, import } = self;
        if to <= from {
            return Vec::new();
        }
        // Without both registers nobody knows what the meter counted: no energy line, rather than an invented one.
        let counted = begin.zip(end).map(|(begin, end)| end - begin);
        let energy = counted.map(|meter| Line::Energy(Energy::attribute(from, to, meter, uses)));
        let gas = gas.map(|gas| Line::Gas(gas.line(site, from, to)));
        let import = import.map(|import| Line::Import(import.line(site, from, to)));
        energy.into_iter().chain(run_lines(runs, owners, from, to)).chain(gas).chain(import).collect()
    }
}

impl ImportSums {
    fn begin(site: &SiteReport) -> Option<Self> {
        let register = site.grid?.register?;
        Some(Self { begin: register, end: register, cost: Some(MicroDollars::ZERO) })
    }

    /// What the meter counted since the reading `before`, at the price that held then.
    fn add(&mut self, before: Option<&SiteReport>, after: Option<&SiteReport>) {
        // A meter that is silent for a second is read again in the next.
        let Some(register) = after.and_then(|site| site.grid?.register) else { return };
        let counted = register - self.end;
        let price = before.and_then(|site| site.grid?.price);
        if counted != WattSeconds::ZERO {
            let cost = price.map(|price| GridTie::cost(price, counted));
            self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
        }
        self.end = register;
    }

    fn line(self, site: &SiteId, from: Time, to: Time) -> Import {
        let Self { begin, end, cost } = self;
        Import { site: site.clone(), from, to, energy: end - begin, cost }
    }
}

impl GasSums {
    fn begin(site: &SiteReport) -> Self {
        let buffer = site.buffer.unwrap_or_default();
        Self { supplied: GasVolume::ZERO, flared: GasVolume::ZERO, begin: buffer, end: buffer }
    }

    fn add(&mut self, before: Option<&SiteReport>, after: Option<&SiteReport>, dt: Span) {
        if let Some(site) = before {
            self.supplied += site.gas.unwrap_or_default().for_span(dt);
            self.flared += site.flared.unwrap_or_default().for_span(dt);
        }
        self.end = after.and_then(|site| site.buffer).unwrap_or(self.end);
    }

    fn line(self, site: &SiteId, from: Time, to: Time) -> Gas {
        let Self { supplied, flared, begin, end } = self;
        let burnt = (supplied - flared - (end - begin)).at_least_zero();
        Gas { site: site.clone(), from, to, supplied, burnt, flared }
    }
}

/// Lines of GPU time. A run whose owner is not known has none.
pub fn run_lines(
    runs: GpuTimes,
    owners: &BTreeMap<WorkloadId, Owner>,
    from: Time,
    to: Time,
) -> impl Iterator<Item = Line> {
    let held = runs.into_iter().filter(|(_, (held, _))| *held > GpuTime::ZERO);
    held.filter_map(move |((workload, incarnation), (held, progress))| {
        let Owner { tenant, price, by_progress, .. } = owners.get(&workload)?.clone();
        Some(Line::Run(Run { tenant, workload, incarnation, from, to, held, progress, price, by_progress }))
    })
}

/// Maps whose keys JSON cannot have, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}
