//! What the witness writes down: for each invariant how often it looked, and what it saw broken.
//!
//! The first few violations are kept in words; all are counted. Read next: [`super`], which says who looks at what.

use std::collections::BTreeMap;
use std::fmt;

use model::Time;
use serde::Serialize;

/// An invariant of the design that the witness can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// 1: what was granted fits what there is, and what is drawn fits what was granted.
    Power,
    /// 2: the loss of one set takes neither the island nor firm work.
    Security,
    /// 3: no planned move breaks a limit of the sets.
    Genset,
    /// 4: one leader writes; agents never follow a lower fence.
    Writer,
    /// 5: every share has one end.
    Shares,
    /// 6: the ledger's energy is the meter's, and tenants pay for what they drew.
    Energy,
    /// 7: nothing reverses within its dwell by choice.
    Thrash,
    /// 8: a lost link leaves envelope and fallback in force, and nothing runs twice.
    Link,
    /// 9: no record is lost or repeated.
    Crash,
    /// 10: the same input gives the same plan.
    Determinism,
    /// 12: meters that contradict each other are flagged.
    Meters,
}

impl Invariant {
    /// All of them, in the design's order.
    pub const ALL: [Invariant; 11] = [
        Invariant::Power,
        Invariant::Security,
        Invariant::Genset,
        Invariant::Writer,
        Invariant::Shares,
        Invariant::Energy,
        Invariant::Thrash,
        Invariant::Link,
        Invariant::Crash,
        Invariant::Determinism,
        Invariant::Meters,
    ];

    /// The design's number.
    pub const fn number(self) -> u8 {
        match self {
            Invariant::Power => 1,
            Invariant::Security => 2,
            Invariant::Genset => 3,
            Invariant::Writer => 4,
            Invariant::Shares => 5,
            Invariant::Energy => 6,
            Invariant::Thrash => 7,
            Invariant::Link => 8,
            Invariant::Crash => 9,
            Invariant::Determinism => 10,
            Invariant::Meters => 12,
        }
    }

    /// The design's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::Power => "power",
            Invariant::Security => "n-1",
            Invariant::Genset => "genset",
            Invariant::Writer => "one writer",
            Invariant::Shares => "shares",
            Invariant::Energy => "energy",
            Invariant::Thrash => "no thrash",
            Invariant::Link => "lost link",
            Invariant::Crash => "crash",
            Invariant::Determinism => "determinism",
            Invariant::Meters => "honest meters",
        }
    }
}

/// One breach of an invariant, or one false alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The design's number of the invariant.
    pub invariant: u8,
    /// When it was seen, simulated time.
    pub at: Time,
    /// Whose, e.g. `module m1 group a`.
    pub subject: String,
    /// What was seen, and what should have been.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} broken at {} by {}: {}", self.invariant, self.at, self.subject, self.what)
    }
}

/// What became of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The design's number.
    pub invariant: u8,
    /// The design's name.
    pub name: &'static str,
    /// How often it was looked at. Zero = nobody looked, which proves nothing.
    pub checks: u64,
    /// How often it was broken.
    pub violations: u64,
    /// The first violations.
    pub first: Vec<Violation>,
    /// How often something honest was flagged; no breach, but a nuisance.
    pub false_alarms: u64,
    /// The first false alarms.
    pub alarms: Vec<Violation>,
}

/// What became of all invariants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// In the design's order.
    pub verdicts: Vec<Verdict>,
}

impl Summary {
    /// Violations of all invariants together.
    pub fn violations(&self) -> u64 {
        self.verdicts.iter().map(|verdict| verdict.violations).sum()
    }

    /// Whether no invariant was broken. Silence is not soundness: false when nothing was looked at. Of what
    /// [`Self::not_looked_at`] lists it says nothing.
    pub fn is_sound(&self) -> bool {
        self.violations() == 0 && self.verdicts.iter().any(|verdict| verdict.checks > 0)
    }

    /// The numbers of the invariants that were never looked at.
    pub fn not_looked_at(&self) -> Vec<u8> {
        let silent = self.verdicts.iter().filter(|verdict| verdict.checks == 0);
        silent.map(|verdict| verdict.invariant).collect()
    }

    /// The verdict on the invariant of that number.
    pub fn verdict(&self, number: u8) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.invariant == number)
    }
}

/// What is wrong, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) subject: String,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(subject: String, what: String) -> Self {
        Self { subject, what }
    }
}

/// Turns a state into an event: true once when it begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge(bool);

impl Edge {
    pub(super) fn rises(&mut self, state: bool) -> bool {
        let before = std::mem::replace(&mut self.0, state);
        state && !before
    }
}

#[derive(Clone, Debug, Default)]
struct Page {
    checks: u64,
    violations: u64,
    first: Vec<Violation>,
    false_alarms: u64,
    alarms: Vec<Violation>,
}

/// The record that all checkers write to.
#[derive(Clone, Debug)]
pub(super) struct Book {
    keep: usize,
    pages: BTreeMap<Invariant, Page>,
}

impl Book {
    /// A record that keeps `keep` violations of each invariant in words.
    pub(super) fn new(keep: usize) -> Self {
        Self { keep, pages: BTreeMap::new() }
    }

    /// One look at an invariant, and what was wrong.
    pub(super) fn check(&mut self, invariant: Invariant, at: Time, fault: Option<Fault>) {
        let page = self.pages.entry(invariant).or_default();
        page.checks += 1;
        if let Some(fault) = fault {
            page.violations += 1;
            keep(&mut page.first, self.keep, invariant, at, fault);
        }
    }

    /// Something honest was flagged.
    pub(super) fn alarm(&mut self, invariant: Invariant, at: Time, fault: Fault) {
        let page = self.pages.entry(invariant).or_default();
        page.false_alarms += 1;
        keep(&mut page.alarms, self.keep, invariant, at, fault);
    }

    pub(super) fn summary(&self) -> Summary {
        let verdict = |invariant: Invariant| {
            let page = self.pages.get(&invariant).cloned().unwrap_or_default();
            let Page { checks, violations, first, false_alarms, alarms } = page;
            let (number, name) = (invariant.number(), invariant.name());
            Verdict { invariant: number, name, checks, violations, first, false_alarms, alarms }
        };
        Summary { verdicts: Invariant::ALL.map(verdict).into() }
    }
}

fn keep(kept: &mut Vec<Violation>, most: usize, invariant: Invariant, at: Time, fault: Fault) {
    if kept.len() < most {
        let Fault { subject, what } = fault;
        kept.push(Violation { invariant: invariant.number(), at, subject, what });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut book = Book::new(2);
        for second in 0..5 {
            let fault = Fault::new(format!("module m{second}"), "too much".into());
            book.check(Invariant::Power, Time(second), Some(fault));
            book.check(Invariant::Meters, Time(second), None);
        }
        book.alarm(Invariant::Meters, Time(9), Fault::new("group a".into(), "honest".into()));
        let summary = book.summary();
        let power = summary.verdict(1).unwrap();
        assert_eq!((power.checks, power.violations, power.first.len()), (5, 5, 2));
        assert_eq!(power.first[1].subject, "module m1");
        let meters = summary.verdict(12).unwrap();
        assert_eq!((meters.checks, meters.violations, meters.false_alarms), (5, 0, 1));
        assert_eq!(summary.verdict(2).map(|verdict| verdict.checks), Some(0), "nobody looked, and it shows");
        assert_eq!((summary.violations(), summary.is_sound()), (5, false));
        assert_eq!(summary.not_looked_at(), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn silence_is_not_soundness() {
        let mut book = Book::new(2);
        assert!(!book.summary().is_sound(), "nobody looked at anything");
        book.check(Invariant::Power, Time(1), None);
        assert!(book.summary().is_sound());
        assert_eq!(book.summary().not_looked_at().len(), Invariant::ALL.len() - 1);
    }

    #[test]
    fn a_state_is_told_once_when_it_begins() {
        let mut edge = Edge::default();
        let told: Vec<bool> = [false, true, true, false, true].map(|state| edge.rises(state)).into();
        assert_eq!(told, [false, true, false, false, true]);
    }
}
