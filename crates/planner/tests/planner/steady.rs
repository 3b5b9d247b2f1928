//! Readings that waver by what meters do tell nobody anything new.

use std::collections::BTreeSet;

use model::Watts;
use model::plan::Subject;
use planner::{Input, diff};

use crate::scene::*;

/// The fleet's readings, each off by up to so many thousandths of itself.
fn waver(input: &Input, round: i64, permille: i64) -> Input {
    let mut next = input.clone();
    let mut nth = 0;
    let mut off = |watts: Watts| {
        nth += 1;
        // Spread over the whole band, each reading in an order of its own.
        let part = (round * 37 + nth * 11) % 21 - 10;
        watts + watts.fraction(part * permille, 10_000)
    };
    for given in next.modules.values_mut() {
        let Some(report) = &mut given.report else { continue };
        report.meter = report.meter.map(&mut off);
        report.groups.values_mut().for_each(|group| group.power = group.power.map(&mut off));
    }
    for given in next.sites.values_mut() {
        let Some(report) = &mut given.report else { continue };
        report.load = report.load.map(&mut off);
        report.gensets.values_mut().for_each(|set| set.power = set.power.map(&mut off));
    }
    next
}

/// Plans on readings that waver by `permille`, after one plan in which the claims find their place: who is told something new.
fn check(what: &str, permille: i64, change: impl Fn(&mut Input), expected: &[&str]) {
    let mut fleet = fleet();
    change(&mut fleet);
    let (input, made) = settled(&fleet);
    let mut plan = made.plan;
    let mut told = BTreeSet::new();
    for round in 0..40 {
        let mut next = waver(&input, round, permille);
        next.parent = Some(plan.clone());
        let made = planned(&next).plan;
        let changes = diff(&plan, &made);
        let modules = changes.iter().filter(|change| matches!(change.subject, Subject::Module(_)));
        told.extend(modules.filter(|_| round > 0).map(|change| format!("{}", change)));
        plan = made;
    }
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(told, expected, "{what}");
}

#[test]
fn readings_that_waver_tell_no_module_anything_new() {
    check("by two thousandths", 2, |_| (), &[]);
    check("by four thousandths", 4, |_| (), &[]);
    check("short of gas", 4, |input| gas_percent(input, 60), &[]);
}
