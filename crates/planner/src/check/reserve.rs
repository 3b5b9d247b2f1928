//! Invariant 2: the island survives the loss of any one set by fast rungs alone, and firm AI is never shed.
//!
//! Worst state for a set of armed rungs: those rungs at what they draw *now*, everything else at its ceiling. An island that cannot
//! be secured now (it has just lost a set) may go on while its feeders close, but nothing may be started there; once the miners are
//! at their targets it must be secure, unless only firm runs are left, which nobody stops for the sake of security.

use model::envelope::Rung;
use model::module::Actuator;
use model::site::Genset;
use model::workload::Tier;
use model::{ContingencyId, GensetId, Watts};

use super::Findings;
use super::view::{ModuleCheck, SiteCheck};

/// Trip of the under-frequency relay, 57.0 of 60 Hz, and what must lie between it and the predicted nadir.
const TRIP: f64 = 0.95;
const NADIR_MARGIN_HZ: f64 = 0.25;
/// From a breaker's opening to the feeder's command.
const DETECTION_S: f64 = 0.02;
/// Straight ramp in which governors take up a block.
const GOVERNOR_S: f64 = 0.4;

pub(super) fn check(site: &SiteCheck<'_>, findings: &mut Findings) {
    for module in site.live() {
        for rung in &module.plan.ladder {
            truthful(module, rung, site, findings);
        }
        indices(module, findings);
    }
    firm(site, findings);
    if site.online.len() < 2 {
        return;
    }
    for (id, set) in &site.online {
        let armed = site.plan.contingencies.iter().find(|(_, contingency)| contingency.source == **id);
        match armed {
            Some((contingency, _)) => loss(site, id, set, contingency, findings),
            None => {
                let message = format!("the loss of {id} is answered by nothing; arm it");
                findings.add("armed-missing", site.subject(), message);
            }
        }
    }
}

/// A rung may not claim more than is drawn and told to be drawn, nor open faster than was measured, nor drop firm AI.
fn truthful(module: &ModuleCheck<'_>, rung: &Rung, site: &SiteCheck<'_>, findings: &mut Findings) {
    if let Some(group) = module.group(rung) {
        let drawn = module.drawn(rung).min(module.target(rung));
        let opens = if rung.actuator == Actuator::Feeder { group.shed.opens } else { Some(rung.opens) };
        let honest = rung.watts <= drawn && opens.is_some_and(|opens| rung.opens >= opens);
        if !honest || rung.actuator != group.shed.actuator {
            let message = format!("a rung claims {} in {}; {drawn} are drawn there", rung.watts, rung.opens);
            findings.add("rung-overstated", module.subject(), message);
        }
        return;
    }
    let pool = match &rung.load {
        model::envelope::RungLoad::Storage => return super::storage::rung(module, rung, site, findings),
        model::envelope::RungLoad::Pool(pool) => pool,
        model::envelope::RungLoad::Miners(group) => {
            findings.add(
                "rung-overstated",
                module.subject(),
                format!("a rung names group {group}, which it has not"),
            );
            return;
        }
    };
    let mut here = module.runs.iter().filter(|(placement, _)| placement.pool == *pool);
    if here.any(|(_, run)| run.spec.tier == Tier::Firm) {
        findings.add(
            "firm-shed",
            module.subject(),
            format!("a rung caps pool {pool}, where firm AI runs; remove it"),
        );
    }
}

/// Armed tables name fast rungs that exist.
fn indices(module: &ModuleCheck<'_>, findings: &mut Findings) {
    for (contingency, rungs) in &module.plan.armed {
        for &index in rungs {
            match module.plan.ladder.get(index as usize) {
                None => findings.add(
                    "armed-index",
                    module.subject(),
                    format!("{contingency} arms rung {index}, which is not there"),
                ),
                Some(rung) if !module.is_fast(rung) && !super::storage::is_fast(rung) => {
                    let message = format!(
                        "{contingency} arms rung {index}, which is no measured feeder and no storage"
                    );
                    findings.add("armed-slow", module.subject(), message);
                }
                Some(_) => {}
            }
        }
    }
}

/// Firm runs are started only within the N-1 capacity.
fn firm(site: &SiteCheck<'_>, findings: &mut Findings) {
    let started = site.runs().any(|(_, workload, starts)| starts && workload.spec.tier == Tier::Firm);
    if !started {
        return;
    }
    let mut load = site.unmanaged() + site.silent().map(|module| module.plan.ceiling).sum();
    load += site.live().map(|module| module.config().base_draw()).sum();
    for (module, workload, _) in site.runs().filter(|(_, workload, _)| workload.spec.tier == Tier::Firm) {
        let pool = module
            .plan
            .runs
            .get(&workload.id)
            .and_then(|placement| module.config().pools.get(&placement.pool));
        load += pool.map_or(Watts::ZERO, |pool| pool.per_gpu().times(workload.spec.gpus.into()));
    }
    if load > site.plan.firm_capacity {
        let message = format!(
            "firm AI, base and unmanaged load make {load}, above its N-1 capacity of {}",
            site.plan.firm_capacity
        );
        findings.add("firm-oversold", site.subject(), message);
    }
}

/// A choice of rungs, and the island in the worst state for it.
struct Worst {
    lost: f64,
    /// What the others take, with what storage bridges of it.
    absorbed: f64,
    bridged: f64,
    shed: f64,
    /// What the armed rungs drop once they are at their targets.
    shed_full: f64,
}

impl Worst {
    fn covered(&self) -> bool {
        // A watt of rounding between their arithmetic and ours.
        self.shed + 2.0 >= self.lost - self.absorbed
    }
}

fn loss(site: &SiteCheck<'_>, id: &GensetId, set: &Genset, name: &ContingencyId, findings: &mut Findings) {
    let armed = |module: &ModuleCheck<'_>, index: usize| {
        let rungs = module.plan.armed.get(name);
        rungs.is_some_and(|rungs| rungs.iter().any(|&rung| rung as usize == index))
    };
    let chosen = worst(site, id, set, armed);
    let all = worst(site, id, set, |_, _| true);
    if site.starts() && !all.covered() {
        let message = format!(
            "starts work while the loss of {id} would leave {:.0} W uncovered",
            all.lost - all.absorbed - all.shed
        );
        findings.add("n1-start", site.subject(), message);
    }
    let enough = if all.covered() { chosen.covered() } else { chosen.shed + 2.0 >= all.shed };
    if !enough {
        let message = format!(
            "after the loss of {id}: {:.0} W lost, {:.0} W absorbed, only {:.0} W armed; arm more rungs",
            chosen.lost, chosen.absorbed, chosen.shed
        );
        findings.add("armed-short", site.subject(), message);
    }
    let mut kept = site.runs().map(|(_, workload, starts)| workload.spec.tier == Tier::Firm && !starts);
    let firm_only = site.runs().next().is_some() && kept.all(|firm| firm);
    if firm_only {
        return;
    }
    if site.runs().next().is_some() && !secure_at_targets(site, set) {
        let message = format!(
            "what runs would not survive the loss of {id} even with all miners at their targets; run less"
        );
        findings.add("n1-unsecured", site.subject(), message);
    }
    if chosen.covered() {
        nadir(site, id, set, &chosen, findings);
    }
}

fn worst(
    site: &SiteCheck<'_>,
    id: &GensetId,
    set: &Genset,
    armed: impl Fn(&ModuleCheck<'_>, usize) -> bool,
) -> Worst {
    let (mut shed, mut shed_full) = (Watts::ZERO, Watts::ZERO);
    for module in site.live().filter(|_| site.given.site.relay) {
        for (index, rung) in module.plan.ladder.iter().enumerate() {
            if module.is_fast(rung) && armed(module, index) {
                shed += rung.watts.min(module.drawn(rung));
                shed_full += module.target(rung);
            }
        }
    }
    let load = (site.load() - (shed_full - shed)).as_f64();
    let rating = site.rating().as_f64().max(1.0);
    let lost = load * set.rating.as_f64() / rating;
    let steps: Watts =
        site.online.iter().filter(|(other, _)| *other != id).map(|(_, other)| other.step).sum();
    let headroom = (rating - set.rating.as_f64()) - (load - lost);
    let bridged = bridged(site, armed);
    // Storage hands over to sets that must be rated for it.
    let absorbed = (steps.as_f64() + bridged).min(headroom).max(0.0);
    Worst { lost, absorbed, bridged, shed: shed.as_f64(), shed_full: shed_full.as_f64() }
}

/// What storage delivers at once; a second rung of it would claim the same again.
fn bridged(site: &SiteCheck<'_>, armed: impl Fn(&ModuleCheck<'_>, usize) -> bool) -> f64 {
    let of = |module: &ModuleCheck<'_>| {
        let fast = module.plan.ladder.iter().enumerate().filter(|(_, rung)| super::storage::is_fast(rung));
        fast.filter(|(index, _)| armed(module, *index))
            .map(|(_, rung)| rung.watts.as_f64())
            .fold(0.0, f64::max)
    };
    site.live().filter(|_| site.given.site.relay).map(of).fold(0.0, f64::max)
}

/// Whether all fast rungs at their targets would cover the loss.
fn secure_at_targets(site: &SiteCheck<'_>, set: &Genset) -> bool {
    let mut fast = Watts::ZERO;
    let mut fixed = site.load();
    for module in &site.modules {
        let rungs = module.plan.ladder.iter().filter(|rung| module.is_fast(rung) && site.given.site.relay);
        let target: Watts = rungs.map(|rung| module.target(rung)).sum();
        fixed -= target;
        if module.given.link.is_in_touch() {
            fast += target;
        }
    }
    let load = (fixed + fast).as_f64();
    let rating = site.rating().as_f64().max(1.0);
    let lost = load * set.rating.as_f64() / rating;
    let all: Watts = site.online.iter().map(|(_, set)| set.step).sum();
    let taken = (all - set.step).as_f64() + bridged(site, |_, _| true);
    let absorbed = taken.min(rating - set.rating.as_f64() - (load - lost)).max(0.0);
    fast.as_f64() + 2.0 >= lost - absorbed && fixed.as_f64() <= rating - set.rating.as_f64()
}

fn nadir(site: &SiteCheck<'_>, id: &GensetId, set: &Genset, worst: &Worst, findings: &mut Findings) {
    let full = site.load().as_f64() * set.rating.as_f64() / site.rating().as_f64().max(1.0);
    for (lost, shed) in [(worst.lost, worst.shed), (full, worst.shed_full)] {
        let lowest =
            lowest(site, id, lost, Answer { absorbed: worst.absorbed, bridged: worst.bridged, shed });
        if lowest < least_frequency(site) {
            findings.add(
                "nadir",
                site.subject(),
                format!("the loss of {id} would dip to {lowest:.2} Hz; let less run"),
            );
            return;
        }
    }
}

/// Whether a load, evenly shared and with a shed of the right size, could survive the loss of any one set.
pub(super) fn could_carry(site: &SiteCheck<'_>, load: Watts) -> bool {
    let all: Watts = site.online.iter().map(|(_, set)| set.step).sum();
    site.online.len() < 2
        || site.online.iter().all(|(id, set)| {
            let lost = load.as_f64() * set.rating.as_f64() / site.rating().as_f64().max(1.0);
            let bridged = bridged(site, |_, _| true);
            let absorbed = (all - set.step).as_f64() + bridged;
            let answer = Answer { absorbed, bridged, shed: (lost - absorbed).max(0.0) };
            // A planner may keep a tenth of a hertz more than the rule demands.
            lowest(site, id, lost, answer) >= least_frequency(site) + 0.1
        })
}

fn least_frequency(site: &SiteCheck<'_>) -> f64 {
    site.given.site.nominal.as_f64() / 1_000.0 * TRIP + NADIR_MARGIN_HZ
}

/// What makes up for a loss: others and storage, storage alone, feeders.
struct Answer {
    absorbed: f64,
    bridged: f64,
    shed: f64,
}

/// The swing equation, in Hz: while nothing has acted all of the loss is missing, then what the governors must take up.
fn lowest(site: &SiteCheck<'_>, id: &GensetId, lost: f64, answer: Answer) -> f64 {
    let Answer { absorbed, bridged, shed } = answer;
    let others = site.online.iter().filter(|(other, _)| *other != id);
    let stored: f64 = others.map(|(_, other)| other.rating.as_f64() * other.inertia.as_secs_f64()).sum();
    let ladders = site.live().flat_map(|module| {
        let acts = |rung: &&Rung| module.is_fast(rung) || super::storage::is_fast(rung);
        module.plan.ladder.iter().filter(acts)
    });
    let opens = ladders.map(|rung| rung.opens.as_secs_f64()).fold(0.0, f64::max);
    let nominal = site.given.site.nominal.as_f64() / 1_000.0;
    let governed = (absorbed - bridged).max(0.0);
    let waits = if lost > governed { opens + DETECTION_S } else { 0.0 };
    let residue = (lost - shed - bridged).clamp(0.0, governed);
    nominal - nominal * (lost * waits + residue * GOVERNOR_S / 2.0) / (2.0 * stored.max(1.0))
}
