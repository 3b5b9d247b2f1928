//! Writes what the control thread saw into the ledger, and hands the latest report to the session.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use model::envelope::Directive;
use model::ledger::{Gap, Line};
use model::report::Report;
use model::{Span, Time};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use crate::control_thread::{Snapshot, ToControl};
use crate::meterbook::Book;
use crate::metrics::Tallies;
use crate::outbox::{Error, Outbox};
use crate::proxy;

/// The book's state is written down with each of its lines, and besides so often: a kill takes at most so much of the detail of
/// what energy was used for. It is some kilobytes.
const CARRY_EVERY: Span = Span::secs(5);
/// Most lines that wait for a disk that fails, before they become a gap: a page is a line for each run, energy and gas; with 100
/// runs these are ten pages, five minutes.
const MAX_OWED: usize = 1_024;

/// What the recorder needs.
pub struct Recorder {
    /// The energy and GPU time of the module.
    pub book: Book,
    /// Where lines go.
    pub outbox: Outbox,
    /// What proves hash rate; `None` without miners.
    pub proxy: Option<proxy::Handle>,
    /// To the control thread.
    pub control: SyncSender<ToControl>,
    /// The directive in force, for the runs' owners.
    pub directive: watch::Receiver<Option<Arc<Directive>>>,
    /// The latest report, for the session.
    pub reports: watch::Sender<Option<Arc<Report>>>,
    /// How long an interval of the ledger is, and how often a segment is sealed.
    pub spacing: watch::Receiver<Span>,
    /// Told when a segment was sealed.
    pub sealed: Arc<Notify>,
    /// What is counted for whoever watches.
    pub tallies: Arc<Tallies>,
    /// Lines that the disk has refused so far, and when the book's state was written last.
    pub owed: Owed,
}

/// See [`Recorder::owed`].
#[derive(Debug, Default)]
pub struct Owed {
    lines: Vec<Line>,
    carried: Option<Time>,
}

/// Runs until the control thread ends.
pub async fn run(mut recorder: Recorder, mut snapshots: mpsc::Receiver<Snapshot>) {
    let mut sealed_at: Option<Time> = None;
    while let Some(snapshot) = snapshots.recv().await {
        recorder.take(&snapshot);
        let since = *sealed_at.get_or_insert(snapshot.now);
        if snapshot.now.since(since) >= *recorder.spacing.borrow() {
            sealed_at = Some(snapshot.now);
            recorder.seal(snapshot.now).await;
        }
    }
}

impl Recorder {
    fn take(&mut self, snapshot: &Snapshot) {
        if let Some(directive) = self.directive.borrow_and_update().as_deref() {
            self.book.assign(&directive.runs);
        }
        for shed in &snapshot.sheds {
            info!(?shed, "load was shed");
            self.tallies.shed(&shed.cause);
        }
        self.book.set_interval(*self.spacing.borrow());
        let lines = self.book.observe(snapshot.now, &snapshot.slow);
        if let Some(Err(error)) = self.owed.write(snapshot.now, lines, &self.book, &self.outbox) {
            error!(error = &error as &dyn std::error::Error, "ledger lines could not be written; they wait");
        }
        if let Some(proxy) = &self.proxy {
            // A full inbox means that the thread has not ticked yet: the next second brings a newer estimate.
            let proven =
                proxy.verified().into_iter().map(|(id, status)| (id, (status.verified, status.connections)));
            let _ = self.control.try_send(ToControl::Proven(proven.collect()));
            let _ = self.control.try_send(ToControl::Unpaid(proxy.is_unpaid()));
        }
        self.reports.send_replace(Some(Arc::new(snapshot.report.clone())));
    }

    async fn seal(&self, now: Time) {
        let outbox = self.outbox.clone();
        // Sealing syncs files: milliseconds on a good disk, seconds on a bad one.
        match tokio::task::spawn_blocking(move || outbox.seal(now)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(_))) => self.sealed.notify_one(),
            Ok(Err(error)) => {
                error!(
                    error = &error as &dyn std::error::Error,
                    "a journal could not be sealed; it will be tried again"
                );
                // Some may have been, before it failed.
                self.sealed.notify_one();
            }
            Err(_) => warn!("sealing was interrupted by the end of the process"),
        }
    }
}

impl Owed {
    /// Writes lines, those that still wait before them, and the book's state: in one record, so that none is written twice. `None`
    /// when there is nothing to write now.
    fn write(
        &mut self,
        now: Time,
        lines: Vec<Line>,
        book: &Book,
        outbox: &Outbox,
    ) -> Option<Result<(), Error>> {
        let is_fresh = self.carried.is_some_and(|at| now >= at && now - at < CARRY_EVERY);
        if lines.is_empty() && is_fresh {
            return None;
        }
        self.lines.extend(lines);
        let carried = book.carried()?;
        let written = outbox.turn(self.lines.clone(), carried);
        // While the disk fails it is asked again as often, not with every reading.
        self.carried = Some(now);
        match written {
            Ok(()) => self.lines.clear(),
            Err(_) if self.lines.len() > MAX_OWED => self.give_up(now),
            Err(_) => {}
        }
        Some(written)
    }

    /// Replaces what waits by a gap.
    fn give_up(&mut self, now: Time) {
        let from = self.lines.iter().find_map(|line| match line {
            Line::Energy(energy) => Some(energy.from),
            Line::Run(run) => Some(run.from),
            Line::Gas(gas) => Some(gas.from),
            Line::Import(import) => Some(import.from),
            Line::Gap(gap) => gap.from,
            Line::Shares(_) => None,
        });
        let why = format!("the disk took no lines; {} of them were given up", self.lines.len());
        self.lines = vec![Line::Gap(Gap { from, to: now, why })];
    }
}

#[cfg(test)]
mod tests;
