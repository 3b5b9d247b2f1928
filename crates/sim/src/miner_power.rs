//! A miner group seen from its feeder: how many are awake, waking, asleep, what they draw, and what they really hash.
//!
//! A wake or sleep command moves a *cohort* of miners linearly between standby and full over the group's wake or sleep time.
//! Miners behind an open feeder are dead; when it closes they boot over the wake time and then do what they were last told,
//! which losing power reset to asleep. Hash rate follows activity as power does. The breaker: [`crate::feeder`].

use model::module::MinerGroup;
use model::report::FeederState;
use model::{Hashrate, MinerGroupId, Span, Time};

use crate::dice::{Dice, Purpose, place};
use crate::feeder::Feeder;

/// Time for firmware to move from one operating point to another: quick ramping takes seconds [EE].
pub const POINT_TIME: Span = Span::secs(5);
/// Standard deviation of the group's draw around its nameplate, redrawn every second [EE: meters of groups show 0.2 to 1 %].
pub const NOISE: f64 = 0.003;
/// What a lying group does of what it claims.
pub const LIAR_DOES: f64 = 0.6;
/// Most cohorts under way: one command a second for five minutes of wake time. An older one is finished early.
const COHORTS: usize = 300;

/// A group as it is.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: MinerGroupId,
    count: u32,
    /// (watts, hashes a second) of each operating point.
    points: Vec<(f64, f64)>,
    standby: f64,
    wake: Span,
    sleep: Span,
    pub(crate) feeder: Feeder,
    supply: Supply,
    /// What the miners were last told.
    told: (u32, u8),
    /// Miners at full activity.
    awake: u32,
    cohorts: Vec<Cohort>,
    point: PointMove,
    pub(crate) liar: bool,
    pub(crate) errors: bool,
    dice: Dice,
    noise: f64,
    /// Sum of activity, as of the last step.
    active: f64,
}

/// Whether the miners have power and have booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    Dead,
    Booting { done: Time },
    Up,
}

/// Miners on their way between asleep and awake.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    count: u32,
    /// Activity at `from`, 0 to 1.
    begins: f64,
    waking: bool,
    from: Time,
    done: Time,
}

/// The group's way from one operating point to another.
#[derive(Clone, Copy, Debug)]
struct PointMove {
    from: (f64, f64),
    to: (f64, f64),
    began: Time,
}

impl Group {
    /// A group with `awake` miners at its highest operating point, settled.
    pub(crate) fn new(
        id: &MinerGroupId,
        group: &MinerGroup,
        feeder: Feeder,
        awake: u32,
        seed: u64,
        now: Time,
    ) -> Self {
        let points: Vec<(f64, f64)> =
            group.points.iter().map(|point| (point.power.as_f64(), point.rate.as_f64())).collect();
        let top = points.last().copied().unwrap_or((0.0, 0.0));
        let awake = awake.min(group.count);
        let last = u8::try_from(points.len().saturating_sub(1)).unwrap_or(u8::MAX);
        Self {
            id: id.clone(),
            count: group.count,
            points,
            standby: group.standby.as_f64(),
            wake: group.wake,
            sleep: group.sleep,
            feeder,
            supply: Supply::Up,
            told: (awake, last),
            awake,
            cohorts: Vec::new(),
            point: PointMove { from: top, to: top, began: now - POINT_TIME },
            liar: false,
            errors: false,
            dice: Dice::new(seed, Purpose::MinerNoise, [place(id.as_str()), now.millis().cast_unsigned()]),
            noise: 0.0,
            active: awake.into(),
        }
    }

    /// Is found with `awake` miners at an operating point, settled; what the group does not have is clamped.
    pub(crate) fn find(&mut self, awake: u32, point: u8, now: Time) {
        let point = usize::from(point).min(self.points.len().saturating_sub(1));
        let awake = awake.min(self.count);
        let at = self.points.get(point).copied().unwrap_or((0.0, 0.0));
        self.told = (awake, u8::try_from(point).unwrap_or(u8::MAX));
        self.point = PointMove { from: at, to: at, began: now - POINT_TIME };
        (self.awake, self.active) = (awake, awake.into());
        self.cohorts.clear();
    }

    /// Takes a command; what the group has no such miner or point for is clamped. Miners without power keep it in mind.
    pub(crate) fn set(&mut self, awake: u32, point: u8, now: Time) {
        let last = self.points.len().saturating_sub(1);
        let point = usize::from(point).min(last);
        self.told = (awake.min(self.count), u8::try_from(point).unwrap_or(u8::MAX));
        if self.supply == Supply::Up {
            self.follow(now);
        }
    }

    /// Lets time pass to `now`; true when the draw may have changed.
    pub(crate) fn step(&mut self, energized: bool, now: Time) -> bool {
        let mut changed = self.feeder.step(now);
        let powered = energized && self.feeder.carries();
        changed |= match (self.supply, powered) {
            (Supply::Dead, true) => {
                self.supply = Supply::Booting { done: now + self.wake };
                true
            }
            (Supply::Booting { .. } | Supply::Up, false) => {
                self.die();
                true
            }
            (Supply::Booting { done }, true) if now >= done => {
                self.supply = Supply::Up;
                self.follow(now);
                true
            }
            _ => false,
        };
        if self.cohorts.is_empty() && (now - self.point.began) > POINT_TIME {
            return changed;
        }
        self.settle(now);
        true
    }

    /// Whether the group must be stepped at every tick: something in it moves.
    pub(crate) fn is_moving(&self, now: Time) -> bool {
        !self.cohorts.is_empty()
            || self.feeder.is_moving()
            || matches!(self.supply, Supply::Booting { .. })
            || (now - self.point.began) <= POINT_TIME
    }

    /// Draws new noise, once a second.
    pub(crate) fn second(&mut self) {
        self.noise = NOISE * self.dice.normal().clamp(-3.0, 3.0);
    }

    /// Draw in watts at nominal frequency.
    pub(crate) fn draw(&self, now: Time) -> f64 {
        if self.supply == Supply::Dead {
            return 0.0;
        }
        let idle = self.standby * (f64::from(self.count) - self.active);
        (idle + self.active * self.level(now).0) * (1.0 + self.noise)
    }

    /// Hashes a second that it really does.
    pub(crate) fn rate(&self, now: Time) -> Hashrate {
        Hashrate::from_f64(self.nominal_rate(now) * self.honesty())
    }

    /// The same for each of its miners.
    pub(crate) fn rates(&self, now: Time) -> Vec<Hashrate> {
        let one = self.level(now).1 * self.honesty();
        self.activity(now).into_iter().map(|activity| Hashrate::from_f64(activity * one)).collect()
    }

    /// What it does of what it claims.
    fn honesty(&self) -> f64 {
        if self.liar { LIAR_DOES } else { 1.0 }
    }

    /// Hashes a second that it claims; unknown while nothing answers.
    pub(crate) fn claimed(&self, now: Time) -> Option<Hashrate> {
        (self.supply == Supply::Up).then(|| Hashrate::from_f64(self.nominal_rate(now)))
    }

    /// What each miner's share of activity is, in miners: 1 for each awake one, parts for those on their way.
    fn activity(&self, now: Time) -> Vec<f64> {
        let mut each = vec![1.0; self.awake as usize];
        for cohort in &self.cohorts {
            each.extend(std::iter::repeat_n(cohort.activity(now), cohort.count as usize));
        }
        each.resize(self.count as usize, 0.0);
        if self.supply != Supply::Up {
            each.fill(0.0);
        }
        each
    }

    /// Miners that answer as (awake or waking, asleep or falling asleep).
    pub(crate) fn counts(&self) -> (u32, u32) {
        if self.supply != Supply::Up {
            return (0, 0);
        }
        let awake = self.awake + self.waking();
        (awake, self.count - awake)
    }

    /// Operating point as last told.
    pub(crate) fn point(&self) -> u8 {
        self.told.1
    }

    pub(crate) fn feeder_state(&self) -> FeederState {
        self.feeder.state()
    }

    fn nominal_rate(&self, now: Time) -> f64 {
        if self.supply == Supply::Up { self.active * self.level(now).1 } else { 0.0 }
    }

    /// (watts, hashes a second) of one awake miner.
    fn level(&self, now: Time) -> (f64, f64) {
        let part = ((now - self.point.began).as_f64() / POINT_TIME.as_f64()).clamp(0.0, 1.0);
        let blend = |from: f64, to: f64| from + (to - from) * part;
        (blend(self.point.from.0, self.point.to.0), blend(self.point.from.1, self.point.to.1))
    }

    fn waking(&self) -> u32 {
        self.cohorts.iter().filter(|cohort| cohort.waking).map(|cohort| cohort.count).sum()
    }

    /// Starts the moves that lead to what was told.
    fn follow(&mut self, now: Time) {
        let (wanted, point) = self.told;
        let to = self.points.get(usize::from(point)).copied().unwrap_or((0.0, 0.0));
        if to != self.point.to {
            self.point = PointMove { from: self.level(now), to, began: now };
        }
        let committed = self.awake + self.waking();
        if wanted > committed {
            self.wake_up(wanted - committed, now);
        } else {
            self.put_to_sleep(committed - wanted, now);
        }
        self.bound_cohorts();
        self.settle(now);
    }

    /// Wakes those asleep first, then turns round those that fall asleep, oldest first.
    fn wake_up(&mut self, mut count: u32, now: Time) {
        let busy: u32 = self.awake + self.cohorts.iter().map(|cohort| cohort.count).sum::<u32>();
        let rested = count.min(self.count - busy);
        self.push(rested, 0.0, true, now);
        count -= rested;
        count -= self.turn_round(count, true, now);
        debug_assert_eq!(count, 0, "told counts are clamped to the group");
    }

    /// Puts to sleep those awake first, then turns round those that wake.
    fn put_to_sleep(&mut self, mut count: u32, now: Time) {
        let awake = count.min(self.awake);
        self.awake -= awake;
        self.push(awake, 1.0, false, now);
        count -= awake;
        count -= self.turn_round(count, false, now);
        debug_assert_eq!(count, 0, "no more can be put to sleep than are awake or waking");
    }

    /// Turns up to `count` miners that move the other way; returns how many.
    fn turn_round(&mut self, count: u32, waking: bool, now: Time) -> u32 {
        let mut left = count;
        let mut turned = Vec::new();
        for cohort in self.cohorts.iter_mut().filter(|cohort| cohort.waking != waking) {
            let taken = left.min(cohort.count);
            cohort.count -= taken;
            left -= taken;
            turned.push((taken, cohort.activity(now)));
        }
        for (taken, activity) in turned {
            self.push(taken, activity, waking, now);
        }
        self.cohorts.retain(|cohort| cohort.count > 0);
        count - left
    }

    fn push(&mut self, count: u32, begins: f64, waking: bool, now: Time) {
        if count > 0 {
            let done = now + if waking { self.wake } else { self.sleep };
            self.cohorts.push(Cohort { count, begins, waking, from: now, done });
        }
    }

    fn bound_cohorts(&mut self) {
        while self.cohorts.len() > COHORTS {
            let oldest = self.cohorts.remove(0);
            self.awake += if oldest.waking { oldest.count } else { 0 };
        }
    }

    /// Retires finished cohorts and sums activity.
    fn settle(&mut self, now: Time) {
        let woken: u32 = self.cohorts.iter().filter(|c| c.waking && now >= c.done).map(|c| c.count).sum();
        self.awake += woken;
        self.cohorts.retain(|cohort| now < cohort.done);
        let moving: f64 =
            self.cohorts.iter().map(|cohort| f64::from(cohort.count) * cohort.activity(now)).sum();
        self.active = f64::from(self.awake) + moving;
    }

    fn die(&mut self) {
        self.supply = Supply::Dead;
        self.told.0 = 0;
        self.awake = 0;
        self.cohorts.clear();
        self.active = 0.0;
    }
}

impl Cohort {
    fn activity(&self, now: Time) -> f64 {
        let span = (self.done - self.from).as_f64().max(1.0);
        let part = ((now - self.from).as_f64() / span).clamp(0.0, 1.0);
        let ends = if self.waking { 1.0 } else { 0.0 };
        self.begins + (ends - self.begins) * part
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;

    /// Ten miners of 2,600 or 3,500 W, 10 s to wake, 5 s to sleep.
    fn group(awake: u32) -> Group {
        let fleet = reference::fleet();
        let module = fleet.modules.iter().find(|module| module.pools.is_empty()).unwrap();
        let (id, config) = module.groups.iter().next().unwrap();
        let mut config = config.clone();
        (config.count, config.wake, config.sleep) = (10, Span::secs(10), Span::secs(5));
        Group::new(id, &config, Feeder::new(&config.shed, None), awake, 1, Time(0))
    }

    fn run(group: &mut Group, from: i64, to: i64) {
        (from / 10 + 1..=to / 10).for_each(|tick| {
            group.step(true, Time(tick * 10));
        });
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1.0, "{actual}, not {expected}");
    }

    #[test]
    fn miners_ramp_linearly_between_standby_and_full() {
        let mut group = group(0);
        close(group.draw(Time(0)), 10.0 * group.standby);
        group.set(10, 1, Time(0));
        assert_eq!(group.counts(), (10, 0));
        run(&mut group, 0, 5_000);
        close(group.draw(Time(5_000)), 5.0 * 3_500.0 + 5.0 * group.standby);
        run(&mut group, 5_000, 10_000);
        close(group.draw(Time(10_000)), 35_000.0);
        assert!(!group.is_moving(Time(10_000)));
        group.set(4, 1, Time(10_000));
        run(&mut group, 10_000, 12_500);
        close(group.draw(Time(12_500)), 7.0 * 3_500.0 + 3.0 * group.standby);
        assert_eq!(group.counts(), (4, 6));
    }

    #[test]
    fn a_point_change_moves_power_and_hash_rate_together() {
        let mut group = group(10);
        let full = group.rate(Time(0)).as_f64();
        group.set(10, 0, Time(0));
        run(&mut group, 0, 2_500);
        close(group.draw(Time(2_500)), 10.0 * 3_050.0);
        run(&mut group, 2_500, 6_000);
        close(group.draw(Time(6_000)), 26_000.0);
        assert!(group.rate(Time(6_000)).as_f64() < full);
    }

    #[test]
    fn a_change_of_mind_turns_miners_round_where_they_are() {
        let mut group = group(0);
        group.set(10, 1, Time(0));
        run(&mut group, 0, 5_000);
        group.set(0, 1, Time(5_000));
        close(group.draw(Time(5_000)), 5.0 * 3_500.0 + 5.0 * group.standby);
        run(&mut group, 5_000, 10_000);
        close(group.draw(Time(10_000)), 10.0 * group.standby);
        assert_eq!(group.activity(Time(10_000)), vec![0.0; 10]);
    }

    #[test]
    fn behind_an_open_feeder_they_are_dead_and_come_back_asleep() {
        let mut group = group(10);
        group.feeder.open(Time(0)).unwrap();
        run(&mut group, 0, 200);
        assert_eq!((group.draw(Time(200)), group.rate(Time(200))), (0.0, Hashrate::ZERO));
        assert_eq!((group.counts(), group.claimed(Time(200))), ((0, 0), None));
        group.feeder.close(true, Time(60_000)).unwrap();
        run(&mut group, 200, 61_000);
        close(group.draw(Time(61_000)), 10.0 * group.standby);
        assert_eq!(group.counts(), (0, 0), "it boots and does not answer yet");
        run(&mut group, 61_000, 75_000);
        assert_eq!(group.counts(), (0, 10));
        assert!(!group.is_moving(Time(75_000)));
    }

    #[test]
    fn what_is_told_while_booting_is_done_after_it() {
        let mut group = group(10);
        group.feeder.open(Time(0)).unwrap();
        run(&mut group, 0, 200);
        group.feeder.close(true, Time(60_000)).unwrap();
        run(&mut group, 200, 61_000);
        group.set(3, 1, Time(61_000));
        run(&mut group, 61_000, 90_000);
        assert_eq!(group.counts(), (3, 7));
        close(group.draw(Time(90_000)), 3.0 * 3_500.0 + 7.0 * group.standby);
    }

    #[test]
    fn a_liar_claims_what_it_does_not_do() {
        let mut group = group(10);
        group.liar = true;
        let (claimed, does) = (group.claimed(Time(0)).unwrap(), group.rate(Time(0)));
        assert!((does.ratio(claimed).unwrap() - LIAR_DOES).abs() < 1e-6);
    }

    #[test]
    fn its_miners_hash_together_what_the_group_does_at_every_point_and_on_the_way() {
        let mut group = group(4);
        for (at, awake, point) in [(10_000, 7, 0), (40_000, 2, 1), (90_000, 9, 0)] {
            group.set(awake, point, Time(at));
            for now in [at + 2_000, at + 7_000, at + 29_000].map(Time) {
                run(&mut group, now.millis() - 5_000, now.millis());
                let each: Hashrate = group.rates(now).into_iter().sum();
                let apart = (each - group.rate(now)).as_f64().abs();
                assert!(
                    apart <= 1e-6 * group.rate(now).as_f64(),
                    "{each}, not {} at {now:?}",
                    group.rate(now)
                );
            }
        }
        let (low, full) = (group.points[0].1, group.points[1].1);
        assert!(low < full, "the points differ, or nothing was shown");
        close(group.rates(Time(119_000))[0].as_f64(), low);
    }

    #[test]
    fn many_commands_keep_the_number_of_cohorts_bounded_and_no_miner_is_lost() {
        let mut group = group(0);
        for tick in 1..=2_000 {
            let now = Time(tick * 10);
            group.set(u32::try_from(tick * 7 % 11).unwrap(), u8::from(tick % 3 == 0), now);
            group.step(true, now);
            let (awake, asleep) = group.counts();
            assert_eq!(awake + asleep, 10);
            assert!(group.cohorts.len() <= COHORTS);
            assert!((0.0..=10.0).contains(&group.active), "{}", group.active);
        }
    }
}
