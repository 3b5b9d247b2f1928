//! Notes in the histories of modules and workloads what this term sees and does.
//!
//! Thin: what an event is, `events/changes.rs` says; when it is stored, `events.rs`. Read next: those.

use std::collections::BTreeSet;

use model::event::{Event, What, Who};
use model::plan::{ReasonCode, Subject};
use model::report::Report;
use model::workload::{Status, Workload};
use model::{ModuleId, SiteId, Time};
use planner::Link;

use super::Term;
use crate::events::changes;
use crate::live::Live;

/// What a report brings that its module's last one did not.
pub(super) struct News {
    /// Some term has heard from the module before.
    known: bool,
    /// What is new, for each object.
    events: Vec<(Subject, Event)>,
}

impl Term {
    /// Compares a report with the last one of its module, before it takes that one's place.
    pub(super) fn news(&self, site: &SiteId, report: &Report, now: Time) -> News {
        let live = self.live.borrow();
        let seen = live.tracker.seen(&report.module);
        let before = seen.and_then(|seen| seen.last.as_ref());
        News {
            known: seen.is_some_and(|seen| seen.known),
            events: before.map_or(Vec::new(), |(before, _)| changes::reported(site, before, report, now)),
        }
    }

    /// Notes what a report brought that was taken in.
    pub(super) fn note_heard(
        &self,
        module: &ModuleId,
        news: News,
        (returned, rebooted): (bool, bool),
        now: Time,
    ) {
        let events = &self.context.events;
        for event in changes::heard(module, news.known, returned, rebooted, now) {
            events.module(module, event);
        }
        news.events.into_iter().for_each(|(subject, event)| events.note(subject, event));
    }

    /// A module's link is lost.
    pub(super) fn note_lost(&self, module: &ModuleId, now: Time) {
        let event = Event::new(now, What::Lost, Who::Controller);
        self.context.events.module(module, event.because(ReasonCode::LinkLost));
    }

    /// A module does not do what it was told, and is told again: noted at the first time of each directive. One that says nothing
    /// does not stray, it is out of touch.
    pub(super) fn note_drift(&self, live: &Live, module: &ModuleId, now: Time) {
        let speaks = live.tracker.link(module, now) == Link::Online;
        if let Some(code) = live.drifts.is_new(module, now).filter(|_| speaks) {
            let event = Event::new(now, What::Drift, Who::Agent(module.clone()));
            self.context.events.module(module, event.saying(code));
        }
    }

    /// Workloads' phases changed, each from the status beside it. Where nothing runs any more on a module that is drained, that is
    /// told of the module.
    pub(super) fn note_phases(&self, changed: &[(Workload, Status)], now: Time) {
        let cache = self.context.cache.borrow();
        let live = self.live.borrow();
        let events = &self.context.events;
        let plan = live.in_force.as_ref().map_or(0, |in_force| in_force.plan.generation);
        for (workload, before) in changed {
            if let Some(event) = changes::phase(workload, before, &workload.status, plan, now) {
                events.note(Subject::Workload(workload.id.clone()), event);
            }
        }
        let left = changed.iter().filter_map(|(workload, before)| left(before, &workload.status));
        let drained = left.filter(|module| {
            let asked = cache.modules.get(*module).is_some_and(|stored| stored.value.draining);
            asked && !live.holds_runs(module)
        });
        for module in drained.collect::<BTreeSet<&ModuleId>>() {
            let event = Event::new(now, What::Drained, Who::Planner(plan));
            events.module(module, event.because(ReasonCode::Draining));
        }
    }
}

/// The module that a workload has left.
fn left<'a>(before: &'a Status, after: &Status) -> Option<&'a ModuleId> {
    let placement = before.placement.as_ref().filter(|_| before.phase.holds() && !after.phase.holds());
    placement.map(|placement| &placement.module)
}
