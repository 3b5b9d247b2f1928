//! What the planner is given, from the store's cache and the live state; and which readings cannot wait for the next round.
//!
//! Assumes that the cache and the tracker speak of the same fleet. Pure. Read next: `cycle.rs`, which plans on it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use model::market::Market;
use model::plan::Plan;
use model::report::{GensetState, SiteReport};
use model::site::Site;
use model::workload::Workload;
use model::{MicroDollars, ModuleId, SiteId, Span, Time, Watts, WorkloadId};
use planner::{Input, ModuleInput, SiteInput};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::tracker::Tracker;

/// A change of an island's capacity by more than one part in this many asks for a new plan at once: 2 %, about twice the
/// median day-to-day change of a gas well and well above the noise of a flow meter.
const NOTICEABLE: i64 = 50;

/// Bytes hashed at a time: JSON is written by the word.
const HASHED_AT_ONCE: usize = 16 * 1024;

/// Builds the planner's input. `workloads` are those that are not final, with the progress last seen.
pub fn input(
    cache: &Cache,
    tracker: &Tracker,
    workloads: &BTreeMap<WorkloadId, Workload>,
    parent: Option<Plan>,
    market: Market,
    now: Time,
) -> Input {
    let modules: BTreeMap<ModuleId, ModuleInput> =
        cache.modules.keys().map(|id| (id.clone(), module(cache, tracker, id, now))).collect();
    let sites = cache.sites.iter().map(|(id, stored)| (id.clone(), site(cache, tracker, &stored.value, now)));
    let open = workloads.iter().filter(|(_, workload)| !workload.status.phase.is_final());
    Input {
        now,
        parent,
        sites: sites.collect(),
        modules,
        workloads: open.map(|(id, workload)| (id.clone(), workload.clone())).collect(),
        market,
        touched: None,
    }
}

/// SHA-256 of the input in canonical JSON, in hex. The same input must give the same plan.
pub fn digest(input: &Input) -> Result<String, serde_json::Error> {
    // All maps of an input are ordered, so its JSON is canonical as it stands. It is hashed as it is written: that of 10,000 modules
    // takes 30 MB.
    let mut hashed = BufWriter::with_capacity(HASHED_AT_ONCE, Hashed(Sha256::new()));
    serde_json::to_writer(&mut hashed, input)?;
    let hashed = hashed.into_inner().map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(hex(&hashed.0.finalize()))
}

/// Hashes what is written.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The last word on a site from any of its modules, and when it was received.
pub fn site_report<'a>(cache: &Cache, tracker: &'a Tracker, id: &SiteId) -> Option<(&'a SiteReport, Time)> {
    let modules: Vec<&ModuleId> = cache.modules_of(id).map(|(module, _)| module).collect();
    tracker.latest_site(&modules)
}

/// Why a plan cannot wait, if it cannot: a set, storage or grid came or went, the grid asks another price, or the island's capacity changed noticeably since the last plan.
pub fn urgent(site: &Site, planned: Option<&SiteReport>, now: &SiteReport) -> Option<String> {
    let Some(planned) = planned else { return Some(format!("site {} reports for the first time", site.id)) };
    let changed = now.gensets.iter().find_map(|(id, set)| {
        let before = planned.gensets.get(id).map(|set| set.state);
        let matters = before != Some(set.state)
            && [before, Some(set.state)]
                .iter()
                .any(|state| matches!(state, Some(GensetState::Online | GensetState::Tripped)));
        matters.then(|| format!("site {}: set {id} is {:?}", site.id, set.state))
    });
    let ready = |report: &SiteReport| report.storage.is_some_and(|storage| storage.ready);
    let stored = (ready(planned) != ready(now)).then(|| {
        let word = if ready(now) { "ready" } else { "gone" };
        format!("site {}: storage is {word}", site.id)
    });
    changed.or(stored).or_else(|| tied(site, planned, now)).or_else(|| {
        let (before, after) = (capacity(site, planned), capacity(site, now));
        let noticeable = (after - before).abs().times(NOTICEABLE) > before.max(after);
        noticeable.then(|| format!("site {}: capacity went from {before} to {after}", site.id))
    })
}

/// A grid that came or went, or that asks another price.
fn tied(site: &Site, planned: &SiteReport, now: &SiteReport) -> Option<String> {
    let ready = |report: &SiteReport| report.grid.is_some_and(|tie| tie.ready);
    let price = |report: &SiteReport| report.grid.and_then(|tie| tie.price);
    if ready(planned) != ready(now) {
        let word = if ready(now) { "there" } else { "gone" };
        return Some(format!("site {}: the grid is {word}", site.id));
    }
    let said = |price: Option<MicroDollars>| price.map_or("unknown".to_owned(), |price| price.to_string());
    (price(planned) != price(now)).then(|| {
        let (before, after) = (said(price(planned)), said(price(now)));
        format!("site {}: a MWh from the grid went from {before} to {after}", site.id)
    })
}

/// What gas and online sets sustain, roughly: enough to notice a change; the planner computes it properly.
fn capacity(site: &Site, report: &SiteReport) -> Watts {
    let online: Watts = report.online().filter_map(|id| site.gensets.get(id)).map(|set| set.rating).sum();
    report.gas.map_or(online, |flow| online.min(site.electric(flow)))
}

/// How old the last word on a site may be.
pub fn site_limit(cache: &Cache, tracker: &Tracker, site: &SiteId) -> Span {
    tracker.freshness(cache.modules_of(site).map(|(id, _)| id)).site
}

fn site(cache: &Cache, tracker: &Tracker, site: &Site, now: Time) -> SiteInput {
    let report = site_report(cache, tracker, &site.id);
    SiteInput {
        site: site.clone(),
        // Persistence: an empty forecast lets the planner carry the last reading forward.
        forecast: Vec::new(),
        fresh: report.is_some_and(|(_, at)| now.since(at) <= site_limit(cache, tracker, &site.id)),
        report: report.map(|(report, _)| report.clone()),
    }
}

fn module(cache: &Cache, tracker: &Tracker, id: &ModuleId, now: Time) -> ModuleInput {
    let record = &cache.modules[id].value;
    ModuleInput {
        module: record.module.clone(),
        link: tracker.link(id, now),
        cordoned: record.cordoned,
        draining: record.draining,
        report: tracker.report(id).cloned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::report::{GensetReport, StorageReport, TieReport};
    use model::site::GasFlow;
    use model::{GensetId, Span};
    use planner::Link;

    use model::report::STALE_AFTER;

    use super::*;
    use crate::testing::{self, module_id};
    use crate::tracker::{Freshness, SessionId};

    fn site_report(states: [GensetState; 3], gas: i64) -> SiteReport {
        testing::site_report(states, GasFlow::mcf(gas))
    }

    #[test]
    fn what_cannot_wait_is_told_from_what_can() {
        use GensetState::{Off, Online, Starting, Tripped};
        let site = &testing::fleet().sites[0];
        let before = site_report([Online, Online, Off], 400);
        let check = |states: [GensetState; 3], gas: i64, expected: Option<&str>| {
            let told = urgent(site, Some(&before), &site_report(states, gas));
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check([Online, Online, Off], 400, None);
        check([Online, Online, Starting], 400, None);
        check([Online, Tripped, Off], 400, Some("g2 is Tripped"));
        check([Online, Online, Online], 400, Some("g3 is Online"));
        check([Online, Online, Off], 399, None);
        check([Online, Online, Off], 300, Some("capacity went"));
        assert!(urgent(site, None, &before).unwrap().contains("first time"));
        let storage = |ready| Some(StorageReport { power: None, held: None, ready });
        let with = |ready| SiteReport { storage: storage(ready), ..before.clone() };
        assert_eq!(urgent(site, Some(&with(true)), &with(true)), None);
        assert!(urgent(site, Some(&with(true)), &with(false)).unwrap().contains("storage is gone"));
        assert!(urgent(site, Some(&before), &with(true)).unwrap().contains("storage is ready"));
        let tie = |ready, dollars: Option<i64>| {
            let price = dollars.map(MicroDollars::dollars);
            let grid = Some(TieReport { power: None, register: None, price, ready });
            SiteReport { grid, ..before.clone() }
        };
        let grid = tie(true, Some(45));
        assert_eq!(urgent(site, Some(&grid), &grid), None);
        assert!(urgent(site, Some(&grid), &tie(false, Some(45))).unwrap().contains("the grid is gone"));
        assert!(urgent(site, Some(&before), &grid).unwrap().contains("the grid is there"));
        assert!(urgent(site, Some(&grid), &tie(true, Some(900))).unwrap().contains("a MWh from the grid"));
        assert!(urgent(site, Some(&grid), &tie(true, None)).unwrap().contains("to unknown"));
    }

    #[test]
    fn the_digest_is_of_the_input_alone() {
        let fleet = testing::fleet();
        let cache = testing::cache(&fleet);
        let mut tracker = Tracker::new(Freshness::default(), Time(0));
        let at = |cache: &Cache, tracker: &Tracker, now: i64| {
            input(cache, tracker, &BTreeMap::new(), None, testing::market(), Time(now))
        };
        let first = at(&cache, &tracker, 1_000);
        assert_eq!(digest(&first).unwrap(), digest(&at(&cache, &tracker, 1_000)).unwrap());
        assert_ne!(digest(&first).unwrap(), digest(&at(&cache, &tracker, 2_000)).unwrap());
        assert_eq!(digest(&first).unwrap().len(), 64);
        let whole = Sha256::digest(serde_json::to_vec(&first).unwrap());
        assert_eq!(digest(&first).unwrap(), hex(&whole), "as of the whole JSON");
        assert_eq!((first.sites.len(), first.modules.len()), (1, 2));
        assert_eq!(first.modules[&module_id("m1")].link, Link::Never);
        let m1 = module_id("m1");
        tracker.register(&m1, false, None);
        tracker.opened(&m1, SessionId(1));
        let mut report = testing::report("m1", 1);
        report.site = Some(site_report([GensetState::Online; 3], 400));
        tracker.reported(SessionId(1), report, Time(1_000));
        let heard = at(&cache, &tracker, 2_000);
        let site = heard.sites.values().next().unwrap();
        assert!(site.fresh && site.report.is_some());
        assert_eq!(heard.modules[&m1].link, Link::Online);
        let late = at(&cache, &tracker, 1_000 + STALE_AFTER.get() + 1);
        assert!(!late.sites.values().next().unwrap().fresh);
    }

    #[test]
    fn a_set_that_nobody_configured_is_no_capacity() {
        let site = &testing::fleet().sites[0];
        let mut report = site_report([GensetState::Online; 3], 10_000);
        let known = capacity(site, &report);
        let strange = GensetReport { state: GensetState::Online, power: None, for_span: Span::ZERO };
        report.gensets.insert(GensetId::new("stray").unwrap(), strange);
        assert_eq!(capacity(site, &report), known);
    }
}
