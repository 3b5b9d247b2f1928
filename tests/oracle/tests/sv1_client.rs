//! An outside client: SRI's `sv1_api` writes the lines that our session reads, and reads those that it writes.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use stratum::downstream::{Config, Now, Output, Session};
use stratum::job::{Assignment, Job, Slice, Source};
use stratum::slices::MinerSlice;
use stratum::target::Difficulty;
use sv1_api::client_to_server::{Authorize, Configure, ExtranonceSubscribe, Submit, Subscribe};
use sv1_api::methods::Server2Client;
use sv1_api::utils::{Extranonce, HexU32Be};
use sv1_api::{Message, server_to_client};

const UNIX: u32 = 0x6878_b602;

struct Client {
    session: Session,
    /// What was heard and not yet looked at.
    heard: Vec<Message>,
    outputs: Vec<Output>,
}

impl Client {
    fn new() -> Client {
        let miner = Slice { extranonce1: vec![0xaa, 1], extranonce2_size: 4 };
        let slice = MinerSlice { index: 1, prefix: vec![1], miner };
        let session = Session::new(Config::default(), slice, 0x1fff_e000, now());
        Client { session, heard: Vec::new(), outputs: Vec::new() }
    }

    fn say<M: TryInto<Message>>(&mut self, message: M)
    where
        M::Error: std::fmt::Debug,
    {
        let line = serde_json::to_string(&message.try_into().unwrap()).unwrap();
        let outputs = self.session.on_line(now(), line.as_bytes());
        self.hear(outputs);
    }

    fn hear(&mut self, outputs: Vec<Output>) {
        for output in &outputs {
            if let Output::Send(line) = output {
                self.heard.push(serde_json::from_str(line).unwrap());
            }
        }
        self.outputs.extend(outputs);
    }

    /// The answer to the call just made, as their crate understands it.
    fn answer(&mut self) -> sv1_api::json_rpc::Response {
        match self.heard.remove(0) {
            Message::OkResponse(response) | Message::ErrorResponse(response) => response,
            other => panic!("no answer: {other}"),
        }
    }

    fn news(&mut self) -> Server2Client {
        self.heard.remove(0).try_into().unwrap()
    }
}

fn now() -> Now {
    Now { mono_ms: 1, unix_s: u64::from(UNIX) }
}

#[test]
fn their_client_gets_from_configure_to_an_accepted_share() {
    let mut client = Client::new();
    client.say(Configure::new(1, Some(HexU32Be(0xffff_ffff)), Some(HexU32Be(2))));
    let configured = server_to_client::Configure::try_from(&client.answer()).unwrap();
    assert_eq!(configured.version_rolling_mask(), Some(HexU32Be(0x1fff_e000)));
    client.say(Subscribe { id: 2, agent_signature: "sri/1".into(), extranonce1: None });
    let subscribed = server_to_client::Subscribe::try_from(&client.answer()).unwrap();
    assert_eq!(Vec::from(subscribed.extra_nonce1), [0xaa, 1]);
    assert_eq!(subscribed.extra_nonce2_size, 4);
    client.say(Authorize { id: 3, name: "w".into(), password: "x".into() });
    let authorized = server_to_client::GeneralResponse::try_from(&client.answer()).unwrap();
    assert!(authorized.into_authorize("w".into()).is_ok());
    let Server2Client::SetDifficulty(set) = client.news() else { panic!("no difficulty") };
    assert_eq!(set.value, Difficulty::floor().value());
    client.say(ExtranonceSubscribe { id: 4 });
    assert_eq!(client.answer().result, serde_json::Value::Bool(true));

    let job = Job::keep_alive(1, 0x2000_0000, 0x1d00_ffff, UNIX).unwrap();
    let source = Source::Upstream { session: 1, difficulty: Difficulty::one() };
    let outputs = client.session.on_job(Arc::new(Assignment { job: job.clone(), source }));
    client.hear(outputs);
    let Server2Client::Notify(notify) = client.news() else { panic!("no job") };
    assert_eq!((notify.version.0, notify.time.0, notify.bits.0), (job.version, UNIX, job.nbits));
    assert_eq!(Vec::from(notify.prev_hash.clone()), job.previous);
    assert!(notify.clean_jobs);

    // The easiest difficulty takes one hash in 4,096.
    let accepted = (0..100_000u32).find(|nonce| {
        client.say(submit(&notify.job_id, *nonce));
        let answer = client.answer();
        let code = answer.error.as_ref().map(|error| error.code);
        assert!(code.is_none() || code == Some(23), "{answer}");
        client.heard.clear();
        code.is_none()
    });
    assert!(client.outputs.iter().any(|output| matches!(output, Output::Share(_))));
    client.say(submit(&notify.job_id, accepted.unwrap()));
    assert_eq!(client.answer().error.unwrap().code, 22);
}

#[test]
fn changes_are_told_in_their_words() {
    let mut client = Client::new();
    client.say(Configure::new(1, Some(HexU32Be(0xffff_ffff)), None));
    client.say(Subscribe { id: 2, agent_signature: "sri/1".into(), extranonce1: None });
    client.say(ExtranonceSubscribe { id: 4 });
    client.heard.clear();
    let miner = Slice { extranonce1: vec![7; 8], extranonce2_size: 6 };
    let outputs = client.session.on_slice(MinerSlice { index: 2, prefix: vec![2], miner });
    client.hear(outputs);
    let Server2Client::SetExtranonce(set) = client.news() else { panic!("no extranonce") };
    assert_eq!((Vec::from(set.extra_nonce1), set.extra_nonce2_size), (vec![7; 8], 6));
    let outputs = client.session.on_mask(0xe000);
    client.hear(outputs);
    let Server2Client::SetVersionMask(set) = client.news() else { panic!("no mask") };
    assert_eq!(set.version_mask.0, 0xe000);
}

fn submit(job_id: &str, nonce: u32) -> Submit {
    Submit {
        user_name: "w".into(),
        job_id: job_id.into(),
        extra_nonce2: Extranonce::try_from(vec![0; 4]).unwrap(),
        time: HexU32Be(UNIX),
        nonce: HexU32Be(nonce),
        version_bits: Some(HexU32Be(0)),
        id: 9,
    }
}
