//! The listener for whoever watches a program: `/metrics`, `/healthz`, `/readyz`.
//!
//! It answers without a key, so it stays on loopback: who scrapes runs on this machine, or tunnels. A page is made whole before it
//! is sent: a reader that is slow holds nothing up but itself. Next: [`crate::page`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::page::Page;
use crate::process;

/// The type of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A program that does not know by then whether it is ready is not: whoever asks waits 1 to 5 s as a rule.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// What a program tells of itself.
pub trait Monitored: Clone + Send + Sync + 'static {
    /// Writes what it knows now.
    fn write(&self, page: &mut Page);

    /// Whether it can do its work now, or why not.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener would be open to the network.
    #[error(
        "--metrics {0} is not on loopback, and metrics are shown without TLS or key: anybody could read how the fleet stands; use 127.0.0.1 and reach it by an SSH tunnel, or run Prometheus on this machine"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("--metrics {address} cannot be listened on; free the address, or choose another")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Clone)]
struct Shown<M> {
    monitored: M,
    started: SystemTime,
}

/// Refuses an address that is not on loopback.
pub fn check(address: SocketAddr) -> Result<(), Error> {
    if address.ip().is_loopback() { Ok(()) } else { Err(Error::NotLoopback(address)) }
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    check(address)?;
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Shows a program until cancelled.
pub async fn serve<M: Monitored>(
    listener: TcpListener,
    monitored: M,
    cancel: CancellationToken,
) -> io::Result<()> {
    let shown = Shown { monitored, started: SystemTime::now() };
    let router = Router::new()
        .route("/metrics", get(metrics::<M>))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready::<M>))
        .fallback(no_such_page)
        .with_state(shown);
    axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await
}

async fn metrics<M: Monitored>(State(shown): State<Shown<M>>) -> impl IntoResponse {
    let mut page = Page::default();
    process::write(&mut page, shown.started);
    shown.monitored.write(&mut page);
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], page.text())
}

/// It runs and answers: whoever restarts what hangs asks no more.
async fn healthy() -> &'static str {
    "ok\n"
}

async fn ready<M: Monitored>(State(shown): State<Shown<M>>) -> (StatusCode, String) {
    let late = || Err(format!("does not know within {} s whether it is ready", READY_WITHIN.as_secs()));
    match timeout(READY_WITHIN, shown.monitored.ready()).await.unwrap_or_else(|_| late()) {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn no_such_page() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::page::Metric;

    const WATTS: Metric = Metric::gauge("x_power_watts", "What is drawn.");

    #[derive(Clone)]
    struct Program(Option<&'static str>);

    impl Monitored for Program {
        fn write(&self, page: &mut Page) {
            page.add(&WATTS, &[], 7.0);
        }

        async fn ready(&self) -> Result<(), String> {
            match self.0 {
                None => Ok(()),
                Some("hangs") => std::future::pending().await,
                Some(why) => Err(why.into()),
            }
        }
    }

    /// Status, type and text of a page.
    async fn ask(program: Program, path: &'static str) -> (u16, String, String) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let served = tokio::spawn(serve(listener, program, cancel.clone()));
        let asked = tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder().http_status_as_error(false).build();
            let mut answer = ureq::Agent::new_with_config(config).get(&url).call().unwrap();
            let kind = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind, answer.body_mut().read_to_string().unwrap())
        });
        let answer = asked.await.unwrap();
        cancel.cancel();
        served.await.unwrap().unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_page_answers_by_itself() {
        let (status, kind, text) = ask(Program(None), "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, TEXT_FORMAT));
        assert!(text.contains("\nx_power_watts 7\n") && text.contains("flareshift_build_info{"), "{text}");
        assert_eq!(ask(Program(None), "/readyz").await.0, 200);
        let (status, _, text) = ask(Program(Some("the store is away")), "/readyz").await;
        assert_eq!((status, text.as_str()), (503, "not ready: the store is away\n"));
        assert_eq!(ask(Program(Some("the store is away")), "/healthz").await.0, 200);
        assert_eq!(ask(Program(None), "/elsewhere").await.0, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_does_not_know_in_time_is_not_ready() {
        let shown = Shown { monitored: Program(Some("hangs")), started: SystemTime::now() };
        let (status, text) = ready(State(shown)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("does not know within 2 s"), "{text}");
    }

    #[tokio::test]
    async fn an_address_off_loopback_is_refused_and_a_taken_one_named() {
        for address in ["0.0.0.0:0", "10.1.2.3:9464", "[::]:0"] {
            let refused = bind(address.parse().unwrap()).await.unwrap_err().to_string();
            assert!(refused.contains(address) && refused.contains("not on loopback"), "{refused}");
        }
        let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let refused = bind(taken.local_addr().unwrap()).await.unwrap_err().to_string();
        assert!(refused.contains("cannot be listened on"), "{refused}");
    }
}
