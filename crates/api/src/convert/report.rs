//! Reports. Wire: `report.proto`. Model: [`model::report`].

use model::report::{
    EnvelopeReport, EnvelopeState, FeederState, GensetReport, GensetState, GroupReport, MAX_FINDINGS,
    PoolReport, Report, RunPhase, RunReport, SiteReport, StorageReport, Switch, TieReport, Verified,
};
use model::site::{Frequency, GasFlow, GasVolume};
use model::workload::GpuTime;
use model::{Hashrate, MicroDollars, WattSeconds, Watts};

use super::field::{
    Error, choice, id, list, map, message, narrow, optional, span, time, unspecified, wire_list, wire_map,
    wire_span, wire_time,
};
use crate::common as wire;

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        Self {
            module: report.module.as_str().to_owned(),
            sequence: report.sequence,
            stamp: Some(report.stamp.into()),
            at: wire_time(report.at),
            meter_watts: report.meter.map(Watts::get),
            switch: wire::Switch::from(report.switch).into(),
            groups: wire_map(report.groups),
            pools: wire_map(report.pools),
            runs: wire_map(report.runs),
            envelope: Some(report.envelope.into()),
            site: report.site.map(Into::into),
            findings: wire_list(report.findings),
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = Error;
    fn try_from(report: wire::Report) -> Result<Self, Error> {
        if report.findings.len() > MAX_FINDINGS {
            let found = report.findings.len();
            return Err(Error::new("findings", format!("at most {MAX_FINDINGS} findings, found {found}")));
        }
        Ok(Self {
            module: id(&report.module, "module")?,
            sequence: report.sequence,
            stamp: message(report.stamp, "stamp")?,
            at: time(report.at, "at")?,
            meter: report.meter_watts.map(Watts::new),
            switch: choice::<wire::Switch, _>(report.switch, "switch")?,
            groups: map(report.groups, "groups")?,
            pools: map(report.pools, "pools")?,
            runs: map(report.runs, "runs")?,
            envelope: message(report.envelope, "envelope")?,
            site: optional(report.site, "site")?,
            findings: list(report.findings, "findings")?,
        })
    }
}

impl From<GroupReport> for wire::GroupReport {
    fn from(group: GroupReport) -> Self {
        Self {
            feeder: wire::FeederState::from(group.feeder).into(),
            awake: group.awake,
            point: group.point.into(),
            power_watts: group.power.map(Watts::get),
            claimed_hashes_per_second: group.claimed.map(Hashrate::get),
            verified: group.verified.map(Into::into),
            connections: group.connections,
        }
    }
}

impl TryFrom<wire::GroupReport> for GroupReport {
    type Error = Error;
    fn try_from(group: wire::GroupReport) -> Result<Self, Error> {
        Ok(Self {
            feeder: choice::<wire::FeederState, _>(group.feeder, "feeder")?,
            awake: group.awake,
            point: narrow(group.point, "point")?,
            power: group.power_watts.map(Watts::new),
            claimed: group.claimed_hashes_per_second.map(Hashrate::new),
            verified: optional(group.verified, "verified")?,
            connections: group.connections,
        })
    }
}

impl From<Verified> for wire::Verified {
    fn from(Verified { rate, shares, window }: Verified) -> Self {
        Self { rate_hashes_per_second: rate.get(), shares, window: wire_span(window) }
    }
}

impl TryFrom<wire::Verified> for Verified {
    type Error = Error;
    fn try_from(verified: wire::Verified) -> Result<Self, Error> {
        let wire::Verified { rate_hashes_per_second, shares, window } = verified;
        Ok(Self { rate: Hashrate::new(rate_hashes_per_second), shares, window: span(window, "window")? })
    }
}

impl From<PoolReport> for wire::PoolReport {
    fn from(PoolReport { up, power }: PoolReport) -> Self {
        Self { up, power_watts: power.map(Watts::get) }
    }
}

impl TryFrom<wire::PoolReport> for PoolReport {
    type Error = Error;
    fn try_from(wire::PoolReport { up, power_watts }: wire::PoolReport) -> Result<Self, Error> {
        Ok(Self { up, power: power_watts.map(Watts::new) })
    }
}

impl From<RunReport> for wire::RunReport {
    fn from(RunReport { incarnation, phase, progress, saved, held }: RunReport) -> Self {
        Self {
            incarnation,
            phase: wire::RunPhase::from(phase).into(),
            progress_gpu_milliseconds: progress.get(),
            saved_gpu_milliseconds: saved.get(),
            held_gpu_milliseconds: held.get(),
        }
    }
}

impl TryFrom<wire::RunReport> for RunReport {
    type Error = Error;
    fn try_from(run: wire::RunReport) -> Result<Self, Error> {
        Ok(Self {
            incarnation: run.incarnation,
            phase: choice::<wire::RunPhase, _>(run.phase, "phase")?,
            progress: GpuTime::new(run.progress_gpu_milliseconds),
            saved: GpuTime::new(run.saved_gpu_milliseconds),
            held: GpuTime::new(run.held_gpu_milliseconds),
        })
    }
}

impl From<EnvelopeReport> for wire::EnvelopeReport {
    fn from(EnvelopeReport { fence, generation, state, ceiling, refused }: EnvelopeReport) -> Self {
        Self {
            fence: Some(fence.into()),
            generation,
            state: wire::EnvelopeState::from(state).into(),
            ceiling_watts: ceiling.get(),
            refused,
        }
    }
}

impl TryFrom<wire::EnvelopeReport> for EnvelopeReport {
    type Error = Error;
    fn try_from(envelope: wire::EnvelopeReport) -> Result<Self, Error> {
        Ok(Self {
            fence: message(envelope.fence, "fence")?,
            generation: envelope.generation,
            state: choice::<wire::EnvelopeState, _>(envelope.state, "state")?,
            ceiling: Watts::new(envelope.ceiling_watts),
            refused: envelope.refused,
        })
    }
}

impl From<SiteReport> for wire::SiteReport {
    fn from(site: SiteReport) -> Self {
        Self {
            frequency_millihertz: site.frequency.map(Frequency::get),
            gas_scf_per_day: site.gas.map(GasFlow::get),
            buffer_scf: site.buffer.map(GasVolume::get),
            flared_scf_per_day: site.flared.map(GasFlow::get),
            load_watts: site.load.map(Watts::get),
            unmanaged_watts: site.unmanaged.map(Watts::get),
            gensets: wire_map(site.gensets),
            storage: site.storage.map(Into::into),
            grid: site.grid.map(Into::into),
        }
    }
}

impl TryFrom<wire::SiteReport> for SiteReport {
    type Error = Error;
    fn try_from(site: wire::SiteReport) -> Result<Self, Error> {
        Ok(Self {
            frequency: site.frequency_millihertz.map(Frequency::new),
            gas: site.gas_scf_per_day.map(GasFlow::new),
            buffer: site.buffer_scf.map(GasVolume::new),
            flared: site.flared_scf_per_day.map(GasFlow::new),
            load: site.load_watts.map(Watts::new),
            unmanaged: site.unmanaged_watts.map(Watts::new),
            gensets: map(site.gensets, "gensets")?,
            storage: optional(site.storage, "storage")?,
            grid: optional(site.grid, "grid")?,
        })
    }
}

impl From<StorageReport> for wire::StorageReport {
    fn from(StorageReport { power, held, ready }: StorageReport) -> Self {
        Self { power_watts: power.map(Watts::get), held_watt_seconds: held.map(WattSeconds::get), ready }
    }
}

impl TryFrom<wire::StorageReport> for StorageReport {
    type Error = Error;
    fn try_from(storage: wire::StorageReport) -> Result<Self, Error> {
        let wire::StorageReport { power_watts, held_watt_seconds, ready } = storage;
        Ok(Self { power: power_watts.map(Watts::new), held: held_watt_seconds.map(WattSeconds::new), ready })
    }
}

impl From<TieReport> for wire::TieReport {
    fn from(TieReport { power, register, price, ready }: TieReport) -> Self {
        Self {
            power_watts: power.map(Watts::get),
            register_watt_seconds: register.map(WattSeconds::get),
            price_micro_dollars_per_mwh: price.map(MicroDollars::get),
            ready,
        }
    }
}

impl TryFrom<wire::TieReport> for TieReport {
    type Error = Error;
    fn try_from(tie: wire::TieReport) -> Result<Self, Error> {
        Ok(Self {
            power: tie.power_watts.map(Watts::new),
            register: tie.register_watt_seconds.map(WattSeconds::new),
            price: tie.price_micro_dollars_per_mwh.map(MicroDollars::new),
            ready: tie.ready,
        })
    }
}

impl From<GensetReport> for wire::GensetReport {
    fn from(GensetReport { state, power, for_span }: GensetReport) -> Self {
        let state = wire::GensetState::from(state).into();
        Self { state, power_watts: power.map(Watts::get), for_span: wire_span(for_span) }
    }
}

impl TryFrom<wire::GensetReport> for GensetReport {
    type Error = Error;
    fn try_from(
        wire::GensetReport { state, power_watts, for_span }: wire::GensetReport,
    ) -> Result<Self, Error> {
        Ok(Self {
            state: choice::<wire::GensetState, _>(state, "state")?,
            power: power_watts.map(Watts::new),
            for_span: span(for_span, "for_span")?,
        })
    }
}

impl From<Switch> for wire::Switch {
    fn from(switch: Switch) -> Self {
        match switch {
            Switch::Remote => Self::Remote,
            Switch::Local => Self::Local,
            Switch::Off => Self::Off,
            Switch::EmergencyStop => Self::EmergencyStop,
        }
    }
}

impl TryFrom<wire::Switch> for Switch {
    type Error = Error;
    fn try_from(switch: wire::Switch) -> Result<Self, Error> {
        match switch {
            wire::Switch::Unspecified => Err(unspecified()),
            wire::Switch::Remote => Ok(Self::Remote),
            wire::Switch::Local => Ok(Self::Local),
            wire::Switch::Off => Ok(Self::Off),
            wire::Switch::EmergencyStop => Ok(Self::EmergencyStop),
        }
    }
}

impl From<FeederState> for wire::FeederState {
    fn from(state: FeederState) -> Self {
        match state {
            FeederState::Closed => Self::Closed,
            FeederState::Moving => Self::Moving,
            FeederState::Open => Self::Open,
        }
    }
}

impl TryFrom<wire::FeederState> for FeederState {
    type Error = Error;
    fn try_from(state: wire::FeederState) -> Result<Self, Error> {
        match state {
            wire::FeederState::Unspecified => Err(unspecified()),
            wire::FeederState::Closed => Ok(Self::Closed),
            wire::FeederState::Moving => Ok(Self::Moving),
            wire::FeederState::Open => Ok(Self::Open),
        }
    }
}

impl From<RunPhase> for wire::RunPhase {
    fn from(phase: RunPhase) -> Self {
        match phase {
            RunPhase::Starting => Self::Starting,
            RunPhase::Running => Self::Running,
            RunPhase::Stopping => Self::Stopping,
            RunPhase::Stopped => Self::Stopped,
            RunPhase::Completed => Self::Completed,
        }
    }
}

impl TryFrom<wire::RunPhase> for RunPhase {
    type Error = Error;
    fn try_from(phase: wire::RunPhase) -> Result<Self, Error> {
        match phase {
            wire::RunPhase::Unspecified => Err(unspecified()),
            wire::RunPhase::Starting => Ok(Self::Starting),
            wire::RunPhase::Running => Ok(Self::Running),
            wire::RunPhase::Stopping => Ok(Self::Stopping),
            wire::RunPhase::Stopped => Ok(Self::Stopped),
            wire::RunPhase::Completed => Ok(Self::Completed),
        }
    }
}

impl From<EnvelopeState> for wire::EnvelopeState {
    fn from(state: EnvelopeState) -> Self {
        match state {
            EnvelopeState::None => Self::None,
            EnvelopeState::Valid => Self::Valid,
            EnvelopeState::Fallback => Self::Fallback,
        }
    }
}

impl TryFrom<wire::EnvelopeState> for EnvelopeState {
    type Error = Error;
    fn try_from(state: wire::EnvelopeState) -> Result<Self, Error> {
        match state {
            wire::EnvelopeState::Unspecified => Err(unspecified()),
            wire::EnvelopeState::None => Ok(Self::None),
            wire::EnvelopeState::Valid => Ok(Self::Valid),
            wire::EnvelopeState::Fallback => Ok(Self::Fallback),
        }
    }
}

impl From<GensetState> for wire::GensetState {
    fn from(state: GensetState) -> Self {
        match state {
            GensetState::Off => Self::Off,
            GensetState::Starting => Self::Starting,
            GensetState::Online => Self::Online,
            GensetState::Stopping => Self::Stopping,
            GensetState::Tripped => Self::Tripped,
        }
    }
}

impl TryFrom<wire::GensetState> for GensetState {
    type Error = Error;
    fn try_from(state: wire::GensetState) -> Result<Self, Error> {
        match state {
            wire::GensetState::Unspecified => Err(unspecified()),
            wire::GensetState::Off => Ok(Self::Off),
            wire::GensetState::Starting => Ok(Self::Starting),
            wire::GensetState::Online => Ok(Self::Online),
            wire::GensetState::Stopping => Ok(Self::Stopping),
            wire::GensetState::Tripped => Ok(Self::Tripped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit::tests::{fence, finding, stamp};
    use super::super::vary::{Vary, enum_survives, survives};
    use super::*;

    const SWITCHES: [Switch; 4] = [Switch::Remote, Switch::Local, Switch::Off, Switch::EmergencyStop];
    const FEEDERS: [FeederState; 3] = [FeederState::Closed, FeederState::Moving, FeederState::Open];
    const ENVELOPES: [EnvelopeState; 3] =
        [EnvelopeState::None, EnvelopeState::Valid, EnvelopeState::Fallback];
    const RUNS: [RunPhase; 5] =
        [RunPhase::Starting, RunPhase::Running, RunPhase::Stopping, RunPhase::Stopped, RunPhase::Completed];
    const GENSETS: [GensetState; 5] = [
        GensetState::Off,
        GensetState::Starting,
        GensetState::Online,
        GensetState::Stopping,
        GensetState::Tripped,
    ];

    fn group(v: &mut Vary) -> GroupReport {
        GroupReport {
            feeder: v.pick(&FEEDERS),
            awake: v.small(),
            point: v.byte(),
            power: v.maybe(Vary::of),
            claimed: v.maybe(Vary::of),
            verified: v.maybe(|v| Verified { rate: v.of(), shares: v.bits(), window: v.span() }),
            connections: v.small(),
        }
    }

    fn run(v: &mut Vary) -> RunReport {
        RunReport {
            incarnation: v.bits(),
            phase: v.pick(&RUNS),
            progress: v.of(),
            saved: v.of(),
            held: v.of(),
        }
    }

    fn site(v: &mut Vary) -> SiteReport {
        SiteReport {
            frequency: v.maybe(Vary::of),
            gas: v.maybe(Vary::of),
            buffer: v.maybe(Vary::of),
            flared: v.maybe(Vary::of),
            load: v.maybe(Vary::of),
            unmanaged: v.maybe(Vary::of),
            gensets: v.map(|v| GensetReport {
                state: v.pick(&GENSETS),
                power: v.maybe(Vary::of),
                for_span: v.span(),
            }),
            storage: v.maybe(|v| StorageReport {
                power: v.maybe(Vary::of),
                held: v.maybe(Vary::of),
                ready: v.flag(),
            }),
            grid: v.maybe(|v| TieReport {
                power: v.maybe(Vary::of),
                register: v.maybe(Vary::of),
                price: v.maybe(Vary::of),
                ready: v.flag(),
            }),
        }
    }

    fn report(v: &mut Vary) -> Report {
        Report {
            module: v.id(),
            sequence: v.bits(),
            stamp: stamp(v),
            at: v.time(),
            meter: v.maybe(Vary::of),
            switch: v.pick(&SWITCHES),
            groups: v.map(group),
            pools: v.map(|v| PoolReport { up: v.small(), power: v.maybe(Vary::of) }),
            runs: v.map(run),
            envelope: EnvelopeReport {
                fence: fence(v),
                generation: v.bits(),
                state: v.pick(&ENVELOPES),
                ceiling: v.of(),
                refused: v.maybe(Vary::text),
            },
            site: v.maybe(site),
            findings: v.list(finding),
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        survives::<_, wire::Report>(report);
    }

    #[test]
    fn every_state_survives_the_wire() {
        enum_survives(&SWITCHES, wire::Switch::Unspecified);
        enum_survives(&FEEDERS, wire::FeederState::Unspecified);
        enum_survives(&RUNS, wire::RunPhase::Unspecified);
        enum_survives(&ENVELOPES, wire::EnvelopeState::Unspecified);
        enum_survives(&GENSETS, wire::GensetState::Unspecified);
    }

    #[test]
    fn a_report_with_too_many_findings_is_refused() {
        let mut sent = wire::Report::from(report(&mut Vary::seeded(1)));
        sent.findings = vec![wire::Finding::default(); MAX_FINDINGS + 1];
        let error = Report::try_from(sent).expect_err("one too many");
        assert_eq!(error.to_string(), "findings: expected at most 16 findings, found 17");
    }

    #[test]
    fn a_broken_group_is_named_by_its_path() {
        let mut sent = wire::Report::from(report(&mut Vary::seeded(1)));
        sent.groups =
            [("a".to_owned(), wire::GroupReport { feeder: 1, point: 999, ..Default::default() })].into();
        let error = Report::try_from(sent).expect_err("999 is no point");
        assert_eq!(error.path, "groups[\"a\"].point");
    }
}
