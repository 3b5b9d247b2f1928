//! The example files of docs/planner-input.md, in `tests/planner-input/`: written from scenes, so that they always are what this
//! version reads. The command line's tests run them. After a change that is meant, `UPDATE_EXPECT=1` writes them anew.

use expect_test::expect_file;
use model::workload::Tier;
use model::{MicroDollars, Watts};
use planner::{Input, Link, plan};

use crate::scene::*;

/// Two sets, one hybrid module and two workloads: small enough to be read.
fn small() -> Input {
    let mut input = Input {
        now: NOW,
        parent: None,
        sites: [(id("well-7"), costly(site("well-7", 2)))].into(),
        modules: Default::default(),
        workloads: Default::default(),
        market: market(),
        touched: None,
    };
    add(&mut input, module("hybrid", "well-7", &[("a", miners(200, Some(150)))], &[("h100", gpus(10))]));
    submit(&mut input, workload("batch", Tier::Spot, 16, 120));
    submit(&mut input, workload("chat", Tier::Firm, 32, 235));
    input
}

fn check(name: &str, input: &Input, finding: &str) {
    let planned = planned(input);
    let codes: Vec<&str> = planned.report.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(finding.is_empty() || codes.contains(&finding), "{name}: {codes:?}");
    let case = serde_json::json!({ "schema": 1, "input": input });
    let text = serde_json::to_string_pretty(&case).unwrap() + "\n";
    expect_file![format!("{}/../../tests/planner-input/{name}.json", env!("CARGO_MANIFEST_DIR"))]
        .assert_eq(&text);
    // serde_json's own maps are ordered by name, so what is read back is compared as an input.
    let back: serde_json::Value = serde_json::from_str(&text).unwrap();
    let back: Input = serde_json::from_value(back["input"].clone()).unwrap();
    assert_eq!(plan(&back), plan(input), "{name}");
}

#[test]
fn the_examples_are_inputs_of_this_version() {
    check("small", &small(), "");
    check("settled", &settled(&small()).0, "");
}

#[test]
fn bad_input_has_a_safe_plan_and_says_what_to_change() {
    let of = |change: &dyn Fn(&mut Input)| {
        let mut input = small();
        change(&mut input);
        input
    };
    let firm = |input: &mut Input| {
        input.modules.get_mut(&id("hybrid")).unwrap().module.pools.get_mut(&id("h100")).unwrap().servers =
            100;
        for nth in 0..6 {
            submit(input, workload(&format!("firm-{nth}"), Tier::Firm, 128, 235));
        }
    };
    check("firm-above-supply", &of(&firm), "firm-unserved");
    check("no-modules", &of(&|input| input.modules.clear()), "firm-unserved");
    check("price-unknown", &of(&|input| input.market.difficulty = f64::NAN), "market-unknown");
    check("price-negative", &of(&|input| input.market.price = MicroDollars::dollars(-1)), "price-negative");
    let negative = |input: &mut Input| {
        input.workloads.get_mut(&id("batch")).unwrap().spec.price = MicroDollars::cents(-5);
    };
    check("price-below-nothing", &of(&negative), "price-negative");
    let unlimited =
        |input: &mut Input| input.modules.get_mut(&id("hybrid")).unwrap().module.limit = Watts::ZERO;
    check("no-limit", &of(&unlimited), "no-limit");
    let drained = |input: &mut Input| {
        let mut other = module("second", "well-7", &[], &[("h100", gpus(4))]);
        other.draining = true;
        add(input, other);
        input.modules.get_mut(&id("hybrid")).unwrap().draining = true;
    };
    check("two-drains", &of(&drained), "drains-overlap");
    let silent = |input: &mut Input| {
        let given = input.modules.get_mut(&id("hybrid")).unwrap();
        (given.link, given.report) = (Link::Never, None);
    };
    check("never-reported", &of(&silent), "");
}
