//! What a module does against what it was told: whether its agent has taken the directive up, and whether its meter keeps to it.
//!
//! What stays apart is told to operators (`module describe`) and the module is told once more: the same directive, in answer to its
//! newest report. That heals whatever got lost on the way, and changes nothing where the agent has it already. What an agent
//! refuses stays refused, and says why.
//!
//! Assumes that each accepted report is noted, and each directive that is handed out. Pure. Read next: `term/send.rs`.

use std::collections::BTreeMap;

use model::report::{EnvelopeState, Finding, Report};
use model::{ModuleId, Span, Time, Watts};

use crate::publish::Published;

/// A directive must be acknowledged within this: it travels for 0.7 s over a satellite, is persisted, and stands in the next
/// report but one; twice that.
const ACKNOWLEDGED_WITHIN: Span = Span::secs(6);
/// A meter must lie within the ceiling after this: a regulation cycle, a miner's way to sleep of 20 s, the meter's own second; and
/// where runs give way they save, which agents answer for themselves.
const FOLLOWED_WITHIN: Span = Span::secs(60);
/// A module that stays apart is told again after this, and again: half the time after which it would be renewed anyway.
const AGAIN: Span = Span::secs(10);
/// Meters stray by 1 %, and so do miners: less than both together is no drift.
const TOLERANCE_PERMILLE: i64 = 1_020;
/// Nor is an excess below this.
const LEAST: Watts = Watts::new(500);

/// What is apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apart {
    /// The agent does not hold what it was told.
    NotTaken {
        /// The generation that it was told.
        told: u64,
        /// The one it holds.
        holds: u64,
        /// Why it refused one, if it said so.
        refused: Option<String>,
    },
    /// Its meter lies above the ceiling that it has taken.
    Above {
        /// The meter.
        meter: Watts,
        /// The ceiling.
        ceiling: Watts,
    },
}

/// One module that is apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drift {
    what: Apart,
    since: Time,
    told: Option<Time>,
    times: u32,
}

/// All modules that are apart.
#[derive(Clone, Debug, Default)]
pub struct Drifts(BTreeMap<ModuleId, Drift>);

impl Drifts {
    /// Takes in what a module reports, against what it was told last.
    pub fn note(&mut self, published: Option<&Published>, report: &Report, now: Time) {
        let Some(what) = published.and_then(|published| apart(published, report)) else {
            self.0.remove(&report.module);
            return;
        };
        let fresh = Drift { what: what.clone(), since: now, told: None, times: 0 };
        let known = self.0.entry(report.module.clone()).or_insert_with(|| fresh.clone());
        // Another directive, or another kind of trouble, has its own time.
        let same = match (&known.what, &what) {
            (Apart::NotTaken { told, .. }, Apart::NotTaken { told: now, .. }) => told == now,
            (Apart::Above { ceiling, .. }, Apart::Above { ceiling: now, .. }) => ceiling == now,
            _ => false,
        };
        *known = if same { Drift { what, ..known.clone() } } else { fresh };
    }

    /// Whether a module has been apart for so long that it is to be told again.
    pub fn is_due(&self, module: &ModuleId, now: Time) -> bool {
        self.0
            .get(module)
            .is_some_and(|drift| drift.is_late(now) && drift.told.is_none_or(|told| now.since(told) >= AGAIN))
    }

    /// The stable code of what is apart, where it has been so for long enough and was not told again yet.
    pub fn is_new(&self, module: &ModuleId, now: Time) -> Option<&'static str> {
        let drift = self.0.get(module).filter(|drift| drift.is_late(now) && drift.times == 0)?;
        Some(drift.what.code())
    }

    /// It was told again.
    pub fn told(&mut self, module: &ModuleId, now: Time) {
        if let Some(drift) = self.0.get_mut(module).filter(|drift| drift.is_late(now)) {
            drift.told = Some(now);
            drift.times = drift.times.saturating_add(1);
        }
    }

    /// What operators are told of a module; nothing while it has time left.
    pub fn finding(&self, module: &ModuleId, now: Time) -> Option<Finding> {
        let drift = self.0.get(module).filter(|drift| drift.is_late(now))?;
        let (seconds, times) = (now.since(drift.since).get() / 1_000, drift.times);
        let what = match &drift.what {
            Apart::NotTaken { told, holds, refused } => {
                let why = refused.as_deref().unwrap_or("the agent does not say why");
                format!("holds directive {holds} and not {told} ({why})")
            }
            Apart::Above { meter, ceiling } => {
                format!("draws {meter} by its meter under a ceiling of {ceiling}")
            }
        };
        let code = drift.what.code();
        let message = format!("{what} for {seconds} s; told again {times} times; look at the agent's log");
        Some(Finding { code: code.into(), subject: format!("module {module}"), message })
    }
}

impl Apart {
    fn code(&self) -> &'static str {
        match self {
            Apart::NotTaken { .. } => "directive_not_taken",
            Apart::Above { .. } => "above_ceiling",
        }
    }
}

impl Drift {
    fn is_late(&self, now: Time) -> bool {
        let within = match self.what {
            Apart::NotTaken { .. } => ACKNOWLEDGED_WITHIN,
            Apart::Above { .. } => FOLLOWED_WITHIN,
        };
        now.since(self.since) >= within
    }
}

fn apart(published: &Published, report: &Report) -> Option<Apart> {
    let held = &report.envelope;
    let mine = held.fence.epoch == published.fence.epoch && held.fence.leader == published.fence.leader;
    if !mine || held.generation != published.generation {
        let (told, holds) = (published.generation, held.generation);
        return Some(Apart::NotTaken { told, holds, refused: held.refused.clone() });
    }
    let meter = report.meter.filter(|_| held.state == EnvelopeState::Valid)?;
    let most = held.ceiling.fraction(TOLERANCE_PERMILLE, 1_000).max(held.ceiling + LEAST);
    (meter > most).then_some(Apart::Above { meter, ceiling: held.ceiling })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::BootStamp;
    use model::envelope::Fence;

    use super::*;
    use crate::grants::Allowed;
    use crate::publish::compose;
    use crate::testing::{self, module_id};

    const FENCE: Fence = Fence { epoch: 1, leader: 7, plan: 3 };

    fn published(generation: u64) -> Published {
        let site = testing::plan_with(&testing::workload("w", "t", 2).id, testing::placement("m1", 1));
        let site = site.sites.into_values().next().unwrap();
        let allowed = Allowed { ceiling: Watts::kilo(100), fallback: Watts::kilo(50) };
        let content = compose(&site, &testing::module_plan(), false, allowed, BTreeMap::new());
        let answered = BootStamp { boot_id: "boot".into(), at: Span::secs(1) };
        Published { fence: FENCE, generation, content, answered, sent: Time(0) }
    }

    /// A report of an agent that holds that generation, with a ceiling of 100 kW.
    fn report(generation: u64, meter: Option<i64>) -> Report {
        let mut report = testing::report("m1", 1);
        report.envelope.fence = FENCE;
        report.envelope.generation = generation;
        report.envelope.state = EnvelopeState::Valid;
        report.envelope.ceiling = Watts::kilo(100);
        report.meter = meter.map(Watts::new);
        report
    }

    #[test]
    fn what_is_apart_is_told_from_what_is_not() {
        let not_taken = |holds| Some(Apart::NotTaken { told: 5, holds, refused: None });
        let above = |watts| Some(Apart::Above { meter: Watts::new(watts), ceiling: Watts::kilo(100) });
        let check = |report: Report, expected: Option<Apart>| {
            assert_eq!(apart(&published(5), &report), expected, "{report:?}");
        };
        check(report(5, Some(100_000)), None);
        check(report(5, Some(102_000)), None);
        check(report(5, Some(102_001)), above(102_001));
        check(report(5, None), None);
        check(report(4, Some(200_000)), not_taken(4));
        check(report(6, None), not_taken(6));
        let mut other = report(5, None);
        other.envelope.fence.leader = 6;
        check(other, not_taken(5));
        let mut newer_plan = report(5, None);
        newer_plan.envelope.fence.plan = 9;
        check(newer_plan, None);
        let mut expired = report(5, Some(200_000));
        expired.envelope.state = EnvelopeState::Fallback;
        check(expired, None);
    }

    #[test]
    fn a_module_that_stays_apart_is_told_again_every_ten_seconds_until_it_follows() {
        let (module, told) = (module_id("m1"), published(5));
        let mut drifts = Drifts::default();
        let mut again = Vec::new();
        for second in 0..40 {
            let now = Time(second * 1_000);
            drifts.note(Some(&told), &report(4, None), now);
            if drifts.is_due(&module, now) {
                assert_eq!(drifts.is_new(&module, now).is_some(), again.is_empty(), "{second} s");
                drifts.told(&module, now);
                again.push(second);
            }
        }
        assert_eq!(again, [6, 16, 26, 36]);
        let finding = drifts.finding(&module, Time(39_000)).unwrap();
        assert_eq!(finding.code, "directive_not_taken");
        assert!(finding.message.contains("holds directive 4 and not 5"), "{finding:?}");
        assert!(finding.message.contains("for 39 s; told again 4 times"), "{finding:?}");
        drifts.note(Some(&told), &report(5, None), Time(100_000));
        assert_eq!(drifts.finding(&module, Time(200_000)), None);
        assert!(!drifts.is_due(&module, Time(200_000)));
    }

    #[test]
    fn a_new_directive_has_its_own_time_and_a_meter_has_more_of_it() {
        let module = module_id("m1");
        let mut drifts = Drifts::default();
        let mut check = |told: u64, holds: u64, meter: i64, second: i64, expected: Option<&str>| {
            let now = Time(second * 1_000);
            drifts.note(Some(&published(told)), &report(holds, Some(meter)), now);
            let code = drifts.finding(&module, now).map(|finding| finding.code);
            assert_eq!(code.as_deref(), expected, "{second} s");
        };
        check(5, 4, 0, 0, None);
        check(5, 4, 0, 6, Some("directive_not_taken"));
        check(6, 5, 0, 7, None);
        check(6, 6, 150_000, 8, None);
        check(6, 6, 140_000, 67, None);
        check(6, 6, 140_000, 68, Some("above_ceiling"));
        check(6, 6, 90_000, 69, None);
        check(6, 6, 140_000, 70, None);
        let refusal = Some("its fence is lower".to_owned());
        let mut refused = report(5, None);
        refused.envelope.refused.clone_from(&refusal);
        drifts.note(Some(&published(6)), &refused, Time(71_000));
        let finding = drifts.finding(&module, Time(90_000)).unwrap();
        assert!(finding.message.contains("(its fence is lower)"), "{finding:?}");
        drifts.note(None, &refused, Time(72_000));
        assert_eq!(drifts.finding(&module, Time(90_000)), None);
    }
}
