//! The module's share of what the island may change at once, as a budget in watts that moves draw from.
//!
//! The budget fills with the share's ramp up to its step and empties only in the module's turn of the cycle, at most one step a
//! turn. It assumes clocks of the site's agents that agree within the gaps between turns; [`model::envelope::Share`] defines
//! the numbers.

use model::envelope::Share;
use model::{Span, Time, Watts};

/// What may still be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    bucket: Watts,
    filled: Option<Span>,
    turn: Option<i64>,
    spent: Watts,
}

impl Budget {
    /// Fills the budget up to `at` (boot time) and says what may be moved now; `now` tells whose turn it is.
    pub fn available(&mut self, share: &Share, now: Time, at: Span) -> Watts {
        let since = self.filled.map_or(Span::ZERO, |filled| (at - filled).at_least_zero());
        self.filled = Some(at);
        let filled = Watts::new(share.ramp.get()).fraction(since.get(), 1_000);
        self.bucket = (self.bucket + filled).min(share.step).at_least_zero();
        let turn = turn_of(share, now);
        if turn != self.turn || share.cycle <= Span::ZERO {
            self.spent = Watts::ZERO;
            self.turn = turn;
        }
        match turn {
            Some(_) => self.bucket.min(share.step - self.spent).at_least_zero(),
            None => Watts::ZERO,
        }
    }

    /// Takes what was moved out of the budget.
    pub fn spend(&mut self, moved: Watts) {
        self.bucket = (self.bucket - moved).at_least_zero();
        self.spent += moved;
    }
}

/// Which turn of this module `now` falls into; `None` outside its turns. Without a cycle it is always its turn.
fn turn_of(share: &Share, now: Time) -> Option<i64> {
    if share.cycle <= Span::ZERO {
        return Some(0);
    }
    let into = now - Time::EPOCH - share.offset;
    let turning = into.get().rem_euclid(share.cycle.get()) < share.turn.get();
    turning.then(|| into.get().div_euclid(share.cycle.get()))
}

#[cfg(test)]
mod tests {
    use model::WattsPerSecond;

    use super::*;

    fn share(cycle: i64, offset: i64, turn: i64) -> Share {
        Share {
            step: Watts::kilo(50),
            ramp: WattsPerSecond::new(10_000),
            cycle: Span::secs(cycle),
            offset: Span::secs(offset),
            turn: Span::secs(turn),
        }
    }

    /// Moves all it may every second for two minutes and returns what was moved in each second.
    fn greedy(share: &Share) -> Vec<i64> {
        let mut budget = Budget::default();
        let moved = |second: i64| {
            let available = budget.available(share, Time(second * 1_000), Span::secs(second));
            budget.spend(available);
            available.get()
        };
        (0..120).map(moved).collect()
    }

    #[test]
    fn the_ramp_holds_on_average_and_the_step_each_turn() {
        for (cycle, offset, turn) in [(0, 0, 0), (20, 0, 5), (20, 15, 5), (8, 4, 4), (60, 0, 60)] {
            let share = share(cycle, offset, turn);
            let moved = greedy(&share);
            assert!(moved.iter().sum::<i64>() <= 120 * 10_000, "{share:?}");
            assert!(moved.iter().sum::<i64>() > 0, "{share:?} never moves");
            for (start, length) in (0..120).step_by(cycle.max(1) as usize).map(|s| (s, cycle.max(1) as usize))
            {
                let end = (start + length).min(120);
                assert!(moved[start..end].iter().sum::<i64>() <= 2 * 50_000, "{share:?} from {start}");
            }
        }
    }

    #[test]
    fn nothing_moves_out_of_turn() {
        let moved = greedy(&share(20, 15, 5));
        let stray = moved.iter().enumerate().find(|(second, watts)| second % 20 < 15 && **watts > 0);
        assert_eq!(stray, None);
        assert_eq!(moved[15], 50_000, "a full step at the turn's begin");
        assert_eq!(moved[16..20], [0, 0, 0, 0], "and no more than one step in it");
    }

    #[test]
    fn an_empty_share_allows_nothing() {
        assert!(greedy(&Share::default()).iter().all(|&watts| watts == 0));
    }
}
