//! Repairs: only what an event touched is planned again, and the whole still passes its check.

use std::collections::BTreeSet;

use model::SiteId;
use model::plan::Subject;
use model::workload::Phase;
use planner::repair::{part, unfit};
use planner::{Input, Planned, appraise, check, diff, plan, repair};
use proptest::prelude::*;

use crate::instances::{Class, Size, happen, instance, size};
use crate::scene::*;

/// An instance at work, after plans that were carried out until nothing changed; `None` where it does not come to rest.
fn at_rest(seed: u64, class: Class, size: Size) -> Option<(Input, Planned)> {
    let mut input = instance(seed, class, size);
    let mut made = plan(&input);
    for _ in 0..6 {
        input = carry_out(&input, &made.plan);
        let again = plan(&input);
        let rests = diff(&made.plan, &again.plan).is_empty();
        made = again;
        if rests {
            return Some((carry_out(&input, &made.plan), made));
        }
    }
    None
}

fn subjects(made: &Planned) -> BTreeSet<Subject> {
    made.plan.decisions.iter().map(|decision| decision.subject.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repair_is_safe_leaves_others_alone_and_is_worth_what_was_in_force(
        seed in 0u64..1_000_000, tight in any::<bool>(), event in 0u8..4, percent in 60i64..130, nth in 0usize..6,
    ) {
        let class = if tight { Class::Tight } else { Class::Normal };
        let rested = at_rest(seed, class, size(seed));
        prop_assume!(rested.is_some());
        let (mut input, before) = rested.unwrap();
        let site = input.sites.keys().nth(nth % input.sites.len()).unwrap().clone();
        happen(&mut input, &site, event, percent);
        let touched = BTreeSet::from([site.clone()]);
        let made = repair(&input, &before.report, &touched);
        let findings = check(&made.plan, &input);
        prop_assert!(findings.is_empty(), "{site}: {findings:#?}");
        for (id, planned) in made.plan.sites.iter().filter(|(id, _)| **id != site) {
            prop_assert_eq!(planned, &before.plan.sites[id]);
        }
        prop_assert_eq!(&repair(&input, &before.report, &touched), &made, "the same bytes again");
        prop_assert_eq!(subjects(&made), subjects(&plan(&input)), "every decision has its place");
        prop_assert_eq!(made.plan.decisions.len(), subjects(&made).len(), "and only one");
        let of = appraise(&part(&input, &touched));
        prop_assert!(of.search >= of.before, "{} < {}", of.search, of.before);
    }
}

#[test]
fn an_island_whose_plan_no_longer_fits_is_named() {
    let (mut input, before) = (0..20).find_map(|seed| at_rest(seed * 3 + 2, Class::Normal, size(2))).unwrap();
    let run = input.workloads.values_mut().find(|run| run.status.phase == Phase::Running).unwrap();
    run.cancel = true;
    let (name, home) = (run.id.clone(), run.status.placement.clone().unwrap().module);
    let site = &input.modules[&home].module.site;
    let overlooked = repair(&input, &before.report, &BTreeSet::new());
    assert!(!check(&overlooked.plan, &input).is_empty(), "a repair that leaves it out is refused");
    let named = unfit(&input);
    assert_eq!(named, BTreeSet::from([site.clone()]));
    let made = repair(&input, &before.report, &named);
    assert_eq!(check(&made.plan, &input), Vec::new());
    assert!(made.plan.placement(&name).is_none());
    let same = |id: &SiteId| made.plan.sites[id] == before.plan.sites[id];
    assert!(input.sites.keys().all(|id| same(id) != (id == site)));
}

/// As the store keeps them: the longest lists of decisions are cut short.
#[test]
fn what_the_plan_in_force_does_not_say_is_filled_in() {
    let (mut input, before) = (0..20).find_map(|seed| at_rest(seed * 3 + 2, Class::Normal, size(2))).unwrap();
    let site = input.sites.keys().next().unwrap().clone();
    happen(&mut input, &site, 0, 80);
    let touched = BTreeSet::from([site]);
    let whole = repair(&input, &before.report, &touched);
    let modules = before.plan.sites.values().next().unwrap().modules.len();
    for kept in [1 + modules, 1, 0] {
        input.parent.as_mut().unwrap().decisions.truncate(kept);
        let made = repair(&input, &before.report, &touched);
        assert_eq!(subjects(&made), subjects(&whole), "{kept} were kept");
        assert_eq!(made.plan.sites, whole.plan.sites, "{kept} were kept");
        assert_eq!(made.plan.worth, whole.plan.worth, "{kept} were kept");
    }
}

#[test]
fn without_a_plan_in_force_everything_is_planned() {
    let input = fleet();
    let whole = plan(&input);
    assert_eq!(repair(&input, &whole.report, &BTreeSet::new()), whole);
}
