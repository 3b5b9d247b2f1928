//! A pool that changes its mind in the middle of a session, and one that differs from the pool before it: mask and extranonce.
//!
//! Assumes a pool that says what the test wants said. Next: `resumed.rs` for pools that go on with sessions.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::plain::Plain;
use super::rig::{Rig, until};

/// Bits that a pool of these tests grants, and a share rolls.
const WIDE: &str = "1fffe000";
const HIGH_BIT: u32 = 0x1000_0000;
const LOW_BIT: u32 = 0x2000;

/// A pool that grants a mask, or none, and says lines when told to.
struct Puppet {
    address: String,
    say: broadcast::Sender<String>,
    /// Parameters of the shares that came.
    came: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Puppet {
    async fn start(mask: Option<&'static str>) -> Puppet {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (say, came) = (broadcast::Sender::new(16), Arc::new(Mutex::new(Vec::new())));
        let (door, seen) = (say.clone(), Arc::clone(&came));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, mask, door.subscribe(), &seen).await;
            }
        });
        Puppet { address, say, came, task }
    }

    fn say(&self, method: &str, params: Value) {
        let line = format!("{}\n", json!({ "id": null, "method": method, "params": params }));
        self.say.send(line).expect("the proxy is connected");
    }

    fn came(&self) -> Vec<Value> {
        self.came.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    mask: Option<&str>,
    mut told: broadcast::Receiver<String>,
    came: &Mutex<Vec<Value>>,
) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    loop {
        let text = tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => answer(&serde_json::from_str(&line).unwrap(), mask, came),
                _ => return,
            },
            line = told.recv() => line.unwrap(),
        };
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(request: &Value, mask: Option<&str>, came: &Mutex<Vec<Value>>) -> String {
    let reply =
        |result: Value| format!("{}\n", json!({ "id": request["id"], "result": result, "error": null }));
    let told = |method: &str, params: Value| {
        format!("{}\n", json!({ "id": null, "method": method, "params": params }))
    };
    match request["method"].as_str() {
        Some("mining.configure") => reply(match mask {
            Some(mask) => json!({ "version-rolling": true, "version-rolling.mask": mask }),
            None => json!({ "version-rolling": false }),
        }),
        Some("mining.subscribe") => reply(json!([[], "0badcafe", 6])),
        Some("mining.submit") => {
            came.lock().unwrap().push(request["params"].clone());
            reply(json!(true))
        }
        Some("mining.authorize") => {
            let difficulty = told("mining.set_difficulty", json!([2f64.powi(-20)]));
            reply(json!(true)) + &difficulty + &told("mining.notify", job("j"))
        }
        _ => reply(json!(true)),
    }
}

fn job(id: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!([id, "11".repeat(32), "0100", "0200", [], "20000000", "1d00ffff", format!("{now:08x}"), false])
}

/// A miner that rolls versions and listens to changes of its extranonce.
async fn roller(rig: &Rig) -> Plain {
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let offer = json!([["version-rolling"], { "version-rolling.mask": WIDE }]);
    let granted = plain.call("mining.configure", offer).await["result"].clone();
    assert_eq!(granted["version-rolling.mask"], json!(WIDE));
    assert_eq!(plain.call("mining.extranonce.subscribe", json!([])).await["result"], json!(true));
    hear_job(&mut plain, 2).await;
    plain
}

/// Reads on until so many jobs have come in all.
async fn hear_job(plain: &mut Plain, jobs: u64) {
    while plain.notifications < jobs {
        plain.hear().await.expect("a job follows");
    }
}

/// Mines the present job with these bits rolled, or without a word of them, and says what became of it.
async fn submit(plain: &mut Plain, bits: Option<u32>) -> String {
    let version = plain.job[5].clone();
    plain.job[5] = json!(format!("{:08x}", 0x2000_0000 | bits.unwrap_or(0)));
    let mut share = plain.mine(0);
    plain.job[5] = version;
    if let Some(bits) = bits {
        share.as_array_mut().unwrap().push(json!(format!("{bits:08x}")));
    }
    let answer = plain.call("mining.submit", share).await;
    let text = answer["error"][1].as_str().unwrap_or("accepted");
    text.split(':').next().unwrap().to_owned()
}

async fn on(puppet: &Puppet) -> Rig {
    let address = puppet.address.clone();
    Rig::with(-20, |config| config.pool = address).await
}

#[tokio::test]
async fn a_narrower_mask_reaches_the_miner_with_a_job_and_bits_outside_of_it_go_nowhere() {
    let puppet = Puppet::start(Some(WIDE)).await;
    let rig = on(&puppet).await;
    let mut plain = roller(&rig).await;
    assert_eq!(submit(&mut plain, Some(HIGH_BIT)).await, "accepted");
    puppet.say("mining.set_version_mask", json!(["0000e000"]));
    let told = loop {
        let message = plain.hear().await.expect("the miner stays");
        if message["method"] == "mining.set_version_mask" {
            break message;
        }
    };
    assert_eq!(told["params"], json!(["0000e000"]));
    hear_job(&mut plain, 3).await;
    assert_eq!(submit(&mut plain, Some(HIGH_BIT)).await, "version-bits");
    assert_eq!(submit(&mut plain, Some(LOW_BIT)).await, "accepted");
    until("both came", || puppet.came().len() == 2).await;
    let bits: Vec<Value> = puppet.came().iter().map(|share| share[5].clone()).collect();
    assert_eq!(bits, [json!("10000000"), json!("00002000")]);
    assert_eq!(rig.handle().stats().rejected, [("version-bits", 1)].into());
    puppet.task.abort();
}

#[tokio::test]
async fn a_switch_to_a_pool_that_rolls_nothing_is_told_and_its_shares_have_no_bits() {
    let (puppet, plainer) = (Puppet::start(Some(WIDE)).await, Puppet::start(None).await);
    let (first, second) = (puppet.address.clone(), plainer.address.clone());
    let rig = Rig::with(-20, |config| {
        config.pool = first;
        config.upstreams.backups = vec![second];
    })
    .await;
    let mut plain = roller(&rig).await;
    assert_eq!(submit(&mut plain, Some(LOW_BIT)).await, "accepted");
    until("it came", || puppet.came().len() == 1).await;
    let before = plain.extranonce1.clone();
    puppet.task.abort();
    let mut masks = Vec::new();
    while masks.is_empty() || plain.extranonce1 == before {
        let message = plain.hear().await.expect("the miner stays");
        if message["method"] == "mining.set_version_mask" {
            masks.push(message["params"][0].clone());
        }
    }
    assert_eq!(masks, [json!("00000000")]);
    let jobs = plain.notifications;
    hear_job(&mut plain, jobs + 1).await;
    assert_eq!(submit(&mut plain, None).await, "accepted");
    until("the other pool has it", || plainer.came().len() == 1).await;
    assert_eq!(plainer.came()[0].as_array().unwrap().len(), 5, "no sixth parameter: {:?}", plainer.came());
    let stats = rig.handle().stats();
    assert_eq!((stats.connected, stats.rejected.len(), stats.balanced), (1, 0, true));
    plainer.task.abort();
}

#[tokio::test]
async fn another_extranonce_reaches_the_miner_before_the_job_that_it_is_for() {
    let puppet = Puppet::start(None).await;
    let rig = on(&puppet).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    plain.call("mining.extranonce.subscribe", json!([])).await;
    assert_eq!(submit(&mut plain, None).await, "accepted");
    puppet.say("mining.set_extranonce", json!(["aabbccdd", 7]));
    puppet.say("mining.notify", job("k"));
    while !plain.extranonce1.starts_with("aabbccdd") {
        plain.hear().await.expect("the miner stays");
    }
    let jobs = plain.notifications;
    hear_job(&mut plain, jobs + 1).await;
    assert_eq!(submit(&mut plain, None).await, "accepted");
    until("both came", || puppet.came().len() == 2).await;
    let widths: Vec<usize> = puppet.came().iter().map(|share| share[2].as_str().unwrap().len()).collect();
    assert_eq!(widths, [12, 14], "all of the extranonce2, ours before the miner's");
    assert_eq!(puppet.came()[1][1], json!("k"));
    assert_eq!(rig.handle().stats().connected, 1);
    rig.ledger.check_claims();
    puppet.task.abort();
}
