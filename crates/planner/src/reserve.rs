//! Ladders and armed tables: which loads drop, in what order, and which of them at once when a set is lost.
//!
//! For each set the armed rungs must cover what is lost less what the others absorb, in the worst state the plan allows: rungs at
//! what they draw *now*, all other load at its ceiling. Rungs that are still ramping up cost nothing and cover themselves, see
//! `security`. One shed of the right size is preferred: the subset with the least excess, so that frequency does not overshoot.
//! Read next: `grant`.

use std::collections::BTreeMap;

use model::envelope::{Rung, RungLoad};
use model::module::{Actuator, MinerGroup};
use model::plan::Contingency;
use model::site::Frequency;
use model::workload::Tier;
use model::{ContingencyId, GensetId, MinerGroupId, ModuleId, Span, Watts};

use crate::input::Input;
use crate::island::Island;
use crate::mining;
use crate::security::{Security, Source};
use crate::slot::{Slot, is_fast};

/// The first rung of a ladder opens at this deviation; our own steps dip by some 0.5 Hz.
const FIRST: Frequency = Frequency::new(800);
/// Rungs lie this far apart.
const APART: Frequency = Frequency::new(300);
/// No rung lies deeper: the trip is at 3.0 Hz below 60.
const LAST: Frequency = Frequency::new(2_300);
/// A claim of the plan in force is kept while the group draws so much more of what it could at most: 1 %. Meters of a hundred
/// miners waver by some thousandths, and a claim that follows them tells every module something new in every plan.
const STEADY_PERMILLE: i64 = 10;
/// GPU caps act within about a second.
const CAP_ACTS: Span = Span::secs(1);
/// Up to so many rungs every subset is tried: 2^12 = 4,096 for each set.
const EXHAUSTIVE: usize = 12;

/// The ladder of one module: storage, which drops nothing, feeders by what they earn a watt, cheapest first, then GPU caps, then
/// firmware.
pub(crate) fn ladder(slot: &Slot<'_>, island: &Island<'_>, input: &Input) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = stored(slot, island).into_iter().collect();
    let told = Told::of(slot, island, input);
    rungs.extend(feeders(slot, &told));
    rungs.extend(caps(slot, input));
    rungs.extend(firmware(slot, &told));
    for (place, rung) in rungs.iter_mut().enumerate() {
        let below = FIRST + APART.times(i64::try_from(place).unwrap_or(i64::MAX));
        rung.below = below.min(LAST);
    }
    rungs
}

/// The site's storage, in the ladder of the one agent that leads it.
fn stored(slot: &Slot<'_>, island: &Island<'_>) -> Option<Rung> {
    let bridge = island.capacity.security.bridge.filter(|_| slot.module().wired)?;
    let (load, actuator) = (RungLoad::Storage, Actuator::Storage);
    Some(Rung { load, actuator, watts: bridge.watts, opens: bridge.response, below: Frequency::ZERO })
}

/// What the plan in force claims of the module's miners; `None` where claims must be exact.
struct Told<'p>(Option<&'p [Rung]>);

impl<'p> Told<'p> {
    /// Exact where something starts on the island: a start may need every watt that is drawn.
    fn of(slot: &Slot<'_>, island: &Island<'_>, input: &'p Input) -> Self {
        let parent = input.parent.as_ref().and_then(|parent| parent.sites.get(&island.input.site.id));
        let ladder =
            parent.and_then(|site| site.modules.get(slot.id)).map_or(&[][..], |module| &module.ladder);
        Self((!island.starts(input)).then_some(ladder))
    }

    /// What a rung of a group may claim: what the group is told to draw, as far as it draws it.
    fn claim(&self, slot: &Slot<'_>, id: &MinerGroupId, group: &MinerGroup) -> Watts {
        let drawn = slot.target_draw(id, group).min(slot.drawn(id, group));
        let Some(ladder) = self.0 else { return drawn };
        let band = group.draw_full().fraction(STEADY_PERMILLE, 1_000);
        let same = |rung: &&Rung| matches!(&rung.load, RungLoad::Miners(of) if of == id);
        let claimed = ladder.iter().find(same).map(|rung| rung.watts);
        let holds = |claimed: &Watts| *claimed <= drawn && drawn <= *claimed + band;
        // A new claim stands in the middle of its band, so that it need not be told again soon.
        claimed.filter(holds).unwrap_or_else(|| (drawn - band.fraction(1, 2)).at_least_zero())
    }
}

fn feeders(slot: &Slot<'_>, told: &Told<'_>) -> Vec<Rung> {
    let groups = slot.module().groups.iter().filter(|(_, group)| group.is_fast());
    let mut rungs: Vec<_> = groups
        .filter_map(|(id, group)| {
            let full = group.full();
            let per_watt = full.rate.fraction(1, full.power.get().max(1));
            let watts = told.claim(slot, id, group);
            let load = RungLoad::Miners(id.clone());
            let opens = group.shed.opens?;
            Some((per_watt, Rung { load, actuator: Actuator::Feeder, watts, opens, below: Frequency::ZERO }))
        })
        .collect();
    rungs.sort_by(|a, b| (a.0, &a.1.load).cmp(&(b.0, &b.1.load)));
    rungs.into_iter().map(|(_, rung)| rung).collect()
}

/// Caps of pools where nothing firm runs: firm AI is never shed.
fn caps(slot: &Slot<'_>, input: &Input) -> Vec<Rung> {
    let pools = slot.module().pools.iter();
    pools
        .filter_map(|(id, pool)| {
            let runs: Vec<_> = slot
                .runs
                .iter()
                .filter(|(_, placement)| placement.pool == *id)
                .filter_map(|(run, _)| input.workloads.get(run))
                .collect();
            let firm = runs.iter().any(|run| run.spec.tier == Tier::Firm);
            let gpus: i64 = runs.iter().map(|run| i64::from(run.spec.gpus)).sum();
            let swing = (pool.active - pool.cap_min).at_least_zero();
            // A run that is slowed has less to give.
            let slowed =
                slot.elastic.iter().filter(|(run, _)| slot.runs.get(*run).is_some_and(|at| at.pool == *id));
            let given: Watts = slowed
                .map(|(_, elastic)| elastic.draw(elastic.settings.len() - 1) - elastic.draw(elastic.at))
                .sum();
            let watts = swing.fraction(gpus, i64::from(pool.gpus.max(1))) - given;
            let load = RungLoad::Pool(id.clone());
            let rung = Rung { load, actuator: Actuator::Cap, watts, opens: CAP_ACTS, below: Frequency::ZERO };
            (!firm && watts > Watts::ZERO).then_some(rung)
        })
        .collect()
}

fn firmware(slot: &Slot<'_>, told: &Told<'_>) -> Vec<Rung> {
    let groups = slot.module().groups.iter().filter(|(_, group)| group.shed.actuator == Actuator::Api);
    groups
        .map(|(id, group)| Rung {
            load: RungLoad::Miners(id.clone()),
            actuator: Actuator::Api,
            watts: told.claim(slot, id, group),
            opens: group.sleep,
            below: Frequency::ZERO,
        })
        .collect()
}

/// What answers the loss of each set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arming {
    pub(crate) contingencies: BTreeMap<ContingencyId, Contingency>,
    pub(crate) rungs: BTreeMap<ModuleId, BTreeMap<ContingencyId, Vec<u32>>>,
}

/// A fast rung somewhere on the island.
#[derive(Clone, Debug)]
struct Candidate {
    module: ModuleId,
    index: u32,
    /// What it draws now, as far as it goes on.
    low: Watts,
    /// What it shall draw.
    target: Watts,
}

/// Arms every set of the island.
pub(crate) fn arm(island: &Island<'_>, ladders: &BTreeMap<ModuleId, Vec<Rung>>) -> Arming {
    let security = &island.capacity.security;
    let mut arming = Arming::default();
    if !security.has_contingencies() {
        return arming;
    }
    let candidates = candidates(island, ladders);
    let ceilings: Watts =
        island.slots.values().map(|slot| mining::ceiling(slot, island.leaving_counts)).sum();
    let load = island.capacity.unmanaged + ceilings;
    for source in &security.sources {
        let Some(id) = contingency(&source.id) else { continue };
        let case = Case { security, source, load, candidates: &candidates };
        let chosen = case.choose();
        let (lost, absorbed, shed) = case.worst(&chosen);
        arming
            .contingencies
            .insert(id.clone(), Contingency { source: source.id.clone(), lost, absorbed, shed });
        // Storage answers every loss: it drops nothing, and what it delivers counts as absorbed.
        for (module, index) in bridges(ladders) {
            arming.rungs.entry(module.clone()).or_default().entry(id.clone()).or_default().push(index);
        }
        for (candidate, _) in candidates.iter().zip(&chosen).filter(|(_, chosen)| **chosen) {
            let of = arming.rungs.entry(candidate.module.clone()).or_default();
            of.entry(id.clone()).or_default().push(candidate.index);
        }
    }
    arming
}

/// The rungs that are storage, by module and place.
fn bridges(ladders: &BTreeMap<ModuleId, Vec<Rung>>) -> impl Iterator<Item = (&ModuleId, u32)> {
    ladders.iter().filter_map(|(module, ladder)| {
        let place = ladder.iter().position(|rung| rung.load == RungLoad::Storage)?;
        Some((module, u32::try_from(place).ok()?))
    })
}

/// The id of the loss of a set. A set's id so long that the prefix does not fit is cut; sets differ early in their names.
pub(crate) fn contingency(set: &GensetId) -> Option<ContingencyId> {
    let text: String = format!("genset-{set}").chars().take(model::id::MAX_LEN).collect();
    ContingencyId::new(text.trim_end_matches('-')).ok()
}

fn candidates(island: &Island<'_>, ladders: &BTreeMap<ModuleId, Vec<Rung>>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    if !island.input.site.relay {
        return candidates;
    }
    for (module, slot) in island.slots.iter().filter(|(_, slot)| slot.frozen.is_none()) {
        for (index, rung) in ladders.get(module).into_iter().flatten().enumerate() {
            let RungLoad::Miners(id) = &rung.load else { continue };
            let Some(group) = slot.module().groups.get(id).filter(|group| is_fast(group)) else { continue };
            let (target, low) = (slot.target_draw(id, group), rung.watts);
            if let (true, Ok(index)) = (target > Watts::ZERO, u32::try_from(index)) {
                candidates.push(Candidate { module: module.clone(), index, low, target });
            }
        }
    }
    candidates
}

struct Case<'c> {
    security: &'c Security,
    source: &'c Source,
    /// Everything at its ceiling.
    load: Watts,
    candidates: &'c [Candidate],
}

impl Case<'_> {
    /// The rungs that open: enough to spare the governors half their step where that drops no more than is lost, or else just
    /// enough, or else all.
    fn choose(&self) -> Vec<bool> {
        let spared = self.least(2).filter(|chosen| self.dropped(chosen) <= self.worst(chosen).0);
        spared.or_else(|| self.least(1)).unwrap_or_else(|| vec![true; self.candidates.len()])
    }

    /// The covering subset that sheds least in the end state.
    fn least(&self, spare: i64) -> Option<Vec<bool>> {
        let all = vec![true; self.candidates.len()];
        if !self.covers(&all, spare) {
            return None;
        }
        if self.candidates.len() <= EXHAUSTIVE { self.exhaustive(spare) } else { Some(self.thin(all, spare)) }
    }

    fn exhaustive(&self, spare: i64) -> Option<Vec<bool>> {
        let count = self.candidates.len();
        let subset = |bits: u32| -> Vec<bool> { (0..count).map(|place| bits & (1 << place) != 0).collect() };
        let covering =
            (0..1u32 << count).map(|bits| (bits, subset(bits))).filter(|(_, s)| self.covers(s, spare));
        covering.min_by_key(|(bits, s)| (self.dropped(s), bits.count_ones(), *bits)).map(|(_, subset)| subset)
    }

    /// Leaves out the largest rungs that are not needed, one by one.
    fn thin(&self, mut chosen: Vec<bool>, spare: i64) -> Vec<bool> {
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&place| (std::cmp::Reverse(self.candidates[place].target), place));
        for place in order {
            chosen[place] = false;
            chosen[place] = !self.covers(&chosen, spare);
        }
        chosen
    }

    /// Lost, absorbed and shed in the worst state: armed rungs at what they draw now, all else at its ceiling.
    fn worst(&self, chosen: &[bool]) -> (Watts, Watts, Watts) {
        let armed = || self.candidates.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(one, _)| one);
        let missing: Watts = armed().map(|one| (one.target - one.low).at_least_zero()).sum();
        let load = self.load - missing;
        let lost = self.security.carried(self.source, load);
        (lost, self.security.absorbed(self.source, load), armed().map(|one| one.low).sum())
    }

    fn covers(&self, chosen: &[bool], spare: i64) -> bool {
        let (lost, absorbed, shed) = self.worst(chosen);
        shed >= lost - absorbed.fraction(1, spare)
    }

    fn dropped(&self, chosen: &[bool]) -> Watts {
        self.candidates.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(one, _)| one.target).sum()
    }
}
