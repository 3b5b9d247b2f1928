//! Ledger segments. Wire: `ledger.proto`. Model: [`model::ledger`].

use model::ledger::{Energy, Gap, Gas, Import, Line, Run, Segment, ShareEnd, Shares, Use};
use model::site::GasVolume;
use model::workload::GpuTime;
use model::{MicroDollars, WattSeconds, Work};

use super::field::{
    Error, id, list, list_with, message, optional_time, required, time, wire_list, wire_time,
};
use crate::common as wire;

impl From<Segment> for wire::Segment {
    fn from(Segment { module, sequence, from, to, lines }: Segment) -> Self {
        Self {
            module: module.as_str().to_owned(),
            sequence,
            from: wire_time(from),
            to: wire_time(to),
            lines: wire_list(lines),
        }
    }
}

impl TryFrom<wire::Segment> for Segment {
    type Error = Error;
    fn try_from(segment: wire::Segment) -> Result<Self, Error> {
        let wire::Segment { module, sequence, from, to, lines } = segment;
        Ok(Self {
            module: id(&module, "module")?,
            sequence,
            from: time(from, "from")?,
            to: time(to, "to")?,
            lines: list(lines, "lines")?,
        })
    }
}

impl From<Line> for wire::Line {
    fn from(line: Line) -> Self {
        let kind = match line {
            Line::Energy(energy) => wire::line::Kind::Energy(energy.into()),
            Line::Shares(shares) => wire::line::Kind::Shares(shares.into()),
            Line::Run(run) => wire::line::Kind::Run(run.into()),
            Line::Gas(gas) => wire::line::Kind::Gas(gas.into()),
            Line::Gap(gap) => wire::line::Kind::Gap(gap.into()),
            Line::Import(import) => wire::line::Kind::Import(import.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Line> for Line {
    type Error = Error;
    fn try_from(line: wire::Line) -> Result<Self, Error> {
        use wire::line::Kind;
        match required(line.kind, "kind")? {
            Kind::Energy(energy) => kind(energy, "energy", Line::Energy),
            Kind::Shares(shares) => kind(shares, "shares", Line::Shares),
            Kind::Run(run) => kind(run, "run", Line::Run),
            Kind::Gas(gas) => kind(gas, "gas", Line::Gas),
            Kind::Gap(gap) => kind(gap, "gap", Line::Gap),
            Kind::Import(import) => kind(import, "import", Line::Import),
        }
    }
}

fn kind<W, M: TryFrom<W, Error = Error>>(value: W, field: &str, line: fn(M) -> Line) -> Result<Line, Error> {
    M::try_from(value).map(line).map_err(|error| error.within(field))
}

impl From<Energy> for wire::Energy {
    fn from(Energy { from, to, meter, uses, unattributed }: Energy) -> Self {
        Self {
            from: wire_time(from),
            to: wire_time(to),
            meter_watt_seconds: meter.get(),
            uses: wire_list(uses),
            unattributed_watt_seconds: unattributed.get(),
        }
    }
}

impl TryFrom<wire::Energy> for Energy {
    type Error = Error;
    fn try_from(energy: wire::Energy) -> Result<Self, Error> {
        Ok(Self {
            from: time(energy.from, "from")?,
            to: time(energy.to, "to")?,
            meter: WattSeconds::new(energy.meter_watt_seconds),
            uses: list_with(energy.uses, "uses", one_use)?,
            unattributed: WattSeconds::new(energy.unattributed_watt_seconds),
        })
    }
}

impl From<(Use, WattSeconds)> for wire::EnergyUse {
    fn from((used, energy): (Use, WattSeconds)) -> Self {
        use wire::energy_use::Use as Wire;
        let used = match used {
            Use::Mining { group } => Wire::MiningGroup(group.as_str().to_owned()),
            Use::Workload { tenant, workload } => Wire::Workload(wire::WorkloadUse {
                tenant: tenant.as_str().to_owned(),
                workload: workload.as_str().to_owned(),
            }),
            Use::Idle { pool } => Wire::IdlePool(pool.as_str().to_owned()),
            Use::Auxiliary => Wire::Auxiliary(wire::Auxiliary {}),
            Use::Loss => Wire::Loss(wire::Loss {}),
        };
        Self { r#use: Some(used), energy_watt_seconds: energy.get() }
    }
}

/// A function, since the model's pair is a tuple, for which no trait of others may be written.
fn one_use(value: wire::EnergyUse) -> Result<(Use, WattSeconds), Error> {
    use wire::energy_use::Use as Wire;
    let used = match required(value.r#use, "use")? {
        Wire::MiningGroup(group) => Use::Mining { group: id(&group, "mining_group")? },
        Wire::Workload(wire::WorkloadUse { tenant, workload }) => Use::Workload {
            tenant: id(&tenant, "workload.tenant")?,
            workload: id(&workload, "workload.workload")?,
        },
        Wire::IdlePool(pool) => Use::Idle { pool: id(&pool, "idle_pool")? },
        Wire::Auxiliary(wire::Auxiliary {}) => Use::Auxiliary,
        Wire::Loss(wire::Loss {}) => Use::Loss,
    };
    Ok((used, WattSeconds::new(value.energy_watt_seconds)))
}

impl From<Shares> for wire::Shares {
    fn from(Shares { group, worker, end, count, work, credited, scale }: Shares) -> Self {
        Self {
            group: group.as_str().to_owned(),
            worker,
            end: Some(end.into()),
            count,
            work_hashes: work.0.to_string(),
            scale,
            credited_hashes: if credited == Work::ZERO { String::new() } else { credited.0.to_string() },
        }
    }
}

impl TryFrom<wire::Shares> for Shares {
    type Error = Error;
    fn try_from(shares: wire::Shares) -> Result<Self, Error> {
        let parse = |text: &str, field| {
            text.parse().map(Work).map_err(|_| Error::new(field, "a decimal number below 2^128"))
        };
        let work = parse(&shares.work_hashes, "work_hashes")?;
        let credited = match shares.credited_hashes.as_str() {
            "" => Work::ZERO,
            text => parse(text, "credited_hashes")?,
        };
        Ok(Self {
            group: id(&shares.group, "group")?,
            worker: shares.worker,
            end: message(shares.end, "end")?,
            count: shares.count,
            work,
            credited,
            scale: shares.scale,
        })
    }
}

impl From<ShareEnd> for wire::ShareEnd {
    fn from(end: ShareEnd) -> Self {
        let (kind, detail) = match end {
            ShareEnd::Rejected(code) => (wire::ShareEndKind::Rejected, code),
            ShareEnd::Counted => (wire::ShareEndKind::Counted, String::new()),
            ShareEnd::KeepAlive => (wire::ShareEndKind::KeepAlive, String::new()),
            ShareEnd::Accepted => (wire::ShareEndKind::Accepted, String::new()),
            ShareEnd::Refused(words) => (wire::ShareEndKind::Refused, words),
            ShareEnd::Unknown => (wire::ShareEndKind::Unknown, String::new()),
        };
        Self { kind: kind.into(), detail }
    }
}

impl TryFrom<wire::ShareEnd> for ShareEnd {
    type Error = Error;
    fn try_from(wire::ShareEnd { kind, detail }: wire::ShareEnd) -> Result<Self, Error> {
        let known = wire::ShareEndKind::try_from(kind).unwrap_or_default();
        match known {
            wire::ShareEndKind::Unspecified => {
                Err(Error::new("kind", format!("a known end of a share, found {kind}")))
            }
            wire::ShareEndKind::Rejected => Ok(Self::Rejected(detail)),
            wire::ShareEndKind::Counted => Ok(Self::Counted),
            wire::ShareEndKind::KeepAlive => Ok(Self::KeepAlive),
            wire::ShareEndKind::Accepted => Ok(Self::Accepted),
            wire::ShareEndKind::Refused => Ok(Self::Refused(detail)),
            wire::ShareEndKind::Unknown => Ok(Self::Unknown),
        }
    }
}

impl From<Run> for wire::Run {
    fn from(run: Run) -> Self {
        Self {
            tenant: run.tenant.as_str().to_owned(),
            workload: run.workload.as_str().to_owned(),
            incarnation: run.incarnation,
            from: wire_time(run.from),
            to: wire_time(run.to),
            held_gpu_milliseconds: run.held.get(),
            progress_gpu_milliseconds: run.progress.get(),
            price_micro_dollars_per_gpu_hour: run.price.get(),
            by_progress: run.by_progress,
        }
    }
}

impl TryFrom<wire::Run> for Run {
    type Error = Error;
    fn try_from(run: wire::Run) -> Result<Self, Error> {
        Ok(Self {
            tenant: id(&run.tenant, "tenant")?,
            workload: id(&run.workload, "workload")?,
            incarnation: run.incarnation,
            from: time(run.from, "from")?,
            to: time(run.to, "to")?,
            held: GpuTime::new(run.held_gpu_milliseconds),
            progress: GpuTime::new(run.progress_gpu_milliseconds),
            price: MicroDollars::new(run.price_micro_dollars_per_gpu_hour),
            by_progress: run.by_progress,
        })
    }
}

impl From<Gas> for wire::Gas {
    fn from(Gas { site, from, to, supplied, burnt, flared }: Gas) -> Self {
        Self {
            site: site.as_str().to_owned(),
            from: wire_time(from),
            to: wire_time(to),
            supplied_scf: supplied.get(),
            burnt_scf: burnt.get(),
            flared_scf: flared.get(),
        }
    }
}

impl TryFrom<wire::Gas> for Gas {
    type Error = Error;
    fn try_from(gas: wire::Gas) -> Result<Self, Error> {
        Ok(Self {
            site: id(&gas.site, "site")?,
            from: time(gas.from, "from")?,
            to: time(gas.to, "to")?,
            supplied: GasVolume::new(gas.supplied_scf),
            burnt: GasVolume::new(gas.burnt_scf),
            flared: GasVolume::new(gas.flared_scf),
        })
    }
}

impl From<Import> for wire::Import {
    fn from(Import { site, from, to, energy, cost }: Import) -> Self {
        Self {
            site: site.as_str().to_owned(),
            from: wire_time(from),
            to: wire_time(to),
            energy_watt_seconds: energy.get(),
            cost_micro_dollars: cost.map(MicroDollars::get),
        }
    }
}

impl TryFrom<wire::Import> for Import {
    type Error = Error;
    fn try_from(import: wire::Import) -> Result<Self, Error> {
        Ok(Self {
            site: id(&import.site, "site")?,
            from: time(import.from, "from")?,
            to: time(import.to, "to")?,
            energy: WattSeconds::new(import.energy_watt_seconds),
            cost: import.cost_micro_dollars.map(MicroDollars::new),
        })
    }
}

impl From<Gap> for wire::Gap {
    fn from(Gap { from, to, why }: Gap) -> Self {
        Self { from: from.and_then(wire_time), to: wire_time(to), why }
    }
}

impl TryFrom<wire::Gap> for Gap {
    type Error = Error;
    fn try_from(wire::Gap { from, to, why }: wire::Gap) -> Result<Self, Error> {
        Ok(Self { from: optional_time(from, "from")?, to: time(to, "to")?, why })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vary::{Vary, survives};
    use super::*;

    fn used(v: &mut Vary) -> (Use, WattSeconds) {
        let uses = [
            Use::Mining { group: v.id() },
            Use::Workload { tenant: v.id(), workload: v.id() },
            Use::Idle { pool: v.id() },
            Use::Auxiliary,
            Use::Loss,
        ];
        (v.pick(&uses), v.of())
    }

    fn end(v: &mut Vary) -> ShareEnd {
        let ends = [
            ShareEnd::Rejected(v.text()),
            ShareEnd::Counted,
            ShareEnd::KeepAlive,
            ShareEnd::Accepted,
            ShareEnd::Refused(v.text()),
            ShareEnd::Unknown,
        ];
        v.pick(&ends)
    }

    fn line(v: &mut Vary) -> Line {
        let (from, to) = (v.time(), v.time());
        let lines = [
            Line::Energy(Energy { from, to, meter: v.of(), uses: v.list(used), unattributed: v.of() }),
            Line::Shares(Shares {
                group: v.id(),
                worker: v.text(),
                end: end(v),
                count: v.bits(),
                work: Work(u128::from(v.bits()) << 64 | u128::from(v.bits())),
                credited: Work(v.bits().into()),
                scale: v.bits(),
            }),
            Line::Run(Run {
                tenant: v.id(),
                workload: v.id(),
                incarnation: v.bits(),
                from,
                to,
                held: v.of(),
                progress: v.of(),
                price: v.of(),
                by_progress: v.flag(),
            }),
            Line::Gas(Gas { site: v.id(), from, to, supplied: v.of(), burnt: v.of(), flared: v.of() }),
            Line::Import(Import { site: v.id(), from, to, energy: v.of(), cost: v.maybe(Vary::of) }),
            Line::Gap(Gap { from: v.maybe(Vary::time), to, why: v.text() }),
        ];
        v.pick(&lines)
    }

    #[test]
    fn segments_survive_the_wire() {
        survives::<_, wire::Segment>(|v| Segment {
            module: v.id(),
            sequence: v.bits(),
            from: v.time(),
            to: v.time(),
            lines: v.list(line),
        });
    }

    #[test]
    fn what_is_wrong_in_a_line_is_named_by_its_path() {
        let check = |kind: Option<wire::line::Kind>, path: &str| {
            let at = Some(prost_types::Timestamp::default());
            let lines = vec![wire::Line { kind }];
            let segment = wire::Segment { module: "m".into(), sequence: 1, from: at, to: at, lines };
            assert_eq!(Segment::try_from(segment).map_err(|error| error.path), Err(path.to_owned()));
        };
        check(None, "lines[0].kind");
        check(Some(wire::line::Kind::Gap(wire::Gap::default())), "lines[0].gap.to");
        let shares = wire::Shares { group: "a".into(), work_hashes: "-1".into(), ..Default::default() };
        check(Some(wire::line::Kind::Shares(shares)), "lines[0].shares.work_hashes");
        let shares = wire::Shares { group: "a".into(), work_hashes: "1".into(), ..Default::default() };
        check(
            Some(wire::line::Kind::Shares(wire::Shares { end: None, ..shares.clone() })),
            "lines[0].shares.end",
        );
        let end = Some(wire::ShareEnd { kind: 77, detail: String::new() });
        check(Some(wire::line::Kind::Shares(wire::Shares { end, ..shares })), "lines[0].shares.end.kind");
        let at = Some(prost_types::Timestamp::default());
        let uses = vec![wire::EnergyUse::default()];
        let energy = wire::Energy { from: at, to: at, uses, ..Default::default() };
        check(Some(wire::line::Kind::Energy(energy)), "lines[0].energy.uses[0].use");
    }
}
