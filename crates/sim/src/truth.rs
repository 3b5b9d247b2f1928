//! What is true of a simulated island, as opposed to what any agent reads or the controller believes. The witness judges by it.
//!
//! Power includes the effect of frequency on load. Energies are whole watt-seconds, each rounded down from an exact register in
//! milli-watt-seconds: the energies of a module's uses add up to its meter's within one watt-second for each use.

use std::collections::{BTreeMap, VecDeque};

use model::report::{FeederState, GensetState, RunReport};
use model::site::{Frequency, GasFlow, GasVolume};
use model::workload::Tier;
use model::{
    GensetId, Hashrate, MicroDollars, MinerGroupId, ModuleId, PoolId, Time, WattSeconds, Watts, WorkloadId,
};

use crate::bus::Happened;

/// Most events kept; each has a sequence number, so that a reader sees when it missed some.
pub const EVENTS_KEPT: usize = 512;

/// One use of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Draw now.
    pub power: Watts,
    /// Energy since the start.
    pub energy: WattSeconds,
}

/// The island.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Simulated time.
    pub now: Time,
    /// Whether the bus is live.
    pub energized: bool,
    /// Frequency; `None` on a dead bus.
    pub frequency: Option<Frequency>,
    /// Lowest frequency since the start (a blackout does not lower it further).
    pub nadir: Frequency,
    /// Highest frequency since the start.
    pub zenith: Frequency,
    /// Draw of the whole island.
    pub load: Watts,
    /// What the sets carry of it: less what storage delivers and the grid tie imports, more what storage takes.
    pub carried: Watts,
    /// The load nobody manages.
    pub unmanaged: Use,
    /// The sets.
    pub gensets: BTreeMap<GensetId, GensetTruth>,
    /// The modules.
    pub modules: BTreeMap<ModuleId, ModuleTruth>,
    /// Gas.
    pub gas: GasTruth,
    /// Storage, where there is one.
    pub storage: Option<StorageTruth>,
    /// The grid tie, where there is one.
    pub grid: Option<TieTruth>,
    /// Blackouts since the start.
    pub blackouts: u32,
    /// Firm runs that a loss of power ended, since the start.
    pub firm_lost: u32,
    /// Commands that devices refused, since the start.
    pub refused: u64,
}

/// One set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GensetTruth {
    /// Where it stands.
    pub state: GensetState,
    /// Since when.
    pub since: Time,
    /// Electrical output.
    pub power: Watts,
    /// Share of its load it takes while loading or unloading, in thousandths; 1,000 = fully loaded.
    pub weight_permille: u32,
}

/// One module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleTruth {
    /// Whether it has power.
    pub energized: bool,
    /// All of it.
    pub total: Use,
    /// Fans, pumps, controls.
    pub auxiliary: Use,
    /// Distribution.
    pub loss: Use,
    /// Miner groups.
    pub groups: BTreeMap<MinerGroupId, GroupTruth>,
    /// Idle power of GPUs that nobody holds, and (energy only) runs long ended.
    pub unheld: BTreeMap<PoolId, Use>,
    /// Runs by workload and incarnation, the last 64 ended ones of each pool included.
    pub runs: BTreeMap<(WorkloadId, u64), RunTruth>,
}

/// One miner group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTruth {
    /// Power and energy.
    pub mining: Use,
    /// Its feeder.
    pub feeder: FeederState,
    /// Miners awake or waking.
    pub awake: u32,
    /// Hash rate it really does, nominal.
    pub rate: Hashrate,
    /// Hash rate it claims.
    pub claimed: Option<Hashrate>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTruth {
    /// What was promised.
    pub tier: Tier,
    /// GPUs it holds or held.
    pub gpus: u32,
    /// Its GPUs' share of idle power and what it adds.
    pub ai: Use,
    /// Phase and amounts.
    pub report: RunReport,
    /// It ended by a kill or a loss of power.
    pub lost: bool,
}

/// Gas: supplied = burnt + flared + what the buffer gained since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasTruth {
    /// Inflow now.
    pub inflow: GasFlow,
    /// In the buffer now.
    pub buffer: GasVolume,
    /// Flared now.
    pub flaring: GasFlow,
    /// Came in since the start.
    pub supplied: GasVolume,
    /// Burnt in engines since the start.
    pub burnt: GasVolume,
    /// Flared since the start.
    pub flared: GasVolume,
}

/// Storage: held = at the start + taken − lost − delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageTruth {
    /// Whether it is on the bus and follows commands.
    pub ready: bool,
    /// What it delivers now; negative while it charges.
    pub power: Watts,
    /// What it still delivers until it is empty.
    pub held: WattSeconds,
    /// Delivered since the start.
    pub delivered: WattSeconds,
    /// Taken from the bus since the start.
    pub taken: WattSeconds,
    /// What of that never comes back.
    pub lost: WattSeconds,
}

/// A grid tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieTruth {
    /// Whether the grid is there and it follows commands.
    pub ready: bool,
    /// What it imports now.
    pub power: Watts,
    /// Imported since the start.
    pub imported: WattSeconds,
    /// What a megawatt-hour costs now; `None` where the grid's signal says nothing.
    pub price: Option<MicroDollars>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts the island's events from 1.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// On the bus.
    Bus(Happened),
    /// A module lost power, and so many firm runs with it.
    PowerLost(ModuleId, u32),
    /// A module has power again.
    PowerBack(ModuleId),
    /// A fault was applied.
    Fault(crate::fault::Kind),
    /// A device refused a command: which module's, and why.
    Refused(ModuleId, String),
}

/// The last events of an island.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    events: VecDeque<Event>,
    count: u64,
}

impl Log {
    pub(crate) fn push(&mut self, at: Time, what: What) {
        self.count += 1;
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event { sequence: self.count, at, what });
    }

    pub(crate) fn after(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.sequence > sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_last_events_and_numbers_them_all() {
        let mut log = Log::default();
        for index in 0..600 {
            log.push(Time(index), What::Bus(Happened::Blackout));
        }
        assert_eq!(log.after(0).count(), EVENTS_KEPT);
        assert_eq!(log.after(598).map(|event| event.sequence).collect::<Vec<_>>(), vec![599, 600]);
    }
}
