//! What happens whatever is decided: gas, outages, the market, orders. Every strategy meets the same.
//!
//! Assumes nothing of its parts: [`World::check`] refuses what does not fit together. Read next: [`crate::demand`] and
//! [`crate::outage`], which draw parts of it, then [`crate::engine`].

use std::collections::BTreeMap;

use model::fleet::Fleet;
use model::market::Market;
use model::plan::STEP;
use model::site::GasFlow;
use model::workload::{GpuTime, Tier};
use model::{GensetId, MicroDollars, SiteId, Span, Time};

use crate::terms::Terms;

/// Steps of a day.
pub const STEPS_A_DAY: usize = 288;
/// Most days: ten years.
pub const MAX_DAYS: usize = 3_660;

/// Why a world cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing to replay.
    #[error("there are {0} days to replay; choose 1 to {MAX_DAYS}")]
    Days(usize),
    /// The fleet is broken.
    #[error("the fleet is not sound: {0}")]
    Fleet(String),
    /// A site's gas is not known for every step.
    #[error("site {site} has gas for {found} steps, not for {needed}; give a flow for each")]
    Gas {
        /// Where.
        site: SiteId,
        /// Steps with a flow.
        found: usize,
        /// Steps.
        needed: usize,
    },
    /// Prices are missing.
    #[error("there are prices for {found} days, not for {needed}; give a market for each")]
    Market {
        /// Days with a market.
        found: usize,
        /// Days.
        needed: usize,
    },
    /// Orders are out of order.
    #[error("orders do not stand in order of time; sort them")]
    Orders,
    /// There is no job to draw orders from.
    #[error("the jobs ask for no GPU time; give a file that holds some, or none for synthetic jobs")]
    NoJobs,
    /// Nothing runs jobs.
    #[error("the fleet has no GPUs; replay it without AI, by --strategy mining-only")]
    NoGpus,
}

/// Everything that is given.
#[derive(Clone, Debug)]
pub struct World {
    /// When it begins; on a step's begin.
    pub start: Time,
    /// How long it lasts.
    pub days: usize,
    /// Sites, modules, offerings.
    pub fleet: Fleet,
    /// Gas that arrives at each site, the mean of each step. The planner is told that of the step before.
    pub gas: BTreeMap<SiteId, Vec<GasFlow>>,
    /// When sets are out of order, in order of begin.
    pub outages: Vec<Outage>,
    /// What mining pays, day by day.
    pub markets: Vec<Market>,
    /// What tenants ask for, in order of time.
    pub orders: Vec<Order>,
    /// What a GPU-hour pays by tier; a tier that is not sold is not ordered.
    pub prices: BTreeMap<Tier, MicroDollars>,
    /// What the books assume.
    pub terms: Terms,
    /// What forecasters have seen when it begins.
    pub before: Before,
}

/// What was seen before a replay begins: for forecasts alone, nothing of it is replayed.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Gas at each site, the mean of each step, up to the begin.
    pub gas: BTreeMap<SiteId, Vec<GasFlow>>,
    /// Days up to the begin.
    pub markets: Vec<Market>,
    /// Orders in order of time.
    pub orders: Vec<Order>,
}

/// A set that is out of order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outage {
    /// It breaks down in this step.
    pub from: usize,
    /// And can be started again in this one.
    pub until: usize,
    /// The site.
    pub site: SiteId,
    /// The set.
    pub genset: GensetId,
}

/// A tenant's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// When it comes.
    pub at: Time,
    /// What is promised.
    pub tier: Tier,
    /// GPUs that run together.
    pub gpus: u32,
    /// GPU time it asks for.
    pub amount: GpuTime,
    /// What a GPU-hour pays under a contract of its own; `None` = as its tier.
    pub price: Option<MicroDollars>,
}

impl World {
    /// Steps it lasts.
    pub fn steps(&self) -> usize {
        self.days.saturating_mul(STEPS_A_DAY)
    }

    /// When a step begins.
    pub fn at(&self, step: usize) -> Time {
        self.start + STEP.times(i64::try_from(step).unwrap_or(i64::MAX))
    }

    /// Its length.
    pub fn span(&self) -> Span {
        self.at(self.steps()) - self.start
    }

    /// The gas of a site since the first that was seen, and how many of these steps had passed when the replay begins.
    pub fn flows(&self, site: &SiteId) -> (Vec<GasFlow>, usize) {
        let before = self.before.gas.get(site).map_or(&[][..], Vec::as_slice);
        let replayed = self.gas.get(site).map_or(&[][..], Vec::as_slice);
        (before.iter().chain(replayed.iter().take(self.steps())).copied().collect(), before.len())
    }

    /// What a GPU-hour of an order pays; `None` where its tier is not sold.
    pub fn price_of(&self, order: &Order) -> Option<MicroDollars> {
        order.price.or_else(|| self.prices.get(&order.tier).copied())
    }

    /// Some days of it as a world of their own, which begins with nothing running; the days before become what was seen. A set that
    /// is out of order then breaks down in its first step.
    pub fn window(&self, day: usize, days: usize) -> World {
        let (from, to) = (day.saturating_mul(STEPS_A_DAY), (day + days).saturating_mul(STEPS_A_DAY));
        let (begin, end) = (self.at(from), self.at(to));
        let mut window = World { start: begin, days, ..self.clone() };
        for (site, flows) in &mut window.gas {
            let tail = flows.split_off(from.min(flows.len()));
            window.before.gas.entry(site.clone()).or_default().append(flows);
            *flows = tail.into_iter().take(to - from).collect();
        }
        let tail = window.markets.split_off(day.min(window.markets.len()));
        window.before.markets.append(&mut window.markets);
        window.markets = tail.into_iter().take(days).collect();
        window.before.orders.extend(self.orders.iter().filter(|order| order.at < begin));
        window.orders.retain(|order| (begin..end).contains(&order.at));
        window.outages.retain(|outage| outage.until > from && outage.from < to);
        for outage in &mut window.outages {
            (outage.from, outage.until) = (outage.from.saturating_sub(from), outage.until - from);
        }
        window.outages.sort();
        window
    }

    /// Refuses parts that do not fit together.
    pub fn check(&self) -> Result<(), Error> {
        if self.days == 0 || self.days > MAX_DAYS {
            return Err(Error::Days(self.days));
        }
        if let Some(finding) = self.fleet.findings().first() {
            return Err(Error::Fleet(finding.to_string()));
        }
        for site in &self.fleet.sites {
            let found = self.gas.get(&site.id).map_or(0, Vec::len);
            if found < self.steps() {
                return Err(Error::Gas { site: site.id.clone(), found, needed: self.steps() });
            }
        }
        if self.markets.len() < self.days {
            return Err(Error::Market { found: self.markets.len(), needed: self.days });
        }
        let sorted = self.orders.windows(2).all(|pair| pair[0].at <= pair[1].at);
        if sorted { Ok(()) } else { Err(Error::Orders) }
    }
}

/// GPUs of a fleet, and those of its largest pool.
pub fn gpus(fleet: &Fleet) -> (u32, u32) {
    let pools =
        || fleet.modules.iter().flat_map(|module| module.pools.values()).map(|pool| pool.total_gpus());
    (pools().fold(0, u32::saturating_add), pools().max().unwrap_or(0))
}
