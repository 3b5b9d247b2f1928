//! The ledger as Parquet files on an object store, for any engine that reads Parquet.
//!
//! Pure, and always built: [`table`] (what the tables are), [`rows`] (rows of one table, in columns), [`lines`] (ledger lines
//! become rows), [`name`] (where files lie), [`progress`] (how far it is). Behind the feature `parquet`: `file` (rows to bytes and back), `place` (what a URL
//! names), `pass` (segments become small files), `merge` (small files of an hour become one) and `task`, which does both for
//! ever. Start at `task`, then `pass`. For whoever reads the files: docs/ledger.md; why it is so: decision 0017.
//!
//! Invariant: a file is deleted only after another one that holds all its rows was put, and no file is ever changed: its name
//! says what is in it. So a crash anywhere, and two controllers that merge the same hour, leave doubles at worst, and those have
//! the same key. This crate does not know where segments come from: `ledger` is the port, the controller implements it.

pub mod ledger;
pub mod lines;
pub mod name;
pub mod progress;
pub mod rows;
pub mod state;
pub mod table;

#[cfg(feature = "parquet")]
pub mod file;
#[cfg(feature = "parquet")]
pub mod merge;
#[cfg(feature = "parquet")]
pub mod pass;
#[cfg(feature = "parquet")]
pub mod place;
#[cfg(feature = "parquet")]
pub mod task;

#[cfg(test)]
mod testing;
