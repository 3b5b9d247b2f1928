//! One miner group as regulation sees it: what it was told, what dwell allows, where its feeder stands, and whether it follows.
//!
//! It assumes readings once a second. [`crate::regulation`] decides the moves; this file keeps the books of them.

use model::module::{MinerGroup, OperatingPoint};
use model::report::{FeederState, Finding};
use model::{MinerGroupId, Span, Watts};

use crate::dwell::Dwell;
use crate::port::{Command, GroupReading};

/// Time beyond the configured wake or sleep time after which a group that does not follow is suspect: the poll of a large group
/// takes a few seconds, and firmware answers late.
pub const MARGIN: Span = Span::secs(10);
/// A feeder that was told to close and has not is told again after this.
const CLOSE_AGAIN: Span = Span::secs(5);
/// One miner in so many may be out of step before a group counts as not following: broken miners are normal.
const BROKEN_IN: u32 = 20;

/// A group's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Miners that shall be awake, as told last.
    pub awake: u32,
    /// Their operating point.
    pub point: u8,
    /// What may be reversed.
    pub dwell: Dwell,
    /// It does not follow what it is told.
    pub suspect: bool,
    opened: Option<Span>,
    closing: Option<Span>,
    written: Option<Span>,
}

impl Group {
    /// A group as it is found; `since` is when its miners may have reversed last.
    pub fn found(config: &MinerGroup, reading: &GroupReading, since: Option<Span>) -> Self {
        let awake = reading.awake.min(config.count);
        Self {
            awake,
            point: reading.point,
            dwell: Dwell::new(config.dwell, awake, config.count - awake, since),
            suspect: false,
            opened: None,
            closing: None,
            written: None,
        }
    }

    /// What the group draws when it has done what it was told. Nothing behind an open feeder.
    pub fn draw(&self, config: &MinerGroup) -> Watts {
        if self.is_fed() { config.draw(self.awake, self.point.into()) } else { Watts::ZERO }
    }

    /// Whether its feeder is closed or about to be.
    pub fn is_fed(&self) -> bool {
        self.opened.is_none() || self.closing.is_some()
    }

    /// Whether its feeder was told to close and has not confirmed it.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Watts for each TH/s at the present point, ×1,000; the least efficient group is lowered first.
    pub fn inefficiency(&self, config: &MinerGroup) -> i128 {
        let OperatingPoint { power, rate } = setting(config, self.point);
        i128::from(power.get()) * 1_000_000_000_000_000 / i128::from(rate.get().max(1))
    }

    /// Follows the feeder. An open one takes all its miners down, whoever opened it.
    pub fn follow_feeder(&mut self, feeder: Option<FeederState>, at: Span) {
        match feeder {
            Some(FeederState::Open) => {
                if self.opened.is_none() {
                    self.dropped(at);
                }
                self.closing = self.closing.filter(|since| at - *since < CLOSE_AGAIN);
            }
            Some(FeederState::Closed) => {
                // Just told to open, it still reads closed for its opening time.
                let stale = self.opened.is_some_and(|since| at - since >= CLOSE_AGAIN);
                if self.closing.is_some() || stale {
                    self.opened = None;
                    self.closing = None;
                }
            }
            Some(FeederState::Moving) | None => {}
        }
    }

    /// The feeder was told to open, or was found open.
    pub fn dropped(&mut self, at: Span) {
        self.dwell.sleep(self.awake, at);
        self.awake = 0;
        self.opened = Some(at);
        self.closing = None;
    }

    /// Whether the feeder has been open for long enough to close again.
    pub fn may_close(&self, config: &MinerGroup, at: Span) -> bool {
        !self.is_closing() && self.opened.is_some_and(|since| at - since >= config.shed.rearm)
    }

    /// Closes the feeder, the miners asleep.
    pub fn close(&mut self, id: &MinerGroupId, at: Span) -> [Command; 2] {
        self.closing = Some(at);
        [self.tell(id, at), Command::CloseFeeder(id.clone())]
    }

    /// Puts down or wakes miners and sets their point; keeps the books of dwell.
    pub fn set(&mut self, id: &MinerGroupId, awake: u32, point: u8, at: Span) -> Command {
        if awake > self.awake {
            self.dwell.wake(awake - self.awake, at);
        } else {
            self.dwell.sleep(self.awake - awake, at);
        }
        // With nobody awake before, a new point is no reversal.
        if self.awake > 0 && point > self.point {
            self.dwell.raise(at);
        } else if self.awake > 0 && point < self.point {
            self.dwell.lower(at);
        }
        (self.awake, self.point) = (awake, point);
        self.tell(id, at)
    }

    /// How many sleeping miners answer and could be woken now.
    pub fn wakeable(&self, reading: &GroupReading, at: Span) -> u32 {
        let promised = self.awake.saturating_sub(reading.awake);
        reading.asleep.saturating_sub(promised).min(self.dwell.may_wake(at))
    }

    /// Reads back: once the group has had its time it must show what it was told. One that does not is told again.
    pub fn read_back(
        &mut self,
        id: &MinerGroupId,
        config: &MinerGroup,
        reading: &GroupReading,
        at: Span,
    ) -> Option<Command> {
        let off = reading.awake.abs_diff(self.awake) > config.count / BROKEN_IN
            || (self.awake > 0 && reading.awake > 0 && reading.point != self.point);
        if !off || !self.is_fed() {
            self.suspect = false;
            return None;
        }
        if !self.had_time(config, at) {
            return None;
        }
        self.suspect = true;
        Some(self.tell(id, at))
    }

    /// Whether the group has had time to do what it was last told.
    pub fn had_time(&self, config: &MinerGroup, at: Span) -> bool {
        self.written.is_none_or(|written| at - written >= config.wake.max(config.sleep) + MARGIN)
    }

    /// The finding of a group that does not follow.
    pub fn finding(&self, id: &MinerGroupId, reading: &GroupReading) -> Option<Finding> {
        self.suspect.then(|| Finding {
            code: "readback-mismatch".into(),
            subject: format!("group {id}"),
            message: format!(
                "told {} awake at point {}, reads {} at point {}; nothing more is raised there: check the miners' firmware",
                self.awake, self.point, reading.awake, reading.point
            ),
        })
    }

    fn tell(&mut self, id: &MinerGroupId, at: Span) -> Command {
        self.written = Some(at);
        Command::SetMiners { group: id.clone(), awake: self.awake, point: self.point }
    }
}

/// The setting behind a point; an unknown one counts as the highest.
pub fn setting(config: &MinerGroup, point: u8) -> OperatingPoint {
    config.points.get(usize::from(point)).copied().unwrap_or(config.full())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::{group, id};

    fn reading(awake: u32, asleep: u32, point: u8) -> GroupReading {
        GroupReading { awake, asleep, point, power: None, claimed: None }
    }

    fn found(awake: u32) -> (MinerGroup, Group) {
        let config = group(40);
        let group = Group::found(&config, &reading(awake, 40 - awake, 1), None);
        (config, group)
    }

    /// Told `told` awake at 0 s, the group reads `read` (awake, point) at `second`: is it suspect, and told again?
    fn check(told: u32, read: (u32, u8), second: i64, expected: (bool, bool)) {
        let (config, mut group) = found(0);
        group.set(&id("a"), told, 1, Span::ZERO);
        let read = reading(read.0, 40 - read.0, read.1);
        let again = group.read_back(&id("a"), &config, &read, Span::secs(second));
        assert_eq!((group.suspect, again.is_some()), expected, "told {told}, reads {read:?} at {second} s");
        assert_eq!(group.finding(&id("a"), &read).is_some(), expected.0);
    }

    #[test]
    fn a_group_has_its_wake_time_and_a_margin_to_follow() {
        check(40, (40, 1), 1, (false, false));
        check(40, (10, 1), 19, (false, false));
        check(40, (10, 1), 20, (true, true));
        check(40, (38, 1), 60, (false, false));
        check(40, (37, 1), 60, (true, true));
        check(40, (40, 0), 60, (true, true));
        check(0, (3, 1), 60, (true, true));
        check(0, (0, 0), 60, (false, false));
    }

    #[test]
    fn a_suspect_group_that_follows_at_last_is_trusted_again() {
        let (config, mut group) = found(0);
        group.set(&id("a"), 40, 1, Span::ZERO);
        assert!(group.read_back(&id("a"), &config, &reading(0, 40, 1), Span::secs(30)).is_some());
        assert!(
            group.read_back(&id("a"), &config, &reading(0, 40, 1), Span::secs(31)).is_none(),
            "not each second"
        );
        assert!(group.suspect);
        group.read_back(&id("a"), &config, &reading(40, 0, 1), Span::secs(32));
        assert!(!group.suspect);
    }

    #[test]
    fn an_open_feeder_takes_its_miners_down_and_waits_to_rearm() {
        let (config, mut group) = found(40);
        group.follow_feeder(Some(FeederState::Open), Span::secs(10));
        assert_eq!((group.awake, group.draw(&config), group.is_fed()), (0, Watts::ZERO, false));
        assert_eq!(group.dwell.may_wake(Span::secs(309)), 0);
        assert!(!group.may_close(&config, Span::secs(39)) && group.may_close(&config, Span::secs(40)));
        let commands = group.close(&id("a"), Span::secs(40));
        let asleep = Command::SetMiners { group: id("a"), awake: 0, point: 1 };
        assert_eq!(commands, [asleep, Command::CloseFeeder(id("a"))]);
        assert!(group.is_closing() && group.is_fed());
        group.follow_feeder(Some(FeederState::Moving), Span::secs(41));
        group.follow_feeder(Some(FeederState::Closed), Span::secs(42));
        assert!(!group.is_closing() && group.is_fed());
    }

    #[test]
    fn a_feeder_that_did_not_close_may_be_told_again() {
        let (config, mut group) = found(40);
        group.follow_feeder(Some(FeederState::Open), Span::ZERO);
        group.close(&id("a"), Span::secs(40));
        group.follow_feeder(Some(FeederState::Open), Span::secs(44));
        assert!(!group.may_close(&config, Span::secs(44)));
        group.follow_feeder(Some(FeederState::Open), Span::secs(45));
        assert!(group.may_close(&config, Span::secs(45)));
    }

    #[test]
    fn a_feeder_just_told_to_open_still_reads_closed() {
        let (_, mut group) = found(40);
        group.dropped(Span::secs(10));
        group.follow_feeder(Some(FeederState::Closed), Span::secs(11));
        assert!(!group.is_fed(), "its opening time is not over");
        group.follow_feeder(Some(FeederState::Closed), Span::secs(16));
        assert!(group.is_fed(), "it did not open, or a person closed it");
    }

    #[test]
    fn only_miners_that_answer_are_woken() {
        let (_, mut group) = found(0);
        assert_eq!(group.wakeable(&reading(0, 0, 0), Span::ZERO), 0, "all are booting");
        assert_eq!(group.wakeable(&reading(0, 30, 0), Span::ZERO), 30);
        group.set(&id("a"), 10, 1, Span::ZERO);
        assert_eq!(group.wakeable(&reading(4, 36, 1), Span::ZERO), 30, "six are on their way");
    }
}
