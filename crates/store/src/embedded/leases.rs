//! The leases of the embedded twin: who has one, and until when. Pure; time comes in as an argument.
//!
//! Assumes: the writer thread alone owns it, so that keep-alive and expiry cannot cross. Deadlines are not on
//! the disk: after a restart each lease has its full time to live again, as with etcd after a change of leader.
//! Read next: `writer.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::port::{Lease, LeaseId};

/// Leases at a time. One per controller is the normal load; a thousand is a client gone wild.
pub(super) const MAX_LEASES: usize = 1000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leases {
    held: BTreeMap<LeaseId, Held>,
    next: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    ttl: Duration,
    deadline: Duration,
}

impl Leases {
    /// The leases as they were stored, each with its full time to live from `now`. `next` is the first free id.
    pub(super) fn restore(stored: impl IntoIterator<Item = Lease>, next: i64, now: Duration) -> Self {
        let held = stored.into_iter().map(|l| (l.id, Held { ttl: l.ttl, deadline: now + l.ttl })).collect();
        Self { held, next: next.max(1) }
    }

    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.held.contains_key(&lease)
    }

    /// The first id that was never granted; ids are not used again, or an old holder could renew a new lease.
    pub(super) fn next_id(&self) -> i64 {
        self.next
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Duration) -> Result<Lease, Error> {
        if self.held.len() >= MAX_LEASES {
            return Err(Error::Limit {
                what: "the number of leases".into(),
                got: self.held.len() as u64 + 1,
                limit: MAX_LEASES as u64,
            });
        }
        let id = LeaseId(self.next);
        self.next += 1;
        self.held.insert(id, Held { ttl, deadline: now + ttl });
        Ok(Lease { id, ttl })
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Duration) -> Result<(), Error> {
        let held = self.held.get_mut(&lease).ok_or(Error::LeaseNotFound { lease })?;
        held.deadline = now + held.ttl;
        Ok(())
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> Result<(), Error> {
        self.held.remove(&lease).map(drop).ok_or(Error::LeaseNotFound { lease })
    }

    /// The leases whose time is over, oldest id first.
    pub(super) fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.held.iter().filter(|(_, held)| held.deadline <= now).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_ends_at_its_deadline_unless_it_is_kept_alive() {
        let mut leases = Leases::restore([], 1, Duration::ZERO);
        let a = leases.grant(5 * S, Duration::ZERO).unwrap().id;
        let b = leases.grant(5 * S, Duration::ZERO).unwrap().id;
        leases.keep_alive(b, 3 * S).unwrap();
        assert_eq!(leases.expired(5 * S - Duration::from_nanos(1)), vec![]);
        assert_eq!(leases.expired(5 * S), vec![a]);
        assert_eq!(leases.expired(8 * S), vec![a, b]);
    }

    #[test]
    fn a_lease_that_is_gone_cannot_be_renewed_or_ended_again() {
        let mut leases = Leases::restore([], 1, Duration::ZERO);
        let a = leases.grant(S, Duration::ZERO).unwrap().id;
        leases.remove(a).unwrap();
        assert!(!leases.contains(a));
        assert!(matches!(leases.keep_alive(a, S), Err(Error::LeaseNotFound { .. })));
        assert!(matches!(leases.remove(a), Err(Error::LeaseNotFound { .. })));
    }

    #[test]
    fn ids_are_never_used_again_and_a_restart_gives_full_time() {
        let stored = [Lease { id: LeaseId(3), ttl: 5 * S }];
        let mut leases = Leases::restore(stored, 9, 100 * S);
        assert_eq!(leases.expired(104 * S), vec![]);
        assert_eq!(leases.expired(105 * S), vec![LeaseId(3)]);
        assert_eq!(leases.grant(S, 100 * S).unwrap().id, LeaseId(9));
        assert_eq!(leases.next_id(), 10);
    }

    #[test]
    fn the_number_of_leases_is_bounded() {
        let mut leases = Leases::restore([], 1, Duration::ZERO);
        for _ in 0..MAX_LEASES {
            leases.grant(S, Duration::ZERO).unwrap();
        }
        assert!(matches!(leases.grant(S, Duration::ZERO), Err(Error::Limit { .. })));
    }
}
