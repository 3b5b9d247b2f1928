//! Traces from outside: the real binary sends them, a receiver of OTLP takes them, or does not.
//!
//! In a build with the feature `otlp`: `make archive` has it. The crate `service` tests by itself which spans are kept.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use api::agent::agent_service_client::AgentServiceClient;
use api::agent::{self as wire, agent_message, controller_message};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How long something may take that comes by itself: a plan after seconds, spans 2 s after they ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// A trace that somebody else began, and the span in it that asks.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

type Said = BTreeMap<String, String>;

/// A span as it came, with what was said of its service.
#[derive(Clone, Debug)]
struct Spanned {
    name: String,
    trace: String,
    id: String,
    parent: String,
    said: Said,
    service: Said,
    failed: bool,
}

/// Takes spans, for as long as it lives.
struct Receiver {
    taken: Arc<Taken>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Taken {
    spans: Mutex<Vec<Spanned>>,
    more: Condvar,
}

struct Service(Arc<Taken>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.spans.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = said(&resource.resource.unwrap().attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
                spans.push(Spanned {
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    said: said(&span.attributes),
                    service: service.clone(),
                    failed: span.status.is_some_and(|status| status.code == 2),
                });
            }
        }
        self.0.more.notify_all();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    fn at(address: SocketAddr) -> Self {
        let taken = Arc::new(Taken::default());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let service = TraceServiceServer::new(Service(taken.clone()));
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { taken, _runtime: runtime }
    }

    /// What came, once it is enough.
    fn wait_for(&self, what: &str, enough: impl Fn(&[Spanned]) -> bool) -> Vec<Spanned> {
        let spans = self.taken.spans.lock().unwrap();
        let (spans, late) =
            self.taken.more.wait_timeout_while(spans, PATIENCE, |spans| !enough(spans)).unwrap();
        assert!(!late.timed_out(), "{what}: not within {PATIENCE:?}: {spans:#?}");
        spans.clone()
    }
}

fn said(attributes: &[KeyValue]) -> Said {
    let value = |said: &KeyValue| match said.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|said| (said.key.clone(), value(said))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address where nobody listens.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A controller in a directory of its own; both go with it.
struct Controller {
    process: Child,
    dir: PathBuf,
    grpc: SocketAddr,
    rest: SocketAddr,
}

impl Controller {
    fn start(name: &str, otlp: SocketAddr) -> Self {
        let dir = std::env::temp_dir().join(format!("flareshift-otlp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let (grpc, rest) = (free(), free());
        let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift-controller"));
        command.args(["--listen", &grpc.to_string(), "--rest", &rest.to_string()]);
        command.arg("--store").arg(format!("embedded:{}", dir.join("store").display()));
        command.arg("--data").arg(dir.join("ledger"));
        command.args(["--otlp-endpoint", &format!("http://{otlp}")]);
        command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a test");
        let log = File::create(dir.join("log")).unwrap();
        let process = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let controller = Self { process, dir, grpc, rest };
        controller.wait_for("it serves", || std::net::TcpStream::connect(controller.rest).is_ok());
        controller
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks as a tenant that nobody knows, within a trace.
    fn ask(&self, path: &str) {
        let answer = ureq::get(format!("http://{}{path}", self.rest))
            .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
            .header("x-request-id", "asked-by-a-test")
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        assert!(answer.unwrap().status().is_client_error());
    }

    /// Ends it as an operator does, and answers what it logged.
    fn stop(mut self) -> String {
        let status = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(status.success());
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        self.log()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// An agent of a module that nobody configured says hello within a trace, and is told so.
fn say_hello(controller: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let mut client = AgentServiceClient::connect(format!("http://{controller}")).await.unwrap();
        let hello =
            wire::Hello { module: "m1".into(), fence: Some(Default::default()), ..Default::default() };
        let hello = wire::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) };
        let mut request = Request::new(tokio_stream::once(hello));
        let parent = format!("00-{TRACE}-{PARENT}-01");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        client.session(request).await.unwrap().into_inner().message().await.unwrap()
    });
    let kind = answer.and_then(|message| message.kind);
    assert!(matches!(kind, Some(controller_message::Kind::Refusal(_))), "{kind:?}");
}

fn named<'a>(spans: &'a [Spanned], name: &'a str) -> impl Iterator<Item = &'a Spanned> {
    spans.iter().filter(move |span| span.name == name)
}

fn whole(spans: &[Spanned]) -> Option<&Spanned> {
    named(spans, "planning round").find(|span| span.said.get("outcome").is_some_and(|word| word == "whole"))
}

#[test]
fn a_receiver_gets_rounds_with_their_parts_requests_and_sessions_in_their_traces_and_the_last_ones_too() {
    let at = free();
    let receiver = Receiver::at(at);
    let controller = Controller::start("taken", at);
    let spans = receiver.wait_for("a round", |spans| whole(spans).is_some());
    let round = whole(&spans).unwrap();
    assert_eq!((round.parent.as_str(), round.failed), ("", false));
    assert_eq!(round.said["generation"], "1");
    assert_eq!(round.service["service.name"], "flareshift-controller");
    assert_eq!(round.service["service.instance.id"], format!("http://{}", controller.grpc));
    assert_eq!(round.service["deployment.environment.name"], "a test");
    for part in ["snapshot", "plan", "check", "commit", "settle", "publish"] {
        let found: Vec<&Spanned> = named(&spans, part).filter(|span| span.parent == round.id).collect();
        assert_eq!(found.len(), 1, "{part}: {spans:#?}");
        assert_eq!(found[0].trace, round.trace);
    }
    let commit = named(&spans, "commit").find(|span| span.parent == round.id).unwrap();
    let transaction = named(&spans, "transaction").find(|span| span.parent == commit.id).unwrap();
    assert_eq!(transaction.said["succeeded"], "true");
    say_hello(controller.grpc);
    controller.ask("/v1/workloads");
    // The last ones are sent because it ends.
    controller.stop();
    let spans = receiver.wait_for("the last", |spans| named(spans, "REST GET").next().is_some());
    let request = named(&spans, "REST GET").next().unwrap();
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, PARENT));
    assert_eq!(request.said["url.path"], "/v1/workloads");
    assert_eq!(request.said["http.response.status_code"], "401");
    assert_eq!(request.said["request_id"], "asked-by-a-test");
    let session = named(&spans, "session").next().unwrap();
    assert_eq!((session.trace.as_str(), session.parent.as_str()), (TRACE, PARENT));
    assert_eq!(session.said["end"], "refused");
    assert!(named(&spans, "hello").any(|hello| hello.parent == session.id));
}

#[test]
fn a_receiver_that_is_away_costs_spans_and_one_line_until_it_comes() {
    let at = free();
    let controller = Controller::start("away", at);
    controller.ask("/v1/lost");
    controller.wait_for("it is told", || controller.log().contains("traces are not taken"));
    // Each of these is refused by a batch of its own or with others; it is told no more.
    controller.ask("/v1/lost-too");
    controller.wait_for("it plans all the same", || controller.log().contains("plan committed"));
    let receiver = Receiver::at(at);
    controller.wait_for("it is taken again", || {
        controller.ask("/v1/taken");
        controller.log().contains("traces are taken again")
    });
    receiver.wait_for("a request", |spans| {
        spans.iter().any(|span| span.said.get("url.path").is_some_and(|path| path == "/v1/taken"))
    });
    let log = controller.stop();
    assert_eq!(
        (log.matches("traces are not taken").count(), log.matches("taken again").count()),
        (1, 1),
        "{log}"
    );
    assert!(!log.contains("planning round"), "spans are no part of log lines: {log}");
}

#[test]
fn a_receiver_that_never_answers_holds_nothing_up() {
    // The system accepts connections, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let controller = Controller::start("silent", silent.local_addr().unwrap());
    controller.wait_for("it plans", || controller.log().contains("plan committed"));
    controller.ask("/v1/workloads");
    let log = controller.stop();
    assert!(log.contains("controller stops"), "{log}");
}
