//! The fleet of the load, and what its agents say: sites of three sets that carry what their modules draw, modules of one miner group
//! and one GPU pool.
//!
//! Nothing here is physics: readings are steady with a little noise, so that reports differ as real ones do. Next: `agent.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::envelope::Fence;
use model::report::{
    EnvelopeReport, EnvelopeState, FeederState, GensetReport, GensetState, GroupReport, PoolReport, Report,
    SiteReport, Switch, Verified,
};
use model::site::{Frequency, GasFlow, GasVolume};
use model::{BootStamp, GensetId, Hashrate, MinerGroupId, ModuleId, PoolId, Span, Time, Watts};

/// One set of a site; three of them carry four modules with one lost.
const GENSET: &str = "rating = 1000000\nmin_load = 300000\nstep = 150000\nramp = 5000\nstart = 120000\nmin_run = 1800000\n\
    min_off = 600000\nheat_rate = 8500\nbasis = \"lower\"\ninertia = 1500\nstart_cost = 20000000\nhour_cost = 10000000\n";

const GROUP: &str = "[module.groups.a]\nmodel = \"Antminer S21\"\ncount = 100\n\
    points = [{ power = 2500, rate = 160000000000000 }, { power = 3500, rate = 200000000000000 }]\nstandby = 25\n\
    wake = 120000\nsleep = 20000\ndwell = 600000\nwear = 100000\nshed = { actuator = \"feeder\", opens = 150, rearm = 60000 }\n";

const POOL: &str =
    "[module.pools.p]\ngpu = \"h100\"\nservers = 8\ngpus = 8\nidle = 2000\nactive = 10200\ncap_min = 6000\n";

/// The module of an agent.
pub fn module_id(index: usize) -> String {
    format!("m{index:05}")
}

/// The fleet file for so many modules.
pub fn fleet(modules: usize, per_site: usize) -> String {
    let mut text = String::new();
    for site in 0..modules.div_ceil(per_site.max(1)) {
        let _ = write!(
            text,
            "[[site]]\nid = \"s{site:05}\"\nnominal = 60000\nunmanaged = 20000\ngas_price = 0\nrelay = true\nsimulated = true\n\
             governor = {{ mode = \"isochronous\" }}\nbuffer = {{ capacity = 200000 }}\n\
             [site.gas.west]\nnominal = 600000\nbtu_per_scf = 1020\nbasis = \"higher\"\n"
        );
        for set in ["g1", "g2", "g3"] {
            let _ = write!(text, "[site.gensets.{set}]\n{GENSET}");
        }
    }
    for module in 0..modules {
        let (id, site, wired) = (module_id(module), module / per_site.max(1), module % per_site.max(1) == 0);
        let wired = if wired { "wired = true\n" } else { "" };
        let _ = write!(
            text,
            "[[module]]\nid = \"{id}\"\nsite = \"s{site:05}\"\n{wired}limit = 500000\ncooling = 500000\nauxiliary = 10000\n\
             loss_permille = 20\n{GROUP}{POOL}"
        );
    }
    text
}

/// What an agent says the `count`th time, under the envelope it holds.
pub fn report(
    module: &ModuleId,
    wired: bool,
    count: u64,
    envelope: Option<(Fence, u64, Watts)>,
) -> anyhow::Result<Report> {
    let noise = i64::try_from(count % 7)? * 40;
    let seconds = i64::try_from(count)?;
    let (fence, generation, ceiling) = envelope.unwrap_or_default();
    let state = if generation == 0 { EnvelopeState::None } else { EnvelopeState::Valid };
    let verified = Verified {
        rate: Hashrate::new(15_900_000_000_000_000),
        shares: 100 + count % 9,
        window: Span::minutes(10),
    };
    let group = GroupReport {
        feeder: FeederState::Closed,
        awake: 100,
        point: 0,
        power: Some(Watts::new(250_000 + noise)),
        claimed: Some(Hashrate::new(16_000_000_000_000_000)),
        verified: Some(verified),
        connections: 100,
    };
    let pool = PoolReport { up: 8, power: Some(Watts::new(16_000)) };
    Ok(Report {
        module: module.clone(),
        sequence: count,
        stamp: BootStamp { boot_id: "9f3c2b10-5a1e-4a57-8d0e-3f7f1d6a2b11".into(), at: Span::secs(seconds) },
        at: Time(1_770_854_400_000 + seconds * 1_000),
        meter: Some(Watts::new(276_000 + noise)),
        switch: Switch::Remote,
        groups: BTreeMap::from([(MinerGroupId::new("a")?, group)]),
        pools: BTreeMap::from([(PoolId::new("p")?, pool)]),
        runs: BTreeMap::new(),
        envelope: EnvelopeReport { fence, generation, state, ceiling, refused: None },
        site: if wired { Some(site(noise)?) } else { None },
        findings: Vec::new(),
    })
}

fn site(noise: i64) -> anyhow::Result<SiteReport> {
    let set = GensetReport {
        state: GensetState::Online,
        power: Some(Watts::new(380_000 + noise)),
        for_span: Span::hours(3),
    };
    let mut gensets = BTreeMap::new();
    for id in ["g1", "g2", "g3"] {
        gensets.insert(GensetId::new(id)?, set);
    }
    Ok(SiteReport {
        frequency: Some(Frequency::new(60_000 - noise / 10)),
        gas: Some(GasFlow::mcf(600)),
        buffer: Some(GasVolume::new(150_000)),
        flared: Some(GasFlow::ZERO),
        load: Some(Watts::new(1_140_000 + 3 * noise)),
        unmanaged: Some(Watts::kilo(20)),
        gensets,
        storage: None,
        grid: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn the_fleet_is_one_that_a_controller_takes_and_the_reports_are_of_it() {
        let fleet = model::fleet_file::parse(Path::new("fleet.toml"), &fleet(10, 4)).unwrap();
        assert_eq!((fleet.sites.len(), fleet.modules.len()), (3, 10));
        assert_eq!(fleet.modules.iter().filter(|module| module.wired).count(), 3);
        let module = &fleet.modules[4];
        let report = report(&module.id, module.wired, 5, None).unwrap();
        assert!(report.groups.keys().eq(module.groups.keys()) && report.pools.keys().eq(module.pools.keys()));
        let site = fleet.sites.iter().find(|site| site.id == module.site).unwrap();
        assert!(report.site.unwrap().gensets.keys().eq(site.gensets.keys()));
    }
}
