//! The state by itself: what it asks of the journal and hands to the wire, call by call. Over real sockets: `tests/proxy/`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Mutex;

use stratum::downstream;
use stratum::hash::{Header, HeaderHash};
use stratum::upstream;
use stratum::verify::Verified;

use super::super::{Stats, Upstreams};
use super::*;

/// Each call of the journal, in words.
#[derive(Clone, Default)]
struct Calls {
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    broken: Arc<Mutex<bool>>,
    intents: u64,
}

impl Calls {
    fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl ShareJournal for Calls {
    fn record(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError> {
        let mut numbers = Vec::new();
        let words = entries.iter().map(|entry| match entry {
            Entry::Intent(share) => {
                self.intents += 1;
                numbers.push(ShareSeq(self.intents));
                format!("intent of {} for {}", share.miner, share.worker)
            }
            Entry::Outcome(ShareSeq(seq), end) => format!("{seq} {end:?}"),
            Entry::Ended(share, end) => format!("{} {end:?}", share.miner),
        });
        let words = words.collect();
        self.calls.lock().unwrap().push(words);
        if *self.broken.lock().unwrap() { Err(JournalError("no space left".into())) } else { Ok(numbers) }
    }
}

const NOW: Moment = Moment { mono_ms: 5, at: Time(5) };

/// One account whose session with its pool is up, and the journal's calls.
fn state(change: impl FnOnce(&mut Config)) -> (State, Calls) {
    let outside = MinerGroupId::new("outside").unwrap();
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        pool: "pool.example:3333".into(),
        account: "acct".into(),
        password: "x".into(),
        upstreams: Upstreams::default(),
        max_connections: 4,
        groups: Groups::new(BTreeMap::new(), outside),
        first_slice: 0,
        window: Span::minutes(10),
        session: downstream::Config::default(),
        sabotage: Sabotage::default(),
    };
    change(&mut config);
    let calls = Calls::default();
    let mut state = State::new(&config, Time(0), Box::new(calls.clone())).unwrap();
    state.open(0, upstream::Config::new("acct", "test"), Arc::new(Notify::new()), 0);
    let mut rest = Vec::new();
    for line in [
        r#"{"id":1,"result":{"version-rolling":false},"error":null}"#,
        r#"{"id":2,"result":[[],"0badcafe",8],"error":null}"#,
        r#"{"id":3,"result":true,"error":null}"#,
    ] {
        state.on_pool_line(0, line.as_bytes(), &mut rest);
    }
    assert!(state.is_up(0));
    (state, calls)
}

/// Verified shares of `w`, for the pool's session `session`.
fn shares(session: u64, count: u8) -> Vec<Output> {
    let job = stratum::job::Job::keep_alive(1, 0x2000_0000, 0x207f_ffff, 9).unwrap();
    let difficulty = stratum::target::Difficulty::one();
    let source = Source::Upstream { session, difficulty };
    let assignment = Arc::new(Assignment { job, source });
    let share = |number: u8| {
        let outgoing = Outgoing {
            session,
            job_id: "j".into(),
            extranonce2: [number; 8][..].into(),
            ntime: 1,
            nonce: u32::from(number),
            version: 3,
        };
        Output::Share(Box::new(Share {
            worker: "w".into(),
            assignment: Arc::clone(&assignment),
            verified: Verified {
                header: Header([number; 80]),
                hash: HeaderHash([number; 32]),
                work: Work(4_096),
                meets_network: false,
            },
            fate: Fate::Forward(outgoing),
        }))
    };
    (0..count).map(share).collect()
}

fn reject() -> Output {
    Output::Rejected { worker: None, reject: Reject::Stale, work: Work(1) }
}

/// Answers of the pool to its first submissions, as one read brings them.
fn answer(state: &mut State, count: u64) {
    for id in 16..16 + count {
        let line = format!("{{\"id\":{id},\"result\":true,\"error\":null}}");
        state.on_pool_line(0, line.as_bytes(), &mut Vec::new());
    }
}

fn lines(state: &mut State) -> usize {
    let mut out = String::new();
    state.take_waiting(0, &mut out);
    out.lines().count()
}

fn counts(stats: &Stats) -> (u64, u64, bool, u64) {
    (stats.received.shares, stats.in_flight.shares, stats.balanced, stats.journal_failures)
}

#[test]
fn a_read_is_one_call_of_the_journal_and_so_are_the_answers_of_one() {
    let (mut state, calls) = state(|_| {});
    let mut outputs = shares(1, 3);
    outputs.insert(1, reject());
    outputs.insert(2, Output::Send("a line".into()));
    state.on_outputs(0, &outputs, NOW).unwrap();
    let intent = "intent of w for acct";
    assert_eq!(calls.take(), [vec![intent, " Rejected(\"stale\")", intent, intent]]);
    assert_eq!((lines(&mut state), lines(&mut state)), (3, 0));
    answer(&mut state, 3);
    assert!(calls.take().is_empty(), "not one by one");
    state.settle();
    state.settle();
    assert_eq!(calls.take(), [vec!["1 Accepted", "2 Accepted", "3 Accepted"]]);
    assert_eq!(counts(&state.stats()), (4, 0, true, 0));
}

#[test]
fn what_the_journal_refuses_is_neither_booked_nor_sent() {
    let (mut state, calls) = state(|_| {});
    *calls.broken.lock().unwrap() = true;
    assert!(state.on_outputs(0, &shares(1, 3), NOW).is_err());
    assert_eq!((counts(&state.stats()), lines(&mut state)), ((0, 0, true, 3), 0));
    *calls.broken.lock().unwrap() = false;
    state.on_outputs(0, &shares(1, 2), NOW).unwrap();
    assert_eq!((counts(&state.stats()), lines(&mut state)), ((2, 2, true, 3), 2));
    // Outcomes that it refuses are booked: the pool has said them.
    *calls.broken.lock().unwrap() = true;
    answer(&mut state, 2);
    state.settle();
    assert_eq!(counts(&state.stats()), (2, 0, true, 5));
}

#[test]
fn a_session_that_ends_writes_down_at_once_all_that_was_on_the_wire() {
    let (mut state, calls) = state(|_| {});
    state.on_outputs(0, &shares(1, 2), NOW).unwrap();
    calls.take();
    state.close(0, 9);
    assert_eq!(calls.take(), [vec!["1 Unknown", "2 Unknown"]]);
    // A job of a session that is gone is worth nothing any more.
    state.on_outputs(0, &shares(1, 1), NOW).unwrap();
    assert_eq!(calls.take(), [vec!["w KeepAlive"]]);
    assert_eq!(counts(&state.stats()), (3, 0, true, 0));
}

#[test]
fn a_sabotaged_state_records_each_share_twice_and_its_books_still_balance() {
    let (mut state, calls) = state(|config| config.sabotage.count_twice = true);
    state.on_outputs(0, &[shares(1, 1), vec![reject()]].concat(), NOW).unwrap();
    let intent = "intent of w for acct";
    assert_eq!(calls.take(), [vec![intent, intent, " Rejected(\"stale\")"]]);
    answer(&mut state, 1);
    state.settle();
    assert_eq!(calls.take(), [vec!["1 Accepted", "2 Accepted"]]);
    assert_eq!(counts(&state.stats()), (3, 0, true, 0));
}

#[test]
fn what_waits_for_a_pool_that_does_not_read_is_bounded() {
    let (mut state, _) = state(|_| {});
    // Long enough a line, and fewer of them than may be unanswered.
    for _ in 0..40 {
        let mut outputs = shares(1, 100);
        for output in &mut outputs {
            if let Output::Share(share) = output
                && let Fate::Forward(outgoing) = &mut share.fate
            {
                outgoing.job_id = "j".repeat(64).into();
            }
        }
        state.on_outputs(0, &outputs, NOW).unwrap();
    }
    let mut out = String::new();
    state.take_waiting(0, &mut out);
    assert!(out.len() <= MAX_WAITING && out.len() > MAX_WAITING - 300, "{}", out.len());
    assert!(out.ends_with("]}\n") && out.lines().count() < 4_000);
    assert_eq!(state.stats().in_flight.shares, 4_000, "the others wait for the timeout");
}

#[test]
fn a_pool_cannot_choose_what_the_ledger_calls_its_refusals() {
    let (mut state, calls) = state(|_| {});
    state.on_outputs(0, &shares(1, 100), NOW).unwrap();
    calls.take();
    for id in 16..116 {
        let line = format!("{{\"id\":{id},\"result\":null,\"error\":[{},\"no, {id}\",null]}}", 18 + id % 10);
        state.on_pool_line(0, line.as_bytes(), &mut Vec::new());
    }
    state.settle();
    let ends: BTreeSet<String> = calls
        .take()
        .into_iter()
        .flatten()
        .map(|words| words.split_once(' ').map_or(String::new(), |(_, end)| end.to_owned()))
        .collect();
    let codes = ["duplicate", "low-difficulty", "not-subscribed", "other", "stale", "unauthorized"];
    assert!(ends.iter().eq(codes.map(|code| format!("Refused({code:?})")).iter()), "{ends:?}");
    let words = state.detail(Time(5)).words;
    assert!(words.keys().eq(&codes) && words["stale"] == "no, 113", "{words:?}");
}

#[test]
fn a_session_is_found_under_the_number_it_has_now_and_under_none_when_it_is_gone() {
    let (mut state, _) = state(|_| {});
    let found =
        |state: &State| -> Vec<Option<usize>> { (0..4).map(|session| state.index_of(session)).collect() };
    assert_eq!(found(&state), [None, Some(0), None, None]);
    state.close(0, 9);
    assert_eq!(found(&state), [None; 4]);
    state.open(0, upstream::Config::new("acct", "test"), Arc::new(Notify::new()), 10);
    assert_eq!(found(&state), [None, None, Some(0), None]);
    state.close(0, 11);
    assert!(state.sessions.len() <= 2 && found(&state) == [None; 4], "{:?}", state.sessions);
}
