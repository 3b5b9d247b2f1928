//! Invariant 2, N-1: from a normal state the loss of one set, of storage or of the grid tie takes neither the island nor firm work within a minute.
//!
//! Normal is what `check` accepts, seen from outside: the island is calm and live with two sets or more, every agent runs and has
//! adopted an envelope, every module draws what it may, no feeder is stuck. A second fault within the minute excuses; trips that
//! follow from the first (under-frequency, overload) do not. Read next: [`super::scene`].

use std::collections::BTreeMap;

use model::report::GensetState;
use model::{SiteId, Span, Time};

use super::View;
use super::book::{Book, Fault, Invariant};
use super::power;
use super::standing::{Agent, Rule};
use crate::bus::{Happened, Trip};
use crate::fault::Kind;
use crate::truth::{Event, What};

/// How long the island must stay up after the loss.
const WATCHED: Span = Span::secs(60);
/// Normal frequency stays within 1 % of nominal.
const NORMAL_PERMILLE: i64 = 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Security {
    islands: BTreeMap<SiteId, State>,
}

/// One island as of the second before.
#[derive(Clone, Debug, Default)]
struct State {
    normal: bool,
    blackouts: u32,
    firm_lost: u32,
    watch: Option<Watch>,
}

/// A loss whose minute is not over.
#[derive(Clone, Debug)]
struct Watch {
    source: String,
    at: Time,
    blackouts: u32,
    firm_lost: u32,
}

impl Security {
    pub(super) fn second(&mut self, view: View<'_>, book: &mut Book) {
        let state = self.islands.entry(view.island.site.id.clone()).or_default();
        for event in view.events {
            if let Some(source) = lost_source(event) {
                // The second loss of two is no single contingency, and it excuses the first.
                let first = state.watch.is_none() && state.normal;
                let (blackouts, firm_lost) = (state.blackouts, state.firm_lost);
                state.watch = first.then_some(Watch { source, at: event.at, blackouts, firm_lost });
                state.normal = false;
            } else if is_second_fault(event) {
                state.watch = None;
                state.normal = false;
            }
        }
        state.judge(view, book);
        (state.blackouts, state.firm_lost) = (view.truth.blackouts, view.truth.firm_lost);
        state.normal = state.watch.is_none() && is_normal(view);
    }
}

impl State {
    fn judge(&mut self, view: View<'_>, book: &mut Book) {
        let Some(watch) = &self.watch else { return };
        let truth = view.truth;
        let firm = truth.firm_lost.saturating_sub(watch.firm_lost);
        let fault = if truth.blackouts > watch.blackouts {
            Some(format!("blacked out after the loss of {} alone; {firm} firm runs were lost", watch.source))
        } else {
            (firm > 0).then(|| format!("lost {firm} firm runs after the loss of {} alone", watch.source))
        };
        if fault.is_some() || truth.now - watch.at >= WATCHED {
            let subject = format!("site {}", view.island.site.id);
            book.check(Invariant::Security, truth.now, fault.map(|what| Fault::new(subject, what)));
            self.watch = None;
        }
    }
}

fn lost_source(event: &Event) -> Option<String> {
    match &event.what {
        What::Bus(Happened::Tripped(set, Trip::Fault, _)) => Some(format!("set {set}")),
        What::Fault(Kind::StorageTrip) => Some("storage".into()),
        What::Fault(Kind::TieTrip) => Some("the grid tie".into()),
        _ => None,
    }
}

fn is_second_fault(event: &Event) -> bool {
    let What::Fault(kind) = &event.what else { return false };
    matches!(kind, Kind::GasLoss(_) | Kind::GasDrop(_) | Kind::FeederStuck(..) | Kind::LoadRejection)
}

fn is_normal(view: View<'_>) -> bool {
    let View { scene, island, truth, .. } = view;
    let nominal = island.site.nominal;
    let steady =
        |now: model::site::Frequency| (now - nominal).abs() <= nominal.fraction(NORMAL_PERMILLE, 1_000);
    let online = truth.gensets.values().filter(|set| set.state == GensetState::Online).count();
    let in_order = |id: &model::ModuleId| {
        let Some(standing) = scene.modules.get(id) else { return false };
        let ruled = matches!(standing.rule(truth.now), Rule::Envelope | Rule::Fallback);
        ruled && standing.agent != Agent::Down && power::excess(view, id).is_none()
    };
    truth.energized
        && truth.frequency.is_some_and(steady)
        && online >= 2
        && !island.stuck
        && !island.is_disturbed(truth.now)
        && truth.modules.keys().all(in_order)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// What happens at which second, and what of it shall be blamed: a trip comes at 40 s.
    fn run(ready: bool, blackout: Option<i64>, firm_lost: Option<i64>, second_trip: bool) -> Vec<String> {
        let mut witness = if ready { settled() } else { witness() };
        for second in 1..=120 {
            if second % 30 == 0 && ready {
                renew(&mut witness, second);
            }
            let mut truth = truth(second);
            truth.blackouts = u32::from(blackout.is_some_and(|at| second >= at));
            truth.firm_lost = u32::from(firm_lost.is_some_and(|at| second >= at));
            let mut events = Vec::new();
            events.extend((second == 40).then(|| trip(40, "g1")));
            events.extend((second == 50 && second_trip).then(|| trip(50, "g2")));
            witness.second(&site_id(), &truth, &events);
        }
        let summary = witness.finish();
        let verdict = summary.verdict(2).cloned().into_iter().flat_map(|verdict| verdict.first);
        verdict.map(|violation| violation.subject).collect()
    }

    #[test]
    fn the_island_must_survive_one_loss() {
        let site = vec![format!("site {}", site_id())];
        assert_eq!(run(true, None, None, false), Vec::<String>::new());
        assert_eq!(run(true, Some(45), None, false), site);
        assert_eq!(run(true, Some(40), None, false), site, "a blackout in the same second counts too");
        assert_eq!(run(true, None, Some(99), false), site);
        assert_eq!(run(true, Some(110), None, false), Vec::<String>::new(), "more than a minute later");
    }

    #[test]
    fn the_loss_of_storage_or_of_the_grid_is_a_loss_like_any_other() {
        for (kind, named) in [(super::Kind::StorageTrip, "storage"), (super::Kind::TieTrip, "the grid tie")] {
            let mut witness = settled();
            for second in 1..=60 {
                let mut truth = truth(second);
                truth.blackouts = u32::from(second >= 42);
                let lost = event(40, super::What::Fault(kind.clone()));
                let events = if second == 40 { vec![lost] } else { Vec::new() };
                witness.second(&site_id(), &truth, &events);
            }
            let verdict =
                witness.finish().verdict(2).cloned().into_iter().flat_map(|verdict| verdict.first).next();
            let what = verdict.map(|violation| violation.what).unwrap_or_default();
            assert!(what.contains(&format!("after the loss of {named} alone")), "{what}");
        }
    }

    #[test]
    fn a_second_trip_and_a_state_that_was_not_normal_excuse() {
        assert_eq!(run(true, Some(55), None, true), Vec::<String>::new());
        assert_eq!(run(false, Some(45), None, false), Vec::<String>::new());
    }
}
