//! What `describe` shows of what happened: one more call, which a controller of an older version does not know.

use api::common::{Subject, subject::Kind};
use api::operator as wire;
use api::problem::Kind as Problem;

use super::connect::Connection;
use super::{Error, answer_with};
use crate::args::Output;
use crate::output::View;
use crate::output::history::{History, WithHistory};

/// Prints an answer with the history of its object.
pub(super) async fn answer(
    connection: &Connection,
    kind: Kind,
    view: impl View,
    output: Output,
) -> Result<(), Error> {
    let request = wire::ListEventsRequest { subject: Some(Subject { kind: Some(kind) }) };
    let history = match connection.ask(connection.client().list_events(request)).await {
        Ok(events) => Some(History::from(events)),
        Err(Error::Refused { problem }) if problem.kind == Problem::Unimplemented => None,
        Err(error) => return Err(error),
    };
    answer_with(&WithHistory { view, history }, output)
}
