//! The GPU servers of one pool: which GPUs are held, what they draw, and the cap on them.
//!
//! A server draws its idle power while the module has power; each busy GPU adds a like share up to the server's active power.
//! A cap on the pool or on one run acts [`CAP_DELAY`] after the command, on the busy share only, and not below `cap_min`; capped work
//! goes slower, by the pool's curve where one was measured. The
//! power of a run is its GPUs' share of idle plus what it adds, so that runs and unheld GPUs together are the pool exactly.
//! What a run does with its time: [`crate::runtime`].

use std::collections::BTreeMap;

use model::envelope::Assignment;
use model::module::GpuPool;
use model::report::{PoolReport, RunPhase};
use model::{PoolId, Span, Time, Watts, WorkloadId};

use crate::register::Register;
use crate::runtime::Run;

/// From the command until a cap holds.
pub const CAP_DELAY: Span = Span::secs(1);
/// Progress under a cap is the busy power's share to this power: 600 of 700 W cost 12.5 %, in the published 10 to 15 %.
pub const CAP_EXPONENT: f64 = 0.87;
/// Period of the power swing of a synchronous gang, when swings are on; step times of large models are seconds.
pub const SWING_PERIOD: Span = Span::secs(4);
/// Ended runs that stay visible.
const ENDED_KEPT: usize = 64;

/// One run with the power it draws.
#[derive(Clone, Debug)]
pub(crate) struct Tenancy {
    pub(crate) run: Run,
    pub(crate) register: Register,
    /// Most it may draw, its share of idle included.
    cap: Option<f64>,
    next_cap: Option<(Time, Option<f64>)>,
}

/// A pool as it is.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    servers: u32,
    gpus: u32,
    idle: f64,
    active: f64,
    cap_min: f64,
    cap: Option<f64>,
    next_cap: Option<(Time, Option<f64>)>,
    /// Share of busy power and pace of the measured points, from nothing up to full power.
    curve: Vec<(f64, f64)>,
    /// Share of busy power lost in the low half of a gang's swing.
    swing: f64,
    pub(crate) tenancies: Vec<Tenancy>,
    /// Idle power of the GPUs that nobody holds.
    pub(crate) unheld: Register,
    /// Energy of the runs that were forgotten, mWs.
    pub(crate) past: i64,
}

/// Why a run was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A server or GPU that is not there.
    #[error("the placement names servers or GPUs that the pool does not have; place it anew")]
    NoSuchGpus,
    /// Held by others.
    #[error("other runs hold the GPUs; stop them first")]
    GpusHeld,
    /// A dead module.
    #[error("the module has no power; start it when power is back")]
    NoPower,
    /// An older start.
    #[error("a later incarnation of the workload is known; the start is stale")]
    Stale,
}

impl Pool {
    pub(crate) fn new(id: &PoolId, pool: &GpuPool, swing: f64) -> Self {
        Self {
            id: id.clone(),
            servers: pool.servers,
            gpus: pool.gpus.max(1),
            idle: pool.idle.as_f64(),
            active: pool.active.as_f64(),
            cap_min: pool.cap_min.as_f64(),
            cap: None,
            next_cap: None,
            curve: curve(pool),
            swing: swing.clamp(0.0, 0.9),
            tenancies: Vec::new(),
            unheld: Register::default(),
            past: 0,
        }
    }

    /// Starts a run. An incarnation that is known already is left alone.
    pub(crate) fn start(
        &mut self,
        workload: &WorkloadId,
        assignment: &Assignment,
        now: Time,
    ) -> Result<(), Refused> {
        let incarnation = assignment.placement.incarnation;
        let of_workload = self.tenancies.iter().filter(|tenancy| tenancy.run.workload == *workload);
        match of_workload.map(|tenancy| tenancy.run.assignment.placement.incarnation).max() {
            Some(known) if known == incarnation => return Ok(()),
            Some(known) if known > incarnation => return Err(Refused::Stale),
            _ => {}
        }
        for (server, gpus) in &assignment.placement.servers {
            if *server >= self.servers || *gpus > self.gpus || *gpus == 0 {
                return Err(Refused::NoSuchGpus);
            }
            if self.held_by_others(workload, *server) + gpus > self.gpus {
                return Err(Refused::GpusHeld);
            }
        }
        if assignment.placement.servers.is_empty() {
            return Err(Refused::NoSuchGpus);
        }
        let run = Run::start(workload.clone(), assignment.clone(), now);
        self.tenancies.push(Tenancy { run, register: Register::default(), cap: None, next_cap: None });
        self.forget_ended();
        Ok(())
    }

    /// Is found with this run past its restart.
    pub(crate) fn find(
        &mut self,
        workload: &WorkloadId,
        assignment: &Assignment,
        now: Time,
    ) -> Result<(), Refused> {
        self.start(workload, assignment, now)?;
        if let Some(tenancy) = self.tenancies.last_mut() {
            tenancy.run.find(now);
        }
        Ok(())
    }

    /// Applies `end` to every incarnation of the workload here; false when there is none.
    pub(crate) fn end(&mut self, workload: &WorkloadId, end: impl Fn(&mut Run)) -> bool {
        let hit = self.tenancies.iter_mut().filter(|tenancy| tenancy.run.workload == *workload);
        hit.map(|tenancy| end(&mut tenancy.run)).count() > 0
    }

    pub(crate) fn set_cap(&mut self, cap: Option<Watts>, now: Time) {
        self.next_cap = Some((now + CAP_DELAY, cap.map(Watts::as_f64)));
    }

    /// Caps one run; false when it is not here.
    pub(crate) fn cap_run(&mut self, workload: &WorkloadId, cap: Option<Watts>, now: Time) -> bool {
        let here = self
            .tenancies
            .iter_mut()
            .filter(|tenancy| tenancy.run.workload == *workload && tenancy.run.holds());
        here.map(|tenancy| tenancy.next_cap = Some((now + CAP_DELAY, cap.map(Watts::as_f64)))).count() > 0
    }

    /// Power is gone: every run ends without a checkpoint. Returns how many firm ones.
    pub(crate) fn lose_power(&mut self, now: Time) -> u32 {
        let mut firm = 0;
        for tenancy in self.tenancies.iter_mut().filter(|tenancy| tenancy.run.holds()) {
            firm += u32::from(tenancy.run.assignment.tier == model::workload::Tier::Firm);
            tenancy.run.kill(now);
        }
        (self.cap, self.next_cap) = (None, None);
        firm
    }

    /// When something happens in it next.
    pub(crate) fn next_event(&self, now: Time) -> Option<Time> {
        let runs = self.tenancies.iter().filter_map(|tenancy| tenancy.run.next_event());
        let swings =
            (self.swing > 0.0 && self.tenancies.iter().any(|tenancy| tenancy.run.is_busy())).then(|| {
                now.floor_to(Span::new(SWING_PERIOD.millis() / 2)) + Span::new(SWING_PERIOD.millis() / 2)
            });
        let caps = self.tenancies.iter().filter_map(|tenancy| tenancy.next_cap.map(|next| next.0));
        runs.chain(caps).chain(self.next_cap.map(|next| next.0)).chain(swings).min()
    }

    /// Handles what is due.
    pub(crate) fn step(&mut self, now: Time) {
        if let Some((at, cap)) = self.next_cap
            && now >= at
        {
            (self.cap, self.next_cap) = (cap, None);
        }
        for tenancy in &mut self.tenancies {
            if let Some((_, cap)) = tenancy.next_cap.take_if(|(at, _)| now >= *at) {
                tenancy.cap = cap;
            }
            while tenancy.run.next_event().is_some_and(|at| now >= at) {
                let before = tenancy.run.next_event();
                tenancy.run.step(now);
                if tenancy.run.next_event() == before {
                    break;
                }
            }
        }
    }

    /// Sets every run's power and pace from who is busy and the cap; returns the pool's draw in watts.
    pub(crate) fn refresh(&mut self, energized: bool, now: Time) -> f64 {
        if !energized {
            self.unheld.power = 0.0;
            self.tenancies.iter_mut().for_each(|tenancy| tenancy.register.power = 0.0);
            return 0.0;
        }
        let idle_total = self.idle * f64::from(self.servers);
        let per_gpu = (self.active - self.idle) / f64::from(self.gpus);
        let (mut busy, mut held) = (0.0, 0.0);
        let swing = self.swing_at(now);
        let floor = self.least_share();
        for tenancy in &mut self.tenancies {
            let gpus = f64::from(tenancy.run.gpus);
            let most = tenancy.most_share(gpus * self.idle / f64::from(self.gpus), gpus * per_gpu, floor);
            let adds = if tenancy.run.is_busy() { gpus * per_gpu * swing.min(most) } else { 0.0 };
            let idle = if tenancy.run.holds() { gpus * self.idle / f64::from(self.gpus) } else { 0.0 };
            tenancy.register.power = adds;
            busy += adds;
            held += idle;
        }
        let (share, unheld) = (self.cap_share(idle_total, busy), idle_total - held);
        for tenancy in &mut self.tenancies {
            let gpus = f64::from(tenancy.run.gpus);
            let most = tenancy.most_share(gpus * self.idle / f64::from(self.gpus), gpus * per_gpu, floor);
            let pace = pace(&self.curve, most * share);
            let idle = if tenancy.run.holds() { gpus * self.idle / f64::from(self.gpus) } else { 0.0 };
            tenancy.register.power = tenancy.register.power * share + idle;
            tenancy.run.set_pace(pace, now);
        }
        self.unheld.power = unheld;
        idle_total + busy * share
    }

    /// What the pool reports, its power averaged over the last second.
    pub(crate) fn report(&self, energized: bool) -> PoolReport {
        let power: f64 = self.unheld.average + self.tenancies.iter().map(|t| t.register.average).sum::<f64>();
        PoolReport { up: if energized { self.servers } else { 0 }, power: Some(Watts::from_f64(power)) }
    }

    /// The runs that the runtime shows: the latest incarnation of each workload.
    pub(crate) fn reports(&self, now: Time, into: &mut BTreeMap<WorkloadId, model::report::RunReport>) {
        for tenancy in &self.tenancies {
            let report = tenancy.run.report(now);
            let known = into.get(&tenancy.run.workload);
            if known.is_none_or(|known| known.incarnation <= report.incarnation) {
                into.insert(tenancy.run.workload.clone(), report);
            }
        }
    }

    /// The share of its busy power that a cap leaves to the pool.
    fn cap_share(&self, idle_total: f64, busy: f64) -> f64 {
        match self.cap {
            Some(cap) if busy > 0.0 => ((cap - idle_total) / busy).clamp(self.least_share(), 1.0),
            _ => 1.0,
        }
    }

    /// The share of busy power below which no cap goes.
    fn least_share(&self) -> f64 {
        let swing = self.active - self.idle;
        if swing > 0.0 { ((self.cap_min - self.idle) / swing).clamp(0.0, 1.0) } else { 1.0 }
    }

    /// The gangs of a pool swing together, the worst case for the island.
    fn swing_at(&self, now: Time) -> f64 {
        let low = now.millis().rem_euclid(SWING_PERIOD.millis()) >= SWING_PERIOD.millis() / 2;
        if low { 1.0 - self.swing } else { 1.0 }
    }

    fn held_by_others(&self, workload: &WorkloadId, server: u32) -> u32 {
        let others = self.tenancies.iter().filter(|t| t.run.holds() && t.run.workload != *workload);
        let placed = others.flat_map(|tenancy| &tenancy.run.assignment.placement.servers);
        placed.filter(|(index, _)| *index == server).map(|(_, gpus)| gpus).sum()
    }

    fn forget_ended(&mut self) {
        let ended = |tenancy: &Tenancy| matches!(tenancy.run.phase, RunPhase::Stopped | RunPhase::Completed);
        let mut surplus = self.tenancies.iter().filter(|t| ended(t)).count().saturating_sub(ENDED_KEPT);
        let mut past = 0;
        self.tenancies.retain(|tenancy| {
            let forget = surplus > 0 && ended(tenancy);
            surplus -= usize::from(forget);
            past += if forget { tenancy.register.energy } else { 0 };
            !forget
        });
        self.past += past;
    }
}

impl Tenancy {
    /// The share of its busy power that its own cap leaves it, where it holds `idle` and adds `full` without one.
    fn most_share(&self, idle: f64, full: f64, least: f64) -> f64 {
        match self.cap {
            Some(cap) if full > 0.0 => ((cap - idle) / full).clamp(least, 1.0),
            _ => 1.0,
        }
    }
}

/// The measured points of a pool between nothing and full power; empty where nothing was measured.
fn curve(pool: &GpuPool) -> Vec<(f64, f64)> {
    let swing = (pool.active - pool.idle).as_f64();
    if pool.curve.is_empty() || swing <= 0.0 {
        return Vec::new();
    }
    let points = pool
        .curve
        .iter()
        .map(|point| ((point.power - pool.idle).as_f64() / swing, point.pace.as_f64() / 1e3));
    [(0.0, 0.0)].into_iter().chain(points).chain([(1.0, 1.0)]).collect()
}

/// The pace at a share of busy power: between the measured points, or by the published loss where there are none.
fn pace(curve: &[(f64, f64)], share: f64) -> f64 {
    let piece = curve.windows(2).find(|pair| share <= pair[1].0);
    piece.map_or(share.powf(CAP_EXPONENT), |pair| {
        let part = (share - pair[0].0) / (pair[1].0 - pair[0].0);
        pair[0].1 + part * (pair[1].1 - pair[0].1)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::runtime::tests::assignment;
    use model::ModuleId;

    /// Two servers of 8 GPUs, idle 2,000, active 10,000, cap_min 6,000 W.
    fn pool(swing: f64) -> Pool {
        let config = GpuPool {
            gpu: "h100".into(),
            servers: 2,
            gpus: 8,
            idle: Watts::new(2_000),
            active: Watts::new(10_000),
            cap_min: Watts::new(6_000),
            curve: Vec::new(),
        };
        Pool::new(&PoolId::new("p1").unwrap(), &config, swing)
    }

    fn start(pool: &mut Pool, name: &str, servers: &[(u32, u32)], incarnation: u64) -> Result<(), Refused> {
        let mut wanted = assignment(&ModuleId::new("m1").unwrap(), &PoolId::new("p1").unwrap(), None);
        wanted.placement.servers = servers.to_vec();
        wanted.placement.incarnation = incarnation;
        pool.start(&WorkloadId::new(name).unwrap(), &wanted, Time(0))
    }

    #[test]
    fn runs_and_unheld_gpus_together_are_the_pool() {
        let mut pool = pool(0.0);
        start(&mut pool, "a", &[(0, 8)], 1).unwrap();
        start(&mut pool, "b", &[(1, 4)], 1).unwrap();
        assert_eq!(pool.refresh(true, Time(0)), 4_000.0, "starting runs hold GPUs and draw idle power");
        pool.step(Time(60_000));
        let draw = pool.refresh(true, Time(60_000));
        assert_eq!(draw, 4_000.0 + 12.0 * 1_000.0);
        let parts: f64 = pool.tenancies.iter().map(|t| t.register.power).sum::<f64>() + pool.unheld.power;
        assert!((parts - draw).abs() < 1e-9);
    }

    #[test]
    fn a_cap_holds_after_a_second_and_not_below_the_least() {
        let mut pool = pool(0.0);
        start(&mut pool, "a", &[(0, 8)], 1).unwrap();
        start(&mut pool, "b", &[(1, 8)], 1).unwrap();
        pool.step(Time(60_000));
        pool.set_cap(Some(Watts::new(16_000)), Time(60_000));
        pool.step(Time(60_990));
        assert_eq!(pool.refresh(true, Time(60_990)), 20_000.0);
        pool.step(Time(61_000));
        assert_eq!(pool.refresh(true, Time(61_000)), 16_000.0);
        pool.set_cap(Some(Watts::ZERO), Time(61_000));
        pool.step(Time(62_000));
        assert_eq!(pool.refresh(true, Time(62_000)), 12_000.0, "two servers at cap_min");
        pool.set_cap(None, Time(62_000));
        pool.step(Time(63_000));
        assert_eq!(pool.refresh(true, Time(63_000)), 20_000.0);
    }

    #[test]
    fn a_cap_on_one_run_slows_it_by_the_curve_and_nobody_else() {
        let mut pool = pool(0.0);
        pool.curve = vec![(0.0, 0.0), (0.5, 0.8), (1.0, 1.0)];
        start(&mut pool, "a", &[(0, 8)], 1).unwrap();
        start(&mut pool, "b", &[(1, 8)], 1).unwrap();
        pool.step(Time(60_000));
        pool.refresh(true, Time(60_000));
        assert!(pool.cap_run(&WorkloadId::new("a").unwrap(), Some(Watts::new(6_000)), Time(60_000)));
        assert!(!pool.cap_run(&WorkloadId::new("c").unwrap(), None, Time(60_000)));
        assert_eq!(pool.next_event(Time(60_000)), Some(Time(61_000)));
        pool.step(Time(61_000));
        assert_eq!(pool.refresh(true, Time(61_000)), 16_000.0);
        let progress = |pool: &Pool, at: i64| {
            pool.tenancies.iter().map(|t| t.run.report(Time(at)).progress.get()).collect::<Vec<_>>()
        };
        let before = progress(&pool, 61_000);
        let after = progress(&pool, 71_000);
        let made: Vec<i64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(made, [64_000, 80_000], "GPU milliseconds in ten seconds");
        // Not below what its servers can be held to, and back to full speed.
        pool.cap_run(&WorkloadId::new("a").unwrap(), Some(Watts::ZERO), Time(71_000));
        pool.step(Time(72_000));
        assert_eq!(pool.refresh(true, Time(72_000)), 16_000.0);
        pool.cap_run(&WorkloadId::new("a").unwrap(), None, Time(72_000));
        pool.step(Time(73_000));
        assert_eq!(pool.refresh(true, Time(73_000)), 20_000.0);
    }

    #[test]
    fn placements_that_do_not_fit_are_refused() {
        let check = |servers: &[(u32, u32)], expected| {
            let mut pool = pool(0.0);
            start(&mut pool, "a", &[(0, 6)], 1).unwrap();
            assert_eq!(start(&mut pool, "b", servers, 1), expected, "{servers:?}");
        };
        check(&[(0, 2), (1, 8)], Ok(()));
        check(&[(0, 3)], Err(Refused::GpusHeld));
        check(&[(2, 1)], Err(Refused::NoSuchGpus));
        check(&[(1, 9)], Err(Refused::NoSuchGpus));
        check(&[], Err(Refused::NoSuchGpus));
    }

    #[test]
    fn starts_are_idempotent_and_stale_ones_refused() {
        let mut pool = pool(0.0);
        start(&mut pool, "a", &[(0, 8)], 2).unwrap();
        start(&mut pool, "a", &[(0, 8)], 2).unwrap();
        assert_eq!(pool.tenancies.len(), 1);
        assert_eq!(start(&mut pool, "a", &[(0, 8)], 1), Err(Refused::Stale));
        start(&mut pool, "a", &[(0, 8)], 3).unwrap();
        let mut reports = BTreeMap::new();
        pool.reports(Time(0), &mut reports);
        assert_eq!(reports[&WorkloadId::new("a").unwrap()].incarnation, 3);
    }

    #[test]
    fn a_gang_swings_and_ended_runs_are_forgotten_in_time() {
        let mut pool = pool(0.5);
        start(&mut pool, "a", &[(0, 8)], 1).unwrap();
        pool.step(Time(60_000));
        assert_eq!(pool.refresh(true, Time(60_000)), 12_000.0);
        assert_eq!(pool.next_event(Time(60_000)), Some(Time(62_000)));
        assert_eq!(pool.refresh(true, Time(62_000)), 8_000.0);
        for index in 0..200 {
            pool.lose_power(Time(70_000));
            start(&mut pool, &format!("w{index}"), &[(0, 8)], 1).unwrap();
        }
        assert_eq!(pool.tenancies.len(), ENDED_KEPT + 1);
    }
}
