//! What `backtest --replay` adds: for each strategy the events that were replayed in steps of 10 ms, and what broke.
//!
//! Read next: [`super::backtest`], which prints it below the plant; docs/backtest.md says what is judged.

use std::fmt::Write as _;

use ::backtest::events::Kind;
use serde::Serialize;

use super::show::maybe;
use super::table::{clean, titled};
use crate::backtest::Replays;

/// One strategy's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplayRow {
    /// Its name.
    pub strategy: String,
    /// Replayed: trips of the largest set, plans that took over, trips of another set, losses of the largest load.
    pub largest_set: u64,
    /// Plans that took over.
    pub moves: u64,
    /// Trips of another set.
    pub other_set: u64,
    /// Losses of the largest load.
    pub load: u64,
    /// Losses of the largest module, at its main breaker.
    pub module: u64,
    /// Of those, outlived by the island. The others are violations only where another module lost firm runs.
    pub modules_outlived: u64,
    /// The first that were not, in words.
    pub not_outlived: Vec<String>,
    /// Drawn, and never possible.
    pub not_found: usize,
    /// Events in which something broke.
    pub violations: u64,
    /// Events in which gas ran out of itself; nothing else counts there.
    pub starved: u64,
    /// Lowest frequency.
    pub lowest_millihertz: Option<i64>,
    /// Highest frequency.
    pub highest_millihertz: Option<i64>,
    /// The longest time from a loss until the last armed feeder was open.
    pub slowest_shed_milliseconds: Option<i64>,
    /// The first violations in words.
    pub first: Vec<String>,
}

impl ReplayRow {
    /// The view of a strategy's replays.
    pub fn new(strategy: &str, replays: &Replays) -> Self {
        let of = |kind| replays.events.get(&kind).copied().unwrap_or(0);
        Self {
            strategy: strategy.to_owned(),
            largest_set: of(Kind::LargestSet),
            moves: of(Kind::Move),
            other_set: of(Kind::OtherSet),
            load: of(Kind::Load),
            module: of(Kind::Module),
            modules_outlived: replays.modules_outlived,
            not_outlived: replays.beside.clone(),
            not_found: replays.left,
            violations: replays.broken,
            starved: replays.starved,
            lowest_millihertz: replays.extremes.map(|(lowest, _)| lowest.get()),
            highest_millihertz: replays.extremes.map(|(_, highest)| highest.get()),
            slowest_shed_milliseconds: replays.shed.map(|shed| shed.get()),
            first: replays.told.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let hertz = |millihertz: i64| format!("{:.2} Hz", millihertz as f64 / 1_000.0);
        vec![
            self.strategy.clone(),
            self.largest_set.to_string(),
            self.other_set.to_string(),
            self.load.to_string(),
            format!("{}/{}", self.modules_outlived, self.module),
            self.moves.to_string(),
            self.not_found.to_string(),
            self.violations.to_string(),
            self.starved.to_string(),
            maybe(self.lowest_millihertz, hertz),
            maybe(self.highest_millihertz, hertz),
            maybe(self.slowest_shed_milliseconds, |millis| format!("{millis} ms")),
        ]
    }
}

/// The table, and the violations below it.
pub fn section(rows: &[ReplayRow]) -> String {
    const EVENTS: [&str; 12] = [
        "STRATEGY",
        ">LARGEST SET",
        ">OTHER SET",
        ">LOAD",
        ">MODULES OUTLIVED",
        ">MOVES",
        ">NOT FOUND",
        ">VIOLATIONS",
        ">STARVED",
        ">LOWEST",
        ">HIGHEST",
        ">SLOWEST SHED",
    ];
    if rows.is_empty() {
        return String::new();
    }
    let mut text =
        titled("Events replayed in steps of 10 ms", &EVENTS, rows.iter().map(ReplayRow::cells).collect());
    for row in rows {
        for violation in &row.first {
            let _ = writeln!(text, "{}: {}", row.strategy, clean(violation));
        }
        for loss in &row.not_outlived {
            let _ = writeln!(text, "{}, nothing firm beside it: {}", row.strategy, clean(loss));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Span;
    use model::site::Frequency;

    use super::*;

    fn row() -> ReplayRow {
        let replays = Replays {
            events: BTreeMap::from([(Kind::LargestSet, 20), (Kind::Move, 19), (Kind::Module, 20)]),
            left: 1,
            broken: 2,
            modules_outlived: 18,
            beside: vec!["step 9: the island blacked out".into()],
            starved: 0,
            told: vec!["step 7: set g2\ntripped".into()],
            extremes: Some((Frequency::new(58_730), Frequency::new(61_400))),
            shed: Some(Span::new(160)),
        };
        ReplayRow::new("flareshift", &replays)
    }

    #[test]
    fn events_stand_beside_what_they_broke() {
        let text = section(&[row()]);
        let line = text.lines().find(|line| line.starts_with("flareshift ")).unwrap_or_default();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[1..9], ["20", "0", "0", "18/20", "19", "1", "2", "0"], "{text}");
        assert_eq!(cells[9..], ["58.73", "Hz", "61.40", "Hz", "160", "ms"], "{text}");
        assert!(text.contains("\nflareshift: step 7: set g2 tripped\n"), "one line each: {text}");
        assert!(text.contains("\nflareshift, nothing firm beside it: step 9"), "{text}");
        assert_eq!(section(&[]), "", "nothing was asked for");
    }

    #[test]
    fn what_was_never_seen_is_null() {
        let json = serde_json::to_value(ReplayRow::new("ai-only", &Replays::default())).unwrap_or_default();
        assert_eq!(
            (&json["lowest_millihertz"], &json["slowest_shed_milliseconds"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(json["violations"], 0);
    }
}
