//! Miners that send shares without mining them, and count the answers.
//!
//! Assumes a difficulty that nearly every hash meets. Lines are made by hand, so that the load costs less than what it loads.
//! Next: `main.rs`, which reads the counts.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

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
    latencies_us: Mutex<Vec<u64>>,
}

pub struct Seen {
    pub answered: u64,
    pub accepted: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub worst_us: u64,
}

pub struct Fleet {
    counts: Arc<Counts>,
}

impl Fleet {
    /// Returns when all miners have a job.
    pub async fn start(address: SocketAddr, load: &Load) -> anyhow::Result<Fleet> {
        let counts = Arc::new(Counts::default());
        let mut opening = tokio::task::JoinSet::new();
        for index in 0..load.connections {
            // As a site that comes up: not all in one instant.
            if opening.len() >= 100 {
                opening.join_next().await.transpose()?.transpose()?;
            }
            let (load, counts) = (load.clone(), Arc::clone(&counts));
            opening.spawn(async move {
                let mut miner = Miner::connect(address, index, load, counts).await?;
                tokio::spawn(async move {
                    miner.counts.alive.fetch_add(1, Ordering::Relaxed);
                    let _ = miner.run().await;
                    miner.counts.alive.fetch_sub(1, Ordering::Relaxed);
                });
                anyhow::Ok(())
            });
        }
        while let Some(opened) = opening.join_next().await {
            opened??;
        }
        Ok(Fleet { counts })
    }

    pub fn reset(&self) {
        self.counts.answered.store(0, Ordering::Relaxed);
        self.counts.accepted.store(0, Ordering::Relaxed);
        self.counts.latencies_us.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn alive(&self) -> usize {
        self.counts.alive.load(Ordering::Relaxed)
    }

    pub fn read(&self) -> Seen {
        let mut all = self.counts.latencies_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_unstable();
        let at = |permille: usize| all.get(all.len() * permille / 1_000).copied().unwrap_or(0);
        Seen {
            answered: self.counts.answered.load(Ordering::Relaxed),
            accepted: self.counts.accepted.load(Ordering::Relaxed),
            p50_us: at(500),
            p99_us: at(990),
            worst_us: all.last().copied().unwrap_or(0),
        }
    }
}

struct Miner {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
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

    async fn run(&mut self) -> anyhow::Result<()> {
        // Spread over the period, so that a rate is even.
        let phase =
            self.load.every.unwrap_or_default().mul_f64((self.worker.len() * 37 % 100) as f64 / 100.0);
        let mut clock =
            self.load.every.map(|every| tokio::time::interval_at((Instant::now() + phase).into(), every));
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
                () = tick(&mut clock) => if self.sent.len() < self.load.window {
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
                let mut all = self.counts.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
                if all.len() < MAX_LATENCIES {
                    all.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
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

async fn tick(clock: &mut Option<tokio::time::Interval>) {
    match clock {
        Some(clock) => drop(clock.tick().await),
        None => std::future::pending().await,
    }
}
