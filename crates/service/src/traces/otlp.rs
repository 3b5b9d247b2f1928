//! Spans on their way: `tracing`'s layer → a bounded queue → a thread of OpenTelemetry's → gRPC, on a runtime of its own.
//!
//! Nothing of the service waits for it: a full queue drops spans, a receiver that is away costs what was to be sent and one log line, and
//! at the end it gets [`LAST`]. Its runtime is its own, since spans end, and are still to be sent, after the service's has gone.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter as Export,
};
use tonic::transport::Endpoint;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use super::{Flags, Source, TARGET, Traces, check_address};
use crate::log::{self, Log};

/// Spans that wait to be sent: at about 1 KiB each 4 MiB, and ten minutes of a controller that plans every second.
const QUEUE: usize = 4_096;
/// Spans in one message: half a MiB, of the 4 MiB that receivers of gRPC take.
const BATCH: usize = 512;
/// A batch that is not full is sent after this.
const EVERY: Duration = Duration::from_secs(2);
/// A connection that is not there by then counts as none.
const CONNECT: Duration = Duration::from_secs(3);
/// A message that is not answered by then is given up.
const ANSWER: Duration = Duration::from_secs(5);
/// What is left when the service ends is sent within this.
const LAST: Duration = Duration::from_secs(2);
/// Variables that name a receiver by OpenTelemetry's own rules; the first that says something counts. They hold for every program of a
/// machine, so what cannot be used of them is told and does not keep a service from starting.
const STANDARD: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Where spans go.
pub(super) struct Pipeline {
    provider: SdkTracerProvider,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Why there is no pipeline.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Address(#[from] super::Error),
    #[error("the exporter cannot be made ({0})")]
    Exporter(String),
    #[error("no thread for the exporter can be started")]
    Thread(#[source] std::io::Error),
}

/// What the log's registry takes in beside log lines.
type Spans = Box<dyn Layer<Registry> + Send + Sync>;

pub(super) fn begin(flags: &Flags, logging: &log::Flags, source: Source) -> (Log, Traces) {
    let Some(address) = address(flags, |name| std::env::var(name).ok()) else {
        return (log::init(logging), Traces { pipeline: None });
    };
    match start(&address, flags.otlp_sample, source) {
        Ok((pipeline, spans)) => {
            let log = log::begin(logging, vec![spans]);
            tracing::info!(address, share = flags.otlp_sample, "traces are sent");
            (log, Traces { pipeline: Some(pipeline) })
        }
        Err(error) => {
            let log = log::init(logging);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(address, error, "no traces are sent; the service goes on without them");
            (log, Traces { pipeline: None })
        }
    }
}

/// Where spans go: by the flags, else by the standard's variables.
fn address(flags: &Flags, environment: impl Fn(&str) -> Option<String>) -> Option<String> {
    let said = |name: &str| environment(name).filter(|value| !value.is_empty());
    let disabled = said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let standard = || STANDARD.into_iter().find_map(said).filter(|_| !disabled);
    flags.otlp_endpoint.clone().or_else(standard)
}

/// Whose spans they are: what the standard's variables say of it goes before ours.
fn resource(source: Source) -> Resource {
    let detectors: [Box<dyn ResourceDetector>; 2] =
        [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
    let resource = Resource::builder_empty()
        .with_service_name(source.service)
        .with_attribute(KeyValue::new("service.version", source.version))
        .with_attribute(KeyValue::new("service.instance.id", source.instance))
        .with_detectors(&detectors);
    match std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

fn start(address: &str, sample: f64, source: Source) -> Result<(Pipeline, Spans), Error> {
    check_address(address)?;
    let unusable = |error: &dyn fmt::Display| Error::Exporter(error.to_string());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        runtime.worker_threads(1).thread_name("otlp").enable_all().build().map_err(Error::Thread)?;
    let entered = runtime.enter();
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| unusable(&error))?;
    let channel = endpoint.connect_timeout(CONNECT).timeout(ANSWER).connect_lazy();
    // Not tried again: what comes next is worth more than what did not get through.
    let exporter =
        SpanExporter::builder().with_tonic().with_channel(channel).with_retry_policy(RetryPolicy::disabled());
    let exporter = Told::new(exporter.build().map_err(|error| unusable(&error))?);
    drop(entered);
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(EVERY);
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
        .with_resource(resource(source))
        .build();
    let spans = layer(&provider);
    Ok((Pipeline { provider, runtime: Some(runtime) }, spans))
}

/// Takes the spans of our target and nothing else: neither log lines nor what libraries trace.
fn layer(provider: &SdkTracerProvider) -> Spans {
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("flareshift"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
        .boxed()
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // One that fails has said so itself, as any other batch.
        let _ = self.provider.shutdown_with_timeout(LAST);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An exporter that tells once when nobody takes its spans, and once when somebody does again.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    away: AtomicBool,
    /// Spans that were not taken since.
    lost: AtomicU64,
}

impl<E> Told<E> {
    fn new(exporter: E) -> Self {
        Self { exporter, away: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    fn note(&self, spans: usize, outcome: &OTelSdkResult) {
        match outcome {
            Err(error) => {
                self.lost.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "traces are not taken, they are dropped until somebody takes them");
                }
            }
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                tracing::info!(lost, "traces are taken again");
            }
            Ok(()) => {}
        }
    }
}

impl<E: Export> Export for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.note(spans, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Headers as what a trace's place is read from and written to.
struct Carrier<H>(H);

impl Extractor for Carrier<&HeaderMap> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for Carrier<HeaderMap> {
    fn set(&mut self, key: &str, value: String) {
        // What the propagator writes is ASCII.
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

pub(super) fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    let context = TraceContextPropagator::new().extract(&Carrier(headers));
    // A span that nobody takes belongs to no trace.
    let _ = span.set_parent(context);
}

pub(super) fn carried(span: &Span) -> HeaderMap {
    let mut headers = Carrier(HeaderMap::new());
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    }
    headers.0
}

#[cfg(test)]
mod tests;
