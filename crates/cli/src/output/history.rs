//! What happened to a site, a module or a workload: the part below what `describe` says of it.
//!
//! The table shows the last events, newest first, where a person looks; JSON has all that are kept, in their order.

use api::convert::field::optional_time;
use api::operator as wire;
use serde::Serialize;

use super::decision::reason;
use super::show::{self, maybe};
use super::table::{section, titled};
use super::{View, read};

/// Events that a table shows.
const SHOWN: usize = 10;

/// An answer with the history of what it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WithHistory<V> {
    /// What it is about.
    #[serde(flatten)]
    pub view: V,
    /// What happened to it; `null` where the controller keeps no histories.
    pub history: Option<History>,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// All that are kept, oldest first.
    pub events: Vec<Event>,
    /// Events that are no longer kept.
    pub older: u64,
    /// Events that were never written.
    pub missed: u64,
}

/// Something that happened, once or several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it happened first.
    pub at: Option<String>,
    /// When it happened last; `null` when it happened once.
    pub last: Option<String>,
    /// How often in a row.
    pub times: u32,
    /// What, as a stable code.
    pub what: String,
    /// `operator`, `tenant`, `planner`, `agent` or `controller`.
    pub who: Option<&'static str>,
    /// The operator's name, the tenant, the plan's number or the agent's module.
    pub name: Option<String>,
    /// Why, as a stable code.
    pub reason: Option<String>,
    /// Why, or what exactly, in words.
    pub text: Option<String>,
}

impl Event {
    fn who(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        maybe(self.who, |who| format!("{who}{name}"))
    }

    fn row(&self) -> Vec<String> {
        // A code that says the same twice says it once.
        let reason = self.reason.clone().filter(|reason| *reason != self.what);
        let why: Vec<String> = reason.into_iter().chain(self.text.clone()).collect();
        let times = if self.times > 1 { format!("{}x", self.times) } else { String::new() };
        let at = if self.last.is_some() { &self.last } else { &self.at };
        vec![show::moment(at), self.what.clone(), times, self.who(), why.join(": ")]
    }
}

impl<V: View> View for WithHistory<V> {
    fn table(&self) -> String {
        let Some(history) = &self.history else { return self.view.table() };
        let shown = history.events.iter().rev().take(SHOWN).map(Event::row).collect();
        let left = history.events.iter().rev().skip(SHOWN).map(|event| u64::from(event.times)).sum::<u64>();
        let notes = [
            (left, "more in --output json"),
            (history.older, "older ones are no longer kept"),
            (history.missed, "were not written: too many at once"),
        ];
        let notes =
            notes.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let notes = notes.collect::<Vec<_>>().join("; ");
        let none = if history.events.is_empty() { section("Events", "None yet.\n") } else { String::new() };
        let more = if notes.is_empty() { notes } else { format!("({notes})\n") };
        let table = titled("Events", &["LAST", "WHAT", ">TIMES", "WHO", "WHY"], shown);
        self.view.table() + &none + &table + &more
    }
}

impl From<wire::ListEventsResponse> for History {
    fn from(wire::ListEventsResponse { events, older, missed }: wire::ListEventsResponse) -> Self {
        Self { events: events.into_iter().map(Event::from).collect(), older, missed }
    }
}

impl From<wire::ObjectEvent> for Event {
    fn from(event: wire::ObjectEvent) -> Self {
        use wire::actor::Kind;
        let who = match event.who.and_then(|who| who.kind) {
            Some(Kind::Operator(name)) => Some(("operator", read::text(name))),
            Some(Kind::Tenant(id)) => Some(("tenant", Some(id))),
            Some(Kind::Planner(generation)) => Some(("planner", Some(generation.to_string()))),
            Some(Kind::Agent(module)) => Some(("agent", Some(module))),
            Some(Kind::Controller(_)) => Some(("controller", None)),
            None => None,
        };
        let (who, name) = who.map_or((None, None), |(who, name)| (Some(who), name));
        Self {
            at: read::moment(optional_time(event.at, "at")),
            last: read::moment(optional_time(event.last, "last")),
            times: event.times,
            what: event.what,
            who,
            name,
            reason: reason(event.reason),
            text: read::text(event.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use crate::output::site;

    fn shown(history: Option<History>) -> String {
        let view = site::List { sites: Vec::new() };
        WithHistory { view, history }.table()
    }

    fn event(what: &str) -> Event {
        let wire = wire::ObjectEvent { times: 1, what: what.to_owned(), ..Default::default() };
        Event::from(wire)
    }

    #[test]
    fn a_controller_without_histories_shows_none_and_one_without_events_says_so() {
        assert_eq!(shown(None), "No sites.\n");
        let empty = History { events: Vec::new(), older: 0, missed: 0 };
        assert_eq!(shown(Some(empty)), "No sites.\n\nEvents\nNone yet.\n");
    }

    #[test]
    fn a_table_has_the_last_ten_newest_first_and_says_what_it_leaves_out() {
        let events: Vec<Event> = (0..13).map(|count| event(&format!("e{count}"))).collect();
        let text = shown(Some(History { events, older: 4, missed: 2 }));
        let lines: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(lines.len(), SHOWN + 1, "{text}");
        assert!(lines[0].contains("e12") && lines[9].contains("e3"), "{text}");
        assert_eq!(
            lines[10],
            "(3 more in --output json; 4 older ones are no longer kept; 2 were not written: too many at once)"
        );
    }

    #[test]
    fn who_did_it_is_named_and_what_says_the_same_twice_is_said_once() {
        let history = History::from(samples::history());
        let rows: Vec<Vec<String>> = history.events.iter().map(Event::row).collect();
        let last = |row: usize| rows[row][3..].join(" | ");
        assert_eq!(last(0), "tenant acme | ");
        assert_eq!(last(1), "planner 17 | on module m1, start 1");
        assert_eq!(last(2), "planner 18 | for job-2");
        assert_eq!(last(3), "operator ada | unpaid");
        assert_eq!(rows[2][2], "3x");
    }
}
