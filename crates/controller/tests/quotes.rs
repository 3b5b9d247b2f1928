//! Quotes and admission of a real controller: the same answer twice, promises that are judged or overridden, and no view of others.

use api::common::{StartInterval, Tier, WorkloadOrder};
use api::convert::field::wire_span;
use api::operator::{
    AdmissionOverride, ExplainPlanRequest, GetQuoteRequest, GetWorkloadRequest, SubmitWorkloadRequest,
};
use controller::live::Live;
use controller::run::Options;
use model::workload::{Grounds, Workload};
use model::{MicroDollars, Span};
use serde_json::json;
use tonic::Code;

use crate::harness::{Agent, Controller, Dir, HandClock, drive};
use crate::rest::{Rest, problem};

/// A controller with a plan of a fleet whose firm offering promises `level` thousandths.
async fn planned(dir: &Dir, level: u32) -> (Controller, [Agent; 2]) {
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let adjust = |options: &mut Options| {
        options.fleet.offerings[1].sla_permille = level;
        // Where gas costs nothing and is plenty, nor does power.
        options.fleet.sites[0].gas_price = MicroDollars::dollars(2);
    };
    let controller = Controller::start(dir, store, HandClock::new(), adjust).await;
    controller.knows_the_fleet().await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| live.published.len() == 2 && knows_the_plant(live)).await;
    (controller, agents)
}

/// The latest plan was made on reports of every module.
fn knows_the_plant(live: &Live) -> bool {
    live.round().is_some_and(|round| {
        let modules = round.input.modules.values().all(|module| module.report.is_some());
        modules && round.input.sites.values().all(|site| site.report.is_some())
    })
}

fn question(tier: Tier, gpus: u32, hours: i64) -> GetQuoteRequest {
    GetQuoteRequest {
        gpus,
        tier: tier.into(),
        term: wire_span(Span::hours(hours)),
        ..GetQuoteRequest::default()
    }
}

fn order(offering: &str, gpus: u32) -> SubmitWorkloadRequest {
    let order = WorkloadOrder { offering: offering.into(), gpus, ..WorkloadOrder::default() };
    SubmitWorkloadRequest { tenant: "acme".into(), order: Some(order), ..SubmitWorkloadRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_has_the_same_answer_until_somebody_orders() {
    let dir = Dir::new();
    let (controller, _agents) = planned(&dir, 850).await;
    controller.tenant("acme", 64).await;
    let mut operator = controller.operator().await;
    let mut ask = async |question| operator.get_quote(question).await.unwrap().into_inner();
    let first = ask(question(Tier::OnDemand, 8, 24)).await;
    assert!(first.offered, "{first:?}");
    assert_eq!((first.gpu.as_str(), first.site.as_str(), first.level_permille), ("h100", "well-7", 0));
    let odds = first.odds.unwrap();
    let interrupted = odds.interrupted.unwrap();
    assert!((10_000..400_000).contains(&interrupted.ppm) && interrupted.error_ppm > 0, "{interrupted:?}");
    assert!(first.price.unwrap().gpu_hour_micro_dollars > 0);
    let now = StartInterval { earliest_hours: Some(0), median_hours: Some(0), latest_hours: Some(0) };
    assert_eq!(first.start, Some(now));
    let valid = first.valid_until.unwrap().seconds - first.made.unwrap().seconds;
    assert_eq!((valid, first.revision.len()), (300, 64));
    assert_eq!(ask(question(Tier::OnDemand, 8, 24)).await, first);
    let mut ordering = controller.operator().await;
    ordering.submit_workload(order("h100-on-demand", 8)).await.unwrap();
    let after = ask(question(Tier::OnDemand, 8, 24)).await;
    assert_ne!(after.revision, first.revision, "what was ordered since counts");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_question_names_its_field() {
    let dir = Dir::new();
    let (controller, _agents) = planned(&dir, 995).await;
    let mut operator = controller.operator().await;
    let good = question(Tier::Firm, 8, 24);
    let mut check = async |question: GetQuoteRequest, expected: &str| {
        let refused = operator.get_quote(question).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().starts_with(expected), "{refused}");
    };
    check(GetQuoteRequest { gpus: 0, ..good.clone() }, "gpus: expected 1 to 1024").await;
    check(GetQuoteRequest { gpus: 1_025, ..good.clone() }, "gpus: expected 1 to 1024").await;
    check(GetQuoteRequest { gpu: "b200".into(), ..good.clone() }, "gpu: expected one of h100").await;
    check(question(Tier::Firm, 8, 0), "term: expected more than zero and at most 90 days").await;
    check(question(Tier::Firm, 8, 10 * 365 * 24), "term: expected").await;
    check(GetQuoteRequest { term: None, ..good.clone() }, "term: expected a value").await;
    check(question(Tier::Unspecified, 8, 24), "tier: expected").await;
    check(GetQuoteRequest { level_permille: Some(1_000), ..good.clone() }, "level_permille: expected").await;
    let early = wire_span(Span::hours(23));
    check(GetQuoteRequest { deadline: early, ..good }, "deadline: expected the term or more").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_plan_there_is_no_quote_and_no_promise() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    controller.tenant("acme", 64).await;
    let mut operator = controller.operator().await;
    let refused = operator.get_quote(question(Tier::Firm, 8, 24)).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("no plan"), "{refused}");
    let refused = operator.submit_workload(order("h100-firm", 8)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    operator.submit_workload(order("h100-on-demand", 8)).await.unwrap();
    controller.stop().await;
}

/// One well cannot promise 99.5 % of a month.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_that_does_not_hold_is_refused_with_what_would_be_possible() {
    let dir = Dir::new();
    let (controller, _agents) = planned(&dir, 995).await;
    let key = controller.tenant("acme", 64).await;
    let mut operator = controller.operator().await;
    let refused = operator.submit_workload(order("h100-firm", 8)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for word in
        ["not admitted", "one well, dry 8.0 % of days", "8 GPUs on-demand on well-7", "--override WHY"]
    {
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    let quote = operator.get_quote(question(Tier::Firm, 8, 720)).await.unwrap().into_inner();
    assert!(!quote.offered && quote.nothing_firm.is_some(), "{quote:?}");
    assert_eq!(quote.refused.unwrap().code, "level");
    assert_eq!(quote.level_permille, 995, "the offering's");

    // The tenant is told as much, and nothing of wells, sites or least prices.
    let rest = Rest::new(&controller);
    let answer = rest.post("/v1/workloads", &key, json!({"offering": "h100-firm", "gpus": 8})).await;
    problem(&answer, 412, "precondition", "possible instead: 8 GPUs under h100-on-demand at $2.9500");
    let detail = answer.body["detail"].as_str().unwrap();
    for word in ["well", "override", "site"] {
        assert!(!detail.contains(word), "{word}: {detail}");
    }
    assert_eq!(rest.get("/v1/workloads", &key).await.body["workloads"], json!([]), "nothing was stored");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_admitted_stands_in_the_record_and_counts_for_the_next() {
    let dir = Dir::new();
    let (controller, mut agents) = planned(&dir, 800).await;
    controller.tenant("acme", 64).await;
    let mut operator = controller.operator().await;
    let made = operator.submit_workload(order("h100-firm", 8)).await.unwrap().into_inner();
    let stored: Workload = made.clone().try_into().unwrap();
    let promise = stored.promise.unwrap();
    assert_eq!((promise.level, promise.price), (800, stored.spec.price));
    let Grounds::Holds { expected_ppm, least_price } = promise.grounds else { panic!("{promise:?}") };
    assert!((800_000..1_000_000).contains(&expected_ppm), "{expected_ppm}");
    assert!(least_price.get() > 0);
    // It counts at once, before any plan knows it.
    let next = operator.get_quote(question(Tier::Firm, 8, 24)).await.unwrap().into_inner();
    assert_eq!(next.promises.iter().map(|kept| &kept.workload).collect::<Vec<_>>(), [&made.id]);
    assert_eq!(next.promises[0].level_ppm, 800_000);
    drive(&controller, &mut agents, |live| {
        live.events.iter().any(|event| event.what.starts_with("admitted: 80.00 % promised"))
            && live.round().is_some_and(|round| round.input.workloads.contains_key(&stored.id))
    })
    .await;
    let seen = GetWorkloadRequest { workload: made.id.clone() };
    let seen = operator.get_workload(seen).await.unwrap().into_inner();
    assert_eq!(seen.promise, made.promise);
    let prospect = seen.prospect.expect("the plan knows it");
    assert!(prospect.interrupted.is_some_and(|estimate| estimate.ppm > 0), "{prospect:?}");
    assert_eq!((prospect.start, prospect.notice), (None, wire_span(Span::minutes(2))));
    let kind = Some(api::common::subject::Kind::Workload(made.id.clone()));
    let explain = ExplainPlanRequest { generation: 0, subject: Some(api::common::Subject { kind }) };
    let told = operator.explain_plan(explain).await.unwrap().into_inner();
    let exposure = format!("credit exposure of {}: $", made.id);
    assert!(told.operator_lines.iter().any(|line| line.starts_with(&exposure)), "{told:?}");
    assert!(told.tenant_lines.iter().all(|line| !line.contains('$')), "{told:?}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_give_the_promise_all_the_same_and_it_is_recorded() {
    let dir = Dir::new();
    // Nobody reported, so there is no plan that the model could be asked on.
    let controller = Controller::leading(&dir).await;
    let key = controller.tenant("acme", 64).await;
    let mut operator = controller.operator().await;
    let with = |by: &str, why: &str| {
        let given = AdmissionOverride { by: by.into(), why: why.into() };
        SubmitWorkloadRequest { admission_override: Some(given), ..order("h100-firm", 8) }
    };
    for (by, why, field) in [("", "a trial", "by"), ("ada", " ", "why")] {
        let refused = operator.submit_workload(with(by, why)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(&format!("admission_override.{field}")), "{refused}");
    }
    let made = operator.submit_workload(with("ada", "a trial")).await.unwrap().into_inner();
    let stored: Workload = made.clone().try_into().unwrap();
    let (by, why) = ("ada".to_owned(), "a trial".to_owned());
    assert_eq!(stored.promise.unwrap().grounds, Grounds::Override { by, why });
    let told = "admitted by ada without asking the model: 99.50 % promised: a trial";
    controller.until(|live| live.events.iter().any(|event| event.what == told)).await;
    // What promises nothing needs no override and records none.
    let plain = SubmitWorkloadRequest { admission_override: None, ..order("h100-on-demand", 8) };
    assert_eq!(operator.submit_workload(plain).await.unwrap().into_inner().promise, None);
    // Its tenant sees the level and not who gave it.
    let seen = Rest::new(&controller).get(&format!("/v1/workloads/{}", made.id), &key).await;
    assert_eq!((seen.status, &seen.body["promised_permille"]), (200, &json!(995)));
    assert!(!seen.body.to_string().contains("ada"), "{}", seen.body);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_asks_over_rest_and_grpc_and_sees_nothing_of_others() {
    let dir = Dir::new();
    let (controller, mut agents) = planned(&dir, 995).await;
    let (acme, umbra) = (controller.tenant("acme", 64).await, controller.tenant("umbra", 128).await);
    let rest = Rest::new(&controller);
    let mut operator = controller.operator().await;
    let given = AdmissionOverride { by: "ada".into(), why: "a trial".into() };
    let foreign = SubmitWorkloadRequest { admission_override: Some(given), ..order("h100-firm", 64) };
    let foreign = operator.submit_workload(foreign).await.unwrap().into_inner();
    drive(&controller, &mut agents, |live| {
        live.round().is_some_and(|round| round.input.workloads.len() == 1)
    })
    .await;
    let asked = json!({"offering": "h100-firm", "gpus": 8, "term_seconds": 86_400});
    let quote = rest.post("/v1/quotes", &umbra, asked).await;
    assert_eq!(quote.status, 200, "{}", quote.body);
    let body = quote.body.to_string();
    for word in [foreign.id.as_str(), "acme", "well-7", "m1", "least", "displaced"] {
        assert!(!body.contains(word), "{word}: {body}");
    }
    assert_eq!(quote.body["price_micro_dollars_per_gpu_hour"], 3_950_000, "the list price");
    assert_eq!(quote.body["offered"], quote.body["refused"].is_null());
    let mut client =
        api::tenant::tenant_service_client::TenantServiceClient::connect(controller.grpc.clone())
            .await
            .unwrap();
    let mut request = tonic::Request::new(api::tenant::GetQuoteRequest {
        offering: "h100-firm".into(),
        gpus: 8,
        term: wire_span(Span::hours(24)),
        deadline: None,
        kilowatts: None,
    });
    let bearer = format!("Bearer {umbra}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let same = client.get_quote(request).await.unwrap().into_inner();
    assert_eq!(quote.body["revision"], same.revision);
    assert_eq!(quote.body["interrupted"]["ppm"], same.interrupted.unwrap().ppm);

    // What waits is told when it would start, and what would start it sooner.
    let waits = rest.post("/v1/workloads", &umbra, json!({"offering": "h100-on-demand", "gpus": 100})).await;
    let id = waits.body["id"].as_str().unwrap().to_owned();
    drive(&controller, &mut agents, |live| {
        live.round().is_some_and(|round| round.input.workloads.len() == 2)
    })
    .await;
    let seen = rest.get(&format!("/v1/workloads/{id}"), &umbra).await;
    assert_eq!((seen.status, &seen.body["phase"]), (200, &json!("pending")), "{}", seen.body);
    assert_eq!(seen.body["prospect"]["ahead_seconds"], 72 * 3_600);
    assert_eq!(seen.body["prospect"]["notice_seconds"], 120);
    assert!(seen.body["prospect"]["interrupted"].is_null(), "what waits is not interrupted");

    let post = async |body: serde_json::Value| rest.post("/v1/quotes", &acme, body).await;
    let ask = |offering: &str, gpus: i64, term: i64| json!({"offering": offering, "gpus": gpus, "term_seconds": term});
    problem(&post(ask("h100-firm", 0, 3_600)).await, 400, "invalid", "gpus");
    problem(&post(ask("b200", 1, 3_600)).await, 400, "invalid", "offering");
    problem(&post(ask("h100-firm", 1, 0)).await, 400, "invalid", "term");
    problem(&post(ask("h100-firm", 1, 315_360_000)).await, 400, "invalid", "term");
    problem(&post(ask("h100-firm", 1, i64::MAX)).await, 400, "invalid", "term");
    problem(&post(json!({"offering": "h100-firm", "gpus": 1})).await, 400, "invalid", "term_seconds");
    problem(&rest.call("/v1/quotes", None, Some("{}".into())).await, 401, "unauthenticated", "Authorization");
    controller.stop().await;
}
