//! Pools by the GPUs that they have both room and watts for, tightest first, so that a fleet of thousands is not searched for each job.
//!
//! A search moves pools between rooms all the time, so each room is a set of bits: moving a pool sets one and clears one. Pools with
//! room for [`MOST`] GPUs or more stand together, in order of index. Read next: `greedy`, which asks it.

use super::problem::Job;
use super::state::State;

/// Rooms told apart: a shelf of 4,096 × 8,000 pools would take 4 MB if every room were in use.
const MOST: usize = 4_096;
/// Bits of a word.
const WORD: usize = 64;

/// Pools by the GPUs they have room and watts for.
pub(crate) struct Index {
    by_gpu: Vec<Shelf>,
    room: Vec<usize>,
}

impl Index {
    pub(crate) fn new(state: &State<'_>) -> Self {
        let pools = state.problem.pools.len();
        let room: Vec<usize> = (0..pools).map(|pool| room(state, pool)).collect();
        let mut by_gpu = vec![Shelf::default(); state.pools_by_gpu.len()];
        for (shelf, of_type) in by_gpu.iter_mut().zip(&state.pools_by_gpu) {
            of_type.iter().for_each(|&pool| shelf.insert(room[pool], pool, pools));
        }
        Self { by_gpu, room }
    }

    /// Follows a change at the island of a pool.
    pub(crate) fn update(&mut self, state: &State<'_>, pool: usize) {
        let (first, end) = state.pools_of[state.problem.site_of(pool)];
        for pool in first..end {
            let now = room(state, pool);
            let before = self.room[pool];
            if now != before {
                let shelf = &mut self.by_gpu[state.problem.pools[pool].gpu];
                shelf.remove(before, pool);
                shelf.insert(now, pool, self.room.len());
                self.room[pool] = now;
            }
        }
    }

    /// Pools with room for a job, tightest first.
    pub(crate) fn fitting(&self, job: &Job) -> impl Iterator<Item = usize> + use<'_> {
        let least = usize::try_from(job.gpus).unwrap_or(0).min(MOST);
        self.by_gpu.get(job.gpu).into_iter().flat_map(move |shelf| shelf.with_room(least))
    }
}

fn room(state: &State<'_>, pool: usize) -> usize {
    let limits = &state.problem.sites[state.problem.site_of(pool)].limits;
    usize::try_from(state.headroom(pool, limits[0].max(limits[1]))).unwrap_or(0).min(MOST)
}

/// Pools of one type.
#[derive(Clone, Default)]
struct Shelf {
    rooms: Vec<Bits>,
    /// Rooms in which some pool stands.
    filled: Vec<u64>,
}

impl Shelf {
    fn insert(&mut self, room: usize, pool: usize, pools: usize) {
        if self.rooms.len() <= room {
            self.rooms.resize_with(room + 1, Bits::default);
            self.filled.resize(room / WORD + 1, 0);
        }
        self.rooms[room].insert(pool, pools);
        self.filled[room / WORD] |= 1 << (room % WORD);
    }

    fn remove(&mut self, room: usize, pool: usize) {
        if self.rooms[room].remove(pool) {
            self.filled[room / WORD] &= !(1 << (room % WORD));
        }
    }

    /// Pools with at least so much room, tightest first.
    fn with_room(&self, least: usize) -> impl Iterator<Item = usize> + use<'_> {
        let rooms = ones(&self.filled).skip_while(move |room| *room < least);
        rooms.flat_map(|room| self.rooms[room].iter())
    }
}

/// A set of pools, and which of its words are not empty.
#[derive(Clone, Default)]
struct Bits {
    words: Vec<u64>,
    filled: Vec<u64>,
}

impl Bits {
    fn insert(&mut self, at: usize, count: usize) {
        if self.words.is_empty() {
            self.words = vec![0; count.div_ceil(WORD)];
            self.filled = vec![0; self.words.len().div_ceil(WORD)];
        }
        self.words[at / WORD] |= 1 << (at % WORD);
        self.filled[at / WORD / WORD] |= 1 << (at / WORD % WORD);
    }

    /// Whether it is empty now.
    fn remove(&mut self, at: usize) -> bool {
        self.words[at / WORD] &= !(1 << (at % WORD));
        if self.words[at / WORD] == 0 {
            self.filled[at / WORD / WORD] &= !(1 << (at / WORD % WORD));
        }
        self.filled.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> + use<'_> {
        ones(&self.filled).flat_map(|word| Ones(self.words[word]).map(move |bit| word * WORD + bit))
    }
}

/// Places of the bits that are set.
fn ones(words: &[u64]) -> impl Iterator<Item = usize> + use<'_> {
    words.iter().enumerate().flat_map(|(nth, &word)| Ones(word).map(move |bit| nth * WORD + bit))
}

/// The bits of one word, lowest first.
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros();
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            bit as usize
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Beside an ordered set of (room, pool) that is changed in the same way.
    #[test]
    fn pools_stand_in_order_of_room_and_index_however_they_move() {
        const POOLS: usize = 5_000;
        let (mut shelf, mut expected) = (Shelf::default(), BTreeSet::new());
        let mut at = vec![None; POOLS];
        let mut seed = 7usize;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (pool, room) = ((seed >> 33) % POOLS, (seed >> 20) % 130);
            if let Some(before) = at[pool].replace(room) {
                shelf.remove(before, pool);
                expected.remove(&(before, pool));
            }
            shelf.insert(room, pool, POOLS);
            expected.insert((room, pool));
        }
        for least in [0, 1, 63, 64, 100, 129, 130, MOST] {
            let pools: Vec<usize> = expected.range((least, 0)..).map(|&(_, pool)| pool).collect();
            assert_eq!(shelf.with_room(least).collect::<Vec<_>>(), pools, "from {least} on");
        }
    }
}
