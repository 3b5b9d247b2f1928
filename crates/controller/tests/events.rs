//! Histories of sites, modules and workloads as operators read them, and what a change of leaders leaves of them.

use api::common::subject::Kind;
use api::common::{Subject, WorkloadOrder};
use api::operator as wire;
use controller::live::Live;
use model::workload::Phase;
use model::{Span, WorkloadId};
use tonic::Code;

use crate::harness::{Agent, Controller, Dir, HandClock, PATIENCE, drive};

/// Who did what, and what was said of it.
type Told = (String, Option<wire::actor::Kind>, String);

async fn history(controller: &Controller, kind: Kind) -> Vec<Told> {
    let request = wire::ListEventsRequest { subject: Some(Subject { kind: Some(kind) }) };
    let answer = controller.operator().await.list_events(request).await.unwrap().into_inner();
    assert_eq!((answer.older, answer.missed), (0, 0));
    let told = |event: wire::ObjectEvent| (event.what, event.who.and_then(|who| who.kind), event.text);
    answer.events.into_iter().map(told).collect()
}

fn whats(history: &[Told]) -> Vec<&str> {
    history.iter().map(|(what, _, _)| what.as_str()).collect()
}

fn module(id: &str) -> Kind {
    Kind::Module(id.into())
}

/// An order of eight GPUs that runs.
async fn running(controller: &Controller, agents: &mut [Agent]) -> String {
    let order = WorkloadOrder { offering: "h100-on-demand".into(), gpus: 8, ..Default::default() };
    let request =
        wire::SubmitWorkloadRequest { tenant: "acme".into(), order: Some(order), ..Default::default() };
    let made = controller.operator().await.submit_workload(request).await.unwrap().into_inner();
    let id = WorkloadId::new(&made.id).unwrap();
    let runs = |live: &Live| live.workloads.get(&id).is_some_and(|w| w.status.phase == Phase::Running);
    drive(controller, agents, runs).await;
    made.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_object_tells_what_happened_to_it_and_who_did_it() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    controller.tenant("acme", 16).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let id = running(&controller, &mut agents).await;
    let told = history(&controller, Kind::Workload(id.clone())).await;
    assert_eq!(whats(&told), ["admitted", "placed", "started"]);
    let here = controller.live.borrow().workloads[&WorkloadId::new(&id).unwrap()].status.clone();
    let here = here.placement.unwrap().module.to_string();
    assert_eq!(told[0].1, Some(wire::actor::Kind::Tenant("acme".into())));
    assert!(matches!(told[1].1, Some(wire::actor::Kind::Planner(plan)) if plan > 0), "{told:?}");
    assert_eq!(told[1].2, format!("on module {here}, start 1"));
    assert_eq!(told[2].1, Some(wire::actor::Kind::Agent(here.clone())));

    let drain = wire::DrainModuleRequest {
        module: here.clone(),
        by: "ada".into(),
        why: "fan 3".into(),
        ..Default::default()
    };
    controller.operator().await.drain_module(drain).await.unwrap();
    let workload = WorkloadId::new(&id).unwrap();
    drive(&controller, &mut agents, |live| {
        live.workloads[&workload].status.placement.as_ref().is_some_and(|p| p.incarnation == 2)
    })
    .await;
    let told = history(&controller, module(&here)).await;
    assert_eq!(whats(&told), ["configured", "online", "draining", "drained"]);
    let ada = Some(wire::actor::Kind::Operator("ada".into()));
    assert_eq!((&told[2].1, told[2].2.as_str()), (&ada, "fan 3"));
    let moved = history(&controller, Kind::Workload(id)).await;
    assert_eq!(whats(&moved)[..6], ["admitted", "placed", "started", "evicted", "stopped", "placed"]);
    let well = history(&controller, Kind::Site("well-7".into())).await;
    assert_eq!(whats(&well), ["configured"]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_told_once_and_outlives_the_controller_that_saw_it() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let [mut m1, _silent] = agents;
    for _ in 0..30 {
        controller.clock.advance(Span::secs(1));
        m1.report(&controller.clock).await;
    }
    let m2 = model::ModuleId::new("m2").unwrap();
    controller.until(|live| live.tracker.seen(&m2).is_some_and(|seen| seen.lost_since.is_some())).await;
    let before = history(&controller, module("m2")).await;
    assert_eq!(whats(&before), ["configured", "online", "lost"]);
    // It hands its office over at once: what was noted within the last second is stored all the same.
    let (store, clock) = (controller.store.clone(), controller.clock.clone());
    controller.stop().await;
    let next = Controller::start(&dir, store, clock, |_| {}).await;
    next.knows_the_fleet().await;
    assert_eq!(history(&next, module("m2")).await, before);
    let mut again = Agent::connect(&next, "m2").await;
    next.clock.advance(Span::secs(1));
    again.report(&next.clock).await;
    next.until(|live| live.tracker.seen(&m2).is_some_and(|seen| seen.lost_since.is_none())).await;
    assert_eq!(whats(&history(&next, module("m2")).await), ["configured", "online", "lost", "returned"]);
    let mut cache = next.handle.context().cache.clone();
    let forgotten = cache.wait_for(|cache| cache.lost.is_empty());
    tokio::time::timeout(PATIENCE, forgotten).await.expect("the store has none as lost").unwrap();
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_by_tells_what_is_stored_and_nobody_tells_of_what_is_not_there() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let standby = Controller::start(&dir, controller.store.clone(), HandClock::new(), |_| {}).await;
    let mut cache = standby.handle.context().cache.clone();
    let stored = cache.wait_for(|cache| cache.histories.len() == 3);
    tokio::time::timeout(PATIENCE, stored).await.expect("a site and two modules").unwrap();
    assert_eq!(whats(&history(&standby, module("m1")).await), ["configured"]);
    for kind in [Some(module("m9")), Some(Kind::Workload("w-1".into()))] {
        let request = wire::ListEventsRequest { subject: Some(Subject { kind }) };
        let refused = standby.operator().await.list_events(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
    let nothing = wire::ListEventsRequest { subject: None };
    let refused = standby.operator().await.list_events(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    standby.stop().await;
    controller.stop().await;
}
