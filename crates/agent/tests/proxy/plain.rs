//! A miner as an outsider would write it: raw lines over TCP, its own hashing, nothing of the `stratum` crate.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Plain {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    next_id: u64,
    pub worker: String,
    pub extranonce1: String,
    pub extranonce2_size: usize,
    pub difficulty: f64,
    /// Parameters of the last `mining.notify`.
    pub job: Vec<Value>,
    pub notifications: u64,
}

impl Plain {
    /// Connects, without a word.
    pub async fn connect(address: SocketAddr) -> Plain {
        let (reader, writer) = TcpStream::connect(address).await.unwrap().into_split();
        Plain {
            reader: BufReader::new(reader),
            writer,
            next_id: 1,
            worker: String::new(),
            extranonce1: String::new(),
            extranonce2_size: 0,
            difficulty: 1.0,
            job: Vec::new(),
            notifications: 0,
        }
    }

    /// Connects and goes on until it has a job.
    pub async fn ready(address: SocketAddr, worker: &str) -> Plain {
        let mut plain = Plain::connect(address).await;
        let subscribed = plain.call("mining.subscribe", json!(["cpuminer/2.5.1"])).await["result"].clone();
        plain.extranonce1 = subscribed[1].as_str().unwrap().to_owned();
        plain.extranonce2_size = subscribed[2].as_u64().unwrap() as usize;
        assert_eq!(plain.call("mining.authorize", json!([worker, "x"])).await["result"], json!(true));
        plain.worker = worker.to_owned();
        while plain.job.is_empty() {
            plain.hear().await.expect("a job follows");
        }
        plain
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The peer may have closed: what is read afterwards tells.
        let _ = self.writer.write_all(bytes).await;
    }

    /// Sends a request and reads on to its answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "id": id, "method": method, "params": params });
        self.send(format!("{request}\n").as_bytes()).await;
        loop {
            let message = self.hear().await.expect("an answer follows");
            if message["id"] == json!(id) {
                return message;
            }
        }
    }

    /// The next message, jobs and difficulties noted; `None` when the peer closed.
    pub async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("silence");
        if !matches!(read, Ok(count) if count > 0) {
            return None;
        }
        let message: Value = serde_json::from_str(&line).unwrap();
        match message["method"].as_str() {
            Some("mining.notify") => {
                self.job = message["params"].as_array().unwrap().clone();
                self.notifications += 1;
            }
            Some("mining.set_extranonce") => {
                self.extranonce1 = message["params"][0].as_str().unwrap().to_owned();
                self.extranonce2_size = message["params"][1].as_u64().unwrap() as usize;
            }
            Some("mining.set_difficulty") => self.difficulty = message["params"][0].as_f64().unwrap(),
            _ => {}
        }
        Some(message)
    }

    /// Hashes until a nonce from `start` on meets the difficulty; answers the parameters of its submission.
    pub fn mine(&self, start: u32) -> Value {
        let field = |index: usize| self.job[index].as_str().unwrap();
        let extranonce2 = "00".repeat(self.extranonce2_size);
        let coinbase = [field(2), &self.extranonce1, &extranonce2, field(3)].concat();
        let mut root = twice(&bytes(&coinbase));
        for branch in self.job[4].as_array().unwrap() {
            root = twice(&[root, bytes(branch.as_str().unwrap())].concat());
        }
        let mut header = reversed(&bytes(field(5)));
        header.extend(bytes(field(1)).chunks(4).flat_map(reversed));
        header.extend(root);
        header.extend(reversed(&bytes(field(7))));
        header.extend(reversed(&bytes(field(6))));
        let nonce = (start..).find(|nonce| {
            let hash = twice(&[header.clone(), nonce.to_le_bytes().to_vec()].concat());
            is_low(&hash, self.difficulty)
        });
        let nonce = format!("{:08x}", nonce.unwrap());
        json!([self.worker, field(0), extranonce2, field(7), nonce])
    }

    /// Finds a share and submits it; the answer.
    pub async fn submit_one(&mut self, start: u32) -> Value {
        let share = self.mine(start);
        self.call("mining.submit", share).await
    }
}

/// Difficulties of these tests are powers of two, exact in a float; the top 8 bytes of a hash are enough to compare unless it
/// hits the border to 1 in 2^32.
fn is_low(hash: &[u8], difficulty: f64) -> bool {
    let top: [u8; 16] = hash.iter().rev().take(16).copied().collect::<Vec<u8>>().try_into().unwrap();
    let value = u128::from_be_bytes(top) as f64; // hash ÷ 2^128
    value * difficulty < 65_535.0 * 2f64.powi(80)
}

fn twice(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(Sha256::digest(bytes)).to_vec()
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
