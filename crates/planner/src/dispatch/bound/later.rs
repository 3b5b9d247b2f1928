//! What a pool's GPUs are worth to gangs that wait: those that are free after stops, and those of spot runs that give way.
//!
//! Who waits pays for what it will displace; who gives way costs what it loses, and frees its watts on the island. Read next: `island`,
//! which weighs it against starts.

use super::gangs::{Gang, Packing};
use super::island::Pool;

/// What waiting gangs bring in one pool, by the GPUs that are free for them without stops.
pub(super) enum Later {
    /// By free GPUs: worth, GPUs of those who wait, GPUs that give way for them.
    Table(Vec<(f64, usize, usize)>),
    /// As if gangs could be split.
    Linear {
        /// A free GPU is worth so much.
        each: f64,
        /// What spot runs that give way add.
        rest: f64,
        /// Their GPUs.
        freed: f64,
        gang: Option<Gang>,
    },
}

impl Later {
    /// At a price for watts that stand after stops, and what a watt of who waits displaces.
    pub(super) fn of(pool: &Pool, packing: &Packing, watt: f64, displaced: f64) -> Self {
        // Roundings of a ceiling never make it smaller than this.
        let charge = displaced * (pool.each - 2.0).max(0.0) + watt * pool.each;
        let relief = watt * pool.each;
        if pool.is_large() {
            linear(pool, packing, charge, relief)
        } else {
            table(pool, packing, charge, relief)
        }
    }

    /// What so many free GPUs are worth.
    pub(super) fn worth(&self, free: usize) -> f64 {
        match self {
            Later::Table(worth) => worth[free.min(worth.len() - 1)].0,
            Later::Linear { each, rest, .. } => each * free as f64 + rest,
        }
    }

    /// Who waits once so many GPUs of the pool are taken by starts; returns the GPUs they take beyond those that give way.
    pub(super) fn taken(
        &self,
        pool: &Pool,
        packing: &Packing,
        (starts, share): (usize, f64),
        into: &mut Vec<(usize, f64)>,
    ) -> f64 {
        let free = pool.free.saturating_sub(starts);
        match self {
            Later::Table(worth) => {
                let (_, waits, freed) = worth[free.min(worth.len() - 1)];
                packing.taken(waits, share, into);
                share * (waits as f64 - freed as f64)
            }
            Later::Linear { each, freed, gang, .. } => {
                let waits = if *each > 0.0 { free as f64 + freed } else { 0.0 };
                into.extend(gang.map(|gang| (gang.class, share * waits / gang.gpus as f64)));
                share * (waits - freed)
            }
        }
    }
}

fn table(pool: &Pool, packing: &Packing, charge: f64, relief: f64) -> Later {
    let stops = stops(&pool.covers, relief);
    let (freed, cost) = stops.first().map_or((0, 0.0), |stop| (stop.up_to, stop.cost));
    let nobody = (-cost, 0, freed);
    let waiting = waiting(packing, charge, pool.free + pool.covers.len() - 1);
    let best = |free: usize| {
        let mut found = nobody;
        for stop in &stops {
            let (net, waits) = waiting[free + stop.up_to];
            if net - stop.cost > found.0 {
                found = (net - stop.cost, waits, stop.up_to);
            }
        }
        found
    };
    Later::Table((0..=pool.free).map(best).collect())
}

/// The cheapest way to free up to so many GPUs.
#[derive(Debug, PartialEq)]
struct Stop {
    up_to: usize,
    cost: f64,
}

/// The cheapest ways to free GPUs, watts that come free with them counted: each costs more and frees more than the one before.
fn stops(covers: &[f64], relief: f64) -> Vec<Stop> {
    let mut stops: Vec<Stop> = Vec::new();
    let mut least = f64::MAX;
    for (gpus, cost) in covers.iter().enumerate().rev() {
        let cost = cost - relief * gpus as f64;
        if stops.is_empty() || cost < least {
            stops.push(Stop { up_to: gpus, cost });
            least = cost;
        }
    }
    stops.reverse();
    stops
}

/// How many ways there are to free GPUs where watts cost nothing.
pub(super) fn ways(covers: &[f64]) -> usize {
    stops(covers, 0.0).len()
}

/// The most that gangs in up to so many GPUs bring beyond the charge, and the GPUs they take.
fn waiting(packing: &Packing, charge: f64, most: usize) -> Vec<(f64, usize)> {
    let mut waiting = Vec::with_capacity(most + 1);
    let mut best = (0.0, 0);
    for &gpus in packing.corners.iter().skip(1).take_while(|&&gpus| gpus <= most) {
        let net = packing.best[gpus] - charge * gpus as f64;
        if net > best.0 {
            waiting.resize(gpus, best);
            best = (net, gpus);
        }
    }
    waiting.resize(most + 1, best);
    waiting
}

fn linear(pool: &Pool, packing: &Packing, charge: f64, relief: f64) -> Later {
    let gang = packing.densest();
    let each = gang.map_or(0.0, |gang| gang.price / gang.gpus as f64 - charge).max(0.0);
    let (mut rest, mut freed) = (0.0, 0.0);
    for &(gpus, loss) in &pool.victims {
        let gain = gpus * (each + relief) - loss;
        if gain > 0.0 {
            (rest, freed) = (rest + gain, freed + gpus);
        }
    }
    Later::Linear { each, rest, freed, gang }
}

/// The least loss that frees at least so many GPUs, for any number of them, by (GPUs, loss) of the runs.
pub(super) fn covers(victims: &[(f64, f64)]) -> Vec<f64> {
    let all = victims.iter().map(|(gpus, _)| *gpus as usize).sum::<usize>();
    let mut costs = vec![f64::MAX; all + 1];
    costs[0] = 0.0;
    for &(gpus, loss) in victims {
        for need in (1..=all).rev() {
            let before = costs[need.saturating_sub(gpus as usize)];
            if before < f64::MAX && before + loss < costs[need] {
                costs[need] = before + loss;
            }
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(most: usize, victims: &[(f64, f64)]) -> Pool {
        Pool { shape: 0, each: 2.0, most, free: most, covers: covers(victims), victims: victims.to_vec() }
    }

    #[test]
    fn the_cheapest_runs_that_free_enough_give_way() {
        assert_eq!(
            covers(&[(4.0, 5.0), (2.0, 3.0), (2.0, 1.0)]),
            [0.0, 1.0, 1.0, 4.0, 4.0, 6.0, 6.0, 9.0, 9.0]
        );
        assert_eq!(covers(&[]), [0.0]);
    }

    #[test]
    fn a_way_to_free_gpus_that_frees_less_for_more_is_none() {
        let stop = |up_to, cost| Stop { up_to, cost };
        let check = |covers: &[f64], relief, expected: &[Stop]| {
            assert_eq!(stops(covers, relief), expected, "{covers:?} at {relief}");
        };
        check(&[0.0], 0.0, &[stop(0, 0.0)]);
        check(&[0.0, 1.0, 1.0, 4.0], 0.0, &[stop(0, 0.0), stop(2, 1.0), stop(3, 4.0)]);
        check(&[0.0, 1.0, 1.0, 4.0], 1.0, &[stop(2, -1.0), stop(3, 1.0)]);
        check(&[0.0, 1.0, 1.0, 4.0], 4.0, &[stop(3, -8.0)]);
    }

    #[test]
    fn who_waits_pays_for_those_that_give_way() {
        let gangs = vec![Gang { gpus: 4, price: 10.0, class: 0 }];
        let packing = Packing::of(8, gangs);
        let check = |watt, free, expected, gangs: f64, net| {
            let pool = pool(3, &[(4.0, 7.0)]);
            let later = Later::of(&pool, &packing, watt, 0.0);
            let mut taken = Vec::new();
            let found = later.taken(&pool, &packing, (3 - free, 1.0), &mut taken);
            let sum: f64 = taken.iter().map(|(_, gangs)| gangs).sum();
            assert_eq!(
                (later.worth(free), sum, found),
                (expected, gangs, net),
                "{free} free, watts at {watt}"
            );
        };
        // Three free ones lack one; the run that gives way frees four.
        check(0.0, 3, 3.0, 1.0, 0.0);
        check(0.0, 0, 3.0, 1.0, 0.0);
        // At half a dollar a watt who gives way frees four dollars' worth of them, and who waits pays as much.
        check(0.5, 0, 3.0, 1.0, 0.0);
        // At two dollars nobody waits, and the run is stopped for its watts.
        check(2.0, 0, 9.0, 0.0, -4.0);
    }
}
