//! The store's content in memory, fed by one watch: it serves every reader, so that reads cost the store nothing.
//!
//! Assumes that a watch delivers whole revisions in order. A writer that wants to read what it wrote waits until the cache has
//! seen its revision ([`Cache::revision`]). Pure but for decoding; `follow` in `run.rs` feeds it. Read next: `records.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::event::History;
use model::plan::Subject;
use model::report::Finding;
use model::site::Site;
use model::tenant::{Offering, Tenant};
use model::workload::Workload;
use model::{Id, ModuleId, OfferingId, SiteId, SoldBy, TenantId, Time, WorkloadId};
use store::record::{Versioned, decode_entry};
use store::{Change, Entry, Key, Prefix, Revision, WatchEvent, key};

use crate::events;
use crate::records::{
    EpochRecord, GrantRecord, HistoryRecord, LostRecord, ModuleRecord, OfferingRecord, PlanHead, SiteRecord,
    TargetRecord, TenantKeyRecord, TenantRecord, WatermarkRecord, WorkloadRecord,
};

/// Records that could not be read and are told about; more than these say nothing new.
const MAX_BROKEN: usize = 32;

/// One record as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// Its value.
    pub value: Arc<T>,
    /// When it was last written.
    pub revision: Revision,
}

/// Who leads, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderSeen {
    /// Its address as it gave it.
    pub address: String,
    /// Its fence.
    pub create_revision: Revision,
}

/// Everything in the store but idempotency records and the parts of plans.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Everything up to here is known; zero before the first snapshot.
    pub revision: Revision,
    /// Counts changes that ask for a new plan: workloads that came or shall end, sites, modules, cordons.
    pub asked: u64,
    /// Counts writes of workloads, and snapshots.
    pub written: u64,
    /// The store's epoch.
    pub epoch: Option<u64>,
    /// Who leads.
    pub leader: Option<LeaderSeen>,
    /// The islands.
    pub sites: BTreeMap<SiteId, Stored<Site>>,
    /// The containers.
    pub modules: BTreeMap<ModuleId, Stored<ModuleRecord>>,
    /// Which of them stand on which island.
    standing: BTreeMap<SiteId, BTreeSet<ModuleId>>,
    /// Who buys.
    pub tenants: BTreeMap<TenantId, Stored<Tenant>>,
    /// Whose API key has which SHA-256.
    pub keys: BTreeMap<String, TenantId>,
    /// What is sold.
    pub offerings: BTreeMap<OfferingId, Stored<Offering>>,
    /// What runs, ran and shall run.
    pub workloads: BTreeMap<WorkloadId, Stored<Workload>>,
    /// Plans, without their sites' parts.
    pub plans: BTreeMap<u64, Arc<PlanHead>>,
    /// Which sites' parts are stored.
    pub parts: BTreeSet<(u64, SiteId)>,
    /// The plan in force.
    pub target: Option<(u64, Revision)>,
    /// What modules may act under.
    pub grants: BTreeMap<ModuleId, GrantRecord>,
    /// Since when modules are out of touch.
    pub lost: BTreeMap<ModuleId, Time>,
    /// Up to where modules' ledgers are durable.
    pub watermarks: BTreeMap<ModuleId, u64>,
    /// What happened lately to sites, modules and workloads.
    pub histories: BTreeMap<Subject, Stored<History>>,
    /// Records that this program cannot read.
    pub broken: BTreeMap<String, Finding>,
}

impl Cache {
    /// Takes in what a watch delivered.
    pub fn apply(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Snapshot(range) => {
                let (asked, written) = (self.asked + 1, self.written + 1);
                *self = Self::default();
                for entry in &range.entries {
                    self.put(entry);
                }
                (self.asked, self.written) = (asked, written);
            }
            WatchEvent::Commit(commit) => {
                for change in &commit.changes {
                    match change {
                        Change::Put(entry) => self.put(entry),
                        Change::Delete(key) => self.delete(key),
                    }
                }
            }
        }
        self.revision = event.revision();
    }

    /// Whether a site, a module or a workload is there.
    pub fn holds(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Site(id) => self.sites.contains_key(id),
            Subject::Module(id) => self.modules.contains_key(id),
            Subject::Workload(id) => self.workloads.contains_key(id),
        }
    }

    /// GPUs, or kilowatts, that one tenant asks for by all its workloads that are not final.
    pub fn open_units(&self, tenant: &TenantId, sold: SoldBy) -> u64 {
        self.workloads
            .values()
            .filter(|stored| stored.value.tenant == *tenant && !stored.value.status.phase.is_final())
            .filter(|stored| stored.value.sold_by() == sold)
            .map(|stored| u64::from(stored.value.spec.gpus))
            .sum()
    }

    fn put(&mut self, entry: &Entry) {
        self.broken.remove(entry.key.as_str());
        if let Err(message) = self.try_put(entry)
            && self.broken.len() < MAX_BROKEN
        {
            let subject = format!("record {}", entry.key);
            let finding = Finding { code: "unreadable-record".into(), subject, message };
            self.broken.insert(entry.key.as_str().to_owned(), finding);
        }
    }

    fn try_put(&mut self, entry: &Entry) -> Result<(), String> {
        match place(&entry.key)? {
            Place::Epoch => self.epoch = Some(read::<EpochRecord>(entry)?.epoch),
            Place::Leader => self.leader = Some(leader(entry)),
            Place::Target => {
                self.target = Some((read::<TargetRecord>(entry)?.generation, entry.mod_revision));
            }
            Place::Site(id) => {
                self.asked += 1;
                self.sites.insert(id, stored(read::<SiteRecord>(entry)?.0, entry));
            }
            Place::Module(id) => {
                self.asked += 1;
                self.put_module(id, stored(read::<ModuleRecord>(entry)?, entry));
            }
            Place::Tenant(id) => drop(self.tenants.insert(id, stored(read::<TenantRecord>(entry)?.0, entry))),
            Place::TenantKey(hash) => drop(self.keys.insert(hash, read::<TenantKeyRecord>(entry)?.tenant)),
            Place::Offering(id) => {
                self.offerings.insert(id, stored(read::<OfferingRecord>(entry)?.0, entry));
            }
            Place::Workload(id) => self.put_workload(id, read::<WorkloadRecord>(entry)?.0, entry),
            Place::Plan(generation) => drop(self.plans.insert(generation, Arc::new(read(entry)?))),
            Place::PlanSite(generation, site) => drop(self.parts.insert((generation, site))),
            Place::Grant(id) => drop(self.grants.insert(id, read(entry)?)),
            Place::Lost(id) => drop(self.lost.insert(id, read::<LostRecord>(entry)?.since)),
            Place::Watermark(id) => {
                self.watermarks.insert(id, read::<WatermarkRecord>(entry)?.sequence);
            }
            Place::History(of) => {
                self.histories.insert(of, stored(read::<HistoryRecord>(entry)?.0, entry));
            }
            Place::Request | Place::Import => {}
        }
        Ok(())
    }

    /// The modules of an island, in order of id.
    pub fn modules_of(&self, site: &SiteId) -> impl Iterator<Item = (&ModuleId, &Stored<ModuleRecord>)> {
        let here = self.standing.get(site).into_iter().flatten();
        here.filter_map(|id| self.modules.get_key_value(id))
    }

    /// Takes in a module, wherever it stood before.
    pub(crate) fn put_module(&mut self, id: ModuleId, stored: Stored<ModuleRecord>) {
        self.remove_module(&id);
        self.standing.entry(stored.value.module.site.clone()).or_default().insert(id.clone());
        self.modules.insert(id, stored);
    }

    fn remove_module(&mut self, id: &ModuleId) {
        let Some(gone) = self.modules.remove(id) else { return };
        if let Some(standing) = self.standing.get_mut(&gone.value.module.site) {
            standing.remove(id);
        }
    }

    fn put_workload(&mut self, id: WorkloadId, workload: Workload, entry: &Entry) {
        let before = self.workloads.get(&id).map(|stored| stored.value.cancel);
        if before != Some(workload.cancel) {
            self.asked += 1;
        }
        self.written += 1;
        self.workloads.insert(id, stored(workload, entry));
    }

    fn delete(&mut self, key: &Key) {
        self.broken.remove(key.as_str());
        match place(key) {
            Ok(Place::Epoch) => self.epoch = None,
            Ok(Place::Leader) => self.leader = None,
            Ok(Place::Target) => self.target = None,
            Ok(Place::Site(id)) => drop(self.sites.remove(&id)),
            Ok(Place::Module(id)) => self.remove_module(&id),
            Ok(Place::Tenant(id)) => drop(self.tenants.remove(&id)),
            Ok(Place::TenantKey(hash)) => drop(self.keys.remove(&hash)),
            Ok(Place::Offering(id)) => drop(self.offerings.remove(&id)),
            Ok(Place::Workload(id)) => {
                self.written += 1;
                self.workloads.remove(&id);
            }
            Ok(Place::Plan(generation)) => drop(self.plans.remove(&generation)),
            Ok(Place::PlanSite(generation, site)) => drop(self.parts.remove(&(generation, site))),
            Ok(Place::Grant(id)) => drop(self.grants.remove(&id)),
            Ok(Place::Lost(id)) => drop(self.lost.remove(&id)),
            Ok(Place::Watermark(id)) => drop(self.watermarks.remove(&id)),
            Ok(Place::History(of)) => drop(self.histories.remove(&of)),
            Ok(Place::Request | Place::Import) | Err(_) => {}
        }
    }
}

/// Where a key belongs.
enum Place {
    Epoch,
    Leader,
    Import,
    Target,
    Site(SiteId),
    Module(ModuleId),
    Tenant(TenantId),
    TenantKey(String),
    Offering(OfferingId),
    Workload(WorkloadId),
    Request,
    Plan(u64),
    PlanSite(u64, SiteId),
    Grant(ModuleId),
    Lost(ModuleId),
    Watermark(ModuleId),
    History(Subject),
}

fn place(key: &Key) -> Result<Place, String> {
    let singles = [
        (key::epoch(), Place::Epoch),
        (key::leader(), Place::Leader),
        (key::import(), Place::Import),
        (key::target(), Place::Target),
    ];
    if let Some((_, place)) = singles.into_iter().find(|(single, _)| single == key) {
        return Ok(place);
    }
    let under = |prefix: Prefix| key.id_under(&prefix);
    if let Some(id) = under(key::workloads()) {
        parse(&id).map(Place::Workload)
    } else if let Some(id) = under(key::grants()) {
        parse(&id).map(Place::Grant)
    } else if let Some(rest) = under(key::plans()) {
        place_plan(&rest)
    } else if let Some(id) = under(key::modules()) {
        parse(&id).map(Place::Module)
    } else if let Some(id) = under(key::sites()) {
        parse(&id).map(Place::Site)
    } else if let Some(id) = under(key::tenants()) {
        parse(&id).map(Place::Tenant)
    } else if let Some(hash) = under(key::tenant_keys()) {
        Ok(Place::TenantKey(hash))
    } else if let Some(id) = under(key::offerings()) {
        parse(&id).map(Place::Offering)
    } else if let Some(id) = under(key::losts()) {
        parse(&id).map(Place::Lost)
    } else if let Some(id) = under(key::watermarks()) {
        parse(&id).map(Place::Watermark)
    } else if let Some(of) = under(key::events()) {
        events::subject(&of).map(Place::History)
    } else if under(key::requests()).is_some() {
        Ok(Place::Request)
    } else {
        Err("stands under no key that this program knows; was it written by a newer version?".into())
    }
}

fn place_plan(rest: &str) -> Result<Place, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no plan generation"));
    match rest.split_once('/') {
        None => number(rest).map(Place::Plan),
        Some((generation, site)) => Ok(Place::PlanSite(number(generation)?, parse(site)?)),
    }
}

fn parse<K: model::id::Kind>(text: &str) -> Result<Id<K>, String> {
    Id::new(text).map_err(|error| error.to_string())
}

fn read<T: Versioned>(entry: &Entry) -> Result<T, String> {
    decode_entry(entry).map_err(|error| error.to_string())
}

fn stored<T>(value: T, entry: &Entry) -> Stored<T> {
    Stored { value: Arc::new(value), revision: entry.mod_revision }
}

fn leader(entry: &Entry) -> LeaderSeen {
    let address = String::from_utf8_lossy(&entry.value).into_owned();
    LeaderSeen { address, create_revision: entry.create_revision }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::record::encode;
    use store::{Commit, Range};

    use super::*;
    use crate::testing;

    fn entry(key: Key, value: Vec<u8>, revision: u64) -> Entry {
        let revision = Revision(revision);
        Entry { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: None }
    }

    fn commit(revision: u64, changes: Vec<Change>) -> WatchEvent {
        WatchEvent::Commit(Commit { revision: Revision(revision), changes })
    }

    fn put<T: Versioned>(key: Key, value: &T, revision: u64) -> WatchEvent {
        commit(revision, vec![Change::Put(entry(key, encode(value).unwrap(), revision))])
    }

    #[test]
    fn every_key_of_the_table_finds_its_place_and_leaves_it() {
        let workload = testing::workload("w", "t", 4);
        let fleet = testing::fleet();
        let mut cache = Cache::default();
        let module = ModuleRecord { module: fleet.modules[0].clone(), cordoned: false, draining: false };
        cache.apply(&put(key::site("well-7"), &SiteRecord(fleet.sites[0].clone()), 1));
        cache.apply(&put(key::module("m1"), &module, 2));
        cache.apply(&put(key::offering("o"), &OfferingRecord(fleet.offerings[0].clone()), 3));
        cache.apply(&put(key::workload("w"), &WorkloadRecord(workload.clone()), 4));
        cache.apply(&put(key::lost("m1"), &LostRecord { since: Time(1) }, 5));
        cache.apply(&put(key::watermark("m1"), &WatermarkRecord { sequence: 3 }, 6));
        cache.apply(&put(key::tenant_key("ab"), &TenantKeyRecord { tenant: workload.tenant.clone() }, 7));
        cache.apply(&put(key::plan_site(3, "well-7"), &TargetRecord { generation: 3 }, 8));
        cache.apply(&put(key::target(), &TargetRecord { generation: 3 }, 9));
        cache.apply(&put(key::epoch(), &EpochRecord { epoch: 2 }, 10));
        cache.apply(&put(key::event("workload", "w"), &HistoryRecord(History::default()), 10));
        let subject = Subject::Workload(workload.id.clone());
        assert!(cache.histories.contains_key(&subject) && cache.holds(&subject));
        assert_eq!(cache.broken, BTreeMap::new());
        assert_eq!((cache.sites.len(), cache.modules.len(), cache.offerings.len()), (1, 1, 1));
        assert_eq!((cache.lost.len(), cache.watermarks.len(), cache.keys.len()), (1, 1, 1));
        assert_eq!((cache.target, cache.epoch), (Some((3, Revision(9))), Some(2)));
        assert_eq!(cache.parts.len(), 1);
        let here = |cache: &Cache, site: &str| cache.modules_of(&model::SiteId::new(site).unwrap()).count();
        assert_eq!((here(&cache, "well-7"), here(&cache, "well-8")), (1, 0));
        let mut moved = module.clone();
        moved.module.site = model::SiteId::new("well-8").unwrap();
        cache.apply(&put(key::module("m1"), &moved, 11));
        assert_eq!((here(&cache, "well-7"), here(&cache, "well-8")), (0, 1));
        assert_eq!(cache.open_units(&workload.tenant, SoldBy::Gpu), 4);
        let history = key::event("workload", "w");
        let keys = [
            key::site("well-7"),
            key::module("m1"),
            key::lost("m1"),
            key::workload("w"),
            key::target(),
            history,
        ];
        cache.apply(&commit(12, keys.into_iter().map(Change::Delete).collect()));
        assert_eq!((cache.sites.len(), cache.modules.len(), cache.lost.len()), (0, 0, 0));
        assert!(!cache.histories.contains_key(&subject) && !cache.holds(&subject));
        assert_eq!(here(&cache, "well-8"), 0);
        assert_eq!((cache.open_units(&workload.tenant, SoldBy::Gpu), cache.target), (0, None));
        assert_eq!(cache.revision, Revision(12));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_harms_nothing_else() {
        let mut cache = Cache::default();
        let bad = entry(key::workload("w"), b"not json".to_vec(), 1);
        let strange = entry(Key::for_test("future/x"), Vec::new(), 1);
        let range = Range { entries: vec![bad, strange], revision: Revision(1) };
        cache.apply(&WatchEvent::Snapshot(range));
        assert_eq!(cache.broken.len(), 2, "{:?}", cache.broken);
        cache.apply(&put(key::workload("w"), &WorkloadRecord(testing::workload("w", "t", 1)), 2));
        assert_eq!((cache.broken.len(), cache.workloads.len()), (1, 1));
    }

    #[test]
    fn only_what_asks_for_a_plan_counts_as_asked() {
        let mut cache = Cache::default();
        let mut workload = testing::workload("w", "t", 1);
        let mut check = |workload: &Workload, revision: u64, expected: u64| {
            cache.apply(&put(key::workload("w"), &WorkloadRecord(workload.clone()), revision));
            assert_eq!(cache.asked, expected);
        };
        check(&workload, 1, 1);
        workload.status.phase = model::workload::Phase::Starting;
        check(&workload, 2, 1);
        workload.cancel = true;
        check(&workload, 3, 2);
    }
}
