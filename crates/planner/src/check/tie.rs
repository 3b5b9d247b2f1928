//! Invariants 1 to 3 for a grid tie: it imports within its limit at a price that is known, exports nothing, its loss is a step that the
//! sets take without help, and it leaves the sets their minimum load.
//!
//! That the sets are rated for everything, import or not, stands in `power`.

use model::report::TieReport;
use model::site::GridTie;
use model::{MicroDollars, Watts, WattsPerSecond};

use super::Findings;
use super::view::SiteCheck;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    let Some(target) = site.plan.import else { return };
    let mut add = |code: &str, message: String| findings.add(code, site.subject(), message);
    let Some((config, report)) = known(site) else {
        if target.power != Watts::ZERO {
            let message =
                "imports through a tie that is not there, does not answer, or whose wired module is silent";
            add("tie-blind", format!("{message}; import nothing"));
        }
        return;
    };
    let before = site.input.parent.as_ref().and_then(|parent| parent.sites.get(site.id)?.import);
    let before = before.map_or(Watts::ZERO, |before| before.power);
    if !site.given.fresh && target.power > before {
        let message = format!("imports {} on old news, {before} before; do not raise it", target.power);
        add("tie-blind", message);
    }
    if target.power > config.import.at_least_zero() || target.power < Watts::ZERO {
        let message = format!(
            "imports {}; the tie's limit is {}, and nothing is exported",
            target.power, config.import
        );
        add("tie-limit", message);
    }
    let price = report.price.or(config.price);
    if target.power > Watts::ZERO && price.is_none_or(|price| price < MicroDollars::ZERO) {
        add("tie-price", "imports at a price that nobody knows, or below zero; import nothing".into());
    }
    let steps: Watts = site.online.iter().map(|(_, set)| set.step).sum();
    if target.power > steps.fraction(1, 2) {
        let message = format!(
            "imports {}: its loss would be a larger block than half of the sets' {steps}; import less",
            target.power
        );
        add("tie-loss", message);
    }
    let least: Watts = site.online.iter().map(|(_, set)| set.min_load).sum();
    let load = site.given.report.as_ref().and_then(|report| report.load);
    if site.given.fresh && target.power > Watts::ZERO && load.is_none_or(|load| load - target.power < least) {
        let load = load.map_or("an unknown load".to_owned(), |load| format!("a load of {load}"));
        let message = format!("imports {} beside {load}; the sets need {least} themselves", target.power);
        add("tie-least", message);
    }
    let ramps: WattsPerSecond = site.online.iter().map(|(_, set)| set.ramp).sum();
    if target.ramp < WattsPerSecond::ZERO || target.ramp > ramps.fraction(1, 8) {
        let message = format!("import may change by {}, an eighth of the sets' {ramps} at most", target.ramp);
        add("tie-ramp", message);
    }
}

/// What the plan imports.
pub(super) fn imported(site: &SiteCheck<'_>) -> Watts {
    site.plan.import.map_or(Watts::ZERO, |target| target.power.at_least_zero())
}

/// A tie that answers, and an agent that leads it.
fn known<'c>(site: &SiteCheck<'c>) -> Option<(&'c GridTie, TieReport)> {
    let config = site.given.site.grid.as_ref()?;
    let report = site.given.report.as_ref()?.grid.filter(|tie| tie.ready)?;
    let led = site.live().any(|module| module.config().wired);
    led.then_some((config, report))
}
