//! Loads a fleet description into the store: what is new or changed is written, what operators asked of a module stays.
//!
//! Nothing is removed: a module that is gone from the file may still draw power, and forgetting it would free its watts.
//! Assumes that the description's findings were shown already. Read next: `cache.rs`.

use api::Problem;
use model::event::{Event, What, Who};
use model::fleet::Fleet;
use model::plan::Subject;
use model::{ModuleId, SiteId};
use store::{Key, Op, Txn, key};

use crate::cache::Cache;
use crate::commit::{self, put, split};
use crate::context::{Context, problem};
use crate::records::{ModuleRecord, OfferingRecord, SiteRecord};

/// What the histories of sites and modules say of where a change came from: nobody's name stands in a file.
const FILE: &str = "by the fleet file";

/// Writes what differs; answers how many records that were.
pub async fn load(context: &Context, fleet: &Fleet) -> Result<usize, Problem> {
    let ops =
        changes(&context.cache.borrow(), fleet).map_err(|error| problem(commit::Error::Store(error)))?;
    let count = ops.len();
    for then in split(ops).into_iter().filter(|ops| !ops.is_empty()) {
        let changed: Vec<Subject> = then.iter().filter_map(|op| subject(op.key())).collect();
        let txn = Txn { compares: Vec::new(), then, otherwise: Vec::new() };
        if context.write(txn).await?.is_some() {
            let event = Event::new(context.clock.now(), What::Configured, Who::operator("")).saying(FILE);
            changed.into_iter().for_each(|subject| context.events.note(subject, event.clone()));
        }
    }
    Ok(count)
}

/// The site or module whose record stands under a key.
fn subject(key: &Key) -> Option<Subject> {
    let site = key.id_under(&key::sites()).and_then(|id| SiteId::new(&id).ok()).map(Subject::Site);
    site.or_else(|| Some(Subject::Module(ModuleId::new(&key.id_under(&key::modules())?).ok()?)))
}

fn changes(cache: &Cache, fleet: &Fleet) -> Result<Vec<Op>, store::Error> {
    let mut ops = Vec::new();
    for site in &fleet.sites {
        if cache.sites.get(&site.id).is_none_or(|stored| *stored.value != *site) {
            ops.push(put(key::site(&site.id), &SiteRecord(site.clone()))?);
        }
    }
    for module in &fleet.modules {
        let stored = cache.modules.get(&module.id).map(|stored| &*stored.value);
        if stored.is_none_or(|stored| stored.module != *module) {
            let record = ModuleRecord {
                module: module.clone(),
                cordoned: stored.is_some_and(|stored| stored.cordoned),
                draining: stored.is_some_and(|stored| stored.draining),
            };
            ops.push(put(key::module(&module.id), &record)?);
        }
    }
    for offering in &fleet.offerings {
        if cache.offerings.get(&offering.id).is_none_or(|stored| *stored.value != *offering) {
            ops.push(put(key::offering(&offering.id), &OfferingRecord(offering.clone()))?);
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::testing;

    #[test]
    fn sites_and_modules_have_histories_and_offerings_have_none() {
        let check = |key: Key, expected: Option<&str>| {
            assert_eq!(subject(&key).map(|subject| subject.to_string()).as_deref(), expected, "{key}");
        };
        check(key::site("well-7"), Some("site well-7"));
        check(key::module("m1"), Some("module m1"));
        check(key::offering("m1"), None);
    }

    #[test]
    fn only_what_differs_is_written_and_a_cordon_stays() {
        let mut fleet = testing::fleet();
        let keys = |cache: &Cache, fleet: &Fleet| {
            let ops = changes(cache, fleet).unwrap();
            ops.iter().map(|op| op.key().as_str().to_owned()).collect::<Vec<String>>()
        };
        let everything = keys(&Cache::default(), &fleet);
        assert_eq!(everything.len(), 5, "{everything:?}");
        let mut cache = testing::cache(&fleet);
        assert_eq!(keys(&cache, &fleet), [""; 0]);
        let stored = cache.modules.get_mut(&fleet.modules[1].id).unwrap();
        stored.value = Arc::new(ModuleRecord { cordoned: true, ..(*stored.value).clone() });
        assert_eq!(keys(&cache, &fleet), [""; 0]);
        fleet.modules[1].auxiliary = model::Watts::kilo(11);
        assert_eq!(keys(&cache, &fleet), ["module/m2"]);
        let Op::Put { value, .. } = changes(&cache, &fleet).unwrap().remove(0) else { panic!("a put") };
        let record: ModuleRecord = store::record::decode(&key::module("m2"), &value).unwrap();
        assert!(record.cordoned);
    }
}
