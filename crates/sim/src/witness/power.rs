//! Invariant 1, power: what was granted fits what there is, and what is drawn fits what was granted.
//!
//! "Certified when granted" is judged from truths: whenever an agent's adoption *raises* the island's sum, the sum must fit what
//! the island could truly carry at any moment since the report that it answers, since no decision knows the present. Capacity that falls by itself
//! breaks nothing; raising into a lack does. Read next: [`super::scene`].

use std::collections::BTreeMap;

use model::{ModuleId, Span, Time, Watts};

use super::View;
use super::book::{Book, Edge, Fault, Invariant};
use super::scene::Scene;

/// Gas flow and heat rates are known to 2 %; planning keeps 3 % back.
const TOLERANCE_PERMILLE: i64 = 1_020;

#[derive(Clone, Debug, Default)]
pub(super) struct Power {
    over: BTreeMap<ModuleId, Edge>,
}

/// What was before an adoption.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The island's sums: see [`Scene::granted`].
    pub(super) granted: (Watts, Watts),
    /// Time since the report that the directive answers.
    pub(super) age: Span,
}

impl Power {
    /// Draws against the ceilings in force.
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        for id in view.truth.modules.keys() {
            let excess = excess(view, id);
            if self.over.entry(id.clone()).or_default().rises(excess.is_some()) {
                book.check(
                    Invariant::Power,
                    view.truth.now,
                    excess.map(|excess| overdrawn(view, id, excess)),
                );
            } else {
                book.check(Invariant::Power, view.truth.now, None);
            }
        }
    }

    /// Sums against capacity, when `module` has adopted a directive at `at`.
    pub(super) fn adopted(
        &mut self,
        scene: &Scene,
        module: &ModuleId,
        at: Time,
        before: Before,
        book: &mut Book,
    ) {
        let Some(island) = scene.island_of(module) else { return };
        let Some(best) = island.best(at, before.age) else { return };
        let before = before.granted;
        let after = scene.granted(island, at);
        let sums = [
            ("ceilings", before.0, after.0, best.total),
            ("fallback ceilings", before.1, after.1, best.firm),
        ];
        for (name, before, after, capacity) in sums {
            if after <= before {
                continue;
            }
            let sum = after + island.unmanaged;
            let fits = sum <= capacity.fraction(TOLERANCE_PERMILLE, 1_000);
            let what = || {
                format!(
                    "{name} and unmanaged load were raised to {sum} by an adoption of module {module}; the island carried \
                     {capacity} at most{}",
                    if name == "ceilings" { "" } else { " after the loss of its largest set" }
                )
            };
            let fault = (!fits).then(|| Fault::new(format!("site {}", island.site.id), what()));
            book.check(Invariant::Power, at, fault);
        }
    }
}

/// By how much a module draws more than its limit, once what excuses it is over.
pub(super) fn excess(view: View<'_>, id: &ModuleId) -> Option<Watts> {
    let (module, standing) = (view.truth.modules.get(id)?, view.scene.modules.get(id)?);
    let speed = view.truth.frequency.and_then(|now| now.ratio(view.island.site.nominal)).unwrap_or(1.0);
    standing.excess(module.total.power, speed)
}

/// The words for it.
pub(super) fn overdrawn(view: View<'_>, id: &ModuleId, excess: Watts) -> Fault {
    let draw = view.truth.modules.get(id).map_or(Watts::ZERO, |module| module.total.power);
    let rule = view.scene.modules.get(id).map(|standing| standing.rule(view.truth.now));
    let what = format!("drew {draw}, {excess} more than any limit within the grace; in force: {rule:?}");
    Fault::new(format!("module {id}"), what)
}

#[cfg(test)]
mod tests {
    use super::super::Witness;
    use super::super::testing::*;
    use super::*;

    fn adopt(witness: &mut Witness, second: i64, generation: u64, kilowatts: (i64, i64)) {
        let module = module_id();
        witness.directive(
            &module,
            at(second),
            &boot(second),
            &directive(&module, generation, kilowatts, second),
        );
    }

    #[test]
    fn grants_within_capacity_pass_and_raising_beyond_fires() {
        let site = format!("site {}", site_id());
        // Two sets of 250 kW carry 500, one of them 250; 8 kW are unmanaged; 2 % are tolerated.
        for (kilowatts, broken) in [((490, 240), 0), ((505, 240), 1), ((490, 250), 1), ((510, 260), 2)] {
            let mut witness = witness();
            witness.second(&site_id(), &truth(0), &[]);
            adopt(&mut witness, 0, 1, kilowatts);
            check(&witness.finish(), 1, &vec![site.as_str(); broken]);
        }
    }

    #[test]
    fn capacity_may_fall_below_what_was_granted_but_nothing_may_be_raised_then() {
        let poor = |second: i64, trip: bool| {
            let mut truth = truth(second);
            truth.gensets.values_mut().take(usize::from(trip)).for_each(|set| {
                set.state = model::report::GensetState::Tripped;
            });
            truth
        };
        let mut witness = witness();
        witness.second(&site_id(), &truth(0), &[]);
        adopt(&mut witness, 0, 1, (400, 0));
        for second in 1..=16 {
            witness.second(&site_id(), &poor(second, true), &[]);
        }
        assert!(witness.so_far().is_sound());
        adopt(&mut witness, 16, 2, (300, 0));
        assert!(witness.so_far().is_sound(), "a lowering breaks nothing even when it is not enough");
        adopt(&mut witness, 16, 3, (310, 0));
        check(&witness.finish(), 1, &[&format!("site {}", site_id())]);
    }

    #[test]
    fn a_module_that_draws_more_than_its_ceiling_fires_once() {
        let mut witness = settled();
        feed(&mut witness, 1..=30, |_, _| {});
        feed(&mut witness, 31..=40, |_, truth| module_of(truth).total.power = Watts::kilo(330));
        check(&witness.finish(), 1, &[&format!("module {}", module_id())]);
    }

    #[test]
    fn a_draw_just_above_its_ceiling_is_meter_noise() {
        let mut witness = settled();
        feed(&mut witness, 1..=30, |_, truth| module_of(truth).total.power = Watts::kilo(305));
        check(&witness.finish(), 1, &[]);
    }
}
