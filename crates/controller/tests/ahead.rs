//! What is computed beside the rounds: bounds of plans that come without one, and the outlook.

use api::operator::{GetOutlookRequest, GetPlanRequest};
use model::plan::Plan;
use tonic::Code;

use crate::harness::{Agent, Controller, Dir, HandClock, drive};

/// A planner for which every fleet is too large for a bound on the way.
fn unbounded(input: &planner::Input) -> planner::Planned {
    let made = planner::plan(input);
    let bound = input.parent.as_ref().and_then(|parent| parent.bound);
    planner::Planned { plan: Plan { bound, ..made.plan }, bound: None, ..made }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_is_computed_beside_the_rounds_and_the_next_plan_carries_it_as_stale() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let controller =
        Controller::start(&dir, store, HandClock::new(), |options| options.planner = unbounded).await;
    controller.knows_the_fleet().await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.bound.is_some()).await;
    let bound = controller.live.borrow().bound.unwrap();
    let certified = {
        let live = controller.live.borrow();
        live.rounds.iter().find(|round| round.plan.made == bound.made).cloned().unwrap()
    };
    assert_eq!(bound, planner::bound(&certified.input));
    assert_eq!(certified.plan.bound, None, "the first plan was made before any bound");
    let mut operator = controller.operator().await;
    let mut shown = async |generation| -> Plan {
        let answer = operator.get_plan(GetPlanRequest { generation }).await.unwrap().into_inner();
        answer.plan.unwrap().try_into().unwrap()
    };
    let of_its_own = shown(certified.plan.generation).await;
    assert_eq!((of_its_own.bound, of_its_own.bound_is_stale()), (Some(bound), false));

    // The next plan is made on the bound before, and stored with it.
    drive(&controller, &mut agents, |live| {
        live.in_force.as_ref().is_some_and(|in_force| in_force.plan.bound.is_some())
    })
    .await;
    let next = controller.live.borrow().in_force.clone().unwrap();
    assert!(next.plan.bound_is_stale(), "{:?}", next.plan.bound);
    assert_eq!(next.head.bound, next.plan.bound);
    let (stored, _) =
        controller::commit::read_plan(&controller.store, next.plan.generation).await.unwrap().unwrap();
    assert_eq!(stored.bound, next.plan.bound);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outlook_is_of_the_latest_round_for_all_sites_or_one() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let mut operator = controller.operator().await;
    let all = operator.get_outlook(GetOutlookRequest::default()).await.unwrap().into_inner();
    let site = all.sites[0].site.clone();
    let one = operator.get_outlook(GetOutlookRequest { site: site.clone() }).await.unwrap().into_inner();
    assert_eq!((all.sites.len(), one.sites.len(), &one.sites[0].site), (1, 1, &site));
    assert!(all.made.is_some() && all.generation > 0);
    // A round may have been made since.
    let round = {
        let live = controller.live.borrow();
        live.rounds.iter().find(|round| round.plan.generation == all.generation).cloned().unwrap()
    };
    let here = &all.sites[0];
    assert_eq!((here.power.len(), here.supply.len() % 3), (planner::outlook::HOURS, 0));
    assert_eq!(here.drains.len(), round.input.modules.len());
    let assumed = planner::Assumptions::default();
    let computed = planner::outlook(&round.input, &assumed, None).sites.into_values().next().unwrap();
    let sold: Vec<u32> = here.supply[0].hours.iter().map(|hour| hour.gpus.unwrap().p50).collect();
    let expected: Vec<u32> = computed.supply[0].hours.iter().map(|hour| hour.gpus.p50).collect();
    assert_eq!(sold, expected);
    let nobody = operator.get_outlook(GetOutlookRequest { site: "nowhere".into() }).await.unwrap_err();
    assert!(nobody.code() == Code::NotFound && nobody.message().contains("site list"), "{nobody}");
    let wrong = operator.get_outlook(GetOutlookRequest { site: "No Site".into() }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    controller.stop().await;
}
