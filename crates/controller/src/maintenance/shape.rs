//! All kinds of records as one table: which key holds which, and how it is read and written anew.
//!
//! Assumes: the key table of `store::key`; a key that is new there gets its line here, which the tests hold.
//! Read next: `../records.rs`.

use serde::de::IgnoredAny;
use store::record::{Record, Versioned, decode, encode};
use store::{Error, Key, Prefix, key};

use crate::records::{
    EpochRecord, GrantRecord, HistoryRecord, ImportRecord, LostRecord, ModuleRecord, OfferingRecord,
    PlanHead, PlanSiteRecord, RequestRecord, SiteRecord, TargetRecord, TenantKeyRecord, TenantRecord,
    WatermarkRecord, WorkloadRecord,
};

/// One kind of record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kind: &'static str,
    /// The schema that this program writes.
    pub(super) version: u32,
    renew: fn(&Key, &[u8]) -> Result<Vec<u8>, Error>,
}

impl Shape {
    fn of<T: Versioned>() -> Self {
        Self { kind: T::KIND, version: T::VERSION, renew: |key, bytes| encode(&decode::<T>(key, bytes)?) }
    }

    /// Reads a record and writes it in the latest schema.
    pub(super) fn renew(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        (self.renew)(key, bytes)
    }

    /// The schema that stands in a record's envelope.
    pub(super) fn schema(bytes: &[u8]) -> Option<u32> {
        serde_json::from_slice::<Record<IgnoredAny>>(bytes).ok().map(|record| record.schema)
    }
}

/// What stands under a key; `None` for a key that this program does not know.
pub(super) fn of(key: &Key) -> Option<Shape> {
    let singles = [
        (key::epoch(), Shape::of::<EpochRecord>()),
        (key::target(), Shape::of::<TargetRecord>()),
        (key::import(), Shape::of::<ImportRecord>()),
    ];
    let single = singles.iter().find(|(single, _)| single == key).map(|(_, shape)| *shape);
    single.or_else(|| lists().iter().find(|(prefix, _)| prefix.covers(key)).map(|(_, shape)| *shape)).or_else(
        || {
            let plan = key.id_under(&key::plans())?;
            Some(if plan.contains('/') { Shape::of::<PlanSiteRecord>() } else { Shape::of::<PlanHead>() })
        },
    )
}

fn lists() -> [(Prefix, Shape); 11] {
    [
        (key::sites(), Shape::of::<SiteRecord>()),
        (key::modules(), Shape::of::<ModuleRecord>()),
        (key::tenants(), Shape::of::<TenantRecord>()),
        (key::tenant_keys(), Shape::of::<TenantKeyRecord>()),
        (key::offerings(), Shape::of::<OfferingRecord>()),
        (key::workloads(), Shape::of::<WorkloadRecord>()),
        (key::requests(), Shape::of::<RequestRecord>()),
        (key::grants(), Shape::of::<GrantRecord>()),
        (key::losts(), Shape::of::<LostRecord>()),
        (key::watermarks(), Shape::of::<WatermarkRecord>()),
        (key::events(), Shape::of::<HistoryRecord>()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_has_its_kind() {
        let check = |key: Key, expected: Option<&str>| {
            assert_eq!(of(&key).map(|shape| shape.kind), expected, "{key}");
        };
        check(key::epoch(), Some("epoch"));
        check(key::target(), Some("target"));
        check(key::import(), Some("import"));
        check(key::site("a"), Some("site"));
        check(key::module("a"), Some("module"));
        check(key::tenant("a"), Some("tenant"));
        check(key::tenant_key("a"), Some("tenant-key"));
        check(key::offering("a"), Some("offering"));
        check(key::workload("a"), Some("workload"));
        check(key::request("a", "b"), Some("request"));
        check(key::plan(3), Some("plan"));
        check(key::plan_site(3, "a"), Some("plan-site"));
        check(key::grant("a"), Some("grant"));
        check(key::lost("a"), Some("lost"));
        check(key::watermark("a"), Some("watermark"));
        check(key::event("module", "a"), Some("history"));
        check(key::leader(), None);
        check(Key::stored("future/x"), None);
    }
}
