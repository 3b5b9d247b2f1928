//! The way to a controller: its address, one connection, a limit of time on every call, and lists read page by page.
//!
//! Assumes that a call is tried once: who repeats, and whether that is safe, is the operator's choice.

use std::future::Future;
use std::time::Duration;

use api::limits::MAX_MESSAGE_BYTES;
use api::operator::operator_service_client::OperatorServiceClient;
use service::tls::ClientFlags;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::failure::Error;

/// Time for a connection: a handshake on another continent takes under a second, and a person waits five.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a call: a controller answers from memory or with one commit, which etcd ends by itself after 7 s.
const CALL: Duration = Duration::from_secs(15);
/// Entries asked for in one page: half of what a message may hold (`api::limits::MAX_PAGE`).
const PAGE: i32 = 500;
/// Most pages read: 200 x 500 entries are 100,000, ten times the largest fleet or backlog we plan for.
const MAX_PAGES: usize = 200;

/// A connection to a controller.
pub struct Connection {
    endpoint: String,
    /// What a controller that stands by knows from its store will do.
    alone: bool,
    client: OperatorServiceClient<Channel>,
}

impl Connection {
    /// Connects to `endpoint`, a URL or a bare HOST:PORT, which is meant with TLS where certificates are given. With `alone`, answers
    /// of a controller that does not lead are taken too.
    pub async fn open(endpoint: &str, tls: &ClientFlags, alone: bool) -> Result<Self, Error> {
        let endpoint = url(endpoint, tls.any())?;
        let target = tls.endpoint(&endpoint).map_err(|error| Error::Usage(error.to_string()))?;
        let channel = target.connect_timeout(CONNECT).connect().await;
        let channel = channel.map_err(|error| Error::of_transport(&endpoint, &error))?;
        let client = OperatorServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { endpoint, alone, client })
    }

    /// The generated client, for one call.
    pub fn client(&self) -> OperatorServiceClient<Channel> {
        self.client.clone()
    }

    /// The answer to a call, or what its failure means.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(answer)) => match api::leader::of_answer(answer.metadata()) {
                Some(leader) if !self.alone => {
                    Err(Error::StandsBy { endpoint: self.endpoint.clone(), leader })
                }
                _ => Ok(answer.into_inner()),
            },
            Ok(Err(status)) => Err(self.failed(status)),
            Err(_) => {
                let late = format!("{} took the call and did not answer within {CALL:?}", self.endpoint);
                Err(self.failed(Status::new(Code::DeadlineExceeded, late)))
            }
        }
    }

    /// What a status means that came later, in a stream.
    pub fn failed(&self, status: Status) -> Error {
        Error::of_status(&self.endpoint, status)
    }

    /// What the end of a stream means that has no end of its own.
    pub fn ended(&self) -> Error {
        let why = "it ended the stream; it stops, or no longer leads".to_owned();
        Error::Unreachable { endpoint: self.endpoint.clone(), why }
    }
}

/// One page: its entries, and the token of the next one (empty on the last).
pub type Page<T> = (Vec<T>, String);

/// All pages of a list of `what`, at most `limit` entries. `fetch` gets the size and the token of the page it shall bring.
pub async fn pages<T, F>(
    what: &'static str,
    limit: usize,
    fetch: impl Fn(i32, String) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let missing = i32::try_from(limit.saturating_sub(all.len())).unwrap_or(PAGE);
        let (entries, next) = fetch(PAGE.min(missing), token).await?;
        all.extend(entries);
        if next.is_empty() || all.len() >= limit {
            all.truncate(limit);
            return Ok(all);
        }
        token = next;
    }
    Err(Error::Endless { what, most: MAX_PAGES })
}

/// The address as a URL; a bare one by the scheme that certificates, or none, suggest.
fn url(endpoint: &str, secure: bool) -> Result<String, Error> {
    match endpoint.split_once("://") {
        None if secure => Ok(format!("https://{endpoint}")),
        None => Ok(format!("http://{endpoint}")),
        Some(("http" | "https", _)) => Ok(endpoint.to_owned()),
        Some((scheme, _)) => {
            let hint = "write https://HOST:PORT, or http://HOST:PORT without TLS";
            Err(Error::Usage(format!("{endpoint:?}: {scheme} is not spoken here; {hint}")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_bare_address_becomes_a_url_and_other_schemes_are_refused() {
        let check = |endpoint: &str, secure: bool, expected: &str| {
            assert_eq!(url(endpoint, secure).unwrap(), expected, "{endpoint} {secure}");
        };
        check("127.0.0.1:7600", false, "http://127.0.0.1:7600");
        check("127.0.0.1:7600", true, "https://127.0.0.1:7600");
        check("http://h:1", true, "http://h:1");
        check("https://h:1", false, "https://h:1");
        assert_eq!(url("unix://x", false).unwrap_err().code(), 2);
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_usage_error() {
        for (endpoint, expected) in [("http://not an address", "http://HOST:PORT"), ("https://h:1", "TLS")] {
            let error = Connection::open(endpoint, &ClientFlags::default(), false).await.err().unwrap();
            assert_eq!(error.code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// Reads a list of `total` numbers from a server that gives `step` a page.
    async fn read(total: usize, step: usize, limit: usize) -> (Result<Vec<usize>, Error>, usize) {
        let calls = Cell::new(0);
        let list = pages("numbers", limit, |size, token: String| {
            calls.set(calls.get() + 1);
            let from = token.parse().unwrap_or(0);
            let to = total.min(from + step.min(usize::try_from(size).unwrap()));
            let next = if to < total { to.to_string() } else { String::new() };
            async move { Ok(((from..to).collect(), next)) }
        });
        (list.await, calls.get())
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_and_no_further_than_the_limit() {
        let check = async |total: usize, step: usize, limit: usize, expected: usize, calls: usize| {
            let (list, made) = read(total, step, limit).await;
            assert_eq!(list.unwrap(), (0..expected).collect::<Vec<_>>());
            assert_eq!(made, calls, "{total} by {step} to {limit}");
        };
        check(0, 500, usize::MAX, 0, 1).await;
        check(500, 500, usize::MAX, 500, 1).await;
        check(1_201, 500, usize::MAX, 1_201, 3).await;
        check(1_201, 500, 20, 20, 1).await;
        check(1_201, 7, 20, 20, 3).await;
    }

    #[tokio::test]
    async fn a_list_without_end_is_given_up() {
        let (list, calls) = read(usize::MAX, 1, usize::MAX).await;
        assert_eq!(list.unwrap_err().code(), 1);
        assert_eq!(calls, MAX_PAGES);
    }
}
