//! What a service answers when it cannot do what was asked: one type for gRPC and REST, so that both say the same.
//!
//! [`Problem::into_status`] is the only place that makes a `tonic::Status`; the REST side maps the same [`Kind`]. Read next:
//! [`crate::convert::Error`], which becomes a problem of kind [`Kind::Invalid`].

use std::fmt;

use tonic::{Code, Status};

use crate::{convert, leader};

/// Why a call failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What sort of failure it is: what the caller's program may act on.
    pub kind: Kind,
    /// What happened and what to do, for people.
    pub message: String,
    /// Who leads, as a URL, where this controller stands by and that is why: ask there.
    pub leader: Option<String>,
}

/// The sorts of failure, each with the reaction it asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The request is wrong whatever the state: correct it.
    Invalid,
    /// What was named is not there, or is another's.
    NotFound,
    /// What was to be made is there already.
    Exists,
    /// It changed meanwhile (etag, fence, parent plan): read it again and decide again.
    Conflict,
    /// The state does not allow it now: change the state first.
    Precondition,
    /// A quota or a limit is used up.
    Exhausted,
    /// The caller did not say who it is, or its key is wrong.
    Unauthenticated,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// Not now, or not here: try again, or ask the leader that the message names.
    Unavailable,
    /// It took too long: it may or may not have happened.
    Timeout,
    /// This version does not do that.
    Unimplemented,
    /// A defect of ours: report it with the message.
    Internal,
}

/// Each kind with its stable name and gRPC code (google.rpc.Code).
const KINDS: [(Kind, &str, Code); 12] = [
    (Kind::Invalid, "invalid", Code::InvalidArgument),
    (Kind::NotFound, "not-found", Code::NotFound),
    (Kind::Exists, "exists", Code::AlreadyExists),
    (Kind::Conflict, "conflict", Code::Aborted),
    (Kind::Precondition, "precondition", Code::FailedPrecondition),
    (Kind::Exhausted, "exhausted", Code::ResourceExhausted),
    (Kind::Unauthenticated, "unauthenticated", Code::Unauthenticated),
    (Kind::PermissionDenied, "permission-denied", Code::PermissionDenied),
    (Kind::Unavailable, "unavailable", Code::Unavailable),
    (Kind::Timeout, "timeout", Code::DeadlineExceeded),
    (Kind::Unimplemented, "unimplemented", Code::Unimplemented),
    (Kind::Internal, "internal", Code::Internal),
];

impl Kind {
    /// The stable name, as in the `type` of a REST problem.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The gRPC code.
    pub fn code(self) -> Code {
        self.row().2
    }

    /// The kind behind a gRPC code; codes that we never send are [`Kind::Internal`].
    pub fn of_code(code: Code) -> Self {
        KINDS.iter().find(|row| row.2 == code).map_or(Kind::Internal, |row| row.0)
    }

    fn row(self) -> &'static (Kind, &'static str, Code) {
        KINDS.iter().find(|row| row.0 == self).expect("the table has a row for each kind")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Problem {
    /// A failure of some kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), leader: None }
    }

    /// What was named is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The request is wrong whatever the state.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// It changed meanwhile.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Not now, or not here.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// This controller stands by; `leader` is the address of the one that leads, empty when nobody does.
    pub fn standby(leader: &str) -> Self {
        if leader.is_empty() {
            return Self::unavailable("no controller leads just now; try again in a few seconds");
        }
        let message = format!("this controller stands by; ask the leader at {leader}");
        Self { leader: Some(leader.to_owned()), ..Self::unavailable(message) }
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The gRPC status that says it.
    pub fn into_status(self) -> Status {
        let Self { kind, message, leader } = self;
        let detail = leader.map(|leader| leader::detail(kind.code(), &message, &leader)).unwrap_or_default();
        Status::with_details(kind.code(), message, detail.into())
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.into_status()
    }
}

/// What the other side said, for callers.
impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let leader = leader::of_detail(status.details());
        Self { leader, ..Self::new(Kind::of_code(status.code()), status.message()) }
    }
}

impl From<convert::Error> for Problem {
    fn from(error: convert::Error) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for (kind, name, code) in KINDS {
            let back = Problem::from(Status::from(Problem::new(kind, "why")));
            assert_eq!(back, Problem::new(kind, "why"));
            assert_eq!((kind.as_str(), kind.code()), (name, code));
        }
    }

    #[test]
    fn a_standby_names_the_leader_in_words_and_for_programs() {
        let problem = Problem::standby("http://h:1");
        assert!(problem.message.contains("stands by") && problem.message.contains("http://h:1"));
        assert_eq!(Problem::from(Status::from(problem.clone())), problem);
        assert_eq!((problem.kind, problem.leader.as_deref()), (Kind::Unavailable, Some("http://h:1")));
        let nobody = Problem::standby("");
        assert_eq!(Problem::from(Status::from(nobody.clone())), nobody);
        assert_eq!((nobody.kind, nobody.leader), (Kind::Unavailable, None));
    }

    #[test]
    fn names_and_codes_are_distinct() {
        assert_eq!(KINDS.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(), KINDS.len());
        assert_eq!(KINDS.iter().map(|row| row.1).collect::<BTreeSet<_>>().len(), KINDS.len());
        assert_eq!(KINDS.iter().map(|row| row.2 as i32).collect::<BTreeSet<_>>().len(), KINDS.len());
    }

    #[test]
    fn a_code_that_we_never_send_is_internal() {
        assert_eq!(Kind::of_code(Code::DataLoss), Kind::Internal);
    }

    #[test]
    fn a_bad_field_becomes_an_invalid_request_that_names_it() {
        let problem = Problem::from(convert::Error::new("order.gpus", "1 or more"));
        assert_eq!(problem, Problem::invalid("order.gpus: expected 1 or more"));
    }
}
