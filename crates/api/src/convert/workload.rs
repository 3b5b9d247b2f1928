//! Workloads. Wire: `workload.proto`; what was promised: `quote.proto`. Model: [`model::workload`].
//!
//! What lies ahead of a workload stands on the wire alone: no part of the model remembers it.

use model::workload::{GpuTime, Grounds, Phase, Placement, Promise, Spec, Status, Tier, Workload};
use model::{MicroDollars, Pace};

use super::field::{
    Error, choice, id, message, optional, optional_time, required, span, time, unspecified, wire_span,
    wire_time,
};
use crate::common as wire;

impl From<Workload> for wire::Workload {
    fn from(Workload { id, tenant, created, spec, cancel, promise, status }: Workload) -> Self {
        Self {
            id: id.as_str().to_owned(),
            tenant: tenant.as_str().to_owned(),
            created: wire_time(created),
            spec: Some(spec.into()),
            cancel,
            status: Some(status.into()),
            promise: promise.map(Into::into),
            prospect: None,
        }
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = Error;
    fn try_from(workload: wire::Workload) -> Result<Self, Error> {
        Ok(Self {
            id: id(&workload.id, "id")?,
            tenant: id(&workload.tenant, "tenant")?,
            created: time(workload.created, "created")?,
            spec: message(workload.spec, "spec")?,
            cancel: workload.cancel,
            promise: optional(workload.promise, "promise")?,
            status: message(workload.status, "status")?,
        })
    }
}

impl From<Promise> for wire::Promise {
    fn from(Promise { level, price, given, grounds }: Promise) -> Self {
        Self {
            level_permille: level,
            price_micro_dollars_per_gpu_hour: price.get(),
            given: wire_time(given),
            grounds: Some(grounds.into()),
        }
    }
}

impl TryFrom<wire::Promise> for Promise {
    type Error = Error;
    fn try_from(promise: wire::Promise) -> Result<Self, Error> {
        Ok(Self {
            level: promise.level_permille,
            price: MicroDollars::new(promise.price_micro_dollars_per_gpu_hour),
            given: time(promise.given, "given")?,
            grounds: required(promise.grounds, "grounds")?.into(),
        })
    }
}

impl From<Grounds> for wire::promise::Grounds {
    fn from(grounds: Grounds) -> Self {
        match grounds {
            Grounds::Holds { expected_ppm, least_price } => Self::Holds(wire::PromiseHolds {
                expected_ppm,
                least_price_micro_dollars_per_gpu_hour: least_price.get(),
            }),
            Grounds::Override { by, why } => Self::Overridden(wire::PromiseOverride { by, why }),
        }
    }
}

impl From<wire::promise::Grounds> for Grounds {
    fn from(grounds: wire::promise::Grounds) -> Self {
        match grounds {
            wire::promise::Grounds::Holds(holds) => Self::Holds {
                expected_ppm: holds.expected_ppm,
                least_price: MicroDollars::new(holds.least_price_micro_dollars_per_gpu_hour),
            },
            wire::promise::Grounds::Overridden(wire::PromiseOverride { by, why }) => {
                Self::Override { by, why }
            }
        }
    }
}

impl From<Spec> for wire::WorkloadSpec {
    fn from(spec: Spec) -> Self {
        Self {
            offering: spec.offering.as_str().to_owned(),
            tier: wire::Tier::from(spec.tier).into(),
            gpu: spec.gpu,
            gpus: spec.gpus,
            amount_gpu_milliseconds: spec.amount.map(GpuTime::get),
            price_micro_dollars_per_gpu_hour: spec.price.get(),
            checkpoint: wire_span(spec.checkpoint),
            save: wire_span(spec.save),
            restart: wire_span(spec.restart),
            floor_permille: spec.floor.map(Pace::get),
            affinity: spec.affinity.map(Into::into),
        }
    }
}

impl TryFrom<wire::WorkloadSpec> for Spec {
    type Error = Error;
    fn try_from(spec: wire::WorkloadSpec) -> Result<Self, Error> {
        Ok(Self {
            offering: id(&spec.offering, "offering")?,
            tier: choice::<wire::Tier, _>(spec.tier, "tier")?,
            gpu: spec.gpu,
            gpus: spec.gpus,
            amount: spec.amount_gpu_milliseconds.map(GpuTime::new),
            price: MicroDollars::new(spec.price_micro_dollars_per_gpu_hour),
            checkpoint: span(spec.checkpoint, "checkpoint")?,
            save: span(spec.save, "save")?,
            restart: span(spec.restart, "restart")?,
            floor: spec.floor_permille.map(Pace::new),
            affinity: optional(spec.affinity, "affinity")?,
        })
    }
}

impl From<Status> for wire::WorkloadStatus {
    fn from(status: Status) -> Self {
        Self {
            phase: wire::WorkloadPhase::from(status.phase).into(),
            reason: wire::ReasonCode::from(status.reason).into(),
            placement: status.placement.map(Into::into),
            progress_gpu_milliseconds: status.progress.get(),
            saved_gpu_milliseconds: status.saved.get(),
            held_gpu_milliseconds: status.held.get(),
            preemptions: status.preemptions,
            preempted: status.preempted.and_then(wire_time),
            progress_at_preemption_gpu_milliseconds: status.progress_at_preemption.get(),
            since: wire_time(status.since),
        }
    }
}

impl TryFrom<wire::WorkloadStatus> for Status {
    type Error = Error;
    fn try_from(status: wire::WorkloadStatus) -> Result<Self, Error> {
        Ok(Self {
            phase: choice::<wire::WorkloadPhase, _>(status.phase, "phase")?,
            reason: choice::<wire::ReasonCode, _>(status.reason, "reason")?,
            placement: optional(status.placement, "placement")?,
            progress: GpuTime::new(status.progress_gpu_milliseconds),
            saved: GpuTime::new(status.saved_gpu_milliseconds),
            held: GpuTime::new(status.held_gpu_milliseconds),
            preemptions: status.preemptions,
            preempted: optional_time(status.preempted, "preempted")?,
            progress_at_preemption: GpuTime::new(status.progress_at_preemption_gpu_milliseconds),
            since: time(status.since, "since")?,
        })
    }
}

impl From<Placement> for wire::Placement {
    fn from(Placement { module, pool, servers, incarnation }: Placement) -> Self {
        let servers = servers.into_iter().map(|(server, gpus)| wire::ServerGpus { server, gpus }).collect();
        Self { module: module.as_str().to_owned(), pool: pool.as_str().to_owned(), servers, incarnation }
    }
}

impl TryFrom<wire::Placement> for Placement {
    type Error = Error;
    fn try_from(placement: wire::Placement) -> Result<Self, Error> {
        let wire::Placement { module, pool, servers, incarnation } = placement;
        let servers = servers.into_iter().map(|taken| (taken.server, taken.gpus)).collect();
        Ok(Self { module: id(&module, "module")?, pool: id(&pool, "pool")?, servers, incarnation })
    }
}

impl From<Tier> for wire::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Firm => Self::Firm,
            Tier::OnDemand => Self::OnDemand,
            Tier::Spot => Self::Spot,
        }
    }
}

impl TryFrom<wire::Tier> for Tier {
    type Error = Error;
    fn try_from(tier: wire::Tier) -> Result<Self, Error> {
        match tier {
            wire::Tier::Unspecified => Err(unspecified()),
            wire::Tier::Firm => Ok(Self::Firm),
            wire::Tier::OnDemand => Ok(Self::OnDemand),
            wire::Tier::Spot => Ok(Self::Spot),
        }
    }
}

impl From<Phase> for wire::WorkloadPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Stopping => Self::Stopping,
            Phase::Unreachable => Self::Unreachable,
            Phase::Completed => Self::Completed,
            Phase::Cancelled => Self::Cancelled,
        }
    }
}

impl TryFrom<wire::WorkloadPhase> for Phase {
    type Error = Error;
    fn try_from(phase: wire::WorkloadPhase) -> Result<Self, Error> {
        match phase {
            wire::WorkloadPhase::Unspecified => Err(unspecified()),
            wire::WorkloadPhase::Pending => Ok(Self::Pending),
            wire::WorkloadPhase::Starting => Ok(Self::Starting),
            wire::WorkloadPhase::Running => Ok(Self::Running),
            wire::WorkloadPhase::Stopping => Ok(Self::Stopping),
            wire::WorkloadPhase::Unreachable => Ok(Self::Unreachable),
            wire::WorkloadPhase::Completed => Ok(Self::Completed),
            wire::WorkloadPhase::Cancelled => Ok(Self::Cancelled),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::affinity::tests::affinity;
    use super::super::reason::tests::reason;
    use super::super::vary::{Vary, enum_survives, survives};
    use super::*;

    const TIERS: [Tier; 3] = [Tier::Firm, Tier::OnDemand, Tier::Spot];
    const PHASES: [Phase; 7] = [
        Phase::Pending,
        Phase::Starting,
        Phase::Running,
        Phase::Stopping,
        Phase::Unreachable,
        Phase::Completed,
        Phase::Cancelled,
    ];

    pub(in super::super) fn tier(v: &mut Vary) -> Tier {
        v.pick(&TIERS)
    }

    pub(in super::super) fn placement(v: &mut Vary) -> Placement {
        Placement {
            module: v.id(),
            pool: v.id(),
            servers: v.list(|v| (v.small(), v.small())),
            incarnation: v.bits(),
        }
    }

    fn promise(v: &mut Vary) -> Promise {
        let grounds = match v.flag() {
            true => Grounds::Holds { expected_ppm: v.bits(), least_price: v.of() },
            false => Grounds::Override { by: v.text(), why: v.text() },
        };
        Promise { level: v.small(), price: v.of(), given: v.time(), grounds }
    }

    pub(in super::super) fn workload(v: &mut Vary) -> Workload {
        Workload {
            id: v.id(),
            tenant: v.id(),
            created: v.time(),
            spec: Spec {
                offering: v.id(),
                tier: tier(v),
                gpu: v.text(),
                gpus: v.small(),
                amount: v.maybe(Vary::of),
                price: v.of(),
                checkpoint: v.span(),
                save: v.span(),
                restart: v.span(),
                floor: v.maybe(Vary::of),
                affinity: v.maybe(affinity),
            },
            cancel: v.flag(),
            promise: v.maybe(promise),
            status: Status {
                phase: v.pick(&PHASES),
                reason: reason(v),
                placement: v.maybe(placement),
                progress: v.of(),
                saved: v.of(),
                held: v.of(),
                preemptions: v.small(),
                preempted: v.maybe(Vary::time),
                progress_at_preemption: v.of(),
                since: v.time(),
            },
        }
    }

    #[test]
    fn workloads_survive_the_wire() {
        survives::<_, wire::Workload>(workload);
        enum_survives(&TIERS, wire::Tier::Unspecified);
        enum_survives(&PHASES, wire::WorkloadPhase::Unspecified);
    }

    #[test]
    fn a_promise_without_grounds_is_refused() {
        let promise = wire::Promise { given: wire_time(model::Time(0)), ..Default::default() };
        let error = Promise::try_from(promise).expect_err("nobody gives a promise for no reason");
        assert_eq!(error.to_string(), "grounds: expected a value, found none");
    }

    #[test]
    fn an_unknown_phase_is_refused_with_its_number() {
        let status = wire::WorkloadStatus { phase: 99, ..Default::default() };
        let error = Status::try_from(status).expect_err("99 is no phase");
        assert_eq!(error.to_string(), "phase: expected a known enum value, found 99; is the sender newer?");
        let status = wire::WorkloadStatus::default();
        let error = Status::try_from(status).expect_err("0 is no phase");
        assert_eq!(error.to_string(), "phase: expected an enum value other than UNSPECIFIED");
    }
}
