//! The thread that hashes: round after round over all miners, a bounded chunk each, with rests that hold it to its duty.
//!
//! Assumes that credits arrive in small portions all the time, so that it need not be woken: it looks each few milliseconds.
//! Next: [`stratum::mine::scan`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stratum::mine::scan;

use super::{Find, MAX_DUTY, Shared, Slot, Work, lock};

/// Hashes for one miner in one round: a quarter of a millisecond, so that finds of 400 miners are a tenth of a second old.
const CHUNK: u64 = 2_048;
/// Shortest rest between two rounds: 200 rounds a second cost nothing when nothing is owed.
const REST: Duration = Duration::from_millis(5);

pub(super) fn run(shared: &Shared) {
    while !shared.ended.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let slots: Vec<Arc<Slot>> = lock(&shared.slots).clone();
        for slot in &slots {
            work_off(shared, slot);
        }
        let rest = begin.elapsed().mul_f64(1.0 / MAX_DUTY - 1.0);
        std::thread::park_timeout(rest.max(REST));
    }
}

fn work_off(shared: &Shared, slot: &Slot) {
    let owed = slot.owed.load(Ordering::Relaxed);
    if owed == 0 {
        return;
    }
    let Some((work, exhausted)) = take_chunk(slot, owed.min(CHUNK)) else {
        slot.owed.fetch_sub(owed, Ordering::Relaxed);
        shared.idle.fetch_add(owed, Ordering::Relaxed);
        return;
    };
    let done = scan(&work.template, work.nonce..work.end, &work.target);
    slot.owed.fetch_sub(done.hashes.min(owed), Ordering::Relaxed);
    shared.hashed.fetch_add(done.hashes, Ordering::Relaxed);
    let finds = done.found.into_iter().map(|nonce| Find::Nonce { tag: work.tag, nonce });
    for find in finds.chain(exhausted.then_some(Find::Exhausted { tag: work.tag })) {
        if slot.finds.try_send(find).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Cuts the next nonces off the miner's work; `None` when it has none. The lock is not held while hashing.
fn take_chunk(slot: &Slot, hashes: u64) -> Option<(Work, bool)> {
    let mut current = lock(&slot.work);
    let work = current.as_mut()?;
    let end = u64::from(work.end).min(u64::from(work.nonce) + hashes);
    let chunk = Work { end: u32::try_from(end).unwrap_or(u32::MAX), ..work.clone() };
    work.nonce = chunk.end;
    let exhausted = work.nonce >= work.end;
    if exhausted {
        *current = None;
    }
    Some((chunk, exhausted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use model::{Hashrate, Span};
    use stratum::hash::Header;
    use stratum::mine::{Template, scan};
    use stratum::target::Difficulty;

    use super::super::{DEFAULT_BUDGET, Engine, Find, Work, scale_for};

    fn work(tag: u64, nonces: std::ops::Range<u32>) -> Work {
        let template = Template::from_header(Header([9; 80]));
        Work { tag, template, target: Difficulty::floor().target(), nonce: nonces.start, end: nonces.end }
    }

    async fn next(finds: &mut tokio::sync::mpsc::Receiver<Find>) -> Find {
        tokio::time::timeout(Duration::from_secs(60), finds.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn exactly_the_shares_of_a_range_are_found_and_then_its_end() {
        let engine = Engine::start().unwrap();
        let (miner, mut finds) = engine.register(1_000).unwrap();
        let range = 0..60_000;
        let all = work(7, range.clone());
        let expected = scan(&all.template, range, &all.target).found;
        assert!(expected.len() > 3, "the sample has shares");
        miner.set_work(all);
        engine.advance(Span::secs(1), &[(miner.id(), Hashrate::new(60_000_000))]);
        for nonce in expected {
            assert_eq!(next(&mut finds).await, Find::Nonce { tag: 7, nonce });
        }
        assert_eq!(next(&mut finds).await, Find::Exhausted { tag: 7 });
        let stats = engine.stats();
        assert_eq!((stats.hashed, stats.backlog, stats.idle, stats.lost), (60_000, 0, 0, 0));
    }

    #[tokio::test]
    async fn without_credit_nothing_is_hashed_and_without_work_credit_lapses() {
        let engine = Engine::start().unwrap();
        let (working, mut finds) = engine.register(1).unwrap();
        let (idle, _none) = engine.register(1).unwrap();
        let (uncredited, mut nothing) = engine.register(1).unwrap();
        working.set_work(work(1, 0..1_000));
        uncredited.set_work(work(2, 0..1_000));
        engine
            .advance(Span::secs(1), &[(idle.id(), Hashrate::new(500)), (working.id(), Hashrate::new(1_000))]);
        while next(&mut finds).await != (Find::Exhausted { tag: 1 }) {}
        // The working miner may stand before or after the idle one in a round: the next round has seen both.
        working.set_work(work(3, 0..1));
        engine.advance(Span::secs(1), &[(working.id(), Hashrate::new(1))]);
        while next(&mut finds).await != (Find::Exhausted { tag: 3 }) {}
        assert_eq!((engine.stats().hashed, engine.stats().idle), (1_001, 500));
        assert!(nothing.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_miner_that_has_gone_is_owed_nothing() {
        let engine = Engine::start().unwrap();
        let (miner, _finds) = engine.register(1).unwrap();
        let id = miner.id();
        drop(miner);
        engine.advance(Span::secs(1), &[(id, Hashrate::new(1_000))]);
        assert_eq!(engine.backlog(), 0);
    }

    #[test]
    fn the_scale_brings_a_fleet_down_to_the_budget() {
        let check = |tera: i64, speed: f64, expected: u64| {
            assert_eq!(scale_for(Hashrate::tera(tera), speed, DEFAULT_BUDGET), expected);
        };
        check(100_000, 1.0, 100_000_000_000);
        check(100_000, 60.0, 6_000_000_000_000);
        check(0, 1.0, 1);
        check(1, 0.0, 1);
    }
}
