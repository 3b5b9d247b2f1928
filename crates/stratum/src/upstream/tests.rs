//! The pool-facing machine, driven by lines.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::job::tests::sample;

const CONFIGURED: &str =
    r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"0fffe000"},"error":null}"#;
const SUBSCRIBED: &str = r#"{"id":2,"result":[[["mining.notify","a"]],"03b67868",8],"error":null}"#;
const AUTHORIZED: &str = r#"{"id":3,"result":true,"error":null}"#;

fn pool(lines: &[&str]) -> (Upstream, Vec<Event>) {
    let (mut upstream, _) = Upstream::new(Config::new("acct.site", "flareshift/test"), 5, 0);
    let events = lines.iter().flat_map(|line| upstream.on_line(line.as_bytes())).collect();
    (upstream, events)
}

fn notify(id: &str) -> String {
    ServerMessage::Notify(Box::new(sample(id, 1, true))).to_line()
}

fn set_difficulty(value: f64) -> String {
    ServerMessage::SetDifficulty(Difficulty::new(value).unwrap()).to_line()
}

fn outgoing(session: u64) -> Outgoing {
    Outgoing {
        session,
        job_id: "j".into(),
        extranonce2: [1; 8][..].into(),
        ntime: 7,
        nonce: 8,
        version: 0x3fff_e001,
        block: false,
    }
}

fn job_difficulties(events: &[Event]) -> Vec<(String, f64)> {
    let job = |event: &Event| match event {
        Event::Job(assignment) => match assignment.source {
            Source::Upstream { difficulty, .. } => Some((assignment.job.id.to_string(), difficulty.value())),
            Source::KeepAlive => None,
        },
        _ => None,
    };
    events.iter().filter_map(job).collect()
}

#[test]
fn the_opening_asks_for_everything_at_once() {
    let (_, lines) = Upstream::new(Config { suggest: Some(0.5), ..Config::new("w", "a") }, 1, 0);
    let methods: Vec<Call> = lines.iter().map(|line| Request::parse(line.as_bytes()).unwrap().call).collect();
    assert!(matches!(
        methods.as_slice(),
        [
            Call::Configure(_),
            Call::Subscribe { .. },
            Call::Authorize { .. },
            Call::ExtranonceSubscribe,
            Call::SuggestDifficulty(_)
        ]
    ));
    let (_, lines) = Upstream::new(Config { mask: 0, ..Config::new("w", "a") }, 1, 0);
    assert_eq!(lines.len(), 3);
}

#[test]
fn ready_comes_once_and_in_any_order_of_answers() {
    let ready = Event::Ready {
        slice: Slice { extranonce1: vec![0x03, 0xb6, 0x78, 0x68], extranonce2_size: 8 },
        mask: 0x0fff_e000,
    };
    for order in [[CONFIGURED, SUBSCRIBED, AUTHORIZED], [AUTHORIZED, SUBSCRIBED, CONFIGURED]] {
        assert_eq!(pool(&order).1, std::slice::from_ref(&ready));
    }
    let refused = r#"{"id":1,"result":null,"error":[20,"unknown method",null]}"#;
    let (upstream, events) = pool(&[refused, SUBSCRIBED, AUTHORIZED]);
    assert!(upstream.is_ready() && matches!(events[..], [Event::Ready { mask: 0, .. }]));
}

#[test]
fn a_session_goes_on_only_with_the_same_extranonce() {
    let named = r#"{"id":2,"result":[[["mining.set_difficulty","d"],["mining.notify","s-1"]],"03b67868",8],"error":null}"#;
    let (first, _) = pool(&[CONFIGURED, named, AUTHORIZED]);
    let resume = first.resume().unwrap();
    assert_eq!((resume.id.as_str(), resume.session, first.is_resumed()), ("s-1", first.session(), false));
    let nameless = r#"{"id":2,"result":[[],"03b67868",8],"error":null}"#;
    assert_eq!(pool(&[CONFIGURED, nameless, AUTHORIZED]).0.resume(), None, "this pool names none");
    assert_eq!(pool(&[CONFIGURED, named]).0.resume(), None, "it was not ready");

    let again = |subscribed: &str| {
        let config = Config { resume: Some(resume.clone()), ..Config::new("w", "a") };
        let (mut upstream, lines) = Upstream::new(config, 99, 0);
        let asked: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(asked["params"], json!(["a", "s-1"]));
        [CONFIGURED, subscribed, AUTHORIZED].iter().for_each(|line| drop(upstream.on_line(line.as_bytes())));
        upstream
    };
    let same = again(named);
    assert_eq!(
        (same.is_resumed(), same.session(), same.resume()),
        (true, first.session(), Some(resume.clone()))
    );
    let other = again(&named.replace("03b67868", "03b67869"));
    assert_eq!((other.is_resumed(), other.session()), (false, 99));
}

#[test]
fn a_pool_that_never_answers_configure_is_taken_without() {
    let (mut upstream, _) = pool(&[SUBSCRIBED, AUTHORIZED]);
    assert!(upstream.tick(9_000).is_empty());
    assert!(matches!(upstream.tick(10_001)[..], [Event::Ready { mask: 0, .. }]));
    let (mut silent, _) = pool(&[]);
    assert_eq!(silent.tick(30_001), [Event::Broken(Broken::HandshakeTimeout)]);
}

#[test]
fn refusals_break_with_the_pools_words() {
    let check = |line: &str, expected: Broken| assert_eq!(pool(&[line]).1, [Event::Broken(expected)]);
    check(r#"{"id":3,"result":false}"#, Broken::Unauthorized("no reason given".into()));
    check(r#"{"id":3,"result":null,"error":[24,"who",null]}"#, Broken::Unauthorized("who".into()));
    check(r#"{"id":2,"result":null,"error":[20,"full",null]}"#, Broken::Subscription("full".into()));
    check(r#"{"id":2,"result":[[],"03",0]}"#, Broken::Subscription("malformed extranonce2".into()));
}

#[test]
fn each_job_carries_the_difficulty_that_holds_for_it() {
    let lines = [notify("a"), notify("b"), set_difficulty(16.0), set_difficulty(32.0), notify("c")];
    let (mut upstream, _) = pool(&[CONFIGURED, SUBSCRIBED, AUTHORIZED]);
    let events: Vec<Event> = lines.iter().flat_map(|line| upstream.on_line(line.as_bytes())).collect();
    let expected =
        [("a", 1.0), ("b", 1.0), ("b", 16.0), ("c", 32.0)].map(|(id, value)| (id.to_owned(), value));
    assert_eq!(job_difficulties(&events), expected);
}

#[test]
fn a_job_before_ready_is_given_at_ready() {
    let (difficulty, job) = (set_difficulty(4.0), notify("a"));
    let (_, events) = pool(&[SUBSCRIBED, difficulty.as_str(), job.as_str(), CONFIGURED, AUTHORIZED]);
    assert_eq!(job_difficulties(&events), [("a".to_owned(), 4.0)]);
    assert!(matches!(events[1], Event::Ready { .. }));
}

#[test]
fn every_share_has_exactly_one_outcome() {
    let (mut upstream, _) = pool(&[CONFIGURED, SUBSCRIBED, AUTHORIZED]);
    let (ids, lines): (Vec<u64>, Vec<String>) =
        (0..5).map(|n| upstream.submit(n * 1_000, ShareRef(n), &outgoing(5)).unwrap()).unzip();
    assert!(lines[0].contains(r#""0fffe000""#), "only negotiated bits are told: {}", lines[0]);
    let answers = [
        format!(r#"{{"id":{},"result":true,"error":null}}"#, ids[0]),
        format!(r#"{{"id":"{}","result":null,"error":[22,"Duplicate share",null]}}"#, ids[1]),
        format!(r#"{{"id":{},"result":false,"error":null}}"#, ids[2]),
        format!(r#"{{"id":{},"result":true,"error":null}}"#, ids[0]),
        r#"{"id":99,"result":true}"#.to_owned(),
    ];
    let outcome = |share, outcome| Event::Outcome { share: ShareRef(share), outcome };
    let rejected = |reject, text: &str| Outcome::Rejected { reject, text: text.into() };
    let events: Vec<Event> = answers.iter().flat_map(|line| upstream.on_line(line.as_bytes())).collect();
    let expected = [
        outcome(0, Outcome::Accepted),
        outcome(1, rejected(PoolReject::Duplicate, "Duplicate share")),
        outcome(2, rejected(PoolReject::Other, "no reason given")),
    ];
    assert_eq!(events, expected);
    assert_eq!(upstream.tick(63_001), [outcome(3, Outcome::Unknown)]);
    let late = format!(r#"{{"id":{},"result":true}}"#, ids[3]);
    assert_eq!(upstream.on_line(late.as_bytes()), []);
    assert_eq!(upstream.disconnect(), [ShareRef(4)]);
}

#[test]
fn shares_that_cannot_be_sent_are_handed_back() {
    let (mut upstream, _) = pool(&[CONFIGURED, SUBSCRIBED]);
    assert_eq!(upstream.submit(0, ShareRef(1), &outgoing(5)), Err(SubmitError::NotReady));
    upstream.on_line(AUTHORIZED.as_bytes());
    assert_eq!(upstream.submit(0, ShareRef(1), &outgoing(4)), Err(SubmitError::OtherSession));
    for n in 0..MAX_PENDING as u64 {
        upstream.submit(0, ShareRef(n), &outgoing(5)).unwrap();
    }
    assert_eq!(upstream.submit(0, ShareRef(1), &outgoing(5)), Err(SubmitError::Full));
}

#[test]
fn garbage_is_ignored_until_it_is_too_much() {
    let (mut upstream, _) = pool(&[CONFIGURED, SUBSCRIBED, AUTHORIZED]);
    for text in ["-1", "1e-20", "\"x\"", "NaN"] {
        let line = format!("{{\"method\":\"mining.set_difficulty\",\"params\":[{text}]}}");
        assert!(matches!(upstream.on_line(line.as_bytes())[..], [Event::Ignored(_)]), "{text}");
    }
    let broken =
        (0..MAX_GARBAGE).any(|_| upstream.on_line(b"\xff").contains(&Event::Broken(Broken::Garbage)));
    assert!(broken);
}

#[test]
fn changes_of_extranonce_and_mask_are_told_and_questions_answered() {
    let (mut upstream, _) = pool(&[CONFIGURED, SUBSCRIBED, AUTHORIZED]);
    let slice = Slice { extranonce1: vec![9], extranonce2_size: 4 };
    let line = ServerMessage::SetExtranonce(slice.clone()).to_line();
    assert_eq!(upstream.on_line(line.as_bytes()), [Event::Extranonce(slice)]);
    let line = ServerMessage::SetVersionMask(0xffff_0000).to_line();
    assert_eq!(upstream.on_line(line.as_bytes()), [Event::Mask(0x1fff_0000)]);
    let check = |upstream: &mut Upstream, line: &str, expected: &str| {
        let [Event::Send(answer)] = &upstream.on_line(line.as_bytes())[..] else { panic!("{line}") };
        assert!(answer.contains(expected), "{answer}");
    };
    check(&mut upstream, r#"{"id":7,"method":"client.get_version","params":[]}"#, "flareshift/test");
    check(&mut upstream, r#"{"id":7,"method":"mining.ping"}"#, "pong");
    check(&mut upstream, r#"{"id":7,"method":"mining.surprise"}"#, "unknown method");
}
