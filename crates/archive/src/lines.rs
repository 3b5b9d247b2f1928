//! Ledger lines become rows.
//!
//! A line lies in the hour in which it begins; shares, which have no time of their own, in that of their segment; a gap, whose
//! begin may be unknown, in the hour in which it ends. Pure. Read next: `table.rs`, `docs/ledger.md`.

use std::collections::BTreeMap;

use model::ledger::{Energy, Gap, Gas, Import, Line, Run, Segment, ShareEnd, Shares, Use};
use model::{Time, Work};

use crate::name::Partition;
use crate::rows::{Cell, Rows};
use crate::table::Table;

/// The largest number of DECIMAL(38,0). Work beyond it is cut to it: all miners of the world, at 10^21 hashes a second, would need
/// three billion years for it.
const LARGEST: u128 = 10u128.pow(38) - 1;

/// The rows of some segments by hour, in the order of their key when the segments are.
pub fn rows<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> BTreeMap<Partition, Rows> {
    let mut found = Found::default();
    for segment in segments {
        for (number, line) in segment.lines.iter().enumerate() {
            let key = [
                Cell::Text(segment.module.as_str()),
                Cell::Integer(whole(segment.sequence)),
                Cell::Integer(whole(number as u64)),
            ];
            match line {
                Line::Energy(energy) => found.add_energy(key, energy),
                Line::Shares(shares) => found.add_shares(key, segment, shares),
                Line::Run(run) => found.add_run(key, run),
                Line::Gas(gas) => found.add_gas(key, gas),
                Line::Import(import) => found.add_import(key, import),
                Line::Gap(gap) => found.add_gap(key, gap),
            }
        }
    }
    found.0
}

type Key<'a> = [Cell<'a>; 3];

#[derive(Default)]
struct Found(BTreeMap<Partition, Rows>);

impl Found {
    fn add(&mut self, table: Table, at: Time, key: Key<'_>, rest: &[Cell<'_>]) {
        let rows = self.0.entry(Partition::of(table, at)).or_insert_with(|| Rows::new(table));
        rows.push(&[&key[..], rest].concat());
    }

    /// Part 0 is what no use explains, and carries the meter, so that both columns add up over any rows.
    fn add_energy(&mut self, key: Key<'_>, energy: &Energy) {
        let unattributed = [Cell::Text("unattributed"), Cell::Null, Cell::Null, Cell::Null, Cell::Null];
        let uses = energy.uses.iter().map(|(used, amount)| (used_for(used), *amount, Cell::Null));
        let first = (unattributed, energy.unattributed, Cell::Integer(energy.meter.get()));
        for (part, (used, amount, meter)) in std::iter::once(first).chain(uses).enumerate() {
            let begin = [Cell::Integer(whole(part as u64)), at(energy.from), at(energy.to)];
            let end = [Cell::Integer(amount.get()), meter];
            self.add(Table::Energy, energy.from, key, &[&begin[..], &used, &end].concat());
        }
    }

    fn add_shares(&mut self, key: Key<'_>, segment: &Segment, shares: &Shares) {
        let (outcome, code) = outcome(&shares.end);
        let rest = [
            at(segment.from),
            at(segment.to),
            Cell::Text(shares.group.as_str()),
            Cell::Text(&shares.worker),
            Cell::Text(outcome),
            code,
            Cell::Integer(whole(shares.count)),
            wide(shares.work),
            wide(shares.credited),
            Cell::Integer(whole(shares.scale)),
        ];
        self.add(Table::Shares, segment.from, key, &rest);
    }

    fn add_run(&mut self, key: Key<'_>, run: &Run) {
        let rest = [
            at(run.from),
            at(run.to),
            Cell::Text(run.tenant.as_str()),
            Cell::Text(run.workload.as_str()),
            Cell::Integer(whole(run.incarnation)),
            Cell::Integer(run.held.get()),
            Cell::Integer(run.progress.get()),
            Cell::Integer(run.price.get()),
            Cell::Integer(run.cost().get()),
        ];
        self.add(Table::Run, run.from, key, &rest);
    }

    fn add_gas(&mut self, key: Key<'_>, gas: &Gas) {
        let rest = [
            at(gas.from),
            at(gas.to),
            Cell::Text(gas.site.as_str()),
            Cell::Integer(gas.supplied.get()),
            Cell::Integer(gas.burnt.get()),
            Cell::Integer(gas.flared.get()),
        ];
        self.add(Table::Gas, gas.from, key, &rest);
    }

    fn add_import(&mut self, key: Key<'_>, import: &Import) {
        let cost = import.cost.map_or(Cell::Null, |cost| Cell::Integer(cost.get()));
        let energy = Cell::Integer(import.energy.get());
        let rest = [at(import.from), at(import.to), Cell::Text(import.site.as_str()), energy, cost];
        self.add(Table::Import, import.from, key, &rest);
    }

    fn add_gap(&mut self, key: Key<'_>, gap: &Gap) {
        let rest = [gap.from.map_or(Cell::Null, at), at(gap.to), Cell::Text(&gap.why)];
        self.add(Table::Gap, gap.to, key, &rest);
    }
}

/// The columns `used_for`, `miner_group`, `tenant`, `workload` and `gpu_pool`.
fn used_for(used: &Use) -> [Cell<'_>; 5] {
    let null = Cell::Null;
    match used {
        Use::Mining { group } => [Cell::Text("mining"), Cell::Text(group.as_str()), null, null, null],
        Use::Workload { tenant, workload } => {
            let (tenant, workload) = (Cell::Text(tenant.as_str()), Cell::Text(workload.as_str()));
            [Cell::Text("workload"), null, tenant, workload, null]
        }
        Use::Idle { pool } => [Cell::Text("idle"), null, null, null, Cell::Text(pool.as_str())],
        Use::Auxiliary => [Cell::Text("auxiliary"), null, null, null, null],
        Use::Loss => [Cell::Text("loss"), null, null, null, null],
    }
}

/// The columns `outcome` and `outcome_code`.
fn outcome(end: &ShareEnd) -> (&'static str, Cell<'_>) {
    match end {
        ShareEnd::Rejected(code) => ("rejected", Cell::Text(code)),
        ShareEnd::Counted => ("counted", Cell::Null),
        ShareEnd::KeepAlive => ("keep_alive", Cell::Null),
        ShareEnd::Accepted => ("accepted", Cell::Null),
        ShareEnd::Refused(code) => ("refused", Cell::Text(code)),
        ShareEnd::Unknown => ("unknown", Cell::Null),
    }
}

fn at(time: Time) -> Cell<'static> {
    Cell::Integer(time.millis())
}

/// Counts of the ledger never come near 2^63; one that would is cut, not turned negative.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn wide(work: Work) -> Cell<'static> {
    Cell::Wide(work.0.min(LARGEST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::{MicroDollars, Span};

    use super::*;
    use crate::testing::{lines_of_every_kind, segment};

    /// Rows of one table as text, a line each.
    fn print(rows: &Rows) -> Vec<String> {
        let cell = |cell| match cell {
            Cell::Null => "-".to_owned(),
            Cell::Text(text) => text.to_owned(),
            Cell::Integer(value) => value.to_string(),
            Cell::Wide(value) => value.to_string(),
        };
        (0..rows.len()).map(|row| rows.row(row).map(cell).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn every_kind_of_line_becomes_rows_of_its_table() {
        let segment = segment("m1", 7, Time(1_000), lines_of_every_kind(Time(1_000)));
        let rows = rows([&segment]);
        let check = |table, expected: &[&str]| {
            assert_eq!(print(&rows[&Partition::of(table, Time(0))]), expected, "{table:?}");
        };
        check(
            Table::Energy,
            &[
                "m1 7 0 0 1000 31000 unattributed - - - - -25 1000",
                "m1 7 0 1 1000 31000 mining g - - - 500 -",
                "m1 7 0 2 1000 31000 workload - acme w1 - 300 -",
                "m1 7 0 3 1000 31000 idle - - - p 125 -",
                "m1 7 0 4 1000 31000 auxiliary - - - - 60 -",
                "m1 7 0 5 1000 31000 loss - - - - 40 -",
            ],
        );
        check(Table::Run, &["m1 7 1 1000 31000 acme w1 3 240000 200000 2500000 166666"]);
        check(Table::Gas, &["m1 7 2 1000 31000 s1 900 800 100"]);
        check(Table::Import, &["m1 7 3 1000 31000 s1 77 9", "m1 7 4 1000 31000 s1 78 -"]);
        check(Table::Gap, &["m1 7 5 - 1000 began", "m1 7 6 400 1000 killed"]);
        check(
            Table::Shares,
            &[
                "m1 7 7 1000 31000 g acc.w accepted - 3 18446744073709551616 20 4",
                "m1 7 8 1000 31000 g acc.w rejected stale 2 0 0 1",
                "m1 7 9 1000 31000 g acc.w refused duplicate 1 5 5 1",
                "m1 7 10 1000 31000 g acc.w counted - 1 5 0 1",
                "m1 7 11 1000 31000 g acc.w keep_alive - 1 5 0 1",
                "m1 7 12 1000 31000 g acc.w unknown - 1 18446744073709551615 5 1",
            ],
        );
    }

    #[test]
    fn lines_lie_in_the_hours_in_which_they_begin() {
        let before = Time(0) + Span::hours(1) - Span::secs(10);
        let mut lines = lines_of_every_kind(before);
        lines.extend(lines_of_every_kind(before + Span::secs(10)));
        let rows = rows([&segment("m1", 1, before, lines)]);
        let count =
            |table, hour| rows.get(&Partition::of(table, Time(0) + Span::hours(hour))).map_or(0, Rows::len);
        for (table, first, second) in [
            (Table::Energy, 6, 6),
            (Table::Run, 1, 1),
            (Table::Gas, 1, 1),
            (Table::Import, 2, 2),
            (Table::Gap, 2, 2),
            // By their segment's begin.
            (Table::Shares, 12, 0),
        ] {
            assert_eq!((count(table, 0), count(table, 1)), (first, second), "{table:?}");
        }
    }

    #[test]
    fn what_no_column_can_hold_is_cut_and_not_turned() {
        assert_eq!(wide(Work(LARGEST)), Cell::Wide(LARGEST));
        assert_eq!(wide(Work(u128::MAX)), Cell::Wide(LARGEST));
        assert_eq!(LARGEST.to_string(), "9".repeat(38));
        assert_eq!((whole(7), whole(u64::MAX)), (7, i64::MAX));
    }

    #[test]
    fn the_price_of_a_run_is_what_usage_shows() {
        let segment = segment("m1", 1, Time(0), lines_of_every_kind(Time(0)));
        let Some(Line::Run(run)) = segment.lines.get(1) else { panic!("the second line is a run") };
        assert_eq!(run.cost(), MicroDollars::new(166_666));
    }
}
