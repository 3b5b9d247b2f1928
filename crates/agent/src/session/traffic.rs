//! What a link carries, by direction and kind of message: where bytes are paid for, this says what to save.
//!
//! Kinds are few and fixed, so that series are. Read next: `../metrics/lines.rs`, docs/sessions.md.

use api::agent::{self as wire, agent_message, controller_message};

use crate::metrics::Sort;

/// How a message to the controller is counted.
pub(super) fn up(message: &wire::AgentMessage) -> Sort {
    let kind = match message.kind {
        Some(agent_message::Kind::Hello(_)) | None => "hello",
        Some(agent_message::Kind::Report(_)) => "report",
        Some(agent_message::Kind::Unchanged(_)) => "unchanged",
        Some(agent_message::Kind::LedgerSegment(_)) => "ledger",
        Some(agent_message::Kind::DirectiveStatus(_)) => "directive",
        Some(agent_message::Kind::ShareNote(_)) => "share_note",
        Some(agent_message::Kind::ShareAnswer(_)) => "share_answer",
    };
    ("up", kind)
}

/// How a message of the controller is counted: an acknowledgement by what it acknowledges.
pub(super) fn down(message: &wire::ControllerMessage) -> Sort {
    let kind = match message.kind {
        Some(controller_message::Kind::Welcome(_)) => "welcome",
        Some(controller_message::Kind::Directive(_)) => "directive",
        Some(controller_message::Kind::LedgerAck(_)) => "ledger",
        Some(controller_message::Kind::ReportAck(_)) => "report",
        Some(controller_message::Kind::ShareNoteAck(_)) => "share_note",
        Some(controller_message::Kind::ShareChallenge(_)) => "share_challenge",
        Some(controller_message::Kind::ShareVerdict(_)) => "share_verdict",
        Some(controller_message::Kind::Redirect(_) | controller_message::Kind::Refusal(_)) | None => "other",
    };
    ("down", kind)
}
