//! How long the dispatch, a whole plan, its check, its bound and the repair of one island take, from ten modules to ten thousand.
//!
//! `cargo bench -p planner --profile dist --bench scale`; the environment narrows it: `PLANNER_MODULES` and `PLANNER_LEAST` bound
//! the size, `PLANNER_PARTS` names what to measure (`plans`, `events`), `PLANNER_REPEAT` how often a dispatch is solved (the
//! fastest counts), `PLANNER_INSTANCES` a folder for the dispatches as JSON. It asserts no time. docs/benchmarks.md has the figures.
#![allow(clippy::unwrap_used)]
// The generators are shared with the tests, which use more of them.
#![allow(dead_code)]

#[path = "../tests/planner/instances.rs"]
mod instances;
#[path = "../tests/planner/scene.rs"]
mod scene;

use std::collections::BTreeSet;
use std::time::Instant;

use instances::{Class, Size, happen, instance};
use model::SiteId;
use planner::{appraise, check, plan, repair};
use scene::carry_out;

const CLASSES: [(Class, &str); 3] =
    [(Class::Normal, "normal"), (Class::Tight, "tight"), (Class::Overloaded, "overloaded")];

fn main() {
    let of = |name: &str, otherwise: i64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let parts = std::env::var("PLANNER_PARTS").unwrap_or_else(|_| "plans,events".into());
    let (least, most) = (of("PLANNER_LEAST", 0), of("PLANNER_MODULES", 10_000));
    if parts.contains("plans") {
        plans(least, most, of("PLANNER_REPEAT", 3));
    }
    if parts.contains("events") {
        events();
    }
}

/// Two modules in three hold GPUs; 64 to 128 GPUs each give about two workloads a module.
fn fleet_of(modules: i64) -> Size {
    Size { sites: (modules / 4).max(1), modules: (4, 4), servers: (2, 9) }
}

fn took<T>(what: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let made = what();
    (made, started.elapsed().as_secs_f64() * 1e3)
}

fn plans(least: i64, most: i64, repeat: i64) {
    println!("| modules | workloads | class | dispatch ms | plan ms | check ms | bound ms | of own bound |");
    println!("|---|---|---|---|---|---|---|---|");
    for modules in [10, 100, 1_000, 10_000].into_iter().filter(|modules| (least..=most).contains(modules)) {
        for (class, name) in CLASSES {
            let input = instance(1, class, fleet_of(modules));
            let (made, planned) = took(|| plan(&input));
            let (findings, checked) = took(|| check(&made.plan, &input));
            assert!(findings.is_empty(), "{modules} {name}: {:#?}", &findings[..findings.len().min(5)]);
            let of = appraise(&input);
            write(&of.problem, name, of.plan);
            let mut solved = f64::MAX;
            let mut worth = 0;
            for _ in 0..repeat.max(1) {
                let (found, ms) = took(|| planner::appraise::solved(&of.problem));
                (worth, solved) = (found, solved.min(ms));
            }
            let (bound, bounded) = took(|| planner::appraise::bounded(&of.problem, worth));
            let share = (worth + of.kept) as f64 / (bound + of.kept) as f64 * 100.0;
            println!(
                "| {} | {} | {name} | {solved:.2} | {planned:.1} | {checked:.1} | {bounded:.1} | {share:.3} % |",
                input.modules.len(),
                input.workloads.len(),
            );
        }
    }
}

/// Writes a dispatch for `tests/oracle/solve.py` to the folder named by `PLANNER_INSTANCES`.
fn write(problem: &planner::dispatch::problem::Problem, class: &str, plan: i64) {
    let Ok(folder) = std::env::var("PLANNER_INSTANCES") else { return };
    let line = serde_json::json!({ "class": class, "seed": 1, "digest": "", "problem": problem, "plan": plan,
        "base": 0, "kept": 0, "dual": 0 });
    let name = format!("{folder}/{}-{class}.jsonl", problem.modules.len());
    std::fs::write(name, format!("{line}\n")).unwrap();
}

/// One event on each island of 1,000 modules, each on the fleet as it was before.
fn events() {
    println!("| class | events | p50 ms | p99 ms | whole plan ms | refused by the check |");
    println!("|---|---|---|---|---|---|");
    for (class, name) in CLASSES.into_iter().take(2) {
        let mut input = instance(1, class, fleet_of(1_000));
        let mut before = plan(&input);
        for _ in 0..3 {
            input = carry_out(&input, &before.plan);
            before = plan(&input);
        }
        input = carry_out(&input, &before.plan);
        let (_, whole) = took(|| plan(&input));
        let sites: Vec<SiteId> = input.sites.keys().cloned().collect();
        let mut times: Vec<f64> = Vec::new();
        let mut refused = 0;
        for (nth, site) in sites.iter().enumerate() {
            let mut input = input.clone();
            happen(&mut input, site, nth as u8 % 4, 85);
            let touched = BTreeSet::from([site.clone()]);
            let (made, ms) = took(|| repair(&input, &before.report, &touched));
            times.push(ms);
            refused += usize::from(!check(&made.plan, &input).is_empty());
        }
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("| {name} | {} | {:.2} | {:.2} | {whole:.0} | {refused} |", times.len(), at(50), at(99));
    }
}
