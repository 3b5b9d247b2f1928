//! Numbers as people read them: four digits at most, a unit, and `-` for what nobody knows.
//!
//! Tables only; JSON carries the exact integers. Read next: [`crate::duration`] for spans of time.

use jiff::Timestamp;
use model::{Span, Time};

/// What stands where a value is unknown.
pub const UNKNOWN: &str = "-";

/// Milliseconds in an hour, for GPU time.
const HOUR_MILLIS: f64 = 3_600_000.0;

/// A value that may be unknown.
pub fn maybe<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// A text that may be unknown.
pub fn word(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Power: `1.24 MW`, `350 kW`, `25 W`.
pub fn watts(watts: i64) -> String {
    scaled(watts, "W", &[("M", 1e6), ("k", 1e3)])
}

/// Hash rate: `39.8 PH/s`, `204 TH/s`.
pub fn hashes(rate: i64) -> String {
    scaled(rate, "H/s", &[("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)])
}

/// Gas flow in thousands (Mscf) or millions (MMscf) of standard cubic feet a day, as the oil field writes them.
pub fn gas(scf_per_day: i64) -> String {
    scaled(scf_per_day, "scf/d", &[("MM", 1e6), ("M", 1e3)])
}

/// Gas held.
pub fn gas_held(scf: i64) -> String {
    scaled(scf, "scf", &[("MM", 1e6), ("M", 1e3)])
}

/// Frequency: `59.98 Hz`.
pub fn frequency(millihertz: i64) -> String {
    format!("{:.2} Hz", millihertz as f64 / 1e3)
}

/// Money: `$1234.50`.
pub fn money(micro_dollars: i64) -> String {
    let cents = (micro_dollars as f64 / 1e4).round() as i64;
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}${}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}

/// Money an hour: `$12.50/h`.
pub fn money_per_hour(micro_dollars: i64) -> String {
    money(micro_dollars) + "/h"
}

/// GPU time: `12.5 GPU-h`.
pub fn gpu_time(gpu_milliseconds: i64) -> String {
    format!("{:.1} GPU-h", gpu_milliseconds as f64 / HOUR_MILLIS)
}

/// A span of time.
pub fn span(milliseconds: i64) -> String {
    crate::duration::show(Span::new(milliseconds))
}

/// A share in percent.
pub fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 { UNKNOWN.to_owned() } else { format!("{:.1}%", 100.0 * part / whole) }
}

/// `yes` or `no`.
pub fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// A number of things: `1 finding`, `2 findings`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A point in time in UTC, as RFC 3339 with milliseconds: what JSON carries.
pub fn rfc3339(time: Time) -> Option<String> {
    Timestamp::from_millisecond(time.millis()).ok().map(|at| format!("{at:.3}"))
}

/// The same to the second, for tables: `2025-02-03 08:15:00Z`.
pub fn moment(rfc3339: &Option<String>) -> String {
    maybe(rfc3339.as_deref(), |text| {
        let whole = text.split('.').next().unwrap_or(text);
        whole.trim_end_matches('Z').replace('T', " ") + "Z"
    })
}

/// Three or four digits with the largest prefix that leaves at least one before the point.
fn scaled(value: i64, unit: &str, prefixes: &[(&str, f64)]) -> String {
    let exact = value as f64;
    let Some((prefix, factor)) = prefixes.iter().find(|(_, factor)| exact.abs() >= *factor) else {
        return format!("{value} {unit}");
    };
    let number = exact / factor;
    let digits = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_their_unit() {
        let check = |shown: String, expected: &str| assert_eq!(shown, expected);
        check(watts(0), "0 W");
        check(watts(999), "999 W");
        check(watts(1_240_000), "1.24 MW");
        check(watts(-350_400), "-350 kW");
        check(watts(12_340), "12.3 kW");
        check(hashes(39_800_000_000_000_000), "39.8 PH/s");
        check(gas(412_000), "412 Mscf/d");
        check(gas(1_500_000), "1.50 MMscf/d");
        check(gas_held(900), "900 scf");
        check(frequency(59_984), "59.98 Hz");
        check(gpu_time(45_000_000), "12.5 GPU-h");
        check(percent(1.0, 8.0), "12.5%");
        check(percent(1.0, 0.0), "-");
        check(span(90_000), "1m30s");
        check(count(1, "finding"), "1 finding");
        check(count(0, "finding"), "0 findings");
    }

    #[test]
    fn money_rounds_to_cents_and_keeps_its_sign() {
        assert_eq!(money(12_504_999), "$12.50");
        assert_eq!(money(-12_505_000), "-$12.51");
        assert_eq!(money(-1), "$0.00");
        assert_eq!(money(i64::MIN), "-$9223372036854.78");
        assert_eq!(money_per_hour(2_950_000), "$2.95/h");
    }

    #[test]
    fn times_are_utc_and_out_of_range_ones_unknown() {
        let at = rfc3339(Time(1_738_570_500_250));
        assert_eq!(at.as_deref(), Some("2025-02-03T08:15:00.250Z"));
        assert_eq!(moment(&at), "2025-02-03 08:15:00Z");
        assert_eq!(rfc3339(Time(i64::MAX)), None);
        assert_eq!(moment(&None), "-");
    }

    #[test]
    fn the_unknown_is_a_dash_and_never_zero() {
        assert_eq!(maybe(None, watts), "-");
        assert_eq!(word(&None), "-");
    }
}
