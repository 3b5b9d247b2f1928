//! The controller of one island in a replay: the plan in force, the book of grants, and what each module was last told.
//!
//! It is the controller's own pure half ([`controller::grants`], [`controller::publish`]) without store and wire: a directive is there
//! in the second of the report that it answers. It makes no plans. Used by [`super::stage`].

use std::collections::BTreeMap;

use controller::grants::{Allowed, Book, Desire, Heard, Limits};
use controller::publish::{self, Content, Published};
use model::envelope::{DEFAULT_VALIDITY, Directive, Fence};
use model::module::Module;
use model::plan::SitePlan;
use model::report::Report;
use model::site::Site;
use model::workload::{Phase, Workload};
use model::{BootStamp, ModuleId, Time, WorkloadId};

/// A plan for one island, and the workloads as their status stands when it takes over.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub generation: u64,
    pub plan: &'a SitePlan,
    pub workloads: &'a BTreeMap<WorkloadId, Workload>,
}

/// The controller of one island.
pub struct Desk<'a> {
    site: &'a Site,
    modules: &'a [Module],
    order: Order<'a>,
    book: Book,
    told: BTreeMap<ModuleId, Published>,
    heard: BTreeMap<ModuleId, (BootStamp, Time)>,
}

/// The workloads that a plan places at its site, with the status that they have once it is committed.
pub fn committed(
    plan: &SitePlan,
    workloads: &BTreeMap<WorkloadId, Workload>,
) -> BTreeMap<WorkloadId, Workload> {
    let placed = plan.modules.values().flat_map(|module| &module.runs);
    let commit = |(id, placement): (&WorkloadId, &model::workload::Placement)| {
        let mut workload = workloads.get(id)?.clone();
        if workload.status.placement.as_ref() != Some(placement) || !workload.status.phase.holds() {
            workload.status.placement = Some(placement.clone());
            workload.status.phase = Phase::Starting;
        }
        Some((id.clone(), workload))
    };
    placed.filter_map(commit).collect()
}

impl<'a> Desk<'a> {
    /// Every module holds what `order` wants it to have, since `now`.
    pub fn new(
        site: &'a Site,
        modules: &'a [Module],
        order: Order<'a>,
        stamp: &BootStamp,
        now: Time,
    ) -> Self {
        let mut desk = Self {
            site,
            modules,
            order,
            book: Book::new(DEFAULT_VALIDITY),
            told: BTreeMap::new(),
            heard: modules.iter().map(|module| (module.id.clone(), (stamp.clone(), now))).collect(),
        };
        for module in modules {
            desk.book.register(&module.id, &site.id, module.base_draw());
        }
        let whole = |(id, desire): (&ModuleId, &Desire)| {
            (id.clone(), Allowed { ceiling: desire.ceiling, fallback: desire.fallback })
        };
        let allowed = desk.desires().iter().map(whole).collect();
        desk.compose(&allowed, now);
        desk
    }

    /// What each module holds.
    pub fn held(&self) -> BTreeMap<ModuleId, Directive> {
        let directive =
            |(id, told): (&ModuleId, &Published)| (id.clone(), told.directive(id, DEFAULT_VALIDITY));
        self.told.iter().map(directive).collect()
    }

    /// What runs in each module.
    pub fn runs(&self) -> BTreeMap<ModuleId, BTreeMap<WorkloadId, model::envelope::Assignment>> {
        self.told.iter().map(|(id, told)| (id.clone(), told.content.runs.clone())).collect()
    }

    /// Another plan takes over.
    pub fn follow(&mut self, order: Order<'a>) {
        self.order = order;
    }

    /// Takes in a report.
    pub fn hear(&mut self, report: &Report, now: Time) {
        let heard = Heard::of(report, now);
        self.book.heard(&report.module, &heard);
        self.heard.insert(report.module.clone(), (report.stamp.clone(), now));
    }

    /// What is to be told now: directives with new content. Renewals are not needed, for no replay lasts as long as an envelope.
    pub fn tell(&mut self, now: Time) -> Vec<Directive> {
        let limits = Limits {
            capacity: self.order.plan.capacity,
            firm_capacity: self.order.plan.firm_capacity,
            unmanaged: self.site.unmanaged,
        };
        let allowed = self.book.offer(&self.site.id, limits, &self.desires());
        self.compose(&allowed, now)
    }

    fn desires(&self) -> BTreeMap<ModuleId, Desire> {
        let plans = self.order.plan.modules.iter();
        plans.map(|(id, plan)| (id.clone(), publish::desire(plan))).collect()
    }

    /// Puts new content on record, as the controller does before it sends.
    fn compose(&mut self, allowed: &BTreeMap<ModuleId, Allowed>, now: Time) -> Vec<Directive> {
        let mut fresh = Vec::new();
        for module in self.modules {
            let (Some(allowed), Some((stamp, received))) =
                (allowed.get(&module.id), self.heard.get(&module.id))
            else {
                continue;
            };
            let before = self.told.get(&module.id);
            let Some(content) = self.content(module, *allowed, before) else { continue };
            if before.is_some_and(|told| told.content == content) {
                continue;
            }
            let generation = self.book.generation(&module.id) + 1;
            self.book.record(&module.id, content.offer(generation), *received);
            let fence = Fence { epoch: 1, leader: 1, plan: self.order.generation };
            let published = Published { fence, generation, content, answered: stamp.clone(), sent: now };
            fresh.push(published.directive(&module.id, DEFAULT_VALIDITY));
            self.told.insert(module.id.clone(), published);
        }
        fresh
    }

    fn content(&self, module: &Module, allowed: Allowed, before: Option<&Published>) -> Option<Content> {
        let Order { plan, workloads, .. } = self.order;
        let planned = plan.modules.get(&module.id)?;
        let told = before.map(|published| &published.content);
        let runs = publish::assignments(&module.id, planned, |id| workloads.get(id), told);
        Some(publish::compose(plan, planned, module.wired, allowed, runs))
    }
}
