//! A pool that takes everything, and costs as little as it can: it looks for ids and says true.
//!
//! Assumes a peer of ours. A job every ten seconds, a block every thirty, so that the proxy's memory of duplicates is flushed
//! as in life, if sooner. Next: `child.rs`.

use crate::child::EXPONENT;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub struct Pool {
    pub address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Pool {
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

pub async fn start() -> anyhow::Result<Pool> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, taken) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let pool = Pool { address, taken: Arc::clone(&taken) };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                // Its peers go without a word when a measurement is over.
                let _ = serve(stream, &taken).await;
            });
        }
    });
    Ok(pool)
}

/// Serves until it is killed; its first line is its address.
pub async fn serve_alone() -> anyhow::Result<()> {
    println!("{}", start().await?.address);
    std::future::pending().await
}

async fn serve(stream: TcpStream, taken: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let mut jobs = tokio::time::interval(Duration::from_secs(10));
    let (mut line, mut number, mut ready) = (String::new(), 0u64, false);
    loop {
        let mut out = String::new();
        tokio::select! {
            read = reader.read_line(&mut line) => {
                anyhow::ensure!(read? > 0, "closed");
                loop {
                    ready |= answer(&line, &mut out, taken);
                    line.clear();
                    // What else has come already is answered in the same packet.
                    if !reader.buffer().contains(&b'\n') {
                        break;
                    }
                    reader.read_line(&mut line).await?;
                }
                if ready && number == 0 {
                    number = 1;
                    out.push_str(&job(number)?);
                }
            }
            _ = jobs.tick() => if ready {
                number += 1;
                out = job(number)?;
            }
        }
        writer.write_all(out.as_bytes()).await?;
    }
}

/// True once the peer has authorized.
fn answer(line: &str, out: &mut String, taken: &AtomicU64) -> bool {
    if line.contains("mining.submit") {
        taken.fetch_add(1, Ordering::Relaxed);
        let id = line
            .split_once("\"id\":")
            .map_or("null", |(_, rest)| rest.split([',', '}']).next().unwrap_or("0"));
        out.push_str("{\"id\":");
        out.push_str(id);
        out.push_str(",\"result\":true,\"error\":null}\n");
        return false;
    }
    let Ok(request) = serde_json::from_str::<Value>(line) else { return false };
    let result = match request["method"].as_str() {
        Some("mining.configure") => json!({ "version-rolling": false }),
        Some("mining.subscribe") => json!([[], "0badcafe", 8]),
        _ => json!(true),
    };
    let reply = json!({ "id": request["id"], "result": result, "error": null });
    out.push_str(&format!("{reply}\n"));
    request["method"] == "mining.authorize"
}

fn job(number: u64) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let branches: Vec<String> = (0..12).map(|branch| format!("{:064x}", number * 100 + branch)).collect();
    let previous = format!("{:064x}", number / 3 + 1);
    let params = json!([
        format!("{number:x}"),
        previous,
        "01".repeat(120),
        "02".repeat(118),
        branches,
        "20000000",
        "17025ced",
        format!("{now:08x}"),
        number % 3 == 1
    ]);
    let difficulty =
        json!({ "id": null, "method": "mining.set_difficulty", "params": [2f64.powi(i32::from(EXPONENT))] });
    let notify = json!({ "id": null, "method": "mining.notify", "params": params });
    Ok(format!("{difficulty}\n{notify}\n"))
}
