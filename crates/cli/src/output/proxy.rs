//! A Stratum proxy: sessions, upstreams, and the books with their equation.
//!
//! The equation is added up here again from what the wire brought, so that `equation_holds` does not rest on the word of the
//! agent alone.

use std::collections::BTreeMap;

use api::convert::field::optional_span;
use api::proxy as wire;
use serde::Serialize;

use super::module::Verified;
use super::show::{maybe, percent, span, word};
use super::table::{pairs, titled};
use super::{View, read};

/// The proxy at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proxy {
    /// The agent's version.
    pub agent_version: String,
    /// Where miners connect.
    pub listens: String,
    /// Since it was started; all counts begin there.
    pub uptime_milliseconds: Option<i64>,
    /// Miners connected now.
    pub connections: u32,
    /// Most miners at once.
    pub max_connections: u32,
    /// Miners that ever connected.
    pub connected: u64,
    /// Miners that were turned away because it was full.
    pub turned_away: u64,
    /// Connections that were refused because their address is banned.
    pub refused: u64,
    /// Addresses that are refused now.
    pub bans: Vec<Ban>,
    /// Sessions with pools that ever were.
    pub pool_sessions: u64,
    /// Records that its journal refused.
    pub journal_failures: u64,
    /// Every share received has one end or is in flight: for all workers by the agent's word, and for the total by this
    /// program's own addition.
    pub equation_holds: bool,
    /// The ways to pools.
    pub upstreams: Vec<Upstream>,
    /// The books of all workers together.
    pub total: Books,
    /// What miner groups prove.
    pub groups: Vec<Group>,
    /// The books of each worker.
    pub workers: Vec<Worker>,
    /// The pools' own words for the last share they refused, by reason.
    pub refusals: BTreeMap<String, String>,
    /// Accepted shares that will not be proven to the controller.
    pub unclaimed: Option<u64>,
}

/// An address from which nothing but rubbish came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ban {
    /// The address, or the network of one subscriber.
    pub peer: String,
    /// How long it is refused from now.
    pub left_milliseconds: Option<i64>,
}

/// One account's way to its pools.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upstream {
    /// The account.
    pub account: String,
    /// Its share of the miners, against the weights of the others.
    pub weight: u32,
    /// Miners that work for it.
    pub miners: u32,
    /// `up`, `away` or `keep_alive`.
    pub state: Option<String>,
    /// The pool in use or tried last.
    pub pool: String,
    /// The pool's difficulty.
    pub difficulty: Option<f64>,
    /// What ended the last session or attempt.
    pub trouble: Option<String>,
    /// It carries one miner alone.
    pub private: bool,
}

/// Shares and their work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub shares: u64,
    /// Expected hashes really done, in decimal: it may exceed what a number in JSON holds.
    pub work_hashes: String,
}

/// The ends of shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Shares that came.
    pub received: Tally,
    /// The pool accepted them.
    pub accepted: Tally,
    /// The pool refused them.
    pub refused: Tally,
    /// Verified, easier than the pool asks.
    pub counted: Tally,
    /// Verified while no pool was there: unpaid.
    pub keep_alive: Tally,
    /// Refused at the edge.
    pub rejected: Tally,
    /// Forwarded, and no answer will come any more.
    pub unknown: Tally,
    /// Forwarded, and the answer is out.
    pub in_flight: Tally,
    /// Refused at the edge, by reason.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Refused by the pool, by reason.
    pub refused_by_reason: BTreeMap<String, u64>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// The name it authorized with.
    pub worker: String,
    /// Its books.
    pub books: Books,
}

/// One group of miners.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its id.
    pub group: String,
    /// Connections to the proxy.
    pub connections: u32,
    /// What its shares prove.
    pub verified: Option<Verified>,
}

impl Books {
    /// The ends by name, in the order in which they are shown.
    fn ends(&self) -> [(&'static str, &Tally); 7] {
        [
            ("accepted", &self.accepted),
            ("refused by the pool", &self.refused),
            ("counted", &self.counted),
            ("keep-alive", &self.keep_alive),
            ("rejected", &self.rejected),
            ("unknown", &self.unknown),
            ("in flight", &self.in_flight),
        ]
    }

    /// Whether what came is what ended and what is on its way, in shares and in work.
    fn adds_up(&self) -> bool {
        let shares: u64 = self.ends().iter().map(|(_, tally)| tally.shares).sum();
        let work = self.ends().iter().try_fold(0u128, |sum, (_, tally)| sum.checked_add(tally.work()?));
        shares == self.received.shares && work.is_some() && work == self.received.work()
    }
}

impl Tally {
    /// `None` where the wire brought no number; a tally that was left out is none at all.
    fn work(&self) -> Option<u128> {
        if *self == Tally::default() { Some(0) } else { self.work_hashes.parse().ok() }
    }
}

impl View for Proxy {
    fn table(&self) -> String {
        let total = &self.total;
        let uptime = maybe(self.uptime_milliseconds, span);
        let sum: Vec<String> =
            total.ends().iter().map(|(name, tally)| format!("{} {name}", tally.shares)).collect();
        let verdict = if self.equation_holds { "holds" } else { "BROKEN, report this with the agent's log" };
        let head = pairs(&[
            ("Proxy", format!("{}, agent {}, up {uptime}", self.listens, self.agent_version)),
            (
                "Miners",
                format!(
                    "{} of at most {}; {} connected so far, {} turned away, {} refused",
                    self.connections, self.max_connections, self.connected, self.turned_away, self.refused
                ),
            ),
            ("Pool sessions", self.pool_sessions.to_string()),
            ("Journal failures", self.journal_failures.to_string()),
            (
                "Not claimed",
                maybe(self.unclaimed, |shares| {
                    format!("{shares} accepted shares, which are paid and will not be proven")
                }),
            ),
            ("Equation", format!("{verdict}: {} received = {}", total.received.shares, sum.join(" + "))),
        ]);
        let reasons = |who: &str, reasons: &BTreeMap<String, u64>, words: &BTreeMap<String, String>| {
            let row = |(reason, shares): (&String, &u64)| {
                let words = words.get(reason).cloned();
                vec![who.to_owned(), reason.clone(), shares.to_string(), word(&words)]
            };
            reasons.iter().map(row).collect::<Vec<_>>()
        };
        let rejects = [
            reasons("edge", &total.rejected_by_reason, &BTreeMap::new()),
            reasons("pool", &total.refused_by_reason, &self.refusals),
        ]
        .concat();
        let upstreams = self.upstreams.iter().map(Upstream::row).collect();
        let groups = self.groups.iter().map(Group::row).collect();
        let workers = self.workers.iter().map(Worker::row).collect();
        let ends = ["ACCOUNT", ">WEIGHT", ">MINERS", "STATE", "POOL", ">DIFFICULTY", "LAST TROUBLE"];
        let by_worker = [
            "WORKER",
            ">RECEIVED",
            ">ACCEPTED",
            ">REFUSED",
            ">COUNTED",
            ">KEEP-ALIVE",
            ">REJECTED",
            ">UNKNOWN",
            ">IN FLIGHT",
        ];
        [
            head,
            titled("Upstreams", &ends, upstreams),
            titled("Shares", &["END", ">SHARES", ">OF WORK"], shares(total)),
            titled("Rejects", &["BY", "REASON", ">SHARES", "LAST WORDS"], rejects),
            titled("Refused", &["ADDRESS", ">FOR"], self.bans.iter().map(Ban::row).collect()),
            titled("Groups", &["GROUP", ">MINERS", "HASH RATE"], groups),
            titled("Workers", &by_worker, workers),
        ]
        .concat()
    }
}

/// The ends that were, with their part of the work.
fn shares(books: &Books) -> Vec<Vec<String>> {
    let all = books.received.work().unwrap_or_default() as f64;
    let row = |(name, tally): &(&str, &Tally)| {
        let part = percent(tally.work().unwrap_or_default() as f64, all);
        vec![(*name).to_owned(), tally.shares.to_string(), part]
    };
    books.ends().iter().filter(|(_, tally)| tally.shares > 0).map(row).collect()
}

impl Upstream {
    fn row(&self) -> Vec<String> {
        vec![
            self.account.clone(),
            self.weight.to_string(),
            self.miners.to_string(),
            word(&self.state),
            self.pool.clone(),
            maybe(self.difficulty, |difficulty| difficulty.to_string()),
            word(&self.trouble),
        ]
    }
}

impl Ban {
    fn row(&self) -> Vec<String> {
        vec![self.peer.clone(), maybe(self.left_milliseconds, span)]
    }
}

impl Group {
    fn row(&self) -> Vec<String> {
        let rate = maybe(self.verified.as_ref(), Verified::show_interval);
        vec![self.group.clone(), self.connections.to_string(), rate]
    }
}

impl Worker {
    fn row(&self) -> Vec<String> {
        let ends = self.books.ends().map(|(_, tally)| tally.shares.to_string());
        let received = self.books.received.shares.to_string();
        [self.worker.clone(), received].into_iter().chain(ends).collect()
    }
}

impl From<wire::Stats> for Proxy {
    fn from(stats: wire::Stats) -> Self {
        let total = Books::from(stats.total.unwrap_or_default());
        Self {
            agent_version: stats.agent_version,
            listens: stats.listens,
            uptime_milliseconds: read::millis(optional_span(stats.uptime, "uptime")),
            connections: stats.connections,
            max_connections: stats.max_connections,
            connected: stats.connected,
            turned_away: stats.turned_away,
            refused: stats.refused,
            bans: stats.bans.into_iter().map(Ban::from).collect(),
            pool_sessions: stats.pool_sessions,
            journal_failures: stats.journal_failures,
            equation_holds: stats.balanced && total.adds_up(),
            upstreams: stats.upstreams.into_iter().map(Upstream::from).collect(),
            total,
            groups: stats.groups.into_iter().map(Group::from).collect(),
            workers: stats.workers.into_iter().map(Worker::from).collect(),
            refusals: stats.refusals,
            unclaimed: stats.unclaimed,
        }
    }
}

impl From<wire::Ban> for Ban {
    fn from(ban: wire::Ban) -> Self {
        let wire::Ban { peer, left } = ban;
        Self { peer, left_milliseconds: read::millis(optional_span(left, "left")) }
    }
}

impl From<wire::Upstream> for Upstream {
    fn from(upstream: wire::Upstream) -> Self {
        let state = wire::UpstreamState::try_from(upstream.state).map(|state| state.as_str_name());
        let wire::Upstream { account, weight, miners, pool, difficulty, trouble, private, state: _ } =
            upstream;
        let state = read::word(state, "UPSTREAM_STATE_");
        Self { account, weight, miners, state, pool, difficulty, trouble, private }
    }
}

impl From<wire::Books> for Books {
    fn from(books: wire::Books) -> Self {
        let tally = |tally: Option<wire::Tally>| {
            let wire::Tally { shares, work_hashes } = tally.unwrap_or_default();
            Tally { shares, work_hashes }
        };
        Self {
            received: tally(books.received),
            accepted: tally(books.accepted),
            refused: tally(books.refused),
            counted: tally(books.counted),
            keep_alive: tally(books.keep_alive),
            rejected: tally(books.rejected),
            unknown: tally(books.unknown),
            in_flight: tally(books.in_flight),
            rejected_by_reason: books.rejected_by_reason,
            refused_by_reason: books.refused_by_reason,
        }
    }
}

impl From<wire::Worker> for Worker {
    fn from(worker: wire::Worker) -> Self {
        Self { worker: worker.worker, books: worker.books.unwrap_or_default().into() }
    }
}

impl From<wire::Group> for Group {
    fn from(group: wire::Group) -> Self {
        let wire::Group { group, connections, verified } = group;
        Self { group, connections, verified: verified.map(Verified::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_equation_is_added_up_again() {
        let check = |change: &dyn Fn(&mut wire::Stats), holds: bool| {
            let mut stats = samples::proxy_stats();
            change(&mut stats);
            assert_eq!(Proxy::from(stats).equation_holds, holds);
        };
        check(&|_| {}, true);
        check(&|stats| stats.balanced = false, false);
        let lose = |tally: &mut Option<wire::Tally>| *tally = None;
        check(&|stats| stats.total.iter_mut().for_each(|total| lose(&mut total.unknown)), false);
        let more = |tally: &mut wire::Tally| tally.work_hashes += "0";
        check(&|stats| stats.total.iter_mut().flat_map(|total| &mut total.accepted).for_each(more), false);
    }
}
