//! Shares on the wire: a table whose places are used again, so that a share that comes and goes moves no other.
//!
//! Assumes that each share is taken out once; a name that was used up finds nothing. The table is as long as most shares that were
//! ever on the wire at once: for each session 4,096 that wait for an answer and 1,000 in its spool, of some 200 bytes. Next:
//! `../state.rs`, the owner.

use std::sync::Arc;

use model::Work;
use stratum::hash::HeaderHash;
use stratum::upstream::{Outgoing, ShareRef};

use crate::proxy::Sabotage;
use crate::proxy::journal::ShareSeq;

/// What is to be known of a share when its outcome comes.
pub(super) struct InFlight {
    /// The first alone, unless sabotaged.
    pub(super) records: Records,
    pub(super) miner: Arc<str>,
    pub(super) work: Work,
    /// What is claimed once the pool accepts.
    pub(super) claim: Option<(Outgoing, HeaderHash)>,
}

/// Its intents in the journal.
pub(super) type Records = [Option<ShareSeq>; Sabotage::MOST_RECORDS];

/// Private fields: `free` are exactly the places without a share.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    /// How often it was used: part of a share's name, so that no name comes twice.
    turn: u32,
    share: Option<InFlight>,
}

impl Flights {
    /// The share's name until it is taken out.
    pub(super) fn add(&mut self, share: InFlight) -> ShareRef {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        let at = &mut self.places[place as usize];
        at.turn = at.turn.wrapping_add(1);
        at.share = Some(share);
        ShareRef(u64::from(at.turn) << 32 | u64::from(place))
    }

    /// `None` for one that was taken out before.
    pub(super) fn remove(&mut self, ShareRef(name): ShareRef) -> Option<InFlight> {
        let place = name as u32;
        let at = self.places.get_mut(place as usize)?;
        if u64::from(at.turn) != name >> 32 {
            return None;
        }
        let share = at.share.take()?;
        self.free.push(place);
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn flying(work: u128) -> InFlight {
        InFlight { records: Records::default(), miner: "m".into(), work: Work(work), claim: None }
    }

    #[test]
    fn each_share_is_taken_out_once_whatever_the_order_and_places_are_used_again() {
        let (mut flights, mut open, mut used) = (Flights::default(), BTreeMap::new(), Vec::new());
        let mut state = 1u64;
        for number in 0..5_000u128 {
            let name = flights.add(flying(number));
            assert!(open.insert(name, number).is_none(), "no name comes twice");
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // About as many go as come.
            while open.len() > (state >> 58) as usize {
                let at = (state >> 33) as usize % open.len();
                let name = *open.keys().nth(at).unwrap();
                assert_eq!(flights.remove(name).map(|share| share.work.0), open.remove(&name));
                used.push(name);
            }
        }
        assert!(flights.places.len() <= 65, "{} places", flights.places.len());
        assert_eq!(flights.places.len() - flights.free.len(), open.len());
        assert!(used.into_iter().all(|name| flights.remove(name).is_none()));
        assert!(flights.remove(ShareRef(u64::MAX)).is_none());
    }
}
