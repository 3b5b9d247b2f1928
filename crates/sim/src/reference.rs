//! The reference fleets: what `dev` runs when nobody describes a fleet, and what tests stand on.
//!
//! The numbers are those of published data sheets and of the field's estimates; `deploy/fleet.toml` is the same fleet written
//! down for people, and a test in [`crate::fleet_file`] holds the two together.

use std::collections::BTreeMap;

use model::fleet::Fleet;
use model::fuel::NO_LOAD_PERMILLE;
use model::module::{Actuator, GpuPool, MinerGroup, Module, OperatingPoint, ShedPath};
use model::site::{
    Frequency, GasBuffer, GasFlow, GasSource, GasVolume, Genset, Governor, HeatingBasis, Site,
};
use model::tenant::Offering;
use model::workload::Tier;
use model::{GasSourceId, GensetId, Hashrate, Id, MicroDollars, Span, Watts, WattsPerSecond};

/// The GPU type of the reference pools.
pub const GPU: &str = "h100";

/// One site with one hybrid module: the smallest thing that does everything.
pub fn one_module() -> Fleet {
    let mut fleet =
        Fleet { sites: vec![site("well-7")], modules: vec![hybrid("well-7")], offerings: offerings() };
    // One hybrid module draws 340 kW at most: two sets of 250 kW keep it at 75 % after nothing is lost.
    let small = &mut fleet.sites[0];
    small.gensets = sets(2);
    small.gas = wells(&[("w1", 60), ("w2", 60)]);
    small.buffer.capacity = GasVolume::new(1_500);
    small.unmanaged = Watts::kilo(8);
    fleet
}

/// Two sites of a megawatt with three modules each: mining, GPU, hybrid.
pub fn fleet() -> Fleet {
    let sites = ["well-7", "mesa-2"];
    Fleet {
        sites: sites.map(site).into(),
        modules: sites.iter().flat_map(|site| [mining(site), gpu(site), hybrid(site)]).collect(),
        offerings: offerings(),
    }
}

fn site(name: &str) -> Site {
    Site {
        id: id(name),
        nominal: Frequency::new(60_000),
        governor: Governor::Isochronous,
        // At 9,500 Btu/kWh a megawatt needs 224 MCF/day; the mean day of these wells brings 95 % of their nominal 240.
        gas: wells(&[("w1", 100), ("w2", 80), ("w3", 60)]),
        // Slugs of ±25 % over half an hour on 240 MCF/day move 0.25 × 5,000 ÷ π = 400 scf; ten times that rides
        // out a compressor trip of 10 min on the largest well, and leaves time to shed before the engines starve.
        buffer: GasBuffer { capacity: GasVolume::new(4_000) },
        gensets: sets(4),
        storage: None,
        grid: None,
        load_bank: Watts::ZERO,
        unmanaged: Watts::kilo(15),
        gas_price: MicroDollars::cents(50),
        relay: true,
        simulated: true,
    }
}

fn wells(wells: &[(&str, i64)]) -> BTreeMap<GasSourceId, GasSource> {
    let source =
        |mcf| GasSource { nominal: GasFlow::mcf(mcf), btu_per_scf: 1_020, basis: HeatingBasis::Higher };
    wells.iter().map(|(name, mcf)| (id(name), source(*mcf))).collect()
}

/// Rich-burn sets of 250 kW: a first step of a quarter of the rating.
fn sets(count: usize) -> BTreeMap<GensetId, Genset> {
    let set = Genset {
        rating: Watts::kilo(250),
        min_load: Watts::kilo(75),
        step: Watts::kilo(60),
        // 30 % of the rating a minute, hot.
        ramp: WattsPerSecond::new(1_250),
        start: Span::secs(90),
        min_run: Span::minutes(30),
        min_off: Span::minutes(10),
        heat_rate: 9_500,
        basis: HeatingBasis::Higher,
        no_load_permille: NO_LOAD_PERMILLE,
        inertia: Span::new(1_200),
        start_cost: MicroDollars::dollars(3),
        hour_cost: MicroDollars::dollars(4),
    };
    (1..=count).map(|index| (id(&format!("g{index}")), set.clone())).collect()
}

fn mining(site: &str) -> Module {
    let s21 = miners("Antminer S21", 60, &[(2_600, 163), (3_500, 200)]);
    Module {
        id: id(&format!("{site}-mine")),
        site: id(site),
        wired: false,
        limit: Watts::kilo(670),
        cooling: Watts::kilo(660),
        auxiliary: Watts::kilo(10),
        loss_permille: 15,
        groups: ["a", "b", "c"].map(|name| (id(name), s21.clone())).into(),
        pools: BTreeMap::new(),
    }
}

fn gpu(site: &str) -> Module {
    Module {
        id: id(&format!("{site}-gpu")),
        site: id(site),
        wired: false,
        limit: Watts::kilo(190),
        cooling: Watts::kilo(185),
        auxiliary: Watts::kilo(12),
        loss_permille: 15,
        groups: BTreeMap::new(),
        pools: [(id("dgx"), servers(16))].into(),
    }
}

fn hybrid(site: &str) -> Module {
    let xp = miners("Antminer S21 XP", 30, &[(2_700, 211), (3_645, 270)]);
    Module {
        id: id(&format!("{site}-hybrid")),
        site: id(site),
        wired: true,
        limit: Watts::kilo(340),
        cooling: Watts::kilo(330),
        auxiliary: Watts::kilo(8),
        loss_permille: 15,
        groups: ["a", "b"].map(|name| (id(name), xp.clone())).into(),
        pools: [(id("dgx"), servers(8))].into(),
    }
}

/// Miners with firmware that sleeps in 5 s and wakes in 10 s, each group behind a feeder of its own.
fn miners(model: &str, count: u32, points: &[(i64, i64)]) -> MinerGroup {
    let point = |(watts, tera): &(i64, i64)| OperatingPoint {
        power: Watts::new(*watts),
        rate: Hashrate::tera(*tera),
    };
    MinerGroup {
        model: model.into(),
        count,
        points: points.iter().map(point).collect(),
        standby: Watts::new(25),
        wake: Span::secs(10),
        sleep: Span::secs(5),
        dwell: Span::minutes(5),
        wear: MicroDollars::cents(5),
        shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(150)), rearm: Span::secs(30) },
        scale: 1,
    }
}

/// Servers like a DGX H100: 10.2 kW at most.
fn servers(count: u32) -> GpuPool {
    GpuPool {
        gpu: GPU.into(),
        servers: count,
        gpus: 8,
        idle: Watts::new(2_200),
        active: Watts::new(10_200),
        cap_min: Watts::new(6_000),
        curve: Vec::new(),
    }
}

fn offerings() -> Vec<Offering> {
    let offering = |name: &str, tier, cents, notice, sla_permille| Offering {
        id: id(name),
        tier,
        gpu: GPU.into(),
        price: MicroDollars::cents(cents),
        notice,
        sla_permille,
        floor: None,
    };
    vec![
        offering("h100-firm", Tier::Firm, 235, Span::ZERO, 999),
        offering("h100-on-demand", Tier::OnDemand, 295, Span::minutes(2), 0),
        offering("h100-spot", Tier::Spot, 110, Span::secs(30), 0),
    ]
}

fn id<K: model::id::Kind>(text: &str) -> Id<K> {
    Id::new(text).expect("the reference fleet's names are valid ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_fleets_have_no_findings() {
        for fleet in [one_module(), fleet()] {
            assert_eq!(fleet.findings(), Vec::new());
        }
    }

    #[test]
    fn an_ordinary_day_sustains_most_of_the_rating() {
        for fleet in [one_module(), fleet()] {
            for site in &fleet.sites {
                let nominal = GasFlow::new(site.gas.values().map(|source| source.nominal.get()).sum());
                let sustained = site.electric(nominal).ratio(site.rating()).unwrap_or_default();
                // The walk's level lies at 70 to 116 % of nominal, 95 % in the mean.
                assert!((0.85..=1.10).contains(&sustained), "{}: {sustained}", site.id);
            }
        }
    }

    #[test]
    fn every_site_can_use_all_its_power_and_start_black() {
        for fleet in [one_module(), fleet()] {
            for site in &fleet.sites {
                let most: Watts = fleet.modules_of(&site.id).map(Module::most).sum();
                assert!(most.get() * 10 > site.rating().get() * 6, "{}: {most}", site.id);
                let step = site.gensets.values().map(|set| set.step).max().unwrap_or_default();
                for module in fleet.modules_of(&site.id) {
                    assert!(module.base_draw() < step, "{}: {}", module.id, module.base_draw());
                }
            }
        }
    }
}
