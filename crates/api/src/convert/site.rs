//! Sites and their plant. Wire: `site.proto`. Model: [`model::site`].

use model::fuel::NO_LOAD_PERMILLE;
use model::site::{
    Frequency, GasBuffer, GasFlow, GasSource, GasVolume, Genset, Governor, GridTie, HeatingBasis, Site,
    Storage,
};
use model::{MicroDollars, WattSeconds, Watts, WattsPerSecond};

use super::field::{
    Error, choice, id, map, message, optional, optional_span, required, span, unspecified, wire_map,
    wire_span,
};
use crate::common as wire;

impl From<Site> for wire::Site {
    fn from(site: Site) -> Self {
        let Site { id, nominal, governor, gas, buffer, gensets, .. } = site;
        Self {
            id: id.as_str().to_owned(),
            nominal_millihertz: nominal.get(),
            governor: Some(governor.into()),
            gas: wire_map(gas),
            buffer: Some(buffer.into()),
            gensets: wire_map(gensets),
            storage: site.storage.map(Into::into),
            grid: site.grid.map(Into::into),
            unmanaged_watts: site.unmanaged.get(),
            load_bank_watts: site.load_bank.get(),
            gas_price_micro_dollars_per_mcf: site.gas_price.get(),
            relay: site.relay,
            simulated: site.simulated,
        }
    }
}

impl TryFrom<wire::Site> for Site {
    type Error = Error;
    fn try_from(site: wire::Site) -> Result<Self, Error> {
        Ok(Self {
            id: id(&site.id, "id")?,
            nominal: Frequency::new(site.nominal_millihertz),
            governor: message(site.governor, "governor")?,
            gas: map(site.gas, "gas")?,
            buffer: message(site.buffer, "buffer")?,
            gensets: map(site.gensets, "gensets")?,
            storage: optional(site.storage, "storage")?,
            grid: optional(site.grid, "grid")?,
            unmanaged: Watts::new(site.unmanaged_watts),
            load_bank: Watts::new(site.load_bank_watts),
            gas_price: MicroDollars::new(site.gas_price_micro_dollars_per_mcf),
            relay: site.relay,
            simulated: site.simulated,
        })
    }
}

impl From<Governor> for wire::Governor {
    fn from(governor: Governor) -> Self {
        let mode = match governor {
            Governor::Isochronous => wire::governor::Mode::Isochronous(wire::Isochronous {}),
            Governor::Droop { permille } => wire::governor::Mode::Droop(wire::Droop { permille }),
        };
        Self { mode: Some(mode) }
    }
}

impl TryFrom<wire::Governor> for Governor {
    type Error = Error;
    fn try_from(governor: wire::Governor) -> Result<Self, Error> {
        Ok(match required(governor.mode, "mode")? {
            wire::governor::Mode::Isochronous(wire::Isochronous {}) => Self::Isochronous,
            wire::governor::Mode::Droop(wire::Droop { permille }) => Self::Droop { permille },
        })
    }
}

impl From<HeatingBasis> for wire::HeatingBasis {
    fn from(basis: HeatingBasis) -> Self {
        match basis {
            HeatingBasis::Higher => Self::Higher,
            HeatingBasis::Lower => Self::Lower,
        }
    }
}

impl TryFrom<wire::HeatingBasis> for HeatingBasis {
    type Error = Error;
    fn try_from(basis: wire::HeatingBasis) -> Result<Self, Error> {
        match basis {
            wire::HeatingBasis::Unspecified => Err(unspecified()),
            wire::HeatingBasis::Higher => Ok(Self::Higher),
            wire::HeatingBasis::Lower => Ok(Self::Lower),
        }
    }
}

impl From<GasSource> for wire::GasSource {
    fn from(GasSource { nominal, btu_per_scf, basis }: GasSource) -> Self {
        let basis = wire::HeatingBasis::from(basis).into();
        Self { nominal_scf_per_day: nominal.get(), btu_per_scf, basis }
    }
}

impl TryFrom<wire::GasSource> for GasSource {
    type Error = Error;
    fn try_from(source: wire::GasSource) -> Result<Self, Error> {
        let wire::GasSource { nominal_scf_per_day, btu_per_scf, basis } = source;
        let basis = choice::<wire::HeatingBasis, _>(basis, "basis")?;
        Ok(Self { nominal: GasFlow::new(nominal_scf_per_day), btu_per_scf, basis })
    }
}

impl From<GasBuffer> for wire::GasBuffer {
    fn from(GasBuffer { capacity }: GasBuffer) -> Self {
        Self { capacity_scf: capacity.get() }
    }
}

impl TryFrom<wire::GasBuffer> for GasBuffer {
    type Error = Error;
    fn try_from(wire::GasBuffer { capacity_scf }: wire::GasBuffer) -> Result<Self, Error> {
        Ok(Self { capacity: GasVolume::new(capacity_scf) })
    }
}

impl From<Genset> for wire::Genset {
    fn from(set: Genset) -> Self {
        Self {
            rating_watts: set.rating.get(),
            min_load_watts: set.min_load.get(),
            step_watts: set.step.get(),
            ramp_watts_per_second: set.ramp.get(),
            start: wire_span(set.start),
            min_run: wire_span(set.min_run),
            min_off: wire_span(set.min_off),
            heat_rate_btu_per_kwh: set.heat_rate,
            basis: wire::HeatingBasis::from(set.basis).into(),
            inertia: wire_span(set.inertia),
            start_cost_micro_dollars: set.start_cost.get(),
            hour_cost_micro_dollars: set.hour_cost.get(),
            no_load_permille: Some(set.no_load_permille),
        }
    }
}

impl TryFrom<wire::Genset> for Genset {
    type Error = Error;
    fn try_from(set: wire::Genset) -> Result<Self, Error> {
        Ok(Self {
            rating: Watts::new(set.rating_watts),
            min_load: Watts::new(set.min_load_watts),
            step: Watts::new(set.step_watts),
            ramp: WattsPerSecond::new(set.ramp_watts_per_second),
            start: span(set.start, "start")?,
            min_run: span(set.min_run, "min_run")?,
            min_off: span(set.min_off, "min_off")?,
            heat_rate: set.heat_rate_btu_per_kwh,
            basis: choice::<wire::HeatingBasis, _>(set.basis, "basis")?,
            inertia: span(set.inertia, "inertia")?,
            start_cost: MicroDollars::new(set.start_cost_micro_dollars),
            hour_cost: MicroDollars::new(set.hour_cost_micro_dollars),
            no_load_permille: set.no_load_permille.unwrap_or(NO_LOAD_PERMILLE),
        })
    }
}

impl From<Storage> for wire::Storage {
    fn from(Storage { power, energy, efficiency_permille, response, reserve, wear }: Storage) -> Self {
        Self {
            power_watts: power.get(),
            energy_watt_seconds: energy.get(),
            efficiency_permille,
            response: response.and_then(wire_span),
            reserve: wire_span(reserve),
            wear_micro_dollars_per_mwh: wear.get(),
        }
    }
}

impl TryFrom<wire::Storage> for Storage {
    type Error = Error;
    fn try_from(storage: wire::Storage) -> Result<Self, Error> {
        Ok(Self {
            power: Watts::new(storage.power_watts),
            energy: WattSeconds::new(storage.energy_watt_seconds),
            efficiency_permille: storage.efficiency_permille,
            response: optional_span(storage.response, "response")?,
            reserve: span(storage.reserve, "reserve")?,
            wear: MicroDollars::new(storage.wear_micro_dollars_per_mwh),
        })
    }
}

impl From<GridTie> for wire::GridTie {
    fn from(GridTie { import, price }: GridTie) -> Self {
        Self { import_watts: import.get(), price_micro_dollars_per_mwh: price.map(MicroDollars::get) }
    }
}

impl TryFrom<wire::GridTie> for GridTie {
    type Error = Error;
    fn try_from(tie: wire::GridTie) -> Result<Self, Error> {
        let wire::GridTie { import_watts, price_micro_dollars_per_mwh } = tie;
        Ok(Self {
            import: Watts::new(import_watts),
            price: price_micro_dollars_per_mwh.map(MicroDollars::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vary::{Vary, enum_survives, survives};
    use super::*;

    fn basis(v: &mut Vary) -> HeatingBasis {
        v.pick(&[HeatingBasis::Higher, HeatingBasis::Lower])
    }

    fn genset(v: &mut Vary) -> Genset {
        Genset {
            rating: v.of(),
            min_load: v.of(),
            step: v.of(),
            ramp: v.of(),
            start: v.span(),
            min_run: v.span(),
            min_off: v.span(),
            heat_rate: v.small(),
            basis: basis(v),
            inertia: v.span(),
            start_cost: v.of(),
            hour_cost: v.of(),
            no_load_permille: v.small(),
        }
    }

    fn site(v: &mut Vary) -> Site {
        let droop = Governor::Droop { permille: v.small() };
        Site {
            id: v.id(),
            nominal: v.of(),
            governor: v.pick(&[Governor::Isochronous, droop]),
            gas: v.map(|v| GasSource { nominal: v.of(), btu_per_scf: v.small(), basis: basis(v) }),
            buffer: GasBuffer { capacity: v.of() },
            gensets: v.map(genset),
            storage: v.maybe(|v| Storage {
                power: v.of(),
                energy: v.of(),
                efficiency_permille: v.small(),
                response: v.maybe(Vary::span),
                reserve: v.span(),
                wear: v.of(),
            }),
            grid: v.maybe(|v| GridTie { import: v.of(), price: v.maybe(Vary::of) }),
            unmanaged: v.of(),
            load_bank: v.of(),
            gas_price: v.of(),
            relay: v.flag(),
            simulated: v.flag(),
        }
    }

    #[test]
    fn sites_survive_the_wire() {
        survives::<_, wire::Site>(site);
        enum_survives(&[HeatingBasis::Higher, HeatingBasis::Lower], wire::HeatingBasis::Unspecified);
    }

    #[test]
    fn what_is_missing_is_named() {
        let governor = Some(Governor::Isochronous.into());
        let buffer = Some(wire::GasBuffer::default());
        let whole = wire::Site { id: "s".into(), governor, buffer, ..Default::default() };
        let check = |site: wire::Site, path: &str| {
            assert_eq!(Site::try_from(site).map_err(|error| error.path), Err(path.to_owned()));
        };
        assert!(Site::try_from(whole.clone()).is_ok());
        check(wire::Site { id: String::new(), ..whole.clone() }, "id");
        check(wire::Site { buffer: None, ..whole.clone() }, "buffer");
        check(wire::Site { governor: Some(wire::Governor { mode: None }), ..whole.clone() }, "governor.mode");
        let gensets = [("g1".to_owned(), wire::Genset::default())].into();
        check(wire::Site { gensets, ..whole.clone() }, "gensets[\"g1\"].start");
        let gas = [("w1".to_owned(), wire::GasSource { basis: 9, ..Default::default() })].into();
        check(wire::Site { gas, ..whole }, "gas[\"w1\"].basis");
    }
}
