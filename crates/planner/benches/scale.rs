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

use std::time::Instant;

use instances::{Class, Size, happen, instance};
use model::SiteId;
use planner::{appraise, check, plan, repair};
use scene::carry_out;

const CLASSES: [(Class, &str); 3] =
    [(Class::Normal, "normal"), (Class::Tight, "tight"), (Class::Overloaded, "overloaded")];

/// Events that are measured.
const EVENTS: usize = 250;

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
        println!(
            "| modules | workloads | class | events | p50 ms | p99 ms | most ms | naming ms | check ms | whole plan ms | refused |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        for modules in [1_000, 10_000].into_iter().filter(|modules| (least..=most).contains(modules)) {
            events(modules);
        }
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
    println!(
        "| modules | workloads | class | greedy ms | dispatch ms | plan ms | check ms | bound ms | of own bound | greedy of it | most MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
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
            let (first, begun) = took(|| planner::appraise::begun(&of.problem));
            let share = |worth: i64| (worth + of.kept) as f64 / (bound + of.kept) as f64 * 100.0;
            println!(
                "| {} | {} | {name} | {begun:.2} | {solved:.2} | {planned:.1} | {checked:.1} | {bounded:.1} | {:.3} % | {:.3} % | {} |",
                input.modules.len(),
                input.workloads.len(),
                share(worth),
                share(first),
                peak_memory(),
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

/// One event on an island, each on the fleet as it was before; on as many islands as there are, up to [`EVENTS`].
fn events(modules: i64) {
    for (class, name) in CLASSES.into_iter().take(2) {
        let mut input = instance(1, class, fleet_of(modules));
        let mut before = plan(&input);
        for _ in 0..3 {
            input = carry_out(&input, &before.plan);
            before = plan(&input);
        }
        input = carry_out(&input, &before.plan);
        let (_, whole) = took(|| plan(&input));
        let every = input.sites.len().div_ceil(EVENTS);
        let sites: Vec<SiteId> = input.sites.keys().step_by(every).cloned().collect();
        let (mut named, mut repaired, mut checked) = (Vec::new(), Vec::new(), Vec::new());
        let mut refused = 0;
        for (nth, site) in sites.iter().enumerate() {
            let mut input = input.clone();
            happen(&mut input, site, nth as u8 % 4, 85);
            let (mut touched, ms) = took(|| planner::repair::unfit(&input));
            named.push(ms);
            touched.insert(site.clone());
            let (made, ms) = took(|| repair(&input, &before.report, &touched));
            repaired.push(ms);
            let (findings, ms) = took(|| check(&made.plan, &input));
            checked.push(ms);
            refused += usize::from(!findings.is_empty());
        }
        let [named, repaired, checked] = [named, repaired, checked].map(|mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            [50, 99, 100].map(|percent: usize| times[(times.len() - 1) * percent / 100])
        });
        println!(
            "| {} | {} | {name} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {whole:.0} | {refused} |",
            input.modules.len(),
            input.workloads.len(),
            sites.len(),
            repaired[0],
            repaired[1],
            repaired[2],
            named[0],
            checked[0],
        );
    }
}

/// The most memory this process ever had, in MiB; zero where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
