//! Seeded chance for the physics: every draw is a function of (seed, purpose, place), so that a plant that is started again at
//! the same simulated time meets the same gas.
//!
//! Assumes nothing about order: two purposes never share a stream. Used by [`crate::gas`], [`crate::miner_power`] and
//! [`crate::series`].

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a draw is for; each purpose has streams of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    GasCharacter = 1,
    GasLevel = 2,
    GasDay = 3,
    MinerNoise = 4,
    JobTier = 5,
}

/// One stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `purpose` at `place` (a source, a day, a group): always the same for the same three.
    pub(crate) fn new(seed: u64, purpose: Purpose, place: [u64; 2]) -> Self {
        let mixed =
            [purpose as u64, place[0], place[1]].into_iter().fold(seed, |state, word| mix(state ^ mix(word)));
        Self(ChaCha8Rng::seed_from_u64(mixed))
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits fill the mantissa of a double.
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A number for a text, for use as a place: FNV-1a, 64 bits.
pub(crate) fn place(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finalizer of SplitMix64: each input bit flips each output bit about half the time.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_seed_purpose_and_place() {
        let draw = |seed, purpose, place| Dice::new(seed, purpose, place).unit();
        let first = draw(1, Purpose::GasDay, [2, 3]);
        assert_eq!(first, draw(1, Purpose::GasDay, [2, 3]));
        for other in [
            draw(2, Purpose::GasDay, [2, 3]),
            draw(1, Purpose::GasLevel, [2, 3]),
            draw(1, Purpose::GasDay, [3, 2]),
            draw(1, Purpose::GasDay, [2, 4]),
        ] {
            assert_ne!(first, other);
        }
        assert_ne!(place("w1"), place("w2"));
    }

    #[test]
    fn draws_have_the_moments_they_claim() {
        let mut dice = Dice::new(7, Purpose::MinerNoise, [0, 0]);
        let draws: Vec<f64> = (0..20_000).map(|_| dice.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
        let unit: f64 = (0..20_000).map(|_| dice.between(2.0, 4.0)).sum::<f64>() / 20_000.0;
        assert!((unit - 3.0).abs() < 0.02, "{unit}");
    }
}
