//! Answers as a controller could give them, for the tests of views: every field is filled that can be, and the second site and
//! module are ones that nobody heard of yet.

mod proxy;
mod work;

use api::common;
use api::convert::field::{wire_span, wire_time};
use api::operator as wire;
use model::{Span, Time};

pub use proxy::proxy_stats;
pub use work::{
    described_waiting_workload, nowhere_quote, offerings, refused_quote, shell, tenant, waiting_workload,
    workload,
};

/// 2025-02-03 08:15:00 UTC.
const NOW: Time = Time(1_738_570_500_250);

fn finding() -> common::Finding {
    common::Finding {
        code: "hashrate-unproven".into(),
        subject: "module m1 group a".into(),
        message: "claims 200 TH/s, shares prove 120 TH/s: look at the miners".into(),
    }
}

fn subject(workload: &str) -> Option<common::Subject> {
    Some(common::Subject { kind: Some(common::subject::Kind::Workload(workload.into())) })
}

fn decision() -> common::Decision {
    common::Decision {
        subject: subject("job-3"),
        reason: common::ReasonCode::NoFirmCapacity.into(),
        binding: Some("site well-7: N-1 capacity".into()),
        shadow_price_micro_dollars_per_hour: Some(40_000),
        rejected: Some("8 GPUs on m1".into()),
    }
}

pub fn verified() -> common::Verified {
    common::Verified {
        rate_hashes_per_second: 38_200_000_000_000_000,
        shares: 900,
        window: wire_span(Span::minutes(5)),
    }
}

pub fn envelope() -> wire::EnvelopeStatus {
    wire::EnvelopeStatus {
        generation: 41,
        acknowledged_generation: 41,
        state: common::EnvelopeState::Valid.into(),
        ceiling_watts: 1_100_000,
        ai_floor_watts: 65_600,
        fallback_watts: 90_000,
        granted_watts: 1_100_000,
        expires_in: wire_span(Span::secs(42)),
        refused: None,
    }
}

fn load() -> wire::LoadByUse {
    wire::LoadByUse {
        ai_watts: 131_200,
        firm_ai_watts: 65_600,
        mining_watts: 700_000,
        idle_watts: 12_550,
        auxiliary_watts: 43_000,
        unmanaged_watts: 0,
        reserved_watts: 0,
    }
}

fn revenue() -> wire::Revenue {
    wire::Revenue { ai_micro_dollars_per_hour: 188_800_000, mining_micro_dollars_per_hour: 54_321_000 }
}

fn group() -> wire::GroupStatus {
    wire::GroupStatus {
        group: "a".into(),
        model: "S21".into(),
        count: 200,
        awake: Some(196),
        target_awake: Some(200),
        point: Some(1),
        feeder: common::FeederState::Closed.into(),
        power_watts: Some(700_000),
        claimed_hashes_per_second: Some(39_200_000_000_000_000),
        verified: Some(verified()),
        connections: Some(196),
        scale: 1_000_000_000_000,
    }
}

fn pool() -> wire::PoolStatus {
    wire::PoolStatus {
        pool: "h100".into(),
        gpu: "H100".into(),
        gpus: 128,
        busy_gpus: 64,
        servers: 16,
        up: Some(16),
        power_watts: Some(143_200),
        cap_watts: None,
    }
}

fn bays() -> wire::PoolStatus {
    let (gpu, power_watts) = ("kilowatt".into(), Some(498_000));
    wire::PoolStatus {
        pool: "bays".into(),
        gpu,
        gpus: 1_000,
        busy_gpus: 500,
        servers: 4,
        up: Some(4),
        power_watts,
        cap_watts: None,
    }
}

fn run(workload: &str, kind: &str, gpus: u32) -> wire::RunStatus {
    wire::RunStatus {
        workload: workload.into(),
        tenant: "acme".into(),
        incarnation: 2,
        phase: common::RunPhase::Running.into(),
        gpus,
        progress_gpu_milliseconds: 45_000_000,
        gpu: kind.into(),
    }
}

pub fn module_status() -> wire::ModuleStatus {
    wire::ModuleStatus {
        module: "m1".into(),
        site: "well-7".into(),
        wired: true,
        link: wire::Link::Online.into(),
        age: wire_span(Span::new(1_200)),
        lost_since: None,
        switch: common::Switch::Remote.into(),
        cordoned: true,
        draining: false,
        envelope: Some(envelope()),
        meter_watts: Some(886_750),
        limit_watts: 1_250_000,
        load: Some(load()),
        claimed_hashes_per_second: Some(39_200_000_000_000_000),
        verified: Some(verified()),
        groups: vec![group()],
        pools: vec![pool(), bays()],
        runs: vec![run("job-1", "H100", 64), run("own-1", "kilowatt", 500)],
        findings: vec![finding()],
        revenue: Some(revenue()),
        ledger_sequence: 17,
        agent_version: "0.1.0".into(),
        stratum_address: Some("127.0.0.1:3333".into()),
        share_audit: Some(share_audit()),
    }
}

pub fn share_audit() -> wire::ShareAudit {
    wire::ShareAudit {
        proven_shares: 1_200,
        proven_work_hashes: "5154039399600".into(),
        claimed_shares: 60,
        unproven_shares: 0,
        failed_shares: 0,
        accepted_shares: 1_260,
        samples: 320,
    }
}

fn unheard_module() -> wire::ModuleStatus {
    wire::ModuleStatus {
        module: "m2".into(),
        site: "well-8".into(),
        link: wire::Link::Never.into(),
        limit_watts: 900_000,
        load: Some(wire::LoadByUse::default()),
        revenue: Some(wire::Revenue::default()),
        ..Default::default()
    }
}

fn site_status() -> wire::SiteStatus {
    wire::SiteStatus {
        site: "well-7".into(),
        simulated: true,
        age: wire_span(Span::new(1_200)),
        gas_scf_per_day: Some(412_000),
        gas_watts: Some(1_640_000),
        buffer_scf: Some(7_400),
        buffer_capacity_scf: 10_000,
        flared_scf_per_day: Some(0),
        capacity_watts: Some(1_500_000),
        firm_capacity_watts: Some(1_000_000),
        load_watts: Some(936_750),
        load: Some(wire::LoadByUse { unmanaged_watts: 50_000, ..load() }),
        frequency_millihertz: Some(59_984),
        nominal_millihertz: 60_000,
        gensets: vec![
            genset("g1", common::GensetState::Online, 936_750),
            genset("g2", common::GensetState::Off, 0),
        ],
        revenue: Some(revenue()),
        binding: "gas".into(),
        shadow_price_micro_dollars_per_kwh: Some(52_000),
        findings: vec![],
        storage: None,
        grid: None,
    }
}

fn unheard_site() -> wire::SiteStatus {
    let load = wire::LoadByUse { reserved_watts: 0, unmanaged_watts: 20_000, ..Default::default() };
    wire::SiteStatus {
        site: "well-8".into(),
        buffer_capacity_scf: 10_000,
        nominal_millihertz: 60_000,
        load: Some(load),
        gensets: vec![wire::GensetStatus {
            genset: "g1".into(),
            rating_watts: 500_000,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn genset(id: &str, state: common::GensetState, watts: i64) -> wire::GensetStatus {
    wire::GensetStatus {
        genset: id.into(),
        state: state.into(),
        power_watts: Some(watts),
        rating_watts: 1_000_000,
        for_span: wire_span(Span::minutes(95)),
        wanted: Some(watts > 0),
    }
}

pub fn fleet() -> wire::FleetStatus {
    let count = |phase: common::WorkloadPhase, reason: common::ReasonCode, count: u64| wire::WorkloadCount {
        phase: phase.into(),
        reason: reason.into(),
        count,
        gpus: 8 * count,
        kilowatts: if reason == common::ReasonCode::Kept { 500 } else { 0 },
    };
    let share = |kind: common::ShareEndKind, detail: &str, count: u64| wire::ShareCount {
        end: Some(common::ShareEnd { kind: kind.into(), detail: detail.into() }),
        count,
        nominal_work_hashes: "340282366920938463463374607431768211455".into(),
    };
    wire::FleetStatus {
        at: wire_time(NOW),
        leadership: Some(leadership()),
        plan: Some(wire::PlanInForce {
            generation: 17,
            made: wire_time(NOW),
            worth_micro_dollars: 5_832_100_000,
            took: wire_span(Span::new(38)),
            refused: 1,
        }),
        sites: vec![site_status(), unheard_site()],
        modules: vec![module_status(), unheard_module()],
        workloads: vec![
            count(common::WorkloadPhase::Pending, common::ReasonCode::NoPower, 3),
            count(common::WorkloadPhase::Running, common::ReasonCode::Kept, 8),
        ],
        revenue: Some(revenue()),
        shares: vec![
            share(common::ShareEndKind::Rejected, "stale", 2),
            share(common::ShareEndKind::Accepted, "", 1_234),
        ],
        market: Some(market()),
        decisions: vec![wire::PlanDecision {
            at: wire_time(NOW),
            generation: 17,
            decision: Some(decision()),
        }],
        findings: vec![common::Finding {
            code: "plan-refused".into(),
            subject: "plan 16".into(),
            ..finding()
        }],
        archive: Some(wire::ArchiveStatus {
            place: "s3://ledgers/north".into(),
            waiting_segments: 14,
            behind: Some(wire::ModuleBehind {
                module: "m1".into(),
                archived_sequence: 90,
                kept_sequence: 102,
            }),
            archived_at: wire_time(NOW),
            held_up_modules: 0,
            error: "the archive does not answer: no route".into(),
            failed_at: wire_time(NOW),
        }),
    }
}

fn market() -> common::Market {
    common::Market {
        price_micro_dollars: 98_765_430_000,
        difficulty: 1.0816e14,
        subsidy_satoshi: 312_500_000,
        fees_ppm: 15_000,
        pool_fee_ppm: 10_000,
    }
}

fn leadership() -> wire::Leadership {
    wire::Leadership {
        fence: Some(common::Fence { epoch: 1, leader: 7, plan: 17 }),
        address: "http://127.0.0.1:7600".into(),
        is_me: true,
        since: wire_time(NOW - Span::hours(2)),
    }
}

pub fn sites() -> Vec<wire::SiteStatus> {
    vec![site_status(), unheard_site()]
}

pub fn modules() -> Vec<wire::ModuleStatus> {
    vec![module_status(), unheard_module()]
}

pub fn site() -> wire::Site {
    let well = common::GasSource {
        nominal_scf_per_day: 400_000,
        btu_per_scf: 1_240,
        basis: common::HeatingBasis::Higher.into(),
    };
    let config = common::Site {
        id: "well-7".into(),
        relay: true,
        unmanaged_watts: 50_000,
        gas_price_micro_dollars_per_mcf: -250_000,
        gas: [("pad-a".to_owned(), well)].into(),
        ..Default::default()
    };
    let modules = vec!["m1".into()];
    wire::Site { config: Some(config), status: Some(site_status()), modules, etag: "12".into() }
}

pub fn module() -> wire::Module {
    let config = common::Module {
        id: "m1".into(),
        cooling_watts: 1_200_000,
        auxiliary_watts: 14_000,
        loss_permille: 20,
        ..Default::default()
    };
    wire::Module { config: Some(config), status: Some(module_status()), etag: "12".into() }
}

pub fn plan_summaries() -> Vec<wire::PlanSummary> {
    let plan = |generation: u64| wire::PlanSummary {
        generation,
        parent: generation.checked_sub(1).filter(|parent| *parent > 0),
        made: wire_time(NOW),
        worth_micro_dollars: 5_832_100_000,
        input_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        in_force: generation == 2,
        runs: 11,
        ceilings_watts: 2_300_000,
    };
    vec![plan(2), plan(1)]
}

pub fn plan() -> wire::GetPlanResponse {
    let placement =
        common::Placement { module: "m1".into(), pool: "h100".into(), servers: vec![], incarnation: 2 };
    let step = |after, ceiling_watts| common::FallbackStep { after: wire_span(after), ceiling_watts };
    let rung = |load, actuator: common::Actuator, watts, opens| common::Rung {
        load: Some(load),
        actuator: actuator.into(),
        watts,
        opens: wire_span(Span::new(opens)),
        below_millihertz: 400,
    };
    let module = common::ModulePlan {
        ceiling_watts: 1_100_000,
        ai_floor_watts: 65_600,
        ladder: vec![
            rung(common::rung::Load::Miners("a".into()), common::Actuator::Feeder, 700_000, 150),
            rung(common::rung::Load::Pool("h100".into()), common::Actuator::Cap, 54_400, 1_500),
        ],
        armed: [("loss-g1".to_owned(), common::RungSet { rungs: vec![0] })].into(),
        fallback: vec![step(Span::ZERO, 300_000), step(Span::minutes(10), 90_000)],
        miners: [("a".to_owned(), common::GroupTarget { awake: 200, point: 1 })].into(),
        cap_watts: [("h100".to_owned(), 120_000)].into(),
        slowed_watts: [("job-1".to_owned(), 61_000)].into(),
        runs: [("job-1".to_owned(), placement)].into(),
        ..Default::default()
    };
    let loss = common::Contingency {
        source: "g1".into(),
        lost_watts: 936_750,
        absorbed_watts: 250_000,
        shed_watts: 700_000,
    };
    let site = common::SitePlan {
        capacity_watts: 1_500_000,
        firm_capacity_watts: 1_000_000,
        gensets: [("g1".to_owned(), true), ("g2".to_owned(), false)].into(),
        later_steps: [("g2".to_owned(), 5)].into(),
        contingencies: [("loss-g1".to_owned(), loss)].into(),
        modules: [("m1".to_owned(), module)].into(),
        steps: (0..24).map(site_step).collect(),
        storage: None,
        import: None,
    };
    let plan = common::Plan {
        generation: 17,
        parent: Some(16),
        made: wire_time(NOW),
        input_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        sites: [("well-7".to_owned(), site)].into(),
        worth_micro_dollars: 5_832_100_000,
        decisions: vec![decision()],
        bound: Some(common::Bound {
            most_micro_dollars: 812_400_000,
            reached_micro_dollars: 809_950_000,
            made: wire_time(NOW + Span::secs(-30)),
        }),
    };
    wire::GetPlanResponse { plan: Some(plan), in_force: true }
}

/// Two days that are known, of which the second has no gas in one case of a hundred.
pub fn outlook() -> wire::Outlook {
    let gpus = |p1, p10| Some(wire::GpuQuantiles { p1, p10, p50: 64, p90: 64 });
    let hour = |hour: i64| wire::SaleableHour {
        gpus: if hour < 24 { gpus(16, 48) } else { gpus(0, 0) },
        short: if hour < 24 { String::new() } else { "gas".into() },
        least_price_micro_dollars: (hour < 47).then_some(105_000),
    };
    let start = |gpus: u32, hour_p90, hour_p10| wire::GangStart {
        gpus,
        hour_p1: None,
        hour_p10,
        hour_p50: hour_p90,
        hour_p90,
    };
    let supply = wire::GpuSupply {
        gpu: "h100".into(),
        tier: common::Tier::Firm.into(),
        hours: (0..49).map(hour).collect(),
        starts: vec![start(8, Some(0), Some(0)), start(64, Some(3), None)],
    };
    let power = |hour: i64| wire::PowerQuantiles {
        p1_watts: 1_100_000 - hour * 20_000,
        p10_watts: 1_300_000,
        p50_watts: 1_400_000,
        p90_watts: 1_500_000,
    };
    let site = wire::SiteOutlook {
        site: "well-7".into(),
        power: (0..49).map(power).collect(),
        supply: vec![supply],
        drains: vec![wire::DrainOutlook {
            module: "m1".into(),
            loss_micro_dollars: (0..49).map(|hour| if hour < 12 { 45_000_000 } else { 3_250_000 }).collect(),
            best_hour: 12,
        }],
        megawatt_hour_micro_dollars: vec![78_000_000; 49],
        set_on_micro_dollars: [("g1".to_owned(), 5_000_000), ("g2".to_owned(), 0)].into(),
    };
    wire::Outlook { made: wire_time(NOW), generation: 17, sites: vec![site] }
}

/// A step in which gas falls off and miners with it.
fn site_step(index: i64) -> common::SiteStep {
    common::SiteStep {
        capacity_watts: 1_500_000 - 10_000 * index,
        ai_watts: 120_000,
        mining_watts: 900_000 - 10_000 * index,
        auxiliary_watts: 64_000,
        flared_scf_per_day: 1_000 * index,
        worth_micro_dollars: 24_300_000 - 500_000 * index,
    }
}

pub fn diff() -> wire::DiffPlansResponse {
    let change = |what: &str, from: &str, to: &str| wire::Change {
        subject: subject("job-3"),
        what: what.into(),
        from: from.into(),
        to: to.into(),
    };
    let changes = vec![change("placement", "", "m1/h100"), change("servers", "0x8", "1x8")];
    wire::DiffPlansResponse { from: 16, to: 17, changes }
}

pub fn explanation() -> wire::ExplainPlanResponse {
    wire::ExplainPlanResponse {
        generation: 17,
        subject: subject("job-3"),
        decision: Some(decision()),
        operator_lines: vec!["N-1 capacity is 1,000 kW; firm AI takes 996 kW".into()],
        tenant_lines: vec!["Firm capacity is used up; it starts when some is free.".into()],
    }
}

pub fn version() -> wire::Version {
    wire::Version {
        version: "0.9.0".into(),
        packages: vec!["flareshift.operator.v1".into(), "flareshift.tenant.v1".into()],
        store: "embedded".into(),
        accepts_simulated: true,
    }
}

/// One event of each kind.
pub fn events() -> Vec<wire::WatchEvent> {
    use wire::watch_event::Kind;
    let refused = wire::PlanRefused { generation: 18, findings: vec![finding()] };
    let told = wire::PlanDecision { at: wire_time(NOW), generation: 17, decision: Some(decision()) };
    let news =
        common::Finding { code: "event".into(), subject: "module m1".into(), message: "link lost".into() };
    let kinds = [
        Kind::Status(wire::FleetStatus { sites: sites(), revenue: Some(revenue()), ..Default::default() }),
        Kind::PlanCommitted(plan_summaries().remove(0)),
        Kind::PlanRefused(refused),
        Kind::Decision(told),
        Kind::Workload(workload()),
        Kind::Module(module_status()),
        Kind::Finding(finding()),
        Kind::Finding(news),
        Kind::Leadership(leadership()),
    ];
    let event = |kind| wire::WatchEvent { at: wire_time(NOW), kind: Some(kind) };
    kinds.into_iter().map(event).chain([wire::WatchEvent { at: wire_time(NOW), kind: None }]).collect()
}

/// A workload's history: the same sort of lines that a site's and a module's have.
pub fn history() -> wire::ListEventsResponse {
    use wire::actor::Kind;
    let event = |hours_ago: i64, what: &str, who: Kind| wire::ObjectEvent {
        at: wire_time(NOW - Span::hours(hours_ago)),
        times: 1,
        what: what.into(),
        who: Some(wire::Actor { kind: Some(who) }),
        ..Default::default()
    };
    let placed = common::ReasonCode::Placed.into();
    let preempted = common::ReasonCode::Preempted.into();
    let events = vec![
        event(5, "admitted", Kind::Tenant("acme".into())),
        wire::ObjectEvent {
            reason: placed,
            text: "on module m1, start 1".into(),
            ..event(4, "placed", Kind::Planner(17))
        },
        wire::ObjectEvent {
            last: wire_time(NOW - Span::hours(2)),
            times: 3,
            reason: preempted,
            text: "for job-2".into(),
            ..event(3, "preempted", Kind::Planner(18))
        },
        wire::ObjectEvent { text: "unpaid".into(), ..event(1, "end_asked", Kind::Operator("ada".into())) },
        event(0, "lost", Kind::Controller(wire::actor::Controller {})),
    ];
    wire::ListEventsResponse { events, older: 2, missed: 0 }
}
