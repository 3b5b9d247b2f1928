//! The simulated runtime: one run of one workload, from its start to its last checkpoint.
//!
//! Starting takes `restart`; then progress counts GPUs × time (less under a power cap); every `checkpoint` the run pauses for
//! `save` and what it has done is safe; a stop saves first; a kill or a loss of power does not. Amounts are GPU·ms. Nothing here
//! knows power: [`crate::server`] does.

use model::envelope::Assignment;
use model::report::{RunPhase, RunReport};
use model::workload::GpuTime;
use model::{Time, WorkloadId};

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) workload: WorkloadId,
    pub(crate) assignment: Assignment,
    pub(crate) phase: RunPhase,
    pub(crate) gpus: u32,
    /// When the phase ends by itself, if it does.
    until: Option<Time>,
    /// Next checkpoint begins then.
    checkpoint_at: Option<Time>,
    /// A checkpoint is being saved until then.
    saving: Option<Time>,
    /// Up to here the amounts below are counted.
    counted: Time,
    progress: f64,
    saved: f64,
    held: f64,
    /// Progress a GPU-millisecond makes: 1, less under a cap.
    pace: f64,
    /// The run was ended by a loss of power or a kill, not by a stop or completion.
    pub(crate) lost: bool,
}

impl Run {
    /// Begins a run at the checkpoint it was given.
    pub(crate) fn start(workload: WorkloadId, assignment: Assignment, now: Time) -> Self {
        let gpus = assignment.placement.servers.iter().map(|(_, gpus)| gpus).sum();
        let from = assignment.start_from.as_f64();
        Self {
            workload,
            phase: RunPhase::Starting,
            gpus,
            until: Some(now + assignment.restart),
            checkpoint_at: None,
            saving: None,
            counted: now,
            progress: from,
            saved: from,
            held: 0.0,
            pace: 1.0,
            lost: false,
            assignment,
        }
    }

    /// Is found past its restart.
    pub(crate) fn find(&mut self, now: Time) {
        (self.phase, self.until) = (RunPhase::Running, None);
        self.schedule_checkpoint(now);
    }

    /// Whether it occupies GPUs.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.phase, RunPhase::Starting | RunPhase::Running | RunPhase::Stopping)
    }

    /// Whether its GPUs work: saving keeps them at full draw. What saves nothing is somebody's own machines, which go on until
    /// their feeder opens.
    pub(crate) fn is_busy(&self) -> bool {
        match self.phase {
            RunPhase::Running => true,
            RunPhase::Stopping => self.assignment.checkpoint <= model::Span::ZERO,
            RunPhase::Starting | RunPhase::Stopped | RunPhase::Completed => false,
        }
    }

    /// Asks for a checkpoint and the end. A run that has not made progress yet ends at once.
    pub(crate) fn stop(&mut self, now: Time) {
        self.count(now);
        match self.phase {
            RunPhase::Starting => self.end(RunPhase::Stopped),
            RunPhase::Running => {
                self.phase = RunPhase::Stopping;
                self.until = Some(now + self.assignment.save);
                (self.checkpoint_at, self.saving) = (None, None);
            }
            RunPhase::Stopping | RunPhase::Stopped | RunPhase::Completed => {}
        }
    }

    /// Ends it at once; what is not saved is lost.
    pub(crate) fn kill(&mut self, now: Time) {
        if self.holds() {
            self.count(now);
            self.lost = true;
            self.end(RunPhase::Stopped);
        }
    }

    /// Sets the pace from now on.
    pub(crate) fn set_pace(&mut self, pace: f64, now: Time) {
        if pace != self.pace {
            self.count(now);
            self.pace = pace;
        }
    }

    /// When something happens in it next; `None` once it has ended.
    pub(crate) fn next_event(&self) -> Option<Time> {
        let complete = self.complete_at();
        [self.until, self.checkpoint_at, self.saving, complete].into_iter().flatten().min()
    }

    /// Handles what is due at `now`; true when the phase changed.
    pub(crate) fn step(&mut self, now: Time) -> bool {
        let before = self.phase;
        self.count(now);
        let due = |at: Option<Time>| at.is_some_and(|at| now >= at);
        match self.phase {
            RunPhase::Starting if due(self.until) => {
                self.phase = RunPhase::Running;
                self.until = None;
                self.schedule_checkpoint(now);
            }
            RunPhase::Running if self.is_done() => {
                self.saved = self.progress;
                self.end(RunPhase::Completed);
            }
            RunPhase::Running if due(self.saving) => {
                self.saving = None;
                self.saved = self.progress;
                self.schedule_checkpoint(now);
            }
            RunPhase::Running if due(self.checkpoint_at) => {
                self.checkpoint_at = None;
                self.saving = Some(now + self.assignment.save);
            }
            RunPhase::Stopping if due(self.until) => {
                self.saved = self.progress;
                self.end(RunPhase::Stopped);
            }
            _ => {}
        }
        self.phase != before
    }

    /// What the runtime reports of it at `now`.
    pub(crate) fn report(&self, now: Time) -> RunReport {
        let mut copy = (self.progress, self.held);
        self.count_into(now, &mut copy);
        RunReport {
            incarnation: self.assignment.placement.incarnation,
            phase: self.phase,
            // Rounded down: nothing is reported that was not done.
            progress: GpuTime::new(copy.0 as i64),
            saved: GpuTime::new(self.saved as i64),
            held: GpuTime::new(copy.1 as i64),
        }
    }

    fn schedule_checkpoint(&mut self, now: Time) {
        let every = self.assignment.checkpoint;
        self.checkpoint_at = (every > model::Span::ZERO).then(|| now + every);
    }

    fn end(&mut self, phase: RunPhase) {
        self.phase = phase;
        (self.until, self.checkpoint_at, self.saving) = (None, None, None);
    }

    fn makes_progress(&self) -> bool {
        self.is_busy() && self.saving.is_none()
    }

    /// The amount at which it is complete.
    fn amount(&self) -> Option<f64> {
        self.assignment.remaining.map(|remaining| (self.assignment.start_from + remaining).as_f64())
    }

    fn is_done(&self) -> bool {
        // Half a GPU·ms absorbs the rounding of sums; amounts are whole GPU·ms.
        self.amount().is_some_and(|amount| self.progress >= amount - 0.5)
    }

    fn complete_at(&self) -> Option<Time> {
        let rate = f64::from(self.gpus) * self.pace;
        let left = self.amount()? - self.progress;
        (self.makes_progress() && rate > 0.0)
            .then(|| Time(self.counted.millis().saturating_add((left / rate).max(0.0).ceil() as i64)))
    }

    fn count(&mut self, now: Time) {
        let mut amounts = (self.progress, self.held);
        self.count_into(now, &mut amounts);
        (self.progress, self.held) = amounts;
        self.counted = now;
    }

    /// Adds what was done and held since the last count to (progress, held).
    fn count_into(&self, now: Time, amounts: &mut (f64, f64)) {
        let elapsed = now.since(self.counted).as_f64() * f64::from(self.gpus);
        if self.makes_progress() {
            let most = self.amount().unwrap_or(f64::INFINITY);
            amounts.0 = (amounts.0 + elapsed * self.pace).min(most.max(amounts.0));
        }
        if self.holds() {
            amounts.1 += elapsed;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::workload::{Placement, Tier};
    use model::{MicroDollars, ModuleId, PoolId, Span, TenantId};

    /// Four GPUs, 60 s to start, a checkpoint every 100 s that takes 10 s.
    pub(crate) fn assignment(module: &ModuleId, pool: &PoolId, remaining: Option<GpuTime>) -> Assignment {
        Assignment {
            tenant: TenantId::new("acme").unwrap(),
            tier: Tier::Firm,
            placement: Placement {
                module: module.clone(),
                pool: pool.clone(),
                servers: vec![(0, 4)],
                incarnation: 1,
            },
            remaining,
            start_from: GpuTime::ZERO,
            checkpoint: Span::secs(100),
            save: Span::secs(10),
            restart: Span::secs(60),
            price: MicroDollars::cents(235),
            keep_without_link: Span::minutes(10),
            by_progress: false,
        }
    }

    fn run(remaining: Option<GpuTime>) -> Run {
        let (module, pool) = (ModuleId::new("m1").unwrap(), PoolId::new("p1").unwrap());
        Run::start(WorkloadId::new("w1").unwrap(), assignment(&module, &pool, remaining), Time(0))
    }

    /// Steps to `seconds`, visiting every event.
    fn advance(run: &mut Run, seconds: i64) {
        let end = Time(seconds * 1_000);
        while let Some(at) = run.next_event().filter(|at| *at <= end) {
            run.step(at);
        }
        run.step(end);
    }

    fn check(run: &Run, seconds: i64, phase: RunPhase, progress: i64, saved: i64, held: i64) {
        let report = run.report(Time(seconds * 1_000));
        let in_seconds = |amount: GpuTime| amount.get() / 1_000;
        assert_eq!(
            (report.phase, in_seconds(report.progress), in_seconds(report.saved), in_seconds(report.held)),
            (phase, progress, saved, held)
        );
    }

    #[test]
    fn progress_is_gpus_times_running_time_and_checkpoints_make_it_safe() {
        let mut run = run(None);
        advance(&mut run, 30);
        check(&run, 30, RunPhase::Starting, 0, 0, 120);
        advance(&mut run, 160);
        check(&run, 160, RunPhase::Running, 400, 0, 640);
        advance(&mut run, 169);
        check(&run, 169, RunPhase::Running, 400, 0, 676);
        advance(&mut run, 171);
        check(&run, 171, RunPhase::Running, 404, 400, 684);
    }

    #[test]
    fn a_stop_saves_and_a_kill_does_not() {
        let mut stopped = run(None);
        advance(&mut stopped, 100);
        let mut killed = stopped.clone();
        stopped.stop(Time(100_000));
        advance(&mut stopped, 105);
        check(&stopped, 105, RunPhase::Stopping, 160, 0, 420);
        advance(&mut stopped, 200);
        check(&stopped, 200, RunPhase::Stopped, 160, 160, 440);
        killed.kill(Time(100_000));
        check(&killed, 200, RunPhase::Stopped, 160, 0, 400);
        assert!(killed.lost && !stopped.lost);
    }

    /// A powered shell of four kilowatts: nothing is saved, it starts at once, and its notice is ten seconds.
    #[test]
    fn a_shell_serves_until_its_feeder_opens_and_saves_nothing_on_the_way() {
        let mut shell = run(None);
        (shell.assignment.checkpoint, shell.assignment.restart) = (Span::ZERO, Span::ZERO);
        shell.until = Some(Time(0));
        advance(&mut shell, 300);
        check(&shell, 300, RunPhase::Running, 1_200, 0, 1_200);
        shell.stop(Time(300_000));
        advance(&mut shell, 309);
        check(&shell, 309, RunPhase::Stopping, 1_236, 0, 1_236);
        assert!(shell.is_busy(), "it draws during its notice");
        advance(&mut shell, 400);
        check(&shell, 400, RunPhase::Stopped, 1_240, 1_240, 1_240);
        assert!(!shell.is_busy());
    }

    #[test]
    fn it_completes_at_its_amount_and_not_beyond() {
        let mut run = run(Some(GpuTime::of(4, Span::secs(50))));
        advance(&mut run, 109);
        check(&run, 109, RunPhase::Running, 196, 0, 436);
        advance(&mut run, 500);
        check(&run, 500, RunPhase::Completed, 200, 200, 440);
        assert_eq!(run.next_event(), None);
    }

    #[test]
    fn a_cap_slows_it() {
        let mut run = run(None);
        advance(&mut run, 60);
        run.set_pace(0.5, Time(60_000));
        advance(&mut run, 100);
        check(&run, 100, RunPhase::Running, 80, 0, 400);
    }

    #[test]
    fn a_stop_before_any_progress_ends_at_once() {
        let mut run = run(None);
        run.stop(Time(10_000));
        check(&run, 20, RunPhase::Stopped, 0, 0, 40);
    }
}
