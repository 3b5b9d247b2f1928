//! What an agent must know of its island: nominal frequency, governor mode and the ratings of the sets. From these follows the
//! frequency that is to be expected, against which the reflex measures.
//!
//! It assumes sets that share load in proportion to their ratings, as equal droop or a load-sharing line makes them.

use std::collections::BTreeMap;

use model::site::{Frequency, Governor, Site};
use model::{GensetId, Watts};

use crate::port::Breaker;

/// The facts of a site that an agent acts on.
#[derive(Clone, Debug, PartialEq)]
pub struct Island {
    /// Nominal frequency.
    pub nominal: Frequency,
    /// How the governors share load.
    pub governor: Governor,
    /// Rating of each set.
    pub ratings: BTreeMap<GensetId, Watts>,
    /// Minimum load of each set.
    pub least: BTreeMap<GensetId, Watts>,
}

impl Island {
    /// The facts of one site.
    pub fn of(site: &Site) -> Self {
        let ratings = site.gensets.iter().map(|(id, set)| (id.clone(), set.rating)).collect();
        let least = site.gensets.iter().map(|(id, set)| (id.clone(), set.min_load)).collect();
        Self { nominal: site.nominal, governor: site.governor, ratings, least }
    }

    /// The frequency at which the island settles with these sets. Isochronous: nominal. Droop: nominal less
    /// `permille` × load share; where the share is unknown it counts as full, for a false shed in calm is worse than a late
    /// backup (the armed table and the relay stand beside it).
    pub fn settled(&self, gensets: &BTreeMap<GensetId, Breaker>) -> Frequency {
        match self.governor {
            Governor::Isochronous => self.nominal,
            Governor::Droop { permille } => {
                let share = self.load_permille(gensets).unwrap_or(1_000);
                self.nominal - self.nominal.fraction(i64::from(permille) * share, 1_000_000)
            }
        }
    }

    /// Whether no set carries the island: every breaker is known to be open.
    pub fn unfed(&self, gensets: &BTreeMap<GensetId, Breaker>) -> bool {
        !gensets.is_empty() && gensets.values().all(|set| set.closed == Some(false))
    }

    /// By how much the site's load may fall until the first closed set carries its minimum; negative = a set lacks load. A site
    /// without sets has all the room there is; `None` if any set is unknown, or none is closed.
    pub fn room_down(&self, gensets: &BTreeMap<GensetId, Breaker>) -> Option<Watts> {
        if self.ratings.is_empty() {
            return Some(Watts::MAX);
        }
        let mut closed = Vec::new();
        for (id, set) in gensets {
            if set.closed? {
                closed.push((set.power?, *self.least.get(id)?));
            }
        }
        let total: Watts = closed.iter().map(|(power, _)| *power).sum();
        // Sets share what falls as they share what they carry.
        let room = |(power, least): &(Watts, Watts)| match *power > Watts::ZERO {
            true => (*power - *least).fraction(total.get(), power.get()),
            false => -*least,
        };
        closed.iter().map(room).min()
    }

    /// Load of the closed sets in thousandths of their ratings, at most 1,000; `None` if any of it is unknown.
    fn load_permille(&self, gensets: &BTreeMap<GensetId, Breaker>) -> Option<i64> {
        let (mut load, mut rating) = (Watts::ZERO, Watts::ZERO);
        for (id, set) in gensets {
            if set.closed? {
                load += set.power?;
                rating += *self.ratings.get(id)?;
            }
        }
        (rating > Watts::ZERO).then(|| load.fraction(1_000, rating.get()).get().clamp(0, 1_000))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(governor: Governor, sets: &[(Option<bool>, Option<i64>)], expected: i64) {
        let id = |i: usize| GensetId::new(&format!("g{i}")).unwrap();
        let ratings = (0..sets.len()).map(|i| (id(i), Watts::kilo(1_000))).collect();
        let island = Island { nominal: Frequency::new(60_000), governor, ratings, least: BTreeMap::new() };
        let read =
            |&(closed, kw): &(Option<bool>, Option<i64>)| Breaker { closed, power: kw.map(Watts::kilo) };
        let gensets = sets.iter().enumerate().map(|(i, set)| (id(i), read(set))).collect();
        assert_eq!(island.settled(&gensets).get(), expected, "{governor:?} {sets:?}");
    }

    #[test]
    fn the_expected_frequency_follows_governor_mode_and_load() {
        let droop = Governor::Droop { permille: 40 };
        check(Governor::Isochronous, &[(None, None)], 60_000);
        check(droop, &[(Some(true), Some(500)), (Some(true), Some(500))], 58_800);
        check(droop, &[(Some(true), Some(500)), (Some(false), None)], 58_800);
        check(droop, &[(Some(true), Some(2_000))], 57_600);
        check(droop, &[(Some(true), None)], 57_600);
        check(droop, &[(None, Some(500))], 57_600);
        check(droop, &[(Some(false), None)], 57_600);
    }
    #[test]
    fn load_may_fall_until_the_first_set_is_at_its_minimum() {
        let check = |sets: &[(Option<bool>, Option<i64>, i64)], expected: Option<i64>| {
            let id = |i: usize| GensetId::new(&format!("g{i}")).unwrap();
            let island = Island {
                nominal: Frequency::new(60_000),
                governor: Governor::Isochronous,
                ratings: (0..sets.len()).map(|i| (id(i), Watts::kilo(1_000))).collect(),
                least: sets.iter().enumerate().map(|(i, set)| (id(i), Watts::kilo(set.2))).collect(),
            };
            let read = |&(closed, kw, _): &(Option<bool>, Option<i64>, i64)| Breaker {
                closed,
                power: kw.map(Watts::kilo),
            };
            let gensets = sets.iter().enumerate().map(|(i, set)| (id(i), read(set))).collect();
            let room = island.room_down(&gensets).map(|room| room.get() / 1_000);
            assert_eq!(room, expected, "{sets:?}");
        };
        let on = Some(true);
        check(&[(on, Some(500), 300)], Some(200));
        check(&[(on, Some(500), 300), (on, Some(500), 300)], Some(400));
        check(&[(on, Some(500), 300), (on, Some(500), 400)], Some(200));
        check(&[(on, Some(800), 300), (on, Some(400), 300)], Some(300));
        check(&[(on, Some(500), 300), (Some(false), None, 300)], Some(200));
        check(&[(on, Some(250), 300), (on, Some(250), 300)], Some(-100));
        check(&[(on, Some(600), 300), (on, Some(0), 300)], Some(-300));
        check(&[(on, None, 300)], None);
        check(&[(None, Some(500), 300)], None);
        check(&[(Some(false), Some(0), 300)], None);
        check(&[], Some(i64::MAX / 1_000));
    }
}
