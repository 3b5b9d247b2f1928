//! What changed since the plan in force was made, by island: on an event these are planned again, and nothing else.
//!
//! Told from the two inputs alone and not from events, so that nothing is missed when several fall together or a round fails. What
//! drifts by less than an urgent change waits for the next timed round, which plans everything. Read next: `planner::repair`;
//! `cycle.rs`, which plans the fleet after all where a repair does not do.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::SiteId;
use model::workload::{Phase, Placement, Workload};
use planner::{Input, ModuleInput, SiteInput};

use crate::cycle::Order;
use crate::live::Round;
use crate::observe;

/// Fleets up to this many islands are always planned whole: some five milliseconds, which a repair takes too.
const SMALL: usize = 8;
/// More who came at once than this are weighed against each other by a whole plan.
const CAME: usize = 16;
/// A change of more than one island in four is one of the fleet.
const PART: usize = 4;

/// A repair of what changed since `before`; a plan for the whole fleet where that is too much, or the fleet is small.
pub(super) fn order(before: &Arc<Round>, input: Input) -> Order {
    let Some((touched, came)) = touched(&before.input, &input) else { return Order::whole(input) };
    let came = came.iter().map(|workload| workload.id.clone()).collect();
    Order { input: Input { touched: Some(touched), ..input }, before: Some(Arc::clone(before)), came }
}

/// The islands that changed, and who came; `None` where everything has to be planned.
fn touched<'i>(before: &'i Input, now: &'i Input) -> Option<(BTreeSet<SiteId>, Vec<&'i Workload>)> {
    let gone = before.sites.keys().any(|id| !now.sites.contains_key(id))
        || before.modules.keys().any(|id| !now.modules.contains_key(id));
    if now.sites.len() <= SMALL || gone {
        return None;
    }
    let sites =
        now.sites.iter().filter(|(id, site)| before.sites.get(*id).is_none_or(|old| site_changed(old, site)));
    let mut touched: BTreeSet<SiteId> = sites.map(|(id, _)| id.clone()).collect();
    for (id, module) in &now.modules {
        let old = before.modules.get(id);
        if old.is_none_or(|old| module_changed(old, module)) {
            touched.insert(module.module.site.clone());
            touched.extend(old.map(|old| old.module.site.clone()));
        }
    }
    let mut came = Vec::new();
    let ids: BTreeSet<_> = before.workloads.keys().chain(now.workloads.keys()).collect();
    for id in ids {
        let (old, new) = (before.workloads.get(id), now.workloads.get(id));
        if old.and_then(held) != new.and_then(held) {
            let homes =
                [old, new].into_iter().flatten().filter_map(|workload| workload.status.placement.as_ref());
            let homes = homes.filter_map(|at| now.modules.get(&at.module));
            touched.extend(homes.map(|given| given.module.site.clone()));
        }
        came.extend(new.filter(|new| has_come(old, new)));
    }
    if came.len() > CAME {
        return None;
    }
    touched.extend(planner::repair::homes(now, came.iter().copied()));
    touched.extend(planner::repair::unfit(now));
    (touched.len() <= now.sites.len() / PART).then_some((touched, came))
}

fn site_changed(old: &SiteInput, new: &SiteInput) -> bool {
    let urgent = match &new.report {
        Some(report) => observe::urgent(&new.site, old.report.as_ref(), report).is_some(),
        None => old.report.is_some(),
    };
    urgent || old.fresh != new.fresh || old.site != new.site
}

fn module_changed(old: &ModuleInput, new: &ModuleInput) -> bool {
    let heard = |of: &ModuleInput| of.report.is_some();
    let config = |of: &ModuleInput| (of.link, of.cordoned, of.draining, heard(of));
    config(old) != config(new) || old.module != new.module
}

/// What a workload holds, and whether it is to give it up.
fn held(workload: &Workload) -> Option<(&Placement, bool, bool)> {
    let at = workload.status.placement.as_ref().filter(|_| workload.status.phase.holds())?;
    Some((at, workload.cancel, workload.status.phase == Phase::Stopping))
}

/// Whether somebody waits who did not, or waits for something else.
fn has_come(old: Option<&Workload>, new: &Workload) -> bool {
    let waits = |workload: &Workload| workload.status.phase == Phase::Pending && !workload.cancel;
    let same = |old: &Workload| waits(old) && old.spec == new.spec && old.promise == new.promise;
    waits(new) && !old.is_some_and(same)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::report::GensetState;
    use model::site::GasFlow;
    use model::{ModuleId, Span, Time};
    use planner::Link;

    use super::*;
    use crate::testing;
    use crate::tracker::{Freshness, Tracker};

    fn site_id(nth: usize) -> SiteId {
        SiteId::new(&format!("s{nth:02}")).unwrap()
    }

    fn module_id(nth: usize) -> ModuleId {
        ModuleId::new(&format!("s{nth:02}-m")).unwrap()
    }

    /// As many islands alike as asked for, one GPU module each, that have all reported.
    fn fleet(sites: usize) -> Input {
        let cache = testing::cache(&testing::fleet());
        let tracker = Tracker::new(Freshness::default(), Time(0));
        let mut input =
            observe::input(&cache, &tracker, &BTreeMap::new(), None, testing::market(), Time(1_000));
        let (_, site) = input.sites.pop_first().unwrap();
        let with_gpus = |given: &&ModuleInput| !given.module.pools.is_empty();
        let module = input.modules.values().find(with_gpus).unwrap().clone();
        input.modules.clear();
        for nth in 0..sites {
            let mut site = site.clone();
            site.site.id = site_id(nth);
            site.report = Some(testing::site_report([GensetState::Online; 3], GasFlow::mcf(2_000)));
            site.fresh = true;
            input.sites.insert(site_id(nth), site);
            let mut module = module.clone();
            (module.module.id, module.module.site) = (module_id(nth), site_id(nth));
            (module.link, module.report) = (Link::Online, Some(testing::report("m1", 1)));
            input.modules.insert(module_id(nth), module);
        }
        input
    }

    fn run(name: &str, nth: usize) -> Workload {
        let mut run = testing::workload(name, "acme", 2);
        run.status.phase = Phase::Running;
        run.status.placement = Some(testing::placement(module_id(nth).as_str(), 1));
        run
    }

    /// What `change` touches on a fleet of twenty islands with a run on the second: `None` = everything.
    fn check(what: &str, change: impl Fn(&mut Input), expected: Option<&[usize]>, came: usize) {
        let mut before = fleet(20);
        before.workloads.insert(run("w-1", 1).id, run("w-1", 1));
        let mut now = before.clone();
        now.now = Time(2_000);
        change(&mut now);
        let found = touched(&before, &now);
        let expected: Option<BTreeSet<SiteId>> =
            expected.map(|sites| sites.iter().copied().map(site_id).collect());
        assert_eq!(found.as_ref().map(|(sites, _)| sites), expected.as_ref(), "{what}");
        assert_eq!(found.map_or(0, |(_, came)| came.len()), came, "{what}");
    }

    fn site(input: &mut Input, nth: usize) -> &mut SiteInput {
        input.sites.get_mut(&site_id(nth)).unwrap()
    }

    fn module(input: &mut Input, nth: usize) -> &mut ModuleInput {
        input.modules.get_mut(&module_id(nth)).unwrap()
    }

    #[test]
    fn an_event_touches_its_island_and_no_other() {
        let gas = |mcf| testing::site_report([GensetState::Online; 3], GasFlow::mcf(mcf));
        let tripped = || {
            let states = [GensetState::Online, GensetState::Tripped, GensetState::Online];
            testing::site_report(states, GasFlow::mcf(2_000))
        };
        check("nothing", |_| (), Some(&[]), 0);
        check("a breath of gas", |now| site(now, 3).report = Some(gas(1_999)), Some(&[]), 0);
        check("gas falls", |now| site(now, 3).report = Some(gas(100)), Some(&[3]), 0);
        check("a set trips", |now| site(now, 4).report = Some(tripped()), Some(&[4]), 0);
        check("an island falls silent", |now| site(now, 5).fresh = false, Some(&[5]), 0);
        check("a link is lost", |now| module(now, 6).link = Link::Lost, Some(&[6]), 0);
        check("a module is drained", |now| module(now, 7).draining = true, Some(&[7]), 0);
        check("a limit is lowered", |now| module(now, 8).module.limit = model::Watts::kilo(1), Some(&[8]), 0);
    }

    #[test]
    fn who_comes_and_goes_touches_where_it_runs_or_could() {
        let cancel = |now: &mut Input| now.workloads.values_mut().for_each(|run| run.cancel = true);
        let stop = |now: &mut Input| {
            now.workloads.values_mut().for_each(|run| run.status.phase = Phase::Stopping);
        };
        check("a run is cancelled", cancel, Some(&[1]), 0);
        check("a run is being stopped", stop, Some(&[1]), 0);
        check("a run has ended", |now| now.workloads.clear(), Some(&[1]), 0);
        let come = |now: &mut Input| {
            let new = testing::workload("w-2", "acme", 4);
            now.workloads.insert(new.id.clone(), new);
        };
        // Tightest first: where the run leaves the fewest GPUs free.
        check("somebody comes", come, Some(&[0, 1, 2, 3]), 1);
        let too_large = |now: &mut Input| {
            let new = testing::workload("w-2", "acme", 100_000);
            now.workloads.insert(new.id.clone(), new);
        };
        check("somebody comes whom no pool holds", too_large, Some(&[]), 1);
    }

    #[test]
    fn what_concerns_the_fleet_is_planned_whole() {
        let burst = |now: &mut Input| {
            for nth in 0..=CAME {
                let new = testing::workload(&format!("b-{nth}"), "acme", 1);
                now.workloads.insert(new.id.clone(), new);
            }
        };
        check("a burst", burst, None, 0);
        let cold = |now: &mut Input| {
            for nth in 0..6 {
                module(now, nth).link = Link::Stale;
            }
        };
        check("many islands at once", cold, None, 0);
        check("a module is gone", |now| drop(now.modules.remove(&module_id(3))), None, 0);
        let small = fleet(SMALL);
        assert!(touched(&small, &small).is_none(), "a small fleet is planned whole");
    }

    #[test]
    fn a_repair_stands_on_the_round_before_and_is_made_again_from_its_input() {
        let input = fleet(20);
        let planned = planner::plan(&input);
        let round = |input: Input, planned: planner::Planned| {
            let (plan, report) = (planned.plan.into(), planned.report);
            Arc::new(Round { input, plan, report, took: Span::ZERO })
        };
        let before = round(input.clone(), planned);
        let mut now = Input { parent: Some((*before.plan).clone()), now: Time(2_000), ..input };
        let gas = GasFlow::mcf(100);
        site(&mut now, 4).report = Some(testing::site_report([GensetState::Online; 3], gas));
        let order = order(&before, now);
        assert_eq!(order.input.touched, Some(BTreeSet::from([site_id(4)])));
        let made = crate::cycle::decide(order, planner::plan, None).unwrap().round;
        assert!(made.input.touched.is_some(), "the repair did");
        let again = planner::plan(&made.input).plan;
        assert_eq!(model::plan::Plan { input: made.plan.input.clone(), ..again }, *made.plan);
        assert_eq!(made.report.sites.len(), 20, "the views of the others are taken over");
        let same = |nth: usize| made.plan.sites[&site_id(nth)] == before.plan.sites[&site_id(nth)];
        assert_eq!((0..20).filter(|&nth| !same(nth)).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_repair_that_leaves_somebody_without_a_place_gives_way_to_a_whole_plan() {
        let input = fleet(20);
        let planned = planner::plan(&input);
        let (plan, report) = (planned.plan.into(), planned.report);
        let before = Arc::new(Round { input: input.clone(), plan, report, took: Span::ZERO });
        let mut now = Input { parent: Some((*before.plan).clone()), now: Time(2_000), ..input };
        let new = testing::workload("w-2", "acme", 100_000);
        now.workloads.insert(new.id.clone(), new);
        let order = order(&before, now);
        assert_eq!(order.came.len(), 1);
        let made = crate::cycle::decide(order, planner::plan, None).unwrap().round;
        assert_eq!(made.input.touched, None);
    }
}
