//! The session machine, driven by lines. Shares are really mined here, at the floor difficulty: some 4,096 hashes each.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::job::Slice;
use crate::job::tests::{sample, sample_params};
use crate::message::Submission;
use crate::mine::{Template, scan};

const MASK: u32 = 0x1fff_e000;
const NOW: Now = Now { mono_ms: 1_000, unix_s: 0x6878_b602 };

fn slice(prefix: u8) -> MinerSlice {
    let miner = Slice { extranonce1: vec![0xaa, prefix], extranonce2_size: 4 };
    MinerSlice { index: u64::from(prefix), prefix: vec![prefix], miner }
}

fn assignment(id: &str, previous: u8, clean: bool) -> Arc<Assignment> {
    let source = Source::Upstream { session: 1, difficulty: Difficulty::one() };
    Arc::new(Assignment { job: sample(id, previous, clean), source })
}

/// A session, and what its miner has understood.
struct Peer {
    session: Session,
    now: Now,
    slice: Slice,
    mask: u32,
    /// As the miner was notified of them, newest last.
    jobs: Vec<crate::job::Job>,
    difficulties: Vec<Difficulty>,
}

impl Peer {
    /// Subscribed, authorized as `w`, with version rolling, and with one job.
    fn ready() -> Peer {
        let mut peer = Peer::new(Config::default());
        peer.send(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#);
        peer.send(r#"{"id":2,"method":"mining.subscribe","params":["test/1"]}"#);
        peer.send(r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#);
        peer.job("up-1", 1, true);
        peer.mask = MASK;
        peer
    }

    fn new(config: Config) -> Peer {
        let session = Session::new(config, slice(1), MASK, NOW);
        Peer { session, now: NOW, slice: slice(1).miner, mask: 0, jobs: vec![], difficulties: vec![] }
    }

    fn send(&mut self, line: &str) -> Vec<Output> {
        let out = self.session.on_line(self.now, line.as_bytes());
        self.hear(out)
    }

    fn job(&mut self, id: &str, previous: u8, clean: bool) -> Vec<Output> {
        let out = self.session.on_job(assignment(id, previous, clean));
        self.hear(out)
    }

    fn hear(&mut self, out: Vec<Output>) -> Vec<Output> {
        for output in &out {
            let Output::Send(line) = output else { continue };
            match ServerMessage::parse(line.as_bytes()).unwrap() {
                ServerMessage::Notify(job) => self.jobs.push(*job),
                ServerMessage::SetDifficulty(difficulty) => self.difficulties.push(difficulty),
                ServerMessage::SetExtranonce(slice) => self.slice = slice,
                _ => {}
            }
        }
        out
    }

    fn newest(&self) -> crate::job::Job {
        self.jobs.last().unwrap().clone()
    }

    /// Mines one share of `job` that meets `difficulty`, with `bits` rolled.
    fn mine(&self, job: &crate::job::Job, difficulty: Difficulty, bits: u32) -> Submission {
        let extranonce2 = vec![0, 0, 0, bits as u8];
        let version = job.rolled_version(self.mask, bits);
        let template = Template::new(job, &self.slice, &extranonce2, version, job.ntime);
        let nonce = (0..200).find_map(|part| {
            scan(&template, part * 1_000..(part + 1) * 1_000, &difficulty.target()).found.first().copied()
        });
        Submission {
            worker: "w".into(),
            job_id: job.id.to_string(),
            extranonce2,
            ntime: job.ntime,
            nonce: nonce.unwrap(),
            version_bits: (self.mask != 0).then_some(bits),
        }
    }

    fn submit(&mut self, submission: &Submission) -> Vec<Output> {
        self.send(&Request { id: Id::from(9), call: Call::Submit(submission.clone()) }.to_line())
    }

    /// The verdict on a line: `Ok` with the fate, or the reject.
    fn verdict(&mut self, line: &str) -> Result<Fate, Reject> {
        verdict(&self.send(line))
    }
}

fn verdict(out: &[Output]) -> Result<Fate, Reject> {
    let mut verdicts = out.iter().filter_map(|output| match output {
        Output::Share(share) => Some(Ok(share.fate.clone())),
        Output::Rejected { reject, .. } => Some(Err(*reject)),
        _ => None,
    });
    let first = verdicts.next().expect("a submission has a verdict");
    assert!(verdicts.next().is_none(), "and only one");
    first
}

fn closes(out: &[Output]) -> Option<CloseReason> {
    out.iter().find_map(|output| match output {
        Output::Close(reason) => Some(*reason),
        _ => None,
    })
}

fn texts(out: &[Output]) -> Vec<&str> {
    out.iter()
        .filter_map(|output| if let Output::Send(line) = output { Some(line.trim_end()) } else { None })
        .collect()
}

#[test]
fn subscribe_and_authorize_work_in_either_order() {
    let subscribe = r#"{"id":"s","method":"mining.subscribe","params":[]}"#;
    let authorize = r#"{"id":null,"method":"mining.authorize","params":["w"]}"#;
    for order in [[subscribe, authorize], [authorize, subscribe]] {
        let mut peer = Peer::new(Config::default());
        peer.job("up-1", 1, true);
        let first = peer.send(order[0]);
        assert!(peer.jobs.is_empty(), "{first:?}");
        peer.send(order[1]);
        assert_eq!(peer.difficulties, [Difficulty::floor()]);
        assert_eq!(peer.jobs.len(), 1);
        assert!(peer.newest().clean);
    }
}

#[test]
fn a_share_is_recorded_before_it_is_acknowledged_and_goes_upstream_in_the_pools_terms() {
    let mut peer = Peer::ready();
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    let out = peer.submit(&share);
    assert!(matches!(&out[0], Output::Share(_)), "{out:?}");
    assert_eq!(texts(&out), [r#"{"error":null,"id":9,"result":true}"#]);
    assert_eq!(verdict(&out), Ok(Fate::BelowUpstream));
}

#[test]
fn what_meets_the_pools_difficulty_is_forwarded_with_the_prefix_in_front() {
    let mut peer = Peer::ready();
    let source = Source::Upstream { session: 7, difficulty: Difficulty::floor() };
    let out = peer.session.on_job(Arc::new(Assignment { job: sample("up-2", 2, true), source }));
    peer.hear(out);
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0x6000);
    let Ok(Fate::Forward(outgoing)) = verdict(&peer.submit(&share)) else { panic!("not forwarded") };
    assert!(!outgoing.block);
    assert_eq!((outgoing.session, &*outgoing.job_id), (7, "up-2"));
    assert_eq!(*outgoing.extranonce2, [1, 0, 0, 0, 0]);
    assert_eq!((outgoing.nonce, outgoing.version), (share.nonce, 0x2000_6000));
}

#[test]
fn a_block_is_forwarded_whatever_the_pools_difficulty() {
    let mut peer = Peer::ready();
    let mut params = sample_params("up-2", 2, true);
    params[6] = json!("207fffff");
    let job = crate::job::Job::from_params(&params).unwrap();
    let source = Source::Upstream { session: 1, difficulty: Difficulty::one() };
    let out = peer.session.on_job(Arc::new(Assignment { job, source }));
    peer.hear(out);
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert!(matches!(verdict(&peer.submit(&share)), Ok(Fate::Forward(Outgoing { block: true, .. }))));
}

#[test]
fn keep_alive_shares_are_verified_and_go_nowhere() {
    let mut peer = Peer::ready();
    let job = crate::job::Job::keep_alive(1, 0x2000_0000, 0x1d00_ffff, 0x6878_b602).unwrap();
    let out = peer.session.on_job(Arc::new(Assignment { job, source: Source::KeepAlive }));
    peer.hear(out);
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert_eq!(verdict(&peer.submit(&share)), Ok(Fate::KeepAlive));
}

#[test]
fn a_duplicate_is_one_however_it_is_written() {
    let mut peer = Peer::ready();
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    let line = Request { id: Id::from(9), call: Call::Submit(share.clone()) }.to_line();
    assert!(peer.verdict(&line).is_ok());
    assert_eq!(peer.verdict(&line), Err(Reject::Duplicate));
    let nonce = format!("{:08x}", share.nonce);
    assert_eq!(peer.verdict(&line.replace(&nonce, &nonce.to_uppercase())), Err(Reject::Duplicate));
    let ntime = format!("{:08x}", share.ntime);
    assert_eq!(peer.verdict(&line.replace(&ntime, &ntime.to_uppercase())), Err(Reject::Duplicate));
    assert_eq!(
        peer.verdict(&line.replace(&ntime, &format!("00{ntime}"))),
        Err(Reject::Malformed(Field::Ntime))
    );
    let padded = line.replace(&format!("\"{}\"", share.job_id), &format!("\"0{}\"", share.job_id));
    assert_eq!(peer.verdict(&padded), Err(Reject::Duplicate));
}

#[test]
fn leaving_the_version_bits_out_pays_nothing() {
    let mut peer = Peer::ready();
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert!(verdict(&peer.submit(&share)).is_ok());
    let bare = Submission { version_bits: None, ..share.clone() };
    assert_eq!(verdict(&peer.submit(&bare)), Err(Reject::VersionBits));
    // Without negotiation a zero is the same header.
    let mut peer = Peer::new(Config::default());
    peer.send(r#"{"id":2,"method":"mining.subscribe"}"#);
    peer.send(r#"{"id":3,"method":"mining.authorize","params":["w"]}"#);
    peer.job("up-1", 1, true);
    let share = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert!(verdict(&peer.submit(&share)).is_ok());
    let zero = Submission { version_bits: Some(0), ..share };
    assert_eq!(verdict(&peer.submit(&zero)), Err(Reject::Duplicate));
}

#[test]
fn each_attack_gets_its_reason_and_nobody_is_dropped() {
    let mut peer = Peer::ready();
    let good = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    let line = |change: &dyn Fn(&mut Submission)| {
        let mut share = good.clone();
        change(&mut share);
        Request { id: Id::Text("x".into()), call: Call::Submit(share) }.to_line()
    };
    let text = line(&|_| {});
    let nonce = format!("{:08x}", good.nonce);
    let out_of_range = Reject::NtimeOutOfRange;
    for (line, expected) in [
        (line(&|s| s.version_bits = Some(0x2001)), Reject::VersionBits),
        (line(&|s| s.ntime -= 1), out_of_range),
        (line(&|s| s.ntime += 7_201), out_of_range),
        (line(&|s| s.ntime += 1_000_000), out_of_range),
        (line(&|s| s.worker = "someone.else".into()), Reject::WrongWorker),
        (line(&|s| s.job_id = "ffff".into()), Reject::UnknownJob),
        (line(&|s| s.job_id = "up-1".into()), Reject::UnknownJob),
        (line(&|s| s.extranonce2.push(0)), Reject::Malformed(Field::Extranonce2)),
        (line(&|s| s.nonce ^= 1), Reject::LowDifficulty),
        (text.replace(&nonce, "zzzzzzzz"), Reject::Malformed(Field::Nonce)),
        (text.replace(&nonce, &format!("0x{}", &nonce[2..])), Reject::Malformed(Field::Nonce)),
        (r#"{"id":"x","method":"mining.submit","params":{"a":1}}"#.into(), Reject::Malformed(Field::Params)),
    ] {
        let out = peer.send(&line);
        assert_eq!(verdict(&out), Err(expected), "{line}");
        assert!(
            texts(&out)[0].contains(r#""id":"x""#) && texts(&out)[0].contains(expected.code()),
            "{out:?}"
        );
        assert_eq!(closes(&out), None);
    }
    let out = peer.send(r#"{"id":4,"method":"mining.surprise","params":[]}"#);
    assert!(texts(&out)[0].contains("unknown method mining.surprise"), "{out:?}");
    assert!(peer.verdict(&text).is_ok(), "the honest share still counts");
}

#[test]
fn shares_before_the_handshake_are_refused_by_name() {
    let mut peer = Peer::new(Config::default());
    let line = r#"{"id":1,"method":"mining.submit","params":["w","1","00000000","6878b602","00000000"]}"#;
    assert_eq!(peer.verdict(line), Err(Reject::NotSubscribed));
    peer.send(r#"{"id":2,"method":"mining.subscribe"}"#);
    assert_eq!(peer.verdict(line), Err(Reject::WrongWorker));
}

#[test]
fn a_new_block_makes_old_jobs_stale_and_a_mere_update_does_not() {
    let mut peer = Peer::ready();
    let first = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    peer.job("up-2", 1, false);
    assert!(!peer.newest().clean);
    let second = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    assert!(verdict(&peer.submit(&first)).is_ok());
    peer.job("up-3", 2, true);
    assert!(peer.newest().clean);
    assert_eq!(verdict(&peer.submit(&second)), Err(Reject::Stale));
    // A pool that forgets the clean flag does not make an old block worth working on.
    let third = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    peer.job("up-4", 3, false);
    assert!(peer.newest().clean);
    assert_eq!(verdict(&peer.submit(&third)), Err(Reject::Stale));
}

#[test]
fn a_difficulty_step_rejects_nothing_in_flight() {
    let power = |exponent| Difficulty::power_of_two(exponent).unwrap();
    let mut peer = Peer::ready();
    let easy_job = peer.newest();
    let easy = peer.mine(&easy_job, Difficulty::floor(), 0x2000);
    peer.send(r#"{"id":5,"method":"mining.suggest_difficulty","params":[0.0000152587890625]}"#);
    assert_eq!(peer.difficulties.last(), Some(&power(-16)));
    let hard_job = peer.newest();
    assert_ne!(hard_job.id, easy_job.id);
    assert_eq!(hard_job.ntime, easy_job.ntime + 1, "or a miner that begins anew repeats itself");
    // Found for the old job: counted at the old work.
    let out = peer.submit(&easy);
    let Some(Output::Share(share)) = out.first() else { panic!("{out:?}") };
    assert_eq!(share.verified.work, Difficulty::floor().work());
    // A step down holds at once, also for the job in flight, at the easier work.
    peer.send(r#"{"id":6,"method":"mining.suggest_difficulty","params":[1e-6]}"#);
    let early = peer.mine(&hard_job, Difficulty::floor(), 0x4000);
    let out = peer.submit(&early);
    let Some(Output::Share(share)) = out.first() else { panic!("{out:?}") };
    assert_eq!(share.verified.work, Difficulty::floor().work());
}

#[test]
fn the_session_never_asks_more_than_the_pool() {
    let mut peer = Peer::ready();
    peer.send(r#"{"id":5,"method":"mining.suggest_difficulty","params":[1e12]}"#);
    assert_eq!(peer.difficulties.last(), Some(&Difficulty::one()));
    for bad in ["-1", "0", "1e-20", "1e99"] {
        let out =
            peer.send(&format!("{{\"id\":5,\"method\":\"mining.suggest_difficulty\",\"params\":[{bad}]}}"));
        assert_eq!((texts(&out).len(), closes(&out)), (1, None), "{bad}");
    }
}

#[test]
fn a_changed_extranonce_holds_from_the_next_job() {
    let mut peer = Peer::ready();
    peer.send(r#"{"id":4,"method":"mining.extranonce.subscribe","params":[]}"#);
    let old = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    let out = peer.session.on_slice(slice(2));
    peer.hear(out);
    assert_eq!(peer.slice, slice(2).miner);
    assert_eq!(verdict(&peer.submit(&old)), Err(Reject::Stale));
    peer.job("up-2", 1, true);
    let new = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert!(verdict(&peer.submit(&new)).is_ok());
    let mut deaf = Peer::ready();
    assert_eq!(closes(&deaf.session.on_slice(slice(2))), Some(CloseReason::ExtranonceChanged));
    assert!(deaf.send(r#"{"id":1,"method":"mining.ping"}"#).is_empty());
}

#[test]
fn a_narrower_mask_holds_for_new_jobs_only() {
    let mut peer = Peer::ready();
    let old_job = peer.newest();
    let out = peer.session.on_mask(0x0000_e000);
    assert!(texts(&out)[0].contains(r#""params":["0000e000"]"#), "{out:?}");
    peer.hear(out);
    let wide = 0x0001_0000;
    let old = peer.mine(&old_job, Difficulty::floor(), wide);
    assert!(verdict(&peer.submit(&old)).is_ok());
    let new = peer.mine(&peer.newest(), Difficulty::floor(), wide);
    assert_eq!(verdict(&peer.submit(&new)), Err(Reject::VersionBits));
}

#[test]
fn a_pool_that_rolls_nothing_is_told_and_so_is_one_that_does_again() {
    let mut peer = Peer::ready();
    let mask_told = |peer: &mut Peer, mask: u32| {
        let out = peer.session.on_mask(mask);
        let told: Vec<String> = texts(&out).iter().map(|line| (*line).to_owned()).collect();
        peer.hear(out);
        assert!(told[0].contains(&format!(r#""params":["{mask:08x}"]"#)), "{told:?}");
        assert_eq!(told.len(), 2, "and a job for it");
        peer.mask = mask;
    };
    mask_told(&mut peer, 0);
    let bare = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert_eq!(bare.version_bits, None);
    assert!(verdict(&peer.submit(&bare)).is_ok());
    mask_told(&mut peer, MASK);
    let rolled = peer.mine(&peer.newest(), Difficulty::floor(), 0x2000);
    assert!(verdict(&peer.submit(&rolled)).is_ok());
}

#[test]
fn a_miner_that_was_refused_rolling_is_not_asked_for_bits_when_another_pool_grants_it() {
    let mut peer = Peer::new(Config::default());
    peer.session.on_mask(0);
    let out = peer.send(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#);
    assert!(texts(&out)[0].contains(r#""version-rolling":false"#), "{out:?}");
    peer.send(r#"{"id":2,"method":"mining.subscribe","params":["test/1"]}"#);
    peer.send(r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#);
    assert_eq!(peer.session.on_mask(MASK), []);
    peer.job("up-2", 2, true);
    let bare = peer.mine(&peer.newest(), Difficulty::floor(), 0);
    assert!(verdict(&peer.submit(&bare)).is_ok());
}

#[test]
fn configure_grants_what_is_common() {
    let check = |offer: &str, expected: &str| {
        let mut peer = Peer::new(Config::default());
        let out = peer.send(&format!("{{\"id\":1,\"method\":\"mining.configure\",\"params\":{offer}}}"));
        assert_eq!(texts(&out), [format!("{{\"error\":null,\"id\":1,\"result\":{expected}}}")], "{offer}");
    };
    check(
        r#"[["version-rolling","info"],{"version-rolling.mask":"ffffffff"}]"#,
        r#"{"info":false,"version-rolling":true,"version-rolling.mask":"1fffe000"}"#,
    );
    check(
        r#"[["version-rolling"],{"version-rolling.mask":"00000001"}]"#,
        r#"{"version-rolling":false,"version-rolling.mask":"00000000"}"#,
    );
    check(
        r#"[["minimum-difficulty","subscribe-extranonce"],{"minimum-difficulty.value":64}]"#,
        r#"{"minimum-difficulty":true,"subscribe-extranonce":true}"#,
    );
    check(r#"[["minimum-difficulty"],{"minimum-difficulty.value":-1}]"#, r#"{"minimum-difficulty":false}"#);
    check("[[],{}]", "{}");
}

#[test]
fn a_full_duplicate_memory_raises_the_difficulty_first_and_closes_last() {
    let mut peer = Peer::ready();
    peer.session.seen = Seen::new(2);
    peer.session.seen.enter(peer.newest().previous);
    let job = peer.newest();
    let shares: Vec<Submission> = (0..3).map(|n| peer.mine(&job, Difficulty::floor(), n << 13)).collect();
    assert_eq!(closes(&peer.submit(&shares[0])), None);
    assert_eq!(peer.difficulties.len(), 1);
    assert_eq!(closes(&peer.submit(&shares[1])), None);
    assert!(peer.difficulties.last() > Some(&Difficulty::floor()));
    let out = peer.submit(&shares[2]);
    assert_eq!((verdict(&out), closes(&out)), (Err(Reject::Exhausted), Some(CloseReason::Exhausted)));
}

#[test]
fn only_lasting_garbage_closes() {
    let mut peer = Peer::ready();
    for _ in 0..MAX_GARBAGE {
        assert_eq!(closes(&peer.send("GET / HTTP/1.1")), None);
    }
    peer.now.mono_ms += MINUTE_MS + 1;
    assert_eq!(closes(&peer.send("later")), None);
    let closed = (0..MAX_GARBAGE).find_map(|_| closes(&peer.send("{not json")));
    assert_eq!(closed, Some(CloseReason::Garbage));
}

#[test]
fn silence_closes_unless_the_miner_sleeps_and_so_does_an_endless_handshake() {
    let check = |mut peer: Peer, asleep: bool, after_ms: u64, expected: Option<CloseReason>| {
        peer.session.set_asleep(peer.now, asleep);
        peer.now.mono_ms += after_ms;
        assert_eq!(closes(&peer.session.tick(peer.now)), expected, "{asleep} {after_ms}");
    };
    let config = Config::default();
    check(Peer::ready(), false, config.idle_ms, None);
    check(Peer::ready(), false, config.idle_ms + 1, Some(CloseReason::Idle));
    check(Peer::ready(), true, config.idle_ms + 1, None);
    check(Peer::new(config), false, config.handshake_ms, None);
    check(Peer::new(config), false, config.handshake_ms + 1, Some(CloseReason::HandshakeTimeout));
}
