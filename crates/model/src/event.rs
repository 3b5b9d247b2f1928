//! What happened to one site, module or workload: who did what to it, when, and why. A short history of each, newest last.
//!
//! Equal events that follow each other are one event with a count, so that what flaps does not push out what matters. A history is
//! bounded in number and in bytes; what it lost is counted. The codes of [`What::as_str`] are stable: docs/events.md lists them.
//!
//! Assumes that whoever notes an event gives its time. Read next: the controller's `events.rs`, which notes and stores them.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ModuleId, TenantId};
use crate::plan::ReasonCode;
use crate::time::Time;

/// Events kept of one object: a workload's whole life is 4 to 12, a module's busy day some 20.
pub const KEPT: usize = 32;
/// And at most so many bytes of them, as [`Event::weight`] counts: a store of 10,000 modules, 2,500 sites and 5,000 workloads keeps
/// 70 MB if every history is full, 17 MB at the 8 events of 110 bytes that are usual.
pub const MAX_BYTES: usize = 4 * 1024;
/// Longest text of an event, in characters: one line on a screen.
pub const MAX_TEXT: usize = 160;
/// Longest name of a person, in characters.
pub const MAX_NAME: usize = 64;
/// What an event takes in the store beside its name and its text, in bytes: two times of 13 digits, a count, codes, JSON's names.
const OVERHEAD: usize = 110;

/// What happened. Names are stable: they stand in the store and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A workload was accepted.
    Admitted,
    /// A plan gave it a place, and its start was told.
    Placed,
    /// It runs.
    Started,
    /// It was told to stop for work that is worth more, or for a plan's sake.
    Preempted,
    /// It lost its place: power fell short, its module was drained, or it was given up for want of a link.
    Evicted,
    /// It stopped as it was told, and waits.
    Stopped,
    /// It ended without having been told to, and waits.
    Failed,
    /// Its module is out of touch.
    Unreachable,
    /// Its module is in touch again.
    Reached,
    /// Somebody asked for its end.
    EndAsked,
    /// Its GPU time is done.
    Completed,
    /// It was ended before.
    Cancelled,
    /// A site's or module's configuration is new, or was changed by a fleet file.
    Configured,
    /// A module's agent was heard for the first time.
    Online,
    /// A module's link is lost.
    Lost,
    /// It is in touch again.
    Returned,
    /// Its machine was started anew.
    Rebooted,
    /// No new run is placed on it.
    Cordoned,
    /// New runs are let onto it again.
    Uncordoned,
    /// Its runs are to be stopped.
    Draining,
    /// Nothing runs on it any more.
    Drained,
    /// Its local switch went to off, or its emergency stop latched.
    Tripped,
    /// Its local switch went elsewhere.
    Switched,
    /// Feeders of miners opened.
    Shed,
    /// It does not do what it was told.
    Drift,
    /// A generator set tripped.
    SetTripped,
    /// A tripped set was reset.
    SetReset,
    /// The grid is gone.
    GridLost,
    /// The grid is back.
    GridBack,
    /// Storage is gone.
    StorageLost,
    /// Storage is back.
    StorageBack,
}

impl What {
    /// All of them, in order.
    pub const ALL: [Self; 31] = [
        Self::Admitted,
        Self::Placed,
        Self::Started,
        Self::Preempted,
        Self::Evicted,
        Self::Stopped,
        Self::Failed,
        Self::Unreachable,
        Self::Reached,
        Self::EndAsked,
        Self::Completed,
        Self::Cancelled,
        Self::Configured,
        Self::Online,
        Self::Lost,
        Self::Returned,
        Self::Rebooted,
        Self::Cordoned,
        Self::Uncordoned,
        Self::Draining,
        Self::Drained,
        Self::Tripped,
        Self::Switched,
        Self::Shed,
        Self::Drift,
        Self::SetTripped,
        Self::SetReset,
        Self::GridLost,
        Self::GridBack,
        Self::StorageLost,
        Self::StorageBack,
    ];

    /// The stable code, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Admitted => "admitted",
            What::Placed => "placed",
            What::Started => "started",
            What::Preempted => "preempted",
            What::Evicted => "evicted",
            What::Stopped => "stopped",
            What::Failed => "failed",
            What::Unreachable => "unreachable",
            What::Reached => "reached",
            What::EndAsked => "end_asked",
            What::Completed => "completed",
            What::Cancelled => "cancelled",
            What::Configured => "configured",
            What::Online => "online",
            What::Lost => "lost",
            What::Returned => "returned",
            What::Rebooted => "rebooted",
            What::Cordoned => "cordoned",
            What::Uncordoned => "uncordoned",
            What::Draining => "draining",
            What::Drained => "drained",
            What::Tripped => "tripped",
            What::Switched => "switched",
            What::Shed => "shed",
            What::Drift => "drift",
            What::SetTripped => "set_tripped",
            What::SetReset => "set_reset",
            What::GridLost => "grid_lost",
            What::GridBack => "grid_back",
            What::StorageLost => "storage_lost",
            What::StorageBack => "storage_back",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// An operator, by the name that was given; empty where none was.
    Operator(String),
    /// A tenant.
    Tenant(TenantId),
    /// The plan of this generation; 0 before the first.
    Planner(u64),
    /// A module's agent, or the plant that it reports.
    Agent(ModuleId),
    /// The controller by its own rules, such as a link's age.
    Controller,
}

impl Who {
    /// An operator by a name that a person wrote.
    pub fn operator(name: &str) -> Self {
        Self::Operator(short(name, MAX_NAME))
    }

    /// Whether both are the same, whatever the plan's number.
    fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Who::Planner(_), Who::Planner(_))) || self == other
    }

    fn len(&self) -> usize {
        match self {
            Who::Operator(name) => name.len(),
            Who::Tenant(id) => id.as_str().len(),
            Who::Agent(id) => id.as_str().len(),
            Who::Planner(_) | Who::Controller => 0,
        }
    }
}

/// Something that happened to an object, once or several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened first.
    pub at: Time,
    /// When it happened last, if it did more than once in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// How often in a row.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// What.
    pub what: What,
    /// Who did it.
    pub who: Who,
    /// Why, as a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonCode>,
    /// Why, or what exactly, in words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

fn once() -> u32 {
    1
}

/// Takes a reference because serde asks for one.
fn is_once(times: &u32) -> bool {
    *times == 1
}

impl Event {
    /// Something that happened once.
    pub fn new(at: Time, what: What, who: Who) -> Self {
        Self { at, last: None, times: 1, what, who, reason: None, text: String::new() }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(self, reason: ReasonCode) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The same with words: one line, cut where it is too long.
    #[must_use]
    pub fn saying(self, text: &str) -> Self {
        Self { text: short(text, MAX_TEXT), ..self }
    }

    /// What it takes in the store, in bytes, as the bounds count it.
    pub fn weight(&self) -> usize {
        OVERHEAD + self.who.len() + self.text.len()
    }

    fn repeats(&self, before: &Event) -> bool {
        let Event { what, who, reason, text, .. } = before;
        self.what == *what && self.reason == *reason && self.text == *text && self.who.is(who)
    }
}

/// The latest events of one object, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Events that are no longer kept.
    #[serde(default)]
    pub older: u64,
    /// Events that were never written: too many waited, or the office was lost before.
    #[serde(default)]
    pub missed: u64,
    /// The events.
    pub events: VecDeque<Event>,
}

impl History {
    /// Notes an event; what it repeats is counted, and what no longer fits is forgotten, oldest first.
    pub fn push(&mut self, event: Event) {
        match self.events.back_mut() {
            Some(last) if event.repeats(last) => {
                last.times = last.times.saturating_add(event.times);
                last.last = Some(event.last.unwrap_or(event.at));
                // The newest plan that said so.
                last.who = event.who;
            }
            _ => self.events.push_back(event),
        }
        while self.events.len() > KEPT || (self.weight() > MAX_BYTES && self.events.len() > 1) {
            let gone = self.events.pop_front().map_or(0, |event| event.times);
            self.older = self.older.saturating_add(gone.into());
        }
    }

    /// Notes all of a later history of the same object. Where that one has forgotten some already, everything here is older still.
    pub fn extend(&mut self, later: &History) {
        if later.older > 0 {
            let gone = self.events.drain(..).map(|event| u64::from(event.times)).sum();
            self.older = self.older.saturating_add(gone);
        }
        self.older = self.older.saturating_add(later.older);
        self.missed = self.missed.saturating_add(later.missed);
        later.events.iter().cloned().for_each(|event| self.push(event));
    }

    /// What its events take in the store, in bytes, as the bounds count it.
    pub fn weight(&self) -> usize {
        self.events.iter().map(Event::weight).sum()
    }
}

/// One line of at most `most` characters.
fn short(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.trim().chars().take(most).map(plain).collect();
    if text.trim().chars().nth(most).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(at: i64, what: What, who: Who) -> Event {
        Event::new(Time(at), what, who)
    }

    fn planner(at: i64, what: What, plan: u64) -> Event {
        event(at, what, Who::Planner(plan)).because(ReasonCode::Preempted)
    }

    #[test]
    fn codes_are_the_names_in_json_and_no_two_are_alike() {
        let mut codes: Vec<&str> = What::ALL.iter().map(|what| what.as_str()).collect();
        for what in What::ALL {
            assert_eq!(serde_json::to_string(&what).unwrap(), format!("\"{what}\""));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), What::ALL.len());
        assert!(What::ALL.is_sorted());
    }

    #[test]
    fn what_repeats_itself_is_counted_and_what_differs_stands_for_itself() {
        let check = |later: Event, times: Option<u32>| {
            let mut history = History::default();
            history.push(planner(1, What::Preempted, 7));
            history.push(later.clone());
            let last = history.events.back().unwrap();
            match times {
                Some(times) => {
                    assert_eq!((history.events.len(), last.times), (1, times), "{later:?}");
                    assert_eq!((last.at, last.last), (Time(1), Some(Time(5))), "{later:?}");
                    assert_eq!(last.who, later.who);
                }
                None => assert_eq!((history.events.len(), last), (2, &later)),
            }
        };
        check(planner(5, What::Preempted, 7), Some(2));
        check(planner(5, What::Preempted, 9), Some(2));
        check(Event { times: 3, ..planner(5, What::Preempted, 9) }, Some(4));
        check(planner(5, What::Placed, 7), None);
        check(Event { reason: None, ..planner(5, What::Preempted, 7) }, None);
        check(planner(5, What::Preempted, 7).saying("for job-2"), None);
        check(event(5, What::Preempted, Who::Controller).because(ReasonCode::Preempted), None);
    }

    #[test]
    fn a_history_is_bounded_and_counts_what_it_forgot() {
        let mut history = History::default();
        for count in 0..100 {
            history.push(planner(count, if count % 2 == 0 { What::Placed } else { What::Preempted }, 1));
        }
        assert_eq!((history.events.len(), history.older), (KEPT, 100 - KEPT as u64));
        assert_eq!(history.events.back().unwrap().at, Time(99));
        // Long texts are fewer, and the newest is always there.
        let long = "ä".repeat(MAX_TEXT);
        for count in 0..KEPT as i64 {
            let who = Who::operator(&"b".repeat(MAX_NAME));
            history.push(event(count, What::ALL[count as usize % 2], who).saying(&long));
            assert!(history.weight() <= MAX_BYTES, "{}", history.weight());
        }
        assert_eq!(history.events.len(), MAX_BYTES / (OVERHEAD + MAX_NAME + 2 * MAX_TEXT));
        assert_eq!(history.older + history.events.len() as u64, 100 + KEPT as u64);
    }

    #[test]
    fn what_it_takes_in_the_store_is_what_the_bound_counts() {
        let who = || Who::operator("ada");
        let usual =
            event(1_770_854_400_000, What::StorageBack, who()).because(ReasonCode::MiningUnprofitable);
        let most = Event { last: Some(Time(1_770_854_400_000)), times: 1_000, ..usual.clone() };
        for event in [usual, most] {
            let stored = serde_json::to_string(&event).unwrap().len();
            assert!(stored <= event.weight() + 60, "{stored} bytes");
        }
        let module = ModuleId::new("well-7-mine").unwrap();
        let plain = event(1_770_854_400_000, What::Returned, Who::Agent(module));
        assert!(serde_json::to_string(&plain).unwrap().len() <= plain.weight());
    }

    #[test]
    fn histories_join_as_if_noted_one_by_one() {
        let all: Vec<Event> = (0..50)
            .map(|count| planner(count, if count % 3 == 0 { What::Placed } else { What::Preempted }, 1))
            .collect();
        let noted = |events: &[Event]| {
            let mut history = History::default();
            events.iter().cloned().for_each(|event| history.push(event));
            history
        };
        for cut in [0, 1, 2, 17, 49, 50] {
            let (early, late) = all.split_at(cut);
            let mut joined = noted(early);
            joined.extend(&History { missed: 2, ..noted(late) });
            assert_eq!(joined, History { missed: 2, ..noted(&all) }, "cut at {cut}");
        }
    }

    #[test]
    fn words_of_people_are_one_short_line() {
        let check = |text: &str, expected: &str| assert_eq!(short(text, 8), expected);
        check(" fan\nbelt ", "fan belt");
        check("a \u{1b}[2Jx", "a  [2Jx");
        check("123456789", "1234567…");
        check("", "");
    }
}
