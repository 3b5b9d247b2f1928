//! What one share costs, ours beside the plain way and beside SRI's, in one run.
//!
//! `cargo bench -p oracle --profile dist` prints a table. Every way runs in each round, in turn, so that a noisy machine
//! disturbs all alike; the figure is the median over rounds. Every way's answer is checked before it is timed.

use oracle::{Dice, Shape, Stage};
use std::hint::black_box;
use std::time::Instant;
use stratum::batch::{Attempt, hash_all};
use stratum::coinbase::Coinbase;
use stratum::job::{Job, Slice};
use stratum::message::Submission;
use stratum::target::Target;
use stratum::uint256::U256;
use stratum::verify::{NtimeWindow, Rules, check_fields, judge, verify};

/// A whole number of sixteens; below the 4,096 shares at which any peer's duplicate memory would be felt.
const SHARES: usize = 64;
const ROUNDS: usize = 400;

struct Table {
    names: Vec<&'static str>,
    rounds: Vec<Vec<f64>>,
}

impl Table {
    fn time(&mut self, name: &'static str, mut work: impl FnMut()) {
        let begun = Instant::now();
        work();
        let each = begun.elapsed().as_nanos() as f64 / SHARES as f64;
        let index = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.rounds.push(Vec::with_capacity(ROUNDS));
            self.names.len() - 1
        });
        self.rounds[index].push(each);
    }

    fn print(mut self) {
        let medians: Vec<f64> = self.rounds.iter_mut().map(|times| median(times)).collect();
        let (plain, sri) = (medians[0], medians[1]);
        println!("{:<44} {:>9} {:>9} {:>9}", "way", "ns/share", "vs plain", "vs SRI");
        for (name, time) in self.names.iter().zip(medians) {
            println!("{name:<44} {time:>9.0} {:>8.2}x {:>8.2}x", plain / time, sri / time);
        }
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let mut dice = Dice(4);
    let shape = Shape {
        branches: 12,
        script: 90,
        extranonce2_size: 8,
        rolling: true,
        nbits: 0x1702_5ced,
        ntime: 0x6878_b602,
    };
    let target = Target::new(U256::MAX).expect("the easiest target");
    let mut table = Table { names: Vec::new(), rounds: Vec::new() };
    let first = Stage::new(&mut dice, shape, target);
    println!(
        "coinbase {} bytes, {} branches, {SHARES} shares a round, {ROUNDS} rounds",
        first.job().coinb1.len()
            + first.job().coinb2.len()
            + first.slice.extranonce1.len()
            + first.slice.extranonce2_size,
        first.job().branches.len()
    );
    for _ in 0..ROUNDS {
        round(&mut dice, shape, target, &mut table);
    }
    table.print();
}

fn round(dice: &mut Dice, shape: Shape, target: Target, table: &mut Table) {
    let mut stage = Stage::new(dice, shape, target);
    let shares: Vec<Submission> = (0..SHARES).map(|_| submission(dice, &stage)).collect();
    let (job, slice) = (stage.job().clone(), stage.slice.clone());
    let rules = Rules {
        target,
        mask: Some(0x1fff_e000),
        window: NtimeWindow::default(),
        now_unix: u64::from(job.ntime),
    };
    let version = |share: &Submission| job.rolled_version(0x1fff_e000, share.version_bits.unwrap_or(0));
    table.time("plain sha2, full check", || {
        for share in &shares {
            assert!(black_box(verify(&job, &slice, share, &rules)).is_ok());
        }
    });
    table.time("SRI channels_sv2, accept path", || {
        for share in &shares {
            assert!(black_box(stage.their_verdict(share, stage.jobs[0].0, version(share))).is_ok());
        }
    });
    table.time("ours, one at a time", || {
        let coinbase = Coinbase::new(&job, &slice).expect("a coinbase");
        for attempt in attempts(&job, &coinbase, &shares, &rules) {
            let hashed = attempt.hash_with(&attempt.root());
            assert!(black_box(judge(&job, &target, hashed)).is_ok());
        }
    });
    for (name, size) in [("ours, batches of 4", 4), ("ours, batches of 16", 16), ("ours, batches of 64", 64)]
    {
        table.time(name, || {
            let coinbase = Coinbase::new(&job, &slice).expect("a coinbase");
            for part in attempts(&job, &coinbase, &shares, &rules).chunks(size) {
                for hashed in hash_all(part) {
                    assert!(black_box(judge(&job, &target, hashed)).is_ok());
                }
            }
        });
    }
    table.time("ours, one extranonce2 (the miner rolls bits)", || {
        let coinbase = Coinbase::new(&job, &slice).expect("a coinbase");
        let mut attempts = attempts(&job, &coinbase, &shares, &rules);
        let first = attempts[0].extranonce2;
        attempts.iter_mut().for_each(|attempt| attempt.extranonce2 = first);
        assert_eq!(black_box(hash_all(&attempts)).len(), SHARES);
    });
    let coinbase = Coinbase::new(&job, &slice).expect("a coinbase");
    check(&attempts(&job, &coinbase, &shares, &rules), &stage, &shares);
}

fn submission(dice: &mut Dice, stage: &Stage) -> Submission {
    let extranonce2 = (0..stage.slice.extranonce2_size).map(|_| dice.draw() as u8).collect();
    Submission {
        worker: "w".to_owned(),
        job_id: "1".to_owned(),
        extranonce2,
        ntime: stage.job().ntime,
        nonce: dice.word(),
        version_bits: Some(dice.word() & 0x1fff_e000),
    }
}

/// Fields checked, as a session does before it hashes.
fn attempts<'a>(
    job: &'a Job,
    coinbase: &'a Coinbase,
    shares: &'a [Submission],
    rules: &Rules,
) -> Vec<Attempt<'a>> {
    let slice = Slice { extranonce1: Vec::new(), extranonce2_size: shares[0].extranonce2.len() };
    let attempt = |share: &'a Submission| {
        let version = check_fields(job, &slice, share, rules).expect("good fields");
        let (ntime, nonce) = (share.ntime, share.nonce);
        Attempt { job, coinbase, extranonce2: &share.extranonce2, version, ntime, nonce }
    };
    shares.iter().map(attempt).collect()
}

/// All ways gave one answer.
fn check(attempts: &[Attempt<'_>], stage: &Stage, shares: &[Submission]) {
    let batch = hash_all(attempts);
    for ((attempt, hashed), share) in attempts.iter().zip(&batch).zip(shares) {
        let root = stage.job().merkle_root(&stage.slice, &share.extranonce2);
        let plain = stage.job().header(&root, attempt.version, share.ntime, share.nonce).hash();
        assert_eq!(hashed.hash, plain);
    }
}
