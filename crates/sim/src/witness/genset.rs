//! Invariant 3, genset: by choice nothing breaks a load-step, ramp, minimum-load, frequency or running-time limit of the sets.
//!
//! By choice = while the island is not disturbed ([`super::scene::DISTURBED`]): a reflex drop and what swings back from it answer a
//! loss. Steps are the island's net rise between samples of its load 100 ms apart. Read next: [`rise`] for windows of load.

mod rise;

use std::collections::BTreeMap;

use model::report::{FeederState, GensetState};
use model::site::{Frequency, Governor};
use model::{GensetId, MinerGroupId, ModuleId, SiteId, Span, Time, Watts};

use super::View;
use super::book::{Book, Edge, Fault, Invariant};
use super::scene::Island;
use super::standing::{Agent, Rule, Standing};
use crate::bus::{BreachKind, Happened};
use crate::truth::{GensetTruth, GroupTruth, What};
use rise::Window;

/// A step counts over so long: the first answer of a governor is over by then.
const STEP_SPAN: Span = Span::secs(1);
/// A ramp counts over so long.
const RAMP_SPAN: Span = Span::secs(60);
/// Frequency may stray from what the governor mode leads to expect by so much of nominal, thousandths.
const FREQUENCY_PERMILLE: i64 = 25;
/// A set may stay below its minimum load for so long while there was load to place.
const BELOW_FOR: Span = Span::secs(60);
/// Load that rose by more than this share of the rating within [`BELOW_FOR`], thousandths, is being placed.
const RISING_PERMILLE: i64 = 10;
/// Miners' noise and the loads' answer to frequency, of the load in thousandths and at least: 0.3 % noise, thrice.
const NOISE_PERMILLE: i64 = 10;
const NOISE_LEAST: Watts = Watts::new(1_000);

#[derive(Clone, Debug, Default)]
pub(super) struct Genset {
    islands: BTreeMap<SiteId, State>,
}

#[derive(Clone, Debug)]
struct State {
    step: Window,
    ramp: Window,
    steep: Edge,
    long: Edge,
    frequency: Edge,
    below: BTreeMap<GensetId, Below>,
    sets: BTreeMap<GensetId, Seen>,
    /// For each group the miners awake and when that last changed.
    awake: BTreeMap<(ModuleId, MinerGroupId), (u32, Option<Time>)>,
}

/// Since when a set has been below its minimum load while there was load to place.
#[derive(Clone, Copy, Debug, Default)]
struct Below {
    since: Option<Time>,
    told: Edge,
}

/// A set as it was seen: `entered` when it came into this state before our eyes.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: GensetState,
    entered: Option<Time>,
}

impl Genset {
    /// One sample of the island's load.
    pub(super) fn load(&mut self, island: &Island, now: Time, load: Watts, book: &mut Book) {
        let state = self.islands.entry(island.site.id.clone()).or_default();
        if island.is_disturbed(now) || island.step <= Watts::ZERO {
            state.step.clear();
            state.ramp.clear();
            return;
        }
        let noise = load.fraction(NOISE_PERMILLE, 1_000).max(NOISE_LEAST);
        let long = island.step + Watts::new(island.ramp.get()).times(RAMP_SPAN.millis() / 1_000);
        let (short_rise, long_rise) = (state.step.rise(now, load), state.ramp.rise(now, load));
        let steep = state.steep.rises(short_rise > island.step + noise);
        let far = state.long.rises(long_rise > long + noise);
        let what = |rise, span: Span, limit| {
            format!("rose by {rise} within {} s; the sets online take {limit}", span.millis() / 1_000)
        };
        let subject = || format!("site {}", island.site.id);
        let fault = steep.then(|| Fault::new(subject(), what(short_rise, STEP_SPAN, island.step)));
        book.check(Invariant::Genset, now, fault);
        let fault = far.then(|| Fault::new(subject(), what(long_rise, RAMP_SPAN, long)));
        book.check(Invariant::Genset, now, fault);
    }

    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        let state = self.islands.entry(view.island.site.id.clone()).or_default();
        let calm = !view.island.is_disturbed(view.truth.now);
        state.follow_miners(view);
        state.frequency(view, calm, book);
        state.breaches(view, calm, book);
        for (id, set) in &view.truth.gensets {
            state.running_time(view, id, set, book);
            state.minimum_load(view, id, set, calm, book);
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            step: Window::new(STEP_SPAN),
            ramp: Window::new(RAMP_SPAN),
            steep: Edge::default(),
            long: Edge::default(),
            frequency: Edge::default(),
            below: BTreeMap::new(),
            sets: BTreeMap::new(),
            awake: BTreeMap::new(),
        }
    }
}

impl State {
    fn follow_miners(&mut self, view: View<'_>) {
        for (module, truth) in &view.truth.modules {
            for (group, truth) in &truth.groups {
                let key = (module.clone(), group.clone());
                let seen = self.awake.entry(key).or_insert((truth.awake, None));
                if seen.0 != truth.awake {
                    *seen = (truth.awake, Some(view.truth.now));
                }
            }
        }
    }

    fn frequency(&mut self, view: View<'_>, calm: bool, book: &mut Book) {
        let Some(now) = view.truth.frequency.filter(|_| calm) else { return };
        let island = view.island;
        let expected = expected(island, view.truth.carried);
        let strays = (now - expected).abs() > island.site.nominal.fraction(FREQUENCY_PERMILLE, 1_000);
        let fault = self.frequency.rises(strays).then(|| {
            let what = format!("frequency {now} strays from the expected {expected} with nothing lost");
            Fault::new(format!("site {}", island.site.id), what)
        });
        book.check(Invariant::Genset, view.truth.now, fault);
    }

    /// Blocks that a set met, as its own protection saw them. Minimum load is judged below, by what could have been placed.
    fn breaches(&mut self, view: View<'_>, calm: bool, book: &mut Book) {
        for event in view.events {
            let What::Bus(Happened::Breach(breach)) = &event.what else { continue };
            if !calm || breach.aftermath || breach.kind != BreachKind::BlockStep {
                continue;
            }
            let what = format!("met a block of {:.0} W; it takes {:.0} W", breach.seen, breach.limit);
            let subject = format!("site {} genset {}", view.island.site.id, breach.set);
            book.check(Invariant::Genset, event.at, Some(Fault::new(subject, what)));
        }
    }

    fn running_time(&mut self, view: View<'_>, id: &GensetId, set: &GensetTruth, book: &mut Book) {
        let Some(config) = view.island.site.gensets.get(id) else { return };
        let seen = self.sets.entry(id.clone()).or_insert(Seen { state: set.state, entered: None });
        if seen.state == set.state {
            return;
        }
        let early = |least: Span| seen.entered.map(|entered| set.since - entered).filter(|ran| *ran < least);
        let fault = match (seen.state, set.state) {
            (GensetState::Online, GensetState::Stopping | GensetState::Off) => early(config.min_run)
                .map(|ran| format!("was stopped after {ran}; it runs for {} at least", config.min_run)),
            (GensetState::Off, GensetState::Starting | GensetState::Online) => early(config.min_off)
                .map(|ran| format!("was started after {ran}; it rests for {} at least", config.min_off)),
            _ => None,
        };
        // A set that was called off while it started, or reset by a person, need not rest.
        let free = matches!(seen.state, GensetState::Starting | GensetState::Tripped);
        let rests = !(free && set.state == GensetState::Off);
        *seen = Seen { state: set.state, entered: Some(set.since).filter(|_| rests) };
        let subject = format!("site {} genset {id}", view.island.site.id);
        book.check(Invariant::Genset, view.truth.now, fault.map(|what| Fault::new(subject, what)));
    }

    fn minimum_load(
        &mut self,
        view: View<'_>,
        id: &GensetId,
        set: &GensetTruth,
        calm: bool,
        book: &mut Book,
    ) {
        let Some(config) = view.island.site.gensets.get(id) else { return };
        let now = view.truth.now;
        let low = calm
            && set.state == GensetState::Online
            && set.weight_permille >= 1_000
            && set.power < config.min_load
            && !self.is_rising(view)
            && self.placeable(view) >= lacking(view);
        let below = self.below.entry(id.clone()).or_default();
        below.since = low.then(|| below.since.unwrap_or(now));
        let long = below.since.is_some_and(|since| now - since > BELOW_FOR);
        let fault = below.told.rises(long).then(|| {
            let what = format!(
                "carried {} for over a minute, {} is its least; miners slept",
                set.power, config.min_load
            );
            Fault::new(format!("site {} genset {id}", view.island.site.id), what)
        });
        book.check(Invariant::Genset, now, fault);
    }

    fn is_rising(&self, view: View<'_>) -> bool {
        self.ramp.rise_to_now() > view.island.rating.fraction(RISING_PERMILLE, 1_000)
    }

    /// Watts of miners that could be awake: not behind an open feeder, out of their dwell, under their module's limits and ceiling,
    /// with an agent and a controller to wake them.
    fn placeable(&self, view: View<'_>) -> Watts {
        let module = |(id, truth): (&ModuleId, &crate::truth::ModuleTruth)| {
            let Some(standing) = view.scene.modules.get(id) else { return Watts::ZERO };
            if !standing.link
                || standing.agent == Agent::Down
                || standing.rule(view.truth.now) != Rule::Envelope
            {
                return Watts::ZERO;
            }
            let group = |(group, truth): (&MinerGroupId, &GroupTruth)| {
                let key = (id.clone(), group.clone());
                let changed = self.awake.get(&key).and_then(|seen| seen.1);
                sleeping(standing, group, truth, changed.map(|at| view.truth.now - at))
            };
            let asleep: Watts = truth.groups.iter().map(group).sum();
            asleep.min((standing.module.most() - truth.total.power).at_least_zero())
        };
        view.truth.modules.iter().map(module).sum()
    }
}

/// What a group's sleeping miners would add, unless its miners were reversed `ago` within their dwell.
fn sleeping(standing: &Standing, id: &MinerGroupId, group: &GroupTruth, ago: Option<Span>) -> Watts {
    let Some(config) = standing.module.groups.get(id) else { return Watts::ZERO };
    let resting = ago.is_some_and(|ago| ago < config.dwell);
    if resting || group.feeder != FeederState::Closed {
        return Watts::ZERO;
    }
    (config.full().power - config.standby).times(config.count.saturating_sub(group.awake).into())
}

/// What all sets online lack of their minimum loads.
fn lacking(view: View<'_>) -> Watts {
    let lack = |(id, set): (&GensetId, &GensetTruth)| {
        let config = view.island.site.gensets.get(id).filter(|_| set.state == GensetState::Online)?;
        Some((config.min_load - set.power).at_least_zero())
    };
    view.truth.gensets.iter().filter_map(lack).sum()
}

/// Frequency at this load by the governor mode.
fn expected(island: &Island, load: Watts) -> Frequency {
    let nominal = island.site.nominal;
    match island.site.governor {
        Governor::Isochronous => nominal,
        Governor::Droop { permille } => {
            let share = load.ratio(island.rating).unwrap_or(0.0).clamp(0.0, 1.0);
            nominal - Frequency::from_f64(nominal.as_f64() * f64::from(permille) / 1_000.0 * share)
        }
    }
}

#[cfg(test)]
mod tests;
