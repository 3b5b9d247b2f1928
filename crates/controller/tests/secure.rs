//! A controller behind TLS: who may call what, and what each of the others is told.

use std::sync::Arc;

use api::agent::agent_service_client::AgentServiceClient;
use api::agent::controller_message::Kind as Down;
use api::common::Subject;
use api::common::subject::Kind;
use api::operator as wire;
use api::operator::operator_service_client::OperatorServiceClient;
use api::tenant::tenant_service_client::TenantServiceClient;
use controller::metrics::Monitor;
use service::monitor::Monitored as _;
use service::page::Page;
use service::tls::authority::{Authority, Pair};
use service::tls::{Server, ServerFiles, advice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::harness::{Controller, Dir, HandClock, PATIENCE, hello};

/// A controller behind TLS, and who signs.
struct Secure {
    controller: Controller,
    authority: Authority,
    address: String,
}

impl Secure {
    async fn leading(dir: &Dir) -> Self {
        let authority = Authority::new("test").unwrap();
        let at = dir.join("certificates");
        std::fs::create_dir_all(&at).unwrap();
        let files = authority.server(&["127.0.0.1"]).unwrap().serve(&authority, &at, "controller").unwrap();
        let rest = ServerFiles { client_ca: None, ..files.clone() };
        let [tls, rest] = [files, rest].map(|files| Some(Arc::new(Server::read(files).unwrap())));
        let store = store::embedded::open(&dir.join("store")).unwrap();
        let adjust = |options: &mut controller::run::Options| {
            (options.tls, options.rest_tls) = (tls, rest);
        };
        let controller = Controller::start(dir, store, HandClock::new(), adjust).await;
        controller.knows_the_fleet().await;
        let address = controller.grpc.replace("http://", "https://");
        Self { controller, authority, address }
    }

    /// A connection of somebody with this name in its certificate.
    async fn of(&self, uri: &str) -> Channel {
        self.with(&self.authority.client(&[uri]).unwrap()).await
    }

    async fn with(&self, pair: &Pair) -> Channel {
        let way = Endpoint::from_shared(self.address.clone()).unwrap();
        self.authority.shown(pair).secure(way).unwrap().connect().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_certificate_calls_its_own_service_and_is_told_of_the_others() {
    let dir = Dir::new();
    let secure = Secure::leading(&dir).await;
    let check = async |uri: &str, agents: Code, operators: Code, tenants: Code| {
        let channel = secure.of(uri).await;
        let opened = hello(AgentServiceClient::new(channel.clone()), "m1", true).await;
        let agent = opened.err().map_or(Code::Ok, |status| status.code());
        let status =
            OperatorServiceClient::new(channel.clone()).get_version(wire::GetVersionRequest {}).await;
        let operator = status.err().map_or(Code::Ok, |status| status.code());
        let usage = TenantServiceClient::new(channel)
            .list_offerings(api::tenant::ListOfferingsRequest::default())
            .await;
        let tenant = usage.err().map_or(Code::Ok, |status| status.code());
        assert_eq!((agent, operator, tenant), (agents, operators, tenants), "{uri}");
    };
    let no = Code::PermissionDenied;
    check("flareshift:module/m1", Code::Ok, no, no).await;
    check("flareshift:operator/ada", no, Code::Ok, Code::Unauthenticated).await;
    check("flareshift:tenant/acme", no, no, Code::Unauthenticated).await;
    check("spiffe://elsewhere/ada", no, no, no).await;
    secure.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_speaks_for_its_own_module_and_for_no_other() {
    let dir = Dir::new();
    let secure = Secure::leading(&dir).await;
    let channel = secure.of("flareshift:module/m1").await;
    let answer = async |module: &str| {
        let (up, mut down) = hello(AgentServiceClient::new(channel.clone()), module, true).await.unwrap();
        let first = down.message().await.unwrap().unwrap().kind;
        drop(up);
        first
    };
    assert!(matches!(answer("m1").await, Some(Down::Welcome(_))));
    let Some(Down::Refusal(refusal)) = answer("m2").await else { panic!("m2 was let in") };
    assert_eq!(refusal.code(), api::agent::RefusalCode::Identity);
    let expected = "the certificate is that of the agent of module m1, the hello of module m2; give the agent the certificate of its \
                    own module, with the name flareshift:module/m2";
    assert_eq!(refusal.message, expected);
    secure.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_did_is_told_by_the_name_in_the_certificate() {
    let dir = Dir::new();
    let secure = Secure::leading(&dir).await;
    let mut ada = OperatorServiceClient::new(secure.of("flareshift:operator/ada").await);
    let request = wire::CordonModuleRequest { module: "m1".into(), by: "bob".into(), ..Default::default() };
    ada.cordon_module(request).await.unwrap();
    let subject = Some(Subject { kind: Some(Kind::Module("m1".into())) });
    let events = ada.list_events(wire::ListEventsRequest { subject }).await.unwrap().into_inner().events;
    let cordoned = events.into_iter().find(|event| event.what == "cordoned").unwrap();
    assert_eq!(cordoned.who.and_then(|who| who.kind), Some(wire::actor::Kind::Operator("ada".into())));
    secure.controller.stop().await;
}

/// Why a call by this way fails.
async fn failure(way: Endpoint) -> Box<dyn std::error::Error> {
    let asked = async {
        let channel = way.connect().await?;
        OperatorServiceClient::new(channel).get_version(wire::GetVersionRequest {}).await?;
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    asked.await.expect_err("nobody is let in like this")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_or_speaks_no_tls_is_refused_and_counted() {
    let dir = Dir::new();
    let secure = Secure::leading(&dir).await;
    let error = failure(Endpoint::from_shared(secure.controller.grpc.clone()).unwrap()).await;
    let told = advice(error.as_ref()).unwrap_or_else(|| panic!("no advice on {error:?}"));
    assert_eq!(told, "write https:// and give --tls-ca, --tls-cert and --tls-key");
    let nameless = ClientTlsConfig::new()
        .domain_name("127.0.0.1")
        .ca_certificate(Certificate::from_pem(&secure.authority.pem));
    let nameless = Endpoint::from_shared(secure.address.clone()).unwrap().tls_config(nameless).unwrap();
    failure(nameless).await;
    let monitor = Monitor(secure.controller.handle.context().clone());
    for result in ["plain", "refused"] {
        let counter = format!("flareshift_controller_handshakes_total{{result=\"{result}\"}} ");
        // Once or more: a client that believes it was connected tries again before it gives up.
        let is_counted = |line: &str| line.strip_prefix(&counter).is_some_and(|count| count != "0");
        let shown = async {
            loop {
                let mut page = Page::default();
                monitor.write(&mut page);
                if page.text().lines().any(is_counted) {
                    return;
                }
                // It is counted once the client has gone.
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("none of {counter}"));
    }
    secure.controller.stop().await;
}

/// What REST answers to a request by bytes.
async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_reach_rest_by_tls_without_a_certificate() {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let dir = Dir::new();
    let secure = Secure::leading(&dir).await;
    let at = secure.controller.rest.trim_start_matches("http://").to_owned();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(secure.authority.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = connector.connect(name, TcpStream::connect(&at).await.unwrap()).await.unwrap();
    let answer = ask(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"/v1/workloads\""), "{answer}");
    let answer = ask(TcpStream::connect(&at).await.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("write https://\n"), "{answer}");
    secure.controller.stop().await;
}
