//! Reason codes. Wire: `reason.proto`. Model: [`model::plan::ReasonCode`].

use model::plan::ReasonCode;

use super::field::{Error, unspecified};
use crate::common as wire;

impl From<ReasonCode> for wire::ReasonCode {
    fn from(code: ReasonCode) -> Self {
        match code {
            ReasonCode::Accepted => Self::Accepted,
            ReasonCode::Placed => Self::Placed,
            ReasonCode::Kept => Self::Kept,
            ReasonCode::NoGpus => Self::NoGpus,
            ReasonCode::NoPower => Self::NoPower,
            ReasonCode::NoFirmCapacity => Self::NoFirmCapacity,
            ReasonCode::NoSuchGpu => Self::NoSuchGpu,
            ReasonCode::Preempted => Self::Preempted,
            ReasonCode::PowerShort => Self::PowerShort,
            ReasonCode::Draining => Self::Draining,
            ReasonCode::LinkLost => Self::LinkLost,
            ReasonCode::NoThrash => Self::NoThrash,
            ReasonCode::Cancelled => Self::Cancelled,
            ReasonCode::Completed => Self::Completed,
            ReasonCode::MiningResidual => Self::MiningResidual,
            ReasonCode::MiningUnprofitable => Self::MiningUnprofitable,
            ReasonCode::Ballast => Self::Ballast,
            ReasonCode::AwaitingMeter => Self::AwaitingMeter,
            ReasonCode::GasShort => Self::GasShort,
            ReasonCode::StepLimited => Self::StepLimited,
            ReasonCode::Unknown => Self::Unknown,
            ReasonCode::Slowed => Self::Slowed,
            ReasonCode::SitesBound => Self::SitesBound,
            ReasonCode::GroupBound => Self::GroupBound,
        }
    }
}

impl TryFrom<wire::ReasonCode> for ReasonCode {
    type Error = Error;
    fn try_from(code: wire::ReasonCode) -> Result<Self, Error> {
        Ok(match code {
            wire::ReasonCode::Unspecified => return Err(unspecified()),
            wire::ReasonCode::Accepted => Self::Accepted,
            wire::ReasonCode::Placed => Self::Placed,
            wire::ReasonCode::Kept => Self::Kept,
            wire::ReasonCode::NoGpus => Self::NoGpus,
            wire::ReasonCode::NoPower => Self::NoPower,
            wire::ReasonCode::NoFirmCapacity => Self::NoFirmCapacity,
            wire::ReasonCode::NoSuchGpu => Self::NoSuchGpu,
            wire::ReasonCode::Preempted => Self::Preempted,
            wire::ReasonCode::PowerShort => Self::PowerShort,
            wire::ReasonCode::Draining => Self::Draining,
            wire::ReasonCode::LinkLost => Self::LinkLost,
            wire::ReasonCode::NoThrash => Self::NoThrash,
            wire::ReasonCode::Cancelled => Self::Cancelled,
            wire::ReasonCode::Completed => Self::Completed,
            wire::ReasonCode::MiningResidual => Self::MiningResidual,
            wire::ReasonCode::MiningUnprofitable => Self::MiningUnprofitable,
            wire::ReasonCode::Ballast => Self::Ballast,
            wire::ReasonCode::AwaitingMeter => Self::AwaitingMeter,
            wire::ReasonCode::GasShort => Self::GasShort,
            wire::ReasonCode::StepLimited => Self::StepLimited,
            wire::ReasonCode::Unknown => Self::Unknown,
            wire::ReasonCode::Slowed => Self::Slowed,
            wire::ReasonCode::SitesBound => Self::SitesBound,
            wire::ReasonCode::GroupBound => Self::GroupBound,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::vary::Vary;
    use super::*;

    /// The wire's codes other than zero, which are as many as the model's.
    fn all() -> Vec<wire::ReasonCode> {
        (1..).map_while(|raw| wire::ReasonCode::try_from(raw).ok()).collect()
    }

    pub(in super::super) fn reason(v: &mut Vary) -> ReasonCode {
        ReasonCode::try_from(v.pick(&all())).expect("every code but zero converts")
    }

    #[test]
    fn every_code_survives_and_keeps_its_stable_text() {
        assert_eq!(all().len(), 24);
        for code in all() {
            let model = ReasonCode::try_from(code).expect("every code but zero converts");
            assert_eq!(wire::ReasonCode::from(model), code);
            assert_eq!(format!("REASON_CODE_{}", model.as_str().to_uppercase()), code.as_str_name());
        }
        assert!(ReasonCode::try_from(wire::ReasonCode::Unspecified).is_err());
    }
}
