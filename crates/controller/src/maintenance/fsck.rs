//! Reads every record, and says of each that is broken what is wrong and what to do.
//!
//! Two kinds of broken: a record that cannot be read, and one that names another that is not there. Pure but for the one range.
//! Read next: `shape.rs`.

use std::fmt;

use serde::Serialize;
use store::{Entry, Error as StoreError, Key, Range, Revision, WatchEvent, key};

use super::{Answer, Desk, Error, shape};
use crate::cache::Cache;
use crate::events;

/// One broken record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it stands.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.key, self.problem, self.advice)
    }
}

pub(super) async fn run(desk: &Desk) -> Result<Answer, Error> {
    let entries = desk.something().await?;
    let mut findings = unreadable(&entries);
    findings.extend(dangling(&entries));
    findings.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Answer::Fsck { records: entries.len(), findings })
}

/// Records that this program cannot read.
pub(super) fn unreadable(entries: &[Entry]) -> Vec<Finding> {
    entries.iter().filter_map(|entry| judge(entry).err()).collect()
}

fn judge(entry: &Entry) -> Result<(), Finding> {
    let finding = |problem: String, advice: &str| {
        Err(Finding { key: entry.key.as_str().to_owned(), problem, advice: advice.to_owned() })
    };
    let Some(shape) = shape::of(&entry.key) else {
        return finding(
            "this program knows no such key".into(),
            "start the newer version that wrote it; else `store delete` it",
        );
    };
    match shape.renew(&entry.key, &entry.value) {
        Ok(_) => Ok(()),
        Err(StoreError::Newer { found, known, .. }) => finding(
            format!("its schema is {found}, this program knows up to {known}"),
            "start the newer version again, or `store import` an export of before",
        ),
        Err(error) => finding(
            innermost(&error),
            "`store import` the latest export, or `store delete` it and make it anew",
        ),
    }
}

fn innermost(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// Records that name others that are not there.
fn dangling(entries: &[Entry]) -> Vec<Finding> {
    let mut cache = Cache::default();
    cache.apply(&WatchEvent::Snapshot(Range { entries: entries.to_vec(), revision: Revision(1) }));
    let mut found = Found(Vec::new());
    for (id, module) in &cache.modules {
        let site = &module.value.module.site;
        found.unless(cache.sites.contains_key(site), key::module(id), "site", site, ADD);
        found.own(key::module(id), id, &module.value.module.id);
    }
    for (id, site) in &cache.sites {
        found.own(key::site(id), id, &site.value.id);
    }
    for (id, workload) in &cache.workloads {
        let workload = &workload.value;
        found.unless(
            cache.tenants.contains_key(&workload.tenant),
            key::workload(id),
            "tenant",
            &workload.tenant,
            REMAKE,
        );
        let offering = &workload.spec.offering;
        found.unless(cache.offerings.contains_key(offering), key::workload(id), "offering", offering, ADD);
        found.own(key::workload(id), id, &workload.id);
    }
    for (hash, tenant) in &cache.keys {
        found.unless(cache.tenants.contains_key(tenant), key::tenant_key(hash), "tenant", tenant, DELETE);
    }
    let modules = |id| cache.modules.contains_key(id);
    cache.grants.keys().for_each(|id| found.unless(modules(id), key::grant(id), "module", id, DELETE));
    cache.lost.keys().for_each(|id| found.unless(modules(id), key::lost(id), "module", id, DELETE));
    cache
        .watermarks
        .keys()
        .for_each(|id| found.unless(modules(id), key::watermark(id), "module", id, DELETE));
    for (subject, _) in cache.histories.iter().filter(|(subject, _)| !cache.holds(subject)) {
        found.add(events::key(subject), format!("there is no {subject}"), DELETE);
    }
    if let Some((generation, _)) = cache.target {
        let advice = "`store delete target`: the next leader makes a plan anew, under the grants that stand";
        found.unless(cache.plans.contains_key(&generation), key::target(), "plan", &generation, advice);
    }
    for (generation, head) in &cache.plans {
        for (site, stored) in &head.sites {
            let part = key::plan_site(*stored, site);
            let there = cache.parts.contains(&(*stored, site.clone()));
            found.unless(
                there,
                key::plan(*generation),
                "part",
                &part,
                "`store delete` it; where it is the target, that too",
            );
        }
    }
    if entries.iter().any(|entry| entry.key == key::import()) {
        found.add(
            key::import(),
            "an import began and did not end".into(),
            "`store import` the same file again",
        );
    }
    found.0
}

const ADD: &str = "add it to the fleet file and start a controller with it, or `store delete` this record";
const REMAKE: &str = "`store import` the latest export, or `store delete` it and make it anew";
const DELETE: &str = "`store delete` it";

struct Found(Vec<Finding>);

impl Found {
    fn unless(&mut self, sound: bool, key: Key, what: &str, name: &dyn fmt::Display, advice: &str) {
        if !sound {
            self.add(key, format!("there is no {what} {name}"), advice);
        }
    }

    /// A record must hold the id that its key says.
    fn own<T: PartialEq + fmt::Display>(&mut self, key: Key, said: &T, held: &T) {
        if said != held {
            self.add(key, format!("it holds the id {held}"), REMAKE);
        }
    }

    fn add(&mut self, key: Key, problem: String, advice: &str) {
        self.0.push(Finding { key: key.as_str().to_owned(), problem, advice: advice.to_owned() });
    }
}
