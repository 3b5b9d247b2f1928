//! Small fleets, reports and plans for this crate's tests: one site of three sets with two modules, one of them wired.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use model::envelope::Fence;
use model::fleet::Fleet;
use model::market::Market;
use model::plan::{ModulePlan, Plan, SitePlan};
use model::report::{EnvelopeReport, EnvelopeState, GensetReport, GensetState, Report, SiteReport, Switch};
use model::site::{Frequency, GasFlow, GasVolume};
use model::workload::{Placement, Spec, Tier, Workload};
use model::{
    BootStamp, GensetId, MicroDollars, ModuleId, OfferingId, PoolId, Span, TenantId, Time, Watts, WorkloadId,
};
use store::Revision;

use crate::cache::{Cache, Stored};
use crate::records::ModuleRecord;

/// The fleet that the tests run on.
pub const FLEET: &str = include_str!("testing/fleet.toml");

pub fn fleet() -> Fleet {
    crate::config::parse_fleet(std::path::Path::new("fleet.toml"), FLEET, true).unwrap()
}

pub fn module_id(text: &str) -> ModuleId {
    ModuleId::new(text).unwrap()
}

pub fn placement(module: &str, incarnation: u64) -> Placement {
    let pool = PoolId::new("p").unwrap();
    Placement { module: module_id(module), pool, servers: vec![(0, 2)], incarnation }
}

pub fn workload(id: &str, tenant: &str, gpus: u32) -> Workload {
    let spec = Spec {
        offering: OfferingId::new("h100-on-demand").unwrap(),
        tier: Tier::OnDemand,
        gpu: "h100".into(),
        gpus,
        amount: None,
        price: MicroDollars::cents(295),
        checkpoint: Span::minutes(10),
        save: Span::secs(20),
        restart: Span::minutes(2),
        floor: None,
        affinity: None,
    };
    Workload::accepted(WorkloadId::new(id).unwrap(), TenantId::new(tenant).unwrap(), spec, Time(1_000))
}

/// A report of an agent that has no envelope yet, `second` seconds after its boot.
pub fn report(module: &str, second: i64) -> Report {
    Report {
        module: module_id(module),
        sequence: u64::try_from(second).unwrap_or(0),
        stamp: BootStamp { boot_id: "boot".into(), at: Span::secs(second) },
        at: Time(second * 1_000),
        meter: Some(Watts::kilo(20)),
        switch: Switch::Remote,
        groups: BTreeMap::new(),
        pools: BTreeMap::new(),
        runs: BTreeMap::new(),
        envelope: EnvelopeReport {
            fence: Fence::default(),
            generation: 0,
            state: EnvelopeState::None,
            ceiling: Watts::ZERO,
            refused: None,
        },
        site: None,
        findings: Vec::new(),
    }
}

pub fn module_plan() -> ModulePlan {
    ModulePlan {
        ceiling: Watts::kilo(100),
        ai_floor: Watts::kilo(40),
        share: Default::default(),
        ladder: Vec::new(),
        armed: BTreeMap::new(),
        fallback: vec![model::envelope::FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(50) }],
        miners: BTreeMap::new(),
        caps: BTreeMap::new(),
        slowed: BTreeMap::new(),
        runs: BTreeMap::new(),
    }
}

/// A plan that runs one workload.
pub fn plan_with(workload: &WorkloadId, placement: Placement) -> Plan {
    let module = placement.module.clone();
    let plan = ModulePlan { runs: [(workload.clone(), placement)].into(), ..module_plan() };
    let site = SitePlan {
        capacity: Watts::kilo(1_000),
        firm_capacity: Watts::kilo(700),
        gensets: BTreeMap::new(),
        later: BTreeMap::new(),
        contingencies: BTreeMap::new(),
        storage: None,
        import: None,
        modules: [(module, plan)].into(),
        steps: Vec::new(),
    };
    Plan {
        generation: 1,
        parent: None,
        made: Time(0),
        input: String::new(),
        sites: [(model::SiteId::new("well-7").unwrap(), site.into())].into(),
        worth: MicroDollars::ZERO,
        bound: None,
        decisions: Vec::new(),
    }
}

pub fn market() -> Market {
    Market {
        price: MicroDollars::dollars(66_222),
        difficulty: 125.86e12,
        subsidy: 312_500_000,
        fees_ppm: 6_300,
        pool_fee_ppm: 10_000,
    }
}

pub fn site_report(states: [GensetState; 3], gas: GasFlow) -> SiteReport {
    let set = |state: GensetState| {
        let power = (state == GensetState::Online).then_some(Watts::kilo(100));
        GensetReport { state, power, for_span: Span::hours(2) }
    };
    let ids = ["g1", "g2", "g3"].map(|id| GensetId::new(id).unwrap());
    SiteReport {
        frequency: Some(Frequency::new(60_000)),
        gas: Some(gas),
        buffer: Some(GasVolume::new(100_000)),
        flared: Some(GasFlow::ZERO),
        load: Some(Watts::kilo(300)),
        unmanaged: Some(Watts::kilo(20)),
        gensets: ids.into_iter().zip(states.map(set)).collect(),
        storage: None,
        grid: None,
    }
}

/// A cache as a watch would have filled it from a store that holds the fleet.
pub fn cache(fleet: &Fleet) -> Cache {
    let mut cache = Cache::default();
    let revision = Revision(1);
    for site in &fleet.sites {
        cache.sites.insert(site.id.clone(), Stored { value: Arc::new(site.clone()), revision });
    }
    for module in &fleet.modules {
        let record = ModuleRecord { module: module.clone(), cordoned: false, draining: false };
        cache.put_module(module.id.clone(), Stored { value: Arc::new(record), revision });
    }
    for offering in &fleet.offerings {
        cache.offerings.insert(offering.id.clone(), Stored { value: Arc::new(offering.clone()), revision });
    }
    cache
}

/// A directory of its own that is removed at the end of the test.
pub struct TestDir(std::path::PathBuf);

impl TestDir {
    pub fn new(name: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("controller-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// An embedded store in the directory.
    pub fn store(&self) -> store::Store {
        store::embedded::open(&self.0.join("store")).unwrap()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
