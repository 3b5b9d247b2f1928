//! Plans, as operators see them. Wire: `plan.proto`. Model: [`model::plan`].

use model::plan::{Bound, Contingency, Decision, ModulePlan, Plan, SitePlan, SiteStep, Subject};
use model::site::GasFlow;
use model::{MicroDollars, Shared, Watts};

use super::field::{
    Error, choice, id, list, map, map_with, message, optional, required, time, wire_list, wire_map, wire_time,
};
use crate::common as wire;

impl From<Plan> for wire::Plan {
    fn from(Plan { generation, parent, made, input, sites, worth, bound, decisions }: Plan) -> Self {
        Self {
            generation,
            parent,
            made: wire_time(made),
            input_sha256: input,
            sites: wire_map(sites),
            worth_micro_dollars: worth.get(),
            decisions: wire_list(decisions),
            bound: bound.map(Into::into),
        }
    }
}

impl TryFrom<wire::Plan> for Plan {
    type Error = Error;
    fn try_from(plan: wire::Plan) -> Result<Self, Error> {
        Ok(Self {
            generation: plan.generation,
            parent: plan.parent,
            made: time(plan.made, "made")?,
            input: plan.input_sha256,
            sites: map(plan.sites, "sites")?,
            worth: MicroDollars::new(plan.worth_micro_dollars),
            bound: optional(plan.bound, "bound")?,
            decisions: list(plan.decisions, "decisions")?,
        })
    }
}

impl From<Bound> for wire::Bound {
    fn from(Bound { most, reached, made }: Bound) -> Self {
        Self { most_micro_dollars: most.get(), reached_micro_dollars: reached.get(), made: wire_time(made) }
    }
}

impl TryFrom<wire::Bound> for Bound {
    type Error = Error;
    fn try_from(bound: wire::Bound) -> Result<Self, Error> {
        Ok(Self {
            most: MicroDollars::new(bound.most_micro_dollars),
            reached: MicroDollars::new(bound.reached_micro_dollars),
            made: time(bound.made, "made")?,
        })
    }
}

impl From<Shared<SitePlan>> for wire::SitePlan {
    fn from(site: Shared<SitePlan>) -> Self {
        site.take().into()
    }
}

impl TryFrom<wire::SitePlan> for Shared<SitePlan> {
    type Error = Error;
    fn try_from(site: wire::SitePlan) -> Result<Self, Error> {
        SitePlan::try_from(site).map(Self::from)
    }
}

impl From<SitePlan> for wire::SitePlan {
    fn from(site: SitePlan) -> Self {
        let SitePlan {
            capacity,
            firm_capacity,
            gensets,
            later,
            contingencies,
            modules,
            storage,
            import,
            steps,
        } = site;
        Self {
            capacity_watts: capacity.get(),
            firm_capacity_watts: firm_capacity.get(),
            gensets: wire_map(gensets),
            later_steps: wire_map(later),
            contingencies: wire_map(contingencies),
            modules: wire_map(modules),
            steps: wire_list(steps),
            storage: storage.map(Into::into),
            import: import.map(Into::into),
        }
    }
}

impl TryFrom<wire::SitePlan> for SitePlan {
    type Error = Error;
    fn try_from(site: wire::SitePlan) -> Result<Self, Error> {
        Ok(Self {
            capacity: Watts::new(site.capacity_watts),
            firm_capacity: Watts::new(site.firm_capacity_watts),
            gensets: map_with(site.gensets, "gensets", Ok)?,
            later: map_with(site.later_steps, "later_steps", Ok)?,
            contingencies: map(site.contingencies, "contingencies")?,
            modules: map(site.modules, "modules")?,
            storage: optional(site.storage, "storage")?,
            import: optional(site.import, "import")?,
            steps: list(site.steps, "steps")?,
        })
    }
}

impl From<Contingency> for wire::Contingency {
    fn from(Contingency { source, lost, absorbed, shed }: Contingency) -> Self {
        Self {
            source: source.as_str().to_owned(),
            lost_watts: lost.get(),
            absorbed_watts: absorbed.get(),
            shed_watts: shed.get(),
        }
    }
}

impl TryFrom<wire::Contingency> for Contingency {
    type Error = Error;
    fn try_from(contingency: wire::Contingency) -> Result<Self, Error> {
        Ok(Self {
            source: id(&contingency.source, "source")?,
            lost: Watts::new(contingency.lost_watts),
            absorbed: Watts::new(contingency.absorbed_watts),
            shed: Watts::new(contingency.shed_watts),
        })
    }
}

impl From<ModulePlan> for wire::ModulePlan {
    fn from(module: ModulePlan) -> Self {
        let armed = module.armed.into_iter();
        let caps = module.caps.into_iter();
        Self {
            ceiling_watts: module.ceiling.get(),
            ai_floor_watts: module.ai_floor.get(),
            share: Some(module.share.into()),
            ladder: wire_list(module.ladder),
            armed: armed.map(|(id, rungs)| (id.as_str().to_owned(), wire::RungSet { rungs })).collect(),
            fallback: wire_list(module.fallback),
            miners: wire_map(module.miners),
            cap_watts: caps.map(|(id, cap)| (id.as_str().to_owned(), cap.get())).collect(),
            runs: wire_map(module.runs),
            slowed_watts: module
                .slowed
                .into_iter()
                .map(|(id, cap)| (id.as_str().to_owned(), cap.get()))
                .collect(),
        }
    }
}

impl TryFrom<wire::ModulePlan> for ModulePlan {
    type Error = Error;
    fn try_from(module: wire::ModulePlan) -> Result<Self, Error> {
        Ok(Self {
            ceiling: Watts::new(module.ceiling_watts),
            ai_floor: Watts::new(module.ai_floor_watts),
            share: message(module.share, "share")?,
            ladder: list(module.ladder, "ladder")?,
            armed: map_with(module.armed, "armed", |set| Ok(set.rungs))?,
            fallback: list(module.fallback, "fallback")?,
            miners: map(module.miners, "miners")?,
            caps: map_with(module.cap_watts, "cap_watts", |cap| Ok(Watts::new(cap)))?,
            runs: map(module.runs, "runs")?,
            slowed: map_with(module.slowed_watts, "slowed_watts", |cap| Ok(Watts::new(cap)))?,
        })
    }
}

impl From<SiteStep> for wire::SiteStep {
    fn from(SiteStep { capacity, ai, mining, auxiliary, flared, worth }: SiteStep) -> Self {
        Self {
            capacity_watts: capacity.get(),
            ai_watts: ai.get(),
            mining_watts: mining.get(),
            auxiliary_watts: auxiliary.get(),
            flared_scf_per_day: flared.get(),
            worth_micro_dollars: worth.get(),
        }
    }
}

impl TryFrom<wire::SiteStep> for SiteStep {
    type Error = Error;
    fn try_from(step: wire::SiteStep) -> Result<Self, Error> {
        Ok(Self {
            capacity: Watts::new(step.capacity_watts),
            ai: Watts::new(step.ai_watts),
            mining: Watts::new(step.mining_watts),
            auxiliary: Watts::new(step.auxiliary_watts),
            flared: GasFlow::new(step.flared_scf_per_day),
            worth: MicroDollars::new(step.worth_micro_dollars),
        })
    }
}

impl From<Shared<Decision>> for wire::Decision {
    fn from(decision: Shared<Decision>) -> Self {
        decision.take().into()
    }
}

impl TryFrom<wire::Decision> for Shared<Decision> {
    type Error = Error;
    fn try_from(decision: wire::Decision) -> Result<Self, Error> {
        Decision::try_from(decision).map(Self::from)
    }
}

impl From<Decision> for wire::Decision {
    fn from(Decision { subject, reason, binding, shadow_price, rejected }: Decision) -> Self {
        Self {
            subject: Some(subject.into()),
            reason: wire::ReasonCode::from(reason).into(),
            binding,
            shadow_price_micro_dollars_per_hour: shadow_price.map(MicroDollars::get),
            rejected,
        }
    }
}

impl TryFrom<wire::Decision> for Decision {
    type Error = Error;
    fn try_from(decision: wire::Decision) -> Result<Self, Error> {
        Ok(Self {
            subject: message(decision.subject, "subject")?,
            reason: choice::<wire::ReasonCode, _>(decision.reason, "reason")?,
            binding: decision.binding,
            shadow_price: decision.shadow_price_micro_dollars_per_hour.map(MicroDollars::new),
            rejected: decision.rejected,
        })
    }
}

impl From<Subject> for wire::Subject {
    fn from(subject: Subject) -> Self {
        let kind = match subject {
            Subject::Site(id) => wire::subject::Kind::Site(id.as_str().to_owned()),
            Subject::Module(id) => wire::subject::Kind::Module(id.as_str().to_owned()),
            Subject::Workload(id) => wire::subject::Kind::Workload(id.as_str().to_owned()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Subject> for Subject {
    type Error = Error;
    fn try_from(subject: wire::Subject) -> Result<Self, Error> {
        Ok(match required(subject.kind, "kind")? {
            wire::subject::Kind::Site(text) => Self::Site(id(&text, "site")?),
            wire::subject::Kind::Module(text) => Self::Module(id(&text, "module")?),
            wire::subject::Kind::Workload(text) => Self::Workload(id(&text, "workload")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::tests::{fallback, import, rung, share, storage, target};
    use super::super::reason::tests::reason;
    use super::super::vary::{Vary, survives};
    use super::super::workload::tests::placement;
    use super::*;

    fn decision(v: &mut Vary) -> Decision {
        let subjects = [Subject::Site(v.id()), Subject::Module(v.id()), Subject::Workload(v.id())];
        Decision {
            subject: v.pick(&subjects),
            reason: reason(v),
            binding: v.maybe(Vary::text),
            shadow_price: v.maybe(Vary::of),
            rejected: v.maybe(Vary::text),
        }
    }

    fn module(v: &mut Vary) -> ModulePlan {
        ModulePlan {
            ceiling: v.of(),
            ai_floor: v.of(),
            share: share(v),
            ladder: v.list(rung),
            armed: v.map(|v| v.list(Vary::small)),
            fallback: v.list(fallback),
            miners: v.map(target),
            caps: v.map(Vary::of),
            runs: v.map(placement),
            slowed: v.map(Vary::of),
        }
    }

    fn step(v: &mut Vary) -> SiteStep {
        SiteStep {
            capacity: v.of(),
            ai: v.of(),
            mining: v.of(),
            auxiliary: v.of(),
            flared: v.of(),
            worth: v.of(),
        }
    }

    fn site(v: &mut Vary) -> SitePlan {
        SitePlan {
            capacity: v.of(),
            firm_capacity: v.of(),
            gensets: v.map(Vary::flag),
            later: v.map(Vary::small),
            contingencies: v.map(|v| Contingency {
                source: v.id(),
                lost: v.of(),
                absorbed: v.of(),
                shed: v.of(),
            }),
            modules: v.map(module),
            storage: v.maybe(storage),
            import: v.maybe(import),
            steps: v.list(step),
        }
    }

    fn plan(v: &mut Vary) -> Plan {
        Plan {
            generation: v.bits(),
            parent: v.maybe(Vary::bits),
            made: v.time(),
            input: v.text(),
            sites: v.map(|v| site(v).into()),
            worth: v.of(),
            bound: v.maybe(|v| Bound { most: v.of(), reached: v.of(), made: v.time() }),
            decisions: v.list(|v| decision(v).into()),
        }
    }

    #[test]
    fn plans_survive_the_wire() {
        survives::<_, wire::Plan>(plan);
    }

    #[test]
    fn a_subject_must_be_of_some_kind() {
        let decision = wire::Decision { subject: Some(wire::Subject { kind: None }), ..Default::default() };
        let error = Decision::try_from(decision).expect_err("the subject says nothing");
        assert_eq!(error.path, "subject.kind");
        let error = Subject::try_from(wire::Subject { kind: Some(wire::subject::Kind::Site("A".into())) });
        assert_eq!(error.map_err(|error| error.path), Err("site".into()));
    }
}
