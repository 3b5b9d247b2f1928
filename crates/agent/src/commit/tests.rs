//! Commitments on a disk that is killed, torn and wiped.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use stratum::commit::auditor::{Auditor, Verdict};
use stratum::commit::{Kind, proof};
use stratum::job::{Job, Slice};
use stratum::target::Target;
use stratum::uint256::U256;

use super::*;

const SEED: Digest = Digest([7; 32]);
const START_MS: u64 = 1_700_000_000_000;

pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> TestDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("flareshift-commit-{}-{number}", std::process::id()));
        TestDir(dir)
    }

    fn logs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A job on the block of that number, whose shares take eight hashes.
fn template(block: u64) -> Template {
    with_mask(block, 0)
}

fn with_mask(block: u64, mask: u32) -> Template {
    let job = Job::keep_alive(block, 0x2000_0000, 0x1d00_ffff, 9).unwrap();
    let slice = Slice { extranonce1: vec![1, 2], extranonce2_size: 4 };
    Template::new(&job, &slice, mask, Target::new(U256::MAX.shift_right(3)).unwrap()).unwrap()
}

fn job(block: u64) -> Seen {
    Seen::Job { session: 1, job_id: format!("j{block}"), template: Box::new(template(block)) }
}

fn shares(block: u64, count: usize) -> Vec<Seen> {
    shares_of(block, &template(block), 0x2000_0000, count)
}

fn shares_of(block: u64, template: &Template, version: u32, count: usize) -> Vec<Seen> {
    let found = (0u32..).filter_map(|nonce| {
        let (ntime, extranonce2) = (9, vec![0; 4]);
        let share = Share { job: template.digest(), extranonce2: extranonce2.clone(), version, ntime, nonce };
        let leaf = stratum::commit::Leaf::of(share, template);
        let outgoing = Outgoing {
            session: 1,
            job_id: format!("j{block}").into(),
            extranonce2: extranonce2.as_slice().into(),
            ntime,
            nonce,
            version,
            block: false,
        };
        leaf.check(template).is_ok().then_some(Seen::Accepted(outgoing, leaf.hash))
    });
    found.take(count).collect()
}

/// An agent that saw shares of block 1, sealed them in three batches, and went on to block 2.
pub(crate) fn claimed(dir: &TestDir) -> (Commits, Intake) {
    let (commits, intake) = open(&dir.0, None).unwrap();
    let take = |seen, after_s: u64| intake.shared.take(seen, START_MS + 1_000 * after_s).unwrap();
    take(vec![job(1)], 0);
    let mut all = shares(1, 30);
    for part in 0..3 {
        take(all.split_off(all.len() - 10), 40 * part);
        take(Vec::new(), 40 * part + 35);
    }
    take(vec![job(2)], 130);
    take(Vec::new(), 250);
    (commits, intake)
}

/// An agent that was given so many jobs, and found nothing.
pub(crate) fn with_jobs(dir: &TestDir, count: usize) -> (Commits, Intake) {
    let (commits, intake) = open(&dir.0, None).unwrap();
    intake.shared.take((0..count as u64).map(job).collect(), START_MS).unwrap();
    (commits, intake)
}

fn kinds(notes: &[Note]) -> String {
    let kind = |note: &Note| match note {
        Note::Job { .. } => 'j',
        Note::Claim(claim) if claim.kind == Kind::Batch => 'b',
        Note::Claim(_) => 'c',
    };
    notes.iter().map(kind).collect()
}

#[test]
fn what_was_accepted_is_claimed_and_passes() {
    let dir = TestDir::new();
    let (commits, _intake) = claimed(&dir);
    let notes = commits.notes(0, 100);
    assert_eq!(kinds(&notes), "jbbbjc");
    let mut auditor = Auditor::default();
    for note in &notes {
        let taken = auditor.take(note, model::Time(0), SEED).unwrap();
        let Some(challenge) = taken else { continue };
        let answer = commits.answer(challenge.sequence, &challenge.seed, challenge.samples);
        let verdict = auditor.on_answer(challenge.sequence, &answer, model::Time(0));
        assert_eq!(verdict, Some(Verdict::Passed));
    }
    assert_eq!(auditor.totals().proven.shares, 30);
    assert_eq!(commits.unclaimed(), 0);
}

#[test]
fn a_killed_agent_answers_for_what_it_claimed() {
    let dir = TestDir::new();
    let before = claimed(&dir).0.notes(0, 100);
    // Nothing was closed or flushed by hand: the files are as kill -9 leaves them.
    let (commits, _intake) = open(&dir.0, None).unwrap();
    assert_eq!(commits.notes(0, 100), before);
    let Some(Note::Claim(closing)) = before.last() else { panic!("the last note is the closing") };
    let Answer::Shown(shown) = commits.answer(closing.sequence, &SEED, 64) else { panic!("lost") };
    let judged = proof::judge(&closing.root, &closing.previous, &SEED, 64, &shown, |_| true);
    assert!(judged.is_ok(), "{judged:?}");
}

#[test]
fn a_torn_end_costs_only_what_was_not_told() {
    let dir = TestDir::new();
    let before = claimed(&dir).0.notes(0, 100);
    let path = dir.logs().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&path).unwrap();
    // The closing's frame is the last: half of it, and a frame of another that was begun.
    for (cut, tail, left) in [(0, &b"\0\0\0\x40abcd"[..], 6), (3, b"", 5), (3, b"xyz", 5)] {
        fs::write(&path, [&whole[..whole.len() - cut], tail].concat()).unwrap();
        let (commits, intake) = open(&dir.0, None).unwrap();
        let notes = commits.notes(0, 100);
        assert_eq!(notes.len(), left);
        assert!(notes.iter().all(|note| before.contains(note)));
        // It goes on where it stood: the block is closed again.
        intake.shared.take(Vec::new(), START_MS + 300_000).unwrap();
        assert_eq!(kinds(&open(&dir.0, None).unwrap().0.notes(0, 100)), "jbbbjc");
    }
}

#[test]
fn a_settled_block_leaves_the_disk() {
    let dir = TestDir::new();
    let (commits, _intake) = claimed(&dir);
    let notes = commits.notes(0, 100);
    assert_eq!(dir.logs().len(), 2);
    commits.settled(notes[1].sequence()).unwrap();
    assert_eq!(dir.logs().len(), 2, "a batch alone settles nothing");
    commits.settled(notes[5].sequence()).unwrap();
    assert_eq!(dir.logs().len(), 1);
    assert_eq!(commits.answer(notes[5].sequence(), &SEED, 64), Answer::Lost);
    assert_eq!(kinds(&open(&dir.0, None).unwrap().0.notes(0, 100)), "j");
}

#[test]
fn what_cannot_be_claimed_is_counted() {
    let dir = TestDir::new();
    let (commits, intake) = open(&dir.0, None).unwrap();
    // Its job was never seen.
    intake.shared.take(shares(1, 2), START_MS).unwrap();
    assert_eq!(commits.unclaimed(), 2);
    // The same share twice.
    intake.shared.take(vec![job(1)], START_MS).unwrap();
    intake.shared.take(shares(1, 2), START_MS).unwrap();
    intake.shared.take(shares(1, 2), START_MS).unwrap();
    assert_eq!(commits.unclaimed(), 4);
    // The queue is full.
    let Seen::Accepted(share, hash) = shares(1, 1).remove(0) else { unreachable!() };
    for _ in 0..QUEUE + 5 {
        commits.accepted(share.clone(), hash);
    }
    assert_eq!(commits.unclaimed(), 9);
}

#[test]
fn a_wiped_agent_goes_on_behind_what_was_heard() {
    let dir = TestDir::new();
    let heard = claimed(&dir).0.notes(0, 100).last().unwrap().sequence();
    let empty = TestDir::new();
    let (commits, intake) = open(&empty.0, None).unwrap();
    commits.go_on_behind(heard);
    intake.shared.take(vec![job(3)], START_MS - 5_000).unwrap();
    assert_eq!(commits.notes(heard, 10).len(), 1);
}

#[test]
fn a_settled_block_stays_settled_across_restarts_even_if_its_file_came_back() {
    let dir = TestDir::new();
    let (commits, _intake) = claimed(&dir);
    let closing = commits.notes(0, 100)[5].sequence();
    let log = dir.logs().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let bytes = fs::read(&log).unwrap();
    commits.settled(closing).unwrap();
    // A machine that dies before the removal is on the disk finds the file again.
    fs::write(&log, bytes).unwrap();
    let (commits, intake) = open(&dir.0, None).unwrap();
    assert_eq!((kinds(&commits.notes(0, 100)), log.exists()), ("j".to_owned(), false));
    // The chain goes back to block 1.
    intake.shared.take(vec![job(1)], START_MS + 400_000).unwrap();
    intake.shared.take(shares(1, 40), START_MS + 400_000).unwrap();
    assert_eq!(kinds(&commits.notes(0, 100)), "j");
    assert_eq!(commits.unclaimed(), 40);
}

#[test]
fn a_claim_that_could_not_be_synced_does_not_come_back_under_another_number() {
    let dir = TestDir::new();
    let (commits, intake) = open(&dir.0, None).unwrap();
    intake.shared.take(vec![job(1)], START_MS).unwrap();
    intake.shared.take(shares(1, 5), START_MS).unwrap();
    // The directory is not to be found for a moment, so that it cannot be synced.
    let aside = dir.0.with_extension("aside");
    fs::rename(&dir.0, &aside).unwrap();
    let failed = intake.shared.take(Vec::new(), START_MS + 31_000);
    assert!(failed.unwrap_err().to_string().contains("cannot sync"));
    fs::rename(&aside, &dir.0).unwrap();
    intake.shared.take(Vec::new(), START_MS + 32_000).unwrap();
    let told = commits.notes(0, 100);
    assert_eq!(kinds(&told), "jb");
    assert_eq!(open(&dir.0, None).unwrap().0.notes(0, 100), told, "the same claim under the same number");
}

#[test]
fn shares_of_a_job_before_its_mask_or_its_content_changed_are_claimed() {
    let dir = TestDir::new();
    let (commits, intake) = open(&dir.0, None).unwrap();
    let (wide, narrow) = (with_mask(1, 0x1fff_e000), with_mask(1, 0));
    // All three come under the id "j1": a mask that was narrowed, and another job.
    for template in [wide.clone(), narrow, with_mask(5, 0)] {
        let seen = Seen::Job { session: 1, job_id: "j1".into(), template: Box::new(template) };
        intake.shared.take(vec![seen], START_MS).unwrap();
    }
    intake.shared.take(shares_of(1, &wide, 0x2000_2000, 4), START_MS).unwrap();
    intake.shared.take(shares(1, 4), START_MS).unwrap();
    assert_eq!(commits.unclaimed(), 0);
    intake.shared.take(Vec::new(), START_MS + 31_000).unwrap();
    let batch = commits.notes(0, 100).into_iter().find_map(|note| match note {
        Note::Claim(claim) => Some(claim),
        Note::Job { .. } => None,
    });
    assert_eq!(batch.unwrap().root.count, 8);
}

#[test]
fn shares_that_cannot_be_written_are_counted() {
    let dir = TestDir::new();
    let (commits, intake) = open(&dir.0, None).unwrap();
    fs::remove_dir_all(&dir.0).unwrap();
    let seen = std::iter::once(job(1)).chain(shares(1, 3)).collect();
    assert!(intake.shared.take(seen, START_MS).is_err());
    assert_eq!(commits.unclaimed(), 3);
}

#[test]
fn a_job_is_told_once_it_is_on_the_disk() {
    let dir = TestDir::new();
    let (commits, intake) = open(&dir.0, None).unwrap();
    intake.shared.take(vec![job(1)], START_MS).unwrap();
    assert_eq!(kinds(&commits.notes(0, 100)), "j");
    // Another job of that block, while the directory cannot be synced.
    let aside = dir.0.with_extension("aside");
    fs::rename(&dir.0, &aside).unwrap();
    let seen = Seen::Job { session: 1, job_id: "k".into(), template: Box::new(with_mask(1, 1 << 13)) };
    assert!(intake.shared.take(vec![seen], START_MS + 1_000).is_err());
    assert_eq!(
        kinds(&commits.notes(0, 100)),
        "",
        "a power loss could take it, and its number would come again"
    );
    fs::rename(&aside, &dir.0).unwrap();
    intake.shared.take(Vec::new(), START_MS + 2_000).unwrap();
    let told = commits.notes(0, 100);
    assert_eq!(kinds(&told), "jj");
    // The clock stands back when the machine is there again.
    let (commits, intake) = open(&dir.0, None).unwrap();
    intake.shared.take(vec![job(2)], START_MS - 3_600_000).unwrap();
    let behind = commits.notes(told[1].sequence(), 100);
    assert_eq!(kinds(&behind), "j", "it goes on behind what was told");
}
