//! Invariant 5, shares: each has one end, none is counted or forwarded unverified or twice.
//!
//! Three books are held against each other for each module: the edge's, the ledger's, and the pool's. The pool's are read first,
//! then the edge's; what of the ledger was told here before then is older than both. So at any moment
//! ledger accepted ≤ pool accepted ≤ edge accepted + unknown + in flight. Sums over modules follow from it. Work is compared between
//! ledger and pool by what the pool credits, at its own difficulty; between ledger and edge by what the miners were given. Read
//! next: [`super::crash`], which lets each segment in once.

use std::collections::BTreeMap;

use model::ledger::{Line, Segment, ShareEnd};
use model::{ModuleId, Time};
use stratum::account::Tally;

use super::book::{Book, Fault, Invariant};

/// A module's shares as its edge counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeTally {
    /// That came.
    pub received: Tally,
    /// Refused at the edge.
    pub rejected: Tally,
    /// Verified, not forwarded.
    pub counted: Tally,
    /// Verified on a job of the edge's own.
    pub keep_alive: Tally,
    /// Forwarded, and the pool accepted.
    pub accepted: Tally,
    /// Forwarded, and the pool refused.
    pub refused: Tally,
    /// Forwarded, and no answer came.
    pub unknown: Tally,
    /// Forwarded, and the answer is out.
    pub in_flight: Tally,
    /// All of it stands in segments that the witness was told, since the module's first: at the end of a run, after sealing.
    pub sealed: bool,
}

/// A module's shares as the pool counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTally {
    /// Accepted, with the work credited at the pool's difficulty.
    pub accepted: Tally,
    /// Refused because the header was paid before.
    pub duplicate: u64,
    /// Refused because the hash misses the target.
    pub low_difficulty: u64,
    /// Refused as malformed.
    pub malformed: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    modules: BTreeMap<ModuleId, Module>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Module {
    ledger: Ends,
    /// What the edge had received when last told: fewer now means that it started anew and forgot.
    received: u64,
    /// The edge's agent was started.
    started: bool,
    /// And once more: the edge's books begin with that.
    restarted: bool,
    /// The pool's refusals that were reported already.
    refused: u64,
}

/// What the ledger holds, by end. Rejected shares prove nothing and are not compared.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    counted: Tally,
    keep_alive: Tally,
    accepted: Tally,
    refused: Tally,
    unknown: Tally,
    /// The accepted and the unknown ones again, with what the pool credits for them.
    credited: Tally,
    in_doubt: Tally,
}

impl Shares {
    /// A segment that was not told before.
    pub(super) fn segment(&mut self, segment: &Segment) {
        let ends = &mut self.modules.entry(segment.module.clone()).or_default().ledger;
        for line in &segment.lines {
            let Line::Shares(shares) = line else { continue };
            let credited = Tally { shares: shares.count, work: shares.credited };
            let end = match &shares.end {
                ShareEnd::Rejected(_) => continue,
                ShareEnd::Counted => &mut ends.counted,
                ShareEnd::KeepAlive => &mut ends.keep_alive,
                ShareEnd::Accepted => {
                    ends.credited = plus(ends.credited, credited);
                    &mut ends.accepted
                }
                ShareEnd::Refused(_) => &mut ends.refused,
                ShareEnd::Unknown => {
                    ends.in_doubt = plus(ends.in_doubt, credited);
                    &mut ends.unknown
                }
            };
            *end = plus(*end, Tally { shares: shares.count, work: shares.work });
        }
    }

    /// An agent starts or ends.
    pub(super) fn agent(&mut self, module: &ModuleId, up: bool) {
        let state = self.modules.entry(module.clone()).or_default();
        state.restarted |= up && state.started;
        state.started |= up;
    }

    /// The books of edge and pool.
    pub(super) fn tally(
        &mut self,
        module: &ModuleId,
        at: Time,
        edge: EdgeTally,
        pool: PoolTally,
        book: &mut Book,
    ) {
        let state = self.modules.entry(module.clone()).or_default();
        state.restarted |= edge.received.shares < state.received;
        state.received = edge.received.shares;
        let faults = [
            balance(&edge),
            state.ledger_within_pool(&pool),
            state.pool_within_edge(&edge, &pool),
            state.ledger_is_edge(&edge),
            state.pool_refusals(&pool),
        ];
        for fault in faults {
            let fault = fault.map(|what| Fault::new(format!("module {module} shares"), what));
            book.check(Invariant::Shares, at, fault);
        }
    }
}

impl Module {
    fn ledger_within_pool(&self, pool: &PoolTally) -> Option<String> {
        let ledger = self.ledger.credited;
        (!within(ledger, pool.accepted)).then(|| {
            format!(
                "the ledger holds {} as accepted, the pool accepted {}",
                text(ledger),
                text(pool.accepted)
            )
        })
    }

    fn pool_within_edge(&self, edge: &EdgeTally, pool: &PoolTally) -> Option<String> {
        let flying = edge.in_flight.shares;
        let most = if edge.sealed {
            plus(self.ledger.credited, self.ledger.in_doubt)
        } else {
            plus(edge.accepted, edge.unknown)
        };
        // An edge that started anew does not know what it forwarded before; its ledger does, once sealed. An edge's own work is not
        // what the pool credits, and neither is that of shares in flight.
        let known = edge.sealed || !self.restarted;
        let counts = pool.accepted.shares <= most.shares.saturating_add(flying);
        let works = !edge.sealed || flying > 0 || pool.accepted.work <= most.work;
        (known && !(counts && works)).then(|| {
            let (pool, most) = (text(pool.accepted), text(most));
            format!("the pool accepted {pool}, the edge forwarded {most} and {flying} in flight")
        })
    }

    fn ledger_is_edge(&self, edge: &EdgeTally) -> Option<String> {
        if !edge.sealed {
            return None;
        }
        let Ends { counted, keep_alive, accepted, refused, unknown, .. } = self.ledger;
        let pairs = [
            ("counted", counted, edge.counted),
            ("keep-alive", keep_alive, edge.keep_alive),
            ("accepted", accepted, edge.accepted),
            ("refused", refused, edge.refused),
            ("unknown", unknown, edge.unknown),
        ];
        // The ledger also holds what an edge before this one told it.
        let differ = |ledger, edge| if self.restarted { !within(edge, ledger) } else { ledger != edge };
        let other = pairs.into_iter().find(|(_, ledger, edge)| differ(*ledger, *edge));
        other.map(|(end, ledger, edge)| {
            format!("the ledger holds {} as {end}, the edge {}", text(ledger), text(edge))
        })
    }

    /// The edge verifies before it forwards, so the pool has no reason to refuse for these.
    fn pool_refusals(&mut self, pool: &PoolTally) -> Option<String> {
        let refused = pool.duplicate + pool.low_difficulty + pool.malformed;
        let new = refused.saturating_sub(self.refused);
        self.refused = refused.max(self.refused);
        (new > 0).then(|| {
            format!(
                "the pool refused {new} more forwarded shares; so far {} duplicate, {} low, {} malformed",
                pool.duplicate, pool.low_difficulty, pool.malformed
            )
        })
    }
}

fn balance(edge: &EdgeTally) -> Option<String> {
    let EdgeTally {
        received,
        rejected,
        counted,
        keep_alive,
        accepted,
        refused,
        unknown,
        in_flight,
        sealed: _,
    } = *edge;
    let ends = [rejected, counted, keep_alive, accepted, refused, unknown, in_flight];
    let sum = ends.into_iter().fold(Tally::default(), plus);
    (sum != received).then(|| {
        format!("the edge received {}, but its ends and those in flight are {}", text(received), text(sum))
    })
}

fn plus(one: Tally, other: Tally) -> Tally {
    Tally { shares: one.shares.saturating_add(other.shares), work: one.work + other.work }
}

fn within(less: Tally, more: Tally) -> bool {
    less.shares <= more.shares && less.work <= more.work
}

fn text(tally: Tally) -> String {
    format!("{} shares ({})", tally.shares, tally.work)
}

#[cfg(test)]
mod tests;
