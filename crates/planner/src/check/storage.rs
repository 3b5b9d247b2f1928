//! Invariants 1 to 3 for storage: its rung claims no more than it can deliver and sustain, energy kept for the rung is not lent, its
//! own loss is a step that the sets take without help, and what it takes fits beside the loads.

use model::envelope::Rung;
use model::module::Actuator;
use model::plan::STEP;
use model::report::StorageReport;
use model::site::Storage;
use model::{WattSeconds, Watts, WattsPerSecond};

use super::Findings;
use super::power::own;
use super::view::{ModuleCheck, SiteCheck};
use crate::input::Link;

/// Slowest response that helps: our shedding must act within 200 ms.
const FAST_MILLIS: i64 = 200;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    let Some(target) = site.plan.storage else { return };
    let mut add = |code: &str, message: String| findings.add(code, site.subject(), message);
    let Some((config, report)) = known(site) else {
        if target.power != Watts::ZERO {
            let message = "leads storage that is not there, does not answer, or whose wired module is silent";
            add("storage-blind", format!("{message}; let it rest"));
        }
        return;
    };
    let steps: Watts = site.online.iter().map(|(_, set)| set.step).sum();
    if target.power.abs() > config.power.min(steps.fraction(1, 2)) {
        let message = format!(
            "storage at {}: its loss would be a larger block than half of the sets' {steps}, or it is rated less; plan less",
            target.power
        );
        add("storage-loss", message);
    }
    let held = report.held.unwrap_or_default();
    let kept = kept_for_rung(config);
    let spent = target.power.at_least_zero().for_span(STEP);
    if spent > WattSeconds::ZERO && held < kept + spent {
        let message = format!(
            "storage would spend {spent} in a step and holds {held}, of which its rung needs {kept}; lend less"
        );
        add("storage-reserve", message);
    }
    let taken = (-target.power).at_least_zero();
    let carried = site.load() + taken;
    if taken > Watts::ZERO && carried > own(site) {
        let message =
            format!("loads and the charge make {carried}, above what gas and sets sustain; charge less");
        add("storage-charge", message);
    }
    let ramps: WattsPerSecond = site.online.iter().map(|(_, set)| set.ramp).sum();
    if target.ramp < WattsPerSecond::ZERO || target.ramp > ramps.fraction(1, 4) {
        add(
            "storage-ramp",
            format!("storage may change by {}, a quarter of the sets' {ramps} at most", target.ramp),
        );
    }
}

/// Whether a rung that is storage claims more than there is. What it delivers already, and what it is told to, is not there twice.
pub(super) fn rung(module: &ModuleCheck<'_>, rung: &Rung, site: &SiteCheck<'_>, findings: &mut Findings) {
    let honest = known(site).is_some_and(|(config, report)| {
        let told = site.plan.storage.map_or(Watts::ZERO, |target| target.power);
        let busy = report.power.unwrap_or(config.power).max(told).at_least_zero();
        let least = rung.watts.for_span(config.reserve);
        let measured = config.response.is_some_and(|response| response <= rung.opens);
        // A watt-second of rounding.
        let lasts = least <= report.held.unwrap_or_default() + WattSeconds::new(1);
        measured && lasts && rung.watts <= config.power - busy
    });
    if !honest || !module.config().wired || rung.actuator != Actuator::Storage {
        let message =
            format!("a rung claims {} of storage in {}; it cannot give that", rung.watts, rung.opens);
        findings.add("rung-overstated", module.subject(), message);
    }
}

/// Whether a rung that is storage acts fast enough to count.
pub(super) fn is_fast(rung: &Rung) -> bool {
    rung.actuator == Actuator::Storage && rung.opens.get() <= FAST_MILLIS
}

/// Storage that answers, and an agent that leads it.
fn known<'c>(site: &SiteCheck<'c>) -> Option<(&'c Storage, StorageReport)> {
    let config = site.given.site.storage.as_ref()?;
    let report = site.given.report.as_ref().filter(|_| site.given.fresh)?.storage?;
    let led = site.modules.iter().any(|module| module.config().wired && module.given.link == Link::Online);
    (led && report.ready && report.held.is_some()).then_some((config, report))
}

/// The whole rating for the reserve window, at most all that fits in.
fn kept_for_rung(config: &Storage) -> WattSeconds {
    config.power.for_span(config.reserve).min(config.energy)
}
