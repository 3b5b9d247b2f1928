//! What the books assume beside the market: credits for missed firm time, tenants' patience, methane.
//!
//! All of it is parameters with sources, none is a law of nature. Used by [`crate::engine`].

use model::site::GasVolume;
use model::{MicroDollars, Span};
use serde::Serialize;

/// Credits by availability, (at least this many thousandths, credit in percent of what was paid): 10, 25 to 30 and 50 to 100 % are
/// usual in the field for 99.9 % promised. Below the last one everything is given back.
const CREDITS: [(i64, i64); 2] = [(990, 10), (950, 30)];

/// What the books assume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Terms {
    /// An order that holds nothing for so long is withdrawn. A day: long enough for a night without gas, and it bounds the queue.
    pub patience: Span,
    /// Availability that firm work is promised, in thousandths.
    pub firm_permille: i64,
    /// What burning gas in sets instead of a flare is worth to the climate.
    pub methane: Methane,
}

/// Basis of CO2e: kg a thousand cubic feet = 19.2 × CH4 fraction × (destruction in sets − in the flare) × (GWP − 2.74).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Methane {
    /// Methane in the gas, by volume.
    pub fraction: f64,
    /// Share of it that the sets destroy; slip of lean-burn engines (1 to 3 %) can turn the sign.
    pub sets: f64,
    /// Share of it that the flare would destroy; 0.911 was measured (Plant et al., Science 2022), 0.98 is assumed by rule.
    pub flare: f64,
    /// Warming of methane against CO2: 28 over a hundred years, 82.5 over twenty.
    pub gwp: f64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { patience: Span::hours(24), firm_permille: 999, methane: Methane::default() }
    }
}

impl Default for Methane {
    fn default() -> Self {
        Self { fraction: 0.8, sets: 0.999, flare: 0.911, gwp: 28.0 }
    }
}

impl Methane {
    /// kg CO2e that were avoided by burning this gas in sets; negative where slip outweighs the flare.
    pub fn avoided_kg(&self, burnt: GasVolume) -> f64 {
        let mcf = burnt.as_f64() / 1_000.0;
        mcf * 19.2 * self.fraction * (self.sets - self.flare) * (self.gwp - 2.74)
    }
}

impl Terms {
    /// What is given back of `paid` to firm work that missed `missed` of the time it should have been up.
    pub fn credit(&self, paid: MicroDollars, missed: Span, up: Span) -> MicroDollars {
        let whole = (missed + up).get();
        if whole <= 0 || missed <= Span::ZERO {
            return MicroDollars::ZERO;
        }
        let permille = Span::new(1_000).fraction(up.get(), whole).get();
        if permille >= self.firm_permille {
            return MicroDollars::ZERO;
        }
        let percent =
            CREDITS.iter().find(|(least, _)| permille >= *least).map_or(100, |(_, percent)| *percent);
        paid.at_least_zero().fraction(percent, 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(missed_minutes: i64, of_minutes: i64, percent: i64) {
        let (missed, up) = (Span::minutes(missed_minutes), Span::minutes(of_minutes - missed_minutes));
        let credit = Terms::default().credit(MicroDollars::dollars(200), missed, up);
        assert_eq!(credit, MicroDollars::dollars(2 * percent), "{missed_minutes} of {of_minutes} minutes");
    }

    #[test]
    fn credits_rise_with_the_time_that_was_missed() {
        check(0, 1_000, 0);
        check(1, 1_000, 0);
        check(2, 1_000, 10);
        check(10, 1_000, 10);
        check(11, 1_000, 30);
        check(50, 1_000, 30);
        check(51, 1_000, 100);
        check(10, 10, 100);
        check(0, 0, 0);
    }

    #[test]
    fn avoided_methane_is_that_of_the_published_formula() {
        let check = |methane: Methane, kg: f64| {
            let found = methane.avoided_kg(GasVolume::new(1_000));
            assert!((found - kg).abs() < 0.5, "{found} instead of {kg}");
        };
        let base = Methane::default();
        check(base, 34.0);
        check(Methane { gwp: 82.5, ..base }, 108.0);
        check(Methane { flare: 0.98, ..base }, 7.0);
        check(Methane { sets: 0.97, flare: 0.98, ..base }, -3.9);
    }
}
