//! A miner and a proxy session, wired line by line: what the miner finds verifies, is credited and adds up.
#![allow(clippy::unwrap_used)]

use model::Work;
use serde_json::json;
use std::sync::Arc;
use stratum::account::{Account, End, HashrateWindow};
use stratum::downstream::{Config, Fate, Now, Output, Session};
use stratum::job::{Assignment, Job, Slice, Source};
use stratum::mine::{Template, scan};
use stratum::slices::Slices;
use stratum::target::Difficulty;
use stratum::upstream::{self, Event, Outcome, Outgoing, ShareRef, Upstream};

const UNIX: u64 = 0x6878_b602;

fn pool_job(id: u64) -> Arc<Assignment> {
    let params = json!([
        format!("{id:x}"),
        format!("{:064x}", id / 4 + 1),
        "01".repeat(58),
        "02".repeat(90),
        ["03".repeat(32)],
        "20000000",
        "1d00ffff",
        format!("{UNIX:08x}"),
        id.is_multiple_of(4)
    ]);
    let job = Job::from_params(params.as_array().unwrap()).unwrap();
    let source = Source::Upstream { session: 1, difficulty: Difficulty::power_of_two(-18).unwrap() };
    Arc::new(Assignment { job, source })
}

/// A simulated miner: the client's machine, and a counter of everything it hashed.
struct Miner {
    client: Upstream,
    slice: Slice,
    mask: u32,
    job: Option<Arc<Assignment>>,
    extranonce2: u32,
    hashes: u64,
    sent: u64,
    accepted: u64,
}

struct Proxy {
    session: Session,
    account: Account,
    window: HashrateWindow,
    forwarded: Vec<Outgoing>,
}

impl Miner {
    fn hear(&mut self, line: &str) {
        for event in self.client.on_line(line.as_bytes()) {
            match event {
                Event::Ready { slice, mask } => (self.slice, self.mask) = (slice, mask),
                Event::Job(job) => self.job = Some(job),
                Event::Outcome { outcome, .. } => {
                    assert_eq!(outcome, Outcome::Accepted);
                    self.accepted += 1;
                }
                Event::Difficulty(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Scans one range of nonces of the present job; gives the lines to send.
    fn work(&mut self, now: Now, nonces: u32) -> Vec<String> {
        let Some(job) = self.job.clone() else { return vec![] };
        let Source::Upstream { session, difficulty } = job.source else { return vec![] };
        self.extranonce2 += 1;
        let extranonce2 = self.extranonce2.to_be_bytes();
        let version = job.job.rolled_version(self.mask, self.extranonce2 << 13);
        let template = Template::new(&job.job, &self.slice, &extranonce2, version, job.job.ntime);
        let done = scan(&template, 0..nonces, &difficulty.target());
        self.hashes += done.hashes;
        let mut lines = Vec::new();
        for nonce in done.found {
            let (job_id, extranonce2) = (job.job.id.clone(), extranonce2[..].into());
            let (ntime, block) = (job.job.ntime, false);
            let share = Outgoing { session, job_id, extranonce2, ntime, nonce, version, block };
            self.sent += 1;
            lines.push(self.client.submit(now.mono_ms, ShareRef(self.sent), &share).unwrap().1);
        }
        lines
    }
}

impl Proxy {
    fn act(&mut self, now: Now, outputs: Vec<Output>, miner: &mut Miner) {
        for output in outputs {
            match output {
                Output::Send(line) => miner.hear(&line),
                Output::Share(share) => {
                    let work = share.verified.work;
                    self.account.receive(work);
                    self.window.record(now.mono_ms, work);
                    let end = match share.fate {
                        Fate::Forward(outgoing) => {
                            self.forwarded.push(outgoing);
                            End::ForwardedAccepted
                        }
                        Fate::BelowUpstream => End::CountedBelowUpstream,
                        Fate::KeepAlive => End::CountedKeepAlive,
                    };
                    self.account.finish(work, end).unwrap();
                }
                Output::Authorized { worker, agent } => {
                    assert_eq!((worker.as_str(), agent.as_str()), ("w", "simulated/1"));
                }
                Output::Rejected { .. } | Output::Close(_) => panic!("unexpected {output:?}"),
            }
        }
    }
}

/// Runs `seconds` at `hashes_per_second`, with a new job each 10 s and a new block each 40 s.
fn run(seconds: u64, hashes_per_second: u32) -> (Miner, Proxy) {
    let mut now = Now { mono_ms: 0, unix_s: UNIX };
    let pool = Slice { extranonce1: vec![0xcc; 4], extranonce2_size: 8 };
    let slice = Slices::new(pool, 40, 100).unwrap().allocate().unwrap();
    let session = Session::new(Config::default(), slice, 0x1fff_e000, now);
    let (client, opening) = Upstream::new(upstream::Config::new("w", "simulated/1"), 9, 0);
    let mut miner = Miner {
        client,
        slice: Slice { extranonce1: vec![], extranonce2_size: 1 },
        mask: 0,
        job: None,
        extranonce2: 0,
        hashes: 0,
        sent: 0,
        accepted: 0,
    };
    let window = HashrateWindow::new(1_000 * seconds, 0);
    let mut proxy = Proxy { session, account: Account::default(), window, forwarded: vec![] };
    for line in opening {
        let outputs = proxy.session.on_line(now, line.as_bytes());
        proxy.act(now, outputs, &mut miner);
    }
    for second in 0..seconds {
        now.mono_ms = second * 1_000;
        if second % 10 == 0 {
            let outputs = proxy.session.on_job(pool_job(second / 10));
            proxy.act(now, outputs, &mut miner);
        }
        for line in miner.work(now, hashes_per_second) {
            let outputs = proxy.session.on_line(now, line.as_bytes());
            proxy.act(now, outputs, &mut miner);
        }
        let outputs = proxy.session.tick(now);
        proxy.act(now, outputs, &mut miner);
        assert_eq!(proxy.account.check(), Ok(()));
    }
    (miner, proxy)
}

#[test]
fn everything_a_simulated_miner_finds_is_accepted_and_credited_once() {
    let (miner, mut proxy) = run(300, 3_000);
    assert_eq!((miner.accepted, miner.client.pending()), (miner.sent, 0));
    assert_eq!(proxy.account.received().shares, miner.sent);
    // Verified work is an unbiased estimate of the hashes done: within five standard deviations.
    let Work(verified) = proxy.account.received().work;
    let estimate = proxy.window.estimate(300_000).unwrap();
    let bound = 5.0 * estimate.relative_error.unwrap();
    let ratio = verified as f64 / miner.hashes as f64;
    assert!((ratio - 1.0).abs() < bound, "{verified} of {} hashes", miner.hashes);
    assert!((estimate.hashes_per_second / 3_000.0 - 1.0).abs() < bound, "{estimate:?}");
}

#[test]
fn what_is_forwarded_meets_the_pools_own_reckoning() {
    let (_, proxy) = run(120, 4_000);
    assert!(!proxy.forwarded.is_empty());
    let slice = Slice { extranonce1: vec![0xcc; 4], extranonce2_size: 8 };
    let target = Difficulty::power_of_two(-18).unwrap().target();
    for share in &proxy.forwarded {
        let Assignment { job, .. } = &*pool_job(u64::from_str_radix(&share.job_id, 16).unwrap());
        assert_eq!(share.extranonce2.len(), slice.extranonce2_size);
        let root = job.merkle_root(&slice, &share.extranonce2);
        assert!(target.is_met_by(&job.header(&root, share.version, share.ntime, share.nonce).hash()));
    }
}

#[test]
fn two_miners_of_one_pool_never_hash_the_same_header() {
    let pool = Slice { extranonce1: vec![0xcc; 4], extranonce2_size: 6 };
    let mut slices = Slices::new(pool, 0, 100).unwrap();
    let job = pool_job(0);
    let mut roots = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let slice = slices.allocate().unwrap();
        for extranonce2 in 0u32..20 {
            assert!(roots.insert(job.job.merkle_root(&slice.miner, &extranonce2.to_be_bytes())));
        }
    }
}
