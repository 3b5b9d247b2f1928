//! What the planner gets to see: the first input, and what a miner group says of itself after a step.
//!
//! It is what agents report: draw and settings, gas and sets of the step that has passed; nothing of what is to come. Used by
//! [`crate::engine`].

use std::collections::BTreeMap;

use model::envelope::Fence;
use model::fleet::Fleet;
use model::module::{MinerGroup, Module};
use model::report::{
    EnvelopeReport, EnvelopeState, FeederState, GroupReport, PoolReport, Report, SiteReport, Switch,
};
use model::site::{GasFlow, Site};
use model::{BootStamp, SiteId, Span, Time};
use planner::{Input, Link, ModuleInput, SiteInput};

use crate::groups::Group;
use crate::island::{GroupLoad, Tank};
use crate::sets::Sets;
use crate::world::World;

/// What a group says after a step in which it got what `load` says.
pub(crate) fn group(report: &mut GroupReport, load: &GroupLoad, group: &Group, config: &MinerGroup) {
    let above = group.draw(config).fraction(load.served.get(), load.asked.get().max(1));
    report.awake = group.at.awake;
    report.point = group.at.point;
    report.power = Some(config.draw(0, 0) + above);
}

/// What is known when a replay begins: sets online, buffers partly full, everything asleep.
pub(crate) fn first(
    world: &World,
    fleet: &Fleet,
    sets: &BTreeMap<SiteId, Sets>,
    tanks: &BTreeMap<SiteId, Tank>,
) -> Input {
    let site = |site: &Site| {
        let report = SiteReport {
            frequency: Some(site.nominal),
            gas: first_flow(world, &site.id),
            buffer: tanks.get(&site.id).map(|tank| tank.held),
            flared: None,
            load: Some(site.unmanaged),
            unmanaged: Some(site.unmanaged),
            gensets: sets.get(&site.id).map(|sets| sets.report(world.start)).unwrap_or_default(),
            storage: None,
            grid: None,
        };
        // The plant's load banks take what the sets' minimum loads want.
        let banked = Site { load_bank: site.rating(), ..site.clone() };
        let given = SiteInput { site: banked, forecast: Vec::new(), report: Some(report), fresh: true };
        (site.id.clone(), given)
    };
    let module = |module: &Module| {
        let given = ModuleInput {
            module: module.clone(),
            link: Link::Online,
            cordoned: false,
            draining: false,
            report: Some(report(module, world.start)),
        };
        (module.id.clone(), given)
    };
    Input {
        now: world.start,
        parent: None,
        sites: fleet.sites.iter().map(site).collect(),
        modules: fleet.modules.iter().map(module).collect(),
        workloads: BTreeMap::new(),
        market: world.markets[0],
        touched: None,
    }
}

/// The last flow that was seen before the begin, or the first of all where none was.
fn first_flow(world: &World, site: &SiteId) -> Option<GasFlow> {
    let before = world.before.gas.get(site).and_then(|flows| flows.last());
    before.or(world.gas.get(site).and_then(|flows| flows.first())).copied()
}

fn report(module: &Module, at: Time) -> Report {
    let group = |config: &MinerGroup| GroupReport {
        feeder: FeederState::Closed,
        awake: 0,
        point: 0,
        power: Some(config.draw(0, 0)),
        claimed: None,
        verified: None,
        connections: config.count,
    };
    Report {
        module: module.id.clone(),
        sequence: 1,
        stamp: BootStamp { boot_id: String::new(), at: Span::ZERO },
        at,
        meter: None,
        switch: Switch::Remote,
        groups: module.groups.iter().map(|(id, config)| (id.clone(), group(config))).collect(),
        pools: module
            .pools
            .iter()
            .map(|(id, pool)| (id.clone(), PoolReport { up: pool.servers, power: None }))
            .collect(),
        runs: BTreeMap::new(),
        envelope: EnvelopeReport {
            fence: Fence::default(),
            generation: 0,
            state: EnvelopeState::Valid,
            ceiling: module.most(),
            refused: None,
        },
        site: None,
        findings: Vec::new(),
    }
}
