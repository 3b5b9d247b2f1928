//! Orders: a tenant's wish for GPUs or kilowatts, checked against what is sold and the quota, stored once whatever is repeated.
//!
//! The quota holds against concurrent orders because each one rewrites the tenant's record on the revision it was read at. What
//! promises an availability is admitted first, and its turn at the desk is kept until it is stored.
//! Read next: `quote/admit.rs`; `lifecycle.rs` for what becomes of a workload.

use api::Problem;
use api::problem::Kind;
use model::affinity::{Affinity, Group};
use model::plan::Subject;
use model::tenant::{Offering, Tenant};
use model::workload::{GpuTime, Promise, Spec, Workload};
use model::{OfferingId, SoldBy, Span, TenantId, WorkloadId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{Compare, Txn, key, record};

use super::ATTEMPTS;
use super::auth::random_hex;
use crate::cache::Cache;
use crate::commit::put;
use crate::context::{Context, problem};
use crate::events::changes;
use crate::observe::hex;
use crate::quote::admit::{self, Admission};
use crate::quote::ask::{self, Size};
use crate::records::{RequestRecord, TenantRecord, WorkloadRecord};
use crate::term::Event;

/// Longest request id.
const MAX_REQUEST_ID: usize = 64;
/// Time between checkpoints unless the order says: √(2 × MTBF × save time) at one failure a day of 20 s saves is half an hour;
/// preemptions come more often than failures.
const CHECKPOINT: Span = Span::minutes(10);
/// Save time unless the order says: 5 to 60 s to local disks.
const SAVE: Span = Span::secs(20);
/// The longest save time: a run whose module is out of touch ends after ten minutes ([`crate::lifecycle::KEEP_WITHOUT_LINK`]), and its
/// checkpoint is to be saved by then.
const MAX_SAVE: Span = Span::minutes(8);
/// Restart time unless the order says: 2 to 10 min.
const RESTART: Span = Span::minutes(2);

/// What a tenant orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// The offering to buy under.
    pub offering: OfferingId,
    /// GPUs that run together; `None` where kilowatts are ordered.
    pub gpus: Option<u32>,
    /// Kilowatts of powered shell. Left out where GPUs are ordered, as in requests made before it could be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kilowatts: Option<u32>,
    /// GPU time after which it is complete; `None` runs until it is cancelled.
    pub amount: Option<GpuTime>,
    /// Time between checkpoints.
    pub checkpoint: Option<Span>,
    /// Time to save a checkpoint.
    pub save: Option<Span>,
    /// Time from start until progress resumes.
    pub restart: Option<Span>,
    /// Where it may run, and beside whom. Left out where nothing is said, so that requests made before it could be said are known again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// Accepts an order. The same `request_id` again answers the workload that was made the first time.
pub async fn submit(
    context: &Context,
    tenant: &TenantId,
    order: &Order,
    request_id: Option<&str>,
    admission: &Admission,
) -> Result<Workload, Problem> {
    if let Some(id) = request_id {
        check_request_id(id)?;
    }
    let offering = ask::offering(context, &order.offering)?;
    if !admit::promises(&offering) {
        return store(context, tenant, order, request_id, None).await;
    }
    // Whatever refuses an order at once shall do so before the model is asked.
    if let Some(made) = repeated(context, tenant, order, request_id).await? {
        return Ok(made);
    }
    let (_, workload) = prepare(context, tenant, order, request_id, None)?;
    let turn = context.quotes.turn().await?;
    let promise = admit::judge(context, &workload.spec, &offering, admission, &turn).await?;
    let stored = store(context, tenant, order, request_id, Some(&promise)).await?;
    drop(turn);
    tell(context, &stored, &promise);
    Ok(stored)
}

/// Stores an order once.
async fn store(
    context: &Context,
    tenant: &TenantId,
    order: &Order,
    request_id: Option<&str>,
    promise: Option<&Promise>,
) -> Result<Workload, Problem> {
    for _ in 0..ATTEMPTS {
        if let Some(made) = repeated(context, tenant, order, request_id).await? {
            return Ok(made);
        }
        let (txn, workload) = prepare(context, tenant, order, request_id, promise)?;
        if context.write(txn).await?.is_some() {
            let event = changes::admitted(&workload, context.clock.now());
            context.events.note(Subject::Workload(workload.id.clone()), event);
            return Ok(workload);
        }
    }
    Err(Problem::conflict("too many orders of this tenant at once; try again"))
}

/// Tells the leader's log of a promise. What counts stands in the workload's record: a full inbox loses the line and nothing else.
fn tell(context: &Context, workload: &Workload, promise: &Promise) {
    let (subject, what) = (format!("workload {}", workload.id), admit::event(promise));
    tracing::info!(subject, what, "a promise was given");
    if let Ok(office) = context.office()
        && office.inbox.try_send(Event::Told { subject, what }).is_err()
    {
        tracing::warn!("the leader is too busy to be told of a promise; it stands in the workload's record");
    }
}

/// A request id is 1 to 64 printable characters without spaces.
pub fn check_request_id(id: &str) -> Result<(), Problem> {
    let fits = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let refuse =
        || Problem::invalid("request_id: expected 1 to 64 printable ASCII characters without spaces");
    fits.then_some(()).ok_or_else(refuse)
}

/// SHA-256 of a question, in hex.
pub fn question(asked: &impl Serialize) -> Result<String, Problem> {
    let bytes = serde_json::to_vec(asked).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// What a request made before, if it was made; another question under the same id is refused.
pub async fn made_before(
    context: &Context,
    scope: &str,
    request_id: &str,
    asked: &str,
) -> Result<Option<String>, Problem> {
    let key = key::request(scope, request_id);
    let entry = tokio::time::timeout(crate::commit::STORE_TIMEOUT, context.store.get(&key)).await;
    let entry = entry.map_err(|_| problem(crate::commit::Error::Timeout))?;
    let Some(entry) = entry.map_err(|error| problem(error.into()))? else { return Ok(None) };
    let known: RequestRecord = record::decode_entry(&entry).map_err(|error| problem(error.into()))?;
    if known.asked != asked {
        return Err(Problem::conflict("request_id: was used for another request; choose a new one"));
    }
    Ok(Some(known.made))
}

async fn repeated(
    context: &Context,
    tenant: &TenantId,
    order: &Order,
    request_id: Option<&str>,
) -> Result<Option<Workload>, Problem> {
    let Some(request_id) = request_id else { return Ok(None) };
    let asked = question(order)?;
    let made = made_before(context, tenant.as_str(), request_id, &asked).await?;
    made.map(|id| super::find(context, Some(tenant), &id)).transpose()
}

fn prepare(
    context: &Context,
    tenant: &TenantId,
    order: &Order,
    request_id: Option<&str>,
    promise: Option<&Promise>,
) -> Result<(Txn, Workload), Problem> {
    let spec = specify(context, order)?;
    let cache = context.cache.borrow();
    let affinity = order.affinity.as_ref();
    affinity.map_or(Ok(()), |affinity| check_affinity(&cache, tenant, affinity))?;
    let Some(buyer) = cache.tenants.get(tenant) else {
        return Err(Problem::not_found(format!("there is no tenant {tenant}")));
    };
    check_quota(&cache, &buyer.value, &spec)?;
    let id = WorkloadId::new(&format!("w-{}", random_hex::<8>()?))
        .map_err(|e| Problem::internal(e.to_string()))?;
    let now = context.clock.now();
    let accepted = Workload::accepted(id, tenant.clone(), spec, now);
    let workload = Workload { promise: promise.cloned(), ..accepted };
    let stored = |error: store::Error| problem(error.into());
    let (buyer_key, own_key) = (key::tenant(tenant), key::workload(&workload.id));
    let mut txn = Txn::new()
        .when(Compare::ModRevision { key: buyer_key.clone(), is: buyer.revision })
        .when(Compare::Absent(own_key.clone()))
        .then(put(buyer_key, &TenantRecord((*buyer.value).clone())).map_err(stored)?)
        .then(put(own_key, &WorkloadRecord(workload.clone())).map_err(stored)?);
    if let Some(request_id) = request_id {
        let key = key::request(tenant, request_id);
        let made = workload.id.as_str().to_owned();
        let record = RequestRecord { made, asked: question(order)?, at: now };
        txn = txn.when(Compare::Absent(key.clone())).then(put(key, &record).map_err(stored)?);
    }
    Ok((txn, workload))
}

/// GPUs and kilowatts have a quota each, and are never added.
fn check_quota(cache: &Cache, buyer: &Tenant, spec: &Spec) -> Result<(), Problem> {
    let sold = SoldBy::of(&spec.gpu);
    let open = cache.open_units(&buyer.id, sold);
    let quota = sold.pick(buyer.gpu_quota, buyer.kilowatt_quota);
    if open + u64::from(spec.gpus) <= u64::from(quota) {
        return Ok(());
    }
    let message = format!(
        "the quota is {} and {open} are asked for already; cancel a workload or ask for a higher quota",
        sold.count(quota)
    );
    Err(Problem::new(Kind::Exhausted, message))
}

fn specify(context: &Context, order: &Order) -> Result<Spec, Problem> {
    let offering = ask::offering(context, &order.offering)?;
    let sold = SoldBy::of(&offering.gpu);
    let gpus = Size { gpus: order.gpus, kilowatts: order.kilowatts }.units(sold)?;
    if order.amount.is_some_and(|amount| amount <= GpuTime::ZERO) {
        return Err(Problem::invalid(
            "amount: expected more than zero, or none to run until it is cancelled",
        ));
    }
    let (checkpoint, save, restart) = match sold {
        SoldBy::Gpu => spans(order)?,
        SoldBy::Kilowatt => notice(order, &offering)?,
    };
    Ok(Spec {
        offering: offering.id.clone(),
        tier: offering.tier,
        gpu: offering.gpu.clone(),
        gpus,
        amount: order.amount,
        price: offering.price,
        checkpoint,
        save,
        restart,
        floor: offering.floor,
        affinity: order.affinity.clone(),
    })
}

/// Time between checkpoints, to save one, and to start again.
fn spans(order: &Order) -> Result<(Span, Span, Span), Problem> {
    let bad = |field: &str, expected: &str| Err(Problem::invalid(format!("{field}: expected {expected}")));
    let (checkpoint, save, restart) = (
        order.checkpoint.unwrap_or(CHECKPOINT),
        order.save.unwrap_or(SAVE),
        order.restart.unwrap_or(RESTART),
    );
    let day = Span::hours(24);
    if checkpoint < Span::secs(1) || checkpoint > day {
        return bad("checkpoint", "1 second to 24 hours");
    }
    if save < Span::ZERO || save > MAX_SAVE {
        return bad(
            "save",
            "0 to 480 seconds: a run whose module is out of touch ends after ten minutes, saved or not",
        );
    }
    if restart < Span::ZERO || restart > day {
        return bad("restart", "0 to 24 hours");
    }
    Ok((checkpoint, save, restart))
}

/// The same of a powered shell: nothing is saved, its feeder opens after the notice that it was sold with, and closes at once.
fn notice(order: &Order, offering: &Offering) -> Result<(Span, Span, Span), Problem> {
    let said = [order.checkpoint, order.save, order.restart].iter().any(Option::is_some);
    let message = "checkpoint, save and restart: expected none where power is sold by the kilowatt: your own machines save what they \
                   do, and the offering's notice is the time they have";
    if said { Err(Problem::invalid(message)) } else { Ok((Span::ZERO, offering.notice, Span::ZERO)) }
}

/// Its sites are there, and those that belong to its group already name the same rule: the order rewrites its tenant's record, so two
/// orders at once cannot found one group under two rules.
fn check_affinity(cache: &Cache, tenant: &TenantId, affinity: &Affinity) -> Result<(), Problem> {
    if let Some((field, expected)) = affinity.fault() {
        let field = if field.is_empty() { "affinity".into() } else { format!("affinity.{field}") };
        return Err(Problem::invalid(format!("{field}: expected {expected}")));
    }
    let named = affinity.sites.iter().flat_map(|sites| sites.named());
    if let Some(unknown) = named.into_iter().find(|site| !cache.sites.contains_key(*site)) {
        return Err(Problem::invalid(format!(
            "affinity.sites: expected sites that there are; there is no {:?}, ask your operator for their names",
            unknown.as_str()
        )));
    }
    let Some(Group { id, rule }) = &affinity.group else { return Ok(()) };
    let others = cache.workloads.values().map(|stored| &*stored.value);
    let mut others = others.filter(|other| other.tenant == *tenant && !other.status.phase.is_final());
    let other = others.find_map(|other| other.group().filter(|group| group.id == *id && group.rule != *rule));
    match other {
        None => Ok(()),
        Some(other) => Err(Problem::conflict(format!(
            "affinity.group: expected the rule that group {id} has, {}, found {rule}; name that, end the group, or choose another one",
            other.rule
        ))),
    }
}
