//! What several checkers need to know: who stands where, what was disturbed until when, what each island could carry of late.
//!
//! Fed from the truth once a second, before any checker looks. Read next: [`super::standing`] for one module.

use std::collections::{BTreeMap, VecDeque};

use model::envelope::Directive;
use model::fleet::Fleet;
use model::fuel::Fuel;
use model::report::{FeederState, GensetState, STALE_AFTER};
use model::site::{GasFlow, Site};
use model::{BootStamp, ModuleId, SiteId, Span, Time, Watts, WattsPerSecond};

use super::standing::{Agent, Standing};
use crate::bus::Happened;
use crate::fault::Kind;
use crate::truth::{Event, Truth, What};

/// Protective action excuses an island for so long: sets recover within 10 s (ISO 8528-5, class G1), and swings die out in as much
/// again. Until the last module has power after a blackout the time does not begin to run.
pub(super) const DISTURBED: Span = Span::secs(20);
/// From a report of the module until an agent has adopted what answers it, without any delay on the way.
const ANSWER: Span = Span::secs(5);
/// Capacities are kept for the longest that a grant may be under way and still raise anything: the usual validity of 120 s, with
/// [`STALE_AFTER`] and [`ANSWER`] before it.
const KEPT: Span = Span::secs(135);
/// Capacity that fell by more than this within [`KEPT`], thousandths, makes whoever stops work protect the island.
const FALLEN_PERMILLE: i64 = 950;
/// The gas buffer counts as the flow that empties it in a quarter of an hour: long enough for every checkpoint.
const BUFFER_SPAN: Span = Span::minutes(15);

/// What an island can carry, by its true sets and gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Now.
    pub(super) total: Watts,
    /// After the loss of its largest set.
    pub(super) firm: Watts,
}

/// One island.
#[derive(Clone, Debug)]
pub(super) struct Island {
    pub(super) site: Site,
    pub(super) modules: Vec<ModuleId>,
    pub(super) unmanaged: Watts,
    /// Block-load steps of the sets online, and their ramps.
    pub(super) step: Watts,
    pub(super) ramp: WattsPerSecond,
    pub(super) rating: Watts,
    /// What the sets online burn.
    fuel: Fuel,
    /// A feeder is stuck: the loss of a set would be the second failure.
    pub(super) stuck: bool,
    // Invariant: of the last `KEPT`, oldest first; one a second, so 136 at most.
    capacities: VecDeque<(Time, Capacity)>,
    disturbed: Option<Time>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) islands: BTreeMap<SiteId, Island>,
    pub(super) modules: BTreeMap<ModuleId, Standing>,
}

impl Scene {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let island = |site: &Site| {
            let modules = fleet.modules_of(&site.id).map(|module| module.id.clone()).collect();
            (site.id.clone(), Island::new(site, modules))
        };
        let standing = |module: &model::module::Module| (module.id.clone(), Standing::new(module));
        Self {
            islands: fleet.sites.iter().map(island).collect(),
            modules: fleet.modules.iter().map(standing).collect(),
        }
    }

    /// Takes in one second of an island. False when nobody described it.
    pub(super) fn second(&mut self, site: &SiteId, truth: &Truth, events: &[Event]) -> bool {
        let Some(island) = self.islands.get_mut(site) else { return false };
        let mut disturbed = !truth.energized || events.iter().any(|event| is_disturbance(&event.what));
        for (id, module) in &truth.modules {
            let Some(standing) = self.modules.get_mut(id) else { continue };
            disturbed |= !module.energized;
            for (group, now) in &module.groups {
                let before = standing.feeders.insert(group.clone(), now.feeder);
                disturbed |= before == Some(FeederState::Closed) && now.feeder != FeederState::Closed;
            }
            standing.observe(truth.now);
        }
        // Engines that starve are nobody's choice.
        disturbed |= truth.gas.buffer.get() <= 0 && truth.gas.inflow < island.fuel.gas_for(truth.carried);
        if disturbed {
            island.disturbed = Some(truth.now);
        }
        island.stuck |= events.iter().any(|event| matches!(event.what, What::Fault(Kind::FeederStuck(..))));
        island.second(truth);
        true
    }

    pub(super) fn adopt(&mut self, module: &ModuleId, at: Time, boot: &BootStamp, directive: &Directive) {
        if let Some(standing) = self.modules.get_mut(module) {
            standing.adopt(at, boot, directive);
        }
    }

    /// An agent starts or ends. One that starts reads its directive back from its disk: what it held goes on.
    pub(super) fn agent(&mut self, module: &ModuleId, at: Time, up: bool) {
        if let Some(standing) = self.modules.get_mut(module) {
            standing.agent = if up { Agent::Up } else { Agent::Down };
            if up {
                standing.up_since.get_or_insert(at);
            }
            standing.observe(at);
        }
    }

    pub(super) fn island_of(&self, module: &ModuleId) -> Option<&Island> {
        self.islands.get(&self.modules.get(module)?.module.site)
    }

    /// The sums that count against an island's capacity: of max(unexpired ceiling, fallback ceiling), and of fallback ceilings.
    pub(super) fn granted(&self, island: &Island, now: Time) -> (Watts, Watts) {
        let standings = island.modules.iter().filter_map(|id| self.modules.get(id));
        standings
            .map(|standing| standing.counts(now))
            .fold((Watts::ZERO, Watts::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Island {
    fn new(site: &Site, modules: Vec<ModuleId>) -> Self {
        Self {
            site: site.clone(),
            modules,
            unmanaged: Watts::ZERO,
            step: Watts::ZERO,
            ramp: WattsPerSecond::ZERO,
            rating: Watts::ZERO,
            fuel: Fuel::of(site, []),
            stuck: false,
            capacities: VecDeque::new(),
            disturbed: None,
        }
    }

    /// Something protective happened within [`DISTURBED`].
    pub(super) fn is_disturbed(&self, now: Time) -> bool {
        self.disturbed.is_some_and(|at| now - at <= DISTURBED)
    }

    /// The most the island could carry at any time that an adoption of `now` may rest on; `None` before it was ever seen. `age` is the
    /// time since the module's report that it answers; the island's own may have been [`STALE_AFTER`] older. Capacity that falls is
    /// nobody's breach.
    pub(super) fn best(&self, now: Time, age: Span) -> Option<Capacity> {
        let since = now - age.max(ANSWER) - STALE_AFTER;
        let better = |one: Capacity, other: &Capacity| Capacity {
            total: one.total.max(other.total),
            firm: one.firm.max(other.firm),
        };
        let known = self.capacities.iter().filter(|(at, _)| *at >= since).map(|(_, capacity)| capacity);
        known.fold(None, |best, one| Some(best.map_or(*one, |best| better(best, one))))
    }

    /// Gas or sets fell short of late.
    pub(super) fn has_fallen(&self) -> bool {
        let best = self.capacities.iter().map(|(_, capacity)| capacity.total).max().unwrap_or(Watts::ZERO);
        let now = self.capacities.back().map_or(Watts::ZERO, |(_, capacity)| capacity.total);
        now < best.fraction(FALLEN_PERMILLE, 1_000)
    }

    fn second(&mut self, truth: &Truth) {
        let online = |id: &&model::GensetId| {
            truth.gensets.get(*id).is_some_and(|set| set.state == GensetState::Online)
        };
        let (mut largest, mut rating) = (Watts::ZERO, Watts::ZERO);
        (self.step, self.ramp) = (Watts::ZERO, WattsPerSecond::ZERO);
        for id in self.site.gensets.keys().filter(online) {
            let Some(set) = self.site.gensets.get(id) else { continue };
            rating += set.rating;
            largest = largest.max(set.rating);
            self.step += set.step;
            self.ramp += set.ramp;
        }
        self.rating = rating;
        let running = self.site.gensets.iter().filter(|(id, _)| online(id));
        self.fuel = Fuel::of(&self.site, running.map(|(_, set)| set));
        self.unmanaged = truth.unmanaged.power;
        let spread = GasFlow::new(truth.gas.buffer.get()).fraction(Span::hours(24).get(), BUFFER_SPAN.get());
        let gas = self.fuel.electric(truth.gas.inflow + spread);
        // Storage helps where gas is short, and never beyond the sets: they must be able to take over.
        let stored = truth.storage.filter(|storage| storage.ready).map_or(Watts::ZERO, |storage| {
            let rating = self.site.storage.as_ref().map_or(Watts::ZERO, |config| config.power);
            storage.held.over(BUFFER_SPAN).min(rating)
        });
        // A grid tie likewise; nothing firm rests on it.
        let imported = truth.grid.filter(|tie| tie.ready).and(self.site.grid.as_ref());
        let imported = imported.map_or(Watts::ZERO, |config| config.import);
        let total = rating.min(gas + stored + imported);
        let capacity = Capacity { total, firm: (rating - largest).min(gas) };
        self.capacities.push_back((truth.now, capacity));
        let old = truth.now - KEPT;
        while self.capacities.front().is_some_and(|(at, _)| *at < old) {
            self.capacities.pop_front();
        }
    }
}

/// Whether an event excuses what follows it: something tripped, or lost or regained power.
fn is_disturbance(what: &What) -> bool {
    match what {
        What::Bus(Happened::Tripped(..) | Happened::Blackout) | What::PowerLost(..) | What::PowerBack(_) => {
            true
        }
        What::Fault(kind) => {
            matches!(kind, Kind::GensetTrip(_) | Kind::LoadRejection | Kind::StorageTrip | Kind::TieTrip)
        }
        What::Bus(Happened::Online(_) | Happened::Off(_) | Happened::Breach(_)) | What::Refused(..) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{fleet, site_id, trip, truth};
    use super::*;

    #[test]
    fn capacity_is_the_smaller_of_sets_and_gas_and_is_remembered_for_a_report() {
        let mut scene = Scene::new(&fleet());
        let mut truth = truth(0);
        let mut best = |second: i64, rich: bool, age: i64| {
            truth.now = Time(second * 1_000);
            truth.gas.inflow = if rich { GasFlow::mcf(500) } else { GasFlow::mcf(10) };
            truth.gas.buffer = model::site::GasVolume::new(300);
            assert!(scene.second(&site_id(), &truth, &[]));
            let best = scene.islands[&site_id()].best(truth.now, Span::new(age)).unwrap();
            (best.total.get() / 1_000, best.firm.get() / 1_000)
        };
        assert_eq!(best(0, true, 0), (500, 250));
        assert_eq!(best(10, false, 0), (500, 250), "a decision may still rest on the old report");
        assert_eq!(best(70, false, 60_000), (500, 250), "an answer that was a minute under way");
        let poor = best(90, false, 1_000);
        assert!(poor.0 > 120 && poor.0 < 250, "10 MCF/day and the buffer: {poor:?}");
        assert_eq!(poor.0, poor.1);
    }

    #[test]
    fn a_trip_and_an_opened_feeder_disturb_for_a_while() {
        let mut scene = Scene::new(&fleet());
        scene.second(&site_id(), &truth(0), &[]);
        assert!(!scene.islands[&site_id()].is_disturbed(Time(0)));
        scene.second(&site_id(), &truth(1), &[trip(1, "g1")]);
        let disturbed =
            |scene: &Scene, second: i64| scene.islands[&site_id()].is_disturbed(Time(second * 1_000));
        assert!(disturbed(&scene, 21) && !disturbed(&scene, 22));
        let mut open = truth(30);
        open.modules.values_mut().next().unwrap().groups.values_mut().next().unwrap().feeder =
            FeederState::Moving;
        scene.second(&site_id(), &open, &[]);
        assert!(disturbed(&scene, 50) && !disturbed(&scene, 51));
        assert!(!scene.second(&model::SiteId::new("nowhere").unwrap(), &open, &[]));
    }
}
