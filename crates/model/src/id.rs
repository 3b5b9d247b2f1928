//! Ids as types: one for each kind of thing, so that a site's id is never taken for a module's.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id, as a DNS label: ids become Kubernetes names and parts of store keys.
pub const MAX_LEN: usize = 63;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no {kind} id: use 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit"
)]
pub struct Invalid {
    /// What was given.
    pub text: String,
    /// The kind of id that was wanted.
    pub kind: &'static str,
}

/// What an [`Id`] names.
pub trait Kind: 'static {
    /// The kind's name, for messages.
    const NAME: &'static str;
}

/// The id of one thing of kind `K`: 1 to 63 of `a-z0-9-`, cheap to clone, ordered as text.
pub struct Id<K> {
    // Invariant: checked by `new`; every way to make an `Id` passes it.
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// Marker of [`SiteId`].
pub enum SiteKind {}
/// Marker of [`ModuleId`].
pub enum ModuleKind {}
/// Marker of [`GensetId`].
pub enum GensetKind {}
/// Marker of [`GasSourceId`].
pub enum GasSourceKind {}
/// Marker of [`FeederId`].
pub enum FeederKind {}
/// Marker of [`MinerGroupId`].
pub enum MinerGroupKind {}
/// Marker of [`PoolId`].
pub enum PoolKind {}
/// Marker of [`TenantId`].
pub enum TenantKind {}
/// Marker of [`OfferingId`].
pub enum OfferingKind {}
/// Marker of [`WorkloadId`].
pub enum WorkloadKind {}
/// Marker of [`GroupId`].
pub enum GroupKind {}
/// Marker of [`ContingencyId`].
pub enum ContingencyKind {}

impl Kind for SiteKind {
    const NAME: &'static str = "site";
}
impl Kind for ModuleKind {
    const NAME: &'static str = "module";
}
impl Kind for GensetKind {
    const NAME: &'static str = "genset";
}
impl Kind for GasSourceKind {
    const NAME: &'static str = "gas source";
}
impl Kind for FeederKind {
    const NAME: &'static str = "feeder";
}
impl Kind for MinerGroupKind {
    const NAME: &'static str = "miner group";
}
impl Kind for PoolKind {
    const NAME: &'static str = "GPU pool";
}
impl Kind for TenantKind {
    const NAME: &'static str = "tenant";
}
impl Kind for OfferingKind {
    const NAME: &'static str = "offering";
}
impl Kind for WorkloadKind {
    const NAME: &'static str = "workload";
}
impl Kind for GroupKind {
    const NAME: &'static str = "group";
}
impl Kind for ContingencyKind {
    const NAME: &'static str = "contingency";
}

/// A site, unique in the fleet.
pub type SiteId = Id<SiteKind>;
/// A module, unique in the fleet.
pub type ModuleId = Id<ModuleKind>;
/// A generator set, unique in its site.
pub type GensetId = Id<GensetKind>;
/// A gas source, unique in its site.
pub type GasSourceId = Id<GasSourceKind>;
/// A feeder breaker, unique in its module.
pub type FeederId = Id<FeederKind>;
/// A miner group, unique in its module.
pub type MinerGroupId = Id<MinerGroupKind>;
/// A GPU pool, unique in its module.
pub type PoolId = Id<PoolKind>;
/// A tenant, unique in the fleet.
pub type TenantId = Id<TenantKind>;
/// An offering, unique in the fleet.
pub type OfferingId = Id<OfferingKind>;
/// A workload, unique in the fleet.
pub type WorkloadId = Id<WorkloadKind>;
/// A group of workloads, unique with its tenant.
pub type GroupId = Id<GroupKind>;
/// A credible loss at a site, e.g. `genset-g1`; unique in its site.
pub type ContingencyId = Id<ContingencyKind>;

impl<K: Kind> Id<K> {
    /// Checks a text and makes it an id.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let valid =
            bytes.len() <= MAX_LEN && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner);
        if valid {
            Ok(Self { text: text.into(), kind: PhantomData })
        } else {
            Err(Invalid { text: text.chars().take(2 * MAX_LEN).collect(), kind: K::NAME })
        }
    }
}

impl<K> Id<K> {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

// Derives would demand the same traits of the marker `K`; these do not.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        // Most ids that are compared are clones of one.
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
impl<K: Kind> FromStr for Id<K> {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(SiteId::new(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn ids_are_dns_labels() {
        check("well-7", true);
        check("7", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        check("", false);
        check("-a", false);
        check("a-", false);
        check("Well", false);
        check("a/b", false);
        check("a b", false);
        check("ä", false);
    }

    #[test]
    fn the_error_says_what_an_id_may_be() {
        let error = ModuleId::new("a/b").expect_err("a slash is not allowed");
        assert!(error.to_string().contains("no module id: use 1 to 63 of a-z"), "{error}");
    }

    #[test]
    fn ids_keep_their_rules_through_json() {
        assert!(serde_json::from_str::<SiteId>("\"well-7\"").is_ok());
        assert!(serde_json::from_str::<SiteId>("\"../etc\"").is_err());
    }
}
