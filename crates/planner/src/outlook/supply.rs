//! What one island can carry in an hour: a snapshot with given gas and sets, asked by the same rules by which work is started.
//!
//! Whatever is there may be left unused: of the sets that can run, as many as serve best do, and what less gas could carry more gas
//! can too. That makes every figure rise with gas, though N-1 on few unequal sets does not. Miners are taken as awake, as far as
//! power allows, so that fast load stands beside what is sold. Read next: `dispatch::state`, whose rules these are.

use std::collections::{BTreeMap, BTreeSet};

use model::module::GpuPool;
use model::plan::{Plan, ReasonCode};
use model::report::{FeederState, GensetReport, GensetState, GroupReport, SiteReport};
use model::site::{GasFlow, GasVolume, Genset};
use model::workload::Tier;
use model::{GensetId, MicroDollars, SiteId, Span, Watts, WorkloadId};

use super::drain::{self, Loads};
use super::{
    Ahead, Assumptions, Four, GANGS, HOURS, Saleable, Short, SiteOutlook, Start, Supply, gangs, gas, goes_on,
    price,
};
use crate::assign::Book;
use crate::dispatch::problem::{Job, Problem};
use crate::dispatch::state::{AFTER, NOW, Refusal, Seat, State};
use crate::input::{Input, ModuleInput, SiteInput};

/// Classes of work by what limits an island that starts it: firm, and all else.
const FIRM: usize = 0;
const OTHER: usize = 1;
/// Gas is counted in so many parts of what the sets burn, rounded down: half a per cent, a sixth of the margin that plans keep.
const GRAINS: i64 = 200;

/// What can be had of one GPU type in one class.
#[derive(Clone, Copy, Debug)]
struct Room {
    gpus: u32,
    /// Whether each of [`gangs`] fits into one pool.
    fits: [bool; GANGS.len()],
    short: Option<Short>,
}

/// By GPU type; firm, and all else.
type Rooms = BTreeMap<String, [Room; 2]>;

/// One hour of an island.
struct Hour {
    power: Four<Watts>,
    /// With spot runs in place, and with none.
    rooms: [Four<Rooms>; 2],
    loads: Loads,
}

/// The outlook of one island.
pub(super) fn site(ahead: &Ahead<'_>, id: &SiteId, assumed: &Assumptions) -> SiteOutlook {
    let given = &ahead.input.sites[id];
    let mut scene = Scene::of(ahead, id);
    let hours: Vec<Hour> = (0..HOURS).map(|hour| scene.hour(given, hour, assumed)).collect();
    let gpus: BTreeSet<&String> = pools(&scene.input).map(|pool| &pool.gpu).collect();
    let kinds =
        gpus.into_iter().flat_map(|gpu| [Tier::Firm, Tier::OnDemand, Tier::Spot].map(|tier| (gpu, tier)));
    let runs = &scene.runs;
    let spots = |hour: usize, gpu: &str| -> Option<MicroDollars> {
        let runs = runs
            .values()
            .filter(|run| run.spec.tier == Tier::Spot && run.spec.gpu == gpu && goes_on(run, hour));
        runs.map(|run| run.spec.price).min()
    };
    let supply = kinds.map(|(gpu, tier)| {
        let frugal = pools(&scene.input).filter(|pool| pool.gpu == *gpu).map(GpuPool::per_gpu).min();
        let of = |(nth, hour): (usize, &Hour)| {
            let mut saleable = hour.saleable(gpu, tier);
            let taken = room(&hour.rooms[0].p50, gpu, tier).is_none_or(|room| room.gpus == 0);
            let gives_way = if taken { spots(nth, gpu) } else { Some(MicroDollars::ZERO) };
            let power = price::gpu_hour(&hour.loads, hour.power.p50, frugal.unwrap_or_default());
            saleable.least_price = gives_way.filter(|_| saleable.gpus.p50 > 0).map(|run| run + power);
            saleable
        };
        let starts = gangs(gpu).into_iter().enumerate().map(|(nth, gang)| Start {
            gpus: gang,
            hour: first(&hours, |hour, quantile| hour.fits(gpu, tier, nth)[quantile]),
        });
        Supply {
            gpu: gpu.clone(),
            tier,
            hours: hours.iter().enumerate().map(of).collect(),
            starts: starts.collect(),
        }
    });
    SiteOutlook {
        power: hours.iter().map(|hour| hour.power).collect(),
        supply: supply.collect(),
        drains: drain::drains(
            scene.input.modules.keys(),
            hours.iter().map(|hour| (&hour.loads, hour.power.p50)),
        ),
        megawatt_hour: hours.iter().map(|hour| price::megawatt_hour(&hour.loads, hour.power.p50)).collect(),
        set_on: price::set_on(given, assumed),
    }
}

/// The first hour for which something holds, at each quantile.
fn first(hours: &[Hour], holds: impl Fn(&Hour, usize) -> bool) -> Four<Option<u32>> {
    let at = |quantile: usize| {
        let hour = hours.iter().position(|hour| holds(hour, quantile));
        hour.and_then(|hour| u32::try_from(hour).ok())
    };
    Four::from_array([0, 1, 2, 3].map(at))
}

fn pools(input: &Input) -> impl Iterator<Item = &GpuPool> {
    input.modules.values().flat_map(|given| given.module.pools.values())
}

fn room<'r>(rooms: &'r Rooms, gpu: &str, tier: Tier) -> Option<&'r Room> {
    rooms.get(gpu).map(|classes| &classes[if tier == Tier::Firm { FIRM } else { OTHER }])
}

impl Hour {
    /// Spot runs give way to all but spot.
    fn rooms(&self, tier: Tier) -> &Four<Rooms> {
        &self.rooms[usize::from(tier != Tier::Spot)]
    }

    /// What less gas could carry more gas can too.
    fn saleable(&self, gpu: &str, tier: Tier) -> Saleable {
        let rooms = self.rooms(tier);
        let found = [&rooms.p1, &rooms.p10, &rooms.p50, &rooms.p90].map(|rooms| room(rooms, gpu, tier));
        let mut most = 0;
        let gpus = found.map(|room| {
            most = room.map_or(0, |room| room.gpus).max(most);
            most
        });
        let short = found[1].map_or(Some(Short::Silent), |room| room.short).filter(|_| gpus[1] == 0);
        Saleable { gpus: Four::from_array(gpus), short, least_price: None }
    }

    fn fits(&self, gpu: &str, tier: Tier, gang: usize) -> [bool; 4] {
        let rooms = self.rooms(tier);
        let mut fitted = false;
        [&rooms.p1, &rooms.p10, &rooms.p50, &rooms.p90].map(|rooms| {
            fitted |= room(rooms, gpu, tier).is_some_and(|room| room.fits[gang]);
            fitted
        })
    }
}

/// One island as an input of its own, changed from snapshot to snapshot.
struct Scene {
    site: SiteId,
    input: Input,
    runs: BTreeMap<WorkloadId, model::workload::Workload>,
    /// What was answered already: by gas, sets that can run, runs that go on, and whether spot runs are among them.
    seen: BTreeMap<(i64, usize, usize, bool), Rooms>,
}

impl Scene {
    fn of(ahead: &Ahead<'_>, id: &SiteId) -> Self {
        let input = ahead.input;
        let Plan { generation, parent, made, worth, bound, .. } = ahead.plan;
        let planned = ahead.plan.sites.get(id).map(|planned| (id.clone(), planned.clone()));
        let (input_digest, decisions) = (String::new(), Vec::new());
        let sites = planned.into_iter().collect();
        let plan = Plan { generation, parent, made, input: input_digest, sites, worth, bound, decisions };
        let modules = input.modules_of(id).map(|(id, given)| (id.clone(), awake(given.clone())));
        let mut site = input.sites[id].clone();
        site.fresh = true;
        site.forecast.clear();
        // Snapshots say themselves which sets run.
        for set in site.site.gensets.values_mut() {
            (set.min_run, set.min_off) = (Span::MAX, Span::MAX);
        }
        let input = Input {
            now: input.now,
            parent: Some(plan),
            sites: [(id.clone(), site)].into(),
            modules: modules.collect(),
            workloads: BTreeMap::new(),
            market: input.market,
            touched: None,
        };
        let runs = ahead.runs.get(id).cloned().unwrap_or_default();
        Self { site: id.clone(), input, runs, seen: BTreeMap::new() }
    }

    fn hour(&mut self, given: &SiteInput, hour: usize, assumed: &Assumptions) -> Hour {
        let flows = gas::flow(given, hour, assumed).array();
        let sets = gas::sets(given, hour, assumed);
        let sets = [&sets.p1, &sets.p10, &sets.p50, &sets.p90];
        let power = [0, 1, 2, 3].map(|nth| gas::sustained(&given.site, flows[nth], sets[nth]));
        let mut of = |spot: bool| {
            self.input.workloads = self.going_on(hour, spot);
            Four::from_array([0, 1, 2, 3].map(|nth| self.rooms(flows[nth], sets[nth], spot)))
        };
        let without = of(false);
        let with = of(true);
        let unmanaged = given.report.as_ref().and_then(|report| report.unmanaged).unwrap_or_default();
        let unmanaged = unmanaged.max(given.site.unmanaged);
        let loads = Loads::of(&self.input, &given.site, unmanaged);
        Hour { power: Four::from_array(power), rooms: [with, without], loads }
    }

    fn going_on(&self, hour: usize, spot: bool) -> BTreeMap<WorkloadId, model::workload::Workload> {
        let stays =
            self.runs.iter().filter(|(_, run)| goes_on(run, hour) && (spot || run.spec.tier != Tier::Spot));
        stays.map(|(id, run)| (id.clone(), run.clone())).collect()
    }

    /// The best that gas and some of the sets can carry, largest sets first.
    fn rooms(&mut self, flow: GasFlow, sets: &[(&GensetId, &Genset)], spot: bool) -> Rooms {
        let Some(site) = self.input.sites.get(&self.site) else { return Rooms::new() };
        if site.report.is_none() {
            return self.nothing(Short::Silent);
        }
        // Gas beyond what the sets burn changes nothing; below it is counted in whole grains, so that hours that hardly differ are
        // asked once.
        let full = site.site.gas_for(sets.iter().map(|(_, set)| set.rating).sum()) + GasFlow::new(1);
        let grain = (full.get() / GRAINS).max(1);
        let flow = if flow >= full { full } else { GasFlow::new(flow.get() / grain * grain) };
        let spots = spot && self.input.workloads.values().any(|run| run.spec.tier == Tier::Spot);
        let key = (flow.get(), sets.len(), self.input.workloads.len(), spots);
        if let Some(rooms) = self.seen.get(&key) {
            return rooms.clone();
        }
        let config = site.site.clone();
        let mut least = Watts::ZERO;
        let dry = flow <= GasFlow::ZERO;
        let mut best = self.nothing(if !dry && sets.is_empty() { Short::Sets } else { Short::Gas });
        for count in 1..=sets.len() {
            least += sets[count - 1].1.min_load;
            if dry || least > gas::carried(&config, flow, &sets[..count]) {
                break;
            }
            better(&mut best, self.snapshot(flow, &sets[..count]));
        }
        self.seen.insert(key, best.clone());
        best
    }

    fn nothing(&self, short: Short) -> Rooms {
        let none = Room { gpus: 0, fits: [false; GANGS.len()], short: Some(short) };
        pools(&self.input).map(|pool| (pool.gpu.clone(), [none; 2])).collect()
    }

    /// What the island carries with these sets and no others.
    fn snapshot(&mut self, flow: GasFlow, sets: &[(&GensetId, &Genset)]) -> Rooms {
        if let Some(report) = self.input.sites.get_mut(&self.site).and_then(|site| site.report.as_mut()) {
            set_up(report, flow, sets);
        }
        let mut book = Book::open(&self.input);
        book.shed();
        // Where even what runs has too little power, what a stop would leave over is not for sale.
        if book.verdicts.values().any(|verdict| verdict.reason == ReasonCode::PowerShort) {
            return self.nothing(Short::Power);
        }
        let mut problem = Problem::of(&book);
        come_to_rest(&mut problem);
        let mut rooms = Rooms::new();
        for pool in pools(&self.input) {
            let of = |level: usize| {
                let mut room = ask(&self.input, &problem, &pool.gpu, level);
                if sets.len() < 2 && level == FIRM {
                    room.short = room.short.map(|_| Short::OneSet);
                }
                room
            };
            rooms.entry(pool.gpu.clone()).or_insert_with(|| [of(FIRM), of(OTHER)]);
        }
        rooms
    }
}

/// A module as it will be: its miners awake at full power, ready to be dropped.
fn awake(mut given: ModuleInput) -> ModuleInput {
    let groups = &given.module.groups;
    if let Some(report) = &mut given.report {
        for (id, group) in groups {
            let full = GroupReport {
                feeder: FeederState::Closed,
                awake: group.count,
                point: u8::try_from(group.points.len().saturating_sub(1)).unwrap_or(u8::MAX),
                power: Some(group.draw_full()),
                claimed: None,
                verified: None,
                connections: group.count,
            };
            report.groups.insert(id.clone(), full);
        }
    }
    given
}

/// Gas without a cushion, and these sets alone.
fn set_up(report: &mut SiteReport, flow: GasFlow, sets: &[(&GensetId, &Genset)]) {
    report.gas = Some(flow);
    report.buffer = Some(GasVolume::ZERO);
    for (id, set) in &mut report.gensets {
        let runs = sets.iter().any(|(chosen, _)| *chosen == id);
        let state = if runs { GensetState::Online } else { GensetState::Tripped };
        *set = GensetReport { state, power: None, for_span: Span::ZERO };
    }
}

/// What is being stopped has gone.
fn come_to_rest(problem: &mut Problem) {
    problem.modules.iter_mut().for_each(|module| module.load[NOW] = module.load[AFTER]);
    problem.sites.iter_mut().for_each(|site| site.fixed[NOW] = site.fixed[AFTER]);
    problem.pools.iter_mut().for_each(|pool| pool.free[NOW] = pool.free[AFTER]);
}

/// What can be had of a GPU type in one class of work.
fn ask(input: &Input, problem: &Problem, gpu: &str, level: usize) -> Room {
    let is_of = |nth: &usize| {
        let pool = &problem.pools[*nth];
        let module = input.modules.get(&problem.modules[pool.module].id);
        module.and_then(|given| given.module.pools.get(&pool.id)).is_some_and(|config| config.gpu == gpu)
    };
    let mut here: Vec<usize> = (0..problem.pools.len()).filter(is_of).collect();
    here.sort_by_key(|&nth| (problem.pools[nth].per_gpu, nth));
    let state = State::new(problem);
    let refused =
        |pool: usize, gpus: i64| state.refuses(&job(problem, pool, gpus, level), Seat::Starts(pool));
    let fits = gangs(gpu).map(|gang| here.iter().any(|&pool| refused(pool, gang.into()).is_none()));
    // GPUs that are sold one after the other are no block of load.
    let mut open = problem.clone();
    open.sites.iter_mut().for_each(|site| site.block = i64::MAX);
    let mut state = State::new(&open);
    let mut gpus = 0;
    for &pool in &here {
        let fits = |count: i64| state.refuses(&job(&open, pool, count, level), Seat::Starts(pool)).is_none();
        let (mut low, mut high) = (0, open.pools[pool].free[NOW] + 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        state.occupy(pool, low);
        gpus += low;
    }
    let gpus = u32::try_from(gpus).unwrap_or(u32::MAX);
    let why = here.iter().filter_map(|&pool| refused(pool, 1)).min_by_key(|why| *why == Refusal::Gpus);
    let short = match why {
        _ if gpus > 0 => None,
        Some(Refusal::Beside) => Some(Short::FirmCapacity),
        Some(Refusal::Power) if level == FIRM => Some(Short::FirmCapacity),
        Some(Refusal::Power) => Some(Short::Power),
        Some(Refusal::Reserve | Refusal::Block) => Some(Short::Reserve),
        Some(Refusal::Module) => Some(Short::ModuleLimit),
        Some(Refusal::Gpus | Refusal::Sites | Refusal::Group) | None => Some(Short::Gpus),
    };
    Room { gpus, fits, short }
}

/// So many GPUs of a pool's type, as a job that is worth nothing.
fn job(problem: &Problem, pool: usize, gpus: i64, level: usize) -> Job {
    let id = WorkloadId::new("outlook").expect("lower-case letters are an id");
    Job { id, gpu: problem.pools[pool].gpu, gpus, level, value: 0, wait: None, floor: None, binding: None }
}

/// Takes over what another choice of sets carries better.
fn better(best: &mut Rooms, other: Rooms) {
    for (gpu, rooms) in other {
        let Some(kept) = best.get_mut(&gpu) else { continue };
        for (kept, room) in kept.iter_mut().zip(rooms) {
            let mut fits = kept.fits;
            fits.iter_mut().zip(room.fits).for_each(|(fits, more)| *fits |= more);
            if room.gpus >= kept.gpus {
                *kept = room;
            }
            kept.fits = fits;
        }
    }
}
