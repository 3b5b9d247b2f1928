//! What this controller keeps in the store: the shape of each record, its kind and its schema version.
//!
//! Decisions only, never telemetry. Assumes that ids stand in the keys too (`store::key`). A shape that changes raises its
//! version and brings an upgrade; the fixtures in the tests below must decode for ever. Read next: `cache.rs`.

use std::collections::BTreeMap;

use model::event::History;
use model::module::Module;
use model::plan::{Bound, Decision, SitePlan};
use model::site::Site;
use model::tenant::{Offering, Tenant};
use model::workload::Workload;
use model::{MicroDollars, Shared, SiteId, TenantId, Time, Watts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Error;
use store::record::Versioned;

/// `site/<site>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteRecord(pub Site);

/// `module/<module>`: its configuration, and what operators asked of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// The configuration.
    pub module: Module,
    /// No new run is placed on it.
    #[serde(default)]
    pub cordoned: bool,
    /// Its runs are stopped with a checkpoint.
    #[serde(default)]
    pub draining: bool,
}

/// `tenant/<tenant>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantRecord(pub Tenant);

/// `tenant-key/<sha256>`: whose API key it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantKeyRecord {
    /// The tenant.
    pub tenant: TenantId,
}

/// `offering/<offering>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferingRecord(pub Offering);

/// `workload/<workload>`. Its promise since schema 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadRecord(pub Workload);

/// `request/<tenant>/<request_id>`: what a request made, so that its repeat makes nothing new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The id of what it made.
    pub made: String,
    /// SHA-256 of what was asked, in hex: the same request id with another question is refused.
    pub asked: String,
    /// When.
    pub at: Time,
}

/// `plan/<generation>`: all of a plan but its sites' parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanHead {
    /// Its number.
    pub generation: u64,
    /// The plan it replaces.
    pub parent: Option<u64>,
    /// The input's time.
    pub made: Time,
    /// SHA-256 of its input in canonical JSON, in hex.
    pub input: String,
    /// Expected money over the horizon.
    pub worth: MicroDollars,
    /// For each site the generation under which its part is stored: where nothing changed, an older one.
    pub sites: BTreeMap<SiteId, u64>,
    /// Workloads it runs.
    pub runs: u32,
    /// The sum of all ceilings.
    pub ceilings: Watts,
    /// The last upper bound that was known; stale unless its time is `made`. Since schema 2.
    pub bound: Option<Bound>,
    /// Why, in order of site and subject.
    pub decisions: Vec<Shared<Decision>>,
}

/// `plan/<generation>/<site>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanSiteRecord(pub SitePlan);

/// `target`: the plan in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its number.
    pub generation: u64,
}

/// `grant/<module>`: the envelopes that the module's agent may act under, written before any of them is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The highest generation ever given out.
    pub generation: u64,
    /// Every envelope that is not known to be superseded.
    pub outstanding: Vec<OfferRecord>,
}

/// One envelope of a [`GrantRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRecord {
    /// Its generation; 0 stands for superseded ones that no meter has confirmed.
    pub generation: u64,
    /// Its ceiling.
    pub ceiling: Watts,
    /// Its highest fallback ceiling.
    pub fallback: Watts,
}

/// `lost/<module>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecord {
    /// Out of touch since then.
    pub since: Time,
}

/// `watermark/<module>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkRecord {
    /// Every segment up to this one is durable.
    pub sequence: u64,
}

/// `event/<kind>/<id>`: what happened lately to a site, a module or a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HistoryRecord(pub History);

/// `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Raised by every restore and import.
    pub epoch: u64,
}

/// `import`: an import began and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRecord {
    /// Records that it is to bring.
    pub records: u64,
}

impl Versioned for SiteRecord {
    const KIND: &'static str = "site";
    const VERSION: u32 = 1;
}
impl Versioned for ModuleRecord {
    const KIND: &'static str = "module";
    const VERSION: u32 = 1;
}
impl Versioned for TenantRecord {
    const KIND: &'static str = "tenant";
    const VERSION: u32 = 1;
}
impl Versioned for TenantKeyRecord {
    const KIND: &'static str = "tenant-key";
    const VERSION: u32 = 1;
}
impl Versioned for OfferingRecord {
    const KIND: &'static str = "offering";
    const VERSION: u32 = 1;
}
impl Versioned for WorkloadRecord {
    const KIND: &'static str = "workload";
    const VERSION: u32 = 3;

    /// Schema 1 wrote no promises: what was bought then has the level of its offering. Schema 2 knew no affinity, and its readers would
    /// forget it: what was bought then may run anywhere.
    fn upgrade(from: u32, mut body: Value) -> Result<Value, Error> {
        match (from, body.as_object_mut()) {
            (1, Some(workload)) => workload.insert("promise".into(), Value::Null),
            (2, Some(_)) => None,
            _ => {
                return Err(Error::Corrupt {
                    what: format!("a workload record of schema {from}"),
                    source: None,
                });
            }
        };
        Ok(body)
    }
}
impl Versioned for RequestRecord {
    const KIND: &'static str = "request";
    const VERSION: u32 = 1;
}
impl Versioned for PlanHead {
    const KIND: &'static str = "plan";
    const VERSION: u32 = 2;

    /// Schema 1 knew no bound.
    fn upgrade(from: u32, mut body: Value) -> Result<Value, Error> {
        match (from, body.as_object_mut()) {
            (1, Some(plan)) => plan.insert("bound".into(), Value::Null),
            _ => {
                return Err(Error::Corrupt { what: format!("a plan record of schema {from}"), source: None });
            }
        };
        Ok(body)
    }
}
impl Versioned for PlanSiteRecord {
    const KIND: &'static str = "plan-site";
    const VERSION: u32 = 1;
}
impl Versioned for TargetRecord {
    const KIND: &'static str = "target";
    const VERSION: u32 = 1;
}
impl Versioned for GrantRecord {
    const KIND: &'static str = "grant";
    const VERSION: u32 = 1;
}
impl Versioned for LostRecord {
    const KIND: &'static str = "lost";
    const VERSION: u32 = 1;
}
impl Versioned for WatermarkRecord {
    const KIND: &'static str = "watermark";
    const VERSION: u32 = 1;
}
impl Versioned for HistoryRecord {
    const KIND: &'static str = "history";
    const VERSION: u32 = 1;
}
impl Versioned for EpochRecord {
    const KIND: &'static str = "epoch";
    const VERSION: u32 = 1;
}
impl Versioned for ImportRecord {
    const KIND: &'static str = "import";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::affinity::{Affinity, Domain, Group, Rule, Sites};
    use model::event::{Event, What, Who};
    use model::plan::ReasonCode;
    use model::workload::{Grounds, Promise};
    use model::{GroupId, SiteId};
    use store::key;
    use store::record::{decode, encode};

    use super::*;
    use crate::testing;

    fn check<T: Versioned + PartialEq + std::fmt::Debug>(record: T, fixture: &str) {
        let bytes = encode(&record).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), fixture);
        assert_eq!(decode::<T>(&key::target(), &bytes).unwrap(), record);
    }

    #[test]
    fn version_1_of_the_small_records_decodes_for_ever() {
        check(TargetRecord { generation: 7 }, r#"{"kind":"target","schema":1,"body":{"generation":7}}"#);
        check(ImportRecord { records: 2 }, r#"{"kind":"import","schema":1,"body":{"records":2}}"#);
        check(EpochRecord { epoch: 1 }, r#"{"kind":"epoch","schema":1,"body":{"epoch":1}}"#);
        check(LostRecord { since: Time(5) }, r#"{"kind":"lost","schema":1,"body":{"since":5}}"#);
        check(WatermarkRecord { sequence: 9 }, r#"{"kind":"watermark","schema":1,"body":{"sequence":9}}"#);
        let offer = OfferRecord { generation: 3, ceiling: Watts::kilo(2), fallback: Watts::kilo(1) };
        check(
            GrantRecord { generation: 3, outstanding: vec![offer] },
            concat!(
                r#"{"kind":"grant","schema":1,"body":{"generation":3,"#,
                r#""outstanding":[{"generation":3,"ceiling":2000,"fallback":1000}]}}"#
            ),
        );
        let tenant = TenantId::new("acme").unwrap();
        check(TenantKeyRecord { tenant }, r#"{"kind":"tenant-key","schema":1,"body":{"tenant":"acme"}}"#);
        check(
            RequestRecord { made: "w-1".into(), asked: "ab".into(), at: Time(4) },
            r#"{"kind":"request","schema":1,"body":{"made":"w-1","asked":"ab","at":4}}"#,
        );
    }

    #[test]
    fn version_1_of_a_history_decodes_for_ever() {
        let who = || Who::Agent(testing::module_id("m1"));
        let mut history = History { older: 4, missed: 1, ..History::default() };
        history.push(Event::new(Time(5), What::Online, who()));
        let named = Event::new(Time(6), What::Draining, Who::operator("ada"));
        history.push(named.because(ReasonCode::Draining).saying("fan 3"));
        for at in [7, 9] {
            history.push(Event::new(Time(at), What::Evicted, Who::Planner(3)));
        }
        history.push(Event::new(Time(10), What::EndAsked, Who::Tenant(TenantId::new("acme").unwrap())));
        history.push(Event::new(Time(11), What::Lost, Who::Controller));
        check(
            HistoryRecord(history),
            concat!(
                r#"{"kind":"history","schema":1,"body":{"older":4,"missed":1,"events":["#,
                r#"{"at":5,"what":"online","who":{"agent":"m1"}},"#,
                r#"{"at":6,"what":"draining","who":{"operator":"ada"},"reason":"draining","text":"fan 3"},"#,
                r#"{"at":7,"last":9,"times":2,"what":"evicted","who":{"planner":3}},"#,
                r#"{"at":10,"what":"end_asked","who":{"tenant":"acme"}},"#,
                r#"{"at":11,"what":"lost","who":"controller"}]}}"#
            ),
        );
    }

    #[test]
    fn a_plan_of_schema_1_had_no_bound() {
        let body = concat!(
            r#""generation":2,"parent":1,"made":30000,"input":"ab","worth":5,"sites":{"well-7":1},"#,
            r#""runs":1,"ceilings":100000,"decisions":[]"#
        );
        let old = format!(r#"{{"kind":"plan","schema":1,"body":{{{body}}}}}"#);
        let mut head: PlanHead = decode(&key::plan(2), old.as_bytes()).unwrap();
        assert_eq!((head.generation, head.ceilings, head.bound), (2, Watts::kilo(100), None));
        let dollars = MicroDollars::dollars;
        head.bound = Some(Bound { most: dollars(2), reached: dollars(1), made: Time(7) });
        let bound = r#""bound":{"most":2000000,"reached":1000000,"made":7}"#;
        let (before, decisions) = body.split_at(body.find(r#""decisions""#).unwrap());
        let written = format!(r#"{{"kind":"plan","schema":2,"body":{{{before}{bound},{decisions}}}}}"#);
        check(head, &written);
    }

    #[test]
    fn a_workload_of_schema_1_had_no_promise_and_of_schema_2_no_affinity() {
        let old = concat!(
            r#"{"kind":"workload","schema":1,"body":{"id":"w","tenant":"t","created":1000,"#,
            r#""spec":{"offering":"h100-on-demand","tier":"on_demand","gpu":"h100","gpus":2,"amount":null,"#,
            r#""price":2950000,"checkpoint":600000,"save":20000,"restart":120000},"cancel":false,"#,
            r#""status":{"phase":"pending","reason":"accepted","placement":null,"progress":0,"saved":0,"held":0,"#,
            r#""preemptions":0,"preempted":null,"progress_at_preemption":0,"since":1000}}}"#
        );
        let WorkloadRecord(mut workload) = decode(&key::target(), old.as_bytes()).unwrap();
        assert_eq!(workload, testing::workload("w", "t", 2));
        let grounds = Grounds::Override { by: "ada".into(), why: "a trial".into() };
        let price = MicroDollars::cents(295);
        workload.promise = Some(Promise { level: 990, price, given: Time(7), grounds });
        let promise = concat!(
            r#""promise":{"level":990,"price":2950000,"given":7,"#,
            r#""grounds":{"override":{"by":"ada","why":"a trial"}}},"#
        );
        let (before, status) = old.split_at(old.find(r#""status""#).unwrap());
        let of_two = format!("{before}{promise}{status}").replace(r#""schema":1"#, r#""schema":2"#);
        assert_eq!(decode::<WorkloadRecord>(&key::target(), of_two.as_bytes()).unwrap().0, workload);
        let written = of_two.replace(r#""schema":2"#, r#""schema":3"#);
        check(WorkloadRecord(workload.clone()), &written);
        let rule = Rule::Spread { most: 1, per: Domain::Module };
        let group = Group { id: GroupId::new("web").unwrap(), rule };
        let sites = Some(Sites::Only([SiteId::new("well-7").unwrap()].into()));
        workload.spec.affinity = Some(Affinity { sites, group: Some(group) });
        let affinity = concat!(
            r#""restart":120000,"affinity":{"sites":{"only":["well-7"]},"#,
            r#""group":{"id":"web","rule":{"spread":{"most":1,"per":"module"}}}}"#
        );
        check(WorkloadRecord(workload), &written.replace(r#""restart":120000"#, affinity));
    }

    #[test]
    fn the_large_records_come_back_as_they_were() {
        fn back<T: Versioned + PartialEq + std::fmt::Debug>(record: T) {
            let bytes = encode(&record).unwrap();
            assert_eq!(decode::<T>(&key::target(), &bytes).unwrap(), record);
        }
        let fleet = testing::fleet();
        assert_eq!(fleet.findings(), []);
        back(SiteRecord(fleet.sites[0].clone()));
        back(ModuleRecord { module: fleet.modules[0].clone(), cordoned: true, draining: false });
        back(OfferingRecord(fleet.offerings[0].clone()));
        let workload = testing::workload("w", "t", 2);
        let plan = testing::plan_with(&workload.id, testing::placement("m1", 1));
        back(WorkloadRecord(workload));
        back(PlanSiteRecord(plan.sites.values().next().unwrap().clone().take()));
    }
}
