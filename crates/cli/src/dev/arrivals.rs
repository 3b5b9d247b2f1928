//! What comes from outside: prices hour by hour, and tenants' jobs, ordered over gRPC as an operator would.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use api::common::WorkloadOrder;
use api::convert::field::wire_span;
use api::operator::operator_service_client::OperatorServiceClient;
use api::operator::{AdmissionOverride, CreateTenantRequest, SubmitWorkloadRequest};
use model::market::Market;
use model::tenant::Offering;
use model::time::Clock;
use model::workload::{GpuTime, Tier};
use model::{OfferingId, SoldBy, Span, Time};
use sim::clock::Participant;
use sim::series::jobs::Job;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::scenario::{Replay, Scenario};

/// Prices and difficulty are daily series: an hour's step is fine enough.
const MARKET_EVERY: Span = Span::hours(1);
/// The tenants in whose names jobs are ordered, in turn.
const TENANTS: [&str; 3] = ["atlas", "borealis", "cygnus"];
/// Far above what the reference fleet has.
const QUOTA: u32 = 10_000;
/// Orders are tried again after this while the controller is not there, on wall time.
const RETRY: Duration = Duration::from_millis(100);
/// Most of those: half a minute.
const TRIES: u32 = 300;

/// Without a trace: gangs that stand from the begin, (tier, GPUs, how many of them).
const STANDING: [(Tier, u32, u32); 4] =
    [(Tier::Firm, 16, 2), (Tier::Firm, 8, 2), (Tier::OnDemand, 8, 4), (Tier::Spot, 8, 4)];
/// The same for a single hybrid module of 64 GPUs.
const STANDING_SMALL: [(Tier, u32, u32); 3] =
    [(Tier::Firm, 8, 1), (Tier::OnDemand, 8, 2), (Tier::Spot, 8, 2)];

/// Images and weights lie on the servers' own disks in the simulation.
const RESTART: Span = Span::secs(20);

/// One order at its time.
struct Arrival {
    at: Time,
    name: String,
    tier: Tier,
    /// GPUs, or kilowatts where it is a shell.
    gpus: u32,
    /// The offering by the kilowatt under which it is ordered; `None` = GPUs, under the first offering of its tier.
    shell: Option<OfferingId>,
    amount: Option<GpuTime>,
}

/// Brings prices and jobs until cancelled.
pub async fn run(
    scenario: &Scenario,
    clock: Participant,
    endpoints: &[String],
    market: watch::Sender<Market>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let mut operators = Operators::connect(endpoints).await?;
    make_tenants(&mut operators).await?;
    let mut arrivals = arrivals(scenario).into_iter().peekable();
    let mut next_market = scenario.start;
    loop {
        let now = clock.now();
        if now >= next_market {
            market.send_replace(scenario.market_at(now));
            next_market = now + MARKET_EVERY;
        }
        while let Some(arrival) = arrivals.next_if(|arrival| arrival.at <= now) {
            order(&mut operators, scenario, &arrival).await?;
        }
        let next = arrivals.peek().map_or(next_market, |arrival| arrival.at.min(next_market));
        tokio::select! {
            () = cancel.cancelled() => {
                clock.step_aside();
                return Ok(());
            }
            () = clock.sleep_until(next) => {}
        }
    }
}

/// Everything that will be ordered, in order of time.
fn arrivals(scenario: &Scenario) -> Vec<Arrival> {
    match &scenario.jobs {
        Some(replay) => replayed(replay, scenario.origin),
        None => standing(scenario),
    }
}

fn standing(scenario: &Scenario) -> Vec<Arrival> {
    let gangs: &[(Tier, u32, u32)] = if scenario.fleet.sites.len() > 1 { &STANDING } else { &STANDING_SMALL };
    let gang = |&(tier, gpus, count): &(Tier, u32, u32)| {
        (0..count).map(move |index| Arrival {
            at: scenario.origin,
            name: format!("standing-{tier}-{gpus}-{index}"),
            tier,
            gpus,
            shell: None,
            amount: None,
        })
    };
    gangs.iter().flat_map(gang).chain(shells(scenario)).collect()
}

/// One bay, the largest of its type, under each offering that is sold by the kilowatt.
fn shells(scenario: &Scenario) -> impl Iterator<Item = Arrival> {
    let fleet = &scenario.fleet;
    let shell = |offering: &Offering| {
        let pools = fleet.modules.iter().flat_map(|module| module.pools.values());
        let bays = pools.filter(|pool| pool.gpu == offering.gpu && SoldBy::of(&pool.gpu) == SoldBy::Kilowatt);
        Some(Arrival {
            at: scenario.origin,
            name: format!("standing-{}", offering.id),
            tier: offering.tier,
            gpus: bays.map(|pool| pool.gpus).max()?,
            shell: Some(offering.id.clone()),
            amount: None,
        })
    };
    fleet.offerings.iter().filter_map(shell)
}

/// The jobs of the replay's day and of the days after, and what is left of those that ran when it begins.
fn replayed(Replay { jobs, from }: &Replay, origin: Time) -> Vec<Arrival> {
    let arrival = |job: &Job| {
        let begun = (*from - job.created).at_least_zero();
        let amount = job.amount - GpuTime::of(job.gpus, begun);
        let at = origin + (job.created - *from).at_least_zero();
        (amount > GpuTime::ZERO).then(|| Arrival {
            at,
            name: job.name.clone(),
            tier: job.tier,
            gpus: job.gpus,
            shell: None,
            amount: Some(amount),
        })
    };
    let mut arrivals: Vec<Arrival> = jobs.jobs.iter().filter_map(arrival).collect();
    arrivals.sort_by(|left, right| (left.at, &left.name).cmp(&(right.at, &right.name)));
    arrivals
}

/// A client of each controller; the one in front is asked.
struct Operators(VecDeque<OperatorServiceClient<Channel>>);

impl Operators {
    async fn connect(endpoints: &[String]) -> anyhow::Result<Self> {
        let mut clients = VecDeque::new();
        for endpoint in endpoints {
            let channel = Channel::from_shared(endpoint.clone())?.connect().await;
            let channel = channel.with_context(|| format!("nothing answers at {endpoint}"))?;
            clients.push_back(OperatorServiceClient::new(channel));
        }
        anyhow::ensure!(!clients.is_empty(), "there is no controller");
        Ok(Self(clients))
    }

    fn client(&mut self) -> &mut OperatorServiceClient<Channel> {
        &mut self.0[0]
    }

    /// After an answer that may pass: the next controller may lead by now.
    async fn turn(&mut self) {
        self.0.rotate_left(1);
        tokio::time::sleep(RETRY).await;
    }
}

async fn make_tenants(operators: &mut Operators) -> anyhow::Result<()> {
    for tenant in TENANTS {
        let request = CreateTenantRequest {
            tenant: tenant.into(),
            name: String::new(),
            gpu_quota: QUOTA,
            kilowatt_quota: QUOTA,
            request_id: format!("dev-{tenant}"),
        };
        for attempt in 0.. {
            match operators.client().create_tenant(request.clone()).await {
                Ok(_) => break,
                Err(status) if status.code() == Code::AlreadyExists => break,
                Err(status) if is_passing(&status) && attempt < TRIES => operators.turn().await,
                Err(status) => return Err(status).with_context(|| format!("tenant {tenant} cannot be made")),
            }
        }
    }
    Ok(())
}

async fn order(operators: &mut Operators, scenario: &Scenario, arrival: &Arrival) -> anyhow::Result<()> {
    let meant = |offering: &&Offering| match &arrival.shell {
        Some(shell) => offering.id == *shell,
        None => offering.sells_gpus(arrival.tier),
    };
    let offering = scenario.fleet.offerings.iter().find(meant);
    let Some(offering) = offering else {
        tracing::warn!(job = arrival.name, tier = %arrival.tier, "no offering has this tier; the job is dropped");
        return Ok(());
    };
    let turn = arrival.name.bytes().map(usize::from).sum::<usize>() % TENANTS.len();
    let request = SubmitWorkloadRequest {
        tenant: TENANTS[turn].into(),
        order: Some(WorkloadOrder {
            offering: offering.id.to_string(),
            gpus: if arrival.shell.is_some() { 0 } else { arrival.gpus },
            kilowatts: arrival.shell.as_ref().map(|_| arrival.gpus),
            amount_gpu_milliseconds: arrival.amount.map(|amount| amount.get()),
            restart: if arrival.shell.is_some() { None } else { wire_span(RESTART) },
            ..WorkloadOrder::default()
        }),
        request_id: arrival.name.clone(),
        admission_override: Some(admit()),
    };
    for attempt in 0.. {
        match operators.client().submit_workload(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if is_passing(&status) && attempt < TRIES => operators.turn().await,
            Err(status) => {
                // The job is at fault, or the fleet too small for it: the others go on.
                tracing::warn!(job = arrival.name, %status, "a job was refused");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The simulated fleet's wells serve some 99 % of a month, and its firm offering promises 99.9. What a run shows is what becomes of firm
/// jobs all the same, and the record says that nobody asked (decision 0014).
fn admit() -> AdmissionOverride {
    let (by, why) = ("flareshift dev", "a run shows firm jobs whatever its wells can promise");
    AdmissionOverride { by: by.into(), why: why.into() }
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Aborted | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sim::series::jobs::Jobs;

    use super::*;

    fn job(name: &str, created: i64, gpus: u32, hours: i64) -> Job {
        let amount = GpuTime::of(gpus, Span::hours(hours));
        Job { name: name.into(), created: Span::hours(created), gpus, amount, tier: Tier::Spot }
    }

    #[test]
    fn a_replay_begins_with_what_is_left_of_running_jobs() {
        let jobs = vec![job("done", 0, 1, 2), job("runs", 20, 2, 10), job("later", 25, 1, 1)];
        let replay = Replay { jobs: Jobs { jobs, dropped: 0, rounded: 0 }, from: Span::hours(24) };
        let origin = Time(1_000);
        let found: Vec<_> =
            replayed(&replay, origin).into_iter().map(|a| (a.name, a.at, a.amount.unwrap())).collect();
        let expected = [
            ("runs".to_owned(), origin, GpuTime::of(2, Span::hours(6))),
            ("later".to_owned(), origin + Span::hours(1), GpuTime::of(1, Span::hours(1))),
        ];
        assert_eq!(found, expected);
    }
}
