//! A pool that goes on with a session when it is asked by its name: miners keep their slices, and what they found meanwhile is
//! paid; and everything that makes such shares worthless instead.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use agent::proxy::Proxy;
use model::ledger::ShareEnd;
use serde_json::{Value, json};
use stratum::keepalive;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::plain::Plain;
use super::rig::{Ledger, Rig, config_for, until};

/// What the pool does; `epoch` closes the connections of earlier ones.
pub(super) struct Script {
    open: bool,
    goes_on: bool,
    block: u8,
    /// What its chain asks of a block.
    bits: &'static str,
    sessions: u32,
    /// The session's other extranonce1, which the next answer to a share is followed by.
    extranonce1: Option<&'static str>,
    /// Nonces of the shares that came.
    pub(super) came: Vec<String>,
}

/// A pool with names for its sessions.
pub(super) struct Named {
    pub(super) script: Arc<Mutex<Script>>,
    epoch: watch::Sender<u64>,
    address: String,
}

impl Named {
    async fn start(bits: &'static str) -> Named {
        let script = Script {
            open: true,
            goes_on: true,
            block: 0x11,
            bits,
            sessions: 0,
            extranonce1: None,
            came: Vec::new(),
        };
        let (script, epoch) = (Arc::new(Mutex::new(script)), watch::Sender::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (behind, door) = (Arc::clone(&script), epoch.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if behind.lock().unwrap().open {
                    let (behind, mut door) = (Arc::clone(&behind), door.subscribe());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve(stream, behind) => {}
                            _ = door.changed() => {}
                        }
                    });
                }
            }
        });
        Named { script, epoch, address }
    }

    /// Closes all connections, and lets nobody in.
    fn leave(&self) {
        self.script.lock().unwrap().open = false;
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    fn come_back(&self, change: impl FnOnce(&mut Script)) {
        let mut script = self.script.lock().unwrap();
        script.open = true;
        change(&mut script);
    }

    fn came(&self) -> usize {
        let script = self.script.lock().unwrap();
        assert_eq!(script.came.iter().collect::<BTreeSet<_>>().len(), script.came.len(), "none came twice");
        script.came.len()
    }
}

async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Value = serde_json::from_str(&line).unwrap();
        let text = answer(&request, &mut script.lock().unwrap());
        writer.write_all(text.as_bytes()).await.unwrap();
    }
}

fn answer(request: &Value, script: &mut Script) -> String {
    let reply =
        |result: Value| format!("{}\n", json!({ "id": request["id"], "result": result, "error": null }));
    let told = |method: &str, params: Value| {
        format!("{}\n", json!({ "id": null, "method": method, "params": params }))
    };
    match request["method"].as_str() {
        Some("mining.configure") => reply(json!({ "version-rolling": false })),
        Some("mining.subscribe") => {
            let asked = request["params"][1].as_str().filter(|_| script.goes_on);
            let name = asked.map(str::to_owned).unwrap_or_else(|| {
                script.sessions += 1;
                format!("{:08x}", script.sessions)
            });
            let extranonce1 = script.extranonce1.map_or_else(|| name.clone(), str::to_owned);
            reply(json!([[["mining.notify", name]], extranonce1, 6]))
        }
        Some("mining.submit") => {
            script.came.push(request["params"][4].as_str().unwrap().to_owned());
            let other = script.extranonce1.map(|other| told("mining.set_extranonce", json!([other, 6])));
            reply(json!(true)) + &other.unwrap_or_default()
        }
        Some("mining.authorize") => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let block = format!("{:02x}", script.block).repeat(32);
            let ntime = format!("{now:08x}");
            let job = json!(["j", block, "0100", "0200", [], "20000000", script.bits, ntime, false]);
            let difficulty = told("mining.set_difficulty", json!([2f64.powi(-20)]));
            reply(json!(true)) + &difficulty + &told("mining.notify", job)
        }
        _ => reply(json!(true)),
    }
}

pub(super) struct Stage {
    pub(super) pool: Named,
    pub(super) proxy: Proxy,
    ledger: Ledger,
    pub(super) plain: Plain,
    next: u32,
}

impl Stage {
    /// A miner that does not listen to changes of its extranonce has mined one share.
    async fn new() -> Stage {
        Stage::on("1d00ffff").await
    }

    /// On a chain that asks this of a block.
    pub(super) async fn on(bits: &'static str) -> Stage {
        let pool = Named::start(bits).await;
        let (ledger, clock) = (Ledger::default(), Arc::clone(&Rig::new(-20).await.clock));
        let mut config = config_for(pool.address.clone());
        config.upstreams.keep_alive = keepalive::Config { after_ms: 60_000, rotate_ms: 600_000 };
        let proxy = Proxy::start(config, clock, Box::new(ledger.clone())).await.unwrap();
        let plain = Plain::ready(proxy.handle().address(), "acct.m1-a-0").await;
        let mut stage = Stage { pool, proxy, ledger, plain, next: 0 };
        stage.mine().await;
        stage.answered().await;
        stage
    }

    async fn mine(&mut self) {
        let share = self.plain.mine(self.next);
        self.next = u32::from_str_radix(share[4].as_str().unwrap(), 16).unwrap() + 1;
        assert_eq!(self.plain.call("mining.submit", share).await["result"], json!(true));
    }

    pub(super) async fn answered(&self) {
        until("all is answered", || self.proxy.handle().stats().in_flight.shares == 0).await;
    }

    pub(super) async fn lose(&self) {
        self.pool.leave();
        until("the pool is lost", || !self.proxy.handle().stats().pool_up).await;
    }

    pub(super) async fn regain(&self, change: impl FnOnce(&mut Script)) {
        self.pool.come_back(change);
        until("the pool is back", || self.proxy.handle().stats().pool_up).await;
    }

    /// Lost and regained once, so that the pool is known to go on with its sessions; then lost again with two shares found.
    async fn spooled() -> Stage {
        let mut stage = Stage::new().await;
        stage.lose().await;
        stage.mine().await;
        assert_eq!(stage.ends(&ShareEnd::KeepAlive), 1, "nobody waits for a pool that may not go on");
        stage.regain(|_| {}).await;
        stage.mine().await;
        stage.answered().await;
        assert_eq!((stage.ends(&ShareEnd::Accepted), stage.pool.came()), (2, 2));
        stage.lose().await;
        stage.mine().await;
        stage.mine().await;
        let stats = stage.proxy.handle().stats();
        assert_eq!((stats.in_flight.shares, stats.balanced, stats.connections), (2, true, 1));
        stage
    }

    fn ends(&self, end: &ShareEnd) -> u64 {
        self.ledger.ends().get(end).copied().unwrap_or(0)
    }

    /// What became of the two, and how many shares the pool saw in all.
    async fn check(self, end: ShareEnd, came: usize) {
        self.answered().await;
        let before = if end == ShareEnd::Accepted { 2 } else { 0 };
        assert_eq!(self.ends(&end) - before, 2, "{:?}", self.ledger.ends());
        assert_eq!(self.pool.came(), came);
        assert!(self.proxy.handle().stats().balanced);
    }
}

#[tokio::test]
async fn shares_wait_for_their_session_and_are_paid_when_it_goes_on() {
    let stage = Stage::spooled().await;
    stage.regain(|_| {}).await;
    until("the two came", || stage.pool.came() == 4).await;
    assert_eq!(stage.proxy.handle().stats().connected, 1, "the miner kept its slice and its connection");
    stage.check(ShareEnd::Accepted, 4).await;
}

#[tokio::test]
async fn another_session_leaves_them_unknown() {
    let stage = Stage::spooled().await;
    stage.regain(|script| script.goes_on = false).await;
    stage.check(ShareEnd::Unknown, 2).await;
}

#[tokio::test]
async fn another_block_leaves_them_unknown() {
    let stage = Stage::spooled().await;
    stage.regain(|script| script.block = 0x22).await;
    stage.check(ShareEnd::Unknown, 2).await;
}

#[tokio::test]
async fn miners_get_new_slices_where_the_extranonce_changed_before_the_session_was_lost() {
    let mut stage = Stage::new().await;
    stage.pool.script.lock().unwrap().extranonce1 = Some("aabbccdd");
    stage.mine().await;
    stage.answered().await;
    // No job came for the new extranonce; the pool goes on with the session that has it.
    stage.lose().await;
    stage.regain(|_| {}).await;
    until("the miner is sent away, since it cannot be told", || {
        stage.proxy.handle().stats().connections == 0
    })
    .await;
    stage.plain = Plain::ready(stage.proxy.handle().address(), "acct.m1-a-0").await;
    assert!(stage.plain.extranonce1.starts_with("aabbccdd"), "{}", stage.plain.extranonce1);
    stage.mine().await;
    stage.answered().await;
    assert_eq!(stage.ends(&ShareEnd::Accepted), 3);
    stage.ledger.check_claims();
}

#[tokio::test]
async fn the_end_of_the_proxy_leaves_them_unknown() {
    let Stage { proxy, ledger, pool, .. } = Stage::spooled().await;
    proxy.shutdown().await;
    assert_eq!((ledger.ends()[&ShareEnd::Unknown], pool.came()), (2, 2));
}
