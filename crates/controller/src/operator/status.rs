//! The fleet at a glance, as the leader knows it: what `flareshift status` and the live table show.
//!
//! Assumes that unknown readings stay absent: nothing is shown as zero that nobody measured. Read next: `operator/loads.rs`.

use std::collections::BTreeMap;

use api::common;
use api::convert::field::{wire_span, wire_time};
use api::limits::{DEFAULT_DECISIONS, MAX_DECISIONS, page};
use api::operator as wire;
use model::envelope::{Envelope, Fence};
use model::market::Market;
use model::module::Module;
use model::plan::{Decision, SitePlan};
use model::report::{Report, SiteReport};
use model::site::{GridTie, Site, Storage};
use model::workload::Workload;
use model::{Hashrate, ModuleId, Shared, SiteId, Span, Time, Watts};
use planner::Link;
use tokio::sync::watch;

use super::{archive, loads};
use crate::audit;
use crate::cache::Cache;
use crate::context::Context;
use crate::live::Live;
use crate::observe::site_report;

/// Everything a status is read from, at one moment.
pub(super) struct View<'a> {
    context: &'a Context,
    pub(super) cache: watch::Ref<'a, Cache>,
    pub(super) live: watch::Ref<'a, Live>,
    market: Market,
    now: Time,
}

impl<'a> View<'a> {
    pub(super) fn of(context: &'a Context) -> Self {
        Self {
            context,
            cache: context.cache.borrow(),
            live: context.live.borrow(),
            market: *context.market.borrow(),
            now: context.clock.now(),
        }
    }

    pub(super) fn modules_of(&self, site: &SiteId) -> impl Iterator<Item = &Module> {
        self.cache.modules_of(site).map(|(_, stored)| &stored.value.module)
    }

    fn plan(&self, site: &SiteId) -> Option<&SitePlan> {
        Some(&**self.live.in_force.as_ref()?.plan.sites.get(site)?)
    }

    /// Workloads that hold GPUs on a module.
    fn runs(&self, module: &ModuleId) -> Vec<&Workload> {
        let here = |workload: &&Workload| {
            let placement = workload.status.placement.as_ref();
            workload.status.phase.holds() && placement.is_some_and(|placement| placement.module == *module)
        };
        self.live.workloads.values().filter(here).collect()
    }
}

/// The whole fleet.
pub(super) fn fleet(context: &Context, decisions: i32) -> wire::FleetStatus {
    let view = View::of(context);
    let sites: Vec<wire::SiteStatus> =
        view.cache.sites.values().map(|stored| site(&view, &stored.value)).collect();
    let mut revenue = wire::Revenue::default();
    for site in &sites {
        if let Some(part) = &site.revenue {
            revenue.ai_micro_dollars_per_hour += part.ai_micro_dollars_per_hour;
            revenue.mining_micro_dollars_per_hour += part.mining_micro_dollars_per_hour;
        }
    }
    let modules = view.cache.sites.keys().flat_map(|site| view.modules_of(site));
    wire::FleetStatus {
        at: wire_time(view.now),
        leadership: Some(leadership(&view)),
        plan: plan_in_force(&view),
        modules: modules.map(|module_config| module(&view, module_config)).collect(),
        workloads: counts(&view),
        revenue: Some(revenue),
        shares: shares(context),
        market: Some(view.market.into()),
        decisions: latest_decisions(&view, page(decisions, DEFAULT_DECISIONS, MAX_DECISIONS)),
        findings: findings(&view),
        archive: archive::status(context),
        sites,
    }
}

/// Who leads.
pub(super) fn leadership(view: &View) -> wire::Leadership {
    let settings = &view.context.settings;
    let plan = view.live.in_force.as_ref().map_or(0, |in_force| in_force.plan.generation);
    match view.live.term {
        Some(term) => wire::Leadership {
            fence: Some(Fence { plan, ..term }.into()),
            address: settings.address.clone(),
            is_me: true,
            since: wire_time(view.live.since),
        },
        None => {
            let leader = view.cache.leader.as_ref().map(|leader| leader.address.clone());
            let address = leader.filter(|address| *address != settings.address).unwrap_or_default();
            wire::Leadership { fence: None, address, is_me: false, since: None }
        }
    }
}

/// One site.
pub(super) fn site(view: &View, config: &Site) -> wire::SiteStatus {
    let heard = site_report(&view.cache, &view.live.tracker, &config.id);
    let report = heard.map(|(report, _)| report);
    let plan = view.plan(&config.id);
    let shown = view.live.round().and_then(|round| round.report.sites.get(&config.id));
    let mut load = wire::LoadByUse::default();
    let mut revenue = wire::Revenue::default();
    for module in view.modules_of(&config.id) {
        loads::add(&mut load, &load_of(view, module));
        let part = revenue_of(view, module);
        revenue.ai_micro_dollars_per_hour += part.ai_micro_dollars_per_hour;
        revenue.mining_micro_dollars_per_hour += part.mining_micro_dollars_per_hour;
    }
    load.unmanaged_watts = report.and_then(|report| report.unmanaged).unwrap_or(config.unmanaged).get();
    wire::SiteStatus {
        site: config.id.as_str().to_owned(),
        simulated: config.simulated,
        age: heard.and_then(|(_, at)| wire_span(view.now.since(at))),
        gas_scf_per_day: report.and_then(|report| report.gas).map(|gas| gas.get()),
        gas_watts: report.and_then(|report| report.gas).map(|gas| config.electric(gas).get()),
        buffer_scf: report.and_then(|report| report.buffer).map(|buffer| buffer.get()),
        buffer_capacity_scf: config.buffer.capacity.get(),
        flared_scf_per_day: report.and_then(|report| report.flared).map(|flared| flared.get()),
        capacity_watts: plan.map(|plan| plan.capacity.get()),
        firm_capacity_watts: plan.map(|plan| plan.firm_capacity.get()),
        load_watts: report.and_then(|report| report.load).map(Watts::get),
        load: Some(load),
        frequency_millihertz: report.and_then(|report| report.frequency).map(|frequency| frequency.get()),
        nominal_millihertz: config.nominal.get(),
        gensets: gensets(config, report, plan),
        revenue: Some(revenue),
        binding: shown.map(|shown| shown.binding.clone()).unwrap_or_default(),
        shadow_price_micro_dollars_per_kwh: shown.map(|shown| shown.shadow_price.get()),
        findings: Vec::new(),
        storage: config.storage.as_ref().map(|storage| stored(storage, report, plan)),
        grid: config.grid.as_ref().map(|tie| tied(tie, report, plan)),
    }
}

/// A site's grid tie.
fn tied(config: &GridTie, report: Option<&SiteReport>, plan: Option<&SitePlan>) -> wire::TieStatus {
    let said = report.and_then(|report| report.grid);
    wire::TieStatus {
        limit_watts: config.import.get(),
        power_watts: said.and_then(|said| said.power).map(Watts::get),
        price_micro_dollars_per_mwh: said
            .and_then(|said| said.price)
            .or(config.price)
            .map(|price| price.get()),
        ready: said.is_some_and(|said| said.ready),
        wanted_watts: plan.and_then(|plan| plan.import).map(|target| target.power.get()),
    }
}

/// A site's storage.
fn stored(config: &Storage, report: Option<&SiteReport>, plan: Option<&SitePlan>) -> wire::StorageStatus {
    let said = report.and_then(|report| report.storage);
    wire::StorageStatus {
        rating_watts: config.power.get(),
        energy_watt_seconds: config.energy.get(),
        power_watts: said.and_then(|said| said.power).map(Watts::get),
        held_watt_seconds: said.and_then(|said| said.held).map(|held| held.get()),
        ready: said.is_some_and(|said| said.ready),
        wanted_watts: plan.and_then(|plan| plan.storage).map(|target| target.power.get()),
    }
}

/// One module.
pub(super) fn module(view: &View, config: &Module) -> wire::ModuleStatus {
    let id = &config.id;
    let seen = view.live.tracker.seen(id);
    let last = seen.and_then(|seen| seen.last.as_ref());
    let report = last.map(|(report, _)| report);
    let record = view.cache.modules.get(id).map(|stored| &stored.value);
    let agent = view.live.agents.get(id);
    let groups = || report.into_iter().flat_map(|report| report.groups.values());
    let audit = view.context.audits.summary(id);
    let reported = report.iter().flat_map(|report| report.findings.clone());
    let audited: Vec<_> = audit.iter().flat_map(|audit| audit.findings.clone()).collect();
    let drift = view.live.drifts.finding(id, view.now);
    let claimed: Vec<Hashrate> = groups().filter_map(|group| group.claimed).collect();
    wire::ModuleStatus {
        module: id.as_str().to_owned(),
        site: config.site.as_str().to_owned(),
        wired: config.wired,
        link: link(view, id).into(),
        age: last.and_then(|(_, at)| wire_span(view.now.since(*at))),
        lost_since: lost_since(view, id).and_then(wire_time),
        switch: report.map_or(0, |report| common::Switch::from(report.switch).into()),
        cordoned: record.is_some_and(|record| record.cordoned),
        draining: record.is_some_and(|record| record.draining),
        envelope: envelope(view, id, report),
        meter_watts: report.and_then(|report| report.meter).map(Watts::get),
        limit_watts: config.most().get(),
        load: Some(load_of(view, config)),
        claimed_hashes_per_second: (!claimed.is_empty()).then(|| claimed.into_iter().sum::<Hashrate>().get()),
        verified: verified(groups()),
        groups: group_states(view, config, report),
        pools: pool_states(view, config, report),
        runs: run_states(view, report),
        findings: reported.chain(audited).chain(drift).map(Into::into).collect(),
        revenue: Some(revenue_of(view, config)),
        ledger_sequence: view.cache.watermarks.get(id).copied().unwrap_or(0),
        agent_version: agent.map(|agent| agent.version.clone()).unwrap_or_default(),
        stratum_address: agent.and_then(|agent| agent.stratum.clone()),
        share_audit: audit.map(share_audit),
    }
}

fn share_audit(audit: audit::Summary) -> wire::ShareAudit {
    let audit::Summary { totals, provisional, paid, .. } = audit;
    wire::ShareAudit {
        proven_shares: totals.proven.shares,
        proven_work_hashes: totals.proven.work.0.to_string(),
        claimed_shares: provisional.shares,
        unproven_shares: totals.unproven.shares,
        failed_shares: totals.failed.shares,
        accepted_shares: paid.shares,
        samples: totals.samples,
    }
}

fn plan_in_force(view: &View) -> Option<wire::PlanInForce> {
    let Some(in_force) = &view.live.in_force else { return stored_plan(view) };
    let plan = &in_force.plan;
    let took = view.live.round().map(|round| round.took);
    Some(wire::PlanInForce {
        generation: plan.generation,
        made: wire_time(plan.made),
        worth_micro_dollars: plan.worth.get(),
        took: took.and_then(wire_span),
        refused: view.live.refused,
    })
}

/// The plan in force as the store has it: all that a standby knows of it.
fn stored_plan(view: &View) -> Option<wire::PlanInForce> {
    let head = view.cache.plans.get(&view.cache.target?.0)?;
    Some(wire::PlanInForce {
        generation: head.generation,
        made: wire_time(head.made),
        worth_micro_dollars: head.worth.get(),
        took: None,
        refused: 0,
    })
}

/// The decisions that differ from the plan before, of the latest rounds, newest first; then those of the plan in force.
fn latest_decisions(view: &View, most: usize) -> Vec<wire::PlanDecision> {
    let mut shown = Vec::new();
    let rounds: Vec<_> = view.live.rounds.iter().rev().collect();
    for round in &rounds {
        let before: &[Shared<Decision>] = round.input.parent.as_ref().map_or(&[], |parent| &parent.decisions);
        let known: BTreeMap<_, _> =
            before.iter().map(|decision| (&decision.subject, decision.reason)).collect();
        let fresh = round.plan.decisions.iter().filter(|d| known.get(&d.subject) != Some(&d.reason));
        shown.extend(fresh.map(|decision| (round, decision)));
    }
    if let Some(round) = rounds.first().filter(|_| shown.is_empty()) {
        shown.extend(round.plan.decisions.iter().map(|decision| (round, decision)));
    }
    let decision = |(round, decision): (&&std::sync::Arc<crate::live::Round>, &Shared<Decision>)| {
        let (at, generation) = (wire_time(round.plan.made), round.plan.generation);
        wire::PlanDecision { at, generation, decision: Some(decision.clone().into()) }
    };
    shown.into_iter().take(most).map(decision).collect()
}

fn counts(view: &View) -> Vec<wire::WorkloadCount> {
    let mut counts: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
    for stored in view.cache.workloads.values() {
        let current = view.live.workloads.get(&stored.value.id).unwrap_or(&stored.value);
        let count = counts.entry((current.status.phase, current.status.reason)).or_default();
        count.0 += 1;
        let units = current.sold_by().pick(&mut count.1, &mut count.2);
        *units += u64::from(current.spec.gpus);
    }
    let count = |((phase, reason), (count, gpus, kilowatts))| wire::WorkloadCount {
        phase: common::WorkloadPhase::from(phase).into(),
        reason: common::ReasonCode::from(reason).into(),
        count,
        gpus,
        kilowatts,
    };
    counts.into_iter().map(count).collect()
}

fn shares(context: &Context) -> Vec<wire::ShareCount> {
    let shares = context.sink.totals(|totals| totals.shares.clone());
    let share = |(end, (count, work)): (model::ledger::ShareEnd, (u64, model::Work))| wire::ShareCount {
        end: Some(end.into()),
        count,
        nominal_work_hashes: work.0.to_string(),
    };
    shares.into_iter().map(share).collect()
}

fn findings(view: &View) -> Vec<common::Finding> {
    let refused = view.live.refusal.iter();
    let broken = view.cache.broken.values();
    let planned = view.live.round().into_iter().flat_map(|round| round.report.findings.iter());
    refused.chain(broken).chain(planned).cloned().map(Into::into).collect()
}

fn load_of(view: &View, config: &Module) -> wire::LoadByUse {
    let in_touch = view.live.tracker.link(&config.id, view.now).is_in_touch();
    match view.live.tracker.report(&config.id).filter(|_| in_touch) {
        Some(report) => loads::by_use(config, report, &view.runs(&config.id)),
        None => {
            wire::LoadByUse { reserved_watts: view.live.book.granted(&config.id).get(), ..Default::default() }
        }
    }
}

fn revenue_of(view: &View, config: &Module) -> wire::Revenue {
    let report = view.live.tracker.report(&config.id);
    loads::revenue(report, &view.runs(&config.id), view.market.hashprice())
}

fn gensets(config: &Site, report: Option<&SiteReport>, plan: Option<&SitePlan>) -> Vec<wire::GensetStatus> {
    let genset = |(id, set): (&model::GensetId, &model::site::Genset)| {
        let seen = report.and_then(|report| report.gensets.get(id));
        wire::GensetStatus {
            genset: id.as_str().to_owned(),
            state: seen.map_or(0, |seen| common::GensetState::from(seen.state).into()),
            power_watts: seen.and_then(|seen| seen.power).map(Watts::get),
            rating_watts: set.rating.get(),
            for_span: seen.and_then(|seen| wire_span(seen.for_span)),
            wanted: plan.and_then(|plan| plan.gensets.get(id).copied()),
        }
    };
    config.gensets.iter().map(genset).collect()
}

fn envelope(view: &View, id: &ModuleId, report: Option<&Report>) -> Option<wire::EnvelopeStatus> {
    let published = view.live.published.get(id)?;
    let grant = &published.content.grant;
    let hold = Envelope::controller_hold(view.context.settings.validity);
    let expires_in: Span = published.sent + hold - view.now;
    let told = report.map(|report| &report.envelope);
    Some(wire::EnvelopeStatus {
        generation: published.generation,
        acknowledged_generation: told.map_or(0, |told| told.generation),
        state: told.map_or(0, |told| common::EnvelopeState::from(told.state).into()),
        ceiling_watts: grant.ceiling.get(),
        ai_floor_watts: grant.ai_floor.get(),
        fallback_watts: grant.fallback_ceiling().get(),
        granted_watts: view.live.book.granted(id).get(),
        expires_in: wire_span(expires_in),
        refused: told.and_then(|told| told.refused.clone()),
    })
}

fn verified<'a>(groups: impl Iterator<Item = &'a model::report::GroupReport>) -> Option<common::Verified> {
    let proven: Vec<model::report::Verified> = groups.filter_map(|group| group.verified).collect();
    let window = proven.iter().map(|verified| verified.window).max()?;
    let rate = proven.iter().map(|verified| verified.rate).sum();
    let shares = proven.iter().map(|verified| verified.shares).sum();
    Some(model::report::Verified { rate, shares, window }.into())
}

fn group_states(view: &View, config: &Module, report: Option<&Report>) -> Vec<wire::GroupStatus> {
    let plan = view.plan(&config.site).and_then(|plan| plan.modules.get(&config.id));
    let group = |(id, group): (&model::MinerGroupId, &model::module::MinerGroup)| {
        let seen = report.and_then(|report| report.groups.get(id));
        wire::GroupStatus {
            group: id.as_str().to_owned(),
            model: group.model.clone(),
            count: group.count,
            awake: seen.map(|seen| seen.awake),
            target_awake: plan.and_then(|plan| plan.miners.get(id)).map(|target| target.awake),
            point: seen.map(|seen| seen.point.into()),
            feeder: seen.map_or(0, |seen| common::FeederState::from(seen.feeder).into()),
            power_watts: seen.and_then(|seen| seen.power).map(Watts::get),
            claimed_hashes_per_second: seen.and_then(|seen| seen.claimed).map(Hashrate::get),
            verified: seen.and_then(|seen| seen.verified).map(Into::into),
            connections: seen.map(|seen| seen.connections),
            scale: group.scale,
        }
    };
    config.groups.iter().map(group).collect()
}

fn pool_states(view: &View, config: &Module, report: Option<&Report>) -> Vec<wire::PoolStatus> {
    let plan = view.plan(&config.site).and_then(|plan| plan.modules.get(&config.id));
    let runs = view.runs(&config.id);
    let pool = |(id, pool): (&model::PoolId, &model::module::GpuPool)| {
        let seen = report.and_then(|report| report.pools.get(id));
        let here =
            runs.iter().filter(|run| run.status.placement.as_ref().is_some_and(|place| place.pool == *id));
        wire::PoolStatus {
            pool: id.as_str().to_owned(),
            gpu: pool.gpu.clone(),
            gpus: pool.total_gpus(),
            busy_gpus: here.map(|run| run.spec.gpus).sum(),
            servers: pool.servers,
            up: seen.map(|seen| seen.up),
            power_watts: seen.and_then(|seen| seen.power).map(Watts::get),
            cap_watts: plan.and_then(|plan| plan.caps.get(id)).map(|cap| cap.get()),
        }
    };
    config.pools.iter().map(pool).collect()
}

fn run_states(view: &View, report: Option<&Report>) -> Vec<wire::RunStatus> {
    let run = |(id, run): (&model::WorkloadId, &model::report::RunReport)| {
        let known = view.cache.workloads.get(id).map(|stored| &stored.value);
        wire::RunStatus {
            workload: id.as_str().to_owned(),
            tenant: known.map(|known| known.tenant.as_str().to_owned()).unwrap_or_default(),
            incarnation: run.incarnation,
            phase: common::RunPhase::from(run.phase).into(),
            gpus: known.map_or(0, |known| known.spec.gpus),
            progress_gpu_milliseconds: run.progress.get(),
            gpu: known.map(|known| known.spec.gpu.clone()).unwrap_or_default(),
        }
    };
    report.into_iter().flat_map(|report| report.runs.iter()).map(run).collect()
}

/// Since when a module is out of touch; a standby knows it from the store.
fn lost_since(view: &View, id: &ModuleId) -> Option<Time> {
    match view.live.term {
        Some(_) => view.live.tracker.seen(id)?.lost_since,
        None => view.cache.lost.get(id).copied(),
    }
}

/// Agents talk to the leader alone: a standby knows of no link but a lost one.
fn link(view: &View, id: &ModuleId) -> wire::Link {
    if view.live.term.is_none() {
        return match view.cache.lost.contains_key(id) {
            true => wire::Link::Lost,
            false => wire::Link::Unspecified,
        };
    }
    match view.live.tracker.link(id, view.now) {
        Link::Online => wire::Link::Online,
        Link::Stale => wire::Link::Stale,
        Link::Lost => wire::Link::Lost,
        Link::Never => wire::Link::Never,
    }
}
