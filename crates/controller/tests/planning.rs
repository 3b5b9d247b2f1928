//! What goes on while a plan is made: reports are taken in, what asks for the next plan is remembered, and whoever loses the office
//! meanwhile commits nothing.

use std::time::Duration;

use controller::commit;
use controller::live::Live;
use model::{ModuleId, Span};
use store::{Store, key};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{Notify, Semaphore};

use crate::harness::{Agent, Controller, Dir, HandClock, PATIENCE};

/// A planner that makes as many plans as a test lets it, and says when it has made one.
struct Gate {
    let_go: Semaphore,
    done: Notify,
}

impl Gate {
    const fn new() -> Self {
        Self { let_go: Semaphore::const_new(0), done: Notify::const_new() }
    }

    fn plan(&self, input: &planner::Input) -> planner::Planned {
        Handle::current().block_on(self.let_go.acquire()).unwrap().forget();
        let planned = planner::plan(input);
        self.done.notify_one();
        planned
    }
}

static SLOW: Gate = Gate::new();

fn generation(live: &Live) -> u64 {
    live.in_force.as_ref().map_or(0, |in_force| in_force.plan.generation)
}

/// Has both agents report a second later, and waits until the leader has taken that in.
async fn second(controller: &Controller, agents: &mut [Agent]) {
    controller.clock.advance(Span::secs(1));
    let now = model::time::Clock::now(&controller.clock);
    for agent in agents.iter_mut() {
        agent.report(&controller.clock).await;
    }
    let modules: Vec<ModuleId> = agents.iter().map(|agent| agent.module.clone()).collect();
    let known = |live: &Live| modules.iter().all(|id| live.tracker.report(id).is_some_and(|it| it.at == now));
    controller.until(known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_taken_in_while_a_plan_is_made_and_the_next_one_answers_them() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let controller = Controller::start(&dir, store, HandClock::new(), |options| {
        options.planner = |input| SLOW.plan(input);
    })
    .await;
    controller.knows_the_fleet().await;
    let mut commits = controller.handle.commits();
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    // Nobody has reported when the first plan begins.
    controller.clock.advance(Span::secs(30));
    controller.until(|live| live.planning.is_some()).await;
    let slept = controller.clock.slept();
    second(&controller, &mut agents).await;
    second(&controller, &mut agents).await;
    assert!(controller.live.borrow().planning.is_some(), "all that while the plan is made");
    assert_eq!(controller.clock.slept(), slept, "simulated time waits for who does not sleep");
    SLOW.let_go.add_permits(1);
    // What came meanwhile asks for the next one, which begins at once; what that one knows asks for no third.
    controller.until(|live| generation(live) == 1 && live.planning.is_some()).await;
    let first = commits.recv().await.unwrap();
    assert!(first.round.input.modules.values().all(|module| module.report.is_none()), "as when it began");
    second(&controller, &mut agents).await;
    SLOW.let_go.add_permits(1);
    controller.until(|live| generation(live) == 2 && live.planning.is_none()).await;
    let next = commits.recv().await.unwrap();
    assert!(next.round.input.modules.values().all(|module| module.report.is_some()));
    assert_eq!(next.round.plan.parent, Some(1));
    SLOW.let_go.add_permits(1);
    controller.clock.advance(Span::secs(30));
    controller.until(|live| generation(live) == 3 && live.planning.is_none()).await;
    assert!(controller.clock.slept() > slept);
    let why = |number: u64| {
        let live = controller.live.borrow();
        live.events.iter().any(|event| event.subject == format!("plan {number}"))
    };
    assert_eq!([1, 2, 3].map(why), [true, true, false], "the third came by time alone");
    controller.stop().await;
}

static LOST: Gate = Gate::new();

/// Takes the office away from whoever leads, as if the lease had run out.
async fn revoke(store: &Store) {
    let leader = store.get(&key::leader()).await.unwrap().unwrap();
    store.lease_revoke(leader.lease.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_the_office_while_it_plans_goes_at_once_and_commits_nothing() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let clock = HandClock::new();
    let first = Controller::start(&dir, store.clone(), clock.clone(), |options| {
        options.lease_ttl = Duration::from_secs(2);
        options.planner = |input| LOST.plan(input);
    })
    .await;
    first.knows_the_fleet().await;
    let second = Controller::start(&dir, store.clone(), clock.clone(), |_| {}).await;
    clock.advance(Span::secs(30));
    first.until(|live| live.planning.is_some()).await;
    let (mut late, mut commits) = (first.handle.commits(), second.handle.commits());
    revoke(&store).await;
    // It does not wait for its plan to learn that it leads no more.
    first.until(|live| live.term.is_none() && live.planning.is_none()).await;
    second.until(|live| live.term.is_some()).await;
    LOST.let_go.add_permits(1);
    tokio::time::timeout(PATIENCE, LOST.done.notified()).await.expect("the plan of the lost term is made");
    clock.advance(Span::secs(30));
    let committed =
        tokio::time::timeout(PATIENCE, commits.recv()).await.expect("the successor plans").unwrap();
    assert_eq!(committed.round.plan.generation, 1, "no plan was in force before");
    assert!(matches!(late.try_recv(), Err(TryRecvError::Empty)), "the plan of the lost term came to nothing");
    let in_force = commit::load(&store).await.unwrap().unwrap();
    assert_eq!(in_force.plan.made, committed.round.plan.made);
    first.stop().await;
    second.stop().await;
}
