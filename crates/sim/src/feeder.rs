//! A feeder breaker: closed, moving, open. It carries current until it has opened, and none until it has closed.
//!
//! An under-voltage release opens it in a blackout; nothing but a command closes it. It may close again only after it has
//! rearmed. A stuck feeder takes the command to open and never does. The load behind it: [`crate::miner_power`].

use model::module::{Actuator, ShedPath};
use model::report::FeederState;
use model::{Span, Time};

/// Opening and closing time where the module's description gives none.
pub const TRAVEL: Span = Span::new(150);

/// A feeder as it is.
#[derive(Clone, Debug)]
pub(crate) struct Feeder {
    position: Position,
    opens: Span,
    rearm: Span,
    /// False for a group that is not switched by a feeder at all: it is always closed.
    switched: bool,
    pub(crate) stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Closed,
    Opening { done: Time },
    Open { since: Option<Time> },
    Closing { done: Time },
}

/// Why a feeder did not follow a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too early.
    #[error("the feeder has not rearmed; wait out its rearm time")]
    NotRearmed,
    /// No such device.
    #[error("the group has no feeder; put its miners to sleep instead")]
    NoFeeder,
    /// A dead bus.
    #[error("the module has no power; the under-voltage release holds the feeder open")]
    NoVoltage,
}

impl Feeder {
    /// A closed feeder; `true_opening` is its real opening time where that differs from the described one.
    pub(crate) fn new(path: &ShedPath, true_opening: Option<Span>) -> Self {
        Self {
            position: Position::Closed,
            opens: true_opening.or(path.opens).unwrap_or(TRAVEL),
            rearm: path.rearm,
            switched: path.actuator == Actuator::Feeder,
            stuck: false,
        }
    }

    /// Whether current can flow.
    pub(crate) fn carries(&self) -> bool {
        matches!(self.position, Position::Closed | Position::Opening { .. })
    }

    pub(crate) fn state(&self) -> FeederState {
        match self.position {
            Position::Closed => FeederState::Closed,
            Position::Opening { .. } | Position::Closing { .. } => FeederState::Moving,
            Position::Open { .. } => FeederState::Open,
        }
    }

    /// Begins to open. Repeating it changes nothing; while it closes, it turns round.
    pub(crate) fn open(&mut self, now: Time) -> Result<(), Refused> {
        if !self.switched {
            return Err(Refused::NoFeeder);
        }
        match self.position {
            Position::Closed => self.position = Position::Opening { done: now + self.opens },
            Position::Closing { .. } => self.position = Position::Open { since: Some(now) },
            Position::Opening { .. } | Position::Open { .. } => {}
        }
        Ok(())
    }

    /// Begins to close. Repeating it changes nothing.
    pub(crate) fn close(&mut self, energized: bool, now: Time) -> Result<(), Refused> {
        if !self.switched {
            return Err(Refused::NoFeeder);
        }
        let Position::Open { since } = self.position else { return Ok(()) };
        if !energized {
            return Err(Refused::NoVoltage);
        }
        if since.is_some_and(|since| now - since < self.rearm) {
            return Err(Refused::NotRearmed);
        }
        self.position = Position::Closing { done: now + TRAVEL };
        Ok(())
    }

    /// The under-voltage release of a blackout. A closing time stamp is kept: rearming takes its time all the same.
    pub(crate) fn release(&mut self, now: Time) {
        if self.switched && !self.stuck && !matches!(self.position, Position::Open { .. }) {
            self.position = Position::Open { since: Some(now) };
        }
    }

    /// Lets it travel; true when it has just begun or ceased to carry current.
    pub(crate) fn step(&mut self, now: Time) -> bool {
        let position = match self.position {
            Position::Opening { done } if now >= done && !self.stuck => Position::Open { since: Some(now) },
            Position::Closing { done } if now >= done => Position::Closed,
            unchanged => unchanged,
        };
        let changed = position != self.position;
        self.position = position;
        changed
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.state() == FeederState::Moving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feeder(actuator: Actuator) -> Feeder {
        let path = ShedPath { actuator, opens: Some(Span::new(150)), rearm: Span::secs(30) };
        Feeder::new(&path, None)
    }

    #[test]
    fn it_carries_current_until_it_has_opened_and_none_until_it_has_closed() {
        let mut feeder = feeder(Actuator::Feeder);
        assert_eq!(feeder.open(Time(0)), Ok(()));
        assert!(!feeder.step(Time(140)) && feeder.carries());
        assert_eq!(feeder.state(), FeederState::Moving);
        assert!(feeder.step(Time(150)) && !feeder.carries());
        assert_eq!(feeder.state(), FeederState::Open);
        assert_eq!(feeder.close(true, Time(30_149)), Err(Refused::NotRearmed));
        assert_eq!(feeder.close(false, Time(30_150)), Err(Refused::NoVoltage));
        assert_eq!(feeder.close(true, Time(30_150)), Ok(()));
        assert!(!feeder.step(Time(30_290)) && !feeder.carries());
        assert!(feeder.step(Time(30_300)) && feeder.carries());
    }

    #[test]
    fn a_stuck_one_never_opens_and_says_that_it_moves() {
        let mut feeder = feeder(Actuator::Feeder);
        feeder.stuck = true;
        assert_eq!(feeder.open(Time(0)), Ok(()));
        assert!(!feeder.step(Time(60_000)) && feeder.carries());
        assert_eq!(feeder.state(), FeederState::Moving);
    }

    #[test]
    fn a_group_without_a_feeder_refuses() {
        let mut feeder = feeder(Actuator::Api);
        assert_eq!(feeder.open(Time(0)), Err(Refused::NoFeeder));
        feeder.release(Time(0));
        assert!(feeder.carries(), "nothing releases where there is no breaker");
    }

    #[test]
    fn a_blackout_releases_it() {
        let mut feeder = feeder(Actuator::Feeder);
        feeder.release(Time(5));
        assert_eq!(feeder.state(), FeederState::Open);
        assert_eq!(feeder.close(true, Time(1_000)), Err(Refused::NotRearmed));
    }
}
