//! Two controllers on one store: one leads, the other names it, and takes over with what the first had decided.
//!
//! Also what happens when somebody else moves the plan in force, or when a leader does not heed that it is none any more.

use std::time::Duration;

use api::agent::controller_message::Kind as Down;
use api::operator::{
    self as wire, CreateTenantRequest, GetPlanRequest, GetStatusRequest, Link, WatchRequest,
};
use api::problem::Kind;
use controller::commit;
use controller::run::Options;
use controller::sabotage::Sabotage;
use model::Span;
use model::plan::Plan;
use store::{Prefix, Revision, Store, WatchEvent, key};
use tokio::sync::{Mutex, Notify};

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
    answers_from_the_store(&second, &first.grpc).await;

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

/// A standby shows what the store holds and who leads, and writes nothing.
async fn answers_from_the_store(standby: &Controller, leader: &str) {
    let mut operator = standby.operator().await;
    let status = operator.get_status(GetStatusRequest { decisions: 0 }).await.unwrap();
    assert_eq!(api::leader::of_answer(status.metadata()).as_deref(), Some(leader));
    let status = status.into_inner();
    let leadership = status.leadership.unwrap();
    assert_eq!((leadership.is_me, leadership.address.as_str()), (false, leader));
    assert!(status.plan.is_some_and(|plan| plan.generation > 0), "the plan in force stands in the store");
    let links: Vec<Link> = status.modules.iter().map(wire::ModuleStatus::link).collect();
    assert_eq!(links, [Link::Unspecified; 2], "a standby hears no agent, and says so");
    let plan = operator.get_plan(GetPlanRequest { generation: 0 }).await.unwrap().into_inner();
    assert!(plan.in_force && plan.plan.is_some());
    let refused =
        operator.create_tenant(CreateTenantRequest { tenant: "t".into(), ..Default::default() }).await;
    let problem = api::Problem::from(refused.unwrap_err());
    assert_eq!((problem.kind, problem.leader.as_deref()), (Kind::Unavailable, Some(leader)));
    assert!(problem.message.contains(leader), "{problem}");
    let refused = operator.watch(WatchRequest { events_only: false }).await.unwrap_err();
    assert_eq!(api::Problem::from(refused).leader.as_deref(), Some(leader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_sends_its_agents_to_whoever_takes_the_office() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let adjust = |name: &'static str| {
        move |options: &mut Options| {
            options.hand_over = PATIENCE;
            options.advertise = Some(name.into());
        }
    };
    let first = Controller::start(&dir, store.clone(), clock.clone(), adjust("http://first:1")).await;
    first.knows_the_fleet().await;
    let second = Controller::start(&dir, store, clock, adjust("http://second:2")).await;
    let mut agents = [Agent::connect(&first, "m1").await, Agent::connect(&first, "m2").await];
    drive(&first, &mut agents, |live| live.published.len() == 2).await;
    let term = first.live.borrow().term.unwrap();
    let stopping = tokio::spawn(first.stop());
    for agent in &mut agents {
        let redirect = loop {
            match agent.next().await.expect("a word before the end") {
                Down::Redirect(redirect) => break redirect,
                Down::Refusal(refusal) => panic!("{refusal:?}"),
                _ => {}
            }
        };
        assert_eq!(redirect.leader_address, "http://second:2");
        assert_eq!(redirect.retry_within.map(|within| within.seconds), Some(0), "a fleet of two");
    }
    stopping.await.unwrap();
    second.until(|live| live.term.is_some_and(|now| now > term)).await;
    second.stop().await;
}

/// A planner that takes until the test lets it go on.
fn slow(input: &planner::Input) -> planner::Planned {
    PLANNING.notify_one();
    drop(HELD.blocking_lock());
    planner::plan(input)
}

/// Told when [`slow`] begins, and what it waits for.
static PLANNING: Notify = Notify::const_new();
static HELD: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_plans_vacates_the_office_without_waiting_for_the_plan() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let first = Controller::start(&dir, store.clone(), clock.clone(), |options| options.planner = slow).await;
    first.knows_the_fleet().await;
    let second = Controller::start(&dir, store, clock.clone(), |_| {}).await;
    let held = HELD.lock().await;
    // The first round is due once modules have had their time to report.
    clock.advance(Span::secs(30));
    tokio::time::timeout(PATIENCE, PLANNING.notified()).await.expect("it plans");
    first.cancel.cancel();
    second.until(|live| live.term.is_some()).await;
    drop(held);
    first.stop().await;
    second.stop().await;
}

/// Takes the office away from whoever leads, as if the lease had run out.
async fn revoke(store: &Store) {
    let leader = store.get(&key::leader()).await.unwrap().unwrap();
    store.lease_revoke(leader.lease.unwrap()).await.unwrap();
}

fn generation(controller: &Controller) -> u64 {
    controller.live.borrow().in_force.as_ref().map_or(0, |in_force| in_force.plan.generation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_plan_was_replaced_plans_on_the_new_one() {
    let dir = Dir::new();
    let first = Controller::leading(&dir).await;
    let mut agents = [Agent::connect(&first, "m1").await, Agent::connect(&first, "m2").await];
    drive(&first, &mut agents, |live| live.published.len() == 2).await;
    let old = commit::load(&first.store).await.unwrap().unwrap();
    let number = old.plan.generation + 1;
    let plan = Plan { generation: number, parent: Some(old.plan.generation), ..Plan::clone(&old.plan) };
    commit::commit(&first.store, None, Some(&old), plan, Vec::new()).await.unwrap();
    drive(&first, &mut agents, |live| live.in_force.as_ref().unwrap().plan.parent == Some(number)).await;
    assert!(generation(&first) > number);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lost_its_lease_sends_its_agents_to_its_successor() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let first = Controller::start(&dir, store.clone(), clock.clone(), |options| {
        options.lease_ttl = Duration::from_secs(2);
    })
    .await;
    first.knows_the_fleet().await;
    let second = Controller::start(&dir, store.clone(), clock.clone(), |_| {}).await;
    let mut agents = [Agent::connect(&first, "m1").await, Agent::connect(&first, "m2").await];
    drive(&first, &mut agents, |live| live.published.len() == 2).await;
    revoke(&store).await;
    second.until(|live| live.term.is_some()).await;
    for agent in &mut agents {
        let redirect = loop {
            match agent.next().await.expect("a word before the end") {
                Down::Redirect(redirect) => break redirect,
                Down::Refusal(refusal) => panic!("{refusal:?}"),
                _ => {}
            }
        };
        assert_eq!(redirect.leader_address, second.grpc);
    }
    let mut agents = [Agent::connect(&second, "m1").await, Agent::connect(&second, "m2").await];
    drive(&second, &mut agents, |live| live.published.len() == 2).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_skips_its_fence_commits_after_its_successor() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let first = Controller::start(&dir, store.clone(), clock.clone(), |options| {
        options.sabotage = Some(Sabotage::SkipFence);
    })
    .await;
    first.knows_the_fleet().await;
    let second = Controller::start(&dir, store.clone(), clock.clone(), |_| {}).await;
    revoke(&store).await;
    second.until(|live| live.term.is_some()).await;
    let [deposed, successor] = [&first, &second].map(|controller| controller.live.borrow().term.unwrap());
    assert!(deposed < successor);
    let (mut late, mut commits) = (first.handle.commits(), second.handle.commits());
    let mut successors: Option<u64> = None;
    // A round every 30 s, and one more 2 s after each that found the plan replaced: four minutes are many of both.
    for _ in 0..240 {
        clock.advance(Span::secs(1));
        // Leaves both the time to act on that second.
        let soon = tokio::time::timeout(Duration::from_millis(20), late.recv()).await;
        successors = successors.or(commits.try_recv().ok().map(|committed| committed.round.plan.generation));
        let Ok(committed) = soon else { continue };
        let committed = committed.unwrap();
        assert_eq!(committed.fence.leader, deposed.leader);
        if successors.is_some_and(|before| before < committed.round.plan.generation) {
            return;
        }
    }
    panic!("the deposed leader never committed after its successor's plan {successors:?}");
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
