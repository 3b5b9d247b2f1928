//! Test values: a small generator that fills every field with another value, so that a conversion which forgets or swaps
//! fields cannot go unseen. Seeded by proptest; the seed is what a failing test prints.

use std::collections::BTreeMap;
use std::fmt::Debug;

use model::id::{Id, Kind};
use model::unit::Quantity;
use model::{Span, Time};
use proptest::prelude::*;

use super::Error;

/// A stream of values that depend on the seed alone.
pub(super) struct Vary(u64);

impl Vary {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (SplitMix64, Steele and others 2014).
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    pub(super) fn small(&mut self) -> u32 {
        (self.bits() >> 40) as u32
    }

    pub(super) fn byte(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }

    pub(super) fn of<U>(&mut self) -> Quantity<U> {
        Quantity::new(self.bits().cast_signed())
    }

    pub(super) fn span(&mut self) -> Span {
        self.of()
    }

    pub(super) fn time(&mut self) -> Time {
        Time(self.bits().cast_signed())
    }

    pub(super) fn text(&mut self) -> String {
        format!("text {} — é", self.small())
    }

    pub(super) fn id<K: Kind>(&mut self) -> Id<K> {
        Id::new(&format!("i{}", self.small())).expect("a letter and digits are an id")
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.small() as usize % choices.len()].clone()
    }

    pub(super) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    pub(super) fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.bits() % 4).map(|_| make(self)).collect()
    }

    pub(super) fn map<K: Kind, T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> BTreeMap<Id<K>, T> {
        self.list(|vary| (vary.id(), make(vary))).into_iter().collect()
    }
}

/// Sends what `make` makes over the wire, encoded and decoded, and demands it back unchanged; for many seeds.
pub(super) fn survives<M, W>(make: impl Fn(&mut Vary) -> M)
where
    M: Clone + Debug + PartialEq + TryFrom<W, Error = Error>,
    W: From<M> + prost::Message + Default,
{
    proptest!(|(seed in any::<u64>())| {
        let sent = make(&mut Vary(seed));
        let bytes = W::from(sent.clone()).encode_to_vec();
        let wire = W::decode(bytes.as_slice()).expect("what was encoded decodes");
        prop_assert_eq!(M::try_from(wire), Ok(sent));
    });
}

/// Demands that each model value comes back from the wire's enum, and that the zero value is refused.
pub(super) fn enum_survives<M, W>(all: &[M], zero: W)
where
    M: Copy + Debug + PartialEq + TryFrom<W, Error = Error>,
    W: From<M>,
{
    for &value in all {
        assert_eq!(M::try_from(W::from(value)), Ok(value));
    }
    assert!(M::try_from(zero).is_err());
}
