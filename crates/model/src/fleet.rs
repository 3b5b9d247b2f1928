//! A fleet description: the sites, modules and offerings an operator writes down, and what can be wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{ModuleId, OfferingId, SiteId};
use crate::module::Module;
use crate::report::Finding;
use crate::site::Site;
use crate::tenant::Offering;
use crate::unit::Watts;

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
                && set.inertia.get() > 0;
            if !sound {
                let message = "needs rating > min_load, and step, heat_rate and inertia above zero".into();
                findings.push(finding("genset", format!("{subject} genset {id}"), message));
            }
        }
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
            }
        }
        findings
    }
}

fn finding(code: &str, subject: String, message: String) -> Finding {
    Finding { code: code.into(), subject, message }
}
