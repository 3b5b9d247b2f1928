//! One module of a simulated island: its main breaker, auxiliaries, losses, miner groups and GPU pools, and what each draws.
//!
//! Sums are cached: a step in which nothing moves costs a comparison. After a blackout the main breaker closes again some
//! seconds after the bus is live, one module after the other, so that a black start is not one block. Commands come from
//! [`crate::island`].

use std::collections::BTreeMap;

use control::port::Command;
use model::envelope::Assignment;
use model::module::Module;
use model::plan::GroupTarget;
use model::{MinerGroupId, ModuleId, Time, WorkloadId};

use crate::feeder::{self, Feeder};
use crate::island::Options;
use crate::miner_power::Group;
use crate::register::Register;
use crate::server::{self, Pool};

/// A module as it is.
#[derive(Clone, Debug)]
pub(crate) struct Plant {
    pub(crate) id: ModuleId,
    pub(crate) wired: bool,
    pub(crate) energized: bool,
    /// When the main breaker closes again.
    pub(crate) energize_at: Option<Time>,
    pub(crate) groups: Vec<(Group, Register)>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) auxiliary: Register,
    pub(crate) loss: Register,
    /// The sum of all uses, counted apart from them.
    pub(crate) meter: Register,
    pub(crate) meter_dead: bool,
    auxiliary_draw: f64,
    loss_share: f64,
    /// Nothing happens by itself before then; `None` = something moves.
    quiet_until: Option<Time>,
}

/// Why a command was not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such thing in the module.
    #[error("the module has no {0}; check the ids against its description")]
    Unknown(String),
    /// A feeder said no.
    #[error(transparent)]
    Feeder(#[from] feeder::Refused),
    /// The runtime said no.
    #[error(transparent)]
    Runtime(#[from] server::Refused),
    /// A genset controller said no.
    #[error(transparent)]
    Genset(#[from] crate::genset::Refused),
    /// The module is not wired to the gensets.
    #[error("the module is not wired to the gensets; send it to the wired one")]
    NotWired,
    /// Storage is off the bus.
    #[error("storage is off the bus; look after its inverter")]
    StorageOff,
    /// The grid is gone, or the bus is dead.
    #[error("the grid tie is off; look whether the grid is there")]
    TieOff,
}

impl Plant {
    /// A module with power, its miners asleep but for `awake` of each group in turn.
    pub(crate) fn new(module: &Module, seed: u64, start: Time, options: &Options, awake: &mut u32) -> Self {
        let groups = module.groups.iter().map(|(id, group)| {
            let feeder = Feeder::new(&group.shed, options.feeder_opens);
            let begin_awake = (*awake).min(group.count);
            *awake -= begin_awake;
            let seed = seed ^ crate::dice::place(module.id.as_str());
            (Group::new(id, group, feeder, begin_awake, seed, start), Register::default())
        });
        let mut plant = Self {
            id: module.id.clone(),
            wired: module.wired,
            energized: true,
            energize_at: None,
            groups: groups.collect(),
            pools: module.pools.iter().map(|(id, pool)| Pool::new(id, pool, options.swing)).collect(),
            auxiliary: Register::default(),
            loss: Register::default(),
            meter: Register::default(),
            meter_dead: false,
            auxiliary_draw: module.auxiliary.as_f64(),
            loss_share: f64::from(module.loss_permille) / 1_000.0,
            quiet_until: None,
        };
        plant.refresh(start);
        plant
    }

    /// Is found with miners as `target` says, asleep where it says nothing, and with these runs.
    pub(crate) fn find(
        &mut self,
        target: impl Fn(&MinerGroupId) -> Option<GroupTarget>,
        runs: &BTreeMap<WorkloadId, Assignment>,
        now: Time,
    ) -> Result<(), Refused> {
        for (group, _) in &mut self.groups {
            let target = target(&group.id).unwrap_or(GroupTarget { awake: 0, point: 0 });
            group.find(target.awake, target.point, now);
        }
        for (workload, assignment) in runs {
            self.pool(&assignment.placement.pool)?.find(workload, assignment, now)?;
        }
        self.refresh(now);
        Ok(())
    }

    /// Lets time pass to `now`.
    pub(crate) fn step(&mut self, now: Time) {
        if self.energize_at.is_some_and(|at| now >= at) {
            (self.energized, self.energize_at, self.quiet_until) = (true, None, None);
        }
        if self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        for (group, _) in &mut self.groups {
            group.step(self.energized, now);
        }
        self.pools.iter_mut().for_each(|pool| pool.step(now));
        self.refresh(now);
    }

    /// Power is gone; returns how many firm runs ended with it.
    pub(crate) fn lose_power(&mut self, now: Time) -> u32 {
        (self.energized, self.energize_at) = (false, None);
        for (group, _) in &mut self.groups {
            group.feeder.release(now);
            group.step(false, now);
        }
        let firm = self.pools.iter_mut().map(|pool| pool.lose_power(now)).sum();
        self.refresh(now);
        firm
    }

    /// Opens every feeder at this instant.
    pub(crate) fn reject_load(&mut self, now: Time) {
        self.groups.iter_mut().for_each(|(group, _)| group.feeder.release(now));
        self.quiet_until = None;
    }

    /// Counts one step's energy.
    pub(crate) fn count(&mut self, factor: f64) {
        self.auxiliary.count(factor);
        self.loss.count(factor);
        self.meter.count(factor);
        self.groups.iter_mut().for_each(|(_, register)| register.count(factor));
        for pool in &mut self.pools {
            pool.unheld.count(factor);
            pool.tenancies.iter_mut().for_each(|tenancy| tenancy.register.count(factor));
        }
    }

    /// Closes a second: means, and new noise.
    pub(crate) fn second(&mut self, now: Time) {
        self.registers(Register::second);
        self.groups.iter_mut().for_each(|(group, _)| group.second());
        self.refresh(now);
    }

    /// Energy of all uses since the start, mWs.
    pub(crate) fn energy(&self) -> i64 {
        let groups: i64 = self.groups.iter().map(|(_, register)| register.energy).sum();
        let pool = |pool: &Pool| {
            let runs: i64 = pool.tenancies.iter().map(|tenancy| tenancy.register.energy).sum();
            runs + pool.unheld.energy + pool.past
        };
        self.auxiliary.energy + self.loss.energy + groups + self.pools.iter().map(pool).sum::<i64>()
    }

    /// Follows one command that concerns this module alone.
    pub(crate) fn apply(&mut self, command: &Command, now: Time) -> Result<(), Refused> {
        self.quiet_until = None;
        match command {
            Command::OpenFeeder(id) => Ok(self.group(id)?.feeder.open(now)?),
            Command::CloseFeeder(id) => {
                let energized = self.energized;
                Ok(self.group(id)?.feeder.close(energized, now)?)
            }
            Command::SetMiners { group, awake, point } => {
                self.group(group)?.set(*awake, *point, now);
                Ok(())
            }
            Command::CapPool { pool, cap } => {
                self.pool(pool)?.set_cap(*cap, now);
                Ok(())
            }
            Command::CapRun { workload, cap } => {
                let capped = self.pools.iter_mut().any(|pool| pool.cap_run(workload, *cap, now));
                if capped { Ok(()) } else { Err(Refused::Unknown(format!("run {workload}"))) }
            }
            Command::StartRun { workload, assignment } if self.energized => {
                Ok(self.pool(&assignment.placement.pool)?.start(workload, assignment, now)?)
            }
            Command::StartRun { .. } => Err(server::Refused::NoPower.into()),
            Command::StopRun { workload } => self.end_run(workload, |run| run.stop(now)),
            Command::KillRun { workload } => self.end_run(workload, |run| run.kill(now)),
            Command::StartGenset(_)
            | Command::StopGenset(_)
            | Command::SetStorage(_)
            | Command::SetImport(_) => Err(Refused::NotWired),
        }
    }

    pub(crate) fn group(&mut self, id: &model::MinerGroupId) -> Result<&mut Group, Refused> {
        let found = self.groups.iter_mut().find(|(group, _)| group.id == *id);
        found.map(|(group, _)| group).ok_or_else(|| Refused::Unknown(format!("miner group {id}")))
    }

    fn pool(&mut self, id: &model::PoolId) -> Result<&mut Pool, Refused> {
        let found = self.pools.iter_mut().find(|pool| pool.id == *id);
        found.ok_or_else(|| Refused::Unknown(format!("GPU pool {id}")))
    }

    fn end_run(
        &mut self,
        workload: &model::WorkloadId,
        end: impl Fn(&mut crate::runtime::Run),
    ) -> Result<(), Refused> {
        let hits = self.pools.iter_mut().filter_map(|pool| pool.end(workload, &end).then_some(())).count();
        if hits > 0 { Ok(()) } else { Err(Refused::Unknown(format!("run of workload {workload}"))) }
    }

    /// Brings all draws up to date and looks for the next time at which one changes by itself.
    fn refresh(&mut self, now: Time) {
        let mut behind = if self.energized { self.auxiliary_draw } else { 0.0 };
        self.auxiliary.power = behind;
        for (group, register) in &mut self.groups {
            register.power = group.draw(now);
            behind += register.power;
        }
        let energized = self.energized;
        behind += self.pools.iter_mut().map(|pool| pool.refresh(energized, now)).sum::<f64>();
        self.loss.power = behind * self.loss_share;
        self.meter.power = behind + self.loss.power;
        let moving = self.groups.iter().any(|(group, _)| group.is_moving(now));
        let next = self.pools.iter().filter_map(|pool| pool.next_event(now)).min();
        self.quiet_until = if moving { None } else { Some(next.unwrap_or(Time(i64::MAX))) };
    }

    fn registers(&mut self, visit: impl Fn(&mut Register)) {
        [&mut self.auxiliary, &mut self.loss, &mut self.meter].into_iter().for_each(&visit);
        self.groups.iter_mut().for_each(|(_, register)| visit(register));
        for pool in &mut self.pools {
            visit(&mut pool.unheld);
            pool.tenancies.iter_mut().for_each(|tenancy| visit(&mut tenancy.register));
        }
    }
}
