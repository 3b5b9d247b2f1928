//! Campaigns for the office, leads while it is held, and stands by otherwise.
//!
//! Safety does not rest here but on the fence in every write; this file only saves useless work. A store that does not answer is
//! waited for, with a line that says so. Read next: `term.rs`.

use std::time::Duration;

use store::{Clock, Compare, Election, Leadership, Txn, key};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::commit::{self, call, put};
use crate::compact;
use crate::context::{Context, Office};
use crate::live::Live;
use crate::records::EpochRecord;
use crate::session::MAX_SESSIONS;
use crate::term::{Committed, Ended, Rules, Term};

/// Pause between attempts on a store that does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Messages that wait for the leader: one of each session, whose newest report it takes then, and some of who comes and goes. So
/// no acknowledgement waits for a leader that plans.
const INBOX: usize = MAX_SESSIONS + 1_024;

/// Where the leader's knowledge and decisions go.
pub(crate) struct Outputs {
    pub(crate) live: watch::Sender<Live>,
    pub(crate) office: watch::Sender<Option<Office>>,
    pub(crate) commits: broadcast::Sender<Committed>,
}

/// Runs until cancelled.
pub(crate) async fn run(
    context: Context,
    rules: Rules,
    ttl: Duration,
    outputs: Outputs,
    cancel: CancellationToken,
) {
    let election = Election::new(context.store.clone(), key::leader(), Clock::boot());
    let address = context.settings.address.clone().into_bytes();
    let mut silent = false;
    while !cancel.is_cancelled() {
        let campaign = tokio::select! {
            () = cancel.cancelled() => return,
            campaign = election.campaign(address.clone(), ttl) => campaign.map_err(commit::Error::Store),
        };
        let led = match campaign {
            Ok(leadership) => lead(&context, rules, leadership, &outputs, &cancel).await,
            Err(error) => Err(error),
        };
        match led {
            Ok(Ended::Cancelled) => return,
            Ok(Ended::Lost) => {
                silent = false;
                tracing::warn!("office lost, standing by");
            }
            Err(error) => {
                context.counts.store_error(&error);
                if !silent {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "the store does not let this controller lead, trying again every second"
                    );
                }
                silent = true;
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }
}

async fn lead(
    context: &Context,
    rules: Rules,
    leadership: Leadership,
    outputs: &Outputs,
    cancel: &CancellationToken,
) -> Result<Ended, commit::Error> {
    let epoch = epoch(context, &leadership).await?;
    // The cache must know at least what the store held when the office was taken.
    if context.caught_up(leadership.create_revision()).await.is_err() {
        return Err(commit::Error::Timeout);
    }
    let (live, commits) = (outputs.live.clone(), outputs.commits.clone());
    let term = Term::begin(context.clone(), rules, leadership, epoch, live, commits).await?;
    let (inbox, messages) = mpsc::channel(INBOX);
    let fence = outputs.live.borrow().term.unwrap_or_default();
    tracing::info!(epoch = fence.epoch, leader = fence.leader, "leading");
    context.counts.term();
    outputs.office.send_replace(Some(Office { fence: term.fence_compare(), term: fence, inbox }));
    let (ended, slots) = tokio::select! {
        ended = term.run(messages, cancel) => ended,
        never = compact::run(context.store.clone()) => match never {},
    };
    outputs.office.send_replace(None);
    drop(slots);
    Ok(ended)
}

/// The store's epoch; the first leader of an installation makes it 1. Where an import has not ended, nobody leads.
async fn epoch(context: &Context, leadership: &Leadership) -> Result<u64, commit::Error> {
    let first = EpochRecord { epoch: 1 };
    let txn = Txn::new()
        .when(leadership.fence_compare())
        .when(Compare::Absent(key::import()))
        .when(Compare::Absent(key::epoch()))
        .then(put(key::epoch(), &first)?)
        .otherwise(store::Op::Get { key: key::import() })
        .otherwise(store::Op::Get { key: key::epoch() });
    let outcome = call(&context.store, txn).await?;
    if outcome.succeeded {
        return Ok(first.epoch);
    }
    let mut gets = outcome.gets.into_iter();
    match (gets.next().flatten(), gets.next().flatten()) {
        (Some(_), _) => Err(commit::Error::HalfImported),
        (None, Some(entry)) => Ok(store::record::decode_entry::<EpochRecord>(&entry)?.epoch),
        (None, None) => Err(commit::Error::NotLeader),
    }
}
