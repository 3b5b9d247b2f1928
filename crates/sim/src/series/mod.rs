//! Real series to replay: prices, difficulty, jobs, from CSV files that a user can bring himself.
//!
//! Columns are found by the names in the header, in any order; others are ignored. Files are bounded ([`MAX_ROWS`],
//! [`MAX_BYTES`]), and every error names file, line and column, what was expected, and what was found. Formats: [`daily`] and
//! [`jobs`].

pub mod daily;
pub mod jobs;

use std::path::{Path, PathBuf};

/// Most rows of a file: a year of rows a minute is 525,600; twice that.
pub const MAX_ROWS: usize = 1_000_000;
/// Most bytes of a file: [`MAX_ROWS`] of 128 bytes.
pub const MAX_BYTES: u64 = 128_000_000;
/// Most characters of a cell that an error repeats.
const SHOWN: usize = 40;

/// Why a series could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}; check that it exists and may be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than any series we replay.
    #[error("{} is larger than {MAX_BYTES} bytes or {MAX_ROWS} rows; cut it to the span to be replayed", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The header lacks a column.
    #[error("{}: line 1: no column is called {column:?}; the header needs {}", path.display(), needed.join(","))]
    MissingColumn {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        column: &'static str,
        /// All that are needed.
        needed: &'static [&'static str],
    },
    /// A row cannot be split.
    #[error("{}: line {line}: the row has {found} cells, the header {expected}; check quotes and commas", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Cells in it.
        found: u64,
        /// Cells of the header.
        expected: u64,
    },
    /// The text is no CSV in UTF-8.
    #[error("{}: line {line}: not CSV in UTF-8; save the file as such", path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1; 0 when unknown.
        line: u64,
    },
    /// A cell does not hold what its column says.
    #[error("{}: line {line}, column {column} ({name}): expected {expected}, found {found:?}", path.display())]
    Cell {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Which column, from 1.
        column: usize,
        /// Its name.
        name: &'static str,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// No row at all.
    #[error("{} has a header but no rows; add at least one", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads a whole file within its bound.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        Error::Text { path: path.into(), line: lines as u64 + 1 }
    })
}

/// A table whose columns were found by name.
pub(crate) struct Table<'a> {
    path: &'a Path,
    reader: csv::Reader<&'a [u8]>,
    needed: &'static [&'static str],
    columns: Vec<usize>,
}

/// One row of a [`Table`].
pub(crate) struct Row<'a> {
    path: &'a Path,
    line: u64,
    record: csv::StringRecord,
    needed: &'static [&'static str],
    columns: Vec<usize>,
}

impl<'a> Table<'a> {
    /// Finds the `needed` columns in the header of `text`.
    pub(crate) fn new(path: &'a Path, text: &'a str, needed: &'static [&'static str]) -> Result<Self, Error> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| csv_error(path, &error))?.clone();
        let find = |column: &'static str| {
            let place = header.iter().position(|name| name.trim_start_matches('\u{feff}') == column);
            place.ok_or_else(|| Error::MissingColumn { path: path.into(), column, needed })
        };
        let columns = needed.iter().map(|column| find(column)).collect::<Result<_, _>>()?;
        Ok(Self { path, reader, needed, columns })
    }

    /// Reads every row with `parse`.
    pub(crate) fn rows<T>(
        mut self,
        mut parse: impl FnMut(&Row<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut parsed = Vec::new();
        for record in self.reader.records() {
            let record = record.map_err(|error| csv_error(self.path, &error))?;
            if parsed.len() == MAX_ROWS {
                return Err(Error::TooLarge { path: self.path.into() });
            }
            let line = record.position().map_or(0, csv::Position::line);
            let (needed, columns) = (self.needed, self.columns.clone());
            parsed.push(parse(&Row { path: self.path, line, record, needed, columns })?);
        }
        if parsed.is_empty() {
            return Err(Error::Empty { path: self.path.into() });
        }
        Ok(parsed)
    }
}

impl Row<'_> {
    /// The cell of the needed column number `index`.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.record.get(self.columns[index]).unwrap_or_default()
    }

    /// That cell through `parse`; an error says that `expected` was expected.
    pub(crate) fn cell<T>(
        &self,
        index: usize,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        parse(self.text(index)).ok_or_else(|| Error::Cell {
            path: self.path.into(),
            line: self.line,
            column: self.columns[index] + 1,
            name: self.needed[index],
            expected,
            found: self.text(index).chars().take(SHOWN).collect(),
        })
    }
}

fn csv_error(path: &Path, error: &csv::Error) -> Error {
    let path = path.into();
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::Row { path, line, found: *len, expected: *expected_len }
        }
        _ => Error::Text { path, line },
    }
}
