//! Invariant 3: shares fit the sets' block load and ramp, sets keep their minimum run and stop, no gang is a larger step than the
//! island takes, and what can be loaded is loaded to the sets' minimum.

use model::report::GensetState;
use model::{Span, Watts};

use super::Findings;
use super::view::SiteCheck;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    shares(site, findings);
    requests(site, findings);
    gangs(site, findings);
    least(site, findings);
}

fn shares(site: &SiteCheck<'_>, findings: &mut Findings) {
    let half = |sum: i64| sum / 2;
    let step = half(site.online.iter().map(|(_, set)| set.step.get()).sum());
    let stored = site.plan.storage.map_or(0, |target| target.ramp.get());
    let tied = site.plan.import.map_or(0, |target| target.ramp.get());
    let ramp = half(site.online.iter().map(|(_, set)| set.ramp.get()).sum()) - stored - tied;
    let kept = |of: fn(&model::envelope::Share) -> i64| -> i64 {
        site.silent().map(|module| of(&module.plan.share)).sum()
    };
    let given = |of: fn(&model::envelope::Share) -> i64| -> i64 {
        let parts = site.live().map(|module| of(&module.plan.share));
        if turns_are_disjoint(site) { parts.max().unwrap_or(0) } else { parts.sum() }
    };
    for (code, limit, of) in [
        ("share-step", step, (|share| share.step.get()) as fn(&model::envelope::Share) -> i64),
        ("share-ramp", ramp, |share| share.ramp.get()),
    ] {
        let (given, left) = (given(of), (limit - kept(of)).max(0));
        if given > left {
            findings.add(
                code,
                site.subject(),
                format!("modules may change {given} at once, the sets take {left}; share less"),
            );
        }
        if site.live().any(|module| of(&module.plan.share) < 0) {
            findings.add(code, site.subject(), "a module has a negative share; plan again");
        }
    }
}

/// Whether no two modules may step at the same time: one cycle for all, and turns that do not overlap in it.
fn turns_are_disjoint(site: &SiteCheck<'_>) -> bool {
    let mut turns: Vec<(Span, Span, Span)> = site
        .live()
        .map(|module| &module.plan.share)
        .map(|share| (share.offset, share.turn, share.cycle))
        .collect();
    turns.sort();
    let Some(&(_, _, cycle)) = turns.first() else { return true };
    let alike = cycle > Span::ZERO && turns.iter().all(|turn| turn.2 == cycle && turn.0 + turn.1 <= cycle);
    alike && turns.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
}

fn requests(site: &SiteCheck<'_>, findings: &mut Findings) {
    for (id, set) in &site.given.site.gensets {
        let subject = format!("{} genset {id}", site.subject());
        let Some(&runs) = site.plan.gensets.get(id) else {
            findings.add("set-missing", subject, "is neither asked to run nor to stop; plan again");
            continue;
        };
        let report =
            site.given.report.as_ref().filter(|_| site.given.fresh).and_then(|report| report.gensets.get(id));
        let Some(report) = report else { continue };
        let early = match (report.state, runs) {
            (GensetState::Online, false) if report.for_span < set.min_run => {
                Some(("set-min-run", set.min_run))
            }
            (GensetState::Starting, false) => Some(("set-min-run", set.min_run)),
            (GensetState::Off, true) if report.for_span < set.min_off => Some(("set-min-off", set.min_off)),
            (GensetState::Tripped, true) => Some(("set-tripped", Span::ZERO)),
            _ => None,
        };
        if let Some((code, least)) = early {
            let message =
                format!("is reversed after {} of {least}, or started while tripped; wait", report.for_span);
            findings.add(code, subject, message);
        }
    }
}

fn gangs(site: &SiteCheck<'_>, findings: &mut Findings) {
    let block: Watts = site.online.iter().map(|(_, set)| set.step).sum::<Watts>().fraction(1, 2);
    for (module, workload, starts) in site.runs() {
        let pool = module
            .plan
            .runs
            .get(&workload.id)
            .and_then(|placement| module.config().pools.get(&placement.pool));
        let cap = module.plan.slowed.get(&workload.id).copied();
        let watts = pool.map_or(Watts::ZERO, |pool| pool.run_draw(workload.spec.gpus, cap));
        if starts && watts > block {
            let message = format!(
                "would start as a step of {watts}, the island takes {block}; place it on a larger site"
            );
            findings.add("gang-step", format!("workload {}", workload.id), message);
        }
    }
}

/// Miners that could be woken are woken before a set runs below its minimum.
fn least(site: &SiteCheck<'_>, findings: &mut Findings) {
    let least: Watts = site.online.iter().map(|(_, set)| set.min_load).sum();
    // A module that is granted less than its base draws that all the same while it has power.
    let drawn = |module: &super::view::ModuleCheck<'_>| module.plan.ceiling.max(module.config().base_draw());
    let all: Watts = site.unmanaged() + site.modules.iter().map(drawn).sum();
    // What is imported the sets do not carry.
    let load = all - super::tie::imported(site);
    // A tenth more must be safe too, since whole miners do not stop at the line; and a twentieth of the capacity is more than
    // they leave unused.
    let scarce = all + site.plan.capacity.fraction(5, 100) >= site.plan.capacity;
    let excused = scarce || !super::reserve::could_carry(site, least.fraction(11, 10));
    if load >= least || excused || !site.given.fresh || !site.given.site.relay {
        return;
    }
    let idle = site.live().find(|module| {
        let most = module.config().most().min(super::beside::allowed(site, module));
        let room = module.plan.ceiling + Watts::kilo(20) < most;
        let online = module.given.link == crate::input::Link::Online;
        online
            && room
            && module.plan.ladder.iter().any(|rung| {
                let full = module.group(rung).map_or(Watts::ZERO, |group| group.draw_full());
                module.is_fast(rung) && module.target(rung) < full
            })
    });
    if let Some(module) = idle {
        let message = format!(
            "plans {load} for sets that need {least}, while module {} has miners asleep; wake them",
            module.id
        );
        findings.add("min-load", site.subject(), message);
    }
}
