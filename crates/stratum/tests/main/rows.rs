//! The protocol, row by row: what a peer sends, and what it is answered. Both directions.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stratum::downstream::{Config, Now, Output, Session};
use stratum::job::{Assignment, Job, Slice, Source};
use stratum::message::{Request, ServerMessage};
use stratum::slices::MinerSlice;
use stratum::target::Difficulty;
use stratum::upstream::{self, Event, Upstream};

const MASK: u32 = 0x1fff_e000;

fn session() -> Session {
    let miner = Slice { extranonce1: vec![0xaa, 1], extranonce2_size: 4 };
    let slice = MinerSlice { index: 1, prefix: vec![1], miner };
    let mut session = Session::new(Config::default(), slice, MASK, Now::default());
    let job = Job::keep_alive(1, 0x2000_0000, 0x1d00_ffff, 9).unwrap();
    let source = Source::Upstream { session: 1, difficulty: Difficulty::one() };
    session.on_job(Arc::new(Assignment { job, source }));
    session
}

/// What is sent in answer, each line shortened to `result`, `error number` or `method`.
fn heard(outputs: &[Output]) -> Vec<String> {
    let line = |output: &Output| match output {
        Output::Send(line) => Some(serde_json::from_str::<Value>(line).unwrap()),
        Output::Close(reason) => Some(json!({ "method": format!("closed: {reason}") })),
        _ => None,
    };
    let short = |message: Value| match (&message["method"], &message["error"]) {
        (Value::String(method), _) => method.clone(),
        (_, Value::Null) => format!("{} {}", message["id"], message["result"]),
        (_, error) => format!("{} error {}", message["id"], error[0]),
    };
    outputs.iter().filter_map(line).map(short).collect()
}

#[test]
fn each_line_of_a_miner_has_its_answer() {
    const SUBSCRIBE: &str = r#"{"id":1,"method":"mining.subscribe","params":["m"]}"#;
    const AUTHORIZE: &str = r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#;
    const READY: &[&str] = &[SUBSCRIBE, AUTHORIZE];
    let subscribed = r#"1 [[["mining.set_difficulty","aa01"],["mining.notify","aa01"]],"aa01",4]"#;
    let check = |before: &[&str], line: &str, expected: &[&str]| {
        let mut session = session();
        before.iter().for_each(|line| drop(session.on_line(Now::default(), line.as_bytes())));
        assert_eq!(heard(&session.on_line(Now::default(), line.as_bytes())), expected, "{line}");
        assert_eq!(Request::parse(line.as_bytes()), Request::parse_any(line.as_bytes()), "{line}");
    };
    // The handshake, in every order.
    check(&[], SUBSCRIBE, &[subscribed]);
    check(&[], AUTHORIZE, &["2 true"]);
    check(&[SUBSCRIBE], AUTHORIZE, &["2 true", "mining.set_difficulty", "mining.notify"]);
    check(&[AUTHORIZE], SUBSCRIBE, &[subscribed, "mining.set_difficulty", "mining.notify"]);
    check(READY, SUBSCRIBE, &[subscribed]);
    check(READY, AUTHORIZE, &["2 true"]);
    check(READY, r#"{"id":3,"method":"mining.authorize","params":["w2"]}"#, &["3 true"]);
    check(&[], r#"{"id":3,"method":"mining.authorize","params":[]}"#, &["3 error 20"]);
    check(&[], r#"{"id":3,"method":"mining.authorize","params":["a\nb"]}"#, &["3 error 20"]);
    // Ids of every kind, and the same one twice.
    check(&[], r#"{"id":"seven","method":"mining.ping"}"#, &[r#""seven" "pong""#]);
    check(&[], r#"{"id":null,"method":"mining.ping"}"#, &[r#"null "pong""#]);
    check(&[], r#"{"id":[1],"method":"mining.ping"}"#, &[r#"null "pong""#]);
    check(&[], r#"{"method":"mining.ping"}"#, &[r#"null "pong""#]);
    check(&[r#"{"id":1,"method":"mining.ping"}"#], r#"{"id":1,"method":"mining.ping"}"#, &[r#"1 "pong""#]);
    // Extensions.
    let configure = |params: &str| format!(r#"{{"id":4,"method":"mining.configure","params":{params}}}"#);
    for (params, result) in [
        (
            r#"[["version-rolling"],{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}]"#,
            r#"4 {"version-rolling":true,"version-rolling.mask":"1fffe000"}"#,
        ),
        (r#"[["version-rolling"]]"#, r#"4 {"version-rolling":true,"version-rolling.mask":"1fffe000"}"#),
        (r#"[["minimum-difficulty"],{"minimum-difficulty.value":2}]"#, r#"4 {"minimum-difficulty":true}"#),
        (
            r#"[["minimum-difficulty"],{"minimum-difficulty.value":1e99}]"#,
            r#"4 {"minimum-difficulty":false}"#,
        ),
        (r#"[["subscribe-extranonce"],{}]"#, r#"4 {"subscribe-extranonce":true}"#),
        (r#"[["info","unheard"],{}]"#, r#"4 {"info":false,"unheard":false}"#),
        (r#"[["version-rolling"],{"version-rolling.mask":"xyz"}]"#, "4 error 20"),
        (r#"[["minimum-difficulty"],{}]"#, "4 error 20"),
        (r#"[]"#, "4 error 20"),
        (r#"{}"#, "4 error 20"),
    ] {
        check(&[], &configure(params), &[result]);
    }
    // Once negotiated, the mask and the job follow.
    check(
        READY,
        &configure(r#"[["version-rolling"],{"version-rolling.mask":"0000e000"}]"#),
        &[r#"4 {"version-rolling":true,"version-rolling.mask":"0000e000"}"#, "mining.notify"],
    );
    check(&[], r#"{"id":5,"method":"mining.extranonce.subscribe","params":[]}"#, &["5 true"]);
    check(&[], r#"{"id":5,"method":"mining.multi_version","params":[4]}"#, &["5 false"]);
    // Suggestions, good ones and others.
    let suggest = |what: &str, value: &str| {
        format!(r#"{{"id":6,"method":"mining.suggest_{what}","params":[{value}]}}"#)
    };
    let moved: &[&str] = &["6 true", "mining.set_difficulty", "mining.notify"];
    for (what, value, expected) in [
        ("difficulty", "0.25", moved),
        ("difficulty", "1e-9", &["6 true"]),
        ("difficulty", "1e20", moved),
        ("difficulty", "-1", &["6 true"]),
        ("difficulty", "0", &["6 true"]),
        ("difficulty", "NaN", &["null error 20"]),
        ("difficulty", "\"1\"", &["6 error 20"]),
        ("target", r#""0000ffff00000000000000000000000000000000000000000000000000000000""#, moved),
        ("target", r#""00ff""#, &["6 error 20"]),
        ("target", r#""0000000000000000000000000000000000000000000000000000000000000000""#, &["6 error 20"]),
        ("target", "7", &["6 error 20"]),
    ] {
        check(READY, &suggest(what, value), expected);
    }
    // What is no call of ours.
    check(&[], r#"{"id":8,"method":"mining.surprise","params":[]}"#, &["8 error 20"]);
    check(&[], r#"{"id":8,"method":"mining.get_transactions","params":["1"]}"#, &["8 error 20"]);
    check(&[], r#"{"id":8}"#, &["8 error 20"]);
    check(&[], r#"{"id":8,"method":7}"#, &["8 error 20"]);
    check(&[], r#"{"id":8,"result":"cgminer/4.12.1","error":null}"#, &[]);
    check(&[], "GET / HTTP/1.1", &["null error 20"]);
    check(&[], "\u{0}", &["null error 20"]);
    check(READY, r#"{"id":9,"method":"mining.submit","params":"none"}"#, &["9 error 20"]);
    check(READY, r#"{"id":9,"method":"mining.submit","params":[]}"#, &["9 error 20"]);
    let submit = r#"{"id":9,"method":"mining.submit","params":["w","1","00000000","00000009","00000000"]}"#;
    check(&[], submit, &["9 error 25"]);
    check(&[SUBSCRIBE], submit, &["9 error 24"]);
    check(READY, submit, &["9 error 23"]);
}

/// What comes of a pool's line, shortened.
fn event(event: &Event) -> String {
    match event {
        Event::Send(line) => {
            let message: Value = serde_json::from_str(line).unwrap();
            format!("send {} {}", message["result"], message["error"])
        }
        Event::Ready { slice, mask } => format!("ready {} {mask:08x}", slice.extranonce2_size),
        Event::Job(assignment) => match assignment.source {
            Source::Upstream { difficulty, .. } => {
                format!("job {} at {}", assignment.job.id, difficulty.value())
            }
            Source::KeepAlive => "keep-alive".into(),
        },
        Event::Difficulty(difficulty) => format!("difficulty {}", difficulty.value()),
        Event::Extranonce(slice) => {
            format!("extranonce {:02x?} {}", slice.extranonce1, slice.extranonce2_size)
        }
        Event::Mask(mask) => format!("mask {mask:08x}"),
        Event::Outcome { outcome, .. } => format!("{outcome:?}"),
        Event::Reconnect { host, port, wait_s } => format!("reconnect {host:?} {port:?} {wait_s}"),
        Event::Message(text) => format!("message {text}"),
        Event::Ignored(_) => "ignored".into(),
        Event::Broken(broken) => format!("broken: {broken}"),
    }
}

#[test]
fn each_line_of_a_pool_has_its_effect() {
    const READY: &[&str] = &[
        r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
        r#"{"id":2,"result":[[["mining.notify","a"]],"03b67868",8],"error":null}"#,
        r#"{"id":3,"result":true,"error":null}"#,
    ];
    let check = |before: &[&str], line: &str, expected: &[&str]| {
        let (mut pool, _) = Upstream::new(upstream::Config::new("w", "flareshift/1"), 1, 0);
        before.iter().for_each(|line| drop(pool.on_line(line.as_bytes())));
        let events: Vec<String> = pool.on_line(line.as_bytes()).iter().map(event).collect();
        assert_eq!(events, expected, "{line}");
        assert_eq!(
            ServerMessage::parse(line.as_bytes()),
            ServerMessage::parse_any(line.as_bytes()),
            "{line}"
        );
    };
    check(&READY[..2], READY[2], &["ready 8 1fffe000"]);
    // Numbers that came back as text, and a mask that was refused.
    check(&[READY[1], r#"{"id":"1","result":false,"error":null}"#], READY[2], &["ready 8 00000000"]);
    check(
        &READY[..1],
        r#"{"id":2,"result":null,"error":[20,"full",null]}"#,
        &["broken: the pool refused the subscription: full"],
    );
    let set = |method: &str, params: &str| {
        format!(r#"{{"id":null,"method":"mining.{method}","params":[{params}]}}"#)
    };
    for (method, params, expected) in [
        ("set_difficulty", "512", "difficulty 512"),
        ("set_difficulty", "0.001", "difficulty 0.001"),
        ("set_difficulty", "1e20", "difficulty 100000000000000000000"),
        ("set_difficulty", "8589934592", "difficulty 8589934592"),
        ("set_difficulty", "1e-9", "difficulty 0.000000001"),
        ("set_difficulty", "-1", "ignored"),
        ("set_difficulty", "0", "ignored"),
        ("set_difficulty", "NaN", "ignored"),
        ("set_extranonce", r#""0102",4"#, "extranonce [01, 02] 4"),
        ("set_extranonce", r#""0102",0"#, "ignored"),
        ("set_extranonce", r#""0102",99"#, "ignored"),
        ("set_version_mask", r#""ffffffff""#, "mask 1fffe000"),
        ("set_version_mask", r#""0000e000""#, "mask 0000e000"),
        ("set_version_mask", r#""0xe000""#, "ignored"),
        ("notify", r#""1""#, "ignored"),
        ("ping", "", r#"send "pong" null"#),
        ("surprise", "", r#"send null [20,"unknown method mining.surprise",null]"#),
    ] {
        check(READY, &set(method, params), &[expected]);
    }
    for (line, expected) in [
        (r#"{"id":5,"method":"client.get_version","params":[]}"#, r#"send "flareshift/1" null"#),
        (r#"{"method":"client.show_message","params":["hello"]}"#, "message hello"),
        (r#"{"method":"client.show_message","params":[7]}"#, "ignored"),
        (r#"{"method":"client.reconnect","params":[]}"#, "reconnect None None 0"),
        (r#"{"method":"client.reconnect"}"#, "reconnect None None 0"),
        (
            r#"{"method":"client.reconnect","params":["b.example","3334",5]}"#,
            r#"reconnect Some("b.example") Some(3334) 5"#,
        ),
        ("garbage", "ignored"),
        ("[]", "ignored"),
        ("{}", "ignored"),
    ] {
        check(READY, line, &[expected]);
    }
    check(READY, r#"{"id":99,"result":true,"error":null}"#, &[]);
}
