//! What the checkers' tests share: one site with one hybrid module, an honest second of it, and directives.
//!
//! Two sets of 250 kW, 8 kW unmanaged, a module of 30 kW base draw and some miners. Read next: any checker's tests.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use model::envelope::{Directive, Envelope, FallbackStep, Fence, Grant, Share};
use model::fleet::Fleet;
use model::report::{FeederState, GensetState, RunPhase, RunReport};
use model::site::{Frequency, GasFlow, GasVolume};
use model::workload::{GpuTime, Tier};
use model::{
    BootStamp, GensetId, Hashrate, MinerGroupId, ModuleId, SiteId, Span, Time, WattSeconds, Watts, WorkloadId,
};

use super::{Options, Summary, Witness};
use crate::bus::{Happened, Trip};
use crate::reference;
use crate::truth::{Event, GasTruth, GensetTruth, GroupTruth, ModuleTruth, RunTruth, Truth, Use, What};

/// Draw of the module in an honest second, kW.
pub(super) const DRAW: i64 = 150;

pub(super) fn fleet() -> Fleet {
    reference::one_module()
}

pub(super) fn site_id() -> SiteId {
    fleet().sites[0].id.clone()
}

pub(super) fn module_id() -> ModuleId {
    fleet().modules[0].id.clone()
}

pub(super) fn group_id() -> MinerGroupId {
    MinerGroupId::new("a").unwrap()
}

pub(super) fn workload_id(name: &str) -> WorkloadId {
    WorkloadId::new(name).unwrap()
}

pub(super) fn witness() -> Witness {
    Witness::new(&fleet(), Options::default())
}

/// A witness whose module has adopted an envelope of 300 kW, fallback 100 kW, and whose link is up.
pub(super) fn settled() -> Witness {
    let mut witness = witness();
    witness.second(&site_id(), &truth(0), &[]);
    witness.link(&module_id(), Time(0), true);
    witness.agent(&module_id(), Time(0), true);
    renew(&mut witness, 0);
    witness
}

/// Renews that envelope at `second`.
pub(super) fn renew(witness: &mut Witness, second: i64) {
    let module = module_id();
    witness.directive(&module, at(second), &boot(second), &directive(&module, 1, (300, 100), second));
}

pub(super) fn at(second: i64) -> Time {
    Time(second * 1_000)
}

pub(super) fn boot(second: i64) -> BootStamp {
    BootStamp { boot_id: "b".into(), at: Span::secs(second) }
}

/// A directive of (ceiling, fallback) kW that answers the report of `second`.
pub(super) fn directive(module: &ModuleId, generation: u64, kilowatts: (i64, i64), second: i64) -> Directive {
    let grant = Grant {
        ceiling: Watts::kilo(kilowatts.0),
        ai_floor: Watts::ZERO,
        share: Share::default(),
        ladder: Vec::new(),
        armed: BTreeMap::new(),
        fallback: vec![FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(kilowatts.1) }],
    };
    let envelope = Envelope {
        module: module.clone(),
        fence: Fence { epoch: 1, leader: 5, plan: generation },
        generation,
        answers: boot(second),
        valid_for: Span::secs(120),
        grant,
    };
    Directive::idle(envelope)
}

/// An honest second: both sets online, the module draws [`DRAW`], 20 miners of group a are awake.
pub(super) fn truth(second: i64) -> Truth {
    let set = GensetTruth {
        state: GensetState::Online,
        since: Time(0),
        power: Watts::kilo((DRAW + 8) / 2),
        weight_permille: 1_000,
    };
    let drawing = |power: Watts| Use { power, energy: WattSeconds::new(power.get() * second) };
    let rate = Hashrate::tera(20 * 270);
    let group = |awake: u32, rate| GroupTruth {
        mining: drawing(Watts::new(3_645).times(awake.into()) + Watts::new(25).times((30 - awake).into())),
        feeder: FeederState::Closed,
        awake,
        rate,
        claimed: Some(rate),
    };
    let module = ModuleTruth {
        energized: true,
        total: drawing(Watts::kilo(DRAW)),
        auxiliary: drawing(Watts::kilo(8)),
        loss: Use::default(),
        groups: [(group_id(), group(20, rate)), (MinerGroupId::new("b").unwrap(), group(0, Hashrate::ZERO))]
            .into(),
        unheld: BTreeMap::new(),
        runs: BTreeMap::new(),
    };
    let set_id = |name: &str| GensetId::new(name).unwrap();
    Truth {
        now: at(second),
        energized: true,
        frequency: Some(Frequency::new(60_000)),
        nadir: Frequency::new(60_000),
        zenith: Frequency::new(60_000),
        load: Watts::kilo(DRAW + 8),
        carried: Watts::kilo(DRAW + 8),
        unmanaged: drawing(Watts::kilo(8)),
        gensets: [(set_id("g1"), set), (set_id("g2"), set)].into(),
        modules: [(module_id(), module)].into(),
        gas: GasTruth {
            inflow: GasFlow::mcf(120),
            buffer: GasVolume::new(1_000),
            flaring: GasFlow::ZERO,
            supplied: GasVolume::ZERO,
            burnt: GasVolume::ZERO,
            flared: GasVolume::ZERO,
        },
        storage: None,
        grid: None,
        blackouts: 0,
        firm_lost: 0,
        refused: 0,
    }
}

/// Changes the one module of a second.
pub(super) fn module_of(truth: &mut Truth) -> &mut ModuleTruth {
    truth.modules.values_mut().next().unwrap()
}

/// Changes group a of a second.
pub(super) fn group_of(truth: &mut Truth) -> &mut GroupTruth {
    module_of(truth).groups.get_mut(&group_id()).unwrap()
}

/// A run of four GPUs in `phase` with (progress, saved) GPU·s.
pub(super) fn run(incarnation: u64, phase: RunPhase, done: (i64, i64)) -> RunTruth {
    RunTruth {
        tier: Tier::OnDemand,
        gpus: 4,
        ai: Use::default(),
        report: RunReport {
            incarnation,
            phase,
            progress: GpuTime::new(done.0 * 1_000),
            saved: GpuTime::new(done.1 * 1_000),
            held: GpuTime::ZERO,
        },
        lost: false,
    }
}

pub(super) fn trip(second: i64, set: &str) -> Event {
    event(second, What::Bus(Happened::Tripped(GensetId::new(set).unwrap(), Trip::Fault, 80_000.0)))
}

pub(super) fn event(second: i64, what: What) -> Event {
    Event { sequence: 1, at: at(second), what }
}

/// Feeds seconds `from` to `to`, each changed by `change`, and renews the envelope every 30 s.
pub(super) fn feed(
    witness: &mut Witness,
    seconds: std::ops::RangeInclusive<i64>,
    change: impl Fn(i64, &mut Truth),
) {
    for second in seconds {
        if second % 30 == 0 {
            renew(witness, second);
        }
        let mut truth = truth(second);
        change(second, &mut truth);
        witness.second(&site_id(), &truth, &[]);
    }
}

/// Asserts that invariant `number` was looked at, and who broke it, in order; no other was broken.
pub(super) fn check(summary: &Summary, number: u8, subjects: &[&str]) {
    let verdict = summary.verdict(number).unwrap();
    assert!(verdict.checks > 0, "invariant {number} was never looked at");
    let seen: Vec<&str> = verdict.first.iter().map(|violation| violation.subject.as_str()).collect();
    assert_eq!(seen, subjects, "{:?}", verdict.first);
    let others: Vec<_> = summary.verdicts.iter().filter(|other| other.invariant != number).collect();
    assert!(others.iter().all(|other| other.violations == 0), "{others:?}");
}
