//! Which spans are kept, whose trace they belong to, and what is said when nobody takes them. Over a real connection:
//! `controller/tests/otlp.rs`.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::error::OTelSdkError;
use tracing::subscriber::with_default;
use tracing::{error, info, info_span};
use tracing_subscriber::prelude::*;

use super::*;

/// An exporter that keeps what it gets, and refuses while it is told to.
#[derive(Clone, Debug, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<SpanData>>>,
    away: Arc<AtomicBool>,
}

impl Export for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.away.load(Ordering::Relaxed) {
            return Err(OTelSdkError::InternalFailure("away".into()));
        }
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// What is kept of what was traced, in the order in which it ended.
fn traced(sampler: Sampler, trace: impl FnOnce()) -> Vec<SpanData> {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(kept.clone())
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .build();
    with_default(tracing_subscriber::registry().with(vec![layer(&provider)]), trace);
    std::mem::take(&mut *kept.spans.lock().unwrap())
}

#[test]
fn flags_go_before_the_standards_variables_which_may_be_switched_off() {
    let check = |flag: Option<&str>, variables: &[(&str, &str)], expected: Option<&str>| {
        let flags = Flags { otlp_endpoint: flag.map(str::to_owned), otlp_sample: 1.0 };
        let found =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        assert_eq!(address(&flags, found).as_deref(), expected, "{flag:?} {variables:?}");
    };
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
    let off = ("OTEL_SDK_DISABLED", "true");
    check(None, &[], None);
    check(None, &[general], Some("http://all:4317"));
    check(None, &[general, traces], Some("http://traces:4317"));
    check(None, &[general, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")], Some("http://all:4317"));
    check(None, &[general, off], None);
    check(Some("http://flag:1"), &[general, off], Some("http://flag:1"));
}

#[test]
fn only_spans_of_our_target_are_kept_with_what_they_say_and_below_whom() {
    let spans = traced(Sampler::AlwaysOn, || {
        let round = info_span!(target: TARGET, "round", generation = tracing::field::Empty);
        round.in_scope(|| {
            info_span!(target: "h2", "a library's").in_scope(|| info!("a log line"));
            error!("another");
            info_span!(target: TARGET, "plan", sites = 3).in_scope(|| {});
        });
        round.record("generation", 7);
    });
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["plan", "round"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
    assert_eq!(spans[1].parent_span_id, SpanId::INVALID);
    let said = |span: &SpanData| -> Vec<String> {
        span.attributes.iter().map(|said| format!("{}={}", said.key, said.value)).collect()
    };
    assert_eq!((said(&spans[0]), said(&spans[1])), (vec!["sites=3".into()], vec!["generation=7".into()]));
    assert!(spans.iter().all(|span| span.events.is_empty()), "log lines are no part of them");
}

#[test]
fn a_request_goes_by_the_trace_it_came_with_and_what_is_asked_of_others_too() {
    // W3C Trace Context's own example.
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let check = |sampler: Sampler, header: Option<&str>, kept: bool, joined: bool| {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("traceparent", header.parse().unwrap());
        }
        let mut carried_on = HeaderMap::new();
        let spans = traced(sampler, || {
            let span = info_span!(target: TARGET, "request");
            adopt(&span, &headers);
            carried_on = carried(&span);
        });
        assert_eq!(spans.len(), usize::from(kept), "{header:?}");
        let trace = TraceId::from_hex(TRACE).unwrap();
        assert!(spans.iter().all(|span| (span.span_context.trace_id() == trace) == joined), "{header:?}");
        let parent = carried_on["traceparent"].to_str().unwrap();
        assert_eq!((parent.contains(TRACE), parent.ends_with("-01")), (joined, kept), "{parent}");
    };
    let header = |flags: &str| format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    check(Sampler::AlwaysOn, None, true, false);
    check(Sampler::AlwaysOff, None, false, false);
    check(Sampler::AlwaysOff, Some(&header("01")), true, true);
    check(Sampler::AlwaysOn, Some(&header("00")), false, true);
    check(Sampler::AlwaysOn, Some("nonsense"), true, false);
}

#[test]
fn a_span_that_nobody_takes_carries_nothing_on() {
    let span = info_span!(target: TARGET, "request");
    assert!(span.is_disabled() && carried(&span).is_empty());
}

/// Lines of the log, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_receiver_that_is_away_is_told_once_and_that_it_is_back_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let kept = Kept::default();
    let told = Told::new(kept.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let span = traced(Sampler::AlwaysOn, || drop(info_span!(target: TARGET, "a span")));
    with_default(log, || {
        for away in [false, true, true, true, false, false, true] {
            kept.away.store(away, Ordering::Relaxed);
            let outcome = runtime.block_on(told.export([span.clone(), span.clone()].concat()));
            assert_eq!(outcome.is_err(), away);
        }
    });
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].contains("not taken") && lines[0].contains("away"), "{log}");
    assert!(lines[1].contains("taken again") && lines[1].contains("lost=6"), "{log}");
    assert!(lines[2].contains("not taken"), "{log}");
    assert_eq!(kept.spans.lock().unwrap().len(), 6);
}

#[test]
fn whose_spans_they_are_is_said() {
    let source = Source { service: "flareshift-agent", instance: "m1".into(), version: "0.1.0" };
    let resource = resource(source);
    let said = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(said("service.instance.id").as_deref(), Some("m1"));
    assert_eq!(said("service.version").as_deref(), Some("0.1.0"));
    // A variable of this machine may say otherwise.
    if std::env::vars().all(|(name, _)| !name.starts_with("OTEL_")) {
        assert_eq!(said("service.name").as_deref(), Some("flareshift-agent"));
    }
}
