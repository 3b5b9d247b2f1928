//! Live state of every module: its last report, how old it is, its link, its session. Never stored; each leader learns it anew.
//!
//! Assumes that reports come about once a second on the injected clock. Pure: time comes in as an argument. Only `lost_since`
//! outlives a leader: the shell stores it. Read next: `observe.rs`, which turns this into the planner's input.

use std::collections::BTreeMap;

use model::report::{Report, STALE_AFTER, SiteReport};
use model::{ModuleId, Span, Time, Watts};
use planner::Link;

/// When a link counts as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Up to this age of the last report a module is online: three reports, one may be lost and one late.
    pub online: Span,
    /// Up to this age it is stale, beyond it lost: a satellite link re-establishes in 10 s.
    pub stale: Span,
    /// Up to this age of its report a site may be given more.
    pub site: Span,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { online: Span::secs(3), stale: Span::secs(15), site: STALE_AFTER }
    }
}

impl Freshness {
    /// Where an agent may say nothing for so long while its last report holds: a link that is gone shows that much later.
    pub fn with_silence(self, quiet: Span) -> Self {
        let Self { online, stale, site } = self;
        Self { online: online + quiet, stale: stale + quiet, site: site + quiet }
    }
}

/// Names one session of one agent within a leader's term; later sessions have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What is known of all modules.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    freshness: Freshness,
    /// When this term began: a module gets the time a stale link has, from then, before it counts as lost.
    since: Time,
    /// How long modules may be silent that have no session in this term yet.
    presumed: Span,
    modules: BTreeMap<ModuleId, Seen>,
}

/// What is known of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The session in force, if any.
    pub session: Option<SessionId>,
    /// What its agent last said, and when that was received.
    pub last: Option<(Report, Time)>,
    /// The meter's reading in the report before.
    pub meter_before: Option<Watts>,
    /// Out of touch since then, as stored.
    pub lost_since: Option<Time>,
    /// The installation has heard from it in some term: it holds a grant.
    pub known: bool,
    /// How long its agent may say nothing, as its session was told.
    pub quiet: Span,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the latest now.
    Accepted {
        /// The agent's machine was started anew since its last report.
        rebooted: bool,
        /// The module was out of touch before.
        returned: bool,
    },
    /// It came by a session that a newer one has superseded, or it is older than what is known.
    Outdated,
}

impl Tracker {
    /// A tracker for a term that begins now.
    pub fn new(freshness: Freshness, since: Time) -> Self {
        Self { freshness, since, presumed: Span::ZERO, modules: BTreeMap::new() }
    }

    /// How long modules may be silent that become known from now on, until a session tells them: what the leader before this one told
    /// them is what this one would.
    pub fn presume(&mut self, quiet: Span) {
        self.presumed = quiet;
    }

    /// The module's session was told how long it may be silent.
    pub fn allowed(&mut self, module: &ModuleId, quiet: Span) {
        if let Some(seen) = self.modules.get_mut(module) {
            seen.quiet = quiet;
        }
    }

    /// When what counts as how old, where nobody is silent for longer than these modules may be.
    pub fn freshness<'a>(&self, modules: impl IntoIterator<Item = &'a ModuleId>) -> Freshness {
        self.freshness.with_silence(self.silence(modules))
    }

    /// The longest that one of these modules may be silent.
    pub fn silence<'a>(&self, modules: impl IntoIterator<Item = &'a ModuleId>) -> Span {
        let quiet = modules.into_iter().filter_map(|id| Some(self.modules.get(id)?.quiet));
        quiet.max().unwrap_or(Span::ZERO)
    }

    /// Makes a module known. `known` if the store holds a grant of it.
    pub fn register(&mut self, module: &ModuleId, known: bool, lost_since: Option<Time>) {
        if !self.modules.contains_key(module) {
            let quiet = self.presumed;
            let fresh = Seen { session: None, last: None, meter_before: None, lost_since, known, quiet };
            self.modules.insert(module.clone(), fresh);
        }
    }

    /// A session began; it supersedes the one before. `false` for a module nobody knows.
    pub fn opened(&mut self, module: &ModuleId, session: SessionId) -> bool {
        let Some(seen) = self.modules.get_mut(module) else { return false };
        seen.session = Some(session);
        true
    }

    /// A session ended. One that was superseded already changes nothing.
    pub fn closed(&mut self, module: &ModuleId, session: SessionId) {
        if let Some(seen) = self.modules.get_mut(module)
            && seen.session == Some(session)
        {
            seen.session = None;
        }
    }

    /// Takes in a report.
    pub fn reported(&mut self, session: SessionId, report: Report, now: Time) -> Taken {
        let Some(seen) = self.modules.get_mut(&report.module) else { return Taken::Outdated };
        if seen.session != Some(session) {
            return Taken::Outdated;
        }
        let since = seen.last.as_ref().map(|(last, _)| report.stamp.since(&last.stamp));
        if matches!(since, Some(Some(step)) if step < Span::ZERO) {
            return Taken::Outdated;
        }
        let taken = Taken::Accepted { rebooted: since == Some(None), returned: seen.lost_since.is_some() };
        seen.lost_since = None;
        seen.known = true;
        seen.meter_before = seen.last.as_ref().and_then(|(last, _)| last.meter);
        seen.last = Some((report, now));
        taken
    }

    /// Marks modules whose link is lost now; answers those for which that is news.
    pub fn find_lost(&mut self, now: Time) -> Vec<ModuleId> {
        let lost: Vec<ModuleId> = self
            .modules
            .iter()
            .filter(|(id, seen)| seen.lost_since.is_none() && self.link(id, now) == Link::Lost)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &lost {
            if let Some(seen) = self.modules.get_mut(id) {
                seen.lost_since = Some(now);
            }
        }
        lost
    }

    /// Whether the module's agent is in touch.
    pub fn link(&self, module: &ModuleId, now: Time) -> Link {
        let Some(seen) = self.modules.get(module).filter(|seen| seen.known) else { return Link::Never };
        let heard = seen.last.as_ref().map(|(_, at)| *at);
        let age = now.since(heard.unwrap_or(self.since));
        let freshness = self.freshness.with_silence(seen.quiet);
        match (heard, seen.session) {
            _ if seen.lost_since.is_some() || age > freshness.stale => Link::Lost,
            (Some(_), Some(_)) if age <= freshness.online => Link::Online,
            _ => Link::Stale,
        }
    }

    /// All known modules have reported in this term.
    pub fn complete(&self) -> bool {
        self.modules.values().all(|seen| !seen.known || seen.last.is_some())
    }

    /// Every module that is configured has reported in this term.
    pub fn all_heard(&self) -> bool {
        self.modules.values().all(|seen| seen.last.is_some())
    }

    /// What is known of one module.
    pub fn seen(&self, module: &ModuleId) -> Option<&Seen> {
        self.modules.get(module)
    }

    /// What the module's agent last said.
    pub fn report(&self, module: &ModuleId) -> Option<&Report> {
        self.seen(module)?.last.as_ref().map(|(report, _)| report)
    }

    /// The least that the module certainly draws: the smaller of its last two readings, since readings of different meters
    /// are not of the same instant. `None` unless it is online and both are known.
    pub fn least_draw(&self, module: &ModuleId, now: Time) -> Option<Watts> {
        let seen = self.seen(module).filter(|_| self.link(module, now) == Link::Online)?;
        let (last, _) = seen.last.as_ref()?;
        Some(last.meter?.min(seen.meter_before?))
    }

    /// The last word on their site from any of these modules, and when it was received.
    pub fn latest_site(&self, modules: &[&ModuleId]) -> Option<(&SiteReport, Time)> {
        modules
            .iter()
            .filter_map(|id| self.modules.get(*id)?.last.as_ref())
            .filter_map(|(report, at)| Some((report.site.as_ref()?, *at)))
            .max_by_key(|(_, at)| *at)
    }

    /// When the next link may change its state by age alone, so that a loop knows how long it may sleep.
    pub fn next_change(&self, now: Time) -> Option<Time> {
        let limits = |seen: &Seen| {
            let Freshness { online, stale, .. } = self.freshness.with_silence(seen.quiet);
            let heard = seen.last.as_ref().map_or(self.since, |(_, at)| *at);
            [heard + online + Span::new(1), heard + stale + Span::new(1)]
        };
        self.modules
            .values()
            .filter(|seen| seen.known && seen.lost_since.is_none())
            .flat_map(limits)
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{module_id, report};

    const START: Time = Time(1_000_000);

    fn at(seconds: i64) -> Time {
        START + Span::secs(seconds)
    }

    fn tracker() -> Tracker {
        let mut tracker = Tracker::new(Freshness::default(), START);
        tracker.register(&module_id("m1"), true, None);
        tracker.register(&module_id("m2"), false, None);
        tracker
    }

    #[test]
    fn each_module_may_be_silent_for_as_long_as_its_own_session_was_told() {
        let mut tracker = Tracker::new(Freshness::default(), START);
        let [m1, m2, m3] = ["m1", "m2", "m3"].map(module_id);
        tracker.presume(Span::secs(30));
        for (module, quiet) in [(&m1, Some(0)), (&m2, Some(8)), (&m3, None)] {
            tracker.register(module, true, None);
            if let Some(quiet) = quiet {
                tracker.opened(module, SessionId(1));
                tracker.allowed(module, Span::secs(quiet));
                tracker.reported(SessionId(1), report(module.as_str(), 1), at(0));
            }
        }
        let check = |seconds, expected: [Link; 3]| {
            let links = [&m1, &m2, &m3].map(|module| tracker.link(module, at(seconds)));
            assert_eq!(links, expected, "{seconds} s");
            tracker.next_change(at(seconds)).map(|next| next.since(START).millis())
        };
        use Link::{Lost, Online, Stale};
        assert_eq!(check(3, [Online, Online, Stale]), Some(3_001));
        assert_eq!(check(4, [Stale, Online, Stale]), Some(11_001));
        assert_eq!(check(16, [Lost, Stale, Stale]), Some(23_001));
        assert_eq!(check(24, [Lost, Lost, Stale]), Some(33_001));
        assert_eq!(check(46, [Lost, Lost, Lost]), None);
        assert_eq!(tracker.silence([&m1, &m2]), Span::secs(8));
        assert_eq!(tracker.silence([]), Span::ZERO);
        let site = |modules: &[&ModuleId]| tracker.freshness(modules.iter().copied()).site;
        assert_eq!(site(&[&m1, &m3]) - site(&[&m1]), Span::secs(30));
        // Its next session is told otherwise.
        tracker.opened(&m2, SessionId(2));
        tracker.allowed(&m2, Span::ZERO);
        tracker.reported(SessionId(2), report("m2", 2), at(50));
        assert_eq!(tracker.link(&m2, at(54)), Stale);
    }

    #[test]
    fn a_link_ages_from_online_to_stale_to_lost() {
        let mut tracker = tracker();
        let m1 = module_id("m1");
        tracker.opened(&m1, SessionId(1));
        tracker.reported(SessionId(1), report("m1", 1), at(0));
        for (seconds, expected) in
            [(0, Link::Online), (3, Link::Online), (4, Link::Stale), (15, Link::Stale), (16, Link::Lost)]
        {
            assert_eq!(tracker.link(&m1, at(seconds)), expected, "{seconds} s");
        }
        assert_eq!(tracker.next_change(at(0)), Some(at(3) + Span::new(1)));
        assert_eq!(tracker.next_change(at(4)), Some(at(15) + Span::new(1)));
    }

    #[test]
    fn a_known_module_has_grace_after_an_election_and_an_unknown_one_is_never_lost() {
        let mut tracker = tracker();
        assert_eq!(tracker.link(&module_id("m1"), at(0)), Link::Stale);
        assert_eq!(tracker.link(&module_id("m1"), at(16)), Link::Lost);
        assert_eq!(tracker.link(&module_id("m2"), at(99)), Link::Never);
        assert_eq!(tracker.find_lost(at(16)), [module_id("m1")]);
        assert_eq!(tracker.find_lost(at(17)), [], "no news the second time");
        assert!(!tracker.complete());
    }

    #[test]
    fn a_second_session_supersedes_the_first() {
        let mut tracker = tracker();
        let m1 = module_id("m1");
        assert!(tracker.opened(&m1, SessionId(1)));
        assert!(tracker.opened(&m1, SessionId(2)));
        assert_eq!(tracker.reported(SessionId(1), report("m1", 1), at(0)), Taken::Outdated);
        tracker.closed(&m1, SessionId(1));
        let taken = tracker.reported(SessionId(2), report("m1", 1), at(0));
        assert_eq!(taken, Taken::Accepted { rebooted: false, returned: false });
        tracker.closed(&m1, SessionId(2));
        assert_eq!(tracker.link(&m1, at(1)), Link::Stale, "no session, but a fresh report");
        assert!(!tracker.opened(&module_id("nobody"), SessionId(3)));
    }

    #[test]
    fn what_a_module_certainly_draws_is_the_smaller_of_two_readings() {
        let mut tracker = tracker();
        let m1 = module_id("m1");
        tracker.opened(&m1, SessionId(1));
        let mut check = |second: i64, meter: Option<i64>, expected: Option<i64>| {
            let report = Report { meter: meter.map(Watts::kilo), ..report("m1", second) };
            tracker.reported(SessionId(1), report, at(second));
            assert_eq!(tracker.least_draw(&m1, at(second)), expected.map(Watts::kilo), "{second} s");
        };
        check(1, Some(50), None);
        check(2, Some(40), Some(40));
        check(3, Some(60), Some(40));
        check(4, None, None);
        check(5, Some(70), None);
        assert_eq!(tracker.least_draw(&m1, at(30)), None);
    }

    #[test]
    fn older_reports_are_dropped_and_reboots_and_returns_are_told() {
        let mut tracker = tracker();
        let m1 = module_id("m1");
        tracker.opened(&m1, SessionId(1));
        tracker.reported(SessionId(1), report("m1", 10), at(0));
        assert_eq!(tracker.reported(SessionId(1), report("m1", 9), at(1)), Taken::Outdated);
        tracker.find_lost(at(60));
        let mut rebooted = report("m1", 2);
        rebooted.stamp.boot_id = "another".into();
        let taken = tracker.reported(SessionId(1), rebooted, at(61));
        assert_eq!(taken, Taken::Accepted { rebooted: true, returned: true });
        assert_eq!(tracker.link(&m1, at(61)), Link::Online);
    }
}
