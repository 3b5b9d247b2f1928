//! What gas arrives and which sets can run, hour by hour at four quantiles.
//!
//! Where the input's forecast reaches, its lowest p10 and p50 of the hour count. Beyond its end (from now on, where there is none)
//! the last values are carried forward, and widen: by the law of [`Assumptions::change`], which grows with the square root of time,
//! and by wells that fall dry, each for itself. p1 and p90 follow from p10 and p50 by the same law even inside the forecast, which
//! names neither. Everything is integer arithmetic, and more gas never means less of anything. Read next: `supply`.

use model::fuel::Fuel;
use model::site::{GasFlow, Genset, Site};
use model::{GensetId, Watts};
use serde::{Deserialize, Serialize};

use super::Four;
use crate::commit;
use crate::input::SiteInput;

/// Steps of the forecast in an hour.
const STEPS_AN_HOUR: usize = 12;
/// What each quantile means, in thousandths.
const QUANTILES: [u64; 4] = [10, 100, 500, 900];
/// Probabilities are counted in parts of this.
const SCALE: u64 = 1_000_000_000;

/// What is assumed of gas and sets where the input says nothing. Engineering estimates: parameters with a range, never truths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumptions {
    /// Change of the flow after a day, in thousandths. Daily series of a public field: half of all days change by less than 1 %, one
    /// in twenty by more than 11 to 15 %. A power law through those two, (tail ÷ 0.5)^-1.114 %, gives 2.8 % for p10 and p90 and 36 % for p1.
    pub change: Four<i64>,
    /// Share of days on which a well is dry, in thousandths: 4 to 21 % in that field.
    pub dry_permille: u32,
    /// Hours after which it no longer counts that a well flows now: 24 to 96.
    pub dry_after: u32,
    /// Share of time in which a set is out of service, in thousandths: sets are available for 92 to 97 %.
    pub out_permille: u32,
    /// Hours after which it no longer counts that a set runs now: 12 to 48.
    pub out_after: u32,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            change: Four { p1: -360, p10: -28, p50: 0, p90: 28 },
            dry_permille: 80,
            dry_after: 48,
            out_permille: 50,
            out_after: 24,
        }
    }
}

/// Gas expected in one hour.
pub(crate) fn flow(given: &SiteInput, hour: usize, assumed: &Assumptions) -> Four<GasFlow> {
    let (p10, p50, beyond) = anchor(given, hour);
    let (law, next) = (law(&given.site, beyond, assumed), law(&given.site, beyond.max(1), assumed));
    let of = |flow: GasFlow, permille: i64| flow.fraction(permille, 1_000).at_least_zero();
    let mut flows = [of(p10, next.p1), of(p10, law.p10), of(p50, law.p50), of(p50, next.p90)];
    // Assumptions may be given in any order, quantiles have one.
    flows.sort_unstable();
    Four::from_array(flows)
}

/// p10 and p50 as last known for an hour, and how many hours they are carried forward.
fn anchor(given: &SiteInput, hour: usize) -> (GasFlow, GasFlow, usize) {
    let steps = given.forecast.iter().skip(hour * STEPS_AN_HOUR).take(STEPS_AN_HOUR);
    let lowest =
        steps.copied().reduce(|a, b| crate::input::GasStep { p10: a.p10.min(b.p10), p50: a.p50.min(b.p50) });
    if let Some(step) = lowest {
        return (step.p10.min(step.p50), step.p50, 0);
    }
    let known = given.forecast.len().div_ceil(STEPS_AN_HOUR);
    let beyond = hour + 1 - known.min(hour);
    match given.forecast.last() {
        Some(last) => (last.p10.min(last.p50), last.p50, beyond),
        None => {
            let now = commit::flow_now(given);
            (now, now, hour + 1)
        }
    }
}

/// What is left of a flow after so many hours, in thousandths.
fn law(site: &Site, hours: usize, assumed: &Assumptions) -> Four<i64> {
    let mut nominal: Vec<i64> = site.gas.values().map(|source| source.nominal.get().max(0)).collect();
    nominal.sort_unstable_by(|a, b| b.cmp(a));
    let all: i128 = nominal.iter().copied().map(i128::from).sum::<i128>().max(1);
    let dry = most_out(nominal.len(), risk(assumed.dry_permille, assumed.dry_after, hours));
    // √(hours ÷ 24) in thousandths.
    let spread = (hours as i64 * 1_000_000 / 24).isqrt();
    let change = assumed.change.array();
    let left = [0, 1, 2, 3].map(|nth| {
        // The largest wells fall dry first.
        let flows: i128 = nominal.iter().skip(dry[nth]).copied().map(i128::from).sum();
        let changed = (1_000 + change[nth].saturating_mul(spread) / 1_000).max(0);
        i64::try_from(i128::from(changed) * flows / all).unwrap_or(i64::MAX)
    });
    Four::from_array(left)
}

/// The sets that can run in an hour at each quantile, largest first: what is tripped now stays so, and the largest fail first.
pub(crate) fn sets<'a>(
    given: &'a SiteInput,
    hour: usize,
    assumed: &Assumptions,
) -> Four<Vec<(&'a GensetId, &'a Genset)>> {
    use model::report::GensetState::Tripped;
    let state = |id: &GensetId| given.report.as_ref()?.gensets.get(id).map(|set| set.state);
    let sound = given.site.gensets.iter().filter(|(id, _)| state(id).is_some_and(|state| state != Tripped));
    let mut sound: Vec<_> = sound.collect();
    sound.sort_by_key(|(id, set)| (std::cmp::Reverse(set.rating), *id));
    let out = most_out(sound.len(), risk(assumed.out_permille, assumed.out_after, hour));
    let left = |nth: usize| sound[out[nth].min(sound.len())..].to_vec();
    Four { p1: left(0), p10: left(1), p50: left(2), p90: left(3) }
}

/// What gas and the best of these sets sustain together, largest sets first: each that runs burns gas without load.
pub(crate) fn sustained(site: &Site, flow: GasFlow, sets: &[(&GensetId, &Genset)]) -> Watts {
    let of = |count: usize| carried(site, flow, &sets[..count]);
    (1..=sets.len()).map(of).max().unwrap_or(Watts::ZERO)
}

/// What gas and all of these sets sustain together.
pub(crate) fn carried(site: &Site, flow: GasFlow, sets: &[(&GensetId, &Genset)]) -> Watts {
    let fuel = Fuel::of(site, sets.iter().map(|(_, set)| *set));
    fuel.electric(flow).min(sets.iter().map(|(_, set)| set.rating).sum())
}

/// A risk that grows straight to its share within `after` hours, in thousandths.
fn risk(permille: u32, after: u32, hours: usize) -> u64 {
    let after = u64::from(after.max(1));
    u64::from(permille.min(1_000)) * (hours as u64).min(after) / after
}

/// How many of `count` are out, each by itself with `permille`: the most at each quantile, undercut that often at worst.
fn most_out(count: usize, permille: u64) -> [usize; 4] {
    let mut chance = vec![0; count + 1];
    chance[0] = SCALE;
    for tried in 1..=count {
        for out in (0..=tried).rev() {
            let stays = chance[out] / 1_000 * (1_000 - permille);
            let joins = if out > 0 { chance[out - 1] / 1_000 * permille } else { 0 };
            chance[out] = stays + joins;
        }
    }
    QUANTILES.map(|quantile| {
        let mut more = SCALE;
        let enough = chance.iter().position(|&chance| {
            more = more.saturating_sub(chance);
            more <= SCALE / 1_000 * quantile
        });
        enough.unwrap_or(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_well_is_not_counted_on_for_long_and_ten_never_all_fail() {
        let check = |count: usize, permille: u64, expected: [usize; 4]| {
            assert_eq!(most_out(count, permille), expected, "{count} at {permille}");
        };
        check(0, 500, [0, 0, 0, 0]);
        check(1, 0, [0, 0, 0, 0]);
        // Eight in a hundred are more than one in a hundred, and fewer than one in ten.
        check(1, 80, [1, 0, 0, 0]);
        check(1, 210, [1, 1, 0, 0]);
        // 0.92^4 = 0.716, and 4 × 0.08 × 0.92^3 = 0.249: 0.035 for two and more, 0.002 for three and more.
        check(4, 80, [2, 1, 0, 0]);
        check(4, 1_000, [4, 4, 4, 4]);
    }

    #[test]
    fn a_risk_grows_to_its_share() {
        assert_eq!([0, 12, 48, 72].map(|hours| risk(80, 48, hours)), [0, 20, 80, 80]);
        assert_eq!(risk(2_000, 0, 5), 1_000);
    }
}
