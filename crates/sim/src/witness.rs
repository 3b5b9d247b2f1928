//! The witness: checks the design's invariants against what the simulation's own meters saw, never against what the controller
//! believes. It runs inside `flareshift dev` and in tests.
//!
//! Pure: observations in, a [`Summary`] out; no clock, no thread, no I/O. It assumes that observations of one module or site come
//! in the order in which they happened. One file for each invariant; this one only dispatches. What all of them know:
//! `witness/scene.rs`; what they write to: `witness/book.rs`.

mod book;
mod crash;
mod determinism;
mod energy;
mod genset;
mod link;
mod meters;
mod power;
mod scene;
mod security;
mod shares;
mod standing;
mod storage;
#[cfg(test)]
mod testing;
mod thrash;
mod tie;
mod writer;

use model::envelope::Directive;
use model::fleet::Fleet;
use model::ledger::Segment;
use model::report::Finding;
use model::{BootStamp, ModuleId, SiteId, Span, Time, Watts};

pub use book::{Invariant, Summary, Verdict, Violation};
pub use shares::{EdgeTally, PoolTally};
pub use stratum::account::Tally;
pub use writer::CommitSeen;

use crate::truth::{Event, Truth};

/// How the witness judges where the design leaves room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Violations of each invariant kept in words; all are counted.
    pub keep: usize,
    /// How long a group may contradict itself before it must be flagged. At 30 shares in 15 minutes a lie of 40 % shows within one
    /// window, one of 15 % after several.
    pub flag_within: Span,
    /// The share of a claim, in thousandths, by which a group's true rate may fall short of it unflagged.
    pub claim_permille: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep: 8, flag_within: Span::minutes(10), claim_permille: 150 }
    }
}

/// The checker of all invariants.
#[derive(Clone, Debug)]
pub struct Witness {
    scene: scene::Scene,
    book: book::Book,
    power: power::Power,
    security: security::Security,
    genset: genset::Genset,
    writer: writer::Writer,
    shares: shares::Shares,
    energy: energy::Energy,
    storage: storage::Storage,
    tie: tie::Tie,
    thrash: thrash::Thrash,
    link: link::Link,
    crash: crash::Crash,
    meters: meters::Meters,
}

impl Witness {
    /// A witness of these sites and modules.
    pub fn new(fleet: &Fleet, options: Options) -> Self {
        Self {
            scene: scene::Scene::new(fleet),
            book: book::Book::new(options.keep),
            power: power::Power::default(),
            security: security::Security::default(),
            genset: genset::Genset::default(),
            writer: writer::Writer::default(),
            shares: shares::Shares::default(),
            energy: energy::Energy::default(),
            storage: storage::Storage::default(),
            tie: tie::Tie::default(),
            thrash: thrash::Thrash::default(),
            link: link::Link::default(),
            crash: crash::Crash::default(),
            meters: meters::Meters::new(options),
        }
    }

    /// One simulated second of a site, with the events since the second before. Sites may come in any order.
    pub fn second(&mut self, site: &SiteId, truth: &Truth, events: &[Event]) {
        if !self.scene.second(site, truth, events) {
            return;
        }
        let Some(island) = self.scene.islands.get(site) else { return };
        let view = View { scene: &self.scene, island, truth, events };
        self.power.second(view, &mut self.book);
        self.security.second(view, &mut self.book);
        self.genset.second(view, &mut self.book);
        self.energy.second(view);
        self.storage.second(view, &mut self.book);
        self.tie.second(view, &mut self.book);
        self.thrash.second(view, &mut self.book);
        self.link.second(view, &mut self.book);
        self.meters.second(view, &mut self.book);
    }

    /// The load of a whole island, every 100 ms of simulated time.
    pub fn load(&mut self, site: &SiteId, now: Time, load: Watts) {
        if let Some(island) = self.scene.islands.get(site) {
            self.genset.load(island, now, load, &mut self.book);
        }
    }

    /// An agent has persisted and adopted a directive at `at`, when its boot-time clock read `boot`. Renewals too, and what a
    /// restarted agent read back from its disk may be told again.
    pub fn directive(&mut self, module: &ModuleId, at: Time, boot: &BootStamp, directive: &Directive) {
        self.writer.adopted(module, at, directive, &mut self.book);
        let granted = self.scene.island_of(module).map(|island| self.scene.granted(island, at));
        let age = boot.since(&directive.envelope.answers).unwrap_or(Span::ZERO);
        self.scene.adopt(module, at, boot, directive);
        if let Some(granted) = granted {
            let before = power::Before { granted, age };
            self.power.adopted(&self.scene, module, at, before, &mut self.book);
        }
    }

    /// The link between an agent and its controller. Up unless told otherwise.
    pub fn link(&mut self, module: &ModuleId, _at: Time, up: bool) {
        if let Some(standing) = self.scene.modules.get_mut(module) {
            standing.link = up;
        }
    }

    /// An agent starts or ends.
    pub fn agent(&mut self, module: &ModuleId, at: Time, up: bool) {
        self.scene.agent(module, at, up);
        self.shares.agent(module, up);
        self.energy.agent(module, at, up);
    }

    /// The findings of a module's report, also when there are none.
    pub fn findings(&mut self, module: &ModuleId, at: Time, findings: &[Finding]) {
        self.meters.findings(module, at, findings, &mut self.book);
    }

    /// A plan was committed. Commits of different controllers may be told out of order within ten seconds.
    pub fn commit(&mut self, commit: CommitSeen) {
        self.writer.commit(commit, &mut self.book);
    }

    /// A committed plan was made again from its stored input: whether the result was the same, byte for byte.
    pub fn replanned(&mut self, generation: u64, at: Time, same: bool, difference: &str) {
        determinism::replanned(generation, at, same, difference, &mut self.book);
    }

    /// A sealed segment of a module's ledger, in order. The same one may be told again.
    pub fn ledger(&mut self, segment: &Segment) {
        if self.crash.segment(segment, &mut self.book) {
            self.shares.segment(segment);
            self.energy.segment(segment, &self.scene, &mut self.book);
            self.tie.segment(segment, &mut self.book);
        }
    }

    /// A module's shares as its edge and as the pool count them. Read the pool's books before the edge's.
    pub fn shares(&mut self, module: &ModuleId, at: Time, edge: EdgeTally, pool: PoolTally) {
        self.shares.tally(module, at, edge, pool, &mut self.book);
    }

    /// What has been seen so far.
    pub fn so_far(&self) -> Summary {
        self.book.summary()
    }

    /// Judges what still waited for more, and ends.
    pub fn finish(mut self) -> Summary {
        self.writer.finish(&mut self.book);
        self.book.summary()
    }
}

/// One second of one island, as the checkers see it.
#[derive(Clone, Copy)]
struct View<'a> {
    scene: &'a scene::Scene,
    island: &'a scene::Island,
    truth: &'a Truth,
    events: &'a [Event],
}

#[cfg(test)]
mod tests;
