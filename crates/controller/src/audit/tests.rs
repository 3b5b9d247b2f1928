//! Audits on disk: what was drawn stays drawn, and what was paid is counted once.

#![allow(clippy::unwrap_used)]

use api::agent as sent;
use model::ledger::Shares;
use model::{MinerGroupId, Time};
use stratum::commit::{Claim, Digest, Kind, Node};
use stratum::hash::HeaderHash;

use super::*;
use crate::testing::{TestDir, module_id};

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn claim(sequence: u64) -> Note {
    let root = Node { digest: digest(2), count: 5, sum: Work(5 << 32), max: HeaderHash([3; 32]) };
    Note::Claim(Claim { sequence, kind: Kind::Batch, previous: digest(1), root })
}

#[test]
fn a_claim_keeps_its_seed_across_a_restart() {
    let dir = TestDir::new("audits");
    let module = module_id("m1");
    let audits = Audits::open(dir.path()).unwrap();
    assert_eq!(audits.summary(&module), None);
    let asked = audits.take(&module, &claim(7), digest(9)).unwrap().unwrap();
    let again = Audits::open(dir.path()).unwrap();
    assert_eq!(again.taken(&module), 7);
    assert_eq!(again.open_challenges(&module), Vec::from_iter(asked));
    assert_eq!(again.take(&module, &claim(7), digest(10)).unwrap(), Ok(asked));
    assert_eq!(again.judge(&module, 7, &Answer::Lost).unwrap(), Some(Verdict::Lost));
    let summary = Audits::open(dir.path()).unwrap().summary(&module).unwrap();
    assert_eq!(summary.provisional.shares, 5);
    assert_eq!(summary.findings, []);
}

#[test]
fn misconduct_is_kept_and_shown() {
    let dir = TestDir::new("audits-misconduct");
    let module = module_id("m1");
    let audits = Audits::open(dir.path()).unwrap();
    audits.take(&module, &claim(7), digest(9)).unwrap().unwrap();
    let Note::Claim(batch) = claim(8) else { unreachable!() };
    let closing = Note::Claim(Claim { kind: Kind::Closing { batches: vec![] }, ..batch });
    assert_eq!(audits.take(&module, &closing, digest(9)).unwrap(), Err(Misconduct::Sums));
    let summary = Audits::open(dir.path()).unwrap().summary(&module).unwrap();
    assert_eq!(summary.findings[0].code, "share-claim-refused");
    assert_eq!(summary.totals.failed.shares, 5);
}

#[test]
fn a_damaged_file_is_told() {
    let dir = TestDir::new("audits-damage");
    let module = module_id("m1");
    Audits::open(dir.path()).unwrap().take(&module, &claim(7), digest(9)).unwrap().unwrap();
    std::fs::write(file::path(dir.path(), &module), b"{\"schema\":1,").unwrap();
    let error = Audits::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("move the file away"), "{error}");
}

#[test]
fn the_ledgers_accepted_shares_are_counted_once() {
    let dir = TestDir::new("audits-ledger");
    let audits = Audits::open(dir.path()).unwrap();
    let shares = |end: ShareEnd, count: u64| {
        let work = Work(u128::from(count) << 20);
        let (group, worker) = (MinerGroupId::new("g").unwrap(), "a.b".into());
        Line::Shares(Shares { group, worker, end, count, work, credited: work, scale: 1 })
    };
    let lines =
        vec![shares(ShareEnd::Accepted, 3), shares(ShareEnd::Counted, 4), shares(ShareEnd::Accepted, 2)];
    let segment = Segment { module: module_id("m1"), sequence: 4, from: Time(0), to: Time(1), lines };
    audits.on_segment(&segment).unwrap();
    audits.on_segment(&segment).unwrap();
    audits.take(&module_id("m1"), &claim(7), digest(9)).unwrap().unwrap();
    let paid = audits.summary(&module_id("m1")).unwrap().paid;
    assert_eq!(paid, Sum { shares: 5, work: Work(5 << 20) });
}

#[test]
fn what_does_not_decode_names_its_field() {
    let check = |note: sent::ShareNote, expected: &str| {
        assert_eq!(wire::note(note).unwrap_err().path, expected);
    };
    let previous = vec![1; 32];
    let batch = |root: Vec<u8>| Some(sent::share_note::Kind::Batch(root));
    check(sent::ShareNote { sequence: 1, previous: vec![1; 31], kind: batch(vec![]) }, "share_note.previous");
    check(sent::ShareNote { sequence: 1, previous: previous.clone(), kind: None }, "share_note.kind");
    check(sent::ShareNote { sequence: 1, previous, kind: batch(vec![0; 83]) }, "share_note.root");
    let opening = sent::ShareOpening { leaf: vec![0; 5], path: vec![] };
    let proof = sent::ShareProof { jobs: vec![], openings: vec![opening] };
    let kind = Some(sent::share_answer::Kind::Proof(proof));
    let error = wire::answer(sent::ShareAnswer { sequence: 1, kind }).unwrap_err();
    assert_eq!(error.path, "share_answer.proof.openings");
    let lost = Some(sent::share_answer::Kind::Lost(sent::Lost {}));
    assert_eq!(wire::answer(sent::ShareAnswer { sequence: 1, kind: lost }), Ok(Answer::Lost));
}
