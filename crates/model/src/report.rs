//! A report: what an agent says of its module, and the wired one of its site. Unknown readings are `None`, never zero.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::envelope::Fence;
use crate::id::{GensetId, MinerGroupId, ModuleId, PoolId, WorkloadId};
use crate::site::{Frequency, GasFlow, GasVolume};
use crate::time::{BootStamp, Span, Time};
use crate::unit::{Hashrate, MicroDollars, WattSeconds, Watts};
use crate::workload::GpuTime;

/// Telemetry older than this is stale: it still bounds what a module may draw, but nothing is raised on it.
pub const STALE_AFTER: Span = Span::secs(10);

/// What an agent says of its module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub module: ModuleId,
    /// Counts the reports of one agent process.
    pub sequence: u64,
    /// The agent's boot-time clock; an envelope that answers this report counts from here.
    pub stamp: BootStamp,
    /// The agent's wall clock, for people.
    pub at: Time,
    /// Draw at the module's meter.
    pub meter: Option<Watts>,
    /// The local switch.
    pub switch: Switch,
    /// Miner groups.
    pub groups: BTreeMap<MinerGroupId, GroupReport>,
    /// GPU pools.
    pub pools: BTreeMap<PoolId, PoolReport>,
    /// Workloads on the module.
    pub runs: BTreeMap<WorkloadId, RunReport>,
    /// The envelope the agent acts under.
    pub envelope: EnvelopeReport,
    /// The site, from the wired module only.
    pub site: Option<SiteReport>,
    /// What the agent found wrong, newest last, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
}

/// Most findings in one report.
pub const MAX_FINDINGS: usize = 16;

/// The local switch of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// The controller decides.
    Remote,
    /// A person on site decides; directives are kept but not followed.
    Local,
    /// Everything that can be off is off.
    Off,
    /// The emergency stop latched; a person must reset it.
    EmergencyStop,
}

/// One miner group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its feeder.
    pub feeder: FeederState,
    /// Miners awake or waking.
    pub awake: u32,
    /// Their operating point.
    pub point: u8,
    /// Draw at the feeder's meter.
    pub power: Option<Watts>,
    /// Hash rate as the devices claim it: the mean over the window of `verified`, or the last reading where claims do not cover it.
    pub claimed: Option<Hashrate>,
    /// Hash rate as verified shares prove it, times the group's scale.
    pub verified: Option<Verified>,
    /// Connections to the proxy.
    pub connections: u32,
}

/// State of a feeder breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeederState {
    /// Carries current.
    Closed,
    /// Was told to open or close and has not confirmed it.
    Moving,
    /// Open.
    Open,
}

/// An estimate of hash rate from verified shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The estimate.
    pub rate: Hashrate,
    /// Shares it rests on; its relative standard error is 1 ÷ √shares.
    pub shares: u64,
    /// The window it covers.
    pub window: Span,
}

/// One GPU pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Servers that answer.
    pub up: u32,
    /// Draw.
    pub power: Option<Watts>,
}

/// One workload on a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// Which start of it this is.
    pub incarnation: u64,
    /// Where it stands.
    pub phase: RunPhase,
    /// Progress from the start of the workload.
    pub progress: GpuTime,
    /// Progress that the last checkpoint holds.
    pub saved: GpuTime,
    /// GPU time for which it held GPUs in this incarnation.
    pub held: GpuTime,
}

/// Phases of a run on a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Being started; no progress yet.
    Starting,
    /// Makes progress.
    Running,
    /// Saves its last checkpoint.
    Stopping,
    /// Stopped; `saved` is what is left of it.
    Stopped,
    /// Its amount is done.
    Completed,
}

/// The envelope an agent acts under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeReport {
    /// Highest fence it has accepted.
    pub fence: Fence,
    /// Generation of the envelope it has persisted; 0 = none yet.
    pub generation: u64,
    /// Where it stands.
    pub state: EnvelopeState,
    /// The ceiling in force, as persisted.
    pub ceiling: Watts,
    /// Why it refused the last envelope it refused, if any since the last report.
    pub refused: Option<String>,
}

/// Where an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeState {
    /// The agent has none and draws the least it can.
    None,
    /// In force.
    Valid,
    /// Expired: the fallback programme is in force.
    Fallback,
}

/// What the wired module says of its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The island's frequency.
    pub frequency: Option<Frequency>,
    /// Gas that arrives.
    pub gas: Option<GasFlow>,
    /// Gas in the buffer.
    pub buffer: Option<GasVolume>,
    /// Gas that is flared.
    pub flared: Option<GasFlow>,
    /// Draw of all loads of the island; what storage takes or delivers, and what is imported, stands apart.
    pub load: Option<Watts>,
    /// Draw of the load we do not manage.
    pub unmanaged: Option<Watts>,
    /// The sets.
    pub gensets: BTreeMap<GensetId, GensetReport>,
    /// Storage, where there is one and its inverter answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageReport>,
    /// The grid tie, where there is one and its converter answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<TieReport>,
}

/// Battery storage as its inverter tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageReport {
    /// What it delivers; negative while it charges.
    pub power: Option<Watts>,
    /// What it still delivers until it is empty.
    pub held: Option<WattSeconds>,
    /// Whether it is on the bus and follows commands. A tripped one waits for a person.
    pub ready: bool,
}

/// A grid tie as its converter and its meter tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TieReport {
    /// What it imports.
    pub power: Option<Watts>,
    /// What its meter has counted since it was installed.
    pub register: Option<WattSeconds>,
    /// Price of a megawatt-hour as the grid's signal now says; `None` = no signal, and then the configured one holds.
    pub price: Option<MicroDollars>,
    /// Whether the grid is there and it follows commands.
    pub ready: bool,
}

/// One generator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GensetReport {
    /// Where it stands.
    pub state: GensetState,
    /// What it delivers.
    pub power: Option<Watts>,
    /// Time in this state.
    pub for_span: Span,
}

/// States of a generator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GensetState {
    /// Stopped and available.
    Off,
    /// Cranking, synchronising or warming.
    Starting,
    /// Carries load.
    Online,
    /// Unloads before it stops.
    Stopping,
    /// Tripped or out of service; a person must reset it.
    Tripped,
}

/// Something that is wrong, with the place and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// A stable code, e.g. `hashrate-unproven`.
    pub code: String,
    /// What it is about, e.g. `module m1 group a`.
    pub subject: String,
    /// What was seen, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}", self.subject, self.code, self.message)
    }
}

impl Verified {
    /// The relative standard error; infinite without shares.
    pub fn relative_error(&self) -> f64 {
        1.0 / (self.shares as f64).sqrt()
    }

    /// The rates between which the true one lies with 95 % confidence, shares being found as a Poisson process finds them. `None`
    /// without shares: then nothing says what one is worth.
    pub fn interval(&self) -> Option<(Hashrate, Hashrate)> {
        let shares = self.shares as f64;
        let (least, most) = poisson_interval(self.shares)?;
        // In millionths, so that the last digits do not depend on a machine's way with floats.
        let scaled = |expected: f64| self.rate.fraction((expected / shares * 1e6).round() as i64, 1_000_000);
        Some((scaled(least), scaled(most)))
    }
}

impl SiteReport {
    /// The sets that carry load.
    pub fn online(&self) -> impl Iterator<Item = &GensetId> {
        self.gensets.iter().filter(|(_, set)| set.state == GensetState::Online).map(|(id, _)| id)
    }
}

/// 97.5 % of a normal distribution lie below so many standard deviations.
const Z: f64 = 1.959_964;

/// The means of a Poisson process of which so many events are not too many and not too few, at 95 %; `None` for none. Byar's
/// approximation of the exact bounds (Rothman and Boice, 1979), within 2 % of the exact from 5 events on.
fn poisson_interval(events: u64) -> Option<(f64, f64)> {
    let bound = |n: f64, z: f64| {
        let root = 1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt());
        n * root * root * root
    };
    (events > 0).then(|| (bound(events as f64, -Z).max(0.0), bound(events as f64 + 1.0, Z)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_poisson_interval_is_near_the_exact_one() {
        // Exact bounds are quantiles of the chi-squared distribution, from published tables.
        let check = |events: u64, exact: (f64, f64), within: f64| {
            let (least, most) = poisson_interval(events).unwrap();
            assert!((least / exact.0 - 1.0).abs() < within, "{events}: {least}");
            assert!((most / exact.1 - 1.0).abs() < within, "{events}: {most}");
        };
        check(1, (0.025_3, 5.571_6), 0.5);
        check(5, (1.623_5, 11.668_3), 0.02);
        check(10, (4.795_4, 18.390_4), 0.002);
        check(100, (81.363_9, 121.627), 0.000_2);
        assert_eq!(poisson_interval(0), None);
    }

    #[test]
    fn a_rate_scales_with_its_shares() {
        let verified = |shares| Verified { rate: Hashrate::tera(100), shares, window: Span::minutes(5) };
        let (least, most) = verified(100).interval().unwrap();
        assert_eq!((least.get() / 1_000_000_000, most.get() / 1_000_000_000), (81_362, 121_627));
        assert_eq!(verified(0).interval(), None);
    }
}
