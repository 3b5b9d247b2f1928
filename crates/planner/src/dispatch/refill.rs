//! Empties one pool of what would start there and fills it anew, as an exact knapsack over its GPUs.
//!
//! In one pool every GPU draws the same, so GPUs, the module's limit and the island's are one capacity, for each class of jobs
//! the island may start; what mining and gas lose with each GPU is taken as a straight line. A new filling is kept only when the
//! exact worth rises. Read next: `exchange`.

use std::collections::BTreeMap;

use super::state::{AFTER, NOW, Seat, State};

/// Unseated jobs considered for one pool: the best a kilowatt.
const CANDIDATES: usize = 48;
/// Unseated jobs looked at for these, with those that one class of jobs leaves out.
const LOOKED_AT: usize = 192;
/// Up to so many pools the list of the unseated is always fresh.
const SMALL: usize = 256;
/// The largest knapsack: GPUs × jobs, a few hundred microseconds.
const MOST_GPUS: i64 = 2_048;
/// Knapsack cells filled in one sweep, about a quarter of a second.
const CELLS: i64 = 60_000_000;

/// One pass over all pools, for those who start now.
pub(crate) fn sweep(state: &mut State<'_>) {
    over_pools(state, refill);
}

/// One pass over all pools, for those who wait and the spot runs that give way to them.
pub(crate) fn sweep_waits(state: &mut State<'_>) {
    over_pools(state, refill_waits);
}

fn over_pools(state: &mut State<'_>, step: fn(&mut State<'_>, usize, &mut Unseated, &mut i64) -> bool) {
    let mut unseated = Unseated::of(state);
    let (mut cells, mut changes) = (CELLS, 0);
    for pool in 0..state.problem.pools.len() {
        let least = unseated.least(state.problem.pools[pool].gpu);
        let victims: i64 = state.victims_in[pool].iter().map(|&nth| state.problem.victims[nth].gpus).sum();
        let movable = state.free[pool][NOW].max(0) + gpus_of(state, &state.members[pool]) + victims;
        if movable < least || cells <= 0 || state.is_spent() {
            continue;
        }
        changes += usize::from(step(state, pool, &mut unseated, &mut cells));
        // In a large fleet those who lost their seat a moment ago are looked at a little later.
        if changes > state.problem.pools.len() / SMALL {
            (unseated, changes) = (Unseated::of(state), 0);
        }
    }
}

/// Who has no seat, by GPU type and size of gang, in the order of starts.
struct Unseated {
    by_gpu: Vec<BTreeMap<i64, Vec<usize>>>,
}

impl Unseated {
    fn of(state: &State<'_>) -> Self {
        let mut by_gpu = vec![BTreeMap::new(); state.pools_by_gpu.len()];
        for (job, wanted) in state.problem.jobs.iter().enumerate() {
            if state.seats[job].is_none() && wanted.gpu < by_gpu.len() {
                by_gpu[wanted.gpu].entry(wanted.gpus).or_insert_with(Vec::new).push(job);
            }
        }
        Self { by_gpu }
    }

    fn least(&self, gpu: usize) -> i64 {
        self.by_gpu.get(gpu).and_then(|sizes| sizes.keys().next()).copied().unwrap_or(i64::MAX)
    }

    /// The first of those who still have none and fit into `room` GPUs, in the order of starts: of each size as many as could fit
    /// side by side, and as many again, since some may not be started there.
    fn first(&mut self, state: &State<'_>, gpu: usize, room: i64) -> Vec<usize> {
        let mut found = Vec::new();
        for (&size, jobs) in self.by_gpu[gpu].range_mut(..=room) {
            let most = usize::try_from(2 * room / size.max(1)).unwrap_or(usize::MAX).min(LOOKED_AT);
            let mut looked_at = 0;
            let still = jobs.iter().inspect(|_| looked_at += 1).copied();
            found.extend(still.filter(|&job| state.seats[job].is_none()).take(most));
            // Those who got a seat in the meantime are passed over only so often.
            if looked_at > 2 * most {
                jobs.retain(|&job| state.seats[job].is_none());
            }
        }
        found.sort_unstable();
        found.truncate(LOOKED_AT);
        found
    }
}

fn gpus_of(state: &State<'_>, jobs: &[usize]) -> i64 {
    jobs.iter().map(|&job| state.problem.jobs[job].gpus).sum()
}

/// Fills a pool anew if that is worth more. Says whether anything changed.
fn refill(state: &mut State<'_>, pool: usize, unseated: &mut Unseated, cells: &mut i64) -> bool {
    let site = state.problem.site_of(pool);
    let starts = |job: &usize| matches!(state.seats[*job], Some(Seat::Starts(_)));
    let mut members: Vec<usize> = state.members[pool].iter().copied().filter(starts).collect();
    members.sort_unstable();
    let room = state.free[pool][NOW] + gpus_of(state, &members);
    let others = unseated.first(state, state.problem.pools[pool].gpu, room);
    let before = state.worth();
    members.iter().for_each(|&job| {
        state.unseat(job);
    });
    let outside = state.limit(site);
    let mut limits: Vec<i64> =
        state.problem.sites[site].limits.iter().map(|&limit| limit.min(outside)).collect();
    limits.sort_unstable();
    limits.dedup();
    let mut best: Option<(i64, Vec<usize>)> = None;
    for limit in limits {
        let chosen = choose(state, pool, limit, (&members, &others), cells);
        let seated: Vec<usize> = chosen.into_iter().filter(|&job| try_seat(state, job, pool)).collect();
        let worth = state.worth();
        if best.as_ref().is_none_or(|(most, _)| worth > *most) {
            best = Some((worth, seated.clone()));
        }
        seated.into_iter().for_each(|job| {
            state.unseat(job);
        });
    }
    let kept = best.filter(|(worth, _)| *worth > before);
    let changed = kept.is_some();
    for job in kept.map_or(members.clone(), |(_, chosen)| chosen) {
        state.seat(job, Seat::Starts(pool));
    }
    changed
}

fn try_seat(state: &mut State<'_>, job: usize, pool: usize) -> bool {
    let fits = state.refusal(job, Seat::Starts(pool)).is_none();
    if fits {
        state.seat(job, Seat::Starts(pool));
    }
    fits
}

/// The best filling of an empty pool under one limit of its island, by a knapsack over GPUs.
fn choose(
    state: &mut State<'_>,
    pool: usize,
    limit: i64,
    (members, others): (&[usize], &[usize]),
    cells: &mut i64,
) -> Vec<usize> {
    let site = state.problem.site_of(pool);
    let capacity = state.headroom(pool, limit).min(MOST_GPUS);
    let Ok(room) = usize::try_from(capacity) else { return Vec::new() };
    let limits = &state.problem.sites[site].limits;
    let fits = |job: &&usize| {
        let wanted = &state.problem.jobs[**job];
        let fits = wanted.gpus > 0 && wanted.gpus <= capacity && limits[wanted.level] >= limit;
        fits && state.binds(wanted, pool).is_none()
    };
    let mut jobs: Vec<usize> = members.iter().filter(fits).copied().collect();
    jobs.extend(others.iter().filter(fits).take(CANDIDATES));
    jobs.sort_unstable();
    let each = cost_of_a_gpu(state, pool, capacity);
    let items: Vec<(i64, i64)> = jobs
        .iter()
        .map(|&job| {
            let wanted = &state.problem.jobs[job];
            (wanted.gpus, wanted.value - each.saturating_mul(wanted.gpus))
        })
        .collect();
    knapsack(&items, room, cells).into_iter().map(|nth| jobs[nth]).collect()
}

/// The most valuable items of (size, value) that fit into `room`, in their order.
fn knapsack(items: &[(i64, i64)], room: usize, cells: &mut i64) -> Vec<usize> {
    let mut best = vec![0i64; room + 1];
    let mut taken = vec![false; items.len() * (room + 1)];
    *cells -= i64::try_from(taken.len()).unwrap_or(i64::MAX);
    let sizes: Vec<usize> =
        items.iter().map(|&(size, _)| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    for (nth, &(_, value)) in items.iter().enumerate() {
        let size = sizes[nth];
        for at in (size..=room).rev() {
            if best[at - size] + value > best[at] {
                best[at] = best[at - size] + value;
                taken[nth * (room + 1) + at] = true;
            }
        }
    }
    let mut chosen = Vec::new();
    let mut at = room;
    for nth in (0..items.len()).rev() {
        if taken[nth * (room + 1) + at] {
            chosen.push(nth);
            at -= sizes[nth];
        }
    }
    chosen.reverse();
    chosen
}

/// Decides anew which spot runs of a pool go on and who waits for the GPUs of those that do not. Says whether anything changed.
fn refill_waits(state: &mut State<'_>, pool: usize, unseated: &mut Unseated, cells: &mut i64) -> bool {
    let site = state.problem.site_of(pool);
    // Who was stopped least recently stands last, and so gives way first where losses are equal.
    let victims: Vec<usize> = state.victims_in[pool].iter().rev().copied().collect();
    if victims.is_empty() || !state.problem.sites[site].yields || !state.is_sound(&[site]) {
        return false;
    }
    let before = state.worth();
    let stopped: Vec<usize> = victims.iter().copied().filter(|&victim| state.stopped[victim]).collect();
    let waiting = |state: &State<'_>, job: usize| state.seats[job] == Some(Seat::Waits(pool));
    let waiters: Vec<usize> =
        state.members[pool].iter().copied().filter(|&job| waiting(state, job)).collect();
    for &job in &waiters {
        state.unseat(job);
    }
    victims.iter().for_each(|&victim| state.stop(victim, true));
    let others = unseated.first(state, state.problem.pools[pool].gpu, state.free[pool][AFTER]);
    let others = others.into_iter().filter(|job| !waiters.contains(job));
    let waits = |job: &usize| {
        let wanted = &state.problem.jobs[*job];
        wanted.wait.is_some() && state.binds(wanted, pool).is_none()
    };
    let jobs: Vec<usize> = waiters.iter().copied().chain(others.filter(waits).take(CANDIDATES)).collect();
    let runs = victims.iter().map(|&victim| {
        let run = &state.problem.victims[victim];
        (run.gpus, run.cost)
    });
    let seat = Seat::Waits(pool);
    let starts = jobs.iter().map(|&job| (state.problem.jobs[job].gpus, state.earns(job, seat)));
    let items: Vec<(i64, i64)> = runs.chain(starts).collect();
    let room = usize::try_from(state.free[pool][AFTER].clamp(0, MOST_GPUS)).unwrap_or(0);
    let chosen = knapsack(&items, room, cells);
    let mut seated = Vec::new();
    for &nth in &chosen {
        match victims.get(nth) {
            Some(&victim) => state.stop(victim, false),
            None if state.refusal(jobs[nth - victims.len()], seat).is_none() => {
                seated.push(jobs[nth - victims.len()]);
                state.seat(jobs[nth - victims.len()], seat);
            }
            None => {}
        }
    }
    if state.worth() > before && state.is_sound(&[site]) {
        return true;
    }
    for job in seated {
        state.unseat(job);
    }
    victims.iter().for_each(|victim| state.stop(*victim, stopped.contains(victim)));
    waiters.into_iter().for_each(|job| state.seat(job, seat));
    false
}

/// What mining and gas lose with each GPU of a pool, as a straight line up to its capacity.
fn cost_of_a_gpu(state: &mut State<'_>, pool: usize, capacity: i64) -> i64 {
    if capacity <= 0 {
        return 0;
    }
    state.cost_of_power(pool, state.problem.pools[pool].per_gpu * capacity) / capacity
}
