//! Who decides. Each strategy is the same planner on a part of the fleet or of what is known, so that all obey the same rules and
//! the difference between two of them is the idea and not the care with which it was programmed.
//!
//! | strategy | fleet | orders | reserve by miners |
//! |---|---|---|---|
//! | `mining-only` | without GPUs | none | – |
//! | `ai-only` | without miners | all | no |
//! | `static-split` | a fixed share of the rating for GPUs, the rest for miners | all | yes |
//! | `greedy` | all | the dearest that fit into free GPUs; nobody gives way | no |
//! | `flareshift` | all | all | yes |
//!
//! Read next: [`crate::engine`], which runs one.

use std::fmt;
use std::str::FromStr;

use model::Watts;
use model::fleet::Fleet;
use model::module::Module;
use serde::{Serialize, Serializer};

use crate::forecast::Method;

/// Share of the sets' rating that `static-split` gives to GPUs unless told otherwise.
pub const SPLIT_PERMILLE: i64 = 250;

/// The kinds of strategies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// All gas becomes hashes.
    MiningOnly,
    /// GPUs only.
    AiOnly,
    /// A fixed share of capacity for each.
    StaticSplit,
    /// The dearest work that fits, at once.
    Greedy,
    /// The planner with everything it has.
    Flareshift,
}

/// A strategy and its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Which.
    pub kind: Kind,
    /// Share of the rating for GPUs under [`Kind::StaticSplit`], in thousandths.
    pub split_permille: i64,
    /// Every so many plans one is checked; 1 checks all, 0 none.
    pub check_every: u64,
    /// How gas is expected. [`Method::Perfect`] also knows breakdowns when their step begins.
    pub forecast: Method,
}

/// No strategy is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no strategy is called {0:?}; there are mining-only, ai-only, static-split, greedy, flareshift")]
pub struct Unknown(String);

impl Kind {
    /// All, in the order in which they are reported.
    pub const ALL: [Kind; 5] =
        [Kind::MiningOnly, Kind::AiOnly, Kind::StaticSplit, Kind::Greedy, Kind::Flareshift];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::MiningOnly => "mining-only",
            Kind::AiOnly => "ai-only",
            Kind::StaticSplit => "static-split",
            Kind::Greedy => "greedy",
            Kind::Flareshift => "flareshift",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Strategy {
    /// A strategy with the usual settings, every plan checked.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, split_permille: SPLIT_PERMILLE, check_every: 1, forecast: Method::Persistence }
    }

    /// Whether it takes orders at all.
    pub(crate) fn sells(&self) -> bool {
        self.kind != Kind::MiningOnly
    }

    /// The part of the fleet that it uses.
    pub fn fleet(&self, fleet: &Fleet) -> Fleet {
        let mut fleet = fleet.clone();
        match self.kind {
            Kind::MiningOnly => fleet.modules.iter_mut().for_each(|module| module.pools.clear()),
            Kind::AiOnly => fleet.modules.iter_mut().for_each(|module| module.groups.clear()),
            // Without the relay no feeder earns credit as reserve; feeders and plant stay what they are.
            Kind::Greedy => fleet.sites.iter_mut().for_each(|site| site.relay = false),
            Kind::StaticSplit => self.split(&mut fleet),
            Kind::Flareshift => {}
        }
        fleet
    }

    /// Switches off what is beyond each side's share of the rating, in proportion over the site's modules.
    fn split(&self, fleet: &mut Fleet) {
        for site in &fleet.sites {
            let rating = site.rating();
            let here = || fleet.modules.iter().filter(|module| module.site == site.id);
            let (gpus, miners): (Watts, Watts) = (here().map(busy).sum(), here().map(hashing).sum());
            let for_gpus = rating.fraction(self.split_permille, 1_000);
            let for_miners = rating - for_gpus;
            for module in fleet.modules.iter_mut().filter(|module| module.site == site.id) {
                for pool in module.pools.values_mut() {
                    pool.servers = part(pool.servers, for_gpus, gpus);
                }
                for group in module.groups.values_mut() {
                    group.count = part(group.count, for_miners, miners);
                }
            }
        }
    }
}

/// So many of `count` as fit when `have` must fit into `room`.
fn part(count: u32, room: Watts, have: Watts) -> u32 {
    if have <= room {
        return count;
    }
    let part = Watts::new(i64::from(count)).fraction(room.at_least_zero().get(), have.get());
    u32::try_from(part.get()).unwrap_or(0)
}

fn busy(module: &Module) -> Watts {
    module.pools.values().map(|pool| pool.active.times(pool.servers.into())).sum()
}

fn hashing(module: &Module) -> Watts {
    module.groups.values().map(|group| group.draw_full()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_read_as_they_are_written_and_others_are_refused() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "hodl".parse::<Kind>().expect_err("no strategy");
        assert!(error.to_string().contains("\"hodl\"; there are mining-only, ai-only"), "{error}");
    }

    #[test]
    fn a_share_that_does_not_fit_is_cut_in_proportion() {
        assert_eq!(part(10, Watts::new(100), Watts::new(100)), 10);
        assert_eq!(part(10, Watts::new(100), Watts::new(250)), 4);
        assert_eq!(part(10, Watts::new(0), Watts::new(250)), 0);
        assert_eq!(part(10, Watts::new(-5), Watts::new(0)), 0);
    }
}
