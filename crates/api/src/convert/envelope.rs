//! Envelopes and directives. Wire: `envelope.proto`. Model: [`model::envelope`].

use model::envelope::{Arming, Assignment, Directive, Envelope, FallbackStep, Grant, Rung, RungLoad, Share};
use model::plan::{GroupTarget, ImportTarget, StorageTarget};
use model::site::Frequency;
use model::workload::GpuTime;
use model::{MicroDollars, Watts, WattsPerSecond};

use super::field::{
    Error, choice, id, list, map, map_with, message, narrow, optional, required, span, wire_list, wire_map,
    wire_span,
};
use crate::common as wire;

impl From<Directive> for wire::Directive {
    fn from(directive: Directive) -> Self {
        let Directive { envelope, miners, caps, gensets, storage, import, runs, slowed } = directive;
        Self {
            envelope: Some(envelope.into()),
            miners: wire_map(miners),
            cap_watts: caps.into_iter().map(|(id, cap)| (id.as_str().to_owned(), cap.get())).collect(),
            gensets: wire_map(gensets),
            storage: storage.map(Into::into),
            import: import.map(Into::into),
            runs: wire_map(runs),
            slowed_watts: slowed.into_iter().map(|(id, cap)| (id.as_str().to_owned(), cap.get())).collect(),
        }
    }
}

impl TryFrom<wire::Directive> for Directive {
    type Error = Error;
    fn try_from(directive: wire::Directive) -> Result<Self, Error> {
        Ok(Self {
            envelope: message(directive.envelope, "envelope")?,
            miners: map(directive.miners, "miners")?,
            caps: map_with(directive.cap_watts, "cap_watts", |cap| Ok(Watts::new(cap)))?,
            gensets: map_with(directive.gensets, "gensets", Ok)?,
            storage: optional(directive.storage, "storage")?,
            import: optional(directive.import, "import")?,
            runs: map(directive.runs, "runs")?,
            slowed: map_with(directive.slowed_watts, "slowed_watts", |cap| Ok(Watts::new(cap)))?,
        })
    }
}

impl From<Envelope> for wire::Envelope {
    fn from(Envelope { module, fence, generation, answers, valid_for, grant }: Envelope) -> Self {
        Self {
            module: module.as_str().to_owned(),
            fence: Some(fence.into()),
            generation,
            answers: Some(answers.into()),
            valid_for: wire_span(valid_for),
            grant: Some(grant.into()),
        }
    }
}

impl TryFrom<wire::Envelope> for Envelope {
    type Error = Error;
    fn try_from(envelope: wire::Envelope) -> Result<Self, Error> {
        Ok(Self {
            module: id(&envelope.module, "module")?,
            fence: message(envelope.fence, "fence")?,
            generation: envelope.generation,
            answers: message(envelope.answers, "answers")?,
            valid_for: span(envelope.valid_for, "valid_for")?,
            grant: message(envelope.grant, "grant")?,
        })
    }
}

impl From<Grant> for wire::Grant {
    fn from(Grant { ceiling, ai_floor, share, ladder, armed, fallback }: Grant) -> Self {
        Self {
            ceiling_watts: ceiling.get(),
            ai_floor_watts: ai_floor.get(),
            share: Some(share.into()),
            ladder: wire_list(ladder),
            armed: wire_map(armed),
            fallback: wire_list(fallback),
        }
    }
}

impl TryFrom<wire::Grant> for Grant {
    type Error = Error;
    fn try_from(grant: wire::Grant) -> Result<Self, Error> {
        Ok(Self {
            ceiling: Watts::new(grant.ceiling_watts),
            ai_floor: Watts::new(grant.ai_floor_watts),
            share: message(grant.share, "share")?,
            ladder: list(grant.ladder, "ladder")?,
            armed: map(grant.armed, "armed")?,
            fallback: list(grant.fallback, "fallback")?,
        })
    }
}

impl From<Arming> for wire::Arming {
    fn from(Arming { source, lost, absorbed, island_shed, rungs }: Arming) -> Self {
        Self {
            source: source.as_str().to_owned(),
            lost_watts: lost.get(),
            absorbed_watts: absorbed.get(),
            island_shed_watts: island_shed.get(),
            rungs,
        }
    }
}

impl TryFrom<wire::Arming> for Arming {
    type Error = Error;
    fn try_from(arming: wire::Arming) -> Result<Self, Error> {
        Ok(Self {
            source: id(&arming.source, "source")?,
            lost: Watts::new(arming.lost_watts),
            absorbed: Watts::new(arming.absorbed_watts),
            island_shed: Watts::new(arming.island_shed_watts),
            rungs: arming.rungs,
        })
    }
}

impl From<Share> for wire::StepShare {
    fn from(Share { step, ramp, cycle, offset, turn }: Share) -> Self {
        Self {
            step_watts: step.get(),
            ramp_watts_per_second: ramp.get(),
            cycle: wire_span(cycle),
            offset: wire_span(offset),
            turn: wire_span(turn),
        }
    }
}

impl TryFrom<wire::StepShare> for Share {
    type Error = Error;
    fn try_from(share: wire::StepShare) -> Result<Self, Error> {
        Ok(Self {
            step: Watts::new(share.step_watts),
            ramp: WattsPerSecond::new(share.ramp_watts_per_second),
            cycle: span(share.cycle, "cycle")?,
            offset: span(share.offset, "offset")?,
            turn: span(share.turn, "turn")?,
        })
    }
}

impl From<Rung> for wire::Rung {
    fn from(Rung { load, actuator, watts, opens, below }: Rung) -> Self {
        let load = match load {
            RungLoad::Miners(group) => wire::rung::Load::Miners(group.as_str().to_owned()),
            RungLoad::Pool(pool) => wire::rung::Load::Pool(pool.as_str().to_owned()),
            RungLoad::Storage => wire::rung::Load::Storage(wire::StorageRung {}),
        };
        Self {
            load: Some(load),
            actuator: wire::Actuator::from(actuator).into(),
            watts: watts.get(),
            opens: wire_span(opens),
            below_millihertz: below.get(),
        }
    }
}

impl TryFrom<wire::Rung> for Rung {
    type Error = Error;
    fn try_from(rung: wire::Rung) -> Result<Self, Error> {
        let load = match required(rung.load, "load")? {
            wire::rung::Load::Miners(group) => RungLoad::Miners(id(&group, "miners")?),
            wire::rung::Load::Pool(pool) => RungLoad::Pool(id(&pool, "pool")?),
            wire::rung::Load::Storage(wire::StorageRung {}) => RungLoad::Storage,
        };
        Ok(Self {
            load,
            actuator: choice::<wire::Actuator, _>(rung.actuator, "actuator")?,
            watts: Watts::new(rung.watts),
            opens: span(rung.opens, "opens")?,
            below: Frequency::new(rung.below_millihertz),
        })
    }
}

impl From<FallbackStep> for wire::FallbackStep {
    fn from(FallbackStep { after, ceiling }: FallbackStep) -> Self {
        Self { after: wire_span(after), ceiling_watts: ceiling.get() }
    }
}

impl TryFrom<wire::FallbackStep> for FallbackStep {
    type Error = Error;
    fn try_from(wire::FallbackStep { after, ceiling_watts }: wire::FallbackStep) -> Result<Self, Error> {
        Ok(Self { after: span(after, "after")?, ceiling: Watts::new(ceiling_watts) })
    }
}

impl From<StorageTarget> for wire::StorageTarget {
    fn from(StorageTarget { power, ramp }: StorageTarget) -> Self {
        Self { power_watts: power.get(), ramp_watts_per_second: ramp.get() }
    }
}

impl TryFrom<wire::StorageTarget> for StorageTarget {
    type Error = Error;
    fn try_from(target: wire::StorageTarget) -> Result<Self, Error> {
        let wire::StorageTarget { power_watts, ramp_watts_per_second } = target;
        Ok(Self { power: Watts::new(power_watts), ramp: WattsPerSecond::new(ramp_watts_per_second) })
    }
}

impl From<ImportTarget> for wire::ImportTarget {
    fn from(ImportTarget { power, ramp }: ImportTarget) -> Self {
        Self { power_watts: power.get(), ramp_watts_per_second: ramp.get() }
    }
}

impl TryFrom<wire::ImportTarget> for ImportTarget {
    type Error = Error;
    fn try_from(target: wire::ImportTarget) -> Result<Self, Error> {
        let wire::ImportTarget { power_watts, ramp_watts_per_second } = target;
        Ok(Self { power: Watts::new(power_watts), ramp: WattsPerSecond::new(ramp_watts_per_second) })
    }
}

impl From<GroupTarget> for wire::GroupTarget {
    fn from(GroupTarget { awake, point }: GroupTarget) -> Self {
        Self { awake, point: point.into() }
    }
}

impl TryFrom<wire::GroupTarget> for GroupTarget {
    type Error = Error;
    fn try_from(wire::GroupTarget { awake, point }: wire::GroupTarget) -> Result<Self, Error> {
        Ok(Self { awake, point: narrow(point, "point")? })
    }
}

impl From<Assignment> for wire::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            tenant: assignment.tenant.as_str().to_owned(),
            tier: wire::Tier::from(assignment.tier).into(),
            placement: Some(assignment.placement.into()),
            remaining_gpu_milliseconds: assignment.remaining.map(GpuTime::get),
            start_from_gpu_milliseconds: assignment.start_from.get(),
            checkpoint: wire_span(assignment.checkpoint),
            save: wire_span(assignment.save),
            restart: wire_span(assignment.restart),
            price_micro_dollars_per_gpu_hour: assignment.price.get(),
            keep_without_link: wire_span(assignment.keep_without_link),
            by_progress: assignment.by_progress,
        }
    }
}

impl TryFrom<wire::Assignment> for Assignment {
    type Error = Error;
    fn try_from(assignment: wire::Assignment) -> Result<Self, Error> {
        Ok(Self {
            tenant: id(&assignment.tenant, "tenant")?,
            tier: choice::<wire::Tier, _>(assignment.tier, "tier")?,
            placement: message(assignment.placement, "placement")?,
            remaining: assignment.remaining_gpu_milliseconds.map(GpuTime::new),
            start_from: GpuTime::new(assignment.start_from_gpu_milliseconds),
            checkpoint: span(assignment.checkpoint, "checkpoint")?,
            save: span(assignment.save, "save")?,
            restart: span(assignment.restart, "restart")?,
            price: MicroDollars::new(assignment.price_micro_dollars_per_gpu_hour),
            keep_without_link: span(assignment.keep_without_link, "keep_without_link")?,
            by_progress: assignment.by_progress,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::module::tests::actuator;
    use super::super::unit::tests::{fence, stamp};
    use super::super::vary::{Vary, survives};
    use super::super::workload::tests::{placement, tier};
    use super::*;

    pub(in super::super) fn share(v: &mut Vary) -> Share {
        Share { step: v.of(), ramp: v.of(), cycle: v.span(), offset: v.span(), turn: v.span() }
    }

    pub(in super::super) fn rung(v: &mut Vary) -> Rung {
        let loads = [RungLoad::Miners(v.id()), RungLoad::Pool(v.id()), RungLoad::Storage];
        Rung { load: v.pick(&loads), actuator: actuator(v), watts: v.of(), opens: v.span(), below: v.of() }
    }

    pub(in super::super) fn fallback(v: &mut Vary) -> FallbackStep {
        FallbackStep { after: v.span(), ceiling: v.of() }
    }

    pub(in super::super) fn target(v: &mut Vary) -> GroupTarget {
        GroupTarget { awake: v.small(), point: v.byte() }
    }

    pub(in super::super) fn storage(v: &mut Vary) -> StorageTarget {
        StorageTarget { power: v.of(), ramp: v.of() }
    }

    pub(in super::super) fn import(v: &mut Vary) -> ImportTarget {
        ImportTarget { power: v.of(), ramp: v.of() }
    }

    fn arming(v: &mut Vary) -> Arming {
        Arming {
            source: v.id(),
            lost: v.of(),
            absorbed: v.of(),
            island_shed: v.of(),
            rungs: v.list(Vary::small),
        }
    }

    fn assignment(v: &mut Vary) -> Assignment {
        Assignment {
            tenant: v.id(),
            tier: tier(v),
            placement: placement(v),
            remaining: v.maybe(Vary::of),
            start_from: v.of(),
            checkpoint: v.span(),
            save: v.span(),
            restart: v.span(),
            price: v.of(),
            keep_without_link: v.span(),
            by_progress: v.flag(),
        }
    }

    fn directive(v: &mut Vary) -> Directive {
        let grant = Grant {
            ceiling: v.of(),
            ai_floor: v.of(),
            share: share(v),
            ladder: v.list(rung),
            armed: v.map(arming),
            fallback: v.list(fallback),
        };
        let envelope = Envelope {
            module: v.id(),
            fence: fence(v),
            generation: v.bits(),
            answers: stamp(v),
            valid_for: v.span(),
            grant,
        };
        Directive {
            envelope,
            miners: v.map(target),
            caps: v.map(Vary::of),
            gensets: v.map(Vary::flag),
            storage: v.maybe(storage),
            import: v.maybe(import),
            runs: v.map(assignment),
            slowed: v.map(Vary::of),
        }
    }

    #[test]
    fn directives_survive_the_wire() {
        survives::<_, wire::Directive>(directive);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let whole = || wire::Directive::from(directive(&mut Vary::seeded(3)));
        let check = |directive: wire::Directive, path: &str| {
            assert_eq!(Directive::try_from(directive).map_err(|error| error.path), Err(path.to_owned()));
        };
        check(wire::Directive { envelope: None, ..whole() }, "envelope");
        let mut broken = whole();
        broken.envelope.get_or_insert_default().grant.get_or_insert_default().ladder =
            vec![wire::Rung::default()];
        check(broken, "envelope.grant.ladder[0].load");
        let mut broken = whole();
        broken.envelope.get_or_insert_default().fence = None;
        check(broken, "envelope.fence");
        let mut broken = whole();
        broken.miners = [("a".to_owned(), wire::GroupTarget { awake: 1, point: 256 })].into();
        check(broken, "miners[\"a\"].point");
    }
}
