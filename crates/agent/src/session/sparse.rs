//! Which reports are left out: pure. Over a satellite or a mobile network a report a second costs 70 MB a day; one that says nothing new
//! says nothing.
//!
//! A controller allows it in its welcome, and for how long at most; one that does not gets every report. What is left out lies within
//! dead-bands of the last report that was sent whole; after the time allowed a short word says so, with the meter's exact reading, on
//! which watts are given to others. Whatever people or the envelope do is told at once. Read next: `../session.rs`.

use model::report::{GensetReport, GroupReport, PoolReport, Report, RunReport, SiteReport, StorageReport};
use model::unit::Quantity;
use model::{GensetId, Span, Watts};

/// A report is sent whole at least so often: progress of runs, shares and the sets' hours are then as old as this at most.
const WHOLE_EVERY: Span = Span::secs(60);
/// After a change of the envelope every report is sent for so long: the controller waits for the meter to follow.
const LIVELY: Span = Span::secs(5);
/// Readings move by less than one part in this many: the noise of a meter of class 1.
const PART: i64 = 100;
/// Power that moves by less says nothing: a third of the kilowatt below which no ceiling is raised.
const POWER: Watts = Watts::new(300);

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Send it.
    All,
    /// Say that the last one holds, this much later.
    Unchanged(Span),
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
    /// The stamp up to which every report is sent.
    lively: Span,
}

impl Sparse {
    /// For a session that allows silence of `quiet`; `None` allows none.
    pub(super) fn new(quiet: Option<Span>) -> Self {
        Self { quiet: quiet.filter(|quiet| *quiet > Span::ZERO), told: None }
    }

    /// Judges a report; what is to be said counts as said.
    pub(super) fn judge(&mut self, report: &Report) -> Say {
        let Some(quiet) = self.quiet else { return Say::All };
        let now = report.stamp.at;
        let told = self.told.as_mut().filter(|told| {
            let whole = &told.whole;
            let recent = now - whole.stamp.at < WHOLE_EVERY && now >= told.lively;
            recent && whole.stamp.boot_id == report.stamp.boot_id && same(whole, report)
        });
        let Some(told) = told else {
            self.whole(report);
            return Say::All;
        };
        let silent = now - told.last;
        if silent < quiet {
            return Say::Nothing;
        }
        told.last = now;
        Say::Unchanged(silent)
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

/// Whether a report says what the other one said.
fn same(told: &Report, now: &Report) -> bool {
    let Report { module: _, sequence: _, stamp: _, at: _, meter, switch, groups, pools, runs, envelope, site, findings } = now;
    // Above its ceiling a module is watched closely.
    let inside = meter.is_none_or(|meter| envelope.generation == 0 || meter <= envelope.ceiling);
    inside
        && (&told.switch, &told.envelope, &told.findings) == (switch, envelope, findings)
        && near(told.meter, *meter, POWER)
        && told.groups.keys().eq(groups.keys())
        && told.groups.values().zip(groups.values()).all(|(told, now)| same_group(told, now))
        && told.pools.keys().eq(pools.keys())
        && told.pools.values().zip(pools.values()).all(|(told, now)| same_pool(told, now))
        && told.runs.keys().eq(runs.keys())
        && told.runs.values().zip(runs.values()).all(|(told, now)| same_run(told, now))
        && match (&told.site, site) {
            (Some(told), Some(now)) => same_site(told, now),
            (told, now) => told.is_none() && now.is_none(),
        }
}

fn same_group(told: &GroupReport, now: &GroupReport) -> bool {
    let rate = |group: &GroupReport| group.verified.map(|verified| verified.rate);
    (told.feeder, told.awake, told.point, told.connections) == (now.feeder, now.awake, now.point, now.connections)
        && near(told.power, now.power, POWER)
        && near(told.claimed, now.claimed, Quantity::ZERO)
        && near(rate(told), rate(now), Quantity::ZERO)
}

fn same_pool(told: &PoolReport, now: &PoolReport) -> bool {
    told.up == now.up && near(told.power, now.power, POWER)
}

/// Progress goes on by itself; what counts is where it stands and what is safe.
fn same_run(told: &RunReport, now: &RunReport) -> bool {
    (told.incarnation, told.phase, told.saved) == (now.incarnation, now.phase, now.saved)
}

fn same_site(told: &SiteReport, now: &SiteReport) -> bool {
    let same_set = |((told_id, told), (now_id, now)): ((&GensetId, &GensetReport), (&GensetId, &GensetReport))| {
        told_id == now_id && told.state == now.state && near(told.power, now.power, POWER)
    };
    told.gensets.len() == now.gensets.len()
        && told.gensets.iter().zip(&now.gensets).all(same_set)
        && near(told.frequency, now.frequency, Quantity::ZERO)
        && near(told.gas, now.gas, Quantity::ZERO)
        && near(told.buffer, now.buffer, Quantity::ZERO)
        && near(told.flared, now.flared, Quantity::ZERO)
        && near(told.load, now.load, POWER)
        && near(told.unmanaged, now.unmanaged, POWER)
        && same_storage(told.storage, now.storage)
}

fn same_storage(told: Option<StorageReport>, now: Option<StorageReport>) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => {
            told.ready == now.ready && near(told.power, now.power, POWER) && near(told.held, now.held, Quantity::ZERO)
        }
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
    use std::collections::BTreeMap;

    use model::envelope::Fence;
    use model::report::{
        EnvelopeReport, EnvelopeState, FeederState, GensetState, RunPhase, Switch, Verified,
    };
    use model::site::{Frequency, GasFlow, GasVolume};
    use model::workload::GpuTime;
    use model::{BootStamp, Hashrate, MinerGroupId, ModuleId, PoolId, Time, WorkloadId};

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
        let set = GensetReport { state: GensetState::Online, power: Some(Watts::kilo(90)), for_span: Span::secs(second) };
        let site = SiteReport {
            frequency: Some(Frequency::new(60_000)),
            gas: Some(GasFlow::mcf(600)),
            buffer: Some(GasVolume::new(1_000)),
            flared: Some(GasFlow::ZERO),
            load: Some(Watts::kilo(80)),
            unmanaged: Some(Watts::kilo(20)),
            gensets: BTreeMap::from([(GensetId::new("g1").unwrap(), set)]),
            storage: None,
        };
        Report {
            module: ModuleId::new("m").unwrap(),
            sequence: 0,
            stamp: BootStamp { boot_id: "b".into(), at: Span::secs(second) },
            at: Time(second * 1_000),
            meter: Some(Watts::kilo(40)),
            switch: Switch::Remote,
            groups: BTreeMap::from([(MinerGroupId::new("a").unwrap(), group)]),
            pools: BTreeMap::from([(PoolId::new("p").unwrap(), PoolReport { up: 1, power: Some(Watts::kilo(9)) })]),
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
    fn a_quiet_minute_is_a_few_words() {
        let said = said(0..120, Some(QUIET));
        let count = |what: fn(&Say) -> bool| said.iter().filter(|say| what(say)).count();
        // Five seconds after the envelope was new, and one after each minute since the last of them.
        assert_eq!(count(|say| *say == Say::All), 6 + 1, "{said:?}");
        assert_eq!(count(|say| matches!(say, Say::Unchanged(_))), 14);
        assert!(said.iter().all(|say| !matches!(say, Say::Unchanged(span) if *span != QUIET)));
    }

    #[test]
    fn what_matters_is_told_at_once_and_what_does_not_is_left_out() {
        let check = |change: fn(&mut Report), expected: Say| {
            let mut sparse = Sparse::new(Some(QUIET));
            for second in 0..7 {
                sparse.judge(&report(second));
            }
            let mut changed = report(8);
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
        check(|report| report.meter = Some(Watts::new(40_390)), Say::Nothing);
        check(|report| report.meter = Some(Watts::new(40_410)), Say::All);
        check(|report| report.meter = None, Say::All);
        check(|report| report.switch = Switch::Local, Say::All);
        check(|report| report.envelope.generation = 2, Say::All);
        check(|report| report.envelope.state = EnvelopeState::Fallback, Say::All);
        check(|report| group(report).awake = 9, Say::All);
        check(|report| group(report).feeder = FeederState::Open, Say::All);
        check(|report| group(report).verified.as_mut().unwrap().shares = 10, Say::Nothing);
        check(|report| group(report).verified.as_mut().unwrap().rate = Hashrate::new(980_000), Say::All);
        check(|report| report.pools.values_mut().for_each(|pool| pool.up = 0), Say::All);
        check(|report| report.runs.values_mut().for_each(|run| run.progress = GpuTime::new(1)), Say::Nothing);
        check(|report| report.runs.values_mut().for_each(|run| run.saved = GpuTime::new(1)), Say::All);
        check(|report| report.runs.clear(), Say::All);
        check(|report| set(report).state = GensetState::Tripped, Say::All);
        check(|report| set(report).for_span = Span::hours(9), Say::Nothing);
        check(|report| report.site = None, Say::All);
        check(|report| report.site.as_mut().unwrap().gas = Some(GasFlow::mcf(590)), Say::All);
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
