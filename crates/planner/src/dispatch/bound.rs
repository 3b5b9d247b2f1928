//! An upper bound on the worth of any solution, by the Lagrangian dual: gangs have a price by GPU type, promise and exact size, one
//! for those who start and one for those who wait; watts that stand after stops have a price on each island. Jobs take what pays at
//! those prices, islands sell what pays at them.
//!
//! At given prices both sides decide alone: a job takes the seat that leaves it most; a pool is packed with *whole* gangs
//! ([`gangs`]), and an island serves its pools, best a watt first, as long as they pay more than the mining that they displace
//! ([`island`]). Any prices give a valid bound. The best are searched for by subgradient steps towards a level between the bound and
//! what was reached, which is halved when steps fail ([`descent`]). Bounded in steps; floats are used in a fixed order, so the bound too is the
//! same for the same input. Read next: `crate::plan`, which carries it.

mod descent;
mod gangs;
mod island;
mod later;

use std::collections::{BTreeMap, BTreeSet};

use self::gangs::{Gang, Packing};
use self::island::{LARGE, Pool, Prices, Supply};
use super::problem::{LEVELS, Problem};

/// Covers rounding, in micro-dollars, and some more for each island.
const ROUNDING: f64 = 1_000.0;
/// What is promised: firm, on demand, spot.
const PROMISES: usize = 3;
/// Who starts and who waits: places in a class's worths and prices.
const STARTS: usize = 0;
const WAITS: usize = 1;
/// Most steps; six times as many bring a twentieth of a percent.
const STEPS: usize = 160;
/// Fewest steps, however large the fleet.
const FEWEST: usize = 30;
/// Cells of packings filled in all: some two seconds; three times as many brought nothing at ten thousand modules.
const CELLS: usize = 1_500_000_000;
/// Watts that count like one GPU, so that prices of both kinds move at one pace.
const KILOWATT: f64 = 1_000.0;

/// The bound, in micro-dollars over the dwell. `reached` is what some solution is worth: it guides the steps, and whatever it is
/// the bound is valid.
pub(crate) fn bound(problem: &Problem, reached: i64) -> i64 {
    let dual = Dual::of(problem);
    let found = descent::lowest(&dual, reached as f64);
    (found + ROUNDING + 4.0 * problem.sites.len() as f64).ceil() as i64
}

struct Dual {
    /// Jobs that want the same: a GPU type, a promise, a size.
    classes: Vec<Class>,
    /// What is packed alike: the classes it takes, for gangs up to a size.
    shapes: Vec<Shape>,
    islands: Vec<Supply>,
    /// GPU types by index.
    kinds: BTreeMap<usize, Kind>,
    /// Steps that the fleet's size allows.
    steps: usize,
}

struct Class {
    gpus: usize,
    promise: usize,
    /// What each job earns as it starts, and as it waits.
    jobs: Vec<[f64; 2]>,
}

/// A GPU type.
#[derive(Default)]
struct Kind {
    /// Classes, in order of size.
    classes: Vec<usize>,
    /// Of each pool: GPUs for those who start and for those who wait, and the largest gang it takes.
    pools: Vec<([usize; 2], usize)>,
}

struct Shape {
    /// Classes, in order of size.
    classes: Vec<usize>,
    /// The most GPUs of a pool of this shape.
    most: usize,
}

impl Dual {
    fn of(problem: &Problem) -> Self {
        let mut levels = [false; LEVELS];
        problem.jobs.iter().for_each(|job| levels[job.level] = true);
        let mut pools = vec![0; problem.sites.len()];
        (0..problem.pools.len()).for_each(|pool| pools[problem.site_of(pool)] += 1);
        let mut islands: Vec<Supply> =
            (0..problem.sites.len()).map(|site| Supply::of(problem, site, &levels, pools[site])).collect();
        let mut victims = vec![Vec::new(); problem.pools.len()];
        problem.victims.iter().enumerate().for_each(|(nth, run)| victims[run.pool].push(nth));
        let index = classes(problem);
        let mut shapes: BTreeMap<(usize, usize), (usize, usize)> = BTreeMap::new();
        let mut kinds: BTreeMap<usize, Kind> = BTreeMap::new();
        index.iter().for_each(|(key, &class)| kinds.entry(key.0).or_default().classes.push(class));
        let mut fits = Fits::default();
        let mut cells = 1;
        for nth in 0..problem.pools.len() {
            let kind = problem.pools[nth].gpu;
            let largest = index.keys().filter(|key| key.0 == kind).map(|key| key.1).max().unwrap_or(0);
            let site = &mut islands[problem.site_of(nth)];
            let (mut pool, cap) = Pool::of(problem, nth, site, &victims[nth]);
            let cap = cap.min(largest);
            if cap == 0 {
                continue;
            }
            fits.add(kind, [pool.most.min(cap), pool.later().min(cap)]);
            kinds.entry(kind).or_default().pools.push(([pool.most, pool.later()], cap));
            let count = shapes.len();
            let shape = shapes.entry((kind, cap)).or_insert((count, 0));
            shape.1 = shape.1.max(pool.most).max(pool.later()).min(LARGE);
            pool.shape = shape.0;
            cells += pool.cells();
            site.pools.push(pool);
        }
        let mut order: Vec<_> = shapes.into_iter().collect();
        order.sort_by_key(|(_, (nth, _))| *nth);
        let of_shape = |((kind, cap), (_, most)): ((usize, usize), (usize, usize))| {
            let takes = index.iter().filter(|(key, _)| key.0 == kind && key.1 <= cap);
            Shape { classes: takes.map(|(_, &class)| class).collect(), most }
        };
        let shapes: Vec<Shape> = order.into_iter().map(of_shape).collect();
        cells += shapes.iter().map(|shape| 3 * shape.most * shape.classes.len()).sum::<usize>();
        let classes = offered(problem, &index, &fits);
        Self { classes, shapes, islands, kinds, steps: (CELLS / cells).clamp(FEWEST, STEPS) }
    }

    /// Prices at which about as much is asked as there is: as if GPUs could be split and moved, and, where that makes a lower bound,
    /// dearer for gangs that find fewer seats than they are.
    fn begin(&self) -> Vec<f64> {
        let plain = self.clearing();
        let scarce = self.scarce(&plain);
        let value = |at: &Vec<f64>| self.value(at).0;
        if value(&scarce) < value(&plain) { scarce } else { plain }
    }

    /// What the first who gets no seat would pay, by size of gang: all gangs of a size and larger compete for the seats of that size.
    fn scarce(&self, plain: &[f64]) -> Vec<f64> {
        let mut at = plain.to_vec();
        for kind in self.kinds.values() {
            let mut sizes: Vec<usize> = kind.classes.iter().map(|&class| self.classes[class].gpus).collect();
            sizes.dedup();
            for way in [STARTS, WAITS] {
                let mut gang = 0.0_f64;
                for &size in &sizes {
                    gang = gang.max(self.first_unseated(kind, size, way));
                    for &class in kind.classes.iter().filter(|&&class| self.classes[class].gpus == size) {
                        let price = &mut at[way * self.classes.len() + class];
                        *price = price.max(gang / size as f64);
                    }
                }
            }
        }
        at
    }

    /// What the best gang of this size or larger pays that finds no seat; zero where all find one.
    fn first_unseated(&self, kind: &Kind, size: usize, way: usize) -> f64 {
        let takes = kind.pools.iter().filter(|(_, cap)| *cap >= size);
        let seats: usize = takes.map(|(gpus, _)| gpus[way] / size).sum();
        let classes = kind.classes.iter().map(|&class| &self.classes[class]);
        let jobs = classes.filter(|class| class.gpus >= size).flat_map(|class| &class.jobs);
        let mut worth: Vec<f64> = jobs.map(|job| job[way]).filter(|worth| *worth > 0.0).collect();
        worth.sort_by(|a, b| b.total_cmp(a));
        worth.get(seats).copied().unwrap_or(0.0)
    }

    /// Prices at which as much is asked as there is, if GPUs could be split and moved.
    fn clearing(&self) -> Vec<f64> {
        let supply: f64 = self.islands.iter().map(Supply::gpus).sum();
        let mut asked: Vec<(f64, f64)> = Vec::new();
        for class in &self.classes {
            let each = class.jobs.iter().map(|[starts, waits]| starts.max(*waits) / class.gpus as f64);
            asked.extend(each.filter(|worth| *worth > 0.0).map(|worth| (worth, class.gpus as f64)));
        }
        asked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = supply;
        let clearing = asked.iter().find(|(_, gpus)| {
            left -= gpus;
            left < 0.0
        });
        let price = clearing.map_or(0.0, |(worth, _)| *worth);
        let count = self.classes.len();
        let mut at = vec![price; 2 * count + self.islands.len()];
        for (nth, class) in self.classes.iter().enumerate() {
            let waits = class.jobs.iter().filter(|job| job[1] > f64::MIN && job[0] > f64::MIN);
            let (sum, jobs) = waits.fold((0.0, 0.0), |sum, job| (sum.0 + job[0] - job[1], sum.1 + 1.0));
            let later = if jobs > 0.0 { sum / jobs / class.gpus as f64 } else { 0.0 };
            at[count + nth] = (price - later).max(0.0);
        }
        at[2 * count..].iter_mut().for_each(|watts| *watts = 0.0);
        at
    }

    /// The dual at given prices (a GPU for each class, then watts), and its slope there.
    fn value(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let count = self.classes.len();
        let mut slope = vec![0.0; at.len()];
        let mut sum = 0.0;
        for (nth, class) in self.classes.iter().enumerate() {
            let gpus = class.gpus as f64;
            let (starts, waits) = (at[nth] * gpus, at[count + nth] * gpus);
            for job in &class.jobs {
                let (now, later) = (job[0] - starts, job[1] - waits);
                if now >= later && now > 0.0 {
                    sum += now;
                    slope[nth] -= gpus;
                } else if later > 0.0 {
                    sum += later;
                    slope[count + nth] -= gpus;
                }
            }
        }
        let packed: Vec<[Packing; 3]> = self.shapes.iter().map(|shape| self.pack(shape, at)).collect();
        for (nth, island) in self.islands.iter().enumerate() {
            let prices = Prices { packed: &packed, watt: at[2 * count + nth] / KILOWATT };
            let sold = island.sell(&prices);
            sum += sold.worth;
            slope[2 * count + nth] = sold.spare / KILOWATT;
            for &(gang, amount) in &sold.starts {
                slope[gang] += amount * self.classes[gang].gpus as f64;
            }
            for &(gang, amount) in &sold.waits {
                slope[count + gang] += amount * self.classes[gang].gpus as f64;
            }
        }
        (sum, slope)
    }

    /// What whole gangs bring: of any promise, of firm ones alone, and of those who wait.
    fn pack(&self, shape: &Shape, at: &[f64]) -> [Packing; 3] {
        let count = self.classes.len();
        let gangs = |keep: &dyn Fn(&Class) -> bool, offset: usize| {
            let mut best: Vec<Gang> = Vec::new();
            for &class in &shape.classes {
                let of = &self.classes[class];
                let price = at[offset + class] * of.gpus as f64;
                if !keep(of) || price <= 0.0 {
                    continue;
                }
                match best.last_mut() {
                    Some(last) if last.gpus == of.gpus && last.price >= price => {}
                    Some(last) if last.gpus == of.gpus => (last.price, last.class) = (price, class),
                    _ => best.push(Gang { gpus: of.gpus, price, class }),
                }
            }
            best
        };
        let any = Packing::of(shape.most, gangs(&|_| true, 0));
        let firm = Packing::of(shape.most, gangs(&|class| class.promise == 0, 0));
        let waits = Packing::of(shape.most, gangs(&|class| class.promise < PROMISES - 1, count));
        [any, firm, waits]
    }
}

/// The largest gangs of each GPU type that some pool takes, starting and waiting.
#[derive(Default)]
struct Fits {
    largest: BTreeMap<usize, [usize; 2]>,
}

impl Fits {
    fn add(&mut self, kind: usize, gpus: [usize; 2]) {
        let largest = self.largest.entry(kind).or_default();
        for (most, gpus) in largest.iter_mut().zip(gpus) {
            *most = gpus.max(*most);
        }
    }
}

/// Classes by GPU type, size and promise.
type Index = BTreeMap<(usize, usize, usize), usize>;

fn classes(problem: &Problem) -> Index {
    let keys: BTreeSet<(usize, usize, usize)> = problem.jobs.iter().filter_map(key).collect();
    keys.into_iter().enumerate().map(|(nth, key)| (key, nth)).collect()
}

fn key(job: &super::problem::Job) -> Option<(usize, usize, usize)> {
    let promise = if job.level == 0 { 0 } else { PROMISES - 1 - usize::from(job.wait.is_some()) };
    let gpus = usize::try_from(job.gpus).ok().filter(|gpus| *gpus > 0)?;
    Some((job.gpu, gpus, promise))
}

/// The jobs by class, with what a seat that some pool could give is worth to them.
fn offered(problem: &Problem, index: &Index, fits: &Fits) -> Vec<Class> {
    let mut classes: Vec<Class> =
        index.keys().map(|&(_, gpus, promise)| Class { gpus, promise, jobs: Vec::new() }).collect();
    for job in &problem.jobs {
        let Some(key) = key(job) else { continue };
        let largest = fits.largest.get(&key.0).copied().unwrap_or_default();
        let starts = if key.1 <= largest[0] { job.value as f64 } else { f64::MIN };
        let waits = job.wait.filter(|_| key.1 <= largest[1]).map_or(f64::MIN, |wait| wait as f64);
        classes[index[&key]].jobs.push([starts, waits]);
    }
    classes
}
