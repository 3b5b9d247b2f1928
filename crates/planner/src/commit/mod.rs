//! Which sets run in each step of the horizon: commitment, which trades their fuel against rating and reserve.
//!
//! What an island would earn with some of its sets is asked for each step ([`value`]), and how many run is then one exact optimisation
//! over the whole horizon ([`program`]): starts, hours, gas at no load, start times, shortest runs and stops, and what comes by the
//! forecast. Sets are taken in one order, those that run first and of these the most frugal; a set that is not known is not asked for.
//! Only the first step is acted on, since a plan follows within half a minute; the others are the schedule that operators see and what
//! starts may count on. The last set on the bus is never stopped by choice: a black start is no saving. Read next: `capacity`.

mod asked;
mod program;
mod value;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::fuel::Fuel;
use model::plan::{STEP, STEPS};
use model::report::{GensetReport, GensetState};
use model::site::{GasFlow, Genset, Site};
use model::{GensetId, MicroDollars, Span, Watts};

pub(crate) use self::asked::{Asked, Modules, all};
use self::program::{Gains, Program};
use self::value::Choice;
use crate::input::{GasStep, SiteInput};

/// What it is worth that a set still runs at the end of the horizon: half of its start, as if it were needed again as likely as not.
const KEPT: (i64, i64) = (1, 2);

/// What is expected for a step counts so much less than for the one before, in thousandths: five steps in all, about the dwell over which
/// every other switch is credited.
const LATER: i64 = 800;

/// The sets of an island that could run, in the order in which they are taken.
pub(crate) struct Sets<'a>(Vec<(&'a GensetId, &'a Genset, &'a GensetReport)>);

impl<'a> Sets<'a> {
    /// Without those that are tripped, unload to stop, or of which nothing is known.
    pub(crate) fn of(given: &'a SiteInput) -> Self {
        let Some(report) = &given.report else { return Self(Vec::new()) };
        let known =
            given.site.gensets.iter().filter_map(|(id, set)| Some((id, set, report.gensets.get(id)?)));
        let usable = |state| !matches!(state, GensetState::Tripped | GensetState::Stopping);
        let mut sets: Vec<_> = known.filter(|(.., report)| usable(report.state)).collect();
        sets.sort_by_key(|(id, set, report)| {
            (rank(set, report), set.basis.to_lower(set.heat_rate.into()), Reverse(set.rating), *id)
        });
        sets.truncate(program::MOST);
        Self(sets)
    }

    /// Those that carry load, bit i for the set in place i.
    pub(crate) fn carrying(&self) -> u16 {
        self.mask(|report| report.state == GensetState::Online)
    }

    /// All of them.
    pub(crate) fn all(&self) -> u16 {
        self.mask(|_| true)
    }

    fn mask(&self, is_in: impl Fn(&GensetReport) -> bool) -> u16 {
        self.0.iter().enumerate().filter(|(_, (.., report))| is_in(report)).map(|(nth, _)| 1 << nth).sum()
    }

    fn choice(&self, site: &Site, mask: u16, opens: Option<Span>) -> Choice {
        let chosen = self.0.iter().enumerate().filter(|(nth, _)| mask >> nth & 1 == 1);
        let chosen: Vec<_> = chosen.map(|(_, (id, set, _))| (*id, *set)).collect();
        Choice::new(site, &chosen, opens)
    }
}

/// What must run stands first, what must rest last.
fn rank(set: &Genset, report: &GensetReport) -> u8 {
    match report.state {
        GensetState::Online if report.for_span < set.min_run => 0,
        GensetState::Starting => 1,
        GensetState::Online => 2,
        _ if report.for_span >= set.min_off => 3,
        _ => 4,
    }
}

/// What carries an island in one step.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    pub(crate) rating: Watts,
    pub(crate) fuel: Fuel,
    /// What the sets that run cost in an hour.
    pub(crate) hourly: MicroDollars,
}

/// Which sets run when.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// What each set is asked for now.
    pub(crate) now: BTreeMap<GensetId, bool>,
    /// The first step in which a set is to do something else than now.
    pub(crate) later: BTreeMap<GensetId, u32>,
    /// What follows for each step.
    pub(crate) steps: Vec<Ahead>,
    /// What was rejected; `None` where nothing was chosen.
    pub(crate) margins: Option<Margins>,
}

/// What else could be had, in an hour of how gas is now and with what the sets cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Margins {
    /// What one set more would add, once it carried load; `None` where there is none.
    pub(crate) one_more: Option<MicroDollars>,
    /// What one set less would add; `None` for the last one.
    pub(crate) one_less: Option<MicroDollars>,
    /// What a tenth more gas would add.
    pub(crate) more_gas: MicroDollars,
}

impl Margins {
    /// For operators, in whole cents.
    pub(crate) fn words(&self) -> String {
        let dollars = |money: MicroDollars| format!("${:.2}", money.as_f64() / 1e6);
        let of = |what: &str, money: Option<MicroDollars>| Some(format!("{what} {}", dollars(money?)));
        let parts = [
            of("a set more on the bus", self.one_more),
            of("a set less", self.one_less),
            of("10 % more gas", Some(self.more_gas)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("an hour would change by so much: {}", parts.join(", "))
    }
}

/// The best schedule for an island whose report is fresh.
pub(crate) fn schedule(given: &SiteInput, asked: &Asked<'_>) -> Schedule {
    let sets = Sets::of(given);
    let program = program(&sets);
    let mut island = Earns::new(given, asked, &sets);
    let (counts, _) = program.solve(&mut island);
    let margins = island.margins(counts[0]);
    let runs = |id: &GensetId, step: usize| {
        let place = sets.0.iter().position(|(set, ..)| *set == id);
        place.is_some_and(|place| place < counts[step])
    };
    Schedule { margins: Some(margins), ..Schedule::of(given, runs) }
}

impl Schedule {
    /// Everything goes on as it was asked for: nothing is known that would change it.
    pub(crate) fn held(given: &SiteInput, runs: impl Fn(&GensetId) -> bool) -> Self {
        Self::of(given, |id, _| runs(id))
    }

    fn of(given: &SiteInput, runs: impl Fn(&GensetId, usize) -> bool) -> Self {
        let site = &given.site;
        let now = site.gensets.keys().map(|id| (id.clone(), runs(id, 0))).collect();
        let change = |id: &GensetId| {
            let step = (1..STEPS).find(|&step| runs(id, step) != runs(id, 0))?;
            u32::try_from(step).ok()
        };
        let later = site.gensets.keys().filter_map(|id| Some((id.clone(), change(id)?))).collect();
        let state = |id| given.report.as_ref().and_then(|report| report.gensets.get(id));
        let mut ready: BTreeMap<&GensetId, Option<Span>> = BTreeMap::new();
        let steps = (0..STEPS).map(|step| {
            let begins = STEP.times(i64::try_from(step).unwrap_or(i64::MAX));
            let running: Vec<_> = site.gensets.iter().filter(|(id, _)| runs(id, step)).collect();
            for (id, set) in &site.gensets {
                let goes_on = if step == 0 { state(id) } else { None };
                let since = ready.get(id).copied().flatten();
                let ready_at = || since.or_else(|| carries_from(set, goes_on, begins, step == 0));
                ready.insert(id, runs(id, step).then(ready_at).flatten());
            }
            let carries = |id: &GensetId| ready.get(id).copied().flatten().is_some_and(|from| from <= begins);
            let carrying = running.iter().filter(|(id, _)| carries(id)).map(|(_, set)| *set);
            Ahead {
                rating: carrying.clone().map(|set| set.rating).sum(),
                fuel: Fuel::of(site, carrying),
                hourly: running.iter().map(|(_, set)| set.hour_cost).sum(),
            }
        });
        let steps = steps.collect();
        Self { now, later, steps, margins: None }
    }
}

/// From when on a set carries load that runs from `begins` on; `None` where it cannot be asked for.
fn carries_from(set: &Genset, report: Option<&GensetReport>, begins: Span, first: bool) -> Option<Span> {
    match report.map(|report| (report.state, report.for_span)) {
        Some((GensetState::Online, _)) => Some(Span::ZERO),
        Some((GensetState::Starting, elapsed)) => Some((set.start - elapsed).max(Span::ZERO)),
        Some((GensetState::Tripped | GensetState::Stopping, _)) => None,
        None if first => None,
        Some((GensetState::Off, _)) | None => Some(begins + set.start),
    }
}

fn program(sets: &Sets<'_>) -> Program {
    let of = |(_, set, report): &(&GensetId, &Genset, &GensetReport)| program::Set {
        carries: match report.state {
            GensetState::Online => Some(0),
            GensetState::Starting => Some(steps_in(set.start - report.for_span)),
            _ => None,
        },
        start: steps_in(set.start),
        start_cost: set.start_cost.get(),
        step_cost: set.hour_cost.fraction(STEP.get(), Span::hours(1).get()).get(),
        kept: set.start_cost.fraction(KEPT.0, KEPT.1).get(),
    };
    let range = (0..STEPS).map(|step| range(sets, STEP.times(step as i64)));
    let most =
        |of: fn(&Genset) -> Span| sets.0.iter().map(|(_, set, _)| steps_in(of(set))).max().unwrap_or(0);
    Program {
        sets: sets.0.iter().map(of).collect(),
        range: range.collect(),
        weights: std::iter::successors(Some(1_000), |weight| Some(weight * LATER / 1_000))
            .take(STEPS)
            .collect(),
        min_run: most(|set| set.min_run),
        min_off: most(|set| set.min_off),
    }
}

/// Fewest and most sets that may run so long from now.
fn range(sets: &Sets<'_>, later: Span) -> (usize, usize) {
    let must = |(_, set, report): &&(&GensetId, &Genset, &GensetReport)| {
        let starting = report.state == GensetState::Starting;
        let runs = starting || report.state == GensetState::Online;
        runs && report.for_span < set.min_run - later || starting && later == Span::ZERO
    };
    let rests = |(_, set, report): &&(&GensetId, &Genset, &GensetReport)| {
        report.state == GensetState::Off && report.for_span < set.min_off - later
    };
    let runs = sets.0.iter().any(|(.., report)| report.state != GensetState::Off);
    let least = sets.0.iter().filter(must).count().max(usize::from(runs));
    (least, sets.0.len() - sets.0.iter().filter(rests).count())
}

/// Whole steps, rounded up.
fn steps_in(span: Span) -> usize {
    usize::try_from(span.get().max(0).saturating_add(STEP.get() - 1) / STEP.get())
        .unwrap_or(usize::MAX)
        .min(STEPS)
}

/// Gas that arrives, by the report or else by the forecast, or else what the sets burn.
pub(crate) fn flow_now(given: &SiteInput) -> GasFlow {
    let Some(report) = &given.report else { return GasFlow::ZERO };
    let online = report.online().filter_map(|id| given.site.gensets.get(id));
    let burnt = Fuel::of(&given.site, online).gas_for(report.load.unwrap_or(Watts::ZERO));
    report.gas.or(given.forecast.first().map(|step| step.p50)).unwrap_or(burnt).at_least_zero()
}

/// Gas that is expected in a step.
pub(crate) fn gas_ahead(given: &SiteInput, now: GasFlow, step: usize) -> GasStep {
    let ahead = given.forecast.get(step).or(given.forecast.last());
    match (step, ahead) {
        (0, ahead) => {
            GasStep { p10: ahead.map_or(now, |ahead| ahead.p10.min(now)).at_least_zero(), p50: now }
        }
        (_, Some(ahead)) => GasStep { p10: ahead.p10.at_least_zero(), p50: ahead.p50.at_least_zero() },
        (_, None) => GasStep { p10: now, p50: now },
    }
}

/// The first so many sets.
fn first(count: usize) -> u16 {
    (0..count.min(program::MOST)).map(|nth| 1 << nth).sum()
}

/// What an island earns; everything is computed once.
struct Earns<'a> {
    given: &'a SiteInput,
    asked: &'a Asked<'a>,
    sets: &'a Sets<'a>,
    choices: BTreeMap<u16, Choice>,
    /// The gas that is expected, each different one once.
    gases: Vec<GasStep>,
    /// Which of it in each step.
    gas_of: Vec<usize>,
    /// By gas and by who carries load.
    known: Vec<Vec<Option<i64>>>,
    /// By gas and by how many run.
    may_start: Vec<Vec<Option<bool>>>,
}

impl<'a> Earns<'a> {
    fn new(given: &'a SiteInput, asked: &'a Asked<'a>, sets: &'a Sets<'a>) -> Self {
        let now = flow_now(given);
        let mut gases: Vec<GasStep> = Vec::new();
        let gas_of = (0..STEPS).map(|step| {
            let gas = gas_ahead(given, now, step);
            gases.iter().position(|known| *known == gas).unwrap_or_else(|| {
                gases.push(gas);
                gases.len() - 1
            })
        });
        let gas_of = gas_of.collect();
        let known = vec![vec![None; 1 << sets.0.len()]; gases.len()];
        let may_start = vec![vec![None; sets.0.len() + 1]; gases.len()];
        Self { given, asked, sets, choices: BTreeMap::new(), gases, gas_of, known, may_start }
    }

    fn choice(&mut self, mask: u16) -> &Choice {
        let (site, sets, opens) = (&self.given.site, self.sets, self.asked.opens);
        self.choices.entry(mask).or_insert_with(|| sets.choice(site, mask, opens))
    }

    fn margins(&mut self, count: usize) -> Margins {
        let GasStep { p10, p50 } = self.gases[self.gas_of[0]];
        let more = |flow: GasFlow| flow + flow.fraction(1, 10);
        let chosen = self.hourly(count, GasStep { p10, p50 });
        Margins {
            one_more: (count < self.sets.0.len())
                .then(|| self.hourly(count + 1, GasStep { p10, p50 }) - chosen),
            one_less: (count > 1).then(|| self.hourly(count - 1, GasStep { p10, p50 }) - chosen),
            more_gas: self.hourly(count, GasStep { p10: more(p10), p50: more(p50) }) - chosen,
        }
    }

    /// What an hour earns with the first so many sets, and these paid.
    fn hourly(&mut self, count: usize, gas: GasStep) -> MicroDollars {
        let (given, asked) = (self.given, self.asked);
        let paid: MicroDollars = self.sets.0[..count].iter().map(|(_, set, _)| set.hour_cost).sum();
        self.choice(first(count)).hourly(&given.site, asked, gas) - paid
    }
}

impl Gains for Earns<'_> {
    fn gain(&mut self, step: usize, carrying: u16) -> i64 {
        let gas = self.gas_of[step];
        if let Some(known) = self.known[gas][usize::from(carrying)] {
            return known;
        }
        let (given, asked, flow) = (self.given, self.asked, self.gases[gas]);
        let hourly = self.choice(carrying).hourly(&given.site, asked, flow);
        let gain = hourly.fraction(STEP.get(), Span::hours(1).get()).get();
        self.known[gas][usize::from(carrying)] = Some(gain);
        gain
    }

    fn may_start(&mut self, step: usize, count: usize) -> bool {
        let gas = self.gas_of[step];
        if let Some(known) = self.may_start[gas][count] {
            return known;
        }
        let (asked, flow) = (self.asked, self.gases[gas].p50);
        let may = self.choice(first(count)).may_start(asked, flow);
        self.may_start[gas][count] = Some(may);
        may
    }
}
