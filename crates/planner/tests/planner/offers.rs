//! Beside quotes: what could be had instead of what is refused, what lies ahead of those who run, and whose GPUs nobody takes.

use model::workload::{GpuTime, Grounds, Phase, Placement, Promise, Tier};
use model::{MicroDollars, Span, Time};
use planner::outlook::Short;
use planner::quote::{Offer, Outage, Refusal, Request, Risks, Sample, Sold, instead, prospects};
use planner::{Input, quote};

use crate::instances::{Class, Size, instance};
use crate::scene::*;

const SAMPLE: Sample = Sample { seed: 11, draws: 200 };

/// Only wells fail: for a tenth of the time, a day at a time.
fn wells() -> Risks {
    let well = Outage { permille: 100, hours: 24 };
    let never = Outage::NEVER;
    Risks { well, common: never, compressor: never, set: never, service: never, kept_back: 0, margin: 200 }
}

/// Two sites of four sets with 160 GPUs each.
fn two_sites() -> Input {
    let mut input = fleet();
    (input.sites, input.modules) = Default::default();
    for nth in 0..2 {
        let name = format!("s{nth}");
        input.sites.insert(id(&name), site(&name, 4));
        add(&mut input, module(&format!("g{nth}"), &name, &[], &[("p", gpus(20))]));
        add(&mut input, module(&format!("m{nth}"), &name, &[("a", miners(300, Some(150)))], &[]));
    }
    input
}

fn request(tier: Tier, gpus: u32, hours: i64, level: u32) -> Request {
    let term = Span::hours(hours);
    Request {
        gpu: "h100".into(),
        gpus,
        term,
        tier,
        deadline: None,
        level,
        sites: None,
        levels: Default::default(),
    }
}

fn runs(input: &mut Input, name: &str, module: &str, tier: Tier, gpus: u32, hours: Option<i64>) {
    let mut run = workload(name, tier, gpus, 200);
    run.spec.amount = hours.map(|hours| GpuTime::of(gpus, Span::hours(hours)));
    run.status.phase = Phase::Running;
    let servers = (0..gpus / 8).map(|server| (server, 8)).collect();
    run.status.placement = Some(Placement { module: id(module), pool: id("p"), servers, incarnation: 1 });
    submit(input, run);
}

fn promised(input: &mut Input, name: &str, level: u32) {
    let grounds = Grounds::Override { by: "ada".into(), why: "a test".into() };
    let run = input.workloads.get_mut(&id(name)).unwrap();
    run.promise = Some(Promise { level, price: MicroDollars::cents(200), given: Time(0), grounds });
}

const ALL: [Sold; 3] = [
    Sold { tier: Tier::Firm, level: 999 },
    Sold { tier: Tier::OnDemand, level: 0 },
    Sold { tier: Tier::Spot, level: 0 },
];

fn offers(input: &Input, request: &Request) -> Vec<Offer> {
    let answer = quote(input, request, &wells(), SAMPLE);
    instead(input, request, &answer, &ALL, &wells(), SAMPLE)
}

/// Each is what a quote of its own would offer too.
fn check(input: &Input, asked: &Request, expected: &[(Tier, u32)]) -> Vec<Offer> {
    let found = offers(input, asked);
    let short: Vec<(Tier, u32)> = found.iter().map(|offer| (offer.tier, offer.gpus)).collect();
    assert_eq!(short, expected, "{found:?}");
    for offer in &found {
        let own = Request { tier: offer.tier, gpus: offer.gpus, level: offer.level, ..asked.clone() };
        let answer = quote(input, &own, &wells(), SAMPLE);
        assert_eq!((answer.refused, answer.site.as_ref()), (None, Some(&offer.site)), "{offer:?}");
        assert_eq!(answer.odds.unwrap().interrupted, offer.interrupted);
        assert!(answer.price.unwrap().gpu_hour <= offer.gpu_hour, "{offer:?}");
    }
    found
}

#[test]
fn what_is_offered_needs_nothing_instead() {
    check(&two_sites(), &request(Tier::Spot, 8, 24, 0), &[]);
}

#[test]
fn a_gang_that_is_too_large_is_halved_until_it_fits() {
    check(&two_sites(), &request(Tier::Spot, 400, 24, 0), &[(Tier::Spot, 100)]);
    let mut input = two_sites();
    for nth in 0..2 {
        runs(&mut input, &format!("d{nth}"), &format!("g{nth}"), Tier::OnDemand, 152, None);
    }
    check(&input, &request(Tier::Spot, 64, 24, 0), &[(Tier::Spot, 8)]);
}

/// What no site alone can promise is offered at the level that would be kept, and under tiers that promise nothing.
#[test]
fn a_promise_that_does_not_hold_is_offered_at_a_lower_level_or_a_weaker_tier() {
    let mut input = two_sites();
    input.sites.remove(&id("s1"));
    input.modules.retain(|_, module| module.module.site == id("s0"));
    let expected = [(Tier::Firm, 64), (Tier::OnDemand, 64), (Tier::Spot, 64)];
    let found = check(&input, &request(Tier::Firm, 64, 240, 999), &expected);
    assert!((820..920).contains(&found[0].level), "{found:?}");
}

#[test]
fn types_that_nobody_has_are_not_offered_otherwise() {
    let other = Request { gpu: "b200".into(), ..request(Tier::Firm, 8, 24, 999) };
    check(&two_sites(), &other, &[]);
}

/// On-demand runs are not stopped for a start, so a firm order cannot count on their GPUs. Spot runs give way.
#[test]
fn who_is_stopped_only_by_shortage_keeps_its_gpus() {
    let refused = |tier: Tier| {
        let mut input = two_sites();
        for nth in 0..2 {
            runs(&mut input, &format!("r{nth}"), &format!("g{nth}"), tier, 160, None);
        }
        quote(&input, &request(Tier::Firm, 8, 24, 0), &wells(), SAMPLE).refused
    };
    assert_eq!(refused(Tier::OnDemand), Some(Refusal::Now(Short::Gpus)));
    assert_eq!(refused(Tier::Spot), None);
}

/// What stands in the record counts, whatever the offering says by now.
#[test]
fn the_level_in_the_record_comes_before_that_of_the_offering() {
    let mut input = two_sites();
    runs(&mut input, "a", "g0", Tier::Firm, 16, None);
    runs(&mut input, "b", "g1", Tier::Firm, 16, None);
    promised(&mut input, "a", 700);
    let asked = Request { levels: [(id("h100"), 990)].into(), ..request(Tier::Spot, 8, 24, 0) };
    let levels: Vec<_> = quote(&input, &asked, &wells(), SAMPLE)
        .promises
        .iter()
        .map(|kept| (kept.workload.to_string(), kept.level_ppm))
        .collect();
    assert_eq!(levels, [("a".to_owned(), 700_000), ("b".to_owned(), 990_000)]);
}

/// On one well: interrupted within 72 h as the closed form says; who needs less time is interrupted less; who waits is not.
#[test]
fn what_lies_ahead_follows_the_hours_that_are_left() {
    let mut input = two_sites();
    input.sites.remove(&id("s1"));
    input.modules.retain(|_, module| module.module.site == id("s0"));
    runs(&mut input, "long", "g0", Tier::Firm, 16, None);
    runs(&mut input, "short", "g0", Tier::Firm, 16, Some(6));
    submit(&mut input, workload("waits", Tier::Spot, 400, 100));
    promised(&mut input, "long", 990);
    let sample = Sample { seed: 3, draws: 2_000 };
    let found = prospects(&input, &Default::default(), Span::hours(72), &wells(), sample);
    let [long, short, waits] = ["long", "short", "waits"].map(|name| found[&id(name)]);
    let hourly = 0.1 / 0.9 / 24.0;
    let expected = |hours: i32| ((1.0 - (1.0_f64 - hourly).powi(hours)) * 1e6) as u64;
    for (prospect, hours) in [(long, 72), (short, 6)] {
        let found = prospect.odds.interrupted;
        assert!(found.ppm.abs_diff(expected(hours)) <= 4 * found.error_ppm, "{found:?}, {}", expected(hours));
        assert!(prospect.runs);
    }
    assert_eq!((long.hours, short.hours, waits.runs), (72, 6, false));
    assert_eq!((long.unfinished, waits.unfinished), (None, None), "neither has an end");
    assert!(short.unfinished.is_some_and(|late| late.ppm < short.odds.interrupted.ppm), "{short:?}");
    // 16 GPUs for 72 hours at 2 $, of which the credits are a share.
    let cost = MicroDollars::dollars(2 * 16 * 72);
    assert_eq!(long.exposure, cost.fraction(i64::from(long.odds.credits_permille), 1_000));
    assert!(long.exposure > MicroDollars::ZERO && short.exposure == MicroDollars::ZERO);
}

/// How long questions take; `docs/benchmarks.md` has the command and the figures.
#[test]
#[ignore = "measures for a minute"]
fn quotes_at_scale() {
    println!(
        "| modules | sites | workloads | steps of a pass | quote ms | ns a step | instead ms | prospects ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for sites in [2, 15, 75, 250] {
        let size = Size { sites, modules: (4, 4), servers: (2, 9) };
        let input = instance(1, Class::Normal, size);
        let gpu =
            input.modules.values().flat_map(|given| given.module.pools.values()).next().unwrap().gpu.clone();
        let asked = Request { gpu, ..request(Tier::Firm, 16, 72, 999) };
        let parts = input.sites.len() + input.workloads.len();
        let sample = Sample { seed: 1, draws: 100 };
        let timed = |work: &mut dyn FnMut()| {
            let started = std::time::Instant::now();
            work();
            started.elapsed().as_secs_f64() * 1e3
        };
        let mut answer = None;
        let quoted = timed(&mut || answer = Some(quote(&input, &asked, &Risks::default(), sample)));
        let answer = answer.unwrap();
        let offered = timed(&mut || drop(instead(&input, &asked, &answer, &ALL, &Risks::default(), sample)));
        let levels = Default::default();
        let ahead =
            timed(&mut || drop(prospects(&input, &levels, Span::hours(72), &Risks::default(), sample)));
        let (modules, workloads) = (input.modules.len(), input.workloads.len());
        let steps = 100 * 72 * parts;
        println!(
            "| {modules} | {} | {workloads} | {steps} | {quoted:.0} | {:.0} | {offered:.0} | {ahead:.0} |",
            input.sites.len(),
            ahead * 1e6 / steps as f64
        );
    }
}
