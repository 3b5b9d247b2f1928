//! What mining pays: price, difficulty, subsidy, fees.

use serde::{Deserialize, Serialize};

use crate::time::{Span, Time};
use crate::unit::{Hashrate, MicroDollars, Work};

/// Hashes that the network does for each unit of difficulty, on average.
const HASHES_PER_DIFFICULTY: f64 = 4_294_967_296.0;
/// The unit of [`Hashprice`]: 10^21 hashes.
const ZETTA: f64 = 1e21;

/// Prices of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Market {
    /// Price of one bitcoin.
    pub price: MicroDollars,
    /// Network difficulty.
    pub difficulty: f64,
    /// Block subsidy in satoshi.
    pub subsidy: i64,
    /// Transaction fees as a share of the subsidy, in parts per million.
    pub fees_ppm: u32,
    /// The pool's fee, in parts per million of the revenue.
    pub pool_fee_ppm: u32,
}

/// What 10^21 hashes earn, net of the pool's fee. At $33.3 a PH/s a day that is $385.42.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hashprice {
    /// Micro-dollars for 10^21 hashes.
    pub per_zettahash: MicroDollars,
}

/// Bitcoin's block subsidy in satoshi at `at`, by the dates of the halvings.
pub fn subsidy_at(at: Time) -> i64 {
    // 2012-11-28, 2016-07-09, 2020-05-11, 2024-04-20, each at 00:00 UTC.
    const HALVINGS: [i64; 4] = [1_354_060_800, 1_468_022_400, 1_589_155_200, 1_713_571_200];
    let halvings = HALVINGS.iter().filter(|&&date| at.unix_secs() >= date).count();
    5_000_000_000 >> halvings
}

impl Market {
    /// $/hash = (subsidy + fees) × price ÷ (difficulty × 2^32), net of the pool's fee. Zero when the difficulty is no positive
    /// number: nothing is earned on a market nobody knows.
    pub fn hashprice(&self) -> Hashprice {
        if self.difficulty.is_nan() || self.difficulty <= 0.0 {
            return Hashprice::default();
        }
        let coins = self.subsidy as f64 / 1e8 * (1.0 + f64::from(self.fees_ppm) / 1e6);
        let net = coins * self.price.as_f64() * (1.0 - f64::from(self.pool_fee_ppm) / 1e6);
        let per_hash = net / (self.difficulty * HASHES_PER_DIFFICULTY);
        Hashprice { per_zettahash: MicroDollars::from_f64(per_hash * ZETTA) }
    }
}

impl Hashprice {
    /// What `work` earns, rounded toward zero.
    pub fn earns(self, work: Work) -> MicroDollars {
        let zetta: i128 = 1_000_000_000_000_000_000_000;
        let work = i128::try_from(work.0).unwrap_or(i128::MAX);
        let exact = work.saturating_mul(self.per_zettahash.get().into()) / zetta;
        MicroDollars::new(i64::try_from(exact).unwrap_or(i64::MAX))
    }

    /// What `rate` earns in an hour.
    pub fn per_hour(self, rate: Hashrate) -> MicroDollars {
        let hashes = rate.get().max(0).unsigned_abs();
        self.earns(Work(u128::from(hashes) * Span::hours(1).get().unsigned_abs() as u128 / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On 2026-02-12: $66,222 and 125.86 T gave $33.3 a PH/s a day, and 0.103 to 0.047 $/kWh by efficiency.
    #[test]
    fn hashprice_matches_a_known_day() {
        let market = Market {
            price: MicroDollars::dollars(66_222),
            difficulty: 125.86e12,
            subsidy: 312_500_000,
            fees_ppm: 6_300,
            pool_fee_ppm: 0,
        };
        let price = market.hashprice();
        let per_day = price.per_hour(Hashrate::tera(1_000)).as_f64() * 24.0 / 1e6;
        assert!((per_day - 33.3).abs() < 0.1, "{per_day} $/PH/day");
        for (joules_per_tera, dollars_per_kwh) in [(13.5, 0.103), (17.5, 0.079), (21.5, 0.065), (29.5, 0.047)]
        {
            // One kilowatt for an hour hashes 1000 W ÷ J/TH terahashes a second.
            let rate = Hashrate::from_f64(1_000.0 / joules_per_tera * 1e12);
            let earned = price.per_hour(rate).as_f64() / 1e6;
            assert!((earned - dollars_per_kwh).abs() < 0.001, "{joules_per_tera} J/TH: {earned} $/kWh");
        }
    }

    #[test]
    fn an_unknown_market_earns_nothing() {
        let mut market = Market {
            price: MicroDollars::dollars(1),
            difficulty: f64::NAN,
            subsidy: 1,
            fees_ppm: 0,
            pool_fee_ppm: 0,
        };
        assert_eq!(market.hashprice(), Hashprice::default());
        market.difficulty = 0.0;
        assert_eq!(market.hashprice(), Hashprice::default());
    }

    #[test]
    fn the_subsidy_halves_on_the_known_days() {
        for (unix, coins_times_1000) in [
            (1_420_070_400, 25_000),
            (1_468_022_400, 12_500),
            (1_589_155_199, 12_500),
            (1_713_571_200, 3_125),
        ] {
            assert_eq!(subsidy_at(Time(unix * 1_000)), coins_times_1000 * 100_000, "{unix}");
        }
    }
}
