//! How orders are drawn from a trace.

use backtest::demand::{Demand, Job, LONGEST, Wanted, orders};
use backtest::{synthetic, world};
use model::workload::{GpuTime, Tier};
use model::{Span, Time};

use crate::scene::START;

fn wanted(load_permille: i64, gpus: (u32, u32), days: usize) -> Wanted {
    Wanted { seed: 11, load_permille, gpus, start: START, days }
}

fn job(hour: i64, gpus: u32, minutes: i64) -> Job {
    Job { at: Span::hours(hour), gpus, length: Span::minutes(minutes), tier: Tier::Spot }
}

fn check_load(load_permille: i64, gpus: (u32, u32)) {
    let days = 300;
    let Demand { orders, gangs_drawn, .. } =
        orders(&synthetic::jobs(2), &wanted(load_permille, gpus, days)).unwrap();
    let asked: GpuTime = orders.iter().map(|order| order.amount).sum();
    let offered = GpuTime::of(gpus.0, Span::hours(24)).times(days as i64);
    let load = asked.as_f64() / offered.as_f64() * 1_000.0 / load_permille as f64;
    // Ten thousands of jobs with a heavy tail: a tenth is some three standard errors.
    assert!((0.9..1.1).contains(&load), "{load} of {load_permille} ‰ on {gpus:?}");
    assert!(gangs_drawn && orders.iter().all(|order| (1..=gpus.1).contains(&order.gpus)));
    assert!(orders.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let end = START + Span::hours(24).times(days as i64);
    assert!(orders.iter().all(|order| (START..end).contains(&order.at)));
}

#[test]
fn the_load_is_the_share_of_the_fleet_that_was_asked_for() {
    check_load(600, (384, 128));
    check_load(900, (384, 128));
    check_load(1_200, (384, 128));
    check_load(900, (64, 32));
    check_load(900, (1_000, 8));
}

#[test]
fn a_trace_with_gangs_keeps_them_as_far_as_they_fit() {
    let trace: Vec<Job> = (0..40).map(|n| job(n % 24, if n % 2 == 0 { 4 } else { 64 }, 30)).collect();
    let drawn = orders(&trace, &wanted(900, (256, 32), 5)).unwrap();
    assert!(!drawn.gangs_drawn);
    assert!(drawn.orders.iter().all(|order| order.gpus == 4 || order.gpus == 32));
}

#[test]
fn months_are_cut_to_a_week_and_nearly_empty_days_are_not_drawn() {
    let mut trace: Vec<Job> = (0..30).map(|_| job(24 * 9 + 3, 2, 60)).collect();
    trace.push(job(1, 2, 60 * 24 * 90));
    let drawn = orders(&trace, &wanted(500, (64, 64), 3)).unwrap();
    assert_eq!((drawn.days, drawn.cut), (1, 1));
    assert!(drawn.orders.iter().all(|order| order.amount <= GpuTime::of(order.gpus, Span::hours(1))));
    let alone = orders(&trace[30..], &wanted(900, (64, 64), 3)).unwrap();
    assert_eq!(alone.days, 1, "where no day has enough, those with any are drawn");
    assert!(alone.orders.iter().all(|order| order.amount <= GpuTime::of(64, LONGEST)));
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let error = |trace: &[Job], gpus| orders(trace, &wanted(900, gpus, 3)).unwrap_err();
    assert_eq!(error(&[], (8, 8)), world::Error::NoJobs);
    assert_eq!(error(&[job(0, 0, 60)], (8, 8)), world::Error::NoJobs);
    assert_eq!(error(&[job(0, 1, 60)], (0, 0)), world::Error::NoGpus);
    assert!(orders(&[job(0, 1, 60)], &Wanted { start: Time(0), ..wanted(900, (8, 8), 3) }).is_ok());
}
