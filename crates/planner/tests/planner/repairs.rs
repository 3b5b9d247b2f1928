//! Repairs: only what an event touched is planned again, and the whole still passes its check.

use std::collections::BTreeSet;
use std::time::Instant;

use model::plan::Subject;
use model::report::{GensetReport, GensetState};
use model::workload::{Phase, Tier};
use model::{SiteId, Span};
use planner::repair::part;
use planner::{Input, Planned, appraise, check, diff, plan, repair};
use proptest::prelude::*;

use crate::instances::{Class, Size, instance, size};
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

/// Something happens on one island: gas for so much, the first set trips, a run is cancelled, a gang is asked for.
fn happen(input: &mut Input, site: &SiteId, event: u8, percent: i64) {
    let given = input.sites.get_mut(site).unwrap();
    let report = given.report.as_mut().unwrap();
    match event {
        0 => report.gas = report.gas.map(|gas| gas.fraction(percent, 100)),
        1 => {
            let tripped = GensetReport { state: GensetState::Tripped, power: None, for_span: Span::secs(1) };
            report.gensets.values_mut().take(1).for_each(|set| *set = tripped);
        }
        2 => {
            let modules = &input.modules;
            let here = |run: &&mut model::workload::Workload| {
                let home = run.status.placement.as_ref().and_then(|at| modules.get(&at.module));
                run.status.phase == Phase::Running && home.is_some_and(|home| home.module.site == *site)
            };
            input.workloads.values_mut().filter(here).take(1).for_each(|run| run.cancel = true);
        }
        _ => submit(input, workload("late", Tier::Firm, percent as u32 % 16 + 1, 300)),
    }
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
fn an_island_whose_plan_no_longer_fits_is_planned_though_nobody_named_it() {
    let (mut input, before) = (0..20).find_map(|seed| at_rest(seed * 3 + 2, Class::Normal, size(2))).unwrap();
    let run = input.workloads.values_mut().find(|run| run.status.phase == Phase::Running).unwrap();
    run.cancel = true;
    let (name, home) = (run.id.clone(), run.status.placement.clone().unwrap().module);
    let made = repair(&input, &before.report, &BTreeSet::new());
    assert_eq!(check(&made.plan, &input), Vec::new());
    assert!(made.plan.placement(&name).is_none());
    let site = &input.modules[&home].module.site;
    let same = |id: &SiteId| made.plan.sites[id] == before.plan.sites[id];
    assert!(input.sites.keys().all(|id| same(id) != (id == site)));
}

#[test]
fn without_a_plan_in_force_everything_is_planned() {
    let input = fleet();
    let whole = plan(&input);
    assert_eq!(repair(&input, &whole.report, &BTreeSet::new()), whole);
}

/// Ignored by default: it measures. `docs/benchmarks.md` has the command and the figures.
#[test]
#[ignore = "measures for a minute"]
fn events_at_scale() {
    for (class, name) in [(Class::Normal, "normal"), (Class::Tight, "tight")] {
        let fleet = Size { sites: 250, modules: (4, 4), servers: (2, 9) };
        let mut input = instance(1, class, fleet);
        let mut before = plan(&input);
        for _ in 0..3 {
            input = carry_out(&input, &before.plan);
            before = plan(&input);
        }
        input = carry_out(&input, &before.plan);
        let sites: Vec<SiteId> = input.sites.keys().cloned().collect();
        let mut took: Vec<f64> = Vec::new();
        let mut unsound = 0;
        for (nth, site) in sites.iter().enumerate() {
            let mut input = input.clone();
            happen(&mut input, site, nth as u8 % 4, 85);
            let touched = BTreeSet::from([site.clone()]);
            let started = Instant::now();
            let made = repair(&input, &before.report, &touched);
            took.push(started.elapsed().as_secs_f64() * 1e3);
            unsound += usize::from(!check(&made.plan, &input).is_empty());
        }
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        println!(
            "{name}: {} events, p50 {:.2} ms, p99 {:.2} ms, {unsound} refused",
            took.len(),
            at(50),
            at(99)
        );
    }
}
