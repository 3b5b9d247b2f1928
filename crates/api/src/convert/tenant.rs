//! Tenants, offerings, and a workload as its tenant sees it. Wire: `common/v1/tenant.proto`, `tenant/v1/tenant.proto`.
//! Model: [`model::tenant`], [`model::workload`].

use model::tenant::{Offering, Tenant};
use model::workload::Workload;
use model::{MicroDollars, Pace};

use super::field::{Error, choice, id, span, time, wire_span, wire_time};
use crate::common as wire;

impl From<Tenant> for wire::Tenant {
    fn from(Tenant { id, name, gpu_quota, kilowatt_quota, created }: Tenant) -> Self {
        Self { id: id.as_str().to_owned(), name, gpu_quota, created: wire_time(created), kilowatt_quota }
    }
}

impl TryFrom<wire::Tenant> for Tenant {
    type Error = Error;
    fn try_from(tenant: wire::Tenant) -> Result<Self, Error> {
        let created = time(tenant.created, "created")?;
        Ok(Self {
            id: id(&tenant.id, "id")?,
            name: tenant.name,
            gpu_quota: tenant.gpu_quota,
            kilowatt_quota: tenant.kilowatt_quota,
            created,
        })
    }
}

impl From<Offering> for wire::Offering {
    fn from(Offering { id, tier, gpu, price, notice, sla_permille, floor }: Offering) -> Self {
        Self {
            id: id.as_str().to_owned(),
            tier: wire::Tier::from(tier).into(),
            gpu,
            price_micro_dollars_per_gpu_hour: price.get(),
            notice: wire_span(notice),
            sla_permille,
            floor_permille: floor.map(Pace::get),
        }
    }
}

impl TryFrom<wire::Offering> for Offering {
    type Error = Error;
    fn try_from(offering: wire::Offering) -> Result<Self, Error> {
        Ok(Self {
            id: id(&offering.id, "id")?,
            tier: choice::<wire::Tier, _>(offering.tier, "tier")?,
            gpu: offering.gpu,
            price: MicroDollars::new(offering.price_micro_dollars_per_gpu_hour),
            notice: span(offering.notice, "notice")?,
            sla_permille: offering.sla_permille,
            floor: offering.floor_permille.map(Pace::new),
        })
    }
}

/// What the tenant is shown: not where it runs, and not on what grounds it was promised. The explanation stays empty; whoever holds the plan fills it in.
impl From<Workload> for crate::tenant::Workload {
    fn from(Workload { id, tenant: _, created, spec, cancel, promise, status }: Workload) -> Self {
        Self {
            id: id.as_str().to_owned(),
            phase: wire::WorkloadPhase::from(status.phase).into(),
            reason: wire::ReasonCode::from(status.reason).into(),
            explanation: Vec::new(),
            cancel,
            created: wire_time(created),
            since: wire_time(status.since),
            progress_gpu_milliseconds: status.progress.get(),
            saved_gpu_milliseconds: status.saved.get(),
            held_gpu_milliseconds: status.held.get(),
            preemptions: status.preemptions,
            cost_micro_dollars: status.held.cost(spec.price).get(),
            spec: Some(spec.into()),
            promised_permille: promise.map_or(0, |promise| promise.level),
            prospect: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::workload::{GpuTime, Grounds, Promise};
    use model::{ModuleId, PoolId, Span, Time};
    use prost::Message as _;

    use super::super::vary::{Vary, survives};
    use super::super::workload::tests::{tier, workload};
    use super::*;

    fn tenant(v: &mut Vary) -> Tenant {
        Tenant {
            id: v.id(),
            name: v.text(),
            gpu_quota: v.small(),
            kilowatt_quota: v.small(),
            created: v.time(),
        }
    }

    fn offering(v: &mut Vary) -> Offering {
        Offering {
            id: v.id(),
            tier: tier(v),
            gpu: v.text(),
            price: v.of(),
            notice: v.span(),
            sla_permille: v.small(),
            floor: v.maybe(Vary::of),
        }
    }

    #[test]
    fn tenants_and_offerings_survive_the_wire() {
        survives::<_, wire::Tenant>(tenant);
        survives::<_, wire::Offering>(offering);
    }

    #[test]
    fn a_tenant_sees_its_cost_and_not_where_it_runs() {
        let mut sent = workload(&mut Vary::seeded(7));
        sent.spec.price = MicroDollars::cents(250);
        sent.status.held = GpuTime::of(8, Span::minutes(30));
        sent.status.placement = Some(model::workload::Placement {
            module: ModuleId::new("secret-module").expect("an id"),
            pool: PoolId::new("secret-pool").expect("an id"),
            servers: vec![(0, 8)],
            incarnation: 1,
        });
        let grounds = Grounds::Override { by: "secret-operator".into(), why: "secret-reason".into() };
        sent.promise = Some(Promise { level: 995, price: MicroDollars::ZERO, given: Time(0), grounds });
        let seen = crate::tenant::Workload::from(sent);
        assert_eq!(seen.promised_permille, 995);
        assert_eq!(seen.cost_micro_dollars, MicroDollars::dollars(10).get());
        let bytes = seen.encode_to_vec();
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "the placement or the grounds leaked");
    }
}
