//! Cordon, uncordon, drain: what operators ask of a module.
//!
//! Read next: `observe.rs`, where the planner is told of it.

use api::operator as wire;
use api::problem::Problem;
use store::{Compare, Txn, key};

use super::fleet;
use crate::commit::put;
use crate::context::{Context, problem};
use crate::records::ModuleRecord;
use crate::tenant::ATTEMPTS;

/// Changes what is asked of a module; doing it twice is no error.
pub(super) async fn change(
    context: &Context,
    module: &str,
    etag: &str,
    asked: fn(&mut ModuleRecord),
) -> Result<wire::Module, Problem> {
    let id = fleet::module_id(context, module)?;
    for _ in 0..ATTEMPTS {
        let stored = context.cache.borrow().modules.get(&id).cloned();
        let Some(stored) = stored else { break };
        if !etag.is_empty() && etag != fleet::etag(stored.revision) {
            return Err(Problem::conflict(format!(
                "etag: module {id} is at {} now; read it again and decide again",
                fleet::etag(stored.revision)
            )));
        }
        let mut record = (*stored.value).clone();
        asked(&mut record);
        if record == *stored.value {
            return fleet::module(context, module);
        }
        let key = key::module(&id);
        let put = put(key.clone(), &record).map_err(|error| problem(error.into()))?;
        let txn = Txn::new().when(Compare::ModRevision { key, is: stored.revision }).then(put);
        if context.write(txn).await?.is_some() {
            return fleet::module(context, module);
        }
    }
    Err(Problem::conflict(format!("module {id} changes faster than it can be written; try again")))
}
