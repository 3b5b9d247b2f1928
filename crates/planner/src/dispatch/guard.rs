//! What the loss of a set or of a whole module asks of a seat.
//!
//! After the loss of a set the fast load that is drawn now must cover what stays. What one module draws beside firm work must not be
//! more than the sets can reject at once: a firm seat lowers the limit of every other module of its island to that (`Module::beside`),
//! so what miners there lose counts against it, and it is refused where one of them draws more without miners. See `crate::beside`.
//! Read next: `state`.

use super::problem::Job;
use super::state::{AFTER, NOW, Seat, State};

impl State<'_> {
    /// Follows a firm job that took a seat or left it.
    pub(super) fn guard(&mut self, job: usize, seat: Seat, sits: bool) {
        let module = self.problem.pools[seat.pool()].module;
        if !is_firm(&self.problem.jobs[job]) || !self.may_be_bounded(module) {
            return;
        }
        let (first, end) = self.problem.sites[self.problem.modules[module].site].modules;
        for at in seat.moments() {
            let count = &mut self.firm[module][at];
            *count = if sits { *count + 1 } else { count.saturating_sub(1) };
        }
        for at in NOW..=AFTER {
            let all: u32 = self.firm[first..end].iter().map(|count| count[at]).sum();
            for index in first..end {
                let beside = all > self.firm[index][at];
                let config = &self.problem.modules[index];
                let most = config.beside.filter(|_| beside).unwrap_or(config.limit);
                self.limits[index][at] = most.min(config.limit);
            }
        }
    }

    /// Whether a firm seat would stand beside a module that draws more without miners than the sets can reject.
    pub(super) fn is_beside_giant(&self, wanted: &Job, seat: Seat) -> bool {
        let module = self.problem.pools[seat.pool()].module;
        is_firm(wanted) && self.giant_beside(module, seat).is_some()
    }

    /// Another module of the island that draws more without miners than the sets can reject.
    pub(crate) fn giant_beside(&self, module: usize, seat: Seat) -> Option<usize> {
        let (first, end) = self.problem.sites[self.problem.modules[module].site].modules;
        let is_giant = |index: usize| {
            let most = self.problem.modules[index].beside;
            most.is_some_and(|most| seat.moments().any(|at| self.ceiling[index][at] > most))
        };
        (first..end).find(|&index| index != module && is_giant(index))
    }

    /// Most ceiling of a module, as it would be beside a firm seat in `firm`.
    pub(super) fn limit_beside(&self, index: usize, at: usize, firm: Option<usize>) -> i64 {
        let most = self.problem.modules[index].beside.filter(|_| firm.is_some_and(|other| other != index));
        most.map_or(self.limits[index][at], |most| most.min(self.limits[index][at]))
    }

    /// Whether the fast load that is drawn now would not cover the loss of a set beside `fixed` watts, once `changed` has its new
    /// ceiling, and beside a firm job in the module `firm`.
    pub(super) fn is_uncovered(
        &self,
        (site, at): (usize, usize),
        fixed: i64,
        changed: (usize, i64),
        firm: Option<usize>,
    ) -> bool {
        let island = &self.problem.sites[site];
        let covered = |fast: i64| {
            island.losses.iter().all(|loss| {
                i128::from(fixed) * i128::from(loss.rating)
                    <= i128::from(fast) * i128::from(loss.rest) + loss.base
            })
        };
        // Most islands need none.
        !covered(0) && !covered((self.fast((site, at), changed, firm) - island.grain).max(0))
    }

    /// Fast load that is drawn now and that its modules have room for.
    fn fast(&self, (site, at): (usize, usize), changed: (usize, i64), firm: Option<usize>) -> i64 {
        let (first, end) = self.problem.sites[site].modules;
        (first..end)
            .map(|index| {
                let module = &self.problem.modules[index];
                let ceiling = if index == changed.0 { changed.1 } else { self.ceiling[index][at] };
                let room = (self.limit_beside(index, at, firm) - ceiling).max(0);
                // Loss and headroom on top of it must fit too; two watts for the roundings.
                let load = (room - 2) * 1_000_000 / ((1_000 + module.loss_permille) * 1_010);
                module.fast.min(load.max(0))
            })
            .sum()
    }

    /// Whether firm work bears on any module of an island.
    fn may_be_bounded(&self, module: usize) -> bool {
        let (first, end) = self.problem.sites[self.problem.modules[module].site].modules;
        self.problem.modules[first..end].iter().any(|module| module.beside.is_some())
    }
}

/// Firm work is the first class.
pub(super) fn is_firm(job: &Job) -> bool {
    job.level == 0
}
