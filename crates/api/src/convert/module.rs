//! Modules and their devices. Wire: `module.proto`. Model: [`model::module`].

use model::cap::CapPoint;
use model::module::{Actuator, GpuPool, MinerGroup, Module, OperatingPoint, ShedPath};
use model::{Hashrate, MicroDollars, Pace, Watts};

use super::field::{
    Error, choice, id, list, map, message, optional_span, span, unspecified, wire_list, wire_map, wire_span,
};
use crate::common as wire;

impl From<Module> for wire::Module {
    fn from(module: Module) -> Self {
        Self {
            id: module.id.as_str().to_owned(),
            site: module.site.as_str().to_owned(),
            wired: module.wired,
            limit_watts: module.limit.get(),
            cooling_watts: module.cooling.get(),
            auxiliary_watts: module.auxiliary.get(),
            loss_permille: module.loss_permille,
            groups: wire_map(module.groups),
            pools: wire_map(module.pools),
        }
    }
}

impl TryFrom<wire::Module> for Module {
    type Error = Error;
    fn try_from(module: wire::Module) -> Result<Self, Error> {
        Ok(Self {
            id: id(&module.id, "id")?,
            site: id(&module.site, "site")?,
            wired: module.wired,
            limit: Watts::new(module.limit_watts),
            cooling: Watts::new(module.cooling_watts),
            auxiliary: Watts::new(module.auxiliary_watts),
            loss_permille: module.loss_permille,
            groups: map(module.groups, "groups")?,
            pools: map(module.pools, "pools")?,
        })
    }
}

impl From<MinerGroup> for wire::MinerGroup {
    fn from(group: MinerGroup) -> Self {
        Self {
            model: group.model,
            count: group.count,
            points: wire_list(group.points),
            standby_watts: group.standby.get(),
            wake: wire_span(group.wake),
            sleep: wire_span(group.sleep),
            dwell: wire_span(group.dwell),
            wear_micro_dollars: group.wear.get(),
            shed: Some(group.shed.into()),
            scale: group.scale,
        }
    }
}

impl TryFrom<wire::MinerGroup> for MinerGroup {
    type Error = Error;
    fn try_from(group: wire::MinerGroup) -> Result<Self, Error> {
        Ok(Self {
            model: group.model,
            count: group.count,
            points: list(group.points, "points")?,
            standby: Watts::new(group.standby_watts),
            wake: span(group.wake, "wake")?,
            sleep: span(group.sleep, "sleep")?,
            dwell: span(group.dwell, "dwell")?,
            wear: MicroDollars::new(group.wear_micro_dollars),
            shed: message(group.shed, "shed")?,
            scale: group.scale,
        })
    }
}

impl From<OperatingPoint> for wire::OperatingPoint {
    fn from(OperatingPoint { power, rate }: OperatingPoint) -> Self {
        Self { power_watts: power.get(), rate_hashes_per_second: rate.get() }
    }
}

impl TryFrom<wire::OperatingPoint> for OperatingPoint {
    type Error = Error;
    fn try_from(point: wire::OperatingPoint) -> Result<Self, Error> {
        let wire::OperatingPoint { power_watts, rate_hashes_per_second } = point;
        Ok(Self { power: Watts::new(power_watts), rate: Hashrate::new(rate_hashes_per_second) })
    }
}

impl From<ShedPath> for wire::ShedPath {
    fn from(ShedPath { actuator, opens, rearm }: ShedPath) -> Self {
        let actuator = wire::Actuator::from(actuator).into();
        Self { actuator, opens: opens.and_then(wire_span), rearm: wire_span(rearm) }
    }
}

impl TryFrom<wire::ShedPath> for ShedPath {
    type Error = Error;
    fn try_from(wire::ShedPath { actuator, opens, rearm }: wire::ShedPath) -> Result<Self, Error> {
        Ok(Self {
            actuator: choice::<wire::Actuator, _>(actuator, "actuator")?,
            opens: optional_span(opens, "opens")?,
            rearm: span(rearm, "rearm")?,
        })
    }
}

impl From<Actuator> for wire::Actuator {
    fn from(actuator: Actuator) -> Self {
        match actuator {
            Actuator::Feeder => Self::Feeder,
            Actuator::Storage => Self::Storage,
            Actuator::Cap => Self::Cap,
            Actuator::Api => Self::Api,
        }
    }
}

impl TryFrom<wire::Actuator> for Actuator {
    type Error = Error;
    fn try_from(actuator: wire::Actuator) -> Result<Self, Error> {
        match actuator {
            wire::Actuator::Unspecified => Err(unspecified()),
            wire::Actuator::Feeder => Ok(Self::Feeder),
            wire::Actuator::Storage => Ok(Self::Storage),
            wire::Actuator::Cap => Ok(Self::Cap),
            wire::Actuator::Api => Ok(Self::Api),
        }
    }
}

impl From<GpuPool> for wire::GpuPool {
    fn from(GpuPool { gpu, servers, gpus, idle, active, cap_min, curve }: GpuPool) -> Self {
        Self {
            gpu,
            servers,
            gpus_per_server: gpus,
            idle_watts: idle.get(),
            active_watts: active.get(),
            cap_min_watts: cap_min.get(),
            curve: wire_list(curve),
        }
    }
}

impl TryFrom<wire::GpuPool> for GpuPool {
    type Error = Error;
    fn try_from(pool: wire::GpuPool) -> Result<Self, Error> {
        Ok(Self {
            gpu: pool.gpu,
            servers: pool.servers,
            gpus: pool.gpus_per_server,
            idle: Watts::new(pool.idle_watts),
            active: Watts::new(pool.active_watts),
            cap_min: Watts::new(pool.cap_min_watts),
            curve: list(pool.curve, "curve")?,
        })
    }
}

impl From<CapPoint> for wire::CapPoint {
    fn from(CapPoint { power, pace }: CapPoint) -> Self {
        Self { power_watts: power.get(), pace_permille: pace.get() }
    }
}

impl TryFrom<wire::CapPoint> for CapPoint {
    type Error = Error;
    fn try_from(wire::CapPoint { power_watts, pace_permille }: wire::CapPoint) -> Result<Self, Error> {
        Ok(Self { power: Watts::new(power_watts), pace: Pace::new(pace_permille) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::vary::{Vary, enum_survives, survives};
    use super::*;

    const ACTUATORS: [Actuator; 4] = [Actuator::Feeder, Actuator::Storage, Actuator::Cap, Actuator::Api];

    pub(in super::super) fn actuator(v: &mut Vary) -> Actuator {
        v.pick(&ACTUATORS)
    }

    fn group(v: &mut Vary) -> MinerGroup {
        MinerGroup {
            model: v.text(),
            count: v.small(),
            points: v.list(|v| OperatingPoint { power: v.of(), rate: v.of() }),
            standby: v.of(),
            wake: v.span(),
            sleep: v.span(),
            dwell: v.span(),
            wear: v.of(),
            shed: ShedPath { actuator: actuator(v), opens: v.maybe(Vary::span), rearm: v.span() },
            scale: v.bits(),
        }
    }

    fn pool(v: &mut Vary) -> GpuPool {
        GpuPool {
            gpu: v.text(),
            servers: v.small(),
            gpus: v.small(),
            idle: v.of(),
            active: v.of(),
            cap_min: v.of(),
            curve: v.list(|v| CapPoint { power: v.of(), pace: v.of() }),
        }
    }

    fn module(v: &mut Vary) -> Module {
        Module {
            id: v.id(),
            site: v.id(),
            wired: v.flag(),
            limit: v.of(),
            cooling: v.of(),
            auxiliary: v.of(),
            loss_permille: v.small(),
            groups: v.map(group),
            pools: v.map(pool),
        }
    }

    #[test]
    fn modules_survive_the_wire() {
        survives::<_, wire::Module>(module);
        enum_survives(&ACTUATORS, wire::Actuator::Unspecified);
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |group: wire::MinerGroup, path: &str| {
            let groups = [("a".to_owned(), group)].into();
            let module = wire::Module { id: "m".into(), site: "s".into(), groups, ..Default::default() };
            assert_eq!(Module::try_from(module).map_err(|error| error.path), Err(path.to_owned()));
        };
        let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let timed = wire::MinerGroup { wake: second, sleep: second, dwell: second, ..Default::default() };
        check(wire::MinerGroup { dwell: None, ..timed.clone() }, "groups[\"a\"].dwell");
        check(timed.clone(), "groups[\"a\"].shed");
        check(
            wire::MinerGroup { shed: Some(wire::ShedPath::default()), ..timed },
            "groups[\"a\"].shed.actuator",
        );
    }
}
