//! An island as somebody else's plant left it: sets, gas, miners and runs are set, and the bus is in balance with them.
//!
//! For replays in steps of 10 ms of what another model stepped by minutes. Gas flows steadily, and what runs is past its restart.
//! What is not described begins as in [`Island::new`]. Read next: [`super`].

use std::collections::BTreeMap;

use model::envelope::Assignment;
use model::module::Module;
use model::plan::GroupTarget;
use model::report::GensetState;
use model::site::{GasFlow, GasVolume, Site};
use model::{GensetId, MinerGroupId, ModuleId, SiteId, Span, Time, WorkloadId};

use super::{Island, Options};
use crate::plant;

/// What is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Where each set stands, and for how long; one that is missing is off.
    pub gensets: BTreeMap<GensetId, (GensetState, Span)>,
    /// Gas from all wells together.
    pub flow: GasFlow,
    /// Gas in the buffer.
    pub buffer: GasVolume,
    /// What the miners of each group do; those of a group that is missing sleep.
    pub miners: BTreeMap<(ModuleId, MinerGroupId), GroupTarget>,
    /// What runs in each module.
    pub runs: BTreeMap<ModuleId, BTreeMap<WorkloadId, Assignment>>,
}

/// Why there can be no such island.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No set carries load.
    #[error("no set of site {0} carries load; find it at another time")]
    Dark(SiteId),
    /// A module does not take what was found in it.
    #[error("module {module} cannot be found so: {why}")]
    Misfit {
        /// Which.
        module: ModuleId,
        /// What it says.
        why: String,
    },
}

impl Island {
    /// The island `site` as it is found at `start`, with those of `modules` that stand on it. `seed` is for the miners' noise.
    pub fn found(
        site: &Site,
        modules: &[Module],
        seed: u64,
        start: Time,
        found: &Found,
    ) -> Result<Self, Error> {
        let options = Options { gas_variability: 0.0, load_permille: 0, ..Options::default() };
        let mut island = Self::new(site, modules, seed, start, options);
        for set in &mut island.bus.sets {
            let (state, ran) = found.gensets.get(&set.id).copied().unwrap_or((GensetState::Off, Span::ZERO));
            set.find(state, start - ran);
        }
        island.bus.live = island.bus.sets.iter().any(crate::genset::Set::on_bus);
        if !island.bus.live {
            return Err(Error::Dark(site.id.clone()));
        }
        island.gas.find(found.flow, found.buffer, start);
        for plant in &mut island.plants {
            let module = plant.id.clone();
            let none = BTreeMap::new();
            let runs = found.runs.get(&module).unwrap_or(&none);
            let target = |group: &MinerGroupId| found.miners.get(&(module.clone(), group.clone())).copied();
            let fits = plant.find(target, runs, start);
            fits.map_err(|why: plant::Refused| Error::Misfit {
                module: module.clone(),
                why: why.to_string(),
            })?;
        }
        let load = island.load_at_nominal();
        island.bus.settle(load);
        island.extremes = (island.bus.frequency, island.bus.frequency);
        island.lan = island.breakers();
        Ok(island)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::report::RunPhase;
    use model::workload::{GpuTime, Placement, Tier};
    use model::{Id, MicroDollars, Watts};

    use super::*;
    use crate::reference;

    const START: Time = Time(1_700_000_000_000);

    fn id<K: model::id::Kind>(text: &str) -> Id<K> {
        Id::new(text).unwrap()
    }

    fn assignment(server: u32, gpus: u32) -> Assignment {
        let placement = Placement {
            module: id("well-7-gpu"),
            pool: id("dgx"),
            servers: vec![(server, gpus)],
            incarnation: 3,
        };
        Assignment {
            tenant: id("acme"),
            tier: Tier::Firm,
            placement,
            remaining: Some(GpuTime::of(8, Span::hours(2))),
            start_from: GpuTime::ZERO,
            checkpoint: Span::minutes(10),
            save: Span::secs(30),
            restart: Span::minutes(4),
            price: MicroDollars::cents(235),
            keep_without_link: Span::minutes(10),
            by_progress: false,
        }
    }

    /// Three sets, one of them just begun; half of the miners of one group; one run.
    fn found() -> Found {
        let set = |name: &str, state, ran| (id(name), (state, ran));
        Found {
            gensets: BTreeMap::from([
                set("g1", GensetState::Online, Span::hours(5)),
                set("g2", GensetState::Online, Span::minutes(5)),
                set("g3", GensetState::Starting, Span::secs(60)),
                set("g4", GensetState::Tripped, Span::hours(1)),
            ]),
            flow: GasFlow::mcf(120),
            buffer: GasVolume::new(1_234),
            miners: [((id("well-7-mine"), id("a")), GroupTarget { awake: 30, point: 0 })].into(),
            runs: [(id("well-7-gpu"), [(id("w"), assignment(2, 8))].into())].into(),
        }
    }

    fn island(found: &Found) -> Result<Island, Error> {
        let fleet = reference::fleet();
        Island::found(&fleet.sites[0], &fleet.modules, 1, START, found)
    }

    #[test]
    fn what_was_found_is_what_is_true_and_the_bus_is_at_rest() {
        let mut island = island(&found()).unwrap();
        let first = island.truth();
        let state = |name: &str| first.gensets[&id(name)].state;
        assert_eq!(
            ["g1", "g2", "g3", "g4"].map(state),
            [GensetState::Online, GensetState::Online, GensetState::Starting, GensetState::Tripped]
        );
        assert_eq!((first.gas.inflow, first.gas.buffer), (GasFlow::mcf(120), GasVolume::new(1_234)));
        let mine = &first.modules[&id("well-7-mine")];
        // 30 miners at 2,600 W, 30 asleep.
        assert_eq!((mine.groups[&id("a")].awake, mine.groups[&id("b")].awake), (30, 0));
        assert_eq!(mine.groups[&id("a")].mining.power, Watts::new(30 * 2_600 + 30 * 25));
        let run = &first.modules[&id("well-7-gpu")].runs[&(id("w"), 3)];
        assert_eq!((run.report.phase, run.ai.power), (RunPhase::Running, Watts::new(10_200)));
        for _ in 0..500 {
            island.step();
        }
        let later = island.truth();
        let swing = (later.zenith - later.nadir).get();
        assert!(swing < 100, "only the miners' noise moves it: {swing} mHz");
        (0..3_000).for_each(|_| island.step());
        assert_eq!(
            island.truth().gensets[&id("g3")].state,
            GensetState::Online,
            "90 s after its start began"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let check = |change: &dyn Fn(&mut Found), part: &str| {
            let mut found = found();
            change(&mut found);
            let error = island(&found).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{error}");
        };
        check(&|found| found.gensets.clear(), "no set of site well-7 carries load");
        let beyond = |found: &mut Found| {
            found.runs.insert(id("well-7-gpu"), [(id("w"), assignment(99, 8))].into());
        };
        check(&beyond, "module well-7-gpu cannot be found so: the placement names servers");
    }
}
