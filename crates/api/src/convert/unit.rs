//! The small types that every other message uses: boot stamps, fences, findings, the market.
//!
//! Wire: `unit.proto`. Model: [`model::time`], [`model::envelope`], [`model::report`], [`model::market`].

use model::envelope::Fence;
use model::market::Market;
use model::report::Finding;
use model::{BootStamp, MicroDollars};

use super::field::{Error, span, wire_span};
use crate::common as wire;

impl From<BootStamp> for wire::BootStamp {
    fn from(BootStamp { boot_id, at }: BootStamp) -> Self {
        Self { boot_id, at: wire_span(at) }
    }
}

impl TryFrom<wire::BootStamp> for BootStamp {
    type Error = Error;
    fn try_from(wire::BootStamp { boot_id, at }: wire::BootStamp) -> Result<Self, Error> {
        Ok(Self { boot_id, at: span(at, "at")? })
    }
}

impl From<Fence> for wire::Fence {
    fn from(Fence { epoch, leader, plan }: Fence) -> Self {
        Self { epoch, leader, plan }
    }
}

impl TryFrom<wire::Fence> for Fence {
    type Error = Error;
    fn try_from(wire::Fence { epoch, leader, plan }: wire::Fence) -> Result<Self, Error> {
        Ok(Self { epoch, leader, plan })
    }
}

impl From<Finding> for wire::Finding {
    fn from(Finding { code, subject, message }: Finding) -> Self {
        Self { code, subject, message }
    }
}

impl TryFrom<wire::Finding> for Finding {
    type Error = Error;
    fn try_from(wire::Finding { code, subject, message }: wire::Finding) -> Result<Self, Error> {
        Ok(Self { code, subject, message })
    }
}

impl From<Market> for wire::Market {
    fn from(Market { price, difficulty, subsidy, fees_ppm, pool_fee_ppm }: Market) -> Self {
        Self {
            price_micro_dollars: price.get(),
            difficulty,
            subsidy_satoshi: subsidy,
            fees_ppm,
            pool_fee_ppm,
        }
    }
}

impl TryFrom<wire::Market> for Market {
    type Error = Error;
    fn try_from(value: wire::Market) -> Result<Self, Error> {
        let wire::Market { price_micro_dollars, difficulty, subsidy_satoshi, fees_ppm, pool_fee_ppm } = value;
        let price = MicroDollars::new(price_micro_dollars);
        Ok(Self { price, difficulty, subsidy: subsidy_satoshi, fees_ppm, pool_fee_ppm })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::vary::{Vary, survives};
    use super::*;

    pub(in super::super) fn stamp(v: &mut Vary) -> BootStamp {
        BootStamp { boot_id: v.text(), at: v.span() }
    }

    pub(in super::super) fn fence(v: &mut Vary) -> Fence {
        Fence { epoch: v.bits(), leader: v.bits(), plan: v.bits() }
    }

    pub(in super::super) fn finding(v: &mut Vary) -> Finding {
        Finding { code: v.text(), subject: v.text(), message: v.text() }
    }

    fn market(v: &mut Vary) -> Market {
        Market {
            price: v.of(),
            difficulty: f64::from(v.small()) * 1e6,
            subsidy: v.small().into(),
            fees_ppm: v.small(),
            pool_fee_ppm: v.small(),
        }
    }

    #[test]
    fn stamps_fences_findings_and_markets_survive_the_wire() {
        survives::<_, wire::BootStamp>(stamp);
        survives::<_, wire::Fence>(fence);
        survives::<_, wire::Finding>(finding);
        survives::<_, wire::Market>(market);
    }

    #[test]
    fn a_stamp_without_a_time_is_refused() {
        let stamp = wire::BootStamp { boot_id: "a".into(), at: None };
        assert_eq!(BootStamp::try_from(stamp).map_err(|error| error.path), Err("at".into()));
    }
}
