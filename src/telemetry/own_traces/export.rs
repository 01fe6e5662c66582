//! The export of spans: OTLP over gRPC, in batches, on a thread of the SDK.
//!
//! The `OTEL_…` variables of the environment are ignored, as a cluster may set them for all pods: every value that the
//! SDK would read from them is set here.
//!
//! **Invariant:** no request waits for the endpoint, no more spans are kept than fit into the queue, and a receiver
//! that respects the parent's sampling does not trace an export.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanLimits,
    SpanProcessor,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::VERSION;
use crate::telemetry::log_limit::OncePerMinute;
use crate::telemetry::metrics::OWN_SPANS_TOTAL;
use crate::telemetry::own_traces::{Options, SAMPLING, Sampling, TARGET, links};

/// Maximum number of spans that wait for their export; further ones are dropped.
const QUEUE_SPANS: usize = 4096;
/// Maximum number of spans in one export.
const EXPORT_SPANS: usize = 512;
/// Longest time that a span waits for others.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for connecting to the endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time for an export with its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for exporting the last spans at a stop.
const FLUSH: Duration = Duration::from_secs(2);

/// Own traces, while they are on.
pub struct OwnTraces {
    provider: SdkTracerProvider,
    headers: ExportHeaders,
}

/// The headers of exports, which may be replaced while the service runs. Clones share them.
#[derive(Clone)]
pub struct ExportHeaders(Arc<RwLock<MetadataMap>>);

impl ExportHeaders {
    /// Replaces the headers, from the next export on.
    ///
    /// # Errors
    /// A sentence, if a name or a value is not valid in a header.
    pub fn replace(&self, list: &[(String, SecretString)]) -> Result<(), String> {
        let list = headers(list)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }

    fn get(&self) -> MetadataMap {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl OwnTraces {
    /// Starts the export, without connecting yet. Must be called on the runtime, once.
    ///
    /// # Errors
    /// A sentence, if the endpoint or a header is invalid, or own traces were started before.
    pub fn start(options: &Options) -> Result<Self, String> {
        let headers = ExportHeaders(Arc::new(RwLock::new(headers(&options.headers)?)));
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel(&options.endpoint)?)
            .with_timeout(EXPORT_TIMEOUT)
            .with_compression(Compression::Gzip)
            .with_interceptor(unsampled(headers.clone()))
            .build()
            .map_err(|error| format!("own traces cannot be exported: {error}"))?;
        let queued = Arc::new(AtomicUsize::new(0));
        let exporter = QueueExporter {
            otlp: Arc::new(exporter),
            endpoint: options.endpoint.clone(),
            runtime: Handle::current(),
            queued: Arc::clone(&queued),
            failure: OncePerMinute::default(),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(EXPORT_SPANS)
            .with_scheduled_delay(INTERVAL)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(SpanQueue {
                batches: BatchSpanProcessor::builder(exporter)
                    .with_batch_config(batches)
                    .build(),
                queued,
            })
            // Spans are only made for sampled requests, so the decision is already made.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_limits(limits())
            .with_resource(resource(&options.instance))
            .build();
        if SAMPLING.set(Sampling::new(options.sample_ratio)).is_err() {
            return Err("own traces were started before".to_owned());
        }
        Ok(Self { provider, headers })
    }

    /// Returns the headers of the exports.
    #[must_use]
    pub fn headers(&self) -> ExportHeaders {
        self.headers.clone()
    }

    /// Returns the layer that converts the spans of our target to OpenTelemetry's.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let scope = InstrumentationScope::builder("ruvvector-service")
            .with_version(VERSION)
            .build();
        let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer_with_scope(scope))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
    }

    /// Exports the waiting spans, within 2 s.
    pub async fn stop(self) {
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH));
        if !matches!(flushed.await, Ok(Ok(()))) {
            tracing::warn!(
                "the last own traces were not exported within {} s",
                FLUSH.as_secs()
            );
        }
    }
}

fn channel(endpoint: &str) -> Result<Channel, String> {
    let wrong = |error| format!("own traces cannot be exported to {endpoint}: {error}");
    let mut to = Endpoint::from_shared(endpoint.to_owned())
        .and_then(|to| to.user_agent(concat!("ruvvector-service/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https://") {
        to = to
            .tls_config(ClientTlsConfig::new().with_native_roots())
            .map_err(|error| match error.source() {
                // The cause names the problem with the certificates; tonic's text is only "transport error".
                Some(cause) => wrong(cause.to_string()),
                None => wrong(error.to_string()),
            })?;
    }
    Ok(to.connect_lazy())
}

fn headers(list: &[(String, SecretString)]) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for (name, value) in list {
        let name = AsciiMetadataKey::from_bytes(name.as_bytes())
            .map_err(|_| format!("own traces cannot have a header {name:?}"))?;
        let value = AsciiMetadataValue::try_from(value.expose_secret())
            .map_err(|_| format!("own traces cannot have a header {name} with this value"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Sets all headers of an export, instead of those that the SDK reads from the environment. One of them is a
/// `traceparent` that is not sampled.
fn unsampled(
    headers: ExportHeaders,
) -> impl FnMut(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Clone + Send + Sync
{
    move |mut request| {
        let trace = u128::from(random()) << 64 | u128::from(random());
        let parent = format!("00-{trace:032x}-{:016x}-00", random());
        let parent = AsciiMetadataValue::try_from(parent).expect("hex digits are a header's value");
        *request.metadata_mut() = headers.get();
        request.metadata_mut().insert("traceparent", parent);
        Ok(request)
    }
}

/// Returns a random number other than zero, which is not a valid id.
fn random() -> u64 {
    getrandom::u64().unwrap_or(1).max(1)
}

fn limits() -> SpanLimits {
    SpanLimits {
        max_events_per_span: 8,
        max_attributes_per_span: 32,
        max_links_per_span: u32::try_from(links::LINKS_MAX).unwrap_or(u32::MAX),
        max_attributes_per_event: 8,
        max_attributes_per_link: 8,
    }
}

fn resource(instance: &str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "ruvvector-service"),
            KeyValue::new("service.version", VERSION),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("telemetry.sdk.name", "opentelemetry"),
            KeyValue::new("telemetry.sdk.language", "rust"),
        ])
        .build()
}

/// The SDK's batch processor, with a count of the spans that wait in it: the SDK does not report the spans that it
/// drops.
#[derive(Debug)]
struct SpanQueue {
    batches: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queued.fetch_add(1, Ordering::AcqRel) < QUEUE_SPANS {
            self.batches.on_end(span);
        } else {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!(OWN_SPANS_TOTAL, "outcome" => "dropped").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The SDK's exporter, run on our runtime with a deadline; outcomes are counted and failures logged.
#[derive(Debug)]
struct QueueExporter {
    otlp: Arc<SpanExporter>,
    endpoint: String,
    runtime: Handle,
    queued: Arc<AtomicUsize>,
    failure: OncePerMinute,
}

impl opentelemetry_sdk::trace::SpanExporter for QueueExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queued.fetch_sub(spans, Ordering::AcqRel);
        let otlp = Arc::clone(&self.otlp);
        let exporting = self.runtime.spawn(async move {
            let exported = opentelemetry_sdk::trace::SpanExporter::export(&*otlp, batch);
            tokio::time::timeout(EXPORT_TIMEOUT, exported).await
        });
        let result = match exporting.await {
            Ok(Ok(result)) => result,
            Ok(Err(_late)) => Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)),
            Err(_stopping) => Err(OTelSdkError::AlreadyShutdown),
        };
        let outcome = match &result {
            Ok(()) => "exported",
            Err(_) => "failed",
        };
        metrics::counter!(OWN_SPANS_TOTAL, "outcome" => outcome).increment(spans as u64);
        if let Err(error) = &result
            && self.failure.ready()
        {
            tracing::warn!(
                endpoint = self.endpoint,
                spans,
                "own traces are lost, as their endpoint does not accept them by OTLP over gRPC: {error}"
            );
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(otlp) = Arc::get_mut(&mut self.otlp) {
            opentelemetry_sdk::trace::SpanExporter::set_resource(otlp, resource);
        }
    }
}
