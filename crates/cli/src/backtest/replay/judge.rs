//! Judges one replayed event by what is true of the island: invariants 1 to 3 of docs/invariants.md.
//!
//! The witness judges power, planned load steps and frequency in calm, as it does in `dev`. What follows a loss is judged here: no
//! other set trips, the bus stays live, no firm run ends, the armed rungs are open in time, and a minute later frequency is calm
//! again. Where a whole module is lost only firm runs of the others are promised anything. Used by [`super::stage`].

use std::collections::BTreeMap;

use control::reflex::{Cause, Shed};
use model::envelope::{Directive, RungLoad};
use model::fleet::Fleet;
use model::report::FeederState;
use model::site::{Frequency, Site};
use model::{BootStamp, MinerGroupId, ModuleId, Span, Time, Watts};
use sim::bus::{Happened, Trip};
use sim::island::Island;
use sim::truth::{Event as Seen, Truth, What};
use sim::witness::{Options, Witness};

/// The invariants that a replay shows: power, N-1, the sets' limits.
const JUDGED: [u8; 3] = [1, 2, 3];
/// Beside a feeder's own opening time: two ticks until the agent has read the breaker, which is a step old on the site's LAN,
/// and one in which the feeder's own reading is taken.
const SHED_SLACK: Span = Span::new(30);
/// Normal frequency stays within 1 % of nominal, as the witness takes it.
const CALM_PERMILLE: i64 = 10;
/// Below this share of the buffer, thousandths, the header's pressure falls and engines derate (`sim/src/gas.rs`).
const LOW_PRESSURE_PERMILLE: i64 = 50;

/// What became of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was broken, in words.
    pub findings: Vec<String>,
    /// Lowest and highest frequency.
    pub extremes: Option<(Frequency, Frequency)>,
    /// From the loss until the last armed feeder was open.
    pub shed: Option<Span>,
    /// Gas ran out of itself: whatever else is seen, no plan is to blame.
    pub starved: bool,
    /// Firm runs that ended elsewhere than where something was lost.
    pub firm_lost: u64,
}

/// The judge of one event.
pub struct Judge<'a> {
    site: &'a Site,
    witness: Witness,
    /// The last event of the island that was read.
    seen: u64,
    /// When something was lost, if it was.
    lost: Option<Time>,
    /// The module that was lost.
    gone: Option<ModuleId>,
    /// Feeders that were told to open for the loss: when they must be open.
    opening: BTreeMap<(ModuleId, MinerGroupId), Time>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    /// A judge of this island; the agents of these modules run from the beginning.
    pub fn new(fleet: &Fleet, site: &'a Site, island: &Island, held: &BTreeMap<ModuleId, Directive>) -> Self {
        let mut witness = Witness::new(fleet, Options::default());
        for module in held.keys() {
            witness.agent(module, island.now(), true);
        }
        let (seen, lost, gone) = (0, None, None);
        Self { site, witness, seen, lost, gone, opening: BTreeMap::new(), verdict: Verdict::default() }
    }

    /// Something is lost now: a module with all that runs there, or something else.
    pub fn loses(&mut self, now: Time, module: Option<&ModuleId>) {
        (self.lost, self.gone) = (Some(now), module.cloned());
    }

    /// An agent follows a directive.
    pub fn adopted(&mut self, directive: &Directive, boot: &BootStamp, now: Time) {
        self.witness.directive(&directive.envelope.module, now, boot, directive);
    }

    /// What an agent shed in this tick under this directive.
    pub fn shed(&mut self, directive: &Directive, sheds: &[Shed]) {
        let module = &directive.envelope.module;
        for shed in sheds {
            let RungLoad::Miners(group) = &shed.load else { continue };
            let rung = shed.rung.and_then(|rung| directive.envelope.grant.ladder.get(rung as usize));
            match (&shed.cause, self.lost, rung) {
                (Cause::Armed(_), Some(lost), Some(rung)) => {
                    self.opening.insert((module.clone(), group.clone()), lost + rung.opens + SHED_SLACK);
                }
                (Cause::Frequency | Cause::Collapse, None, _) => {
                    self.find(format!("{module}/{group} was shed by frequency, and nothing was lost"));
                }
                _ => {}
            }
        }
    }

    /// One step of the island.
    pub fn tick(&mut self, island: &Island, now: Time) {
        self.watch_feeders(island, now);
        if now.millis() % 100 == 0 {
            self.witness.load(&self.site.id, now, island.load());
        }
        if now.millis() % 1_000 == 0 {
            self.second(island);
        }
    }

    /// Ends, and tells.
    pub fn finish(mut self, island: &Island) -> Verdict {
        let truth = island.truth();
        let nominal = self.site.nominal;
        let calm = |now: Frequency| (now - nominal).abs() <= nominal.fraction(CALM_PERMILLE, 1_000);
        match truth.frequency {
            Some(now) if self.lost.is_some() && !calm(now) => {
                self.find(format!("frequency was {now} a minute after the loss"));
            }
            _ => {}
        }
        self.verdict.extremes = Some((truth.nadir, truth.zenith));
        let summary = self.witness.finish();
        let broken = summary.verdicts.iter().filter(|verdict| JUDGED.contains(&verdict.invariant));
        let seen = broken.flat_map(|verdict| &verdict.first);
        let words =
            seen.map(|broken| format!("invariant {}, {}: {}", broken.invariant, broken.subject, broken.what));
        self.verdict.findings.extend(words);
        if self.verdict.starved {
            self.verdict.findings.clear();
            self.verdict.firm_lost = 0;
        }
        self.verdict
    }

    fn second(&mut self, island: &Island) {
        let truth = island.truth();
        let events: Vec<Seen> = island.events_after(self.seen).cloned().collect();
        self.seen = events.last().map_or(self.seen, |event| event.sequence);
        events.iter().for_each(|event| self.happened(&event.what));
        self.verdict.starved |= is_starved(self.site, &truth);
        self.witness.second(&self.site.id, &truth, &events);
    }

    fn happened(&mut self, what: &What) {
        match what {
            What::Bus(Happened::Tripped(set, why, watts)) if *why != Trip::Fault => {
                let watts = Watts::from_f64(*watts);
                self.find(format!("set {set} tripped at {watts}: {}", protection(*why)));
            }
            What::Bus(Happened::Blackout) => self.find("the island blacked out".into()),
            What::PowerLost(module, firm) if *firm > 0 && self.gone.as_ref() != Some(module) => {
                self.verdict.firm_lost += u64::from(*firm);
                self.find(format!("{module} lost {firm} firm runs with its power"));
            }
            _ => {}
        }
    }

    /// Feeders that were told to open must be open in time.
    fn watch_feeders(&mut self, island: &Island, now: Time) {
        if self.opening.is_empty() {
            return;
        }
        let Some(lost) = self.lost else { return };
        let truth = island.truth();
        let (mut late, mut open) = (Vec::new(), Vec::new());
        for ((module, group), until) in &self.opening {
            let state = truth
                .modules
                .get(module)
                .and_then(|module| module.groups.get(group))
                .map(|group| group.feeder);
            if state == Some(FeederState::Open) {
                open.push((module.clone(), group.clone()));
            } else if now > *until {
                late.push((module.clone(), group.clone()));
            }
        }
        for key in open {
            self.opening.remove(&key);
            self.verdict.shed = self.verdict.shed.max(Some(now - lost));
        }
        for key in late {
            self.opening.remove(&key);
            self.find(format!(
                "the feeder of {}/{} was not open {} after the loss",
                key.0,
                key.1,
                now - lost
            ));
        }
    }

    fn find(&mut self, what: String) {
        self.verdict.findings.push(what);
    }
}

/// Whether engines want more gas than comes, and the buffer no longer makes up for it.
fn is_starved(site: &Site, truth: &Truth) -> bool {
    let low = site.buffer.capacity.fraction(LOW_PRESSURE_PERMILLE, 1_000);
    truth.gas.buffer < low && truth.gas.inflow < site.gas_for(truth.carried)
}

fn protection(trip: Trip) -> &'static str {
    match trip {
        Trip::Fault => "a fault",
        Trip::UnderFrequency => "frequency too low",
        Trip::OverFrequency => "frequency too high",
        Trip::Overload => "overload",
    }
}
