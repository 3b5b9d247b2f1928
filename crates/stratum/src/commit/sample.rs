//! Where a claim is opened: positions in work space, drawn from a seed that did not exist when the claim was made.
//!
//! Assumes that the seed is random and the controller's. A position falls into a share with the probability of the share's part
//! of the claimed work, so that what is heavy is looked at often. Next: `proof.rs`.

use super::digest::{Digest, Domain};
use super::tree::Node;
use crate::uint256::U256;

/// Draws from 256 bits modulo the sum: uneven by less than 2^-128.
pub fn positions(seed: &Digest, root: &Node, count: usize) -> Vec<u128> {
    let sum = U256::from_u128(root.sum.0);
    let position = |number: u32| {
        let drawn = Digest::of(Domain::Sample, &[&seed.0, &root.encode(), &number.to_be_bytes()]);
        U256::from_be_bytes(drawn.0).div_rem(sum)?.1.to_u128()
    };
    // A sum of zero has no positions, and claims nothing.
    (0..count as u32).filter_map(position).collect()
}

/// The probability that at least one of `count` draws finds a cheat of the given part of the claimed work.
pub fn catches(cheat: f64, count: u32) -> f64 {
    1.0 - (1.0 - cheat.clamp(0.0, 1.0)).powi(i32::try_from(count).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::testing::digest;
    use super::*;
    use crate::hash::HeaderHash;
    use model::Work;

    fn root(sum: u128) -> Node {
        Node { digest: digest(1), count: 1, sum: Work(sum), max: HeaderHash([0; 32]) }
    }

    #[test]
    fn positions_lie_inside_and_depend_on_seed_and_root() {
        let drawn = positions(&digest(1), &root(1_000), 64);
        assert_eq!(drawn.len(), 64);
        assert!(drawn.iter().all(|position| *position < 1_000));
        assert_eq!(drawn, positions(&digest(1), &root(1_000), 64));
        assert_ne!(drawn, positions(&digest(2), &root(1_000), 64));
        assert_ne!(drawn, positions(&digest(1), &root(1_001), 64));
        assert_eq!(positions(&digest(1), &root(0), 64), []);
        assert!(positions(&digest(1), &root(u128::MAX), 8).iter().any(|position| *position > u128::MAX / 4));
    }

    #[test]
    fn positions_are_even() {
        // 16 bins of 1,024 draws each have a standard deviation of 31.
        let mut bins = [0i32; 16];
        for position in positions(&digest(3), &root(16), 16_384) {
            bins[position as usize] += 1;
        }
        assert!(bins.iter().all(|count| (count - 1_024).abs() < 5 * 31), "{bins:?}");
    }

    #[test]
    fn the_formula_has_these_values() {
        let check = |cheat: f64, count: u32, expected: f64| {
            let found = catches(cheat, count);
            assert!((found - expected).abs() < 5e-5, "{cheat} {count}: {found}");
        };
        check(0.0, 64, 0.0);
        check(1.0, 1, 1.0);
        check(0.5, 4, 0.9375);
        check(0.1, 64, 0.9988);
        check(0.05, 64, 0.9625);
        check(0.01, 64, 0.4744);
    }
}
