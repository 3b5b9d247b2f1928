//! Targets, difficulties and the work they stand for, exact where money hangs on it.
//!
//! Assumes mainnet's difficulty 1, `0xffff * 2^208`, for every chain. A difficulty is the float that Stratum carries; the
//! target that it means is `floor(0xffff * 2^208 / difficulty)`, computed in integers from the float's own mantissa and
//! exponent: the same on every machine, never easier than asked. Work of a target is `floor(2^256 / (target + 1))`.
//! Next: `verify.rs`, which compares; `vardiff.rs`, which chooses.

use crate::hash::HeaderHash;
use crate::uint256::U256;
use model::Work;

/// The work of the easiest share that we hand out: a share costs some 2 µs to verify and 0.1 µs a hash to find, so at
/// 4,096 hashes verification is below one percent of the mining.
pub const FLOOR_WORK: Work = Work(4096);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a difficulty must be a number above zero: correct it at its source")]
    NotPositive,
    #[error("the target of this difficulty exceeds 256 bits: use a difficulty of at least 2^-32")]
    TooEasy,
    #[error(
        "the target lies below 2^128, where work no longer fits its integer: use a difficulty below 2^95"
    )]
    TooHard,
    #[error("nbits is negative, zero or beyond 256 bits: the job that carries it cannot be used")]
    Nbits,
}

/// The largest hash that counts. Its work is kept beside it, because the division is dear and shares are many.
/// Private fields: at least 2^128, so that work fits 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    value: U256,
    work: u128,
}

impl Target {
    pub fn new(value: U256) -> Result<Target, Error> {
        let work = match value.checked_add(U256::ONE) {
            None => 1,
            Some(above) => work_below(above).ok_or(Error::TooHard)?,
        };
        Ok(Target { value, work })
    }

    /// The compact form in a block header: `mantissa * 256^(exponent - 3)`, as Bitcoin's `SetCompact` reads it.
    pub fn from_nbits(nbits: u32) -> Result<Target, Error> {
        let (exponent, mantissa) = (nbits >> 24, nbits & 0x007f_ffff);
        if nbits & 0x0080_0000 != 0 || mantissa == 0 {
            return Err(Error::Nbits);
        }
        let mantissa = U256::from_u64(u64::from(mantissa));
        let value = match exponent.checked_sub(3) {
            Some(up) => mantissa.checked_shl(8 * up).ok_or(Error::Nbits)?,
            None => mantissa.shift_right(8 * (3 - exponent)),
        };
        Target::new(value)
    }

    pub fn value(&self) -> U256 {
        self.value
    }

    /// Expected hashes until one meets the target.
    pub fn work(&self) -> Work {
        Work(self.work)
    }

    pub fn is_met_by(&self, hash: &HeaderHash) -> bool {
        hash.value() <= self.value
    }

    /// The difficulty nearest to this target, for people and for `mining.set_difficulty`.
    pub fn difficulty(&self) -> f64 {
        difficulty_1().to_f64() / self.value.to_f64()
    }
}

/// The difficulty that a hash reached: `0xffff * 2^208 / hash`, for people. Relative error under 2^-50.
pub fn difficulty_of(hash: &HeaderHash) -> f64 {
    difficulty_1().to_f64() / hash.value().max(U256::ONE).to_f64()
}

/// A difficulty that has a target: finite, above zero, from about 2^-32 to about 2^95.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty {
    value: f64,
    target: Target,
}

impl Difficulty {
    pub fn new(value: f64) -> Result<Difficulty, Error> {
        if !value.is_finite() || value <= 0.0 {
            return Err(Error::NotPositive);
        }
        let target = Target::new(divide_difficulty_1(value)?)?;
        Ok(Difficulty { value, target })
    }

    /// Powers of two are what we hand out by ourselves: every miner's own conversion, float or not, is exact for them.
    pub fn power_of_two(exponent: i16) -> Result<Difficulty, Error> {
        let biased = 1023 + i32::from(exponent);
        match u64::try_from(biased) {
            Ok(biased) if (1..=2046).contains(&biased) => Difficulty::new(f64::from_bits(biased << 52)),
            Ok(0) | Err(_) => Err(Error::TooEasy),
            Ok(_) => Err(Error::TooHard),
        }
    }

    /// 2^-20, whose work is `FLOOR_WORK`.
    pub fn floor() -> Difficulty {
        Difficulty::power_of_two(-20).expect("2^-20 lies inside the range of difficulties")
    }

    /// Difficulty 1, what holds until a pool says otherwise.
    pub fn one() -> Difficulty {
        Difficulty::power_of_two(0).expect("1 lies inside the range of difficulties")
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn target(&self) -> Target {
        self.target
    }

    pub fn work(&self) -> Work {
        self.target.work()
    }

    pub fn min(self, other: Difficulty) -> Difficulty {
        if other.value < self.value { other } else { self }
    }

    pub fn max(self, other: Difficulty) -> Difficulty {
        if other.value > self.value { other } else { self }
    }
}

fn difficulty_1() -> U256 {
    U256::from_u64(0xffff).checked_shl(208).expect("16 + 208 bits fit 256")
}

/// `floor(2^256 / above)` where that fits 128 bits: `(2^256 - above) / above + 1`, which never leaves 256 bits.
fn work_below(above: U256) -> Option<u128> {
    let rest = U256::MAX.checked_sub(above)?.checked_add(U256::ONE)?;
    rest.div_rem(above)?.0.to_u128()?.checked_add(1)
}

/// `floor(0xffff * 2^208 / (mantissa * 2^exponent))`, the fraction's bits brought down 64 at a time.
fn divide_difficulty_1(value: f64) -> Result<U256, Error> {
    let bits = value.to_bits();
    let biased = (bits >> 52) as i32 & 0x7ff;
    if biased == 0 {
        return Err(Error::TooEasy); // a subnormal float: below 2^-1022
    }
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let exponent = biased - 1075;
    let (mut quotient, mut rest) = difficulty_1().div_rem_u64(mantissa).ok_or(Error::NotPositive)?;
    if exponent >= 0 {
        return Ok(quotient.shift_right(exponent.unsigned_abs()));
    }
    let mut left = exponent.unsigned_abs();
    while left > 0 {
        let step = left.min(64);
        let part = u128::from(rest) << step;
        let digits = U256::from_u128(part / u128::from(mantissa));
        rest = (part % u128::from(mantissa)) as u64;
        quotient = quotient.checked_shl(step).and_then(|q| q.checked_add(digits)).ok_or(Error::TooEasy)?;
        left -= step;
    }
    Ok(quotient)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn shifted(value: u64, by: u32) -> U256 {
        U256::from_u64(value).checked_shl(by).unwrap()
    }

    #[test]
    fn difficulties_have_these_targets() {
        let check = |value: f64, expected: U256| {
            assert_eq!(Difficulty::new(value).unwrap().target().value(), expected, "{value}");
        };
        check(1.0, shifted(0xffff, 208));
        check(2.0, shifted(0xffff, 207));
        check(0.5, shifted(0xffff, 209));
        check(3.0, shifted(0xffff / 3, 208)); // 0xffff is a multiple of three
        check(4_294_967_296.0 * 65_536.0, shifted(0xffff, 160));
        check(1.0 / 1_048_576.0, shifted(0xffff, 228));
        check(1.0 / 4_294_967_296.0, shifted(0xffff, 240));
    }

    #[test]
    fn difficulties_outside_the_range_are_refused() {
        let check = |value: f64, expected: Result<(), Error>| {
            assert_eq!(Difficulty::new(value).map(|_| ()), expected, "{value}");
        };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -1e-300, 0.0, -0.0] {
            check(value, Err(Error::NotPositive));
        }
        for value in [1e-10, f64::MIN_POSITIVE, f64::from_bits(1)] {
            check(value, Err(Error::TooEasy));
        }
        for value in [1e29, f64::MAX] {
            check(value, Err(Error::TooHard));
        }
        for value in [1e-9, 9.5e-7, 1e20, 125.86e12] {
            check(value, Ok(()));
        }
        assert_eq!(Difficulty::power_of_two(-2000), Err(Error::TooEasy));
        assert_eq!(Difficulty::power_of_two(2000), Err(Error::TooHard));
    }

    #[test]
    fn work_is_exact_also_at_the_ends() {
        let check = |target: U256, expected: Option<u128>| {
            assert_eq!(Target::new(target).ok().map(|t| t.work().0), expected, "{target:?}");
        };
        check(U256::MAX, Some(1));
        check(U256::MAX.shift_right(1), Some(2));
        check(shifted(0xffff, 208), Some(4_295_032_833)); // the figure of every block explorer
        check(shifted(1, 128), Some(u128::MAX));
        check(U256::MAX.shift_right(128), None);
        check(U256::ZERO, None);
        assert_eq!(Difficulty::floor().work().0, FLOOR_WORK.0);
        assert_eq!(Difficulty::one().work().0, 4_295_032_833);
    }

    #[test]
    fn nbits_are_read_as_bitcoin_reads_them() {
        let check = |nbits: u32, expected: Result<U256, Error>| {
            assert_eq!(Target::from_nbits(nbits).map(|t| t.value()), expected, "{nbits:08x}");
        };
        check(0x1d00_ffff, Ok(shifted(0xffff, 208)));
        check(0x1e03_77ae, Ok(shifted(0x0377ae, 216)));
        check(0x207f_ffff, Ok(shifted(0x7f_ffff, 232)));
        check(0x0180_0000, Err(Error::Nbits));
        check(0x1d80_ffff, Err(Error::Nbits));
        check(0x1d00_0000, Err(Error::Nbits));
        check(0xff01_0000, Err(Error::Nbits));
        check(0x0212_3456, Err(Error::TooHard));
    }

    proptest! {
        #[test]
        fn a_target_is_the_floor_of_the_exact_quotient(mantissa in 1u64..1 << 53, exponent in -84i32..40) {
            let value = mantissa as f64 * f64::from(exponent).exp2();
            let Ok(difficulty) = Difficulty::new(value) else { return Ok(()) };
            // target * d <= D1 < (target + 1) * d, checked in integers by dividing D1 * 2^-exponent another way round.
            let target = difficulty.target().value();
            let (scaled, over) = if exponent >= 0 {
                (difficulty_1().shift_right(exponent as u32), None)
            } else {
                (difficulty_1(), Some(exponent.unsigned_abs()))
            };
            match over {
                None => prop_assert_eq!(target, scaled.div_rem_u64(mantissa).unwrap().0),
                // The leading bits of the quotient are those of the quotient without the fraction.
                Some(by) => prop_assert_eq!(target.shift_right(by), scaled.div_rem_u64(mantissa).unwrap().0),
            }
        }

        #[test]
        fn harder_means_a_lower_target_and_more_work(a in -20f64..60.0, b in -20f64..60.0) {
            let (low, high) = (Difficulty::new(a.min(b).exp2()).unwrap(), Difficulty::new(a.max(b).exp2()).unwrap());
            prop_assert!(low.target() >= high.target());
            prop_assert!(low.work().0 <= high.work().0);
            prop_assert_eq!(low.min(high), low);
            prop_assert_eq!(low.max(high), high);
        }

        #[test]
        fn a_difficulty_comes_back_from_its_target(exponent in -30f64..90.0) {
            let difficulty = Difficulty::new(exponent.exp2()).unwrap();
            let back = difficulty.target().difficulty();
            prop_assert!((back / difficulty.value() - 1.0).abs() < 1e-9_f64.max(2f64.powi(-30)), "{back}");
        }

        #[test]
        fn work_is_difficulty_times_two_to_the_32(exponent in 0f64..80.0) {
            let difficulty = Difficulty::new(exponent.exp2()).unwrap();
            let expected = difficulty.value() * 4_294_967_296.0 * 65_536.0 / 65_535.0;
            prop_assert!((difficulty.work().0 as f64 / expected - 1.0).abs() < 1e-9);
        }

        #[test]
        fn two_to_the_256_lies_between_work_and_work_plus_one_times_target(bytes: [u8; 32], by in 0u32..127) {
            let value = U256::from_be_bytes(bytes).shift_right(by);
            let Ok(target) = Target::new(value) else { return Ok(()) };
            let Some(above) = value.checked_add(U256::ONE) else { return Ok(()) };
            // MAX = 2^256 - 1: its quotient is the work, or one less where the division leaves no rest.
            let (quotient, rest) = U256::MAX.div_rem(above).unwrap();
            let exact = rest.checked_add(U256::ONE) == Some(above);
            prop_assert_eq!(Some(target.work().0), quotient.to_u128().map(|q| q + u128::from(exact)));
        }
    }
}
