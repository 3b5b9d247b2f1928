//! Workloads: the list and one workload.

use api::common as wire;
use api::convert::field::{optional_span, optional_time};
use model::SoldBy;
use serde::Serialize;

use super::affinity::Affinity;
use super::decision::reason;
use super::quote::{Estimate, StartInterval, fine, level, of_million};
use super::show::{self, maybe, money, percent, span, word, yes_no};
use super::table::{list, pairs};
use super::units::{Units, unit_time};
use super::{View, read};

/// Columns of a list of workloads.
const HEADERS: [&str; 10] = [
    "WORKLOAD",
    "TENANT",
    "OFFERING",
    "TIER",
    ">GPUS",
    "PHASE",
    "REASON",
    "MODULE",
    ">PROGRESS",
    ">PREEMPTED",
];

/// A workload: what was asked and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its id.
    pub workload: String,
    /// Whose it is.
    pub tenant: String,
    /// When it was accepted.
    pub created: Option<String>,
    /// The offering it was bought under.
    pub offering: String,
    /// `firm`, `on-demand` or `spot`.
    pub tier: Option<String>,
    /// The GPU's type, or `kilowatt`.
    pub gpu: String,
    /// GPUs that run together, or kilowatts.
    #[serde(flatten)]
    pub units: Units<u32>,
    /// GPU time, or kilowatts times milliseconds, after which it is complete; `null` runs until it is cancelled.
    pub amount_gpu_milliseconds: Option<i64>,
    /// Price of a GPU-hour, or of a kilowatt for an hour, when it was bought.
    pub price_micro_dollars_per_gpu_hour: i64,
    /// Time between checkpoints.
    pub checkpoint_milliseconds: Option<i64>,
    /// Time to save a checkpoint.
    pub save_milliseconds: Option<i64>,
    /// Time from start until progress resumes.
    pub restart_milliseconds: Option<i64>,
    /// Where it may run, and beside whom; `null` = anywhere, beside anybody.
    pub affinity: Option<Affinity>,
    /// The tenant asked for its end.
    pub cancel: bool,
    /// Where it stands.
    pub phase: Option<String>,
    /// Why it stands there.
    pub reason: Option<String>,
    /// When the phase last changed.
    pub since: Option<String>,
    /// Where it runs or last ran.
    pub placement: Option<Placement>,
    /// Progress as last reported.
    pub progress_gpu_milliseconds: i64,
    /// Progress that the last checkpoint holds.
    pub saved_gpu_milliseconds: i64,
    /// GPU time for which it held GPUs.
    pub held_gpu_milliseconds: i64,
    /// How often it was stopped by choice.
    pub preemptions: u32,
    /// When it was last stopped by choice.
    pub preempted: Option<String>,
    /// What was promised when it was admitted.
    pub promise: Option<Promise>,
    /// What lies ahead of it; where one workload is asked for, once there is a plan.
    pub prospect: Option<Prospect>,
}

/// An availability that was promised, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Availability promised, in thousandths.
    pub level_permille: u32,
    /// Price of a GPU-hour at which it was promised.
    pub price_micro_dollars_per_gpu_hour: i64,
    /// When.
    pub given: Option<String>,
    /// Share of the term that was expected to be served; `null` where nobody asked the model.
    pub expected_ppm: Option<u64>,
    /// The least that a GPU-hour had to earn then.
    pub least_price_micro_dollars_per_gpu_hour: Option<i64>,
    /// Who gave it without asking the model.
    pub overridden_by: Option<String>,
    /// Why.
    pub overridden_why: Option<String>,
}

/// What lies ahead of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prospect {
    /// The plan whose input it was computed from.
    pub generation: u64,
    /// How far it looks.
    pub ahead_milliseconds: Option<i64>,
    /// When it would start; `null` unless it waits.
    pub start: Option<StartInterval>,
    /// Probability that it is not served for an hour or more; `null` while it waits.
    pub interrupted: Option<Estimate>,
    /// Share of the time in which it is served; `null` while it waits.
    pub availability: Option<Estimate>,
    /// Probability that what is left of it is not done; `null` where it has no end or needs longer anyway.
    pub unfinished: Option<Estimate>,
    /// Shortest warning before a preemption.
    pub notice_milliseconds: Option<i64>,
    /// What would start it sooner.
    pub sooner: Vec<String>,
}

/// Where a workload runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The module.
    pub module: String,
    /// The pool in it.
    pub pool: String,
    /// The servers.
    pub servers: Vec<Server>,
    /// Counts starts of this workload.
    pub incarnation: u64,
}

/// GPUs taken on one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The server's index in its pool, from 0.
    pub server: u32,
    /// GPUs taken on it, or kilowatts of a bay.
    #[serde(flatten)]
    pub units: Units<u32>,
}

/// Workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// In order of id.
    pub workloads: Vec<Workload>,
}

impl Workload {
    fn progress(&self) -> String {
        match self.amount_gpu_milliseconds {
            Some(amount) => percent(self.progress_gpu_milliseconds as f64, amount as f64),
            None => unit_time(&self.gpu, self.progress_gpu_milliseconds),
        }
    }

    /// How it stops and starts again.
    fn stops(&self) -> Vec<(&'static str, String)> {
        let save = maybe(self.save_milliseconds, span);
        match SoldBy::of(&self.gpu) {
            SoldBy::Gpu => vec![
                ("Checkpoint", format!("every {}", maybe(self.checkpoint_milliseconds, span))),
                ("Save", save),
                ("Restart", maybe(self.restart_milliseconds, span)),
            ],
            SoldBy::Kilowatt => vec![("Stopped by", format!("opening its feeder, {save} after it is told"))],
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.workload.clone(),
            self.tenant.clone(),
            self.offering.clone(),
            word(&self.tier),
            self.units.cell(),
            word(&self.phase),
            word(&self.reason),
            maybe(self.placement.as_ref(), |placement| placement.module.clone()),
            self.progress(),
            self.preemptions.to_string(),
        ]
    }
}

impl Placement {
    fn show(&self) -> String {
        let server = |server: &Server| format!("{}x{}", server.server, server.units.cell());
        let servers: Vec<String> = self.servers.iter().map(server).collect();
        let bays = self.servers.iter().any(|server| server.units.kilowatts.is_some());
        let (what, between) = if bays { ("bays", ", ") } else { ("servers", " ") };
        format!("{}/{}, {what} {}, start {}", self.module, self.pool, servers.join(between), self.incarnation)
    }
}

impl Promise {
    fn show(&self, kind: &str) -> String {
        let promised = format!(
            "{} at {}",
            level(self.level_permille),
            price(kind, self.price_micro_dollars_per_gpu_hour)
        );
        let grounds = match (self.expected_ppm, &self.overridden_by) {
            (Some(ppm), _) => format!(", {} expected", of_million(ppm)),
            (None, Some(by)) => {
                format!(", without asking the model, by {by}: {}", word(&self.overridden_why))
            }
            (None, None) => String::new(),
        };
        promised + &grounds
    }
}

impl Prospect {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let ahead = maybe(self.ahead_milliseconds, span);
        let within = |estimate: Option<Estimate>| {
            estimate.map(|estimate| format!("{} within {ahead}", estimate.show())).unwrap_or_default()
        };
        vec![
            ("Starts", self.start.map(StartInterval::show).unwrap_or_default()),
            ("Sooner", self.sooner.join("; ")),
            ("Interrupted", within(self.interrupted)),
            ("Served", within(self.availability)),
            ("Unfinished", within(self.unfinished)),
            ("Notice", maybe(self.notice_milliseconds, span)),
        ]
    }
}

/// The price of a unit for an hour. A kilowatt costs cents, so they have decimals.
fn price(kind: &str, micro_dollars: i64) -> String {
    let sold = SoldBy::of(kind);
    format!("{} a {}", sold.pick(money(micro_dollars), fine(micro_dollars)), sold.hour())
}

impl View for Workload {
    fn table(&self) -> String {
        let time = |milliseconds: i64| unit_time(&self.gpu, milliseconds);
        let amount = self.amount_gpu_milliseconds.map_or_else(|| "until cancelled".to_owned(), time);
        let stopped = match self.preemptions {
            0 => String::new(),
            times => {
                format!("{}, last at {}", show::count(times as usize, "time"), show::moment(&self.preempted))
            }
        };
        let mut lines = vec![
            ("Workload", self.workload.clone()),
            ("Tenant", self.tenant.clone()),
            ("Created", show::moment(&self.created)),
            ("Offering", format!("{} ({})", self.offering, word(&self.tier))),
            (SoldBy::of(&self.gpu).pick("GPUs", "Power"), self.units.named(&self.gpu)),
            ("Amount", amount),
            ("Price", price(&self.gpu, self.price_micro_dollars_per_gpu_hour)),
        ];
        lines.extend(self.stops());
        lines.extend(self.affinity.iter().flat_map(Affinity::pairs));
        lines.extend([
            ("Cancel asked", yes_no(self.cancel)),
            ("Phase", format!("{} ({})", word(&self.phase), word(&self.reason))),
            ("Since", show::moment(&self.since)),
            ("Placement", maybe(self.placement.as_ref(), Placement::show)),
            ("Progress", time(self.progress_gpu_milliseconds)),
            ("Saved", SoldBy::of(&self.gpu).pick(time(self.saved_gpu_milliseconds), String::new())),
            ("Held", time(self.held_gpu_milliseconds)),
            ("Preempted", stopped),
            ("Promised", self.promise.as_ref().map(|promise| promise.show(&self.gpu)).unwrap_or_default()),
        ]);
        lines.extend(self.prospect.iter().flat_map(Prospect::pairs));
        pairs(&lines)
    }
}

impl View for List {
    fn table(&self) -> String {
        let none = "No workloads; --all shows completed and cancelled ones too.";
        list(&HEADERS, self.workloads.iter().map(Workload::row).collect(), none)
    }
}

impl From<wire::Workload> for Workload {
    fn from(workload: wire::Workload) -> Self {
        let spec = workload.spec.unwrap_or_default();
        let status = workload.status.unwrap_or_default();
        let phase = wire::WorkloadPhase::try_from(status.phase).map(|phase| phase.as_str_name());
        Self {
            workload: workload.id,
            tenant: workload.tenant,
            created: read::moment(optional_time(workload.created, "created")),
            offering: spec.offering,
            tier: read::tier(spec.tier),
            units: Units::of(&spec.gpu, spec.gpus),
            placement: status.placement.map(|placement| Placement::of(&spec.gpu, placement)),
            gpu: spec.gpu,
            amount_gpu_milliseconds: spec.amount_gpu_milliseconds,
            price_micro_dollars_per_gpu_hour: spec.price_micro_dollars_per_gpu_hour,
            checkpoint_milliseconds: read::millis(optional_span(spec.checkpoint, "checkpoint")),
            save_milliseconds: read::millis(optional_span(spec.save, "save")),
            restart_milliseconds: read::millis(optional_span(spec.restart, "restart")),
            affinity: spec.affinity.map(Affinity::from),
            cancel: workload.cancel,
            phase: read::word(phase, "WORKLOAD_PHASE_"),
            reason: reason(status.reason),
            since: read::moment(optional_time(status.since, "since")),
            progress_gpu_milliseconds: status.progress_gpu_milliseconds,
            saved_gpu_milliseconds: status.saved_gpu_milliseconds,
            held_gpu_milliseconds: status.held_gpu_milliseconds,
            preemptions: status.preemptions,
            preempted: read::moment(optional_time(status.preempted, "preempted")),
            promise: workload.promise.map(Promise::from),
            prospect: workload.prospect.map(Prospect::from),
        }
    }
}

impl From<wire::Promise> for Promise {
    fn from(promise: wire::Promise) -> Self {
        use wire::promise::Grounds;
        let (holds, overridden) = match promise.grounds {
            Some(Grounds::Holds(holds)) => (Some(holds), None),
            Some(Grounds::Overridden(overridden)) => (None, Some(overridden)),
            None => (None, None),
        };
        Self {
            level_permille: promise.level_permille,
            price_micro_dollars_per_gpu_hour: promise.price_micro_dollars_per_gpu_hour,
            given: read::moment(optional_time(promise.given, "given")),
            expected_ppm: holds.map(|holds| holds.expected_ppm),
            least_price_micro_dollars_per_gpu_hour: holds
                .map(|holds| holds.least_price_micro_dollars_per_gpu_hour),
            overridden_by: overridden.as_ref().map(|given| given.by.clone()),
            overridden_why: overridden.map(|given| given.why),
        }
    }
}

impl From<wire::Prospect> for Prospect {
    fn from(prospect: wire::Prospect) -> Self {
        Self {
            generation: prospect.generation,
            ahead_milliseconds: read::millis(optional_span(prospect.ahead, "ahead")),
            start: prospect.start.map(StartInterval::from),
            interrupted: prospect.interrupted.map(Estimate::from),
            availability: prospect.availability.map(Estimate::from),
            unfinished: prospect.unfinished.map(Estimate::from),
            notice_milliseconds: read::millis(optional_span(prospect.notice, "notice")),
            sooner: prospect.sooner,
        }
    }
}

impl Placement {
    fn of(kind: &str, placement: wire::Placement) -> Self {
        let server =
            |taken: wire::ServerGpus| Server { server: taken.server, units: Units::of(kind, taken.gpus) };
        Self {
            module: placement.module,
            pool: placement.pool,
            servers: placement.servers.into_iter().map(server).collect(),
            incarnation: placement.incarnation,
        }
    }
}
