//! Credits: how many hashes simulated time owes each miner, exact to the last one.
//!
//! Assumes that one thread at a time advances. What a span owes is `rate × milliseconds ÷ (1000 × scale)`; the remainder is
//! carried, so that many short steps owe the same as one long one. Next: `worker.rs`, which works it off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Hashrate, Span};

use super::{MinerId, Slot};

/// Most hashes owed to one miner: half a minute of the whole default budget. A simulation that does not wait for its
/// hashing loses what lies above, and its verified hash rate falls short of the claimed one, as it should.
const MAX_OWED: u64 = 30_000_000;

#[derive(Debug, Default)]
pub(super) struct Credits {
    miners: BTreeMap<MinerId, Credit>,
}

#[derive(Debug)]
struct Credit {
    slot: Arc<Slot>,
    /// Nominal hashes times milliseconds that make one hash: `1000 × scale`.
    unit: u128,
    /// Less than `unit`.
    remainder: u128,
}

impl Credits {
    pub(super) fn add(&mut self, slot: Arc<Slot>, scale: u64) {
        let unit = 1_000 * u128::from(scale.max(1));
        self.miners.insert(slot.id, Credit { slot, unit, remainder: 0 });
    }

    pub(super) fn remove(&mut self, id: MinerId) {
        self.miners.remove(&id);
    }

    pub(super) fn advance(&mut self, dt: Span, rates: &[(MinerId, Hashrate)]) {
        let millis = u128::from(dt.at_least_zero().get().unsigned_abs());
        for (id, rate) in rates {
            let Some(credit) = self.miners.get_mut(id) else { continue };
            let rate = u128::from(rate.at_least_zero().get().unsigned_abs());
            let sum = rate * millis + credit.remainder;
            credit.remainder = sum % credit.unit;
            let hashes = u64::try_from(sum / credit.unit).unwrap_or(MAX_OWED);
            let owed = &credit.slot.owed;
            let room = MAX_OWED.saturating_sub(owed.load(Ordering::Relaxed));
            owed.fetch_add(hashes.min(room), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    fn one(scale: u64) -> (Credits, Arc<Slot>) {
        let (finds, _) = mpsc::channel(1);
        let slot = Arc::new(Slot { id: MinerId(1), owed: AtomicU64::new(0), work: Mutex::new(None), finds });
        let mut credits = Credits::default();
        credits.add(Arc::clone(&slot), scale);
        (credits, slot)
    }

    fn owed(scale: u64, rate: Hashrate, spans: &[i64]) -> u64 {
        let (mut credits, slot) = one(scale);
        spans.iter().for_each(|span| credits.advance(Span::new(*span), &[(MinerId(1), rate)]));
        slot.owed.load(Ordering::Relaxed)
    }

    #[test]
    fn a_terahash_over_its_scale_is_owed() {
        let check = |scale: u64, rate: Hashrate, span: i64, expected: u64| {
            assert_eq!(owed(scale, rate, &[span]), expected, "{rate} at {scale} for {span} ms");
        };
        check(1_000_000_000, Hashrate::tera(200), 1_000, 200_000);
        check(1, Hashrate::new(3), 1_000, 3);
        check(1, Hashrate::new(3), 333, 0);
        check(0, Hashrate::new(3), 1_000, 3);
        check(1, Hashrate::new(-3), 1_000, 0);
        check(1, Hashrate::new(3), -1_000, 0);
        check(1, Hashrate::MAX, i64::MAX, MAX_OWED);
    }

    #[test]
    fn an_unknown_miner_is_ignored() {
        let (mut credits, slot) = one(1);
        credits.remove(MinerId(1));
        credits.advance(Span::secs(1), &[(MinerId(1), Hashrate::new(5)), (MinerId(9), Hashrate::new(5))]);
        assert_eq!(slot.owed.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn short_steps_owe_what_a_long_one_owes(spans in prop::collection::vec(0i64..500, 1..40), rate in 0i64..10_000_000) {
            let rate = Hashrate::new(rate);
            prop_assert_eq!(owed(700, rate, &spans), owed(700, rate, &[spans.iter().sum()]));
        }
    }
}
