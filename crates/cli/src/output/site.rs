//! Sites: the list, one site, and the status that the fleet shows too.

use api::common;
use api::convert::field::optional_span;
use api::operator as wire;
use serde::Serialize;

use super::decision::{self, Finding, all};
use super::fleet::{Load, Revenue};
use super::show::{frequency, gas, gas_held, maybe, money, money_per_hour, span, watts, word, yes_no};
use super::table::{list, pairs, titled};
use super::{View, read};

/// What is of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its id.
    pub site: String,
    /// The site is simulated.
    pub simulated: bool,
    /// How old the readings of its wired module are.
    pub age_milliseconds: Option<i64>,
    /// Gas that arrives.
    pub gas_scf_per_day: Option<i64>,
    /// Power that this gas sustains.
    pub gas_watts: Option<i64>,
    /// Gas in the buffer.
    pub buffer_scf: Option<i64>,
    /// Usable gas of a full buffer.
    pub buffer_capacity_scf: i64,
    /// Gas that is flared.
    pub flared_scf_per_day: Option<i64>,
    /// What the island can carry by the plan in force.
    pub capacity_watts: Option<i64>,
    /// What it still carries after the loss of its largest source.
    pub firm_capacity_watts: Option<i64>,
    /// Draw of the whole island.
    pub load_watts: Option<i64>,
    /// That load, by use.
    pub load: Load,
    /// The island's frequency.
    pub frequency_millihertz: Option<i64>,
    /// Its nominal frequency.
    pub nominal_millihertz: i64,
    /// The generator sets.
    pub gensets: Vec<Genset>,
    /// What is earned here now.
    pub revenue: Revenue,
    /// What binds the island.
    pub binding: Option<String>,
    /// What one more kilowatt there would earn in an hour.
    pub shadow_price_micro_dollars_per_kwh: Option<i64>,
    /// What is wrong with the site.
    pub findings: Vec<Finding>,
    /// Its storage; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Its grid tie; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<Tie>,
}

/// A grid tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tie {
    /// Largest import.
    pub limit_watts: i64,
    /// What it imports now.
    pub power_watts: Option<i64>,
    /// What a megawatt-hour costs now; `null` where it is not known.
    pub price_micro_dollars_per_mwh: Option<i64>,
    /// Whether the grid is there and it follows commands.
    pub ready: bool,
    /// What the plan in force has it import.
    pub wanted_watts: Option<i64>,
}

impl Tie {
    fn show(&self) -> String {
        let ready = if self.ready { "" } else { "; it follows no command" };
        let price = self.price_micro_dollars_per_mwh.map_or("an unknown price".to_owned(), money);
        format!(
            "imports {} of {} at {price} per MWh, wanted {}{ready}",
            maybe(self.power_watts, watts),
            watts(self.limit_watts),
            maybe(self.wanted_watts, watts),
        )
    }
}

/// Battery storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// Largest charge and discharge.
    pub rating_watts: i64,
    /// What it delivers from full to empty.
    pub energy_watt_seconds: i64,
    /// What it delivers now; negative while it charges.
    pub power_watts: Option<i64>,
    /// What it still delivers until it is empty.
    pub held_watt_seconds: Option<i64>,
    /// Whether it follows commands.
    pub ready: bool,
    /// What the plan in force has it deliver.
    pub wanted_watts: Option<i64>,
}

impl Storage {
    fn show(&self) -> String {
        let kilowatt_hours = |energy: i64| format!("{:.1} kWh", energy as f64 / 3.6e6);
        let held = maybe(self.held_watt_seconds, kilowatt_hours);
        let ready = if self.ready { "" } else { "; it follows no command" };
        format!(
            "{held} of {}, delivers {} of {}, wanted {}{ready}",
            kilowatt_hours(self.energy_watt_seconds),
            maybe(self.power_watts, watts),
            watts(self.rating_watts),
            maybe(self.wanted_watts, watts),
        )
    }
}

/// One generator set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Genset {
    /// Its id.
    pub genset: String,
    /// `off`, `starting`, `online`, `stopping` or `tripped`.
    pub state: Option<String>,
    /// What it delivers.
    pub power_watts: Option<i64>,
    /// Its rating.
    pub rating_watts: i64,
    /// Time in this state.
    pub for_milliseconds: Option<i64>,
    /// The plan in force wants it to run.
    pub wanted: Option<bool>,
}

/// One site: what was configured and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    /// An independent under-frequency relay guards the feeders.
    pub relay: bool,
    /// Most that loads draw which Flareshift does not manage.
    pub unmanaged_watts: i64,
    /// Price of gas; negative where the producer pays to be rid of it.
    pub gas_price_micro_dollars_per_mcf: i64,
    /// Wells and pipes.
    pub gas_sources: Vec<GasSource>,
    /// Its modules' ids.
    pub modules: Vec<String>,
    /// Names this version of the configuration.
    pub etag: String,
    /// What is.
    pub status: Status,
}

/// A well or pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GasSource {
    /// Its id.
    pub source: String,
    /// Flow on an ordinary day.
    pub nominal_scf_per_day: i64,
    /// Heating value.
    pub btu_per_scf: u32,
}

/// All sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// In order of id.
    pub sites: Vec<Status>,
}

/// The columns of a site's row.
const HEADERS: [&str; 12] = [
    "SITE",
    ">FREQUENCY",
    ">GAS",
    ">BUFFER",
    ">FLARED",
    ">CAPACITY",
    ">N-1",
    ">LOAD",
    ">AI",
    ">MINING",
    "SETS",
    ">REVENUE",
];

impl Status {
    fn row(&self) -> Vec<String> {
        let online = self.gensets.iter().filter(|set| set.state.as_deref() == Some("online")).count();
        let known = self.gensets.iter().any(|set| set.state.is_some()).then_some(online);
        // Without a reading of the island nobody knows how its load divides.
        let load = self.load_watts.map(|_| &self.load);
        vec![
            self.site.clone(),
            maybe(self.frequency_millihertz, frequency),
            maybe(self.gas_scf_per_day, gas),
            maybe(self.buffer_scf, gas_held),
            maybe(self.flared_scf_per_day, gas),
            maybe(self.capacity_watts, watts),
            maybe(self.firm_capacity_watts, watts),
            maybe(self.load_watts, watts),
            maybe(load, |load| watts(load.ai_watts)),
            maybe(load, |load| watts(load.mining_watts)),
            format!("{}/{} on", maybe(known, |online| online.to_string()), self.gensets.len()),
            money_per_hour(self.revenue.total()),
        ]
    }

    fn gas_line(&self) -> String {
        format!(
            "{} arriving, good for {}; {} flared",
            maybe(self.gas_scf_per_day, gas),
            maybe(self.gas_watts, watts),
            maybe(self.flared_scf_per_day, gas)
        )
    }
}

/// Sites in a table, under a title.
pub fn table(title: &str, sites: &[Status]) -> String {
    titled(title, &HEADERS, sites.iter().map(Status::row).collect())
}

impl View for List {
    fn table(&self) -> String {
        list(&HEADERS, self.sites.iter().map(Status::row).collect(), "No sites.")
    }
}

impl Described {
    fn head(&self) -> String {
        let status = &self.status;
        let shadow = status.shadow_price_micro_dollars_per_kwh.map(|price| format!("{} a kWh", money(price)));
        let buffer = maybe(status.buffer_scf, gas_held);
        let heard = status.frequency_millihertz;
        pairs(&[
            ("Site", status.site.clone()),
            ("Simulated", yes_no(status.simulated)),
            ("Readings", maybe(status.age_milliseconds, |age| format!("{} old", span(age)))),
            ("Frequency", format!("{} of {}", maybe(heard, frequency), frequency(status.nominal_millihertz))),
            ("Gas", status.gas_line()),
            ("Buffer", format!("{buffer} of {}", gas_held(status.buffer_capacity_scf))),
            ("Storage", status.storage.as_ref().map(Storage::show).unwrap_or_default()),
            ("Grid", status.grid.as_ref().map(Tie::show).unwrap_or_default()),
            ("Gas price", format!("{} per Mcf", money(self.gas_price_micro_dollars_per_mcf))),
            ("Capacity", maybe(status.capacity_watts, watts)),
            ("N-1", maybe(status.firm_capacity_watts, watts)),
            ("Load", format!("{}: {}", maybe(status.load_watts, watts), status.load.show())),
            ("Binding", status.binding.clone().unwrap_or_default()),
            ("Shadow price", shadow.unwrap_or_default()),
            ("Relay", yes_no(self.relay)),
            ("Revenue", status.revenue.show()),
            ("Modules", self.modules.join(", ")),
            ("Etag", self.etag.clone()),
        ])
    }
}

impl View for Described {
    fn table(&self) -> String {
        let set = |set: &Genset| {
            vec![
                set.genset.clone(),
                word(&set.state),
                maybe(set.power_watts, watts),
                watts(set.rating_watts),
                maybe(set.for_milliseconds, span),
                maybe(set.wanted, yes_no),
            ]
        };
        let source = |source: &GasSource| {
            vec![
                source.source.clone(),
                gas(source.nominal_scf_per_day),
                format!("{} Btu/scf", source.btu_per_scf),
            ]
        };
        const SET: [&str; 6] = ["SET", "STATE", ">DELIVERS", ">RATING", ">FOR", "WANTED"];
        self.head()
            + &titled("Generator sets", &SET, self.status.gensets.iter().map(set).collect())
            + &titled(
                "Gas sources",
                &["SOURCE", ">NOMINAL", ">HEATING VALUE"],
                self.gas_sources.iter().map(source).collect(),
            )
            + &decision::findings("Findings", &self.status.findings)
    }
}

impl From<wire::StorageStatus> for Storage {
    fn from(storage: wire::StorageStatus) -> Self {
        Self {
            rating_watts: storage.rating_watts,
            energy_watt_seconds: storage.energy_watt_seconds,
            power_watts: storage.power_watts,
            held_watt_seconds: storage.held_watt_seconds,
            ready: storage.ready,
            wanted_watts: storage.wanted_watts,
        }
    }
}

impl From<wire::TieStatus> for Tie {
    fn from(tie: wire::TieStatus) -> Self {
        Self {
            limit_watts: tie.limit_watts,
            power_watts: tie.power_watts,
            price_micro_dollars_per_mwh: tie.price_micro_dollars_per_mwh,
            ready: tie.ready,
            wanted_watts: tie.wanted_watts,
        }
    }
}

impl From<wire::SiteStatus> for Status {
    fn from(status: wire::SiteStatus) -> Self {
        Self {
            site: status.site,
            simulated: status.simulated,
            age_milliseconds: read::millis(optional_span(status.age, "age")),
            gas_scf_per_day: status.gas_scf_per_day,
            gas_watts: status.gas_watts,
            buffer_scf: status.buffer_scf,
            buffer_capacity_scf: status.buffer_capacity_scf,
            flared_scf_per_day: status.flared_scf_per_day,
            capacity_watts: status.capacity_watts,
            firm_capacity_watts: status.firm_capacity_watts,
            load_watts: status.load_watts,
            load: Load::from(status.load.unwrap_or_default()),
            frequency_millihertz: status.frequency_millihertz,
            nominal_millihertz: status.nominal_millihertz,
            gensets: all(status.gensets),
            revenue: Revenue::from(status.revenue.unwrap_or_default()),
            binding: read::text(status.binding),
            shadow_price_micro_dollars_per_kwh: status.shadow_price_micro_dollars_per_kwh,
            findings: all(status.findings),
            storage: status.storage.map(Into::into),
            grid: status.grid.map(Into::into),
        }
    }
}

impl From<wire::GensetStatus> for Genset {
    fn from(set: wire::GensetStatus) -> Self {
        let state = common::GensetState::try_from(set.state).map(|state| state.as_str_name());
        Self {
            genset: set.genset,
            state: read::word(state, "GENSET_STATE_"),
            power_watts: set.power_watts,
            rating_watts: set.rating_watts,
            for_milliseconds: read::millis(optional_span(set.for_span, "for_span")),
            wanted: set.wanted,
        }
    }
}

impl From<wire::Site> for Described {
    fn from(site: wire::Site) -> Self {
        let config = site.config.unwrap_or_default();
        let source = |(source, config): (String, common::GasSource)| GasSource {
            source,
            nominal_scf_per_day: config.nominal_scf_per_day,
            btu_per_scf: config.btu_per_scf,
        };
        Self {
            relay: config.relay,
            unmanaged_watts: config.unmanaged_watts,
            gas_price_micro_dollars_per_mcf: config.gas_price_micro_dollars_per_mcf,
            gas_sources: config.gas.into_iter().map(source).collect(),
            modules: site.modules,
            etag: site.etag,
            status: Status::from(site.status.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_shown_with_what_it_holds_and_whether_it_follows() {
        let storage = Storage {
            rating_watts: 150_000,
            energy_watt_seconds: 1_080_000_000,
            power_watts: Some(-20_000),
            held_watt_seconds: Some(540_000_000),
            ready: true,
            wanted_watts: Some(-20_000),
        };
        let shown = "150.0 kWh of 300.0 kWh, delivers -20.0 kW of 150 kW, wanted -20.0 kW";
        assert_eq!(storage.show(), shown);
        let silent = Storage { held_watt_seconds: None, power_watts: None, ready: false, ..storage };
        let shown = "- of 300.0 kWh, delivers - of 150 kW, wanted -20.0 kW; it follows no command";
        assert_eq!(silent.show(), shown);
    }

    #[test]
    fn a_grid_tie_is_shown_with_its_price_and_whether_it_follows() {
        let tie = Tie {
            limit_watts: 150_000,
            power_watts: Some(20_000),
            price_micro_dollars_per_mwh: Some(45_000_000),
            ready: true,
            wanted_watts: Some(60_000),
        };
        assert_eq!(tie.show(), "imports 20.0 kW of 150 kW at $45.00 per MWh, wanted 60.0 kW");
        let gone = Tie { power_watts: None, price_micro_dollars_per_mwh: None, ready: false, ..tie };
        let shown = "imports - of 150 kW at an unknown price per MWh, wanted 60.0 kW; it follows no command";
        assert_eq!(gone.show(), shown);
    }
}
