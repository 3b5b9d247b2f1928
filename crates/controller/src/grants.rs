//! The book of grants: what each module may still draw, and how much may be raised without breaking invariant 1.
//!
//! Watts move from one load to another only after (a) the agent has persisted and acknowledged the lower ceiling and a *later*
//! meter sample lies below it, or (b) the envelope has expired and something outside that module confirms its fallback level.
//! Until then every envelope that may have reached the agent counts, whichever is highest. Expiry alone frees nothing.
//!
//! What is stored lags behind what was freed, so a new leader may count the same watts twice, for two modules. While the sum
//! does not fit, nobody is therefore offered more than its agent's own report shows to be in force.
//!
//! Assumes that agents refuse a generation below the one they have persisted, and that whoever sends an envelope first calls
//! [`Book::record`]. Pure: time comes in as an argument. Read next: `publish.rs`, which asks and sends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::envelope::Envelope;
use model::report::{EnvelopeState, Report};
use model::{ModuleId, SiteId, Span, Time, Watts};

/// Envelopes of one module that are neither acknowledged nor superseded. Reports come once a second and an acknowledgement
/// takes one round trip (0.7 s over a satellite), so two are usual; beyond eight the two oldest are counted as one.
const MAX_OFFERS: usize = 8;
/// A raise that is only part of what is wanted is not worth a new generation (one write to the store) below a kilowatt.
const LEAST_RAISE: Watts = Watts::kilo(1);

/// Meters are read once a second, so a sample in a report may be that much older than the report.
const METER_AGE: Span = Span::secs(1);

/// What was granted to every module and not yet given back.
#[derive(Clone, Debug)]
pub struct Book {
    hold: Span,
    modules: BTreeMap<ModuleId, Account>,
    /// Which of them stand on which island.
    standing: BTreeMap<SiteId, BTreeSet<ModuleId>>,
}

/// One envelope that a module may act under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The envelope's generation.
    pub generation: u64,
    /// Its ceiling.
    pub ceiling: Watts,
    /// Its highest fallback ceiling.
    pub fallback: Watts,
}

/// What an island can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it carries now.
    pub capacity: Watts,
    /// What it carries after the loss of its largest source.
    pub firm_capacity: Watts,
    /// Load that is not ours.
    pub unmanaged: Watts,
}

/// What the plan wants a module to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desire {
    /// The ceiling.
    pub ceiling: Watts,
    /// What of it serves firm AI; served first when room is short.
    pub floor: Watts,
    /// The highest fallback ceiling.
    pub fallback: Watts,
}

/// What a module may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The ceiling, at most the one desired.
    pub ceiling: Watts,
    /// What no step of the fallback programme may exceed.
    pub fallback: Watts,
}

/// What a report says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The generation the agent has persisted; 0 = none.
    pub generation: u64,
    /// That envelope's ceiling.
    pub ceiling: Watts,
    /// It has not expired, by the agent's clock.
    pub valid: bool,
    /// Draw at the module's own meter.
    pub meter: Option<Watts>,
    /// The agent's clock when it wrote the report, since its boot.
    pub stamp: Span,
    /// The first report of another boot: its clock began anew.
    pub rebooted: bool,
    /// When the report was received.
    pub received: Time,
}

impl Heard {
    /// A report that came at `received`, of the same boot as the one before.
    pub fn of(report: &Report, received: Time) -> Self {
        let Report { envelope, meter, stamp, .. } = report;
        Self {
            generation: envelope.generation,
            ceiling: envelope.ceiling,
            valid: envelope.state == EnvelopeState::Valid,
            meter: *meter,
            stamp: stamp.at,
            rebooted: false,
            received,
        }
    }
}

#[derive(Clone, Debug)]
struct Account {
    site: SiteId,
    /// What the module draws with everything asleep: granted to it by having power.
    least: Watts,
    /// The highest generation given out or seen.
    generation: u64,
    /// Not superseded, oldest first.
    offers: Vec<Live>,
    /// Superseded, but no meter has confirmed it.
    held: Option<Held>,
    /// The module has reported in this leader's term.
    reported: bool,
    /// What its last report shows to be in force: ceiling and fallback.
    shown: (Watts, Watts),
}

#[derive(Clone, Copy, Debug)]
struct Live {
    offer: Offer,
    expires: Time,
    /// Expired, and something outside the module confirmed its fallback level.
    settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    ceiling: Watts,
    fallback: Watts,
    /// On the agent's own clock, so that delays on the way change nothing.
    since: Span,
}

impl Book {
    /// An empty book for envelopes valid for `validity`.
    pub fn new(validity: Span) -> Self {
        Self {
            hold: Envelope::controller_hold(validity),
            modules: BTreeMap::new(),
            standing: BTreeMap::new(),
        }
    }

    /// Makes a module known, or changes its site and least draw.
    pub fn register(&mut self, module: &ModuleId, site: &SiteId, least: Watts) {
        let known = self.modules.get_mut(module).filter(|account| account.site == *site);
        if let Some(account) = known {
            account.least = least;
            return;
        }
        let account = self.modules.entry(module.clone()).or_insert_with(|| Account::new(site, least));
        if let Some(standing) = self.standing.get_mut(&account.site) {
            standing.remove(module);
        }
        account.site = site.clone();
        account.least = least;
        self.standing.entry(site.clone()).or_default().insert(module.clone());
    }

    /// Takes over what a former leader granted: it counts in full until 1.001 × D after this leader's election, and the
    /// module's ceiling is not raised before it has reported.
    pub fn inherit(&mut self, module: &ModuleId, stored: &[Offer], elected: Time) {
        let expires = elected + self.hold;
        if let Some(account) = self.modules.get_mut(module) {
            for offer in stored {
                account.push(Live { offer: *offer, expires, settled: false });
            }
        }
    }

    /// The highest generation given to the module or seen in its reports; the next one must be higher.
    pub fn generation(&self, module: &ModuleId) -> u64 {
        self.modules.get(module).map_or(0, |account| account.generation)
    }

    /// What the module may still draw.
    pub fn granted(&self, module: &ModuleId) -> Watts {
        self.modules.get(module).map_or(Watts::ZERO, Account::granted)
    }

    /// Every envelope the module may act under, and one entry for what no meter has confirmed: what a successor must know.
    pub fn outstanding(&self, module: &ModuleId) -> Vec<Offer> {
        let Some(account) = self.modules.get(module) else { return Vec::new() };
        let held =
            account.held.map(|held| Offer { generation: 0, ceiling: held.ceiling, fallback: held.fallback });
        held.into_iter().chain(account.offers.iter().map(|live| live.offer)).collect()
    }

    /// What may still be granted at the site; negative when capacity fell below what is out.
    pub fn room(&self, site: &SiteId, limits: Limits) -> Watts {
        let granted: Watts = self.at(site).map(|(_, account)| account.granted()).sum();
        limits.capacity - limits.unmanaged - granted
    }

    /// What each module may be sent now. Lowering is free; a raise waits for room: firm floors first, then the largest
    /// wish, ties by id.
    pub fn offer(
        &self,
        site: &SiteId,
        limits: Limits,
        desires: &BTreeMap<ModuleId, Desire>,
    ) -> BTreeMap<ModuleId, Allowed> {
        let known: BTreeMap<&ModuleId, (&Account, Desire)> =
            self.at(site).filter_map(|(id, account)| Some((id, (account, *desires.get(id)?)))).collect();
        // The plan passed `check` with its own fallbacks, even where a site has no firm capacity at all: they are the bound.
        let wished: Watts = known.values().map(|(_, desire)| desire.fallback).sum();
        let out: Watts = self.at(site).map(|(_, account)| account.fallback()).sum();
        let fallback_room = (limits.firm_capacity - limits.unmanaged).max(wished) - out;
        let room = self.room(site, limits);
        let fallbacks = raise(
            known.iter().map(|(id, (account, desire))| {
                account.wish(id, account.fallback_base(fallback_room), desire.fallback)
            }),
            fallback_room,
        );
        let floors = raise(
            known.iter().map(|(id, (account, desire))| {
                account.wish(id, account.base(room), desire.floor.min(desire.ceiling))
            }),
            room,
        );
        let used: Watts = known.iter().map(|(id, (account, _))| at(&floors, id) - account.base(room)).sum();
        let ceilings = raise(
            known.iter().map(|(id, (_, desire))| {
                let wanted = desire.ceiling.max(at(&fallbacks, id));
                known[id].0.wish(id, at(&floors, id), wanted)
            }),
            room - used,
        );
        known
            .into_iter()
            .map(|(id, (_, desire))| {
                let most = at(&ceilings, id);
                let allowed = Allowed {
                    ceiling: desire.ceiling.min(most),
                    fallback: desire.fallback.min(at(&fallbacks, id)).min(most),
                };
                (id.clone(), allowed)
            })
            .collect()
    }

    /// What each module may be sent while another one of the island may act under an envelope that is not in this book: what its own
    /// report shows to be in force, and nothing more.
    pub fn keep(&self, site: &SiteId, desires: &BTreeMap<ModuleId, Desire>) -> BTreeMap<ModuleId, Allowed> {
        let known = self.at(site).filter_map(|(id, account)| Some((id, account, *desires.get(id)?)));
        known
            .map(|(id, account, desire)| {
                let most = account.granted().min(account.certain());
                let fallback = desire.fallback.min(account.fallback().min(account.shown.1)).min(most);
                (id.clone(), Allowed { ceiling: desire.ceiling.min(most), fallback })
            })
            .collect()
    }

    /// Notes an envelope *before* it is persisted and sent: from now on it counts. `answered` is when the report that it
    /// answers was received.
    pub fn record(&mut self, module: &ModuleId, offer: Offer, answered: Time) {
        let expires = answered + self.hold;
        if let Some(account) = self.modules.get_mut(module) {
            account.push(Live { offer, expires, settled: false });
        }
    }

    /// Takes in a report of the module's agent. What it has persisted supersedes older envelopes; what those allowed counts
    /// until a meter sample that is later than the acknowledgement lies within what is still granted. Answers whether anything
    /// changed that offers depend on.
    pub fn heard(&mut self, module: &ModuleId, heard: &Heard) -> bool {
        let expires = heard.received + self.hold;
        let Some(account) = self.modules.get_mut(module) else { return false };
        let before = account.standing();
        account.heard(heard, expires);
        before != account.standing()
    }

    /// Something outside the module (the site's meter, its feeder) shows that it draws at most `draw`. Frees the ceilings
    /// of envelopes that have expired by then; what was superseded counts on with its fallback while the draw needs it.
    pub fn confirmed_outside(&mut self, module: &ModuleId, draw: Watts, at: Time) {
        let Some(account) = self.modules.get_mut(module) else { return };
        let expired = account.offers.iter().all(|live| live.expires <= at);
        if !expired || draw > account.fallback().max(account.least) {
            return;
        }
        let in_force = account.offers.iter().map(|live| live.offer.fallback).max().unwrap_or_default();
        let held = account.held.filter(|_| draw > in_force.max(account.least));
        account.held = held.map(|held| Held { ceiling: held.fallback, ..held });
        account.offers.iter_mut().for_each(|live| live.settled = true);
    }

    fn at<'a>(&'a self, site: &'a SiteId) -> impl Iterator<Item = (&'a ModuleId, &'a Account)> {
        let here = self.standing.get(site).into_iter().flatten();
        here.filter_map(|id| self.modules.get_key_value(id))
    }
}

impl Account {
    fn new(site: &SiteId, least: Watts) -> Self {
        let shown = (Watts::ZERO, Watts::ZERO);
        Self {
            site: site.clone(),
            least,
            generation: 0,
            offers: Vec::new(),
            held: None,
            reported: false,
            shown,
        }
    }

    /// See [`Book::heard`]; what is new here expires then.
    fn heard(&mut self, heard: &Heard, expires: Time) {
        let Heard { generation, ceiling, valid, meter, stamp, rebooted, received: _ } = *heard;
        self.reported = true;
        self.metered(meter, stamp, rebooted);
        self.shown = (Watts::ZERO, Watts::ZERO);
        if generation == 0 {
            return;
        }
        if !self.offers.iter().any(|live| live.offer.generation == generation) {
            // A generation this book does not hold: from before a restore, or merged. Its word is the best there is.
            let fallback = self.fallback().max(ceiling);
            self.push(Live { offer: Offer { generation, ceiling, fallback }, expires, settled: false });
        }
        self.show(generation, if valid { ceiling } else { Watts::ZERO });
        self.supersede(generation, stamp);
    }

    /// All that offers depend on.
    fn standing(&self) -> (u64, bool, [Watts; 4]) {
        let watts = [self.granted(), self.fallback(), self.shown.0, self.shown.1];
        (self.generation, self.reported, watts)
    }

    /// What it may be offered without asking for room: all that counts, or while the island's sum does not fit, only what is
    /// certainly in force already.
    fn base(&self, room: Watts) -> Watts {
        if room < Watts::ZERO { self.granted().min(self.certain()) } else { self.granted() }
    }

    /// What its last report shows to be in force.
    fn certain(&self) -> Watts {
        self.shown.0.max(self.shown.1).max(self.least)
    }

    /// The same for the fallback ceiling.
    fn fallback_base(&self, room: Watts) -> Watts {
        if room < Watts::ZERO { self.fallback().min(self.shown.1) } else { self.fallback() }
    }

    fn show(&mut self, generation: u64, ceiling: Watts) {
        let known = self.offers.iter().find(|live| live.offer.generation == generation);
        self.shown = (ceiling, known.map_or(Watts::ZERO, |live| live.offer.fallback));
    }

    fn granted(&self) -> Watts {
        let held = self.held.map_or(Watts::ZERO, |held| held.ceiling.max(held.fallback));
        self.unsettled().max(held).max(self.least)
    }

    /// The most that envelopes which are not superseded allow.
    fn unsettled(&self) -> Watts {
        let most = |live: &Live| match live.settled {
            true => live.offer.fallback,
            false => live.offer.ceiling.max(live.offer.fallback),
        };
        self.offers.iter().map(most).max().unwrap_or_default().max(self.least)
    }

    fn fallback(&self) -> Watts {
        let offers = self.offers.iter().map(|live| live.offer.fallback);
        offers.chain(self.held.map(|held| held.fallback)).max().unwrap_or_default()
    }

    fn metered(&mut self, meter: Option<Watts>, stamp: Span, rebooted: bool) {
        let most = self.unsettled();
        let Some(held) = &mut self.held else { return };
        if rebooted {
            held.since = stamp;
        }
        let later = stamp - METER_AGE > held.since;
        if later && meter.is_some_and(|draw| draw <= most) {
            self.held = None;
        }
    }

    /// The same generation again is a renewal; a new one is one more that may arrive.
    fn push(&mut self, live: Live) {
        self.generation = self.generation.max(live.offer.generation);
        match self.offers.iter_mut().find(|known| known.offer.generation == live.offer.generation) {
            Some(known) => {
                known.offer.ceiling = known.offer.ceiling.max(live.offer.ceiling);
                known.offer.fallback = known.offer.fallback.max(live.offer.fallback);
                known.expires = known.expires.max(live.expires);
                known.settled = false;
            }
            None => self.offers.push(live),
        }
        self.offers.sort_by_key(|live| live.offer.generation);
        if self.offers.len() > MAX_OFFERS {
            self.merge_oldest();
        }
    }

    /// Counts the two oldest as one that allows what either allowed. It keeps the higher generation, so that both are
    /// superseded only by a newer one.
    fn merge_oldest(&mut self) {
        let oldest = self.offers.remove(0);
        if let Some(next) = self.offers.first_mut() {
            next.offer.ceiling = next.offer.ceiling.max(oldest.offer.ceiling);
            next.offer.fallback = next.offer.fallback.max(oldest.offer.fallback);
            next.expires = next.expires.max(oldest.expires);
            next.settled &= oldest.settled;
        }
    }

    fn supersede(&mut self, generation: u64, at: Span) {
        let (older, kept): (Vec<Live>, Vec<Live>) =
            self.offers.drain(..).partition(|live| live.offer.generation < generation);
        self.offers = kept;
        for live in older {
            let ceiling = if live.settled { live.offer.fallback } else { live.offer.ceiling };
            let held = self.held.get_or_insert(Held { ceiling, fallback: live.offer.fallback, since: at });
            held.ceiling = held.ceiling.max(ceiling);
            held.fallback = held.fallback.max(live.offer.fallback);
            held.since = at;
        }
    }

    /// A wish to go from what counts already to what is wanted; none before the module has reported.
    fn wish<'a>(&self, id: &'a ModuleId, counted: Watts, wanted: Watts) -> Wish<'a> {
        let wanted = if self.reported { wanted.max(counted) } else { counted };
        Wish { rank: (Reverse(wanted - counted), id), counted, wanted }
    }
}

struct Wish<'a> {
    rank: (Reverse<Watts>, &'a ModuleId),
    counted: Watts,
    wanted: Watts,
}

/// Serves wishes in order of rank from `room`.
fn raise<'a>(wishes: impl Iterator<Item = Wish<'a>>, room: Watts) -> BTreeMap<&'a ModuleId, Watts> {
    let mut wishes: Vec<Wish<'a>> = wishes.collect();
    wishes.sort_by_key(|wish| wish.rank);
    let mut room = room.at_least_zero();
    let serve = |wish: Wish<'a>| {
        let more = wish.wanted - wish.counted;
        let given = if more <= room { more } else { room };
        let given = if given < more && given < LEAST_RAISE { Watts::ZERO } else { given };
        room -= given;
        (wish.rank.1, wish.counted + given)
    };
    wishes.into_iter().map(serve).collect()
}

fn at(map: &BTreeMap<&ModuleId, Watts>, id: &ModuleId) -> Watts {
    map.get(id).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
