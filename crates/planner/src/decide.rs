//! Says why: a decision for every site, module and workload, and the operator's view of each island.
//!
//! It reads what the other steps left behind and decides nothing. Texts in `binding` and `rejected` are for operators only.
//! Read next: [`crate::explain`].

use std::collections::{BTreeMap, BTreeSet};

use model::plan::{Decision, ReasonCode, SitePlan, Subject};
use model::report::Finding;
use model::shell::sums;
use model::workload::Tier;
use model::{MicroDollars, Shared, SiteId, SoldBy, Watts, WorkloadId};

use crate::affinity;
use crate::assign::Book;
use crate::capacity::Limit;
use crate::island::Island;
use crate::mining::{self, Mined};
use crate::report::{Report, SiteView, Uses};
use crate::slot::Slot;
use crate::tie;

/// The operator's view.
pub(crate) fn report(
    book: &Book<'_>,
    mined: &BTreeMap<SiteId, Mined>,
    sites: &BTreeMap<SiteId, Shared<SitePlan>>,
) -> Report {
    let views = book
        .islands
        .iter()
        .filter_map(|(id, island)| Some((id.clone(), view(island, mined.get(id)?, sites.get(id)?).into())));
    Report { sites: views.collect(), findings: findings(book) }
}

/// Every decision, in order of site and subject; workloads that run nowhere stand at the end.
pub(crate) fn decisions(book: &Book<'_>, mined: &BTreeMap<SiteId, Mined>, report: &Report) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for (id, island) in &book.islands {
        let (Some(mined), Some(view)) = (mined.get(id), report.sites.get(id)) else { continue };
        decisions.push(site_decision(id, island, view));
        decisions.extend(island.slots.values().map(|slot| module_decision(slot, mined, view)));
        for slot in island.slots.values() {
            let runs = slot.frozen.as_ref().map_or(&slot.runs, |frozen| &frozen.runs);
            decisions.extend(runs.keys().map(|run| workload_decision(book, run)));
        }
    }
    let slots = || book.islands.values().flat_map(|island| island.slots.values());
    let frozen = slots().filter_map(|slot| slot.frozen.as_ref()).flat_map(|frozen| frozen.runs.keys());
    let placed: BTreeSet<&model::WorkloadId> =
        slots().flat_map(|slot| slot.runs.keys()).chain(frozen).collect();
    let waiting = book.input.workloads.keys().filter(|id| !placed.contains(id));
    decisions.extend(waiting.map(|id| workload_decision(book, id)));
    decisions
}

fn site_decision(id: &SiteId, island: &Island<'_>, view: &SiteView) -> Decision {
    let reason = match island.capacity.limit {
        Limit::Silent | Limit::Stale => ReasonCode::Unknown,
        Limit::NoSet | Limit::Gas => ReasonCode::GasShort,
        Limit::Nadir => ReasonCode::StepLimited,
        Limit::Sets => ReasonCode::Placed,
    };
    Decision {
        subject: Subject::Site(id.clone()),
        reason: if island.capacity.limit == Limit::NoSet { ReasonCode::NoPower } else { reason },
        binding: Some(format!("site {id}: {}", view.binding)),
        shadow_price: Some(view.shadow_price),
        rejected: island.capacity.schedule.margins.map(|margins| margins.words()),
    }
}

fn module_decision(slot: &Slot<'_>, mined: &Mined, view: &SiteView) -> Decision {
    let has_miners = !slot.module().groups.is_empty();
    let full = mining::ceiling(slot, true) + Watts::kilo(5) >= slot.limit;
    let reason = if slot.frozen.is_some() {
        if slot.input.link == crate::input::Link::Never { ReasonCode::Unknown } else { ReasonCode::LinkLost }
    } else if slot.input.draining {
        ReasonCode::Draining
    } else if slot.input.link == crate::input::Link::Stale {
        ReasonCode::Unknown
    } else if has_miners {
        mined.reason
    } else {
        ReasonCode::Kept
    };
    let binding = if full && slot.frozen.is_none() && slot.limit < slot.open {
        format!(
            "module {}: held to {} by what its sets can reject, since firm work runs beside it",
            slot.id, slot.limit
        )
    } else if full && slot.frozen.is_none() {
        format!("module {}: its limit of {}", slot.id, slot.limit)
    } else {
        format!("site: {}", view.binding)
    };
    Decision {
        subject: Subject::Module(slot.id.clone()),
        reason,
        binding: Some(binding),
        shadow_price: Some(if full { MicroDollars::ZERO } else { mined.next_kilowatt }),
        rejected: (reason == ReasonCode::MiningUnprofitable).then(|| "mining: gas and wear cost more".into()),
    }
}

fn workload_decision(book: &Book<'_>, id: &model::WorkloadId) -> Decision {
    let verdict = book.verdicts.get(id);
    Decision {
        subject: Subject::Workload(id.clone()),
        reason: verdict.map_or(ReasonCode::Accepted, |verdict| verdict.reason),
        binding: verdict.and_then(|verdict| verdict.binding.clone()),
        shadow_price: None,
        rejected: verdict.and_then(|verdict| verdict.rejected.clone()),
    }
}

fn view(island: &Island<'_>, mined: &Mined, plan: &SitePlan) -> SiteView {
    let capacity = &island.capacity;
    let load = uses(island);
    let leaving = island.leaving_counts;
    let granted: Watts = island.slots.values().map(|slot| mining::ceiling(slot, leaving)).sum();
    let granted = granted + capacity.unmanaged;
    // Within half a percent counts as full: whole miners do not fill the rest.
    let fills = |limit: Watts| granted + limit.fraction(5, 1_000) >= limit;
    let binding = binding(capacity.limit, fills(capacity.total), fills(capacity.mining));
    let bound = fills(capacity.total) || fills(capacity.mining);
    SiteView {
        capacity: capacity.total,
        firm_capacity: capacity.firm,
        margin: capacity.margin,
        gas_power: capacity.gas_power,
        online_rating: capacity.security.rating,
        load,
        flared: plan.steps.first().map(|step| step.flared).unwrap_or_default(),
        binding: tie::words(island).map_or(binding.to_owned(), |words| format!("{binding}; {words}")),
        shadow_price: if bound { mined.next_kilowatt } else { MicroDollars::ZERO },
        hints: hints(island),
    }
}

fn binding(limit: Limit, full: bool, mined_out: bool) -> &'static str {
    match (limit, full, mined_out) {
        (Limit::Silent, ..) => "it never reported",
        (Limit::Stale, ..) => "its last report is stale",
        (Limit::NoSet, ..) => "no generator set carries load",
        (_, false, false) => "nothing binds",
        (Limit::Nadir, ..) => "frequency dip after the loss of a set",
        (Limit::Gas, ..) => "gas",
        (Limit::Sets, true, _) => "ratings of the online sets",
        (Limit::Sets, false, true) => "gas, with half a buffer kept",
    }
}

fn uses(island: &Island<'_>) -> Uses {
    let mut uses = Uses { unmanaged: island.capacity.unmanaged, ..Uses::default() };
    for slot in island.slots.values() {
        if let Some(frozen) = &slot.frozen {
            uses.reserved += frozen.ceiling;
            continue;
        }
        let module = slot.module();
        let servers: Watts = module.pools.values().map(|pool| pool.draw(0)).sum();
        let standby: Watts = module.groups.values().map(|group| group.draw(0, 0)).sum();
        let firm = slot.busy.get(&Tier::Firm).copied().unwrap_or_default();
        let busy: Watts = slot.busy.values().copied().sum();
        let leaving = if island.leaving_counts { slot.leaving } else { Watts::ZERO };
        let load = slot.kept_load() + slot.mining + leaving;
        uses.firm_ai += firm;
        uses.other_ai += busy - firm + leaving;
        uses.mining += slot.mining;
        uses.idle += servers + standby;
        uses.auxiliary += module.with_loss(load) - (servers + standby + busy + slot.mining + leaving);
    }
    uses
}

fn hints(island: &Island<'_>) -> Vec<String> {
    let site = &island.input.site;
    let security = &island.capacity.security;
    let mut hints = Vec::new();
    if !site.relay && security.has_contingencies() {
        hints.push("fit an under-frequency relay: without one no feeder counts as reserve".into());
    }
    if let Some(storage) = site.storage.as_ref().filter(|_| security.has_contingencies() && site.relay) {
        hints.extend(storage_hint(storage, island).map(str::to_owned));
    }
    hints.extend(tie::hint(site, island.input.report.as_ref(), island));
    if security.sources.len() == 1 {
        hints.push("one set carries the island, so no firm capacity is sold: run a second one".into());
    }
    let unmeasured =
        island.slots.values().flat_map(|slot| slot.module().groups.iter().map(move |group| (slot, group)));
    for (slot, (id, group)) in unmeasured {
        if group.shed.actuator == model::module::Actuator::Feeder && group.shed.opens.is_none() {
            hints.push(format!(
                "measure the feeder of module {} group {id}: unmeasured, it is no reserve",
                slot.id
            ));
        }
    }
    if island.capacity.limit == Limit::Gas {
        let idle = (security.rating - island.capacity.gas_power).at_least_zero();
        hints.push(format!("gas is short of the online sets by {} kW", idle.get() / 1_000));
    }
    hints
}

/// Why storage is no rung, or less of one than it could be.
fn storage_hint(storage: &model::site::Storage, island: &Island<'_>) -> Option<&'static str> {
    let Some(store) = &island.capacity.store else {
        return Some(
            "storage does not answer, so it is no reserve: look after its inverter and the wired module",
        );
    };
    if storage.response.is_none_or(|response| response > crate::security::FAST) {
        Some("measure the response of storage: unmeasured, or slower than 200 ms, it is no reserve")
    } else if store.owed > Watts::ZERO {
        Some("storage holds less than its rung counts on: it is charged before miners get the gas")
    } else {
        None
    }
}

/// What in the input kept the planner from doing better.
fn findings(book: &Book<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |code: &str, subject: String, message: &str| {
        findings.push(Finding { code: code.into(), subject, message: message.into() });
    };
    let market = &book.input.market;
    if !market.difficulty.is_finite() || market.difficulty <= 0.0 {
        add(
            "market-unknown",
            "market".into(),
            "difficulty is no positive number, so mining earns nothing; give a price source",
        );
    }
    if market.price < MicroDollars::ZERO {
        add(
            "price-negative",
            "market".into(),
            "the price of bitcoin is below zero, so mining earns nothing; give a price source",
        );
    }
    ties(book, &mut add);
    for (id, workload) in &book.input.workloads {
        if workload.spec.price < MicroDollars::ZERO {
            add(
                "price-negative",
                format!("workload {id}"),
                "pays less than nothing, so it is never started by choice; correct its offering's price",
            );
        }
    }
    for (id, module) in &book.input.modules {
        if module.module.most() <= Watts::ZERO {
            add(
                "no-limit",
                format!("module {id}"),
                "has no power limit, so it is granted nothing; set `limit` and `cooling`",
            );
        }
        if !book.input.sites.contains_key(&module.module.site) {
            add("no-site", format!("module {id}"), "stands on a site that is not described; add the site");
        }
    }
    affinity::findings(book.input, &book.groups, &mut add);
    unserved(book, &mut add);
    drained(book, &mut add);
    for (id, island) in &book.islands {
        for module in island.oversized(&book.input.workloads) {
            add(
                "load-oversized",
                format!("module {module}"),
                "draws more than the online sets could reject at once, and firm work runs beside it: its main breaker would take the \
                 site; start a set, move runs, or split the module's feed",
            );
        }
        let subject = format!("site {id}");
        match island.capacity.limit {
            Limit::Silent => add(
                "site-silent",
                subject,
                "never reported; wire one module to the gensets and start its agent",
            ),
            Limit::Stale => add(
                "site-stale",
                subject,
                "its last report is stale, so nothing is raised; look after its wired module",
            ),
            Limit::NoSet => {
                add("no-set", subject, "no generator set carries load; start one or see why it tripped")
            }
            Limit::Gas | Limit::Sets | Limit::Nadir => oversold(island, subject, &mut add),
        }
    }
    findings
}

/// Grid ties whose price or limit keeps them from importing.
fn ties(book: &Book<'_>, add: &mut impl FnMut(&str, String, &str)) {
    for (id, site) in &book.input.sites {
        let Some(tie) = &site.site.grid else { continue };
        let subject = format!("site {id} grid");
        let said = site.report.as_ref().and_then(|report| report.grid?.price).or(tie.price);
        if said.is_some_and(|price| price < MicroDollars::ZERO) {
            add(
                "price-negative",
                subject.clone(),
                "asks less than nothing for a MWh, which is not believed: nothing is imported; correct its price",
            );
        }
        if said.is_none() {
            add(
                "price-unknown",
                subject.clone(),
                "nobody says what a MWh costs, so nothing is imported; set `price` or look after the grid's signal",
            );
        }
        if tie.import <= Watts::ZERO {
            add("no-limit", subject, "may import nothing; set `import` above zero, or leave `grid` out");
        }
    }
}

/// Firm work that waits although it was promised.
fn unserved(book: &Book<'_>, add: &mut impl FnMut(&str, String, &str)) {
    let waits = |id: &WorkloadId| {
        let reason = book.verdicts.get(id).map(|verdict| verdict.reason);
        matches!(
            reason,
            Some(
                ReasonCode::NoFirmCapacity | ReasonCode::NoGpus | ReasonCode::NoSuchGpu | ReasonCode::NoPower
            )
        )
    };
    let firm =
        book.input.workloads.iter().filter(|(id, workload)| workload.spec.tier == Tier::Firm && waits(id));
    let mut units: BTreeMap<SoldBy, u64> = BTreeMap::new();
    let mut count = 0_u32;
    for (_, work) in firm {
        *units.entry(work.sold_by()).or_default() += u64::from(work.spec.gpus);
        count += 1;
    }
    if count > 0 {
        let of = |sold: SoldBy| units.get(&sold).copied().unwrap_or(0);
        let asked = sums(of(SoldBy::Gpu), of(SoldBy::Kilowatt));
        let types = if of(SoldBy::Kilowatt) == 0 { "GPUs" } else { "bays" };
        let message = format!(
            "{count} firm workloads with {asked} wait for capacity that survives the loss of a set, or for {types}; add sets, \
             gas or modules, or sell them another tier"
        );
        add("firm-unserved", "fleet".into(), &message);
    }
}

/// GPU types of which nothing can start, since several modules are taken out of service at once.
fn drained(book: &Book<'_>, add: &mut impl FnMut(&str, String, &str)) {
    let mut types: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for given in book.input.modules.values() {
        let out = given.draining || given.cordoned;
        let gpus: BTreeSet<&str> = given.module.pools.values().map(|pool| pool.gpu.as_str()).collect();
        for gpu in gpus {
            let (all, closed) = types.entry(gpu).or_default();
            (*all, *closed) = (*all + 1, *closed + usize::from(out));
        }
    }
    for (gpu, _) in types.into_iter().filter(|(_, (all, closed))| *all > 1 && all == closed) {
        let message = "all modules with it are cordoned or drained at once, so none of it can start; end one of the drains";
        add("drains-overlap", format!("GPU type {gpu}"), message);
    }
}

/// Firm runs that the loss of a set would now stop.
fn oversold(island: &Island<'_>, subject: String, add: &mut impl FnMut(&str, String, &str)) {
    let has_firm =
        island.slots.values().any(|slot| slot.busy.get(&Tier::Firm).is_some_and(|&w| w > Watts::ZERO));
    let firm: Watts = island.slots.values().map(|slot| slot.firm_ceiling()).sum();
    if has_firm && firm + island.capacity.unmanaged > island.capacity.firm {
        let message =
            "firm workloads exceed the N-1 capacity and go on without it; start a set or move one elsewhere";
        add("firm-oversold", subject, message);
    }
}
