//! What each agent is told, from the plan in force, what the book of grants allows, and the workloads' status.
//!
//! Content that changes gets a new generation, which is stored before it is sent. Unchanged content is a renewal: the same
//! envelope with a later `answers`, and nothing is written. Assumes that whoever sends has recorded the offer in the book.
//! Pure. Read next: `term.rs`, which stores and sends.

use std::collections::BTreeMap;

use model::envelope::{Arming, Assignment, Directive, Envelope, FallbackStep, Fence, Grant};
use model::plan::{GroupTarget, ImportTarget, ModulePlan, SitePlan, StorageTarget};
use model::workload::{GpuTime, Phase, Workload};
use model::{
    BootStamp, ContingencyId, GensetId, MinerGroupId, ModuleId, PoolId, Span, Time, Watts, WorkloadId,
};

use crate::grants::{Allowed, Desire, Offer};
use crate::lifecycle::KEEP_WITHOUT_LINK;

/// An unchanged envelope is renewed this many times in its validity: five renewals may be lost before it expires.
const RENEWALS: i64 = 6;

/// A directive without the marks of time and order: what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The grant.
    pub grant: Grant,
    /// What each miner group shall do.
    pub miners: BTreeMap<MinerGroupId, GroupTarget>,
    /// Caps of GPU pools.
    pub caps: BTreeMap<PoolId, Watts>,
    /// Sets that shall run; empty but for the wired module.
    pub gensets: BTreeMap<GensetId, bool>,
    /// What the site's storage shall do; nothing but for the wired module.
    pub storage: Option<StorageTarget>,
    /// What its grid tie shall import; nothing but for the wired module.
    pub import: Option<ImportTarget>,
    /// Everything that shall run there.
    pub runs: BTreeMap<WorkloadId, Assignment>,
    /// Power caps of those that are slowed.
    pub slowed: BTreeMap<WorkloadId, Watts>,
}

/// What a module was last told.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Who decided it.
    pub fence: Fence,
    /// Its generation.
    pub generation: u64,
    /// What it says.
    pub content: Content,
    /// The stamp that it last answered.
    pub answered: BootStamp,
    /// When it was last sent.
    pub sent: Time,
}

/// What the plan wants a module to have.
pub fn desire(plan: &ModulePlan) -> Desire {
    let fallback = plan.fallback.iter().map(|step| step.ceiling).max().unwrap_or_default();
    Desire { ceiling: plan.ceiling, floor: plan.ai_floor, fallback }
}

/// What the module is to be told now.
pub fn compose(
    site: &SitePlan,
    plan: &ModulePlan,
    wired: bool,
    allowed: Allowed,
    runs: BTreeMap<WorkloadId, Assignment>,
) -> Content {
    let fallback = plan.fallback.iter();
    let clamp = |step: &FallbackStep| FallbackStep { ceiling: step.ceiling.min(allowed.fallback), ..*step };
    let mut fallback: Vec<FallbackStep> = fallback.map(clamp).collect();
    if fallback.is_empty() {
        // A grant without a programme is refused by agents; nothing after expiry is the safe reading.
        fallback.push(FallbackStep { after: Span::ZERO, ceiling: Watts::ZERO });
    }
    let grant = Grant {
        ceiling: allowed.ceiling,
        ai_floor: plan.ai_floor.min(allowed.ceiling),
        share: plan.share,
        ladder: plan.ladder.clone(),
        armed: armings(site, plan),
        fallback,
    };
    let gensets = if wired { site.gensets.clone() } else { BTreeMap::new() };
    let (storage, import) = (site.storage.filter(|_| wired), site.import.filter(|_| wired));
    let slowed = plan.slowed.iter().filter(|(id, _)| runs.contains_key(*id));
    let slowed = slowed.map(|(id, cap)| (id.clone(), *cap)).collect();
    let (miners, caps) = (plan.miners.clone(), plan.caps.clone());
    Content { grant, miners, caps, gensets, storage, import, runs, slowed }
}

/// The runs of a module that its agent shall have now: those that the plan places there and whose status says that they were
/// started there. `before` is what it was told last; a run that goes on keeps its assignment word for word.
pub fn assignments<'a>(
    module: &ModuleId,
    plan: &ModulePlan,
    workload: impl Fn(&WorkloadId) -> Option<&'a Workload>,
    before: Option<&Content>,
) -> BTreeMap<WorkloadId, Assignment> {
    let assign = |id: &WorkloadId| {
        let workload = workload(id)?;
        let placement = workload.status.placement.as_ref().filter(|placement| placement.module == *module)?;
        let up = matches!(workload.status.phase, Phase::Starting | Phase::Running | Phase::Unreachable);
        if !up || workload.cancel || plan.runs.get(id) != Some(placement) {
            return None;
        }
        let told = before.and_then(|content| content.runs.get(id));
        let same = told.filter(|told| told.placement == *placement);
        Some((id.clone(), same.cloned().unwrap_or_else(|| assignment(workload, placement.clone()))))
    };
    plan.runs.keys().filter_map(assign).collect()
}

/// Whether unchanged content is to be sent again in answer to a report with this stamp.
pub fn renewal_due(published: &Published, stamp: &BootStamp, validity: Span, now: Time) -> bool {
    let due = published.sent + Span::new(validity.get() / RENEWALS);
    published.answered != *stamp && (now >= due || published.answered.boot_id != stamp.boot_id)
}

impl Content {
    /// The content as an offer for the book of grants.
    pub fn offer(&self, generation: u64) -> Offer {
        Offer { generation, ceiling: self.grant.ceiling, fallback: self.grant.fallback_ceiling() }
    }
}

impl Published {
    /// The directive as it is sent.
    pub fn directive(&self, module: &ModuleId, validity: Span) -> Directive {
        let Content { grant, miners, caps, gensets, storage, import, runs, slowed } = self.content.clone();
        let envelope = Envelope {
            module: module.clone(),
            fence: self.fence,
            generation: self.generation,
            answers: self.answered.clone(),
            valid_for: validity,
            grant,
        };
        Directive { envelope, miners, caps, gensets, storage, import, runs, slowed }
    }
}

fn armings(site: &SitePlan, plan: &ModulePlan) -> BTreeMap<ContingencyId, Arming> {
    let arming = |(id, rungs): (&ContingencyId, &Vec<u32>)| {
        let contingency = site.contingencies.get(id)?;
        let arming = Arming {
            source: contingency.source.clone(),
            lost: contingency.lost,
            absorbed: contingency.absorbed,
            island_shed: contingency.shed,
            rungs: rungs.clone(),
        };
        Some((id.clone(), arming))
    };
    plan.armed.iter().filter_map(arming).collect()
}

fn assignment(workload: &Workload, placement: model::workload::Placement) -> Assignment {
    let spec = &workload.spec;
    let saved = workload.status.saved;
    Assignment {
        tenant: workload.tenant.clone(),
        tier: spec.tier,
        placement,
        remaining: spec.amount.map(|amount: GpuTime| (amount - saved).at_least_zero()),
        start_from: saved,
        checkpoint: spec.checkpoint,
        save: spec.save,
        restart: spec.restart,
        price: spec.price,
        keep_without_link: KEEP_WITHOUT_LINK,
        by_progress: workload.floor().is_some(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::plan::Contingency;

    use super::*;
    use crate::testing::{self, module_id, placement};

    const VALIDITY: Span = Span::secs(120);

    fn allowed(ceiling: i64, fallback: i64) -> Allowed {
        Allowed { ceiling: Watts::kilo(ceiling), fallback: Watts::kilo(fallback) }
    }

    fn site_plan() -> SitePlan {
        let mut site = testing::plan_with(&testing::workload("w", "t", 2).id, placement("m1", 1))
            .sites
            .into_values()
            .next()
            .unwrap();
        let source = GensetId::new("g1").unwrap();
        site.gensets.insert(source.clone(), true);
        let contingency = Contingency {
            source,
            lost: Watts::kilo(300),
            absorbed: Watts::kilo(200),
            shed: Watts::kilo(110),
        };
        site.contingencies.insert(ContingencyId::new("genset-g1").unwrap(), contingency);
        site.take()
    }

    fn content() -> Content {
        compose(&site_plan(), &testing::module_plan(), false, allowed(100, 50), BTreeMap::new())
    }

    #[test]
    fn a_grant_never_exceeds_what_the_book_allows() {
        let site = site_plan();
        let plan = testing::module_plan();
        let check = |allowed: Allowed, expected: [i64; 3]| {
            let grant = compose(&site, &plan, false, allowed, BTreeMap::new()).grant;
            let found = [grant.ceiling, grant.ai_floor, grant.fallback_ceiling()];
            assert_eq!(found, expected.map(Watts::kilo));
        };
        check(allowed(100, 50), [100, 40, 50]);
        check(allowed(60, 50), [60, 40, 50]);
        check(allowed(20, 20), [20, 20, 20]);
        let bare = ModulePlan { fallback: Vec::new(), ..plan };
        let grant = compose(&site, &bare, false, allowed(9, 9), BTreeMap::new()).grant;
        assert_eq!(grant.fallback, [FallbackStep { after: Span::ZERO, ceiling: Watts::ZERO }]);
    }

    #[test]
    fn only_the_wired_module_is_told_of_sets_storage_and_import_and_armings_name_their_source() {
        let mut site = site_plan();
        let ramp = model::WattsPerSecond::new(1_000);
        site.storage = Some(StorageTarget { power: Watts::kilo(-20), ramp });
        site.import = Some(ImportTarget { power: Watts::kilo(40), ramp });
        let mut plan = testing::module_plan();
        plan.armed.insert(ContingencyId::new("genset-g1").unwrap(), vec![0, 2]);
        plan.armed.insert(ContingencyId::new("genset-gone").unwrap(), vec![1]);
        let wired = compose(&site, &plan, true, allowed(1, 1), BTreeMap::new());
        assert_eq!((&wired.gensets, wired.storage, wired.import), (&site.gensets, site.storage, site.import));
        let other = compose(&site, &plan, false, allowed(1, 1), BTreeMap::new());
        assert_eq!((other.gensets, other.storage, other.import), (BTreeMap::new(), None, None));
        let armed: Vec<(&str, &[u32])> =
            wired.grant.armed.iter().map(|(id, arming)| (id.as_str(), arming.rungs.as_slice())).collect();
        assert_eq!(armed, [("genset-g1", [0, 2].as_slice())]);
    }

    #[test]
    fn a_run_is_told_only_when_plan_and_status_agree_and_keeps_its_words() {
        let mut workload = testing::workload("w", "t", 2);
        workload.spec.amount = Some(GpuTime::new(1_000));
        workload.status.phase = Phase::Starting;
        workload.status.placement = Some(placement("m1", 1));
        workload.status.saved = GpuTime::new(100);
        let plan = site_plan().modules.into_values().next().unwrap();
        let told = |workload: &Workload, before: Option<&Content>| {
            assignments(&module_id("m1"), &plan, |_| Some(workload), before)
        };
        let first = told(&workload, None);
        assert_eq!(first[&workload.id].remaining, Some(GpuTime::new(900)));
        assert_eq!(first[&workload.id].start_from, GpuTime::new(100));
        let before = Content { runs: first.clone(), ..content() };
        workload.status.saved = GpuTime::new(500);
        assert_eq!(told(&workload, Some(&before)), first);
        let refused = |change: &dyn Fn(&mut Workload)| {
            let mut other = workload.clone();
            change(&mut other);
            assert!(told(&other, Some(&before)).is_empty(), "{other:?}");
        };
        refused(&|w| w.cancel = true);
        refused(&|w| w.status.phase = Phase::Stopping);
        refused(&|w| w.status.phase = Phase::Pending);
        refused(&|w| w.status.placement = Some(placement("m1", 2)));
        refused(&|w| w.status.placement = Some(placement("m2", 1)));
    }

    #[test]
    fn unchanged_content_is_renewed_six_times_in_its_validity_and_at_once_after_a_reboot() {
        let stamp = |second: i64, boot: &str| BootStamp { boot_id: boot.into(), at: Span::secs(second) };
        let published = Published {
            fence: Fence::default(),
            generation: 1,
            content: content(),
            answered: stamp(0, "b"),
            sent: Time(0),
        };
        let check = |stamp: BootStamp, second: i64, expected: bool| {
            assert_eq!(renewal_due(&published, &stamp, VALIDITY, Time(second * 1_000)), expected);
        };
        check(stamp(19, "b"), 19, false);
        check(stamp(20, "b"), 20, true);
        check(stamp(0, "b"), 60, false);
        check(stamp(1, "c"), 1, true);
        let directive = published.directive(&module_id("m1"), VALIDITY);
        assert_eq!((directive.envelope.generation, directive.envelope.valid_for), (1, VALIDITY));
        assert_eq!(directive.envelope.grant, content().grant);
    }
}
