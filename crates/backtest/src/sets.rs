//! The generator sets of one simulated island, step by step: they obey the plan as a genset controller would, and break down as the
//! world says.
//!
//! Assumes steps of [`STEP`]. A set that starts carries load from the first step that begins after its start time. Read next:
//! [`crate::island`].

use std::collections::BTreeMap;

use model::fuel::Fuel;
use model::plan::STEP;
use model::report::{GensetReport, GensetState};
use model::site::Site;
use model::{GensetId, Span, Time, Watts};

/// How long sets have run when a replay begins: longer than any shortest run.
const RUNNING_SINCE: Span = Span::hours(24);

/// All sets of an island.
#[derive(Clone, Debug)]
pub(crate) struct Sets(BTreeMap<GensetId, Set>);

#[derive(Clone, Copy, Debug)]
struct Set {
    state: GensetState,
    since: Time,
    /// When a broken one can be started again.
    repaired: Time,
}

impl Sets {
    /// All sets online.
    pub(crate) fn new(site: &Site, now: Time) -> Self {
        let set = Set { state: GensetState::Online, since: now - RUNNING_SINCE, repaired: now };
        Self(site.gensets.keys().map(|id| (id.clone(), set)).collect())
    }

    /// Carries out what the plan wants; answers the sets that were told to start.
    pub(crate) fn obey(
        &mut self,
        wanted: &BTreeMap<GensetId, bool>,
        now: Time,
    ) -> impl Iterator<Item = &GensetId> {
        self.0.iter_mut().filter_map(move |(id, set)| {
            match (set.state, wanted.get(id).copied().unwrap_or(false)) {
                (GensetState::Off, true) => {
                    (set.state, set.since) = (GensetState::Starting, now);
                    Some(id)
                }
                (GensetState::Online | GensetState::Starting, false) => {
                    (set.state, set.since) = (GensetState::Off, now);
                    None
                }
                _ => None,
            }
        })
    }

    /// What those that carry load burn.
    pub(crate) fn fuel(&self, site: &Site) -> Fuel {
        Fuel::of(site, self.online().filter_map(|id| site.gensets.get(id)))
    }

    /// A set breaks down; answers whether it carried load.
    pub(crate) fn fail(&mut self, id: &GensetId, now: Time, repaired: Time) -> bool {
        let Some(set) = self.0.get_mut(id) else { return false };
        let carried = set.state == GensetState::Online;
        *set = Set { state: GensetState::Tripped, since: now, repaired: repaired.max(set.repaired) };
        carried
    }

    /// All that carry load stop at once: the island is dark. What is being started goes on, for that is the black start.
    pub(crate) fn stop_all(&mut self, now: Time) {
        for set in self.0.values_mut().filter(|set| set.state == GensetState::Online) {
            (set.state, set.since) = (GensetState::Off, now);
        }
    }

    /// What has happened by the end of the step that began at `now`: starts that are complete, repairs that are done.
    pub(crate) fn pass(&mut self, site: &Site, now: Time) {
        let end = now + STEP;
        for (id, set) in &mut self.0 {
            let start = site.gensets.get(id).map_or(Span::ZERO, |config| config.start);
            match set.state {
                GensetState::Starting if set.since + start <= end => {
                    (set.state, set.since) = (GensetState::Online, set.since + start);
                }
                GensetState::Tripped if set.repaired <= end => {
                    (set.state, set.since) = (GensetState::Off, set.repaired.min(end));
                }
                _ => {}
            }
        }
    }

    /// Those that carry load.
    pub(crate) fn online(&self) -> impl Iterator<Item = &GensetId> {
        self.0.iter().filter(|(_, set)| set.state == GensetState::Online).map(|(id, _)| id)
    }

    /// A sum over the sets that carry load.
    pub(crate) fn sum(&self, site: &Site, of: impl Fn(&model::site::Genset) -> Watts) -> Watts {
        self.online().filter_map(|id| site.gensets.get(id)).map(of).sum()
    }

    /// What the wired module says of them at `now`.
    pub(crate) fn report(&self, now: Time) -> BTreeMap<GensetId, GensetReport> {
        let of = |set: &Set| GensetReport { state: set.state, power: None, for_span: now.since(set.since) };
        self.0.iter().map(|(id, set)| (id.clone(), of(set))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::Id;
    use model::fuel::NO_LOAD_PERMILLE;
    use model::site::{Frequency, GasBuffer, GasVolume, Genset, Governor, HeatingBasis};
    use model::{MicroDollars, WattsPerSecond};

    fn id(text: &str) -> GensetId {
        Id::new(text).unwrap()
    }

    /// One set that takes `start` to carry load.
    fn site(start: Span) -> Site {
        let set = Genset {
            rating: Watts::kilo(250),
            min_load: Watts::kilo(75),
            step: Watts::kilo(60),
            ramp: WattsPerSecond::new(1_250),
            start,
            min_run: Span::minutes(30),
            min_off: Span::minutes(10),
            heat_rate: 9_500,
            basis: HeatingBasis::Higher,
            no_load_permille: NO_LOAD_PERMILLE,
            inertia: Span::new(1_200),
            start_cost: MicroDollars::dollars(3),
            hour_cost: MicroDollars::dollars(4),
        };
        Site {
            id: Id::new("well-7").unwrap(),
            nominal: Frequency::new(60_000),
            governor: Governor::Isochronous,
            gas: BTreeMap::new(),
            buffer: GasBuffer { capacity: GasVolume::ZERO },
            gensets: [(id("g1"), set)].into(),
            storage: None,
            grid: None,
            load_bank: Watts::ZERO,
            unmanaged: Watts::ZERO,
            gas_price: MicroDollars::ZERO,
            relay: true,
            simulated: true,
        }
    }

    fn at(step: i64) -> Time {
        Time::EPOCH + STEP.times(step)
    }

    fn state(sets: &Sets, step: i64) -> (GensetState, i64) {
        let report = sets.report(at(step))[&id("g1")];
        (report.state, report.for_span.get() / 60_000)
    }

    /// Steps after which a set that was told to start at once carries load.
    fn check_start(start: Span, steps: i64) {
        let site = site(start);
        let mut sets = Sets::new(&site, at(0));
        let wanted = |on| [(id("g1"), on)].into();
        assert_eq!(sets.obey(&wanted(false), at(0)).count(), 0);
        sets.pass(&site, at(0));
        assert_eq!(state(&sets, 1), (GensetState::Off, 5));
        assert_eq!(sets.obey(&wanted(true), at(1)).count(), 1, "a start is told of once");
        let begun = (1..9).find(|step| {
            sets.stop_all(at(*step));
            sets.pass(&site, at(*step));
            state(&sets, step + 1).0 == GensetState::Online
        });
        assert_eq!(begun, Some(steps), "{start}");
        assert_eq!(sets.sum(&site, |set| set.rating), Watts::kilo(250));
        assert_eq!(sets.obey(&wanted(true), at(9)).count(), 0);
    }

    #[test]
    fn a_set_carries_load_when_its_start_is_over_also_from_the_dark() {
        check_start(Span::ZERO, 1);
        check_start(Span::secs(90), 1);
        check_start(Span::minutes(5), 1);
        check_start(Span::minutes(7), 2);
        check_start(Span::minutes(11), 3);
    }

    #[test]
    fn a_broken_set_waits_for_its_repair_and_is_counted_when_it_carried_load() {
        let site = site(Span::secs(90));
        let mut sets = Sets::new(&site, at(0));
        assert!(sets.fail(&id("g1"), at(0), at(3)));
        assert!(!sets.fail(&id("g1"), at(1), at(2)), "it was broken already");
        assert!(!sets.fail(&id("g9"), at(1), at(2)), "nobody is called so");
        let seen: Vec<GensetState> = (0..4)
            .map(|step| {
                let wanted = [(id("g1"), true)].into();
                assert_eq!(sets.obey(&wanted, at(step)).count(), usize::from(step == 3));
                sets.pass(&site, at(step));
                state(&sets, step + 1).0
            })
            .collect();
        let (tripped, off, online) = (GensetState::Tripped, GensetState::Off, GensetState::Online);
        assert_eq!(seen, vec![tripped, tripped, off, online], "the later repair counts");
    }
}
