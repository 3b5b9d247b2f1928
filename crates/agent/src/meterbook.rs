//! Turns the second-by-second readings of a module into ledger lines: energy by use, GPU time by workload, gas by fate.
//!
//! Pure: readings in, lines out. The meter's register says how much; the readings between say what for. What they cannot
//! explain is `unattributed`, so that the lines of an interval always equal the meter exactly.
//!
//! [`Book::carried`] is the book's state, to be written down with the lines; [`Book::resume`] goes on from it. A time in which
//! nobody read the meters becomes a gap line, and beside it an energy line of the same interval where the register proves how
//! much was drawn. Read next: [`page`], [`attribute`], [`tabs`], [`hole`].

mod attribute;
mod hole;
mod page;
mod tabs;

use std::collections::BTreeMap;

use control::port::Slow;
use model::envelope::Assignment;
use model::ledger::{Energy, Gap, Line};
use model::module::Module;
use model::{MicroDollars, PoolId, Span, TenantId, Time, WorkloadId};
use serde::{Deserialize, Serialize};

use self::attribute::attribute;
use self::hole::Why;
use self::page::Page;
use self::tabs::Tabs;

/// Length of one line's interval, unless another is asked for.
pub const INTERVAL: Span = Span::secs(30);
/// Longest time between two readings that is bridged: half of this the readings on both sides speak for. A longer one is a hole.
const MAX_HOLE: Span = Span::secs(10);

/// The book of one module.
pub struct Book {
    module: Module,
    interval: Span,
    /// The boot of the machine, or which simulation.
    boot_id: String,
    /// Whose the runs are. Kept after an assignment ended, since its last seconds are still to be written.
    owners: BTreeMap<WorkloadId, Owner>,
    last: Option<(Time, Slow)>,
    page: Option<Page>,
    tabs: Tabs,
    /// Why the page ends before the first reading, where a process before this one began it.
    resumed: Why,
    /// Built in on purpose: half of what tenants drew is forgotten, so that a checker is seen to fire.
    forgetful: bool,
}

/// Whose a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    tenant: TenantId,
    price: MicroDollars,
    pool: PoolId,
    gpus: u32,
    #[serde(default)]
    by_progress: bool,
}

/// The state of a book after a reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    boot_id: String,
    page: Page,
    tabs: Tabs,
    owners: BTreeMap<WorkloadId, Owner>,
}

impl Book {
    /// An empty book.
    pub fn new(module: Module, boot_id: &str) -> Self {
        Self {
            module,
            interval: INTERVAL,
            boot_id: boot_id.to_owned(),
            owners: BTreeMap::new(),
            last: None,
            page: None,
            tabs: Tabs::default(),
            resumed: Why::Restart,
            forgetful: false,
        }
    }

    /// The same book, going on from where a process before this one left it. A meter counts on through a boot of the machine; a
    /// `simulated` one begins anew with its simulation.
    pub fn resume(self, carried: Option<Carried>, simulated: bool) -> Self {
        let Some(Carried { boot_id, page, tabs, owners }) = carried else { return self };
        let resumed = if simulated && boot_id != self.boot_id { Why::OtherWorld } else { Why::Restart };
        Self { page: Some(page), tabs, owners, resumed, ..self }
    }

    /// The same book with a defect on request: see `misattribute` of the agent's options.
    pub fn forgetful(self, forgetful: bool) -> Self {
        Self { forgetful, ..self }
    }

    /// From now on an interval is so long. One that has begun ends as one of the new length does.
    pub fn set_interval(&mut self, interval: Span) {
        self.interval = interval.max(Span::secs(1));
    }

    /// The state to write down together with the lines of the last reading; `None` before the first.
    pub fn carried(&self) -> Option<Carried> {
        let page = self.page.clone().filter(|_| self.last.is_some())?;
        let (boot_id, tabs, owners) = (self.boot_id.clone(), self.tabs.clone(), self.owners.clone());
        Some(Carried { boot_id, page, tabs, owners })
    }

    /// Notes whose the runs are, from a directive's assignments.
    pub fn assign(&mut self, runs: &BTreeMap<WorkloadId, Assignment>) {
        for (workload, run) in runs {
            let gpus = run.placement.servers.iter().map(|(_, gpus)| gpus).sum();
            let owner = Owner {
                tenant: run.tenant.clone(),
                price: run.price,
                pool: run.placement.pool.clone(),
                gpus,
                by_progress: run.by_progress,
            };
            self.owners.insert(workload.clone(), owner);
        }
    }

    /// Takes the readings of `now`; answers the lines of the interval that ended with them, if one did.
    pub fn observe(&mut self, now: Time, slow: &Slow) -> Vec<Line> {
        let previous = self.last.replace((now, slow.clone()));
        let Some(mut page) = self.page.take() else { return self.begin(now, slow) };
        let Some((then, before)) = previous else { return self.bridge(page, now, slow, self.resumed) };
        if now - then > MAX_HOLE {
            return self.bridge(page, now, slow, Why::NoReadings);
        }
        if now > then {
            page.add_uses(attribute(&self.module, &self.owners, &before, slow, now - then));
            page.add_runs(self.tabs.advance(now, &slow.runs, &self.owners));
            page.reach(now, slow, &before, now - then);
        }
        if now.floor_to(self.interval) <= page.from {
            self.page = Some(page);
            return Vec::new();
        }
        self.page = Some(Page::begin(now, slow));
        let lines = self.close(page);
        self.forget(now);
        lines
    }

    /// The first reading of all.
    fn begin(&mut self, now: Time, slow: &Slow) -> Vec<Line> {
        self.tabs = Tabs::begin(now, &slow.runs);
        self.page = Some(Page::begin(now, slow));
        let why = "the agent was started without a record of an earlier reading".into();
        vec![Line::Gap(Gap { from: None, to: now, why })]
    }

    /// Ends a page where its readings ended, says what is known of the time since, and begins a new page.
    fn bridge(&mut self, page: Page, now: Time, slow: &Slow, why: Why) -> Vec<Line> {
        let (then, register) = (page.to, page.end);
        let mut lines = self.close(page);
        let mut next = Page::begin(now, slow);
        let counted = match why {
            Why::OtherWorld => Err("its meters are others"),
            _ => hole::counted(&self.module, (then, register), (now, slow.register)),
        };
        let known = match counted {
            Ok(_) => "the register proves how much was drawn, not what for",
            Err(unknown) => unknown,
        };
        let from = (then < now).then_some(then);
        lines.push(Line::Gap(Gap { from, to: now, why: format!("{}: {known}", why.text()) }));
        if why == Why::OtherWorld {
            self.tabs = Tabs::begin(now, &slow.runs);
        }
        let held = self.tabs.advance(now, &slow.runs, &self.owners);
        if let Ok(meter) = counted {
            let uses = hole::uses(&self.module, &self.owners, &held, meter, now - then);
            lines.push(Line::Energy(Energy::attribute(then, now, meter, uses)));
        }
        match from {
            Some(then) => lines.extend(page::run_lines(held, &self.owners, then, now)),
            None => next.add_runs(held),
        }
        self.page = Some(next);
        self.forget(now);
        lines
    }

    fn close(&self, mut page: Page) -> Vec<Line> {
        if self.forgetful {
            page.forget_half_of_the_tenants();
        }
        page.close(&self.module.site, &self.owners)
    }

    /// Runs that nobody has shown for long have no more seconds to write.
    fn forget(&mut self, now: Time) {
        self.tabs.forget(now);
        let tabs = &self.tabs;
        self.owners.retain(|workload, _| tabs.knows(workload));
    }
}

#[cfg(test)]
pub(crate) mod tests;
