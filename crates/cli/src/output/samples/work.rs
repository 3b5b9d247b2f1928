//! Samples of work: workloads, quotes, tenants, offerings.

use api::common;
use api::convert::field::{wire_span, wire_time};
use api::operator as wire;
use model::Span;

use super::NOW;

pub fn workload() -> common::Workload {
    let placement = common::Placement {
        module: "m1".into(),
        pool: "h100".into(),
        servers: vec![common::ServerGpus { server: 0, gpus: 8 }, common::ServerGpus { server: 3, gpus: 4 }],
        incarnation: 2,
    };
    common::Workload {
        id: "job-1".into(),
        tenant: "acme".into(),
        created: wire_time(NOW - Span::hours(5)),
        spec: Some(common::WorkloadSpec {
            offering: "h100-on-demand".into(),
            tier: common::Tier::OnDemand.into(),
            gpu: "H100".into(),
            gpus: 12,
            amount_gpu_milliseconds: Some(90_000_000),
            price_micro_dollars_per_gpu_hour: 2_950_000,
            checkpoint: wire_span(Span::minutes(10)),
            save: wire_span(Span::secs(30)),
            restart: wire_span(Span::secs(90)),
            floor_permille: None,
            affinity: None,
        }),
        cancel: false,
        status: Some(common::WorkloadStatus {
            phase: common::WorkloadPhase::Running.into(),
            reason: common::ReasonCode::Kept.into(),
            placement: Some(placement),
            progress_gpu_milliseconds: 45_000_000,
            saved_gpu_milliseconds: 43_200_000,
            held_gpu_milliseconds: 50_400_000,
            preemptions: 1,
            preempted: wire_time(NOW - Span::hours(3)),
            progress_at_preemption_gpu_milliseconds: 18_000_000,
            since: wire_time(NOW - Span::hours(2)),
        }),
        promise: Some(common::Promise {
            level_permille: 995,
            price_micro_dollars_per_gpu_hour: 2_950_000,
            given: wire_time(NOW - Span::hours(5)),
            grounds: Some(common::promise::Grounds::Overridden(common::PromiseOverride {
                by: "ada".into(),
                why: "a trial before the third well".into(),
            })),
        }),
        prospect: Some(common::Prospect {
            generation: 17,
            ahead: wire_span(Span::hours(72)),
            start: None,
            interrupted: estimate(84_000, 6_200),
            availability: estimate(981_400, 1_900),
            unfinished: estimate(12_000, 2_400),
            notice: wire_span(Span::minutes(2)),
            sooner: vec![],
        }),
    }
}

fn estimate(ppm: u64, error_ppm: u64) -> Option<common::Estimate> {
    Some(common::Estimate { ppm, error_ppm })
}

/// What waits, with all that is told of it.
pub fn described_waiting_workload() -> common::Workload {
    let start = common::StartInterval { earliest_hours: Some(2), median_hours: Some(9), latest_hours: None };
    common::Workload {
        promise: Some(common::Promise {
            level_permille: 999,
            price_micro_dollars_per_gpu_hour: 1_100_000,
            given: wire_time(NOW),
            grounds: Some(common::promise::Grounds::Holds(common::PromiseHolds {
                expected_ppm: 999_700,
                least_price_micro_dollars_per_gpu_hour: 96_000,
            })),
        }),
        prospect: Some(common::Prospect {
            generation: 17,
            ahead: wire_span(Span::hours(72)),
            start: Some(start),
            notice: wire_span(Span::secs(30)),
            sooner: vec![
                "4 GPUs instead of 8 would start now".into(),
                "under h100-firm ($2.35 a GPU-hour) it would start in 1 h".into(),
            ],
            ..Default::default()
        }),
        spec: waiting_workload().spec.map(|spec| common::WorkloadSpec { affinity: Some(affinity()), ..spec }),
        ..waiting_workload()
    }
}

fn affinity() -> common::Affinity {
    let sites = common::SiteList { sites: vec!["well-7".into(), "well-8".into()] };
    let spread = common::GroupSpread { most: 1, per: common::GroupDomain::Module.into() };
    let rule = Some(common::workload_group::Rule::Spread(spread));
    let group = Some(common::WorkloadGroup { id: "replicas".into(), rule });
    common::Affinity { sites: Some(common::affinity::Sites::Only(sites)), group }
}

/// A firm request on one well.
pub fn refused_quote() -> wire::Quote {
    let refusal = |of: &str| wire::Refusal {
        code: "level".into(),
        why: format!("{of} of the term would be served and 99.90 % is promised: one well, dry 8.0 % of days"),
    };
    let instead = |tier: common::Tier, gpus: u32, level_permille: u32| wire::QuoteAlternative {
        tier: tier.into(),
        gpus,
        level_permille,
        site: "well-7".into(),
        gpu_hour_micro_dollars: 96_400,
        interrupted: estimate(312_000, 11_000),
    };
    let kept = wire::KeptPromise {
        workload: "job-1".into(),
        level_ppm: 995_000,
        before: estimate(996_200, 400),
        after: estimate(996_100, 400),
    };
    wire::Quote {
        gpu: "H100".into(),
        gpus: 16,
        tier: common::Tier::Firm.into(),
        term: wire_span(Span::hours(72)),
        level_permille: 999,
        offered: false,
        refused: Some(refusal("95.12 %")),
        nothing_firm: Some(refusal("95.30 %")),
        site: "well-7".into(),
        price: Some(wire::QuotePrice {
            gpu_hour_micro_dollars: 132_100,
            power_micro_dollars: 80_300,
            displaced_micro_dollars: 0,
            margin_micro_dollars: 16_060,
            credits_micro_dollars: 35_740,
        }),
        odds: Some(wire::QuoteOdds {
            interrupted: estimate(312_000, 11_000),
            moved: estimate(0, 500),
            availability: estimate(951_200, 2_100),
            late: estimate(312_000, 11_000),
            credits_permille: 270,
        }),
        start: Some(common::StartInterval {
            earliest_hours: Some(0),
            median_hours: Some(0),
            latest_hours: Some(0),
        }),
        instead: vec![instead(common::Tier::Firm, 16, 947), instead(common::Tier::OnDemand, 16, 0)],
        promises: vec![kept],
        generation: 17,
        revision: "5f3a".into(),
        draws: 1_157,
        made: wire_time(NOW),
        valid_until: wire_time(NOW + Span::minutes(5)),
    }
}

/// A request that can start nowhere.
pub fn nowhere_quote() -> wire::Quote {
    let why = "it cannot start now: other load takes the power";
    wire::Quote {
        gpu: "H100".into(),
        gpus: 64,
        tier: common::Tier::Spot.into(),
        term: wire_span(Span::hours(1)),
        refused: Some(wire::Refusal { code: "power".into(), why: why.into() }),
        generation: 17,
        revision: "5f3a".into(),
        draws: 2_000,
        ..Default::default()
    }
}

pub fn waiting_workload() -> common::Workload {
    let spec = common::WorkloadSpec {
        offering: "h100-spot".into(),
        tier: common::Tier::Spot.into(),
        gpu: "H100".into(),
        gpus: 8,
        ..Default::default()
    };
    let status = common::WorkloadStatus {
        phase: common::WorkloadPhase::Pending.into(),
        reason: common::ReasonCode::NoPower.into(),
        ..Default::default()
    };
    common::Workload {
        id: "job-3".into(),
        tenant: "globex".into(),
        spec: Some(spec),
        status: Some(status),
        ..Default::default()
    }
}

/// The same order for 500 kW of a tenant's own machines.
pub fn shell() -> common::Workload {
    let mut shell = common::Workload { id: "own-1".into(), prospect: None, ..workload() };
    if let (Some(spec), Some(status)) = (&mut shell.spec, &mut shell.status) {
        (spec.offering, spec.gpu, spec.gpus) = ("shell-firm".into(), "kilowatt".into(), 500);
        (spec.checkpoint, spec.restart) = (wire_span(Span::ZERO), wire_span(Span::ZERO));
        (spec.save, spec.amount_gpu_milliseconds) = (wire_span(Span::minutes(2)), None);
        spec.price_micro_dollars_per_gpu_hour = 85_000;
        let bays = [0, 1].map(|server| common::ServerGpus { server, gpus: 250 });
        let place = common::Placement { module: "m2".into(), pool: "bays".into(), ..Default::default() };
        status.placement = Some(common::Placement { servers: bays.into(), incarnation: 1, ..place });
    }
    shell
}

pub fn tenant() -> common::Tenant {
    common::Tenant {
        id: "acme".into(),
        name: "Acme Inc.".into(),
        gpu_quota: 64,
        created: wire_time(NOW),
        kilowatt_quota: 500,
    }
}

pub fn offerings() -> Vec<common::Offering> {
    let offering = |id: &str, tier: common::Tier, cents: i64, notice, sla_permille| common::Offering {
        id: id.into(),
        tier: tier.into(),
        gpu: "H100".into(),
        price_micro_dollars_per_gpu_hour: cents * 10_000,
        notice: wire_span(notice),
        sla_permille,
        floor_permille: (tier == common::Tier::Spot).then_some(800),
    };
    vec![
        offering("h100-firm", common::Tier::Firm, 235, Span::ZERO, 999),
        offering("h100-spot", common::Tier::Spot, 110, Span::secs(30), 0),
        common::Offering {
            gpu: "kilowatt".into(),
            price_micro_dollars_per_gpu_hour: 85_000,
            ..offering("shell-firm", common::Tier::Firm, 0, Span::minutes(2), 990)
        },
    ]
}
