//! What binds jobs to places: lists of sites and groups, by index, and how a group stands while a search seats and unseats.
//!
//! Jobs that ask for the same share one entry, so that what is remembered of one class of jobs holds for all of it. Who holds a place
//! already counts as long as it does, also where it is about to be stopped. A job without an entry costs one comparison. Read next:
//! `state`, which asks before each seat.

use std::collections::BTreeMap;

use model::SiteId;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::state::Refusal;
use crate::affinity::{Held, Key};
use crate::assign::Book;

/// What binds a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// Islands it may start on, in order; `None` = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<usize>>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
}

/// What holds in a group, and who holds a place already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// All on one island.
    pub together: bool,
    /// Most on one island.
    pub per_site: Option<u32>,
    /// Most in one module.
    pub per_module: Option<u32>,
    /// How many hold a place, by island.
    pub sites: BTreeMap<usize, u32>,
    /// The same by module, as far as modules take part.
    pub modules: BTreeMap<usize, u32>,
    /// How many hold one on islands that are not planned here.
    pub elsewhere: u32,
}

impl Group {
    /// What keeps one more from starting in a place.
    fn takes(&self, site: usize, module: usize) -> bool {
        let at = |of: &BTreeMap<usize, u32>, place: usize| of.get(&place).copied().unwrap_or(0);
        let below = |count: u32, most: Option<u32>| most.is_none_or(|most| count < most);
        let alone = || self.elsewhere == 0 && self.sites.keys().all(|&other| other == site);
        (!self.together || alone())
            && below(at(&self.sites, site), self.per_site)
            && below(at(&self.modules, module), self.per_module)
    }

    /// One more of it has a seat, or one less.
    pub(crate) fn seat(&mut self, (site, module): (usize, usize), sits: bool) {
        count(&mut self.sites, site, sits);
        count(&mut self.modules, module, sits);
    }

    /// Whether anybody stands anywhere.
    pub(crate) fn is_anchored(&self) -> bool {
        self.elsewhere > 0 || !self.sites.is_empty()
    }
}

/// Places where nobody stands are not kept, so that states that are alike are equal.
fn count(of: &mut BTreeMap<usize, u32>, place: usize, sits: bool) {
    let now = of.get(&place).copied().unwrap_or(0);
    let then = if sits { now + 1 } else { now.saturating_sub(1) };
    if then == 0 {
        of.remove(&place)
    } else {
        of.insert(place, then)
    };
}

/// What keeps a job with this binding from a place; `None` = nothing.
pub(crate) fn refuses(
    binding: &Binding,
    groups: &[Group],
    (site, module): (usize, usize),
) -> Option<Refusal> {
    if binding.sites.as_ref().is_some_and(|sites| sites.binary_search(&site).is_err()) {
        return Some(Refusal::Sites);
    }
    let group = groups.get(binding.group?)?;
    (!group.takes(site, module)).then_some(Refusal::Group)
}

impl Problem {
    /// Binds jobs to what their tenants said, in the order of jobs.
    pub(crate) fn bind(&mut self, book: &Book<'_>) {
        let mut bindings: BTreeMap<Binding, usize> = BTreeMap::new();
        let mut groups: BTreeMap<Key<'_>, usize> = BTreeMap::new();
        for nth in 0..self.jobs.len() {
            if self.jobs[nth].binding.is_none() {
                continue;
            }
            let workload = book.input.workloads.get(&self.jobs[nth].id);
            let Some(workload) = workload.filter(|workload| workload.spec.affinity.is_some()) else {
                continue;
            };
            let affinity = workload.spec.affinity.as_ref();
            let sites = affinity.and_then(|affinity| affinity.sites.as_ref());
            let sites = sites.map(|sites| self.sites_where(|site| sites.contain(site)));
            let group = book.groups.get(workload).map(|(key, standing)| {
                *groups.entry(key).or_insert_with(|| {
                    let demands = standing.demands;
                    let group = Group {
                        together: demands.together,
                        per_site: demands.per_site,
                        per_module: demands.per_module,
                        ..Group::default()
                    };
                    self.groups.push(self.stands(group, &standing.held));
                    self.groups.len() - 1
                })
            });
            let next = bindings.len();
            self.jobs[nth].binding = Some(*bindings.entry(Binding { sites, group }).or_insert(next));
        }
        let mut all: Vec<(Binding, usize)> = bindings.into_iter().collect();
        all.sort_by_key(|(_, nth)| *nth);
        self.bindings = all.into_iter().map(|(binding, _)| binding).collect();
    }

    fn sites_where(&self, allowed: impl Fn(&SiteId) -> bool) -> Vec<usize> {
        (0..self.sites.len()).filter(|&nth| allowed(&self.sites[nth].id)).collect()
    }

    fn stands(&self, mut group: Group, held: &[Held<'_>]) -> Group {
        for held in held {
            let site =
                held.site.and_then(|site| self.sites.binary_search_by(|other| other.id.cmp(site)).ok());
            match site {
                Some(site) => {
                    *group.sites.entry(site).or_default() += 1;
                    let (first, end) = self.sites[site].modules;
                    if let Some(module) = (first..end).find(|&nth| self.modules[nth].id == *held.module) {
                        *group.modules.entry(module).or_default() += 1;
                    }
                }
                None => group.elsewhere += 1,
            }
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_takes_one_more_where_its_rule_lets_it() {
        let check = |group: Group, (site, module): (usize, usize), expected: bool| {
            assert_eq!(group.takes(site, module), expected, "{group:?} at {site}, {module}");
        };
        let at = |sites: &[(usize, u32)], modules: &[(usize, u32)]| Group {
            sites: sites.iter().copied().collect(),
            modules: modules.iter().copied().collect(),
            ..Group::default()
        };
        let together = |group: Group| Group { together: true, ..group };
        check(together(at(&[], &[])), (3, 7), true);
        check(together(at(&[(3, 2)], &[(6, 2)])), (3, 7), true);
        check(together(at(&[(3, 2)], &[(6, 2)])), (4, 9), false);
        check(together(at(&[(3, 1), (4, 1)], &[])), (3, 7), false);
        check(Group { elsewhere: 1, ..together(at(&[], &[])) }, (3, 7), false);
        check(Group { per_site: Some(2), ..at(&[(3, 1)], &[(7, 1)]) }, (3, 7), true);
        check(Group { per_site: Some(2), ..at(&[(3, 2)], &[(7, 2)]) }, (3, 8), false);
        check(Group { per_site: Some(2), ..at(&[(3, 2)], &[(7, 2)]) }, (4, 9), true);
        check(Group { per_module: Some(1), ..at(&[(3, 1)], &[(7, 1)]) }, (3, 7), false);
        check(Group { per_module: Some(1), ..at(&[(3, 1)], &[(7, 1)]) }, (3, 8), true);
    }

    #[test]
    fn a_seat_that_is_left_leaves_no_trace() {
        let mut group = Group::default();
        group.seat((1, 2), true);
        group.seat((1, 2), true);
        group.seat((1, 2), false);
        assert!(group.is_anchored());
        group.seat((1, 2), false);
        assert_eq!(group, Group::default());
    }

    #[test]
    fn a_list_of_sites_comes_before_the_group() {
        let group = Group { per_site: Some(1), sites: [(1, 1)].into(), ..Group::default() };
        let check = |binding: Binding, expected: Option<Refusal>| {
            assert_eq!(refuses(&binding, std::slice::from_ref(&group), (1, 2)), expected, "{binding:?}");
        };
        check(Binding::default(), None);
        check(Binding { sites: Some(vec![0, 2]), group: Some(0) }, Some(Refusal::Sites));
        check(Binding { sites: Some(vec![1]), group: None }, None);
        check(Binding { sites: Some(vec![1]), group: Some(0) }, Some(Refusal::Group));
    }
}
