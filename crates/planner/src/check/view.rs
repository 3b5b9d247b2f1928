//! One island as the rules see it: configuration, what was reported, and what the plan says, side by side.
//!
//! Read next: the rules, one file an invariant.

use model::envelope::{Rung, RungLoad};
use model::module::{Actuator, MinerGroup, Module};
use model::plan::{ModulePlan, SitePlan};
use model::report::{FeederState, GensetState};
use model::site::Genset;
use model::workload::{Placement, Workload};
use model::{GensetId, ModuleId, SiteId, Span, Watts};

use crate::input::{Input, Link, ModuleInput, SiteInput};

/// Slowest opening that helps: our shedding must act within 200 ms.
pub(super) const FAST: Span = Span::new(200);

/// One island under check.
pub(super) struct SiteCheck<'c> {
    pub(super) id: &'c SiteId,
    pub(super) given: &'c SiteInput,
    pub(super) plan: &'c SitePlan,
    pub(super) input: &'c Input,
    /// Sets that carry load and that the plan lets run.
    pub(super) online: Vec<(&'c GensetId, &'c Genset)>,
    pub(super) modules: Vec<ModuleCheck<'c>>,
}

/// One module under check.
pub(super) struct ModuleCheck<'c> {
    pub(super) id: &'c ModuleId,
    pub(super) given: &'c ModuleInput,
    pub(super) plan: &'c ModulePlan,
    /// What it was granted before.
    pub(super) before: Option<&'c ModulePlan>,
    /// What the plan has run there, as far as anybody ordered it. Looked up once: the rules ask for it again and again.
    pub(super) runs: Vec<(&'c Placement, &'c Workload)>,
}

impl<'c> SiteCheck<'c> {
    pub(super) fn new(id: &'c SiteId, given: &'c SiteInput, plan: &'c SitePlan, input: &'c Input) -> Self {
        let runs = |set: &GensetId| plan.gensets.get(set).copied().unwrap_or(false);
        let reported = given.report.iter().flat_map(|report| report.gensets.iter());
        let online = reported.filter(|(set, report)| report.state == GensetState::Online && runs(set));
        let online = online.filter_map(|(set, _)| given.site.gensets.get_key_value(set)).collect();
        let parent = input.parent.as_ref();
        let modules = plan.modules.iter().filter_map(|(module, planned)| {
            // Modules seldom change their island.
            let here = parent.and_then(|parent| parent.sites.get(id)?.modules.get(module));
            let before = here.or_else(|| parent.and_then(|parent| parent.module(module)));
            let runs = planned.runs.iter().filter_map(|(id, at)| Some((at, input.workloads.get(id)?)));
            let (given, runs) = (input.modules.get(module)?, runs.collect());
            Some(ModuleCheck { id: module, given, plan: planned, before, runs })
        });
        Self { id, given, plan, input, online, modules: modules.collect() }
    }

    pub(super) fn subject(&self) -> String {
        format!("site {}", self.id)
    }

    pub(super) fn unmanaged(&self) -> Watts {
        let metered = self.given.report.as_ref().and_then(|report| report.unmanaged);
        metered.map_or(self.given.site.unmanaged, |metered| metered.max(self.given.site.unmanaged))
    }

    pub(super) fn rating(&self) -> Watts {
        self.online.iter().map(|(_, set)| set.rating).sum()
    }

    /// Modules that a directive reaches.
    pub(super) fn live(&self) -> impl Iterator<Item = &ModuleCheck<'c>> {
        self.modules.iter().filter(|module| module.given.link.is_in_touch())
    }

    pub(super) fn silent(&self) -> impl Iterator<Item = &ModuleCheck<'c>> {
        self.modules.iter().filter(|module| !module.given.link.is_in_touch())
    }

    /// Everything at its ceiling.
    pub(super) fn load(&self) -> Watts {
        self.unmanaged() + self.modules.iter().map(|module| module.plan.ceiling).sum()
    }

    /// Runs of modules in touch, with the word whether the plan starts them.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&ModuleCheck<'c>, &'c Workload, bool)> {
        self.live().flat_map(|module| {
            let runs = module.runs.iter();
            runs.map(move |&(_, workload)| (module, workload, !workload.status.phase.holds()))
        })
    }

    pub(super) fn starts(&self) -> bool {
        self.runs().any(|(_, _, starts)| starts)
    }
}

impl<'c> ModuleCheck<'c> {
    pub(super) fn subject(&self) -> String {
        format!("module {}", self.id)
    }

    pub(super) fn config(&self) -> &'c Module {
        &self.given.module
    }

    /// The miner group behind a rung.
    pub(super) fn group(&self, rung: &Rung) -> Option<&'c MinerGroup> {
        match &rung.load {
            RungLoad::Miners(id) => self.config().groups.get(id),
            RungLoad::Pool(_) | RungLoad::Storage => None,
        }
    }

    /// Whether a rung counts as fast: a feeder that was measured.
    pub(super) fn is_fast(&self, rung: &Rung) -> bool {
        let measured = self.group(rung).filter(|group| group.shed.actuator == Actuator::Feeder);
        let opens = measured.and_then(|group| group.shed.opens);
        rung.actuator == Actuator::Feeder && opens.is_some_and(|opens| opens <= FAST && opens <= rung.opens)
    }

    /// What the load behind a rung is told to draw.
    pub(super) fn target(&self, rung: &Rung) -> Watts {
        let RungLoad::Miners(id) = &rung.load else { return Watts::ZERO };
        let target = self.plan.miners.get(id).filter(|target| target.awake > 0);
        let drawn = target.zip(self.config().groups.get(id));
        drawn.map_or(Watts::ZERO, |(target, group)| group.draw(target.awake, target.point.into()))
    }

    /// What the load behind a rung draws now, as its module says.
    pub(super) fn drawn(&self, rung: &Rung) -> Watts {
        let RungLoad::Miners(id) = &rung.load else { return Watts::ZERO };
        if self.given.link != Link::Online {
            return Watts::ZERO;
        }
        let report = self.given.report.as_ref().and_then(|report| report.groups.get(id));
        let closed =
            report.filter(|report| report.feeder == FeederState::Closed).zip(self.config().groups.get(id));
        closed.map_or(Watts::ZERO, |(report, group)| {
            report.power.unwrap_or(group.draw(report.awake, report.point.into())).at_least_zero()
        })
    }

    /// Everything the plan has it run and mine, at the meter.
    pub(super) fn planned_draw(&self) -> Watts {
        let config = self.config();
        let mut load = config.auxiliary;
        for (id, group) in &config.groups {
            let target = self.plan.miners.get(id);
            load += target.map_or(group.draw(0, 0), |target| group.draw(target.awake, target.point.into()));
        }
        for (id, pool) in &config.pools {
            let here = || self.runs.iter().filter(|(placement, _)| placement.pool == *id);
            let gpus = here().map(|(_, run)| run.spec.gpus).sum();
            // A cap counts as far as one of its kind was measured and its module hears of it.
            let measured = !pool.curve.is_empty() && self.given.link.is_in_touch();
            let saved = here().filter(|_| measured).filter_map(|(_, run)| {
                let cap = *self.plan.slowed.get(&run.id)?;
                let gpus = run.spec.gpus;
                Some(pool.per_gpu().times(gpus.into()) - pool.run_draw(gpus, Some(cap)))
            });
            load += pool.draw(gpus) - saved.sum();
        }
        config.with_loss(load)
    }
}
