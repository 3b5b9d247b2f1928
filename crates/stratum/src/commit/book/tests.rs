//! A book through time: batches, closings, restarts.

#![allow(clippy::unwrap_used)]

use super::super::testing::{digest, leaves, template};
use super::*;

const BATCH_MS: u64 = BATCH.millis().cast_unsigned();

/// A book with its events, as the agent's disk has them.
#[derive(Default)]
struct Agent {
    book: Book,
    log: Vec<Event>,
}

impl Agent {
    fn put(&mut self, event: Event) {
        self.log.push(Event::decode(&event.encode()).unwrap());
        self.book.apply(event);
    }

    fn job(&mut self, at_ms: u64, template: &Template) {
        let event = self.book.on_job(at_ms, template.clone()).unwrap();
        self.put(event);
    }

    fn share(&mut self, at_ms: u64, template: &Template, leaf: &Leaf) -> Result<(), Refused> {
        let event = self.book.on_share(at_ms, template.previous(), leaf.hash, leaf.share.clone())?;
        self.put(event);
        Ok(())
    }

    fn tick(&mut self, at_ms: u64) {
        while let Some(event) = self.book.due(at_ms, BATCH) {
            self.put(event);
        }
    }

    fn claims(&self) -> Vec<Claim> {
        let claims = self.book.notes(0, usize::MAX).into_iter();
        claims.filter_map(|note| if let Note::Claim(claim) = note { Some(claim) } else { None }).collect()
    }
}

#[test]
fn a_batch_is_open_as_long_as_its_owner_asks() {
    let job = template(1, 0);
    let mut agent = Agent::default();
    agent.job(1_000, &job);
    for leaf in &leaves(&job, 3, 0) {
        agent.share(2_000, &job, leaf).unwrap();
    }
    let check = |second: u64, batch: Span, expected: bool| {
        assert_eq!(agent.book.due(2_000 + second * 1_000, batch).is_some(), expected, "{second} {batch:?}");
    };
    check(30, BATCH, true);
    check(30, Span::minutes(5), false);
    check(299, Span::minutes(5), false);
    check(300, Span::minutes(5), true);
}

#[test]
fn a_batch_is_sealed_at_its_size_or_its_age() {
    let job = template(1, 0);
    let all = leaves(&job, MAX_BATCH + 3, 0);
    let mut agent = Agent::default();
    agent.job(1_000, &job);
    for leaf in &all[..3] {
        agent.share(2_000, &job, leaf).unwrap();
    }
    agent.tick(2_000 + BATCH_MS - 1);
    assert_eq!(agent.claims(), []);
    agent.tick(2_000 + BATCH_MS);
    assert_eq!(agent.claims().len(), 1);
    for leaf in &all[3..] {
        agent.share(40_000, &job, leaf).unwrap();
    }
    agent.tick(40_000);
    let counts: Vec<u32> = agent.claims().iter().map(|claim| claim.root.count).collect();
    assert_eq!(counts, [3, MAX_BATCH as u32]);
    assert!(agent.claims().iter().all(|claim| claim.kind == Kind::Batch && claim.previous == job.previous()));
}

#[test]
fn a_block_is_closed_when_the_pool_has_left_it() {
    let (old, new) = (template(1, 0), template(2, 0));
    let mut agent = Agent::default();
    agent.job(1_000, &old);
    let all = leaves(&old, 5, 0);
    agent.share(2_000, &old, &all[0]).unwrap();
    agent.tick(600_000);
    assert_eq!(agent.claims().len(), 1, "the pool's latest block stays open");
    agent.job(600_000, &new);
    agent.share(601_000, &old, &all[1]).unwrap(); // it was on its way
    agent.tick(601_000 + CLOSE_MS - 1);
    assert_eq!(agent.share(690_000, &old, &all[2]), Ok(()), "its batch is closed, its block is not");
    agent.tick(690_000 + CLOSE_MS);
    let closing = agent.claims().pop().unwrap();
    let batches: Vec<u64> = agent.claims()[..3].iter().map(|claim| claim.sequence).collect();
    assert_eq!(closing.kind, Kind::Closing { batches });
    assert_eq!(closing.root.count, 3);
    assert_eq!(agent.share(800_000, &old, &all[3]), Err(Refused::Closed));
    assert_eq!(agent.book.on_job(800_000, old.clone()), None);
    assert_eq!(agent.book.block_of(closing.sequence), Some(old.previous()));
    agent.book.forget(&old.previous());
    assert_eq!(agent.book.answer(closing.sequence, &digest(1), 4), Answer::Lost);
}

#[test]
fn a_block_without_shares_is_forgotten() {
    let mut agent = Agent::default();
    agent.job(1_000, &template(1, 0));
    agent.job(2_000, &template(2, 0));
    agent.tick(1_000 + CLOSE_MS);
    assert!(!agent.book.has(&template(1, 0).previous()));
    assert!(agent.book.has(&template(2, 0).previous()));
    assert_eq!(agent.claims(), []);
}

#[test]
fn what_would_not_pass_an_audit_is_not_claimed() {
    let (job, unannounced) = (template(1, 0), template(1, 9));
    let leaf = leaves(&job, 1, 0).remove(0);
    let mut agent = Agent::default();
    assert_eq!(agent.share(0, &job, &leaf), Err(Refused::Closed));
    agent.job(1_000, &job);
    assert_eq!(agent.book.on_job(1_000, job.clone()), None, "known");
    assert_eq!(agent.share(1_000, &unannounced, &leaves(&unannounced, 1, 0)[0]), Err(Refused::UnknownJob));
    let mut wrong = leaf.clone();
    wrong.hash.0[31] ^= 1;
    assert_eq!(agent.share(1_000, &job, &wrong), Err(Refused::Untrue(Untrue::Hash)));
    assert_eq!(agent.share(1_000, &job, &leaf), Ok(()));
    assert_eq!(agent.share(1_000, &job, &leaf), Err(Refused::Duplicate));
}

#[test]
fn a_restart_at_any_event_claims_the_same() {
    let (old, new) = (template(1, 0), template(2, 0));
    let mut agent = Agent::default();
    agent.job(1_000, &old);
    for (second, leaf) in leaves(&old, 40, 0).iter().enumerate() {
        let at_ms = 2_000 + 5_000 * second as u64;
        agent.share(at_ms, &old, leaf).unwrap();
        agent.tick(at_ms);
    }
    agent.job(300_000, &new);
    agent.tick(400_000);
    assert!(agent.claims().len() > 5);
    for cut in 0..=agent.log.len() {
        let mut before = Book::default();
        agent.log[..cut].iter().cloned().for_each(|event| before.apply(event));
        agent.log[cut..].iter().cloned().for_each(|event| before.apply(event));
        assert_eq!(before.notes(0, usize::MAX), agent.book.notes(0, usize::MAX));
    }
    for claim in agent.claims() {
        let part = agent.book.part(claim.sequence);
        let Answer::Shown(proof) = part.answer(claim.sequence, &digest(3), 16) else { panic!("lost") };
        let judged =
            super::super::proof::judge(&claim.root, &claim.previous, &digest(3), 16, &proof, |_| true);
        assert!(judged.is_ok(), "{judged:?}");
    }
}

#[test]
fn notes_come_in_order_and_resume() {
    let job = template(1, 0);
    let mut agent = Agent::default();
    agent.job(1_000, &job);
    agent.job(1_000, &template(1, 1));
    agent.share(2_000, &job, &leaves(&job, 1, 0)[0]).unwrap();
    agent.tick(60_000);
    let all = agent.book.notes(0, 10);
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by_key(Note::sequence));
    assert_eq!(agent.book.notes(all[0].sequence(), 1), all[1..2]);
    assert_eq!(agent.book.notes(all[2].sequence(), 1), []);
}

#[test]
fn numbers_are_times_and_rise_though_the_clock_stands_back() {
    let mut agent = Agent { book: Book::new(0), log: Vec::new() };
    agent.job(5_000, &template(1, 0));
    agent.job(5_000, &template(1, 1));
    agent.job(4_000, &template(1, 2));
    let numbers: Vec<u64> = agent.book.notes(0, 9).iter().map(Note::sequence).collect();
    assert_eq!(numbers, [5_000, 5_001, 5_002]);
    agent.book.go_on_behind(9_000);
    agent.job(6_000, &template(1, 3));
    assert_eq!(agent.book.notes(5_002, 9)[0].sequence(), 9_001);
}

#[test]
fn what_is_never_judged_is_given_up_after_a_day() {
    let (old, new) = (template(1, 0), template(2, 0));
    let mut agent = Agent::default();
    agent.job(1_000, &old);
    agent.share(1_000, &old, &leaves(&old, 1, 0)[0]).unwrap();
    agent.job(2_000, &new);
    agent.tick(100_000);
    assert_eq!(agent.claims().len(), 2);
    assert_eq!(agent.book.excess(100_000 + RETAIN_MS), None);
    assert_eq!(agent.book.excess(100_001 + RETAIN_MS), Some(old.previous()));
}

#[test]
fn a_settled_block_is_not_opened_again_when_the_chain_comes_back() {
    let (old, new) = (template(1, 0), template(2, 0));
    let mut agent = Agent::default();
    agent.job(1_000, &old);
    agent.share(2_000, &old, &leaves(&old, 1, 0)[0]).unwrap();
    agent.job(3_000, &new);
    agent.tick(3_000 + CLOSE_MS);
    let Some(closing) = agent.claims().pop() else { panic!("claimed") };
    assert_eq!(agent.book.block_of(closing.sequence), Some(old.previous()));
    agent.book.forget(&old.previous());
    assert_eq!(agent.book.on_job(200_000, old.clone()), None);
    assert_eq!(agent.share(200_000, &old, &leaves(&old, 2, 0)[1]), Err(Refused::Closed));
    for number in 0..=MAX_SETTLED {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        agent.book.forget(&Digest(bytes));
    }
    assert_eq!(agent.book.settled().count(), MAX_SETTLED);
    assert!(agent.book.on_job(200_000, old).is_some(), "an auditor has forgotten it too by then");
}

#[test]
fn a_pool_that_names_blocks_without_end_fills_no_book() {
    let mut agent = Agent::default();
    for number in 0..=u8::MAX {
        agent.job(1_000, &template(number, 0));
    }
    assert_eq!(agent.book.blocks.len(), MAX_BLOCKS);
    let other = Template::new(
        &crate::job::Job::keep_alive(7, 0x2000_0000, 0x1d00_ffff, 9).unwrap(),
        &crate::job::Slice { extranonce1: vec![1], extranonce2_size: 4 },
        0,
        template(0, 0).target(),
    );
    assert_eq!(agent.book.on_job(1_000, other.unwrap()), None);
    assert!(agent.book.on_job(1_000, template(3, 1)).is_some(), "a known block takes more jobs");
}
