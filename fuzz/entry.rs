//! What is fuzzed: bytes into the line codec, and into both session machines. Shared by the libFuzzer targets beside this
//! file and by a seeded test of the `stratum` crate, which needs no nightly toolchain.
//!
//! Assumes nothing of the bytes. An entry fails by panicking: by one of the crate's own, or because something held here
//! does not hold. Next: `fuzz_targets/`, `crates/stratum/tests/main/fuzz.rs`.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use stratum::downstream::{Config, MAX_WORKERS, Now, Output, Session};
use stratum::job::{Assignment, Job, Slice, Source};
use stratum::line::{LineBuffer, MAX_CLIENT_LINE};
use stratum::message::{Request, ServerMessage};
use stratum::slices::MinerSlice;
use stratum::target::Difficulty;
use stratum::upstream::{self, BLOCKS_PENDING, Event, MAX_PENDING, Outgoing, ShareRef, Upstream};

/// A limit that inputs of a few hundred bytes reach.
const LIMIT: usize = 64;

/// The first byte says how the rest is cut; lines must not depend on it, and none exceeds the limit.
pub fn lines(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let mut buffer = LineBuffer::new(LIMIT);
    let at_once = buffer.push(bytes, |line| whole.push(line.to_vec()));
    let mut buffer = LineBuffer::new(LIMIT);
    let mut in_pieces = Ok(());
    for chunk in bytes.chunks(cut) {
        in_pieces = buffer.push(chunk, |line| pieces.push(line.to_vec()));
    }
    assert_eq!((at_once, &whole), (in_pieces, &pieces), "cut by {cut}");
    assert!(whole.iter().all(|line| !line.is_empty() && line.len() <= LIMIT && !line.contains(&b'\n')));
    bytes.split(|byte| *byte == b'\n').for_each(message);
}

/// The short ways of reading lines read what the long ways read.
fn message(line: &[u8]) {
    assert_eq!(Request::parse(line), Request::parse_any(line));
    assert_eq!(ServerMessage::parse(line), ServerMessage::parse_any(line));
}

/// Lines of a miner; one that begins with `!` is not his, but something that happens to him.
pub fn session(data: &[u8]) {
    let miner = Slice { extranonce1: vec![1, 2], extranonce2_size: 4 };
    let slice = |index: u64| MinerSlice { index, prefix: vec![index as u8], miner: miner.clone() };
    let mut now = Now { mono_ms: 1, unix_s: 0x6878_b602 };
    let mut session =
        Session::new(Config { seen_budget: 8, ..Config::default() }, slice(1), 0x1fff_e000, now);
    let (mut submissions, mut verdicts, mut closed) = (0, 0, false);
    let mut number = 0;
    let mut buffer = LineBuffer::new(MAX_CLIENT_LINE);
    let mut all = Vec::new();
    // What exceeds a line's limit ends the connection; so does it here.
    let _ = buffer.push(data, |line| all.push(line.to_vec()));
    for line in all {
        message(&line);
        let outputs = match line.strip_prefix(b"!") {
            Some(what) => {
                number += 1;
                happen(&mut session, &mut now, what, number, slice(number))
            }
            None => {
                let value: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
                let is_submission =
                    value.is_some_and(|value| value.is_object() && value["method"] == "mining.submit");
                submissions += u64::from(is_submission && !closed);
                session.on_line(now, &line)
            }
        };
        for output in &outputs {
            match output {
                Output::Send(line) => {
                    let end = line.strip_suffix('\n').expect("a line has an end");
                    assert!(serde_json::from_str::<serde_json::Value>(end).unwrap().is_object(), "{line}");
                }
                Output::Share(share) => {
                    assert!(share.verified.work.0 >= 4_096, "the floor holds");
                    verdicts += 1;
                }
                Output::Rejected { .. } => verdicts += 1,
                Output::Authorized { .. } => {}
                Output::Close(_) => closed = true,
            }
        }
        assert_eq!(submissions, verdicts, "each submission has one verdict");
        assert!(session.workers().len() <= MAX_WORKERS);
        assert!(session.difficulty() >= Difficulty::floor());
    }
}

fn happen(session: &mut Session, now: &mut Now, what: &[u8], number: u64, slice: MinerSlice) -> Vec<Output> {
    let amount = u64::from(what.get(1).copied().unwrap_or(1));
    match what.first() {
        Some(b't') => {
            now.mono_ms += 1_000 * amount;
            session.tick(*now)
        }
        Some(b'm') => session.on_mask(u32::try_from(amount).unwrap_or(0) << 13),
        Some(b's') => session.on_slice(slice),
        Some(b'z') => {
            session.set_asleep(*now, amount.is_multiple_of(2));
            Vec::new()
        }
        _ => {
            let job = Job::keep_alive(number % 5, 0x2000_0000, 0x207f_ffff, 0x6878_b602).unwrap();
            let source = if amount.is_multiple_of(2) {
                Source::KeepAlive
            } else {
                Source::Upstream { session: 1, difficulty: Difficulty::floor() }
            };
            session.on_job(Arc::new(Assignment { job, source }))
        }
    }
}

/// Lines of a pool, among which shares are sent: each has one outcome at most, and those without one come back at the end.
pub fn pool(data: &[u8]) {
    let (mut pool, _) = Upstream::new(upstream::Config::new("w", "fuzz"), 1, 0);
    let (mut sent, mut ended, mut now_ms) = (0u64, Vec::new(), 0);
    for line in data.split(|byte| *byte == b'\n') {
        now_ms += 500;
        let share = Outgoing {
            session: 1,
            job_id: "j".into(),
            extranonce2: [0; 4][..].into(),
            ntime: 1,
            nonce: 2,
            version: 3,
            block: data.len().is_multiple_of(2),
        };
        if pool.submit(now_ms, ShareRef(sent), &share).is_ok() {
            sent += 1;
        }
        for event in pool.on_line(line).into_iter().chain(pool.tick(now_ms)) {
            if let Event::Outcome { share, .. } = event {
                ended.push(share);
            }
        }
        assert!(pool.pending() <= MAX_PENDING + BLOCKS_PENDING);
    }
    ended.extend(pool.disconnect());
    ended.sort();
    assert!(ended.iter().copied().eq((0..sent).map(ShareRef)), "each share ends once");
}
