//! A power cap on a run, on a real island with its agent's mind: it holds within seconds, the meter shows it, progress follows the
//! pool's curve, and a ceiling that falls with it stops nobody.

use std::collections::BTreeMap;

use model::cap::CapPoint;
use model::envelope::{Assignment, Directive, FallbackStep, Grant, Share};
use model::module::Module;
use model::report::RunPhase;
use model::workload::{GpuTime, Placement, Tier};
use model::{MicroDollars, Pace, PoolId, Span, TenantId, Watts, WattsPerSecond, WorkloadId};
use sim::reference;

use crate::scene::{self, boot};

/// The cap holds from this second on, and the ceiling is lower with it.
const SLOWED: i64 = 60;
/// It is lifted in this second.
const LIFTED: i64 = 120;

fn run() -> WorkloadId {
    WorkloadId::new("w").unwrap()
}

/// A module of two servers of 10.2 kW that keep 88 % of their speed at 7.6 kW, and nothing else.
fn module() -> Module {
    let fleet = reference::fleet();
    let mut module =
        fleet.modules.iter().find(|module| module.wired && !module.pools.is_empty()).unwrap().clone();
    module.groups = BTreeMap::new();
    let mut pool = module.pools.values().next().unwrap().clone();
    pool.servers = 2;
    pool.curve = vec![CapPoint { power: Watts::new(7_600), pace: Pace::new(880) }];
    assert_eq!(pool.curve_fault(), None);
    module.pools = [(PoolId::new("p").unwrap(), pool)].into();
    (module.auxiliary, module.loss_permille) = (Watts::kilo(1), 0);
    module
}

/// All 16 GPUs for one run; a cap of 15.2 kW for it while it is slowed, and then a ceiling that it would pass without.
fn directive(module: &Module, second: i64) -> Directive {
    let slowed = (SLOWED..LIFTED).contains(&second);
    let ceiling = if slowed { Watts::kilo(17) } else { Watts::kilo(25) };
    let share = Share {
        step: Watts::kilo(20),
        ramp: WattsPerSecond::new(5_000),
        cycle: Span::secs(10),
        offset: Span::ZERO,
        turn: Span::secs(10),
    };
    let assignment = Assignment {
        tenant: TenantId::new("acme").unwrap(),
        tier: Tier::OnDemand,
        placement: Placement {
            module: module.id.clone(),
            pool: PoolId::new("p").unwrap(),
            servers: vec![(0, 8), (1, 8)],
            incarnation: 1,
        },
        remaining: None,
        start_from: GpuTime::ZERO,
        checkpoint: Span::hours(1),
        save: Span::secs(5),
        restart: Span::secs(10),
        price: MicroDollars::cents(110),
        keep_without_link: Span::minutes(10),
        by_progress: true,
    };
    let grant = Grant {
        ceiling,
        ai_floor: Watts::ZERO,
        share,
        ladder: Vec::new(),
        armed: BTreeMap::new(),
        fallback: vec![FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(10) }],
    };
    let nothing = scene::directive(
        &module.id,
        1 + i64::from(second >= SLOWED).unsigned_abs() + i64::from(second >= LIFTED).unsigned_abs(),
        Span::secs(second),
        grant,
    );
    Directive {
        slowed: if slowed { [(run(), Watts::new(15_200))].into() } else { BTreeMap::new() },
        runs: [(run(), assignment)].into(),
        ..nothing
    }
}

#[test]
fn a_run_is_slowed_by_its_cap_and_not_stopped() {
    let module = module();
    let fleet = reference::fleet();
    let site = fleet.sites.iter().find(|site| site.id == module.site).unwrap().clone();
    let mut island = scene::island(&site, std::slice::from_ref(&module));
    let mut brain = scene::brain(&site, &module);
    let (mut drawn, mut progress, mut meter) = (Vec::new(), Vec::new(), Vec::new());
    for second in 0..180 {
        brain.adopt(directive(&module, second), &boot(Span::secs(second))).unwrap();
        for tick in 0..100 {
            let readings = island.readings(&module.id, tick == 0);
            if let Some(slow) = &readings.slow {
                let report = slow.runs.get(&run());
                drawn.push(slow.drawn.get(&run()).copied().unwrap_or_default());
                progress.push(report.map_or(0, |report| report.progress.get()));
                meter.push(slow.meter.unwrap_or_default());
                assert!(report.is_none_or(|report| report.phase != RunPhase::Stopping), "second {second}");
            }
            let commands = brain.tick(&readings);
            island.apply(&module.id, &commands);
            island.step();
        }
    }
    // In thousandths of what 16 GPUs make, over twenty seconds.
    let pace = |from: usize| (progress[from + 20] - progress[from]) / (16 * 20);
    assert_eq!((drawn[55], pace(35)), (Watts::new(20_400), 1_000), "full speed");
    assert!(
        drawn[63..119].iter().all(|drawn| (*drawn - Watts::new(15_200)).abs() <= Watts::new(50)),
        "{:?}",
        &drawn[58..70]
    );
    assert!(meter[63..119].iter().all(|meter| *meter <= Watts::kilo(17)), "{:?}", &meter[58..70]);
    assert!(
        (879..=880).contains(&pace(70)) && (879..=880).contains(&pace(95)),
        "{} and {}",
        pace(70),
        pace(95)
    );
    assert_eq!((drawn[150], pace(150)), (Watts::new(20_400), 1_000), "full speed again");
    assert_eq!(island.truth().refused, 0);
}
