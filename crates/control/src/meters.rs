//! Honest meters: claimed hash rate, verified hash rate and metered power must agree within physics, or it is said.
//!
//! It assumes that the verified rate carries the group's scale already, and compares only what had time to settle. A finding is
//! raised when its cause held for [`HOLD`] seconds on end and withdrawn when it was absent for as long.

use std::collections::{BTreeMap, VecDeque};

use model::module::{MinerGroup, Module};
use model::report::{Finding, Verified};
use model::{Hashrate, MinerGroupId, Span, Watts};

use crate::group::{Group, setting};
use crate::port::{GroupReading, SLOW_EVERY, Slow};

/// Readings, one a second, for which a cause must hold before it is said, and be gone before it is withdrawn.
pub const HOLD: u32 = 30;
/// Hash counters of devices and pools differ by a few percent; beyond that only chance explains a difference.
const RATE_TOLERANCE: f64 = 0.05;
/// Chance is given four standard errors: once in 30,000 windows.
const SIGMAS: f64 = 4.0;
/// Fewer expected shares than this prove nothing: four standard errors of 30 are 73 %.
const MIN_SHARES: f64 = 30.0;
/// A group that claims a hash rate for so long without one share is unproven whatever the difficulty.
const SILENT: Span = Span::minutes(5);
/// Claims are kept for the longest window that is compared: 15 minutes at one a second.
const MAX_CLAIMS: usize = 900;
/// Miners stray from their curve by up to 10 % with chip quality and temperature, and PDU meters by 5 %: thousandths.
const POWER_PERMILLE: i64 = 150;
/// A group at full draw that claims less than this part of what it then does hides work or wastes it. Chips, heat and counters
/// explain half of the difference; one dead board of three in every miner is found. Thousandths.
const LEAST_CLAIM_PERMILLE: i64 = 700;
/// Differences below this are not worth a word.
const LEAST: Watts = Watts::new(500);

/// What is known of one group.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its configuration.
    pub config: &'a MinerGroup,
    /// Its books.
    pub group: &'a Group,
    /// Its last reading.
    pub reading: &'a GroupReading,
    /// Its claims of late.
    pub claims: &'a Claims,
    /// What shares prove.
    pub verified: Option<Verified>,
    /// Boot time.
    pub at: Span,
}

/// What a group claimed of late: the mean over a window is what its shares of that window must prove.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    // Invariant: at most `MAX_CLAIMS`, oldest first.
    recent: VecDeque<(Span, Hashrate)>,
    // It claims something since then and no share proves any of it.
    silent: Option<Span>,
}

/// The comparison, with its memory.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    // Invariant: at most five codes for each group and one for the module; withdrawn ones are removed.
    seen: BTreeMap<(String, &'static str), Doubt>,
    claims: BTreeMap<MinerGroupId, Claims>,
}

#[derive(Clone, Debug)]
struct Doubt {
    held: u32,
    absent: u32,
    message: String,
}

impl Meters {
    /// Keeps one second's claims. Call it before [`Meters::observe`], and also in seconds that nobody judges.
    pub fn listen(
        &mut self,
        slow: &Slow,
        verified: &BTreeMap<MinerGroupId, (Option<Verified>, u32)>,
        at: Span,
    ) {
        for (id, reading) in &slow.groups {
            let proven = verified.get(id).map(|(verified, _)| *verified);
            self.claims.entry(id.clone()).or_default().observe(reading.claimed, proven, at);
        }
    }

    /// Compares one second's readings.
    pub fn observe(
        &mut self,
        module: &Module,
        slow: &Slow,
        groups: &BTreeMap<MinerGroupId, Group>,
        verified: &BTreeMap<MinerGroupId, (Option<Verified>, u32)>,
        at: Span,
    ) {
        let mut doubts = Vec::new();
        for (id, config) in &module.groups {
            let (Some(group), Some(reading)) = (groups.get(id), slow.groups.get(id)) else { continue };
            let proven = verified.get(id).map(|(verified, _)| *verified);
            let claims = self.claims.entry(id.clone()).or_default();
            let facts = Facts { config, group, reading, claims, verified: proven.flatten(), at };
            let subject = format!("group {id}");
            doubts.extend(group_doubts(facts).into_iter().map(|doubt| (subject.clone(), doubt)));
        }
        let subject = format!("module {}", module.id);
        doubts.extend(meter_doubt(module, slow).map(|doubt| (subject, doubt)));
        self.remember(doubts);
    }

    /// The mean of what a group's devices claimed over the last `window`, to stand beside what shares prove for it; `None` where
    /// claims do not cover it.
    pub fn claimed(&self, group: &MinerGroupId, window: Span, at: Span) -> Option<Hashrate> {
        self.claims.get(group)?.mean(window, at)
    }

    /// What has held for long enough to be said, in order of subject and code.
    pub fn findings(&self) -> Vec<Finding> {
        let said = self.seen.iter().filter(|(_, doubt)| doubt.held >= HOLD);
        said.map(|((subject, code), doubt)| Finding {
            code: (*code).into(),
            subject: subject.clone(),
            message: doubt.message.clone(),
        })
        .collect()
    }

    fn remember(&mut self, doubts: Vec<(String, (&'static str, String))>) {
        let mut now = BTreeMap::new();
        for (subject, (code, message)) in doubts {
            now.insert((subject, code), message);
        }
        for (key, doubt) in &mut self.seen {
            if !now.contains_key(key) {
                doubt.absent += 1;
                // Before it was said, it must hold on end.
                doubt.held = if doubt.held >= HOLD { doubt.held } else { 0 };
            }
        }
        for (key, message) in now {
            let doubt = self.seen.entry(key).or_insert(Doubt { held: 0, absent: 0, message: String::new() });
            doubt.held = doubt.held.saturating_add(1);
            doubt.absent = 0;
            doubt.message = message;
        }
        self.seen.retain(|_, doubt| doubt.held > 0 && doubt.absent < HOLD);
    }
}

/// What does not fit in one group.
pub fn group_doubts(facts: Facts<'_>) -> Vec<(&'static str, String)> {
    if !facts.group.is_fed() || !facts.group.had_time(facts.config, facts.at) {
        return Vec::new();
    }
    [rate_doubt(facts), claim_doubt(facts), idle_doubt(facts), power_doubt(facts)]
        .into_iter()
        .flatten()
        .collect()
}

impl Claims {
    /// Keeps a claim. `proven` is `None` where no proxy watches the group: then silence means nothing.
    fn observe(&mut self, claimed: Option<Hashrate>, proven: Option<Option<Verified>>, at: Span) {
        let Some(claimed) = claimed else {
            *self = Self::default();
            return;
        };
        if self.recent.len() == MAX_CLAIMS {
            self.recent.pop_front();
        }
        self.recent.push_back((at, claimed));
        let silent = proven.is_some_and(|verified| verified.is_none_or(|verified| verified.shares == 0));
        self.silent = (silent && claimed > Hashrate::ZERO).then(|| self.silent.unwrap_or(at));
    }

    /// The mean claim over the last `window`; `None` where claims do not cover it.
    fn mean(&self, window: Span, at: Span) -> Option<Hashrate> {
        let within = || self.recent.iter().rev().take_while(|(since, _)| at - *since < window);
        let oldest = self.recent.front().map(|(since, _)| *since)?;
        let (count, sum) =
            within().fold((0.0, 0.0), |(count, sum), (_, rate)| (count + 1.0, sum + rate.as_f64()));
        let covered = at - oldest >= window - SLOW_EVERY;
        (covered && count > 0.0).then(|| Hashrate::from_f64(sum / count))
    }
}

/// Claimed against proven.
fn rate_doubt(facts: Facts<'_>) -> Option<(&'static str, String)> {
    let Facts { claims, at, .. } = facts;
    if claims.silent.is_some_and(|since| at - since >= SILENT) {
        let message = format!("claims a hash rate and sent no share in {SILENT}: check where it mines");
        return Some(("hashrate-unproven", message));
    }
    let verified = facts.verified.filter(|verified| verified.shares > 0)?;
    let claimed = claims.mean(verified.window, at)?;
    let ratio = verified.rate.ratio(claimed)?;
    // As many shares as the claim would have sent; a rate of zero with shares cannot be, but must not divide.
    let expected = verified.shares as f64 / ratio.max(f64::MIN_POSITIVE);
    let message = format!(
        "claimed {claimed} on the mean, shares prove {} ({} shares in {}): check counters and where it mines",
        verified.rate, verified.shares, verified.window
    );
    if expected >= MIN_SHARES && ratio < 1.0 - RATE_TOLERANCE - SIGMAS / expected.sqrt() {
        return Some(("hashrate-unproven", message));
    }
    let chance = SIGMAS * verified.relative_error() * ratio;
    let exceeds = verified.shares as f64 >= MIN_SHARES && ratio > 1.0 + RATE_TOLERANCE + chance;
    exceeds.then_some(("hashrate-excess", message))
}

/// Claimed against what so many miners at this point can do.
fn claim_doubt(facts: Facts<'_>) -> Option<(&'static str, String)> {
    let claimed = facts.reading.claimed?;
    let able = setting(facts.config, facts.reading.point).rate.times(facts.reading.awake.into());
    let most = able.fraction(1_000 + POWER_PERMILLE, 1_000);
    (claimed > most).then(|| {
        let awake = facts.reading.awake;
        ("hashrate-implausible", format!("claims {claimed}, {awake} miners can do {able}: check their model"))
    })
}

/// Power drawn as for all of the work, against a claim of a part of it: what is not reported may be mined elsewhere.
fn idle_doubt(facts: Facts<'_>) -> Option<(&'static str, String)> {
    let Facts { config, reading, .. } = facts;
    let (power, claimed) = (reading.power?, reading.claimed?);
    let full = setting(config, reading.point);
    let (able, curve) = (full.rate.times(reading.awake.into()), full.power.times(reading.awake.into()));
    let draws_all = reading.awake > 0 && power >= curve.fraction(1_000 - POWER_PERMILLE, 1_000);
    (draws_all && claimed < able.fraction(LEAST_CLAIM_PERMILLE, 1_000)).then(|| {
        let message = format!(
            "draws {power}, which does {able}, and claims {claimed}: check where it mines, and its boards"
        );
        ("hashrate-missing", message)
    })
}

/// Metered power against the operating point's curve.
fn power_doubt(facts: Facts<'_>) -> Option<(&'static str, String)> {
    let Facts { config, reading, .. } = facts;
    let power = reading.power?;
    let curve = setting(config, reading.point).power.times(reading.awake.into())
        + config.standby.times(reading.asleep.into());
    let tolerance = curve.fraction(POWER_PERMILLE, 1_000).max(LEAST);
    ((power - curve).abs() > tolerance).then(|| {
        let message = format!("draws {power}, its miners explain {curve}: check the feeder for other loads");
        ("power-unexplained", message)
    })
}

/// The module's meter against the sum of what stands behind it. Silent where any of it is unknown.
fn meter_doubt(module: &Module, slow: &Slow) -> Option<(&'static str, String)> {
    let meter = slow.meter?;
    let mut load = module.auxiliary;
    for id in module.groups.keys() {
        load += slow.groups.get(id)?.power?;
    }
    for id in module.pools.keys() {
        load += slow.pools.get(id)?.power?;
    }
    let sum = module.with_loss(load);
    let tolerance = sum.fraction(POWER_PERMILLE, 1_000).max(LEAST);
    ((meter - sum).abs() > tolerance).then(|| {
        let message =
            format!("meter reads {meter}, its loads add up to {sum}: check meters and their wiring");
        ("meter-unexplained", message)
    })
}

#[cfg(test)]
mod tests;
