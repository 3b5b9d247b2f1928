//! Regret as a bracket: one week at a time, our strategy against what could have been had.
//!
//! | side | is |
//! |---|---|
//! | floor | `static-split`, its split fitted on the days before the week |
//! | ours | the whole planner with a causal forecast |
//! | oracle | the best of the runs that knew: the same planner, told the gas of the steps ahead and each breakdown when its step begins; ours and the floor stand in where they were luckier, so that no regret is negative |
//! | bound | no strategy earns more ([`crate::bound`]) |
//!
//! Total regret = (oracle − ours) ÷ oracle; controllable regret = (oracle − ours) ÷ (oracle − floor). A week in which floor and oracle
//! differ by less than [`LEAST_PERMILLE`] of the oracle's revenue says nothing of the second, and is listed without it. Read next:
//! [`crate::engine`], which runs each side.

use model::{MicroDollars, Time};
use serde::Serialize;

use crate::bound::{Carried, bound};
use crate::chance::{Chance, Purpose};
use crate::engine::run;
use crate::forecast::Method;
use crate::strategy::{Kind, Strategy};
use crate::tally::Money;
use crate::world::{Error, World};

/// Splits that are tried when one is fitted, in thousandths of the ratings.
pub const SPLITS: [i64; 4] = [150, 250, 400, 600];
/// Days of a week.
const WEEK: usize = 7;
/// Below this share of the oracle's revenue the room between floor and oracle is noise.
pub const LEAST_PERMILLE: i64 = 10;

/// One week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Week {
    /// When it begins.
    pub start: Time,
    /// The split that was fitted on the days before.
    pub split_permille: i64,
    /// Net money of the fitted split.
    pub floor: MicroDollars,
    /// Net money of ours.
    pub ours: MicroDollars,
    /// Net money of the planner that knew.
    pub knowing: MicroDollars,
    /// No strategy earns more.
    pub bound: MicroDollars,
    /// Revenue of the oracle's run.
    pub revenue: MicroDollars,
    /// Plans of all runs that the check refused.
    pub refused: u64,
}

/// All weeks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Median total regret against the oracle, in parts per million.
    pub median_total_ppm: Option<i64>,
    /// The worst week's.
    pub worst_total_ppm: Option<i64>,
    /// Median controllable regret, of the weeks that are scored.
    pub median_controllable_ppm: Option<i64>,
    /// Weeks that are scored for it.
    pub scored: usize,
    /// Median of (bound − ours) ÷ bound: an upper side of the regret.
    pub median_to_bound_ppm: Option<i64>,
}

/// First days of `count` spans of `needed` days, one drawn from each part of `days` of equal length, so that they spread over all of
/// it. Fewer where they do not fit side by side, none where not even one fits.
pub fn starts(seed: u64, days: usize, needed: usize, count: usize) -> Vec<usize> {
    let Some(last) = days.checked_sub(needed) else { return Vec::new() };
    // Only the week at the end of a span must be its own; days to fit on may be shared.
    let count = count.min(last / WEEK + 1).max(1);
    let part = (last + WEEK) / count;
    let room = part + 1 - WEEK.min(part);
    let drawn = |nth: usize| nth * part + Chance::new(seed, Purpose::Weeks, [nth as u64, 0]).below(room);
    (0..count).map(drawn).collect()
}

/// The split that earns most over a world; the smallest of equals.
pub fn fit(before: &World, progress: &(dyn Fn() + Sync)) -> Result<i64, Error> {
    let mut best: Option<(MicroDollars, i64)> = None;
    for split_permille in SPLITS {
        let strategy = Strategy { split_permille, check_every: 0, ..Strategy::new(Kind::StaticSplit) };
        let net = run(before, &strategy)?.total.money.net();
        progress();
        if best.is_none_or(|(most, _)| net > most) {
            best = Some((net, split_permille));
        }
    }
    Ok(best.map_or(crate::strategy::SPLIT_PERMILLE, |(_, split)| split))
}

/// Runs the four sides of the bracket on one week. `ours` says with which forecast and how often plans are checked.
pub fn week(
    world: &World,
    ours: &Strategy,
    split_permille: i64,
    progress: &(dyn Fn() + Sync),
) -> Result<Week, Error> {
    let mut refused = 0;
    let mut money = |strategy: Strategy| -> Result<Money, Error> {
        let total = run(world, &strategy)?.total;
        refused += total.plans.refused;
        progress();
        Ok(total.money)
    };
    let floor = money(Strategy { kind: Kind::StaticSplit, split_permille, ..*ours })?;
    let own = money(Strategy { kind: Kind::Flareshift, ..*ours })?;
    let knowing = money(Strategy { kind: Kind::Flareshift, forecast: Method::Perfect, ..*ours })?;
    let best = [&knowing, &own, &floor].into_iter().max_by_key(|money| money.net()).unwrap_or(&knowing);
    Ok(Week {
        start: world.start,
        split_permille,
        floor: floor.net(),
        ours: own.net(),
        knowing: knowing.net(),
        bound: bound(world, Carried::Nothing),
        revenue: best.revenue(),
        refused,
    })
}

impl Week {
    /// The feasible side: the best that was had by anybody.
    pub fn oracle(&self) -> MicroDollars {
        self.knowing.max(self.ours).max(self.floor)
    }

    /// (oracle − ours) ÷ oracle, in parts per million; `None` where nothing was to be earned.
    pub fn total_ppm(&self) -> Option<i64> {
        ppm(self.oracle() - self.ours, self.oracle())
    }

    /// (oracle − ours) ÷ (oracle − floor), in parts per million; `None` where there is too little room to say.
    pub fn controllable_ppm(&self) -> Option<i64> {
        let room = self.oracle() - self.floor;
        let enough = room.get() > 0 && room >= self.revenue.fraction(LEAST_PERMILLE, 1_000);
        if enough { ppm(self.oracle() - self.ours, room) } else { None }
    }

    /// (bound − ours) ÷ bound, in parts per million.
    pub fn to_bound_ppm(&self) -> Option<i64> {
        ppm(self.bound - self.ours, self.bound)
    }
}

impl Verdict {
    /// Of some weeks.
    pub fn of(weeks: &[Week]) -> Self {
        let all = |of: fn(&Week) -> Option<i64>| {
            let mut found: Vec<i64> = weeks.iter().filter_map(of).collect();
            found.sort_unstable();
            found
        };
        let (total, controllable) = (all(Week::total_ppm), all(Week::controllable_ppm));
        Self {
            median_total_ppm: median(&total),
            worst_total_ppm: total.last().copied(),
            median_controllable_ppm: median(&controllable),
            scored: controllable.len(),
            median_to_bound_ppm: median(&all(Week::to_bound_ppm)),
        }
    }
}

fn ppm(part: MicroDollars, whole: MicroDollars) -> Option<i64> {
    (whole.get() > 0).then(|| part.fraction(1_000_000, whole.get()).get())
}

/// Of sorted values; the mean of the middle two where there is no middle one.
fn median(sorted: &[i64]) -> Option<i64> {
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(floor: i64, ours: i64, knowing: i64) -> Week {
        Week {
            start: Time(0),
            split_permille: 250,
            floor: MicroDollars::dollars(floor),
            ours: MicroDollars::dollars(ours),
            knowing: MicroDollars::dollars(knowing),
            bound: MicroDollars::dollars(knowing.max(ours) * 2),
            revenue: MicroDollars::dollars(knowing.max(ours).max(floor)),
            refused: 0,
        }
    }

    fn check(week: &Week, total: Option<i64>, controllable: Option<i64>) {
        assert_eq!((week.total_ppm(), week.controllable_ppm()), (total, controllable), "{week:?}");
    }

    #[test]
    fn regret_counts_from_the_best_that_was_had() {
        check(&made(800, 950, 1_000), Some(50_000), Some(250_000));
        // Ours was luckier than the run that knew.
        check(&made(800, 1_000, 950), Some(0), Some(0));
        // And the floor luckier than both: total regret counts, but there is no room that a planner could have used.
        check(&made(1_000, 990, 980), Some(10_000), None);
        // Less than one percent of room.
        check(&made(992, 996, 1_000), Some(4_000), None);
        check(&made(0, 0, 0), None, None);
    }

    #[test]
    fn weeks_are_seeded_spread_and_their_own() {
        let check = |days: usize, count: usize, expected: usize| {
            let found = starts(3, days, 37, count);
            assert_eq!(found.len(), expected, "{days} days, {count} weeks: {found:?}");
            assert!(found.windows(2).all(|pair| pair[0] + WEEK <= pair[1]), "{found:?}");
            assert!(found.last().is_none_or(|last| last + 37 <= days), "{found:?}");
        };
        check(36, 12, 0);
        check(37, 12, 1);
        check(60, 12, 4);
        check(3_834, 12, 12);
        assert_eq!(starts(3, 3_834, 37, 12), starts(3, 3_834, 37, 12));
        assert_ne!(starts(3, 3_834, 37, 12), starts(4, 3_834, 37, 12));
    }

    #[test]
    fn the_verdict_takes_medians_and_the_worst() {
        let weeks = [made(800, 950, 1_000), made(800, 990, 1_000), made(995, 970, 1_000), made(0, 0, 0)];
        let verdict = Verdict::of(&weeks);
        assert_eq!(verdict.median_total_ppm, Some(30_000));
        assert_eq!(verdict.worst_total_ppm, Some(50_000));
        assert_eq!((verdict.median_controllable_ppm, verdict.scored), (Some(150_000), 2));
        assert_eq!(verdict.median_to_bound_ppm, Some(515_000));
        assert_eq!(Verdict::of(&[]), Verdict::default());
    }
}
