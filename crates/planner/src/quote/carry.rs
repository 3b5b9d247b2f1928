//! What an island carries with some of its wells flowing and some of its sets sound.
//!
//! The rules are those of `security`: after the loss of any one set the rest must carry what no feeder drops, helped by miners that
//! do. What is there may be left unused, so the best choice among the sound sets counts: a set or gas more never carries less.
//! Read next: `draw`, which asks.

use std::collections::BTreeMap;

use model::fuel::Fuel;
use model::site::{GasFlow, Site};
use model::{Span, Watts};

use crate::capacity::MARGIN_PERMILLE;
use crate::security::{Security, Source};

/// Most sets of an island that count, the largest ones: all choices of eight are 255.
pub(super) const MAX_SETS: usize = 8;
/// Most wells of an island that count, the largest ones.
pub(super) const MAX_WELLS: usize = 16;

/// One island's wells and sets.
pub(super) struct Plant<'a> {
    site: &'a Site,
    /// What each well gives while it flows.
    wells: Vec<GasFlow>,
    sets: Vec<Source>,
    /// Fast load once all miners are awake, and its slowest feeder.
    fast: Watts,
    opens: Option<Span>,
    known: BTreeMap<(u32, u32), Carry>,
}

/// Most load that no feeder drops: base load, servers and GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carry {
    /// What gas and sets sustain: firm runs in place go on up to here.
    pub(super) go: Watts,
    /// What survives the loss of any one set: firm work starts up to here.
    pub(super) secure: Watts,
    /// What other work may draw: the same, or all that a single set carries.
    pub(super) other: Watts,
    /// Largest block of load.
    pub(super) block: Watts,
}

impl<'a> Plant<'a> {
    pub(super) fn new(
        site: &'a Site,
        wells: Vec<GasFlow>,
        sets: Vec<Source>,
        fast: Watts,
        opens: Option<Span>,
    ) -> Self {
        Self { site, wells, sets, fast, opens, known: BTreeMap::new() }
    }

    /// With the wells and sets whose bits are set. Answers are remembered: 2^8 × 2^16 at most, and far fewer ever come up.
    pub(super) fn carry(&mut self, wells: u32, sets: u32) -> Carry {
        if let Some(carry) = self.known.get(&(wells, sets)) {
            return *carry;
        }
        let flow = self.wells.iter().enumerate().filter(|(nth, _)| wells >> nth & 1 == 1);
        let flow = flow.map(|(_, flow)| *flow).sum();
        let mut best = Carry::default();
        let mut choice = sets;
        while choice != 0 {
            let of = self.choice(flow, choice);
            best = Carry {
                go: best.go.max(of.go),
                secure: best.secure.max(of.secure),
                other: best.other.max(of.other),
                block: best.block.max(of.block),
            };
            choice = (choice - 1) & sets;
        }
        self.known.insert((wells, sets), best);
        best
    }

    fn choice(&self, flow: GasFlow, choice: u32) -> Carry {
        let chosen = self.sets.iter().enumerate().filter(|(nth, _)| choice >> nth & 1 == 1);
        let sources: Vec<Source> = chosen.map(|(_, source)| source.clone()).collect();
        let least: Watts = sources.iter().map(|source| source.min_load).sum();
        let sets = sources.iter().filter_map(|source| self.site.gensets.get(&source.id));
        let gas = Fuel::of(self.site, sets).electric(flow);
        if gas <= Watts::ZERO || gas < least {
            return Carry::default();
        }
        let security = Security::new(self.site, sources, self.opens);
        let sustained = gas.min(security.rating);
        let go = sustained - sustained.fraction(MARGIN_PERMILLE, 1_000);
        let block = security.steps().fraction(1, 2);
        if !security.has_contingencies() {
            return Carry { go, secure: Watts::ZERO, other: go, block };
        }
        let secure = self.secure(&security, go);
        Carry { go, secure, other: secure, block }
    }

    /// The most load beside which the fast load that it needs has room too, by bisection: the need rises with the load.
    fn secure(&self, security: &Security, go: Watts) -> Watts {
        let remaining = security.remaining();
        let most = (remaining - remaining.fraction(MARGIN_PERMILLE, 1_000)).min(go);
        let total = go.min(security.most_load());
        let fits = |fixed: i64| {
            let need = security.need(Watts::new(fixed));
            need.is_some_and(|need| need <= self.fast && Watts::new(fixed) + need <= total)
        };
        if fits(most.get()) {
            return most;
        }
        let (mut low, mut high) = (0, most.get().max(0));
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        Watts::new(low)
    }
}
