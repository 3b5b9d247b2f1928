//! A 256-bit unsigned integer with just what targets and work need: byte orders, order, checked add and shift, division.
//! Assumes nothing; no floats decide anything here. Next: `target.rs`, which gives the numbers their meaning.

/// Four limbs, most significant first, so that the derived order is the numeric one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct U256([u64; 4]);

impl U256 {
    pub const ZERO: U256 = U256([0; 4]);
    pub const ONE: U256 = U256([0, 0, 0, 1]);
    pub const MAX: U256 = U256([u64::MAX; 4]);

    pub const fn from_u64(value: u64) -> U256 {
        U256([0, 0, 0, value])
    }

    pub const fn from_u128(value: u128) -> U256 {
        U256([0, 0, (value >> 64) as u64, value as u64])
    }

    /// The number, where it is below 2^128.
    pub fn to_u128(self) -> Option<u128> {
        let [a, b, c, d] = self.0;
        (a == 0 && b == 0).then_some(u128::from(c) << 64 | u128::from(d))
    }

    pub fn from_be_bytes(bytes: [u8; 32]) -> U256 {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_be_bytes(*chunk);
        }
        U256(limbs)
    }

    pub fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_be_bytes();
        }
        bytes
    }

    /// Little-endian, as Bitcoin reads the bytes of a header hash.
    pub fn from_le_bytes(mut bytes: [u8; 32]) -> U256 {
        bytes.reverse();
        U256::from_be_bytes(bytes)
    }

    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = self.to_be_bytes();
        bytes.reverse();
        bytes
    }

    /// Bits up to and including the highest one set; 0 for zero.
    pub fn bits(self) -> u32 {
        256 - self.leading_zeros()
    }

    pub fn checked_add(self, other: U256) -> Option<U256> {
        let mut sum = U256::ZERO;
        let mut carry = false;
        for i in (0..4).rev() {
            let (part, over) = self.0[i].overflowing_add(other.0[i]);
            let (part, over_again) = part.overflowing_add(u64::from(carry));
            sum.0[i] = part;
            carry = over || over_again;
        }
        (!carry).then_some(sum)
    }

    pub fn checked_sub(self, other: U256) -> Option<U256> {
        (self >= other).then(|| self.wrapping_sub(other))
    }

    /// `self * 2^count`, where it fits.
    pub fn checked_shl(self, count: u32) -> Option<U256> {
        if self == U256::ZERO {
            return Some(self);
        }
        (count <= self.leading_zeros()).then(|| self.shift_left(count))
    }

    /// `floor(self / 2^count)`.
    pub fn shift_right(self, count: u32) -> U256 {
        if count >= 256 {
            return U256::ZERO;
        }
        let (words, bits) = ((count / 64) as usize, count % 64);
        let mut result = U256::ZERO;
        for i in words..4 {
            let low = self.0[i - words] >> bits;
            let high = if bits > 0 && i > words { self.0[i - words - 1] << (64 - bits) } else { 0 };
            result.0[i] = high | low;
        }
        result
    }

    /// Quotient and remainder by a small divisor; `None` for a divisor of zero.
    pub fn div_rem_u64(self, divisor: u64) -> Option<(U256, u64)> {
        let wide = u128::from(divisor);
        let mut quotient = U256::ZERO;
        let mut rest = 0u128;
        for i in 0..4 {
            let part = rest << 64 | u128::from(self.0[i]);
            quotient.0[i] = part.checked_div(wide)? as u64;
            rest = part % wide;
        }
        Some((quotient, rest as u64))
    }

    /// Quotient and remainder by shift and subtract: at most 256 short steps, run once per target and never per share.
    /// `None` for a divisor of zero.
    pub fn div_rem(self, divisor: U256) -> Option<(U256, U256)> {
        if divisor == U256::ZERO {
            return None;
        }
        let (mut quotient, mut rest) = (U256::ZERO, self);
        let Some(first) = self.bits().checked_sub(divisor.bits()) else { return Some((quotient, rest)) };
        for shift in (0..=first).rev() {
            let part = divisor.shift_left(shift);
            if rest >= part {
                rest = rest.wrapping_sub(part);
                quotient.0[3 - (shift / 64) as usize] |= 1 << (shift % 64);
            }
        }
        Some((quotient, rest))
    }

    /// The nearest float below or at the number's leading 64 bits: relative error under 2^-52. For display only.
    pub fn to_f64(self) -> f64 {
        let shift = self.bits().saturating_sub(64);
        let [.., leading] = self.shift_right(shift).0;
        leading as f64 * power_of_two(shift)
    }

    fn leading_zeros(self) -> u32 {
        let mut zeros = 0;
        for limb in self.0 {
            zeros += limb.leading_zeros();
            if limb != 0 {
                break;
            }
        }
        zeros
    }

    /// Left shift that drops what leaves the top; callers have made sure that nothing does.
    fn shift_left(self, count: u32) -> U256 {
        if count >= 256 {
            return U256::ZERO;
        }
        let (words, bits) = ((count / 64) as usize, count % 64);
        let mut result = U256::ZERO;
        for i in 0..4 - words {
            let high = self.0[i + words] << bits;
            let low = if bits > 0 && i + words < 3 { self.0[i + words + 1] >> (64 - bits) } else { 0 };
            result.0[i] = high | low;
        }
        result
    }

    fn wrapping_sub(self, other: U256) -> U256 {
        let mut difference = U256::ZERO;
        let mut borrow = false;
        for i in (0..4).rev() {
            let (part, under) = self.0[i].overflowing_sub(other.0[i]);
            let (part, under_again) = part.overflowing_sub(u64::from(borrow));
            difference.0[i] = part;
            borrow = under || under_again;
        }
        difference
    }
}

/// 2^exponent for exponents of a 256-bit number, exactly.
fn power_of_two(exponent: u32) -> f64 {
    f64::from_bits(u64::from(1023 + exponent.min(1023)) << 52)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_u256() -> impl Strategy<Value = U256> {
        // Shifted, so that small numbers are as likely as large ones.
        (any::<[u8; 32]>(), 0u32..256).prop_map(|(bytes, by)| U256::from_be_bytes(bytes).shift_right(by))
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(U256::from_be_bytes(bytes).to_be_bytes(), bytes);
            prop_assert_eq!(U256::from_le_bytes(bytes).to_le_bytes(), bytes);
        }

        #[test]
        fn order_is_that_of_big_endian_bytes(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(U256::from_be_bytes(a).cmp(&U256::from_be_bytes(b)), a.cmp(&b));
        }

        #[test]
        fn subtraction_undoes_addition(a in any_u256(), b in any_u256()) {
            match a.checked_add(b) {
                Some(sum) => prop_assert_eq!(sum.checked_sub(b), Some(a)),
                None => prop_assert!(U256::MAX.checked_sub(a).unwrap() < b),
            }
        }

        #[test]
        fn shifts_undo_each_other(a in any_u256(), by in 0u32..300) {
            if let Some(shifted) = a.checked_shl(by) {
                prop_assert_eq!(shifted.shift_right(by), a);
            } else {
                prop_assert!(a.bits() + by > 256);
            }
        }

        #[test]
        fn both_divisions_agree_and_leave_a_small_rest(a in any_u256(), b in 1u64..) {
            let (quotient, rest) = a.div_rem(U256::from_u64(b)).unwrap();
            prop_assert_eq!(a.div_rem_u64(b), Some((quotient, rest.to_u128().unwrap() as u64)));
            prop_assert!(rest < U256::from_u64(b));
        }

        #[test]
        fn division_agrees_with_that_of_u128(a: u128, b in 1u128.., by in 0u32..128) {
            // Scaling dividend and divisor alike leaves the quotient and scales the rest.
            let (wide, divisor) = (U256::from_u128(a), U256::from_u128(b));
            let (wide, divisor) = (wide.checked_shl(by).unwrap(), divisor.checked_shl(by).unwrap());
            let expected = (U256::from_u128(a / b), U256::from_u128(a % b).checked_shl(by).unwrap());
            prop_assert_eq!(wide.div_rem(divisor), Some(expected));
        }
    }

    #[test]
    fn edges() {
        assert_eq!(U256::MAX.checked_add(U256::ONE), None);
        assert_eq!(U256::ZERO.checked_sub(U256::ONE), None);
        assert_eq!(U256::ONE.div_rem(U256::ZERO), None);
        assert_eq!(U256::ONE.div_rem_u64(0), None);
        assert_eq!(U256::MAX.div_rem(U256::MAX), Some((U256::ONE, U256::ZERO)));
        assert_eq!((U256::ZERO.bits(), U256::MAX.bits()), (0, 256));
        assert_eq!(U256::ONE.checked_shl(255).unwrap().to_f64(), 255f64.exp2());
        assert_eq!(U256::ONE.checked_shl(128).unwrap().to_u128(), None);
    }
}
