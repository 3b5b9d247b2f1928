//! Where a workload may run, and beside whom of its own tenant: a list of sites, and a group with a rule.
//!
//! Both are hard for starts and never stop a run: what goes on where the rule no longer holds (after a restore, say) goes on, and a
//! finding says so. A group is its tenant's own: the same name under another tenant is another group. Who belongs to it is who names
//! it and is not over. Read next: [`crate::workload::Spec`], which carries it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{GroupId, SiteId};

/// Most sites in one list: more than any tenant names by hand, and an order stays within some kilobytes (64 × 63 bytes).
pub const MOST_SITES: usize = 64;
/// Most of a group that a rule may allow in one place; a thousand is no limit to anybody.
pub const MOST_TOGETHER: u32 = 1_000;

/// Where a workload may run, and beside whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// The sites it may run on; `None` = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Sites>,
    /// The group that it belongs to; `None` = it stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// Sites by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sites {
    /// These and no other: where the data may lie, or where a link ends.
    Only(BTreeSet<SiteId>),
    /// Any but these.
    Except(BTreeSet<SiteId>),
}

/// A group of workloads of one tenant, and what holds among them. All of a group name the same rule; where they do not, the strictest
/// of each kind holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name, unique with its tenant.
    pub id: GroupId,
    /// What holds among those that belong to it.
    pub rule: Rule,
}

/// What holds in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// All of it run on one site.
    Together,
    /// It is spread: so many in one place at most.
    Spread {
        /// How many of the group; 1 keeps them apart.
        most: u32,
        /// What counts as one place.
        per: Domain,
    },
}

/// What counts as one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// An island: its power and its link fail as one.
    Site,
    /// A container: its cooling and its switch fail as one.
    Module,
}

impl Affinity {
    /// Whether it may run on a site, as far as its list says.
    pub fn allows(&self, site: &SiteId) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contain(site))
    }

    /// The first thing about it that cannot be, as the field (empty where it is the whole) and what was expected there; `None` = it
    /// may be used. Whether its sites exist the fleet says.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let listed = self.sites.as_ref().map(|sites| sites.named().len());
        match (listed, self.group.as_ref().map(|group| group.rule)) {
            (Some(0), _) => Some(("sites", "one or more; leave the list out to allow any".into())),
            (Some(count), _) if count > MOST_SITES => {
                let expected = format!("{MOST_SITES} at most, found {count}; list those of the other kind");
                Some(("sites", expected))
            }
            (_, Some(Rule::Spread { most, .. })) if !(1..=MOST_TOGETHER).contains(&most) => {
                let expected = format!("1 to {MOST_TOGETHER}, found {most}; 1 keeps all of the group apart");
                Some(("group.spread.most", expected))
            }
            (None, None) => Some(("", "sites or a group; leave it out to allow anything".into())),
            _ => None,
        }
    }
}

impl Sites {
    /// Whether a site is among those it may run on.
    pub fn contain(&self, site: &SiteId) -> bool {
        match self {
            Sites::Only(sites) => sites.contains(site),
            Sites::Except(sites) => !sites.contains(site),
        }
    }

    /// The sites that are named, to run on or to avoid.
    pub fn named(&self) -> &BTreeSet<SiteId> {
        match self {
            Sites::Only(sites) | Sites::Except(sites) => sites,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Together => f.write_str("all on one site"),
            Rule::Spread { most, per } => write!(f, "at most {most} on one {per}"),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Domain::Site => "site",
            Domain::Module => "module",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sites(names: &[&str]) -> BTreeSet<SiteId> {
        names.iter().map(|name| SiteId::new(name).unwrap()).collect()
    }

    fn group(rule: Rule) -> Option<Group> {
        Some(Group { id: GroupId::new("web").unwrap(), rule })
    }

    #[test]
    fn a_list_says_where_it_may_run() {
        let check = |sites: Option<Sites>, site: &str, expected: bool| {
            let affinity = Affinity { sites, group: None };
            assert_eq!(affinity.allows(&SiteId::new(site).unwrap()), expected, "{affinity:?} {site}");
        };
        check(None, "a", true);
        check(Some(Sites::Only(sites(&["a", "b"]))), "a", true);
        check(Some(Sites::Only(sites(&["a", "b"]))), "c", false);
        check(Some(Sites::Except(sites(&["a"]))), "a", false);
        check(Some(Sites::Except(sites(&["a"]))), "c", true);
    }

    #[test]
    fn what_cannot_be_is_told_by_field() {
        let check = |sites: Option<Sites>, group: Option<Group>, expected: Option<&str>| {
            let fault = Affinity { sites, group }.fault();
            assert_eq!(fault.as_ref().map(|(field, _)| *field), expected, "{fault:?}");
        };
        let spread = |most| group(Rule::Spread { most, per: Domain::Site });
        let many: BTreeSet<SiteId> =
            (0..=MOST_SITES).map(|nth| SiteId::new(&format!("s{nth}")).unwrap()).collect();
        check(None, None, Some(""));
        check(Some(Sites::Only(sites(&[]))), None, Some("sites"));
        check(Some(Sites::Except(many)), None, Some("sites"));
        check(Some(Sites::Only(sites(&["a"]))), None, None);
        check(None, group(Rule::Together), None);
        check(None, spread(0), Some("group.spread.most"));
        check(None, spread(MOST_TOGETHER), None);
        check(None, spread(MOST_TOGETHER + 1), Some("group.spread.most"));
    }

    #[test]
    fn json_has_only_what_was_said() {
        let check = |affinity: Affinity, expected: &str| {
            assert_eq!(serde_json::to_string(&affinity).unwrap(), expected);
            assert_eq!(serde_json::from_str::<Affinity>(expected).unwrap(), affinity);
        };
        check(
            Affinity { sites: Some(Sites::Only(sites(&["a"]))), group: None },
            r#"{"sites":{"only":["a"]}}"#,
        );
        check(
            Affinity { sites: None, group: group(Rule::Together) },
            r#"{"group":{"id":"web","rule":"together"}}"#,
        );
        check(
            Affinity { sites: None, group: group(Rule::Spread { most: 1, per: Domain::Module }) },
            r#"{"group":{"id":"web","rule":{"spread":{"most":1,"per":"module"}}}}"#,
        );
    }
}
