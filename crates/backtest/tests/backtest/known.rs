//! tmp
use crate::scene::*;
use backtest::*;
#[test]
fn explore() {
    for load in [600, 900, 1200] {
        let world = week(1, 3, load);
        for kind in Kind::ALL {
            let t = std::time::Instant::now();
            let o = run(&world, &Strategy::new(kind)).unwrap();
            let m = &o.total.money;
            println!("{load} {kind}: net {} mining {} firm {} od {} spot {} credits {} gas {} starts {} | {:?} {:?} {:?} gas {:?} energy {:?} {:?} {:?}", m.net().get()/1_000_000, m.mining.get()/1_000_000, m.firm.get()/1_000_000, m.on_demand.get()/1_000_000, m.spot.get()/1_000_000, m.credits.get()/1_000_000, m.gas.get()/1_000_000, m.set_starts.get()/1_000_000, o.total.service, o.total.plant, o.total.plans, o.total.gas, o.total.energy, o.refusal, t.elapsed());
        }
    }
}
