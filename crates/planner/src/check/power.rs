//! Invariant 1: ceilings fit the capacity, fallback ceilings the N-1 capacity, and both fit what gas and sets sustain.
//!
//! Where capacity is so short that nothing is granted at all, the rules are held by granting nothing.

use model::fuel::Fuel;
use model::plan::STEP;
use model::site::GasFlow;
use model::{Span, Watts};

use super::Findings;
use super::view::{ModuleCheck, SiteCheck};
use crate::input::Link;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    capacity(site, findings);
    ceilings(site, findings);
    for module in site.live() {
        limits(site, module, findings);
    }
    for module in site.silent() {
        let kept = module.before.is_none_or(|before| module.plan.ceiling >= before.ceiling);
        if !kept {
            let message = "is out of touch and may still draw what it was granted; keep its ceiling reserved";
            findings.add("reserved-lost", module.subject(), message);
        }
    }
}

fn capacity(site: &SiteCheck<'_>, findings: &mut Findings) {
    let sustained = sustained(site);
    if site.plan.capacity > sustained {
        let message =
            format!("plans with {}, but gas and online sets sustain {sustained}", site.plan.capacity);
        findings.add("capacity", site.subject(), message);
    }
    let largest = site.online.iter().map(|(_, set)| set.rating).max().unwrap_or(Watts::ZERO);
    let remaining = if site.online.len() >= 2 { site.rating() - largest } else { Watts::ZERO };
    let firm = own(site).min(remaining);
    if site.plan.firm_capacity > firm {
        let message = format!(
            "promises {} firm, but {firm} remain after the loss of the largest set",
            site.plan.firm_capacity
        );
        findings.add("firm-capacity", site.subject(), message);
    }
}

/// What gas, storage and grid tie as they are told sustain. The sets must be rated for all of it: either may trip.
fn sustained(site: &SiteCheck<'_>) -> Watts {
    let stored = site.plan.storage.map_or(Watts::ZERO, |target| target.power.at_least_zero());
    let stored = if site.given.fresh { stored } else { Watts::ZERO };
    not_raised(site, (from_gas(site) + stored + super::tie::imported(site)).min(site.rating()))
}

/// What gas and online sets sustain; on old news no more than was planned before.
pub(super) fn own(site: &SiteCheck<'_>) -> Watts {
    not_raised(site, from_gas(site))
}

fn not_raised(site: &SiteCheck<'_>, sustained: Watts) -> Watts {
    let before = site.input.parent.as_ref().and_then(|parent| parent.sites.get(site.id));
    let before = before.map_or(Watts::ZERO, |before| before.capacity);
    if site.given.fresh { sustained } else { sustained.min(before) }
}

/// What gas (with the buffer emptied over one step) and online sets sustain.
fn from_gas(site: &SiteCheck<'_>) -> Watts {
    let Some(report) = &site.given.report else {
        return Watts::ZERO;
    };
    let config = &site.given.site;
    let median = site.given.forecast.first().map(|step| step.p50);
    let fuel = Fuel::of(config, site.online.iter().map(|(_, set)| *set));
    // All that are online burnt it, also those that are to stop.
    let burners = Fuel::of(config, report.online().filter_map(|id| config.gensets.get(id)));
    let burnt = || burners.gas_for(report.load.unwrap_or(Watts::ZERO));
    let flow = report.gas.or(median).unwrap_or_else(burnt);
    let buffer = report.buffer.unwrap_or_default().min(config.buffer.capacity);
    let buffer = GasFlow::new(buffer.get()).fraction(Span::hours(24).get(), STEP.get());
    fuel.electric(flow + buffer).min(site.rating())
}

fn ceilings(site: &SiteCheck<'_>, findings: &mut Findings) {
    let granted: Watts = site.live().map(|module| module.plan.ceiling).sum();
    let load = site.load();
    if granted > Watts::ZERO && load > site.plan.capacity {
        let message =
            format!("ceilings and unmanaged load make {load}, above its capacity of {}", site.plan.capacity);
        findings.add("ceilings", site.subject(), message);
    }
    let fallback = |module: &ModuleCheck<'_>| module.plan.fallback.iter().map(|step| step.ceiling).max();
    let granted: Watts = site.live().filter_map(fallback).sum();
    let all: Watts = site.unmanaged() + site.modules.iter().filter_map(fallback).sum();
    if granted > Watts::ZERO && all > site.plan.firm_capacity {
        let message = format!(
            "fallback ceilings and unmanaged load make {all}, above its N-1 capacity of {}",
            site.plan.firm_capacity
        );
        findings.add("fallback", site.subject(), message);
    }
}

fn limits(site: &SiteCheck<'_>, module: &ModuleCheck<'_>, findings: &mut Findings) {
    let plan = module.plan;
    let most = module.config().most().at_least_zero();
    if plan.ceiling > most || plan.ceiling < Watts::ZERO {
        let message = format!("its ceiling of {} is outside 0 to its limit of {most}", plan.ceiling);
        findings.add("module-limit", module.subject(), message);
    }
    if plan.ai_floor > plan.ceiling || plan.ai_floor < Watts::ZERO {
        let message =
            format!("its AI floor of {} is outside 0 to its ceiling of {}", plan.ai_floor, plan.ceiling);
        findings.add("ai-floor", module.subject(), message);
    }
    let known = site.given.fresh && module.given.link == Link::Online;
    let before = module.before.map_or(Watts::ZERO, |before| before.ceiling);
    if !known && plan.ceiling > before {
        let message =
            format!("is raised from {before} to {} on a stale report; wait for a fresh one", plan.ceiling);
        findings.add("raised-blind", module.subject(), message);
    }
    let draw = module.planned_draw();
    let works = !plan.runs.is_empty() || plan.miners.values().any(|target| target.awake > 0);
    if known && works && draw > plan.ceiling {
        let message = format!("is told to draw {draw} under a ceiling of {}", plan.ceiling);
        findings.add("draw-above-ceiling", module.subject(), message);
    }
}
