//! The fuzz targets' own entries, driven by a seed instead of by coverage: seeds are mutated byte by byte and line by line.
//!
//! 1,500 inputs each; `STRATUM_FUZZ=1000000` makes it long, `STRATUM_SEED` another stream. libFuzzer finds more:
//! docs/benchmarks.md says how to run it.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fuzz/entry.rs"]
mod entry;

const SESSION: &[u8] = include_bytes!("../../../../fuzz/seeds/session.txt");
const POOL: &[u8] = include_bytes!("../../../../fuzz/seeds/pool.txt");

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Lines in another order, left out or said twice; then some bytes changed, cut or put in.
fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let lines: Vec<&[u8]> = seed.split_inclusive(|byte| *byte == b'\n').collect();
    let mut data = Vec::new();
    for index in 0..lines.len() {
        let index = if dice.below(4) == 0 { dice.below(lines.len()) } else { index };
        (0..[1, 1, 1, 0, 2, 9][dice.below(6)]).for_each(|_| data.extend_from_slice(lines[index]));
    }
    for _ in 0..dice.below(12) {
        let at = dice.below(data.len());
        match dice.below(4) {
            0 => data.insert(at, dice.below(256) as u8),
            1 if !data.is_empty() => drop(data.remove(at)),
            2 if !data.is_empty() => data[at] = b"0123456789abcdef\"[]{},:-.\\ntx\n"[dice.below(30)],
            _ => data.truncate(data.len() - dice.below(data.len() / 8)),
        }
    }
    data
}

fn drive(seed: &[u8], entry: fn(&[u8])) {
    let from = number("STRATUM_SEED", 4);
    let mut dice = Dice(from);
    entry(seed);
    entry(&[]);
    for round in 0..number("STRATUM_FUZZ", 1_500) {
        let data = mutate(seed, &mut dice);
        let result = std::panic::catch_unwind(|| entry(&data));
        assert!(result.is_ok(), "seed {from}, round {round}: {:?}", String::from_utf8_lossy(&data));
    }
}

#[test]
fn the_line_codec_survives_anything() {
    drive(SESSION, entry::lines);
}

#[test]
fn the_miners_machine_survives_anything() {
    drive(SESSION, entry::session);
}

#[test]
fn the_pools_machine_survives_anything() {
    drive(POOL, entry::pool);
}
