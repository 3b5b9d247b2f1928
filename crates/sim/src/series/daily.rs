//! Daily series: bitcoin's price (`date,price_usd`) and the network's difficulty (`date,difficulty`), dates as `2025-06-30`,
//! ascending.
//!
//! A value holds from its date at 00:00 UTC to the next row. Before the first row the first value holds and after the last row
//! the last one: a back-test that runs past its series goes on at the last price known, and [`Daily::covers`] tells of it.

use std::path::Path;

use model::{MicroDollars, Time};

use super::{Error, Table, read};

/// A series of dated values.
#[derive(Clone, Debug, PartialEq)]
pub struct Daily<T> {
    // Invariant: never empty, strictly ascending in time.
    rows: Vec<(Time, T)>,
}

/// Reads `date,price_usd`.
pub fn prices(path: &Path) -> Result<Daily<MicroDollars>, Error> {
    load(path, &["date", "price_usd"], "a price in dollars above zero, e.g. 66222.50", |price| {
        MicroDollars::from_f64(price * 1e6)
    })
}

/// Reads `date,difficulty`.
pub fn difficulty(path: &Path) -> Result<Daily<f64>, Error> {
    load(path, &["date", "difficulty"], "a difficulty above zero, e.g. 125860000000000", |difficulty| {
        difficulty
    })
}

impl<T: Copy> Daily<T> {
    /// The value that holds at `at`.
    pub fn at(&self, at: Time) -> T {
        let after = self.rows.partition_point(|(from, _)| *from <= at);
        self.rows[after.saturating_sub(1)].1
    }

    /// Whether the series has a row for the day of `at`, or lies around it.
    pub fn covers(&self, at: Time) -> bool {
        let (first, last) = (self.rows[0].0, self.rows[self.rows.len() - 1].0);
        first <= at && (at - last).millis() < 86_400_000
    }

    /// Rows in it; never zero.
    pub fn days(&self) -> usize {
        self.rows.len()
    }

    /// The first and the last date.
    pub fn span(&self) -> (Time, Time) {
        (self.rows[0].0, self.rows[self.rows.len() - 1].0)
    }
}

fn load<T>(
    path: &Path,
    needed: &'static [&'static str],
    expected: &'static str,
    convert: impl Fn(f64) -> T,
) -> Result<Daily<T>, Error> {
    let text = read(path)?;
    let mut last: Option<Time> = None;
    let rows = Table::new(path, &text, needed)?.rows(|row| {
        let date = row.cell(0, "a date such as 2025-06-30", parse_date)?;
        row.cell(0, "a date after that of the row before", |_| {
            last.is_none_or(|last| last < date).then_some(())
        })?;
        last = Some(date);
        let positive =
            |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
        Ok((date, convert(row.cell(1, expected, positive)?)))
    })?;
    Ok(Daily { rows })
}

fn parse_date(text: &str) -> Option<Time> {
    let date: jiff::civil::Date = text.parse().ok()?;
    let days = date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days();
    Some(Time(i64::from(days) * 86_400_000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::series::jobs::tests::{data, written};

    fn check_error(text: &str, part: &str) {
        let path = written(text);
        let error = prices(&path).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn a_value_holds_until_the_next_row_and_ends_are_held() {
        let path = written("price_usd,note,date\n100.5,x,2025-01-01\n200,y,2025-01-03\n");
        let prices = prices(&path).unwrap();
        let day = |number: i64| Time((20_089 + number) * 86_400_000);
        for (at, cents) in
            [(day(-9), 10_050), (day(0), 10_050), (day(1), 10_050), (day(2), 20_000), (day(99), 20_000)]
        {
            assert_eq!(prices.at(at), MicroDollars::cents(cents), "{at}");
        }
        assert_eq!(prices.span(), (day(0), day(2)));
        assert!(prices.covers(day(2)) && !prices.covers(day(3)) && !prices.covers(day(-1)));
    }

    #[test]
    fn errors_name_line_and_column_and_what_was_expected() {
        check_error("date,price\n2025-01-01,1\n", "no column is called \"price_usd\"");
        check_error("date,price_usd\n", "no rows");
        check_error(
            "date,price_usd\n2025-01-01,1\n2025-13-01,1\n",
            "line 3, column 1 (date): expected a date",
        );
        check_error("date,price_usd\n2025-01-01,cheap\n", "line 2, column 2 (price_usd): expected a price");
        check_error("date,price_usd\n2025-01-01,cheap\n", "found \"cheap\"");
        check_error("date,price_usd\n2025-01-01,-3\n", "above zero");
        check_error("date,price_usd\n2025-01-01,NaN\n", "above zero");
        check_error(
            "date,price_usd\n2025-01-02,1\n2025-01-02,1\n",
            "line 3, column 1 (date): expected a date after",
        );
        check_error("date,price_usd\n2025-01-01\n", "line 2: the row has 1 cells, the header 2");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = prices(Path::new("/nowhere/p.csv")).expect_err("no such file").to_string();
        assert!(error.contains("cannot read /nowhere/p.csv"), "{error}");
    }

    #[test]
    fn the_real_series_load() {
        let Some(data) = data() else { return };
        let (price, difficulty) = (
            prices(&data.join("btc/price_usd.csv")).unwrap(),
            difficulty(&data.join("btc/difficulty.csv")).unwrap(),
        );
        assert_eq!((price.days(), difficulty.days()), (3_834, 3_834));
        let last = price.span().1;
        assert_eq!(price.at(last), MicroDollars::new(107_135_340_000));
        assert_eq!(difficulty.at(last), 116_958_512_019_762.0);
    }
}
