//! The state by itself: what it asks of the journal and hands to the wire, call by call. Over real sockets: `tests/proxy/`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Mutex;

use stratum::downstream;
use stratum::hash::{Header, HeaderHash};
use stratum::upstream;
use stratum::verify::Verified;
use tokio::sync::Notify;

use super::super::{PoolStatus, Stats, Upstreams};
use super::live::MAX_WAITING;
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
            block: false,
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

/// All lines that wait, in the order in which they are written.
fn written(state: &mut State) -> String {
    let mut all = String::new();
    loop {
        let mut out = String::new();
        state.take_waiting(0, &mut out);
        if out.is_empty() {
            return all;
        }
        all.push_str(&out);
    }
}

fn lines(state: &mut State) -> usize {
    written(state).lines().count()
}

/// Nonces of the lines that wait, in the order in which they are written.
fn nonces(state: &mut State) -> Vec<u32> {
    let nonce = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        u32::from_str_radix(line["params"][4].as_str().unwrap(), 16).unwrap()
    };
    written(state).lines().map(nonce).collect()
}

/// Makes blocks of those shares.
fn blocks(mut outputs: Vec<Output>, which: &[usize]) -> Vec<Output> {
    for at in which {
        if let Output::Share(share) = &mut outputs[*at]
            && let Fate::Forward(outgoing) = &mut share.fate
        {
            outgoing.block = true;
        }
    }
    outputs
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
    let out = written(&mut state);
    assert!(out.len() <= MAX_WAITING && out.len() > MAX_WAITING - 300, "{}", out.len());
    assert!(out.ends_with("]}\n") && out.lines().count() < 4_000);
    assert_eq!(state.stats().in_flight.shares, 4_000, "the others wait for the timeout");
}

#[test]
fn blocks_go_before_the_others_of_their_read_and_before_what_waits() {
    let check = |reads: &[(u8, &[usize])], expected: &[u32]| {
        let (mut state, _) = state(|_| {});
        for (count, which) in reads {
            state.on_outputs(0, &blocks(shares(1, *count), which), NOW).unwrap();
        }
        assert_eq!(nonces(&mut state), expected, "{reads:?}");
        let all: u64 = reads.iter().map(|(count, _)| u64::from(*count)).sum();
        answer(&mut state, all);
        assert_eq!(counts(&state.stats()), (all, 0, true, 0));
    };
    check(&[(4, &[])], &[0, 1, 2, 3]);
    check(&[(4, &[3])], &[3, 0, 1, 2]);
    check(&[(4, &[1, 3])], &[1, 3, 0, 2]);
    check(&[(3, &[]), (2, &[1])], &[1, 0, 1, 2, 0]);
    check(&[(2, &[1]), (2, &[0])], &[1, 0, 0, 1]);
}

#[test]
fn a_block_waits_for_a_hundred_lines_at_most_and_finds_room_where_others_do_not() {
    let (mut state, _) = state(|_| {});
    (0..45).for_each(|_| state.on_outputs(0, &shares(1, 100), NOW).unwrap());
    let mut out = String::new();
    state.take_waiting(0, &mut out);
    assert!(out.ends_with("]}\n") && (60..200).contains(&out.lines().count()), "{}", out.lines().count());
    // 4,096 are unanswered; the others were given up.
    assert_eq!(state.stats().ends[&End::Unknown].shares, 404);
    state.on_outputs(0, &blocks(shares(1, 9), &[8]), NOW).unwrap();
    assert_eq!(state.stats().ends[&End::Unknown].shares, 412, "but for the block");
    assert_eq!(nonces(&mut state)[0], 8);
    (0..9).for_each(|_| {
        state.on_outputs(0, &blocks(shares(1, 10), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), NOW).unwrap()
    });
    assert_eq!(state.stats().in_flight.shares, 4_096 + 64, "which is bounded too");
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
    let words = state.detail(Time(5), 5).words;
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

#[test]
fn work_is_unpaid_once_every_account_that_gets_miners_has_been_away_for_long() {
    let check = |idle_after_ms: Option<u64>, pass_through: bool, weight: u32, expected: [bool; 4]| {
        let (mut state, _) = state(|config| {
            config.upstreams.idle_after_ms = idle_after_ms;
            config.upstreams.pass_through = pass_through;
            config.upstreams.weight = weight;
        });
        let mut seen = Vec::new();
        let mut look = |state: &mut State, mono_ms: u64| {
            state.keep_alive(mono_ms, 1);
            seen.push(state.is_unpaid(mono_ms));
        };
        look(&mut state, 50_000);
        state.close(0, 60_000);
        look(&mut state, 60_000);
        look(&mut state, 89_999);
        look(&mut state, 90_000);
        assert_eq!(seen, expected, "{idle_after_ms:?} {pass_through} {weight}");
        state.open(0, upstream::Config::new("acct", "test"), Arc::new(Notify::new()), 91_000);
        state.keep_alive(91_000, 1);
        assert_eq!(state.is_unpaid(91_000), expected[3], "a connection is no session yet");
    };
    check(Some(30_000), false, 1, [false, false, false, true]);
    check(None, false, 1, [false; 4]);
    check(Some(30_000), true, 1, [false; 4]);
    check(Some(30_000), false, 0, [false, false, true, true]);
}

#[test]
fn what_waits_for_a_session_is_bounded_and_a_block_finds_room_and_goes_first() {
    let (mut state, _) = state(|_| {});
    let connect = |state: &mut State| {
        state.open(0, upstream::Config::new("acct", "test"), Arc::new(Notify::new()), 0);
        for line in [
            r#"{"id":1,"result":{"version-rolling":false},"error":null}"#,
            r#"{"id":2,"result":[[["mining.notify","s-1"]],"0badcafe",8],"error":null}"#,
            r#"{"id":3,"result":true,"error":null}"#,
        ] {
            state.on_pool_line(0, line.as_bytes(), &mut Vec::new());
        }
        let previous = "11".repeat(32);
        let params = format!(r#"["j","{previous}","0100","0200",[],"20000000","1d00ffff","00000009",false]"#);
        let line = format!(r#"{{"id":null,"method":"mining.notify","params":{params}}}"#);
        state.on_pool_line(0, line.as_bytes(), &mut Vec::new());
    };
    // The second session has a name, and the pool is seen to go on with it.
    for at in 1..4 {
        state.close(0, at);
        connect(&mut state);
    }
    state.close(0, 4);
    (0..11).for_each(|_| state.on_outputs(0, &shares(2, 100), NOW).unwrap());
    let unpaid =
        |state: &State| state.stats().ends.get(&End::CountedKeepAlive).map_or(0, |tally| tally.shares);
    assert_eq!((state.stats().in_flight.shares, unpaid(&state)), (1_000, 100));
    let every: Vec<usize> = (0..30).collect();
    state.on_outputs(0, &blocks(shares(2, 30), &every), NOW).unwrap();
    assert_eq!((state.stats().in_flight.shares, unpaid(&state)), (1_024, 100));
    assert_eq!(state.stats().ends[&End::Unknown].shares, 6, "no place was left for the last of the read");
    connect(&mut state);
    let sent = nonces(&mut state);
    assert_eq!((sent.len(), &sent[..26]), (1_024, &(0..24).chain(0..2).collect::<Vec<u32>>()[..]));
    assert!(state.stats().balanced);
}

#[test]
fn each_pool_has_its_answers_and_only_the_one_in_use_is_up() {
    let (mut state, _) = state(|config| {
        config.upstreams.backups = vec!["spare.example:3333".into()];
        // Another account at the same pool: both together are one pool.
        config.upstreams.others = vec![super::super::Account {
            name: "other".into(),
            password: "x".into(),
            weight: 0,
            pools: vec!["pool.example:3333".into()],
        }];
    });
    state.on_outputs(0, &shares(1, 4), NOW).unwrap();
    answer(&mut state, 2);
    state.on_pool_line(0, br#"{"id":18,"result":null,"error":[23,"no",null]}"#, &mut Vec::new());
    state.settle();
    let shown = |state: &State| -> Vec<(String, bool, [u64; 3])> {
        let counts = |pool: &PoolStatus| [pool.accepted, pool.refused, pool.unknown];
        state.pools().iter().map(|pool| (pool.pool.clone(), pool.up, counts(pool))).collect()
    };
    let (pool, spare) = ("stratum+tcp://pool.example:3333", "stratum+tcp://spare.example:3333");
    let expected = [(pool.to_owned(), true, [2, 1, 0]), (spare.to_owned(), false, [0; 3])];
    assert_eq!(shown(&state), expected);
    state.close(0, 9);
    let expected = [(pool.to_owned(), false, [2, 1, 1]), (spare.to_owned(), false, [0; 3])];
    assert_eq!(shown(&state), expected, "what was on the wire will have no answer");
}
