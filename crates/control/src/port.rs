//! The device port: what the control thread reads of its plant every tick, and what it may command.
//!
//! It assumes that readings are what devices say now (an unknown reading is `None`, never a default) and that commands are
//! idempotent, so that one which got lost may be sent again. The simulator and the real drivers implement [`Plant`]; the
//! thread that joins a plant to a [`crate::Brain`] lives in the agent.

use std::collections::BTreeMap;

use model::envelope::Assignment;
use model::report::{FeederState, PoolReport, RunReport, SiteReport, Switch};
use model::site::Frequency;
use model::{
    BootStamp, GensetId, Hashrate, MinerGroupId, PoolId, Span, Time, WattSeconds, Watts, WorkloadId,
};

/// Time between two ticks of a plant. A feeder takes 150 ms to open, so that one tick is a fifteenth of the answer.
pub const TICK: Span = Span::new(10);
/// Time between two ticks that carry [`Slow`] readings: 100 ticks.
pub const SLOW_EVERY: Span = Span::secs(1);

/// A plant: the devices of one module, real or simulated.
pub trait Plant: Send {
    /// Blocks until the next tick and reads the devices. `None` = the plant is gone; the thread ends.
    fn tick(&mut self) -> Option<Readings>;

    /// Carries out commands in the order given. It must not block for longer than a tick: what takes time goes on by itself,
    /// and later readings tell what became of it.
    fn act(&mut self, commands: &[Command]);
}

/// What one tick reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Readings {
    /// Wall or simulated time. Only turns of a share and records use it; a person may set this clock.
    pub now: Time,
    /// The boot-time clock. All durations are counted on it.
    pub boot: BootStamp,
    /// What is read every tick.
    pub fast: Fast,
    /// What is read once a second ([`SLOW_EVERY`]).
    pub slow: Option<Slow>,
}

/// What the reflex sees, every [`TICK`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fast {
    /// Frequency at the module's own terminals.
    pub frequency: Option<Frequency>,
    /// All sets of the site: read directly by the wired module, over the site's LAN by the others.
    pub gensets: BTreeMap<GensetId, Breaker>,
    /// The module's feeders. A group that does not stand here has an unknown feeder, which is never closed.
    pub feeders: BTreeMap<MinerGroupId, FeederState>,
    /// The local switch. The emergency stop latches in the device, not here.
    pub switch: Switch,
}

/// One set's breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Whether it is closed.
    pub closed: Option<bool>,
    /// What the set delivers.
    pub power: Option<Watts>,
}

/// What regulation sees, every [`SLOW_EVERY`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slow {
    /// Draw at the module's meter.
    pub meter: Option<Watts>,
    /// The meter's energy register: what it has counted since it was installed. The ledger's energy is its difference.
    pub register: Option<WattSeconds>,
    /// The miner groups that were read.
    pub groups: BTreeMap<MinerGroupId, GroupReading>,
    /// The GPU pools.
    pub pools: BTreeMap<PoolId, PoolReport>,
    /// What each run's GPUs drew, their share of the servers' idle power included (NVML and the servers' meters): the mean since
    /// the slow reading before. A run that is missing here is unknown.
    pub drawn: BTreeMap<WorkloadId, Watts>,
    /// All runs that the runtime knows, ended ones too until it forgets them.
    pub runs: BTreeMap<WorkloadId, RunReport>,
    /// The site, read by the wired module only.
    pub site: Option<SiteReport>,
}

/// One miner group. Miners that do not answer (feeder open, booting, broken) count neither as awake nor as asleep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupReading {
    /// Miners that say they are awake or waking.
    pub awake: u32,
    /// Miners that say they are asleep or falling asleep.
    pub asleep: u32,
    /// Operating point of those awake.
    pub point: u8,
    /// Draw at the feeder's meter, the mean since the slow reading before.
    pub power: Option<Watts>,
    /// Hash rate as the devices claim it, at nominal scale.
    pub claimed: Option<Hashrate>,
}

/// What may be commanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a group's feeder.
    OpenFeeder(MinerGroupId),
    /// Close a group's feeder. Its miners come up as the last `SetMiners` said, which was `awake: 0`.
    CloseFeeder(MinerGroupId),
    /// Have `awake` miners of a group awake at operating point `point` and the rest asleep. To wake, the driver takes those
    /// that have slept longest, and to put to sleep those that have been awake longest: dwell is counted on that.
    SetMiners {
        /// The group.
        group: MinerGroupId,
        /// Miners awake.
        awake: u32,
        /// Their operating point.
        point: u8,
    },
    /// Cap the power of a whole pool; `None` lifts the cap.
    CapPool {
        /// The pool.
        pool: PoolId,
        /// Most it may draw.
        cap: Option<Watts>,
    },
    /// Hold a run to so much power, its share of its servers' idle power included ([`model::cap`]); `None` lifts the cap. The driver
    /// sets it evenly on the run's GPUs, within about a second. A run starts without one.
    CapRun {
        /// The workload.
        workload: WorkloadId,
        /// Most it may draw.
        cap: Option<Watts>,
    },
    /// Start a run. Repeating it for an incarnation that the runtime knows changes nothing.
    StartRun {
        /// The workload.
        workload: WorkloadId,
        /// What to run, where, and from which checkpoint.
        assignment: Assignment,
    },
    /// Save a checkpoint and stop.
    StopRun {
        /// The workload.
        workload: WorkloadId,
    },
    /// Stop at once; progress since the last checkpoint is lost.
    KillRun {
        /// The workload.
        workload: WorkloadId,
    },
    /// Ask the genset controller to start a set.
    StartGenset(GensetId),
    /// Ask the genset controller to unload and stop a set.
    StopGenset(GensetId),
    /// Have the site's storage deliver so much from now on, as fast as its inverter can; negative = charge.
    SetStorage(Watts),
    /// Have the site's grid tie import so much from now on, as fast as its converter can; never negative.
    SetImport(Watts),
}
