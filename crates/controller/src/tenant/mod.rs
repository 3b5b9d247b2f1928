//! What tenants may do, whichever way they ask: [`grpc`] and the REST API call the same functions here.
//!
//! A tenant sees, spends and stops only what is its own; what is another's is not found, in the same words as what does not
//! exist. Assumes that the caller was authenticated by [`auth`]. Read next: `tenant/order.rs` for what is ordered.

pub mod auth;
pub mod grpc;
pub mod order;
pub mod page;
pub mod quote;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Problem;
use model::plan::Subject;
use model::tenant::Offering;
use model::workload::{GpuTime, Workload};
use model::{MicroDollars, SoldBy, TenantId, Time, WorkloadId};
use store::{Compare, Txn, key};

use crate::commit::put;
use crate::context::{Context, problem};
use crate::events::changes;
use crate::ledger::Used;
use crate::lifecycle::KEEP_WITHOUT_LINK;
use crate::quote::ahead;
use crate::records::WorkloadRecord;
use page::{Ask, Page};

/// A write that lost a race is tried this often; each loss means that somebody else got through.
pub const ATTEMPTS: u32 = 5;

/// A workload as its tenant sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What was asked and what is.
    pub workload: Workload,
    /// What the ledger has of it.
    pub used: Used,
    /// Why it stands where it stands, in words; nothing of others.
    pub explanation: Vec<String>,
    /// What lies ahead of it; where one workload is asked for, once there is a plan.
    pub ahead: Option<ahead::View>,
}

/// What a tenant used. Kilowatts and GPUs are never added.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// By workload, with what a unit of it is.
    pub lines: BTreeMap<WorkloadId, (SoldBy, Used)>,
    /// All gangs of GPUs.
    pub gpus: Used,
    /// All powered shells.
    pub shells: Used,
    /// The ledger reaches up to here.
    pub complete_to: Time,
}

/// What is sold.
pub fn offerings(context: &Context, ask: &Ask) -> Result<Page<Arc<Offering>>, Problem> {
    let cache = context.cache.borrow();
    page::cut(ask, cache.offerings.iter().map(|(id, stored)| (id.as_str(), stored.value.clone())))
}

/// One workload of the tenant, with what lies ahead of it.
pub async fn get(context: &Context, tenant: &TenantId, id: &str) -> Result<View, Problem> {
    let workload = find(context, Some(tenant), id)?;
    let seen = context.quotes.ahead(context).await;
    let ahead = seen.and_then(|seen| ahead::view(context, &seen, &workload));
    Ok(View { ahead, ..view(context, workload) })
}

/// The tenant's workloads.
pub fn list(context: &Context, tenant: &TenantId, finals: bool, ask: &Ask) -> Result<Page<View>, Problem> {
    let page = select(context, Some(tenant), finals, ask)?;
    Ok(page.map(|workload| view(context, workload)))
}

/// Ends a workload. Ending it twice is no error.
pub async fn cancel(context: &Context, tenant: &TenantId, id: &str) -> Result<View, Problem> {
    Ok(view(context, end(context, Some(tenant), id, ("", "")).await?))
}

/// What the tenant used in an interval, by whole hours.
pub fn usage(
    context: &Context,
    tenant: &TenantId,
    from: Option<Time>,
    to: Option<Time>,
) -> Result<Usage, Problem> {
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Problem::invalid("from: expected a time before `to`"));
    }
    let (lines, complete_to) = context.sink.totals(|totals| (totals.of(tenant, from, to), totals.to));
    let sold = |id: &WorkloadId| {
        find(context, Some(tenant), id.as_str()).map_or(SoldBy::Gpu, |workload| workload.sold_by())
    };
    Ok(Usage::of(lines, sold, complete_to))
}

impl Usage {
    fn of(
        lines: BTreeMap<WorkloadId, Used>,
        sold: impl Fn(&WorkloadId) -> SoldBy,
        complete_to: Time,
    ) -> Self {
        let (mut gpus, mut shells) = (Used::default(), Used::default());
        let lines = lines.into_iter().map(|(id, used)| {
            let sold = sold(&id);
            let sum = sold.pick(&mut gpus, &mut shells);
            *sum = sum.plus(&used);
            (id, (sold, used))
        });
        let lines = lines.collect();
        Self { lines, gpus, shells, complete_to }
    }

    /// What is owed for all of it.
    pub fn cost(&self) -> MicroDollars {
        self.gpus.cost + self.shells.cost
    }
}

/// Unit time as GPU time or as kilowatt time, the other zero; both in milliseconds.
pub(crate) fn apart(sold: SoldBy, time: GpuTime) -> (i64, i64) {
    sold.pick((time.get(), 0), (0, time.get()))
}

/// A workload by id; of one tenant, or for an operator (`None`) of any.
pub fn find(context: &Context, tenant: Option<&TenantId>, id: &str) -> Result<Workload, Problem> {
    let missing = || Problem::not_found(format!("there is no workload {id:?}; list yours to see their ids"));
    let id = WorkloadId::new(id).map_err(|_| missing())?;
    // The leader's own knowledge has the latest progress; the store has what is final.
    let live = context.live.borrow().workloads.get(&id).cloned();
    let stored = || context.cache.borrow().workloads.get(&id).map(|stored| (*stored.value).clone());
    let found = latest(live, stored());
    found.filter(|workload| tenant.is_none_or(|tenant| workload.tenant == *tenant)).ok_or_else(missing)
}

/// Workloads in order of id; of one tenant, or for an operator (`None`) of all.
pub fn select(
    context: &Context,
    tenant: Option<&TenantId>,
    finals: bool,
    ask: &Ask,
) -> Result<Page<Workload>, Problem> {
    let (cache, live) = (context.cache.borrow(), context.live.borrow());
    let wanted = |workload: &Workload| {
        tenant.is_none_or(|tenant| workload.tenant == *tenant)
            && (finals || !workload.status.phase.is_final())
    };
    let all = cache.workloads.iter().filter(|(_, stored)| wanted(&stored.value));
    let page = page::cut(ask, all.map(|(id, stored)| (id.as_str(), (id, stored))))?;
    Ok(page.map(|(id, stored)| {
        let stored = (*stored.value).clone();
        latest(live.workloads.get(id).cloned(), Some(stored.clone())).unwrap_or(stored)
    }))
}

/// Asks for a workload's end; an operator may say who asks and why.
pub async fn end(
    context: &Context,
    tenant: Option<&TenantId>,
    id: &str,
    (by, why): (&str, &str),
) -> Result<Workload, Problem> {
    for _ in 0..ATTEMPTS {
        let workload = find(context, tenant, id)?;
        if workload.cancel || workload.status.phase.is_final() {
            return Ok(workload);
        }
        let stored = context.cache.borrow().workloads.get(&workload.id).cloned();
        let Some(stored) = stored else { continue };
        let key = key::workload(&workload.id);
        let record = WorkloadRecord(Workload { cancel: true, ..(*stored.value).clone() });
        let put = put(key.clone(), &record).map_err(|error| problem(error.into()))?;
        let txn = Txn::new().when(Compare::ModRevision { key, is: stored.revision }).then(put);
        if context.write(txn).await?.is_some() {
            let event = changes::end_asked(tenant, by, why, context.clock.now());
            context.events.note(Subject::Workload(workload.id.clone()), event);
            return find(context, tenant, id);
        }
    }
    Err(Problem::conflict("the workload changes faster than it can be ended; try again"))
}

/// What a tenant is shown of a workload.
pub fn view(context: &Context, workload: Workload) -> View {
    let used = context.sink.totals(|totals| totals.workload(&workload.tenant, &workload.id));
    let explanation = explanation(context, &workload);
    View { workload, used, explanation, ahead: None }
}

fn explanation(context: &Context, workload: &Workload) -> Vec<String> {
    if workload.status.phase == model::workload::Phase::Unreachable {
        let minutes = KEEP_WITHOUT_LINK.get() / 60_000;
        return vec![format!(
            "its site is out of touch; it is started elsewhere after {minutes} minutes of silence"
        )];
    }
    let live = context.live.borrow();
    let Some(round) = live.round() else { return Vec::new() };
    let subject = model::plan::Subject::Workload(workload.id.clone());
    planner::explain(&round.plan, &round.input, &subject).tenant
}

/// The store is ahead where somebody asked for its end; the leader is ahead in progress.
fn latest(live: Option<Workload>, stored: Option<Workload>) -> Option<Workload> {
    match (live, stored) {
        (Some(live), Some(stored)) if !stored.status.phase.is_final() => {
            Some(Workload { cancel: stored.cancel, ..live })
        }
        (_, stored) => stored,
    }
}

#[cfg(test)]
mod tests {
    use model::WattSeconds;

    use super::*;

    #[test]
    fn what_is_used_of_gpus_and_of_kilowatts_is_never_added() {
        let used = |held: i64, dollars: i64| Used {
            held: GpuTime::new(held),
            progress: GpuTime::new(held / 2),
            cost: MicroDollars::dollars(dollars),
            energy: WattSeconds::new(held * 3),
        };
        let id = |text: &str| WorkloadId::new(text).expect("an id");
        let lines = BTreeMap::from([(id("gang"), used(800, 2)), (id("shell"), used(50_000, 5))]);
        let sold = |of: &WorkloadId| if *of == id("shell") { SoldBy::Kilowatt } else { SoldBy::Gpu };
        let usage = Usage::of(lines, sold, Time(7));
        assert_eq!((usage.gpus.held.get(), usage.shells.held.get()), (800, 50_000));
        assert_eq!(usage.cost(), MicroDollars::dollars(7));
        let apart = |of: &str| usage.lines.get(&id(of)).map(|(sold, used)| apart(*sold, used.held));
        assert_eq!((apart("gang"), apart("shell")), (Some((800, 0)), Some((0, 50_000))));
    }
}
