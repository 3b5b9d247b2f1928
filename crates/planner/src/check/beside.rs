//! Invariant 2, the largest load: where firm AI runs on one module of an island, the loss of another one whole must not overspeed the
//! sets.
//!
//! The rise by the swing equation, from the site's description: until the governors have unloaded the sets, what was lost goes into
//! their rotating masses. A module may keep what it runs already, however much that is; then nothing firm starts beside it.

use model::Watts;
use model::workload::{Tier, Workload};

use super::Findings;
use super::view::{ModuleCheck, SiteCheck};

/// Over-frequency trip, 62.5 of 60 Hz, and what must lie between it and the predicted peak.
const TRIP: f64 = 62.5 / 60.0;
const PEAK_MARGIN_HZ: f64 = 0.25;
/// Straight ramp in which governors unload the sets.
const GOVERNOR_S: f64 = 0.4;
/// Share of the sets' rating whose loss at once may overspeed them however heavy they are.
const MOST_SHARE: f64 = 0.6;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    if site.online.is_empty() {
        return;
    }
    for module in site.modules.iter().filter(|module| !outlived(site, module.plan.ceiling)) {
        let beside = || site.modules.iter().filter(|other| other.id != module.id);
        if !beside().any(has_firm) {
            continue;
        }
        let live = module.given.link.is_in_touch();
        let (ceiling, most) = (module.plan.ceiling, most(site, PEAK_MARGIN_HZ));
        if live && ceiling > kept(site, module) {
            let message = format!(
                "its ceiling of {ceiling} is above {most}, the most whose loss at once the online sets outlive, while firm AI runs \
                 beside it; let it draw less"
            );
            findings.add("load-loss", module.subject(), message);
        }
        let mut started = beside().filter_map(started);
        if let Some(run) = started.next() {
            let message = format!(
                "is started beside module {}, whose ceiling of {ceiling} is above {most}, the most whose loss at once the online sets \
                 outlive; start it elsewhere",
                module.id
            );
            findings.add("load-loss-start", format!("workload {}", run.id), message);
        }
    }
}

/// What any planner may let a module draw: where firm AI runs beside it, it may keep a tenth of a hertz more than the rule demands.
pub(super) fn allowed(site: &SiteCheck<'_>, module: &ModuleCheck<'_>) -> Watts {
    let beside = site.modules.iter().any(|other| other.id != module.id && has_firm(other));
    if beside && !site.online.is_empty() { most(site, PEAK_MARGIN_HZ + 0.1) } else { Watts::MAX }
}

fn has_firm(module: &ModuleCheck<'_>) -> bool {
    module.runs.iter().any(|(_, run)| run.spec.tier == Tier::Firm)
}

/// A firm run that the plan starts there; a module out of touch starts nothing by it.
fn started<'c>(module: &ModuleCheck<'c>) -> Option<&'c Workload> {
    let mut runs = module.runs.iter().filter(|_| module.given.link.is_in_touch()).map(|(_, run)| *run);
    runs.find(|run| run.spec.tier == Tier::Firm && !run.status.phase.holds())
}

/// Whether the sets outlive the loss of so much at once.
fn outlived(site: &SiteCheck<'_>, lost: Watts) -> bool {
    let nominal = site.given.site.nominal.as_f64() / 1_000.0;
    let share = lost.as_f64() <= site.rating().as_f64() * MOST_SHARE + 1.0;
    share && highest(site, lost.as_f64()) <= nominal * TRIP - PEAK_MARGIN_HZ
}

/// The peak after so much was lost, in Hz.
fn highest(site: &SiteCheck<'_>, lost: f64) -> f64 {
    let nominal = site.given.site.nominal.as_f64() / 1_000.0;
    let stored = |set: &model::site::Genset| set.rating.as_f64() * set.inertia.as_secs_f64();
    let stored: f64 = site.online.iter().map(|(_, set)| stored(set)).sum();
    nominal + nominal * lost * GOVERNOR_S / 2.0 / (2.0 * stored.max(1.0))
}

/// The most whose loss they outlive: the same line, solved for what is lost.
fn most(site: &SiteCheck<'_>, margin: f64) -> Watts {
    let nominal = site.given.site.nominal.as_f64() / 1_000.0;
    let by_watt = highest(site, 1.0) - nominal;
    let rise = (nominal * TRIP - margin - nominal).max(0.0);
    let by_rise = if by_watt > 0.0 { rise / by_watt } else { f64::MAX };
    Watts::from_f64(by_rise.min(site.rating().as_f64() * MOST_SHARE))
}

/// What a module needs for what runs or is being stopped there: its base, its busy GPUs, loss, and 1 % for metering.
fn kept(site: &SiteCheck<'_>, module: &ModuleCheck<'_>) -> Watts {
    let config = module.config();
    let here = |run: &&Workload| {
        let at = run.status.placement.as_ref();
        run.status.phase.holds() && at.is_some_and(|at| at.module == *module.id)
    };
    let busy = site.input.workloads.values().filter(here).filter_map(|run| {
        let pool = config.pools.get(&run.status.placement.as_ref()?.pool)?;
        Some(pool.per_gpu().times(run.spec.gpus.into()))
    });
    let miners: Watts = config.groups.values().map(|group| group.draw(0, 0)).sum();
    let servers: Watts = config.pools.values().map(|pool| pool.draw(0)).sum();
    let needed = config.with_loss(config.auxiliary + miners + servers + busy.sum());
    // Two watts for their rounding and ours.
    needed + needed.fraction(1, 100) + Watts::new(2)
}
