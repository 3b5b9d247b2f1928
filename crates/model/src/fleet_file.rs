//! The fleet file: text in, a checked [`Fleet`] or a place and a reason out.
//!
//! Simulator, controller and agent read the same file; this is the one way to read it, so that a file which one of them takes
//! none of the others refuses. Assumes that the caller opens the file (this crate does no I/O) and reads no more than
//! [`MAX_BYTES`] and one byte of it. Read next: [`crate::fleet`] for what is checked, docs/fleet.md for the keys.

use std::path::{Path, PathBuf};

use crate::fleet::Fleet;
use crate::report::Finding;

/// Longest description: ten thousand modules of 4 KiB.
pub const MAX_BYTES: u64 = 40_960_000;
/// Most of the offending line that a message quotes: what fits a terminal beside the rest.
const QUOTE_CHARS: usize = 60;

/// Why a description is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read; made by whoever opens it.
    #[error("cannot read the fleet file {}; check that it exists and may be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is longer than any fleet.
    #[error("{} is larger than {MAX_BYTES} bytes; is it a fleet description?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It is no TOML, or not of the form of a fleet.
    #[error("{}: line {line}, column {column}, at `{quote}`: {message}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which column, from 1.
        column: usize,
        /// The beginning of that line: the key and its value, or the table's header.
        quote: String,
        /// What is wrong there.
        message: String,
    },
    /// It reads well and describes something that cannot be, or that the reader does not take.
    #[error("{}", lines(path, findings))]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
}

/// Parses and checks the text of a description; `path` is for messages.
pub fn parse(path: &Path, text: &str) -> Result<Fleet, Error> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    let fleet: Fleet = toml::from_str(text).map_err(|error| {
        let at = place(text, error.span().map_or(0, |span| span.start));
        let (line, column, quote) = at;
        Error::Form { path: path.into(), line, column, quote, message: error.message().to_owned() }
    })?;
    let findings = fleet.findings();
    if findings.is_empty() { Ok(fleet) } else { Err(Error::Unsound { path: path.into(), findings }) }
}

/// Line and column, both from 1, of a byte of the text, and the beginning of that line.
fn place(text: &str, byte: usize) -> (usize, usize, String) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    let quote = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTE_CHARS).collect();
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1, quote)
}

/// A finding a line, each with the file, as compilers write them.
fn lines(path: &Path, findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {finding}", path.display())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("fleet.toml"), text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_empty_file_is_an_empty_fleet() {
        assert_eq!(parse(Path::new("f"), "").unwrap(), Fleet::default());
    }

    #[test]
    fn errors_name_file_line_column_and_key() {
        check("[[site]]\nid = \"Well 7\"\n", "fleet.toml: line 2, column 6, at `id = \"Well 7\"`: ");
        check("[[site]]\nid = \"Well 7\"\n", "no site id");
        check("[[site]\n", "fleet.toml: line 1, column");
        check(
            "[[offering]]\nid = \"a\"\nprise = 3\n",
            "line 3, column 1, at `prise = 3`: unknown field `prise`",
        );
        check("[[planet]]", "at `[[planet]]`: unknown field `planet`");
        check("[[site]]\nid = 7", "line 2, column 6, at `id = 7`: ");
        // A key that is missing is told by the table that lacks it.
        check("[[offering]]\nid = \"a\"\n", "line 1, column 1, at `[[offering]]`: missing field");
    }

    #[test]
    fn a_place_counts_characters_and_quotes_a_bounded_line_without_controls() {
        let check = |text: &str, byte, expected: (usize, usize, &str)| {
            let (line, column, quote) = place(text, byte);
            assert_eq!((line, column, quote.as_str()), expected, "{text:?} {byte}");
        };
        check("", 0, (1, 1, ""));
        check("a\nä = 1", 4, (2, 2, "ä = 1"));
        check("a\n", 99, (2, 1, ""));
        check("x = \"\u{1b}[2J\"", 4, (1, 5, "x = \" [2J\""));
        assert_eq!(place(&"y".repeat(1_000), 0).2.len(), QUOTE_CHARS);
    }

    #[test]
    fn what_is_unsound_stands_a_line_each() {
        let offering = "[[offering]]\nid = \"a\"\ntier = \"spot\"\ngpu = \"H100\"\nprice = 1\nnotice = 0\nsla_permille = 0\n";
        check(&offering.repeat(3), "fleet.toml: offering a [duplicate-id]: stands twice");
        let error = parse(Path::new("fleet.toml"), &offering.repeat(3)).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 2, "{error}");
    }

    #[test]
    fn a_file_without_end_is_refused_before_it_is_parsed() {
        let text = "#".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
        check(&text, "is larger than 40960000 bytes");
    }
}
