//! Two controllers on one store: one leads, the other names it, and takes over with what the first had decided.

use std::time::Duration;

use api::agent::controller_message::Kind as Down;
use api::operator::GetStatusRequest;
use model::Span;
use store::{Prefix, Revision, WatchEvent};

use crate::harness::{Agent, Controller, Dir, HandClock, PATIENCE, drive, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_names_the_leader_and_takes_over_its_plan_and_grants() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let first = Controller::start(&dir, store.clone(), clock.clone(), |_| {}).await;
    first.knows_the_fleet().await;
    let mut agents = [Agent::connect(&first, "m1").await, Agent::connect(&first, "m2").await];
    drive(&first, &mut agents, |live| live.published.len() == 2).await;
    let second = Controller::start(&dir, store.clone(), clock.clone(), |options| {
        options.lease_ttl = Duration::from_secs(3);
    })
    .await;
    let mut cache = second.handle.context().cache.clone();
    tokio::time::timeout(PATIENCE, cache.wait_for(|cache| cache.leader.is_some())).await.unwrap().unwrap();
    let (_up, mut down) = open(&second, "m1", true).await;
    let Some(Down::Redirect(redirect)) = down.message().await.unwrap().unwrap().kind else {
        panic!("no redirect")
    };
    assert_eq!(redirect.leader_address, first.grpc);
    let refused = second.operator().await.get_status(GetStatusRequest { decisions: 0 }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().contains(&first.grpc), "{refused}");

    let (term, plan, granted) = {
        let live = first.live.borrow();
        let granted: Vec<_> = agents.iter().map(|agent| live.book.granted(&agent.module)).collect();
        (live.term.unwrap(), live.in_force.as_ref().unwrap().plan.clone(), granted)
    };
    first.stop().await;
    second.until(|live| live.term.is_some()).await;
    let live = second.live.borrow().clone();
    assert!(live.term.unwrap() > term, "the fence rises");
    assert_eq!(live.in_force.as_ref().unwrap().plan, plan, "the parent plan is taken over first");
    for (agent, granted) in agents.iter().zip(granted) {
        assert_eq!(live.book.granted(&agent.module), granted, "every stored ceiling counts");
    }
    // The agents' sessions of the first controller ended with a word of where to go, or with the connection.
    let mut agents = [Agent::connect(&second, "m1").await, Agent::connect(&second, "m2").await];
    drive(&second, &mut agents, |live| live.published.len() == 2).await;
    assert!(agents[0].directive.is_some() || second.live.borrow().published.len() == 2);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_throws_away_the_stores_history_after_an_hour() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let replays = async || {
        let mut watch = controller.store.watch(&Prefix::all(), Some(Revision(2)));
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        matches!(event, WatchEvent::Commit(_))
    };
    let plan = |live: &controller::live::Live| live.in_force.as_ref().map(|it| it.plan.generation);
    for minute in (10..=80).step_by(10) {
        assert!(minute > 70 || replays().await, "history is gone after {minute} minutes");
        let before = plan(&controller.live.borrow());
        controller.clock.advance(Span::minutes(10));
        controller.until(|live| plan(live) > before).await;
    }
    // The round before the last threw away what was the newest an hour before it.
    assert!(!replays().await, "nothing was thrown away");
    controller.stop().await;
}
