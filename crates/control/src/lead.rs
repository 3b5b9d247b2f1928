//! Storage and grid tie in the wired module's agent: each towards its target by the ramp, and storage back to it after a rung has
//! called on it.
//!
//! What relieves the sets may go on at any time; what loads them waits for a calm island, as everything does that goes up. So a
//! bridge after the loss of a set is held until frequency has recovered, and then handed back to the sets no faster than the
//! ramp. Without a valid envelope both come to rest. It assumes one call of [`Lead::second`] a second, by the wired module
//! alone. The rung itself: [`crate::reflex`].

use model::plan::{ImportTarget, StorageTarget};
use model::report::{StorageReport, TieReport};
use model::{Span, Watts, WattsPerSecond};

/// What was told is told again after this, lest a converter that restarted waits for ever.
const TELL_AGAIN: Span = Span::secs(10);
/// Ramp back to rest of an agent that has lost its directive with the ramp in it: a rung of 500 kW is given back in 100 s.
const RAMP_BLIND: WattsPerSecond = WattsPerSecond::new(5_000);

/// One converter of a site, as its agent leads it: what it delivers to the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// What it was last told; `None` = nothing yet.
    told: Option<Watts>,
    ramp: Option<WattsPerSecond>,
    at: Option<Span>,
}

/// What a converter shall deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it shall deliver; negative = take.
    pub power: Watts,
    /// Fastest change by choice.
    pub ramp: WattsPerSecond,
}

/// What a converter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it delivers.
    pub power: Option<Watts>,
    /// Whether it follows commands.
    pub ready: bool,
}

impl Lead {
    /// What it was told to deliver; zero before that.
    pub fn told(&self) -> Watts {
        self.told.unwrap_or(Watts::ZERO)
    }

    /// The reflex called on it.
    pub fn called(&mut self, power: Watts, at: Span) {
        (self.told, self.at) = (Some(power), Some(at));
    }

    /// One second: what to tell it, the next step towards `target` (rest without one). `calm` tells whether the sets may be loaded.
    pub fn second(
        &mut self,
        target: Option<Target>,
        said: Option<Said>,
        calm: bool,
        at: Span,
    ) -> Option<Watts> {
        let Some(said) = said.filter(|said| said.ready) else {
            // It rests by itself; where it is when it comes back is what it then says.
            self.told = None;
            return None;
        };
        // After a restart of the agent it goes on from what the converter does, not from a guess.
        let before = self.told.or(said.power)?;
        self.ramp = target.map(|target| target.ramp).or(self.ramp);
        let step = Watts::new(self.ramp.unwrap_or(RAMP_BLIND).at_least_zero().get());
        let wanted = target.map_or(Watts::ZERO, |target| target.power);
        let next = wanted.clamp(before - step, before + step);
        let next = if next < before && !calm { before } else { next };
        let due = self.at.is_none_or(|told| at - told >= TELL_AGAIN);
        if self.told == Some(next) && !due {
            return None;
        }
        (self.told, self.at) = (Some(next), Some(at));
        Some(next)
    }
}

impl From<StorageTarget> for Target {
    fn from(StorageTarget { power, ramp }: StorageTarget) -> Self {
        Self { power, ramp }
    }
}

impl From<ImportTarget> for Target {
    fn from(ImportTarget { power, ramp }: ImportTarget) -> Self {
        // Whatever a directive says, nothing is exported.
        Self { power: power.at_least_zero(), ramp }
    }
}

impl From<StorageReport> for Said {
    fn from(StorageReport { power, ready, .. }: StorageReport) -> Self {
        Self { power, ready }
    }
}

impl From<TieReport> for Said {
    fn from(TieReport { power, ready, .. }: TieReport) -> Self {
        Self { power, ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: Said = Said { power: Some(Watts::ZERO), ready: true };

    fn target(kilowatts: i64) -> Option<Target> {
        Some(Target { power: Watts::kilo(kilowatts), ramp: WattsPerSecond::new(10_000) })
    }

    /// Runs seconds with this target and calm; returns the kilowatts told in each, -1,000 where nothing was.
    fn run(storage: &mut Lead, target: Option<Target>, calm: bool, seconds: &[i64]) -> Vec<i64> {
        let told = |power: Option<Watts>| power.map_or(-1_000, |power| power.get() / 1_000);
        let mut second = |at: &i64| storage.second(target, Some(SAID), calm, Span::secs(*at));
        seconds.iter().map(|at| told(second(at))).collect()
    }

    #[test]
    fn it_goes_to_its_target_by_the_ramp_and_is_told_again_now_and_then() {
        let mut storage = Lead::default();
        assert_eq!(run(&mut storage, target(25), false, &[1, 2, 3, 4]), [10, 20, 25, -1_000]);
        assert_eq!(run(&mut storage, target(25), false, &[12, 13]), [-1_000, 25]);
        assert_eq!(run(&mut storage, target(-5), true, &[14, 15, 16]), [15, 5, -5]);
    }

    #[test]
    fn what_loads_the_sets_waits_for_calm() {
        let mut storage = Lead::default();
        assert_eq!(run(&mut storage, target(-40), false, &[1, 2]), [0, -1_000]);
        storage.called(Watts::kilo(80), Span::secs(3));
        assert_eq!(run(&mut storage, target(0), false, &[4, 5]), [-1_000, -1_000], "the bridge is held");
        assert_eq!(run(&mut storage, target(0), true, &[6, 7]), [70, 60], "and handed back by the ramp");
    }

    #[test]
    fn without_a_target_it_comes_to_rest_by_the_last_ramp() {
        let mut storage = Lead::default();
        run(&mut storage, target(20), true, &[1, 2]);
        assert_eq!(run(&mut storage, None, true, &[3, 4, 5]), [10, 0, -1_000]);
        let mut blind = Lead::default();
        blind.called(Watts::kilo(12), Span::secs(1));
        assert_eq!(run(&mut blind, None, true, &[2, 3, 4]), [7, 2, 0]);
    }

    #[test]
    fn one_that_is_not_ready_is_told_nothing_and_one_that_returns_goes_on_from_where_it_is() {
        let mut storage = Lead::default();
        storage.called(Watts::kilo(50), Span::secs(1));
        let gone = Said { ready: false, ..SAID };
        assert_eq!(storage.second(target(50), Some(gone), true, Span::secs(2)), None);
        assert_eq!(storage.second(target(50), None, true, Span::secs(3)), None);
        assert_eq!(storage.told(), Watts::ZERO);
        assert_eq!(run(&mut storage, target(50), true, &[4]), [10]);
    }

    #[test]
    fn a_tie_never_exports_whatever_it_is_told() {
        let target = ImportTarget { power: Watts::kilo(-40), ramp: WattsPerSecond::new(10_000) };
        let mut tie = Lead::default();
        assert_eq!(run(&mut tie, Some(target.into()), true, &[1, 2]), [0, -1_000]);
    }
}
