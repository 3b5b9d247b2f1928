//! Power caps on runs: each names a run of its module whose contract lets it be slowed so far, on servers that were measured so low.
//!
//! What a capped run draws is counted in `view`; no cap counts as reserve for the loss of a set. Read next: [`model::cap`].

use model::Watts;
use model::cap::FULL;
use model::workload::{Placement, Tier, Workload};

use super::Findings;
use super::view::{ModuleCheck, SiteCheck};

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    for module in site.live() {
        for (id, cap) in &module.plan.slowed {
            let run = module.runs.iter().find(|(_, run)| run.id == *id);
            let fault = match run {
                None => Some(("cap-unknown", "does not run there; remove its cap")),
                Some((at, run)) => fault(module, at, run, *cap),
            };
            if let Some((code, message)) = fault {
                findings.add(
                    code,
                    format!("workload {id}"),
                    format!("is capped to {cap} on module {}: {message}", module.id),
                );
            }
        }
    }
}

/// What is wrong with one cap.
fn fault(
    module: &ModuleCheck<'_>,
    at: &Placement,
    run: &Workload,
    cap: Watts,
) -> Option<(&'static str, &'static str)> {
    let pool = module.config().pools.get(&at.pool)?;
    let gpus = run.spec.gpus.max(1);
    // The same cap on a whole server, whose curve was measured.
    let server = cap.fraction(pool.gpus.into(), gpus.into());
    let floor = run.spec.floor.filter(|_| run.spec.tier != Tier::Firm);
    let Some(floor) = floor else {
        return Some(("cap-forbidden", "its contract lets nobody slow it; lift the cap"));
    };
    // Interpolated anew, over servers: the slope of the piece that the cap lies on.
    let mut corners: Vec<(Watts, i64)> =
        pool.curve.iter().map(|point| (point.power, point.pace.get())).collect();
    corners.push((pool.active, FULL.get()));
    let reached = corners.windows(2).rev().find(|pair| pair[0].0 <= server);
    let pace = reached.map_or(0, |pair| {
        let (over, width) = ((server - pair[0].0).get(), (pair[1].0 - pair[0].0).get().max(1));
        (pair[0].1 + (pair[1].1 - pair[0].1) * over / width).min(FULL.get())
    });
    if server < pool.cap_min || pace == 0 {
        Some(("cap-unmeasured", "its servers were never measured so low; raise the cap"))
    } else if pace < floor.get() {
        Some(("cap-below-floor", "that is slower than its contract allows; raise the cap"))
    } else {
        None
    }
}
