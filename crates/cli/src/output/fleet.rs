//! The fleet at a glance: what `flareshift status` prints and the live table of `flareshift dev` is drawn from.
//!
//! Read next: [`super::site`] and [`super::module`] for its rows.

use api::common;
use api::convert::field::{optional_span, optional_time};
use api::operator as wire;
use model::shell::sums;
use serde::Serialize;

use super::decision::{self, Decision, Finding, all, reason};
use super::show::{self, maybe, money, money_per_hour, span, watts, word};
use super::table::{pairs, titled};
use super::{View, module, read, site};

/// The whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// The controller's clock; simulated time where the plant is simulated.
    pub at: Option<String>,
    /// Who leads.
    pub leadership: Leadership,
    /// The plan in force.
    pub plan: Option<PlanInForce>,
    /// The sites.
    pub sites: Vec<site::Status>,
    /// The modules.
    pub modules: Vec<module::Status>,
    /// Workloads by phase and reason.
    pub workloads: Vec<WorkloadCount>,
    /// What is earned now.
    pub revenue: Revenue,
    /// Shares since the ledger began, by end.
    pub shares: Vec<ShareCount>,
    /// What mining pays.
    pub market: Option<Market>,
    /// The latest decisions, newest first.
    pub decisions: Vec<Decision>,
    /// What is wrong with the fleet as a whole.
    pub findings: Vec<Finding>,
    /// How far the archive of this controller's ledger is; nothing is said where it keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// How far the archive of a controller's ledger is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// Where to.
    pub place: String,
    /// Segments that wait.
    pub waiting_segments: u64,
    /// The module furthest behind.
    pub behind: Option<Behind>,
    /// When all that was there was last archived.
    pub archived_at: Option<String>,
    /// Modules that are not archived further.
    pub held_up_modules: u64,
    /// What fails.
    pub error: Option<String>,
    /// When it failed.
    pub failed_at: Option<String>,
}

/// A module whose segments wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// Which.
    pub module: String,
    /// Its last segment that is archived.
    pub archived_sequence: u64,
    /// Its last segment that is kept.
    pub kept_sequence: u64,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Leadership {
    /// Raised by every restore of the store.
    pub epoch: Option<u64>,
    /// The create revision of the leader's key.
    pub leader: Option<u64>,
    /// The leader's address.
    pub address: Option<String>,
    /// The controller that answers is the leader.
    pub is_me: bool,
    /// Since when it leads.
    pub since: Option<String>,
}

/// The plan in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanInForce {
    /// Its number.
    pub generation: u64,
    /// When its input was taken.
    pub made: Option<String>,
    /// Expected money over the horizon.
    pub worth_micro_dollars: i64,
    /// How long the planner took for it.
    pub took_milliseconds: Option<i64>,
    /// Plans refused by their check since the controller started.
    pub refused: u64,
}

/// Load by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Busy GPUs, of all tiers.
    pub ai_watts: i64,
    /// Of these, busy GPUs of firm workloads.
    pub firm_ai_watts: i64,
    /// Miners awake.
    pub mining_watts: i64,
    /// Servers without work and miners asleep.
    pub idle_watts: i64,
    /// Fans, pumps, controls and distribution loss.
    pub auxiliary_watts: i64,
    /// Load that Flareshift does not manage.
    pub unmanaged_watts: i64,
    /// Kept back for modules that are out of touch.
    pub reserved_watts: i64,
}

/// What is earned now, by the hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Revenue {
    /// By contracts of the workloads that hold GPUs.
    pub ai_micro_dollars_per_hour: i64,
    /// By verified hash rate.
    pub mining_micro_dollars_per_hour: i64,
}

/// Workloads of one phase and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkloadCount {
    /// The phase.
    pub phase: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// How many.
    pub count: u64,
    /// GPUs they ask for, together.
    pub gpus: u64,
    /// Kilowatts of powered shell they ask for, together.
    pub kilowatts: u64,
}

/// Shares of one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareCount {
    /// The end.
    pub end: Option<String>,
    /// The code or the pool's words for a rejected or refused share.
    pub detail: Option<String>,
    /// How many.
    pub count: u64,
    /// Their expected hashes, times scale, as a decimal number.
    pub nominal_work_hashes: String,
}

/// What mining pays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Market {
    /// Price of one bitcoin.
    pub price_micro_dollars: i64,
    /// Network difficulty.
    pub difficulty: Option<f64>,
    /// Block subsidy.
    pub subsidy_satoshi: i64,
    /// Fees as a share of the subsidy.
    pub fees_ppm: u32,
    /// The pool's fee.
    pub pool_fee_ppm: u32,
}

impl Load {
    /// The uses that are not zero, AI and mining always: `AI 1.20 MW (firm 800 kW), mining 350 kW, idle 12.0 kW`.
    pub fn show(&self) -> String {
        let firm = match self.firm_ai_watts {
            0 => String::new(),
            firm => format!(" (firm {})", watts(firm)),
        };
        let rest = [
            ("idle", self.idle_watts),
            ("auxiliary", self.auxiliary_watts),
            ("unmanaged", self.unmanaged_watts),
            ("reserved", self.reserved_watts),
        ];
        let rest = rest.iter().filter(|(_, part)| *part != 0);
        let rest: String = rest.map(|(name, part)| format!(", {name} {}", watts(*part))).collect();
        format!("AI {}{firm}, mining {}{rest}", watts(self.ai_watts), watts(self.mining_watts))
    }
}

impl Revenue {
    /// Both sources together, in micro-dollars an hour.
    pub fn total(&self) -> i64 {
        self.ai_micro_dollars_per_hour.saturating_add(self.mining_micro_dollars_per_hour)
    }

    /// `$14.20/h (AI $12.00, mining $2.20)`.
    pub fn show(&self) -> String {
        format!(
            "{} (AI {}, mining {})",
            money_per_hour(self.total()),
            money(self.ai_micro_dollars_per_hour),
            money(self.mining_micro_dollars_per_hour)
        )
    }
}

impl Leadership {
    /// The leader in a few words.
    pub fn show(&self) -> String {
        let at = self.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        match (self.is_me, self.leader) {
            (true, leader) => format!(
                "this controller{at}, epoch {}, term {}",
                maybe(self.epoch, |epoch| epoch.to_string()),
                maybe(leader, |leader| leader.to_string())
            ),
            (false, _) if self.address.is_some() => format!("another controller{at}"),
            (false, _) => "nobody that this controller knows of".to_owned(),
        }
    }
}

impl PlanInForce {
    fn show(&self) -> String {
        let took =
            self.took_milliseconds.map(|took| format!(", planned in {}", span(took))).unwrap_or_default();
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(", {refused} refused by the check so far"),
        };
        format!("{} worth {}{took}{refused}", self.generation, money(self.worth_micro_dollars))
    }
}

impl Market {
    fn show(&self) -> String {
        let difficulty = maybe(self.difficulty, |difficulty| format!("{:.2} T", difficulty / 1e12));
        format!("{} a bitcoin, difficulty {difficulty}", money(self.price_micro_dollars))
    }
}

impl Archive {
    /// `s3://b/p; 12 segments wait, m1 at 90 of 102; last whole 2026-01-01 00:00:00Z`.
    fn show(&self) -> String {
        let behind = |behind: &Behind| {
            format!(", {} at {} of {}", behind.module, behind.archived_sequence, behind.kept_sequence)
        };
        let waiting = match self.waiting_segments {
            0 => "nothing waits".to_owned(),
            1 => "1 segment waits".to_owned(),
            waiting => format!("{waiting} segments wait"),
        };
        let behind = self.behind.as_ref().map(behind).unwrap_or_default();
        let whole = match &self.archived_at {
            Some(_) => format!("; last whole {}", show::moment(&self.archived_at)),
            None => String::new(),
        };
        let held_up = match self.held_up_modules {
            0 => String::new(),
            held_up => format!("; {held_up} modules held up by a segment that cannot be read"),
        };
        let error =
            self.error.as_ref().map(|error| format!("; failed {}: {error}", show::moment(&self.failed_at)));
        format!("{}; {waiting}{behind}{whole}{held_up}{}", self.place, error.unwrap_or_default())
    }
}

impl View for Fleet {
    fn table(&self) -> String {
        let count = |count: &WorkloadCount| {
            let gpus = match (count.gpus, count.kilowatts) {
                (gpus, 0) => gpus.to_string(),
                (gpus, kilowatts) => sums(gpus, kilowatts),
            };
            vec![word(&count.phase), word(&count.reason), count.count.to_string(), gpus]
        };
        let share = |share: &ShareCount| {
            vec![word(&share.end), share.detail.clone().unwrap_or_default(), share.count.to_string()]
        };
        pairs(&[
            ("At", show::moment(&self.at)),
            ("Leader", self.leadership.show()),
            ("Plan", self.plan.as_ref().map_or_else(|| "none yet".to_owned(), PlanInForce::show)),
            ("Revenue", self.revenue.show()),
            ("Market", maybe(self.market.as_ref(), Market::show)),
            ("Archive", self.archive.as_ref().map(Archive::show).unwrap_or_default()),
        ]) + &site::table("Sites", &self.sites)
            + &module::table("Modules", &self.modules)
            + &titled(
                "Workloads",
                &["PHASE", "REASON", ">COUNT", ">GPUS"],
                self.workloads.iter().map(count).collect(),
            )
            + &titled("Shares", &["END", "DETAIL", ">COUNT"], self.shares.iter().map(share).collect())
            + &decision::table("Latest decisions", &self.decisions)
            + &decision::findings("Findings", &self.findings)
    }
}

impl From<wire::FleetStatus> for Fleet {
    fn from(status: wire::FleetStatus) -> Self {
        Self {
            at: read::moment(optional_time(status.at, "at")),
            leadership: status.leadership.map(Leadership::from).unwrap_or_default(),
            plan: status.plan.map(PlanInForce::from),
            sites: all(status.sites),
            modules: all(status.modules),
            workloads: all(status.workloads),
            revenue: Revenue::from(status.revenue.unwrap_or_default()),
            shares: all(status.shares),
            market: status.market.map(Market::from),
            decisions: all(status.decisions),
            findings: all(status.findings),
            archive: status.archive.map(Archive::from),
        }
    }
}

impl From<wire::ArchiveStatus> for Archive {
    fn from(archive: wire::ArchiveStatus) -> Self {
        let behind = |behind: wire::ModuleBehind| Behind {
            module: behind.module,
            archived_sequence: behind.archived_sequence,
            kept_sequence: behind.kept_sequence,
        };
        Self {
            place: archive.place,
            waiting_segments: archive.waiting_segments,
            behind: archive.behind.map(behind),
            archived_at: read::moment(optional_time(archive.archived_at, "archived_at")),
            held_up_modules: archive.held_up_modules,
            error: read::text(archive.error),
            failed_at: read::moment(optional_time(archive.failed_at, "failed_at")),
        }
    }
}

impl From<wire::Leadership> for Leadership {
    fn from(leadership: wire::Leadership) -> Self {
        let fence = leadership.fence;
        Self {
            epoch: fence.as_ref().map(|fence| fence.epoch),
            leader: fence.as_ref().map(|fence| fence.leader),
            address: read::text(leadership.address),
            is_me: leadership.is_me,
            since: read::moment(optional_time(leadership.since, "since")),
        }
    }
}

impl From<wire::PlanInForce> for PlanInForce {
    fn from(plan: wire::PlanInForce) -> Self {
        Self {
            generation: plan.generation,
            made: read::moment(optional_time(plan.made, "made")),
            worth_micro_dollars: plan.worth_micro_dollars,
            took_milliseconds: read::millis(optional_span(plan.took, "took")),
            refused: plan.refused,
        }
    }
}

impl From<wire::LoadByUse> for Load {
    fn from(load: wire::LoadByUse) -> Self {
        Self {
            ai_watts: load.ai_watts,
            firm_ai_watts: load.firm_ai_watts,
            mining_watts: load.mining_watts,
            idle_watts: load.idle_watts,
            auxiliary_watts: load.auxiliary_watts,
            unmanaged_watts: load.unmanaged_watts,
            reserved_watts: load.reserved_watts,
        }
    }
}

impl From<wire::Revenue> for Revenue {
    fn from(revenue: wire::Revenue) -> Self {
        let wire::Revenue { ai_micro_dollars_per_hour, mining_micro_dollars_per_hour } = revenue;
        Self { ai_micro_dollars_per_hour, mining_micro_dollars_per_hour }
    }
}

impl From<wire::WorkloadCount> for WorkloadCount {
    fn from(count: wire::WorkloadCount) -> Self {
        let phase = common::WorkloadPhase::try_from(count.phase).map(|phase| phase.as_str_name());
        Self {
            phase: read::word(phase, "WORKLOAD_PHASE_"),
            reason: reason(count.reason),
            count: count.count,
            gpus: count.gpus,
            kilowatts: count.kilowatts,
        }
    }
}

impl From<wire::ShareCount> for ShareCount {
    fn from(share: wire::ShareCount) -> Self {
        let end = share.end.unwrap_or_default();
        let kind = common::ShareEndKind::try_from(end.kind).map(|kind| kind.as_str_name());
        Self {
            end: read::word(kind, "SHARE_END_KIND_"),
            detail: read::text(end.detail),
            count: share.count,
            nominal_work_hashes: share.nominal_work_hashes,
        }
    }
}

impl From<common::Market> for Market {
    fn from(market: common::Market) -> Self {
        Self {
            price_micro_dollars: market.price_micro_dollars,
            difficulty: market.difficulty.is_finite().then_some(market.difficulty),
            subsidy_satoshi: market.subsidy_satoshi,
            fees_ppm: market.fees_ppm,
            pool_fee_ppm: market.pool_fee_ppm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_shows_ai_and_mining_always_and_the_rest_where_there_is_some() {
        assert_eq!(Load::default().show(), "AI 0 W, mining 0 W");
        let load = Load { ai_watts: 12_000, firm_ai_watts: 8_000, reserved_watts: 500, ..Load::default() };
        assert_eq!(load.show(), "AI 12.0 kW (firm 8.00 kW), mining 0 W, reserved 500 W");
    }

    #[test]
    fn the_leader_is_named_as_far_as_it_is_known() {
        let check = |leadership: Leadership, expected: &str| assert_eq!(leadership.show(), expected);
        let address = Some("http://10.0.0.2:7600".to_owned());
        check(Leadership::default(), "nobody that this controller knows of");
        check(
            Leadership { address: address.clone(), ..Default::default() },
            "another controller at http://10.0.0.2:7600",
        );
        let mine = Leadership { address, is_me: true, epoch: Some(1), leader: Some(7), since: None };
        check(mine, "this controller at http://10.0.0.2:7600, epoch 1, term 7");
    }
}
