//! Where a workload may run, and beside whom. Wire: `workload.proto`. Model: [`model::affinity`].
//!
//! What comes in is refused where it cannot be ([`model::affinity::Affinity::fault`]); whether its sites exist is asked where an order is
//! taken.

use model::affinity::{Affinity, Domain, Group, Rule, Sites};

use super::field::{Error, choice, id, list_with, optional, required, unspecified};
use crate::common as wire;

impl From<Affinity> for wire::Affinity {
    fn from(Affinity { sites, group }: Affinity) -> Self {
        let list = |sites: std::collections::BTreeSet<model::SiteId>| wire::SiteList {
            sites: sites.iter().map(|site| site.as_str().to_owned()).collect(),
        };
        let sites = sites.map(|sites| match sites {
            Sites::Only(sites) => wire::affinity::Sites::Only(list(sites)),
            Sites::Except(sites) => wire::affinity::Sites::Except(list(sites)),
        });
        Self { sites, group: group.map(Into::into) }
    }
}

impl TryFrom<wire::Affinity> for Affinity {
    type Error = Error;
    fn try_from(wire::Affinity { sites, group }: wire::Affinity) -> Result<Self, Error> {
        let list = |list: wire::SiteList, field: &str| -> Result<_, Error> {
            Ok(list_with(list.sites, field, |site| id(&site, ""))?.into_iter().collect())
        };
        let sites = sites.map(|sites| match sites {
            wire::affinity::Sites::Only(sites) => list(sites, "only").map(Sites::Only),
            wire::affinity::Sites::Except(sites) => list(sites, "except").map(Sites::Except),
        });
        let affinity = Self { sites: sites.transpose()?, group: optional(group, "group")? };
        match affinity.fault() {
            Some((field, expected)) => Err(Error::new(field, expected)),
            None => Ok(affinity),
        }
    }
}

impl From<Group> for wire::WorkloadGroup {
    fn from(Group { id, rule }: Group) -> Self {
        let rule = match rule {
            Rule::Together => wire::workload_group::Rule::Together(wire::GroupTogether {}),
            Rule::Spread { most, per } => {
                let per = wire::GroupDomain::from(per).into();
                wire::workload_group::Rule::Spread(wire::GroupSpread { most, per })
            }
        };
        Self { id: id.as_str().to_owned(), rule: Some(rule) }
    }
}

impl TryFrom<wire::WorkloadGroup> for Group {
    type Error = Error;
    fn try_from(group: wire::WorkloadGroup) -> Result<Self, Error> {
        let rule = match required(group.rule, "rule")? {
            wire::workload_group::Rule::Together(wire::GroupTogether {}) => Rule::Together,
            wire::workload_group::Rule::Spread(wire::GroupSpread { most, per }) => {
                Rule::Spread { most, per: choice::<wire::GroupDomain, _>(per, "spread.per")? }
            }
        };
        Ok(Self { id: id(&group.id, "id")?, rule })
    }
}

impl From<Domain> for wire::GroupDomain {
    fn from(domain: Domain) -> Self {
        match domain {
            Domain::Site => Self::Site,
            Domain::Module => Self::Module,
        }
    }
}

impl TryFrom<wire::GroupDomain> for Domain {
    type Error = Error;
    fn try_from(domain: wire::GroupDomain) -> Result<Self, Error> {
        match domain {
            wire::GroupDomain::Unspecified => Err(unspecified()),
            wire::GroupDomain::Site => Ok(Self::Site),
            wire::GroupDomain::Module => Ok(Self::Module),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use model::affinity::MOST_TOGETHER;

    use super::super::vary::{Vary, enum_survives, survives};
    use super::*;

    const DOMAINS: [Domain; 2] = [Domain::Site, Domain::Module];

    fn group(v: &mut Vary) -> Group {
        let spread = Rule::Spread { most: 1 + v.small() % MOST_TOGETHER, per: v.pick(&DOMAINS) };
        Group { id: v.id(), rule: v.pick(&[Rule::Together, spread]) }
    }

    /// Only what may be ordered comes over the wire.
    pub(in super::super) fn affinity(v: &mut Vary) -> Affinity {
        let names = (0..=v.small() % 3).map(|_| v.id()).collect();
        let sites = if v.flag() { Sites::Only(names) } else { Sites::Except(names) };
        match v.small() % 3 {
            0 => Affinity { sites: Some(sites), group: None },
            1 => Affinity { sites: None, group: Some(group(v)) },
            _ => Affinity { sites: Some(sites), group: Some(group(v)) },
        }
    }

    #[test]
    fn affinities_survive_the_wire() {
        survives::<_, wire::Affinity>(affinity);
        enum_survives(&DOMAINS, wire::GroupDomain::Unspecified);
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        use wire::workload_group::Rule::{Spread, Together};
        let check = |affinity: wire::Affinity, expected: &str| {
            let error = Affinity::try_from(affinity).expect_err("it cannot be").to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        let only = |sites: &[&str]| wire::Affinity {
            sites: Some(wire::affinity::Sites::Only(wire::SiteList {
                sites: sites.iter().map(ToString::to_string).collect(),
            })),
            group: None,
        };
        let group = |id: &str, rule| wire::Affinity {
            sites: None,
            group: Some(wire::WorkloadGroup { id: id.into(), rule }),
        };
        let together = Some(Together(wire::GroupTogether {}));
        let spread = |most, per| Some(Spread(wire::GroupSpread { most, per }));
        check(wire::Affinity::default(), ": expected sites or a group");
        check(only(&[]), "sites: expected one or more");
        check(only(&["a", "B"]), "only[1]: expected a site id");
        check(group("web", None), "group.rule: expected a value");
        check(group("Web", together), "group.id: expected a group id of 1 to 63");
        check(group(&"w".repeat(64), together), "group.id: expected a group id of 1 to 63");
        check(group("web", spread(0, 1)), "group.spread.most: expected 1 to 1000, found 0");
        check(group("web", spread(1_001, 1)), "group.spread.most: expected 1 to 1000");
        check(group("web", spread(1, 0)), "group.spread.per: expected an enum value other than");
        check(group("web", spread(1, 9)), "group.spread.per: expected a known enum value, found 9");
    }
}
