//! Agents, honest and not, before one auditor.

#![allow(clippy::unwrap_used)]

use super::super::book::{BATCH, Refused};
use super::super::leaf::Untrue;
use super::super::proof::{Opening, Proof};
use super::super::sample::positions;
use super::super::testing::{digest, leaves, template, with_bits};
use super::super::tree::Tree;
use super::super::{Book, Event, Leaf, Template};
use super::*;
use proptest::prelude::*;

const AT: Time = Time(1_000_000);

/// An agent that claims whatever it likes, under the numbers 1, 2, 3, …
#[derive(Default)]
struct Agent {
    auditor: Auditor,
    last: u64,
    sparing: bool,
    jobs: Vec<Template>,
    claimed: Vec<(Claim, Vec<Leaf>)>,
}

impl Agent {
    fn new(jobs: &[Template]) -> Agent {
        let mut agent = Agent { jobs: jobs.to_vec(), ..Agent::default() };
        jobs.iter().for_each(|job| agent.announce(job));
        agent
    }

    fn announce(&mut self, job: &Template) {
        self.last += 1;
        let note = Note::Job { sequence: self.last, digest: job.digest(), previous: job.previous() };
        assert_eq!(self.auditor.take(&note, AT, digest(0)), Ok(None));
    }

    /// Claims leaves in the order given, with the root that `change` makes of theirs.
    fn claim(
        &mut self,
        kind: Kind,
        leaves: &[Leaf],
        change: impl Fn(&mut Node),
    ) -> Result<Option<Challenge>, Misconduct> {
        self.last += 1;
        let mut root = Tree::build(leaves).unwrap().root();
        change(&mut root);
        let claim = Claim { sequence: self.last, kind, previous: self.jobs[0].previous(), root };
        self.claimed.push((claim.clone(), leaves.to_vec()));
        let draw = Draw { seed: digest(self.last as u8), sparing: self.sparing };
        self.auditor.take(&Note::Claim(claim), AT, draw)
    }

    fn batch(&mut self, leaves: &[Leaf]) -> Challenge {
        self.claim(Kind::Batch, leaves, |_| {}).unwrap().unwrap()
    }

    fn closing(&mut self, leaves: &[Leaf], batches: &[u64]) -> Result<Option<Challenge>, Misconduct> {
        self.claim(Kind::Closing { batches: batches.to_vec() }, leaves, |_| {})
    }

    /// Opens what is asked for, as well as the leaves allow.
    fn answer(&mut self, challenge: Challenge) -> Verdict {
        let (claim, leaves) =
            self.claimed.iter().find(|(claim, _)| claim.sequence == challenge.sequence).unwrap();
        let tree = Tree::build(leaves).unwrap();
        let open = |position| {
            let index = tree.at(position).unwrap_or(0);
            Opening { leaf: leaves[index].clone(), path: tree.path(index) }
        };
        let openings: Vec<Opening> =
            positions(&challenge.seed, &claim.root, challenge.samples).into_iter().map(open).collect();
        let drawn =
            |job: &&Template| openings.iter().any(|opening: &Opening| opening.leaf.share.job == job.digest());
        let proof = Proof { jobs: self.jobs.iter().filter(drawn).cloned().collect(), openings };
        self.auditor.on_answer(challenge.sequence, &Answer::Shown(proof), AT).unwrap()
    }

    fn codes(&self) -> Vec<String> {
        self.auditor.findings().into_iter().map(|finding| finding.code).collect()
    }
}

fn sum_of(leaves: &[Leaf]) -> Sum {
    Sum { shares: leaves.len() as u64, work: leaves.iter().map(|leaf| leaf.work).sum() }
}

#[test]
fn an_honest_block_is_proven_once_it_is_closed() {
    let job = template(1, 0);
    let all = leaves(&job, 200, 0);
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    all.iter()
        .enumerate()
        .for_each(|(i, leaf)| if i % 2 == 0 { &mut even } else { &mut odd }.push(leaf.clone()));
    let mut agent = Agent::new(std::slice::from_ref(&job));
    for batch in [&even, &odd] {
        let challenge = agent.batch(batch);
        assert_eq!(agent.answer(challenge), Verdict::Passed);
    }
    assert_eq!(agent.auditor.provisional(), sum_of(&all));
    assert_eq!(agent.auditor.totals().proven, Sum::default());
    let closing = agent.closing(&all, &[2, 3]).unwrap().unwrap();
    assert_eq!(agent.answer(closing), Verdict::Passed);
    assert_eq!(agent.auditor.totals().proven, sum_of(&all));
    assert_eq!(agent.auditor.provisional(), Sum::default());
    assert_eq!(agent.auditor.totals().samples, (2 * BATCH_SAMPLES + CLOSING_SAMPLES) as u64);
    assert_eq!(agent.codes(), [""; 0]);
}

/// What was drawn for a claim holds for it, whatever is drawn for later ones and wherever the auditor goes on.
#[test]
fn where_bytes_are_paid_for_fewer_positions_are_drawn_and_stay_drawn() {
    let job = template(1, 0);
    let all = leaves(&job, 200, 0);
    let mut agent = Agent { sparing: true, ..Agent::new(std::slice::from_ref(&job)) };
    let batch = agent.batch(&all);
    assert_eq!(batch.samples, SPARING_BATCH_SAMPLES);
    let kept = serde_json::to_string(&agent.auditor).unwrap();
    agent.auditor = serde_json::from_str(&kept).unwrap();
    assert_eq!(agent.auditor.open(), [batch]);
    assert_eq!(agent.answer(batch), Verdict::Passed);
    let closing = agent.closing(&all, &[batch.sequence]).unwrap().unwrap();
    assert_eq!(closing.samples, SPARING_CLOSING_SAMPLES);
    agent.sparing = false;
    assert_eq!(agent.answer(closing), Verdict::Passed);
    let drawn = SPARING_BATCH_SAMPLES + SPARING_CLOSING_SAMPLES;
    assert_eq!(agent.auditor.totals().samples, drawn as u64);
    assert_eq!(agent.auditor.totals().proven, sum_of(&all));
}

#[test]
fn duplicates_inside_a_batch_are_caught() {
    let job = template(1, 0);
    let once = leaves(&job, 32, 0);
    let twice = [once.clone(), once].concat();
    let mut agent = Agent::new(&[job]);
    let challenge = agent.batch(&twice);
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::Order));
    assert_eq!(agent.codes(), ["share-audit-failed"]);
}

#[test]
fn duplicates_across_batches_are_caught_at_the_closing() {
    let job = template(1, 0);
    let once = leaves(&job, 64, 0);
    let honest_batches = || {
        let mut agent = Agent::new(std::slice::from_ref(&job));
        for _ in 0..2 {
            // Each batch is in order and true by itself.
            let challenge = agent.batch(&once);
            assert_eq!(agent.answer(challenge), Verdict::Passed);
        }
        agent
    };
    // The closing has each share once: then it is not the sum.
    let mut agent = honest_batches();
    assert_eq!(agent.closing(&once, &[2, 3]), Err(Misconduct::Sums));
    // Or has them twice: then it is not in order.
    let mut agent = honest_batches();
    let pairs: Vec<Leaf> = once.iter().flat_map(|leaf| [leaf.clone(), leaf.clone()]).collect();
    let closing = agent.closing(&pairs, &[2, 3]).unwrap().unwrap();
    assert_eq!(agent.answer(closing), Verdict::Failed(Fault::Order));
    assert_eq!(agent.auditor.totals().failed.shares, 128);
    // Or names one batch alone: then the other one is never proven.
    let mut agent = honest_batches();
    let closing = agent.closing(&once, &[2]).unwrap().unwrap();
    assert_eq!(agent.answer(closing), Verdict::Passed);
    assert_eq!(agent.auditor.totals().proven, sum_of(&once));
    assert_eq!(agent.auditor.totals().unproven, sum_of(&once));
    // Or names one twice.
    let mut agent = honest_batches();
    assert_eq!(agent.closing(&pairs, &[2, 2]), Err(Misconduct::Batches));
}

#[test]
fn an_inflated_sum_is_caught() {
    let job = template(1, 0);
    let all = leaves(&job, 64, 0);
    // In the root: nothing opened leads to it.
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let challenge = agent.claim(Kind::Batch, &all, |root| root.sum.0 *= 2).unwrap().unwrap();
    assert!(matches!(agent.answer(challenge), Verdict::Failed(Fault::Root)));
    // In a node below it: what lies in the other subtree cannot be where the sum says, nor lead to the root.
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let (left, right) = (Tree::build(&all[..32]).unwrap().root(), Tree::build(&all[32..]).unwrap().root());
    let heavy = Node { sum: Work(left.sum.0 * 3), ..left };
    let root = Node::join(&heavy, &right).unwrap();
    let challenge = agent.claim(Kind::Batch, &all, |to| *to = root).unwrap().unwrap();
    assert!(matches!(agent.answer(challenge), Verdict::Failed(Fault::Root | Fault::Position)));
}

#[test]
fn one_heavy_fake_leaf_is_caught() {
    let job = template(1, 0);
    let mut all = leaves(&job, 64, 0);
    all[20].work.0 *= 1_000_000;
    let mut agent = Agent::new(&[job]);
    let challenge = agent.batch(&all);
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::Untrue(Untrue::Work)));
}

#[test]
fn an_invented_job_is_caught() {
    let (told, invented) = (template(1, 0), template(1, 1));
    let mut agent = Agent::new(std::slice::from_ref(&told));
    agent.jobs.push(invented.clone());
    let challenge = agent.batch(&leaves(&invented, 8, 0));
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::UnknownJob));
    // Announced only after the claim.
    let mut agent = Agent::new(&[told]);
    agent.jobs.push(invented.clone());
    let challenge = agent.batch(&leaves(&invented, 8, 100));
    agent.announce(&invented);
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::UnknownJob));
    // Announced under another block than its own.
    let other = template(2, 0);
    let mut agent = Agent::new(&[template(1, 0)]);
    agent.last += 1;
    let note =
        Note::Job { sequence: agent.last, digest: other.digest(), previous: template(1, 0).previous() };
    assert_eq!(agent.auditor.take(&note, AT, digest(0)), Ok(None));
    agent.jobs.push(other.clone());
    let challenge = agent.batch(&leaves(&other, 8, 0));
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::OtherBlock));
}

#[test]
fn targets_picked_after_the_search_show_as_luck() {
    // One job under many targets, all announced; each share is claimed under the hardest it meets.
    let jobs: Vec<Template> = (3..12).map(|bits| with_bits(1, 0, bits)).collect();
    let mut agent = Agent::new(&jobs);
    let mut picked: Vec<Leaf> = leaves(&jobs[0], 2_000, 0)
        .into_iter()
        .map(|leaf| {
            let met = jobs.iter().rev().find(|job| job.target().is_met_by(&leaf.hash)).unwrap();
            let share = super::super::Share { job: met.digest(), ..leaf.share };
            Leaf { hash: leaf.hash, work: met.target().work(), share }
        })
        .collect();
    picked.sort_by_key(|leaf| leaf.hash);
    let honest = 2_000 * u128::from(1u32 << 3);
    assert!(picked.iter().map(|leaf| leaf.work.0).sum::<u128>() > 3 * honest, "it pays, if nobody looks");
    for part in picked.chunks(20) {
        let challenge = agent.batch(part);
        assert_eq!(agent.answer(challenge), Verdict::Passed);
    }
    assert_eq!(agent.codes(), ["share-luck"]);
}

#[test]
fn no_claim_is_drawn_from_twice_and_none_comes_with_two_contents() {
    let job = template(1, 0);
    let all = leaves(&job, 8, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let challenge = agent.batch(&all);
    let note = Note::Claim(agent.claimed[0].0.clone());
    assert_eq!(agent.auditor.take(&note, AT, digest(99)), Ok(Some(challenge)), "the first seed stays");
    assert_eq!(agent.auditor.open(), [challenge]);
    let Note::Claim(mut other) = note else { unreachable!() };
    other.root.sum.0 += 1;
    assert_eq!(agent.auditor.take(&Note::Claim(other), AT, digest(99)), Err(Misconduct::Conflict));
    assert_eq!(agent.codes(), ["share-claim-refused"]);
    assert_eq!(agent.answer(challenge), Verdict::Passed);
    assert_eq!(agent.auditor.open(), []);
    assert_eq!(agent.auditor.on_answer(challenge.sequence, &Answer::Lost, AT), None, "judged once");
}

#[test]
fn a_block_is_never_opened_again() {
    let job = template(1, 0);
    let all = leaves(&job, 8, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let challenge = agent.batch(&all);
    assert_eq!(agent.answer(challenge), Verdict::Passed);
    let closing = agent.closing(&all, &[2]).unwrap().unwrap();
    assert_eq!(agent.claim(Kind::Batch, &all, |_| {}), Err(Misconduct::Reopened), "before the answer");
    assert_eq!(agent.answer(closing), Verdict::Passed);
    assert_eq!(agent.claim(Kind::Batch, &all, |_| {}), Err(Misconduct::Reopened), "and after it");
    assert_eq!(agent.auditor.totals().proven, sum_of(&all));
    assert_eq!(agent.codes(), ["share-claim-refused", "share-claim-refused"]);
}

#[test]
fn a_closing_that_holds_a_failed_batch_fails() {
    let job = template(1, 0);
    let mut all = leaves(&job, 8, 0);
    all.iter_mut().for_each(|leaf| leaf.share.nonce ^= 1 << 31);
    let mut agent = Agent::new(&[job]);
    let challenge = agent.batch(&all);
    assert_eq!(agent.answer(challenge), Verdict::Failed(Fault::Untrue(Untrue::Hash)));
    assert_eq!(agent.closing(&all, &[2]), Err(Misconduct::Batches));
    assert_eq!(agent.auditor.totals().proven, Sum::default());
    assert_eq!(agent.auditor.totals().failed, sum_of(&all));
}

#[test]
fn what_was_lost_is_unproven_and_no_lie() {
    let job = template(1, 0);
    let all = leaves(&job, 8, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let challenge = agent.batch(&all);
    assert_eq!(agent.auditor.on_answer(challenge.sequence, &Answer::Lost, AT), Some(Verdict::Lost));
    let closing = agent.closing(&all, &[2]).unwrap().unwrap();
    assert_eq!(agent.auditor.on_answer(closing.sequence, &Answer::Lost, AT), Some(Verdict::Lost));
    assert_eq!(agent.auditor.totals().unproven, sum_of(&all));
    assert_eq!(agent.codes(), [""; 0]);
}

#[test]
fn what_is_never_shown_expires_as_unproven() {
    let job = template(1, 0);
    let all = leaves(&job, 8, 0);
    let mut agent = Agent::new(&[job]);
    agent.batch(&all);
    agent.auditor.expire(AT + PATIENCE);
    assert_eq!(agent.auditor.totals().unproven, Sum::default());
    agent.auditor.expire(AT + PATIENCE + Span::secs(1));
    assert_eq!(agent.auditor.totals().unproven, sum_of(&all));
    assert_eq!(agent.auditor.open(), []);
}

#[test]
fn who_always_says_lost_or_never_closes_is_told() {
    let root = leaves(&template(1, 0), 1, 0)[0].node();
    let found = |auditor: &Auditor| auditor.findings().iter().any(|f| f.code == "share-claims-unshown");
    let claim =
        |sequence, kind, number| Note::Claim(Claim { sequence, kind, previous: numbered(number), root });
    let mut lost = Auditor::default();
    let mut open = Auditor::default();
    for number in 1..=16 {
        assert!(!found(&lost), "{number} blocks say nothing");
        let batch = 2 * number;
        lost.take(&claim(batch, Kind::Batch, number), AT, digest(0)).unwrap();
        lost.take(&claim(batch + 1, Kind::Closing { batches: vec![batch] }, number), AT, digest(0)).unwrap();
        for sequence in [batch, batch + 1] {
            assert_eq!(lost.on_answer(sequence, &Answer::Lost, AT), Some(Verdict::Lost));
        }
        open.take(&claim(batch, Kind::Batch, number), AT, digest(0)).unwrap();
    }
    open.expire(AT + PATIENCE);
    assert!(!found(&open), "they may still come");
    open.expire(AT + PATIENCE + Span::secs(1));
    for auditor in [lost, open] {
        assert!(found(&auditor), "{:?}", auditor.findings());
        assert_eq!((auditor.totals().unproven.shares, auditor.totals().failures), (16, 0));
        assert_eq!(auditor.blocks.len(), 0);
    }
}

/// A block of that number.
fn numbered(number: u64) -> Digest {
    let mut previous = [0; 32];
    previous[..8].copy_from_slice(&number.to_be_bytes());
    Digest(previous)
}

#[test]
fn an_agent_whose_miners_rest_for_days_is_no_cheat_and_costs_no_memory() {
    let mut auditor = Auditor::default();
    for number in 1..10 * MAX_OPEN as u64 {
        let note = Note::Job { sequence: number, digest: digest(1), previous: numbered(number) };
        assert_eq!(auditor.take(&note, AT, digest(0)), Ok(None), "block {number}");
    }
    assert_eq!((auditor.blocks.len(), auditor.closed.len()), (MAX_UNCLAIMED, 0));
    assert_eq!(auditor.findings(), []);
    // What was announced last is still known.
    assert!(auditor.blocks.contains_key(&numbered(10 * MAX_OPEN as u64 - 1)));
}

#[test]
fn shares_without_work_are_not_taken() {
    let job = template(1, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let all = leaves(&job, 3, 0);
    let mut check = |change: &dyn Fn(&mut Node)| {
        assert_eq!(agent.claim(Kind::Batch, &all, change), Err(Misconduct::Nothing));
    };
    check(&|root| root.sum.0 = 0);
    check(&|root| (root.count, root.sum.0) = (100_000, 99_999));
    check(&|root| root.count = 0);
    assert_eq!(agent.auditor.totals().proven, Sum::default());
    assert_eq!(agent.auditor.provisional(), Sum::default());
}

#[test]
fn everything_is_bounded() {
    let mut auditor = Auditor::default();
    let mut taken = Vec::new();
    let root = leaves(&template(1, 0), 1, 0)[0].node();
    for number in 1..MAX_OPEN as u64 + 2 {
        let claim = Claim { sequence: number, kind: Kind::Batch, previous: numbered(number), root };
        taken.push(auditor.take(&Note::Claim(claim), AT, digest(0)));
    }
    assert_eq!(taken.pop(), Some(Err(Misconduct::TooMuch)));
    assert!(taken.iter().all(Result::is_ok));
    let job = template(1, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let all = leaves(&job, 1, 0);
    let heavy = |root: &mut Node| root.count = MAX_BLOCK_SHARES as u32 + 1;
    assert_eq!(agent.claim(Kind::Batch, &all, heavy), Err(Misconduct::TooMuch));
    let inflated = agent.claim(Kind::Batch, &all, |root| root.sum.0 += 1).unwrap().unwrap();
    assert!(matches!(agent.answer(inflated), Verdict::Failed(_)));
    for _ in 0..2 * MAX_FINDINGS {
        assert!(agent.claim(Kind::Batch, &all, heavy).is_err());
    }
    assert_eq!(agent.codes().len(), MAX_FINDINGS);
    assert_eq!(agent.codes()[0], "share-audit-failed", "many of one kind hide none of another");
    agent.auditor.expire(AT + REMEMBERED + Span::secs(1));
    assert_eq!(agent.codes().len(), 0);
}

#[test]
fn a_real_book_passes_and_its_auditor_survives_a_restart() {
    let (old, new) = (template(1, 0), template(2, 0));
    let mut book = Book::new(0);
    let mut auditor = Auditor::default();
    let put = |book: &mut Book, event| book.apply(event);
    let event = book.on_job(1_000, old.clone()).unwrap();
    put(&mut book, event);
    for (second, leaf) in leaves(&old, 300, 0).into_iter().enumerate() {
        let at_ms = 2_000 + 1_000 * second as u64;
        let event = book.on_share(at_ms, old.previous(), leaf.hash, leaf.share).unwrap();
        put(&mut book, event);
        while let Some(event) = book.due(at_ms, BATCH) {
            put(&mut book, event);
        }
    }
    let event = book.on_job(310_000, new).unwrap();
    put(&mut book, event);
    while let Some(event) = book.due(500_000, BATCH) {
        put(&mut book, event);
    }
    loop {
        let notes = book.notes(auditor.taken(), 3);
        for note in &notes {
            auditor.take(note, AT, digest(note.sequence() as u8)).unwrap();
        }
        let text = serde_json::to_vec(&auditor).unwrap();
        auditor = serde_json::from_slice(&text).unwrap();
        for Challenge { sequence, seed, samples } in auditor.open() {
            let verdict = auditor.on_answer(sequence, &book.answer(sequence, &seed, samples), AT);
            assert_eq!(verdict, Some(Verdict::Passed));
        }
        if notes.is_empty() {
            break;
        }
    }
    assert_eq!(auditor.totals().proven.shares, 300);
    assert_eq!(auditor.totals().failures, 0);
}

/// What may happen to an honest agent.
#[derive(Clone, Copy, Debug)]
enum Step {
    Share(u8),
    Job(u8),
    NextBlock,
    Wait(u16),
    /// Its process is killed and begins anew, from what is on its disk.
    Killed,
    /// The chain goes back to the block before, or a pool lags behind.
    Back,
    /// It has a controller for a moment.
    InTouch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..3).prop_map(Step::Share),
        1 => (0u8..3).prop_map(Step::Job),
        1 => Just(Step::NextBlock),
        1 => Just(Step::Back),
        3 => (0u16..50).prop_map(Step::Wait),
        1 => Just(Step::Killed),
        2 => Just(Step::InTouch),
    ]
}

/// An honest agent's book with its disk, before an auditor.
#[derive(Default)]
struct Honest {
    book: Book,
    disk: Vec<Event>,
    settled: Vec<Digest>,
    auditor: Auditor,
    now_ms: u64,
    block: u8,
    nonce: u32,
    accepted: u64,
}

impl Honest {
    fn put(&mut self, event: Event) {
        self.disk.push(Event::decode(&event.encode()).unwrap());
        self.book.apply(event);
    }

    fn job(&mut self, session: u8) {
        if let Some(event) = self.book.on_job(self.now_ms, template(self.block, session)) {
            self.put(event);
        }
    }

    fn share(&mut self, session: u8) {
        self.job(session);
        let job = template(self.block, session);
        let leaf = leaves(&job, 1, self.nonce).remove(0);
        self.nonce = leaf.share.nonce + 1;
        let again = self.book.settled().any(|previous| *previous == job.previous())
            || self.book.notes(0, usize::MAX).iter().any(|note| is_closing(note, &job));
        match self.book.on_share(self.now_ms, job.previous(), leaf.hash, leaf.share) {
            Ok(event) => {
                self.accepted += 1;
                self.put(event);
            }
            Err(refused) => assert_eq!((refused, again), (Refused::Closed, true)),
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now_ms += 1_000 * seconds;
        while let Some(event) = self.book.due(self.now_ms, BATCH) {
            self.put(event);
        }
    }

    fn meet(&mut self) {
        for note in self.book.notes(self.auditor.taken(), usize::MAX) {
            self.nonce += 1;
            self.auditor
                .take(&note, AT, Digest::of(super::super::digest::Domain::Job, &[&self.nonce.to_be_bytes()]))
                .unwrap();
        }
        for Challenge { sequence, seed, samples } in self.auditor.open() {
            let answer = self.book.answer(sequence, &seed, samples);
            assert_eq!(self.auditor.on_answer(sequence, &answer, AT), Some(Verdict::Passed));
            if let Some(previous) = self.book.block_of(sequence) {
                self.book.forget(&previous);
                self.settled.push(previous);
            }
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Share(session) => self.share(session),
            Step::Job(session) => self.job(session),
            Step::NextBlock => {
                self.now_ms += 1;
                self.block += 1;
                self.job(0);
            }
            Step::Wait(seconds) => self.wait(seconds.into()),
            Step::Killed => {
                self.book = Book::default();
                self.disk.iter().cloned().for_each(|event| self.book.apply(event));
                self.settled.iter().for_each(|previous| self.book.forget(previous));
            }
            Step::Back => {
                self.block = self.block.saturating_sub(1);
                self.job(0);
            }
            Step::InTouch => self.meet(),
        }
    }
}

fn is_closing(note: &Note, job: &Template) -> bool {
    let closing = |claim: &Claim| claim.kind != Kind::Batch && claim.previous == job.previous();
    matches!(note, Note::Claim(claim) if closing(claim))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_honest_agent_passes_whatever_happens_to_it(steps in prop::collection::vec(step(), 1..120)) {
        let mut honest = Honest::default();
        steps.into_iter().for_each(|step| honest.run(step));
        honest.block = 200;
        honest.run(Step::NextBlock);
        honest.wait(200);
        honest.meet();
        let totals = honest.auditor.totals();
        prop_assert_eq!(totals.proven.shares, honest.accepted, "every accepted share is proven once");
        prop_assert_eq!((totals.failures, totals.unproven.shares, totals.failed.shares), (0, 0, 0));
        prop_assert_eq!(honest.auditor.provisional(), Sum::default());
    }
}

#[test]
fn jobs_and_batches_of_all_blocks_together_are_bounded() {
    let root = leaves(&template(1, 0), 1, 0)[0].node();
    // One block more than there is room for, each with as many jobs as a block may have; the first `claimed` have a batch.
    let check = |claimed: u64, expected: Result<Option<Challenge>, Misconduct>| {
        let (mut auditor, mut sequence) = (Auditor::default(), 0);
        let mut tell = |auditor: &mut Auditor, block: u64, job: u64| {
            sequence += 1;
            let (digest_of_job, previous) = (numbered(1_000_000 + 2_000 * block + job), numbered(block));
            auditor.take(
                &Note::Job { sequence: 3 * sequence, digest: digest_of_job, previous },
                AT,
                digest(0),
            )
        };
        let blocks = MAX_ENTRIES as u64 / MAX_JOBS as u64;
        for block in 0..blocks {
            for job in 0..MAX_JOBS as u64 - 1 {
                assert_eq!(tell(&mut auditor, block, job), Ok(None));
            }
            if block < claimed {
                let previous = numbered(block);
                let claim = Claim { sequence: auditor.taken() + 1, kind: Kind::Batch, previous, root };
                assert!(auditor.take(&Note::Claim(claim), AT, digest(0)).is_ok());
            } else {
                assert_eq!(tell(&mut auditor, block, MAX_JOBS as u64), Ok(None));
            }
        }
        let entries = |auditor: &Auditor| -> usize {
            auditor.blocks.values().map(|block| block.jobs.len() + block.batches.len()).sum()
        };
        assert_eq!(entries(&auditor), MAX_ENTRIES);
        assert_eq!(tell(&mut auditor, blocks, 0), expected);
        assert!(entries(&auditor) <= MAX_ENTRIES);
        assert_eq!(auditor.provisional().shares, claimed, "what is claimed stays");
        assert_eq!(auditor.findings().len(), usize::from(expected.is_err()));
    };
    check(32, Err(Misconduct::TooMuch));
    check(31, Ok(None));
    check(0, Ok(None));
}

#[test]
fn a_closing_that_says_anything_fails_what_was_claimed_and_no_more() {
    let job = template(1, 0);
    let mut agent = Agent::new(std::slice::from_ref(&job));
    let all = leaves(&job, 20, 0);
    let batch = agent.batch(&all);
    assert_eq!(agent.answer(batch), Verdict::Passed);
    let closing = Kind::Closing { batches: vec![batch.sequence] };
    let huge = |root: &mut Node| root.sum = Work(u128::MAX);
    assert_eq!(agent.claim(closing, &all, huge), Err(Misconduct::Sums));
    let totals = agent.auditor.totals();
    assert_eq!(
        (totals.failed, totals.unproven, totals.proven),
        (sum_of(&all), Sum::default(), Sum::default())
    );
}

#[test]
fn steps_that_were_written_down_make_the_same_auditor_again() {
    use super::step::Step;
    let (mut first, mut again) = (Auditor::default(), Auditor::default());
    let root = leaves(&template(1, 0), 1, 0)[0].node();
    let note = |sequence: u64, block: u64| {
        let claim = Claim { sequence, kind: Kind::Batch, previous: numbered(block), root };
        Step::Note { note: Note::Claim(claim), at: AT, seed: digest(3), sparing: false }
    };
    let answer = |sequence: u64, judged: Judged| Step::Answer { sequence, judged, at: AT };
    let job = Note::Job { sequence: 1, digest: digest(1), previous: numbered(1) };
    let accepted = Sum { shares: 7, work: Work(u128::MAX >> 1) };
    for step in [
        Step::Note { note: job, at: AT, seed: digest(2), sparing: true },
        note(2, 1),
        note(3, 1),
        note(4, 2),
        answer(2, Judged::Shown { ratios: vec![0.1, 1.0 / 3.0] }),
        answer(3, Judged::Failed(Fault::Untrue(Untrue::Hash))),
        answer(4, Judged::Lost),
        answer(9, Judged::Lost),
        Step::Ledger { sequence: 1, accepted, at: AT },
        note(5, 3),
    ] {
        let written = serde_json::to_vec(&step).unwrap();
        step.apply(&mut first);
        serde_json::from_slice::<Step>(&written).unwrap().apply(&mut again);
    }
    assert_eq!(format!("{again:?}"), format!("{first:?}"));
    let totals = first.totals();
    assert_eq!((totals.samples, totals.passed, totals.failures, first.paid().shares), (2, 1, 1, 7));
}
