//! Whether a module shows what it claims: one that cannot show a block any more is not called a liar, and one that never can is
//! told to people.
//!
//! Assumes that an honest agent loses what it claimed with its disk or in an outage of more than a day, which are rare. Next:
//! `../auditor.rs`.

use model::report::Finding;
use serde::{Deserialize, Serialize};

/// Blocks that say something, and the part of them that may stay unshown, in hundredths.
const LEAST: u32 = 16;
const MOST_UNSHOWN_PERCENT: u32 = 25;
/// Blocks remembered, two days of them; then older ones lose half their weight.
const MEMORY: u32 = 288;

/// Blocks in which something was claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    ended: u32,
    unshown: u32,
}

impl Shown {
    pub(super) fn record(&mut self, is_shown: bool) {
        self.ended += 1;
        self.unshown += u32::from(!is_shown);
        if self.ended > MEMORY {
            (self.ended, self.unshown) = (self.ended / 2, self.unshown / 2);
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let Shown { ended, unshown } = *self;
        (ended >= LEAST && unshown * 100 > ended * MOST_UNSHOWN_PERCENT).then(|| Finding {
            code: "share-claims-unshown".into(),
            subject: "share commitments".into(),
            message: format!(
                "of the last {ended} blocks with claims {unshown} were not shown: look for a failing disk of its agent, and pay nothing \
                 that the pool's own books do not have"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_shows_is_told_and_who_lost_a_disk_is_not() {
        let check = |is_shown: fn(u32) -> bool, blocks: u32, expected: bool| {
            let mut shown = Shown::default();
            (0..blocks).for_each(|block| shown.record(is_shown(block)));
            assert_eq!(shown.finding().is_some(), expected, "{shown:?}");
        };
        check(|_| true, 1_000, false);
        check(|_| false, 15, false); // too few to say
        check(|_| false, 16, true);
        check(|block| block % 3 != 0, 144, true);
        check(|block| block % 5 != 0, 144, false);
        check(|block| block > 3, 144, false);
        check(|block| block < 1_000, 1_150, true); // the past is forgotten
    }
}
