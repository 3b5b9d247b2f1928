//! How long plans take and how near to their own bound they come, from ten modules to ten thousand.
//!
//! Ignored by default: it measures and asserts no time. `docs/benchmarks.md` has the command and the figures.

use std::time::Instant;

use planner::{Assumptions, appraise, check, outlook, plan};

use crate::instances::{Class, Size, instance};

/// Two modules in three hold GPUs; 64 to 128 GPUs each give about two workloads a module.
fn fleet_of(modules: i64) -> Size {
    Size { sites: (modules / 4).max(1), modules: (4, 4), servers: (2, 9) }
}

#[test]
#[ignore = "measures for minutes"]
fn plans_at_scale() {
    let most = std::env::var("PLANNER_MODULES").ok().and_then(|most| most.parse().ok()).unwrap_or(10_000);
    println!(
        "| modules | workloads | class | plan ms | dispatch ms | bound ms | check ms | of own bound | gap of plan |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let least = std::env::var("PLANNER_LEAST").ok().and_then(|least| least.parse().ok()).unwrap_or(0);
    for modules in
        [10, 100, 1_000, 3_000, 10_000].into_iter().filter(|modules| (least..=most).contains(modules))
    {
        for (class, name) in
            [(Class::Normal, "normal"), (Class::Tight, "tight"), (Class::Overloaded, "overloaded")]
        {
            let input = instance(1, class, fleet_of(modules));
            let started = Instant::now();
            let made = plan(&input);
            let planned = started.elapsed().as_secs_f64() * 1e3;
            let started = Instant::now();
            let findings = check(&made.plan, &input);
            let checked = started.elapsed().as_secs_f64() * 1e3;
            assert!(findings.is_empty(), "{modules} {name}: {:#?}", &findings[..findings.len().min(5)]);
            let of = appraise(&input);
            let started = Instant::now();
            let worth = planner::appraise::solved(&of.problem);
            let solved = started.elapsed().as_secs_f64() * 1e3;
            let started = Instant::now();
            let bound = planner::appraise::bounded(&of.problem);
            let bounded = started.elapsed().as_secs_f64() * 1e3;
            let share = (worth + of.kept) as f64 / (bound + of.kept) as f64;
            let gap = (of.bound - of.plan) as f64 / (of.bound + of.kept) as f64;
            println!(
                "| {} | {} | {name} | {planned:.1} | {solved:.1} | {bounded:.1} | {checked:.1} | {:.2} % | {:.2} % |",
                input.modules.len(),
                input.workloads.len(),
                share * 100.0,
                gap * 100.0
            );
        }
    }
}

#[test]
#[ignore = "measures for a minute"]
fn outlooks_at_scale() {
    println!("| modules | sites | outlook ms | plan ms |");
    println!("|---|---|---|---|");
    for modules in [10, 60, 300, 1_000] {
        let input = instance(1, Class::Normal, fleet_of(modules));
        let started = Instant::now();
        let made = plan(&input);
        let planned = started.elapsed().as_millis();
        let started = Instant::now();
        let ahead = outlook(&input, &Assumptions::default(), None);
        let looked = started.elapsed().as_millis();
        assert_eq!(ahead.sites.len(), made.plan.sites.len());
        println!("| {} | {} | {looked} | {planned} |", input.modules.len(), input.sites.len());
    }
}
