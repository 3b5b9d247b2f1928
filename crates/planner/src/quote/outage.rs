//! What fails and comes back: two states, up and down, hour by hour, each part on a random stream of its own.
//!
//! A part's stream follows from the seed, the number of the draw and the part's name alone. So one more well, set or site changes
//! nothing for the others, and two fleets are compared on the same luck. Integers only. Read next: `draw`.

use serde::{Deserialize, Serialize};

/// Probabilities are counted in parts of 2^32.
const WHOLE: u64 = 1 << 32;
/// The step of the generator (SplitMix64, Steele, Lea and Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How often something is out, and for how long at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Share of time it is out, in thousandths.
    pub permille: u32,
    /// Mean length of a spell, in hours.
    pub hours: u32,
}

impl Outage {
    /// It never is.
    pub const NEVER: Self = Self { permille: 0, hours: 1 };

    /// The chance that a spell begins in an hour, in parts of 2^32: q ÷ ((1 − q) × D) keeps it out for q of the time.
    pub(super) fn begins(self) -> u64 {
        let out = u64::from(self.permille.min(999));
        (out * WHOLE / ((1_000 - out) * self.length())).min(WHOLE)
    }

    /// The chance that a spell ends in an hour.
    fn ends(self) -> u64 {
        WHOLE / self.length()
    }

    fn length(self) -> u64 {
        u64::from(self.hours.max(1))
    }
}

/// One thing that can be out: a well, a compressor, a set.
#[derive(Clone, Debug)]
pub(super) struct Part {
    key: u64,
    outage: Outage,
    out_now: bool,
}

impl Part {
    /// A part by its name in the fleet.
    pub(super) fn new(name: &[&str], outage: Outage, out_now: bool) -> Self {
        // FNV-1a over the words, each closed by a zero byte.
        let bytes = name.iter().flat_map(|word| word.bytes().chain([0]));
        let key = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { key, outage, out_now }
    }

    /// Whether it is out now.
    pub(super) fn is_out(&self) -> bool {
        self.out_now
    }

    /// Its course in one draw.
    pub(super) fn course(&self, seed: u64, draw: u32) -> Course {
        let state = mix(seed ^ mix(self.key ^ mix(u64::from(draw))));
        Course { state, begins: self.outage.begins(), ends: self.outage.ends(), out: self.out_now }
    }
}

/// What becomes of a part in one draw.
#[derive(Clone, Debug)]
pub(super) struct Course {
    state: u64,
    begins: u64,
    ends: u64,
    out: bool,
}

impl Course {
    /// Goes on by an hour; whether it is out then. One number is drawn in each hour, whatever the state.
    pub(super) fn hour(&mut self) -> bool {
        self.state = self.state.wrapping_add(STEP);
        let luck = mix(self.state) >> 32;
        self.out = if self.out { luck >= self.ends } else { luck < self.begins };
        self.out
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over 400,000 hours the share of time out is within a twentieth of what is asked, and spells have the length.
    #[test]
    fn shares_and_lengths_are_what_is_asked() {
        let check = |permille: u32, hours: u32| {
            let part = Part::new(&["s", "w"], Outage { permille, hours }, false);
            let (mut out, mut spells, mut before) = (0u64, 0u64, false);
            let mut course = part.course(7, 0);
            for _ in 0..400_000 {
                let now = course.hour();
                out += u64::from(now);
                spells += u64::from(now && !before);
                before = now;
            }
            let (share, length) = (out * 1_000 / 400, out * 100 / spells.max(1));
            let (asked, mean) = (u64::from(permille) * 1_000, u64::from(hours) * 100);
            assert!(share.abs_diff(asked) * 15 <= asked, "{permille}: {share} of a million hours");
            assert!(length.abs_diff(mean) * 15 <= mean, "{hours}: {length} hundredths of an hour");
        };
        check(80, 24);
        check(210, 48);
        check(8, 2);
        check(50, 12);
    }

    #[test]
    fn what_never_fails_stays_and_what_is_out_comes_back() {
        let mut sound = Part::new(&["a"], Outage::NEVER, false).course(1, 1);
        assert!((0..10_000).all(|_| !sound.hour()));
        let mut broken = Part::new(&["a"], Outage::NEVER, true).course(1, 1);
        assert!(!broken.hour(), "a spell of one hour is over in the next");
    }

    #[test]
    fn streams_differ_by_name_draw_and_seed() {
        let course = |name: &[&str], seed, draw| {
            let mut course = Part::new(name, Outage { permille: 500, hours: 2 }, false).course(seed, draw);
            (0..64).fold(0u64, |bits, _| bits << 1 | u64::from(course.hour()))
        };
        let first = course(&["a", "b"], 1, 1);
        assert_eq!(first, course(&["a", "b"], 1, 1));
        for other in [course(&["ab"], 1, 1), course(&["a", "b"], 2, 1), course(&["a", "b"], 1, 2)] {
            assert_ne!(first, other);
        }
    }
}
