//! Units as types: power, energy, money, hash rate, work.
//!
//! All are integers; floats live in physics and statistics only. Arithmetic saturates: a sum that would pass ±9.2 × 10^18
//! (nine exawatts) means a corrupt reading, and a controller that panics on one would be worse than one that clamps it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::iter::Sum;
use std::marker::PhantomData;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Span;

/// What a [`Quantity`] counts: its symbol, for `Display`.
pub trait Unit: 'static {
    /// The unit's symbol, with no leading space.
    const SYMBOL: &'static str;
}

/// A signed 64-bit amount of the unit `U`. Written in JSON as a bare integer.
pub struct Quantity<U> {
    amount: i64,
    unit: PhantomData<fn() -> U>,
}

/// Marker of [`Watts`].
#[derive(Debug)]
pub enum Watt {}
/// Marker of [`WattSeconds`].
#[derive(Debug)]
pub enum WattSecond {}
/// Marker of [`WattsPerSecond`].
#[derive(Debug)]
pub enum WattPerSecond {}
/// Marker of [`MicroDollars`].
#[derive(Debug)]
pub enum MicroDollar {}
/// Marker of [`Hashrate`].
#[derive(Debug)]
pub enum HashPerSecond {}

/// Marker of [`Pace`].
#[derive(Debug)]
pub enum ThousandthOfFullSpeed {}

impl Unit for Watt {
    const SYMBOL: &'static str = "W";
}
impl Unit for WattSecond {
    const SYMBOL: &'static str = "Ws";
}
impl Unit for WattPerSecond {
    const SYMBOL: &'static str = "W/s";
}
impl Unit for MicroDollar {
    const SYMBOL: &'static str = "µ$";
}
impl Unit for HashPerSecond {
    const SYMBOL: &'static str = "H/s";
}

impl Unit for ThousandthOfFullSpeed {
    const SYMBOL: &'static str = "‰";
}

/// Electric power. Positive is consumption for loads and production for sources.
pub type Watts = Quantity<Watt>;
/// Energy. 3,600,000 Ws are a kilowatt-hour.
pub type WattSeconds = Quantity<WattSecond>;
/// A ramp of power.
pub type WattsPerSecond = Quantity<WattPerSecond>;
/// Money, in millionths of a US dollar.
pub type MicroDollars = Quantity<MicroDollar>;
/// Hashes a second (SHA-256d of a block header). 1 TH/s is 10^12.
pub type Hashrate = Quantity<HashPerSecond>;
/// Progress a second of a workload, in thousandths of what it makes without a power cap.
pub type Pace = Quantity<ThousandthOfFullSpeed>;

impl<U> Quantity<U> {
    /// None of it.
    pub const ZERO: Self = Self::new(0);
    /// The largest amount; sums saturate here.
    pub const MAX: Self = Self::new(i64::MAX);

    /// An amount in the unit itself.
    pub const fn new(amount: i64) -> Self {
        Self { amount, unit: PhantomData }
    }

    /// The bare amount, for conversions at the edges (wire, physics, display).
    pub const fn get(self) -> i64 {
        self.amount
    }

    /// The amount as a float, for physics and statistics.
    pub const fn as_f64(self) -> f64 {
        self.amount as f64
    }

    /// Rounds a float to the nearest amount; NaN becomes zero and infinities saturate, as Rust's casts do.
    pub fn from_f64(amount: f64) -> Self {
        Self::new(amount.round() as i64)
    }

    /// `self × count`, saturating.
    pub const fn times(self, count: i64) -> Self {
        Self::new(self.amount.saturating_mul(count))
    }

    /// `self × numerator ÷ denominator`, rounded toward zero, computed in 128 bits; zero when the denominator is zero.
    pub const fn fraction(self, numerator: i64, denominator: i64) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        let wide = self.amount as i128 * numerator as i128 / denominator as i128;
        let clamped = if wide > i64::MAX as i128 {
            i64::MAX
        } else if wide < i64::MIN as i128 {
            i64::MIN
        } else {
            wide as i64
        };
        Self::new(clamped)
    }

    /// `self ÷ other` as a float; `None` when `other` is zero.
    pub fn ratio(self, other: Self) -> Option<f64> {
        (other.amount != 0).then(|| self.amount as f64 / other.amount as f64)
    }

    /// How often `other` fits into `self`; zero when `other` is not positive.
    pub const fn whole_times(self, other: Self) -> i64 {
        if other.amount <= 0 { 0 } else { self.amount / other.amount }
    }

    /// The distance from zero.
    pub const fn abs(self) -> Self {
        Self::new(self.amount.saturating_abs())
    }

    /// Zero for negative amounts.
    pub fn at_least_zero(self) -> Self {
        self.max(Self::ZERO)
    }
}

impl Watts {
    /// An amount in kilowatts.
    pub const fn kilo(kilowatts: i64) -> Self {
        Self::new(kilowatts.saturating_mul(1_000))
    }

    /// Energy of this power held for `span`, rounded toward zero.
    pub const fn for_span(self, span: Span) -> WattSeconds {
        WattSeconds::new(self.get()).fraction(span.millis(), 1_000)
    }
}

impl WattSeconds {
    /// The power that spends it over `span`, rounded toward zero; zero where the span is none.
    pub const fn over(self, span: Span) -> Watts {
        Watts::new(self.get()).fraction(1_000, span.millis())
    }

    /// An amount in kilowatt-hours.
    pub const fn kilowatt_hours(kwh: i64) -> Self {
        Self::new(kwh.saturating_mul(3_600_000))
    }
}

impl MicroDollars {
    /// An amount in whole dollars.
    pub const fn dollars(dollars: i64) -> Self {
        Self::new(dollars.saturating_mul(1_000_000))
    }

    /// An amount in cents.
    pub const fn cents(cents: i64) -> Self {
        Self::new(cents.saturating_mul(10_000))
    }
}

impl Hashrate {
    /// An amount in terahashes a second.
    pub const fn tera(terahashes: i64) -> Self {
        Self::new(terahashes.saturating_mul(1_000_000_000_000))
    }
}

// Derives would demand the same traits of the marker `U`; these do not.
impl<U> Clone for Quantity<U> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<U> Copy for Quantity<U> {}
impl<U> Default for Quantity<U> {
    fn default() -> Self {
        Self::ZERO
    }
}
impl<U> PartialEq for Quantity<U> {
    fn eq(&self, other: &Self) -> bool {
        self.amount == other.amount
    }
}
impl<U> Eq for Quantity<U> {}
impl<U> PartialOrd for Quantity<U> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<U> Ord for Quantity<U> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.amount.cmp(&other.amount)
    }
}
impl<U> Hash for Quantity<U> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.amount.hash(state);
    }
}
impl<U> Add for Quantity<U> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.amount.saturating_add(other.amount))
    }
}
impl<U> Sub for Quantity<U> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(self.amount.saturating_sub(other.amount))
    }
}
impl<U> Neg for Quantity<U> {
    type Output = Self;
    fn neg(self) -> Self {
        Self::new(self.amount.saturating_neg())
    }
}
impl<U> AddAssign for Quantity<U> {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl<U> SubAssign for Quantity<U> {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl<U> Sum for Quantity<U> {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}
impl<U: Unit> fmt::Debug for Quantity<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.amount, U::SYMBOL)
    }
}
impl<U: Unit> fmt::Display for Quantity<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, U::SYMBOL)
    }
}
impl<U> Serialize for Quantity<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.amount.serialize(serializer)
    }
}
impl<'de, U> Deserialize<'de> for Quantity<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::new)
    }
}

/// Expected hashes: 2^256 ÷ (target + 1) of a share, summed. 10 EH/s for a year are 3 × 10^26, far inside 128 bits.
/// Written in JSON as a decimal string, since JSON readers keep integers exact only to 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(pub u128);

impl Work {
    /// No work.
    pub const ZERO: Self = Self(0);

    /// The work as a float, for statistics.
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// `self × scale`, saturating: nominal work of a simulated miner group, whose scale is nominal hashes for each hash done.
    pub const fn scaled(self, scale: u64) -> Self {
        Self(self.0.saturating_mul(scale as u128))
    }

    /// `self − other`, or zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} H", self.0)
    }
}
impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for Work {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Watts::MAX + Watts::new(1), Watts::MAX);
        assert_eq!(Watts::new(i64::MIN) - Watts::new(1), Watts::new(i64::MIN));
        assert_eq!(Watts::MAX.times(2), Watts::MAX);
        assert_eq!(Work(u128::MAX) + Work(1), Work(u128::MAX));
    }

    #[test]
    fn fractions_are_exact_in_the_middle() {
        assert_eq!(Watts::kilo(1_000).fraction(3, 4), Watts::kilo(750));
        assert_eq!(Watts::MAX.fraction(2, 2), Watts::MAX);
        assert_eq!(Watts::new(7).fraction(1, 0), Watts::ZERO);
    }

    #[test]
    fn a_kilowatt_for_an_hour_is_a_kilowatt_hour() {
        assert_eq!(Watts::kilo(1).for_span(Span::secs(3_600)), WattSeconds::kilowatt_hours(1));
        assert_eq!(WattSeconds::kilowatt_hours(1).over(Span::minutes(15)), Watts::kilo(4));
    }

    #[test]
    fn units_are_bare_integers_and_work_is_a_string_in_json() {
        assert_eq!(serde_json::to_string(&Watts::new(-5)).unwrap(), "-5");
        let big = Work(1 << 100);
        let text = serde_json::to_string(&big).unwrap();
        assert_eq!(text, "\"1267650600228229401496703205376\"");
        assert_eq!(serde_json::from_str::<Work>(&text).unwrap(), big);
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_order(mut amounts in prop::collection::vec(-1_000_000i64..1_000_000, 0..20)) {
            let forward: Watts = amounts.iter().map(|&a| Watts::new(a)).sum();
            amounts.reverse();
            let backward: Watts = amounts.iter().map(|&a| Watts::new(a)).sum();
            prop_assert_eq!(forward, backward);
        }
    }
}
