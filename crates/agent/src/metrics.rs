//! What an agent tells whoever watches it: the page of metrics, and whether it is ready.
//!
//! A process may run several modules' agents, or the proxy alone: each is a [`Part`], by the name of its module. Most is read from
//! reports and the proxy's books when somebody asks; the rest is counted in [`Tallies`]. Series go by module, use, pool and code,
//! never by worker or workload. Names: docs/observability.md. Next: `metrics/lines.rs`.

mod lines;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::reflex::Cause;
use model::envelope::Directive;
use model::report::{Report, STALE_AFTER};
use model::time::Clock;
use model::{ModuleId, Time};
use service::count::Counters;
use service::monitor::Monitored;
use service::page::Page;
use tokio::sync::watch;

use crate::proxy;
use crate::run::Started;

/// A message's direction and kind.
pub(crate) type Sort = (&'static str, &'static str);

/// What an agent counts while it runs.
#[derive(Debug)]
pub struct Tallies {
    /// Loads that the reflex dropped, by cause.
    pub(crate) sheds: Counters<&'static str>,
    /// Sessions with a controller that ended, by cause.
    pub(crate) ended: Counters<&'static str>,
    /// Messages of sessions, by direction and kind.
    pub(crate) messages: Counters<Sort>,
    /// Their bytes, encoded.
    pub(crate) bytes: Counters<Sort>,
    linked: AtomicBool,
    backlog: AtomicUsize,
}

/// One agent, or the proxy alone.
#[derive(Clone, Debug)]
pub struct Part {
    /// The latest report; `None` where the proxy runs alone.
    pub reports: Option<watch::Receiver<Option<Arc<Report>>>>,
    /// The directive that was persisted last.
    pub directive: Option<watch::Receiver<Option<Arc<Directive>>>>,
    /// The proxy, where there is one.
    pub proxy: Option<proxy::Handle>,
    /// What was counted.
    pub tallies: Arc<Tallies>,
}

/// All agents of a process as they are watched. Cheap to clone.
#[derive(Clone)]
pub struct Watched {
    clock: Arc<dyn Clock>,
    parts: Arc<Mutex<BTreeMap<ModuleId, Option<Part>>>>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            sheds: Counters::new(lines::CAUSES),
            ended: Counters::new(["broken", "failed", "redirected", "refused", "silent", "unplugged"]),
            messages: Counters::new(lines::SORTS),
            bytes: Counters::new(lines::SORTS),
            linked: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
        }
    }
}

impl Tallies {
    /// The session with the controller is up, or is not.
    pub(crate) fn link(&self, up: bool) {
        self.linked.store(up, Ordering::Relaxed);
    }

    /// A message of a session, by its encoded size.
    pub(crate) fn message(&self, sort: Sort, bytes: usize) {
        self.messages.add(sort);
        self.bytes.add_many(sort, bytes as u64);
    }

    /// So many sealed segments wait for the controller.
    pub(crate) fn backlog(&self, segments: usize) {
        self.backlog.store(segments, Ordering::Relaxed);
    }

    /// The reflex dropped a load.
    pub(crate) fn shed(&self, cause: &Cause) {
        self.sheds.add(lines::cause(cause));
    }
}

impl From<Started> for Part {
    fn from(started: Started) -> Self {
        let Started { proxy, directive, reports, tallies } = started;
        Self { reports: Some(reports), directive: Some(directive), proxy, tallies }
    }
}

impl Watched {
    /// Nobody runs yet; `expected` are to come.
    pub fn new(clock: Arc<dyn Clock>, expected: impl IntoIterator<Item = ModuleId>) -> Self {
        let parts = expected.into_iter().map(|module| (module, None)).collect();
        Self { clock, parts: Arc::new(Mutex::new(parts)) }
    }

    /// An agent runs.
    pub fn add(&self, module: ModuleId, part: Part) {
        self.parts().insert(module, Some(part));
    }

    /// An agent ended; its directory is free.
    pub fn remove(&self, module: &ModuleId) {
        self.parts().insert(module.clone(), None);
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<ModuleId, Option<Part>>> {
        // What a panic left is whole: one insertion at a time.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitored for Watched {
    fn write(&self, page: &mut Page) {
        let now = self.clock.now();
        // The map is let go before any books are read: whoever starts waits for no page.
        let parts = self.parts().clone();
        for (module, part) in parts {
            if let Some(part) = part {
                lines::write(page, &module, &part, now);
            }
        }
    }

    async fn ready(&self) -> Result<(), String> {
        let now = self.clock.now();
        let parts = self.parts().clone();
        parts.iter().try_for_each(|(module, part)| judge(module, part.as_ref(), now))
    }
}

/// An agent is ready once it has read its devices and goes on reading them; a proxy alone, once one of its pools is there.
fn judge(module: &ModuleId, part: Option<&Part>, now: Time) -> Result<(), String> {
    let Some(part) = part else { return Err(format!("{module} has not started")) };
    let Some(reports) = &part.reports else {
        let up = part.proxy.as_ref().is_some_and(|proxy| proxy.stats().pool_up);
        return if up { Ok(()) } else { Err("no pool is there".into()) };
    };
    let read = reports.borrow().as_ref().map(|report| now.since(report.at));
    match read {
        None => Err(format!("{module} has read nothing of its devices yet")),
        Some(age) if age > STALE_AFTER => {
            Err(format!("{module} has read nothing of its devices for {} s", age.as_secs_f64().round()))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api::clock::WallClock;
    use control::reflex::Cause;
    use model::Span;

    use super::*;

    /// A part whose agent reported at `at`.
    pub(super) fn part(report: Option<Report>) -> (Part, watch::Sender<Option<Arc<Report>>>) {
        let (sender, reports) = watch::channel(report.map(Arc::new));
        let part = Part { reports: Some(reports), directive: None, proxy: None, tallies: Arc::default() };
        (part, sender)
    }

    #[test]
    fn an_agent_is_ready_while_it_reads_its_devices() {
        let module = ModuleId::new("m").unwrap();
        let check = |read: Option<i64>, now: i64, expected: Result<(), &str>| {
            let (part, _sender) = part(read.map(|at| lines::tests::report(Time(at))));
            let judged = judge(&module, Some(&part), Time(now));
            assert_eq!(judged, expected.map_err(str::to_owned), "{read:?} {now}");
        };
        check(None, 0, Err("m has read nothing of its devices yet"));
        check(Some(1_000), 1_500, Ok(()));
        check(Some(1_000), 1_000 + STALE_AFTER.get(), Ok(()));
        check(Some(1_000), 31_000, Err("m has read nothing of its devices for 30 s"));
        assert_eq!(judge(&module, None, Time(0)), Err("m has not started".into()));
    }

    #[test]
    fn a_proxy_without_a_pool_is_not_ready() {
        let alone = Part { reports: None, directive: None, proxy: None, tallies: Arc::default() };
        let module = ModuleId::new("proxy").unwrap();
        assert_eq!(judge(&module, Some(&alone), Time(0)), Err("no pool is there".into()));
    }

    #[tokio::test]
    async fn a_process_is_ready_when_all_of_its_agents_are() {
        let clock = WallClock;
        let ids = ["m1", "m2"].map(|id| ModuleId::new(id).unwrap());
        let watched = Watched::new(Arc::new(clock), ids.clone());
        let [(first, _one), (second, _two)] =
            [0, 0].map(|_| part(Some(lines::tests::report(clock.now() - Span::secs(1)))));
        watched.add(ids[0].clone(), first);
        assert_eq!(watched.ready().await, Err("m2 has not started".into()));
        watched.add(ids[1].clone(), second);
        assert_eq!(watched.ready().await, Ok(()));
    }

    #[test]
    fn every_cause_of_a_reflex_is_counted_from_zero() {
        let tallies = Tallies::default();
        tallies.shed(&Cause::Frequency);
        tallies.shed(&Cause::Frequency);
        assert_eq!(tallies.sheds.get("frequency"), 2);
        assert_eq!(tallies.sheds.counts().len(), lines::CAUSES.len(), "no cause came that was not known");
    }
}
