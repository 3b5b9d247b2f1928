//! Miners that send shares without mining them, and count the answers.
//!
//! Assumes a difficulty that nearly every hash meets. Lines are made by hand, so that the load costs less than what it loads.
//! Next: `main.rs`, which reads the counts.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;

/// Latencies kept: at 10,000 a second a hundred seconds of them.
const MAX_LATENCIES: usize = 1_000_000;

#[derive(Clone, Debug)]
pub struct Load {
    pub connections: usize,
    /// Shares of one miner on the way at once; 0 for silence.
    pub window: usize,
    /// Between two shares of one miner; `None` for as fast as answers come.
    pub every: Option<Duration>,
    pub fresh: bool,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    accepted: AtomicU64,
    alive: AtomicUsize,
    times: Mutex<Times>,
}

/// Microseconds.
#[derive(Clone, Debug, Default)]
struct Times {
    latencies: Vec<u64>,
    late: Vec<u64>,
}

#[derive(Default)]
pub struct Seen {
    pub answered: u64,
    pub accepted: u64,
    /// From sending a share until its answer was read.
    pub latencies_us: Vec<u64>,
    /// From when a share was meant to be sent until it was: this process waits for a core like any other.
    pub late_us: Vec<u64>,
}

/// Miners at work; they end when this is dropped.
pub struct Fleet {
    counts: Arc<Counts>,
    _miners: JoinSet<()>,
}

impl Fleet {
    /// Returns when all miners have a job.
    pub async fn start(address: SocketAddr, load: &Load) -> anyhow::Result<Fleet> {
        let counts = Arc::new(Counts::default());
        let (mut opening, mut opened) = (JoinSet::new(), Vec::with_capacity(load.connections));
        for index in 0..load.connections {
            // As a site that comes up: not all in one instant.
            if opening.len() >= 100
                && let Some(miner) = opening.join_next().await
            {
                opened.push(miner??);
            }
            opening.spawn(Miner::connect(address, index, load.clone(), Arc::clone(&counts)));
        }
        while let Some(miner) = opening.join_next().await {
            opened.push(miner??);
        }
        let (begin, mut miners) = (Instant::now(), JoinSet::new());
        for miner in opened {
            // Evenly over the period.
            let phase = miner.index as f64 / load.connections as f64;
            let begin = begin + load.every.unwrap_or_default().mul_f64(phase);
            miners.spawn(work(miner, begin));
        }
        Ok(Fleet { counts, _miners: miners })
    }

    pub fn reset(&self) {
        self.counts.answered.store(0, Ordering::Relaxed);
        self.counts.accepted.store(0, Ordering::Relaxed);
        *self.counts.times() = Times::default();
    }

    pub fn alive(&self) -> usize {
        self.counts.alive.load(Ordering::Relaxed)
    }

    pub fn read(&self) -> Seen {
        let Times { latencies, late } = self.counts.times().clone();
        Seen {
            answered: self.counts.answered.load(Ordering::Relaxed),
            accepted: self.counts.accepted.load(Ordering::Relaxed),
            latencies_us: latencies,
            late_us: late,
        }
    }
}

impl Counts {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(mut miner: Miner, begin: Instant) {
    miner.counts.alive.fetch_add(1, Ordering::Relaxed);
    let _ = miner.run(begin).await;
    miner.counts.alive.fetch_sub(1, Ordering::Relaxed);
}

fn keep(times: &mut Vec<u64>, since: Instant) {
    if times.len() < MAX_LATENCIES {
        times.push(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
}

struct Miner {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    index: usize,
    worker: String,
    load: Load,
    counts: Arc<Counts>,
    job: String,
    ntime: String,
    extranonce2_size: usize,
    sent: VecDeque<Instant>,
    next: u64,
}

impl Miner {
    async fn connect(
        address: SocketAddr,
        index: usize,
        load: Load,
        counts: Arc<Counts>,
    ) -> anyhow::Result<Miner> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let mut miner = Miner {
            // Small, since there may be ten thousand of them.
            reader: BufReader::with_capacity(2_048, reader),
            writer,
            index,
            worker: format!("acct.m-miners-{index}"),
            load,
            counts,
            job: String::new(),
            ntime: String::new(),
            extranonce2_size: 4,
            sent: VecDeque::new(),
            next: 0,
        };
        let opening = format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"load/1\"]}}\n\
             {{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{}\",\"x\"]}}\n",
            miner.worker
        );
        miner.writer.write_all(opening.as_bytes()).await?;
        let mut line = String::new();
        while miner.job.is_empty() {
            line.clear();
            anyhow::ensure!(miner.reader.read_line(&mut line).await? > 0, "turned away");
            miner.hear(&line);
        }
        Ok(miner)
    }

    async fn run(&mut self, begin: Instant) -> anyhow::Result<()> {
        let mut clock = self.load.every.map(|every| tokio::time::interval_at(begin.into(), every));
        let mut line = String::new();
        loop {
            if self.load.every.is_none() && self.sent.len() * 2 <= self.load.window && self.load.window > 0 {
                self.send(self.load.window - self.sent.len()).await?;
            }
            tokio::select! {
                read = self.reader.read_line(&mut line) => {
                    anyhow::ensure!(read? > 0, "closed");
                    loop {
                        self.hear(&line);
                        line.clear();
                        if !self.reader.buffer().contains(&b'\n') {
                            break;
                        }
                        self.reader.read_line(&mut line).await?;
                    }
                }
                meant = tick(&mut clock) => if self.sent.len() < self.load.window {
                    keep(&mut self.counts.times().late, meant);
                    self.send(1).await?;
                }
            }
        }
    }

    async fn send(&mut self, count: usize) -> std::io::Result<()> {
        let mut out = String::with_capacity(160 * count);
        for _ in 0..count {
            self.next += 1;
            let extranonce2 = if self.load.fresh { self.next } else { self.next >> 20 };
            let _ = writeln!(
                out,
                "{{\"id\":9,\"method\":\"mining.submit\",\"params\":[\"{}\",\"{}\",\"{:0width$x}\",\"{}\",\"{:08x}\"]}}",
                self.worker,
                self.job,
                extranonce2,
                self.ntime,
                self.next & 0xffff_ffff,
                width = 2 * self.extranonce2_size,
            );
            self.sent.push_back(Instant::now());
        }
        self.writer.write_all(out.as_bytes()).await
    }

    fn hear(&mut self, line: &str) {
        if line.contains("\"id\":9") {
            let accepted = line.contains("\"result\":true");
            self.counts.answered.fetch_add(1, Ordering::Relaxed);
            self.counts.accepted.fetch_add(u64::from(accepted), Ordering::Relaxed);
            if let Some(sent) = self.sent.pop_front() {
                keep(&mut self.counts.times().latencies, sent);
            }
        } else if line.contains("mining.notify") {
            let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let text = |index: usize| message["params"][index].as_str().unwrap_or_default().to_owned();
            (self.job, self.ntime) = (text(0), text(7));
        } else if line.contains("\"id\":1,") {
            let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            self.extranonce2_size = message["result"][2].as_u64().unwrap_or(4) as usize;
        }
    }
}

/// When it was meant to be.
async fn tick(clock: &mut Option<tokio::time::Interval>) -> Instant {
    match clock {
        Some(clock) => clock.tick().await.into_std(),
        None => std::future::pending().await,
    }
}
