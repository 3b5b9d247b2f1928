//! One module while a plan is being made: what runs there, what it will draw, and what room is left.
//!
//! Loads are counted behind the module's distribution loss; ceilings and limits stand at its meter. A module out of touch is
//! *frozen*: the plan repeats what its agent was last told and keeps its watts back. Read next: `assign`, `mining`.

use std::collections::BTreeMap;

use model::cap::FULL;
use model::module::{GpuPool, MinerGroup, Module};
use model::plan::{GroupTarget, ModulePlan};
use model::report::{FeederState, GroupReport};
use model::workload::{Placement, Tier, Workload};
use model::{MinerGroupId, ModuleId, Pace, PoolId, Watts, WorkloadId};

use crate::elastic::Elastic;
use crate::input::{Link, ModuleInput};
use crate::security::FAST;

/// Ceilings stand this much above the expected draw, for metering error and the grain of regulation: 1 %.
pub(crate) const HEADROOM_PERMILLE: i64 = 10;

/// One module in the making.
#[derive(Clone, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) id: &'a ModuleId,
    pub(crate) input: &'a ModuleInput,
    /// Most its ceiling may be.
    pub(crate) limit: Watts,
    /// The same, were no firm work beside it: see `beside`.
    pub(crate) open: Watts,
    /// Firm runs here.
    pub(crate) firm: u32,
    /// Busy GPUs of runs that draw now and that nobody stops by choice.
    pub(crate) lasting: Watts,
    /// Its miners' settings may not be raised above these, where news of it or its island are old.
    pub(crate) held: Option<BTreeMap<MinerGroupId, GroupTarget>>,
    /// What it was last told, where it is out of touch.
    pub(crate) frozen: Option<ModulePlan>,
    /// Whether a new run may be placed here.
    pub(crate) accepts: bool,
    /// Auxiliaries, standby and idle servers.
    pub(crate) base: Watts,
    /// Busy GPUs, by tier.
    pub(crate) busy: BTreeMap<Tier, Watts>,
    /// Busy GPUs of runs that are being stopped.
    pub(crate) leaving: Watts,
    /// Miners above standby.
    pub(crate) mining: Watts,
    /// What each group shall do.
    pub(crate) miners: BTreeMap<MinerGroupId, GroupTarget>,
    /// Free GPUs of each server.
    pub(crate) free: BTreeMap<PoolId, Vec<u32>>,
    /// GPUs of each server that become free when what is being stopped has left.
    pub(crate) freeing: BTreeMap<PoolId, Vec<u32>>,
    /// What runs here.
    pub(crate) runs: BTreeMap<WorkloadId, Placement>,
    /// Those of them that may be slowed; `busy` counts them as they are planned.
    pub(crate) elastic: BTreeMap<WorkloadId, Elastic>,
    /// Power caps that the plan in force has for runs here.
    pub(crate) told: BTreeMap<WorkloadId, Watts>,
}

impl<'a> Slot<'a> {
    /// An empty module. `raise` tells whether the island lets anything be raised; `parent` is what the module was last granted.
    pub(crate) fn new(
        id: &'a ModuleId,
        input: &'a ModuleInput,
        parent: Option<&ModulePlan>,
        raise: bool,
    ) -> Self {
        let module = &input.module;
        let granted = parent.map_or(Watts::ZERO, |parent| parent.ceiling);
        let most = module.most().at_least_zero();
        let raise = raise && input.link == Link::Online;
        let limit = if raise { most } else { most.min(granted) };
        let held = (!raise).then(|| parent.map_or(BTreeMap::new(), |parent| parent.miners.clone()));
        let up = |pool: &PoolId, config: &GpuPool| {
            let report = input.report.as_ref().and_then(|report| report.pools.get(pool));
            report.map_or(config.servers, |report| report.up.min(config.servers))
        };
        let gpus = |pool: &PoolId, config: &GpuPool, free: u32| {
            (0..config.servers).map(|server| if server < up(pool, config) { free } else { 0 }).collect()
        };
        let pools = module.pools.iter();
        let mut slot = Self {
            id,
            input,
            limit,
            open: limit,
            firm: 0,
            lasting: Watts::ZERO,
            held,
            frozen: None,
            accepts: raise && !input.cordoned && !input.draining,
            base: base_load(module),
            busy: BTreeMap::new(),
            leaving: Watts::ZERO,
            mining: Watts::ZERO,
            miners: module.groups.keys().map(|id| (id.clone(), GroupTarget { awake: 0, point: 0 })).collect(),
            free: pools.clone().map(|(id, pool)| (id.clone(), gpus(id, pool, pool.gpus))).collect(),
            freeing: pools.map(|(id, pool)| (id.clone(), gpus(id, pool, 0))).collect(),
            runs: BTreeMap::new(),
            elastic: BTreeMap::new(),
            told: parent.map_or(BTreeMap::new(), |parent| parent.slowed.clone()),
        };
        if !input.link.is_in_touch() {
            slot.frozen = Some(parent.cloned().unwrap_or_else(|| slot.unheard()));
        }
        slot
    }

    /// What a module that was never told anything is counted with: the least it draws, once it has power.
    fn unheard(&self) -> ModulePlan {
        ModulePlan {
            ceiling: self.ceiling_for(self.base).min(self.input.module.most().at_least_zero()),
            ai_floor: Watts::ZERO,
            share: model::envelope::Share::default(),
            ladder: Vec::new(),
            armed: BTreeMap::new(),
            fallback: vec![model::envelope::FallbackStep { after: model::Span::ZERO, ceiling: Watts::ZERO }],
            miners: self.miners.clone(),
            caps: BTreeMap::new(),
            runs: BTreeMap::new(),
            slowed: BTreeMap::new(),
        }
    }

    /// The module's configuration.
    pub(crate) fn module(&self) -> &'a Module {
        &self.input.module
    }

    /// Everything behind the loss that is neither mining nor being stopped.
    pub(crate) fn kept_load(&self) -> Watts {
        self.base + self.busy.values().copied().sum()
    }

    /// Notes a run that may be slowed, at its least.
    pub(crate) fn note_elastic(&mut self, workload: &Workload, placement: &Placement) {
        let told = self.told.get(&workload.id).copied();
        let pool = self.module().pools.get(&placement.pool);
        if let Some(elastic) = pool.and_then(|pool| Elastic::of(workload, pool, told)) {
            self.elastic.insert(workload.id.clone(), elastic);
        }
    }

    /// What a run makes as planned.
    pub(crate) fn pace(&self, id: &WorkloadId) -> Pace {
        self.elastic.get(id).map_or(FULL, Elastic::pace)
    }

    /// The caps of the runs that are slowed.
    pub(crate) fn slowed(&self) -> BTreeMap<WorkloadId, Watts> {
        let slowed = self.elastic.iter().filter(|(_, elastic)| elastic.is_slowed());
        let caps = slowed.filter_map(|(id, elastic)| {
            let pool = self.module().pools.get(&self.runs.get(id)?.pool)?;
            Some((id.clone(), pool.cap(elastic.gpus, *elastic.settings.get(elastic.at)?)))
        });
        caps.collect()
    }

    /// The ceiling with every GPU busy and every miner at its highest setting.
    pub(crate) fn potential(&self) -> Watts {
        let miners =
            self.module().groups.values().map(|group| (group.draw_full() - group.draw(0, 0)).at_least_zero());
        let pools = self.module().pools.values().map(|pool| pool.draw(pool.total_gpus()) - pool.draw(0));
        self.ceiling_for(self.base + miners.sum() + pools.sum())
    }

    /// What firm runs and the base draw need at the meter.
    pub(crate) fn firm_ceiling(&self) -> Watts {
        self.ceiling_for(self.base + self.busy.get(&Tier::Firm).copied().unwrap_or_default())
    }

    /// The ceiling without miners; `leaving` tells whether runs that are being stopped count.
    pub(crate) fn fixed_ceiling(&self, leaving: bool) -> Watts {
        if let Some(frozen) = &self.frozen {
            return frozen.ceiling;
        }
        self.ceiling_for(self.kept_load() + if leaving { self.leaving } else { Watts::ZERO })
    }

    /// The ceiling for a load behind the loss.
    pub(crate) fn ceiling_for(&self, load: Watts) -> Watts {
        let metered = self.module().with_loss(load);
        metered + metered.fraction(HEADROOM_PERMILLE, 1_000)
    }

    /// The most load that raises the ceiling of a load `before` by no more than `room`.
    pub(crate) fn load_within(&self, before: Watts, room: Watts) -> Watts {
        let loss = i64::from(self.module().loss_permille);
        let about = room.fraction(1_000, 1_000 + HEADROOM_PERMILLE).fraction(1_000, 1_000 + loss);
        let most = self.ceiling_for(before) + room;
        // The two roundings of `ceiling_for` are within two watts each; the first that fits is the most.
        let fits = (-4i64..=4).rev().map(|off| about + Watts::new(off));
        fits.into_iter()
            .find(|&load| self.ceiling_for(before + load) <= most)
            .unwrap_or(about)
            .at_least_zero()
    }

    /// What the module's fast groups now draw.
    pub(crate) fn fast_now(&self) -> Watts {
        self.fast_groups().map(|(id, group)| self.drawn(id, group)).sum()
    }

    /// What the module's fast groups could draw.
    pub(crate) fn fast_full(&self) -> Watts {
        self.fast_groups().map(|(_, group)| group.draw_full()).sum()
    }

    /// Groups that count as fast reserve.
    pub(crate) fn fast_groups(&self) -> impl Iterator<Item = (&'a MinerGroupId, &'a MinerGroup)> {
        self.module().groups.iter().filter(|(_, group)| is_fast(group))
    }

    /// What a group draws now: nothing behind an open feeder, nor where nobody said.
    pub(crate) fn drawn(&self, id: &MinerGroupId, group: &MinerGroup) -> Watts {
        let online = self.input.link == Link::Online;
        let report = self.input.report.as_ref().filter(|_| online).and_then(|report| report.groups.get(id));
        report.map_or(Watts::ZERO, |report| drawn(group, report))
    }

    /// What a group shall draw.
    pub(crate) fn target_draw(&self, id: &MinerGroupId, group: &MinerGroup) -> Watts {
        let miners = self.frozen.as_ref().map_or(&self.miners, |frozen| &frozen.miners);
        miners.get(id).map_or(Watts::ZERO, |target| match target.awake {
            0 => Watts::ZERO,
            awake => group.draw(awake, target.point.into()),
        })
    }

    /// The part of the targets that fast rungs can drop.
    pub(crate) fn fast_target(&self) -> Watts {
        self.fast_groups().map(|(id, group)| self.target_draw(id, group)).sum()
    }

    /// The part of the targets that fast rungs can drop and that is drawn already.
    pub(crate) fn fast_low(&self) -> Watts {
        self.fast_groups().map(|(id, group)| self.target_draw(id, group).min(self.drawn(id, group))).sum()
    }
}

/// Whether a group counts as fast reserve: a feeder that was measured and beats the nadir.
pub(crate) fn is_fast(group: &MinerGroup) -> bool {
    group.is_fast() && group.shed.opens.is_some_and(|opens| opens <= FAST)
}

fn drawn(group: &MinerGroup, report: &GroupReport) -> Watts {
    match report.feeder {
        FeederState::Closed => {
            report.power.unwrap_or_else(|| group.draw(report.awake, report.point.into())).at_least_zero()
        }
        FeederState::Moving | FeederState::Open => Watts::ZERO,
    }
}

fn base_load(module: &Module) -> Watts {
    let miners: Watts = module.groups.values().map(|group| group.draw(0, 0)).sum();
    let servers: Watts = module.pools.values().map(|pool| pool.draw(0)).sum();
    module.auxiliary + miners + servers
}
