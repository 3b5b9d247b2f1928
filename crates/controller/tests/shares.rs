//! Share commitments over real gRPC: an honest agent's block is proven, across sessions and restarts; a cheat is a finding.

use api::agent::agent_message::Kind as Up;
use api::agent::controller_message::Kind as Down;
use api::agent::{self as wire};
use api::operator::GetModuleRequest;
use stratum::commit::book::BATCH;
use stratum::commit::{Answer, Book, Digest, Event, Kind, Leaf, Note, Share, Template};
use stratum::job::{Job, Slice};
use stratum::target::Target;
use stratum::uint256::U256;

use crate::harness::{Agent, Controller, Dir, open};

fn template(block: u64) -> Template {
    let job = Job::keep_alive(block, 0x2000_0000, 0x1d00_ffff, 9).unwrap();
    let slice = Slice { extranonce1: vec![1, 2], extranonce2_size: 4 };
    Template::new(&job, &slice, 0, Target::new(U256::MAX.shift_right(3)).unwrap()).unwrap()
}

/// A book with one closed block of three batches.
fn book(shares: usize) -> Book {
    let (old, new) = (template(1), template(2));
    let mut book = Book::new(0);
    let put = |book: &mut Book, event: Option<Event>| book.apply(event.unwrap());
    let event = book.on_job(1_000, old.clone());
    put(&mut book, event);
    let share =
        |nonce| Share { job: old.digest(), extranonce2: vec![0; 4], version: 0x2000_0000, ntime: 9, nonce };
    let found = (0u32..).map(|nonce| Leaf::of(share(nonce), &old)).filter(|leaf| leaf.check(&old).is_ok());
    for (number, leaf) in found.take(shares).enumerate() {
        let at_ms = 2_000 + 90_000 * number as u64 / shares as u64;
        let event = book.on_share(at_ms, old.previous(), leaf.hash, leaf.share);
        put(&mut book, event.ok());
        while let Some(event) = book.due(at_ms, BATCH) {
            book.apply(event);
        }
    }
    let event = book.on_job(100_000, new);
    put(&mut book, event);
    while let Some(event) = book.due(300_000, BATCH) {
        book.apply(event);
    }
    book
}

fn sent(note: &Note) -> Up {
    use wire::share_note::Kind as Sent;
    let (previous, kind) = match note {
        Note::Job { digest, previous, .. } => (previous, Sent::Job(digest.0.to_vec())),
        Note::Claim(claim) => {
            let root = claim.root.encode().to_vec();
            let kind = match &claim.kind {
                Kind::Batch => Sent::Batch(root),
                Kind::Closing { batches } => {
                    Sent::Closing(wire::ShareClosing { root, batches: batches.clone() })
                }
            };
            (&claim.previous, kind)
        }
    };
    let (sequence, previous) = (note.sequence(), previous.0.to_vec());
    Up::ShareNote(wire::ShareNote { sequence, previous, kind: Some(kind) })
}

fn answer(book: &Book, challenge: &wire::ShareChallenge) -> Up {
    let seed = Digest::from_slice(&challenge.seed).unwrap();
    let Answer::Shown(proof) = book.answer(challenge.sequence, &seed, challenge.samples as usize) else {
        panic!("lost")
    };
    let opening = |opening: &stratum::commit::Opening| wire::ShareOpening {
        leaf: opening.leaf.encode(),
        path: opening.path.encode(),
    };
    let proof = wire::ShareProof {
        jobs: proof.jobs.iter().map(Template::encode).collect(),
        openings: proof.openings.iter().map(opening).collect(),
    };
    let kind = Some(wire::share_answer::Kind::Proof(proof));
    Up::ShareAnswer(wire::ShareAnswer { sequence: challenge.sequence, kind })
}

async fn ack(agent: &mut Agent) -> u64 {
    let Some(Down::ShareNoteAck(ack)) = agent.next().await else { panic!("no acknowledgement") };
    ack.sequence
}

async fn challenge(agent: &mut Agent) -> wire::ShareChallenge {
    let Some(Down::ShareChallenge(challenge)) = agent.next().await else { panic!("no challenge") };
    challenge
}

async fn verdict(agent: &mut Agent) -> String {
    let Some(Down::ShareVerdict(verdict)) = agent.next().await else { panic!("no verdict") };
    verdict.fault
}

async fn audit(controller: &Controller) -> (api::operator::ShareAudit, Vec<String>) {
    let request = GetModuleRequest { module: "m1".into() };
    let module = controller.operator().await.get_module(request).await.unwrap().into_inner();
    let status = module.status.unwrap();
    (status.share_audit.unwrap(), status.findings.into_iter().map(|finding| finding.code).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_agents_block_is_proven_across_sessions() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let book = book(60);
    let notes = book.notes(0, 100);
    let mut agent = Agent::connect(&controller, "m1").await;
    let mut seeds = Vec::new();
    for note in &notes[..3] {
        agent.send(sent(note)).await;
        assert_eq!(ack(&mut agent).await, note.sequence());
        if matches!(note, Note::Claim(_)) {
            seeds.push(challenge(&mut agent).await);
        }
    }
    drop(agent);
    // The next session hears how far the notes came, and is asked again, with the same seeds.
    let (up, mut down) = open(&controller, "m1", true).await;
    let Some(Down::Welcome(welcome)) = down.message().await.unwrap().unwrap().kind else {
        panic!("no welcome")
    };
    assert_eq!(welcome.share_note_watermark, notes[2].sequence());
    drop((up, down));
    let mut agent = Agent::connect(&controller, "m1").await;
    for seed in &seeds {
        assert_eq!(challenge(&mut agent).await, *seed);
    }
    for seed in &seeds {
        agent.send(answer(&book, seed)).await;
        assert_eq!(verdict(&mut agent).await, "");
    }
    for note in &notes[2..] {
        agent.send(sent(note)).await;
        assert_eq!(ack(&mut agent).await, note.sequence());
        // The first of them is a repeat that was answered: nothing is asked of it any more.
        if matches!(note, Note::Claim(_)) && *note != notes[2] {
            let asked = challenge(&mut agent).await;
            agent.send(answer(&book, &asked)).await;
            assert_eq!(verdict(&mut agent).await, "");
        }
    }
    let (audit, findings) = audit(&controller).await;
    assert_eq!((audit.proven_shares, audit.claimed_shares, audit.failed_shares), (60, 0, 0));
    assert_eq!(audit.proven_work_hashes, (60 * 8).to_string());
    assert_eq!(findings, [""; 0]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheat_is_a_finding_that_people_see() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let book = book(30);
    let notes = book.notes(0, 100);
    let mut agent = Agent::connect(&controller, "m1").await;
    agent.send(sent(&notes[0])).await;
    ack(&mut agent).await;
    let Note::Claim(mut claim) = notes[1].clone() else { panic!("the second note is a batch") };
    claim.root.sum.0 *= 2;
    agent.send(sent(&Note::Claim(claim))).await;
    ack(&mut agent).await;
    let asked = challenge(&mut agent).await;
    agent.send(answer(&book, &asked)).await;
    assert_eq!(verdict(&mut agent).await, "a path does not lead to the root that was committed to");
    let (_, findings) = audit(&controller).await;
    assert_eq!(findings, ["share-audit-failed"]);
    controller.stop().await;
}

/// Claims all of a book, and shows what is asked for.
async fn prove(controller: &Controller, module: &str, book: &Book) {
    let mut agent = Agent::connect(controller, module).await;
    for note in &book.notes(0, 100) {
        agent.send(sent(note)).await;
        ack(&mut agent).await;
        if matches!(note, Note::Claim(_)) {
            let asked = challenge(&mut agent).await;
            agent.send(answer(book, &asked)).await;
            assert_eq!(verdict(&mut agent).await, "");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_claims_anothers_shares_is_found_beside_it() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let book = book(60);
    prove(&controller, "m1", &book).await;
    assert_eq!(audit(&controller).await.1, [""; 0]);
    prove(&controller, "m2", &book).await;
    let (proven, findings) = audit(&controller).await;
    assert_eq!((proven.proven_shares, findings), (60, vec!["share-of-another".to_owned()]));
    controller.stop().await;
}
