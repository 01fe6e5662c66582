//! Spans to the endpoint: OTLP over gRPC, in batches, on a thread of the SDK's.
//!
//! Nothing of it is taken from the environment's `OTEL_…` variables, which whoever runs the cluster may have set for all pods:
//! what the SDK would read there is set here, each by itself.
//!
//! **Invariant:** no request waits for the endpoint, nothing is kept beyond the queue's size, and no export is traced by whoever
//! receives it and follows its parent.

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

/// Spans that wait to be exported; what is over is dropped.
const QUEUE_SPANS: usize = 4096;
/// Spans in one export.
const EXPORT_SPANS: usize = 512;
/// The longest that a span waits for others.
const INTERVAL: Duration = Duration::from_secs(1);
/// For a connection, and for an export with its retries.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a stop leaves for the last spans.
const FLUSH: Duration = Duration::from_secs(2);

/// Own traces, while they are on.
pub struct OwnTraces {
    provider: SdkTracerProvider,
    headers: ExportHeaders,
}

/// The headers of exports; they may be replaced while the service runs. Clones share them.
#[derive(Clone)]
pub struct ExportHeaders(Arc<RwLock<MetadataMap>>);

impl ExportHeaders {
    /// Sends these from the next export on.
    ///
    /// # Errors
    /// A sentence, if a text is no header.
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
    /// Starts the export; to be called once, on the runtime. Connects to nothing yet.
    ///
    /// # Errors
    /// When the endpoint or a header is none; a sentence.
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
            // A span is only made where the decision was taken already.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_limits(limits())
            .with_resource(resource(&options.instance))
            .build();
        if SAMPLING.set(Sampling::new(options.sample_ratio)).is_err() {
            return Err("own traces were started before".to_owned());
        }
        Ok(Self { provider, headers })
    }

    /// The headers of its exports.
    #[must_use]
    pub fn headers(&self) -> ExportHeaders {
        self.headers.clone()
    }

    /// What makes OpenTelemetry's spans of those of our target.
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

    /// Exports what waits, in bounded time.
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
    let wrong = |error| format!("own traces cannot go to {endpoint}: {error}");
    let mut to = Endpoint::from_shared(endpoint.to_owned())
        .and_then(|to| to.user_agent(concat!("ruvvector-service/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https://") {
        to = to
            .tls_config(ClientTlsConfig::new().with_native_roots())
            .map_err(|error| match error.source() {
                // The certificates' own words; tonic's are "transport error".
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
            .map_err(|_| format!("own traces cannot have that value of the header {name}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Sets all of an export's headers, in place of those that the SDK takes from the environment; among them a `traceparent` that
/// is not sampled.
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

/// Never zero, which no id may be.
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

/// The SDK's batches, behind a count of what waits in them: it does not tell what it drops.
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

/// The SDK's exporter, on our runtime and with a deadline, its outcomes counted and said.
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
                "own traces are lost, as their endpoint does not take them by OTLP over gRPC: {error}"
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
