//! The tables: one for each kind of line, with the types that outside readers see. docs/ledger.md prints them.
//!
//! Each table begins with its key. A change of what stands here is a new schema: raise [`SCHEMA`], and let `file.rs` read the
//! older one. Read next: `lines.rs`, which fills the tables.

/// The version of all tables; stands in each file's metadata.
pub const SCHEMA: u32 = 1;

/// A kind of ledger line, as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Energy by use: a row for each use of a line, and one for what no use explains.
    Energy,
    /// Shares that ended alike.
    Shares,
    /// Time a workload held GPUs.
    Run,
    /// Gas of a site.
    Gas,
    /// Energy bought from a grid.
    Import,
    /// Stretches that were not recorded.
    Gap,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It may be null.
    pub optional: bool,
}

/// What a column holds, and how Parquet stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, by dictionary.
    Text,
    /// INT64.
    Integer,
    /// INT64, a timestamp in milliseconds, UTC.
    Time,
    /// DECIMAL(38,0) in 16 bytes: work does not fit into 64 bits.
    Wide,
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, optional: false }
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: Kind::Integer, optional: false }
}

const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::Time, optional: false }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: Kind::Wide, optional: false }
}

impl Column {
    const fn or_null(self) -> Self {
        Self { optional: true, ..self }
    }
}

const ENERGY: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    integer("part"),
    time("from_utc"),
    time("to_utc"),
    text("used_for"),
    text("miner_group").or_null(),
    text("tenant").or_null(),
    text("workload").or_null(),
    text("gpu_pool").or_null(),
    integer("energy_ws"),
    integer("meter_ws").or_null(),
];

const SHARES: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    time("from_utc"),
    time("to_utc"),
    text("miner_group"),
    text("worker"),
    text("outcome"),
    text("outcome_code").or_null(),
    integer("shares"),
    wide("work_hashes"),
    wide("credited_hashes"),
    integer("scale"),
];

const RUN: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    time("from_utc"),
    time("to_utc"),
    text("tenant"),
    text("workload"),
    integer("incarnation"),
    integer("held_gpu_ms"),
    integer("progress_gpu_ms"),
    integer("price_microdollars_per_gpu_hour"),
    integer("cost_microdollars"),
];

const GAS: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    time("from_utc"),
    time("to_utc"),
    text("site"),
    integer("supplied_scf"),
    integer("burnt_scf"),
    integer("flared_scf"),
];

const IMPORT: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    time("from_utc"),
    time("to_utc"),
    text("site"),
    integer("energy_ws"),
    integer("cost_microdollars").or_null(),
];

const GAP: &[Column] = &[
    text("module"),
    integer("sequence"),
    integer("line"),
    time("from_utc").or_null(),
    time("to_utc"),
    text("why"),
];

impl Table {
    /// All tables.
    pub const ALL: [Self; 6] = [Self::Energy, Self::Shares, Self::Run, Self::Gas, Self::Import, Self::Gap];

    /// Its folder's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Energy => "energy",
            Self::Shares => "shares",
            Self::Run => "run",
            Self::Gas => "gas",
            Self::Import => "import",
            Self::Gap => "gap",
        }
    }

    /// Its columns in order, those of its key first.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Energy => ENERGY,
            Self::Shares => SHARES,
            Self::Run => RUN,
            Self::Gas => GAS,
            Self::Import => IMPORT,
            Self::Gap => GAP,
        }
    }

    /// How many of the first columns name a row: module, sequence, line; and for energy its part.
    pub const fn key(self) -> usize {
        match self {
            Self::Energy => 4,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_table_begins_with_its_key_and_names_no_column_twice() {
        for table in Table::ALL {
            let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
            assert!(["module", "sequence", "line", "part"].starts_with(&names[..table.key()]), "{names:?}");
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
            assert!(table.columns()[..table.key()].iter().all(|column| !column.optional));
        }
    }

    /// What outside readers rely on stands in the documents, word for word.
    #[test]
    fn the_documents_list_every_column() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ledger.md");
        let docs = std::fs::read_to_string(root).unwrap();
        for table in Table::ALL {
            let heading = format!("| `{}` |", table.name());
            let row = docs.lines().find(|line| line.starts_with(&heading) && line.contains("`module`"));
            let row = row.unwrap_or_else(|| panic!("docs/ledger.md has no row {heading}"));
            let listed: Vec<String> = row.split('`').skip(3).step_by(2).map(str::to_owned).collect();
            let optional = |column: &Column| if column.optional { "?" } else { "" };
            let columns = table.columns().iter();
            let columns: Vec<String> =
                columns.map(|column| format!("{}{}", column.name, optional(column))).collect();
            assert_eq!(listed, columns, "the row {heading} of docs/ledger.md");
        }
    }
}
