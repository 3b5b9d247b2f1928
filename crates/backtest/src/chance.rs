//! Seeded chance for demand, outages and synthetic series: every stream is a function of (seed, purpose, place), so that what one
//! strategy does changes nothing that another one meets.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): no more is needed where nobody guesses along. Used by [`crate::demand`],
//! [`crate::outage`] and [`crate::synthetic`].

/// What a draw is for; each purpose has streams of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Days = 1,
    Copies = 2,
    Outage = 3,
    Price = 4,
    Trace = 5,
    Weeks = 6,
    Thin = 7,
    Events = 8,
    Noise = 9,
}

/// One stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of `purpose` at `place`: always the same for the same three.
    pub(crate) fn new(seed: u64, purpose: Purpose, place: [u64; 2]) -> Self {
        let words = [purpose as u64, place[0], place[1]];
        Self(words.into_iter().fold(mix(seed), |state, word| mix(state ^ mix(word))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits fill the mantissa of a double.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// One of `count` places, each as likely as the others; zero when there is none.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Exponential of this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
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
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_seed_purpose_and_place() {
        let draw = |seed, purpose, place| Chance::new(seed, purpose, place).unit();
        let first = draw(1, Purpose::Days, [2, 3]);
        assert_eq!(first, draw(1, Purpose::Days, [2, 3]));
        for other in [
            draw(2, Purpose::Days, [2, 3]),
            draw(1, Purpose::Trace, [2, 3]),
            draw(1, Purpose::Days, [3, 2]),
            draw(1, Purpose::Days, [2, 4]),
        ] {
            assert_ne!(first, other);
        }
        assert_ne!(place("g1"), place("g2"));
    }

    #[test]
    fn draws_have_the_moments_they_claim() {
        let mut chance = Chance::new(7, Purpose::Price, [0, 0]);
        let mut mean = |draw: &mut dyn FnMut(&mut Chance) -> f64| {
            (0..20_000).map(|_| draw(&mut chance)).sum::<f64>() / 20_000.0
        };
        // Three standard errors of 20,000 draws of variance one are 0.021.
        assert!(mean(&mut Chance::normal).abs() < 0.025);
        assert!((mean(&mut |chance| chance.exponential(1.0)) - 1.0).abs() < 0.025);
        assert!((mean(&mut |chance| chance.between(2.0, 4.0)) - 3.0).abs() < 0.015);
        assert!((mean(&mut |chance| chance.below(5) as f64) - 2.0).abs() < 0.035);
        assert_eq!(Chance::new(1, Purpose::Days, [0, 0]).below(0), 0);
    }
}
