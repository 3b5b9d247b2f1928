//! Where a workload may run, and beside whom: a part of what `workload describe` shows.

use api::common as wire;
use serde::Serialize;

use super::read;
use super::show::word;

/// Where it may run, and beside whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// The sites it may run on; `null` = any.
    pub only_sites: Option<Vec<String>>,
    /// The sites it may not run on.
    pub except_sites: Option<Vec<String>>,
    /// The group that it belongs to.
    pub group: Option<Group>,
}

/// A group of its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub id: String,
    /// `together` or `spread`.
    pub rule: Option<&'static str>,
    /// How many in one place.
    pub most: Option<u32>,
    /// What counts as one place: `site` or `module`.
    pub per: Option<String>,
}

impl Affinity {
    /// The lines of a table.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let sites = match (&self.only_sites, &self.except_sites) {
            (Some(only), _) => format!("only {}", only.join(", ")),
            (None, Some(except)) => format!("any but {}", except.join(", ")),
            (None, None) => String::new(),
        };
        vec![("Sites", sites), ("Group", self.group.as_ref().map(Group::show).unwrap_or_default())]
    }
}

impl Group {
    fn show(&self) -> String {
        match self.most {
            Some(most) => format!("{}, at most {most} on one {}", self.id, word(&self.per)),
            None => format!("{}, {}", self.id, self.rule.unwrap_or("by a rule that is not known here")),
        }
    }
}

impl From<wire::Affinity> for Affinity {
    fn from(wire::Affinity { sites, group }: wire::Affinity) -> Self {
        let (only_sites, except_sites) = match sites {
            Some(wire::affinity::Sites::Only(list)) => (Some(list.sites), None),
            Some(wire::affinity::Sites::Except(list)) => (None, Some(list.sites)),
            None => (None, None),
        };
        Self { only_sites, except_sites, group: group.map(Group::from) }
    }
}

impl From<wire::WorkloadGroup> for Group {
    fn from(wire::WorkloadGroup { id, rule }: wire::WorkloadGroup) -> Self {
        let (rule, most, per) = match rule {
            Some(wire::workload_group::Rule::Together(_)) => (Some("together"), None, None),
            Some(wire::workload_group::Rule::Spread(spread)) => {
                let per = wire::GroupDomain::try_from(spread.per).map(|per| per.as_str_name());
                (Some("spread"), Some(spread.most), read::word(per, "GROUP_DOMAIN_"))
            }
            None => (None, None, None),
        };
        Self { id, rule, most, per }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_thing_that_was_said() {
        let check = |affinity: Affinity, expected: [&str; 2]| {
            assert_eq!(
                affinity.pairs().iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
                expected
            );
        };
        let group = |rule, most, per: Option<&str>| {
            Some(Group { id: "web".into(), rule, most, per: per.map(str::to_owned) })
        };
        let sites = || Some(vec!["a".to_owned(), "b".to_owned()]);
        check(Affinity { only_sites: sites(), except_sites: None, group: None }, ["only a, b", ""]);
        check(
            Affinity { only_sites: None, except_sites: sites(), group: group(Some("together"), None, None) },
            ["any but a, b", "web, together"],
        );
        check(
            Affinity {
                only_sites: None,
                except_sites: None,
                group: group(Some("spread"), Some(2), Some("site")),
            },
            ["", "web, at most 2 on one site"],
        );
    }
}
