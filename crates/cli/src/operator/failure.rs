//! What can go wrong with a command, what to say of it, and the exit code that says it to a script.
//!
//! The codes are promised in `--help` and in the user's documentation: they do not change between versions.

use std::error::Error as _;
use std::io;

use api::Problem;
use api::problem::Kind;
use service::tls;
use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there.
    #[error(
        "no controller answers at {endpoint}: {why}\n  start one: `flareshift dev` simulates a whole fleet, \
         `flareshift-controller` runs a real one\n  or say where it is: --endpoint URL, or the environment variable \
         FLARESHIFT_ENDPOINT"
    )]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What happened there.
        why: String,
    },
    /// It answers, and another one leads.
    #[error("{endpoint} stands by{}", where_to_ask(leader))]
    StandsBy {
        /// Who was asked.
        endpoint: String,
        /// Who leads, as a URL; empty when nobody does.
        leader: String,
    },
    /// It names a leader to whom nobody could be sure to talk.
    #[error(
        "{endpoint} stands by and names a leader without TLS, {leader}, to which nothing was sent\n  correct --advertise of that \
         controller; or ask it knowingly: --endpoint {leader}"
    )]
    Insecure {
        /// Who was asked, with TLS.
        endpoint: String,
        /// Who is said to lead.
        leader: String,
    },
    /// The controller answered that it cannot or will not.
    #[error("{problem}{}", advice(problem.kind))]
    Refused {
        /// What it said.
        problem: Problem,
    },
    /// A list that does not end.
    #[error(
        "the controller's list of {what} has more than {most} pages; report this as a defect of the controller"
    )]
    Endless {
        /// What was listed.
        what: &'static str,
        /// Most pages that are read.
        most: usize,
    },
    /// A plan from a file does not hold what every plan must.
    #[error("the plan must not be used: {findings} finding(s), see above")]
    Unsound {
        /// How many.
        findings: usize,
    },
    /// Events that were replayed broke a limit.
    #[error("{events} replayed event(s) broke an invariant, see above; each names its step and place")]
    Broken {
        /// How many.
        events: u64,
    },
    /// The answer could not be written.
    #[error("standard output cannot be written: {0}")]
    Print(#[source] io::Error),
    /// This process could not start its runtime.
    #[error("this process cannot open what it needs for a connection ({0}); check its limit of open files")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Unreachable { .. } | Error::Insecure { .. } | Error::StandsBy { .. } => 3,
            Error::Refused { problem } => code_of(problem.kind),
            Error::Endless { .. }
            | Error::Unsound { .. }
            | Error::Broken { .. }
            | Error::Print(_)
            | Error::Runtime(_) => 1,
        }
    }

    /// What a failed call means. A status that no controller sends comes from the way to it.
    pub fn of_status(endpoint: &str, status: Status) -> Self {
        // tonic makes a status of its own, with a source, when the connection fails under a call.
        let from_below = status.source().is_some();
        // What tonic says of an HTTP answer without gRPC in it, such as that of the tenants' REST listener.
        if status.message().contains("while receiving response with status") {
            let why = format!("something else listens there ({})", status.message());
            return Error::Unreachable { endpoint: endpoint.to_owned(), why };
        }
        if from_below || matches!(status.code(), Code::Unknown | Code::Cancelled) {
            let why =
                status.source().map_or_else(|| status.message().to_owned(), |error| told(error, endpoint));
            return Error::Unreachable { endpoint: endpoint.to_owned(), why };
        }
        let problem = Problem::from(status);
        match problem.leader {
            Some(leader) => Error::StandsBy { endpoint: endpoint.to_owned(), leader },
            None => Error::Refused { problem },
        }
    }

    /// What a failed connection means.
    pub fn of_transport(endpoint: &str, error: &tonic::transport::Error) -> Self {
        let why = error.source().map_or_else(|| error.to_string(), |error| told(error, endpoint));
        Error::Unreachable { endpoint: endpoint.to_owned(), why }
    }
}

/// The exit code of each kind of refusal.
fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::NotFound | Kind::Unimplemented | Kind::Internal => 1,
        Kind::Invalid => 2,
        Kind::Unavailable | Kind::Timeout => 3,
        Kind::Exists
        | Kind::Conflict
        | Kind::Precondition
        | Kind::Exhausted
        | Kind::Unauthenticated
        | Kind::PermissionDenied => 4,
    }
}

/// What to do where a controller stands by.
fn where_to_ask(leader: &str) -> String {
    const STORED: &str = "\n  or see what it knows from the store: --no-follow";
    match leader {
        "" => format!(" and knows of no leader\n  try again in a few seconds{STORED}"),
        leader => format!("; ask the leader: --endpoint {leader}{STORED}"),
    }
}

/// What to do, where the controller's own words do not say it.
fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Unavailable => "\n  try again, or ask the leader if one is named",
        Kind::Timeout => "\n  it may or may not have happened: look before you repeat it",
        Kind::Unimplemented => "\n  the controller is another version: compare with `flareshift version`",
        Kind::Internal => "\n  this is a defect: report it with this message and the controller's log",
        _ => "",
    }
}

/// The innermost cause, and what to do about it where TLS is why, or may be.
fn told(error: &(dyn std::error::Error + 'static), endpoint: &str) -> String {
    let why = chain(error);
    let closed = tls::is_secure(endpoint) && why.contains("closed");
    match tls::advice(error).or(closed.then_some(tls::PERHAPS)) {
        Some(advice) => format!("{why}\n  {advice}"),
        None => why,
    }
}

/// The innermost cause, which says what happened; the outer ones only repeat that something did.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_exit_code() {
        let check = |kind: Kind, code: u8| {
            let error = Error::of_status("e", Problem::new(kind, "why").into_status());
            assert_eq!(error.code(), code, "{kind}");
            assert!(error.to_string().starts_with("why"), "{error}");
        };
        check(Kind::NotFound, 1);
        check(Kind::Invalid, 2);
        check(Kind::Unavailable, 3);
        check(Kind::Timeout, 3);
        check(Kind::Exists, 4);
        check(Kind::Conflict, 4);
        check(Kind::Precondition, 4);
        check(Kind::Exhausted, 4);
        check(Kind::Unauthenticated, 4);
        check(Kind::PermissionDenied, 4);
        check(Kind::Unimplemented, 1);
        check(Kind::Internal, 1);
    }

    #[test]
    fn a_standby_says_where_to_ask_and_nothing_is_read_out_of_its_words() {
        let check = |problem: Problem, code: u8, expected: &str| {
            let error = Error::of_status("http://h:1", problem.into_status());
            assert_eq!(error.code(), code);
            assert!(error.to_string().starts_with(expected), "{error}");
        };
        check(
            Problem::standby("http://h:2"),
            3,
            "http://h:1 stands by; ask the leader: --endpoint http://h:2",
        );
        check(Problem::standby(""), 3, "no controller leads just now");
        check(Problem::unavailable("ask the leader at http://h:2"), 3, "ask the leader at http://h:2\n  try");
        let unknown = Error::StandsBy { endpoint: "http://h:1".into(), leader: String::new() };
        assert!(unknown.to_string().contains("knows of no leader"), "{unknown}");
    }

    #[test]
    fn an_answer_that_no_controller_sends_means_that_none_is_there() {
        let error = Error::of_status("http://h:1", Status::unknown("HTTP status code 404"));
        assert_eq!(error.code(), 3);
        let text = error.to_string();
        assert!(text.starts_with("no controller answers at http://h:1: HTTP status code 404"), "{text}");
        assert!(text.contains("flareshift dev") && text.contains("FLARESHIFT_ENDPOINT"), "{text}");
        let rest = Status::internal("protocol error: x while receiving response with status: 404 Not Found");
        let error = Error::of_status("http://h:2", rest);
        assert_eq!(error.code(), 3);
        assert!(error.to_string().contains("http://h:2: something else listens there"), "{error}");
    }
}
