//! Miners that lie, babble, flood or stop: each costs itself something, and nobody else anything.
#![allow(clippy::unwrap_used)]

use model::ledger::ShareEnd;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use super::plain::Plain;
use super::rig::{Rig, until};

fn code(answer: &Value) -> &str {
    let text = answer["error"][1].as_str().unwrap_or("accepted");
    text.split(':').next().unwrap()
}

#[tokio::test]
async fn a_share_counts_once_however_often_and_however_it_is_written() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    // A nonce with a letter in it, so that case can be changed.
    let mut share = plain.mine(0);
    while !share[4].as_str().unwrap().contains(|c: char| c.is_ascii_alphabetic()) {
        let next = u32::from_str_radix(share[4].as_str().unwrap(), 16).unwrap() + 1;
        share = plain.mine(next);
    }
    assert_eq!(code(&plain.call("mining.submit", share.clone()).await), "accepted");
    assert_eq!(code(&plain.call("mining.submit", share.clone()).await), "duplicate");
    let mut upper = share.clone();
    upper[4] = json!(share[4].as_str().unwrap().to_uppercase());
    assert_eq!(code(&plain.call("mining.submit", upper).await), "duplicate");
    let mut with_bits = share.clone();
    with_bits.as_array_mut().unwrap().push(json!("00000000"));
    assert_eq!(code(&plain.call("mining.submit", with_bits).await), "duplicate");
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    let stats = rig.handle().stats();
    assert_eq!(stats.rejected, [("duplicate", 3)].into());
    assert_eq!((rig.pool.handle().total().accepted, rig.pool.handle().books().refused_total()), (1, 0));
    assert_eq!(rig.ledger.ends()[&ShareEnd::Rejected("duplicate".into())], 3);
}

#[tokio::test]
async fn every_wrong_field_is_rejected_here_and_never_reaches_the_pool() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let good = plain.mine(0);
    let wrong = |index: usize, value: Value| {
        let mut share = good.clone();
        share[index] = value;
        share
    };
    for (share, expected) in [
        (wrong(0, json!("somebody.else")), "wrong-worker"),
        (wrong(1, json!("ffff")), "unknown-job"),
        (wrong(1, json!("nonsense")), "unknown-job"),
        (wrong(2, json!("00")), "malformed"),
        (wrong(2, json!("zz".repeat(plain.extranonce2_size))), "malformed"),
        (wrong(3, json!("00000001")), "ntime-out-of-range"),
        (wrong(3, json!("ffffffff")), "ntime-out-of-range"),
        (wrong(4, json!("0x123456")), "malformed"),
        (wrong(4, json!(12)), "malformed"),
        (wrong(4, json!("fedcba98")), "low-difficulty"),
        (json!([]), "malformed"),
        (json!("no list"), "malformed"),
    ] {
        let answer = plain.call("mining.submit", share.clone()).await;
        assert_eq!(code(&answer), expected, "{share}");
    }
    assert_eq!(code(&plain.call("mining.submit", good).await), "accepted", "the connection lives");
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    let books = rig.pool.handle().books();
    assert_eq!((books.total().accepted, books.refused_total()), (1, 0));
    let stats = rig.handle().stats();
    assert!(stats.balanced);
    assert_eq!(stats.received.shares, 13);
}

#[tokio::test]
async fn garbage_costs_replies_and_in_the_end_the_connection() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    for line in [
        "GET / HTTP/1.1\r\n",
        "\u{0}\u{1}\n",
        "[[[[\n",
        "{}\n",
        "{\"id\":1,\"method\":\"mining.nonsense\"}\n",
    ] {
        plain.send(line.as_bytes()).await;
        assert!(plain.hear().await.unwrap()["error"].is_array(), "{line:?}");
    }
    for difficulty in ["-1", "0", "1e999", "\"x\"", "null"] {
        plain
            .send(
                format!("{{\"id\":1,\"method\":\"mining.suggest_difficulty\",\"params\":[{difficulty}]}}\n")
                    .as_bytes(),
            )
            .await;
        assert!(plain.hear().await.is_some(), "{difficulty}");
    }
    assert_eq!(plain.submit_one(0).await["result"], json!(true), "still a miner");
    plain.send("babble\n".repeat(100).as_bytes()).await;
    while plain.hear().await.is_some() {}
    until("it is gone", || rig.handle().stats().connections == 0).await;
}

#[tokio::test]
async fn a_line_without_an_end_closes_its_connection_alone() {
    let rig = Rig::new(-20).await;
    let mut honest = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let mut flood = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    let before = rig.handle().stats().connections;
    for _ in 0..64 {
        flood.send(&[b'x'; 1024]).await;
    }
    while flood.hear().await.is_some() {}
    until("the flood is gone", || rig.handle().stats().connections == before - 1).await;
    assert_eq!(honest.submit_one(0).await["result"], json!(true));
}

#[tokio::test]
async fn a_flood_of_lines_is_slowed_and_answered_in_full() {
    let rig = Rig::new(-20).await;
    let mut flood = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let mut honest = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    // More than is read in a second.
    const LINES: u64 = 5_000;
    let mut sent = 0;
    for part in 0..LINES / 100 {
        let lines: Vec<String> = (0..100)
            .map(|line| format!("{{\"id\":{},\"method\":\"mining.ping\"}}\n", 10_000 + 100 * part + line))
            .collect();
        flood.send(lines.concat().as_bytes()).await;
        // Who does not read his answers is slowed by that alone.
        while sent < 100 * part {
            assert_eq!(flood.hear().await.unwrap()["id"], json!(10_000 + sent));
            sent += 1;
        }
    }
    assert_eq!(honest.submit_one(0).await["result"], json!(true), "others do not wait");
    while sent < LINES {
        assert_eq!(flood.hear().await.unwrap()["id"], json!(10_000 + sent));
        sent += 1;
    }
    assert_eq!(flood.submit_one(0).await["result"], json!(true), "and nobody is banned for it");
}

#[tokio::test]
async fn nobody_submits_before_the_handshake_and_nobody_is_too_many() {
    let rig = Rig::with(-20, |config| config.max_connections = 2).await;
    let mut early = Plain::connect(rig.handle().address()).await;
    let share = json!(["acct.m1-a-0", "1", "00000000", "00000000", "00000000"]);
    assert_eq!(code(&early.call("mining.submit", share).await), "not-subscribed");
    let _second = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    let mut third = Plain::connect(rig.handle().address()).await;
    assert_eq!(third.hear().await, None, "turned away");
    assert_eq!(rig.handle().stats().turned_away, 1);
    drop(early);
    until("there is room again", || rig.handle().stats().connections == 1).await;
    Plain::ready(rig.handle().address(), "acct.m1-a-2").await;
}

#[tokio::test]
async fn lines_of_one_packet_are_answered_each_and_in_order() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let (one, two) = (plain.mine(0), plain.mine(1 << 20));
    let mut bad = one.clone();
    bad[4] = json!("0x000000");
    let params = [one.clone(), one, bad, two];
    let lines: Vec<String> = (100..)
        .zip(params)
        .map(|(id, params)| format!("{}\n", json!({ "id": id, "method": "mining.submit", "params": params })))
        .collect();
    plain.send(lines.concat().as_bytes()).await;
    for (id, expected) in [(100, "true"), (101, "duplicate"), (102, "malformed"), (103, "true")] {
        let answer = plain.hear().await.unwrap();
        let verdict =
            if answer["result"] == json!(true) { "true".to_owned() } else { code(&answer).to_owned() };
        assert_eq!((answer["id"].as_u64(), verdict.as_str()), (Some(id), expected));
    }
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    let rejected = |code: &str| (ShareEnd::Rejected(code.into()), 1);
    let expected = [(ShareEnd::Accepted, 2), rejected("duplicate"), rejected("malformed")];
    assert_eq!(rig.ledger.ends(), expected.into());
}

#[tokio::test]
async fn what_the_journal_does_not_take_is_neither_acknowledged_nor_forwarded() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    rig.ledger.break_disk();
    // Several of one read, of which none may be acknowledged.
    let submit =
        |share: Value| format!("{}\n", json!({ "id": 99, "method": "mining.submit", "params": share }));
    let lines: Vec<String> = (20..23).map(|start| submit(plain.mine(1 << start))).collect();
    plain.send(lines.concat().as_bytes()).await;
    while let Some(message) = plain.hear().await {
        assert_ne!(message["id"], json!(99), "acknowledged without a record");
    }
    until("it is gone", || rig.handle().stats().connections == 0).await;
    let stats = rig.handle().stats();
    assert_eq!((stats.received.shares, stats.balanced), (1, true));
    assert!((1..=3).contains(&stats.journal_failures), "as many as came in the first read: {stats:?}");
    assert_eq!(rig.pool.handle().total().accepted, 1);
}

#[tokio::test]
async fn connections_that_say_nothing_or_no_more_are_let_go() {
    let rig = Rig::with(-20, |config| {
        config.session.handshake_ms = 5_000;
        config.session.idle_ms = 5_000;
    })
    .await;
    let mute = TcpStream::connect(rig.handle().address()).await.unwrap();
    let mut busy = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let silent = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    until("all three are there", || rig.handle().stats().connected == 3).await;
    // Who says nothing goes first, who says no more after it; who mines stays.
    for left in [2, 1] {
        while rig.handle().stats().connections > left {
            assert_eq!(busy.call("mining.ping", json!([])).await["result"], json!("pong"));
        }
    }
    assert_eq!(busy.submit_one(0).await["result"], json!(true));
    drop((mute, silent));
}

/// Connects, babbles, and reads until it is closed.
async fn babble(rig: &Rig) {
    let mut plain = Plain::connect(rig.handle().address()).await;
    plain.send("babble\n".repeat(100).as_bytes()).await;
    while plain.hear().await.is_some() {}
}

#[tokio::test]
async fn an_address_that_only_babbles_is_refused_for_a_while() {
    let rig = Rig::new(-20).await;
    babble(&rig).await;
    babble(&rig).await;
    assert!(rig.handle().detail().bans.is_empty(), "twice is no habit");
    let mut flood = Plain::connect(rig.handle().address()).await;
    for _ in 0..64 {
        flood.send(&[b'x'; 1024]).await;
    }
    while flood.hear().await.is_some() {}
    until("the ban is in force", || !rig.handle().detail().bans.is_empty()).await;
    let ban = rig.handle().detail().bans[0];
    assert_eq!(ban.peer.to_string(), "127.0.0.1");
    assert!((590_000..=600_000).contains(&ban.left_ms), "{}", ban.left_ms);
    let connected = rig.handle().stats().connected;
    let mut next = Plain::connect(rig.handle().address()).await;
    assert_eq!(next.hear().await, None, "refused");
    let stats = rig.handle().stats();
    assert_eq!((stats.refused, stats.connected), (1, connected));
}

#[tokio::test]
async fn an_address_with_an_honest_miner_is_never_refused_and_bad_shares_ban_nobody() {
    let rig = Rig::new(-20).await;
    // Bad shares of every kind, before anybody there has proven anything.
    for _ in 0..4 {
        let mut wrong = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
        let good = wrong.mine(0);
        for (index, value) in [(1, "ffff"), (3, "00000001"), (4, "fedcba98"), (4, "zz")] {
            let mut share = good.clone();
            share[index] = json!(value);
            assert_ne!(code(&wrong.call("mining.submit", share).await), "accepted");
        }
    }
    let mut honest = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    assert_eq!(honest.submit_one(0).await["result"], json!(true));
    for _ in 0..5 {
        babble(&rig).await;
    }
    let mut another = Plain::ready(rig.handle().address(), "acct.m1-a-2").await;
    assert_eq!(another.submit_one(0).await["result"], json!(true));
    drop((honest, another));
    until("all have gone", || rig.handle().stats().connections == 0).await;
    for _ in 0..5 {
        babble(&rig).await;
    }
    let mut later = Plain::ready(rig.handle().address(), "acct.m1-a-3").await;
    assert_eq!(later.submit_one(0).await["result"], json!(true), "it is known for a day");
    assert_eq!((rig.handle().stats().refused, rig.handle().detail().bans.len()), (0, 0));
}

#[tokio::test]
async fn a_miner_that_does_not_read_is_let_go_and_delays_nobody() {
    let rig = Rig::new(-20).await;
    let mut honest = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let deaf = socket.connect(rig.handle().address()).await.unwrap();
    let greeting = concat!(
        r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
        "\n",
        r#"{"id":2,"method":"mining.authorize","params":["acct.m1-a-1","x"]}"#,
        "\n",
    );
    deaf.writable().await.unwrap();
    assert_eq!(deaf.try_write(greeting.as_bytes()).unwrap(), greeting.len());
    until("it is there", || rig.handle().stats().connections == 2).await;
    // Each is answered, and followed by the job once more.
    let ask = concat!(
        r#"{"id":3,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#,
        "\n"
    );
    let asks = ask.repeat(100);
    let mut sent = 0;
    until("it is let go", || {
        sent += deaf.try_write(&asks.as_bytes()[sent % asks.len()..]).unwrap_or(0);
        rig.handle().stats().connections == 1
    })
    .await;
    assert!(sent > 100 * ask.len(), "it asked for more than it would read: {sent} bytes");
    assert_eq!(honest.submit_one(0).await["result"], json!(true));
    assert!(rig.handle().detail().bans.is_empty());
}
