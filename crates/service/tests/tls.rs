//! Both ends of a connection with real handshakes, and files as people have them.
#![cfg(feature = "authority")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use service::tls::authority::{Authority, Pair};
use service::tls::{Client, ClientFlags, Connection, Refused, Server, ServerFiles, advice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority, a controller's certificate by it, and the controller's end of TLS.
struct Controller {
    authority: Authority,
    dir: Dir,
    server: Server,
}

impl Controller {
    fn new(names: &[&str]) -> Self {
        let (authority, dir) = (Authority::new("one").unwrap(), Dir::new());
        let pair = authority.server(names).unwrap();
        let server = Server::read(pair.serve(&authority, &dir.0, "controller").unwrap()).unwrap();
        Self { authority, dir, server }
    }

    fn ada(&self) -> Client {
        self.authority.shown(&self.authority.client(&["flareshift:operator/ada"]).unwrap())
    }

    /// What becomes of one connection: at the listener, and at a client that makes a call.
    async fn meet(&self, client: &Client, host: &str) -> (Result<Connection, Refused>, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Endpoint::from_shared(format!("https://{host}:{port}")).unwrap();
        let way = client.secure(way).unwrap();
        let channel = way.connect();
        let accepted = async { self.server.accept(listener.accept().await.unwrap().0).await };
        let (accepted, channel) = tokio::join!(accepted, channel);
        let advised = channel
            .err()
            .map(|error| advice(&error).map_or_else(|| format!("no advice on {error:?}"), str::to_owned));
        (accepted, advised)
    }
}

fn why(met: Result<Connection, Refused>) -> String {
    met.map_or_else(|refused| refused.to_string(), |connection| format!("met {}", connection.peer()))
}

#[tokio::test]
async fn whoever_the_authority_signed_is_met_by_the_name_in_the_certificate() {
    let controller = Controller::new(&["127.0.0.1", "localhost"]);
    let check = async |uris: &[&str], host: &str, expected: &str| {
        let pair = controller.authority.client(uris).unwrap();
        let (met, refused) = controller.meet(&controller.authority.shown(&pair), host).await;
        assert_eq!((why(met).as_str(), refused), (expected, None), "{uris:?}");
    };
    check(&["flareshift:operator/ada"], "127.0.0.1", "met operator ada").await;
    check(&["flareshift:module/m1"], "localhost", "met the agent of module m1").await;
    check(&["spiffe://x"], "127.0.0.1", "met nobody: no flareshift: name stands in it").await;
    check(
        &["flareshift:operator/a", "flareshift:module/m"],
        "127.0.0.1",
        "met nobody: it names several that are not modules of one agent",
    )
    .await;
}

#[tokio::test]
async fn a_client_does_not_go_on_with_a_controller_that_is_not_who_it_should_be() {
    let controller = Controller::new(&["127.0.0.1"]);
    let check = async |client: Client, host: &str, expected: &str| {
        let (_, refused) = controller.meet(&client, host).await;
        let refused = refused.unwrap();
        assert!(refused.contains(expected), "{refused}");
    };
    check(controller.ada(), "localhost", "is for other names").await;
    for name in ["one", "two"] {
        let other = Authority::new(name).unwrap();
        let stranger = other.shown(&other.client(&["flareshift:operator/ada"]).unwrap());
        check(stranger, "127.0.0.1", "not signed by --tls-ca").await;
    }
    // An agent's certificate, though of the same authority, does not make a controller.
    let agent = controller.authority.client(&["flareshift:module/m1"]).unwrap();
    let server =
        Server::read(agent.serve(&controller.authority, &controller.dir.0, "agent").unwrap()).unwrap();
    let posing = Controller { server, ..controller };
    let (_, refused) = posing.meet(&posing.ada(), "127.0.0.1").await;
    assert!(refused.is_some_and(|refused| refused.contains("shows no controller's certificate")));
}

/// As of a busy controller: its kernel takes the connection, and nobody speaks. Time is made to pass.
#[tokio::test(start_paused = true)]
async fn a_client_does_not_wait_for_ever_for_a_controller_that_says_nothing() {
    let controller = Controller::new(&["127.0.0.1"]);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = Endpoint::from_shared(format!("https://{}", silent.local_addr().unwrap())).unwrap();
    let way = controller.ada().secure(way).unwrap();
    let met = tokio::time::timeout(Duration::from_secs(60), way.connect()).await;
    assert!(met.expect("it ends by itself").is_err());
}

#[tokio::test]
async fn a_client_without_a_good_certificate_is_refused_with_the_reason() {
    let controller = Controller::new(&["127.0.0.1"]);
    let authority = &controller.authority;
    let check = async |client: Client, expected: &str| {
        let (met, _) = controller.meet(&client, "127.0.0.1").await;
        let why = why(met);
        assert!(why.contains(expected), "{why}");
    };
    let stranger = |name| Authority::new(name).unwrap().client(&["flareshift:operator/ada"]).unwrap();
    check(authority.shown(&stranger("one")), "BadSignature").await;
    check(authority.shown(&stranger("two")), "UnknownIssuer").await;
    check(authority.shown(&authority.expired(&["flareshift:operator/ada"]).unwrap()), "certificate expired")
        .await;
    // A listener's certificate is for listening.
    check(
        authority.shown(&authority.server(&["127.0.0.1"]).unwrap()),
        "extended key usage for client authentication",
    )
    .await;
}

/// What a client without TLS hears when it begins so.
async fn hears(server: &Server, begin: &[u8]) -> (String, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(begin).await.unwrap();
    let client = async {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        drop(client);
        heard
    };
    let accepted = async { server.accept(listener.accept().await.unwrap().0).await };
    let (met, heard) = tokio::join!(accepted, client);
    (why(met), heard)
}

#[tokio::test]
async fn a_client_without_tls_is_told_to_use_it() {
    let controller = Controller::new(&["127.0.0.1"]);
    let (met, heard) = hears(&controller.server, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(met, "the client speaks no TLS");
    assert!(String::from_utf8(heard).unwrap().ends_with("this address speaks TLS: write https://\n"));
    let (met, heard) = hears(&controller.server, &[0; 40]).await;
    assert_eq!((met.as_str(), heard.len()), ("the client speaks no TLS", 0));
}

#[tokio::test]
async fn renewed_files_count_after_they_are_read_again_and_broken_ones_change_nothing() {
    let mut controller = Controller::new(&["127.0.0.1"]);
    let newer = Authority::new("one").unwrap();
    let pair = newer.server(&["127.0.0.1"]).unwrap();
    let before = controller.server.expires();
    controller.dir.write("controller.pem", "half a file");
    assert!(controller.server.reload().unwrap_err().to_string().contains("-----BEGIN CERTIFICATE-----"));
    assert_eq!(controller.server.expires(), before);
    let ada = controller.ada();
    assert_eq!(
        why(controller.meet(&ada, "127.0.0.1").await.0),
        "met operator ada",
        "the old files are in force"
    );
    pair.serve(&newer, &controller.dir.0, "controller").unwrap();
    assert_eq!(
        why(controller.meet(&ada, "127.0.0.1").await.0),
        "met operator ada",
        "until they are read again"
    );
    controller.server.reload().unwrap();
    let refused = controller.meet(&ada, "127.0.0.1").await.1.unwrap();
    assert!(refused.contains("not signed by --tls-ca"), "{refused}");
    controller.authority = newer;
    let ada = controller.ada();
    assert_eq!(why(controller.meet(&ada, "127.0.0.1").await.0), "met operator ada");
}

/// A listener's files, of which the test may break one.
fn files(dir: &Dir, authority: &Authority, pair: &Pair) -> ServerFiles {
    pair.serve(authority, &dir.0, "controller").unwrap()
}

#[test]
fn a_listeners_file_that_cannot_be_used_is_named_with_what_to_do() {
    let (dir, authority) = (Dir::new(), Authority::new("one").unwrap());
    let (pair, other) = (authority.server(&["a"]).unwrap(), authority.server(&["a"]).unwrap());
    let check = |pair: &Pair, breaks: &dyn Fn(&Path), expected: &str| {
        let files = files(&dir, &authority, pair);
        breaks(&dir.0);
        let error = Server::read(files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let write =
        |name: &'static str, text: String| move |dir: &Path| std::fs::write(dir.join(name), &text).unwrap();
    check(&pair, &|dir| std::fs::remove_file(dir.join("controller.pem")).unwrap(), "--tls-cert: ");
    check(&pair, &write("controller.pem", String::new()), "it has no block that begins with -----BEGIN CERT");
    check(&pair, &write("controller.key", pair.certificate.clone()), "--tls-key: ");
    check(&pair, &write("controller.key", pair.certificate.clone()), "-----BEGIN PRIVATE KEY-----");
    check(&pair, &write("controller.key", other.key.clone()), "it is not the key of ");
    check(&pair, &write("ca.pem", "no PEM".into()), "--tls-client-ca: ");
    check(&pair, &write("ca.pem", "x".repeat(1024 * 1024 + 1)), "larger than 1048576 bytes");
    check(&pair, &write("controller.pem", pair.certificate.replace('M', "!")), "--tls-cert: ");
    check(&authority.expired(&["x:y"]).unwrap(), &|_| {}, "days ago; renew it");
    assert!(Server::read(files(&dir, &authority, &pair)).is_ok());
}

#[test]
fn a_clients_files_come_together_and_fit_its_addresses() {
    let (dir, authority) = (Dir::new(), Authority::new("one").unwrap());
    let all =
        authority.client(&["flareshift:operator/ada"]).unwrap().flags(&authority, &dir.0, "ada").unwrap();
    let none = ClientFlags::default();
    let check = |flags: &ClientFlags, addresses: &[&str], expected: Option<&str>| {
        let told = flags.check(addresses.iter().copied()).err().map(|error| error.to_string());
        match (&told, expected) {
            (None, None) => {}
            (Some(told), Some(expected)) if told.contains(expected) => {}
            _ => panic!("{addresses:?}: {told:?}"),
        }
    };
    check(&all, &["https://h:1", "https://[::1]:2"], None);
    check(&none, &["http://h:1"], None);
    check(&none, &["https://h:1"], Some("only with --tls-ca, --tls-cert and --tls-key"));
    check(&all, &["https://h:1", "http://h:2"], Some("http://h:2 is reached without TLS"));
    check(&all, &["https://h h"], Some("is no address"));
    check(&ClientFlags { tls_key: None, ..all.clone() }, &[], Some("--tls-ca is given without --tls-key"));
    check(&ClientFlags { tls_ca: None, ..all.clone() }, &[], Some("--tls-cert is given without --tls-ca"));
    let lost = ClientFlags { tls_cert: Some(dir.0.join("lost.pem")), ..all };
    check(&lost, &[], Some("lost.pem cannot be used"));
    // What is not used need not be there.
    assert!(lost.endpoint("http://h:1").is_ok() && lost.endpoint("https://h:1").is_err());
}
