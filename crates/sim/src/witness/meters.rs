//! Invariant 12, honest meters: a group that does less than it claims, or whose power its claim cannot explain, must be flagged by
//! its module within the time allowed. What is flagged though it was honest all along is a false alarm, counted apart.
//!
//! A flag is a finding about the group: one whose subject ends in `group ID`. Read next: [`super::Options`].

use std::collections::BTreeMap;

use model::module::MinerGroup;
use model::report::Finding;
use model::{Hashrate, MinerGroupId, ModuleId, Span, Time, Watts};

use super::book::{Book, Edge, Fault, Invariant};
use super::{Options, View};
use crate::truth::GroupTruth;

/// The code by which a module says that shares do not prove a claim.
const UNPROVEN: &str = "hashrate-unproven";
/// A flag counts as raised for so long after the report that bore it; reports come once a second.
const FLAG_LASTS: Span = Span::secs(30);
/// An agent compares claims over windows of up to 15 minutes and withdraws a flag half a minute after its cause.
const MEMORY: Span = Span::minutes(16);
/// Miners stray from their data sheet by up to 10 % and meters by 5 %, thousandths.
const POWER_PERMILLE: i64 = 150;
/// Claims that differ from the truth by less are honest, thousandths: counters differ by a few percent.
const HONEST_PERMILLE: i64 = 50;
/// Differences in power below this prove nothing.
const LEAST: Watts = Watts::new(500);

#[derive(Clone, Debug)]
pub(super) struct Meters {
    options: Options,
    groups: BTreeMap<(ModuleId, MinerGroupId), State>,
}

/// One group.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Contradicts itself since then.
    lies: Option<Time>,
    /// When it last claimed something else than it did, or was first seen.
    dishonest: Option<Time>,
    flagged: Option<Time>,
    unflagged: Edge,
    false_alarm: Edge,
}

impl Meters {
    pub(super) fn new(options: Options) -> Self {
        Self { options, groups: BTreeMap::new() }
    }

    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        let now = view.truth.now;
        for (id, module) in &view.truth.modules {
            let Some(standing) = view.scene.modules.get(id) else { continue };
            for (group, truth) in &module.groups {
                let Some(config) = standing.module.groups.get(group) else { continue };
                let state = self.groups.entry((id.clone(), group.clone())).or_default();
                let lie = lie(config, truth, self.options.claim_permille.into());
                state.lies = lie.as_ref().map(|_| state.lies.unwrap_or(now));
                if state.dishonest.is_none() || !is_honest(truth) {
                    state.dishonest = Some(now);
                }
                let flagged = state.flagged.is_some_and(|at| now - at <= FLAG_LASTS);
                let due = state.lies.is_some_and(|since| now - since > self.options.flag_within);
                let missed = state.unflagged.rises(due && !flagged);
                let fault = lie.filter(|_| missed).map(|lie| {
                    let what = format!("{lie} for over {} and no finding says so", self.options.flag_within);
                    Fault::new(subject(id, group), what)
                });
                book.check(Invariant::Meters, now, fault);
            }
        }
    }

    /// What a module's report said at `at`.
    pub(super) fn findings(&mut self, module: &ModuleId, at: Time, findings: &[Finding], book: &mut Book) {
        for ((_, group), state) in self.groups.iter_mut().filter(|((of, _), _)| of == module) {
            let about = || findings.iter().filter(|finding| is_about(finding, group));
            if about().next().is_some() {
                state.flagged = Some(at);
            }
            let honest = state.dishonest.is_some_and(|last| at - last > MEMORY);
            let unproven = about().any(|finding| finding.code == UNPROVEN);
            if state.false_alarm.rises(honest && unproven) {
                let what = format!("{UNPROVEN}, though it did what it claimed for {MEMORY}");
                book.alarm(Invariant::Meters, at, Fault::new(subject(module, group), what));
            }
        }
    }
}

fn subject(module: &ModuleId, group: &MinerGroupId) -> String {
    format!("module {module} group {group}")
}

fn is_about(finding: &Finding, group: &MinerGroupId) -> bool {
    let mut words = finding.subject.split_whitespace().rev();
    words.next() == Some(group.as_str()) && words.next() == Some("group")
}

fn is_honest(truth: &GroupTruth) -> bool {
    let Some(claimed) = truth.claimed else { return truth.rate == Hashrate::ZERO };
    (claimed - truth.rate).abs() <= claimed.fraction(HONEST_PERMILLE, 1_000)
}

/// How a group contradicts itself.
fn lie(config: &MinerGroup, truth: &GroupTruth, permille: i64) -> Option<String> {
    let claimed = truth.claimed?;
    if truth.rate < claimed.fraction(1_000 - permille, 1_000) {
        return Some(format!("did {} of the {claimed} it claims", truth.rate));
    }
    let (least, most) = plausible(config, claimed)?;
    let power = truth.mining.power;
    let lower = least.fraction(1_000 - POWER_PERMILLE, 1_000) - LEAST;
    let upper = most.fraction(1_000 + POWER_PERMILLE, 1_000) + LEAST;
    (power < lower || power > upper)
        .then(|| format!("drew {power} while it claims {claimed}, which takes {least} to {most}"))
}

/// The power that a claimed hash rate takes: at the best operating point with nobody in standby, at the worst with all the others.
fn plausible(config: &MinerGroup, claimed: Hashrate) -> Option<(Watts, Watts)> {
    let each = |point: &model::module::OperatingPoint| {
        let miners = claimed.ratio(point.rate)?;
        Some(Watts::from_f64(miners * point.power.as_f64()))
    };
    let powers = || config.points.iter().filter_map(each);
    let standby = config.standby.times(config.count.into());
    Some((powers().min()?, powers().max()? + standby))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Summary, Verdict};
    use super::*;

    fn finding(subject: &str) -> Finding {
        Finding { code: UNPROVEN.into(), subject: subject.into(), message: "shares prove less".into() }
    }

    /// Feeds 1,500 s in which group a does `permille` of its claim and draws `watts` (`None`: an honest draw), and from `flagged` on is
    /// flagged under the subject given.
    fn run(permille: i64, watts: Option<i64>, flagged: Option<(i64, &str)>) -> Summary {
        let mut witness = settled();
        for second in 1..=1_500 {
            feed(&mut witness, second..=second, |_, truth| {
                let group = group_of(truth);
                group.rate = group.rate.fraction(permille, 1_000);
                group.mining.power = watts.map_or(group.mining.power, Watts::new);
            });
            let findings: Vec<Finding> = flagged
                .iter()
                .filter(|(from, _)| second >= *from)
                .map(|(_, subject)| finding(subject))
                .collect();
            witness.findings(&module_id(), at(second), &findings);
        }
        witness.finish()
    }

    fn subject_a() -> String {
        subject(&module_id(), &group_id())
    }

    fn alarms(summary: &Summary) -> Vec<u64> {
        summary
            .verdicts
            .iter()
            .map(|verdict: &Verdict| verdict.false_alarms)
            .filter(|alarms| *alarms > 0)
            .collect()
    }

    #[test]
    fn an_honest_group_needs_no_flag_and_a_liar_does() {
        check(&run(1_000, None, None), 12, &[]);
        check(&run(900, None, None), 12, &[]);
        check(&run(600, None, None), 12, &[&subject_a()]);
        check(&run(600, None, Some((300, "group a"))), 12, &[]);
        check(&run(600, None, Some((300, &subject_a()))), 12, &[]);
        check(&run(600, None, Some((300, "group b"))), 12, &[&subject_a()]);
        check(&run(600, None, Some((900, "group a"))), 12, &[&subject_a()]);
    }

    #[test]
    fn power_out_of_physics_with_the_claim_needs_a_flag() {
        // Twenty miners at their highest point draw 72.9 kW, at their most efficient one 69.1.
        check(&run(1_000, Some(60_000), None), 12, &[]);
        check(&run(1_000, Some(40_000), None), 12, &[&subject_a()]);
        check(&run(1_000, Some(100_000), None), 12, &[&subject_a()]);
    }

    #[test]
    fn an_honest_group_that_is_flagged_is_a_false_alarm_and_no_violation() {
        let summary = run(1_000, None, Some((100, "group a")));
        check(&summary, 12, &[]);
        assert_eq!(alarms(&summary), [1]);
        assert_eq!(alarms(&run(600, None, Some((100, "group a")))), Vec::<u64>::new());
    }
}
