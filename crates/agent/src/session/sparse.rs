//! Which reports are left out: pure. Over a satellite or a mobile network a report a second costs 50 MB a day; one that says nothing new
//! need not be sent.
//!
//! A controller allows it in its welcome, and for how long at most; one that does not gets every report. What is left out lies within
//! dead-bands of the last report that was sent whole; after the time allowed a short word says so, with the meter's exact reading, on
//! which watts are given to others. What people, the envelope, runs, sets, feeders and frequency do is told at once, and so is gas
//! that falls; power and hash rates, which follow gas and plan all the time, only as often as silence is allowed, but for ten seconds
//! at least. The ledger's pages and claims of shares come in larger portions. Read next: `../session.rs`.

use std::collections::BTreeMap;

use model::report::{GroupReport, Report, SiteReport};
use model::unit::Quantity;
use model::{Span, Watts};

/// The longest silence that is kept, whatever a controller allows: half of what an idle session lives.
const MOST_QUIET: Span = Span::secs(30);
/// A report is sent whole at least so often: progress of runs, shares and the sets' hours are then as old as this at most.
const WHOLE_EVERY: Span = Span::minutes(5);
/// After a change of the envelope every reading that moves is told for so long: the controller waits for the meter to follow.
const LIVELY: Span = Span::secs(5);
/// Readings that follow the gas and the plan all the time are told at most so often, or as often as silence is allowed.
const SETTLE: Span = Span::secs(10);
/// Pages of the ledger and batches of shares are so many silences long, and a step of the planner at most.
const SILENCES: i64 = 10;
const MOST_SPACING: Span = Span::minutes(5);
/// Gas that falls by more than one part in this many is told at once: what is planned on it does not hold any more.
const GAS_PART: i64 = 20;
/// Readings move by less than one part in this many: the noise of a meter of class 1.
const PART: i64 = 100;
/// Power that moves by less says nothing: a third of the kilowatt below which no ceiling is raised.
const POWER: Watts = Watts::new(300);

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Send it.
    All,
    /// Say that the last one holds.
    Unchanged,
    /// Nothing.
    Nothing,
}

/// What the controller knows, and how long it may go without a word.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    quiet: Option<Span>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    whole: Report,
    /// The stamp of the last word.
    last: Span,
    /// The stamp up to which whatever moves is told.
    lively: Span,
}

impl Sparse {
    /// For a session that allows silence of `quiet`; `None` allows none.
    pub(super) fn new(quiet: Option<Span>) -> Self {
        let quiet = quiet.filter(|quiet| *quiet > Span::ZERO).map(|quiet| quiet.min(MOST_QUIET));
        Self { quiet, told: None }
    }

    /// How long it may go without a word.
    pub(super) fn quiet(&self) -> Span {
        self.quiet.unwrap_or(Span::ZERO)
    }

    /// How long pages of the ledger and batches of shares are; `usual` where every report is sent.
    pub(super) fn spacing(&self, usual: Span) -> Span {
        Span::new(self.quiet().get() * SILENCES).min(MOST_SPACING).max(usual)
    }

    /// What was to be said could not be: the next report is sent whole.
    pub(super) fn unsaid(&mut self) {
        self.told = None;
    }

    /// Judges a report; what is to be said counts as said.
    pub(super) fn judge(&mut self, report: &Report) -> Say {
        let Some(quiet) = self.quiet else { return Say::All };
        let now = report.stamp.at;
        let told = self.told.as_mut().filter(|told| {
            let whole = &told.whole;
            let age = now - whole.stamp.at;
            let holds =
                age < WHOLE_EVERY && whole.stamp.boot_id == report.stamp.boot_id && calm(whole, report);
            let waits = now >= told.lively && age < quiet.max(SETTLE);
            holds && (waits || steady(whole, report))
        });
        let Some(told) = told else {
            self.whole(report);
            return Say::All;
        };
        if now - told.last < quiet {
            return Say::Nothing;
        }
        told.last = now;
        Say::Unchanged
    }

    fn whole(&mut self, report: &Report) {
        let now = report.stamp.at;
        let before = self.told.as_ref();
        let lively = match before.filter(|told| told.whole.envelope == report.envelope) {
            Some(told) => told.lively,
            None => now + LIVELY,
        };
        self.told = Some(Told { whole: report.clone(), last: now, lively });
    }
}

/// Whether everything that somebody must act on at once is as it was.
fn calm(told: &Report, now: &Report) -> bool {
    // Above its ceiling a module is watched closely.
    let inside = now.meter.is_none_or(|meter| now.envelope.generation == 0 || meter <= now.envelope.ceiling);
    inside
        && (&told.switch, &told.envelope, &told.findings) == (&now.switch, &now.envelope, &now.findings)
        && told.meter.is_some() == now.meter.is_some()
        && alike(&told.groups, &now.groups, |told, now| told.feeder == now.feeder)
        && alike(&told.pools, &now.pools, |told, now| told.up == now.up)
        // Progress goes on by itself; what counts is where it stands and what is safe.
        && alike(&told.runs, &now.runs, |told, now| {
            (told.incarnation, told.phase, told.saved) == (now.incarnation, now.phase, now.saved)
        })
        && both(told.site.as_ref(), now.site.as_ref(), calm_site)
}

fn calm_site(told: &SiteReport, now: &SiteReport) -> bool {
    alike(&told.gensets, &now.gensets, |told, now| told.state == now.state)
        && near(told.frequency, now.frequency, Quantity::ZERO)
        && both(told.gas, now.gas, |told, now| now >= told - told.fraction(1, GAS_PART))
        && both(told.storage, now.storage, |told, now| told.ready == now.ready)
        && both(told.grid, now.grid, |told, now| (told.ready, told.price) == (now.ready, now.price))
}

/// Whether every reading lies within its dead-band.
fn steady(told: &Report, now: &Report) -> bool {
    let rate = |group: &GroupReport| group.verified.map(|verified| verified.rate);
    let group = |told: &GroupReport, now: &GroupReport| {
        (told.awake, told.point, told.connections) == (now.awake, now.point, now.connections)
            && near(told.power, now.power, POWER)
            && near(told.claimed, now.claimed, Quantity::ZERO)
            && near(rate(told), rate(now), Quantity::ZERO)
    };
    near(told.meter, now.meter, POWER)
        && alike(&told.groups, &now.groups, group)
        && alike(&told.pools, &now.pools, |told, now| near(told.power, now.power, POWER))
        && both(told.site.as_ref(), now.site.as_ref(), steady_site)
}

fn steady_site(told: &SiteReport, now: &SiteReport) -> bool {
    alike(&told.gensets, &now.gensets, |told, now| near(told.power, now.power, POWER))
        && near(told.gas, now.gas, Quantity::ZERO)
        && near(told.buffer, now.buffer, Quantity::ZERO)
        && near(told.flared, now.flared, Quantity::ZERO)
        && near(told.load, now.load, POWER)
        && near(told.unmanaged, now.unmanaged, POWER)
        && both(told.storage, now.storage, |told, now| {
            near(told.power, now.power, POWER) && near(told.held, now.held, Quantity::ZERO)
        })
        && both(told.grid, now.grid, |told, now| near(told.power, now.power, POWER))
}

/// Whether both name the same, and each is as it was by `same`.
fn alike<K: Ord, V>(told: &BTreeMap<K, V>, now: &BTreeMap<K, V>, same: impl Fn(&V, &V) -> bool) -> bool {
    told.keys().eq(now.keys()) && told.values().zip(now.values()).all(|(told, now)| same(told, now))
}

/// Whether both are there and the same by `same`, or neither is there.
fn both<T>(told: Option<T>, now: Option<T>, same: impl Fn(T, T) -> bool) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => same(told, now),
        (told, now) => told.is_none() && now.is_none(),
    }
}

/// Whether a reading lies within its dead-band: `least`, or one part in [`PART`]. A reading that comes or goes does not.
fn near<U>(told: Option<Quantity<U>>, now: Option<Quantity<U>>, least: Quantity<U>) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => (now - told).abs().get() <= least.get().max(told.abs().get() / PART),
        (told, now) => told.is_none() && now.is_none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use model::envelope::Fence;
    use model::report::{
        EnvelopeReport, EnvelopeState, FeederState, GensetReport, GensetState, PoolReport, RunPhase,
        RunReport, Switch, Verified,
    };
    use model::site::{Frequency, GasFlow, GasVolume};
    use model::workload::GpuTime;
    use model::{BootStamp, GensetId, Hashrate, MinerGroupId, ModuleId, PoolId, Time, WorkloadId};

    use super::*;

    const QUIET: Span = Span::secs(8);

    fn report(second: i64) -> Report {
        let verified = Verified { rate: Hashrate::new(1_000_000), shares: 9, window: Span::minutes(10) };
        let group = GroupReport {
            feeder: FeederState::Closed,
            awake: 10,
            point: 0,
            power: Some(Watts::kilo(30)),
            claimed: Some(Hashrate::new(1_000_000)),
            verified: Some(verified),
            connections: 10,
        };
        let run = RunReport {
            incarnation: 1,
            phase: RunPhase::Running,
            progress: GpuTime::new(second * 8_000),
            saved: GpuTime::ZERO,
            held: GpuTime::new(second * 8_000),
        };
        let set = GensetReport {
            state: GensetState::Online,
            power: Some(Watts::kilo(90)),
            for_span: Span::secs(second),
        };
        let site = SiteReport {
            frequency: Some(Frequency::new(60_000)),
            gas: Some(GasFlow::mcf(600)),
            buffer: Some(GasVolume::new(1_000)),
            flared: Some(GasFlow::ZERO),
            load: Some(Watts::kilo(80)),
            unmanaged: Some(Watts::kilo(20)),
            gensets: BTreeMap::from([(GensetId::new("g1").unwrap(), set)]),
            storage: None,
            grid: None,
        };
        Report {
            module: ModuleId::new("m").unwrap(),
            sequence: 0,
            stamp: BootStamp { boot_id: "b".into(), at: Span::secs(second) },
            at: Time(second * 1_000),
            meter: Some(Watts::kilo(40)),
            switch: Switch::Remote,
            groups: BTreeMap::from([(MinerGroupId::new("a").unwrap(), group)]),
            pools: BTreeMap::from([(
                PoolId::new("p").unwrap(),
                PoolReport { up: 1, power: Some(Watts::kilo(9)) },
            )]),
            runs: BTreeMap::from([(WorkloadId::new("w").unwrap(), run)]),
            envelope: EnvelopeReport {
                fence: Fence::default(),
                generation: 1,
                state: EnvelopeState::Valid,
                ceiling: Watts::kilo(50),
                refused: None,
            },
            site: Some(site),
            findings: Vec::new(),
        }
    }

    /// What is said of each second's report, from the first on.
    fn said(seconds: impl IntoIterator<Item = i64>, quiet: Option<Span>) -> Vec<Say> {
        let mut sparse = Sparse::new(quiet);
        seconds.into_iter().map(|second| sparse.judge(&report(second))).collect()
    }

    #[test]
    fn a_controller_that_allows_no_silence_gets_every_report() {
        assert_eq!(said(0..100, None), [Say::All; 100]);
        assert_eq!(said(0..100, Some(Span::ZERO)), [Say::All; 100]);
    }

    #[test]
    fn ten_quiet_minutes_are_a_few_words() {
        let said = said(0..600, Some(QUIET));
        let count = |what: fn(&Say) -> bool| said.iter().filter(|say| what(say)).count();
        // The first, and one five minutes after it.
        assert_eq!(count(|say| *say == Say::All), 2, "{said:?}");
        assert_eq!(count(|say| *say == Say::Unchanged), 37 + 37);
    }

    #[test]
    fn while_the_controller_waits_for_the_meter_each_step_of_it_is_told() {
        let mut sparse = Sparse::new(Some(QUIET));
        let mut say = |second: i64, watts: i64| {
            sparse.judge(&Report { meter: Some(Watts::new(watts)), ..report(second) })
        };
        assert_eq!(say(0, 40_000), Say::All);
        assert_eq!(say(1, 40_400), Say::Nothing, "less than a hundredth");
        assert_eq!(say(2, 39_000), Say::All);
        assert_eq!(say(3, 39_100), Say::Nothing);
        assert_eq!(say(4, 30_000), Say::All);
        assert_eq!(say(6, 31_000), Say::Nothing, "no longer waited for");
        assert_eq!(say(14, 31_000), Say::All, "ten seconds after what was told last");
    }

    #[test]
    fn portions_grow_with_the_silence_that_is_allowed() {
        let check = |quiet: i64, expected: i64| {
            let spacing = Sparse::new(Some(Span::secs(quiet))).spacing(Span::secs(30));
            assert_eq!(spacing, Span::secs(expected), "{quiet}");
        };
        check(0, 30);
        check(2, 30);
        check(8, 80);
        check(30, 300);
        assert_eq!(Sparse::new(None).spacing(Span::secs(30)), Span::secs(30));
    }

    #[test]
    fn what_matters_is_told_at_once_and_what_does_not_is_left_out() {
        let check = |change: fn(&mut Report), expected: Say| {
            let mut sparse = Sparse::new(Some(QUIET));
            for second in 0..7 {
                sparse.judge(&report(second));
            }
            let mut changed = report(7);
            change(&mut changed);
            assert_eq!(sparse.judge(&changed), expected, "{changed:?}");
        };
        // The same ten seconds after the last whole report.
        let settled = |change: fn(&mut Report), expected: Say| {
            let mut sparse = Sparse::new(Some(QUIET));
            for second in 0..15 {
                sparse.judge(&report(second));
            }
            let mut changed = report(15);
            change(&mut changed);
            assert_eq!(sparse.judge(&changed), expected, "{changed:?}");
        };
        fn group(report: &mut Report) -> &mut GroupReport {
            report.groups.values_mut().next().unwrap()
        }
        fn set(report: &mut Report) -> &mut GensetReport {
            report.site.as_mut().unwrap().gensets.values_mut().next().unwrap()
        }
        check(|_| {}, Say::Nothing);
        check(|report| report.meter = Some(Watts::new(40_410)), Say::Nothing);
        settled(|report| report.meter = Some(Watts::new(40_390)), Say::Nothing);
        settled(|report| report.meter = Some(Watts::new(40_410)), Say::All);
        check(|report| report.meter = None, Say::All);
        check(|report| report.switch = Switch::Local, Say::All);
        check(|report| report.envelope.generation = 2, Say::All);
        check(|report| report.envelope.state = EnvelopeState::Fallback, Say::All);
        check(|report| group(report).awake = 9, Say::Nothing);
        settled(|report| group(report).awake = 9, Say::All);
        check(|report| group(report).feeder = FeederState::Open, Say::All);
        check(|report| group(report).verified.as_mut().unwrap().shares = 10, Say::Nothing);
        settled(|report| group(report).verified.as_mut().unwrap().rate = Hashrate::new(980_000), Say::All);
        check(|report| report.pools.values_mut().for_each(|pool| pool.up = 0), Say::All);
        check(|report| report.runs.values_mut().for_each(|run| run.progress = GpuTime::new(1)), Say::Nothing);
        check(|report| report.runs.values_mut().for_each(|run| run.saved = GpuTime::new(1)), Say::All);
        check(|report| report.runs.clear(), Say::All);
        check(|report| set(report).state = GensetState::Tripped, Say::All);
        check(|report| set(report).for_span = Span::hours(9), Say::Nothing);
        check(|report| report.site = None, Say::All);
        check(|report| report.site.as_mut().unwrap().gas = Some(GasFlow::mcf(590)), Say::Nothing);
        settled(|report| report.site.as_mut().unwrap().gas = Some(GasFlow::mcf(590)), Say::All);
        check(|report| report.site.as_mut().unwrap().gas = Some(GasFlow::mcf(560)), Say::All);
        check(|report| report.site.as_mut().unwrap().gas = None, Say::All);
        check(|report| report.site.as_mut().unwrap().frequency = Some(Frequency::new(59_300)), Say::All);
        check(|report| report.stamp.boot_id = "c".into(), Say::All);
    }

    #[test]
    fn a_module_above_its_ceiling_is_watched_each_second() {
        let mut sparse = Sparse::new(Some(QUIET));
        for second in 0..40 {
            let above = Report { meter: Some(Watts::kilo(51)), ..report(second) };
            assert_eq!(sparse.judge(&above), Say::All, "{second}");
        }
    }
}
