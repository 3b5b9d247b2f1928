//! Which controller to try next, and after what wait: pure, so that every way a session can end is a row of a table.
//!
//! A leader that a controller names is followed only where this agent was configured with that address: until the link is signed,
//! whoever answers at one address must not be able to send agents to another. The wait is drawn below a bound (full jitter): one that
//! doubles, or the controller's word where that is longer, since it alone knows how many agents come back.
//! Read next: `../session.rs`, which waits and connects.

use std::time::Duration;

/// First and longest bound of a wait of our own.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A session that lasted this long was a sound one: the next wait is short again.
const SOUND: Duration = Duration::from_secs(10);
/// The longest bound that is taken from a controller: twice what 10,000 agents are asked for.
const MOST_WITHIN: Duration = Duration::from_secs(20);

/// How a session ended, as far as it matters to where one goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The controller named the leader (empty: it knows none) and may have said within what time to come back.
    Redirected(String, Option<Duration>),
    /// The controller refused, and may have said within what time to come back.
    Refused(Option<Duration>),
    /// The connection failed or fell silent.
    Broken,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The wait.
    pub wait: Duration,
    /// A leader that was named and is not among the configured controllers.
    pub stranger: Option<String>,
}

/// The configured controllers, and where among them we are.
#[derive(Clone, Debug)]
pub struct Course {
    controllers: Vec<String>,
    at: usize,
    bound: Duration,
    /// The one at which the last try failed: a standby names it as leader until its lease has run out.
    failed: Option<usize>,
}

impl Course {
    /// Begins at the first of these URLs.
    pub fn new(controllers: Vec<String>) -> Self {
        Self { controllers, at: 0, bound: BACKOFF.0, failed: None }
    }

    /// The address to try now; empty when none is configured.
    pub fn address(&self) -> &str {
        self.controllers.get(self.at).map_or("", String::as_str)
    }

    /// A session ended that had lasted so long; `drawn` is random, from 0 to 1.
    pub fn part(&mut self, parting: &Parting, lasted: Duration, drawn: f64) -> Next {
        // A standby that says when to come back is alive, and will know the next leader soon.
        let fresh = lasted > SOUND || matches!(parting, Parting::Redirected(_, Some(_)));
        self.bound = if fresh { BACKOFF.0 } else { (self.bound * 2).min(BACKOFF.1) };
        let (leader, within) = match parting {
            Parting::Redirected(leader, within) => (Some(leader.as_str()), *within),
            Parting::Refused(within) => (None, *within),
            Parting::Broken => (None, None),
        };
        let named = leader.filter(|leader| !leader.is_empty());
        let known = named.and_then(|leader| self.controllers.iter().position(|ours| same(ours, leader)));
        let failed = self.failed.take();
        if *parting == Parting::Broken {
            self.failed = Some(self.at);
        }
        self.at = match known {
            // It has just failed: whoever named it is asked once more before it is tried again.
            Some(leader) if failed == Some(leader) => self.at,
            Some(leader) => leader,
            None => (self.at + 1) % self.controllers.len().max(1),
        };
        // The longer of the two: a controller that asks a small fleet back at once, and leads nowhere, is not to be hammered.
        let bound = within.map_or(self.bound, |within| within.min(MOST_WITHIN).max(self.bound));
        let stranger = named.filter(|_| known.is_none()).map(str::to_owned);
        Next { wait: bound.mul_f64(drawn.clamp(0.0, 1.0)), stranger }
    }
}

/// Two spellings of one URL, as people write it into files.
fn same(ours: &str, named: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
    plain(ours) == plain(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "http://10.0.0.1:7600";
    const TWO: &str = "http://10.0.0.2:7600/";
    const THREE: &str = "http://ten.example:7600";

    fn course() -> Course {
        Course::new([ONE, TWO, THREE].map(str::to_owned).to_vec())
    }

    fn redirected(leader: &str) -> Parting {
        Parting::Redirected(leader.to_owned(), None)
    }

    #[test]
    fn a_leader_is_followed_to_where_the_agent_was_told_it_may_be_and_nowhere_else() {
        let check = |parting: Parting, expected: &str, stranger: Option<&str>| {
            let mut course = course();
            let next = course.part(&parting, Duration::ZERO, 0.0);
            assert_eq!(course.address(), expected, "{parting:?}");
            assert_eq!(next.stranger.as_deref(), stranger, "{parting:?}");
        };
        check(redirected("http://10.0.0.2:7600"), TWO, None);
        check(redirected("http://TEN.example:7600/"), THREE, None);
        check(redirected("http://10.0.0.1:7600"), ONE, None);
        check(redirected("http://10.6.6.6:7600"), TWO, Some("http://10.6.6.6:7600"));
        check(redirected(""), TWO, None);
        check(Parting::Refused(None), TWO, None);
        check(Parting::Broken, TWO, None);
    }

    #[test]
    fn every_controller_is_tried_in_turn() {
        let mut course = course();
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(course.address().to_owned());
            course.part(&Parting::Broken, Duration::ZERO, 0.5);
        }
        assert_eq!(tried, [ONE, TWO, THREE, ONE]);
        let mut nowhere = Course::new(Vec::new());
        nowhere.part(&Parting::Broken, Duration::ZERO, 0.5);
        assert_eq!(nowhere.address(), "");
    }

    #[test]
    fn a_leader_that_has_just_failed_is_not_gone_back_to_at_once() {
        // The leader is killed; the next controller stands by and names it until its lease has run out.
        let mut course = course();
        let mut tried = Vec::new();
        for parting in [Parting::Broken, redirected(ONE), redirected(ONE), Parting::Broken, redirected(THREE)]
        {
            course.part(&parting, Duration::ZERO, 0.0);
            tried.push(course.address().to_owned());
        }
        assert_eq!(tried, [TWO, TWO, ONE, TWO, THREE]);
    }

    #[test]
    fn waits_are_drawn_below_a_bound_that_doubles_or_that_the_controller_gave() {
        let mut course = course();
        let mut check = |parting: Parting, lasted_s: u64, drawn: f64, expected_ms: u64| {
            let next = course.part(&parting, Duration::from_secs(lasted_s), drawn);
            assert_eq!(next.wait, Duration::from_millis(expected_ms), "{parting:?}");
        };
        let within = |seconds: u64| Some(Duration::from_secs(seconds));
        check(Parting::Broken, 0, 1.0, 400);
        check(Parting::Broken, 0, 0.5, 400);
        check(Parting::Broken, 0, 0.0, 0);
        check(Parting::Broken, 0, 1.0, 3_200);
        check(Parting::Broken, 0, 1.0, 5_000);
        check(Parting::Refused(within(10)), 0, 0.25, 2_500);
        check(Parting::Redirected(ONE.into(), within(3_600)), 0, 1.0, 20_000);
        check(Parting::Redirected(ONE.into(), None), 0, 1.0, 400);
        check(Parting::Redirected(ONE.into(), within(0)), 0, 1.0, 200);
        check(Parting::Broken, 11, 1.0, 200);
        check(Parting::Broken, 9, 7.0, 400);
    }

    #[test]
    fn a_fleet_that_comes_back_comes_evenly_over_the_time_it_was_given() {
        // 10,000 agents with evenly drawn numbers: no second of ten gets more than its share by a tenth.
        let mut seconds = [0u32; 10];
        for agent in 0..10_000u32 {
            let drawn = f64::from(agent) / 10_000.0;
            let next = course().part(&Parting::Refused(Some(Duration::from_secs(10))), SOUND, drawn);
            seconds[usize::try_from(next.wait.as_secs()).unwrap_or(9).min(9)] += 1;
        }
        assert!(seconds.iter().all(|count| *count <= 1_100), "{seconds:?}");
    }
}
