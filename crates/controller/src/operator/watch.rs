//! Watch: the status now, then what happens, and the status again from time to time.
//!
//! A slow reader misses events, never the newest status: events are read from the leader's own short log, by position.
//! Read next: `live.rs`.

use std::time::Duration;

use api::common;
use api::convert::field::wire_time;
use api::operator as wire;
use api::operator::watch_event::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{plans, status};
use crate::context::Context;
use crate::live::Event;

/// Events that wait for a slow reader.
const OUTBOUND: usize = 64;
/// How often the leader's log is looked at, and after how many looks the status is told again: every 5 s.
const LOOK: Duration = Duration::from_millis(500);
const STATUS_EVERY: u32 = 10;

type Messages = mpsc::Sender<Result<wire::WatchEvent, Status>>;

/// What the reader was told.
struct Told {
    plan: Option<u64>,
    refused: u64,
    last: Option<Event>,
}

/// Begins a watch.
pub(super) fn begin(
    context: Context,
    events_only: bool,
    cancel: CancellationToken,
) -> ReceiverStream<Result<wire::WatchEvent, Status>> {
    let (sender, receiver) = mpsc::channel(OUTBOUND);
    // It ends with its reader, or with the process.
    drop(tokio::spawn(run(context, events_only, sender, cancel)));
    ReceiverStream::new(receiver)
}

async fn run(context: Context, events_only: bool, messages: Messages, cancel: CancellationToken) {
    let (plan, refused, last) = {
        let live = context.live.borrow();
        (live.in_force.as_ref().map(|p| p.plan.generation), live.refused, live.events.back().cloned())
    };
    let mut told = Told { plan, refused, last };
    let mut looks = 0u32;
    loop {
        let now = context.clock.now();
        let mut kinds = if looks == 0 { Vec::new() } else { news(&context, &mut told) };
        if looks == 0 || (!events_only && looks.is_multiple_of(STATUS_EVERY)) {
            kinds.push(Kind::Status(status::fleet(&context, 0)));
        }
        for kind in kinds {
            let event = wire::WatchEvent { at: wire_time(now), kind: Some(kind) };
            if messages.send(Ok(event)).await.is_err() {
                return;
            }
        }
        looks = looks.wrapping_add(1).max(1);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = messages.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn news(context: &Context, told: &mut Told) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let view = status::View::of(context);
    let live = &view.live;
    if live.term.is_none() {
        return vec![Kind::Leadership(status::leadership(&view))];
    }
    let plan = live.in_force.as_ref();
    let generation = plan.map(|plan| plan.plan.generation);
    if generation != told.plan {
        kinds.extend(plan.map(|plan| Kind::PlanCommitted(plans::summary(&plan.head, generation))));
        told.plan = generation;
    }
    if live.refused != told.refused {
        told.refused = live.refused;
        let findings = live.refusal.iter().cloned().map(common::Finding::from).collect();
        let generation = generation.map_or(1, |generation| generation + 1);
        kinds.push(Kind::PlanRefused(wire::PlanRefused { generation, findings }));
    }
    let after = told.last.as_ref().and_then(|last| live.events.iter().rposition(|event| event == last));
    let fresh = live.events.iter().skip(after.map_or(0, |index| index + 1));
    kinds.extend(fresh.map(|event| {
        Kind::Finding(common::Finding {
            code: "event".into(),
            subject: event.subject.clone(),
            message: event.what.clone(),
        })
    }));
    told.last = live.events.back().cloned();
    kinds
}
