//! Shares that are blocks: they go to the pool before all others, also where these were found earlier.
//!
//! Assumes a chain on which one share in sixteen is a block. Next: `resumed.rs` for the pool.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::resumed::Stage;
use super::rig::until;

/// A block hashes to less than 2^240; a share at the difficulty of these tests, 2^-20, to less than 2^244.
const BITS: &str = "1f010000";
/// The difficulty that such a block reaches.
const BLOCK: f64 = 1.0 / 65_536.0;

fn nonce(share: &Value) -> u32 {
    u32::from_str_radix(share[4].as_str().unwrap(), 16).unwrap()
}

/// Shares of the present job: so many that are no blocks, from nonce `start` on, and the block after them.
fn found(stage: &mut Stage, start: u32, plain: usize) -> Vec<Value> {
    let easy = stage.plain.difficulty;
    let mut start = start;
    loop {
        stage.plain.difficulty = BLOCK;
        let block = stage.plain.mine(start);
        stage.plain.difficulty = easy;
        let mut shares = Vec::new();
        let mut next = start;
        while shares.len() < plain {
            let share = stage.plain.mine(next);
            if nonce(&share) >= nonce(&block) {
                break;
            }
            next = nonce(&share) + 1;
            shares.push(share);
        }
        if shares.len() == plain {
            shares.push(block);
            return shares;
        }
        start = nonce(&block) + 1;
    }
}

fn packet(shares: &[Value]) -> String {
    let line = |(id, share): (usize, &Value)| {
        format!("{}\n", json!({ "id": 100 + id, "method": "mining.submit", "params": share }))
    };
    shares.iter().enumerate().map(line).collect()
}

/// Nonces as the pool got them from here on.
fn came(stage: &Stage, before: usize) -> Vec<u32> {
    let script = stage.pool.script.lock().unwrap();
    script.came[before..].iter().map(|nonce| u32::from_str_radix(nonce, 16).unwrap()).collect()
}

#[tokio::test]
async fn a_block_at_the_end_of_a_packet_reaches_the_pool_first() {
    let mut stage = Stage::on(BITS).await;
    let shares = found(&mut stage, 1 << 24, 6);
    stage.plain.send(packet(&shares).as_bytes()).await;
    for id in 100..107 {
        let answer = stage.plain.hear().await.unwrap();
        assert_eq!((&answer["id"], &answer["result"]), (&json!(id), &json!(true)), "the miner's order stays");
    }
    stage.answered().await;
    let mut expected: Vec<u32> = shares.iter().map(nonce).collect();
    expected.rotate_right(1);
    assert_eq!(came(&stage, 1), expected);
    let stats = stage.proxy.handle().stats();
    assert_eq!((stats.received.shares, stats.balanced), (8, true));
}

#[tokio::test]
async fn a_block_that_was_found_while_the_pool_was_away_is_sent_before_the_shares_that_waited_longer() {
    let mut stage = Stage::on(BITS).await;
    // Once, to see that the pool goes on with its sessions.
    stage.lose().await;
    stage.regain(|_| {}).await;
    stage.lose().await;
    let shares = found(&mut stage, 1 << 24, 3);
    for share in &shares {
        assert_eq!(stage.plain.call("mining.submit", share.clone()).await["result"], json!(true));
    }
    assert_eq!(stage.proxy.handle().stats().in_flight.shares, 4);
    stage.regain(|_| {}).await;
    until("all came", || came(&stage, 1).len() == 4).await;
    let mut expected: Vec<u32> = shares.iter().map(nonce).collect();
    expected.rotate_right(1);
    assert_eq!(came(&stage, 1), expected);
    stage.answered().await;
    assert!(stage.proxy.handle().stats().balanced);
}
