//! The stage: pool, proxy, engine, a clock that stands still unless moved, and a journal that can be read.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::proxy::journal::{Entry, JournalError, ShareJournal, ShareRecord, ShareSeq};
use agent::proxy::{Config, Groups, Handle, Proxy, Sabotage};
use model::ledger::ShareEnd;
use model::time::{Clock, Sleep};
use model::{Hashrate, MinerGroupId, ModuleId, Span, Time, Work};
use sim::hashing::Engine;
use sim::miner_net::{self, MinerFleet};
use sim::pool::{self, Pool};
use stratum::commit::book::Refused;
use stratum::commit::{Book, Share, Template};
use stratum::hash::HeaderHash;
use stratum::upstream::Outgoing;

/// Longest wait for anything, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nominal hashes for each simulated hash in these tests.
pub const SCALE: u64 = 1_000;

pub struct Rig {
    pub pool: Pool,
    pub proxy: Proxy,
    pub clock: Arc<HandClock>,
    pub ledger: Ledger,
}

impl Rig {
    /// `exponent` is of the pool's difficulty, a power of two.
    pub async fn new(exponent: i32) -> Rig {
        Rig::with(exponent, |_| {}).await
    }

    pub async fn with(exponent: i32, change: impl FnOnce(&mut Config)) -> Rig {
        let config = pool::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            seed: 7,
            mark: 0,
            difficulty: 2f64.powi(exponent),
            job_every: Duration::from_secs(30),
            block_every: Duration::from_secs(36_000),
        };
        let pool = Pool::start(config).await.unwrap();
        let mut config = config_for(pool.handle().address().to_string());
        change(&mut config);
        let (clock, ledger) = (Arc::new(HandClock(AtomicI64::new(1_000_000))), Ledger::default());
        let journal = Box::new(ledger.clone());
        let proxy = Proxy::start(config, Arc::clone(&clock) as Arc<dyn Clock>, journal).await.unwrap();
        Rig { pool, proxy, clock, ledger }
    }

    pub fn handle(&self) -> Handle {
        self.proxy.handle()
    }

    /// Miners with power, all at work.
    pub async fn fleet(&self, engine: &Engine, counts: &[(&str, u32)]) -> MinerFleet {
        let group = |count| miner_net::Group {
            count,
            nominal: Hashrate::tera(1),
            scale: SCALE,
            claim_permille: 1_000,
        };
        let config = miner_net::Config {
            proxy: self.handle().address(),
            account: "acct".into(),
            module: ModuleId::new("m1").unwrap(),
            groups: counts.iter().map(|(id, count)| (group_id(id), group(*count))).collect(),
            seed: 3,
        };
        let fleet = MinerFleet::start(&config, engine).unwrap();
        for (id, count) in counts {
            (0..*count as usize).for_each(|index| fleet.set_power(&group_id(id), index, true));
        }
        let all: u64 = counts.iter().map(|(_, count)| u64::from(*count)).sum();
        until("all miners have a job", || fleet.total().connected == all).await;
        fleet
    }

    /// Nothing is owed, on the wire, or unanswered any more.
    pub async fn drained(&self, engine: &Engine, fleet: &MinerFleet) {
        until("all is hashed and answered", || {
            let (seen, stats) = (fleet.total(), self.handle().stats());
            engine.backlog() == 0
                && stats.in_flight.shares == 0
                && seen.submitted == seen.accepted + seen.rejected + seen.unanswered
                && stats.received.shares + seen.unanswered >= seen.submitted
        })
        .await;
    }
}

pub fn config_for(pool: String) -> Config {
    let known = [(group_id("a"), SCALE), (group_id("b"), SCALE)].into();
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        pool,
        account: "acct".into(),
        password: "x".into(),
        upstreams: agent::proxy::Upstreams::default(),
        max_connections: 64,
        groups: Groups::new(known, group_id("outside")),
        first_slice: 250,
        window: Span::minutes(10),
        session: stratum::downstream::Config::default(),
        sabotage: Sabotage::default(),
    }
}

pub fn group_id(text: &str) -> MinerGroupId {
    MinerGroupId::new(text).unwrap()
}

/// Credits every miner of a group so many hashes.
pub fn credit(engine: &Engine, fleet: &MinerFleet, group: &str, miners: usize, hashes: u64) {
    let mut rates = Vec::new();
    let rate = Hashrate::new((hashes * SCALE) as i64);
    fleet.rates(&group_id(group), &vec![rate; miners], &mut rates);
    engine.advance(Span::secs(1), &rates);
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let waiting = async {
        while !condition() {
            look.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain until {what}");
}

/// Stands still unless moved.
#[derive(Debug)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn advance(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, _: Time) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// A journal in memory. It panics where the proxy breaks the port's contract.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    intents: Vec<(ShareRecord, Option<ShareEnd>)>,
    ended: Vec<(ShareRecord, ShareEnd)>,
    broken: bool,
    claims: Claims,
}

/// What an agent could claim of the shares that the pool accepted.
#[derive(Debug, Default)]
struct Claims {
    book: Book,
    jobs: BTreeMap<(u64, String), Template>,
    claimed: u64,
    work: Work,
    refused: Vec<Refused>,
}

impl Ledger {
    /// From now on nothing is taken.
    pub fn break_disk(&self) {
        self.books.lock().unwrap().broken = true;
    }

    /// Shares by how they ended; intents without an outcome are not there.
    pub fn ends(&self) -> BTreeMap<ShareEnd, u64> {
        let mut ends = BTreeMap::new();
        self.all().into_iter().for_each(|(_, end)| *ends.entry(end).or_default() += 1);
        ends
    }

    /// Every share with its end.
    pub fn all(&self) -> Vec<(ShareRecord, ShareEnd)> {
        let books = self.books.lock().unwrap();
        let forwarded = books.intents.iter().filter_map(|(share, end)| Some((share.clone(), end.clone()?)));
        forwarded.chain(books.ended.iter().cloned()).collect()
    }

    /// Every share that the pool accepted can be claimed, under a job that was told before, for what the pool credits.
    pub fn check_claims(&self) {
        let accepted = self.ends().get(&ShareEnd::Accepted).copied().unwrap_or(0);
        let credited = self.credited();
        let claims = &self.books.lock().unwrap().claims;
        assert_eq!((claims.claimed, claims.refused.as_slice()), (accepted, &[][..]));
        assert_eq!(claims.work, credited);
    }

    pub fn intents(&self) -> usize {
        self.books.lock().unwrap().intents.len()
    }

    /// Header hashes of the shares that ended so, in SHA-256's order, sorted.
    pub fn hashes(&self, which: impl Fn(&ShareEnd) -> bool) -> Vec<[u8; 32]> {
        let ended = self.all().into_iter().filter(|(_, end)| which(end));
        let mut hashes: Vec<[u8; 32]> =
            ended.filter_map(|(share, _)| share.hash.map(|hash| hash.0)).collect();
        hashes.sort_unstable();
        hashes
    }

    /// Work that the pool credits for what it accepted.
    pub fn credited(&self) -> Work {
        let accepted = self.all().into_iter().filter(|(_, end)| *end == ShareEnd::Accepted);
        accepted.map(|(share, _)| share.credited.unwrap()).sum()
    }
}

impl ShareJournal for Ledger {
    fn record(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError> {
        let mut books = self.books.lock().unwrap();
        if entries.iter().any(|entry| !matches!(entry, Entry::Outcome(..))) {
            books.check()?;
        }
        Ok(entries.iter().filter_map(|entry| books.take(entry)).collect())
    }

    fn job(&mut self, session: u64, job_id: &str, template: Template) {
        let claims = &mut self.books.lock().unwrap().claims;
        claims.jobs.insert((session, job_id.to_owned()), template.clone());
        let event = claims.book.on_job(1_000, template);
        event.into_iter().for_each(|event| claims.book.apply(event));
    }

    fn accepted(&mut self, share: Outgoing, hash: HeaderHash) {
        let claims = &mut self.books.lock().unwrap().claims;
        let Outgoing { session, job_id, extranonce2, ntime, nonce, version, .. } = share;
        let template = &claims.jobs[&(session, job_id.to_string())];
        let (job, extranonce2) = (template.digest(), extranonce2.to_vec());
        let share = Share { job, extranonce2, version, ntime, nonce };
        match claims.book.on_share(1_000, template.previous(), hash, share) {
            Ok(event) => {
                claims.claimed += 1;
                claims.work += template.target().work();
                claims.book.apply(event);
            }
            Err(refused) => claims.refused.push(refused),
        }
    }
}

impl Books {
    /// The number of an intent.
    fn take(&mut self, entry: &Entry<'_>) -> Option<ShareSeq> {
        match *entry {
            Entry::Intent(share) => {
                self.intents.push((share.clone(), None));
                return Some(ShareSeq(self.intents.len() as u64 - 1));
            }
            Entry::Outcome(seq, end) => {
                let before = self.intents[seq.0 as usize].1.replace(end.clone());
                assert_eq!(before, None, "a share ended twice");
            }
            Entry::Ended(share, end) => self.ended.push((share.clone(), end.clone())),
        }
        None
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.broken { Err(JournalError("no space left".into())) } else { Ok(()) }
    }
}
