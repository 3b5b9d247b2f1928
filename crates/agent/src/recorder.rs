//! Writes what the control thread saw into the ledger, and hands the latest report to the session.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use model::Time;
use model::envelope::Directive;
use model::ledger::Segment;
use model::report::Report;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use crate::control_thread::{Snapshot, ToControl};
use crate::meterbook::{Book, INTERVAL};
use crate::outbox::Outbox;
use crate::proxy;

/// An onlooker of the ledger as it grows: a simulation's witness.
pub type OnSegment = Arc<dyn Fn(&Segment) + Send + Sync>;

/// Tells an onlooker of a sealed segment, before the controller can have acknowledged it away.
pub fn tell(onlooker: Option<&OnSegment>, outbox: &Outbox, sequence: u64) {
    let Some(onlooker) = onlooker else { return };
    match outbox.read(sequence) {
        Ok(segment) => onlooker(&segment),
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, sequence, "a sealed segment does not read back")
        }
    }
}

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
    /// Told when a segment was sealed.
    pub sealed: Arc<Notify>,
    /// Is told each segment when it is sealed.
    pub on_segment: Option<OnSegment>,
}

/// Runs until the control thread ends.
pub async fn run(mut recorder: Recorder, mut snapshots: mpsc::Receiver<Snapshot>) {
    let mut sealed_at: Option<Time> = None;
    while let Some(snapshot) = snapshots.recv().await {
        recorder.take(&snapshot);
        let since = *sealed_at.get_or_insert(snapshot.now);
        if snapshot.now.since(since) >= INTERVAL {
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
        }
        for line in self.book.observe(snapshot.now, &snapshot.slow) {
            if let Err(error) = self.outbox.line(line) {
                error!(error = &error as &dyn std::error::Error, "a ledger line could not be written");
            }
        }
        if let Some(proxy) = &self.proxy {
            // A full inbox means that the thread has not ticked yet: the next second brings a newer estimate.
            let proven =
                proxy.verified().into_iter().map(|(id, status)| (id, (status.verified, status.connections)));
            let _ = self.control.try_send(ToControl::Proven(proven.collect()));
        }
        self.reports.send_replace(Some(Arc::new(snapshot.report.clone())));
    }

    async fn seal(&self, now: Time) {
        let outbox = self.outbox.clone();
        // Sealing syncs files: milliseconds on a good disk, seconds on a bad one.
        match tokio::task::spawn_blocking(move || outbox.seal(now)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(sequence))) => {
                tell(self.on_segment.as_ref(), &self.outbox, sequence);
                self.sealed.notify_one();
            }
            Ok(Err(error)) => {
                error!(error = &error as &dyn std::error::Error, "the journal could not be sealed")
            }
            Err(_) => warn!("sealing was interrupted by the end of the process"),
        }
    }
}
