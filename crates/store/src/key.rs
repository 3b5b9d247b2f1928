//! Every key of the product, listed and built here; nothing else builds one.
//!
//! | key | holds | written by |
//! |---|---|---|
//! | `epoch` | the store's epoch, raised by restore and import; part of each fence | whoever restores |
//! | `leader` | who leads and where; its create revision is the fence | the leader's election |
//! | `import` | an import began and did not end: nobody leads | whoever imports |
//! | `site/<site>` | a site's config and status | operator, leader |
//! | `module/<module>` | a module's config and status (cordoned, drained) | operator, leader |
//! | `tenant/<tenant>` | a tenant and its quotas | operator |
//! | `tenant-key/<sha256 of the API key, hex>` | which tenant an API key belongs to | operator |
//! | `offering/<offering>` | what is sold, and its price | operator |
//! | `workload/<workload>` | a workload's request and state | tenant, leader |
//! | `request/<tenant>/<request_id>` | the answer already given to a request (idempotency) | tenant, operator |
//! | `plan/<generation>` | a plan's head: parent, bounds, report | leader |
//! | `plan/<generation>/<site>` | that plan's part for one site, where it changed | leader |
//! | `target` | the generation of the plan in force | leader |
//! | `grant/<module>` | envelope generation and the ceilings granted | leader |
//! | `lost/<module>` | since when a module has been lost | leader |
//! | `watermark/<module>` | up to which sequence the module's ledger is kept | leader |
//! | `event/<kind>/<id>` | what happened lately to a site, a module or a workload | leader |
//!
//! Assumes: the twin adds the installation's prefix (`flareshift/` unless told otherwise), so that several
//! installations can share one etcd. An id holds no `/` (the model's id types see to that); should one, it is
//! escaped here so that no key can reach into another's place. Generations are padded so that keys sort by them.
//! Read next: `record.rs` for what the values look like.

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use crate::error::Error;

/// The installation's prefix where none is given.
pub const DEFAULT_INSTALLATION: &str = "flareshift/";
/// Longest prefix of an installation, in bytes; part of `OP_OVERHEAD_BYTES`.
pub const MAX_INSTALLATION_BYTES: usize = 64;

/// The name of one entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key as it was read. Not public: keys are built by the functions below.
    pub(crate) fn raw(key: impl AsRef<str>) -> Self {
        Self(Arc::from(key.as_ref()))
    }

    /// A key as it stood in a store, out of an export or a person's mouth.
    pub fn stored(key: impl AsRef<str>) -> Self {
        Self::raw(key)
    }

    /// A key outside the product's table, for the tests of this crate and of those that build on it.
    pub fn for_test(key: impl AsRef<str>) -> Self {
        Self::raw(key)
    }

    /// The key without the installation's prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after `prefix`, unescaped: the id that the builder was given. `None` if it is not under it.
    pub fn id_under(&self, prefix: &Prefix) -> Option<String> {
        self.0.strip_prefix(&*prefix.0).map(unescape)
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The start that some keys have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Every key of the installation.
    pub fn all() -> Self {
        Self(Arc::from(""))
    }

    /// A prefix outside the product's table, for tests.
    pub fn for_test(prefix: impl AsRef<str>) -> Self {
        Self(Arc::from(prefix.as_ref()))
    }

    /// Exactly the keys that begin with this key; to follow a single key.
    pub fn of_key(key: &Key) -> Self {
        Self(key.0.clone())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies under this prefix.
    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The store's epoch.
pub fn epoch() -> Key {
    Key::raw("epoch")
}

/// Who leads.
pub fn leader() -> Key {
    Key::raw("leader")
}

/// An import that has not ended.
pub fn import() -> Key {
    Key::raw("import")
}

/// The generation of the plan in force.
pub fn target() -> Key {
    Key::raw("target")
}

pub fn site(site: impl Display) -> Key {
    under("site/", &[&site])
}

pub fn sites() -> Prefix {
    Prefix(Arc::from("site/"))
}

pub fn module(module: impl Display) -> Key {
    under("module/", &[&module])
}

pub fn modules() -> Prefix {
    Prefix(Arc::from("module/"))
}

pub fn tenant(tenant: impl Display) -> Key {
    under("tenant/", &[&tenant])
}

pub fn tenants() -> Prefix {
    Prefix(Arc::from("tenant/"))
}

/// `hash` is the SHA-256 of the API key in hex: the key itself is never stored.
pub fn tenant_key(hash: impl Display) -> Key {
    under("tenant-key/", &[&hash])
}

pub fn tenant_keys() -> Prefix {
    Prefix(Arc::from("tenant-key/"))
}

pub fn offering(offering: impl Display) -> Key {
    under("offering/", &[&offering])
}

pub fn offerings() -> Prefix {
    Prefix(Arc::from("offering/"))
}

pub fn workload(workload: impl Display) -> Key {
    under("workload/", &[&workload])
}

pub fn workloads() -> Prefix {
    Prefix(Arc::from("workload/"))
}

pub fn request(tenant: impl Display, request_id: impl Display) -> Key {
    under("request/", &[&tenant, &request_id])
}

pub fn requests() -> Prefix {
    Prefix(Arc::from("request/"))
}

/// The head of a plan.
pub fn plan(generation: u64) -> Key {
    Key::raw(format!("plan/{generation:020}"))
}

/// One site's part of a plan.
pub fn plan_site(generation: u64, site: impl Display) -> Key {
    under(&format!("plan/{generation:020}/"), &[&site])
}

/// All parts of one plan, its head not included.
pub fn plan_sites(generation: u64) -> Prefix {
    Prefix(Arc::from(format!("plan/{generation:020}/")))
}

/// All plans, heads and parts, oldest first.
pub fn plans() -> Prefix {
    Prefix(Arc::from("plan/"))
}

pub fn grant(module: impl Display) -> Key {
    under("grant/", &[&module])
}

pub fn grants() -> Prefix {
    Prefix(Arc::from("grant/"))
}

pub fn lost(module: impl Display) -> Key {
    under("lost/", &[&module])
}

pub fn losts() -> Prefix {
    Prefix(Arc::from("lost/"))
}

pub fn watermark(module: impl Display) -> Key {
    under("watermark/", &[&module])
}

pub fn watermarks() -> Prefix {
    Prefix(Arc::from("watermark/"))
}

/// `kind` is `site`, `module` or `workload`.
pub fn event(kind: impl Display, id: impl Display) -> Key {
    under("event/", &[&kind, &id])
}

pub fn events() -> Prefix {
    Prefix(Arc::from("event/"))
}

/// Checks an installation's prefix and gives it its final slash.
pub fn installation(prefix: &str) -> Result<String, Error> {
    let trimmed = prefix.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if trimmed.is_empty() || !trimmed.chars().all(plain) || trimmed.len() >= MAX_INSTALLATION_BYTES {
        return Err(Error::refused(format!(
            "the key prefix {prefix:?} must be 1 to {} letters, digits, '-', '_', '.' or '/'",
            MAX_INSTALLATION_BYTES - 1
        )));
    }
    Ok(format!("{trimmed}/"))
}

fn under(prefix: &str, ids: &[&dyn Display]) -> Key {
    let mut key = String::from(prefix);
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            key.push('/');
        }
        escape_into(&mut key, &id.to_string());
    }
    Key::raw(key)
}

fn escape_into(key: &mut String, id: &str) {
    for c in id.chars() {
        match c {
            '/' => key.push_str("%2F"),
            '%' => key.push_str("%25"),
            c if c.is_control() => write!(key, "%{{{:x}}}", u32::from(c)).expect("a String takes any text"),
            c => key.push(c),
        }
    }
}

fn unescape(text: &str) -> String {
    text.replace("%2F", "/").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_of_the_table_is_built_as_it_is_documented() {
        let cases = [
            (epoch(), "epoch"),
            (leader(), "leader"),
            (import(), "import"),
            (target(), "target"),
            (site("pad-7"), "site/pad-7"),
            (module("m1"), "module/m1"),
            (tenant("acme"), "tenant/acme"),
            (tenant_key("ab12"), "tenant-key/ab12"),
            (offering("a100"), "offering/a100"),
            (workload("w1"), "workload/w1"),
            (request("acme", "r-1"), "request/acme/r-1"),
            (plan(7), "plan/00000000000000000007"),
            (plan_site(7, "pad-7"), "plan/00000000000000000007/pad-7"),
            (grant("m1"), "grant/m1"),
            (lost("m1"), "lost/m1"),
            (watermark("m1"), "watermark/m1"),
            (event("module", "m1"), "event/module/m1"),
        ];
        for (key, expected) in cases {
            assert_eq!(key.as_str(), expected);
        }
    }

    #[test]
    fn lists_cover_their_own_and_no_other() {
        let lists = [
            (sites(), site("a")),
            (modules(), module("a")),
            (tenants(), tenant("a")),
            (tenant_keys(), tenant_key("a")),
            (offerings(), offering("a")),
            (workloads(), workload("a")),
            (requests(), request("a", "b")),
            (plans(), plan(1)),
            (grants(), grant("a")),
            (losts(), lost("a")),
            (watermarks(), watermark("a")),
            (events(), event("site", "a")),
        ];
        for (list, _) in &lists {
            let covered = lists.iter().filter(|(_, key)| list.covers(key)).count();
            assert_eq!(covered, 1, "{list}");
            assert!(!list.covers(&leader()) && !list.covers(&epoch()) && !list.covers(&target()));
        }
        assert!(plan_sites(7).covers(&plan_site(7, "a")));
        assert!(!plan_sites(7).covers(&plan(7)) && !plan_sites(7).covers(&plan_site(70, "a")));
    }

    #[test]
    fn an_id_cannot_reach_into_another_place() {
        assert_eq!(request("a/b", "c").as_str(), "request/a%2Fb/c");
        assert_ne!(request("a/b", "c"), request("a", "b/c"));
        assert_ne!(site("a%2Fb"), site("a/b"));
        assert_eq!(site("a\nb").as_str(), "site/a%{a}b");
    }

    #[test]
    fn the_id_comes_back_from_the_key() {
        for id in ["pad-7", "a/b", "50%", "%2F"] {
            assert_eq!(site(id).id_under(&sites()).as_deref(), Some(id));
        }
        assert_eq!(module("m").id_under(&sites()), None);
    }

    #[test]
    fn plans_sort_by_generation() {
        assert!(plan(9) < plan(10) && plan_site(9, "z") < plan(10) && plan(10) < plan_site(10, "a"));
    }

    #[test]
    fn an_installation_prefix_is_checked() {
        assert_eq!(installation("flareshift").unwrap(), "flareshift/");
        assert_eq!(installation("/a/b/").unwrap(), "a/b/");
        for bad in ["", "/", "a b", "ä", &"x".repeat(64)] {
            assert!(matches!(installation(bad), Err(Error::Refused { .. })), "{bad}");
        }
    }
}
