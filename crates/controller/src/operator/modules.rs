//! Cordon, uncordon, drain: what operators ask of a module.
//!
//! Read next: `observe.rs`, where the planner is told of it.

use api::operator as wire;
use api::problem::Problem;
use model::ModuleId;
use model::event::{Event, What, Who};
use store::{Compare, Txn, key};

use super::fleet;
use crate::commit::put;
use crate::context::{Context, problem};
use crate::records::ModuleRecord;
use crate::tenant::ATTEMPTS;

/// What an operator asks of a module.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// No new runs.
    Cordon,
    /// New runs again.
    Uncordon,
    /// No runs.
    Drain,
}

/// Who asks, why, and on what condition; each may be empty.
pub(super) struct Asked {
    /// The module's id.
    pub(super) module: String,
    /// Its record must still be at this one.
    pub(super) etag: String,
    /// Who.
    pub(super) by: String,
    /// Why.
    pub(super) why: String,
}

impl Order {
    fn apply(self, record: &mut ModuleRecord) {
        match self {
            Order::Cordon => record.cordoned = true,
            Order::Uncordon => (record.cordoned, record.draining) = (false, false),
            Order::Drain => (record.cordoned, record.draining) = (true, true),
        }
    }

    fn what(self) -> What {
        match self {
            Order::Cordon => What::Cordoned,
            Order::Uncordon => What::Uncordoned,
            Order::Drain => What::Draining,
        }
    }
}

/// Changes what is asked of a module; doing it twice is no error.
pub(super) async fn change(context: &Context, order: Order, asked: Asked) -> Result<wire::Module, Problem> {
    let Asked { module, etag, by, why } = &asked;
    let id = fleet::module_id(context, module)?;
    for _ in 0..ATTEMPTS {
        let stored = context.cache.borrow().modules.get(&id).cloned();
        let Some(stored) = stored else { break };
        if !etag.is_empty() && *etag != fleet::etag(stored.revision) {
            return Err(Problem::conflict(format!(
                "etag: module {id} is at {} now; read it again and decide again",
                fleet::etag(stored.revision)
            )));
        }
        let mut record = (*stored.value).clone();
        order.apply(&mut record);
        if record == *stored.value {
            return fleet::module(context, module);
        }
        let key = key::module(&id);
        let put = put(key.clone(), &record).map_err(|error| problem(error.into()))?;
        let txn = Txn::new().when(Compare::ModRevision { key, is: stored.revision }).then(put);
        if context.write(txn).await?.is_some() {
            note(context, &id, order, Who::operator(by), why);
            return fleet::module(context, module);
        }
    }
    Err(Problem::conflict(format!("module {id} changes faster than it can be written; try again")))
}

/// Notes an order, and a drain that has nothing left to wait for.
fn note(context: &Context, module: &ModuleId, order: Order, who: Who, why: &str) {
    let now = context.clock.now();
    context.events.module(module, Event::new(now, order.what(), who.clone()).saying(why));
    if matches!(order, Order::Drain) && !context.live.borrow().holds_runs(module) {
        context.events.module(module, Event::new(now, What::Drained, who));
    }
}
