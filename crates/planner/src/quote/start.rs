//! When a gang would start by the outlook, and what change would start it sooner.
//!
//! Assumes an outlook of the same fleet; tells nothing of gangs larger than the outlook's largest. Read next: `outlook`.

use model::SiteId;
use model::workload::{Spec, Tier};

use crate::outlook::{Four, Outlook, SiteOutlook, Start};

/// A change that would start a gang sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sooner {
    /// Ask under this tier.
    pub tier: Tier,
    /// Ask for so many GPUs.
    pub gpus: u32,
    /// The hour in which it would start at the median.
    pub hour: u32,
    /// Ask for any site.
    pub anywhere: bool,
}

/// The first hour with room for the gang, at each quantile of supply: where it is soonest of the islands it may run on. The inner `None` is
/// "not within the outlook"; the outer one says that no outlook was made for such a gang.
pub fn start(
    outlook: &Outlook,
    gpu: &str,
    tier: Tier,
    gpus: u32,
    may: impl Fn(&SiteId) -> bool,
) -> Option<Four<Option<u32>>> {
    let islands = outlook.sites.iter().filter(|(id, _)| may(id));
    let here = islands.filter_map(|(_, island)| row(island, gpu, tier, gpus));
    let hours = here.map(|start| start.hour.array());
    let soonest =
        hours.reduce(|all, hours| std::array::from_fn(|nth| all[nth].into_iter().chain(hours[nth]).min()));
    soonest.map(Four::from_array)
}

/// What would start a gang sooner at the median, on the sites it may run on: another tier, or the largest smaller gang of the same one;
/// or the same gang, were it not for its list of sites. Soonest first. What its group holds it to is not counted.
pub fn sooner(outlook: &Outlook, spec: &Spec) -> Vec<Sooner> {
    let sites = spec.affinity.as_ref().and_then(|affinity| affinity.sites.as_ref());
    let may = |site: &SiteId| sites.is_none_or(|sites| sites.contain(site));
    let hour = |tier: Tier, gpus: u32| start(outlook, &spec.gpu, tier, gpus, may)?.p50;
    let now = hour(spec.tier, spec.gpus).unwrap_or(u32::MAX);
    let better = |tier: Tier, gpus: u32| {
        let found = hour(tier, gpus).filter(|hour| *hour < now);
        found.map(|hour| Sooner { tier, gpus, hour, anywhere: false })
    };
    let tiers = [Tier::Firm, Tier::OnDemand, Tier::Spot].into_iter().filter(|tier| *tier != spec.tier);
    let mut found: Vec<Sooner> = tiers.filter_map(|tier| better(tier, spec.gpus)).collect();
    let gangs = crate::outlook::gangs(&spec.gpu).into_iter().rev();
    let mut smaller = gangs.filter(|gang| *gang < spec.gpus);
    found.extend(smaller.find_map(|gang| better(spec.tier, gang)));
    let free = sites.and_then(|_| start(outlook, &spec.gpu, spec.tier, spec.gpus, |_| true)?.p50);
    let free = free.filter(|hour| *hour < now);
    found.extend(free.map(|hour| Sooner { tier: spec.tier, gpus: spec.gpus, hour, anywhere: true }));
    found.sort_by_key(|sooner| (sooner.hour, sooner.tier));
    found
}

/// The smallest gang of the outlook that is as large.
fn row<'a>(island: &'a SiteOutlook, gpu: &str, tier: Tier, gpus: u32) -> Option<&'a Start> {
    let supply = island.supply.iter().find(|supply| supply.gpu == gpu && supply.tier == tier)?;
    supply.starts.iter().filter(|start| start.gpus >= gpus).min_by_key(|start| start.gpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::affinity::{Affinity, Sites};
    use model::{MicroDollars, OfferingId, Span, Time};

    use super::*;
    use crate::outlook::{Assumptions, Supply};

    fn island(starts: &[(Tier, u32, [Option<u32>; 4])]) -> SiteOutlook {
        let of = |tier: Tier| Supply {
            gpu: "h100".into(),
            tier,
            hours: Vec::new(),
            starts: starts
                .iter()
                .filter(|(of, ..)| *of == tier)
                .map(|&(_, gpus, hours)| Start { gpus, hour: Four::from_array(hours) })
                .collect(),
        };
        SiteOutlook {
            power: Vec::new(),
            supply: [Tier::Firm, Tier::OnDemand, Tier::Spot].map(of).into(),
            drains: BTreeMap::new(),
            megawatt_hour: Vec::new(),
            set_on: BTreeMap::new(),
        }
    }

    fn spec(tier: Tier, gpus: u32) -> Spec {
        Spec {
            offering: OfferingId::new("o").unwrap(),
            tier,
            gpu: "h100".into(),
            gpus,
            amount: None,
            price: MicroDollars::ZERO,
            checkpoint: Span::ZERO,
            save: Span::ZERO,
            restart: Span::ZERO,
            floor: None,
            affinity: None,
        }
    }

    fn two_islands() -> Outlook {
        let (never, firm) = ([None; 4], Tier::Firm);
        let one = island(&[
            (firm, 8, [None, Some(9), Some(5), Some(2)]),
            (firm, 64, never),
            (Tier::OnDemand, 64, [Some(3); 4]),
        ]);
        let two =
            island(&[(firm, 8, [Some(40), Some(20), Some(4), Some(3)]), (Tier::Spot, 64, [Some(1); 4])]);
        let sites = [("a", one), ("b", two)].map(|(id, island)| (SiteId::new(id).unwrap(), island));
        Outlook { made: Time(0), assumptions: Assumptions::default(), sites: sites.into() }
    }

    #[test]
    fn the_soonest_island_counts_at_each_quantile() {
        let outlook = two_islands();
        let check = |tier: Tier, gpus: u32, site: Option<&str>, expected: Option<[Option<u32>; 4]>| {
            let site = site.map(|id| SiteId::new(id).unwrap());
            let may = |id: &SiteId| site.as_ref().is_none_or(|only| only == id);
            let found = start(&outlook, "h100", tier, gpus, may).map(Four::array);
            assert_eq!(found, expected, "{tier} {gpus}");
        };
        check(Tier::Firm, 8, None, Some([Some(40), Some(9), Some(4), Some(2)]));
        check(Tier::Firm, 3, Some("b"), Some([Some(40), Some(20), Some(4), Some(3)]));
        check(Tier::Firm, 9, None, Some([None; 4]));
        check(Tier::Firm, 65, None, None);
        check(Tier::Spot, 8, Some("a"), None);
    }

    #[test]
    fn a_smaller_gang_or_another_tier_starts_sooner() {
        let check = |tier: Tier, gpus: u32, expected: &[(Tier, u32, u32)]| {
            let found: Vec<_> =
                sooner(&two_islands(), &spec(tier, gpus)).iter().map(|s| (s.tier, s.gpus, s.hour)).collect();
            assert_eq!(found, expected, "{tier} {gpus}");
        };
        check(Tier::Firm, 64, &[(Tier::Spot, 64, 1), (Tier::OnDemand, 64, 3), (Tier::Firm, 8, 4)]);
        check(Tier::OnDemand, 64, &[(Tier::Spot, 64, 1)]);
        check(Tier::Spot, 64, &[]);
    }

    /// On b alone the firm eight start in hour 4, as anywhere; on a alone an hour later, and so on any site sooner.
    #[test]
    fn who_may_run_on_some_sites_only_is_told_what_any_site_would_bring() {
        let check = |sites: Option<Sites>, expected: &[(Tier, u32, bool)]| {
            let affinity = sites.map(|sites| Affinity { sites: Some(sites), group: None });
            let spec = Spec { affinity, ..spec(Tier::Firm, 8) };
            let found: Vec<_> = sooner(&two_islands(), &spec)
                .iter()
                .filter(|sooner| sooner.tier == Tier::Firm)
                .map(|sooner| (sooner.tier, sooner.hour, sooner.anywhere))
                .collect();
            assert_eq!(found, expected, "{:?}", spec.affinity);
        };
        let named = |site: &str| [SiteId::new(site).unwrap()].into();
        check(None, &[]);
        check(Some(Sites::Only(named("b"))), &[]);
        check(Some(Sites::Except(named("b"))), &[(Tier::Firm, 4, true)]);
        check(Some(Sites::Only(named("nowhere"))), &[(Tier::Firm, 4, true)]);
    }
}
