//! An energy register: the true energy of one use of power.
//!
//! Counted in whole milli-watt-seconds, so that sums of registers are exact: one megawatt fills 63 bits in 292 years. Each 10 ms
//! step rounds to the nearest mWs, at most 0.05 W of steady error.

use model::{WattSeconds, Watts};

/// One use of power.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Register {
    /// Draw now at nominal frequency, watts.
    pub(crate) power: f64,
    /// Energy since the start, mWs.
    pub(crate) energy: i64,
    /// Energy at the last whole second.
    mark: i64,
    /// Mean draw over the last whole second, watts.
    pub(crate) average: f64,
}

impl Register {
    /// A register of a use that draws `power` watts.
    pub(crate) fn drawing(power: f64) -> Self {
        Self { power, ..Self::default() }
    }

    /// The same use with another energy, in mWs.
    pub(crate) fn with_energy(self, energy: i64) -> Self {
        Self { energy, ..self }
    }

    /// Counts one step; `factor` is the step's length in milliseconds times the frequency's effect on load.
    pub(crate) fn count(&mut self, factor: f64) {
        // Draws are never negative: adding a half and cutting rounds to the nearest.
        self.energy += (self.power * factor + 0.5) as i64;
    }

    /// Closes a second.
    pub(crate) fn second(&mut self) {
        self.average = (self.energy - self.mark) as f64 / 1_000.0;
        self.mark = self.energy;
    }

    /// Whole watt-seconds, rounded down.
    pub(crate) fn watt_seconds(&self) -> WattSeconds {
        WattSeconds::new(self.energy / 1_000)
    }

    /// Mean draw over the last whole second.
    pub(crate) fn mean(&self) -> Watts {
        Watts::from_f64(self.average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_energy_and_means() {
        let mut register = Register::drawing(3_500.25);
        for _ in 0..100 {
            register.count(10.0);
        }
        register.second();
        assert_eq!(register.watt_seconds(), WattSeconds::new(3_500));
        assert_eq!(register.mean(), Watts::new(3_500));
        register.power = 0.0;
        register.second();
        assert_eq!(register.mean(), Watts::ZERO);
    }
}
