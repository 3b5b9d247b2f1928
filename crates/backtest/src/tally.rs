//! The books: what was earned, burnt and drawn, in integers. One [`Tally`] a day; their sum is the whole.
//!
//! Money is micro-dollars, energy watt-seconds, gas standard cubic feet, GPU time GPU-milliseconds. Read next: [`crate::outcome`].

use std::ops::AddAssign;

use model::site::GasVolume;
use model::workload::{GpuTime, Tier};
use model::{MicroDollars, Span, WattSeconds, Work};
use serde::Serialize;

/// What happened in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Money.
    pub money: Money,
    /// Energy at the sets' terminals.
    pub energy: Energy,
    /// Gas: supplied = burnt + flared + what the buffers gained.
    pub gas: Gas,
    /// Tenants' work.
    pub service: Service,
    /// The plant.
    pub plant: Plant,
    /// Plans.
    pub plans: Plans,
    /// Expected hashes that were mined.
    pub work: Work,
}

/// Money that came, and money that went (as positive amounts).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Money {
    /// Mining, net of the pool's fee.
    pub mining: MicroDollars,
    /// Firm work; progress is paid, and what is lost to a stop is paid back.
    pub firm: MicroDollars,
    /// On-demand work.
    pub on_demand: MicroDollars,
    /// Spot work.
    pub spot: MicroDollars,
    /// Credits for missed firm time, when the work ended.
    pub credits: MicroDollars,
    /// Gas that was burnt, at the site's price, which may be negative.
    pub gas: MicroDollars,
    /// Starts of sets.
    pub set_starts: MicroDollars,
    /// Hours of sets.
    pub set_hours: MicroDollars,
    /// Wear of miners that were woken.
    pub wear: MicroDollars,
}

/// Energy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Energy {
    /// Miners above standby, with the modules' loss.
    pub mining: WattSeconds,
    /// Busy GPUs, with the modules' loss.
    pub ai: WattSeconds,
    /// Auxiliaries, idle servers, standby.
    pub base: WattSeconds,
    /// Load of the pads that is not ours.
    pub unmanaged: WattSeconds,
    /// Burnt in load banks, where the sets' minimum load was above all that.
    pub dumped: WattSeconds,
}

/// Gas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gas {
    /// What the wells sent.
    pub supplied: GasVolume,
    /// Burnt in sets.
    pub burnt: GasVolume,
    /// Flared.
    pub flared: GasVolume,
    /// What the buffers gained; negative where they were drawn down.
    pub stored: GasVolume,
}

/// Tenants' work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Orders that came.
    pub offered: u64,
    /// Work that was completed.
    pub completed: u64,
    /// Orders that were withdrawn after waiting too long, or that nobody took.
    pub withdrawn: u64,
    /// Runs that were stopped for work that is worth more.
    pub preempted: u64,
    /// Runs that the planner stopped because power fell short, with their work saved.
    pub power_stopped: u64,
    /// Runs that lost power without notice.
    pub cut_off: u64,
    /// GPU time that made progress and kept it.
    pub productive: GpuTime,
    /// Of that, work of orders with a price of their own.
    pub contracted: GpuTime,
    /// GPU time that was lost: progress since the last checkpoint, restarts after a stop, last saves.
    pub wasted: GpuTime,
    /// Time that firm work was up, summed over workloads.
    pub firm_up: Span,
    /// Time that firm work should have been up and was not.
    pub firm_missed: Span,
}

/// The plant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plant {
    /// Starts of sets.
    pub set_starts: u64,
    /// Sets that broke down while they carried load.
    pub trips: u64,
    /// Of those, how many took the whole island down.
    pub blackouts: u64,
    /// Steps in which an island was dark, whatever for.
    pub dark_steps: u64,
    /// Miner groups that were lowered within their dwell after they were raised.
    pub reversals: u64,
}

/// Plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plans {
    /// How many were made.
    pub made: u64,
    /// Of those, how many went through the check.
    pub checked: u64,
    /// Of those, how many it refused: the plan before stayed in force.
    pub refused: u64,
}

impl Money {
    /// Everything that AI earned, before credits.
    pub fn ai(&self) -> MicroDollars {
        self.firm + self.on_demand + self.spot
    }

    /// Everything that was earned, less credits.
    pub fn revenue(&self) -> MicroDollars {
        self.mining + self.ai() - self.credits
    }

    /// What it cost.
    pub fn costs(&self) -> MicroDollars {
        self.gas + self.set_starts + self.set_hours + self.wear
    }

    /// What is left.
    pub fn net(&self) -> MicroDollars {
        self.revenue() - self.costs()
    }

    /// The account of a tier.
    pub(crate) fn tier(&mut self, tier: Tier) -> &mut MicroDollars {
        match tier {
            Tier::Firm => &mut self.firm,
            Tier::OnDemand => &mut self.on_demand,
            Tier::Spot => &mut self.spot,
        }
    }
}

impl Energy {
    /// All of it: what the sets gave.
    pub fn generated(&self) -> WattSeconds {
        self.mining + self.ai + self.base + self.unmanaged + self.dumped
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.money += &other.money;
        self.energy += &other.energy;
        self.gas += &other.gas;
        self.service += &other.service;
        self.plant += &other.plant;
        self.plans += &other.plans;
        self.work += other.work;
    }
}

impl AddAssign<&Money> for Money {
    fn add_assign(&mut self, other: &Money) {
        let Money { mining, firm, on_demand, spot, credits, gas, set_starts, set_hours, wear } = other;
        self.mining += *mining;
        self.firm += *firm;
        self.on_demand += *on_demand;
        self.spot += *spot;
        self.credits += *credits;
        self.gas += *gas;
        self.set_starts += *set_starts;
        self.set_hours += *set_hours;
        self.wear += *wear;
    }
}

impl AddAssign<&Energy> for Energy {
    fn add_assign(&mut self, other: &Energy) {
        let Energy { mining, ai, base, unmanaged, dumped } = other;
        self.mining += *mining;
        self.ai += *ai;
        self.base += *base;
        self.unmanaged += *unmanaged;
        self.dumped += *dumped;
    }
}

impl AddAssign<&Gas> for Gas {
    fn add_assign(&mut self, other: &Gas) {
        let Gas { supplied, burnt, flared, stored } = other;
        self.supplied += *supplied;
        self.burnt += *burnt;
        self.flared += *flared;
        self.stored += *stored;
    }
}

impl AddAssign<&Service> for Service {
    fn add_assign(&mut self, other: &Service) {
        self.offered += other.offered;
        self.completed += other.completed;
        self.withdrawn += other.withdrawn;
        self.preempted += other.preempted;
        self.power_stopped += other.power_stopped;
        self.cut_off += other.cut_off;
        self.productive += other.productive;
        self.contracted += other.contracted;
        self.wasted += other.wasted;
        self.firm_up += other.firm_up;
        self.firm_missed += other.firm_missed;
    }
}

impl AddAssign<&Plant> for Plant {
    fn add_assign(&mut self, other: &Plant) {
        self.set_starts += other.set_starts;
        self.trips += other.trips;
        self.blackouts += other.blackouts;
        self.dark_steps += other.dark_steps;
        self.reversals += other.reversals;
    }
}

impl AddAssign<&Plans> for Plans {
    fn add_assign(&mut self, other: &Plans) {
        self.made += other.made;
        self.checked += other.checked;
        self.refused += other.refused;
    }
}
