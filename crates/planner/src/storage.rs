//! Storage while a plan is being made: what it bridges after the loss of a set, what it may lend, and when it is charged.
//!
//! Three claims on one battery, in this order. The *bridge*: with the loss of a set it delivers at once what the others' block-load
//! steps do not take; the energy for that (`reserve` × rating) is never spent by choice, and nothing firm is promised on it beyond
//! what the remaining sets are rated for. The *loan*: where gas is short of what runs, energy above the reserve carries it, for a
//! quarter of an hour at least. The *charge*: below its reserve it takes gas before mining does, above it only gas that would be
//! flared. By choice it never gives or takes more than half the sets' block, so that its own loss is a step that they take without
//! help. On old news, or without the wired module's agent, it is left to come to rest. Read next: `capacity`, `security`.

use model::plan::StorageTarget;
use model::report::{SiteReport, StorageReport};
use model::site::{GasVolume, Site, Storage};
use model::{Span, WattSeconds, Watts, WattsPerSecond};

use crate::input::SiteInput;
use crate::island::Island;
use crate::mining;
use crate::security::{Bridge, FAST, Source};
use crate::tie;

/// What is lent or charged would go on for so long at least: three steps, as the gas buffer is counted.
const SPREAD: Span = Span::minutes(15);
/// The reserve is filled a little over what the rung counts on: 5 %.
const OVER_PERMILLE: i64 = 1_050;
/// Gas is about to be flared where the buffer is this full, thousandths.
const FULL_PERMILLE: i64 = 900;

/// Storage that follows commands, on an island with sets that it can follow.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// What it delivers at once for the loss of a set; `None` where it is no rung.
    pub(crate) bridge: Option<Bridge>,
    /// Most it may deliver by choice.
    pub(crate) lent: Watts,
    /// What it must be charged with to be a rung again.
    pub(crate) owed: Watts,
    /// Most it may be charged with.
    room: Watts,
    /// Fastest change by choice: half of what modules and storage share.
    pub(crate) ramp: WattsPerSecond,
}

/// The storage of an island whose load `sources` carry; `wired` tells whether the agent that leads it is in touch, `gap` by how much
/// gas is short of their ratings: beyond that a loan is of no use, and what is not lent can bridge.
pub(crate) fn of(input: &SiteInput, sources: &[Source], wired: bool, gap: Watts) -> Option<Store> {
    let config = input.site.storage.as_ref()?;
    let report = input.report.as_ref().filter(|_| input.fresh && wired && !sources.is_empty())?;
    let storage = report.storage.filter(|storage| storage.ready)?;
    let held = storage.held?.min(config.energy).at_least_zero();
    let block: Watts = sources.iter().map(|source| source.step).sum::<Watts>().fraction(1, 2);
    let most = config.power.min(block).at_least_zero();
    let spare = (held - config.reserved()).over(SPREAD);
    let lent = whole(spare.min(most).min(config.power.fraction(1, 2)).min(gap));
    let taken = |missing: WattSeconds| {
        let taken = missing.fraction(1_000, i64::from(config.efficiency_permille.max(1)));
        whole(taken.over(SPREAD).min(most))
    };
    let goal = config.reserved().fraction(OVER_PERMILLE, 1_000).min(config.energy);
    let ramps: WattsPerSecond = sources.iter().map(|source| source.ramp).sum();
    Some(Store {
        bridge: bridge(&input.site, config, &storage, lent),
        lent,
        owed: taken(goal - held),
        room: taken(config.energy - held),
        ramp: ramps.fraction(1, 4),
    })
}

/// What is left of the rating beside what it delivers or may come to deliver, as long as its energy lasts.
fn bridge(site: &Site, config: &Storage, storage: &StorageReport, lent: Watts) -> Option<Bridge> {
    let response = config.response.filter(|response| *response <= FAST && site.relay)?;
    let busy = storage.power.unwrap_or(config.power).max(lent);
    let sustained = storage.held.unwrap_or_default().over(config.reserve);
    let watts = whole((config.power - busy).min(sustained));
    (watts > Watts::ZERO).then_some(Bridge { watts, response })
}

/// Whole kilowatts, none for less: what is held changes all the time, and a new directive shall not follow from each watt.
fn whole(watts: Watts) -> Watts {
    Watts::kilo(watts.at_least_zero().get() / 1_000)
}

/// What storage shall do beside the loads now planned.
pub(crate) fn target(island: &Island<'_>) -> Option<StorageTarget> {
    let capacity = &island.capacity;
    let store = capacity.store.as_ref()?;
    let ceilings: Watts =
        island.slots.values().map(|slot| mining::ceiling(slot, island.leaving_counts)).sum();
    let load = capacity.unmanaged + ceilings;
    let imported = tie::target(island).map_or(Watts::ZERO, |target| target.power);
    let short = (load - capacity.own - imported).at_least_zero();
    let report = island.input.report.as_ref()?;
    let power =
        if short > Watts::ZERO { short.min(store.lent) } else { -charge(island, store, report, load) };
    Some(StorageTarget { power, ramp: store.ramp })
}

/// What it takes: from gas that arrives and that nobody else uses.
fn charge(island: &Island<'_>, store: &Store, report: &SiteReport, load: Watts) -> Watts {
    let capacity = &island.capacity;
    let wanted = if flares(&island.input.site, report) { store.room } else { store.owed };
    let gas = capacity.fuel.electric(capacity.flow).min(capacity.own);
    let secure = capacity.security.most_load();
    whole(wanted.min(gas - load).min(secure - load))
}

/// Whether gas is flared, or would be soon, or costs nothing.
fn flares(site: &Site, report: &SiteReport) -> bool {
    let full = site.buffer.capacity.fraction(FULL_PERMILLE, 1_000);
    let brims = report.buffer.is_some_and(|buffer| full > GasVolume::ZERO && buffer >= full);
    let burns = report.flared.is_some_and(|flared| flared.get() > 0);
    brims || burns || site.gas_price.get() <= 0
}
