//! The shape of where a workload may run, and beside whom, in REST: flat, as people write it.
//!
//! Only what a single field can tell is refused here; the rest is `tenant/order.rs`'s, for both APIs. Read next: `view.rs`.

use std::collections::BTreeSet;

use api::Problem;
use model::affinity::{Domain, Rule, Sites};
use model::{GroupId, SiteId, affinity};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where it may run, and beside whom of the same tenant. Hard for starts; what runs is never stopped for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Affinity {
    /// The sites it may run on, 1 to 64; any unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    only_sites: Option<Vec<String>>,
    /// The sites it may not run on, 1 to 64; not beside `only_sites`.
    #[serde(skip_serializing_if = "Option::is_none")]
    except_sites: Option<Vec<String>>,
    /// The group that it belongs to; it stands alone unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
}

/// A group of your workloads. Who names it and is not over belongs to it, and all name the same rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Its name: 1 to 63 of a-z, 0-9 and '-'.
    id: String,
    /// `together`: all of it on one site. `spread`: at most `most` of it in one place.
    rule: String,
    /// How many in one place, 1 to 1000; 1 keeps them apart. With `spread` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<u32>,
    /// What counts as one place: `site` or `module`. With `spread` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
}

impl TryFrom<Affinity> for affinity::Affinity {
    type Error = Problem;

    fn try_from(Affinity { only_sites, except_sites, group }: Affinity) -> Result<Self, Problem> {
        let sites = match (only_sites, except_sites) {
            (Some(_), Some(_)) => {
                let both =
                    "affinity: expected only_sites or except_sites, found both; name those it may run on";
                return Err(Problem::invalid(both));
            }
            (Some(only), None) => Some(Sites::Only(named(&only, "only_sites")?)),
            (None, Some(except)) => Some(Sites::Except(named(&except, "except_sites")?)),
            (None, None) => None,
        };
        Ok(Self { sites, group: group.map(TryInto::try_into).transpose()? })
    }
}

fn named(sites: &[String], field: &str) -> Result<BTreeSet<SiteId>, Problem> {
    let bad =
        |site: &String| Problem::invalid(format!("affinity.{field}: expected ids of sites, found {site:?}"));
    sites.iter().map(|site| SiteId::new(site).map_err(|_| bad(site))).collect()
}

impl TryFrom<Group> for affinity::Group {
    type Error = Problem;

    fn try_from(Group { id, rule, most, per }: Group) -> Result<Self, Problem> {
        let bad = |field: &str, expected: &str| {
            Problem::invalid(format!("affinity.group.{field}: expected {expected}"))
        };
        let name = GroupId::new(&id);
        let id = name.map_err(|_| bad("id", &format!("1 to 63 of a-z, 0-9 and '-', found {id:?}")))?;
        let rule = match (rule.as_str(), most, per.as_deref()) {
            ("together", None, None) => Rule::Together,
            ("together", ..) => return Err(bad("rule", "spread beside most and per; together has neither")),
            ("spread", Some(most), Some("site")) => Rule::Spread { most, per: Domain::Site },
            ("spread", Some(most), Some("module")) => Rule::Spread { most, per: Domain::Module },
            ("spread", None, _) => {
                return Err(bad("most", "how many in one place; 1 keeps all of the group apart"));
            }
            ("spread", _, found) => {
                return Err(bad("per", &format!("site or module, found {:?}", found.unwrap_or_default())));
            }
            (other, ..) => return Err(bad("rule", &format!("together or spread, found {other:?}"))),
        };
        Ok(Self { id, rule })
    }
}

impl From<affinity::Affinity> for Affinity {
    fn from(affinity::Affinity { sites, group }: affinity::Affinity) -> Self {
        let list = |sites: &BTreeSet<SiteId>| Some(sites.iter().map(ToString::to_string).collect());
        let (only_sites, except_sites) = match &sites {
            Some(Sites::Only(sites)) => (list(sites), None),
            Some(Sites::Except(sites)) => (None, list(sites)),
            None => (None, None),
        };
        Self { only_sites, except_sites, group: group.map(Group::from) }
    }
}

impl From<affinity::Group> for Group {
    fn from(affinity::Group { id, rule }: affinity::Group) -> Self {
        let (word, most, per) = match rule {
            Rule::Together => ("together", None, None),
            Rule::Spread { most, per } => ("spread", Some(most), Some(per.to_string())),
        };
        Self { id: id.to_string(), rule: word.into(), most, per }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_asked_is_shown_again() {
        for body in [
            r#"{"only_sites":["a","b"]}"#,
            r#"{"except_sites":["a"],"group":{"id":"web","rule":"together"}}"#,
            r#"{"group":{"id":"web","rule":"spread","most":1,"per":"site"}}"#,
            r#"{"group":{"id":"web","rule":"spread","most":3,"per":"module"}}"#,
        ] {
            let asked: Affinity = serde_json::from_str(body).unwrap();
            let known = affinity::Affinity::try_from(asked).unwrap();
            assert_eq!(serde_json::to_string(&Affinity::from(known)).unwrap(), body);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        let check = |body: &str, expected: &str| {
            let asked: Affinity = serde_json::from_str(body).unwrap();
            let message = affinity::Affinity::try_from(asked).unwrap_err().message;
            assert!(message.starts_with(expected), "{message}");
        };
        let long = "w".repeat(64);
        check(
            r#"{"only_sites":["a"],"except_sites":["b"]}"#,
            "affinity: expected only_sites or except_sites",
        );
        check(r#"{"only_sites":["A"]}"#, "affinity.only_sites: expected ids of sites, found \"A\"");
        check(
            &format!(r#"{{"group":{{"id":"{long}","rule":"together"}}}}"#),
            "affinity.group.id: expected 1 to 63",
        );
        check(r#"{"group":{"id":"web","rule":"near"}}"#, "affinity.group.rule: expected together or spread");
        check(
            r#"{"group":{"id":"web","rule":"together","most":1}}"#,
            "affinity.group.rule: expected spread beside",
        );
        check(
            r#"{"group":{"id":"web","rule":"spread","per":"site"}}"#,
            "affinity.group.most: expected how many",
        );
        check(
            r#"{"group":{"id":"web","rule":"spread","most":1}}"#,
            "affinity.group.per: expected site or module",
        );
        check(
            r#"{"group":{"id":"web","rule":"spread","most":1,"per":"rack"}}"#,
            "affinity.group.per: expected site",
        );
    }
}
