//! Quotes: closed forms, what never makes a promise worse, reasons for a refusal, and promises that are kept.

use model::report::{GensetReport, GensetState};
use model::site::GasFlow;
use model::workload::{GpuTime, Phase, Placement, Tier};
use model::{MicroDollars, Span, Watts};
use planner::outlook::Short;
use planner::quote::{Cause, Outage, Quote, Refusal, Request, Risks, Sample};
use planner::{Input, quote};
use proptest::prelude::*;

use crate::scene::*;

/// Nothing fails: what a test is not about is switched off.
const CALM: Risks = Risks {
    well: Outage::NEVER,
    common: Outage::NEVER,
    compressor: Outage::NEVER,
    set: Outage::NEVER,
    service: Outage::NEVER,
    kept_back: 0,
    margin: 200,
};

fn request(tier: Tier, gpus: u32, hours: i64, level: u32) -> Request {
    let levels = [(id("h100"), level)].into();
    Request {
        gpu: "h100".into(),
        gpus,
        term: Span::hours(hours),
        tier,
        deadline: None,
        level,
        sites: None,
        levels,
    }
}

fn sample(draws: u32) -> Sample {
    Sample { seed: 7, draws }
}

/// A fleet of `sites`, each with `sets` of 1 MW, one well, miners and 160 GPUs.
fn fleet_of(sites: usize, sets: usize) -> Input {
    let mut input = fleet();
    (input.sites, input.modules) = Default::default();
    for nth in 0..sites {
        let name = format!("s{nth}");
        input.sites.insert(id(&name), site(&name, sets));
        add(&mut input, module(&format!("g{nth}"), &name, &[], &[("p", gpus(20))]));
        add(&mut input, module(&format!("m{nth}"), &name, &[("a", miners(300, Some(150)))], &[]));
    }
    input
}

fn runs(input: &mut Input, name: &str, module: &str, tier: Tier, gpus: u32, hours: Option<i64>) {
    let mut run = workload(name, tier, gpus, 200);
    run.spec.amount = hours.map(|hours| GpuTime::of(gpus, Span::hours(hours)));
    run.status.phase = Phase::Running;
    let servers = (0..gpus / 8).map(|server| (server, 8)).collect();
    run.status.placement = Some(Placement { module: id(module), pool: id("p"), servers, incarnation: 1 });
    submit(input, run);
}

fn interrupted(quote: &Quote) -> u64 {
    quote.odds.unwrap_or_else(|| panic!("{quote:?}")).interrupted.ppm
}

/// One well and one set: not interrupted in T hours with ((1 − w)(1 − c)(1 − k)(1 − s)(1 − v))^T, each an hourly chance
/// q ÷ ((1 − q)·D). The estimate lies within four standard errors.
#[test]
fn one_well_and_one_set_follow_the_closed_form() {
    let check = |risks: Risks, hours: i64| {
        let answer = quote(&fleet_of(1, 1), &request(Tier::OnDemand, 8, hours, 0), &risks, sample(2_000));
        let hourly = |outage: Outage| {
            let share = f64::from(outage.permille) / 1_000.0;
            1.0 - share / (1.0 - share) / f64::from(outage.hours)
        };
        let parts = [risks.well, risks.common, risks.compressor, risks.set, risks.service];
        let calm: f64 = parts.into_iter().map(hourly).product();
        let expected = ((1.0 - calm.powi(i32::try_from(hours).unwrap())) * 1e6) as u64;
        let odds = answer.odds.unwrap();
        let off = odds.interrupted.ppm.abs_diff(expected);
        assert!(off <= 4 * odds.interrupted.error_ppm, "{hours} h: {:?}, not {expected}", odds.interrupted);
        assert_eq!(answer.refused, None);
    };
    check(CALM, 100);
    check(Risks { well: Outage { permille: 80, hours: 48 }, ..CALM }, 24);
    check(Risks { set: Outage { permille: 50, hours: 12 }, ..CALM }, 72);
    check(Risks::default(), 1);
    check(Risks::default(), 48);
}

/// Beyond the spells' length a well that is dry for q of the time serves 1 − q of the term.
#[test]
fn availability_is_what_the_wells_leave_of_it() {
    let risks = Risks { well: Outage { permille: 100, hours: 4 }, ..CALM };
    let odds = quote(&fleet_of(1, 1), &request(Tier::OnDemand, 8, 720, 0), &risks, sample(300)).odds.unwrap();
    let off = odds.availability.ppm.abs_diff(900_000);
    assert!(off <= 4 * odds.availability.error_ppm + 1_000, "{:?}", odds.availability);
    assert!(odds.availability.error_ppm < 3_000, "{:?}", odds.availability);
    assert_eq!(odds.late.ppm, 1_000_000, "without a day of grace no term of thirty days is served in full");
    let patient = Request { deadline: Some(Span::hours(1_440)), ..request(Tier::OnDemand, 8, 720, 0) };
    let odds = quote(&fleet_of(1, 1), &patient, &risks, sample(300)).odds.unwrap();
    assert_eq!(odds.late.ppm, 0, "twice the time is enough for nine tenths of it");
}

/// What fails alone is survived: a set by N-1, a site by another; both at once are not.
#[test]
fn sets_are_covered_by_n_minus_one_and_sites_by_each_other() {
    let sets = Risks { set: Outage { permille: 50, hours: 12 }, ..CALM };
    let one = quote(&fleet_of(1, 1), &request(Tier::OnDemand, 8, 168, 0), &sets, sample(400));
    let four = quote(&fleet_of(1, 4), &request(Tier::Firm, 8, 168, 990), &sets, sample(400));
    assert!(interrupted(&one) > 400_000 && interrupted(&four) < 5_000, "{one:?} {four:?}");
    assert_eq!(four.refused, None);
    let wells = Risks { well: Outage { permille: 80, hours: 48 }, ..CALM };
    let pad = quote(&fleet_of(1, 4), &request(Tier::Firm, 8, 168, 990), &wells, sample(400));
    let three = quote(&fleet_of(3, 4), &request(Tier::Firm, 8, 168, 990), &wells, sample(400));
    assert!(interrupted(&three) * 10 < interrupted(&pad), "{three:?} {pad:?}");
    assert!(three.odds.unwrap().moved.ppm > 100_000, "{three:?}");
    let freeze = Risks { common: Outage { permille: 80, hours: 48 }, ..CALM };
    let together = quote(&fleet_of(3, 4), &request(Tier::Firm, 8, 168, 990), &freeze, sample(400));
    assert!(interrupted(&together) > 200_000, "sites do not help against what they share: {together:?}");
}

#[test]
fn firm_is_refused_on_one_well_and_the_answer_says_so() {
    let answer = quote(&fleet_of(1, 4), &request(Tier::Firm, 64, 720, 990), &Risks::default(), sample(200));
    let Some(Refusal::Level { availability_ppm, level_ppm, cause, wells, sets }) = answer.refused else {
        panic!("{answer:?}")
    };
    assert_eq!((level_ppm, cause, wells, sets), (990_000, Cause::Gas, 1, 4));
    assert!((880_000..960_000).contains(&availability_ppm), "{availability_ppm}");
    assert!(matches!(answer.nothing_firm, Some(Refusal::Level { cause: Cause::Gas, .. })), "{answer:?}");
    let promised = quote(&fleet_of(1, 4), &request(Tier::Firm, 64, 720, 850), &Risks::default(), sample(200));
    assert_eq!((promised.refused, promised.nothing_firm), (None, None));
}

#[test]
fn what_cannot_start_now_is_refused_with_its_reason() {
    let check = |change: &dyn Fn(&mut Input), tier: Tier, gpus: u32, expected: Refusal| {
        let mut input = fleet_of(1, 4);
        change(&mut input);
        let answer = quote(&input, &request(tier, gpus, 24, 0), &CALM, sample(10));
        assert_eq!(answer.refused, Some(expected.clone()), "{expected:?}");
        assert_eq!((answer.site, answer.price, answer.odds), (None, None, None));
    };
    let now = Refusal::Now;
    check(&|_| {}, Tier::Spot, 161, now(Short::Gpus));
    check(
        &|input| input.sites.values_mut().for_each(|site| site.report = None),
        Tier::Spot,
        8,
        now(Short::Silent),
    );
    check(&|input| gas_percent(input, 0), Tier::OnDemand, 8, now(Short::Gas));
    check(&|input| trip_all_but(input, 1), Tier::Firm, 8, now(Short::OneSet));
    check(&|input| trip_all_but(input, 0), Tier::Spot, 8, now(Short::Sets));
    check(&|input| gas_percent(input, 12), Tier::Firm, 160, now(Short::Reserve));
    check(&|input| gas_percent(input, 12), Tier::Firm, 8, now(Short::FirmCapacity));
    check(
        &|input| input.modules.get_mut(&id("g0")).unwrap().module.limit = Watts::kilo(80),
        Tier::Spot,
        64,
        now(Short::ModuleLimit),
    );
    check(&|input| input.modules.clear(), Tier::Firm, 8, Refusal::NoSuchGpu);
}

fn trip_all_but(input: &mut Input, sound: usize) {
    for site in input.sites.values_mut() {
        for set in site.report.as_mut().unwrap().gensets.values_mut().skip(sound) {
            *set = GensetReport { state: GensetState::Tripped, power: None, for_span: Span::secs(9) };
        }
    }
}

/// Two islands back each other's firm run up: nobody may take the GPUs that stand by.
#[test]
fn a_request_that_takes_what_a_promise_needs_is_refused_and_a_small_one_is_not() {
    let mut input = fleet_of(2, 4);
    runs(&mut input, "held", "g0", Tier::Firm, 96, None);
    let wells = Risks { well: Outage { permille: 60, hours: 24 }, ..CALM };
    let ask = |gpus: u32, level: u32| {
        let request = Request { level, ..request(Tier::Firm, gpus, 336, 980) };
        quote(&input, &request, &wells, sample(300))
    };
    assert_eq!(ask(128, 500).refused, Some(Refusal::Breaks(id("held"))));
    assert_eq!(ask(32, 500).refused, None);
    // Spot work gives way, so it breaks nothing.
    let spot = Request { levels: [(id("h100"), 980)].into(), ..request(Tier::Spot, 8, 336, 0) };
    assert_eq!(quote(&input, &spot, &wells, sample(100)).refused, None);
}

/// Gas and mining for a kilowatt and a quarter, a margin of a fifth; who gives way is paid for; credits come on top.
#[test]
fn the_price_is_what_is_displaced_a_margin_and_credits() {
    let mut input = fleet_of(1, 4);
    let price = |input: &Input, risks: &Risks, level: u32| {
        let tier = if level > 0 { Tier::Firm } else { Tier::OnDemand };
        // The spot run's offering promises nothing.
        let request = Request { levels: Default::default(), ..request(tier, 64, 168, level) };
        quote(input, &request, risks, sample(100)).price.unwrap()
    };
    let plenty = price(&input, &CALM, 0);
    assert!(plenty.power > MicroDollars::ZERO && plenty.power < MicroDollars::cents(2), "{plenty:?}");
    assert_eq!(plenty.margin, plenty.power.fraction(200, 1_000));
    assert_eq!(plenty.gpu_hour, plenty.power + plenty.margin);
    gas_percent(&mut input, 25);
    let scarce = price(&input, &CALM, 0);
    // A megawatt-hour makes some 78 $ more with miners: 8 cents for a kilowatt and a little.
    assert!(scarce.power > MicroDollars::cents(7) && scarce.power < MicroDollars::cents(12), "{scarce:?}");
    gas_percent(&mut input, 400);
    runs(&mut input, "spot", "g0", Tier::Spot, 128, None);
    assert_eq!(price(&input, &CALM, 0).displaced, MicroDollars::cents(200));
    let risky = price(&input, &Risks::default(), 990);
    assert!(risky.credits > MicroDollars::ZERO, "{risky:?}");
    assert_eq!(risky.gpu_hour, risky.power + risky.displaced + risky.margin + risky.credits);
}

#[test]
fn the_same_question_has_the_same_answer_and_more_draws_a_smaller_error() {
    let input = fleet_of(2, 3);
    let ask = |seed, draws| {
        let request = request(Tier::Firm, 16, 72, 900);
        quote(&input, &request, &Risks::default(), Sample { seed, draws })
    };
    assert_eq!(ask(1, 100), ask(1, 100));
    assert_ne!(ask(1, 100), ask(2, 100));
    let error = |draws| ask(3, draws).odds.unwrap().interrupted.error_ppm;
    assert!(error(1_600) * 3 < error(100), "{} {}", error(1_600), error(100));
    assert_eq!(ask(1, 0), ask(1, 1), "no draws are one");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// On the same luck: more gas, one more set, one more island, a shorter term never make an interruption likelier, and nothing is
    /// refused that less could start.
    #[test]
    fn more_never_interrupts_more(
        seed in any::<u64>(),
        percent in 12i64..110,
        more in 0i64..60,
        sets in 1usize..4,
        sites in 1usize..3,
        gang in 1u32..10,
        hours in 1i64..96,
        tier in prop::sample::select(vec![Tier::Firm, Tier::OnDemand]),
    ) {
        let ask = |sites: usize, sets: usize, percent: i64, hours: i64| {
            let mut input = fleet_of(sites, sets);
            gas_percent(&mut input, percent);
            let sample = Sample { seed, draws: 24 };
            quote(&input, &request(tier, gang * 16, hours, 0), &Risks::default(), sample)
        };
        let base = ask(sites, sets, percent, hours);
        let Some(odds) = base.odds else { return Ok(()) };
        let richer = [
            ask(sites, sets, percent + more, hours),
            ask(sites, sets + 1, percent, hours),
            ask(sites + 1, sets, percent, hours),
            ask(sites, sets, percent, hours - hours / 3),
        ];
        for (nth, other) in richer.iter().enumerate() {
            prop_assert!(other.odds.is_some(), "{nth}: {other:?}");
            prop_assert!(interrupted(other) <= odds.interrupted.ppm, "{nth}: {other:?} {base:?}");
        }
    }

    /// The fleet with an admitted request in place keeps every earlier promise at its level, or as well as before: drawn anew.
    #[test]
    fn what_is_admitted_breaks_no_promise(
        seed in any::<u64>(),
        held in 1u32..9,
        gang in 1u32..9,
        permille in 10u32..120,
    ) {
        let risks = Risks { well: Outage { permille, hours: 12 }, ..CALM };
        let sample = Sample { seed, draws: 40 };
        let mut input = fleet_of(2, 3);
        runs(&mut input, "a", "g0", Tier::Firm, held * 16, None);
        let answer = quote(&input, &Request { level: 0, ..request(Tier::Firm, gang * 16, 96, 950) }, &risks, sample);
        prop_assert_eq!(answer.promises.len(), 1);
        prop_assume!(answer.refused.is_none());
        let before = &answer.promises[0];
        let site = answer.site.unwrap();
        runs(&mut input, "b", if site.as_str() == "s0" { "g0" } else { "g1" }, Tier::Firm, gang * 16, None);
        let idle = Request { gpus: 1, ..request(Tier::Spot, 1, 96, 950) };
        let after = quote(&input, &idle, &risks, sample).promises;
        let a = after.iter().find(|kept| kept.workload == id("a")).unwrap();
        prop_assert!(a.before.ppm >= before.before.ppm.min(a.level_ppm), "{a:?} {before:?}");
        prop_assert_eq!(a.before, before.after);
    }
}

#[test]
fn gas_that_does_not_flow_is_not_promised() {
    let mut input = fleet_of(2, 4);
    let site = input.sites.get_mut(&id("s0")).unwrap();
    site.report.as_mut().unwrap().gas = Some(GasFlow::ZERO);
    let answer = quote(&input, &request(Tier::Firm, 8, 24, 0), &CALM, sample(20));
    assert_eq!(answer.site, Some(id("s1")));
    // The island without gas is no place to fail over to either.
    let wells = Risks { well: Outage { permille: 80, hours: 48 }, ..CALM };
    let alone = quote(&input, &request(Tier::Firm, 8, 48, 0), &wells, sample(200)).odds.unwrap();
    assert_eq!(alone.moved.ppm, 0);
}
