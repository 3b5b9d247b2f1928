//! Firm AI a genset megawatt under N-1, by real plans: n equal sets that take a share s of their rating as a block, more GPUs and
//! miners than they carry, and firm orders for all of them.
//!
//! With miners as fast reserve the rest of the sets must only be *rated* for what stays: (n − 1) ÷ n. Without them what is lost must fit
//! into the block steps of the rest as well: min(s·(n − 1), (n − 1) ÷ n). Servers without work are off here, and nothing else draws, so
//! that the figure is the rule's and not the overhead's.

use backtest::{Kind, Strategy, World, watch};
use model::fleet::Fleet;
use model::module::Module;
use model::workload::Tier;
use model::{MicroDollars, Span, Watts, WattsPerSecond};

use crate::scene::*;

/// A set.
const RATING: Watts = Watts::kilo(1_000);
/// The largest of gas engines (0.5 to 2.5 s), so that frequency is not what binds for two sets.
const INERTIA: Span = Span::new(2_500);
/// What a server at work draws.
const SERVER: Watts = Watts::new(10_200);

fn world(sets: usize, step_permille: i64) -> World {
    let mut site = site("well-7", sets);
    site.unmanaged = Watts::ZERO;
    for set in site.gensets.values_mut() {
        (set.rating, set.min_load) = (RATING, Watts::kilo(100));
        set.step = RATING.fraction(step_permille, 1_000);
        set.ramp = WattsPerSecond::new(5_000);
        set.inertia = INERTIA;
    }
    // Five times the gas of sets a quarter as large.
    site.gas.values_mut().for_each(|well| well.nominal = well.nominal.times(5));
    site.buffer.capacity = site.buffer.capacity.times(4);
    let servers = u32::try_from(sets).unwrap() * 105;
    let plain = |module: Module| Module {
        limit: RATING.times(20),
        cooling: RATING.times(20),
        auxiliary: Watts::ZERO,
        loss_permille: 0,
        ..module
    };
    let names: Vec<String> = (0..5 * sets).map(|nth| format!("g{nth:02}")).collect();
    let groups: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 60)).collect();
    let mut gpu = plain(module("gpu", "well-7", true, &[], &[("dgx", servers)]));
    gpu.pools.values_mut().for_each(|pool| pool.idle = Watts::ZERO);
    let mut mine = plain(module("mine", "well-7", false, &groups, &[]));
    mine.groups.values_mut().for_each(|group| group.standby = Watts::ZERO);
    let mut world = still(Fleet { sites: vec![site], modules: vec![gpu, mine], offerings: offerings() }, 1);
    world.orders = (0..servers).map(|_| order(0, Tier::Firm, 8, 3_000)).collect();
    world
}

/// What of the sets' rating firm GPUs draw at the end of a day, in thousandths.
fn firm_permille(world: &World, kind: Kind) -> i64 {
    let strategy = Strategy { check_every: 12, ..Strategy::new(kind) };
    let mut firm = Watts::ZERO;
    let outcome = watch(world, &strategy, &mut |moment| {
        let runs =
            moment.plan.sites.values().flat_map(|site| site.modules.values()).map(|module| module.runs.len());
        firm = SERVER.times(i64::try_from(runs.sum::<usize>()).unwrap());
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.total.plans.refused, 0, "{:?}", outcome.refusal);
    assert_eq!(outcome.total.money.credits, MicroDollars::ZERO, "what was started was served");
    firm.get() * 1_000 / world.fleet.sites[0].rating().get()
}

/// A line of the table, after both figures were found within five points of their closed forms.
fn check(sets: usize, step_permille: i64) -> String {
    let n = i64::try_from(sets).unwrap();
    let rated = 1_000 * (n - 1) / n;
    let closed = rated.min(step_permille * (n - 1));
    let world = world(sets, step_permille);
    let [ours, ai] = [Kind::Flareshift, Kind::AiOnly].map(|kind| firm_permille(&world, kind));
    for (found, wanted) in [(ours, rated), (ai, closed)] {
        assert!(
            (wanted - 50..=wanted).contains(&found),
            "{sets} sets, step {step_permille}: {found} of {wanted}"
        );
    }
    let percent = |permille: i64| format!("{}.{} %", permille / 10, permille % 10);
    let figures = [step_permille, rated, ours, closed, ai].map(percent);
    format!("| {sets} | {} |", figures.join(" | "))
}

#[test]
fn firm_ai_a_genset_megawatt_is_near_the_closed_forms() {
    check(2, 250);
    check(2, 500);
    check(4, 250);
}

/// All of it, for docs/benchmarks.md.
#[test]
#[ignore = "two minutes; prints a table"]
fn firm_ai_table() {
    println!("| sets | step | (n − 1) ÷ n | flareshift | closed form | ai-only |\n|---|---|---|---|---|---|");
    for sets in [2, 4, 8] {
        for step_permille in [250, 500, 1_000] {
            println!("{}", check(sets, step_permille));
        }
    }
}
