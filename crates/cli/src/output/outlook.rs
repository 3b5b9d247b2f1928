//! The outlook: what could be sold in the next three days, when gangs would start, when modules are best drained.
//!
//! The table shows some of the 72 hours, JSON all of them. Read next: `planner::outlook`, which computes it.

use std::collections::BTreeMap;

use api::convert::field::optional_time;
use api::operator as wire;
use model::SoldBy;
use serde::Serialize;

use super::quote::fine;
use super::show::{self, maybe, money, money_per_hour, watts, word};
use super::table::{clean, pairs, titled};
use super::units::Units;
use super::{View, read};

/// Hours that the table shows: the plan's own two, the day, and each day's end.
const SHOWN: [usize; 8] = [0, 1, 2, 6, 12, 24, 48, 71];

/// What lies ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// When the input was taken; hour 0 begins here.
    pub made: Option<String>,
    /// The plan it begins with.
    pub generation: u64,
    /// In order of id.
    pub sites: Vec<Site>,
}

/// One island. Lists by hour have 72 entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its id.
    pub site: String,
    /// What gas and sets sustain.
    pub power_watts: Vec<Quantiles>,
    /// In order of GPU type and tier: alternatives, not to be added.
    pub supply: Vec<Supply>,
    /// In order of module.
    pub drains: Vec<Drain>,
    /// What one more megawatt-hour would earn, less its gas.
    pub megawatt_hour_micro_dollars: Vec<i64>,
    /// What it is worth, by set, that it still runs when a plan ends.
    pub set_on_micro_dollars: BTreeMap<String, i64>,
}

/// One figure at four quantiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Undercut in one case of a hundred.
    pub p1: i64,
    /// Undercut in one case of ten.
    pub p10: i64,
    /// Undercut every other time.
    pub p50: i64,
    /// Undercut in nine cases of ten.
    pub p90: i64,
}

/// What can be sold of one GPU type under one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Supply {
    /// The GPU's type, or `kilowatt`.
    pub gpu: String,
    /// `firm`, `on-demand` or `spot`.
    pub tier: Option<String>,
    /// Hour by hour.
    pub hours: Vec<Hour>,
    /// Smallest gang first.
    pub starts: Vec<Start>,
}

/// What can be sold in one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// GPUs, beside what runs; or kilowatts.
    #[serde(flatten)]
    pub units: Units<Quantiles>,
    /// What keeps them at zero at p10.
    pub short: Option<String>,
    /// Least price of a GPU-hour at which selling one more pays.
    pub least_price_micro_dollars: Option<i64>,
}

/// When a gang would start; `null` = not within the three days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Its GPUs, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// With the least supply.
    pub hour_p1: Option<u32>,
    /// With little supply.
    pub hour_p10: Option<u32>,
    /// With ordinary supply.
    pub hour_p50: Option<u32>,
    /// With much supply.
    pub hour_p90: Option<u32>,
}

/// What taking a module out of service would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// The module.
    pub module: String,
    /// What an hour without it loses, in each hour.
    pub loss_micro_dollars: Vec<i64>,
    /// The first hour that loses least.
    pub best_hour: u32,
}

impl View for Outlook {
    fn table(&self) -> String {
        let head = pairs(&[("From", show::moment(&self.made)), ("Plan", self.generation.to_string())]);
        let sites: String = self.sites.iter().map(Site::table).collect();
        if sites.is_empty() { head + "No sites.\n" } else { head + &sites }
    }
}

impl Site {
    fn table(&self) -> String {
        let named = |what: &str| clean(&format!("Site {}: {what}", self.site));
        let power = SHOWN.iter().filter_map(|&hour| {
            let price = self.megawatt_hour_micro_dollars.get(hour).copied();
            let power = self.power_watts.get(hour)?.array().map(watts);
            Some([vec![ahead(hour)], power.to_vec(), vec![maybe(price, money)]].concat())
        });
        let starts = self.supply.iter().flat_map(|supply| {
            supply.starts.iter().map(|start| {
                let hours = [start.hour_p90, start.hour_p50, start.hour_p10, start.hour_p1];
                let hours = hours.map(|hour| maybe(hour, |hour| ahead(hour as usize)));
                [supply.name(), vec![start.units.cell()], hours.to_vec()].concat()
            })
        });
        let drains = self.drains.iter().map(|drain| {
            let loss = |hour: usize| maybe(drain.loss_micro_dollars.get(hour).copied(), money_per_hour);
            vec![
                drain.module.clone(),
                ahead(drain.best_hour as usize),
                loss(drain.best_hour as usize),
                loss(0),
            ]
        });
        const POWER: [&str; 6] = ["IN", ">P1", ">P10", ">P50", ">P90", ">ONE MORE MWh"];
        const SALE: [&str; 9] =
            ["GPU", "TIER", "IN", ">P1", ">P10", ">P50", ">P90", ">LEAST PRICE", "SHORT OF"];
        const START: [&str; 7] = ["GPU", "TIER", ">GPUS", ">P90", ">P50", ">P10", ">P1"];
        const DRAIN: [&str; 4] = ["MODULE", "BEST IN", ">LOSS THEN", ">LOSS NOW"];
        let sale = self.supply.iter().flat_map(Supply::rows);
        titled(&named("power from gas and sets"), &POWER, power.collect())
            + &titled(&named("GPUs for sale beside what runs"), &SALE, sale.collect())
            + &titled(&named("a gang would start in"), &START, starts.collect())
            + &titled(&named("an hour without a module"), &DRAIN, drains.collect())
    }
}

impl Supply {
    fn name(&self) -> Vec<String> {
        vec![self.gpu.clone(), word(&self.tier)]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |&hour: &usize| {
            let Hour { units, short, least_price_micro_dollars } = self.hours.get(hour)?;
            let units = units.gpus.or(units.kilowatts).unwrap_or_default();
            let gpus = units.array().map(|units| Units::of(&self.gpu, units).cell());
            // A kilowatt costs cents, so they have decimals.
            let price = SoldBy::of(&self.gpu).pick(money as fn(i64) -> String, fine);
            let rest = vec![maybe(*least_price_micro_dollars, price), short.clone().unwrap_or_default()];
            Some([self.name(), vec![ahead(hour)], gpus.to_vec(), rest].concat())
        };
        SHOWN.iter().filter_map(row).collect()
    }
}

impl Quantiles {
    fn array(self) -> [i64; 4] {
        [self.p1, self.p10, self.p50, self.p90]
    }
}

/// `now`, or hours from now.
fn ahead(hour: usize) -> String {
    if hour == 0 { "now".into() } else { format!("{hour}h") }
}

impl From<wire::Outlook> for Outlook {
    fn from(outlook: wire::Outlook) -> Self {
        Self {
            made: read::moment(optional_time(outlook.made, "made")),
            generation: outlook.generation,
            sites: outlook.sites.into_iter().map(Site::from).collect(),
        }
    }
}

impl From<wire::SiteOutlook> for Site {
    fn from(site: wire::SiteOutlook) -> Self {
        let drain = |drain: wire::DrainOutlook| Drain {
            module: drain.module,
            loss_micro_dollars: drain.loss_micro_dollars,
            best_hour: drain.best_hour,
        };
        Self {
            site: site.site,
            power_watts: site.power.into_iter().map(Quantiles::from).collect(),
            supply: site.supply.into_iter().map(Supply::from).collect(),
            drains: site.drains.into_iter().map(drain).collect(),
            megawatt_hour_micro_dollars: site.megawatt_hour_micro_dollars,
            set_on_micro_dollars: site.set_on_micro_dollars,
        }
    }
}

impl From<wire::GpuSupply> for Supply {
    fn from(supply: wire::GpuSupply) -> Self {
        let kind = supply.gpu;
        let hour = |hour: wire::SaleableHour| Hour {
            units: Units::of(&kind, hour.gpus.map(Quantiles::from).unwrap_or_default()),
            short: read::text(hour.short),
            least_price_micro_dollars: hour.least_price_micro_dollars,
        };
        let start = |start: wire::GangStart| Start {
            units: Units::of(&kind, start.gpus),
            hour_p1: start.hour_p1,
            hour_p10: start.hour_p10,
            hour_p50: start.hour_p50,
            hour_p90: start.hour_p90,
        };
        Self {
            tier: read::tier(supply.tier),
            hours: supply.hours.into_iter().map(hour).collect(),
            starts: supply.starts.into_iter().map(start).collect(),
            gpu: kind,
        }
    }
}

impl From<wire::PowerQuantiles> for Quantiles {
    fn from(power: wire::PowerQuantiles) -> Self {
        let wire::PowerQuantiles { p1_watts: p1, p10_watts: p10, p50_watts: p50, p90_watts: p90 } = power;
        Self { p1, p10, p50, p90 }
    }
}

impl From<wire::GpuQuantiles> for Quantiles {
    fn from(wire::GpuQuantiles { p1, p10, p50, p90 }: wire::GpuQuantiles) -> Self {
        Self { p1: p1.into(), p10: p10.into(), p50: p50.into(), p90: p90.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilowatts_for_sale_are_no_gpus() {
        let gpus = Some(wire::GpuQuantiles { p1: 0, p10: 150, p50: 300, p90: 300 });
        let supply = Supply::from(wire::GpuSupply {
            gpu: "kilowatt".into(),
            hours: vec![wire::SaleableHour { gpus, ..Default::default() }],
            starts: vec![wire::GangStart { gpus: 200, ..Default::default() }],
            ..Default::default()
        });
        assert_eq!(supply.rows()[0][3..7], ["0 kW", "150 kW", "300 kW", "300 kW"]);
        let json = serde_json::to_value(&supply).expect("plain data");
        assert_eq!(
            (&json["hours"][0]["kilowatts"]["p10"], &json["starts"][0]["kilowatts"]),
            (&150.into(), &200.into())
        );
        assert!(json["hours"][0].get("gpus").is_none(), "{json}");
    }
}
