//! Bytes and lines of any kind into both machines: no panic, every reply a line of JSON, and books that balance.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use stratum::account::{Accounts, End};
use stratum::downstream::{Config, Now, Output, Session};
use stratum::job::{Assignment, Job, Slice, Source};
use stratum::line::{LineBuffer, MAX_CLIENT_LINE};
use stratum::slices::Slices;
use stratum::target::Difficulty;
use stratum::upstream::{self, Event, Upstream};

fn session() -> Session {
    let pool = Slice { extranonce1: vec![1], extranonce2_size: 8 };
    let slice = Slices::new(pool, 0, 9).unwrap().allocate().unwrap();
    let mut session = Session::new(Config::default(), slice, 0x1fff_e000, Now::default());
    let job = Job::keep_alive(1, 0x2000_0000, 0x207f_ffff, 0).unwrap();
    let source = Source::Upstream { session: 1, difficulty: Difficulty::floor() };
    session.on_job(Arc::new(Assignment { job, source }));
    session
}

/// Values that are near enough to the real ones to get past the first check.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[0-9a-fA-F]{8}".prop_map(Value::from),
        Just(json!("1")),
        Just(json!("w")),
        Just(json!("00000000")),
        Just(json!(["version-rolling", "minimum-difficulty"])),
        Just(json!({ "version-rolling.mask": "ffffffff", "minimum-difficulty.value": 1e-7 })),
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        4 => Just("mining.submit"),
        1 => Just("mining.subscribe"),
        1 => Just("mining.authorize"),
        1 => Just("mining.configure"),
        1 => Just("mining.suggest_difficulty"),
        1 => Just("mining.notify"),
        1 => Just("mining.set_difficulty"),
        1 => Just("mining.set_extranonce"),
        1 => Just("mining.set_version_mask"),
        1 => Just("client.reconnect"),
        1 => Just("mining.unheard"),
    ];
    let params = prop_oneof![
        4 => prop::collection::vec(value(), 0..8).prop_map(Value::from),
        1 => value(),
        // A submission that fails at nothing but its hash, or not even there: the share target is 1 in 4,096.
        4 => any::<u32>().prop_map(|n| json!(["w", "1", "00000000", "00000000", format!("{n:08x}"), "00000000"])),
    ];
    let message = (value(), method, params)
        .prop_map(|(id, method, params)| json!({ "id": id, "method": method, "params": params }).to_string());
    let answer = (0u64..20, value(), value())
        .prop_map(|(id, result, error)| json!({ "id": id, "result": result, "error": error }).to_string());
    prop_oneof![
        6 => message.prop_map(String::into_bytes),
        1 => answer.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

/// Books what came out; gives how many shares and rejects there were.
fn book(accounts: &mut Accounts, outputs: &[Output]) -> u64 {
    let mut shares = 0;
    for output in outputs {
        let (worker, work, end) = match output {
            Output::Share(share) => (Some(&*share.worker), share.verified.work, End::Unknown),
            Output::Rejected { worker, reject, work } => {
                (worker.as_deref(), *work, End::RejectedLocally(*reject))
            }
            Output::Send(line) => {
                assert!(line.ends_with('\n') && !line.trim_end().contains('\n'), "{line:?}");
                assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
                continue;
            }
            Output::Authorized { .. } | Output::Close(_) => continue,
        };
        accounts.receive(worker, work);
        accounts.finish(worker, work, end).unwrap();
        shares += 1;
    }
    shares
}

proptest! {
    // Sessions of up to 60 lines, in a debug build some 10 ms each.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_lines_of_a_miner_are_answered_and_booked(lines in prop::collection::vec(line(), 0..60), ready: bool) {
        let (mut session, mut accounts, mut now) = (session(), Accounts::default(), Now::default());
        if ready {
            session.on_line(now, br#"{"id":1,"method":"mining.subscribe","params":[]}"#);
            session.on_line(now, br#"{"id":2,"method":"mining.authorize","params":["w"]}"#);
        }
        let mut expected = 0;
        for line in lines {
            now.mono_ms += 50;
            let submission = serde_json::from_slice::<Value>(&line)
                .is_ok_and(|value| value.get("method") == Some(&json!("mining.submit")));
            let outputs = session.on_line(now, &line);
            expected += u64::from(submission && !outputs.is_empty());
            book(&mut accounts, &outputs);
            book(&mut accounts, &session.tick(now));
            prop_assert_eq!(accounts.check(), Ok(()));
            prop_assert_eq!(accounts.total().received().shares, expected);
            prop_assert!(session.difficulty() >= Difficulty::floor());
        }
    }

    #[test]
    fn lines_of_one_read_are_answered_as_if_they_came_one_by_one(
        lines in prop::collection::vec(line(), 0..40),
        ready: bool,
        cuts in prop::collection::vec(1usize..30, 1..8),
    ) {
        let (mut single, now) = (session(), Now { mono_ms: 5, unix_s: 0 });
        if ready {
            single.on_line(now, br#"{"id":1,"method":"mining.subscribe","params":[]}"#);
            single.on_line(now, br#"{"id":2,"method":"mining.authorize","params":["w"]}"#);
        }
        let mut together = single.clone();
        let one_by_one: Vec<Output> = lines.iter().flat_map(|line| single.on_line(now, line)).collect();
        let (mut rest, mut at_once) = (lines.as_slice(), Vec::new());
        for cut in cuts.iter().cycle().take_while(|_| !lines.is_empty()) {
            let (part, others) = rest.split_at((*cut).min(rest.len()));
            let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
            at_once.extend(together.on_lines(now, &part));
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn any_bytes_of_a_miner_are_survived(chunks: Vec<Vec<u8>>) {
        let (mut session, mut buffer) = (session(), LineBuffer::new(MAX_CLIENT_LINE));
        let mut accounts = Accounts::default();
        for chunk in chunks {
            let pushed = buffer.push(&chunk, |line| {
                let outputs = session.on_line(Now::default(), line);
                book(&mut accounts, &outputs);
            });
            prop_assert!(pushed.is_ok(), "no chunk here is as long as the limit");
        }
        prop_assert_eq!(accounts.check(), Ok(()));
    }

    #[test]
    fn any_lines_of_a_pool_are_survived(lines in prop::collection::vec(line(), 0..60)) {
        let (mut client, _) = Upstream::new(upstream::Config::new("w", "a"), 1, 0);
        let mut ready = 0;
        for line in lines {
            let events = client.on_line(&line);
            ready += events.iter().filter(|event| matches!(event, Event::Ready { .. })).count();
            let jobs = events.iter().filter(|event| matches!(event, Event::Job(_))).count();
            prop_assert!(ready <= 1 && (ready == 1 || jobs == 0));
        }
    }
}
