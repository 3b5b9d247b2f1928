//! Which pools are tried first for a gang that finds no free seat: those where the cheapest who could give way cost least.
//!
//! In a small fleet every pool is tried. In a large one that would spend the whole search on a few hundred gangs, so pools are ranked
//! once for each size of gang, by the cost of the GPUs it lacks as if gangs could be split; whoever tries finds the exact cost. Read
//! next: `displace`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::problem::Job;
use super::state::{Seat, State};

/// Up to so many pools of a type all of them are tried.
const ALL: usize = 64;
/// Pools that are kept for a size of gang.
const KEPT: usize = 12;
/// A ranking is made anew after so many seats taken by it: by then its best pools look different.
const USES: u32 = 6;

/// Rankings, by GPU type, size of gang and whether it may wait for others to go.
#[derive(Default)]
pub(crate) struct Ranks {
    /// What freeing GPUs costs in each pool, for who starts, and for who waits.
    costs: Vec<[Costs; 2]>,
    /// Pools to try, and how often they were.
    kept: BTreeMap<Class, (Arc<[usize]>, u32)>,
}

/// Cumulated (GPUs, loss), cheapest a GPU first.
type Costs = Vec<(i64, i64)>;
/// GPU type, size of gang, and whether it may wait for others to go.
type Class = (usize, i64, bool);

impl Ranks {
    pub(crate) fn new(state: &State<'_>) -> Self {
        let large = state.pools_by_gpu.iter().any(|pools| pools.len() > ALL);
        let count = if large { state.problem.pools.len() } else { 0 };
        Self { costs: (0..count).map(|pool| costs(state, pool)).collect(), kept: BTreeMap::new() }
    }

    /// Pools to try for a job, best first.
    pub(crate) fn pools(&mut self, state: &State<'_>, job: usize) -> Arc<[usize]> {
        let wanted = &state.problem.jobs[job];
        let Some(all) = state.pools_by_gpu.get(wanted.gpu) else { return Arc::default() };
        let open = opens(state, wanted, all);
        if open.len() <= ALL {
            return open;
        }
        let costs = &self.costs;
        // How a group stands changes with each seat, so nothing is kept for those that are bound.
        if wanted.binding.is_some() {
            return rank(costs, &open, wanted);
        }
        let (pools, _) = self.kept.entry(key(wanted)).or_insert_with(|| (rank(costs, all, wanted), 0));
        Arc::clone(pools)
    }

    /// The same, as far as it is known already.
    pub(crate) fn known(&self, state: &State<'_>, job: usize) -> Arc<[usize]> {
        let wanted = &state.problem.jobs[job];
        let all = || {
            let all = state.pools_by_gpu.get(wanted.gpu);
            all.map(|all| opens(state, wanted, all)).unwrap_or_default()
        };
        if wanted.binding.is_some() {
            return all();
        }
        self.kept.get(&key(wanted)).map_or_else(all, |(pools, _)| Arc::clone(pools))
    }

    /// A job took a seat that somebody else had to give up.
    pub(crate) fn took(&mut self, state: &State<'_>, job: usize) {
        if self.costs.is_empty() {
            return;
        }
        if let Some(seat) = state.seats[job] {
            self.costs[seat.pool()] = costs(state, seat.pool());
        }
        let key = key(&state.problem.jobs[job]);
        if let Some((_, uses)) = self.kept.get_mut(&key) {
            *uses += 1;
            if *uses >= USES {
                self.kept.remove(&key);
            }
        }
    }
}

/// Pools that a job's sites and its group leave it.
fn opens(state: &State<'_>, wanted: &Job, all: &Arc<[usize]>) -> Arc<[usize]> {
    match wanted.binding {
        None => Arc::clone(all),
        Some(_) => all.iter().copied().filter(|&pool| state.binds(wanted, pool).is_none()).collect(),
    }
}

fn key(wanted: &Job) -> Class {
    (wanted.gpu, wanted.gpus, wanted.wait.is_some())
}

fn rank(costs: &[[Costs; 2]], all: &[usize], wanted: &Job) -> Arc<[usize]> {
    let cost = |pool: usize| {
        let starts = cost(&costs[pool][0], wanted.gpus);
        if wanted.wait.is_some() { starts.min(cost(&costs[pool][1], wanted.gpus)) } else { starts }
    };
    let mut ranked: Vec<(i64, usize)> =
        all.iter().map(|&pool| (cost(pool), pool)).filter(|(cost, _)| *cost < i64::MAX).collect();
    if ranked.len() > KEPT {
        ranked.select_nth_unstable(KEPT);
        ranked.truncate(KEPT);
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, pool)| pool).collect()
}

/// The cost of so many GPUs, the last gang split; the largest number where there are not so many.
fn cost(costs: &[(i64, i64)], gpus: i64) -> i64 {
    let mut before = (0, 0);
    for &(up_to, loss) in costs {
        if up_to >= gpus {
            let (wide, high) = (up_to - before.0, loss - before.1);
            return before.1 + high * (gpus - before.0) / wide.max(1);
        }
        before = (up_to, loss);
    }
    i64::MAX
}

/// What freeing GPUs of a pool costs, for who starts and for who waits.
fn costs(state: &State<'_>, pool: usize) -> [Costs; 2] {
    let members = state.members[pool].iter().filter_map(|&job| {
        let seat = state.seats[job]?;
        Some((matches!(seat, Seat::Starts(_)), state.problem.jobs[job].gpus, state.earns(job, seat)))
    });
    let members: Vec<(bool, i64, i64)> = members.collect();
    let starts = members.iter().filter(|(starts, ..)| *starts).map(|&(_, gpus, loss)| (gpus, loss)).collect();
    let victims = state.victims_in[pool].iter().filter(|&&victim| !state.stopped[victim]);
    let victims =
        victims.map(|&victim| (state.problem.victims[victim].gpus, state.problem.victims[victim].cost));
    let waits = members.iter().map(|&(_, gpus, loss)| (gpus, loss)).chain(victims).collect();
    let [now, after] = state.free[pool];
    [cumulated(now.min(after), starts), cumulated(after, waits)]
}

fn cumulated(free: i64, mut givers: Vec<(i64, i64)>) -> Costs {
    givers.retain(|(gpus, _)| *gpus > 0);
    givers.sort_unstable_by_key(|&(gpus, loss)| (loss / gpus, gpus, loss));
    let mut sum = (free.max(0), 0);
    let mut costs = vec![sum];
    for (gpus, loss) in givers {
        sum = (sum.0 + gpus, sum.1 + loss);
        costs.push(sum);
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_gpus_cost_what_the_cheapest_earn() {
        let check = |free, givers: &[(i64, i64)], gpus, expected| {
            let costs = cumulated(free, givers.to_vec());
            assert_eq!(cost(&costs, gpus), expected, "{gpus} GPUs of {free} free and {givers:?}");
        };
        check(4, &[], 4, 0);
        check(4, &[], 5, i64::MAX);
        check(2, &[(4, 40), (2, 2)], 4, 2);
        check(2, &[(4, 40), (2, 2)], 6, 22);
        check(0, &[(0, 7), (1, 3)], 1, 3);
    }
}
