//! Seeded fleets for measuring the planner: the class says how much work is asked of what there is.
//!
//! Load is the larger of GPUs and kilowatts asked ÷ available: normal 0.7–0.9, tight 0.9–1.1, overloaded 1.1–2. Running work and
//! awake miners are laid out here and not by the planner, so that an instance does not change when the planner improves. Gang
//! sizes follow a law: 1, 2, 4, 8, 16, 32, 64 GPUs with weights 4, 4, 5, 6, 4, 2, 1, and one in five off the powers of two.

use std::collections::BTreeMap;

use model::module::GpuPool;
use model::report::{FeederState, GensetReport, GensetState};
use model::workload::{GpuTime, Phase, Placement, Tier, Workload};
use model::{MicroDollars, ModuleId, PoolId, SiteId, Span, Watts};
use planner::Input;

use crate::scene::*;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Normal,
    Tight,
    Overloaded,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and including `high`.
    pub fn pick(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    pub fn chance(&mut self, percent: i64) -> bool {
        self.pick(1, 100) <= percent
    }
}

/// What a fleet consists of.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub sites: i64,
    /// Modules a site.
    pub modules: (i64, i64),
    /// GPU servers a module.
    pub servers: (i64, i64),
}

/// One to three sites of two to four modules; every third seed is middling, with three to six sites.
pub fn size(seed: u64) -> Size {
    let mut rng = Rng::new(seed ^ 0x5153);
    if seed % 3 == 2 {
        Size { sites: rng.pick(3, 6), modules: (2, 4), servers: (4, 16) }
    } else {
        Size { sites: rng.pick(1, 3), modules: (2, 4), servers: (2, 12) }
    }
}

/// A fleet at work with new work asked of it.
pub fn instance(seed: u64, class: Class, size: Size) -> Input {
    let mut rng = Rng::new(seed);
    let mut input = sites(&mut rng, size);
    let short_of_power = rng.chance(50);
    let asked = match class {
        Class::Normal => rng.pick(700, 900),
        Class::Tight => rng.pick(900, 1_100),
        Class::Overloaded => rng.pick(1_100, 2_000),
    };
    let gpus = total_gpus(&input);
    // Kilowatts for GPUs, once gas is set so that they are as short as GPUs, or less.
    let power = if short_of_power { rng.pick(60, 100) } else { rng.pick(105, 140) };
    supply(&mut input, power);
    let wanted = gpus * asked.min(asked * power / 100) / 1_000;
    work(&mut input, &mut rng, wanted);
    input
}

fn total_gpus(input: &Input) -> i64 {
    let pools = input.modules.values().flat_map(|module| module.module.pools.values());
    pools.map(|pool| i64::from(pool.total_gpus())).sum()
}

fn sites(rng: &mut Rng, size: Size) -> Input {
    let mut input = fleet();
    input.sites.clear();
    input.modules.clear();
    for nth in 0..size.sites {
        let name = format!("site-{nth:04}");
        for module_nth in 0..rng.pick(size.modules.0, size.modules.1) {
            add(&mut input, container(rng, &name, module_nth, size));
        }
        let mut given = site(&name, 4);
        given.site.gas_price = MicroDollars::cents(rng.pick(-50, 150));
        input.sites.insert(id(&name), given);
    }
    input
}

/// One module in three mines only, one computes only, one does both.
fn container(rng: &mut Rng, site: &str, nth: i64, size: Size) -> planner::ModuleInput {
    let kind = if nth == 0 { 2 } else { rng.pick(0, 2) };
    let mut group = || {
        let mut group = miners(rng.pick(20, 120) as u32, Some(rng.pick(80, 180)));
        let (power, rate) = (rng.pick(2_200, 3_000), rng.pick(120, 170));
        group.points[0].power = Watts::new(power);
        group.points[0].rate = model::Hashrate::tera(rate);
        group.points[1].power = Watts::new(power + rng.pick(500, 1_200));
        group.points[1].rate = model::Hashrate::tera(rate + rng.pick(20, 60));
        group
    };
    let mut groups = Vec::new();
    if kind != 1 {
        groups.push(("a", group()));
    }
    if kind == 0 {
        groups.push(("b", group()));
    }
    let mut pools: Vec<(&str, GpuPool)> = Vec::new();
    if kind != 0 {
        let mut pool = gpus(rng.pick(size.servers.0, size.servers.1) as u32);
        if rng.chance(30) {
            (pool.gpu, pool.active) = ("b200".into(), Watts::kilo(14));
        }
        pools.push(("p", pool));
    }
    let mut module = module(&format!("{site}-m{nth}"), site, &groups, &pools);
    for group in module.report.iter_mut().flat_map(|report| report.groups.values_mut()) {
        (group.feeder, group.point) = (FeederState::Closed, 0);
    }
    module
}

/// Gas and sets for base, miners at their lower setting, and `percent` of what all GPUs would draw.
fn supply(input: &mut Input, percent: i64) {
    let ids: Vec<_> = input.sites.keys().cloned().collect();
    for name in ids {
        let modules = || input.modules.values().filter(|module| module.module.site == name);
        let base: Watts = modules().map(|module| module.module.base_draw()).sum();
        let pools = modules().flat_map(|module| module.module.pools.values());
        let busy: Watts = pools.map(|pool| pool.per_gpu().times(pool.total_gpus().into())).sum();
        let mining: Watts = modules()
            .flat_map(|module| module.module.groups.values())
            .map(|group| group.draw(group.count, 0))
            .sum();
        let firm = base + busy.fraction(percent * 103, 10_000) + Watts::kilo(40);
        // The loss of one of four sets leaves three quarters.
        let rating = firm.fraction(105, 300).max((firm + mining).fraction(1, 4));
        let given = input.sites.get_mut(&name).unwrap();
        for set in given.site.gensets.values_mut() {
            set.rating = rating;
            (set.step, set.min_load) = (rating.fraction(15, 100), rating.fraction(30, 100));
        }
        let report = given.report.as_mut().unwrap();
        report.gas = Some(given.site.gas_for(firm.fraction(107, 100).max(rating.times(3))));
        report.buffer = Some(model::site::GasVolume::new(0));
        for module in input.modules.values_mut().filter(|module| module.module.site == name) {
            let groups = module.module.groups.clone();
            for (id, group) in module.report.iter_mut().flat_map(|report| report.groups.iter_mut()) {
                let config = &groups[id];
                group.awake = config.count * 9 / 10;
                group.power = Some(config.draw(group.awake, 0));
            }
        }
    }
}

/// Work for `wanted` GPUs, half of it running already.
fn work(input: &mut Input, rng: &mut Rng, wanted: i64) {
    let (mut asked, mut serial) = (0, 0);
    let mut layout = layout(input);
    while asked < wanted {
        let gpus = gang(rng).min(wanted - asked).max(1);
        let tier = match rng.pick(1, 10) {
            1..=2 => Tier::Firm,
            3..=6 => Tier::OnDemand,
            _ => Tier::Spot,
        };
        let cents = match tier {
            Tier::Firm => rng.pick(180, 260),
            Tier::OnDemand => rng.pick(200, 400),
            Tier::Spot => rng.pick(20, 220),
        };
        let mut run = workload(&format!("w{serial:05}"), tier, gpus as u32, cents);
        if rng.chance(20) {
            (run.spec.gpu, run.spec.price) = ("b200".into(), run.spec.price.fraction(18, 10));
        }
        run.spec.restart = Span::minutes(rng.pick(1, 10));
        if rng.chance(55) {
            place(&mut layout, rng, &mut run);
        }
        submit(input, run);
        (asked, serial) = (asked + gpus, serial + 1);
    }
}

fn gang(rng: &mut Rng) -> i64 {
    let weights = [(1, 4), (2, 4), (4, 5), (8, 6), (16, 4), (32, 2), (64, 1)];
    let mut draw = rng.pick(1, 26);
    let size = weights.iter().find(|(_, weight)| {
        draw -= weight;
        draw <= 0
    });
    let size = size.map_or(8, |(size, _)| *size);
    if rng.chance(20) { (size + rng.pick(1, size)).min(64) } else { size }
}

/// Free GPUs of every pool, server by server.
type Layout = BTreeMap<String, Vec<(ModuleId, PoolId, Vec<u32>)>>;

fn layout(input: &Input) -> Layout {
    let mut layout = Layout::new();
    for (module, given) in &input.modules {
        for (pool, config) in &given.module.pools {
            let free = vec![config.gpus; config.servers as usize];
            layout.entry(config.gpu.clone()).or_default().push((module.clone(), pool.clone(), free));
        }
    }
    layout
}

/// Lays a run into the first pool that has the GPUs, from a random one on; it stays pending where none has.
fn place(layout: &mut Layout, rng: &mut Rng, run: &mut Workload) {
    let mut none = Vec::new();
    let pools = layout.get_mut(&run.spec.gpu).unwrap_or(&mut none);
    let count = pools.len();
    let first = rng.pick(0, count.max(1) as i64 - 1) as usize;
    for nth in 0..count.min(3) {
        let (module, pool, free) = &mut pools[(first + nth) % count];
        if free.iter().sum::<u32>() < run.spec.gpus {
            continue;
        }
        let mut left = run.spec.gpus;
        let mut servers = Vec::new();
        for (server, free) in free.iter_mut().enumerate().filter(|(_, free)| **free > 0) {
            let taken = left.min(*free);
            if taken > 0 {
                servers.push((server as u32, taken));
            }
            (left, *free) = (left - taken, *free - taken);
        }
        run.status.phase = Phase::Running;
        run.status.placement =
            Some(Placement { module: module.clone(), pool: pool.clone(), servers, incarnation: 1 });
        run.status.progress = GpuTime::of(run.spec.gpus, Span::minutes(rng.pick(5, 300)));
        let since = GpuTime::of(run.spec.gpus, Span::minutes(rng.pick(0, 10)));
        run.status.saved = (run.status.progress - since).at_least_zero();
        return;
    }
}

/// Something happens on one island: gas for so much, the first set trips, a run is cancelled, a gang is asked for.
pub fn happen(input: &mut Input, site: &SiteId, event: u8, percent: i64) {
    let given = input.sites.get_mut(site).unwrap();
    let report = given.report.as_mut().unwrap();
    match event {
        0 => report.gas = report.gas.map(|gas| gas.fraction(percent, 100)),
        1 => {
            let tripped = GensetReport { state: GensetState::Tripped, power: None, for_span: Span::secs(1) };
            report.gensets.values_mut().take(1).for_each(|set| *set = tripped);
        }
        2 => {
            let modules = &input.modules;
            let here = |run: &&mut model::workload::Workload| {
                let home = run.status.placement.as_ref().and_then(|at| modules.get(&at.module));
                run.status.phase == Phase::Running && home.is_some_and(|home| home.module.site == *site)
            };
            input.workloads.values_mut().filter(here).take(1).for_each(|run| run.cancel = true);
        }
        _ => submit(input, workload("late", Tier::Firm, percent as u32 % 16 + 1, 300)),
    }
}
