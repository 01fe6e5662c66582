//! Traces of the service's own work, sent over OTLP as any other service's are.
//!
//! Spans are `tracing`'s, of a target of their own, made by [`spans`] and by the request's guard alone; `tracing-opentelemetry`
//! turns them into OpenTelemetry's. Whether a request is traced is decided once, by its head; what is done for it then asks
//! the current context.
//!
//! **Invariant:** nothing is traced on behalf of an export of own traces: exports say that they are not sampled, and a batch
//! is traced only for a sampled request whose record it holds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use opentelemetry::Context;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use secrecy::SecretString;
use tracing::{Instrument, Span};

/// W3C trace context of callers.
pub mod caller;

/// Spans to the endpoint.
mod export;

/// Which requests a batch holds records of.
pub mod links;

/// The spans: names, kinds, attributes.
pub mod spans;

pub use export::{ExportHeaders, OwnTraces};

/// Settings of own traces.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port` or `https://host:port`, OTLP over gRPC.
    pub endpoint: String,
    /// Of the requests whose callers say nothing, 0 to 1.
    pub sample_ratio: f64,
    /// Sent with each export: names in lower case, none that the protocol needs itself.
    pub headers: Vec<(String, SecretString)>,
    /// `service.instance.id`.
    pub instance: String,
}

/// The target of the spans; no log line has it.
pub const TARGET: &str = "ruvvector_service::own_traces";

/// Set once, when own traces are started.
static SAMPLING: OnceLock<Sampling> = OnceLock::new();

/// Which requests are traced when their callers say nothing.
struct Sampling {
    /// Of 2^64 draws, so many are.
    threshold: u64,
    /// The sequence of draws (splitmix64).
    state: AtomicU64,
}

impl Sampling {
    fn new(ratio: f64) -> Self {
        // 1 - 2^-64 is as good as 1; the cast saturates.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a ratio from 0 to 1; a share of the range of u64"
        )]
        let threshold = (ratio * 2.0_f64.powi(64)) as u64;
        Self {
            threshold,
            // Without randomness two instances draw alike, which does no harm.
            state: AtomicU64::new(getrandom::u64().unwrap_or_default()),
        }
    }

    fn draw(&self) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) < self.threshold
    }
}

/// Whether own traces are on at all.
#[must_use]
pub(crate) fn is_on() -> bool {
    SAMPLING.get().is_some()
}

/// Whether a request is to be traced whose caller says nothing of it.
pub(crate) fn draw() -> bool {
    SAMPLING.get().is_some_and(Sampling::draw)
}

/// Whether what runs now is part of a trace that is recorded here.
#[must_use]
pub(crate) fn is_sampled() -> bool {
    is_on() && Context::map_current(|context| context.span().span_context().is_sampled())
}

/// The trace and the span that what runs now belongs to: our own, or, where it is not traced, its caller's.
#[must_use]
pub fn current_ids() -> Option<(TraceId, SpanId)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id(), ids.span_id()))
    })
}

/// What a span says of a step that went well.
pub(crate) trait SpanAttributes {
    fn record(&self, _span: &Span) {}
}

impl SpanAttributes for () {}

/// What a span says of a step that did not.
pub(crate) trait SpanError {
    /// `error.type`, of a closed set; `None` when the fault is the client's, and the step did what it should.
    fn error_type(&self) -> Option<&'static str>;
}

/// A step within its span, which ends with it; as it is where nothing is traced.
pub(crate) fn traced<T: SpanAttributes, E: SpanError>(
    span: Span,
    step: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    // No async block: it would hold the step twice.
    step.instrument(span.clone()).map(move |result| {
        if !span.is_disabled() {
            match &result {
                Ok(value) => value.record(&span),
                Err(error) => {
                    if let Some(fault) = error.error_type() {
                        spans::fail(&span, fault);
                    }
                }
            }
        }
        result
    })
}

/// Keeps what runs on a task of its own in the trace of who began it, for its log lines' sake.
pub(crate) async fn in_context<T>(context: Option<Context>, work: impl Future<Output = T>) -> T {
    match context {
        Some(context) => work.with_context(context).await,
        None => work.await,
    }
}

/// As [`carried`], on a thread.
pub(crate) fn in_current_context<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = current_context();
    move || {
        let _within = context.map(Context::attach);
        work()
    }
}

/// The context to carry, if there is a trace.
pub(crate) fn current_context() -> Option<Context> {
    Context::map_current(|context| context.has_active_span().then(|| context.clone()))
}

#[cfg(test)]
mod tests {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};

    use super::{Sampling, current_context, current_ids, in_context, in_current_context};

    #[tokio::test]
    async fn what_runs_on_another_task_or_thread_knows_whose_request_it_is_for() {
        let (trace, span) = (1.into(), 2.into());
        let caller = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::NONE);
        let (task, thread) = {
            let _within = Context::new().with_remote_span_context(caller).attach();
            let task = in_context(current_context(), async { current_ids() });
            (task, in_current_context(current_ids))
        };
        assert_eq!(current_ids(), None);
        assert_eq!(tokio::spawn(task).await.unwrap(), Some((trace, span)));
        let on_thread = tokio::task::spawn_blocking(thread).await.unwrap();
        assert_eq!(on_thread, Some((trace, span)));
        assert_eq!(
            tokio::spawn(in_context(current_context(), async { current_ids() }))
                .await
                .unwrap(),
            None
        );
    }

    #[test]
    fn as_many_are_drawn_as_the_ratio_says() {
        for (ratio, least, most) in [
            (0.0, 0, 0),
            (1.0, 100_000, 100_000),
            (0.01, 800, 1_200),
            (0.5, 49_000, 51_000),
        ] {
            let sampling = Sampling::new(ratio);
            let drawn = (0..100_000).filter(|_| sampling.draw()).count();
            assert!((least..=most).contains(&drawn), "{ratio}: {drawn}");
        }
    }
}
