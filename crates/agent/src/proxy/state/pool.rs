//! The pool's half of the state: a session opens, brings slices and jobs, answers shares, and closes.
//!
//! Assumes that the caller owns the socket and acts on the events that are handed back. Next: `../upstream.rs`, the caller.

use std::sync::Arc;

use model::ledger::ShareEnd;
use stratum::account::End;
use stratum::job::{Assignment, Slice, Source};
use stratum::slices::{self, Slices};
use stratum::upstream::{self, Event, Outcome, ShareRef, Upstream};
use tokio::sync::mpsc;

use super::{Ground, Live, State};

impl State {
    /// A connection to the pool is there; answers the lines that open the conversation.
    pub(in crate::proxy) fn open(
        &mut self,
        config: upstream::Config,
        lines: mpsc::Sender<String>,
        mono_ms: u64,
    ) -> Vec<String> {
        self.counters.pool_sessions += 1;
        let (upstream, opening) = Upstream::new(config, self.counters.pool_sessions, mono_ms);
        self.live = Some(Live { upstream, lines, fresh: None });
        opening
    }

    /// The connection is gone: what was on the wire ends as unknown. Miners keep the ground they stand on.
    pub(in crate::proxy) fn close(&mut self) {
        let Some(live) = self.live.take() else { return };
        for share in live.upstream.disconnect() {
            self.finish(share, End::Unknown, &ShareEnd::Unknown);
        }
    }

    /// A line of the pool. Answers what the caller must see to: lines to send, news to tell, a connection to give up.
    pub(in crate::proxy) fn on_pool_line(&mut self, line: &[u8]) -> Vec<Event> {
        let Some(live) = &mut self.live else { return Vec::new() };
        let events = live.upstream.on_line(line);
        self.take(events)
    }

    pub(in crate::proxy) fn tick(&mut self, mono_ms: u64) -> Vec<Event> {
        let Some(live) = &mut self.live else { return Vec::new() };
        let events = live.upstream.tick(mono_ms);
        self.take(events)
    }

    /// Acts on what concerns the books, and hands back all the rest with the jobs.
    fn take(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut rest = Vec::new();
        for event in events {
            match event {
                Event::Outcome { share, outcome } => self.on_outcome(share, outcome),
                Event::Ready { slice, mask } => {
                    self.mask = mask;
                    self.renew(slice);
                }
                Event::Extranonce(slice) => self.renew(slice),
                Event::Mask(mask) => {
                    self.mask = mask;
                    rest.push(event);
                }
                Event::Job(assignment) => match self.on_job(&assignment) {
                    Ok(()) => rest.push(Event::Job(assignment)),
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "pool's job cannot be shared out"
                    ),
                },
                event => rest.push(event),
            }
        }
        rest
    }

    fn renew(&mut self, slice: Slice) {
        if let Some(live) = &mut self.live {
            live.fresh = Some(slice);
        }
    }

    fn on_job(&mut self, assignment: &Arc<Assignment>) -> Result<(), slices::Error> {
        if let Source::Upstream { difficulty, .. } = assignment.source {
            self.counters.pool_difficulty = Some(difficulty.value());
        }
        let fresh = self.live.as_mut().and_then(|live| live.fresh.take());
        match (&mut self.ground, fresh) {
            (_, Some(slice)) => {
                let slices = Slices::new(slice, self.slice_counter, self.max_connections as u64)?;
                self.epoch += 1;
                self.ground = Some(Ground { epoch: self.epoch, slices, assignment: Arc::clone(assignment) });
            }
            (Some(ground), None) => {
                if ground.assignment.job.previous != assignment.job.previous {
                    ground.slices.on_new_previous();
                }
                ground.assignment = Arc::clone(assignment);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn on_outcome(&mut self, share: ShareRef, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.finish(share, End::ForwardedAccepted, &ShareEnd::Accepted),
            Outcome::Rejected { reject, text } => {
                self.finish(share, End::ForwardedRejected(reject), &ShareEnd::Refused(text));
            }
            Outcome::Unknown => self.finish(share, End::Unknown, &ShareEnd::Unknown),
        }
    }
}
