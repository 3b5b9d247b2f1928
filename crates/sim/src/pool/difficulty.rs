//! The pool's own arithmetic of difficulties: which hash is low enough, and what a share is worth.
//!
//! Assumes mainnet's difficulty 1 (`0xffff × 2^208`) and takes the float by its exact value `m × 2^e`. It multiplies where the
//! `stratum` crate divides: a hash is low enough when `hash × m × 2^e <= 0xffff × 2^208`. Next: `share.rs`.

use std::cmp::Ordering;

/// A natural number, least significant limb first; leading zeros are allowed.
type Natural = Vec<u32>;

/// The largest hash that counts at one difficulty, and the work it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    difficulty: f64,
    /// Big-endian.
    target: [u8; 32],
    work: u128,
}

impl Threshold {
    /// `None` for what is no difficulty, and outside 2^-31 to 2^80, where targets or work leave their integers.
    pub(super) fn new(difficulty: f64) -> Option<Threshold> {
        let (easiest, hardest) = (2f64.powi(-31), 2f64.powi(80));
        if !(easiest..=hardest).contains(&difficulty) {
            return None;
        }
        let target = largest::<256>(|candidate| meets(candidate, difficulty));
        let mut above = target.clone();
        add_one(&mut above);
        let all_hashes = shifted(&[1], 256);
        let work = largest::<128>(|candidate| compare(&product(candidate, &above), &all_hashes).is_le());
        let work = work.iter().rev().fold(0u128, |sum, limb| sum << 32 | u128::from(*limb));
        Some(Threshold { difficulty, target: big_endian(&target), work })
    }

    pub(super) fn difficulty(&self) -> f64 {
        self.difficulty
    }

    /// Expected hashes of one share: `floor(2^256 ÷ (target + 1))`.
    pub(super) fn work(&self) -> u128 {
        self.work
    }

    /// Whether a hash, in the order in which SHA-256 gives it, is low enough.
    pub(super) fn admits(&self, mut hash: [u8; 32]) -> bool {
        hash.reverse();
        hash <= self.target
    }
}

/// `hash × m × 2^e <= 0xffff × 2^208`, the power of two put on whichever side keeps it whole.
fn meets(hash: &[u32], difficulty: f64) -> bool {
    let bits = difficulty.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let exponent = (bits >> 52) as i32 - 1075;
    let (left, right) = (exponent.max(0) as u32, (-exponent).max(0) as u32);
    let scaled = product(hash, &[mantissa as u32, (mantissa >> 32) as u32]);
    compare(&shifted(&scaled, left), &shifted(&[0xffff], 208 + right)).is_le()
}

/// The largest number of `BITS` bits that a monotone test admits, found from the top bit down.
fn largest<const BITS: usize>(admits: impl Fn(&[u32]) -> bool) -> Natural {
    let mut number = vec![0u32; BITS / 32];
    for bit in (0..BITS).rev() {
        number[bit / 32] |= 1 << (bit % 32);
        if !admits(&number) {
            number[bit / 32] &= !(1 << (bit % 32));
        }
    }
    number
}

fn product(a: &[u32], b: &[u32]) -> Natural {
    let mut result = vec![0u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0u64;
        for (j, y) in b.iter().enumerate() {
            let sum = u64::from(*x) * u64::from(*y) + u64::from(result[i + j]) + carry;
            result[i + j] = sum as u32;
            carry = sum >> 32;
        }
        result[i + b.len()] = carry as u32;
    }
    result
}

fn shifted(number: &[u32], bits: u32) -> Natural {
    let mut result = vec![0u32; (bits / 32) as usize];
    result.extend(product(number, &[1 << (bits % 32)]));
    result
}

fn add_one(number: &mut Natural) {
    for limb in number.iter_mut() {
        let (sum, carry) = limb.overflowing_add(1);
        *limb = sum;
        if !carry {
            return;
        }
    }
    number.push(1);
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let limb = |number: &[u32], index: usize| number.get(index).copied().unwrap_or(0);
    let differing = (0..a.len().max(b.len())).rev().find(|index| limb(a, *index) != limb(b, *index));
    differing.map_or(Ordering::Equal, |index| limb(a, index).cmp(&limb(b, index)))
}

fn big_endian(number: &[u32]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, limb) in bytes.chunks_exact_mut(4).rev().zip(number) {
        place.copy_from_slice(&limb.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn work_of_known_difficulties() {
        let check = |difficulty: f64, work: u128| {
            assert_eq!(Threshold::new(difficulty).unwrap().work(), work, "{difficulty}")
        };
        check(2f64.powi(-20), 4096); // 2^28 ÷ 65535 = 4096.06
        check(1.0, 4_295_032_833); // 2^48 ÷ 65535
        check(2.0, 8_590_065_666);
        check(0.5, 2_147_516_416);
    }

    #[test]
    fn the_largest_hash_is_in_and_the_next_one_out() {
        let threshold = Threshold::new(1.0).unwrap();
        let mut hash = [0u8; 32];
        hash[26] = 0xff;
        hash[27] = 0xff;
        assert!(threshold.admits(hash), "0xffff × 2^208 itself");
        hash[0] = 1;
        assert!(!threshold.admits(hash));
    }

    #[test]
    fn nonsense_is_no_difficulty() {
        for difficulty in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-12, 1e30] {
            assert_eq!(Threshold::new(difficulty), None, "{difficulty}");
        }
    }

    proptest! {
        // Two implementations that share no line must agree on every difficulty, to the last bit.
        #[test]
        fn agrees_with_the_verifier_of_the_edge(exponent in -20i32..60, mantissa in 1.0f64..2.0) {
            let difficulty = mantissa * 2f64.powi(exponent);
            let ours = Threshold::new(difficulty).unwrap();
            let theirs = stratum::target::Difficulty::new(difficulty).unwrap();
            prop_assert_eq!(ours.work(), theirs.work().0);
            prop_assert_eq!(ours.target, theirs.target().value().to_be_bytes());
        }
    }
}
