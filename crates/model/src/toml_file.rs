//! TOML that people write: text in, a value or a place and a reason out.
//!
//! The fleet file and the settings of a proxy are read this way, so that both tell a mistake alike. Assumes that the types refuse
//! unknown keys and wrong values by themselves (serde's `deny_unknown_fields`, `try_from`): then the place is that of the key or
//! the value. Read next: [`crate::fleet_file`].

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Most of the offending line that a message quotes: what fits a terminal beside the rest.
const QUOTE_CHARS: usize = 60;

/// The text is no TOML, or not of the form that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: line {line}, column {column}, at `{quote}`: {message}", path.display())]
pub struct Error {
    /// Which file.
    pub path: PathBuf,
    /// Which line, from 1.
    pub line: usize,
    /// Which column, from 1.
    pub column: usize,
    /// The beginning of that line: the key and its value, or the table's header.
    pub quote: String,
    /// What is wrong there.
    pub message: String,
}

/// Reads a value; `path` is for messages.
pub fn read<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let (line, column, quote) = place(text, error.span().map_or(0, |span| span.start));
        Error { path: path.into(), line, column, quote, message: error.message().to_owned() }
    })
}

/// Line and column, both from 1, of a byte of the text, and the beginning of that line.
fn place(text: &str, byte: usize) -> (usize, usize, String) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    let quote = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTE_CHARS).collect();
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1, quote)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
