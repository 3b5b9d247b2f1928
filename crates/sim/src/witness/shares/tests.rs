//! Honest and sabotaged books of invariant 5.

use model::Work;
use model::ledger::Shares as SharesLine;

use super::super::testing::*;
use super::super::{Summary, Witness};
use super::*;

/// Shares of 10 hashes each.
fn tally(shares: u64) -> Tally {
    Tally { shares, work: Work(u128::from(shares) * 10) }
}

/// What the pool credits for so many: 12 hashes each.
fn credited(shares: u64) -> Tally {
    Tally { shares, work: Work(u128::from(shares) * 12) }
}

/// An honest edge: 100 received, 70 accepted, 4 in flight.
fn edge() -> EdgeTally {
    EdgeTally {
        received: tally(100),
        rejected: tally(5),
        counted: tally(15),
        keep_alive: tally(2),
        accepted: tally(70),
        refused: tally(1),
        unknown: tally(3),
        in_flight: tally(4),
        sealed: false,
    }
}

fn pool(accepted: u64) -> PoolTally {
    PoolTally { accepted: credited(accepted), ..PoolTally::default() }
}

fn seal(witness: &mut Witness, sequence: u64, ends: &[(ShareEnd, u64)]) {
    let line = |(end, count): &(ShareEnd, u64)| {
        Line::Shares(SharesLine {
            group: group_id(),
            worker: "w".into(),
            end: end.clone(),
            count: *count,
            work: tally(*count).work,
            credited: credited(*count).work,
            scale: 1,
        })
    };
    let lines = ends.iter().map(line).collect();
    witness.ledger(&Segment { module: module_id(), sequence, from: at(0), to: at(1), lines });
}

fn honest_ends() -> Vec<(ShareEnd, u64)> {
    vec![
        (ShareEnd::Rejected("stale".into()), 5),
        (ShareEnd::Counted, 15),
        (ShareEnd::KeepAlive, 2),
        (ShareEnd::Accepted, 40),
        (ShareEnd::Accepted, 30),
        (ShareEnd::Refused("late".into()), 1),
        (ShareEnd::Unknown, 3),
    ]
}

/// Seals the ends, then tells the books.
fn run(ends: &[(ShareEnd, u64)], edge: EdgeTally, pool: PoolTally) -> Summary {
    let mut witness = witness();
    seal(&mut witness, 1, ends);
    witness.shares(&module_id(), at(2), edge, pool);
    witness.finish()
}

fn subject() -> String {
    format!("module {} shares", module_id())
}

#[test]
fn honest_books_pass_before_and_after_sealing() {
    for accepted in [70, 73, 77] {
        check(&run(&[(ShareEnd::Accepted, 60)], edge(), pool(accepted)), 5, &[]);
    }
    let sealed = EdgeTally { sealed: true, ..edge() };
    check(&run(&honest_ends(), sealed, pool(72)), 5, &[]);
}

#[test]
fn an_edge_whose_ends_do_not_add_up_fires() {
    let lost = EdgeTally { counted: tally(14), ..edge() };
    check(&run(&[], lost, pool(70)), 5, &[&subject()]);
    let lighter = EdgeTally { counted: Tally { shares: 15, work: Work(149) }, ..edge() };
    check(&run(&[], lighter, pool(70)), 5, &[&subject()]);
}

#[test]
fn a_ledger_that_counts_more_than_the_pool_accepted_fires() {
    check(&run(&[(ShareEnd::Accepted, 140)], edge(), pool(70)), 5, &[&subject()]);
}

#[test]
fn a_pool_that_accepted_what_the_edge_never_forwarded_fires() {
    check(&run(&[], edge(), pool(78)), 5, &[&subject()]);
    let sealed = EdgeTally { sealed: true, ..edge() };
    check(&run(&honest_ends(), sealed, pool(78)), 5, &[&subject()]);
}

#[test]
fn a_pool_that_credits_more_than_the_ledger_fires() {
    let sealed = EdgeTally { sealed: true, in_flight: tally(0), received: tally(96), ..edge() };
    check(&run(&honest_ends(), sealed, pool(73)), 5, &[]);
    let generous =
        PoolTally { accepted: Tally { shares: 73, work: Work(73 * 12 + 1) }, ..PoolTally::default() };
    check(&run(&honest_ends(), sealed, generous), 5, &[&subject()]);
}

#[test]
fn a_sealed_ledger_that_misses_a_share_fires() {
    let mut ends = honest_ends();
    ends[1].1 = 14;
    let sealed = EdgeTally { sealed: true, ..edge() };
    check(&run(&ends, sealed, pool(72)), 5, &[&subject()]);
}

#[test]
fn refusals_that_verification_excludes_fire_once_each() {
    let mut witness = witness();
    let refused = |duplicate, low_difficulty| PoolTally { duplicate, low_difficulty, ..pool(70) };
    for pool in [refused(0, 0), refused(1, 0), refused(1, 0), refused(1, 2)] {
        witness.shares(&module_id(), at(2), edge(), pool);
    }
    check(&witness.finish(), 5, &[&subject(), &subject()]);
}

#[test]
fn a_repeated_segment_counts_once_and_a_restarted_edge_is_judged_by_its_ledger() {
    let mut witness = witness();
    witness.shares(&module_id(), at(1), edge(), pool(70));
    seal(&mut witness, 1, &[(ShareEnd::Accepted, 70)]);
    seal(&mut witness, 1, &[(ShareEnd::Accepted, 70)]);
    let anew = EdgeTally { received: tally(10), accepted: tally(10), ..EdgeTally::default() };
    witness.shares(&module_id(), at(2), anew, pool(80));
    seal(&mut witness, 2, &[(ShareEnd::Accepted, 10)]);
    witness.shares(&module_id(), at(3), EdgeTally { sealed: true, ..anew }, pool(80));
    check(&witness.finish(), 5, &[]);
}

/// An agent that was killed and started: its edge counts anew, the ledger and the pool go on.
#[test]
fn the_ledger_of_a_restarted_edge_holds_at_least_what_the_edge_counts() {
    let anew = EdgeTally {
        received: tally(10),
        counted: tally(2),
        accepted: tally(8),
        sealed: true,
        ..EdgeTally::default()
    };
    let judge = |starts: usize, after: &[(ShareEnd, u64)], pool: PoolTally| {
        let mut witness = witness();
        witness.agent(&module_id(), at(0), true);
        seal(&mut witness, 1, &[(ShareEnd::Accepted, 70), (ShareEnd::Unknown, 2)]);
        for start in 1..starts {
            witness.agent(&module_id(), at(start as i64), false);
            witness.agent(&module_id(), at(start as i64), true);
        }
        seal(&mut witness, 2, after);
        witness.shares(&module_id(), at(3), anew, pool);
        witness.finish()
    };
    let honest = [(ShareEnd::Counted, 2), (ShareEnd::Accepted, 8)];
    for accepted in [78, 80] {
        check(&judge(2, &honest, pool(accepted)), 5, &[]);
    }
    check(&judge(1, &honest, pool(78)), 5, &[&subject()]);
    check(&judge(2, &honest, pool(81)), 5, &[&subject()]);
    check(&judge(2, &[(ShareEnd::Counted, 1), (ShareEnd::Accepted, 8)], pool(78)), 5, &[&subject()]);
    check(&judge(2, &[(ShareEnd::Counted, 2)], pool(78)), 5, &[&subject()]);
}
