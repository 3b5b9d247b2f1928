//! Ejection chains: a job without a seat takes one from those who are worth less, whether they were about to start or are spot runs
//! that may be stopped for it; who was about to start finds another seat or none.
//!
//! In the pool the cheapest set that frees enough GPUs is found exactly, as a covering knapsack by price × lost work; watts are
//! then freed anywhere on the island, cheapest a GPU first; whoever turns out not to be needed goes on. A change is kept only
//! when the exact worth rises. Bounded in tries. Read next: `bound`.

use super::rank::Ranks;
use super::state::{AFTER, NOW, Refusal, Seat, State};

/// Seats tried in one sweep.
const TRIES: usize = 60_000;
/// Pools tried for one that was displaced.
const PLACES: usize = 24;
/// Pools scanned for those.
const SCANNED: usize = 256;
/// Links of a chain beyond the first.
const DEPTH: usize = 1;
/// Pools tried for each further link.
const LINKS: usize = 8;
/// The largest gap in GPUs that is covered exactly; above it the cheapest a GPU go first.
const COVER: usize = 512;

/// Somebody who may give way.
#[derive(Clone, Copy, Debug)]
struct Giver {
    loss: i64,
    gpus: i64,
    who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Victim(usize),
    Job(usize),
}

/// A change that can be taken back.
#[derive(Clone, Copy, Debug)]
enum Op {
    Stopped(usize),
    Unseated(usize, Seat),
    Seated(usize),
    /// Taken back already.
    Nothing,
}

/// One pass over the jobs without a seat, and over those that wait but might start.
pub(crate) fn sweep(state: &mut State<'_>) {
    let mut tries = TRIES;
    let mut ranks = Ranks::new(state);
    for job in 0..state.problem.jobs.len() {
        if tries == 0 || state.is_spent() {
            return;
        }
        match state.seats[job] {
            None => tries = tries.saturating_sub(insert(state, &mut ranks, job)),
            Some(seat @ Seat::Waits(_)) => {
                let before = state.worth();
                state.unseat(job);
                let resumed = resume(state, state.problem.site_of(seat.pool()));
                tries = tries.saturating_sub(insert_above(state, &mut ranks, job, before));
                if state.seats[job].is_none() {
                    resumed.into_iter().for_each(|victim| state.stop(victim, true));
                    state.seat(job, seat);
                }
            }
            Some(Seat::Starts(_)) => {}
        }
    }
}

/// Lets go on, dearest first, whose place nobody needs any more.
fn resume(state: &mut State<'_>, site: usize) -> Vec<usize> {
    let (first, end) = state.pools_of[site];
    let victims = (first..end).flat_map(|pool| state.victims_in[pool].iter().copied());
    let mut stopped: Vec<usize> = victims.filter(|&victim| state.stopped[victim]).collect();
    stopped.sort_by_key(|&victim| (std::cmp::Reverse(state.problem.victims[victim].cost), victim));
    stopped.retain(|&victim| {
        state.stop(victim, false);
        let goes_on = state.fits_after(state.problem.victims[victim].pool);
        if !goes_on {
            state.stop(victim, true);
        }
        goes_on
    });
    stopped
}

/// Seats a job by the best change found, if one is worth more. Returns how many seats were tried.
fn insert(state: &mut State<'_>, ranks: &mut Ranks, job: usize) -> usize {
    let before = state.worth();
    insert_above(state, ranks, job, before)
}

/// The same, where the solution must be worth more than `least` in the end.
fn insert_above(state: &mut State<'_>, ranks: &mut Ranks, job: usize, least: i64) -> usize {
    let may_wait = state.problem.jobs[job].wait.is_some();
    let pools = ranks.pools(state, job);
    let mut tries = 0;
    let mut best: Option<(i64, std::cmp::Reverse<usize>, Seat)> = None;
    for &pool in pools.iter() {
        let waits = may_wait.then_some(Seat::Waits(pool));
        for seat in std::iter::once(Seat::Starts(pool)).chain(waits) {
            tries += 1;
            let Some(ops) = attempt(state, ranks, job, seat, DEPTH) else { continue };
            let gain = state.worth() - least;
            let victims = std::cmp::Reverse(last_victim(&ops));
            undo(state, ops);
            if gain > 0 && best.is_none_or(|(most, last, _)| (gain, victims) > (most, last)) {
                best = Some((gain, victims, seat));
            }
        }
    }
    if let Some((.., seat)) = best {
        // The same steps from the same state.
        let _ = attempt(state, ranks, job, seat, DEPTH);
        ranks.took(state, job);
    }
    tries + 1
}

/// Among equal gains the victims that stand first give way: they were stopped least recently.
fn last_victim(ops: &[Op]) -> usize {
    let victims = ops.iter().filter_map(|op| match op {
        Op::Stopped(victim) => Some(*victim),
        Op::Unseated(..) | Op::Seated(_) | Op::Nothing => None,
    });
    victims.max().unwrap_or(0)
}

/// Makes room for a job in a seat and gives others new ones; `None` (and nothing changed) where that cannot be worth it.
fn attempt(state: &mut State<'_>, ranks: &Ranks, job: usize, seat: Seat, depth: usize) -> Option<Vec<Op>> {
    state.charge();
    let pool = seat.pool();
    let wanted = state.problem.jobs[job].gpus;
    let lacks = match seat {
        Seat::Starts(_) => wanted - state.free[pool][NOW].min(state.free[pool][AFTER]),
        Seat::Waits(_) => wanted - state.free[pool][AFTER],
    };
    let here = givers(state, pool, seat);
    let earns = state.earns(job, seat);
    let cover = cover(&here, lacks)?;
    if cover.iter().map(|&nth| here[nth].loss).sum::<i64>() >= earns {
        // Those who find other seats lose less, so a start is tried all the same while there are other pools.
        let alone = state.pools_by_gpu[state.problem.jobs[job].gpu].len() < 2;
        if alone || cover.iter().all(|&nth| matches!(here[nth].who, Who::Victim(_))) {
            return None;
        }
    }
    let mut ops = Vec::new();
    cover.iter().for_each(|&nth| give_way(state, here[nth].who, &mut ops));
    if !free_watts(state, job, seat, &mut ops) {
        undo(state, ops);
        return None;
    }
    state.seat(job, seat);
    ops.push(Op::Seated(job));
    thin(state, &mut ops);
    reseat(state, ranks, &mut ops, depth);
    Some(ops)
}

/// Who could free GPUs of a pool for a seat, or watts for it.
fn givers(state: &State<'_>, pool: usize, seat: Seat) -> Vec<Giver> {
    let waits = matches!(seat, Seat::Waits(_));
    let seated = state.members[pool].iter().filter_map(|&job| {
        let taken = state.seats[job]?;
        let helps = waits || matches!(taken, Seat::Starts(_));
        let loss = state.earns(job, taken);
        helps.then_some(Giver { loss, gpus: state.problem.jobs[job].gpus, who: Who::Job(job) })
    });
    let mut givers: Vec<Giver> = seated.collect();
    let victims = state.victims_in[pool].iter().filter(|&&victim| waits && !state.stopped[victim]);
    givers.extend(victims.map(|&victim| {
        let run = &state.problem.victims[victim];
        Giver { loss: run.cost, gpus: run.gpus, who: Who::Victim(victim) }
    }));
    givers
}

/// The cheapest givers that free `lacks` GPUs together; `None` where all together do not.
fn cover(givers: &[Giver], lacks: i64) -> Option<Vec<usize>> {
    let Some(lacks) = usize::try_from(lacks).ok().filter(|&lacks| lacks > 0) else {
        return Some(Vec::new());
    };
    let all: i64 = givers.iter().map(|giver| giver.gpus).sum();
    if usize::try_from(all).ok()? < lacks {
        return None;
    }
    if lacks > COVER {
        return Some(cheapest_a_gpu(givers, lacks));
    }
    // cost[g]: the least loss that frees at least g GPUs.
    let mut cost = vec![i64::MAX; lacks + 1];
    cost[0] = 0;
    let mut taken = vec![false; givers.len() * (lacks + 1)];
    for (nth, giver) in givers.iter().enumerate() {
        let frees = usize::try_from(giver.gpus).unwrap_or(0);
        for need in (1..=lacks).rev() {
            let before = cost[need.saturating_sub(frees)];
            if before != i64::MAX && before.saturating_add(giver.loss) < cost[need] {
                cost[need] = before + giver.loss;
                taken[nth * (lacks + 1) + need] = true;
            }
        }
    }
    let mut chosen = Vec::new();
    let mut need = lacks;
    for nth in (0..givers.len()).rev() {
        if need > 0 && taken[nth * (lacks + 1) + need] {
            chosen.push(nth);
            need = need.saturating_sub(usize::try_from(givers[nth].gpus).unwrap_or(0));
        }
    }
    Some(chosen)
}

fn cheapest_a_gpu(givers: &[Giver], lacks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..givers.len()).collect();
    order.sort_by_key(|&nth| (givers[nth].loss / givers[nth].gpus.max(1), nth));
    let mut left = i64::try_from(lacks).unwrap_or(i64::MAX);
    order.retain(|&nth| {
        let needed = left > 0;
        left -= if needed { givers[nth].gpus } else { 0 };
        needed
    });
    order
}

fn give_way(state: &mut State<'_>, who: Who, ops: &mut Vec<Op>) {
    match who {
        Who::Victim(victim) => {
            state.stop(victim, true);
            ops.push(Op::Stopped(victim));
        }
        Who::Job(job) => {
            if let Some(seat) = state.unseat(job) {
                ops.push(Op::Unseated(job, seat));
            }
        }
    }
}

/// Has others on the island give way until a job may have its seat.
fn free_watts(state: &mut State<'_>, job: usize, seat: Seat, ops: &mut Vec<Op>) -> bool {
    let pool = seat.pool();
    let mut left: Option<Vec<Giver>> = None;
    while let Some(refusal) = state.refusal(job, seat) {
        if matches!(
            refusal,
            Refusal::Block | Refusal::Gpus | Refusal::Beside | Refusal::Sites | Refusal::Group
        ) {
            return false;
        }
        let left = left.get_or_insert_with(|| {
            let (first, end) = state.pools_of[state.problem.site_of(pool)];
            let same = |other: &usize| {
                refusal != Refusal::Module
                    || state.problem.pools[*other].module == state.problem.pools[pool].module
            };
            let mut givers: Vec<Giver> =
                (first..end).filter(same).flat_map(|other| givers(state, other, seat)).collect();
            givers.sort_by_key(|giver| std::cmp::Reverse(giver.loss / giver.gpus.max(1)));
            givers
        });
        let Some(next) = left.pop() else { return false };
        give_way(state, next.who, ops);
    }
    true
}

/// Lets go on, dearest first, who need not have given way.
fn thin(state: &mut State<'_>, ops: &mut Vec<Op>) {
    let mut order: Vec<(i64, usize)> = Vec::new();
    for (nth, op) in ops.iter().enumerate() {
        match *op {
            Op::Stopped(victim) => order.push((state.problem.victims[victim].cost, nth)),
            Op::Unseated(job, seat) => order.push((state.earns(job, seat), nth)),
            Op::Seated(_) | Op::Nothing => {}
        }
    }
    order.sort_by_key(|&(loss, nth)| (std::cmp::Reverse(loss), nth));
    for (_, nth) in order {
        match ops[nth] {
            Op::Stopped(victim) => {
                state.stop(victim, false);
                if state.fits_after(state.problem.victims[victim].pool) {
                    ops[nth] = Op::Nothing;
                } else {
                    state.stop(victim, true);
                }
            }
            Op::Unseated(job, seat) if state.refusal(job, seat).is_none() => {
                state.seat(job, seat);
                ops[nth] = Op::Nothing;
            }
            Op::Unseated(..) | Op::Seated(_) | Op::Nothing => {}
        }
    }
    ops.retain(|op| !matches!(op, Op::Nothing));
}

/// Other seats for those who gave way, in their order: free ones, or down to a depth those of others.
fn reseat(state: &mut State<'_>, ranks: &Ranks, ops: &mut Vec<Op>, depth: usize) {
    let mut homeless: Vec<usize> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Unseated(job, _) => Some(*job),
            Op::Stopped(_) | Op::Seated(_) | Op::Nothing => None,
        })
        .collect();
    homeless.sort_unstable();
    for job in homeless {
        let pools = state.pools_by_gpu[state.problem.jobs[job].gpu].clone();
        let gpus = state.problem.jobs[job].gpus;
        let first = job.wrapping_mul(7_919) % pools.len().max(1);
        let near = pools.iter().cycle().skip(first).take(pools.len().min(SCANNED)).copied();
        let wanted = &state.problem.jobs[job];
        let open = |pool: &usize| state.free[*pool][NOW] >= gpus && state.binds(wanted, *pool).is_none();
        let free = near.filter(open).take(PLACES);
        let free: Vec<usize> = free.collect();
        let mut best: Option<(i64, usize)> = None;
        for pool in free {
            let gain = state.gain(job, Seat::Starts(pool)).filter(|&gain| gain > 0);
            if let Some(gain) = gain.filter(|&gain| best.is_none_or(|(most, _)| gain > most)) {
                best = Some((gain, pool));
            }
        }
        if let Some((_, pool)) = best {
            state.seat(job, Seat::Starts(pool));
            ops.push(Op::Seated(job));
        } else if depth > 0 {
            chain(state, ranks, job, depth - 1, ops);
        }
    }
}

/// Has one who gave way take somebody else's seat in turn, where that is worth it.
fn chain(state: &mut State<'_>, ranks: &Ranks, job: usize, depth: usize, ops: &mut Vec<Op>) {
    let before = state.worth();
    let mut best: Option<(i64, usize)> = None;
    for &pool in ranks.known(state, job).iter().take(LINKS) {
        let Some(sub) = attempt(state, ranks, job, Seat::Starts(pool), depth) else { continue };
        let gain = state.worth() - before;
        undo(state, sub);
        if gain > 0 && best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, pool));
        }
    }
    if let Some(sub) = best.and_then(|(_, pool)| attempt(state, ranks, job, Seat::Starts(pool), depth)) {
        ops.extend(sub);
    }
}

fn undo(state: &mut State<'_>, ops: Vec<Op>) {
    for op in ops.into_iter().rev() {
        match op {
            Op::Stopped(victim) => state.stop(victim, false),
            Op::Unseated(job, seat) => state.seat(job, seat),
            Op::Seated(job) => {
                state.unseat(job);
            }
            Op::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(givers: &[(i64, i64)], lacks: i64, expected: Option<&[usize]>) {
        let who = Who::Job(0);
        let givers: Vec<_> = givers.iter().map(|&(loss, gpus)| Giver { loss, gpus, who }).collect();
        let mut found = cover(&givers, lacks);
        found.iter_mut().for_each(|chosen| chosen.sort_unstable());
        assert_eq!(found.as_deref(), expected, "{lacks} of {givers:?}");
    }

    #[test]
    fn the_cheapest_cover_is_found() {
        check(&[(5, 4), (3, 2), (1, 2)], 4, Some(&[1, 2]));
        check(&[(3, 4), (3, 2), (1, 2)], 4, Some(&[0]));
        check(&[(5, 4), (3, 2)], 7, None);
        check(&[(5, 4)], 0, Some(&[]));
        check(&[], -3, Some(&[]));
    }
}
