//! `flareshift proxy`: asks an agent on this machine, over the socket in its data directory. No controller.
//!
//! Assumes that whoever asks may use the socket's file: it is its owner's alone. Read next: [`crate::output::proxy`] for what is
//! printed, `proto/flareshift/proxy/v1/proxy.proto` for what is asked.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::local::SOCKET;
use api::Problem;
use api::limits::MAX_MESSAGE_BYTES;
use api::proxy::proxy_service_client::ProxyServiceClient;
use api::proxy::{GetStatsRequest, Stats};
use tonic::Status;
use tonic::transport::Endpoint;

use crate::args::{Output, ProxyCommand};
use crate::operator::failure;
use crate::output;

/// Time for connection and answer together: an agent on this machine answers from memory.
const CALL: Duration = Duration::from_secs(5);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Nobody answers there.
    #[error(
        "no agent answers at {}: {why}\n  start one: `flareshift-agent proxy FILE` runs the proxy alone\n  or say where its \
         directory is: --data DIR; only the agent's own user may ask",
        path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What happened there.
        why: String,
    },
    /// As every command may fail.
    #[error(transparent)]
    Common(#[from] failure::Error),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Error::Unreachable { .. } => 3,
            Error::Common(error) => error.code(),
        }
    }
}

/// Runs one of the commands about a proxy to its end.
pub fn run(command: &ProxyCommand, output: Output) -> ExitCode {
    let ProxyCommand::Stats { data } = command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime
        .map_err(|error| Error::Common(failure::Error::Runtime(error)))
        .and_then(|runtime| runtime.block_on(stats(&data.join(SOCKET))));
    let printed = answer.and_then(|stats| {
        let text = output::text(&output::proxy::Proxy::from(stats), output);
        output::print(&text).map_err(|error| Error::Common(failure::Error::Print(error)))
    });
    match printed {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flareshift: {error}");
            ExitCode::from(error.code())
        }
    }
}

async fn stats(path: &Path) -> Result<Stats, Error> {
    let unreachable = |why: String| Error::Unreachable { path: path.to_owned(), why };
    let asking = async {
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display()))
            .map_err(|error| unreachable(innermost(&error)))?;
        let channel = endpoint.connect().await.map_err(|error| unreachable(innermost(&error)))?;
        let mut client = ProxyServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = client.get_stats(GetStatsRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| refused(path, status))
    };
    let late = |_| unreachable(format!("it took the call and did not answer within {CALL:?}"));
    tokio::time::timeout(CALL, asking).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// What a status means: one with a source comes from the way there.
fn refused(path: &Path, status: Status) -> Error {
    match status.source() {
        Some(source) => Error::Unreachable { path: path.to_owned(), why: innermost(source) },
        None => Error::Common(failure::Error::Refused { problem: Problem::from(status) }),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
