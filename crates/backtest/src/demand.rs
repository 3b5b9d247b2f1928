//! Orders for a replay, drawn from a trace of jobs: days bootstrapped, gangs drawn, load scaled to the fleet.
//!
//! Each simulated day takes one of the trace's ordinary days, and so many copies of each of its jobs that the expected GPU time asked
//! for is the wanted share of the fleet's. Read next: [`crate::world`].

use std::collections::BTreeMap;

use model::workload::{GpuTime, Tier};
use model::{Span, Time};

use crate::chance::{Chance, Purpose};
use crate::world::{Error, Order};

/// A day counts as ordinary from so many arrivals on: in traces that begin long before their busy weeks most days have one or none.
pub const LEAST_ARRIVALS: usize = 20;
/// Longer jobs are cut to this: in a public trace one in a hundred stays for months and would fill a small fleet by itself.
pub const LONGEST: Span = Span::hours(7 * 24);
/// Where fewer than one job in so many asks for two GPUs or more, gangs are drawn by [`GANGS`].
pub const FEW_GANGS: usize = 10;
/// Gang sizes and how often they are drawn, of a hundred: most jobs are small, most GPU time is asked for by large gangs. An
/// engineering estimate. Sizes that no pool of the fleet holds are left out.
pub const GANGS: [(u32, u32); 7] = [(1, 40), (2, 15), (4, 12), (8, 20), (16, 7), (32, 4), (64, 2)];
/// Copies of a job come within this time after the job's own, each at a time of its own.
const JITTER: Span = Span::hours(2);
/// A day.
const DAY: Span = Span::hours(24);

/// One job of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// When it came, from the trace's start.
    pub at: Span,
    /// Whole GPUs.
    pub gpus: u32,
    /// How long it ran.
    pub length: Span,
    /// What it is sold as.
    pub tier: Tier,
}

/// What is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of every draw.
    pub seed: u64,
    /// GPU time asked for, in thousandths of what the fleet's GPUs have.
    pub load_permille: i64,
    /// GPUs of the fleet, and those of its largest pool.
    pub gpus: (u32, u32),
    /// When the replay begins.
    pub start: Time,
    /// How long it lasts.
    pub days: usize,
}

/// Orders, and what became of the trace on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// In order of time.
    pub orders: Vec<Order>,
    /// Ordinary days of the trace.
    pub days: usize,
    /// Whether gangs were drawn, since the trace has few.
    pub gangs_drawn: bool,
    /// Jobs of the trace that were cut to [`LONGEST`].
    pub cut: usize,
}

/// Draws the orders.
pub fn orders(trace: &[Job], wanted: &Wanted) -> Result<Demand, Error> {
    let (fleet, largest) = wanted.gpus;
    if fleet == 0 {
        return Err(Error::NoGpus);
    }
    let days = ordinary_days(trace);
    let gangs_drawn = trace.iter().filter(|job| job.gpus >= 2).count() * FEW_GANGS < trace.len();
    let sizes = if gangs_drawn { Some(Sizes::within(largest)) } else { None };
    let mean_gang = |job: &Job| sizes.as_ref().map_or(f64::from(job.gpus.min(largest)), Sizes::mean);
    let jobs = || days.iter().flat_map(|day| day.iter());
    let asked: f64 = jobs().map(|job| mean_gang(job) * job.length.min(LONGEST).as_f64()).sum();
    if asked <= 0.0 {
        return Err(Error::NoJobs);
    }
    let offered = f64::from(fleet) * DAY.as_f64() * wanted.load_permille as f64 / 1_000.0;
    let copies = offered * days.len() as f64 / asked;
    let mut orders = Vec::new();
    for day in 0..wanted.days {
        let place = day as u64;
        let taken = &days[Chance::new(wanted.seed, Purpose::Days, [place, 0]).below(days.len())];
        let midnight = wanted.start + DAY.times(i64::try_from(day).unwrap_or(i64::MAX));
        for (index, job) in taken.iter().enumerate() {
            let mut chance = Chance::new(wanted.seed, Purpose::Copies, [place, index as u64]);
            let whole = copies as u64 + u64::from(chance.unit() < copies.fract());
            for copy in 0..whole {
                orders.push(order(job, sizes.as_ref(), largest, midnight, (copy, &mut chance)));
            }
        }
    }
    orders.sort_by_key(|order| (order.at, order.tier, order.gpus, order.amount));
    let cut = trace.iter().filter(|job| job.length > LONGEST).count();
    Ok(Demand { orders, days: days.len(), gangs_drawn, cut })
}

fn order(
    job: &Job,
    sizes: Option<&Sizes>,
    largest: u32,
    midnight: Time,
    (copy, chance): (u64, &mut Chance),
) -> Order {
    let within = Span::new(job.at.get().rem_euclid(DAY.get()));
    // The first copy comes when the job came; others follow, and none leaves its day.
    let later = if copy == 0 { Span::ZERO } else { Span::new((chance.unit() * JITTER.as_f64()) as i64) };
    let gpus = match sizes {
        Some(sizes) => sizes.draw(chance.unit()),
        None => job.gpus.min(largest),
    };
    let at = midnight + (within + later).min(DAY - Span::new(1));
    Order { at, tier: job.tier, gpus, amount: GpuTime::of(gpus, job.length.min(LONGEST)), price: None }
}

/// The jobs of each day with enough of them; of every day with any where none has enough.
fn ordinary_days(trace: &[Job]) -> Vec<Vec<Job>> {
    let mut days: BTreeMap<i64, Vec<Job>> = BTreeMap::new();
    for job in trace.iter().filter(|job| job.gpus > 0 && job.length > Span::ZERO) {
        days.entry(job.at.get().div_euclid(DAY.get())).or_default().push(*job);
    }
    if days.values().any(|day| day.len() >= LEAST_ARRIVALS) {
        days.retain(|_, day| day.len() >= LEAST_ARRIVALS);
    }
    days.into_values().collect()
}

/// Gang sizes that fit into a pool.
struct Sizes(Vec<(u32, f64)>);

impl Sizes {
    fn within(largest: u32) -> Self {
        let fit = GANGS.iter().filter(|(gpus, _)| *gpus <= largest.max(1));
        let total: u32 = fit.clone().map(|(_, weight)| weight).sum();
        Self(fit.map(|(gpus, weight)| (*gpus, f64::from(*weight) / f64::from(total.max(1)))).collect())
    }

    fn mean(&self) -> f64 {
        self.0.iter().map(|(gpus, share)| f64::from(*gpus) * share).sum()
    }

    fn draw(&self, mut unit: f64) -> u32 {
        for (gpus, share) in &self.0 {
            if unit < *share {
                return *gpus;
            }
            unit -= share;
        }
        // Rounding of the shares may leave a crumb.
        self.0.last().map_or(1, |(gpus, _)| *gpus)
    }
}
