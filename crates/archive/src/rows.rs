//! Rows of one table, in columns: added one by one, sorted and freed of doubles, and told apart by a digest.
//!
//! A text is kept once, however many rows have it; so a row of the widest table takes some 160 bytes. Pure. Read next: `lines.rs`,
//! `file.rs`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::table::{Kind, SCHEMA, Table};

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell<'a> {
    /// Nothing, where the column allows it.
    Null,
    /// Of a [`Kind::Text`].
    Text(&'a str),
    /// Of a [`Kind::Integer`] or [`Kind::Time`].
    Integer(i64),
    /// Of a [`Kind::Wide`].
    Wide(u128),
}

/// Rows of one table.
#[derive(Clone, Debug)]
pub struct Rows {
    table: Table,
    // Invariant: one for each column of the table, of its kind, all of the same length; texts are places in `texts`.
    columns: Vec<Values>,
    texts: Texts,
}

/// The values of one column.
#[derive(Clone, Debug)]
enum Values {
    Text(Vec<Option<u32>>),
    Integer(Vec<Option<i64>>),
    Wide(Vec<u128>),
}

/// Each text once.
#[derive(Clone, Debug, Default)]
struct Texts {
    all: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

/// What [`Rows::sorted`] dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows that were there twice.
    pub doubles: usize,
    /// Rows that share their key with another one and say something else. The first in order was kept. A ledger that is sound has
    /// none: a segment's number stands for its content.
    pub conflicts: usize,
}

impl Rows {
    /// No rows yet.
    pub fn new(table: Table) -> Self {
        let values = |kind| match kind {
            Kind::Text => Values::Text(Vec::new()),
            Kind::Integer | Kind::Time => Values::Integer(Vec::new()),
            Kind::Wide => Values::Wide(Vec::new()),
        };
        let columns = table.columns().iter().map(|column| values(column.kind)).collect();
        Self { table, columns, texts: Texts::default() }
    }

    /// Whose rows they are.
    pub fn table(&self) -> Table {
        self.table
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.columns[0] {
            Values::Text(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::Wide(values) => values.len(),
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row. A cell must be of its column's kind, and null only where the column allows it: anything else is a defect of ours.
    pub fn push(&mut self, row: &[Cell<'_>]) {
        assert_eq!(
            row.len(),
            self.columns.len(),
            "a row of {} has as many cells as columns",
            self.table.name()
        );
        for (column, cell) in row.iter().enumerate() {
            self.push_cell(column, *cell);
        }
    }

    /// Adds one value to one column; whoever fills columns one after the other leaves all of the same length.
    pub(crate) fn push_cell(&mut self, column: usize, cell: Cell<'_>) {
        let of = self.table.columns()[column];
        assert!(of.optional || cell != Cell::Null, "{}.{} is never null", self.table.name(), of.name);
        match (&mut self.columns[column], cell) {
            (Values::Text(values), Cell::Null) => values.push(None),
            (Values::Text(values), Cell::Text(text)) => values.push(Some(self.texts.place(text))),
            (Values::Integer(values), Cell::Null) => values.push(None),
            (Values::Integer(values), Cell::Integer(value)) => values.push(Some(value)),
            (Values::Wide(values), Cell::Wide(value)) => values.push(value),
            (_, cell) => panic!("{}.{} does not hold {cell:?}", self.table.name(), of.name),
        }
    }

    /// One value.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        match &self.columns[column] {
            Values::Text(values) => values[row].map_or(Cell::Null, |place| Cell::Text(self.texts.at(place))),
            Values::Integer(values) => values[row].map_or(Cell::Null, Cell::Integer),
            Values::Wide(values) => Cell::Wide(values[row]),
        }
    }

    /// One row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Cell<'_>> {
        (0..self.columns.len()).map(move |column| self.cell(row, column))
    }

    /// Adds the rows of another one of the same table.
    pub fn append(&mut self, other: &Rows) {
        assert_eq!(self.table, other.table, "rows of one table");
        for row in 0..other.len() {
            for column in 0..self.columns.len() {
                self.push_cell(column, other.cell(row, column));
            }
        }
    }

    /// The same rows in the order of their key, each key once. Which of two rows with one key stays depends on nothing but the
    /// rows, so that everybody who merges the same rows gets the same.
    pub fn sorted(&self) -> (Self, Dropped) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by(|a, b| self.compare(*a, *b, self.columns.len()));
        let mut sorted = Self::new(self.table);
        let mut dropped = Dropped::default();
        let mut last = None;
        for row in order {
            match last {
                Some(last) if self.compare(last, row, self.columns.len()).is_eq() => dropped.doubles += 1,
                Some(last) if self.compare(last, row, self.table.key()).is_eq() => dropped.conflicts += 1,
                _ => {
                    last = Some(row);
                    for column in 0..self.columns.len() {
                        sorted.push_cell(column, self.cell(row, column));
                    }
                }
            }
        }
        (sorted, dropped)
    }

    /// Names these rows, in this order: 16 hex digits of SHA-256 over what they say, not over how Parquet writes it, so that two
    /// versions of this program name the same rows alike.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{} {SCHEMA} {}", self.table.name(), self.len()));
        for row in 0..self.len() {
            for cell in self.row(row) {
                match cell {
                    Cell::Null => hash.update([0]),
                    Cell::Text(text) => {
                        hash.update([1]);
                        hash.update((text.len() as u64).to_le_bytes());
                        hash.update(text);
                    }
                    Cell::Integer(value) => {
                        hash.update([2]);
                        hash.update(value.to_le_bytes());
                    }
                    Cell::Wide(value) => {
                        hash.update([3]);
                        hash.update(value.to_le_bytes());
                    }
                }
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// By the first `columns` columns.
    fn compare(&self, a: usize, b: usize, columns: usize) -> Ordering {
        let mut orders = (0..columns).map(|column| self.cell(a, column).cmp(&self.cell(b, column)));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        let same = |row| self.row(row).eq(other.row(row));
        self.table == other.table && self.len() == other.len() && (0..self.len()).all(same)
    }
}

impl Texts {
    fn at(&self, place: u32) -> &str {
        &self.all[place as usize]
    }

    fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place =
            u32::try_from(self.all.len()).expect("fewer texts than an hour has rows, which is bounded");
        let text: Arc<str> = text.into();
        self.all.push(text.clone());
        self.places.insert(text, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of `gap`: sequence, line and why.
    fn gaps(rows: &[(i64, i64, &str)]) -> Rows {
        let mut gaps = Rows::new(Table::Gap);
        for (sequence, line, why) in rows {
            gaps.push(&[
                Cell::Text("m1"),
                Cell::Integer(*sequence),
                Cell::Integer(*line),
                Cell::Null,
                Cell::Integer(7),
                Cell::Text(why),
            ]);
        }
        gaps
    }

    #[test]
    fn sorting_orders_by_key_and_keeps_each_key_once() {
        let check = |rows: &[(i64, i64, &str)], expected: &[(i64, i64, &str)], doubles, conflicts| {
            let (sorted, dropped) = gaps(rows).sorted();
            assert_eq!(sorted, gaps(expected), "{rows:?}");
            assert_eq!(dropped, Dropped { doubles, conflicts }, "{rows:?}");
        };
        check(&[], &[], 0, 0);
        check(&[(10, 0, "a"), (9, 1, "b"), (9, 0, "c")], &[(9, 0, "c"), (9, 1, "b"), (10, 0, "a")], 0, 0);
        check(&[(1, 0, "a"), (1, 0, "a"), (1, 0, "a")], &[(1, 0, "a")], 2, 0);
        check(&[(1, 0, "b"), (1, 0, "a"), (1, 0, "b")], &[(1, 0, "a")], 0, 2);
    }

    #[test]
    fn a_digest_tells_rows_apart_by_what_they_say() {
        let digest = |rows: &[(i64, i64, &str)]| gaps(rows).digest();
        assert_eq!(digest(&[(1, 0, "a")]), digest(&[(1, 0, "a")]));
        assert_eq!(digest(&[(1, 0, "a")]).len(), 16);
        let others: [&[(i64, i64, &str)]; 5] =
            [&[], &[(1, 0, "b")], &[(1, 1, "a")], &[(2, 0, "a")], &[(1, 0, "a"), (2, 0, "a")]];
        for other in others {
            assert_ne!(digest(&[(1, 0, "a")]), digest(other), "{other:?}");
        }
        assert_ne!(Rows::new(Table::Gap).digest(), Rows::new(Table::Gas).digest());
    }

    #[test]
    #[should_panic(expected = "gap.why is never null")]
    fn a_null_where_none_may_be_is_a_defect() {
        let null = Cell::Null;
        let at = Cell::Integer(1);
        Rows::new(Table::Gap).push(&[Cell::Text("m"), at, at, null, at, null]);
    }

    proptest! {
        #[test]
        fn whoever_merges_the_same_rows_in_any_order_names_them_alike(
            keys in proptest::collection::vec((0i64..6, 0i64..3, "[ab]"), 0..30), split in 0usize..30,
        ) {
            let rows: Vec<(i64, i64, &str)> = keys.iter().map(|(s, l, why)| (*s, *l, why.as_str())).collect();
            let split = split.min(rows.len());
            let mut turned = gaps(&rows[split..]);
            turned.append(&gaps(&rows[..split]));
            let (first, second) = (gaps(&rows).sorted().0, turned.sorted().0);
            prop_assert_eq!(&first, &second);
            prop_assert_eq!(first.digest(), second.digest());
            prop_assert_eq!(first.sorted(), (first.clone(), Dropped::default()), "sorting again changes nothing");
        }
    }
}
