//! Invariant 2, the largest load: where firm AI runs on one module of an island, the loss of another one whole must not overspeed the
//! sets.
//!
//! The rise from the site's description: what governors need to close the throttle so far, and what drives the rotating masses until
//! they have, for the longer the less load stays. A module may keep what it runs already, however much that is; then nothing firm
//! starts beside it.

use model::module::GpuPool;
use model::workload::{Phase, Tier, Workload};
use model::{SoldBy, Watts};

use super::Findings;
use super::view::{ModuleCheck, SiteCheck};
use crate::input::Link;

/// Over-frequency trip, 62.5 of 60 Hz, and what must lie between it and the predicted peak.
const TRIP: f64 = 62.5 / 60.0;
const PEAK_MARGIN_HZ: f64 = 0.25;
/// Rise for which governors close the throttle wholly, as a share of nominal.
const BAND: f64 = 0.05;
/// For how many seconds what was lost drives the masses, where this share of the rating stays; straight between.
const DRIVEN_S: [(f64, f64); 4] = [(0.0, 0.25), (0.05, 0.14), (0.1, 0.115), (0.2, 0.09)];
/// Share of the sets' rating whose loss at once may overspeed them however heavy they are.
const MOST_SHARE: f64 = 0.6;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    // Whether one other module has firm runs or all of them is the same, so two tell of every module.
    let firm: Vec<_> = site.modules.iter().filter(|module| has_firm(module)).take(2).collect();
    if site.online.is_empty() || firm.is_empty() {
        return;
    }
    let stays: Watts = site.modules.iter().map(staying).sum();
    for module in site.modules.iter().filter(|module| firm.iter().any(|other| other.id != module.id)) {
        let (ceiling, most) = (module.plan.ceiling, most(site, stays - staying(module), PEAK_MARGIN_HZ));
        if ceiling > most {
            above(site, module, most, findings);
        }
    }
}

/// A module beside firm AI whose ceiling is above the most whose loss the sets outlive.
fn above(site: &SiteCheck<'_>, module: &ModuleCheck<'_>, most: Watts, findings: &mut Findings) {
    let ceiling = module.plan.ceiling;
    if module.given.link.is_in_touch() && ceiling > kept(site, module) {
        let message = format!(
            "its ceiling of {ceiling} is above {most}, the most whose loss at once the online sets outlive, while firm AI runs beside \
             it; let it draw less"
        );
        findings.add("load-loss", module.subject(), message);
    }
    let beside = site.modules.iter().filter(|other| other.id != module.id);
    if let Some(run) = beside.filter_map(started).next() {
        let message = format!(
            "is started beside module {}, whose ceiling of {ceiling} is above {most}, the most whose loss at once the online sets \
             outlive; start it elsewhere",
            module.id
        );
        findings.add("load-loss-start", format!("workload {}", run.id), message);
    }
}

/// What any planner may let a module draw: where firm AI runs beside it, it may keep a tenth of a hertz more than the rule demands.
pub(super) fn allowed(site: &SiteCheck<'_>, module: &ModuleCheck<'_>) -> Watts {
    let beside = site.modules.iter().any(|other| other.id != module.id && has_firm(other));
    if !beside || site.online.is_empty() {
        return Watts::MAX;
    }
    let others = site.modules.iter().filter(|other| other.id != module.id);
    most(site, others.map(surely_staying).sum(), PEAK_MARGIN_HZ + 0.1)
}

fn has_firm(module: &ModuleCheck<'_>) -> bool {
    module.runs.iter().any(|(_, run)| run.spec.tier == Tier::Firm)
}

/// A firm run that the plan starts there; a module out of touch starts nothing by it.
fn started<'c>(module: &ModuleCheck<'c>) -> Option<&'c Workload> {
    let mut runs = module.runs.iter().filter(|_| module.given.link.is_in_touch()).map(|(_, run)| *run);
    runs.find(|run| run.spec.tier == Tier::Firm && !run.status.phase.holds())
}

/// The most whose loss the sets outlive where so much stays.
fn most(site: &SiteCheck<'_>, stays: Watts, margin: f64) -> Watts {
    let rating = site.rating().as_f64();
    let stored = |set: &model::site::Genset| set.rating.as_f64() * set.inertia.as_secs_f64();
    let inertia = site.online.iter().map(|(_, set)| stored(set)).sum::<f64>() / rating.max(1.0);
    let nominal = site.given.site.nominal.as_f64() / 1_000.0;
    // Share of nominal by which all of the rating would lift frequency.
    let lift = BAND + driven(stays.as_f64() / rating.max(1.0)) / (2.0 * inertia.max(1e-6));
    let allowed = (TRIP - 1.0 - margin / nominal.max(1.0)).max(0.0);
    Watts::from_f64(rating * (allowed / lift).min(MOST_SHARE)) + Watts::new(1)
}

/// What a module surely draws: its base, as far as it was ever heard of, and half of the GPUs that its firm and on-demand runs use, as
/// they are planned. A powered shell is held, drawn or not.
fn staying(module: &ModuleCheck<'_>) -> Watts {
    staying_with(module, |pool, run| {
        let cap = module.plan.slowed.get(&run.id).copied();
        pool.run_draw(run.spec.gpus, cap)
    })
}

/// The same with elastic runs at the least that their contracts allow: a planner may know no better when it sets limits.
fn surely_staying(module: &ModuleCheck<'_>) -> Watts {
    staying_with(module, |pool, run| pool.least(run.floor()).per_gpu.times(run.spec.gpus.into()))
}

fn staying_with(module: &ModuleCheck<'_>, draw: impl Fn(&GpuPool, &Workload) -> Watts) -> Watts {
    let lasts = |run: &Workload| {
        let draws = matches!(run.status.phase, Phase::Running | Phase::Unreachable);
        draws && run.spec.tier != Tier::Spot && run.sold_by() == SoldBy::Gpu
    };
    let runs = module.runs.iter().filter(|(_, run)| lasts(run));
    let runs = runs.filter_map(|(at, run)| Some(draw(module.config().pools.get(&at.pool)?, run)));
    let known = module.given.link != Link::Never;
    let base = if known { module.config().base_draw() } else { Watts::ZERO };
    base + runs.sum::<Watts>().fraction(1, 2)
}

/// For how many seconds what was lost drives the masses where a share of the rating stays.
fn driven(stays: f64) -> f64 {
    let piece = DRIVEN_S.windows(2).find(|pair| stays < pair[1].0);
    piece.map_or(DRIVEN_S[DRIVEN_S.len() - 1].1, |pair| {
        let ((from, high), (to, low)) = (pair[0], pair[1]);
        high + (low - high) * (stays - from) / (to - from)
    })
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
