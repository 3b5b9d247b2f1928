//! A fleet description: the sites, modules and offerings an operator writes down, and what can be wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cap::FULL;
use crate::id::{ModuleId, OfferingId, SiteId};
use crate::module::Module;
use crate::report::Finding;
use crate::shell::{LONGEST_NOTICE, SoldBy};
use crate::site::{GridTie, Site, Storage};
use crate::tenant::Offering;
use crate::time::Span;
use crate::unit::{MicroDollars, WattSeconds, Watts};
use crate::workload::Tier;

/// Everything an operator configures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The islands.
    #[serde(rename = "site", default)]
    pub sites: Vec<Site>,
    /// The containers.
    #[serde(rename = "module", default)]
    pub modules: Vec<Module>,
    /// What is sold.
    #[serde(rename = "offering", default)]
    pub offerings: Vec<Offering>,
}

impl Fleet {
    /// What is wrong with the description, in the order of the file. Empty = nothing.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.duplicates();
        findings.extend(self.sites.iter().flat_map(|site| self.site_findings(site)));
        findings.extend(self.modules.iter().flat_map(|module| self.module_findings(module)));
        findings.extend(self.offerings.iter().filter_map(floor_finding));
        findings.extend(self.offerings.iter().filter_map(notice_finding));
        findings
    }

    /// The sites by id.
    pub fn sites_by_id(&self) -> BTreeMap<SiteId, Site> {
        self.sites.iter().map(|site| (site.id.clone(), site.clone())).collect()
    }

    /// The modules of one site.
    pub fn modules_of<'a>(&'a self, site: &'a SiteId) -> impl Iterator<Item = &'a Module> {
        self.modules.iter().filter(move |module| module.site == *site)
    }

    fn duplicates(&self) -> Vec<Finding> {
        let mut seen: (BTreeSet<&SiteId>, BTreeSet<&ModuleId>, BTreeSet<&OfferingId>) = Default::default();
        let sites = self.sites.iter().filter(|s| !seen.0.insert(&s.id)).map(|s| format!("site {}", s.id));
        let modules =
            self.modules.iter().filter(|m| !seen.1.insert(&m.id)).map(|m| format!("module {}", m.id));
        let offers =
            self.offerings.iter().filter(|o| !seen.2.insert(&o.id)).map(|o| format!("offering {}", o.id));
        sites
            .chain(modules)
            .chain(offers)
            .map(|subject| finding("duplicate-id", subject, "stands twice; give each its own id".into()))
            .collect()
    }

    fn site_findings(&self, site: &Site) -> Vec<Finding> {
        let subject = format!("site {}", site.id);
        let mut findings = Vec::new();
        let wired = self.modules_of(&site.id).filter(|module| module.wired).count();
        if wired != 1 {
            let message =
                format!("{wired} modules are wired to the gensets; set `wired = true` on exactly one");
            findings.push(finding("wiring", subject.clone(), message));
        }
        if !(45_000..=65_000).contains(&site.nominal.get()) {
            let message = format!("nominal frequency is {}; use 60000 or 50000 mHz", site.nominal);
            findings.push(finding("frequency", subject.clone(), message));
        }
        for (id, set) in &site.gensets {
            let sound = set.rating > Watts::ZERO
                && set.min_load < set.rating
                && set.step > Watts::ZERO
                && set.heat_rate > 0
                && set.no_load_permille < 1_000
                && set.inertia.get() > 0;
            if !sound {
                let message = "needs rating > min_load, no_load_permille < 1000, and step, heat_rate and inertia above zero";
                let message = message.into();
                findings.push(finding("genset", format!("{subject} genset {id}"), message));
            }
        }
        findings.extend(site.storage.as_ref().and_then(|storage| storage_finding(&subject, storage)));
        findings.extend(site.grid.as_ref().and_then(|tie| tie_finding(&subject, tie)));
        findings
    }

    fn module_findings(&self, module: &Module) -> Vec<Finding> {
        let subject = format!("module {}", module.id);
        let mut findings = Vec::new();
        if !self.sites.iter().any(|site| site.id == module.site) {
            let message = format!("stands on site {}, which is not described; add the site", module.site);
            findings.push(finding("no-site", subject.clone(), message));
        }
        if module.most() <= Watts::ZERO {
            let message = "has no power limit; set `limit` and `cooling` in watts".into();
            findings.push(finding("no-limit", subject.clone(), message));
        }
        for (id, group) in &module.groups {
            let ascending = group.points.windows(2).all(|pair| pair[0].power < pair[1].power);
            if group.points.is_empty() || !ascending || group.scale == 0 {
                let message = "needs operating points in ascending power, and a scale of 1 or more".into();
                findings.push(finding("points", format!("{subject} group {id}"), message));
            }
        }
        for (id, pool) in &module.pools {
            if pool.gpus == 0 || pool.active < pool.idle || pool.cap_min < pool.idle {
                let message = "needs gpus above zero, and active and cap_min at or above idle".into();
                findings.push(finding("pool", format!("{subject} pool {id}"), message));
            } else if let Some(fault) = pool.shell_fault() {
                findings.push(finding("shell", format!("{subject} pool {id}"), fault.into()));
            } else if let Some(fault) = pool.curve_fault() {
                findings.push(finding("curve", format!("{subject} pool {id}"), fault.into()));
            }
        }
        findings
    }
}

/// What cannot be of an offering's floor.
fn floor_finding(offering: &Offering) -> Option<Finding> {
    let floor = offering.floor?;
    let message = if SoldBy::of(&offering.gpu) == SoldBy::Kilowatt {
        "is sold by the kilowatt, and nobody slows a tenant's own machines; leave `floor` out"
    } else if offering.tier == Tier::Firm {
        "is firm, and firm work is never slowed; leave `floor` out, or sell it on demand or as spot"
    } else if !(1..FULL.get()).contains(&floor.get()) {
        "needs a `floor` from 1 to 999: the least pace in thousandths of full speed; leave it out where work is never slowed"
    } else {
        return None;
    };
    Some(finding("floor", format!("offering {}", offering.id), message.into()))
}

/// The notice of a powered shell is waited out before its feeder opens, so it has a limit.
fn notice_finding(offering: &Offering) -> Option<Finding> {
    let fits = (Span::ZERO..=LONGEST_NOTICE).contains(&offering.notice);
    let message =
        "is sold by the kilowatt: needs a `notice` from 0 to 300000 ms, after which its feeder opens";
    (SoldBy::of(&offering.gpu) == SoldBy::Kilowatt && !fits)
        .then(|| finding("notice", format!("offering {}", offering.id), message.into()))
}

/// The first thing that cannot be of a storage.
fn storage_finding(site: &str, storage: &Storage) -> Option<Finding> {
    let message = if storage.power <= Watts::ZERO || storage.energy <= WattSeconds::ZERO {
        "needs power and energy above zero: W and Ws (a kWh is 3600000 Ws)"
    } else if !(1..=1_000).contains(&storage.efficiency_permille) {
        "needs `efficiency_permille` from 1 to 1000: what comes out of what went in, such as 880"
    } else if storage.response.is_some_and(|response| response <= Span::ZERO) {
        "needs a `response` above zero; leave it out where it was never measured"
    } else if storage.reserve <= Span::ZERO {
        "needs a `reserve` above zero: how long its rung must last, such as 300000 ms"
    } else if storage.wear < MicroDollars::ZERO {
        "needs a `wear` of zero or more for a MWh delivered"
    } else {
        return None;
    };
    Some(finding("storage", format!("{site} storage"), message.into()))
}

/// The first thing that cannot be of a grid tie.
fn tie_finding(site: &str, tie: &GridTie) -> Option<Finding> {
    let message = if tie.import <= Watts::ZERO {
        "needs an `import` above zero, in watts; leave `grid` out where nothing may be imported"
    } else if tie.price.is_some_and(|price| price < MicroDollars::ZERO) {
        "needs a `price` of zero or more for a MWh; leave it out where it is not known"
    } else {
        return None;
    };
    Some(finding("grid", format!("{site} grid"), message.into()))
}

fn finding(code: &str, subject: String, message: String) -> Finding {
    Finding { code: code.into(), subject, message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 100 kW and 200 kWh, measured at 80 ms.
    fn storage() -> Storage {
        Storage {
            power: Watts::kilo(100),
            energy: WattSeconds::kilowatt_hours(200),
            efficiency_permille: 880,
            response: Some(Span::new(80)),
            reserve: Span::minutes(5),
            wear: MicroDollars::dollars(20),
        }
    }

    #[test]
    fn a_storage_that_cannot_be_is_told_what_it_needs() {
        let check = |spoil: fn(&mut Storage), expected: &str| {
            let mut spoilt = storage();
            spoil(&mut spoilt);
            let found = storage_finding("site s", &spoilt).map(|finding| finding.to_string());
            let found = found.unwrap_or_default();
            assert!(found.starts_with("site s storage [storage]: ") && found.contains(expected), "{found}");
        };
        assert_eq!(storage_finding("site s", &storage()), None);
        assert_eq!(storage_finding("site s", &Storage { response: None, ..storage() }), None);
        check(|it| it.power = Watts::ZERO, "power and energy above zero");
        check(|it| it.energy = WattSeconds::new(-1), "power and energy above zero");
        check(|it| it.efficiency_permille = 0, "from 1 to 1000");
        check(|it| it.efficiency_permille = 1_001, "from 1 to 1000");
        check(|it| it.response = Some(Span::ZERO), "`response` above zero");
        check(|it| it.reserve = Span::ZERO, "`reserve` above zero");
        check(|it| it.wear = MicroDollars::new(-1), "zero or more");
    }

    #[test]
    fn a_grid_tie_that_cannot_be_is_told_what_it_needs() {
        let check = |import: i64, price: Option<i64>, expected: Option<&str>| {
            let tie = GridTie { import: Watts::new(import), price: price.map(MicroDollars::new) };
            let found = tie_finding("site s", &tie).map(|finding| finding.to_string());
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            let found = found.unwrap_or_default();
            assert!(found.is_empty() || found.starts_with("site s grid [grid]: "), "{found}");
            assert!(found.contains(expected.unwrap_or_default()), "{found}");
        };
        check(100_000, None, None);
        check(100_000, Some(0), None);
        check(0, Some(45_000_000), Some("`import` above zero"));
        check(-1, None, Some("`import` above zero"));
        check(100_000, Some(-1), Some("zero or more"));
    }

    #[test]
    fn only_what_is_not_firm_is_sold_with_a_floor_that_can_be_held() {
        let check = |tier, floor: Option<i64>, expected: Option<&str>| {
            let offering = Offering {
                id: OfferingId::new("o").unwrap(),
                tier,
                gpu: "h100".into(),
                price: MicroDollars::cents(110),
                notice: Span::ZERO,
                sla_permille: 0,
                floor: floor.map(crate::unit::Pace::new),
            };
            let fleet = Fleet { offerings: vec![offering], ..Fleet::default() };
            let found: Vec<String> = fleet.findings().iter().map(ToString::to_string).collect();
            let named = |message: &str| {
                found.len() == 1 && found[0].starts_with("offering o [floor]: ") && found[0].contains(message)
            };
            assert!(expected.map_or(found.is_empty(), named), "{tier} {floor:?}: {found:?}");
        };
        check(Tier::Spot, None, None);
        check(Tier::Spot, Some(800), None);
        check(Tier::OnDemand, Some(999), None);
        check(Tier::Firm, Some(800), Some("never slowed"));
        check(Tier::Spot, Some(0), Some("1 to 999"));
        check(Tier::OnDemand, Some(1_000), Some("1 to 999"));
    }

    #[test]
    fn what_is_sold_by_the_kilowatt_is_never_slowed_and_has_a_notice_that_ends() {
        let check = |gpu: &str, floor: Option<i64>, notice: Span, expected: Option<&str>| {
            let text = format!(
                "[[offering]]\nid = \"o\"\ntier = \"spot\"\ngpu = \"{gpu}\"\nprice = 1\nnotice = {}\nsla_permille = 0\n",
                notice.get()
            );
            let mut fleet: Fleet = toml::from_str(&text).unwrap();
            fleet.offerings[0].floor = floor.map(crate::unit::Pace::new);
            let found: Vec<String> = fleet.findings().iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
            assert!(found.concat().contains(expected.unwrap_or_default()), "{found:?}");
        };
        check("kilowatt", None, Span::minutes(5), None);
        check("kilowatt", Some(800), Span::ZERO, Some("offering o [floor]: is sold by the kilowatt"));
        check("kilowatt", None, Span::new(300_001), Some("offering o [notice]: "));
        check("kilowatt-liquid", None, Span::new(-1), Some("offering o [notice]: "));
        check("h100", None, Span::hours(9), None);
    }

    #[test]
    fn the_rung_counts_on_its_window_or_on_all_there_is() {
        assert_eq!(storage().reserved(), Watts::kilo(100).for_span(Span::minutes(5)));
        assert_eq!(Storage { reserve: Span::hours(9), ..storage() }.reserved(), storage().energy);
        assert_eq!(storage().kept_of(WattSeconds::new(1_000)), WattSeconds::new(880));
    }
}
