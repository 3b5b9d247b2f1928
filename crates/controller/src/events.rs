//! The history of each site, module and workload: whoever acts notes an event here, one task writes them to the store in batches.
//!
//! Noting never waits and never fails: what is noted lies in memory for a second, is joined with what the store holds, and goes out
//! under the leader's fence, a hundred objects a transaction and four transactions a second at most, so that ten thousand modules
//! that are lost at once cost a hundred transactions in half a minute. Repeats are counted while they wait. What a leader noted in
//! the second before it was killed is lost; one that hands its office over writes it first.
//!
//! Assumes that only the leader writes histories: a write that is refused though its answer to the first try never came had taken
//! place. Read next: `events/changes.rs` (what reports and phases mean), `model::event` (the bounds).

pub mod changes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::event::{Event, History};
use model::plan::Subject;
use model::{Id, ModuleId};
use store::{Compare, Key, Op, Revision, Txn, key};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::commit::{Error, call, put};
use crate::context::Context;
use crate::records::HistoryRecord;

/// Events wait so long for others to be written with them.
const GATHER: Duration = Duration::from_secs(1);
/// Objects in one transaction: each costs a compare and a put of the store's 128; full histories are 100 × 4 KiB and some, a
/// third of its 1.5 MiB.
const BATCH: usize = 100;
/// Transactions in one go: four a second at most, below the five that all of us together may take while nothing happens.
const MOST_BATCHES: usize = 4;
/// Objects whose events wait: all of 10,000 modules and as many workloads. Full they would be 80 MiB; after an outage of everything
/// they hold two events each, 6 MiB.
const MOST_WAITING: usize = 20_000;
/// A leader that hands its office over waits this long for its last events: a tenth of what a hand-over may take.
const LAST: Duration = Duration::from_millis(100);

/// Where events are noted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    /// Held by whoever writes, with what was sent and is not known to have arrived.
    writing: tokio::sync::Mutex<Option<Txn>>,
    some: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    /// Not sent yet.
    noted: BTreeMap<Subject, History>,
    /// Sent, each with the revision of the history that it was joined with.
    sent: BTreeMap<Subject, (Option<Revision>, History)>,
}

impl Recorder {
    /// Notes an event.
    pub fn note(&self, subject: Subject, event: Event) {
        {
            let mut waiting = self.waiting();
            let full = waiting.noted.len() >= MOST_WAITING;
            match waiting.noted.get_mut(&subject) {
                Some(history) => history.push(event),
                None if full => return self.lose(1),
                None => waiting.noted.entry(subject).or_default().push(event),
            }
        }
        self.0.some.notify_one();
    }

    /// Notes what befell a module.
    pub fn module(&self, module: &ModuleId, event: Event) {
        self.note(Subject::Module(module.clone()), event);
    }

    /// Events that were noted and never written.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// The history of an object: what is stored, and what is about to be.
    pub fn history(&self, cache: &Cache, subject: &Subject) -> History {
        let stored = cache.histories.get(subject);
        let mut history = stored.map(|stored| (*stored.value).clone()).unwrap_or_default();
        let waiting = self.waiting();
        let sent = waiting.sent.get(subject).filter(|(on, _)| *on == stored.map(|stored| stored.revision));
        sent.into_iter().for_each(|(_, sent)| history.extend(sent));
        waiting.noted.get(subject).into_iter().for_each(|noted| history.extend(noted));
        history
    }

    /// Takes up to a batch of what waits and makes one transaction of it; `None` when nothing waits. Histories of objects that are
    /// gone go too.
    fn next(&self, cache: &Cache) -> Result<Option<Txn>, Error> {
        let mut waiting = self.waiting();
        let mut txn = Txn::new();
        while txn.then.len() < BATCH
            && let Some((subject, noted)) = waiting.noted.pop_first()
        {
            // What is gone has no history.
            if !cache.holds(&subject) {
                continue;
            }
            let stored = cache.histories.get(&subject);
            let mut history = stored.map(|stored| (*stored.value).clone()).unwrap_or_default();
            history.extend(&noted);
            let at = key(&subject);
            let on = stored.map(|stored| stored.revision);
            let compare = match on {
                Some(is) => Compare::ModRevision { key: at.clone(), is },
                None => Compare::Absent(at.clone()),
            };
            txn = txn.when(compare).then(put(at, &HistoryRecord(history))?);
            waiting.sent.insert(subject, (on, noted));
        }
        let gone = cache.histories.keys().filter(|subject| !cache.holds(subject));
        let room = BATCH.saturating_sub(txn.then.len());
        txn.then.extend(gone.take(room).map(|subject| Op::Delete { key: key(subject) }));
        Ok((!txn.then.is_empty()).then_some(txn))
    }

    /// What was sent is not to be sent again: it is stored, or can never be.
    fn settled(&self, stored: bool) {
        let sent = std::mem::take(&mut self.waiting().sent);
        if !stored {
            self.lose(sent.values().map(|(_, history)| events(history)).sum());
        }
    }

    /// The office is lost: what waits is nobody's to write.
    fn give_up(&self) {
        let noted = std::mem::take(&mut self.waiting().noted);
        self.lose(noted.values().map(events).sum());
        self.settled(false);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, events: u64) {
        self.0.dropped.fetch_add(events, Ordering::Relaxed);
    }
}

/// Where an object's history stands.
pub(crate) fn key(subject: &Subject) -> Key {
    match subject {
        Subject::Site(id) => key::event("site", id),
        Subject::Module(id) => key::event("module", id),
        Subject::Workload(id) => key::event("workload", id),
    }
}

/// Whose history stands under the rest of a key.
pub(crate) fn subject(rest: &str) -> Result<Subject, String> {
    fn id<K: model::id::Kind>(text: &str) -> Result<Id<K>, String> {
        Id::new(text).map_err(|error| error.to_string())
    }
    match rest.split_once('/') {
        Some(("site", text)) => id(text).map(Subject::Site),
        Some(("module", text)) => id(text).map(Subject::Module),
        Some(("workload", text)) => id(text).map(Subject::Workload),
        _ => Err(format!("{rest:?} is no object that has a history")),
    }
}

/// Writes what is noted, until cancelled.
pub(crate) async fn run(context: Context, cancel: CancellationToken) {
    let mut office = context.office.clone();
    let events = context.events.clone();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = office.changed() => if changed.is_err() { return },
            () = events.0.some.notified() => {}
        }
        if office.borrow().is_none() {
            *events.0.writing.lock().await = None;
            events.give_up();
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(GATHER) => {}
        }
        if let Err(error) = flush(&context).await {
            context.counts.store_error(&error);
            tracing::warn!(error = &error as &dyn std::error::Error, "events were not written yet");
            // Tried again after the next pause, without waiting for another event.
            events.0.some.notify_one();
        }
    }
}

/// Writes what waits before the office is handed over, if that takes no time.
pub(crate) async fn hand_over(context: &Context) {
    match tokio::time::timeout(LAST, flush(context)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the last events were not written");
        }
        Err(_) => tracing::warn!("the last events were not written in time"),
    }
}

/// Writes what waits, up to some transactions.
async fn flush(context: &Context) -> Result<(), Error> {
    let events = &context.events;
    let mut writing = events.0.writing.lock().await;
    for _ in 0..MOST_BATCHES {
        let Ok(office) = context.office() else { return Ok(()) };
        let again = writing.is_some();
        let txn = match writing.take() {
            Some(txn) => Some(txn),
            None => events.next(&context.cache.borrow())?,
        };
        let Some(txn) = txn else { return Ok(()) };
        *writing = Some(txn.clone());
        let outcome = match call(&context.store, txn.when(office.fence)).await {
            Err(error) if may_have_happened(&error) => return Err(error),
            outcome => outcome,
        };
        *writing = None;
        if let Ok(outcome) = &outcome {
            // The next events join what is stored. A cache that does not catch up has lost its watch, and shows a snapshot next.
            let _ = context.caught_up(outcome.revision).await;
        }
        // Refused at the second try: the first had taken place, or somebody else leads and this task is told of it.
        events.settled(outcome.as_ref().is_ok_and(|outcome| outcome.succeeded || again));
        outcome?;
    }
    // There may be more than goes out at once.
    events.0.some.notify_one();
    Ok(())
}

/// Whether a write that failed may have taken place, or may do so when it is tried again.
fn may_have_happened(error: &Error) -> bool {
    use store::Error as Store;
    matches!(error, Error::Timeout | Error::Store(Store::Unavailable { .. } | Store::UnknownOutcome { .. }))
}

/// Events in a history, repeats and all.
fn events(history: &History) -> u64 {
    history.events.iter().map(|event| u64::from(event.times)).sum()
}

#[cfg(test)]
mod tests;
