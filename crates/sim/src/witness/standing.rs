//! What one module may draw, as its agent holds it: the last directive adopted, when it expires, and what then.
//!
//! It assumes that the agent's boot-time clock runs as simulated time does, and that every renewal is told. Ceilings fall at once
//! and draws do not: a draw is held against the highest limit of the last [`Standing::grace`]. Read next: [`super::scene`].

use std::collections::{BTreeMap, VecDeque};

use model::envelope::{Directive, Grant};
use model::module::Module;
use model::report::FeederState;
use model::{BootStamp, MinerGroupId, Span, Time, Watts};

/// What a draw may exceed its limit by: meters and miners stray by up to 1 %, thrice their noise of 0.3 %, and as much again.
const TOLERANCE_PERMILLE: i64 = 20;
/// Below this an excess is not worth a word.
const LEAST: Watts = Watts::new(500);
/// From a lowered ceiling until the agent's command: one regulation cycle of 1 s, the read-back, a GPU cap of 1 to 3 s.
const REACTION: Span = Span::secs(5);
/// Changes of a limit that are remembered; beyond that the two oldest count as the higher of both, which errs on the lenient side.
const MAX_LIMITS: usize = 64;

/// How long an agent on a new boot waits for its first envelope before it draws the least it can: the design's 15 s.
const BUMPLESS: Span = Span::secs(15);

/// Whether the module's agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    /// Nobody has said.
    Unknown,
    Up,
    Down,
}

/// What governs the module now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// No agent has been seen yet: nothing is claimed, so nothing is checked.
    Unknown,
    /// The agent holds nothing and draws the least it can.
    Nothing,
    /// The envelope is in force.
    Envelope,
    /// It has expired.
    Fallback,
}

/// The directive an agent adopted last.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) grant: Grant,
    pub(super) expires: Time,
}

/// One module.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) module: Module,
    pub(super) held: Option<Held>,
    pub(super) link: bool,
    pub(super) agent: Agent,
    pub(super) feeders: BTreeMap<MinerGroupId, FeederState>,
    base: Watts,
    /// Longest save of the runs of the last two directives: what must end saves first.
    saves: (Span, Span),
    // Invariant: oldest first, never empty; each limit held until the next one's time.
    limits: VecDeque<(Time, Watts)>,
    lowered: Option<Time>,
    /// When the agent was first up.
    pub(super) up_since: Option<Time>,
}

impl Standing {
    pub(super) fn new(module: &Module) -> Self {
        Self {
            held: None,
            link: true,
            agent: Agent::Unknown,
            feeders: BTreeMap::new(),
            base: module.base_draw(),
            saves: (Span::ZERO, Span::ZERO),
            limits: [(Time(i64::MIN), Watts::MAX)].into(),
            lowered: None,
            up_since: None,
            module: module.clone(),
        }
    }

    /// The agent has adopted a directive at `at`, when its boot-time clock read `boot`.
    pub(super) fn adopt(&mut self, at: Time, boot: &BootStamp, directive: &Directive) {
        let envelope = &directive.envelope;
        let expires = match boot.since(&envelope.answers) {
            Some(age) => at + (envelope.valid_for - age),
            // Across a reboot the fallback programme counts from the boot.
            None => at - boot.at,
        };
        let save = directive.runs.values().map(|run| run.save).max().unwrap_or(Span::ZERO);
        self.saves = (save, self.saves.0);
        self.agent = if self.agent == Agent::Unknown { Agent::Up } else { self.agent };
        self.held = Some(Held { grant: envelope.grant.clone(), expires });
        self.observe(at);
    }

    /// Notes the limit in force at `now`.
    pub(super) fn observe(&mut self, now: Time) {
        let limit = self.limit(now);
        let last = self.limits.back().map_or(Watts::MAX, |(_, limit)| *limit);
        if limit != last {
            self.limits.push_back((now, limit));
            self.lowered = if limit < last { Some(now) } else { self.lowered };
        }
        let old = now - self.grace();
        while self.limits.get(1).is_some_and(|(since, _)| *since <= old) {
            self.limits.pop_front();
        }
        if self.limits.len() > MAX_LIMITS
            && let Some((since, limit)) = self.limits.pop_front()
            && let Some(next) = self.limits.front_mut()
        {
            *next = (since, limit.max(next.1));
        }
    }

    /// What governs the module.
    pub(super) fn rule(&self, now: Time) -> Rule {
        match &self.held {
            None if self.agent == Agent::Unknown => Rule::Unknown,
            None => Rule::Nothing,
            Some(held) if now < held.expires => Rule::Envelope,
            Some(_) => Rule::Fallback,
        }
    }

    /// Most it may draw now. While the agent is down nobody lowers anything: what it held last counts, as it does for whoever
    /// grants (expiry alone frees nothing).
    pub(super) fn limit(&self, now: Time) -> Watts {
        let Some(held) = &self.held else {
            // An agent that comes up without an envelope leaves a warm site as it found it for a while.
            let bound = self.up_since.is_some_and(|since| now - since >= BUMPLESS);
            return if self.agent == Agent::Up && bound { self.base } else { Watts::MAX };
        };
        if self.agent == Agent::Down {
            return held.grant.ceiling.max(held.grant.fallback_ceiling());
        }
        if now < held.expires { held.grant.ceiling } else { held.grant.fallback_at(now - held.expires) }
    }

    /// What the module counts for in its island's sum: max(unexpired ceiling, fallback ceiling), and the fallback ceiling alone.
    /// Without an envelope it is its base draw.
    pub(super) fn counts(&self, now: Time) -> (Watts, Watts) {
        let Some(held) = &self.held else { return (self.base, self.base) };
        let fallback = held.grant.fallback_ceiling();
        let ceiling = if now < held.expires { held.grant.ceiling } else { Watts::ZERO };
        (ceiling.max(fallback), fallback)
    }

    /// How long a draw may stay above a limit that was lowered: the agent's reaction, then miners fall asleep, or runs save.
    pub(super) fn grace(&self) -> Span {
        let sleep = self.module.groups.values().map(|group| group.sleep).max().unwrap_or(Span::ZERO);
        REACTION + sleep.max(self.saves.0).max(self.saves.1)
    }

    /// The limit was lowered within the grace.
    pub(super) fn was_lowered(&self, now: Time) -> bool {
        self.lowered.is_some_and(|at| now - at <= self.grace())
    }

    /// By how much `draw` is more than anything allowed within the grace. `speed` is frequency ÷ nominal: loads follow it.
    pub(super) fn excess(&self, draw: Watts, speed: f64) -> Option<Watts> {
        let most = self.limits.iter().map(|(_, limit)| *limit).max().unwrap_or(Watts::MAX);
        if most == Watts::MAX {
            return None;
        }
        let allowed = most.fraction(1_000 + TOLERANCE_PERMILLE, 1_000).as_f64() * speed.max(1.0);
        let excess = draw - Watts::from_f64(allowed) - LEAST;
        (excess > Watts::ZERO).then(|| draw - most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{boot, directive, fleet, module_id};
    use super::*;

    const KW: fn(i64) -> Watts = Watts::kilo;

    fn standing() -> Standing {
        let mut standing = Standing::new(&fleet().modules[0]);
        standing.adopt(Time(0), &boot(0), &directive(&module_id(), 1, (200, 80), 0));
        standing
    }

    #[test]
    fn before_an_agent_is_seen_nothing_is_claimed() {
        let mut standing = Standing::new(&fleet().modules[0]);
        assert_eq!((standing.rule(Time(0)), standing.limit(Time(0))), (Rule::Unknown, Watts::MAX));
        standing.agent = Agent::Up;
        standing.up_since = Some(Time(0));
        assert_eq!((standing.rule(Time(0)), standing.limit(Time(14_999))), (Rule::Nothing, Watts::MAX));
        assert_eq!(standing.limit(Time(15_000)), standing.base, "a warm site is not left as it was for ever");
    }

    #[test]
    fn an_envelope_expires_into_its_fallback_programme() {
        let mut standing = standing();
        let check = |standing: &Standing, second: i64, rule: Rule, kilowatts: i64| {
            let now = Time(second * 1_000);
            assert_eq!((standing.rule(now), standing.limit(now)), (rule, KW(kilowatts)), "{second} s");
        };
        check(&standing, 119, Rule::Envelope, 200);
        check(&standing, 120, Rule::Fallback, 80);
        standing.agent = Agent::Down;
        check(&standing, 120, Rule::Fallback, 200);
    }

    #[test]
    fn validity_counts_from_the_report_that_was_answered() {
        let mut standing = Standing::new(&fleet().modules[0]);
        standing.adopt(Time(50_000), &boot(50), &directive(&module_id(), 1, (200, 80), 20));
        assert_eq!(standing.held.map(|held| held.expires), Some(Time(140_000)));
    }

    #[test]
    fn a_draw_has_the_grace_to_follow_a_lowered_limit() {
        let mut standing = standing();
        standing.observe(Time(60_000));
        standing.adopt(Time(60_000), &boot(60), &directive(&module_id(), 2, (100, 80), 60));
        assert_eq!(standing.grace(), Span::secs(10));
        for (second, draw, fault) in [(61, 203, false), (61, 206, true), (69, 199, false), (70, 199, true)] {
            let mut at = standing.clone();
            at.observe(Time(second * 1_000));
            assert_eq!(at.excess(KW(draw), 1.0).is_some(), fault, "{draw} kW at {second} s");
        }
    }
}
