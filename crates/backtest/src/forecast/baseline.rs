//! The three baselines, on any evenly spaced series of whole numbers.
//!
//! | method | p50 | p10, p90 |
//! |---|---|---|
//! | persistence | the last value | the same |
//! | seasonal | the median of the same hour of the week in the last [`WEEKS`], else of the same hour in the last seven days | their quantiles |
//! | quantile | the last value and the median of the changes over so long, seen in the last [`CHANGES`] values | their quantiles |
//!
//! Where a method has seen too little it falls back on persistence. An hour is a day where values are days. Used by [`super`].

use model::Span;

use super::{Band, Method, Past};

/// Weeks of which seasonal takes the same hour: enough for a median, and no more than a well keeps its character.
const WEEKS: i64 = 4;
/// Values back from which quantile takes changes: two weeks of steps of five minutes.
const CHANGES: usize = 4_032;
/// Every so many values a change is taken: 4,032 ÷ 11 = 366 of them. A prime, so that slugs are met in all of their phases.
const STRIDE: usize = 11;
/// With fewer changes than this there is no quantile to be had.
const LEAST: usize = 20;
const HOUR: Span = Span::hours(1);
const DAY: Span = Span::hours(24);

/// A series as plain numbers.
#[derive(Clone, Debug)]
pub struct Series {
    values: Vec<i64>,
    /// Number of the first value since the epoch, in values.
    first: i64,
    /// Values in a cell (an hour, or one value where that is longer), cells in a day and in a week.
    cell: i64,
    day: i64,
    week: i64,
}

impl Series {
    /// Of what has passed. No more of it is kept than any method looks at.
    pub fn of<T>(past: Past<'_, T>, value: impl Fn(&T) -> i64) -> Self {
        let each = past.each.get().max(1);
        let cell = (HOUR.get() / each).max(1);
        let day = (DAY.get() / each / cell).max(1);
        let week = (7 * DAY.get() / each / cell).max(1);
        let kept = usize::try_from(WEEKS * week * cell + cell).unwrap_or(usize::MAX).max(CHANGES);
        let skipped = past.values.len().saturating_sub(kept);
        let first = past.first.millis().div_euclid(each) + i64::try_from(skipped).unwrap_or(0);
        Self { values: past.values[skipped..].iter().map(value).collect(), first, cell, day, week }
    }

    /// What comes `ahead` values after the last one, from 1 on. `None` where nothing was seen.
    pub fn band(&self, method: Method, ahead: usize) -> Option<Band> {
        let last = *self.values.last()?;
        let found = match method {
            Method::Persistence | Method::Perfect | Method::Noisy => None,
            Method::Seasonal => self.seasonal(self.cell_ahead(ahead)),
            Method::Quantile => self.changes(ahead, last),
        };
        Some(found.unwrap_or(Band { p10: last, p50: last, p90: last }))
    }

    /// The next `count` values. Those of one season have one band.
    pub fn bands(&self, method: Method, count: usize) -> Vec<Band> {
        let mut bands = Vec::with_capacity(count);
        let mut season: Option<(i64, Band)> = None;
        for ahead in 1..=count {
            let cell = self.cell_ahead(ahead);
            let known = season.filter(|(of, _)| method == Method::Seasonal && *of == cell);
            let Some(band) = known.map(|(_, band)| band).or_else(|| self.band(method, ahead)) else { break };
            season = Some((cell, band));
            bands.push(band);
        }
        bands
    }

    fn cell_ahead(&self, ahead: usize) -> i64 {
        let at = self.values.len() + ahead.max(1) - 1;
        (self.first + i64::try_from(at).unwrap_or(i64::MAX)).div_euclid(self.cell)
    }

    fn seasonal(&self, cell: i64) -> Option<Band> {
        let seen = |back: i64, times: i64| (1..=times).flat_map(move |nth| self.of_cell(cell - back * nth));
        let mut same: Vec<i64> = seen(self.week, WEEKS).collect();
        if same.is_empty() {
            same = seen(self.day, 7).collect();
        }
        band(&mut same)
    }

    /// The values of one cell, as far as they are known.
    fn of_cell(&self, cell: i64) -> impl Iterator<Item = i64> + '_ {
        let from = cell * self.cell - self.first;
        let known = |at: i64| usize::try_from(at.max(0)).unwrap_or(0).min(self.values.len());
        self.values[known(from)..known(from + self.cell)].iter().copied()
    }

    fn changes(&self, ahead: usize, last: i64) -> Option<Band> {
        let from = self.values.len().saturating_sub(CHANGES);
        let recent = &self.values[from..];
        let later = recent.get(ahead.max(1)..)?;
        let mut changes: Vec<i64> =
            recent.iter().zip(later).step_by(STRIDE).map(|(before, after)| after - before).collect();
        let band = band(&mut changes).filter(|_| changes.len() >= LEAST)?;
        let of = |change: i64| (last + change).max(0);
        Some(Band { p10: of(band.p10), p50: of(band.p50), p90: of(band.p90) })
    }
}

/// The quantiles of some values, by the nearest rank.
fn band(values: &mut [i64]) -> Option<Band> {
    values.sort_unstable();
    let at = |percent: usize| values.get((values.len().checked_sub(1)? * percent + 50) / 100).copied();
    Some(Band { p10: at(10)?, p50: at(50)?, p90: at(90)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::Time;

    fn series(values: &[i64], each: Span) -> Series {
        Series::of(Past { values, first: Time(0), each }, |value| *value)
    }

    fn check(values: &[i64], each: Span, method: Method, ahead: usize, expected: [i64; 3]) {
        let band = series(values, each).band(method, ahead).unwrap();
        assert_eq!([band.p10, band.p50, band.p90], expected, "{method}, {ahead} ahead");
    }

    #[test]
    fn nothing_seen_is_nothing_expected() {
        for method in Method::ALL {
            assert_eq!(series(&[], HOUR).band(method, 1), None);
            assert!(series(&[], HOUR).bands(method, 3).is_empty());
        }
    }

    #[test]
    fn persistence_stays_and_the_others_fall_back_on_it() {
        for method in Method::ALL {
            check(&[3, 9, 7], HOUR, method, 5, [7, 7, 7]);
        }
    }

    #[test]
    fn seasonal_is_the_same_hour_of_the_week_or_of_the_day() {
        // Three weeks of hours, each worth its hour of the week, the weeks 0, 1,000 and 2,000 more.
        let hours: Vec<i64> = (0..3 * 168).map(|hour| hour % 168 + 1_000 * (hour / 168)).collect();
        check(&hours, HOUR, Method::Seasonal, 1, [0, 1_000, 2_000]);
        check(&hours, HOUR, Method::Seasonal, 168, [167, 1_167, 2_167]);
        // Two days: no week is known, so the hour of the day counts.
        let days: Vec<i64> = (0..48).map(|hour| hour % 24).collect();
        check(&days, HOUR, Method::Seasonal, 6, [5, 5, 5]);
        // Five-minute steps share the band of their hour; each hour of the day before has its number as value.
        let steps: Vec<i64> = (0..288).map(|step| step / 12).collect();
        let bands = series(&steps, Span::minutes(5)).bands(Method::Seasonal, 24);
        let medians: Vec<i64> = bands.iter().map(|band| band.p50).collect();
        assert_eq!(medians, [vec![0; 12], vec![1; 12]].concat());
    }

    #[test]
    fn quantile_adds_the_changes_that_were_seen() {
        // Every value is ten more than the one before.
        let rising: Vec<i64> = (0..400).map(|at| at * 10).collect();
        check(&rising, Span::minutes(5), Method::Quantile, 3, [4_020, 4_020, 4_020]);
        // Up by 100 in every other step and down again: half of the changes over one step are +100, half -100.
        let swinging: Vec<i64> = (0..400).map(|at| 500 + 100 * (at % 2)).collect();
        check(&swinging, Span::minutes(5), Method::Quantile, 1, [500, 700, 700]);
        check(&swinging, Span::minutes(5), Method::Quantile, 2, [600, 600, 600]);
    }

    #[test]
    fn no_more_is_kept_than_is_looked_at() {
        let long = vec![1; 50_000];
        assert_eq!(series(&long, Span::minutes(5)).values.len(), 4 * 2_016 + 12);
        assert_eq!(series(&long, DAY).values.len(), CHANGES);
    }
}
