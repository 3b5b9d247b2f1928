//! What mining is worth in the power that AI leaves: a concave curve of straight pieces, filled best first.
//!
//! Each group's profit over its ceiling (revenue less gas, and less the wear of what must be woken) is replaced by its concave
//! hull, once for the miners awake and once for those asleep. Whole miners at one setting a group come close from below: the
//! curve is an upper bound of what `mining` will fill. Read next: `state`, which asks it for every move.

use std::cmp::Ordering::{Equal, Greater, Less};

use model::market::Market;
use model::module::MinerGroup;
use model::{MicroDollars, MinerGroupId, Span, Watts};
use serde::{Deserialize, Serialize};

use crate::dispatch::{pay, state};
use crate::input::Input;
use crate::island::Island;
use crate::mining;
use crate::slot::Slot;
use crate::start::DWELL;
use crate::worth;

/// One straight piece of a group's hull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Index of its module.
    pub module: usize,
    /// Ceiling it takes when full.
    pub watts: i64,
    /// What it earns over the dwell when full, less gas and wear.
    pub profit: i64,
}

/// The profitable pieces of an island, best first. Its modules that take part are numbered from `first`.
pub(crate) fn segments(island: &Island<'_>, market: &Market, first: usize) -> Vec<Segment> {
    let mut segments = Vec::new();
    let live = island.slots.values().filter(|slot| slot.frozen.is_none());
    for (offset, slot) in live.enumerate() {
        for (id, group) in &slot.module().groups {
            segments.extend(group_segments(island, slot, (id, group), market, first + offset));
        }
    }
    sort(&mut segments);
    segments
}

/// Best a watt first. Stable: pieces of one group or run are steepest first already, and they stand in order of id.
fn sort(segments: &mut [Segment]) {
    segments.sort_by(|a, b| {
        if is_denser(a, b) {
            Less
        } else if is_denser(b, a) {
            Greater
        } else {
            Equal
        }
    });
}

fn is_denser(a: &Segment, b: &Segment) -> bool {
    i128::from(a.profit) * i128::from(b.watts) > i128::from(b.profit) * i128::from(a.watts)
}

/// A ceiling without the roundings of `Slot::ceiling_for`.
fn ceiling(slot: &Slot<'_>, watts: Watts) -> Watts {
    let loss = i64::from(slot.module().loss_permille);
    watts.fraction((1_000 + loss) * 1_010, 1_000_000)
}

/// What more speed earns of an island's runs, best first, less gas at `fuel` a megawatt over the dwell. Its modules that take part
/// are numbered from `first`.
pub(crate) fn speeds(island: &Island<'_>, input: &Input, (first, fuel): (usize, i64)) -> Vec<Segment> {
    let live = island.slots.values().filter(|slot| slot.frozen.is_none());
    let mut speeds = Vec::new();
    for (offset, slot) in live.enumerate() {
        for (id, elastic) in &slot.elastic {
            let Some(run) = input.workloads.get(id) else { continue };
            for from in elastic.at..elastic.settings.len() - 1 {
                let watts = ceiling(slot, elastic.draw(from + 1) - elastic.draw(from)).get();
                let paid = |at: usize| pay::paced(run, input.now, elastic.settings[at].pace);
                let profit = paid(from + 1) - paid(from) - state::per_megawatt(fuel, watts);
                speeds.push(Segment { module: first + offset, watts, profit });
            }
        }
    }
    sort(&mut speeds);
    speeds
}

/// What the best fill of runs' speed and miners earns together: speed within `rooms.0`, and what miners take within `rooms.1`, which
/// speed uses up too.
pub(crate) fn fill_both(
    (speeds, segments): (&[Segment], &[Segment]),
    (mut speed_room, mut room): (i64, i64),
    rooms: &mut [i64],
    first: usize,
) -> i64 {
    let (mut speeds, mut segments) = (speeds.iter().peekable(), segments.iter().peekable());
    let mut profit = 0;
    loop {
        let faster = match (speeds.peek(), segments.peek()) {
            (Some(speed), Some(segment)) => !is_denser(segment, speed),
            (speed, segment) if speed.is_none() && segment.is_none() => return profit,
            (speed, _) => speed.is_some(),
        };
        let (next, most) = if faster { (speeds.next(), speed_room) } else { (segments.next(), room) };
        let Some(segment) = next.filter(|next| next.profit > 0) else { continue };
        let left = &mut rooms[segment.module - first];
        let taken = segment.watts.min(most).min(*left);
        if taken <= 0 {
            continue;
        }
        (room, *left) = (room - taken, *left - taken);
        // Miners that run beside it share what gas carries; speed alone may go beyond.
        speed_room = if faster { speed_room - taken } else { speed_room.min(room) };
        profit += if taken == segment.watts { segment.profit } else { part(segment, taken) };
    }
}

/// What the best fill of `room` watts earns. `rooms` is what each module from `first` on has left, and is used up.
pub(crate) fn fill(segments: &[Segment], mut room: i64, rooms: &mut [i64], first: usize) -> i64 {
    let mut profit = 0;
    for segment in segments {
        if room <= 0 {
            break;
        }
        let left = &mut rooms[segment.module - first];
        let taken = segment.watts.min(room).min(*left);
        if taken <= 0 {
            continue;
        }
        room -= taken;
        *left -= taken;
        profit += if taken == segment.watts { segment.profit } else { part(segment, taken) };
    }
    profit
}

fn part(segment: &Segment, taken: i64) -> i64 {
    // Nearly always within 64 bits, where a division takes a third of the time.
    match segment.profit.checked_mul(taken) {
        Some(product) if segment.watts != 0 => product / segment.watts,
        _ => MicroDollars::new(segment.profit).fraction(taken, segment.watts).get(),
    }
}

fn group_segments(
    island: &Island<'_>,
    slot: &Slot<'_>,
    (id, group): (&MinerGroupId, &MinerGroup),
    market: &Market,
    module: usize,
) -> Vec<Segment> {
    let report = slot.input.report.as_ref().and_then(|report| report.groups.get(id));
    let awake = i64::from(report.map_or(0, |report| report.awake.min(group.count)));
    let asleep = i64::from(group.count) - awake;
    let loss = i64::from(slot.module().loss_permille);
    // The same factor as `Slot::ceiling_for`, without its roundings.
    let ceiling = |watts: Watts| i128::from(watts.get()) * i128::from(1_000 + loss) * 1_010 / 1_000_000;
    let mut left = i64::try_from(ceiling(mining::most(slot, id, group))).unwrap_or(i64::MAX);
    let mut segments = Vec::new();
    for (count, wear) in [(awake, MicroDollars::ZERO), (asleep, group.wear)] {
        let corners = group.points.iter().map(|point| {
            let above = (point.power - group.standby).times(count);
            let hourly = market.hashprice().per_hour(point.rate.times(count));
            let fuel = worth::fuel_per_hour(&island.input.site, Watts::new(clamp(ceiling(above))));
            let earned = (hourly - fuel).fraction(DWELL.get(), Span::hours(1).get()) - wear.times(count);
            (ceiling(above), i128::from(earned.get()))
        });
        for (watts, profit) in hull(corners) {
            let kept = watts.min(left);
            if kept > 0 {
                let profit = MicroDollars::new(profit).fraction(kept, watts).get();
                segments.push(Segment { module, watts: kept, profit });
                left -= kept;
            }
        }
    }
    segments
}

/// The rising pieces of the concave hull over the corners and the origin, as (width, height).
fn hull(corners: impl Iterator<Item = (i128, i128)>) -> Vec<(i64, i64)> {
    let mut kept: Vec<(i128, i128)> = vec![(0, 0)];
    for (x, y) in corners {
        let last = kept[kept.len() - 1];
        if x <= last.0 || y <= last.1 {
            continue;
        }
        let below = |a: &(i128, i128), b: &(i128, i128)| (b.1 - a.1) * (x - a.0) <= (y - a.1) * (b.0 - a.0);
        while kept.len() >= 2 && below(&kept[kept.len() - 2], &kept[kept.len() - 1]) {
            kept.pop();
        }
        kept.push((x, y));
    }
    kept.windows(2).map(|pair| (clamp(pair[1].0 - pair[0].0), clamp(pair[1].1 - pair[0].1))).collect()
}

fn clamp(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segments: &[(usize, i64, i64)], room: i64, rooms: &[i64], expected: i64) {
        let segments: Vec<_> =
            segments.iter().map(|&(module, watts, profit)| Segment { module, watts, profit }).collect();
        assert_eq!(fill(&segments, room, &mut rooms.to_vec(), 0), expected, "{room} W in {rooms:?}");
    }

    #[test]
    fn the_best_pieces_are_filled_first_within_island_and_module() {
        let pieces = [(0, 100, 1_000), (1, 200, 1_000), (0, 100, 200)];
        check(&pieces, 1_000, &[1_000, 1_000], 2_200);
        check(&pieces, 150, &[1_000, 1_000], 1_250);
        check(&pieces, 1_000, &[50, 1_000], 1_500);
        check(&pieces, -5, &[1_000, 1_000], 0);
        check(&pieces, 1_000, &[-1, 0], 0);
    }

    #[test]
    fn speed_and_miners_share_what_gas_carries_and_speed_alone_goes_beyond() {
        let check = |rooms: (i64, i64), left: [i64; 2], expected: i64| {
            let pieces = |pieces: &[(usize, i64, i64)]| -> Vec<Segment> {
                pieces.iter().map(|&(module, watts, profit)| Segment { module, watts, profit }).collect()
            };
            let (speeds, miners) =
                (pieces(&[(0, 100, 900), (0, 100, 100)]), pieces(&[(1, 100, 500), (1, 100, -5)]));
            let found = fill_both((&speeds, &miners), rooms, &mut left.to_vec(), 0);
            assert_eq!(found, expected, "{rooms:?} and {left:?}");
        };
        check((1_000, 1_000), [1_000, 1_000], 1_500);
        // What speed takes first miners lack, and the other way round.
        check((1_000, 150), [1_000, 1_000], 1_150);
        check((1_000, 200), [1_000, 1_000], 1_400);
        check((50, 1_000), [1_000, 1_000], 950);
        // Beyond what miners may fill, speed goes on where no miner does.
        check((200, -50), [1_000, 1_000], 1_000);
        check((1_000, 1_000), [60, 0], 540);
    }

    #[test]
    fn a_hull_leaves_out_what_is_never_best_and_what_costs() {
        let points = |points: &[(i128, i128)]| hull(points.iter().copied());
        assert_eq!(points(&[(10, 10), (20, 15)]), [(10, 10), (10, 5)]);
        assert_eq!(points(&[(10, 5), (20, 30)]), [(20, 30)]);
        assert_eq!(points(&[(10, -5), (20, -1)]), []);
        assert_eq!(points(&[]), []);
    }
}
