//! The test bench: a module, directives, readings, and a small plant that does what it is told after a while.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use model::envelope::{
    Arming, Assignment, Directive, Envelope, FallbackStep, Fence, Grant, Rung, RungLoad, Share,
};
use model::module::{Actuator, GpuPool, MinerGroup, Module, OperatingPoint, ShedPath};
use model::plan::GroupTarget;
use model::report::{FeederState, PoolReport, RunPhase, RunReport, Switch};
use model::site::{Frequency, Governor};
use model::workload::{GpuTime, Placement, Tier};
use model::{
    BootStamp, ContingencyId, Hashrate, Id, MicroDollars, MinerGroupId, Span, Time, Watts, WattsPerSecond,
    WorkloadId,
};

use crate::brain::{Brain, Config};
use crate::envelope::MAX_VALIDITY;
use crate::island::Island;
use crate::port::{Breaker, Command, Fast, GroupReading, Readings, Slow};
use crate::sabotage::{Sabotage, Sabotages};

pub fn id<K: model::id::Kind>(text: &str) -> Id<K> {
    Id::new(text).unwrap()
}

pub fn boot(at: Span) -> BootStamp {
    BootStamp { boot_id: "boot-1".into(), at }
}

pub fn group(count: u32) -> MinerGroup {
    MinerGroup {
        model: "S21".into(),
        count,
        points: vec![
            OperatingPoint { power: Watts::new(2_500), rate: Hashrate::tera(155) },
            OperatingPoint { power: Watts::new(3_500), rate: Hashrate::tera(200) },
        ],
        standby: Watts::new(25),
        wake: Span::secs(10),
        sleep: Span::secs(5),
        dwell: Span::minutes(5),
        wear: MicroDollars::cents(10),
        shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(150)), rearm: Span::secs(30) },
        scale: 1,
    }
}

/// Groups a and b of 40 miners (142 kW each), a pool of 4 servers with 8 GPUs (8 kW idle, 40 kW busy), 5 kW of auxiliaries.
pub fn module() -> Module {
    let pool = GpuPool {
        gpu: "h100".into(),
        servers: 4,
        gpus: 8,
        idle: Watts::kilo(2),
        active: Watts::kilo(10),
        cap_min: Watts::kilo(6),
        curve: Vec::new(),
    };
    Module {
        id: id("m1"),
        site: id("s1"),
        wired: true,
        limit: Watts::kilo(400),
        cooling: Watts::kilo(400),
        auxiliary: Watts::kilo(5),
        loss_permille: 15,
        groups: [(id("a"), group(40)), (id("b"), group(40))].into(),
        pools: [(id("p"), pool)].into(),
    }
}

pub fn island() -> Island {
    let ratings = (1..=4).map(|n| (id(&format!("g{n}")), Watts::kilo(500))).collect();
    let least = (1..=4).map(|n| (id(&format!("g{n}")), Watts::kilo(150))).collect();
    Island { nominal: Frequency::new(60_000), governor: Governor::Isochronous, ratings, least }
}

pub fn rung(group: &str, below: i64) -> Rung {
    Rung {
        load: RungLoad::Miners(id(group)),
        actuator: Actuator::Feeder,
        watts: Watts::kilo(140),
        opens: Span::new(150),
        below: Frequency::new(below),
    }
}

/// Sized for the loss of a set at 400 kW, of which the others absorb 120: the island sheds 280, all of it here.
pub fn arming(set: &str) -> (ContingencyId, Arming) {
    let arming = Arming {
        source: id(set),
        lost: Watts::kilo(400),
        absorbed: Watts::kilo(120),
        island_shed: Watts::kilo(280),
        rungs: vec![0, 1],
    };
    (id(&format!("genset-{set}")), arming)
}

pub fn grant(ceiling: Watts) -> Grant {
    Grant {
        ceiling,
        ai_floor: Watts::kilo(30),
        share: Share {
            step: Watts::kilo(60),
            ramp: WattsPerSecond::new(10_000),
            cycle: Span::secs(20),
            offset: Span::secs(5),
            turn: Span::secs(5),
        },
        ladder: vec![rung("a", 800), rung("b", 1_200)],
        armed: [arming("g1"), arming("g2")].into(),
        fallback: vec![
            FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(120) },
            FallbackStep { after: Span::hours(1), ceiling: Watts::kilo(60) },
        ],
    }
}

/// A directive with everything awake at the full point, answering a report made at `answers`.
pub fn directive(generation: u64, answers: Span, ceiling: Watts) -> Directive {
    let envelope = Envelope {
        module: id("m1"),
        fence: Fence { epoch: 1, leader: 1, plan: 1 },
        generation,
        answers: boot(answers),
        valid_for: Span::secs(120),
        grant: grant(ceiling),
    };
    let target = GroupTarget { awake: 40, point: 1 };
    Directive { miners: [(id("a"), target), (id("b"), target)].into(), ..Directive::idle(envelope) }
}

pub fn assignment(tier: Tier, incarnation: u64, servers: &[(u32, u32)]) -> Assignment {
    Assignment {
        tenant: id("t"),
        tier,
        placement: Placement { module: id("m1"), pool: id("p"), servers: servers.to_vec(), incarnation },
        remaining: None,
        start_from: GpuTime::ZERO,
        checkpoint: Span::minutes(10),
        save: Span::secs(20),
        restart: Span::secs(60),
        price: MicroDollars::cents(295),
        keep_without_link: Span::secs(300),
        by_progress: false,
    }
}

pub fn run(incarnation: u64, phase: RunPhase) -> RunReport {
    RunReport { incarnation, phase, progress: GpuTime::ZERO, saved: GpuTime::ZERO, held: GpuTime::ZERO }
}

pub fn config(sabotage: &[Sabotage]) -> Config {
    Config {
        module: module(),
        island: island(),
        validity: MAX_VALIDITY,
        reflex: true,
        sabotage: Sabotages(sabotage.iter().copied().collect()),
    }
}

pub fn healthy() -> Fast {
    let set = |n: u32| (id(&format!("g{n}")), Breaker { closed: Some(true), power: Some(Watts::kilo(400)) });
    Fast {
        frequency: Some(Frequency::new(60_000)),
        gensets: (1..=4).map(set).collect(),
        feeders: [(id("a"), FeederState::Closed), (id("b"), FeederState::Closed)].into(),
        switch: Switch::Remote,
    }
}

/// One group of the bench's plant: where each miner is going, and since when.
#[derive(Clone, Debug)]
pub struct Rack {
    pub awake: u32,
    pub point: u8,
    pub feeder: FeederState,
    /// Miners ignore what they are told.
    pub deaf: bool,
    /// What the feeder's meter shows where power follows slowly.
    pub shown: Watts,
}

/// A plant that does in the same second what it is told, one second a step.
#[derive(Clone, Debug)]
pub struct Bench {
    pub module: Module,
    pub at: Span,
    pub fast: Fast,
    pub racks: BTreeMap<MinerGroupId, Rack>,
    pub runs: BTreeMap<WorkloadId, RunReport>,
    pub gpus: BTreeMap<WorkloadId, u32>,
    pub cap: Option<Watts>,
    /// Caps of runs.
    pub held: BTreeMap<WorkloadId, Watts>,
    /// Runs' caps come to nothing.
    pub loose: bool,
    pub meter_known: bool,
    /// Most by which a group's power changes in a second; `None` = at once.
    pub pace: Option<Watts>,
    /// Draw that nothing explains.
    pub extra: Watts,
    pub log: Vec<(Span, Command)>,
}

impl Bench {
    pub fn new(awake: u32) -> Self {
        let rack = Rack { awake, point: 1, feeder: FeederState::Closed, deaf: false, shown: Watts::ZERO };
        Self {
            module: module(),
            at: Span::secs(1_000),
            fast: healthy(),
            racks: [(id("a"), rack.clone()), (id("b"), rack)].into(),
            runs: BTreeMap::new(),
            gpus: BTreeMap::new(),
            cap: None,
            held: BTreeMap::new(),
            loose: false,
            meter_known: true,
            pace: None,
            extra: Watts::ZERO,
            log: Vec::new(),
        }
    }

    pub fn power(&self, group: &MinerGroupId) -> Watts {
        let rack = &self.racks[group];
        match rack.feeder {
            FeederState::Open => Watts::ZERO,
            _ if self.pace.is_some() => rack.shown,
            _ => self.module.groups[group].draw(rack.awake, rack.point.into()),
        }
    }

    /// Power follows what was told, at its pace.
    fn follow(&mut self) {
        let Some(pace) = self.pace else { return };
        for (id, rack) in &mut self.racks {
            let told = self.module.groups[id].draw(rack.awake, rack.point.into());
            rack.shown += (told - rack.shown).clamp(-pace, pace);
        }
    }

    fn idle(&self, gpus: u32) -> Watts {
        self.module.pools[&id::<model::id::PoolKind>("p")].idle_share(gpus)
    }

    /// What a run adds to the idle draw of the pool.
    fn run_draw(&self, run: &WorkloadId) -> Watts {
        let cap = self.held.get(run).copied().filter(|_| !self.loose);
        self.module.pools[&id::<model::id::PoolKind>("p")].run_draw(self.gpus[run], cap)
    }

    pub fn pool(&self) -> Watts {
        let busy = self
            .runs
            .iter()
            .filter(|(_, run)| matches!(run.phase, RunPhase::Running | RunPhase::Stopping))
            .filter_map(|(id, _)| self.gpus.get(id))
            .sum();
        let pool = &self.module.pools[&id::<model::id::PoolKind>("p")];
        let spared = self.held.keys().filter(|run| self.runs[*run].phase == RunPhase::Running);
        let spared = spared.map(|run| pool.run_draw(self.gpus[run], None) - self.run_draw(run)).sum();
        let draw = pool.draw(busy) - spared;
        self.cap.map_or(draw, |cap| draw.min(cap))
    }

    pub fn meter(&self) -> Watts {
        let miners: Watts = self.racks.keys().map(|id| self.power(id)).sum();
        self.module.with_loss(self.module.auxiliary + miners + self.pool() + self.extra)
    }

    pub fn readings(&self) -> Readings {
        let reading = |(id, rack): (&MinerGroupId, &Rack)| {
            let fed = rack.feeder == FeederState::Closed;
            let count = self.module.groups[id].count;
            let reading = GroupReading {
                awake: if fed { rack.awake } else { 0 },
                asleep: if fed { count - rack.awake } else { 0 },
                point: rack.point,
                power: Some(self.power(id)),
                claimed: None,
            };
            (id.clone(), reading)
        };
        let mut fast = self.fast.clone();
        fast.feeders = self.racks.iter().map(|(id, rack)| (id.clone(), rack.feeder)).collect();
        let pool = PoolReport { up: 4, power: Some(self.pool()) };
        Readings {
            now: Time(self.at.get()),
            boot: boot(self.at),
            fast,
            slow: Some(Slow {
                meter: self.meter_known.then(|| self.meter()),
                groups: self.racks.iter().map(reading).collect(),
                pools: [(id::<model::id::PoolKind>("p"), pool)].into(),
                drawn: self
                    .gpus
                    .iter()
                    .map(|(run, &gpus)| (run.clone(), self.idle(gpus) + self.run_draw(run)))
                    .collect(),
                runs: self.runs.clone(),
                ..Slow::default()
            }),
        }
    }

    pub fn act(&mut self, commands: &[Command]) {
        for command in commands {
            self.log.push((self.at, command.clone()));
            match command {
                Command::OpenFeeder(id) => self.racks.get_mut(id).unwrap().feeder = FeederState::Open,
                Command::CloseFeeder(id) => self.racks.get_mut(id).unwrap().feeder = FeederState::Closed,
                Command::SetMiners { group, awake, point } => {
                    let rack = self.racks.get_mut(group).unwrap();
                    if !rack.deaf {
                        (rack.awake, rack.point) = (*awake, *point);
                    }
                }
                Command::CapPool { cap, .. } => self.cap = *cap,
                Command::CapRun { workload, cap } => {
                    self.held.remove(workload);
                    self.held.extend(cap.map(|cap| (workload.clone(), cap)));
                }
                Command::StartRun { workload, assignment } => {
                    let gpus = assignment.placement.servers.iter().map(|(_, gpus)| gpus).sum();
                    self.gpus.insert(workload.clone(), gpus);
                    let started = run(assignment.placement.incarnation, RunPhase::Running);
                    self.runs.insert(workload.clone(), started);
                }
                Command::StopRun { workload } | Command::KillRun { workload } => {
                    self.runs.get_mut(workload).unwrap().phase = RunPhase::Stopped;
                }
                Command::StartGenset(_)
                | Command::StopGenset(_)
                | Command::SetStorage(_)
                | Command::SetImport(_) => {}
            }
        }
    }

    /// One second: a tick, and the plant follows.
    pub fn second(&mut self, brain: &mut Brain) -> Vec<Command> {
        let commands = brain.tick(&self.readings());
        self.act(&commands);
        self.follow();
        self.at += Span::secs(1);
        commands
    }

    /// Seconds with a directive that is renewed each second.
    pub fn seconds(&mut self, brain: &mut Brain, seconds: u32, directive: &Directive) -> Vec<Command> {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            let mut renewal = directive.clone();
            renewal.envelope.answers = boot(self.at);
            brain.adopt(renewal, &boot(self.at)).unwrap();
            commands.extend(self.second(brain));
        }
        commands
    }

    pub fn awake(&self) -> u32 {
        self.racks.values().filter(|rack| rack.feeder == FeederState::Closed).map(|rack| rack.awake).sum()
    }
}
