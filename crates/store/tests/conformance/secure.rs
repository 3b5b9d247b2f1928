//! The etcd twin against an etcd with TLS, client certificates, and users.
//!
//! Assumes: an `openssl` on the PATH, as every Debian has; certificates are made anew for each test and never leave its directory.
//! Read next: `twins.rs`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use store::{Access, Election, Error, Store, Txn, key};

use crate::twins::{Etcd, TempDir, free_address, next, ready};
use crate::txn::put;
use crate::{all, k};

/// A directory with two authorities and what the first of them signed: `server`, `client`.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let made = Self(TempDir::new("certificates"));
        for ca in ["ca", "other"] {
            made.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {ca}.key -out {ca}.pem \
                 -subj /CN={ca} -days 2"
            ));
        }
        for name in ["server", "client"] {
            let extension = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
            std::fs::write(made.path("extension"), extension).unwrap();
            made.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            made.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile extension"
            ));
        }
        made
    }

    fn openssl(&self, command: &str) {
        let output = Command::new("openssl").args(command.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("openssl is on the PATH");
        assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An etcd that shows `server` and asks for a certificate of the first authority.
    fn etcd(&self) -> Option<Etcd> {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let extra = vec![
            flag("cert-file", "server.pem"),
            flag("key-file", "server.key"),
            flag("trusted-ca-file", "ca.pem"),
            "--client-cert-auth".into(),
        ];
        Etcd::start_with("https", extra)
    }

    fn access(&self) -> Access {
        Access {
            ca: Some(self.path("ca.pem")),
            certificate: Some(self.path("client.pem")),
            key: Some(self.path("client.key")),
            ..Access::default()
        }
    }
}

async fn open(address: &str, access: Access) -> Result<Store, Error> {
    store::open_at(address.parse()?, access).await
}

/// Reads until something is said other than that etcd is not up yet.
async fn first_words(store: &Store, wait_out: &str) -> String {
    for _ in 0..200 {
        let text = store.get(&k("a")).await.map_or_else(|error| error.to_string(), |_| "served".into());
        if !text.contains(wait_out) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("etcd does not come up");
}

#[tokio::test]
async fn everything_works_over_tls_with_a_certificate() {
    let certificates = Certificates::make();
    let Some(server) = certificates.etcd() else { return };
    let address = format!("etcds://{}/tls", server.endpoint);
    let store = open(&address, certificates.access()).await.unwrap();
    ready(&store).await;
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let clock = store::Clock::boot();
    let election = Election::new(store.clone(), key::leader(), clock);
    let leadership = election.campaign(b"me".to_vec(), Duration::from_secs(20)).await.unwrap();
    let txn = || Txn::new().when(leadership.fence_compare()).put(k("a"), b"x".to_vec());
    let written = store.txn(txn()).await.unwrap();
    assert!(written.succeeded);
    assert_eq!(next(&mut watch).await.revision(), written.revision);
    server.kill();
    server.start();
    ready(&store).await;
    let written = store.txn(txn()).await.unwrap();
    assert_eq!(next(&mut watch).await.revision(), written.revision);
    store.compact(written.revision).await.unwrap();
    leadership.resign().await.unwrap();
}

#[tokio::test]
async fn who_is_not_trusted_is_told_on_which_side() {
    let certificates = Certificates::make();
    let Some(server) = certificates.etcd() else { return };
    let address = format!("etcds://{}/tls", server.endpoint);
    ready(&open(&address, certificates.access()).await.unwrap()).await;
    let check = async |address: &str, access: Access, expected: &str| {
        let store = open(address, access).await.unwrap();
        let error = store.get(&k("a")).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        // A connection that never stood carried no write.
        store.txn(Txn::new().put(k("a"), vec![])).await.unwrap_err()
    };
    let other = Access { ca: Some(certificates.path("other.pem")), ..certificates.access() };
    let error = check(&address, other, "check the CA file").await;
    assert!(error.is_retryable(), "{error:?}");
    let name = format!("etcds://localhost:{}/tls", server.endpoint.rsplit_once(':').unwrap().1);
    check(&name, certificates.access(), "names this host").await;
    let nobody = Access { certificate: None, key: None, ..certificates.access() };
    // As an alert or, where that was lost, as one of the causes for which etcd hangs up.
    check(&address, nobody, "the certificate and the key towards etcd").await;
    check(&address.replace("etcds", "etcd"), Access::default(), "the scheme of the address").await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_once_and_by_name() {
    let certificates = Certificates::make();
    let write = |name: &str, text: &str| {
        std::fs::write(certificates.path(name), text).unwrap();
        Some(certificates.path(name))
    };
    let read = |name: &str| std::fs::read_to_string(certificates.path(name)).unwrap();
    let good = || certificates.access();
    let user = |file: Option<PathBuf>| Access { user: Some("u".into()), password_file: file, ..good() };
    let broken = read("ca.pem").replace("MII", "MIX");
    let cases = [
        (
            Access { ca: Some("/no/such".into()), ..good() },
            "authority of etcd, /no/such, cannot be used: No such file",
        ),
        (
            Access { ca: write("empty", ""), ..good() },
            "no block that begins with -----BEGIN CERTIFICATE-----",
        ),
        (
            Access { ca: write("text", "hello"), ..good() },
            "no block that begins with -----BEGIN CERTIFICATE-----",
        ),
        (Access { ca: write("broken", &broken), ..good() }, "broken, cannot be used"),
        (Access { ca: write("large", &"x".repeat(1_100_000)), ..good() }, "larger than 1048576 bytes"),
        (
            Access { certificate: Some(certificates.path("client.key")), ..good() },
            "client.key, cannot be used",
        ),
        (Access { key: Some(certificates.path("client.pem")), ..good() }, "client.pem, cannot be used"),
        (
            Access { key: Some(certificates.path("server.key")), ..good() },
            "server.key, cannot be used: it does not go with",
        ),
        (Access { key: None, ..good() }, "give both files or none"),
        (user(Some("/no/password".into())), "password towards etcd, /no/password, cannot be used"),
        (user(write("blank", "\n")), "must hold 1 to 72 bytes"),
        (user(write("long", &"x".repeat(73))), "must hold 1 to 72 bytes"),
    ];
    let address = format!("etcds://{}", free_address());
    for (access, expected) in cases {
        let error = open(&address, access).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{expected}: {error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    open(&address, good()).await.map(drop).unwrap();
}

/// One call to etcd's own management over plain HTTP.
fn manage(server: &Etcd, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(&server.endpoint).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v3/auth/{path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An etcd whose user `plant` may read and write what begins with `plant/`.
async fn with_users() -> Option<Etcd> {
    let server = Etcd::start_or_skip()?;
    server.store().await;
    let steps = [
        ("user/add", r#"{"name":"root","password":"top"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("user/add", r#"{"name":"plant","password":"secret"}"#),
        ("role/add", r#"{"name":"plant"}"#),
        // From "plant/" up to "plant0", in base64.
        (
            "role/grant",
            r#"{"name":"plant","perm":{"permType":"READWRITE","key":"cGxhbnQv","range_end":"cGxhbnQw"}}"#,
        ),
        ("user/grant", r#"{"user":"plant","role":"plant"}"#),
        ("enable", "{}"),
    ];
    for (path, body) in steps {
        let answer = manage(&server, path, body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    Some(server)
}

#[tokio::test]
async fn a_user_with_a_role_works_and_signs_in_again_when_etcd_forgets_it() {
    let Some(server) = with_users().await else { return };
    let dir = TempDir::new("password");
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let access =
        || Access { user: Some("plant".into()), password_file: Some(file.clone()), ..Access::default() };
    let address = format!("etcd://{}/plant", server.endpoint);
    let store = open(&address, access()).await.unwrap();
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let election = Election::new(store.clone(), key::leader(), store::Clock::boot());
    let leadership = election.campaign(b"me".to_vec(), Duration::from_secs(20)).await.unwrap();
    let mut last = put(&store, k("a"), "1").await;
    assert_eq!(next(&mut watch).await.revision(), last);
    // etcd keeps its tokens in memory: after a restart none is valid any more.
    for round in 0..2 {
        server.kill();
        server.start();
        if round == 0 {
            // The watch is the first to notice.
            let (direct, wait) = (open(&address, access()).await.unwrap(), "check that etcd runs there");
            assert_eq!(first_words(&direct, wait).await, "served");
            last = put(&direct, k("a"), "2").await;
        } else {
            ready(&store).await;
            last = put(&store, k("a"), "3").await;
        }
        assert_eq!(next(&mut watch).await.revision(), last);
    }
    leadership.resign().await.unwrap();
    store.compact(last).await.unwrap();
}

#[tokio::test]
async fn a_user_that_may_not_is_told_what_to_do() {
    let Some(server) = with_users().await else { return };
    let dir = TempDir::new("passwords");
    let access = |user: &str, password: &str| {
        let file = dir.path().join(format!("{user}-{password}"));
        std::fs::write(&file, password).unwrap();
        Access { user: Some(user.into()), password_file: Some(file), ..Access::default() }
    };
    let check = async |prefix: &str, access: Access, expected: &str| {
        let store = open(&format!("etcd://{}/{prefix}", server.endpoint), access).await.unwrap();
        let errors = [
            store.get(&k("a")).await.map(drop).unwrap_err(),
            store.txn(Txn::new().put(k("a"), vec![])).await.map(drop).unwrap_err(),
            store.range(&all()).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Refused { .. }), "{expected}: {error:?}");
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
        let watched = tokio::time::timeout(Duration::from_secs(20), store.watch(&all(), None).next()).await;
        let error = watched.expect("a watch that never will be is told").unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{expected}: {error:?}");
        // From a revision on, where no range is read first.
        let mut watch = store.watch(&all(), Some(store::Revision(1)));
        let watched = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let error = watched.expect("a watch that never will be is told").unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{expected}: {error:?}");
    };
    check("plant", Access::default(), "etcd wants a user").await;
    check("plant", access("plant", "wrong"), "check the user and the file with the password").await;
    check("plant", access("nobody", "secret"), "check the user and the file with the password").await;
    check("other", access("plant", "secret"), "grant the user a role").await;
}

#[tokio::test]
async fn a_user_where_etcd_knows_none_is_told() {
    let Some(server) = Etcd::start_or_skip() else { return };
    server.store().await;
    let dir = TempDir::new("no-users");
    let file = dir.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    let access = Access { user: Some("plant".into()), password_file: Some(file), ..Access::default() };
    let store = open(&format!("etcd://{}/plant", server.endpoint), access).await.unwrap();
    let error = store.get(&k("a")).await.unwrap_err();
    assert!(error.to_string().contains("etcd knows no users; leave the user out"), "{error}");
}
