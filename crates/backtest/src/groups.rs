//! The miner groups of the simulated plant: they follow the plan's targets within their dwell, and forget the time they wake in.
//!
//! Lowering is obeyed at once, since ceilings demand it; a group that was lowered waits out its dwell before it is raised again.
//! Used by [`crate::engine`].

use model::module::MinerGroup;
use model::plan::{GroupTarget, STEP};
use model::{MicroDollars, Span, Time, Watts, Work};

/// One group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) at: GroupTarget,
    raised: Option<Time>,
    lowered: Option<Time>,
    /// Miners that wake in this step.
    woken: u32,
}

/// What following a target brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) wear: MicroDollars,
    /// It was lowered within its dwell after it was raised.
    pub(crate) reversal: bool,
}

impl Group {
    pub(crate) const ASLEEP: Self =
        Self { at: GroupTarget { awake: 0, point: 0 }, raised: None, lowered: None, woken: 0 };

    /// Follows a target.
    pub(crate) fn follow(&mut self, config: &MinerGroup, target: GroupTarget, now: Time) -> Moved {
        self.woken = 0;
        let (before, after) = (draw(config, self.at), draw(config, target));
        let within = |since: Option<Time>| since.is_some_and(|since| now.since(since) < config.dwell);
        if after > before && within(self.lowered) {
            return Moved::default();
        }
        let reversal = after < before && within(self.raised);
        if after > before {
            self.raised = Some(now);
        } else if after < before {
            self.lowered = Some(now);
        }
        self.woken = target.awake.saturating_sub(self.at.awake);
        self.at = target;
        Moved { wear: config.wear.times(self.woken.into()), reversal }
    }

    /// What it draws above standby.
    pub(crate) fn draw(&self, config: &MinerGroup) -> Watts {
        draw(config, self.at)
    }

    /// Hashes of one step in which it got `served` of the `asked` watts.
    pub(crate) fn work(&self, config: &MinerGroup, served: Watts, asked: Watts) -> Work {
        let rate = config.points.get(usize::from(self.at.point)).map_or(0, |point| point.rate.get().max(0));
        let awake = Span::new(i64::from(self.at.awake)).times(STEP.get());
        let waking = config.wake.min(STEP).times(self.woken.into());
        // Hashes a second × miner-milliseconds ÷ 1,000; ten exahashes for a step are 3 × 10^21, inside 128 bits.
        let millis = u128::from((awake - waking).at_least_zero().get().unsigned_abs());
        let all = u128::from(rate.unsigned_abs()) * millis / 1_000;
        let (part, whole) = (served.at_least_zero().min(asked), asked.at_least_zero());
        let (part, whole) = (u128::from(part.get().unsigned_abs()), u128::from(whole.get().unsigned_abs()));
        Work((all * part).checked_div(whole).unwrap_or(0))
    }
}

fn draw(config: &MinerGroup, at: GroupTarget) -> Watts {
    if at.awake == 0 {
        return Watts::ZERO;
    }
    (config.draw(at.awake, at.point.into()) - config.draw(0, 0)).at_least_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Hashrate;
    use model::module::{Actuator, OperatingPoint, ShedPath};

    fn config() -> MinerGroup {
        MinerGroup {
            model: "S21".into(),
            count: 10,
            points: vec![OperatingPoint { power: Watts::new(3_500), rate: Hashrate::tera(200) }],
            standby: Watts::new(25),
            wake: Span::secs(30),
            sleep: Span::secs(5),
            dwell: Span::minutes(10),
            wear: MicroDollars::cents(5),
            shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(150)), rearm: Span::secs(30) },
            scale: 1,
        }
    }

    #[test]
    fn work_counts_what_was_served_and_not_the_waking() {
        let (config, mut group) = (config(), Group::ASLEEP);
        let moved = group.follow(&config, GroupTarget { awake: 4, point: 0 }, Time(0));
        assert_eq!(moved, Moved { wear: MicroDollars::cents(20), reversal: false });
        let asked = group.draw(&config);
        assert_eq!(asked, Watts::new(4 * 3_475));
        // 4 × (300 − 30) s × 200 TH/s, then half of it, then none.
        let all = 4 * 270 * 200_000_000_000_000u128;
        assert_eq!(group.work(&config, asked, asked), Work(all));
        assert_eq!(group.work(&config, asked.fraction(1, 2), asked), Work(all / 2));
        assert_eq!(group.work(&config, Watts::ZERO, asked), Work(0));
        assert_eq!(Group::ASLEEP.work(&config, Watts::ZERO, Watts::ZERO), Work(0));
    }

    #[test]
    fn a_group_is_lowered_at_once_and_raised_after_its_dwell() {
        let (config, mut group) = (config(), Group::ASLEEP);
        let at = |minutes: i64| Time(minutes * 60_000);
        let target = |awake| GroupTarget { awake, point: 0 };
        group.follow(&config, target(4), at(0));
        let lowered = group.follow(&config, target(1), at(5));
        assert!(lowered.reversal && group.at.awake == 1, "it obeys, and it is counted");
        group.follow(&config, target(4), at(10));
        assert_eq!(group.at.awake, 1, "five minutes after it was lowered it waits");
        assert!(!group.follow(&config, target(4), at(15)).reversal);
        assert_eq!(group.at.awake, 4);
    }
}
