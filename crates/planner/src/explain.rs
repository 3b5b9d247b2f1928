//! Answers "why" for one site, module or workload, in an operator's view and in a tenant's.
//!
//! Invariant: the tenant's view names no other tenant, workload, price, site capacity or shadow price; it says what kind of
//! resource is short and what the tenant could change. Read next: `decide`, which writes the reasons.

use model::SoldBy;
use model::plan::{Decision, Plan, ReasonCode, STEP, Subject};
use model::workload::{Tier, Workload};
use serde::{Deserialize, Serialize};

use crate::input::Input;

/// Islands of a repair that are named.
const NAMED: usize = 8;

/// The answer to "why", in two views.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Lines for operators: constraint, shadow price, rejected alternative.
    pub operator: Vec<String>,
    /// Lines for the tenant whose workload it is: nothing of others. Empty when the subject is no workload.
    pub tenant: Vec<String>,
}

/// Why the plan treats `subject` as it does. Both views are empty for what the plan does not know.
pub fn explain(plan: &Plan, input: &Input, subject: &Subject) -> Explanation {
    let Some(decision) = plan.decisions.iter().find(|decision| decision.subject == *subject) else {
        return Explanation::default();
    };
    let workload = match subject {
        Subject::Workload(id) => input.workloads.get(id),
        Subject::Site(_) | Subject::Module(_) => None,
    };
    let sold = workload.map_or(SoldBy::Gpu, Workload::sold_by);
    let mut operator = vec![format!("{subject}: {}, {}", decision.reason, meaning(decision.reason, sold))];
    operator.extend(decision.binding.as_ref().map(|binding| format!("binding: {binding}")));
    operator.extend(
        decision.shadow_price.map(|price| format!("one more kW would earn {} an hour", dollars(price))),
    );
    operator.extend(decision.rejected.as_ref().map(|rejected| format!("rejected: {rejected}")));
    operator.extend(place(plan, subject));
    operator.push(scope(plan, input));
    let speed = workload.and_then(|workload| speed(plan, input, workload));
    operator.extend(speed.iter().map(|(operator, _)| operator.clone()));
    let tenant = workload.map_or(Vec::new(), |workload| tenant(decision, workload, speed));
    Explanation { operator, tenant }
}

/// Figures of the place that the subject is, or runs at.
fn place(plan: &Plan, subject: &Subject) -> Vec<String> {
    match subject {
        Subject::Site(id) => {
            let Some(site) = plan.sites.get(id) else { return Vec::new() };
            let mut lines = vec![format!(
                "capacity {}, of it {} after the loss of a set",
                site.capacity, site.firm_capacity
            )];
            let moves = site.later.iter().map(|(set, steps)| {
                let what = if site.gensets.get(set) == Some(&true) { "stops" } else { "starts" };
                format!("genset {set} {what} in about {} minutes", i64::from(*steps) * STEP.get() / 60_000)
            });
            lines.extend(moves);
            lines.extend(site.contingencies.iter().map(|(name, loss)| {
                format!("{name}: {} lost, {} absorbed, {} shed", loss.lost, loss.absorbed, loss.shed)
            }));
            lines
        }
        Subject::Module(id) => {
            let Some(module) = plan.module(id) else { return Vec::new() };
            let fallback = module.fallback.iter().map(|step| step.ceiling).max().unwrap_or_default();
            vec![format!("ceiling {}, {fallback} without a link, {} runs", module.ceiling, module.runs.len())]
        }
        Subject::Workload(id) => plan
            .placement(id)
            .map(|at| format!("on module {}, pool {}", at.module, at.pool))
            .into_iter()
            .collect(),
    }
}

/// Whether everything was planned, or only what an event touched.
fn scope(plan: &Plan, input: &Input) -> String {
    let generation = plan.generation;
    let Some(touched) = &input.touched else {
        return format!("plan {generation} was made for the whole fleet");
    };
    let mut names: Vec<String> = touched.iter().take(NAMED).map(ToString::to_string).collect();
    if touched.len() > NAMED {
        names.push(format!("{} more", touched.len() - NAMED));
    }
    let kept = plan.parent.map_or(String::new(), |parent| format!(" what plan {parent} gave them"));
    let sites = if names.is_empty() { "no site".into() } else { names.join(", ") };
    format!("plan {generation} repairs {sites} after an event; the others keep{kept}")
}

/// How fast a run is held, for operators and for its tenant; `None` at full speed.
fn speed(plan: &Plan, input: &Input, workload: &Workload) -> Option<(String, String)> {
    let at = plan.placement(&workload.id)?;
    let cap = *plan.module(&at.module)?.slowed.get(&workload.id)?;
    let pool = input.modules.get(&at.module)?.module.pools.get(&at.pool)?;
    let gpus = workload.spec.gpus;
    let full = pool.idle_share(gpus) + pool.run_draw(gpus, None);
    let per_gpu = pool.run_draw(gpus, Some(cap)).fraction(1, gpus.max(1).into());
    let pace = pool.pace(per_gpu);
    let floor = workload.floor().unwrap_or(model::cap::FULL);
    let operator =
        format!("capped to {cap} of {full}: {pace} of full speed, where its contract allows {floor}");
    let tenant =
        format!("speed: held to {pace} of full speed and paid by progress; your contract allows {floor}");
    Some((operator, tenant))
}

fn tenant(decision: &Decision, workload: &Workload, speed: Option<(String, String)>) -> Vec<String> {
    let (reason, sold) = (decision.reason, workload.sold_by());
    let mut lines = vec![format!("{reason}: {}", meaning(reason, sold))];
    lines.extend(short_of(reason, sold).map(|resource| format!("short of: {resource}")));
    lines.extend(speed.map(|(_, speed)| speed));
    lines.extend(advice(reason, workload.spec.tier, sold).map(|advice| format!("sooner: {advice}")));
    lines
}

/// What each reason means, in words fit for everyone.
fn meaning(reason: ReasonCode, sold: SoldBy) -> &'static str {
    match reason {
        ReasonCode::Accepted => "accepted and not planned yet",
        ReasonCode::Placed => "starts: the best use of the power",
        ReasonCode::Kept => "goes on where it is",
        ReasonCode::NoGpus => sold.pick(
            "not enough free GPUs of that type together",
            "not enough free kilowatts of that type together",
        ),
        ReasonCode::NoPower => "not enough power, or power has a better use",
        ReasonCode::NoFirmCapacity => "not enough capacity that survives the loss of a source",
        ReasonCode::NoSuchGpu => sold.pick("no module has that GPU type", "no module has bays of that type"),
        ReasonCode::Preempted => "stopped for a stronger promise",
        ReasonCode::PowerShort => "stopped because power fell short",
        ReasonCode::Draining => "its module is being drained",
        ReasonCode::LinkLost => "its module is out of touch; it may still run there",
        ReasonCode::NoThrash => "power would not last long enough to pay its restart",
        ReasonCode::Cancelled => "ended by its tenant",
        ReasonCode::Completed => sold.pick("its GPU time is done", "all that was ordered was served"),
        ReasonCode::MiningResidual => "miners take what AI leaves",
        ReasonCode::MiningUnprofitable => "mining earns less than its gas and wear",
        ReasonCode::Ballast => "miners run as reserve and minimum load",
        ReasonCode::AwaitingMeter => "waits until what it takes over has been released",
        ReasonCode::GasShort => "gas is short",
        ReasonCode::StepLimited => "the change is too large for the sets at once",
        ReasonCode::Unknown => "nothing is known of it, so its share is kept back",
        ReasonCode::Slowed => "goes on slower, as its contract allows: power is short or has a better use",
        ReasonCode::SitesBound => "there is room for it, but not on the sites that its order allows",
        ReasonCode::GroupBound => "there is room for it, but not where its group's rule lets it start",
    }
}

fn short_of(reason: ReasonCode, sold: SoldBy) -> Option<&'static str> {
    match reason {
        ReasonCode::NoGpus | ReasonCode::NoSuchGpu => Some(sold.units()),
        ReasonCode::NoPower | ReasonCode::PowerShort | ReasonCode::GasShort | ReasonCode::NoThrash => {
            Some("power")
        }
        ReasonCode::Slowed => Some("power"),
        ReasonCode::SitesBound => Some("room on the sites it may run on"),
        ReasonCode::GroupBound => Some("room where its group may run"),
        ReasonCode::NoFirmCapacity => Some("firm power"),
        ReasonCode::StepLimited => Some("room for a load step"),
        _ => None,
    }
}

fn advice(reason: ReasonCode, tier: Tier, sold: SoldBy) -> Option<&'static str> {
    match (reason, tier) {
        (ReasonCode::NoSuchGpu, _) => {
            Some(sold.pick("ask for a GPU type that is offered", "ask for a type of bay that is offered"))
        }
        (ReasonCode::NoGpus | ReasonCode::StepLimited, _) => {
            Some(sold.pick("ask for fewer GPUs in one gang", "ask for fewer kilowatts in one order"))
        }
        (ReasonCode::NoFirmCapacity, _) => Some("take an on-demand or spot tier"),
        (ReasonCode::NoPower | ReasonCode::NoThrash, Tier::Spot) => Some("take an on-demand or firm tier"),
        (ReasonCode::NoPower, _) => Some(sold.pick("ask for fewer GPUs", "ask for fewer kilowatts")),
        (ReasonCode::Slowed, _) => Some("take a tier that is never slowed"),
        (ReasonCode::SitesBound, _) => Some("order it anew for more sites, or for any"),
        (ReasonCode::GroupBound, _) => Some(
            "order it anew without the group, end another of the group, or order the group under a looser rule",
        ),
        _ => None,
    }
}

fn dollars(money: model::MicroDollars) -> String {
    format!("${}.{:04}", money.get() / 1_000_000, (money.get() % 1_000_000).abs() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_tells_the_tenant_what_is_short() {
        for reason in
            [ReasonCode::NoGpus, ReasonCode::NoPower, ReasonCode::NoFirmCapacity, ReasonCode::NoSuchGpu]
        {
            for sold in [SoldBy::Gpu, SoldBy::Kilowatt] {
                let advice = advice(reason, Tier::OnDemand, sold);
                assert!(short_of(reason, sold).is_some(), "{reason}");
                assert!(advice.is_some() || reason == ReasonCode::NoThrash, "{reason}");
                let told = format!("{} {:?} {advice:?}", meaning(reason, sold), short_of(reason, sold));
                assert!(sold == SoldBy::Gpu || !told.contains("GPU"), "of a powered shell: {told}");
            }
        }
    }

    #[test]
    fn money_reads_as_dollars() {
        assert_eq!(dollars(model::MicroDollars::cents(1_234)), "$12.3400");
    }
}
