//! Lists of sites and groups: nothing starts where it may not, what runs is let be, and where a place exists it is nearly always found.

use std::collections::{BTreeMap, BTreeSet};

use model::affinity::{Affinity, Domain, Group, Rule, Sites};
use model::module::GpuPool;
use model::plan::{Plan, ReasonCode, Subject};
use model::workload::{Phase, Placement, Tier, Workload};
use model::{ModuleId, SiteId, Span};
use planner::quote::{Request, Risks, Sample};
use planner::{Input, check, diff, explain, plan, quote, repair};
use proptest::prelude::*;

use crate::instances::Rng;
use crate::scene::*;

const APART: Rule = Rule::Spread { most: 1, per: Domain::Site };

/// Islands with power for everything and modules of so many servers of eight GPUs each: `a` with modules `a0`, `a1`, then `b`.
fn islands(servers: &[&[u32]]) -> Input {
    let mut input = fleet();
    (input.sites, input.modules) = (BTreeMap::new(), BTreeMap::new());
    for (nth, modules) in servers.iter().enumerate() {
        let name = ["a", "b", "c", "d"][nth];
        input.sites.insert(id(name), site(name, 4));
        for (module_nth, &servers) in modules.iter().enumerate() {
            let pools: &[(&str, GpuPool)] = &[("p", gpus(servers))];
            add(&mut input, module(&format!("{name}{module_nth}"), name, &[], pools));
        }
    }
    input
}

fn bound(workload: Workload, affinity: Affinity) -> Workload {
    let mut workload = workload;
    workload.spec.affinity = Some(affinity);
    workload
}

fn on_demand(name: &str, gpus: u32) -> Workload {
    workload(name, Tier::OnDemand, gpus, 295)
}

fn in_group(name: &str, gpus: u32, rule: Rule) -> Workload {
    let group = Some(Group { id: id("web"), rule });
    bound(on_demand(name, gpus), Affinity { sites: None, group })
}

fn names(sites: &[&str]) -> BTreeSet<SiteId> {
    sites.iter().map(|site| id(site)).collect()
}

fn only(sites: &[&str]) -> Affinity {
    Affinity { sites: Some(Sites::Only(names(sites))), group: None }
}

fn except(sites: &[&str]) -> Affinity {
    Affinity { sites: Some(Sites::Except(names(sites))), group: None }
}

/// Runs in place on the first servers of a module.
fn running(mut workload: Workload, module: &str, first: u32) -> Workload {
    let servers = (0..workload.spec.gpus.div_ceil(8)).map(|nth| (first + nth, 8)).collect();
    workload.status.phase = Phase::Running;
    workload.status.placement =
        Some(Placement { module: id(module), pool: id("p"), servers, incarnation: 1 });
    workload
}

fn home(plan: &Plan, name: &str) -> Option<String> {
    plan.placement(&id(name)).map(|at| at.module.to_string())
}

fn reason(plan: &Plan, name: &str) -> ReasonCode {
    let subject = Subject::Workload(id(name));
    plan.decisions.iter().find(|said| said.subject == subject).unwrap().reason
}

/// Plans these workloads; the modules on which they run.
fn homes(input: &Input, workloads: Vec<Workload>) -> (Input, Plan, Vec<Option<String>>) {
    let mut input = input.clone();
    let names: Vec<String> = workloads.iter().map(|one| one.id.to_string()).collect();
    workloads.into_iter().for_each(|one| submit(&mut input, one));
    let made = planned(&input).plan;
    let homes = names.iter().map(|name| home(&made, name)).collect();
    (input, made, homes)
}

#[test]
fn a_list_of_sites_says_where_it_starts() {
    let input = islands(&[&[2], &[4], &[4]]);
    let check = |affinity: Option<Affinity>, expected: &[&str]| {
        let mut one = on_demand("one", 16);
        one.spec.affinity = affinity.clone();
        let (_, _, homes) = homes(&input, vec![one]);
        let home = homes[0].as_deref().unwrap();
        assert!(expected.contains(&home), "{affinity:?}: {home}");
    };
    // The tightest place is on a.
    check(None, &["a0"]);
    check(Some(only(&["b"])), &["b0"]);
    check(Some(only(&["c", "nowhere"])), &["c0"]);
    check(Some(except(&["a"])), &["b0", "c0"]);
    check(Some(except(&["a", "b"])), &["c0"]);
}

#[test]
fn who_waits_for_its_own_list_is_told_so_and_would_start_without_it() {
    let input = islands(&[&[2], &[4]]);
    let full = || running(on_demand("full", 16), "a0", 0);
    let (input, made, found) = homes(&input, vec![full(), bound(on_demand("one", 8), only(&["a"]))]);
    assert_eq!((found[1].as_deref(), reason(&made, "one")), (None, ReasonCode::SitesBound));
    let told = explain(&made, &input, &Subject::Workload(id("one")));
    let expected = [
        "sites_bound: there is room for it, but not on the sites that its order allows",
        "short of: room on the sites it may run on",
        "sooner: order it anew for more sites, or for any",
    ];
    assert_eq!(told.tenant, expected);
    assert!(told.operator.join("\n").contains("site b has room for it"), "{told:?}");
    let (_, _, free) = homes(&islands(&[&[2], &[4]]), vec![full(), on_demand("one", 8)]);
    assert_eq!(free[1].as_deref(), Some("b0"));
    // Where there is no room anywhere its list is not to blame.
    let both =
        vec![full(), running(on_demand("more", 32), "b0", 0), bound(on_demand("one", 8), only(&["a"]))];
    let (_, made, _) = homes(&islands(&[&[2], &[4]]), both);
    assert_eq!(reason(&made, "one"), ReasonCode::NoGpus);
}

#[test]
fn a_group_is_spread_as_its_rule_says() {
    let input = islands(&[&[4, 4], &[4]]);
    let check = |rule: Rule, count: usize, most: usize, place: fn(&str) -> &str| {
        let group = (0..count).map(|nth| in_group(&format!("w{nth}"), 8, rule)).collect();
        let (_, made, homes) = homes(&input, group);
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        homes.iter().flatten().for_each(|home| *taken.entry(place(home)).or_default() += 1);
        assert!(taken.values().all(|&count| count <= most), "{rule}: {taken:?}");
        let waits = (0..count).filter(|nth| homes[*nth].is_none());
        waits.for_each(|nth| assert_eq!(reason(&made, &format!("w{nth}")), ReasonCode::GroupBound));
        homes.iter().flatten().count()
    };
    let per_site: fn(&str) -> &str = |home| &home[..1];
    let per_module: fn(&str) -> &str = |home| home;
    assert_eq!(check(APART, 4, 1, per_site), 2);
    assert_eq!(check(Rule::Spread { most: 2, per: Domain::Site }, 6, 2, per_site), 4);
    assert_eq!(check(Rule::Spread { most: 1, per: Domain::Module }, 4, 1, per_module), 3);
    assert_eq!(check(Rule::Spread { most: 2, per: Domain::Module }, 5, 2, per_module), 5);
}

#[test]
fn who_waits_for_its_group_reads_nothing_of_others() {
    let group = (0..3).map(|nth| in_group(&format!("w{nth}"), 8, APART)).collect();
    let (input, made, homes) = homes(&islands(&[&[4], &[4]]), group);
    let waits = (0..3).find(|nth| homes[*nth].is_none()).unwrap();
    let told = explain(&made, &input, &Subject::Workload(id(&format!("w{waits}")))).tenant;
    let expected = [
        "group_bound: there is room for it, but not where its group's rule lets it start",
        "short of: room where its group may run",
        "sooner: order it anew without the group, end another of the group, or order the group under a looser rule",
    ];
    assert_eq!(told, expected);
}

/// The tightest place of the small one is where the large one finds none: seat by seat they would part.
#[test]
fn a_group_that_stands_together_finds_the_site_for_all_of_it() {
    let group = vec![in_group("large", 32, Rule::Together), in_group("small", 16, Rule::Together)];
    let (_, _, found) = homes(&islands(&[&[2], &[4, 2], &[4]]), group);
    assert_eq!(found, [Some("b0".to_owned()), Some("b1".to_owned())]);
}

#[test]
fn a_group_that_stands_together_waits_where_the_others_are() {
    let stays = || running(in_group("stays", 8, Rule::Together), "b0", 0);
    let comes = || in_group("comes", 8, Rule::Together);
    let (_, _, found) = homes(&islands(&[&[1], &[4]]), vec![stays(), comes()]);
    assert_eq!(found[1].as_deref(), Some("b0"), "and not where it fits more tightly");
    let (_, made, found) = homes(&islands(&[&[1], &[1]]), vec![stays(), comes()]);
    assert_eq!((found[1].as_deref(), reason(&made, "comes")), (None, ReasonCode::GroupBound));
}

#[test]
fn a_group_is_its_tenants_own() {
    let mut other = in_group("other", 8, APART);
    other.tenant = id("umbra");
    let (_, _, found) = homes(&islands(&[&[4]]), vec![in_group("own", 8, APART), other]);
    assert_eq!(found, [Some("a0".to_owned()), Some("a0".to_owned())]);
}

/// A restore, or a list that came later: nobody is stopped for it, and operators are told.
#[test]
fn what_runs_against_a_rule_goes_on_and_a_finding_says_so() {
    let runs = vec![
        running(in_group("w0", 8, APART), "a0", 0),
        running(in_group("w1", 8, APART), "a0", 1),
        running(bound(on_demand("listed", 8), only(&["b"])), "a0", 2),
        in_group("w2", 8, APART),
    ];
    let (input, made, found) = homes(&islands(&[&[4], &[4]]), runs);
    assert_eq!(found[..3], ["a0"; 3].map(|home| Some(home.to_owned())));
    assert_eq!(found[3].as_deref(), Some("b0"), "the other site is free");
    assert!(["w0", "w1", "listed"].iter().all(|name| reason(&made, name) == ReasonCode::Kept));
    let findings = plan(&input).report.findings;
    let broken: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.code == "affinity-broken")
        .map(|finding| finding.subject.as_str())
        .collect();
    assert_eq!(broken, BTreeSet::from(["workload listed", "workload w0", "workload w1"]));
}

#[test]
fn where_a_group_names_two_rules_the_strictest_of_each_kind_holds() {
    let loose = Rule::Spread { most: 2, per: Domain::Site };
    let group = vec![in_group("w0", 8, APART), in_group("w1", 8, loose), in_group("w2", 8, loose)];
    let (input, _, found) = homes(&islands(&[&[4], &[4]]), group);
    assert_eq!(found.iter().flatten().count(), 2, "{found:?}");
    let findings = plan(&input).report.findings;
    assert!(findings.iter().any(|finding| finding.code == "group-mixed"), "{findings:?}");
}

/// Each plan is sound until somebody says what it breaks.
#[test]
fn a_start_against_a_rule_is_refused_by_the_check() {
    let check_found = |rules: [Option<Affinity>; 2], code: &str| {
        let (mut input, made, found) =
            homes(&islands(&[&[4, 1]]), vec![on_demand("w0", 8), on_demand("w1", 16)]);
        assert_eq!(found, [Some("a1".to_owned()), Some("a0".to_owned())]);
        for (name, rule) in ["w0", "w1"].into_iter().zip(rules) {
            input.workloads.get_mut(&id(name)).unwrap().spec.affinity = rule;
        }
        let codes: BTreeSet<String> = check(&made, &input).into_iter().map(|finding| finding.code).collect();
        let expected: BTreeSet<String> = (!code.is_empty()).then(|| code.to_owned()).into_iter().collect();
        assert_eq!(codes, expected);
        // What runs already is let be.
        let runs = carry_out(&input, &made);
        let mut again = made.clone();
        (again.parent, again.generation) = (Some(made.generation), made.generation + 1);
        assert_eq!(check(&again, &runs), Vec::new(), "{code}");
    };
    let group = |rule| Some(Affinity { sites: None, group: Some(Group { id: id("web"), rule }) });
    check_found([Some(only(&["b"])), None], "start-excluded");
    check_found([None, Some(except(&["a"]))], "start-excluded");
    check_found([Some(except(&["b"])), Some(only(&["a"]))], "");
    check_found([group(APART), group(APART)], "group-crowded");
    check_found([group(Rule::Together), group(Rule::Together)], "");
    let per_module = Rule::Spread { most: 1, per: Domain::Module };
    check_found([group(per_module), group(per_module)], "");
    check_found([group(APART), None], "");
}

#[test]
fn a_start_on_another_site_than_the_rest_is_refused_by_the_check() {
    let check_found = |rule: Rule, expected: &[&str]| {
        let runs = vec![running(on_demand("w0", 8), "a0", 0), bound(on_demand("w1", 8), only(&["b"]))];
        let (mut input, made, _) = homes(&islands(&[&[4], &[4]]), runs);
        for run in input.workloads.values_mut() {
            run.spec.affinity = Some(Affinity { sites: None, group: Some(Group { id: id("web"), rule }) });
        }
        let codes: Vec<String> = check(&made, &input).into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, expected, "{rule}");
    };
    check_found(Rule::Together, &["group-split"]);
    check_found(APART, &[]);
}

/// A repair knows what of a group stands on islands that it does not plan, started already or only by the plan in force.
#[test]
fn a_repair_counts_what_stands_elsewhere() {
    let check_home = |rule: Rule, carried: bool, touched: &str, expected: Option<&str>| {
        let mut input = islands(&[&[4], &[4], &[4]]);
        submit(
            &mut input,
            bound(
                in_group("w0", 8, rule),
                Affinity {
                    sites: Some(Sites::Only(names(&["a"]))),
                    ..in_group("w0", 8, rule).spec.affinity.unwrap()
                },
            ),
        );
        let before = planned(&input);
        let mut next = carry_out(&input, &before.plan);
        if !carried {
            next.workloads = input.workloads.clone();
        }
        submit(&mut next, in_group("w1", 8, rule));
        let made = repair(&next, &before.report, &names(&[touched]));
        assert_eq!(check(&made.plan, &next), Vec::new());
        assert_eq!(home(&made.plan, "w1").as_deref(), expected, "{rule}, {touched}, {carried}");
        next.touched = Some(names(&[touched]));
        assert_eq!(plan(&next).plan, made.plan, "the input says all of it");
    };
    for carried in [false, true] {
        check_home(Rule::Together, carried, "b", None);
        check_home(Rule::Together, carried, "a", Some("a0"));
        check_home(APART, carried, "a", None);
        check_home(APART, carried, "b", Some("b0"));
    }
}

#[test]
fn islands_for_who_came_are_those_that_it_may_run_on() {
    let mut input = islands(&[&[2], &[4], &[4]]);
    submit(&mut input, running(in_group("w0", 8, Rule::Together), "c0", 0));
    let check = |came: Workload, expected: &[&str]| {
        assert_eq!(planner::repair::homes(&input, [&came]), names(expected), "{:?}", came.spec.affinity);
    };
    let of = |affinity: Affinity| bound(on_demand("comes", 8), affinity);
    check(on_demand("comes", 8), &["a", "b", "c"]);
    check(of(only(&["b"])), &["b"]);
    check(of(except(&["a"])), &["b", "c"]);
}

#[test]
fn a_quote_is_for_the_sites_that_were_named() {
    let input = islands(&[&[2], &[4]]);
    let ask = |sites: Option<Sites>| {
        let (gpu, term) = ("h100".into(), Span::hours(24));
        let (tier, level, levels) = (Tier::OnDemand, 0, BTreeMap::new());
        let request = Request { gpu, gpus: 16, term, tier, deadline: None, level, sites, levels };
        quote(&input, &request, &Risks::default(), Sample { seed: 7, draws: 200 })
    };
    let at = |sites: &[&str]| ask(Some(Sites::Only(names(sites))));
    assert_eq!(at(&["a"]).site, Some(id("a")));
    assert_eq!(at(&["b"]).site, Some(id("b")));
    assert!(at(&["nowhere"]).refused.is_some());
    let (one, any) = (at(&["a"]).odds.unwrap(), ask(None).odds.unwrap());
    assert!(one.availability.ppm <= any.availability.ppm, "who may not move fares no better");
    assert_eq!(one.moved.ppm, 0);
}

/// A rule for a random group.
fn rule(rng: &mut Rng) -> Rule {
    let per = if rng.chance(50) { Domain::Site } else { Domain::Module };
    if rng.chance(40) { Rule::Together } else { Rule::Spread { most: rng.pick(1, 2) as u32, per } }
}

/// Two to three islands of one or two small modules, and jobs of half a server to two servers: some in one of two groups, some with
/// a list of sites, some in place already. Only GPUs are short.
fn tiny(seed: u64) -> Input {
    let mut rng = Rng::new(seed);
    let servers: Vec<Vec<u32>> =
        (0..rng.pick(2, 3)).map(|_| (0..rng.pick(1, 2)).map(|_| rng.pick(1, 3) as u32).collect()).collect();
    let mut input = islands(&servers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let rules = [rule(&mut rng), rule(&mut rng)];
    for nth in 0..rng.pick(3, 5) {
        let group = rng.chance(75).then(|| {
            let which = rng.pick(0, 1) as usize;
            Group { id: id(["left", "right"][which]), rule: rules[which] }
        });
        let sites = rng.chance(25).then(|| Sites::Except(names(&[["a", "b"][rng.pick(0, 1) as usize]])));
        let mut one = on_demand(&format!("w{nth}"), 4 * rng.pick(1, 4) as u32);
        one.spec.affinity = Some(Affinity { sites, group }).filter(|one| one.fault().is_none());
        // The first may run already, wherever that is.
        let first = nth == 0 && rng.chance(40);
        one.spec.gpus = if first { 8 } else { one.spec.gpus };
        submit(&mut input, if first { running(one, "b0", 0) } else { one });
    }
    input
}

/// Somebody's place: its workload and its module.
type Seats<'i> = Vec<(&'i Workload, &'i ModuleId)>;

/// Whether these places together are what the tenants asked for; who runs already is let be.
fn holds(input: &Input, seats: &Seats<'_>) -> bool {
    let site = |module: &ModuleId| &input.modules[module].module.site;
    seats.iter().filter(|(one, _)| !one.status.phase.holds()).all(|(one, module)| {
        let Some(affinity) = &one.spec.affinity else { return true };
        let Some(group) = &affinity.group else { return affinity.allows(site(module)) };
        let same = |other: &Workload| other.group().is_some_and(|other| other.id == group.id);
        let others = seats.iter().filter(|(other, _)| same(other));
        let stands = match group.rule {
            Rule::Together => others.clone().all(|(_, other)| site(other) == site(module)),
            Rule::Spread { most, per: Domain::Site } => {
                others.filter(|(_, other)| site(other) == site(module)).count() <= most as usize
            }
            Rule::Spread { most, per: Domain::Module } => {
                others.filter(|(_, other)| other == module).count() <= most as usize
            }
        };
        stands && affinity.allows(site(module))
    })
}

/// The most GPUs that can be at work at once, by trying everything.
fn best<'i>(
    input: &'i Input,
    jobs: &[&'i Workload],
    free: &mut BTreeMap<&'i ModuleId, u32>,
    seats: &mut Seats<'i>,
) -> u32 {
    let Some((job, rest)) = jobs.split_first() else {
        return if holds(input, seats) { seats.iter().map(|(one, _)| one.spec.gpus).sum() } else { 0 };
    };
    let mut most = best(input, rest, free, seats);
    for module in input.modules.keys() {
        if free[module] >= job.spec.gpus {
            *free.get_mut(module).unwrap() -= job.spec.gpus;
            seats.push((job, module));
            most = most.max(best(input, rest, free, seats));
            seats.pop();
            *free.get_mut(module).unwrap() += job.spec.gpus;
        }
    }
    most
}

fn seats<'i>(input: &'i Input, plan: &'i Plan) -> Seats<'i> {
    plan.placements().map(|(id, at)| (&input.workloads[id], &at.module)).collect()
}

fn most(input: &Input) -> u32 {
    let mut free: BTreeMap<&ModuleId, u32> =
        input.modules.iter().map(|(id, given)| (id, given.module.pools[&id_p()].total_gpus())).collect();
    let mut placed: Seats<'_> = Vec::new();
    for run in input.workloads.values().filter(|run| run.status.phase.holds()) {
        let module = &run.status.placement.as_ref().unwrap().module;
        *free.get_mut(module).unwrap() -= run.spec.gpus;
        placed.push((run, module));
    }
    let jobs: Vec<&Workload> = input.workloads.values().filter(|one| !one.status.phase.holds()).collect();
    best(input, &jobs, &mut free, &mut placed)
}

fn id_p() -> model::PoolId {
    id("p")
}

/// Prints how near with `--nocapture`.
#[test]
fn where_a_place_exists_it_is_nearly_always_found() {
    let count = if crate::is_whole_run() { 1_000 } else { 150 };
    let (mut found, mut all, mut full) = (0, 0, 0);
    for seed in 0..count {
        let input = tiny(seed);
        let made = planned(&input).plan;
        let seats = seats(&input, &made);
        assert!(holds(&input, &seats), "{seed}");
        let (ours, theirs) = (seats.iter().map(|(one, _)| one.spec.gpus).sum::<u32>(), most(&input));
        assert!(ours <= theirs, "{seed}: the oracle misses a plan");
        (found, all) = (found + ours, all + theirs);
        full += u64::from(ours == theirs);
    }
    println!("{full} of {count} instances are full; {found} of {all} GPUs are at work");
    assert!(
        full * 100 >= count * 95 && u64::from(found) * 1_000 >= u64::from(all) * 985,
        "{full}/{count} {found}/{all}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_hold_what_tenants_asked_for_and_planning_again_changes_nothing(seed in 1_000u64..1_000_000) {
        let input = tiny(seed);
        let made = planned(&input);
        prop_assert!(holds(&input, &seats(&input, &made.plan)));
        prop_assert_eq!(&plan(&input), &made, "the same bytes again");
        let next = carry_out(&input, &made.plan);
        let again = planned(&next);
        let moved: Vec<_> = seats(&next, &again.plan);
        prop_assert_eq!(seats(&input, &made.plan).len(), moved.len(), "{:?}", diff(&made.plan, &again.plan));
        for island in input.sites.keys() {
            let touched = BTreeSet::from([island.clone()]);
            let mut came = next.clone();
            submit(&mut came, in_group("w9", 4, Rule::Together));
            submit(&mut came, bound(on_demand("w8", 4), Affinity {
                sites: None, group: Some(Group { id: id("left"), rule: rule(&mut Rng::new(seed)) }),
            }));
            let repaired = repair(&came, &again.report, &touched);
            prop_assert_eq!(check(&repaired.plan, &came), Vec::new());
        }
    }
}
