//! The generator sets of one simulated island, step by step: they obey the plan as a genset controller would, and break down as the
//! world says.
//!
//! Assumes steps of [`STEP`]. A set that starts carries load from the first step that begins after its start time. Read next:
//! [`crate::island`].

use std::collections::BTreeMap;

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
