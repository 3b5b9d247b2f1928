//! Mining takes what AI leaves: a closed form per group, filled by revenue a watt over the whole island.
//!
//! A group's revenue over power is made concave (its hull over the operating points, measured from standby), so that taking the
//! steepest segments first is optimal up to one miner a group. Three passes: first what N-1 needs as fast reserve, profitable or
//! not; then what earns more than its gas and wear; then what the sets need as minimum load. Read next: `grant`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::market::Market;
use model::module::MinerGroup;
use model::plan::{GroupTarget, ReasonCode};
use model::{Hashrate, MicroDollars, MinerGroupId, ModuleId, Span, Watts};

use crate::island::Island;
use crate::slot::{Slot, is_fast};
use crate::start::DWELL;
use crate::tie;
use crate::worth;

/// Reserve is filled a little over the need, for the grain of whole miners: 1 %.
const RESERVE_SLACK_PERMILLE: i64 = 10;
/// The sets' minimum load is kept with this much to spare: 5 %.
const BALLAST_SLACK_PERMILLE: i64 = 50;

/// Why the miners of an island do what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mined {
    pub(crate) reason: ReasonCode,
    /// What one more kilowatt of mining would earn in an hour, after fuel; zero where power does not bind.
    pub(crate) next_kilowatt: MicroDollars,
}

/// Rounds after which modules with old news must have come to rest; two are usual.
const ROUNDS: usize = 4;

/// Sets the miners of an island.
///
/// What a module with old news gives up for want of a whole miner it never gets back, so others may have it: the fill is repeated
/// until such modules get exactly what they hold, and planning again changes nothing.
pub(crate) fn fill(island: &mut Island<'_>, market: &Market) -> Mined {
    let mut mined = fill_once(island, market);
    for _ in 1..ROUNDS {
        let mut slots = island.slots.values();
        if slots
            .all(|slot| slot.frozen.is_some() || slot.held.as_ref().is_none_or(|held| *held == slot.miners))
        {
            break;
        }
        for slot in island.slots.values_mut() {
            slot.mining = Watts::ZERO;
            slot.held = slot.held.as_ref().map(|_| slot.miners.clone());
        }
        mined = fill_once(island, market);
    }
    mined
}

fn fill_once(island: &mut Island<'_>, market: &Market) -> Mined {
    let segments = segments(island);
    let mut filler = Filler { island, market, segments };
    let reserved = filler.reserve();
    let earned = filler.profit();
    let ballast = filler.ballast();
    let next_kilowatt = filler.next_kilowatt();
    filler.settle(Prefer::Hashes);
    if filler.falls_short() {
        filler.settle(Prefer::Draw);
    }
    let reason = match (earned, reserved || ballast) {
        (true, _) => ReasonCode::MiningResidual,
        (false, true) => ReasonCode::Ballast,
        (false, false) => ReasonCode::MiningUnprofitable,
    };
    Mined { reason, next_kilowatt }
}

/// A module's ceiling, miners included.
pub(crate) fn ceiling(slot: &Slot<'_>, leaving: bool) -> Watts {
    if let Some(frozen) = &slot.frozen {
        return frozen.ceiling;
    }
    let leaving = if leaving { slot.leaving } else { Watts::ZERO };
    slot.ceiling_for(slot.kept_load() + slot.mining + leaving)
}

/// One straight piece of a group's hull.
#[derive(Clone, Debug)]
struct Segment {
    module: ModuleId,
    group: MinerGroupId,
    watts: Watts,
    rate: Hashrate,
    /// What of `watts` is taken.
    taken: Watts,
    fast: bool,
    /// Wear of waking the group, an hour over the dwell; zero for what is awake.
    wear: MicroDollars,
}

struct Filler<'f, 'a> {
    island: &'f mut Island<'a>,
    market: &'f Market,
    /// Best hashes a watt first.
    segments: Vec<Segment>,
}

impl Filler<'_, '_> {
    /// Fast load up to what N-1 needs: first what is drawn already, as far as it is, then the rest by worth.
    fn reserve(&mut self) -> bool {
        let need = self.need();
        if need <= Watts::ZERO {
            return false;
        }
        let need = need + need.fraction(RESERVE_SLACK_PERMILLE, 1_000) + self.island.grain(true);
        let most = self.island.capacity.secure_total();
        let fast: Vec<usize> = (0..self.segments.len()).filter(|&index| self.segments[index].fast).collect();
        let mut got = Watts::ZERO;
        for &index in &fast {
            let drawn = self.drawn_beyond_fill(index);
            got += self.take(index, drawn.min(need - got), most);
        }
        for &index in &fast {
            got += self.take(index, need - got, most);
        }
        got > Watts::ZERO
    }

    /// Fast load that N-1 needs beside what is placed.
    fn need(&self) -> Watts {
        let leaving = self.island.leaving_counts;
        let security = &self.island.capacity.security;
        let need = security.need(self.island.fixed(true, leaving));
        need.or_else(|| security.need(self.island.fixed(false, leaving))).unwrap_or(Watts::ZERO)
    }

    /// The sets' minimum load, with a little to spare.
    fn least(&self) -> Watts {
        let sources = self.island.capacity.security.sources.iter();
        let least: Watts = sources.map(|source| source.min_load).sum();
        least + least.fraction(BALLAST_SLACK_PERMILLE, 1_000)
    }

    /// What the group of a segment draws now beyond what is taken for it already.
    fn drawn_beyond_fill(&self, index: usize) -> Watts {
        let of = &self.segments[index];
        let same = |other: &&Segment| other.module == of.module && other.group == of.group;
        let taken: Watts = self.segments.iter().filter(same).map(|segment| segment.taken).sum();
        let drawn = self.island.slots.get(&of.module).and_then(|slot| {
            let group = slot.module().groups.get(&of.group)?;
            Some(slot.drawn(&of.group, group))
        });
        (drawn.unwrap_or(Watts::ZERO) - taken).at_least_zero()
    }

    /// What earns more than its gas and wear. Slow groups only as far as the fast load now drawn allows.
    fn profit(&mut self) -> bool {
        let input = self.island.input;
        let (most, fuel) = (self.island.capacity.mining, |watts| worth::fuel_per_hour(&input.site, watts));
        let earned = self.profit_within(most, fuel);
        let Some(tie) = self.island.capacity.tie.as_ref().filter(|tie| tie.mining) else { return earned };
        let (most, price) = (self.island.capacity.mining_most(), tie.price);
        self.profit_within(most, |watts| tie::cost(price, watts)) || earned
    }

    /// What earns more than its power costs, up to `most` for the island.
    fn profit_within(&mut self, most: Watts, cost: impl Fn(Watts) -> MicroDollars) -> bool {
        let (fast, slow): (Vec<usize>, Vec<usize>) =
            (0..self.segments.len()).partition(|&index| self.segments[index].fast);
        let mut earned = false;
        for index in fast.into_iter().chain(slow) {
            let segment = &self.segments[index];
            if self.market.hashprice().per_hour(segment.rate) <= cost(segment.watts) + segment.wear {
                continue;
            }
            let wanted = if segment.fast { segment.watts } else { segment.watts.min(self.slow_room()) };
            earned |= self.take(index, wanted, most) > Watts::ZERO;
            earned |= self.segments[index].taken > Watts::ZERO;
        }
        earned
    }

    /// Load up to the sets' minimum.
    fn ballast(&mut self) -> bool {
        let least = self.least();
        let most = self.island.capacity.secure_total();
        let mut filled = false;
        for index in 0..self.segments.len() {
            let missing = least - self.load();
            let wanted = if self.segments[index].fast { missing } else { missing.min(self.slow_room()) };
            filled |= self.take(index, wanted, most) > Watts::ZERO;
        }
        filled
    }

    /// More load that no feeder drops, given the fast load that is drawn now and stays.
    fn slow_room(&self) -> Watts {
        let slow: Watts =
            self.segments.iter().filter(|segment| !segment.fast).map(|segment| segment.taken).sum();
        // A ceiling stands above its load by loss and headroom, so a tenth is kept.
        let slow = slow.fraction(11, 10);
        let fixed = self.island.fixed(true, self.island.leaving_counts) + slow;
        let security = &self.island.capacity.security;
        let kept = (self.fast_kept() - self.island.grain(true)).at_least_zero();
        (security.most_fixed(kept) - fixed).at_least_zero().fraction(9, 10)
    }

    /// Fast load that is drawn now and that the fill so far keeps.
    fn fast_kept(&self) -> Watts {
        if !self.island.input.site.relay {
            return Watts::ZERO;
        }
        let mut kept: BTreeMap<(&ModuleId, &MinerGroupId), Watts> = BTreeMap::new();
        for segment in self.segments.iter().filter(|segment| segment.fast) {
            *kept.entry((&segment.module, &segment.group)).or_default() += segment.taken;
        }
        let drawn = |(module, group): (&ModuleId, &MinerGroupId)| {
            let slot = self.island.slots.get(module)?;
            Some(slot.drawn(group, slot.module().groups.get(group)?))
        };
        kept.into_iter().map(|(key, taken)| drawn(key).unwrap_or(Watts::ZERO).min(taken)).sum()
    }

    /// Gives a segment up to `wanted` more watts, within the module's limit and `most` for the island. Returns what it got.
    fn take(&mut self, index: usize, wanted: Watts, most: Watts) -> Watts {
        let free = (most - self.load()).at_least_zero();
        let segment = &mut self.segments[index];
        let Some(slot) = self.island.slots.get_mut(&segment.module) else {
            return Watts::ZERO;
        };
        let room = (slot.limit - ceiling(slot, self.island.leaving_counts)).at_least_zero();
        let leaving = if self.island.leaving_counts { slot.leaving } else { Watts::ZERO };
        let room = slot.load_within(slot.kept_load() + slot.mining + leaving, room.min(free));
        let got = wanted.min(room).min(segment.watts - segment.taken).at_least_zero();
        segment.taken += got;
        slot.mining += got;
        got
    }

    /// Everything the plan lets the island draw.
    fn load(&self) -> Watts {
        let leaving = self.island.leaving_counts;
        let ceilings: Watts = self.island.slots.values().map(|slot| ceiling(slot, leaving)).sum();
        self.island.capacity.unmanaged + ceilings
    }

    /// What one more kilowatt would earn, where a worthwhile segment is not full for want of power.
    fn next_kilowatt(&self) -> MicroDollars {
        let cost = tie::next_per_hour(self.island, Watts::kilo(1));
        let worthwhile =
            self.segments.iter().filter(|segment| segment.taken < segment.watts).map(|segment| {
                let rate = segment.rate.fraction(1_000, segment.watts.get().max(1));
                self.market.hashprice().per_hour(rate) - cost
            });
        worthwhile.max().unwrap_or(MicroDollars::ZERO).at_least_zero()
    }

    /// Whole miners at one setting for each group, within what was taken for it.
    fn settle(&mut self, prefer: Prefer) {
        let mut budgets: BTreeMap<(&ModuleId, &MinerGroupId), Watts> = BTreeMap::new();
        for segment in &self.segments {
            *budgets.entry((&segment.module, &segment.group)).or_default() += segment.taken;
        }
        for slot in self.island.slots.values_mut() {
            slot.mining = Watts::ZERO;
            slot.miners.values_mut().for_each(|target| *target = GroupTarget { awake: 0, point: 0 });
        }
        for ((module, group), budget) in budgets {
            let Some(slot) = self.island.slots.get_mut(module) else { continue };
            let Some(config) = slot.module().groups.get(group) else { continue };
            let target = setting(config, budget, prefer);
            slot.mining += above_standby(config, target);
            slot.miners.insert(group.clone(), target);
        }
    }

    /// Whether settling on whole miners left less than reserve or minimum load were given.
    fn falls_short(&self) -> bool {
        let given: Watts = self.segments.iter().map(|segment| segment.taken).sum();
        let settled: Watts = self.island.slots.values().map(|slot| slot.mining).sum();
        let fast = self.segments.iter().filter(|segment| segment.fast);
        let fast_given: Watts = fast.map(|segment| segment.taken).sum();
        let fast_settled: Watts = self.island.slots.values().map(|slot| slot.fast_target()).sum();
        let wanted = self.least() - (self.load() - settled) + self.island.grain(true);
        let need = self.need();
        settled < given.min(wanted) || (self.island.input.site.relay && fast_settled < need.min(fast_given))
    }
}

/// What to prefer where whole miners at one setting do not use a budget exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefer {
    /// Most hashes: what mining is for.
    Hashes,
    /// Most draw: where the miners are reserve or ballast.
    Draw,
}

/// The best setting within `budget` watts above standby.
fn setting(group: &MinerGroup, budget: Watts, prefer: Prefer) -> GroupTarget {
    let options = group.points.iter().enumerate().filter_map(|(index, point)| {
        let each = point.power - group.standby;
        let fits = if each > Watts::ZERO { budget.whole_times(each) } else { i64::from(group.count) };
        let awake = u32::try_from(fits).unwrap_or(u32::MAX).min(group.count);
        let rate = point.rate.times(awake.into());
        let rank = if prefer == Prefer::Draw { each.times(awake.into()).get() } else { rate.get() };
        // Among equals the lower setting hashes more for a watt.
        Some((rank, std::cmp::Reverse(index), awake, u8::try_from(index).ok()?))
    });
    let best = options.max().filter(|(_, _, awake, _)| *awake > 0);
    best.map_or(GroupTarget { awake: 0, point: 0 }, |(_, _, awake, point)| GroupTarget { awake, point })
}

fn above_standby(group: &MinerGroup, target: GroupTarget) -> Watts {
    group.draw(target.awake, target.point.into()) - group.draw(0, 0)
}

/// The hulls of all groups that may be set, steepest first.
fn segments(island: &Island<'_>) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (module, slot) in island.slots.iter().filter(|(_, slot)| slot.frozen.is_none()) {
        for (id, group) in &slot.module().groups {
            let awake =
                slot.input.report.as_ref().and_then(|report| report.groups.get(id)).map_or(0, |g| g.awake);
            let mut wear = if awake > 0 { MicroDollars::ZERO } else { waking(group) };
            for (watts, rate) in cut(hull(group), most(slot, id, group)) {
                segments.push(Segment {
                    module: module.clone(),
                    group: id.clone(),
                    watts,
                    rate,
                    taken: Watts::ZERO,
                    fast: is_fast(group) && island.input.site.relay,
                    wear,
                });
                wear = MicroDollars::ZERO;
            }
        }
    }
    // Stable: segments of one group are steepest first already, and groups stand in order of id.
    segments.sort_by(|a, b| steeper(b, a));
    segments
}

/// What a group may draw above standby: where news are old, no more than it was told before.
pub(crate) fn most(slot: &Slot<'_>, id: &MinerGroupId, group: &MinerGroup) -> Watts {
    let full = above_standby(group, GroupTarget { awake: group.count, point: u8::MAX });
    let held =
        slot.held.as_ref().map(|held| held.get(id).copied().unwrap_or(GroupTarget { awake: 0, point: 0 }));
    held.map_or(full, |target| above_standby(group, target))
}

/// The first `most` watts of a hull.
fn cut(hull: Vec<(Watts, Hashrate)>, most: Watts) -> Vec<(Watts, Hashrate)> {
    let mut left = most;
    let mut pieces = Vec::new();
    for (watts, rate) in hull {
        let kept = watts.min(left).at_least_zero();
        left -= kept;
        if kept > Watts::ZERO {
            pieces.push((kept, rate.fraction(kept.get(), watts.get())));
        }
    }
    pieces
}

/// Wear of one sleep cycle of every miner of the group, as if spread over the dwell, an hour.
fn waking(group: &MinerGroup) -> MicroDollars {
    group.wear.times(group.count.into()).fraction(Span::hours(1).get(), DWELL.get())
}

fn steeper(a: &Segment, b: &Segment) -> Ordering {
    let cross = |s: &Segment, o: &Segment| i128::from(s.rate.get()) * i128::from(o.watts.get());
    cross(a, b).cmp(&cross(b, a))
}

/// The concave hull of a whole group's hash rate over its power above standby, as (watts, rate) pieces.
pub(crate) fn hull(group: &MinerGroup) -> Vec<(Watts, Hashrate)> {
    let count = i64::from(group.count);
    let mut corners: Vec<(i128, i128)> = vec![(0, 0)];
    for point in &group.points {
        let x = i128::from((point.power - group.standby).times(count).get());
        let y = i128::from(point.rate.times(count).get());
        let below = |a: &(i128, i128), b: &(i128, i128)| (b.1 - a.1) * (x - a.0) <= (y - a.1) * (b.0 - a.0);
        if x <= corners[corners.len() - 1].0 || y <= corners[corners.len() - 1].1 {
            continue;
        }
        while corners.len() >= 2 && below(&corners[corners.len() - 2], &corners[corners.len() - 1]) {
            corners.pop();
        }
        corners.push((x, y));
    }
    let piece = |pair: &[(i128, i128)]| {
        let (watts, rate) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        Some((Watts::new(i64::try_from(watts).ok()?), Hashrate::new(i64::try_from(rate).ok()?)))
    };
    corners.windows(2).filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use model::module::{Actuator, OperatingPoint, ShedPath};

    use super::*;

    fn group(points: &[(i64, i64)]) -> MinerGroup {
        let point = |&(power, rate): &(i64, i64)| OperatingPoint {
            power: Watts::new(power),
            rate: Hashrate::tera(rate),
        };
        MinerGroup {
            model: "test".into(),
            count: 10,
            points: points.iter().map(point).collect(),
            standby: Watts::ZERO,
            wake: Span::ZERO,
            sleep: Span::ZERO,
            dwell: Span::ZERO,
            wear: MicroDollars::ZERO,
            shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(100)), rearm: Span::ZERO },
            scale: 1,
        }
    }

    fn check_hull(points: &[(i64, i64)], expected: &[(i64, i64)]) {
        let expected: Vec<_> =
            expected.iter().map(|&(watts, rate)| (Watts::new(watts), Hashrate::tera(rate))).collect();
        assert_eq!(hull(&group(points)), expected, "{points:?}");
    }

    #[test]
    fn the_hull_skips_settings_that_are_never_best() {
        check_hull(&[(2_000, 140), (3_000, 200)], &[(20_000, 1_400), (10_000, 600)]);
        check_hull(&[(2_000, 100), (3_000, 200)], &[(30_000, 2_000)]);
        check_hull(&[(2_000, 140), (2_500, 130), (3_000, 200)], &[(20_000, 1_400), (10_000, 600)]);
        check_hull(&[], &[]);
    }

    #[test]
    fn a_budget_becomes_whole_miners_at_the_best_setting() {
        let group = group(&[(2_000, 140), (3_000, 200)]);
        let check = |budget, awake, point| {
            assert_eq!(
                setting(&group, Watts::new(budget), Prefer::Hashes),
                GroupTarget { awake, point },
                "{budget} W"
            );
        };
        check(0, 0, 0);
        check(1_999, 0, 0);
        check(8_500, 4, 0);
        check(9_000, 3, 1);
        check(20_000, 10, 0);
        check(27_000, 9, 1);
        check(30_000, 10, 1);
    }
}
