//! Durations as people type them on the command line, and as tables show them: `250ms`, `120s`, `5m`, `1h`, `2d`.
//!
//! The one place of the command line that reads or writes a duration for people. JSON output carries milliseconds instead.

use model::Span;

/// The units, from the largest; a table shows a span in the first two that fit.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: write a whole number and one unit, ms, s, m, h or d, for example 120s")]
pub struct Error {
    /// What was given.
    pub text: String,
}

/// Reads a whole number with one unit. Zero is a duration; a negative one is not.
pub fn parse(text: &str) -> Result<Span, Error> {
    let wrong = || Error { text: text.to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*millis).map(Span::new).ok_or_else(wrong)
}

/// Writes a duration as its two largest units, such as `2d3h` or `4m`, and seconds below a minute with a tenth, such as `1.5s`;
/// what is smaller is dropped.
pub fn show(span: Span) -> String {
    let sign = if span < Span::ZERO { "-" } else { "" };
    let total = span.millis().saturating_abs();
    let Some(first) = UNITS.iter().position(|(_, millis)| total >= *millis) else { return "0s".to_owned() };
    let (name, millis) = UNITS[first];
    let rest = total % millis;
    if name == "s" && rest >= 100 {
        return format!("{sign}{}.{}s", total / millis, rest / 100);
    }
    let second = UNITS.get(first + 1).filter(|(unit, millis)| *unit != "ms" && rest >= *millis);
    let tail = second.map(|(name, millis)| format!("{}{name}", rest / millis)).unwrap_or_default();
    format!("{sign}{}{name}{tail}", total / millis)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_and_a_unit_make_a_duration() {
        let check = |text: &str, expected: i64| assert_eq!(parse(text), Ok(Span::new(expected)), "{text}");
        check("250ms", 250);
        check("0s", 0);
        check("120s", 120_000);
        check("5m", 300_000);
        check("1h", 3_600_000);
        check("2d", 172_800_000);
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5h",
            "5 s",
            "5w",
            "1h30m",
            "9223372036854775807d",
            "99999999999999999999s",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, Error { text: text.to_owned() });
            assert!(error.to_string().contains("for example 120s"), "{error}");
        }
    }

    #[test]
    fn a_table_shows_the_two_largest_units() {
        let check = |millis: i64, expected: &str| assert_eq!(show(Span::new(millis)), expected);
        check(0, "0s");
        check(999, "999ms");
        check(1_500, "1.5s");
        check(1_099, "1s");
        check(59_999, "59.9s");
        check(60_999, "1m");
        check(60_000, "1m");
        check(3_661_000, "1h1m");
        check(3_601_000, "1h");
        check(2 * 86_400_000 + 3 * 3_600_000, "2d3h");
        check(-61_000, "-1m1s");
        check(i64::MIN, "-106751991167d7h");
    }

    #[test]
    fn what_one_unit_shows_reads_back() {
        for text in ["250ms", "59s", "5m", "23h", "400d"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
