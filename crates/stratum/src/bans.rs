//! Who is refused for a while: addresses from which nothing but rubbish comes, three times in ten minutes.
//!
//! An address may be a whole farm behind one router, or every miner of this machine. So bad shares never count, an address with a
//! miner that has proven work is never banned, nor for a day after; and from one that is banned a single connection in a quarter
//! of a minute is let in: the first verified share ends the ban. Assumes a caller that asks at each accept, and tells how connections
//! end. What each connection may cost is bounded elsewhere (`line.rs`, `downstream.rs`). Next: `downstream.rs` for what closes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Connections that were closed for rubbish until their address is banned.
const OFFENCES: usize = 3;
/// Time within which they must be.
const WITHIN_MS: u64 = 600_000;
/// How long a ban lasts since the last of them.
const BAN_MS: u64 = 600_000;
/// From a banned address one connection is let in so often, should there be an honest miner behind it. One that offends costs 33 lines.
const TRIAL_EVERY_MS: u64 = 15_000;
/// An address that has proven work is remembered for a day: a farm that restarts is known.
const HONEST_MS: u64 = 86_400_000;
/// Those who were honest too long ago are looked for so often at most.
const SWEEP_EVERY_MS: u64 = 60_000;
/// Addresses remembered of each kind beyond those connected: 100 bytes each, 400 kB.
const MAX_PEERS: usize = 4_096;

/// Where a connection comes from: an IPv4 address, or the 64 bits of an IPv6 address that one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(u128);

/// `::ffff:0:0`, where IPv6 has the addresses of IPv4.
const MAPPED: u128 = 0xffff_0000_0000;

impl Peer {
    pub fn v4(octets: [u8; 4]) -> Peer {
        Peer(MAPPED | u128::from(u32::from_be_bytes(octets)))
    }

    /// An address of IPv4 that is written as one of IPv6 is the same peer.
    pub fn v6(octets: [u8; 16]) -> Peer {
        let address = u128::from_be_bytes(octets);
        // The first 64 bits of `::1`, which is this machine, are those of the mapped ones: these are kept whole.
        Peer(if address >> 64 == 0 { address } else { address >> 64 << 64 })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & !0xffff_ffff == MAPPED {
            let [a, b, c, d] = (self.0 as u32).to_be_bytes();
            return write!(f, "{a}.{b}.{c}.{d}");
        }
        if self.0 >> 64 == 0 {
            return write!(f, "::{:x}", self.0);
        }
        let part = |at: u32| (self.0 >> (112 - 16 * at)) as u16;
        write!(f, "{:x}:{:x}:{:x}:{:x}::/64", part(0), part(1), part(2), part(3))
    }
}

/// A ban in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    pub peer: Peer,
    /// How long it lasts from now.
    pub left_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Offender {
    /// When it offended, the latest last; at most [`OFFENCES`].
    times: VecDeque<u64>,
    banned_until_ms: Option<u64>,
    next_trial_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Honest {
    /// Connections that have proven work and are there.
    open: u64,
    seen_ms: u64,
}

/// Private fields: no peer is in both maps, and both are bounded: the honest by [`MAX_PEERS`] and those connected.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    offenders: BTreeMap<Peer, Offender>,
    honest: BTreeMap<Peer, Honest>,
    swept_ms: u64,
    refused: u64,
}

impl Bans {
    /// Whether a connection may be served.
    pub fn admits(&mut self, now_ms: u64, peer: Peer) -> bool {
        let Some(offender) = self.offenders.get_mut(&peer) else { return true };
        match offender.banned_until_ms {
            None => true,
            Some(until) if now_ms >= until => {
                self.offenders.remove(&peer);
                true
            }
            Some(_) if now_ms >= offender.next_trial_ms => {
                offender.next_trial_ms = now_ms + TRIAL_EVERY_MS;
                true
            }
            Some(_) => {
                self.refused += 1;
                false
            }
        }
    }

    /// A connection was closed for rubbish. `true` when a ban begins by it.
    pub fn on_offence(&mut self, now_ms: u64, peer: Peer) -> bool {
        if self.is_honest(now_ms, peer) {
            return false;
        }
        self.honest.remove(&peer);
        self.make_room(now_ms, peer);
        let offender = self.offenders.entry(peer).or_default();
        if offender.banned_until_ms.is_some_and(|until| now_ms >= until) {
            *offender = Offender::default();
        }
        if let Some(until) = &mut offender.banned_until_ms {
            // It was on trial, or was let in before.
            *until = now_ms + BAN_MS;
            return false;
        }
        offender.times.retain(|at| now_ms.saturating_sub(*at) < WITHIN_MS);
        offender.times.push_back(now_ms);
        let begins = offender.times.len() >= OFFENCES;
        if begins {
            offender.banned_until_ms = Some(now_ms + BAN_MS);
            offender.next_trial_ms = now_ms + TRIAL_EVERY_MS;
        }
        begins
    }

    /// The first verified share of a connection. Call [`Bans::on_honest_gone`] when that connection ends.
    pub fn on_honest(&mut self, now_ms: u64, peer: Peer) {
        self.offenders.remove(&peer);
        let honest = self.honest.entry(peer).or_default();
        (honest.open, honest.seen_ms) = (honest.open + 1, now_ms);
    }

    /// A connection that had proven work has ended, for whatever reason.
    pub fn on_honest_gone(&mut self, now_ms: u64, peer: Peer) {
        let Some(honest) = self.honest.get_mut(&peer) else { return };
        (honest.open, honest.seen_ms) = (honest.open.saturating_sub(1), now_ms);
        if self.honest.len() <= MAX_PEERS {
            return;
        }
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            self.honest.retain(|_, honest| honest.is_known(now_ms));
        }
        // Those that are connected stay; this one is the latest of the others, and makes the least of a loss.
        if self.honest.len() > MAX_PEERS && self.honest.get(&peer).is_some_and(|honest| honest.open == 0) {
            self.honest.remove(&peer);
        }
    }

    /// Connections that were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The bans in force, in order of address.
    pub fn in_force(&self, now_ms: u64) -> Vec<Ban> {
        let ban = |(peer, offender): (&Peer, &Offender)| {
            let left_ms = offender.banned_until_ms?.checked_sub(now_ms).filter(|left| *left > 0)?;
            Some(Ban { peer: *peer, left_ms })
        };
        self.offenders.iter().filter_map(ban).collect()
    }

    fn is_honest(&self, now_ms: u64, peer: Peer) -> bool {
        self.honest.get(&peer).is_some_and(|honest| honest.is_known(now_ms))
    }

    /// The one that offended longest ago makes room for another. A flood of addresses thus ends bans early: what each connection
    /// may cost stays bounded.
    fn make_room(&mut self, now_ms: u64, peer: Peer) {
        if self.offenders.len() < MAX_PEERS || self.offenders.contains_key(&peer) {
            return;
        }
        self.offenders.retain(|_, offender| offender.matters(now_ms));
        if self.offenders.len() >= MAX_PEERS {
            let last = |offender: &Offender| offender.times.back().copied();
            let oldest = self.offenders.iter().min_by_key(|(_, offender)| last(offender));
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.offenders.remove(&oldest);
            }
        }
    }
}

impl Honest {
    fn is_known(&self, now_ms: u64) -> bool {
        self.open > 0 || now_ms.saturating_sub(self.seen_ms) < HONEST_MS
    }
}

impl Offender {
    fn matters(&self, now_ms: u64) -> bool {
        match self.banned_until_ms {
            Some(until) => now_ms < until,
            None => self.times.back().is_some_and(|last| now_ms.saturating_sub(*last) < WITHIN_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BAD: Peer = Peer(MAPPED | 7);
    const OTHER: Peer = Peer(MAPPED | 8);
    const MINUTE: u64 = 60_000;

    /// What happens, each at a second.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Offends(u64),
        Proves(u64),
        Leaves(u64),
    }
    use Step::{Leaves, Offends, Proves};

    fn after(steps: &[Step]) -> Bans {
        let mut bans = Bans::default();
        for step in steps {
            match *step {
                Offends(at) => {
                    bans.on_offence(1_000 * at, BAD);
                }
                Proves(at) => bans.on_honest(1_000 * at, BAD),
                Leaves(at) => bans.on_honest_gone(1_000 * at, BAD),
            }
        }
        bans
    }

    #[test]
    fn three_offences_within_ten_minutes_are_a_ban_of_ten_unless_somebody_there_is_honest() {
        let check = |steps: &[Step], at: u64, admitted: bool| {
            let mut bans = after(steps);
            assert_eq!(bans.admits(1_000 * at, BAD), admitted, "{steps:?} at {at}");
            assert!(bans.admits(1_000 * at, OTHER), "nobody else is concerned");
        };
        let banned = [Offends(0), Offends(1), Offends(2)];
        check(&[Offends(0), Offends(1)], 2, true);
        check(&banned, 3, false);
        check(&banned, 16, false);
        check(&banned, 602, true);
        check(&[Offends(0), Offends(300), Offends(601)], 602, true);
        check(&[Offends(0), Offends(300), Offends(599)], 600, false);
        // An honest miner is there, was there within a day, or was there before.
        check(&[Proves(0), Offends(1), Offends(2), Offends(3)], 4, true);
        check(&[Proves(0), Leaves(1), Offends(2), Offends(3), Offends(4)], 5, true);
        check(
            &[Proves(0), Proves(0), Leaves(1), Offends(90_000), Offends(90_001), Offends(90_002)],
            90_003,
            true,
        );
        check(&[Proves(0), Leaves(1), Offends(90_000), Offends(90_001), Offends(90_002)], 90_003, false);
        // A share ends the ban, and offences before it are forgotten.
        check(&[Offends(0), Offends(1), Offends(2), Proves(18)], 19, true);
    }

    #[test]
    fn one_connection_a_quarter_minute_is_tried_and_the_first_share_ends_the_ban() {
        let mut bans = after(&[Offends(0), Offends(0), Offends(0)]);
        assert_eq!(bans.in_force(0), [Ban { peer: BAD, left_ms: BAN_MS }]);
        // A farm behind the same router knocks each second.
        let admitted: Vec<u64> = (0..60).filter(|at| bans.admits(1_000 * at, BAD)).collect();
        assert_eq!(admitted, [15, 30, 45]);
        assert_eq!(bans.refused(), 57);
        bans.on_honest(61_000, BAD);
        assert!((61..70).all(|at| bans.admits(1_000 * at, BAD)));
        assert_eq!(bans.in_force(61_000), []);
        assert!((0..9).all(|at| !bans.on_offence(62_000 + at, BAD)), "and no other begins");
    }

    #[test]
    fn a_ban_begins_once_and_is_over_by_itself() {
        let mut bans = Bans::default();
        let begins: Vec<bool> = (0..5).map(|at| bans.on_offence(at, BAD)).collect();
        assert_eq!(begins, [false, false, true, false, false]);
        assert_eq!(bans.in_force(3 + BAN_MS), [Ban { peer: BAD, left_ms: 1 }], "from the last on");
        assert_eq!(bans.in_force(4 + BAN_MS), []);
        assert!(bans.admits(4 + BAN_MS, BAD));
        assert!(!bans.on_offence(5 + BAN_MS, BAD), "it begins anew");
    }

    #[test]
    fn addresses_that_one_subscriber_has_are_one_peer() {
        let v6 = |text: [u16; 8]| {
            let mut octets = [0; 16];
            text.iter()
                .zip(octets.chunks_mut(2))
                .for_each(|(part, at)| at.copy_from_slice(&part.to_be_bytes()));
            Peer::v6(octets)
        };
        let check = |one: Peer, other: Peer, same: bool, shown: &str| {
            assert_eq!((one == other, one.to_string().as_str()), (same, shown));
        };
        check(Peer::v4([192, 0, 2, 1]), Peer::v4([192, 0, 2, 2]), false, "192.0.2.1");
        check(Peer::v4([192, 0, 2, 1]), v6([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x201]), true, "192.0.2.1");
        let home = v6([0x2001, 0xdb8, 0, 5, 1, 2, 3, 4]);
        check(home, v6([0x2001, 0xdb8, 0, 5, 9, 9, 9, 9]), true, "2001:db8:0:5::/64");
        check(home, v6([0x2001, 0xdb8, 0, 6, 1, 2, 3, 4]), false, "2001:db8:0:5::/64");
        check(v6([0, 0, 0, 0, 0, 0, 0, 1]), Peer::v4([127, 0, 0, 1]), false, "::1");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut bans = Bans::default();
        let peer = |number: u64| Peer(MAPPED | u128::from(number));
        let most = MAX_PEERS as u64 + 200;
        for (at, number) in [0, 0, 0].into_iter().chain(1..most).enumerate() {
            bans.on_offence(at as u64, peer(number));
        }
        assert_eq!(bans.offenders.len(), MAX_PEERS);
        assert!(
            !bans.offenders.contains_key(&peer(0)) && bans.offenders.contains_key(&peer(MAX_PEERS as u64))
        );
        for number in 0..most {
            bans.on_honest(MINUTE, peer(number));
            bans.on_honest_gone(MINUTE, peer(number));
        }
        assert_eq!((bans.offenders.len(), bans.honest.len()), (0, MAX_PEERS));
    }

    proptest! {
        #[test]
        fn whoever_has_proven_work_is_never_refused(
            steps in prop::collection::vec((0u8..3, 0u64..200_000), 0..80),
        ) {
            let (mut bans, mut now, mut open) = (Bans::default(), 0, 0u32);
            for (what, later) in steps {
                now += later;
                match what {
                    0 => {
                        bans.on_offence(now, BAD);
                    }
                    1 => {
                        bans.on_honest(now, BAD);
                        open += 1;
                    }
                    _ if open > 0 => {
                        bans.on_honest_gone(now, BAD);
                        open -= 1;
                    }
                    _ => {}
                }
                prop_assert!(open == 0 || bans.admits(now, BAD));
                prop_assert!(bans.in_force(now).len() <= 1);
            }
        }
    }
}
