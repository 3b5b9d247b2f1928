//! What the simulated servers know of one workload beside its status: how long its restart takes yet, what it was paid, how long it
//! should have been up.
//!
//! Progress is saved at each agreed checkpoint, in the background. A stop by plan saves everything first; a loss of power saves
//! nothing. Used by [`crate::engine`].

use model::plan::STEP;
use model::workload::{GpuTime, Phase, Tier, Workload};
use model::{MicroDollars, Span, Time};

use crate::tally::Tally;
use crate::world::Order;

/// One workload.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    /// Of the restart that is under way.
    restart_left: Span,
    /// Progress when this run of it began.
    base: GpuTime,
    /// Its order has a price of its own.
    contracted: bool,
    /// It has run before.
    pub(crate) ran: bool,
    /// Since when it waits.
    pub(crate) waits_since: Time,
    pub(crate) paid: MicroDollars,
    pub(crate) up: Span,
    pub(crate) missed: Span,
}

impl Track {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            restart_left: Span::ZERO,
            base: GpuTime::ZERO,
            contracted: false,
            ran: false,
            waits_since: now,
            paid: MicroDollars::ZERO,
            up: Span::ZERO,
            missed: Span::ZERO,
        }
    }

    /// Of an order.
    pub(crate) fn of(order: &Order, now: Time) -> Self {
        Self { contracted: order.price.is_some(), ..Self::new(now) }
    }

    /// A run begins.
    pub(crate) fn start(&mut self, workload: &Workload) {
        self.restart_left = workload.spec.restart;
        self.base = workload.status.progress;
    }

    /// One step of a run. Answers for how long its GPUs were busy.
    pub(crate) fn advance(&mut self, workload: &mut Workload, tally: &mut Tally) -> Span {
        let gpus = i64::from(workload.spec.gpus.max(1));
        let restart = self.restart_left.min(STEP);
        self.restart_left -= restart;
        let left = workload.remaining().map(|left| Span::new((left.get() + gpus - 1) / gpus));
        let run = left.map_or(STEP - restart, |left| left.min(STEP - restart));
        let gained = GpuTime::of(workload.spec.gpus, run);
        let gained = workload.remaining().map_or(gained, |left| gained.min(left));
        let again = self.ran && self.restart_left + restart > Span::ZERO;
        self.pay(workload, workload.status.progress + gained, tally);
        self.save(workload);
        self.gain(gained, tally);
        if again {
            tally.service.wasted += GpuTime::of(workload.spec.gpus, restart);
        }
        if workload.spec.tier == Tier::Firm {
            // The first start is no outage: nothing was promised before it.
            self.count(
                run + if again { Span::ZERO } else { restart },
                if again { restart } else { Span::ZERO },
            );
        }
        let done = workload.remaining().is_some_and(|left| left <= GpuTime::ZERO);
        if self.restart_left <= Span::ZERO {
            self.ran = true;
            workload.status.phase = if done { Phase::Completed } else { Phase::Running };
        }
        restart + run
    }

    /// One step in which it does not run though it did before.
    pub(crate) fn miss(&mut self, workload: &Workload) {
        if self.ran && workload.spec.tier == Tier::Firm {
            self.count(Span::ZERO, STEP);
        }
    }

    /// It holds nothing any more. What was not saved is lost, and paid back.
    pub(crate) fn lose(&mut self, workload: &mut Workload, now: Time, tally: &mut Tally) {
        let saved = workload.status.saved.min(workload.status.progress);
        let lost = workload.status.progress - saved;
        tally.service.wasted += lost;
        self.gain(-lost, tally);
        self.pay(workload, saved, tally);
        self.rest(workload, now);
    }

    /// It has been stopped with all of its work saved.
    pub(crate) fn rest(&mut self, workload: &mut Workload, now: Time) {
        workload.status.saved = workload.status.progress;
        workload.status.phase = Phase::Pending;
        workload.status.since = now;
        self.restart_left = Span::ZERO;
        self.waits_since = now;
    }

    fn gain(&self, gained: GpuTime, tally: &mut Tally) {
        tally.service.productive += gained;
        if self.contracted {
            tally.service.contracted += gained;
        }
    }

    fn count(&mut self, up: Span, missed: Span) {
        self.up += up;
        self.missed += missed;
    }

    /// Progress becomes `to`, and the difference is paid; the sum over its life is the price of all progress, to the micro-dollar.
    fn pay(&mut self, workload: &mut Workload, to: GpuTime, tally: &mut Tally) {
        let price = workload.spec.price;
        let paid = to.cost(price) - workload.status.progress.cost(price);
        workload.status.progress = to;
        self.paid += paid;
        *tally.money.tier(workload.spec.tier) += paid;
    }

    /// The last checkpoint since the run began.
    fn save(&self, workload: &mut Workload) {
        let each = GpuTime::of(workload.spec.gpus, workload.spec.checkpoint);
        let whole = (workload.status.progress - self.base).whole_times(each);
        workload.status.saved = workload.status.saved.max(self.base + each.times(whole));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::Id;
    use model::workload::Spec;

    fn workload(gpus: u32, minutes: i64) -> Workload {
        let spec = Spec {
            offering: Id::new("firm").unwrap(),
            tier: Tier::Firm,
            gpu: "h100".into(),
            gpus,
            amount: Some(GpuTime::of(gpus, Span::minutes(minutes))),
            price: MicroDollars::dollars(3),
            checkpoint: Span::minutes(10),
            save: Span::secs(30),
            restart: Span::minutes(4),
            floor: None,
            affinity: None,
        };
        Workload::accepted(Id::new("job-1").unwrap(), Id::new("acme").unwrap(), spec, Time(0))
    }

    #[test]
    fn work_without_trouble_is_paid_to_the_cent_and_misses_nothing() {
        let (mut work, mut track, mut tally) = (workload(8, 60), Track::new(Time(0)), Tally::default());
        track.start(&work);
        let busy: Vec<i64> = (0..13).map(|_| track.advance(&mut work, &mut tally).get() / 60_000).collect();
        // Four minutes of restart, sixty of work.
        assert_eq!(busy, vec![5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4]);
        assert_eq!(work.status.phase, Phase::Completed);
        assert_eq!(tally.money.firm, MicroDollars::dollars(24));
        assert_eq!(tally.service.wasted, GpuTime::ZERO, "the first restart is nobody's fault");
        assert_eq!((track.up, track.missed), (Span::minutes(64), Span::ZERO));
    }

    #[test]
    fn a_cut_loses_the_work_since_the_checkpoint_and_pays_it_back() {
        let (mut work, mut track, mut tally) = (workload(8, 60), Track::new(Time(0)), Tally::default());
        track.start(&work);
        for _ in 0..4 {
            track.advance(&mut work, &mut tally);
        }
        // 16 minutes of progress, 10 of them saved.
        track.lose(&mut work, Time(0), &mut tally);
        assert_eq!(work.status.progress, GpuTime::of(8, Span::minutes(10)));
        assert_eq!(tally.service.wasted, GpuTime::of(8, Span::minutes(6)));
        assert_eq!(tally.money.firm, MicroDollars::dollars(4));
        track.miss(&work);
        track.start(&work);
        while work.status.phase != Phase::Completed {
            track.advance(&mut work, &mut tally);
        }
        assert_eq!(tally.money.firm, MicroDollars::dollars(24), "all of its work is paid once");
        assert_eq!(
            tally.service.wasted,
            GpuTime::of(8, Span::minutes(10)),
            "and the second restart is wasted"
        );
        assert_eq!(track.missed, Span::minutes(9), "a step without power and a restart");
        assert_eq!(tally.service.productive, GpuTime::of(8, Span::minutes(60)));
    }

    #[test]
    fn a_stop_by_plan_keeps_all_work() {
        let (mut work, mut track, mut tally) = (workload(2, 60), Track::new(Time(0)), Tally::default());
        track.start(&work);
        track.advance(&mut work, &mut tally);
        track.rest(&mut work, Time(7));
        assert_eq!(work.status.saved, GpuTime::of(2, Span::minutes(1)));
        assert_eq!((work.status.phase, track.waits_since), (Phase::Pending, Time(7)));
    }
}
