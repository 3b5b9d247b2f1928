//! Variable difficulty: makes one miner's shares arrive at a chosen rate, whatever it hashes.
//!
//! Assumes Poisson arrivals. Four cumulative sums (Page, 1954) watch them: each adds the logarithm of how much likelier
//! what came is under a changed rate than under the present one, begins anew when it falls to zero, and raises an alarm
//! beyond a threshold; where it began anew is its guess when the change was. The rate since then gives the next
//! difficulty. A miner that became far slower says too little to tell how much slower: then the difficulty is dropped
//! deep, and the shares that follow measure it within seconds. While told that the miner sleeps it stands still, since
//! silence then says nothing. Next: `downstream.rs`.

use crate::target::Difficulty;
use model::Work;

/// A false alarm comes once in more than e^10 = 22,000 shares due.
const ALARM: f64 = 10.0;
/// Silence is told sooner, since a false alarm of it is mended within seconds: after 9.3 shares due, 28 s at twenty a
/// minute.
const SILENCE_ALARM: f64 = 8.7;
/// What each sum looks for, as a ratio of rates.
const RUSH: f64 = 16.0;
const FASTER: f64 = 2.0;
const SLOWER: f64 = 0.5;
const SILENT: f64 = 1.0 / 16.0;
/// Shares that measure a rate well enough to move by: one standard deviation is an eighth, a factor of 1.6 nearly five.
const MEASURED: f64 = 64.0;
/// Fewer than these since the rate fell say only that it did.
const FEW: f64 = 4.0;
/// The deep drop. At twenty shares a minute, a hundredth of the rate and this are 14 shares a second: measured in 5 s.
const PROBE: f64 = 1.0 / 4096.0;
/// When not even a probe is answered the miner is probably off: it should not come back to the easiest of jobs.
const PROBE_AGAIN: f64 = 1.0 / 8.0;
/// After so many shares due without an alarm the rate is known to 10 %, and corrected if it is off by more than a third.
const DUE_SETTLED: f64 = 96.0;
const RATIO_SETTLED: f64 = 1.35;
/// One move multiplies by at most 2^12: from the floor to an S21's difficulty in three moves.
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
    watched_ms: u64,
    rush: Sum,
    faster: Sum,
    slower: Sum,
    silent: Sum,
    all: Since,
    probing: bool,
    frozen: bool,
}

/// What came, and what was due, in shares of the present difficulty.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    came: f64,
    due: f64,
}

/// A cumulative sum, and what it has seen since it began anew.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    since: Since,
}

impl Since {
    fn add(&mut self, came: f64, due: f64) {
        self.came += came;
        self.due += due;
    }
}

impl Sum {
    fn add(&mut self, ratio: f64, came: f64, due: f64) {
        self.value += ratio.ln() * came - (ratio - 1.0) * due;
        self.since.add(came, due);
        if self.value <= 0.0 {
            *self = Sum::default();
        }
    }

    fn is_above(&self, threshold: f64) -> bool {
        self.value > threshold
    }
}

impl Vardiff {
    pub fn new(config: Config, now_ms: u64) -> Vardiff {
        let wanted = config.start;
        Vardiff {
            config,
            wanted,
            cap: None,
            asked: None,
            watched_ms: now_ms,
            rush: Sum::default(),
            faster: Sum::default(),
            slower: Sum::default(),
            silent: Sum::default(),
            all: Since::default(),
            probing: false,
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
        // In shares of the present difficulty: those of an older, easier job weigh less.
        let came = work.as_f64() / self.current().work().as_f64();
        self.watch(now_ms, came);
    }

    /// To be called every second or so: silence is news too.
    pub fn tick(&mut self, now_ms: u64) {
        self.watch(now_ms, 0.0);
    }

    /// Makes shares half as frequent, for one who ran short of memory for them.
    pub fn double(&mut self, now_ms: u64) {
        self.move_to(now_ms, self.current().value() * 2.0);
    }

    fn watch(&mut self, now_ms: u64, came: f64) {
        let minutes = now_ms.saturating_sub(self.watched_ms) as f64 / 60_000.0;
        self.watched_ms = now_ms;
        if self.frozen {
            return;
        }
        let due = self.config.shares_per_minute * minutes;
        self.rush.add(RUSH, came, due);
        self.faster.add(FASTER, came, due);
        self.slower.add(SLOWER, came, due);
        self.silent.add(SILENT, came, due);
        self.all.add(came, due);
        self.probing &= came == 0.0;
        if let Some(factor) = self.verdict() {
            self.move_to(now_ms, self.current().value() * factor);
        }
    }

    /// By how much to move, if there is reason to.
    fn verdict(&mut self) -> Option<f64> {
        let (slower, silent) = (self.slower, self.silent);
        // Of a great change the coarse sum knows better when it was.
        let faster = if self.rush.is_above(ALARM) { self.rush } else { self.faster };
        if faster.is_above(ALARM) && faster.since.came >= MEASURED {
            return Some((faster.since.came / faster.since.due).min(MAX_FACTOR));
        }
        let is_silent = silent.is_above(SILENCE_ALARM);
        if is_silent || slower.is_above(ALARM) {
            let since = if is_silent { silent.since } else { slower.since };
            if since.came >= FEW {
                return Some(since.came / since.due);
            }
            let factor = if self.probing { PROBE_AGAIN } else { PROBE };
            self.probing = true;
            return Some(factor);
        }
        if self.all.due >= DUE_SETTLED {
            let ratio = self.all.came / self.all.due;
            self.all = Since::default();
            return Some(ratio).filter(|ratio| ratio.max(1.0 / ratio) > RATIO_SETTLED);
        }
        None
    }

    fn move_to(&mut self, now_ms: u64, value: f64) {
        let bounded = value.clamp(self.config.floor.value(), self.config.ceiling.value());
        if let Ok(wanted) = Difficulty::new(rounded(bounded)) {
            self.wanted = wanted;
        }
        self.restart(now_ms);
    }

    fn restart(&mut self, now_ms: u64) {
        self.watched_ms = now_ms;
        (self.rush, self.faster, self.slower, self.silent) = Default::default();
        self.all = Since::default();
    }
}

/// The nearest quarter between two powers of two: 4, 5, 6, 7, 8, 10, 12… Every miner's own arithmetic converts these
/// exactly, and none is further off than an eighth. `value` is a normal float above zero.
fn rounded(value: f64) -> f64 {
    // Half a quarter more, then the mantissa's first two bits: a carry goes into the exponent by itself.
    f64::from_bits((value.to_bits() + (1 << 49)) & !((1 << 50) - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Where a rate of 1 kH/s still gets its twenty shares a minute.
    fn config(shares_per_minute: f64) -> Config {
        let floor = Difficulty::power_of_two(-28).unwrap();
        Config { shares_per_minute, floor, start: floor, ..Config::default() }
    }

    /// A miner in a loop: shares arrive as a Poisson process drawn from a small generator of fixed seed.
    struct Miner {
        vardiff: Vardiff,
        now_ms: f64,
        state: u64,
        moves: u32,
    }

    impl Miner {
        fn new(config: Config, seed: u64) -> Miner {
            Miner { vardiff: Vardiff::new(config, 0), now_ms: 0.0, state: seed, moves: 0 }
        }

        fn uniform(&mut self) -> f64 {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
        }

        /// Hashes for `seconds`, and calls `look` each time that something was heard; returns the shares found.
        fn run(&mut self, hashes_per_second: f64, seconds: f64, mut look: impl FnMut(f64, &Vardiff)) -> u32 {
            let end = self.now_ms + seconds * 1_000.0;
            let mut shares = 0;
            loop {
                let before = self.vardiff.current();
                let mean_ms = before.work().as_f64() / hashes_per_second * 1_000.0;
                let gap = -self.uniform().ln() * mean_ms;
                // Silence is looked at once a second, and the arrival drawn anew: Poisson arrivals have no memory.
                self.now_ms += gap.min(1_000.0);
                if self.now_ms >= end {
                    self.now_ms = end;
                    return shares;
                }
                if gap < 1_000.0 {
                    shares += 1;
                    self.vardiff.on_share(self.now_ms as u64, before.work());
                } else {
                    self.vardiff.tick(self.now_ms as u64);
                }
                self.moves += u32::from(self.vardiff.current() != before);
                look(self.now_ms, &self.vardiff);
            }
        }

        /// How far the difficulty is from the right one, as a ratio of at least one.
        fn off_by(&self, hashes_per_second: f64) -> f64 {
            off_by(&self.vardiff, hashes_per_second)
        }
    }

    fn off_by(vardiff: &Vardiff, hashes_per_second: f64) -> f64 {
        let right = hashes_per_second * 60.0 / vardiff.config.shares_per_minute;
        let ratio = vardiff.current().work().as_f64() / right;
        ratio.max(1.0 / ratio)
    }

    /// What the product promises: after a step of a hundred either way, within a factor of two in a minute.
    #[test]
    fn a_step_of_a_hundred_is_followed_within_a_minute_and_nothing_swings_after_it() {
        const TRIALS: u64 = 400;
        let check = |shares_per_minute: f64, before: f64, after: f64| {
            let (mut in_time, mut calm, mut moves) = (0, 0, 0);
            for seed in 0..TRIALS {
                let mut miner = Miner::new(config(shares_per_minute), 77 * seed + before.to_bits());
                miner.run(before, 900.0, |_, _| {});
                miner.run(after, 60.0, |_, _| {});
                in_time += u64::from(miner.off_by(after) <= 2.0);
                miner.run(after, 60.0, |_, _| {});
                let (mut worst, mut outside, mut last) = (0.0_f64, 0.0, miner.now_ms);
                miner.moves = 0;
                miner.run(after, 600.0, |now_ms, vardiff| {
                    worst = worst.max(off_by(vardiff, after));
                    outside += if off_by(vardiff, after) > 2.0 { now_ms - last } else { 0.0 };
                    last = now_ms;
                });
                calm += u64::from(outside < 6_000.0);
                moves += miner.moves;
            }
            let share = |count: u64| count as f64 / TRIALS as f64;
            let moves = f64::from(moves) / (TRIALS * 10) as f64;
            let what = format!("{shares_per_minute} a minute, {before} to {after}");
            assert!(share(in_time) >= 0.99, "{what}: {}", share(in_time));
            assert!(share(calm) >= 0.99, "{what}: {}", share(calm));
            assert!(moves < 0.5, "{what}: {moves} moves a minute");
        };
        for (low, high) in [(1e3, 1e5), (1e6, 1e8), (1e10, 1e12), (1e13, 1e15)] {
            for shares_per_minute in [20.0, 60.0] {
                check(shares_per_minute, low, high);
                check(shares_per_minute, high, low);
            }
        }
    }

    #[test]
    fn a_new_miner_of_any_size_settles_from_the_floor() {
        for (seed, hashrate) in (1..).zip([1e4, 1e5, 1e6, 1e9, 2e14, 1e15]) {
            let mut miner = Miner::new(Config::default(), seed);
            miner.run(hashrate, 600.0, |_, _| {});
            let shares = miner.run(hashrate, 3_600.0, |_, _| {});
            assert!((300..1_200).contains(&shares), "{hashrate}: {shares} shares an hour");
        }
    }

    #[test]
    fn silence_lowers_it_and_sleep_freezes_it() {
        let check = |frozen: bool, lower: bool| {
            let mut miner = Miner::new(config(20.0), 3);
            miner.run(1e9, 900.0, |_, _| {});
            let before = miner.vardiff.current();
            miner.vardiff.set_frozen(miner.now_ms as u64, frozen);
            miner.run(1e-9, 300.0, |_, _| {});
            assert_eq!(miner.vardiff.current() < before, lower, "frozen: {frozen}");
            miner.vardiff.set_frozen(miner.now_ms as u64, false);
            miner.vardiff.tick(miner.now_ms as u64 + 1_000);
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
    fn difficulties_are_short_binary_numbers_near_what_was_meant() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.12, 1.0),
            (1.13, 1.25),
            (1.8, 1.75),
            (1.9, 2.0),
            (1000.0, 1024.0),
            (0.7, 0.75),
            (1e-6, 2f64.powi(-20)),
            (1e12, 1.75 * 2f64.powi(39)),
        ] {
            assert_eq!(rounded(value), expected, "{value}");
        }
    }
}
