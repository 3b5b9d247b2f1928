//! The islands on the page: watts by use, what they carry, sets, storage, gas; and how many of their agents are in touch.
//!
//! As reported, so a standby, to which no agent reports, shows none of it. Next: `../operator/loads.rs`, which says what a
//! module's watts are used for.

use std::collections::BTreeMap;

use api::operator::LoadByUse;
use model::module::Module;
use model::report::{GensetState, SiteReport};
use model::site::Site;
use model::workload::Workload;
use model::{ModuleId, Time, Watts};
use planner::Link;
use service::page::{Metric, Page};

use crate::cache::Cache;
use crate::live::Live;
use crate::observe::site_report;
use crate::operator::loads;

/// A standard cubic foot a day in cubic metres a second: 0.3048³ m³ (the international foot) in 86,400 s.
const CUBIC_METERS_PER_SECOND: f64 = 0.028_316_846_592 / 86_400.0;

const POWER: Metric = Metric::gauge(
    "flareshift_site_power_watts",
    "Power of a site by use; reserved is what modules out of touch may draw.",
);
const FIRM: Metric =
    Metric::gauge("flareshift_site_firm_ai_watts", "Power of a site's firm AI, a part of its AI.");
const CAPACITY: Metric =
    Metric::gauge("flareshift_site_capacity_watts", "What the plan in force takes the site to carry.");
const FIRM_CAPACITY: Metric = Metric::gauge(
    "flareshift_site_firm_capacity_watts",
    "What it takes the site to carry after the loss of its largest source.",
);
const FREQUENCY: Metric = Metric::gauge("flareshift_site_frequency_hertz", "Frequency of the island.");
const NOMINAL: Metric =
    Metric::gauge("flareshift_site_nominal_frequency_hertz", "Frequency that the island is made for.");
const GENSETS: Metric = Metric::gauge("flareshift_site_gensets", "Generator sets of a site by state.");
const STORED: Metric = Metric::gauge(
    "flareshift_site_storage_joules",
    "What the site's storage still delivers until it is empty.",
);
const IMPORT: Metric = Metric::gauge("flareshift_site_import_watts", "What the site imports from the grid.");
const GAS: Metric =
    Metric::gauge("flareshift_site_gas_cubic_meters_per_second", "Gas that arrives, at standard conditions.");
const FLARED: Metric = Metric::gauge(
    "flareshift_site_flared_cubic_meters_per_second",
    "Gas that is flared, at standard conditions.",
);
const AGE: Metric =
    Metric::gauge("flareshift_site_report_age_seconds", "Age of the last report of the site's wired module.");
const MODULES: Metric = Metric::gauge("flareshift_site_modules", "Modules of a site by their agents' link.");

/// Puts every site on a page.
pub(super) fn write(page: &mut Page, cache: &Cache, live: &Live, now: Time) {
    if live.term.is_none() {
        return;
    }
    let runs = runs(live);
    for (id, stored) in &cache.sites {
        let site: &Site = &stored.value;
        let heard = site_report(cache, &live.tracker, id);
        let report = heard.map(|(report, _)| report);
        modules(page, cache, live, site, now);
        power(page, &load(cache, live, site, &runs, now), site, report);
        let labels = [("site", id.as_str())];
        page.add_known(&AGE, &labels, heard.map(|(_, at)| now.since(at).as_secs_f64()));
        let plan = live.in_force.as_ref().and_then(|in_force| in_force.plan.sites.get(id));
        page.add_known(&CAPACITY, &labels, plan.map(|plan| plan.capacity.as_f64()));
        page.add_known(&FIRM_CAPACITY, &labels, plan.map(|plan| plan.firm_capacity.as_f64()));
        if let Some(report) = report {
            reported(page, site, report);
        }
    }
}

/// Who holds GPUs where: found once for the page, not once for each module.
fn runs(live: &Live) -> BTreeMap<&ModuleId, Vec<&Workload>> {
    let mut runs: BTreeMap<&ModuleId, Vec<&Workload>> = BTreeMap::new();
    for workload in live.workloads.values().filter(|workload| workload.status.phase.holds()) {
        if let Some(placement) = &workload.status.placement {
            runs.entry(&placement.module).or_default().push(workload);
        }
    }
    runs
}

fn modules(page: &mut Page, cache: &Cache, live: &Live, site: &Site, now: Time) {
    let mut links = BTreeMap::from([("online", 0), ("stale", 0), ("lost", 0), ("never", 0)]);
    for (id, _) in cache.modules_of(&site.id) {
        let link = match live.tracker.link(id, now) {
            Link::Online => "online",
            Link::Stale => "stale",
            Link::Lost => "lost",
            Link::Never => "never",
        };
        *links.entry(link).or_default() += 1;
    }
    for (link, count) in links {
        page.count(&MODULES, &[("site", site.id.as_str()), ("link", link)], count);
    }
}

/// What the site's modules draw, or keep back for those out of touch.
fn load(
    cache: &Cache,
    live: &Live,
    site: &Site,
    runs: &BTreeMap<&ModuleId, Vec<&Workload>>,
    now: Time,
) -> LoadByUse {
    let mut sum = LoadByUse::default();
    for (id, stored) in cache.modules_of(&site.id) {
        let module: &Module = &stored.value.module;
        let in_touch = live.tracker.link(id, now).is_in_touch();
        let here = runs.get(id).map_or(&[][..], Vec::as_slice);
        match live.tracker.report(id).filter(|_| in_touch) {
            Some(report) => loads::add(&mut sum, &loads::by_use(module, report, here)),
            None => sum.reserved_watts += live.book.granted(id).get(),
        }
    }
    sum
}

fn power(page: &mut Page, load: &LoadByUse, site: &Site, report: Option<&SiteReport>) {
    let unmanaged = report.and_then(|report| report.unmanaged).unwrap_or(site.unmanaged);
    let uses = [
        ("ai", load.ai_watts),
        ("mining", load.mining_watts),
        ("idle", load.idle_watts),
        ("auxiliary", load.auxiliary_watts),
        ("unmanaged", unmanaged.get()),
        ("reserved", load.reserved_watts),
    ];
    for (name, watts) in uses {
        page.add(&POWER, &[("site", site.id.as_str()), ("use", name)], watts as f64);
    }
    page.add(&FIRM, &[("site", site.id.as_str())], load.firm_ai_watts as f64);
}

fn reported(page: &mut Page, site: &Site, report: &SiteReport) {
    let labels = [("site", site.id.as_str())];
    page.add_known(&FREQUENCY, &labels, report.frequency.map(|hz| hz.as_f64() / 1_000.0));
    page.add(&NOMINAL, &labels, site.nominal.as_f64() / 1_000.0);
    page.add_known(&GAS, &labels, report.gas.map(|gas| gas.as_f64() * CUBIC_METERS_PER_SECOND));
    page.add_known(&FLARED, &labels, report.flared.map(|gas| gas.as_f64() * CUBIC_METERS_PER_SECOND));
    // A watt-second is a joule.
    let held = report.storage.and_then(|storage| storage.held);
    page.add_known(&STORED, &labels, held.map(|held| held.as_f64()));
    page.add_known(&IMPORT, &labels, report.grid.and_then(|grid| grid.power).map(Watts::as_f64));
    let mut sets =
        BTreeMap::from([("off", 0), ("starting", 0), ("online", 0), ("stopping", 0), ("tripped", 0)]);
    for set in report.gensets.values() {
        let state = match set.state {
            GensetState::Off => "off",
            GensetState::Starting => "starting",
            GensetState::Online => "online",
            GensetState::Stopping => "stopping",
            GensetState::Tripped => "tripped",
        };
        *sets.entry(state).or_default() += 1;
    }
    for (state, count) in sets {
        page.count(&GENSETS, &[("site", site.id.as_str()), ("state", state)], count);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Span;
    use model::envelope::Fence;

    use super::*;
    use crate::testing;
    use crate::tracker::{Freshness, SessionId};

    #[test]
    fn gas_is_shown_in_cubic_metres_a_second() {
        // 1,000,000 scf a day, a usual pad, are 0.3277 m³/s by any table.
        assert!((1e6 * CUBIC_METERS_PER_SECOND - 0.327_741).abs() < 1e-6);
    }

    /// A leader that has heard of `m1` and not of the others.
    fn page(term: Option<Fence>) -> String {
        let cache = testing::cache(&testing::fleet());
        let mut live = Live::new(Freshness::default(), Span::secs(120), Time(0));
        live.term = term;
        for (id, stored) in &cache.modules {
            let module = &stored.value.module;
            live.tracker.register(id, false, None);
            live.book.register(id, &module.site, module.base_draw());
        }
        let m1 = testing::module_id("m1");
        live.tracker.opened(&m1, SessionId(1));
        live.tracker.reported(SessionId(1), testing::report("m1", 1), Time(1_000));
        let mut page = Page::default();
        write(&mut page, &cache, &live, Time(2_500));
        page.text()
    }

    #[test]
    fn a_site_shows_its_watts_by_use_and_its_agents_by_link() {
        let text = page(Some(Fence { epoch: 1, leader: 1, plan: 0 }));
        let site = testing::fleet().sites[0].id.clone();
        for series in [
            format!("flareshift_site_modules{{site=\"{site}\",link=\"online\"}} 1"),
            format!("flareshift_site_modules{{site=\"{site}\",link=\"never\"}} 1"),
            format!("flareshift_site_modules{{site=\"{site}\",link=\"lost\"}} 0"),
        ] {
            assert!(text.contains(&format!("\n{series}\n")), "{series} in {text}");
        }
        for used in ["ai", "mining", "idle", "auxiliary", "unmanaged", "reserved"] {
            assert!(text.contains(&format!("use=\"{used}\"")), "{used} in {text}");
        }
        assert!(!text.contains("m1"), "no series goes by module: {text}");
    }

    #[test]
    fn a_standby_to_which_nobody_reports_shows_no_site() {
        assert_eq!(page(None), "");
    }
}
