//! When generator sets break down: seeded, each set for itself, with availability of 95 %.
//!
//! The field has 92 to 97 % (service included). Breakdowns come after an exponential time of [`MEAN_UP_HOURS`], repairs take
//! [`REPAIR_HOURS`]; both are engineering estimates. Read next: [`crate::sets`], which they befall.

use model::fleet::Fleet;

use crate::chance::{Chance, Purpose, place};
use crate::world::{Outage, STEPS_A_DAY};

/// Mean time between a repair and the next breakdown: three weeks.
pub const MEAN_UP_HOURS: f64 = 475.0;
/// Shortest and longest repair; the mean of 25 h ÷ (25 + 475) h is 5 % of time.
pub const REPAIR_HOURS: (f64, f64) = (4.0, 46.0);
/// Steps of an hour.
const STEPS_AN_HOUR: f64 = 12.0;

/// Outages of all sets over so many days, in order of begin.
pub fn draw(fleet: &Fleet, seed: u64, days: usize) -> Vec<Outage> {
    let end = days.saturating_mul(STEPS_A_DAY) as f64;
    let mut outages = Vec::new();
    for site in &fleet.sites {
        for genset in site.gensets.keys() {
            let at = [place(site.id.as_str()), place(genset.as_str())];
            let mut chance = Chance::new(seed, Purpose::Outage, at);
            let mut from = chance.exponential(MEAN_UP_HOURS) * STEPS_AN_HOUR;
            while from < end {
                let until = from + chance.between(REPAIR_HOURS.0, REPAIR_HOURS.1) * STEPS_AN_HOUR;
                outages.push(Outage {
                    from: from as usize,
                    until: until as usize,
                    site: site.id.clone(),
                    genset: genset.clone(),
                });
                from = until + chance.exponential(MEAN_UP_HOURS) * STEPS_AN_HOUR + 1.0;
            }
        }
    }
    outages.sort();
    outages
}
