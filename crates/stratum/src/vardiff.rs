//! Variable difficulty: makes one miner's shares arrive at a chosen rate, whatever it hashes.
//!
//! Assumes Poisson arrivals. It counts work since its last decision and moves only where the count is beyond chance: up
//! after 16 shares that came 2.5 times too fast, down when 8 were due and 0.4 of them or fewer came. Moves go to powers of
//! two, which every miner's own arithmetic converts exactly. While told that the miner sleeps it stands still, since
//! silence then says nothing. Next: `downstream.rs`.

use crate::target::Difficulty;
use model::Work;

/// Shares that prove speed: P(16 or more | 6.4 due) is 0.1 %.
const SHARES_UP: u32 = 16;
const RATIO_UP: f64 = 2.5;
/// Shares due that prove slowness: P(3 or fewer | 8 due) is 4 %, P(none) 0.03 %.
const DUE_DOWN: f64 = 8.0;
const RATIO_DOWN: f64 = 0.4;
/// After this many due the window starts again, so that a change is not averaged with a long past.
const DUE_RESTART: f64 = 50.0;
/// One move multiplies or divides by at most 2^12: from the floor to an S21's difficulty in three moves.
const MAX_FACTOR: f64 = 4096.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The rate wanted. Ten a minute are 600 an hour: a relative error of 4 % of an hour's hash rate.
    pub shares_per_minute: f64,
    pub floor: Difficulty,
    pub ceiling: Difficulty,
    /// Where a new connection begins.
    pub start: Difficulty,
}

impl Default for Config {
    fn default() -> Self {
        let ceiling = Difficulty::power_of_two(48).expect("2^48 lies inside the range of difficulties");
        Config { shares_per_minute: 10.0, floor: Difficulty::floor(), ceiling, start: Difficulty::floor() }
    }
}

/// Private fields: `current` is always inside floor, ceiling and cap.
#[derive(Clone, Debug)]
pub struct Vardiff {
    config: Config,
    wanted: Difficulty,
    /// The upstream's difficulty: beyond it we would throw away shares that it pays.
    cap: Option<Difficulty>,
    /// A miner's own minimum, which outranks the cap: it was asked for.
    asked: Option<Difficulty>,
    since_ms: u64,
    shares: u32,
    work: f64,
    frozen: bool,
}

impl Vardiff {
    pub fn new(config: Config, now_ms: u64) -> Vardiff {
        let wanted = config.start;
        Vardiff {
            config,
            wanted,
            cap: None,
            asked: None,
            since_ms: now_ms,
            shares: 0,
            work: 0.0,
            frozen: false,
        }
    }

    pub fn current(&self) -> Difficulty {
        let top = self.cap.map_or(self.config.ceiling, |cap| cap.min(self.config.ceiling));
        let bottom = self.asked.map_or(self.config.floor, |asked| asked.max(self.config.floor));
        self.wanted.min(top).max(bottom)
    }

    pub fn set_cap(&mut self, cap: Option<Difficulty>) {
        self.cap = cap;
    }

    /// The miner's minimum (`minimum-difficulty`), as far as the ceiling allows.
    pub fn set_minimum(&mut self, minimum: Difficulty) {
        self.asked = Some(minimum.min(self.config.ceiling));
    }

    /// The miner's own guess (`mining.suggest_difficulty`) is a better start than ours.
    pub fn suggest(&mut self, now_ms: u64, difficulty: Difficulty) {
        self.move_to(now_ms, difficulty.value());
    }

    /// While frozen nothing is learnt; thawing starts a fresh window.
    pub fn set_frozen(&mut self, now_ms: u64, frozen: bool) {
        if self.frozen != frozen {
            self.frozen = frozen;
            self.restart(now_ms);
        }
    }

    pub fn on_share(&mut self, now_ms: u64, work: Work) {
        self.shares = self.shares.saturating_add(1);
        self.work += work.as_f64();
        self.evaluate(now_ms);
    }

    /// To be called every second or so: silence is news too.
    pub fn tick(&mut self, now_ms: u64) {
        self.evaluate(now_ms);
    }

    /// Makes shares half as frequent, for one who ran short of memory for them.
    pub fn double(&mut self, now_ms: u64) {
        self.move_to(now_ms, self.current().value() * 2.0);
    }

    fn evaluate(&mut self, now_ms: u64) {
        if self.frozen {
            return;
        }
        let minutes = now_ms.saturating_sub(self.since_ms) as f64 / 60_000.0;
        let due = self.config.shares_per_minute * minutes;
        // In shares of the present difficulty: those of an older, easier job weigh less.
        let came = self.work / self.current().work().as_f64();
        if self.shares >= SHARES_UP && came >= RATIO_UP * due {
            self.move_to(now_ms, self.current().value() * (came / due).min(MAX_FACTOR));
        } else if due >= DUE_DOWN && came <= RATIO_DOWN * due {
            // Silence counts as half a share, or there would be no telling how far to go.
            let factor = (came.max(0.5) / due).max(1.0 / MAX_FACTOR);
            self.move_to(now_ms, self.current().value() * factor);
        } else if due >= DUE_RESTART {
            self.restart(now_ms);
        }
    }

    fn move_to(&mut self, now_ms: u64, value: f64) {
        let bounded = value.clamp(self.config.floor.value(), self.config.ceiling.value());
        if let Ok(wanted) = Difficulty::power_of_two(nearest_exponent(bounded)) {
            self.wanted = wanted;
        }
        self.restart(now_ms);
    }

    fn restart(&mut self, now_ms: u64) {
        (self.since_ms, self.shares, self.work) = (now_ms, 0, 0.0);
    }
}

/// The exponent of the power of two whose ratio to `value` is nearest to one; `value` is a normal float above zero.
fn nearest_exponent(value: f64) -> i16 {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i16 - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa >= std::f64::consts::SQRT_2 { exponent + 1 } else { exponent }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A miner in a loop: shares arrive as a Poisson process drawn from a small generator of fixed seed.
    struct Miner {
        vardiff: Vardiff,
        now_ms: u64,
        state: u64,
    }

    impl Miner {
        fn new(seed: u64) -> Miner {
            Miner { vardiff: Vardiff::new(Config::default(), 0), now_ms: 0, state: seed }
        }

        fn uniform(&mut self) -> f64 {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
        }

        /// Hashes for `seconds`; returns the shares found.
        fn run(&mut self, hashes_per_second: f64, seconds: u64) -> u32 {
            let end = self.now_ms as f64 + seconds as f64 * 1_000.0;
            let (mut at, mut shares) = (self.now_ms as f64, 0);
            loop {
                let mean_ms = self.vardiff.current().work().as_f64() / hashes_per_second * 1_000.0;
                let gap = -self.uniform().ln() * mean_ms;
                // Silence is looked at once a second, and the arrival drawn anew: Poisson arrivals have no memory.
                at += gap.min(1_000.0);
                if at >= end {
                    self.now_ms = end as u64;
                    return shares;
                }
                if gap < 1_000.0 {
                    shares += 1;
                    self.vardiff.on_share(at as u64, self.vardiff.current().work());
                } else {
                    self.vardiff.tick(at as u64);
                }
            }
        }
    }

    #[test]
    fn shares_settle_near_the_rate_wanted_from_10_kilohash_to_1_petahash() {
        for (seed, hashrate) in (1..).zip([1e4, 1e5, 1e6, 1e9, 2e14, 1e15]) {
            let mut miner = Miner::new(seed);
            miner.run(hashrate, 600);
            let shares = miner.run(hashrate, 3_600);
            assert!((300..1_200).contains(&shares), "{hashrate}: {shares} shares an hour");
        }
    }

    #[test]
    fn a_step_of_a_hundred_either_way_is_followed() {
        for seed in 1..20 {
            let mut miner = Miner::new(seed);
            miner.run(1e7, 900);
            for hashrate in [1e9, 1e7] {
                miner.run(hashrate, 300);
                let shares = miner.run(hashrate, 1_800);
                assert!(
                    (150..600).contains(&shares),
                    "seed {seed}, {hashrate}: {shares} shares in half an hour"
                );
            }
        }
    }

    #[test]
    fn silence_lowers_it_and_sleep_freezes_it() {
        let check = |frozen: bool, lower: bool| {
            let mut miner = Miner::new(3);
            miner.run(1e9, 900);
            let before = miner.vardiff.current();
            miner.vardiff.set_frozen(miner.now_ms, frozen);
            miner.run(1e-9, 300);
            assert_eq!(miner.vardiff.current() < before, lower, "frozen: {frozen}");
            miner.vardiff.set_frozen(miner.now_ms, false);
            miner.vardiff.tick(miner.now_ms + 1_000);
            assert_eq!(miner.vardiff.current() < before, lower, "after waking, frozen: {frozen}");
        };
        check(true, false);
        check(false, true);
    }

    #[test]
    fn bounds_hold_and_the_cap_yields_only_to_the_miners_own_wish() {
        let power = |exponent| Difficulty::power_of_two(exponent).unwrap();
        let mut vardiff = Vardiff::new(Config { start: power(10), ..Config::default() }, 0);
        assert_eq!(vardiff.current(), power(10));
        vardiff.set_cap(Some(Difficulty::new(1000.0).unwrap()));
        assert_eq!(vardiff.current().value(), 1000.0);
        vardiff.set_cap(Some(power(-30)));
        assert_eq!(vardiff.current(), Difficulty::floor());
        vardiff.set_minimum(power(3));
        assert_eq!(vardiff.current(), power(3));
        vardiff.set_minimum(power(60));
        assert_eq!(vardiff.current(), power(48));
        vardiff.suggest(0, power(90));
        assert_eq!(vardiff.current(), power(48));
    }

    #[test]
    fn the_nearest_power_is_nearest_in_ratio() {
        for (value, exponent) in
            [(1.0, 0), (1.41, 0), (1.42, 1), (0.75, 0), (0.7, -1), (1e-6, -20), (1e12, 40)]
        {
            assert_eq!(nearest_exponent(value), exponent, "{value}");
        }
    }
}
