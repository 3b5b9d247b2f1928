//! Stories an operator tells, with the diff of the plans and the report they lead to. Run with `UPDATE_EXPECT=1` to write anew,
//! and read what changed.

use std::fmt::Write;

use expect_test::{Expect, expect};
use model::MicroDollars;
use model::affinity::{Affinity, Domain, Group, Rule};
use model::workload::{Phase, Tier};
use planner::{Input, Link, Planned, diff, explain};

use crate::scene::*;

/// A site at work, settled: two firm, two on-demand and two spot gangs beside the miners.
fn scene() -> (Input, Planned) {
    let mut input = fleet();
    add(
        &mut input,
        module("mine-2", "well-7", &[("a", miners(160, Some(150))), ("b", miners(160, Some(150)))], &[]),
    );
    for (name, tier, gpus, cents) in [
        ("firm-1", Tier::Firm, 64, 235),
        ("firm-2", Tier::Firm, 32, 235),
        ("od-1", Tier::OnDemand, 96, 295),
        ("od-2", Tier::OnDemand, 48, 295),
        ("spot-1", Tier::Spot, 128, 150),
        ("spot-2", Tier::Spot, 64, 120),
    ] {
        submit(&mut input, workload(name, tier, gpus, cents));
    }
    settled(&input)
}

/// Plans anew after `story`, and compares the diff against the settled plan and the report with what is expected.
fn check_story(story: impl FnOnce(&mut Input), expected: Expect) {
    let (mut input, before) = scene();
    story(&mut input);
    let after = planned(&input);
    expected.assert_eq(&print(&before, &after, &input));
}

fn print(before: &Planned, after: &Planned, input: &Input) -> String {
    let mut text = String::new();
    for change in diff(&before.plan, &after.plan) {
        writeln!(text, "{change}").unwrap();
    }
    for (site, view) in &after.report.sites {
        let load = view.load;
        let kw = |watts: model::Watts| watts.get() / 1_000;
        writeln!(
            text,
            "--\n{site}: {} of {} kW, {} firm; {}",
            kw(load.total()),
            kw(view.capacity),
            kw(view.firm_capacity),
            view.binding
        )
        .unwrap();
        writeln!(
            text,
            "  firm AI {}, other AI {}, mining {}, idle {}, auxiliary {}, unmanaged {}, reserved {}",
            kw(load.firm_ai),
            kw(load.other_ai),
            kw(load.mining),
            kw(load.idle),
            kw(load.auxiliary),
            kw(load.unmanaged),
            kw(load.reserved)
        )
        .unwrap();
        view.hints.iter().for_each(|hint| writeln!(text, "  hint: {hint}").unwrap());
    }
    after.report.findings.iter().for_each(|finding| writeln!(text, "{finding}").unwrap());
    let moved: Vec<_> =
        diff(&before.plan, &after.plan).into_iter().filter(|change| change.what == "reason").collect();
    for change in moved {
        for line in explain(&after.plan, input, &change.subject).tenant {
            writeln!(text, "{} | {line}", change.subject).unwrap();
        }
    }
    writeln!(text, "worth {} -> {} cents", cents(before), cents(after)).unwrap();
    let text = merged(&text);
    assert!(text.lines().count() < 100, "too long to be read: {}", text.lines().count());
    text
}

/// Lines that say the same of several things become one: the four sets of a site, a dozen like jobs.
fn merged(text: &str) -> String {
    let mut lines: Vec<(Vec<&str>, &str)> = Vec::new();
    for line in text.lines() {
        let (subject, says) = line.split_once(" | ").or_else(|| line.split_once(": ")).unwrap_or((line, ""));
        let like = |(subjects, said): &&mut (Vec<&str>, &str)| {
            let kind = |subject: &str| subject.split(' ').next().map(str::to_owned);
            !says.is_empty() && *said == says && kind(subjects[0]) == kind(subject)
        };
        match lines.iter_mut().rev().take(16).find(like) {
            Some((subjects, _)) => subjects.push(subject.rsplit(' ').next().unwrap_or(subject)),
            None => lines.push((vec![subject], says)),
        }
    }
    let print = |(subjects, says): (Vec<&str>, &str)| match says {
        "" => format!("{}\n", subjects[0]),
        _ => format!("{}: {says}\n", subjects.join(", ")),
    };
    lines.into_iter().map(print).collect()
}

fn cents(made: &Planned) -> i64 {
    made.plan.worth.get() / 10_000
}

#[test]
fn gas_falls_by_thirty_percent() {
    check_story(
        |input| gas_percent(input, 70),
        expect![[r#"
            site well-7 capacity: 3880000 W -> 3567308 W
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 682309 W lost, 450000 W absorbed, 496500 W shed
            module gpu share: 34325 W at 4576 W/s -> 48133 W at 6417 W/s
            module hybrid armed genset-g1, genset-g2, genset-g3, genset-g4, genset-g1, genset-g2, genset-g3, genset-g4: [0] -> -
            module hybrid ceiling: 742209 W -> 588437 W
            module hybrid miners a: 150 awake at 1 -> 150 awake at 0
            module hybrid share: 58750 W at 7833 W/s -> 65315 W at 8708 W/s
            module mine armed genset-g1, genset-g2, genset-g3, genset-g4: - -> [0]
            module mine ceiling: 1450588 W -> 1040528 W
            module mine miners a, b: 200 awake at 1 -> 200 awake at 0
            module mine share: 114822 W at 15309 W/s -> 115497 W at 15399 W/s
            module mine-2 ceiling: 1163546 W -> 640129 W
            module mine-2 miners a: 160 awake at 1 -> 160 awake at 0
            module mine-2 miners b: 160 awake at 1 -> 83 awake at 0
            module mine-2 share: 92101 W at 12280 W/s -> 71053 W at 9473 W/s
            site well-7 reason: placed -> gas_short
            --
            well-7: 2705 of 3567 kW, 2910 firm; gas
              firm AI 96, other AI 336, mining 1962, idle 181, auxiliary 99, unmanaged 30, reserved 0
              hint: gas is short of the online sets by 322 kW
            worth 227580 -> 214706 cents
        "#]],
    );
}

#[test]
fn a_set_trips() {
    check_story(
        |input| trip(input, "g1"),
        expect![[r#"
            site well-7 capacity: 3880000 W -> 2910000 W
            site well-7 firm capacity: 2910000 W -> 1940000 W
            site well-7 genset g1: run -> stop
            site well-7 loss genset-g1: 953640 W lost, 139083 W absorbed, 1079575 W shed -> -
            site well-7 loss genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 966935 W lost, 66131 W absorbed, 993000 W shed
            module gpu share: 34325 W at 4576 W/s -> 33903 W at 4520 W/s
            module hybrid armed genset-g1, genset-g2, genset-g3, genset-g4, genset-g1, genset-g2, genset-g3, genset-g4: [0] -> -
            module hybrid ceiling: 742209 W -> 588437 W
            module hybrid miners a: 150 awake at 1 -> 150 awake at 0
            module hybrid share: 58750 W at 7833 W/s -> 46006 W at 6134 W/s
            module mine armed genset-g2, genset-g3, genset-g4: - -> [0, 1]
            module mine ceiling: 1450588 W -> 1040528 W
            module mine miners a, b: 200 awake at 1 -> 200 awake at 0
            module mine share: 114822 W at 15309 W/s -> 81353 W at 10847 W/s
            module mine-2 ceiling: 1163546 W -> 815200 W
            module mine-2 miners a: 160 awake at 1 -> 160 awake at 0
            module mine-2 miners b: 160 awake at 1 -> 152 awake at 0
            module mine-2 share: 92101 W at 12280 W/s -> 63736 W at 8498 W/s
            --
            well-7: 2879 of 2910 kW, 1940 firm; ratings of the online sets
              firm AI 96, other AI 336, mining 2133, idle 181, auxiliary 102, unmanaged 30, reserved 0
            worth 227580 -> 217450 cents
        "#]],
    );
}

#[test]
fn a_set_trips_and_the_miners_are_back() {
    let (mut input, before) = scene();
    trip(&mut input, "g1");
    let after = planned(&input);
    let (input, restored) = settled(&carry_out(&input, &after.plan));
    let runs = |made: &Planned| input.workloads.keys().filter(|id| made.plan.placement(id).is_some()).count();
    assert_eq!(runs(&before), 6);
    expect![[r#"
        site well-7 capacity: 3880000 W -> 2910000 W
        site well-7 firm capacity: 2910000 W -> 1940000 W
        site well-7 genset g1: run -> stop
        site well-7 loss genset-g1: 953640 W lost, 139083 W absorbed, 1079575 W shed -> -
        site well-7 loss genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 966935 W lost, 66131 W absorbed, 993000 W shed
        module gpu share: 34325 W at 4576 W/s -> 33903 W at 4520 W/s
        module hybrid armed genset-g1, genset-g2, genset-g3, genset-g4, genset-g1, genset-g2, genset-g3, genset-g4: [0] -> -
        module hybrid ceiling: 742209 W -> 588437 W
        module hybrid miners a: 150 awake at 1 -> 150 awake at 0
        module hybrid share: 58750 W at 7833 W/s -> 46006 W at 6134 W/s
        module mine armed genset-g2, genset-g3, genset-g4: - -> [0, 1]
        module mine ceiling: 1450588 W -> 1040528 W
        module mine miners a, b: 200 awake at 1 -> 200 awake at 0
        module mine share: 114822 W at 15309 W/s -> 81353 W at 10847 W/s
        module mine-2 ceiling: 1163546 W -> 815200 W
        module mine-2 miners a: 160 awake at 1 -> 160 awake at 0
        module mine-2 miners b: 160 awake at 1 -> 152 awake at 0
        module mine-2 share: 92101 W at 12280 W/s -> 63736 W at 8498 W/s
        --
        well-7: 2879 of 2910 kW, 1940 firm; ratings of the online sets
          firm AI 96, other AI 336, mining 2133, idle 181, auxiliary 102, unmanaged 30, reserved 0
        worth 227580 -> 217450 cents
    "#]].assert_eq(&print(&before, &restored, &input));
}

#[test]
fn a_firm_tenant_arrives() {
    check_story(
        |input| submit(input, workload("firm-3", Tier::Firm, 64, 260)),
        expect![[r#"
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 969617 W lost, 91151 W absorbed, 1078050 W shed
            module gpu ai floor: 138396 W -> 204005 W
            module gpu ceiling: 433639 W -> 499249 W
            module gpu fallback: 236810 W -> 302420 W
            module gpu run firm-3: - -> p 8@36+8@37+8@38+8@39+8@40+8@41+8@42+8@43 #1
            module gpu share: 34325 W at 4576 W/s -> 38918 W at 5189 W/s
            module hybrid share: 58750 W at 7833 W/s -> 57857 W at 7714 W/s
            module mine share: 114822 W at 15309 W/s -> 113077 W at 15077 W/s
            module mine-2 armed genset-g1, genset-g2, genset-g3, genset-g4: [0] -> [1]
            module mine-2 ceiling: 1163546 W -> 1156420 W
            module mine-2 miners b: 160 awake at 1 -> 158 awake at 1
            module mine-2 share: 92101 W at 12280 W/s -> 90146 W at 12019 W/s
            workload firm-3 reason: - -> placed
            --
            well-7: 3840 of 3880 kW, 2910 firm; ratings of the online sets
              firm AI 160, other AI 336, mining 3016, idle 181, auxiliary 116, unmanaged 30, reserved 0
            workload firm-3: placed: starts: the best use of the power
            worth 227580 -> 259587 cents
        "#]],
    );
}

#[test]
fn a_firm_tenant_arrives_at_a_full_fleet() {
    check_story(
        |input| {
            let taken: u32 = input.workloads.values().map(|run| run.spec.gpus).sum();
            submit(input, workload("firm-3", Tier::Firm, 640 - taken + 8, 260));
            input.modules.get_mut(&id("hybrid")).unwrap().cordoned = true;
        },
        expect![[r#"
            module gpu run spot-2: p 8@28+8@29+8@30+8@31+8@32+8@33+8@34+8@35 #1 -> -
            workload firm-3 reason: - -> awaiting_meter
            workload spot-2 reason: kept -> preempted
            --
            well-7: 3782 of 3880 kW, 2910 firm; nothing binds
              firm AI 96, other AI 336, mining 3023, idle 181, auxiliary 115, unmanaged 30, reserved 0
            workload firm-3: awaiting_meter: waits until what it takes over has been released
            workload spot-2: preempted: stopped for a stronger promise
            worth 227580 -> 212220 cents
        "#]],
    );
}

#[test]
fn the_hash_price_doubles() {
    check_story(
        |input| {
            input.market.price = MicroDollars::dollars(132_444);
            submit(input, workload("spot-3", Tier::Spot, 16, 18));
        },
        expect![[r#"
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 959097 W lost, 122712 W absorbed, 1085000 W shed
            module gpu share: 34325 W at 4576 W/s -> 34177 W at 4556 W/s
            module hybrid ceiling: 742209 W -> 758612 W
            module hybrid run spot-3: - -> p 8@18+8@19 #1
            module hybrid share: 58750 W at 7833 W/s -> 59789 W at 7971 W/s
            module mine share: 114822 W at 15309 W/s -> 114328 W at 15243 W/s
            module mine-2 share: 92101 W at 12280 W/s -> 91704 W at 12227 W/s
            workload spot-3 reason: - -> placed
            --
            well-7: 3798 of 3880 kW, 2910 firm; nothing binds
              firm AI 96, other AI 352, mining 3023, idle 181, auxiliary 115, unmanaged 30, reserved 0
            workload spot-3: placed: starts: the best use of the power
            worth 227580 -> 275419 cents
        "#]],
    );
}

#[test]
fn a_module_is_drained() {
    check_story(
        |input| input.modules.get_mut(&id("hybrid")).unwrap().draining = true,
        expect![[r#"
            module hybrid ai floor: 158642 W -> 60228 W
            module hybrid fallback: 207849 W -> 60228 W
            module hybrid run firm-1: p 8@0+8@1+8@2+8@3+8@4+8@5+8@6+8@7 #1 -> -
            module hybrid run firm-2: p 8@8+8@9+8@10+8@11 #1 -> -
            module hybrid run od-2: p 8@12+8@13+8@14+8@15+8@16+8@17 #1 -> -
            module hybrid reason: mining_residual -> draining
            workload firm-1 reason, reason, reason: kept -> draining
            --
            well-7: 3782 of 3880 kW, 2910 firm; nothing binds
              firm AI 0, other AI 432, mining 3023, idle 181, auxiliary 115, unmanaged 30, reserved 0
            workload firm-1, firm-2, od-2: draining: its module is being drained
            worth 227580 -> 154140 cents
        "#]],
    );
}

#[test]
fn a_link_is_lost() {
    check_story(
        |input| {
            input.modules.get_mut(&id("hybrid")).unwrap().link = Link::Lost;
            for run in input.workloads.values_mut() {
                if run.status.placement.as_ref().is_some_and(|at| at.module == id("hybrid")) {
                    run.status.phase = Phase::Unreachable;
                }
            }
        },
        expect![[r#"
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 953596 W lost, 139214 W absorbed, 1114400 W shed
            module mine-2 armed genset-g1, genset-g2, genset-g3, genset-g4: [0] -> [0, 1]
            module hybrid reason: mining_residual -> link_lost
            workload firm-1 reason, reason, reason: kept -> link_lost
            --
            well-7: 3789 of 3880 kW, 2910 firm; nothing binds
              firm AI 0, other AI 288, mining 2502, idle 138, auxiliary 89, unmanaged 30, reserved 742
            workload firm-1, firm-2, od-2: link_lost: its module is out of touch; it may still run there
            worth 227580 -> 145985 cents
        "#]],
    );
}

#[test]
fn a_burst_of_spot_jobs() {
    check_story(
        |input| {
            for each in 0..14 {
                submit(input, workload(&format!("burst-{each:02}"), Tier::Spot, 16, 100 + each));
            }
        },
        expect![[r#"
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 967298 W lost, 98108 W absorbed, 925000 W shed
            module gpu ceiling: 433639 W -> 630468 W
            module gpu run burst-01: - -> p 8@58+8@59 #1
            module gpu run burst-02: - -> p 8@56+8@57 #1
            module gpu run burst-03: - -> p 8@54+8@55 #1
            module gpu run burst-04: - -> p 8@52+8@53 #1
            module gpu run burst-05: - -> p 8@50+8@51 #1
            module gpu run burst-06: - -> p 8@48+8@49 #1
            module gpu run burst-07: - -> p 8@46+8@47 #1
            module gpu run burst-08: - -> p 8@44+8@45 #1
            module gpu run burst-09: - -> p 8@42+8@43 #1
            module gpu run burst-10: - -> p 8@40+8@41 #1
            module gpu run burst-11: - -> p 8@38+8@39 #1
            module gpu run burst-12: - -> p 8@36+8@37 #1
            module gpu share: 34325 W at 4576 W/s -> 49265 W at 6568 W/s
            module hybrid ceiling: 742209 W -> 758612 W
            module hybrid run burst-13: - -> p 8@18+8@19 #1
            module hybrid share: 58750 W at 7833 W/s -> 59279 W at 7903 W/s
            module mine share: 114822 W at 15309 W/s -> 113351 W at 15113 W/s
            module mine-2 armed genset-g1, genset-g2, genset-g3, genset-g4: [0] -> [1]
            module mine-2 ceiling: 1163546 W -> 999522 W
            module mine-2 miners b: 160 awake at 1 -> 160 awake at 0
            module mine-2 share: 92101 W at 12280 W/s -> 78104 W at 10413 W/s
            workload burst-00 reason: - -> no_gpus
            workload burst-01 reason, reason, reason, reason, reason, reason, reason, reason, reason, reason, reason, reason, reason: - -> placed
            --
            well-7: 3831 of 3880 kW, 2910 firm; ratings of the online sets
              firm AI 96, other AI 544, mining 2863, idle 181, auxiliary 116, unmanaged 30, reserved 0
            workload burst-00: no_gpus: not enough free GPUs of that type together
            workload burst-00: short of: GPUs
            workload burst-00: sooner: ask for fewer GPUs in one gang
            workload burst-01, burst-02, burst-03, burst-04, burst-05, burst-06, burst-07, burst-08, burst-09, burst-10, burst-11, burst-12, burst-13: placed: starts: the best use of the power
            worth 227580 -> 268605 cents
        "#]],
    );
}

/// Gas swings by a quarter every five minutes, as wells that slug do. What runs goes on; only miners follow.
#[test]
fn wells_slug() {
    let (mut input, mut before) = scene();
    let mut text = String::new();
    for percent in [75, 133, 75, 133] {
        gas_percent(&mut input, percent);
        let after = planned(&input);
        let runs = |made: &Planned| -> Vec<_> {
            let modules = made.plan.sites.values().flat_map(|site| site.modules.values());
            modules.flat_map(|module| module.runs.clone()).collect()
        };
        assert_eq!(runs(&before), runs(&after), "nobody is moved by a slug");
        let view = &after.report.sites[&id("well-7")];
        let kw = |watts: model::Watts| watts.get() / 1_000;
        writeln!(
            text,
            "{} kW: mining {}, AI {}, {}",
            kw(view.capacity),
            kw(view.load.mining),
            kw(view.load.firm_ai + view.load.other_ai),
            view.binding
        )
        .unwrap();
        input = carry_out(&input, &after.plan);
        before = after;
    }
    expect![[r#"
        3762 kW: mining 2153, AI 432, gas
        3880 kW: mining 3023, AI 432, nothing binds
        3755 kW: mining 2145, AI 432, gas
        3880 kW: mining 3023, AI 432, nothing binds
    "#]]
    .assert_eq(&text);
}

/// Gas is short and miners run on import; then a MWh costs twenty times as much. They are told to sleep in the same plan, and import
/// carries nothing but AI.
#[test]
fn the_price_of_the_grid_spikes() {
    let (mut input, _) = scene();
    crate::tie::fit(&mut input, Some(45), 3_000);
    crate::tie::poor(&mut input, 40);
    let (mut input, before) = settled(&input);
    crate::tie::tie(&mut input).price = Some(MicroDollars::dollars(900));
    let after = planned(&input);
    expect![[r#"
        site well-7 capacity: 1804325 W -> 1562325 W
        site well-7 import: 242000 W at 10000 W/s -> 0 W at 10000 W/s
        site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 450369 W lost, 450000 W absorbed, 372375 W shed -> 389475 W lost, 450000 W absorbed, 372375 W shed
        module gpu share: 73328 W at 7332 W/s -> 84998 W at 8499 W/s
        module hybrid share: 99504 W at 9950 W/s -> 115340 W at 11534 W/s
        module mine ceiling: 728446 W -> 484870 W
        module mine miners a: 200 awake at 0 -> 181 awake at 0
        module mine miners b: 77 awake at 0 -> 0 awake at 0
        module mine share: 123180 W at 12318 W/s -> 95039 W at 9503 W/s
        module mine-2 share: 3987 W at 398 W/s -> 4621 W at 462 W/s
        --
        well-7: 1545 of 1804 kW, 1562 firm; gas
          firm AI 96, other AI 336, mining 819, idle 181, auxiliary 82, unmanaged 30, reserved 0
          hint: up to 250000 W of the grid tie's 250000 W may be imported at $900.00 a MWh: mining does not pay, AI pays
          hint: gas is short of the online sets by 2389 kW
        worth 198199 -> 196332 cents
    "#]].assert_eq(&print(&before, &after, &input));
}

/// Three replicas that may not share a module, where two modules have GPUs: two start, and the third says what holds it.
#[test]
fn replicas_are_kept_apart() {
    check_story(
        |input| {
            for name in ["web-1", "web-2", "web-3"] {
                let mut replica = workload(name, Tier::OnDemand, 16, 295);
                let rule = Rule::Spread { most: 1, per: Domain::Module };
                replica.spec.affinity =
                    Some(Affinity { sites: None, group: Some(Group { id: id("web"), rule }) });
                submit(input, replica);
            }
        },
        expect![[r#"
            site well-7 loss genset-g1, genset-g2, genset-g3, genset-g4: 953640 W lost, 139083 W absorbed, 1079575 W shed -> 963197 W lost, 110410 W absorbed, 1085000 W shed
            module gpu ceiling: 433639 W -> 450041 W
            module gpu fallback: 236810 W -> 253213 W
            module gpu run web-2: - -> p 8@36+8@37 #1
            module gpu share: 34325 W at 4576 W/s -> 35317 W at 4709 W/s
            module hybrid ceiling: 742209 W -> 758612 W
            module hybrid fallback: 207849 W -> 224252 W
            module hybrid run web-1: - -> p 8@18+8@19 #1
            module hybrid share: 58750 W at 7833 W/s -> 59533 W at 7937 W/s
            module mine share: 114822 W at 15309 W/s -> 113837 W at 15178 W/s
            module mine-2 share: 92101 W at 12280 W/s -> 91311 W at 12174 W/s
            workload web-1 reason, reason: - -> placed
            workload web-3 reason: - -> group_bound
            --
            well-7: 3814 of 3880 kW, 2910 firm; nothing binds
              firm AI 96, other AI 368, mining 3023, idle 181, auxiliary 115, unmanaged 30, reserved 0
            workload web-1, web-2: placed: starts: the best use of the power
            workload web-3: group_bound: there is room for it, but not where its group's rule lets it start
            workload web-3: short of: room where its group may run
            workload web-3: sooner: order it anew without the group, end another of the group, or order the group under a looser rule
            worth 227580 -> 245800 cents
        "#]],
    );
}

#[test]
fn demand_collapses() {
    check_story(
        |input| {
            for name in ["od-1", "od-2", "spot-1", "spot-2", "firm-2"] {
                input.workloads.get_mut(&id(name)).unwrap().cancel = true;
            }
        },
        expect![[r#"
            module gpu fallback: 236810 W -> 138396 W
            module gpu run od-1: p 8@0+8@1+8@2+8@3+8@4+8@5+8@6+8@7+8@8+8@9+8@10+8@11 #1 -> -
            module gpu run spot-1: p 8@12+8@13+8@14+8@15+8@16+8@17+8@18+8@19+8@20+8@21+8@22+8@23+8@24+8@25+8@26+8@27 #1 -> -
            module gpu run spot-2: p 8@28+8@29+8@30+8@31+8@32+8@33+8@34+8@35 #1 -> -
            module hybrid ai floor: 158642 W -> 125837 W
            module hybrid fallback: 207849 W -> 125837 W
            module hybrid run firm-2: p 8@8+8@9+8@10+8@11 #1 -> -
            module hybrid run od-2: p 8@12+8@13+8@14+8@15+8@16+8@17 #1 -> -
            workload firm-2 reason, reason, reason, reason, reason: kept -> cancelled
            --
            well-7: 3782 of 3880 kW, 2910 firm; nothing binds
              firm AI 64, other AI 368, mining 3023, idle 181, auxiliary 115, unmanaged 30, reserved 0
            workload firm-2, od-1, od-2, spot-1, spot-2: cancelled: ended by its tenant
            worth 227580 -> 73820 cents
        "#]],
    );
}
