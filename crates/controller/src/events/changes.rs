//! What a report, a phase or an order means as an event: pure, so that each sentence of docs/events.md has a line in a table of tests.
//!
//! Assumes that reports of one module are compared in their order, and each phase with the one before. Next: `../events.rs`.

use model::event::{Event, What, Who};
use model::plan::{ReasonCode, Subject};
use model::report::{FeederState, GensetState, Report, SiteReport, Switch};
use model::workload::{Grounds, Phase, Status, Workload};
use model::{ModuleId, SiteId, Time};

/// A module's agent was heard for the first time, again after its link was lost, or from a machine that was started anew.
pub fn heard(module: &ModuleId, known: bool, returned: bool, rebooted: bool, at: Time) -> Vec<Event> {
    let seen = [(!known, What::Online), (known && returned, What::Returned), (rebooted, What::Rebooted)];
    let event = |what| Event::new(at, what, Who::Agent(module.clone()));
    seen.into_iter().filter(|(is, _)| *is).map(|(_, what)| event(what)).collect()
}

/// What a report says that the one before did not.
pub fn reported(site: &SiteId, before: &Report, after: &Report, at: Time) -> Vec<(Subject, Event)> {
    let module = &after.module;
    let event = |what| Event::new(at, what, Who::Agent(module.clone()));
    let mut events: Vec<(Subject, Event)> = Vec::new();
    let mut of_module = |event: Event| events.push((Subject::Module(module.clone()), event));
    if before.switch != after.switch {
        let what = match after.switch {
            Switch::Off | Switch::EmergencyStop => What::Tripped,
            Switch::Remote | Switch::Local => What::Switched,
        };
        of_module(event(what).saying(switch(after.switch)));
    }
    let opened = opened(before, after);
    if !opened.is_empty() {
        of_module(event(What::Shed).saying(&format!("feeders {}", opened.join(", "))));
    }
    if let (Some(before), Some(after)) = (&before.site, &after.site) {
        let of_site = |(what, text): (What, String)| (Subject::Site(site.clone()), event(what).saying(&text));
        events.extend(plant(before, after).into_iter().map(of_site));
    }
    events
}

/// A workload was accepted: by its tenant's order, or because an operator overrode the model of availability.
pub fn admitted(workload: &Workload, at: Time) -> Event {
    let promise = workload.promise.as_ref();
    let (who, words) = match promise.map(|promise| &promise.grounds) {
        Some(Grounds::Override { by, why }) => {
            (Who::operator(by), format!("without asking the model: {why}"))
        }
        _ => (Who::Tenant(workload.tenant.clone()), String::new()),
    };
    let promised = promise.map(|promise| format!("availability {} permille", promise.level));
    let text = promised.into_iter().chain(Some(words).filter(|words| !words.is_empty()));
    Event::new(at, What::Admitted, who).saying(&text.collect::<Vec<_>>().join(", "))
}

/// What became of a workload, from one status to the next.
pub fn phase(workload: &Workload, before: &Status, after: &Status, plan: u64, at: Time) -> Option<Event> {
    use Phase::{Cancelled, Completed, Pending, Running, Starting, Stopping, Unreachable};
    let module = after.placement.as_ref().or(before.placement.as_ref()).map(|placement| &placement.module);
    let agent = || module.map_or(Who::Controller, |module| Who::Agent(module.clone()));
    let (planner, reason) = (|| Who::Planner(plan), after.reason);
    let by_plant = matches!(reason, ReasonCode::PowerShort | ReasonCode::GasShort);
    let (what, who) = match (before.phase, after.phase) {
        (before, after) if before == after => return None,
        (Unreachable, Starting | Running | Stopping) => (What::Reached, agent()),
        (_, Unreachable) => (What::Unreachable, Who::Controller),
        (_, Starting) => (What::Placed, planner()),
        (_, Running) => (What::Started, agent()),
        // Who asked for its end stands in the event before.
        (_, Stopping) if reason == ReasonCode::Cancelled => return None,
        (_, Stopping) if by_plant => (What::Evicted, agent()),
        (_, Stopping) if reason == ReasonCode::Draining => (What::Evicted, planner()),
        (_, Stopping) if reason == ReasonCode::LinkLost => (What::Evicted, Who::Controller),
        (_, Stopping) => (What::Preempted, planner()),
        (Unreachable, Pending) => (What::Evicted, Who::Controller),
        (Stopping, Pending) => (What::Stopped, agent()),
        (_, Pending) => (What::Failed, agent()),
        (_, Completed) => (What::Completed, agent()),
        (_, Cancelled) => (What::Cancelled, Who::Tenant(workload.tenant.clone())),
    };
    let place = after.placement.as_ref().filter(|_| matches!(what, What::Placed | What::Failed));
    let words = place.map_or(String::new(), |placement| {
        format!("on module {}, start {}", placement.module, placement.incarnation)
    });
    Some(Event::new(at, what, who).because(reason).saying(&words))
}

/// Who asked for a workload's end: its tenant, or an operator with a name and a reason.
pub fn end_asked(tenant: Option<&model::TenantId>, by: &str, why: &str, at: Time) -> Event {
    let who = tenant.map_or_else(|| Who::operator(by), |tenant| Who::Tenant(tenant.clone()));
    Event::new(at, What::EndAsked, who).saying(why)
}

fn opened(before: &Report, after: &Report) -> Vec<String> {
    let is_open = |state: FeederState| state == FeederState::Open;
    let groups = after.groups.iter().filter(|(id, group)| {
        let was = before.groups.get(*id).is_some_and(|group| !is_open(group.feeder));
        was && is_open(group.feeder)
    });
    groups.map(|(id, _)| id.to_string()).collect()
}

/// What happened to sets, storage and grid. What nobody reads is no event: a meter that is silent is no grid that is gone.
fn plant(before: &SiteReport, after: &SiteReport) -> Vec<(What, String)> {
    let mut events = Vec::new();
    for (id, set) in &after.gensets {
        let was = before.gensets.get(id).map(|set| set.state);
        let tripped = |state: GensetState| state == GensetState::Tripped;
        match (was.is_some_and(tripped), tripped(set.state)) {
            (false, true) if was.is_some() => events.push((What::SetTripped, format!("set {id}"))),
            (true, false) => events.push((What::SetReset, format!("set {id}"))),
            _ => {}
        }
    }
    let mut ready = |was: Option<bool>, is: Option<bool>, lost: What, back: What| match (was, is) {
        (Some(true), Some(false)) => events.push((lost, String::new())),
        (Some(false), Some(true)) => events.push((back, String::new())),
        _ => {}
    };
    let grid = |report: &SiteReport| report.grid.map(|tie| tie.ready);
    let storage = |report: &SiteReport| report.storage.map(|storage| storage.ready);
    ready(grid(before), grid(after), What::GridLost, What::GridBack);
    ready(storage(before), storage(after), What::StorageLost, What::StorageBack);
    events
}

fn switch(switch: Switch) -> &'static str {
    match switch {
        Switch::Remote => "remote",
        Switch::Local => "local",
        Switch::Off => "off",
        Switch::EmergencyStop => "emergency stop",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::report::{GroupReport, StorageReport, TieReport};
    use model::site::GasFlow;
    use model::workload::Promise;
    use model::{MicroDollars, MinerGroupId, TenantId};

    use super::*;
    use crate::testing;

    const NOW: Time = Time(9_000);

    #[test]
    fn what_is_heard_of_a_module_first_and_again() {
        let check = |known: bool, returned: bool, rebooted: bool, expected: &[What]| {
            let events = heard(&testing::module_id("m1"), known, returned, rebooted, NOW);
            let found: Vec<What> = events.iter().map(|event| event.what).collect();
            assert_eq!(found, expected, "{known} {returned} {rebooted}");
        };
        check(true, false, false, &[]);
        check(false, false, false, &[What::Online]);
        check(true, true, false, &[What::Returned]);
        check(true, true, true, &[What::Returned, What::Rebooted]);
        check(true, false, true, &[What::Rebooted]);
    }

    #[test]
    fn a_phase_says_what_became_of_a_workload_and_who_did_it() {
        use Phase::*;
        use ReasonCode as R;
        let workload = testing::workload("w", "t", 2);
        let check = |before: Phase, after: Phase, reason: R, expected: Option<(What, Who)>| {
            let placement = Some(testing::placement("m1", 3));
            let status =
                |phase| Status { phase, reason, placement: placement.clone(), ..workload.status.clone() };
            let event = phase(&workload, &status(before), &status(after), 7, NOW);
            assert!(event.iter().all(|event| event.reason == Some(reason) && event.at == NOW));
            assert_eq!(
                event.map(|event| (event.what, event.who)),
                expected,
                "{before} -> {after} ({reason})"
            );
        };
        let agent = || Who::Agent(testing::module_id("m1"));
        let planner = || Who::Planner(7);
        check(Pending, Starting, R::Placed, Some((What::Placed, planner())));
        check(Starting, Running, R::Placed, Some((What::Started, agent())));
        check(Running, Stopping, R::Preempted, Some((What::Preempted, planner())));
        check(Running, Stopping, R::NoFirmCapacity, Some((What::Preempted, planner())));
        check(Running, Stopping, R::PowerShort, Some((What::Evicted, agent())));
        check(Running, Stopping, R::Draining, Some((What::Evicted, planner())));
        check(Running, Stopping, R::LinkLost, Some((What::Evicted, Who::Controller)));
        check(Running, Stopping, R::Cancelled, None);
        check(Stopping, Pending, R::Preempted, Some((What::Stopped, agent())));
        check(Running, Pending, R::Placed, Some((What::Failed, agent())));
        check(Running, Unreachable, R::LinkLost, Some((What::Unreachable, Who::Controller)));
        check(Unreachable, Running, R::Kept, Some((What::Reached, agent())));
        check(Unreachable, Pending, R::LinkLost, Some((What::Evicted, Who::Controller)));
        check(Running, Completed, R::Completed, Some((What::Completed, agent())));
        let tenant = TenantId::new("t").unwrap();
        check(Pending, Cancelled, R::Cancelled, Some((What::Cancelled, Who::Tenant(tenant))));
        check(Running, Running, R::Kept, None);
    }

    #[test]
    fn a_start_says_where_and_which_it_is() {
        let workload = testing::workload("w", "t", 2);
        let placed = Status {
            phase: Phase::Starting,
            placement: Some(testing::placement("m1", 3)),
            ..workload.status.clone()
        };
        let event = phase(&workload, &workload.status, &placed, 7, NOW).unwrap();
        assert_eq!(event.text, "on module m1, start 3");
    }

    fn at_site(change: impl Fn(&mut SiteReport)) -> Vec<(What, String)> {
        let site = || {
            let mut site = testing::site_report([GensetState::Online; 3], GasFlow::new(400_000));
            site.storage = Some(StorageReport { power: None, held: None, ready: true });
            site.grid = Some(TieReport { power: None, register: None, price: None, ready: true });
            site
        };
        let report = |site| Report { site: Some(site), ..testing::report("m1", 1) };
        let mut after = site();
        change(&mut after);
        let well = SiteId::new("well-7").unwrap();
        let found = |from: SiteReport, to: SiteReport| {
            let events = reported(&well, &report(from), &report(to), NOW);
            assert!(events.iter().all(|(subject, _)| *subject == Subject::Site(well.clone())), "{events:?}");
            events.into_iter().map(|(_, event)| (event.what, event.text)).collect::<Vec<_>>()
        };
        let there = found(site(), after.clone());
        [there, found(after, site())].concat()
    }

    #[test]
    fn trips_and_losses_of_the_plant_are_told_and_their_end_too() {
        let check = |change: &dyn Fn(&mut SiteReport), expected: &[(What, &str)]| {
            let found = at_site(change);
            let found: Vec<(What, &str)> = found.iter().map(|(what, text)| (*what, text.as_str())).collect();
            assert_eq!(found, expected);
        };
        let set = |site: &mut SiteReport, state| site.gensets.values_mut().nth(1).unwrap().state = state;
        check(
            &|site| set(site, GensetState::Tripped),
            &[(What::SetTripped, "set g2"), (What::SetReset, "set g2")],
        );
        check(&|site| set(site, GensetState::Stopping), &[]);
        check(&|site| site.gensets.clear(), &[]);
        check(
            &|site| site.grid.as_mut().unwrap().ready = false,
            &[(What::GridLost, ""), (What::GridBack, "")],
        );
        check(&|site| site.grid = None, &[]);
        check(
            &|site| site.storage.as_mut().unwrap().ready = false,
            &[(What::StorageLost, ""), (What::StorageBack, "")],
        );
    }

    #[test]
    fn switches_and_open_feeders_are_told_of_the_module() {
        let group = |feeder| GroupReport {
            feeder,
            awake: 0,
            point: 0,
            power: None,
            claimed: None,
            verified: None,
            connections: 0,
        };
        let report = |switch, feeders: [FeederState; 2]| {
            let ids = ["a", "b"].map(|id| MinerGroupId::new(id).unwrap());
            let groups = ids.into_iter().zip(feeders.map(group)).collect();
            Report { switch, groups, ..testing::report("m1", 1) }
        };
        let check = |switch, feeders, expected: &[(What, &str)]| {
            let before = report(Switch::Remote, [FeederState::Closed, FeederState::Moving]);
            let well = SiteId::new("well-7").unwrap();
            let events = reported(&well, &before, &report(switch, feeders), NOW);
            let found: Vec<(What, &str)> =
                events.iter().map(|(_, event)| (event.what, event.text.as_str())).collect();
            assert_eq!(found, expected);
        };
        use FeederState::{Closed, Open};
        check(Switch::Remote, [Closed, Closed], &[]);
        check(Switch::EmergencyStop, [Closed, Closed], &[(What::Tripped, "emergency stop")]);
        check(Switch::Local, [Closed, Open], &[(What::Switched, "local"), (What::Shed, "feeders b")]);
        check(Switch::Remote, [Open, Open], &[(What::Shed, "feeders a, b")]);
    }

    #[test]
    fn an_admission_says_what_was_promised_and_who_overrode() {
        let check = |grounds: Option<Grounds>, who: Who, text: &str| {
            let price = MicroDollars::cents(295);
            let promise = grounds.map(|grounds| Promise { level: 990, price, given: NOW, grounds });
            let event = admitted(&Workload { promise, ..testing::workload("w", "t", 2) }, NOW);
            assert_eq!((event.what, event.who, event.text.as_str()), (What::Admitted, who, text));
        };
        let tenant = || Who::Tenant(TenantId::new("t").unwrap());
        check(None, tenant(), "");
        let (by, why) = ("ada".to_owned(), "a trial".to_owned());
        let text = "availability 990 permille, without asking the model: a trial";
        check(Some(Grounds::Override { by, why }), Who::operator("ada"), text);
    }

    #[test]
    fn an_end_is_asked_for_by_a_tenant_or_an_operator() {
        let tenant = TenantId::new("acme").unwrap();
        let by_tenant = end_asked(Some(&tenant), "", "", NOW);
        assert_eq!(by_tenant.who, Who::Tenant(tenant));
        let by_operator = end_asked(None, "ada", "unpaid", NOW);
        assert_eq!((by_operator.who, by_operator.text.as_str()), (Who::operator("ada"), "unpaid"));
    }
}
