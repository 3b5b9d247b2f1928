//! What the planner is told of the steps ahead: each site's gas by the strategy's forecast; for an oracle the gas of this step too, and
//! the sets that break down in it.
//!
//! A causal method is handed what has passed and nothing else. Used by [`crate::engine`]; the methods stand in [`crate::forecast`].

use std::collections::BTreeMap;

use model::SiteId;
use model::plan::{STEP, STEPS};
use model::report::GensetState;
use model::site::GasFlow;
use planner::{Input, SiteInput};

use crate::forecast::{Gas, Method, Noisy, Past, Perfect};
use crate::strategy::Strategy;
use crate::world::{Outage, World};

/// One strategy's view of the future.
#[derive(Clone, Debug)]
pub(crate) struct Foresight {
    method: Method,
    /// Each site's gas, what was seen before the begin included, and how many steps of it that were.
    flows: BTreeMap<SiteId, (Vec<GasFlow>, usize)>,
}

impl Foresight {
    pub(crate) fn new(world: &World, strategy: &Strategy) -> Self {
        let flows = world.fleet.sites.iter().map(|site| (site.id.clone(), world.flows(&site.id)));
        Self { method: strategy.forecast, flows: flows.collect() }
    }

    /// Writes into the input what is expected when `step` begins; `outages` are those that have not begun before it.
    pub(crate) fn show(&self, world: &World, step: usize, outages: &[Outage], input: &mut Input) {
        for (id, given) in &mut input.sites {
            let Some((flows, before)) = self.flows.get(id) else { continue };
            let seen = (before + step).min(flows.len());
            // Times of a forecast count from its first value.
            let first = world.start - STEP.times(i64::try_from(*before).unwrap_or(0));
            let past = Past { values: &flows[..seen], first, each: STEP };
            given.forecast = match self.method {
                Method::Perfect => Perfect(flows).gas(past, STEPS),
                Method::Noisy => Noisy::new(id, flows).gas(past, STEPS),
                method => method.gas(past, STEPS),
            };
            if self.method == Method::Perfect {
                let failing = outages.iter().filter(|outage| outage.from <= step && outage.site == *id);
                know(given, failing);
            }
        }
    }
}

/// An oracle reads the gas of the step that begins, and finds the sets that break down in it broken already.
fn know<'a>(given: &mut SiteInput, failing: impl Iterator<Item = &'a Outage>) {
    let Some(report) = &mut given.report else { return };
    report.gas = given.forecast.first().map(|step| step.p50).or(report.gas);
    for outage in failing {
        if let Some(set) = report.gensets.get_mut(&outage.genset) {
            set.state = GensetState::Tripped;
        }
    }
}
