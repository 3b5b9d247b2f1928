//! Agents: hello and its refusals, plans and directives, the ledger.

use api::agent::agent_message::Kind as Up;
use api::agent::controller_message::Kind as Down;
use api::agent::{self as wire, RefusalCode};
use api::operator::{GetStatusRequest, ListPlansRequest};
use controller::context::Tuning;
use model::ledger::{Line, Run, Segment};
use model::time::Clock as _;
use model::workload::{GpuTime, Phase};
use model::{MicroDollars, Span, TenantId, Time, WorkloadId};
use tokio::sync::watch;

use crate::harness::{Agent, Controller, Dir, HandClock, drive, open};

async fn refusal(controller: &Controller, module: &str, simulated: bool) -> (RefusalCode, String) {
    let (_up, mut down) = open(controller, module, simulated).await;
    let first = down.message().await.unwrap().unwrap().kind;
    let Some(Down::Refusal(refusal)) = first else { panic!("{first:?}") };
    assert!(down.message().await.unwrap().is_none(), "the stream ends");
    (refusal.code(), refusal.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_nobody_knows_is_refused_with_what_to_do() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let (code, message) = refusal(&controller, "m9", true).await;
    assert_eq!(code, RefusalCode::UnknownModule);
    assert!(message.contains("m9") && message.contains("add it to the fleet file"), "{message}");
    let (code, message) = refusal(&controller, "Bad Name", true).await;
    assert_eq!(code, RefusalCode::Malformed);
    assert!(message.contains("hello.module"), "{message}");
    let (code, _) = refusal(&controller, "m1", false).await;
    assert_eq!(code, RefusalCode::Simulated);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_for_real_sites_refuses_a_simulated_plant() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let controller =
        Controller::start(&dir, store, HandClock::new(), |options| options.accept_simulated = false).await;
    controller.knows_the_fleet().await;
    let (code, message) = refusal(&controller, "m1", true).await;
    assert_eq!(code, RefusalCode::Simulated);
    assert!(message.contains("--accept-simulated"), "{message}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_report_a_plan_is_made_and_each_is_told_its_part() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    let mut commits = controller.handle.commits();
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let committed = commits.recv().await.unwrap();
    let again = planner::plan(&committed.round.input).plan;
    let found = controller::observe::digest(&committed.round.input).unwrap();
    assert_eq!(committed.round.plan.input, found);
    assert_eq!(model::plan::Plan { input: found, ..again }, *committed.round.plan);
    drive(&controller, &mut agents, |live| {
        let fits = |agent: &model::ModuleId| {
            let report = live.tracker.report(agent);
            report.is_some_and(|report| report.envelope.generation == live.book.generation(agent))
        };
        live.published.keys().all(fits)
    })
    .await;
    for agent in &agents {
        let directive = agent.directive.as_ref().unwrap();
        assert_eq!(directive.envelope.module, agent.module);
        assert!(directive.envelope.fence.leader > 0 && directive.envelope.fence.epoch == 1);
        let live = controller.live.borrow();
        assert!(directive.envelope.grant.ceiling <= live.book.granted(&agent.module));
        // Sets are the business of the wired module alone.
        assert_eq!(directive.gensets.is_empty(), agent.module.as_str() != "m1");
    }
    let status =
        controller.operator().await.get_status(GetStatusRequest { decisions: 0 }).await.unwrap().into_inner();
    assert!(status.plan.is_some() && status.leadership.unwrap().is_me);
    assert_eq!((status.sites.len(), status.modules.len()), (1, 2));
    assert_eq!(status.modules[0].link(), api::operator::Link::Online);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_envelope_is_renewed_without_a_write() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    // The wired module has to speak too: nothing is sent on a plan that knew nothing of the island.
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.contains_key(&agents_id())).await;
    let told = |controller: &Controller| {
        let live = controller.live.borrow();
        (live.book.generation(&agents_id()), live.published[&agents_id()].sent)
    };
    let version = async || controller.store.get(&store::key::grant("m2")).await.unwrap().unwrap().version;
    let mut renewed = false;
    // The first envelopes change as the island fills up; after that they are renewed.
    for _ in 0..20 {
        let (before, written) = (told(&controller), version().await);
        drive(&controller, &mut agents, |live| live.published[&agents_id()].sent > before.1).await;
        if told(&controller).0 == before.0 {
            assert_eq!(version().await, written, "a renewal writes nothing");
            renewed = true;
        }
    }
    assert!(renewed, "no envelope was renewed");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directive_that_is_not_taken_is_told_again_and_shown_until_it_is() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let told = async || {
        let status = controller.operator().await.get_status(GetStatusRequest { decisions: 0 }).await;
        let module = status.unwrap().into_inner().modules.remove(1);
        assert_eq!(module.module, "m2");
        module.findings.into_iter().find(|finding| finding.code == "directive_not_taken")
    };
    let mut shown = None;
    for _ in 0..60 {
        controller.clock.advance(Span::secs(1));
        // It forgets what it is told: whatever it persists gets lost.
        agents[1].directive = None;
        for agent in &mut agents {
            agent.report(&controller.clock).await;
        }
        shown = told().await.filter(|finding| !finding.message.contains("told again 0 times"));
        if shown.is_some() {
            break;
        }
    }
    let shown = shown.expect("it is told again, and that is shown");
    assert!(shown.message.contains("holds directive 0 and not"), "{}", shown.message);
    drive(&controller, &mut agents, |live| {
        live.drifts.finding(&agents_id(), controller.clock.now()).is_none()
    })
    .await;
    assert_eq!(told().await, None);
    controller.stop().await;
}

fn agents_id() -> model::ModuleId {
    model::ModuleId::new("m2").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_agent_says_beside_is_passed_over() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agent = Agent::connect(&controller, "m1").await;
    // What a kind that this version does not know decodes to.
    agent.send_unknown().await;
    agent.report(&controller.clock).await;
    controller.until(|live| live.tracker.report(&agent.module).is_some()).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_of_a_module_ends_the_first() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut first = Agent::connect(&controller, "m1").await;
    let _second = Agent::connect(&controller, "m1").await;
    let Some(Down::Refusal(refusal)) = first.next().await else { panic!("no refusal") };
    assert_eq!(refusal.code(), RefusalCode::Superseded);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_fails_its_check_is_refused_and_the_old_one_stays() {
    fn sometimes_wrong(input: &planner::Input) -> planner::Planned {
        let mut planned = planner::plan(input);
        if input.parent.as_ref().is_some_and(|parent| parent.generation >= 1) {
            planned.plan.parent = Some(77);
        }
        planned
    }
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let controller =
        Controller::start(&dir, store, HandClock::new(), |options| options.planner = sometimes_wrong).await;
    controller.knows_the_fleet().await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.refused > 0).await;
    let plans =
        controller.operator().await.list_plans(ListPlansRequest::default()).await.unwrap().into_inner();
    let kept: Vec<(u64, bool)> = plans.plans.iter().map(|plan| (plan.generation, plan.in_force)).collect();
    assert_eq!(kept, [(1, true)]);
    let status =
        controller.operator().await.get_status(GetStatusRequest { decisions: 0 }).await.unwrap().into_inner();
    assert!(status.findings.iter().any(|finding| finding.code == "lineage"), "{:?}", status.findings);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_placed_started_and_after_its_cancellation_stopped() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    controller.tenant("acme", 16).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2).await;
    let mut operator = controller.operator().await;
    let order =
        api::common::WorkloadOrder { offering: "h100-on-demand".into(), gpus: 8, ..Default::default() };
    let submit = api::operator::SubmitWorkloadRequest {
        tenant: "acme".into(),
        order: Some(order),
        request_id: String::new(),
        admission_override: None,
    };
    let made = operator.submit_workload(submit).await.unwrap().into_inner();
    let id = WorkloadId::new(&made.id).unwrap();
    drive(&controller, &mut agents, |live| {
        live.workloads.get(&id).is_some_and(|workload| workload.status.phase == Phase::Running)
    })
    .await;
    let cancel = api::operator::CancelWorkloadRequest { workload: made.id.clone(), ..Default::default() };
    operator.cancel_workload(cancel).await.unwrap();
    drive(&controller, &mut agents, |live| !live.workloads.contains_key(&id)).await;
    let mut cache = controller.handle.context().cache.clone();
    let ended = cache.wait_for(|cache| cache.workloads[&id].value.status.phase == Phase::Cancelled);
    tokio::time::timeout(crate::harness::PATIENCE, ended).await.unwrap().unwrap();
    assert!(agents.iter().all(|agent| agent.directive.as_ref().unwrap().runs.is_empty()));
    controller.stop().await;
}

fn segment(sequence: u64) -> Up {
    let run = Run {
        tenant: TenantId::new("acme").unwrap(),
        workload: WorkloadId::new("w-1").unwrap(),
        incarnation: 1,
        from: Time(0),
        to: Time(3_600_000),
        held: GpuTime::of(1, Span::hours(1)),
        progress: GpuTime::of(1, Span::hours(1)),
        price: MicroDollars::dollars(2),
        by_progress: false,
    };
    let module = model::ModuleId::new("m1").unwrap();
    let (from, to) = (Time(0), Time(3_600_000));
    let segment = Segment { module, sequence, from, to, lines: vec![Line::Run(run)] };
    let sha256 = vec![u8::try_from(sequence).unwrap(); 32];
    Up::LedgerSegment(wire::LedgerSegment { segment: Some(segment.into()), sha256 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_takes_each_segment_once_and_refuses_a_gap() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agent = Agent::connect(&controller, "m1").await;
    for (sequence, acknowledged) in [(1, 1), (2, 2), (1, 2), (2, 2)] {
        agent.send(segment(sequence)).await;
        let Some(Down::LedgerAck(ack)) = agent.next().await else { panic!("no acknowledgement") };
        assert_eq!(ack.sequence, acknowledged, "segment {sequence}");
    }
    agent.send(segment(5)).await;
    let Some(Down::Refusal(refusal)) = agent.next().await else { panic!("no refusal") };
    assert_eq!(refusal.code(), RefusalCode::LedgerGap);
    let tenant = TenantId::new("acme").unwrap();
    let usage = controller::tenant::usage(controller.handle.context(), &tenant, None, None).unwrap();
    assert_eq!(usage.cost(), MicroDollars::dollars(4));
    // The watermark is told in the next hello.
    let (_up, mut down) = open(&controller, "m1", true).await;
    let Some(Down::Welcome(welcome)) = down.message().await.unwrap().unwrap().kind else {
        panic!("no welcome")
    };
    assert_eq!(welcome.ledger_watermark, 2);
    controller.stop().await;
}

/// For how many seconds an agent that says hello now may be silent.
async fn allowed(controller: &Controller, module: &str) -> Option<i64> {
    let (_up, mut down) = open(controller, module, true).await;
    let Some(Down::Welcome(welcome)) = down.message().await.unwrap().unwrap().kind else {
        panic!("no welcome")
    };
    welcome.quiet.map(|quiet| quiet.seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_may_be_silent_stays_online_and_says_only_that_its_report_holds() {
    let dir = Dir::new();
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let quiet = |seconds| Tuning { quiet: Span::secs(seconds), ..Tuning::default() };
    let (tune, tuning) = watch::channel(quiet(8));
    let controller =
        Controller::start(&dir, store, HandClock::new(), |options| options.tuning = tuning).await;
    controller.knows_the_fleet().await;
    assert_eq!(allowed(&controller, "m2").await, Some(8));

    let mut agent = Agent::connect(&controller, "m1").await;
    agent.report(&controller.clock).await;
    controller.until(|live| live.tracker.report(&agent.module).is_some()).await;
    // Three seconds make it stale where each report is sent.
    controller.clock.advance(Span::secs(8));
    let link = |live: &controller::live::Live| live.tracker.link(&agent.module, controller.clock.now());
    assert_eq!(link(&controller.live.borrow()), planner::Link::Online);
    // Another setting counts for sessions that begin; this one keeps what it was told.
    tune.send_replace(quiet(0));
    assert_eq!(allowed(&controller, "m2").await, None);
    tune.send_replace(quiet(20));
    assert_eq!(allowed(&controller, "m2").await, Some(20));
    assert_eq!(link(&controller.live.borrow()), planner::Link::Online);
    let whole = controller.live.borrow().tracker.report(&agent.module).unwrap().clone();
    let mut stamp = whole.stamp.clone();
    stamp.at += Span::secs(8);
    let at = api::convert::field::wire_time(controller.clock.now());
    let unchanged =
        wire::Unchanged { sequence: 2, stamp: Some(stamp.clone().into()), at, meter_watts: Some(30_200) };
    agent.send(Up::Unchanged(unchanged)).await;
    controller.until(|live| live.tracker.report(&agent.module).is_some_and(|r| r.sequence == 2)).await;
    let now = controller.live.borrow().tracker.report(&agent.module).unwrap().clone();
    assert_eq!((now.stamp, now.meter), (stamp, Some(model::Watts::new(30_200))));
    let set =
        |site: &Option<model::report::SiteReport>| *site.as_ref().unwrap().gensets.values().next().unwrap();
    assert_eq!(set(&now.site).for_span, set(&whole.site).for_span + Span::secs(8));
    assert_eq!((now.runs, now.envelope), (whole.runs, whole.envelope));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_unchanged_before_a_report_came_whole() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let mut agent = Agent::connect(&controller, "m1").await;
    agent.send(Up::Unchanged(wire::Unchanged { sequence: 1, ..Default::default() })).await;
    let Some(Down::Refusal(refusal)) = agent.next().await else { panic!("no refusal") };
    assert_eq!(refusal.code(), RefusalCode::Malformed);
    assert!(refusal.message.contains("before a report came whole"), "{}", refusal.message);
    controller.stop().await;
}
