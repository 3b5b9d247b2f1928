//! A module: one container of miners and GPU servers, and one agent. Configuration only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cap::CapPoint;
use crate::id::{MinerGroupId, ModuleId, PoolId, SiteId};
use crate::time::Span;
use crate::unit::{Hashrate, MicroDollars, Watts};

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its id, unique in the fleet.
    pub id: ModuleId,
    /// The island it stands on.
    pub site: SiteId,
    /// Its agent reads the gensets and streams their state to its neighbours. One module of each site is wired.
    #[serde(default)]
    pub wired: bool,
    /// Most it may draw (main breaker, transformer).
    pub limit: Watts,
    /// Most heat its cooling removes.
    pub cooling: Watts,
    /// Fans, pumps, controls: drawn whenever the module has power.
    pub auxiliary: Watts,
    /// Distribution loss, in thousandths of what the loads behind it draw.
    #[serde(default)]
    pub loss_permille: u32,
    /// Its miners.
    #[serde(default)]
    pub groups: BTreeMap<MinerGroupId, MinerGroup>,
    /// Its GPU servers.
    #[serde(default)]
    pub pools: BTreeMap<PoolId, GpuPool>,
}

/// Like miners behind one shed path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerGroup {
    /// The miners' model, for people.
    pub model: String,
    /// How many there are.
    pub count: u32,
    /// What one miner can be set to, from least power to most. Never empty.
    pub points: Vec<OperatingPoint>,
    /// What one sleeping miner draws.
    pub standby: Watts,
    /// From the wake command to full hash rate.
    pub wake: Span,
    /// From the sleep command to standby power.
    pub sleep: Span,
    /// Shortest time between two reversals of one miner by choice.
    pub dwell: Span,
    /// Wear of one sleep cycle of one miner.
    pub wear: MicroDollars,
    /// How the whole group can be dropped at once.
    pub shed: ShedPath,
    /// Nominal hashes for each hash really done: 1 for real miners, more for simulated ones.
    #[serde(default = "one")]
    pub scale: u64,
}

const fn one() -> u64 {
    1
}

/// One setting of one miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Draw at the wall.
    pub power: Watts,
    /// Hash rate.
    pub rate: Hashrate,
}

/// How a load is dropped fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShedPath {
    /// The device that drops it.
    pub actuator: Actuator,
    /// Measured time from the command to no current. `None` where it was never measured: then it earns no reserve credit.
    #[serde(default)]
    pub opens: Option<Span>,
    /// Shortest time before it may be closed again.
    pub rearm: Span,
}

/// What a rung acts through. Ordered from fastest to slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actuator {
    /// A feeder breaker or contactor: a tenth of a second.
    Feeder,
    /// Storage turned to discharge: its measured response, usually a tenth of a second.
    Storage,
    /// A GPU power cap: about a second.
    Cap,
    /// The miners' firmware: seconds. Never credited as fast reserve.
    Api,
}

/// Like GPU servers of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuPool {
    /// The GPU's type, as offered to tenants. What is sold by the kilowatt has a type of its own ([`crate::shell`]): then servers
    /// are bays and GPUs kilowatts.
    pub gpu: String,
    /// Servers in the pool.
    pub servers: u32,
    /// GPUs in each server.
    pub gpus: u32,
    /// Draw of one idle server.
    pub idle: Watts,
    /// Most one fully loaded server draws.
    pub active: Watts,
    /// Lowest power cap of one loaded server.
    pub cap_min: Watts,
    /// What caps cost ([`crate::cap`]), least power first; full power at full pace is not listed. Empty = nobody is slowed here by
    /// choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CapPoint>,
}

impl MinerGroup {
    /// The setting with the most power, or zero when the group was configured with none.
    pub fn full(&self) -> OperatingPoint {
        self.points.last().copied().unwrap_or(OperatingPoint { power: Watts::ZERO, rate: Hashrate::ZERO })
    }

    /// The group's draw with `awake` miners at setting `point` and the rest asleep. A setting that does not exist counts as
    /// the highest one: an over-estimate is the safe side.
    pub fn draw(&self, awake: u32, point: usize) -> Watts {
        let awake = awake.min(self.count);
        let setting = self.points.get(point).copied().unwrap_or(self.full());
        setting.power.times(awake.into()) + self.standby.times((self.count - awake).into())
    }

    /// The draw of the whole group at its highest setting.
    pub fn draw_full(&self) -> Watts {
        self.full().power.times(self.count.into())
    }

    /// Whether the group may count as fast reserve: a feeder with a measured opening time.
    pub fn is_fast(&self) -> bool {
        self.shed.actuator == Actuator::Feeder && self.shed.opens.is_some()
    }
}

impl GpuPool {
    /// All GPUs of the pool.
    pub fn total_gpus(&self) -> u32 {
        self.servers.saturating_mul(self.gpus)
    }

    /// What one busy GPU adds to its server's idle draw, rounded up.
    pub fn per_gpu(&self) -> Watts {
        let swing = (self.active - self.idle).at_least_zero().get();
        let gpus = i64::from(self.gpus.max(1));
        Watts::new((swing + gpus - 1) / gpus)
    }

    /// The pool's draw with `busy` GPUs at work and all servers on.
    pub fn draw(&self, busy: u32) -> Watts {
        self.idle.times(self.servers.into()) + self.per_gpu().times(busy.min(self.total_gpus()).into())
    }
}

impl Module {
    /// Adds the distribution loss to a draw behind it, rounded up.
    pub fn with_loss(&self, load: Watts) -> Watts {
        load + Watts::new(
            (load.get() * i64::from(self.loss_permille)).div_euclid(1_000)
                + i64::from(self.loss_permille > 0),
        )
    }

    /// The load behind the meter that fits into a metered draw: the inverse of [`Module::with_loss`], rounded down.
    pub fn behind_loss(&self, metered: Watts) -> Watts {
        (metered - Watts::new(i64::from(self.loss_permille > 0)))
            .fraction(1_000, 1_000 + i64::from(self.loss_permille))
    }

    /// The least the module draws while it has power, everything asleep or idle.
    pub fn base_draw(&self) -> Watts {
        let miners: Watts = self.groups.values().map(|group| group.draw(0, 0)).sum();
        let servers: Watts = self.pools.values().map(|pool| pool.draw(0)).sum();
        self.with_loss(self.auxiliary + miners + servers)
    }

    /// The most it may draw: the smaller of its power and cooling limits.
    pub fn most(&self) -> Watts {
        self.limit.min(self.cooling)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(super) fn group() -> MinerGroup {
        MinerGroup {
            model: "S21".into(),
            count: 10,
            points: vec![
                OperatingPoint { power: Watts::new(2_500), rate: Hashrate::tera(155) },
                OperatingPoint { power: Watts::new(3_500), rate: Hashrate::tera(200) },
            ],
            standby: Watts::new(25),
            wake: Span::secs(60),
            sleep: Span::secs(20),
            dwell: Span::minutes(5),
            wear: MicroDollars::cents(10),
            shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(150)), rearm: Span::secs(30) },
            scale: 1,
        }
    }

    #[test]
    fn a_groups_draw_counts_the_sleeping_ones_too() {
        let group = group();
        assert_eq!(group.draw(4, 1), Watts::new(4 * 3_500 + 6 * 25));
        assert_eq!(group.draw(99, 1), group.draw_full());
        assert_eq!(group.draw(1, 9), Watts::new(3_500 + 9 * 25), "an unknown setting is over-estimated");
    }

    #[test]
    fn only_a_feeder_that_was_measured_is_fast() {
        let mut group = group();
        assert!(group.is_fast());
        group.shed.opens = None;
        assert!(!group.is_fast());
        group.shed = ShedPath { actuator: Actuator::Api, opens: Some(Span::new(100)), rearm: Span::ZERO };
        assert!(!group.is_fast());
    }

    #[test]
    fn loss_out_and_back_never_exceeds_the_meter() {
        let module = Module {
            id: ModuleId::new("m").unwrap(),
            site: SiteId::new("s").unwrap(),
            wired: true,
            limit: Watts::kilo(500),
            cooling: Watts::kilo(450),
            auxiliary: Watts::kilo(10),
            loss_permille: 15,
            groups: [(MinerGroupId::new("a").unwrap(), group())].into(),
            pools: BTreeMap::new(),
        };
        for metered in [1, 999, 1_000, 37_251, 449_999] {
            let load = module.behind_loss(Watts::new(metered));
            assert!(module.with_loss(load) <= Watts::new(metered), "{metered}");
        }
        assert_eq!(module.most(), Watts::kilo(450));
    }
}
