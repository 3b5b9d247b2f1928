//! Modules: the list, one module, and the status that fleet and watch show too.

use api::common;
use api::convert::field::{optional_span, optional_time};
use api::operator as wire;
use serde::Serialize;

use super::decision::{self, Finding, all};
use super::fleet::{Load, Revenue};
use super::show::{self, hashes, maybe, span, watts, word, yes_no};
use super::table::{list, pairs, titled};
use super::units::{Units, unit_time};
use super::{View, read};

/// What is of one module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its id.
    pub module: String,
    /// Its site.
    pub site: String,
    /// Its agent reads the gensets.
    pub wired: bool,
    /// `online`, `stale`, `lost` or `never`.
    pub link: Option<String>,
    /// How old its last report is.
    pub age_milliseconds: Option<i64>,
    /// Since when it is out of touch.
    pub lost_since: Option<String>,
    /// The local switch: `remote`, `local`, `off` or `emergency_stop`.
    pub switch: Option<String>,
    /// No new run is placed on it.
    pub cordoned: bool,
    /// Its runs are stopped with a checkpoint.
    pub draining: bool,
    /// What it may draw.
    pub envelope: Option<Envelope>,
    /// Draw at its meter.
    pub meter_watts: Option<i64>,
    /// Most it may ever draw.
    pub limit_watts: i64,
    /// Its load, by use.
    pub load: Load,
    /// Hash rate as its devices claim it.
    pub claimed_hashes_per_second: Option<i64>,
    /// Hash rate as verified shares prove it.
    pub verified: Option<Verified>,
    /// Its miner groups.
    pub groups: Vec<Group>,
    /// Its GPU pools.
    pub pools: Vec<Pool>,
    /// The workloads on it.
    pub runs: Vec<Run>,
    /// What its agent found wrong, newest last.
    pub findings: Vec<Finding>,
    /// What it earns now.
    pub revenue: Revenue,
    /// Last durable segment of its ledger; 0 = none.
    pub ledger_sequence: u64,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// Where miners reach its proxy.
    pub stratum_address: Option<String>,
    /// What its agent claimed of accepted shares, and proved.
    pub share_audit: Option<ShareAudit>,
}

/// Accepted shares as claimed and proven, since this controller began to audit the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareAudit {
    /// Shares of blocks that passed their audit.
    pub proven_shares: u64,
    /// Their work in hashes, as a decimal number.
    pub proven_work_hashes: String,
    /// Shares claimed in blocks that are not judged yet.
    pub claimed_shares: u64,
    /// Shares that the agent could not show any more.
    pub unproven_shares: u64,
    /// Shares of claims that failed.
    pub failed_shares: u64,
    /// Shares that the pool accepted by the module's ledger.
    pub accepted_shares: u64,
    /// Shares that were drawn and hashed again.
    pub samples: u64,
}

/// What a module may draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Envelope {
    /// Generation sent last.
    pub generation: u64,
    /// Generation that the agent has persisted; 0 = none.
    pub acknowledged_generation: u64,
    /// `none`, `valid` or `fallback`, by the agent's report.
    pub state: Option<String>,
    /// Most it may draw.
    pub ceiling_watts: i64,
    /// Of that, what firm AI needs.
    pub ai_floor_watts: i64,
    /// Most it may draw once the envelope has expired.
    pub fallback_watts: i64,
    /// What still counts as granted.
    pub granted_watts: i64,
    /// When it expires unless it is renewed; negative when it has.
    pub expires_in_milliseconds: Option<i64>,
    /// Why the agent refused an envelope.
    pub refused: Option<String>,
}

/// An estimate of hash rate from verified shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// The estimate.
    pub rate_hashes_per_second: i64,
    /// Shares it rests on.
    pub shares: u64,
    /// Its relative standard error in percent, 100 divided by the root of the shares.
    pub error_percent: Option<f64>,
    /// With 95 % confidence the true rate is at least this; `null` without shares.
    pub least_hashes_per_second: Option<i64>,
    /// And at most this.
    pub most_hashes_per_second: Option<i64>,
    /// The window it covers.
    pub window_milliseconds: Option<i64>,
}

/// One miner group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its id.
    pub group: String,
    /// The miners' model.
    pub model: String,
    /// How many there are.
    pub count: u32,
    /// Miners awake or waking.
    pub awake: Option<u32>,
    /// Miners that shall be awake by the plan in force.
    pub target_awake: Option<u32>,
    /// Their operating point.
    pub point: Option<u32>,
    /// Its feeder: `closed`, `moving` or `open`.
    pub feeder: Option<String>,
    /// Draw at the feeder's meter.
    pub power_watts: Option<i64>,
    /// Hash rate as the devices claim it.
    pub claimed_hashes_per_second: Option<i64>,
    /// Hash rate as verified shares prove it.
    pub verified: Option<Verified>,
    /// Connections to the proxy.
    pub connections: Option<u32>,
    /// Nominal hashes for each hash really done; 1 for real miners.
    pub scale: u64,
}

/// One GPU pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Its id.
    pub pool: String,
    /// The GPU's type, or `kilowatt`.
    pub gpu: String,
    /// GPUs in it, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// GPUs held by workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_gpus: Option<u32>,
    /// Kilowatts held by workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_kilowatts: Option<u32>,
    /// Servers in it.
    pub servers: u32,
    /// Servers that answer.
    pub up: Option<u32>,
    /// Draw.
    pub power_watts: Option<i64>,
    /// Power cap of the whole pool.
    pub cap_watts: Option<i64>,
}

/// One workload on a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its id.
    pub workload: String,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Where it stands.
    pub phase: Option<String>,
    /// GPUs it holds, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// Progress from the start of the workload.
    pub progress_gpu_milliseconds: i64,
}

/// One module: what was configured and what is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Described {
    /// Most heat its cooling removes.
    pub cooling_watts: i64,
    /// Fans, pumps, controls.
    pub auxiliary_watts: i64,
    /// Distribution loss in thousandths.
    pub loss_permille: u32,
    /// Names this version of it.
    pub etag: String,
    /// What is.
    pub status: Status,
}

/// All modules, or those of a site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct List {
    /// In order of id.
    pub modules: Vec<Status>,
}

impl Status {
    /// `cordoned`, `draining`, the local switch where it is not remote; empty when nothing is special.
    pub fn notes(&self) -> String {
        let switch = self.switch.clone().filter(|switch| switch != "remote").map(|s| format!("switch {s}"));
        let asked = match (self.draining, self.cordoned) {
            (true, _) => Some("draining".to_owned()),
            (false, true) => Some("cordoned".to_owned()),
            (false, false) => None,
        };
        let found = (!self.findings.is_empty()).then(|| show::count(self.findings.len(), "finding"));
        [asked, switch, found].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn row(&self) -> Vec<String> {
        let envelope = self.envelope.as_ref();
        // Of a module out of touch nobody knows what it draws; what it may draw is reserved.
        let heard = matches!(self.link.as_deref(), Some("online" | "stale")).then_some(&self.load);
        vec![
            self.module.clone(),
            self.site.clone(),
            word(&self.link),
            maybe(self.age_milliseconds, span),
            maybe(self.meter_watts, watts),
            maybe(envelope, |envelope| watts(envelope.ceiling_watts)),
            maybe(envelope, Envelope::standing),
            maybe(heard, |load| watts(load.ai_watts)),
            maybe(heard, |load| watts(load.mining_watts)),
            maybe(self.claimed_hashes_per_second, hashes),
            maybe(self.verified.as_ref(), Verified::show),
            self.notes(),
        ]
    }
}

impl Envelope {
    /// State, generation and time to expiry: `valid #17, 42s left`.
    pub fn standing(&self) -> String {
        let left = match self.expires_in_milliseconds {
            Some(left) if left < 0 => format!(", expired {} ago", span(left.saturating_neg())),
            Some(left) => format!(", {} left", span(left)),
            None => String::new(),
        };
        format!("{} #{}{left}", word(&self.state), self.generation)
    }
}

impl ShareAudit {
    /// `1200 proven of 1260 accepted, 60 claimed; 320 drawn`, and what is wrong where something is.
    pub fn show(&self) -> String {
        let mut text = format!(
            "{} proven of {} accepted, {} claimed; {} drawn",
            self.proven_shares, self.accepted_shares, self.claimed_shares, self.samples
        );
        for (shares, what) in [(self.unproven_shares, "lost unproven"), (self.failed_shares, "FAILED")] {
            if shares > 0 {
                text += &format!(", {shares} {what}");
            }
        }
        text
    }
}

impl Verified {
    /// `39.8 PH/s ±3.2%`.
    pub fn show(&self) -> String {
        let error = self.error_percent.map(|error| format!(" ±{error:.1}%")).unwrap_or_default();
        hashes(self.rate_hashes_per_second) + &error
    }

    /// `39.8 PH/s (37.4 PH/s to 42.3 PH/s at 95%)`.
    pub fn show_interval(&self) -> String {
        let rate = hashes(self.rate_hashes_per_second);
        match (self.least_hashes_per_second, self.most_hashes_per_second) {
            (Some(least), Some(most)) => format!("{rate} ({} to {} at 95%)", hashes(least), hashes(most)),
            _ => rate,
        }
    }
}

impl Described {
    fn head(&self) -> String {
        let status = &self.status;
        let envelope = status.envelope.as_ref();
        let envelope_watts = envelope.map(|envelope| {
            format!(
                "{} (AI floor {}, after expiry {}, counted {})",
                watts(envelope.ceiling_watts),
                watts(envelope.ai_floor_watts),
                watts(envelope.fallback_watts),
                watts(envelope.granted_watts)
            )
        });
        let age = status.age_milliseconds.map(|age| format!(", last report {} ago", span(age)));
        let lost =
            status.lost_since.as_ref().map(|_| format!(", lost since {}", show::moment(&status.lost_since)));
        pairs(&[
            ("Module", status.module.clone()),
            ("Site", status.site.clone()),
            ("Link", word(&status.link) + &age.unwrap_or_default() + &lost.unwrap_or_default()),
            ("Agent", word(&status.agent_version)),
            ("Wired", yes_no(status.wired)),
            ("Switch", word(&status.switch)),
            ("Cordoned", yes_no(status.cordoned)),
            ("Draining", yes_no(status.draining)),
            ("Envelope", maybe(envelope, Envelope::standing)),
            ("Ceiling", maybe(envelope_watts, |text| text)),
            ("Refused", envelope.and_then(|envelope| envelope.refused.clone()).unwrap_or_default()),
            (
                "Draw",
                format!("{} of at most {}", maybe(status.meter_watts, watts), watts(status.limit_watts)),
            ),
            ("Cooling", watts(self.cooling_watts)),
            ("Auxiliary", format!("{}, loss {} permille", watts(self.auxiliary_watts), self.loss_permille)),
            ("Load", status.load.show()),
            ("Hash rate", hash_rates(status)),
            ("Revenue", status.revenue.show()),
            ("Ledger", format!("durable to segment {}", status.ledger_sequence)),
            ("Shares", status.share_audit.as_ref().map(ShareAudit::show).unwrap_or_default()),
            ("Stratum", status.stratum_address.clone().unwrap_or_default()),
            ("Etag", self.etag.clone()),
        ])
    }
}

fn hash_rates(status: &Status) -> String {
    let verified = maybe(status.verified.as_ref(), Verified::show_interval);
    format!("{verified} verified, {} claimed", maybe(status.claimed_hashes_per_second, hashes))
}

impl View for Described {
    fn table(&self) -> String {
        let status = &self.status;
        let count = |value: Option<u32>| maybe(value, |value| value.to_string());
        let group = |group: &Group| {
            vec![
                group.group.clone(),
                group.model.clone(),
                format!("{}/{}", count(group.awake), group.count),
                count(group.target_awake),
                count(group.point),
                word(&group.feeder),
                maybe(group.power_watts, watts),
                maybe(group.claimed_hashes_per_second, hashes),
                maybe(group.verified.as_ref(), Verified::show),
                count(group.connections),
            ]
        };
        let pool = |pool: &Pool| {
            vec![
                pool.pool.clone(),
                pool.gpu.clone(),
                pool.busy(),
                format!("{}/{}", count(pool.up), pool.servers),
                maybe(pool.power_watts, watts),
                maybe(pool.cap_watts, watts),
            ]
        };
        let run = |run: &Run| {
            vec![
                run.workload.clone(),
                word(&run.tenant),
                word(&run.phase),
                run.units.cell(),
                unit_time(run.kind(), run.progress_gpu_milliseconds),
                run.incarnation.to_string(),
            ]
        };
        const GROUP: [&str; 10] = [
            "GROUP",
            "MODEL",
            ">AWAKE",
            ">TARGET",
            ">POINT",
            "FEEDER",
            ">DRAW",
            ">CLAIMED",
            ">VERIFIED",
            ">CONN",
        ];
        const POOL: [&str; 6] = ["POOL", "GPU", ">BUSY", ">SERVERS", ">DRAW", ">CAP"];
        const RUN: [&str; 6] = ["WORKLOAD", "TENANT", "PHASE", ">GPUS", ">PROGRESS", ">START"];
        self.head()
            + &titled("Miners", &GROUP, status.groups.iter().map(group).collect())
            + &titled("GPU pools", &POOL, status.pools.iter().map(pool).collect())
            + &titled("Runs", &RUN, status.runs.iter().map(run).collect())
            + &decision::findings("Findings", &status.findings)
    }
}

impl View for List {
    fn table(&self) -> String {
        list(&HEADERS, self.modules.iter().map(Status::row).collect(), "No modules.")
    }
}

/// The columns of [`rows`].
const HEADERS: [&str; 12] = [
    "MODULE",
    "SITE",
    "LINK",
    ">AGE",
    ">DRAW",
    ">CEILING",
    "ENVELOPE",
    ">AI",
    ">MINING",
    ">CLAIMED",
    ">VERIFIED",
    "NOTES",
];

/// Modules in a table, under a title.
pub fn table(title: &str, modules: &[Status]) -> String {
    titled(title, &HEADERS, modules.iter().map(Status::row).collect())
}

impl From<wire::ModuleStatus> for Status {
    fn from(status: wire::ModuleStatus) -> Self {
        Self {
            module: status.module,
            site: status.site,
            wired: status.wired,
            link: read::word(wire::Link::try_from(status.link).map(|link| link.as_str_name()), "LINK_"),
            age_milliseconds: read::millis(optional_span(status.age, "age")),
            lost_since: read::moment(optional_time(status.lost_since, "lost_since")),
            switch: read::word(common::Switch::try_from(status.switch).map(|s| s.as_str_name()), "SWITCH_"),
            cordoned: status.cordoned,
            draining: status.draining,
            envelope: status.envelope.map(Envelope::from),
            meter_watts: status.meter_watts,
            limit_watts: status.limit_watts,
            load: Load::from(status.load.unwrap_or_default()),
            claimed_hashes_per_second: status.claimed_hashes_per_second,
            verified: status.verified.map(Verified::from),
            groups: all(status.groups),
            pools: all(status.pools),
            runs: all(status.runs),
            findings: all(status.findings),
            revenue: Revenue::from(status.revenue.unwrap_or_default()),
            ledger_sequence: status.ledger_sequence,
            agent_version: read::text(status.agent_version),
            stratum_address: status.stratum_address,
            share_audit: status.share_audit.map(ShareAudit::from),
        }
    }
}

impl From<wire::ShareAudit> for ShareAudit {
    fn from(audit: wire::ShareAudit) -> Self {
        Self {
            proven_shares: audit.proven_shares,
            proven_work_hashes: audit.proven_work_hashes,
            claimed_shares: audit.claimed_shares,
            unproven_shares: audit.unproven_shares,
            failed_shares: audit.failed_shares,
            accepted_shares: audit.accepted_shares,
            samples: audit.samples,
        }
    }
}

impl From<wire::EnvelopeStatus> for Envelope {
    fn from(envelope: wire::EnvelopeStatus) -> Self {
        let state = common::EnvelopeState::try_from(envelope.state).map(|state| state.as_str_name());
        Self {
            generation: envelope.generation,
            acknowledged_generation: envelope.acknowledged_generation,
            state: read::word(state, "ENVELOPE_STATE_"),
            ceiling_watts: envelope.ceiling_watts,
            ai_floor_watts: envelope.ai_floor_watts,
            fallback_watts: envelope.fallback_watts,
            granted_watts: envelope.granted_watts,
            expires_in_milliseconds: read::millis(optional_span(envelope.expires_in, "expires_in")),
            refused: envelope.refused,
        }
    }
}

impl From<common::Verified> for Verified {
    fn from(verified: common::Verified) -> Self {
        let error = (verified.shares > 0).then(|| 100.0 / (verified.shares as f64).sqrt());
        let interval = model::report::Verified::try_from(verified).ok().and_then(|known| known.interval());
        Self {
            rate_hashes_per_second: verified.rate_hashes_per_second,
            shares: verified.shares,
            error_percent: error.map(|error| (error * 100.0).round() / 100.0),
            least_hashes_per_second: interval.map(|(least, _)| least.get()),
            most_hashes_per_second: interval.map(|(_, most)| most.get()),
            window_milliseconds: read::millis(optional_span(verified.window, "window")),
        }
    }
}

impl From<wire::GroupStatus> for Group {
    fn from(group: wire::GroupStatus) -> Self {
        let feeder = common::FeederState::try_from(group.feeder).map(|state| state.as_str_name());
        Self {
            group: group.group,
            model: group.model,
            count: group.count,
            awake: group.awake,
            target_awake: group.target_awake,
            point: group.point,
            feeder: read::word(feeder, "FEEDER_STATE_"),
            power_watts: group.power_watts,
            claimed_hashes_per_second: group.claimed_hashes_per_second,
            verified: group.verified.map(Verified::from),
            connections: group.connections,
            scale: group.scale,
        }
    }
}

impl From<wire::PoolStatus> for Pool {
    fn from(pool: wire::PoolStatus) -> Self {
        let wire::PoolStatus { pool, gpu, gpus, busy_gpus, servers, up, power_watts, cap_watts } = pool;
        let busy = Units::of(&gpu, busy_gpus);
        let (busy_gpus, busy_kilowatts) = (busy.gpus, busy.kilowatts);
        let units = Units::of(&gpu, gpus);
        Self { pool, gpu, units, busy_gpus, busy_kilowatts, servers, up, power_watts, cap_watts }
    }
}

impl Pool {
    /// Held of all: `64/128`, `200/400 kW`.
    fn busy(&self) -> String {
        let busy = self.busy_gpus.or(self.busy_kilowatts).unwrap_or_default();
        format!("{busy}/{}", self.units.cell())
    }
}

impl Run {
    /// A type that is sold by what it holds.
    fn kind(&self) -> &'static str {
        self.units.kilowatts.map_or("", |_| model::shell::KILOWATT)
    }
}

impl From<wire::RunStatus> for Run {
    fn from(run: wire::RunStatus) -> Self {
        Self {
            workload: run.workload,
            tenant: read::text(run.tenant),
            incarnation: run.incarnation,
            phase: read::word(common::RunPhase::try_from(run.phase).map(|p| p.as_str_name()), "RUN_PHASE_"),
            units: Units::of(&run.gpu, run.gpus),
            progress_gpu_milliseconds: run.progress_gpu_milliseconds,
        }
    }
}

impl From<wire::Module> for Described {
    fn from(module: wire::Module) -> Self {
        let config = module.config.unwrap_or_default();
        Self {
            cooling_watts: config.cooling_watts,
            auxiliary_watts: config.auxiliary_watts,
            loss_permille: config.loss_permille,
            etag: module.etag,
            status: Status::from(module.status.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn notes_say_what_is_special() {
        let check = |cordoned: bool, draining: bool, switch: Option<&str>, expected: &str| {
            let mut status = Status::from(samples::module_status());
            status.findings.clear();
            let switch = switch.map(str::to_owned);
            assert_eq!(Status { cordoned, draining, switch, ..status }.notes(), expected);
        };
        check(false, false, Some("remote"), "");
        check(true, false, None, "cordoned");
        check(true, true, Some("local"), "draining, switch local");
    }

    #[test]
    fn an_expired_envelope_says_how_long_ago() {
        let envelope = Envelope::from(samples::envelope());
        assert_eq!(envelope.standing(), "valid #41, 42s left");
        let expired = Envelope { expires_in_milliseconds: Some(-3_000), state: None, ..envelope };
        assert_eq!(expired.standing(), "- #41, expired 3s ago");
    }

    #[test]
    fn an_audit_says_what_is_wrong_only_where_something_is() {
        let audit = ShareAudit::from(samples::share_audit());
        assert_eq!(audit.show(), "1200 proven of 1260 accepted, 60 claimed; 320 drawn");
        let bad = ShareAudit { unproven_shares: 5, failed_shares: 7, ..audit };
        assert!(bad.show().ends_with("320 drawn, 5 lost unproven, 7 FAILED"));
    }

    #[test]
    fn no_share_proves_no_error() {
        let verified =
            |shares| Verified::from(common::Verified { shares, ..samples::verified() }).error_percent;
        assert_eq!((verified(0), verified(400)), (None, Some(5.0)));
    }
}
